"""Counterexamples a person can read: as ordinary as possible in everything that does not matter.

A solver's first answer is full of accidents. Here every variable is offered its ordinary values, one after
the other; what the question allows is kept. What stays out of the ordinary makes the counterexample one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from allod.domain import jurisdiction
from allod.domain.classes import expand
from allod.policy.proof.session import Answer, Session
from allod.policy.proof.solver import Truth
from allod.policy.proof.strings import Text, Texts
from allod.policy.proof.view import FACTS
from allod.policy.proof.world import World

_RESIDENT: Final = ("confidential", "personal", "phi", "special")
_CLASSES: Final = ("personal", "special", "phi", "confidential", "restricted", "internal", "public")
_COUNTRIES: Final = ("DE", "US", "AE", "SG", "BR", "IN")
_TRUE: Final = frozenset(
    {
        "resource.approved", "context.link_up", "resource.records_auditable.value",
        "resource.inspectable.value", "resource.weights.verified", "resource.operator.registered",
    }
)  # fmt: skip
_GRADES: Final = ("attested", "contract", "declared", "measured")
_LEVEL: Final = 3
_FIRST: Final = ("principal.tenant.bloc", "principal.tenant.home", "principal.tenant.resident_classes")


def settle(session: Session, literals: Iterable[Any], answer: Answer, worlds: Iterable[World] = ()) -> Answer:
    """Make a possible answer as ordinary as its question allows."""
    fixed, model = list(literals), answer.model
    for world in (session.world, *worlds):
        granted = set()
        for path, choices in _wishes(world):
            for wish in choices:
                literal = session.literal(wish)
                found = session.ask([*fixed, literal]) if not _met(session, model, wish) else None
                if found is None or found.verdict == "possible":
                    fixed.append(literal)
                    model = model if found is None else found.model
                    granted.add(path)
                    break
        for path in sorted(world.made):
            if isinstance(world.made[path], Texts) and path not in granted:
                model = _shrink(session, world, path, fixed, model)
    return Answer("possible", frozenset(), model)


def _met(session: Session, model: Any, wish: Truth) -> bool:
    """Tell whether a model grants a wish as it is."""
    if isinstance(wish, bool):
        return wish
    return bool(session.logic.z3.is_true(model.eval(wish, model_completion=True)))


def _shrink(session: Session, world: World, path: str, fixed: list[Any], model: Any) -> Any:
    """Take strings out of a set for good, in ever smaller portions, as long as the question allows it."""
    term, z3 = world.made[path].term, session.logic.z3
    mask = model.eval(term, model_completion=True).as_long()
    left = [at for at in range(mask.bit_length()) if mask >> at & 1]
    portion = len(left)
    while portion:
        for start in range(0, len(left), portion):
            out = left[start : start + portion]
            gone = session.literal(z3.And(*(z3.Extract(at, at, term) == 0 for at in out)))
            found = session.ask([*fixed, gone])
            if found.verdict == "possible":
                fixed.append(gone)
                model = found.model
                left = [at for at in left if at not in out]
                break
        else:
            portion //= 2
        portion = min(portion, len(left))
    return model


def _wishes(world: World) -> Iterator[tuple[str, list[Truth]]]:
    """Yield, for each variable, truths to try in turn: the law of the land first, then the facts."""
    paths = sorted(world.made, key=lambda path: (path not in _FIRST, not path.startswith("has:"), path))
    for path in paths:
        variable = world.made[path]
        if isinstance(variable, Texts):
            yield path, [world.same(variable, Texts(frozenset(wish))) for wish in _sets(path)]
        elif isinstance(variable, Text):
            yield path, [world.equal(variable, Text(wish)) for wish in _texts(world, path)]
        elif world.logic.z3.is_bool(variable):
            there = path.removeprefix("has:") in FACTS if path.startswith("has:") else path in _TRUE
            yield path, [variable if there else world.logic.no(variable)]
        else:
            yield path, [variable == (_LEVEL if ".sov" in path else 0)]


def _sets(path: str) -> list[tuple[str, ...]]:
    last = path.rpartition(".")[2]
    if last == "bloc":
        return [tuple(jurisdiction.BLOCS[name]) for name in ("EEA", "EU", "ASEAN", "GCC", "MERCOSUR")]
    if last in {"codes", "maker"}:
        return [(code,) for code in _COUNTRIES]
    if last == "origins":
        return [(), ("DE",), ("US",)]
    if path == "context.classes":
        return [expand((name,)) for name in _CLASSES]
    if last == "resident_classes":
        return [_RESIDENT]
    return [()]


def _texts(world: World, path: str) -> list[str]:
    last = path.rpartition(".")[2]
    if last == "grade":
        return list(_GRADES)
    if last == "home":
        return list(_COUNTRIES)
    return [word for word in ("openai",) if last == "engine" and word in world.alphabets["word"].at]
