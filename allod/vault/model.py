"""What a GGUF header says about a model, and the checks an engine forgets."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from allod.domain.errors import Invalid
from allod.vault import gguf
from allod.vault.gguf import Array, Header, refuse

Kind = Literal["model", "adapter"]
MAX_LAYERS: Final = 512
_FILE_TYPES: Final[dict[int, str]] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16",
    36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
}  # fmt: skip
_VOCABULARY: Final = "tokenizer.ggml."
_PARALLEL: Final[dict[str, int]] = {"scores": gguf.F32, "token_type": gguf.I32}
"""Arrays an engine reads beside the tokens, by raw pointer: element type and count must be right."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the header declares: for display and for loading, never for trust.

    ``context_tokens`` and ``parameters`` are None where the file does not say.
    """

    kind: Kind
    architecture: str
    quantisation: str
    context_tokens: int | None
    parameters: int
    licence: str | None


def _check_vocabulary(header: Header) -> None:
    tokens = header.fields.get(_VOCABULARY + "tokens")
    if tokens is None:
        return
    if not isinstance(tokens, Array) or tokens.type != gguf.STRING or tokens.count == 0:
        refuse("tokenizer.ggml.tokens is not a list of strings")
    for name, kind in _PARALLEL.items():
        beside = header.fields.get(_VOCABULARY + name)
        if beside is not None and beside != Array(kind, tokens.count):
            refuse(f"{_VOCABULARY}{name} does not match the {tokens.count} tokens in type or count")
    for key, value in header.fields.items():
        if not key.startswith(_VOCABULARY):
            continue
        if key.endswith("_token_id") and not (isinstance(value, int) and 0 <= value < tokens.count):
            refuse(f"{key} points outside the vocabulary of {tokens.count} tokens")
        if key.endswith("merges") and not (isinstance(value, Array) and value.type == gguf.STRING):
            refuse(f"{key} is not a list of strings")
    _check_extras(header)


def _check_extras(header: Header) -> None:
    charsmap = header.fields.get(_VOCABULARY + "precompiled_charsmap")
    if charsmap is not None:
        shaped = isinstance(charsmap, Array) and charsmap.type in {gguf.U8, gguf.I8} and charsmap.count >= 4  # noqa: PLR2004
        if not shaped:
            refuse("tokenizer.ggml.precompiled_charsmap is shorter than its own header")
    suppressed = header.fields.get(_VOCABULARY + "suppress_tokens")
    if suppressed is not None and not (isinstance(suppressed, Array) and suppressed.type == gguf.I32):
        refuse("tokenizer.ggml.suppress_tokens is not a list of 32-bit numbers")


def _check_split(header: Header, *, part: bool) -> None:
    parts = header.number("split.count")
    if parts is not None and parts > 1 and not part:
        raise Invalid(
            "this model is split over several files",
            f"the file says it is one of {parts} parts; a part alone cannot be verified",
            "add the folder that holds all parts, or merge them into one file",
        )


def _check_layers(header: Header, architecture: str) -> None:
    layers = header.number(f"{architecture}.block_count")
    if layers is not None and not 0 < layers <= MAX_LAYERS:
        refuse(f"{architecture}.block_count is {layers}, allowed are 1 to {MAX_LAYERS}")


def _quantisation(header: Header) -> str:
    """Name the file type, or the type that holds most bytes."""
    declared = header.number("general.file_type")
    if declared in _FILE_TYPES:
        return _FILE_TYPES[declared]
    weight: dict[int, int] = {}
    for tensor in header.tensors:
        weight[tensor.type] = weight.get(tensor.type, 0) + tensor.size_bytes
    return gguf.TENSOR_TYPES[max(weight, key=lambda kind: weight[kind])][0]


def _parameters(header: Header) -> int:
    total = 0
    for tensor in header.tensors:
        elements = 1
        for size in tensor.dims:
            elements *= size
        total += elements
    return total


def facts(header: Header, *, part: bool = False) -> Facts:
    """Check what a model or adapter must have and say what it is.

    ``part`` allows the first of several parts; ``parts`` checks that the others belong to it.

    Raises:
        Invalid: a vocabulary, layer count, split or adapter that an engine would stumble over.

    """
    architecture = header.text("general.architecture")
    if not architecture or not architecture.replace("-", "").replace("_", "").isalnum():
        refuse("general.architecture is missing or not a plain name")
    _check_split(header, part=part)
    _check_layers(header, architecture)
    _check_vocabulary(header)
    kind: Kind = "adapter" if header.text("general.type") == "adapter" else "model"
    if kind == "adapter":
        if header.text("adapter.type") != "lora":
            refuse("it is an adapter of another type than lora")
        if header.templates:
            refuse("an adapter may not carry a chat template")
    else:
        smuggled = next((t.name for t in header.tensors if t.name.endswith((".lora_a", ".lora_b"))), None)
        if smuggled is not None:
            refuse(f"it holds {smuggled}, a tensor of an adapter, and says it is none")
    return Facts(
        kind=kind,
        architecture=architecture,
        quantisation=_quantisation(header),
        context_tokens=header.number(f"{architecture}.context_length"),
        parameters=_parameters(header),
        licence=header.text("general.license"),
    )
