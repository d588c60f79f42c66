"""Strings and sets of them as the solver sees them: two sorts, each with its alphabet.

*Places* are the assigned country codes, the blocs and ``unknown``: a finite alphabet, so nothing is lost.
*Words* are all other strings: the alphabet holds every word that a rule, a theorem or an assumption names,
and as many fresh ones as the questions could ever tell apart. That is enough. Rules compare words only by
equality, membership, inclusion and emptiness; so a counterexample stays one when each set is cut down to the
named words, one witness per comparison that fails, and the value of each string; and words that nobody names
may be renamed. ``like`` is the exception (``translate``).

A set is a bit vector over its alphabet, a string the number of its place there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal, NamedTuple

from allod.domain import jurisdiction
from allod.policy.facts import UNKNOWN_ORIGIN

Sort = Literal["place", "word"]
PLACES: Final = (*sorted(jurisdiction.COUNTRIES), *sorted(jurisdiction.BLOCS), UNKNOWN_ORIGIN)
FRESH: Final = "other-"
"""How fresh words are called; no rule names one so."""
_PLACE_NAMES: Final = frozenset({"bloc", "codes", "origins", "maker", "banned_makers", "home"})


class MissingWord(Exception):
    """A string met a symbolic set although the alphabet of its sort lacks it: start again with it added."""

    def __init__(self, word: str, sort: Sort) -> None:
        super().__init__(word)
        self.word: Final = word
        self.sort: Final = sort


class MixedSorts(Exception):
    """A place met a word; the prover does not model that."""


class Alphabet:
    """The strings of one sort by number: known ones, then fresh ones, which stand for any other string."""

    def __init__(self, sort: Sort, known: Iterable[str], fresh: int) -> None:
        self.sort: Final = sort
        self.known: Final = tuple(known)
        self.at: Final = {name: n for n, name in enumerate(self.known)}
        self.width: Final = len(self.known) + fresh
        self.bits: Final = max(1, self.width.bit_length())

    def place(self, name: str) -> int | None:
        """Return a string's number; None for a string that is no place, and so equal to none.

        Raises:
            MissingWord: the alphabet of words lacks it.

        """
        found = self.at.get(name)
        if found is None and self.sort == "word":
            raise MissingWord(name, self.sort)
        return found

    def mask(self, names: Iterable[str]) -> int:
        """Return the set of these strings as a number.

        Raises:
            MissingWord: the alphabet lacks one.

        """
        found = 0
        for name in names:
            if name not in self.at:
                raise MissingWord(name, self.sort)
            found |= 1 << self.at[name]
        return found

    def name(self, at: int) -> str:
        """Return the string with a number; a fresh one gets a name of its own."""
        return self.known[at] if at < len(self.known) else f"{FRESH}{at - len(self.known) + 1}"

    def names(self, mask: int) -> tuple[str, ...]:
        """Return the strings of a set given as a number, sorted."""
        return tuple(sorted(self.name(at) for at in range(self.width) if mask >> at & 1))


class Text(NamedTuple):
    """One string: a literal, or a term with its sort."""

    literal: str | None
    sort: Sort | None = None
    term: Any = None


class Texts(NamedTuple):
    """A set of strings: known members, or a term with its sort."""

    members: frozenset[str] | None
    sort: Sort | None = None
    term: Any = None


def common_sort(one: Text | Texts, other: Text | Texts) -> Sort:
    """Return the sort two values share, of which one at least is symbolic.

    Raises:
        MixedSorts: one is a place and the other a word.

    """
    sorts = {value.sort for value in (one, other) if value.sort is not None}
    if len(sorts) != 1:
        raise MixedSorts
    return sorts.pop()


def sort_of(path: str) -> Sort:
    """Return the sort of the strings at a path."""
    return "place" if path.rpartition(".")[2] in _PLACE_NAMES else "word"
