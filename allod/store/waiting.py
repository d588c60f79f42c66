"""Who waits for the writer, on one event loop: woken once per batch, and only if there is anybody."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import msgspec

from allod.domain.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable


class Progress(Protocol):
    """How far the writer is: frames below each number are synced, or committed; ``dead`` if it never will."""

    durable_seq: int
    committed_seq: int
    dead: str | None
    hurry: bool

    def ring(self) -> None:
        """Wake it."""


class _Waiter(msgspec.Struct, frozen=True):
    """Somebody who awaits a frame: its sync, or its commit."""

    seq: int
    sync: bool
    future: asyncio.Future[None]


class Waiters:
    """Futures by frame. ``wake`` may be called from any thread, the rest belongs to the loop."""

    def __init__(self, closed: Callable[[], bool]) -> None:
        self._closed = closed
        self._waiters: list[_Waiter] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._progress: Progress | None = None

    async def until(self, progress: Progress, seq: int, *, sync: bool) -> None:
        """Wait for a frame (raises Unavailable if the writer is dead or the store is closed)."""
        if (progress.durable_seq if sync else progress.committed_seq) > seq:
            return
        self._progress, self._loop = progress, asyncio.get_running_loop()
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(_Waiter(seq, sync, future))
        progress.hurry = progress.hurry or sync
        progress.ring()
        self._answer()
        await future

    def wake(self) -> None:
        """Have the waiters looked at on their loop."""
        if self._waiters and self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._answer)
            except RuntimeError:
                self._waiters = []  # the loop is closed: nobody waits any more

    def _answer(self) -> None:
        progress, left = self._progress, list[_Waiter]()
        assert progress is not None
        for waiter in self._waiters:
            if waiter.future.done():
                continue
            if (progress.durable_seq if waiter.sync else progress.committed_seq) > waiter.seq:
                waiter.future.set_result(None)
            elif progress.dead is not None or self._closed():
                waiter.future.set_exception(refused(progress.dead or "the store is closed"))
            else:
                left.append(waiter)
        self._waiters = left
        progress.hurry = any(waiter.sync for waiter in left)


def refused(why: str) -> Unavailable:
    """Return the error of whatever cannot be recorded."""
    return Unavailable(
        "the log cannot take another request",
        why,
        "see `allod doctor`; nothing is served that cannot be recorded",
        kind="storage",
        retry_after_ms=1000,
    )
