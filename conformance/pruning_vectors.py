"""Hostile tiles, and records of what a log pruned: what a verifier of a pruned log must refuse."""
# ruff: noqa: E501 (tables: one attack a line)

from __future__ import annotations

from typing import Any

import msgspec
from vector_parts import LOG, OTHER_LOG, Tree, Vector, hexed

from allod.receipts.commitment import digest
from allod.receipts.ids import new_id
from allod.receipts.leaves import notice_leaf
from allod.receipts.merkle import leaf_hash
from allod.receipts.notes import b64
from allod.receipts.pruning import Pruned, pruned_notice, write_kept, write_record

AT_MS = 1_764_098_101_000
TREE = Tree([b"leaf %d" % i for i in range(600)])
NOTICE = b'{"kind":"notice","subject":"start"}'


def tiles() -> list[Vector]:
    """Return hash tiles against the entries they are of."""
    leaves = TREE.leaves[:5]
    good = b"".join(map(leaf_hash, leaves))

    def one(name: str, data: bytes, attack: str, allows: str, *, ok: bool = False) -> Vector:
        given = {"entries": [b64(leaf) for leaf in leaves], "tile": hexed(data), "path": "tile/0/000.p/5"}
        return Vector("log", name, "tile", given, ok, attack, allows)

    return [
        one("tile_good", good, "nothing", "", ok=True),
        one("tile_alone_edited", good[:64] + bytes(32) + good[96:], "one hash of the tile, and no entry", "proofs to a root of somebody's choice from entries that look right"),
        one("tile_hashes_swapped", good[32:64] + good[:32] + good[64:], "two hashes change places", "as above"),
        one("tile_one_hash_short", good[:-32], "the last hash is missing", "a tile narrower than its path says"),
        one("tile_with_a_byte_more", good + b"\0", "a byte behind the end", "two tiles of one path"),
    ]  # fmt: skip


def prunings() -> list[Vector]:
    """Return records of what is gone, with the leaf that is to have announced it and the notices kept."""
    kept = write_kept([(3, NOTICE)])
    tree = Tree([*TREE.leaves[:3], NOTICE, *TREE.leaves[4:]])
    hashes = [hexed(leaf_hash(leaf)) for leaf in tree.leaves[:256]]
    record = Pruned(
        origin=LOG.key.name, policy="sha256:" + "1" * 64, retain_days=365, upto=256,
        root=hexed(tree.root(256)), since=0, before="", until="2026-01-01T00:00:00.000Z", intents=100,
        terminals=99, halves=1, numbers={"ward-llm": 99}, bytes=70_000, ledger=False, kept=1,
        kept_digest=digest(kept),
    )  # fmt: skip
    good = write_record(record)

    def announced(of: Pruned) -> bytes:
        name = new_id(LOG.key.name, AT_MS, b"0123456789")
        return notice_leaf(pruned_notice(of, id=name, at_ms=AT_MS, tenant="p_t"))

    def one(name: str, attack: str, allows: str, *, ok: bool = False, **more: Any) -> Vector:
        given = {
            "origin": LOG.key.name,
            "record": more.get("record", good).decode(),
            "leaf": more.get("leaf", announced(record)).decode(),
            "kept": b64(more.get("kept", kept)),
            "hashes": more.get("hashes", hashes),
        }
        return Vector("log", name, "pruning", given, ok, attack, allows)

    def other(**changes: Any) -> Pruned:
        return msgspec.structs.replace(record, **changes)

    swapped = [hashes[1], hashes[0], *hashes[2:]]
    return [
        one("pruning_good", "nothing: hashes lead to the root, a leaf announced it, the notice is kept", "", ok=True),
        one("pruning_announced_by_no_leaf", "the leaf announces another record", "entries taken away that no leaf of the log speaks of", leaf=announced(other(policy="sha256:" + "2" * 64))),
        one("pruning_edited_afterwards", "the last number of a deployment edited", "an answer left out behind what was pruned", record=write_record(other(numbers={"ward-llm": 98}))),
        one("pruning_reaches_further", "the record says more is gone than its leaf", "younger entries taken away", record=write_record(other(upto=512, root=hexed(tree.root(512))))),
        one("pruning_of_another_log", "the record of another log", "one log's policy used on another", record=write_record(other(origin=OTHER_LOG.key.name)), leaf=announced(other(origin=OTHER_LOG.key.name))),
        one("pruning_backwards", "it ends before it begins", "a minimum index that goes back", record=write_record(other(since=256)), leaf=announced(other(since=256))),
        one("pruning_hashes_edited", "two leaf hashes of what is gone change places", "history rewritten where nobody can look", hashes=swapped),
        one("pruning_notice_edited", "a kept notice edited", "a waived demand, a change or a rotation denied", kept=kept.replace(b"start", b"stark")),
        one("pruning_notice_left_out", "the kept notice is left out", "as above", kept=b""),
        one("pruning_notice_elsewhere", "the kept notice at the place of a neighbour", "an order of events that never was", kept=write_kept([(4, NOTICE)])),
        one("pruning_kept_cut", "the kept notices are cut", "bytes outside read as a leaf", kept=kept[:-1]),
    ]  # fmt: skip


def all_vectors() -> list[Vector]:
    """Return every vector of this file."""
    return [*tiles(), *prunings()]
