"""Deciding: what is remembered is what would be decided anew (I8), and what a refusal says."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import config, deployment

from allod.domain.classes import expand
from allod.domain.errors import Invalid, Refused, Unavailable
from allod.domain.request import Admitted, Sizes
from allod.gateway.config import parse
from allod.gateway.decide import Decider
from allod.gateway.packs import find
from allod.policy.policy import Policy
from allod.receipts.commitment import digest
from allod.routing.question import Health
from allod.routing.record import holds, read_record

DAY_MS = 86_400_000
AT = 1_790_000_000_000
FLEET = parse(
    config(
        [
            deployment("home", "answer", quality={"default": 0.5, "extract": 0.95}, context_tokens=4000),
            deployment("text", "answer", takes=["text"], quality={"default": 0.8}),
            deployment("dear", "answer", price={"input_usd_mtok": 50, "output_usd_mtok": 500}),
            deployment("foreign", "answer", lawful=False),
            deployment("unpriced", "answer", base_url="http://127.0.0.1:1/v1", price=None),
            deployment("brief", "answer", records_auditable=None, on_premises=None),
        ],
        tasks=[
            {"name": "extract", "min_quality": 0.9},
            {"name": "listed", "deployments": ["foreign", "home"]},
            {"name": "best", "objective": "best"},
        ],
    ).replace(
        'id = "brief"',
        'id = "brief"\nseal = { value = [4,4,4,4,4,4,4,4], expires = 2026-09-25 }',
    )
).fleet
POLICY = Policy(find().some(["base"]), FLEET)


def admitted(**more: Any) -> Admitted:
    """Return an admitted request."""
    given = {
        "receipt": "r_00000000_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "received_at_ms": AT,
        "app": "press",
        "surface": "chat",
        "classes": ("public",),
        "purpose": None,
        "task": None,
        "model": "auto",
        "pinned": (),
        "needs": ("text",),
        "sizes": Sizes(body_bytes=100, input_tokens=100),
        "min_quality": None,
        "max_cost_usd": None,
        "deadline_ms": None,
        "effort": None,
        "tier": None,
        "stream": False,
    }
    return Admitted(**{**given, **more})  # type: ignore[arg-type]


def decider() -> Decider:
    return Decider(POLICY, FLEET, None)


NAMES = list(FLEET.deployments)
REQUESTS = st.builds(
    admitted,
    received_at_ms=st.sampled_from([AT, AT + DAY_MS, AT + 5 * DAY_MS, AT - 3]),
    app=st.sampled_from(["press", "ward"]),
    surface=st.sampled_from(["chat", "responses", "messages", "embeddings", "count_tokens"]),
    classes=st.sampled_from([("public",), ("internal",), ("phi",), ("restricted",), ("unscanned",)]).map(
        expand
    ),
    purpose=st.sampled_from([None, "treatment"]),
    task=st.sampled_from([None, "extract", "listed", "best"]),
    pinned=st.lists(st.sampled_from(NAMES), max_size=2, unique=True).map(tuple),
    needs=st.sampled_from([("text",), ("image", "text"), ("text", "tools"), ("embeddings",)]),
    sizes=st.builds(
        Sizes,
        body_bytes=st.integers(0, 1 << 20),
        input_tokens=st.integers(0, 20_000),
        max_output_tokens=st.sampled_from([None, 1, 4096, 100_000]),
        choices=st.sampled_from([1, 2]),
    ),
    min_quality=st.sampled_from([None, Decimal("0.6"), Decimal("0.60"), Decimal(1)]),
    max_cost_usd=st.sampled_from([None, Decimal("0.000001"), Decimal(1)]),
    deadline_ms=st.sampled_from([None, 1, 100, 10_000]),
    effort=st.sampled_from([None, "none", "high"]),
    stream=st.booleans(),
)
HEALTH = st.builds(
    Health,
    resting=st.frozensets(st.sampled_from(NAMES), max_size=2),
    latency_ms=st.dictionaries(st.sampled_from(NAMES), st.sampled_from([10, 1000, 50_000]), max_size=3),
    unready=st.dictionaries(st.sampled_from(NAMES), st.just("no credential"), max_size=2),
)


@settings(max_examples=60, deadline=None)
@given(asked=st.lists(st.tuples(REQUESTS, HEALTH, st.booleans()), min_size=2, max_size=12))
def test_I8_what_is_remembered_is_what_would_be_decided_anew(
    asked: list[tuple[Admitted, Health, bool]],
) -> None:
    old = decider()
    for request, health, link_up in [*asked, *reversed(asked)]:
        remembered = old.decide(request, health, link_up=link_up)
        anew = decider().decide(request, health, link_up=link_up)
        assert remembered.record == anew.record
        assert remembered.plan == anew.plan
        assert remembered.eligibility == anew.eligibility
        assert remembered.record_digest == digest(remembered.record)
        assert holds(remembered.record)


@settings(max_examples=100, deadline=None)
@given(request=REQUESTS, health=HEALTH)
def test_I1_a_plan_holds_nothing_but_what_is_lawful_and_able(request: Admitted, health: Health) -> None:
    decision = decider().decide(request, health)
    planned = {attempt.deployment for attempt in decision.plan.attempts}
    assert planned <= set(decision.eligibility.kept)
    assert not planned & {one.deployment for one in decision.excluded}
    assert not planned & (health.resting | set(health.unready))
    if request.pinned:
        assert planned <= set(request.pinned)
    for name in planned:
        assert POLICY.recheck(decision.asked, name)


def test_a_decision_record_holds_facts_and_no_clock() -> None:
    one = decider().decide(admitted(), Health())
    later = decider().decide(admitted(received_at_ms=AT + 1000), Health())
    assert one.record == later.record
    assert read_record(one.record).flags["day"] == "2026-09-21"


def test_the_same_kind_of_request_is_decided_once() -> None:
    one = decider()
    first = one.decide(admitted(), Health())
    again = one.decide(admitted(receipt="r_00000000_01ARZ3NDEKTSV4RRFFQ69G5FAW"), Health())
    assert again is first


def test_the_digest_rotates_when_a_fact_expires() -> None:
    one = decider()
    before = one.decide(admitted(), Health())
    after = one.decide(admitted(received_at_ms=AT + 5 * DAY_MS), Health())
    assert before.eligibility.fleet_digest != after.eligibility.fleet_digest


def test_a_refusal_names_every_candidate_with_its_rules_and_the_nearest_change() -> None:
    one = decider()
    decision = one.decide(admitted(app="ward", classes=expand(("phi",)), pinned=("foreign",)), Health())
    with pytest.raises(Refused) as caught:
        one.require(decision)
    assert [e.deployment for e in caught.value.excluded] == ["foreign"]
    assert {r.id for r in caught.value.excluded[0].rules} == {
        "residency.4-audit",
        "residency.5-operator",
        "compelled.access",
    }
    assert not caught.value.budget


def test_lawful_but_down_is_unavailable_and_says_why() -> None:
    one = decider()
    health = Health(unready={"home": "no credential"}, resting=frozenset({"text"}))
    decision = one.decide(admitted(pinned=("home", "text")), health)
    with pytest.raises(Unavailable) as caught:
        one.require(decision)
    assert caught.value.kind == "down"
    assert "no credential" in caught.value.why
    assert "resting" in caught.value.why
    assert caught.value.retry_after_ms


def test_an_empty_fleet_is_said_to_be_empty() -> None:
    fleet = parse(config([])).fleet
    one = Decider(Policy(find().some(["base"]), fleet), fleet, None)
    with pytest.raises(Invalid):
        one.require(one.decide(admitted(), Health()))


def test_an_unknown_price_refuses() -> None:
    one = decider()
    decision = one.decide(admitted(pinned=("unpriced",)), Health())
    with pytest.raises(Refused) as caught:
        one.require(decision)
    assert [r.id for r in caught.value.excluded[0].rules] == ["price.unknown"]
