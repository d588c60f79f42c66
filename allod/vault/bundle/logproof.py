"""That a bundle's digest is in its source's log: a notice leaf and its C2SP tlog-proof, checked offline.

Who gets a bundle that was made for one victim only gets one that the source's log shows to everybody, or
none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

import msgspec

from allod.domain.errors import Integrity, Invalid, Unavailable
from allod.receipts.canonical import parse
from allod.receipts.leaves import notice_leaf
from allod.receipts.merkle import leaf_hash
from allod.receipts.notes import parse_note, parse_vkey
from allod.receipts.proof import parse_proof, verify_proof

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from allod.receipts.leaves import NoticeFacts
    from allod.store.store import Store
    from allod.vault.bundle.form import Bundle

SUBJECT: Final = "bundle"
LEAF, INCLUSION, CHECKPOINT = "proof/leaf.json", "proof/inclusion.tlog-proof", "proof/checkpoint.txt"
MAX_LEAF_BYTES: Final = 4_095
MAX_PROOF_BYTES: Final = 128 * 1024


class LogProof(msgspec.Struct, frozen=True, kw_only=True):
    """A leaf's exact bytes, the text of its tlog-proof, and the checkpoint that ends it."""

    leaf: bytes
    inclusion: bytes
    checkpoint: bytes

    def files(self) -> dict[str, bytes]:
        """Return the files of a bundle."""
        return {LEAF: self.leaf, INCLUSION: self.inclusion, CHECKPOINT: self.checkpoint}


def facts(digest: str, channel: str, number: int) -> dict[str, str]:
    """Return what the leaf says."""
    return {"channel": channel, "digest": digest, "number": str(number)}


def of(leaf: bytes, inclusion: str) -> LogProof:
    """Make a proof of a leaf and its tlog-proof."""
    raw = inclusion.encode()
    return LogProof(leaf=leaf, inclusion=raw, checkpoint=parse_proof(inclusion).checkpoint)


def record(store: Store, facts: NoticeFacts) -> LogProof:
    """Write a notice into an open log and prove it by a checkpoint that is on the disk.

    Raises:
        Unavailable: the log takes nothing now.
        Integrity: the leaf is not where it was written.

    """
    leaf = notice_leaf(facts)
    before = store.reader.size()
    store.append_notice(leaf)
    if not store.flush():
        raise Unavailable("the log takes too long", "its disk is slow or full", "look with `allod doctor`")
    for index in range(before, store.reader.size()):
        if store.reader.leaf(index) == leaf:
            return of(leaf, store.reader.proof(index))
    raise _error("its leaf was written and is not there")


def verify(files: Mapping[str, bytes], bundle: Bundle, digest: str, vkeys: Iterable[str]) -> str:
    """Verify the proof that came with a bundle; return a line that says where in which log the leaf is.

    Args:
        files: the files under ``proof/``, by path.
        bundle: what was signed; digest: of its bytes.
        vkeys: the verifier keys that are trusted for its source's log.

    Raises:
        Integrity: a file is missing, the leaf speaks of another bundle, or no trusted key leads to it.

    """
    if set(files) != {LEAF, INCLUSION, CHECKPOINT}:
        _bad(f"got {sorted(files)}, expected a leaf, its proof and a checkpoint")
    leaf = files[LEAF]
    _check_leaf(leaf, facts(digest, bundle.channel, bundle.number))
    try:
        proof = parse_proof(files[INCLUSION].decode())
    except UnicodeDecodeError:
        _bad("its proof is not text")
    if proof.extra is not None:
        _bad("its proof carries extra data, which nothing authenticates")
    if proof.checkpoint != files[CHECKPOINT]:
        _bad("its checkpoint is not the one in its proof")
    lines = {(one.name, one.key_id) for one in parse_note(proof.checkpoint).signatures}
    for vkey in vkeys:
        try:
            key = parse_vkey(vkey)
        except Invalid as error:
            raise Invalid("a trusted log key is no verifier key", error.why, "correct the trust") from error
        if key.name == bundle.source and (key.name, key.key_id) in lines:
            verify_proof(proof, leaf_hash(leaf), key)
            return f"leaf {proof.index} of {key.name}"
    raise _error(f"no trusted key of {bundle.source} signed its checkpoint")


def speaks_of(leaf: bytes, bundle: Bundle, digest: str) -> bool:
    """Tell whether a leaf is the notice of this bundle."""
    try:
        _check_leaf(leaf, facts(digest, bundle.channel, bundle.number))
    except Integrity:
        return False
    return True


def _check_leaf(leaf: bytes, said: dict[str, str]) -> None:
    if len(leaf) > MAX_LEAF_BYTES:
        _bad(f"its leaf has {len(leaf)} bytes, allowed are {MAX_LEAF_BYTES}")
    value = parse(leaf, what="the leaf of the bundle")
    if not isinstance(value, dict) or value.get("kind") != "notice" or value.get("subject") != SUBJECT:
        _bad("its leaf is of something else than a bundle")
    if value.get("facts") != said:
        _bad(f"its leaf says {str(value.get('facts'))[:160]}, expected {said}")


def _bad(why: str) -> NoReturn:
    raise _error(why)


def _error(why: str) -> Integrity:
    return Integrity(
        "the bundle is not proved to be in its source's log", why, "get the bundle again from its publisher"
    )
