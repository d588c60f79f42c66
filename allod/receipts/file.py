"""The receipt file: both leaves of one request, each with its proof, in canonical JSON.

``{"id", "status", "intent": {"leaf", "proof"}, "terminal": {"leaf", "proof"} or null}``; ``leaf`` is the
exact bytes as text, ``proof`` the tlog-proof text. ``status`` is the terminal leaf's, or ``pending``.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from allod.domain.errors import Integrity
from allod.receipts.canonical import canonical, parse

PENDING: Final = "pending"
MAX_FILE_BYTES: Final = 1 << 20


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One leaf and the proof that it is in the log."""

    leaf: str
    proof: str


class ReceiptFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A receipt as handed out."""

    id: str
    intent: Part
    status: str
    terminal: Part | None


def write_file(receipt: ReceiptFile) -> bytes:
    """Write a receipt file."""
    return canonical(msgspec.to_builtins(receipt))


def read_file(data: bytes) -> ReceiptFile:
    """Read a receipt file; nothing in it is verified yet.

    Raises:
        Integrity: over 1 MiB, not canonical JSON, or not of this shape.

    """
    if len(data) > MAX_FILE_BYTES:
        raise Integrity(
            "the receipt file is too large", f"got {len(data)} bytes, expected <= {MAX_FILE_BYTES}"
        )
    try:
        return msgspec.convert(parse(data, what="the receipt file"), ReceiptFile)
    except msgspec.ValidationError as fault:
        raise Integrity("the receipt file has another shape", f"got {fault}", "get it again") from fault


def read_leaf(data: bytes, kind: str) -> dict[str, Any]:
    """Read a leaf of a kind: canonical JSON, under 4 KB, version 1.

    Raises:
        Integrity: it is anything else.

    """
    shown = f"the {kind} leaf"
    if len(data) >= 1 << 12:
        raise Integrity(f"{shown} is too long", f"got {len(data)} bytes, expected under 4096")
    leaf = parse(data, what=shown)
    if not isinstance(leaf, dict) or leaf.get("kind") != kind or leaf.get("v") != 1:
        got = f"kind {leaf.get('kind')!r}, v {leaf.get('v')!r}" if isinstance(leaf, dict) else "no object"
        raise Integrity(f"{shown} is of another kind", f"got {got}, expected kind {kind!r}, v 1")
    return leaf
