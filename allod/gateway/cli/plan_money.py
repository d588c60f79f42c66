"""What ``allod plan cost`` and ``allod plan npv`` share: the question as options, the books of the home."""

from __future__ import annotations

import contextlib
import errno
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from allod.domain.errors import Integrity, Invalid, Unavailable
from allod.gateway.cli import catalogue_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from allod.metering.book import Book
    from allod.planner.catalogue import Device, GridRow
    from allod.planner.estimate import Estimate
    from allod.planner.money.asking import Question
    from allod.planner.money.case import Case
    from allod.planner.money.inputs import Input
    from allod.planner.pictures import Section

GIB: Final = 1 << 30
MAX_BOOK_BYTES: Final = 64 << 20
KEYED: Final = (
    ("--input-tokens", "task.input_tokens", "tokens a task reads, cached ones included"),
    ("--output-tokens", "task.output_tokens", "tokens a task writes, thinking included"),
    ("--cached", "task.cached_share", "share of the input read from a cache, 0 to 1"),
    ("--tasks-month", "demand.tasks_month", "solved tasks a month (or say --utilisation)"),
    ("--utilisation", "own.utilisation", "of the nodes, 0 to 1"),
    ("--tokens-per-second", "own.tokens_s", "output tokens/s of one node, in place of an estimate"),
    ("--months", "buy.months", "the term, 36 to 60"),
    ("--device-price", "buy.device_price_usd", "USD of one device"),
    ("--node-price", "buy.node_price_usd", "USD of one node, in place of the device's price"),
    ("--rent", "rent.usd_device_h", "USD per device and hour, rented for the term"),
    ("--tariff", "site.tariff_usd_kwh", "USD per kWh"),
    ("--pue", "site.pue", "power of the site over power of the computers"),
    ("--colocation", "site.colo_usd_kw_month", "USD per kW and month, in place of tariff and PUE"),
    ("--staff", "run.staff_fte", "full-time people who run it"),
)
"""Options that set an assumption; every other one by ``--set``."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked with a command, read."""

    question: Question
    book: Book
    origin: tuple[dict[str, Any], ...]


def question_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a question about money."""
    for flag, key, text in reversed(KEYED):
        shown = f"{text}; a number, LOW..HIGH or LOW..MIDDLE..HIGH"
        function = click.option(flag, _name(key), metavar="N", help=shown)(function)
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def _name(key: str) -> str:
    return "key_" + key.replace(".", "__")


_OPTIONS: Final = (
    click.argument("model"),
    click.option("--on", "device", help="the hardware: a device of the catalogue"),
    click.option("--devices", default=8, show_default=True, help="devices of a node"),
    click.option("--nodes", default=1, show_default=True, help="nodes"),
    click.option("--frontier", default="openai/gpt-5.5", show_default=True, help="entry of the price book"),
    click.option("--open-api", help="entry of the book that sells the model (default: its maker's)"),
    click.option("--country", help="where it stands: ISO code (DE, DEU) or name, for carbon and water"),
    click.option("--quant", default="", help="precision of the weights (default: as published)"),
    click.option("--engine", default="vllm", show_default=True, help="engine, for the speed"),
    click.option(
        "--concurrency",
        type=click.IntRange(1, 100_000),
        default=64,
        show_default=True,
        help="requests at once, for the speed",
    ),
    click.option(
        "--model-config", "config", type=click.Path(path_type=Path), help="the model's own config.json"
    ),
    click.option("--device-facts", type=click.Path(path_type=Path), help="a TOML of facts of the hardware"),
    click.option("--day", help="whose prices count (default: today)"),
    click.option(
        "--price-book", "books", multiple=True, type=click.Path(path_type=Path), help="one more book"
    ),
    click.option("--load-curve", help="24 numbers by hour (UTC), comma-separated: when the work comes"),
    click.option("--tariff-curve", help="24 numbers by hour (UTC): when power is dear"),
    click.option(
        "--assumptions", type=click.Path(path_type=Path), help="a TOML of assumptions, tables as printed"
    ),
    click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="set any assumption"),
    click.option("--seed", default=20261126, show_default=True, help="of the drawing"),
    click.option("--draws", default=20_000, show_default=True, help="outcomes drawn"),
    click.option("--svg", type=click.Path(path_type=Path), help="write a picture"),
    click.option("--html", type=click.Path(path_type=Path), help="write a page with all pictures"),
)


def asked(values: Mapping[str, Any]) -> Asked:
    """Read the options.

    Raises:
        Invalid: unknown device, model of price book, key, country; contradictory or absurd numbers.
        Integrity: a price book of the home is not what was imported.

    """
    from allod.planner.catalogue import find_device  # noqa: PLC0415 (only when it runs)
    from allod.planner.money.asking import Question  # noqa: PLC0415
    from allod.planner.money.inputs import from_toml  # noqa: PLC0415

    today = datetime.now(UTC).date()
    _typed(values)
    file: list[Input] = []
    if values["assumptions"] is not None:
        path: Path = values["assumptions"]
        file = from_toml(read(path, 1 << 20), path.name, today)
    flags = _flags(values, today)
    own = values["device_facts"]
    device = None if values["device"] is None and own is None else find_device(values["device"] or "", own)
    book, origin = books(values["books"])
    said = {one.key for one in (*file, *flags)}
    speed, no_speed = None, "" if device is not None else "no hardware is named: say --on DEVICE"
    if "own.tokens_s" not in said and device is not None:
        speed, no_speed = estimated(values, device, {one.key: one.value for one in (*file, *flags)})
    question = Question(
        model=values["model"],
        frontier=values["frontier"],
        open_api=values["open_api"],
        device=device,
        devices=values["devices"],
        nodes=values["nodes"],
        day=day_of(values["day"], today),
        file=tuple(file),
        flags=tuple(flags),
        speed=speed,
        no_speed=no_speed,
        grid=country(values["country"]),
        load_curve=_curve(values["load_curve"], "--load-curve"),
        tariff_curve=_curve(values["tariff_curve"], "--tariff-curve"),
    )
    return Asked(question=question, book=book, origin=origin)


def _typed(values: Mapping[str, Any]) -> None:
    """Refuse what was typed and means nothing, whether or not an estimate of the speed needs it."""
    from allod.planner.catalogue import find_model  # noqa: PLC0415 (only when it runs)
    from allod.planner.quants import precision  # noqa: PLC0415
    from allod.planner.reserve import engine_named  # noqa: PLC0415

    engine_named(values["engine"])
    if values["quant"]:
        precision(values["quant"])
    if values["config"] is not None:
        find_model(values["model"], values["config"])


def _flags(values: Mapping[str, Any], today: date) -> list[Input]:
    from allod.planner.money.inputs import settings  # noqa: PLC0415

    words = [f"{key}={values[_name(key)]}" for _, key, _ in KEYED if values[_name(key)] is not None]
    return settings([*words, *values["settings"]], today)


def estimated(
    values: Mapping[str, Any], device: Device, said: Mapping[str, Decimal]
) -> tuple[Estimate | None, str]:
    """Estimate the speed of a node for this task; without one, why not and what to say."""
    from allod.planner.catalogue import find_model  # noqa: PLC0415 (only when it runs)
    from allod.planner.memory import held, runs  # noqa: PLC0415
    from allod.planner.money.inputs import known  # noqa: PLC0415
    from allod.planner.speed.speeds import estimate_speed  # noqa: PLC0415

    def tokens(key: str) -> int:
        shipped = known()[key].value
        assert shipped is not None
        return max(1, int(said.get(key, shipped)))

    read, written = tokens("task.input_tokens"), tokens("task.output_tokens")
    try:
        card = find_model(values["model"], values["config"])
        stored = card.architecture.stored if card.architecture is not None else ""
        quant, engine, many = values["quant"] or stored or "bf16", values["engine"], values["concurrency"]
        verdict = runs(device, values["devices"], card, quant, engine, read + written, many)
        if not verdict.fits:
            return None, (
                f"{card.id} in {quant} does not run on {values['devices']} x {device.id} ({verdict.answer}, "
                f"needs {verdict.need.high / GIB:.0f} GiB of a device for {many} at once): see "
                "`allod plan fit`; say --devices, --quant, --concurrency, or --tokens-per-second as measured"
            )
        # what the memory does not hold at once waits, and adds nothing to the speed
        room = held(device, values["devices"], card, quant, engine, read + written).sequences
        many = max(1, min(many, room or many))
        speed = estimate_speed(device, values["devices"], card, quant, engine, many, read, written)
    except Invalid as fault:
        return None, f"{fault.what}: {fault.why}; say --tokens-per-second"
    return speed.out_tok_s, ""


def day_of(text: str | None, today: date) -> date:
    """Return the day whose prices count.

    Raises:
        Invalid: it is none, or no price is known of it.

    """
    from allod.gateway.cli.period import day_of as read_day  # noqa: PLC0415
    from allod.planner.prices import FIRST  # noqa: PLC0415

    if text is None:
        return today
    day = read_day(text, param="day")
    if not FIRST <= day <= date(2100, 1, 1):
        raise Invalid(
            "no prices are known of this day", f"got {day}, from {FIRST} on", "say another", param="day"
        )
    return day


def country(name: str | None) -> GridRow | None:
    """Return the grid of a country.

    Raises:
        Invalid: it is not in the catalogue; the nearest are named.

    """
    from allod.domain.jurisdiction import ALPHA3  # noqa: PLC0415 (only when it runs)
    from allod.gateway.cli.countries import code_of, nearest  # noqa: PLC0415
    from allod.planner.catalogue import grid  # noqa: PLC0415

    if name is None:
        return None
    rows, code = grid(), code_of(name)
    three = name.strip().upper() if code is None else ALPHA3[code]
    if three in rows:
        return rows[three]
    near = "" if code is not None else nearest(name)
    raise Invalid(
        f"no grid is known of {name[:40]!r}" + (f" ({three})" if code is not None else ""),
        f"the nearest are {near}" if near else "expected an ISO code such as DE or DEU, or a name",
        "say another, or --set site.carbon_g_kwh=...",
        param="country",
    )


def _curve(text: str | None, name: str) -> tuple[Decimal, ...]:
    if text is None:
        return ()
    try:
        return tuple(Decimal(part.strip()) for part in text.split(","))
    except InvalidOperation as fault:
        raise Invalid(
            f"{name} is no curve", f"got {text[:60]!r}", "say 24 numbers with commas", param=name
        ) from fault


def read(path: Path, most: int) -> bytes:
    """Read a file of at most so many bytes.

    Raises:
        Unavailable: there is none, or it cannot be read. Invalid: it is larger.

    """
    try:
        with path.open("rb") as file:
            raw = file.read(most + 1)
    except FileNotFoundError as fault:
        raise Unavailable(
            f"there is no file {path}", "it was named with the command", "check the path"
        ) from fault
    except OSError as fault:
        raise Unavailable(
            f"{path} cannot be read", str(fault.strerror or fault), "check the path and its rights"
        ) from fault
    if len(raw) > most:
        raise Invalid(f"{path} is too large", f"at most {most} bytes are read", "check the file")
    return raw


def books(files: Sequence[Path] = ()) -> tuple[Book, tuple[dict[str, Any], ...]]:
    """Lay the shipped price book, those that bundles brought and files over each other, the newest first.

    Returns:
        The book, and what it is made of: digest, day, source and who vouches for it.

    Raises:
        Integrity: a book cannot be used, or a bundle's is not what was imported.

    """
    from allod.gateway import compose, planfacts, supply  # noqa: PLC0415
    from allod.metering.book import Book  # noqa: PLC0415
    from allod.planner.prices import shipped_book  # noqa: PLC0415
    from allod.store.home import Home  # noqa: PLC0415

    found: list[tuple[Book, str]] = [(shipped_book(), "shipped with the program")]
    home = Home(compose.home_root())
    supplied = supply.supplied(home)
    vouched = planfacts.vouchers(home, supplied)
    for book, bundle in zip(supplied.books, supplied.books_from, strict=True):
        if bundle not in vouched:
            raise Integrity(
                f"the price book of {book.as_of} came with a bundle that was never imported",
                f"{bundle} is in no switch of supply/",
                "restore supply/ as a whole from a backup of this home",
            )
        found.append((book, vouched[bundle]))
    found += [
        (Book.parse(read(path, MAX_BOOK_BYTES)), f"file {path.name}, signed by nobody") for path in files
    ]
    whole = Book.over(book for book, _ in found)
    assert whole is not None
    origin = tuple(
        {
            "digest": book.digest,
            "as_of": book.as_of.isoformat(),
            "entries": len(book.models),
            "source": book.source,
            "vouched": vouched,
        }
        for book, vouched in sorted(found, key=lambda one: one[0].as_of, reverse=True)
    )
    return whole, origin


def write(path: Path, text: str) -> None:
    """Write a picture or a page as a whole, or not at all; a pipe or a device is written to, not replaced.

    Raises:
        Unavailable: it cannot be written: a folder, no right, no room.

    """
    from allod.store.home import unwritable, write_file  # noqa: PLC0415

    # a link is followed, so that what it names is written and the link is not replaced
    real = path.resolve()
    try:
        if real.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if path.exists() and (not path.is_file() or path.is_relative_to("/dev")):
            path.write_bytes(text.encode())
            return
        real.parent.mkdir(parents=True, exist_ok=True)
        write_file(real, text.encode(), mode=0o644)
    except OSError as fault:
        with contextlib.suppress(OSError):
            real.with_name(f"{real.name}.new").unlink(missing_ok=True)
        raise unwritable(path, fault) from fault


def foot(asked_: Asked, draws: int, seed: int) -> list[str]:
    """Say where the prices are from, of when, and how the outcomes were drawn."""
    lines = [
        f"Prices: book {one['digest'][:19]}... of {one['as_of']}, {one['vouched']} ({one['source']})."
        for one in asked_.origin
    ]
    catalogue = catalogue_lines.lines(asked_.question.device, asked_.question.grid)
    lines += [f"Catalogue: {one}." for one in catalogue]
    return [*lines, f"{draws:,} outcomes drawn, seed {seed}; nothing here is an offer."]


def inputs_section(case: Case) -> Section:
    """Return every input with its interval, source and day, for a page."""
    from allod.domain.money import plain  # noqa: PLC0415
    from allod.planner.pictures import Section  # noqa: PLC0415

    rows = [
        (
            one.key,
            plain(one.value),
            "" if one.low == one.high else f"{plain(one.low)} to {plain(one.high)}",
            one.unit,
            one.source,
            one.as_of.isoformat(),
        )
        for one in case.inputs.by_key.values()
    ]
    return Section(
        "Everything it rests on",
        ("80 % of cases are meant to lie in a range. Replace what you know: --assumptions, --set.",),
        None,
        (("key", "value", "80 %", "unit", "source", "as of"), *rows),
    )
