"""The few operations that the sums need, alike on exact ``Decimal`` and on numpy arrays of drawn values.

Every formula of this package is written once. With ``Decimal`` it gives the middle, to 40 digits; with arrays
of floats the same formula gives thousands of possible outcomes.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from typing import Any, Final, TypeAlias, TypeVar

Number: TypeAlias = Any
"""``Decimal``, or a numpy array (or float) of drawn values."""
T = TypeVar("T")
DIGITS: Final = 40
ZERO: Final = Decimal(0)
ONE: Final = Decimal(1)
HOURS_A_MONTH: Final = Decimal(730)
"""8,760 hours a year over twelve months."""
SECONDS_A_MONTH: Final = HOURS_A_MONTH * 3600
MILLION: Final = Decimal(1_000_000)


def exactly(compute: Callable[[], T]) -> T:
    """Run sums with enough digits that rounding is far below any cent."""
    with localcontext(Context(prec=DIGITS)):
        return compute()


def exact(number: Number) -> bool:
    """Tell whether this is a ``Decimal``."""
    return isinstance(number, Decimal)


def constant(value: Decimal | int, like: Number) -> Number:
    """Return a constant in the numbers of the others."""
    return Decimal(value) if exact(like) else float(value)


def largest(a: Number, b: Number) -> Number:
    """Return the larger of two, place by place."""
    if exact(a):
        return max(a, b)
    import numpy as np  # noqa: PLC0415 (only for drawn values)

    return np.maximum(a, b)


def smallest(a: Number, b: Number) -> Number:
    """Return the smaller of two, place by place."""
    if exact(a):
        return min(a, b)
    import numpy as np  # noqa: PLC0415

    return np.minimum(a, b)


def where(condition: Any, a: Number, b: Number) -> Number:
    """Return one or the other, place by place."""
    if isinstance(condition, bool):
        return a if condition else b
    import numpy as np  # noqa: PLC0415

    return np.where(condition, a, b)


def grown(rate_year: Number, months: Number) -> Number:
    """Return what one becomes after some months at a change a year."""
    one, year = constant(1, rate_year), constant(12, rate_year)
    return (one + rate_year) ** (months / year)


def mean_growth(rate_year: Number, months: int) -> Number:
    """Return the mean of one that changes by a rate a year, over the middles of so many months."""
    halves = (constant(2 * m + 1, rate_year) / constant(2, rate_year) for m in range(months))
    total = sum((grown(rate_year, half) for half in halves), constant(0, rate_year))
    return total / constant(months, rate_year)


def annuity(price: Number, rate_year: Number, months: int, residual: Number) -> Number:
    """Return the monthly payment, at the end of each month, that leaves ``residual`` unpaid at the end.

    The rate is a year's, compounded monthly; without interest the price is divided.
    """
    one, span = constant(1, price), constant(months, price)
    rate = rate_year / constant(12, price)
    if exact(price):
        if rate == 0:
            return (price - residual) / span
    else:
        import numpy as np  # noqa: PLC0415

        rate = np.maximum(rate, 1e-12)
    left = (one + rate) ** (-months)
    return (price - residual * left) * rate / (one - left)
