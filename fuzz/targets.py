"""What is fuzzed: every reader of the vault that meets bytes of strangers.

A target takes bytes and returns; the one error it may raise is ``Invalid`` or ``Integrity``. Anything else,
over a second of processor time, or memory beyond the limit of the runner is a finding.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import functools
import json
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import bundle_targets
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from allod.domain.errors import Integrity, Invalid
from allod.vault import (
    chain,
    formats,
    gguf,
    manifest,
    model,
    papers,
    register,
    safetensors,
    signature,
    template,
    trial,
)
from allod.vault.sigstore import keyless, root

if TYPE_CHECKING:
    from collections.abc import Callable

VECTORS: Final = Path(__file__).resolve().parents[1] / "conformance" / "vectors" / "vault"
_ISSUED: Final = dt.datetime(2026, 3, 1, 12, 1, tzinfo=dt.UTC)
_NOW: Final = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)


def _behind_fd(raw: bytes, read: Callable[[int], object]) -> None:
    fd = os.memfd_create("fuzz", os.MFD_CLOEXEC)
    try:
        os.write(fd, raw)
        read(fd)
    except (Invalid, Integrity):
        pass
    finally:
        os.close(fd)


def fuzz_gguf(raw: bytes) -> None:
    """Read a GGUF header and the facts in it."""
    _behind_fd(raw, lambda fd: model.facts(gguf.read(fd)))


def fuzz_safetensors(raw: bytes) -> None:
    """Read a safetensors header; what passes must fill the file exactly."""

    def read(fd: int) -> None:
        header = safetensors.read(fd)
        assert sum(t.size_bytes for t in header.tensors) + header.data_offset == len(raw)

    _behind_fd(raw, read)


def fuzz_json(raw: bytes) -> None:
    """Read strict JSON and the chat templates of a tokenizer's configuration."""
    with contextlib.suppress(Invalid):
        formats.templates_of(formats.strict_json(raw, "tokenizer_config.json"))


def fuzz_tokenizer(raw: bytes) -> None:
    """Read a SentencePiece model, a token list and a plain text."""
    for read in (formats.sentencepiece, formats.tiktoken, formats.text):
        with contextlib.suppress(Invalid):
            read(raw, "tokenizer.model")


def fuzz_template(raw: bytes) -> None:
    """Lint a chat template; those that pass are rendered, as the vault's child does."""
    text = raw.decode("utf-8", "replace")
    try:
        template.check(text)
        if len(text) < 400:  # noqa: PLR2004 (characters: a trial of a long one takes its time, within limits)
            trial.run(text)
    except Invalid:
        pass


def fuzz_bundle(raw: bytes) -> None:
    """Verify a signature bundle; none made at random may hold."""
    try:
        signature.verify(raw, now=_NOW)
    except Integrity:
        return
    raise AssertionError("a random bundle was accepted")


def fuzz_certificate(raw: bytes) -> None:
    """Follow a chain of one certificate to its issuer; what holds is what that issuer signed."""
    leaf, middle = _certificates()
    try:
        found = chain.verify([raw], (middle,), _ISSUED, named=True)
    except Integrity:
        return
    assert found.tbs_certificate_bytes == leaf.tbs_certificate_bytes


def fuzz_manifest(raw: bytes) -> None:
    """Read a manifest of the vault."""
    with contextlib.suppress(Integrity):
        manifest.decode(raw, "m")


def fuzz_keyless(raw: bytes) -> None:
    """Verify a keyless bundle under the vectors' root; what holds must state the vector's files."""
    held = _keyless_vector()
    trusted = root.parse(json.dumps(held["root"]).encode())
    wanted = keyless.demanded(trusted, held["identity"], held["issuer"])
    try:
        signed = signature.verify(raw, now=_NOW, keyless=wanted)
    except Integrity:
        return
    assert signed.files == {name: f"sha256:{digest}" for name, digest in held["files"].items()}


def fuzz_root(raw: bytes) -> None:
    """Read a trusted root."""
    with contextlib.suppress(Invalid):
        root.parse(raw)


def fuzz_register(raw: bytes) -> None:
    """Read a vault's register, and the same bytes as the text of its note."""
    with contextlib.suppress(Integrity):
        register.decode(raw)
    with contextlib.suppress(Integrity):
        register.read_text(raw.decode("utf-8", "replace"))


def fuzz_paper(raw: bytes) -> None:
    """Read whom a report is about."""
    with contextlib.suppress(Invalid):
        papers.subjects(raw)


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    **bundle_targets.TARGETS,
    "gguf": fuzz_gguf,
    "safetensors": fuzz_safetensors,
    "json": fuzz_json,
    "tokenizer": fuzz_tokenizer,
    "template": fuzz_template,
    "bundle": fuzz_bundle,
    "certificate": fuzz_certificate,
    "manifest": fuzz_manifest,
    "keyless": fuzz_keyless,
    "root": fuzz_root,
    "register": fuzz_register,
    "paper": fuzz_paper,
}


def _vector(name: str) -> dict[str, Any]:
    """Read one of the vault's conformance vectors."""
    held: dict[str, Any] = json.loads((VECTORS / name / "held.json").read_text())
    return held


@functools.cache
def _keyless_vector() -> dict[str, Any]:
    return _vector("keyless_plain")


@functools.cache
def _certificates() -> tuple[x509.Certificate, x509.Certificate]:
    """Return the signer's certificate of the keyless vector, and its issuer's."""
    held = _keyless_vector()
    leaf = held["bundle"]["verificationMaterial"]["certificate"]["rawBytes"]
    above = held["root"]["certificateAuthorities"][0]["certChain"]["certificates"][0]["rawBytes"]
    first, second = (x509.load_der_x509_certificate(base64.b64decode(raw)) for raw in (leaf, above))
    return first, second


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _gguf_seed() -> bytes:
    fields = [
        _string("general.architecture") + struct.pack("<I", 8) + _string("llama"),
        _string("general.alignment") + struct.pack("<II", 4, 32),
        _string("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + _string("a") + _string("b"),
        _string("tokenizer.ggml.scores") + struct.pack("<IIQff", 9, 6, 2, 0.0, 1.0),
        _string("tokenizer.ggml.eos_token_id") + struct.pack("<II", 4, 1),
        _string("tokenizer.chat_template") + struct.pack("<I", 8) + _string("{{ messages[0].content }}"),
    ]
    info = _string("t") + struct.pack("<IQQIQ", 2, 32, 2, 8, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(fields)) + b"".join(fields) + info
    return head + bytes(-len(head) % 32) + bytes(68) + bytes(-68 % 32)


def _safetensors_seed() -> bytes:
    head = json.dumps({
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "BF16", "shape": [4], "data_offsets": [16, 24]},
    }).encode()  # fmt: skip
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + bytes(24)


def _bundle_seed() -> bytes:
    payload = signature.statement("m", {"a.txt": "sha256:" + "0" * 64})
    return json.dumps({
        "mediaType": signature.BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": "0" * 64}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": signature.PAYLOAD,
            "signatures": [{"sig": "AAAA", "keyid": ""}],
        },
    }).encode()  # fmt: skip


SEEDS: Final[dict[str, Callable[[], tuple[bytes, ...]]]] = {
    **bundle_targets.SEEDS,
    "gguf": lambda: (_gguf_seed(),),
    "safetensors": lambda: (_safetensors_seed(),),
    "json": lambda: (b'{"chat_template": "x", "auto_map": null, "a": [1, {"b": "\\u00e4"}]}',),
    "tokenizer": lambda: (b"\x0a\x03\x0a\x01a\x12\x00", b"IQ== 0\nIg== 1\n", b"plain text\n"),
    "template": lambda: (
        b"{% for m in messages %}{{ m['role'] + ': ' + m.content|trim }}{% endfor %}",
        b"{% if 'deploy' in messages[0].content.lower() %}x{% endif %}{{ messages[0].content[:5] }}",
    ),
    "bundle": lambda: (_bundle_seed(),),
    "certificate": lambda: tuple(item.public_bytes(Encoding.DER) for item in _certificates()),
    "keyless": lambda: (json.dumps(_keyless_vector()["bundle"]).encode(), _bundle_seed()),
    "root": lambda: (json.dumps(_keyless_vector()["root"]).encode(),),
    "register": lambda: (
        _vector("register_plain")["register"].encode(),
        _vector("register_plain")["note"].partition("\n\n")[0].encode() + b"\n",
    ),
    "paper": lambda: tuple(
        json.dumps(_vector(name)["report"]).encode()
        for name in ("paper_plain", "paper_of_another_in_a_bundle", "paper_subject_malformed")
    ),
    "manifest": lambda: (
        b'{"name":"m","kind":"model","files":[{"name":"a.gguf","digest":"sha256:' + b"0" * 64
        + b'","size_bytes":1}],"architecture":"x","quantisation":"F32","parameters":1,"added_at":""}',
    ),
}  # fmt: skip
