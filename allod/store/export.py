"""A log as files that any C2SP tlog-tiles client reads: ``checkpoint`` and ``tile/...``, and not its key.

Whoever verifies the log gets its verifier key by another way than the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from allod.domain.errors import Invalid
from allod.receipts.pruning import write_record
from allod.receipts.tiles import HEIGHT, WIDTH, Tile, tile_path
from allod.store.home import unwritable
from allod.store.reading import Reader

PRUNED_NAME: Final = "pruned.json"


def export_tiles(reader: Reader, folder: Path) -> int:
    """Write a log into an empty folder and return its size in leaves.

    Entry bundles that were pruned are not in it; ``pruned.json`` says so then.

    Args:
        reader: of a log at rest.
        folder: made if it is not there.

    Raises:
        Invalid: there is something in the folder. Unavailable: it cannot be written.

    """
    size, checkpoint = reader.size(), reader.checkpoint()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise Invalid(f"{folder} is not empty", "tiles of two logs must not mix", "name another folder")
        for tile in tiles(size, reader.first):
            data, path = reader.resource(tile), folder / tile_path(tile)
            assert data is not None
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        if reader.pruned is not None:
            (folder / PRUNED_NAME).write_bytes(write_record(reader.pruned) + b"\n")
        (folder / "checkpoint").write_bytes(checkpoint)
    except OSError as fault:
        raise unwritable(folder, fault) from fault
    return size


def tiles(size: int, first: int = 0) -> Iterator[Tile]:
    """Name every tile of a tree of this size, and every entry bundle that does not begin below ``first``."""
    levels: list[int | None] = [None, *range(64 // HEIGHT)]
    for level in levels:
        count = size >> ((level or 0) * HEIGHT)
        for n in range(first // WIDTH if level is None else 0, -(-count // WIDTH)):
            yield Tile(level=level, n=n, width=min(WIDTH, count - n * WIDTH))
