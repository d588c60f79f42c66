"""Cross-validation: every point predicted by a fit that never saw its cell, engine, model or device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from allod.planner.speed.case import Case
from allod.planner.speed.heads import PLANS, Point, fit_heads, timed
from allod.planner.speed.intervals import widths

KEYS: Final[Mapping[str, Callable[[Case], str]]] = {
    "cell": lambda case: case.cell,
    "engine": lambda case: case.engine.family,
    "shape": lambda case: case.subject.shape,
    "device": lambda case: case.machine.id,
}
ANCHORS: Final = 3


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """A point and what a fit without its group said: log ms, standard deviation; with anchors, if any."""

    point: Point
    mean: float
    sd: float
    anchored: float | None = None
    anchored_sd: float | None = None

    @property
    def score(self) -> float:
        """The absolute error in standard deviations."""
        return abs(self.point.y - self.mean) / self.sd

    @property
    def anchored_score(self) -> float | None:
        """The same with anchors, None where there were none."""
        if self.anchored is None or self.anchored_sd is None:
            return None
        return abs(self.point.y - self.anchored) / self.anchored_sd


def left_out(
    found: Sequence[Point],
    name: str,
    key: str = "cell",
    *,
    anchors: int = 0,
    seed: int = 0,
    told: Callable[[int, int], None] | None = None,
) -> list[Left]:
    """Return every point of a quantity, predicted without its group.

    With ``anchors`` each is predicted a second time with so many other points of its own cell and engine,
    drawn at random from ``seed``.
    """
    group, rng = KEYS[key], np.random.default_rng(seed)
    own = [one for one in found if one.head == name]
    names = ("serve", "first") if name == "first" else (name,)
    out: list[Left] = []
    groups = sorted({group(one.case) for one in own})
    for done, left in enumerate(groups):
        heads = fit_heads([one for one in found if group(one.case) != left], names)
        asked = [one for one in own if group(one.case) == left]
        if name not in heads.fitted or (name == "first" and "serve" not in heads.fitted):
            continue
        mean, sd = heads.predict([one.case for one in asked])
        for at, one in enumerate(asked):
            extra: dict[str, float] = {}
            mates = [two for two in asked if two is not one and _same_cell(two, one)]
            if anchors and len(mates) >= anchors:
                drawn = [mates[int(i)] for i in rng.choice(len(mates), anchors, replace=False)]
                m, s = heads.predict([one.case], drawn)
                extra = {"anchored": float(m[0]), "anchored_sd": float(s[0])}
            out.append(Left(point=one, mean=float(mean[at]), sd=float(sd[at]), **extra))
        if told:
            told(done + 1, len(groups))
    return out


def _same_cell(one: Point, two: Point) -> bool:
    return one.case.cell == two.case.cell and one.case.engine.family == two.case.engine.family


def head_widths(found: Sequence[Point], name: str) -> dict[str, Any]:
    """Return the widths of one quantity as builtins."""
    cells = left_out(found, name, anchors=ANCHORS)
    anchored = [one.anchored_score for one in cells if one.anchored_score is not None]
    aside = {key: [one.score for one in left_out(found, name, key)] for key in KEYS if key != "cell"}
    done = widths(
        [one.score for one in cells],
        [one.point.case.engine.family for one in cells],
        {key: scores for key, scores in aside.items() if scores},
        anchored,
    )
    built: dict[str, Any] = msgspec.to_builtins(done)
    return built


def all_widths(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the widths of every quantity from a table of points."""
    found = timed(rows)
    return {name: head_widths(found, name) for name in PLANS}
