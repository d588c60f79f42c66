"""What hostile vectors are made of: keys with fixed seeds, a tree that can prove, the form of a vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from allod.receipts.cosignature import Cosigner
from allod.receipts.merkle import Frontier, consistency, inclusion, leaf_hash, root, stored_position
from allod.receipts.notes import Signer

LOG = Signer("allod/0123456789abcdef", b"L" * 32)
NEXT = Signer("allod/0123456789abcdef", b"N" * 32)
ATTACKER = Signer("allod/0123456789abcdef", b"A" * 32)
OTHER_LOG = Signer("allod/fedcba9876543210", b"O" * 32)
W1 = Cosigner("w1.example", "ed25519", b"1" * 32)
W2 = Cosigner("w2.example", "ed25519", b"2" * 32)
W3 = Cosigner("w3.example", "ml-dsa-44", b"3" * 32)


@dataclass(frozen=True)
class Vector:
    """One input and what must become of it; ``ok`` is whether it holds."""

    folder: str
    name: str
    kind: str
    given: dict[str, Any]
    ok: bool
    attack: str
    allows: str

    def written(self) -> dict[str, Any]:
        """Return it as its file."""
        return {
            "name": self.name,
            "kind": self.kind,
            "attack": self.attack,
            "would_allow": self.allows,
            "given": self.given,
            "holds": self.ok,
        }


class Tree:
    """A log in memory."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.leaves = leaves
        self._hashes: list[bytes] = []
        edge = Frontier()
        for leaf in leaves:
            edge.append(leaf_hash(leaf), self._hashes)

    def node(self, level: int, n: int) -> bytes:
        """Return the root of a perfect subtree."""
        return self._hashes[stored_position(level, n)]

    def root(self, size: int) -> bytes:
        """Return the root at a size."""
        return root(size, self.node)

    def path(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return an inclusion proof."""
        return inclusion(index, size, self.node)

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return a consistency proof."""
        return consistency(old, new, self.node)


def hexed(data: bytes) -> str:
    """Write bytes as hex."""
    return data.hex()
