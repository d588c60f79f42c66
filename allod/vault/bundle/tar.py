"""A bundle as one tar: a strict reader of uncompressed POSIX ustar and pax, and a writer of the same.

Only what a bundle needs is read: regular files, folders, and pax records of size, path, owner and times.
Links, devices, sparse files, other formats' long names, global headers, duplicate names, anything behind the
end: all refused. Reading the list takes one header per file, whatever their sizes (POSIX.1-2024, pax
interchange format).
"""

from __future__ import annotations

import os
import tarfile
from typing import TYPE_CHECKING, Final, NoReturn

from allod.domain.errors import Integrity
from allod.vault.blobs import open_regular
from allod.vault.bundle.form import MAX_NUMBER
from allod.vault.bundle.tree import FOLDERS, MAX_FILES, Window, not_regular, place, too_many

if TYPE_CHECKING:
    from pathlib import Path

BLOCK: Final = 512
MAX_PAX_BYTES: Final = 64 * 1024
MAX_END_BYTES: Final = 1024 * 1024
_REGULAR, _FOLDER, _PAX = b"0", b"5", b"x"
_TYPES: Final = {
    b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe",
    b"7": "a contiguous file", b"S": "a sparse file", b"L": "a GNU long name", b"K": "a GNU long link",
    b"g": "a global header", b"D": "a dump folder", b"M": "a part of a file", b"V": "a volume label",
}  # fmt: skip
_RECORDS: Final = frozenset({"size", "path", "mtime", "atime", "ctime", "uid", "gid", "uname", "gname"})
_ZERO: Final = bytes(BLOCK)


class Tar:
    """A bundle as a tar; files are read in place."""

    def __init__(self, fd: int, end: int) -> None:
        """Read the list of a tar of ``end`` bytes; ``fd`` is taken over, and closed where this fails.

        Raises:
            Integrity: it is not a tar that a bundle can be.

        """
        self._fd, self._end = fd, end
        self.sizes: dict[str, int] = {}
        self._at: dict[str, int] = {}
        try:
            self._list()
        except BaseException:
            self.close()
            raise

    def _list(self) -> None:
        at, folders = 0, set[str]()
        pax: dict[str, str] | None = None
        for _ in range(4 * MAX_FILES):
            header = self._block(at)
            if header == _ZERO:
                if pax is not None:
                    _bad("a pax header that nothing follows")
                self._ends(at)
                return
            kind, size, name = _header(header)
            if kind == _PAX:
                if pax is not None:
                    _bad("two pax headers for one file")
                pax = _records(self._whole(at + BLOCK, size))
            else:
                size, name = _with_records(kind, size, name, pax)
                pax = None
                if kind == _FOLDER:
                    _folder(name, folders)
                else:
                    self._file(name, size, at + BLOCK)
            at = self._next(at + BLOCK, size)
        _bad("too many headers")

    def _file(self, name: str, size: int, at: int) -> None:
        path = place(name)
        if path in self.sizes:
            _bad(f"{path} is there twice")
        self.sizes[path], self._at[path] = size, at
        too_many(len(self.sizes))

    def _next(self, at: int, size: int) -> int:
        """Return where the next header is; what fills the last block must be zero."""
        end = at + size
        after = end + -size % BLOCK
        if after > self._end:
            _bad(f"a file of {size} bytes in a tar that ends after {self._end}")
        if any(os.pread(self._fd, after - end, end)):
            _bad("bytes between two files")
        return after

    def _block(self, at: int) -> bytes:
        block = os.pread(self._fd, BLOCK, at)
        if len(block) != BLOCK:
            _bad("it is cut off: two empty blocks are missing at its end")
        return block

    def _whole(self, at: int, size: int) -> bytes:
        if size > MAX_PAX_BYTES:
            _bad(f"a pax header of {size} bytes")
        return os.pread(self._fd, size, at)

    def _ends(self, at: int) -> None:
        left = self._end - at
        if left < 2 * BLOCK or left > MAX_END_BYTES:
            _bad(f"{left} bytes at its end, expected 2 empty blocks to {MAX_END_BYTES} bytes")
        if any(os.pread(self._fd, left, at)):
            _bad("bytes behind its end")

    def open(self, path: str) -> Window:
        """Open a file of the tar."""
        return Window(os.dup(self._fd), self._at[path], self.sizes[path])

    def close(self) -> None:
        """Close the tar; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_tar(path: Path) -> Tar:
    """Open a tar and read its list.

    Raises:
        Invalid: no such regular file. Integrity: it is not a tar that a bundle can be.

    """
    fd = open_regular(path, str(path))
    return Tar(fd, os.fstat(fd).st_size)


def _header(block: bytes) -> tuple[bytes, int, str]:
    """Return type, size and name of a header whose checksum and format hold."""
    if block[257:265] != b"ustar\x0000":
        _bad("a header that is not POSIX ustar (write it with --format=pax)")
    if _octal(block[148:156], "a checksum") != sum(block[:148]) + 8 * 32 + sum(block[156:]):
        _bad("a header with a false checksum")
    kind = block[156:157]
    name = _text(block[:100], "a name")
    prefix = _text(block[345:500], "a prefix")
    if kind not in {_REGULAR, _FOLDER, _PAX}:
        not_regular(name, _TYPES.get(kind, f"of the type {kind!r}"))
    if any(block[157:257]):
        not_regular(name, "one that names a link")
    size = _octal(block[124:136], "a size")
    return kind, size, f"{prefix}/{name}" if prefix else name


def _octal(field: bytes, what: str) -> int:
    digits = field.rstrip(b"\0 ")
    if not digits or digits.strip(b"01234567"):
        _bad(f"{what} that is no octal number")
    return int(digits, 8)


def _text(field: bytes, what: str) -> str:
    text, _, rest = field.partition(b"\0")
    if any(rest):
        _bad(f"{what} with bytes behind its NUL")
    try:
        return text.decode()
    except UnicodeDecodeError:
        _bad(f"{what} that is not UTF-8")


def _records(raw: bytes) -> dict[str, str]:
    """Read pax records: lines of ``LENGTH KEY=VALUE``, each key once, only those that a bundle needs."""
    out: dict[str, str] = {}
    while raw:
        length, space, _ = raw[:8].partition(b" ")
        if not space or not length.isdigit() or length.startswith(b"0") or int(length) > len(raw):
            _bad("a pax record without its length")
        record, raw = raw[len(length) + 1 : int(length)], raw[int(length) :]
        try:
            key, equals, value = record.decode().partition("=")
        except UnicodeDecodeError:
            _bad("a pax record that is not UTF-8")
        if not equals or not value.endswith("\n") or key in out:
            _bad(f"a pax record {key[:40]!r} twice or without its end")
        if key.startswith("GNU.sparse"):
            not_regular(key, "a sparse file")
        if key not in _RECORDS:
            _bad(f"a pax record {key[:40]!r}")
        out[key] = value[:-1]
    return out


def _with_records(kind: bytes, size: int, name: str, pax: dict[str, str] | None) -> tuple[int, str]:
    if pax is not None and "size" in pax:
        text = pax["size"]
        if not text.isascii() or not text.isdigit() or len(text) > 16 or int(text) > MAX_NUMBER:  # noqa: PLR2004
            _bad(f"the size {text[:40]!r}")
        size = int(text)
    if pax is not None and "path" in pax:
        name = pax["path"]
    if kind == _FOLDER and size:
        _bad("a folder with content")
    return size, name.removeprefix("./")


def _folder(name: str, seen: set[str]) -> None:
    path = name.removesuffix("/")
    if path in seen:
        _bad(f"the folder {path[:80]!r} is there twice")
    seen.add(path)
    if path not in FOLDERS and path not in {"", "."}:
        place(path)
        not_regular(path, "a folder")


def _bad(why: str) -> NoReturn:
    raise Integrity("this tar cannot be a bundle", f"got {why}", "get the bundle again from its publisher")


def header(path: str, size: int, mtime_s: int) -> bytes:
    """Write the header of a regular file, with a pax record where its size needs one."""
    info = tarfile.TarInfo(path)
    info.size, info.mtime, info.mode = size, mtime_s, 0o644
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def padding(size: int) -> bytes:
    """Return what fills the last block of a file."""
    return bytes(-size % BLOCK)


END: Final = bytes(2 * BLOCK)
