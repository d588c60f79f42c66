"""The results as sentences and pictures that somebody who decides can read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.planner.money.arithmetic import exactly
from allod.planner.money.breakeven import BREAKEVEN, SELDOM
from allod.planner.money.comparators import HARDWARE, SIDES, outcome
from allod.planner.money.inputs import made
from allod.planner.money.montecarlo import SEED, drawn, ends
from allod.planner.money.npv import usd
from allod.planner.pictures import Bar, Flow, Line, Mark, Picture, Span, Stack, Swing
from allod.planner.pictures import bars as bar_picture
from allod.planner.pictures import cashflow as cash_picture
from allod.planner.pictures import lines as line_picture
from allod.planner.pictures import stacks as stack_picture
from allod.planner.pictures import tornado as tornado_picture
from allod.planner.pictures.canvas import between, short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allod.planner.money.breakeven import Break, Movers
    from allod.planner.money.case import Case
    from allod.planner.money.comparators import Compared, Result, Side
    from allod.planner.money.npv import Npv

KINDS: Final = {
    "frontier": "frontier",
    "open": "open",
    "rented": "rent",
    "rent": "rent",
    "lease": "plain",
    "own": "own",
    "buy": "own",
}
SIDE_WORDS: Final = {"own": "Own hardware", "rented": "Rented hardware"}
API_WORDS: Final = {"frontier": "the frontier API", "open": "the open model's own API"}
OPTION_WORDS: Final = {
    "frontier": "Frontier API",
    "open": "Hosted open model",
    "rent": "Rent",
    "lease": "Lease",
    "buy": "Buy",
}
GROUPS: Final = {
    "frontier": "Frontier API",
    "open": "Open model",
    "own": "Own",
    "rent": "Rent",
    "lease": "Lease",
}
LABELS: Final = {
    "retry_rate": "attempts repeated",
    "success": "success",
    "tokenizer_ratio": "tokens for the same text",
    "output_ratio": "length of answers",
    "frontier.drift_year": "change of price a year",
    "open.drift_year": "change of API price a year",
    "rent.drift_year": "change of rent a year",
    "tokens_s": "output tokens/s of a node",
    "utilisation": "utilisation",
    "slo_derate": "usable within latency",
    "availability": "time in service",
    "prefill_share": "time spent reading",
    "device_price_usd": "price of a device, USD",
    "node_price_usd": "price of a node, USD",
    "owner_usd_device_h": "owner's rate, USD/h",
    "chassis_share": "rest of the node",
    "spares_share": "spares",
    "network_share": "network",
    "storage_share": "storage",
    "financing_rate": "financing a year",
    "residual_share": "residual value",
    "support_share_year": "support a year",
    "usd_device_h": "USD per device and hour",
    "tariff_usd_kwh": "power, USD/kWh",
    "pue": "PUE",
    "idle_share": "power without work",
    "allin_kw_device": "kW of a device",
    "staff_fte": "staff, FTE",
    "fte_usd_year": "USD a year per FTE",
    "software_usd_device_year": "software, USD/device/year",
    "egress_usd_month": "line, USD/month",
    "audit_usd_month": "audit, USD/month",
    "tasks_month": "tasks a month",
}
PERCENT: Final = frozenset(
    "drift_year growth_year retry_rate success utilisation slo_derate availability prefill_share "
    "chassis_share spares_share network_share storage_share financing_rate residual_share "
    "support_share_year idle_share".split()
)
POINTS: Final = 13
CURVE_DRAWS: Final = 2000
MOST_SWINGS: Final = 9
WHISKERS: Final = "Whiskers and bands hold 80 % of the drawn outcomes."


def verdict(case: Case, result: Result, breaks: Sequence[Break]) -> tuple[str, ...]:
    """Return the sentences to take away."""
    known = [one for one in result.ways if one.task_usd is not None]
    tasks = float(result.middle["tasks"])
    out = [f"For {short(tasks)} solved tasks a month{_busy(result)}:"]
    best = min(known, key=lambda one: one.task_usd.value if one.task_usd else 0.0)
    others = [one for one in known if one is not best]
    out.append(f"The cheapest is {best.name}, at {_three(best)} a task.")
    assert best.task_usd is not None
    for one in others:
        assert one.task_usd is not None
        if best.task_usd.value:
            out.append(f"{one.name} costs {one.task_usd.value / best.task_usd.value:.1f} times as much.")
    out += [broken(one) for one in breaks if one.side == "own"]
    if case.inputs.value("frontier.success") == case.inputs.value("open.success") == 1:
        out.append(
            "Success was set to 1 on all sides: measure it (`allod eval`), it is the price of cheap answers."
        )
    return tuple(out)


def _busy(result: Result) -> str:
    busy = result.middle["utilisation"]
    return "" if busy is None else f" ({100 * float(busy):.0f} % of what the nodes do)"


def _three(one: Compared) -> str:
    est = one.task_usd
    assert est is not None
    return f"USD {money(est.value)} ({money(est.low)} to {money(est.high)})"


def money(value: float) -> str:
    """Write an amount with three digits that count (4.20, 0.0390), without a suffix below a million."""
    if value == 0:
        return "0"
    if abs(value) >= 999.5:  # noqa: PLR2004 (from here on whole dollars)
        return f"{value:,.0f}"
    text = f"{value:#.3g}".removesuffix(".")
    return short(value) if "e" in text else text


def broken(one: Break) -> str:
    """Say a break-even in one sentence."""
    what = f"{SIDE_WORDS[one.side]} against {API_WORDS[one.api]}: "
    tokens = short(one.capacity_tasks * one.tokens)
    most = f"the nodes do {short(one.capacity_tasks)} tasks ({tokens} tokens) a month"
    if one.low is None:
        return f"{what}never breaks even in 90 % of the outcomes or more; {most}."
    ends_ = (
        f"from {short(one.low)} tasks a month to never"
        if one.high is None
        else f"{between(one.low, one.high)} tasks a month"
    )
    if one.tasks is None:
        return f"{what}never breaks even at the middle of all inputs (80 %: {ends_}); {most}."
    never = f"; never in {100 * one.share_never:.0f} % of the outcomes" if one.share_never >= SELDOM else ""
    return (
        f"{what}breaks even at {short(one.tasks)} tasks a month, {short(one.tasks * one.tokens)} tokens "
        f"(80 %: {ends_}{never}); {most}."
    )


def tasks_picture(result: Result) -> Picture:
    """Draw the cost of a solved task of every way."""
    rows = [
        Bar(one.name, None, text="not known")
        if one.task_usd is None
        else Bar(
            one.name,
            1000 * one.task_usd.value,
            1000 * one.task_usd.low,
            1000 * one.task_usd.high,
            KINDS[one.side],
        )
        for one in result.ways
    ]
    return bar_picture(
        "What a thousand solved tasks cost",
        rows,
        "USD per 1,000 solved tasks",
        about=f"With retries and answers that do not solve. {WHISKERS}",
    )


def parts_picture(result: Result) -> Picture | None:
    """Draw what a month of hardware is made of; None where none is known."""
    rows = [
        Stack(
            one.name,
            tuple((name.replace("_", " "), value) for name, value in one.parts.items() if value > 0),
            one.month_usd.low,
            one.month_usd.high,
        )
        for one in result.ways
        if one.parts and one.month_usd is not None
    ]
    return (
        stack_picture("What a month of hardware is made of", rows, "USD per month", about=WHISKERS)
        if rows
        else None
    )


def volume_picture(case: Case, result: Result, breaks: Sequence[Break], seed: int = SEED) -> Picture | None:
    """Draw what a month costs by volume, up to what the nodes do; None without a speed."""
    most = result.middle["capacity"]
    if most is None:
        return None
    shares = [max(n, 0.05) / (POINTS - 1) for n in range(POINTS)]
    tokens = float(case.inputs.value("task.input_tokens") + case.inputs.value("task.output_tokens"))
    series: dict[Side, tuple[list[tuple[float, float]], list[tuple[float, float, float]]]] = {}
    for share in shares:
        at = _at(case, float(most) * share)
        middle = exactly(lambda one=at: outcome(one, one.inputs.middle()))  # type: ignore[misc]
        spread = outcome(at, drawn(at.inputs, CURVE_DRAWS, seed))
        for side in SIDES:
            if f"{side}.month" not in middle:
                continue
            x = float(most) * share * tokens
            value = float(middle[f"{side}.month"])
            # what a draw of the nodes cannot do is not paid: hold the cost to the volume asked
            scale = float(middle["tasks"]) / spread["tasks"] if side not in HARDWARE else 1.0
            low, high = ends(spread[f"{side}.month"] * scale)
            points, band = series.setdefault(side, ([], []))
            points.append((x, value))
            band.append((x, min(low, value), max(high, value)))
    names = {one.side: one.name for one in result.ways}
    drawn_lines = [
        Line(names[side], tuple(points), tuple(band), KINDS[side]) for side, (points, band) in series.items()
    ]
    marks, spans = _reached(breaks)
    return line_picture(
        "What a month costs by volume, up to what the nodes can do",
        drawn_lines,
        x_unit="tokens a month, read and written",
        y_unit="USD per month",
        about=WHISKERS,
        marks=marks,
        spans=spans,
    )


def _at(case: Case, tasks: float) -> Case:
    from decimal import Decimal  # noqa: PLC0415 (beside its use)

    work = made("demand.tasks_month", Decimal(repr(max(tasks, 1.0))), as_of=case.day)
    return msgspec.structs.replace(
        case, inputs=case.inputs.without("own.utilisation").having([work], said=False)
    )


def _reached(breaks: Sequence[Break]) -> tuple[list[Mark], list[Span]]:
    found = next(
        (one for one in breaks if one.side == "own" and one.tasks is not None and one.low is not None), None
    )
    if found is None or found.tasks is None or found.low is None:
        return [], []
    against = API_WORDS[found.api]
    top = found.capacity_tasks if found.high is None else found.high
    return (
        [Mark(found.tasks * found.tokens, f"own hardware breaks even with {against}")],
        [Span(found.low * found.tokens, top * found.tokens, "80 % of the outcomes break even here")],
    )


def movers_picture(movers: Movers) -> Picture:
    """Draw which inputs move the break-even most."""
    of = movers.of
    against = moved(movers)
    never = " Drawn at the edge: never." if of == BREAKEVEN else ""
    return tornado_picture(
        f"What moves {against}",
        movers.base,
        [
            Swing(
                label(row.key),
                row.at_low,
                row.at_high,
                written(row.key, row.low_input),
                written(row.key, row.high_input),
            )
            for row in movers.rows[:MOST_SWINGS]
        ],
        of,
        about=f"Each input alone at the ends of its interval, the others at their middle.{never}",
    )


def moved(movers: Movers) -> str:
    """Say what is moved."""
    what = SIDE_WORDS[movers.side].lower()
    if movers.api is None:
        return f"the cost of a task on {what}"
    if movers.of == BREAKEVEN:
        return f"the break-even of {what} with {API_WORDS[movers.api]}"
    return f"the cost of {what} against {API_WORDS[movers.api]}"


def label(key: str) -> str:
    """Return a name for a key that somebody who decides knows."""
    group, name = key.split(".")
    words = LABELS.get(key) or LABELS.get(name)
    if words is None:
        return key.replace(".", ": ").replace("_", " ")
    return f"{GROUPS[group]}: {words}" if group in GROUPS else words[0].upper() + words[1:]


def written(key: str, value: float) -> str:
    """Write a value of a key: shares and rates as percent."""
    if key.split(".")[1] in PERCENT:
        return f"{short(100 * value)} %"
    return short(value)


def options_picture(npv: Npv) -> Picture:
    """Draw the cost of every option at present value."""
    rows = [Bar(OPTION_WORDS[one.option], *one.present_usd, kind=KINDS[one.option]) for one in npv.paths]
    rows += [Bar(OPTION_WORDS[name], None, text="not known") for name in npv.unknown]
    return bar_picture(
        f"What {npv.months} months of the same work cost, at present value",
        rows,
        "USD",
        about=WHISKERS,
    )


def flows_picture(npv: Npv) -> Picture | None:
    """Draw what owning saves or costs by year; None where it is not known."""
    if npv.owned is None or npv.against is None:
        return None
    return cash_picture(
        f"{OPTION_WORDS[npv.owned]}: cash against {API_WORDS[npv.against]}",
        [Flow(f"year {n + 1}", *three) for n, three in enumerate(npv.flows_usd)],
        "USD, not discounted",
        about=f"Above zero it saves, below it costs. {WHISKERS}",
    )


def cost_data(value: Any) -> Any:
    """Return a result for a program: structs as tables, floats to eight digits that count."""
    if isinstance(value, float):
        return float(f"{value:.8g}")
    if isinstance(value, dict):
        return {key: cost_data(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [cost_data(one) for one in value]
    if isinstance(value, msgspec.Struct):
        return cost_data(msgspec.to_builtins(value))
    return value


def npv_lines(npv: Npv) -> list[tuple[str, str, str, str]]:
    """Return a table of the options: name, present value, interval, chance of being the cheapest."""
    rows = [
        (
            OPTION_WORDS[one.option],
            usd(one.present_usd[0]),
            f"{usd(one.present_usd[1])} to {usd(one.present_usd[2])}",
            f"{100 * one.cheapest:.0f} %",
        )
        for one in npv.paths
    ]
    return rows + [(OPTION_WORDS[name], "not known", "", "") for name in npv.unknown]
