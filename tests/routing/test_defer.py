"""When work that may wait begins: never too late, never dearer, the same for the same facts."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.domain.errors import Integrity
from allod.routing.defer import GUARD_MS, SPREAD_MS, SPREADS, DeferFacts, Span, choose, read, record

HOUR_MS = 3_600_000
NOW = 1_795_608_000_000


@st.composite
def facts(draw) -> DeferFacts:
    lengths = draw(st.lists(st.integers(1, 8 * HOUR_MS), min_size=0, max_size=8))
    spans, at = [], NOW
    for n, length in enumerate(lengths):
        usd = draw(st.none() | st.decimals(0, 1, places=4))
        name = None if usd is None else f"d{n}"
        spans.append(Span(from_ms=at, until_ms=at + length, deployment=name, cost_usd=usd))
        at += length
    return DeferFacts(
        now_ms=NOW,
        deadline_at_ms=NOW + draw(st.integers(-HOUR_MS, 30 * HOUR_MS)),
        expected_ms=draw(st.integers(0, HOUR_MS)),
        doubt_ms=draw(st.integers(0, HOUR_MS)),
        ahead_ms=draw(st.integers(0, HOUR_MS)),
        spread=draw(st.integers(0, SPREADS - 1)),
        spans=tuple(spans),
    )


@given(facts())
def test_it_never_begins_later_than_the_deadline_less_its_margin(of) -> None:
    start = choose(of)
    assert of.now_ms <= start.start_ms <= max(of.now_ms, of.deadline_at_ms - of.margin_ms)
    assert start.latest_ms == of.latest_ms


@given(facts())
def test_it_is_never_dearer_than_beginning_at_once_by_its_own_estimate(of) -> None:
    start = choose(of)
    if start.now_usd is not None:
        assert start.cost_usd is not None
        assert start.cost_usd <= start.now_usd
        if start.start_ms != of.now_ms:
            assert start.cost_usd < start.now_usd  # waiting is for money


@given(facts())
def test_where_it_begins_is_where_the_cost_was_estimated(of) -> None:
    start = choose(of)
    here = [s for s in of.spans if s.from_ms <= start.start_ms < s.until_ms]
    if here:
        assert (here[0].deployment, here[0].cost_usd) == (start.deployment, start.cost_usd)
        if start.start_ms != of.now_ms:
            assert here[0].from_ms + GUARD_MS <= start.start_ms <= here[0].until_ms - GUARD_MS


@given(facts())
def test_I8_the_same_recorded_facts_give_the_same_start(of) -> None:
    again = read(record(of))
    assert again == of
    assert choose(again) == choose(of)


@given(facts(), st.decimals(0, 2, places=4))
def test_a_dearer_hour_never_moves_it(of, more) -> None:
    start = choose(of)
    spans = tuple(
        s
        if s.cost_usd is None or (s.deployment == start.deployment)
        else Span(from_ms=s.from_ms, until_ms=s.until_ms, deployment=s.deployment, cost_usd=s.cost_usd + more)
        for s in of.spans
    )
    other = DeferFacts(**{n: getattr(of, n) for n in of.__struct_fields__ if n != "spans"}, spans=spans)
    moved = choose(other)
    if start.cost_usd is not None:
        assert moved.start_ms == start.start_ms or moved.cost_usd == start.cost_usd


def night(**more) -> DeferFacts:
    """Dear now, half the price from two hours on, for an hour."""
    spans = [(0, 2, "0.2"), (2, 3, "0.1"), (3, 24, "0.2")]
    of = {
        "now_ms": NOW,
        "deadline_at_ms": NOW + 24 * HOUR_MS,
        "expected_ms": 20_000,
        "doubt_ms": 360_000,
        "spans": tuple(
            Span(from_ms=NOW + a * HOUR_MS, until_ms=NOW + b * HOUR_MS, deployment="d", cost_usd=Decimal(usd))
            for a, b, usd in spans
        ),
    }
    return DeferFacts(**{**of, **more})


def test_it_waits_for_the_cheaper_hour() -> None:
    start = choose(night())
    assert start.start_ms == NOW + 2 * HOUR_MS + GUARD_MS
    assert (start.cost_usd, start.now_usd) == (Decimal("0.1"), Decimal("0.2"))
    assert "0.1 USD expected from" in start.why


def test_many_that_wait_for_one_hour_are_spread_over_its_beginning() -> None:
    starts = {choose(night(spread=n * SPREADS // 64)).start_ms for n in range(64)}
    assert len(starts) == 64
    first = NOW + 2 * HOUR_MS + GUARD_MS
    assert min(starts) == first
    assert max(starts) < first + SPREAD_MS


@pytest.mark.parametrize("left_ms", [0, 60_000, 2 * HOUR_MS, 2 * HOUR_MS + 380_000])
def test_what_cannot_wait_so_long_begins_at_once(left_ms) -> None:
    assert choose(night(deadline_at_ms=NOW + left_ms)).start_ms == NOW


def test_work_ahead_in_the_queue_brings_the_latest_start_forward() -> None:
    assert choose(night(deadline_at_ms=NOW + 3 * HOUR_MS)).start_ms > NOW
    assert choose(night(deadline_at_ms=NOW + 3 * HOUR_MS, ahead_ms=HOUR_MS)).start_ms == NOW


def test_where_nothing_is_lawful_now_a_later_lawful_hour_is_waited_for() -> None:
    spans = (
        Span(from_ms=NOW, until_ms=NOW + HOUR_MS),
        Span(from_ms=NOW + HOUR_MS, until_ms=NOW + 2 * HOUR_MS, deployment="d", cost_usd=Decimal(9)),
    )
    start = choose(night(spans=spans))
    assert start.now_usd is None
    assert start.start_ms == NOW + HOUR_MS + GUARD_MS


@pytest.mark.parametrize("text", [b"{}", b"[]", b'{"format":"other"}', record(night())[:-1] + b',"x":1}'])
def test_what_is_no_record_is_not_read(text) -> None:
    with pytest.raises(Integrity):
        read(text)
