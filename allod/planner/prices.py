"""Prices as a plan reads them: what an entry of the book charges over a day, and how it came to that.

A price book is trusted by its digest: the shipped one by that of the package, one that a bundle brought by
the bundle's signatures, one handed over as a file by nobody but whoever handed it over. This module is handed
the books and says with every price which of them it stands in, and of which day that is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any, Final

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.domain.fleet import Deployment
from allod.metering.book import Book
from allod.metering.rates import Rates, Step, Tariff, tariff_of

DAY_MS: Final = 86_400_000
SLOT_MS: Final = 1_800_000
"""Half hours: no window of the book begins or ends at another minute."""
SLOTS: Final = DAY_MS // SLOT_MS
FIRST: Final = date(2020, 1, 1)
_DATED: Final = re.compile(r"-(\d{4}|\d{6}|\d{8}|latest)$")


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator charges on one day: a tariff for each half hour (UTC), and the book it stands in."""

    name: str
    day: date
    slots: tuple[Tariff, ...]
    as_of: date
    digest: str
    source: str

    @property
    def changes_by_hour(self) -> bool:
        """Whether the hour matters."""
        return len({one.steps for one in self.slots}) > 1

    @property
    def usual(self) -> Tariff:
        """The tariff of most half hours of the day."""
        steps = [one.steps for one in self.slots]
        return next(one for one in self.slots if one.steps == max(steps, key=steps.count))


@cache
def shipped_book() -> Book:
    """Return the price book that comes with the program."""
    return Book.parse(resources.files("allod.metering").joinpath("prices.json").read_bytes())


def midnight_ms(day: date) -> int:
    """Return the UTC milliseconds at which a day begins."""
    return int(datetime.combine(day, time(), UTC).timestamp()) * 1000


def offer(name: str, book: Book, day: date) -> Offer:
    """Return what ``operator/model`` charges on a day.

    Raises:
        Invalid: the book does not know it; the nearest are named.

    """
    begin = midnight_ms(day)
    slots = [book.tariff(name, begin + n * SLOT_MS) for n in range(SLOTS)]
    found = tuple(one for one in slots if one is not None)
    if len(found) != SLOTS:
        near = ", ".join(book.nearest(name))
        raise Invalid(
            f"the price book of {book.as_of} does not know {name[:80]!r}",
            f"the nearest are {near}" if near else "nothing in the book is near it",
            "name an entry as operator/model; `allod plan prices --history MODEL` lists them",
            param="model",
        )
    held = next((one for one in book.layers if name in one), book)
    return Offer(name=name, day=day, slots=found, as_of=held.as_of, digest=held.digest, source=held.source)


def own_offer(name: str, input_usd_mtok: Decimal, output_usd_mtok: Decimal, day: date) -> Offer:
    """Return an offer by hand: two rates, cached input at the rate of input.

    Raises:
        Invalid: a rate is negative or no number.

    """
    from allod.metering.rates import filled  # noqa: PLC0415 (beside its use)

    try:
        rates = filled(input_usd_mtok=input_usd_mtok, output_usd_mtok=output_usd_mtok)
    except ValueError as fault:
        raise Invalid(f"the price of {name} is none", str(fault), "say USD per million tokens") from fault
    tariff = Tariff(steps=(Step(above_tokens=0, rates=rates),), source="said by hand", digest="")
    return Offer(name=name, day=day, slots=(tariff,) * SLOTS, as_of=day, digest="", source="said by hand")


def plainly(model: str) -> str:
    """Return a model's name without maker, place and date, to compare entries of operators."""
    last = model.rsplit("/", 1)[-1].lower().replace("_", "-")
    last = re.sub(r"v(\d)p(\d)", r"v\1.\2", last)
    for ending in (":batch", ":free", ":nitro"):
        last = last.removesuffix(ending)
    last = re.sub(r"^(deepseek|qwen|meta|mistralai)[.:]", "", last)
    return _DATED.sub("", last)


def entries_of(model: str, book: Book) -> tuple[str, ...]:
    """Return the entries of a book that are this model at some operator, batch prices left out."""
    wanted = plainly(model)
    return tuple(
        name
        for name in sorted(book.models)
        if plainly(name) == wanted and not name.endswith((":batch", ":free"))
    )


def hosted(model: str, book: Book) -> str | None:
    """Choose the entry that stands for a model's API: its maker's own, else the one known by the least name.

    The maker's own is the entry whose operator is the maker's name as it begins the model's name or path.
    """
    found = entries_of(model, book)
    maker = model.split("/", maxsplit=1)[0].lower()
    starts = (maker, plainly(model).split("-", maxsplit=1)[0])
    exact = [one for one in found if one.rsplit("/", 1)[-1].lower() == plainly(model)]
    for some in (exact, list(found)):
        own = [one for one in some if one.split("/")[0] in starts or maker.startswith(one.split("/")[0])]
        if own:
            return min(own, key=len)
    return min(exact or found, key=len, default=None)


# -- history


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One price of a history.

    Attributes:
        name: entry of the book, or deployment of the home.
        layer: which book (or ``home``), of which day, by which digest.
        since: the first day; None: as long as the book knows.
        until: the day it ends; None: it stands.
        hours: ``all day``, from and until in UTC, or ``other hours`` than those.
        above_tokens: it is for requests of more input than this.
        rates: USD per million tokens.

    """

    name: str
    layer: str
    as_of: date
    digest: str
    since: date | None
    until: date | None
    hours: str
    above_tokens: int
    rates: Rates


def history(name: str, book: Book, layer: str) -> tuple[Entry, ...]:
    """Return every price of an entry of one book: by day, by hours, by size of the request.

    The book has days for prices that replace others; hours of the day it knows without saying since when.

    Raises:
        Integrity: the entry cannot be read.

    """
    raw = book.models.get(name)
    if raw is None:
        return ()
    days = sorted(_days(name, raw))
    out: list[Entry] = []
    for n, since in enumerate([None, *days]):
        until = days[n] if n < len(days) else None
        at = midnight_ms(since or FIRST)
        slots = [book.tariff(name, at + k * SLOT_MS) for k in range(SLOTS)]
        out += _periods(name, layer, book, since, until, [one for one in slots if one is not None])
    return tuple(out)


def _days(name: str, raw: bytes | msgspec.Raw) -> set[date]:
    class Dated(msgspec.Struct):
        since: date | None = None

    try:
        found = msgspec.json.decode(raw, type=list[Dated])
    except msgspec.MsgspecError as fault:
        raise Integrity(f"the price book's entry {name} cannot be read", str(fault), "rebuild it") from fault
    return {one.since for one in found if one.since is not None}


def _periods(
    name: str, layer: str, book: Book, since: date | None, until: date | None, slots: Sequence[Tariff]
) -> list[Entry]:
    by_steps: dict[tuple[Step, ...], list[int]] = {}
    for k, slot in enumerate(slots):
        by_steps.setdefault(slot.steps, []).append(k)
    return [
        Entry(
            name=name,
            layer=layer,
            as_of=book.as_of,
            digest=book.digest,
            since=since,
            until=until,
            hours="other hours" if len(by_steps) > 1 and n == 0 else hours_of(where),
            above_tokens=step.above_tokens,
            rates=step.rates,
        )
        for n, (steps, where) in enumerate(sorted(by_steps.items(), key=lambda one: -len(one[1])))
        for step in steps
    ]


def hours_of(slots: Sequence[int]) -> str:
    """Write half hours of a day as spans: ``01:00-04:00, 06:00-10:00 UTC``."""
    if len(slots) == SLOTS:
        return "all day"
    spans: list[list[int]] = []
    for slot in slots:
        if spans and spans[-1][1] == slot:
            spans[-1][1] = slot + 1
        else:
            spans.append([slot, slot + 1])
    return ", ".join(f"{_clock(a)}-{_clock(b)}" for a, b in spans) + " UTC"


def _clock(slot: int) -> str:
    return f"{slot // 2:02d}:{slot % 2 * 30:02d}"


def home_history(deployment: Deployment, book: Book | None, today: date) -> tuple[Entry, ...]:
    """Return what a deployment of the home was and will be charged by its configuration: own dates and hours.

    From 2020 on; a price that cannot be told (no price, no book) gives nothing.
    """
    price = deployment.price
    if price is None:
        return ()
    changes = {datetime.fromtimestamp(one.since_ms / 1000, UTC).date() for one in price.changes}
    named = price.book or ""
    if book is not None and named in book:
        held = next((one for one in book.layers if named in one), book)
        changes |= _days(named, held.models[named])
    out: list[Entry] = []
    days = sorted(changes)
    for n, since in enumerate([None, *days]):
        until = days[n] if n < len(days) else None
        at = midnight_ms(since or min([today, *days]) - timedelta(days=1 if since is None else 0))
        # a change may begin within its day, by the clock of its zone: the day after shows it whole
        at += DAY_MS if since is not None and price.changes else 0
        slots = [tariff_of(deployment, book, at + k * SLOT_MS) for k in range(SLOTS)]
        found = [one for one in slots if one is not None]
        stand_in = (
            Book(digest=found[0].digest, as_of=today, source="", licence="", models={}) if found else None
        )
        if stand_in is not None:
            out += _periods(deployment.id, "configuration", stand_in, since, until, found)
    return tuple(out)


def as_data(entry: Entry) -> Mapping[str, Any]:
    """Return an entry for a program; money as plain decimals in USD per million tokens."""
    from allod.domain.money import plain  # noqa: PLC0415 (beside its use)

    return {
        "name": entry.name,
        "layer": entry.layer,
        "as_of": entry.as_of.isoformat(),
        "digest": entry.digest,
        "since": entry.since and entry.since.isoformat(),
        "until": entry.until and entry.until.isoformat(),
        "hours": entry.hours,
        "above_tokens": entry.above_tokens,
        **{one: plain(getattr(entry.rates, one)) for one in Rates.__struct_fields__},
    }


def changed(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Drop what repeats: the same price in the period before, of the same entry, hours and size."""
    out: list[Entry] = []
    last: dict[tuple[str, str, str, int], int] = {}
    for one in entries:
        key = (one.name, one.layer, one.hours, one.above_tokens)
        n = last.get(key)
        if n is not None and out[n].rates == one.rates and out[n].until == one.since:
            out[n] = msgspec.structs.replace(out[n], until=one.until)
            continue
        last[key] = len(out)
        out.append(one)
    return tuple(out)
