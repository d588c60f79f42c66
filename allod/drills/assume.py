"""What is assumed where an organisation has not said; always with an interval."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from importlib import resources
from typing import Any, Final

import msgspec

from allod.domain.errors import Invalid
from allod.drills.reading import parse, read
from allod.planner.estimate import Estimate

MOST: Final = Decimal(10) ** 12
DAYS_OF_MONTH: Final = 365.25 / 12
_T80: Final = (
    (1, 3.078), (2, 1.886), (3, 1.638), (4, 1.533), (5, 1.476), (6, 1.440), (8, 1.397), (10, 1.372),
    (15, 1.341), (20, 1.325), (30, 1.310), (60, 1.296),
)  # fmt: skip


class Range(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a quantity lies between, from whom and from when; the value is the middle."""

    low: Decimal
    high: Decimal
    as_of: dt.date
    source: str

    @property
    def middle(self) -> float:
        """The value taken where one is needed."""
        return float(self.low + self.high) / 2

    def estimate(self) -> Estimate:
        """Return it as an estimate."""
        return Estimate(
            value=self.middle,
            low=float(self.low),
            high=float(self.high),
            source=self.source,
            as_of=self.as_of,
            note="assumption",
        )


class Assume(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Assumptions.

    Attributes:
        declared_quality: by how much a declared success rate may be off (-1 to 1).
        length_factor: what expected costs are to be multiplied by, without a ledger.
        peak: busiest hour over mean hour, where hours are not counted.
        uncovered_usd, critical_usd: what a request costs that nothing serves; of a critical app.
        wrong_usd: what a wrong answer costs.

    """

    declared_quality: Range
    length_factor: Range
    peak: Range
    uncovered_usd: Range
    critical_usd: Range
    wrong_usd: Range


def defaults() -> dict[str, Any]:
    """Return the shipped assumptions as data."""
    raw = resources.files("allod.drills").joinpath("data/assume.toml").read_bytes()
    table: dict[str, Any] = parse(raw, "assume.toml")["assume"]
    return table


def assumptions(own: dict[str, Any] | None = None) -> Assume:
    """Return the shipped assumptions with an organisation's own in their place.

    Raises:
        Invalid: an unknown name, a range the wrong way round, a negative amount.

    """
    made = read({**defaults(), **(own or {})}, Assume, "assume")
    for name in Assume.__struct_fields__:
        one: Range = getattr(made, name)
        least = Decimal(-1) if name == "declared_quality" else Decimal(0)
        if not (one.low.is_finite() and one.high.is_finite() and least <= one.low <= one.high <= MOST):
            raise Invalid(
                f"assume.{name} is no range",
                f"got {one.low} to {one.high}, expected {least} <= low <= high",
                "correct it",
            )
        if not one.source.strip():
            raise Invalid(f"assume.{name} says not where it is from", "", "add a source")
    return made


def t80(days: int) -> float:
    """Return the quantile of Student's t for a two-sided 80 % interval with so many days of data."""
    free = days - 1
    return next((value for least, value in reversed(_T80) if free >= least), _T80[0][1]) if free else 0.0
