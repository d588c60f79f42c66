"""JSON Schema as the Messages API takes it in ``output_config.format``.

The provider's page "Structured outputs" (section "JSON Schema limitations") asks for closed objects and knows
no numeric, length or pattern bounds. Bounds are moved into the description, as the provider's own SDKs do, so
the model may still see them; the shape is enforced, the bounds are not. A schema whose shape itself cannot be
said (open objects, recursion, conditions) is not squeezed: ``closed`` returns None and the driver uses a
forced tool, which carries the whole schema.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

_KEPT: Final = frozenset({"title", "description", "enum", "const", "type", "$ref", "required", "default"})
_FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)
_BOUNDS: Final = frozenset(
    {
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
        "pattern", "minItems", "maxItems", "uniqueItems", "examples", "$comment", "deprecated", "readOnly",
        "writeOnly", "minProperties", "maxProperties",
    }
)  # fmt: skip
_SILENT: Final = frozenset({"$schema", "$id"})
MAX_DEPTH: Final = 32


class _Unsayable(Exception):
    """The schema has a shape the operator cannot enforce."""


def closed(schema: dict[str, Any]) -> dict[str, Any] | None:
    """Return the schema with closed objects and bounds told in words; None if its shape cannot be said."""
    try:
        return _node(schema, schema, (), 0)
    except _Unsayable:
        return None


def _node(node: object, root: dict[str, Any], trail: tuple[str, ...], depth: int) -> dict[str, Any]:
    if not isinstance(node, dict) or depth > MAX_DEPTH:
        raise _Unsayable
    out: dict[str, Any] = {}
    told: list[str] = []
    for key, value in node.items():
        if key in _KEPT or (key == "format" and value in _FORMATS):
            out[key] = value
        elif key in _BOUNDS or key == "format":
            told.append(f"{key}: {msgspec.json.encode(value).decode()}")
        elif key not in _SILENT and not (key == "additionalProperties" and value is False):
            out["anyOf" if key == "oneOf" else key] = _inner(key, value, root, trail, depth)
    _close(out, node)
    if "$ref" in out:
        _follow(out["$ref"], root, trail, depth)
    if told:
        said = out.get("description")
        out["description"] = f"{said} ({', '.join(told)})" if said else ", ".join(told)
    return out


def _inner(key: str, value: object, root: dict[str, Any], trail: tuple[str, ...], depth: int) -> object:
    if key in ("$defs", "definitions", "properties"):
        return _map(value, root, trail, depth)
    if key in ("anyOf", "oneOf", "allOf"):
        return _list(value, root, trail, depth)
    if key == "items":
        return _node(value, root, trail, depth + 1)
    raise _Unsayable


def _close(out: dict[str, Any], node: dict[str, Any]) -> None:
    """Close an object that names its properties; an object that names none is open by intent."""
    kinds = node.get("type")
    if kinds == "object" or (isinstance(kinds, list) and "object" in kinds) or "properties" in node:
        if not node.get("properties") and node.get("additionalProperties") is not False:
            raise _Unsayable
        out["additionalProperties"] = False
        out.setdefault("properties", {})


def _map(value: object, root: dict[str, Any], trail: tuple[str, ...], depth: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Unsayable
    return {name: _node(inner, root, trail, depth + 1) for name, inner in value.items()}


def _list(value: object, root: dict[str, Any], trail: tuple[str, ...], depth: int) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value:
        raise _Unsayable
    return [_node(inner, root, trail, depth + 1) for inner in value]


def _follow(ref: object, root: dict[str, Any], trail: tuple[str, ...], depth: int) -> None:
    """Walk a reference to find recursion and references that lead nowhere."""
    if not isinstance(ref, str) or not ref.startswith("#/") or ref in trail:
        raise _Unsayable
    target: object = root
    for step in ref[2:].split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(target, dict) or name not in target:
            raise _Unsayable
        target = target[name]
    _node(target, root, (*trail, ref), depth + 1)
