"""A placement without a solver: replicas added where they serve most for their cost, then taken away again.

Every world is served in turn, the everyday one first: while something is missing, the pool is added that
brings most load for its price. Then, dearest first, replicas are taken away that cost more than they save
and that no world misses, and others added where much is paid for by use. Fast and feasible, never proved
best; with the extra ``plan`` HiGHS does that.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

from allod.planner.placing.flows import Server, serve
from allod.planner.placing.problem import Placement, Pool, Problem, worlds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allod.planner.placing.problem import Case, Loss, Place

MONTH_S: Final = 730 * 3600
BUDGET_S: Final = 20.0


def solve(problem: Problem, *, budget_s: float = BUDGET_S) -> Placement:
    """Place greedily; what cannot be served is said in the result, never hidden."""
    began = time.monotonic()
    every = worlds(problem)
    replicas: dict[str, int] = {}
    for loss in every:
        _cover(problem, replicas, loss)
    search = _Search(problem, replicas, began + budget_s)
    search.thin()
    if problem.sovereign_first or any(one.elastic for one in problem.pools):
        search.thicken()
        search.thin()
    cases = [serve(problem, replicas, loss) for loss in every]
    fixed, use = costs(problem, replicas, cases[0])
    return Placement(
        replicas={name: n for name, n in sorted(replicas.items()) if n},
        usd_month=fixed,
        usd_use_month=use,
        everyday=cases[0],
        losses=tuple(cases[1:]),
        solver="greedy",
        seconds=time.monotonic() - began,
    )


def costs(problem: Problem, replicas: Mapping[str, int], everyday: Case) -> tuple[float, float]:
    """Return what a placement costs a month: for having it, and for what the everyday traffic uses."""
    fixed = sum(pool.usd_month * replicas.get(pool.id, 0) for pool in problem.pools)
    rates = {pool.id: pool.usd_token for pool in problem.pools}
    use = sum(load * MONTH_S * rates[name] for name, load in by_pool(problem, replicas, everyday).items())
    return fixed, use


def by_pool(problem: Problem, replicas: Mapping[str, int], everyday: Case) -> dict[str, float]:
    """Return which pool serves how much of a place's load: the cheapest by use first, as far as it goes."""
    left: dict[Place, float] = {}
    for one in everyday.flows:
        left[one.place] = left.get(one.place, 0.0) + one.load
    out = {}
    for pool in sorted(problem.pools, key=lambda one: (one.usd_token, one.id)):
        have = math.inf if pool.elastic else replicas.get(pool.id, 0) * pool.capacity
        taken = min(have, left.get(pool.place, 0.0))
        if taken > 0:
            out[pool.id] = taken
            left[pool.place] -= taken
    return out


def _cover(problem: Problem, replicas: dict[str, int], loss: Loss) -> None:
    """Add replicas until a world is served or nothing helps."""
    server = Server(problem, loss)
    while missing := server.serve(replicas).missing:
        best: tuple[float, str, int] | None = None
        for pool in problem.pools:
            if pool.elastic or pool.id in loss.pools:
                continue
            wanted = sum(load for name, load in missing.items() if problem.may(name, pool.place))
            room = _room(problem, replicas, pool)
            if wanted <= 0 or room < 1:
                continue
            first = problem.spare and not _used(problem, replicas, pool)
            count = min(room, math.ceil(wanted / pool.capacity - 1e-9) + (1 if first else 0))
            brings = min(wanted, (count - (1 if first else 0)) * pool.capacity)
            if brings <= 0:
                continue
            price = (pool.usd_month * count + brings * MONTH_S * pool.usd_token) / brings
            price += (1 - problem.sovereignty.get(pool.place, 0.0)) * 1e6 if problem.sovereign_first else 0.0
            if best is None or (price, pool.id) < best[:2]:
                best = (price, pool.id, count)
        if best is None:
            return
        replicas[best[1]] = replicas.get(best[1], 0) + best[2]


def _used(problem: Problem, replicas: Mapping[str, int], pool: Pool) -> bool:
    return any(replicas.get(one.id) for one in problem.pools if one.place == pool.place)


def _room(problem: Problem, replicas: Mapping[str, int], pool: Pool) -> int:
    """Return how many replicas of a pool its site still has devices and power for."""
    room = math.inf
    for stock in problem.stocks:
        if (stock.site, stock.device) == (pool.place.site, pool.device) and pool.devices:
            taken = sum(
                replicas.get(one.id, 0) * one.devices
                for one in problem.pools
                if (one.place.site, one.device) == (stock.site, stock.device)
            )
            room = min(room, (stock.most - taken) // pool.devices)
    limit = problem.power_kw.get(pool.place.site)
    if limit is not None and pool.kw > 0:
        drawn = sum(
            replicas.get(one.id, 0) * one.kw for one in problem.pools if one.place.site == pool.place.site
        )
        room = min(room, math.floor((limit - drawn) / pool.kw + 1e-9))
    return int(min(room, 100_000))


class _Search:
    """A placement that is changed as long as that pays and nothing more goes missing in any world."""

    def __init__(self, problem: Problem, replicas: dict[str, int], until_s: float) -> None:
        self.problem, self.replicas, self.until_s = problem, replicas, until_s
        self.every = worlds(problem)
        self.servers = [Server(problem, loss) for loss in self.every]
        self.missing = [one.serve(replicas).missing for one in self.servers]
        self.worth = self.value()

    def value(self) -> tuple[float, float]:
        """Return what is to be as small as can be: how foreign it is, where that leads, and what it costs."""
        everyday = self.servers[0].serve(self.replicas)
        own = self.problem.sovereignty
        foreign = sum(one.load * (1 - own.get(one.place, 0.0)) for one in everyday.flows)
        lead = round(foreign, 6) if self.problem.sovereign_first else 0.0
        return lead, sum(costs(self.problem, self.replicas, everyday))

    def tried(self, name: str, count: int) -> bool:
        """Have another number of replicas of a pool, if it is no worse for anybody and better as a whole."""
        before = self.replicas.get(name, 0)
        self.replicas[name] = count
        worth = self.value()
        if worth < self.worth and not self.worse():
            self.worth = worth
            return True
        self.replicas[name] = before
        return False

    def worse(self) -> bool:
        """Tell whether in some world more is missing than there must be."""
        for server, before in zip(self.servers, self.missing, strict=True):
            now = server.serve(self.replicas).missing
            if any(load > before.get(name, 0.0) + 1e-6 for name, load in now.items()):
                return True
        return False

    def thin(self) -> None:
        """Take away what costs more than it saves: a whole pool first, then half of it, then one by one."""
        for pool in sorted(self.problem.pools, key=lambda one: (-one.usd_month, one.id)):
            step = self.replicas.get(pool.id, 0)
            while step >= 1 and self.replicas.get(pool.id, 0) and time.monotonic() < self.until_s:
                step = min(step, self.replicas[pool.id])
                if not self.tried(pool.id, self.replicas[pool.id] - step):
                    step //= 2

    def thicken(self) -> None:
        """Add what saves more by use than it costs, where something is paid for by use."""
        for pool in sorted(self.problem.pools, key=lambda one: (one.usd_month / one.capacity, one.id)):
            if pool.elastic or time.monotonic() > self.until_s:
                continue
            wanted = sum(one.load for one in self.problem.traffic if self.problem.may(one.id, pool.place))
            step = min(_room(self.problem, self.replicas, pool), math.ceil(wanted / pool.capacity))
            while step >= 1:
                if not self.tried(pool.id, self.replicas.get(pool.id, 0) + step):
                    step //= 2
                step = min(step, _room(self.problem, self.replicas, pool))
