# ruff: noqa: E501 (one case a line)
"""Keyless signatures, sound and hostile, under authorities that exist only here: called by ``make.py``.

A certificate authority, a certificate log and a signature log of a dozen entries are made from fixed keys; each
vector is one bundle, the trusted root, and the identity and issuer that its caller demands.
"""

from __future__ import annotations

import base64
import copy
import datetime as dt
import hashlib
import json
import struct
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ORIGIN = "rekor.example - 4711"
IDENTITY, ISSUER = "models@maker.example", "https://accounts.example"
START = dt.datetime(2026, 3, 1, 12, 0, 0, tzinfo=dt.UTC)
SCT_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
OLD_ISSUER, NEW_ISSUER = "1.3.6.1.4.1.57264.1.1", "1.3.6.1.4.1.57264.1.8"
PAYLOAD_TYPE = "application/vnd.in-toto+json"


def key(number: int) -> ec.EllipticCurvePrivateKey:
    """Return one of the fixed keys."""
    return ec.derive_private_key(20260726000 + number, ec.SECP256R1())


ROOT, MIDDLE, SIGNER, CT, REKOR, STRANGER = (key(number) for number in range(1, 7))


def signed(private: ec.EllipticCurvePrivateKey, content: bytes) -> bytes:
    """Sign, the same way each time."""
    return private.sign(content, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


def b64(raw: bytes) -> str:
    """Write base 64."""
    return base64.b64encode(raw).decode()


def spki(private: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a public key, DER."""
    return private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def der(certificate: x509.Certificate) -> bytes:
    """Return a certificate, DER."""
    return certificate.public_bytes(serialization.Encoding.DER)


def log_id(private: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the id of a log: the digest of its key."""
    return hashlib.sha256(spki(private)).digest()


def named(text: str) -> x509.Name:
    """Write a name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def usage(*, signs: bool, issues: bool) -> x509.KeyUsage:
    """Write a key usage."""
    return x509.KeyUsage(
        digital_signature=signs, key_cert_sign=issues, crl_sign=issues, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def authority(
    name: str, own: ec.EllipticCurvePrivateKey, by: ec.EllipticCurvePrivateKey, issuer: str, length: int
) -> x509.Certificate:
    """Issue the certificate of an authority."""
    return (
        x509.CertificateBuilder()
        .subject_name(named(name)).issuer_name(named(issuer)).public_key(own.public_key()).serial_number(1000 + length)
        .not_valid_before(START - dt.timedelta(days=300)).not_valid_after(START + dt.timedelta(days=3000))
        .add_extension(x509.BasicConstraints(ca=True, path_length=length), critical=True)
        .add_extension(usage(signs=False, issues=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
        .sign(by, hashes.SHA256(), ecdsa_deterministic=True)
    )  # fmt: skip


TOP = authority("vectors root", ROOT, ROOT, "vectors root", 1)
BETWEEN = authority("vectors issuer", MIDDLE, ROOT, "vectors root", 0)


def _text(words: str) -> bytes:
    raw = words.encode()
    return bytes([0x0C, len(raw)]) + raw


def certificate(
    names: tuple[x509.GeneralName, ...] = (x509.RFC822Name(IDENTITY),),
    issuers: tuple[tuple[str, bytes], ...] = ((OLD_ISSUER, ISSUER.encode()), (NEW_ISSUER, _text(ISSUER))),
    purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.CODE_SIGNING,
    ct: ec.EllipticCurvePrivateKey | None = CT,
    ct_id: bytes | None = None,
    by: ec.EllipticCurvePrivateKey = MIDDLE,
) -> x509.Certificate:
    """Issue a certificate for ten minutes, with the promise of the certificate log ``ct``."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([])).issuer_name(named("vectors issuer")).public_key(SIGNER.public_key())
        .serial_number(4242).not_valid_before(START).not_valid_after(START + dt.timedelta(minutes=10))
        .add_extension(usage(signs=True, issues=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(SIGNER.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(MIDDLE.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
    )  # fmt: skip
    for oid, value in issuers:
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
        builder = builder.add_extension(extension, critical=False)
    plain = builder.sign(by, hashes.SHA256(), ecdsa_deterministic=True)
    if ct is None:
        return plain
    at = int(START.timestamp() * 1000) + 123
    tbs = plain.tbs_certificate_bytes
    content = (
        struct.pack(">BBQH", 0, 0, at, 1)
        + hashlib.sha256(spki(MIDDLE)).digest()
        + len(tbs).to_bytes(3, "big")
        + tbs
        + b"\0\0"
    )
    made = signed(ct, content)
    promise = (
        b"\0"
        + (ct_id or log_id(ct))
        + struct.pack(">QH", at, 0)
        + b"\4\3"
        + struct.pack(">H", len(made))
        + made
    )
    listed = struct.pack(">HH", len(promise) + 2, len(promise)) + promise
    length = bytes([len(listed)]) if len(listed) < 0x80 else bytes([0x81, len(listed)])  # noqa: PLR2004 (DER)
    octets = b"\x04" + length + listed
    return builder.add_extension(x509.UnrecognizedExtension(SCT_LIST, octets), critical=False).sign(
        by, hashes.SHA256(), ecdsa_deterministic=True
    )


def node(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees (RFC 6962)."""
    return hashlib.sha256(b"\1" + left + right).digest()


def tree(body: bytes) -> tuple[bytes, list[bytes], int, int]:
    """Put an entry as number 5 of 11 into a log; return root, path, index and size."""
    leaves = [hashlib.sha256(b"\0entry %d" % number).digest() for number in range(11)]
    leaves[5] = hashlib.sha256(b"\0" + body).digest()
    low = [node(leaves[n], leaves[n + 1]) for n in range(0, 10, 2)]
    left, right = node(low[0], low[1]), node(low[2], low[3])
    tail = node(low[4], leaves[10])
    return node(node(left, right), tail), [leaves[4], low[3], left, tail], 5, 11


def checkpoint(
    root: bytes, size: int, by: ec.EllipticCurvePrivateKey = REKOR, hint: bytes | None = None
) -> str:
    """Write the log's checkpoint."""
    text = f"{ORIGIN}\n{size}\n{b64(root)}\n"
    line = (hint or log_id(by)[:4]) + signed(by, text.encode())
    return f"{text}\n\u2014 rekor.example {b64(line)}\n"


def statement(files: dict[str, str]) -> bytes:
    """State files: name -> hex digest."""
    root = hashlib.sha256(b"".join(bytes.fromhex(files[name]) for name in sorted(files))).hexdigest()
    resources = [{"name": name, "algorithm": "sha256", "digest": files[name]} for name in sorted(files)]
    return json.dumps({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "m", "digest": {"sha256": root}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {"serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False}, "resources": resources},
    }).encode()  # fmt: skip


FILES = {"config.json": "11" * 32, "model.safetensors": "22" * 32}


def entry_body(
    payload: bytes, signature: bytes, leaf: x509.Certificate, kind: str = "dsse", version: str = "0.0.1"
) -> bytes:
    """Write what the signature log keeps of a signature."""
    pem = leaf.public_bytes(serialization.Encoding.PEM)
    spec = {
        "envelopeHash": {"algorithm": "sha256", "value": hashlib.sha256(b"envelope" + payload).hexdigest()},
        "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
        "signatures": [{"signature": b64(signature), "verifier": b64(pem)}],
    }
    return json.dumps({"apiVersion": version, "kind": kind, "spec": spec}, separators=(",", ":")).encode()


def bundle(
    leaf: x509.Certificate | None = None,
    *,
    payload: bytes | None = None,
    body: bytes | None = None,
    minutes: float = 1,
    rekor: ec.EllipticCurvePrivateKey = REKOR,
) -> dict[str, Any]:
    """Sign ``FILES`` and enter the signature in the log, ``minutes`` after the certificate began."""
    leaf = leaf or certificate()
    payload = payload or statement(FILES)
    encoded = b" ".join(
        (b"DSSEv1", b"%d" % len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), b"%d" % len(payload), payload)
    )
    made = signed(SIGNER, encoded)
    body = body or entry_body(payload, made, leaf)
    root, path, index, size = tree(body)
    at = int((START + dt.timedelta(minutes=minutes)).timestamp())
    promise = {"body": b64(body), "integratedTime": at, "logID": log_id(rekor).hex(), "logIndex": 1005}
    entry = {
        "logIndex": "1005",
        "logId": {"keyId": b64(log_id(rekor))},
        "kindVersion": {"kind": "dsse", "version": "0.0.1"},
        "integratedTime": str(at),
        "inclusionPromise": {"signedEntryTimestamp": b64(signed(rekor, json.dumps(promise, separators=(",", ":"), sort_keys=True).encode()))},
        "inclusionProof": {
            "logIndex": str(index), "rootHash": b64(root), "treeSize": str(size), "hashes": [b64(item) for item in path],
            "checkpoint": {"envelope": checkpoint(root, size, rekor)},
        },
        "canonicalizedBody": b64(body),
    }  # fmt: skip
    return {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {
            "certificate": {"rawBytes": b64(der(leaf))},
            "tlogEntries": [entry],
            "timestampVerificationData": {},
        },
        "dsseEnvelope": {
            "payload": b64(payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": b64(made)}],
        },
    }


def trusted(
    rekor: ec.EllipticCurvePrivateKey = REKOR, ct: ec.EllipticCurvePrivateKey = CT, top: x509.Certificate = TOP,
    ended: tuple[str, ...] = (),
) -> dict[str, Any]:  # fmt: skip
    """Write the trusted root; what is named in ``ended`` counted only until the day before."""

    def valid(name: str) -> dict[str, str]:
        window = {"start": "2025-01-01T00:00:00Z"}
        return window | ({"end": "2026-02-28T00:00:00.999Z"} if name in ended else {})

    def log(url: str, private: ec.EllipticCurvePrivateKey, name: str) -> dict[str, Any]:
        public = {
            "rawBytes": b64(spki(private)),
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "validFor": valid(name),
        }
        return {
            "baseUrl": url,
            "hashAlgorithm": "SHA2_256",
            "publicKey": public,
            "logId": {"keyId": b64(log_id(private))},
        }

    return {
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": [log("https://rekor.example", rekor, "tlogs")],
        "certificateAuthorities": [{
            "subject": {"organization": "example", "commonName": "vectors"},
            "uri": "https://fulcio.example",
            "certChain": {"certificates": [{"rawBytes": b64(der(item))} for item in (BETWEEN, top)]},
            "validFor": valid("authorities"),
        }],
        "ctlogs": [log("https://ct.example", ct, "ctlogs")],
        "timestampAuthorities": [],
    }  # fmt: skip


def changed(of: dict[str, Any], *path: str | int, to: Any) -> dict[str, Any]:
    """Return a copy with one place changed, or removed where ``to`` is None."""
    out = copy.deepcopy(of)
    place: Any = out
    for step in path[:-1]:
        place = place[step]
    if to is None:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return out


ENTRY = ("verificationMaterial", "tlogEntries", 0)
PROOF = (*ENTRY, "inclusionProof")


def _entries() -> dict[str, tuple[dict[str, Any], str]]:
    """Return hostile log entries, under the plain root."""
    good, leaf = bundle(), certificate()
    other = statement(FILES | {"config.json": "44" * 32})
    envelope = good["dsseEnvelope"]
    sig = base64.b64decode(envelope["signatures"][0]["sig"])
    payload = base64.b64decode(envelope["payload"])
    v2 = entry_body(payload, sig, leaf, version="0.0.2")
    hint = log_id(REKOR)[:4]
    root, _, _, size = tree(
        base64.b64decode(good["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"])
    )
    kind = (*ENTRY, "kindVersion")
    return {
        "keyless_entry_after_expiry": (bundle(minutes=10.1), "a signature made with a key that leaked after its ten minutes"),
        "keyless_entry_before_validity": (bundle(minutes=-1), "a signature from before the signer was known"),
        "keyless_time_changed": (changed(good, *ENTRY, "integratedTime", to=str(int(START.timestamp()) + 120)), "any time one likes for an expired certificate"),
        "keyless_no_promise": (changed(good, *ENTRY, "inclusionPromise", to=None), "a time that nobody signed"),
        "keyless_no_proof": (changed(good, *ENTRY, "inclusionProof", to=None), "an entry that the log never showed"),
        "keyless_no_entry": (changed(good, *ENTRY[:2], to=[]), "a signature that no log has seen"),
        "keyless_two_entries": (changed(good, *ENTRY[:2], to=good["verificationMaterial"]["tlogEntries"] * 2), "a verifier that looks at one and trusts the other"),
        "keyless_entry_of_another_payload": (bundle(body=entry_body(other, sig, leaf)), "an entry lent by another model (CVE-2022-36056)"),
        "keyless_entry_of_another_signature": (bundle(body=entry_body(payload, signed(SIGNER, b"x"), leaf)), "an entry lent by another signature"),
        "keyless_entry_of_another_certificate": (bundle(body=entry_body(payload, sig, certificate(by=STRANGER))), "an entry lent by another signer"),
        "keyless_entry_of_two_signatures": (bundle(body=entry_body(payload, sig, leaf).replace(b'"signatures":[', b'"signatures":[{"signature":"AA==","verifier":"AA=="},')), "an entry that speaks for two"),
        "keyless_body_of_another_kind": (bundle(body=v2), "an entry read by the rules of another format"),
        "keyless_rekor_v2": (changed(changed(good, *kind, "version", to="0.0.2"), *ENTRY, "inclusionPromise", to=None), "an entry whose time is not in it"),
        "keyless_intoto_entry": (changed(changed(good, *kind, "kind", to="intoto"), *kind, "version", to="0.0.2"), "an entry read by the rules of another format"),
        "keyless_hashedrekord_entry": (changed(good, *kind, "kind", to="hashedrekord"), "an entry of a file instead of a statement"),
        "keyless_proof_changed": (changed(good, *PROOF, "hashes", 1, to=b64(bytes(32))), "an entry that is not in the log"),
        "keyless_proof_short": (changed(good, *PROOF, "hashes", 3, to=None), "an inner node taken for an entry"),
        "keyless_proof_index": (changed(good, *PROOF, "logIndex", to="4"), "a path to another entry"),
        "keyless_proof_of_another_tree": (changed(good, *PROOF, "treeSize", to="12"), "a tree that the log did not sign"),
        "keyless_checkpoint_of_another_root": (changed(good, *PROOF, "checkpoint", "envelope", to=checkpoint(bytes(32), size)), "a tree that the log did not sign"),
        "keyless_checkpoint_by_a_stranger": (changed(good, *PROOF, "checkpoint", "envelope", to=checkpoint(root, size, STRANGER, hint)), "a log of one's own under another's name"),
        "keyless_checkpoint_unsigned": (changed(good, *PROOF, "checkpoint", "envelope", to=f"{ORIGIN}\n{size}\n{b64(root)}\n\n"), "a tree that nobody signed"),
        "keyless_log_unknown": (bundle(rekor=STRANGER), "a log of one's own"),
        "keyless_payload_changed": (changed(good, "dsseEnvelope", "payload", to=b64(other)), "other weights under a copied signature"),
    }  # fmt: skip


def _certificates() -> dict[str, tuple[dict[str, Any], str]]:
    """Return hostile certificates, under the plain root."""
    uri = x509.UniformResourceIdentifier("https://maker.example/release")
    return {
        "keyless_two_names": (bundle(certificate((x509.RFC822Name(IDENTITY), uri))), "two answers to who signed"),
        "keyless_name_of_a_host": (bundle(certificate((x509.DNSName(IDENTITY),))), "a certificate made for another purpose"),
        "keyless_issuers_differ": (bundle(certificate(issuers=((OLD_ISSUER, ISSUER.encode()), (NEW_ISSUER, _text("https://other.example"))))), "two answers to who vouches"),
        "keyless_issuer_missing": (bundle(certificate(issuers=())), "an identity that nobody vouched for"),
        "keyless_issuer_malformed": (bundle(certificate(issuers=((NEW_ISSUER, _text(ISSUER) + b"x"),))), "two readers that see two issuers"),
        "keyless_not_for_code": (bundle(certificate(purpose=ExtendedKeyUsageOID.SERVER_AUTH)), "a certificate made for another purpose"),
        "keyless_authority_unknown": (bundle(certificate(by=STRANGER)), "an authority of one's own"),
        "keyless_no_certificate_log": (bundle(certificate(ct=None)), "a certificate that its owner can never find out about"),
        "keyless_certificate_log_unknown": (bundle(certificate(ct=STRANGER)), "a certificate that its owner can never find out about"),
        "keyless_certificate_log_forged": (bundle(certificate(ct=STRANGER, ct_id=log_id(CT))), "a certificate that its owner can never find out about"),
    }  # fmt: skip


def cases() -> dict[str, tuple[dict[str, Any], str]]:
    """Return all vectors by name: what is held against what, and what taking it would have allowed ('' is sound)."""
    plain = {"files": FILES, "root": trusted(), "identity": IDENTITY, "issuer": ISSUER}
    good = {"bundle": bundle()} | plain
    out = {
        name: ({"bundle": made} | plain, allowed)
        for name, (made, allowed) in (_entries() | _certificates()).items()
    }
    ended = "trust in what was retired, perhaps because it leaked"
    out |= {
        "keyless_other_identity": (good | {"identity": "models@maker.example.evil"}, "a signature by anybody with an e-mail address"),
        "keyless_identity_in_other_letters": (good | {"identity": IDENTITY.upper()}, "an identity that somebody else holds"),
        "keyless_other_issuer": (good | {"issuer": "https://accounts.example.evil"}, "an identity vouched for by its thief"),
        "keyless_log_retired": (good | {"root": trusted(ended=("tlogs",))}, ended),
        "keyless_authority_retired": (good | {"root": trusted(ended=("authorities",))}, ended),
        "keyless_certificate_log_retired": (good | {"root": trusted(ended=("ctlogs",))}, ended),
        "keyless_other_root": (good | {"root": trusted(top=authority("vectors root", STRANGER, STRANGER, "vectors root", 1))}, "an authority of one's own"),
        "keyless_plain": (good, ""),
    }  # fmt: skip
    return out
