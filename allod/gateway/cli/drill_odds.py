"""``allod drill expected``, ``check`` and ``tick``: odds, signs and what a year may cost."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from allod.domain.errors import Invalid
from allod.drills.words import many, printable
from allod.gateway.cli import FAILED, INTEGRITY, out, say
from allod.gateway.cli.drill_office import (
    asked,
    deliver,
    drill_options,
    ground_of,
    jsonable,
    office,
    worlds_bar,
)
from allod.gateway.cli.lines import say_folded
from allod.gateway.cli.options import config_option, json_option, now_ms
from allod.gateway.cli.period import day_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allod.drills.worlds import World
    from allod.gateway.drilling import Ground

LEAST_DRAWS, MOST_DRAWS = 1000, 1_000_000


@click.command("expected")
@click.option(
    "--draws", type=click.IntRange(LEAST_DRAWS, MOST_DRAWS), default=20_000, show_default=True,
    help="so many years are simulated",
)  # fmt: skip
@click.option("--seed", type=int, default=20_261_101, show_default=True, help="of the simulation")
@drill_options
def expected(draws: int, seed: int, **options: Any) -> None:
    """Simulate years of disruption: the expected cost, the worst 5 %, and hedges by what they take off.

    The odds are the shipped ones with those of drills.toml in their place. Exit code 3 if a record is
    damaged.
    """
    from allod.drills import scenarios  # noqa: PLC0415 (only when it runs)
    from allod.drills.pages_more import expected_page  # noqa: PLC0415
    from allod.gateway.drilling_run import odds_of, ticks_of  # noqa: PLC0415

    ask = asked(options)
    with office(ask, _worlds) as open_office:
        ground = open_office.ground
        made = odds_of(ground)
        ticks = ticks_of(ground.setting, made)
        with worlds_bar(quiet=ask.as_json) as told:
            found, harms = open_office.expected(made, ticks, draws=draws, seed=abs(seed), told=told)
        wrong = scenarios.contradictions(made)
        traffic = open_office.gathered.plain
        page = expected_page(found, made, ticks, wrong, traffic, ground.setting.fleet.tenant.id)
        data = {
            "generated": traffic.generated, "records": traffic.records, "expected": found, "harms": harms,
            "contradictions": wrong, "ticks": ticks,
        }  # fmt: skip
        deliver(ask, page, data)
    sys.exit(INTEGRITY if traffic.damaged + ground.damaged else 0)


def _worlds(ground: Ground) -> Sequence[World]:
    from allod.gateway.drilling import worlds_of  # noqa: PLC0415 (only when it runs)
    from allod.gateway.drilling_run import named_as, odds_of, worlds_named  # noqa: PLC0415

    known = worlds_of(ground.setting.home)
    return [named_as(name, known) for name in worlds_named(odds_of(ground))]


@click.command("check")
@click.option("--strict", is_flag=True, help="exit 1 if odds contradict each other")
@click.option(
    "--own", "own_path", type=click.Path(path_type=Path), help="another drills.toml than the home's"
)
@config_option
@json_option
def check(strict: bool, own_path: Path | None, config_path: Path | None, as_json: bool) -> None:
    """Check odds, worlds and remedies: name odds that contradict each other, and names that fit nothing.

    Probabilities of scenarios that do not sum to one are an error (exit code 2).
    """
    from allod.drills import scenarios  # noqa: PLC0415 (only when it runs)
    from allod.drills.restore import kinds, remedy  # noqa: PLC0415
    from allod.drills.worlds import shipped  # noqa: PLC0415
    from allod.gateway.drilling import worlds_of  # noqa: PLC0415
    from allod.gateway.drilling_restore import changed  # noqa: PLC0415
    from allod.gateway.drilling_run import odds_of, ticks_of  # noqa: PLC0415

    ground = ground_of(config_path, own_path)
    made = odds_of(ground)
    ours = set(worlds_of(ground.setting.home)) - set(shipped())
    wrong, ticks = scenarios.contradictions(made), ticks_of(ground.setting, made)
    terms = kinds(ground.own.remedy_kind)
    for one in ground.own.remedy:
        changed(ground.setting.fleet, [remedy(one, terms)])
    idle = {
        name: found.idle
        for name, world in worlds_of(ground.setting.home).items()
        if (found := ground.effect(world)(ground.today)).idle
    }
    nothing = [
        name
        for name, world in worlds_of(ground.setting.home).items()
        if not world.include and ground.effect(world)(ground.today).nothing
    ]
    if as_json:
        out(jsonable({"contradictions": wrong, "ticks": ticks, "idle": idle, "nothing": nothing}))
    else:
        told = many(len(made.scenario), "scenario"), many(len(made.risk), "risk")
        say(f"{told[0]} that sum to one, {told[1]}, {many(len(made.flashpoint), 'flashpoint')}")
        own = many(len(ground.own.remedy), "remedy", "remedies")
        say(f"{own} of your own, {many(len(ticks), 'sign')} ticked")
        for each in wrong:
            say_folded("  contradiction: ", f"{each.what}: {each.why}", under=4)
        if nothing:
            say_folded("  take nothing away from this fleet: ", ", ".join(nothing), under=4)
        for name in sorted(ours & set(idle)):
            say_folded(f"  world {name}: ", printable("; ".join(idle[name])), under=4)
    sys.exit(FAILED if strict and wrong else 0)


@click.command("tick")
@click.argument("sign", required=False)
@click.option("--day", help="the day it was seen (default: today)")
@click.option("--note", default="", help="where it was seen, or by whom")
@click.option("--off", is_flag=True, help="take the tick away")
@config_option
@json_option
def tick(
    sign: str | None, day: str | None, note: str, off: bool, config_path: Path | None, as_json: bool
) -> None:
    """Note that an early sign was seen, in drills/ticks.toml of the home; without SIGN, list the signs."""
    from allod.drills import scenarios  # noqa: PLC0415 (only when it runs)
    from allod.gateway.drilling_run import odds_of, ticks_of, today  # noqa: PLC0415
    from allod.gateway.drilling_run import tick as put  # noqa: PLC0415

    ground = ground_of(config_path, None)
    made = odds_of(ground)
    if sign is None:
        ticks = ticks_of(ground.setting, made)
    else:
        seen = today(now_ms()) if day is None else day_of(day, param="--day")
        if seen > today(now_ms()):
            raise Invalid("a sign cannot have been seen on a day to come", f"got {seen}", "correct --day")
        ticks = put(ground.setting, made, sign, day=seen, note=note, off=off)
    if as_json:
        out(jsonable({"signs": scenarios.signs(made), "ticks": ticks}))
        return
    by = {one.sign: one for one in ticks}
    for name, text in scenarios.signs(made).items():
        one = by.get(name)
        note = f" (seen {one.day}{': ' if one.note else ''}{one.note})" if one else ""
        say_folded(f"  [{'x' if one else ' '}] {name}: ", printable(text + note), under=6)
