"""Taking the front of a file off the disk while it keeps its length: a hole where one can be, else zeros.

A hole (Linux ``fallocate(2)``, FALLOC_FL_PUNCH_HOLE with KEEP_SIZE) reads as zeros and takes no room. Where
the file system has none, zeros are written: the content is gone, the room is not won back.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

KEEP_SIZE: Final = 0x01
PUNCH_HOLE: Final = 0x02
CHUNK_BYTES: Final = 1 << 20


def empty(fd: int, length: int) -> bool:
    """Make the first ``length`` bytes of a file zeros; True if they take no room any more.

    Raises:
        OSError: the file cannot be written.

    """
    if length <= 0:
        return True
    if _punched(fd, length):
        return True
    zeros = bytes(CHUNK_BYTES)
    at = 0
    while at < length:
        at += os.pwrite(fd, zeros[: length - at], at)
    return False


def _punched(fd: int, length: int) -> bool:
    try:
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError):
        return False
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return int(fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 0, length)) == 0
