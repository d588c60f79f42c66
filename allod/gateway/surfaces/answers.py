"""Reading a neutral answer that another dialect is written from, whatever the operator put into it."""

from __future__ import annotations

from typing import Any

import msgspec

from allod.domain.chat import Finish, Whole
from allod.domain.errors import Unavailable


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call as an operator gave it; ``arguments`` is JSON text, or what should have been."""

    id: str | None
    name: str
    arguments: str


def neutral_body(answer: Whole) -> dict[str, Any]:
    """Return the ``chat.completion`` object of an answer, decoding its bytes when only they came.

    Raises:
        Unavailable: the bytes are no such object, or of a dialect nobody asked for.

    """
    if answer.body is not None:
        return answer.body
    if answer.raw is None or answer.dialect != "openai":
        raise unreadable("is not in a form this surface can give")
    try:
        body = msgspec.json.decode(answer.raw)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise unreadable("is not a JSON object")
    return body


def choices_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the choices, at least one, each an object with a ``message`` object.

    Raises:
        Unavailable: the operator's answer has none.

    """
    choices = body.get("choices")
    if isinstance(choices, list) and choices:
        found = [
            choice
            for choice in choices
            if isinstance(choice, dict) and isinstance(choice.get("message"), dict)
        ]
        if len(found) == len(choices):
            return found
    raise unreadable("has no choice with a message")


def finish_of(choice: dict[str, Any], answer: Whole) -> Finish | None:
    """Return why a choice ended, or None when nobody said so in a known word."""
    given = choice.get("finish_reason")
    if given in ("stop", "length", "tool_calls", "content_filter"):
        known: Finish = given
        return known
    return answer.finish


def text_of(message: dict[str, Any]) -> str:
    """Return the text of a message, of which some operators make parts."""
    content = message.get("content")
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def refusal_of(message: dict[str, Any]) -> str:
    """Return the refusal of a message."""
    refusal = message.get("refusal")
    return refusal if isinstance(refusal, str) else ""


def reasoning_of(message: dict[str, Any]) -> str:
    """Return the reasoning an operator shows, under either of its names."""
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    return reasoning if isinstance(reasoning, str) else ""


def calls_of(message: dict[str, Any]) -> list[Call]:
    """Return the tool calls of a message.

    Raises:
        Unavailable: one without a name, or what is no call.

    """
    given = message.get("tool_calls") or []
    if not isinstance(given, list):
        raise unreadable("has tool calls that are no list")
    return [_call(call) for call in given]


def model_of(body: dict[str, Any], asked: str) -> str:
    """Return the name the operator answered with, else what was asked for."""
    model = body.get("model")
    return model if isinstance(model, str) and model else asked


def unreadable(how: str) -> Unavailable:
    """Return the error of an answer that cannot be passed on."""
    return Unavailable(f"The deployment's answer {how}.", kind="failed")


def _call(call: object) -> Call:
    function = call.get("function") if isinstance(call, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict) or not isinstance(name, str) or not name:
        raise unreadable("calls a tool without naming it")
    given, arguments = call.get("id"), function.get("arguments")
    if isinstance(arguments, dict):
        arguments = msgspec.json.encode(arguments).decode()
    if not isinstance(arguments, str | None):
        raise unreadable("calls a tool with arguments that are no text")
    return Call(
        id=given if isinstance(given, str) and given else None,
        name=name,
        arguments=arguments or "",
    )
