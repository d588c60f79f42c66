"""Checkpoints of a log: C2SP tlog-checkpoint, a signed note of origin, tree size and root hash."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from allod.domain.errors import Integrity
from allod.receipts.merkle import EMPTY_ROOT, HASH_BYTES
from allod.receipts.notes import Signer, VerifyKey, b64, open_note, unb64

_DECIMAL: Final = re.compile("0|[1-9][0-9]{0,18}")
_LINES: Final = 3


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What a log says of itself: ``size`` leaves whose tree has this ``root`` (32 bytes)."""

    origin: str
    size: int
    root: bytes


def number(text: str, what: str) -> int:
    """Read a decimal without sign or leading zeros, below 2^63 (raises Integrity)."""
    if not _DECIMAL.fullmatch(text) or int(text) >= 1 << 63:
        raise Integrity(f"{what} is not a plain decimal", f"got {text[:40]!r}")
    return int(text)


def sign(signer: Signer, size: int, root: bytes) -> bytes:
    """Write and sign the checkpoint of a tree; the origin is the key's name."""
    return signer.sign(f"{signer.key.name}\n{size}\n{b64(root)}\n")


def parse_text(text: str, *, extensions: bool = False) -> Checkpoint:
    """Read a checkpoint's text, whose signature the caller has verified.

    Extension lines are refused, for nobody here writes any and monitors cannot audit them, unless
    ``extensions``: a witness takes those of other logs, and makes no statement about them.

    Raises:
        Integrity: another form, a root that is not 32 bytes, or a root that cannot be the empty tree's.

    """
    lines = text[:-1].split("\n") if text.endswith("\n") else []
    more = lines[_LINES:]
    if len(lines) < _LINES or not lines[0] or (more and not (extensions and all(more))):
        raise _bad(f"got {len(lines)} lines, expected origin, size and root")
    size, root = number(lines[1], "the tree size"), unb64(lines[2], "the root hash")
    if len(root) != HASH_BYTES:
        raise _bad(f"got a root of {len(root)} bytes, expected {HASH_BYTES}")
    if size == 0 and root != EMPTY_ROOT:
        raise _bad("got size 0 with the root of a tree that is not empty")
    return Checkpoint(origin=lines[0], size=size, root=root)


def open_checkpoint(data: bytes, key: VerifyKey) -> Checkpoint:
    """Verify and read a checkpoint of the log whose origin is the key's name.

    Raises:
        Integrity: signature, format or origin is wrong.

    """
    checkpoint = parse_text(open_note(data, key))
    if checkpoint.origin != key.name:
        raise _bad(f"got origin {checkpoint.origin!r}, expected {key.name!r}")
    return checkpoint


def _bad(why: str) -> Integrity:
    return Integrity("the checkpoint does not hold", why, "get it again from its log; do not trust this copy")
