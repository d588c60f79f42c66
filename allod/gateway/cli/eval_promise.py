"""``allod eval promise``: what each task with a cascade promises, from what audits, and what it saved."""

from __future__ import annotations

import contextlib
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from allod.domain.errors import Integrity, Invalid
from allod.gateway.cli import eval_join, exit_code, out, say
from allod.gateway.cli.lines import say_folded
from allod.gateway.cli.options import config_option, json_option

if TYPE_CHECKING:
    from allod.gateway.compose import Setting
    from allod.gateway.promise.state import Standing


@click.command("promise")
@click.option("--task", "task_name", help="only this task")
@click.option("--all", "everything", is_flag=True, help="also of laws and fleets that are no more")
@click.option("--replay", is_flag=True, help="make every state again from the log, and compare")
@click.option("--export", "to", type=click.Path(path_type=Path), help="write this node's evidence, signed")
@click.option("--join", "of", type=click.Path(path_type=Path), help="take in another's: a file or its home")
@click.option("--key", "keys", multiple=True, help="with --join: the verifier key of the other node's log")
@config_option
@json_option
def command(
    task_name: str | None,
    everything: bool,
    replay: bool,
    to: Path | None,
    of: Path | None,
    keys: tuple[str, ...],
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Show, per task: the rule in force, its bound, from how many audits and when, what is missing and saved.

    With --replay the states are made again from the notices of the log; exit code 3 if one is another. With
    --export FILE what this node audited is written for others, with --join what another one audited is taken
    in: the bounds then rest on both. Joining the same again changes nothing.
    """
    if (to is not None) + (of is not None) + replay > 1 or (keys and of is None):
        raise Invalid("one thing at a time", "got --export, --join, --replay or --key together", param="join")
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.gateway.promise import shown  # noqa: PLC0415

    setting = compose.setting(config_path)
    if of is not None:
        eval_join.join(setting, of, keys, as_json=as_json)
        return
    rows = [
        (one, now) for one, now in standings(setting) if (now or everything) and task_name in (None, one.task)
    ]
    if to is not None:
        eval_join.export(setting, [one for one, _ in rows], to, as_json=as_json)
        return
    found = _replayed(setting, [one for one, _ in rows]) if replay else {}
    from allod.gateway.checks.probing import sentence, unable  # noqa: PLC0415

    cannot = unable(setting.fleet, setting.config.check_files)
    if as_json:
        told = [{**shown.as_json(one, now=now), **_told(found, one)} for one, now in rows]
        out({"promises": told, "cannot_check": cannot})
    else:
        for task, why in cannot.items():
            say_folded("", sentence(task, why))
        _print(rows, found)
    if any(found.values()):
        sys.exit(exit_code(Integrity("a promise is not what the log leads to")))


def _print(rows: list[tuple[Standing, bool]], found: dict[str, str]) -> None:
    """Print how promises stand; ``found`` says by policy what is wrong with the log, where that was asked."""
    from allod.gateway.promise import shown  # noqa: PLC0415

    for one, now in rows:
        say(f"{one.task}{'' if now else '   (of a law or fleet that is no more)'}")
        for head, text in shown.lines(one):
            say_folded(f"  {head:<9} ", text)
        if one.policy in found:
            say_folded(f"  {'log':<9} ", found[one.policy] or "leads to this very state")
        say()
    if not rows:
        say("no task promises anything yet: [[task]] cascade, and a request of it")


def in_status(setting: Setting) -> list[dict[str, Any]]:
    """Return what `allod eval status` says of promises in force: the rule, its bound, its n and its day.

    Raises:
        Integrity: a state cannot be read.

    """
    if all(task.cascade is None for task in setting.fleet.tasks.values()):
        return []
    from allod.gateway.promise import shown  # noqa: PLC0415 (only where there is one)

    return [shown.brief(one) for one, now in standings(setting) if now]


def say_status(setting: Setting) -> None:
    """Say it, and where there is more."""
    if all(task.cascade is None for task in setting.fleet.tasks.values()):
        return
    say()
    for one in in_status(setting):
        say_folded(f"{one['task']}: ", f"{one['rule']} is in force; {one['said']}")
    say("what tasks with a cascade promise, what it rests on and what it saved: `allod eval promise`")


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
    from allod.gateway.promise.telling import finder  # noqa: PLC0415
    from allod.store.extract import Extract  # noqa: PLC0415

    with contextlib.closing(Extract(setting.home)) as log:
        try:
            states = replayed(notices(log.reader), finder(setting.home))
        except Integrity as error:
            return {one.policy: f"{error.what}: {error.why}" for one in rows}
    wrong = {}
    for one in rows:
        known = states.get((one.task, one.policy))
        if known is None:
            wrong[one.policy] = "the log says nothing of it (pruned, or of another home)"
        else:
            digest = known.digest
            wrong[one.policy] = "" if digest == one.digest else f"the log leads to {digest}"
    return wrong
