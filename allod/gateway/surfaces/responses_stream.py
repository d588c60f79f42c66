"""A streamed response: OpenAI's typed event sequence, numbered, each item opened and closed exactly once."""

from __future__ import annotations

from typing import Any, Literal

from allod.domain.chat import Chunk, Event, Finish, Finished, ToolCallDelta, UsageReport
from allod.domain.errors import AllodError, Unavailable
from allod.gateway.surfaces import faults, sse, tokens
from allod.gateway.surfaces import responses_answer as shape
from allod.gateway.surfaces.responses_answer import ResponsesEcho

Kind = Literal["reasoning", "message"]
PartKind = Literal["output_text", "refusal", "reasoning_text", "summary_text"]


class _Item:
    """A message or reasoning item in the making: its closed ``parts``, and the part that is open."""

    __slots__ = ("id", "index", "kind", "logprobs", "part", "parts", "text")

    def __init__(self, kind: Kind, index: int, item_id: str) -> None:
        self.kind, self.index, self.id = kind, index, item_id
        self.parts: list[dict[str, Any]] = []
        self.part: PartKind | None = None
        self.text: list[str] = []
        self.logprobs: list[Any] = []


class _Call:
    """A function call in the making; ``index`` is its place in the output once it has begun."""

    __slots__ = ("arguments", "id", "index", "name", "waiting")

    def __init__(self) -> None:
        self.id: str | None = None
        self.name = ""
        self.index: int | None = None
        self.arguments: list[str] = []
        self.waiting = ""


class ResponseStream:
    """Renders events as ``response.created`` ... ``response.completed``.

    Function calls stay open side by side until the end, as this dialect allows; a message or a reasoning
    item closes when another item begins.
    """

    __slots__ = (
        "_calls", "_core", "_created_s", "_echo", "_finish", "_item", "_model", "_number", "_output",
        "_report",
    )  # fmt: skip

    def __init__(self, *, core: str, created_s: int, model: str, echo: ResponsesEcho) -> None:
        self._core, self._created_s, self._model, self._echo = core, created_s, model, echo
        self._number = 0
        self._output: list[dict[str, Any] | None] = []
        self._item: _Item | None = None
        self._calls: dict[int, _Call] = {}
        self._finish: Finish | None = None
        self._report: UsageReport | None = None

    def feed(self, event: Event) -> bytes:
        """Return the bytes of one event."""
        if isinstance(event, UsageReport):
            self._report = event
        elif isinstance(event, Finished):
            self._model = event.model or self._model
        elif isinstance(event, Chunk) and not event.choice:
            return self._start() + self._chunk(event)
        return b""

    def end(self) -> bytes:
        """Close what is open and send ``response.completed`` or ``response.incomplete``.

        Raises:
            Unavailable: a tool call never got a name.

        """
        status, reason = shape.outcome(self._finish)
        out = [self._start()]
        if self._item is None and not self._output and not self._calls:
            out.append(self._say("message", "output_text", ""))
        out.append(self._close_item(status))
        for _, call in sorted(self._calls.items()):
            out.append(self._begin_call(call))
            out.append(self._close_call(call, status))
        usage = None if self._report is None else tokens.responses_usage(self._report)
        response = self._response(status, self._written(), usage, reason)
        out.append(self._event(f"response.{status}", response=response))
        return b"".join(out)

    def fail(self, error: AllodError, receipt: str | None) -> bytes:
        """Send ``response.failed``; nothing follows it."""
        found, inner = faults.openai_error(error, receipt)
        code = "rate_limit_exceeded" if found == 429 else "server_error"  # noqa: PLR2004 (HTTP status)
        failure: dict[str, Any] = {"code": code, "message": inner["message"]}
        if "allod" in inner:
            failure["allod"] = inner["allod"]
        response = self._response("failed", self._written(), None, None, failure)
        return self._start() + self._event("response.failed", response=response)

    def _written(self) -> list[dict[str, Any]]:
        return [item for item in self._output if item is not None]

    def _response(
        self,
        status: str,
        output: list[dict[str, Any]],
        usage: dict[str, Any] | None,
        reason: str | None = None,
        error: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        return shape.response_object(
            self._echo,
            core=self._core,
            created_s=self._created_s,
            model=self._model,
            status=status,
            output=output,
            usage=usage,
            incomplete=reason,
            error=error,
        )

    def _event(self, kind: str, **fields: Any) -> bytes:
        value = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return sse.named(value)

    def _start(self) -> bytes:
        if self._number:
            return b""
        begun = self._response("in_progress", [], None)
        return self._event("response.created", response=begun) + self._event(
            "response.in_progress", response=begun
        )

    def _chunk(self, event: Chunk) -> bytes:
        out: list[bytes] = []
        if event.reasoning:
            part: PartKind = "summary_text" if self._echo.summary else "reasoning_text"
            out.append(self._say("reasoning", part, event.reasoning))
        if event.text:
            out.append(self._say("message", "output_text", event.text, shape.logprobs_of(event.logprobs)))
        if event.refusal:
            out.append(self._say("message", "refusal", event.refusal))
        out.extend(self._tool(delta) for delta in event.tool_calls)
        if event.finish is not None:
            self._finish = event.finish
        return b"".join(out)

    def _say(self, kind: Kind, part: PartKind, text: str, logprobs: list[Any] | None = None) -> bytes:
        out = [] if self._item is not None and self._item.kind == kind else [self._begin_item(kind)]
        item = self._item
        assert item is not None
        if item.part != part:
            out += [self._close_part(item), self._begin_part(item, part)]
        item.text.append(text)
        item.logprobs.extend(logprobs or ())
        if text:
            out.append(self._delta(item, part, text, logprobs))
        return b"".join(out)

    def _begin_item(self, kind: Kind) -> bytes:
        out = self._close_item("completed")
        index = len(self._output)
        self._output.append(None)
        if kind == "message":
            begun = shape.message_item(self._core, index, [], "in_progress")
        else:
            begun = shape.reasoning_item(
                self._core, index, "", summary=self._echo.summary, status="in_progress"
            )
        self._item = _Item(kind, index, begun["id"])
        return out + self._event("response.output_item.added", output_index=index, item=begun)

    def _close_item(self, status: str) -> bytes:
        item = self._item
        if item is None:
            return b""
        out = self._close_part(item)
        self._item = None
        if item.kind == "message":
            done = shape.message_item(self._core, item.index, item.parts, status)
        else:
            done = shape.reasoning_item(self._core, item.index, "", summary=self._echo.summary, status=status)
            done["summary" if self._echo.summary else "content"] = item.parts
        self._output[item.index] = done
        return out + self._event("response.output_item.done", output_index=item.index, item=done)

    def _begin_part(self, item: _Item, part: PartKind) -> bytes:
        item.part = part
        empty = shape.text_part("") if part == "output_text" else _part(part, "")
        where = self._where(item)
        if part == "summary_text":
            return self._event("response.reasoning_summary_part.added", **where, part=empty)
        return self._event("response.content_part.added", **where, part=empty)

    def _delta(self, item: _Item, part: PartKind, text: str, logprobs: list[Any] | None) -> bytes:
        fields: dict[str, Any] = {**self._where(item), "delta": text}
        if part == "output_text":
            fields["logprobs"] = logprobs or []
        return self._event(f"response.{_STEM[part]}.delta", **fields)

    def _close_part(self, item: _Item) -> bytes:
        part = item.part
        if part is None:
            return b""
        text = "".join(item.text)
        where = self._where(item)
        told: dict[str, Any] = {"refusal" if part == "refusal" else "text": text}
        done = _part(part, text)
        if part == "output_text":
            told["logprobs"] = item.logprobs
            done = shape.text_part(text, item.logprobs)
        item.parts.append(done)
        item.part, item.text, item.logprobs = None, [], []
        closed = "reasoning_summary_part" if part == "summary_text" else "content_part"
        return self._event(f"response.{_STEM[part]}.done", **where, **told) + self._event(
            f"response.{closed}.done", **where, part=done
        )

    def _where(self, item: _Item) -> dict[str, Any]:
        place = "summary_index" if item.part == "summary_text" else "content_index"
        return {"item_id": item.id, "output_index": item.index, place: len(item.parts)}

    def _tool(self, delta: ToolCallDelta) -> bytes:
        call = self._calls.setdefault(delta.index, _Call())
        call.id = call.id or delta.id
        call.name = call.name or delta.name or ""
        call.waiting += delta.arguments
        if not call.name:
            return b""
        return self._begin_call(call) + self._more(call)

    def _begin_call(self, call: _Call) -> bytes:
        if call.index is not None:
            return b""
        if not call.name:
            raise Unavailable("The deployment called a tool without naming it.", kind="failed")
        out = self._close_item("completed")
        call.index = len(self._output)
        self._output.append(None)
        begun = self._call_item(call, call.index, "in_progress")
        return out + self._event("response.output_item.added", output_index=call.index, item=begun)

    def _more(self, call: _Call) -> bytes:
        piece, call.waiting = call.waiting, ""
        if not piece or call.index is None:
            return b""
        call.arguments.append(piece)
        where = {"item_id": f"fc_{self._core}_{call.index}", "output_index": call.index}
        return self._event("response.function_call_arguments.delta", **where, delta=piece)

    def _close_call(self, call: _Call, status: str) -> bytes:
        assert call.index is not None
        out = self._more(call)
        done = self._call_item(call, call.index, status)
        self._output[call.index] = done
        where = {"item_id": done["id"], "output_index": call.index}
        return (
            out
            + self._event(
                "response.function_call_arguments.done", **where, name=call.name, arguments=done["arguments"]
            )
            + self._event("response.output_item.done", output_index=call.index, item=done)
        )

    def _call_item(self, call: _Call, index: int, status: str) -> dict[str, Any]:
        return shape.call_item(
            self._core,
            index,
            call_id=call.id,
            name=call.name,
            arguments="".join(call.arguments),
            status=status,
        )


_STEM: dict[PartKind, str] = {
    "output_text": "output_text",
    "refusal": "refusal",
    "reasoning_text": "reasoning_text",
    "summary_text": "reasoning_summary_text",
}


def _part(part: PartKind, text: str) -> dict[str, Any]:
    return {"type": part, "refusal" if part == "refusal" else "text": text}
