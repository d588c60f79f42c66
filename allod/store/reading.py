"""Reading the log while it grows: checkpoint, tiles, bundles and receipt files of what is published."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from allod.domain.errors import Invalid
from allod.receipts.canonical import canonical
from allod.receipts.file import PENDING, Part, ReceiptFile, write_file
from allod.receipts.merkle import consistency, inclusion, root
from allod.receipts.proof import Proof, write_proof
from allod.receipts.pruning import Pruned
from allod.receipts.tiles import HEIGHT, MAX_LEVEL, WIDTH, Tile, parse_bundle
from allod.store.logfiles import LogFiles
from allod.store.writer import Published


class Reader:
    """Cuts out of the log's files what the newest checkpoint covers. Any thread; each call reads the disk.

    Attributes:
        cosigned: the newest checkpoint that witnesses cosigned, or None.
        quorum: whether only such a checkpoint counts: what it does not cover yet is pending.

    """

    def __init__(self, files: LogFiles, published: Callable[[], Published]) -> None:
        self._files, self._published = files, published
        self.cosigned: Published | None = None
        self.quorum = False

    @property
    def first(self) -> int:
        """The minimum index: entry bundles below it are pruned."""
        return self._files.first

    @property
    def pruned(self) -> Pruned | None:
        """What was pruned, or None."""
        return self._files.gone.record if self._files.gone is not None else None

    def noted(self, start: int, end: int, mark: bytes = b"") -> list[tuple[int, bytes]]:
        """Return the leaves ``[start, end)`` with their indices, ascending; of pruned ones the notices alone.

        Where ``mark`` is nowhere among those that are there, none of them is returned.

        Raises:
            Integrity: the files disagree about them.

        """
        first = min(max(start, self.first), end)
        out = self._files.notices(start, first)
        data = self._files.bundle(first, end) if first < end else b""
        return [*out, *enumerate(parse_bundle(data), first)] if mark in data else out

    def newest(self) -> Published:
        """Return the newest checkpoint of the log itself, whoever else signed it or not."""
        return self._published()

    def checkpoint(self) -> bytes:
        """Return the newest signed checkpoint that counts, with the cosignatures it has."""
        newest, cosigned = self._published(), self.cosigned
        if cosigned is not None and (self.quorum or cosigned.size == newest.size):
            return cosigned.checkpoint
        return newest.checkpoint

    def covering(self, index: int) -> Published | None:
        """Return the checkpoint to prove a leaf by: one with cosignatures first; None if none counts yet."""
        cosigned = self.cosigned
        if cosigned is not None and index < cosigned.size:
            return cosigned
        newest = None if self.quorum else self._published()
        return newest if newest is not None and index < newest.size else None

    def size(self) -> int:
        """Return how many leaves it covers."""
        return self._published().size

    def tile(self, level: int, n: int, width: int = WIDTH) -> bytes | None:
        """Return a tile of hashes (32 bytes each), or None if the published tree has none such."""
        if not (0 <= level <= MAX_LEVEL // HEIGHT and n >= 0 and 0 < width <= WIDTH):
            return None
        return self._files.tile(level, n, width, self._published().size)

    def entries(self, n: int, width: int = WIDTH) -> bytes | None:
        """Return an entry bundle, or None if the published tree has none such or it was pruned."""
        start = n * WIDTH
        if n < 0 or not 0 < width <= WIDTH or start + width > self._published().size:
            return None
        if start < self.first:
            return None
        return self._files.bundle(start, start + width)

    def resource(self, tile: Tile) -> bytes | None:
        """Return what a tile path names."""
        if tile.level is None:
            return self.entries(tile.n, tile.width)
        return self.tile(tile.level, tile.n, tile.width)

    def leaf(self, index: int) -> bytes:
        """Return a published leaf (raises Invalid if there is none)."""
        if not 0 <= index < self._published().size:
            raise Invalid("the log has no such leaf", f"got {index}, expected below {self._published().size}")
        return self._files.leaf(index)

    def proof(self, index: int) -> str:
        """Return the tlog-proof of a published leaf."""
        return self._part(index, self.covering(index) or self._published()).proof

    def consistency(self, old: int, new: int | None = None) -> tuple[bytes, ...]:
        """Prove that the tree of ``new`` leaves (default: the published one) begins with that of ``old``."""
        return consistency(old, self._published().size if new is None else new, self._files.node)

    def root(self, size: int) -> bytes:
        """Return the root of the tree at a size that was published."""
        return root(size, self._files.node)

    def receipt_file(self, receipt: str, status: str, intent: int, terminal: int) -> bytes | None:
        """Write a receipt file, or return None if no checkpoint that counts covers the terminal leaf.

        Raises:
            Invalid: kind ``pruned``: the leaves are gone by the log's policy.

        """
        published = self.covering(terminal)
        if published is None:
            return None
        return write_file(
            ReceiptFile(
                id=receipt,
                status=status,
                intent=self._part(intent, published),
                terminal=self._part(terminal, published),
            )
        )

    def pending_file(self, receipt: str, intent: int | None) -> bytes:
        """Write the file of a receipt that has not ended: its intent once that is published, else null."""
        published = None if intent is None else self.covering(intent)
        part = None
        if intent is not None and published is not None:
            part = msgspec.to_builtins(self._part(intent, published))
        return canonical({"id": receipt, "status": PENDING, "intent": part, "terminal": None})

    def _part(self, index: int, published: Published) -> Part:
        hashes = inclusion(index, published.size, self._files.node)
        proof = Proof(index=index, hashes=hashes, checkpoint=published.checkpoint)
        return Part(leaf=self._files.leaf(index).decode(), proof=write_proof(proof))
