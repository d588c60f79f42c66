"""The solver, imported when it is needed, and the logic of it with constants folded.

Truths are Python booleans or z3 terms; a truth that is known is folded here and never reaches the solver.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from allod.domain.errors import Unavailable

Truth = Any
INSTALL: Final = "pip install 'allod[prove]'"
LIMIT_MS: Final = 120_000
"""Longest single question to the solver; past it the answer is "undecided", never "proved"."""


def load() -> Any:
    """Import the solver.

    Raises:
        Unavailable: it is not installed.

    """
    try:
        import z3  # noqa: PLC0415 (59 MB, an extra)
    except ImportError as error:
        raise Unavailable(
            "proofs need the solver z3", "the package z3-solver is not installed", INSTALL, kind="down"
        ) from error
    return z3


class Logic:
    """Connectives over truths."""

    def __init__(self) -> None:
        self.z3: Final = load()

    def every(self, parts: Iterable[Truth]) -> Truth:
        """All of them."""
        left = []
        for part in parts:
            if part is False:
                return False
            if part is not True:
                left.append(part)
        if not left:
            return True
        return left[0] if len(left) == 1 else self.z3.And(*left)

    def some(self, parts: Iterable[Truth]) -> Truth:
        """At least one of them."""
        left = []
        for part in parts:
            if part is True:
                return True
            if part is not False:
                left.append(part)
        if not left:
            return False
        return left[0] if len(left) == 1 else self.z3.Or(*left)

    def no(self, part: Truth) -> Truth:
        """Not."""
        return (not part) if isinstance(part, bool) else self.z3.Not(part)

    def implies(self, first: Truth, then: Truth) -> Truth:
        """If the first, then the second."""
        return self.some((self.no(first), then))

    def same(self, one: Truth, other: Truth) -> Truth:
        """Both or neither."""
        if isinstance(one, bool):
            return other if one else self.no(other)
        if isinstance(other, bool):
            return one if other else self.no(one)
        return one == other

    def either(self, condition: Truth, then: Truth, otherwise: Truth) -> Truth:
        """If the condition, then the one, else the other; of truths."""
        if isinstance(condition, bool):
            return then if condition else otherwise
        return self.every((self.implies(condition, then), self.implies(self.no(condition), otherwise)))
