"""Signed notes and their keys: C2SP signed-note with Ed25519 signatures (type 0x01).

A note is text that ends in a newline, an empty line, and signature lines
``— <key name> <base64 of key id || signature>``. Reading is strict: base64 must be canonical, there are no
control characters, no duplicate signature lines, at most 16 of them; lines of unknown keys are ignored, a
bad signature of a known key rejects the note.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from allod.domain.errors import Integrity, Invalid

ED25519: Final = b"\x01"
MAX_SIGNATURES: Final = 16
MAX_NOTE_BYTES: Final = 128 * 1024
_ID_BYTES: Final = 4
_KEY_BYTES: Final = 32
_FIRST_PRINTABLE: Final = 0x20
_DASH: Final = "\u2014 "
_HEX8: Final = re.compile("[0-9a-f]{8}")


def b64(data: bytes) -> str:
    """Write standard base 64 with padding (RFC 4648 section 4)."""
    return base64.b64encode(data).decode("ascii")


def unb64(text: str, what: str) -> bytes:
    """Read standard base 64 that is exactly what ``b64`` writes.

    Raises:
        Integrity: other letters, missing or surplus padding, or bits set beyond the end.

    """
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError) as fault:
        raise Integrity(f"{what} is not base 64", f"got {text[:60]!r}", "get it again") from fault
    if b64(data) != text:
        raise Integrity(f"{what} is not canonical base 64", f"got {text[:60]!r}, expected {b64(data)[:60]!r}")
    return data


def valid_name(name: str) -> bool:
    """Tell whether a key may be called so: not empty, no spaces, no plus, no control characters."""
    return bool(name) and "+" not in name and not any(c.isspace() or ord(c) < _FIRST_PRINTABLE for c in name)


class VerifyKey(msgspec.Struct, frozen=True, kw_only=True):
    """A named public key: ``public`` is 32 bytes of Ed25519."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """Return SHA-256(name || 0x0A || 0x01 || public key)[:4]."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:_ID_BYTES]

    def vkey(self) -> str:
        """Write ``name+id+base64``, the form keys are handed out in."""
        return f"{self.name}+{self.key_id.hex()}+{b64(ED25519 + self.public)}"


def parse_vkey(text: str) -> VerifyKey:
    """Read a verifier key ``name+id+base64``.

    Raises:
        Invalid: it has another form, another algorithm, or an id that is not of this name and key.

    """
    try:
        name, key_id, encoded = text.split("+", 2)
        data = unb64(encoded, "the key")
    except (ValueError, Integrity) as fault:
        raise _bad_vkey(f"got {text[:80]!r}, expected name+id+base64") from fault
    if not valid_name(name) or not _HEX8.fullmatch(key_id):
        raise _bad_vkey(f"got name {name[:60]!r} and id {key_id[:20]!r}")
    if data[:1] != ED25519 or len(data) != 1 + _KEY_BYTES:
        raise _bad_vkey(
            f"got {len(data)} bytes of type 0x{data[:1].hex()}, expected 33 of type 0x01 (Ed25519)"
        )
    key = VerifyKey(name=name, public=data[1:])
    if key.key_id.hex() != key_id:
        raise _bad_vkey(f"got id {key_id}, expected {key.key_id.hex()} for this name and key")
    return key


class Signer:
    """A log's private key under its name; signs note texts."""

    __slots__ = ("_private", "_seed", "_stem", "key")

    def __init__(self, name: str, seed: bytes) -> None:
        if not valid_name(name) or len(seed) != _KEY_BYTES:
            raise Invalid("this is no signing key", f"got name {name!r} and {len(seed)} bytes, expected 32")
        self._private, self._seed = Ed25519PrivateKey.from_private_bytes(seed), seed
        self.key = VerifyKey(name=name, public=self._private.public_key().public_bytes_raw())
        self._stem = f"\n{_DASH}{name} "

    def sign(self, text: str) -> bytes:
        """Sign a text that ends in a newline; returns the whole note."""
        signature = self.key.key_id + self._private.sign(text.encode())
        return f"{text}{self._stem}{b64(signature)}\n".encode()

    def raw(self, data: bytes) -> bytes:
        """Sign bytes as they are: 64 bytes of Ed25519. Nothing that could be a note's text may come here."""
        return self._private.sign(data)

    def skey(self) -> str:
        """Write ``PRIVATE+KEY+name+id+base64``; guard it as you would the log."""
        return f"PRIVATE+KEY+{self.key.name}+{self.key.key_id.hex()}+{b64(ED25519 + self._seed)}"


def parse_skey(text: str) -> Signer:
    """Read what ``Signer.skey`` wrote.

    Raises:
        Integrity: it is damaged (the text itself is never repeated in the error).

    """
    parts = text.split("+", 4)
    try:
        if parts[:2] != ["PRIVATE", "KEY"]:
            raise ValueError  # noqa: TRY301
        data = unb64(parts[4], "the key")
        signer = Signer(parts[2], data[1:])
        if data[:1] != ED25519 or signer.key.key_id.hex() != parts[3]:
            raise ValueError  # noqa: TRY301
    except (ValueError, IndexError, Invalid, Integrity):
        raise Integrity(
            "the signing key is damaged",
            "got other text than PRIVATE+KEY+name+id+base64 with a matching id",
            "restore keys/log.key from the backup of this home",
        ) from None
    return signer


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """One signature line, not yet verified."""

    name: str
    key_id: bytes
    signature: bytes


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """A note as read, not yet verified; ``text`` includes its last newline."""

    text: str
    signatures: tuple[Signature, ...]


def parse_note(data: bytes) -> Note:
    """Read a note without believing it.

    Raises:
        Integrity: it breaks the format.

    """
    if len(data) > MAX_NOTE_BYTES:
        raise _bad_note(f"got {len(data)} bytes, expected at most {MAX_NOTE_BYTES}")
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise _bad_note("got bytes that are not UTF-8") from fault
    if any(c < " " and c != "\n" for c in whole):
        raise _bad_note("got a control character")
    text, blank, lines = whole.rpartition("\n\n")
    if not blank or not text or not lines.endswith("\n"):
        raise _bad_note("got no signature lines after an empty line")
    rows = lines[:-1].split("\n")
    if len(rows) > MAX_SIGNATURES:
        raise _bad_note(f"got {len(rows)} signature lines, expected at most {MAX_SIGNATURES}")
    signatures = tuple(_signature(row) for row in rows)
    if len({(s.name, s.key_id) for s in signatures}) != len(signatures):
        raise _bad_note("got two signature lines of one key")
    return Note(text=text + "\n", signatures=signatures)


def _signature(row: str) -> Signature:
    name, space, encoded = row.removeprefix(_DASH).partition(" ")
    if not row.startswith(_DASH) or not space or not valid_name(name):
        raise _bad_note(f"got the signature line {row[:80]!r}")
    data = unb64(encoded, "a signature")
    if len(data) <= _ID_BYTES:
        raise _bad_note(f"got a signature of {len(data)} bytes")
    return Signature(name=name, key_id=data[:_ID_BYTES], signature=data[_ID_BYTES:])


def open_note(data: bytes, key: VerifyKey) -> str:
    """Verify a note by one trusted key and return its text.

    Raises:
        Integrity: the format is broken, the key did not sign, or its signature is false.

    """
    note = parse_note(data)
    key_id = key.key_id
    for line in note.signatures:
        if line.name == key.name and line.key_id == key_id:
            try:
                Ed25519PublicKey.from_public_bytes(key.public).verify(line.signature, note.text.encode())
            except (InvalidSignature, ValueError) as fault:
                raise _bad_note(f"got a false signature of {key.name}") from fault
            return note.text
    got = ", ".join(f"{s.name}+{s.key_id.hex()}" for s in note.signatures)
    raise _bad_note(f"got signatures of {got}, expected {key.name}+{key_id.hex()}")


def _bad_note(why: str) -> Integrity:
    return Integrity(
        "the signed note does not hold", why, "get it again from its log; do not trust this copy"
    )


def _bad_vkey(why: str) -> Invalid:
    return Invalid("this is no verifier key", why, "use the line in keys/log.vkey of the home", param="key")
