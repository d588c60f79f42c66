"""What the planner foresees of deployments whose hardware is declared: output tokens a second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import AllodError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allod.domain.fleet import Fleet
    from allod.drills.losses import Profile
    from allod.planner.estimate import Estimate

AT_ONCE: Final = 16
INPUT_TOKENS: Final = 1024
OUTPUT_TOKENS: Final = 512
PRECISIONS: Final = ("f16", "fp8", "q4_k_m")
"""Tried in this order, as nobody declares it: the first that fits is the slowest."""
SERVING: Final = frozenset({"vllm", "sglang", "trtllm", "llamacpp", "ollama", "llama-server"})


def foreseen(fleet: Fleet, profiles: Mapping[str, Profile]) -> dict[str, Estimate]:
    """Return output tokens a second at ``AT_ONCE`` answers, by deployment.

    Only for deployments that declare ``hardware`` and no ``max_concurrent``, with a model and a device the
    planner knows; all others are left out: not known.
    """
    out = {}
    for name, one in profiles.items():
        if one.hardware is not None and one.max_concurrent is None and one.engine in SERVING:
            found = _speed(one)
            if found is not None and name in fleet.deployments:
                out[name] = found
    return out


def _speed(one: Profile) -> Estimate | None:
    from allod.planner.catalogue import find_device, find_model  # noqa: PLC0415 (tables, numpy)
    from allod.planner.speed.speeds import estimate_speed  # noqa: PLC0415

    assert one.hardware is not None
    try:
        device, model = find_device(one.hardware), find_model(one.model)
    except AllodError:
        return None
    count = one.hardware_count or 1
    for precision in PRECISIONS:
        try:
            speed = estimate_speed(
                device, count, model, precision, one.engine, concurrency=AT_ONCE, isl=INPUT_TOKENS,
                osl=OUTPUT_TOKENS,
            )  # fmt: skip
        except AllodError:
            continue
        told = f"planner: {model.id} at {precision} (assumed: the first that fits) on {count} x {device.id}"
        return msgspec.structs.replace(speed.out_tok_s, source=f"{told}, {AT_ONCE} answers at once")
    return None
