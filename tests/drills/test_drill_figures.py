from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from drilled import CONFIGURATION, DAY, FLEET, PROFILES, at, decided, losing, record, setting

from allod.domain.facts import Fact
from allod.domain.fleet import CapabilityEvidence
from allod.drills.assume import DAYS_OF_MONTH, t80
from allod.drills.run import drill
from allod.drills.traffic import Gathering, Usage
from allod.drills.words import amount, hours, many, points, printable, share, usd, usd_between
from allod.gateway.drilling_speed import foreseen
from allod.gateway.drilling_traffic import _shares
from allod.planner.estimate import Estimate
from allod.routing.question import DecisionFacts, DeploymentFacts


def candidate(name: str, quality: str, cost: str, **more: Any) -> DeploymentFacts:
    return DeploymentFacts(
        deployment=name, quality=Decimal(quality), cost_usd=Decimal(cost), reserve_usd=Decimal(cost), **more
    )


def evidence(value: str, low: str, high: str) -> CapabilityEvidence:
    return CapabilityEvidence(
        value=Decimal(value), low=Decimal(low), high=Decimal(high), basis="measured", cases=Decimal(50)
    )


def asked(*candidates: DeploymentFacts) -> DecisionFacts:
    return DecisionFacts(
        task=None, needs=("text",), input_tokens=8, min_quality=None, max_cost_usd=None, deadline_ms=None,
        effort=None, objective="best", ordered=True, candidates=candidates,
    )  # fmt: skip


def over_days(of: DecisionFacts, requests: list[int], **more: Any) -> Any:
    gathering = Gathering()
    for n, count in enumerate(requests):
        gathering.add(decided(record(of, day=f"2026-10-{n + 1:02}"), count, n))
    return gathering.traffic(**more)


def test_the_interval_of_quality_is_that_of_the_bounds() -> None:
    of = asked(
        candidate("a", "0.9", "1", evidence=evidence("0.9", "0.86", "0.93")),
        candidate("c", "0.7", "1", evidence=evidence("0.7", "0.67", "0.74")),
    )
    lost = drill(over_days(of, [10, 10]), setting(), at(losing(deployments=("a",)))).quality_lost
    assert lost is not None
    assert lost.value == pytest.approx(0.2)
    assert lost.low == pytest.approx(0.2 - (0.04**2 + 0.04**2) ** 0.5)  # a may be worse, c better
    assert lost.high == pytest.approx(0.2 + (0.03**2 + 0.03**2) ** 0.5)
    assert lost.level == 0.90


def test_a_declared_rate_is_as_uncertain_as_assumed() -> None:
    of = asked(candidate("a", "0.9", "1"), candidate("c", "0.7", "1"))
    lost = drill(over_days(of, [10]), setting(), at(losing(deployments=("a",)))).quality_lost
    assert lost is not None
    assert lost.high - lost.value == pytest.approx((2 * 0.05**2) ** 0.5)
    assert "assumption" in lost.note


def test_a_month_of_cost_has_the_spread_of_its_days() -> None:
    of = asked(candidate("a", "0.9", "0"), candidate("c", "0.7", "2"))
    usage = {"a": Usage(attempts=50, cost_usd=0.0, input_tokens=0, output_tokens=0, total_ms=None)}
    found = drill(over_days(of, [10, 20, 30]), setting(), at(losing(deployments=("a",))))
    change = found.cost_change_month_usd
    assert change is not None
    assert change.value == pytest.approx(40 * DAYS_OF_MONTH)
    half = t80(3) * 20 / 3**0.5
    assert change.low == pytest.approx((40 - half) * 0.5 * DAYS_OF_MONTH)
    assert change.high == pytest.approx((40 + half) * 2.0 * DAYS_OF_MONTH)
    free = over_days(of, [10], usage=usage)  # a ledger of free answers says nothing of the factor
    assert drill(free, setting(), at(losing(deployments=("a",)))).cost_change_month_usd is not None


def test_the_ledger_says_what_requests_really_cost() -> None:
    of = asked(candidate("a", "0.9", "1"), candidate("c", "0.7", "3"))
    usage = {"a": Usage(attempts=40, cost_usd=20.0, input_tokens=1, output_tokens=1, total_ms=900.0)}
    found = drill(over_days(of, [40], usage=usage), setting(), at(losing(deployments=("a",))))
    change = found.cost_change_month_usd
    assert change is not None
    assert change.value == pytest.approx(40 * 2 * 0.5 * DAYS_OF_MONTH)
    assert change.low == change.high == change.value  # one day: how days differ is not known, and it says so
    assert "one day" in change.note
    assert "ledger" in change.source


def test_room_is_littles_law_at_the_peak_or_not_known_with_the_reason() -> None:
    of = asked(candidate("a", "0.9", "1"), candidate("c", "0.7", "1", latency_ms=4000))
    usage = {"c": Usage(attempts=9, cost_usd=1.0, input_tokens=1, output_tokens=1, total_ms=2000.0)}
    profiles = {**PROFILES, "c": msgspec.structs.replace(PROFILES["c"], max_concurrent=2)}
    traffic = over_days(of, [86_400], peak=5.0, usage=usage)
    rooms = drill(traffic, setting(profiles=profiles), at(losing(deployments=("a",)))).rooms
    (c,) = (one for one in rooms if one.deployment == "c")
    assert c.need is not None
    assert c.need.value == pytest.approx(1 * 2.0 * 5)  # one a second, two seconds each, five times the mean
    assert c.missing is not None
    assert c.missing.value == pytest.approx(8)
    (a,) = (one for one in rooms if one.deployment == "a")
    assert a.why == "none: nothing is asked here"
    unknown = drill(traffic, setting(), at(losing(deployments=("a",)))).rooms
    assert "declare max_concurrent, or hardware" in next(o.why for o in unknown if o.deployment == "c")
    blind = over_days(asked(candidate("a", "0.9", "1"), candidate("d", "0.7", "1")), [9])
    (d,) = (o for o in drill(blind, setting(), at(losing(deployments=("a",)))).rooms if o.deployment == "d")
    assert (d.need, d.missing) == (None, None)
    assert "not known how long" in d.why


def test_the_planner_foresees_declared_hardware_and_nothing_else() -> None:
    one = msgspec.structs.replace(
        FLEET.deployments["a"],
        model="Llama-3.3-70B-Instruct",
        hardware=Fact(value="h100-sxm"),
        hardware_count=2,
    )
    profiles = {
        "a": msgspec.structs.replace(PROFILES["a"], model=one.model, hardware="h100-sxm", hardware_count=2),
        "b": msgspec.structs.replace(PROFILES["b"], model="nobody-knows-this", hardware="h100-sxm"),
        "c": PROFILES["c"],
    }
    found = foreseen(FLEET, profiles)
    assert set(found) == {"a"}
    assert 0 < found["a"].low < found["a"].value < found["a"].high
    of = asked(candidate("c", "0.9", "1"), candidate("a", "0.7", "1"))
    traffic = over_days(of, [500_000])
    rooms = drill(
        traffic, setting(profiles={**PROFILES, **profiles}, throughput=found), at(losing(operators=("two",)))
    ).rooms
    (room,) = (o for o in rooms if o.deployment == "a")
    assert room.unit == "tokens a second"
    assert room.missing is not None
    assert room.missing.high > room.missing.low


def test_numbers_are_words_with_intervals() -> None:
    def est(value: float, low: float, high: float) -> Estimate:
        return Estimate(value=value, low=low, high=high, source="t", as_of=DAY)

    assert share(0.0004) == "<0.1 %"
    assert share(1.0) == "100 %"
    assert usd(0) == "0 USD"
    assert usd(-1234) == "-1,234 USD"
    assert usd(2.5e6) == "2,500 k USD"
    assert usd_between(None) == "not known"
    assert usd_between(est(5, 4, 6)) == "5.00 USD (4.00 to 6.00)"
    assert points(est(0.1, 0.05, 0.2)) == "10.0 points (5.0 to 20.0)"
    assert points(est(-0.1, -0.2, 0.01)) == "gains 10.0 points (-1.0 to 20.0)"
    assert share(0.9999) == ">99.9 %"
    assert share(0.0997) == "10 %"
    assert (share(0.996), share(0.099)) == ("99.6 %", "9.9 %")
    assert hours(est(100, 72, 240)) == "3 to 10 days"
    assert amount(est(0.0644, 0, 0.39), "at once") == "0.064 at once (0 to 0.39)"
    assert amount(est(12345.6, 9.5, 20000), "") == "12,346 (9.5 to 20,000)"
    assert many(1, "day") == "1 day"
    assert printable("a\x1b[31m\u202eb\n") == "a [31m b "
    assert hours(est(10, 8, 120)) == "8 h to 5 days"
    assert hours(None) == "not known"


def test_generated_requests_are_shared_out_whole() -> None:
    weights = [Decimal(1), Decimal(1), Decimal(1)]
    assert sum(_shares(weights, 100)) == 100
    assert _shares([Decimal(3), Decimal(0), Decimal(1)], 8) == [6, 0, 2]
    assert CONFIGURATION.startswith("sha256:")
