"""The ground under every simulator: a small HTTP/1.1 server on a real socket that keeps what it is asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from dataclasses import dataclass, field
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

MAX_HEAD_BYTES = 64 * 1024


@dataclass
class Ask:
    """A request as received; ``headers`` by lower-case name (a repeated one keeps the first)."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


@dataclass
class Reply:
    """What to answer.

    ``pieces`` are sent in chunked encoding, one write each, ``gap_s`` apart; with ``framed`` false they and
    ``body`` have neither length nor chunks and end with the connection. ``end`` says how the answer
    ends: ``whole``, ``cut`` (connection closed without the last chunk), ``reset``, or ``hang`` (silence).
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    pieces: list[bytes] | None = None
    gap_s: float = 0.0
    before_s: float = 0.0
    framed: bool = True
    end: Literal["whole", "cut", "reset", "hang"] = "whole"


def json_reply(value: Any, status: int = 200, **headers: str) -> Reply:
    """A JSON answer; underscores in header names become hyphens."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Reply(status, {"content-type": "application/json", **named}, json.dumps(value).encode())


def sse(value: Any, event: str | None = None) -> bytes:
    """One server-sent event."""
    data = value if isinstance(value, str) else json.dumps(value)
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {data}\n\n".encode()


def stream_reply(pieces: list[bytes], **headers: str) -> Reply:
    """A chunked event stream."""
    return Reply(200, {"content-type": "text/event-stream; charset=utf-8", **headers}, pieces=pieces)


class Simulator:
    """An operator on a port of its own; ``async with`` it.

    ``asks`` holds every request received, ``forced`` answers that are given first, whatever is asked.
    ``closed_early`` counts answers whose reader went away before the end.
    """

    documentation = ""

    def __init__(self) -> None:
        self.asks: list[Ask] = []
        self.forced: list[Reply] = []
        self.closed_early = 0
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def answer(self, ask: Ask) -> Reply:
        """Answer a request."""
        raise NotImplementedError

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def last(self) -> Ask:
        """The last request."""
        return self.asks[-1]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while (ask := await _read(reader)) is not None:
                self.asks.append(ask)
                reply = self.forced.pop(0) if self.forced else self.answer(ask)
                if not await self._write(writer, reply):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            self.closed_early += 1
        except asyncio.CancelledError:
            writer.transport.abort()  # the simulator ends; nothing waits for this task but its own gather
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, OSError):
                await writer.wait_closed()

    async def _write(self, writer: asyncio.StreamWriter, reply: Reply) -> bool:
        """Send an answer; False when the connection is over."""
        if reply.before_s:
            await asyncio.sleep(reply.before_s)
        lines = [f"HTTP/1.1 {reply.status} Simulated"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        if not reply.framed:
            writer.write("\r\n".join([*lines, "", ""]).encode() + b"".join(reply.pieces or [reply.body]))
            await writer.drain()
            return False
        if reply.pieces is None:
            if "content-length" not in reply.headers:
                lines.append(f"content-length: {len(reply.body)}")
            writer.write("\r\n".join([*lines, "", ""]).encode() + reply.body)
        else:
            lines.append("transfer-encoding: chunked")
            writer.write("\r\n".join([*lines, "", ""]).encode())
            for piece in reply.pieces:
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
                await asyncio.sleep(reply.gap_s)
            if reply.end == "whole":
                writer.write(b"0\r\n\r\n")
        await writer.drain()
        if reply.end == "hang":
            await asyncio.sleep(60)
        if reply.end == "reset":
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        return reply.end == "whole"


async def _read(reader: asyncio.StreamReader) -> Ask | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head[:MAX_HEAD_BYTES].decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers: dict[str, str] = {}
    for line in lines:
        name, separator, value = line.partition(":")
        if separator:
            headers.setdefault(name.strip().lower(), value.strip())
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    url = urlsplit(target)
    return Ask(method, url.path, dict(parse_qsl(url.query)), headers, body)
