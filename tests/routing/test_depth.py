"""Reasoning depth is chosen as a deployment is: within the caps, never below the floor, replayable."""

from __future__ import annotations

import itertools
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from routing_worlds import AT, deployment, fleet, price, question

from allod.admission.admit import depth_of
from allod.domain.decision import Plan
from allod.domain.fleet import EFFORTS, App, CapabilityEvidence, DepthEvidence, Effort, Task
from allod.routing.capability import Finding
from allod.routing.depth import AtDepth, depth_evidence, shallower
from allod.routing.plan import plan
from allod.routing.question import facts_of
from allod.routing.record import decision_record, holds, read_record, replay

TODAY = date(2026, 11, 25)
DAY_MS = 86_400_000


def known(value: float, low: float, **more: Any) -> CapabilityEvidence:
    return CapabilityEvidence(
        value=Decimal(str(value)), low=Decimal(str(low)), high=Decimal(1), basis="measured",
        cases=Decimal(100), evaluations=("sha256:e",), **more,
    )  # fmt: skip


def at(
    effort: Effort, value: float, low: float, output: int, thinking: int = 0, **more: Any
) -> DepthEvidence:
    return DepthEvidence(
        effort=effort, success=(known(value, low),), output_tokens=output, reasoning_tokens=thinking, **more
    )


SUMS = (at("none", 0.16, 0.1, 3), at("low", 0.5, 0.4, 4, 12), at("high", 0.97, 0.94, 4, 28))
OPEN = Task(name="sums", efforts=EFFORTS, objective="cheapest")


def planned(
    *depths: DepthEvidence, task: Task = OPEN, efforts: tuple[Effort, ...] = EFFORTS, **more: Any
) -> Plan:
    one = deployment("ward", depths={"sums": depths}, price=price("1", "5"))
    return plan(question(fleet(one, tasks=(task,)), task="sums", efforts=efforts, **more))


def test_the_cheapest_depth_per_solved_task_is_taken() -> None:
    made = planned(*SUMS)
    (attempt,) = made.attempts
    # 112 tokens of input; per million: none 127 / .16 = 794, low 192 / .5 = 384, high 272 / .97 = 280
    assert attempt.effort == "high"
    assert attempt.quality == Decimal("0.97")
    assert attempt.cost_usd == Decimal("0.000272")
    assert made.candidates[0].depth == "high"


def test_where_every_depth_is_as_good_the_shallowest_is_taken() -> None:
    made = planned(at("none", 0.9, 0.85, 5), at("low", 0.9, 0.85, 5, 9), at("high", 0.91, 0.86, 5, 30))
    assert made.attempts[0].effort == "none"


def test_best_takes_the_depth_that_solves_most_also_where_thinking_hurts() -> None:
    best = msgspec.structs.replace(OPEN, objective="best")
    assert planned(*SUMS, task=best).attempts[0].effort == "high"
    hurts = (at("none", 0.99, 0.97, 5), at("high", 0.7, 0.6, 5, 30))
    assert planned(*hurts, task=best).attempts[0].effort == "none"


def test_depth_that_costs_nothing_is_decided_by_success_then_by_tokens() -> None:
    free = deployment(
        "ward", depths={"sums": SUMS}, price=msgspec.structs.replace(price("0", "0"), free=True)
    )
    of = fleet(free, tasks=(msgspec.structs.replace(OPEN, objective="sovereign"),))
    assert plan(question(of, task="sums", efforts=EFFORTS)).attempts[0].effort == "high"


def test_the_floor_is_held_against_what_is_assured_at_the_depth() -> None:
    made = planned(at("none", 0.95, 0.85, 3), at("high", 0.96, 0.91, 4, 60), min_quality=Decimal("0.9"))
    assert made.attempts[0].effort == "high", "cheaper at none, but not assured"
    refused = planned(*SUMS, min_quality=Decimal("0.95"))
    assert refused.attempts == ()
    (one,) = refused.candidates
    assert [rule.id for rule in one.rules] == ["quality.floor"]
    assert one.depth == "high", "the depth that comes nearest is the one that is shown"


def test_a_deadline_takes_a_shallower_depth() -> None:
    slow = (at("none", 0.8, 0.7, 3, total_ms=50), at("high", 0.99, 0.9, 4, 900, total_ms=9000))
    best = msgspec.structs.replace(OPEN, objective="best")
    assert planned(*slow, task=best).attempts[0].effort == "high"
    assert planned(*slow, task=best, deadline_ms=1000).attempts[0].effort == "none"


def test_no_more_is_expected_than_the_output_limit_lets() -> None:
    from allod.domain.request import Sizes

    made = planned(
        at("high", 0.97, 0.94, 200, 4000), sizes=Sizes(body_bytes=0, input_tokens=100, max_output_tokens=500)
    )
    (attempt,) = made.attempts
    assert attempt.cost_usd <= attempt.reserve_usd


def test_without_evidence_per_depth_nothing_changes() -> None:
    one = deployment("ward")
    of = fleet(one, tasks=(OPEN,))
    open_depth = plan(question(of, task="sums", efforts=EFFORTS))
    fixed = plan(question(of, task="sums"))
    assert open_depth.attempts == fixed.attempts
    assert open_depth.attempts[0].effort is None
    assert plan(question(of, task="sums", efforts=EFFORTS, effort="high")).attempts[0].effort == "high"


def test_evidence_of_another_task_or_of_a_past_day_does_not_count() -> None:
    gone = DepthEvidence(
        effort="high", success=(known(0.97, 0.94, until=TODAY),), output_tokens=4, reasoning_tokens=9
    )
    assert planned(gone).candidates[0].depth is None
    of = fleet(deployment("ward", depths={"other": SUMS}), tasks=(OPEN,))
    assert plan(question(of, task="sums", efforts=EFFORTS)).candidates[0].depth is None


def test_a_task_of_fixed_depth_reads_no_depths() -> None:
    of = fleet(deployment("ward", depths={"sums": SUMS}), tasks=(Task(name="sums", effort="low"),))
    made = plan(question(of, task="sums", effort="low"))
    assert made.attempts[0].effort == "low"


def test_what_was_measured_at_more_depth_says_nothing_of_less() -> None:
    one = deployment("ward", capability={"sums": (known(0.97, 0.94),)}, quality={})
    of = fleet(one, tasks=(Task(name="sums", effort="high"),))
    floor = Decimal("0.9")
    assert plan(question(of, task="sums", effort="high", min_quality=floor)).attempts
    lowered = plan(question(of, task="sums", effort="low", min_quality=floor))
    assert lowered.attempts == ()
    assert lowered.candidates[0].rules[0].got == "unknown"
    assert shallower(Task(name="x", efforts=("medium", "high")), "low")
    assert not shallower(Task(name="x", efforts=("none", "high")), None)


def test_deployments_are_compared_at_the_depth_each_would_get() -> None:
    small = deployment("small", depths={"sums": SUMS}, price=price("1", "5"))
    large = deployment("large", depths={"sums": (at("none", 0.98, 0.95, 3),)}, price=price("2", "10"))
    made = plan(question(fleet(small, large, tasks=(OPEN,)), task="sums", efforts=EFFORTS))
    # large at none: (224 + 30) / .98 = 259 a million; small at high: 280
    assert [(a.deployment, a.effort) for a in made.attempts] == [("large", "none"), ("small", "high")]


# --- what holds whatever was measured


@st.composite
def evidences(draw: st.DrawFn) -> tuple[DepthEvidence, ...]:
    out = []
    for effort in draw(st.lists(st.sampled_from(EFFORTS), unique=True, max_size=6)):
        low = draw(st.integers(0, 100)) / 100
        value = draw(st.integers(round(low * 100), 100)) / 100
        output, thinking = draw(st.integers(0, 5000)), draw(st.integers(0, 50_000))
        out.append(at(effort, value, low, output, thinking))
    return tuple(sorted(out, key=lambda one: EFFORTS.index(one.effort)))


@st.composite
def worlds(draw: st.DrawFn) -> Any:
    """Return a question about one to three deployments, each with some depths measured."""
    offered = tuple(draw(st.lists(st.sampled_from(EFFORTS), unique=True, min_size=2)))
    task = Task(
        name="sums",
        efforts=offered,
        objective=draw(st.sampled_from(("sovereign", "cheapest", "best"))),
        min_quality=draw(st.none() | st.integers(0, 100).map(lambda n: Decimal(n) / 100)),
    )
    app = App(id="app", effort=draw(st.none() | st.sampled_from(EFFORTS)))
    asked = draw(st.none() | st.sampled_from(EFFORTS))
    effort, efforts = depth_of(app, task, asked)
    ones = [
        deployment(
            f"d{n}",
            depths={"sums": draw(evidences())},
            price=price(draw(st.sampled_from("05")), draw(st.sampled_from("029"))),
            quality=draw(st.sampled_from(({}, {"default": Decimal("0.6")}))),
        )
        for n in range(draw(st.integers(1, 3)))
    ]
    of = fleet(*ones, tasks=(task,))
    put = question(of, task="sums", effort=effort, efforts=efforts, min_quality=task.min_quality)
    return put, app, asked


@given(worlds())
def test_no_attempt_is_deeper_than_app_and_caller_allow(world: Any) -> None:
    put, app, asked = world
    caps = [EFFORTS.index(cap) for cap in (app.effort, asked) if cap is not None]
    for attempt in plan(put).attempts:
        assert not caps or EFFORTS.index(attempt.effort or "none") <= min(caps)


@given(worlds())
def test_a_pair_of_deployment_and_depth_is_never_admitted_below_the_floor(world: Any) -> None:
    put, _, _ = world
    for attempt in plan(put).attempts:
        if put.min_quality is None:
            continue
        of = put.fleet.deployments[attempt.deployment]
        measured = {one.effort: one.success[0].low for one in of.depths["sums"]}
        assured = measured.get(attempt.effort or "none", of.quality.get("default"))
        assert assured is not None
        assert assured >= put.min_quality


@given(worlds())
def test_I8_a_decision_about_depth_is_made_again_from_its_record(world: Any) -> None:
    put, _, _ = world
    made = plan(put)
    record = decision_record(put, made)
    assert holds(record)
    assert replay(record) == made
    assert read_record(record).facts == facts_of(put)


@given(worlds())
def test_a_tighter_cap_never_deepens(world: Any) -> None:
    put, app, asked = world
    task = put.fleet.tasks["sums"]
    for cap in EFFORTS:
        lower = cap if asked is None or EFFORTS.index(cap) < EFFORTS.index(asked) else asked
        effort, efforts = depth_of(app, task, lower)
        again = msgspec.structs.replace(put, effort=effort, efforts=efforts)
        deepest = max((EFFORTS.index(a.effort or "none") for a in plan(again).attempts), default=0)
        assert deepest <= EFFORTS.index(lower)


def test_records_of_before_depth_are_read_and_hold() -> None:
    put = question(fleet(deployment("ward"), deployment("other")))
    record = decision_record(put, plan(put))
    assert b"depth" not in record
    assert b'"efforts"' not in record
    assert holds(record)


# --- admission


def test_what_a_caller_may_get() -> None:
    app, free = App(id="a", effort="medium"), App(id="a")
    open_task, listed = Task(name="t", efforts=EFFORTS), Task(name="t", efforts=("medium", "none", "high"))
    assert depth_of(free, None, None) == (None, ())
    assert depth_of(app, None, "high") == ("medium", ())
    assert depth_of(free, Task(name="t", effort="high"), None) == ("high", ())
    assert depth_of(free, open_task, None) == (None, EFFORTS)
    assert depth_of(app, open_task, None) == (None, ("none", "low", "medium"))
    assert depth_of(app, open_task, "max") == ("medium", ("none", "low", "medium"))
    assert depth_of(free, open_task, "none") == ("none", ())
    assert depth_of(free, listed, None) == ("medium", ("medium", "none", "high"))
    assert depth_of(free, listed, "low") == ("none", ())
    assert depth_of(App(id="a", effort="low"), Task(name="t", efforts=("high", "max")), None) == ("low", ())


@given(
    st.none() | st.sampled_from(EFFORTS),
    st.none() | st.sampled_from(EFFORTS),
    st.lists(st.sampled_from(EFFORTS), unique=True),
)
def test_admission_never_exceeds_a_cap(
    cap: Effort | None, asked: Effort | None, offered: list[Effort]
) -> None:
    effort, efforts = depth_of(App(id="a", effort=cap), Task(name="t", efforts=tuple(offered)), asked)
    caps = [EFFORTS.index(one) for one in (cap, asked) if one is not None]
    for one in (*efforts, effort or "none"):
        assert not caps or EFFORTS.index(one) <= min(caps)
    assert effort is None or not efforts or effort in efforts


# --- what evaluations make of it


def found(effort: Effort, right: int, wrong: int, tokens: int, until: date) -> AtDepth:
    return AtDepth(
        effort=effort,
        finding=Finding(
            successes=right, failures=wrong, evaluation=f"sha256:{effort}", at="2026-11-01", until=until
        ),
        answers=right + wrong,
        output_tokens=tokens,
        reasoning_tokens=10 * tokens,
        total_ms=7 * (right + wrong),
    )


def test_evaluations_are_joined_per_depth() -> None:
    soon, later = date(2026, 12, 1), date(2027, 2, 1)
    known_depths = depth_evidence(
        [
            found("high", 90, 10, 401, later),
            found("none", 20, 80, 300, soon),
            found("high", 50, 50, 400, soon),
        ],
        TODAY,
    )
    assert [one.effort for one in known_depths] == ["none", "high"]
    none, high = known_depths
    assert (none.output_tokens, none.reasoning_tokens, none.total_ms) == (3, 30, 7)
    assert (high.output_tokens, high.reasoning_tokens) == (5, 41)
    assert [one.until for one in high.success] == [soon, later], "what grows too old drops out"
    assert high.success[0].cases == 200
    assert high.success[1].cases == 100
    assert high.success[0].low < Decimal("0.7") < high.success[1].value
    assert depth_evidence([found("high", 9, 1, 40, TODAY)], TODAY) == ()


def test_a_decision_reads_what_holds_on_its_day() -> None:
    soon, later = date(2026, 12, 1), date(2027, 2, 1)
    depths = depth_evidence([found("high", 50, 50, 400, soon), found("high", 98, 2, 400, later)], TODAY)
    qualities = [
        planned(*depths, received_at_ms=AT + days * DAY_MS).attempts[0].quality for days in (0, 10, 100)
    ]
    assert qualities[0] is not None
    assert qualities[1] is not None
    assert qualities[0] < qualities[1]
    assert qualities[2] == Decimal("0.8"), "then it is what is declared"


def test_every_order_of_deployments_gives_each_the_same_depth() -> None:
    ones = [deployment(f"d{n}", depths={"sums": SUMS[: n + 1]}) for n in range(3)]
    depths = set()
    for order in itertools.permutations(ones):
        made = plan(question(fleet(*order, tasks=(OPEN,)), task="sums", efforts=EFFORTS))
        depths.add(frozenset((a.deployment, a.effort) for a in made.attempts))
    assert len(depths) == 1
