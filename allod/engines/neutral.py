"""The neutral request, read strictly once, for drivers whose operator speaks another dialect.

The neutral form is the OpenAI chat-completions request. Its rules are kept as its own API keeps them: an
assistant's tool calls are answered by ``tool`` messages that follow at once and name each call exactly once.
What has no counterpart in the operator's dialect is a ``request`` fault raised before any byte leaves, never
a field dropped in silence; only hints that do not change what is asked for are left out (``HINTS``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from allod.engines.contract import EngineFault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

HINTS: Final = frozenset(
    {
        "model", "messages", "stream", "stream_options", "store", "seed", "user", "metadata", "service_tier",
        "prompt_cache_key", "prompt_cache_options",
        "prompt_cache_retention", "safety_identifier", "verbosity", "prediction",
        "reasoning_effort", "reasoning", "thinking", "max_tokens", "max_completion_tokens",
    }
)  # fmt: skip
"""Keys a translating driver may leave out or reads elsewhere: depth and limits come from the call itself."""

_DATA_URL: Final = re.compile(r"data:([a-z]+/[a-z0-9.+-]+);base64,([A-Za-z0-9+/]+={0,2})", re.IGNORECASE)


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of text that is more than white space."""

    text: str


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image: either an https ``url``, or ``data`` in base64 with its ``media_type``."""

    url: str | None = None
    media_type: str = ""
    data: str = ""


Part = Text | Image


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call the assistant made earlier; ``signature`` is Gemini's, when the caller kept it."""

    id: str
    name: str
    arguments: dict[str, Any]
    signature: str | None = None


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One message with something in it. ``answers`` is the call a ``tool`` turn answers.

    ``thinking`` holds signed thinking blocks an assistant message carried (``thinking_blocks``).
    """

    role: Literal["user", "assistant", "tool"]
    parts: tuple[Part, ...] = ()
    calls: tuple[Call, ...] = ()
    answers: Call | None = None
    thinking: tuple[dict[str, Any], ...] = ()


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """System texts in order, wherever they stood, and the turns that have content."""

    system: tuple[str, ...]
    turns: tuple[Turn, ...]


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function tool; ``parameters`` is its JSON Schema (an open object when none was given)."""

    name: str
    description: str | None
    parameters: dict[str, Any]
    strict: bool


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which tools may, must or must not be called; ``name`` only with ``kind`` ``tool``."""

    kind: Literal["auto", "none", "required", "tool"] = "auto"
    name: str | None = None


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The wanted form of the answer; ``schema`` only with ``kind`` ``json_schema``."""

    kind: Literal["text", "json_object", "json_schema"] = "text"
    schema: dict[str, Any] | None = None


def unfit(detail: str) -> EngineFault:
    """Build the fault of a request this dialect cannot carry; nothing was sent."""
    return EngineFault("request", detail, sent=False)


def demand_known(body: Mapping[str, Any], supported: Iterable[str], dialect: str) -> None:
    """Refuse keys that have no counterpart, and values that ask for what no dialect here gives.

    Raises:
        EngineFault: ``request``, not sent, naming the key (never its value).

    """
    known = HINTS.union(supported)
    for key, value in body.items():
        if key in known or key.lower().startswith("allod") or value in (None, [], {}) or value is False:
            continue
        if (key == "n" and value == 1) or (key in _PENALTIES and value == 0) or (key, value) == _TEXT_ONLY:
            continue
        raise unfit(f"{dialect} has no counterpart of {str(key)[:40]!r}")


_PENALTIES: Final = frozenset({"frequency_penalty", "presence_penalty", "top_logprobs"})
_TEXT_ONLY: Final = ("modalities", ["text"])


def conversation(body: Mapping[str, Any]) -> Conversation:
    """Read ``messages``.

    System and developer texts are lifted out. A conversation of nothing but system texts keeps the last one
    as the user's turn, because every dialect here demands one.

    Raises:
        EngineFault: ``request``, not sent: not the neutral form, or tool calls and answers that do not pair.

    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise unfit("messages is not a list with at least one message")
    system: list[str] = []
    turns: list[Turn] = []
    waiting: dict[str, Call] = {}
    for position, given in enumerate(messages):
        message = given if isinstance(given, dict) else {}
        role = message.get("role")
        if role == "tool":
            turns.append(_answer(message, waiting, position))
            continue
        if waiting:
            raise unfit(f"messages[{position}] comes before every tool call was answered")
        if role in ("system", "developer"):
            system.extend(_system(message, position))
            continue
        turn = _turn(role, message, position)
        waiting = {call.id: call for call in turn.calls}
        if len(waiting) != len(turn.calls):
            raise unfit(f"messages[{position}] has two tool calls of one id")
        if turn.parts or turn.calls:
            turns.append(turn)
    if waiting:
        raise unfit("the last tool calls are not answered")
    return _settled(system, turns)


def _settled(system: list[str], turns: list[Turn]) -> Conversation:
    if turns:
        return Conversation(system=tuple(system), turns=tuple(turns))
    if not system:
        raise unfit("no message has any content")
    alone = Turn(role="user", parts=(Text(text=system[-1]),))
    return Conversation(system=tuple(system[:-1]), turns=(alone,))


def tools(body: Mapping[str, Any]) -> tuple[Tool, ...]:
    """Read ``tools``, of which only those a ``tool_choice`` of kind ``allowed_tools`` allows are offered.

    Only function tools exist here (raises ``EngineFault`` ``request``, not sent).
    """
    given = body.get("tools") or []
    if not isinstance(given, list):
        raise unfit("tools is not a list")
    offered = tuple(_tool(entry, position) for position, entry in enumerate(given))
    allowed = _allowed(body.get("tool_choice"))
    if allowed is None:
        return offered
    entries = allowed.get("tools")
    names = (
        [_tool(entry, position).name for position, entry in enumerate(entries)]
        if isinstance(entries, list)
        else []
    )
    kept = tuple(tool for tool in offered if tool.name in names)
    if not kept:
        raise unfit("tool_choice allows no tool that is offered")
    return kept


def _allowed(choice: object) -> dict[str, Any] | None:
    inner = choice.get("allowed_tools") if isinstance(choice, dict) else None
    return inner if isinstance(inner, dict) and isinstance(choice, dict) else None


def choice(body: Mapping[str, Any], offered: tuple[Tool, ...]) -> Choice:
    """Read ``tool_choice`` (raises ``EngineFault`` ``request``, not sent)."""
    given = body.get("tool_choice")
    allowed = _allowed(given)
    if allowed is not None:
        given = allowed.get("mode", "auto")
    if given is None or given == "auto":
        return Choice()
    if given == "none":
        return Choice(kind="none")
    if given == "required":
        if not offered:
            raise unfit("tool_choice demands a tool and none is offered")
        return Choice(kind="required")
    function = given.get("function") if isinstance(given, dict) and given.get("type") == "function" else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or all(tool.name != name for tool in offered):
        raise unfit("tool_choice names no tool that is offered")
    return Choice(kind="tool", name=name)


def shape(body: Mapping[str, Any]) -> Shape:
    """Read ``response_format`` (raises ``EngineFault`` ``request``, not sent)."""
    given = body.get("response_format")
    if given is None:
        return Shape()
    kind = given.get("type") if isinstance(given, dict) else None
    if kind == "text":
        return Shape()
    if kind == "json_object":
        return Shape(kind="json_object")
    inner = given.get("json_schema") if kind == "json_schema" else None
    schema = inner.get("schema") if isinstance(inner, dict) else None
    if not isinstance(schema, dict):
        raise unfit("response_format is none of text, json_object and json_schema with a schema")
    return Shape(kind="json_schema", schema=schema)


def stops(body: Mapping[str, Any]) -> list[str]:
    """Read ``stop`` as a list; sequences of white space alone are refused by every dialect here."""
    given = body.get("stop")
    found = [given] if isinstance(given, str) else given or []
    if not isinstance(found, list) or not all(isinstance(entry, str) and entry.strip() for entry in found):
        raise unfit("stop is not a text or a list of texts")
    return found


def number(body: Mapping[str, Any], key: str, low: float, high: float) -> float | None:
    """Read a number and bring it into ``[low, high]``; None when it is absent."""
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 (NaN)
        raise unfit(f"{key} is not a number")
    return min(max(value, low), high)


def completion(
    *,
    answer_id: str,
    model: str,
    created: int,
    message: dict[str, Any],
    finish: str,
    usage: dict[str, Any] | None,
) -> dict[str, Any]:
    """Build the ``chat.completion`` object of one choice."""
    body: dict[str, Any] = {
        "id": answer_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
    }
    if usage is not None:
        body["usage"] = usage
    return body


def assistant_message(
    text: str, reasoning: str, refusal: str | None, calls: list[dict[str, Any]]
) -> dict[str, Any]:
    """Build the ``message`` of a choice; ``content`` is None when only tools speak."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text if text or not calls else None,
        "refusal": refusal,
    }
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = calls
    return message


def tool_call(call_id: str, name: str, arguments: object) -> dict[str, Any]:
    """Build one entry of ``tool_calls``; ``arguments`` is encoded as JSON text."""
    text = msgspec.json.encode(arguments).decode()
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}


def _system(message: dict[str, Any], position: int) -> Iterator[str]:
    for part in _parts(message.get("content"), position):
        if not isinstance(part, Text):
            raise unfit(f"messages[{position}]: a system message holds text only")
        yield part.text


def _is_text(part: Part) -> bool:
    return isinstance(part, Text)


def _turn(role: object, message: dict[str, Any], position: int) -> Turn:
    parts = tuple(_parts(message.get("content"), position))
    if role == "user":
        return Turn(role="user", parts=parts)
    if role != "assistant":
        raise unfit(f"messages[{position}].role is not one of system, developer, user, assistant and tool")
    if message.get("function_call") is not None:
        raise unfit(f"messages[{position}].function_call is of the old form; use tool_calls")
    if not all(_is_text(part) for part in parts):
        raise unfit(f"messages[{position}]: an assistant's message holds text only")
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise unfit(f"messages[{position}].tool_calls is not a list")
    return Turn(
        role="assistant",
        parts=parts,
        calls=tuple(_call(entry, position) for entry in calls),
        thinking=tuple(_signed(message.get("thinking_blocks"))),
    )


def _answer(message: dict[str, Any], waiting: dict[str, Call], position: int) -> Turn:
    answers = message.get("tool_call_id")
    if not isinstance(answers, str) or answers not in waiting:
        raise unfit(f"messages[{position}] answers no open tool call")
    return Turn(
        role="tool",
        parts=tuple(_parts(message.get("content"), position)),
        answers=waiting.pop(answers),
    )


def _call(entry: object, position: int) -> Call:
    function = entry.get("function") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(function, dict):
        raise unfit(f"messages[{position}].tool_calls holds what is not a function call")
    call_id, name = entry.get("id"), function.get("name")
    if not isinstance(call_id, str) or not isinstance(name, str) or not call_id or not name:
        raise unfit(f"messages[{position}].tool_calls has a call without id or name")
    return Call(
        id=call_id,
        name=name,
        arguments=_arguments(function.get("arguments"), position),
        signature=_signature(entry.get("extra_content")),
    )


def _arguments(given: object, position: int) -> dict[str, Any]:
    """Decode arguments; text that is no JSON object (a model wrote it) is kept whole under one key."""
    if given is None or given == "":
        return {}
    if not isinstance(given, str):
        raise unfit(f"messages[{position}].tool_calls: arguments is not a text")
    try:
        decoded = msgspec.json.decode(given)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return {"arguments": given}
    return decoded if isinstance(decoded, dict) else {"arguments": given}


def _signature(extra: object) -> str | None:
    google = extra.get("google") if isinstance(extra, dict) else None
    found = google.get("thought_signature") if isinstance(google, dict) else None
    return found if isinstance(found, str) and found else None


def _signed(blocks: object) -> Iterator[dict[str, Any]]:
    for block in blocks if isinstance(blocks, list) else []:
        if not isinstance(block, dict):
            continue
        if (
            block.get("type") == "thinking"
            and isinstance(block.get("thinking"), str)
            and block.get("signature")
        ):
            yield {"type": "thinking", "thinking": block["thinking"], "signature": block["signature"]}
        elif block.get("type") == "redacted_thinking" and isinstance(block.get("data"), str):
            yield {"type": "redacted_thinking", "data": block["data"]}


def _parts(content: object, position: int) -> Iterator[Part]:
    if content is None:
        return
    if isinstance(content, str):
        if content.strip():
            yield Text(text=content)
        return
    if not isinstance(content, list):
        raise unfit(f"messages[{position}].content is neither text nor a list of parts")
    for part in content:
        read = _part(part, position)
        if read is not None:
            yield read


def _part(part: object, position: int) -> Part | None:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or kind not in ("text", "refusal", "image_url"):
        raise unfit(f"messages[{position}] holds a part that is neither text nor image")
    if kind == "image_url":
        return _image(part.get("image_url"), position)
    text = part.get(kind)
    if not isinstance(text, str):
        raise unfit(f"messages[{position}] holds a text part without text")
    return Text(text=text) if text.strip() else None


def _image(given: object, position: int) -> Image:
    url = given.get("url") if isinstance(given, dict) else given
    if not isinstance(url, str):
        raise unfit(f"messages[{position}] holds an image without a URL")
    if url.startswith("https://"):
        return Image(url=url)
    found = _DATA_URL.fullmatch(url)
    if found is None:
        raise unfit(f"messages[{position}] holds an image that is neither an https nor a base64 data URL")
    return Image(media_type=found[1].lower(), data=found[2])


def _tool(entry: object, position: int) -> Tool:
    function = entry.get("function") if isinstance(entry, dict) and entry.get("type") == "function" else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str) or not name:
        raise unfit(f"tools[{position}] is not a function tool with a name")
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise unfit(f"tools[{position}].function.parameters is not a JSON Schema object")
    description = function.get("description")
    return Tool(
        name=name,
        description=description if isinstance(description, str) and description.strip() else None,
        parameters=parameters or {"type": "object", "properties": {}},
        strict=function.get("strict") is True,
    )
