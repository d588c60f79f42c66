"""Simulation, the pure part: recorded decisions made again (I8), and what they add up to."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_worlds import LAW, deployment, fleet, lawful, price, question
from test_routing_plan import questions

from allod.domain.decision import Estimated
from allod.domain.errors import Integrity
from allod.domain.fleet import Task
from allod.routing.plan import choose, plan
from allod.routing.question import Health, Question, facts_of
from allod.routing.record import OLDER, decision_record, holds, plain_data, read_record, replay, write_record
from allod.routing.shadow import Shadowed, ShadowTally, difference
from allod.routing.simulate import (
    REMOVED,
    Again,
    change_of,
    law_of,
    other_fleet,
    past_of,
    same_fleet,
    write_again,
)
from allod.routing.snapshot import read_snapshot, snapshot_of
from allod.routing.tally import OTHERS, REASONS, Found, Tally

FLAGS = {"link_up": True, "air_gapped": False, "day": "2026-11-25", "pseudonymised": False}
FLEET = fleet(
    deployment("a", price=price("1", "2"), quality={"default": Decimal("0.8")}),
    deployment("b", price=price("3", "4"), quality={"default": Decimal("0.9"), "hard": Decimal("0.99")}),
    deployment("c", price=None, quality={}),
    tasks=(Task(name="hard", min_quality=Decimal("0.95")), Task(name="named", deployments=("c", "a"))),
    objective="cheapest",
)


def recorded(asked: Question, **more: Any) -> bytes:
    return decision_record(asked, plan(asked), FLAGS, configuration="sha256:c", **more)


def under(asked: Question, unlawful: tuple[str, ...]) -> Question:
    """Return the same question under other law."""
    return msgspec.structs.replace(asked, eligibility=lawful(asked.fleet, unlawful))


def again(asked: Question, unlawful: tuple[str, ...], record: bytes | None = None) -> Again:
    other = under(asked, unlawful)
    past = past_of(record or recorded(asked))
    bare = msgspec.structs.replace(other, health=Health())
    return same_fleet(past, law_of(other.eligibility), asked.fleet, lambda: bare)


def older_record(record: bytes) -> bytes:
    """Write a record as it was written before configurations were kept."""
    return write_record(msgspec.structs.replace(read_record(record), format=OLDER, configuration=None))


def healthy(asked: Question, names: set[str]) -> Question:
    """Return the question as if nothing were known of the health of these deployments."""
    known = asked.health
    return msgspec.structs.replace(
        asked,
        health=Health(
            resting=known.resting - names,
            latency_ms={n: ms for n, ms in known.latency_ms.items() if n not in names},
            unready={n: why for n, why in known.unready.items() if n not in names},
        ),
    )


@settings(max_examples=50)
@given(questions())
def test_I8_nothing_changed_gives_the_record_byte_for_byte(asked: Question) -> None:
    record = recorded(asked)
    law = law_of(asked.eligibility)
    made = same_fleet(past_of(record), law, asked.fleet, lambda: asked)
    assert write_again(read_record(record), made, law, None) == record
    assert made.law_same
    assert change_of(made)[0] == "same"


@settings(max_examples=50)
@given(questions())
def test_I8_a_record_of_the_older_format_is_made_again_byte_for_byte(asked: Question) -> None:
    record = older_record(decision_record(asked, plan(asked), {"link_up": True, "day": "2026-11-25"}))
    assert record.count(LAW.law.encode()) == 2 * len(
        [one for one in facts_of(asked).candidates if LAW in one.law]
    )
    assert replay(record) == plan(asked)
    law = law_of(asked.eligibility)
    made = same_fleet(past_of(record), law, asked.fleet, lambda: asked)
    assert write_again(read_record(record), made, law, None) == record
    assert past_of(record).configuration is None


@settings(max_examples=150)
@given(questions(), st.data())
def test_I8_under_other_law_the_plan_is_the_one_the_gateway_would_have_made(
    asked: Question, data: st.DataObject
) -> None:
    names = tuple(asked.fleet.deployments)
    unlawful = tuple(data.draw(st.lists(st.sampled_from(names), unique=True))) if names else ()
    made = again(asked, unlawful)
    newly = {name for name, _ in made.lawful}
    live = healthy(under(asked, unlawful), {n for n in names if n not in asked.eligibility.kept})
    if made.law_same:
        assert choose(made.facts).attempts == choose(facts_of(live)).attempts
    else:
        assert plain_data(made.facts) == plain_data(facts_of(live))
    fresh = choose(facts_of(live))
    assert (fresh.attempts, fresh.down) == (made.choice.attempts, made.choice.down)
    if not made.law_same:
        assert [(one.deployment, rules) for one, rules in fresh.judged] == [
            (one.deployment, rules) for one, rules in made.choice.judged
        ]
        assert [one.deployment for one in fresh.able] == [one.deployment for one in made.choice.able]
        assert [one.deployment for one in fresh.up] == [one.deployment for one in made.choice.up]
    assert newly == {c for c in _scope(asked) if c not in asked.eligibility.kept and c not in unlawful}
    assert {n for n, _ in made.unlawful} == {
        c for c in _scope(asked) if c in asked.eligibility.kept and c in unlawful
    }


HUNDREDTHS = st.integers(0, 100).map(lambda n: Decimal(n).scaleb(-2))


@settings(max_examples=100)
@given(questions(), st.data())
def test_I8_estimates_are_those_of_the_record_under_whatever_law(
    asked: Question, data: st.DataObject
) -> None:
    """Estimates of a request are made again from its record; who is newly lawful has none."""
    names = tuple(asked.fleet.deployments)
    guesses = []
    for name in asked.eligibility.kept:
        low, success, high = sorted(data.draw(st.lists(HUNDREDTHS, min_size=3, max_size=3)))
        tokens = data.draw(st.integers(1, 5000))
        one = Estimated(success=success, low=low, high=high, output_tokens=tokens, n=40)
        guesses += [(name, one)] if data.draw(st.booleans()) else []
    floor = data.draw(st.sampled_from([asked.min_quality, Decimal("0.7")]))
    asked = msgspec.structs.replace(asked, estimates=tuple(guesses), min_quality=floor)
    unlawful = tuple(data.draw(st.lists(st.sampled_from(names), unique=True))) if names else ()
    record = recorded(asked, estimator={"fitted": "sha256:f"})
    law = law_of(asked.eligibility)
    same = same_fleet(past_of(record), law, asked.fleet, lambda: asked)
    assert write_again(read_record(record), same, law, None) == record
    made = again(asked, unlawful, record)
    live = healthy(under(asked, unlawful), {n for n in names if n not in asked.eligibility.kept})
    fresh = choose(facts_of(live))
    assert (fresh.attempts, fresh.down) == (made.choice.attempts, made.choice.down)
    assert [one.deployment for one in fresh.able] == [one.deployment for one in made.choice.able]


def _scope(asked: Question) -> set[str]:
    return {one.deployment for one in facts_of(asked).candidates}


@settings(max_examples=50)
@given(questions(), st.data())
def test_I2_law_that_only_takes_away_never_allows(asked: Question, data: st.DataObject) -> None:
    names = tuple(asked.fleet.deployments)
    more = tuple(data.draw(st.lists(st.sampled_from(names), unique=True))) if names else ()
    before = tuple(n for n in names if n not in asked.eligibility.kept)
    made = again(asked, tuple(dict.fromkeys((*before, *more))))
    assert made.lawful == ()
    assert made.prices == frozenset()
    assert change_of(made)[0] not in {"allowed", "up"}


@settings(max_examples=50)
@given(questions(), st.data())
def test_another_fleet_gives_the_plan_the_gateway_would_make_there(
    asked: Question, data: st.DataObject
) -> None:
    """Recorded estimates are kept only where nothing changed."""
    names = tuple(asked.fleet.deployments)
    changed = set(data.draw(st.lists(st.sampled_from(names), unique=True))) if names else set()
    deployments = {
        name: msgspec.structs.replace(one, quality={"default": Decimal("0.123")}) if name in changed else one
        for name, one in asked.fleet.deployments.items()
    }
    there = msgspec.structs.replace(
        asked, fleet=msgspec.structs.replace(asked.fleet, deployments=deployments)
    )
    past = past_of(recorded(asked))
    bare = msgspec.structs.replace(there, health=Health())
    made = other_fleet(past, law_of(there.eligibility), facts_of(bare), frozenset(set(names) - changed))
    seen = {one.deployment for one in past.facts.candidates if not one.law}
    assert plain_data(made.facts) == plain_data(facts_of(healthy(there, set(names) - seen)))


def test_what_is_newly_allowed_is_estimated_and_its_price_is_named() -> None:
    asked = question(FLEET, unlawful=("a", "c"))
    made = again(asked, ())
    tariffs = asked.tariffs.by_deployment
    assert tariffs["a"] is not None
    assert made.prices == {tariffs["a"].digest}
    assert made.lawful == (("a", (LAW,)), ("c", (LAW,)))
    assert made.choice.attempts == ("a", "b")  # c has no known price
    change, before, after = change_of(made)
    assert (change, before.first, after.first) == ("choice", "b", "a")
    assert after.cost_usd == facts_of(question(FLEET)).candidates[0].cost_usd


def test_a_removed_deployment_is_lost_by_a_rule_of_its_own() -> None:
    asked = question(FLEET)
    less = fleet(FLEET.deployments["b"], objective="cheapest")
    there = question(less)
    made = other_fleet(past_of(recorded(asked)), law_of(there.eligibility), facts_of(there), frozenset())
    assert [(name, [rule.id for rule in rules]) for name, rules in made.lost] == [("a", [REMOVED])]
    assert change_of(made)[0] == "choice"


def test_a_record_whose_facts_do_not_lead_to_its_plan_is_not_replayed() -> None:
    record = recorded(question(FLEET))
    data = json.loads(record)
    data["facts"]["min_quality"] = "0.99"
    changed = json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(Integrity, match="does not hold"):
        again(question(FLEET), (), changed)
    with pytest.raises(Integrity, match="does not hold"):
        again(question(FLEET), ("b",), changed)


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda _: b"{}",
        lambda r: r[: len(r) // 2],
        lambda r: r.replace(b"allod-decision-2", b"allod-decision-9"),
        lambda r: r.replace(b'"input_tokens":112', b'"input_tokens":"x"'),
        lambda r: b"[" * 100_000,
    ],
)
def test_a_damaged_record_is_an_integrity_fault(damage: Any) -> None:
    with pytest.raises(Integrity):
        past_of(damage(recorded(question(FLEET))))


@given(questions())
def test_the_rules_of_law_are_written_once_and_read_in_both_places(asked: Question) -> None:
    record = recorded(asked)
    unlawful = [one for one in plan(asked).candidates if LAW in one.rules]
    assert record.count(LAW.law.encode()) == len(unlawful)
    assert read_record(record).plan == plan(asked)


def test_a_plan_that_says_less_than_its_facts_is_not_filled_in() -> None:
    data = json.loads(recorded(question(FLEET, unlawful=("a",))))
    data["plan"]["candidates"][0]["rules"] = []
    changed = json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
    assert read_record(changed).plan.candidates[0].rules == ()
    assert not holds(changed)
    data["plan"]["candidates"][0] = {**data["plan"]["candidates"][0], "deployment": "x"}
    del data["plan"]["candidates"][0]["rules"]
    with pytest.raises(Integrity):
        read_record(json.dumps(data, sort_keys=True, separators=(",", ":")).encode())


# --- snapshots


def test_a_snapshot_gives_the_fleet_back_in_its_order() -> None:
    of = fleet(
        deployment("z"), deployment("a", seal=(1,) * 8), deployment("m", takes=frozenset({"text", "tools"}))
    )
    kept = snapshot_of(of)
    back = read_snapshot(kept.body, kept.digest)
    assert back == of
    assert list(back.deployments) == ["z", "a", "m"]
    assert snapshot_of(back) == kept
    turned = fleet(*reversed(of.deployments.values()))
    assert snapshot_of(turned).digest != kept.digest


@settings(max_examples=50)
@given(questions())
def test_any_fleet_comes_back_from_its_snapshot(asked: Question) -> None:
    kept = snapshot_of(asked.fleet)
    assert read_snapshot(kept.body, kept.digest) == asked.fleet


def test_a_changed_snapshot_is_an_integrity_fault() -> None:
    kept = snapshot_of(FLEET)
    with pytest.raises(Integrity):
        read_snapshot(kept.body.replace(b'"b"', b'"x"'), kept.digest)
    for body in (b"{}", b"[]", b"\xff", kept.body.replace(b"allod-fleet-1", b"allod-fleet-9")):
        with pytest.raises(Integrity):
            read_snapshot(body, _digest(body))


def _digest(body: bytes) -> str:
    from allod.receipts.commitment import digest

    return digest(body)


# --- shadows


def test_a_shadow_says_what_it_takes_away_and_what_becomes_of_the_request() -> None:
    asked = question(FLEET)
    other = under(asked, ("a",))
    seen = difference(("p",), (asked.eligibility, plan(asked)), (other.eligibility, plan(other)))
    assert [(one.deployment, one.rules) for one in seen.excluded] == [("a", (LAW.id,))]
    assert (seen.kept, seen.outcome, seen.first, seen.changed) == ((), "served", "b", True)
    back = difference(("p",), (other.eligibility, plan(other)), (asked.eligibility, plan(asked)))
    assert (back.excluded, back.kept, back.first, back.changed) == ((), ("a",), "a", True)
    same = difference(("p",), (asked.eligibility, plan(asked)), (asked.eligibility, plan(asked)))
    assert not same.differs


def test_a_shadow_is_compared_only_over_what_the_request_could_use() -> None:
    asked = question(FLEET, pinned=("b",))
    other = under(asked, ("a",))
    seen = difference(("p",), (asked.eligibility, plan(asked)), (other.eligibility, plan(other)))
    assert not seen.differs


def test_shadows_add_up_by_what_they_would_have_changed() -> None:
    asked, tally = question(FLEET), ShadowTally()
    other, none = under(asked, ("a",)), under(asked, ("a", "b", "c"))
    law, made = asked.eligibility, plan(asked)
    for n, (beside, requests) in enumerate([(other, 10), (none, 5), (asked, 100)]):
        seen = difference(("p",), (law, made), (beside.eligibility, plan(beside)))
        tally.add(recorded(asked, shadow=seen), requests, f"r{n}")
    tally.add(recorded(asked, shadow=Shadowed(packs=("p",), error="broke")), 3, "r3")
    tally.add(recorded(asked), 7, "r4")
    tally.add(None, 2, "r5")
    with pytest.raises(Integrity):
        tally.add(b"{", 1, "r6")
    found = tally.found()
    total = found.totals
    assert (total.requests, total.shadowed, total.failed, total.same) == (128, 118, 3, 100)
    assert (total.differing, total.changed, total.refused, total.unread) == (15, 15, 5, 3)
    assert [(one.requests, one.before, one.after) for one in found.lines] == [
        (10, ("served", "a"), ("served", "b")),
        (5, ("served", "a"), ("refused", None)),
    ]
    assert [(one.error, one.requests, one.receipts) for one in found.faults] == [("broke", 3, ("r3",))]


# --- adding up


def found_of(*parts: tuple[Question, tuple[str, ...], int]) -> Found:
    tally = Tally()
    for n, (asked, unlawful, requests) in enumerate(parts):
        made = again(asked, unlawful)
        tally.add(past_of(recorded(asked)), made, requests, f"r{n}", identical=made.law_same)
    return tally.found()


def test_what_changes_is_added_up_exactly_by_app_task_rule_and_deployment() -> None:
    plainly, hard = question(FLEET), question(FLEET, task="hard", min_quality=Decimal("0.95"))
    found = found_of((plainly, ("a",), 1_000_001), (hard, ("b",), 7), (plainly, (), 2))
    cost = {one.deployment: one.cost_usd for one in facts_of(plainly).candidates}
    assert cost["a"] is not None
    assert cost["b"] is not None
    total = found.totals
    assert (total.requests, total.decisions, total.replayed, total.identical) == (1_000_010, 3, 1_000_010, 2)
    assert total.cost_before_usd == 1_000_003 * cost["a"] + 7 * cost["b"]
    assert total.cost_after_usd == 1_000_001 * cost["b"] + 2 * cost["a"]
    assert (total.both, total.both_cost_before_usd) == (1_000_003, 1_000_003 * cost["a"])
    assert {one.change: one.requests for one in found.changes if one.requests} == {
        "denied": 7, "choice": 1_000_001, "same": 2,
    }  # fmt: skip
    (rule,) = found.rules
    assert (rule.rule, rule.takes, rule.refused, rule.gives) == (LAW.id, 1_000_008, 7, 0)
    assert rule.deployments == ("a", "b")
    assert [(one.task, one.requests, one.whole, one.receipts) for one in found.uncovered] == [
        ("hard", 7, True, ("r1",))
    ]
    of = {one.deployment: one for one in found.deployments}
    assert (of["a"].denied, of["a"].first_before, of["a"].first_after) == (1_000_001, 1_000_003, 2)
    assert (of["b"].denied, of["b"].first_before, of["b"].first_after) == (7, 7, 1_000_001)
    choice = next(one for one in found.lines if one.change == "choice")
    assert (choice.quality_before, choice.quality_after) == (Decimal("0.8"), Decimal("0.9"))


def test_a_kind_that_is_served_elsewhere_is_not_wholly_uncovered() -> None:
    pinned, free = question(FLEET, pinned=("a",)), question(FLEET)
    found = found_of((pinned, ("a",), 4), (free, ("a",), 1))
    (one,) = found.uncovered
    assert (one.requests, one.whole) == (4, False)


def test_a_deployment_that_is_down_is_not_a_refusal() -> None:
    asked = question(FLEET, health=Health(resting=frozenset({"b"})))
    made = again(asked, ("a",))
    assert change_of(made)[0] == "down"


def test_reasons_do_not_grow_without_bound() -> None:
    tally = Tally()
    for n in range(10 * REASONS):
        tally.leave(f"because of {n}", 1, f"r{n}")
    left = tally.found().left
    assert len(left) == REASONS + 1
    assert next(one for one in left if one.reason == OTHERS).requests == 9 * REASONS
    assert tally.found().totals.requests == 10 * REASONS
    assert tally.found().totals.replayed == 0
