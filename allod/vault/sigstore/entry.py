"""The entry of a signature log: that it is of this very signature, that it is in the log, and when it came.

Rekor v1, kind ``dsse`` 0.0.1: what model signing writes. The time is believed because the log signed it
together with the entry (signed entry timestamp); that the entry is in the tree is proved by its path (RFC
9162) to a checkpoint that the log signed. Both are demanded. Every other kind is refused by its name, those
of Rekor v2 too.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509

from allod.domain.errors import Integrity
from allod.receipts.merkle import HASH_BYTES, leaf_hash, verify_inclusion
from allod.receipts.notes import parse_note
from allod.vault.chain import MALFORMED
from allod.vault.form import broken, bytes_of, json_of, number_of, object_of, only

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allod.vault.sigstore.root import Log

KIND: Final = ("dsse", "0.0.1")
MAX_PATH: Final = 63
MAX_CHECKPOINT_CHARS: Final = 16_384
_ENTRY: Final = ("logIndex", "logId", "kindVersion", "integratedTime", "inclusionPromise", "inclusionProof",
                 "canonicalizedBody")  # fmt: skip
_PROOF: Final = ("logIndex", "rootHash", "treeSize", "hashes", "checkpoint")


def verify(
    value: Any, logs: Sequence[Log], *, payload: bytes, signature: bytes, certificate: bytes
) -> dt.datetime:
    """Verify an entry of one of the logs over this payload, signature and certificate (DER).

    Returns:
        When the log took it in, by the log's own signature (UTC).

    Raises:
        Integrity: another kind, an unknown log, another artefact, or a proof or signature that is wrong.

    """
    kind = _kind(value)
    if kind != KIND:
        other = "Rekor v2" if kind[1] == "0.0.2" and kind[0] != "intoto" else "another format"
        broken(
            f"its log entry is of the kind {kind[0]!r} {kind[1]!r} ({other}), "
            f"only {KIND[0]} {KIND[1]} of Rekor v1 is verified here"
        )
    entry = object_of(value, "the log entry", _ENTRY)
    key_id = bytes_of(object_of(entry["logId"], "the log id", ("keyId",))["keyId"], "the log id")
    log = next((one for one in logs if one.key_id == key_id), None)
    if log is None:
        broken(f"its log {key_id.hex()[:16]} is none of the {len(logs)} that are trusted")
    body = bytes_of(entry["canonicalizedBody"], "the entry's body")
    at = _time(entry, body, log)
    _included(entry["inclusionProof"], body, log)
    _same(body, payload=payload, signature=signature, certificate=certificate)
    return at


def _kind(value: Any) -> tuple[str, str]:
    """Read the kind first: entries of another kind have other fields too."""
    held = value.get("kindVersion") if isinstance(value, dict) else None
    kind = object_of(held, "the kind of the log entry", ("kind", "version"))
    return str(kind["kind"])[:40], str(kind["version"])[:20]


def _time(entry: dict[str, Any], body: bytes, log: Log) -> dt.datetime:
    """Verify the signed entry timestamp: the log's signature over entry, place and time."""
    seconds = number_of(entry["integratedTime"], "the entry's time")
    said = {
        "body": base64.b64encode(body).decode(),
        "integratedTime": seconds,
        "logID": log.key_id.hex(),
        "logIndex": number_of(entry["logIndex"], "the entry's index"),
    }
    content = json.dumps(said, separators=(",", ":"), sort_keys=True).encode()
    promise = object_of(entry["inclusionPromise"], "the promise", ("signedEntryTimestamp",))
    if not log.verify(bytes_of(promise["signedEntryTimestamp"], "the entry's timestamp"), content):
        broken("the log did not sign the time of this entry")
    try:
        at = dt.datetime.fromtimestamp(seconds, dt.UTC)
    except (ValueError, OverflowError, OSError):
        broken(f"the entry's time is {seconds}")
    if not log.window.holds(at):
        broken(f"{log.url} is not trusted for {at:%Y-%m-%d}")
    return at


def _included(value: Any, body: bytes, log: Log) -> None:
    """Verify the path from the entry to a root that the log signed."""
    proof = object_of(value, "the inclusion proof", _PROOF)
    index, size = number_of(proof["logIndex"], "the index"), number_of(proof["treeSize"], "the tree's size")
    listed = proof["hashes"]
    if not isinstance(listed, list) or len(listed) > MAX_PATH:
        broken(f"the inclusion proof is no list of at most {MAX_PATH} hashes")
    path = [bytes_of(item, "a hash") for item in listed]
    root = bytes_of(proof["rootHash"], "the root")
    if any(len(item) != HASH_BYTES for item in (*path, root)):
        broken("the inclusion proof holds a hash of another length")
    _signed_root(proof["checkpoint"], size, root, log)
    if not verify_inclusion(leaf_hash(body), index, size, path, root):
        broken("the entry is not in the tree whose root the log signed")


def _signed_root(value: Any, size: int, root: bytes, log: Log) -> None:
    """Verify a checkpoint (C2SP signed-note) of this size and root by the log's key."""
    text = object_of(value, "the checkpoint", ("envelope",))["envelope"]
    if not isinstance(text, str) or len(text) > MAX_CHECKPOINT_CHARS:
        broken("the checkpoint is no text, or too long")
    try:
        note = parse_note(text.encode())
    except (Integrity, UnicodeEncodeError) as error:
        broken(f"the checkpoint is malformed: {getattr(error, 'why', error)}")
    lines = note.text.split("\n")
    if len(lines) < 4 or lines[1] != str(size) or lines[2] != base64.b64encode(root).decode():  # noqa: PLR2004 (origin, size, root, end)
        broken("the checkpoint is of another tree than the inclusion proof")
    for line in note.signatures:
        if line.key_id == log.key_id[:4] and lines[0].split(" ")[0] == line.name:
            if log.verify(line.signature, note.text.encode()):
                return
            broken("the log's signature on the checkpoint is false")
    broken("the checkpoint is not signed by the log of this entry")


def _same(body: bytes, *, payload: bytes, signature: bytes, certificate: bytes) -> None:
    """Check that the entry speaks of this payload, this signature and this certificate, and nothing else."""
    top = object_of(json_of(body, "the entry's body"), "the entry's body", ("apiVersion", "kind", "spec"))
    if (top["kind"], top["apiVersion"]) != KIND:
        broken(f"the entry's body is of the kind {str(top['kind'])[:40]!r} {str(top['apiVersion'])[:20]!r}")
    spec = object_of(top["spec"], "the entry", ("envelopeHash", "payloadHash", "signatures"))
    hashed = object_of(spec["payloadHash"], "the payload's hash", ("algorithm", "value"))
    expected = hashlib.sha256(payload).hexdigest()
    if hashed != {"algorithm": "sha256", "value": expected}:
        broken(f"the entry is of the payload {str(hashed['value'])[:64]}, this one is {expected}")
    made = object_of(only(spec["signatures"], "signature of the entry"), "the entry's signature",
                     ("signature", "verifier"))  # fmt: skip
    if bytes_of(made["signature"], "the entry's signature") != signature:
        broken("the entry is of another signature")
    if _der(bytes_of(made["verifier"], "the entry's certificate")) != certificate:
        broken("the entry is of another certificate")


def _der(pem: bytes) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415

    try:
        (found,) = x509.load_pem_x509_certificates(pem)
    except MALFORMED as error:
        broken(f"the entry's certificate is malformed: {error}")
    return found.public_bytes(Encoding.DER)
