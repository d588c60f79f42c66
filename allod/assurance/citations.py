"""Whether what an answer quotes, and the sources it names, are in the documents it was given.

Every quoted passage of ``LEAST_WORDS`` words or more, and every passage set off by ``>``, must stand in the
documents, white space, quotation marks, dashes, ligatures and capitals aside; a gap ("...") may leave out,
not reorder, and stands between words that stand together, two at least. Every marker ([2], [1, 3], [2-4],
[^1]) must name a source that the documents number, and a passage directly before its marker must stand in
that very source. There must be one of either.

It does not say that the source bears out what is said of it.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_CHARS: Final = 256 << 10
MAX_DOCUMENT_CHARS: Final = 1 << 20
MAX_CITATIONS: Final = 500
MAX_SOURCES: Final = 2_000
"""In one document."""
LEAST_WORDS: Final = 4
_MOST_IN_RANGE: Final = 50
_NEAR: Final = 6

_QUOTES: Final = (
    ("“", "”"), ("„", "“”"), ("«", "»"), ("»", "«"), ("\u2039", "\u203a"), ('"', '"'), ("「", "」"),
)  # fmt: skip
_MARKER: Final = re.compile(
    r"(?<![\w\\])[\[【]\^?(\d{1,4}(?:\s{0,2}[,;\u2013-]\s{0,2}\^?\d{1,4}){0,20})[\]】]"
)
_PART: Final = re.compile(r"(\d{1,4})\s{0,2}[\u2013-]\s{0,2}(\d{1,4})|(\d{1,4})")
_LABEL: Final = re.compile(
    r"^[ \t]{0,8}(?:[#*>-]{1,4}[ \t]{1,4})?(?:"
    r"[\[【]\^?(\d{1,4})[\]】]"
    r"|<[a-z_]{1,20}\s[^>\n]{0,80}?(?:index|id|n|number)\s?=\s?[\"']?(\d{1,4})[\"']?[^>\n]{0,200}>"
    r"|<(?:document|source|doc|passage)_?(\d{1,4})>"
    r"|(?:source|document|doc|passage|context|chunk|excerpt|quelle|dokument)[ \t]{0,2}[#№]?(\d{1,4})\b)",
    re.IGNORECASE | re.MULTILINE,
)
_TOGETHER: Final = 2
_GAP: Final = re.compile(r"\[?\(?\.\.\.\)?\]?")
_SAME: Final = str.maketrans({
    **dict.fromkeys("“”„‟«»\u2039\u203a\"\u2018\u2019\u201a\u201b'`\u00b4「」*_\u00ad\u200b\ufeff", None),
    **dict.fromkeys("\u2010\u2011\u2012\u2013—―\u2212", "-"),
})  # fmt: skip


class Cited(msgspec.Struct, frozen=True, kw_only=True):
    """How many passages and markers hold; ``wrong`` says why the answer fails, empty where it does not."""

    passages: int = 0
    markers: int = 0
    wrong: str = ""


class _Passage(msgspec.Struct, frozen=True):
    """What is quoted, and the sources the marker behind it names, if there is one."""

    text: str
    sources: tuple[int, ...]


def checked(answer: str, documents: Sequence[str]) -> Cited:
    """Look for what an answer cites in the documents.

    Args:
        answer: what was said. documents: texts the request brought, in their order.

    """
    if len(answer) > MAX_CHARS or sum(map(len, documents)) > MAX_DOCUMENT_CHARS:
        return Cited(wrong="longer than is read")
    passages = _passages(answer)
    if passages is None:
        return Cited(wrong="a quotation never ends")
    markers = [number for found in _MARKER.finditer(answer) for number in _numbers(found.group(1))]
    if not passages and not markers:
        return Cited(wrong="it cites nothing")
    if len(passages) + len(markers) > MAX_CITATIONS:
        return Cited(wrong="more citations than are read")
    return Cited(
        passages=len(passages), markers=len(markers), wrong=_wrong(passages, frozenset(markers), documents)
    )


def _wrong(passages: Sequence[_Passage], markers: frozenset[int], documents: Sequence[str]) -> str:
    """Say what of these is not in the documents; empty for nothing."""
    numbered = _numbered(documents)
    if numbered is None:
        return "more sources than are read"
    if not markers <= set(numbered):
        return "it names a source that is not there"
    whole = [normal(one) for one in documents]
    sources = {number: normal(numbered[number]) for one in passages for number in one.sources}
    for one in passages:
        among = [sources[number] for number in one.sources] or whole
        if not any(_stands(one.text, text) for text in among):
            return "a passage is not in the documents"
    return ""


def normal(text: str) -> str:
    """Return a text as passages are compared: NFKC, no quotation marks, one kind of dash, one blank."""
    text = unicodedata.normalize("NFKC", text).translate(_SAME).replace("…", "...")
    return " ".join(text.casefold().split())


def _stands(passage: str, text: str) -> bool:
    """Say whether the pieces of a passage stand in a text, in their order."""
    at = 0
    pieces = [wanted for piece in _GAP.split(normal(passage)) if (wanted := piece.strip(" .,;:!?"))]
    for wanted in pieces:
        found = text.find(wanted, at)
        if found < 0 or (len(pieces) > 1 and len(wanted.split()) < _TOGETHER):
            return False
        at = found + len(wanted)
    return True


def _numbers(text: str) -> Iterator[int]:
    for found in _PART.finditer(text):
        if found.group(3):
            yield int(found.group(3))
            continue
        first, last = int(found.group(1)), int(found.group(2))
        yield from range(first, min(last, first + _MOST_IN_RANGE) + 1)
        yield last


def _numbered(documents: Sequence[str]) -> dict[int, str] | None:
    """Return the text of each source that is numbered: from its label to the next one, or the end."""
    out: dict[int, list[str]] = {}
    for text in documents:
        labels = list(islice(_LABEL.finditer(text), MAX_SOURCES + 1))
        if len(labels) > MAX_SOURCES:
            return None
        starts = [one.start() for one in labels] + [len(text)]
        for label, end in zip(labels, starts[1:], strict=True):
            number = int(next(one for one in label.groups() if one))
            out.setdefault(number, []).append(text[label.end() : end])
    return {number: "\n".join(texts) for number, texts in out.items()}


def _passages(answer: str) -> list[_Passage] | None:
    """Return what is quoted and long enough; None where a quotation is not closed in its paragraph."""
    out: list[_Passage] = []
    for paragraph in re.split(r"\n[ \t]*\n", answer):
        lines = paragraph.split("\n")
        off = [line.lstrip()[1:].strip() for line in lines if line.lstrip().startswith(">")]
        if off:
            _take(out, " ".join(off), "")
        rest = "\n".join(line for line in lines if not line.lstrip().startswith(">"))
        if not _quoted(out, rest):
            return None
        if len(out) > MAX_CITATIONS:
            break
    return out


def _quoted(out: list[_Passage], text: str) -> bool:
    """Add what stands in quotation marks; returns whether each was closed."""
    closing = dict(_QUOTES)
    at = 0
    for found in re.finditer('[“„«»\u2039"「]', text):
        start = found.start()
        if start < at:
            continue
        ends = [end for mark in closing[found.group()] if (end := text.find(mark, start + 1)) >= 0]
        if not ends:
            return _measure(text, start)
        end = min(ends)
        _take(out, text[start + 1 : end], text[end + 1 : end + _NEAR + 80])
        at = end + 1
    return True


def _measure(text: str, at: int) -> bool:
    """Say whether a lone mark is one of inches or seconds, behind a number, and quotes nothing."""
    return text[at] == '"' and at > 0 and text[at - 1].isdigit()


def _says(word: str) -> bool:
    """Tell whether there is a letter or a digit in a word."""
    return any(map(str.isalnum, word))


def _take(out: list[_Passage], passage: str, behind: str) -> None:
    if sum(map(_says, passage.split())) < LEAST_WORDS:
        return
    marker = _MARKER.search(behind)
    near = marker is not None and marker.start() <= _NEAR and not behind[: marker.start()].strip(" .,;)(")
    inside = _MARKER.search(passage, max(0, len(passage) - 24))
    if marker is not None and near:
        out.append(_Passage(passage, tuple(_numbers(marker.group(1)))))
    elif inside is not None and inside.end() == len(passage.rstrip(" .")):
        out.append(_Passage(passage[: inside.start()], tuple(_numbers(inside.group(1)))))
    else:
        out.append(_Passage(passage, ()))
