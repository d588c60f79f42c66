"""The trusted root: whose certificates, certificate logs and signature logs count, and from when to when.

The file is Sigstore's ``trusted_root.json`` (v0.1). Whoever gives it decides whom to believe: it is carried
in like any other root and never fetched. Time stamping authorities in it are not used.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from allod.domain.errors import Integrity, Invalid
from allod.vault.chain import MALFORMED
from allod.vault.form import bytes_of, json_of, list_of, object_of, time_of

MEDIA: Final = ("application/vnd.dev.sigstore.trustedroot+json;version=0.1",
                "application/vnd.dev.sigstore.trustedroot.v0.2+json")  # fmt: skip
MAX_BYTES: Final = 1024 * 1024
MAX_ENTRIES: Final = 100
KEY_ID_BYTES: Final = 32


class Window(msgspec.Struct, frozen=True):
    """From when to when something counts; ``end`` None is still."""

    start: dt.datetime
    end: dt.datetime | None

    def holds(self, at: dt.datetime) -> bool:
        """Tell whether a time lies in it."""
        return self.start <= at and (self.end is None or at <= self.end)


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """A log: its id of 32 bytes, its key, when it counts, and where it is (for a person to read)."""

    key_id: bytes
    key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
    window: Window
    url: str

    def verify(self, signature: bytes, content: bytes) -> bool:
        """Tell whether the log signed this content."""
        try:
            if isinstance(self.key, ed25519.Ed25519PublicKey):
                self.key.verify(signature, content)
            else:
                self.key.verify(signature, content, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


class Authority(msgspec.Struct, frozen=True, kw_only=True):
    """Who issues certificates for signers: the chain from the issuer to its root, and when it counts."""

    chain: tuple[x509.Certificate, ...]
    window: Window
    url: str


class TrustedRoot(msgspec.Struct, frozen=True, kw_only=True):
    """Who is believed: signature logs, certificate logs, and certificate authorities."""

    logs: tuple[Log, ...]
    ct_logs: tuple[Log, ...]
    authorities: tuple[Authority, ...]


def parse(raw: bytes) -> TrustedRoot:
    """Read ``trusted_root.json`` strictly.

    Raises:
        Invalid: it is none, or it names nobody.

    """
    if len(raw) > MAX_BYTES:
        raise Invalid("this is no trusted root", f"it is {len(raw)} bytes long, allowed are {MAX_BYTES}")
    try:
        return _parse(raw)
    except Integrity as error:
        why, todo = error.why, "take the file from whoever runs that Sigstore instance"
        raise Invalid("this is no trusted root", why, todo, param="trusted-root") from error


def _parse(raw: bytes) -> TrustedRoot:
    top = object_of(json_of(raw, "trusted_root.json"), "the root", ("mediaType", "tlogs",
                    "certificateAuthorities", "ctlogs"), ("timestampAuthorities",))  # fmt: skip
    if top["mediaType"] not in MEDIA:
        raise Integrity("", f"its media type is {str(top['mediaType'])[:80]!r}, expected {MEDIA[0]!r}")
    return TrustedRoot(
        logs=tuple(_log(item) for item in list_of(top["tlogs"], "tlogs", MAX_ENTRIES)),
        ct_logs=tuple(_log(item) for item in list_of(top["ctlogs"], "ctlogs", MAX_ENTRIES)),
        authorities=tuple(
            _authority(item) for item in list_of(top["certificateAuthorities"], "authorities", MAX_ENTRIES)
        ),
    )


def _window(value: Any) -> Window:
    held = object_of(value, "validFor", ("start",), ("end",))
    end = held.get("end")
    return Window(time_of(held["start"], "start"), None if end is None else time_of(end, "end"))


def _log(value: Any) -> Log:
    held = object_of(
        value, "a log", ("baseUrl", "hashAlgorithm", "publicKey", "logId"), ("checkpointKeyId", "operator")
    )
    public = object_of(held["publicKey"], "a public key", ("rawBytes", "keyDetails", "validFor"))
    try:
        key = serialization.load_der_public_key(bytes_of(public["rawBytes"], "a public key"))
    except MALFORMED as error:
        raise Integrity("", f"a log's key is malformed: {error}") from error
    curve = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    if held["hashAlgorithm"] != "SHA2_256" or not (curve or isinstance(key, ed25519.Ed25519PublicKey)):
        raise Integrity("", f"{str(held['baseUrl'])[:80]} uses another key than P-256 or Ed25519")
    key_id = bytes_of(object_of(held["logId"], "a log id", ("keyId",))["keyId"], "a log id")
    if len(key_id) != KEY_ID_BYTES:
        raise Integrity("", f"a log id is {len(key_id)} bytes long")
    assert isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey)
    return Log(key_id=key_id, key=key, window=_window(public["validFor"]), url=str(held["baseUrl"])[:200])


def _authority(value: Any) -> Authority:
    held = object_of(value, "an authority", ("uri", "certChain", "validFor"), ("subject", "operator"))
    listed = object_of(held["certChain"], "a chain", ("certificates",))["certificates"]
    raw = [
        bytes_of(object_of(item, "a certificate", ("rawBytes",))["rawBytes"], "a certificate")
        for item in list_of(listed, "a chain", MAX_ENTRIES)
    ]
    try:
        chain = tuple(x509.load_der_x509_certificate(item) for item in raw)
    except MALFORMED as error:
        raise Integrity("", f"an authority's certificate is malformed: {error}") from error
    return Authority(chain=chain, window=_window(held["validFor"]), url=str(held["uri"])[:200])
