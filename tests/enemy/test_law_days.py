"""Days that turn while a gateway runs: what is remembered is what the law says on the request's day (I8)."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

from gateway.test_decide import admitted
from hypothesis import given, settings
from hypothesis import strategies as st
from policy.policy_worlds import (
    base_files,
    forbid,
    holds,
    hospital,
    load,
    pack_files,
    with_deployment,
    with_operator,
    with_tenant,
)

from allod.domain.classes import expand
from allod.domain.fleet import App, Fleet, Price
from allod.gateway.decide import Decider
from allod.policy import Pack, Policy, load_pack
from allod.routing.question import Health

DAY_MS = 86_400_000
START = date(2026, 11, 25)
BASE = load_pack(base_files())
EVERYONE = {"ward-llm", "frankfurt-region"}
DATED = '@since("2026-11-26") @until("2026-11-29") @remedy'
LISTED = (
    'when { context.classes.contains("internal") } unless { resource has processing && '
    'Allod::List::"house.places".codes.containsAll(resource.processing.codes) }'
)
ROWS = (
    '[[list]]\nid = "house.places"\n[[list.row]]\nplace = "DE"\nsince = 2026-11-26\nuntil = 2026-11-28\n'
    '[[list.row]]\nplace = "DE"\nsince = 2026-11-30\n'
)
BOUGHT = 'when { context has purpose && context.purpose == "ads" } unless { context.pseudonymised }'
PAPERS = (
    'when { context.classes.contains("restricted") } unless { resource.agreements.contract.contains("dpa") }'
)
SURE = (
    'when { principal has risk && principal.risk == "high" } '
    'unless { principal.attestations.declared.contains("fria") }'
)


def house() -> Pack:
    rules = (
        forbid("house.dated", "when { !resource.operator.own }").replace("@remedy", DATED),
        forbid("house.listed", LISTED),
        forbid("house.bought", BOUGHT),
        forbid("house.papers", PAPERS),
        forbid("house.sure", SURE),
    )
    return load({**pack_files("house", "".join(rules)), "facts/lists.toml": ROWS.encode()})


HOUSE = house()


def fleet() -> Fleet:
    whole = hospital()
    apps = {
        "press": App(id="press", classes=("public",)),
        "office": App(id="office", classes=("public",), pseudonymise=True),
        "hr": App(
            id="hr",
            classes=("public",),
            risk="high",
            attestations={"fria": holds(True, as_of=START + timedelta(days=2))},
        ),
    }
    whole = with_tenant(whole, packs=("base", "house"), resident_classes=("phi",))
    dpa = holds(True, grade="contract", as_of=START + timedelta(days=1), expires=START + timedelta(days=4))
    whole = with_operator(whole, "us-cloud", agreements={"dpa": dpa})
    own = whole.deployments["ward-llm"]
    seat = {"processing": holds("DE", expires=START + timedelta(days=5))}
    whole = with_deployment(whole, "ward-llm", price=Price(free=True), quality={}, **seat)
    assert own.id == "ward-llm"
    whole = with_deployment(whole, "frankfurt-region", price=Price(free=True))
    return Fleet(
        tenant=whole.tenant, apps=apps, operators=whole.operators, deployments=whole.deployments,
        weights=whole.weights,
    )  # fmt: skip


FLEET = fleet()


def at(day: int, ms: int = 1) -> int:
    start = datetime(START.year, START.month, START.day, tzinfo=UTC)
    return int(start.timestamp()) * 1000 + day * DAY_MS + ms


def decider() -> Decider:
    return Decider(Policy((BASE, HOUSE), FLEET), FLEET, None)


def answers(one: Decider, question: Any) -> tuple[Any, ...]:
    """Return all of a decision that says which law it was made under."""
    made = one.decide(question, Health())
    asked = made.asked
    again = {name for name in FLEET.deployments if one.policy.recheck(asked, name)}
    assert again == set(made.eligibility.kept)
    return made.eligibility, made.record, made.record_digest, made.plan, asked


QUESTIONS = st.builds(
    admitted,
    received_at_ms=st.builds(at, st.integers(-1, 7), st.sampled_from([0, 1, DAY_MS - 1])),
    app=st.sampled_from(["press", "office", "hr"]),
    classes=st.sampled_from([("public",), ("internal",), ("restricted",), ("phi",)]).map(expand),
    purpose=st.sampled_from([None, "ads", "care"]),
    needs=st.sampled_from([("text",), ("clear_text", "text")]),
)


@settings(max_examples=10, deadline=None)
@given(asked=st.lists(QUESTIONS, min_size=2, max_size=8))
def test_I8_over_any_sequence_of_days_what_is_remembered_is_what_would_be_decided_anew(
    asked: list[Any],
) -> None:
    running = decider()
    for question in asked:
        fresh = decider()
        assert answers(running, question) == answers(fresh, question)


def lawful(one: Decider, day: int, ms: int = 1, **more: Any) -> set[str]:
    return set(one.decide(admitted(received_at_ms=at(day, ms), **more), Health()).eligibility.kept)


def test_rules_lists_and_evidence_turn_at_utc_midnight_while_it_runs() -> None:
    """Forwards day by day, with the same questions before and after each midnight, and then backwards."""
    own, both = {"ward-llm"}, EVERYONE
    expected = {
        "dated": ({}, [both, own, own, own, both, both]),
        "listed": ({"classes": ("internal",)}, [set(), own, own, set(), set(), {"frankfurt-region"}]),
        "fria": ({"app": "hr"}, [set(), set(), own, own, both, both]),
        "bought": ({"purpose": "ads"}, [set()] * 6),
        "covered": (
            {"purpose": "ads", "app": "office"},
            [{"frankfurt-region"}, set(), set(), set(), {"frankfurt-region"}, {"frankfurt-region"}],
        ),
    }
    running = decider()
    for days in (range(6), reversed(range(6))):
        for day in days:
            for name, (more, found) in expected.items():
                for ms in (0, DAY_MS - 1):
                    assert lawful(running, day, ms, **more) == found[day], (name, day)


def test_every_turn_gives_the_leaf_another_digest_and_no_other_day_does() -> None:
    running = decider()
    digests = []
    for day in range(-1, 9):
        made = running.decide(admitted(received_at_ms=at(day)), Health()).eligibility
        digests.append((made.pack_digest, made.fleet_digest))
    packs, fleets = [one for one, _ in digests], [one for _, one in digests]
    turned = [n - 1 for n in range(1, len(digests)) if packs[n] != packs[n - 1]]
    assert turned == [1, 3, 4, 5]  # rule and row begin, row ends, rule ends, row begins
    assert [n - 1 for n in range(1, len(digests)) if fleets[n] != fleets[n - 1]] == [1, 2, 4, 5]


def test_a_hundred_days_in_any_order_leave_no_more_behind_than_eight() -> None:
    running, rng = decider(), random.Random(3)
    for _ in range(300):
        lawful(running, rng.randrange(-60, 60))
    assert len(running.policy._epochs) <= 8
