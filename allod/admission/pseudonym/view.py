"""A text as a detector should see it, and the way back from there to the text as it was sent.

In JSON text a value may be written with escapes, and a place that is found may not reach across a quotation
mark: the view holds the decoded strings, knows where each begins and ends, and writes replacements back into
the very text that came, so that blanks, order and numbers stay as the caller wrote them.
"""

from __future__ import annotations

import json
import re
import string
from bisect import bisect_right
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Span = tuple[int, int, str]
"""Start and end (exclusive) in characters, and the type of what stands there."""

_LITERAL: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9][0-9.eE+-]*', re.DOTALL)
_UNIT: Final = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|[^\\]+"
)
_COLON: Final = re.compile(r"\s*:")
_WORD: Final = frozenset(string.ascii_letters + string.digits + "_")
_REST: Final = re.compile("[A-Za-z0-9_]*")


class Literal(msgspec.Struct, frozen=True):
    """A string (without its quotation marks) or a number of a JSON text, in places of the view."""

    start: int
    end: int
    key: bool
    number: bool


class View:
    """What a text says.

    Attributes:
        text: what detectors see; the text itself unless it is JSON with escapes.
        literals: the strings and numbers of JSON text, in order; None for any other text.

    """

    __slots__ = ("_marks", "_raw", "_starts", "literals", "text")

    def __init__(self, raw: str) -> None:
        self._raw = self.text = raw
        self.literals: list[Literal] | None = None
        self._marks: tuple[list[int], list[int]] | None = None
        self._starts: list[int] = []
        if raw.lstrip()[:1] in ("{", "[") and _is_json(raw):
            self._read(raw)

    def clip(self, spans: Sequence[Span]) -> list[Span]:
        """Widen places to whole words of ASCII letters, digits and underscores; in JSON, within literals.

        A token must not stand next to a letter: what is glued to a found value is covered with it.
        """
        out: list[Span] = []
        last = -1
        for start, end, kind in merged(spans):
            for first, stop, low, high in self._pieces(start, end):
                if stop > last:
                    wide = widened(self.text, first, stop)
                    last = min(wide[1], high)
                    out.append((max(wide[0], low), last, kind))
        return merged(out)

    def keyed(self, spans: Sequence[Span]) -> bool:
        """Tell whether one of the clipped places lies in a member's name."""
        return self.literals is not None and any(
            self.literals[bisect_right(self._starts, start) - 1].key for start, _, _ in spans
        )

    def _pieces(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield the parts of a place that lie in literals, each with the bounds it may be widened to."""
        if self.literals is None:
            yield start, end, 0, len(self.text)
            return
        for literal in islice(self.literals, max(0, bisect_right(self._starts, start) - 1), None):
            if literal.start >= end:
                break
            first, last = max(start, literal.start), min(end, literal.end)
            if first < last:
                bounds = (literal.start, literal.end)
                yield (*(bounds if literal.number else (first, last)), *bounds)

    def written(self, spans: Sequence[Span], tokens: Sequence[str]) -> str:
        """Return the text as it was sent, with tokens in the places; a number becomes a string."""
        out: list[str] = []
        at = 0
        numbers = {literal.start for literal in self.literals or () if literal.number}
        for (start, end, _), token in zip(spans, tokens, strict=True):
            out.append(self._raw[at : self._place(start)])
            out.append(f'"{token}"' if start in numbers else token)
            at = self._place(end)
        out.append(self._raw[at:])
        return "".join(out)

    def _place(self, position: int) -> int:
        if self._marks is None:
            return position
        seen, sent = self._marks
        mark = bisect_right(seen, position) - 1
        return sent[mark] + position - seen[mark]

    def _read(self, raw: str) -> None:
        self.literals = []
        out: list[str] = []
        seen, sent = [0], [0]
        at, shift = 0, 0
        for found in _LITERAL.finditer(raw):
            start, end = found.span()
            number = raw[start] != '"'
            inside = raw[start:end] if number else raw[start + 1 : end - 1]
            first = start if number else start + 1
            out.append(raw[at:first])
            begin = first - shift
            if "\\" in inside:
                place = begin
                for unit in _UNIT.finditer(inside):
                    said = unit.group()
                    if said[0] == "\\":
                        said = json.loads(f'"{said}"')
                    seen.append(place)
                    sent.append(first + unit.start())
                    out.append(said)
                    place += len(said)
                shift += len(inside) - (place - begin)
                seen.append(place)
                sent.append(first + len(inside))
            else:
                place = begin + len(inside)
                out.append(inside)
            key = not number and _COLON.match(raw, end) is not None
            self.literals.append(Literal(begin, place, key, number))
            at = first + len(inside)
        out.append(raw[at:])
        self._starts = [literal.start for literal in self.literals]
        if shift:
            self.text, self._marks = "".join(out), (seen, sent)


def widened(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a place with the letters, digits and underscores (ASCII) glued to it."""
    while start > 0 and text[start - 1] in _WORD:
        start -= 1
    rest = _REST.match(text, end)
    assert rest is not None
    end = rest.end()
    return start, end


def merged(spans: Sequence[Span]) -> list[Span]:
    """Join places that overlap or touch, in order; the longest gives the type."""
    out: list[Span] = []
    longest = 0
    for start, end, kind in sorted(spans, key=lambda span: (span[0], -span[1], span[2])):
        if out and start <= out[-1][1]:
            first, last, name = out[-1]
            if end - start > longest:
                name, longest = kind, end - start
            out[-1] = (first, max(last, end), name)
        else:
            out.append((start, end, kind))
            longest = end - start
    return out


def _is_json(raw: str) -> bool:
    try:
        msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return False
    return True
