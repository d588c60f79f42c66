"""The event stream of the Messages API as a state machine. Pure: bytes of events in, events out.

Rules (API reference "Streaming messages"): ``message_start`` first; then blocks: ``content_block_start``,
deltas of its own kind, ``content_block_stop``; then ``message_delta`` with the stop reason and cumulative
usage; then ``message_stop``. ``ping`` may stand anywhere, an ``error`` event ends everything. A delta for a
block that is not open, or of another block's kind, is malformed: passing it on is what breaks agents.

The opening (``message_start`` and pings before the first block) is held back until content begins: an answer
that dies before it has begun can then still be tried elsewhere, because nothing has gone to the client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from allod.domain.chat import Chunk, Event, Finish, Finished, ToolCallDelta
from allod.engines.anthropic.answer import FINISH, fault_of_error, malformed, report_of
from allod.engines.contract import EngineFault

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BLOCKS: Final = 4_096

_DELTA_OF: Final[dict[str, frozenset[str]]] = {
    "text": frozenset({"text_delta", "citations_delta"}),
    "thinking": frozenset({"thinking_delta", "signature_delta"}),
    "redacted_thinking": frozenset(),
    "tool_use": frozenset({"input_json_delta"}),
}
_KNOWN_DELTAS: Final = frozenset().union(*_DELTA_OF.values())


class _Delta(msgspec.Struct):
    """Any ``delta`` object: of a block, or of the message."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None
    stop_details: dict[str, Any] | None = None


class _Block(msgspec.Struct):
    type: str
    id: str | None = None
    name: str | None = None
    text: str | None = None
    thinking: str | None = None
    input: Any = None


class _Wire(msgspec.Struct):
    """Any event, with only what the machine reads."""

    type: str
    index: int | None = None
    delta: _Delta | None = None
    content_block: _Block | None = None
    message: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


class _Open:
    """An open block: its kind, its tool call's index, and whether any input came."""

    __slots__ = ("answers", "call", "kind", "spoke", "start")

    def __init__(self, block: _Block, call: int, *, answers: bool) -> None:
        self.kind, self.call, self.answers, self.spoke, self.start = block.type, call, answers, False, block


_DECODE: Final = msgspec.json.Decoder(_Wire).decode


class MessageStream:
    """One stream, from ``message_start`` to ``message_stop``.

    Args:
        native: whether the caller speaks this dialect: each event's bytes go along, one ``Chunk`` per event.
        answer_tool: name of the tool whose input is the answer's text, or None.

    """

    def __init__(self, *, native: bool = False, answer_tool: str | None = None) -> None:
        self._native, self._answer_tool = native, answer_tool
        self._open: dict[int, _Open] = {}
        self._blocks = self._calls = 0
        self._last = -1
        self._usage: dict[str, Any] | None = None
        self._held: list[Event] = []
        self._withheld: list[str] = []
        self._model: str | None = None
        self._stop: str | None = None
        self._answered = self._begun = self._started = False
        self.finished = False
        self._readers: dict[str, Callable[[_Wire], list[Event]]] = {
            "content_block_delta": self._delta,
            "content_block_start": self._block,
            "content_block_stop": self._close,
            "message_start": self._start,
            "message_delta": self._message,
            "message_stop": self._end,
            "error": self._error,
        }

    def feed(self, data: bytes, raw: bytes | None = None) -> list[Event]:
        """Take one event and return what it means, in order.

        Args:
            data: the event's data, a JSON text.
            raw: the complete event as received; needed only when ``native``.

        Raises:
            EngineFault: ``malformed``, ``truncated``, or what an ``error`` event stands for.

        """
        try:
            event = _DECODE(data)
        except (msgspec.DecodeError, RecursionError) as error:
            raise malformed("an event that is not of the Messages API") from error
        if self.finished:
            raise malformed("an event after message_stop")
        if not self._started and event.type not in ("message_start", "ping", "error"):
            raise malformed("the stream does not begin with message_start")
        typed = self._read(event)
        if self._native:
            typed = _with_raw(typed, raw if raw is not None else b"data: " + data + b"\n\n")
        if not self._begun:
            if event.type in ("message_start", "ping"):
                self._held += typed
                return []
            self._begun = True
            typed = [*self._held, *typed]
            self._held = []
        return typed

    def _read(self, event: _Wire) -> list[Event]:
        reader = self._readers.get(event.type)
        # none: ping, and kinds of events the API reserves the right to add
        return reader(event) if reader is not None else []

    def _error(self, event: _Wire) -> list[Event]:
        raise fault_of_error(event.error)

    def _start(self, event: _Wire) -> list[Event]:
        if self._started or event.message is None:
            raise malformed("a second message_start, or one without message")
        self._started = True
        model = event.message.get("model")
        self._model = model if isinstance(model, str) else None
        self._merge(event.message.get("usage"))
        return []

    def _block(self, event: _Wire) -> list[Event]:
        block, index = event.content_block, event.index
        if block is None or index is None or index <= self._last:
            raise malformed("a content block out of order, or without index")
        self._last = index
        if self._stop is not None or self._blocks >= MAX_BLOCKS:
            raise malformed("a content block after the stop reason, or too many")
        self._blocks += 1
        if block.type not in _DELTA_OF and not self._native:
            raise malformed("a content block of an unknown type")
        answers = block.type == "tool_use" and block.name is not None and block.name == self._answer_tool
        opened = self._open[index] = _Open(block, self._calls, answers=answers)
        if block.type == "tool_use":
            if not block.id or not block.name:
                raise malformed("a tool_use block without id or name")
            if answers:
                self._answered = True
                return []
            self._calls += 1
            return [Chunk(tool_calls=(ToolCallDelta(index=opened.call, id=block.id, name=block.name),))]
        return self._speak(opened, block.text, block.thinking)

    def _delta(self, event: _Wire) -> list[Event]:
        opened = self._open.get(event.index) if event.index is not None else None
        delta = event.delta
        if opened is None or delta is None or delta.type is None:
            raise malformed("a delta for a content block that is not open")
        allowed = _DELTA_OF.get(opened.kind)
        if allowed is None:
            return []  # a block of a kind only native callers get; its bytes go along
        if delta.type not in allowed:
            if delta.type in _KNOWN_DELTAS or not self._native:
                raise malformed("a delta of another kind than its content block")
            return []
        if delta.type == "input_json_delta":
            return self._arguments(opened, delta.partial_json or "")
        return self._speak(opened, delta.text, delta.thinking)

    def _speak(self, opened: _Open, text: str | None, thinking: str | None) -> list[Event]:
        if opened.kind == "thinking":
            return [Chunk(reasoning=thinking)] if thinking else []
        if opened.kind != "text" or not text:
            return []
        if self._answer_tool is not None:
            self._withheld.append(text)  # it would stand before the JSON; told only if no JSON comes
            return []
        return [Chunk(text=text)]

    def _arguments(self, opened: _Open, piece: str) -> list[Event]:
        if not piece:
            return []
        opened.spoke = True
        if opened.answers:
            return [Chunk(text=piece)]
        return [Chunk(tool_calls=(ToolCallDelta(index=opened.call, arguments=piece),))]

    def _close(self, event: _Wire) -> list[Event]:
        opened = self._open.pop(event.index, None) if event.index is not None else None
        if opened is None:
            raise malformed("the end of a content block that is not open")
        if opened.kind != "tool_use" or opened.spoke:
            return []
        given = opened.start.input if isinstance(opened.start.input, dict) else {}
        return self._arguments(opened, msgspec.json.encode(given).decode())

    def _message(self, event: _Wire) -> list[Event]:
        self._merge(event.usage)
        reason = event.delta.stop_reason if event.delta is not None else None
        if reason is None:
            return []
        if self._stop is not None or self._open:
            raise malformed("a stop reason while a content block is open, or a second one")
        self._stop = reason
        finish = FINISH.get(reason, "length" if self._native else None)
        if finish is None:
            raise malformed("an unknown stop reason")
        assert event.delta is not None
        return [*self._told(), Chunk(finish=self._ending(finish), refusal=_explained(event.delta, finish))]

    def _ending(self, finish: Finish) -> Finish:
        """Say ``stop`` where the only tool that was called carries the answer."""
        return "stop" if finish == "tool_calls" and self._answered and not self._calls else finish

    def _told(self) -> list[Event]:
        text, self._withheld = "".join(self._withheld), []
        return [Chunk(text=text)] if text and not self._answered else []

    def _end(self, event: _Wire) -> list[Event]:
        del event
        if self._stop is None:
            raise EngineFault("truncated", "message_stop without a stop reason")
        self.finished = True
        report = report_of(self._usage) if self._usage is not None else None
        return [*([report] if report else ()), Finished(model=self._model)]

    def _merge(self, block: object) -> None:
        """Lay cumulative counts over the earlier ones; absent ones keep what was said before."""
        if isinstance(block, dict):
            given = {key: value for key, value in block.items() if value is not None}
            self._usage = {**(self._usage or {}), **given}


_Kind = Literal["anthropic"]
_DIALECT: Final[_Kind] = "anthropic"


def _with_raw(typed: list[Event], raw: bytes) -> list[Event]:
    """Give the event's bytes to exactly one typed event, so that they reach the client exactly once."""
    carrier = next((i for i, event in enumerate(typed) if isinstance(event, Chunk | Finished)), None)
    if carrier is None:
        return [Chunk(raw=raw, dialect=_DIALECT)]
    out = list(typed)
    out[carrier] = msgspec.structs.replace(out[carrier], raw=raw, dialect=_DIALECT)
    return out


def _explained(delta: _Delta, finish: Finish) -> str:
    told = (delta.stop_details or {}).get("explanation") if finish == "content_filter" else None
    return told if isinstance(told, str) else ""
