"""Facts about operators and deployments: a value with its evidence grade, age and source.

Columns follow the DORA register of information (ITS 2024/2956, B_02.02, B_05.01, B_05.02).
"""

from __future__ import annotations

from datetime import date
from typing import Final, Generic, Literal, TypeVar

import msgspec

T = TypeVar("T")
Grade = Literal["declared", "contract", "attested", "measured"]
GRADES: Final[tuple[Grade, ...]] = ("declared", "contract", "attested", "measured")
NOWHERE: Final = ("none",)
"""The value of ``at_rest`` that says "stored nowhere"; unlike an empty list it is complete."""


class Fact(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One declared value and what stands behind it; a plain value is graded ``declared``.

    Attributes:
        value: as written; places are sorted tuples of ISO 3166-1 alpha-2 codes or bloc names.
        grade: ``declared < contract < attested < measured``.
        as_of: the day the evidence speaks of, or None; before it the fact does not hold.
        expires: the first day (UTC) on which the fact no longer holds, or None: it does not age.
        source: where the evidence is to be found.

    """

    value: T
    grade: Grade = "declared"
    as_of: date | None = None
    expires: date | None = None
    source: str | None = None

    def at_least(self, grade: Grade) -> bool:
        """Tell whether the evidence is of this grade or a better one."""
        return GRADES.index(self.grade) >= GRADES.index(grade)

    def holds_on(self, day: date) -> bool:
        """Tell whether on this UTC day the evidence is there already, and has not expired."""
        return (self.as_of is None or self.as_of <= day) and (self.expires is None or day < self.expires)
