"""What estimates are worth, on requests that they were not fitted to.

Requests are dealt into folds by what is asked (equal questions into one fold, however often they were asked),
and each fold is estimated by a fit to the others. Two figures per task: calibration error (the field's: mean
predicted against mean observed over ten bins of equal width, weighed by size) and the Brier score (mean
squared error), the latter beside that of the task's own rate per deployment, from the same folds. An estimate
that predicts no better than the rate of its task, by more than chance, says nothing about a request, and is
not to be used.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Final

import msgspec

from allod.routing.estimate import Estimator
from allod.routing.evidence import UNITS, Evidence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from allod.routing.evidence import Remembered
    from allod.routing.learn import Prior

FOLDS: Final = 5
MANY: Final = 2000
"""From so many requests on, two folds are dealt instead of five: a fit takes seconds."""
FEW: Final = 2
BINS: Final = 10
RATE_WORTH: Final = 2.0
"""Outcomes that one half is worth to a task's own rate."""
_Z95: Final = 1.6448536
_Row = tuple[float, float, float]
"""Estimated, the task's own rate, observed."""


class Worth(msgspec.Struct, frozen=True, kw_only=True):
    """What estimates of one task were worth, out of fold.

    Attributes:
        task: its name. requests, outcomes: how many were estimated; an outcome is of one deployment.
        calibration_error: 0 to 1; by chance alone a perfect one is not 0.
        brier: mean squared error of the estimates; ``brier_of_rate``: that of the task's own rates.
        gain_low: what the estimates' error is less by, at least, with 95 % (normal approximation).

    """

    task: str
    requests: int
    outcomes: int
    calibration_error: float
    brier: float
    brier_of_rate: float
    gain_low: float

    @property
    def tells(self) -> bool:
        """Whether the estimates were better than the task's own rates, by more than chance."""
        return self.gain_low > 0


def worth(
    evidence: Evidence, priors: Sequence[Prior] = (), between: Callable[[], None] = lambda: None
) -> tuple[Worth, ...]:
    """Estimate all that is remembered out of fold, and say what that was worth, by task.

    ``between`` is called before each fold: what it raises ends it. Nothing is returned of a task of which
    fewer than two folds hold a judged request.
    """
    remembered = [one for one in evidence.all() if any(quality >= 0 for _, quality, _ in one.outcomes)]
    folds = FEW if len(remembered) >= MANY else FOLDS
    dealt = [_fold(one, folds) for one in remembered]
    rows: dict[str, list[list[_Row]]] = {}
    seen: dict[str, set[int]] = {}
    for fold in range(folds):
        between()
        near = [one for one, at in zip(remembered, dealt, strict=True) if at != fold]
        far = [one for one, at in zip(remembered, dealt, strict=True) if at == fold]
        if not near or not far:
            continue
        estimator, rates = _fitted(near, evidence, priors), _rates(near)
        for one in far:
            task = one.features.task
            judged = {name: quality / UNITS for name, quality, _ in one.outcomes if quality >= 0}
            found = estimator.predict(one.features, judged)
            rows.setdefault(task, []).append(
                [
                    (found[name].success, rates.get((task, name), 0.5), quality)
                    for name, quality in judged.items()
                ]
            )
            seen.setdefault(task, set()).add(fold)
    return tuple(_worth(task, rows[task]) for task in sorted(rows) if len(seen[task]) > 1)


def calibration_error(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the calibration error of (predicted, observed) pairs over ten bins of equal width."""
    bins: dict[int, list[float]] = {}
    for predicted, observed in pairs:
        bins.setdefault(min(BINS - 1, int(predicted * BINS)), []).append(predicted - observed)
    return sum(abs(sum(left)) for left in bins.values()) / len(pairs)


def _worth(task: str, requests: list[list[_Row]]) -> Worth:
    rows = [row for one in requests for row in one]
    n, m = len(rows), len(requests)
    gains = [sum((rate - y) ** 2 - (p - y) ** 2 for p, rate, y in one) for one in requests]
    mean = sum(gains) / m
    spread = math.sqrt(sum((gain - mean) ** 2 for gain in gains) / max(1, m - 1) / m)
    return Worth(
        task=task,
        requests=m,
        outcomes=n,
        calibration_error=calibration_error([(p, y) for p, _, y in rows]),
        brier=sum((p - y) ** 2 for p, _, y in rows) / n,
        brier_of_rate=sum((rate - y) ** 2 for _, rate, y in rows) / n,
        gain_low=(mean - _Z95 * spread) * m / n,
    )


def _fold(one: Remembered, folds: int) -> int:
    of = one.features
    asked = of.task.encode() + of.buckets + of.counts + of.shape
    return hashlib.blake2b(asked, digest_size=2, person=b"allod-held-out").digest()[0] % folds


def _fitted(near: Iterable[Remembered], like: Evidence, priors: Sequence[Prior]) -> Estimator:
    evidence = Evidence(like.requests, like.half_life_days)
    for one in near:
        evidence.put(one)
    estimator = Estimator(evidence, priors)
    estimator.fit()
    return estimator


def _rates(near: Iterable[Remembered]) -> dict[tuple[str, str], float]:
    sums: dict[tuple[str, str], list[float]] = {}
    for one in near:
        for name, quality, _ in one.outcomes:
            if quality >= 0:
                row = sums.setdefault((one.features.task, name), [0.5 * RATE_WORTH, RATE_WORTH])
                row[0] += quality / UNITS
                row[1] += 1
    return {key: good / n for key, (good, n) in sums.items()}
