"""Data classes of a request and their hierarchy (DESIGN section 5).

A set of classes is always expanded before a decision: Cedar's ``in`` does not reach into sets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

IMPLIES: Final[dict[str, str]] = {"phi": "special", "special": "personal"}
UNSCANNED: Final = "unscanned"
BASE_CLASSES: Final[frozenset[str]] = frozenset(
    {"phi", "special", "personal", "confidential", "restricted", "internal", "public", UNSCANNED}
)


def expand(classes: Iterable[str]) -> tuple[str, ...]:
    """Add every class implied by those given; sorted, without duplicates."""
    out: set[str] = set()
    for name in classes:
        step: str | None = name
        while step is not None and step not in out:
            out.add(step)
            step = IMPLIES.get(step)
    return tuple(sorted(out))


def resident(classes: Iterable[str], resident_classes: Iterable[str]) -> bool:
    """Tell whether an expanded set holds a class that must stay in the bloc; ``unscanned`` counts as all."""
    have = set(classes)
    return UNSCANNED in have or not have.isdisjoint(resident_classes)
