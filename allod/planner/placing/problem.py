"""A placement problem as solvers see it: pools that could be bought, traffic, and what must be survived.

Law is not decided here. Every pair of traffic and place comes with the reasons against it (rule ids as the
gateway names them); a pair without reasons may be used. Loads and capacities are tokens of answers per
second.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_REPLICAS: Final = 100_000
EPSILON: Final = 1e-6


class Place(msgspec.Struct, frozen=True, order=True):
    """A model at a site: what traffic is sent to, whatever it runs on there."""

    site: str
    model: str


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """Replicas of one model on one kind of device at one site.

    ``capacity`` is what one replica serves, in tokens per second, at the pessimistic end of its interval;
    ``usd_month`` what one costs whatever it does, ``usd_token`` what a token costs besides (power, or an
    operator's price). ``elastic`` is capacity one pays by use alone: an operator's API.
    """

    id: str
    place: Place
    device: str = ""
    devices: int = 1
    capacity: float = math.inf
    usd_month: float = 0.0
    usd_token: float = 0.0
    kw: float = 0.0
    elastic: bool = False


class Stock(msgspec.Struct, frozen=True, kw_only=True):
    """How many devices of a kind a site can have."""

    site: str
    device: str
    most: int


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """Traffic: tokens per second at the percentile that is planned for, and whether it must survive."""

    id: str
    load: float
    critical: bool = True


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """What must be survived: pools that are gone, and traffic times ``demand``.

    With ``all_traffic`` everything is to be served in it, else what is critical.
    """

    name: str
    pools: frozenset[str] = frozenset()
    demand: float = 1.0
    all_traffic: bool = False


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to place. ``barred`` are pairs of traffic and place that may not be, with rule ids.

    ``spare`` asks for a replica more at every place that is used (N+1). ``power_kw`` bounds what a site
    draws. ``sovereignty`` scores places from 0 to 1; with ``sovereign_first`` it comes before cost.
    """

    pools: tuple[Pool, ...]
    traffic: tuple[Traffic, ...]
    barred: dict[tuple[str, Place], tuple[str, ...]]
    stocks: tuple[Stock, ...] = ()
    power_kw: dict[str, float] = {}
    losses: tuple[Loss, ...] = ()
    spare: bool = False
    sovereignty: dict[Place, float] = {}
    sovereign_first: bool = False

    def __post_init__(self) -> None:
        _sound(self)

    def places(self) -> tuple[Place, ...]:
        """Return the places there are, in order."""
        return tuple(sorted({pool.place for pool in self.pools}))

    def may(self, traffic: str, place: Place) -> bool:
        """Tell whether traffic may be served at a place."""
        return not self.barred.get((traffic, place))


def _sound(problem: Problem) -> None:
    _once("pool", (one.id for one in problem.pools))
    _once("traffic", (one.id for one in problem.traffic))
    _once("loss", (one.name for one in problem.losses))
    for pool in problem.pools:
        figures = (pool.usd_month, pool.usd_token, pool.kw)
        if not all(math.isfinite(one) and one >= 0 for one in figures) or pool.devices < 0:
            raise Invalid(
                f"pool {pool.id!r} has a figure below 0", str(pool), "costs, power and devices are 0 or more"
            )
        if not pool.capacity > 0 or (math.isinf(pool.capacity) and not pool.elastic):
            raise Invalid(f"pool {pool.id!r} serves nothing", f"capacity {pool.capacity}", "leave it out")
    for one in problem.traffic:
        if not math.isfinite(one.load) or one.load < 0:
            raise Invalid(f"traffic {one.id!r} is no load", f"got {one.load}", "tokens per second, 0 or more")
    known = {one.id for one in problem.pools}
    for loss in problem.losses:
        if not (math.isfinite(loss.demand) and loss.demand > 0) or not loss.pools <= known:
            raise Invalid(
                f"loss {loss.name!r} makes no sense",
                f"demand {loss.demand}, pools not known: {', '.join(sorted(loss.pools - known)) or 'none'}",
                "a demand above 0, and pools of the problem",
            )


def _once(kind: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise Invalid(f"there are two of {kind} {name!r}", "", "name each once")
        seen.add(name)


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """So much traffic goes to a place, in tokens per second."""

    traffic: str
    place: Place
    load: float


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One world the placement has to serve: who goes where, and what nobody serves."""

    name: str
    flows: tuple[Flow, ...]
    missing: dict[str, float]

    def served(self) -> bool:
        """Tell whether all that is to be served is."""
        return not self.missing


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """What to have where; ``gap`` is how far from the best it may be, as a share of its cost, if known."""

    replicas: dict[str, int]
    usd_month: float
    usd_use_month: float
    everyday: Case
    losses: tuple[Case, ...]
    solver: str
    gap: float | None = None
    seconds: float = 0.0

    def uncovered(self) -> dict[str, dict[str, float]]:
        """Return what is not served, by world and traffic."""
        return {case.name: case.missing for case in (self.everyday, *self.losses) if case.missing}


def worlds(problem: Problem) -> tuple[Loss, ...]:
    """Return every world there is to serve, the everyday one first."""
    return (Loss(name="everyday", all_traffic=True), *problem.losses)


def loads(problem: Problem, loss: Loss) -> dict[str, float]:
    """Return what is to be served in a world, by traffic."""
    return {
        one.id: one.load * loss.demand
        for one in problem.traffic
        if (loss.all_traffic or one.critical) and one.load > 0
    }
