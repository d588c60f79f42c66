"""Who can be served by what there is: maximum flow between traffic and places, dearer places last."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from allod.planner.placing.problem import EPSILON, Case, Flow, Loss, Place, Problem, loads

if TYPE_CHECKING:
    from collections.abc import Mapping


def capacities(problem: Problem, replicas: Mapping[str, int], loss: Loss) -> dict[Place, float]:
    """Return what each place serves in a world: pools that are lost serve nothing, a spare does not count.

    The spare is the largest replica of the place; it is what may fail any day, so it is there in every world.
    """
    out: dict[Place, float] = {}
    spare: dict[Place, float] = {}
    for pool in problem.pools:
        count = replicas.get(pool.id, 0)
        if pool.id in loss.pools or not (count or pool.elastic):
            continue
        if pool.elastic:
            out[pool.place] = float("inf")
            continue
        out[pool.place] = out.get(pool.place, 0.0) + count * pool.capacity
        if problem.spare:
            spare[pool.place] = max(spare.get(pool.place, 0.0), pool.capacity)
    return {place: max(0.0, have - spare.get(place, 0.0)) for place, have in out.items()}


class Server:
    """Serves one world with what there is, again and again; what stays the same is worked out once."""

    def __init__(self, problem: Problem, loss: Loss) -> None:
        self.problem, self.loss = problem, loss
        self.want = loads(problem, loss)
        price = _prices(problem, loss)
        foreign = (
            {one: 1 - own for one, own in problem.sovereignty.items()} if problem.sovereign_first else {}
        )
        order = sorted(price, key=lambda one: (foreign.get(one, 0.0), price[one], one))
        self.lawful = {name: [one for one in order if problem.may(name, one)] for name in self.want}

    def serve(self, replicas: Mapping[str, int]) -> Case:
        """Serve as much as can be, cheap places first, by augmenting paths.

        Ford and Fulkerson's method on a graph of two sides, paths found breadth first (Edmonds and Karp),
        traffic with the fewest places first. It finds the most that can be served.
        """
        want, room = self.want, capacities(self.problem, replicas, self.loss)
        options = {name: [one for one in lawful if one in room] for name, lawful in self.lawful.items()}
        load: dict[tuple[str, Place], float] = {}
        left = dict(want)
        for name in sorted(want, key=lambda one: (len(options[one]), -want[one], one)):
            _fill(name, options, left, room, load)
        for name in sorted(want):
            while left[name] > EPSILON and _augment(name, options, left, room, load):
                pass
        flows = tuple(
            Flow(traffic=name, place=place, load=load[name, place])
            for name, place in sorted(load)
            if load[name, place] > EPSILON
        )
        missing = {n: left[n] for n in sorted(left) if left[n] > EPSILON}
        return Case(name=self.loss.name, flows=flows, missing=missing)


def serve(problem: Problem, replicas: Mapping[str, int], loss: Loss) -> Case:
    """Serve a world once, see ``Server``."""
    return Server(problem, loss).serve(replicas)


def _prices(problem: Problem, loss: Loss) -> dict[Place, float]:
    """Return what a token costs at each place besides what is paid anyway."""
    out: dict[Place, float] = {}
    for pool in problem.pools:
        if pool.id not in loss.pools:
            out[pool.place] = min(out.get(pool.place, pool.usd_token), pool.usd_token)
    return out


def _fill(
    name: str,
    options: Mapping[str, list[Place]],
    left: dict[str, float],
    room: dict[Place, float],
    load: dict[tuple[str, Place], float],
) -> None:
    for place in options[name]:
        moved = min(left[name], room[place])
        if moved > EPSILON:
            left[name] -= moved
            room[place] -= moved
            load[name, place] = load.get((name, place), 0.0) + moved


def _augment(
    name: str,
    options: Mapping[str, list[Place]],
    left: dict[str, float],
    room: dict[Place, float],
    load: dict[tuple[str, Place], float],
) -> bool:
    """Send more of a traffic by moving others elsewhere; False where nothing more can be sent."""
    path = _path(name, options, room, load)
    if path is None:
        return False
    givers = [(path[i + 1][0], path[i][1]) for i in range(len(path) - 1)]
    moved = min(left[name], room[path[-1][1]], *(load[one] for one in givers))
    for step in path:
        load[step] = load.get(step, 0.0) + moved
    for one in givers:
        load[one] -= moved
    room[path[-1][1]] -= moved
    left[name] -= moved
    return True


def _path(
    name: str,
    options: Mapping[str, list[Place]],
    room: Mapping[Place, float],
    load: Mapping[tuple[str, Place], float],
) -> list[tuple[str, Place]] | None:
    """Return the shortest way to a place with room, in steps; at each the next traffic gives way."""
    came: dict[str, tuple[str, Place] | None] = {name: None}
    seen: set[Place] = set()
    queue = deque([name])
    while queue:
        at = queue.popleft()
        for place in options[at]:
            if place in seen:
                continue
            seen.add(place)
            if room[place] > EPSILON:
                steps = [(at, place)]
                while (before := came[steps[-1][0]]) is not None:
                    steps.append(before)
                return steps[::-1]
            for other in options:
                if other not in came and load.get((other, place), 0.0) > EPSILON:
                    came[other] = (at, place)
                    queue.append(other)
    return None
