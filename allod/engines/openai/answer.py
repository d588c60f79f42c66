"""What an OpenAI-family server answers, decoded once with types and judged.

The typed decode is the check: what does not decode is ``malformed``. Bytes that need no change stay as they
came (``raw``); they are changed only where servers differ: ``reasoning`` becomes ``reasoning_content``,
finish reasons become the four standard ones, content given in parts becomes text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from allod.domain.chat import Chunk, Event, Finish, Finished, ToolCallDelta, UsageReport, Whole
from allod.engines.contract import EngineFault
from allod.engines.openai.alike import Alike
from allod.engines.sse import Splitter, data_of
from allod.engines.wire_faults import error_object, fault_from_error
from allod.metering.usage import usage_from_openai

FINISHES: Final[Mapping[str, Finish]] = {
    "stop": "stop", "length": "length", "tool_calls": "tool_calls", "content_filter": "content_filter",
    "function_call": "tool_calls", "model_length": "length", "max_tokens": "length", "eos": "stop",
    "stop_sequence": "stop", "end_turn": "stop", "tool_use": "tool_calls", "eos_token": "stop",
    "complete": "stop", "completed": "stop", "COMPLETE": "stop", "STOP": "stop", "MAX_TOKENS": "length",
    "max_length": "length", "safety": "content_filter", "SAFETY": "content_filter",
}  # fmt: skip
_STANDARD: Final = frozenset({"stop", "length", "tool_calls", "content_filter"})


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Text(msgspec.Struct, gc=False):
    """One part of a content list: text, or Mistral's thinking, which is itself a list of texts."""

    type: str = "text"
    text: str | None = None
    thinking: list[dict[str, Any]] | str | None = None


class _Message(msgspec.Struct, gc=False):
    """A delta or a message."""

    content: str | list[_Text] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None

    @property
    def plain(self) -> bool:
        """Whether there is nothing but content."""
        return (
            self.tool_calls is None and not self.reasoning_content and not self.reasoning and not self.refusal
        )


class _StreamChoice(msgspec.Struct, gc=False):
    delta: _Message | None = None
    finish_reason: str | None = None
    index: int = 0
    logprobs: Any = None


class _StreamEvent(msgspec.Struct, gc=False):
    choices: list[_StreamChoice] | msgspec.UnsetType | None = msgspec.UNSET
    usage: dict[str, Any] | None = None
    model: str | None = None
    object: str | None = None
    error: Any = None


class _WholeChoice(msgspec.Struct, gc=False):
    message: _Message
    finish_reason: str | None = None
    index: int = 0


class _Completion(msgspec.Struct, gc=False):
    choices: list[_WholeChoice] | None = None
    usage: dict[str, Any] | None = None
    model: str | None = None
    object: str | None = None
    error: Any = None


_EVENT: Final = msgspec.json.Decoder(_StreamEvent)
_COMPLETION: Final = msgspec.json.Decoder(_Completion)
_UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)


def finish_of(reason: str) -> Finish:
    """Return the standard finish reason for a server's own.

    Raises:
        EngineFault: any other (``error``, ``abort``, ``timeout``, one nobody knows): an answer that ended in
            a way we cannot read is not presented as whole.

    """
    finish = FINISHES.get(reason)
    if finish is None:
        shown = reason[:32] if reason.isidentifier() else "of no known kind"
        raise EngineFault("server", f"the answer ended with finish reason {shown}", status=200)
    return finish


class StreamReader:
    """Reads one streamed answer: ``feed`` what comes; when ``done`` or the body is over, call ``end``."""

    __slots__ = (
        "_alike", "_between", "_finished", "_model", "_open", "_splitter", "_tool_index", "_usage", "done",
        "done_raw",
    )  # fmt: skip

    def __init__(self) -> None:
        self.done = False
        self.done_raw: bytes | None = None
        self._model: str | None = None
        self._usage: UsageReport | None = None
        self._open: set[int] = set()
        self._finished: set[int] = set()
        self._tool_index: dict[int, int] = {}
        self._splitter = Splitter()
        self._alike = Alike()
        self._between = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield what the events completed by ``data`` say, up to the end mark (raises as ``read``)."""
        for event in self._splitter.feed(data):
            yield from self.read(event)
            if self.done:
                return

    def take(self, data: bytes) -> tuple[list[Event], EngineFault | None]:
        """Return what ``feed`` would yield, and the fault it would raise after that."""
        if self._between:
            text = self._alike.text_of(data)
            if text is not None:
                return [Chunk(text=text, choice=self._alike.choice, raw=data)], None
        events: list[Event] = []
        try:
            for event in self._splitter.feed(data):
                events += self.read(event)
                if self.done:
                    break
        except EngineFault as fault:
            return events, fault
        self._between = self._splitter.empty
        return events, None

    def read(self, event: bytes) -> tuple[Event, ...]:
        """Return what one complete event says.

        Raises:
            EngineFault: an error object, a broken finish, or what is not the protocol.

        """
        text = self._alike.text_of(event)
        if text is not None:
            return (Chunk(text=text, choice=self._alike.choice, raw=event),)
        plain = event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2
        data = event[6:-2] if plain else data_of(event)
        if data.startswith(b"[") and data.strip() == b"[DONE]":
            self.done, self.done_raw = True, event
            return ()
        decoded = _sound(data)
        if self._model is None:
            self._model = decoded.model
        if decoded.usage:
            self._keep_usage(decoded, event)
        choices = decoded.choices
        if not choices:
            if choices is msgspec.UNSET and not decoded.usage:
                raise _shapeless(data, "an event without choices")
            return ()
        if len(choices) > 1:
            return tuple(self._chunk(choice, None) for choice in choices)
        found = _text_alone(decoded) if plain else None
        if found is not None:
            self._alike.learn(event, found, choices[0].index, _text_of_event)
        plain = plain or (event.startswith(b"data:") and event.count(b"\n") == 2)  # noqa: PLR2004 - CR LF
        return (self._chunk(choices[0], event if plain else None),)

    def end(self) -> tuple[Event, ...]:
        """Return usage and end mark of a whole answer (raises ``EngineFault`` if it is not whole)."""
        events: tuple[Event, ...] = ()
        if not self.done:
            events = self._last()
        if not self.done:
            raise EngineFault("truncated", "the stream ended without its end mark", status=200)
        if self._open or not self._finished:
            raise EngineFault("truncated", "the end mark came before a finish reason", status=200)
        finished = Finished(model=self._model, raw=self.done_raw)
        return (*events, self._usage, finished) if self._usage is not None else (*events, finished)

    def _last(self) -> tuple[Event, ...]:
        """Read what stood after the last empty line: the end mark perhaps, else a piece that was cut off."""
        event = self._splitter.flush()
        try:
            return self.read(event) if event is not None else ()
        except EngineFault as fault:
            if fault.kind == "malformed":
                raise EngineFault("truncated", "the stream ended inside an event", status=200) from None
            raise

    def _chunk(self, choice: _StreamChoice, raw: bytes | None) -> Chunk:
        delta, index = choice.delta, choice.index
        if choice.finish_reason:
            return self._last_chunk(choice, delta if delta is not None else _Message(), raw)
        if index not in self._finished:
            self._open.add(index)
        if delta is None:
            return Chunk(choice=index, raw=raw, logprobs=choice.logprobs)
        if type(delta.content) is str and delta.plain:
            return Chunk(text=delta.content, choice=index, raw=raw, logprobs=choice.logprobs)
        return self._full(choice, delta, raw, None)

    def _last_chunk(self, choice: _StreamChoice, delta: _Message, raw: bytes | None) -> Chunk:
        reason = choice.finish_reason
        assert reason is not None
        finish = finish_of(reason)
        self._finished.add(choice.index)
        self._open.discard(choice.index)
        return self._full(choice, delta, raw if reason in _STANDARD else None, finish)

    def _full(
        self, choice: _StreamChoice, delta: _Message, raw: bytes | None, finish: Finish | None
    ) -> Chunk:
        text, reasoning, changed = _texts(delta)
        calls: tuple[ToolCallDelta, ...] = ()
        if delta.tool_calls:
            calls, filled = self._calls(delta.tool_calls, choice.index)
            changed = changed or filled
        return Chunk(
            text=text,
            reasoning=reasoning,
            refusal=delta.refusal or "",
            tool_calls=calls,
            logprobs=choice.logprobs,
            finish=finish,
            choice=choice.index,
            raw=None if changed else raw,
        )

    def _calls(self, given: list[_ToolCall], choice: int) -> tuple[tuple[ToolCallDelta, ...], bool]:
        """Return the pieces, numbering calls a server left unnumbered."""
        calls: list[ToolCallDelta] = []
        filled = False
        for call in given:
            index = call.index
            if index is None:
                filled = True
                index = self._tool_index.get(choice, -1)
                if call.id is not None or index < 0:
                    index += 1
            self._tool_index[choice] = max(index, self._tool_index.get(choice, -1))
            function = call.function or _Function()
            calls.append(
                ToolCallDelta(
                    index=index, id=call.id, name=function.name or None, arguments=function.arguments or ""
                )
            )
        return tuple(calls), filled

    def _keep_usage(self, decoded: _StreamEvent, event: bytes) -> None:
        assert decoded.usage is not None
        raw = event if not decoded.choices and event.startswith(b"data:") else None
        report = usage_report(decoded.usage, raw)
        if report is not None:
            self._usage = report


def _sound(data: bytes) -> _StreamEvent:
    try:
        decoded = _EVENT.decode(data)
    except _UNREADABLE:
        raise EngineFault("malformed", "an event that is not a chat.completion.chunk", status=200) from None
    if decoded.error is not None:
        raise fault_from_error(decoded.error)
    return decoded


def _text_alone(event: _StreamEvent) -> str | None:
    """Return the text of an event in which nothing else can differ from one piece to the next."""
    if not event.choices or len(event.choices) > 1 or event.usage or event.error is not None:
        return None
    choice = event.choices[0]
    delta = choice.delta
    if choice.finish_reason or choice.logprobs is not None or delta is None or not delta.plain:
        return None
    return delta.content if type(delta.content) is str else None


def _text_of_event(event: bytes) -> str | None:
    try:
        return _text_alone(_EVENT.decode(event[6:-2]))
    except _UNREADABLE:
        return None


def _texts(message: _Message) -> tuple[str, str, bool]:
    """Return text, reasoning, and whether the bytes must be rewritten to say so."""
    content, reasoning, changed = message.content, message.reasoning_content or "", False
    if not reasoning and message.reasoning:
        reasoning, changed = message.reasoning, True
    if not isinstance(content, list):
        return content or "", reasoning, changed
    text = "".join(part.text or "" for part in content)
    for part in content:
        if isinstance(part.thinking, str):
            reasoning += part.thinking
        elif part.thinking:
            reasoning += "".join(str(piece.get("text", "")) for piece in part.thinking)
    return text, reasoning, True


def usage_report(block: dict[str, Any], raw: bytes | None) -> UsageReport | None:
    """Take a usage block apart; None when it contradicts itself (then nobody's count is believed)."""
    try:
        return UsageReport(usage=usage_from_openai(block), block=block, raw=raw)
    except ValueError:
        return None


def _shapeless(data: bytes, detail: str) -> EngineFault:
    error = error_object(data)
    return fault_from_error(error) if error else EngineFault("malformed", detail, status=200)


def _decoded(data: bytes, *, unframed: bool) -> _Completion:
    try:
        decoded = _COMPLETION.decode(data)
    except _UNREADABLE:
        error = error_object(data)
        if error is not None:
            raise fault_from_error(error) from None
        if unframed:
            raise EngineFault("truncated", "the answer ended with its connection", status=200) from None
        raise EngineFault("malformed", "the answer is not a chat.completion", status=200) from None
    if decoded.error is not None:
        raise fault_from_error(decoded.error)
    if not decoded.choices:
        error = error_object(data)
        raise (
            fault_from_error(error)
            if error
            else EngineFault("malformed", "the answer has no choices", status=200)
        )
    return decoded


def whole(data: bytes, *, unframed: bool = False) -> tuple[Event, ...]:
    """Read an answer that was not streamed.

    Raises:
        EngineFault: an error object, no choices, no finish reason, or what is not the protocol.

    """
    decoded = _decoded(data, unframed=unframed)
    assert decoded.choices
    if len(decoded.choices) == 1:
        (only,) = decoded.choices
        reason, message = only.finish_reason, only.message
        if reason in _STANDARD and type(message.content) is str and not message.reasoning:
            return _as_it_came(Whole(raw=data, finish=FINISHES[reason]), decoded)
    finishes: list[Finish] = []
    rewrite = False
    for choice in decoded.choices:
        if not choice.finish_reason:
            raise EngineFault("malformed", "a choice without finish reason", status=200)
        finishes.append(finish_of(choice.finish_reason))
        rewrite = rewrite or choice.finish_reason not in _STANDARD or _texts(choice.message)[2]
    body = _rewritten(data, decoded.choices, finishes) if rewrite else None
    return _as_it_came(Whole(body=body, raw=None if rewrite else data, finish=finishes[0]), decoded)


def _as_it_came(answer: Whole, decoded: _Completion) -> tuple[Event, ...]:
    finished = Finished(model=decoded.model)
    report = usage_report(decoded.usage, None) if decoded.usage else None
    return (answer, report, finished) if report is not None else (answer, finished)


def _rewritten(data: bytes, choices: list[_WholeChoice], finishes: list[Finish]) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(data)
    for given, choice, finish in zip(body["choices"], choices, finishes, strict=True):
        text, reasoning, _ = _texts(choice.message)
        message = given["message"]
        given["finish_reason"] = finish
        if isinstance(message.get("content"), list):
            message["content"] = text
        message.pop("reasoning", None)
        if reasoning:
            message["reasoning_content"] = reasoning
    return body


def streamed(data: bytes, *, unframed: bool = False) -> tuple[Event, ...]:
    """Turn a whole answer that came where a stream was asked for into the events of a stream."""
    decoded = _decoded(data, unframed=unframed)
    events: list[Event] = []
    for choice in decoded.choices or ():
        if not choice.finish_reason:
            raise EngineFault("malformed", "a choice without finish reason", status=200)
        text, reasoning, _ = _texts(choice.message)
        calls = tuple(
            ToolCallDelta(
                index=index, id=call.id, name=call.function.name, arguments=call.function.arguments or ""
            )
            for index, call in enumerate(choice.message.tool_calls or ())
            if call.function is not None
        )
        chunk = Chunk(
            text=text, reasoning=reasoning, refusal=choice.message.refusal or "", tool_calls=calls,
            finish=finish_of(choice.finish_reason), choice=choice.index,
        )  # fmt: skip
        events.append(chunk)
    report = usage_report(decoded.usage, None) if decoded.usage else None
    if report is not None:
        events.append(report)
    events.append(Finished(model=decoded.model))
    return tuple(events)
