"""A streamed message: Anthropic's own events untouched, or blocks written from translated events.

Anthropic's blocks come one after the other, each of one kind: a text delta inside a thinking block is what
breaks coding agents. So exactly one block is open at a time. What cannot be written yet, because a tool call
is still open, waits: other calls until that one's arguments are a whole JSON text, words until all calls are
written. Nothing is lost and nothing is mixed, in whatever order an operator interleaves its pieces.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from allod.domain.chat import Chunk, Event, Finish, Finished, ToolCallDelta, UsageReport
from allod.domain.errors import AllodError, Unavailable
from allod.domain.usage import Usage
from allod.gateway.surfaces import faults, sse, tokens
from allod.gateway.surfaces.messages_answer import MessagesEcho, message_object, stop_reason, tool_id

Words = Literal["text", "thinking"]


class _Call:
    """A tool call in the making.

    ``sent`` counts the characters of ``arguments`` already written, ``judged`` those found unfinished.
    """

    __slots__ = ("arguments", "closed", "id", "judged", "name", "sent", "started")

    def __init__(self) -> None:
        self.id: str | None = None
        self.name = ""
        self.arguments = ""
        self.sent = self.judged = 0
        self.started = self.closed = False

    def add(self, delta: ToolCallDelta) -> None:
        """Take a piece; the first id and name count."""
        self.id = self.id or delta.id
        self.name = self.name or delta.name or ""
        self.arguments += delta.arguments

    def is_done(self) -> bool:
        """Tell whether another block may follow: it is closed, or its arguments are one whole JSON object."""
        if self.closed:
            return True
        if not self.started or self.judged == len(self.arguments) or not self.arguments.endswith("}"):
            return False
        self.judged = len(self.arguments)
        try:
            msgspec.json.decode(self.arguments)
        except (ValueError, RecursionError):
            return False
        return True


class MessageStream:
    """Renders events as Anthropic ``message_start`` ... ``message_stop``.

    Raw events of dialect ``anthropic`` pass untouched, and from the first of them on only such events count.
    """

    __slots__ = (
        "_calls",
        "_core",
        "_echo",
        "_finish",
        "_index",
        "_later",
        "_model",
        "_native",
        "_open",
        "_report",
        "_started",
        "_stopped",
    )  # fmt: skip

    def __init__(self, *, core: str, model: str, echo: MessagesEcho) -> None:
        self._core, self._model, self._echo = core, model, echo
        self._native = self._started = self._stopped = False
        self._index = -1
        self._open: Words | int | None = None
        self._calls: dict[int, _Call] = {}
        self._later: list[tuple[Words, str]] = []
        self._finish: Finish | None = None
        self._report = UsageReport(usage=Usage())

    def feed(self, event: Event) -> bytes:
        """Return the bytes of one event."""
        if event.raw is not None and event.dialect == "anthropic":
            self._native = True
            self._stopped = isinstance(event, Finished)
            return event.raw
        if isinstance(event, UsageReport):
            self._report = event
            return b""
        if isinstance(event, Finished) or self._native or not isinstance(event, Chunk) or event.choice:
            return b""
        return self._start() + self._chunk(event)

    def end(self) -> bytes:
        """Write what waited, the closing usage and ``message_stop``.

        Raises:
            Unavailable: a tool call never got a name.

        """
        if self._native:
            return b"" if self._stopped else sse.named({"type": "message_stop"})
        out = [self._start(), self._close()]
        for index in sorted(self._calls):
            call = self._calls[index]
            if not call.closed:
                out.append(self._write_call(index, call))
                out.append(self._close())
        for kind, text in self._later:
            out.append(self._words(kind, text))
        out.append(self._close())
        delta = {
            "stop_reason": stop_reason(self._finish, called=bool(self._calls)),
            "stop_sequence": None,
            "stop_details": None,
            "container": None,
        }
        usage = tokens.message_delta_usage(self._report)
        out.append(sse.named({"type": "message_delta", "delta": delta, "usage": usage}))
        out.append(sse.named({"type": "message_stop"}))
        return b"".join(out)

    def fail(self, error: AllodError, receipt: str | None) -> bytes:
        """Write the ``error`` event; ``message_stop`` never follows."""
        _, body = faults.anthropic_error(error, receipt)
        return sse.named(body)

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        message = message_object(self._core, self._model, content=[], usage=Usage(), reason=None)
        return sse.named({"type": "message_start", "message": message}) + sse.named({"type": "ping"})

    def _chunk(self, event: Chunk) -> bytes:
        out: list[bytes] = []
        if event.reasoning and self._echo.thinking:
            out.append(self._say("thinking", event.reasoning))
        spoken = event.text + event.refusal
        if spoken:
            out.append(self._say("text", spoken))
        out.extend(self._tool(delta) for delta in event.tool_calls)
        if event.finish is not None:
            self._finish = event.finish
        return b"".join(out)

    def _say(self, kind: Words, text: str) -> bytes:
        if (
            isinstance(self._open, int)
            or self._later
            or any(not call.closed for call in self._calls.values())
        ):
            if self._later and self._later[-1][0] == kind:
                text = self._later.pop()[1] + text
            self._later.append((kind, text))
            return b""
        return self._words(kind, text)

    def _words(self, kind: Words, text: str) -> bytes:
        out = b""
        if self._open != kind:
            block: dict[str, Any] = (
                {"type": "text", "text": "", "citations": None}
                if kind == "text"
                else {"type": "thinking", "thinking": "", "signature": ""}
            )
            out = self._close() + self._begin(kind, block)
        return out + self._delta({"type": f"{kind}_delta", kind: text})

    def _tool(self, delta: ToolCallDelta) -> bytes:
        call = self._calls.setdefault(delta.index, _Call())
        if call.closed:
            return b""
        call.add(delta)
        if self._open == delta.index and call.started:
            return self._more(call)
        if not call.name or not all(other.is_done() for other in self._calls.values() if other is not call):
            return b""
        return self._write_call(delta.index, call)

    def _write_call(self, index: int, call: _Call) -> bytes:
        if not call.name:
            raise Unavailable("The deployment called a tool without naming it.", kind="failed")
        block = {
            "type": "tool_use",
            "id": tool_id(call.id, self._core, index),
            "name": call.name,
            "input": {},
            "caller": {"type": "direct"},
        }
        begun = b"" if call.started else self._close() + self._begin(index, block)
        call.started = True
        return begun + self._more(call)

    def _more(self, call: _Call) -> bytes:
        rest = call.arguments[call.sent :]
        call.sent = len(call.arguments)
        return self._delta({"type": "input_json_delta", "partial_json": rest}) if rest else b""

    def _begin(self, what: Words | int, block: dict[str, Any]) -> bytes:
        self._index += 1
        self._open = what
        return sse.named({"type": "content_block_start", "index": self._index, "content_block": block})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return sse.named({"type": "content_block_delta", "index": self._index, "delta": delta})

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        if isinstance(self._open, int):
            self._calls[self._open].closed = True
        self._open = None
        return sse.named({"type": "content_block_stop", "index": self._index})
