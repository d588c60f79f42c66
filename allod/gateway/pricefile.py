"""The ``price`` of a deployment: rates, a book entry or ``free``, and what lies over it.

[deployment.price]
book = "provider/model"
factor = 1.1
zone = "Europe/Berlin"
windows = [{ from = "22:00", until = "06:00", days = ["mon", "fri"], factor = 0.5 }]
changes = [{ since = 2026-12-01, input_usd_mtok = 4, output_usd_mtok = 20 }]
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from allod.domain.errors import Invalid
from allod.domain.fleet import Price, PriceChange, PriceWindow, Zone
from allod.gateway.toml import Table, nearest
from allod.metering.hours import DAYS

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

FIRST_YEAR, LAST_YEAR = 2020, 2040
"""Whose changes of clocks are read; before the first the first offset holds, after the last the last."""
MOST_WINDOWS: Final = 32
MOST_CHANGES: Final = 64
FACTOR_DECIMALS: Final = 4
"""So few that products of rates and factors stay exact (``metering.rates``)."""
_ZERO, _MOST_FACTOR = Decimal(0), Decimal(100)
_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|(24):(00)", re.ASCII)


def price(t: Table) -> Price | None:
    """Read ``price`` of a deployment; None where there is none.

    Raises:
        Invalid: incomplete, an unknown zone or day, a window without a factor or a price.

    """
    if not t.has("price"):
        return None
    raw = t.raw("price")
    if raw == "free":
        return Price(free=True)
    p = Table(raw, t.name("price"))
    base = _plain(p)
    zone = _zone(p)
    read = Price(
        **{name: getattr(base, name) for name in _PLAIN},
        changes=tuple(_change(one, zone) for one in _list(p, "changes", MOST_CHANGES)),
        windows=tuple(_window(one) for one in _list(p, "windows", MOST_WINDOWS)),
        zone=zone,
        factor=_factor(p),
    )
    p.done()
    _complete(p, base)
    return read


_PLAIN: Final = (
    "free", "book", "input_usd_mtok", "cached_input_usd_mtok", "cache_write_usd_mtok",
    "cache_write_1h_usd_mtok", "output_usd_mtok", "reasoning_usd_mtok",
)  # fmt: skip


def _plain(p: Table) -> Price:
    return Price(
        free=p.flag("free", False),
        book=p.text("book"),
        input_usd_mtok=p.number("input_usd_mtok", _ZERO),
        cached_input_usd_mtok=p.number("cached_input_usd_mtok", _ZERO),
        cache_write_usd_mtok=p.number("cache_write_usd_mtok", _ZERO),
        cache_write_1h_usd_mtok=p.number("cache_write_1h_usd_mtok", _ZERO),
        output_usd_mtok=p.number("output_usd_mtok", _ZERO),
        reasoning_usd_mtok=p.number("reasoning_usd_mtok", _ZERO),
    )


def _complete(p: Table, price: Price) -> None:
    """Refuse a price that says nothing, or two things at once."""
    rates = price.input_usd_mtok is not None and price.output_usd_mtok is not None
    some = any(getattr(price, name) is not None for name in _PLAIN if name.endswith("_mtok"))
    if (price.free, price.book is not None, rates).count(True) != 1 or some != rates:
        where = p.name("")[:-1]
        raise Invalid(
            f"{where} is incomplete",
            "expected 'free', { book = 'provider/model' }, or both input_usd_mtok and output_usd_mtok",
            "complete it",
            param=where,
        )


def _list(p: Table, key: str, most: int) -> list[Table]:
    found = p.list_of(key, p.name(key))
    if len(found) > most:
        raise Invalid(f"{p.name(key)} are too many", f"got {len(found)}, at most {most}", param=p.name(key))
    return found


def _factor(t: Table) -> Decimal | None:
    factor = t.number("factor", _ZERO, _MOST_FACTOR)
    if factor is not None and -int(factor.as_tuple().exponent) > FACTOR_DECIMALS:
        what = f"{t.name('factor')} has more than {FACTOR_DECIMALS} decimal places"
        raise Invalid(what, f"got {factor}", "round it", param=t.name("factor"))
    return factor


def _window(t: Table) -> PriceWindow:
    begin, end = _clock(t, "from"), _clock(t, "until")
    days = t.texts("days") or ()
    for day in days:
        if day not in DAYS:
            what = f"{t.name('days')}: {day[:20]!r} is no day{nearest(day, DAYS)}"
            raise Invalid(what, "known: " + ", ".join(DAYS), "correct it", param=t.name("days"))
    factor, own = _factor(t), _plain(t)
    t.done()
    if own != Price():
        _complete(t, own)
    if (factor is None) == (own == Price()):
        where = t.name("")[:-1]
        raise Invalid(f"{where} needs a factor or a price", "exactly one of the two", param=where)
    return PriceWindow(
        from_minute=begin,
        until_minute=end,
        days=tuple(sorted(DAYS.index(day) for day in days)),
        factor=factor,
        price=None if own == Price() else own,
    )


def _clock(t: Table, key: str) -> int:
    """Read ``HH:MM`` as a minute of the day; a missing one is midnight."""
    said = t.text(key) or "00:00"
    found = _CLOCK.fullmatch(said)
    if found is None:
        raise Invalid(f"{t.name(key)}: {said[:20]!r} is no time", "expected HH:MM", param=t.name(key))
    hour, minute = said.split(":")
    return (int(hour) * 60 + int(minute)) % (24 * 60)


def _change(t: Table, zone: Zone | None) -> PriceChange:
    since = t.take("since", date, "a date, or a date and time with its offset")
    own = _plain(t)
    t.done()
    _complete(t, own)
    if since is None or (isinstance(since, datetime) and since.tzinfo is None):
        where = t.name("since")
        raise Invalid(
            f"{where} is missing or without an offset", "from when on?", "write a date", param=where
        )
    if not isinstance(since, datetime):
        since = datetime.combine(since, time(), _info(zone.name) if zone is not None else UTC)
    return PriceChange(since_ms=_ms(since), price=own)


def _zone(t: Table) -> Zone | None:
    name = t.text("zone")
    if name is None or name == "UTC":
        return None
    return Zone(name=name, offsets=offsets_of(name))


def _info(name: str) -> ZoneInfo:
    from zoneinfo import ZoneInfo  # noqa: PLC0415 (only where a zone is named)

    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError) as fault:
        raise Invalid(
            f"there is no time zone {name[:60]!r}",
            "it is not in this machine's time zone database",
            "write a name such as Europe/Berlin; where the machine has no database, install tzdata",
            param="zone",
        ) from fault


@lru_cache(maxsize=64)
def offsets_of(name: str) -> tuple[tuple[int, int], ...]:
    """Return the offsets of a zone: (from UTC ms, whole minutes east of UTC), of ``FIRST_YEAR`` and later.

    Raises:
        Invalid: the machine's time zone database has no such zone.

    """
    info = _info(name)
    at, end = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC), datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC)
    known = _minutes(info, at)
    found = [(_ms(at), known)]
    while at < end:
        later = at + timedelta(days=1)
        then = _minutes(info, later)
        if then != known:
            low, high = at, later  # the clock changes after the one and not after the other
            while high - low > timedelta(seconds=1):
                middle = low + (high - low) / 2
                low, high = (middle, high) if _minutes(info, middle) == known else (low, middle)
            found.append((round(_ms(high) / 1000) * 1000, then))
            known = then
        at = later
    return tuple(found)


def _minutes(info: ZoneInfo, at: datetime) -> int:
    offset = at.astimezone(info).utcoffset()
    return 0 if offset is None else offset // timedelta(minutes=1)


def _ms(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
