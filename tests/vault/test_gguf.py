# ruff: noqa: E501 (one case a line)
from __future__ import annotations

import os
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import gguf_writer as w
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allod.domain.errors import Invalid
from allod.vault import gguf, model
from allod.vault.vault import inspect, shipped_folder

MIB = 1024 * 1024


def read(path: Path) -> gguf.Header:
    fd = os.open(path, os.O_RDONLY)
    try:
        header = gguf.read(fd)
        model.facts(header)
        return header
    finally:
        os.close(fd)


def head(tensors: int, fields: int, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, fields)


ARCH = w.field("general.architecture", w.STRING, "llama")
ONE = ("t", (32,), 0, b"\0" * 128)


def with_tensors(*infos: bytes, data: bytes = b"\0" * 128, fields: tuple[bytes, ...] = (ARCH,)) -> bytes:
    raw = head(len(infos), len(fields)) + b"".join(fields) + b"".join(infos)
    return raw + b"\0" * (-len(raw) % 32) + data


def declared_array(kind: int, count: int, tail: bytes = b"") -> bytes:
    return w.string("a") + struct.pack("<IIQ", w.ARRAY, kind, count) + tail


TOKENS = w.field("tokenizer.ggml.tokens", w.ARRAY, (w.STRING, ["a", "b", "c"]))

HOSTILE: dict[str, bytes | Callable[[], bytes]] = {
    "empty": b"",
    "short": b"GGUF\x03",
    "magic": b"GGML" + head(0, 0)[4:],
    "random": bytes(range(256)) * 64,
    "zeros": b"\0" * 4096,
    "pickle": b"\x80\x04\x95" + b"\0" * 64,
    "zip": b"PK\x03\x04" + b"\0" * 64,
    "version-1": head(0, 0, 1) + b"\0" * 64,
    "version-4": head(0, 0, 4) + b"\0" * 64,
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 1, 1) + b"\0" * 64,
    "2^63-keys": head(0, 1 << 63) + b"\0" * 64,
    "2^64-tensors": head((1 << 64) - 1, 0) + b"\0" * 64,
    "many-keys": head(0, 8000) + b"\0" * 64,
    "2^62-string": head(0, 1) + w.string("k") + struct.pack("<IQ", w.STRING, 1 << 62),
    "2^62-key": head(0, 1) + struct.pack("<Q", 1 << 62) + b"k" * 64,
    "empty-key": head(0, 1) + w.field("", w.U32, 1) + b"\0" * 64,
    "key-not-ascii": head(0, 1) + w.field("schl\u00fcssel", w.U32, 1) + b"\0" * 64,
    "key-control": head(0, 1) + w.field("a\nb", w.U32, 1) + b"\0" * 64,
    "key-twice": head(1, 3) + ARCH + ARCH + ARCH + b"\0" * 64,
    "not-utf8": head(0, 1) + w.field("a", w.STRING, b"\xff\xfe") + b"\0" * 64,
    "bool-2": head(0, 1) + w.field("a", w.BOOL, 2) + b"\0" * 64,
    "type-13": head(0, 1) + w.string("a") + struct.pack("<I", 13) + b"\0" * 64,
    "array-2^63": head(0, 1) + declared_array(0, 1 << 63),
    "array-2^61-numbers": head(0, 1) + declared_array(w.U64, 1 << 61),
    "array-2^40-strings": head(0, 1) + declared_array(w.STRING, 1 << 40),
    "array-of-unknown": head(0, 1) + declared_array(99, 4, b"\0" * 64),
    "array-of-arrays": head(0, 1) + declared_array(w.ARRAY, 4, b"\0" * 64),
    "strings-into-each-other": head(0, 1) + declared_array(w.STRING, 2, struct.pack("<Q", 8) + b"x" * 4),
    "nested-deep": head(0, 1) + w.string("a") + struct.pack("<I", w.ARRAY) + struct.pack("<IQ", w.ARRAY, 1) * 5000,
    "template-2MiB": lambda: head(0, 1) + w.field("tokenizer.chat_template", w.STRING, "x" * (2 * MIB)),
    "3M-strings": lambda: head(0, 1) + declared_array(w.STRING, 3_000_000, b"\0" * 24_000_000),
    "2M-long-strings": lambda: head(0, 1) + declared_array(w.STRING, 1_900_000, (struct.pack("<Q", 9) + b"x" * 9) * 1_900_000),
    "no-tensors": with_tensors(data=b""),
    "rank-0": with_tensors(w.tensor_info("t", (), 0, 0)),
    "rank-5": with_tensors(w.tensor_info("t", (1, 1, 1, 1, 32), 0, 0)),
    "dim-0": with_tensors(w.tensor_info("t", (0,), 0, 0)),
    "dims-2^33": with_tensors(w.tensor_info("t", (1 << 33, 1 << 33), 0, 0)),
    "dims-wrap-to-small": with_tensors(w.tensor_info("t", (1 << 32, 1 << 32, 1, 32), 0, 0)),
    "row-not-of-blocks": with_tensors(w.tensor_info("t", (33,), 8, 0)),
    "tensor-type-4": with_tensors(w.tensor_info("t", (32,), 4, 0)),
    "tensor-type-255": with_tensors(w.tensor_info("t", (32,), 255, 0)),
    "name-64-bytes": with_tensors(w.tensor_info("t" * 64, (32,), 0, 0)),
    "name-empty": with_tensors(w.tensor_info("", (32,), 0, 0)),
    "name-nul": with_tensors(w.tensor_info("a\0b", (32,), 0, 0)),
    "name-twice": with_tensors(w.tensor_info("t", (32,), 0, 0), w.tensor_info("t", (32,), 0, 128), data=b"\0" * 256),
    "overlap": with_tensors(w.tensor_info("t", (32,), 0, 0), w.tensor_info("u", (32,), 0, 96), data=b"\0" * 224),
    "same-place": with_tensors(w.tensor_info("t", (32,), 0, 0), w.tensor_info("u", (32,), 0, 0)),
    "hole": with_tensors(w.tensor_info("t", (32,), 0, 0), w.tensor_info("u", (32,), 0, 160), data=b"\0" * 288),
    "hole-at-start": with_tensors(w.tensor_info("t", (32,), 0, 32), data=b"\0" * 160),
    "offset-not-aligned": with_tensors(w.tensor_info("t", (32,), 0, 8), data=b"\0" * 160),
    "offset-2^64": with_tensors(w.tensor_info("t", (32,), 0, (1 << 64) - 32)),
    "past-the-end": with_tensors(w.tensor_info("t", (64,), 0, 0)),
    "tail": with_tensors(w.tensor_info("t", (32,), 0, 0), data=b"\0" * 256),
    "payload-in-padding": with_tensors(w.tensor_info("t", (4,), 0, 0), data=b"\0" * 16 + b"payload" + b"\0" * 9),
    "payload-before-data": with_tensors(w.tensor_info("t", (32,), 0, 0)).replace(b"\0" * 9 + b"\0" * 128, b"p" * 9 + b"\0" * 128),
    "alignment-0": with_tensors(w.tensor_info("t", (32,), 0, 0), fields=(ARCH, w.field("general.alignment", w.U32, 0))),
    "alignment-24": with_tensors(w.tensor_info("t", (32,), 0, 0), fields=(ARCH, w.field("general.alignment", w.U32, 24))),
    "alignment-2^31": with_tensors(w.tensor_info("t", (32,), 0, 0), fields=(ARCH, w.field("general.alignment", w.U32, 1 << 31))),
    "alignment-string": with_tensors(w.tensor_info("t", (32,), 0, 0), fields=(ARCH, w.field("general.alignment", w.STRING, "32"))),
    "no-architecture": w.assemble([], [ONE]),
    "architecture-path": w.assemble([w.field("general.architecture", w.STRING, "../llama")], [ONE]),
    "split": w.assemble([ARCH, w.field("split.count", w.U32, 2)], [ONE]),
    "600-layers": w.assemble([ARCH, w.field("llama.block_count", w.U32, 600)], [ONE]),
    "scores-too-few": w.assemble([ARCH, TOKENS, w.field("tokenizer.ggml.scores", w.ARRAY, (w.F32, [1.0]))], [ONE]),
    "scores-narrow": w.assemble([ARCH, TOKENS, w.field("tokenizer.ggml.scores", w.ARRAY, (0, [1, 2, 3]))], [ONE]),
    "token-types-narrow": w.assemble([ARCH, TOKENS, w.field("tokenizer.ggml.token_type", w.ARRAY, (0, [1, 2, 3]))], [ONE]),
    "tokens-numbers": w.assemble([ARCH, w.field("tokenizer.ggml.tokens", w.ARRAY, (w.I32, [1]))], [ONE]),
    "eos-outside": w.assemble([ARCH, TOKENS, w.field("tokenizer.ggml.eos_token_id", w.U32, 3)], [ONE]),
    "charsmap-short": w.assemble([ARCH, TOKENS, w.field("tokenizer.ggml.precompiled_charsmap", w.ARRAY, (0, [1]))], [ONE]),
    "suppress-narrow": w.assemble([ARCH, TOKENS, w.field("tokenizer.ggml.suppress_tokens", w.ARRAY, (0, [1]))], [ONE]),
    "adapter-unknown": w.assemble([ARCH, w.field("general.type", w.STRING, "adapter"), w.field("adapter.type", w.STRING, "x")], [ONE]),
    "adapter-with-template": w.assemble(
        [ARCH, w.field("general.type", w.STRING, "adapter"), w.field("adapter.type", w.STRING, "lora"),
         w.field("tokenizer.chat_template", w.STRING, "x")], [ONE]),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_fast_and_in_little_memory(case: str, tmp_path: Path) -> None:
    raw = HOSTILE[case]
    path = tmp_path / "hostile.gguf"
    path.write_bytes(raw if isinstance(raw, bytes) else raw())
    began = time.process_time()
    with pytest.raises(Invalid) as caught:
        read(path)
    assert time.process_time() - began < 1.0
    tracemalloc.start()
    with pytest.raises(Invalid):
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * MIB
    assert caught.value.why


def test_every_truncation_of_a_working_model_is_refused(tmp_path: Path) -> None:
    whole = w.tiny(tmp_path / "whole.gguf").read_bytes()
    path = tmp_path / "part.gguf"
    path.write_bytes(whole)
    for size in [*range(0, 8000, 7), *range(8000, len(whole), 997), len(whole) - 1]:
        os.truncate(path, 0)
        path.write_bytes(whole[:size])
        with pytest.raises(Invalid):
            read(path)


def test_sparse_file_of_a_terabyte_is_judged_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "sparse.gguf"
    path.write_bytes(head(0, 1) + declared_array(0, 1 << 39))
    os.truncate(path, 1 << 40)
    began = time.process_time()
    with pytest.raises(Invalid, match="well-formed"):
        read(path)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("version", [2, 3])
def test_well_formed_files_are_read(version: int, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(w.assemble(w.model_fields(), w.model_tensors(), version=version))
    header = read(path)
    assert header.version == version
    assert header.templates == {"": w.TEMPLATE}
    assert header.number("llama.context_length") == 512
    assert len(header.tensors) == 3 + 9 * w.LAYERS
    assert (
        model.facts(header).parameters == sum(tensor.size_bytes for tensor in header.tensors) // 4
    )  # all of them F32


def test_other_alignments_and_named_templates(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    fields = w.model_fields(
        extra=(
            w.field("general.alignment", w.U32, 64),
            w.field("tokenizer.chat_template.tool_use", w.STRING, "x"),
        )
    )
    path.write_bytes(w.assemble(fields, w.model_tensors(), alignment=64))
    assert read(path).templates == {"": w.TEMPLATE, "tool_use": "x"}


def test_shipped_models_pass(tmp_path: Path) -> None:
    files = sorted(shipped_folder().glob("*.gguf"))
    if not files:
        pytest.skip("this checkout ships no model yet")
    for path in files:
        fd = os.open(path, os.O_RDONLY)
        header, facts, flags = inspect(fd)
        os.close(fd)
        assert facts.architecture == "llama"
        assert header.size_bytes == path.stat().st_size
        assert flags == ()


BASE = w.assemble(w.model_fields(), w.model_tensors())
BASE_HEAD = 9000


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(
        st.tuples(st.integers(0, BASE_HEAD), st.binary(min_size=1, max_size=12)), min_size=1, max_size=6
    ),
    cut=st.one_of(st.none(), st.integers(0, BASE_HEAD)),
)
def test_mutated_headers_never_hang_or_swell_the_reader(
    edits: list[tuple[int, bytes]], cut: int | None, tmp_path: Path
) -> None:
    raw = bytearray(BASE)
    for at, piece in edits:
        raw[at : at + len(piece)] = piece
    _judge(bytes(raw if cut is None else raw[:cut]), tmp_path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    at=st.integers(4, BASE_HEAD),
    number=st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1]),
)
def test_extreme_numbers_anywhere_in_a_header(at: int, number: int, tmp_path: Path) -> None:
    raw = bytearray(BASE)
    raw[at : at + 8] = struct.pack("<Q", number)
    _judge(bytes(raw), tmp_path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=2000))
def test_random_bytes_behind_a_true_beginning(raw: bytes, tmp_path: Path) -> None:
    _judge(head(len(raw) % 3, 1 + len(raw) % 5) + raw, tmp_path)


def _judge(raw: bytes, folder: Path) -> None:
    """A file is read or refused as ``Invalid``, in bounded time; nothing else may happen."""
    path = folder / "mutant.gguf"
    path.write_bytes(raw)
    began = time.process_time()
    try:
        header = read(path)
    except Invalid as error:
        assert error.why  # noqa: PT017
    else:
        assert all(t.offset + t.size_bytes + header.data_offset <= len(raw) for t in header.tensors)
    assert time.process_time() - began < 1.0
