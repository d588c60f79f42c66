"""Read a log with aics-tlog, a C2SP implementation that is not ours; needs Python 3.12 and that package.

Takes one JSON object on standard input and prints one: ``{"checkpoint", "proof", "tiles"}``, each true or
false where it was asked for.
"""

from __future__ import annotations

import base64
import json
import sys

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
    lines = head.split("\n")
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
    with open(folder + "/checkpoint", encoding="utf-8") as file:  # noqa: PTH123
        ok, size, root, _ = checkpoint(file.read(), vkey, [])
    try:
        tlog.audit_tiles(tlog.FileSystemTileReader(folder), size, root)
    except (ValueError, OSError):
        return False
    return ok


def main() -> None:
    """Answer one question."""
    asked, out = json.load(sys.stdin), {}
    if "note" in asked:
        out["checkpoint"] = checkpoint(asked["note"], asked["vkey"], asked.get("witnesses", []))[0]
    if "proof" in asked:
        out["proof"] = proof(asked["proof"], base64.b64decode(asked["leaf"]), asked["vkey"])
    if "tiles" in asked:
        out["tiles"] = tiles(asked["tiles"], asked["vkey"])
    print(json.dumps(out))


if __name__ == "__main__":
    main()
