"""Who signed, where the key lived for minutes only: an identity that an issuer vouched for (Fulcio).

The certificate is judged at the time at which the signature log took the signature in, never at the time of
the import: it is expired by then. Verified are the chain to an authority of the trusted root, the promise of
a certificate log inside the certificate (RFC 6962 SCT), the entry of the signature log, and that identity and
issuer are, letter for letter, the ones that the caller demands.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import struct
from typing import TYPE_CHECKING, Any, Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.certificate_transparency import LogEntryType, SignatureAlgorithm, Version
from cryptography.x509.oid import ExtensionOID

from allod.domain.errors import Integrity, Invalid
from allod.vault import chain
from allod.vault.form import broken, bytes_of, object_of, only
from allod.vault.sigstore import entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allod.vault.sigstore.root import Log, TrustedRoot

ISSUER: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
OLD_ISSUER: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_UTF8: Final = b"\x0c"
_SHORT: Final = 0x80
_LONG: Final = 0x81


class Keyless(msgspec.Struct, frozen=True, kw_only=True):
    """Whose keyless signatures count: under this root, of exactly this identity, vouched for by this issuer.

    ``identity`` is an e-mail address or a URI, ``issuer`` the URL of who checked it.
    """

    root: TrustedRoot
    identity: str
    issuer: str


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Who signed, with which key, and when the log took the signature in.

    ``signer`` is a digest of issuer and identity, which stay, not of the certificate, which does not.
    """

    key: ec.EllipticCurvePublicKey
    signer: str
    subject: str
    at: dt.datetime


def demanded(root: TrustedRoot, identity: str | None, issuer: str | None) -> Keyless:
    """Return whose signatures count; a trusted root alone would trust everybody with an e-mail address.

    Raises:
        Invalid: no identity, or no issuer.

    """
    if not identity or not issuer:
        raise Invalid(
            "nobody is trusted",
            "a trusted root tells who may vouch for a signer, not who the signer must be",
            "give --identity and --issuer too",
            param="identity",
        )
    return Keyless(root=root, identity=identity, issuer=issuer)


def signer_of(issuer: str, identity: str) -> str:
    """Return the digest by which such a signer can be revoked."""
    return "sha256:" + hashlib.sha256(f"sigstore\n{issuer}\n{identity}".encode()).hexdigest()


def verify(material: dict[str, Any], wanted: Keyless, *, payload: bytes, signature: bytes) -> Found:
    """Verify certificate and log entry of a bundle's material (``certificate``, ``tlogEntries``).

    The signature over the payload itself is verified by the caller, with the key that is returned.

    Raises:
        Integrity: see the module.

    """
    raw = bytes_of(object_of(material["certificate"], "the certificate", ("rawBytes",))["rawBytes"],
                   "the certificate")  # fmt: skip
    at = entry.verify(
        only(material.get("tlogEntries"), "log entry"),
        wanted.root.logs,
        payload=payload,
        signature=signature,
        certificate=raw,
    )
    leaf, issuer = _issued(raw, wanted.root, at)
    _logged(leaf, issuer, wanted.root.ct_logs)
    identity, vouching = _identity(leaf), _issuer(leaf)
    if identity != wanted.identity:
        broken(f"it is signed by {identity[:200]!r}, demanded is {wanted.identity!r}")
    if vouching != wanted.issuer:
        broken(f"{vouching[:200]!r} vouches for the signer, demanded is {wanted.issuer!r}")
    try:
        key = leaf.public_key()
    except chain.MALFORMED as error:
        broken(f"its key is malformed: {error}")
    if not isinstance(key, ec.EllipticCurvePublicKey):
        broken("its key is on no curve")
    return Found(key=key, signer=signer_of(vouching, identity), subject=f"{identity} (by {vouching})", at=at)


def _issued(raw: bytes, root: TrustedRoot, at: dt.datetime) -> tuple[x509.Certificate, x509.Certificate]:
    """Follow the certificate to an authority that counts at this time; return it and its issuer's."""
    fault: Integrity | None = None
    for authority in root.authorities:
        if not authority.window.holds(at):
            continue
        above = [item.public_bytes(serialization.Encoding.DER) for item in authority.chain[:-1]]
        try:
            leaf = chain.verify([raw, *above], authority.chain[-1:], at, named=True)
        except Integrity as error:
            fault = error
            continue
        return leaf, authority.chain[0]
    raise fault or Integrity(
        "the certificate of this signature is not trusted", f"no authority is trusted for {at:%Y-%m-%d}"
    )


def _logged(leaf: x509.Certificate, issuer: x509.Certificate, logs: Sequence[Log]) -> None:
    """Verify that a certificate log promised to show this certificate (RFC 6962 section 3.2)."""
    try:
        held = leaf.extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps).value
    except (x509.ExtensionNotFound, *chain.MALFORMED):
        broken("its certificate carries no promise of a certificate log")
    spki = issuer.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    tbs = leaf.tbs_precertificate_bytes
    for promise in held:
        log = next((one for one in logs if one.key_id == promise.log_id), None)
        at = promise.timestamp.replace(tzinfo=dt.UTC)
        if log is None or not log.window.holds(at) or promise.version is not Version.v1:
            continue
        if not isinstance(promise.signature_hash_algorithm, hashes.SHA256) or (
            promise.signature_algorithm is not SignatureAlgorithm.ECDSA
        ):
            continue
        extensions = promise.extension_bytes
        content = (
            struct.pack(">BBQH", 0, 0, _milliseconds(at), LogEntryType.PRE_CERTIFICATE.value)
            + hashlib.sha256(spki).digest()
            + len(tbs).to_bytes(3, "big") + tbs
            + len(extensions).to_bytes(2, "big") + extensions
        )  # fmt: skip
        if log.verify(promise.signature, content):
            return
    broken("no trusted certificate log has seen its certificate")


def _milliseconds(at: dt.datetime) -> int:
    since = at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def _identity(leaf: x509.Certificate) -> str:
    """Return the one name of the signer: an e-mail address or a URI."""
    try:
        names = list(leaf.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value)  # type: ignore[call-overload]
    except (x509.ExtensionNotFound, *chain.MALFORMED):
        broken("its certificate names nobody")
    if len(names) != 1 or not isinstance(names[0], x509.RFC822Name | x509.UniformResourceIdentifier):
        broken("its certificate does not hold exactly one e-mail address or URI")
    return str(names[0].value)


def _issuer(leaf: x509.Certificate) -> str:
    """Return who vouches for the signer; where both forms are there they must say the same."""
    found = []
    for oid, read in ((ISSUER, _utf8), (OLD_ISSUER, bytes)):
        try:
            value = leaf.extensions.get_extension_for_oid(oid).value
        except x509.ExtensionNotFound:
            continue
        assert isinstance(value, x509.UnrecognizedExtension)
        try:
            found.append(read(value.value).decode("utf-8"))
        except UnicodeDecodeError:
            broken("the issuer in its certificate is no text")
    if not found or len(set(found)) != 1:
        broken(f"its certificate names {len(set(found))} issuers of the identity, expected one")
    return found[0]


def _utf8(raw: bytes) -> bytes:
    """Read a DER UTF8String of at most 255 bytes."""
    short = len(raw) > 2 and raw[1] < _SHORT and len(raw) == 2 + raw[1]  # noqa: PLR2004 (tag, length)
    long = len(raw) > 3 and raw[1] == _LONG and raw[2] >= _SHORT and len(raw) == 3 + raw[2]  # noqa: PLR2004
    if raw[:1] != _UTF8 or not (short or long):
        broken("the issuer in its certificate is malformed")
    return raw[2:] if short else raw[3:]
