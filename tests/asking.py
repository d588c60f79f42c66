"""A client that speaks HTTP over a socket it can also break, and the requests it makes."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any


class Answer:
    """A whole HTTP answer."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def receipt(self) -> str:
        return self.headers["allod-receipt"]

    def __repr__(self) -> str:
        return f"<{self.status} {self.body[:300]!r}>"


class Stream:
    """A streamed answer under way; ``drop`` breaks the connection as a client that dies does."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection, self._response = connection, response
        self._socket = connection.sock or response.fp.raw._sock  # type: ignore[attr-defined]
        self.status = response.status
        self.headers = {k.lower(): v for k, v in response.getheaders()}
        self._parts: list[bytes] = []

    @property
    def receipt(self) -> str:
        return self.headers["allod-receipt"]

    def events(self) -> Iterator[bytes]:
        """Yield events as they come, blank line included; keeps all bytes in ``body``."""
        rest = bytearray()
        while data := self._response.read1(65536):
            self._parts.append(data)
            rest += data
            while (at := rest.find(b"\n\n")) >= 0:
                yield bytes(rest[: at + 2])
                del rest[: at + 2]
        if rest:
            yield bytes(rest)

    @property
    def body(self) -> bytes:
        """Everything read so far."""
        return b"".join(self._parts)

    def read(self) -> bytes:
        """Read to the end."""
        for _ in self.events():
            pass
        return self.body

    def drop(self) -> float:
        """Break the connection now; returns the time (``time.monotonic``)."""
        at = time.monotonic()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._response.close()
        self._connection.close()
        return at


def call(
    port: int,
    path: str,
    body: Any = None,
    *,
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
    method: str | None = None,
    timeout: float = 30.0,
) -> Answer:
    """Make one request on a connection of its own."""
    stream = start(port, path, body, key=key, headers=headers, method=method, timeout=timeout)
    try:
        stream.read()
    finally:
        stream.drop()
    return Answer(stream.status, stream.headers, stream.body)


def start(
    port: int,
    path: str,
    body: Any = None,
    *,
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
    method: str | None = None,
    timeout: float = 30.0,
) -> Stream:
    """Begin a request and return once the head of its answer is here."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    given = {"content-type": "application/json"} if raw is not None else {}
    if key is not None:
        given["authorization"] = f"Bearer {key}"
    given |= dict(headers or {})
    connection.request(method or ("GET" if raw is None else "POST"), path, raw, given)
    return Stream(connection, connection.getresponse())


def chat(model: str, text: str = "hello there", *, stream: bool = False, **more: Any) -> dict[str, Any]:
    """Write a chat request."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    if stream:
        body |= {"stream": True}
    return body


def messages(model: str, text: str = "hello there", *, stream: bool = False, **more: Any) -> dict[str, Any]:
    """Write a request of the Messages API."""
    return {"max_tokens": 256, **chat(model, text, stream=stream, **more)}


def responses(model: str, text: str = "hello there", *, stream: bool = False, **more: Any) -> dict[str, Any]:
    """Write a request of the Responses API."""
    return {"model": model, "input": text, **({"stream": True} if stream else {}), **more}


def until(truth: Callable[[], Any], within_s: float = 5.0, pause_s: float = 0.005) -> Any:
    """Wait until something is true and return it; fails when it does not come true in time."""
    end = time.monotonic() + within_s
    while not (value := truth()):
        assert time.monotonic() < end, "did not come true in time"
        time.sleep(pause_s)
    return value
