"""The fitted quantities: a step of a served batch or a local stream, the first token, a local prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from allod.planner.speed.case import Case, Table, columns_of, table
from allod.planner.speed.fitting import Array, Fitted, Plan, fit
from allod.planner.speed.roofline import FIRST, PROMPT, SERVE, STREAM
from allod.planner.speed.rows import case_of, head_of, log_ms

PLANS: Final[Mapping[str, Plan]] = {"serve": SERVE, "stream": STREAM, "first": FIRST, "prompt": PROMPT}


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A measured time: the row, what it asks, the logarithm of its ms, and what the fit reads of the case."""

    row: Mapping[str, Any]
    case: Case
    y: float
    numbers: Mapping[str, float]
    labels: Mapping[str, str]

    @property
    def head(self) -> str:
        """The quantity it is a point of."""
        return head_name(self.case)


def point(row: Mapping[str, Any], case: Case, y: float) -> Point:
    """Return a point; its case is read once."""
    return Point(row=row, case=case, y=y, numbers=case.numbers(), labels=case.labels())


def laid(points: Sequence[Point], extra: Mapping[str, Any] | None = None) -> Table:
    """Lay points out in columns."""
    return columns_of([one.numbers for one in points], [one.labels for one in points], extra)


def head_name(case: Case) -> str:
    """Return the name of the quantity a case asks for."""
    if case.metric == "step":
        return "stream" if case.local else "serve"
    return case.metric


def timed(rows: Iterable[Mapping[str, Any]]) -> list[Point]:
    """Return the rows that say a time of one of the quantities."""
    found = []
    for row in rows:
        kind, y = head_of(row), log_ms(row)
        if y is not None:
            case = case_of(row, kind)
            if not (kind == "first" and case.local):
                found.append(point(row, case, y))
    return found


class Heads(msgspec.Struct, frozen=True, kw_only=True):
    """All quantities fitted on one set of points."""

    fitted: Mapping[str, Fitted]
    points: Mapping[str, Sequence[Point]]

    def asked(self, cases: Sequence[Case]) -> Table:
        """Lay out cases of one quantity, with the predicted step where the first token needs it."""
        if cases and cases[0].metric == "first":
            steps, _ = self.fitted["serve"].predict(table(cases))
            return table(cases, {"step": np.exp(steps)})
        return table(cases)

    def predict(self, cases: Sequence[Case], anchors: Sequence[Point] = ()) -> tuple[Array, Array]:
        """Return log ms and standard deviation of cases of one quantity; anchors of another are not used."""
        name = head_name(cases[0])
        own = [one for one in anchors if one.head == name]
        rows = self.asked(cases)
        if not own:
            return self.fitted[name].predict(rows)
        seen = np.array([one.y for one in own])
        return self.fitted[name].predict(rows, self.asked([one.case for one in own]), seen)


def fit_heads(found: Sequence[Point], names: Sequence[str] = tuple(PLANS)) -> Heads:
    """Fit the quantities on points; the first token needs the step, so ``serve`` comes first."""
    by: dict[str, list[Point]] = {name: [one for one in found if one.head == name] for name in PLANS}
    fitted: dict[str, Fitted] = {}
    for name in PLANS:
        own = by[name]
        if name not in names or not own:
            continue
        data = laid(own)
        if name == "first":
            steps, _ = fitted["serve"].predict(data)
            data = laid(own, {"step": np.exp(steps)})
        fitted[name] = fit(PLANS[name], data, np.array([one.y for one in own]))
    return Heads(fitted=fitted, points=by)
