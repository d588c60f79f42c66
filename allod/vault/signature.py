"""Signatures over models in the format of OpenSSF model signing, written and verified strictly.

A Sigstore bundle (v0.3, JSON) holds a DSSE envelope, which holds an in-toto statement, whose predicate lists
every file of the model with its digest. Two ways to trust it, both without a network: a public key (EC P-256,
P-384, P-521), or a certificate that leads to a root of one's own.

Stricter than the format: one signature, one subject, SHA-256 of whole files, no symbolic links, and the files
there are must equal the files that are signed. ``ignore_paths`` are never applied; a bundle that names any is
refused, but for the four names of git which the reference tool always writes, where the caller says so.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.vault import formats

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

BUNDLE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD: Final = "application/vnd.in-toto+json"
STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "https://model_signing/signature/v1.0"
GIT_PATHS: Final = frozenset({".git", ".gitignore", ".github", ".gitattributes"})
MAX_BUNDLE_BYTES: Final = 4 * 1024 * 1024
MAX_FILES: Final = 4_096
MAX_CHAIN: Final = 6
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")
_MATERIAL: Final = ("publicKey", "x509CertificateChain", "tlogEntries", "timestampVerificationData")
_VALID: Final = "ask its publisher for a signature that covers exactly these files"


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """What a verified signature says: the model's name, its files by name, and who signed.

    ``files`` maps names to ``sha256:`` digests; ``signer`` is a key's or certificate's digest.
    """

    name: str
    files: dict[str, str]
    root: str
    signer: str
    subject: str | None = None


def _broken(why: str) -> NoReturn:
    raise Integrity("the signature of this model does not hold", why, _VALID)


def _algorithm(key: ec.EllipticCurvePublicKey) -> HashAlgorithm:
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 (only when something is signed)

    return {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}[key.curve.key_size]


def _elliptic(key: object) -> ec.EllipticCurvePublicKey:
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise Invalid("this key cannot sign models", "the format takes EC keys on P-256, P-384 and P-521")
    return key


def private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Read a private key in PEM, without a password (raises ``Invalid``)."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise Invalid("this is no private key", f"{error}", "give an EC key in PEM, not encrypted") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Invalid("this key cannot sign models", "the format takes EC keys on P-256, P-384 and P-521")
    _elliptic(key.public_key())
    return key


def public_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    """Read a public key in PEM (raises ``Invalid``)."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    try:
        key = serialization.load_pem_public_key(pem)
    except ValueError as error:
        raise Invalid("this is no public key", f"{error}", "give an EC public key in PEM") from error
    return _elliptic(key)


def certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Read certificates in PEM (raises ``Invalid``)."""
    from cryptography import x509  # noqa: PLC0415

    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError as error:
        raise Invalid("these are no certificates", f"{error}", "give certificates in PEM") from error


def _hint(key: ec.EllipticCurvePublicKey) -> str:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def _encoded(payload: bytes) -> bytes:
    """Return the pre-authentication encoding of DSSE: what is signed."""
    return b" ".join((b"DSSEv1", b"%d" % len(PAYLOAD), PAYLOAD.encode(), b"%d" % len(payload), payload))


def _root(files: Mapping[str, str]) -> str:
    hasher = hashlib.sha256()
    for name in sorted(files):
        hasher.update(bytes.fromhex(files[name].removeprefix("sha256:")))
    return hasher.hexdigest()


def statement(name: str, files: Mapping[str, str]) -> bytes:
    """Write the in-toto statement over files: name -> ``sha256:`` digest."""
    resources = [
        {"name": file, "algorithm": "sha256", "digest": files[file].removeprefix("sha256:")}
        for file in sorted(files)
    ]
    value = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": _root(files)}}],
        "predicateType": PREDICATE,
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
            "resources": resources,
        },
    }
    return json.dumps(value, indent=1, ensure_ascii=True).encode()


def sign(
    name: str,
    files: Mapping[str, str],
    key: ec.EllipticCurvePrivateKey,
    chain: tuple[x509.Certificate, ...] = (),
) -> bytes:
    """Sign files by name and digest; with a chain (leaf first, no root needed), in certificate mode.

    Raises:
        Invalid: the first certificate is of another key.

    """
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    public = key.public_key()
    if chain and _elliptic(chain[0].public_key()) != public:
        raise Invalid("the certificate is of another key", "its public key is not the one that signs")
    payload = statement(name, files)
    made = key.sign(_encoded(payload), ec.ECDSA(_algorithm(public)))
    material: dict[str, Any] = {"tlogEntries": []}
    if chain:
        raw = [base64.b64encode(c.public_bytes(serialization.Encoding.DER)).decode() for c in chain]
        material["x509CertificateChain"] = {"certificates": [{"rawBytes": item} for item in raw]}
    else:
        material["publicKey"] = {"hint": _hint(public)}
    bundle = {
        "mediaType": BUNDLE,
        "verificationMaterial": material,
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD,
            "signatures": [{"sig": base64.b64encode(made).decode(), "keyid": ""}],
        },
    }
    return json.dumps(bundle).encode() + b"\n"


def _object(value: Any, what: str, keys: Iterable[str], optional: Iterable[str] = ()) -> dict[str, Any]:
    """Return an object with exactly these keys."""
    if not isinstance(value, dict):
        _broken(f"{what} is no object")
    missing, foreign = set(keys) - value.keys(), value.keys() - set(keys) - set(optional)
    if missing or foreign:
        _broken(f"{what} lacks {sorted(missing)} and has the unknown {sorted(map(str, foreign))[:8]}")
    return value


def _only(value: Any, what: str) -> Any:
    if not isinstance(value, list) or len(value) != 1:
        _broken(f"it does not hold exactly one {what}")
    return value[0]


def _base64(value: Any, what: str) -> bytes:
    try:
        return base64.b64decode(value if isinstance(value, str) else b"!", validate=True)
    except (binascii.Error, ValueError):
        _broken(f"{what} is not base64")


def _json(raw: bytes, what: str) -> Any:
    try:
        return formats.strict_json(raw, what)
    except Invalid as error:
        _broken(f"{what}: {error.why}")


def _claims(payload: bytes, *, git_paths: bool) -> tuple[str, dict[str, str], str]:
    """Read a signed statement: name, files and root digest."""
    top = _object(_json(payload, "the statement"), "the statement",
                  ("_type", "subject", "predicateType", "predicate"))  # fmt: skip
    if top["_type"] != STATEMENT or top["predicateType"] != PREDICATE:
        _broken(f"it states {str(top['predicateType'])[:80]!r}, expected {PREDICATE!r}")
    subject = _object(_only(top["subject"], "subject"), "the subject", ("name", "digest"))
    root = _object(subject["digest"], "the subject's digest", ("sha256",))["sha256"]
    predicate = _object(top["predicate"], "the predicate", ("serialization", "resources"))
    how = _object(predicate["serialization"], "the serialization", ("method", "hash_type", "allow_symlinks"),
                  ("ignore_paths",))  # fmt: skip
    if (how["method"], how["hash_type"], how["allow_symlinks"]) != ("files", "sha256", False):
        _broken(
            f"it covers {how['method']!r} by {how['hash_type']!r} with links {how['allow_symlinks']!r}; "
            "only whole files by sha256 without links are read"
        )
    ignored = how.get("ignore_paths", [])
    allowed = GIT_PATHS if git_paths else frozenset[str]()
    if not isinstance(ignored, list) or not set(map(str, ignored)) <= allowed:
        _broken(f"its signer left out {str(ignored)[:200]}: what is not signed is not taken")
    files = _resources(predicate["resources"])
    if root != _root(files):
        _broken(f"its files make the root {_root(files)}, it states {str(root)[:80]}")
    return str(subject["name"]), files, str(root)


def _resources(listed: Any) -> dict[str, str]:
    if not isinstance(listed, list) or not 0 < len(listed) <= MAX_FILES:
        _broken(f"it lists no files, or over {MAX_FILES}")
    files: dict[str, str] = {}
    for item in listed:
        entry = _object(item, "a resource", ("name", "algorithm", "digest"))
        name, digest = entry["name"], entry["digest"]
        if entry["algorithm"] != "sha256" or not isinstance(digest, str) or not _HEX.fullmatch(digest):
            _broken(f"{str(name)[:80]!r} has no sha256 digest")
        if not isinstance(name, str) or name in files:
            _broken(f"{str(name)[:80]!r} is listed twice or is no name")
        files[name] = "sha256:" + digest
    return files


def verify(
    raw: bytes,
    *,
    now: dt.datetime,
    keys: tuple[ec.EllipticCurvePublicKey, ...] = (),
    roots: tuple[x509.Certificate, ...] = (),
    git_paths: bool = False,
) -> Signed:
    """Verify a bundle by one of the keys, or by a certificate under one of the roots, at ``now`` (UTC).

    The files themselves are compared by ``compare``.

    Raises:
        Integrity: malformed, of another format, of an unknown signer, expired, or simply wrong.

    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    if len(raw) > MAX_BUNDLE_BYTES:
        _broken(f"the bundle is {len(raw)} bytes long, allowed are {MAX_BUNDLE_BYTES}")
    bundle = _object(_json(raw, "the bundle"), "the bundle",
                     ("mediaType", "verificationMaterial", "dsseEnvelope"))  # fmt: skip
    if bundle["mediaType"] != BUNDLE:
        _broken(f"its media type is {str(bundle['mediaType'])[:80]!r}, expected {BUNDLE!r}")
    envelope = _object(bundle["dsseEnvelope"], "the envelope", ("payload", "payloadType", "signatures"))
    if envelope["payloadType"] != PAYLOAD:
        _broken(f"its payload is {str(envelope['payloadType'])[:80]!r}, expected {PAYLOAD!r}")
    made = _object(_only(envelope["signatures"], "signature"), "the signature", ("sig",), ("keyid",))
    payload = _base64(envelope["payload"], "the payload")
    key, signer, subject = _signer(bundle["verificationMaterial"], keys, roots, now)
    try:
        key.verify(_base64(made["sig"], "the signature"), _encoded(payload), ec.ECDSA(_algorithm(key)))
    except InvalidSignature:
        _broken("the signature is not of this key over this content")
    name, files, root = _claims(payload, git_paths=git_paths)
    return Signed(name=name, files=files, root="sha256:" + root, signer=signer, subject=subject)


def _signer(
    material: Any,
    keys: tuple[ec.EllipticCurvePublicKey, ...],
    roots: tuple[x509.Certificate, ...],
    now: dt.datetime,
) -> tuple[ec.EllipticCurvePublicKey, str, str | None]:
    """Find whose signature it must be among those who are trusted."""
    held = _object(material, "the verification material", (), _MATERIAL)
    if "publicKey" in held and "x509CertificateChain" not in held:
        hint = _object(held["publicKey"], "the public key", ("hint",))["hint"]
        for key in keys:
            if _hint(key) == hint:
                return key, f"sha256:{hint}", None
        _broken(f"it names the key {str(hint)[:80]}, which is none of the {len(keys)} that are trusted")
    if "x509CertificateChain" in held and "publicKey" not in held:
        from allod.vault import chain  # noqa: PLC0415

        listed = _object(held["x509CertificateChain"], "the chain", ("certificates",))["certificates"]
        if not isinstance(listed, list) or not 0 < len(listed) <= MAX_CHAIN:
            _broken(f"it holds no certificate, or over {MAX_CHAIN}")
        raw = [_base64(_object(item, "a certificate", ("rawBytes",))["rawBytes"], "a certificate")
               for item in listed]  # fmt: skip
        leaf = chain.verify(raw, roots, now)
        digest = hashlib.sha256(raw[0]).hexdigest()
        return _elliptic(leaf.public_key()), f"sha256:{digest}", leaf.subject.rfc4514_string()
    _broken("it must name either a key or a certificate")


def compare(signed: Signed, files: Mapping[str, str]) -> None:
    """Compare what is signed with what is there, both ways: name -> ``sha256:`` digest.

    Raises:
        Integrity: a file is missing, not signed, or another one.

    """
    missing, extra = sorted(signed.files.keys() - files.keys()), sorted(files.keys() - signed.files.keys())
    if missing or extra:
        _broken(f"signed but not there: {missing[:8]}; there but not signed: {extra[:8]}")
    for name, digest in signed.files.items():
        if files[name] != digest:
            _broken(f"{name} is {files[name]}, signed is {digest}")
