"""Numbers: cut a text into clusters of digits and say which of them are someone's identifier, card or phone.

One pass finds clusters; every run of groups inside a cluster is looked up by its shape in one table; what
passes its check is weighed with what stands near it. The best reading of each place wins.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from typing import TYPE_CHECKING, Final

import msgspec

from allod.admission.detect.cards import card
from allod.admission.detect.clusters import MIN_CHARS, Cluster, clusters
from allod.admission.detect.context import NEVER, OTHER, Labels, Lexicon, Near
from allod.admission.detect.labels import CARD, NUMBER, OTHERS, PHONE, PHONE_VERB
from allod.admission.detect.model import Hit
from allod.admission.detect.phones import called_number, international, national_form, national_possible
from allod.admission.detect.rules import GENERAL, Rule
from allod.admission.detect.rules_europe import EAST, NORTH, WEST
from allod.admission.detect.rules_world import AMERICA, ASIA, DOCUMENTS, SOUTH

if TYPE_CHECKING:
    from collections.abc import Iterator

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
_CENTS: Final = re.compile(r",[0-9]{1,2}(?![0-9-])")
MAX_CHARS, MAX_RUN, CARD_DIGITS = 20, 12, 12
SOUP_GROUPS: Final = 48
"""More digits than that in a row, one by one, are a matrix: only a label makes an identifier of them."""
LABELLED, HEADED, AFTER, CHAINED, GENERALLY, FORM, ALONE = 100.0, 95.0, 80.0, 75.0, 70.0, 50.0, 45.0

RULES: Final[tuple[Rule, ...]] = (*WEST, *NORTH, *EAST, *AMERICA, *ASIA, *SOUTH, *DOCUMENTS)


class _Shape(msgspec.Struct, frozen=True):
    """The rules of one compact form.

    Attributes:
        by_type: all of them.
        checked: those with an arithmetic check.
        alone: those whose number needs no label.
        formed: those with a spelling that needs none; ``forms`` matches any of these spellings.

    """

    by_type: dict[str, Rule]
    checked: tuple[Rule, ...]
    alone: tuple[Rule, ...]
    formed: tuple[Rule, ...]
    forms: re.Pattern[str] | None


def _by_shape() -> dict[str, _Shape]:
    table: dict[str, list[Rule]] = defaultdict(list)
    for one in RULES:
        for shape in one.shapes:
            table[shape].append(one)
    return {
        shape: _Shape(
            {one.type: one for one in rules},
            tuple(one for one in rules if one.checked),
            tuple(one for one in rules if one.alone),
            tuple(one for one in rules if one.form is not None),
            _either([one.form.pattern for one in rules if one.form is not None]),
        )
        for shape, rules in table.items()
    }


def _either(forms: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(f"(?:{form})" for form in dict.fromkeys(forms))) if forms else None


_BY_SHAPE: Final = _by_shape()


def lexicon() -> Lexicon:
    """Return the labels of everything this module reads; built once per detector."""
    names = {one.type: one.names for one in RULES}
    return Lexicon(
        {
            **names,
            _GENERAL: GENERAL,
            _PHONE: PHONE,
            _VERB: PHONE_VERB,
            _NUMBER: NUMBER,
            _CARD: CARD,
            OTHER: OTHERS,
        }
    )


_GENERAL, _PHONE, _VERB, _NUMBER, _CARD = "general", "phone", "verb", "number", "card"


def numbers(text: str, taken: list[Hit], known: Lexicon) -> list[Hit]:
    """Find identifiers, cards and phones in a text.

    Args:
        text: the text of a view.
        known: the labels (``lexicon``).
        taken: places already read as something else (IBANs, e-mails, secrets): nothing is found inside them.

    """
    out: list[Hit] = []
    spans = [(hit.start, hit.end) for hit in taken]
    found = [
        cluster
        for cluster in clusters(text)
        if not (spans and any(s < cluster.end and cluster.start < e for s, e in spans))
    ]
    if not found:
        return out
    labels = known.read(text, [(cluster.start, cluster.end) for cluster in found])
    for cluster in found:
        places = _Places(text, labels, out)
        options = _identifiers(cluster, places)
        size = cluster.end - cluster.start
        if not any(hit.score >= LABELLED - 1 and hit.end - hit.start >= size for hit in options):
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


def _runs(cluster: Cluster) -> Iterator[tuple[int, int, str]]:
    """Yield (first group, last group, compact text) of every run of groups of a plausible length."""
    groups, text = cluster.groups, cluster.text
    if len(groups) == 1:
        start, end = groups[0]
        if MIN_CHARS <= end - start <= MAX_CHARS:
            yield 0, 0, text[start:end]
        return
    longest = MAX_CHARS if len(groups) > MAX_RUN and cluster.apart() else MAX_RUN
    for first in range(len(groups)):
        compact = ""
        for last in range(first, min(len(groups), first + longest)):
            start, end = groups[last]
            compact += text[start:end]
            if len(compact) > MAX_CHARS:
                break
            if len(compact) >= MIN_CHARS:
                yield first, last, compact


def _identifiers(cluster: Cluster, places: _Places) -> list[Hit]:
    groups = cluster.groups
    size = groups[-1][1] - groups[0][0]
    if 1 < len(groups) <= MAX_RUN and size <= MAX_CHARS + len(groups):
        compact = "".join([cluster.text[start:end] for start, end in groups])
        whole = _read(cluster, places, 0, len(groups) - 1, compact, soup=False)
        if whole and whole[0].score >= FORM:
            return whole
    soup = len(groups) > SOUP_GROUPS and cluster.apart()
    out: list[Hit] = []
    for first, last, compact in _runs(cluster):
        out += _read(cluster, places, first, last, compact, soup=soup)
    return out


def _read(cluster: Cluster, places: _Places, first: int, last: int, compact: str, *, soup: bool) -> list[Hit]:
    """Return the readings of one run of groups as an identifier or a card."""
    text, groups = cluster.text, cluster.groups
    shape = _BY_SHAPE.get(compact.translate(_SHAPE))
    sure = card(compact) if len(compact) >= CARD_DIGITS and compact.isdecimal() else 0.0
    evident = not soup and (sure or (shape is not None and (shape.alone or shape.forms)))
    if not evident and not (shape is not None and places.may(shape, groups[first][0])):
        return []
    left, right = cluster.tight_left(first), cluster.tight_right(last)
    if (first and left) or (right and last + 1 < len(groups)):
        return []
    start, end = groups[first][0], groups[last][1]
    if text[end : end + 1] == ")" and "(" in text[start:end]:
        end += 1
    place = places.at(start, end)
    glued = left or right or (first > 0 and groups[first - 1][1] == start)
    found = place.identifiers(shape, compact.upper(), glued=glued) if shape is not None else []
    if sure:
        score = place.card(sure, glued=glued)
        if score:
            found.insert(0, Hit(start, end, "CARD", score))
    places.note(found)
    return found


class _Places:
    """The places of one cluster; what stands around each is looked up once."""

    __slots__ = ("_before", "_known", "_labels", "_text", "phones")

    def __init__(self, text: str, labels: Labels, before: list[Hit]) -> None:
        self._text, self._labels, self._before = text, labels, before[-1:]
        self.phones = (
            not labels.keys.isdisjoint((_PHONE, _VERB, _NUMBER))
            or "\n" in text
            or (len(before) > 0 and before[-1].type == "PHONE")
        )
        self._known: dict[tuple[int, int], _Place] = {}

    def note(self, found: list[Hit]) -> None:
        """Remember what was read in this cluster: the next number may continue the list."""
        self._before += [hit for hit in found if hit.score >= GENERALLY - 5]

    def may(self, shape: _Shape, start: int) -> bool:
        """Tell whether a label anywhere near, or the finding before, speaks for a rule of a shape."""
        keys = self._labels.keys
        if "\n" in self._text:
            keys |= self._labels.cell(start)
        return (
            (_GENERAL in keys and len(shape.checked) > 0)
            or not keys.isdisjoint(shape.by_type)
            or any(hit.type in shape.by_type for hit in self._before[-MAX_BACK:])
        )

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
            return HEADED
        return AFTER if key in near.after and near.other[0] == NEVER and not self.refused else 0.0

    def identifiers(self, shape: _Shape, compact: str, *, glued: bool) -> list[Hit]:
        """Return every reading as an identifier that passes its check."""
        out: list[Hit] = []
        near, by_type = self.near, shape.by_type

        def add(one: Rule, score: float) -> None:
            if one.check(compact):
                out.append(Hit(self.start, self.end, one.type, score))

        for key in near.all_keys():
            one = by_type.get(key)
            if one is not None and (score := self.labelled(key)):
                add(one, score)
        if out:
            return out
        general = self.labelled(_GENERAL) if _GENERAL in near.all_keys() else 0.0
        chain = self.chained()
        if chain in by_type:
            add(by_type[chain], CHAINED)
        if general and not self.refused:
            for one in shape.checked:
                add(one, GENERALLY + (general - LABELLED) / 10)
        elif not glued and (shape.alone or shape.forms) and not self.refused:
            out += self._evident(shape, compact)
        return out

    def _evident(self, shape: _Shape, compact: str) -> list[Hit]:
        """Return the readings that need no label, or only one that comes after."""
        start, end = self.start, self.end
        if self.near.other[0] != NEVER:
            after = self.near.after
            named = [one for one in shape.alone if one.type in after and one.check(compact)]
            return [Hit(start, end, one.type, AFTER) for one in named]
        raw = self.text[start:end]
        out = []
        if shape.forms is not None and shape.forms.fullmatch(raw):
            out = [
                Hit(start, end, one.type, FORM)
                for one in shape.formed
                if one.form is not None and one.form.fullmatch(raw) and one.check(compact)
            ]
        if raw.isalnum() and (raw.isupper() or raw.isdecimal()):
            out += [Hit(start, end, one.type, ALONE) for one in shape.alone if one.check(compact)]
        return out

    def chained(self) -> str:
        """Return the type of the finding that this place follows in a list, or an empty string."""
        if self._chain is None:
            self._chain = ""
            for last in reversed(self.before[-MAX_BACK:]):
                if last.end <= self.start:
                    near = self.start - last.end <= MAX_LINK and not self.refused
                    if near and _LINKS.fullmatch(self.text, last.end, self.start):
                        self._chain = last.type
                    break
        return self._chain

    def card(self, sure: float, *, glued: bool) -> float:
        """Return how sure a card is: ``sure`` is what its number alone says."""
        best = self.labelled(_CARD) - (0.06 if sure < ALONE else 0.0)
        if best > 0 or glued or self.near.other[0] != NEVER or self.refused:
            return max(best, 0.0)
        return CHAINED if self.chained() == "CARD" else sure if sure >= ALONE else 0.0

    def phone(self, alone: float | None) -> float:
        """Return how sure a phone is; ``alone`` is what its spelling alone says, None for not looked at."""
        noun, verb = self.labelled(_PHONE), self.labelled(_VERB)
        best = max(noun, verb)
        if best and (alone or self._phone_like(best, noun=noun > 0)):
            return 0.0 if self.refused else max(best, alone or 0.0)
        if alone is None:
            alone = national_form(self.text[self.start : self.end])
        if not alone:
            if self.chained() == "PHONE":
                return CHAINED - 1
            alone = CALLED if self._called_number() else 0.0
        if self.refused or not alone:
            return 0.0
        if best or alone >= INTERNATIONAL:
            return max(best, alone)
        return alone if self._nothing_else() else 0.0

    def _called_number(self) -> bool:
        """Tell whether it is called a number and looks like a phone's."""
        score = self.labelled(_NUMBER)
        if score < LABELLED - 1 or round((LABELLED - score) * 1000) > ADJACENT_CHARS:
            return False
        before = self.text[max(0, self.start - NEAR_CHARS) : self.start].lower()
        return self._nothing_else() and called_number(self.text[self.start : self.end], before)

    def _nothing_else(self) -> bool:
        """Tell whether no word, before or after, calls the number something that is nobody's."""
        return self.near.other[0] == NEVER and OTHER not in self.near.after

    def _phone_like(self, score: float, *, noun: bool) -> bool:
        """Tell whether a short plain number can be a phone: written in groups, or called one right before."""
        raw = self.text[self.start : self.end]
        digits = sum(c.isdigit() for c in raw)
        if digits >= PLAIN_DIGITS or raw[0] == "+" or ")" in raw[:-1]:
            return True
        separators = sum(c in " -./" for c in raw)
        near = score < LABELLED - 1 or round((LABELLED - score) * 1000) <= NEAR_CHARS
        return "-" in raw or separators > 1 or (near and (noun or separators > 0))


PLAIN_DIGITS, NEAR_CHARS, ADJACENT_CHARS, CALLED = 9, 14, 8, 42.0
MAX_LINK, MAX_BACK = 16, 6
INTERNATIONAL: Final = 90.0
"""A number with + and a country code speaks for itself."""


def _phones(cluster: Cluster, places: _Places) -> list[Hit]:
    text, groups = cluster.text, cluster.groups
    out: list[Hit] = []
    if len(groups) == 1 and not places.phones and text[cluster.start - 1 : cluster.start] != "+":
        return out
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
        if national is None or not _stands(cluster, first, national):
            first += 1
            continue
        if text[start - 1 : start] == "(":
            start -= 1
        end = groups[national][1]
        score = places.at(start, end).phone(None)
        if score:
            out.append(Hit(start, _with_extension(text, end), "PHONE", score))
            first = national + 1
        else:
            first += 1
    return out


def _stands(cluster: Cluster, first: int, last: int) -> bool:
    """Tell whether a run is no part of something longer; a label may hang on it (``123 4567-Fax``)."""
    if not cluster.tight_left(first) and not cluster.tight_right(last):
        return True
    return _LABEL_GLUED.match(cluster.text, cluster.groups[last][1]) is not None


_LABEL_GLUED: Final = re.compile(r"[-/](?:[A-Za-z]{3,}|x[0-9])|(?:x|ext)[0-9]")
_EXTENSION: Final = re.compile(r"\s?(?:x|ext\.?|extension|Durchwahl|DW|poste)\s?[0-9]{1,6}(?![0-9])")


def _with_extension(text: str, end: int) -> int:
    found = _EXTENSION.match(text, end)
    return found.end() if found else end
