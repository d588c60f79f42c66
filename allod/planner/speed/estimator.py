"""Times with intervals: the packaged points fitted once a process, and the widths that were validated."""

from __future__ import annotations

import functools
import importlib.resources
import json
import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from allod.domain.errors import Integrity
from allod.planner.speed import points
from allod.planner.speed.case import Case
from allod.planner.speed.heads import Heads, Point, fit_heads, head_name, timed
from allod.planner.speed.intervals import UNSEEN, Widths

FLOOR_MS: Final = 1e-3
CEILING_MS: Final = 1e10


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds (the median) with an 80 % interval; ``sd`` is of the logarithm, not yet widened.

    ``new`` says which of engine, shape and device nobody measured, ``assumed`` how many of machine and model
    are known by name only.
    """

    ms: float
    sd: float
    low: float
    high: float
    new: tuple[str, ...] = ()
    assumed: int = 0


@functools.cache
def known_widths() -> Mapping[str, Widths]:
    """Return the packaged widths.

    Raises:
        Integrity: they were computed on other points than those that ship.

    """
    text = importlib.resources.files("allod.planner").joinpath("data", "speed_widths.json").read_bytes()
    held = json.loads(text)
    if held["points_sha256"] != points.digest():
        raise Integrity(
            "the intervals of the planner were computed on other measured points than those it holds",
            f"speed_widths.json names {held['points_sha256'][:16]}, measured.csv is {points.digest()[:16]}",
            "install the package again; a developer runs tools/planner_fit.py after changing the points",
        )
    return {name: msgspec.convert(one, Widths) for name, one in held["heads"].items()}


@functools.cache
def packaged() -> Heads:
    """Return the quantities fitted on the packaged points."""
    return fit_heads(timed(points.points()))


@functools.cache
def _seen(name: str) -> Mapping[str, frozenset[str]]:
    return _labels_of(packaged(), name)


def _labels_of(heads: Heads, name: str) -> Mapping[str, frozenset[str]]:
    labels = [one.labels for one in heads.points[name]]
    return {key: frozenset(one[key] for one in labels) for key in UNSEEN}


def new_in(case: Case, heads: Heads | None = None) -> tuple[str, ...]:
    """Return which of engine, shape and device no point of this quantity has (by default the packaged)."""
    name = head_name(case)
    seen, labels = _seen(name) if heads is None else _labels_of(heads, name), case.labels()
    return tuple(key for key in UNSEEN if labels[key] not in seen[key])


def spans(
    cases: Sequence[Case],
    anchors: Sequence[Point] = (),
    heads: Heads | None = None,
    widths: Mapping[str, Widths] | None = None,
) -> list[Span]:
    """Return the time of each case (all of one quantity); heads and widths are the packaged by default."""
    name = head_name(cases[0])
    mean, sd = (heads or packaged()).predict(cases, anchors)
    width = (widths or known_widths())[name]
    anchored = any(one.head == name for one in anchors)
    out = []
    for case, middle, spread in zip(cases, mean, sd, strict=True):
        new = new_in(case, heads)
        assumed = int(not case.machine.known) + int(not case.subject.known)
        half = float(spread) * width.of(case.engine.family, new, assumed, anchored=anchored)
        half = min(half, 6.0)
        ms = _bounded(math.exp(min(max(float(middle), -20.0), 40.0)))
        out.append(
            Span(
                ms=ms,
                sd=float(spread),
                low=_bounded(ms * math.exp(-half)),
                high=_bounded(ms * math.exp(half)),
                new=new,
                assumed=assumed,
            )
        )
    return out


def _bounded(ms: float) -> float:
    return min(max(ms, FLOOR_MS), CEILING_MS)
