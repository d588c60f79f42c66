"""SIMULATOR of the Anthropic Messages API.

Written from the provider's API reference "Messages", "Streaming messages", "Errors" and the pages "Tool use",
"Thinking", "Structured outputs" and "Token counting" (November 2026). It refuses what those pages say is
refused, which is what makes it useful: roles that do not alternate in meaning, results without calls, empty
texts, thinking with a forced tool, sampling where there is none.
"""

from __future__ import annotations

import json
import re
from typing import Any

from simulators.mind import CONTEXT_TOKENS, Thought, think, words_of
from simulators.server import Ask, Reply, Simulator, json_reply, sse, stream_reply

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
FIELDS = {
    "model", "messages", "max_tokens", "stream", "system", "tools", "tool_choice", "thinking",
    "output_config",
    "temperature", "top_p", "top_k", "stop_sequences", "metadata", "cache_control", "service_tier",
}  # fmt: skip
KEY = "sk-simulated"


class BadRequest(Exception):
    """The request breaks a documented rule."""


class AnthropicSimulator(Simulator):
    """Models whose name holds ``4-5`` take thinking budgets, others are adaptive; ``4-6`` still samples."""

    documentation = "Anthropic API reference: Messages, Streaming messages, Errors"

    def answer(self, ask: Ask) -> Reply:
        """Answer ``/v1/messages`` and ``/v1/messages/count_tokens``."""
        if ask.headers.get("x-api-key") != KEY:
            return error(401, "authentication_error", "invalid x-api-key")
        if ask.path not in ("/v1/messages", "/v1/messages/count_tokens"):
            return error(404, "not_found_error", "Not found")
        body = ask.json
        counts = ask.path.endswith("count_tokens")
        try:
            demand(
                ask.headers.get("anthropic-version") == "2023-06-01", "anthropic-version: header is required"
            )
            check(body, counts=counts)
        except BadRequest as broken:
            return error(400, "invalid_request_error", str(broken))
        if counts:
            return json_reply({"input_tokens": len(said(body).split())})
        return self._answer(body)

    def _answer(self, body: dict[str, Any]) -> Reply:
        thought = mind(body)
        if thought.input_tokens > CONTEXT_TOKENS:
            told = f"prompt is too long: {thought.input_tokens} tokens > {CONTEXT_TOKENS} maximum"
            return error(400, "invalid_request_error", told)
        content, stop = blocks(thought)
        if body.get("stream"):
            return stream_reply(list(events(body["model"], content, stop, usage(thought))))
        return json_reply(message(body["model"], content, stop, usage(thought)))


def error(status: int, kind: str, told: str) -> Reply:
    """An error answer."""
    return json_reply(
        {"type": "error", "error": {"type": kind, "message": told}, "request_id": "req_sim"}, status
    )


def said(body: dict[str, Any]) -> str:
    """The last user text."""
    content = body["messages"][-1]["content"]
    if isinstance(content, str):
        return content
    parts = [b.get("text") or b.get("content") or "" for b in content]
    return " ".join(
        p if isinstance(p, str) else " ".join(x.get("text", "") for x in p) for p in parts
    ).strip()


def mind(body: dict[str, Any]) -> Thought:
    """Let the simulated model think."""
    choice = body.get("tool_choice") or {}
    tools = {tool["name"]: tool["input_schema"] for tool in body.get("tools", [])}
    fmt = (body.get("output_config") or {}).get("format")
    return think(
        said(body),
        reasons=body.get("thinking", {}).get("type") in ("enabled", "adaptive"),
        tools=tools if choice.get("type") != "none" else None,
        forced=choice.get("type") == "any",
        only=choice.get("name"),
        schema=fmt["schema"] if fmt else None,
        limit=body["max_tokens"],
        extra_tokens=len(json.dumps(body.get("system", ""))) // 8,
    )


def usage(thought: Thought) -> dict[str, Any]:
    """A usage block: twelve tokens from the cache, three written to it."""
    return {
        "input_tokens": thought.input_tokens,
        "cache_read_input_tokens": 12,
        "cache_creation_input_tokens": 3,
        "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 2},
        "output_tokens": thought.output_tokens + thought.reasoning_tokens,
        "output_tokens_details": {"thinking_tokens": thought.reasoning_tokens},
        "service_tier": "standard",
    }


def blocks(thought: Thought) -> tuple[list[dict[str, Any]], str]:
    """Content blocks and the stop reason."""
    out: list[dict[str, Any]] = []
    if thought.reasoning:
        out.append({"type": "thinking", "thinking": thought.reasoning, "signature": "c2ln"})
    if thought.text:
        out.append({"type": "text", "text": thought.text})
    for number, (name, given) in enumerate(thought.calls):
        out.append({"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": given})
    return out, "tool_use" if thought.calls else "max_tokens" if thought.cut else "end_turn"


def message(
    model: str, content: list[dict[str, Any]], stop: str | None, used: dict[str, Any]
) -> dict[str, Any]:
    """A message object."""
    return {
        "id": "msg_sim", "type": "message", "role": "assistant", "model": model, "content": content,
        "stop_reason": stop, "stop_sequence": None, "usage": used,
    }  # fmt: skip


def events(model: str, content: list[dict[str, Any]], stop: str, used: dict[str, Any]) -> Any:
    """The events of a stream: ping after the start, signature before a thinking block's end."""
    first = {**used, "output_tokens": 1}
    del first["output_tokens_details"]
    yield sse({"type": "message_start", "message": message(model, [], None, first)}, "message_start")
    yield sse({"type": "ping"}, "ping")
    for index, block in enumerate(content):
        empty = {"text": "", "thinking": "", "input": {}, "signature": ""}
        start = {key: empty.get(key, value) for key, value in block.items()}
        yield _event("content_block_start", index=index, content_block=start)
        for delta in _deltas(block):
            yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    last = {"output_tokens": used["output_tokens"], "output_tokens_details": used["output_tokens_details"]}
    yield _event("message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage=last)
    yield _event("message_stop")


def _event(kind: str, **fields: Any) -> bytes:
    return sse({"type": kind, **fields}, kind)


def _deltas(block: dict[str, Any]) -> list[dict[str, Any]]:
    if block["type"] == "text":
        return [{"type": "text_delta", "text": word} for word in words_of(block["text"])]
    if block["type"] == "thinking":
        pieces = [{"type": "thinking_delta", "thinking": word} for word in words_of(block["thinking"])]
        return [*pieces, {"type": "signature_delta", "signature": block["signature"]}]
    text = json.dumps(block["input"])
    return [{"type": "input_json_delta", "partial_json": piece} for piece in ("", text[:3], text[3:])]


def check(body: dict[str, Any], *, counts: bool = False) -> None:
    """Hold a request against the documented rules (raises ``BadRequest``)."""
    for key in body:
        demand(key in FIELDS, f"{key}: Extra inputs are not permitted")
    demand(counts or isinstance(body.get("max_tokens"), int), "max_tokens: Field required")
    messages = body.get("messages")
    demand(isinstance(messages, list) and messages, "messages: at least one message is required")
    assert isinstance(messages, list)
    demand(messages[0]["role"] == "user", "messages: first message must use the user role")
    seen: set[str] = set()
    waiting: list[str] = []
    for position, entry in enumerate(messages):
        role, content = entry["role"], entry["content"]
        demand(role in ("user", "assistant"), f"messages.{position}.role")
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        demand(content, f"messages.{position}: content must not be empty")
        results = [b["tool_use_id"] for b in content if b["type"] == "tool_result"]
        lead = [b["type"] for b in content[: len(results)]]
        demand(set(lead) <= {"tool_result"}, f"messages.{position}: tool_result blocks must come first")
        demand(sorted(results) == sorted(waiting), f"messages.{position}: tool_use without tool_result")
        demand(role == "user" or not results, f"messages.{position}: results are the user's")
        waiting = [b["id"] for b in content if b["type"] == "tool_use"]
        demand(role == "assistant" or not waiting, f"messages.{position}: tool_use is the assistant's")
        for call in waiting:
            demand(
                ID.fullmatch(call) and call not in seen, f"messages.{position}: tool_use ids must be unique"
            )
            seen.add(call)
        for block in content:
            check_block(block, position)
    demand(not waiting, "the last tool_use has no result")
    check_thinking(body)
    check_schema(body)


def check_block(block: dict[str, Any], position: int) -> None:
    """Hold one content block against the rules."""
    kind = block["type"]
    if kind == "text":
        demand(block["text"].strip(), f"messages.{position}: text content blocks must be non-empty")
    elif kind == "image":
        source = block["source"]
        demand(source["type"] in ("base64", "url"), "image source")
        types = ("image/png", "image/jpeg", "image/gif", "image/webp")
        demand(source["type"] == "url" or source["media_type"] in types, "media_type")
    elif kind == "tool_result":
        for inner in block.get("content", []):
            check_block(inner, position)
    else:
        demand(kind in ("tool_use", "thinking", "redacted_thinking"), f"messages.{position}: {kind}")


def check_thinking(body: dict[str, Any]) -> None:
    """Hold depth and sampling against the rules of the model's generation."""
    budget_model = "4-5" in body["model"]
    thinking = body.get("thinking")
    demand(isinstance(thinking, dict), "the simulator wants thinking to be said explicitly")
    assert isinstance(thinking, dict)
    on = thinking["type"] != "disabled"
    if on:
        demand(
            thinking["type"] == ("enabled" if budget_model else "adaptive"), "thinking.type is not supported"
        )
        forced = (body.get("tool_choice") or {}).get("type") in ("any", "tool")
        demand(not forced, "Thinking may not be enabled when tool_choice forces tool use.")
    if thinking["type"] == "enabled":
        demand(
            1024 <= thinking["budget_tokens"] < body["max_tokens"], "max_tokens must be greater than budget"
        )
    sampled = {"temperature", "top_k", "top_p"} & set(body)
    samples = budget_model or "4-6" in body["model"]
    demand(samples or not sampled, "sampling parameters are not supported on this model")
    demand(not on or not sampled - {"top_p"}, "temperature may only be set to 1 when thinking is enabled")
    demand(not {"temperature", "top_p"} <= set(body), "temperature and top_p cannot both be specified")


def check_schema(body: dict[str, Any]) -> None:
    """Hold a structured-output schema against the documented limits."""
    fmt = (body.get("output_config") or {}).get("format")
    if fmt is None:
        return

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            demand(
                not {"minimum", "maximum", "minLength", "maxLength", "pattern"} & set(node),
                "unsupported keyword",
            )
            demand(
                node.get("type") != "object" or node.get("additionalProperties") is False,
                "additionalProperties",
            )
            for inner in node.values():
                walk(inner)
        elif isinstance(node, list):
            for inner in node:
                walk(inner)

    walk(fmt["schema"])


def demand(held: object, told: str) -> None:
    """Raise ``BadRequest`` unless the rule holds."""
    if not held:
        raise BadRequest(told)
