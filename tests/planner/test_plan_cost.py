"""Cost: the claims' rows exactly, the house's own metering as a judge, break-even, and nonsense."""

from __future__ import annotations

import math
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allod.domain.errors import Invalid
from allod.domain.usage import Usage
from allod.metering.rates import cost
from allod.planner.catalogue import Device
from allod.planner.estimate import Estimate
from allod.planner.money import case as sums
from allod.planner.money import claims, inputs
from allod.planner.money.arithmetic import annuity, exactly
from allod.planner.money.asking import Question, ask
from allod.planner.money.breakeven import BREAKEVEN, COST, RATIO, breaks, movers
from allod.planner.money.case import Case
from allod.planner.money.comparators import Result, compare, outcome
from allod.planner.money.montecarlo import drawn
from allod.planner.money.shown import broken
from allod.planner.prices import entries_of, hosted, offer, shipped_book

DAY = date(2026, 11, 25)
BOOK = shipped_book()
NODE = Device(
    id="box", name="Box", vendor="V", maker_jurisdiction="US", device_class="datacentre", tier="server",
    price_usd=Decimal(30_000), rental3y_usd_h=Decimal("1.6"), neocloud_usd_h=Decimal("1.74"),
    allin_w=1730.0, as_of=DAY, source="a test",
)  # fmt: skip
SPEED = Estimate(value=1200.0, low=900.0, high=1500.0, source="a test", as_of=DAY)


def asked(*words: str, device: Device | None = NODE, speed: Estimate | None = SPEED, **more: Any) -> Case:
    flags = tuple(inputs.settings(words, DAY))
    question = Question(
        model="deepseek-ai/DeepSeek-V4-Pro", device=device, day=DAY, flags=flags, speed=speed, **more
    )
    return ask(question, BOOK)[0]


def compared(case: Case, draws: int = 2000, seed: int = 1) -> Result:
    names = {"frontier": "F", "open": "O", "rented": "R", "own": "W"}
    return compare(case, names, draws, seed)  # type: ignore[arg-type]


# -- the rows of the claims


def test_the_claims_are_reproduced() -> None:
    assert claims.attempt_usd("frontier", 50_000, 5_000) == Decimal("0.40")
    assert claims.attempt_usd("frontier", 0, 200) == Decimal("0.006")
    assert claims.attempt_usd("frontier", 1_000, 200) == Decimal("0.011")
    assert claims.attempt_usd("frontier", 1_000_000, 10_000) == Decimal("10.45")
    assert claims.node_usd_month() == Decimal(9344)
    assert round(claims.hosted_usd_mtok_output(Decimal(1)), 2) == Decimal("2.96")
    assert round(claims.hosted_usd_mtok_output(Decimal("0.4")), 2) == Decimal("7.41")
    cached = Decimal("0.8")
    bn = Decimal(10) ** 9
    found = [
        round(claims.breakeven_tokens(api, mix, share) / bn, 1)
        for api, share in (("frontier", Decimal(0)), ("frontier", cached), ("open", Decimal(0)))
        for mix in claims.MIXES
    ]  # type: ignore[misc]
    assert found == [Decimal(x) for x in ("0.8", "1.3", "1.1", "2.3", "9.4", "12.0")]
    node = claims.node_tokens_month(Decimal("0.3"))
    assert round(node / bn, 1) == Decimal("8.7")
    assert node < claims.breakeven_tokens("open", claims.MIXES[0])


def test_the_table_of_claims_says_all_of_it() -> None:
    rows = {one.claim: f"{one.ours} {one.verdict}" for one in claims.rows()}
    text = "\n".join(rows.values())
    for said in ("$0.40", "$0.25", "1 times", "$0.006", "$0.011", "$10.45", "$2.96", "$7.41", "0.8 to 1.3",
                 "1.1 to 2.3", "9 to 12", "8.7 bn", "7 to 19 times"):  # fmt: skip
        assert said in text, said
    assert len(rows) == 7


# -- the price of an attempt is what the gateway would charge


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(
        ["openai/gpt-5.5", "deepseek/deepseek-v4-pro", "anthropic/claude-haiku-5-5", "deepseek/deepseek-chat"]
    ),
    st.integers(0, 1_200_000),
    st.integers(1, 50_000),
    st.integers(0, 10),
)
def test_an_attempt_costs_what_metering_charges(name: str, read: int, written: int, tenths: int) -> None:
    read -= read % 10
    share = Decimal(tenths) / 10
    case = asked(
        f"task.input_tokens={read}", f"task.output_tokens={written}", f"task.cached_share={share}",
        frontier=name,
    )  # fmt: skip
    found = exactly(lambda: sums.attempt_usd(case, "frontier", case.inputs.middle()))
    cached = int(read * share)
    usage = Usage(input_tokens=read - cached, cache_read_tokens=cached, output_tokens=written)
    assert case.frontier is not None
    slots = case.frontier.slots
    whole = sum((cost(usage, one.at(read)) for one in slots), Decimal(0))
    assert abs(found - whole / len(slots)) < Decimal("1e-25")


def test_the_surcharge_begins_above_its_step_and_not_at_it() -> None:
    at, over = (
        exactly(lambda c=case: sums.attempt_usd(c, "frontier", c.inputs.middle()))  # type: ignore[misc]
        for case in (asked(f"task.input_tokens={n}", "task.output_tokens=1000") for n in (272_000, 272_001))
    )
    assert at == Decimal("1.39")
    assert over == Decimal(272001) * 10 / 10**6 + Decimal("0.045")


def test_hours_of_the_day_count_by_when_the_work_comes() -> None:
    night = tuple(Decimal(1 if hour in {1, 2, 3} else 0) for hour in range(24))
    day = tuple(Decimal(1 if hour in {12, 13} else 0) for hour in range(24))
    usd = [
        exactly(lambda c=case: sums.attempt_usd(c, "open", c.inputs.middle()))  # type: ignore[misc]
        for case in (asked(load_curve=night), asked(load_curve=day))
    ]
    assert usd[0] == 2 * usd[1]


def test_retries_success_batch_and_tokenizer_are_on_both_sides() -> None:
    def tasks(*words: str) -> tuple[Decimal, ...]:
        case = asked("own.utilisation=0.4", *words)
        found = exactly(lambda: outcome(case, case.inputs.middle()))
        return tuple(found[f"{side}.task"] for side in ("frontier", "open", "own"))

    plain = tasks()
    for side, n in (("frontier", 0), ("open", 1), ("own", 2)):
        worse = tasks(f"{side}.success=0.5")
        assert worse[n] > plain[n] * Decimal("1.7")
        assert tasks(f"{side}.retry_rate=0.5")[n] > plain[n] * Decimal("1.7")
    assert tasks("open.success=0.5")[2] == pytest.approx(2 * plain[2], rel=Decimal("1e-20"))
    assert tasks("frontier.batch_share=1")[0] == pytest.approx(plain[0] / 2, rel=Decimal("1e-20"))
    assert tasks("frontier.tokenizer_ratio=1.35")[0] == pytest.approx(plain[0] * Decimal("1.35"))
    assert tasks("open.tokenizer_ratio=2")[2] > plain[2]
    assert tasks("frontier.price_factor=2.5")[0] == pytest.approx(plain[0] * Decimal("2.5"))
    cached = tasks("task.cached_share=0.8")
    assert all(a < b for a, b in zip(cached, plain, strict=True))


def test_five_times_the_price_with_a_fifth_of_the_tokens_is_the_same() -> None:
    case = asked("task.input_tokens=0", "task.output_tokens=1000")
    dear = asked("task.input_tokens=0", "task.output_tokens=1000", "frontier.output_ratio=0.2",
                 "frontier.price_factor=5")  # fmt: skip
    one, other = (
        exactly(lambda c=c: sums.attempt_usd(c, "frontier", c.inputs.middle()))  # type: ignore[misc]
        for c in (case, dear)
    )
    assert one == other


# -- own hardware


@settings(max_examples=50, deadline=None)
@given(
    st.decimals(1000, 10**7, places=2), st.decimals(0, Decimal("0.3"), places=3), st.integers(36, 60),
    st.decimals(0, 1, places=2),
)  # fmt: skip
def test_an_annuity_repays_the_price_but_the_residual(
    price: Decimal, rate: Decimal, months: int, share: Decimal
) -> None:
    residual = price * share
    pay = exactly(lambda: annuity(price, rate, months, residual))
    monthly = rate / 12
    owed = price
    for _ in range(months):
        owed = exactly(lambda o=owed: o * (1 + monthly) - pay)  # type: ignore[misc]
    assert abs(owed - residual) < Decimal("1e-20")


def test_a_month_of_own_hardware_by_hand() -> None:
    case = asked(
        "own.utilisation=0.5", "buy.financing_rate=0", "buy.chassis_share=0", "buy.spares_share=0.1",
        "buy.network_share=0.1", "buy.storage_share=0", "buy.residual_share=0.2",
        "buy.support_share_year=0.12", "site.idle_share=0.5", "site.pue=1.5", "site.tariff_usd_kwh=0.2",
        "run.staff_fte=1", "run.fte_usd_year=120000", "run.software_usd_device_year=12",
        "run.egress_usd_month=1", "run.audit_usd_month=2", "buy.device_price_usd=30000",
    )  # fmt: skip
    parts = exactly(lambda: sums.own_parts(case, case.inputs.middle(), Decimal("0.5")))
    assert parts == {
        "capital": (Decimal(240_000) * Decimal("1.2") - 48_000) / 48,
        "power": Decimal("1.73") * 8 * 730 * Decimal("0.75") * Decimal("1.5") * Decimal("0.2"),
        "support": Decimal(2400),
        "staff": Decimal(10_000),
        "software": Decimal(8),
        "egress": Decimal(1),
        "audit": Decimal(2),
    }


def test_colocation_stands_in_place_of_power() -> None:
    case = asked("site.colo_usd_kw_month=200")
    parts = exactly(lambda: sums.own_parts(case, case.inputs.middle(), Decimal("0.5")))
    assert parts["colocation"] == Decimal("1.73") * 8 * 200
    assert "power" not in parts


def test_the_tariff_counts_by_the_hours_of_the_work() -> None:
    curve = tuple(Decimal(2 if hour < 12 else 0) for hour in range(24))
    other = tuple(reversed(curve))
    usd = [
        exactly(lambda c=case: sums.power_usd_month(c, c.inputs.middle(), Decimal("0.4")))  # type: ignore[misc]
        for case in (asked(load_curve=curve, tariff_curve=curve), asked(load_curve=curve, tariff_curve=other))
    ]
    assert usd[0] > usd[1]


def test_at_the_break_even_both_cost_the_same() -> None:
    case = asked("task.input_tokens=8000", "task.output_tokens=1000", "demand.tasks_month=100000")
    found = exactly(lambda: outcome(case, case.inputs.middle()))
    for side in ("own", "rented"):
        tasks = found[f"{side}.breakeven.frontier"]
        at = exactly(lambda n=tasks: outcome(  # type: ignore[misc]
            asked("task.input_tokens=8000", "task.output_tokens=1000", f"demand.tasks_month={n:.20}"),
            {**case.inputs.middle(), "demand.tasks_month": n},
        ))  # fmt: skip
        assert abs(at[f"{side}.month"] - at["frontier.month"]) < Decimal("1e-15")


def test_never_is_said_where_the_nodes_do_less_than_the_break_even() -> None:
    case = asked("task.input_tokens=8000", "task.output_tokens=1000", speed=msgspec.structs.replace(
        SPEED, value=300.0, low=280.0, high=320.0))  # fmt: skip
    result = compared(case)
    found = {(one.side, one.api): one for one in breaks(case, result)}
    never = found["own", "open"]
    assert never.tasks is None
    assert never.high is None
    assert never.share_never > 0.5
    assert never.utilisation is None
    assert "never breaks even" in broken(never)
    reached = found["own", "frontier"]
    assert reached.tasks is not None
    assert reached.tasks < reached.capacity_tasks
    assert movers(case, result, "own", "open").of == RATIO  # type: ignore[union-attr]
    assert movers(case, result, "own", "frontier").of == BREAKEVEN  # type: ignore[union-attr]
    assert movers(case, result, "own", None).of == COST  # type: ignore[union-attr]


def test_the_vectors_compute_what_the_exact_numbers_do() -> None:
    case = asked("task.cached_share=0.3", "task.long_share=0.1", "own.utilisation=0.37")
    exact = exactly(lambda: outcome(case, case.inputs.middle()))
    floats = outcome(case, {key: float(one.value) for key, one in case.inputs.by_key.items()})
    for key, value in exact.items():
        if key.endswith("parts"):
            continue
        other = floats[key]
        assert (math.inf if value is None else float(value)) == pytest.approx(float(other), rel=1e-9), key


def test_I10_every_cost_carries_interval_day_and_source_and_all_four_ways_are_there() -> None:
    result = compared(asked())
    assert [one.side for one in result.ways] == ["frontier", "open", "rented", "own"]
    for way in result.ways:
        for est in (way.month_usd, way.task_usd, way.usd_mtok, way.usd_mtok_output):
            assert est is not None
            assert est.low < est.value < est.high
            assert est.source
            assert est.as_of == DAY
    for one in asked().inputs.by_key.values():
        assert one.source
        assert one.unit
        assert one.low <= one.value <= one.high


def test_what_is_not_known_is_said_and_the_others_stand() -> None:
    bare = Device(
        id="x", name="X", vendor="", maker_jurisdiction="", device_class="", tier="", as_of=DAY, source="none"
    )
    result = compared(asked("demand.tasks_month=1000", device=bare))
    unknown = {one.side: one.unknown for one in result.ways}
    assert "--device-price" in unknown["own"]
    assert "--rent" in unknown["rented"]
    assert not unknown["frontier"]
    nobody = ask(Question(model="acme/unheard-of", day=DAY, flags=(
        inputs.made("demand.tasks_month", Decimal(10), as_of=DAY),)), BOOK)[0]  # fmt: skip
    ways = {one.side: one for one in compared(nobody).ways}
    assert "--open-api" in ways["open"].unknown
    assert ways["own"].month_usd is None


def test_an_owners_rate_stands_where_no_price_is_known_and_says_so() -> None:
    device = msgspec.structs.replace(NODE, price_usd=None, owner_usd_h=Decimal("1.41"))
    own = compared(asked(device=device)).ways[3]
    assert own.parts["hardware_hosted"] == pytest.approx(1.41 * 8 * 730)
    assert "no purchase price is known" in own.note


# -- drawing


def test_the_same_seed_draws_the_same_and_a_tenth_lies_beyond_each_end() -> None:
    import numpy as np

    case = asked()
    one, other = drawn(case.inputs, 20_000, 7), drawn(case.inputs, 20_000, 7)
    fresh = drawn(case.inputs, 20_000, 8)
    for each in case.inputs.uncertain():
        values = one[each.key]
        assert np.array_equal(values, other[each.key])
        assert not np.array_equal(values, fresh[each.key])
        # what may not be less than zero is zero in a tenth
        below = values <= float(each.low)
        assert np.mean(below) == pytest.approx(0.5 if each.low == each.value else 0.1, abs=0.02), each.key
        assert np.mean(values > float(each.high)) == pytest.approx(0.1, abs=0.01), each.key
        assert np.median(values) == pytest.approx(float(each.value), rel=0.05, abs=0.01), each.key
    # another input beside it changes nothing of this one
    fewer = drawn(case.inputs.without("site.pue"), 20_000, 7)
    assert np.array_equal(fewer["own.tokens_s"], one["own.tokens_s"])


def test_the_band_holds_what_is_drawn() -> None:
    import numpy as np

    case = asked("task.input_tokens=8000", "task.output_tokens=1000")
    result = compared(case, draws=5000)
    found = next(one for one in breaks(case, result) if (one.side, one.api) == ("own", "frontier"))
    values = np.asarray(result.outcomes["own.breakeven.frontier"])
    assert found.low is not None
    assert found.high is not None
    assert np.mean((values >= found.low) & (values <= found.high)) == pytest.approx(0.8, abs=0.01)


# -- nonsense


@pytest.mark.parametrize(
    "word",
    [
        "own.utilisation=0", "own.utilisation=1.1", "buy.device_price_usd=-1", "site.tariff_usd_kwh=nan",
        "site.tariff_usd_kwh=Infinity", "buy.months=35", "buy.months=61", "buy.months=40.5",
        "task.output_tokens=0", "frontier.success=0", "own.retry_rate=1", "site.pue=0.9", "site.pue=2..1",
        "site.pue=1.2..1.1..1.3", "nonsense=1", "site.pu=1.3", "site.pue", "site.pue=x",
        "own.utilisation=0..0.5", "run.staff_fte=1e999999", "frontier.drift_year=-1",
        "task.cached_share=1.01",
    ],
)  # fmt: skip
def test_nonsense_is_refused(word: str) -> None:
    with pytest.raises(Invalid) as told:
        asked(word)
    assert told.value.remedy


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(Invalid, match="staf_fte") as told:
        asked("run.staf_fte=1")
    assert "run.staff_fte" in told.value.why
    with pytest.raises(Invalid) as told:
        asked("pue=1.3")
    assert "site.pue" in told.value.why


def test_what_is_said_twice_is_refused() -> None:
    with pytest.raises(Invalid, match="twice"):
        asked("site.pue=1.3", "site.pue=1.4")
    asked("site.pue=1.3", "site.pue=1.3")
    for pair in (
        ("buy.node_price_usd=200000", "buy.device_price_usd=30000"),
        ("site.colo_usd_kw_month=200", "site.tariff_usd_kwh=0.1"),
        ("demand.tasks_month=10", "own.utilisation=0.3"),
    ):
        with pytest.raises(Invalid, match="twice"):
            asked(*pair)


def test_no_work_and_no_speed_is_refused() -> None:
    with pytest.raises(Invalid, match="how much work"):
        compared(asked(speed=None))


def test_unknown_offers_counts_and_curves_are_refused() -> None:
    with pytest.raises(Invalid) as told:
        asked(frontier="openai/gpt-5,5")
    assert "openai/gpt-5.5" in told.value.why
    for more in ({"devices": 0}, {"nodes": 10**9}, {"load_curve": (Decimal(1),) * 23},
                 {"tariff_curve": (Decimal(0),) * 24}, {"load_curve": (Decimal("NaN"),) * 24}):  # fmt: skip
        with pytest.raises(Invalid):
            asked(**more)
    for draws, seed in ((1, 1), (10**9, 1), (1000, -1)):
        with pytest.raises(Invalid):
            drawn(asked().inputs, draws, seed)


def test_a_file_of_assumptions_counts_and_its_mistakes_are_named() -> None:
    raw = b'[site]\npue = 1.25\ntariff_usd_kwh = { value = 0.2, low = 0.1, high = 0.3, source = "offer" }\n'
    found = {one.key: one for one in inputs.from_toml(raw, "ours.toml", DAY)}
    assert found["site.pue"].low == found["site.pue"].high == Decimal("1.25")
    assert found["site.tariff_usd_kwh"].source == "offer"
    assert found["site.pue"].source == "ours.toml"
    for bad, near in (
        (b"[sites]\npue = 1\n", "[site]"),
        (b"[site]\npeu = 1.2\n", "site.pue"),
        (b"[site]\npue = true\n", "number"),
        (b"[site]\npue = nan\n", "accepted"),
        (b"[site]\npue = { low = 1 }\n", "value"),
        (b'[site]\npue = { value = 1.2, sauce = "x" }\n', "sauce"),
        (b'[site]\npue = { value = 1.2, as_of = "yesterday" }\n', "day"),
        (b"pue = 1\n", "site.pue"),
        (b"[site\n", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"#" * (1 << 21), "too large"),
    ):
        with pytest.raises(Invalid) as told:
            inputs.from_toml(bad, "ours.toml", DAY)
        assert near in told.value.explain(), bad


# -- the entries of the book


def test_a_model_is_found_by_whoever_sells_it() -> None:
    assert hosted("deepseek-ai/DeepSeek-V4-Pro", BOOK) == "deepseek/deepseek-v4-pro"
    assert hosted("acme/unheard-of", BOOK) is None
    sold = entries_of("deepseek-ai/DeepSeek-V4-Pro", BOOK)
    assert {"fireworks/deepseek-v4-pro", "together/deepseek-ai/DeepSeek-V4-Pro-0813"} <= set(sold)
    assert not any(":batch" in one or "flash" in one for one in sold)
    assert offer("deepseek/deepseek-v4-pro", BOOK, DAY).changes_by_hour
