"""What the commands of ``allod drill`` share: options, the open office, and where results go."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from allod.domain.errors import Invalid
from allod.drills.words import printable
from allod.gateway.cli import out, say
from allod.gateway.cli.lines import columns, say_folded, width
from allod.gateway.cli.options import config_option, json_option, now_ms
from allod.gateway.cli.period import moment_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allod.drills.pages import Page
    from allod.drills.worlds import World
    from allod.gateway.drilling import Ground
    from allod.gateway.drilling_run import Office, Span


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What every drill is asked with: the span or how many to make up, files, and whether for a program."""

    since: str
    until: str | None
    generate: int | None
    config_path: Path | None
    own_path: Path | None
    html: Path | None
    svg: Path | None
    as_json: bool


def drill_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every drill."""
    for option in (
        click.option("--since", default="30d", show_default=True, help="from then on: 30d, 12h, 2026-11-01"),
        click.option("--until", help="up to then, exclusive (default: now)"),
        click.option(
            "--generate", type=int, metavar="N",
            help="instead of recorded requests, N a month made up from the configuration, and marked so",
        ),
        click.option(
            "--own", "own_path", type=click.Path(path_type=Path), help="another drills.toml than the home's"
        ),
        click.option("--html", type=click.Path(path_type=Path), help="write a page for people"),
        click.option("--svg", type=click.Path(path_type=Path), help="write its pictures: FILE, FILE-2, ..."),
        config_option,
        json_option,
    ):  # fmt: skip
        function = option(function)
    return function


def asked(options: dict[str, Any]) -> Ask:
    """Put the options together.

    Raises:
        Invalid: a file to write has no name, or is none.

    """
    ask = Ask(**{name: options[name] for name in Ask.__struct_fields__})
    check_output(ask.html, "--html")
    check_output(ask.svg, "--svg")
    return ask


def check_output(path: Path | None, option: str) -> None:
    """Refuse what a file cannot be put in place of, before anything is read.

    Raises:
        Invalid: there is no name, or what is there is no file (a folder, a pipe, a device).

    """
    if path is not None and (not path.name or (path.exists() and not path.is_file())):
        told = "it has no name" if not path.name else f"{path} is there and is no file"
        raise Invalid(f"{option} names no file", told, "name a file to write", param=option)


def ground_of(config_path: Path | None, own_path: Path | None) -> Ground:
    """Open the home without its tables."""
    from allod.gateway import compose, drilling  # noqa: PLC0415 (only when it runs)
    from allod.gateway.drilling_run import today  # noqa: PLC0415

    setting = compose.setting(config_path)
    return drilling.Ground(setting, drilling.own_of(setting.home, own_path), None, today(now_ms()))


@contextlib.contextmanager
def office(ask: Ask, worlds_named: Callable[[Ground], Sequence[World]]) -> Iterator[Office]:
    """Open the home, find the worlds, and read the span once for all of them."""
    from allod.gateway import compose, drilling  # noqa: PLC0415 (only when it runs)
    from allod.gateway.cli.client import database  # noqa: PLC0415
    from allod.gateway.drilling_run import Office, today  # noqa: PLC0415
    from allod.store.home import load_home, load_keys  # noqa: PLC0415
    from allod.store.pruned import gone_of  # noqa: PLC0415

    setting = compose.setting(ask.config_path)
    span = span_of(ask)
    own = drilling.own_of(setting.home, ask.own_path)
    if ask.generate is not None:
        ground = drilling.Ground(setting, own, None, today(span.now_ms))
        yield Office(ground, span, worlds_named(ground), None)
        return
    gone = gone_of(setting.home.log)
    told, end = requests_bar(quiet=ask.as_json)
    with database(setting) as tables:
        ground = drilling.Ground(setting, own, tables, today(span.now_ms))
        found = worlds_named(ground)
        try:
            made = Office(
                ground, span, found, tables, origin=load_keys(load_home(setting.home.root)).origin,
                first=gone.record.upto if gone is not None else 0, told=told,
            )  # fmt: skip
        finally:
            end()
        yield made


def span_of(ask: Ask) -> Span:
    """Return the span that is asked for.

    Raises:
        Invalid: it ends before it begins.

    """
    from allod.gateway.drilling_run import Span  # noqa: PLC0415 (only when it runs)

    now = now_ms()
    since = moment_ms(ask.since, now, param="--since")
    until = moment_ms(ask.until, now, param="--until") if ask.until else now + 1
    if since >= until:
        raise Invalid(
            "--since is not before --until", f"got {ask.since} and {ask.until or 'now'}", "turn them round",
            param="--since",
        )  # fmt: skip
    return Span(
        since_ms=since,
        until_ms=until,
        now_ms=now,
        generate=ask.generate,
    )


def requests_bar(*, quiet: bool) -> tuple[Callable[[int], None], Callable[[], None]]:
    """Return what is told how many requests were read and draws a line, and what ends it."""
    if quiet or not sys.stderr.isatty():
        return (lambda _done: None), (lambda: None)
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = SpinnerColumn(), TextColumn("{task.completed:,.0f} requests read"), TimeElapsedColumn()
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("reading", total=None)
    bar.start()
    return (lambda done: bar.update(task, completed=done)), bar.stop


@contextlib.contextmanager
def worlds_bar(*, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Draw a bar of (worlds done, of all)."""
    if quiet or not sys.stderr.isatty():
        yield lambda _done, _of: None
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("worlds")
        yield lambda done, of: bar.update(task, completed=done, total=of)


def deliver(ask: Ask, page: Page, data: Any) -> None:
    """Write the files asked for, then print JSON or the page as text."""
    from allod.gateway.cli.plan_money import write  # noqa: PLC0415 (only when it runs)

    if ask.html is not None:
        write(ask.html, page.html())
    if ask.svg is not None:
        write_pictures(page, ask.svg)
    if ask.as_json:
        out(jsonable(data))
    else:
        tell(page)
        for path in (ask.html, ask.svg):
            if path is not None:
                say(f"written: {path}")


def write_pictures(page: Page, path: Path) -> dict[str, str]:
    """Write a page's pictures as SVG files beside each other; returns their names by title."""
    from allod.gateway.cli.plan_money import write  # noqa: PLC0415 (only when it runs)

    names: dict[str, str] = {}
    for n, picture in enumerate(page.pictures()):
        each = path if n == 0 else path.with_name(f"{path.stem}-{n + 1}{path.suffix or '.svg'}")
        write(each, picture.svg())
        names[picture.title] = each.name
    return names


def tell(page: Page) -> None:
    """Print a page as text."""
    say(printable(page.title))
    say_folded("  ", printable(page.lead))
    for section in page.sections:
        say()
        say(printable(section.heading))
        for text in section.texts:
            say_folded("  ", printable(text))
        for table in (page.drawn.get(section.heading, ()), section.table):
            if table:
                _table([[printable(cell) for cell in row] for row in table])
    say()
    for text in page.foot:
        say_folded("  ", printable(text))


LEAST_CELL: Final = 12
"""Characters a column must keep to be folded rather than told row by row."""


def _table(rows: Sequence[Sequence[str]]) -> None:
    """Print a table, its cells folded; where the screen is too narrow for that, one block a row."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    least = sum(min(one, LEAST_CELL) for one in widths) + 2 * len(widths)
    if least <= width() - 2 and 2 * sum(widths) <= 3 * width():
        for line in columns(rows, len(rows[0]), width() - 2):
            say(f"  {line}")
        return
    head, *body = rows
    for row in body:
        say_folded("  ", row[0])
        for name, cell in zip(head[1:], row[1:], strict=True):
            if cell:
                say_folded(f"    {name}: ", cell, under=6)


def jsonable(value: Any) -> Any:
    """Turn results into JSON data: exact amounts as plain text."""
    from decimal import Decimal  # noqa: PLC0415 (only when it runs)

    from allod.domain.money import plain  # noqa: PLC0415

    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, msgspec.Struct):
        return {name.rstrip("_"): jsonable(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
