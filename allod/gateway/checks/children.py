"""Children in which what a model wrote is compiled, run and queried, started beside the event loop.

Each serves one order and ends (``assurance.sandbox``). Starting one takes a twentieth of a second or more, so
one is kept waiting where any task needs them; it has read nothing yet. They are started in threads of their
own: an event loop that forks stands still for as long as its memory is large. Whoever is cancelled or out of
time leaves no child behind: it is killed, and it could not have started another.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import msgspec

from allod.assurance.sandbox import ENVIRONMENT, MAX_SAID_BYTES, command

if TYPE_CHECKING:
    from allod.assurance.sandbox import Order

MOST: Final = 4
"""At once; more wait, within their time."""


class _Child:
    """One child that waits for its order. Whoever serves it sees to its end."""

    def __init__(self) -> None:
        self._ours, theirs = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 (our own interpreter)
                command(theirs, ready=True), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, pass_fds=(theirs,), env=ENVIRONMENT, start_new_session=True,
            )  # fmt: skip
        except BaseException:
            os.close(self._ours)
            raise
        finally:
            os.close(theirs)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def serve(self, order: bytes) -> str:
        """Hand it its order and return the line it says; it is gone then."""
        stdin, said = self._process.stdin, b""
        assert stdin is not None
        try:
            with contextlib.suppress(OSError):
                stdin.write(order)
                stdin.close()
            while len(said) < MAX_SAID_BYTES and (piece := os.read(self._ours, MAX_SAID_BYTES)):
                said += piece
        finally:
            self.end()
        return said.decode("utf-8", "replace").strip()

    def kill(self) -> None:
        """Have it end; whoever serves it returns."""
        self._process.kill()

    def end(self) -> None:
        """Kill it, and wait for that."""
        self._process.kill()
        self._process.wait()
        os.close(self._ours)
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()


class Children:
    """Runs orders, ``MOST`` at once.

    Args:
        keep: whether one child is kept waiting.

    """

    def __init__(self, *, keep: bool = True) -> None:
        self._keep, self._room = keep, asyncio.Semaphore(MOST)
        self._threads = ThreadPoolExecutor(2 * MOST, "allod-checks")
        self._spare: asyncio.Future[_Child] | None = None
        self._working: set[asyncio.Future[str] | asyncio.Future[None]] = set()
        self._running: set[_Child] = set()
        self._closed = False

    @property
    def keeps(self) -> bool:
        """Whether one is kept waiting."""
        return self._keep

    @property
    def pids(self) -> frozenset[int]:
        """The children that serve an order now."""
        return frozenset(one.pid for one in self._running)

    def warm(self) -> None:
        """Have a child wait."""
        if self._keep and not self._closed and self._spare is None:
            self._spare = self._start()

    def _start(self) -> asyncio.Future[_Child]:
        return asyncio.get_running_loop().run_in_executor(self._threads, _Child)

    async def run(self, order: Order, within_s: float) -> str:
        """Have an order served; returns the line its child said, empty where it ended before.

        Raises:
            TimeoutError: not within this time, starting and waiting counted.
            OSError: no child can be started.

        """
        data = msgspec.json.encode(order)
        async with asyncio.timeout(within_s), self._room:
            child = await self._take()
            self._running.add(child)
            serving = asyncio.get_running_loop().run_in_executor(self._threads, child.serve, data)
            self._working.add(serving)
            serving.add_done_callback(self._working.discard)
            self.warm()
            try:
                return await asyncio.shield(serving)
            finally:
                self._running.discard(child)
                if not serving.done():
                    child.kill()

    async def _take(self) -> _Child:
        """Return the one that waits, or a new one; whoever is cancelled meanwhile leaves none behind."""
        starting, self._spare = self._spare or self._start(), None
        try:
            child = await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(self._drop)
            raise
        if child.alive:
            return child
        self._end(child)
        return await self._take()

    def _drop(self, starting: asyncio.Future[_Child]) -> None:
        if not starting.cancelled() and starting.exception() is None:
            self._end(starting.result())

    def _end(self, child: _Child) -> None:
        ending = asyncio.get_running_loop().run_in_executor(self._threads, child.end)
        self._working.add(ending)
        ending.add_done_callback(self._working.discard)

    async def close(self) -> None:
        """End the one that waits, and see that all have ended."""
        self._closed = True
        spare, self._spare = self._spare, None
        for child in self._running:
            child.kill()
        if spare is not None:
            with contextlib.suppress(OSError):
                self._end(await spare)
        while self._working:
            await asyncio.gather(*self._working, return_exceptions=True)
        self._threads.shutdown(wait=False)
