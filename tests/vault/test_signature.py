from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from allod.domain.errors import Integrity, Invalid
from allod.vault import signature

NOW = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)
FILES = {"a.txt": "sha256:" + "1" * 64, "b.json": "sha256:" + "2" * 64}
ROOT = Path(__file__).resolve().parents[2]


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_what_a_key_signs_it_verifies_and_no_other_key_does(curve: ec.EllipticCurve) -> None:
    key = signature.private_key(pem(ec.generate_private_key(curve)))
    raw = signature.sign("m", FILES, key)
    signed = signature.verify(raw, now=NOW, keys=(key.public_key(),))
    assert (signed.name, signed.files) == ("m", FILES)
    assert signed.signer.startswith("sha256:")
    signature.compare(signed, FILES)
    with pytest.raises(Integrity, match="does not hold"):
        signature.verify(raw, now=NOW, keys=(ec.generate_private_key(curve).public_key(),))
    with pytest.raises(Integrity):
        signature.verify(raw, now=NOW)


def test_every_changed_byte_of_a_payload_or_signature_is_found() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    raw = bytearray(signature.sign("m", FILES, key))
    begin = raw.index(b'"payload"')
    for at in [*range(begin + 12, begin + 400, 7), raw.index(b'"sig"') + 12]:
        changed = raw.copy()
        changed[at] = ord("A") if changed[at] != ord("A") else ord("B")
        with pytest.raises(Integrity):
            signature.verify(bytes(changed), now=NOW, keys=(key.public_key(),))


def test_keys_that_the_format_does_not_know_are_refused() -> None:
    foreign = ed25519.Ed25519PrivateKey.generate()
    raw = foreign.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(Invalid, match="cannot sign"):
        signature.private_key(raw)
    with pytest.raises(Invalid, match="cannot sign"):
        signature.private_key(pem(ec.generate_private_key(ec.SECP256K1())))
    for junk in (b"", b"junk", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"):
        with pytest.raises(Invalid):
            signature.public_key(junk)
        with pytest.raises(Invalid):
            signature.certificates(junk)


class Authority:
    """A private root, perhaps an authority below it, and a signer."""

    def __init__(self, **leaf: Any) -> None:
        self.root_key, self.middle_key, self.key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
        root_length = leaf.pop("root_length", None)
        middle_ca = leaf.pop("middle_ca", True)
        self.root = certificate("root", self.root_key, "root", self.root_key, ca=True, length=root_length)
        self.middle = certificate("middle", self.middle_key, "root", self.root_key, ca=middle_ca)
        self.leaf = certificate("signer", self.key, "middle", self.middle_key, **leaf)

    def verify(self, *, now: dt.datetime = NOW, root: x509.Certificate | None = None) -> signature.Signed:
        raw = signature.sign("m", FILES, self.key, (self.leaf, self.middle))
        return signature.verify(raw, now=now, roots=(root or self.root,))


def certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    ca: bool = False,
    length: int | None = None,
    usages: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.CODE_SIGNING,),
    signs: bool = True,
    critical: bool = False,
) -> x509.Certificate:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - dt.timedelta(days=30))
        .not_valid_after(NOW + dt.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=length if ca else None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=signs, key_cert_sign=ca, crl_sign=ca, content_commitment=False,
                key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )  # fmt: skip
    if usages and not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if critical:
        odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")
        builder = builder.add_extension(odd, critical=True)
    return builder.sign(issuer_key, hashes.SHA256())


def test_a_certificate_under_a_private_root_is_trusted_and_named() -> None:
    signed = Authority().verify()
    assert signed.subject == "CN=signer"
    signature.compare(signed, FILES)


@pytest.mark.parametrize(
    ("leaf", "why"),
    [
        ({"usages": (ExtendedKeyUsageOID.SERVER_AUTH,)}, "may not sign code"),
        ({"usages": ()}, "does not say"),
        ({"signs": False}, "may not sign code"),
        ({"ca": True, "usages": ()}, "does not say"),
        ({"critical": True}, "critical extension"),
        ({"middle_ca": False}, "does not lead"),
        ({"root_length": 0}, "does not lead"),
    ],
)
def test_a_certificate_that_may_not_sign_models_is_refused(leaf: dict[str, Any], why: str) -> None:
    with pytest.raises(Integrity) as caught:
        Authority(**leaf).verify()
    assert why in caught.value.why


def test_a_certificate_is_judged_on_the_day_and_under_the_named_root_only() -> None:
    ours = Authority()
    for day in (NOW - dt.timedelta(days=31), NOW + dt.timedelta(days=31)):
        with pytest.raises(Integrity) as caught:
            ours.verify(now=day)
        assert "valid from" in caught.value.why
    with pytest.raises(Integrity) as caught:
        ours.verify(root=Authority().root)
    assert "does not lead" in caught.value.why
    with pytest.raises(Integrity):
        ours.verify(root=ours.leaf)
    with pytest.raises(Invalid, match="another key"):
        signature.sign("m", FILES, ours.root_key, (ours.leaf,))


def test_git_s_paths_are_refused_unless_the_caller_says_so_and_never_left_out() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    original = signature.statement

    def with_git(name: str, files: Any) -> bytes:
        value = json.loads(original(name, files))
        value["predicate"]["serialization"]["ignore_paths"] = [
            ".git",
            ".gitignore",
            ".github",
            ".gitattributes",
        ]
        return json.dumps(value).encode()

    signature.statement = with_git
    try:
        raw = signature.sign("m", FILES, key)
    finally:
        signature.statement = original
    with pytest.raises(Integrity) as caught:
        signature.verify(raw, now=NOW, keys=(key.public_key(),))
    assert "left out" in caught.value.why
    signed = signature.verify(raw, now=NOW, keys=(key.public_key(),), git_paths=True)
    with pytest.raises(Integrity, match="does not hold"):
        signature.compare(signed, FILES | {".gitattributes": "sha256:" + "3" * 64})


# -- beside the reference tool


def reference_tool() -> list[str]:
    """Return the command of the reference tool; it lives in an environment of its own, as 110 MB want to."""
    place = os.environ.get("ALLOD_MODEL_SIGNING") or str(ROOT / ".conformance/model-signing/bin/python")
    command = [place, "-m", "model_signing"]
    try:
        done = subprocess.run([*command, "--version"], capture_output=True, timeout=120, check=False)
    except OSError:
        done = None
    if done is None or done.returncode != 0:
        pytest.skip("the reference tool is not there: `make model-signing` installs it with pyopenssl")
    return command


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text("words\n")
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {p.name: "sha256:" + hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120, check=False)


def test_the_reference_tool_verifies_ours_and_we_verify_its_own_with_a_key(
    model: Path, tmp_path: Path
) -> None:
    tool = reference_tool()
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "key.pem").write_bytes(pem(key))
    (tmp_path / "pub.pem").write_bytes(public(key))
    ours = tmp_path / "ours.sig"
    ours.write_bytes(signature.sign("model", digests(model), key))
    check = (*tool, "verify", "key", model, "--signature", ours, "--public_key", tmp_path / "pub.pem")
    done = run(*check)
    assert done.returncode == 0, done.stderr
    theirs = tmp_path / "theirs.sig"
    done = run(*tool, "sign", "key", model, "--signature", theirs, "--private_key", tmp_path / "key.pem")
    assert done.returncode == 0, done.stderr
    signed = signature.verify(theirs.read_bytes(), now=NOW, keys=(key.public_key(),), git_paths=True)
    signature.compare(signed, digests(model))
    done = run(*tool, "sign", "key", model, "--signature", theirs, "--private_key", tmp_path / "key.pem",
               "--no-ignore-git-paths")  # fmt: skip
    assert done.returncode == 0, done.stderr
    signature.compare(
        signature.verify(theirs.read_bytes(), now=NOW, keys=(key.public_key(),)), digests(model)
    )
    (model / "config.json").write_text("[]")
    assert run(*check).returncode != 0
    with pytest.raises(Integrity):
        signature.compare(signed, digests(model))


def test_the_reference_tool_verifies_ours_and_we_verify_its_own_with_a_certificate(
    model: Path, tmp_path: Path
) -> None:
    tool = reference_tool()
    ca = Authority()
    (tmp_path / "key.pem").write_bytes(pem(ca.key))
    for name, held in (("root", ca.root), ("middle", ca.middle), ("leaf", ca.leaf)):
        (tmp_path / f"{name}.pem").write_bytes(held.public_bytes(serialization.Encoding.PEM))
    ours, theirs = tmp_path / "ours.sig", tmp_path / "theirs.sig"
    ours.write_bytes(signature.sign("model", digests(model), ca.key, (ca.leaf, ca.middle)))
    trusted = ("--certificate_chain", tmp_path / "root.pem")
    done = run(*tool, "verify", "certificate", model, "--signature", ours, *trusted)
    assert done.returncode == 0, done.stderr
    chain = ("--signing_certificate", tmp_path / "leaf.pem", "--certificate_chain", tmp_path / "middle.pem")
    secret = ("--private_key", tmp_path / "key.pem")
    done = run(*tool, "sign", "certificate", model, "--signature", theirs, *secret, *chain)
    assert done.returncode == 0, done.stderr
    signed = signature.verify(theirs.read_bytes(), now=NOW, roots=(ca.root,), git_paths=True)
    assert signed.subject == "CN=signer"
    signature.compare(signed, digests(model))


def test_a_single_file_signed_by_the_reference_tool_is_understood(tmp_path: Path) -> None:
    import gguf_writer as w

    from allod.vault.intake import Extras, Trust
    from allod.vault.vault import Vault

    tool = reference_tool()
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "key.pem").write_bytes(pem(key))
    file = w.tiny(tmp_path / "m.gguf")
    bundle = tmp_path / "m.sig"
    done = run(*tool, "sign", "key", file, "--signature", bundle, "--private_key", tmp_path / "key.pem")
    assert done.returncode == 0, done.stderr
    vault = Vault(tmp_path / "vault", shipped=tmp_path / "none")
    trust = Trust(now=NOW, keys=(key.public_key(),), git_paths=True)
    entry = vault.add(file, "m", extras=Extras(signature=bundle.read_bytes(), trust=trust))
    assert entry.manifest.signatures[0].signer is not None
    other = w.tiny(tmp_path / "other.gguf", seed=4)
    with pytest.raises(Integrity):
        vault.add(other, "o", extras=Extras(signature=bundle.read_bytes(), trust=trust))
