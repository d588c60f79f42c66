"""The cash of the years: sums by hand, what it may conclude, and terms that leave no time."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from allod.domain.errors import Invalid
from allod.gateway.cli.plan_npv import COMMAND
from allod.planner.catalogue import Device
from allod.planner.estimate import Estimate
from allod.planner.money import inputs
from allod.planner.money.asking import Question, ask
from allod.planner.money.case import Case
from allod.planner.money.npv import plan
from allod.planner.prices import own_offer, shipped_book

DAY = date(2026, 11, 25)
NODE = Device(
    id="box", name="Box", vendor="V", maker_jurisdiction="US", device_class="datacentre", tier="server",
    price_usd=Decimal(30_000), rental3y_usd_h=Decimal("1.6"), allin_w=1730.0, as_of=DAY, source="a test",
)  # fmt: skip
MODEL = "deepseek-ai/DeepSeek-V4-Pro"
SPEED = Estimate(value=1200.0, low=1200.0, high=1200.0, source="a test", as_of=DAY)
STILL = (
    "demand.growth_year=0", "demand.elasticity=0", "demand.realised_share=1", "open.drift_year=0",
    "frontier.drift_year=0", "rent.drift_year=0", "npv.discount_year=0", "npv.lead_months=0",
    "npv.ramp_months=0", "demand.tasks_month=1000000",
)  # fmt: skip
"""Nothing moves."""


def asked(*words: str, open_usd: str | None = None, **more: Any) -> Case:
    flags = tuple(inputs.settings(words, DAY))
    question = Question(
        model="deepseek-ai/DeepSeek-V4-Pro", device=NODE, day=DAY, flags=flags, speed=SPEED, **more
    )
    case = ask(question, shipped_book())[0]
    if open_usd is None:
        return case
    return msgspec.structs.replace(case, open=own_offer("o", Decimal(open_usd), Decimal(open_usd), DAY))


def test_without_movement_the_sums_are_those_of_one_month() -> None:
    case = asked(*STILL, "buy.financing_rate=0", "open.retry_rate=0", "own.retry_rate=0", open_usd="4")
    found = plan(case, 500, 1)
    by = {one.option: one.present_usd[0] for one in found.paths}
    assert by["open"] == pytest.approx(48 * 1_000_000 * 2500 * 4 / 1e6)
    # 240,000 and a quarter for the node, spares, network and storage on it, less what is left
    node = 240_000 * 1.25
    power = 1.73 * 8 * 730 * (0.35 + 0.65 * _utilisation()) * 1.4 * 0.15
    monthly = node * 0.06 / 12 + 0.5 * 140_000 / 12 + 200 + 1500 + power
    assert by["buy"] == pytest.approx(node * 1.16 - node * 0.12 + 48 * monthly, rel=1e-9)
    assert by["rent"] == pytest.approx(48 * (1.6 * 8 * 730 + 0.5 * 140_000 / 12 + 200 + 1500), rel=1e-9)
    assert sum(one[0] for one in found.flows_usd) == pytest.approx(by["open"] - min(by["buy"], by["lease"]))
    assert found.npv_usd is not None
    assert found.npv_usd[0] == pytest.approx(by["open"] - min(by["buy"], by["lease"]))
    assert found.sovereignty_usd_month is not None
    assert found.sovereignty_usd_month[0] == pytest.approx(-found.npv_usd[0] / 48)


def _utilisation() -> float:
    return 1_000_000 / (1200 * 0.8 * 0.99 * 730 * 3600 / 500)


def test_the_hosted_open_model_is_cheaper_and_sovereignty_has_a_price() -> None:
    found = plan(asked(*STILL, open_usd="0.5"), 2000, 1)
    assert found.verdict.startswith("Do not buy: the hosted open model is cheaper; sovereignty costs USD ")
    assert found.against == "open"
    assert found.gain is not None
    assert found.gain <= 0.1
    assert found.sovereignty_usd_month is not None
    low, high = found.sovereignty_usd_month[1:]
    assert 0 < low < high


def test_a_dear_api_is_left_for_own_hardware() -> None:
    found = plan(asked(*STILL, "frontier.price_factor=20", open_usd="40"), 2000, 1)
    assert found.verdict.startswith("Own it, by ")
    assert found.npv_usd is not None
    assert found.npv_usd[1] > 0


def test_between_them_nothing_is_decided() -> None:
    cheap, dear = Decimal("0.5"), Decimal(40)
    for _ in range(30):
        middle = (cheap + dear) / 2
        npv = plan(asked(*STILL, open_usd=str(middle)), 500, 1).npv_usd
        assert npv is not None
        cheap, dear = (cheap, middle) if npv[0] > 0 else (middle, dear)
    said = plan(asked(*STILL, open_usd=str(dear)), 2000, 1).verdict
    assert said.startswith("Not decided: against the hosted open model")
    said = plan(asked(*STILL, open_usd=str(cheap)), 2000, 1).verdict
    assert said.startswith("Do not buy for the price alone")


def test_what_makes_owning_worse_makes_it_worse() -> None:
    def npv(*words: str) -> float:
        keep = {word.split("=")[0] for word in words}
        still = [word for word in STILL if word.split("=")[0] not in keep]
        found = plan(asked(*still, *words, open_usd="12"), 500, 1)
        assert found.npv_usd is not None
        return found.npv_usd[0]

    plain = npv()
    assert npv("npv.lead_months=10") < plain
    assert npv("npv.ramp_months=12") < plain
    assert npv("open.drift_year=-0.3") < plain
    assert npv("demand.realised_share=0.5") < plain
    assert npv("buy.residual_share=0", "lease.residual_share=0", "lease.rate_year=0.3") < plain
    assert npv("npv.discount_year=0.2") < plain
    # falling prices bring more work, which own hardware does for nothing
    assert npv("open.drift_year=-0.3", "demand.elasticity=1") > npv("open.drift_year=-0.3")
    assert npv("demand.growth_year=0.3") > plain


def test_work_beyond_the_nodes_is_bought_by_the_token() -> None:
    words = [word for word in STILL if not word.startswith("demand.tasks_month")]
    found = plan(asked(*words, "demand.tasks_month=100000000", open_usd="1"), 500, 1)
    assert found.overflow == pytest.approx(1 - _capacity() / 1e8, rel=1e-6)


def _capacity() -> float:
    return 1200 * 0.8 * 0.99 * 730 * 3600 / 500 * 0.98


def test_leasing_at_the_price_of_money_costs_what_buying_does() -> None:
    # payments come at once here, not at the end of the month: one month's interest apart
    words = [word for word in STILL if not word.startswith("npv.discount")]
    rate = "0.12"
    found = plan(
        asked(*words, f"npv.discount_year={rate}", f"lease.rate_year={rate}", "buy.residual_share=0",
              "lease.residual_share=0", open_usd="4"), 500, 1,
    )  # fmt: skip
    by = {one.option: one.present_usd[0] for one in found.paths}
    assert by["lease"] == pytest.approx(by["buy"], rel=0.02)


def test_hardware_without_a_price_is_not_decided_but_renting_is_told() -> None:
    bare = msgspec.structs.replace(NODE, price_usd=None)
    question = Question(model="deepseek-ai/DeepSeek-V4-Pro", device=bare, day=DAY, speed=SPEED)
    found = plan(ask(question, shipped_book())[0], 500, 1)
    assert set(found.unknown) == {"lease", "buy"}
    assert found.npv_usd is None
    assert found.verdict.startswith("Not decided")
    assert "Rented hardware costs USD" in found.verdict


@pytest.mark.parametrize(
    "word",
    [
        "npv.lead_months=48", "npv.ramp_months=50", "npv.lead_months=60", "npv.discount_year=-0.1",
        "demand.elasticity=9", "demand.growth_year=-1",
    ],
)  # fmt: skip
def test_absurd_terms_are_refused(word: str) -> None:
    with pytest.raises(Invalid):
        plan(asked(word), 500, 1)


def test_a_lead_time_drawn_beyond_the_term_still_pays_for_the_hardware() -> None:
    late = plan(asked("npv.lead_months=2..40..59", "buy.months=48", open_usd="4"), 500, 1)
    soon = plan(asked("npv.lead_months=2", "buy.months=48", open_usd="4"), 500, 1)
    for one in (late, soon):
        assert next(path for path in one.paths if path.option == "buy").present_usd[1] > 240_000


def test_without_a_speed_or_an_offer_nothing_is_planned() -> None:
    question = Question(model="acme/x", device=NODE, day=DAY)
    case = ask(question, shipped_book())[0]
    with pytest.raises(Invalid, match="how much the hardware does"):
        plan(case, 500, 1)
    nobody = msgspec.structs.replace(case, frontier=None, trouble={"frontier": "x", "open": "y"})
    with pytest.raises(Invalid, match="nothing to hold hardware against"):
        plan(nobody, 500, 1)


def test_the_command_says_it_and_repeats_it(tmp_path: Path) -> None:
    words = [
        "deepseek-ai/DeepSeek-V4-Pro", "--on", "h200-sxm", "--tokens-per-second", "900..1500", "--node-price",
        "300000..380000", "--draws", "1000", "--html", str(tmp_path / "n.html"),
        "--svg", str(tmp_path / "n.svg"),
    ]  # fmt: skip
    env = {"ALLOD_HOME": str(tmp_path / "none")}
    done = CliRunner().invoke(COMMAND, [*words, "--json"], env=env)
    assert done.exception is None, done.exception
    found = json.loads(done.stdout)
    assert {one["option"] for one in found["paths"]} == {"frontier", "open", "rent", "lease", "buy"}
    assert sum(one["cheapest"] for one in found["paths"]) == pytest.approx(1)
    assert len(found["flows_usd"]) == 4
    assert json.loads(CliRunner().invoke(COMMAND, [*words, "--json"], env=env).stdout) == found
    assert found["verdict"] in (tmp_path / "n.html").read_text()
    assert "cash against" in (tmp_path / "n.svg").read_text()
    said = CliRunner().invoke(COMMAND, words, env=env).stdout
    for word in ("present value", "cheapest", "cash by year", "seed"):
        assert word in said
