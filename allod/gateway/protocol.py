"""uvicorn's HTTP/1.1 protocol with the bounds a gateway needs.

Added to it: a bound on header bytes; 400 for repeated ``Authorization``, ``Host`` or ``Content-Length``
(RFC 9112 section 3.2, RFC 9110 section 8.6); a time limit for heads, bodies and readers that stop reading;
and the end of a request's task the moment its client is gone, so that a cancellation reaches the engine.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from allod.domain.errors import Invalid
from allod.engines.outbox import Outbox
from allod.gateway.cycle import Cycle

if TYPE_CHECKING:
    import asyncio

    from allod.gateway.config import Server

_ONCE = frozenset({b"authorization", b"host", b"content-length"})
_REASON = {400: b"Bad Request", 408: b"Request Timeout", 503: b"Service Unavailable"}

_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}
IDLE_MS: Final = 75_000
"""A connection that asks nothing for so long is closed."""

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
    """One client connection; made through ``bounded`` so that it knows its limits.

    Of its base only the life of the connection is left: requests are kept as ``Cycle``, and a connection that
    idles too long is found by ``sweep``, not by a timer of its own.
    """

    limits: Server
    max_header_bytes: int
    outbox: Outbox
    cycle: Cycle  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.phase, self.since = IDLE, self.loop.time()
        self._header_bytes = self._head_raw = self._loose = 0
        self._in_head = True
        self._running: Cycle | None = None
        self._queued: deque[Cycle] = deque()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse a connection beyond the limit, else begin to wait for a head."""
        super().connection_made(transport)
        self._base = {
            "type": "http",
            "asgi": _ASGI,
            "scheme": self.scheme,
            "root_path": "",
            "server": self.server,
            "client": self.client,
        }
        self.phase, self.since = HEAD, self.loop.time()
        if len(self.connections) > self.limits.max_connections:
            transport.write(plain_error(503, "too many connections"))
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        """End the request's task: the pipeline closes upstream and writes the ``aborted`` receipt."""
        self.connections.discard(self)
        self._queued.clear()
        self.flow.resume_writing()
        running = self._running
        if running is not None and not running.response_complete:
            running.leave()
            if running.task is not None:
                running.task.add_done_callback(self.tasks.discard)  # if it never began
                running.task.cancel()
        self.transport.close()
        self.parser = self.cycle = None  # type: ignore[assignment]  # both point back here

    # --- a request's head

    def on_message_begin(self) -> None:
        """Begin to count the head of the next request."""
        self.url, self.headers = b"", []
        self._header_bytes = self._head_raw = 0
        self._in_head = True
        if self.phase in (IDLE, HEAD):
            self.phase, self.since = HEAD, self.loop.time()

    def on_url(self, url: bytes) -> None:
        """Count the target towards the head."""
        self._count(len(url))
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the field and count it.

        A field behind the body (a trailer) is counted and dropped: it may not say who asks or for what (RFC
        9110 section 6.5.1).
        """
        size = self._header_bytes = self._header_bytes + len(name) + len(value) + 4
        if size > self.max_header_bytes:
            self._count(0)
        if self._in_head:
            self.headers.append((name.lower(), value))
        elif name.lower().startswith(b"allod-"):
            raise Invalid("an Allod-* field may not come behind the body")

    def on_headers_complete(self) -> None:
        """Hand the request to the application and begin to wait for its body."""
        self._in_head = False
        if self._running is None:
            self.phase, self.since = BODY, self.loop.time()
        parser, url = self.parser, self.url
        if url.startswith(b"/") and b"?" not in url and b"%" not in url and b"#" not in url:
            raw_path, query = url, b""
        else:
            parsed = httptools.parse_url(url)
            raw_path, query = parsed.path or b"/", parsed.query or b""
        path = raw_path.decode("ascii")
        version = parser.get_http_version()
        found = dict(self.headers)
        if len(found) != len(self.headers):
            _demand_single(self.headers)
        if b"host" not in found and version != "1.0":
            raise Invalid("header host is missing")  # RFC 9112 section 3.2
        if parser.should_upgrade():
            self._loose = self._length()
        scope = {
            **self._base,
            "http_version": version,
            "method": parser.get_method().decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": self.headers,
        }
        cycle = self.cycle = Cycle(
            self,
            scope,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            expects=b"expect" in found and found[b"expect"].lower() == b"100-continue",
        )
        if self._running is None:
            self._start(cycle)
        else:
            self.flow.pause_reading()
            self._queued.append(cycle)

    def _start(self, cycle: Cycle) -> None:
        self._running = cycle
        cycle.task = self.loop.create_task(cycle.run(self.app))
        self.tasks.add(cycle.task)

    def ended(self, cycle: Cycle) -> None:
        """Forget the task of a request that is over, and begin the next of a client that did not wait."""
        task, cycle.task = cycle.task, None
        if task is not None:
            self.tasks.discard(task)
        if self._running is cycle:
            self._running = None
            if self._queued and not self.transport.is_closing():
                following = self._queued.popleft()
                self.phase, self.since = BODY if following.more_body else ANSWER, self.loop.time()
                self._start(following)
                self.read_on()

    # --- a request's body

    def on_body(self, body: bytes) -> None:
        """Keep what the request carries, unless it has been answered already."""
        if not self.cycle.response_complete:
            self.cycle.take(body)

    def on_message_complete(self) -> None:
        """Note that the client has sent everything; what follows is ours."""
        if self._loose:
            return
        done = self.cycle.response_complete
        self.phase, self.since = IDLE if done else ANSWER, self.loop.time()
        if not done:
            self.cycle.whole()
        elif not self.cycle.keep_alive:
            self.hang_up()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self.server_state.total_requests += 1
        self.since = self.loop.time()
        if self.phase == ANSWER and not self._queued:
            self.phase = IDLE
        if not self.transport.is_closing():
            self.read_on()

    def read_on(self) -> None:
        """Read what the client sends, unless requests that it sent already still wait for their turn."""
        if self.flow.read_paused and not self._queued:
            self.flow.resume_reading()

    # --- a request that asks for another protocol: it is answered as any other (RFC 9110 section 7.8)

    def _length(self) -> int:
        """Return how much body follows: the parser leaves it to whoever would switch protocols."""
        if any(name == b"transfer-encoding" for name, _ in self.headers):
            raise Invalid("a request with a chunked body cannot ask for another protocol")
        return int(next((value for name, value in self.headers if name == b"content-length"), b"0"))

    def _stay(self, rest: bytes) -> bytes:
        """Take the body of such a request; returns what is behind it."""
        body, rest = rest[: self._loose], rest[self._loose :]
        self._loose -= len(body)
        if body:
            self.on_body(body)
        if not self._loose:
            self.on_message_complete()
        return rest

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
            while data:
                if self._loose:
                    data = self._stay(data)
                    continue
                if self._in_head:
                    self._count_raw(len(data))
                try:
                    self.parser.feed_data(data)
                except httptools.HttpParserUpgrade as upgrade:
                    data = data[upgrade.args[0] :]
                else:
                    return
        except Invalid as error:
            self._reject(400, error.what)
        except httptools.HttpParserError:
            self._reject(400, self._cause() or "this is not HTTP/1.1")

    def date_line(self) -> bytes:
        """Return the lines that stand in every head; they change once a second."""
        state = self.server_state
        known: tuple[Any, bytes] = getattr(state, "allod_lines", (None, b""))
        if known[0] is not state.default_headers:
            lines = b"".join(b"%b: %b\r\n" % header for header in state.default_headers)
            known = (state.default_headers, lines)
            state.allod_lines = known  # type: ignore[attr-defined]
        return known[1]

    def say(self, data: bytes) -> None:
        """Send bytes, with what else leaves in this turn of the loop."""
        self.outbox.put(self.transport, data)

    def hang_up(self) -> None:
        """Close the connection behind what was said."""
        self.outbox.flush()
        self.transport.close()

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
            if self._silent():
                self.say(plain_error(status, message))
            self.hang_up()

    def _silent(self) -> bool:
        """Tell whether an error may be said here: no answer is under way, or was the last one."""
        cycle: Cycle | None = self._running or self.cycle
        if cycle is None or not cycle.response_started:
            return True
        return cycle.response_complete and cycle.keep_alive

    def pause_writing(self) -> None:
        """Note since when the client takes nothing."""
        self.since = self.loop.time()
        super().pause_writing()

    def shutdown(self) -> None:
        """Close when idle, else after the answer under way (the server is about to stop)."""
        if self._running is None:
            self.hang_up()
        else:
            self._running.keep_alive = False

    def overdue(self, now: float) -> str | None:
        """Say which limit this connection has passed, if any (called once a second)."""
        waited_ms = (now - self.since) * 1000
        if self.phase == HEAD and waited_ms > self.limits.header_ms:
            return "head"
        if self.phase == BODY and waited_ms > self.limits.body_ms:
            return "body"
        if self.phase == IDLE and waited_ms > IDLE_MS:
            return "idle"
        if self.phase == ANSWER and self.flow.write_paused and waited_ms > self.limits.send_idle_ms:
            return "answer"
        return None

    def drop(self, late: str) -> None:
        """End an overdue connection: 408 while nothing was answered, a plain close when idle, else abort."""
        if late == "idle":
            self.hang_up()
        elif late in ("head", "body") and self._silent():
            self.say(plain_error(408, f"the {late} of the request took too long"))
            self.hang_up()
        else:
            self.transport.abort()


def _demand_single(headers: list[tuple[bytes, bytes]]) -> None:
    """Refuse a second field of a kind that must be single."""
    names = [name for name, _ in headers]
    for name in _ONCE:
        if names.count(name) > 1:
            raise Invalid(f"header {name.decode('ascii')} is given twice")


def bounded(limits: Server, outbox: Outbox | None = None) -> type[BoundedProtocol]:
    """Return the protocol class for one server; answers leave by ``outbox``, or by one of its own."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    own = {"limits": limits, "max_header_bytes": limits.max_header_bytes, "outbox": outbox or Outbox()}
    return type("Bounded", (BoundedProtocol,), own)


def sweep(connections: set[Any], now: float) -> None:
    """Drop every connection that is overdue."""
    for connection in list(connections):
        late = connection.overdue(now)
        if late is not None:
            connection.drop(late)
