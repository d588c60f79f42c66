"""Hostile (and a few good) inputs for whoever verifies the log: notes, trees, witnesses, policies, key changes.

    python conformance/log_vectors.py      # writes vectors/log, vectors/receipt and their index again

Seeds are fixed; only ML-DSA-44 signatures differ from run to run, as FIPS 204 signs with chance.
"""
# ruff: noqa: E501 (tables: one attack a line)

from __future__ import annotations

import base64
import json
import struct
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import lineage_vectors
import pruning_vectors
import receipt_vectors
from vector_parts import (
    ATTACKER,
    LOG,
    NEXT,
    OTHER_LOG,
    W1,
    W2,
    W3,
    Tree,
    Vector,
    hexed,
)

from allod.receipts.checkpoint import sign
from allod.receipts.cosignature import TYPES, Cosigner
from allod.receipts.merkle import leaf_hash, node_hash
from allod.receipts.notes import b64, parse_note
from allod.receipts.proof import Proof, write_proof
from allod.receipts.rotation import write_revocation, write_rotation
from allod.receipts.witness import AddCheckpoint, write_request

HERE = Path(__file__).resolve().parent / "vectors"
FORK_AT = 4
TREE = Tree([b"leaf %d" % i for i in range(20)])
FORKED = Tree([b"leaf %d" % i if i != FORK_AT else b"forged" for i in range(20)])
TIME = "2026-11-25T19:15:01.000Z"
AT_S = 1_764_098_101


def note_of(tree: Tree, size: int) -> bytes:
    """Return the signed checkpoint of a tree at a size."""
    return sign(LOG, size, tree.root(size))


def signed_line(note: bytes) -> bytes:
    """Return the signature lines of a note."""
    return note.rpartition(b"\n\n")[2]


def checkpoints() -> list[Vector]:
    """Return notes that are no checkpoints, and some that are."""
    good = note_of(TREE, 20)
    text, line = parse_note(good).text, signed_line(good).decode()
    swapped = text.replace(LOG.key.name, OTHER_LOG.key.name)
    forged = LOG.key.key_id + ATTACKER.raw(text.encode())
    other_name = line.replace(LOG.key.name, "allod/ffffffffffffffff")
    root_line = text.split("\n")[2]
    bent = root_line[:-2] + chr(ord(root_line[-2]) + 1) + "="
    mldsa = Cosigner("unknown.example", "ml-dsa-44", b"u" * 32).line(text, AT_S)

    def one(name: str, note: bytes, attack: str, allows: str, *, ok: bool = False) -> Vector:
        return Vector(
            "log", name, "checkpoint", {"note": note.decode(), "vkey": LOG.key.vkey()}, ok, attack, allows
        )

    def resigned(changed: str) -> bytes:
        return LOG.sign(changed)

    return [
        one("checkpoint_good", good, "nothing", "", ok=True),
        one("checkpoint_unknown_mldsa_line", good + mldsa.encode(), "a line of a type and key the verifier does not know", "an old verifier that fails here would force everybody to upgrade at once", ok=True),
        one("checkpoint_size_0_with_a_root", resigned(text.replace("\n20\n", "\n0\n")), "size 0 with the root of a tree that is not empty", "two views of one empty log"),
        one("checkpoint_other_origin", resigned(swapped), "our key signs the checkpoint of another origin", "one log's history passed off as another's"),
        one("checkpoint_key_id_of_another_name", (text + "\n" + other_name).encode(), "the signature line has our key id under another name", "a key id of 4 bytes taken for the key"),
        one("checkpoint_forged_under_our_key_id", f"{text}\n\u2014 {LOG.key.name} {b64(forged)}\n".encode(), "another key's signature under our name and key id", "any checkpoint at all"),
        one("checkpoint_duplicate_signature_lines", good + signed_line(good), "the same line twice", "a quorum counted by lines, not by keys"),
        one("checkpoint_17_signature_lines", good + b"".join(f"\u2014 w{i} {b64(bytes(70))}\n".encode() for i in range(16)), "more lines than anybody needs", "work without bound for the verifier"),
        one("checkpoint_base64_with_stray_bits", resigned(text.replace(root_line, bent)), "a root with bits set behind its end", "two texts of one root, so two valid notes of one tree"),
        one("checkpoint_base64_without_padding", resigned(text.replace("=", "")), "the padding is missing", "as above"),
        one("checkpoint_extension_line", resigned(text + "more\n"), "a fourth line", "something signed that no monitor looks at"),
        one("checkpoint_size_with_leading_zero", resigned(text.replace("\n20\n", "\n020\n")), "020 for 20", "two texts of one size"),
        one("checkpoint_size_of_2e63", resigned(text.replace("\n20\n", f"\n{1 << 63}\n")), "a size of 2^63", "overflow in whoever reads it into 64 bits"),
        one("checkpoint_crlf", good.replace(b"\n", b"\r\n"), "carriage returns", "a text that looks the same and is not"),
        one("checkpoint_unsigned", text.encode() + b"\n", "no signature at all", "any checkpoint at all"),
        one("checkpoint_no_empty_line", (text + line).encode(), "the empty line is missing", "text and signatures confused"),
        one("checkpoint_root_of_31_bytes", resigned(text.replace(root_line, b64(bytes(31)))), "a root that is no hash", "a comparison cut short"),
    ]  # fmt: skip


def proofs() -> list[Vector]:
    """Return proofs of one leaf."""
    leaf, path = TREE.leaves[5], TREE.path(5, 20)
    good = write_proof(Proof(index=5, hashes=path, checkpoint=note_of(TREE, 20)))

    def one(name: str, proof: str, attack: str, allows: str, *, ok: bool = False, of: bytes = leaf) -> Vector:
        given = {"leaf": b64(of), "proof": proof, "vkey": LOG.key.vkey()}
        return Vector("log", name, "proof", given, ok, attack, allows)

    def wrote(index: int, hashes: tuple[bytes, ...], extra: bytes | None = None) -> str:
        return write_proof(Proof(index=index, hashes=hashes, checkpoint=note_of(TREE, 20), extra=extra))

    pair = leaf_hash(TREE.leaves[4]) + leaf_hash(TREE.leaves[5])
    return [
        one("proof_good", good, "nothing", "", ok=True),
        one("proof_changed_leaf", good, "one letter of the leaf", "a receipt edited after the fact", of=b"leaf 6"),
        one("proof_other_index", wrote(4, path), "the index of a neighbour", "an order of events that never was"),
        one("proof_64_hashes", wrote(5, (bytes(32),) * 64), "more hashes than any tree has levels", "work without bound, or a shift beyond 64 bits"),
        one("proof_one_hash_short", wrote(5, path[:-1]), "the last hash is missing", "an inner node taken for the root"),
        one("proof_one_hash_long", wrote(5, (*path, bytes(32))), "a hash too many", "a path that goes on beyond the root"),
        one("proof_interior_node_as_leaf", wrote(2, path[1:]), "a leaf of 64 bytes that is two hashes of the tree", "an inner node passed off as an entry, if leaves and nodes were hashed alike", of=pair),
        one("proof_hash_of_31_bytes", wrote(5, (bytes(31), *path[1:])), "a hash that is too short", "a comparison cut short"),
        one("proof_index_with_sign", good.replace("index 5", "index +5"), "+5 for 5", "two texts of one proof"),
        one("proof_checkpoint_of_a_fork", write_proof(Proof(index=5, hashes=FORKED.path(5, 20), checkpoint=note_of(TREE, 20))), "a path in another tree of this size", "a fork shown to one reader alone"),
        one("proof_with_extra", wrote(5, path, b"status: paid"), "extra data, which nothing authenticates; the proof itself holds", "a reader who believes the extra line", ok=True),
    ]  # fmt: skip


def trees() -> list[Vector]:
    """Return entries against roots, and entry bundles."""
    out = []
    for size in (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17):
        given = {"entries": [b64(leaf) for leaf in TREE.leaves[:size]], "root": hexed(TREE.root(size))}
        out.append(
            Vector(
                "log", f"tree_of_{size}", "tree", given, True, "nothing: the root is that of the entries", ""
            )
        )
    edited = [*TREE.leaves]
    edited[3] = b"edited"
    swapped = [*TREE.leaves]
    swapped[1], swapped[2] = swapped[2], swapped[1]
    for name, entries, attack in (
        ("tree_entry_edited", edited, "one entry edited after the root was signed"),
        ("tree_entries_reordered", swapped, "two entries change places"),
        ("tree_last_batch_cut", TREE.leaves[:16], "the last entries are left out"),
    ):
        given = {"entries": [b64(leaf) for leaf in entries], "root": hexed(TREE.root(20))}
        out.append(Vector("log", name, "tree", given, False, attack, "history rewritten under a signed root"))
    long = {"lengths": [65_536], "bundle": None}
    out.append(Vector("log", "bundle_leaf_of_65536", "bundle", long, False, "an entry one byte longer than its length field can say", "an entry of length 0 and 65,536 bytes of forged entries behind it"))  # fmt: skip
    whole = b"".join(struct.pack(">H", len(leaf)) + leaf for leaf in TREE.leaves[:3])
    for name, data, ok, attack in (
        ("bundle_good", whole, True, "nothing"),
        ("bundle_cut", whole[:-1], False, "the last byte is missing"),
        ("bundle_length_beyond_end", whole[:-8] + b"\xff\xff" + whole[-6:], False, "a length beyond the end"),
    ):
        given = {"bundle": b64(data), "entries": [b64(leaf) for leaf in TREE.leaves[:3]]}
        out.append(Vector("log", name, "bundle", given, ok, attack, "" if ok else "bytes outside the bundle read as entries"))  # fmt: skip
    return out


def consistencies() -> list[Vector]:
    """Return proofs that one tree begins with another."""

    def one(name: str, old: int, new: int, attack: str, allows: str, **more: Any) -> Vector:
        given = {
            "old": old,
            "new": new,
            "old_root": hexed(more.get("old_root", TREE.root(min(old, 20)))),
            "new_root": hexed(more.get("new_root", TREE.root(min(new, 20)))),
            "proof": [
                hexed(h) for h in more.get("proof", TREE.consistency(old, new) if 0 < old < new else ())
            ],
        }
        return Vector("log", name, "consistency", given, more.get("ok", False), attack, allows)

    out = [
        one(f"consistency_{old}_{new}", old, new, "nothing", "", ok=True)
        for old, new in ((1, 2), (3, 7), (4, 8), (7, 8), (8, 9), (16, 17), (15, 16), (20, 20), (0, 5))
    ]
    return [
        *out,
        one("consistency_fork_of_one_size", 20, 20, "two roots of one size", "a log that shows two histories", new_root=FORKED.root(20)),
        one("consistency_forked_later", 4, 20, "the tail of another history, with the proof of the true one", "as above", new_root=FORKED.root(20), proof=TREE.consistency(4, 20), old_root=TREE.root(4)),
        one("consistency_empty_proof", 8, 16, "no proof at all", "truncation and growth without proof", proof=()),
        one("consistency_backwards", 16, 8, "the newer tree is the smaller one", "the last batch cut off unnoticed"),
        one("consistency_from_a_wrong_empty_root", 0, 5, "the empty tree with a root", "a first checkpoint that binds to nothing", old_root=bytes(32)),
        one("consistency_hash_too_many", 3, 7, "a hash behind the end", "a proof that can be extended", proof=(*TREE.consistency(3, 7), bytes(32))),
    ]  # fmt: skip


def request(old: int, new: int, *, tree: Tree = TREE, proof: tuple[bytes, ...] | None = None) -> str:
    """Return the body of an add-checkpoint."""
    hashes = proof if proof is not None else (tree.consistency(old, new) if 0 < old < new else ())
    return write_request(AddCheckpoint(old=old, proof=hashes, note=note_of(tree, new))).decode()


def witnesses() -> list[Vector]:
    """Return conversations with a witness that knows nothing yet."""

    def one(name: str, asked: list[tuple[str, int, str]], attack: str, allows: str) -> Vector:
        rows = [{"body": body, "status": status, "answer": answer} for body, status, answer in asked]
        given = {"logs": [LOG.key.vkey()], "requests": rows}
        return Vector("log", name, "witness", given, True, attack, allows)

    first, grown = (request(0, 4), 200, ""), (request(4, 20), 200, "")
    unsigned = (
        request(0, 4).rpartition("\n\n")[0] + f"\n\n\u2014 {LOG.key.name} {b64(LOG.key.key_id + bytes(64))}\n"
    )
    other = write_request(AddCheckpoint(old=0, proof=(), note=sign(OTHER_LOG, 4, TREE.root(4)))).decode()
    many = request(4, 20, proof=(bytes(32),) * 64)
    return [
        one("witness_follows_a_growing_log", [first, grown, (request(20, 20), 200, "")], "nothing", ""),
        one("witness_fork_of_one_size", [first, grown, (request(20, 20, tree=FORKED), 409, "20\n")], "another root at the size that was cosigned", "two histories, each with a witness's word"),
        one("witness_split_view", [(request(0, 8), 200, ""), (request(8, 20, tree=FORKED), 422, ""), (request(8, 20), 200, "")], "a view whose tail another reader does not get", "as above"),
        one("witness_rollback", [first, grown, (request(0, 4), 409, "20\n")], "an old checkpoint from an older copy of the home", "the log begun again from a restored snapshot"),
        one("witness_replay", [first, grown, (request(4, 20), 409, "20\n")], "a request sent twice", "an old tree cosigned with a new time"),
        one("witness_proof_that_does_not_hold", [first, (request(4, 20, proof=(bytes(32),)), 422, "")], "a wrong consistency proof", "a fork"),
        one("witness_first_with_a_proof", [(request(0, 4, proof=(bytes(32),)), 422, "")], "a proof from the empty tree", "two ways to say one thing"),
        one("witness_64_proof_lines", [first, (many, 400, "")], "more proof lines than a tree has levels", "work without bound"),
        one("witness_unknown_log", [(other, 404, "")], "a log nobody asked this witness to follow", "anybody's log with this witness's name under it"),
        one("witness_forged_signature", [(unsigned, 403, "")], "a checkpoint the log did not sign", "anybody can advance the witness and lock the log out"),
        one("witness_old_beyond_new", [first, grown, (request(20, 20).replace("old 20", "old 21"), 400, "")], "an old size beyond the new one", "underflow"),
        one("witness_old_with_leading_zero", [(request(0, 4).replace("old 0", "old 00"), 400, "")], "00 for 0", "two texts of one request"),
    ]  # fmt: skip


def policies() -> list[Vector]:
    """Return checkpoints against witness policies."""
    keys = [W1, W2, W3]
    lines = [f"witness w{i} {w.key.vkey()}" for i, w in enumerate(keys, 1)]
    head = f"log {LOG.key.vkey()}\n" + "\n".join(lines) + "\n"
    two = head + "group g 2 w1 w2 w3\nquorum g\n"
    note = note_of(TREE, 20)
    text = parse_note(note).text

    def by(*cosigners: Cosigner, on: str = text) -> str:
        return note.decode() + "".join(c.line(on, AT_S) for c in cosigners)

    def one(name: str, policy: str, checkpoint: str, attack: str, allows: str, *, ok: bool = False) -> Vector:
        return Vector("log", name, "policy", {"policy": policy, "note": checkpoint}, ok, attack, allows)

    late = W1.key.key_id + struct.pack(">Q", 1 << 63) + bytes(64)
    shifted = bytearray(base64.b64decode(W1.line(text, AT_S).split(" ")[2]))
    shifted[11] ^= 1
    renamed = Cosigner("w3.other", "ml-dsa-44", b"3" * 32)
    as_other = W3.line(text, AT_S).replace(W3.key.name, renamed.key.name).split(" ")[2]
    body = base64.b64decode(as_other)[4:]
    stolen = f"\u2014 {renamed.key.name} {b64(renamed.key.key_id + body)}\n"
    renamed_policy = f"log {LOG.key.vkey()}\nwitness w {renamed.key.vkey()}\nquorum w\n"
    wrong_type = f"{LOG.key.vkey()}"
    return [
        one("policy_two_of_three", two, by(W1, W3), "nothing: Ed25519 and ML-DSA-44 together", "", ok=True),
        one("policy_one_of_two_demanded", two, by(W1), "one cosignature where two are demanded", "a log that colludes with one witness"),
        one("policy_unknown_witness", two, by(W1, Cosigner("w2.example", "ed25519", b"x" * 32)), "a witness's name with another key", "anybody counted as a witness"),
        one("policy_cosignature_of_another_tree", two, by(W1, on=text) + W2.line(parse_note(note_of(FORKED, 20)).text, AT_S), "a cosignature of another tree pasted under this one", "a fork that looks witnessed"),
        one("policy_time_changed", two, by(W2) + f"\u2014 {W1.key.name} {b64(bytes(shifted))}\n", "the time in a cosignature edited", "an old view made to look fresh"),
        one("policy_time_of_2e63", two, by(W2) + f"\u2014 {W1.key.name} {b64(late)}\n", "a time of 2^63", "overflow"),
        one("policy_mldsa_under_another_name", renamed_policy, note.decode() + stolen, "an ML-DSA-44 cosignature moved to another witness with the same key", "one witness counted as two"),
        one("policy_one_key_under_two_names", head + f"witness w4 {W1.key.vkey()}\ngroup g 2 w1 w4\nquorum g\n", by(W1), "one key in two witness lines", "one witness counted as two"),
        one("policy_member_twice", head + "group g 2 w1 w2\ngroup h all g w1\nquorum h\n", by(W1, W2), "one witness in two groups", "one witness counted twice"),
        one("policy_group_before_its_members", f"log {LOG.key.vkey()}\ngroup g any w1\n{lines[0]}\nquorum g\n", by(W1), "a group of names that come later", "groups in a circle"),
        one("policy_without_quorum", head, by(W1, W2, W3), "no quorum line", "a file cut short that demands nothing"),
        one("policy_two_quorums", two + "quorum none\n", by(W1), "a second quorum line appended", "the quorum taken back by one line"),
        one("policy_log_key_as_witness", f"log {OTHER_LOG.key.vkey()}\nwitness w {wrong_type}\nquorum w\n", by(), "a log's key named as a witness", "a log that witnesses itself"),
        one("policy_of_another_log", two.replace(LOG.key.vkey(), OTHER_LOG.key.vkey()), by(W1, W2), "the checkpoint of a log the policy does not name", "any log at all"),
        one("policy_control_character", two.replace("quorum g", "quorum\x0bg"), by(W1, W2), "a vertical tab for a blank", "a file that reads one way to people and another to programs"),
        one("policy_group_of_zero", head + "group g 0 w1\nquorum g\n", by(), "a threshold of 0", "a quorum that is always reached"),
    ]  # fmt: skip


def rotations() -> list[Vector]:
    """Return checkpoints against the history of a key."""
    moved = write_rotation(LOG, NEXT, size=8, time=TIME, revoked=False).decode()
    stolen = write_rotation(LOG, ATTACKER, size=8, time=TIME, revoked=False).decode()
    gone = write_rotation(LOG, NEXT, size=8, time=TIME, revoked=True).decode()
    taken_back = write_revocation(NEXT, LOG.key, time=TIME).decode()
    by_old = write_revocation(LOG, NEXT.key, time=TIME).decode()
    half = moved.rpartition("\u2014 ")[0]
    new20, old8, old20 = sign(NEXT, 20, TREE.root(20)), note_of(TREE, 8), note_of(TREE, 20)

    def one(
        name: str, notes: list[str], note: bytes, attack: str, allows: str, *, ok: bool = False
    ) -> Vector:
        given = {"trusted": LOG.key.vkey(), "notes": notes, "note": note.decode()}
        return Vector("log", name, "rotation", given, ok, attack, allows)

    return [
        one("rotation_followed", [moved], new20, "nothing: a new key under the same origin", "", ok=True),
        one("rotation_old_checkpoint_still_counts", [moved], old8, "nothing: signed before the key changed", "", ok=True),
        one("rotation_not_known", [], new20, "a checkpoint of a key nobody announced", "any key that claims the origin"),
        one("rotation_old_key_beyond_its_end", [moved], old20, "the retired key signs a larger tree", "a fork by whoever kept the old key"),
        one("rotation_forked", [moved, stolen], new20, "two rotations away from one key", "a thief's log beside the true one, each with a history of its own"),
        one("rotation_signed_by_one_key", [half], new20, "only the old key signed", "a log handed to a key whose owner never took it"),
        one("rotation_edited", [moved.replace("size 8", "size 80")], new20, "the size edited", "the old key kept alive"),
        one("rotation_revoked_key", [gone], old8, "a checkpoint of a key that was revoked", "forgeries with a stolen key, dated back"),
        one("revocation_later", [moved, taken_back], old8, "as above, revoked after it was retired", "as above"),
        one("revocation_by_the_revoked", [moved, by_old], new20, "the old key revokes its successor", "a thief who locks the owner out"),
    ]  # fmt: skip


def all_vectors() -> list[Vector]:
    """Return every vector of the log and of receipts."""
    return [
        *checkpoints(),
        *proofs(),
        *trees(),
        *consistencies(),
        *witnesses(),
        *policies(),
        *rotations(),
        *pruning_vectors.all_vectors(),
        *receipt_vectors.all_vectors(),
        *lineage_vectors.all_vectors(),
    ]


def main() -> None:
    """Write everything again."""
    vectors = all_vectors()
    for folder in ("log", "receipt"):
        (HERE / folder).mkdir(parents=True, exist_ok=True)
        for old in (HERE / folder).glob("*.json"):
            old.unlink()
    for vector in vectors:
        path = HERE / vector.folder / f"{vector.name}.json"
        assert not path.exists(), vector.name
        path.write_text(json.dumps(vector.written(), indent=1, ensure_ascii=False) + "\n")
    for folder in ("log", "receipt"):
        rows = sorted((v for v in vectors if v.folder == folder), key=lambda v: (v.kind, v.name))
        lines = [
            f"| `{v.name}` | {v.kind} | {'holds' if v.ok else 'refused'} | {v.attack} | {v.allows} |"
            for v in rows
        ]
        head = "| vector | kind | must be | what is wrong with it | what it would have allowed |\n|---|---|---|---|---|\n"
        (HERE / folder / "INDEX.md").write_text(f"# {folder}\n\n{head}" + "\n".join(lines) + "\n")
    print(len(vectors), "vectors;", TYPES, node_hash(bytes(32), bytes(32)).hex()[:8])


if __name__ == "__main__":
    main()
