"""The signatures over ``bundle.json``: a DSSE envelope (in-toto DSSE 1.0), Ed25519, read strictly.

The payload in the envelope must be the very bytes of ``bundle.json``. A key id is the SHA-256 of the raw
public key, so one key cannot count twice under two names. Signatures of keys that nobody here trusts count
for nothing; a false signature under a trusted key id refuses the bundle.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from allod.domain.errors import Integrity, Invalid
from allod.receipts.canonical import canonical, parse
from allod.vault.bundle.form import MAX_BUNDLE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from allod.vault.bundle.form import Signer

PAYLOAD_TYPE: Final = "application/vnd.allod.bundle+json"
MAX_SIGNATURES: Final = 16
MAX_ENVELOPE_BYTES: Final = MAX_BUNDLE_BYTES * 4 // 3 + 64 * 1024
PUBLIC_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_KEY_ID: Final = re.compile(r"[0-9a-f]{64}")


class _Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    keyid: str
    sig: str


class _Envelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    payload: str
    payloadType: str  # noqa: N815 (the format's name)
    signatures: tuple[_Signature, ...]


def key_id(public: bytes) -> str:
    """Name a key: SHA-256 of its 32 raw bytes, hex."""
    return hashlib.sha256(public).hexdigest()


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return what is signed: the pre-authentication encoding of DSSE 1.0."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, keys: Iterable[Ed25519PrivateKey], payload_type: str = PAYLOAD_TYPE) -> bytes:
    """Write an envelope, its signatures sorted by key id.

    Raises:
        Invalid: no key, one twice, or too many.

    """
    said = pae(payload_type, payload)
    signed: dict[str, str] = {}
    count = 0
    for key in keys:
        signed[key_id(key.public_key().public_bytes_raw())] = base64.b64encode(key.sign(said)).decode()
        count += 1
    if not 0 < len(signed) == count <= MAX_SIGNATURES:
        raise Invalid(
            "the bundle cannot be signed with these keys",
            f"got {count} keys, {len(signed)} of them distinct, expected 1 to {MAX_SIGNATURES}",
            "make one with `allod bundle keys new bundle`",
        )
    return canonical({
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [{"keyid": name, "sig": signed[name]} for name in sorted(signed)],
    })  # fmt: skip


def verify(
    raw: bytes,
    payload: bytes,
    signers: Mapping[str, Signer],
    threshold: int,
    payload_type: str = PAYLOAD_TYPE,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Verify an envelope over known bytes; return names of trusted signers, and key ids that are strangers.

    Raises:
        Integrity: another form, another payload or type, a false signature, or fewer trusted signers than
            ``threshold``.
        Invalid: the keyring itself is wrong.

    """
    if threshold < 1 or any(key_id(s.public) != name for name, s in signers.items()):
        raise Invalid(
            "the keyring for bundles cannot be used",
            "a threshold is at least 1, and a key id is the SHA-256 of its key",
            "correct the trust of this home",
        )
    said = pae(payload_type, payload)
    trusted, strangers = [], []
    for one in _read(raw, payload, payload_type):
        signer = signers.get(one.keyid)
        if signer is None:
            strangers.append(one.keyid)
            continue
        try:
            signature = unb64(one.sig)
            Ed25519PublicKey.from_public_bytes(signer.public).verify(signature, said)
        except (InvalidSignature, ValueError):
            _bad(f"the signature of {signer.name} ({one.keyid[:16]}) is false")
        trusted.append(signer.name)
    if len(trusted) < threshold:
        others = ", ".join(name[:16] for name in strangers) or "nobody else"
        _bad(f"{len(trusted)} trusted signers, expected {threshold}; also signed by {others}")
    return tuple(trusted), tuple(strangers)


def _read(raw: bytes, payload: bytes, payload_type: str) -> tuple[_Signature, ...]:
    if len(raw) > MAX_ENVELOPE_BYTES:
        _bad(f"it has {len(raw)} bytes, allowed are {MAX_ENVELOPE_BYTES}")
    value: Any = parse(raw, what="bundle.dsse.json")
    try:
        envelope = msgspec.convert(value, _Envelope)
    except msgspec.ValidationError as error:
        _bad(str(error))
    if envelope.payloadType != payload_type:
        _bad(f"its payload is {envelope.payloadType[:80]!r}, expected {payload_type}")
    if envelope.payload != base64.b64encode(payload).decode():
        _bad("its payload is not bundle.json")
    ids = [one.keyid for one in envelope.signatures]
    if not 0 < len(ids) <= MAX_SIGNATURES:
        _bad(f"it has {len(ids)} signatures, allowed are 1 to {MAX_SIGNATURES}")
    if ids != sorted(set(ids)) or not all(map(_KEY_ID.fullmatch, ids)):
        _bad("its key ids are not SHA-256 digests, in order, each once")
    for one in envelope.signatures:
        if len(unb64(one.sig)) != _SIGNATURE_BYTES:
            _bad("a signature is not 64 bytes of Ed25519")
    return envelope.signatures


def unb64(text: str) -> bytes:
    """Read base 64 that is written the one right way (raises ``Integrity``)."""
    try:
        out = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise _error(f"a signature is not base 64: {error}") from error
    if base64.b64encode(out).decode() != text:
        _bad("a signature is base 64 in another form than the one right one")
    return out


def _bad(why: str) -> NoReturn:
    raise _error(why)


def _error(why: str) -> Integrity:
    return Integrity(
        "the signature of the bundle does not hold", why, "get the bundle again, or trust its signer"
    )
