"""A leaf as COSE: a SCITT Signed Statement (RFC 9943) with an RFC 9942 receipt of the same leaf.

The statement is a COSE_Sign1 (RFC 9052) whose payload is the leaf as it stands in the log. Its receipt is a
COSE_Sign1 over the tree's root, detached, with the inclusion proof (vds 1, RFC 9162 with SHA-256) in the
unprotected header. Both are signed by the log's Ed25519 key (alg -8). What COSE signs begins with the byte
0x84 and what a checkpoint signs is text, so neither can pass for the other.

Reading is strict: deterministic CBOR (RFC 8949 section 4.2.1) and nothing beyond what is written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from allod.domain.errors import Integrity
from allod.receipts.file import Part, read_file, read_leaf
from allod.receipts.merkle import HASH_BYTES, leaf_hash, root_of_path
from allod.receipts.proof import MAX_HASHES, parse_proof

if TYPE_CHECKING:
    from allod.receipts.notes import Signer, VerifyKey

STATEMENT_TYPE: Final = "application/scitt-statement+cose"
LEAF_TYPE: Final = "application/json"
MAX_STATEMENT_BYTES: Final = 64 * 1024
_SIGN1: Final = 18
_ALG, _CONTENT, _KID, _CLAIMS, _RECEIPTS, _VDS, _VDP = 1, 3, 4, 15, 394, 395, 396
_ISS, _SUB = 1, 2
_EDDSA: Final = -8
_RFC9162_SHA256: Final = 1
_INCLUSION: Final = -1
_PARTS: Final = 4
_PROOF_PARTS: Final = 3


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """A transparent statement that was verified: the leaf, its place, and the root the log signed.

    ``size`` comes from outside what is signed and is only known to fit the path: a tree a little larger or
    smaller may fit as well. Root and leaf are certain; who needs the size takes the tlog-proof.
    """

    leaf: bytes
    kind: str
    id: str
    index: int
    size: int
    root: bytes


def transparent_statement(signer: Signer, part: Part, receipt: str) -> bytes:
    """Write the leaf of a receipt as a signed statement with its receipt.

    Args:
        signer: the log's key.
        part: leaf and tlog-proof, from the log itself: what it says is signed again here.
        receipt: the receipt's id, the subject of both.

    Raises:
        Integrity: the proof does not lead to the root of its checkpoint.

    """
    from allod.receipts.checkpoint import open_checkpoint  # noqa: PLC0415 (with what else is for COSE alone)

    proof, leaf = parse_proof(part.proof), part.leaf.encode()
    checkpoint = open_checkpoint(proof.checkpoint, signer.key)
    root = root_of_path(leaf_hash(leaf), proof.index, checkpoint.size, proof.hashes)
    if root != checkpoint.root:
        raise Integrity("the proof does not hold", "it misses the root of its checkpoint")
    claims = {_ISS: signer.key.name, _SUB: receipt}
    shared: dict[int, Any] = {_ALG: _EDDSA, _KID: signer.key.key_id, _CLAIMS: claims}
    inclusion = _dumps([checkpoint.size, proof.index, list(proof.hashes)])
    proofs = {_VDP: {_INCLUSION: [inclusion]}}
    log = _sign1(signer, {**shared, _VDS: _RFC9162_SHA256}, proofs, root, attached=False)
    return _sign1(signer, {**shared, _CONTENT: LEAF_TYPE}, {_RECEIPTS: [log]}, leaf, attached=True)


def statement_of(signer: Signer, file: bytes) -> bytes:
    """Write the transparent statement of a receipt file's terminal leaf.

    Raises:
        Integrity: the file is none of this log's, or its request has not ended.

    """
    receipt = read_file(file)
    if receipt.terminal is None:
        raise Integrity(f"receipt {receipt.id} has no terminal leaf yet", f"got status {receipt.status}")
    return transparent_statement(signer, receipt.terminal, receipt.id)


def verify_statement(data: bytes, key: VerifyKey) -> Statement:
    """Verify a transparent statement by the log's key alone: both signatures, the path, and the leaf's form.

    Raises:
        Integrity: anything is not exactly as ``transparent_statement`` writes it, or does not hold.

    """
    if len(data) > MAX_STATEMENT_BYTES:
        raise _bad(f"got {len(data)} bytes, expected at most {MAX_STATEMENT_BYTES}")
    outer, header, leaf = _open(data, "the statement", key, {_CONTENT}, attached=True)
    if header[_CONTENT] != LEAF_TYPE:
        raise _bad(f"got the content type {header[_CONTENT]!r:.40}, expected {LEAF_TYPE}")
    receipts = _only(outer, _RECEIPTS)
    if not _is_list(receipts) or len(receipts) != 1 or not isinstance(receipts[0], bytes):
        raise _bad("got no receipt, or more than one")
    inner, receipt_header, _ = _open(receipts[0], "the receipt", key, {_VDS}, attached=False, check=False)
    if receipt_header[_VDS] != _RFC9162_SHA256:
        raise _bad("got another tree than RFC 9162 with SHA-256 (vds 1)")
    if receipt_header[_CLAIMS] != header[_CLAIMS]:
        raise _bad("statement and receipt are about different things")
    size, index, path = _inclusion(_only(inner, _VDP))
    root = root_of_path(leaf_hash(leaf), index, size, path)
    if root is None:
        raise _bad(f"got a path of {len(path)} hashes from index {index} of {size}")
    _open(receipts[0], "the receipt", key, {_VDS}, attached=False, payload=root)
    kind = "terminal" if b'"kind":"terminal"' in leaf else "intent"
    said = read_leaf(leaf, kind)
    if said.get("id") != header[_CLAIMS][_SUB]:
        raise _bad(f"got the leaf of {said.get('id')!r:.60}, expected {header[_CLAIMS][_SUB]!r:.60}")
    return Statement(leaf=leaf, kind=kind, id=str(said["id"]), index=index, size=size, root=root)


def _sign1(
    signer: Signer,
    protected: Mapping[int, Any],
    unprotected: Mapping[int, Any],
    payload: bytes,
    *,
    attached: bool,
) -> bytes:
    import cbor2  # noqa: PLC0415 (loaded only by who wants COSE)

    header = _dumps(dict(protected))
    signature = signer.raw(_to_sign(header, payload))
    value = [header, dict(unprotected), payload if attached else None, signature]
    return _dumps(cbor2.CBORTag(_SIGN1, value))


def _open(
    data: bytes,
    what: str,
    key: VerifyKey,
    more: set[int],
    *,
    attached: bool,
    payload: bytes = b"",
    check: bool = True,
) -> tuple[Mapping[int, Any], Mapping[int, Any], bytes]:
    """Read one COSE_Sign1 and return (unprotected, protected, payload); ``check`` verifies its signature."""
    tag = _loads(data, what)
    value: Any = getattr(tag, "value", None)
    if getattr(tag, "tag", None) != _SIGN1 or not _is_list(value) or len(value) != _PARTS:
        raise _bad(f"{what} is no COSE_Sign1")
    raw, outer, body, signature = value
    if not isinstance(raw, bytes) or not _is_map(outer) or not isinstance(signature, bytes):
        raise _bad(f"{what} is no COSE_Sign1")
    if (body is None) is attached or not (body is None or isinstance(body, bytes)):
        raise _bad(f"{what} has its payload {'detached' if attached else 'attached'}")
    header = _loads(raw, f"the header of {what}")
    if not _is_map(header) or set(header) != {_ALG, _KID, _CLAIMS, *more}:
        raise _bad(f"{what} has another protected header")
    if header[_ALG] != _EDDSA or header[_KID] != key.key_id:
        raise _bad(f"{what} is signed by another key or algorithm than {key.name}+{key.key_id.hex()}")
    claims = header[_CLAIMS]
    if not _is_map(claims) or set(claims) != {_ISS, _SUB} or claims[_ISS] != key.name:
        raise _bad(f"{what} is not issued by {key.name}")
    held = body if isinstance(body, bytes) else payload
    if check:
        try:
            Ed25519PublicKey.from_public_bytes(key.public).verify(signature, _to_sign(raw, held))
        except (InvalidSignature, ValueError) as fault:
            raise _bad(f"the signature of {what} is false") from fault
    return outer, header, held


def _inclusion(proofs: Any) -> tuple[int, int, tuple[bytes, ...]]:
    found = _only(proofs, _INCLUSION)
    if not _is_list(found) or len(found) != 1 or not isinstance(found[0], bytes):
        raise _bad("got no inclusion proof, or more than one")
    proof = _loads(found[0], "the inclusion proof")
    if not _is_list(proof) or len(proof) != _PROOF_PARTS or not _is_list(proof[2]):
        raise _bad("the inclusion proof is not [size, index, path]")
    size, index, path = proof
    natural = all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 1 << 63 for n in (size, index))
    if not natural or index >= size or len(path) > MAX_HASHES:
        raise _bad("the inclusion proof has an impossible size, index or length")
    if any(not isinstance(h, bytes) or len(h) != HASH_BYTES for h in path):
        raise _bad("the inclusion proof holds a hash that is not 32 bytes")
    return size, index, tuple(path)


def _only(value: Any, label: int) -> Any:
    if not _is_map(value) or set(value) != {label}:
        raise _bad(f"got another unprotected header, expected {label} alone")
    return value[label]


def _to_sign(header: bytes, payload: bytes) -> bytes:
    """Write the Sig_structure (RFC 9052 section 4.4)."""
    return _dumps(["Signature1", header, b"", payload])


def _dumps(value: Any) -> bytes:
    import cbor2  # noqa: PLC0415

    return cbor2.dumps(value, canonical=True)


def _loads(data: bytes, what: str) -> Any:
    import cbor2  # noqa: PLC0415

    try:
        value = cbor2.loads(data)
        again = cbor2.dumps(value, canonical=True)
    except Exception as fault:  # whatever a decoder makes of hostile bytes
        raise _bad(f"{what} is no CBOR ({type(fault).__name__})") from fault
    if again != data:
        raise _bad(f"{what} is not in deterministic CBOR")
    return value


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _bad(why: str) -> Integrity:
    return Integrity(
        "the COSE statement does not hold", why, "get it again from its log; do not trust this copy"
    )
