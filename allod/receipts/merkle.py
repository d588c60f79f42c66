"""The Merkle tree of RFC 6962 section 2.1, with the proof algorithms of RFC 9162 section 2.1.

A tree is addressed by *nodes*: ``(level, n)`` is the root of the perfect subtree over leaves
``[n * 2^level, (n + 1) * 2^level)``; ``Nodes`` reads one. Hashes are 32 bytes of SHA-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from allod.domain.errors import Invalid

Nodes = Callable[[int, int], bytes]
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
HASH_BYTES: Final = 32
_sha256 = hashlib.sha256


def leaf_hash(leaf: bytes) -> bytes:
    """Hash an entry: SHA-256(0x00 || entry). The prefix keeps entries and nodes apart."""
    return _sha256(b"\0" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees: SHA-256(0x01 || left || right)."""
    return _sha256(b"\1" + left + right).digest()


def stored_position(level: int, n: int) -> int:
    """Return where a node lies in the append-only list of all finished nodes, in order of finishing.

    Each leaf is followed at once by the nodes it finishes, so leaf ``n`` comes after ``2n - popcount(n)``
    hashes and a node right after its right child.
    """
    n = ((n + 1) << level) - 1
    return 2 * n - n.bit_count() + level


def stored_count(size: int) -> int:
    """Return how many hashes that list holds for a tree of ``size`` leaves."""
    return 2 * size - size.bit_count()


class Frontier:
    """The right edge of a growing tree: the roots of its perfect subtrees, largest first.

    ``size`` is the number of leaves, ``peaks`` has one hash per set bit of ``size``.
    """

    __slots__ = ("peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        if size < 0 or len(peaks) != size.bit_count():
            raise Invalid("this is no right edge", f"got {len(peaks)} peaks, expected {size.bit_count()}")
        self.size, self.peaks = size, list(peaks)

    def copy(self) -> Frontier:
        """Return an edge that grows on its own."""
        return Frontier(self.size, self.peaks)

    def append(self, leaf: bytes, out: list[bytes]) -> None:
        """Add a leaf hash; each hash this finishes is appended to ``out`` in storing order."""
        self.extend((leaf,), out)

    def extend(self, leaves: Iterable[bytes], out: list[bytes]) -> None:
        """Add leaf hashes one after the other, as ``append`` does."""
        size, peaks = self.size, self.peaks
        for leaf in leaves:
            out.append(leaf)
            node, below = leaf, size
            while below & 1:
                node = _sha256(b"\1" + peaks.pop() + node).digest()
                out.append(node)
                below >>= 1
            peaks.append(node)
            size += 1
        self.size = size

    def root(self) -> bytes:
        """Return the tree's root; the empty tree has SHA-256 of nothing."""
        if not self.peaks:
            return EMPTY_ROOT
        root = self.peaks[-1]
        for peak in self.peaks[-2::-1]:
            root = node_hash(peak, root)
        return root


def frontier(size: int, nodes: Nodes) -> Frontier:
    """Read the right edge of a stored tree."""
    return Frontier(size, [nodes(level, n) for level, n in _perfect(0, size)])


def range_hash(start: int, end: int, nodes: Nodes) -> bytes:
    """Return MTH(D[start:end]) of RFC 6962; ``start`` must be a multiple of a power of two >= the length."""
    parts = [nodes(level, n) for level, n in _perfect(start, end)]
    root = parts[-1]
    for part in parts[-2::-1]:
        root = node_hash(part, root)
    return root


def root(size: int, nodes: Nodes) -> bytes:
    """Return the root of a stored tree at a size not larger than what is stored."""
    return range_hash(0, size, nodes) if size else EMPTY_ROOT


def inclusion(index: int, size: int, nodes: Nodes) -> tuple[bytes, ...]:
    """Return the inclusion proof of a leaf, sibling of the leaf first (RFC 6962 section 2.1.1).

    Raises:
        Invalid: the tree has no such leaf.

    """
    if not 0 <= index < size:
        raise Invalid("the tree has no such leaf", f"got index {index}, expected below {size}")
    path: list[tuple[int, int]] = []
    start, end = 0, size
    while end - start > 1:
        split = start + _split(end - start)
        if index < split:
            path.append((split, end))
            end = split
        else:
            path.append((start, split))
            start = split
    return tuple(range_hash(a, b, nodes) for a, b in reversed(path))


def consistency(old: int, new: int, nodes: Nodes) -> tuple[bytes, ...]:
    """Return the proof that the tree of ``new`` leaves begins with that of ``old`` (RFC 6962 section 2.1.2).

    Raises:
        Invalid: not 0 < old <= new.

    """
    if not 0 < old <= new:
        raise Invalid("there is no such consistency proof", f"got {old} and {new}, expected 0 < old <= new")
    path: list[tuple[int, int]] = []
    start, end, whole = 0, new, True
    while old != end:
        split = start + _split(end - start)
        if old <= split:
            path.append((split, end))
            end = split
        else:
            path.append((start, split))
            start, whole = split, False
    if not whole:
        path.append((start, end))
    return tuple(range_hash(a, b, nodes) for a, b in reversed(path))


def root_of_path(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """Return the root an inclusion proof leads to (RFC 9162 section 2.1.3.2), None if it cannot be one."""
    if not 0 <= index < size or any(len(p) != HASH_BYTES for p in proof):
        return None
    fn, sn, running = index, size - 1, leaf
    for p in proof:
        if sn == 0:
            return None
        if fn & 1 or fn == sn:
            running = node_hash(p, running)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            running = node_hash(running, p)
        fn, sn = fn >> 1, sn >> 1
    return running if sn == 0 else None


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root_hash: bytes) -> bool:
    """Tell whether a leaf hash is at ``index`` of the tree with this root (RFC 9162 section 2.1.3.2)."""
    return root_of_path(leaf, index, size, proof) == root_hash


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Tell whether the larger tree begins with the smaller one (RFC 9162 section 2.1.4.2).

    The empty tree is consistent with every tree, by an empty proof, if its root is the empty root.
    """
    if not 0 <= old <= new or any(len(p) != HASH_BYTES for p in proof):
        return False
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        return False
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for c in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node_hash(c, fr), node_hash(c, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, c)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and fr == old_root and sr == new_root


def _split(size: int) -> int:
    """Return the largest power of two smaller than ``size`` (at least 2)."""
    return 1 << (size - 1).bit_length() - 1


def _perfect(start: int, end: int) -> list[tuple[int, int]]:
    """Cut ``[start, end)`` into perfect subtrees, largest first, as (level, n)."""
    out: list[tuple[int, int]] = []
    while start < end:
        level = (end - start).bit_length() - 1
        out.append((level, start >> level))
        start += 1 << level
    return out
