"""What runs where, from controllers and phones to vehicles and racks, with the best lawful model.

Models are ranked by a proxy, the geometric mean of all and active parameters, doubled for every year of
release after 2023 (the trend that the same ability needs ever fewer parameters: arXiv 2412.04315, here at a
third of its pace). It orders candidates; it is no measurement: ``allod eval`` is. A model counts as lawful
where its licence and its maker's jurisdiction are known and the tenant bans neither.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from allod.domain.errors import Invalid
from allod.planner.catalogue import Device, ModelCard, devices, models
from allod.planner.estimate import Estimate
from allod.planner.memory import Load, Verdict, fit, weights_bytes
from allod.planner.quants import precision

OPEN_LICENCES: Final = frozenset({"Apache-2.0", "MIT"})
GREAT_POWERS: Final = frozenset({"CN", "RU", "US"})
"""Whose makers the clean alternative avoids where nothing else is said."""
BASE_YEAR: Final = 2023.0
MIN_TOK_S: Final = 5.0
"""A person reads about as fast; a model that decodes slower is not offered."""
USUAL_LENGTHS: Final = (1024, 256)
"""Tokens in and out that ``allod plan speed`` takes where nothing is said."""
REACHED: Final = (0.41, 0.72, 0.89)
"""Share of the bandwidth ceiling one stream reaches: 10th, 50th and 90th percentile of 70 public points."""
SHARED: Final = {1: (0.32, 0.41, 0.5), 2: (0.06, 0.23, 0.3), 4: (0.034, 0.05, 0.17), 8: (0.019, 0.042, 0.081)}
"""The same of engines that divide tensors among so many devices, at most 8 requests at once (71 points)."""


class Tier(msgspec.Struct, frozen=True, kw_only=True):
    """One tier: ``count`` devices of its kind, the load it is asked for, precisions from best to smallest.

    ``usual`` is the device it is answered on, where its memory is known; else that of median memory.
    """

    id: str
    title: str
    usual: str
    count: int
    context: int
    concurrency: int
    engine: str
    quants: tuple[str, ...]


def _local(name: str, title: str, usual: str, context: int, *quants: str, concurrency: int = 1) -> Tier:
    return Tier(
        id=name,
        title=title,
        usual=usual,
        count=1,
        context=context,
        concurrency=concurrency,
        engine="llamacpp",
        quants=quants,
    )


def _served(name: str, title: str, usual: str, count: int, context: int, concurrency: int) -> Tier:
    return Tier(
        id=name,
        title=title,
        usual=usual,
        count=count,
        context=context,
        concurrency=concurrency,
        engine="vllm",
        quants=("", "fp8", "int4"),
    )


TIERS: Final = (
    _local("controller", "Controllers", "stm32n6", 512, "q4_k_m", "q4_0"),
    _local("iot", "IoT computers", "rpi5-16", 2048, "q4_k_m", "q4_0"),
    _local("phone", "Phones", "snapdragon-8-elite-gen5", 4096, "q4_k_m", "q4_0"),
    _local("edge", "Edge modules", "jetson-agx-orin-64", 8192, "q8_0", "q4_k_m"),
    _local("vehicle", "Vehicles", "drive-agx-thor", 8192, "q8_0", "q4_k_m"),
    _served("telco", "Telco cards", "l4", 1, 8192, 4),
    _local("laptop", "Laptops", "m4-max-40", 16384, "q8_0", "q4_k_m"),
    _local("desktop", "Desktop cards", "rtx-4090", 16384, "q8_0", "q4_k_m"),
    _local("workstation", "Workstations", "gb10", 32768, "q8_0", "q4_k_m", concurrency=2),
    _served("server", "Servers of eight", "h200-sxm", 8, 32768, 32),
    _served("rack", "Racks", "gb200-nvl72", 72, 131072, 256),
)
"""The empty precision is what the maker publishes."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A model that runs on a tier's device: at which precision, how it fits, how fast it may decode.

    ``tok_s`` is of one stream: a bound by memory bandwidth to choose by, the prediction of ``allod plan
    speed`` in an answer; None where the bandwidth is not known.
    """

    card: ModelCard
    quant: str
    verdict: Verdict
    tok_s: Estimate | None
    rank: float


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """A tier's answer on one device; ``unknown`` says in words what is not known.

    ``best`` is the first lawful choice, ``clean`` the first whose licence is open and whose maker sits in
    none of the jurisdictions to avoid; None where no such model of the catalogue runs there.
    """

    tier: Tier
    device: Device | None
    best: Choice | None
    clean: Choice | None
    candidates: int
    unknown: tuple[str, ...] = ()


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The tenant's bans, and what the clean alternative avoids besides (ISO 3166-1 alpha-2 codes)."""

    banned: frozenset[str] = frozenset()
    avoid: frozenset[str] = GREAT_POWERS

    def lawful(self, card: ModelCard) -> bool:
        """Tell whether licence and maker are known and the maker is not banned; unknown means no."""
        return bool(card.licence and card.maker_jurisdiction) and card.maker_jurisdiction not in self.banned

    def clean(self, card: ModelCard) -> bool:
        """Tell whether a lawful model also has an open licence and a maker of none to avoid."""
        return (
            self.lawful(card) and card.licence in OPEN_LICENCES and card.maker_jurisdiction not in self.avoid
        )


def rank_of(card: ModelCard) -> float:
    """Return the proxy by which models are ordered; 0 where sizes are not known."""
    if not card.params_total or not card.params_active:
        return 0.0
    size = math.sqrt(card.params_total * card.params_active) / 1e9
    return float(size * 2.0 ** max(_year(card.released) - BASE_YEAR, 0.0))


def _year(released: str) -> float:
    parts = released.split("-")
    if not parts[0].isdigit():
        return BASE_YEAR
    month = int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 1
    return int(parts[0]) + (month - 1) / 12


def choose(tier: Tier, device: Device, card: ModelCard) -> Choice | None:
    """Return how a model runs on a tier's device, by the best precision that fits and decodes fast enough."""
    arch = card.architecture
    if arch is None:
        return None
    context = min(tier.context, arch.max_position or tier.context)
    load = Load(context=context, concurrency=tier.concurrency)
    names = ("mxfp4",) if arch.stored == "mxfp4" else tier.quants
    for name in names:
        quant = name or arch.stored or "bf16"
        weights = weights_bytes(arch, quant)
        day = max(device.as_of, card.as_of)
        verdict = fit(device, tier.count, arch, weights, tier.engine, load, as_of=day, limits=False)
        speed = ceiling(device, tier, card, quant, weights.total.value)
        if verdict.fits and (speed is None or speed.value >= MIN_TOK_S):
            return Choice(
                card=card, quant=precision(quant, arch).name, verdict=verdict, tok_s=speed, rank=rank_of(card)
            )
    return None


def ceiling(device: Device, tier: Tier, card: ModelCard, quant: str, total_bytes: float) -> Estimate | None:
    """Return the decode speed of one stream by memory bandwidth, tokens/s; None if that is not known.

    A stream of llama.cpp uses one device at a time, engines that divide tensors use all of them.
    """
    if device.mem_bw_bytes_s is None or not card.params_total or not card.params_active:
        return None
    served = tier.engine != "llamacpp"
    ways = min(tier.count, max(SHARED)) if served else 1
    read = total_bytes * card.params_active / card.params_total
    most = device.mem_bw_bytes_s * ways / read
    low, usual, high = (share * most for share in (SHARED[ways] if served else REACHED))
    return Estimate(
        value=usual, low=low, high=high, level=0.8, as_of=max(device.as_of, card.as_of),
        source=f"memory bandwidth of {device.id} over the bytes a token reads at {quant}",
        note="by the share of the bandwidth that public points reach; allod plan speed predicts better",
    )  # fmt: skip


def usual_device(tier: Tier, known: Iterable[Device]) -> Device | None:
    """Return the tier's usual device if its memory is known, else that of median memory, else None."""
    found = [one for one in known if one.tier == tier.id and one.mem_bytes]
    named = next((one for one in found if one.id == tier.usual), None)
    if named is not None or not found:
        return named
    found.sort(key=lambda one: (one.mem_bytes or 0, one.id))
    return found[(len(found) - 1) // 2]


def answer(
    tier: Tier,
    device: Device,
    rules: Rules,
    cards: Iterable[ModelCard] | None = None,
) -> Answered:
    """Answer one tier on one device.

    Raises:
        Invalid: what the tier asks is out of range.

    """
    pool = list(models().values() if cards is None else cards)
    found = [choice for card in pool if rules.lawful(card) and (choice := choose(tier, device, card))]
    found.sort(key=lambda choice: (-choice.rank, choice.card.id))
    clean = [choice for choice in found if rules.clean(choice.card)]
    return Answered(
        tier=tier,
        device=device,
        best=_fast_enough(tier, device, found),
        clean=_fast_enough(tier, device, clean),
        candidates=len(found),
        unknown=_unknown(device, pool, rules),
    )


def _fast_enough(tier: Tier, device: Device, choices: Iterable[Choice]) -> Choice | None:
    """Return the first that is predicted to be fast enough; the bound it was chosen by is a rough one."""
    timed = (_timed(tier, device, choice) for choice in choices)
    return next((one for one in timed if one.tok_s is None or one.tok_s.value >= MIN_TOK_S), None)


def _timed(tier: Tier, device: Device, choice: Choice) -> Choice:
    """Return a choice with the speed that ``allod plan speed`` tells, so that both say the same."""
    from allod.planner.speed.speeds import estimate_speed  # noqa: PLC0415 (only for what is shown)

    if choice.tok_s is None:
        return choice
    asked = (tier.count, choice.card, choice.quant, tier.engine, 1, *USUAL_LENGTHS)
    try:
        step = estimate_speed(device, *asked).tpot_ms
    except Invalid:
        return choice
    speed = Estimate(
        value=1000 / step.value, low=1000 / step.high, high=1000 / step.low, level=step.level,
        source=step.source, as_of=step.as_of,
        note=f"one stream, {USUAL_LENGTHS[0]} tokens in and {USUAL_LENGTHS[1]} out",
    )  # fmt: skip
    return msgspec.structs.replace(choice, tok_s=speed)


def _unknown(device: Device, pool: Collection[ModelCard], rules: Rules) -> tuple[str, ...]:
    out = []
    if device.mem_bw_bytes_s is None:
        out.append(f"memory bandwidth of {device.id}, so no speed is told")
    licence = sum(1 for card in pool if not card.licence and card.maker_jurisdiction not in rules.banned)
    shape = [card.id.rsplit("/", 1)[-1] for card in pool if card.architecture is None]
    if licence:
        out.append(f"the licence of {licence} models, which are left out")
    if shape:
        out.append(
            f"the architecture of {len(shape)} models, which are left out "
            f"({', '.join(sorted(shape)[:6])}{', ...' if len(shape) > 6 else ''})"  # noqa: PLR2004 (a line of them)
        )
    return tuple(out)


def all_tiers(
    rules: Rules, known: Mapping[str, Device] | None = None, *, only: str | None = None
) -> list[Answered]:
    """Answer every tier (or ``only`` one) on its usual device; where no memory is known, that is said."""
    pool = list((devices() if known is None else known).values())
    out = []
    for tier in (one for one in TIERS if only in (None, one.id)):
        device = usual_device(tier, pool)
        if device is None:
            names = ", ".join(sorted(d.id for d in pool if d.tier == tier.id)) or "none"
            note = f"memory of every device of this tier ({names}): pass it to plan fit with --memory"
            out.append(Answered(tier=tier, device=None, best=None, clean=None, candidates=0, unknown=(note,)))
            continue
        out.append(answer(tier, device, rules))
    return out
