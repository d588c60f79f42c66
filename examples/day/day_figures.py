"""The figures of a day: sums over stretches of it, and what is drawn and tabled of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

import msgspec
from day_fleet import LOSS, Stream
from day_reading import Moved, Row

BANDS: Final = ((0, 8), (8, 10), (10, 13), (13, 15), (15, 17), (17, 18), (18, 20), (20, 24))
_Z: Final = 1.96
_SHOWN: Final = 0.005


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A whole day.

    Attributes:
        said: where the outcomes come from. rows: its requests. moved: what moved, from the log.
        compared: the same requests by each objective. happens: what was done to the deployments, by hour.
        leaves: how many ends and notices were read. seconds: how long it took; ``stood_s``: of them, while
            the day stood still. billed: USD by the servers' own count; ``logged``: by the log.

    """

    said: str
    rows: list[Row]
    moved: list[Moved]
    compared: list[tuple[str, list[Row]]]
    happens: dict[int, str]
    leaves: int
    seconds: float
    stood_s: float
    billed: Decimal
    logged: Decimal

    @property
    def simulated(self) -> bool:
        """Whether the outcomes are not recorded ones."""
        return self.said.startswith("SIMULATED")


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """Requests added up; money in USD, qualities as means over those answered, ``half`` of a 95 % interval.

    ``reference`` is what the reference would have cost for those that were answered; ``change`` the mean
    difference of quality to it, by pairs.
    """

    n: int
    answered: int
    spent: float
    checks: float
    audits: float
    reference: float
    right: float
    reference_right: float
    change: float
    half: float

    @property
    def saved(self) -> float:
        """What was saved, after checks and audits, as a part of what the reference would have cost."""
        return 1 - (self.spent + self.audits) / self.reference if self.reference else 0.0


def sums(rows: Iterable[Row]) -> Sums:
    """Add requests up."""
    every = list(rows)
    told = [one for one in every if one.answered]
    n = max(1, len(told))
    changes = [one.right - one.reference_right for one in told]
    mean = sum(changes) / n
    variance = sum((x - mean) ** 2 for x in changes) / max(1, n - 1)
    return Sums(
        n=len(every),
        answered=len(told),
        spent=sum(one.spent for one in every),
        checks=sum(one.checks for one in every),
        audits=sum(one.audit for one in every),
        reference=sum(one.reference for one in told),
        right=sum(one.right for one in told) / n,
        reference_right=sum(one.reference_right for one in told) / n,
        change=mean,
        half=_Z * math.sqrt(variance / n),
    )


def of(page: Page, stream: Stream, first: float = 0, last: float = 24) -> list[Row]:
    """Return a stream's requests of some hours, in order."""
    return [one for one in page.rows if one.stream == stream.name and first <= one.at < last]


def of_all(page: Page, first: float, last: float) -> list[Row]:
    """Return all requests of some hours, in order."""
    return [one for one in page.rows if first <= one.at < last]


def under_rule(page: Page, stream: Stream) -> list[Row]:
    """Return the requests that met a rule in force, whether or not they were answered."""
    return [one for one in of(page, stream) if one.rule not in {"reference", "none"}]


def kept(page: Page, stream: Stream) -> Sums:
    """Add up the requests that met a rule in force."""
    return sums(under_rule(page, stream))


def alone(rows: Sequence[Row]) -> float:
    """Return the share of those answered that were answered without the reference."""
    told = [one for one in rows if one.answered]
    return sum(one.by != one.against for one in told) / max(1, len(told))


def worse(rows: Iterable[Row]) -> int:
    """Count answers that were wrong where the reference's was right."""
    return sum(one.answered and one.right < one.reference_right for one in rows)


def state(row: Row) -> str:
    """Say in a word what a request met: failed, a rule, blind, or the reference because nothing is proven."""
    if not row.answered:
        return "unanswered"
    if row.rule not in {"reference", "none"}:
        return "rule"
    return "blind" if row.why == "blind" else "reference"


def states(rows: Sequence[Row]) -> str:
    """Say what requests met, in words with shares."""
    names = {"blind": "reference (set aside)", "unanswered": "nobody"}
    found = Counter(state(one) for one in rows)
    shares = [(names.get(name, name), n / len(rows)) for name, n in found.most_common()]
    return ", ".join(f"{name} {share:.0%}" for name, share in shares if share >= _SHOWN)


def loss(stream: Stream) -> float:
    """Return what may be lost on average."""
    return LOSS[stream.task]


def last_bound(rows: Sequence[Row]) -> tuple[float, int]:
    """Return the bound that the last receipt of these stated, and its audits."""
    told = [one for one in rows if one.of]
    return (told[-1].bound, told[-1].n) if told else (-1.0, 0)
