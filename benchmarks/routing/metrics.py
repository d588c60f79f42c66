"""The field's metrics of routing, each exactly as docs/routing.md defines it.

A pair is a weak and a strong model; ``score`` says how much a prompt wants the strong one. Qualities are
0..1, costs USD. Every array has one number per prompt. Prompts of equal score are taken in their given order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

BINS = 10


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Outcomes of two models on the same prompts."""

    weak: np.ndarray
    strong: np.ndarray
    weak_usd: np.ndarray
    strong_usd: np.ndarray

    def take(self, rows: np.ndarray) -> Pair:
        """Keep these prompts."""
        return Pair(
            weak=self.weak[rows], strong=self.strong[rows], weak_usd=self.weak_usd[rows],
            strong_usd=self.strong_usd[rows],
        )  # fmt: skip


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """Mean quality and cost when the first 0, 1, ... n prompts by descending score go to the strong model.

    ``strong_usd`` counts only what the strong one is paid.
    """

    share: np.ndarray
    quality: np.ndarray
    usd: np.ndarray
    strong_usd: np.ndarray


def curve(score: Array, pair: Pair) -> Curve:
    """Draw the curve of a router."""
    order = np.argsort(-score, kind="stable")
    n = len(order)

    def along(start: float, step: Array) -> Array:
        return np.concatenate([[start], start + np.cumsum(step[order]) / n])

    return Curve(
        share=np.arange(n + 1) / n,
        quality=along(float(pair.weak.mean()), pair.strong - pair.weak),
        usd=along(float(pair.weak_usd.mean()), pair.strong_usd - pair.weak_usd),
        strong_usd=along(0.0, pair.strong_usd),
    )


def pgr(of: Curve) -> Array:
    """Return the gap recovered, (Q(c) - Q_weak) / (Q_strong - Q_weak); NaN where there is none."""
    gap = of.quality[-1] - of.quality[0]
    return (of.quality - of.quality[0]) / gap if gap else np.full(len(of.share), np.nan)


def apgr(of: Curve) -> float:
    """Integral of PGR over c in [0, 1], by trapezoids; random is 0.5."""
    return float(np.trapezoid(pgr(of), of.share))


def cpt(of: Curve, x: float) -> float:
    """Smallest share of strong calls with PGR >= x."""
    reached = np.flatnonzero(pgr(of) >= x - 1e-12)
    return float(of.share[reached[0]]) if len(reached) else float("nan")


def saving(of: Curve, floor: float, *, strong_only: bool = False) -> float:
    """1 - min{C : Q >= Q_strong - floor} / C_strong, over all thresholds (in hindsight)."""
    usd = of.strong_usd if strong_only else of.usd
    fits = of.quality >= of.quality[-1] - floor - 1e-12
    return 1 - float(usd[fits].min()) / float(usd[-1])


def threshold(score: Array, pair: Pair, floor: float) -> float:
    """Pick the cheapest threshold that keeps the floor on these prompts; strong when score >= it."""
    of = curve(score, pair)
    fits = np.flatnonzero(of.quality >= of.quality[-1] - floor - 1e-12)
    best = int(fits[np.argmin(of.usd[fits])])
    ordered = np.sort(score)[::-1]
    return float("inf") if best == 0 else float(ordered[best - 1])


def deployed(score: Array, pair: Pair, at: float | Array) -> tuple[float, float, float]:
    """Use a threshold picked beforehand: (saving, quality change in points, its standard error in points)."""
    strong = score >= at
    usd = np.where(strong, pair.strong_usd, pair.weak_usd)
    change = np.where(strong, 0.0, pair.weak - pair.strong) * 100
    return (
        1 - float(usd.sum() / pair.strong_usd.sum()),
        float(change.mean()),
        float(change.std(ddof=1) / np.sqrt(len(change))),
    )


def aiq(of: Curve) -> float:
    """Area under the non-decreasing upper convex hull of (C, Q), over the range of costs."""
    order = np.lexsort((-of.quality, of.usd))
    hull: list[tuple[float, float]] = []
    best = -np.inf
    for x, y in zip(of.usd[order], of.quality[order], strict=True):
        if y <= best and x != order[0]:
            continue
        best = max(best, y)
        while len(hull) > 1 and _turns_up(hull[-2], hull[-1], (x, y)):
            hull.pop()
        hull.append((float(x), float(y)))
    low, high = float(of.usd.min()), float(of.usd.max())
    if high <= low:
        return float(best)
    xs, ys = [x for x, _ in hull], [y for _, y in hull]
    if xs[-1] < high:
        xs, ys = [*xs, high], [*ys, ys[-1]]
    return float(np.trapezoid(ys, xs)) / (high - low)


def _turns_up(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) >= (b[1] - a[1]) * (c[0] - a[0])


def regret(of: Curve, pair: Pair) -> float:
    """Quality of the oracle less the router's best."""
    return float(np.maximum(pair.weak, pair.strong).mean() - of.quality.max())


def oracle(pair: Pair) -> Array:
    """Score prompts by what the strong model gains, and among equals by what it costs more, cheapest last."""
    return (pair.strong - pair.weak) * 1e6 - (pair.strong_usd - pair.weak_usd)


def brier(probability: Array, quality: Array) -> float:
    """Mean squared error of predicted success."""
    return float(((probability - quality) ** 2).mean())


def ece(probability: Array, quality: Array, bins: int = BINS) -> float:
    """Return |mean predicted - mean observed| over bins of equal width, weighed by size."""
    at = np.minimum((probability * bins).astype(int), bins - 1)
    seen = np.bincount(at, minlength=bins)
    predicted = np.bincount(at, probability, bins)
    observed = np.bincount(at, quality, bins)
    return float(np.abs(predicted - observed).sum() / seen.sum())


def interval(statistic: object, n: int, draws: int = 400, seed: int = 1) -> tuple[float, float]:
    """Bootstrap a 95 % interval (percentiles): ``statistic`` maps row numbers to a number."""
    random = np.random.Generator(np.random.PCG64(seed))
    found = [statistic(random.integers(0, n, n)) for _ in range(draws)]  # type: ignore[operator]
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return float(low), float(high)
