"""Plans: judged in order, every reason listed, ordered by the objective, deterministic."""

from __future__ import annotations

import time
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing_worlds import AT, LAW, deployment, fleet, price, question

from allod.domain.decision import Plan
from allod.domain.facts import Fact
from allod.domain.fleet import TAKES, Price, Task
from allod.domain.request import Sizes
from allod.metering.settle import Bounds
from allod.routing.plan import MAX_ATTEMPTS, exclusions, plan
from allod.routing.question import (
    DEFAULT_OUTPUT_TOKENS,
    Health,
    bounds_of,
    output_limit,
    sovereignty_of,
)

HIGH = (4, 4, 4, 4, 3, 3, 4, 3)
LOW = (1, 1, 1, 1, 1, 1, 1, 1)


def order(of: Plan) -> list[str]:
    return [attempt.deployment for attempt in of.attempts]


def rules(of: Plan) -> dict[str, list[str]]:
    return {one.deployment: [rule.id for rule in one.rules] for one in of.candidates if not one.eligible}


def test_sovereignty_is_the_weighted_mean_of_the_levels() -> None:
    assert sovereignty_of((4,) * 8) == 4
    assert sovereignty_of((0,) * 8) == 0
    assert sovereignty_of(HIGH) == Decimal("3.6")
    assert sovereignty_of((0, 0, 0, 0, 4, 0, 0, 0)) == Decimal("0.8")
    with pytest.raises(ValueError):
        sovereignty_of((4,) * 7)


def test_a_lawful_able_deployment_is_attempted() -> None:
    got = plan(question(fleet(deployment("a", seal=HIGH, retries=3)), effort="low"))
    (attempt,) = got.attempts
    assert attempt.deployment == "a"
    assert attempt.quality == Decimal("0.8")
    assert (attempt.retries, attempt.effort) == (3, "low")
    assert attempt.cost_usd == Decimal("0.001136")  # 112 input tokens (bucketed), 512 expected
    assert attempt.reserve_usd == Decimal("0.008304")  # 4096 at most
    assert (got.candidates[0].eligible, got.candidates[0].sovereignty) == (True, Decimal("3.6"))
    assert got.why.startswith("a first of 1 able")


def test_what_the_law_excludes_is_never_estimated() -> None:
    got = plan(question(fleet(deployment("a"), deployment("b")), unlawful=("a",), min_quality=Decimal(1)))
    first = got.candidates[0]
    assert (first.deployment, first.rules) == ("a", (LAW,))
    assert first.quality is first.cost_usd is first.sovereignty is first.latency_ms is None
    assert rules(got) == {"a": [LAW.id], "b": ["quality.floor"]}
    assert [one.deployment for one in got.nearest] == ["b"]
    assert [one.deployment for one in exclusions(got)] == ["a", "b"]


def test_a_deployment_policy_did_not_decide_about_is_excluded() -> None:
    asked = question(fleet(deployment("a"), deployment("b")))
    silent = msgspec.structs.replace(asked.eligibility, kept=("a",))
    got = plan(msgspec.structs.replace(asked, eligibility=silent))
    assert order(got) == ["a"]
    assert rules(got) == {"b": ["policy.undecided"]}


def test_a_deployment_both_kept_and_excluded_is_excluded() -> None:
    asked = question(fleet(deployment("a")), unlawful=("a",))
    both = msgspec.structs.replace(asked.eligibility, kept=("a",))
    assert plan(msgspec.structs.replace(asked, eligibility=both)).attempts == ()


def test_every_failing_reason_is_listed_with_what_would_change_it() -> None:
    poor = deployment(
        "a",
        takes=frozenset({"text", "tools"}),
        context_tokens=100,
        quality={"default": Decimal("0.5")},
        price=price("1000", "1000"),
    )
    got = plan(
        question(
            fleet(poor),
            needs=("image", "json_schema", "text", "tools"),
            sizes=Sizes(body_bytes=4000, input_tokens=1000),
            min_quality=Decimal("0.9"),
            max_cost_usd=Decimal("0.01"),
            deadline_ms=500,
            health=Health(latency_ms={"a": 900}),
        )
    )
    assert rules(got) == {
        "a": ["capability.image", "capability.json_schema", "capability.context", "quality.floor", "cost.max",
              "deadline"]
    }  # fmt: skip
    for rule in got.candidates[0].rules:
        assert rule.got
        assert rule.required
        assert rule.source.startswith("deployment.a.")
        assert rule.remedy
    assert got.attempts == ()
    assert got.resting == ()
    assert "quality.default of a is 0.9" in got.nearest[0].change
    assert got.candidates[0].cost_usd is not None


def test_an_unknown_price_refuses() -> None:
    got = plan(question(fleet(deployment("a", price=None), deployment("b", price=Price(book="x/y")))))
    assert rules(got) == {"a": ["price.unknown"], "b": ["price.unknown"]}


def test_free_and_own_hardware_are_prices() -> None:
    got = plan(question(fleet(deployment("a", price=Price(free=True)),
                              deployment("b", engine="llamacpp", price=None))))  # fmt: skip
    assert order(got) == ["a", "b"]
    assert all(attempt.reserve_usd == 0 for attempt in got.attempts)


@pytest.mark.parametrize(
    ("quality", "floor", "fails"),
    [({}, "0.1", True), ({"default": "0.8"}, "0.8", False), ({"default": "0.8"}, "0.81", True),
     ({"default": "0.1", "t": "0.9"}, "0.9", False), ({"default": "0.9", "t": "0.1"}, "0.2", True),
     ({"other": "1"}, "0.1", True), ({}, None, False)],
)  # fmt: skip
def test_the_floor_holds_for_the_quality_of_the_task(quality, floor, fails) -> None:
    one = deployment("a", quality={name: Decimal(value) for name, value in quality.items()})
    got = plan(question(fleet(one, tasks=(Task(name="t"),)), task="t", min_quality=floor and Decimal(floor)))
    assert rules(got) == ({"a": ["quality.floor"]} if fails else {})


def test_the_cost_limit_holds_for_the_worst_case() -> None:
    of = fleet(deployment("a"))
    worst = plan(question(of)).attempts[0].reserve_usd
    assert rules(plan(question(of, max_cost_usd=worst))) == {}
    assert rules(plan(question(of, max_cost_usd=worst - Decimal("0.000001")))) == {"a": ["cost.max"]}
    few = Sizes(body_bytes=400, input_tokens=100, max_output_tokens=10)
    assert rules(plan(question(of, max_cost_usd=worst / 2, sizes=few))) == {}
    many = Sizes(body_bytes=400, input_tokens=100, choices=2)
    assert rules(plan(question(of, max_cost_usd=worst, sizes=many))) == {"a": ["cost.max"]}


def test_a_deadline_excludes_only_what_is_known_to_be_too_slow() -> None:
    of = fleet(deployment("a"), deployment("b"), deployment("c"))
    got = plan(question(of, deadline_ms=500, health=Health(latency_ms={"a": 501, "b": 500})))
    assert rules(got) == {"a": ["deadline"]}
    assert order(got) == ["b", "c"]


def test_a_context_surely_too_small_is_excluded_and_a_close_call_is_not() -> None:
    of = fleet(deployment("a", context_tokens=600))
    assert rules(plan(question(of, sizes=Sizes(body_bytes=1, input_tokens=896)))) == {}
    assert rules(plan(question(of, sizes=Sizes(body_bytes=1, input_tokens=1100)))) == {
        "a": ["capability.context"]
    }


def test_text_is_always_taken() -> None:
    assert order(plan(question(fleet(deployment("a", takes=frozenset()))))) == ["a"]


@pytest.mark.parametrize(
    ("objective", "expected"),
    [("sovereign", ["safe", "cheap", "good"]), ("cheapest", ["cheap", "safe", "good"]),
     ("best", ["good", "safe", "cheap"])],
)  # fmt: skip
def test_the_objective_orders(objective, expected) -> None:
    of = fleet(
        deployment("good", quality={"default": Decimal("0.95")}, price=price("30", "60")),
        deployment("cheap", quality={"default": Decimal("0.5")}, price=price("0.1", "0.1"), seal=LOW),
        deployment("safe", quality={"default": Decimal("0.6")}, price=price("1", "2"), seal=HIGH),
        objective=objective,
    )
    assert order(plan(question(of))) == expected


def test_the_objective_of_the_task_comes_first() -> None:
    of = fleet(
        deployment("safe", seal=HIGH),
        deployment("good", quality={"default": Decimal("0.95")}),
        tasks=(Task(name="t", objective="best"),),
    )
    assert order(plan(question(of))) == ["safe", "good"]
    got = plan(question(of, task="t"))
    assert (order(got), got.objective) == (["good", "safe"], "best")


def test_cheapest_is_per_solved_task_not_per_attempt() -> None:
    of = fleet(
        deployment("often-wrong", quality={"default": Decimal("0.2")}, price=price("1", "1")),
        deployment("dearer", quality={"default": Decimal("0.9")}, price=price("2", "2")),
        objective="cheapest",
    )
    assert order(plan(question(of))) == ["dearer", "often-wrong"]


@pytest.mark.parametrize("objective", ["cheapest", "best"])
def test_an_unknown_quality_ranks_behind_a_known_one(objective) -> None:
    of = fleet(
        deployment("unknown", quality={}, price=price("0.01", "0.01")),
        deployment("known", quality={"default": Decimal("0.1")}),
        objective=objective,
    )
    assert order(plan(question(of))) == ["known", "unknown"]


def test_an_expired_or_missing_seal_scores_lowest() -> None:
    expired = Fact(value=(4,) * 8, expires=question(fleet()).day)
    of = fleet(deployment("none"), deployment("old", seal=expired), deployment("zero", seal=(0,) * 8))
    got = plan(question(of))
    assert order(got) == ["zero", "none", "old"]
    assert got.candidates[1].sovereignty is None


def test_ties_keep_the_order_of_the_configuration() -> None:
    of = fleet(*(deployment(name) for name in ("z", "a", "m")))
    for objective in ("sovereign", "cheapest", "best"):
        other = msgspec.structs.replace(of, tenant=msgspec.structs.replace(of.tenant, objective=objective))
        assert order(plan(question(other))) == ["z", "a", "m"]


def test_a_faster_one_comes_first_among_equals() -> None:
    of = fleet(deployment("slow"), deployment("fast"), deployment("unmeasured"))
    assert order(plan(question(of, health=Health(latency_ms={"slow": 900, "fast": 100})))) == [
        "fast", "slow", "unmeasured",
    ]  # fmt: skip


def test_a_task_names_its_only_candidates_and_their_order() -> None:
    of = fleet(
        deployment("a", seal=HIGH),
        deployment("b"),
        deployment("c", seal=LOW),
        tasks=(Task(name="t", deployments=("c", "a", "gone")),),
    )
    got = plan(question(of, task="t", unlawful=("b",)))
    assert order(got) == ["c", "a"]
    assert [one.deployment for one in got.candidates] == ["c", "a"]
    assert "the task's own order" in got.why


def test_only_pinned_deployments_are_candidates() -> None:
    of = fleet(deployment("a"), deployment("b"), deployment("c"))
    got = plan(question(of, pinned=("c", "b"), unlawful=("a", "b")))
    assert [one.deployment for one in got.candidates] == ["b", "c"]
    assert order(got) == ["c"]
    assert rules(got) == {"b": [LAW.id]}


def test_a_pin_outside_the_tasks_list_is_refused_with_its_reason() -> None:
    of = fleet(deployment("a"), deployment("b"), tasks=(Task(name="t", deployments=("a",)),))
    got = plan(question(of, task="t", pinned=("b",)))
    assert rules(got) == {"b": ["capability.task"]}
    assert order(plan(question(of, task="t", pinned=("a",)))) == ["a"]


def test_an_open_breaker_rests_and_the_next_one_is_tried() -> None:
    of = fleet(deployment("a", seal=HIGH), deployment("b"))
    got = plan(question(of, health=Health(resting=frozenset({"a"}))))
    assert (order(got), got.resting) == (["b"], ("a",))
    assert all(one.eligible for one in got.candidates)


def test_lawful_and_able_but_none_up_is_not_a_refusal() -> None:
    of = fleet(deployment("a"), deployment("b"))
    health = Health(resting=frozenset({"a"}), unready={"b": "B_KEY is not set"})
    got = plan(question(of, health=health))
    assert (got.attempts, got.resting, exclusions(got)) == ((), ("a", "b"), ())
    assert "B_KEY is not set" in got.why


def test_what_rests_and_is_not_able_is_excluded_not_resting() -> None:
    got = plan(question(fleet(deployment("a", price=None)), health=Health(resting=frozenset({"a"}))))
    assert (got.resting, rules(got)) == ((), {"a": ["price.unknown"]})


def test_no_more_than_a_few_deployments_are_attempted() -> None:
    of = fleet(*(deployment(f"d{n}") for n in range(9)))
    got = plan(question(of))
    assert order(got) == [f"d{n}" for n in range(MAX_ATTEMPTS)]
    assert len(got.candidates) == 9


def test_an_empty_fleet_has_an_empty_plan() -> None:
    got = plan(question(fleet()))
    assert (got.attempts, got.candidates, got.resting) == ((), (), ())


def test_the_output_limit_is_the_lower_one() -> None:
    bare, limited = deployment("a"), deployment("b", max_output_tokens=100)
    assert output_limit(None, bare) == DEFAULT_OUTPUT_TOKENS
    assert output_limit(None, limited) == 100
    assert output_limit(50, limited) == 50
    assert output_limit(500, limited) == 100
    assert output_limit(0, bare) == 0


# ---- properties

decimals = st.decimals(0, 1, places=2)
deployments = st.builds(
    deployment,
    st.sampled_from([f"d{n}" for n in range(8)]),
    quality=st.dictionaries(st.sampled_from(["default", "t"]), decimals),
    price=st.none() | st.just(Price(free=True)) | st.builds(price, decimals.map(str), decimals.map(str)),
    seal=st.none() | st.tuples(*[st.integers(0, 4)] * 8),
    takes=st.sets(st.sampled_from(TAKES)).map(frozenset),
    context_tokens=st.none() | st.integers(1, 10**5),
    max_output_tokens=st.none() | st.integers(1, 10**4),
)


@st.composite
def questions(draw):
    chosen = draw(st.lists(deployments, max_size=6, unique_by=lambda one: one.id))
    names = [one.id for one in chosen]
    some = st.lists(st.sampled_from(names), unique=True).map(tuple) if names else st.just(())
    task = Task(
        name="t",
        deployments=draw(st.just(()) | some),
        objective=draw(st.none() | st.sampled_from(["sovereign", "cheapest", "best"])),
    )
    return question(
        fleet(*chosen, tasks=(task,), objective=draw(st.sampled_from(["sovereign", "cheapest", "best"]))),
        unlawful=draw(some),
        pinned=draw(st.just(()) | some),
        task=draw(st.none() | st.just("t")),
        needs=tuple(sorted(draw(st.sets(st.sampled_from(TAKES), min_size=1)))),
        min_quality=draw(st.none() | decimals),
        max_cost_usd=draw(st.none() | st.decimals(0, 1, places=4)),
        deadline_ms=draw(st.none() | st.integers(1, 2000)),
        effort=draw(st.none() | st.just("high")),
        sizes=Sizes(
            body_bytes=0,
            input_tokens=draw(st.integers(1, 10**5)),
            max_output_tokens=draw(st.none() | st.integers(1, 10**4)),
            choices=draw(st.integers(1, 3)),
        ),
        health=Health(
            resting=frozenset(draw(some)),
            latency_ms=dict.fromkeys(draw(some), draw(st.integers(1, 2000))),
            unready=dict.fromkeys(draw(some), "down"),
        ),
    )


@given(questions())
def test_I1_nothing_unlawful_is_ever_attempted(asked) -> None:
    got = plan(asked)
    kept = set(asked.eligibility.kept)
    assert {attempt.deployment for attempt in got.attempts} <= kept
    assert set(got.resting) <= kept


@given(questions(), st.data())
def test_I2_excluding_more_never_adds_an_attempt_of_what_was_excluded(asked, data) -> None:
    names = list(asked.fleet.deployments)
    gone = set(data.draw(st.lists(st.sampled_from(names)))) if names else set()
    kept = tuple(name for name in asked.eligibility.kept if name not in gone)
    fewer = msgspec.structs.replace(asked, eligibility=msgspec.structs.replace(asked.eligibility, kept=kept))
    before, after = plan(asked), plan(fewer)
    able = {one.deployment for one in before.candidates if one.eligible}
    assert {one.deployment for one in after.candidates if one.eligible} == able - gone


@given(questions())
def test_every_attempt_meets_every_limit(asked) -> None:
    for attempt in plan(asked).attempts:
        one = asked.fleet.deployments[attempt.deployment]
        assert all(need == "text" or need in one.takes for need in asked.needs)
        assert asked.min_quality is None or (
            attempt.quality is not None and attempt.quality >= asked.min_quality
        )
        assert asked.max_cost_usd is None or attempt.reserve_usd <= asked.max_cost_usd
        assert not asked.pinned or one.id in asked.pinned
        assert one.id not in asked.health.resting
        assert one.id not in asked.health.unready
        bounds = bounds_of(asked, one)
        assert isinstance(bounds, Bounds)
        tariff = asked.tariffs.by_deployment[one.id]
        assert attempt.cost_usd <= attempt.reserve_usd == bounds.reservation(tariff)


@given(questions())
def test_every_candidate_is_either_eligible_or_has_its_reasons(asked) -> None:
    got = plan(asked)
    names = [one.deployment for one in got.candidates]
    assert len(names) == len(set(names))
    for one in got.candidates:
        assert one.eligible == (not one.rules)
    able = {one.deployment for one in got.candidates if one.eligible}
    assert {attempt.deployment for attempt in got.attempts} | set(got.resting) <= able
    assert bool(able) == bool(got.attempts or got.resting)
    assert {one.deployment for one in got.nearest} <= set(names) - able
    assert got.why


@given(questions())
def test_equal_questions_are_one_key_and_have_equal_plans(asked) -> None:
    again = msgspec.structs.replace(asked, health=msgspec.structs.replace(asked.health))
    assert again == asked
    assert hash(again) == hash(asked)
    assert plan(again) == plan(asked)
    assert {asked: 1}[again] == 1
    assert again != msgspec.structs.replace(asked, input_tokens=asked.input_tokens + 1)
    assert asked != "question"


def test_neither_receipt_nor_moment_is_part_of_the_question() -> None:
    of = fleet(deployment("a"))
    first, second = question(of, receipt="r_1"), question(of, receipt="r_2", received_at_ms=AT + 60_000)
    assert first == second
    assert first != question(of, received_at_ms=AT + 86_400_000)


def test_like_sizes_put_the_same_question() -> None:
    of = fleet(deployment("a"))
    sizes = [Sizes(body_bytes=n, input_tokens=n) for n in (1030, 1100, 1279)]
    assert len({question(of, sizes=one) for one in sizes}) == 1


def test_a_plan_for_twenty_candidates_is_quick() -> None:
    of = fleet(*(deployment(f"d{n}", seal=HIGH) for n in range(20)))
    asked = question(of, min_quality=Decimal("0.5"), max_cost_usd=Decimal(1))
    best = min(_timed(lambda: plan(asked)) for _ in range(50))
    assert best < 0.002, f"{best * 1e6:.0f} us"
    print(f"plan of 20 candidates: {best * 1e6:.0f} us")  # noqa: T201


def _timed(do) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def test_another_law_fleet_price_or_health_is_another_question() -> None:
    of = fleet(deployment("a"), deployment("b"))
    asked = question(of)
    dearer = fleet(deployment("a", price=price("9", "9")), deployment("b"))
    for other in (
        question(of, unlawful=("a",)),
        question(of, health=Health(resting=frozenset({"a"}))),
        question(of, health=Health(latency_ms={"a": 1})),
        msgspec.structs.replace(asked, fleet=dearer),
        msgspec.structs.replace(asked, tariffs=question(dearer).tariffs),
    ):
        assert other != asked
