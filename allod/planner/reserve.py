"""What an engine takes beside weights and cache, and how much of a device's memory it may have.

llama.cpp reserves its compute buffer for one micro-batch of 512 tokens: logits of each, activations, and
attention scores where flash attention is off (its default before August 2025). Engines with paged caches
(vLLM, SGLang, TensorRT-LLM) profile one prefill chunk and take a share of the device. Driver contexts,
graphs and collectives are ranges as their users report them; the ranges are the intervals.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from allod.domain.errors import Invalid
from allod.planner.architecture import Architecture
from allod.planner.catalogue import Device

MIB: Final = 1 << 20
GIB: Final = 1 << 30
MICRO_BATCH: Final = 512
MASK_BYTES: Final = 48
"""Per cell of llama.cpp's cache, beside the cache: measured on the embedded engine, 2026-11."""
VOCABULARY_BYTES: Final = 300
"""Per word of a vocabulary: texts and tables on the host."""
PREFILL_CHUNK: Final = 8192
Family = Literal["llamacpp", "vllm", "sglang", "trtllm", "transformers"]
FAMILIES: Final[Mapping[str, Family]] = {
    "llamacpp": "llamacpp", "llama.cpp": "llamacpp", "llama-server": "llamacpp", "ollama": "llamacpp",
    "ds4": "llamacpp", "mlx": "llamacpp", "vllm": "vllm", "dynamo": "vllm", "compatible": "vllm",
    "mindie": "vllm", "lmdeploy": "vllm", "tgi": "vllm", "amd": "sglang", "sglang": "sglang",
    "trtllm": "trtllm", "tensorrt": "trtllm", "tensorrt-llm": "trtllm", "tensorrt-edge-llm": "trtllm",
    "transformers": "transformers",
}  # fmt: skip
SHARES: Final[Mapping[Family, float]] = {
    "llamacpp": 1.0, "vllm": 0.95, "sglang": 0.95, "trtllm": 0.95, "transformers": 1.0,
}  # fmt: skip
"""Of a device's memory, as their users set it at most; vLLM's own default is 0.9."""


ECC_SHARE: Final = 1 / 16
ECC_ON: Final = frozenset({"l4", "l40s", "a40", "a10", "t4"})
"""Cards that keep one sixteenth of their GDDR6 for error correction as delivered: nvidia-smi tells 46,068 MiB
of 48 GB (A40, L40S), 23,034 of 24 (L4), 23,028 of 24 (A10) and 15,360 of 16 (T4)."""


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """An engine as far as memory goes.

    Attributes:
        paged: the cache is pages: requests that do not fit wait, they do not fail.
        share: of a device's memory the engine takes at most.
        flash: attention without a matrix of scores.
        backend: ``cuda``, ``vulkan``, ``metal``, ``cpu``, ... as far as the name says.

    """

    family: Family
    name: str
    paged: bool
    share: float
    flash: bool = True
    backend: str = ""


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes with the bounds within which they are seen."""

    value: float
    low: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(value=self.value + other.value, low=self.low + other.low, high=self.high + other.high)

    def times(self, factor: float) -> Range:
        """Return the range scaled by a positive factor."""
        return Range(value=self.value * factor, low=self.low * factor, high=self.high * factor)


def spread(value: float, relative: float) -> Range:
    """Return a value with a relative half-width."""
    return Range(value=value, low=value * (1 - relative), high=value * (1 + relative))


def engine_named(name: str) -> Engine:
    """Return an engine by its name as people write it (``vllm 0.19.0``, ``llama.cpp 2024-05``, ``ollama``).

    Raises:
        Invalid: the name holds no engine that is known.

    """
    text = str(name).strip().lower()
    words = text.replace("/", " ").split()
    family = next((FAMILIES[word] for word in words if word in FAMILIES), None)
    if family is None:
        family = next((FAMILIES[key] for key in FAMILIES if text.startswith(key)), None)
    if family is None:
        raise Invalid(
            f"no engine {str(name)[:60]!r} is known",
            "known are llamacpp, vllm, sglang, trtllm, transformers",
            "name one of these, with its version behind it if you like",
            param="engine",
        )
    backend = next((one for one in ("vulkan", "metal", "cuda", "rocm", "cpu", "sycl") if one in text), "")
    share = SHARES[family]
    old = family == "llamacpp" and any(f"{year}-" in text for year in (2023, 2024))
    return Engine(
        family=family,
        name=text,
        paged=family in {"vllm", "sglang", "trtllm"},
        share=share,
        flash=not old and family != "transformers",
        backend=backend,
    )


def usable_bytes(device: Device, memory: int, engine: Engine) -> float:
    """Return what an engine may take of one device of ``memory`` bytes.

    Discrete cards keep 1 to 2 % for the driver, some a sixteenth for error correction (``ECC_ON``). Apple
    lets a process wire two thirds of a small and three quarters of a large machine. A phone ends an
    application that takes over about half (an assumption). Other shared memories also hold the system: 2 GiB
    or 6 %, whichever is more.
    """
    if device.device_class == "phone":
        return memory * 0.5
    if not device.unified:
        if device.id in ECC_ON and memory % (8 * GIB) == 0:  # as the maker names it, not as measured
            memory = int(memory * (1 - ECC_SHARE))
        return memory * 0.985 * engine.share
    if device.vendor == "Apple":
        return memory * (0.75 if memory > 36 * GIB else 0.67)
    return min(memory - 2 * GIB, memory * 0.94) * min(engine.share, 1.0)


def on_cpu(device: Device, engine: Engine) -> bool:
    """Tell whether there is no accelerator: nothing is kept twice, and no driver takes a share."""
    return device.device_class.startswith("cpu") or engine.backend == "cpu"


def scores_bytes(arch: Architecture, context: float, batch: int) -> float:
    """Return the scores of one layer of attention without flash attention, 32 bits each."""
    heads = max((layer.heads for layer in arch.layers), default=0)
    return 4.0 * heads * batch * context


def widest(arch: Architecture) -> int:
    """Return the widest activation of a layer, elements per token."""
    out = arch.hidden
    for layer in arch.layers:
        routed = layer.experts_per_token * layer.moe_intermediate
        attention = layer.heads * max(layer.head_dim, layer.value_dim)
        out = max(out, layer.intermediate, routed + layer.shared_intermediate, attention)
    return out


def compute_buffer(
    arch: Architecture, engine: Engine, context: float, concurrency: int, devices: int
) -> Range:
    """Return the activation and logits buffers of the fullest device."""
    if engine.family == "llamacpp":
        batch = int(min(MICRO_BATCH, max(context, 1)))
        logits = 4.0 * batch * arch.vocab
        body = 4.0 * batch * (4 * arch.hidden + 2 * widest(arch))
        scores = 0.0 if engine.flash else scores_bytes(arch, context, batch)
        value = max(logits + 4.0 * batch * arch.hidden, body + scores) + MASK_BYTES * context * concurrency
        value += VOCABULARY_BYTES * arch.vocab
        return Range(value=value, low=0.6 * value, high=1.3 * value + 32 * MIB)
    chunk = min(PREFILL_CHUNK, max(context * concurrency, 1))
    body = 2.0 * chunk * (6 * arch.hidden + 2 * widest(arch) / devices)
    logits = 4.0 * min(concurrency, 1024) * arch.vocab / devices
    scores = 0.0 if engine.flash else scores_bytes(arch, context, int(min(context, 1 << 20)))
    value = body + logits + scores
    return Range(value=value, low=0.5 * value, high=2.0 * value)


def runtime(device: Device, engine: Engine, devices: int) -> Range:
    """Return driver context, kernels, graphs and collectives of one device."""
    if engine.family == "llamacpp":
        if on_cpu(device, engine):
            return Range(value=41 * MIB, low=34 * MIB, high=64 * MIB)
        if device.unified:
            return Range(value=700 * MIB, low=150 * MIB, high=1600 * MIB)
        more = 64 * MIB if devices > 1 else 0
        return Range(value=350 * MIB + more, low=200 * MIB, high=520 * MIB + 2 * more)
    base = Range(value=2.2 * GIB, low=1.0 * GIB, high=3.5 * GIB)
    if engine.family == "transformers":
        base = Range(value=0.9 * GIB, low=0.5 * GIB, high=1.6 * GIB)
    together = Range(value=0.7 * GIB, low=0.2 * GIB, high=1.5 * GIB)
    return base + together if devices > 1 else base
