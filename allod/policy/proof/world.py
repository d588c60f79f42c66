"""Symbolic requests and deployments: one solver variable per thing that configuration or caller may say.

Variables are made when a rule or a theorem first reads them; with each comes what is taken for granted about
it (``assumptions``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from allod.policy.proof.assumptions import assume, bits_of
from allod.policy.proof.solver import Logic, Truth
from allod.policy.proof.strings import Alphabet, Sort, Text, Texts, common_sort, sort_of

LONG_BITS: Final = 64


class World:
    """One request before one deployment. A child shares every variable of its parent but those in ``own``.

    Paths are those of Cedar (``resource.operator.seat.codes``). ``has:PATH`` is whether a fact is declared,
    ``stale:PATH`` whether it is too old for the strictest pack.
    """

    def __init__(
        self,
        logic: Logic,
        alphabets: Mapping[Sort, Alphabet],
        parent: World | None = None,
        own: Callable[[str], bool] | None = None,
        name: str = "",
    ) -> None:
        self.logic: Final = logic
        self.alphabets: Final = alphabets
        self.parent: Final = parent
        self._own: Final = own
        self._name: Final = name
        self.made: Final[dict[str, Any]] = {}
        self.assumed: Final[list[tuple[str, Truth]]] = []

    def assume(self, label: str, truth: Truth) -> None:
        """Take something for granted in this world; ``label`` is the sentence that a report prints."""
        self.assumed.append((label, truth))

    def flag(self, path: str) -> Truth:
        """Return the boolean at a path."""
        return self._variable(path, self.logic.z3.Bool)

    def number(self, path: str) -> Any:
        """Return the number at a path, 64 bits with a sign; of a bounded one the high bits are known."""
        bits, z3 = bits_of(path), self.logic.z3

        def make(name: str) -> Any:
            if bits is None:
                return z3.BitVec(name, LONG_BITS)
            return z3.ZeroExt(LONG_BITS - bits, z3.BitVec(name, bits))

        return self._variable(path, make)

    def text(self, path: str) -> Text:
        """Return the string at a path."""
        sort = sort_of(path)
        bits = self.alphabets[sort].bits
        found: Text = self._variable(path, lambda name: Text(None, sort, self.logic.z3.BitVec(name, bits)))
        return found

    def texts(self, path: str) -> Texts:
        """Return the set at a path."""
        sort = sort_of(path)
        width = self.alphabets[sort].width
        found: Texts = self._variable(path, lambda name: Texts(None, sort, self.logic.z3.BitVec(name, width)))
        return found

    def _variable(self, path: str, make: Callable[[str], Any]) -> Any:
        if self.parent is not None and not (self._own is not None and self._own(path)):
            return self.parent._variable(path, make)  # noqa: SLF001 (the same class)
        if path not in self.made:
            made = self.made[path] = make(self._name + path)
            if isinstance(made, Text) and made.sort is not None:
                known = self.logic.z3.ULT(made.term, self.alphabets[made.sort].width)
                self.assume("", known)
            assume(self, path)
            return made
        return self.made[path]

    # Comparisons; what is known on both sides is computed here and never reaches the solver.

    def equal(self, one: Text, other: Text) -> Truth:
        """Whether two strings are the same."""
        if one.literal is not None and other.literal is not None:
            return one.literal == other.literal
        sort = common_sort(one, other)
        first, second = self._term(one, sort), self._term(other, sort)
        return False if first is None or second is None else first == second

    def contains(self, whole: Texts, item: Text) -> Truth:
        """Whether a set holds a string."""
        if whole.members is not None:
            return self.logic.some([self.equal(item, Text(name)) for name in sorted(whole.members)])
        alphabet = self.alphabets[common_sort(whole, item)]
        if item.literal is not None:
            at = alphabet.place(item.literal)
            return False if at is None else self.logic.z3.Extract(at, at, whole.term) == 1
        return (self.single(item) & whole.term) != 0

    def single(self, item: Text) -> Any:
        """Return the set of one symbolic string as a bit vector."""
        assert item.sort is not None
        alphabet, z3 = self.alphabets[item.sort], self.logic.z3
        return z3.BitVecVal(1, alphabet.width) << z3.ZeroExt(alphabet.width - alphabet.bits, item.term)

    def includes(self, whole: Texts, part: Texts) -> Truth:
        """Whether a set holds all of another."""
        if part.members is not None:
            return self.logic.every([self.contains(whole, Text(name)) for name in sorted(part.members)])
        return (part.term & ~self.bits(whole, common_sort(whole, part))) == 0

    def meets(self, one: Texts, other: Texts) -> Truth:
        """Whether two sets share a string."""
        for known, against in ((one, other), (other, one)):
            if known.members is not None:
                parts = [self.contains(against, Text(name)) for name in sorted(known.members)]
                return self.logic.some(parts)
        common_sort(one, other)
        return (one.term & other.term) != 0

    def empty(self, value: Texts) -> Truth:
        """Whether a set holds nothing."""
        return value.term == 0 if value.members is None else not value.members

    def same(self, one: Texts, other: Texts) -> Truth:
        """Whether two sets hold the same."""
        return self.logic.every([self.includes(one, other), self.includes(other, one)])

    def bits(self, value: Texts, sort: Sort) -> Any:
        """Return a set as a bit vector of a sort."""
        if value.members is None:
            return value.term
        alphabet = self.alphabets[sort]
        return self.logic.z3.BitVecVal(alphabet.mask(value.members), alphabet.width)

    def _term(self, value: Text, sort: Sort) -> Any:
        if value.literal is None:
            return value.term
        alphabet = self.alphabets[sort]
        at = alphabet.place(value.literal)
        return None if at is None else self.logic.z3.BitVecVal(at, alphabet.bits)
