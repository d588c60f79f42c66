"""Cedar's JSON policy form (EST) compiled to Python closures: the fast key.

The semantics are those of the Cedar language reference, errors included: a condition that errors does not
match, and says so. Whoever decides with the result must deny on any error. An operator this compiler does
not know refuses the pack at build; extension functions and tags are among those.
"""

from __future__ import annotations

import json
from typing import Any, Final, Literal, NamedTuple

from allod.domain.errors import Invalid
from allod.policy import closures
from allod.policy.closures import Env, EvaluationError, Test, Uid

Expression = dict[str, Any]
MAX_DEPTH: Final = 60


class Step(NamedTuple):
    """A rule's scope or one of its conditions: its canonical text, by which rules share it, and its test."""

    text: str
    test: Test


class CompiledRule(NamedTuple):
    """A rule ready to run: satisfied when every step holds, tried in order; a step may raise."""

    id: str
    effect: Literal["permit", "forbid"]
    steps: tuple[Step, ...]


class Verdict(NamedTuple):
    """What all rules say of one request: ids satisfied, by effect, and ids that errored, in rule order."""

    permits: tuple[str, ...]
    forbids: tuple[str, ...]
    errors: tuple[str, ...]

    @property
    def allowed(self) -> bool:
        """Fail-closed: some permit, no forbid, no error."""
        return bool(self.permits) and not self.forbids and not self.errors


class Program:
    """Rules in order. A scope or condition that rules share is evaluated once per request."""

    def __init__(self, rules: tuple[CompiledRule, ...]) -> None:
        places: dict[str, int] = {}
        tests: list[Test] = []
        for step in (step for rule in rules for step in rule.steps):
            if step.text not in places:
                places[step.text] = len(tests)
                tests.append(step.test)
        self._tests: Final = tuple(tests)
        self._rules: Final = tuple(
            (rule.id, rule.effect == "permit", tuple(places[step.text] for step in rule.steps))
            for rule in rules
        )

    def judge(self, env: Env) -> Verdict:
        """Run every rule; none is skipped because another has decided."""
        tests = self._tests
        known: list[bool | None] = [None] * len(tests)
        permits: list[str] = []
        forbids: list[str] = []
        errors: list[str] = []
        for rule_id, permit, places in self._rules:
            try:
                for place in places:
                    holds = known[place]
                    if holds is None:
                        holds = known[place] = closures.truth(tests[place](env))
                    if not holds:
                        break
                else:
                    (permits if permit else forbids).append(rule_id)
            except (EvaluationError, RecursionError):
                errors.append(rule_id)
        return Verdict(tuple(permits), tuple(forbids), tuple(errors))


def compile_rule(rule_id: str, policy: Expression) -> CompiledRule:
    """Compile one static policy of the EST.

    Raises:
        Invalid: it uses an operator, a scope or a form that is not known here, or nests too deep.

    """
    compiler = _Compiler(rule_id)
    known = {"effect", "principal", "action", "resource", "conditions", "annotations"}
    if not known.issuperset(policy) or policy["effect"] not in {"permit", "forbid"}:
        raise compiler.unknown("form", sorted(policy))
    parts = ("principal", "action", "resource")
    scope = closures.every(tuple(compiler.scope(part, policy[part]) for part in parts))
    steps = [Step(_text({part: policy[part] for part in parts}), scope)]
    for condition in policy["conditions"]:
        body = compiler.build(condition["body"], 0)
        if condition["kind"] not in {"when", "unless"}:
            raise compiler.unknown("condition", condition["kind"])
        steps.append(Step(_text(condition), body if condition["kind"] == "when" else closures.negate(body)))
    return CompiledRule(rule_id, policy["effect"], tuple(steps))


def _text(node: Expression) -> str:
    return json.dumps(node, sort_keys=True, separators=(",", ":"))


class _Compiler:
    """Turns expressions of one rule into closures; holds the rule's id for its errors."""

    def __init__(self, rule_id: str) -> None:
        self.rule_id = rule_id

    def unknown(self, what: str, got: object) -> Invalid:
        """Return the error for something this compiler will not guess the meaning of."""
        return Invalid(
            f"rule {self.rule_id!r} uses a Cedar {what} that Allod does not know",
            f"got {got!r}",
            "write the rule with comparisons, sets, has, is, in, like and if",
        )

    def scope(self, part: str, scope: Expression) -> Test:
        """Compile the constraint on principal, action or resource."""
        extra = set(scope) - {"op", "entity", "entities", "entity_type", "in"}
        if extra or "slot" in str(scope.get("in", "")):
            raise self.unknown("scope", scope)
        target = closures.VARIABLES[part]
        match scope:
            case {"op": "All"}:
                return closures.constant(True)
            case {"op": "==", "entity": {"type": kind, "id": name}}:
                return closures.equal(target, closures.constant(Uid(kind, name)))
            case {"op": "in", "entity": {"type": kind, "id": name}}:
                return closures.within(target, closures.constant(Uid(kind, name)))
            case {"op": "in", "entities": [*members]}:
                return closures.within(
                    target, closures.constant(frozenset(Uid(m["type"], m["id"]) for m in members))
                )
            case {"op": "is", "entity_type": kind, "in": {"entity": {"type": parent, "id": name}}}:
                return closures.every(
                    (
                        closures.of_type(target, kind),
                        closures.within(target, closures.constant(Uid(parent, name))),
                    )
                )
            case {"op": "is", "entity_type": kind, **rest} if "in" not in rest:
                return closures.of_type(target, kind)
            case _:
                raise self.unknown("scope", scope)

    def build(self, node: Expression, depth: int) -> Test:
        """Compile one expression; ``depth`` bounds the nesting."""
        if not isinstance(node, dict) or len(node) != 1:
            raise self.unknown("expression", node)
        if depth > MAX_DEPTH:
            raise self.unknown("nesting", f"deeper than {MAX_DEPTH}")
        ((name, arg),) = node.items()
        if name in closures.CHAINS:
            parts = [self.build(part, depth + 1) for part in _flat(name, node)]
            return closures.CHAINS[name](tuple(parts))
        if name in closures.BINARY:
            left, right = self.build(arg["left"], depth + 1), self.build(arg["right"], depth + 1)
            return closures.BINARY[name](left, right)
        if name in closures.UNARY:
            return closures.UNARY[name](self.build(arg["arg"], depth + 1))
        if name in {"Value", "Var", "Set", "Record"}:
            return self._leaf(name, arg, depth + 1)
        return self._form(name, arg, depth + 1)

    def _leaf(self, name: str, arg: Any, depth: int) -> Test:
        match name:
            case "Value":
                return closures.constant(self._literal(arg))
            case "Var" if arg in closures.VARIABLES:
                return closures.VARIABLES[arg]
            case "Set":
                return closures.make_set(tuple(self.build(item, depth) for item in arg))
            case "Record":
                return closures.make_record({field: self.build(item, depth) for field, item in arg.items()})
            case _:
                raise self.unknown("variable", arg)

    def _form(self, name: str, arg: Any, depth: int) -> Test:
        match name:
            case "." if isinstance(arg["attr"], str):
                start, attrs = _steps({name: arg})
                return closures.attribute(self.build(start, depth), attrs)
            case "has" if isinstance(arg["attr"], str):
                return closures.has_attribute(self.build(arg["left"], depth), arg["attr"])
            case "like":
                return closures.like(self.build(arg["left"], depth), arg["pattern"])
            case "is":
                test = closures.of_type(self.build(arg["left"], depth), arg["entity_type"])
                if "in" not in arg:
                    return test
                return closures.every(
                    (test, closures.within(self.build(arg["left"], depth), self.build(arg["in"], depth)))
                )
            case "if-then-else":
                return closures.choose(*(self.build(arg[part], depth) for part in ("if", "then", "else")))
            case _:
                raise self.unknown("operator", name)

    def _literal(self, arg: Any) -> Any:
        if isinstance(arg, bool | str) or (isinstance(arg, int) and closures.LOW <= arg <= closures.HIGH):
            return arg
        if isinstance(arg, dict) and set(arg) == {"__entity"}:
            return closures.value_of(arg)
        raise self.unknown("literal", arg)


def _flat(name: str, node: Expression) -> list[Expression]:
    """List the operands of a chain of one operator that leans left: ``(a && b) && c`` is ``a, b, c``."""
    parts: list[Expression] = []
    while name in node:
        parts.append(node[name]["right"])
        node = node[name]["left"]
    return [node, *reversed(parts)]


def _steps(node: Expression) -> tuple[Expression, tuple[str, ...]]:
    """Split an attribute path: where it starts, and the attributes from there on."""
    attrs: list[str] = []
    while "." in node:
        attrs.append(node["."]["attr"])
        node = node["."]["left"]
    return node, tuple(reversed(attrs))
