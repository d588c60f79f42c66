"""Words near a number: what it is called before or after it, in whatever language.

A label counts when it is the nearest label: "order 4505577104, NHS number pending" names the number an order.
Words are compared without case and accents and with punctuation read as blanks, so that ``taxId``, ``tax_id``
and ``Tax-ID`` are one. A word of up to four letters must stand alone; a longer one may be part of a compound
(``Steuernummer`` in ``Umsatzsteuernummern``); scripts without blanks match anywhere.
"""

# ruff: noqa: RUF001 (punctuation of many scripts)

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec

from allod.admission.detect.automaton import Literals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BEFORE_CHARS: Final = 72
AFTER_CHARS: Final = 36
OTHER_CHARS: Final = 44
"""A word that calls a number something else counts only so near."""
_SHORT: Final = 4
_ACCENTED: Final = [
    chr(n) for n in (*range(0xDF, 0x180), *range(0x1CD, 0x250), *range(0x3AC, 0x3CF), *range(0x1E00, 0x1F00))
]
_ACCENTS: Final = {
    **{ord(c): unicodedata.normalize("NFD", c)[0] for c in _ACCENTED},
    **dict(zip(map(ord, "đıłøς"), "diloσ", strict=True)),
}
_PUNCTUATION: Final = {
    ord(c): " " for c in "\t\r.,;:!?\"'`´’‘“”„«»()[]{}<>|/\\_-–—=*+#&~^°º·・：，、。（）「」【】《》؛،"
}
_FOLD: Final = {**_ACCENTS, **_PUNCTUATION}
_CELL: Final = re.compile(r"[,;\t|]")
NEVER: Final = -1


def fold(text: str) -> str:
    """Lower case, no accents, punctuation as blanks; same length as ``text``."""
    lower = text.lower()
    if len(lower) != len(text):
        lower = "".join(c.lower()[:1] or " " for c in text)
    return lower.translate(_FOLD)


class Words(msgspec.Struct, frozen=True):
    """Words that name one thing: ``exact`` stand alone, ``parts`` may be inside a longer word; all folded."""

    exact: tuple[str, ...]
    parts: tuple[str, ...]


@lru_cache(maxsize=512)
def words(listing: str) -> Words:
    """Read a listing: words separated by commas; ``=`` before a word makes it stand alone.

    Words of several parts are also known written together (``socialsecurity``).
    """
    exact: set[str] = set()
    parts: set[str] = set()
    for raw in listing.replace("\n", " ").split(","):
        entry = raw.strip()
        if not entry:
            continue
        alone = entry.startswith("=")
        word = " ".join(fold(entry.removeprefix("=")).split())
        for form in {word, word.replace(" ", "")}:
            if alone or (len(form) <= _SHORT and form.isascii()):
                exact.add(form)
            else:
                parts.add(form)
    return Words(tuple(sorted(exact)), tuple(sorted(parts)))


class Lexicon:
    """Every label, found in one pass over a folded text.

    Args:
        names: for each key (a type of finding, or a group of labels) the words that name it.

    """

    __slots__ = ("_automaton", "_entries")

    def __init__(self, names: Mapping[str, Words]) -> None:
        entries: dict[str, tuple[set[str], set[str]]] = {}
        for key, listing in names.items():
            for word in listing.exact:
                entries.setdefault(word, (set(), set()))[0].add(key)
            for word in listing.parts:
                entries.setdefault(word, (set(), set()))[1].add(key)
        self._entries = tuple(
            (word, frozenset(exact), frozenset(exact | anywhere) if anywhere else _NOTHING)
            for word, (exact, anywhere) in sorted(entries.items())
        )
        self._automaton = Literals((word for word, _, _ in self._entries), fold_case=False)

    def find(self, text: str, start: int, end: int) -> list[tuple[int, int, frozenset[str]]]:
        """Return every label in a part of a text as (start, end, keys), in order."""
        folded = fold(text[start:end])
        found: list[tuple[int, int, frozenset[str]]] = []
        for index in self._automaton.found(folded):
            word, exact, anywhere = self._entries[index]
            size = len(word)
            at = folded.find(word)
            while at >= 0:
                keys = anywhere
                if exact and _stands_alone(text, folded, at, at + size, start):
                    keys = exact | anywhere if anywhere else exact
                if keys:
                    found.append((start + at, start + at + size, keys))
                at = folded.find(word, at + 1)
        found.sort(key=_place)
        return found

    def read(self, text: str, places: Iterable[tuple[int, int]]) -> Labels:
        """Find the labels around some places, given in order: what is far from every place is not read."""
        found: list[tuple[int, int, frozenset[str]]] = []
        if len(text) <= WHOLE_CHARS:
            return Labels(text, self.find(text, 0, len(text)), self)
        left = right = -1
        for start, end in places:
            low, high = (
                max(0, start - BEFORE_CHARS - WORD_CHARS),
                min(len(text), end + AFTER_CHARS + WORD_CHARS),
            )
            if low > right:
                if right > 0:
                    found += self.find(text, left, right)
                left = low
            right = high
        if right > 0:
            found += self.find(text, left, right)
        return Labels(text, found, self)


def _place(label: tuple[int, int, frozenset[str]]) -> tuple[int, int]:
    return label[0], label[1]


WHOLE_CHARS: Final = 400
"""A text of this length is read whole."""
WORD_CHARS: Final = 24
"""Room for a word that is cut by the edge of what is read."""
_NOTHING: Final[frozenset[str]] = frozenset()


def _stands_alone(text: str, folded: str, start: int, end: int, shift: int) -> bool:
    """Tell whether a word is no part of a longer one; a camel's hump (``customerBsn``) ends a word."""
    at = start + shift
    if start and folded[start - 1].isalnum() and not (text[at].isupper() and text[at - 1].islower()):
        return False
    if end >= len(folded) or not folded[end].isalpha() or not folded[end].isascii():
        return True
    return text[end + shift].isupper() and text[end + shift - 1].islower()


class Near:
    """The labels around one place: where each key's last label before it ends, and which stand elsewhere."""

    __slots__ = ("_keys", "after", "before", "cell", "other")

    def __init__(
        self, before: dict[str, int], other: tuple[int, int], after: frozenset[str], cell: frozenset[str]
    ) -> None:
        self.before, self.other, self.after, self.cell = before, other, after, cell
        self._keys: frozenset[str] | None = None

    def all_keys(self) -> frozenset[str]:
        """Return every key with a label somewhere around."""
        if self._keys is None:
            self._keys = _NOTHING.union(self.before, self.after, self.cell)
        return self._keys

    def named(self, key: str) -> int:
        """Return where the key's label before the place ends, or NEVER if another kind is nearer."""
        at = self.before.get(key, NEVER)
        start, end = self.other
        return at if at >= 0 and (at >= end or start - at <= 1) else NEVER


_NOWHERE: Final = Near({}, (NEVER, NEVER), _NOTHING, _NOTHING)
OTHER: Final = "other"
"""The key of words that call a number something that is nobody's."""


class Labels:
    """The labels of a text, in order of their place."""

    __slots__ = ("_cells", "_found", "_known", "_lines", "_starts", "_text", "keys")

    def __init__(self, text: str, found: list[tuple[int, int, frozenset[str]]], known: Lexicon) -> None:
        self._text, self._found, self._known = text, found, known
        self._lines = "\n" in text
        self._cells: dict[tuple[int, int], frozenset[str]] = {}
        self._starts = [start for start, _, _ in found]
        self.keys = _NOTHING.union(*[keys for _, _, keys in found])

    def around(self, start: int, end: int) -> Near:
        """Return what stands around the place ``start`` to ``end``."""
        if not self._starts and not self._lines:
            return _NOWHERE
        low = bisect_left(self._starts, start - BEFORE_CHARS)
        high = bisect_left(self._starts, start)
        before: dict[str, int] = {}
        other = (NEVER, NEVER)
        for begin, stop, keys in self._found[low:high]:
            if stop > start:
                continue
            for key in keys:
                if key == OTHER:
                    if stop > other[1] and start - stop <= OTHER_CHARS:
                        other = (begin, stop)
                elif stop > before.get(key, NEVER):
                    before[key] = stop
        after = _NOTHING
        last = bisect_left(self._starts, end + AFTER_CHARS)
        if last > high:
            limit = self._limit(end)
            after = frozenset().union(*(k for b, e, k in self._found[high:last] if b >= end and e <= limit))
        return Near(before, other, after, self.cell(start))

    def _limit(self, end: int) -> int:
        """Return how far words after a place may still speak of it: to the line's end or the next number."""
        piece = self._text[end : end + AFTER_CHARS].split("\n", 1)[0]
        number = _NEXT_NUMBER.search(piece)
        return end + (number.start() if number else len(piece))

    def cell(self, start: int) -> frozenset[str]:
        """Return the keys of the labels in the heading of the column in which a place lies."""
        left, right = heading(self._text, start) if self._lines else (0, 0)
        if left == right:
            return _NOTHING
        cell = self._cells.get((left, right))
        if cell is None:
            labels = self._known.find(self._text, left, right)
            cell = self._cells[left, right] = _NOTHING.union(*[keys for _, _, keys in labels])
        return cell


_NEXT_NUMBER: Final = re.compile(r"[0-9]{4}")


def heading(text: str, start: int) -> tuple[int, int]:
    """Return where the heading of the column stands in which ``start`` lies, or an empty place.

    The line must hold separators (comma, semicolon, tab or bar), and the first line of the same block (no
    blank line between) as many of the same one.
    """
    line_start = text.rfind("\n", 0, start) + 1
    if line_start == 0:
        return 0, 0
    left = text[line_start:start]
    separators = _CELL.findall(left)
    line_end = text.find("\n", start)
    line = text[line_start : line_end if line_end >= 0 else len(text)]
    separator = separators[0] if separators else (_CELL.findall(line) or [""])[0]
    if not separator:
        return 0, 0
    block = text.rfind("\n\n", 0, line_start)
    top_start = 0 if block < 0 else block + 2
    top_end = text.find("\n", top_start)
    top = text[top_start:top_end]
    if top_end < 0 or top_end >= line_start or top.count(separator) != line.count(separator):
        return 0, 0
    begin = top_start
    for _ in range(left.count(separator)):
        begin = text.index(separator, begin) + 1
    stop = text.find(separator, begin, top_end)
    return begin, stop if stop >= 0 else top_end
