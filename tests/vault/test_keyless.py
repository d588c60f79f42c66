"""Keyless signatures and shards at the vault's door; most of what is hostile in them is in the vectors."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import gguf_writer as w
import msgspec
import pytest
import vault_world as world
from hypothesis import given, settings
from hypothesis import strategies as st
from test_signature import reference_tool

from allod.domain.errors import Integrity, Invalid
from allod.vault import shards, signature
from allod.vault.intake import Extras, Trust
from allod.vault.sigstore import keyless, root
from allod.vault.vault import Vault

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "conformance" / "vectors" / "vault"
LATER = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)


def maker() -> ModuleType:
    """Load what makes the vectors."""
    spec = importlib.util.spec_from_file_location("keyless_vectors", VECTORS / "keyless.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKER = maker()


def wanted(identity: str = MAKER.IDENTITY) -> keyless.Keyless:
    trusted = root.parse(json.dumps(MAKER.trusted()).encode())
    return keyless.demanded(trusted, identity, MAKER.ISSUER)


def bundle_over(file: Path, name: str) -> bytes:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return json.dumps(MAKER.bundle(payload=MAKER.statement({name: digest}))).encode()


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return world.vault(tmp_path / "vault")


def test_a_model_signed_keyless_is_taken_and_its_signer_is_known(vault: Vault, tmp_path: Path) -> None:
    file = w.tiny(tmp_path / "m.gguf")
    trust = Trust(now=LATER, keyless=wanted())
    extras = Extras(signature=bundle_over(file, "m.gguf"), trust=trust)
    entry = vault.add(file, "m", extras=extras)
    assert entry.manifest.signatures[0].subject == f"{MAKER.IDENTITY} (by {MAKER.ISSUER})"
    assert entry.manifest.signatures[0].signer == keyless.signer_of(MAKER.ISSUER, MAKER.IDENTITY)
    other = w.tiny(tmp_path / "other.gguf", seed=9)
    with pytest.raises(Integrity):
        vault.add(other, "o", extras=Extras(signature=bundle_over(file, "other.gguf"), trust=trust))
    with pytest.raises(Integrity, match="does not hold"):
        vault.add(file, "o", extras=Extras(signature=extras.signature, trust=world.TRUST))
    vault.revoke(keyless.signer_of(MAKER.ISSUER, MAKER.IDENTITY), "the account was taken over")
    with pytest.raises(Integrity, match="revoked"):
        vault.resolve("m")
    with pytest.raises(Integrity, match="revoked"):
        vault.add(file, "again", extras=extras)


def test_a_trusted_root_alone_trusts_nobody() -> None:
    trusted = root.parse(json.dumps(MAKER.trusted()).encode())
    for identity, issuer in ((None, MAKER.ISSUER), (MAKER.IDENTITY, None), ("", "")):
        with pytest.raises(Invalid, match="nobody is trusted"):
            keyless.demanded(trusted, identity, issuer)


BROKEN: list[tuple[tuple[str | int, ...], Any]] = [
    (("mediaType",), "application/json"),
    (("tlogs",), []),
    (("tlogs",), None),
    (("surprise",), 1),
    (("tlogs", 0, "logId", "keyId"), "AA=="),
    (("tlogs", 0, "publicKey", "rawBytes"), "AA=="),
    (("tlogs", 0, "publicKey", "validFor", "start"), "yesterday"),
    (("tlogs", 0, "publicKey", "validFor", "start"), "2026-02-30T00:00:00Z"),
    (("tlogs", 0, "hashAlgorithm"), "MD5"),
    (("ctlogs", 0, "publicKey"), None),
    (("certificateAuthorities", 0, "certChain", "certificates"), []),
    (("certificateAuthorities", 0, "certChain", "certificates", 0, "rawBytes"), "AAAA"),
]


@pytest.mark.parametrize(("path", "value"), BROKEN)
def test_a_root_that_is_none_is_refused(path: tuple[str | int, ...], value: Any) -> None:
    held = MAKER.trusted() if path == ("surprise",) else MAKER.changed(MAKER.trusted(), *path, to=value)
    if path == ("surprise",):
        held["surprise"] = value
    with pytest.raises(Invalid, match="trusted root"):
        root.parse(json.dumps(held).encode())


def places(of: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if isinstance(of, dict):
        return [at, *(p for key, value in of.items() for p in places(value, (*at, key)))]
    if isinstance(of, list):
        return [at, *(p for number, value in enumerate(of) for p in places(value, (*at, number)))]
    return [at]


PLAIN = MAKER.bundle()
NUMBERS = ("logIndex", "treeSize", "integratedTime")
"""Counts may be written as digits or as a number."""
FREE = ("timestampVerificationData", "keyid")
"""What is not verified, and decides nothing."""


def at(of: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        of = of[step]
    return of


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(places(PLAIN)[1:]),
    st.sampled_from([None, "", "0", "AAAA", "5", 0, [], {}, [{}], -1, 1e9]),
)
def test_no_change_at_any_place_of_a_bundle_passes(path: tuple[str | int, ...], value: Any) -> None:
    if any(step in FREE for step in path):
        return
    held = MAKER.changed(PLAIN, *path, to=value)
    if path[-1] in NUMBERS and value is not None and str(value) == str(at(PLAIN, path)):
        return
    with pytest.raises(Integrity):
        signature.verify(json.dumps(held).encode(), now=LATER, keyless=wanted())


def _found_by_fuzzing() -> list[bytes]:
    """Certificates for which the library has errors of its own: a version, an extension twice, a curve."""
    raw = MAKER.der(MAKER.certificate())
    version = raw.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x63", 1)
    twice = raw.replace(b"\x06\x03\x55\x1d\x23", b"\x06\x03\x55\x1d\x0e", 1)
    curve = raw.replace(b"\x2a\x86\x48\xce\x3d\x03\x01\x07", b"\x2a\x86\x48\xce\x3d\x03\x01\x63")
    assert len({raw, version, twice, curve}) == 4
    return [version, twice, curve]


@pytest.mark.parametrize("raw", _found_by_fuzzing())
def test_a_malformed_certificate_is_refused_like_any_other(raw: bytes) -> None:
    from allod.vault import chain

    with pytest.raises(Integrity):
        chain.verify([raw], (MAKER.BETWEEN,), MAKER.START, named=True)
    held = MAKER.changed(PLAIN, "verificationMaterial", "certificate", "rawBytes", to=MAKER.b64(raw))
    with pytest.raises(Integrity):
        signature.verify(json.dumps(held).encode(), now=LATER, keyless=wanted())
    material = {"x509CertificateChain": {"certificates": [{"rawBytes": MAKER.b64(raw)}]}, "tlogEntries": []}
    held = MAKER.changed(PLAIN, "verificationMaterial", to=material)
    with pytest.raises(Integrity):
        signature.verify(json.dumps(held).encode(), now=MAKER.START, roots=(MAKER.BETWEEN,))


def test_the_command_line_demands_all_three(tmp_path: Path) -> None:
    file = w.tiny(tmp_path / "m.gguf")
    (tmp_path / "m.sig").write_bytes(bundle_over(file, "m.gguf"))
    (tmp_path / "root.json").write_text(json.dumps(MAKER.trusted()))

    def add(*more: str, status: int) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "allod", "vault", "add", "m.gguf", "--signature", "m.sig", *more],
            cwd=tmp_path, env=os.environ | {"ALLOD_HOME": str(tmp_path / "home")},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert "--trusted-root" in add("--identity", MAKER.IDENTITY, "--issuer", MAKER.ISSUER, status=2)
    assert "--identity" in add("--trusted-root", "root.json", "--issuer", MAKER.ISSUER, status=2)
    named = ("--trusted-root", "root.json", "--issuer", MAKER.ISSUER, "--identity")
    assert "demanded is" in add(*named, "somebody@else.example", status=3)
    assert f"signed by {MAKER.IDENTITY}" in add(*named, MAKER.IDENTITY, status=0)


# -- shards


def test_a_model_signed_by_shards_is_read_shard_by_shard(vault: Vault, tmp_path: Path) -> None:
    file = w.tiny(tmp_path / "m.gguf")
    raw, size = file.read_bytes(), 4096
    parts = {
        f"m.gguf:{at}:{min(at + size, len(raw))}": hashlib.sha256(raw[at : at + size]).hexdigest()
        for at in range(0, len(raw), size)
    }
    assert len(parts) > 2
    signed = _sharded(parts, size)
    trust = Trust(now=LATER, keys=(world.KEY.public_key(),))
    entry = vault.add(file, "m", extras=Extras(signature=signed, trust=trust))
    assert entry.manifest.signatures[0].signer is not None
    changed = bytearray(raw)
    changed[-1] ^= 1
    (tmp_path / "n.gguf").write_bytes(changed)
    renamed = {name.replace("m.gguf", "n.gguf"): digest for name, digest in parts.items()}
    with pytest.raises(Integrity, match="does not hold") as caught:
        vault.add(tmp_path / "n.gguf", "n", extras=Extras(signature=_sharded(renamed, size), trust=trust))
    assert f"shard {len(parts) - 1} of n.gguf" in caught.value.why
    assert [item.manifest.name for item in vault.list()] == ["m"]


def _sharded(parts: dict[str, str], size: int) -> bytes:
    """Sign shards: ``name:start:end`` -> hex digest."""
    made = json.loads(signature.statement("m", dict.fromkeys(parts, "sha256:" + "0" * 64)))
    digests = b"".join(bytes.fromhex(item) for item in parts.values())
    made["subject"][0]["digest"]["sha256"] = hashlib.sha256(digests).hexdigest()
    made["predicate"]["serialization"] = {
        "method": "shards", "hash_type": "sha256", "allow_symlinks": False, "shard_size": float(size),
        "ignore_paths": [],
    }  # fmt: skip
    made["predicate"]["resources"] = [
        {"name": name, "algorithm": f"sha256-sharded-{size}", "digest": digest}
        for name, digest in parts.items()
    ]
    return _signed(json.dumps(made).encode())


def _signed(payload: bytes) -> bytes:
    import base64

    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    encoded = b" ".join((b"DSSEv1", b"28", signature.PAYLOAD.encode(), b"%d" % len(payload), payload))
    held = json.loads(signature.sign("m", {"a": "sha256:" + "1" * 64}, world.KEY))
    made = world.KEY.sign(encoded, ec.ECDSA(hashes.SHA256()))
    held["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    held["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(made).decode()
    return json.dumps(held).encode()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 70), st.integers(1, 20), st.randoms(use_true_random=False))
def test_shards_of_any_size_cover_a_file_and_nothing_else(size: int, step: int, rng: Any) -> None:
    raw = bytes(rng.randrange(256) for _ in range(size))
    ends = [*range(step, size, step), size]
    parts = [
        (f"f:{at}:{end}", hashlib.sha256(raw[at:end]).hexdigest())
        for at, end in zip([0, *ends], ends, strict=False)
    ]
    rng.shuffle(parts)
    held = shards.gathered(parts, step)["f"]
    fd = os.memfd_create("f")
    try:
        os.write(fd, raw)
        shards.check(fd, held, "f")
        if raw:
            os.pwrite(fd, bytes([raw[0] ^ 1]), 0)
            with pytest.raises(Integrity):
                shards.check(fd, held, "f")
        if len(parts) > 1:
            with pytest.raises(Integrity):
                shards.check(fd, shards.gathered(parts[1:], step)["f"], "f")
    finally:
        os.close(fd)


# -- beside the reference tools


def test_the_reference_tool_signs_shards_that_we_verify(tmp_path: Path) -> None:
    tool = reference_tool()
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "weights.safetensors").write_bytes(bytes(range(250)) * 9)
    (tmp_path / "key.pem").write_bytes(world.pem(world.KEY, private=True))
    program = (
        "import pathlib, sys; from model_signing import hashing, signing\n"
        "c = signing.Config().use_elliptic_key_signer(private_key=pathlib.Path(sys.argv[2]))\n"
        "h = hashing.Config().use_shard_serialization(shard_size=1000, hashing_algorithm='sha256')\n"
        "c = c.set_hashing_config(h)\n"
        "c.sign(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[1]) / 'model.sig')\n"
    )
    done = subprocess.run(
        [tool[0], "-c", program, folder, tmp_path / "key.pem"], capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    raw = (folder / "model.sig").read_bytes()
    signed = signature.verify(raw, now=LATER, keys=(world.KEY.public_key(),), git_paths=True)
    assert signed.names == {"config.json", "weights.safetensors"}
    assert len(signed.shards["weights.safetensors"].digests) == 3
    for name, held in signed.shards.items():
        fd = os.open(folder / name, os.O_RDONLY)
        shards.check(fd, held, name)
        os.close(fd)
    with pytest.raises(Integrity, match="does not hold"):
        signature.compare(signed, dict.fromkeys(signed.names, "sha256:" + "0" * 64))


ORACLE = """
import json, pathlib, sys
from sigstore.models import Bundle, TrustedRoot
from sigstore.verify import Verifier, policy
held = json.loads(pathlib.Path(sys.argv[1]).read_text())
pathlib.Path(sys.argv[2]).write_text(json.dumps(held["root"]))
who = policy.Identity(identity=held["identity"], issuer=held["issuer"])
made = Bundle.from_json(json.dumps(held["bundle"]))
Verifier(trusted_root=TrustedRoot.from_file(sys.argv[2])).verify_dsse(made, who)
"""


@pytest.mark.parametrize("name", ["keyless_plain", "keyless_other_identity", "keyless_proof_changed"])
def test_sigstore_itself_agrees(name: str, tmp_path: Path) -> None:
    tool = reference_tool()
    done = subprocess.run(
        [tool[0], "-c", ORACLE, VECTORS / name / "held.json", tmp_path / "root.json"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode == 0) == (name == "keyless_plain"), done.stderr
    assert msgspec.json.decode((VECTORS / name / "held.json").read_bytes())["identity"]
