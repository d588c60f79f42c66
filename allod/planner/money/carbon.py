"""Carbon and water of own hardware, from the electricity of a country; of an API they are not known.

Operators do not publish them per request. Carbon is that of the grid's mean over a year, by location; what a
contract for green power changes is bookkeeping and not in it. Water is what the power stations evaporate
and, where the site says it, what the site does.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from allod.planner.money import case as sums
from allod.planner.money.arithmetic import exactly
from allod.planner.money.montecarlo import DRAWS, SEED, drawn, ends

if TYPE_CHECKING:
    from allod.planner.money.arithmetic import Number
    from allod.planner.money.case import Case, Values


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """A month of own hardware: kWh, kgCO2e, litres, each (value, low, high); None is not known.

    ``carbon_g_task`` and ``water_ml_task`` are per solved task. ``unknown`` says what is missing and how to
    pass it.
    """

    energy_kwh: tuple[float, float, float] | None = None
    carbon_kg: tuple[float, float, float] | None = None
    embodied_kg: float | None = None
    water_l: tuple[float, float, float] | None = None
    carbon_g_task: tuple[float, float, float] | None = None
    water_ml_task: tuple[float, float, float] | None = None
    unknown: tuple[str, ...] = ()


def footprint(case: Case, draws: int = DRAWS, seed: int = SEED) -> Footprint:
    """Return carbon and water of the nodes for the work of the case, with 80 % intervals."""
    if "own.tokens_s" not in case.inputs or "site.allin_kw_device" not in case.inputs:
        missing = [key for key in ("own.tokens_s", "site.allin_kw_device") if key not in case.inputs]
        return Footprint(unknown=tuple(f"{key} is not known: say --set {key}=..." for key in missing))
    middle = exactly(lambda: _month(case, case.inputs.middle()))
    spread = _month(case, drawn(case.inputs, draws, seed))

    def three(name: str, scale: float = 1.0) -> tuple[float, float, float] | None:
        if name not in middle:
            return None
        low, high = ends(spread[name] * scale)
        value = float(middle[name]) * scale
        return value, min(low, value), max(high, value)

    unknown = [
        f"{what}: say --country, or --set {key}=..."
        for key, what in (
            ("site.carbon_g_kwh", "carbon of the grid is not known"),
            ("site.water_l_kwh", "water of the grid is not known"),
        )
        if key not in case.inputs
    ]
    if "site.wue_l_kwh" not in case.inputs:
        unknown.append("water evaporated at the site is not in it: --set site.wue_l_kwh=...")
    if "site.pue" not in case.inputs:
        unknown.append("what the site draws beside the computers is not in it: colocation tells no PUE")
    if "site.embodied_kg_device" not in case.inputs:
        unknown.append("carbon of making the hardware is not in it: --set site.embodied_kg_device=...")
    embodied = None
    if "site.embodied_kg_device" in case.inputs:
        devices = Decimal(case.devices * case.nodes)
        embodied = float(case.inputs.value("site.embodied_kg_device") * devices / case.months)
    return Footprint(
        energy_kwh=three("energy"),
        carbon_kg=three("carbon", 1e-3),
        embodied_kg=embodied,
        water_l=three("water"),
        carbon_g_task=three("carbon_task"),
        water_ml_task=three("water_task", 1e3),
        unknown=tuple(unknown),
    )


def _month(case: Case, x: Values) -> dict[str, Number]:
    """Return kWh of the whole site, gCO2e and litres a month, and per task."""
    tasks, utilisation = sums.served(case, x)
    computers = sums.energy_kwh_month(case, x, utilisation)
    out = {"energy": computers * x.get("site.pue", 1)}
    if "site.carbon_g_kwh" in x:
        out["carbon"] = out["energy"] * x["site.carbon_g_kwh"]
        out["carbon_task"] = out["carbon"] / tasks
    if "site.water_l_kwh" in x or "site.wue_l_kwh" in x:
        grid = out["energy"] * x["site.water_l_kwh"] if "site.water_l_kwh" in x else 0
        site = computers * x["site.wue_l_kwh"] if "site.wue_l_kwh" in x else 0
        out["water"] = grid + site
        out["water_task"] = out["water"] / tasks
    return out
