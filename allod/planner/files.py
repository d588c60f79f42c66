"""Exact weights and the shape of a model out of the headers of its files, by the vault's strict readers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from allod.domain.errors import Invalid
from allod.planner.architecture import Architecture, from_config
from allod.planner.memory import Weights
from allod.planner.reserve import Range
from allod.vault import gguf, safetensors

MAX_CONFIG_BYTES: Final = 4 * 1024 * 1024
MAX_FILES: Final = 4_096
EMBEDDINGS: Final = ("token_embd.weight", "model.embed_tokens.weight", "embed_tokens.weight")
DRAFTS: Final = ("nextn", "mtp.", ".mtp", "model.mtp")
VISION: Final = ("v.", "mm.", "vision_tower.", "visual.", "model.visual.", "vision_model.", "multi_modal")


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of tensors by name out of headers, over all files."""

    tensors: dict[str, int]
    files: int

    def weights(self, source: str) -> Weights:
        """Return what an engine loads of it; vision and speculation are counted apart."""
        vision = draft = embedding = total = 0
        for name, size in self.tensors.items():
            if name.startswith(VISION):
                vision += size
            elif any(mark in name for mark in DRAFTS):
                draft += size
            else:
                total += size
                embedding += size if name.endswith(EMBEDDINGS) else 0
        exact = Range(value=float(total), low=float(total), high=float(total))
        return Weights(
            total=exact, embedding=float(embedding), vision=float(vision), draft=float(draft), exact=True,
            source=source,
        )  # fmt: skip


def _missing(path: Path, what: str) -> Invalid:
    return Invalid(
        f"{path} {what}",
        "expected a GGUF file, or a folder with safetensors files and their config.json",
        "name the file or folder of the model",
        param="file",
    )


def gguf_header(path: Path) -> gguf.Header:
    """Read the header of one GGUF file.

    Raises:
        Invalid: it is absent, no regular file, or not well formed.

    """
    if not path.is_file():
        raise _missing(path, "is not a file")
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return gguf.read(fd)
    finally:
        os.close(fd)


def held(path: Path) -> Held:
    """Return the tensors of a GGUF file (with its other parts), or of a folder of safetensors.

    Raises:
        Invalid: there is nothing of the kind, or a file is not well formed.

    """
    if path.is_dir():
        return _held_safetensors(path)
    if path.suffix == ".safetensors":
        return _join([_safetensors(path)])
    return _join([{t.name: t.size_bytes for t in gguf_header(one).tensors} for one in _parts(path)])


def _parts(path: Path) -> list[Path]:
    """Return all parts of a split GGUF by the name of one (``...-00001-of-00003.gguf``)."""
    head, _, tail = path.stem.rpartition("-of-")
    if not head or not tail.isdigit() or not head[-5:].isdigit():
        return [path]
    count = int(tail)
    if not 1 <= count <= MAX_FILES:
        raise _missing(path, f"says it is one of {count} parts")
    return [path.with_name(f"{head[:-5]}{n:05d}-of-{tail}{path.suffix}") for n in range(1, count + 1)]


def _held_safetensors(folder: Path) -> Held:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        single = sorted(folder.glob("*.gguf"))
        if single:
            return held(single[0])
        raise _missing(folder, "holds no weights")
    if len(files) > MAX_FILES:
        raise _missing(folder, f"holds over {MAX_FILES} files")
    return _join([_safetensors(one) for one in files])


def _safetensors(path: Path) -> dict[str, int]:
    if not path.is_file():
        raise _missing(path, "is not a file")
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return {t.name: t.size_bytes for t in safetensors.read(fd).tensors}
    finally:
        os.close(fd)


def _join(parts: Iterable[dict[str, int]]) -> Held:
    out: dict[str, int] = {}
    count = 0
    for part in parts:
        twice = next((name for name in part if name in out), None)
        if twice is not None:
            raise Invalid(
                "two files hold the same tensor",
                f"{twice[:80]} is in more than one of them",
                "name a folder that holds one model only",
                param="file",
            )
        out |= part
        count += 1
    return Held(tensors=out, files=count)


def read_config_file(path: Path) -> Any:
    """Read a ``config.json``.

    Raises:
        Invalid: it is absent, too large or no JSON.

    """
    if not path.is_file() or path.stat().st_size > MAX_CONFIG_BYTES:
        raise Invalid(
            f"{path} is no configuration",
            f"it is absent or over {MAX_CONFIG_BYTES} bytes",
            "name the config.json of the model",
            param="config",
        )
    try:
        return json.loads(path.read_bytes(), parse_constant=lambda word: 0.0 if word == "NaN" else 1e308)
    except (ValueError, RecursionError) as error:
        raise Invalid(
            f"{path} is not JSON", str(error)[:120], "name the config.json of the model", param="config"
        ) from error


def folder_architecture(folder: Path) -> Architecture:
    """Return the architecture of the ``config.json`` beside safetensors files."""
    return from_config(read_config_file(folder / "config.json"), folder.name)


def gguf_architecture(path: Path) -> Architecture:
    """Return the architecture in the fields of a GGUF header.

    Raises:
        Invalid: the file is not well formed, or an architecture this planner does not read from a header.

    """
    header = gguf_header(path)
    name = header.text("general.architecture") or ""
    if header.text("general.type") == "adapter" or not name:
        raise Invalid(
            f"{path.name} is no model",
            "its header says adapter" if name else "its header names no architecture",
            "name the weights, and an adapter with --adapter",
            param="file",
        )
    return from_config(_as_config(header, name), header.text("general.name") or path.stem)


_FIELDS: Final = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "v_head_dim": "attention.value_length",
    "sliding_window": "attention.sliding_window",
    "max_position_embeddings": "context_length",
    "num_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "n_shared_experts": "expert_shared_count",
    "moe_intermediate_size": "expert_feed_forward_length",
    "shared_expert_intermediate_size": "expert_shared_feed_forward_length",
    "first_k_dense_replace": "leading_dense_block_count",
}
_PLAIN: Final = {
    "llama", "mistral", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "phi3", "gemma2", "gemma3", "gemma",
    "gpt-oss", "hunyuan-moe", "granite", "olmo2", "apertus", "exaone", "smollm3", "minimax-m2", "starcoder2",
}  # fmt: skip
"""Architectures of grouped-query attention, whose header says all that a cache needs."""


def _as_config(header: gguf.Header, name: str) -> dict[str, Any]:
    """Return the header's facts under the keys of a ``config.json``."""
    if name not in _PLAIN:
        raise Invalid(
            f"the header of a {name[:40]!r} model does not say all that a plan needs",
            f"read from a header are {', '.join(sorted(_PLAIN))}",
            "pass its config.json as well: --model-config config.json",
            param="file",
        )
    out: dict[str, Any] = {"model_type": name.replace("-", "_")}
    for key, field in _FIELDS.items():
        value = header.fields.get(f"{name}.{field}")
        if isinstance(value, gguf.Array):
            raise Invalid(
                f"{name}.{field} differs by layer, and a header's lists are not kept",
                "the bytes of the weights are known, the cache is not",
                "pass its config.json as well: --model-config config.json",
                param="file",
            )
        if value is not None:
            out[key] = value
    tokens = header.fields.get("tokenizer.ggml.tokens")
    listed = tokens.count if isinstance(tokens, gguf.Array) else None
    out["vocab_size"] = listed or header.number(f"{name}.vocab_size")
    names = {tensor.name for tensor in header.tensors}
    out["tie_word_embeddings"] = "output.weight" not in names
    out["attention_bias"] = any(one.endswith("attn_q.bias") for one in names)
    return out
