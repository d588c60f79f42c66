"""SIMULATOR of the Gemini API.

Written from the provider's API reference "Generating content", "Counting tokens", "Embeddings" and the pages
"Function calling", "Gemini thinking", "Thought signatures" and "Troubleshooting" (November 2026). It refuses
unknown fields (the real one does), tool calls that are not answered, missing thought signatures from series 3
on, and thinking settings of the wrong series.
"""

from __future__ import annotations

import json
from typing import Any

from simulators.mind import CONTEXT_TOKENS, Thought, think, words_of
from simulators.server import Ask, Reply, Simulator, json_reply, sse, stream_reply

KEY = "gemini-simulated"
FIELDS = {
    "contents",
    "systemInstruction",
    "tools",
    "toolConfig",
    "generationConfig",
    "safetySettings",
    "model",
}
CONFIG = {
    "maxOutputTokens", "temperature", "topP", "topK", "stopSequences", "thinkingConfig", "responseMimeType",
    "responseJsonSchema", "responseSchema", "presencePenalty", "seed", "frequencyPenalty",
}  # fmt: skip
SCHEMA = {
    "$id", "$defs", "$ref", "$anchor", "type", "format", "title", "description", "enum", "items",
    "prefixItems",
    "minItems", "maxItems", "minimum", "maximum", "anyOf", "oneOf", "properties", "additionalProperties",
    "required", "propertyOrdering",
}  # fmt: skip
UNSIGNED = "skip_thought_signature_validator"


class BadRequest(Exception):
    """The request breaks a documented rule."""


class GeminiSimulator(Simulator):
    """Models whose name holds ``-3`` are of series 3; ``-2.5`` takes budgets."""

    documentation = "Gemini API reference: Generating content, Counting tokens, Embeddings"

    def answer(self, ask: Ask) -> Reply:
        """Answer the four methods of a model."""
        if ask.headers.get("x-goog-api-key") != KEY:
            return error(403, "PERMISSION_DENIED", "Method doesn't allow unregistered callers")
        stem, _, action = ask.path.rpartition(":")
        if not stem.startswith("/v1beta/models/"):
            return error(404, "NOT_FOUND", "Not found")
        model, body = stem.removeprefix("/v1beta/models/"), ask.json
        try:
            return self._act(action, model, body, ask)
        except BadRequest as broken:
            return error(400, "INVALID_ARGUMENT", str(broken))

    def _act(self, action: str, model: str, body: dict[str, Any], ask: Ask) -> Reply:
        if action == "batchEmbedContents":
            rows = [{"values": [0.25, 0.5]} for _ in body["requests"]]
            return json_reply({"embeddings": rows})
        if action == "countTokens":
            inner = body["generateContentRequest"]
            demand(inner["model"] == f"models/{model}", "model")
            check(inner, model)
            return json_reply({"totalTokens": len(said(inner).split())})
        check(body, model)
        thought = mind(body)
        if thought.input_tokens > CONTEXT_TOKENS:
            told = (
                f"The input token count ({thought.input_tokens}) exceeds the maximum number allowed (1000)."
            )
            return error(400, "INVALID_ARGUMENT", told)
        if "forbidden words" in said(body):
            return json_reply(
                {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": usage(thought)}
            )
        if action == "streamGenerateContent":
            demand(ask.query.get("alt") == "sse", "alt")
            return stream_reply(list(pieces(thought, model)))
        return json_reply(answer(thought, model, parts(thought, model), last=True))


def error(status: int, kind: str, told: str, details: list[dict[str, Any]] | None = None) -> Reply:
    """An error answer."""
    body = {"error": {"code": status, "message": told, "status": kind, "details": details or []}}
    return json_reply(body, status)


def quota() -> Reply:
    """The quota error, which asks to wait in its body."""
    wait = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3.5s"}
    return error(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota", [wait])


def said(body: dict[str, Any]) -> str:
    """The last user text."""
    texts = []
    for part in body["contents"][-1]["parts"]:
        if "text" in part:
            texts.append(part["text"])
        if "functionResponse" in part:
            texts.append(part["functionResponse"]["response"]["result"])
    return " ".join(texts)


def mind(body: dict[str, Any]) -> Thought:
    """Let the simulated model think."""
    config = body["generationConfig"]
    thinking = config.get("thinkingConfig", {})
    calling = body.get("toolConfig", {}).get("functionCallingConfig", {})
    tools = {
        tool["name"]: tool.get("parametersJsonSchema", {"type": "object"})
        for group in body.get("tools", [])
        for tool in group["functionDeclarations"]
    }
    allowed = calling.get("allowedFunctionNames")
    wants_json = config.get("responseMimeType") == "application/json"
    return think(
        said(body),
        reasons=thinking.get("includeThoughts", False),
        tools=tools if calling.get("mode") != "NONE" else None,
        forced=calling.get("mode") == "ANY",
        only=allowed[0] if allowed else None,
        schema=config.get("responseJsonSchema", {"type": "object"}) if wants_json else None,
        limit=config["maxOutputTokens"],
    )


def usage(thought: Thought) -> dict[str, Any]:
    """``usageMetadata``: five of the prompt's tokens came from the cache; zero counts are absent."""
    out = {
        "promptTokenCount": thought.input_tokens + 5,
        "cachedContentTokenCount": 5,
        "candidatesTokenCount": thought.output_tokens,
        "thoughtsTokenCount": thought.reasoning_tokens,
    }
    total = out["promptTokenCount"] + thought.output_tokens + thought.reasoning_tokens
    return {**{key: value for key, value in out.items() if value}, "totalTokenCount": total}


def parts(thought: Thought, model: str) -> list[dict[str, Any]]:
    """The parts of the whole answer."""
    out: list[dict[str, Any]] = []
    if thought.reasoning:
        out.append({"text": thought.reasoning, "thought": True})
    if thought.text:
        out.append({"text": thought.text})
    for name, given in thought.calls:
        part: dict[str, Any] = {"functionCall": {"name": name, "args": given}}
        if "-3" in model:
            part["thoughtSignature"] = "c2lnbmVk"
        out.append(part)
    return out


def answer(thought: Thought, model: str, given: list[dict[str, Any]], *, last: bool) -> dict[str, Any]:
    """A ``GenerateContentResponse``."""
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": given}, "index": 0}
    if last:
        candidate["finishReason"] = "MAX_TOKENS" if thought.cut else "STOP"
    out = {"candidates": [candidate], "modelVersion": f"{model}-001", "responseId": "resp-sim"}
    return {**out, "usageMetadata": usage(thought)}


def pieces(thought: Thought, model: str) -> Any:
    """The pieces of a stream; the last one has an empty text and the finish reason."""
    for part in parts(thought, model):
        if "text" not in part:
            yield sse(answer(thought, model, [part], last=False))
            continue
        for word in words_of(part["text"]):
            yield sse(answer(thought, model, [{**part, "text": word}], last=False))
    yield sse(answer(thought, model, [{"text": ""}], last=True))


def check(body: dict[str, Any], model: str) -> None:
    """Hold a request against the documented rules (raises ``BadRequest``)."""
    for key in body:
        demand(key in FIELDS, f'Invalid JSON payload received. Unknown name "{key}"')
    config = body["generationConfig"]
    for key in config:
        demand(key in CONFIG, f'Invalid JSON payload received. Unknown name "{key}"')
    contents = body["contents"]
    demand(contents and contents[0]["role"] == "user", "Please ensure that the first turn is the user's")
    waiting: list[str] = []
    for position, content in enumerate(contents):
        demand(content["parts"], "contents.parts must not be empty")
        demand(
            position == 0 or contents[position - 1]["role"] != content["role"], "multiturn requests alternate"
        )
        results = [p["functionResponse"]["name"] for p in content["parts"] if "functionResponse" in p]
        demand(sorted(results) == sorted(waiting), "number of function response parts equals function calls")
        calls = [p for p in content["parts"] if "functionCall" in p]
        waiting = [p["functionCall"]["name"] for p in calls]
        demand(content["role"] == "model" or not calls, "function calls are the model's")
        if calls and "-3" in model:
            demand(calls[0].get("thoughtSignature"), "Function call is missing a thought_signature")
        for part in content["parts"]:
            demand(
                "text" not in part or part["text"].strip(),
                "Unable to submit request because it has an empty text",
            )
            if "functionResponse" in part:
                demand(isinstance(part["functionResponse"]["response"], dict), "response")
    demand(not waiting, "the last function call has no response")
    check_thinking(config, model)
    both = body.get("tools") and config.get("responseMimeType") == "application/json"
    demand("-3" in model or not both, "Function calling with a response mime type is unsupported")
    for group in body.get("tools", []):
        for tool in group["functionDeclarations"]:
            check_schema(tool.get("parametersJsonSchema", {}))
    check_schema(config.get("responseJsonSchema", {}))


def check_thinking(config: dict[str, Any], model: str) -> None:
    """Hold ``thinkingConfig`` against the model's series."""
    thinking = config.get("thinkingConfig")
    if "-2.0" in model:
        demand(thinking is None, "Thinking is not enabled for this model")
        return
    demand(isinstance(thinking, dict), "the simulator wants thinking to be said explicitly")
    assert isinstance(thinking, dict)
    if "-3" in model:
        demand("thinkingBudget" not in thinking, "thinking_level and thinking_budget exclude each other")
        demand(thinking["thinkingLevel"] in ("minimal", "low", "medium", "high"), "thinking_level")
        demand(thinking["thinkingLevel"] != "minimal" or "pro" not in model, "minimal is not supported")
    else:
        least = 128 if "pro" in model else 0
        demand(least <= thinking["thinkingBudget"] <= 24_576, f"thinking budget {thinking} is invalid")


def check_schema(node: Any) -> None:
    """Refuse keywords outside the documented subset."""
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        demand(key in SCHEMA, f'Unknown name "{key}" at schema')
        if key in ("properties", "$defs"):
            for inner in value.values():
                check_schema(inner)
        elif key in ("items", "additionalProperties"):
            check_schema(value)
        elif key in ("anyOf", "prefixItems"):
            for inner in value:
                check_schema(inner)
    json.dumps(node)


def demand(held: object, told: str) -> None:
    """Raise ``BadRequest`` unless the rule holds."""
    if not held:
        raise BadRequest(told)
