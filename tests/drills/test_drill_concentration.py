from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from drilled import decided, gathered, record, setting, traffics
from hypothesis import given, settings
from hypothesis import strategies as st

from allod.drills.concentration import UNKNOWN, concentration, index
from allod.drills.traffic import Gathering
from allod.routing.question import DecisionFacts, DeploymentFacts


def asked(first: str, *behind: str) -> DecisionFacts:
    return DecisionFacts(
        task=None, needs=("text",), input_tokens=8, min_quality=None, max_cost_usd=None, deadline_ms=None,
        effort=None, objective="best", ordered=True,
        candidates=tuple(
            DeploymentFacts(
                deployment=name, quality=Decimal("0.5"), cost_usd=Decimal(1), reserve_usd=Decimal(2)
            )
            for name in (first, *behind)
        ),
    )  # fmt: skip


def of(*parts: tuple[DecisionFacts, int, str]) -> Any:
    gathering = Gathering()
    for n, (facts, requests, day) in enumerate(parts):
        gathering.add(decided(record(facts, day=day), requests, n))
    return gathering.traffic()


def axis(found: Any, name: str, weight: str = "traffic") -> Any:
    return next(one for one in found if one.axis == name and one.weight == weight)


def test_the_index_is_the_sum_of_squared_shares() -> None:
    traffic = of((asked("a"), 60, "2026-10-01"), (asked("c"), 40, "2026-10-01"))
    one = axis(concentration(traffic, setting()), "operator")
    assert one.hhi.value == pytest.approx(0.6**2 + 0.4**2)
    assert one.effective.value == pytest.approx(1 / 0.52)
    assert [(s.name, s.share) for s in one.shares] == [("one", 0.6), ("two", 0.4)]
    assert index({"x": 5}) == 1
    assert index({}) == 0


def test_what_is_not_known_is_a_share_of_its_own_and_an_interval() -> None:
    traffic = of((asked("a"), 60, "2026-10-01"), (asked("d"), 40, "2026-10-01"))  # nobody knows the chip of d
    one = axis(concentration(traffic, setting()), "chip")
    assert one.unknown == pytest.approx(0.4)
    assert (UNKNOWN, 0.4) in [(s.name, s.share) for s in one.shares]
    assert one.hhi.low == pytest.approx(0.36)
    assert one.hhi.value == pytest.approx(0.52)
    assert one.hhi.high == pytest.approx(1.0)  # it may all be the chip of the others


def test_the_best_change_is_to_a_lawful_one_that_was_able() -> None:
    traffic = of((asked("a", "c"), 30, "2026-10-01"), (asked("a"), 70, "2026-10-01"))
    one = axis(concentration(traffic, setting()), "operator")
    assert [(c.to, c.requests) for c in one.lower] == [("c", 30)]
    assert one.lower[0].hhi == pytest.approx(0.7**2 + 0.3**2)
    assert not axis(concentration(of((asked("a", "b"), 9, "2026-10-01")), setting()), "operator").lower


def test_the_trend_is_over_time() -> None:
    days = [f"2026-10-{n:02}" for n in range(1, 25)]
    parts = [p for n, day in enumerate(days) for p in ((asked("a"), 40 + n, day), (asked("c"), 40 - n, day))]
    one = axis(concentration(of(*parts), setting()), "operator")
    assert 1 < len(one.trend) <= 12
    assert one.slope_month is not None
    assert one.slope_month > 0
    assert axis(concentration(of((asked("a"), 1, "2026-10-01")), setting()), "operator").slope_month is None


@settings(max_examples=25, deadline=None)
@given(traffics)
def test_every_index_lies_between_its_bounds(drawn: Any) -> None:
    for one in concentration(gathered(drawn).traffic(), setting()):
        assert 0 < one.hhi.value <= 1.0000001
        assert one.hhi.low <= one.hhi.value
        assert sum(s.share for s in one.shares) == pytest.approx(1)
        assert one.effective.value >= 0.999
        for change in one.lower:
            assert change.hhi < one.hhi.value


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 1000), min_size=1, max_size=9))
def test_the_index_is_at_least_one_over_n(counts: dict[str, int]) -> None:
    assert 1 / len(counts) - 1e-9 <= index(counts) <= 1 + 1e-9
