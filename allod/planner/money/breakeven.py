"""From how many tasks on hardware is cheaper than an API: a band, or never; and what moves it most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.planner.money.comparators import APIS, HARDWARE, Result, outcome
from allod.planner.money.montecarlo import ends

if TYPE_CHECKING:
    from allod.planner.money.case import Api, Case
    from allod.planner.money.comparators import Side

SELDOM: Final = 0.05
"""A share of outcomes below which a case is not worth a word."""


class Break(msgspec.Struct, frozen=True, kw_only=True):
    """Break-even of hardware against an API. None is never: within what the nodes can do, the API is cheaper.

    Attributes:
        side, api: what against what.
        tasks, low, high: solved tasks a month: with all inputs at their middle, and an 80 % band.
        share_never: of the outcomes in which it is never reached.
        capacity_tasks: what the nodes can do a month.
        utilisation: of the nodes at the break-even.
        tokens: of a task, read and written, to turn tasks into tokens.

    """

    side: Side
    api: Api
    tasks: float | None
    low: float | None
    high: float | None
    share_never: float
    capacity_tasks: float
    tokens: float

    @property
    def utilisation(self) -> float | None:
        """How busy the nodes are at the break-even."""
        return None if self.tasks is None else self.tasks / self.capacity_tasks


def breaks(case: Case, result: Result) -> tuple[Break, ...]:
    """Return the break-even of each hardware against each API that is known."""
    read = case.inputs.value("task.input_tokens")
    written = case.inputs.value("task.output_tokens")
    found = []
    for side in HARDWARE:
        for api in APIS:
            key = f"{side}.breakeven.{api}"
            if key not in result.middle:
                continue
            low, high = ends(result.outcomes[key])
            middle = result.middle[key]
            found.append(
                Break(
                    side=side,
                    api=api,
                    tasks=None if middle is None else float(middle),
                    low=_finite(low),
                    high=_finite(high),
                    share_never=_never(result.outcomes[key]),
                    capacity_tasks=float(result.middle["capacity"]),
                    tokens=float(read + written),
                )
            )
    return tuple(found)


def _finite(value: float) -> float | None:
    return None if value == float("inf") else value


def _never(values: Any) -> float:
    import numpy as np  # noqa: PLC0415 (only for drawn values)

    return float(np.mean(np.isinf(np.asarray(values, dtype=float))))


class Mover(msgspec.Struct, frozen=True, kw_only=True):
    """What the result is at the low and the high end of one input, all others at their middle."""

    key: str
    low_input: float
    high_input: float
    at_low: float
    at_high: float


class Movers(msgspec.Struct, frozen=True, kw_only=True):
    """What moves a result, the most first.

    ``of`` is ``tokens a month to break even`` (never is drawn at what the nodes can do); where the middle
    never breaks even, the cost of a task over that at the API; and without an API, the cost of a task itself.
    """

    side: Side
    api: Api | None
    of: str
    base: float
    rows: tuple[Mover, ...]


BREAKEVEN: Final = "tokens a month to break even"
RATIO: Final = "cost of a task, over that at the API"
COST: Final = "USD per 1,000 solved tasks"


def movers(case: Case, result: Result, side: Side, api: Api | None) -> Movers | None:
    """Return what moves a break-even, or the cost of a task; None where nothing is known or uncertain."""
    import numpy as np  # noqa: PLC0415 (only where something is drawn)

    key = f"{side}.task" if api is None else f"{side}.breakeven.{api}"
    if key not in result.middle:
        return None
    uncertain = case.inputs.uncertain()
    size = 2 * len(uncertain) + 1
    x: dict[str, Any] = {name: np.full(size, float(one.value)) for name, one in case.inputs.by_key.items()}
    for n, one in enumerate(uncertain):
        x[one.key][2 * n + 1], x[one.key][2 * n + 2] = float(one.low), float(one.high)
    found = outcome(case, x)
    if api is None:
        of, values = COST, 1000 * found[key]
    elif result.middle[key] is None:
        of, values = RATIO, found[f"{side}.task"] / found[f"{api}.task"]
    else:
        tokens = float(case.inputs.value("task.input_tokens") + case.inputs.value("task.output_tokens"))
        of, values = BREAKEVEN, np.minimum(found[key], found["capacity"]) * tokens
    rows = [
        Mover(
            key=one.key,
            low_input=float(one.low),
            high_input=float(one.high),
            at_low=float(values[2 * n + 1]),
            at_high=float(values[2 * n + 2]),
        )
        for n, one in enumerate(uncertain)
    ]
    moving = [row for row in rows if abs(row.at_high - row.at_low) > 1e-9 * abs(float(values[0]))]
    if not moving:
        return None
    return Movers(
        side=side,
        api=api,
        of=of,
        base=float(values[0]),
        rows=tuple(sorted(moving, key=lambda row: -abs(row.at_high - row.at_low))),
    )
