"""Which evidence a rule demands by name, read from its conditions."""

from __future__ import annotations

from typing import Any

from allod.domain.facts import GRADES, Grade
from allod.policy.compiler import Expression
from allod.policy.pack import path_of


def demanded(policy: Expression) -> tuple[tuple[str, str, Grade, str], ...]:
    """Return the evidence a rule's conditions name: bearer's path, kind, grade and name, as written."""
    found: list[tuple[str, str, Grade, str]] = []

    def walk(node: Any) -> None:
        if isinstance(node, list):
            for item in node:
                walk(item)
        elif isinstance(node, dict):
            for operator, arg in node.items():
                if operator in {"contains", "containsAll", "containsAny"}:
                    found.extend(_named(arg["left"], arg["right"]))
                walk(arg)

    for step in policy["conditions"]:
        walk(step["body"])
    return tuple(dict.fromkeys(found))


def _named(left: Any, right: Any) -> list[tuple[str, str, Grade, str]]:
    match left:
        case {
            ".": {
                "left": {".": {"left": bearer, "attr": ("agreements" | "attestations") as kind}},
                "attr": grade,
            }
        }:
            path, texts = path_of(bearer), texts_of(right)
            return [(path, kind, grade, text) for text in texts] if path and grade in GRADES else []
    return []


def texts_of(node: Any) -> list[str]:
    """Return the literal texts below a node."""
    match node:
        case {"Value": str(text)}:
            return [text]
        case {"Set": [*items]}:
            return [text for item in items for text in texts_of(item)]
    return []
