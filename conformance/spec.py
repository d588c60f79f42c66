"""Cut OpenAPI documents to what the gateway serves, and fit them to the fleet under test."""

from __future__ import annotations

import copy
from typing import Any

MAX_TOKENS = 4096
MAX_DIMENSIONS = 1024


def _up_to(limit: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": 1, "maximum": limit}


_FIXED: dict[str, dict[str, Any]] = {
    "max_tokens": _up_to(MAX_TOKENS),
    "max_completion_tokens": _up_to(MAX_TOKENS),
    "max_output_tokens": _up_to(MAX_TOKENS),
    "dimensions": _up_to(MAX_DIMENSIONS),
    "n": _up_to(2),
    "encoding_format": {
        "type": "string",
        "enum": ["float"],
    },  # OpenAI's document forgets base64 in its answer
}
_METHODS = ("get", "post")


def fit(document: dict[str, Any], paths: dict[str, tuple[str, ...]], model: str) -> dict[str, Any]:
    """Return a copy with only these paths and methods, the model named, and sizes a fleet has.

    Without a model that exists almost every generated request would be a 404 and prove nothing.
    ``Allod-*`` headers are left out for the same reason: random classes are not known.
    """
    out = copy.deepcopy(document)
    out["paths"] = {
        path: {key: item for key, item in out["paths"][path].items() if key in methods}
        for path, methods in paths.items()
        if path in out["paths"]
    }
    for item in out["paths"].values():
        for method in _METHODS:
            operation = item.get(method)
            if operation is None:
                continue
            operation["parameters"] = [
                _parameter(p, model) for p in operation.get("parameters", []) if _kept(p)
            ]
            for content in operation.get("requestBody", {}).get("content", {}).values():
                content["schema"] = _narrow(content.get("schema", {}), out, model)
            if method == "post":  # some documents do not say that answers may stream
                answer = operation["responses"]["200"].setdefault("content", {})
                answer.setdefault("text/event-stream", {})
    return out


def _kept(parameter: dict[str, Any]) -> bool:
    return not str(parameter.get("name", "")).lower().startswith(("allod-", "anthropic-", "x-api-key"))


def _parameter(parameter: dict[str, Any], model: str) -> dict[str, Any]:
    if parameter.get("in") == "path":
        return {**parameter, "schema": {"type": "string", "enum": [model, "no-such-model"]}}
    return parameter


def _narrow(schema: dict[str, Any], document: dict[str, Any], model: str) -> dict[str, Any]:
    """Return a request schema with the model named and sizes bounded; references and ``allOf`` are resolved.

    Answers share schemas with requests, so what is narrowed is a copy.
    """
    if "$ref" in schema:
        return _narrow(_follow(schema["$ref"], document), document, model)
    out = copy.deepcopy(schema)
    if "allOf" in out:
        out["allOf"] = [_narrow(part, document, model) for part in out["allOf"]]
    properties = out.get("properties", {})
    for name in properties.keys() & _FIXED.keys():
        properties[name] = _FIXED[name]
    if "model" in properties:
        properties["model"] = {"type": "string", "enum": [model]}
    return out


def _follow(reference: str, document: dict[str, Any]) -> dict[str, Any]:
    node: Any = document
    for step in reference.removeprefix("#/").split("/"):
        node = node[step.replace("~1", "/").replace("~0", "~")]
    found: dict[str, Any] = node
    return found
