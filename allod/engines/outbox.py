"""Writes that leave together at the end of an event loop's turn.

A peer that sleeps is woken by the first of them and finds the others there; sent one by one, each would wake
it anew, which costs the sender more than the write itself. And what must be recorded before any of them may
leave is recorded once for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class Transport(Protocol):
    """What an outbox needs of a transport."""

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def is_closing(self) -> bool:
        """Tell whether it is closed, or about to be."""

    def abort(self) -> None:
        """Close it at once, whatever was still to be sent."""


class Outbox:
    """Bytes on their way to transports of one event loop, in the order they were put in.

    Who writes to a transport through an outbox writes to it in no other way, or calls ``flush`` before.

    Attributes:
        before: called before anything leaves; when it raises, nothing does and the transports are broken.

    """

    __slots__ = ("_items", "_loop", "before")

    def __init__(self) -> None:
        self.before: Callable[[], None] | None = None
        self._items: list[tuple[Transport, bytes]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def put(self, transport: Transport, data: bytes) -> None:
        """Send bytes when what the loop does now is done; a transport closed by then gets nothing."""
        if not self._items:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self.flush)
        self._items.append((transport, data))

    def flush(self) -> None:
        """Send everything now (raises what ``before`` raises)."""
        items, self._items = self._items, []
        if self.before is not None:
            try:
                self.before()
            except BaseException:
                for transport, _ in items:
                    transport.abort()
                raise
        for transport, data in items:
            if not transport.is_closing():
                transport.write(data)
