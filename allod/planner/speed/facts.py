"""A machine and a model as the roofline sees them: from the catalogue, else assumed from their names.

What is assumed is marked (``known`` is false) and widens every interval; the commands refuse to plan on it
unless the user passes the fact, only the scoring entry point answers regardless.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.resources
import json
import re
from collections.abc import Mapping
from datetime import date
from typing import Final

import msgspec

from allod.domain.errors import Invalid
from allod.planner.architecture import Architecture, from_config
from allod.planner.catalogue import Device, ModelCard, shipped
from allod.planner.quants import bits_of, precision, tensors
from allod.planner.speed.names import KINDS, VENDOR_OF, bits_in, generation_of, sizes_in

GIB: Final = 1 << 30
Q8_0: Final = 8.5
FLOPS_PER_BYTE: Final = {
    "turing": 88.0,
    "volta": 130.0,
    "volta-soc": 60.0,
    "pascal": 30.0,
    "ampere": 78.0,
    "ampere-dc": 155.0,
    "ampere-soc": 205.0,
    "ada": 160.0,
    "blackwell-rtx": 117.0,
    "blackwell-soc": 700.0,
    "blackwell": 290.0,
    "hopper": 250.0,
    "cdna": 250.0,
    "rdna": 140.0,
    "rdna-soc": 115.0,
    "gaudi": 500.0,
    "xe": 215.0,
    "ascend": 230.0,
    "apple-12": 28.0,
    "apple-3": 36.0,
    "mobile": 40.0,
    "cpu": 12.0,
}
"""Dense 16-bit operations a second per byte a second of memory: typical of a generation, from its makers'
public figures for one part. Only used where the catalogue has no rate; it scales reading a prompt, and the
fitted efficiency absorbs the rest."""
ASSUMED: Final = (
    # pattern, bytes a second of memory, bytes of memory
    (r"thor", 273e9, 128 * GIB),
    (r"h20-141", 4000e9, 141 * GIB),
    (r"910b", 1600e9, 64 * GIB),
    (r"910c", 3200e9, 128 * GIB),
    (r"310p", 204e9, 48 * GIB),
    (r"rpi5|raspberry|cm5|pi-?5", 15e9, 16 * GIB),
    (r"ampereone", 330e9, 512 * GIB),
    (r"altra", 200e9, 256 * GIB),
    (r"epyc|graviton|grace", 400e9, 512 * GIB),
    (r"xeon", 280e9, 512 * GIB),
    (r"ryzen|core-|^cpu", 80e9, 64 * GIB),
)
TYPICAL: Final = {
    "blackwell": (8000e9, 180),
    "hopper": (3350e9, 80),
    "ampere-dc": (2000e9, 80),
    "ada": (700e9, 24),
    "ampere": (650e9, 24),
    "blackwell-rtx": (1200e9, 24),
    "turing": (450e9, 11),
    "volta": (900e9, 32),
    "pascal": (400e9, 11),
    "cdna": (5300e9, 192),
    "rdna": (700e9, 20),
    "rdna-soc": (200e9, 64),
    "xe": (400e9, 16),
    "gaudi": (3000e9, 128),
    "ascend": (1600e9, 64),
    "apple-12": (200e9, 32),
    "apple-3": (300e9, 64),
    "blackwell-soc": (273e9, 128),
    "ampere-soc": (150e9, 32),
    "volta-soc": (60e9, 16),
    "mobile": (60e9, 12),
    "cpu": (80e9, 64),
}
MEMORY_OF: Final = {"m1": 8 * GIB}
"""The smallest memory the part is sold with, where the catalogue is silent because it varies."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """One device. Bytes, bytes a second, dense operations a second by bits; ``known`` false: assumed."""

    id: str
    vendor: str
    generation: str
    kind: str
    memory: float
    bandwidth: float
    f16: float
    fp8: float
    fp4: float
    rack: bool
    known: bool
    note: str = ""

    def rate(self, quant_kind: str) -> float:
        """Return the operations a second for a kind of arithmetic (``names.kind_of``)."""
        return {"fp8": self.fp8, "fp4": self.fp4}.get(quant_kind, self.f16)


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """One model. Parameters; elements of cache for a context; ``known`` false: assumed from its name."""

    id: str
    shape: str
    total: float
    active: float
    routed: float
    embedding: float
    layers: int
    hidden: int
    experts: int
    experts_per_token: int
    kv_heads: int
    latent: bool
    indexed: bool
    linear: bool
    known: bool
    architecture: Architecture | None = None

    def kv_elements(self, context: float) -> float:
        """Return the cached elements of one sequence."""
        if self.architecture is not None:
            return self.architecture.kv_elements(context)
        return self.layers * 2.0 * 8 * 128 * context

    def prompt_flops(self, length: float) -> float:
        """Return the operations to read one prompt of this length."""
        if self.architecture is not None:
            return self.architecture.flops_prompt(length)
        return (
            2.0 * (self.active - self.embedding) * length + 2.0 * self.layers * self.hidden * length * length
        )


def bare(name: str) -> str:
    """Return a name without its remark in brackets."""
    return re.sub(r"\s*\(.*?\)\s*", " ", name).strip()


@functools.lru_cache(maxsize=4096)
def machine_named(name: str) -> Machine:
    """Return the machine of this name; where the catalogue is silent its facts are assumed and marked.

    By the shipped catalogue only: the points that ship were fitted, and the intervals validated, with it.
    """
    plain = bare(name)
    brief = re.sub(r"(?i)\b(nvidia|amd|intel|apple|geforce|radeon|instinct|tesla)\b", " ", plain)
    brief = re.sub(r"(?i)[\s_-]*\d+\s*gb\b.*$", "", brief).strip()
    for spelling in dict.fromkeys((plain, brief, re.sub(r"(?i)^(rtx|gtx|rx)\s*(\d)", r"\1-\2", brief))):
        try:
            return machine_of(shipped().find_device(spelling))
        except Invalid:
            continue
    return _assumed(plain)


def machine_of(device: Device) -> Machine:
    """Return what the roofline needs of a catalogued device."""
    gen = generation_of(device.id)
    guess = _assumed(device.id, device.mem_bytes)
    bandwidth = device.mem_bw_bytes_s or guess.bandwidth
    f16 = device.bf16_flops or bandwidth * FLOPS_PER_BYTE.get(gen, 100.0)
    if gen == "ampere-soc":
        f16 = max(f16, bandwidth * FLOPS_PER_BYTE[gen])
    fp8 = device.fp8_flops or f16
    return Machine(
        id=device.id,
        vendor=device.vendor,
        generation=gen,
        kind=KINDS.get(gen, "discrete"),
        memory=float(device.mem_bytes or MEMORY_OF.get(device.id) or guess.memory),
        bandwidth=bandwidth,
        f16=f16,
        fp8=fp8,
        fp4=device.fp4_flops or fp8,
        rack="rack" in device.device_class,
        known=device.mem_bw_bytes_s is not None,
        note="" if device.mem_bw_bytes_s else "memory bandwidth is not known: assumed from the name",
    )


def _assumed(name: str, memory: float | None = None) -> Machine:
    low, gen = name.strip().lower().replace(" ", "-").replace("_", "-"), generation_of(name)
    typical = TYPICAL.get(gen, (500e9, 32))
    bandwidth, size = next(
        ((bw, held) for pattern, bw, held in ASSUMED if re.search(pattern, low)),
        (typical[0], typical[1] * GIB),
    )
    stated = re.search(r"(?<![\d.])(\d{1,4})\s*-?g(?:i?b)?(?![a-z0-9])", low)
    f16 = bandwidth * FLOPS_PER_BYTE.get(gen, 100.0)
    quick = gen in {"hopper", "blackwell", "ada", "cdna", "blackwell-rtx"}
    return Machine(
        id=low[:80] or "unknown",
        vendor=VENDOR_OF.get(gen, "NVIDIA" if gen != "unknown" else "unknown"),
        generation=gen,
        kind=KINDS.get(gen, "discrete"),
        memory=float(memory or (int(stated[1]) * GIB if stated and int(stated[1]) else size)),
        bandwidth=bandwidth,
        f16=f16,
        fp8=f16 * (2 if quick else 1),
        fp4=f16 * (4 if gen.startswith("blackwell") and quick else 2 if quick else 1),
        rack="nvl72" in low,
        known=False,
        note="the machine is not in the catalogue: its rates are assumed from its name",
    )


@functools.lru_cache(maxsize=4096)
def subject_named(name: str) -> Subject:
    """Return the model of this name; where the shipped catalogue is silent it is assumed and marked."""
    for spelling in dict.fromkeys((name, bare(name))):
        try:
            card = shipped().find_model(spelling)
        except Invalid:
            continue
        if card.architecture is not None:
            return subject_of(card)
    plain = _plain_model(name)
    found = _shapes().get(plain)
    if found is not None:
        return subject_of(found)
    return _shaped(name, sizes_in(name) or (8e9, 8e9))


def _plain_model(name: str) -> str:
    """Return a model's name without maker, remarks, tuning and format; a distillation is its student."""
    low = re.sub(r"[\s_:]+", "-", bare(name).lower()).rsplit("/", 1)[-1]
    if "distill" in low or re.match(r"deepseek-r1-\d", low):
        size = re.search(r"(\d+(?:\.\d+)?)b", low)
        student = "llama" if "llama" in low or (size and size[1] in {"8", "70"}) else "qwen2.5"
        low = f"{'llama-3.3' if student == 'llama' else student}-{size[1] if size else ''}b"
    low = re.sub(
        r"-(instruct|chat|it|base|hf|gguf|awq|gptq|fp8|fp4|nvfp4|bf16|pretrain|text|coder|\d{4})(?=-|$)",
        "",
        low,
    )
    low = re.sub(r"^(meta|nvidia|unsloth|bartowski)-", "", low)
    return re.sub(r"^(llama|qwen|gemma|phi)-?(\d)", r"\1-\2", low)


@functools.cache
def _shapes() -> Mapping[str, ModelCard]:
    text = (
        importlib.resources.files("allod.planner").joinpath("data", "speed_configs.json").read_text("utf-8")
    )
    held = json.loads(text)
    cards = [shipped().models[name] for name in held["catalogued"]]
    cards += [
        ModelCard(
            id=name,
            maker=name.split("/")[0],
            maker_jurisdiction="",
            architecture=from_config(config, name),
            as_of=date.fromisoformat(held["as_of"]),
            source=held["source"],
        )
        for name, config in held["configs"].items()
    ]
    return {_plain_model(card.id): card for card in cards}


def subject_of(card: ModelCard) -> Subject:
    """Return what the roofline needs of a catalogued model.

    Raises:
        Invalid: neither its architecture nor its parameters are known.

    """
    arch = card.architecture
    if arch is None:
        if not card.params_total:
            raise Invalid(
                f"the size of {card.id} is not known",
                "the catalogue has neither its configuration nor its parameters",
                "pass its config.json with --config",
                param="model",
            )
        return _shaped(card.id, (card.params_total, card.params_active or card.params_total))
    parts = arch.parts()
    routed = max(arch.layers, key=lambda one: one.experts)
    heads = [one.kv_heads for one in arch.layers if one.kv_heads]
    kinds = {one.attention for one in arch.layers}
    size = round(arch.params_total() / 1e8)
    return Subject(
        id=card.id,
        shape=f"{arch.hidden}/{arch.layer_count}/{arch.vocab}/{routed.experts}/{size}",
        total=arch.params_total(),
        active=arch.params_active(),
        routed=float(parts["routed_experts"]),
        embedding=0.0 if arch.tied else float(parts["embedding"]),
        layers=arch.layer_count,
        hidden=arch.hidden,
        experts=routed.experts,
        experts_per_token=routed.experts_per_token,
        kv_heads=max(heads, default=1),
        latent=bool(kinds & {"mla", "csa", "hca"}),
        indexed=any(one.index_dim for one in arch.layers),
        linear=bool(kinds & {"linear", "ssm"}),
        known=True,
        architecture=arch,
    )


def _shaped(name: str, sizes: tuple[float, float]) -> Subject:
    """Return a model of usual shape: depth and width as dense models of the active size have them."""
    total, active = sizes
    layers = int(min(max(round(32 * (active / 8e9) ** 0.42), 8), 128))
    hidden = int(min(max(round(4096 * (active / 8e9) ** 0.32), 512), 20480))
    mixture = total > 1.3 * active
    experts, chosen = (128, 8) if mixture else (0, 0)
    routed = (total - active) / (1 - chosen / experts) if mixture else 0.0
    return Subject(
        id=bare(name)[:120] or "unknown",
        shape=bare(name)[:120] or "unknown",
        total=total,
        active=active,
        routed=min(routed, total * 0.97),
        embedding=min(0.06 * active, 1e9),
        layers=layers,
        hidden=hidden,
        experts=experts,
        experts_per_token=chosen,
        kv_heads=8,
        latent=False,
        indexed=False,
        linear=False,
        known=False,
    )


@functools.lru_cache(maxsize=4096)
def _exact(arch: Architecture, quant: str) -> tuple[float, float, float]:
    one = precision(quant, arch)
    total = routed = embedding = 0.0
    for kind, index, count, layer in tensors(arch):
        size = count * bits_of(one, kind, index, arch, layer) / 8
        total += size
        if kind.startswith("routed"):
            routed += size
        elif kind == "embedding" and not arch.tied:
            embedding += size
    return total, routed, embedding


def weight_bytes(subject: Subject, quant: str, *, gguf: bool = False) -> tuple[float, float, float]:
    """Return (all weights, the routed experts among them, an embedding that decoding does not read), bytes.

    A GGUF file named MXFP4 alone holds everything but the experts in Q8_0, where a served checkpoint keeps
    16 bits (the 12.1 GB of the published gpt-oss-20b file against 13.8 GB).
    """
    share = bits_in(quant) / 8
    total, routed, embedding = subject.total * share, subject.routed * share, subject.embedding * share
    if subject.architecture is not None:
        with contextlib.suppress(Invalid):
            total, routed, embedding = _exact(subject.architecture, quant)
    if gguf and quant.strip().lower() == "mxfp4" and subject.experts:
        rest = Q8_0 / 8
        total, embedding = routed + (subject.total - subject.routed) * rest, subject.embedding * rest
    return total, routed, embedding
