"""Beta and binomial probabilities, to the precision of a double, without a dependency."""

from __future__ import annotations

import math
from typing import Final

_STEPS: Final = 200
_TINY: Final = 1e-300


def beta_quantile(probability: float, a: float, b: float) -> float:
    """Return the point below which a Beta(a, b) variable lies with a probability, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if middle in {low, high}:
            break
        low, high = (middle, high) if beta_below(middle, a, b) < probability else (low, middle)
    return (low + high) / 2


def beta_below(x: float, a: float, b: float) -> float:
    """Return the probability that a Beta(a, b) variable lies below x (regularised incomplete beta).

    By its continued fraction (DLMF 8.17.22), evaluated with Lentz's method.
    """
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(x, a, b) / a
    return 1 - front * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    c, d = 1.0, _inverse(1 - (a + b) * x / (a + 1))
    out = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d, c = _inverse(1 + even * d), _away(1 + even / c)
        out *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d, c = _inverse(1 + odd * d), _away(1 + odd / c)
        step = d * c
        out *= step
        if abs(step - 1) < 1e-15:  # noqa: PLR2004 (the precision of a double)
            break
    return out


def _away(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def _inverse(value: float) -> float:
    return 1 / _away(value)
