"""``allod plan cost``: a month, a million tokens and a solved task; by API, hosted, rented and owned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from allod.domain.errors import Invalid
from allod.domain.money import plain
from allod.gateway.cli import catalogue_lines, out, say
from allod.gateway.cli.lines import say_columns, say_folded
from allod.gateway.cli.options import json_option
from allod.gateway.cli.plan_money import Asked, asked, foot, inputs_section, question_options, write

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from allod.planner.money.breakeven import Break, Movers
    from allod.planner.money.carbon import Footprint
    from allod.planner.money.case import Case
    from allod.planner.money.comparators import Compared, Result
    from allod.planner.pictures import Picture

PICTURES: Final = ("task", "parts", "volume", "tornado")
HEADS: Final = ("way", "USD/month", "80 %", "USD/M tokens", "USD/task", "80 %")
MOST_MOVERS: Final = 8
MOST_HOSTS: Final = 8


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A question about cost and everything that was found."""

    asked: Asked
    case: Case
    result: Result
    breaks: tuple[Break, ...]
    movers: tuple[Movers, ...]
    footprint: Footprint


def _print_assumptions(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:  # noqa: ARG001
    if not value or ctx.resilient_parsing:
        return
    from importlib import resources  # noqa: PLC0415 (only when it runs)

    say(resources.files("allod.planner.money").joinpath("assumptions.toml").read_text("utf-8").rstrip())
    ctx.exit()


@click.command("cost")
@question_options
@click.option("--picture", type=click.Choice(PICTURES), default="task", help="which one --svg writes")
@click.option(
    "--print-assumptions",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_assumptions,
    help="print every assumption with its range and source, as a file for --assumptions",
)
@json_option
def command(as_json: bool, picture: str, **values: Any) -> None:
    """Compare what the same tasks cost: frontier API, the open MODEL's API, rented and own hardware.

    Everything is per solved task: retries, answers that do not solve, cached tokens, surcharges, hours and
    batch prices are in it, on every side. Intervals hold 80 % of drawn outcomes.
    """
    answer = answered(values)
    draw = pictures(answer)
    if values["svg"] is not None:
        one = draw[picture]()
        if one is None:
            raise Invalid(f"there is nothing to draw as {picture}", "hardware is not known", "say more of it")
        write(values["svg"], one.svg())
    if values["html"] is not None:
        write(values["html"], _page(answer, draw))
    if as_json:
        out(_data(answer))
    else:
        _say(answer)


def answered(values: Mapping[str, Any]) -> Answer:
    """Compute everything for the options of a command.

    Raises:
        Invalid: see ``asked``, ``ask`` and ``compare``.

    """
    from allod.planner.money.asking import ask  # noqa: PLC0415 (only when it runs)
    from allod.planner.money.breakeven import breaks, movers  # noqa: PLC0415
    from allod.planner.money.carbon import footprint  # noqa: PLC0415
    from allod.planner.money.comparators import APIS, compare  # noqa: PLC0415

    question = asked(values)
    case, names = ask(question.question, question.book)
    result = compare(case, names, values["draws"], values["seed"])
    moving = (movers(case, result, "own", api) for api in (*APIS, None))
    return Answer(
        asked=question,
        case=case,
        result=result,
        breaks=breaks(case, result),
        movers=tuple(one for one in moving if one is not None),
        footprint=footprint(case, values["draws"], values["seed"]),
    )


def pictures(answer: Answer) -> dict[str, Callable[[], Picture | None]]:
    """Return how each picture is drawn; None where there is nothing to draw."""
    from allod.planner.money import shown  # noqa: PLC0415

    result, moving = answer.result, answer.movers
    return {
        "task": lambda: shown.tasks_picture(result),
        "parts": lambda: shown.parts_picture(result),
        "volume": lambda: shown.volume_picture(answer.case, result, answer.breaks, result.seed),
        "tornado": lambda: shown.movers_picture(moving[0]) if moving else None,
    }


def _page(answer: Answer, draw: Mapping[str, Callable[[], Picture | None]]) -> str:
    from allod.planner.money import shown  # noqa: PLC0415
    from allod.planner.pictures import Section, page  # noqa: PLC0415

    told = shown.verdict(answer.case, answer.result, answer.breaks)
    table = (HEADS, *(_row(one) for one in answer.result.ways))
    broken = tuple(shown.broken(one) for one in answer.breaks)
    sections: list[Section] = [
        Section("What it says", told),
        Section("Four ways", (), draw["task"](), table),
        Section("A month of hardware", (), draw["parts"]()),
        Section("By volume", broken, draw["volume"]()),
    ]
    sections += [Section("What moves it", (), shown.movers_picture(one)) for one in answer.movers]
    sections.append(Section("Carbon and water", tuple(_footprint(answer.footprint))))
    sections.append(inputs_section(answer.case))
    there = [one for one in sections if one.texts or one.picture or one.table]
    title = f"What {answer.asked.question.model} costs: owned, rented, or by the token"
    return page(title, there, lead=told[1], foot=foot(answer.asked, answer.result.draws, answer.result.seed))


def _row(one: Compared) -> tuple[str, ...]:
    from allod.planner.money.shown import money  # noqa: PLC0415

    if one.month_usd is None or one.task_usd is None or one.usd_mtok is None:
        return (one.name, "not known", "", "", "", "")
    month, task = one.month_usd, one.task_usd
    return (
        one.name,
        money(month.value),
        f"{money(month.low)} to {money(month.high)}",
        money(one.usd_mtok.value),
        money(task.value),
        f"{money(task.low)} to {money(task.high)}",
    )


def _say(answer: Answer) -> None:
    from allod.planner.money import shown  # noqa: PLC0415

    say_columns([HEADS, *(_row(one) for one in answer.result.ways)], 1)
    say()
    for one in answer.result.ways:
        if one.unknown:
            say_folded(f"  {one.name}: ", one.unknown, 4)
        elif one.parts:
            parts = (f"{name.replace('_', ' ')} {shown.money(usd)}" for name, usd in one.parts.items())
            note = f" ({one.note})" if one.note else ""
            say_folded(f"  {one.name}: ", f"a month is {', '.join(parts)}{note}", 4)
        elif one.attempt_usd:
            say_folded(f"  {one.name}: ", f"one attempt today is USD {float(one.attempt_usd):.4g}", 4)
    say()
    for text in shown.verdict(answer.case, answer.result, answer.breaks):
        say_folded("", text, 2)
    for mover in answer.movers:
        rows = (
            f"{row.key} ({shown.written(row.key, row.low_input)} to {shown.written(row.key, row.high_input)})"
            for row in mover.rows[:MOST_MOVERS]
        )
        say_folded(f"  moves {shown.moved(mover)} most: ", ", ".join(rows), 4)
    for text in _footprint(answer.footprint):
        say_folded("  ", text, 4)
    say()
    inputs = answer.case.inputs.by_key
    assumed = sum(one.assumed for one in inputs.values())
    say_folded(
        "  ",
        f"{assumed} of {len(inputs)} inputs are assumptions of ours: --json shows them, --print-assumptions "
        "writes a file to change for --assumptions",
        4,
    )
    for text in foot(answer.asked, answer.result.draws, answer.result.seed):
        say_folded("  ", text, 4)


def _footprint(found: Footprint) -> list[str]:
    from allod.planner.money.shown import money  # noqa: PLC0415

    lines = []
    for what, unit, three in (
        ("electricity", "kWh a month", found.energy_kwh),
        ("carbon", "kgCO2e a month", found.carbon_kg),
        ("carbon", "gCO2e a solved task", found.carbon_g_task),
        ("water", "litre a month", found.water_l),
        ("water", "millilitre a solved task", found.water_ml_task),
    ):
        if three is not None:
            value, low, high = (money(one) for one in three)
            lines.append(f"{what} of own hardware: {value} {unit} ({low} to {high})")
    if found.embodied_kg is not None:
        lines.append(f"making the hardware: {money(found.embodied_kg)} kgCO2e a month of the term")
    lines += found.unknown
    lines.append("carbon and water of an API are not known: operators do not tell them by request")
    return lines


def _data(answer: Answer) -> dict[str, Any]:
    from allod.planner.money import shown  # noqa: PLC0415
    from allod.planner.money.asking import told  # noqa: PLC0415

    case, result = answer.case, answer.result
    return {
        "model": answer.asked.question.model,
        "device": case.device or None,
        "devices": case.devices,
        "nodes": case.nodes,
        "months": case.months,
        "day": case.day.isoformat(),
        "books": list(answer.asked.origin),
        "catalogue": catalogue_lines.as_data(answer.asked.question.device, answer.asked.question.grid),
        "ways": shown.cost_data(result.ways),
        "tasks_month": _or_none(result.middle["tasks"]),
        "utilisation": _or_none(result.middle["utilisation"]),
        "capacity_tasks_month": _or_none(result.middle["capacity"]),
        "breakeven": [
            {**shown.cost_data(one), "utilisation": _or_none(one.utilisation)} for one in answer.breaks
        ],
        "movers": shown.cost_data(answer.movers),
        "footprint": shown.cost_data(answer.footprint),
        "hosts": _hosts(answer),
        "verdict": list(shown.verdict(case, result, answer.breaks)),
        "inputs": told(case.inputs.by_key.values()),
        "draws": result.draws,
        "seed": result.seed,
    }


def _or_none(value: Any) -> float | None:
    return None if value is None else float(f"{float(value):.8g}")


def _hosts(answer: Answer) -> list[dict[str, str]]:
    """Return who sells the model, by the price of one attempt today."""
    from allod.planner.money import case as sums  # noqa: PLC0415
    from allod.planner.money.arithmetic import exactly  # noqa: PLC0415
    from allod.planner.money.comparators import PLACES  # noqa: PLC0415
    from allod.planner.prices import entries_of, offer  # noqa: PLC0415

    rows = []
    x = answer.case.inputs.middle()
    for name in entries_of(answer.asked.question.model, answer.asked.book):
        sold = offer(name, answer.asked.book, answer.case.day)
        other = msgspec.structs.replace(answer.case, open=sold)
        rows.append((exactly(lambda one=other: sums.attempt_usd(one, "open", x)), name))  # type: ignore[misc]
    best = sorted(rows)[:MOST_HOSTS]
    return [{"entry": name, "attempt_usd": plain(round(usd, PLACES).normalize())} for usd, name in best]


COMMAND: Final = command
