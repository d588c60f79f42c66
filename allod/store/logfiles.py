"""The log's files, derived from the journal: entries, their offsets, and the hashes of the tree.

Three append-only files under ``log/``::

    entries   each leaf behind its length in two big-endian bytes, so that any run of 256 is an entry bundle
    offsets   per leaf, where it ends in ``entries``: 8 big-endian bytes
    hashes    each leaf hash followed by the nodes it finishes (``merkle.stored_position``), 32 bytes each

Tiles and bundles of C2SP tlog-tiles are cut out of them on demand. Nothing is synced on the way: what a crash
takes is appended again from the journal.

What was pruned (``pruned``) is zeros in ``entries``, which keeps its length, so every offset stays true;
where the file system can, they are a hole that takes no room.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Final

import msgspec

from allod.domain.errors import Integrity
from allod.receipts.merkle import EMPTY_ROOT, HASH_BYTES, Frontier, frontier, leaf_hash, stored_count
from allod.receipts.merkle import stored_position as position
from allod.receipts.tiles import HEIGHT, MAX_ENTRY_BYTES, WIDTH
from allod.store.holes import empty
from allod.store.home import write_all
from allod.store.pruned import gone_of, no_more

NAMES: Final = ("entries", "offsets", "hashes")
OFFSET_BYTES: Final = 8


class Addition(msgspec.Struct, frozen=True):
    """Bytes to append to each file, where, and the tree's edge after it: writing it twice does no harm."""

    entries: bytes
    offsets: bytes
    hashes: bytes
    end: int
    edge: Frontier


class LogFiles:
    """The open files of one log; ``edge`` is the tree's right edge, ``end`` the length of ``entries``.

    One thread appends; any thread may read what lies below a size that was published. ``gone`` says what was
    pruned; a leaf of that is read only if it is a notice, a bundle never (raises Invalid, kind ``pruned``).
    """

    def __init__(self, folder: Path, *, write: bool = True) -> None:
        """Open the files; to ``write`` makes those that are missing (raises OSError, Integrity)."""
        self.folder = folder
        self._fd: dict[str, int] = {}
        how = os.O_RDWR | os.O_CREAT if write else os.O_RDONLY
        for name in NAMES:
            self._fd[name] = os.open(folder / name, how | os.O_CLOEXEC, 0o644)
        self._entries, self._offsets, self._hashes = (self._fd[name] for name in NAMES)
        self.edge = Frontier()
        self.end = 0
        self.gone = gone_of(folder)

    @property
    def first(self) -> int:
        """The minimum index of C2SP tlog-tiles: leaves below it are pruned, but for notices."""
        return self.gone.record.upto if self.gone is not None else 0

    def _there(self, index: int) -> None:
        if self.gone is not None and index < self.gone.record.upto:
            raise no_more(index, self.gone.record)

    def close(self) -> None:
        """Close the files; idempotent."""
        for fd in self._fd.values():
            os.close(fd)
        self._fd.clear()

    def sizes(self) -> dict[str, int]:
        """Return the length of each file in bytes."""
        return {name: os.fstat(fd).st_size for name, fd in self._fd.items()}

    def held(self) -> int:
        """Return how many whole leaves all three files hold, without judging them."""
        sizes = self.sizes()
        most = sizes["offsets"] // OFFSET_BYTES
        hashed = sizes["hashes"] // HASH_BYTES
        most = bisect_right(range(most + 1), hashed, key=stored_count) - 1
        return bisect_right(range(most + 1), sizes["entries"], key=self.leaf_end) - 1

    def whole(self) -> int:
        """Return how many leaves entries and offsets hold, whatever the hashes do."""
        sizes = self.sizes()
        most = sizes["offsets"] // OFFSET_BYTES
        return bisect_right(range(most + 1), sizes["entries"], key=self.leaf_end) - 1

    def take(self, size: int) -> None:
        """Stand at ``size`` leaves, which the files must hold; what lies beyond is left for now."""
        self.end = self.leaf_end(size)
        self.edge = frontier(size, self.node)

    def cut(self) -> None:
        """Drop what lies beyond where the files stand (raises OSError)."""
        size = self.edge.size
        os.ftruncate(self._entries, self.end)
        os.ftruncate(self._offsets, size * OFFSET_BYTES)
        os.ftruncate(self._hashes, stored_count(size) * HASH_BYTES)

    def rebuild_hashes(self, size: int) -> None:
        """Compute ``hashes`` anew from the first ``size`` entries; those of pruned leaves must be there.

        Raises:
            Integrity: hashes of pruned leaves are lost or changed: nothing can make them again.

        """
        first, out = self.first, list[bytes]()
        edge = self.pruned_edge()
        for i in range(first, size):
            edge.append(leaf_hash(self.leaf(i)), out)
        data = b"".join(out)
        at = stored_count(first) * HASH_BYTES
        os.ftruncate(self._hashes, at)
        write_all(self._hashes, data, at)

    def pruned_edge(self) -> Frontier:
        """Return the tree's edge behind what was pruned, every hash of it recomputed from the leaf hashes.

        Raises:
            Integrity: they do not lead to the root that was noted when it was pruned.

        """
        edge = Frontier()
        if self.gone is None:
            return edge
        record = self.gone.record
        for start in range(0, record.upto, WIDTH):
            held, out = self.stored(start, WIDTH), list[bytes]()
            edge.extend(self.leaf_hashes(start, start + WIDTH, held), out)
            if b"".join(out) != held:
                raise self._lost(start)
        if edge.root().hex() != record.root:
            raise self._lost(0)
        return edge

    def _lost(self, start: int) -> Integrity:
        return Integrity(
            f"{self.folder / 'hashes'} is wrong or cut among the hashes of pruned leaves, from {start} on",
            "nothing can compute them again: the leaves are gone by the log's policy",
            "restore log/hashes from a backup",
        )

    def stored(self, start: int, count: int) -> bytes:
        """Read the hashes of so many leaves and the nodes they finish, as they lie in ``hashes``."""
        at = stored_count(start)
        return self.hashes(at * HASH_BYTES, (stored_count(start + count) - at) * HASH_BYTES)

    def leaf_hashes(self, start: int, end: int, stored: bytes) -> list[bytes]:
        """Pick the leaf hashes of ``[start, end)`` out of ``stored(start, end - start)``."""
        first = stored_count(start)
        places = [(position(0, i) - first) * HASH_BYTES for i in range(start, end)]
        return [stored[at : at + HASH_BYTES] for at in places]

    def addition(self, leaves: list[tuple[bytes, bytes]]) -> Addition:
        """Compute what appending leaves, each with its leaf hash, would write; writes nothing."""
        edge = self.edge.copy()
        hashes: list[bytes] = []
        edge.extend([hashed for _, hashed in leaves], hashes)
        ends = list(accumulate([2 + len(leaf) for leaf, _ in leaves], initial=self.end))
        entries = b"".join([b"%c%c%b" % (len(leaf) >> 8, len(leaf) & 255, leaf) for leaf, _ in leaves])
        offsets = struct.pack(f">{len(leaves)}Q", *ends[1:])
        return Addition(entries, offsets, b"".join(hashes), ends[-1], edge)

    def write(self, addition: Addition) -> None:
        """Append (raises OSError; then nothing counts as appended and the same call may be made again)."""
        size = self.edge.size
        write_all(self._entries, addition.entries, self.end)
        write_all(self._offsets, addition.offsets, size * OFFSET_BYTES)
        write_all(self._hashes, addition.hashes, stored_count(size) * HASH_BYTES)
        self.edge, self.end = addition.edge, addition.end

    def sync(self) -> None:
        """Make everything appended durable."""
        for fd in self._fd.values():
            os.fsync(fd)

    def node(self, level: int, n: int) -> bytes:
        """Read the root of a perfect subtree (raises Integrity if it is not there)."""
        data = os.pread(self._hashes, HASH_BYTES, position(level, n) * HASH_BYTES)
        if len(data) != HASH_BYTES:
            raise Integrity(f"{self.folder / 'hashes'} is cut", f"got no node {n} of level {level}")
        return data

    def hashes(self, at: int, length: int) -> bytes:
        """Read bytes of ``hashes`` as they lie there."""
        return os.pread(self._hashes, length, at)

    def leaf_end(self, count: int) -> int:
        """Return where the first ``count`` leaves end in ``entries``."""
        if count == 0:
            return 0
        return int.from_bytes(os.pread(self._offsets, OFFSET_BYTES, (count - 1) * OFFSET_BYTES), "big")

    def ends(self, start: int, end: int) -> tuple[int, ...]:
        """Return where each of the leaves ``[start, end)`` ends in ``entries`` (raises Integrity)."""
        data = os.pread(self._offsets, (end - start) * OFFSET_BYTES, start * OFFSET_BYTES)
        if len(data) != (end - start) * OFFSET_BYTES:
            raise Integrity(f"{self.folder / 'offsets'} is cut", f"got no leaves {start} to {end - 1}")
        return struct.unpack(f">{end - start}Q", data)

    def bundle(self, start: int, end: int) -> bytes:
        """Read the entry bundle of leaves ``[start, end)`` (raises Integrity, Invalid)."""
        self._there(start)
        at = self.leaf_end(start)
        length = self.leaf_end(end) - at
        possible = 0 < length <= (end - start) * (2 + MAX_ENTRY_BYTES) and at < 1 << 62
        data = os.pread(self._entries, length, at) if possible else b""
        if len(data) != length or not possible:
            raise Integrity(f"{self.folder / 'entries'} is cut", f"got no leaves {start} to {end - 1}")
        return data

    def leaf(self, index: int) -> bytes:
        """Read one leaf (raises Integrity if the files disagree about it, Invalid if it is pruned)."""
        if self.gone is not None and index in self.gone.notices:
            return self.gone.notices[index]
        self._there(index)
        at, end = (0, *self.ends(0, 1)) if index == 0 else self.ends(index - 1, index + 1)
        possible = 1 < end - at <= 2 + MAX_ENTRY_BYTES and at < 1 << 62
        data = os.pread(self._entries, end - at, at) if possible else b""
        if len(data) != end - at:
            raise Integrity(f"{self.folder / 'entries'} is cut", f"got no leaf {index}")
        if int.from_bytes(data[:2], "big") != len(data) - 2:
            raise Integrity(
                f"{self.folder} disagrees about leaf {index}",
                f"got length {int.from_bytes(data[:2], 'big')}, expected {len(data) - 2} by offsets",
            )
        return data[2:]

    def notices(self, start: int, end: int) -> list[tuple[int, bytes]]:
        """Return what is kept of pruned leaves ``[start, end)``: the notices, with their indices."""
        kept = self.gone.notices if self.gone is not None else {}
        return [(i, kept[i]) for i in range(start, end) if i in kept]

    def erase(self, length: int) -> None:
        """Take the first bytes of ``entries`` off the disk (raises OSError); safe to repeat."""
        empty(self._entries, length)
        os.fsync(self._entries)

    def tile(self, level: int, n: int, width: int, size: int) -> bytes | None:
        """Cut out a tile of the tree of ``size`` leaves, or None if that tree has no such tile."""
        start = n * WIDTH
        if start + width > size >> (level * HEIGHT):
            return None
        return b"".join(self.node(level * HEIGHT, i) for i in range(start, start + width))

    def root(self) -> bytes:
        """Return the root of everything appended."""
        return self.edge.root() if self.edge.size else EMPTY_ROOT
