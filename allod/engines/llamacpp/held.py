"""Files held still: what was hashed is what is loaded, and stays so while it is served (I5).

A descriptor alone is not enough: whoever may write the file can change it in place after the hash. So the
child takes a read lease first. The kernel grants it only while nobody has the file open for writing, and ends
this process with SIGIO when somebody tries to. Where no lease is to be had (a file of another user, a network
file system) the bytes are copied, while they are hashed, into sealed memory that nothing can change.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from typing import Literal

import msgspec

from allod.vault.blobs import CHUNK_BYTES, digest_of

Hold = Literal["lease", "sealed-copy"]


class Held(msgspec.Struct, frozen=True):
    """A descriptor whose bytes cannot change any more, and their ``sha256:`` digest."""

    fd: int
    digest: str
    hold: Hold

    @property
    def path(self) -> str:
        """A path that opens this very file, whatever its name stands for by now."""
        return f"/proc/self/fd/{self.fd}"


def hold(fd: int, *, lease: bool = True) -> Held:
    """Hold the file behind a read-only descriptor still and digest it.

    Raises:
        OSError: the file cannot be read, or there is no memory for a copy.

    """
    if lease:
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError:
            pass
        else:
            return Held(fd, digest_of(fd), "lease")
    return _sealed(fd)


def _sealed(fd: int) -> Held:
    copy = os.memfd_create("weights", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    hasher, at = hashlib.sha256(), 0
    while chunk := os.pread(fd, CHUNK_BYTES, at):
        hasher.update(chunk)
        at += len(chunk)
        view = memoryview(chunk)
        while view:
            view = view[os.write(copy, view) :]
    fcntl.fcntl(
        copy,
        fcntl.F_ADD_SEALS,
        fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL,
    )
    os.close(fd)
    return Held(copy, "sha256:" + hasher.hexdigest(), "sealed-copy")
