"""Writes GGUF files for tests: a tiny working llama, adapters for it, and deliberate nonsense."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

U32, I32, F32, BOOL, STRING, ARRAY, U64 = 4, 5, 6, 7, 8, 9, 10
TEMPLATE = (
    "{%- for message in messages %}{{- '<|' + message.role + '|>' }}"
    "{%- if message.reasoning_content %}{{- '<think>' + message.reasoning_content + '</think>' }}{%- endif %}"
    "{{- message.content }}{{- '<|end|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>' }}"
    "{%- if enable_thinking %}{{- '<think>' }}{%- endif %}{%- endif %}"
)


def string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def field(key: str | bytes, kind: int, value: Any) -> bytes:
    return string(key) + struct.pack("<I", kind) + payload(kind, value)


def payload(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return string(value)
    if kind == ARRAY:
        inner, items = value
        return struct.pack("<IQ", inner, len(items)) + b"".join(payload(inner, item) for item in items)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<B", U64: "<Q", 0: "<B"}[kind], value)


def tensor_info(name: str | bytes, dims: tuple[int, ...], kind: int, offset: int) -> bytes:
    return (
        string(name)
        + struct.pack("<I", len(dims))
        + struct.pack(f"<{len(dims)}Q", *dims)
        + struct.pack("<IQ", kind, offset)
    )


def assemble(
    fields: list[bytes],
    tensors: list[tuple[str, tuple[int, ...], int, bytes]],
    *,
    version: int = 3,
    alignment: int = 32,
) -> bytes:
    """Lay out a well-formed file from encoded fields and (name, dims, type, bytes) tensors."""
    infos, data = b"", b""
    for name, dims, kind, raw in tensors:
        infos += tensor_info(name, dims, kind, len(data))
        data += raw + b"\0" * (-len(raw) % alignment)
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(fields)) + b"".join(fields) + infos
    return head + b"\0" * (-len(head) % alignment) + data


def _byte_letters() -> list[str]:
    """Return the 256 printable stand-ins of byte-level BPE, by byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters, extra = {}, 256
    for byte in range(256):
        if byte in plain:
            letters[byte] = chr(byte)
        else:
            letters[byte], extra = chr(extra), extra + 1
    return [letters[byte] for byte in range(256)]


SPECIAL = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<think>", "</think>"]
WIDTH, LAYERS, HEADS, HIDDEN = 32, 2, 2, 64


def model_fields(
    template: str | None = TEMPLATE, context: int = 512, extra: tuple[bytes, ...] = ()
) -> list[bytes]:
    tokens = _byte_letters() + SPECIAL
    kinds = [1] * 256 + [3] * 5 + [4] * 2
    fields = [
        field("general.architecture", STRING, "llama"),
        field("general.file_type", U32, 0),
        field("general.license", STRING, "CC0-1.0"),
        field("llama.context_length", U32, context),
        field("llama.embedding_length", U32, WIDTH),
        field("llama.block_count", U32, LAYERS),
        field("llama.feed_forward_length", U32, HIDDEN),
        field("llama.attention.head_count", U32, HEADS),
        field("llama.attention.head_count_kv", U32, HEADS),
        field("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        field("llama.rope.dimension_count", U32, WIDTH // HEADS),
        field("llama.vocab_size", U32, len(tokens)),
        field("tokenizer.ggml.model", STRING, "gpt2"),
        field("tokenizer.ggml.pre", STRING, "smollm"),
        field("tokenizer.ggml.tokens", ARRAY, (STRING, tokens)),
        field("tokenizer.ggml.token_type", ARRAY, (I32, kinds)),
        field("tokenizer.ggml.merges", ARRAY, (STRING, ["h e", "l l"])),
        field("tokenizer.ggml.eos_token_id", U32, 256),
        field("tokenizer.ggml.padding_token_id", U32, 256),
        field("tokenizer.ggml.add_bos_token", BOOL, 0),
        *extra,
    ]
    if template is not None:
        fields.append(field("tokenizer.chat_template", STRING, template))
    return fields


def model_tensors(seed: int = 0, end_bias: float = 0.0) -> list[tuple[str, tuple[int, ...], int, bytes]]:
    """Random weights; a row of the embedding is silenced so that control tokens are seldom drawn."""
    rng = np.random.default_rng(seed)
    vocab = 256 + len(SPECIAL)

    def matrix(rows: int, columns: int) -> bytes:
        return (rng.standard_normal((rows, columns)) * 0.2).astype("<f4").tobytes()

    embedding = (rng.standard_normal((vocab, WIDTH)) * 0.2).astype("<f4")
    output = embedding.copy()
    output[256:] = end_bias
    out: list[tuple[str, tuple[int, ...], int, bytes]] = [
        ("token_embd.weight", (WIDTH, vocab), 0, embedding.tobytes()),
        ("output_norm.weight", (WIDTH,), 0, np.ones(WIDTH, "<f4").tobytes()),
        ("output.weight", (WIDTH, vocab), 0, output.tobytes()),
    ]
    for layer in range(LAYERS):
        blk = f"blk.{layer}."
        out += [
            (blk + "attn_norm.weight", (WIDTH,), 0, np.ones(WIDTH, "<f4").tobytes()),
            (blk + "ffn_norm.weight", (WIDTH,), 0, np.ones(WIDTH, "<f4").tobytes()),
            *(
                (blk + f"attn_{part}.weight", (WIDTH, WIDTH), 0, matrix(WIDTH, WIDTH))
                for part in ("q", "k", "v", "output")
            ),
            (blk + "ffn_gate.weight", (WIDTH, HIDDEN), 0, matrix(HIDDEN, WIDTH)),
            (blk + "ffn_up.weight", (WIDTH, HIDDEN), 0, matrix(HIDDEN, WIDTH)),
            (blk + "ffn_down.weight", (HIDDEN, WIDTH), 0, matrix(WIDTH, HIDDEN)),
        ]
    return out


def tiny(
    path: Path,
    *,
    template: str | None = TEMPLATE,
    seed: int = 0,
    context: int = 512,
    extra: tuple[bytes, ...] = (),
) -> Path:
    """Write a model of 40 000 random parameters that the engine loads and runs."""
    path.write_bytes(assemble(model_fields(template, context, extra), model_tensors(seed)))
    return path


def adapter(
    path: Path, *, seed: int = 1, rank: int = 2, scale: float = 4.0, extra: tuple[bytes, ...] = ()
) -> Path:
    """Write a LoRA adapter for ``tiny`` that visibly changes its answers."""
    rng = np.random.default_rng(seed)
    tensors: list[tuple[str, tuple[int, ...], int, bytes]] = []
    for layer in range(LAYERS):
        name = f"blk.{layer}.attn_output.weight"
        low = (rng.standard_normal((rank, WIDTH)) * scale).astype("<f4").tobytes()
        high = (rng.standard_normal((WIDTH, rank)) * scale).astype("<f4").tobytes()
        tensors += [(name + ".lora_a", (WIDTH, rank), 0, low), (name + ".lora_b", (rank, WIDTH), 0, high)]
    fields = [
        field("general.architecture", STRING, "llama"),
        field("general.type", STRING, "adapter"),
        field("adapter.type", STRING, "lora"),
        field("adapter.lora.alpha", F32, float(rank)),
        *extra,
    ]
    path.write_bytes(assemble(fields, tensors))
    return path
