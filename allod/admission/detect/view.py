"""Views of a text: as given, and as a reader or a program would read it after undoing what hides things.

A view is a text with, for each of its characters, the place of that character in the original, so that a
finding in a view names a place in the original. The first view undoes what no honest text needs: zero-width
characters, full-width and foreign digits, mathematical letters, exotic dashes and blanks. Further views are
made only when their mark is present: look-alike letters of other scripts, letters written apart, escapes of
JSON, HTML and URLs, and blobs of base64 or hexadecimal.
"""

# ruff: noqa: RUF001 (the look-alikes themselves)

from __future__ import annotations

import base64
import binascii
import html
import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec
import re2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SPACES: Final = "\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_DASHES: Final = "\u2010-\u2015\u2212\ufe58\ufe63"
_INVISIBLE: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff"
)
_DIGITS: Final = (
    "\u0660-\u0669\u06f0-\u06f9\u07c0-\u07c9\u0966-\u096f\u09e6-\u09ef\u0a66-\u0a6f\u0ae6-\u0aef\u0b66-\u0b6f"
    "\u0be6-\u0bef\u0c66-\u0c6f\u0ce6-\u0cef\u0d66-\u0d6f\u0e50-\u0e59\u0ed0-\u0ed9\u0f20-\u0f29\u1040-\u1049"
    "\u17e0-\u17e9\u1810-\u1819"
)
_COMPATIBLE: Final = (
    "\u00b2\u00b3\u00b9\u2070-\u209c\u2100-\u214f\u2460-\u24ff\u2776-\u2793\u3200-\u32ff\ufb00-\ufb06"
    "\ufe50-\ufe57\ufe59-\ufe62\ufe64-\ufe6b\uff01-\uff5e\U0001d400-\U0001d7ff\U0001f100-\U0001f1ff\u2024"
)
_HALVES: Final = "\ud800-\udfff"
"""Surrogates alone: JSON can carry them, UTF-8 cannot."""
ODD: Final = re.compile(f"[{_SPACES}{_DASHES}{_INVISIBLE}{_DIGITS}{_COMPATIBLE}{_HALVES}]")
_HALF: Final = re.compile(f"[{_HALVES}]")
_INVISIBLE_ONE: Final = re.compile(f"[{_INVISIBLE}]")
_DASH_ONE: Final = re.compile(f"[{_DASHES}]")

_LOOKS: Final = {
    # Cyrillic
    **dict(zip("АВЕЅІЈКМНОРСТУХԚԜаеѕіјорсухһԁԛԝѵ", "ABESIJKMHOPCTYXQWaesijopcyxhdqwv", strict=True)),
    # Greek
    **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧονρυιακ", "ABEZHIKMNOPTYXovpuiak", strict=True)),
    # Armenian, Latin look-alikes and others
    **dict(zip("օսհոքցαɑɡıℓᎪᏴᏟᎬᏀᎻᎫᏦᏞᎷᏢᏒᏚᎢᏙᏔᏃ", "ouhnpgaagilABCEGHJKLMPRSTVWZ", strict=True)),
}
_LOOK_TABLE: Final = {ord(k): v for k, v in _LOOKS.items()}
LOOK_ALIKE: Final = re.compile("[" + "".join(_LOOKS) + "]")
_RUN: Final = re.compile(r"\S+")
_LATIN: Final = re.compile(r"[A-Za-z0-9@]")
_APART: Final = re.compile(r"(?<!\S)(?:[^\s](?:[ \t]{1,2}|[ \t]?[-_.*|·][ \t]?)){7,}[^\s](?!\S)")
_MAYBE_APART: Final = re2.compile(r"(?:[^\s](?:[ \t]{1,2}|[ \t]?[-_.*|·][ \t]?)){7}")
_MAYBE_SHORT: Final = re.compile(r"(?<!\S)\S[ \t_.*|·-]{1,3}\S[ \t_.*|·-]{1,3}\S[ \t_.*|·-]")
_JSON_ESCAPE: Final = re.compile(r"\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}|\\[nrt\"\\/]")
_PERCENT: Final = re.compile(r"(?:%[0-9A-Fa-f]{2})+|=3D|=40")
_ENTITY: Final = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,16});")
_SIMPLE: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "/": "/"}
_BLOB: Final = re2.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}(?:\r?\n[A-Za-z0-9+/_-]{4,}={0,2})*")
_BASE64: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_-=")
_LONG_WORD: Final = re.compile(r"[A-Za-z0-9+/_-]{16}")
_SHORT_CHARS: Final = 512
"""Up to here the pattern of the standard library starts sooner than RE2 does."""
_HEX: Final = re.compile(r"(?:0x)?(?:[0-9A-Fa-f]{2}){12,}")
_MAX_BLOBS: Final = 64
_PRINTABLE_SHARE: Final = 0.95
_MIN_PRINTABLE: Final = 8
_BREAKS: Final = dict.fromkeys(map(ord, "\n\r\t"))


class View(msgspec.Struct, frozen=True):
    """A text and where each of its characters came from.

    Attributes:
        text: what the detectors read.
        at: for each character the place of its first original character; None when they are the same.
        ends: for each character the place after its last original character; None when they are the same.
        inside: the place of the blob it was decoded from; every finding in it is that whole place.
        shift: where the view begins in the original, for a part of a long text (with ``at`` None).

    """

    text: str
    at: tuple[int, ...] | None = None
    ends: tuple[int, ...] | None = None
    inside: tuple[int, int] | None = None
    shift: int = 0

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Return the place in the original of the characters ``start`` to ``end`` of this view."""
        if self.inside is not None:
            return self.inside
        if self.at is None or self.ends is None or start >= end:
            return start + self.shift, end + self.shift
        return self.at[start], self.ends[end - 1]


@lru_cache(maxsize=2048)
def _plain(char: str) -> str:
    """Return what one odd character stands for; empty for an invisible one."""
    if _INVISIBLE_ONE.match(char):
        return ""
    if _HALF.match(char):
        return "\ufffd"
    if _DASH_ONE.match(char):
        return "-"
    digit = unicodedata.decimal(char, None)
    if digit is not None:
        return str(digit)
    plain = unicodedata.normalize("NFKC", char)
    return " " if plain.isspace() else plain


def edited(view: View, edits: Iterable[tuple[int, int, str]]) -> View:
    """Return a view with pieces replaced; ``edits`` are (start, end, new text), in order, not overlapping."""
    text, old_at, old_ends, shift = view.text, view.at, view.ends, view.shift
    pieces: list[str] = []
    at: list[int] = []
    ends: list[int] = []
    last = 0

    def keep(start: int, end: int) -> None:
        pieces.append(text[start:end])
        at.extend(range(start + shift, end + shift) if old_at is None else old_at[start:end])
        ends.extend(range(start + shift + 1, end + shift + 1) if old_ends is None else old_ends[start:end])

    for start, end, new in edits:
        keep(last, start)
        first, after = view.place(start, end)
        pieces.append(new)
        at.extend([first] * len(new))
        ends.extend([after] * len(new))
        last = end
    keep(last, len(text))
    return View("".join(pieces), tuple(at), tuple(ends), view.inside)


def first_view(text: str, shift: int = 0) -> View:
    """Return the text without invisible characters, with plain digits, letters, dashes and blanks."""
    return plain_view(View(text, shift=shift))


def plain_view(view: View) -> View:
    """Return a view undisguised in the same way."""
    text = view.text
    if text.isascii() or ODD.search(text) is None:
        return view
    return edited(view, ((m.start(), m.end(), _plain(m.group())) for m in ODD.finditer(text)))


def further_views(view: View) -> Iterator[View]:
    """Yield the views that the marks in a view call for, each of the surroundings of its marks."""
    text = view.text
    if not text.isascii() and LOOK_ALIKE.search(text) is not None:
        yield from _around(view, _folds(text))
    maybe = _MAYBE_SHORT if len(text) <= _SHORT_CHARS else _MAYBE_APART
    if maybe.search(text) is not None and _APART.search(text) is not None:
        yield from _around(view, ((m.start(), m.end(), _together(m.group())) for m in _APART.finditer(text)))
    if "\\" in text and _JSON_ESCAPE.search(text) is not None:
        escapes = ((m.start(), m.end(), _unescaped(m.group())) for m in _JSON_ESCAPE.finditer(text))
        yield from _around(view, escapes)
    if ("%" in text or "=40" in text) and _PERCENT.search(text) is not None:
        yield from _around(
            view, ((m.start(), m.end(), _unquoted(m.group())) for m in _PERCENT.finditer(text))
        )
    if "&" in text and _ENTITY.search(text) is not None:
        entities = ((m.start(), m.end(), html.unescape(m.group())) for m in _ENTITY.finditer(text))
        yield from _around(view, entities)


NEAR_CHARS: Final = 120
"""So much of the text on both sides of what was changed is looked at again."""


def _around(view: View, edits: Iterable[tuple[int, int, str]]) -> Iterator[View]:
    """Yield a changed view of each neighbourhood of edits."""
    group: list[tuple[int, int, str]] = []
    for edit in edits:
        if group and edit[0] - group[-1][1] > 2 * NEAR_CHARS:
            yield _piece(view, group)
            group = []
        group.append(edit)
    if group:
        yield _piece(view, group)


def _piece(view: View, edits: list[tuple[int, int, str]]) -> View:
    start, end = max(0, edits[0][0] - NEAR_CHARS), edits[-1][1] + NEAR_CHARS
    if start == 0 and end >= len(view.text):
        return edited(view, edits)
    at = None if view.at is None else view.at[start:end]
    ends = None if view.ends is None else view.ends[start:end]
    piece = View(view.text[start:end], at, ends, view.inside, view.shift + start)
    return edited(piece, ((s - start, e - start, new) for s, e, new in edits))


def _folds(text: str) -> Iterator[tuple[int, int, str]]:
    """Fold look-alikes only in runs that also hold Latin letters or digits: words of other scripts stay."""
    for run in _RUN.finditer(text):
        word = run.group()
        if not word.isascii() and LOOK_ALIKE.search(word) and _LATIN.search(word):
            folded = word.translate(_LOOK_TABLE)
            if folded != word:
                yield run.start(), run.end(), folded


def _together(run: str) -> str:
    """Join letters written apart; a double blank is a word's end."""
    step = run[1:3] if run[2:3] in " \t" else run[1:2]
    joined = run.replace(step.strip() or step[:1], "")
    return joined.replace(" ", "").replace("\t", "")


def _unescaped(mark: str) -> str:
    kind = mark[1]
    if kind in "ux":
        return _plain_or_same(chr(int.from_bytes(bytes.fromhex(mark[2:]))))
    return _SIMPLE[kind]


def _plain_or_same(char: str) -> str:
    return _plain(char) if ODD.match(char) else char


def _unquoted(run: str) -> str:
    raw = bytes.fromhex(run.replace("%", "").replace("=", ""))
    return raw.decode("utf-8", "replace")


def blobs(text: str, budget: int) -> Iterator[tuple[View, int]]:
    """Yield what base64 and hexadecimal blobs hold, if it is text, with the characters spent.

    Args:
        text: the text.
        budget: characters of blobs to look at; a blob beyond it is yielded as an empty view with its length,
            so that the caller can tell that not everything was seen.

    """
    if len(text) <= _SHORT_CHARS and _LONG_WORD.search(text) is None:
        return
    for count, match in enumerate(_BLOB.finditer(text)):
        if not _promising(text, match.start(), match.end()):
            continue
        size = match.end() - match.start()
        if size > budget or count >= _MAX_BLOBS:
            yield View("", inside=(match.start(), match.end())), size
            return
        budget -= size
        inner = _decoded(match.group())
        if inner is not None:
            yield View(inner, inside=(match.start(), match.end())), size


def _promising(text: str, start: int, end: int) -> bool:
    """Tell whether a run can be a blob: whole, and of letters of both cases (base64) or hexadecimal."""
    if start and text[start - 1] in _BASE64:
        return False
    run = text[start:end]
    mixed = not run.islower() and not run.isupper() and not run.isdigit()
    return mixed or _HEX.fullmatch(run) is not None


def _decoded(blob: str) -> str | None:
    """Return the text in a blob, or None when what it holds is not text."""
    if _HEX.fullmatch(blob):
        found = _as_text(bytes.fromhex(blob.removeprefix("0x")))
        if found is not None:
            return found
    compact = "".join(blob.split()).rstrip("=").translate(str.maketrans("-_", "+/"))
    if len(compact) % 4 == 1:
        return None
    try:
        raw = base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return _as_text(raw)


def _as_text(raw: bytes) -> str | None:
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff") or raw[1:8:2] == b"\0\0\0\0":
        encoding = "utf-16" if raw[:1] in b"\xff\xfe" else "utf-16-le"
    else:
        encoding = "utf-8"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        return None
    plain = text.translate(_BREAKS)
    if len(plain) < _MIN_PRINTABLE or plain.isprintable():
        return text if len(plain) >= _MIN_PRINTABLE else None
    good = sum(c.isprintable() for c in plain)
    return text if good >= _PRINTABLE_SHARE * len(plain) else None
