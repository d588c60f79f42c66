"""The few things every route needs of ASGI: heads read once, bodies within bounds, plain answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Protocol

import msgspec

from allod.domain.errors import Invalid, Unavailable
from allod.engines.outbox import Outbox

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON: Header = (b"content-type", b"application/json")
TEXT: Header = (b"content-type", b"text/plain; charset=utf-8")
JSON_LINE: Final = b"content-type: application/json\r\n"
SSE_LINES: Final = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-store\r\n"


class Client(Protocol):
    """Where an answer goes. ``start`` once, then ``write``; without ``more`` the answer is complete.

    ``write`` returns something to wait for when the client takes less than it is given. ``outbox`` is the one
    all of it leaves by, if there is one.
    """

    @property
    def outbox(self) -> Outbox | None:
        """By which it leaves."""

    def start(self, status: int, lines: bytes, length: int | None) -> None:
        """Give the head; it leaves with the first body bytes.

        ``lines`` are header lines, each with its CR LF, without the length, which is None for a stream.
        """

    def write(self, data: bytes, *, more: bool) -> Awaitable[None] | None:
        """Give body bytes."""


class AsgiClient:
    """A client behind any ASGI server; our own server's ``Cycle`` is one itself."""

    outbox: Outbox | None = None

    def __init__(self, send: Send) -> None:
        self._send = send
        self._head: MutableMapping[str, Any] | None = None

    def start(self, status: int, lines: bytes, length: int | None) -> None:
        """Keep the head until the first bytes."""
        headers = [tuple(line.split(b": ", 1)) for line in lines.split(b"\r\n")[:-1]]
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        self._head = {"type": "http.response.start", "status": status, "headers": headers}

    def write(self, data: bytes, *, more: bool) -> Awaitable[None]:
        """Send head and body."""
        head, self._head = self._head, None
        return self._sent(head, {"type": "http.response.body", "body": data, "more_body": more})

    async def _sent(self, *messages: MutableMapping[str, Any] | None) -> None:
        for message in messages:
            if message is not None:
                await self._send(message)


def client_of(scope: Scope, send: Send) -> Client:
    """Return where an answer goes: straight to our own server's connection where there is one."""
    own: Client | None = scope.get("extensions", {}).get("allod.client")
    return AsgiClient(send) if own is None else own


class Gone(Exception):
    """The client closed the connection before its request was complete."""


class Head(msgspec.Struct, frozen=True):
    """What the gateway reads of a request's headers, in one pass."""

    authorization: bytes | None
    api_key: bytes | None
    content_length: int | None
    encoding: bytes | None
    anthropic: bool
    betas: list[str] | None
    labels: tuple[Header, ...]
    cache_control: bytes | None = None


def read_head(headers: list[Header]) -> Head:
    """Read the headers once.

    Raises:
        Invalid: a header that must be single is repeated, or a length is no number.

    """
    found = dict(headers)
    if len(found) != len(headers):
        found = _joined(headers)
    labels: tuple[Header, ...] = ()
    if b"\nallod" in b"\n".join((b"", *found)):
        labels = tuple(header for header in headers if header[0].startswith((b"allod-", b"allod_")))
    length, betas = found.get(b"content-length"), found.get(b"anthropic-beta")
    if length is not None and not length.isdigit():
        raise Invalid("content-length is no number", param="content-length")
    return Head(
        found.get(b"authorization"),
        found.get(b"x-api-key"),
        None if length is None else int(length),
        found.get(b"content-encoding"),
        b"anthropic-version" in found,
        None if betas is None else betas.decode("latin-1").split(","),
        labels,
        found.get(b"cache-control"),
    )


def _joined(headers: list[Header]) -> dict[bytes, bytes]:
    """Join the values of headers that are repeated (RFC 9110 section 5.3)."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name == b"x-api-key" and name in found:
            raise Invalid("header x-api-key is given twice", param="x-api-key", kind="key")
        found[name] = found[name] + b"," + value if name in found else value
    return found


def too_large(limit_bytes: int) -> Invalid:
    """Return the error for a body over the limit."""
    return Invalid(
        "the request body is too large",
        f"at most {limit_bytes} bytes are taken",
        "send less, or raise server.max_body_bytes",
        kind="size",
    )


async def read_body(receive: Receive, head: Head, limit_bytes: int) -> bytes:
    """Read the body within its bound.

    Raises:
        Invalid: too large (413), or compressed.
        Gone: the client left.

    """
    if head.content_length is not None and head.content_length > limit_bytes:
        raise too_large(limit_bytes)
    if head.encoding not in (None, b"identity"):
        raise Invalid(
            "a compressed request body is not taken", param="content-encoding", kind="not_supported"
        )
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message["body"]
        if len(body) > limit_bytes:
            raise too_large(limit_bytes)
        return body
    parts, size = [], 0
    while True:
        if message["type"] != "http.request":
            raise Gone
        parts.append(message["body"])
        size += len(message["body"])
        if size > limit_bytes:
            raise too_large(limit_bytes)
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()


async def respond(send: Send, status: int, body: bytes, *headers: Header) -> None:
    """Send a complete answer."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, (b"content-length", b"%d" % len(body))],
        }
    )
    await send({"type": "http.response.body", "body": body})


def retry_after(error: BaseException) -> tuple[Header, ...]:
    """Return a ``Retry-After`` header in whole seconds where the error names a time."""
    if isinstance(error, Unavailable) and error.retry_after_ms is not None:
        return ((b"retry-after", b"%d" % max(1, -(-error.retry_after_ms // 1000))),)
    return ()
