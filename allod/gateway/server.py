"""Running a gateway: uvicorn with bounds, signals, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import uvicorn

from allod.domain.errors import Unavailable
from allod.gateway.protocol import bounded, sweep

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from allod.gateway.config import Server

GRACE_S = 10
SETTLE_S = 5.0
BACKLOG = 2048
SWEEP_S = 1.0


class Orderly(uvicorn.Server):
    """uvicorn's server, but a signal only ends it.

    uvicorn raises the signal again once it has ended, and a SIGTERM would then kill the process before the
    engines and the store around it are closed.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """End at SIGINT and SIGTERM while this context lasts (in the main thread; elsewhere nobody asks)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        asked = (signal.SIGINT, signal.SIGTERM)
        for number in asked:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in asked:
                loop.remove_signal_handler(number)


def listen(host: str, port: int) -> socket.socket:
    """Bind the listening socket; ``localhost`` is loopback without asking anybody (RFC 6761, 6.3).

    Raises:
        Unavailable: the port is taken, or the address is not one of this machine.

    """
    host = "127.0.0.1" if host.lower() == "localhost" else host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise Unavailable(
            f"{host}:{port} cannot be listened on",
            error.strerror or str(error),
            "stop the program that has the port, or choose another with --port or [server] port",
            kind="busy",
        ) from error
    bound.listen(BACKLOG)
    bound.set_inheritable(False)
    return bound


async def serve(
    application: Any,
    limits: Server,
    bound: socket.socket,
    *,
    started: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serve until a signal comes; requests under way get ``GRACE_S`` seconds to end."""
    settings = uvicorn.Config(
        application,
        http=bounded(limits, getattr(application, "outbox", None)),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        date_header=True,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = Orderly(settings)
    sweeper = asyncio.create_task(_sweep(server))
    greeter = asyncio.create_task(_greet(server, started)) if started else None
    try:
        await server.serve(sockets=[bound])
    finally:
        for task in (sweeper, greeter):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        await _settle(server.server_state.tasks)


async def _settle(tasks: set[asyncio.Task[None]]) -> None:
    """Have every request still under way write its end (I3) before the log is closed."""
    left = list(tasks)
    for task in left:
        if not task.cancelling():
            task.cancel("the gateway stops")
    if left:
        await asyncio.wait(left, timeout=SETTLE_S)


async def _sweep(server: uvicorn.Server) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(SWEEP_S)
        sweep(server.server_state.connections, loop.time())


async def _greet(server: uvicorn.Server, started: Callable[[], Awaitable[None]]) -> None:
    while not server.started:  # noqa: ASYNC110 (uvicorn offers no event)
        await asyncio.sleep(0.005)
    await started()
