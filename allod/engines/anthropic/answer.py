"""Whole answers, error objects and stop reasons of the Messages API, into the neutral form. Pure.

Sources: the provider's API reference "Messages", "Errors" and "Stop reasons", November 2026.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from allod.domain.chat import Event, Finish, Finished, UsageReport, Whole
from allod.engines import neutral
from allod.engines.contract import EngineFault, FaultKind
from allod.engines.wire_faults import error_object, fault_from_error
from allod.metering.usage import openai_block, usage_from_anthropic

FINISH: Final[dict[str, Finish]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",
    "refusal": "content_filter",
}
"""``pause_turn`` is a turn cut in the middle, to be continued: it must not look whole."""

_KIND_OF_TYPE: Final[dict[str, FaultKind]] = {
    "overloaded_error": "overloaded",
    "rate_limit_error": "rate",
    "timeout_error": "timeout",
    "gateway_timeout_error": "timeout",
    "authentication_error": "auth",
    "permission_error": "auth",
    "billing_error": "auth",
    "invalid_request_error": "request",
    "not_found_error": "request",
    "request_too_large": "too_long",
}

_BLOCKS: Final = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})
_TOO_LONG: Final = re.compile(r"exceeds? (?:the )?context limit|prompt is too long", re.IGNORECASE)


def fault_of_error(error: object) -> EngineFault:
    """Make the fault of an ``error`` object that came with status 200, or in the middle of a stream."""
    found = fault_from_error(error)
    kind = error.get("type") if isinstance(error, dict) else None
    if found.kind == "server" and isinstance(kind, str) and kind in _KIND_OF_TYPE:
        return EngineFault(_KIND_OF_TYPE[kind], found.detail, status=found.status)
    return found


def too_long(fault: EngineFault, body: bytes) -> EngineFault:
    """Refine the fault of an error answer: this API has words of its own for a full context."""
    error = error_object(body) if fault.kind == "request" else None
    told = error.get("message") if error is not None else None
    if isinstance(told, str) and _TOO_LONG.search(told[:4096]):
        return EngineFault("too_long", fault.detail, status=fault.status)
    return fault


def malformed(detail: str) -> EngineFault:
    """Build the fault of an answer that is not the protocol."""
    return EngineFault("malformed", detail)


def decode_message(raw: bytes) -> dict[str, Any]:
    """Decode a whole answer and check that it is a message.

    Raises:
        EngineFault: ``malformed``, or the fault an error object stands for.

    """
    try:
        message = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise malformed("the answer is not JSON") from error
    if isinstance(message, dict) and (message.get("type") == "error" or "error" in message):
        raise fault_of_error(message.get("error"))
    if not isinstance(message, dict) or message.get("type") != "message":
        raise malformed("the answer is not a message")
    if not isinstance(message.get("content"), list):
        raise malformed("the message has no list of content")
    if not isinstance(message.get("stop_reason"), str):
        raise EngineFault("truncated", "the message has no stop reason")
    return message


def events_of(raw: bytes, *, native: bool, answer_tool: str | None, created: int) -> list[Event]:
    """Turn a whole answer into its events: ``Whole``, ``UsageReport`` where it is sound, ``Finished``.

    Raises:
        EngineFault: ``malformed``, ``truncated``, or what an error object stands for.

    """
    message = decode_message(raw)
    block, report = _usage(message.get("usage"))
    model = message.get("model")
    name = model if isinstance(model, str) else None
    if native:
        finish = FINISH.get(message["stop_reason"], "length")
        whole = Whole(raw=raw, dialect="anthropic", finish=finish)
    else:
        body, finish = completion_of(message, answer_tool=answer_tool, created=created, usage=block)
        whole = Whole(body=body, finish=finish)
    return [whole, *([report] if report else ()), Finished(model=name)]


def completion_of(
    message: dict[str, Any], *, answer_tool: str | None, created: int, usage: dict[str, Any] | None
) -> tuple[dict[str, Any], Finish]:
    """Translate a message into a ``chat.completion`` object and its finish (raises ``EngineFault``)."""
    finish = FINISH.get(message["stop_reason"])
    if finish is None:
        raise malformed("an unknown stop reason")
    out, finish = _message_of(message["content"], finish, answer_tool)
    if finish == "content_filter":
        out["refusal"] = _refusal(message)
    answer_id, model = message.get("id"), message.get("model")
    return (
        neutral.completion(
            answer_id=answer_id if isinstance(answer_id, str) else "msg",
            model=model if isinstance(model, str) else "",
            created=created,
            message=out,
            finish=finish,
            usage=usage,
        ),
        finish,
    )


def _message_of(content: list[Any], finish: Finish, answer_tool: str | None) -> tuple[dict[str, Any], Finish]:
    blocks = [block if isinstance(block, dict) else {} for block in content]
    if any(block.get("type") not in _BLOCKS for block in blocks):
        raise malformed("a content block of an unknown type")
    text = "".join(_text(block, "text") for block in blocks if block["type"] == "text")
    signed = [block for block in blocks if block["type"] in ("thinking", "redacted_thinking")]
    reasoning = "".join(_text(block, "thinking") for block in signed if block["type"] == "thinking")
    used = [block for block in blocks if block["type"] == "tool_use"]
    answers = [block for block in used if answer_tool is not None and block.get("name") == answer_tool]
    calls = [_call(block) for block in used if block not in answers]
    if answers:
        text = msgspec.json.encode(answers[0].get("input") or {}).decode()
        finish = "stop" if finish == "tool_calls" and not calls else finish
    out = neutral.assistant_message(text, reasoning, None, calls)
    if signed:
        out["thinking_blocks"] = signed
    return out, finish


def report_of(block: dict[str, Any]) -> UsageReport | None:
    """Report usage, or None where the block is missing or contradicts itself (then metering counts)."""
    try:
        return UsageReport(usage=usage_from_anthropic(block), block=block, dialect="anthropic")
    except ValueError:
        return None


def _usage(block: object) -> tuple[dict[str, Any] | None, UsageReport | None]:
    report = report_of(block) if isinstance(block, dict) else None
    return (openai_block(report.usage), report) if report else (None, None)


def _text(block: dict[str, Any], key: str) -> str:
    text = block.get(key)
    if not isinstance(text, str):
        raise malformed(f"a {key} block without {key}")
    return text


def _call(block: dict[str, Any]) -> dict[str, Any]:
    call_id, name, given = block.get("id"), block.get("name"), block.get("input")
    if not isinstance(call_id, str) or not isinstance(name, str) or not isinstance(given, dict):
        raise malformed("a tool_use block without id, name or input")
    return neutral.tool_call(call_id, name, given)


def _refusal(message: dict[str, Any]) -> str | None:
    details = message.get("stop_details")
    told = details.get("explanation") if isinstance(details, dict) else None
    return told if isinstance(told, str) and told else None
