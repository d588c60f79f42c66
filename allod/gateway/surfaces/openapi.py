"""Our own OpenAPI 3.1 document: requests from the very types that check them, answers as far as we promise.

An answer that passes through untouched is its operator's; its schema says only what every operator gives.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from allod.gateway.surfaces import chat_request, embeddings, faults, messages_request, responses_request
from allod.gateway.surfaces.labels import PREFIX
from allod.gateway.surfaces.sse import ENCODE

ROUTES: Final[tuple[tuple[str, str], ...]] = (
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/responses"),
    ("GET", "/v1/responses/{id}"),
    ("DELETE", "/v1/responses/{id}"),
    ("POST", "/v1/responses/{id}/cancel"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/messages/count_tokens"),
    ("POST", "/v1/embeddings"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model}"),
    ("GET", "/v1/receipts/{id}"),
    ("GET", "/log/checkpoint"),
    ("GET", "/log/pruning"),
    ("GET", "/log/tile/{tile}"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
)

_JSON: Final = "application/json"
_EVENTS: Final = "text/event-stream"
_MODULES: Final = {"chat_request": "Chat", "responses_request": "Responses", "messages_request": "Messages"}
_REASONS: Final = {
    400: "the request is invalid",
    401: "the key is missing or unknown",
    403: "no deployment may serve this: law, quality floor, capability, price, cost limit or deadline",
    404: "there is no such model, task, deployment or receipt",
    410: "the receipt's leaves were pruned by the log's published policy",
    413: "the body is too large",
    429: "a rate or a budget is spent",
    502: "the lawful deployments failed",
    503: "lawful, but none is up; or the log or the disk is in trouble",
    504: "the lawful deployments were too slow",
}
_HEADERS: Final = {
    "Allod-Data-Class": "classes of the data, comma-separated; they only add to the app's",
    "Allod-Purpose": "the purpose of the processing",
    "Allod-Task": "a task of the configuration",
    "Allod-Min-Quality": "the least quality, from 0 to 1",
    "Allod-Max-Cost": "the most this request may cost, in USD",
    "Allod-Deadline-Ms": "milliseconds after which the answer is worth nothing",
    "Allod-Tier": "the service tier",
    "Allod-Effort": "the reasoning depth",
    "Allod-Parent": "receipts of this app the request stems from, comma-separated, at most 8",
}


def description() -> bytes:
    """Return the document as JSON bytes."""
    return ENCODE(document())


def document() -> dict[str, Any]:
    """Build the document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Allod",
            "version": "1",
            "description": f"Metadata may carry the `{PREFIX.title()}*` headers' names as keys.",
        },
        "security": [{"bearer": []}, {"key": []}],
        "paths": _paths(),
        "components": {
            "schemas": {**_requests(), **_answers(), **_errors()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _paths() -> dict[str, Any]:
    openai, anthropic = "Error", "MessagesError"
    return {
        "/v1/chat/completions": _post("ChatRequest", "ChatCompletion", openai, streams=True),
        "/v1/responses": _post("ResponsesRequest", "Response", openai, streams=True),
        "/v1/responses/{id}": {
            **_get("Response", (400, 401, 404, 503), "id"),
            "delete": _get("Deleted", (401, 404, 503), "id")["get"],
        },
        "/v1/responses/{id}/cancel": {"post": _get("Response", (401, 404, 503), "id")["get"]},
        "/v1/messages": _post("MessagesRequest", "AnthropicMessage", anthropic, streams=True),
        "/v1/messages/count_tokens": _post("CountRequest", "TokenCount", anthropic),
        "/v1/embeddings": _post("EmbeddingsRequest", "EmbeddingList", openai),
        "/v1/models": _get("ModelList", (400, 401, 503)),
        "/v1/models/{model}": _get("Model", (400, 401, 404, 503), "model"),
        "/v1/receipts/{id}": _receipt(),
        "/log/checkpoint": _open({"text/plain": {"schema": {"type": "string"}}}),
        "/log/pruning": _open(_content({"type": "object"})),
        "/log/tile/{tile}": _open({"application/octet-stream": {}}, "tile", 404),
        "/healthz": _open(_content({"$ref": "#/components/schemas/State"})),
        "/readyz": _open(_content({"$ref": "#/components/schemas/State"}), None, 503),
        "/metrics": _open({"text/plain": {"schema": {"type": "string"}}}, None, 401),
        "/openapi.json": _open(_content({"type": "object"})),
    }


def _post(request: str, answer: str, error: str, *, streams: bool = False) -> dict[str, Any]:
    content = _content({"$ref": f"#/components/schemas/{answer}"})
    if streams:
        content[_EVENTS] = {}
    receipt = {"Allod-Receipt": {"schema": {"type": "string"}, "description": "the id of the receipt"}}
    return {
        "post": {
            "parameters": [
                {"name": name, "in": "header", "description": said, "schema": {"type": "string"}}
                for name, said in _HEADERS.items()
            ],
            "requestBody": {
                "required": True,
                "content": _content({"$ref": f"#/components/schemas/{request}"}),
            },
            "responses": {
                "200": {"description": "the answer", "headers": receipt, "content": content},
                **_failures(faults.STATUSES, error),
            },
        }
    }


def _get(answer: str, failures: tuple[int, ...], parameter: str | None = None) -> dict[str, Any]:
    ok = {"description": "found", "content": _content({"$ref": f"#/components/schemas/{answer}"})}
    get: dict[str, Any] = {"responses": {"200": ok, **_failures(failures, "Error")}}
    if parameter is not None:
        get["parameters"] = [_in_path(parameter)]
    return {"get": get}


def _receipt() -> dict[str, Any]:
    operation = _get("Receipt", (400, 401, 404, 410, 503), "id")
    get = operation["get"]
    wanted = {"type": "string", "enum": ["file", "tlog-proof", "cose"]}
    get["parameters"].append({"name": "format", "in": "query", "schema": wanted})
    for kind in ("text/plain", "application/octet-stream"):
        get["responses"]["200"]["content"][kind] = {"schema": {"type": "string"}}
    return operation


def _open(content: dict[str, Any], parameter: str | None = None, *failures: int) -> dict[str, Any]:
    responses = {"200": {"description": "what there is", "content": content}}
    responses |= {str(status): {"description": "nothing, or not ready"} for status in failures}
    get: dict[str, Any] = {"security": [], "responses": responses}
    if parameter is not None:
        get["parameters"] = [_in_path(parameter)]
    return {"get": get}


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {_JSON: {"schema": schema}}


def _failures(statuses: tuple[int, ...], error: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{error}"}
    return {
        str(status): {"description": _REASONS[status], "content": _content(schema)} for status in statuses
    }


def _requests() -> dict[str, Any]:
    """Return the request schemas, out of the types that check requests."""
    kinds = (
        chat_request.ChatRequest,
        chat_request.Extensions,
        responses_request.ResponsesRequest,
        responses_request.MessageItem,
        responses_request.CallItem,
        responses_request.CallOutputItem,
        responses_request.ReasoningItem,
        messages_request.MessagesRequest,
        messages_request.CountRequest,
        embeddings.EmbeddingsRequest,
    )
    _, found = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    text = ENCODE(found)
    for module, word in _MODULES.items():
        text = text.replace(f"allod.gateway.surfaces.{module}.".encode(), word.encode())
    schemas: dict[str, Any] = msgspec.json.decode(text)
    extensions = schemas.pop("Extensions")["properties"]
    for name, passed_on in (
        ("ChatRequest", chat_request.EXTENSIONS),
        ("ResponsesRequest", responses_request.PASSED_ON),
    ):
        schemas[name]["properties"] |= {key: extensions[key] for key in sorted(passed_on)}
    for name in ("ChatRequest", "ResponsesRequest", "MessagesRequest", "CountRequest"):
        schemas[name]["additionalProperties"] = False
    schemas["MessagesRequest"]["properties"] |= {key: {} for key in sorted(messages_request.NOT_APPLIED)}
    schemas["CallerMetadata"]["additionalProperties"] = False
    schemas["CallerMetadata"]["patternProperties"] = {"^[Aa]llod-": {"type": "string"}}
    _items(schemas["ResponsesRequest"]["properties"])
    _inputs(schemas["EmbeddingsRequest"]["properties"])
    return schemas


def _items(properties: dict[str, Any]) -> None:
    names = ("MessageItem", "CallItem", "CallOutputItem", "ReasoningItem")
    items = {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in names]}
    properties["input"] = {"anyOf": [{"type": "string"}, {"type": "array", "items": items, "minItems": 1}]}


def _inputs(properties: dict[str, Any]) -> None:
    token = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
    tokens = {"type": "array", "items": token, "minItems": 1}
    text = {"type": "string", "minLength": 1}
    many = [
        {"type": "array", "items": each, "minItems": 1, "maxItems": embeddings.MAX_INPUTS}
        for each in (text, token, tokens)
    ]
    properties["input"] = {"anyOf": [text, *many]}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def _list_of(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


def _answers() -> dict[str, Any]:
    text, whole, thing = {"type": "string"}, {"type": "integer"}, {"type": "object"}
    named = {"type": ["string", "null"]}
    choice = _object({"index": whole, "message": thing, "finish_reason": text})
    model = _object({"id": text}, {"object": text, "created": whole, "owned_by": text, "type": text})
    return {
        "ChatCompletion": _object(
            {"id": text, "object": {"const": "chat.completion"}, "choices": _list_of(choice)},
            {"created": whole, "model": text, "usage": {"type": ["object", "null"]}},
        ),
        "Response": _object(
            {
                "id": text,
                "object": {"const": "response"},
                "created_at": whole,
                "status": {
                    "enum": ["completed", "incomplete", "queued", "in_progress", "failed", "cancelled"]
                },
                "model": text,
                "output": _list_of(thing),
                "store": {"type": "boolean"},
                "usage": {"type": ["object", "null"]},
            }
        ),
        "Deleted": _object({"id": text, "object": {"const": "response"}, "deleted": {"const": True}}),
        "AnthropicMessage": _object(
            {
                "id": text,
                "type": {"const": "message"},
                "role": {"const": "assistant"},
                "model": text,
                "content": _list_of(thing),
                "stop_reason": text,
                "usage": thing,
            },
            {"stop_sequence": named},
        ),
        "TokenCount": _object({"input_tokens": {"type": "integer", "minimum": 0}}),
        "EmbeddingList": _object(
            {
                "object": {"const": "list"},
                "data": _list_of(_object({"index": whole, "embedding": {"type": ["array", "string"]}})),
                "model": text,
                "usage": thing,
            }
        ),
        "Model": model,
        "ModelList": _object({"data": _list_of({"$ref": "#/components/schemas/Model"})}),
        "Receipt": _object({"id": text, "status": text, "intent": thing, "terminal": {}}),
        "State": _object({"status": text}),
    }


def _errors() -> dict[str, Any]:
    text, named = {"type": "string"}, {"type": ["string", "null"]}
    keys = ("id", "law", "got", "required", "source", "remedy")
    excluded = _object({"deployment": text, "rules": _list_of(_object(dict.fromkeys(keys, text)))})
    nearest = _object({"deployment": text, "change": text})
    allod = _object({"receipt": named}, {"excluded": _list_of(excluded), "nearest": _list_of(nearest)})
    openai = _object({"message": text, "type": text, "param": named, "code": named}, {"allod": allod})
    anthropic = _object({"type": text, "message": text}, {"allod": allod})
    return {
        "Error": _object({"error": openai}),
        "MessagesError": _object({"type": {"const": "error"}, "error": anthropic, "request_id": named}),
    }
