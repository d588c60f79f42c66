"""Drawing what inputs may turn out to be: seeded, the same for the same seed whatever else is added.

Each input has a middle and the ends of an 80 % interval. It is drawn from two halves of a normal distribution
that meet in the middle, each with its own width, so that a tenth lies below ``low`` and a tenth above
``high``; what is above zero (prices, speeds, people, shares) is drawn so in its logarithm. Draws outside what
is accepted of a key are set to its ends. Inputs are drawn independently of one another.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Any, Final

from allod.domain.errors import Invalid
from allod.planner.money.inputs import known

if TYPE_CHECKING:
    from allod.planner.money.inputs import Input, Inputs

DRAWS: Final = 20_000
FEWEST: Final = 200
MOST: Final = 100_000
SEED: Final = 20261126
_Z90: Final = 1.2815515655446004
"""The normal distribution's 90th percentile."""


def drawn(inputs: Inputs, draws: int = DRAWS, seed: int = SEED) -> dict[str, Any]:
    """Return every input by key: a number where it is certain, else an array of ``draws`` values.

    Raises:
        Invalid: too few or too many draws, or a negative seed.

    """
    import numpy as np  # noqa: PLC0415 (only where something is drawn)

    if not FEWEST <= draws <= MOST or seed < 0:
        raise Invalid(
            "this cannot be drawn",
            f"got {draws} draws, seed {seed}; accepted: {FEWEST} to {MOST} draws, a seed of 0 or more",
            "correct it",
        )
    out: dict[str, Any] = {key: float(one.value) for key, one in inputs.by_key.items()}
    for one in inputs.uncertain():
        stream = np.random.default_rng([seed, zlib.crc32(one.key.encode())])
        out[one.key] = _spread(one, stream.standard_normal(draws))
    return out


def _spread(one: Input, z: Any) -> Any:
    import numpy as np  # noqa: PLC0415

    low, value, high = float(one.low), float(one.value), float(one.high)
    meant = known()[one.key]
    if scales(one):
        below, above = math.log(value / low), math.log(high / value)
        out = value * np.exp(np.where(z < 0, below, above) / _Z90 * z)
    else:
        out = value + np.where(z < 0, value - low, high - value) / _Z90 * z
    return np.clip(out, float(meant.least), float(meant.most))


def scales(one: Input) -> bool:
    """Tell whether an input is drawn in its logarithm: its interval is above zero."""
    return one.low > 0


def ends(values: Any, low: float = 0.1, high: float = 0.9) -> tuple[float, float]:
    """Return two percentiles of drawn values, infinite ones among them."""
    import numpy as np  # noqa: PLC0415

    found = np.quantile(np.asarray(values, dtype=float), [low, high], method="inverted_cdf")
    return float(found[0]), float(found[1])
