"""What is known of how well a deployment does a task: own evaluations first, published scores second.

Success is a Beta variable. Before anything was measured its prior is made of what was declared and published,
each worth a few observations; the organisation's own evaluations then count case by case, so that some
dozens of them outweigh any publication.

A published score enters only through its audit (``Published``): what harness, which share of labels is known
to be wrong, whether the model may have seen the test, what was not published. Each doubt makes the score
worth less, and known label errors correct it: where a share e of labels is wrong a right answer is marked
wrong, so a score s stands for a success between s and s + e; the middle is taken and worth less by 2 e.
"""

from __future__ import annotations

from datetime import date
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from allod.domain.fleet import CapabilityEvidence
from allod.domain.probability import beta_quantile

if TYPE_CHECKING:
    from collections.abc import Iterable

DECLARED_WORTH: Final = 8.0
"""Observations a declared figure counts for beside measured ones."""
PUBLISHED_WORTH: Final = 12.0
"""Observations a published score without any doubt counts for, at full relevance."""
MOST_PRIOR: Final = 24.0
TAIL: Final = 0.05
"""One-sided: the chance that success lies below ``Capability.low``."""
_FLAT: Final = 1.0
_PLACES: Final = Decimal("0.0001")
Contamination = Literal["excluded", "unknown", "suspected", "measured"]
_LEFT_BY_CONTAMINATION: Final[dict[Contamination, float]] = {
    "excluded": 1.0,
    "unknown": 0.6,
    "suspected": 0.3,
    "measured": 0.1,
}


class Published(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The audit of one published score.

    Attributes:
        benchmark, model: what was scored on what.
        score: share of items solved, 0 to 1.
        items: how many items, or None if not published.
        harness: the program and version that scored it, or None if not published.
        label_errors: share of items whose label is known to be wrong; None for not examined.
        contamination: whether the model may have seen the items.
        withheld: what was not published (prompts, settings, attempts, single results), each a doubt.
        relevance: how near the benchmark is to the task, 0 to 1, as the organisation judges.
        source: where it is published; ``retrieved`` on which day (YYYY-MM-DD).

    """

    benchmark: str
    model: str
    score: Decimal
    source: str
    retrieved: str
    items: int | None = None
    harness: str | None = None
    label_errors: Decimal | None = None
    contamination: Contamination = "unknown"
    withheld: tuple[str, ...] = ()
    relevance: Decimal = Decimal("0.5")


class Doubt(msgspec.Struct, frozen=True):
    """A published score after its audit: the success it stands for and how many observations it is worth."""

    success: float
    worth: float
    why: tuple[str, ...]


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What own evaluations found: successes and failures, in cases; fractions where a judge was corrected.

    ``evaluations`` are the digests they come from, ``at`` the time of the newest (RFC 3339).
    """

    successes: float
    failures: float
    evaluations: tuple[str, ...]
    at: str


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one evaluation found of a deployment on a task, and from which day on that is too old to count."""

    successes: float
    failures: float
    evaluation: str
    at: str
    until: date


class Capability(msgspec.Struct, frozen=True, kw_only=True):
    """How likely a deployment solves a request of a task.

    ``value`` is the expected success, ``low`` what it exceeds with 95 %, ``high`` what it stays below with
    95 %; ``basis`` says on what that rests, ``n`` how many cases were measured.
    """

    value: float
    low: float
    high: float
    n: float
    basis: Literal["measured", "published", "declared", "unknown"]
    evaluations: tuple[str, ...] = ()


def audit(one: Published) -> Doubt:
    """Turn a published score into what it is worth, with every reason that made it less."""
    worth, why = PUBLISHED_WORTH * float(one.relevance), list[str]()
    score = float(one.score)
    if one.relevance < 1:
        why.append(f"relevance {one.relevance:f}")
    if one.harness is None:
        worth *= 0.5
        why.append("harness not published")
    left = _LEFT_BY_CONTAMINATION[one.contamination]
    if left < 1:
        worth *= left
        why.append(f"contamination {one.contamination}")
    for what in one.withheld:
        worth *= 0.7
        why.append(f"not published: {what}")
    if one.items is None:
        worth *= 0.7
        why.append("number of items not published")
    else:
        worth = min(worth, float(one.items))
    if one.label_errors is None:
        worth *= 0.8
        why.append("labels not examined")
    else:
        wrong = float(one.label_errors)
        score = min(1.0, score + wrong / 2)
        worth *= max(0.0, 1 - 2 * wrong)
        if wrong:
            why.append(f"{one.label_errors:f} of labels wrong: score moved to {score:.3f}")
    return Doubt(score, worth, tuple(why))


def capability(
    declared: Decimal | None, published: Iterable[Published], counted: Counted | None
) -> Capability:
    """Join what is declared, published and measured.

    With nothing but a declared figure that figure is returned as it is, without bounds of its own: ``low``
    and ``high`` equal it. With nothing at all the basis is ``unknown``.
    """
    doubts = [audit(one) for one in published]
    doubts = [one for one in doubts if one.worth > 0]
    if counted is None and not doubts:
        if declared is None:
            return Capability(value=0.0, low=0.0, high=1.0, n=0, basis="unknown")
        value = float(declared)
        return Capability(value=value, low=value, high=value, n=0, basis="declared")
    prior = [(one.success, one.worth) for one in doubts]
    if declared is not None:
        prior.append((float(declared), DECLARED_WORTH))
    total = sum(worth for _, worth in prior)
    scale = min(1.0, MOST_PRIOR / total) if total else 0.0
    a = _FLAT + scale * sum(success * worth for success, worth in prior)
    b = _FLAT + scale * sum((1 - success) * worth for success, worth in prior)
    if counted is not None:
        a, b = a + counted.successes, b + counted.failures
    return Capability(
        value=a / (a + b),
        low=beta_quantile(TAIL, a, b),
        high=beta_quantile(1 - TAIL, a, b),
        n=0 if counted is None else counted.successes + counted.failures,
        basis="published" if counted is None else "measured",
        evaluations=() if counted is None else counted.evaluations,
    )


def evidence(
    declared: Decimal | None, published: Iterable[Published], findings: Iterable[Finding], today: date
) -> tuple[CapabilityEvidence, ...]:
    """Return what a fleet carries of a deployment and a task: one entry per stretch of days, in order.

    Evaluations drop out one by one as they become too old, and each time the rest is joined anew; where
    nothing but a declared figure is left there is no further entry.
    """
    known = list(published)
    left = [one for one in findings if one.until > today]
    out: list[CapabilityEvidence] = []
    while True:
        until = min((one.until for one in left), default=None)
        joined = capability(declared, known, _counted(left))
        if joined.basis in {"declared", "unknown"}:
            return tuple(out)
        out.append(_written(joined, until))
        if until is None:
            return tuple(out)
        left = [one for one in left if one.until > until]


def _counted(findings: list[Finding]) -> Counted | None:
    if not findings:
        return None
    return Counted(
        successes=sum(one.successes for one in findings),
        failures=sum(one.failures for one in findings),
        evaluations=tuple(dict.fromkeys(one.evaluation for one in findings)),
        at=max(one.at for one in findings),
    )


def _written(one: Capability, until: date | None) -> CapabilityEvidence:
    """Write it in decimals; bounds are rounded away from the value."""
    return CapabilityEvidence(
        value=Decimal(repr(one.value)).quantize(_PLACES, ROUND_HALF_EVEN),
        low=Decimal(repr(one.low)).quantize(_PLACES, ROUND_FLOOR),
        high=Decimal(repr(one.high)).quantize(_PLACES, ROUND_CEILING),
        basis="published" if one.basis == "published" else "measured",
        cases=Decimal(repr(one.n)).quantize(Decimal("0.1"), ROUND_FLOOR),
        evaluations=one.evaluations,
        until=until,
    )
