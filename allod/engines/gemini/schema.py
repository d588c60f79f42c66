"""JSON Schema as the Gemini API takes it.

``responseJsonSchema`` and ``parametersJsonSchema`` take a subset of JSON Schema (API reference
"GenerationConfig"): the keywords of ``KEPT``, with ``oneOf`` read as ``anyOf``. Others are told in the
description, so that the model may still see them; the shape is enforced, they are not.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

KEPT: Final = frozenset(
    {
        "$id", "$ref", "$anchor", "type", "format", "title", "description", "enum", "minItems", "maxItems",
        "minimum", "maximum", "required", "propertyOrdering",
    }
)  # fmt: skip
MAX_DEPTH: Final = 32


def fitted(node: object, depth: int = 0) -> Any:
    """Return the schema in the operator's subset (raises ``ValueError`` when it nests too deep)."""
    if isinstance(node, bool):
        return {} if node else {"enum": []}
    if not isinstance(node, dict) or depth > MAX_DEPTH:
        msg = "not a schema, or nested too deep"
        raise ValueError(msg)
    out: dict[str, Any] = {}
    told: list[str] = []
    for key, value in node.items():
        inner = _inner(key, value, depth)
        if key in KEPT:
            out[key] = value
        elif inner is not None:
            out["anyOf" if key == "oneOf" else "$defs" if key == "definitions" else key] = inner
        elif key == "const":
            out["enum"] = [value]
        elif key != "$schema":
            told.append(f"{key}: {msgspec.json.encode(value).decode()}")
    reference = out.get("$ref")
    if isinstance(reference, str):
        out = {key: value for key, value in out.items() if key.startswith("$")}
        out["$ref"] = reference.replace("#/definitions/", "#/$defs/")
    elif told:
        said = out.get("description")
        out["description"] = f"{said} ({', '.join(told)})" if said else ", ".join(told)
    return out


def _inner(key: str, value: object, depth: int) -> Any:
    """Fit what is nested under a keyword; None where the keyword nests nothing the operator takes."""
    if key in ("properties", "$defs", "definitions") and isinstance(value, dict):
        return {name: fitted(inner, depth + 1) for name, inner in value.items()}
    if key in ("anyOf", "oneOf", "prefixItems") and isinstance(value, list):
        return [fitted(inner, depth + 1) for inner in value]
    if key == "items" and isinstance(value, dict):
        return fitted(value, depth + 1)
    if key == "additionalProperties":
        return value if isinstance(value, bool) else fitted(value, depth + 1)
    return None
