"""A streamed chat completion: the operator's own events untouched, or chunks written from events."""

from __future__ import annotations

from typing import Any

import msgspec

from allod.domain.chat import Chunk, Event, Finished, ToolCallDelta, UsageReport
from allod.domain.errors import AllodError
from allod.gateway.surfaces import faults, sse, tokens


class ChatStream:
    """Renders events as OpenAI ``chat.completion.chunk`` server-sent events.

    Raw events of dialect ``openai`` pass untouched, except the usage chunk of a caller who asked for none.
    A usage that did not come as a chunk of its own is sent as one when the caller asked.
    """

    __slots__ = ("_created_s", "_finished", "_id", "_last_raw", "_model", "_tools", "_usage_asked")

    def __init__(self, *, answer_id: str, created_s: int, model: str, include_usage: bool) -> None:
        self._id, self._created_s, self._model = answer_id, created_s, model
        self._usage_asked = include_usage
        self._last_raw: bytes | None = None
        self._finished: dict[int, bool] = {}
        self._tools: set[int] = set()

    def feed(self, event: Event) -> bytes:
        """Return the bytes of one event."""
        if isinstance(event, Chunk):
            if event.raw is not None and event.dialect == "openai":
                self._last_raw = event.raw
                return event.raw
            return self._chunk(event)
        if isinstance(event, UsageReport) and self._usage_asked:
            return event.raw if event.raw is not None and event.dialect == "openai" else self._usage(event)
        if isinstance(event, Finished) and event.model:
            self._model = event.model
        return b""

    def end(self) -> bytes:
        """Close every choice that has no finish reason yet, then send the end mark."""
        if self._last_raw is not None:
            return sse.DONE
        closing = [
            self._write({}, choice, finish="tool_calls" if choice in self._tools else "stop")
            for choice, done in (self._finished or {0: False}).items()
            if not done
        ]
        return b"".join(closing) + sse.DONE

    def fail(self, error: AllodError, receipt: str | None) -> bytes:
        """Send the error; the end mark never follows, so nobody takes the answer for whole."""
        _, inner = faults.openai_error(error, receipt)
        return sse.data({"error": inner})

    def _chunk(self, event: Chunk) -> bytes:
        choice = event.choice
        first = choice not in self._finished
        delta: dict[str, Any] = {"role": "assistant", "content": ""} if first else {}
        if event.text:
            delta["content"] = event.text
        if event.reasoning:
            delta["reasoning_content"] = event.reasoning
        if event.refusal:
            delta["refusal"] = event.refusal
        if event.tool_calls:
            self._tools.add(choice)
            delta["tool_calls"] = [_tool_delta(call) for call in event.tool_calls]
            if first and not event.text:
                delta["content"] = None
        self._finished[choice] = self._finished.get(choice, False) or event.finish is not None
        return self._write(delta, choice, finish=event.finish, logprobs=event.logprobs)

    def _write(
        self, delta: dict[str, Any], choice: int, *, finish: str | None, logprobs: Any = None
    ) -> bytes:
        if not self._finished:
            delta = {"role": "assistant", "content": "", **delta}
        body: dict[str, Any] = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created_s,
            "model": self._model,
            "choices": [{"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish}],
        }
        if self._usage_asked:
            body["usage"] = None
        return sse.data(body)

    def _usage(self, report: UsageReport) -> bytes:
        body: dict[str, Any] = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created_s,
            "model": self._model,
            "choices": [],
            "usage": tokens.chat_usage(report),
        }
        body.update(self._operator_names())
        return sse.data(body)

    def _operator_names(self) -> dict[str, Any]:
        """Return id, time and model of the operator's chunks, so that all chunks of a stream agree."""
        raw = self._last_raw
        if raw is None:
            return {}
        start, end = raw.find(b"{"), raw.rfind(b"}")
        try:
            chunk = msgspec.json.decode(raw[start : end + 1]) if start >= 0 else None
        except (ValueError, RecursionError):
            return {}
        if not isinstance(chunk, dict):
            return {}
        return {key: chunk[key] for key in ("id", "created", "model", "system_fingerprint") if key in chunk}


def _tool_delta(call: ToolCallDelta) -> dict[str, Any]:
    function: dict[str, Any] = {"arguments": call.arguments}
    delta: dict[str, Any] = {"index": call.index}
    if call.id is not None:
        delta["id"] = call.id
        delta["type"] = "function"
    if call.name is not None:
        function = {"name": call.name, "arguments": call.arguments}
    delta["function"] = function
    return delta
