"""``allod drill all``, ``concentration`` and ``worlds``."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from allod.drills.words import printable
from allod.gateway.cli import INTEGRITY, out, say
from allod.gateway.cli.drill_office import (
    asked,
    check_output,
    deliver,
    drill_options,
    jsonable,
    office,
    worlds_bar,
)
from allod.gateway.cli.lines import say_folded
from allod.gateway.cli.options import json_option

if TYPE_CHECKING:
    from allod.drills.everything import Matrix
    from allod.drills.worlds import World
    from allod.gateway.drilling_run import Office


@click.command("all")
@click.option("--csv", "csv_path", type=click.Path(path_type=Path), help="write every loss as a row of CSV")
@drill_options
def everything(csv_path: Path | None, **options: Any) -> None:
    """Run every single loss this fleet can suffer, and every pair among the worst ten.

    Exit code 3 if a record is damaged.
    """
    from allod.drills.pages_more import matrix_page  # noqa: PLC0415 (only when it runs)
    from allod.gateway.cli.plan_money import write  # noqa: PLC0415

    ask = asked(options)
    check_output(csv_path, "--csv")
    with office(ask, lambda _: ()) as open_office:
        with worlds_bar(quiet=ask.as_json) as told:
            found = open_office.everything(told)
        traffic = open_office.gathered.plain
        page = matrix_page(found, traffic, open_office.setting.critical, _tenant(open_office))
        if csv_path is not None:
            write(csv_path, csv_of(found))
        deliver(
            ask, page, {"generated": traffic.generated, "records": traffic.records, **_matrix_data(found)}
        )
    sys.exit(INTEGRITY if traffic.damaged + open_office.ground.damaged else 0)


def _tenant(open_office: Office) -> str:
    return open_office.ground.setting.fleet.tenant.id


def _matrix_data(found: Matrix) -> dict[str, Any]:
    rows = [
        {
            "world": row.world.id, "title": row.world.title, "same_as": row.same_as, "share": row.drill.share,
            "critical_share": row.drill.critical_share, "uncovered": row.drill.uncovered,
            "served": row.drill.served, "quality_lost": row.drill.quality_lost,
            "cost_change_month_usd": row.drill.cost_change_month_usd, "harm_day_usd": row.harm_day_usd,
            "gone": sorted(row.drill.gone), "unsure": row.drill.unsure,
        }
        for row in found.rows
    ]  # fmt: skip
    return {"rows": rows, "pairs": found.pairs, "harmless": found.harmless}


def csv_of(found: Matrix) -> str:
    """Return every single loss and pair as CSV; cells that a spreadsheet would run get an apostrophe."""
    from allod.evidence.tables import FORMULA  # noqa: PLC0415 (only when it runs)

    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    head = (
        "loss",
        "and",
        "uncovered_share",
        "critical_share",
        "uncovered",
        "served",
        "harm_day_usd",
        "low",
        "high",
    )
    table.writerow(head)
    for row in found.rows:
        harm, drill = row.harm_day_usd, row.drill
        cells = (
            row.world.id, "", f"{drill.share:.6f}", f"{drill.critical_share:.6f}", drill.uncovered,
            drill.served,
            f"{harm.value:.2f}", f"{harm.low:.2f}", f"{harm.high:.2f}",
        )  # fmt: skip
        table.writerow(_safe(cells, FORMULA))
    for pair in found.pairs:
        harm = pair.harm_day_usd
        pair_cells = (
            pair.first, pair.second, f"{pair.share:.6f}", f"{pair.critical_share:.6f}", "", "",
            f"{harm.value:.2f}", f"{harm.low:.2f}", f"{harm.high:.2f}",
        )  # fmt: skip
        table.writerow(_safe(pair_cells, FORMULA))
    return text.getvalue()


def _safe(cells: tuple[Any, ...], formula: tuple[str, ...]) -> list[str]:
    return [f"'{cell}" if f"{cell}".startswith(formula) else f"{cell}" for cell in cells]


@click.command("concentration")
@drill_options
def concentration(**options: Any) -> None:
    """Show on whom the work rests: operator, controlling jurisdiction, chip, model maker, engine."""
    from allod.drills.pages_more import concentration_page  # noqa: PLC0415 (only when it runs)

    ask = asked(options)
    with office(ask, lambda _: ()) as open_office:
        axes = open_office.concentration()
        traffic = open_office.gathered.plain
        page = concentration_page(axes, traffic, _tenant(open_office))
        deliver(ask, page, {"generated": traffic.generated, "records": traffic.records, "axes": axes})
    sys.exit(INTEGRITY if traffic.damaged + open_office.ground.damaged else 0)


_SHOWN = {"price": "FACTOR", "list": "NAME/PLACE"}


@click.command("worlds")
@click.argument("name", required=False)
@json_option
def worlds(name: str | None, as_json: bool) -> None:
    """List the worlds there are, shipped and the home's own (drills/worlds/*.toml); or show one."""
    from allod.gateway import compose, drilling  # noqa: PLC0415 (only when it runs)
    from allod.store.home import Home  # noqa: PLC0415

    known = drilling.worlds_of(Home(compose.home_root()))
    if name is not None:
        one = drilling.world_named(name, known)
        if as_json:
            out(jsonable(one))
        else:
            _tell(one)
        return
    if as_json:
        out({each: jsonable(world) for each, world in known.items()})
        return
    for each, world in sorted(known.items()):
        say_folded(f"{each:34} ", printable(world.title))
    say()
    say_folded(
        "or a single loss: ", ", ".join(f"{kind}={_SHOWN.get(kind, 'NAME')}" for kind in _kinds()) + ", link"
    )


def _tell(one: World) -> None:
    """Print one world."""
    from allod.drills.worlds import AXES  # noqa: PLC0415 (only when it runs)

    say(printable(f"{one.id}: {one.title}"))
    for text in (one.text, f"source: {one.source} ({one.as_of})" if one.source else ""):
        if text:
            say_folded("  ", printable(text))
    for field in one.lose.__struct_fields__:
        value = getattr(one.lose, field)
        if value:
            say_folded(f"  gone, {field.replace('_', ' ')}: ", _gone(value))
    for price in one.price:
        named = ((axis, getattr(price, axis)) for axis in AXES)
        whose = "; ".join(f"{axis}: {', '.join(names)}" for axis, names in named if names)
        say_folded(f"  prices times {price.factor}: ", printable(whose) or "everybody else's")
    if one.unknown == "spared":
        say("  what is not known is spared")


def _gone(value: Any) -> str:
    if value is True:
        return "yes"
    if isinstance(value, dict):
        return printable("; ".join(f"{name} ({', '.join(places)})" for name, places in value.items()))
    return printable(", ".join(value))


def _kinds() -> list[str]:
    from allod.drills.worlds import KINDS  # noqa: PLC0415 (only when it runs)

    return list(KINDS)
