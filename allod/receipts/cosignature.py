"""Cosignatures of witnesses on checkpoints: C2SP tlog-cosignature, Ed25519 (0x04) and ML-DSA-44 (0x06).

A cosignature says that, at a time, this was the largest tree its cosigner had seen of the log, and that it
was consistent with all it had seen before. The Ed25519 form signs the checkpoint's text but not the name of
the cosigner: one key must not serve two of them. The ML-DSA-44 form (FIPS 204) signs the name as well.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from allod.domain.errors import Integrity, Invalid
from allod.receipts.checkpoint import parse_text
from allod.receipts.notes import Note, Signature, b64, unb64, valid_name

Algorithm = Literal["ed25519", "ml-dsa-44"]
TYPES: Final[dict[Algorithm, int]] = {"ed25519": 0x04, "ml-dsa-44": 0x06}
PUBLIC_BYTES: Final[dict[Algorithm, int]] = {"ed25519": 32, "ml-dsa-44": 1312}
SIGNATURE_BYTES: Final[dict[Algorithm, int]] = {"ed25519": 64, "ml-dsa-44": 2420}
SEED_BYTES: Final = 32
_NAMED: Final[dict[int, Algorithm]] = {number: name for name, number in TYPES.items()}
_TIME: Final = struct.Struct(">Q")
_MAX_TIME: Final = (1 << 63) - 1
_MAX_NAME: Final = 255
_LABEL: Final = b"subtree/v1\n\0"
_HEX_ID: Final = 8


class CosignerKey(msgspec.Struct, frozen=True, kw_only=True):
    """A witness's public key under its name; ``public`` is 32 or 1312 bytes."""

    name: str
    algorithm: Algorithm
    public: bytes

    @property
    def key_id(self) -> bytes:
        """Return SHA-256(name || 0x0A || type || public key)[:4]."""
        data = self.name.encode() + b"\n" + bytes([TYPES[self.algorithm]]) + self.public
        return hashlib.sha256(data).digest()[:4]

    def vkey(self) -> str:
        """Write ``name+id+base64``."""
        return f"{self.name}+{self.key_id.hex()}+{b64(bytes([TYPES[self.algorithm]]) + self.public)}"


class Cosignature(msgspec.Struct, frozen=True, kw_only=True):
    """A cosignature that was verified: whose, and the time it states (seconds since 1970, 0 for none)."""

    key: CosignerKey
    at_s: int


def parse_cosigner_key(text: str) -> CosignerKey:
    """Read a cosigner's verifier key.

    Raises:
        Invalid: another form or type, a wrong length, or an id that is not of this name and key.

    """
    try:
        name, key_id, encoded = text.split("+", 2)
        data = unb64(encoded, "the key")
    except (ValueError, Integrity) as fault:
        raise _bad_key(f"got {text[:80]!r}, expected name+id+base64") from fault
    algorithm = _NAMED.get(data[0]) if data else None
    if algorithm is None or len(data) != 1 + PUBLIC_BYTES[algorithm]:
        raise _bad_key(
            f"got {len(data)} bytes of type 0x{data[:1].hex()}, expected 0x04 (Ed25519 cosignature) or 0x06 "
            "(ML-DSA-44)"
        )
    if not valid_name(name) or len(name.encode()) > _MAX_NAME:
        raise _bad_key(f"got the name {name[:60]!r}")
    key = CosignerKey(name=name, algorithm=algorithm, public=data[1:])
    if len(key_id) != _HEX_ID or key.key_id.hex() != key_id:
        raise _bad_key(f"got id {key_id[:20]!r}, expected {key.key_id.hex()} for this name and key")
    return key


class Cosigner:
    """A witness's private key under its name."""

    __slots__ = ("_private", "_seed", "key")

    def __init__(self, name: str, algorithm: Algorithm, seed: bytes) -> None:
        """Take a key from its seed of 32 bytes (RFC 8032 section 5.1.5, FIPS 204 algorithm 6).

        Raises:
            Invalid: the name cannot name a key, or the seed has another length.

        """
        if not valid_name(name) or len(name.encode()) > _MAX_NAME or len(seed) != SEED_BYTES:
            raise Invalid("this is no cosigner", f"got name {name[:60]!r} and {len(seed)} bytes, expected 32")
        self._private: Ed25519PrivateKey | MLDSA44PrivateKey
        if algorithm == "ed25519":
            self._private = Ed25519PrivateKey.from_private_bytes(seed)
        else:
            self._private = MLDSA44PrivateKey.from_seed_bytes(seed)
        self._seed = seed
        public = self._private.public_key().public_bytes_raw()
        self.key = CosignerKey(name=name, algorithm=algorithm, public=public)

    def line(self, text: str, at_s: int) -> str:
        """Cosign a checkpoint's text and return the signature line, newline included.

        Raises:
            Integrity: the text is no checkpoint. Invalid: a time beyond 2^63 - 1.

        """
        message = signed_message(self.key, text, at_s)
        signature = self.key.key_id + _TIME.pack(at_s) + self._private.sign(message)
        return f"\u2014 {self.key.name} {b64(signature)}\n"

    def skey(self) -> str:
        """Write ``PRIVATE+KEY+name+id+base64``; who has it can vouch for forks."""
        data = bytes([TYPES[self.key.algorithm]]) + self._seed
        return f"PRIVATE+KEY+{self.key.name}+{self.key.key_id.hex()}+{b64(data)}"


def parse_cosigner_skey(text: str) -> Cosigner:
    """Read what ``Cosigner.skey`` wrote (raises Integrity; the text is never repeated in the error)."""
    parts = text.split("+", 4)
    try:
        if parts[:2] != ["PRIVATE", "KEY"]:
            raise ValueError  # noqa: TRY301
        data = unb64(parts[4], "the key")
        cosigner = Cosigner(parts[2], _NAMED[data[0]], data[1:])
        if cosigner.key.key_id.hex() != parts[3]:
            raise ValueError  # noqa: TRY301
    except (ValueError, IndexError, KeyError, Invalid, Integrity):
        raise Integrity(
            "the witness's key is damaged",
            "got other text than PRIVATE+KEY+name+id+base64 with a matching id",
            "restore it from the witness's backup",
        ) from None
    return cosigner


def signed_message(key: CosignerKey, text: str, at_s: int) -> bytes:
    """Return what a cosigner signs of a checkpoint's text at a time."""
    if not 0 <= at_s <= _MAX_TIME:
        raise Invalid("this is no time of a cosignature", f"got {at_s}, expected 0 to 2^63 - 1")
    checkpoint = parse_text(text, extensions=True)
    if key.algorithm == "ed25519":
        return f"cosignature/v1\ntime {at_s}\n{text}".encode()
    name, origin = key.name.encode(), checkpoint.origin.encode()
    if len(origin) > _MAX_NAME:
        raise Integrity("the origin is too long to be cosigned", f"got {len(origin)} bytes, expected <= 255")
    return b"".join(
        (
            _LABEL,
            bytes([len(name)]) + name,
            _TIME.pack(at_s),
            bytes([len(origin)]) + origin,
            _TIME.pack(0),
            _TIME.pack(checkpoint.size),
            checkpoint.root,
        )
    )


def verify_line(line: Signature, key: CosignerKey, text: str) -> Cosignature:
    """Verify a signature line that claims to be of this key.

    Raises:
        Integrity: it has another length, states a time beyond 2^63 - 1, or is false.

    """
    got, expected = len(line.signature), _TIME.size + SIGNATURE_BYTES[key.algorithm]
    if got != expected:
        raise _false(key, f"got {got} bytes, expected {expected}")
    (at_s,) = _TIME.unpack_from(line.signature)
    if at_s > _MAX_TIME:
        raise _false(key, f"got the time {at_s}")
    message, signature = signed_message(key, text, at_s), line.signature[_TIME.size :]
    try:
        if key.algorithm == "ed25519":
            Ed25519PublicKey.from_public_bytes(key.public).verify(signature, message)
        else:
            MLDSA44PublicKey.from_public_bytes(key.public).verify(signature, message)
    except (InvalidSignature, ValueError) as fault:
        raise _false(key, "got a signature of something else") from fault
    return Cosignature(key=key, at_s=at_s)


def cosignatures(note: Note, keys: Iterable[CosignerKey]) -> tuple[Cosignature, ...]:
    """Verify the lines of known cosigners on a note; lines of others are ignored, known or unknown type.

    Raises:
        Integrity: a line of a known cosigner is false; the note must not be used then.

    """
    known = {(key.name, key.key_id): key for key in keys}
    lines = ((line, known.get((line.name, line.key_id))) for line in note.signatures)
    return tuple(verify_line(line, key, note.text) for line, key in lines if key is not None)


def with_lines(note: bytes, lines: str) -> bytes:
    """Put signature lines behind those of a note; what is put together is not verified here."""
    return note + lines.encode()


def _false(key: CosignerKey, why: str) -> Integrity:
    return Integrity(
        f"the cosignature of {key.name} does not hold", why, "do not trust this copy of the checkpoint"
    )


def _bad_key(why: str) -> Invalid:
    return Invalid(
        "this is no cosigner's verifier key",
        why,
        "use the line `allod log witness --keys` prints",
        param="key",
    )
