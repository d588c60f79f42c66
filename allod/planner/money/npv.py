"""The cash of the years: own (bought or leased), rented, or by the token, for the same growing work.

Month by month. Prices of tokens fall or rise by their drift; work grows, comes in part only (utilisation
risk), and rebounds as a task gets cheaper. Hardware comes after its lead time and takes over by a ramp; until
then, and for what exceeds what the nodes can do, the API of the open model is paid (else the frontier's).
Everything is discounted to the day of the order. Money is nominal USD.

Sources: net present value as in any textbook of corporate finance; the rebound is a constant elasticity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec

from allod.domain.errors import Invalid
from allod.planner.money import case as sums
from allod.planner.money.arithmetic import annuity, grown
from allod.planner.money.comparators import APIS, known_sides
from allod.planner.money.montecarlo import DRAWS, SEED, drawn, ends

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allod.planner.money.case import Api, Case

Option: TypeAlias = Literal["frontier", "open", "rent", "lease", "buy"]
OPTIONS: Final[tuple[Option, ...]] = ("frontier", "open", "rent", "lease", "buy")
OWNED: Final[tuple[Option, ...]] = ("lease", "buy")
SURE: Final = 0.9
"""A share of outcomes from which on something is said without a doubt."""
Three: TypeAlias = tuple[float, float, float]


class Path(msgspec.Struct, frozen=True, kw_only=True):
    """One option: its cost at present value and by year, USD, each (middle, low, high).

    ``cheapest`` is the chance that it is the cheapest of all that are known.
    """

    option: Option
    present_usd: Three
    years_usd: tuple[Three, ...]
    cheapest: float


class Npv(msgspec.Struct, frozen=True, kw_only=True):
    """What comes of it.

    Attributes:
        months, draws, seed: of the term and the drawing.
        paths: every option that is known; unknown: why others are not, and what to say.
        against: the API that buying is held against: the cheaper of the two.
        npv_usd: of the better way to own (``owned``) against that API; gain: chance that it is above zero.
        flows_usd: by year, what owning saves (above zero) or costs against that API.
        sovereignty_usd_month: what owning costs a month more than that API, on the mean of the term.
        work: solved tasks a month by year: (middle, low, high).
        overflow: share of the work, over the term, that the nodes cannot do.
        verdict: what to say to whoever decides.

    """

    months: int
    draws: int
    seed: int
    paths: tuple[Path, ...]
    unknown: Mapping[str, str]
    against: Api | None
    owned: Option | None
    npv_usd: Three | None
    gain: float | None
    flows_usd: tuple[Three, ...]
    sovereignty_usd_month: Three | None
    work: tuple[Three, ...]
    overflow: float
    verdict: str


def plan(case: Case, draws: int = DRAWS, seed: int = SEED) -> Npv:
    """Compute all options over the term.

    Raises:
        Invalid: no API is known, no speed or no work is known, or lead and ramp exceed the term.

    """
    _possible(case)
    x = drawn(case.inputs, draws, seed)
    # the first row is the middle of all inputs, the others are drawn
    rows = {key: _rows(value, float(case.inputs.by_key[key].value), draws) for key, value in x.items()}
    flows, unknown, work, spilled = _options(case, rows)
    rate = rows["npv.discount_year"]
    present = {name: _present(flow, rate) for name, flow in flows.items()}
    best = _cheapest(present)
    paths = tuple(
        Path(
            option=name,
            present_usd=_three(present[name]),
            years_usd=tuple(_three(one) for one in _by_year(flows[name])),
            cheapest=best[name],
        )
        for name in OPTIONS
        if name in present
    )
    return _told(case, rows, flows, present, paths, unknown, work, spilled, draws, seed)


def _possible(case: Case) -> None:
    known = known_sides(case)
    if not any(api in known for api in APIS):
        raise Invalid(
            "there is nothing to hold hardware against",
            "; ".join(case.trouble.get(api, "") for api in APIS),
            "name an entry of the price book",
        )
    if "own.tokens_s" not in case.inputs:
        raise Invalid(
            "how much the hardware does is not known",
            case.trouble.get("own") or "no speed is known",
            "say --on DEVICE with a model that fits it, or --tokens-per-second as measured",
            param="own.tokens_s",
        )
    for key in ("npv.lead_months", "npv.ramp_months"):
        if case.inputs.value(key) >= case.months:
            raise Invalid(
                f"{key} leaves no time",
                f"got {case.inputs.value(key)} of {case.months} months",
                "say a longer term or a shorter one",
                param=key,
            )


def _rows(value: Any, middle: float, draws: int) -> Any:
    import numpy as np  # noqa: PLC0415 (only where something is drawn)

    return np.concatenate([[middle], np.broadcast_to(np.asarray(value, dtype=float), (draws,))])


def _options(
    case: Case, x: Mapping[str, Any]
) -> tuple[dict[Option, list[Any]], dict[str, str], list[Any], Any]:
    """Return the cash of each option by month (USD, costs above zero), why others are unknown, the work."""
    known = known_sides(case)
    unit = {
        api: sums.attempt_usd(case, api, x) * sums.solved(x, api, f"{api}.success")
        for api in APIS
        if api in known
    }
    reference: Api = "open" if "open" in unit else "frontier"
    most = sums.capacity_tasks_month(case, x)
    first = _first_work(x, most)
    flows: dict[Option, list[Any]] = {api: [] for api in APIS if api in unit}
    work, here, price = [], [], []
    for month in range(case.months):
        factor = {api: grown(x[f"{api}.drift_year"], month) for api in unit}
        rebound = factor[reference] ** (-x["demand.elasticity"])
        tasks = first * grown(x["demand.growth_year"], month) * rebound
        for api, each in unit.items():
            flows[api].append(each * factor[api] * tasks + x[f"{api}.fixed_usd_month"])
        work.append(tasks)
        price.append(unit[reference] * factor[reference])
        here.append(_moved(x, month) * _least(tasks, most))
    unknown: dict[str, str] = {}
    for option in ("rent", "lease", "buy"):
        try:
            spent = _hardware(case, x, option, here, most)
        except Invalid as fault:
            unknown[option] = f"{fault.what}: {fault.remedy}"
            continue
        if option == "rent":
            # rented hardware is there at once: only the ramp is waited for
            at_once = [_ramped(x, m) * _least(tasks, most) for m, tasks in enumerate(work)]
        else:
            at_once = here
        flows[option] = [
            cash + (tasks - done) * each
            for cash, tasks, done, each in zip(spent, work, at_once, price, strict=True)
        ]
    total = sum(work)
    spilled = 1 - sum(_least(tasks, most) for tasks in work) / total
    return flows, unknown, work, spilled


def _first_work(x: Mapping[str, Any], most: Any) -> Any:
    planned = x["demand.tasks_month"] if "demand.tasks_month" in x else most * x["own.utilisation"]
    return planned * x["demand.realised_share"]


def _least(a: Any, b: Any) -> Any:
    import numpy as np  # noqa: PLC0415

    return np.minimum(a, b)


def _ramped(x: Mapping[str, Any], since: Any) -> Any:
    """Return the share of the work that has moved, so many months after the hardware serves."""
    import numpy as np  # noqa: PLC0415

    return np.clip((since + 1) / np.maximum(x["npv.ramp_months"], 1), 0, 1)


def _moved(x: Mapping[str, Any], month: int) -> Any:
    import numpy as np  # noqa: PLC0415

    since = month - np.ceil(x["npv.lead_months"])
    return np.where(since < 0, 0.0, _ramped(x, since))


def _hardware(case: Case, x: Mapping[str, Any], option: str, here: Sequence[Any], most: Any) -> list[Any]:
    """Return what the hardware costs each month, USD, without tokens bought elsewhere.

    Raises:
        Invalid: its price is not known.

    """
    running = sums.whole(sums.running_parts(case, x))
    if option == "rent":
        rent = sums.rented_parts(case, x)["rent"]
        return [rent * grown(x["rent.drift_year"], 12 * (m // 12)) + running for m in range(case.months)]
    bought = sums.purchase_usd(case, x)
    node = sums.node_usd(case, x)
    if bought is None or node is None:
        raise Invalid(
            "what the hardware costs to buy is not known",
            "the catalogue has no purchase price of it",
            "say --device-price USD or --node-price USD",
            param="buy.device_price_usd",
        )
    case.inputs.value("site.allin_kw_device")
    nodes = node * case.nodes
    support = nodes * x["buy.support_share_year"] / 12
    monthly = annuity(bought, x["lease.rate_year"], case.months, nodes * x["lease.residual_share"])
    return [
        _month(case, x, option, m, here[m] / most, support + running, monthly, bought, nodes)
        for m in range(case.months)
    ]


def _month(
    case: Case,
    x: Mapping[str, Any],
    option: str,
    month: int,
    load: Any,
    running: Any,
    lease: Any,
    bought: Any,
    nodes: Any,
) -> Any:
    import numpy as np  # noqa: PLC0415

    lead = np.minimum(np.ceil(x["npv.lead_months"]), case.months - 1)
    serving = month >= lead
    cash = np.where(serving, running + sums.power_usd_month(case, x, load), 0.0)
    if option == "lease":
        return cash + np.where(serving, lease, 0.0)
    if month == 0:
        cash = cash + bought * x["npv.deposit_share"]
    cash = cash + np.where(month == lead, bought * (1 - x["npv.deposit_share"]), 0.0)
    if month == case.months - 1:
        cash = cash - nodes * x["buy.residual_share"]
    return cash


def _present(flow: Sequence[Any], rate_year: Any) -> Any:
    return sum(cash / grown(rate_year, month) for month, cash in enumerate(flow))


def _by_year(flow: Sequence[Any]) -> list[Any]:
    return [sum(flow[begin : begin + 12]) for begin in range(0, len(flow), 12)]


def _cheapest(present: Mapping[Option, Any]) -> dict[Option, float]:
    import numpy as np  # noqa: PLC0415

    names = list(present)
    first = np.argmin(np.stack([present[name][1:] for name in names]), axis=0)
    return {name: float(np.mean(first == n)) for n, name in enumerate(names)}


def _three(values: Any) -> Three:
    """Return the middle (the first row), and the ends of 80 % of the drawn ones."""
    low, high = ends(values[1:])
    middle = float(values[0])
    return middle, min(low, middle), max(high, middle)


def _told(
    case: Case,
    x: Mapping[str, Any],
    flows: Mapping[Option, list[Any]],
    present: Mapping[Option, Any],
    paths: tuple[Path, ...],
    unknown: Mapping[str, str],
    work: Sequence[Any],
    spilled: Any,
    draws: int,
    seed: int,
) -> Npv:
    import numpy as np  # noqa: PLC0415

    apis: list[Api] = [api for api in APIS if api in present]
    against = min(apis, key=lambda name: float(present[name][0]))
    owned = [name for name in OWNED if name in present]
    better = min(owned, key=lambda name: float(present[name][0]), default=None)
    npv = gain = sovereignty = None
    yearly: tuple[Three, ...] = ()
    spread = sum(1 / grown(x["npv.discount_year"], month) for month in range(case.months))
    rented = ""
    if better is None and "rent" in present:
        value, low, high = _three((present["rent"] - present[against]) / spread)
        if value < 0:
            value, low, high = -value, -high, -low
        word = "less" if float(present["rent"][0]) < float(present[against][0]) else "more"
        amount = f"{usd(value)} a month ({usd(low)} to {usd(high)})"
        rented = f" Rented hardware costs {amount} {word} than {_NAMES[against]}."
    if better is not None:
        saved = present[against] - present[better]
        npv, gain = _three(saved), float(np.mean(saved[1:] > 0))
        sovereignty = _three(-saved / spread)
        differences = [api - own for api, own in zip(flows[against], flows[better], strict=True)]
        yearly = tuple(_three(one) for one in _by_year(differences))
    return Npv(
        months=case.months,
        draws=draws,
        seed=seed,
        paths=paths,
        unknown=unknown,
        against=against,
        owned=better,
        npv_usd=npv,
        gain=gain,
        flows_usd=yearly,
        sovereignty_usd_month=sovereignty,
        work=tuple(_three(one / min(12, case.months - 12 * n)) for n, one in enumerate(_by_year(work))),
        overflow=float(spilled[0]),
        verdict=verdict(against, better, npv, gain, sovereignty, paths) + rented,
    )


_NAMES: Final[Mapping[str, str]] = {
    "frontier": "the frontier API",
    "open": "the hosted open model",
    "rent": "rented hardware",
    "lease": "leasing",
    "buy": "buying",
}


def verdict(
    against: Api,
    owned: Option | None,
    npv: Three | None,
    gain: float | None,
    sovereignty: Three | None,
    paths: Sequence[Path],
) -> str:
    """Say what the numbers say, and how sure that is."""
    other = _NAMES[against]
    if owned is None or npv is None or gain is None or sovereignty is None:
        return f"Not decided: what hardware costs is not known. Until it is said, {other} is what there is."
    best = min(paths, key=lambda one: one.present_usd[0])
    rented = " Rented hardware is cheapest." if best.option == "rent" else ""
    extra = f"{usd(sovereignty[0])} a month ({usd(sovereignty[1])} to {usd(sovereignty[2])})"
    if npv[0] <= 0 and gain <= 1 - SURE:
        return (
            f"Do not buy: {other} is cheaper; sovereignty costs {extra}. "
            f"Owning paid in {_share(gain)} of the outcomes.{rented}"
        )
    if npv[0] <= 0:
        return (
            f"Do not buy for the price alone: {other} is mostly cheaper; sovereignty costs {extra}. "
            f"Owning paid in {_share(gain)} of the outcomes.{rented}"
        )
    if gain >= SURE:
        return (
            f"Own it, by {_NAMES[owned]}: against {other} it saves {usd(npv[0])} at present value "
            f"({usd(npv[1])} to {usd(npv[2])}), in {_share(gain)} of the outcomes.{rented}"
        )
    return (
        f"Not decided: against {other}, {_NAMES[owned]} saves {usd(npv[0])} at present value in the middle, "
        f"but {usd(npv[1])} to {usd(npv[2])} is possible; it pays in {_share(gain)} of the outcomes.{rented}"
    )


def usd(amount: float) -> str:
    """Write an amount for a sentence: ``USD 12,300``; below zero with its sign."""
    size = abs(amount)
    places = 2 if size >= 10_000 else 1 if size >= 1000 else 0  # noqa: PLR2004 (three digits that count)
    digits = f"{round(size, -places):,.0f}"
    return f"{'-' if amount < 0 else ''}USD {digits}"


def _share(share: float) -> str:
    percent = 100 * share
    return "under 1 %" if 0 < percent < 1 else "over 99 %" if 99 < percent < 100 else f"{percent:.0f} %"  # noqa: PLR2004
