"""Four ways to have the same tasks done, side by side: frontier API, open model's API, rented, own.

``outcome`` is the one place where they are computed, exactly or over drawn values. What is not known of one
(no entry, no price, no speed) leaves that one out and says what to pass; the others stand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

import msgspec

from allod.domain.errors import Invalid
from allod.planner.estimate import Estimate
from allod.planner.money import case as sums
from allod.planner.money.arithmetic import MILLION, Number, constant, exact, exactly, where
from allod.planner.money.montecarlo import DRAWS, SEED, drawn, ends

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allod.planner.money.case import Api, Case, Values

Side: TypeAlias = Literal["frontier", "open", "rented", "own"]
SIDES: Final[tuple[Side, ...]] = get_args(Side)
APIS: Final[tuple[Api, ...]] = ("frontier", "open")
HARDWARE: Final[tuple[Side, ...]] = ("rented", "own")
PLACES: Final = 12
"""Decimal places of a price that has no end, because it changes by the hour."""
HOSTED_NOTE: Final = (
    "no purchase price is known: a published owner's rate an hour stands for hardware, hosting, power and "
    "support; say --device-price or --node-price for the whole sum"
)


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One way: its cost a month, a million tokens and a solved task, USD; and what a month is made of.

    ``attempt_usd`` is the exact price of one attempt at an API today, before retries and drift. ``usd_mtok``
    divides by all tokens of solved tasks, read and written; ``usd_mtok_output`` by written ones.
    """

    side: Side
    name: str
    month_usd: Estimate | None = None
    usd_mtok: Estimate | None = None
    usd_mtok_output: Estimate | None = None
    task_usd: Estimate | None = None
    attempt_usd: str | None = None
    parts: Mapping[str, float] = {}
    note: str = ""
    unknown: str = ""


def known_sides(case: Case) -> tuple[Side, ...]:
    """Return the ways whose facts are all there."""
    return tuple(side for side in SIDES if side not in case.trouble)


def outcome(case: Case, x: Values) -> dict[str, Any]:
    """Return all results for inputs by key: ``SIDE.month``, ``SIDE.task``, ``own.breakeven.API``, ...

    Break-even is in tasks a month; infinite (None for exact numbers) says never: within what the nodes can do
    the API stays cheaper.

    Raises:
        Invalid: no way to tell how much work there is, or it is none.

    """
    sides = known_sides(case)
    out: dict[str, Any] = {}
    tasks, utilisation, most = _work(case, x)
    out["tasks"], out["utilisation"], out["capacity"] = tasks, utilisation, most
    for api in APIS:
        if api in sides:
            task = sums.api_task_usd(case, api, x)
            month = task * tasks + x[f"{api}.fixed_usd_month"]
            out[f"{api}.unit"], out[f"{api}.month"], out[f"{api}.task"] = task, month, month / tasks
    for side in HARDWARE:
        if side not in sides or utilisation is None:
            continue
        parts = sums.own_parts(case, x, utilisation) if side == "own" else sums.rented_parts(case, x)
        out[f"{side}.parts"] = parts
        out[f"{side}.month"] = sums.whole(parts)
        out[f"{side}.task"] = out[f"{side}.month"] / tasks
        for api in APIS:
            if api in sides:
                out[f"{side}.breakeven.{api}"] = _breakeven(case, x, side, api, out)
    return out


def _work(case: Case, x: Values) -> tuple[Number, Number | None, Number | None]:
    """Return tasks a month, utilisation and capacity; the latter two None where no speed is known."""
    if "own.tokens_s" in x:
        tasks, utilisation = sums.served(case, x)
        return tasks, utilisation, sums.capacity_tasks_month(case, x)
    if "demand.tasks_month" in x:
        return x["demand.tasks_month"], None, None
    raise Invalid(
        "it cannot be told how much work there is",
        f"tasks a month are not said, and {case.trouble.get('own', 'no speed is known')}",
        "say --tasks-month, or --tokens-per-second with --utilisation",
        param="demand.tasks_month",
    )


def _breakeven(case: Case, x: Values, side: Side, api: Api, out: Mapping[str, Any]) -> Number | None:
    """Return the tasks a month from which hardware costs less than an API; never is infinite, or None."""
    most, unit = out["capacity"], out[f"{api}.unit"]
    none, full = constant(0, most) * most, constant(1, most) + constant(0, most) * most
    if side == "own":
        fixed = sums.whole(sums.own_parts(case, x, none))
        each = (sums.whole(sums.own_parts(case, x, full)) - fixed) / most
    else:
        fixed, each = sums.whole(sums.rented_parts(case, x)), none
    fixed = fixed - x[f"{api}.fixed_usd_month"]
    gain = unit - each
    if exact(gain):
        if fixed <= 0:
            return constant(0, gain)
        return None if gain <= 0 or fixed / gain > most else fixed / gain
    import numpy as np  # noqa: PLC0415 (only for drawn values)

    with np.errstate(divide="ignore", invalid="ignore"):
        found = where(gain > 0, fixed / where(gain > 0, gain, 1.0), np.inf)
    found = where(fixed <= 0, 0.0, found)
    return where(found > most, np.inf, found)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The four ways with their intervals, the exact middle and the drawn outcomes they come from."""

    ways: tuple[Compared, ...]
    middle: Mapping[str, Any]
    outcomes: Mapping[str, Any]
    draws: int
    seed: int


def compare(case: Case, names: Mapping[Side, str], draws: int = DRAWS, seed: int = SEED) -> Result:
    """Compare all ways: the middle exactly, the 80 % intervals over drawn inputs.

    Args:
        case: the question; names: what each way is called.
        draws, seed: see ``montecarlo``.

    Raises:
        Invalid: see ``outcome`` and ``drawn``.

    """
    middle = exactly(lambda: outcome(case, case.inputs.middle()))
    outcomes = outcome(case, drawn(case.inputs, draws, seed))
    ways = tuple(_way(case, side, names[side], middle, outcomes) for side in SIDES)
    return Result(ways=ways, middle=middle, outcomes=outcomes, draws=draws, seed=seed)


def _way(
    case: Case, side: Side, name: str, middle: Mapping[str, Any], outcomes: Mapping[str, Any]
) -> Compared:
    if f"{side}.month" not in middle:
        return Compared(side=side, name=name, unknown=case.trouble.get(side, "not known"))
    read = case.inputs.value("task.input_tokens")
    written = case.inputs.value("task.output_tokens")
    attempt = None
    if side in APIS:
        x = case.inputs.middle()
        api: Api = "frontier" if side == "frontier" else "open"
        attempt = f"{round(exactly(lambda: sums.attempt_usd(case, api, x)), PLACES).normalize():f}"

    def estimate(number: Any, values: Any, per: Any = 1) -> Estimate:
        low, high = ends(values)
        value, scale = float(number / per), float(per)
        return Estimate(
            value=value,
            low=min(low / scale, value),
            high=max(high / scale, value),
            source=f"middle exact, 80 % of drawn outcomes; inputs with sources below; prices of {case.day}",
            as_of=case.day,
        )

    task, drawn_task = middle[f"{side}.task"], outcomes[f"{side}.task"]
    return Compared(
        side=side,
        name=name,
        month_usd=estimate(middle[f"{side}.month"], outcomes[f"{side}.month"]),
        task_usd=estimate(task, drawn_task),
        usd_mtok=estimate(task, drawn_task, (read + written) / MILLION),
        usd_mtok_output=estimate(task, drawn_task, written / MILLION),
        attempt_usd=attempt,
        parts={part: float(value) for part, value in middle.get(f"{side}.parts", {}).items()},
        note=HOSTED_NOTE if "hardware_hosted" in middle.get(f"{side}.parts", {}) else "",
    )
