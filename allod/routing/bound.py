"""A lower bound on a mean that may be looked at after every observation (anytime-valid), by betting.

Observed are paired differences of quality, rule minus reference, each in [-1, 1]. For every candidate mean m
on a fixed grid a gambler bets on "more than m"; his wealth is a test martingale where the true mean is m, so
it passes 1/alpha at some time with probability at most alpha (Ville's inequality). The bound is the largest
m that all smaller grid points are refuted with: it holds at all times at once, however often it was looked
at and whenever one stopped. Bets are those of I. Waudby-Smith and A. Ramdas, "Estimating means of bounded
random variables by betting" (JRSS B 2024, arXiv:2010.09686): half of the stake follows the predictable
plug-in (their section 4.1), half the growth-optimal fraction for what was seen so far, both capped.

The bound assumes that each difference, given those before it, has the same mean: audits drawn at random of
traffic that does not change. Drift is another detector's business (``allod.routing.floor``). Wealth is exact
to the last bits of floating addition and depends on the order of observations; what is kept is canonical, so
that a replay of the log gives the same bytes (I8). Nodes that audit apart multiply their wealths: ``merge``.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from allod.domain.errors import Invalid

_NEAR: Final = frozenset(n / 400 for n in range(-40, 41))
_ABOVE: Final = frozenset(n / 20 for n in range(20))
COARSE: Final = tuple(sorted({-n / 20 for n in range(1, 21)} | _ABOVE | _NEAR))
"""Candidate means of streams begun before there was ``GRID``: steps of 0.0025 to 0.1, of 0.05 beyond."""
GRID: Final = tuple(sorted({-n / 200 for n in range(20, 201)} | _ABOVE | _NEAR))
"""Candidate means: steps of 0.0025 from -0.1 to 0.1, of 0.005 below that, of 0.05 above it.

A bound is never more than one step below what a grid without steps would show. Above 0.1 that is coarse: a
rule better than its reference by ten points needs no finer bound.
"""
GRIDS: Final = {len(one): one for one in (COARSE, GRID)}
"""A stream says by the number of its wealths which grid it was begun on; it goes on there."""
_CAP: Final = 0.5
"""Of what a bet could lose at most, this share is staked: wealth never reaches zero."""
_NARROWEST: Final = 0.0025
"""Where a bet can lose nothing, it is taken to lose this: a step of the grid."""
_APART: Final = 1.0
"""The log of a mean of two wealths is less than this (ln 2) below that of the greater one."""
_PRIOR_N: Final = 4.0
_PRIOR_VARIANCE: Final = 0.0625


class Wealth(msgspec.Struct, frozen=True, kw_only=True):
    """What a lower bound remembers of a stream.

    Attributes:
        n: observations; ``total`` and ``squares``: their sum and sum of squares.
        plug_in, growth: log wealth of the two halves of the stake, by point of ``grid``.

    """

    n: int = 0
    total: float = 0.0
    squares: float = 0.0
    plug_in: tuple[float, ...] = (0.0,) * len(GRID)
    growth: tuple[float, ...] = (0.0,) * len(GRID)

    @property
    def grid(self) -> tuple[float, ...]:
        """The candidate means it holds wealth against (raises ``KeyError`` for a number nobody began on)."""
        return GRIDS[len(self.plug_in)]


def empty(points: int = len(GRID)) -> Wealth:
    """Begin a stream on the grid of so many points (one of ``GRIDS``)."""
    nothing = (0.0,) * points
    return Wealth(plug_in=nothing, growth=nothing)


def observe(wealth: Wealth, difference: float, alpha: float) -> Wealth:
    """Bet once more; ``alpha`` tunes the stakes only, the wealth is valid for any.

    Raises:
        Invalid: the difference is not in [-1, 1].

    """
    if not -1.0 <= difference <= 1.0:
        raise Invalid(
            f"a difference of quality is {difference!r}",
            "it lies between -1 and 1",
            "give qualities between 0 and 1",
        )
    n = wealth.n
    mean = wealth.total / (n + _PRIOR_N)
    squares = (wealth.squares + _PRIOR_N * _PRIOR_VARIANCE) / (n + _PRIOR_N)
    variance = max(squares - mean * mean, 1e-6)
    steady = math.sqrt(2 * math.log(1 / alpha) / (variance * (n + 1) * math.log(n + 2)))
    plug_in, growth = [], []
    for at, m in enumerate(wealth.grid):
        most = _CAP / (1 + m) if m > -1 else _CAP / _NARROWEST
        ahead = mean - m
        optimal = ahead / (variance + ahead * ahead)
        gain = difference - m
        plug_in.append(wealth.plug_in[at] + math.log1p(min(steady, most) * gain))
        growth.append(wealth.growth[at] + math.log1p(min(max(optimal, 0.0), most) * gain))
    return Wealth(
        n=n + 1,
        total=wealth.total + difference,
        squares=wealth.squares + difference * difference,
        plug_in=tuple(plug_in),
        growth=tuple(growth),
    )


def lower(wealth: Wealth, alpha: float) -> float:
    """Return the bound at level ``alpha``: the mean is at least this, with probability 1 - alpha, always.

    -1 where nothing is known. The bound may fall as well as rise; ``best`` bounds may be kept by the caller,
    since it holds at all times at once.
    """
    enough = math.log(1 / alpha)
    bound = -1.0
    for m, one, two in zip(wealth.grid, wealth.plug_in, wealth.growth, strict=True):
        high = max(one, two)
        if high < enough or (high < enough + _APART and _either(one, two) < enough):
            return bound
        bound = m
    return bound


def refutes(wealth: Wealth, mean: float, alpha: float) -> bool:
    """Say whether "the mean is at most this" is refuted at level ``alpha`` (by the next grid point above)."""
    above = next((at for at, m in enumerate(wealth.grid) if m >= mean - 1e-12), None)
    return above is not None and _either(wealth.plug_in[above], wealth.growth[above]) >= math.log(1 / alpha)


def merge(*some: Wealth) -> Wealth:
    """Put the audits of nodes together, each seen by one node only; in any order it comes to the same bits.

    The wealths multiply: each node's bets look at its own past only, so the product is a fair game in any
    interleaving of the streams. Sums are rounded once (Shewchuk's exact sum), so that their order is nothing.

    Raises:
        Invalid: they are not on one grid, or there is none.

    """
    if len({len(one.plug_in) for one in some}) != 1:
        raise Invalid("these streams are not on one grid", "one was begun by an older version", "")
    if len(some) == 1:
        return some[0]
    return Wealth(
        n=sum(one.n for one in some),
        total=math.fsum(one.total for one in some),
        squares=math.fsum(one.squares for one in some),
        plug_in=tuple(map(math.fsum, zip(*(one.plug_in for one in some), strict=True))),
        growth=tuple(map(math.fsum, zip(*(one.growth for one in some), strict=True))),
    )


def possible(wealth: Wealth) -> bool:
    """Say whether so many observations can have come to this: no sum and no wealth is beyond them."""
    n, room = wealth.n, 1e-6 * (wealth.n + 1)
    sums = n >= 0 and abs(wealth.total) <= n + room and -room <= wealth.squares <= n + room
    least, most = n * math.log1p(-_CAP) - room, n * math.log1p(_CAP * 2 / _NARROWEST) + room
    return sums and all(least <= one <= most for one in (*wealth.plug_in, *wealth.growth))


def _either(one: float, two: float) -> float:
    """Log of the mean of two wealths, given as logs."""
    high = max(one, two)
    return high + math.log((math.exp(one - high) + math.exp(two - high)) / 2)
