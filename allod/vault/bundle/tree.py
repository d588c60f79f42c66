"""The files of a bundle, in a folder or in a tar: which there are, and each as bytes in constant memory.

Only names that a bundle can have are taken, and only regular files: a tree that holds anything else is
refused before a byte of it is read. No link is followed, at any level.
"""

from __future__ import annotations

import io
import os
import re
import stat
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from allod.domain.errors import Integrity, Invalid
from allod.vault.bundle import names
from allod.vault.bundle.form import MAX_ITEMS, MAX_PARTS

if TYPE_CHECKING:
    from pathlib import Path

MAX_FILES: Final = MAX_PARTS + 2 * MAX_ITEMS + 1_024
CHUNK_BYTES: Final = 1024 * 1024
_PLACE: Final = re.compile(
    r"bundle\.json|bundle\.dsse\.json|oci-layout|index\.json|blobs/sha256/[0-9a-f]{64}"
    r"|tuf/(?:[1-9][0-9]{0,4}\.root|timestamp|snapshot|targets)\.json"
    r"|proof/(?:checkpoint\.txt|inclusion\.tlog-proof|leaf\.json)"
)
FOLDERS: Final = frozenset({"blobs", "blobs/sha256", "tuf", "proof"})


class Tree(Protocol):
    """Files by path."""

    sizes: dict[str, int]
    """Path -> size in bytes, as the file system or the tar says."""

    def open(self, path: str) -> Window:
        """Open a file of the tree."""

    def close(self) -> None:
        """Close what is open."""


class Window(io.RawIOBase):
    """A part of a descriptor, read without moving it: a file in a tar, or a whole one."""

    def __init__(self, fd: int, start: int, size: int) -> None:
        """Take over ``fd``, which ``close`` closes."""
        super().__init__()
        self._fd, self._start, self._at, self.size = fd, start, 0, size

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        """Read what is there, at most until the end of the window."""
        view = memoryview(buffer).cast("B")
        room = min(len(view), max(0, self.size - self._at))
        if room == 0:
            return 0
        done = os.preadv(self._fd, [view[:room]], self._start + self._at)
        self._at += done
        return done

    def close(self) -> None:
        """Close the descriptor."""
        if not self.closed:
            os.close(self._fd)
        super().close()


def place(path: str) -> str:
    """Return a path that a file of a bundle can have (raises ``Integrity``)."""
    names.check_path(path)
    if not _PLACE.fullmatch(path):
        raise Integrity(
            f"{path[:200]!r} has no place in a bundle",
            "a bundle holds bundle.json, bundle.dsse.json, an OCI layout, tuf/ and proof/ and nothing else",
            "get the bundle again from its publisher",
        )
    return path


class Folder:
    """A bundle as a folder."""

    def __init__(self, path: Path) -> None:
        """List it.

        Raises:
            Invalid: there is no such folder. Integrity: something in it has no place in a bundle.

        """
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise Invalid(
                f"{path} cannot be opened", os.strerror(error.errno or 0), "name a bundle"
            ) from error
        self.sizes: dict[str, int] = {}
        try:
            self._list(self._fd, "")
        except BaseException:
            os.close(self._fd)
            raise

    def _list(self, fd: int, prefix: str) -> None:
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    self._take(fd, prefix + os.fsencode(entry.name).decode("utf-8", "surrogateescape"))
        except OSError as error:
            raise Integrity(
                "the bundle cannot be read", f"{prefix or 'its folder'}: {os.strerror(error.errno or 0)}"
            ) from error

    def _take(self, fd: int, path: str) -> None:
        name = path.rpartition("/")[2]
        state = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISDIR(state.st_mode) and path in FOLDERS:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            try:
                self._list(inner, path + "/")
            finally:
                os.close(inner)
            return
        if stat.S_ISDIR(state.st_mode):
            place(path)
        if not stat.S_ISREG(state.st_mode):
            not_regular(path, "a link, folder, pipe or device")
        self.sizes[place(path)] = state.st_size
        too_many(len(self.sizes))

    def open(self, path: str) -> Window:
        """Open a file of the folder; no part of its path may be a link.

        Raises:
            Integrity: it is not the regular file that was listed.

        """
        fd = self._fd
        try:
            for segment in path.split("/")[:-1]:
                inner = os.open(
                    segment, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd
                )
                if fd != self._fd:
                    os.close(fd)
                fd = inner
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            file = os.open(path.rpartition("/")[2], flags, dir_fd=fd)
        except OSError as error:
            raise Integrity(
                f"{path} cannot be opened", os.strerror(error.errno or 0), "carry it again"
            ) from error
        finally:
            if fd != self._fd:
                os.close(fd)
        state = os.fstat(file)
        if not stat.S_ISREG(state.st_mode) or state.st_size != self.sizes.get(path):
            os.close(file)
            raise Integrity(
                f"{path} changed while it was read", "it is not the file that was listed", "again"
            )
        return Window(file, 0, state.st_size)

    def close(self) -> None:
        """Close the folder; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def not_regular(path: str, what: str) -> NoReturn:
    """Refuse what is not a plain file (raises ``Integrity``)."""
    raise Integrity(
        f"{path[:200]!r} is not a regular file",
        f"it is {what}; a bundle holds plain files only",
        "get the bundle again from its publisher",
    )


def too_many(count: int) -> None:
    """Refuse more files than a bundle can have (raises ``Integrity``)."""
    if count > MAX_FILES:
        raise Integrity("this bundle holds too many files", f"allowed are {MAX_FILES}", "split it")


def read_small(tree: Tree, path: str, limit: int) -> bytes:
    """Return a small file whole.

    Raises:
        Integrity: absent, longer than ``limit`` bytes, or shorter than it was said to be.

    """
    size = tree.sizes.get(path)
    if size is None or size > limit:
        got = "it is not there" if size is None else f"it has {size} bytes, allowed are {limit}"
        raise Integrity(f"{path} of the bundle cannot be used", got, "get the bundle again")
    with tree.open(path) as window:
        raw = bytearray()
        while chunk := window.read(min(CHUNK_BYTES, size - len(raw))):
            raw += chunk
            if len(raw) == size:
                break
    if len(raw) != size:
        raise Integrity(
            f"{path} of the bundle is cut off", f"got {len(raw)} of {size} bytes", "carry it again"
        )
    return bytes(raw)
