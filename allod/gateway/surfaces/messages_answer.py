"""A whole answer as an Anthropic ``Message``."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from allod.domain.chat import Finish
from allod.domain.usage import Usage
from allod.gateway.surfaces import answers, tokens

_ID: Final = re.compile(r"[^a-zA-Z0-9_-]")
_STOP: Final[dict[str, str]] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


class MessagesEcho(msgspec.Struct, frozen=True, kw_only=True):
    """What the answer needs to know of the request.

    ``thinking``: whether the caller wants to see reasoning. ``stop_sequences``: to tell which one was met.
    """

    thinking: bool = False
    stop_sequences: tuple[str, ...] = ()


def message_object(
    core: str,
    model: str,
    *,
    content: list[dict[str, Any]],
    usage: Usage,
    reason: str | None,
    met: str | None = None,
) -> dict[str, Any]:
    """Build a ``Message`` with every required field; ``met`` is the stop sequence that ended it."""
    return {
        "id": f"msg_{core}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": met,
        "stop_details": None,
        "container": None,
        "usage": tokens.message_usage(usage),
    }


def stop_reason(finish: Finish | None, *, called: bool) -> str:
    """Return Anthropic's word for why an answer ended; some engines say ``stop`` after a tool call."""
    if called and finish in (None, "stop"):
        return "tool_use"
    return _STOP[finish or "stop"]


def tool_id(given: str | None, core: str, index: int) -> str:
    """Return a tool-use id in Anthropic's alphabet; an operator's own id comes back as it is written here."""
    return _ID.sub("_", given) if given else f"toolu_{core}_{index}"


def blocks_of(message: dict[str, Any], *, core: str, echo: MessagesEcho, cut: bool) -> list[dict[str, Any]]:
    """Write the blocks of a neutral message: thinking, text, tool calls.

    ``cut`` says that the output limit ended the answer: a call whose arguments were cut is then left out, as
    ``max_tokens`` tells the caller.

    Raises:
        Unavailable: a tool call without a name, or whose arguments are no JSON object.

    """
    blocks: list[dict[str, Any]] = []
    reasoning = answers.reasoning_of(message)
    if echo.thinking and reasoning:
        blocks.append({"type": "thinking", "thinking": reasoning, "signature": ""})
    blocks.extend(
        {"type": "text", "text": text, "citations": None}
        for text in (answers.text_of(message), answers.refusal_of(message))
        if text
    )
    for index, call in enumerate(answers.calls_of(message)):
        block = _tool_use(call, core, index, cut=cut)
        if block is not None:
            blocks.append(block)
    return blocks


def _tool_use(call: answers.Call, core: str, index: int, *, cut: bool) -> dict[str, Any] | None:
    try:
        given = msgspec.json.decode(call.arguments or "{}")
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        if cut:
            return None
        raise answers.unreadable("calls a tool with arguments that are no JSON object")
    return {
        "type": "tool_use",
        "id": tool_id(call.id, core, index),
        "name": call.name,
        "input": given,
        "caller": {"type": "direct"},
    }
