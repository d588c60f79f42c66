"""Breakers and backoff: pure, bounded, with time and chance as arguments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from allod.routing.breaker import (
    BACKOFF_CAP_MS,
    PATIENCE_MS,
    Breaker,
    BreakerRules,
    backoff_ms,
    blames_deployment,
    worth_waiting,
)

RULES = BreakerRules()


def failed(times: int, at_ms: int = 0) -> Breaker:
    breaker = Breaker(["a", "b"])
    for _ in range(times):
        breaker.record("a", False, at_ms)
    return breaker


def test_failures_in_a_row_open_it() -> None:
    assert failed(RULES.in_a_row - 1).resting(0) == frozenset()
    breaker = failed(RULES.in_a_row)
    assert breaker.resting(0) == {"a"}
    assert not breaker.allows("a", 0)
    assert breaker.allows("b", 0)


def test_a_success_between_starts_the_row_again() -> None:
    breaker = failed(RULES.in_a_row - 1)
    breaker.record("a", True, 1)
    for at in range(2, 2 + RULES.in_a_row - 1):
        breaker.record("a", False, at)
    assert breaker.resting(10) == frozenset()


def test_a_high_share_of_failures_opens_it_without_a_row() -> None:
    breaker = Breaker(["a"])
    for at in range(RULES.at_least):
        breaker.record("a", at % 2 == 0, at)
    assert breaker.resting(20) == {"a"}


def test_old_failures_do_not_count() -> None:
    breaker = Breaker(["a"])
    for n in range(RULES.at_least):
        breaker.record("a", n % 2 == 0, n * RULES.window_ms)
    assert breaker.resting(RULES.at_least * RULES.window_ms) == frozenset()


def test_after_the_rest_one_probe_may_pass() -> None:
    breaker = failed(RULES.in_a_row)
    at = RULES.rest_ms
    assert breaker.resting(at - 1) == {"a"}
    assert breaker.resting(at) == frozenset()
    assert breaker.allows("a", at)
    assert not breaker.allows("a", at)
    assert breaker.resting(at) == {"a"}


def test_a_good_probe_closes_and_a_bad_one_doubles_the_rest() -> None:
    breaker = failed(RULES.in_a_row)
    at = RULES.rest_ms
    assert breaker.allows("a", at)
    breaker.record("a", True, at + 1)
    assert breaker.resting(at + 1) == frozenset()
    assert breaker.state("a").recent == ()
    breaker = failed(RULES.in_a_row)
    assert breaker.allows("a", at)
    breaker.record("a", False, at)
    assert breaker.resting(at + 2 * RULES.rest_ms - 1) == {"a"}
    assert breaker.resting(at + 2 * RULES.rest_ms) == frozenset()


def test_the_rest_never_exceeds_its_bound() -> None:
    breaker, at = failed(RULES.in_a_row), 0
    for _ in range(20):
        at = breaker.state("a").open_until_ms or 0
        assert breaker.allows("a", at)
        breaker.record("a", False, at)
    assert (breaker.state("a").open_until_ms or 0) - at == RULES.longest_rest_ms


def test_a_probe_that_never_reports_is_forgotten() -> None:
    breaker = failed(RULES.in_a_row)
    at = RULES.rest_ms
    assert breaker.allows("a", at)
    assert not breaker.allows("a", at + RULES.rest_ms - 1)
    assert breaker.allows("a", at + RULES.rest_ms)


def test_what_began_before_the_rest_and_ends_during_it_says_nothing() -> None:
    breaker = failed(RULES.in_a_row)
    before = breaker.state("a")
    breaker.record("a", False, 1)
    breaker.record("a", True, 2)
    assert breaker.state("a") == before


def test_an_unknown_deployment_leaves_no_state() -> None:
    breaker = Breaker(["a"])
    for n in range(100):
        breaker.record(f"x{n}", False, n)
        assert breaker.allows(f"x{n}", n)
    assert breaker.resting(100) == frozenset()
    assert len(breaker._states) == 1


class BreakerWorld(RuleBasedStateMachine):
    """Any sequence of attempts, reports and waits."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker, self.now, self.under_way = Breaker(["a"]), 0, 0

    @rule(ms=st.integers(0, 200_000))
    def wait(self, ms: int) -> None:
        self.now += ms

    @rule()
    def attempt(self) -> None:
        resting = "a" in self.breaker.resting(self.now)
        half_open = self.breaker.state("a").open_until_ms is not None
        allowed = self.breaker.allows("a", self.now)
        assert allowed != resting
        if allowed and half_open:
            assert not self.breaker.allows("a", self.now)
        self.under_way += allowed

    @rule(ok=st.booleans())
    def report(self, ok: bool) -> None:
        self.breaker.record("a", ok, self.now)

    @invariant()
    def it_is_bounded(self) -> None:
        state = self.breaker.state("a")
        assert len(state.recent) <= RULES.window
        assert state.rest_ms <= RULES.longest_rest_ms
        if state.open_until_ms is not None:
            assert state.open_until_ms <= self.now + RULES.longest_rest_ms

    @invariant()
    def it_never_rests_for_ever(self) -> None:
        assert self.breaker.resting(self.now + 2 * RULES.longest_rest_ms) == frozenset()


TestBreakerWorld = BreakerWorld.TestCase


@given(st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_backoff_is_bounded_and_grows(attempt, jitter) -> None:
    wait = backoff_ms(attempt, None, jitter)
    assert 0 <= wait < min(BACKOFF_CAP_MS, 100 * 2 ** (attempt - 1)) or wait == 0
    assert backoff_ms(attempt + 1, None, jitter) >= wait


@given(st.integers(1, 9), st.integers(0, 10**7), st.floats(0, 1, exclude_max=True))
def test_what_the_operator_asked_for_is_waited_out(attempt, asked, jitter) -> None:
    assert asked <= backoff_ms(attempt, asked, jitter) < asked + 100


def test_a_wait_is_worth_it_only_within_what_remains() -> None:
    assert worth_waiting(100, 101)
    assert not worth_waiting(100, 100)
    assert worth_waiting(PATIENCE_MS - 1, None)
    assert not worth_waiting(PATIENCE_MS, None)


@pytest.mark.parametrize(
    ("kind", "blamed"),
    [("server", True), ("timeout", True), ("rate", True), ("request", False), ("too_long", False)],
)
def test_only_faults_of_the_deployment_count(kind, blamed) -> None:
    assert blames_deployment(kind) == blamed
