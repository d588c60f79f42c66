"""I1, I2 and I8 as properties, and the traps of Cedar that would break them."""

from __future__ import annotations

import json
import random

import cedarpy
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_worlds import (
    CLASSES,
    DAY,
    ask,
    base_files,
    forbid,
    holds,
    hospital,
    ids_of,
    load,
    pack_files,
    pack_without,
    random_fleet,
    random_operator,
    random_question,
    seal_pack,
    with_deployment,
    with_operator,
    with_tenant,
)

from allod.domain import jurisdiction
from allod.domain.classes import expand
from allod.domain.errors import Integrity
from allod.domain.facts import NOWHERE, Fact
from allod.domain.fleet import Fleet
from allod.policy import Pack, Policy, PolicyQuestion, load_pack
from allod.policy.facts import DEPLOYMENT_FACTS, OPERATOR_FACTS, Calendar, encode
from allod.policy.reference import Reference, request_of

BASE = load_pack(base_files())
SEAL = seal_pack()
OLD = load(pack_files("old", forbid("old.1", "when { !resource.approved }"), "max_age_days = 90"))
RESIDENCY_FACTS = (
    "processing",
    "at_rest",
    "transit",
    "records_auditable",
    "inspectable",
    "seat",
    "controlled_from",
)
seeds = st.integers(0, 2**32)


def kept(policy: Policy, q: PolicyQuestion) -> set[str]:
    return set(policy.eligible(q).kept)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, names=st.sets(st.sampled_from(RESIDENCY_FACTS), min_size=1), how=st.integers(0, 3))
def test_I1_a_missing_expired_or_empty_fact_denies(seed: int, names: set[str], how: int) -> None:
    fleet = hospital()
    for name in names:
        bearer = fleet.operators["self"] if name in OPERATOR_FACTS else fleet.deployments["ward-llm"]
        fact: Fact = getattr(bearer, name)
        broken = (
            None,
            msgspec.structs.replace(fact, expires=DAY),
            msgspec.structs.replace(fact, value="" if isinstance(fact.value, str) else ()),
            msgspec.structs.replace(fact, value=None),
        )[how]
        change = with_operator if name in OPERATOR_FACTS else with_deployment
        fleet = change(fleet, "self" if name in OPERATOR_FACTS else "ward-llm", **{name: broken})
    policy = Policy((BASE,), fleet)
    q = ask(classes=(random.Random(seed).choice(("personal", "phi", "confidential", "unscanned")),))
    assert kept(policy, q) == set()
    assert "residency.0-complete" in ids_of(policy.eligible(q), "ward-llm")
    assert not policy.recheck(q, "ward-llm")


@settings(max_examples=60, deadline=None)
@given(seed=seeds, data=st.data())
def test_I1_taking_facts_away_never_adds_a_deployment(seed: int, data: st.DataObject) -> None:
    rng = random.Random(seed)
    fleet = random_fleet(rng, 4)
    q = random_question(rng)
    before = kept(Policy((BASE,), fleet), q)
    name = data.draw(st.sampled_from(sorted(fleet.deployments)))
    gone = data.draw(st.sets(st.sampled_from((*DEPLOYMENT_FACTS, *OPERATOR_FACTS)), min_size=1))
    for fact in gone:
        if fact in OPERATOR_FACTS:
            fleet = with_operator(fleet, fleet.deployments[name].operator, **{fact: None})
        else:
            fleet = with_deployment(fleet, name, **{fact: None})
    assert kept(Policy((BASE,), fleet), q) <= before


def plainly_resident(fleet: Fleet, name: str) -> bool:
    """The residency theorem in plain Python, from the facts themselves."""
    deployment = fleet.deployments[name]
    operator = fleet.operators[deployment.operator]
    bloc = jurisdiction.expand(fleet.tenant.bloc)

    def inside(fact: Fact | None) -> bool:
        if fact is None or not fact.holds_on(DAY) or not fact.value:
            return False
        places = (fact.value,) if isinstance(fact.value, str) else fact.value
        return jurisdiction.expand(p for p in places if p) <= bloc

    rest = deployment.at_rest
    audit = (deployment.records_auditable, deployment.inspectable)
    return (
        inside(deployment.processing)
        and (inside(rest) or (rest is not None and rest.holds_on(DAY) and rest.value == NOWHERE))
        and inside(deployment.transit)
        and all(f is not None and f.holds_on(DAY) and f.value is True for f in audit)
        and (operator.own or all(f is not None and f.at_least("attested") for f in audit))
        and inside(operator.seat)
        and inside(operator.controlled_from)
    )


def almost_lawful(rng: random.Random, deployments: int) -> Fleet:
    """Deployments of a lawful foreign operator, each with at most two facts replaced by random ones."""
    fleet = random_fleet(rng, deployments)
    lawful = {
        "processing": holds("FR"), "at_rest": holds(("DE",)), "transit": holds(("EEA",)),
        "records_auditable": holds(True, grade="attested"), "inspectable": holds(True, grade="measured"),
        "seat": holds("FR"), "controlled_from": holds(("FR", "NO")),
    }  # fmt: skip
    operators, built = {}, {}
    for name, deployment in fleet.deployments.items():
        wild = set(rng.sample(RESIDENCY_FACTS, rng.choice((0, 1, 1, 2))))
        kept_facts = {fact: value for fact, value in lawful.items() if fact not in wild}
        operators[name] = msgspec.structs.replace(
            random_operator(rng, name),
            own=rng.random() < 0.3,
            **{fact: kept_facts[fact] for fact in OPERATOR_FACTS if fact in kept_facts},
        )
        built[name] = msgspec.structs.replace(
            deployment,
            operator=name,
            engine="openai",
            approved=True,
            **{fact: kept_facts[fact] for fact in DEPLOYMENT_FACTS if fact in kept_facts},
        )
    tenant = msgspec.structs.replace(fleet.tenant, bloc=("EEA",), air_gapped=False)
    return msgspec.structs.replace(fleet, tenant=tenant, operators=operators, deployments=built)


def residency_counterexamples(pack: Pack, rounds: int) -> int:
    rng = random.Random("theorem")
    wrong = 0
    for _ in range(rounds):
        fleet = with_tenant(almost_lawful(rng, 40), resident_classes=("personal",))
        kept_ids = (
            Policy((pack,), fleet).eligible(PolicyQuestion(app="a", classes=("personal",), day=DAY)).kept
        )
        assert len(kept_ids) > 4  # the theorem speaks of something
        wrong += sum(not plainly_resident(fleet, name) for name in kept_ids)
    return wrong


def test_I1_residency_theorem_holds_and_each_rule_is_needed() -> None:
    theorem = BASE.theorems[0]
    assert residency_counterexamples(BASE, 25) == 0
    for rule_id in theorem.fails_without:
        relaxed = pack_without(rule_id)
        assert residency_counterexamples(relaxed, 25) > 0, f"nothing breaks without {rule_id}"


@settings(max_examples=80, deadline=None)
@given(seed=seeds, more=st.sampled_from(CLASSES))
def test_I2_adding_a_class_never_adds_a_deployment(seed: int, more: str) -> None:
    rng = random.Random(seed)
    fleet = with_tenant(random_fleet(rng, 5, relax=rng.random() < 0.3), packs=("base", "eu-csf"))
    policy = Policy((BASE, SEAL), fleet)
    for _ in range(3):
        q = random_question(rng)
        wider = msgspec.structs.replace(q, classes=expand((*q.classes, more)))
        assert kept(policy, wider) <= kept(policy, q)
        assert {n for n in policy.subjects if policy.recheck(wider, n)} <= kept(policy, q)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, extra=st.sampled_from((SEAL, OLD)))
def test_I2_adding_a_pack_never_adds_a_deployment(seed: int, extra: Pack) -> None:
    rng = random.Random(seed)
    fleet = random_fleet(rng, 6)
    alone = Policy((BASE, extra), fleet)
    both = Policy((BASE, extra), with_tenant(fleet, packs=("base", extra.id)))
    for _ in range(4):
        q = random_question(rng)
        assert kept(both, q) <= kept(alone, q)


@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_I6_losing_the_link_never_adds_a_deployment(seed: int) -> None:
    rng = random.Random(seed)
    policy = Policy((BASE,), random_fleet(rng, 6))
    for _ in range(4):
        q = random_question(rng)
        down, up = (msgspec.structs.replace(q, link_up=link) for link in (False, True))
        assert kept(policy, down) <= kept(policy, up)
        on_premises = {
            n for n, d in policy.fleet.deployments.items() if d.on_premises and d.on_premises.value
        }
        assert kept(policy, down) <= on_premises


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_I8_the_same_facts_give_the_same_decision(seed: int) -> None:
    questions = [random_question(random.Random(seed + n)) for n in range(4)]
    first = Policy((BASE,), random_fleet(random.Random(seed), 6))
    second = Policy((BASE,), random_fleet(random.Random(seed), 6))
    answers = [first.eligible(q) for q in questions]
    assert [second.eligible(q) for q in reversed(questions)] == answers[::-1]
    assert [first.nearest(q) for q in questions] == [second.nearest(q) for q in questions]
    assert [first.eligible(q) for q in questions] == answers


# The traps.


def test_trap_an_erroring_forbid_is_skipped_by_cedar_and_denied_by_us() -> None:
    everyone = "(principal, action, resource)"
    text = f"permit {everyone}; forbid {everyone} unless {{ resource.ok }};"
    entities = json.dumps([{"uid": {"type": "R", "id": "r"}, "attrs": {}, "parents": []}])
    request = {"principal": 'P::"p"', "action": 'Action::"a"', "resource": 'R::"r"', "context": {}}
    bare = cedarpy.is_authorized(request, text, entities)
    assert bare.decision is cedarpy.Decision.Allow  # this is the trap
    assert bare.diagnostics.errors
    # A rule that fits the schema and errors all the same: it overflows. It may read no fact of a deployment.
    body = (
        "when { principal.tenant has min_seal && principal.tenant.min_seal.sov1 + 9223372036854775807 < 0 }"
    )
    pack = load(pack_files("x", forbid("x.1", body)))
    fleet = with_tenant(hospital(), packs=("base", "x"))
    policy = Policy((BASE, pack), with_tenant(fleet, min_seal=(1,) * 8))
    q = ask("press", ("public",))
    assert ids_of(policy.eligible(q), "ward-llm") == ("x.1",)
    (rule,) = next(e for e in policy.eligible(q).excluded if e.deployment == "ward-llm").rules
    assert rule.got.startswith("the rule could not be evaluated")
    assert not policy.recheck(q, "ward-llm")
    assert Policy((BASE, pack), fleet).recheck(q, "ward-llm")  # no minimum declared: nothing overflows


def test_trap_empty_sets_pass_containment_and_are_denied_by_us() -> None:
    bare = cedarpy.is_authorized(
        {"principal": 'P::"p"', "action": 'Action::"a"', "resource": 'R::"r"', "context": {"transit": []}},
        'permit (principal, action, resource) when { ["DE"].containsAll(context.transit) };',
        "[]",
    )
    assert bare.decision is cedarpy.Decision.Allow  # this is the trap
    fleet = with_deployment(hospital(), "ward-llm", transit=holds(()), at_rest=holds(()))
    fleet = with_operator(fleet, "self", controlled_from=holds(()))
    policy = Policy((BASE,), fleet)
    assert ids_of(policy.eligible(ask()), "ward-llm") == (
        "residency.0-complete", "residency.2-rest", "residency.3-transit", "residency.5-operator",
    )  # fmt: skip
    assert not policy.recheck(ask(), "ward-llm")


def front(fleet: Fleet) -> tuple[Reference, cedarpy.Entities]:
    reference = Reference(BASE.text, BASE.schema)
    return reference, reference.entities(encode(fleet, Calendar(day=DAY)))


FLAGS = {"link_up": True, "pseudonymised": False}


def test_trap_a_request_that_does_not_fit_the_schema_is_no_decision_and_denied() -> None:
    reference, entities = front(hospital())
    good = request_of("press", "ward-llm", {"classes": ["public"], **FLAGS})
    bad = [
        request_of("press", "ward-llm", {"classes": ["public"]}),
        request_of("press", "ward-llm", {"classes": "public", **FLAGS}),
        request_of("press", "ward-llm", {"classes": [1], **FLAGS}),
        request_of("press", "ward-llm", {"classes": [], **FLAGS, "more": 1}),
        {**good, "action": {"type": "Allod::Action", "id": "train"}},
        {**good, "resource": {"type": "Allod::Tenant", "id": "st-elisabeth"}},
        request_of("press", "unheard-of", {"classes": ["public"], **FLAGS}),
    ]
    raw = cedarpy.is_authorized_batch([good, *bad], BASE.text, entities, BASE.schema)
    assert cedarpy.Decision.NoDecision in {result.decision for result in raw}
    # batch never raises for an item: each is looked at by itself, good ones before and after bad ones
    verdicts = reference.decide([good, *bad, good], entities)
    assert [verdict.allowed for verdict in verdicts] == [True, *[False] * len(bad), True]


def test_trap_allow_beside_errors_is_denied_by_the_reference() -> None:
    schema = BASE.schema
    text = BASE.text + forbid("x.1", "when { 9223372036854775807 + resource.seal.sov1 > 0 }").replace(
        "when {", "when { resource has seal &&"
    )
    reference = Reference(text, schema)
    entities = reference.entities(encode(hospital(), Calendar(day=DAY)))
    (verdict,) = reference.decide(
        [request_of("press", "ward-llm", {"classes": ["public"], **FLAGS})], entities
    )
    assert verdict.errors
    assert not verdict.allowed


@pytest.mark.parametrize(
    "break_it",
    [
        lambda entity: entity["attrs"].pop("approved"),
        lambda entity: entity["attrs"].update(approved="yes"),
        lambda entity: entity["attrs"].update(colour="red"),
        lambda entity: entity["attrs"].update(processing=["DE"]),
    ],
)
def test_entities_that_do_not_fit_the_schema_decide_nothing(break_it) -> None:
    reference = Reference(BASE.text, BASE.schema)
    entities = encode(hospital(), Calendar(day=DAY))
    break_it(next(e for e in entities if e["uid"]["type"] == "Allod::Deployment"))
    with pytest.raises(Integrity, match="do not fit"):
        reference.entities(entities)


def test_I1_recheck_is_false_on_any_doubt(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "_reads_purpose", True)
    assert policy.recheck(ask(), "ward-llm")

    def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(policy.rules_on(DAY)[1], "decide", broken)
    assert not policy.recheck(ask(purpose="new"), "ward-llm")
    monkeypatch.setattr(policy.rules_on(DAY)[1], "decide", lambda *_: ())
    assert not policy.recheck(ask(purpose="newer"), "ward-llm")


@pytest.mark.parametrize("name", ['we"ird', "a\nb", "Ward ☃", "::", "policy0"])
def test_ids_need_no_quoting(name: str) -> None:
    fleet = hospital()
    ward = msgspec.structs.replace(fleet.deployments["ward-llm"], id=name)
    fleet = msgspec.structs.replace(
        fleet, deployments={name: ward}, weights={name: fleet.weights["ward-llm"]}
    )
    policy = Policy((BASE,), fleet)
    assert policy.eligible(ask()).kept == (name,)
    assert policy.recheck(ask(), name)
