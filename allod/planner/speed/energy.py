"""Watts while a machine answers: measured at the wall where somebody did, else from its rated power."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Sequence
from typing import Final

import msgspec

from allod.domain.errors import Invalid
from allod.planner.catalogue import Device, shipped
from allod.planner.speed.facts import bare
from allod.planner.speed.points import points
from allod.planner.speed.rows import number, text

ALLIN_SHARE: Final = (0.45, 0.75, 1.05)
"""Of the provisioned all-in power of a server's device: low, middle, high. No public point measures it here;
the bounds are an assumption, idle servers drawing near half and full ones near what was provisioned."""
MEASURED: Final = (0.85, 1.0, 1.15)
FEWEST: Final = 5


class Watts(msgspec.Struct, frozen=True, kw_only=True):
    """Watts of one device with its share of the host, and where the figure is from."""

    value: float
    low: float
    high: float
    source: str


@functools.cache
def wall_points() -> dict[str, list[float]]:
    """Return the peak watts at the wall that points report, by device."""
    found: dict[str, list[float]] = {}
    for row in points():
        watts = number(row, "peak_wall_power_w")
        if watts > 0 and number(row, "n_devices", 1.0) <= 1:
            try:
                device = shipped().find_device(bare(text(row, "hardware"))).id
            except Invalid:
                continue
            found.setdefault(device, []).append(watts)
    return found


@functools.cache
def wall_shares() -> tuple[float, float, float]:
    """Return (10th, 50th, 90th percentile) of watts at the wall over rated watts, over measured devices."""
    shares = sorted(
        statistics.median(watts) / rated
        for name, watts in wall_points().items()
        if (rated := shipped().find_device(name).tdp_w)
    )
    if len(shares) < FEWEST:
        return 0.6, 1.1, 2.0
    return _at(shares, 0.1), statistics.median(shares), _at(shares, 0.9)


def _at(ranked: Sequence[float], share: float) -> float:
    return ranked[min(int(share * len(ranked)), len(ranked) - 1)]


def watts_of(device: Device) -> Watts | None:
    """Return what one device draws while it answers, None where neither a point nor a rating is known."""
    measured = wall_points().get(device.id)
    if measured:
        middle = statistics.median(measured)
        low, _, high = MEASURED
        return Watts(
            value=middle,
            low=min(measured) * low,
            high=max(measured) * high,
            source=f"peak at the wall in {len(measured)} measured point{'s' * (len(measured) > 1)}",
        )
    if device.allin_w:
        low, middle, high = (share * device.allin_w for share in ALLIN_SHARE)
        return Watts(value=middle, low=low, high=high, source=f"{device.allin_w:.0f} W all-in as provisioned")
    if device.tdp_w:
        low, middle, high = (share * device.tdp_w for share in wall_shares())
        return Watts(
            value=middle,
            low=low,
            high=high,
            source=f"rated {device.tdp_w:.0f} W, as measured machines relate to theirs",
        )
    return None
