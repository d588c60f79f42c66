"""Read a log with aics-tlog, a C2SP implementation that is not ours; needs Python 3.12 and that package.

Takes one JSON object on standard input and prints one: ``{"checkpoint", "proof", "tiles"}``, each true or
false where it was asked for; or for ``vectors`` whether each holds, by name.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import aics_tlog as tlog


def checkpoint(note: str, vkey: str, witnesses: list[str]) -> tuple[bool, int, bytes, int]:
    """Return whether a checkpoint holds, its size and root, and how many witnesses count."""
    keys = [tlog.parse_vkey(w) for w in witnesses]
    said = tlog.verify_checkpoint(tlog.parse_note(note), tlog.parse_vkey(vkey), keys, quorum=len(keys))
    cp = tlog.parse_checkpoint(tlog.parse_note(note).text)
    return said.ok, cp.size, cp.root, len(keys)


def proof(text: str, leaf: bytes, vkey: str) -> bool:
    """Verify a tlog-proof file of a leaf."""
    head, _, note = text.partition("\n\n")
    lines = [line for line in head.split("\n") if not line.startswith("extra ")]
    ok, size, root, _ = checkpoint(note, vkey, [])
    index = int(lines[1].removeprefix("index "))
    hashes = [base64.b64decode(line) for line in lines[2:]]
    return (
        ok
        and lines[0] == "c2sp.org/tlog-proof@v1"
        and tlog.verify_leaf_inclusion(leaf, index, size, hashes, root)
    )


def tiles(folder: str, vkey: str) -> bool:
    """Walk every tile and entry of an exported log up to the root of its checkpoint."""
    ok, size, root, _ = checkpoint((Path(folder) / "checkpoint").read_text("utf-8"), vkey, [])
    try:
        tlog.audit_tiles(tlog.FileSystemTileReader(folder), size, root)
    except (ValueError, OSError):
        return False
    return ok


def vector(kind: str, g: dict) -> bool:
    """Tell whether a vector holds; kinds it has nothing for are left to the caller."""
    if kind == "checkpoint":
        return checkpoint(g["note"], g["vkey"], [])[0]
    if kind == "proof":
        return proof(g["proof"], base64.b64decode(g["leaf"]), g["vkey"])
    if kind == "tree":
        return tlog.MerkleTree([base64.b64decode(e) for e in g["entries"]]).root().hex() == g["root"]
    roots = (bytes.fromhex(g["old_root"]), bytes.fromhex(g["new_root"]))
    return tlog.verify_consistency(g["old"], g["new"], *roots, [bytes.fromhex(h) for h in g["proof"]])


def vectors(folder: str) -> dict[str, bool]:
    """Run every vector of the kinds it has something for, by name."""
    found = {}
    for path in sorted(Path(folder).glob("*.json")):
        one = json.loads(path.read_text("utf-8"))
        if one["kind"] in {"checkpoint", "proof", "tree", "consistency"}:
            try:
                found[one["name"]] = bool(vector(one["kind"], one["given"]))
            except (ValueError, IndexError, KeyError):
                found[one["name"]] = False
    return found


def main() -> None:
    """Answer one question."""
    asked, out = json.load(sys.stdin), {}
    if "note" in asked:
        out["checkpoint"] = checkpoint(asked["note"], asked["vkey"], asked.get("witnesses", []))[0]
    if "proof" in asked:
        out["proof"] = proof(asked["proof"], base64.b64decode(asked["leaf"]), asked["vkey"])
    if "tiles" in asked:
        out["tiles"] = tiles(asked["tiles"], asked["vkey"])
    if "vectors" in asked:
        out = vectors(asked["vectors"])
    print(json.dumps(out))


if __name__ == "__main__":
    main()
