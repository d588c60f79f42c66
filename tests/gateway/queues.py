"""What the tests of the queue share: fleets whose price depends on the hour, and looking into the table."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from world import Answer, Gateway, Inside, World, config, deployment, until

from allod.store.deferred import DeferredTable, Waiting

FLAT = {"input_usd_mtok": 1, "output_usd_mtok": 2}


def cheap_in(hours: int) -> dict[str, Any]:
    """Half the price for two hours, from so many full hours from now on (UTC)."""
    begin = datetime.now(UTC) + timedelta(hours=hours)
    end = begin + timedelta(hours=2)
    window = {"from": f"{begin:%H}:00", "until": f"{end:%H}:00", "price": {}, "factor": 0.5}
    del window["price"]
    return {**FLAT, "windows": [window]}


def queued(
    deployments: Sequence[Mapping[str, Any]] | None = None,
    queue: Mapping[str, Any] | None = None,
    **more: Any,
) -> str:
    """Write a configuration with a queue; without deployments a near one whose hour is five hours off."""
    deployments = deployments or [deployment("near", "answer", price=cheap_in(5))]
    lines = [f"{name} = {value}" for name, value in (queue or {}).items()]
    return "\n".join([config(deployments, **more), "[queue]", *lines, ""])


def background(model: str = "near", text: str = "hello there", **more: Any) -> dict[str, Any]:
    return {"model": model, "input": text, "background": True, **more}


def ask(gateway: Gateway | Inside, body: Any = None, *, app: str = "press", **more: Any) -> Answer:
    return gateway.call("/v1/responses", background() if body is None else body, app=app, **more)


def get(gateway: Gateway | Inside, name: str, *, app: str = "press") -> Answer:
    return gateway.call(f"/v1/responses/{name}", app=app)


def ended(gateway: Gateway | Inside, name: str, *, app: str = "press", within_s: float = 15.0) -> Answer:
    """Wait for the end of a response."""

    def over() -> Answer | None:
        answer = get(gateway, name, app=app)
        assert answer.status == 200, answer
        return answer if answer.json["status"] not in {"queued", "in_progress"} else None

    return until(over, within_s, 0.05)


def rows(world: World) -> list[Waiting]:
    with contextlib.closing(world.tables()) as tables:
        origins = tables.read("SELECT DISTINCT origin FROM deferred")
        return [row for (origin,) in origins for row in DeferredTable(tables, origin).all()]


def change(world: World, text: str, *values: Any) -> None:
    """Change the table while no gateway runs, as time does."""
    with contextlib.closing(sqlite3.connect(world.paths.database)) as raw, raw:
        assert raw.execute(text, values).rowcount == 1


def in_the_past(world: World) -> None:
    now_ms = time.time_ns() // 1_000_000
    change(world, "UPDATE deferred SET deadline_at_ms = ?, latest_at_ms = ?", now_ms - 1, now_ms - 1000)


def notices(world: World, subject: str) -> list[dict[str, Any]]:
    """Return the notices of a home at rest."""
    entries = (world.paths.log / "entries").read_bytes().decode("utf-8", "replace")
    found, decode = [], json.JSONDecoder().raw_decode
    for match in re.finditer(r'\{"(?:detail|facts)":', entries):
        with contextlib.suppress(ValueError):
            leaf, _ = decode(entries, match.start())
            if leaf.get("kind") == "notice" and leaf["subject"] == subject:
                found.append(leaf)
    return found


def content_of_home(world: World) -> bytes:
    """Return everything in the home's tables and log, as it stands on the disk."""
    files = [p for p in world.root.rglob("*") if p.is_file() and p.name != "allod.toml"]
    return b"".join(p.read_bytes() for p in files)
