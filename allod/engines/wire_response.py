"""An operator's answer as it comes: the body side of one exchange on a ``wire_connection.Connection``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Final

from allod.engines.contract import EngineFault

if TYPE_CHECKING:
    from allod.engines.wire_connection import Connection

DRAIN_BYTES: Final = 64 * 1024


class Response:
    """An answer whose head has come; its body is read once, by ``read``, ``next_chunk`` or ``chunks``.

    Attributes:
        status: HTTP status.
        headers: in order, as received.
        unframed: the body has neither length nor chunks and ends with the connection: whoever reads it must
            find the end mark of its own protocol before calling it whole.

    """

    status = 0
    unframed = False
    _held = _got = 0
    _head = _complete = _draining = _read_all = _enough = _busy = False
    _fault: EngineFault | None = None
    _take: Callable[[bytes], Awaitable[None] | None] | None = None
    _pending: Awaitable[None] | None = None
    _problem: BaseException | None = None
    _waiter: asyncio.Future[None] | None = None

    def __init__(self, connection: Connection, max_body_bytes: int) -> None:
        self._connection, self._max_body = connection, max_body_bytes
        self.headers: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []

    def header(self, name: bytes) -> bytes | None:
        """Return the first header of this name (given in lower case), or None."""
        size = len(name)
        for key, value in self.headers:
            if len(key) == size and key.lower() == name:
                return value
        return None

    @property
    def complete(self) -> bool:
        """Whether the whole answer has come and its connection is free again."""
        return self._complete

    @property
    def draining(self) -> bool:
        """Whether ``drain`` was called on an answer that was not complete."""
        return self._draining

    def begun(self) -> None:
        """Say that the first event has come: from now on silence counts, not the first-byte limit."""
        self._connection.begun(self)

    async def next_chunk(self) -> bytes:
        """Return what has come of the body, waiting for at least one byte; empty at the end.

        Raises:
            EngineFault: timeout, reset, truncated, oversize or malformed.

        """
        while not self._parts:
            if self._fault is not None:
                raise self._fault.anew()
            if self._complete:
                return b""
            await self._wait()
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._held = 0
        if self._connection.paused:
            self._connection.resume(self)
        return data

    async def pump(self, take: Callable[[bytes], Awaitable[None] | None]) -> None:
        """Hand each piece of the body to ``take`` the moment it comes; return at its end or after ``enough``.

        Where ``take`` returns something to wait for, nothing more is read until it is done.

        Raises:
            EngineFault: as ``next_chunk``; and whatever ``take`` raises.

        """
        self._take = take
        try:
            await self._pump()
        finally:
            self._take = None

    async def _pump(self) -> None:
        while True:
            if self._parts and not self._enough:
                self.hand_on()
            if self._problem is not None:
                raise self._problem
            wait, self._pending = self._pending, None
            if wait is not None:
                await wait
                self._busy = self._enough
                if self._connection.paused:
                    self._connection.resume(self)
            elif self._enough:
                return
            elif self._fault is not None:
                raise self._fault.anew()
            elif self._complete:
                return
            else:
                await self._wait()

    def hand_on(self) -> bool:
        """Give what has come to ``take``; tells whether the coroutine in ``pump`` has something to do now."""
        take, parts = self._take, self._parts
        assert take is not None
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._held = 0
        try:
            self._pending = take(data)
        except BaseException as error:  # noqa: BLE001 (raised again in ``pump``)
            self._problem = error
        self._busy = self._enough or self._pending is not None or self._problem is not None
        return self._busy

    def enough(self) -> None:
        """Say, from within ``take``, that the end has come: ``pump`` returns."""
        self._enough = True

    def body(self) -> bytes | None:
        """Return the whole body if it has come already, else None: ``read`` waits for it."""
        if not self._complete or self._fault is not None:
            return None
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    async def read(self) -> bytes:
        """Return the whole body (raises ``EngineFault`` unless it is whole)."""
        self._read_all = True
        self._connection.read_on(self)
        while not self._complete:
            if self._fault is not None:
                raise self._fault.anew()
            await self._wait()
        return b"".join(self._parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes (raises ``EngineFault`` as ``next_chunk``)."""
        while data := await self.next_chunk():
            yield data

    def abort(self) -> None:
        """Break the connection at once unless the answer is complete; idempotent."""
        if not self._complete and self._fault is None:
            self._connection.break_off(EngineFault("reset", "we closed the connection"))

    async def aclose(self) -> None:
        """Break the connection at once unless the answer is complete; the operator sees it close."""
        self.abort()

    def drain(self, grace_s: float = 0.25) -> None:
        """Let the end of the body, which nobody needs, still come, so that the connection can be kept."""
        if not self._complete and self._fault is None:
            self._draining = True
            self._parts.clear()
            self._held = 0
            self._max_body = min(self._max_body, self._got + DRAIN_BYTES)
            self._connection.end_within(self, grace_s)

    async def _wait(self) -> None:
        self._waiter = waiter = self._connection.loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
