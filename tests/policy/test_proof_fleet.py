"""Today's fleet: enumeration equals the decisions, in time; facts with grade and age; versions told."""

from __future__ import annotations

import random
import time
from datetime import date, timedelta
from itertools import combinations

import msgspec
import pytest
from policy_worlds import (
    DAY,
    forbid,
    holds,
    hospital,
    pack_files,
    random_fleet,
    with_deployment,
    with_operator,
    with_tenant,
)
from proof_worlds import shipped

from allod.domain.classes import BASE_CLASSES, expand
from allod.domain.facts import Fact
from allod.policy import Pack, Policy, PolicyQuestion, load_pack
from allod.policy.facts import Calendar
from allod.policy.proof.delta import delta
from allod.policy.proof.enumerate import enumerate_fleet
from allod.policy.proof.law import law_of
from allod.policy.proof.leaning import fact_names, leans, paths


@pytest.mark.parametrize("seed", range(3))
def test_enumeration_is_what_the_policy_decides(base: Pack, seed: int) -> None:
    rng = random.Random(seed)
    extra = load_pack(
        pack_files(
            "x",
            forbid("x.1", 'when { context has purpose && context.purpose == "care" && resource.embedded }')
            + forbid("x.2", 'when { context.classes.contains("phi") } unless { context.pseudonymised }'),
        ),
        base.schema,
    )
    fleet = with_tenant(random_fleet(rng, 6, relax=seed == 1), packs=("base", "x"), bloc=("EEA",))
    policy = Policy((base, extra), fleet)
    law = law_of((base, extra), DAY, policy.relaxed, fleet.sovereignty_weights)
    found = enumerate_fleet(law, fleet)
    classes = sorted(BASE_CLASSES.union(fleet.tenant.resident_classes))
    given = [(), *((name,) for name in classes), *combinations(classes, 2), tuple(classes)]
    reach: dict[str, set[str]] = {name: set() for name in fleet.deployments}
    decides: set[str] = set()
    for app in fleet.apps.values():
        for purpose in (None, *app.purposes):
            for names in given:
                for link in (True, False):
                    for pseudonymised in (True, False):
                        q = PolicyQuestion(
                            app=app.id, classes=expand(names), day=DAY, purpose=purpose, link_up=link,
                            pseudonymised=pseudonymised,
                        )  # fmt: skip
                        eligibility = policy.eligible(q)
                        decides |= {rule.id for e in eligibility.excluded for rule in e.rules}
                        for name in eligibility.kept if len(names) == 1 and link else ():
                            reach[name].add(names[0])
    assert {name: set(single) for name, single in found.reach.items()} == reach
    assert set(found.never_decides) == set(policy.rules) - decides - {"base.approved"} - policy.relaxed
    assert set(found.uncovered) == set(classes) - set().union(*reach.values())


def test_twenty_deployments_under_all_shipped_packs_take_less_than_ten_seconds() -> None:
    packs = shipped()
    law = law_of(packs, DAY)
    fleet = random_fleet(random.Random("time"), 20)
    heard: list[tuple[int, int]] = []
    start = time.process_time()
    found = enumerate_fleet(law, fleet, lambda done, of: heard.append((done, of)))
    assert time.process_time() - start < 10
    assert found.decisions == found.questions * 20 > 20_000
    assert heard[-1] == (20, 20)


def test_the_hospital_of_the_design_page(base: Pack) -> None:
    found = enumerate_fleet(law_of([base], DAY), hospital())
    assert found.reach["frankfurt-region"] == ("internal", "public")
    assert "phi" in found.reach["ward-llm"]
    assert found.unreachable == ()
    assert "residency.1-process" in found.never_decides
    assert "compelled.access" in found.never_alone
    fleet = with_deployment(hospital(), "frankfurt-region", approved=False)
    assert enumerate_fleet(law_of([base], DAY), fleet).unreachable == ("frankfurt-region",)


def test_a_law_that_is_closed_reaches_nobody(base: Pack) -> None:
    pack = load_pack(
        pack_files("x", forbid("x.1", "when { false }"), "valid_until = 2026-11-25"), base.schema
    )
    found = enumerate_fleet(law_of([base, pack], DAY), hospital())
    assert found.closed == ("x",)
    assert set(found.unreachable) == {"ward-llm", "frankfurt-region"}
    assert "public" in found.uncovered


# Facts, their grade and their age.


def test_facts_are_told_with_grade_age_and_state(base: Pack) -> None:
    fleet = with_operator(
        hospital(),
        "us-cloud",
        seat=holds("IE", grade="attested", as_of=DAY - timedelta(days=400), source="register 7"),
        controlled_from=holds(("US",), expires=DAY),
        compelled_by=None,
        agreements={"dpa": Fact(value=True, grade="contract", as_of=DAY)},
    )
    names = fact_names(path for rule in base.rules for path in rule.reads)
    assert {"deployment.processing", "operator.seat", "tenant.bloc", "weights"} <= set(names)
    found = {
        lean.path: lean
        for lean in leans(
            fleet, (*names, "operator.agreements"), Calendar(day=DAY, max_age_days=365, min_grade="contract")
        )
    }
    seat = found["operator.us-cloud.seat"]
    assert (seat.grade, seat.age_days, seat.state, seat.source) == ("attested", 400, "stale", "register 7")
    assert found["operator.us-cloud.controlled_from"].state == "expired"
    assert found["operator.us-cloud.controlled_from"].expires == str(DAY)
    assert found["operator.us-cloud.compelled_by"].state == "missing"
    assert found["operator.us-cloud.agreements.dpa"].state == "known"
    weak = {lean.path: lean for lean in leans(fleet, names, Calendar(day=DAY, min_grade="contract"))}
    assert weak["deployment.frankfurt-region.processing"].state == "weak"
    assert weak["deployment.ward-llm.processing"].state == "known"  # our own: no grade is demanded


def test_paths_read_are_the_longest_ones() -> None:
    seal = {".": {"left": {"Var": "resource"}, "attr": "seal"}}
    has = {"has": {"left": {"Var": "resource"}, "attr": "seal"}}
    node = {"&&": {"left": has, "right": {".": {"left": seal, "attr": "sov1"}}}}
    assert paths(node) == {"resource.seal", "resource.seal.sov1"}
    assert fact_names(paths(node)) == ("deployment.seal",)
    assert fact_names(["resource.operator", "principal.tenant", "context.link_up"]) == ("request.link_up",)


# Two versions of a pack, told.

OLD = forbid("x.1", "when { resource.embedded }") + forbid("x.2", "when { resource.approved }")
NEW = forbid("x.1", "when { !resource.embedded }") + forbid("x.3", "when { resource.approved }")


def test_a_delta_names_what_came_went_and_changed(base: Pack) -> None:
    lists = '[[list]]\nid = "x.l"\n[[list.row]]\nplace = "{}"\nuntil = {}\n[[list.row]]\nplace = "CH"\n'
    duty = '[[obligation]]\narticle = "Art {}"\nmode = "enforce"\nrules = ["x.1"]\n'

    def version(text: str, number: str, place: str, until: date, *articles: int) -> Pack:
        files = pack_files("x", text, "max_age_days = 90" if number == "2" else "")
        files["pack.toml"] = files["pack.toml"].replace(b"1.0.0", number.encode())
        files["facts/lists.toml"] = lists.format(place, until).encode()
        files["obligations.toml"] = "".join(duty.format(n) for n in articles).encode()
        return load_pack(files, base.schema)

    old = version(OLD, "1", "JP", date(2027, 1, 1), 1, 2)
    new = version(NEW, "2", "JP", date(2028, 1, 1), 2, 3)
    found = delta(old, new)
    assert (found.rules.added, found.rules.removed) == (("x.3",), ("x.2",))
    assert [(one.id, one.fields) for one in found.rules.changed] == [("x.1", (("conditions", "", ""),))]
    assert (found.duties.added, found.duties.removed) == (("Art 3",), ("Art 1",))
    assert found.lists.changed[0].id == "x.l JP"
    assert found.lists.changed[0].fields == (("until", "2027-01-01", "2028-01-01"),)
    assert ("max_age_days", "none", "90") in found.frame
    assert not found.same
    assert delta(old, old).same
    assert delta(old, msgspec.structs.replace(old, digest="sha256:1")).same
