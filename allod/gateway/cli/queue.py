"""``allod queue``: what waits for its hour in this home. Content is never shown."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import click

from allod.domain.errors import Invalid
from allod.domain.money import plain, rfc3339
from allod.gateway.cli import FAILED, out, say
from allod.gateway.cli.options import json_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allod.store.deferred import DeferredTable, Waiting


@click.group("queue")
def command() -> None:
    """List, show and cancel requests that wait for a cheaper hour (`background: true`)."""


@command.command("list")
@click.option("--app", help="of this app only")
@click.option("--all", "everything", is_flag=True, help="also what has ended and is kept to be fetched")
@json_option
def listing(app: str | None, everything: bool, as_json: bool) -> None:
    """List what waits or runs, that first which must begin first."""
    with _table() as table:
        rows = [r for r in (table.all() if everything else table.live()) if app is None or r.app == app]
        count, size = table.size()
    if as_json:
        out({"requests": [_said(row) for row in rows], "kept": count, "bytes": size})
        return
    if not rows:
        say("nothing waits")
        return
    from rich.console import Console  # noqa: PLC0415 (only when it runs)
    from rich.table import Table  # noqa: PLC0415

    shown = Table("response", "app", "status", "begins", "deadline", "tries", box=None, pad_edge=False)
    for row in rows:
        said = _said(row)
        shown.add_row(*(str(said[key]) for key in _COLUMNS))
    Console(width=None if sys.stdout.isatty() else 160).print(shown)
    say(f"{count} requests and {size} bytes in the queue, waiting or kept")


@command.command("show")
@click.argument("response")
@json_option
def show(response: str, as_json: bool) -> None:
    """Show one request: its times, and what its hour was chosen by."""
    with _table() as table:
        row = _row(table, response)
    choice = _choice(row)
    if as_json:
        out({**_said(row), "choice": choice})
        return
    for key, value in _said(row).items():
        say(f"{key:12} {value}")
    if choice is None:
        return
    say(f"why          {choice['why']}")
    for span in choice["spans"]:
        cost = span["cost_usd"]
        what = "nothing lawful" if cost is None else f"{cost} USD at {span['deployment']}"
        say(f"  from {span['from']} until {span['until']}: {what}")


@command.command("cancel")
@click.argument("response")
@json_option
def cancel(response: str, as_json: bool) -> None:
    """End a request that has not ended; a running gateway does so within a second, else the next start.

    Exit code 1 where it has ended or is being cancelled already.
    """
    with _table() as table:
        row = _row(table, response)
        done = table.cancel(row.id)
        now = table.row(row.id) or row
    if as_json:
        out({**_said(now), "cancelled": done})
    else:
        say(f"{_named(row)} is cancelled" if done else f"{_named(row)} is {now.status} already")
    sys.exit(0 if done else FAILED)


_COLUMNS = ("response", "app", "status", "start", "deadline", "tries")


def _said(row: Waiting) -> dict[str, Any]:
    return {
        "response": _named(row),
        "app": row.app,
        "status": row.status,
        "created": rfc3339(row.created_at_ms),
        "start": rfc3339(row.start_at_ms),
        "latest_start": rfc3339(row.latest_at_ms),
        "deadline": rfc3339(row.deadline_at_ms),
        "ended": None if row.ended_at_ms is None else rfc3339(row.ended_at_ms),
        "receipt": row.receipt,
        "tries": row.tries,
        "bytes": row.size_bytes,
    }


def _choice(row: Waiting) -> dict[str, Any] | None:
    """Return what its hour was chosen by, and the choice that these facts lead to."""
    if row.deferral is None:
        return None
    from allod.routing.defer import choose, read  # noqa: PLC0415

    facts = read(row.deferral)
    start = choose(facts)
    return {
        "why": start.why,
        "start": rfc3339(start.start_ms),
        "expected_usd": None if start.cost_usd is None else plain(start.cost_usd),
        "now_usd": None if start.now_usd is None else plain(start.now_usd),
        "expected_ms": facts.expected_ms,
        "doubt_ms": facts.doubt_ms,
        "ahead_ms": facts.ahead_ms,
        "spans": [
            {
                "from": rfc3339(one.from_ms),
                "until": rfc3339(one.until_ms),
                "deployment": one.deployment,
                "cost_usd": None if one.cost_usd is None else plain(one.cost_usd),
            }
            for one in facts.spans
        ],
    }


def _named(row: Waiting) -> str:
    return "resp_" + row.id.removeprefix("r_")


def _row(table: DeferredTable, response: str) -> Waiting:
    from allod.gateway.background import name_of  # noqa: PLC0415

    name = name_of(response)
    row = None if name is None else table.row(name)
    if row is None:
        raise Invalid(
            f"there is no request {response[:64]!r} in the queue",
            "it was never there, or its time is over",
            "see `allod queue list --all`",
            param="response",
        )
    return row


@contextlib.contextmanager
def _table() -> Iterator[DeferredTable]:
    """Open the queue of this home, beside whoever else has it open."""
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.store.database import Database  # noqa: PLC0415
    from allod.store.deferred import DeferredTable  # noqa: PLC0415
    from allod.store.home import load_home, load_keys  # noqa: PLC0415

    home = load_home(compose.home_root())
    with contextlib.closing(Database.lite_file(home.database)) as tables:
        yield DeferredTable(tables, load_keys(home).origin)
