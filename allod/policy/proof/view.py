"""A symbolic world as one law reads it: what the encoder would hand to the rules, attribute by attribute.

Two laws may read the same configuration differently: a pack's ``min_grade`` and ``max_age_days`` decide which
facts count, its weights make the score, its lists are dated. So declared facts are variables of the world and
what a rule sees is computed here, law by law.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from allod.domain.facts import GRADES
from allod.policy.facts import DEPLOYMENT_FACTS, EVIDENCE, OPERATOR_FACTS
from allod.policy.proof.law import Law
from allod.policy.proof.shape import SET, Field, Shape, Type
from allod.policy.proof.solver import Truth
from allod.policy.proof.strings import Text, Texts
from allod.policy.proof.world import LONG_BITS, World

FACTS: Final = frozenset(
    {f"resource.{name}" for name in DEPLOYMENT_FACTS}
    | {f"resource.operator.{name}" for name in OPERATOR_FACTS}
)
"""Paths of facts about deployment and operator: what grade and age decide on."""
FOREIGN: Final = ("resource", "resource.operator")
_ENTITIES: Final = {"principal": "App", "resource": "Deployment"}


class Number(NamedTuple):
    """A number of 64 bits."""

    term: Any


class Entity(NamedTuple):
    """An entity: its type without namespace, and either its id, if it is a literal, or its path."""

    kind: str
    id: Text | None
    path: str | None


class Record(NamedTuple):
    """A record of the world at a path."""

    path: str
    fields: Mapping[str, Field]


class Literal(NamedTuple):
    """A record that is written out: whether each field evaluates, and to what, is known."""

    fields: Mapping[str, Any]


Value = Any
"""A truth, ``Number``, ``Text``, ``Texts``, ``Entity``, ``Record``, ``Literal`` or a tuple of entities."""


class View:
    """A world under a law; ``aged`` if of two laws with different age limits this has the stricter one."""

    def __init__(self, world: World, law: Law, shape: Shape, *, aged: bool = False) -> None:
        self.world: Final = world
        self.law: Final = law
        self.shape: Final = shape
        self._aged: Final = aged
        self._logic: Final = world.logic

    def variable(self, name: str) -> Value:
        """Return ``principal``, ``action``, ``resource`` or ``context``; None for anything else."""
        if name in _ENTITIES:
            return Entity(_ENTITIES[name], None, name)
        if name == "action":
            return Entity("Action", Text("dispatch"), None)
        return Record("context", self.shape.context) if name == "context" else None

    def id_of(self, entity: Entity) -> Text:
        """Return an entity's id."""
        return self.world.text(f"{entity.path}.#id") if entity.id is None else entity.id

    def fields(self, value: Entity | Record) -> Mapping[str, Field]:
        """Return the attributes an entity or record may have."""
        return value.fields if isinstance(value, Record) else self.shape.entities.get(value.kind, {})

    def present(self, path: str, field: Field) -> Truth:
        """Whether an attribute is there."""
        if not field.optional:
            return True
        declared = self.world.flag(f"has:{path}")
        if path not in FACTS:
            return declared
        parts = [declared]
        if self._aged:
            parts.append(self._logic.no(self.world.flag(f"stale:{path}")))
        if self.law.min_grade != GRADES[0]:
            graded = self.world.text(f"{path}.grade")
            enough = GRADES[GRADES.index(self.law.min_grade) :]
            good = [self.world.equal(graded, Text(grade)) for grade in enough]
            parts.append(self._logic.some([self.world.flag("resource.operator.own"), *good]))
        return self._logic.every(parts)

    def value(self, path: str, kind: Type) -> Value:
        """Return an attribute that is there."""
        if kind.kind == "Bool":
            return self.world.flag(path)
        if kind.kind == "Long":
            return Number(self._score(path) if path.endswith(".seal.score") else self.world.number(path))
        if kind.kind == "String":
            return self.world.text(path)
        if kind.kind == SET:
            return self._texts(path)
        if kind.kind == "Record":
            return Record(path, kind.fields)
        return Entity(kind.kind, None, path)

    def _score(self, path: str) -> Any:
        vector = path.removesuffix(".score")
        weighed = [
            self.world.number(f"{vector}.sov{n}") * self._logic.z3.BitVecVal(percent, LONG_BITS)
            for n, percent in enumerate(self.law.percent, 1)
        ]
        return sum(weighed[1:], weighed[0])

    def _texts(self, path: str) -> Texts:
        bearer, _, rest = path.rpartition(".")
        bearer, _, kind = bearer.rpartition(".")
        if kind not in EVIDENCE or rest not in GRADES:
            return self.world.texts(path)
        if bearer != "resource":
            return self._names(bearer, kind, rest)
        own, theirs = self._names("resource", kind, rest), self._names("resource.operator", kind, rest)
        return Texts(None, "word", own.term | theirs.term)

    def _names(self, bearer: str, kind: str, grade: str) -> Texts:
        """Return evidence as its bearer declares it, cut down to what counts under the law."""
        names = self.world.texts(f"{bearer}.{kind}.{grade}")
        if bearer in FOREIGN:
            least = max(grade, self.law.min_grade, key=GRADES.index)
            if least != grade:
                graded = self.world.texts(f"{bearer}.{kind}.{least}")
                own = self.world.flag("resource.operator.own")
                names = Texts(None, "word", self._logic.z3.If(own, names.term, graded.term))
        if self._aged:
            stale = self.world.texts(f"stale:{bearer}.{kind}")
            names = Texts(None, "word", names.term & ~stale.term)
        return names
