"""Every vector of ``conformance/vectors/log`` and ``receipt`` against Allod, each under its own name."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allod.domain.errors import Integrity, Invalid
from allod.receipts.checkpoint import Checkpoint, open_checkpoint
from allod.receipts.commitment import digest
from allod.receipts.cose import verify_statement
from allod.receipts.lineage import family
from allod.receipts.merkle import HASH_BYTES, Frontier, leaf_hash, verify_consistency
from allod.receipts.notes import parse_vkey
from allod.receipts.proof import parse_proof, verify_proof
from allod.receipts.pruning import read_kept, read_record
from allod.receipts.rotation import follow
from allod.receipts.tiles import bundle, parse_bundle, parse_tile_path
from allod.receipts.tlog_policy import parse_policy
from allod.receipts.verify import Opening, verify
from allod.receipts.witness import judge, parse_request

ROOT = Path(__file__).parents[2] / "conformance" / "vectors"
FILES = [path for folder in ("log", "receipt") for path in sorted((ROOT / folder).glob("*.json"))]
Given = dict[str, Any]


def _tree(given: Given) -> bool:
    edge, out = Frontier(), list[bytes]()
    for entry in given["entries"]:
        edge.append(leaf_hash(base64.b64decode(entry)), out)
    return edge.root().hex() == given["root"]


def _bundle(given: Given) -> bool:
    if given["bundle"] is None:
        return bool(bundle([bytes(length) for length in given["lengths"]]))
    entries = [base64.b64decode(entry) for entry in given["entries"]]
    return list(parse_bundle(base64.b64decode(given["bundle"]))) == entries


def _tile(given: Given) -> bool:
    tile = parse_tile_path(given["path"])
    hashes = [leaf_hash(base64.b64decode(entry)) for entry in given["entries"]]
    data = bytes.fromhex(given["tile"])
    return len(data) == HASH_BYTES * tile.width and b"".join(hashes) == data


def _pruning(given: Given) -> bool:
    """What ``log verify`` holds against each other on a pruned log, of what a file can hold."""
    data, kept = given["record"].encode(), base64.b64decode(given["kept"])
    record, said = read_record(data), json.loads(given["leaf"])
    hashes = [bytes.fromhex(h) for h in given["hashes"]]
    edge, notices = Frontier(), read_kept(kept)
    edge.extend(hashes, [])
    return (
        record.origin == given["origin"]
        and said["subject"] == "log-pruned"
        and (said["facts"]["record"], said["facts"]["to"]) == (digest(data), str(record.upto))
        and (edge.size, edge.root().hex()) == (record.upto, record.root)
        and (digest(kept), len(notices)) == (record.kept_digest, record.kept)
        and all(leaf_hash(leaf) == hashes[index] for index, leaf in notices.items())
    )


def _consistency(given: Given) -> bool:
    roots = (bytes.fromhex(given["old_root"]), bytes.fromhex(given["new_root"]))
    proof = [bytes.fromhex(h) for h in given["proof"]]
    return verify_consistency(given["old"], given["new"], *roots, proof)


def _proof(given: Given) -> bool:
    leaf = leaf_hash(base64.b64decode(given["leaf"]))
    verify_proof(parse_proof(given["proof"]), leaf, parse_vkey(given["vkey"]))
    return True


def _receipt(given: Given) -> bool:
    opened = {
        name: Opening(body=given[name]["body"].encode(), salt=bytes.fromhex(given[name]["salt"]))
        for name in ("request", "response")
        if name in given
    }
    policy = parse_policy(given["policy"].encode()) if "policy" in given else None
    return verify(given["file"].encode(), given["vkey"], policy=policy, **opened).ok


def _family(given: Given) -> bool:
    checked = [verify(data.encode(), given["vkey"]) for data in given["files"]]
    assert all(one.ok for one in checked), "each by itself holds"
    found = family(json.loads(json.loads(data)["terminal"]["leaf"]) for data in given["files"])
    return not found.findings and not found.missing


def _witness(given: Given) -> bool:
    logs = {key.name: (key,) for key in map(parse_vkey, given["logs"])}
    last: Checkpoint | None = None
    for asked in given["requests"]:
        try:
            verdict = judge(parse_request(asked["body"].encode()), logs, last)
        except Integrity:
            assert asked["status"] == 400
            continue
        assert verdict.status == asked["status"], verdict
        assert asked["answer"] in {"", f"{verdict.size}\n"}
        last = verdict.accepted or last
    return True


RUN: dict[str, Callable[[Given], Any]] = {
    "bundle": _bundle,
    "checkpoint": lambda g: open_checkpoint(g["note"].encode(), parse_vkey(g["vkey"])),
    "consistency": _consistency,
    "family": _family,
    "policy": lambda g: parse_policy(g["policy"].encode()).open(g["note"].encode()),
    "proof": _proof,
    "pruning": _pruning,
    "receipt": _receipt,
    "rotation": lambda g: follow(parse_vkey(g["trusted"]), [n.encode() for n in g["notes"]]).open(
        g["note"].encode()
    ),
    "statement": lambda g: verify_statement(bytes.fromhex(g["statement"]), parse_vkey(g["vkey"])),
    "tile": _tile,
    "tree": _tree,
    "witness": _witness,
}


def holds(vector: Given) -> bool:
    try:
        return bool(RUN[vector["kind"]](vector["given"]))
    except (Integrity, Invalid):
        return False


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_vector(path: Path) -> None:
    vector = json.loads(path.read_text())
    assert vector["name"] == path.stem
    assert holds(vector) == vector["holds"], vector["attack"]


def test_there_are_vectors_and_each_is_in_the_index() -> None:
    assert len(FILES) > 120
    for folder in ("log", "receipt"):
        index = (ROOT / folder / "INDEX.md").read_text()
        assert all(f"| `{path.stem}` |" in index for path in (ROOT / folder).glob("*.json"))


def test_every_test_the_index_names_is_there() -> None:
    index = (ROOT / "README.md").read_text()
    named = re.findall(r"`(tests/[a-z_/]+\.py)(?:::(test_[A-Za-z0-9_]+))?`", index)
    assert len(named) > 15
    for file, test in named:
        text = (ROOT.parents[1] / file).read_text()
        assert not test or f"def {test}(" in text, f"{file}::{test}"
