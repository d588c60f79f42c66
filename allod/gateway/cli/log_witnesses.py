"""``allod log witnesses``: how those who cosign this log stand, and setting one's objection aside."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import click
import msgspec

from allod.domain.errors import Invalid, Refused, Unavailable
from allod.gateway.cli import out, say
from allod.gateway.cli.lines import say_folded
from allod.gateway.cli.options import config_option, json_option

if TYPE_CHECKING:
    from pathlib import Path

    from allod.gateway.compose import Setting
    from allod.gateway.witness_report import Answer

WAIT_S = 15.0
POLL_S = 0.1


@click.command("witnesses")
@click.option("--clear", "name", help="set this witness's objection aside on the running gateway")
@click.option("--reason", help="why, for the log; needed with --clear")
@config_option
@json_option
def witnesses(name: str | None, reason: str | None, config_path: Path | None, as_json: bool) -> None:
    """Show who cosigns this log, up to which size, and who objects.

    An objection stops all requests. `--clear NAME --reason TEXT` sets one aside: only where most witnesses
    have followed this log since before the start, only for what it claims now, and by a leaf of the log.
    Another claim is an objection again. Exit code 4 if that is refused.
    """
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.gateway.witness_report import standing_of  # noqa: PLC0415

    setting = compose.setting(config_path)
    if (name is None) != (not reason):
        raise Invalid("--clear and --reason go together", "", "give both, or neither", param="clear")
    if name is not None and reason:
        answer = _clear(setting, name, reason)
        if not answer.ok:
            raise Refused(f"the objection of {name} stays", answer.why)
        say(answer.why) if not as_json else None
    rows = standing_of(setting)
    if as_json:
        out({"quorum": setting.config.log.quorum, "witnesses": [msgspec.to_builtins(one) for one in rows]})
        return
    for one in rows:
        say_folded(f"{one.name}: ", one.told)
    if not rows:
        say("no witnesses are configured ([log] witnesses)")


def _clear(setting: Setting, name: str, reason: str) -> Answer:
    """Ask the running gateway and wait for its answer (raises Unavailable)."""
    from allod.gateway.witness_report import Ask, ask, read_report  # noqa: PLC0415
    from allod.store.home import Lock  # noqa: PLC0415

    names = [one.name for one in setting.config.log.witnesses]
    if name not in names:
        raise Invalid(
            f"no witness is called {name}", "there are " + (", ".join(names) or "none"), param="clear"
        )
    try:
        Lock(setting.home).release()
    except Unavailable:
        pass
    else:
        raise Unavailable(
            "no gateway runs here",
            "an objection is made anew at every start",
            "start it; if the witness keeps it from starting, take it out of [log] witnesses",
            kind="down",
        )
    asked = Ask(id=os.urandom(8).hex(), witness=name, reason=reason)
    ask(setting.home, asked)
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        report = read_report(setting.home)
        if report is not None and report.answer is not None and report.answer.id == asked.id:
            return report.answer
        time.sleep(POLL_S)
    raise Unavailable(
        "the running gateway has not answered", "it has no witnesses, or is another's", kind="timeout"
    )
