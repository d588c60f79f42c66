"""When which price applies: windows of the day in a named zone, prices from a day on.

A window is meant by the clock of its zone, so on the day that clock changes it is an hour shorter or longer.
All of it is a function of the price and one time: the offsets of the zone stand in the price.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from allod.domain.fleet import Price, PriceWindow, Zone

_DAY_MS: Final = 86_400_000
_MINUTE_MS: Final = 60_000
_WEEK: Final = 7
_THURSDAY: Final = 3
"""1970-01-01 was one; Monday is 0."""


def offset_ms(zone: Zone | None, at_ms: int) -> int:
    """Return by how much a zone's clock is ahead of UTC at a time, in milliseconds."""
    if zone is None or not zone.offsets:
        return 0
    n = bisect_right(zone.offsets, at_ms, key=lambda one: one[0])
    return zone.offsets[max(0, n - 1)][1] * _MINUTE_MS


def applies(window: PriceWindow, zone: Zone | None, at_ms: int) -> bool:
    """Tell whether a window holds at a time (UTC ms)."""
    day, ms = divmod(at_ms + offset_ms(zone, at_ms), _DAY_MS)
    begin, end = window.from_minute * _MINUTE_MS, window.until_minute * _MINUTE_MS
    if begin < end:
        return begin <= ms < end and _on(window, day)
    return (ms >= begin and _on(window, day)) or (ms < end and _on(window, day - 1))


def window_at(price: Price, at_ms: int) -> PriceWindow | None:
    """Return the window that counts at a time: the last that applies, or None."""
    return next((one for one in reversed(price.windows) if applies(one, price.zone, at_ms)), None)


def begun(price: Price, at_ms: int) -> Price:
    """Return the price that stands at a time: that of the last change that has begun, else its own."""
    past = [one for one in price.changes if one.since_ms <= at_ms]
    return max(past, key=lambda one: one.since_ms).price if past else price


def next_change_ms(price: Price, at_ms: int) -> int | None:
    """Return a time after this one until which nothing of the price's own dates and windows changes.

    It may be early (a window that does not begin on that day), never late; None where nothing ever changes.
    """
    ends = [one.since_ms for one in price.changes]
    if price.windows:
        ends += _boundaries(price, at_ms)
    return min((end for end in ends if end > at_ms), default=None)


def label(window: PriceWindow, zone: Zone | None) -> str:
    """Return a window in a few words: ``22:00-06:00 Europe/Berlin``."""
    ends = "-".join(f"{m // 60:02d}:{m % 60:02d}" for m in (window.from_minute, window.until_minute))
    days = f" on {','.join(DAYS[one] for one in window.days)}" if window.days else ""
    return f"{ends} {'UTC' if zone is None else zone.name}{days}"


DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _on(window: PriceWindow, day: int) -> bool:
    return not window.days or (day + _THURSDAY) % _WEEK in window.days


def _boundaries(price: Price, at_ms: int) -> list[int]:
    """Return every time of the next day or so at which a window may begin or end, by any offset in force."""
    zone, until = price.zone, at_ms + 2 * _DAY_MS
    turns = [one for one, _ in zone.offsets if at_ms < one <= until] if zone is not None else []
    out = list(turns)
    for offset in {offset_ms(zone, at_ms), *(offset_ms(zone, one) for one in turns)}:
        today = (at_ms + offset) // _DAY_MS * _DAY_MS - offset
        for window in price.windows:
            for minute in (window.from_minute, window.until_minute):
                out += [today + minute * _MINUTE_MS, today + _DAY_MS + minute * _MINUTE_MS]
    return out
