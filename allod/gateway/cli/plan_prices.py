"""``allod plan prices``: the books in use, and how the price of a model came to be what it is."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from allod.domain.errors import Invalid
from allod.domain.money import plain
from allod.gateway.cli import out, say
from allod.gateway.cli.lines import say_columns, say_folded
from allod.gateway.cli.options import config_option, json_option
from allod.gateway.cli.plan_money import books, day_of, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allod.domain.fleet import Deployment
    from allod.gateway.drifting import Kept
    from allod.metering.book import Book
    from allod.planner.pictures import Picture
    from allod.planner.prices import Entry

HEADS: Final = ("from", "until", "entry", "hours", "above", "input", "cached", "output", "book")
MOST_LINES: Final = 6
"""Entries a picture shows; the others are in the table."""


@click.command("prices")
@click.option("--history", "model", metavar="MODEL", help="every price of a model, or of one OPERATOR/MODEL")
@click.option("--price-book", "files", multiple=True, type=click.Path(path_type=Path), help="another book")
@click.option("--day", help="until when lines are drawn, and whose price is marked (default: today)")
@click.option("--svg", type=click.Path(path_type=Path), help="write a picture of the history")
@click.option("--html", type=click.Path(path_type=Path), help="write a page of it")
@config_option
@json_option
def command(
    model: str | None,
    files: tuple[Path, ...],
    day: str | None,
    svg: Path | None,
    html: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Show the price books in use, and with --history every dated price of a model.

    Read are the shipped book, books that bundles brought (signed), books given as files, prices that the
    configuration lays over them, and what the gateway saw of tokenizers: more tokens for the same text is a
    dearer price. Each line names its book by digest and day.
    """
    today = day_of(day, datetime.now(UTC).date())
    book, origin = books(files)
    if model is None:
        if svg is not None or html is not None:
            raise Invalid("there is no history to draw", "no model is named", "say --history MODEL")
        _say_books(origin, as_json=as_json)
        return
    found, deployments, drift, note = _gathered(model, book, config_path, today)
    if svg is not None:
        write(svg, _picture(model, found, today).svg())
    if html is not None:
        write(html, _page(model, found, drift, origin, today))
    if as_json:
        out(_data(model, found, deployments, drift, note, origin))
        return
    _say(found, drift, note, origin)


def _say_books(origin: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        out({"books": list(origin)})
        return
    rows = [("as of", "entries", "digest", "vouched for")]
    rows += [(one["as_of"], str(one["entries"]), one["digest"][:26], one["vouched"]) for one in origin]
    say_columns(rows, 1)
    say_folded("  ", "the newest book that knows a model counts; --history MODEL shows all of them", 4)


def _gathered(
    model: str, book: Book, config_path: Path | None, today: date
) -> tuple[tuple[Entry, ...], tuple[Deployment, ...], tuple[Kept, ...], str]:
    """Return every price, the home's deployments of the model, what is known of their tokenizers, and notes.

    Raises:
        Invalid: nobody sells the model and the home does not run it; the nearest names are said.

    """
    from allod.planner.prices import changed, entries_of, history, home_history, plainly  # noqa: PLC0415

    layers = book.layers or (book,)
    out_: list[Entry] = []
    for layer in layers:
        names = (model,) if model in layer else entries_of(model, layer)
        for name in names:
            out_ += history(name, layer, f"book of {layer.as_of}")
    deployments, drift, note = _home(config_path)
    ours = tuple(
        one
        for one in deployments
        if plainly(one.model) == plainly(model)
        or (one.price is not None and plainly(one.price.book or "-") == plainly(model))
    )
    for one in ours:
        out_ += home_history(one, book, today)
    note = "; ".join(one for one in (note, *_catalogue(model)) if one)
    if not out_:
        near = book.nearest(model) or tuple(
            name for name in sorted(book.models) if plainly(model).split("-")[0] in name
        )
        raise Invalid(
            f"no price of {model[:80]!r} is known",
            "the nearest are " + ", ".join(near[:5]) if near else "nothing in the books is near it",
            "name a model, or an entry as operator/model",
            param="history",
        )
    watched = {one.id for one in ours}
    return changed(out_), ours, tuple(one for one in drift if one.deployment in watched), note


def _catalogue(model: str) -> list[str]:
    """Return what catalogues that bundles brought say of the model's end."""
    from allod.gateway import compose, supply  # noqa: PLC0415 (only when it runs)
    from allod.planner.prices import plainly  # noqa: PLC0415
    from allod.store.home import Home  # noqa: PLC0415

    told = supply.supplied(Home(compose.home_root())).catalogue
    return [
        f"{name} is to be retired after {one.retires}, says a catalogue that came by bundle"
        for name, one in told.items()
        if one.retires is not None and plainly(name) == plainly(model)
    ]


def _home(config_path: Path | None) -> tuple[tuple[Deployment, ...], tuple[Kept, ...], str]:
    """Return the deployments of the home, what its gateway learned of tokenizers, and what to say of it."""
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.gateway.drifting import read_state, state_file  # noqa: PLC0415
    from allod.store.home import Home  # noqa: PLC0415

    home = Home(compose.home_root())
    path = config_path or home.config
    if config_path is None and not path.is_file():
        return (), (), "there is no configuration: only books were read"
    config = compose.read_config(path)
    kept, damaged = read_state(state_file(home))
    note = f"drift.json cannot be used ({damaged})" if damaged else ""
    return tuple(config.fleet.deployments.values()), kept, note


def _row(one: Entry) -> tuple[str, ...]:
    rates = one.rates
    return (
        "-" if one.since is None else one.since.isoformat(),
        "-" if one.until is None else one.until.isoformat(),
        one.name,
        one.hours,
        f"{one.above_tokens:,}" if one.above_tokens else "",
        plain(rates.input_usd_mtok),
        plain(rates.cached_input_usd_mtok),
        plain(rates.output_usd_mtok),
        one.layer,
    )


def _say(found: Sequence[Entry], drift: Sequence[Kept], note: str, origin: Sequence[dict[str, Any]]) -> None:
    say_columns([HEADS, *(_row(one) for one in found)], 5)
    say()
    say_folded("  ", "USD per million tokens; above: for requests of more input tokens. " + _HOURS, 4)
    for text in (*_drifted(drift), note, *_books(origin)):
        if text:
            say_folded("  ", text, 4)


_HOURS: Final = "A price by the hour has no date in a book: it stands in every period."


def _books(origin: Sequence[dict[str, Any]]) -> list[str]:
    return [f"book of {one['as_of']}: {one['digest']}, {one['vouched']} ({one['source']})" for one in origin]


def _drifted(drift: Sequence[Kept]) -> list[str]:
    lines = []
    for one in drift:
        if one.watch.first is None and not one.alarms:
            continue
        lines.append(
            f"{one.deployment} bills {one.since_start:.3f} times the {one.kind} tokens for the same text as "
            f"at first, seen in {one.watch.count} requests: multiply its {one.kind} price by that"
        )
        lines += [alarm.told() for alarm in one.alarms]
    return lines


def _picture(model: str, found: Sequence[Entry], today: date) -> Picture:
    """Draw output prices of the base step by day; hours other than the usual are dashed."""
    from allod.planner.pictures import Line, Mark, lines  # noqa: PLC0415
    from allod.planner.pictures.canvas import KINDS  # noqa: PLC0415

    base = [one for one in found if one.above_tokens == 0]
    days = [one.since for one in base if one.since is not None]
    first = min([*days, today]).toordinal() - 30
    series: list[Line] = []
    groups: dict[tuple[str, str, str], list[Entry]] = {}
    for one in base:
        groups.setdefault((one.name, one.layer, one.hours), []).append(one)
    # what changed comes first, then what differs by the hour
    ranked = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    colours: dict[tuple[str, str, str], str] = {}
    for (name, layer, hours), entries in ranked[:MOST_LINES]:
        colour = colours.setdefault((name, layer, hours), KINDS[len(colours) % len(KINDS)])
        for what, dashed in (("output", False), ("input", True)):
            points: list[tuple[float, float]] = []
            for one in entries:
                begin = first if one.since is None else one.since.toordinal()
                end = today.toordinal() if one.until is None else one.until.toordinal()
                price = float(getattr(one.rates, f"{what}_usd_mtok"))
                points += [(float(begin), price), (float(max(begin, end)), price)]
            said = "" if hours == "all day" or hours.count(",") > 2 else f", {hours}"  # noqa: PLR2004 (too many)
            where = "" if layer.startswith("book") else ", home"
            series.append(
                Line(f"{name}, {what}{said}{where}", tuple(points), (), colour, step=True, dashed=dashed)
            )
    left = len(ranked) - MOST_LINES
    more = f" {left} more entries are in the table." if left > 0 else ""
    return lines(
        f"What {model} costs, by day",
        series,
        x_unit="day",
        y_unit="USD per million tokens",
        about=f"List prices of the shortest requests; solid: output, dashed: input.{more} {_HOURS}",
        marks=[Mark(float(today.toordinal()), f"{today}")],
        x_text=lambda at: date.fromordinal(int(at)).strftime("%d %b %y"),
    )


def _page(
    model: str, found: Sequence[Entry], drift: Sequence[Kept], origin: Sequence[dict[str, Any]], today: date
) -> str:
    from allod.planner.pictures import Section, page  # noqa: PLC0415

    table = (HEADS, *(_row(one) for one in found))
    sections = [
        Section("By day", (), _picture(model, found, today)),
        Section("Every price", (f"USD per million tokens. {_HOURS}",), None, table),
    ]
    told = tuple(_drifted(drift))
    if told:
        sections.insert(1, Section("Tokens for the same text", told))
    return page(f"Prices of {model}", sections, foot=_books(origin))


def _data(
    model: str,
    found: Sequence[Entry],
    deployments: Sequence[Deployment],
    drift: Sequence[Kept],
    note: str,
    origin: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    from allod.gateway.cli.models_cost import tokenizer  # noqa: PLC0415
    from allod.planner.prices import as_data  # noqa: PLC0415

    return {
        "model": model,
        "books": list(origin),
        "prices": [as_data(one) for one in found],
        "deployments": [one.id for one in deployments],
        "tokenizers": [tokenizer(one) for one in drift],
        "note": note,
    }


COMMAND: Final = command
