"""The detector: one pass for marks, then only the detectors that a mark or a digit calls for.

Order of work: the text is undisguised (``view``), one automaton finds every literal that announces
something, and each detector runs only if its literals were found. Nothing here reads a clock of its own,
and nothing raises: what goes wrong makes the scan incomplete, and incomplete is ``unscanned``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from allod.admission.detect.automaton import Literals
from allod.admission.detect.contacts import emails, ibans, spelt_emails
from allod.admission.detect.health import HEALTH_MARKS, SPECIAL_MARKS, special
from allod.admission.detect.markings import MARKS_OF, markings
from allod.admission.detect.model import CLASSES, VERSION, Config, Finding, Hit, Scan, classes_of
from allod.admission.detect.numbers import lexicon, numbers, settle
from allod.admission.detect.persons import persons
from allod.admission.detect.places import ADDRESS_MARKS, BIRTH_MARKS, addresses, births
from allod.admission.detect.secrets import MARKS as SECRET_MARKS
from allod.admission.detect.secrets import secrets
from allod.admission.detect.view import View, blobs, first_view, further_views, plain_view

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allod.admission.detect.context import Lexicon

PART_CHARS: Final = 8_192
OVERLAP_CHARS: Final = 512
MAX_DEPTH: Final = 2
"""Blobs inside blobs are opened so deep."""
BLOB_PENALTY: Final = 100.0
"""A finding inside a blob yields its place to one outside (a token that is itself base64)."""
_DIGIT: Final = re.compile(r"[0-9][0-9 ./()-]{1,3}[0-9A-Za-z]")
_BRACKETED: Final = frozenset(
    (
        "(at)",
        "[at]",
        "(dot)",
        "[dot]",
        "{at}",
        "<at>",
        " arroba ",
        "(ät)",
        "( at )",
        "[ at ]",
        "[@]",
        "(@)",
        " @ ",
        "{@}",
    )
)
_SPELT_MARKS: Final = (" dot ", *_BRACKETED)
_IBAN_START: Final = re.compile(r"[A-Za-z]{2}[0-9]{2}|[A-Za-z] [A-Za-z] [0-9] [0-9]")
_HEALTH_TYPES: Final = ("HEALTH", "SPECIAL_CATEGORY")


def _literals() -> dict[str, frozenset[str]]:
    """Return every literal with the families it announces."""
    families: dict[str, set[str]] = {}

    def add(family: str, marks: Iterable[str]) -> None:
        for mark in marks:
            if mark:
                families.setdefault(mark.lower(), set()).add(family)

    add("secret", SECRET_MARKS)
    for marks in MARKS_OF.values():
        add("marking", marks)
    add("health", HEALTH_MARKS)
    add("health", SPECIAL_MARKS)
    add("address", ADDRESS_MARKS)
    add("birth", BIRTH_MARKS)
    add("spelt", _SPELT_MARKS)
    return {mark: frozenset(names) for mark, names in families.items()}


class _Marks:
    """The one pass: which literals a text holds, whatever their case."""

    __slots__ = ("_all", "_families", "_hot")

    def __init__(self) -> None:
        self._families = _literals()
        self._all = Literals(sorted(self._families), fold_case=True)
        hot = (mark for mark, names in self._families.items() if names & {"secret", "marking"})
        self._hot = Literals(sorted(hot), fold_case=True)

    def found(self, text: str, *, hot: bool) -> tuple[frozenset[str], frozenset[str]]:
        """Return (literals, families) of a text; ``hot`` looks for secrets and markings only."""
        literals = self._hot if hot else self._all
        hits = literals.found(text)
        if not hits:
            return _NONE, _NONE
        marks = frozenset([literals.words[i] for i in hits])
        return marks, _NONE.union(*[self._families[mark] for mark in marks])


_NONE: Final[frozenset[str]] = frozenset()


class _Late(Exception):
    """The deadline has passed."""


class Detector:
    """Finds what raises the class of a request. Immutable; safe to use from several threads.

    Args:
        config: what the tenant sets.
        clock: returns the time in any unit; only compared with the deadlines given to ``scan``.

    """

    __slots__ = ("_clock", "_config", "_labels", "_marks", "_raises", "version")

    def __init__(self, config: Config | None = None, clock: Callable[[], float] | None = None) -> None:
        self._config = config or Config()
        self._clock = clock
        self._marks = _Marks()
        self._labels = lexicon()
        self._raises = {kind: classes_of(kind, self._config.known_classes) for kind in CLASSES}
        digest = hashlib.sha256(msgspec.json.encode(_canonical(self._config))).hexdigest()[:8]
        self.version = f"{VERSION}+{digest}"

    def scan(self, text: str, already: frozenset[str] = _NONE, deadline: float | None = None) -> Scan:
        """Scan one text; never raises.

        Args:
            text: the text as it will leave.
            already: classes the request has; detectors that could only raise these are skipped, so with an
                empty set everything is looked for and located.
            deadline: in the clock's unit; once it has passed the scan ends incomplete.

        """
        hits: list[tuple[Hit, int, int]] = []
        complete = True
        try:
            complete = self._scan(text, already, deadline, hits)
        except Exception:  # noqa: BLE001 (fail closed: whatever it is, the text counts as unscanned)
            complete = False
        try:
            return self._result(hits, complete=complete)
        except Exception:  # noqa: BLE001 (fail closed, and keep what was found)
            raised = (self._raises.get(hit.type, _PERSONAL) for hit, _, _ in hits)
            classes = frozenset(name for names in raised for name in names)
            types = dict.fromkeys(sorted({hit.type for hit, _, _ in hits}), 1)
            return Scan(types=types, classes=classes, findings=(), complete=False, version=self.version)

    def _scan(
        self, text: str, already: frozenset[str], deadline: float | None, hits: list[tuple[Hit, int, int]]
    ) -> bool:
        complete = len(text) <= self._config.max_chars
        hot = "personal" in already
        groups = _Groups(
            secret="confidential" not in already,
            personal=not hot,
            special=not already.issuperset(("phi", "special")),
        )
        budget = self._config.max_decoded_chars
        for part in _parts(text if complete else text[: self._config.max_chars]):
            self._check(deadline)
            _add(hits, part, self._look(part.text, groups, deadline))
            for view in further_views(part):
                self._check(deadline)
                _add(hits, view, self._look(view.text, groups, deadline))
            budget = self._inside(part, groups, deadline, hits, budget, MAX_DEPTH)
            if budget < 0:
                return False
        return complete

    def _inside(
        self,
        view: View,
        groups: _Groups,
        deadline: float | None,
        hits: list[tuple[Hit, int, int]],
        budget: int,
        depth: int,
    ) -> int:
        """Look inside the blobs of a view, and inside theirs; return what is left of the budget."""
        for inner, spent in blobs(view.text, budget):
            budget -= spent
            if budget < 0 or inner.inside is None:
                return -1
            outer = view.place(*inner.inside)
            clean = first_view(inner.text)
            for nested in (clean, *further_views(clean)):
                self._check(deadline)
                found = self._look(nested.text, groups, deadline)
                hits.extend((Hit(h.start, h.end, h.type, h.score - BLOB_PENALTY), *outer) for h in found)
            if depth > 1:
                budget = self._inside(
                    View(inner.text, inside=outer), groups, deadline, hits, budget, depth - 1
                )
                if budget < 0:
                    return -1
        return budget

    def _check(self, deadline: float | None) -> None:
        if deadline is not None and self._clock is not None and self._clock() > deadline:
            raise _Late

    def _look(self, text: str, groups: _Groups, deadline: float | None) -> list[Hit]:
        """Run the detectors that the text's marks call for, on one view."""
        hot = not groups.personal and not groups.special
        marks, families = self._marks.found(text, hot=hot)
        out: list[Hit] = []
        if groups.secret and "secret" in families:
            out += secrets(text, marks)
            self._check(deadline)
        if "marking" in families:
            out += markings(text, marks)
        if groups.personal:
            out += _personal(text, marks, families, out, self._labels)
            self._check(deadline)
            out += persons(text)
        if groups.special and "health" in families:
            out += special(text, marks, persons)
        without = self._config.without
        return [hit for hit in out if hit.type not in without] if without else out

    def _result(self, hits: list[tuple[Hit, int, int]], *, complete: bool) -> Scan:
        if not hits:
            return _clean(complete, self.version)
        placed = settle([Hit(start, end, hit.type, hit.score) for hit, start, end in hits])
        findings = tuple(
            [
                Finding(start=h.start, end=h.end, type=h.type, class_=self._raises.get(h.type, _PERSONAL)[0])
                for h in placed
            ]
        )
        classes: set[str] = set()
        counts: dict[str, int] = {}
        for hit in placed:
            counts[hit.type] = counts.get(hit.type, 0) + 1
            classes.update(self._raises.get(hit.type, _PERSONAL))
        if len(placed) < len(hits):
            for hit, _, _ in hits:
                raised = self._raises.get(hit.type, _PERSONAL)
                if not classes.issuperset(raised):  # it gave way to another, but what it raises stays raised
                    counts[hit.type] = counts.get(hit.type, 0) + 1
                    classes.update(raised)
        return Scan(
            types=dict(sorted(counts.items())),
            classes=frozenset(classes),
            findings=findings,
            complete=complete,
            version=self.version,
        )


_PERSONAL: Final = ("personal",)


class _Groups(msgspec.Struct, frozen=True, kw_only=True):
    """Which groups of detectors may still raise something."""

    secret: bool
    personal: bool
    special: bool


def _canonical(config: Config) -> tuple[object, ...]:
    return (sorted(config.known_classes), sorted(config.without), config.max_chars, config.max_decoded_chars)


def _clean(complete: bool, version: str) -> Scan:
    return Scan(types={}, classes=_NONE, findings=(), complete=complete, version=version)


def _add(hits: list[tuple[Hit, int, int]], view: View, found: Iterable[Hit]) -> None:
    for hit in found:
        start, end = view.place(hit.start, hit.end)
        hits.append((hit, start, end))


def _personal(
    text: str, marks: frozenset[str], families: frozenset[str], secret: list[Hit], labels: Lexicon
) -> list[Hit]:
    """Find contacts, identifiers, addresses and births."""
    out: list[Hit] = list(emails(text))
    if "spelt" in families and (" dot " in marks or not marks.isdisjoint(_BRACKETED)):
        out += spelt_emails(text)
    if _DIGIT.search(text) is not None:
        if _IBAN_START.search(text) is not None:
            out += ibans(text)
        out += numbers(text, [*out, *(hit for hit in secret if hit.type != "PASSWORD")], labels)
        if "birth" in families:
            out += births(text)
        if "address" in families:
            out += addresses(text, marks)
    return out


def _parts(text: str) -> Iterable[View]:
    """Cut a long text into parts that overlap, at blanks; each is undisguised on its own."""
    return (first_view(text),) if len(text) <= PART_CHARS else _cut(text)


def _cut(text: str) -> Iterator[View]:
    start = 0
    while start < len(text):
        end = min(len(text), start + PART_CHARS)
        if end < len(text):
            middle = start + PART_CHARS // 2
            cut = max(text.rfind("\n", middle, end), text.rfind(" ", middle, end))
            end = cut if cut > start else end
        yield plain_view(_with_heading(text, start, end))
        if end >= len(text):
            return
        start = max(start + 1, end - OVERLAP_CHARS)


def _with_heading(text: str, start: int, end: int) -> View:
    """Return a part of a text; inside a table, with the table's first line in front of it."""
    line = text.find("\n", start, end) + 1
    if start == 0 or line == 0:
        return View(text[start:end], shift=start)
    block = text.rfind("\n\n", max(0, start - HEADING_REACH_CHARS), start)
    top = block + 2 if block >= 0 else 0
    stop = text.find("\n", top, min(start, top + HEADING_CHARS))
    row = text[line : text.find("\n", line, end)]
    separator = next((c for c in ",;\t|" if stop > 0 and c in text[top:stop]), "")
    if not separator or text.count(separator, top, stop) != row.count(separator):
        return View(text[start:end], shift=start)
    places = (*range(top, stop + 1), *range(line, end))
    return View(text[top : stop + 1] + text[line:end], places, tuple(place + 1 for place in places))


HEADING_CHARS: Final = 1024
HEADING_REACH_CHARS: Final = 65_536
"""A table's first line is looked for so far back, unless the text itself begins with it."""
