"""Published claims about DeepSeek V4 and its cost, recomputed: claim, our figure, inputs, verdict.

The memory and arithmetic rows are computed here from the catalogue's configurations; the rows of money come
from ``money.claims``. ``allod plan claims`` prints them, so that anybody can see how each figure was made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from allod.planner.architecture import Architecture
from allod.planner.catalogue import Device, find_device, find_model
from allod.planner.memory import Load, Verdict, checkpoint_bytes, fit, weights_bytes
from allod.planner.quants import MXFP4

V4_PRO: Final = "deepseek-ai/DeepSeek-V4-Pro"
V32: Final = "deepseek-ai/DeepSeek-V3.2"
CONTEXTS: Final = (1 << 20, 128 * 1024, 8 * 1024)
GIB: Final = 1 << 30
BF16: Final = 2


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A claim, what we find, from what, and what that says of the claim.

    ``figures`` are the numbers of ``ours`` by name, for programs.
    """

    id: str
    claim: str
    ours: str
    inputs: str
    verdict: str
    figures: dict[str, float] = {}


def _architecture(name: str) -> Architecture:
    arch = find_model(name).architecture
    assert arch is not None
    return arch


def _size() -> Claim:
    arch = _architecture(V4_PRO)
    routed, total, active = arch.parts()["routed_experts"], arch.params_total(), arch.params_active()
    return Claim(
        id="v4-size",
        claim="DeepSeek V4-Pro has 1.6T parameters, 49B of them active, and a context of 1M",
        ours=(
            f"{total / 1e12:.2f}T without the speculation layer, {active / 1e9:.1f}B active, "
            f"{arch.max_position:,} tokens; routed experts alone {routed / 1e9:,.0f}B"
        ),
        inputs="config.json: 61 layers, 384 experts of which 6 are used, expert width 3072",
        verdict="confirmed",
        figures={"params_total": total, "params_active": active, "routed": float(routed)},
    )


def flops_share(context: int) -> float:
    """Return the operations of V4-Pro per decoded token as a share of those of V3.2."""
    return _architecture(V4_PRO).flops_per_token(context) / _architecture(V32).flops_per_token(context)


def _flops() -> Claim:
    new, old = _architecture(V4_PRO), _architecture(V32)
    shares = {str(context): flops_share(context) for context in CONTEXTS}
    words = ", ".join(f"{share:.1%} at {_tokens(int(context))}" for context, share in shares.items())
    most = CONTEXTS[0]
    return Claim(
        id="v4-flops",
        claim="V4-Pro needs 27 % of the operations of V3.2 at 1M tokens",
        ours=(
            f"{words} ({new.flops_per_token(most) / 1e9:.0f} against {old.flops_per_token(most) / 1e9:.0f} "
            "GFLOP per token at 1M)"
        ),
        inputs="both configurations: compress ratios, index heads, tokens attended; no embedding look-up",
        verdict="reproduced at 1M; at ordinary lengths there is almost no saving",
        figures=shares,
    )


def _tokens(context: int) -> str:
    return "1M" if context >= 1 << 20 else f"{context // 1024}k"


def _cache() -> Claim:
    new, old = _architecture(V4_PRO), _architecture(V32)
    context = CONTEXTS[0]
    slope = (new.kv_elements(2 * context) - new.kv_elements(context)) / context
    mine, theirs = (BF16 * arch.kv_elements(context) / GIB for arch in (new, old))
    shares = {str(c): new.kv_elements(c) / old.kv_elements(c) for c in CONTEXTS}
    words = ", ".join(f"{share:.1%} at {_tokens(int(c))}" for c, share in shares.items())
    return Claim(
        id="v4-kv",
        claim="V4-Pro needs 10 % of the KV cache of V3.2 at 1M tokens",
        ours=(
            f"{words} at equal precision; {slope:,.0f} elements per token, "
            f"{mine:.2f} against {theirs:.1f} GiB in bf16 at 1M"
        ),
        inputs="30 layers x (512 + 128) / 4, 31 x 512 / 128, windows of 128; V3.2: 61 x (576 + 128)",
        verdict="reproduced; the last point to 10 % needs a cache of mixed precision",
        figures=shares | {"elements_per_token": slope, "gib_1m": mine, "gib_1m_v32": theirs},
    )


def v4_on_h20(device: Device, count: int = 8, context: int = 8192) -> Verdict:
    """Return whether V4-Pro as published runs on a number of H20."""
    arch = _architecture(V4_PRO)
    weights = weights_bytes(arch, "fp4+fp8")
    return fit(device, count, arch, weights, "sglang", Load(context=context), as_of=device.as_of)


def _h20() -> Claim:
    small, large = find_device("h20-96"), find_device("h20-141")
    first, second, wide = v4_on_h20(small), v4_on_h20(large), v4_on_h20(small, 16, 1 << 20)
    arch = _architecture(V4_PRO)
    experts = arch.parts()["routed_experts"] * MXFP4 / 8
    total = weights_bytes(arch, "fp4+fp8").total.value
    return Claim(
        id="v4-h20",
        claim="V4-Pro at FP4 fits eight H20",
        ours=(
            f"8 x 96 GB: {first.answer}; 8 x 141 GB: {second.answer}; "
            f"16 x 96 GB with 1M tokens: {wide.answer}; "
            f"experts at 4.25 bits {experts / 1e9:.0f} GB, all weights {total / 1e9:.0f} GB"
        ),
        inputs="parts of the configuration, MXFP4 experts, the rest at 8 bits or more, engine reserve",
        verdict="wrong for the 96 GB card, right for the 141 GB card",
        figures={
            "fits_96": float(first.fits), "fits_141": float(second.fits), "fits_16_96_1m": float(wide.fits),
            "experts_gb": experts / 1e9, "weights_gb": total / 1e9,
        },
    )  # fmt: skip


def _fp8() -> Claim:
    arch, device = _architecture(V4_PRO), find_device("h200-sxm")
    weights = weights_bytes(arch, "fp8")
    found = fit(device, 8, arch, weights, "sglang", Load(context=8192), as_of=device.as_of)
    have = 8 * (device.mem_bytes or 0) / 1e9
    return Claim(
        id="v4-h200-fp8",
        claim="V4-Pro serves at FP8 on eight H200",
        ours=f"weights at FP8 {weights.total.value / 1e9:,.0f} GB, memory {have:,.0f} GB: {found.answer}",
        inputs="configuration at 8 bits; memory of the catalogue",
        verdict="impossible: recipes named fp8 keep the experts at FP4",
        figures={"weights_gb": weights.total.value / 1e9, "fits": float(found.fits)},
    )


def _checkpoint() -> Claim:
    arch = _architecture("deepseek-ai/DeepSeek-V4-Flash")
    size = checkpoint_bytes(arch, "fp4+fp8")
    kv = BF16 * arch.kv_elements(1 << 20) / GIB
    return Claim(
        id="v4-flash-checkpoint",
        claim="V4-Flash's checkpoint is 148.66 GiB, and its cache 16.4 GiB at 1M tokens",
        ours=(
            f"{size.value / GIB:.1f} GiB ({size.low / GIB:.1f} to {size.high / GIB:.1f}) with its "
            f"speculation layer; cache {kv:.1f} GiB in bf16 by its compress ratios"
        ),
        inputs="config.json: MXFP4 experts, FP8 rest, embedding and head at 16 bits; compress_ratios",
        verdict="checkpoint confirmed; the cache was computed without the compress ratios",
        figures={"checkpoint_gib": size.value / GIB, "kv_gib_1m": kv},
    )


def _money() -> tuple[Claim, ...]:
    from allod.planner.money.claims import rows  # noqa: PLC0415 (it reads the price book)

    return tuple(
        Claim(id=f"money-{n}", claim=row.claim, ours=row.ours, inputs=row.inputs, verdict=row.verdict)
        for n, row in enumerate(rows(), 1)
    )


ENTRIES: Final[tuple[Callable[[], Claim], ...]] = (_size, _flops, _cache, _h20, _fp8, _checkpoint)


def claims() -> tuple[Claim, ...]:
    """Return every claim with our figure: size, arithmetic, memory, then money."""
    return (*(entry() for entry in ENTRIES), *_money())
