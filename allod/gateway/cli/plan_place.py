"""``allod plan place``: which model on which device at which site, within the law, whatever is lost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from allod.gateway.cli import out, say
from allod.gateway.cli.catalogue_lines import as_data, briefly
from allod.gateway.cli.lines import say_columns, say_folded
from allod.gateway.cli.options import config_option, json_option, now_ms

if TYPE_CHECKING:
    from allod.gateway.siting.build import Built, Capacity, Reason
    from allod.gateway.siting.file import Sheet
    from allod.planner.catalogue import Device, ModelCard
    from allod.planner.pictures import Picture
    from allod.planner.placing.problem import Case, Placement, Problem

SOLVERS: Final = ("auto", "highs", "greedy")
BUDGET_S: Final = 25.0
FAILED: Final = 1
TINY: Final = 0.0005
"""A gap below which a placement is called the cheapest: a twentieth of a percent."""


@click.command("place")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--solver",
    type=click.Choice(SOLVERS),
    default="auto",
    show_default=True,
    help="auto: HiGHS where it is installed",
)
@click.option(
    "--seconds",
    type=click.FloatRange(1, 3600),
    default=BUDGET_S,
    show_default=True,
    help="how long the solver may take",
)
@click.option("--why", "why", metavar="TRAFFIC", help="show what stands against each place for this traffic")
@click.option("--svg", type=click.Path(path_type=Path), help="write a picture: who is served in which world")
@click.option("--html", type=click.Path(path_type=Path), help="write a page with everything")
@config_option
@json_option
def command(
    file: Path,
    solver: str,
    seconds: float,
    why: str | None,
    svg: Path | None,
    html: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Place models on devices at sites, as FILE says, for the least money that law and floors allow.

    Law is that of the configuration: what may not be is barred by the rules that would refuse a request,
    under their ids. Traffic and speed are planned for at the pessimistic end. Exit code 1 if something is
    not served.
    """
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.gateway.cli.plan_money import write  # noqa: PLC0415
    from allod.gateway.siting.build import build  # noqa: PLC0415
    from allod.gateway.siting.file import read  # noqa: PLC0415

    if not math.isfinite(seconds):
        raise click.BadParameter(f"{seconds} is no number of seconds", param_hint="--seconds")
    sheet, setting = read(file), compose.setting(config_path)
    _named(sheet, why)
    built = build(sheet, setting, now_ms())
    placed = _solved(built.problem, solver, seconds, quiet=as_json)
    if svg is not None:
        write(svg, picture(sheet, placed).svg())
    if html is not None:
        write(html, _page(sheet, built, placed))
    if as_json:
        out(data(sheet, built, placed) | {"catalogue": as_data(*_used(sheet))})
    else:
        _say(sheet, built, placed, why)
        for line in briefly(_used(sheet)):
            say_folded("catalogue ", line)
    if placed.uncovered():
        raise SystemExit(FAILED)


def _used(sheet: Sheet) -> list[Device | ModelCard]:
    """Return the rows of the catalogue that were looked up: what could be had, and what could be served."""
    from allod.planner.catalogue import find_device, find_model  # noqa: PLC0415

    found: list[Device | ModelCard] = [find_device(one.device) for one in sheet.offers]
    return [*found, *(find_model(one.model) for one in sheet.models)]


def _named(sheet: Sheet, why: str | None) -> None:
    from allod.domain.errors import Invalid  # noqa: PLC0415

    known = [one.id for one in sheet.demands]
    if why is not None and why not in known:
        raise Invalid(f"there is no traffic {why!r}", f"known: {', '.join(known)}", "correct it", param="why")


def _solved(problem: Problem, solver: str, seconds: float, *, quiet: bool) -> Placement:
    from rich.console import Console  # noqa: PLC0415

    from allod.planner.placing import greedy, milp  # noqa: PLC0415

    exact = solver == "highs" or (solver == "auto" and milp.available())
    console = Console(stderr=True)
    console.quiet = quiet or not console.is_terminal
    with console.status(f"placing by {'HiGHS' if exact else 'greedy'}, {seconds:.0f} s at most"):
        if exact:
            return milp.solve(problem, budget_s=seconds)
        return greedy.solve(problem, budget_s=seconds)


def _site(name: str) -> str:
    return name.split("/", 1)[0]


def rows(built: Built, placed: Placement) -> list[tuple[str, ...]]:
    """Return what to have where: site, device, model, replicas, devices, what they serve, USD a month."""
    pools = {one.id: one for one in built.problem.pools}
    found: list[tuple[str, ...]] = [
        ("site", "device", "model", "replicas", "devices", "tokens/s", "USD/month")
    ]
    for name, count in placed.replicas.items():
        pool = pools[name]
        found.append(
            (
                pool.place.site,
                pool.device,
                pool.place.model,
                str(count),
                str(count * pool.devices),
                f"{count * pool.capacity:,.0f}",
                f"{count * pool.usd_month:,.0f}",
            )
        )
    return found


def _say(sheet: Sheet, built: Built, placed: Placement, why: str | None) -> None:
    table = rows(built, placed)
    if len(table) > 1:
        say_columns(table, 3)
    else:
        say("nothing is bought")
    used = f", {placed.usd_use_month:,.0f} by use" if placed.usd_use_month else ""
    say(f"\nUSD {placed.usd_month:,.0f} a month{used}")
    gap = "" if placed.gap is None else f", within {placed.gap:.2%} of the best there can be"
    proof = "" if placed.gap is not None else ", not proved best"
    say(f"  by {placed.solver} in {placed.seconds:.1f} s{gap or proof}")
    say()
    for flow in placed.everyday.flows:
        say(f"  {flow.traffic}: {flow.load:,.0f} tokens/s at {flow.place.site}, by {flow.place.model}")
    for case in (placed.everyday, *placed.losses):
        _say_case(case)
    for name, reason in built.unfit.items():
        say_folded(f"  {name}: ", f"{reason.rule}: got {reason.got}, required {reason.required}", 4)
    for name in sorted(
        {one for case in placed.uncovered().values() for one in case} | ({why} if why else set())
    ):
        _say_why(built, name)
    for name, words in built.prices.items():
        say_folded(f"  {name} costs: ", words, 4)
    if any(model.engine == "llamacpp" for model in sheet.models):
        say_folded(
            "  ", "weights of planned models are taken as verified by the vault: import them before", 4
        )


def _say_case(case: Case) -> None:
    if case.served():
        say(f"  {case.name}: everything that must be is served")
        return
    missing = ", ".join(f"{name} ({load:,.0f} tokens/s)" for name, load in case.missing.items())
    say_folded(f"  {case.name}: ", f"NOT served: {missing}", 4)


def _say_why(built: Built, name: str) -> None:
    say(f"\nwhy not elsewhere, for {name}:")
    for place in built.problem.places():
        reasons = built.barred.get((name, place), ())
        for reason in reasons:
            law = f" ({reason.law})" if reason.law else ""
            text = f"{reason.rule}{law}: got {reason.got}, required {reason.required}"
            say_folded(f"  {place.site}, {place.model}: ", text, 4)
        if not reasons:
            say(f"  {place.site}, {place.model}: may serve it")


def data(sheet: Sheet, built: Built, placed: Placement) -> dict[str, Any]:
    """Return everything for a program to read."""
    return {
        "solver": placed.solver,
        "gap": placed.gap,
        "seconds": round(placed.seconds, 3),
        "usd_month": round(placed.usd_month, 2),
        "usd_use_month": round(placed.usd_use_month, 2),
        "replicas": placed.replicas,
        "worlds": [_world(case) for case in (placed.everyday, *placed.losses)],
        "barred": [
            {
                "traffic": traffic,
                "site": place.site,
                "model": place.model,
                "rules": [_rule(one) for one in reasons],
            }
            for (traffic, place), reasons in sorted(built.barred.items())
        ],
        "unfit": {name: _rule(one) for name, one in built.unfit.items()},
        "capacity": {name: _served(one) for name, one in built.capacity.items()},
        "prices": built.prices,
        "traffic": [
            {"id": one.id, "tokens_s": one.tokens_s, "critical": one.critical} for one in sheet.demands
        ],
    }


def _world(case: Case) -> dict[str, Any]:
    flows = [
        {
            "traffic": one.traffic,
            "site": one.place.site,
            "model": one.place.model,
            "tokens_s": round(one.load, 3),
        }
        for one in case.flows
    ]
    return {
        "name": case.name,
        "served": case.served(),
        "missing_tokens_s": case.missing,
        "flows": flows,
    }


def _rule(one: Reason) -> dict[str, str]:
    return {
        "id": one.rule,
        "law": one.law,
        "got": one.got,
        "required": one.required,
        "remedy": one.remedy,
    }


def _served(one: Capacity) -> dict[str, Any]:
    """Return what a replica serves, with its interval, day and source (I10)."""
    said = {"tokens_s": round(one.tokens_s, 3), "concurrent": one.concurrent, "source": one.source}
    if one.speed is None:
        return {**said, "interval": None}
    interval = {
        "value": one.speed.value,
        "low": one.speed.low,
        "high": one.speed.high,
        "level": one.speed.level,
        "as_of": one.speed.as_of.isoformat(),
    }
    return {**said, "interval": interval}


def picture(sheet: Sheet, placed: Placement) -> Picture:
    """Draw who is served in which world."""
    from allod.planner.pictures import Cell, matrix  # noqa: PLC0415

    cases = (placed.everyday, *placed.losses)
    cells = []
    for demand in sheet.demands:
        row = []
        for case in cases:
            lacking = case.missing.get(demand.id, 0.0)
            asked = lacking + sum(one.load for one in case.flows if one.traffic == demand.id)
            if asked <= 0:
                row.append(Cell("not asked", None, "need not be served in this world"))
            else:
                row.append(Cell(f"{1 - lacking / asked:.0%}", lacking / asked, f"of {asked:,.0f} tokens/s"))
        cells.append(row)
    return matrix(
        "Who is served in which world",
        [one.id for one in sheet.demands],
        [one.name for one in cases],
        cells,
        about=f"USD {placed.usd_month + placed.usd_use_month:,.0f} a month.",
        scale=("served", "not served"),
    )


def _page(sheet: Sheet, built: Built, placed: Placement) -> str:
    from allod.planner.pictures import Section, page  # noqa: PLC0415

    barred = [("traffic", "place", "rule", "got", "required")] + [
        (traffic, f"{place.site}, {place.model}", one.rule, one.got, one.required)
        for (traffic, place), reasons in sorted(built.barred.items())
        for one in reasons
    ]
    total = placed.usd_month + placed.usd_use_month
    lead = f"USD {total:,.0f} a month, by {placed.solver}."
    if placed.gap is not None:
        lead += (
            " It is the cheapest there is." if placed.gap < TINY else f" None is {placed.gap:.1%} cheaper."
        )
    sections = [
        Section("What to have where", (), None, tuple(rows(built, placed))),
        Section("What is served", (), picture(sheet, placed)),
        Section("What may not be", (), None, tuple(barred)),
    ]
    costs = [f"{name}: {words}" for name, words in built.prices.items()]
    return page("Placement", sections, lead=lead, foot=costs)


COMMAND = command
