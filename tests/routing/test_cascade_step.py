"""The decision of a cascade: pure, fail closed, the same in the gateway and in a replay."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.domain.errors import Invalid
from allod.routing.cascade import Answered, Cascade, Check, Judgement, Next, Step, lawful, step

AGREE = Check(kind="agreement", at_least=2)
PAIR = Cascade(
    task="sums",
    steps=(
        Step(deployment="a", checks=(AGREE,)),
        Step(deployment="b", checks=(AGREE,), together=True),
        Step(deployment="c", checks=(AGREE,)),
    ),
    escalate="top",
)
TESTED = Cascade(
    task="code",
    steps=(Step(deployment="a", checks=(Check(kind="tests"), Check(kind="schema"))),),
    escalate="top",
)


def said(deployment: str, key: str = "", **more: object) -> Answered:
    return Answered(deployment=deployment, key=key, **more)  # type: ignore[arg-type]


def test_two_that_may_run_at_once_are_asked_at_once() -> None:
    assert step(PAIR, ()).ask == ("a", "b")


def test_agreement_delivers_and_disagreement_asks_on() -> None:
    assert step(PAIR, (said("a", "x"), said("b", "x"))).deliver in {"a", "b"}
    assert step(PAIR, (said("a", "x"), said("b", "y"))).ask == ("c",)
    third = (said("a", "x"), said("b", "y"), said("c", "y"))
    assert step(PAIR, third).deliver in {"b", "c"}
    assert step(PAIR, (*third[:2], said("c", "z"))).ask == ("top",)
    assert step(PAIR, (*third[:2], said("c", "z"), said("top", "w"))).deliver == "top"


def test_empty_keys_and_failed_calls_agree_with_nobody() -> None:
    assert step(PAIR, (said("a"), said("b"))).ask == ("c",)
    assert step(PAIR, (said("a", "x", failed=True), said("b", "x"))).ask == ("c",)


@pytest.mark.parametrize(
    ("passed", "delivered"),
    [
        ({"tests": True, "schema": True}, True),
        ({"tests": True}, False),
        ({"tests": True, "schema": False}, False),
        ({}, False),
    ],
)
def test_a_check_that_did_not_run_has_failed(passed: dict[str, bool], delivered: bool) -> None:
    found = step(TESTED, (said("a", "x", passed=passed),))
    assert found.deliver == ("a" if delivered else None)
    assert found.ask == (() if delivered else ("top",))


def test_a_margin_must_be_known_and_high_enough() -> None:
    checks = (Check(kind="margin", at_least=0.9),)
    cascade = Cascade(task="t", steps=(Step(deployment="a", checks=checks),), escalate="top")
    assert step(cascade, (said("a", "x", margin=0.95),)).deliver == "a"
    assert step(cascade, (said("a", "x", margin=0.85),)).ask == ("top",)
    assert step(cascade, (said("a", "x"),)).ask == ("top",)


def test_if_the_escalation_fails_nothing_unchecked_is_delivered() -> None:
    found = step(TESTED, (said("a", "x"), said("top", failed=True)))
    assert found == Next(why="top failed, and no answer passed its check")


WORTH = Cascade(
    task="t", steps=(Step(deployment="a", checks=(Check(kind="worth", at_least=0.1),)),), escalate="top"
)


def judged(gain: float, deployment: str | None = "a") -> object:
    return lambda _: Judgement(deployment=deployment, chance=0.9, gain=gain, cost=1.0)


@pytest.mark.parametrize(
    ("gain", "delivered"), [(0.05, True), (0.1, False), (0.2, False), (float("nan"), False)]
)
def test_worth_stops_only_below_its_price(gain: float, delivered: bool) -> None:
    found = step(WORTH, (said("a", "x"),), judged(gain))  # type: ignore[arg-type]
    assert found.deliver == ("a" if delivered else None)


def test_without_a_judge_or_an_answer_worth_never_stops() -> None:
    assert step(WORTH, (said("a", "x"),)).ask == ("top",)
    assert step(WORTH, (said("a"),), judged(0.0)).ask == ("top",)  # type: ignore[arg-type]
    assert step(WORTH, (said("a", "x"),), judged(0.0, None)).ask == ("top",)  # type: ignore[arg-type]
    assert step(WORTH, (said("a", "x"),), judged(0.0, "stranger")).ask == ("top",)  # type: ignore[arg-type]


def hopeless(after: int) -> object:
    """Judge that nothing is worth asking once so many answers are there."""
    return lambda known: Judgement(
        deployment="a" if known else None, chance=0.5, gain=1.0, cost=1.0, hopeless=len(known) >= after
    )


def test_where_no_other_opinion_is_worth_its_cost_the_escalation_is_asked_at_once() -> None:
    worth = (Check(kind="worth", at_least=0.1),)
    steps = tuple(Step(deployment=one, checks=worth) for one in "ab")
    two = Cascade(task="t", steps=steps, escalate="top")
    assert step(two, (), hopeless(0)).ask == ("top",)  # type: ignore[arg-type]
    assert step(two, (), hopeless(1)).ask == ("a",)  # type: ignore[arg-type]
    assert step(two, (said("a", "x"),), hopeless(1)).ask == ("top",)  # type: ignore[arg-type]
    assert step(two, (said("a", "x"),), hopeless(2)).ask == ("b",)  # type: ignore[arg-type]
    assert step(two, ()).ask == ("a",)


def test_a_judge_that_finds_it_hopeless_delivers_nothing_and_skips_no_other_check() -> None:
    assert step(TESTED, (), hopeless(0)).ask == ("a",)  # type: ignore[arg-type]
    assert step(WORTH, (said("a", "x"),), hopeless(0)).deliver is None  # type: ignore[arg-type]


def test_a_judge_cannot_deliver_what_failed_its_program() -> None:
    answers = (said("a", "x", passed={"tests": False}), said("top", "y"))
    assert step(TESTED, answers, judged(0.0)).deliver == "top"  # type: ignore[arg-type]
    sound = (said("a", "x", passed={"tests": True, "schema": True}), said("top", "y"))
    assert step(TESTED, sound, judged(0.0)).deliver == "a"  # type: ignore[arg-type]


def test_I1_an_unlawful_step_is_dropped_and_an_unlawful_escalation_ends_it() -> None:
    one = lawful(PAIR, frozenset({"a", "c", "top"}))
    assert one is not None
    assert [of.deployment for of in one.steps] == ["a", "c"]
    assert lawful(PAIR, frozenset({"a", "b", "c"})) is None


@pytest.mark.parametrize(
    "steps",
    [
        (Step(deployment="a", checks=()),),
        (Step(deployment="a", checks=(AGREE,)), Step(deployment="a", checks=(AGREE,))),
        (Step(deployment="top", checks=(AGREE,)),),
        (Step(deployment="a", checks=(Check(kind="agreement", at_least=1),)),),
    ],
)
def test_a_cascade_that_delivers_unchecked_is_refused(steps: tuple[Step, ...]) -> None:
    with pytest.raises(Invalid):
        Cascade(task="prose", steps=steps, escalate="top")


ANSWERS = st.lists(
    st.builds(
        Answered,
        deployment=st.sampled_from(["a", "b", "c", "top", "stranger"]),
        key=st.sampled_from(["", "x", "y"]),
        failed=st.booleans(),
    ),
    max_size=4,
    unique_by=lambda one: one.deployment,
)


@given(ANSWERS)
def test_I8_a_step_is_one_decision_and_delivers_only_what_was_answered(answers: list[Answered]) -> None:
    given_, copied = (
        tuple(answers),
        msgspec.json.decode(msgspec.json.encode(answers), type=tuple[Answered, ...]),
    )
    found = step(PAIR, given_)
    assert found == step(PAIR, copied)
    assert not (found.ask and found.deliver)
    by = {one.deployment: one for one in answers}
    assert all(one not in by for one in found.ask)
    if found.deliver is not None:
        assert not by[found.deliver].failed
        assert found.deliver == "top" or sum(one.key == by[found.deliver].key for one in answers) >= 2


@given(ANSWERS)
def test_every_cascade_ends(answers: list[Answered]) -> None:
    known = tuple(one for one in answers if one.deployment != "stranger")
    for _ in range(6):
        found = step(PAIR, known)
        if not found.ask:
            return
        known += tuple(said(one, "z") for one in found.ask)
    raise AssertionError(known)
