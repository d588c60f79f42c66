"""Carbon and water: arithmetic by hand, and silence about what nobody tells."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from allod.planner.catalogue import Device, GridRow
from allod.planner.estimate import Estimate
from allod.planner.money import inputs
from allod.planner.money.asking import Question, ask
from allod.planner.money.carbon import Footprint, footprint
from allod.planner.prices import shipped_book

DAY = date(2026, 11, 25)
NODE = Device(
    id="box", name="Box", vendor="V", maker_jurisdiction="US", device_class="datacentre", tier="server",
    price_usd=Decimal(30_000), allin_w=1000.0, as_of=DAY, source="a test",
)  # fmt: skip
GRID = GridRow(iso3="XXX", country="X", carbon_g_kwh=400.0, year=2024, as_of=DAY, source="a test")
SPEED = Estimate(value=1000.0, low=1000.0, high=1000.0, source="a test", as_of=DAY)
SURE = ("site.pue=1.5", "site.idle_share=0.5", "own.utilisation=0.5", "own.slo_derate=1",
        "own.availability=1", "own.retry_rate=0", "task.output_tokens=500")  # fmt: skip


def found(*words: str, grid: GridRow | None = GRID, device: Device | None = NODE) -> Footprint:
    flags = tuple(inputs.settings((*SURE, *words), DAY))
    question = Question(model="x", device=device, devices=10, grid=grid, day=DAY, flags=flags, speed=SPEED)
    return footprint(ask(question, shipped_book())[0], 500, 1)


def test_a_month_by_hand() -> None:
    one = found("site.water_l_kwh=2", "site.wue_l_kwh=1", "site.embodied_kg_device=480")
    computers = 10 * 730 * 0.75
    assert one.energy_kwh == pytest.approx((computers * 1.5,) * 3)
    assert one.carbon_kg == pytest.approx((computers * 1.5 * 0.4,) * 3)
    assert one.water_l == pytest.approx((computers * 1.5 * 2 + computers,) * 3)
    assert one.embodied_kg == pytest.approx(100)
    tasks = 1000 / 500 * 730 * 3600 * 0.5
    assert one.carbon_g_task == pytest.approx((computers * 1.5 * 400 / tasks,) * 3)
    assert one.water_ml_task == pytest.approx((1000 * (computers * 4) / tasks,) * 3)
    assert not one.unknown


def test_what_is_not_known_is_not_a_zero() -> None:
    one = found(grid=None)
    assert one.carbon_kg is None
    assert one.water_l is None
    said = " ".join(one.unknown)
    for word in ("--country", "site.water_l_kwh", "site.wue_l_kwh", "site.embodied_kg_device"):
        assert word in said
    nothing = found(device=None)
    assert nothing.energy_kwh is None
    assert "site.allin_kw_device" in " ".join(nothing.unknown)


def test_an_idle_node_still_draws_and_its_tasks_are_dirtier() -> None:
    words = [word for word in SURE if not word.startswith("own.utilisation")]
    flags = tuple(inputs.settings((*words, "own.utilisation=0.05"), DAY))
    question = Question(model="x", device=NODE, devices=10, grid=GRID, day=DAY, flags=flags, speed=SPEED)
    idle = footprint(ask(question, shipped_book())[0], 500, 1)
    busy = found()
    assert idle.carbon_g_task is not None
    assert busy.carbon_g_task is not None
    assert idle.carbon_g_task[0] > 5 * busy.carbon_g_task[0]
