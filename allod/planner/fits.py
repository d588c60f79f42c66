"""The question ``allod plan fit`` asks: a model, machines, a load; and the answer for one kind or for all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Final

import msgspec

from allod.domain.errors import Invalid
from allod.planner.architecture import Architecture
from allod.planner.catalogue import GB, Device, ModelCard, devices
from allod.planner.files import held
from allod.planner.memory import (
    SCALES,
    Load,
    Verdict,
    Weights,
    check_load,
    fit,
    kv_bits,
    weights_bytes,
)
from allod.planner.quants import precision
from allod.planner.reserve import engine_named

USUAL_CONTEXT: Final = 8_192
MAX_RANK: Final = 4_096
MAX_MEMORY_GIB: Final = 1_000_000
_RANK: Final = re.compile(r"rank:([0-9]{1,6})")


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be held: ``weights`` of ``architecture``, under a load, by an engine.

    ``as_of`` is the day of the newest fact about the model; ``quant`` the precision by name, empty where
    the weights were read from a file.
    """

    model: str
    architecture: Architecture
    weights: Weights
    engine: str
    load: Load
    quant: str
    as_of: date
    notes: tuple[str, ...] = ()


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for ``count`` devices of one kind."""

    device: Device
    count: int
    verdict: Verdict


def question(
    card: ModelCard,
    *,
    file: Path | None = None,
    quant: str = "",
    engine: str = "",
    context: int | None = None,
    concurrency: int = 1,
    kv_quant: str = "f16",
    adapters: Sequence[str] = (),
) -> Question:
    """Put a question together; what is not said is taken as the model's maker publishes it.

    Without an engine it is llama.cpp for GGUF, vLLM else.

    Raises:
        Invalid: the architecture is not known, a file is malformed, or a number out of range.

    """
    arch = card.architecture
    if arch is None:
        known = f"{card.params_total / 1e9:g}B parameters" if card.params_total else "its name"
        raise Invalid(
            f"the architecture of {card.id} is not known",
            f"the catalogue holds no more of it than {known} ({card.note or card.source})",
            "pass --model-config config.json, or --file with the GGUF or the folder of safetensors",
            param="model",
        )
    name = quant or ("" if file is not None else arch.stored or "bf16")
    if file is not None:
        weights = held(file).weights(f"read from the header of {file.name}, tensor by tensor")
    else:
        weights = weights_bytes(arch, name)
    gguf = precision(name, arch).gguf if name else file is not None and _is_gguf(file)
    context = context if context is not None else min(USUAL_CONTEXT, arch.max_position or USUAL_CONTEXT)
    check_load(context, concurrency, 1)
    kv_bits(kv_quant)
    one = engine_named(engine or ("llamacpp" if gguf else "vllm"))
    load = Load(
        context=context,
        concurrency=concurrency,
        kv_quant=kv_quant,
        adapters_bytes=float(sum(adapter_bytes(arch, text) for text in adapters)),
    )
    return Question(
        model=card.id, architecture=arch, weights=weights, engine=one.name, load=load, quant=name,
        as_of=card.as_of, notes=_model_notes(arch, weights),
    )  # fmt: skip


def _is_gguf(file: Path) -> bool:
    return file.suffix == ".gguf" or (file.is_dir() and not any(file.glob("*.safetensors")))


def _model_notes(arch: Architecture, weights: Weights) -> tuple[str, ...]:
    out = []
    if not arch.familiar and not weights.exact:
        out.append(f"a model of kind {arch.family or 'not stated'}: read as an ordinary decoder, not checked")
    if weights.draft:
        out.append(
            f"speculation layers add {weights.draft / GB:.1f} GiB when they are switched on; not counted"
        )
    return tuple(out)


def adapter_bytes(arch: Architecture, text: str) -> int:
    """Return the bytes of an adapter: a file or folder, or ``rank:N`` over attention and dense network.

    Raises:
        Invalid: no such file, a rank out of range.

    """
    match = _RANK.fullmatch(text)
    if match is None:
        return sum(held(Path(text)).tensors.values())
    rank = int(match[1])
    if not 1 <= rank <= MAX_RANK:
        raise Invalid(
            f"an adapter of rank {rank}",
            f"expected 1 to {MAX_RANK}",
            "give rank:N, or a file",
            param="adapter",
        )
    sides = 0
    for layer in arch.layers:
        query, value = layer.heads * layer.head_dim, layer.kv_heads * (layer.head_dim + layer.value_dim)
        network = layer.matrices * (arch.hidden + layer.intermediate) if layer.intermediate else 0
        sides += layer.count * (4 * arch.hidden + 2 * query + value + network)
    return 2 * rank * sides


def answer(
    asked: Question, device: Device, count: int, *, memory_gib: float | None = None, limits: bool = True
) -> Placed:
    """Answer for a number of devices of one kind.

    Raises:
        Invalid: the number of devices or the memory is out of range.

    """
    if memory_gib is not None and not 0 < memory_gib <= MAX_MEMORY_GIB:
        raise Invalid(
            f"a memory of {memory_gib:g} GiB",
            f"expected over 0, at most {MAX_MEMORY_GIB}",
            "give the memory of one device in GiB",
            param="memory",
        )
    verdict = fit(
        device,
        count,
        asked.architecture,
        asked.weights,
        asked.engine,
        asked.load,
        as_of=max(asked.as_of, device.as_of),
        memory_bytes=None if memory_gib is None else int(memory_gib * GB),
        limits=limits,
    )
    notes = (*verdict.notes, *asked.notes)
    return Placed(device=device, count=count, verdict=msgspec.structs.replace(verdict, notes=notes))


def fewest(asked: Question, device: Device, *, memory_gib: float | None = None) -> Placed:
    """Answer for the fewest devices that fit, up to the scale-up domain (eight where none is known)."""
    most = max(device.scaleup_devices or 8, 1)
    chosen = 1
    for count in SCALES:
        if count > most:
            break
        chosen = count
        verdict = answer(asked, device, count, memory_gib=memory_gib, limits=False).verdict
        if verdict.fits or verdict.have_bytes is None:
            break
    return answer(asked, device, chosen, memory_gib=memory_gib)


def everywhere(asked: Question, kinds: Iterable[Device] | None = None) -> list[Placed]:
    """Answer for every device of known memory, the fewest of each that fit, the fitting ones first.

    Machines kept in the catalogue for reference only (weights in on-chip memory) are left out.
    """
    chosen = [one for one in (kinds or devices().values()) if one.mem_bytes and one.tier != "reference"]
    placed = [fewest(asked, one) for one in chosen]
    return sorted(
        placed, key=lambda p: (not p.verdict.fits, p.count * (p.device.mem_bytes or 0), p.device.id)
    )
