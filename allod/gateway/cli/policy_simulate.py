"""``allod policy simulate``, ``shadow`` and ``enforce``: from what a change would do to having it."""

from __future__ import annotations

import difflib
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from allod.domain.errors import Refused
from allod.gateway.cli import INTEGRITY, out, say
from allod.gateway.cli.options import config_option, json_option, now_ms
from allod.gateway.cli.period import day_of, moment_ms
from allod.gateway.cli.policy_found import as_data, shadow_data, tell, tell_shadow

if TYPE_CHECKING:
    from collections.abc import Callable

    from allod.gateway.compose import Setting
    from allod.gateway.replay import Scenario
    from allod.policy.policy import Policy


def since_option(default: str) -> Callable[..., Any]:
    """Add ``--since`` and ``--until``."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        until = click.option("--until", help="up to then, exclusive (default: now)")
        since = click.option(
            "--since", default=default, show_default=True, help="from then on: 30d, 12h, 2026-11-01"
        )
        return since(until(function))

    return add


@click.command("simulate")
@since_option("30d")
@click.option("--pack", "named", multiple=True, help="put a pack in force, by id or folder; may be repeated")
@click.option("--without", "dropped", multiple=True, help="take a pack out of force; may be repeated")
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), help="decide over the fleet of this file"
)
@click.option("--as-of", "as_of", help="read facts and rules as of this day (default: each decision's own)")
@click.option("--check", is_flag=True, help="write records that should not change again, and compare bytes")
@json_option
def simulate(
    since: str,
    until: str | None,
    named: tuple[str, ...],
    dropped: tuple[str, ...],
    config_path: Path | None,
    as_of: str | None,
    check: bool,
    as_json: bool,
) -> None:
    """Replay recorded decisions under other packs, another fleet or another day; nothing is written or sent.

    Without --config each decision is made again over the fleet it was made with. Exit code 3 if a record is
    damaged, or if one that should not change does.
    """
    from allod.gateway.cli.client import database  # noqa: PLC0415 (only when it runs)
    from allod.gateway.simulation import Simulation  # noqa: PLC0415
    from allod.store.home import load_home, load_keys  # noqa: PLC0415

    now = now_ms()
    span = (
        moment_ms(since, now, param="--since"),
        moment_ms(until, now, param="--until") if until else now + 1,
    )
    setting, scenario = _scenario(named, dropped, config_path, as_of, check=check)
    origin = load_keys(load_home(setting.home.root)).origin
    with database(setting) as tables:
        simulation = Simulation(scenario, tables)
        told, end = _progress(quiet=as_json)
        try:
            decisions = tables.decisions(origin, since_ms=span[0], until_ms=span[1], first=_first(setting))
            done = simulation.run(decisions, told)
        finally:
            end()
    if as_json:
        out(as_data(scenario, done, span))
    else:
        tell(scenario, done, span)
    sys.exit(INTEGRITY if done.damaged or done.unequal else 0)


def _first(setting: Setting) -> int:
    """Return the log's minimum index: what is pruned is counted as such."""
    from allod.store.pruned import gone_of  # noqa: PLC0415

    gone = gone_of(setting.home.log)
    return gone.record.upto if gone is not None else 0


def _span(since: str, until: str | None) -> tuple[int, int]:
    now = now_ms()
    end = now + 1 if until is None else moment_ms(until, now, param="--until")
    return moment_ms(since, now, param="--since"), end


def _scenario(
    named: tuple[str, ...],
    dropped: tuple[str, ...],
    config_path: Path | None,
    as_of: str | None,
    *,
    check: bool,
) -> tuple[Setting, Scenario]:
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.gateway.replay import Scenario, packs_with  # noqa: PLC0415
    from allod.policy.pack import unknown_name  # noqa: PLC0415

    home = compose.home_root() / "allod.toml"
    setting = compose.setting(None if home.exists() else config_path)
    given = None if config_path is None else compose.setting(config_path).fleet
    packs, ids = packs_with(setting.packs, named)
    for name in dropped:
        if name not in packs.found:
            raise unknown_name("--without names pack", name, packs.found)
    return setting, Scenario(
        packs=packs,
        installed=setting.packs,
        today=setting.fleet,
        add=ids,
        drop=dropped,
        given=given,
        as_of=None if as_of is None else day_of(as_of, param="--as-of"),
        check=check,
        books=setting.supplied.books,
    )


def _progress(*, quiet: bool) -> tuple[Callable[[int], None], Callable[[], None]]:
    """Return what is told how many requests are done and draws a line, and what ends it."""
    if quiet or not sys.stderr.isatty():
        return (lambda _done: None), (lambda: None)
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = SpinnerColumn(), TextColumn("{task.completed:,.0f} requests replayed"), TimeElapsedColumn()
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("replaying", total=None)
    bar.start()
    return (lambda done: bar.update(task, completed=done)), bar.stop


@click.command("shadow")
@since_option("7d")
@config_option
@json_option
def shadow(since: str, until: str | None, config_path: Path | None, as_json: bool) -> None:
    """Report what the packs in shadow would have decided otherwise, as the records say.

    Exit code 3 if a record is damaged.
    """
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.gateway.cli.client import database  # noqa: PLC0415
    from allod.gateway.simulation import shadows  # noqa: PLC0415
    from allod.store.home import load_home, load_keys  # noqa: PLC0415

    span = _span(since, until)
    setting = compose.setting(config_path)
    origin = load_keys(load_home(setting.home.root)).origin
    with database(setting) as tables:
        found, damaged = shadows(
            tables.decisions(origin, since_ms=span[0], until_ms=span[1], first=_first(setting))
        )
    if as_json:
        out(shadow_data(found, damaged, span))
    else:
        tell_shadow(found, damaged, span)
        if not found.totals.shadowed:
            say("  no pack was in shadow then: name some in tenant.shadow and start the gateway again")
    sys.exit(INTEGRITY if damaged else 0)


@click.command("enforce")
@click.argument("pack")
@click.option("--write", is_flag=True, help="write the change; without it, it is only shown")
@config_option
@json_option
def enforce(pack: str, write: bool, config_path: Path | None, as_json: bool) -> None:
    """Put a pack in force: show the exact change of the configuration, and with --write make it.

    The gateway takes it up when it starts. Where four eyes are demanded, propose it instead.
    """
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.gateway.enforce import enforced, write_config  # noqa: PLC0415

    setting = compose.setting(config_path)
    path = config_path or setting.home.config
    old = path.read_bytes()
    text = old.decode()
    law = _law_with(setting, pack)
    new = enforced(text, pack)
    if new == text:
        _enforced(pack, path, "", written=False, law=law, as_json=as_json)
        return
    if write:
        if setting.fleet.tenant.four_eyes:
            raise Refused(
                f"{path} is not written",
                "tenant.four_eyes demands that one proposes a change and another approves it",
                f"propose it: allod policy propose (pack {pack})",
            )
        write_config(path, old, new.encode())
    _enforced(pack, path, _diff(text, new, path), written=write, law=law, as_json=as_json)


def _law_with(setting: Setting, pack: str) -> Policy:
    """Build the law with a pack in force, so that what cannot be enforced is said before anything changes."""
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.gateway.ownpacks import verify_own  # noqa: PLC0415
    from allod.policy.pack import unknown_name  # noqa: PLC0415
    from allod.policy.policy import Policy  # noqa: PLC0415

    if pack not in setting.packs.found:
        raise unknown_name("asked for pack", pack, setting.packs.found)
    names = (*setting.fleet.tenant.packs, pack)
    verify_own(setting.packs, names, setting.config.signers, datetime.now(UTC).date())
    fleet = compose.under(setting.fleet, names, setting.packs)
    return Policy(setting.packs.some(fleet.tenant.packs), fleet)


def _diff(old: str, new: str, path: Path) -> str:
    lines = difflib.unified_diff(
        old.splitlines(), new.splitlines(), str(path), f"{path} (new)", lineterm="", n=2
    )
    return "\n".join(lines)


def _enforced(pack: str, path: Path, diff: str, *, written: bool, law: Policy, as_json: bool) -> None:
    unread = [one.id for one in law.packs if one.id == pack and not one.reviewed]
    if as_json:
        out(
            {
                "pack": pack, "config": str(path), "change": diff, "written": written,
                "packs": [one.id for one in law.packs], "reviewed": not unread,
            }
        )  # fmt: skip
        return
    if not diff:
        say(f"{pack} is in force already: nothing to change in {path}")
        return
    say(diff)
    if unread:
        say(f"note: no person has reviewed pack {pack} yet")
    if written:
        say(f"written; {pack} decides from the next start of the gateway on")
    else:
        say("nothing is written; do it with --write")
