"""Signatures over models in the format of OpenSSF model signing, written and verified strictly.

A Sigstore bundle (v0.3, JSON) holds a DSSE envelope, which holds an in-toto statement, whose predicate lists
every file of the model with its digest, or every shard of every file. Three ways to trust it, all without a
network: a public key (EC P-256, P-384, P-521), a certificate that leads to a root of one's own, or a keyless
signature of an identity under a Sigstore root (``sigstore.keyless``).

Stricter than the format: one signature, one subject, SHA-256, no symbolic links, and the files there are must
equal the files that are signed. ``ignore_paths`` are never applied; a bundle that names any is refused, but
for the four names of git and its own, which the reference tool writes, where the caller says so.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.errors import Invalid
from allod.vault import shards
from allod.vault.form import broken, bytes_of, json_of, list_of, object_of, only
from allod.vault.shards import Shards

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

    from allod.vault.sigstore.keyless import Keyless

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
SIGNATURES: Final = (".sig", ".sigstore", ".sigstore.json")
"""Endings of a publisher's signature beside the files: kept as it is, never a file of the model."""
_WHO: Final = ("publicKey", "x509CertificateChain", "certificate")
_MATERIAL: Final = (*_WHO, "tlogEntries", "timestampVerificationData")


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """What a verified signature says: the model's name, its files by name, and who signed.

    ``files`` maps names to ``sha256:`` digests, or ``shards`` to what the shards of each are; ``signer`` is
    the digest of a key, a certificate or a keyless identity.
    """

    name: str
    files: dict[str, str]
    root: str
    signer: str
    subject: str | None = None
    shards: dict[str, Shards] = {}

    @property
    def names(self) -> set[str]:
        """The names of the files that are signed."""
        return {*self.files, *self.shards}


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

    from allod.vault.chain import MALFORMED  # noqa: PLC0415

    try:
        key = serialization.load_pem_private_key(pem, None)
    except MALFORMED as error:
        raise Invalid("this is no private key", f"{error}", "give an EC key in PEM, not encrypted") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Invalid("this key cannot sign models", "the format takes EC keys on P-256, P-384 and P-521")
    _elliptic(key.public_key())
    return key


def public_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    """Read a public key in PEM (raises ``Invalid``)."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    from allod.vault.chain import MALFORMED  # noqa: PLC0415

    try:
        key = serialization.load_pem_public_key(pem)
    except MALFORMED as error:
        raise Invalid("this is no public key", f"{error}", "give an EC public key in PEM") from error
    return _elliptic(key)


def certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Read certificates in PEM (raises ``Invalid``)."""
    from cryptography import x509  # noqa: PLC0415

    from allod.vault.chain import MALFORMED  # noqa: PLC0415

    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except MALFORMED as error:
        raise Invalid("these are no certificates", f"{error}", "give certificates in PEM") from error


def _hint(key: ec.EllipticCurvePublicKey) -> str:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def _encoded(payload: bytes) -> bytes:
    """Return the pre-authentication encoding of DSSE: what is signed."""
    return b" ".join((b"DSSEv1", b"%d" % len(PAYLOAD), PAYLOAD.encode(), b"%d" % len(payload), payload))


def _root(listed: Iterable[tuple[str, str]]) -> str:
    """Digest the digests of what is listed, in that order."""
    hasher = hashlib.sha256()
    for _, digest in listed:
        hasher.update(bytes.fromhex(digest.removeprefix("sha256:")))
    return hasher.hexdigest()


def statement(name: str, files: Mapping[str, str]) -> bytes:
    """Write the in-toto statement over files: name -> ``sha256:`` digest."""
    resources = [
        {"name": file, "algorithm": "sha256", "digest": files[file].removeprefix("sha256:")}
        for file in sorted(files)
    ]
    value = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": _root(sorted(files.items()))}}],
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


def _claims(payload: bytes, *, git_paths: bool) -> Signed:
    """Read a signed statement; who signed it is filled in by the caller."""
    top = object_of(json_of(payload, "the statement"), "the statement",
                    ("_type", "subject", "predicateType", "predicate"))  # fmt: skip
    if top["_type"] != STATEMENT or top["predicateType"] != PREDICATE:
        broken(f"it states {str(top['predicateType'])[:80]!r}, expected {PREDICATE!r}")
    subject = object_of(only(top["subject"], "subject"), "the subject", ("name", "digest"))
    root = object_of(subject["digest"], "the subject's digest", ("sha256",))["sha256"]
    predicate = object_of(top["predicate"], "the predicate", ("serialization", "resources"))
    how = object_of(
        predicate["serialization"],
        "the serialization",
        ("method", "hash_type", "allow_symlinks"),
        ("ignore_paths", "shard_size"),
    )
    shard_bytes = _shard_bytes(how)
    if (how["hash_type"], how["allow_symlinks"]) != ("sha256", False):
        broken(
            f"it covers {how['method']!r} by {how['hash_type']!r} with links {how['allow_symlinks']!r}; "
            "only sha256 without links is read"
        )
    _check_ignored(how.get("ignore_paths", []), git_paths=git_paths)
    listed = _resources(predicate["resources"], shard_bytes)
    expected = _root(listed)
    if root != expected:
        broken(f"its files make the root {expected}, it states {str(root)[:80]}")
    made = Signed(name=str(subject["name"]), files={}, root=f"sha256:{root}", signer="")
    if shard_bytes is None:
        return msgspec.structs.replace(made, files={name: f"sha256:{digest}" for name, digest in listed})
    return msgspec.structs.replace(made, shards=shards.gathered(listed, shard_bytes))


def _shard_bytes(how: dict[str, Any]) -> int | None:
    """Return the size of shards, None for whole files."""
    method, size = how["method"], how.get("shard_size")
    if method == "files" and size is None:
        return None
    if method != "shards" or isinstance(size, bool) or not isinstance(size, int | float):
        broken(
            f"it covers {str(method)[:40]!r} of {str(size)[:40]!r}; only files and shards of a size are read"
        )
    if not 0 < size < 1 << 53 or size != int(size):
        broken(f"its shards are of {size} bytes")
    return int(size)


def _check_ignored(ignored: Any, *, git_paths: bool) -> None:
    """Refuse a signer's list of what was left out, but for git's names and the bundle's own (a ``*.sig``)."""
    fine = isinstance(ignored, list) and all(isinstance(item, str) for item in ignored)
    if fine and git_paths:
        ignored = [item for item in ignored if item not in GIT_PATHS and not _own_name(item)]
    if not fine or ignored:
        broken(f"its signer left out {str(ignored)[:200]}: what is not signed is not taken")


def _own_name(path: str) -> bool:
    return "/" not in path and path.endswith(SIGNATURES)


def _resources(listed: Any, shard_bytes: int | None) -> list[tuple[str, str]]:
    """Read names and hex digests: files sorted by name, shards in the order they are listed."""
    most = MAX_FILES if shard_bytes is None else shards.MAX_SHARDS
    algorithm = "sha256" if shard_bytes is None else f"sha256-sharded-{shard_bytes}"
    out: dict[str, str] = {}
    for item in list_of(listed, "the list of files", most):
        entry = object_of(item, "a resource", ("name", "algorithm", "digest"))
        name, digest = entry["name"], entry["digest"]
        if entry["algorithm"] != algorithm or not isinstance(digest, str) or not _HEX.fullmatch(digest):
            broken(f"{str(name)[:80]!r} has no digest by {algorithm}")
        if not isinstance(name, str) or name in out:
            broken(f"{str(name)[:80]!r} is listed twice or is no name")
        out[name] = digest
    return sorted(out.items()) if shard_bytes is None else list(out.items())


def verify(
    raw: bytes,
    *,
    now: dt.datetime,
    keys: tuple[ec.EllipticCurvePublicKey, ...] = (),
    roots: tuple[x509.Certificate, ...] = (),
    keyless: Keyless | None = None,
    git_paths: bool = False,
) -> Signed:
    """Verify a bundle by one of the keys, by a certificate under one of the roots at ``now``, or keyless.

    The files themselves are compared by ``compare``, and shards by ``shards.check``.

    Raises:
        Integrity: malformed, of another format, of an unknown signer, expired, or simply wrong.

    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    if len(raw) > MAX_BUNDLE_BYTES:
        broken(f"the bundle is {len(raw)} bytes long, allowed are {MAX_BUNDLE_BYTES}")
    bundle = object_of(json_of(raw, "the bundle"), "the bundle",
                       ("mediaType", "verificationMaterial", "dsseEnvelope"))  # fmt: skip
    if bundle["mediaType"] != BUNDLE:
        broken(f"its media type is {str(bundle['mediaType'])[:80]!r}, expected {BUNDLE!r}")
    envelope = object_of(bundle["dsseEnvelope"], "the envelope", ("payload", "payloadType", "signatures"))
    if envelope["payloadType"] != PAYLOAD:
        broken(f"its payload is {str(envelope['payloadType'])[:80]!r}, expected {PAYLOAD!r}")
    made = object_of(only(envelope["signatures"], "signature"), "the signature", ("sig",), ("keyid",))
    payload, sig = bytes_of(envelope["payload"], "the payload"), bytes_of(made["sig"], "the signature")
    held = object_of(bundle["verificationMaterial"], "the verification material", (), _MATERIAL)
    if set(held) & set(_WHO) == {"certificate"}:
        key, signer, subject = _keyless(held, keyless, payload, sig)
    else:
        key, signer, subject = _signer(held, keys, roots, now)
    try:
        key.verify(sig, _encoded(payload), ec.ECDSA(_algorithm(key)))
    except InvalidSignature:
        broken("the signature is not of this key over this content")
    return msgspec.structs.replace(_claims(payload, git_paths=git_paths), signer=signer, subject=subject)


def _keyless(
    held: dict[str, Any], wanted: Keyless | None, payload: bytes, sig: bytes
) -> tuple[ec.EllipticCurvePublicKey, str, str | None]:
    """Find who signed without a key of his own (raises ``Integrity``: not whom the caller demands)."""
    if wanted is None:
        broken("it is a keyless signature, and no trusted root, identity and issuer were named for one")
    from allod.vault.sigstore import keyless  # noqa: PLC0415

    found = keyless.verify(held, wanted, payload=payload, signature=sig)
    return _elliptic(found.key), found.signer, found.subject


def _signer(
    held: dict[str, Any],
    keys: tuple[ec.EllipticCurvePublicKey, ...],
    roots: tuple[x509.Certificate, ...],
    now: dt.datetime,
) -> tuple[ec.EllipticCurvePublicKey, str, str | None]:
    """Find whose signature it must be among those who are trusted."""
    who = set(held) & set(_WHO)
    if who == {"publicKey"}:
        hint = object_of(held["publicKey"], "the public key", ("hint",))["hint"]
        for key in keys:
            if _hint(key) == hint:
                return key, f"sha256:{hint}", None
        broken(f"it names the key {str(hint)[:80]}, which is none of the {len(keys)} that are trusted")
    if who != {"x509CertificateChain"}:
        broken("it must name either a key or a certificate")
    from allod.vault import chain  # noqa: PLC0415

    listed = object_of(held["x509CertificateChain"], "the chain", ("certificates",))["certificates"]
    raw = [bytes_of(object_of(item, "a certificate", ("rawBytes",))["rawBytes"], "a certificate")
           for item in list_of(listed, "the chain", MAX_CHAIN)]  # fmt: skip
    leaf = chain.verify(raw, roots, now)
    digest = hashlib.sha256(raw[0]).hexdigest()
    return _elliptic(_key_of(leaf)), f"sha256:{digest}", leaf.subject.rfc4514_string()


def _key_of(leaf: x509.Certificate) -> object:
    from allod.vault.chain import MALFORMED  # noqa: PLC0415

    try:
        return leaf.public_key()
    except MALFORMED as error:
        broken(f"the key of its certificate is malformed: {error}")


def compare(signed: Signed, files: Mapping[str, str]) -> None:
    """Compare what is signed with what is there, both ways: name -> ``sha256:`` digest of the whole file.

    Raises:
        Integrity: a file is missing, not signed, another one, or signed by shards only.

    """
    missing, extra = sorted(signed.names - files.keys()), sorted(files.keys() - signed.names)
    if missing or extra:
        broken(f"signed but not there: {missing[:8]}; there but not signed: {extra[:8]}")
    for name, digest in files.items():
        if signed.files.get(name) != digest:
            broken(f"{name} is {digest}, signed is {signed.files.get(name, 'by shards')}")
