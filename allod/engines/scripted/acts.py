"""A script as steps on the wire, faults and all.

The steps are the same for the HTTP product, which writes them to a socket, and for the in-process driver,
which hands them to the same reader a real answer goes through.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

import msgspec

from allod.engines.scripted.script import CREATED, FINGERPRINT, Line, Script, ScriptError

STALL_MS: Final = 3_600_000
_JSON: Final = (b"content-type", b"application/json")
_SSE: Final = (b"content-type", b"text/event-stream; charset=utf-8")
_SIMULATED: Final = (b"allod-simulated", b"true")
_DONE: Final = b"data: [DONE]\n\n"
_FILLER: Final = b"x" * 65536


class Head(msgspec.Struct, frozen=True):
    """Status line and headers. ``framing`` is a length in bytes, ``chunked`` or ``close``."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    framing: int | Literal["chunked", "close"] = "chunked"


class Body(msgspec.Struct, frozen=True):
    """Bytes of the body, framed as the head said."""

    data: bytes


class Raw(msgspec.Struct, frozen=True):
    """Bytes on the wire as they are."""

    data: bytes


class Wait(msgspec.Struct, frozen=True):
    """A pause in milliseconds."""

    ms: int


class End(msgspec.Struct, frozen=True):
    """The end of the message: whole, ``cut`` (closed) or ``reset``."""

    how: Literal["whole", "cut", "reset"] = "whole"


Step = Head | Body | Raw | Wait | End


class Play(msgspec.Struct, frozen=True, kw_only=True):
    """An answer and how to give it, in whatever dialect.

    Attributes:
        behaviour: what to do (``script.BEHAVIOURS``); one that is no act of its own gives the whole answer.
        stream: whether a stream was asked for.
        whole: makes the bytes of the answer that is not streamed.
        events: makes the events of the stream, end mark last.
        is_mark: tells whether an event is (part of) the end mark.
        more: an event that may come again and again.
        error: an error answer's JSON, ``error_event`` the same as an event.
        misshapen, misshapen_event: JSON of the wrong shape, as an answer and as an event.
        status, retry_after_s, delay_ms: for ``http`` and slow answers.

    """

    behaviour: str
    stream: bool
    whole: Callable[[], bytes]
    events: Callable[[], Iterator[bytes]]
    is_mark: Callable[[bytes], bool]
    more: bytes
    error: bytes
    error_event: bytes
    misshapen: bytes
    misshapen_event: bytes
    status: int = 200
    retry_after_s: int | None = None
    delay_ms: int = 0

    @property
    def data(self) -> bytes:
        """Everything, in the form that was asked for."""
        return b"".join(self.events()) if self.stream else self.whole()

    @property
    def media_type(self) -> tuple[bytes, bytes]:
        """Header of the form that was asked for."""
        return _SSE if self.stream else _JSON


def perform(script: Script) -> Iterator[Step]:
    """Return the steps of a scripted chat answer."""
    error = _encoded_error("scripted error", "server_error", None)
    return give(
        Play(
            behaviour=script.behaviour,
            stream=script.stream,
            whole=lambda: completion(script),
            events=lambda: events_of(script),
            is_mark=_DONE.__eq__,
            more=_event(script, 0, {"content": " and so on"}, None, None),
            error=_encoded_error("does not fit", "invalid_request_error", "context_length_exceeded")
            if script.behaviour == "too-long"
            else error,
            error_event=b"data: " + error + b"\n\n",
            misshapen=b'{"object":"chat.completion","choices":[{"index":0,"message":"a text"}]}',
            misshapen_event=b'data: {"object":"chat.completion.chunk","choices":[{"delta":"a text"}]}\n\n',
            status=script.status,
            retry_after_s=script.retry_after_s,
            delay_ms=script.delay_ms,
        )
    )


def give(play: Play) -> Iterator[Step]:
    """Yield the steps of a play."""
    if play.delay_ms:
        yield Wait(play.delay_ms)
    act = _ACTS.get(play.behaviour)
    if act is not None:
        yield from act(play)
    elif play.stream:
        yield from _stream(play.events())
    else:
        yield from _one(play.whole())


def _encoded_error(message: str, kind: str, code: str | None) -> bytes:
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": code}})


def refuse(error: ScriptError) -> Iterator[Step]:
    """Yield the steps of an error answer."""
    yield from _one(msgspec.json.encode({"error": error.error}), status=error.status)


def plain(value: Any) -> Iterator[Step]:
    """Yield the steps of a JSON answer."""
    yield from _one(msgspec.json.encode(value))


# -- forms -----------------------------------------------------------------------------------------------


def completion(script: Script) -> bytes:
    """Return the ``chat.completion`` object."""
    body: dict[str, Any] = {
        "id": script.id,
        "object": "chat.completion",
        "created": CREATED,
        "model": script.model,
        "system_fingerprint": FINGERPRINT,
        "choices": [_choice(script, index) for index in range(script.choices)],
    }
    if script.usage is not None:
        body["usage"] = script.usage
    return msgspec.json.encode(body)


def _choice(script: Script, index: int) -> dict[str, Any]:
    line = script.line
    message: dict[str, Any] = {"role": "assistant", "content": line.text, "refusal": None, "annotations": []}
    if line.reasoning:
        message[_reasoning_field(script)] = line.reasoning
    if line.calls:
        message["content"] = None
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in line.calls
        ]
    choice = {"index": index, "message": message, "logprobs": _logprobs(script, line.tokens)}
    if script.behaviour != "no-finish":
        choice["finish_reason"] = line.finish
    return choice


def _reasoning_field(script: Script) -> str:
    return "reasoning" if script.behaviour == "think-vllm" else "reasoning_content"


def _logprobs(script: Script, tokens: tuple[str, ...]) -> dict[str, Any] | None:
    if not script.logprobs:
        return None
    return {"content": [_logprob(token, script.top_logprobs) for token in tokens], "refusal": None}


def _logprob(token: str, top: int) -> dict[str, Any]:
    """Return made-up but stable values: the token itself is likeliest."""
    first = -0.001 - hashlib.sha256(token.encode()).digest()[0] / 2560
    named = [token, *(f"{token}{number}" for number in range(1, top))][:top]
    return {
        "token": token, "logprob": first, "bytes": list(token.encode()),
        "top_logprobs": [
            {"token": each, "logprob": first - rank * 2.0, "bytes": list(each.encode())}
            for rank, each in enumerate(named)
        ],
    }  # fmt: skip


def events_of(script: Script) -> Iterator[bytes]:
    """Yield the events of a stream, end mark included."""
    for index in range(script.choices):
        for delta, finish, logprobs in _deltas(script, script.line):
            if finish is None or script.behaviour != "no-finish":
                yield _event(script, index, delta, finish, logprobs)
    if script.include_usage and script.usage is not None:
        yield _data({**_stem(script), "choices": [], "usage": script.usage})
    yield _DONE


_Delta = tuple[dict[str, Any], str | None, Any]


def _deltas(script: Script, line: Line) -> Iterator[_Delta]:
    yield {"role": "assistant", "content": None if line.calls else ""}, None, None
    if line.reasoning:
        yield {_reasoning_field(script): line.reasoning}, None, None
    for token in line.tokens:
        yield {"content": token}, None, _logprobs(script, (token,))
    for index, call in enumerate(line.calls):
        head = {"index": index, "id": call.id, "type": "function"}
        yield {"tool_calls": [{**head, "function": {"name": call.name, "arguments": ""}}]}, None, None
        for start in range(0, len(call.arguments), 8):
            piece = {"index": index, "function": {"arguments": call.arguments[start : start + 8]}}
            yield {"tool_calls": [piece]}, None, None
    yield {}, line.finish, None


def _stem(script: Script) -> dict[str, Any]:
    return {
        "id": script.id, "object": "chat.completion.chunk", "created": CREATED, "model": script.model,
        "system_fingerprint": FINGERPRINT,
    }  # fmt: skip


def _event(script: Script, index: int, delta: dict[str, Any], finish: str | None, logprobs: Any) -> bytes:
    choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
    return _data({**_stem(script), "choices": [choice]})


def _data(value: Any) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


# -- acts ------------------------------------------------------------------------------------------------


def _one(data: bytes, *, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Iterator[Step]:
    yield Head(status, (_JSON, _SIMULATED, *headers), len(data))
    yield Body(data)
    yield End()


def _stream(events: Iterator[bytes]) -> Iterator[Step]:
    yield Head(200, (_SSE, _SIMULATED))
    for event in events:
        yield Body(event)
    yield End()


def _half(play: Play) -> Iterator[Step]:
    """Yield half an answer: some events, or half the bytes of one answer."""
    if play.stream:
        yield Head(200, (_SSE, _SIMULATED))
        events = list(play.events())
        for event in events[: max(1, len(events) // 2)]:
            yield Body(event)
    else:
        data = play.whole()
        yield Head(200, (_JSON, _SIMULATED), len(data))
        yield Body(data[: len(data) // 2])


def _refused(play: Play) -> Iterator[Step]:
    waits = play.retry_after_s
    headers = ((b"retry-after", str(waits).encode()),) if waits is not None else ()
    yield from _one(play.error, status=play.status, headers=headers)


def _too_long(play: Play) -> Iterator[Step]:
    yield from _one(play.error, status=400)


def _then(*last: Step, half: bool = True) -> Act:
    def act(play: Play) -> Iterator[Step]:
        if half:
            yield from _half(play)
        yield from last

    return act


def _mute(play: Play) -> Iterator[Step]:
    yield Head(200, (play.media_type, _SIMULATED))
    while True:
        yield Body(b": waiting\n\n" if play.stream else b" ")
        yield Wait(20)


def _garbage(play: Play) -> Iterator[Step]:
    yield Head(200, (play.media_type, _SIMULATED))
    yield Body(b"data: \xff\xfe{not json\n\n" if play.stream else b"\xff\xfe{not json")
    yield End()


def _misshapen(play: Play) -> Iterator[Step]:
    if not play.stream:
        yield from _one(play.misshapen)
        return
    yield from _half(play)
    yield Body(play.misshapen_event)
    yield from (Body(event) for event in play.events() if play.is_mark(event))
    yield End()


def _error_object(play: Play) -> Iterator[Step]:
    if not play.stream:
        yield from _one(play.error)
        return
    if play.behaviour == "error-mid":
        yield from _half(play)
    else:
        yield Head(200, (_SSE, _SIMULATED))
    yield Body(play.error_event)
    yield from (Body(event) for event in play.events() if play.is_mark(event))
    yield End()


def _endless(play: Play) -> Iterator[Step]:
    yield Head(200, (play.media_type, _SIMULATED))
    if play.stream:
        yield from (Body(event) for event in list(play.events())[:1])
    while True:
        yield Body(play.more * 64 if play.stream else b" " * 65536)


def _long_line(play: Play) -> Iterator[Step]:
    yield Head(200, (play.media_type, _SIMULATED))
    yield Body(b"data: " if play.stream else b'{"filler":"')
    while True:
        yield Body(_FILLER)


def _long_head(_: Play) -> Iterator[Step]:
    yield Raw(b"HTTP/1.1 200 OK\r\nx-filler: ")
    while True:
        yield Raw(_FILLER)


def _gzip(play: Play) -> Iterator[Step]:
    data = gzip.compress(play.data, mtime=0)
    yield Head(200, (play.media_type, _SIMULATED, (b"content-encoding", b"gzip")), len(data))
    yield Body(data)
    yield End()


def _redirect(_: Play) -> Iterator[Step]:
    yield from _one(b"{}", status=302, headers=((b"location", b"/v1/trap"),))


def _no_done(play: Play) -> Iterator[Step]:
    if play.stream:
        yield from _stream(event for event in play.events() if not play.is_mark(event))
    else:
        yield from _one(play.whole())


def _swapped(play: Play) -> Iterator[Step]:
    """Answer in one piece, or with a stream, whatever was asked for."""
    if play.behaviour == "unstreamed":
        yield from _one(play.whole())
    else:
        yield from _stream(play.events())


def _by_close(play: Play) -> Iterator[Step]:
    data = play.data
    yield Head(200, (play.media_type, _SIMULATED), "close")
    yield Body(data if play.behaviour == "eof" else data[: len(data) // 2])
    yield End("cut")


def _drip(play: Play) -> Iterator[Step]:
    data = play.data
    yield Head(200, (play.media_type, _SIMULATED))
    for position in range(len(data)):
        yield Body(data[position : position + 1])
        yield Wait(0)
    yield End()


def _dressed(play: Play) -> Iterator[Step]:
    if not play.stream:
        yield from _one(play.whole())
        return
    yield Head(200, (_SSE, _SIMULATED))
    for event in play.events():
        if play.behaviour == "crlf":
            yield Body(event.replace(b"\n", b"\r\n"))
        else:
            yield Body(b": keep-alive\n\n" + event)
    yield End()


Act = Callable[[Play], Iterator[Step]]
_ACTS: Final[Mapping[str, Act]] = {
    "http": _refused,
    "too-long": _too_long,
    "stall-before": _then(Wait(STALL_MS), End("cut"), half=False),
    "stall-mid": _then(Wait(STALL_MS), End("cut")),
    "mute": _mute,
    "truncate": _then(End("cut")),
    "reset": _then(End("reset")),
    "hangup": _then(End("cut"), half=False),
    "not-http": _then(Raw(b"\x16\x03\x01 this is no HTTP\r\n\r\n"), End("cut"), half=False),
    "long-head": _long_head,
    "garbage": _garbage,
    "malformed-event": _misshapen,
    "error-200": _error_object,
    "error-mid": _error_object,
    "no-done": _no_done,
    "endless": _endless,
    "long-line": _long_line,
    "gzip": _gzip,
    "redirect": _redirect,
    "unstreamed": _swapped,
    "overstreamed": _swapped,
    "eof": _by_close,
    "eof-cut": _by_close,
    "drip": _drip,
    "crlf": _dressed,
    "comments": _dressed,
}
