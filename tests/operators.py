"""Operators of models: scripted servers that listen and record, and a trap that only counts."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any, Self

from asking import until

from allod.engines.scripted import Seen, Server


class Region:
    """A scripted model server in a thread, recording what reaches it."""

    def __init__(self, answer: Callable[..., Any] | None = None, host: str = "127.0.0.1") -> None:
        self._host = host
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.server = Server(record=True, answer=answer)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.server.start(self._host), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.server.close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}/v1"

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def connections(self) -> int:
        return self.server.connections

    @property
    def seen(self) -> list[Seen]:
        return list(self.server.seen)

    def clear(self) -> None:
        self.server.seen.clear()

    def wait_seen(self, count: int = 1, timeout: float = 10.0) -> list[Seen]:
        """Wait until so many requests have come."""
        until(lambda: len(self.server.seen) >= count, timeout)
        return self.seen


class Trap:
    """A listener that stands for an operator the law forbids: every accepted connection is counted."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.touched = 0
        self.bytes = b""
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            self.touched += 1
            peer.settimeout(1)
            with contextlib.suppress(OSError):
                self.bytes += peer.recv(65536)
            peer.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)
