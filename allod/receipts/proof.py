"""Proofs that stand alone: C2SP tlog-proof (``c2sp.org/tlog-proof@v1``)."""

from __future__ import annotations

from typing import Final

import msgspec

from allod.domain.errors import Integrity
from allod.receipts.checkpoint import number, open_checkpoint
from allod.receipts.merkle import HASH_BYTES, verify_inclusion
from allod.receipts.notes import VerifyKey, b64, unb64

HEAD: Final = "c2sp.org/tlog-proof@v1"
MAX_HASHES: Final = 63


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """An entry's place and path, and the checkpoint they lead to.

    ``extra`` is not authenticated by anything and must not be believed.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None


def write_proof(proof: Proof) -> str:
    """Write the proof as text."""
    lines = [HEAD]
    if proof.extra is not None:
        lines.append("extra " + b64(proof.extra))
    lines.append(f"index {proof.index}")
    lines += map(b64, proof.hashes)
    return "\n".join(lines) + "\n\n" + proof.checkpoint.decode()


def parse_proof(text: str) -> Proof:
    """Read a proof; its checkpoint is not yet verified.

    Raises:
        Integrity: the format is broken, a hash is not 32 bytes, or there are more than 63.

    """
    head, blank, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    if not blank or lines[0] != HEAD:
        raise _bad(f"got the first line {lines[0][:40]!r}, expected {HEAD}")
    extra = None
    rest = lines[1:]
    if rest and rest[0].startswith("extra "):
        extra, rest = unb64(rest[0].removeprefix("extra "), "the extra data"), rest[1:]
    if not rest or not rest[0].startswith("index "):
        raise _bad("got no index line")
    index = number(rest[0].removeprefix("index "), "the index")
    hashes = tuple(unb64(line, "a proof hash") for line in rest[1:])
    if len(hashes) > MAX_HASHES or any(len(h) != HASH_BYTES for h in hashes):
        raise _bad(f"got {len(hashes)} hashes, expected at most {MAX_HASHES} of {HASH_BYTES} bytes")
    return Proof(index=index, hashes=hashes, checkpoint=checkpoint.encode(), extra=extra)


def verify_proof(proof: Proof, leaf_hash: bytes, key: VerifyKey) -> None:
    """Verify checkpoint and path of a leaf hash by the log's key.

    Raises:
        Integrity: the signature is false or the path does not lead to the root.

    """
    checkpoint = open_checkpoint(proof.checkpoint, key)
    if not verify_inclusion(leaf_hash, proof.index, checkpoint.size, proof.hashes, checkpoint.root):
        raise _bad(f"got a path from index {proof.index} that misses the root of size {checkpoint.size}")


def _bad(why: str) -> Integrity:
    return Integrity("the proof does not hold", why, "get the receipt again from its log")
