"""Answers, streams and errors of the Gemini API, into the neutral form. Pure.

Sources: the provider's API reference "Generating content" (``Candidate``, ``FinishReason``,
``PromptFeedback``, ``UsageMetadata``) and "Embeddings", November 2026.

A stream has no end mark: it is whole when a candidate carried a finish reason and the body was framed and
complete. Tool calls come whole, in one part each.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from allod.domain.chat import Chunk, Embedded, Event, Finish, Finished, ToolCallDelta, UsageReport, Whole
from allod.domain.usage import Usage
from allod.engines import neutral
from allod.engines.contract import EngineFault
from allod.engines.wire_faults import error_object, fault_from_error
from allod.metering.usage import openai_block, usage_from_gemini

_FINISH: Final[dict[str, Finish]] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
}
"""Others (``MALFORMED_FUNCTION_CALL``, ``OTHER``, ...) say that the answer failed."""
MAX_CALLS: Final = 4_096


class _Function(msgspec.Struct, rename="camel"):
    name: str | None = None
    args: dict[str, Any] | None = None
    id: str | None = None


class _Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    thought: bool = False
    thought_signature: str | None = None
    function_call: _Function | None = None


class _Content(msgspec.Struct, rename="camel"):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    index: int = 0


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None


class _Answer(msgspec.Struct, rename="camel"):
    """A ``GenerateContentResponse``, whole or a piece of a stream; only what we read."""

    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: dict[str, Any] | None = None
    model_version: str | None = None
    response_id: str | None = None
    error: Any = None


_DECODE: Final = msgspec.json.Decoder(_Answer).decode


def malformed(detail: str) -> EngineFault:
    """Build the fault of an answer that is not the protocol."""
    return EngineFault("malformed", detail)


class ContentStream:
    """Pieces of one answer, in order; also the reader of a whole answer, which is one piece.

    ``whole`` is true once a finish reason or a block reason came. Call ``end`` when the body ended properly.
    """

    def __init__(self) -> None:
        self.model: str | None = None
        self.answer_id: str | None = None
        self.finish: Finish | None = None
        self.calls: list[dict[str, Any]] = []
        self._usage: dict[str, Any] | None = None

    @property
    def whole(self) -> bool:
        """Whether the answer's own end came."""
        return self.finish is not None

    def feed(self, data: bytes) -> list[Event]:
        """Take one piece (JSON) and return what it means.

        Raises:
            EngineFault: ``malformed``, ``server`` for a failed answer, or what an error object stands for.

        """
        try:
            piece = _DECODE(data)
        except (msgspec.DecodeError, RecursionError):
            error = error_object(data)  # some gateways before this API wrap the error in a list
            told = "a piece that is not of the Gemini API"
            raise (malformed(told) if error is None else fault_from_error(error)) from None
        if piece.error is not None:
            raise fault_from_error(piece.error)
        if piece.usage_metadata is not None:
            self._usage = piece.usage_metadata  # cumulative: the last one rules
        self.model = piece.model_version or self.model
        self.answer_id = piece.response_id or self.answer_id
        if piece.prompt_feedback is not None and piece.prompt_feedback.block_reason:
            return self._finish("content_filter")
        if not piece.candidates:
            if piece.usage_metadata is None:
                raise malformed("a piece without candidates, feedback or usage")
            return []
        if len(piece.candidates) > 1 or piece.candidates[0].index != 0:
            raise malformed("more candidates than were asked for")
        return self._candidate(piece.candidates[0])

    def end(self) -> list[Event]:
        """Close the answer: usage where it is sound, then ``Finished``.

        Raises:
            EngineFault: ``truncated`` when no finish reason came.

        """
        if self.finish is None:
            raise EngineFault("truncated", "the answer ended without a finish reason")
        report = self._report()
        return [*([report] if report else ()), Finished(model=self.model)]

    def usage_block(self) -> dict[str, Any] | None:
        """Return usage as an OpenAI ``usage`` object, or None."""
        report = self._report()
        return openai_block(report.usage) if report else None

    def _report(self) -> UsageReport | None:
        if self._usage is None:
            return None
        try:
            return UsageReport(usage=usage_from_gemini(self._usage), block=self._usage)
        except ValueError:
            return None

    def _candidate(self, candidate: _Candidate) -> list[Event]:
        parts = (candidate.content.parts if candidate.content is not None else None) or []
        if parts and self.finish is not None:
            raise malformed("content after the finish reason")
        events = [event for part in parts if (event := self._part(part)) is not None]
        reason = candidate.finish_reason
        if reason is None or reason == "FINISH_REASON_UNSPECIFIED":
            return events
        finish = _FINISH.get(reason)
        if finish is None:
            raise EngineFault("server", "the model failed to answer")
        return [*events, *self._finish("tool_calls" if finish == "stop" and self.calls else finish)]

    def _finish(self, finish: Finish) -> list[Event]:
        if self.finish is not None:
            if self.finish != finish:
                raise malformed("a second finish reason")
            return []
        self.finish = finish
        return [Chunk(finish=finish)]

    def _part(self, part: _Part) -> Event | None:
        if part.function_call is not None:
            return self._call(part.function_call, part.thought_signature)
        if part.text is None:
            if part.thought_signature is not None:
                return None
            raise malformed("a part that is neither text nor a function call")
        if not part.text:
            return None
        return Chunk(reasoning=part.text) if part.thought else Chunk(text=part.text)

    def _call(self, function: _Function, signature: str | None) -> Event:
        index = len(self.calls)
        if not function.name or index >= MAX_CALLS:
            raise malformed("a function call without name, or too many")
        call = neutral.tool_call(function.id or f"call_{index}", function.name, function.args or {})
        if signature is not None:
            call["extra_content"] = {"google": {"thought_signature": signature}}
        self.calls.append(call)
        arguments = call["function"]["arguments"]
        delta = ToolCallDelta(index=index, id=call["id"], name=function.name, arguments=arguments)
        return Chunk(tool_calls=(delta,))


def events_of(raw: bytes, *, created: int) -> list[Event]:
    """Turn a whole answer into its events (raises ``EngineFault``)."""
    reader = ContentStream()
    pieces = [event for event in reader.feed(raw) if isinstance(event, Chunk)]
    closing = reader.end()
    assert reader.finish is not None
    message = neutral.assistant_message(
        "".join(piece.text for piece in pieces),
        "".join(piece.reasoning for piece in pieces),
        None,
        reader.calls,
    )
    body = neutral.completion(
        answer_id=reader.answer_id or "gemini",
        model=reader.model or "",
        created=created,
        message=message,
        finish=reader.finish,
        usage=reader.usage_block(),
    )
    return [Whole(body=body, finish=reader.finish), *closing]


def embedded_of(raw: bytes, *, model: str, expected: int) -> Embedded:
    """Turn the answer of ``batchEmbedContents`` into an OpenAI list (raises ``EngineFault``)."""
    answer = decoded(raw)
    rows = answer.get("embeddings")
    if not isinstance(rows, list) or len(rows) != expected:
        raise malformed("not one embedding per input")
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(row)} for index, row in enumerate(rows)
    ]
    usage = _embedding_usage(answer.get("usageMetadata"))
    counted = usage.input_tokens if usage is not None else 0
    body = {
        "object": "list",
        "data": data,
        "model": model,
        "usage": {"prompt_tokens": counted, "total_tokens": counted},
    }
    return Embedded(body=body, usage=usage, model=model)


def decoded(raw: bytes) -> dict[str, Any]:
    """Decode an answer that must be an object and no error (raises ``EngineFault``)."""
    try:
        answer = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise malformed("the answer is not JSON") from error
    if not isinstance(answer, dict):
        raise malformed("the answer is not an object")
    if "error" in answer:
        raise fault_from_error(answer["error"])
    return answer


def _vector(row: object) -> list[float]:
    values = row.get("values") if isinstance(row, dict) else None
    if not isinstance(values, list) or not values:
        raise malformed("an embedding without values")
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        raise malformed("an embedding that is not numbers")
    return values


def _embedding_usage(block: object) -> Usage | None:
    count = block.get("promptTokenCount") if isinstance(block, dict) else None
    return Usage(input_tokens=count) if type(count) is int and 0 <= count < 2**40 else None
