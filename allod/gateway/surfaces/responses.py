"""``/v1/responses``: OpenAI's Responses API without a memory. Nothing is stored, and the answer says so.

The one exception is asked for, by the tenant (``[queue]``) and by the caller: ``background: true``.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from allod.domain.chat import UsageReport, Whole
from allod.domain.errors import AllodError
from allod.gateway.surfaces import complaints, sse, tokens
from allod.gateway.surfaces import responses_request as wire
from allod.gateway.surfaces.answers import choices_of, finish_of, model_of, neutral_body
from allod.gateway.surfaces.chat import openai_rejection
from allod.gateway.surfaces.chat_request import Extensions
from allod.gateway.surfaces.contract import Parsed, core_of
from allod.gateway.surfaces.decode import demand_shallow, json_object
from allod.gateway.surfaces.faults import Rejected
from allod.gateway.surfaces.labels import effort_of
from allod.gateway.surfaces.responses_answer import echo_of, outcome, output_of, response_object
from allod.gateway.surfaces.responses_neutral import neutral
from allod.gateway.surfaces.responses_stream import ResponseStream


class ResponsesSurface:
    """OpenAI responses. Stateless; one instance serves all requests.

    Args:
        background: whether requests that wait are taken.

    """

    name: Final = "responses"

    def __init__(self, *, background: bool = False) -> None:
        self._background = background

    def parse(self, raw: bytes) -> Parsed:
        """Validate as api.openai.com does (raises ``Rejected``) and translate."""
        body = json_object(raw)
        _demand_known(body)
        try:
            typed = msgspec.convert(body, wire.ResponsesRequest)
            if not wire.PASSED_ON.isdisjoint(body):
                msgspec.convert({key: body[key] for key in wire.PASSED_ON if key in body}, Extensions)
        except msgspec.ValidationError as error:
            raise _complain(complaints.read(error), body) from None
        demand_shallow(raw, body)
        if typed.background:
            self._demand_queueable(typed)
        if typed.stream_options is not None and not typed.stream:
            what = "The 'stream_options' parameter is only allowed when 'stream' is given."
            raise Rejected(what, param="stream_options", code="invalid_parameter_combination")
        return Parsed(
            surface="responses",
            model=typed.model,
            stream=typed.stream is True,
            body=neutral(typed, body),
            metadata=body.get("metadata"),
            max_output_tokens=typed.max_output_tokens,
            effort=effort_of(typed.reasoning.effort if typed.reasoning else None),
            echo=echo_of(typed, body),
            background=typed.background is True,
        )

    def _demand_queueable(self, typed: wire.ResponsesRequest) -> None:
        if not self._background:
            what, remedy = "'background' is not supported here.", "Requests are answered while you wait."
            raise Rejected(what, "", remedy, kind="not_supported", param="background")
        if typed.stream:
            what = "'background' together with 'stream' is not supported here."
            remedy = "Leave 'stream' out, and fetch the response by its id."
            raise Rejected(what, "", remedy, kind="not_supported", param="stream")
        if typed.store is False:
            what = "'background' needs 'store': a response fetched later must be kept until then."
            raise Rejected(what, param="store", code="invalid_parameter_combination")

    def whole(
        self, parsed: Parsed, answer: Whole, report: UsageReport | None, *, receipt: str, created_s: int
    ) -> bytes:
        """Write a ``Response`` from the neutral answer (raises ``Unavailable``)."""
        core = core_of(receipt)
        body = neutral_body(answer)
        choice = choices_of(body)[0]
        status, reason = outcome(finish_of(choice, answer))
        return sse.ENCODE(
            response_object(
                parsed.echo,
                core=core,
                created_s=created_s,
                model=model_of(body, parsed.model),
                status=status,
                output=output_of(choice, core=core, echo=parsed.echo, status=status),
                usage=None if report is None else tokens.responses_usage(report),
                incomplete=reason,
            )
        )

    def waiting(self, parsed: Parsed, *, receipt: str, created_s: int) -> dict[str, Any]:
        """Return the ``Response`` of a request that has been taken in and has no answer yet."""
        return response_object(
            parsed.echo,
            core=core_of(receipt),
            created_s=created_s,
            model=parsed.model,
            status="queued",
            output=[],
            usage=None,
        )

    def stream(self, parsed: Parsed, *, receipt: str, created_s: int) -> ResponseStream:
        """Begin a stream of ``response.*`` events."""
        return ResponseStream(
            core=core_of(receipt), created_s=created_s, model=parsed.model, echo=parsed.echo
        )

    def error(self, error: AllodError, receipt: str | None) -> tuple[int, bytes]:
        """Return the status and OpenAI's ``{"error": ...}``."""
        return openai_rejection(error, receipt)


def _demand_known(body: dict[str, Any]) -> None:
    if wire.KNOWN.issuperset(body):
        return
    for key, value in body.items():
        if key in wire.KNOWN:
            continue
        if key not in wire.NOT_SUPPORTED:
            shown = key[:128]
            raise Rejected(f"Unknown parameter: '{shown}'.", param=shown, code="unknown_parameter")
        if value is not None:
            what = f"'{key}' is not supported here."
            raise Rejected(what, "", wire.NOT_SUPPORTED[key], kind="not_supported", param=key)


def _complain(complaint: complaints.Complaint, body: dict[str, Any]) -> Rejected:
    """Word a complaint; tools OpenAI knows and this gateway does not are told as not supported."""
    path = complaint.path
    place = path[:2] if path[:1] == ("tools",) else path[:1] if path[:1] == ("tool_choice",) else None
    kind = complaints.value_at(body, (*place, "type")) if place else None
    if place and isinstance(kind, str) and kind not in ("function", "allowed_tools"):
        where = complaints.render_path((*place, "type"))
        what = f"'{kind[:64]}' at '{where}' is not supported here."
        return Rejected(what, "", "Offer functions of your own.", kind="not_supported", param=where)
    return complaints.openai(complaint, wire.VOCABULARY)
