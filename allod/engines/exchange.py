"""What the translating drivers share in an exchange: limits, credential, events, refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.engines.contract import EngineFault
from allod.engines.wire import Response, Splitter, Wire, fault_from_response

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from allod.domain.chat import ChatCall, EmbedCall
    from allod.domain.fleet import Deployment
    from allod.engines.contract import EngineContext

OK: Final = 200
MAX_ERROR_BYTES: Final = 256 * 1024
_FIRST_ERROR: Final = 400
_ROOM_BYTES: Final = 2 << 20
_BYTES_PER_TOKEN: Final = 1024
_MAX_ANSWER_BYTES: Final = 256 << 20


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds until the first byte or event, of silence, and in all; bytes of the answer."""

    first_byte_ms: int
    idle_ms: int
    total_ms: int
    until_event: bool = False
    max_body_bytes: int = _MAX_ANSWER_BYTES


def limits_of(deployment: Deployment, call: ChatCall) -> Limits:
    """Tell the limits of an attempt.

    A whole answer comes at once, so only the total bounds it. In a stream the first event must come within
    ``first_token_ms``, and no silence may last longer than that either. The size is what a lawful answer of
    so many tokens can have, generously: an endless one ends there.
    """
    total = _total_ms(deployment, call.deadline_ms)
    first = min(deployment.first_token_ms, total) if call.stream else total
    size = min(_MAX_ANSWER_BYTES, _ROOM_BYTES + call.max_output_tokens * _BYTES_PER_TOKEN)
    return Limits(
        first_byte_ms=first, idle_ms=first, total_ms=total, until_event=call.stream, max_body_bytes=size
    )


def limits_of_question(deployment: Deployment, call: ChatCall | EmbedCall) -> Limits:
    """Tell the limits of an embeddings or counting request: only the total bounds it."""
    total = _total_ms(deployment, call.deadline_ms)
    return Limits(first_byte_ms=total, idle_ms=total, total_ms=total)


def _total_ms(deployment: Deployment, deadline_ms: int | None) -> int:
    return deployment.timeout_ms if deadline_ms is None else max(1, min(deployment.timeout_ms, deadline_ms))


def wire_of(deployment: Deployment, context: EngineContext, base_url: str) -> Wire:
    """Open the way to a deployment (raises ``EngineFault`` ``unavailable`` for a URL that cannot be used)."""
    try:
        return Wire(
            base_url,
            allow_address=context.allow_address,
            max_connections=deployment.max_concurrent,
            outbox=context.outbox,
        )
    except ValueError as error:
        raise EngineFault("unavailable", str(error), sent=False) from None


def credential(deployment: Deployment, environ: Mapping[str, str]) -> tuple[str | None, bytes | None]:
    """Read the key of a deployment: (why it cannot serve, key); both None when it needs no key."""
    name = deployment.api_key_env
    if name is None:
        return None, None
    key = environ.get(name, "").strip()
    if not key:
        return f"no credential: the variable {name} is not set", None
    if not (key.isascii() and key.isprintable()):
        return f"the credential in {name} holds characters no header may hold", None
    return None, key.encode()


def encoded(body: dict[str, Any]) -> bytes:
    """Write a request's JSON (raises ``EngineFault`` ``request``, not sent, for what JSON cannot say)."""
    try:
        return msgspec.json.encode(body)
    except (ValueError, TypeError, RecursionError):
        raise EngineFault("request", "the request cannot be written as JSON", sent=False) from None


async def ask(
    wire: Wire, path: str, headers: list[tuple[bytes, bytes]], body: dict[str, Any], limits: Limits
) -> Response:
    """Post JSON and return the answer as soon as its head has come (raises ``EngineFault``)."""
    return await wire.request(
        "POST",
        path,
        headers,
        encoded(body),
        first_byte_ms=limits.first_byte_ms,
        idle_ms=limits.idle_ms,
        total_ms=limits.total_ms,
        max_body_bytes=limits.max_body_bytes,
        until_event=limits.until_event,
    )


async def error_body(response: Response) -> bytes:
    """Read an error answer; a body that breaks does not hide the status."""
    try:
        return (await response.read())[:MAX_ERROR_BYTES]
    except EngineFault:
        return b""


def refused(response: Response, body: bytes) -> EngineFault:
    """Make the fault of an answer whose status is not 200."""
    if response.status < _FIRST_ERROR:
        return EngineFault("malformed", f"HTTP {response.status}", status=response.status)
    return fault_from_response(response.status, response.headers, body)


def is_stream(response: Response) -> bool:
    """Tell whether an answer says that it is an event stream."""
    found = response.header(b"content-type") or b""
    return found.split(b";", 1)[0].strip().lower() == b"text/event-stream"


async def events(response: Response) -> AsyncGenerator[tuple[bytes, bool], None]:
    """Yield each event of a stream and whether it was closed by its empty line (raises ``EngineFault``)."""
    splitter = Splitter()
    while data := await response.next_chunk():
        for raw in splitter.feed(data):
            response.begun()
            yield raw, True
    last = splitter.flush()
    if last is not None:
        yield last, False
