"""Evidence by name as policy reads it: agreements, attestations, holdings, weighted levels.

What is missing, expired, too old, too weak or declared false is in no set, so that a rule which demands a
name denies. The remainder of an operator's holdings that no declared owner accounts for is unknown, and
unknown counts as outside (SecNumCloud 3.2, 19.6 judges holders outside the EU).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from math import ceil
from typing import Any, Final

from allod.domain import jurisdiction
from allod.domain.facts import Fact, Grade
from allod.domain.fleet import Owner

_WHOLE: Final = Decimal(100)
_EU: Final = ("EU",)
SEAL_LENGTH, SEAL_TOP = 8, 4

Json = dict[str, Any]
_GRADES: Final[tuple[Grade, ...]] = ("declared", "contract", "attested")


def names(evidence: Mapping[str, Fact[bool]], usable: Callable[[Fact[Any]], bool]) -> Json:
    """Encode named evidence as sets by grade-or-better; ``usable`` judges age and grade on the day."""
    holding = {name: fact for name, fact in evidence.items() if fact.value is True and usable(fact)}
    return {
        grade: sorted(name for name, fact in holding.items() if fact.at_least(grade)) for grade in _GRADES
    }


def union(first: Json, second: Json) -> Json:
    """Join two encoded sets of evidence."""
    return {grade: sorted({*first[grade], *second[grade]}) for grade in _GRADES}


def holdings(value: Any) -> Json | None:
    """Encode owners as basis points held outside the EU; None for what is no complete statement.

    Percentages beyond 100 in sum are no statement. An unknown jurisdiction is outside. What stands under one
    name is one holder's, however it is split.
    """
    if not isinstance(value, tuple) or not value or not all(isinstance(one, Owner) for one in value):
        return None
    if any(not one.percent.is_finite() or one.percent < 0 for one in value):
        return None
    declared = sum((one.percent for one in value), Decimal(0))
    if declared > _WHOLE:
        return None
    eu = jurisdiction.expand(_EU)
    outside: dict[str, Decimal] = {}
    for one in value:
        if not jurisdiction.expand((one.jurisdiction,)) <= eu:
            holder = " ".join(one.name.casefold().split())
            outside[holder] = outside.get(holder, Decimal(0)) + one.percent
    shares = (*outside.values(), _WHOLE - declared)
    return {
        "largest_outside_eu": _basis_points(max(shares)),
        "total_outside_eu": _basis_points(sum(shares, Decimal(0))),
    }


def levels(value: Any, weights: tuple[int, ...]) -> Json | None:
    """Encode a vector of eight levels with its weighted score in hundredths; None for anything else."""
    if not isinstance(value, tuple | list) or len(value) != SEAL_LENGTH:
        return None
    if not all(type(level) is int and 0 <= level <= SEAL_TOP for level in value):
        return None
    encoded: Json = {f"sov{n}": level for n, level in enumerate(value, 1)}
    encoded["score"] = sum(w * level for w, level in zip(weights, value, strict=True))
    return encoded


def minimum(vector: tuple[int, ...] | None, score: Decimal | None) -> Json | None:
    """Encode the tenant's least levels; a demand that is absent is zero, none at all is None."""
    if vector is None and score is None:
        return None
    encoded: Json = {f"sov{n}": level for n, level in enumerate(vector or (0,) * SEAL_LENGTH, 1)}
    encoded["score"] = ceil((score or Decimal(0)) * 100)
    return encoded


def _basis_points(percent: Decimal) -> int:
    """Round up: a hair above a limit is above it."""
    return ceil(percent * 100)
