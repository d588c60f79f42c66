"""``/v1/chat/completions``: the neutral form itself, so bytes pass through where they can."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from allod.domain.chat import Finish, UsageReport, Whole
from allod.domain.errors import AllodError
from allod.gateway.surfaces import complaints, faults, sse, tokens
from allod.gateway.surfaces.answers import choices_of, neutral_body
from allod.gateway.surfaces.chat_request import (
    EXTENSIONS,
    FOREIGN_KINDS,
    KNOWN,
    NOT_SUPPORTED,
    VOCABULARY,
    AssistantMessage,
    ChatRequest,
    DeveloperMessage,
    Extensions,
    Message,
    NamedChoice,
    SystemMessage,
    UserMessage,
)
from allod.gateway.surfaces.chat_stream import ChatStream
from allod.gateway.surfaces.contract import Parsed, core_of
from allod.gateway.surfaces.decode import demand_shallow, json_object
from allod.gateway.surfaces.faults import Rejected
from allod.gateway.surfaces.labels import effort_of


class ChatEcho(msgspec.Struct, frozen=True, kw_only=True):
    """What the answer needs to know of the request: whether usage closes a stream."""

    include_usage: bool = False


_PLAIN: Final = ChatEcho()
_WITH_USAGE: Final = ChatEcho(include_usage=True)
_ASKING: Final = frozenset({SystemMessage, DeveloperMessage, UserMessage})


class ChatSurface:
    """OpenAI chat completions. Stateless; one instance serves all requests."""

    name: Final = "chat"

    def parse(self, raw: bytes) -> Parsed:
        """Validate as api.openai.com does (raises ``Rejected``); the body is passed on but for what we keep.

        ``metadata`` and ``store`` are taken out: labels are for admission, and no operator stores for us.
        """
        body = json_object(raw)
        extended = not EXTENSIONS.isdisjoint(body)
        try:
            typed = msgspec.convert(body, ChatRequest)
            if extended:
                msgspec.convert(body, Extensions)
        except msgspec.ValidationError as error:
            raise _complain(error, body) from None
        if not KNOWN.issuperset(body):
            _demand_known(body)
        if extended or typed.tools or typed.response_format is not None:
            demand_shallow(raw, body)
        stream = typed.stream is True
        _demand_sense(typed, stream)
        plain, answers = _shape(typed.messages)
        if answers:
            _demand_order(body["messages"])
        metadata = body.pop("metadata", None)
        body.pop("store", None)
        options = typed.stream_options
        return Parsed(
            surface="chat",
            model=typed.model,
            stream=stream,
            body=body,
            metadata=metadata,
            max_output_tokens=typed.max_completion_tokens or typed.max_tokens,
            effort=effort_of(typed.reasoning_effort),
            echo=_WITH_USAGE if options is not None and options.include_usage else _PLAIN,
            plain=plain,
        )

    def whole(
        self,
        parsed: Parsed,
        answer: Whole,
        report: UsageReport | None,
        *,
        receipt: str,
        created_s: int,
    ) -> bytes:
        """Pass the operator's bytes, or complete and encode the translated ``chat.completion``."""
        if answer.raw is not None and answer.dialect == "openai":
            return answer.raw
        body = dict(neutral_body(answer))
        body["choices"] = [_choice(choice, answer.finish) for choice in choices_of(body)]
        if not str(body.get("id", "")).startswith("chatcmpl-"):
            body["id"] = f"chatcmpl-{core_of(receipt)}"
        body["object"] = "chat.completion"
        body.setdefault("created", created_s)
        body.setdefault("model", parsed.model)
        if body.get("usage") is None:
            body.pop("usage", None)
            if report is not None:
                body["usage"] = tokens.chat_usage(report)
        return sse.ENCODE(body)

    def stream(self, parsed: Parsed, *, receipt: str, created_s: int) -> ChatStream:
        """Begin a stream of ``chat.completion.chunk`` events."""
        return ChatStream(
            answer_id=f"chatcmpl-{core_of(receipt)}",
            created_s=created_s,
            model=parsed.model,
            include_usage=parsed.echo.include_usage,
        )

    def error(self, error: AllodError, receipt: str | None) -> tuple[int, bytes]:
        """Return the status and OpenAI's ``{"error": ...}``."""
        return openai_rejection(error, receipt)


def openai_rejection(error: AllodError, receipt: str | None) -> tuple[int, bytes]:
    """Return the status and OpenAI's ``{"error": ...}`` as bytes."""
    status, inner = faults.openai_error(error, receipt)
    return status, sse.ENCODE({"error": inner})


def _choice(choice: dict[str, Any], finish: Finish | None) -> dict[str, Any]:
    message = {"role": "assistant", "content": None, "refusal": None, "annotations": [], **choice["message"]}
    return {
        "index": 0,
        "logprobs": None,
        **choice,
        "message": message,
        "finish_reason": choice.get("finish_reason")
        or finish
        or ("tool_calls" if message.get("tool_calls") else "stop"),
    }


def _complain(error: msgspec.ValidationError, body: dict[str, Any]) -> Rejected:
    complaint = complaints.read(error)
    foreign = complaints.foreign_kind(complaint, body, FOREIGN_KINDS)
    if foreign is not None:
        where = complaints.render_path(foreign[0])
        return Rejected(
            f"'{foreign[1]}' at '{where}' is not supported here.", kind="not_supported", param=where
        )
    _demand_known(body)
    return complaints.openai(complaint, VOCABULARY)


def _demand_known(body: dict[str, Any]) -> None:
    for key, value in body.items():
        if key in KNOWN:
            continue
        if key not in NOT_SUPPORTED:
            shown = key[:128]
            raise Rejected(f"Unknown parameter: '{shown}'.", param=shown, code="unknown_parameter")
        if value is not None:
            raise Rejected(
                f"'{key}' is not supported here.", "", NOT_SUPPORTED[key], kind="not_supported", param=key
            )
    for key in NOT_SUPPORTED:
        body.pop(key, None)


def _demand_sense(typed: ChatRequest, stream: bool) -> None:
    """Check what the types cannot say: members that only go together."""
    if typed.stream_options is not None and not stream:
        raise _only_with("stream_options", "stream")
    if typed.top_logprobs is not None and not typed.logprobs:
        raise _only_with("top_logprobs", "logprobs")
    if typed.max_tokens is not None and typed.max_completion_tokens is not None:
        raise Rejected("Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
                       param="max_tokens", code="invalid_parameter_combination")  # fmt: skip
    if typed.modalities is not None and "audio" in typed.modalities:
        raise Rejected(
            "'audio' at 'modalities' is not supported here.", kind="not_supported", param="modalities"
        )
    choice = typed.tool_choice
    if choice is not None and choice != "none":
        if not typed.tools:
            raise _only_with("tool_choice", "tools")
        if isinstance(choice, NamedChoice) and all(
            t.function.name != choice.function.name for t in typed.tools
        ):
            what = f"Tool choice '{choice.function.name[:64]}' not found in 'tools' parameter."
            raise Rejected(what, param="tool_choice", code="invalid_value")


def _shape(messages: list[Message]) -> tuple[bool, bool]:
    """Tell whether all messages are plain strings without a word of tools, and whether any are answers."""
    plain, answers = True, False
    for message in messages:
        if type(message) not in _ASKING:
            answers = True
            plain = plain and type(message) is AssistantMessage and message.tool_calls is None
        plain = plain and type(message.content) is str
    return plain, answers


def _only_with(param: str, other: str) -> Rejected:
    what = f"The '{param}' parameter is only allowed when '{other}' is given."
    return Rejected(what, param=param, code="invalid_parameter_combination")


def _demand_order(messages: list[dict[str, Any]]) -> None:
    """Check that tool answers follow the calls they answer, and that no assistant message is empty."""
    open_calls: set[str] = set()
    for position, message in enumerate(messages):
        role = message["role"]
        if role == "tool":
            if message["tool_call_id"] not in open_calls:
                where = f"messages[{position}].role"
                raise Rejected(
                    "Messages with role 'tool' must answer a preceding message with 'tool_calls'.",
                    param=where,
                )
        elif role == "assistant":
            calls = message.get("tool_calls")
            open_calls = {call["id"] for call in calls} if calls else set()
            if not calls and message.get("content") is None and not message.get("refusal"):
                where = f"messages[{position}].content"
                what = f"Invalid type for '{where}': expected a string, but got null instead."
                raise Rejected(what, param=where, code="invalid_type")
        else:
            open_calls = set()
