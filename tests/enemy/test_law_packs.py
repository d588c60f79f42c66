"""Packs written by an enemy: none that loads may let a request go where it could not go before (I1, I2)."""

from __future__ import annotations

import random
import time
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy.policy_worlds import (
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
    random_fleet,
    random_question,
    with_deployment,
    with_operator,
    with_tenant,
)

from allod.domain.classes import expand
from allod.domain.errors import AllodError, Invalid
from allod.domain.fleet import Fleet, Owner
from allod.policy import Pack, Policy, PolicyQuestion, load_pack
from allod.policy import lists as places
from allod.policy.facts import DEPLOYMENT_FACTS, OPERATOR_FACTS

BASE = load_pack(base_files())
OVERFLOW = "9223372036854775807 + 1 > 0"
seeds = st.integers(0, 2**32)


# --- the direction of every rule that loads

ATOMS: tuple[str, ...] = (
    'context.classes.contains("phi")', 'context.classes.containsAny(["personal", "restricted"])',
    'context.classes.containsAll(["special", "personal"])', "context.classes.isEmpty()",
    "context.classes.containsAny(principal.tenant.resident_classes)",
    '["phi"].containsAny(context.classes)', '["phi"].containsAll(context.classes)', "context.link_up",
    "context.pseudonymised", 'resource.agreements.contract.contains("dpa")',
    'resource.operator.attestations.attested.contains("c5-type2")',
    'principal.attestations.declared.contains("dpia")',
    'principal.tenant.attestations.declared.containsAny(["dpo"])', "resource.attestations.declared.isEmpty()",
    "resource has processing", 'resource has processing && resource.processing.codes.contains("DE")',
    "resource has retention_days && resource.retention_days.value > 0",
    "resource has seal && resource.seal.sov1 * 4611686018427387904 > 0",
    "resource has trains_on_inputs && resource.trains_on_inputs.value",
    "resource has at_rest && resource.at_rest.nowhere", "resource.operator has owners",
    "resource.operator has compelled_by && resource.operator.compelled_by.origins.isEmpty()",
    'resource has weights.maker && resource.weights.maker.contains("FR")', "resource.operator.own",
    "resource.approved", "principal.critical", 'principal has risk && principal.risk == "high"',
    'context has purpose && context.purpose like "c*"', "principal.tenant has min_seal", OVERFLOW,
    "resource has seal && resource.seal.sov1 + 9223372036854775807 > 0", 'Allod::Operator::"op0".own',
    'Allod::Operator::"nobody".own', 'Allod::App::"a" has risk', "true", "false",
    '{k: context.classes}.k.contains("phi")', "[context.link_up].contains(true)",
    "resource.agreements == resource.operator.agreements", 'principal in Allod::Tenant::"t"',
)  # fmt: skip


def expression(rng: random.Random, depth: int) -> str:
    kind = rng.choice((0, 1, 2, 3, 4, 5, 6, 6, 6, 8)) if depth else 8
    if kind <= 1:
        return f"({expression(rng, depth - 1)} && {expression(rng, depth - 1)})"
    if kind <= 3:
        return f"({expression(rng, depth - 1)} || {expression(rng, depth - 1)})"
    if kind == 4:
        return f"!({expression(rng, depth - 1)})"
    if kind == 5:
        parts = [expression(rng, depth - 1) for _ in range(3)]
        return f"(if {parts[0]} then {parts[1]} else {parts[2]})"
    if kind == 6:  # an error that comes and goes with what is tested beside it
        return f"(({expression(rng, 0)} || {OVERFLOW}) && {expression(rng, 0)})"
    return f"({rng.choice(ATOMS)})"


def hostile_pack(rng: random.Random, rules: int = 4) -> Pack | None:
    """Return a pack of as many random rules as load; None where none does."""
    kept: list[str] = []
    for n in range(40):
        body = " ".join(
            f"{rng.choice(('when', 'unless'))} {{ {expression(rng, rng.choice((0, 1, 2)))} }}"
            for _ in range(rng.choice((1, 2)))
        )
        try:
            load(pack_files("x", forbid(f"x.{n}", body)))
        except Invalid:
            continue
        kept.append(forbid(f"x.{n}", body))
        if len(kept) == rules:
            break
    manifest = rng.choice(("", "max_age_days = 200", 'min_grade = "contract"', 'min_grade = "attested"'))
    return load(pack_files("x", "".join(kept), manifest)) if kept else None


def kept(policy: Policy, q: PolicyQuestion) -> set[str]:
    """Return who may see it by both keys, which must agree."""
    found = set(policy.kept(q))
    assert {name for name in policy.subjects if policy.recheck(q, name)} == found
    return found


def law(pack: Pack, fleet: Fleet) -> Policy:
    return Policy((BASE, pack), with_tenant(fleet, packs=("base", "x")))


def less_evidence(rng: random.Random, fleet: Fleet) -> Fleet:
    """Take evidence away from somebody."""
    name = rng.choice(sorted(fleet.deployments))
    operator = fleet.operators[fleet.deployments[name].operator]
    kind = rng.choice(("agreements", "attestations"))
    match rng.randrange(4):
        case 0:
            held = getattr(fleet.deployments[name], kind)
            return with_deployment(fleet, name, **{kind: dict(list(held.items())[1:])})
        case 1:
            held = getattr(operator, kind)
            return with_operator(fleet, operator.id, **{kind: dict(list(held.items())[1:])})
        case 2:
            return with_tenant(fleet, attestations={})
        case _:
            apps = {n: msgspec.structs.replace(a, attestations={}) for n, a in fleet.apps.items()}
            return msgspec.structs.replace(fleet, apps=apps)


def less_known(rng: random.Random, fleet: Fleet, pack: Pack) -> Fleet:
    """Make a fact that a rule reads missing everywhere, expired, of a day to come, or of a wrong kind."""
    read = {name for rule in pack.rules for path in rule.reads for name in path.split(".")}
    facts = sorted(read & {*DEPLOYMENT_FACTS, *OPERATOR_FACTS, "weights"})
    fact = rng.choice(facts or DEPLOYMENT_FACTS)
    if fact == "weights":
        return msgspec.structs.replace(fleet, weights={})
    change = rng.choice((None, {"expires": DAY}, {"as_of": DAY + timedelta(days=1)}, {"value": -1.5}))

    def poorer(bearer: Any) -> Any:
        held = getattr(bearer, fact)
        worse = None if held is None or change is None else msgspec.structs.replace(held, **change)
        return msgspec.structs.replace(bearer, **{fact: worse})

    kind = "operators" if fact in OPERATOR_FACTS else "deployments"
    poor = {name: poorer(one) for name, one in getattr(fleet, kind).items()}
    return msgspec.structs.replace(fleet, **{kind: poor})


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_I2_no_pack_that_loads_lets_more_or_less_of_a_request_add_a_deployment(seed: int) -> None:
    rng = random.Random(seed)
    pack = hostile_pack(rng)
    if pack is None:
        return
    policy = law(pack, with_tenant(random_fleet(rng, 5), resident_classes=(), air_gapped=False))
    for _ in range(3):
        q = random_question(rng)
        wider = expand((*q.classes, rng.choice(CLASSES)))
        covered = msgspec.structs.replace(q, pseudonymised=True)
        for start, worse in (
            (q, {"classes": wider}),
            (q, {"link_up": False}),
            (covered, {"pseudonymised": False}),
            (covered, {"classes": wider, "link_up": False, "pseudonymised": False}),
        ):
            after = kept(policy, msgspec.structs.replace(start, **worse))
            assert after <= kept(policy, start), (pack.text, worse)


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_I1_under_no_pack_that_loads_does_less_evidence_add_a_deployment(seed: int) -> None:
    rng = random.Random(seed)
    pack = hostile_pack(rng)
    if pack is None:
        return
    fleet = random_fleet(rng, 4)
    questions = [random_question(rng) for _ in range(2)]
    before = [kept(law(pack, fleet), q) for q in questions]
    for poor in (less_evidence(rng, fleet), less_known(rng, fleet, pack), less_known(rng, fleet, pack)):
        poorer = law(pack, poor)
        assert all(kept(poorer, q) <= was for q, was in zip(questions, before, strict=True)), pack.text


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_I2_no_pack_that_loads_adds_a_deployment_to_what_other_packs_allow(seed: int) -> None:
    rng = random.Random(seed)
    first, second = hostile_pack(rng), hostile_pack(rng)
    if first is None or second is None:
        return
    other = load(pack_files("y", second.text.replace('@id("x.', '@id("y.'), "max_age_days = 100"))
    fleet = random_fleet(rng, 5)
    alone = law(first, fleet)
    both = Policy((BASE, first, other), with_tenant(fleet, packs=("base", "x", "y")))
    for _ in range(3):
        q = random_question(rng)
        assert kept(both, q) <= kept(alone, q), (first.text, second.text)


@pytest.mark.parametrize(
    "body",
    [
        f'when {{ (context.classes.contains("phi") || {OVERFLOW}) && false }}',
        f"when {{ (!context.pseudonymised || {OVERFLOW}) && false }}",
        f'when {{ (!resource.agreements.declared.contains("dpa") || {OVERFLOW}) && false }}',
        "when { (!context.link_up || 1 == -(-9223372036854775807 - 1)) && false }",
        'when { resource has processing && resource.processing.codes.contains("US") }',
        "when { resource has trains_on_inputs && resource.trains_on_inputs.value }",
        "when { true } unless { !(resource has retention_days) }",
        "when { true } unless { if resource has seal then resource.seal.sov1 > 2 else true }",
        'when { Allod::Operator::"us-cloud".own }',
        'when { Allod::Deployment::"nobody".approved }',
        'when { Allod::Deployment::"nobody" has operator }',
        'when { Allod::Tenant::"st-elisabeth".air_gapped }',
        '  unless { (if resource.approved then resource else resource).agreements.declared.contains("x") }',
    ],
)
def test_I2_a_rule_that_hides_or_turns_what_it_tests_is_refused(body: str) -> None:
    with pytest.raises(Invalid, match="could admit more"):
        load(pack_files("x", forbid("x.1", body)))


WORDS = (
    'when { true } unless { resource has processing && !["UK"].containsAny(resource.processing.codes) }',
    'when { true } unless { resource has transit && !resource.transit.codes.contains("EU") }',
    'when { principal has risk && principal.risk == "hihg" }',
    'when { principal.tenant.home == "UK" }',
    'when { !["US", "U.S."].containsAny(principal.tenant.bloc) }',
    'when { resource.engine == "openAI" }',
    'when { true } unless { resource has seal && ["atested", "measured"].contains(resource.seal.grade) }',
    'when { true } unless { resource has weights.maker && resource.weights.maker.contains("FRA") }',
    'when { true } unless { Allod::List::"x.a".codes.contains("EL") }',
)


@pytest.mark.parametrize("body", WORDS)
def test_a_rule_that_waits_for_a_word_nobody_says_is_refused(body: str) -> None:
    with pytest.raises(Invalid, match="compares"):
        load(pack_files("x", forbid("x.1", body)))


def test_a_rule_about_a_class_that_does_not_exist_does_not_start() -> None:
    pack = load(pack_files("x", forbid("x.1", 'when { context.classes.contains("phii") }')))
    with pytest.raises(Invalid, match="'phii', which is not known") as error:
        law(pack, hospital())
    assert "did you mean 'phi'" in error.value.explain()
    own = load(
        pack_files("x", forbid("x.1", 'when { ["p-x"].containsAny(context.classes) }'), 'classes = ["p-x"]')
    )
    assert law(own, hospital()).eligible(ask("press", ("p-x",))).kept == ()


# --- names that pass for others


@pytest.mark.parametrize(
    "name",
    ["residency.1-process", "airgap", "y.1", "x", "x.", "x.\u200b1", "x.1\\n", " x.1", "x.\u0430", "budget",
     "quality.floor", "pack.validity", "eu-gdpr.1", "x." + "a" * 200, "x.<b>", "=x.1"],
)  # fmt: skip
def test_a_rule_cannot_take_anothers_name_or_one_that_looks_like_it(name: str) -> None:
    with pytest.raises(Invalid, match="no rule id"):
        load(pack_files("x", forbid(name, "when { !resource.approved }")))


@pytest.mark.parametrize(
    "name", ["price", "residency", "pack", "EU-GDPR", "eu\u2010gdpr", "", "\u0435u-gdpr"]
)
def test_a_pack_cannot_take_a_name_that_means_something_else(name: str) -> None:
    with pytest.raises(Invalid, match="no pack id"):
        load(pack_files(name, forbid(f"{name}.1", "when { !resource.approved }")))


def test_words_that_show_another_text_than_they_hold_are_refused() -> None:
    for said in ("\\u{202e}desufer", "\\u{1b}[2J", "\\0"):
        text = forbid("x.1", "when { !resource.approved }").replace("Text of", said)
        with pytest.raises(Invalid, match="control characters"):
            load(pack_files("x", text))
    assert not load(pack_files("x", "", 'reviewer = "\u200b -"')).reviewed


def test_a_pack_in_force_cannot_shadow_anothers_list_or_statute() -> None:
    rule = "when { true } unless { resource.operator.own }"
    listed = b'[[list]]\nid = "gdpr.safe"\n[[list.row]]\nplace = "DE"\n'
    one = load({**pack_files("x", forbid("x.1", rule)), "facts/lists.toml": listed})
    two = load({**pack_files("y", forbid("y.1", rule)), "facts/l.toml": listed.replace(b"DE", b"US")})
    with pytest.raises(Invalid, match=r"two lists are called 'gdpr\.safe'"):
        Policy((BASE, one, two), with_tenant(hospital(), packs=("base", "x", "y")))
    said = b'[[statute]]\nname = "US-CLOUD-ACT"\ncitation = "none of your business"\n'
    other = load({**pack_files("x", forbid("x.1", rule)), "facts/s.toml": said})
    with pytest.raises(Invalid, match="otherwise than another pack"):
        law(other, hospital())


def test_I2_two_packs_that_weigh_differently_do_not_start_together() -> None:
    percent = "[15, 10, 10, 15, 20, 15, 10, 5]"
    weights = '[[weights]]\nid = "w"\nobjectives = ["a","b","c","d","e","f","g","h"]\npercent = '
    rule = "when { true } unless { resource has seal && resource.seal.score >= 300 }"
    one = load({**pack_files("x", forbid("x.1", rule)), "facts/w.toml": (weights + percent).encode()})
    mine = (weights + "[100, 0, 0, 0, 0, 0, 0, 0]").encode()
    two = load({**pack_files("y", forbid("y.1", "when { false }")), "facts/w.toml": mine})
    with pytest.raises(Invalid, match="weigh sovereignty differently"):
        Policy((BASE, one, two), with_tenant(hospital(), packs=("base", "x", "y")))
    with pytest.raises(Invalid, match="nothing of its weights"):
        law(load(pack_files("x", forbid("x.1", rule))), hospital())


# --- size, depth, circles


@pytest.mark.parametrize(
    "body",
    [
        "when { " + "(" * 5000 + "true" + ")" * 5000 + " }",
        "when { " + "[" * 5000 + "]" * 5000 + ".isEmpty() }",
        "when { " + "{a: " * 5000 + "1" + "}" * 5000 + " == {a: 1} }",
        "when { " + " && ".join(["true"] * 60_000) + " }",
        "when { resource" + ".operator" * 60_000 + ".own }",
        "when { " + "if true then " * 9000 + "true" + " else false" * 9000 + " }",
        'when { "' + '\\"' * 1000 + " }",
    ],
    ids=["brackets", "sets", "records", "chain", "path", "if", "string"],
)
def test_cedar_that_would_overflow_the_parsers_stack_is_refused_before_it(body: str) -> None:
    began = time.monotonic()
    with pytest.raises(Invalid):
        load(pack_files("x", forbid("x.1", body)))
    claim = body.removeprefix("when {").removesuffix("}")
    files = pack_files("x", forbid("x.1", "when { false }"))
    theorem = f'[[theorem]]\nid = "t"\ntext = "t"\ngiven = {claim!r}\nholds = "true"\nfails_without = []\n'
    with pytest.raises(Invalid):
        load({**files, "theorems.toml": theorem.encode()})
    assert time.monotonic() - began < 5


def test_lists_that_include_each_other_a_thousandfold_are_read_once_each() -> None:
    lists = [
        f'[[list]]\nid = "x.l{n}"\nincludes = ["x.l{n + 1}", "x.l{n + 1}", "x.l{n + 2}"]\n'
        for n in range(1500)
    ]
    lists += ['[[list]]\nid = "x.l1500"\n[[list.row]]\nplace = "DE"\n', '[[list]]\nid = "x.l1501"\n']
    rule = (
        "when { true } unless { resource has processing && "
        'Allod::List::"x.l0".codes.containsAll(resource.processing.codes) }'
    )
    pack = load({**pack_files("x", forbid("x.1", rule)), "facts/l.toml": "".join(lists).encode()})
    began = time.monotonic()
    text = pack.text.replace("x.l0", "x.l1460")
    near = load({**pack_files("x", text), "facts/l.toml": "".join(lists[-42:]).encode()})
    assert kept(law(near, hospital()), ask("press", ("public",))) == {"ward-llm", "frankfurt-region"}
    assert Policy((BASE, pack), hospital())  # there, not in force: not looked at

    assert places.codes_on("x.l0", places.join(pack.lists), DAY) == {"DE"}
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "lists",
    [
        '[[list]]\nid = "x.a"\nincludes = ["x.a"]\n',
        "".join(f'[[list]]\nid = "x.{n}"\nincludes = ["x.{(n + 1) % 3000}"]\n' for n in range(3000)),
        '[[list]]\nid = "x.a"\nincludes = ["x.nowhere"]\n',
        '[[list]]\nid = "x.a"\n[[list.row]]\nplace = "UK"\n',
        '[[list]]\nid = "x.a"\n[[list.row]]\nplace = "DE"\nsince = 2027-01-01\nuntil = 2027-01-01\n',
    ],
    ids=["itself", "long", "nowhere", "place", "dates"],
)
def test_lists_in_circles_and_lists_of_nothing_do_not_start(lists: str) -> None:
    pack = load({**pack_files("x", forbid("x.1", "when { false }")), "facts/l.toml": lists.encode()})
    with pytest.raises(Invalid):
        law(pack, hospital())


HOSTILE_TOML = (
    b"version = " + b"1" * 5000, b"version = 1e999999999", b"a" * 10 + b" = " + b"[" * 20_000,
    b'version = "\xff"', b"version = nan", b"version = 2026-13-45", b"[version]\na = 1", b"status = [1, 2]",
    b'id = "x"\nid = "x"', b"max_age_days = -1", b"valid_from = 2027-01-01\nvalid_until = 2026-01-01",
    b"valid_from = 2027-01-01T00:00:00Z", b'classes = ["personal"]', b'classes = ["UNSCANNED"]',
    b"requires = 1", b"more = 1", b"a." * 3000 + b"b = 1",
)  # fmt: skip


@pytest.mark.parametrize("line", HOSTILE_TOML, ids=range(len(HOSTILE_TOML)))
@pytest.mark.parametrize(
    "name", ["pack.toml", "theorems.toml", "obligations.toml", "facts/a.toml", "cases/a.toml"]
)
def test_hostile_toml_is_refused_in_words(name: str, line: bytes) -> None:
    files = pack_files("x", forbid("x.1", "when { false }"))
    files[name] = files.get(name, b"") + b"\n" + line
    with pytest.raises(AllodError):
        load(files)


# --- days


def test_I1_a_fact_of_a_day_to_come_is_missing_until_that_day() -> None:
    tomorrow = DAY + timedelta(days=1)
    fleet = hospital()
    for name in ("processing", "records_auditable"):
        fact = msgspec.structs.replace(getattr(fleet.deployments["ward-llm"], name), as_of=tomorrow)
        policy = Policy((BASE,), with_deployment(fleet, "ward-llm", **{name: fact}))
        assert kept(policy, ask()) == set()
        (rule, *_) = next(e for e in policy.eligible(ask()).excluded if e.deployment == "ward-llm").rules
        assert "to come" in rule.got
        assert kept(policy, ask(day=tomorrow)) == {"ward-llm"}
        assert policy.digests(DAY) != policy.digests(tomorrow)
        assert policy.valid_until_ms(DAY) is not None
    old = load(pack_files("x", forbid("x.1", "when { false }"), "max_age_days = 90"))
    facts = {
        name: msgspec.structs.replace(getattr(fleet.deployments["ward-llm"], name), as_of=date(9999, 1, 1))
        for name in DEPLOYMENT_FACTS
        if getattr(fleet.deployments["ward-llm"], name) is not None
    }
    assert kept(law(old, with_deployment(fleet, "ward-llm", **facts)), ask()) == set()


def test_I1_evidence_of_a_day_to_come_counts_from_that_day_on() -> None:
    rule = 'when { true } unless { resource.agreements.contract.contains("baa") }'
    baa = holds(True, grade="contract", as_of=DAY + timedelta(days=1), expires=DAY + timedelta(days=3))
    policy = law(
        load(pack_files("x", forbid("x.1", rule))),
        with_deployment(hospital(), "ward-llm", agreements={"baa": baa}),
    )
    found = [kept(policy, ask(day=DAY + timedelta(days=n))) for n in range(5)]
    assert found == [set(), {"ward-llm"}, {"ward-llm"}, set(), set()]


def test_edge_days_of_rules_packs_and_lists_turn_at_midnight_and_rotate_the_digest() -> None:
    rule = forbid("x.1", "when { true }").replace(
        "@remedy", '@since("2026-11-26") @until("2026-11-28") @remedy'
    )
    policy = law(load(pack_files("x", rule)), hospital())
    days = [DAY + timedelta(days=n) for n in range(5)]
    q = ("press", ("public",))
    everyone = {"ward-llm", "frankfurt-region"}
    assert [kept(policy, ask(*q, day=day)) for day in days] == [everyone, set(), set(), everyone, everyone]
    assert [kept(policy, ask(*q, day=day)) for day in reversed(days)] == [
        everyone,
        everyone,
        set(),
        set(),
        everyone,
    ]
    assert len({policy.digests(day)[0] for day in days}) == 3
    manifest = "valid_from = 2026-11-26\nvalid_until = 2026-11-28"
    policy = law(load(pack_files("x", forbid("x.1", "when { false }"), manifest)), hospital())
    assert [kept(policy, ask(*q, day=day)) for day in days] == [set(), everyone, everyone, set(), set()]
    assert ids_of(policy.eligible(ask(*q)), "ward-llm") == ("pack.validity",)


def test_I1_one_holder_cannot_hide_behind_two_rows() -> None:
    rule = (
        "when { true } unless { resource.operator has owners && "
        "resource.operator.owners.largest_outside_eu <= 2400 }"
    )
    pack = load(pack_files("x", forbid("x.1", rule)))
    for names, allowed in ((("Fund", "Other"), True), (("Fund", " FUND"), False), (("Fund", "Fund"), False)):
        owners = tuple(Owner(name=n, jurisdiction="US", percent=Decimal(20)) for n in names)
        rest = Owner(name="Foundation", jurisdiction="DE", percent=Decimal(60))
        fleet = with_operator(hospital(), "self", owners=holds((*owners, rest)))
        assert ("ward-llm" in kept(law(pack, fleet), ask("press", ("public",)))) == allowed


def test_I1_what_our_own_deployment_gets_in_clear_counts_as_clear() -> None:
    rule = "when { true } unless { context.pseudonymised }"
    policy = law(load(pack_files("x", forbid("x.1", rule))), hospital())
    q = ask("press", ("public",), pseudonymised=True)
    assert kept(policy, q) == {"frankfurt-region"}
    assert ids_of(policy.eligible(q), "ward-llm") == ("x.1",)
    (refused,) = policy.eligible(q).excluded
    assert refused.rules[0].got == "not pseudonymised"
