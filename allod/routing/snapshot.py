"""The whole fleet as bytes, so that a decision can be made again after the configuration has changed.

A record names the snapshot it was decided with by digest (``configuration``). The fleet digest of policy
covers what law reads; a snapshot also covers what plans read: tasks, prices, qualities, limits. Names of
environment variables are in it, what they hold is not.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from allod.domain.errors import Integrity
from allod.domain.fleet import Fleet
from allod.receipts.commitment import digest as digest_of

FORMAT: Final = "allod-fleet-1"
_ORDERED: Final = ("apps", "operators", "deployments", "tasks")
"""Whose order in the configuration is kept: that of the deployments settles ties."""


class Snapshot(msgspec.Struct, frozen=True):
    """A fleet written down: ``digest`` is ``sha256:`` over ``body``."""

    digest: str
    body: bytes


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    format: str
    order: dict[str, tuple[str, ...]]
    fleet: Fleet


def snapshot_of(fleet: Fleet) -> Snapshot:
    """Write a fleet down; equal fleets in equal order have equal bytes."""
    order = {name: tuple(getattr(fleet, name)) for name in _ORDERED}
    kept = _Kept(format=FORMAT, order=order, fleet=fleet)
    body = msgspec.json.encode(kept, order="deterministic")
    return Snapshot(digest_of(body), body)


def read_snapshot(body: bytes, digest: str) -> Fleet:
    """Read a fleet back.

    Raises:
        Integrity: the bytes are not those of the digest, or not a snapshot this Allod can read.

    """
    if digest_of(body) != digest:
        raise Integrity(
            "the kept configuration is not the one it is named for",
            f"got {digest_of(body)}, expected {digest}",
            "restore the tables from a backup",
        )
    try:
        kept = msgspec.json.decode(body, type=_Kept)
        if kept.format != FORMAT:
            raise Integrity(
                "the kept configuration has another format", f"got {kept.format}, expected {FORMAT}"
            )
        ordered: dict[str, Any] = {
            name: {one: getattr(kept.fleet, name)[one] for one in kept.order[name]} for name in _ORDERED
        }
    except (msgspec.MsgspecError, KeyError, UnicodeDecodeError) as fault:
        raise Integrity("the kept configuration cannot be read", str(fault), "") from fault
    return msgspec.structs.replace(kept.fleet, **ordered)
