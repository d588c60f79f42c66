"""Verify a receipt and the whole log behind it with nothing of Allod: Python and `cryptography` alone."""
# ruff: noqa: ANN001, ANN201, PLR2004, PT018

import base64
import hashlib
import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

HERE = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
b64, sha = base64.b64decode, lambda data: hashlib.sha256(data).digest()
leaf_hash, node_hash = lambda leaf: sha(b"\0" + leaf), lambda left, right: sha(b"\1" + left + right)
policy = [line.split() for line in (HERE / "policy").read_text().splitlines()]
log_key = next(words[1] for words in policy if words[0] == "log")
named = [words[2] for words in policy if words[0] == "witness"]
witnesses = [key for key in named if b64(key.split("+", 2)[2])[0] == 4]  # Ed25519; 6 would be ML-DSA-44


def signed(note, vkey, stated=False):
    """Tell whether a key signed a note; a witness states a time before its signature."""
    name, key_id, key = vkey.split("+", 2)
    text, _, lines = note.rpartition("\n\n")
    for _, who, line in (line.split(" ") for line in lines.splitlines()):
        if who == name and b64(line)[:4].hex() == key_id:
            signature, at_s = b64(line)[4:], int.from_bytes(b64(line)[4:12], "big")
            message = (f"cosignature/v1\ntime {at_s}\n" if stated else "") + text + "\n"
            Ed25519PublicKey.from_public_bytes(b64(key)[1:]).verify(signature[-64:], message.encode())
            return True
    return False


def included(leaf, proof):
    """Return (index, size) of a leaf whose path leads to a root that the log and two witnesses signed."""
    (_, index, *path), note = proof.partition("\n\n")[0].split("\n"), proof.partition("\n\n")[2]
    index, size, root = int(index.split()[1]), int(note.split("\n")[1]), b64(note.split("\n")[2])
    assert signed(note, log_key) and sum(signed(note, key, stated=True) for key in witnesses) >= 2
    running, fn, sn = leaf_hash(leaf), index, size - 1  # RFC 9162, section 2.1.3.2
    for step in map(b64, path):
        running = node_hash(step, running) if fn & 1 or fn == sn else node_hash(running, step)
        while fn == sn and not fn & 1 and fn:
            fn, sn = fn >> 1, sn >> 1
        fn, sn = fn >> 1, sn >> 1
    assert sn == 0 and running == root
    return index, size


def entries(folder, size):
    """Return every leaf of the exported log, bundle by bundle (up to 256,000 of them)."""
    for n in range(-(-size // 256)):
        part = f".p/{size % 256}" if size - 256 * n < 256 else ""
        data = (folder / f"tile/entries/{n:03d}{part}").read_bytes()
        while data:
            end = 2 + int.from_bytes(data[:2], "big")
            yield data[2:end]
            data = data[end:]


def root_of(hashes):
    """Return the root of a tree of leaf hashes (RFC 6962, section 2.1)."""
    split = 1 << (len(hashes) - 1).bit_length() - 1 if len(hashes) > 1 else 0
    return node_hash(root_of(hashes[:split]), root_of(hashes[split:])) if split else hashes[0]


receipt, salts = (json.loads((HERE / name).read_text()) for name in ("receipt.json", "salts.json"))
intent, terminal = (receipt[name]["leaf"].encode() for name in ("intent", "terminal"))
said, first = json.loads(terminal), included(intent, receipt["intent"]["proof"])[0]
last, size = included(terminal, receipt["terminal"]["proof"])
assert first < last and said["intent"] == "sha256:" + leaf_hash(intent).hex()
assert (said["id"], said["status"]) == (receipt["id"], receipt["status"])
for name in ("request", "response"):
    body = (HERE / f"{name}.json").read_bytes()
    assert said[name] == "sha256:" + sha(bytes.fromhex(salts[name]) + body).hex()
leaves, note = list(entries(HERE / "log", size)), (HERE / "log/checkpoint").read_text()
assert signed(note, log_key) and root_of([leaf_hash(leaf) for leaf in leaves]) == b64(note.split("\n")[2])
assert (leaves[first], leaves[last]) == (intent, terminal)
print(f"{receipt['id']} {said['status']} by {said['deployment']}: leaves {first} and {last} of {size} hold")
