"""Conformal intervals in log time: as wide as the errors on cells, engines, shapes and devices left out were.

The score of a left-out point is its error over the standard deviation predicted for it (a normalised
conformity score; Papadopoulos et al. 2002, Lei et al. 2018). The width is the quantile of the scores of a
class, drawn towards that of all classes where there are few; for a case whose engine, model or device
nobody measured the quantile is that of points whose own engine, model or device was left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

LEVEL: Final = 0.80
POOL: Final = 30.0
"""Rows that all classes together count as, beside the rows of one class."""
UNSEEN: Final = ("engine", "shape", "device")
ASSUMED: Final = 1.35
"""More width for each of machine and model that is assumed from its name; no data set measures this."""


class Widths(msgspec.Struct, frozen=True, kw_only=True):
    """Quantiles of scores: of all, of each engine, where something was left out, and with anchors."""

    level: float = LEVEL
    all: float
    engines: Mapping[str, float]
    unseen: Mapping[str, float]
    anchored: float

    def of(self, engine: str, new: Sequence[str], assumed: int, *, anchored: bool = False) -> float:
        """Return the factor on the standard deviation; ``new`` lists what nobody measured (``UNSEEN``)."""
        base = self.anchored if anchored else self.engines.get(engine, self.all)
        wide = 1.0 if anchored else max([self.unseen.get(one, 1.0) for one in new], default=1.0)
        return max(base * wide, 1e-3) * ASSUMED**assumed


def quantile(scores: Sequence[float], level: float = LEVEL) -> float:
    """Return the split-conformal quantile: the ceil((n + 1) level)-th smallest score."""
    ranked = sorted(scores)
    if not ranked:
        return 1.2816
    place = min(math.ceil((len(ranked) + 1) * level), len(ranked))
    return ranked[place - 1]


def widths(
    scores: Sequence[float],
    engines: Sequence[str],
    left_out: Mapping[str, Sequence[float]],
    anchored: Sequence[float],
) -> Widths:
    """Return the widths from scores by cell, the engine of each, and the scores with a group left out."""
    whole = quantile(scores)
    by: dict[str, list[float]] = {}
    for score, engine in zip(scores, engines, strict=True):
        by.setdefault(engine, []).append(score)
    return Widths(
        all=round(whole, 4),
        engines={
            name: round((len(own) * quantile(own) + POOL * whole) / (len(own) + POOL), 4)
            for name, own in by.items()
        },
        unseen={name: round(max(quantile(own) / whole, 1.0), 4) for name, own in left_out.items()},
        anchored=round(quantile(anchored) if anchored else whole, 4),
    )
