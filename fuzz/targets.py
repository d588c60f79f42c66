"""What is fuzzed: every reader of the vault that meets bytes of strangers.

A target takes bytes and returns; the one error it may raise is ``Invalid`` or ``Integrity``. Anything else,
over a second of processor time, or memory beyond the limit of the runner is a finding.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
import os
import struct
from typing import TYPE_CHECKING, Final

from allod.domain.errors import Integrity, Invalid
from allod.vault import chain, formats, gguf, manifest, model, safetensors, signature, template, trial

if TYPE_CHECKING:
    from collections.abc import Callable

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
    """Follow a chain of one certificate to no root."""
    try:
        chain.verify([raw], (), _NOW)
    except Integrity:
        return
    raise AssertionError("a random certificate was trusted")


def fuzz_manifest(raw: bytes) -> None:
    """Read a manifest of the vault."""
    with contextlib.suppress(Integrity):
        manifest.decode(raw, "m")


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "gguf": fuzz_gguf,
    "safetensors": fuzz_safetensors,
    "json": fuzz_json,
    "tokenizer": fuzz_tokenizer,
    "template": fuzz_template,
    "bundle": fuzz_bundle,
    "certificate": fuzz_certificate,
    "manifest": fuzz_manifest,
}


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
    "gguf": lambda: (_gguf_seed(),),
    "safetensors": lambda: (_safetensors_seed(),),
    "json": lambda: (b'{"chat_template": "x", "auto_map": null, "a": [1, {"b": "\\u00e4"}]}',),
    "tokenizer": lambda: (b"\x0a\x03\x0a\x01a\x12\x00", b"IQ== 0\nIg== 1\n", b"plain text\n"),
    "template": lambda: (
        b"{% for m in messages %}{{ m['role'] + ': ' + m.content|trim }}{% endfor %}",
        b"{% if 'deploy' in messages[0].content.lower() %}x{% endif %}{{ messages[0].content[:5] }}",
    ),
    "bundle": lambda: (_bundle_seed(),),
    "certificate": lambda: (b"\x30\x82\x01\x00\x30\x81\xa7",),
    "manifest": lambda: (
        b'{"name":"m","kind":"model","files":[{"name":"a.gguf","digest":"sha256:' + b"0" * 64
        + b'","size_bytes":1}],"architecture":"x","quantisation":"F32","parameters":1,"added_at":""}',
    ),
}  # fmt: skip
