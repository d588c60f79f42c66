"""Plans by estimates of the request: what they order, what they shut out, and that they let nobody in."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_worlds import deployment, fleet, price, question

from allod.domain.decision import Estimated
from allod.domain.fleet import CapabilityEvidence, Fleet, Task
from allod.routing.plan import choose, decide, plan, solved_usd
from allod.routing.question import Question, facts_of
from allod.routing.record import decision_record, holds, read_record, write_record

HUNDREDTHS = st.integers(0, 100).map(lambda n: Decimal(n).scaleb(-2))
NAMES = ("own", "near", "far", "unlawful")


def measured(value: str, low: str) -> dict[str, tuple[CapabilityEvidence, ...]]:
    one = CapabilityEvidence(
        value=Decimal(value), low=Decimal(low), high=Decimal(1), basis="measured", cases=Decimal(100)
    )
    return {"sums": (one,)}


def world(objective: Any = "cheapest", **task: Any) -> Fleet:
    return fleet(
        deployment("own", seal=(4,) * 8, quality={"sums": Decimal("0.85")}, price=price("1", "2")),
        deployment("near", seal=(2,) * 8, capability=measured("0.9", "0.8"), price=price("2", "4")),
        deployment("far", seal=(1,) * 8, quality={"sums": Decimal("0.95")}, price=price("10", "40")),
        deployment("unlawful", seal=(4,) * 8, quality={"sums": Decimal(1)}, price=price("0", "0")),
        tasks=(Task(name="sums", objective=objective, **task),),
    )


def estimate(success: str, *, low: str = "", high: str = "", tokens: int = 100) -> Estimated:
    p = Decimal(success)
    return Estimated(
        success=p, low=Decimal(low or success), high=Decimal(high or success), output_tokens=tokens, n=100
    )


def asked(of: Fleet, estimates: dict[str, Estimated] | None = None, **more: Any) -> Question:
    floor = of.tasks["sums"].min_quality
    bare = question(of, unlawful=("unlawful",), task="sums", min_quality=floor, **more)
    return msgspec.structs.replace(bare, estimates=tuple((estimates or {}).items()))


def order(of: Fleet, estimates: dict[str, Estimated], **more: Any) -> list[str]:
    return [one.deployment for one in plan(asked(of, estimates, **more)).attempts]


@st.composite
def estimated(draw: st.DrawFn) -> Estimated:
    low, success, high = sorted(draw(st.lists(HUNDREDTHS, min_size=3, max_size=3)))
    return Estimated(
        success=success,
        low=low,
        high=high,
        output_tokens=draw(st.integers(1, 10_000)),
        n=draw(st.integers(0, 99)),
    )


GUESSES = st.fixed_dictionaries({}, optional={name: estimated() for name in NAMES})
FLOORS = st.sampled_from([None, Decimal("0.82"), Decimal("0.9"), Decimal("0.99")])
OBJECTIVES = st.sampled_from(["cheapest", "best", "sovereign"])


@settings(max_examples=150)
@given(guesses=GUESSES, floor=FLOORS, objective=OBJECTIVES, listed=st.booleans())
def test_I1_no_estimate_lets_anybody_in(
    guesses: dict[str, Estimated], floor: Decimal | None, objective: Any, listed: bool
) -> None:
    named = {"deployments": ("far", "own", "unlawful")} if listed else {}
    of = world(objective, min_quality=floor, **named)
    bare, with_them = (choose(facts_of(asked(of, some))) for some in ({}, guesses))
    able = {one.deployment for one in bare.able}
    now = {one.deployment for one in with_them.able}
    assert now <= able, "law, capability and floor are those of the task"
    assert "unlawful" not in now
    unlawful = next(one for one, _ in with_them.judged if one.deployment == "unlawful")
    assert (unlawful.estimate, unlawful.cost_usd) == (None, None)
    for name in able - now:
        assert floor is not None
        assert guesses[name].high < floor, "shut out by its estimate alone"
    assert bool(now) == bool(able), "a request that is too hard for everybody is not refused for it"


@settings(max_examples=100)
@given(guesses=GUESSES, floor=FLOORS, objective=OBJECTIVES)
def test_I8_the_record_leads_to_the_plan_without_the_estimator(
    guesses: dict[str, Estimated], floor: Decimal | None, objective: Any
) -> None:
    one = asked(world(objective, min_quality=floor), guesses)
    record = decision_record(one, plan(one), estimator={"fitted": "sha256:00", "day": "2026-11-26"})
    again = read_record(record)
    assert holds(record)
    assert decide(again.facts) == plan(one)
    assert write_record(again) == record
    assert again.estimator == {"fitted": "sha256:00", "day": "2026-11-26"}
    known = {c.deployment: c.estimate for c in again.facts.candidates if c.estimate is not None}
    assert known == {name: guess for name, guess in guesses.items() if name != "unlawful"}


def test_I8_a_record_without_estimates_says_nothing_of_them() -> None:
    one = asked(world())
    assert b"estimat" not in decision_record(one, plan(one)).replace(b"as estimated", b"")


def test_the_cheapest_is_by_cost_per_success_of_this_request() -> None:
    of = world()
    assert order(of, {}) == ["own", "near", "far"]
    hard = {"own": estimate("0.3"), "near": estimate("0.9"), "far": estimate("0.95")}
    assert order(of, hard) == ["near", "own", "far"]
    long = {"own": estimate("0.9", tokens=4000), "near": estimate("0.9", tokens=50), "far": estimate("0.9")}
    assert order(of, long)[0] == "near", "whoever says less costs less"
    facts = {one.deployment: one for one in facts_of(asked(of, long)).candidates}
    assert facts["near"].cost_usd == Decimal("0.000424"), "112 tokens in, rounded up, and 50 out"
    reserved = facts_of(asked(of)).candidates[1].reserve_usd
    assert facts["near"].reserve_usd == reserved, "never by an estimate (I4)"
    assert solved_usd(facts["near"]) == Decimal("0.000424") / Decimal("0.9")
    none = {name: estimate("0") for name in ("own", "near", "far")}
    assert sorted(order(of, none)) == ["far", "near", "own"]


def test_the_best_is_by_success_of_this_request() -> None:
    of = world("best")
    assert order(of, {}) == ["far", "near", "own"]
    guesses = {"own": estimate("0.99"), "near": estimate("0.9"), "far": estimate("0.99")}
    assert order(of, guesses) == ["own", "far", "near"], "the more sovereign of two that are as good"


def test_the_most_sovereign_comes_first_among_those_expected_to_meet_the_floor() -> None:
    of = world("sovereign", min_quality=Decimal("0.8"))
    assert order(of, {}) == ["own", "near", "far"]
    doubtful = {"own": estimate("0.7", high="0.85"), "near": estimate("0.9"), "far": estimate("0.95")}
    assert order(of, doubtful) == ["near", "far", "own"]
    made = plan(asked(of, doubtful | {"own": estimate("0.6", high="0.79")}))
    assert [one.deployment for one in made.attempts] == ["near", "far"]
    rule = next(c.rules[0] for c in made.candidates if c.deployment == "own")
    assert rule.id == "quality.estimate"
    assert rule.got == "success 0.6 (0.6 to 0.79 with 90 %), 100 tokens, from 100 outcomes"
    assert order(world("sovereign"), doubtful) == ["own", "near", "far"], "without a floor nothing is missed"


def test_the_floor_is_held_against_the_task_whatever_a_request_looks_like() -> None:
    of = world(min_quality=Decimal("0.9"))
    easy = {name: estimate("1", low="0.99") for name in NAMES}
    assert order(of, easy) == ["far"], "0.85 declared and 0.8 proven stay below 0.9"
    hard = {name: estimate("0.1", high="0.2") for name in NAMES}
    made = plan(asked(of, hard))
    assert [one.deployment for one in made.attempts] == ["far"], "the only one that meets it at the task"
    assert {c.deployment: c.rules[0].id for c in made.candidates if c.rules} == {
        "own": "quality.floor", "near": "quality.floor", "unlawful": "residency.5-operator",
    }  # fmt: skip


def test_a_request_that_is_too_hard_for_everybody_goes_to_the_likeliest() -> None:
    of = world("sovereign", min_quality=Decimal("0.8"))
    hard = {"own": estimate("0.1"), "near": estimate("0.3"), "far": estimate("0.2")}
    made = plan(asked(of, hard))
    assert [one.deployment for one in made.attempts] == ["near", "far", "own"]
    assert "success 0.3 estimated for this request (of all able below 0.8)" in made.why
    assert order(of, hard | {"own": estimate("0.8")}) == ["own"], "as long as anybody may meet it"


def test_a_task_that_names_its_deployments_keeps_their_order() -> None:
    of = world(deployments=("far", "own"))
    assert order(of, {"own": estimate("1"), "far": estimate("0.2")}) == ["far", "own"]
    assert "estimated" not in plan(asked(of, {"own": estimate("1"), "far": estimate("0.2")})).why
