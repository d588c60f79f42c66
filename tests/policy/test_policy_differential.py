"""The two keys must turn alike: compiled closures against cedarpy, decision and deciding rules."""

from __future__ import annotations

import json
import random

import cedarpy
import pytest
from policy_worlds import DAY, random_fleet, random_question, seal_pack, with_tenant

from allod.policy import Pack, Policy, facts
from allod.policy.closures import Env, Uid, store_of, value_of
from allod.policy.compiler import Program, compile_rule
from allod.policy.reference import request_of

WORLDS = 20_000
PER_FLEET = 200


@pytest.mark.parametrize("part", range(4))
def test_I1_compiled_and_reference_agree_on_random_worlds(base: Pack, part: int) -> None:
    rng = random.Random(f"differential {part}")
    packs = (base, seal_pack())
    decided: dict[bool, int] = {True: 0, False: 0}
    sets: set[tuple[str, ...]] = set()
    for _ in range(WORLDS // 4 // PER_FLEET):
        fleet = random_fleet(rng, PER_FLEET, relax=rng.random() < 0.2)
        fleet = with_tenant(fleet, packs=("base", "eu-csf"))
        policy = Policy(packs, fleet)
        encoded = facts.encode(fleet, facts.Calendar(day=DAY))
        store, entities = store_of(encoded), policy.rules_on(DAY)[1].entities(encoded)
        questions = [(random_question(rng), name) for name in fleet.deployments]
        requests = [
            request_of(
                q.app, name, facts.encode_context(q.classes, q.purpose, fleet.tenant, link_up=q.link_up)
            )
            for q, name in questions
        ]
        for (q, name), reference in zip(
            questions, policy.rules_on(DAY)[1].decide(requests, entities), strict=True
        ):
            verdict = policy.verdict(q, name, store)
            forbids = tuple(sorted(set(verdict.forbids) - policy.relaxed))
            reasons = forbids or verdict.permits
            assert reference.errors == verdict.errors == ()
            assert reference.reasons == reasons, (q, fleet.deployments[name])
            assert reference.allowed == (not policy.against(verdict))
            decided[reference.allowed] += 1
            sets.add(reasons)
    assert sum(decided.values()) == WORLDS // 4
    assert min(decided.values()) > 300  # both answers are really exercised
    assert len(sets) > 60


def test_recheck_and_eligible_agree_through_the_front_door(base: Pack) -> None:
    rng = random.Random("front door")
    for _ in range(30):
        policy = Policy((base,), random_fleet(rng, 6, relax=rng.random() < 0.4))
        for _ in range(4):
            q = random_question(rng)
            kept = policy.eligible(q).kept
            assert tuple(name for name in policy.fleet.deployments if policy.recheck(q, name)) == kept


# Random policies, errors included, against an unschemaed world: the compiler's semantics by themselves.

_ENTITIES = [
    {
        "uid": {"type": "E", "id": "x"},
        "attrs": {
            "n": 3, "big": 2**63 - 1, "s": "a*bc", "t": True, "none": [],
            "set": [1, True, "a", {"__entity": {"type": "G", "id": "g"}}],
            "rec": {"k": 1, "inner": {"deep": "a"}}, "e": {"__entity": {"type": "G", "id": "g"}},
            "gone": {"__entity": {"type": "E", "id": "nowhere"}},
        },
        "parents": [{"type": "G", "id": "g"}],
    },
    {"uid": {"type": "G", "id": "g"}, "attrs": {"n": 1}, "parents": [{"type": "G", "id": "top"}]},
    {"uid": {"type": "G", "id": "top"}, "attrs": {}, "parents": []},
]  # fmt: skip
_ATOMS = {
    "bool": ("true", "false", "principal.t", "principal.missing", "principal has n", "context has missing"),
    "long": (
        "1", "3", "-9223372036854775808", "principal.n", "principal.big", "principal.rec.k", "principal.e.n",
        "principal.gone.n", 'G::"g".n',
    ),
    "string": ('"a"', '"a*bc"', "principal.s", "principal.rec.inner.deep", "context.missing"),
    "set": ("principal.none", "principal.set", "context.c", '[1, true, "a"]', "[]", "[[1], [true]]"),
    "entity": (
        "principal", "resource", 'G::"g"', 'G::"top"', 'E::"nowhere"', "principal.e", "principal.gone",
    ),
    "record": ("context", "principal.rec", "{k: 1}", 'principal.rec["inner"]', "{}"),
}  # fmt: skip
_KINDS = tuple(_ATOMS)
_FORMS = {
    "bool": (
        ("({}) && ({})", "bool", "bool"), ("({}) || ({})", "bool", "bool"), ("!({})", "bool"),
        ("({}) == ({})", "any", "any"), ("({}) != ({})", "any", "any"), ("({}) == ({})", "set", "set"),
        ("({}) < ({})", "long", "long"), ("({}) <= ({})", "long", "long"), ("({}) > ({})", "long", "long"),
        ("({}) >= ({})", "long", "long"), ("({}).contains({})", "set", "any"),
        ("({}).containsAll({})", "set", "set"), ("({}).containsAny({})", "set", "set"),
        ("({}).isEmpty()", "set"), ("({}) in ({})", "entity", "entity"),
        ("({}) in [{}, {}]", "entity", "entity", "entity"), ("({}) in ({})", "entity", "set"),
        ("({}) is E", "entity"), ('({}) is G in G::"top"', "entity"), ("({}) has n", "entity"),
        ("({}) has gone.n", "entity"), ("({}) has inner.deep", "record"), ("({}) has k", "record"),
        ('({}) like "a*"', "string"), ('({}) like "*c"', "string"), ('({}) like "a\\*bc"', "string"),
        ('({}) like "*b*"', "string"), ('({}) like "a*bc*c"', "string"), ('({}) like "a*a"', "string"),
        ("if ({}) then ({}) else ({})", "bool", "bool", "bool"),
    ),
    "long": (
        ("({}) + ({})", "long", "long"), ("({}) - ({})", "long", "long"), ("({}) * ({})", "long", "long"),
        ("-({})", "long"), ("({}).k", "record"), ("if ({}) then ({}) else ({})", "bool", "long", "long"),
    ),
    "string": (("({}).inner.deep", "record"), ("({}).s", "entity")),
    "set": (("[{}, {}]", "any", "any"), ("[{}, {}]", "entity", "entity")),
    "entity": (("({}).e", "entity"), ("if ({}) then ({}) else ({})", "bool", "entity", "entity")),
    "record": (("{{k: {}, j: {}}}", "long", "any"), ("({}).rec", "entity")),
}  # fmt: skip


def _expression(rng: random.Random, kind: str, depth: int) -> str:
    if kind == "any" or rng.random() < 0.04:  # now and then a type error
        kind = rng.choice(_KINDS)
    if depth == 0 or rng.random() < 0.1:
        return rng.choice(_ATOMS[kind])
    form, *kinds = rng.choice(_FORMS[kind])
    return form.format(*(_expression(rng, part, depth - 1) for part in kinds))


_SCOPES = (
    "principal, action, resource",
    'principal == E::"x", action, resource is G',
    'principal in G::"top", action in Action::"a", resource',
    'principal is E in G::"top", action in [Action::"a", Action::"b"], resource',
    'principal, action == Action::"b", resource in G::"top"',
)


def _policy(rng: random.Random) -> str:
    scope = rng.choice(_SCOPES)
    conditions = " ".join(
        f"{rng.choice(('when', 'unless'))} {{ {_expression(rng, 'bool', rng.choice((1, 2, 3, 4)))} }}"
        for _ in range(rng.choice((1, 1, 2)))
    )
    return f"{rng.choice(('permit', 'forbid'))} ({scope}) {conditions};"


def test_compiler_keeps_cedar_semantics_on_random_expressions() -> None:
    rng = random.Random("expressions")
    entities = cedarpy.Entities.from_json_str(json.dumps(_ENTITIES))
    store = store_of(_ENTITIES)
    context = {"c": [1, 2]}
    env = Env(
        Uid("E", "x"), Uid("Action", "a"), Uid("G", "g"), value_of(context), store.attrs, store.ancestors
    )
    request = {"principal": 'E::"x"', "action": 'Action::"a"', "resource": 'G::"g"', "context": context}
    outcomes = {"match": 0, "no": 0, "error": 0}
    rejected = 0
    for _ in range(8_000):
        text = _policy(rng)
        try:
            policies = cedarpy.PolicySet.from_str(text)
        except ValueError:  # Cedar itself refuses some at parsing, for both keys
            rejected += 1
            continue
        est = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"]["policy0"]
        verdict = Program((compile_rule("r", est),)).judge(env)
        (result,) = cedarpy.is_authorized_batch([request], policies, entities)
        reasons, errors = result.diagnostics.reasons, result.diagnostics.errors
        assert bool(verdict.errors) == bool(errors), (text, errors)
        assert bool(verdict.permits or verdict.forbids) == bool(reasons), text
        outcomes["error" if errors else "match" if reasons else "no"] += 1
    assert rejected < 800
    assert min(outcomes.values()) > 500, outcomes
