"""``/v1/messages`` and ``/v1/messages/count_tokens``: Anthropic's dialect."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from allod.domain.chat import UsageReport, Whole
from allod.domain.errors import AllodError
from allod.domain.usage import Usage
from allod.gateway.surfaces import complaints, faults, sse
from allod.gateway.surfaces import messages_request as wire
from allod.gateway.surfaces.answers import choices_of, finish_of, model_of, neutral_body
from allod.gateway.surfaces.contract import Parsed, core_of
from allod.gateway.surfaces.decode import demand_shallow, json_object
from allod.gateway.surfaces.faults import Rejected
from allod.gateway.surfaces.labels import is_label, without_labels
from allod.gateway.surfaces.messages_answer import MessagesEcho, blocks_of, message_object, stop_reason
from allod.gateway.surfaces.messages_neutral import effort_of, neutral, without_unsigned_thinking
from allod.gateway.surfaces.messages_stream import MessageStream

_Request = TypeVar("_Request", bound=wire.CountRequest)
_COMMON: Final = frozenset(wire.CountRequest.__struct_fields__) | wire.NOT_APPLIED
_ANSWERED: Final = frozenset(wire.MessagesRequest.__struct_fields__) | wire.NOT_APPLIED


class MessagesSurface:
    """Anthropic messages. Stateless; one instance serves all requests."""

    name: Final = "messages"

    def parse(self, raw: bytes) -> Parsed:
        """Validate as api.anthropic.com does (raises ``Rejected``) and translate; ``native`` keeps all."""
        body = json_object(raw)
        typed = _read(body, wire.MessagesRequest, _ANSWERED)
        demand_shallow(raw, body)
        _demand_sense(typed)
        metadata = body.get("metadata")
        return Parsed(
            surface="messages",
            model=typed.model,
            stream=typed.stream is True,
            body=neutral(typed),
            native=_native(body),
            native_dialect="anthropic",
            metadata=metadata,
            max_output_tokens=typed.max_tokens,
            effort=effort_of(typed),
            echo=MessagesEcho(
                thinking=_shows_thinking(typed), stop_sequences=tuple(typed.stop_sequences or ())
            ),
        )

    def whole(
        self,
        parsed: Parsed,
        answer: Whole,
        report: UsageReport | None,
        *,
        receipt: str,
        created_s: int,  # noqa: ARG002 (the dialect tells no time)
    ) -> bytes:
        """Pass the operator's bytes, or write a ``Message`` from the answer (raises ``Unavailable``)."""
        if answer.raw is not None and answer.dialect == "anthropic":
            return answer.raw
        core = core_of(receipt)
        body = neutral_body(answer)
        choice = choices_of(body)[0]
        finish = finish_of(choice, answer)
        content = blocks_of(choice["message"], core=core, echo=parsed.echo, cut=finish == "length")
        called = any(block["type"] == "tool_use" for block in content)
        reason, met = stop_reason(finish, called=called), choice.get("stop_reason")
        if reason == "end_turn" and met in parsed.echo.stop_sequences:
            reason = "stop_sequence"
        else:
            met = None
        return sse.ENCODE(
            message_object(
                core,
                model_of(body, parsed.model),
                content=content,
                usage=report.usage if report is not None else Usage(),
                reason=reason,
                met=met,
            )
        )

    def stream(self, parsed: Parsed, *, receipt: str, created_s: int) -> MessageStream:  # noqa: ARG002 (no time)
        """Begin a stream of Anthropic message events."""
        return MessageStream(core=core_of(receipt), model=parsed.model, echo=parsed.echo)

    def error(self, error: AllodError, receipt: str | None) -> tuple[int, bytes]:
        """Return the status and Anthropic's error object."""
        return anthropic_rejection(error, receipt)


class CountTokensSurface:
    """Anthropic's token count. Stateless."""

    name: Final = "count_tokens"

    def parse(self, raw: bytes) -> Parsed:
        """Validate (raises ``Rejected``) and translate; ``metadata`` is no field here: labels are headers."""
        body = json_object(raw)
        typed = _read(body, wire.CountRequest, _COMMON)
        demand_shallow(raw, body)
        return Parsed(
            surface="count_tokens",
            model=typed.model,
            body=neutral(typed),
            native=_native(body),
            native_dialect="anthropic",
            effort=effort_of(typed),
        )

    def counted(self, input_tokens: int) -> bytes:
        """Write the count."""
        return sse.ENCODE({"input_tokens": input_tokens})

    def error(self, error: AllodError, receipt: str | None) -> tuple[int, bytes]:
        """Return the status and Anthropic's error object."""
        return anthropic_rejection(error, receipt)


def anthropic_rejection(error: AllodError, receipt: str | None) -> tuple[int, bytes]:
    """Return the status and Anthropic's error object as bytes."""
    status, body = faults.anthropic_error(error, receipt)
    return status, sse.ENCODE(body)


def _read(body: dict[str, Any], kind: type[_Request], known: frozenset[str]) -> _Request:
    _demand_known(body, known)
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise _complain(complaints.read(error), body) from None


def _demand_known(body: dict[str, Any], known: frozenset[str]) -> None:
    if known.issuperset(body):
        return
    for key, value in body.items():
        if key in known:
            continue
        if key not in wire.NOT_SUPPORTED:
            raise Rejected(f"{key[:128]}: Extra inputs are not permitted", param=key[:128])
        if value:
            what = f"{key}: not supported by this gateway."
            raise Rejected(what, "", wire.NOT_SUPPORTED[key], kind="not_supported", param=key)


def _complain(complaint: complaints.Complaint, body: dict[str, Any]) -> Rejected:
    """Word a complaint; what Anthropic knows and this gateway does not is told as not supported."""
    if len(complaint.path) > 1 and complaint.path[0] == "tools":
        kind = complaints.value_at(body, (*complaint.path[:2], "type"))
        if isinstance(kind, str) and kind != "custom":
            return _foreign((*complaint.path[:2], "type"), kind)
    foreign = complaints.foreign_kind(complaint, body, wire.FOREIGN_KINDS)
    if foreign is not None and not _is_image_source(foreign, body):
        return _foreign(*foreign)
    value = complaints.value_at(body, complaint.path)
    if complaints.general(complaint.path) == "messages[].content[].type" and value in wire.BLOCKS:
        where = ".".join(str(step) for step in complaint.path[:-1])
        role = complaints.value_at(body, (*complaint.path[:2], "role"))
        what = f"{where}: this block may not stand in a message with role `{role}`"
        return Rejected(what, param=complaints.render_path(complaint.path[:-1]))
    if complaint.path == ("speed",) and body["speed"] == "fast":
        return _foreign(complaint.path, "fast")
    return complaints.anthropic(complaint, wire.VOCABULARY)


def _is_image_source(foreign: tuple[complaints.Path, str], body: dict[str, Any]) -> bool:
    """Tell whether a source kind that documents may not have stands in an image, which may have it."""
    path, kind = foreign
    return kind in ("base64", "url") and complaints.value_at(body, (*path[:-2], "type")) == "image"


def _foreign(path: complaints.Path, kind: str) -> Rejected:
    where = ".".join(str(step) for step in path)
    what = f"{where}: '{kind[:64]}' is not supported by this gateway."
    return Rejected(what, kind="not_supported", param=complaints.render_path(path))


def _demand_sense(typed: wire.MessagesRequest) -> None:
    """Check what the types cannot say."""
    thinking = typed.thinking
    if isinstance(thinking, wire.Enabled) and thinking.budget_tokens >= typed.max_tokens:
        raise Rejected("max_tokens: must be greater than `thinking.budget_tokens`", param="max_tokens")


def _shows_thinking(typed: wire.MessagesRequest) -> bool:
    match typed.thinking:
        case wire.Enabled(display=display) | wire.Adaptive(display=display):
            return display != "omitted"
        case wire.BetweenTools():
            return True
        case _:
            return False


def _native(body: dict[str, Any]) -> dict[str, Any]:
    native = {
        key: value
        for key, value in body.items()
        if key not in wire.NOT_APPLIED and key not in wire.NOT_SUPPORTED and key != "metadata"
    }
    native["messages"] = without_unsigned_thinking(body["messages"])
    metadata = body.get("metadata")
    if metadata:
        for key in metadata:
            if key != "user_id" and not is_label(key):
                raise Rejected(
                    f"metadata.{key[:128]}: Extra inputs are not permitted", param=f"metadata.{key[:128]}"
                )
        kept = without_labels(metadata)
        if kept:
            native["metadata"] = kept
    return native
