"""Tiles of a log: C2SP tlog-tiles. Coordinates, paths, entry bundles; not their storage."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from allod.domain.errors import Integrity, Invalid

WIDTH: Final = 256
HEIGHT: Final = 8
MAX_LEVEL: Final = 63
MAX_ENTRY_BYTES: Final = 65_535
_PATH: Final = re.compile(
    r"tile/(entries|[0-9]|[1-5][0-9]|6[0-3])/((?:x[0-9]{3}/)*)([0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?"
)
_MAX_GROUPS: Final = 6
_LENGTH_BYTES: Final = 2


class Tile(msgspec.Struct, frozen=True, kw_only=True):
    """A tile: ``level`` None is an entry bundle; ``width`` below 256 is a partial tile."""

    level: int | None
    n: int
    width: int = WIDTH


def tile_path(tile: Tile) -> str:
    """Write the path below a log's prefix: ``tile/0/x001/x234/067.p/112``."""
    n, last = divmod(tile.n, 1000)
    path = f"{last:03d}"
    while n:
        n, part = divmod(n, 1000)
        path = f"x{part:03d}/{path}"
    level = "entries" if tile.level is None else str(tile.level)
    return f"tile/{level}/{path}" + (f".p/{tile.width}" if tile.width < WIDTH else "")


def parse_tile_path(path: str) -> Tile:
    """Read such a path; only the one spelling ``tile_path`` writes is taken (raises Invalid, kind model)."""
    match = _PATH.fullmatch(path)
    if match is not None and match[2].count("/") < _MAX_GROUPS:
        width = int(match[4]) if match[4] else WIDTH
        n = int("".join(match[2].replace("x", "").split("/")) + match[3])
        level = None if match[1] == "entries" else int(match[1])
        tile = Tile(level=level, n=n, width=width)
        if (match[4] is None or width < WIDTH) and tile_path(tile) == path:
            return tile
    raise Invalid("there is no such tile", f"got {path[:80]!r}", "see c2sp.org/tlog-tiles", kind="model")


def bundle(entries: Iterable[bytes]) -> bytes:
    """Write an entry bundle: each entry after its length in two big-endian bytes.

    Raises:
        Invalid: an entry is longer than 65,535 bytes.

    """
    out = bytearray()
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            raise Invalid("the entry is too long for a log", f"got {len(entry)} bytes, expected <= 65,535")
        out += len(entry).to_bytes(_LENGTH_BYTES, "big") + entry
    return bytes(out)


def parse_bundle(data: bytes) -> tuple[bytes, ...]:
    """Read an entry bundle (raises Integrity if its lengths do not add up)."""
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + _LENGTH_BYTES + int.from_bytes(data[at : at + _LENGTH_BYTES], "big")
        if at + _LENGTH_BYTES > len(data) or end > len(data):
            raise Integrity("the entry bundle is cut", f"got {len(data)} bytes, expected {end}")
        entries.append(data[at + _LENGTH_BYTES : end])
        at = end
    return tuple(entries)
