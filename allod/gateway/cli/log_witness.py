"""``allod log witness``: cosign the checkpoints of other logs (C2SP tlog-witness)."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import click

from allod.domain.errors import Invalid
from allod.gateway.cli import out, say
from allod.gateway.cli.options import json_option

WITNESS_PORT = 9500


@click.command("witness")
@click.option("--name", help="make this witness and its keys, under a name without spaces or +")
@click.option("--log", "vkeys", multiple=True, help="witness this log too: its verifier key; may be repeated")
@click.option("--keys", "only_keys", is_flag=True, help="print the verifier keys to hand out, and end")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=WITNESS_PORT, show_default=True)
@json_option
def witness(
    name: str | None, vkeys: tuple[str, ...], only_keys: bool, host: str, port: int, as_json: bool
) -> None:
    """Serve as a witness until Ctrl-C, from the folder `witness` of the home.

    It cosigns only what continues the last checkpoint it saw of a log, and remembers it before it answers.
    """
    from allod.gateway import compose, server  # noqa: PLC0415 (only when it runs)
    from allod.gateway.config import Server  # noqa: PLC0415
    from allod.gateway.witness_server import add_log, load_cosigners, make_keys, opened_witness  # noqa: PLC0415
    from allod.receipts.notes import parse_vkey  # noqa: PLC0415

    folder = compose.home_root() / "witness"
    if name is not None:
        make_keys(folder, name)
    cosigners = load_cosigners(folder)
    if name not in (None, cosigners[0].key.name):
        raise Invalid(
            f"this witness is called {cosigners[0].key.name}", f"got {name}", "leave out --name", param="name"
        )
    for vkey in vkeys:
        add_log(folder / "logs", parse_vkey(vkey))
    if only_keys:
        keys = [cosigner.key.vkey() for cosigner in cosigners]
        out({"keys": keys}) if as_json else say("\n".join(keys))
        return
    bound = server.listen(host, port)
    with opened_witness(folder) as (application, _):
        asyncio.run(_serve(application, Server(max_connections=256), bound, cosigners[0].key.name, as_json))


async def _serve(application: Any, limits: Any, bound: Any, name: str, as_json: bool) -> None:
    from allod.gateway import server  # noqa: PLC0415

    host, port = bound.getsockname()[:2]

    async def started() -> None:
        if as_json:
            out({"url": f"http://{host}:{port}", "pid": os.getpid(), "name": name})
        else:
            say(f"witness {name} listens on http://{host}:{port}")

    await server.serve(application, limits, bound, started=started)
