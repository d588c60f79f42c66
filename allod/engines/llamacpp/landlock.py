"""Which files the child may see: Landlock, where the kernel has it.

The engine needs its program files, its weights and its socket folder; the keys and the log of the home are
none of its business. Landlock takes the rest away from an unprivileged process. A kernel without it is not an
error: the sandbox level does not count it, and the child reports whether it was in force.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_MAKE_SOCK: Final = 1 << 9
_RIGHTS_BY_ABI: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""All file rights the kernel can withhold, by interface version; the newest one it has is used."""
_NET_ABI, _SCOPE_ABI = 4, 6
_TCP: Final = 0b11
_SCOPES: Final = 0b11
_PROGRAM_FOLDERS: Final = ("/usr", "/lib", "/lib64", "/proc/self", "/sys/devices/system")
_PROGRAM_FILES: Final = ("/proc/cpuinfo", "/proc/meminfo", "/proc/stat")
_READ: Final = _EXECUTE | _READ_FILE | _READ_DIR


def _call(libc: ctypes.CDLL, number: int, *arguments: object) -> int:
    return int(libc.syscall(ctypes.c_long(number), *arguments))


def _program_folders() -> list[str]:
    """Return where the interpreter, this package and the engine's library lie."""
    own = Path(__file__).resolve().parents[2]
    found = {sys.prefix, sys.base_prefix, sys.exec_prefix, str(own), *_PROGRAM_FOLDERS}
    return sorted(folder for folder in found if Path(folder).is_dir())


def _rule(libc: ctypes.CDLL, ruleset: int, target: int, rights: int) -> bool:
    rule = struct.pack("=QI", rights, target)
    return (
        _call(libc, _ADD, ctypes.c_long(ruleset), ctypes.c_long(_PATH_BENEATH), rule, ctypes.c_long(0)) == 0
    )


def _ruleset(libc: ctypes.CDLL, abi: int) -> tuple[int, int]:
    """Create a ruleset that withholds all this kernel can; return its descriptor and the file rights."""
    files = _RIGHTS_BY_ABI[max(version for version in _RIGHTS_BY_ABI if version <= abi)]
    attributes = struct.pack("=Q", files)
    if abi >= _NET_ABI:
        attributes += struct.pack("=Q", _TCP)
    if abi >= _SCOPE_ABI:
        attributes += struct.pack("=Q", _SCOPES)
    size = ctypes.c_size_t(len(attributes))
    return _call(libc, _CREATE, attributes, size, ctypes.c_long(0)), files


def restrict(weights: Iterable[int], socket_folder: str) -> bool:
    """Leave this process its program folders, the given descriptors' files, and one folder for its socket.

    ``no_new_privs`` must be set. Returns whether the restriction is in force; it cannot be taken back.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    abi = _call(libc, _CREATE, None, ctypes.c_size_t(0), ctypes.c_long(_VERSION))
    if abi < 1:
        return False
    ruleset, files = _ruleset(libc, abi)
    if ruleset < 0:
        return False
    try:
        wanted = [(folder, _READ) for folder in _program_folders()]
        wanted.append((socket_folder, _MAKE_SOCK))
        done = True
        wanted += [(file, _READ_FILE) for file in _PROGRAM_FILES if Path(file).exists()]
        for path, rights in wanted:
            target = os.open(path, os.O_PATH | os.O_CLOEXEC)
            done &= _rule(libc, ruleset, target, rights & files)
            os.close(target)
        for fd in weights:
            _rule(libc, ruleset, fd, _READ_FILE)
        return done and _call(libc, _RESTRICT, ctypes.c_long(ruleset), ctypes.c_long(0)) == 0
    finally:
        os.close(ruleset)
