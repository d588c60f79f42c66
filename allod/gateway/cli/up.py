"""``allod up``: the gateway in the foreground, or with ``--scripted`` a simulated model server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from allod.gateway.cli import Process, out, say
from allod.gateway.cli.options import air_gap_option, config_option, json_option

if TYPE_CHECKING:
    from pathlib import Path

    from allod.gateway.compose import Setting
    from allod.walls.network import Wall

SCRIPTED_PORT = 9400
_QUIET_GENERATIONS = (5_000, 20, 50)


@click.command("up")
@click.option("--host", help="instead of [server] host")
@click.option("--port", type=click.IntRange(0, 65535), help="instead of [server] port; 0 takes a free one")
@click.option("--scripted", is_flag=True, help="serve the scripted models instead (simulated, for tests)")
@air_gap_option
@config_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    host: str | None,
    port: int | None,
    scripted: bool,
    air_gap: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Run the gateway until Ctrl-C. A busy port is exit code 5.

    With --air-gap, or air_gapped = true in the configuration, it opens no connection but to loopback, unix
    sockets and named addresses; `allod doctor --air-gap` shows it.
    """
    if scripted:
        _scripted(host or "127.0.0.1", SCRIPTED_PORT if port is None else port, as_json=as_json)
        return
    from allod.gateway import compose, server  # noqa: PLC0415 (only when it runs)

    setting = compose.setting(config_path, air_gap=air_gap)
    settings = setting.config.server
    at = (host or settings.host, settings.port if port is None else port)
    wall = None
    if setting.fleet.tenant.air_gapped:
        from allod.gateway import gap  # noqa: PLC0415 (only where there is one)

        gap.check_listening(at[0])
        bound = server.listen(*at)
        wall = gap.wall_off(setting, compose.addresses(setting), at[0]) if ctx.find_object(Process) else None
    else:
        bound = server.listen(*at)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_QUIET_GENERATIONS)
    import uvloop  # noqa: PLC0415

    uvloop.run(_run(setting, bound, wall, as_json=as_json))


async def _run(setting: Setting, bound: Any, wall: Wall | None, *, as_json: bool) -> None:
    from allod.gateway import server  # noqa: PLC0415
    from allod.gateway.running import opened  # noqa: PLC0415

    host, port = bound.getsockname()[:2]
    walls = []
    if wall is not None:
        from allod.gateway import gap  # noqa: PLC0415 (only where there is one)

        walls = gap.notices(wall, host)
    async with opened(setting, wall) as (application, noticed):
        notices = [*noticed, *walls]

        async def started() -> None:
            if as_json:
                out({"url": f"http://{host}:{port}", "pid": os.getpid(), "notices": notices})
                return
            for line in notices:
                sys.stderr.write(f"note: {line}\n")
            say(f"allod listens on http://{host}:{port}")

        await server.serve(application, setting.config.server, bound, started=started)


def _scripted(host: str, port: int, *, as_json: bool) -> None:
    from allod.engines.scripted import serve  # noqa: PLC0415
    from allod.gateway.server import listen  # noqa: PLC0415

    def ready(real_port: int) -> None:
        at = f"http://{host}:{real_port}/v1"
        if as_json:
            out({"url": at, "pid": os.getpid(), "simulated": True})
        else:
            say(f"scripted models (simulated) on {at}")

    listen(host, port).close()  # a busy port is told apart here
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(host, port, ready))
