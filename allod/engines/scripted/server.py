"""The scripted engine over HTTP: a server of its own, because its faults live below any framework.

It answers ``/v1/chat/completions``, ``/v1/embeddings`` and ``/v1/models`` (with any prefix) and marks every
answer with ``allod-simulated: true``.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

import httptools
import msgspec

from allod.engines.scripted import acts
from allod.engines.scripted.embedding import embeddings
from allod.engines.scripted.script import BEHAVIOURS, CREATED, ScriptError, is_model, write_script

MAX_BODY_BYTES: Final = 64 << 20
MAX_HEAD_BYTES: Final = 64 * 1024
SEEN: Final = 256
YIELD_BYTES: Final = 64 * 1024
_REASONS: Final = {
    200: b"OK",
    302: b"Found",
    400: b"Bad Request",
    404: b"Not Found",
    429: b"Too Many Requests",
}


Route = Callable[[str, str, bytes], Iterator[acts.Step]]
"""From method, path and body to the steps of the answer."""


STAND_IN: Final = "answer"
"""What a model of an unknown name does in the HTTP product."""


class Seen(msgspec.Struct, kw_only=True):
    """A request the server took, kept only when it records: ``lost_at`` is when its client went away."""

    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    connection: int
    at: float
    lost_at: float | None = None


class Server:
    """A running scripted server; times are ``time.monotonic`` seconds.

    Args:
        record: keep the last requests (tests and drills).
        answer: another way to choose the steps; ``route`` by default.

    Attributes:
        port: where it listens.
        connections: how many connections were ever accepted.
        seen: the last requests when ``record`` is on, else empty.

    """

    def __init__(self, *, record: bool = False, answer: Route | None = None) -> None:
        self.port = 0
        self.answer: Route = answer if answer is not None else route
        self.connections = 0
        self.record = record
        self.seen: deque[Seen] = deque(maxlen=SEEN)
        self.open: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(
        self, host: str = "127.0.0.1", port: int = 0, *, unix_socket: str | None = None
    ) -> Server:
        """Listen (port 0: any); returns itself."""
        loop = asyncio.get_running_loop()
        if unix_socket is not None:
            self._server = await loop.create_unix_server(lambda: _Connection(self), unix_socket)
            return self
        self._server = await loop.create_server(lambda: _Connection(self), host, port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        for connection in tuple(self.open):
            connection.drop()
        await asyncio.sleep(0)


async def serve(host: str, port: int, ready: Callable[[int], None] | None = None) -> None:
    """Serve until cancelled; ``ready`` is told the port once it listens.

    A model name that chooses no behaviour is answered as ``answer``: the server stands in for any operator.
    """
    server = await Server(answer=stand_in).start(host, port)
    if ready is not None:
        ready(server.port)
    try:
        await asyncio.Event().wait()
    finally:
        await server.close()


def stand_in(method: str, path: str, body: bytes) -> Iterator[acts.Step]:
    """As ``route``, but a model of an unknown name gives the scripted answer under that name."""
    try:
        asked = _decoded(body) if method == "POST" else None
    except ScriptError as error:
        return acts.refuse(error)
    if not isinstance(asked, dict):
        return route(method, path, body)
    name = asked.get("model")
    if not isinstance(name, str) or not name or is_model(name):
        return route(method, path, body)
    known = {**asked, "model": STAND_IN}
    if path.split("?", 1)[0].rstrip("/").endswith("/chat/completions"):
        try:
            return acts.perform(msgspec.structs.replace(write_script(known), model=name))
        except ScriptError as error:
            return acts.refuse(error)
    return route(method, path, msgspec.json.encode(known))


def route(method: str, path: str, body: bytes) -> Iterator[acts.Step]:
    """Return the steps that answer a request."""
    path = path.split("?", 1)[0].rstrip("/")
    try:
        if method == "GET" and path.endswith("/models"):
            return acts.plain(
                {"object": "list", "data": [_model(name) for name in BEHAVIOURS if "<" not in name]}
            )
        if method == "GET" and path in ("", "/health", "/healthz"):
            return acts.plain({"status": "ok"})
        if method == "POST" and path.endswith("/chat/completions"):
            return acts.perform(write_script(_decoded(body)))
        if method == "POST" and path.endswith("/embeddings"):
            return acts.plain(embeddings(_decoded(body)))
    except ScriptError as error:
        return acts.refuse(error)
    return acts.refuse(ScriptError(404, "there is nothing at this path", code="not_found"))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "allod-scripted"}


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ScriptError(400, "the body is not JSON") from None


class _Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._queue: deque[tuple[str, str, list[tuple[bytes, bytes]], bytes, bool]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._number = 0
        self._current: list[Seen] = []
        self._reset_message()

    def _reset_message(self) -> None:
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []
        self._size = self._head_size = 0

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections += 1
        self._number = self._server.connections
        self._server.open.add(self)

    def data_received(self, data: bytes) -> None:
        """Parse requests."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop playing."""
        del exc
        now = time.monotonic()
        for seen in self._current:
            seen.lost_at = now
        self._transport = None
        self._server.open.discard(self)
        self._writable.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """Wait for a slow reader."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Go on."""
        self._writable.set()

    def drop(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    # -- httptools

    def on_url(self, url: bytes) -> None:
        """Keep the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self._head_size += len(name) + len(value)
        if self._head_size > MAX_HEAD_BYTES:
            raise ValueError("head too large")
        self._headers.append((name, value))
        if name.lower() == b"expect" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body."""
        self._size += len(data)
        if self._size > MAX_BODY_BYTES:
            raise ValueError("body too large")
        self._parts.append(data)

    def on_message_complete(self) -> None:
        """Queue the request; requests of one connection are answered in order."""
        method = self._parser.get_method().decode()
        keep = bool(self._parser.should_keep_alive())
        self._queue.append((method, self._url.decode("latin-1"), self._headers, b"".join(self._parts), keep))
        self._reset_message()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._play())

    # -- playing

    async def _play(self) -> None:
        while self._queue and self._transport is not None:
            method, path, headers, body, keep = self._queue.popleft()
            if self._server.record:
                seen = Seen(
                    method=method, path=path, headers=headers, body=body, connection=self._number,
                    at=time.monotonic(),
                )  # fmt: skip
                self._server.seen.append(seen)
                self._current.append(seen)
            if not await self._answer(self._server.answer(method, path, body), keep=keep):
                return
            self._current.clear()

    async def _answer(self, steps: Iterator[acts.Step], *, keep: bool) -> bool:
        """Play the steps; tell whether the connection goes on."""
        framing: int | str = 0
        unyielded = 0
        for step in steps:
            transport = self._transport
            if transport is None or transport.is_closing():
                return False
            if isinstance(step, acts.Wait):
                await asyncio.sleep(step.ms / 1000)
                continue
            if isinstance(step, acts.End):
                return self._end(transport, step, framing, keep=keep)
            if isinstance(step, acts.Head):
                framing = step.framing
            data = _bytes_of(step, framing, keep=keep)
            transport.write(data)
            unyielded += len(data)
            await self._writable.wait()
            if unyielded > YIELD_BYTES:
                unyielded = 0
                await asyncio.sleep(0)
        return False

    def _end(self, transport: asyncio.Transport, end: acts.End, framing: int | str, *, keep: bool) -> bool:
        if end.how == "reset":
            _reset(transport)
            return False
        if end.how == "whole" and framing == "chunked":
            transport.write(b"0\r\n\r\n")
        if end.how == "cut" or not keep or framing == "close":
            transport.close()
            return False
        return True


def _reset(transport: asyncio.Transport) -> None:
    """Close with RST: what was not sent yet is thrown away, the client sees a reset."""
    sock = transport.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _bytes_of(step: acts.Head | acts.Body | acts.Raw, framing: int | str, *, keep: bool) -> bytes:
    if isinstance(step, acts.Head):
        return _head(step, keep=keep)
    if isinstance(step, acts.Body) and framing == "chunked":
        return b"%x\r\n%b\r\n" % (len(step.data), step.data)
    return step.data


def _head(head: acts.Head, *, keep: bool) -> bytes:
    lines = [b"HTTP/1.1 %d %b\r\n" % (head.status, _REASONS.get(head.status, b"Scripted"))]
    lines.extend(b"%b: %b\r\n" % pair for pair in head.headers)
    if head.framing == "chunked":
        lines.append(b"transfer-encoding: chunked\r\n")
    elif isinstance(head.framing, int):
        lines.append(b"content-length: %d\r\n" % head.framing)
    if not keep or head.framing == "close":
        lines.append(b"connection: close\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)
