"""Numbers of drills in words: with their intervals, short, and never a bare None."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from allod.planner.estimate import Estimate

NOT_KNOWN: Final = "not known"
_HOURS_OF_DAY: Final = 24.0
_THOUSAND: Final = 1000.0
_SMALL: Final = 10.0


def share(value: float) -> str:
    """Write a share as percent."""
    percent = 100 * value
    if 0 < percent < 0.05:  # noqa: PLR2004 (would read as nothing)
        return "<0.1 %"
    return f"{percent:.0f} %" if percent >= _SMALL or percent == round(percent) else f"{percent:.1f} %"


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
    return f"{usd(one.value)} ({usd(one.low)} to {usd(one.high)})"


def points(one: Estimate | None) -> str:
    """Write a loss of quality in percentage points, with its interval."""
    if one is None:
        return NOT_KNOWN
    if one.low == one.high == 0:
        return "none"
    return f"{100 * one.value:+.1f} points ({100 * one.low:+.1f} to {100 * one.high:+.1f})"


def hours(one: Estimate | None) -> str:
    """Write a time with its interval, in hours or days."""
    if one is None:
        return NOT_KNOWN
    if one.high <= 3 * _HOURS_OF_DAY:
        return f"{one.low:.0f} to {one.high:.0f} h"
    return f"{_time(one.low)} to {_time(one.high)}"


def _time(value: float) -> str:
    if value < 2 * _HOURS_OF_DAY:
        return f"{value:.0f} h"
    return f"{value / _HOURS_OF_DAY:.0f} days"


def amount(one: Estimate | None, unit: str) -> str:
    """Write any estimate with its interval and unit."""
    if one is None:
        return NOT_KNOWN
    value = f"{one.value:.3g} {unit}".strip()
    return value if one.low == one.high else f"{value} ({one.low:.3g} to {one.high:.3g})"


def count(number: int) -> str:
    """Write a number of requests."""
    return f"{number:,}"
