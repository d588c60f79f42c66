"""Finding a value again: what was recognised in one place is covered wherever else it stands."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from allod.domain.errors import Integrity, Invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from allod.admission.pseudonym.view import Span

MIN_CHARS: Final = 3
MIN_DIGITS: Final = 5
MIN_CHARS_ANY_CASE: Final = 8
MAX_FORMS: Final = 256
_WORDS: Final = re.compile(r"[^\W_]+")
_WITHOUT_BLANKS: Final = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\ud7ff\uf900-\ufaff]")

_Forms = dict[tuple[int, int, bool], dict[str, str]]
"""By where the first word stands in a value, its length, and whether case counts: values and their types."""


class Findings:
    """Asks a detector about a text, once.

    Args:
        findings_of: returns the places of a text to be covered: start, end (exclusive), type. What it raises
            passes through: a scan that did not finish must not look like one that found nothing.
        passes: types that are left as they are.

    """

    def __init__(
        self, findings_of: Callable[[str], Sequence[Span]], passes: frozenset[str] = frozenset()
    ) -> None:
        self._ask, self._passes = findings_of, passes
        self._known: dict[str, Sequence[Span]] = {}

    def __call__(self, text: str) -> Sequence[Span]:
        """Return the places of a text.

        Raises:
            Integrity: the detector names a place that the text does not have.

        """
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = tuple(self._kept(text)) if text and not text.isspace() else ()
        return known

    def _kept(self, text: str) -> Iterable[Span]:
        for start, end, kind in self._ask(text):
            if not 0 <= start < end <= len(text):
                raise Integrity(
                    "a detector is wrong", "it found something outside the text", "report this detector"
                )
            if kind not in self._passes and not kind.startswith("MARKING_"):
                yield start, end, kind


class Known:
    """The values of one request, to be found in all of it; values map to their types.

    A value is found again where it stands as whole words: with three characters or more (digits alone: five),
    whatever its case from eight on. In scripts without blanks it is found anywhere, from two on. Values that
    begin alike are looked up together, so a thousand telephone numbers cost what one does.

    Raises:
        Invalid: values that begin alike have more than ``MAX_FORMS`` lengths (kind ``size``).

    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._words: dict[str, _Forms] = {}
        self._signs: dict[str, _Forms] = {}
        for value, kind in values.items():
            self._add(value, kind)
        signs = "".join(map(re.escape, self._signs))
        self._sign = re.compile(f"[{signs}]") if signs else None

    def find(self, text: str) -> list[Span]:
        """Return every place where a value stands; places may overlap."""
        out: list[Span] = []
        begins = self._words.get
        for word in _WORDS.finditer(text) if self._words else ():
            forms = begins(word.group().lower())
            if forms is not None:
                out += _found(text, word.start(), forms, whole_words=True)
        if self._sign is not None:
            for sign in self._sign.finditer(text):
                out += _found(text, sign.start(), self._signs[sign.group()], whole_words=False)
        return out

    def _add(self, value: str, kind: str) -> None:
        if _WITHOUT_BLANKS.match(value):
            if len(value) > 1:
                _put(self._signs.setdefault(value[0], {}), (0, len(value), False), value, kind)
            return
        word = _WORDS.search(value)
        if word is None or len(value) < (MIN_DIGITS if value.isdigit() else MIN_CHARS):
            return
        small = value.lower()
        any_case = len(value) >= MIN_CHARS_ANY_CASE and len(small) == len(value)
        form = (word.start(), len(value), any_case)
        _put(self._words.setdefault(word.group().lower(), {}), form, small if any_case else value, kind)


def _put(forms: _Forms, form: tuple[int, int, bool], value: str, kind: str) -> None:
    forms.setdefault(form, {})[value] = kind
    if len(forms) > MAX_FORMS:
        raise Invalid(
            "the request holds too much that must be covered",
            f"values that begin alike have more than {MAX_FORMS} lengths",
            "send less at once",
            kind="size",
        )


def _found(text: str, at: int, forms: _Forms, *, whole_words: bool) -> Iterator[Span]:
    """Yield the values whose first word, or first sign, stands at a place."""
    for (offset, size, any_case), values in forms.items():
        start = at - offset
        end = start + size
        if start < 0 or end > len(text):
            continue
        said = text[start:end]
        kind = values.get(said.lower() if any_case else said)
        if kind is not None and not (whole_words and _goes_on(text, end)):
            yield start, end, kind


def _goes_on(text: str, end: int) -> bool:
    return end < len(text) and text[end - 1].isalnum() and text[end].isalnum()
