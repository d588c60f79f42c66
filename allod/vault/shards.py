"""Signatures over shards of files (model signing, method ``shards``): which bytes each digest is of.

A shard is ``name:start:end``, its digest the SHA-256 of these bytes. The shards of a file must cover it from
its first byte to its last, in pieces of the one size that the signer states, without a gap. An empty file has
the shard ``0:0``; the reference tool (1.1.1) writes none for it, and then it is a file that nobody signed.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING, Final

import msgspec

from allod.vault.form import broken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_SHARDS: Final = 100_000
CHUNK_BYTES: Final = 1024 * 1024
_NAME: Final = re.compile(r"(.+):(0|[1-9][0-9]{0,17}):(0|[1-9][0-9]{0,17})", re.DOTALL)


class Shards(msgspec.Struct, frozen=True, kw_only=True):
    """What is signed of one file: its size, the size of a shard, and the hex digest of each in order."""

    size_bytes: int
    shard_bytes: int
    digests: tuple[str, ...]


def gathered(listed: Iterable[tuple[str, str]], shard_bytes: int) -> dict[str, Shards]:
    """Put shards (``name:start:end``, hex digest) together by file, in any order.

    Raises:
        Integrity: a name that is none, or shards that leave a gap, overlap, or are of another size.

    """
    found: dict[str, list[tuple[int, int, str]]] = {}
    for name, digest in listed:
        match = _NAME.fullmatch(name)
        if match is None:
            broken(f"{name[:80]!r} names no shard")
        found.setdefault(match[1], []).append((int(match[2]), int(match[3]), digest))
    out = {}
    for name, parts in found.items():
        parts.sort()
        at = 0
        for number, (start, end, _) in enumerate(parts):
            last = number + 1 == len(parts)
            full = end - start == shard_bytes
            if start != at or not (full or (last and (0 < end - start < shard_bytes or end == 0))):
                broken(f"the shards of {name[:80]!r} do not cover it: {start} to {end} after {at}")
            at = end
        out[name] = Shards(size_bytes=at, shard_bytes=shard_bytes, digests=tuple(d for _, _, d in parts))
    return out


def check(fd: int, signed: Shards, label: str, progress: Callable[[int], None] | None = None) -> None:
    """Read the file behind a descriptor and compare each of its shards; its position does not move.

    Raises:
        Integrity: it is longer or shorter, or a shard is another one.

    """
    size = os.fstat(fd).st_size
    if size != signed.size_bytes:
        broken(f"{label} has {size} bytes, signed are {signed.size_bytes}")
    for number, digest in enumerate(signed.digests):
        at, hasher = number * signed.shard_bytes, hashlib.sha256()
        end = min(at + signed.shard_bytes, size)
        while at < end and (chunk := os.pread(fd, min(CHUNK_BYTES, end - at), at)):
            hasher.update(chunk)
            at += len(chunk)
            if progress is not None:
                progress(len(chunk))
        if at != end or hasher.hexdigest() != digest:
            broken(f"shard {number} of {label} is {hasher.hexdigest()}, signed is {digest}")
