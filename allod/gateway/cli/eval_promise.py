"""``allod eval promise``: what each task with a cascade promises, from what audits, and what it saved."""

from __future__ import annotations

import contextlib
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from allod.domain.errors import Integrity
from allod.gateway.cli import exit_code, out, say
from allod.gateway.cli.lines import say_folded
from allod.gateway.cli.options import config_option, json_option

if TYPE_CHECKING:
    from pathlib import Path

    from allod.gateway.compose import Setting
    from allod.gateway.promise.state import Standing


@click.command("promise")
@click.option("--task", "task_name", help="only this task")
@click.option("--all", "everything", is_flag=True, help="also of laws and fleets that are no more")
@click.option("--replay", is_flag=True, help="make every state again from the log, and compare")
@config_option
@json_option
def command(
    task_name: str | None, everything: bool, replay: bool, config_path: Path | None, as_json: bool
) -> None:
    """Show, per task: the rule in force, its bound, from how many audits and when, what is missing and saved.

    With --replay the states are made again from the notices of the log; exit code 3 if one is another.
    """
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.gateway.promise import shown  # noqa: PLC0415

    setting = compose.setting(config_path)
    rows = [
        (one, now) for one, now in standings(setting) if (now or everything) and task_name in (None, one.task)
    ]
    found = _replayed(setting, [one for one, _ in rows]) if replay else {}
    if as_json:
        out({"promises": [{**shown.as_json(one, now=now), **_told(found, one)} for one, now in rows]})
    else:
        for one, now in rows:
            say(f"{one.task}{'' if now else '   (of a law or fleet that is no more)'}")
            for head, text in shown.lines(one):
                say_folded(f"  {head:<9} ", text)
            if replay:
                say_folded(f"  {'log':<9} ", found[one.policy] or "leads to this very state")
            say()
        if not rows:
            say("no task promises anything yet: [[task]] cascade, and a request of it")
    if any(found.values()):
        sys.exit(exit_code(Integrity("a promise is not what the log leads to")))


def standings(setting: Setting) -> list[tuple[Standing, bool]]:
    """Return the promises of a home, each with whether it is of the law and fleet of today.

    Raises:
        Integrity: a state cannot be read.

    """
    from allod.gateway import compose  # noqa: PLC0415
    from allod.gateway.promise import shown  # noqa: PLC0415

    decider = compose.decider(setting.fleet, setting.packs, setting.supplied.books)
    return list(shown.in_force(setting.home, decider, datetime.now(UTC).date()))


def _told(found: dict[str, str], one: Standing) -> dict[str, Any]:
    return {"log": found[one.policy] or "equal"} if one.policy in found else {}


def _replayed(setting: Setting, rows: list[Standing]) -> dict[str, str]:
    """Return by policy what is wrong between a state and the log, empty for nothing."""
    from allod.gateway.promise.kept import notices  # noqa: PLC0415
    from allod.gateway.promise.state import replayed  # noqa: PLC0415
    from allod.routing import floor  # noqa: PLC0415
    from allod.store.extract import Extract  # noqa: PLC0415

    with contextlib.closing(Extract(setting.home)) as log:
        try:
            states = replayed(notices(log.reader))
        except Integrity as error:
            return {one.policy: f"{error.what}: {error.why}" for one in rows}
    wrong = {}
    for one in rows:
        known = states.get((one.task, one.policy))
        if known is None:
            wrong[one.policy] = "the log says nothing of it (pruned, or of another home)"
        else:
            digest = floor.digest(*known)
            wrong[one.policy] = "" if digest == one.digest else f"the log leads to {digest}"
    return wrong
