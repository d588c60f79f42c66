"""Exact bytes: weights, cache, state, engine reserve and adapters on the fullest device, with an interval.

Weights come from the header of a file where there is one, else from the configuration and the precision.
A verdict says ``fits`` only if the upper bound of the interval fits; what is between the bounds is too
close to tell, and counts as not fitting.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Final, Literal

import msgspec

from allod.domain.errors import Invalid
from allod.planner import quants
from allod.planner.architecture import Architecture
from allod.planner.catalogue import Device, ModelCard
from allod.planner.estimate import Estimate
from allod.planner.layers import Layer
from allod.planner.reserve import (
    Engine,
    Range,
    compute_buffer,
    engine_named,
    on_cpu,
    runtime,
    spread,
    usable_bytes,
)

MAX_CONTEXT: Final = 100_000_000
MAX_CONCURRENCY: Final = 1_000_000
MAX_DEVICES: Final = 100_000
LEVEL: Final = 0.9
"""Share of real machines whose need the interval is meant to hold."""
PAGE_TOKENS: Final = 16
CELLS: Final = 256
"""llama.cpp rounds the cells of a cache up to this."""
KV_BITS: Final = {
    "f16": 16.0, "bf16": 16.0, "fp16": 16.0, "f32": 32.0, "fp8": 8.0, "int8": 8.0, "q8_0": 8.5, "q5_1": 6.0,
    "q5_0": 5.5, "q4_1": 5.0, "q4_0": 4.5, "iq4_nl": 4.5, "nvfp4": 4.5, "int4": 4.5,
}  # fmt: skip
UNFAMILIAR: Final = 0.1
"""Relative half-width of weights of a kind of model whose counts nobody checked."""
HOST_SHARE: Final = 0.5
"""Of a model that ollama is taken to put on a host of unknown size."""
SCALES: Final = (1, 2, 4, 8, 16, 32, 64, 72)
Answer = Literal["fits", "does not fit", "too close to tell", "not known"]


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of weights: all, the embedding among them, what a vision tower and speculation add.

    ``exact`` tells that a header was read, tensor by tensor; ``source`` says which.
    """

    total: Range
    embedding: float
    vision: float = 0.0
    draft: float = 0.0
    exact: bool = False
    source: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a model runs on a machine, and why.

    Attributes:
        fits: True only where even the upper bound fits.
        answer: the same in words, with what is too close to tell or not known.
        need: bytes on the fullest device.
        have_bytes: what the engine may take of one device, None if the device's memory is not known.
        margin: have less the upper bound of need, bytes; negative does not fit.
        parts: what the need is made of, bytes, on the fullest device.
        sequences: how many sequences of the asked context the memory holds at once.
        max_context: tokens one sequence may have with the asked concurrency, 0 if none.

    """

    fits: bool
    answer: Answer
    need: Estimate
    have_bytes: float | None
    margin: float | None
    parts: dict[str, float]
    sequences: int | None = None
    max_context: int | None = None
    notes: tuple[str, ...] = ()


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a machine: tokens of a sequence, sequences at once, precision of the cache."""

    context: int
    concurrency: int = 1
    kv_quant: str = "f16"
    adapters_bytes: float = 0.0


def bytes_per_param(quant: str, part: str = "dense") -> float:
    """Return bytes per parameter of a part of a model (``layers.PARTS``, ``embedding``, ``head``).

    Of a GGUF mixture it is the type most layers get.

    Raises:
        Invalid: quantisation or part is not known.

    """
    kinds = {"routed_experts": "routed", "shared_experts": "shared"}
    known = ("embedding", "head", "attention", "norm", "dense", "router", *kinds)
    if part not in known:
        raise Invalid(f"no part {part[:40]!r} is known", f"known are {', '.join(known)}", "name one of these")
    one = quants.precision(quant)
    layer = Layer(heads=4, kv_heads=1, intermediate=1024)
    arch = Architecture(name="", hidden=1024, vocab=1024, tied=False, max_position=0, layers=(layer,) * 32)
    return quants.bits_of(one, kinds.get(part, part), 12, arch, layer) / 8


def weights_bytes(arch: Architecture, quant: str) -> Weights:
    """Return the bytes of a model's weights at a precision.

    Raises:
        Invalid: the quantisation is not known.

    """
    one = quants.precision(quant, arch)
    total, embedding = quants.model_bytes(arch, one)
    spread_of = one.spread if arch.familiar else max(one.spread, UNFAMILIAR)
    draft = sum(arch.draft_parts().values()) * quants.bits_of(one, "routed", 1, arch, None) / 8
    return Weights(
        total=spread(total, spread_of),
        embedding=embedding,
        vision=arch.vision_params * 2.0,
        draft=draft,
        source=f"{arch.name} by its configuration at {one.name}" + (f" ({one.note})" if one.note else ""),
    )


def checkpoint_bytes(arch: Architecture, quant: str) -> Range:
    """Return the size of a whole checkpoint: speculation layers and vision tower are stored with it."""
    weights = weights_bytes(arch, quant)
    # a stored speculation layer of DeepSeek repeats embedding and head
    ends = 2 * 2.0 * arch.vocab * arch.hidden if weights.draft and not arch.tied else 0.0
    return (
        weights.total + spread(weights.draft + weights.vision, 0.05) + Range(value=ends / 2, low=0, high=ends)
    )


def check_load(context: int, concurrency: int, devices: int) -> None:
    """Check that what is asked can be meant.

    Raises:
        Invalid: a number is no whole number of its range.

    """
    for name, value, high in (
        ("context", context, MAX_CONTEXT),
        ("concurrency", concurrency, MAX_CONCURRENCY),
        ("devices", devices, MAX_DEVICES),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= high:
            raise Invalid(
                f"{name} is {str(value)[:40]}",
                f"expected a whole number from 1 to {high}",
                f"give --{name} as a number of that range",
                param=name,
            )


def kv_bits(name: str) -> float:
    """Return the bits per cached element of a cache precision.

    Raises:
        Invalid: the name is not known.

    """
    bits = KV_BITS.get(name.strip().lower())
    if bits is None:
        raise Invalid(
            f"no cache precision {name[:40]!r} is known",
            f"known are {', '.join(KV_BITS)}",
            "name one of these",
            param="kv_quant",
        )
    return bits


def cache_bytes(arch: Architecture, engine: Engine, load: Load, context: int | None = None) -> float:
    """Return the cache and state of one sequence in all layers, whole pages or cells, on one device."""
    tokens = load.context if context is None else context
    block = PAGE_TOKENS if engine.paged else CELLS
    tokens = -(-tokens // block) * block
    elements = 0.0
    for layer in arch.layers:
        if layer.window and not engine.paged and layer.window < tokens:
            seen = layer.window + 512
            layer = msgspec.structs.replace(layer, window=-(-seen // block) * block)  # noqa: PLW2901
        elements += layer.count * layer.kv_elements(tokens)
    return elements * kv_bits(load.kv_quant) / 8 + arch.state_elements() * arch.state_bytes_per_element


def cache_share(arch: Architecture, engine: Engine, devices: int) -> float:
    """Return the share of a sequence's cache on one device.

    Tensor parallelism divides key heads and repeats what cannot be divided: a latent is on every device.
    llama.cpp divides by whole layers.
    """
    if devices == 1:
        return 1.0
    if not engine.paged:
        return layers_share(arch, devices)
    total = shared = 0.0
    for layer in arch.layers:
        size = layer.count * layer.kv_elements(65536)
        ways = min(devices, layer.kv_heads) if layer.attention in {"full", "sliding"} else 1
        total += size
        shared += size / max(ways, 1)
    return shared / total if total else 1.0 / devices


def layers_share(arch: Architecture, devices: int) -> float:
    """Return the share on the fullest of devices that take whole layers; the head counts as a layer."""
    count = arch.layer_count + 1
    return -(-count // devices) / count


def need_of(
    arch: Architecture, weights: Weights, device: Device, devices: int, engine: Engine, load: Load
) -> tuple[dict[str, float], Range]:
    """Return the parts and the range of bytes on the fullest device, by the layout that needs the least.

    Engines that divide tensors may instead keep attention whole on every device and share out the
    sequences (data-parallel attention), which saves what dividing repeats of a latent cache.
    """
    whole = load.concurrency * cache_share(arch, engine, devices)
    found = _need(arch, weights, device, devices, engine, load, sequences=whole, repeated=0.0)
    if engine.paged and devices > 1:
        parts = arch.parts()
        share = parts["attention"] / sum(parts.values())
        each = float(-(-load.concurrency // devices))
        other = _need(arch, weights, device, devices, engine, load, sequences=each, repeated=share)
        found = min(found, other, key=lambda one: one[1].high)
    return found


def _need(
    arch: Architecture,
    weights: Weights,
    device: Device,
    devices: int,
    engine: Engine,
    load: Load,
    *,
    sequences: float,
    repeated: float,
) -> tuple[dict[str, float], Range]:
    """Return the parts where a device holds so many sequences and repeats a share of the weights."""
    discrete_llama = engine.family == "llamacpp" and not device.unified and not on_cpu(device, engine)
    on_host = weights.embedding if discrete_llama and not arch.tied else 0.0
    part = layers_share(arch, devices) if not engine.paged else 1.005 / devices if devices > 1 else 1.0
    part += repeated * (1 - 1 / devices)
    body = weights.total.value - on_host
    slack = (weights.total.high - weights.total.value) / weights.total.value
    vision = 0.0 if engine.family == "llamacpp" else weights.vision
    held = Range(value=body, low=body * (1 - slack), high=body * (1 + slack)).times(part)
    state = arch.state_elements() * arch.state_bytes_per_element * sequences
    cache = cache_bytes(arch, engine, load) * sequences
    pages = spread(cache, 0.02 if engine.paged else 0.005)
    buffers = compute_buffer(arch, engine, load.context, load.concurrency, devices)
    fixed = runtime(device, engine, devices)
    adapters = load.adapters_bytes
    extra = Range(value=vision + adapters, low=adapters, high=vision + adapters)
    parts = {
        "weights": held.value,
        "cache": cache - state,
        "state": state,
        "buffers": buffers.value,
        "runtime": fixed.value,
        "vision": vision,
        "adapters": adapters,
        "on_host": on_host,
    }
    total = held + pages + buffers + fixed + extra
    return {name: value for name, value in parts.items() if value}, total


def fit(
    device: Device,
    devices: int,
    arch: Architecture,
    weights: Weights,
    engine: str | Engine,
    load: Load,
    *,
    as_of: date,
    memory_bytes: int | None = None,
    limits: bool = True,
) -> Verdict:
    """Return whether a model with these weights runs on machines of one kind.

    ``memory_bytes`` overrides the device's memory; without ``limits`` nobody looks for the most sequences
    and the longest context.

    Raises:
        Invalid: what is asked is out of range, or the engine or cache precision is not known.

    """
    check_load(load.context, load.concurrency, devices)
    one = engine if isinstance(engine, Engine) else engine_named(engine)
    parts, total = need_of(arch, weights, device, devices, one, load)
    need = Estimate(
        value=total.value,
        low=total.low,
        high=total.high,
        level=1.0 if total.low == total.high else LEVEL,
        source=f"{weights.source}; {one.name or one.family} reserve",
        as_of=as_of,
    )
    memory = device.mem_bytes if memory_bytes is None else memory_bytes
    if memory is None:
        note = f"the memory of {device.id} is not known: pass --memory GIB"
        return Verdict(
            fits=False,
            answer="not known",
            need=need,
            have_bytes=None,
            margin=None,
            parts=parts,
            notes=(note,),
        )
    have = max(usable_bytes(device, memory, one), 0.0)
    answer: Answer = (
        "fits" if total.high <= have else "does not fit" if total.low > have else "too close to tell"
    )
    sequences, longest = _limits(arch, weights, device, devices, one, load, have) if limits else (None, None)
    return Verdict(
        fits=answer == "fits",
        answer=answer,
        need=need,
        have_bytes=have,
        margin=have - total.high,
        parts=parts,
        sequences=sequences,
        max_context=longest,
        notes=_notes(arch, load, sequences, one),
    )


def _notes(arch: Architecture, load: Load, held: int | None, engine: Engine) -> tuple[str, ...]:
    out = []
    if arch.max_position and load.context > arch.max_position:
        out.append(f"the maker declares {arch.max_position} tokens; {load.context} were asked")
    if engine.paged and held is not None and 1 <= held < load.concurrency:
        out.append(f"{held} of {load.concurrency} sequences are held at once; the others wait for pages")
    return tuple(out)


def _limits(
    arch: Architecture,
    weights: Weights,
    device: Device,
    devices: int,
    engine: Engine,
    load: Load,
    have: float,
) -> tuple[int, int]:
    """Return the most sequences and the longest context that fit by the upper bound; both are monotone."""

    def most(field: str, limit: int) -> int:
        def ok(n: int) -> bool:
            asked = msgspec.structs.replace(load, **{field: n})
            return need_of(arch, weights, device, devices, engine, asked)[1].high <= have

        return _largest(ok, limit)

    return most("concurrency", MAX_CONCURRENCY), most("context", arch.max_position or MAX_CONTEXT)


def _largest(ok: Callable[[int], bool], limit: int) -> int:
    """Return the largest whole number up to the limit for which a monotone condition holds, 0 if none."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if ok(middle):
            low = middle
        else:
            high = middle - 1
    return low


def shape_of(model: ModelCard) -> Architecture:
    """Return the shape of a model.

    Raises:
        Invalid: it is not known.

    """
    if model.architecture is None:
        raise Invalid(
            f"the architecture of {model.id} is not known",
            "neither its configuration nor a file of its weights is in the catalogue",
            "pass --model-config config.json or --file model.gguf",
            param="model",
        )
    return model.architecture


def held(device: Device, devices: int, model: ModelCard, quant: str, engine: str, context: int) -> Verdict:
    """Return whether a model runs on so many devices, and how many sequences of a length it holds at once.

    Raises:
        Invalid: quantisation, engine or length is wrong, or the model's architecture is not known.

    """
    arch = shape_of(model)
    load, day = Load(context=context), max(device.as_of, model.as_of)
    return fit(device, devices, arch, weights_bytes(arch, quant), engine, load, as_of=day)


def runs(
    device: Device,
    devices: int | None,
    model: ModelCard,
    quant: str,
    engine: str,
    context: int,
    concurrency: int = 1,
    *,
    kv_quant: str = "f16",
) -> Verdict:
    """Return whether a measured run of this kind starts and answers.

    A paged engine runs as soon as one sequence fits, the others wait; llama.cpp reserves all at start;
    ollama puts up to half of what does not fit on the host. Where the number of devices is not stated it is
    the fewest that fit, up to the scale-up domain; where the precision is not, it is what the maker
    publishes, else the largest usual one that fits.

    Raises:
        Invalid: quantisation, engine or load is wrong, or the model's architecture is not known.

    """
    one = engine_named(engine)
    arch = shape_of(model)
    load = Load(context=context, concurrency=1 if one.paged else concurrency, kv_quant=kv_quant)
    day = max(device.as_of, model.as_of)
    counts = [devices] if devices else [n for n in SCALES if n <= max(device.scaleup_devices or 8, 1)]
    names = [quant] if quant else [arch.stored or "bf16", "q4_k_m", "q2_k"]
    verdict: Verdict | None = None
    for name in names:
        weights = weights_bytes(arch, name)
        for count in counts:
            verdict = fit(device, count, arch, weights, one, load, as_of=day, limits=False)
            if verdict.fits or _spills(verdict, one):
                return verdict if verdict.fits else _spilled(verdict)
    assert verdict is not None
    return verdict


def _spills(verdict: Verdict, engine: Engine) -> bool:
    """Tell whether ollama would start anyway, with layers on the host."""
    have = verdict.have_bytes
    return "ollama" in engine.name and have is not None and verdict.need.value <= have / (1 - HOST_SHARE)


def _spilled(verdict: Verdict) -> Verdict:
    over = verdict.need.value - (verdict.have_bytes or 0.0)
    note = f"{over / (1 << 30):.1f} GiB lie in the host's memory: it runs, and slowly"
    return msgspec.structs.replace(verdict, fits=True, answer="fits", notes=(*verdict.notes, note))
