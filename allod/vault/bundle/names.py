"""Names that are safe on every file system, and distinct on every file system.

A path is relative, POSIX, NFC, and means the same wherever it is written: no ``..``, no backslash, no colon,
no control or invisible character, no trailing dot or space, no name that Windows keeps for a device. Two
paths that a file system without case, or one that normalises Unicode, would take for one are refused
together.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final, NoReturn

from allod.domain.errors import Integrity

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_PATH_BYTES: Final = 512
MAX_SEGMENT_BYTES: Final = 200
MAX_DEPTH: Final = 8
_FORBIDDEN: Final = frozenset('<>:"|?*\\')
_DEVICE: Final = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|clock\$|(com|lpt)[0-9¹²³])", re.IGNORECASE)
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}[a-z0-9]|[a-z0-9]")
_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,127}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


def is_name(text: str) -> bool:
    """Tell whether this may name a channel or an item: 1 to 64 of ``a-z 0-9 . _ -``, no device."""
    plain = _NAME.fullmatch(text) is not None and ".." not in text
    return plain and not _DEVICE.fullmatch(text.split(".", 1)[0])


def is_version(text: str) -> bool:
    """Tell whether this may be an item's version."""
    return _VERSION.fullmatch(text) is not None and ".." not in text


def is_digest(text: str) -> bool:
    """Tell whether this is ``sha256:`` and 64 lower-case hex digits; no other algorithm is known here."""
    return _DIGEST.fullmatch(text) is not None


def check_path(path: str) -> str:
    """Return a path that is safe and means one thing everywhere.

    Raises:
        Integrity: it is absolute, leads elsewhere, or some system reads it as another name.

    """
    if unicodedata.normalize("NFC", path) != path:
        _bad(path, "it is not in Unicode normal form C")
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        _bad(path, "it is not valid Unicode")
    if not 0 < len(encoded) <= MAX_PATH_BYTES:
        _bad(path, f"it has {len(encoded)} bytes, allowed are 1 to {MAX_PATH_BYTES}")
    if path.startswith("/"):
        _bad(path, "it is absolute")
    segments = path.split("/")
    if len(segments) > MAX_DEPTH:
        _bad(path, f"it is {len(segments)} levels deep, allowed are {MAX_DEPTH}")
    for segment in segments:
        _check_segment(path, segment)
    return path


def _check_segment(path: str, segment: str) -> None:
    if segment in {"", ".", ".."}:
        _bad(path, "it has an empty part, . or ..")
    if len(segment.encode()) > MAX_SEGMENT_BYTES:
        _bad(path, f"a part is longer than {MAX_SEGMENT_BYTES} bytes")
    if _FORBIDDEN & set(segment) or any(unicodedata.category(c) in _HIDDEN for c in segment):
        _bad(path, "it holds a backslash, a colon, a wildcard, or a control or invisible character")
    if segment[-1] in ". " or segment[0] == " ":
        _bad(path, "a part begins with a space, or ends with a space or dot")
    if _DEVICE.fullmatch(segment.split(".", 1)[0].rstrip(" ")):
        _bad(path, "a part is the name of a device on some systems")


def fold(path: str) -> str:
    """Return what a path is on a file system that knows neither case nor forms of Unicode."""
    once = unicodedata.normalize("NFKC", path).casefold()
    return unicodedata.normalize("NFKC", once)


def check_distinct(paths: Iterable[str]) -> None:
    """Check that no two paths are one on some file system, and that none is a folder of another.

    Raises:
        Integrity: two are.

    """
    files: dict[str, str] = {}
    for path in paths:
        key = fold(path)
        if key in files:
            _bad(path, f"on some systems it is the same as {files[key][:200]!r}")
        files[key] = path
    for key, path in files.items():
        parts = key.split("/")
        for n in range(1, len(parts)):
            if "/".join(parts[:n]) in files:
                _bad(path, "it lies in what is itself a file")


def _bad(path: str, why: str) -> NoReturn:
    raise Integrity(f"the path {path[:200]!r} may not be in a bundle", why, "ask its publisher for another")
