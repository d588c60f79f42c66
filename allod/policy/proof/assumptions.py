"""What the encoder and the configuration guarantee of every request and fleet, and a proof takes for granted.

Each sentence is printed in the report of a proof that made use of its subject. Each is a property of
``allod.policy.facts``, ``allod.policy.evidence`` or ``allod.gateway.config``, and is held by a test that
encodes random fleets and asks the solver whether every assumption admits them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from allod.domain import jurisdiction
from allod.domain.classes import BASE_CLASSES, IMPLIES, UNSCANNED
from allod.domain.facts import GRADES
from allod.domain.fleet import EMBEDDED, RISKS
from allod.policy.evidence import SEAL_TOP
from allod.policy.facts import EVIDENCE, UNKNOWN_ORIGIN, origins
from allod.policy.proof.solver import Truth
from allod.policy.proof.strings import PLACES as ALL_PLACES
from allod.policy.proof.strings import Text, Texts

if TYPE_CHECKING:
    from allod.policy.proof.world import World

WHOLE: Final = 10_000
TOP_SCORE: Final = 100 * SEAL_TOP
MOST_DAYS: Final = 36_525
CLASSES: Final = (
    "classes are expanded: phi is special, special is personal, unscanned is every resident class"
)
PLACES: Final = "places in facts, in the bloc and of makers are assigned country codes or blocs of them"
SINGLE: Final = "processing, seat and a maker's jurisdiction are one country, or one bloc"
GRADED: Final = "a grade is one of declared, contract, attested, measured"
NESTED: Final = "evidence of a better grade is evidence of every lesser one"
NOWHERE: Final = "what is stored nowhere has no place of storage"
LOADED: Final = "an engine is embedded exactly if it is llamacpp, and only then has a deployment weights"
STATUTES: Final = "a statute is law of the place before its first dash, or of unknown origin"
RISK: Final = "a risk is one of minimal, limited, high, prohibited"
BOUNDS: Final = "levels are 0 to 4, scores 0 to 400, holdings 0 to 10,000 basis points, days 0 to 36,525"
HOLDINGS: Final = "the largest holding outside is at most all of them, and zero exactly if they are"
_SINGLE_PLACES: Final = (
    "resource.processing.codes", "resource.operator.seat.codes", "resource.weights.maker",
)  # fmt: skip
_NAMES: Final = "resource.operator.compelled_by.names"
_ORIGINS: Final = "resource.operator.compelled_by.origins"
_SEALS: Final = ("resource.seal.", "principal.tenant.min_seal.")
_OWNERS: Final = "resource.operator.owners."
_RETENTION: Final = "resource.retention_days.value"


def words() -> frozenset[str]:
    """Return every word that an assumption names, and one engine for examples."""
    return frozenset(
        {*IMPLIES, *IMPLIES.values(), UNSCANNED, *GRADES, *EMBEDDED, *RISKS, *BASE_CLASSES, "openai"}
    )


def bits_of(path: str) -> int | None:
    """Return how many bits hold the number at a path, by the bounds assumed of it; None for any number."""
    if path.startswith(_SEALS):
        return (TOP_SCORE if path.endswith(".score") else SEAL_TOP).bit_length()
    if path.startswith(_OWNERS):
        return WHOLE.bit_length()
    return MOST_DAYS.bit_length() if path == _RETENTION else None


def assume(world: World, path: str) -> None:
    """Add what is taken for granted about the variable at a path, which was just made."""
    parts = path.split(".")
    last, before = parts[-1], parts[-2] if len(parts) > 1 else ""
    if path in _SINGLE_PLACES:
        _single(world, path)
    elif path in _BY_PATH:
        _BY_PATH[path](world, path)
    elif ":" in path:
        return
    elif last in {"codes", "maker", "banned_makers", "bloc"}:
        _places(world, path)
    elif last == "grade":
        _one_of(world, path, GRADES, GRADED)
    elif before in EVIDENCE and last in GRADES:
        _nested(world, path, last)
    elif path.startswith(_SEALS):
        _between(world, path, TOP_SCORE if last == "score" else SEAL_TOP)
    elif path.startswith(_OWNERS):
        _owners(world)


def holds(world: World, path: str, word: str) -> Truth:
    """Whether the set at a path holds a string."""
    return world.contains(world.texts(path), Text(word))


def _one_of(world: World, path: str, choices: tuple[str, ...] | frozenset[str], label: str) -> None:
    text = world.text(path)
    world.assume(label, world.logic.some([world.equal(text, Text(one)) for one in sorted(choices)]))


def _between(world: World, path: str, top: int) -> None:
    number = world.number(path)
    world.assume(BOUNDS, world.logic.every([number >= 0, number <= top]))


def _places(world: World, path: str) -> None:
    codes = world.texts(path)
    world.assume(PLACES, world.includes(Texts(jurisdiction.COUNTRIES), codes))


def _single(world: World, path: str) -> None:
    """Say that this is one country, one bloc or nothing; a maker is somewhere."""
    _places(world, path)
    codes, z3 = world.texts(path), world.logic.z3
    one = z3.AtMost(*(z3.Extract(at, at, codes.term) == 1 for at in range(codes.term.size())), 1)
    blocs = [codes.term == world.bits(Texts(bloc), "place") for bloc in jurisdiction.BLOCS.values()]
    world.assume(SINGLE, world.logic.some([one, *blocs]))
    if path.endswith(".maker"):
        world.assume(SINGLE, world.logic.no(world.empty(codes)))


def _classes(world: World, path: str) -> None:
    logic, classes = world.logic, world.texts(path)
    for child, parent in IMPLIES.items():
        world.assume(CLASSES, logic.implies(holds(world, path, child), holds(world, path, parent)))
    resident = world.texts("principal.tenant.resident_classes")
    world.assume(CLASSES, logic.implies(holds(world, path, UNSCANNED), world.includes(classes, resident)))


def _nested(world: World, path: str, grade: str) -> None:
    bearer = path.rpartition(".")[0]
    lesser = GRADES.index(grade) - 1
    if lesser >= 0:
        wider = world.texts(f"{bearer}.{GRADES[lesser]}")
        world.assume(NESTED, world.includes(wider, world.texts(path)))


def _nowhere(world: World, _path: str) -> None:
    nowhere, codes = world.flag("resource.at_rest.nowhere"), world.texts("resource.at_rest.codes")
    world.assume(NOWHERE, world.logic.implies(nowhere, world.empty(codes)))


def _rest(world: World, path: str) -> None:
    _places(world, path)
    world.flag("resource.at_rest.nowhere")


def _loaded(world: World, _path: str) -> None:
    logic, engine = world.logic, world.text("resource.engine")
    embedded = world.flag("resource.embedded")
    named = logic.some([world.equal(engine, Text(one)) for one in sorted(EMBEDDED)])
    world.assume(LOADED, logic.same(embedded, named))


def _weights(world: World, path: str) -> None:
    world.assume(LOADED, world.logic.implies(world.flag(path), world.flag("resource.embedded")))


def _owners(world: World) -> None:
    largest, total = world.number(_OWNERS + "largest_outside_eu"), world.number(_OWNERS + "total_outside_eu")
    both = [largest >= 0, total <= WHOLE, largest <= total, world.logic.same(largest == 0, total == 0)]
    world.assume(HOLDINGS, world.logic.every(both))


def _origins(world: World, path: str) -> None:
    allowed = Texts(jurisdiction.COUNTRIES | {UNKNOWN_ORIGIN})
    world.assume(PLACES, world.includes(allowed, world.texts(path)))


def _statutes(world: World, path: str) -> None:
    """Tie the names of statutes to whose law they are; a fresh name may be of any origin."""
    logic, names, found = world.logic, world.texts(path), world.texts(_ORIGINS)
    alphabet = world.alphabets["word"]
    world.assume(STATUTES, logic.same(world.empty(names), world.empty(found)))
    named: dict[str, list[Truth]] = {}
    for name in alphabet.known:
        there = holds(world, path, name)
        for origin in origins((name,)):
            world.assume(STATUTES, logic.implies(there, holds(world, _ORIGINS, origin)))
            named.setdefault(origin, []).append(there)
    fresh = ((1 << alphabet.width) - 1) ^ ((1 << len(alphabet.known)) - 1)
    other = (names.term & fresh) != 0
    for origin in ALL_PLACES:
        there = holds(world, _ORIGINS, origin)
        world.assume(STATUTES, logic.implies(there, logic.some([other, *named.get(origin, [])])))


_BY_PATH: Final[dict[str, Callable[[World, str], None]]] = {
    "context.classes": _classes,
    "principal.tenant.home": lambda world, path: _one_of(
        world, path, jurisdiction.COUNTRIES | set(jurisdiction.BLOCS), PLACES
    ),
    "principal.risk": lambda world, path: _one_of(world, path, RISKS, RISK),
    "resource.at_rest.nowhere": _nowhere,
    "resource.at_rest.codes": _rest,
    "resource.engine": _loaded,
    "resource.embedded": _loaded,
    "has:resource.weights": _weights,
    _RETENTION: lambda world, path: _between(world, path, MOST_DAYS),
    _NAMES: _statutes,
    _ORIGINS: _origins,
}
