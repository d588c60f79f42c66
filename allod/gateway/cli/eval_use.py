"""``allod eval use``, ``drop`` and ``status``: which evaluations count when the gateway chooses."""

from __future__ import annotations

import getpass
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from allod.domain.errors import Invalid
from allod.domain.money import plain, rfc3339
from allod.gateway.cli import estimate_lines, eval_promise, out, say
from allod.gateway.cli.lines import say_folded
from allod.gateway.cli.options import config_option, json_option, now_ms

if TYPE_CHECKING:
    from allod.domain.fleet import CapabilityEvidence
    from allod.gateway.capabilities import Line
    from allod.gateway.compose import Setting
    from allod.store.home import Home

MOST_NAME = 80


def home() -> Home:
    """Return the home, whatever its configuration and evaluations are like."""
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.store.home import Home  # noqa: PLC0415

    return Home(compose.home_root())


def who(by: str | None) -> str:
    """Return who makes a change: as said, else whose process this is.

    Raises:
        Invalid: the name is too long, or cannot be printed.

    """
    if by is not None and not (0 < len(by) <= MOST_NAME and by.isprintable()):
        raise Invalid("the name cannot be read", f"at most {MOST_NAME} printable characters", param="by")
    try:
        return by or getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"


@click.command("use")
@click.argument("name")
@click.option("--task", help="only what it found of this task")
@click.option("--by", help="who says so (default: whose process this is)")
@click.option(
    "--cases",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="the file it was run on, where tasks were told to `estimate` since: their words are kept from it",
)
@json_option
def use_command(name: str, task: str | None, by: str | None, cases: Path | None, as_json: bool) -> None:
    """Let the evaluation NAME count: from the next start of the gateway on.

    NAME is its digest, or the first digits of it. Quality is then what it found: candidates are ordered by
    what is expected, floors are held against what is exceeded with 95 %.
    """
    from allod.gateway import uses  # noqa: PLC0415 (only when it runs)

    if cases is not None:
        estimate_lines.keep_later(name, cases)
    made = uses.use(home(), name, task, who(by), rfc3339(now_ms()))
    if as_json:
        out(made)
    else:
        say(f"{made.evaluation} counts{f' for {task}' if task else ''} from the next start on")


@click.command("drop")
@click.argument("name", required=False)
@click.option("--task", help="only the entry for this task")
@click.option("--all", "every", is_flag=True, help="let none count any more; also where the file is damaged")
@json_option
def drop_command(name: str | None, task: str | None, every: bool, as_json: bool) -> None:
    """Let the evaluation NAME count no more: from the next start of the gateway on."""
    from allod.gateway import uses  # noqa: PLC0415 (only when it runs)

    if every == (name is not None) or (every and task is not None):
        raise Invalid("which evaluation?", "expected a name, or --all alone", param="name")
    gone = uses.drop(home(), name, task)
    if as_json:
        out({"dropped": gone, "all": every})
    else:
        say("no evaluation counts any more" if every else f"{gone[0].evaluation} counts no more")


@click.command("status")
@config_option
@json_option
def status_command(config_path: Path | None, as_json: bool) -> None:
    """Show which evaluations and published scores are in force, what counts of them, and what comes of it."""
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)

    setting = compose.setting(config_path)
    rows = quality_rows(setting)
    if as_json:
        proven = setting.proven
        out(
            {
                "uses": proven.uses,
                "priors": [{"name": one.name, **msgspec.structs.asdict(one)} for one in proven.priors],
                "lines": proven.lines,
                "quality": rows,
                "max_age_days": setting.config.evaluation.max_age_days,
                "estimates": estimate_lines.status(setting),
                "promises": eval_promise.in_status(setting),
            }
        )
        return
    _say_status(setting, rows)


def quality_rows(setting: Setting) -> list[dict[str, Any]]:
    """Return what routing reads of each deployment and task, with what it rests on."""
    from allod.routing.question import DEFAULT_TASK, quality_of  # noqa: PLC0415

    today, rows = datetime.now(UTC).date(), []
    for one in setting.fleet.deployments.values():
        for task in dict.fromkeys((DEFAULT_TASK, *setting.fleet.tasks, *one.quality)):
            value, key, known = quality_of(one, task, today)
            if key != task:
                continue
            if value is not None:
                rows.append({"deployment": one.id, "task": task, **_quality(value, known)})
    return rows


def _quality(value: Any, known: CapabilityEvidence | None) -> dict[str, Any]:
    if known is None:
        return {"expected": plain(value), "at_least": None, "basis": "declared", "cases": "0", "until": None}
    return {
        "expected": plain(known.value),
        "at_least": plain(known.low),
        "basis": known.basis,
        "cases": plain(known.cases),
        "until": None if known.until is None else f"{known.until}",
    }


def _say_status(setting: Setting, rows: list[dict[str, Any]]) -> None:
    proven = setting.proven
    for one in proven.uses:
        say(f"{one.evaluation}  {one.task or 'all its tasks'}")
        say(f"  in use since {one.at}, by {one.by}")
        for line in proven.lines:
            if line.source == one.evaluation and one.task in {None, line.task}:
                _say_line(line)
    if not proven.uses:
        say("no evaluation counts: `allod eval use DIGEST`")
    published = [line for line in proven.lines if line.source.startswith("published ")]
    for line in published:
        say(line.source)
        _say_line(line)
    say()
    for row in rows:
        low = "" if row["at_least"] is None else f", at least {row['at_least']} with 95 %"
        cases = f" from {row['cases']} cases" if row["basis"] == "measured" else ""
        until = f", until {row['until']}" if row["until"] else ""
        say(f"{row['deployment']:24} {row['task']:16} {row['expected']}{low} ({row['basis']}{cases}{until})")
    estimate_lines.say_status(estimate_lines.status(setting))
    eval_promise.say_status(setting)


def _say_line(line: Line) -> None:
    if line.why:
        say_folded(f"  {line.deployment} {line.task}: ", f"does not count: {line.why}")
        return
    until = f", until {line.until}" if line.until else ""
    rate = "" if line.success is None else f"{100 * line.success:.1f} % of "
    say(f"  {line.deployment} {line.task}: {rate}{line.worth:.1f} cases{until}")
