"""One conversation with the solver about one or two laws: rules and claims translated once, asked many times.

Every rule becomes a switch, a boolean that is true exactly when the rule lets the request pass. A question is
a set of switches that must be true together; deleting a rule leaves its switch out, negating it puts another
in its place. So a hundred mutations cost one translation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from allod.policy.compiler import Expression
from allod.policy.pack import Rule
from allod.policy.proof.assumptions import words as assumed_words
from allod.policy.proof.law import Law
from allod.policy.proof.shape import SET, Type, read_shape
from allod.policy.proof.solver import LIMIT_MS, Logic, Truth
from allod.policy.proof.strings import PLACES, Alphabet, MissingWord, Sort
from allod.policy.proof.translate import Outcome, Translator
from allod.policy.proof.view import View
from allod.policy.proof.world import World

Verdict = Literal["possible", "impossible", "undecided"]
_COMPARISONS: Final = frozenset({"contains", "containsAll", "containsAny", "isEmpty", "==", "!="})
_WORLDS: Final = 2
_MARGIN: Final = 16
"""Fresh words for the comparisons in assumptions and the ids of the entities, each counted generously."""


class Switch(NamedTuple):
    """A rule's two literals: it lets the request pass; turned round, it would."""

    passes: Any
    turned: Any


class Answer(NamedTuple):
    """What the solver says of a set of literals; ``core`` are those an impossibility already follows from."""

    verdict: Verdict
    core: frozenset[str]
    model: Any


class Session:
    """Laws and claims over one symbolic world, and further worlds beside it.

    ``claims`` are expressions in Cedar's JSON form by name.

    Raises:
        Unavailable: the solver is not installed. Invalid: something is not modelled.

    """

    def __init__(self, laws: Sequence[Law], claims: Mapping[str, Expression] | None = None) -> None:
        self.logic: Final = Logic()
        self.laws: Final = tuple(laws)
        self.claims: Final = dict(claims or {})
        self._shapes: Final = tuple(read_shape(law.schema) for law in self.laws)
        self._aged: Final = len({law.max_age_days for law in self.laws}) > 1
        nodes = [rule.policy for law in self.laws for rule in law.rules] + list(self.claims.values())
        places: set[str] = set()
        words = {*assumed_words(), *(word for node in nodes for word in _words(node))}
        fresh = _WORLDS * (len(_atoms(nodes)) + max(shape.strings() for shape in self._shapes)) + _MARGIN
        while True:
            try:
                self._build(words, places, fresh)
                break
            except MissingWord as missing:
                (words if missing.sort == "word" else places).add(missing.word)

    def _build(self, words: set[str], places: set[str], fresh: int) -> None:
        known = sorted(words - set(PLACES)) + sorted(words & set(PLACES))
        self.alphabets: Mapping[Sort, Alphabet] = {
            "place": Alphabet("place", (*PLACES, *sorted(places)), 0),
            "word": Alphabet("word", known, fresh),
        }
        self._solver = self.logic.z3.SolverFor("QF_FD")
        self._solver.set("timeout", LIMIT_MS)
        self._named: dict[str, str] = {}
        self._meanings: dict[str, Truth] = {}
        self._count = 0
        self._literals: dict[int, tuple[Any, Any]] = {}
        self._told: dict[World, int] = {}
        self._beside = 0
        self.assumptions: dict[str, None] = {}
        self.world = World(self.logic, self.alphabets)
        self._switches: dict[tuple[int, World], dict[str, Switch]] = {}
        for at in range(len(self.laws)):
            self.switches(at)
        self._claimed = {name: self.claim(node, name) for name, node in self.claims.items()}

    def beside(self, own: Callable[[str], bool]) -> World:
        """Make a second world that shares all variables but those whose path is ``own``."""
        self._beside += 1
        return World(self.logic, self.alphabets, self.world, own, f"then {self._beside}: ")

    def view(self, law: int = 0, world: World | None = None) -> View:
        """Return a world as a law reads it."""
        strictest = min((one.max_age_days for one in self.laws if one.max_age_days is not None), default=None)
        aged = self._aged and self.laws[law].max_age_days == strictest
        return View(world or self.world, self.laws[law], self._shapes[law], aged=aged)

    def switches(self, law: int = 0, world: World | None = None) -> dict[str, Switch]:
        """Return the switch of every rule of a law; a pack that does not hold is one that is always off."""
        world = world or self.world
        known = self._switches.get((law, world))
        if known is not None:
            return known
        view = self.view(law, world)
        found = {rule.id: self._switch(rule, view) for rule in self.laws[law].rules}
        for pack in self.laws[law].closed:
            off = self.literal(False)
            found[f"pack.validity {pack}"] = Switch(off, off)
        self._switches[law, world] = found
        self._take(world)
        return found

    def permitted(self, law: int = 0, world: World | None = None) -> Truth:
        """Return whether a law permits, as one truth."""
        return self.logic.every([switch.passes for switch in self.switches(law, world).values()])

    def _switch(self, rule: Rule, view: View) -> Switch:
        term = Translator(view, rule.id).rule(rule.policy)
        silent = self.logic.every([self.logic.no(term.satisfied), self.logic.no(term.errors)])
        passes, turned = (term.satisfied, silent) if rule.effect == "permit" else (silent, term.satisfied)
        return Switch(self.literal(passes, rule.id), self.literal(turned))

    def claim(self, node: Expression, name: str, law: int = 0, world: World | None = None) -> Outcome:
        """Translate an expression under a law."""
        outcome = Translator(self.view(law, world), name).truth(node)
        self._take(world or self.world)
        return outcome

    def claimed(self, name: str) -> Outcome:
        """Return a claim of this session, translated under its first law."""
        return self._claimed[name]

    @property
    def names_type(self) -> Type:
        """The type of a set of strings."""
        return Type(SET)

    def literal(self, truth: Truth, name: str = "") -> Any:
        """Return a boolean of the solver that stands for a truth; ``name`` is how a core calls it."""
        known = None if isinstance(truth, bool) else self._literals.get(truth.get_id())
        if known is not None and (not name or self._named.get(str(known[0])) == name):
            return known[0]
        self._count += 1
        named = self.logic.z3.Bool(f"?{self._count}")
        self._meanings[f"?{self._count}"] = truth
        if isinstance(truth, bool):
            self._solver.add(named if truth else self.logic.z3.Not(named))
        else:
            self._solver.add(named == truth)
            self._literals[truth.get_id()] = (named, truth)
        if name:
            self._named[f"?{self._count}"] = name
        return named

    def meaning(self, literal: Any) -> Truth:
        """Return the truth that a literal stands for."""
        return self._meanings[str(literal)]

    def ask(self, literals: Iterable[Any]) -> Answer:
        """Ask whether some request and deployment make all of these true together."""
        self._take(self.world)
        z3 = self.logic.z3
        try:
            found = self._solver.check(*literals)
        except z3.Z3Exception:  # out of memory, interrupted: no answer is no proof
            return Answer("undecided", frozenset(), None)
        if found == z3.sat:
            return Answer("possible", frozenset(), self._solver.model())
        if found == z3.unsat:
            core = {str(one) for one in self._solver.unsat_core()}
            return Answer(
                "impossible", frozenset(self._named[one] for one in core if one in self._named), None
            )
        return Answer("undecided", frozenset(), None)

    def _take(self, world: World) -> None:
        """Hand the solver the assumptions that have come up since."""
        told = self._told.get(world, 0)
        for label, truth in world.assumed[told:]:
            if label:
                self.assumptions[label] = None
            self._solver.add(truth)
        self._told[world] = len(world.assumed)
        if world.parent is not None:
            self._take(world.parent)


def _nodes(node: Any) -> Iterator[Any]:
    """Yield an expression and everything below it; long chains nest deep, so by a list of its own."""
    todo = [node]
    while todo:
        at = todo.pop()
        yield at
        if isinstance(at, dict):
            todo += at.values()
        elif isinstance(at, list):
            todo += at


def _words(node: Any) -> Iterable[str]:
    """Yield every string literal and entity id below."""
    for at in _nodes(node):
        match at:
            case {"Value": str() as word}:
                yield word
            case {"type": str(), "id": str() as name}:
                yield name


def _atoms(node: Any) -> set[str]:
    """Collect the distinct comparisons below, as text: each could need a word of its own to be false."""
    return {
        f"{name} {part}"
        for at in _nodes(node)
        if isinstance(at, dict)
        for name, part in at.items()
        if name in _COMPARISONS
    }


def loose(node: Any) -> bool:
    """Tell whether rules or claims use what is modelled with room to spare: ``like``, names of statutes.

    Of those a proof stands; a counterexample may be one that cannot be configured.
    """
    return any(
        "like" in at or (at.get("attr") == "names" and "compelled_by" in str(at.get("left")))
        for at in _nodes(node)
        if isinstance(at, dict)
    )
