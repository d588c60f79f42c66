"""The structural proof of I2: a data class or a lost link can take deployments away, never add one.

A rule set is monotone in the classes of a request when every test of them stands positively in the ``when``
of a forbid; then more classes satisfy more forbids, and forbids only remove. The same holds for the link
when ``context.link_up`` stands only negated there. Evidence by name, pseudonyms and facts go the other way:
they are demanded, never held against anyone, so what is missing, expired or too weak denies.

Whoever decides denies on an error, so a condition that errs must not come and go with what has a direction:
``(class || error) && false`` would admit where the class is and deny where it is not. Arithmetic can overflow
and an entity named by its id may not exist; nothing else errs in a rule that fits its schema. The check is on
the form and needs no solver.
"""

from __future__ import annotations

from typing import Any

from allod.policy.compiler import Expression
from allod.policy.facts import DEPLOYMENT_FACTS, OPERATOR_FACTS

_CLASS_TESTS = frozenset({"contains", "containsAll", "containsAny"})
_DIRECTED = frozenset({"classes", "link_up", "pseudonymised"})
_EVIDENCE = frozenset({"agreements", "attestations"})
_GRADES = frozenset({"declared", "contract", "attested"})
_FACTS = frozenset({*DEPLOYMENT_FACTS, *OPERATOR_FACTS, "weights", "maker"})
_ARITHMETIC = frozenset({"+", "-", "*", "neg"})


def lint_policy(rule_id: str, policy: Expression) -> tuple[str, ...]:
    """Return what keeps this EST policy from being monotone, one sentence each; empty when it is."""
    findings: list[str] = []
    forbids = policy["effect"] == "forbid"
    for condition in policy["conditions"]:
        positive = forbids and condition["kind"] == "when"
        polarity = (1 if positive else 0) if condition["kind"] == "when" else (-1 if forbids else 0)
        findings += _walk(rule_id, condition["body"], polarity, classes_here=positive)
    bodies = [condition["body"] for condition in policy["conditions"]]
    if _computes(bodies) and _mentions(bodies):
        findings.append(f"{rule_id}: arithmetic can overflow, and would hide what is tested beside it")
    findings += [f"{rule_id}: {name} is read by its id, and may not exist" for name in _read_by_id(bodies)]
    return tuple(findings)


def _walk(rule_id: str, node: Any, polarity: int, *, classes_here: bool) -> list[str]:
    """Follow ``&&``, ``||`` and ``!``; under anything else a test of classes or link is a finding."""
    match node:
        case {"&&": {"left": left, "right": right}} | {"||": {"left": left, "right": right}}:
            first = _walk(rule_id, left, polarity, classes_here=classes_here)
            return first + _walk(rule_id, right, polarity, classes_here=classes_here)
        case {"!": {"arg": arg}}:
            return _walk(rule_id, arg, -polarity, classes_here=classes_here)
        case {".": {"left": {"Var": "context"}, "attr": "link_up"}}:
            wrong = polarity >= 0
            finding = f"{rule_id}: context.link_up must stand negated in the when of a forbid"
        case {".": {"left": {"Var": "context"}, "attr": "pseudonymised"}}:
            wrong = polarity >= 0
            finding = f"{rule_id}: context.pseudonymised may only be demanded, in the unless of a forbid"
        case {"has": {"left": left, "attr": attr}} if attr in _FACTS and not _mentions(left):
            wrong = polarity >= 0
            finding = f"{rule_id}: a missing {attr} must deny, so ask for it in the unless of a forbid"
        case _ if _is_evidence_test(node):
            wrong = polarity >= 0
            finding = f"{rule_id}: evidence may only be demanded, in the unless of a forbid"
        case _ if _is_class_test(node):
            wrong = not (polarity > 0 and classes_here)
            finding = f"{rule_id}: a class test must stand positively in the when of a forbid"
        case _:
            return [
                f"{rule_id}: {name} is used where its effect has no fixed direction"
                for name in sorted(_mentions(node))
            ]
    return [finding] if wrong else []


def _is_class_test(node: Any) -> bool:
    """Tell whether this is ``context.classes.contains...(x)`` or ``x.containsAny(context.classes)``."""
    if not isinstance(node, dict) or len(node) != 1:
        return False
    ((name, arg),) = node.items()
    if name not in _CLASS_TESTS:
        return False
    left, right = arg["left"], arg["right"]
    if _is_classes(left):
        return not _mentions(right)
    return name == "containsAny" and _is_classes(right) and not _mentions(left)


def _is_evidence_test(node: Any) -> bool:
    """Tell whether this is ``<path>.agreements.<grade>.contains...(x)``, or the same of attestations."""
    if not isinstance(node, dict) or len(node) != 1:
        return False
    ((name, arg),) = node.items()
    if name not in _CLASS_TESTS:
        return False
    match arg["left"]:
        case {".": {"left": {".": {"left": bearer, "attr": kind}}, "attr": grade}}:
            named = kind in _EVIDENCE and grade in _GRADES
            return named and not _mentions(bearer) and not _mentions(arg["right"])
    return False


def _is_classes(node: Any) -> bool:
    return bool(node == {".": {"left": {"Var": "context"}, "attr": "classes"}})


def _mentions(node: Any) -> set[str]:
    """Return what with a fixed direction occurs below; a bare ``context`` may hold all of the context's."""
    found: set[str] = set()
    below: list[Any] = []
    match node:
        case [*items]:
            below = items
        case {".": {"left": {"Var": "context"}, "attr": attr}} | {
            "has": {"left": {"Var": "context"}, "attr": attr}
        }:
            found = {f"context.{name}" for name in {attr} & _DIRECTED}
        case {".": {"left": left, "attr": attr}} | {"has": {"left": left, "attr": attr}} if attr in _EVIDENCE:
            found, below = {attr}, [left]
        case {"has": {"left": left, "attr": attr}} if attr in _FACTS:
            found, below = {f"has {attr}"}, [left]
        case {"Var": "context"}:
            found = {f"context.{name}" for name in _DIRECTED}
        case {"Record": fields}:  # its field names are the author's own words
            below = list(fields.values())
        case {**parts} if "Value" not in parts:
            below = list(parts.values())
    return found.union(*(_mentions(item) for item in below))


def _computes(node: Any) -> bool:
    """Tell whether there is arithmetic below."""
    match node:
        case [*items]:
            return any(_computes(item) for item in items)
        case {"Record": fields}:
            return any(_computes(item) for item in fields.values())
        case {**parts}:
            return not _ARITHMETIC.isdisjoint(parts) or any(_computes(item) for item in parts.values())
        case _:
            return False


def _read_by_id(node: Any) -> list[str]:
    """Name every entity whose attributes are read below and that is neither a variable's nor a list."""
    match node:
        case [*items]:
            return [name for item in items for name in _read_by_id(item)]
        case {".": {"left": left}} | {"has": {"left": left}}:
            start = left
            while isinstance(start, dict) and "." in start:
                start = start["."]["left"]
            match start:
                case {"Var": _} | {"Value": {"__entity": {"type": "Allod::List"}}}:
                    return []
                case {"Value": {"__entity": {"type": kind, "id": name}}}:
                    return [f'{kind}::"{name}"']
                case _:
                    return ["something that is no principal, resource, context or list"]
        case {**parts} if "Value" not in parts:
            return [name for item in parts.values() for name in _read_by_id(item)]
        case _:
            return []
