"""Numbers: cut a text into clusters of digits and say which of them are someone's identifier, card or phone.

One pass finds clusters; every run of groups inside a cluster is looked up by its shape in one table; what passes
its check is weighed with what stands near it. The best reading of each place wins.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from typing import TYPE_CHECKING, Final

import msgspec

from allod.admission.detect.cards import card
from allod.admission.detect.context import NEVER, OTHER, Labels, Lexicon, Near
from allod.admission.detect.labels import CARD, OTHERS, PHONE
from allod.admission.detect.model import Hit
from allod.admission.detect.phones import international, national_form, national_possible
from allod.admission.detect.rules import GENERAL, Rule
from allod.admission.detect.rules_europe import EAST, NORTH, WEST
from allod.admission.detect.rules_world import AMERICA, ASIA, DOCUMENTS, SOUTH

if TYPE_CHECKING:
    from collections.abc import Iterator

CLUSTER: Final = re.compile(
    r"[0-9][A-Za-z0-9]*(?:[-./ ()]{1,3}[A-Za-z]{0,3}[0-9][A-Za-z0-9]*)*(?:[- ][A-Z]{1,2}(?![A-Za-z0-9]))?"
)
_GROUP: Final = re.compile(r"[A-Za-z0-9]+")
_LEFT: Final = re.compile(r"(?:(?<![A-Za-z0-9])[A-Z]{1,6}[- ])?[A-Za-z]{0,8}\Z")
_SHAPE: Final = str.maketrans(
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "9" * 10 + "A" * 52
)
_LINKS: Final = re.compile(
    r"[\s,;/|&+]*(?:and|und|et|y|e|en|i|oraz|och|og|ja|sekä|or|oder|ou|o|及|和|と|および|및|और)?[\s,;/|&-]*(?:[-*•]\s*)?"
)
_MONEY_BEFORE: Final = re.compile(r"(?:[$€£¥₹]|\b(?:EUR|USD|GBP|CHF|JPY|PLN|SEK|NOK|DKK|INR|BRL|KRW))\s?\Z")
_UNIT_AFTER: Final = re.compile(
    r"\s?(?:[%°€£$₹¥]|(?:EUR|USD|GBP|CHF|PLN|SEK|kr|zł|Ft|mm|cm|km|kg|mg|ml|bar|rpm|Hz|kHz|MHz|GHz|kW|kWh|MW|MWh|ms|us|ns|KB|MB|GB"
    r"|TB|bytes|tokens|rows|Stück|pcs|px|hPa|kPa|MPa|psi|hours|units|users|people|Euro|euros|dollars)\b)"
)
_CENTS: Final = re.compile(r",[0-9]{1,2}(?![0-9])")
_GLUED: Final = re.compile(r"[-/_.:=][A-Za-z0-9]|[@_]")
MIN_CHARS, MAX_CHARS, MAX_GROUPS, MAX_RUN = 5, 20, 40, 12
LABELLED, HEADED, AFTER, CHAINED, GENERALLY, FORM, ALONE = 100.0, 95.0, 80.0, 75.0, 70.0, 50.0, 45.0

RULES: Final[tuple[Rule, ...]] = (*WEST, *NORTH, *EAST, *AMERICA, *ASIA, *SOUTH, *DOCUMENTS)


class _Shape(msgspec.Struct, frozen=True):
    """The rules of one compact form: by type, those with an arithmetic check, those that need no label."""

    by_type: dict[str, Rule]
    checked: tuple[Rule, ...]
    evident: tuple[Rule, ...]


def _by_shape() -> dict[str, _Shape]:
    table: dict[str, list[Rule]] = defaultdict(list)
    for one in RULES:
        for shape in one.shapes:
            table[shape].append(one)
    return {
        shape: _Shape(
            {one.type: one for one in rules},
            tuple(one for one in rules if one.checked),
            tuple(one for one in rules if one.alone or one.form is not None),
        )
        for shape, rules in table.items()
    }


_BY_SHAPE: Final = _by_shape()


class _Cluster:
    """A cluster of groups: where they are and what separates them."""

    __slots__ = ("end", "groups", "start", "text")

    def __init__(self, text: str, start: int, end: int) -> None:
        self.text, self.start, self.end = text, start, end
        self.groups = [(m.start(), m.end()) for m in _GROUP.finditer(text, start, end)]

    def loose(self, left: int, right: int) -> bool:
        """Tell whether what stands between two places separates numbers and is not part of one."""
        between = self.text[left:right]
        return " " in between.strip("-") or "(" in between or between == "/"

    def tight_left(self, first: int) -> bool:
        """Tell whether the run beginning at a group hangs on something before it."""
        start = self.groups[first][0]
        if first:
            return not self.loose(self.groups[first - 1][1], start)
        left = self.text[max(0, start - 2) : start]
        return len(left) > 0 and (left[-1] in "_@\\" or (left[-1] in "-/.:" and left[:1].isalnum()))

    def tight_right(self, last: int) -> bool:
        """Tell whether the run ending at a group hangs on something after it."""
        end = self.groups[last][1]
        if last + 1 < len(self.groups):
            return not self.loose(end, self.groups[last + 1][0])
        return _GLUED.match(self.text, end) is not None


def clusters(text: str) -> Iterator[_Cluster]:
    """Yield every cluster of groups that hold digits, letters glued to them included."""
    last = 0
    for match in CLUSTER.finditer(text):
        start, end = match.span()
        if end - start < MIN_CHARS - 2 or start < last:
            continue
        if start:
            near = text[start - 1]
            if (near.isalpha() or (near in "- " and start > 1 and text[start - 2].isupper())) and near.isascii():
                left = _LEFT.search(text, max(last, start - 15), start)
                start = left.start() if left is not None else start
        last = end
        yield _Cluster(text, start, end)


def lexicon() -> Lexicon:
    """Return the labels of everything this module reads; built once per detector."""
    names = {one.type: one.names for one in RULES}
    return Lexicon({**names, _GENERAL: GENERAL, _PHONE: PHONE, _CARD: CARD, OTHER: OTHERS})


_GENERAL, _PHONE, _CARD = "general", "phone", "card"


def numbers(text: str, taken: list[Hit], known: Lexicon) -> list[Hit]:
    """Find identifiers, cards and phones in a text.

    Args:
        text: the text of a view.
        known: the labels (``lexicon``).
        taken: places already read as something else (IBANs, e-mails, secrets): nothing is found inside them.

    """
    out: list[Hit] = []
    spans = [(hit.start, hit.end) for hit in taken]
    labels: Labels | None = None
    for cluster in clusters(text):
        if spans and any([s < cluster.end and cluster.start < e for s, e in spans]):
            continue
        if labels is None:
            labels = known.read(text)
        places = _Places(text, labels, out)
        options = _identifiers(cluster, places)
        options += _phones(cluster, places)
        if len(options) == 1:
            out.append(options[0])
        elif options:
            out.extend(settle(options))
    return out


def settle(hits: list[Hit]) -> list[Hit]:
    """Return the best hits that do not overlap: by score, then by length; in order of place."""
    if len(hits) < 2:  # noqa: PLR2004 (nothing to settle)
        return hits
    starts: list[int] = []
    ends: list[int] = []
    chosen: list[Hit] = []
    for hit in sorted(hits, key=_rank):
        # the chosen do not overlap, so both lists are in order
        at = bisect_right(starts, hit.start)
        if (at == 0 or ends[at - 1] <= hit.start) and (at == len(starts) or hit.end <= starts[at]):
            starts.insert(at, hit.start)
            ends.insert(at, hit.end)
            chosen.insert(at, hit)
    return chosen


def _rank(hit: Hit) -> tuple[float, int, int]:
    return -hit.score, hit.start - hit.end, hit.start


def _runs(cluster: _Cluster) -> Iterator[tuple[int, int, str]]:
    """Yield (first group, last group, compact text) of every run of groups of a plausible length."""
    groups, text = cluster.groups[:MAX_GROUPS], cluster.text
    apart = len(groups) > MAX_RUN and all(e - s == 1 for s, e in groups)
    longest = MAX_GROUPS if apart else MAX_RUN
    for first in range(len(groups)):
        compact = ""
        for last in range(first, min(len(groups), first + longest)):
            start, end = groups[last]
            compact += text[start:end]
            if len(compact) > MAX_CHARS:
                break
            if len(compact) >= MIN_CHARS:
                yield first, last, compact


def _identifiers(cluster: _Cluster, places: _Places) -> list[Hit]:
    out: list[Hit] = []
    text, groups = cluster.text, cluster.groups
    for first, last, compact in _runs(cluster):
        shape = _BY_SHAPE.get(compact.translate(_SHAPE))
        sure = card(compact) if len(compact) >= 12 and compact.isdecimal() else 0.0  # noqa: PLR2004
        if shape is None and not sure:
            continue
        left, right = cluster.tight_left(first), cluster.tight_right(last)
        if (first and left) or (right and last + 1 < len(groups)):
            continue
        start, end = groups[first][0], groups[last][1]
        if text[end : end + 1] == ")" and "(" in text[start:end]:
            end += 1
        place = places.at(start, end)
        if shape is not None:
            out += place.identifiers(shape, compact.upper(), glued=left or right)
        if sure:
            score = place.card(sure, glued=left or right)
            if score:
                out.append(Hit(start, end, "CARD", score))
    return out


class _Places:
    """The places of one cluster; what stands around each is looked up once."""

    __slots__ = ("_before", "_known", "_labels", "_text")

    def __init__(self, text: str, labels: Labels, before: list[Hit]) -> None:
        self._text, self._labels, self._before = text, labels, before
        self._known: dict[tuple[int, int], _Place] = {}

    def at(self, start: int, end: int) -> _Place:
        """Return a place."""
        place = self._known.get((start, end))
        if place is None:
            place = self._known[start, end] = _Place(
                self._text, start, end, self._labels.around(start, end), self._before
            )
        return place


class _Place:
    """What speaks for and against a reading of one place."""

    __slots__ = ("_chain", "_refused", "before", "end", "near", "start", "text")

    def __init__(self, text: str, start: int, end: int, near: Near, before: list[Hit]) -> None:
        self.text, self.start, self.end, self.before, self.near = text, start, end, before, near
        self._refused: bool | None = None
        self._chain: str | None = None

    @property
    def refused(self) -> bool:
        """Tell whether it is an amount, a measure, or the beginning of an address."""
        if self._refused is None:
            text, start, end = self.text, self.start, self.end
            self._refused = (
                text[end : end + 1] == "@"
                or _UNIT_AFTER.match(text, end) is not None
                or _CENTS.match(text, end) is not None
                or _MONEY_BEFORE.search(text, max(0, start - 5), start) is not None
            )
        return self._refused

    def labelled(self, key: str) -> float:
        """Return how sure a label makes the key's reading, 0 for no label."""
        near = self.near
        at = near.named(key)
        if at != NEVER:
            return LABELLED + (at - self.start) / 1000
        if key in near.cell:
            return 0.0 if self.refused else HEADED
        return AFTER if key in near.after and near.other[0] == NEVER and not self.refused else 0.0

    def identifiers(self, shape: _Shape, compact: str, *, glued: bool) -> list[Hit]:
        """Return every reading as an identifier that passes its check."""
        out: list[Hit] = []
        near, by_type = self.near, shape.by_type

        def add(one: Rule, score: float) -> None:
            if one.check(compact):
                out.append(Hit(self.start, self.end, one.type, score))

        for key in near.keys():
            one = by_type.get(key)
            if one is not None and (score := self.labelled(key)):
                add(one, score)
        general = self.labelled(_GENERAL) if _GENERAL in near.keys() else 0.0
        chain = self.chained()
        if chain in by_type:
            add(by_type[chain], CHAINED)
        if general and not self.refused:
            for one in shape.checked:
                add(one, GENERALLY + (general - LABELLED) / 10)
        elif not glued and shape.evident and not self.refused:
            if near.other[0] != NEVER:
                for one in shape.evident:
                    if one.alone and one.type in near.after:
                        add(one, AFTER)
                return out
            raw = self.text[self.start : self.end]
            plain = raw.isalnum() and (raw.isupper() or raw.isdecimal())
            for one in shape.evident:
                if one.form is not None and one.form.fullmatch(raw):
                    add(one, FORM)
                elif one.alone and plain:
                    add(one, ALONE)
        return out

    def chained(self) -> str:
        """Return the type of the finding that this place follows in a list, or an empty string."""
        if self._chain is None:
            self._chain = ""
            last = self.before[-1] if self.before else None
            if last is not None and last.end <= self.start and self.start - last.end <= MAX_LINK and not self.refused and _LINKS.fullmatch(self.text, last.end, self.start):
                self._chain = last.type
        return self._chain

    def card(self, sure: float, *, glued: bool) -> float:
        """Return how sure a card is: ``sure`` is what its number alone says."""
        best = self.labelled(_CARD)
        if best or glued or self.near.other[0] != NEVER or self.refused:
            return best
        return CHAINED if self.chained() == "CARD" else sure if sure >= ALONE else 0.0

    def phone(self, alone: float) -> float:
        """Return how sure a phone is: ``alone`` is what its spelling alone says."""
        best = self.labelled(_PHONE)
        if not best and not alone:
            return CHAINED - 1 if self.chained() == "PHONE" else 0.0
        if self.refused:
            return 0.0
        if best or alone >= INTERNATIONAL:
            return max(best, alone)
        return alone if self.near.other[0] == NEVER else 0.0


MAX_LINK: Final = 16
INTERNATIONAL: Final = 90.0
"""A number with + and a country code speaks for itself."""


def _phones(cluster: _Cluster, places: _Places) -> list[Hit]:
    text, groups = cluster.text, cluster.groups
    out: list[Hit] = []
    first = 0
    while first < len(groups):
        start = groups[first][0]
        found = international(text, groups, first)
        if found is not None:
            last, begin, strict = found
            score = places.at(begin, groups[last][1]).phone(INTERNATIONAL if strict else 0.0)
            if score:
                out.append(Hit(begin, _with_extension(text, groups[last][1]), "PHONE", score))
                first = last + 1
                continue
        national = national_possible(text, groups, first)
        if national is None or cluster.tight_left(first) or cluster.tight_right(national):
            first += 1
            continue
        if text[start - 1 : start] == "(":
            start -= 1
        end = groups[national][1]
        score = places.at(start, end).phone(national_form(text[start:end]))
        if score:
            out.append(Hit(start, _with_extension(text, end), "PHONE", score))
            first = national + 1
        else:
            first += 1
    return out


_EXTENSION: Final = re.compile(r"\s?(?:x|ext\.?|extension|Durchwahl|DW|poste)\s?[0-9]{1,6}(?![0-9])")


def _with_extension(text: str, end: int) -> int:
    found = _EXTENSION.match(text, end)
    return found.end() if found else end
