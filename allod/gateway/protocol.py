"""uvicorn's HTTP/1.1 protocol with the bounds a gateway needs.

Added to it: a bound on header bytes; 400 for repeated ``Authorization``, ``Host`` or ``Content-Length``
(RFC 9112 section 3.2, RFC 9110 section 8.6); a time limit for heads, bodies and readers that stop reading;
and the end of a request's task the moment its client is gone, so that a cancellation reaches the engine.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from allod.domain.errors import Invalid

if TYPE_CHECKING:
    import asyncio

    from uvicorn._types import ASGI3Application
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from allod.gateway.config import Server

_ONCE = frozenset({b"authorization", b"host", b"content-length"})
_REASON = {400: b"Bad Request", 408: b"Request Timeout", 413: b"Content Too Large"}

IDLE, HEAD, BODY, ANSWER = range(4)


def plain_error(status: int, message: str) -> bytes:
    """Return a whole HTTP/1.1 error answer for a request that never became one."""
    body = b'{"error":{"message":"%s","type":"invalid_request_error","param":null,"code":null}}' % (
        message.encode("ascii", "replace").replace(b'"', b"'")
    )
    head = (
        b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    )
    return head % (status, _REASON.get(status, b"Error"), len(body)) + body


class BoundedProtocol(HttpToolsProtocol):
    """One client connection; made through ``bounded`` so that it knows its limits."""

    limits: Server

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.phase, self.since = IDLE, self.loop.time()
        self._header_bytes = self._head_raw = 0
        self._header_seen: set[bytes] = set()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse a connection beyond the limit, else begin to wait for a head."""
        super().connection_made(transport)
        self.phase, self.since = HEAD, self.loop.time()
        if len(self.connections) > self.limits.max_connections:
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the request's task: the pipeline closes upstream and writes the ``aborted`` receipt."""
        cycle = self.cycle
        super().connection_lost(exc)
        self.pipeline.clear()
        if self._task is not None and cycle is not None and not cycle.response_complete:
            self._task.cancel()

    def on_message_begin(self) -> None:
        """Begin to count the head of the next request."""
        super().on_message_begin()
        self._header_bytes = self._head_raw = 0
        self._header_seen.clear()
        if self.phase in (IDLE, HEAD):
            self.phase, self.since = HEAD, self.loop.time()

    def on_url(self, url: bytes) -> None:
        """Count the target towards the head."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count the field, and refuse a second one of a kind that must be single."""
        self._count(len(name) + len(value) + 4)
        lower = name.lower()
        if lower in _ONCE:
            if lower in self._header_seen:
                raise Invalid(f"header {lower.decode('ascii')} is given twice")
            self._header_seen.add(lower)
        self.headers.append((lower, value))
        if lower == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > self.limits.max_header_bytes:
            raise Invalid(f"headers exceed {self.limits.max_header_bytes} bytes")

    def _count_raw(self, size: int) -> None:
        """Bound what the parser holds; one packet more than the limit, as it may carry the body already."""
        if self._head_raw > self.limits.max_header_bytes:
            raise Invalid(f"headers exceed {self.limits.max_header_bytes} bytes")
        self._head_raw += size

    def data_received(self, data: bytes) -> None:
        """Feed the parser; a refusal raised by a callback becomes a plain 400.

        The parser keeps an unfinished field to itself, so the bytes of a head are counted here as well.
        """
        try:
            if self.phase == HEAD:
                self._count_raw(len(data))
            super().data_received(data)
        except Invalid as error:
            self._reject(400, error.what)

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is not HTTP; ``msg`` may be the parser's or ours."""
        context = self._cause()
        self._reject(400, context or msg)

    @staticmethod
    def _cause() -> str | None:
        import sys  # noqa: PLC0415  (only on this path)

        error: BaseException | None = sys.exc_info()[1]
        while error is not None:
            if isinstance(error, Invalid):
                return error.what
            error = error.__cause__ or error.__context__
        return None

    def _reject(self, status: int, message: str) -> None:
        if not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
                self.transport.write(plain_error(status, message))
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Hand the request to the application and begin to wait for its body."""
        self.phase, self.since = BODY, self.loop.time()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that the client has sent everything; what follows is ours."""
        self.phase, self.since = ANSWER, self.loop.time()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._task = None
        if self.phase == ANSWER:
            self.phase = IDLE
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Note since when the client takes nothing."""
        self.since = self.loop.time()
        super().pause_writing()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)
        self._task = task

    def overdue(self, now: float) -> str | None:
        """Say which limit this connection has passed, if any (called once a second)."""
        waited_ms = (now - self.since) * 1000
        if self.phase == HEAD and waited_ms > self.limits.header_ms:
            return "head"
        if self.phase == BODY and waited_ms > self.limits.body_ms:
            return "body"
        if self.phase == ANSWER and self.flow.write_paused and waited_ms > self.limits.send_idle_ms:
            return "answer"
        return None

    def drop(self, late: str) -> None:
        """End an overdue connection: 408 while nothing was answered, then abort."""
        if late in ("head", "body") and (self.cycle is None or not self.cycle.response_started):
            self.transport.write(plain_error(408, f"the {late} of the request took too long"))
            self.transport.close()
        else:
            self.transport.abort()


def bounded(limits: Server) -> type[BoundedProtocol]:
    """Return the protocol class for one server."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    return type("Bounded", (BoundedProtocol,), {"limits": limits})


def sweep(connections: set[Any], now: float) -> None:
    """Drop every connection that is overdue."""
    for connection in list(connections):
        late = connection.overdue(now)
        if late is not None:
            connection.drop(late)
