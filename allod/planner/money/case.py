"""One question about money: a task, offers, hardware; and every formula that answers it.

Each formula takes the inputs by key, as ``Decimal`` or as arrays of drawn values (``arithmetic``). A *task*
is one solved task: attempts that are repeated and answers that do not solve it are paid too, on every side.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Final, Literal, TypeAlias

import msgspec

from allod.domain.errors import Invalid
from allod.metering.rates import Rates, Step
from allod.planner.money.arithmetic import (
    HOURS_A_MONTH,
    MILLION,
    ONE,
    SECONDS_A_MONTH,
    Number,
    annuity,
    constant,
    exact,
    mean_growth,
    smallest,
    where,
)
from allod.planner.money.inputs import Inputs
from allod.planner.prices import Offer

Api: TypeAlias = Literal["frontier", "open"]
Values: TypeAlias = Mapping[str, Number]
FLAT: Final = (ONE,) * 24
HOURS: Final = 24


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A question.

    Attributes:
        inputs: all numbers with their intervals and sources.
        months: the term, 36 to 60.
        frontier, open: what the APIs charge; None is not known.
        device: what the hardware is, in words; devices: per node; nodes: how many.
        load_curve: work in each hour of the day (UTC), over the mean; tariff_curve: the same of the tariff.
        trouble: why a comparator is not known, by name.

    """

    inputs: Inputs
    months: int
    frontier: Offer | None = None
    open: Offer | None = None
    device: str = ""
    devices: int = 8
    nodes: int = 1
    load_curve: tuple[Decimal, ...] = FLAT
    tariff_curve: tuple[Decimal, ...] = FLAT
    day: date
    trouble: Mapping[str, str] = {}

    def offer(self, api: Api) -> Offer | None:
        """Return what one of the two APIs charges."""
        return self.frontier if api == "frontier" else self.open


def curve(numbers: tuple[Decimal, ...], name: str) -> tuple[Decimal, ...]:
    """Return a curve of 24 hours scaled to a mean of one.

    Raises:
        Invalid: not 24 numbers, one below zero or not finite, all zero.

    """
    if len(numbers) != HOURS or any(not one.is_finite() or one < 0 for one in numbers) or not sum(numbers):
        raise Invalid(
            f"{name} is no curve of a day",
            f"got {len(numbers)} numbers",
            "say 24 numbers of zero or more, by hour of the day (UTC)",
            param=name,
        )
    mean = sum(numbers, Decimal(0)) / HOURS
    return tuple(one / mean for one in numbers)


# -- the price of a token


def attempt_usd(case: Case, api: Api, x: Values) -> Number:
    """Return what one attempt at a task costs at an API today, USD: hours, sizes, cache and batch in it."""
    offer = case.offer(api)
    if offer is None:
        raise Invalid(f"the price of the {api} API is not known", case.trouble.get(api, ""), "name an entry")
    weights: dict[tuple[Step, ...], Decimal] = {}
    for n, tariff in enumerate(offer.slots):
        share = case.load_curve[n * HOURS // len(offer.slots)]
        weights[tariff.steps] = weights.get(tariff.steps, Decimal(0)) + share
    ratio, like = x[f"{api}.tokenizer_ratio"], x["task.output_tokens"]
    out = like * ratio * x[f"{api}.output_ratio"]
    total = constant(0, like)
    for steps, weight in weights.items():
        short = _request(steps, x["task.input_tokens"] * ratio, out, x)
        long = _request(steps, x["task.long_input_tokens"] * ratio, out, x)
        share = x["task.long_share"]
        total = total + constant(weight, like) * (short * (constant(1, like) - share) + long * share)
    # divided at the end, so that a price that is the same at all hours stays exact
    total = total / constant(sum(weights.values(), Decimal(0)), like)
    batch = constant(1, like) - x[f"{api}.batch_share"] * x[f"{api}.batch_discount"]
    return total * batch * x[f"{api}.price_factor"]


def _request(steps: tuple[Step, ...], read: Number, out: Number, x: Values) -> Number:
    """Price one request by the step its whole input reaches (the cliff the book's operators all have)."""
    cost = _priced(steps[0].rates, read, out, x)
    for step in steps[1:]:
        over = read > constant(step.above_tokens, read)
        cost = where(over, _priced(step.rates, read, out, x), cost)
    return cost


def _priced(rates: Rates, read: Number, out: Number, x: Values) -> Number:
    one = constant(1, out)
    cached, hidden = x["task.cached_share"], x["task.reasoning_share"]
    reading = (one - cached) * constant(rates.input_usd_mtok, out)
    reading = reading + cached * constant(rates.cached_input_usd_mtok, out)
    writing = (one - hidden) * constant(rates.output_usd_mtok, out)
    writing = writing + hidden * constant(rates.reasoning_usd_mtok, out)
    return (read * reading + out * writing) / constant(MILLION, out)


def solved(x: Values, side: str, success: str) -> Number:
    """Return how many attempts are paid for one solved task."""
    one = constant(1, x[success])
    return one / (one - x[f"{side}.retry_rate"]) / x[success]


def api_task_usd(case: Case, api: Api, x: Values) -> Number:
    """Return what a solved task costs at an API on the mean over the term, USD."""
    paid = attempt_usd(case, api, x) * solved(x, api, f"{api}.success")
    return paid * mean_growth(x[f"{api}.drift_year"], case.months)


# -- own and rented hardware


def own_success(x: Values) -> str:
    """Return the key of the success of the open model on own hardware."""
    return "own.success" if "own.success" in x else "open.success"


def capacity_tasks_month(case: Case, x: Values) -> Number:
    """Return how many solved tasks a month all nodes can do at full load within the promised latency."""
    like = x["own.tokens_s"]
    per_task = x["task.output_tokens"] * x["open.tokenizer_ratio"] * x["open.output_ratio"]
    reading = constant(1, like) - x["own.prefill_share"] * x["task.cached_share"]
    usable = like * x["own.slo_derate"] * x["own.availability"] / reading
    tasks = usable * constant(SECONDS_A_MONTH, like) * constant(case.nodes, like) / per_task
    return tasks / solved(x, "own", own_success(x))


def served(case: Case, x: Values) -> tuple[Number, Number]:
    """Return the tasks a month that own hardware does, and its utilisation (0 to 1).

    Raises:
        Invalid: exact numbers, and the work is none.

    """
    most = capacity_tasks_month(case, x)
    if "demand.tasks_month" in x:
        done = smallest(x["demand.tasks_month"] + constant(0, most), most)
    else:
        done = most * x["own.utilisation"]
    if exact(done) and done <= 0:
        raise Invalid(
            "the utilisation is zero",
            "hardware that does nothing has no cost per task",
            "say --utilisation above 0, or --tasks-month",
            param="own.utilisation",
        )
    return done, done / most


def node_usd(case: Case, x: Values) -> Number | None:
    """Return the price of one node, or None where it is not known."""
    if "buy.node_price_usd" in x:
        return x["buy.node_price_usd"]
    if "buy.device_price_usd" not in x:
        return None
    devices = x["buy.device_price_usd"] * constant(case.devices, x["buy.device_price_usd"])
    return devices * (constant(1, devices) + x["buy.chassis_share"])


def purchase_usd(case: Case, x: Values) -> Number | None:
    """Return what all nodes cost with spares, network and storage, or None where it is not known."""
    node = node_usd(case, x)
    if node is None:
        return None
    shares = x["buy.spares_share"] + x["buy.network_share"] + x["buy.storage_share"]
    return node * constant(case.nodes, node) * (constant(1, node) + shares)


def energy_kwh_month(case: Case, x: Values, utilisation: Number) -> Number:
    """Return the electricity of the computers a month, kWh, without the site's own (PUE)."""
    kw = x["site.allin_kw_device"] * constant(case.devices * case.nodes, utilisation)
    idle = x["site.idle_share"]
    load = idle + (constant(1, utilisation) - idle) * utilisation
    return kw * constant(HOURS_A_MONTH, utilisation) * load


def power_usd_month(case: Case, x: Values, utilisation: Number) -> Number:
    """Return what power costs a month by the curves of load and tariff, or colocation where that is said."""
    kw = x["site.allin_kw_device"] * constant(case.devices * case.nodes, utilisation)
    if "site.colo_usd_kw_month" in x:
        return kw * x["site.colo_usd_kw_month"]
    one, idle = constant(1, utilisation), x["site.idle_share"]
    priced = constant(0, utilisation)
    for load, tariff in zip(case.load_curve, case.tariff_curve, strict=True):
        at = idle + (one - idle) * utilisation * constant(load, utilisation)
        priced = priced + at * constant(tariff, utilisation) / constant(HOURS, utilisation)
    return kw * constant(HOURS_A_MONTH, utilisation) * priced * x["site.pue"] * x["site.tariff_usd_kwh"]


def running_parts(case: Case, x: Values) -> dict[str, Number]:
    """Return what running hardware costs a month whoever owns it: people, licences, line, audit."""
    year = constant(12, x["run.staff_fte"])
    devices = constant(case.devices * case.nodes, year)
    return {
        "staff": x["run.staff_fte"] * x["run.fte_usd_year"] / year,
        "software": x["run.software_usd_device_year"] * devices / year,
        "egress": x["run.egress_usd_month"],
        "audit": x["run.audit_usd_month"],
    }


def own_parts(case: Case, x: Values, utilisation: Number) -> dict[str, Number]:
    """Return what own hardware costs a month, by part, USD.

    Where no purchase price is known, a published owner's rate an hour stands for hardware, power, support.

    Raises:
        Invalid: neither is known.

    """
    bought = purchase_usd(case, x)
    if bought is None:
        if "buy.owner_usd_device_h" not in x:
            case.inputs.value("buy.device_price_usd")
        hours = constant(HOURS_A_MONTH, utilisation) * constant(case.devices * case.nodes, utilisation)
        return {"hardware_hosted": x["buy.owner_usd_device_h"] * hours, **running_parts(case, x)}
    nodes = node_usd(case, x) * constant(case.nodes, bought)
    residual = nodes * x["buy.residual_share"]
    return {
        "capital": annuity(bought, x["buy.financing_rate"], case.months, residual),
        "colocation" if "site.colo_usd_kw_month" in x else "power": power_usd_month(case, x, utilisation),
        "support": nodes * x["buy.support_share_year"] / constant(12, bought),
        **running_parts(case, x),
    }


def rented_parts(case: Case, x: Values) -> dict[str, Number]:
    """Return what rented hardware costs a month, by part, USD.

    Raises:
        Invalid: the rent is not known.

    """
    if "rent.usd_device_h" not in x:
        case.inputs.value("rent.usd_device_h")
    rent = x["rent.usd_device_h"]
    hours = constant(HOURS_A_MONTH, rent) * constant(case.devices * case.nodes, rent)
    return {"rent": rent * hours, **running_parts(case, x)}


def whole(parts: Mapping[str, Number]) -> Number:
    """Add up."""
    values = list(parts.values())
    return sum(values[1:], values[0])
