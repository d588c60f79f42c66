"""``allod log``: the transparency log of this home."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from allod.gateway.cli import INTEGRITY, out, say
from allod.gateway.cli.log_anchor import anchor, export, read_anchor
from allod.gateway.cli.log_keys import keys, revoke, rotate
from allod.gateway.cli.log_prune import prune, status
from allod.gateway.cli.log_witness import witness
from allod.gateway.cli.log_witnesses import witnesses
from allod.gateway.cli.options import json_option, now_ms

if TYPE_CHECKING:
    from collections.abc import Callable


@click.group("log")
def command() -> None:
    """Verify the append-only log at rest, show how it stands; witness, anchor, export and prune."""


for _one in (status, prune, witness, witnesses, rotate, revoke, keys, anchor, export):
    command.add_command(_one)


@command.command("verify")
@click.option(
    "--anchor",
    "anchors",
    multiple=True,
    type=click.Path(path_type=Path),
    help="a checkpoint kept elsewhere, which the log must extend; may be repeated",
)
@json_option
def verify(anchors: tuple[Path, ...], as_json: bool) -> None:
    """Recompute the whole log of the home at rest. Exit code 3 when anything is not what it must be."""
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.store.audit import verify_home  # noqa: PLC0415
    from allod.store.home import load_home  # noqa: PLC0415

    home = load_home(compose.home_root())
    told, end = _progress(quiet=as_json)
    try:
        result = verify_home(home, told, [read_anchor(path) for path in anchors])
    finally:
        end()
    if as_json:
        out({"ok": result.ok, "steps": result.steps})
    else:
        for step in result.steps:
            say(f"{step.n:2}  {'ok  ' if step.ok else 'FAIL'}  {step.name:28} {step.detail}")
        say("the log verifies" if result.ok else "the log does NOT verify")
    sys.exit(0 if result.ok else INTEGRITY)


def _progress(*, quiet: bool) -> tuple[Callable[[int, int], None], Callable[[], None]]:
    """Return what is told (done, of all) leaves and draws a bar, and what ends it."""
    if quiet or not sys.stderr.isatty():
        return (lambda _done, _all: None), (lambda: None)
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    bar = Progress(console=Console(stderr=True), transient=True)
    task = bar.add_task("reading leaves")
    bar.start()
    return (lambda done, of: bar.update(task, completed=done, total=of)), bar.stop


@command.command("checkpoint")
def checkpoint() -> None:
    """Print the last published checkpoint, a signed note."""
    from allod.gateway import compose  # noqa: PLC0415
    from allod.store.home import load_home  # noqa: PLC0415

    say(load_home(compose.home_root()).checkpoint.read_text().rstrip("\n"))


@command.command("key")
def key() -> None:
    """Print the verifier key, to be handed to whoever verifies receipts."""
    from allod.gateway import compose  # noqa: PLC0415
    from allod.store.home import load_home  # noqa: PLC0415

    say(load_home(compose.home_root()).log_vkey.read_text().strip())


@command.command("rebuild")
@json_option
def rebuild(as_json: bool) -> None:
    """Fill in what the tables lost of the log (not keys, salts or records); a notice in the log says so."""
    import os  # noqa: PLC0415

    from allod.gateway import compose  # noqa: PLC0415
    from allod.receipts.commitment import pseudonym  # noqa: PLC0415
    from allod.receipts.ids import new_id  # noqa: PLC0415
    from allod.receipts.leaves import NoticeFacts  # noqa: PLC0415
    from allod.store.home import load_home, load_keys  # noqa: PLC0415
    from allod.store.rebuild import rebuild_tables  # noqa: PLC0415

    home = load_home(compose.home_root())
    fleet = compose.read_config(home.config).fleet
    keys, now = load_keys(home), now_ms()
    notice = NoticeFacts(
        id=new_id(keys.origin, now, os.urandom(10)),
        at_ms=now,
        tenant=pseudonym(keys.secret, "tenant", fleet.tenant.id),
        subject="tables-rebuilt",
    )
    apps = {pseudonym(keys.secret, "app", app): app for app in fleet.apps}
    done = rebuild_tables(home, apps=apps, notice=notice)
    if as_json:
        out(done)
    else:
        say(f"rebuilt from the log: {done.requests} requests, {done.rows} ledger rows")
