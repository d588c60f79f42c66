"""One request and its answer on a connection, as ASGI sees them.

What a general server would do per message is done here once: the head of an answer waits for its first body
bytes and leaves with them in one write, no timer is set per request, and a body that has come whole is handed
over without waiting.
"""

from __future__ import annotations

import asyncio
import http
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from allod.engines.outbox import Outbox
    from allod.gateway.protocol import BoundedProtocol

LOG: Final = logging.getLogger("allod")
HIGH_WATER_BYTES: Final = 65_536
"""A client is read no further while so much of its body waits to be taken."""
STATUS_LINES: Final = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in http.HTTPStatus}
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"
_DEFECT: Final = b"Internal Server Error"

Message = MutableMapping[str, Any]
App = Callable[[Any, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


class Cycle:
    """A request under way.

    Attributes:
        response_started: whether the head of the answer was given; response_complete: whether all of it was.
        disconnected: whether the client is gone.
        keep_alive: whether the connection outlives the answer.
        more_body: whether more of the request's body is to come.

    """

    response_started = response_complete = disconnected = False
    more_body = True
    task: asyncio.Task[None] | None = None
    _told = _chunked = _linger = _streams = False
    _size = 0
    _waiter: asyncio.Future[None] | None = None
    _head: bytes | None = None
    _left: int | None = None

    def __init__(self, protocol: BoundedProtocol, scope: Message, *, keep_alive: bool, expects: bool) -> None:
        self._protocol, self.scope = protocol, scope
        scope["extensions"] = {"allod.client": self}
        self.keep_alive, self._continue = keep_alive, expects
        self._parts: list[bytes] = []

    async def run(self, app: App) -> None:
        """Have the application answer; whatever it does, the connection is left in a known state."""
        try:
            await app(self.scope, self.receive, self.send)
        except Exception as error:  # noqa: BLE001 (a defect of ours must not leave the client waiting)
            LOG.error("defect: %s in the application", type(error).__name__)  # noqa: TRY400 (no content in logs)
            await self._defect()
        finally:
            del self.scope["extensions"]  # it points back here
            if not self.response_complete and not self.disconnected:
                self._protocol.transport.abort()
            self._protocol.ended(self)

    async def _defect(self) -> None:
        if self.response_started or self.disconnected:
            return
        self.keep_alive = False
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(_DEFECT))]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": _DEFECT})

    # --- the request's body

    @property
    def outbox(self) -> Outbox:
        """By which the answer leaves."""
        return self._protocol.outbox

    def take(self, data: bytes) -> None:
        """Keep a piece of the body."""
        self._parts.append(data)
        self._size += len(data)
        if self._size > HIGH_WATER_BYTES:
            self._protocol.flow.pause_reading()
        if self._waiter is not None:
            self._wake()

    def whole(self) -> None:
        """Note that the body has come."""
        self.more_body = False
        if self._waiter is not None:
            self._wake()

    def leave(self) -> None:
        """Note that the client is gone."""
        self.disconnected = True
        if self._waiter is not None:
            self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def receive(self) -> Message:
        """Return the next of the body, or that the client is gone (ASGI)."""
        protocol = self._protocol
        if self._continue and not protocol.transport.is_closing():
            self._continue = False
            protocol.say(_CONTINUE)
        while not (self.disconnected or self.response_complete):
            if self._parts or not (self.more_body or self._told):
                self._told = not self.more_body
                body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
                self._parts, self._size = [], 0
                protocol.read_on()
                return {"type": "http.request", "body": body, "more_body": self.more_body}
            protocol.read_on()
            self._waiter = protocol.loop.create_future()
            await self._waiter
            self._waiter = None
        return {"type": "http.disconnect"}

    # --- the answer

    async def send(self, message: Message) -> None:
        """Take a part of the answer (ASGI); waits while the client does not read."""
        if message["type"] == "http.response.start":
            lines, length = _lines(message["headers"])
            self.start(message["status"], lines, length)
        else:
            wait = self.write(message.get("body", b""), more=message.get("more_body", False))
            if wait is not None:
                await wait

    def start(self, status: int, lines: bytes, length: int | None) -> None:
        """Give the head of the answer as header lines; it leaves with the first body bytes.

        A connection on which more of the request's body may come is not used again: what follows could be
        taken for the body, or the body for a request.
        """
        if self.response_started:
            raise RuntimeError("an answer has one head")
        if self.more_body:
            self.keep_alive, self._linger = False, not self._continue
        self._continue, self._chunked = False, True
        head = STATUS_LINES[status] + self._protocol.date_line() + lines
        if length is not None:
            self._chunked, self._left = False, length
            head += b"content-length: %d\r\n" % length
        if not self.keep_alive:
            head += b"connection: close\r\n"
        if self._chunked and self.scope["http_version"] == "1.0":
            self._chunked = False  # it ends with the connection (RFC 9112 section 6.1)
        if self._chunked:
            head += b"transfer-encoding: chunked\r\n"
        self._head, self.response_started = head + b"\r\n", True
        self._streams = self._chunked and self.scope["method"] != "HEAD"

    def write(self, data: bytes, *, more: bool) -> Awaitable[None] | None:
        """Write body bytes, the head before the first; without ``more`` the answer is complete.

        Returns something to wait for while the client does not read.
        """
        if self.disconnected:
            return None
        if self.response_complete or not self.response_started:
            raise RuntimeError("the body of an answer follows its head and ends once")
        protocol = self._protocol
        if more and data and self._streams:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        else:
            data = self._framed(data, more=more)
        if self._head is not None:
            data, self._head = self._head + data, None
        if data:
            protocol.outbox.put(protocol.transport, data)
        if more:
            return protocol.flow.drain() if protocol.flow.write_paused else None
        self.response_complete = True
        if self._waiter is not None:
            self._wake()
        if not (self.keep_alive or (self._linger and self.more_body)):
            protocol.hang_up()
        protocol.on_response_complete()
        return None

    def _framed(self, data: bytes, *, more: bool) -> bytes:
        """Frame body bytes as the head said (RFC 9112 section 6)."""
        if self.scope["method"] == "HEAD":
            return b""
        if self._chunked:
            if data:
                data = b"%x\r\n%b\r\n" % (len(data), data)
            return data if more else data + _LAST_CHUNK
        if self._left is None:
            return data
        self._left -= len(data)
        if self._left < 0 or (self._left and not more):
            raise RuntimeError("the body is not as long as its content-length says")
        return data


def _lines(headers: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, int | None]:
    """Write headers as lines; returns them without the length, and the length if one is given.

    Raises:
        RuntimeError: a header holds what no header may hold (RFC 9110 section 5.5).

    """
    length: int | None = None
    lines: list[bytes] = []
    for name, value in headers:
        if name == b"content-length":
            length = int(value)
        else:
            lines.append(b"%b: %b\r\n" % (name, value))
    out = b"".join(lines)
    if out.count(b"\n") != len(lines) or out.count(b"\r") != len(lines) or b"\0" in out:
        raise RuntimeError("a header holds what no header may hold")
    return out, length
