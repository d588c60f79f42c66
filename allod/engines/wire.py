"""The way to an operator: a pooled HTTP/1.1 client over asyncio, one per deployment.

Never shared between deployments, never through a proxy, never after a redirect, never to an address that was
not allowed; every wait and every size has a bound. What it raises is ``EngineFault`` and nothing else.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from allod.engines.contract import EngineFault
from allod.engines.outbox import Outbox
from allod.engines.sse import Splitter, data_of, is_done, name_of, sse_events
from allod.engines.wire_connection import MAX_HEAD_BYTES, NEVER, Connection
from allod.engines.wire_faults import error_object, fault_from_error, fault_from_response
from allod.engines.wire_response import Response

__all__ = [
    "MAX_BODY_BYTES", "MAX_HEAD_BYTES", "Response", "Splitter", "Wire", "data_of", "error_object",
    "fault_from_error", "fault_from_response", "is_done", "name_of", "sse_events",
]  # fmt: skip

MAX_BODY_BYTES: Final = 64 << 20
KEEP_IDLE_S: Final = 20.0
TICK_S: Final = 0.01
"""Deadlines are looked at no more often than this."""
HEADS: Final = 32
"""So many heads of requests are kept as bytes: a driver asks few kinds of questions."""

_FORBIDDEN_IN_HEADER: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_TARGET: Final = re.compile(r"/[\x21-\x7e]*\Z")
_DEFAULT_PORT: Final = {"http": 80, "https": 443}


class Wire:
    """The connections of one deployment.

    Args:
        base_url: ``http`` or ``https`` URL without user information; a query is put behind every path.
        allow_address: asked with the configured host and port before the name is resolved, and again with
            each resolved address before a socket is connected to it; the socket goes to exactly the address
            that was asked about (I6).
        max_connections: at most so many at once, None for no limit; who finds none free waits in order.
        connect_timeout_ms: for resolving, connecting and TLS together, and for waiting on a free connection.
        unix_socket: path of a socket to connect to instead of host and port.
        tls: a context of one's own, else the system's roots, TLS 1.2 or newer.
        outbox: through which requests leave, with those to other deployments; None sends each at once.

    Raises:
        ValueError: if the base URL cannot be used.

    """

    def __init__(
        self,
        base_url: str,
        *,
        allow_address: Callable[[str, int], bool],
        max_connections: int | None = None,
        connect_timeout_ms: int = 5000,
        unix_socket: str | None = None,
        tls: ssl.SSLContext | None = None,
        outbox: Outbox | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in _DEFAULT_PORT or not parts.hostname:
            raise ValueError(f"not an http or https URL: {base_url!r}")
        if parts.username is not None or parts.password is not None or parts.fragment:
            raise ValueError("a base URL carries no user, password or fragment")
        self.secure = parts.scheme == "https"
        self.host, self.port = parts.hostname, parts.port or _DEFAULT_PORT[parts.scheme]
        self.prefix = parts.path.rstrip("/")
        self.query = f"?{parts.query}" if parts.query else ""
        if not _TARGET.match(self.prefix + "/" + self.query):
            raise ValueError("a base URL is plain ASCII without blanks")
        self._allow, self._unix, self._tls = allow_address, unix_socket, tls
        self._max, self._connect_s = max_connections, connect_timeout_ms / 1000
        self._outbox = outbox
        self._static = self._static_head(parts.port)
        self._heads: dict[tuple[object, ...], bytes] = {}
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._opening = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = NEVER
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def _static_head(self, explicit_port: int | None) -> bytes:
        name = self.host.encode("idna").decode() if not self.host.isascii() else self.host
        name = f"[{name}]" if ":" in name else name
        default = _DEFAULT_PORT["https" if self.secure else "http"]
        host = name if explicit_port in (None, default) else f"{name}:{explicit_port}"
        if self._unix is not None:
            host = "localhost"
        return f"host: {host}\r\naccept-encoding: identity\r\nuser-agent: allod\r\n".encode()

    @property
    def by_outbox(self) -> bool:
        """Whether all that leaves here leaves by the outbox."""
        return self._outbox is not None

    @property
    def open_connections(self) -> int:
        """How many connections are open, busy or idle."""
        return len(self._all)

    async def request(
        self,
        method: str,
        path: str,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        *,
        first_byte_ms: int,
        idle_ms: int,
        total_ms: int,
        max_body_bytes: int = MAX_BODY_BYTES,
        until_event: bool = False,
        from_root: bool = False,
    ) -> Response:
        """Send a request and return its answer as soon as the head has come, whatever its status but 3xx.

        Args:
            method: in capitals.
            path: begins with ``/`` and is put behind the base URL's path.
            headers: more headers; host, length, encoding and agent are written here.
            body: all of it, empty for none.
            first_byte_ms: until the first byte of the body.
            idle_ms: longest silence after that.
            total_ms: until the last byte.
            max_body_bytes: bound of the answer's body.
            until_event: the first-byte limit runs until ``Response.begun`` is called (by ``sse_events`` at
                the first real event), so that comments and keep-alives do not count as an answer.
            from_root: ``path`` is the whole path, the base URL's path and query are left out.

        Raises:
            EngineFault: ``sent`` is False only if no byte of the request can have left.

        """
        head = self._head(method, path, from_root, headers, len(body))
        retried = False
        while True:
            connection = self._kept() or await self._take(total_ms / 1000, sent=retried)
            reused = connection.used and not retried
            response = connection.send(
                head, body, first_s=first_byte_ms / 1000, idle_s=idle_ms / 1000, total_s=total_ms / 1000,
                max_body_bytes=max_body_bytes, until_event=until_event,
            )  # fmt: skip
            if connection.deadline < self._timer_at:
                self._watch(connection)
            try:
                await connection.head_of(response)
            except EngineFault as fault:
                if reused and fault.kind == "reset" and connection.silent:
                    self._drop_idle()
                    retried = True
                    continue
                raise
            except BaseException:
                response.abort()
                raise
            return response

    async def close(self) -> None:
        """Close every connection; later requests fault with ``unavailable``. Idempotent."""
        self._closed = True
        for connection in tuple(self._all):
            connection.break_off(EngineFault("reset", "the driver was closed"))
        self._idle.clear()
        while self._queue:
            self._wake_next()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await asyncio.sleep(0)

    def _head(
        self, method: str, path: str, from_root: bool, headers: Sequence[tuple[bytes, bytes]], length: int
    ) -> bytes:
        asked = (method, path, from_root, *headers)
        lines = self._heads.get(asked)
        if lines is None:
            lines = self._checked(method, path if from_root else self.prefix + path + self.query, headers)
            if len(self._heads) >= HEADS:
                self._heads.clear()
            self._heads[asked] = lines
        if length or method == "POST":
            return b"%bcontent-length: %d\r\n\r\n" % (lines, length)
        return lines + b"\r\n"

    def _checked(self, method: str, target: str, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        if not _TARGET.match(target):
            raise EngineFault("request", "the path is not plain ASCII", sent=False)
        lines = [f"{method} {target} HTTP/1.1\r\n".encode(), self._static]
        for name, value in headers:
            if _FORBIDDEN_IN_HEADER.search(value) or not _TOKEN.match(name):
                raise EngineFault("request", "a header holds what no header may hold", sent=False)
            lines.append(b"%b: %b\r\n" % (name, value))
        return b"".join(lines)

    # -- the pool ----------------------------------------------------------------------------------------

    def _kept(self) -> Connection | None:
        """Return a connection that idles, or None."""
        while self._idle and not self._closed:
            connection = self._idle.pop()
            if not connection.lost:
                return connection
        return None

    async def _take(self, total_s: float, *, sent: bool) -> Connection:
        """Find, open or wait for a connection; ``sent`` tells whether a stale one took the request before."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        until = NEVER
        try:
            while not self._closed:
                connection = self._kept()
                if connection is not None:
                    return connection
                if until == NEVER:
                    until = loop.time() + min(self._connect_s, total_s)
                if self._max is None or len(self._all) + self._opening < self._max:
                    return await self._open(loop, until - loop.time())
                await self._queue_up(loop, until - loop.time())
        except EngineFault as fault:
            fault.sent = fault.sent or sent
            raise
        raise EngineFault("unavailable", "the driver is closed", sent=sent)

    async def _queue_up(self, loop: asyncio.AbstractEventLoop, limit_s: float) -> None:
        turn: asyncio.Future[None] = loop.create_future()
        self._queue.append(turn)
        try:
            async with asyncio.timeout(limit_s):
                await turn
        except BaseException as error:
            if turn in self._queue:
                self._queue.remove(turn)
            elif not turn.cancelled():
                self._wake_next()
            if isinstance(error, TimeoutError):
                raise EngineFault("overloaded", "all our connections to it are busy", sent=False) from None
            raise

    def _wake_next(self) -> None:
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _released(self, connection: Connection, reusable: bool) -> None:
        if reusable and not self._closed:
            connection.deadline = connection.loop.time() + KEEP_IDLE_S
            self._idle.append(connection)
            if connection.deadline < self._timer_at:
                self._watch(connection)
        else:
            self._all.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)
        if self._queue:
            self._wake_next()

    def _drop_idle(self) -> None:
        """Close what idles: after one stale connection the others are as old."""
        for connection in self._idle[:]:
            connection.close()

    async def _open(self, loop: asyncio.AbstractEventLoop, limit_s: float) -> Connection:
        if self._outbox is not None:
            self._outbox.flush()  # a connection is seen by the operator: what is to be recorded comes first
        self._opening += 1
        try:
            async with asyncio.timeout(limit_s):
                connection = await self._connect(loop, limit_s)
        except TimeoutError:
            raise EngineFault("connect", "no connection within its time", sent=False) from None
        except (OSError, ssl.SSLError, UnicodeError) as error:
            reason = (
                getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
            )
            raise EngineFault("connect", f"no connection: {reason}", sent=False) from error
        finally:
            self._opening -= 1
            if self._queue:
                self._wake_next()
        if self._closed:
            connection.close()
            raise EngineFault("unavailable", "the driver is closed", sent=False)
        return connection

    async def _connect(self, loop: asyncio.AbstractEventLoop, limit_s: float) -> Connection:
        connection = Connection(loop, self._released, self._outbox)
        connection.soon = self._watch
        if self._unix is not None:
            await loop.create_unix_connection(lambda: connection, self._unix)
        else:
            await self._connect_tcp(loop, connection, limit_s)
        if connection.lost:
            raise EngineFault("connect", "the connection ended as it was made", sent=False)
        self._all.add(connection)
        return connection

    async def _connect_tcp(
        self, loop: asyncio.AbstractEventLoop, connection: Connection, limit_s: float
    ) -> None:
        if not self._allow(self.host, self.port):
            raise EngineFault("connect", "the address is not among the allowed ones", sent=False)
        addresses = await self._resolve(loop)
        last: Exception | None = None
        for left, (family, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
            if address[0] != self.host and not self._allow(address[0], self.port):
                last = EngineFault(
                    "connect", "the resolved address is not among the allowed ones", sent=False
                )
                continue
            try:
                await self._connect_address(loop, connection, family, address, limit_s / left)
            except (OSError, TimeoutError) as error:
                last = error
                continue
            return
        raise last or EngineFault("connect", "the name has no address", sent=False)

    async def _resolve(self, loop: asyncio.AbstractEventLoop) -> list[tuple[int, Any]]:
        """Return where to connect to; for ``localhost`` no resolver is asked (RFC 6761, 6.3)."""
        try:
            literal = ipaddress.ip_address(self.host)
        except ValueError:
            if self.host.lower() == "localhost":
                return [(socket.AF_INET, ("127.0.0.1", self.port)), (socket.AF_INET6, ("::1", self.port))]
            found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
            return list(dict.fromkeys((int(family), address) for family, _, _, _, address in found))
        family = socket.AF_INET if literal.version == 4 else socket.AF_INET6  # noqa: PLR2004 - IPv4
        return [(family, (self.host, self.port))]

    async def _connect_address(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: Connection,
        family: int,
        address: Any,
        limit_s: float,
    ) -> None:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(limit_s):
                await loop.sock_connect(sock, address)
                if self.secure:
                    await loop.create_connection(
                        lambda: connection, sock=sock, ssl=self._context(), server_hostname=self.host
                    )
                else:
                    await loop.create_connection(lambda: connection, sock=sock)
        except BaseException:
            sock.close()
            raise

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_default_certs()
            context.set_alpn_protocols(["http/1.1"])
            self._tls = context
        return self._tls

    # -- deadlines ---------------------------------------------------------------------------------------

    def _watch(self, connection: Connection) -> None:
        """Make sure the timer fires no later than this connection's deadline."""
        at = connection.deadline
        if at < self._timer_at and self._loop is not None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = max(at, self._loop.time() + TICK_S / 2)
            self._timer = self._loop.call_at(self._timer_at, self._tick)

    def _tick(self) -> None:
        assert self._loop is not None
        self._timer, self._timer_at = None, NEVER
        now = self._loop.time()
        nearest = NEVER
        for connection in tuple(self._all):
            if connection.deadline <= now:
                connection.check(now)
            nearest = min(nearest, connection.deadline)
        if nearest is not NEVER and nearest != NEVER:
            self._timer_at = max(nearest, now + TICK_S)
            self._timer = self._loop.call_at(self._timer_at, self._tick)
