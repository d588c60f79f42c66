"""Bits per parameter by precision and kind of tensor: what a file of weights really holds.

GGUF mixtures follow llama.cpp's choice of a type per tensor (``llama-quant.cpp``): the head and the tensors
that matter most get more bits, by layer. Block sizes are those of ``vault.gguf.TENSOR_TYPES``. For served
precisions the parts a maker leaves alone (embedding, head, router, norms, often attention) stay at 16 bits,
as in the ``quantization_config`` of the published checkpoints.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal

import msgspec

from allod.domain.errors import Invalid
from allod.planner.architecture import Architecture
from allod.planner.layers import Layer
from allod.vault.gguf import TENSOR_TYPES

Kind = Literal[
    "embedding", "head", "norm", "router", "attention", "value", "output", "dense", "dense_down", "routed",
    "routed_down", "shared", "shared_down", "vision",
]  # fmt: skip
BITS: Final[Mapping[str, float]] = {name: 8 * size / block for name, block, size in TENSOR_TYPES.values()}
"""Bits per parameter of every GGUF tensor type."""
SUPER_BLOCK: Final = 256
FALLBACK: Final = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""What llama.cpp takes where a row is no multiple of 256; legacy types need a multiple of 32."""
GQA_OF_70B: Final = 8
LAYERS_OF_70B: Final = 80
FP8: Final = 8.0 + 32 / (128 * 128)
"""Eight bits and one 32-bit scale for a block of 128 x 128 (DeepSeek V3); scales by channel weigh less."""
NVFP4: Final = 4.5
"""Four bits and one 8-bit scale for 16 values."""
MXFP4: Final = 4.25
"""Four bits and one 8-bit exponent for 32 values (OCP Microscaling v1.0)."""
GROUP_128: Final = 4 + (16 + 4) / 128
"""Four bits; a 16-bit scale and a 4-bit zero for 128 values (AWQ, GPTQ)."""
GROUP_32: Final = 4 + 16 / 32
"""Four bits and a 16-bit scale for 32 values (compressed-tensors of Kimi K2)."""

Rule = Callable[[str, int, int, Layer | None], str]


class Precision(msgspec.Struct, frozen=True, kw_only=True):
    """How one named quantisation stores each kind of tensor.

    ``spread`` is the relative half-width within which the size of a real file of this name falls.
    """

    name: str
    gguf: bool = False
    spread: float = 0.01
    bits: Mapping[str, float] = msgspec.field(default_factory=dict)
    body: float = 16.0
    rule: str = ""
    note: str = ""


def _plain(name: str, body: float, spread: float = 0.01, **bits: float) -> Precision:
    kept = {"embedding": 16.0, "head": 16.0, "norm": 16.0, "router": 16.0, "vision": 16.0}
    return Precision(name=name, body=body, bits=kept | bits, spread=spread)


def _gguf(name: str, rule: str = "", spread: float = 0.015, note: str = "") -> Precision:
    return Precision(name=name, gguf=True, rule=rule or name, spread=spread, note=note)


_WIDE: Final = {"attention": 16.0, "value": 16.0, "output": 16.0}
_PLAIN: Final = (
    _plain("bf16", 16.0),
    _plain("f32", 32.0, embedding=32.0, head=32.0, norm=32.0, router=32.0, vision=32.0),
    _plain("fp8", FP8, 0.008),
    _plain("int8", 8.0 + 16 / 4096, 0.015),
    _plain("nvfp4", NVFP4, 0.03),
    _plain("mxfp4", MXFP4, 0.03),
    _plain("fp4+fp8", FP8, 0.02, routed=MXFP4, routed_down=MXFP4),
    _plain("int4", GROUP_128, 0.04),
    _plain("awq", GROUP_128, 0.03),
    _plain("gptq", GROUP_128, 0.03),
    _plain("4-bit", NVFP4, 0.12),
    _plain("int3", 3 + (16 + 3) / 128, 0.05),
    _plain("int2", 2 + (16 + 2) / 128, 0.08),
)
_EXACT: Final = (
    "q8_0 q6_k q5_k_m q5_k_s q4_k_m q4_k_s q3_k_l q3_k_m q3_k_s q2_k q4_0 q4_1 q5_0 q5_1 iq4_xs iq4_nl"
)
_NEARLY: Final = "iq3_m iq3_s iq3_xxs iq2_m iq2_xs iq2_xxs iq1_m iq1_s q2_k_s tq1_0 tq2_0"
_DYNAMIC: Final = "q8_k_xl q6_k_xl q5_k_xl q4_k_xl q3_k_xl q2_k_xl"
_GGUF: Final = (
    *(_gguf(name) for name in _EXACT.split()),
    *(_gguf(name, spread=0.04) for name in _NEARLY.split()),
    *(
        _gguf(name, spread=0.05, note="a dynamic mixture: its files differ by model")
        for name in _DYNAMIC.split()
    ),
)
PRECISIONS: Final[Mapping[str, Precision]] = {one.name: one for one in (*_PLAIN, *_GGUF)}
ALIASES: Final[Mapping[str, str]] = {
    "f16": "bf16", "fp16": "bf16", "float16": "bf16", "bfloat16": "bf16", "half": "bf16", "fp32": "f32",
    "float32": "f32", "e4m3": "fp8", "w8a8": "int8", "q8": "q8_0", "q6": "q6_k", "q5": "q5_k_m",
    "q4": "q4_k_m", "q3": "q3_k_m", "q2": "q2_k", "w4a16": "int4", "q4_k": "q4_k_m", "q5_k": "q5_k_m",
    "q3_k": "q3_k_m", "4bit": "4-bit", "8bit": "int8", "fp8+fp4": "fp4+fp8", "f16/mxfp4": "mxfp4",
    "bf16/mxfp4": "mxfp4", "mxfp4_moe": "mxfp4", "q4_xl": "q4_k_xl", "q6_xl": "q6_k_xl", "q5_xl": "q5_k_xl",
    "q8_xl": "q8_k_xl",
}  # fmt: skip
MAX_NAME: Final = 40


def precision(name: str, arch: Architecture | None = None) -> Precision:
    """Return a precision by name (``Q4_K_M``, ``UD-Q4_K_XL``, ``fp8``, ``FP4+FP8``, ``4-bit (unstated)``).

    ``fp4`` means what the model's maker publishes: MXFP4 for models trained in it, NVFP4 otherwise; four-bit
    checkpoints of models with latent attention, recurrent layers or many experts leave attention at 16 bits.

    Raises:
        Invalid: the name is not known.

    """
    plain = re.sub(r"\s*\(.*\)\s*$", "", str(name)).strip().lower().removeprefix("ud-").replace(" ", "")
    plain = ALIASES.get(plain, plain)
    if plain == "fp4":
        stored = arch.stored if arch is not None else ""
        plain = stored if stored in {"mxfp4", "fp4+fp8"} else "nvfp4"
    found = PRECISIONS.get(plain)
    if found is None:
        raise Invalid(
            f"no quantisation {str(name)[:MAX_NAME]!r} is known",
            "known are " + ", ".join(PRECISIONS),
            "name one of these, or give the file itself: --file model.gguf or a folder of safetensors",
            param="quant",
        )
    return _adapted(found, arch) if arch is not None else found


def _adapted(one: Precision, arch: Architecture) -> Precision:
    """Return the precision as the published checkpoints of models of this kind have it."""
    routed = any(layer.experts for layer in arch.layers)
    if not routed:
        return one
    bits = dict(one.bits)
    match one.name:
        case "mxfp4":
            shared = {"shared": 16.0, "shared_down": 16.0, "dense": 16.0, "dense_down": 16.0}
            return msgspec.structs.replace(one, bits=bits | _WIDE | shared)
        case "int4":
            shared = {"shared": 16.0, "shared_down": 16.0, "dense": 16.0, "dense_down": 16.0}
            routed_bits = {"routed": GROUP_32, "routed_down": GROUP_32}
            return msgspec.structs.replace(one, bits=bits | _WIDE | shared | routed_bits)
        case "nvfp4" | "4-bit":
            return msgspec.structs.replace(one, bits=bits | _WIDE, spread=max(one.spread, 0.04))
        case _:
            return one


def tensors(arch: Architecture) -> Iterator[tuple[str, int, int, Layer | None]]:
    """Yield (kind, layer index, parameters, layer) of every group of tensors, embedding and head first."""
    yield "embedding", -1, arch.vocab * arch.hidden + arch.extra_embedding, None
    if not arch.tied:
        yield "head", -1, arch.vocab * arch.hidden, None
    yield "norm", -1, arch.hidden + arch.hyper_params, None
    index = 0
    for layer in arch.layers:
        for _ in range(layer.count):
            yield from _of_layer(layer, index, arch.hidden)
            index += 1


def _of_layer(layer: Layer, index: int, hidden: int) -> Iterator[tuple[str, int, int, Layer | None]]:
    parts = layer.params(hidden)
    rest = layer.attention_params - layer.value_params - layer.output_params
    down = 1 / layer.matrices
    for kind, count in (
        ("attention", rest),
        ("value", layer.value_params),
        ("output", layer.output_params),
        ("norm", parts["norm"]),
        ("router", parts["router"]),
        ("dense", parts["dense"] - int(parts["dense"] * down)),
        ("dense_down", int(parts["dense"] * down)),
        ("routed", parts["routed_experts"] - int(parts["routed_experts"] * down)),
        ("routed_down", int(parts["routed_experts"] * down)),
        ("shared", parts["shared_experts"] - int(parts["shared_experts"] * down)),
        ("shared_down", int(parts["shared_experts"] * down)),
    ):
        if count:
            yield kind, index, count, layer


def bits_of(one: Precision, kind: str, index: int, arch: Architecture, layer: Layer | None) -> float:
    """Return the bits per parameter of one group of tensors of this model."""
    if not one.gguf:
        return one.bits.get(kind, one.body)
    if kind in {"norm", "router"}:
        return BITS["F32"]
    kind = "head" if kind == "embedding" and arch.tied else kind
    name = gguf_type(one.rule, kind, index, arch.layer_count, layer)
    width = _row(kind, arch, layer)
    if width % SUPER_BLOCK and name in FALLBACK:
        name = FALLBACK[name]
    return BITS[name if width % 32 == 0 or name.startswith(("F", "BF")) else "F16"]


def _row(kind: str, arch: Architecture, layer: Layer | None) -> int:
    """Return the length of a row, which the block size of a type must divide."""
    if layer is None:
        return arch.hidden
    widths = {
        "dense_down": layer.intermediate,
        "routed_down": layer.moe_intermediate,
        "shared_down": layer.shared_intermediate,
        "output": layer.output_params // arch.hidden,
    }
    return widths.get(kind) or arch.hidden


def more_bits(index: int, count: int) -> bool:
    """Tell whether a layer gets more bits: one of the first or last eighth, or every third between."""
    eighth = count // 8
    return index < eighth or index >= 7 * count // 8 or (index - eighth) % 3 == 2  # noqa: PLR2004 (their rule)


_BASE: Final[Mapping[str, str]] = {
    "q8_0": "Q8_0", "q6_k": "Q6_K", "q5_k_m": "Q5_K", "q5_k_s": "Q5_K", "q4_k_m": "Q4_K", "q4_k_s": "Q4_K",
    "q3_k_l": "Q3_K", "q3_k_m": "Q3_K", "q3_k_s": "Q3_K", "q2_k": "Q2_K", "q2_k_s": "Q2_K", "q4_0": "Q4_0",
    "q4_1": "Q4_1", "q5_0": "Q5_0", "q5_1": "Q5_1", "iq4_xs": "IQ4_XS", "iq4_nl": "IQ4_NL",
    "iq3_m": "IQ3_S", "iq3_s": "IQ3_S", "iq3_xxs": "IQ3_XXS", "iq2_m": "IQ2_S", "iq2_xs": "IQ2_XS",
    "iq2_xxs": "IQ2_XXS", "iq1_m": "IQ1_M", "iq1_s": "IQ1_S", "tq1_0": "TQ1_0", "tq2_0": "TQ2_0",
    "q8_k_xl": "Q8_0", "q6_k_xl": "Q6_K", "q5_k_xl": "Q5_K", "q4_k_xl": "Q4_K", "q3_k_xl": "Q3_K",
    "q2_k_xl": "Q2_K",
}  # fmt: skip
_SMALL: Final = ("iq1", "iq2", "iq3")
_EIGHT: Final = 8
"""Mixtures of eight experts get more bits in the small tensors that all experts share."""


def gguf_type(rule: str, kind: str, index: int, count: int, layer: Layer | None) -> str:
    """Return the GGUF tensor type that llama.cpp gives a tensor under a file type."""
    base = _BASE[rule]
    if rule.endswith("_xl"):
        return _dynamic(rule, base, kind, index, count)
    eight = layer is not None and layer.experts == _EIGHT
    match kind:
        case "head":
            name = "Q8_0" if base == "Q8_0" else "Q5_K" if rule.startswith(_SMALL) else "Q6_K"
        case "embedding":
            small = "Q2_K" if rule.startswith(("iq1", "iq2")) else base
            name = {"iq2_m": "IQ3_S", "iq3_xxs": "IQ3_S"}.get(rule, small)
        case "value":
            name = "Q8_0" if eight and base.startswith("Q") else _value_type(rule, base, index, count, layer)
        case "output":
            name = _output_type(rule, base, eight=eight)
        case "dense_down" | "routed_down" | "shared_down":
            name = _down_type(rule, base, index, count)
        case _:
            name = base
    return name


def _value_type(rule: str, base: str, index: int, count: int, layer: Layer | None) -> str:
    share = layer.heads // layer.kv_heads if layer is not None and layer.kv_heads else 1
    grouped = share >= GQA_OF_70B // 2
    match rule:
        case "q4_k_m" | "q5_k_m":
            name = "Q6_K" if more_bits(index, count) else base
        case "q4_k_s":
            name = "Q5_K" if index < 4 else base  # noqa: PLR2004 (their first four layers)
        case "q3_k_m":
            name = "Q5_K" if index < 2 else "Q4_K"  # noqa: PLR2004 (their first two layers)
        case "q3_k_l":
            name = "Q5_K"
        case "q2_k" | "q2_k_s":
            name = "Q4_K" if grouped else "Q3_K"
        case "iq4_xs" | "iq4_nl":
            name = "Q5_K" if grouped else base
        case _:
            name = "Q4_K" if grouped and rule.startswith(("iq2", "iq3")) else base
    of_70b = share >= GQA_OF_70B and count >= LAYERS_OF_70B
    return "Q5_K" if of_70b and name in {"Q3_K", "Q4_K"} else name


def _output_type(rule: str, base: str, *, eight: bool) -> str:
    if eight and base[:2] in {"Q2", "Q3", "Q4", "IQ"} and rule not in {"q3_k_l", "q4_0", "q4_1"}:
        return "Q5_K"
    return {"q2_k": "Q3_K", "q3_k_m": "Q4_K", "q3_k_l": "Q5_K", "iq3_m": "Q4_K"}.get(rule, base)


def _down_type(rule: str, base: str, index: int, count: int) -> str:
    first = index < count // 8
    match rule:
        case "q4_k_m" | "q5_k_m":
            name = "Q6_K" if more_bits(index, count) else base
        case "q4_k_s" | "iq4_xs" | "iq4_nl":
            name = "Q5_K" if first else base
        case "q3_k_m":
            name = "Q5_K" if index < count // 16 else "Q4_K"
        case "iq3_m" | "q2_k_s":
            name = "Q4_K" if first else base
        case _:
            name = {"q3_k_l": "Q5_K", "q2_k": "Q3_K"}.get(rule, base)
    return name


def _dynamic(rule: str, base: str, kind: str, index: int, count: int) -> str:
    """Return the type in a dynamic mixture: as its published files average, not as each of them is."""
    better = {"Q2_K": "Q4_K", "Q3_K": "Q5_K", "Q4_K": "Q5_K", "Q5_K": "Q6_K", "Q6_K": "Q8_0", "Q8_0": "F16"}[
        base
    ]
    if kind == "head":
        return {"q8_k_xl": "Q8_0", "q6_k_xl": "Q8_0"}.get(rule, "Q6_K")
    if kind == "embedding":
        return {"q8_k_xl": "Q8_0", "q6_k_xl": "Q8_0"}.get(rule, base)
    if kind in {"attention", "value", "output", "shared", "shared_down"}:
        return better
    edge = index < count // 8 or index >= 7 * count // 8
    return better if kind.endswith("_down") and edge else base


def model_bytes(arch: Architecture, one: Precision) -> tuple[float, float]:
    """Return (bytes of all weights, bytes of the embedding among them) without vision and speculation."""
    total = embedding = 0.0
    for kind, index, count, layer in tensors(arch):
        size = count * bits_of(one, kind, index, arch, layer) / 8
        total += size
        embedding += size if kind == "embedding" else 0.0
    return total, embedding
