"""One HTTP/1.1 connection to an operator, and the answer that is on it (RFC 9112).

The connection parses with llhttp (strict: no leniency is switched on) and knows four deadlines, all kept as
plain numbers that one timer per deployment looks at: first byte, silence, total, and how long it may idle.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final, cast

import httptools

from allod.engines.contract import EngineFault, FaultKind
from allod.engines.outbox import Outbox
from allod.engines.wire_response import Response

MAX_HEAD_BYTES: Final = 64 * 1024
HIGH_WATER_BYTES: Final = 256 * 1024
GULP_BYTES: Final = 16 * 1024
"""A read of this size means that more is waiting: the others get their turn first."""
NEVER: Final = float("inf")
_INTERIM: Final = 200
_REDIRECT: Final = range(300, 400)
_SWITCHING: Final = 101


class Connection(asyncio.Protocol):
    """One connection, serving one answer at a time."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        released: Callable[[Connection, bool], None],
        outbox: Outbox | None = None,
    ) -> None:
        self.loop, self._outbox = loop, outbox
        self.transport: asyncio.Transport | None = None
        self.response: Response | None = None
        self.paused = self.used = self.lost = False
        self.deadline = NEVER
        self.first_deadline = self.total_deadline = NEVER
        self.idle_s = 0.0
        self.last_byte = 0.0
        self.until_event = False
        self.awaiting_first = False
        self.soon: Callable[[Connection], None] | None = None
        self._released = released
        self._parser: Any = httptools.HttpResponseParser(self)
        self._head_bytes = self._raw_bytes = 0
        self._keep_alive = False
        self._framed = False

    # -- the exchange ------------------------------------------------------------------------------------

    def send(
        self, head: bytes, body: bytes, *, first_s: float, idle_s: float, total_s: float, max_body_bytes: int,
        until_event: bool,
    ) -> Response:  # fmt: skip
        """Write a request and return the response that will fill."""
        assert self.transport is not None
        assert self.response is None
        now = self.loop.time()
        self.first_deadline, self.total_deadline, self.idle_s = now + first_s, now + total_s, idle_s
        self.awaiting_first, self.until_event = True, until_event
        self.deadline = min(self.first_deadline, self.total_deadline)
        self._head_bytes = self._raw_bytes = 0
        self._framed = False
        response = self.response = Response(self, max_body_bytes)
        pieces = (head + body,) if len(body) < HIGH_WATER_BYTES else (head, body)
        for piece in pieces:
            if self._outbox is None:
                self.transport.write(piece)
            else:
                self._outbox.put(self.transport, piece)
        return response

    async def head_of(self, response: Response) -> None:
        """Wait until the head of the answer has come (raises its ``EngineFault``)."""
        while not response._head:  # noqa: SLF001 - the two classes are one mechanism
            if response._fault is not None:  # noqa: SLF001
                raise response._fault.anew()  # noqa: SLF001
            response._waiter = waiter = self.loop.create_future()  # noqa: SLF001
            try:
                await waiter
            finally:
                response._waiter = None  # noqa: SLF001

    def begun(self, response: Response) -> None:
        """Switch from the first-byte limit to the silence limit."""
        if self.awaiting_first and self.response is response:
            self.awaiting_first = False
            self.last_byte = self.loop.time()
            self._rearm()

    def end_within(self, response: Response, grace_s: float) -> None:
        """Allow the current answer this much longer."""
        if self.response is response:
            self.total_deadline = min(self.total_deadline, self.loop.time() + grace_s)
            self.resume(response)
            self._rearm()

    def read_on(self, response: Response) -> None:
        """Take everything that comes: nobody waits for events, so the first-byte limit has done its work."""
        self.resume(response)
        if self.until_event:
            self.begun(response)

    def resume(self, response: Response) -> None:
        """Read on after back-pressure."""
        if self.paused and self.response is response and self.transport is not None:
            self.paused = False
            self.last_byte = self.loop.time()
            self.transport.resume_reading()

    def check(self, now: float) -> None:
        """Fault or drop the connection if a deadline passed, else renew ``deadline``."""
        response = self.response
        if response is None:
            if now >= self.deadline:
                self.close()
            return
        if now >= self.total_deadline:
            self.break_off(EngineFault("timeout", "the answer was not whole within its total time"))
        elif self.awaiting_first:
            if now >= self.first_deadline:
                self.break_off(EngineFault("timeout", "no answer within the time for its first byte"))
        elif not self._waits_for_us(response) and now >= self.last_byte + self.idle_s:
            self.break_off(EngineFault("timeout", "the answer fell silent"))
        self._set_deadline()

    def break_off(self, fault: EngineFault) -> None:
        """Abort the socket now and fail the answer on it."""
        response = self.response
        self.response = None
        self.close()
        if response is not None and not response._complete:  # noqa: SLF001
            if response._fault is None:  # noqa: SLF001
                response._fault = fault  # noqa: SLF001
            response._wake()  # noqa: SLF001

    def close(self) -> None:
        """Abort the socket; idempotent."""
        self.lost = True
        self._parser = None  # it points back here
        self.deadline = NEVER
        if self.transport is not None:
            self.transport.abort()
            self.transport = None
            self._released(self, False)

    def _waits_for_us(self, response: Response) -> bool:
        return self.paused or bool(response._parts and not response._read_all)  # noqa: SLF001

    def _set_deadline(self) -> None:
        if self.response is None:
            return
        if self.awaiting_first:
            nearest = self.first_deadline
        elif self._waits_for_us(self.response):
            nearest = self.loop.time() + self.idle_s
        else:
            nearest = self.last_byte + self.idle_s
        self.deadline = min(nearest, self.total_deadline)

    def _rearm(self) -> None:
        self._set_deadline()
        if self.soon is not None:
            self.soon(self)

    # -- asyncio.Protocol --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse what came and wake who waits for it."""
        response = self.response
        if response is None:
            self.close()
            return
        self._raw_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._parse_failed(response, error)
            return
        if self.response is None:
            response._wake()  # noqa: SLF001
            return
        if self.awaiting_first and response._got and not self.until_event:  # noqa: SLF001
            self.begun(response)
        if len(data) >= GULP_BYTES:
            self._breathe()
        self._after_data(response)

    def _breathe(self) -> None:
        """Read no more until the loop has gone round.

        uvloop reads a full socket up to 32 times in a row: whoever pours would keep everyone else waiting,
        the client that has gone and whose cancellation ends the pouring among them.
        """
        if self.transport is not None and not self.paused:
            self.transport.pause_reading()
            self.loop.call_soon(self._inhale)

    def _inhale(self) -> None:
        if self.transport is not None and not self.paused:
            self.transport.resume_reading()

    def eof_received(self) -> bool:
        """Close our side too."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Judge what the end of the connection means for the answer on it."""
        response, self.response = self.response, None
        self.lost = True
        self._parser = None
        if self.transport is not None:
            self.transport = None
            self._released(self, False)
        if response is None or response._complete or response._fault is not None:  # noqa: SLF001
            return
        if response._head and not self._framed and exc is None:  # noqa: SLF001
            response.unframed = True
            response._complete = True  # noqa: SLF001
        else:
            kind: FaultKind = "reset" if exc is not None or not self._raw_bytes else "truncated"
            where = "in the body" if response._head else "before the answer"  # noqa: SLF001
            response._fault = EngineFault(kind, f"the connection ended {where}")  # noqa: SLF001
        response._wake()  # noqa: SLF001

    @property
    def silent(self) -> bool:
        """Whether no byte of the current or last answer has come."""
        return self._raw_bytes == 0

    def _after_data(self, response: Response) -> None:
        if not response._head:  # noqa: SLF001
            if self._raw_bytes > MAX_HEAD_BYTES:
                self.break_off(EngineFault("oversize", f"a head over {MAX_HEAD_BYTES} bytes"))
            return
        if self._raw_bytes - self._head_bytes > 16 * response._got + MAX_HEAD_BYTES:  # noqa: SLF001
            self.break_off(EngineFault("malformed", "chunk framing far larger than what it frames"))
            return
        if response._held > HIGH_WATER_BYTES and not response._read_all and not self.paused:  # noqa: SLF001
            assert self.transport is not None
            self.paused = True
            self.transport.pause_reading()
        if response._take is None:  # noqa: SLF001
            if not response._read_all:  # noqa: SLF001
                response._wake()  # noqa: SLF001
        elif response._parts and not response._busy and response.hand_on():  # noqa: SLF001
            if response._pending is not None and not self.paused and self.transport is not None:  # noqa: SLF001
                self.paused = True
                self.transport.pause_reading()
            response._wake()  # noqa: SLF001

    def _parse_failed(self, response: Response, error: Exception) -> None:
        cause = error.__context__
        if response._complete:  # noqa: SLF001 - bytes after a final answer: the answer stands
            self.close()
            response._wake()  # noqa: SLF001
        elif isinstance(cause, EngineFault):
            self.break_off(cause)
        else:
            self.break_off(EngineFault("malformed", "not HTTP/1.1"))

    # -- httptools callbacks -----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Refuse bytes nobody asked for."""
        if self.response is None:
            raise EngineFault("malformed", "an answer to no question")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, or count a trailer."""
        response = self.response
        assert response is not None
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > MAX_HEAD_BYTES:
            raise EngineFault("oversize", f"a head over {MAX_HEAD_BYTES} bytes")
        if not response._head:  # noqa: SLF001
            response.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Judge the head: no redirect, no compression we did not ask for."""
        response = self.response
        assert response is not None
        status = self._parser.get_status_code()
        if status < _INTERIM:
            if status == _SWITCHING:
                raise EngineFault("malformed", "a protocol switch nobody asked for")
            response.headers.clear()
            return
        if status in _REDIRECT:
            raise EngineFault("redirect", f"HTTP {status}: redirects are never followed", status=status)
        response.status = status
        for name, value in response.headers:
            size = len(name)
            if size == 16 and name.lower() == b"content-encoding":  # noqa: PLR2004 - length first: cheap
                if value.strip().lower() not in (b"", b"identity"):
                    raise EngineFault("malformed", "a compressed answer nobody asked for", status=status)
            elif (size == 14 and name.lower() == b"content-length") or (  # noqa: PLR2004
                size == 17 and name.lower() == b"transfer-encoding" and b"chunked" in value.lower()  # noqa: PLR2004
            ):
                self._framed = True
        response._head = True  # noqa: SLF001
        self.last_byte = self.loop.time()

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body within its bound."""
        response = self.response
        assert response is not None
        got = response._got = response._got + len(data)  # noqa: SLF001
        if got > response._max_body:  # noqa: SLF001
            if response._draining:  # noqa: SLF001
                raise EngineFault("oversize", "more after the end mark than is worth waiting for")
            raise EngineFault("oversize", f"an answer over {response._max_body} bytes")  # noqa: SLF001
        self.last_byte = self.loop.time()
        if not response._draining:  # noqa: SLF001
            response._held += len(data)  # noqa: SLF001
            response._parts.append(data)  # noqa: SLF001

    def on_message_complete(self) -> None:
        """Hand the connection back, or wait for the final answer after an interim one."""
        response = self.response
        assert response is not None
        if not response._head:  # noqa: SLF001
            return
        response._complete = True  # noqa: SLF001
        self.response = None
        self.used = True
        transport = self.transport
        assert transport is not None
        if self.paused:
            self.paused = False
            with contextlib.suppress(RuntimeError):
                transport.resume_reading()
        if self._parser.should_keep_alive() and not transport.get_write_buffer_size():
            self._released(self, True)
        else:
            self.close()
