"""``allod models cost``: what a solved task costs, by task and deployment, from the ledger."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from allod.domain.errors import Unavailable
from allod.domain.money import plain, rfc3339
from allod.gateway.cli import out, say
from allod.gateway.cli.lines import say_columns, say_folded
from allod.gateway.cli.options import config_option, json_option, now_ms
from allod.gateway.cli.period import moment_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from decimal import Decimal

    from allod.gateway.compose import Setting
    from allod.gateway.costs import Costs, Leaf, Row
    from allod.gateway.drifting import Kept

HEADS: Final = (
    "task",
    "deployment",
    "n",
    "ok",
    "USD/request",
    "USD/solved",
    "90 %",
    "retry",
    "fail",
    "steps",
)

WORDS: Final = 2
"""Columns of words."""


@click.command("cost")
@click.option("--since", help="from this day or time on, or `30d` ago (default: all there is)")
@click.option("--task", help="only this task (`default`: requests of none)")
@config_option
@json_option
def command(since: str | None, task: str | None, config_path: Path | None, as_json: bool) -> None:
    """Show what a solved task costs at each deployment: with retries, checks, audits and hidden tokens.

    From the ledger; a gateway may be running. Success is what routing reads: measured, published or declared.
    """
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.gateway.drifting import read_state, state_file  # noqa: PLC0415

    setting = compose.setting(config_path)
    since_ms = 0 if since is None else moment_ms(since, now_ms(), param="since")
    costs = add_up(setting, since_ms, task, quiet=as_json)
    rows = costs.rows(setting.fleet, datetime.now(UTC).date())
    kept, damaged = read_state(state_file(setting.home))
    if as_json:
        out(
            {
                "since": rfc3339(since_ms) if since_ms else None,
                "rows": [as_data(row) for row in rows],
                "tokenizers": [tokenizer(one) for one in kept],
                "tokenizers_damaged": damaged,
            }
        )
        return
    _say(rows)
    _say_tokenizers(kept, damaged)


def add_up(setting: Setting, since_ms: int, task: str | None, *, quiet: bool) -> Costs:
    """Add up the requests of a home since a time."""
    from allod.gateway.cli.client import database  # noqa: PLC0415
    from allod.gateway.costs import Costs, in_order  # noqa: PLC0415
    from allod.store.costs import settled  # noqa: PLC0415
    from allod.store.home import load_keys  # noqa: PLC0415

    origin = load_keys(setting.home).origin
    with _leaves(setting) as read, database(setting) as tables, _progress(quiet=quiet) as step:
        costs = Costs(read, task)
        for page in settled(tables, origin, since_ms):
            for one in sorted(page, key=in_order):
                costs.add(one)
            step(len(page))
    return costs


@contextlib.contextmanager
def _leaves(setting: Setting) -> Iterator[Callable[[int], Leaf | None]]:
    """Open the log as its newest checkpoint has it; without one there are no leaves to read."""
    from allod.gateway.costs import leaf_reader  # noqa: PLC0415
    from allod.store.extract import Extract  # noqa: PLC0415

    try:
        log = Extract(setting.home)
    except Unavailable:
        yield lambda _: None
        return
    with contextlib.closing(log):
        yield leaf_reader(log.reader.leaf)


@contextlib.contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[int], None]]:
    if quiet:
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress, SpinnerColumn, TextColumn  # noqa: PLC0415

    columns = (SpinnerColumn(), TextColumn("{task.completed} requests"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        row = bar.add_task("", total=None)
        yield lambda n: bar.advance(row, n)


def as_data(row: Row) -> dict[str, Any]:
    """Return a row for a program; money as plain decimals in USD."""
    sums = row.sums
    counts = ("requests", "answered", "failed", "aborted", "refused", "attempts", "again", "lost")
    tokens = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
    money = ("cost_usd", "retried_usd", "failed_usd", "steps_usd")
    return {
        "task": row.task,
        "deployment": row.deployment,
        **{name: getattr(sums, name) for name in (*counts, *tokens)},
        **{name: plain(getattr(sums, name)) for name in money},
        "cost_per_request_usd": _amount(row.request_usd),
        "success": row.success,
        "success_low": row.success_low,
        "success_high": row.success_high,
        "basis": row.basis,
        "cases": row.cases,
        "cost_per_solved_usd": _amount(row.solved_usd),
        "cost_per_solved_low_usd": _amount(row.solved_low_usd),
        "cost_per_solved_high_usd": _amount(row.solved_high_usd),
    }


def tokenizer(one: Kept) -> dict[str, Any]:
    """Return how a tokenizer stands, for a program."""
    return {
        "deployment": one.deployment,
        "kind": one.kind,
        "requests": one.watch.count,
        "factor": round(one.since_start, 4) if one.watch.first is not None or one.alarms else None,
        "alarms": one.alarms,
    }


def _amount(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)


def _say(rows: list[Row]) -> None:
    if not rows:
        say("no request yet")
        return
    say_columns([HEADS, *map(_cells, rows)], WORDS)
    say()
    for row in rows:
        s = row.sums
        tokens = f"{s.input_tokens} in, {s.cached_tokens} cached, {s.output_tokens} out"
        hidden = f", {s.reasoning_tokens} reasoning" if s.reasoning_tokens else ""
        cases = f" from {row.cases} cases" if row.basis == "measured" else ""
        success = "unknown" if row.success is None else f"{row.success:.3g}"
        bounds = "" if row.success_low is None else f" ({row.success_low:.3g} to {row.success_high:.3g})"
        say_folded(
            f"  {row.task} at {row.deployment}: ",
            f"success {success}{bounds}, {row.basis}{cases}; {s.attempts} attempts; tokens {tokens}{hidden}",
        )


def _cells(row: Row) -> tuple[str, ...]:
    s = row.sums
    bounds = "-"
    if row.solved_low_usd is not None and row.solved_high_usd is not None:
        bounds = f"{float(row.solved_low_usd):.3g} to {float(row.solved_high_usd):.3g}"
    return (
        row.task,
        row.deployment,
        f"{s.requests}",
        f"{s.answered}",
        "-" if row.request_usd is None else f"{float(row.request_usd):.3g}",
        "-" if row.solved_usd is None else f"{float(row.solved_usd):.3g}",
        bounds,
        *(_share(part, s.cost_usd) for part in (s.retried_usd, s.failed_usd, s.steps_usd)),
    )


def _share(part: Decimal, whole: Decimal) -> str:
    return f"{100 * float(part / whole):.1f} %" if whole else "-"


def _say_tokenizers(kept: tuple[Kept, ...], damaged: str) -> None:
    if damaged:
        say_folded(
            "  tokenizers: ", f"drift.json cannot be used ({damaged}); it begins anew at the next start"
        )
    for one in kept:
        if one.watch.first is None and not one.alarms:
            say(f"  tokenizer of {one.deployment}, {one.kind}: learning, {one.watch.count} requests")
            continue
        say(
            f"  tokenizer of {one.deployment}, {one.kind}: {one.since_start:.3f} times the tokens for "
            f"the same text as at first, from {one.watch.count} requests"
        )
        for found in one.alarms:
            say_folded("    ", found.told())
