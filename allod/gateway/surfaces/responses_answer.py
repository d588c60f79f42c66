"""A ``Response`` object and its output items, with every field OpenAI's SDK and Open Responses require."""

from __future__ import annotations

from typing import Any

import msgspec

from allod.domain.chat import Finish
from allod.gateway.surfaces import answers
from allod.gateway.surfaces import responses_request as wire


class ResponsesEcho(msgspec.Struct, frozen=True, kw_only=True):
    """What the answer repeats of the request: ``fields`` in the words of the ``Response`` object.

    ``summary``: whether a reasoning summary was asked for; then the reasoning an operator shows goes there.
    """

    fields: dict[str, Any]
    summary: bool


def echo_of(typed: wire.ResponsesRequest, body: dict[str, Any]) -> ResponsesEcho:
    """Collect what the answer repeats; only what waits is stored, whatever ``store`` says."""
    reasoning = typed.reasoning or wire.Reasoning()
    summary = reasoning.summary or reasoning.generate_summary
    text = dict(body.get("text") or {})
    text["format"] = text.get("format") or {"type": "text"}
    fields = {
        "instructions": typed.instructions,
        "max_output_tokens": typed.max_output_tokens,
        "max_tool_calls": typed.max_tool_calls,
        "parallel_tool_calls": typed.parallel_tool_calls is not False,
        "previous_response_id": None,
        "prompt_cache_key": typed.prompt_cache_key,
        "reasoning": {"effort": reasoning.effort, "summary": summary},
        "safety_identifier": typed.safety_identifier,
        "service_tier": "default",
        "store": typed.background is True,
        "background": typed.background is True,
        "temperature": 1.0 if typed.temperature is None else typed.temperature,
        "text": {key: value for key, value in text.items() if value is not None},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": [_echoed_tool(tool) for tool in typed.tools or ()],
        "top_logprobs": typed.top_logprobs or 0,
        "top_p": 1.0 if typed.top_p is None else typed.top_p,
        "presence_penalty": typed.presence_penalty or 0.0,
        "frequency_penalty": typed.frequency_penalty or 0.0,
        "truncation": "disabled",
        "metadata": typed.metadata or {},
    }
    if typed.user is not None:
        fields["user"] = typed.user
    return ResponsesEcho(fields=fields, summary=summary is not None)


def _echoed_tool(tool: wire.FunctionTool) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }


def response_object(
    echo: ResponsesEcho,
    *,
    core: str,
    created_s: int,
    model: str,
    status: str,
    output: list[dict[str, Any]],
    usage: dict[str, Any] | None,
    incomplete: str | None = None,
    error: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Build a ``Response``; ``completed_at`` is null because one clock reading serves a request."""
    return {
        "id": f"resp_{core}",
        "object": "response",
        "created_at": created_s,
        "completed_at": None,
        "status": status,
        "error": error,
        "incomplete_details": None if incomplete is None else {"reason": incomplete},
        "model": model,
        "output": output,
        "usage": usage,
        **echo.fields,
    }


def outcome(finish: Finish | str | None) -> tuple[str, str | None]:
    """Return status and the reason of an incomplete answer."""
    if finish == "length":
        return "incomplete", "max_output_tokens"
    if finish == "content_filter":
        return "incomplete", "content_filter"
    return "completed", None


def reasoning_item(core: str, index: int, text: str, *, summary: bool, status: str | None) -> dict[str, Any]:
    """Build a reasoning item: as a summary when one was asked for, else as the text itself."""
    item: dict[str, Any] = {"id": f"rs_{core}_{index}", "type": "reasoning", "summary": []}
    if summary:
        item["summary"] = [{"type": "summary_text", "text": text}] if text else []
    else:
        item["content"] = [{"type": "reasoning_text", "text": text}] if text else []
    if status is not None:
        item["status"] = status
    return item


def message_item(core: str, index: int, parts: list[dict[str, Any]], status: str) -> dict[str, Any]:
    """Build a message item."""
    return {
        "id": f"msg_{core}_{index}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": parts,
    }


def text_part(text: str, logprobs: list[Any] | None = None) -> dict[str, Any]:
    """Build an ``output_text`` part."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs or []}


def call_item(
    core: str, index: int, *, call_id: str | None, name: str, arguments: str, status: str
) -> dict[str, Any]:
    """Build a function call item."""
    return {
        "id": f"fc_{core}_{index}",
        "type": "function_call",
        "status": status,
        "call_id": call_id or f"call_{core}_{index}",
        "name": name,
        "arguments": arguments,
    }


def output_of(choice: dict[str, Any], *, core: str, echo: ResponsesEcho, status: str) -> list[dict[str, Any]]:
    """Write the output items of a neutral choice: reasoning, message, calls.

    Raises:
        Unavailable: a tool call without a name.

    """
    message = choice["message"]
    output: list[dict[str, Any]] = []
    reasoning = answers.reasoning_of(message)
    if reasoning:
        output.append(reasoning_item(core, 0, reasoning, summary=echo.summary, status="completed"))
    text, refusal = answers.text_of(message), answers.refusal_of(message)
    parts = [text_part(text, logprobs_of(choice.get("logprobs")))] if text else []
    if refusal:
        parts.append({"type": "refusal", "refusal": refusal})
    calls = answers.calls_of(message)
    if parts or not calls:
        output.append(message_item(core, len(output), parts or [text_part("")], status))
    for call in calls:
        output.append(
            call_item(
                core, len(output), call_id=call.id, name=call.name, arguments=call.arguments, status=status
            )
        )
    return output


def logprobs_of(logprobs: object) -> list[Any]:
    """Return the token entries of a choice's log probabilities in the Responses form."""
    entries = logprobs.get("content") if isinstance(logprobs, dict) else None
    return (
        [_logprob(entry) for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    )


def _logprob(entry: dict[str, Any]) -> dict[str, Any]:
    tops = entry.get("top_logprobs")
    return {
        **_token(entry),
        "top_logprobs": [_token(top) for top in tops if isinstance(top, dict)]
        if isinstance(tops, list)
        else [],
    }


def _token(entry: dict[str, Any]) -> dict[str, Any]:
    token, logprob, spelled = entry.get("token"), entry.get("logprob"), entry.get("bytes")
    return {
        "token": token if isinstance(token, str) else "",
        "logprob": logprob if isinstance(logprob, int | float) else 0.0,
        "bytes": spelled if isinstance(spelled, list) else [],
    }
