from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allod.domain.errors import Invalid
from allod.drills import scenarios
from allod.drills.expected import Event, Harm, Hedge, Year, events, expect, yearly
from allod.planner.estimate import Estimate

DAY = date(2026, 11, 1)


def about(value: float, low: float | None = None, high: float | None = None) -> Estimate:
    return Estimate(
        value=value, low=value if low is None else low, high=value if high is None else high,
        source="test", as_of=DAY,
    )  # fmt: skip


def harm(name: str, usd: float, restore: float | None = None, **more: Any) -> Harm:
    fields: dict[str, Any] = {
        "world": name, "usd_day": about(usd), "after_day": about(0.0),
        "restore_days": None if restore is None else about(restore),
        "remedy_usd": None if restore is None else about(0.0),
        "remedy_month_usd": None if restore is None else about(0.0),
    }  # fmt: skip
    return Harm(**{**fields, **more})


def event(name: str, low: float, high: float, world: str = "w", group: str = "risk", **more: Any) -> Event:
    fields: dict[str, Any] = {"days": (30.0, 30.0)}
    return Event(id=name, title=name, group=group, low=low, high=high, world=world, **{**fields, **more})


def test_the_shipped_set_is_the_one_that_was_published() -> None:
    made = scenarios.odds()
    assert {name: one.probability for name, one in made.scenario.items()} == {
        "managed-bifurcation": Decimal("0.40"), "capability-breakthrough": Decimal("0.15"),
        "hardware-sovereignty": Decimal("0.20"), "security-incident": Decimal("0.10"),
        "third-path": Decimal("0.15"),
    }  # fmt: skip
    assert {name: (one.low, one.high) for name, one in made.risk.items()} == {
        name: (Decimal(low), Decimal(high))
        for name, low, high in (
            ("capability-discontinuity", "0.15", "0.25"), ("ascend-parity", "0.40", "0.55"),
            ("open-weight-incident", "0.10", "0.20"), ("open-release-restricted", "0.25", "0.35"),
            ("forced-alignment", "0.20", "0.35"), ("third-path-frontier", "0.15", "0.25"),
        )
    }  # fmt: skip
    assert len(made.flashpoint) == 6
    for group in (made.scenario, made.risk, made.flashpoint):
        for one in group.values():
            assert one.indicators
            assert one.source


def test_the_risk_beside_the_scenario_that_contains_it_is_named() -> None:
    found = scenarios.contradictions(scenarios.odds())
    (ascend,) = (one for one in found if "ascend-parity" in one.names)
    assert "0.40 to 0.55" in ascend.what
    assert "hardware-sovereignty 0.20" in ascend.what
    assert ascend.gap == Decimal("0.20")
    assert {"open-release-restricted", "forced-alignment"} <= {name for one in found for name in one.names}


def test_odds_that_agree_are_not_named() -> None:
    mine = scenarios.odds(
        {
            "hardware-sovereignty": {"probability": Decimal("0.45"), "contains": ["ascend-parity"]},
            "managed-bifurcation": {"probability": Decimal("0.15")},
        },
        {
            "forced-alignment": {"independent": True},
            "open-release-restricted": {"independent": True},
        },
    )
    assert scenarios.contradictions(mine) == []
    rare = scenarios.odds(None, {"third-path-frontier": {"low": Decimal(0), "high": Decimal("0.05")}})
    (one,) = (o for o in scenarios.contradictions(rare) if "third-path-frontier" in o.names)
    assert "rarer" in one.what


@pytest.mark.parametrize(
    ("scenario", "risk"),
    [
        ({"third-path": {"probability": Decimal("0.16")}}, None),
        ({"third-path": {"probability": Decimal("-0.15")}}, None),
        ({"third-path": {"probability": Decimal("1.5")}}, None),
        ({"third-path": {"contains": ["ascend"]}}, None),
        ({"third-path": {"propability": 1}}, None),
        ({"third-path": 3}, None),
        ({"third-path": {"days": {"low": 9, "high": 3}}}, None),
        ({"third-path": {"worlds": []}}, None),
        (None, {"ascend-parity": {"low": Decimal("0.6")}}),
        (None, {"ascend-parity": {"high": Decimal("NaN")}}),
        (None, {"new": {"low": Decimal("0.1"), "high": Decimal("0.2")}}),
    ],
)
def test_odds_that_cannot_be_are_refused(scenario: Any, risk: Any) -> None:
    with pytest.raises(Invalid):
        scenarios.odds(scenario, risk)


def test_scenarios_that_do_not_sum_to_one_say_what_they_sum_to() -> None:
    with pytest.raises(Invalid, match="do not sum to one") as error:
        scenarios.odds({"third-path": {"probability": Decimal("0.25")}})
    assert "= 1.10" in error.value.explain()


def test_ticks_move_a_range_towards_its_upper_end_and_nothing_else() -> None:
    made = scenarios.odds()
    sign = "ascend-parity/ascend-910c"
    seen = scenarios.ticked(made, [scenarios.Tick(sign=sign, day=DAY)])
    assert seen == {"ascend-parity": 0.5}
    plain = {one.id: one for one in events(made, {})}
    moved = {one.id: one for one in events(made, seen)}
    assert moved["ascend-parity"].low > plain["ascend-parity"].low
    assert moved["ascend-parity"].high == plain["ascend-parity"].high
    assert {name for name in plain if plain[name] != moved[name]} == {"ascend-parity"}
    raw = b'[[tick]]\nsign = "ascend-parity/ascend-910d"\nday = 2026-01-01\n'
    with pytest.raises(Invalid) as error:
        scenarios.read_ticks(raw, made)
    assert "did you mean 'ascend-parity/ascend-910c'?" in error.value.explain()


def test_odds_over_a_horizon_become_odds_of_a_year() -> None:
    assert yearly(0.0, 3.0) == 0
    assert yearly(1.0, 3.0) == 1
    assert 1 - (1 - yearly(0.4, 2.75)) ** 2.75 == pytest.approx(0.4)


def test_the_expected_cost_is_what_arithmetic_says() -> None:
    """One event of 20 % a year, 30 days at 100 USD where the year does not end before."""
    year = Year([event("e", 0.2, 0.2)], {"w": harm("w", 100.0)}, draws=60_000, seed=3)
    found = expect(year, [], DAY)
    mean_days = 30 - 30**2 / (2 * 365.25)  # those that begin in the last 30 days are cut off
    assert found.expected.value == pytest.approx(0.2 * 100 * mean_days, rel=0.05)
    assert found.quiet == pytest.approx(0.8, abs=0.01)
    assert found.tail.value >= found.expected.value
    assert found == expect(
        Year([event("e", 0.2, 0.2)], {"w": harm("w", 100.0)}, draws=60_000, seed=3), [], DAY
    )


def test_a_remedy_ends_it_and_a_hedge_prevents_it() -> None:
    of = [event("e", 0.5, 0.5)]
    slow = expect(Year(of, {"w": harm("w", 100.0)}, draws=5000, seed=1), [], DAY)
    aided = expect(Year(of, {"w": harm("w", 100.0, restore=3.0)}, draws=5000, seed=1), [], DAY)
    assert aided.expected.value < slow.expected.value / 5
    harms = {"w": harm("w", 100.0, restored={"good": 1.0, "half": 0.5})}
    hedges = [
        Hedge(id="half", title="half", year_usd=about(100.0)),
        Hedge(id="good", title="good", year_usd=about(100.0)),
        Hedge(id="none", title="none", year_usd=about(100.0)),
    ]
    ranked = expect(Year(of, harms, draws=5000, seed=1), hedges, DAY).hedges
    assert [one.id for one in ranked] == ["good", "half", "none"]
    assert ranked[0].less_expected_usd.value == pytest.approx(slow.expected.value)
    assert ranked[1].less_expected_usd.value == pytest.approx(slow.expected.value / 2)
    assert ranked[2].less_expected_usd.value == 0
    assert ranked[0].per_usd.value == pytest.approx(slow.expected.value / 100)


def test_at_most_one_scenario_comes_and_what_it_contains_comes_with_it() -> None:
    of = [
        event("s1", 0.5, 0.5, "a", "scenario", contains=("r",)),
        event("s2", 0.5, 0.5, "b", "scenario"),
        event("r", 1.0, 1.0, "a"),
    ]
    costs = Year(of, {"a": harm("a", 1.0), "b": harm("b", 1.0)}, draws=4000, seed=2).costs()
    assert not ((costs["s1"] > 0) & (costs["s2"] > 0)).any()
    assert not ((costs["s1"] > 0) & (costs["r"] > 0)).any()


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1e6), st.integers(0, 3))
def test_more_likely_or_more_harmful_never_costs_less(p: float, q: float, usd: float, seed: int) -> None:
    low, high = sorted((p, q))
    cost = [
        float(sum(Year([event("e", at, at)], {"w": harm("w", usd)}, draws=500, seed=seed).costs()["e"]))
        for at in (low, high)
    ]
    assert cost[0] <= cost[1]
    more = float(
        sum(Year([event("e", high, high)], {"w": harm("w", usd * 2)}, draws=500, seed=seed).costs()["e"])
    )
    assert more >= cost[1]


def test_nothing_that_costs_anything_is_a_quiet_year() -> None:
    found = expect(Year([event("e", 0.5, 0.5)], {}, draws=1000, seed=1), [], DAY)
    assert (found.expected.value, found.tail.value, found.quiet) == (0.0, 0.0, 1.0)
    assert expect(Year([], {}, draws=1000, seed=1), [], DAY).expected.value == 0
