"""Whose answer was delivered follows again from the rule and from what a receipt says of checks (I8)."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest
from operators import Region
from world import Trap, chat

from allod.domain.errors import Integrity
from allod.domain.fleet import CascadeTask
from allod.gateway.checks.replaying import answered, decided
from allod.gateway.promise.rules import Parties, cascade_of, ladder, ladder_facts, ladder_of
from allod.routing.cascade import Cascade, Check, Step
from gateway.lineages import ends
from gateway.promised import TASK, Minds, begun, opened, running, standing
from gateway.test_checks import says


@pytest.mark.parametrize(
    ("said", "rule", "deliver", "then"),
    [
        ({"base_passed": "tests"}, "tests", "small", ()),
        ({"base_passed": "compile:python", "base_failed": "tests=late"}, "compile+tests", None, ("large",)),
        ({"base_passed": "numeric", "margin": "2.001"}, "numeric+margin:2|agreement", "small", ()),
        ({"base_passed": "numeric", "margin": "1.999"}, "numeric+margin:2|agreement", None, ("other",)),
        ({"base_passed": "numeric", "margin": "unknown"}, "numeric+margin:0|agreement", None, ("other",)),
        (
            {"base_passed": "numeric", "margin": "1", "second_passed": "numeric", "agreement": "passed"},
            "numeric+margin:2|agreement",
            "other",
            (),
        ),
        (
            {"base_passed": "numeric", "margin": "1", "second_passed": "numeric", "agreement": "failed"},
            "numeric+margin:2|agreement",
            None,
            ("large",),
        ),
        ({"base_passed": "numeric", "agreement": "passed"}, "numeric+agreement", None, ("large",)),
        ({"agreement": "passed"}, "agreement", "other", ()),
        ({"agreement": "failed"}, "agreement", None, ("large",)),
        ({"base_failed": "answer=failed"}, "numeric", None, ("large",)),
        ({"base_failed": "answer=failed", "agreement": "failed"}, "agreement", None, ("large",)),
    ],
)
def test_I8_whose_answer_is_delivered_follows_from_the_rule_and_what_the_receipt_says_of_checks(
    said: dict[str, str], rule: str, deliver: str | None, then: tuple[str, ...]
) -> None:
    fleet_ = SimpleNamespace(
        deployments=dict.fromkeys(("small", "other"), None), operator_of=lambda _: SimpleNamespace(own=True)
    )
    who = Parties(reference="large", base="small", second="other")
    plan = cascade_of(rule, SimpleNamespace(name=TASK), who, fleet_)  # type: ignore[arg-type]
    found = decided(plan, said)
    assert (found.deliver, found.ask) == (deliver, then)


@pytest.mark.parametrize(
    ("check", "base", "second", "named", "why"),
    [
        (["agreement"], "4", "4", None, {"agreement": "passed"}),
        (["agreement"], "4", "5", None, {"agreement": "failed"}),
        (["numeric"], None, "4", None, {"base_failed": "answer=failed"}),
        (["numeric"], "4 " * 40, "4", None, {"base_failed": "answer=unread"}),
        (["numeric"], "4", "4", "tiny-1-b", {"base_failed": "answer=model"}),
        (
            ["numeric", "agreement"],
            "4",
            None,
            None,
            {"second_failed": "answer=failed", "agreement": "failed"},
        ),
    ],
)
def test_I8_whoever_could_not_answer_is_in_the_receipt_too(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds,
    check: list[str], base: str | None, second: str | None, named: str | None, why: dict[str, str],
) -> None:  # fmt: skip
    own = {"check": check, "audit_share": Decimal("0.001"), "base": "small"}
    with running(tmp_path, region, trap, own=own) as inside:
        begun(inside, minds, base=says("4"), second=says("4"))
        rules = standing(inside).promise.ladder
        opened(inside, rules[0])
        minds.says |= {"tiny-1": lambda _: base, "pico-2": lambda _: second}
        if named is not None:
            standing(inside).models["small"] = named
        promise = standing(inside)
        answer = inside.chat(chat(TASK, "twice 2", stream=False, max_tokens=16), app="ward")
        whole = ends(inside, answer.receipt)[0]
        said = whole["floor"]
        assert {name: said.get(name) for name in why} == why
        plan = cascade_of(rules[0], inside.gateway.fleet.tasks[TASK], promise.who, inside.gateway.fleet)
        found = decided(plan, said)
        assert (found.deliver or found.ask[0]) == whole["deployment"]


def test_what_says_nothing_of_checks_is_told() -> None:
    rule = Cascade(
        task=TASK, steps=(Step(deployment="small", checks=(Check(kind="tests"),)),), escalate="large"
    )
    for said in ({"base_passed": "what"}, {"base_failed": "what=late"}, {"margin": "high"}):
        with pytest.raises(Integrity):
            answered(rule, said)
    assert answered(rule, {}) == ()


def test_a_ladder_of_many_rules_fits_in_a_notice_and_is_read_back() -> None:
    own = CascadeTask(
        check=("compile:python", "arithmetic", "sql", "tests", "agreement", "margin"),
        margin=tuple(Decimal(f"{n}.125") for n in (99, 4, 3, 2, 1)),
    )
    rules = ladder(own, Parties(reference="r", base="b", second="s"))
    assert len(rules) == 7
    facts = {**ladder_facts(rules), "task": "t"}
    assert all(len(text) <= 80 for text in facts.values())
    assert ladder_of(facts) == rules
    assert ladder_of(ladder_facts(("numeric+agreement", "numeric"))) == ("numeric+agreement", "numeric")
