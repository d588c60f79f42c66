"""Numbers of drills in words: with their intervals, short, and never a bare None."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from allod.planner.estimate import Estimate

NOT_KNOWN: Final = "not known"
_HOURS_OF_DAY: Final = 24.0
_THOUSAND: Final = 1000.0
_SMALL: Final = 10.0


def printable(text: str) -> str:
    """Return a text on one line that paints no screen: what cannot be printed is a blank."""
    return "".join(one if one.isprintable() else " " for one in text)


def many(number: int, one: str, more: str = "") -> str:
    """Write a number of things in the right number."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def share(value: float) -> str:
    """Write a share as percent; what is not nothing and not all never reads so."""
    percent = 100 * value
    if 0 < percent < 0.05:  # noqa: PLR2004 (would read as nothing)
        return "<0.1 %"
    if 99.95 <= percent < 100:  # noqa: PLR2004 (would read as all)
        return ">99.9 %"
    if percent == round(percent) or 9.95 <= percent < 99.5:  # noqa: PLR2004 (rounds to a whole number)
        return f"{percent:.0f} %"
    return f"{percent:.1f} %"


def usd(value: float) -> str:
    """Write an amount of USD, short."""
    size, sign = abs(value), "-" if value < 0 else ""
    for unit, name in ((1e9, "bn"), (1e6, "M"), (1e3, "k")):
        if size >= unit * _SMALL or (unit == _THOUSAND and size >= 10 * _THOUSAND):
            return (
                f"{sign}{size / unit:,.3g} {name} USD"
                if unit > _THOUSAND
                else f"{sign}{size / unit:,.0f} k USD"
            )
    if size >= _SMALL:
        return f"{sign}{size:,.0f} USD"
    return f"{sign}{size:.2f} USD" if size else "0 USD"


def usd_between(one: Estimate | None) -> str:
    """Write an amount with its interval."""
    if one is None:
        return NOT_KNOWN
    if one.low == one.high:
        return usd(one.value)
    low, high = (usd(end).removesuffix(" USD") for end in (one.low, one.high))
    return f"{usd(one.value)} ({low} to {high})"


def points(one: Estimate | None) -> str:
    """Write a loss of quality in percentage points, with its interval; a gain says that it is one."""
    if one is None:
        return NOT_KNOWN
    if one.low == one.high == 0:
        return "none"
    if one.value < 0:
        return f"gains {_tenth(-one.value)} points ({_tenth(-one.high)} to {_tenth(-one.low)})"
    return f"{_tenth(one.value)} points ({_tenth(one.low)} to {_tenth(one.high)})"


def _tenth(value: float) -> str:
    told = f"{100 * value:.1f}"
    return "0.0" if told == "-0.0" else told


def hours(one: Estimate | None) -> str:
    """Write a time with its interval, in hours or days."""
    if one is None:
        return NOT_KNOWN
    return between(one.low, one.high)


def between(low: float, high: float) -> str:
    """Write two ends of a time (hours) as hours or days."""
    if high <= 3 * _HOURS_OF_DAY:
        return f"{low:.0f} to {high:.0f} h" if low < high else f"{high:.0f} h"
    last = f"{high / _HOURS_OF_DAY:.0f} days"
    if low < 2 * _HOURS_OF_DAY:
        return f"{low:.0f} h to {last}"
    return f"{low / _HOURS_OF_DAY:.0f} to {last}" if low < high else last


def amount(one: Estimate | None, unit: str) -> str:
    """Write any estimate with its interval and unit."""
    if one is None:
        return NOT_KNOWN
    value = f"{short(one.value)} {unit}".strip()
    return value if one.low == one.high else f"{value} ({short(one.low)} to {short(one.high)})"


def short(value: float) -> str:
    """Write a number of no unit: whole from 10 on, and of small ones what counts."""
    if 0 < abs(value) < 0.01:  # noqa: PLR2004 (would read as nothing)
        return "<0.01" if value > 0 else ">-0.01"
    if value == round(value) or abs(value) >= _SMALL:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 1 else f"{value:.2g}"


def count(number: int) -> str:
    """Write a number of requests."""
    return f"{number:,}"
