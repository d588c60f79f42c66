"""What a number of right answers may claim: exact intervals, cost per success, paired differences.

Intervals are two-sided at 95 % unless said otherwise. Cases are taken as independent: paraphrases or samples
of one case are not, so repeats of a case are averaged first and the case counts once.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.probability import beta_below, beta_quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIDENCE: Final = 0.95
_HALVINGS: Final = 30
_Z: Final = 1.959963984540054


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate and its bounds."""

    value: float
    low: float
    high: float


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment on the cases of one task.

    ``n`` counts the cases that were answered or failed; ``refused`` those that law or limits kept from it,
    which are not in ``n``. A cost per success has no upper bound while the lower bound of success is zero.
    """

    n: int
    successes: float
    refused: int
    failed: int
    success: Interval
    cost_usd: Decimal
    cost_per_success_usd: Decimal | None
    cost_per_success_high_usd: Decimal | None


def binomial(successes: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Return the exact interval of a proportion (Clopper and Pearson, 1934).

    Raises:
        ValueError: not 0 <= successes <= n with n > 0.

    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} of {n} is no proportion")
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else beta_quantile(tail, successes, n - successes + 1)
    high = 1.0 if successes == n else beta_quantile(1 - tail, successes + 1, n - successes)
    return Interval(value=successes / n, low=low, high=high)


def mean(values: Sequence[float]) -> Interval:
    """Return the mean of values in [0, 1] with its interval.

    Exact where all are 0 or 1; else Wilson's interval of the mean, which errs to the wide side: values
    between 0 and 1 vary at most as much as zeros and ones of the same mean.

    Raises:
        ValueError: there are none, or one lies outside.

    """
    if not values or not all(0 <= v <= 1 for v in values):
        raise ValueError("expected values from 0 to 1")
    if all(v in {0.0, 1.0} for v in values):
        return binomial(round(sum(values)), len(values))
    n, p = len(values), math.fsum(values) / len(values)
    centre, spread = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n), _Z / (1 + _Z**2 / n)
    half = spread * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n * n))
    return Interval(value=p, low=max(0.0, centre - half), high=min(1.0, centre + half))


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Return the mean difference on the same cases, with the interval of a paired t test's normal limit.

    With no difference anywhere the bounds are those of never having seen one in n cases (rule of three).

    Raises:
        ValueError: none, or not as many.

    """
    if not ours or len(ours) != len(theirs):
        raise ValueError("expected as many of both")
    n = len(ours)
    gaps = [a - b for a, b in zip(ours, theirs, strict=True)]
    centre = math.fsum(gaps) / n
    least = 1 - 0.05 ** (1 / n)
    spread = math.sqrt(math.fsum((g - centre) ** 2 for g in gaps) / max(1, n - 1) / n)
    half = max(_Z * spread, least)
    return Interval(value=centre, low=max(-1.0, centre - half), high=min(1.0, centre + half))


def score(values: Sequence[float], cost_usd: Decimal, *, refused: int = 0, failed: int = 0) -> Score:
    """Score one deployment: the success of each case (failures are 0), and what all of them cost together."""
    if not values:
        unknown = Interval(value=0.0, low=0.0, high=1.0)
        return Score(
            n=0, successes=0.0, refused=refused, failed=failed, success=unknown, cost_usd=cost_usd,
            cost_per_success_usd=None, cost_per_success_high_usd=None,
        )  # fmt: skip
    success = mean(values)

    def each(rate: float) -> Decimal | None:
        if rate <= 0:
            return None
        return (cost_usd / len(values) / Decimal(repr(rate))).quantize(Decimal("1e-12")).normalize()

    return Score(
        n=len(values),
        successes=math.fsum(values),
        refused=refused,
        failed=failed,
        success=success,
        cost_usd=cost_usd,
        cost_per_success_usd=each(success.value),
        cost_per_success_high_usd=each(success.low),
    )


def corrected(observed: Interval, sensitivity: Interval, specificity: Interval) -> Interval:
    """Correct a rate a fallible judge found by its errors (Rogan and Gladen, 1978).

    The bounds take each of the three at its worst: conservative, so that a judge's doubt is not lost. A judge
    no better than chance leaves everything open.
    """

    def rate(seen: float, sens: float, spec: float) -> float | None:
        youden = sens + spec - 1
        return None if youden <= 0 else min(1.0, max(0.0, (seen + spec - 1) / youden))

    value = rate(observed.value, sensitivity.value, specificity.value)
    ends = [
        rate(seen, sens, spec)
        for seen in (observed.low, observed.high)
        for sens in (sensitivity.low, sensitivity.high)
        for spec in (specificity.low, specificity.high)
    ]
    known = [end for end in ends if end is not None]
    if value is None or len(known) < len(ends):
        return Interval(value=observed.value if value is None else value, low=0.0, high=1.0)
    return Interval(value=value, low=min(known), high=max(known))


def cases_worth(rate: Interval, n: int) -> float:
    """Return how many exactly checked cases, at most ``n``, say no more than a rate with these bounds.

    That is, whose own lower bound is no higher (Clopper and Pearson, for a count that may be a fraction).
    """
    if n <= 0 or rate.low <= 0 or rate.value <= 0:
        return 0.0
    few, many = 0.0, float(n)

    def says_more(m: float) -> bool:
        """Tell whether the lower bound of so many cases lies above that of the rate."""
        return beta_below(rate.low, rate.value * m, (1 - rate.value) * m + 1) < (1 - CONFIDENCE) / 2

    if not says_more(many):
        return many
    for _ in range(_HALVINGS):
        middle = (few + many) / 2
        few, many = (few, middle) if says_more(middle) else (middle, many)
    return few
