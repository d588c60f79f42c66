"""What changes with the day: rules with dates, lists of places, validity, grade, and evidence by name."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from policy_worlds import (
    DAY,
    ask,
    base_files,
    forbid,
    holds,
    hospital,
    ids_of,
    load,
    pack_files,
    with_deployment,
    with_operator,
    with_tenant,
)

from allod.domain.errors import Invalid
from allod.domain.facts import Fact
from allod.domain.fleet import Fleet, Owner
from allod.policy import Pack, Policy, load_pack

BASE = load_pack(base_files())
US = "frankfurt-region"
PRESS = {"app": "press", "classes": ("public",)}


WEIGHTS = (
    '[[weights]]\nid = "x"\nobjectives = ["a", "b", "c", "d", "e", "f", "g", "h"]\n'
    "percent = [15, 10, 10, 15, 20, 15, 10, 5]\n"
)


def law(rules: str, manifest: str = "", facts: str = "") -> Pack:
    files = pack_files("x", rules, manifest)
    if facts:
        files["facts/lists.toml"] = facts.encode()
    return load(files)


def policy_of(pack: Pack, fleet: Fleet | None = None) -> Policy:
    return Policy((BASE, pack), with_tenant(fleet or hospital(), packs=("base", "x")))


def decided(policy: Policy, deployment: str = US, day: date = DAY) -> tuple[str, ...]:
    """The rules against, with both keys asked."""
    q = ask(**PRESS, day=day)
    ids = ids_of(policy.eligible(q), deployment)
    assert policy.recheck(q, deployment) == (not ids)
    return ids


def test_a_rule_applies_from_its_date_to_its_end_and_the_digest_turns_with_it() -> None:
    dated = forbid("x.1", "when { true }").replace("@law", '@since("2027-12-02") @until("2028-08-02") @law')
    policy = policy_of(law(dated))
    days = [date(2027, 12, 1), date(2027, 12, 2), date(2028, 8, 1), date(2028, 8, 2)]
    assert [decided(policy, day=day) for day in days] == [(), ("x.1",), ("x.1",), ()]
    assert [decided(policy, day=day) for day in reversed(days)] == [(), ("x.1",), ("x.1",), ()]
    digests = [policy.digests(day)[0] for day in days]
    assert digests[0] != digests[1] == digests[2] != digests[3]


def test_a_pack_denies_before_it_begins() -> None:
    policy = policy_of(law(forbid("x.1", "when { !resource.approved }"), "valid_from = 2027-01-01"))
    assert decided(policy, day=date(2026, 12, 31)) == ("pack.validity",)
    assert decided(policy, day=date(2027, 1, 1)) == ()


ADEQUATE = """
[[list]]
id = "x.adequate"
includes = ["x.home"]
[[list.row]]
place = "US"
since = 2023-07-10
until = 2027-01-01
[[list]]
id = "x.home"
[[list.row]]
place = "EEA"
"""
CONTROLLED = (
    'unless { resource.operator has controlled_from && Allod::List::"x.adequate".codes.containsAll('
    "resource.operator.controlled_from.codes) }"
)


def test_a_list_holds_what_its_rows_say_on_the_day() -> None:
    policy = policy_of(law(forbid("x.1", CONTROLLED), facts=ADEQUATE))
    days = (date(2023, 7, 9), date(2023, 7, 10), date(2026, 12, 31), date(2027, 1, 1))
    assert [decided(policy, day=day) for day in days] == [("x.1",), (), (), ("x.1",)]
    assert decided(policy, "ward-llm", date(2027, 1, 1)) == ()


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ("", "x.adequate"),
        (ADEQUATE.replace('"US"', '"UK"'), "GB"),
        (ADEQUATE.replace('"x.home"]', '"x.gone"]'), "x.gone"),
        (ADEQUATE.replace('id = "x.home"', 'id = "x.home"\nincludes = ["x.adequate"]'), "circle"),
        (ADEQUATE.replace('id = "x.home"', 'id = "x.adequate"'), "two lists"),
        (ADEQUATE.replace("2027-01-01", "2023-07-10"), "before it begins"),
    ],
)
def test_lists_that_say_nothing_or_go_in_circles_do_not_start(facts: str, says: str) -> None:
    with pytest.raises(Invalid) as error:
        policy_of(law(forbid("x.1", CONTROLLED), facts=facts))
    assert says in error.value.explain()


def test_a_pack_that_requires_another_does_not_start_without_it() -> None:
    with pytest.raises(Invalid, match="needs pack 'eu'"):
        policy_of(law(forbid("x.1", "when { true }"), 'requires = ["base", "eu"]'))


def test_a_demanded_grade_is_demanded_of_others_only() -> None:
    rule = forbid("x.1", "unless { resource has processing }")
    strict = policy_of(law(rule, 'min_grade = "contract"'))
    assert decided(strict) == ("x.1",)
    assert decided(strict, "ward-llm") == ()
    shown = next(e for e in strict.eligible(ask(**PRESS)).excluded if e.deployment == US).rules[0].got
    assert shown == "processing unknown (graded only declared)"
    better = with_deployment(hospital(), US, processing=holds("DE", grade="contract"))
    assert decided(policy_of(law(rule, 'min_grade = "contract"'), better)) == ()


BAA = forbid(
    "x.1", 'unless { resource.operator.agreements.contract.contains("baa") || resource.operator.own }'
)


@pytest.mark.parametrize(
    ("fact", "lawful"),
    [
        (None, False),
        (Fact(value=True), False),
        (Fact(value=True, grade="contract"), True),
        (Fact(value=True, grade="measured"), True),
        (Fact(value=False, grade="attested"), False),
        (Fact(value=True, grade="contract", expires=DAY), False),
    ],
)
def test_an_agreement_counts_by_grade_while_it_lasts(fact: Fact[bool] | None, *, lawful: bool) -> None:
    fleet = with_operator(hospital(), "us-cloud", agreements={} if fact is None else {"baa": fact})
    policy = policy_of(law(BAA), fleet)
    assert decided(policy) == (() if lawful else ("x.1",))
    assert decided(policy, "ward-llm") == ()
    if fact is not None and not lawful:
        (rule,) = policy.eligible(ask(**PRESS)).excluded[0].rules
        assert rule.got.startswith("agreement baa ")
        assert rule.source.startswith("operator.us-cloud.agreements.baa")


def test_evidence_of_the_operator_counts_for_its_deployments_and_ages() -> None:
    rule = forbid("x.1", 'unless { resource.attestations.attested.contains("c5-type2") }')
    old = {"c5-type2": Fact(value=True, grade="attested", as_of=date(2025, 1, 1))}
    fleet = with_deployment(
        with_operator(hospital(), "us-cloud", attestations=old), "ward-llm", attestations=old
    )
    assert decided(policy_of(law(rule), fleet)) == ()
    aged = policy_of(law(rule, "max_age_days = 365"), fleet)
    assert decided(aged) == decided(aged, "ward-llm") == ("x.1",)


OWNERS = forbid(
    "x.1",
    "unless { resource.operator.own || (resource.operator has owners && "
    "resource.operator.owners.largest_outside_eu <= 2400 && "
    "resource.operator.owners.total_outside_eu <= 3900) }",
)


@pytest.mark.parametrize(
    ("owners", "lawful"),
    [
        ([("FR", "76"), ("US", "24")], True),
        ([("FR", "75.9"), ("US", "24.001")], False),
        ([("FR", "61"), ("US", "20"), ("GB", "19")], True),
        ([("FR", "60.999"), ("US", "20"), ("GB", "19.001")], False),
        ([("FR", "70")], False),  # nobody accounts for 30 %
        ([("EU", "100")], True),
        ([("EEA", "100")], False),  # may lie in Norway
        ([("FR", "80"), ("FR", "30")], False),  # more than all of it
        ([("FR", "-1"), ("FR", "100")], False),
        ([], False),
    ],
)
def test_holdings_outside_the_eu_are_computed_and_the_unknown_is_outside(
    owners: list[tuple[str, str]], *, lawful: bool
) -> None:
    held = tuple(Owner(name=f"o{n}", jurisdiction=c, percent=Decimal(p)) for n, (c, p) in enumerate(owners))
    policy = policy_of(law(OWNERS), with_operator(hospital(), "us-cloud", owners=holds(held)))
    assert decided(policy) == (() if lawful else ("x.1",))
    assert decided(policy_of(law(OWNERS))) == ("x.1",)


def test_levels_are_weighed_and_compared_with_the_least_the_tenant_wants() -> None:
    rule = forbid(
        "x.1",
        "when { principal.tenant has min_seal } unless { resource has seal && "
        "resource.seal.sov6 >= principal.tenant.min_seal.sov6 && "
        "resource.seal.score >= principal.tenant.min_seal.score }",
    )
    with pytest.raises(Invalid, match="nothing of its weights"):
        policy_of(law(rule))
    assert decided(policy_of(law(rule, facts=WEIGHTS)), "ward-llm") == ()
    # (15+10+10+15)*4 + 20*3 + 15*3 + 10*4 + 5*3 = 360
    for least, lawful in (("3.6", True), ("3.6001", False)):
        fleet = with_tenant(hospital(), min_seal_score=Decimal(least))
        assert decided(policy_of(law(rule, facts=WEIGHTS), fleet), "ward-llm") == (() if lawful else ("x.1",))
    vector = with_tenant(hospital(), min_seal=(0, 0, 0, 0, 0, 4, 0, 0))
    assert decided(policy_of(law(rule, facts=WEIGHTS), vector), "ward-llm") == ("x.1",)


def test_a_named_purpose_is_told_and_pseudonyms_may_help() -> None:
    rule = forbid(
        "x.1", 'when { context has purpose && context.purpose == "ads" } unless { context.pseudonymised }'
    )
    policy = policy_of(law(rule))
    q = ask(**PRESS, purpose="ads")
    assert ids_of(policy.eligible(q), US) == ("x.1",)
    (found,) = policy.eligible(q).excluded[0].rules
    assert found.got == "purpose ads; not pseudonymised"
    covered = ask(**PRESS, purpose="ads", pseudonymised=True)
    assert ids_of(policy.eligible(covered), US) == ()
    assert policy.recheck(covered, US)
    assert not policy.recheck(q, US)


def test_the_nearest_change_may_be_a_piece_of_evidence() -> None:
    policy = policy_of(law(BAA))
    (change,) = policy.nearest(ask(**PRESS))
    assert change.deployment == US
    assert change.change == "agreement 'baa', graded contract, of operator us-cloud"
    rule = forbid("x.1", 'unless { principal.attestations.declared.containsAll(["dpia", "fria"]) }')
    found = policy_of(law(rule)).nearest(ask(**PRESS))
    assert {one.change for one in found} == {
        (
            "attestation 'dpia', graded declared, for app press; "
            "attestation 'fria', graded declared, for app press"
        )
    }
