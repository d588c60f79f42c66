"""The shape of every number the planner gives: a value with its interval, its source and its day (I10)."""

from __future__ import annotations

import datetime as dt
import math
from typing import Final

import msgspec

from allod.domain.errors import Invalid

LEVEL: Final = 0.80
"""Share of unseen cases an interval is meant to hold, where nothing else is said."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A figure nobody measured for this very case.

    ``value``, ``low`` and ``high`` share a unit that the field holding the estimate names; ``level`` is
    the share of unseen cases the interval is meant to hold. ``source`` says what the figure rests on
    (a formula, a table, measured points) and ``as_of`` the day of the newest fact in it.

    Raises:
        Invalid: a number is not finite, the value lies outside the interval or the level outside (0, 1].

    """

    value: float
    low: float
    high: float
    level: float = LEVEL
    source: str
    as_of: dt.date
    note: str = ""

    def __post_init__(self) -> None:
        finite = all(math.isfinite(one) for one in (self.value, self.low, self.high))
        if not (finite and self.low <= self.value <= self.high and 0 < self.level <= 1):
            raise Invalid(
                "an estimate is not a number with its interval",
                f"value {self.value}, low {self.low}, high {self.high}, level {self.level}",
                "report it: every estimate of the planner has low <= value <= high, all of them finite",
            )
