"""Files by digest: taken in once, whole, checked, and never changed afterwards.

A blob appears under its digest in one rename, after its bytes and its checks are complete and on disk; a
death, a full disk or a second adder at any point leaves either the whole blob or none.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
from typing import TYPE_CHECKING, Final

from allod.domain.errors import Integrity, Invalid, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CHUNK_BYTES: Final = 1024 * 1024
_INCOMING: Final = ".incoming-"


def open_regular(path: str | Path, what: str) -> int:
    """Open a regular file for reading, never a link, pipe or device; the caller closes the descriptor.

    Raises:
        Invalid: absent, unreadable, or not a regular file.

    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags)
    except OSError as error:
        reason = "it is a symbolic link" if error.errno == errno.ELOOP else os.strerror(error.errno or 0)
        raise Invalid(f"{what} cannot be opened", reason, "give the path of a regular file") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Invalid(f"{what} is not a regular file", "pipes, devices and folders are not read")
    return fd


def identity(fd: int) -> tuple[int, int, int, int, int]:
    """Say which file this is and in what state: device, inode, size and both change times."""
    state = os.fstat(fd)
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def digest_of(fd: int, progress: Callable[[int], None] | None = None) -> str:
    """Digest the file behind a descriptor from its first byte; the descriptor's position does not move."""
    hasher, at = hashlib.sha256(), 0
    while chunk := os.pread(fd, CHUNK_BYTES, at):
        hasher.update(chunk)
        at += len(chunk)
        if progress is not None:
            progress(len(chunk))
    return "sha256:" + hasher.hexdigest()


def make_private(folder: Path, root: Path) -> None:
    """Make a folder under ``root``, and every missing one up to it, readable by its owner only."""
    if folder != root:
        make_private(folder.parent, root)
    folder.mkdir(parents=folder == root, exist_ok=True, mode=0o700)


def sync_folder(folder: Path) -> None:
    """Make a rename or link in this folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Turn a full or failing disk into ``Unavailable`` (``storage``)."""
    try:
        yield
    except OSError as error:
        raise Unavailable(
            what,
            os.strerror(error.errno or 0),
            "free some space, or check the permissions and the health of the disk",
            kind="storage",
        ) from error


class Blobs:
    """The folder ``blobs/sha256`` of a vault at ``root``."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self._root = folder, root

    def path(self, digest: str) -> Path:
        """Return where a ``sha256:`` digest lies, whether or not it is there."""
        return self.folder / digest.removeprefix("sha256:")

    def take(
        self,
        fd: int,
        check: Callable[[int, str], None],
        progress: Callable[[int], None] | None = None,
    ) -> tuple[str, int]:
        """Copy a descriptor's file in, checking the copy; return digest and size in bytes.

        ``check`` is called with the descriptor and digest of the finished copy: what it sees is what is kept.

        Raises:
            Integrity: the file changed while it was read.
            Unavailable: the disk is full or failing; nothing is left behind.

        """
        temporary = self.folder / f"{_INCOMING}{secrets.token_hex(8)}"
        with storage_errors("the model could not be stored"):
            make_private(self.folder, self._root)
            self.sweep()
            out = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with storage_errors("the model could not be stored"):
                fcntl.flock(out, fcntl.LOCK_EX)
                digest, size = self._copy(fd, out, progress)
            check(out, digest)
            with storage_errors("the model could not be stored"):
                os.fchmod(out, 0o444)
                os.fsync(out)
                temporary.rename(self.path(digest))
                sync_folder(self.folder)
        finally:
            temporary.unlink(missing_ok=True)
            os.close(out)
        return digest, size

    def _copy(self, fd: int, out: int, progress: Callable[[int], None] | None) -> tuple[str, int]:
        before, hasher, at = identity(fd), hashlib.sha256(), 0
        while chunk := os.pread(fd, CHUNK_BYTES, at):
            view = memoryview(chunk)
            while view:
                view = view[os.write(out, view) :]
            hasher.update(chunk)
            at += len(chunk)
            if at > before[2]:
                break
            if progress is not None:
                progress(len(chunk))
        if identity(fd) != before or at != before[2]:
            raise Integrity(
                "the file changed while it was read",
                f"{before[2]} bytes at first, {at} read",
                "wait until nothing writes it any more, then add it again",
            )
        return "sha256:" + hasher.hexdigest(), at

    def sweep(self) -> None:
        """Remove what a killed adder left; one at work holds a lock on its file."""
        for path in self.folder.glob(_INCOMING + "*"):
            with contextlib.suppress(OSError, Invalid):
                fd = open_regular(path, "a leftover")
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink(missing_ok=True)
                finally:
                    os.close(fd)
