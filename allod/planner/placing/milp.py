"""The same placement as a mixed-integer program, solved by HiGHS (extra ``plan``).

Variables: replicas of each pool (whole numbers), a switch for each place that has any (for the spare), and
for each world the load of each traffic at each place and what nobody serves. Replicas are the same in every
world, flows are not: what is bought must be enough whatever is lost. Solved three times: for what nobody
serves, for sovereignty where it comes first, for money; each keeps what the one before reached.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from allod.domain.errors import Invalid
from allod.planner.placing import greedy
from allod.planner.placing.greedy import MONTH_S, by_pool, costs
from allod.planner.placing.problem import (
    EPSILON,
    MOST_REPLICAS,
    Case,
    Flow,
    Placement,
    Problem,
    loads,
    worlds,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from allod.planner.placing.problem import Loss, Place, Pool

BUDGET_S: Final = 25.0
GAP: Final = 0.003
EXACT: Final = 1e-4
"""A share of a load below what the solver's tolerances can tell from nothing."""
FEASIBLE: Final = 2
"""HiGHS' word for a point that keeps every row."""


class _Program:
    """Columns and rows, collected and handed to HiGHS at once; costs by what they are about."""

    def __init__(self) -> None:
        self.upper: list[float] = []
        self.whole: list[bool] = []
        self.rows: list[tuple[float, float, list[tuple[int, float]]]] = []
        self.money: dict[int, float] = {}
        self.lacking: dict[int, float] = {}
        self.foreign: dict[int, float] = {}

    def column(self, upper: float, *, whole: bool = False) -> int:
        self.upper.append(upper)
        self.whole.append(whole)
        return len(self.upper) - 1

    def row(self, low: float, high: float, terms: list[tuple[int, float]]) -> None:
        self.rows.append((low, high, terms))


class _Build:
    def __init__(self, problem: Problem) -> None:
        self.problem, self.program = problem, _Program()
        self.every = worlds(problem)
        self.fixed = tuple(one for one in problem.pools if not one.elastic)
        most = {one.id: self._most(one) for one in self.fixed}
        self.n = {one.id: self.program.column(most[one.id], whole=True) for one in self.fixed}
        self.on: dict[str, int] = {}
        self.use: dict[str, int] = {}
        for pool in self.fixed:
            self.program.money[self.n[pool.id]] = pool.usd_month
            if problem.spare:
                self.on[pool.id] = self.program.column(1.0, whole=True)
                terms = [(self.n[pool.id], 1.0), (self.on[pool.id], -float(most[pool.id]))]
                self.program.row(-math.inf, 0.0, terms)
        self.flow: list[dict[tuple[str, Place], int]] = []
        self.lack: list[dict[str, int]] = []
        for loss in self.every:
            self._world(loss)
        self._limits()

    def _most(self, pool: Pool) -> int:
        """Return how many replicas could be of use: enough for all that may go there, and a spare."""
        top = max(
            sum(
                load for name, load in loads(self.problem, loss).items() if self.problem.may(name, pool.place)
            )
            for loss in self.every
        )
        return min(MOST_REPLICAS, math.ceil(top / pool.capacity) + 1) if top > 0 else 0

    def _world(self, loss: Loss) -> None:
        problem, program = self.problem, self.program
        want = loads(problem, loss)
        rate: dict[Place, float] = {}
        for pool in problem.pools:
            if pool.id not in loss.pools:
                rate[pool.place] = min(rate.get(pool.place, math.inf), pool.usd_token)
        flow = {
            (name, place): program.column(load)
            for name, load in want.items()
            for place in rate
            if problem.may(name, place)
        }
        if not self.flow:
            for (_, place), column in flow.items():
                program.foreign[column] = 1.0 - problem.sovereignty.get(place, 0.0)
        lack = {name: program.column(load) for name, load in want.items()}
        program.lacking |= dict.fromkeys(lack.values(), 1.0)
        of: dict[str | Place, list[tuple[int, float]]] = {}
        for (name, place), column in flow.items():
            of.setdefault(name, []).append((column, 1.0))
            of.setdefault(place, []).append((column, 1.0))
        for name, load in want.items():
            program.row(load, load, [*of.get(name, ()), (lack[name], 1.0)])
        for place in rate:
            whole = sum(load for name, load in want.items() if (name, place) in flow)
            self._capacity(place, loss, of.get(place, []), whole)
        if not self.flow:
            self._tighten(flow, want)
            self._used(of)
        self.flow.append(flow)
        self.lack.append(lack)

    def _capacity(self, place: Place, loss: Loss, flows: list[tuple[int, float]], whole: float) -> None:
        """Bound the flows to a place by what stands there; no replica counts for more than could come."""
        pools = [one for one in self.problem.pools if one.place == place and one.id not in loss.pools]
        if not flows or any(one.elastic for one in pools):
            return
        use = {one.id: min(one.capacity, whole) for one in pools}
        terms = [*flows, *((self.n[one.id], -use[one.id]) for one in pools)]
        for spare in pools if self.problem.spare else ():
            self.program.row(-math.inf, 0.0, [*terms, (self.on[spare.id], use[spare.id])])
        if not self.problem.spare:
            self.program.row(-math.inf, 0.0, terms)

    def _tighten(self, flow: dict[tuple[str, Place], int], want: dict[str, float]) -> None:
        """Say of each flow what follows anyway, none without a replica: it brings the bound closer."""
        at: dict[Place, list[int]] = {}
        elastic = {one.place for one in self.problem.pools if one.elastic}
        for pool in self.fixed:
            at.setdefault(pool.place, []).append(self.n[pool.id])
        for (name, place), column in flow.items():
            if place not in elastic:
                row = [(column, 1.0), *((one, -want[name]) for one in at[place])]
                self.program.row(-math.inf, 0.0, row)

    def _used(self, of: Mapping[str | Place, list[tuple[int, float]]]) -> None:
        """Say which pool does the work of a place on an ordinary day, and what it takes for it."""
        for pool in self.problem.pools:
            self.use[pool.id] = self.program.column(math.inf)
            self.program.money[self.use[pool.id]] = pool.usd_token * MONTH_S
            if not pool.elastic:
                row = [(self.use[pool.id], 1.0), (self.n[pool.id], -pool.capacity)]
                self.program.row(-math.inf, 0.0, row)
        for place in self.problem.places():
            done = [(self.use[one.id], -1.0) for one in self.problem.pools if one.place == place]
            self.program.row(0.0, 0.0, [*of.get(place, ()), *done])

    def start(self, placement: Placement) -> list[float]:
        """Return a placement as values of the columns."""
        values = [0.0] * len(self.program.upper)
        for name, count in placement.replicas.items():
            values[self.n[name]] = float(count)
            if self.on:
                values[self.on[name]] = 1.0
        for name, load in by_pool(self.problem, placement.replicas, placement.everyday).items():
            values[self.use[name]] = load
        for n, case in enumerate((placement.everyday, *placement.losses)):
            for one in case.flows:
                values[self.flow[n][one.traffic, one.place]] = one.load
            for name, load in case.missing.items():
                values[self.lack[n][name]] = load
        return values

    def _limits(self) -> None:
        for stock in self.problem.stocks:
            here = (stock.site, stock.device)
            terms = [
                (self.n[one.id], float(one.devices))
                for one in self.fixed
                if (one.place.site, one.device) == here
            ]
            if terms:
                self.program.row(-math.inf, float(stock.most), terms)
        for site, limit in self.problem.power_kw.items():
            drawn = [(self.n[one.id], one.kw) for one in self.fixed if one.place.site == site and one.kw > 0]
            if drawn:
                self.program.row(-math.inf, limit, drawn)


def available() -> bool:
    """Tell whether HiGHS is installed."""
    try:
        import highspy  # noqa: F401, PLC0415 (an extra)
    except ImportError:
        return False
    return True


def solve(problem: Problem, *, budget_s: float = BUDGET_S, gap: float = GAP) -> Placement:
    """Place by HiGHS, within a time and to a gap; what cannot be served is said in the result.

    Raises:
        Invalid: HiGHS is not installed, or found nothing in the time it had.

    """
    if not available():
        raise Invalid("HiGHS is not installed", "", 'pip install "allod[plan]", or take the greedy solver')
    began = time.monotonic()
    build = _Build(problem)
    first = greedy.solve(problem, budget_s=budget_s / 5)
    values, reached = _run(build, first, budget_s - (time.monotonic() - began), gap)
    replicas = {name: round(values[column]) for name, column in build.n.items() if round(values[column])}
    cases = [_case(build, n, loss, values) for n, loss in enumerate(build.every)]
    fixed, use = costs(problem, replicas, cases[0])
    return Placement(
        replicas=dict(sorted(replicas.items())),
        usd_month=fixed,
        usd_use_month=use,
        everyday=cases[0],
        losses=tuple(cases[1:]),
        solver="HiGHS",
        gap=reached,
        seconds=time.monotonic() - began,
    )


def _case(build: _Build, n: int, loss: Loss, values: list[float]) -> Case:
    flows = tuple(
        Flow(traffic=name, place=place, load=values[column])
        for (name, place), column in sorted(build.flow[n].items())
        if values[column] > EPSILON
    )
    missing = {
        name: values[column]
        for name, column in build.lack[n].items()
        if values[column] > EXACT * max(1.0, build.program.upper[column])
    }
    return Case(name=loss.name, flows=flows, missing=missing)


def _run(build: _Build, first: Placement, budget_s: float, gap: float) -> tuple[list[float], float | None]:
    """Solve for what nobody serves, for sovereignty where it leads, and for money, in turn.

    Where the greedy placement serves everything, the first is done.
    """
    program = build.program
    stages = [program.lacking] if first.uncovered() else []
    stages += [*([program.foreign] if build.problem.sovereign_first else []), program.money]
    until = time.monotonic() + budget_s
    values = build.start(first)
    reached: float | None = None
    if not first.uncovered():
        program.row(-math.inf, 1e-6, list(program.lacking.items()))
    for n, costs_of in enumerate(stages):
        last = n == len(stages) - 1
        left = until - time.monotonic()
        values, reached, value = _stage(
            program, costs_of, left if last else left / 3, gap if last else 1e-6, values
        )
        program.row(-math.inf, value + max(1e-6, 1e-6 * abs(value)), list(costs_of.items()))
    return values, reached


def _stage(
    program: _Program, costs_of: dict[int, float], budget_s: float, gap: float, start: list[float]
) -> tuple[list[float], float | None, float]:
    import highspy  # noqa: PLC0415 (an extra)

    with _quiet():
        solver: Any = highspy.Highs()  # type: ignore[no-untyped-call]
    for name, option in (
        ("output_flag", False),
        ("time_limit", max(1.0, budget_s)),
        ("mip_rel_gap", gap),
        ("random_seed", 1),
        ("threads", 1),
    ):
        solver.setOptionValue(name, option)
    solver.passModel(_model(highspy, program, costs_of))
    first = highspy.HighsSolution()
    first.col_value = start
    solver.setSolution(first)
    solver.run()
    info = solver.getInfo()
    if info.primal_solution_status != FEASIBLE:
        raise Invalid(
            "HiGHS found no placement in its time",
            str(solver.modelStatusToString(solver.getModelStatus())),
            "give it more time, fewer losses, or take the greedy solver",
        )
    reached = float(info.mip_gap) if any(program.whole) else 0.0
    values = list(solver.getSolution().col_value)
    return values, reached if math.isfinite(reached) else None, float(info.objective_function_value)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what a library prints by itself, past Python, out of the output of a command."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _model(highspy: Any, program: _Program, costs_of: dict[int, float]) -> Any:
    import numpy as np  # noqa: PLC0415 (only here)

    inf = highspy.kHighsInf
    columns = len(program.upper)
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = columns, len(program.rows)
    model.col_cost_ = np.array([costs_of.get(n, 0.0) for n in range(columns)])
    model.col_lower_ = np.zeros(columns)
    model.col_upper_ = np.array([min(one, inf) for one in program.upper])
    model.row_lower_ = np.array([max(low, -inf) for low, _, _ in program.rows])
    model.row_upper_ = np.array([min(high, inf) for _, high, _ in program.rows])
    starts = [0]
    index: list[int] = []
    value: list[float] = []
    for _, _, terms in program.rows:
        index += [column for column, _ in terms]
        value += [one for _, one in terms]
        starts.append(len(index))
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = np.array(starts)
    model.a_matrix_.index_ = np.array(index)
    model.a_matrix_.value_ = np.array(value)
    whole, part = highspy.HighsVarType.kInteger, highspy.HighsVarType.kContinuous
    model.integrality_ = [whole if one else part for one in program.whole]
    return model
