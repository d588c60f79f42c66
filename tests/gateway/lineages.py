"""What tests of parents, steps and kept answers read of a gateway's receipts."""

from __future__ import annotations

import json
from typing import Any

from world import Inside, until

from allod.receipts.lineage import family
from allod.receipts.tiles import WIDTH, parse_bundle
from allod.receipts.verify import verify


def file_of(inside: Inside, receipt: str, app: str = "ward") -> bytes:
    """Return a receipt file once it is final."""

    def final() -> Any:
        answer = inside.call(f"/v1/receipts/{receipt}", app=app)
        return answer.body if answer.json["status"] != "pending" else None

    return bytes(until(final))


def leaf_of(inside: Inside, receipt: str, app: str = "ward", kind: str = "terminal") -> dict[str, Any]:
    """Return one of the leaves of a receipt."""
    found: dict[str, Any] = json.loads(json.loads(file_of(inside, receipt, app))[kind]["leaf"])
    return found


def ends(inside: Inside, receipt: str, app: str = "ward") -> list[dict[str, Any]]:
    """Return the terminal leaves of a request and its steps; each verifies, and so do all together."""
    vkey = inside.world.paths.log_vkey.read_text().strip()
    first = file_of(inside, receipt, app)
    leaves = [json.loads(json.loads(first)["terminal"]["leaf"])]
    files = [first, *(file_of(inside, entry[0], app) for entry in leaves[0].get("steps", []))]
    leaves += [json.loads(json.loads(data)["terminal"]["leaf"]) for data in files[1:]]
    for data in files:
        checked = verify(data, vkey)
        assert checked.ok, checked
    found = family(leaves)
    assert not found.findings, found
    assert not found.missing, found
    return leaves


def log_of(inside: Inside) -> list[dict[str, Any]]:
    """Read every published leaf over HTTP."""
    size = int(inside.call("/log/checkpoint", app=None).body.split(b"\n")[1])
    out: list[dict[str, Any]] = []
    for n in range(-(-size // WIDTH)):
        width = min(WIDTH, size - n * WIDTH)
        part = f".p/{width}" if width < WIDTH else ""
        data = inside.call(f"/log/tile/entries/{n:03d}{part}", app=None).body
        out += [json.loads(entry) for entry in parse_bundle(data)]
    return out
