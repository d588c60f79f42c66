"""The packs of the Union and of France: their lists, limits and dates, and that they hold together."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_worlds import ask, holds, with_tenant
from test_packs_all import pack_of

from allod.domain.facts import Fact
from allod.domain.fleet import SEAL_WEIGHTS, App, Deployment, Fleet, Operator, Owner, Tenant, Weights
from allod.domain.jurisdiction import BLOCS, COUNTRIES
from allod.policy import Policy, lists
from allod.policy.cases import fleet_of
from allod.policy.pack import BASE
from allod.policy.proof.law import law_of
from allod.policy.proof.prove import Prover
from allod.policy.proof.statements import of_packs

SIX = ("eu_gdpr", "eu_dora", "eu_ai_act", "eu_nis2", "eu_csf", "fr_secnumcloud")
TODAY = date(2026, 11, 25)
ANNEX_III = date(2027, 12, 2)
ADEQUATE = frozenset("AD AR BR CH FO GB GG IL IM JE JP KR NZ UY".split())
FOURTEEN = 14


def _policy(fleet: Fleet, *folders: str) -> Policy:
    packs = (pack_of(BASE), *(pack_of(folder) for folder in folders))
    return Policy(packs, with_tenant(fleet, packs=tuple(pack.id for pack in packs)))


def _against(policy: Policy, **question: Any) -> tuple[str, ...]:
    """The rules against the one deployment; empty when it is kept. Both keys must agree."""
    (app,), (name,) = policy.fleet.apps, policy.fleet.deployments
    q = ask(app, **{"classes": ("personal",), "day": TODAY, **question})
    found = policy.eligible(q)
    assert policy.recheck(q, name) is bool(found.kept)
    return tuple(rule.id for one in found.excluded for rule in one.rules)


def _world(folder: str, file: int = 0) -> Fleet:
    """The unchanged world of a pack's case file."""
    worlds: list[dict[str, Any]] = []
    for case in pack_of(folder).cases:
        if case.given not in worlds:
            worlds.append(case.given)
    case = next(one for one in pack_of(folder).cases if one.given == worlds[file])
    return fleet_of(type(case)(name="", decision="allow", classes=(), given=case.given))


def _changed(fleet: Fleet, **parts: dict[str, Any]) -> Fleet:
    """A one-deployment fleet with attributes of its app, operator, deployment or tenant changed."""
    tables = {"app": "apps", "operator": "operators", "deployment": "deployments"}
    for part, changes in parts.items():
        if part == "tenant":
            fleet = with_tenant(fleet, **changes)
            continue
        table = tables[part]
        ((key, one),) = getattr(fleet, table).items()
        new = msgspec.structs.replace(one, **changes)
        fleet = msgspec.structs.replace(fleet, **{table: {key: new}})
    return fleet


@pytest.mark.parametrize("folder", SIX)
def test_each_rule_speaks_three_languages(folder: str) -> None:
    for rule in pack_of(folder).rules:
        assert set(rule.texts) == {"de", "fr"}, rule.id
        assert len({rule.text, *rule.texts.values()}) == 3, rule.id
        assert all(text[0].isupper() and text.endswith(".") for text in rule.texts.values()), rule.id
        assert rule.remedy, rule.id
        assert not rule.remedy.endswith("."), rule.id


@pytest.mark.parametrize("folder", SIX)
def test_each_law_is_named_as_its_source_names_it(folder: str) -> None:
    pack = pack_of(folder)
    assert pack.manifest.status == "in-force"
    assert pack.unverified == ()
    assert not pack.reviewed  # nobody has signed: say so until somebody has
    for rule in pack.rules:
        head = re.split(r",?\s+(?:Art\b|section\b|\d+\.\d)", rule.law)[0]
        named = [one for one in pack.manifest.source if head in one.citation]
        assert any(one.read == "copy" for one in named), (rule.id, head)


@pytest.mark.parametrize("folder", SIX)
def test_each_theorem_is_proved_and_breaks_without_its_rules(folder: str) -> None:
    pack = pack_of(folder)
    since = {rule.id: rule.since or TODAY for rule in pack.rules}
    days = {one.id: max([TODAY, *(since[rule] for rule in one.fails_without)]) for one in pack.theorems}
    assert {rule for one in pack.theorems for rule in one.fails_without} >= {
        rule.id for rule in pack.rules if rule.until is None
    }, "a rule no theorem speaks of"
    for day in set(days.values()):
        statements = [one for one in of_packs([pack]) if days[one.id] == day]
        prover = Prover(law_of((pack_of(BASE), pack), day), statements)
        assert [(one.id, one.status, one.reason) for one in map(prover.prove, statements)] == [
            (one.id, "proved", "") for one in statements
        ]


# GDPR: the map of transfers.


def _gdpr_lists(day: date) -> dict[str, frozenset[str]]:
    found = lists.join(pack_of("eu_gdpr").lists)
    return {name: lists.codes_on(name, found, day) for name in found}


def test_the_map_of_adequacy_is_that_of_the_decisions() -> None:
    on = _gdpr_lists(TODAY)
    assert on["gdpr.eea"] == BLOCS["EEA"]
    assert on["gdpr.adequate"] == ADEQUATE
    assert len(ADEQUATE) == FOURTEEN
    assert on["gdpr.safe"] == BLOCS["EEA"] | ADEQUATE
    assert on["gdpr.safe-certified"] == BLOCS["EEA"] | ADEQUATE | {"US", "CA"}


@pytest.mark.parametrize(
    ("place", "day", "there"),
    [
        ("BR", date(2026, 1, 26), False),
        ("BR", date(2026, 1, 27), True),
        ("GB", date(2021, 6, 27), False),
        ("GB", date(2025, 12, 26), True),
        ("GB", date(2025, 12, 27), True),
        ("GB", date(2031, 12, 26), True),
        ("GB", date(2031, 12, 27), False),
        ("KR", date(2021, 12, 16), False),
        ("NO", date(2018, 7, 19), False),
        ("NO", date(2018, 7, 20), True),
        ("DE", date(2018, 5, 25), True),
    ],
)
def test_a_decision_counts_from_its_day_to_its_end(place: str, day: date, there: bool) -> None:
    assert (place in _gdpr_lists(day)["gdpr.safe"]) is there


def test_each_adequacy_row_carries_the_date_its_decision_names() -> None:
    months = "January February March April May June July August September October November December".split()
    for one in pack_of("eu_gdpr").lists:
        for row in one.row:
            assert row.source, row
            assert row.since is not None, row
            if one.id == "gdpr.eea" or row.place == "BR":
                continue
            said = re.search(r"of (\d+) (\w+) (\d{4})", row.source)
            assert said is not None, row
            written = date(int(said[3]), months.index(said[2]) + 1, int(said[1]))
            assert row.since == written, row


def test_personal_data_go_without_instrument_exactly_where_the_list_says() -> None:
    world = _world("eu_gdpr", 1)
    safe = _gdpr_lists(TODAY)["gdpr.safe"]
    for place in sorted(COUNTRIES):
        fleet = _changed(world, deployment={"processing": holds(place)})
        expected = () if place in safe else ("eu-gdpr.44-processing",)
        assert _against(_policy(fleet, "eu_gdpr")) == expected, place


def test_a_word_is_no_contract_certificate_or_clause() -> None:
    world = _world("eu_gdpr", 1)
    for name in ("scc", "bcr", "approved-code", "approved-certification", "public-instrument"):
        for grade, expected in (("declared", ("eu-gdpr.44-processing",)), ("contract", ())):
            fleet = _changed(
                world,
                deployment={
                    "processing": holds("IN"),
                    "agreements": {name: Fact(value=True, grade=grade)},  # type: ignore[arg-type]
                    "attestations": {
                        "encryption-in-transit": holds(True, grade="contract"),
                        "transfer-assessment": holds(True),
                    },
                },
            )
            assert _against(_policy(fleet, "eu_gdpr")) == expected, (name, grade)


def test_an_expired_assessment_closes_the_way() -> None:
    world = _world("eu_gdpr", 1)
    fleet = _changed(
        world,
        deployment={
            "processing": holds("IN"),
            "agreements": {"scc": holds(True, grade="contract")},
            "attestations": {
                "encryption-in-transit": holds(True, grade="contract"),
                "transfer-assessment": holds(True, expires=TODAY),
            },
        },
    )
    assert _against(_policy(fleet, "eu_gdpr")) == ("eu-gdpr.44-processing",)


# The AI Act: purposes.


def _purposes(rule_id: str) -> tuple[str, ...]:
    rule = next(one for one in pack_of("eu_ai_act").rules if one.id == rule_id)
    found = re.findall(r"'Value': '([a-z-]+)'", str(rule.policy["conditions"][0]))
    return tuple(sorted(set(found) - {"high", "prohibited"}))


def test_each_prohibited_purpose_is_refused_said_or_declared() -> None:
    world = _world("eu_ai_act")
    every = (*_purposes("eu-ai-act.5-prohibited"), *_purposes("eu-ai-act.5-imagery"))
    assert len(every) == 10
    for purpose in every:
        rule = (
            "eu-ai-act.5-imagery" if purpose in _purposes("eu-ai-act.5-imagery") else "eu-ai-act.5-prohibited"
        )
        asked = {"classes": ("public",), "day": date(2026, 12, 2)}
        assert rule in _against(_policy(world, "eu_ai_act"), purpose=purpose, **asked)
        declared = _changed(world, app={"purposes": (purpose, "summaries")})
        assert rule in _against(_policy(declared, "eu_ai_act"), purpose="summaries", **asked)


def test_each_use_of_annex_iii_asks_for_a_person_and_a_register_from_its_day_on() -> None:
    world = _world("eu_ai_act")
    uses = _purposes("eu-ai-act.26-oversight")
    assert len(uses) == 26
    for use in uses:
        fleet = _changed(world, app={"purposes": (use,)})
        policy = _policy(fleet, "eu_ai_act")
        asked = {"classes": ("public",), "purpose": use}
        before = set(_against(policy, day=date(2027, 12, 1), **asked))
        after = set(_against(policy, day=ANNEX_III, **asked))
        both = {"eu-ai-act.26-oversight", "eu-ai-act.26-registered"}
        assert before & both == set(), use
        assert after >= both, use


# SecNumCloud: arithmetic of owners.

_PERCENT = st.integers(0, 10_000).map(lambda n: Decimal(n) / 100)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(("FR", "DE", "US", "CH", "NO", "GB")), _PERCENT), max_size=4))
def test_the_limits_of_19_6_are_those_of_the_owners(owners: list[tuple[str, Decimal]]) -> None:
    world = _world("fr_secnumcloud")
    value = tuple(Owner(name=f"o{n}", jurisdiction=at, percent=share) for n, (at, share) in enumerate(owners))
    fleet = _changed(world, operator={"owners": Fact(value=value, grade="attested")})
    found = _against(_policy(fleet, "fr_secnumcloud"), classes=("confidential",))
    total = sum((share for _, share in owners), Decimal(0))
    if not owners or total > 100:
        expected = ["fr-secnumcloud.19-6-single", "fr-secnumcloud.19-6-together"]
    else:
        outside = [share for at, share in owners if at not in BLOCS["EU"]] + [100 - total]
        expected = ["fr-secnumcloud.19-6-single"] * (max(outside) > 24)
        expected += ["fr-secnumcloud.19-6-together"] * (sum(outside) > 39)
    assert list(found) == expected


# The sovereignty framework: gates and score.

_LEVEL = st.integers(0, 4)
_EIGHT = st.tuples(*[_LEVEL] * 8)


@settings(max_examples=120, deadline=None)
@given(_EIGHT, _EIGHT, st.integers(0, 400))
def test_the_gates_and_the_score_are_the_arithmetic_of_the_framework(
    have: tuple[int, ...], least: tuple[int, ...], score: int
) -> None:
    world = _world("eu_csf")
    fleet = _changed(
        world,
        tenant={"min_seal": least, "min_seal_score": Decimal(score) / 100},
        deployment={"seal": Fact(value=have, grade="attested")},
    )
    found = _against(_policy(fleet, "eu_csf"), classes=("public",))
    names = ("strategic", "legal", "data", "operations", "supply", "technology", "security", "environment")
    expected = [f"eu-csf.{n}-{names[n - 1]}" for n in range(1, 9) if have[n - 1] < least[n - 1]]
    reached = sum(weight * level for weight, level in zip((15, 10, 10, 15, 20, 15, 10, 5), have, strict=True))
    expected += ["eu-csf.9-score"] * (reached < score)
    assert list(found) == expected


def test_the_weights_are_those_of_the_framework() -> None:
    weighting = pack_of("eu_csf").weighting
    assert weighting is not None
    assert weighting.percent == (15, 10, 10, 15, 20, 15, 10, 5) == SEAL_WEIGHTS


# All six together.


def _met() -> Fleet:
    """A use of high risk at another operator that satisfies all six packs and the base."""
    attested: dict[str, Any] = {"grade": "attested"}
    app = App(
        id="credit",
        purposes=("creditworthiness",),
        risk="high",
        function="F4 lending",
        critical=True,
        attestations={
            name: holds(True)
            for name in (
                "art9-exemption",
                "dpia",
                "fria",
                "human-oversight",
                "minimum-necessary",
                "use-registered",
            )
        },
    )
    operator = Operator(
        id="qualified",
        seat=holds("FR", **attested),
        controlled_from=holds(("FR",), **attested),
        compelled_by=holds(("FR-CPP-60-1-1",), **attested),
        owners=holds((Owner(name="Holding", jurisdiction="FR", percent=Decimal(100)),), **attested),
        registered=True,
        agreements={name: holds(True, grade="contract") for name in ("dpa", "dora-30", "nis2-21")},
        attestations={"iso27001": holds(True, **attested)},
    )
    deployment = Deployment(
        id="paris",
        engine="openai",
        model="m",
        operator="qualified",
        processing=holds("FR", **attested),
        at_rest=holds(("FR",), **attested),
        transit=holds(("FR", "DE"), **attested),
        on_premises=holds(False),
        records_auditable=holds(True, **attested),
        inspectable=holds(True, **attested),
        seal=holds((4,) * 8, **attested),
        retention_days=holds(0, **attested),
        trains_on_inputs=holds(False, **attested),
        attestations={
            name: holds(True, **attested)
            for name in (
                "concentration-assessed", "encryption-at-rest", "encryption-in-transit", "exit-tested",
                "secnumcloud-3.2",
            )
        },
    )  # fmt: skip
    tenant = Tenant(id="bank", home="FR", bloc=("EEA",), sector="bank", min_seal=(3,) * 8)
    return Fleet(
        tenant=tenant,
        apps={"credit": app},
        operators={"qualified": operator},
        deployments={"paris": deployment},
    )


_ASKED: dict[str, Any] = {"classes": ("special",), "purpose": "creditworthiness", "day": ANNEX_III}


def test_all_six_packs_can_be_satisfied_together() -> None:
    assert _against(_policy(_met(), *SIX), **_ASKED) == ()


def test_I3_what_is_no_longer_known_denies() -> None:
    """Take away any one fact or piece of evidence of that world: it must fall."""
    world = _met()
    taken = 0
    for part, names in (
        ("operator", ("seat", "controlled_from", "compelled_by", "owners")),
        (
            "deployment",
            (
                "processing", "at_rest", "transit", "records_auditable", "inspectable", "seal",
                "retention_days", "trains_on_inputs",
            ),
        ),
    ):  # fmt: skip
        for name in names:
            fleet = _changed(world, **{part: {name: None}})
            assert _against(_policy(fleet, *SIX), **_ASKED), name
            taken += 1
    for part, one in (
        ("app", world.apps["credit"]),
        ("operator", world.operators["qualified"]),
        ("deployment", world.deployments["paris"]),
    ):
        for kind in ("agreements", "attestations"):
            evidence = getattr(one, kind, {})
            for name in evidence:
                less = {key: fact for key, fact in evidence.items() if key != name}
                found = _against(_policy(_changed(world, **{part: {kind: less}}), *SIX), **_ASKED)
                if name != "iso27001":  # the qualification stands in for the certificate
                    assert found, name
                taken += 1
    assert taken > 25


def test_I3_what_expires_that_day_denies() -> None:
    world = _met()
    ended = {name: holds(True, grade="contract", expires=ANNEX_III) for name in ("dpa", "dora-30", "nis2-21")}
    found = _against(_policy(_changed(world, operator={"agreements": ended}), *SIX), **_ASKED)
    assert found == ("eu-gdpr.28-contract", "eu-dora.30-clauses", "eu-nis2.21-supplier")


def test_our_own_verified_model_on_the_premises_needs_no_contract() -> None:
    world = _met()
    own = Operator(
        id="qualified", own=True, seat=holds("FR"), controlled_from=holds(("FR",)), compelled_by=holds(())
    )
    here = Deployment(
        id="paris",
        engine="llamacpp",
        model="reference",
        operator="qualified",
        processing=holds("FR"),
        at_rest=holds(("none",)),
        transit=holds(("FR",)),
        on_premises=holds(True),
        records_auditable=holds(True),
        inspectable=holds(True),
        seal=holds((4,) * 8),
    )
    fleet = Fleet(
        tenant=world.tenant,
        apps=world.apps,
        operators={"qualified": own},
        deployments={"paris": here},
        weights={"paris": Weights(weights="sha256:" + "0" * 64, maker_jurisdiction="FR", verified=True)},
    )
    assert _against(_policy(fleet, *SIX), **_ASKED) == ()
