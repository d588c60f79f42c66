"""The nearest measured points behind a prediction, or the honest answer that there are none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from typing import Final

import msgspec

from allod.planner.speed.case import Case
from allod.planner.speed.estimator import packaged
from allod.planner.speed.heads import Point, head_name
from allod.planner.speed.rows import text

NEAR: Final = 2.6
"""Beyond this a point says little: another model on another device, or another model at another load."""
COST: Final = {"device": 1.0, "shape": 1.2, "engine": 0.8, "quant": 0.5}
GENERATION: Final = 0.6


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """A measured point: what it is, its ms, how far it is (0 the same), its day, engine and source."""

    id: str
    what: str
    ms: float
    distance: float
    engine: str
    as_of: date
    source: str


def distance(one: Case, two: Case) -> float:
    """Return how far two cases are apart: labels that differ, and logarithms of load, length and number."""
    left, right = one.labels(), two.labels()
    out = sum(cost for key, cost in COST.items() if left[key] != right[key])
    if left["device"] != right["device"] and left["generation"] == right["generation"]:
        out -= COST["device"] - GENERATION
    if left["shape"] != right["shape"]:
        out += 0.3 * abs(math.log(max(one.subject.active, 1.0) / max(two.subject.active, 1.0)))
    for a, b, scale in (
        (one.concurrency, two.concurrency, 2.0),
        (one.isl or 512.0, two.isl or 512.0, 2.5),
        (one.osl or 256.0, two.osl or 256.0, 3.0),
        (float(one.n), float(two.n), 1.5),
    ):
        out += abs(math.log(max(a, 1.0) / max(b, 1.0))) / scale
    return out


def nearest(case: Case, most: int = 3, points: Sequence[Point] | None = None) -> list[Neighbour]:
    """Return the nearest points of the same quantity that are near at all, nearest first."""
    own = packaged().points.get(head_name(case), ()) if points is None else points
    ranked = sorted(((distance(case, one.case), at) for at, one in enumerate(own)), key=lambda pair: pair)
    return [_named(own[at], far) for far, at in ranked[:most] if far <= NEAR]


def _named(point: Point, far: float) -> Neighbour:
    case, row = point.case, point.row
    load = f"{case.concurrency:g} at once"
    lengths = f", {case.isl:g} in" * bool(case.isl) + f", {case.osl:g} out" * bool(case.osl)
    return Neighbour(
        id=text(row, "id"),
        what=f"{case.subject.id} {case.quant} on {case.n} x {case.machine.id}, {load}{lengths}",
        ms=math.exp(point.y),
        distance=round(far, 2),
        engine=text(row, "engine").replace(" nan", " (version not stated)"),
        as_of=date.fromisoformat(text(row, "as_of")),
        source=text(row, "source"),
    )
