"""Cedar's JSON form (EST) to the solver: strict semantics, errors included.

Every expression becomes a pair: whether it evaluates without error, and to what. ``&&``, ``||`` and ``if``
shield what they do not evaluate, as in Cedar. A missing attribute, an unknown entity and a number beyond 64
bits are errors; a rule that errors is not satisfied, and whoever decides denies. An operator, a type or a
comparison that is not modelled refuses. Two things are modelled with room to spare: ``like`` on a word that
nobody names may be either true or false, and one statute that nobody names may be law of several places. A
proof stands all the same; a counterexample that leans on them may turn out not to exist, and is then reported
as undecided.
Source: Cedar language reference, operators; held equal to the compiled rules and to cedarpy by a test.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, NamedTuple

from allod.domain.errors import Invalid
from allod.policy import closures
from allod.policy.compiler import Expression
from allod.policy.proof.solver import Truth
from allod.policy.proof.strings import MixedSorts, Text, Texts
from allod.policy.proof.view import Entity, Literal, Number, Record, Value, View
from allod.policy.proof.world import LONG_BITS

_NAMESPACE: Final = "Allod::"
_LIST: Final = "List"
_ACTION: Final = "Action"


class Outcome(NamedTuple):
    """What an expression comes to: whether it evaluates, and its value if it does."""

    ok: Truth
    value: Value


class RuleTerm(NamedTuple):
    """A rule: whether it is satisfied, and whether it errors; never both."""

    satisfied: Truth
    errors: Truth


class Translator:
    """Translates the expressions of one rule or theorem, named in its refusals, under one view."""

    def __init__(self, view: View, name: str) -> None:
        self._view: Final = view
        self._world: Final = view.world
        self._logic: Final = view.world.logic
        self._name: Final = name

    def rule(self, policy: Expression) -> RuleTerm:
        """Translate a policy: scope first, then its conditions in order, each shielded by those before."""
        parts = [
            Outcome(True, self._scope(part, policy[part])) for part in ("principal", "action", "resource")
        ]
        for condition in policy["conditions"]:
            outcome = self.truth(condition["body"])
            if condition["kind"] == "unless":
                outcome = Outcome(outcome.ok, self._logic.no(outcome.value))
            elif condition["kind"] != "when":
                raise self._unknown("condition", condition["kind"])
            parts.append(outcome)
        whole = self._both(parts)
        return RuleTerm(self._logic.every([whole.ok, whole.value]), self._logic.no(whole.ok))

    def truth(self, node: Expression) -> Outcome:
        """Translate an expression that must be a boolean."""
        outcome = self.expression(node)
        if not isinstance(outcome.value, bool) and not self._logic.z3.is_bool(outcome.value):
            raise self._unknown("boolean", node)
        return outcome

    def expression(self, node: Expression) -> Outcome:
        """Translate any expression.

        Raises:
            Invalid: it uses something that is not modelled.

        """
        if not isinstance(node, dict) or len(node) != 1:
            raise self._unknown("expression", node)
        ((name, arg),) = node.items()
        form = self._FORMS.get(name)
        if form is None:
            raise self._unknown("operator", name)
        try:
            return form(self, arg)
        except MixedSorts:
            raise self._unknown("comparison of places with other strings", node) from None

    def _unknown(self, what: str, got: object) -> Invalid:
        return Invalid(
            f"the prover does not model what {self._name!r} says",
            f"{what}: {str(got)[:200]}",
            "nothing is proved about it; write it with comparisons, sets, has, is, in and if",
        )

    # Scope.

    def _scope(self, part: str, scope: Expression) -> Truth:
        subject: Entity = self._view.variable(part)
        match scope:
            case {"op": "All"}:
                return True
            case {"op": "==" | "in", "entity": {"type": kind, "id": name}, **rest} if len(rest) == 0:
                return self._within(subject, (_literal(kind, name),), strict=scope["op"] == "==")
            case {"op": "in", "entities": [*members]}:
                return self._within(subject, tuple(_literal(one["type"], one["id"]) for one in members))
            case {"op": "is", "entity_type": kind, "in": {"entity": {"type": parent, "id": name}}}:
                inside = self._within(subject, (_literal(parent, name),))
                return self._logic.every([_type_of(subject) == kind, inside])
            case {"op": "is", "entity_type": kind, **rest} if "in" not in rest:
                return _type_of(subject) == kind
            case _:
                raise self._unknown("scope", scope)

    def _within(self, subject: Entity, groups: tuple[Entity, ...], *, strict: bool = False) -> Truth:
        """Whether an entity is one of others, or, unless strict, an app of one of them."""
        found = []
        for group in groups:
            if group.kind == subject.kind:
                found.append(self._world.equal(self._view.id_of(subject), self._view.id_of(group)))
            elif not strict and (subject.kind, group.kind) == ("App", "Tenant"):
                if subject.path is None:
                    raise self._unknown("membership of a named app", group)
                tenant = self._world.text(f"{subject.path}.tenant.#id")
                found.append(self._world.equal(tenant, self._view.id_of(group)))
        return self._logic.some(found)

    # Connectives.

    def _both(self, parts: list[Outcome]) -> Outcome:
        """``&&`` in order: what comes after the first false is not evaluated."""
        ok: Truth = True
        reached: Truth = True
        for part in parts:
            ok = self._logic.every([ok, self._logic.implies(reached, part.ok)])
            reached = self._logic.every([reached, part.value])
        return Outcome(ok, reached)

    def _and(self, arg: Any) -> Outcome:
        return self._both([self.truth(part) for part in _flat("&&", arg)])

    def _or(self, arg: Any) -> Outcome:
        parts = [self.truth(part) for part in _flat("||", arg)]
        turned = self._both([Outcome(part.ok, self._logic.no(part.value)) for part in parts])
        return Outcome(turned.ok, self._logic.no(turned.value))

    def _not(self, arg: Any) -> Outcome:
        outcome = self.truth(arg["arg"])
        return Outcome(outcome.ok, self._logic.no(outcome.value))

    def _if(self, arg: Any) -> Outcome:
        test, then, other = self.truth(arg["if"]), self.expression(arg["then"]), self.expression(arg["else"])
        ok = self._logic.every([test.ok, self._logic.either(test.value, then.ok, other.ok)])
        return Outcome(ok, self._choose(test.value, then.value, other.value, arg))

    def _choose(self, test: Truth, then: Value, other: Value, node: object) -> Value:
        if isinstance(test, bool):
            return then if test else other
        z3 = self._logic.z3
        match then, other:
            case Number(), Number():
                return Number(z3.If(test, then.term, other.term))
            case Texts(), Texts() if (sort := then.sort or other.sort) is not None:
                one, two = self._world.bits(then, sort), self._world.bits(other, sort)
                return Texts(None, sort, z3.If(test, one, two))
            case _ if all(isinstance(one, bool) or z3.is_bool(one) for one in (then, other)):
                return self._logic.either(test, then, other)
            case _ if then == other:
                return then
        raise self._unknown("if between such values", node)

    # Values, attributes.

    def _value(self, arg: Any) -> Outcome:
        if isinstance(arg, bool):
            return Outcome(True, arg)
        if isinstance(arg, str):
            return Outcome(True, Text(arg))
        if isinstance(arg, int) and closures.LOW <= arg <= closures.HIGH:
            return Outcome(True, Number(self._logic.z3.BitVecVal(arg, LONG_BITS)))
        if isinstance(arg, dict) and set(arg) == {"__entity"}:
            return Outcome(True, _literal(arg["__entity"]["type"], arg["__entity"]["id"]))
        raise self._unknown("literal", arg)

    def _var(self, arg: Any) -> Outcome:
        found = self._view.variable(arg)
        if found is None:
            raise self._unknown("variable", arg)
        return Outcome(True, found)

    def _set(self, arg: Any) -> Outcome:
        parts = [self.expression(item) for item in arg]
        ok = self._logic.every([part.ok for part in parts])
        values = [part.value for part in parts]
        if values and all(isinstance(value, Entity) for value in values):
            return Outcome(ok, tuple(values))
        if not all(isinstance(value, Text) for value in values):
            raise self._unknown("set of anything but strings", arg)
        literals = frozenset(value.literal for value in values if value.literal is not None)
        terms = [value for value in values if value.literal is None]
        if not terms:
            return Outcome(ok, Texts(literals))
        if len({value.sort for value in terms}) > 1:
            raise MixedSorts
        sort = terms[0].sort
        bits = self._world.bits(Texts(literals), sort)
        for value in terms:
            bits = bits | self._world.single(value)
        return Outcome(ok, Texts(None, sort, bits))

    def _record(self, arg: Any) -> Outcome:
        parts = {name: self.expression(item) for name, item in arg.items()}
        ok = self._logic.every([part.ok for part in parts.values()])
        return Outcome(ok, Literal({name: part.value for name, part in parts.items()}))

    def _attribute(self, arg: Any) -> Outcome:
        left, attr = self.expression(arg["left"]), arg["attr"]
        match left.value:
            case Literal(fields):
                return Outcome(left.ok, fields[attr]) if attr in fields else Outcome(False, False)
            case Entity(kind, Text(str() as name), None) if kind == _LIST and attr == "codes":
                codes = self._view.law.lists.get(name)
                return Outcome(False, Texts(frozenset())) if codes is None else Outcome(left.ok, Texts(codes))
            case (Entity(_, _, str() as path) | Record(path, _)) as bearer:
                field = self._view.fields(bearer).get(attr)
                if field is not None:
                    there = self._view.present(f"{path}.{attr}", field)
                    value = self._view.value(f"{path}.{attr}", field.type)
                    return Outcome(self._logic.every([left.ok, there]), value)
        raise self._unknown("attribute", arg)

    def _has(self, arg: Any) -> Outcome:
        left, attr = self.expression(arg["left"]), arg["attr"]
        match left.value:
            case Literal(fields):
                return Outcome(left.ok, attr in fields)
            case Entity(kind, Text(str() as name), None) if kind == _LIST:
                return Outcome(left.ok, attr == "codes" and name in self._view.law.lists)
            case (Entity(_, _, str() as path) | Record(path, _)) as bearer if isinstance(attr, str):
                field = self._view.fields(bearer).get(attr)
                there = False if field is None else self._view.present(f"{path}.{attr}", field)
                return Outcome(left.ok, there)
        raise self._unknown("has", arg)

    def _is(self, arg: Any) -> Outcome:
        left = self.expression(arg["left"])
        if not isinstance(left.value, Entity):
            raise self._unknown("is", arg)
        right = _type_of(left.value) == arg["entity_type"]
        if "in" not in arg:
            return Outcome(left.ok, right)
        inside = self._in({"left": arg["left"], "right": arg["in"]})
        return self._both([Outcome(left.ok, right), inside])

    def _in(self, arg: Any) -> Outcome:
        left, right = self.expression(arg["left"]), self.expression(arg["right"])
        groups = (
            right.value if isinstance(right.value, tuple) and not hasattr(right.value, "_fields") else None
        )
        if isinstance(right.value, Entity):
            groups = (right.value,)
        if not isinstance(left.value, Entity) or groups is None:
            raise self._unknown("in", arg)
        return Outcome(self._logic.every([left.ok, right.ok]), self._within(left.value, groups))

    # Comparisons.

    def _equal(self, arg: Any) -> Outcome:
        left, right = self.expression(arg["left"]), self.expression(arg["right"])
        ok = self._logic.every([left.ok, right.ok])
        match left.value, right.value:
            case Number(one), Number(other):
                return Outcome(ok, one == other)
            case Text(), Text():
                return Outcome(ok, self._world.equal(left.value, right.value))
            case Texts(), Texts():
                return Outcome(ok, self._world.same(left.value, right.value))
            case Entity(kind), Entity(other_kind):
                ids = [self._view.id_of(one) for one in (left.value, right.value)]
                same = kind == other_kind and self._world.equal(*ids)
                return Outcome(ok, same)
            case one, other if all(isinstance(x, bool) or self._logic.z3.is_bool(x) for x in (one, other)):
                return Outcome(ok, self._logic.same(one, other))
        raise self._unknown("equality of such values", arg)

    def _unequal(self, arg: Any) -> Outcome:
        outcome = self._equal(arg)
        return Outcome(outcome.ok, self._logic.no(outcome.value))

    def _sets(self, arg: Any) -> tuple[Truth, Texts, Value]:
        left, right = self.expression(arg["left"]), self.expression(arg["right"])
        if not isinstance(left.value, Texts):
            raise self._unknown("set", arg["left"])
        return self._logic.every([left.ok, right.ok]), left.value, right.value

    def _contains(self, arg: Any) -> Outcome:
        ok, whole, item = self._sets(arg)
        if not isinstance(item, Text):
            raise self._unknown("member", arg["right"])
        return Outcome(ok, self._world.contains(whole, item))

    def _contains_all(self, arg: Any) -> Outcome:
        ok, whole, part = self._sets(arg)
        if not isinstance(part, Texts):
            raise self._unknown("set", arg["right"])
        return Outcome(ok, self._world.includes(whole, part))

    def _contains_any(self, arg: Any) -> Outcome:
        ok, one, other = self._sets(arg)
        if not isinstance(other, Texts):
            raise self._unknown("set", arg["right"])
        return Outcome(ok, self._world.meets(one, other))

    def _is_empty(self, arg: Any) -> Outcome:
        outcome = self.expression(arg["arg"])
        if not isinstance(outcome.value, Texts):
            raise self._unknown("set", arg)
        return Outcome(outcome.ok, self._world.empty(outcome.value))

    def _like(self, arg: Any) -> Outcome:
        left = self.expression(arg["left"])
        if not isinstance(left.value, Text):
            raise self._unknown("like", arg)
        test = closures.like(lambda text: text, arg["pattern"])
        return Outcome(left.ok, self._matching(left.value, str(arg["pattern"]), test))

    def _matching(self, text: Text, pattern: str, test: Callable[[Any], Any]) -> Truth:
        if text.literal is not None:
            return bool(test(text.literal))
        assert text.sort is not None
        alphabet = self._world.alphabets[text.sort]
        found = [text.term == at for at, name in enumerate(alphabet.known) if test(name)]
        for at in range(len(alphabet.known), alphabet.width):
            either = self._world.flag(f"like:{at}:{pattern}")
            found.append(self._logic.every([text.term == at, either]))
        return self._logic.some(found)

    # Numbers.

    def _numbers(self, arg: Any) -> tuple[Truth, Any, Any]:
        left, right = self.expression(arg["left"]), self.expression(arg["right"])
        if not isinstance(left.value, Number) or not isinstance(right.value, Number):
            raise self._unknown("number", arg)
        return self._logic.every([left.ok, right.ok]), left.value.term, right.value.term

    @staticmethod
    def _order(compare: Callable[[Any, Any], Truth]) -> Callable[[Translator, Any], Outcome]:
        def build(translator: Translator, arg: Any) -> Outcome:
            ok, left, right = translator._numbers(arg)
            return Outcome(ok, compare(left, right))

        return build

    def _add(self, arg: Any) -> Outcome:
        ok, left, right = self._numbers(arg)
        z3 = self._logic.z3
        within = [z3.BVAddNoOverflow(left, right, signed=True), z3.BVAddNoUnderflow(left, right)]
        return Outcome(self._logic.every([ok, *within]), Number(left + right))

    def _subtract(self, arg: Any) -> Outcome:
        ok, left, right = self._numbers(arg)
        z3 = self._logic.z3
        within = [z3.BVSubNoOverflow(left, right), z3.BVSubNoUnderflow(left, right, signed=True)]
        return Outcome(self._logic.every([ok, *within]), Number(left - right))

    def _multiply(self, arg: Any) -> Outcome:
        ok, left, right = self._numbers(arg)
        z3 = self._logic.z3
        within = [z3.BVMulNoOverflow(left, right, signed=True), z3.BVMulNoUnderflow(left, right)]
        return Outcome(self._logic.every([ok, *within]), Number(left * right))

    def _negate(self, arg: Any) -> Outcome:
        outcome = self.expression(arg["arg"])
        if not isinstance(outcome.value, Number):
            raise self._unknown("number", arg)
        within = outcome.value.term != closures.LOW
        return Outcome(self._logic.every([outcome.ok, within]), Number(-outcome.value.term))

    _FORMS: ClassVar[Mapping[str, Callable[[Translator, Any], Outcome]]] = {
        "&&": _and, "||": _or, "!": _not, "if-then-else": _if, "Value": _value, "Var": _var, "Set": _set,
        "Record": _record, ".": _attribute, "has": _has, "is": _is, "in": _in, "==": _equal, "!=": _unequal,
        "contains": _contains, "containsAll": _contains_all, "containsAny": _contains_any,
        "isEmpty": _is_empty, "like": _like, "<": _order(operator.lt), "<=": _order(operator.le),
        ">": _order(operator.gt), ">=": _order(operator.ge), "+": _add, "-": _subtract, "*": _multiply,
        "neg": _negate,
    }  # fmt: skip


def _literal(kind: str, name: str) -> Entity:
    return Entity(kind.removeprefix(_NAMESPACE), Text(name), None)


def _type_of(entity: Entity) -> str:
    return _NAMESPACE + entity.kind


def _flat(name: str, arg: Any) -> list[Expression]:
    """List the operands of a chain that leans left."""
    parts: list[Expression] = [arg["right"]]
    node = arg["left"]
    while name in node:
        parts.append(node[name]["right"])
        node = node[name]["left"]
    return [node, *reversed(parts)]
