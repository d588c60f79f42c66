"""What is decided and how it is said: the hospital, relaxations, packs, digests, memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import msgspec
import pytest
from policy_worlds import (
    DAY,
    ask,
    forbid,
    holds,
    hospital,
    ids_of,
    load,
    pack_files,
    seal_pack,
    with_deployment,
    with_operator,
    with_tenant,
)

from allod.domain.decision import Conditions
from allod.domain.errors import Invalid
from allod.domain.fleet import App, Relaxation, Weights
from allod.policy import Pack, Policy, PolicyQuestion, load_pack
from allod.policy.policy import MEMO_DAYS, MEMO_EXPLAINED

US = "frankfurt-region"
AUDIT, OPERATOR, COMPELLED = "residency.4-audit", "residency.5-operator", "compelled.access"


def relax(rule: str, reason: str = "board decision 12", signer: str = "A. Huber") -> tuple[Relaxation, ...]:
    return (Relaxation(rule=rule, reason=reason, signer=signer),)


def test_section_12_phi_stays_with_the_ward(policy: Policy) -> None:
    e = policy.eligible(ask())
    assert e.kept == ("ward-llm",)
    assert ids_of(e, US) == (AUDIT, OPERATOR, COMPELLED)
    audit, operator, compelled = e.excluded[0].rules
    assert audit.got == "records_auditable true (contract), inspectable false (declared)"
    assert audit.required == "both true, graded attested or better"
    assert audit.source == "DPA annex 2; deployment.frankfurt-region.inspectable (declared)"
    assert audit.law == "GDPR Art 28(3)(h); DORA Art 30(3)(e)"
    assert operator.got == "seat IE, controlled from US"
    assert operator.required == "seat and every controlling jurisdiction in EEA"
    assert operator.source == "operator.us-cloud.controlled_from (declared)"
    assert operator.law == "SecNumCloud 19.6; EU CSF SOV-2"
    assert "US-CLOUD-ACT (18 U.S.C. 2713)" in compelled.got
    assert compelled.law == "18 U.S.C. 2713; GDPR Art 48"
    assert all(rule.remedy for rule in e.excluded[0].rules)
    assert e.conditions[US] == Conditions(process=True, rest=True, transit=True, audit=False, operator=False)
    assert e.conditions["ward-llm"] == Conditions(
        process=True, rest=True, transit=True, audit=True, operator=True
    )
    assert [policy.recheck(ask(), name) for name in ("ward-llm", US)] == [True, False]


def test_section_12_press_may_use_both_and_conditions_are_told_all_the_same(policy: Policy) -> None:
    e = policy.eligible(ask("press", ("public",)))
    assert e.kept == ("ward-llm", US)
    assert e.excluded == ()
    assert e.conditions[US].operator is False
    assert policy.recheck(ask("press", ("public",)), US)


def test_a_missing_fact_is_incomplete_and_outside(base: Pack) -> None:
    fleet = with_deployment(
        hospital(), US, processing=None, at_rest=holds(()), transit=holds(("DE",), expires=DAY)
    )
    fleet = with_operator(fleet, "us-cloud", controlled_from=None)
    e = Policy((base,), fleet).eligible(ask(classes=("personal",)))
    assert ids_of(e, US) == (
        "residency.0-complete", "residency.1-process", "residency.2-rest", "residency.3-transit",
        AUDIT, OPERATOR,
    )  # fmt: skip
    got = {rule.id: rule.got for rule in e.excluded[0].rules}
    assert got["residency.0-complete"] == (
        "processing unknown; at_rest empty; transit unknown (expired 2026-11-25); controlled_from unknown"
    )
    assert got["residency.1-process"] == "processing unknown"
    assert got[OPERATOR] == "seat IE, controlled from unknown"


@pytest.mark.parametrize(
    ("laws", "lawful"),
    [
        ((), True), (("DE-STPO",), True), (("EU-DATA-ACT",), True), (("US-CLOUD-ACT",), False),
        (("DE-STPO", "CN-NIL"), False), (("SOMETHING",), False), (("DE",), False), (("",), False),
        (("GCC-X",), False), (("UK-IPA",), False), (None, False),
    ],
)  # fmt: skip
def test_only_statutes_known_to_be_of_the_bloc_are_not_foreign(
    base: Pack, laws: tuple[str, ...] | None, lawful: bool
) -> None:
    fleet = with_operator(hospital(), "self", compelled_by=None if laws is None else holds(laws))
    assert ("ward-llm" in Policy((base,), fleet).eligible(ask()).kept) is lawful


def test_a_bloc_of_ones_own_law_is_not_foreign(base: Pack) -> None:
    fleet = with_tenant(hospital(), bloc=("EEA", "US"))
    fleet = with_deployment(
        fleet, US, records_auditable=holds(True, grade="attested"), inspectable=holds(True, grade="measured")
    )
    assert Policy((base,), fleet).eligible(ask()).kept == ("ward-llm", US)


@pytest.mark.parametrize(
    ("facts", "lawful"),
    [
        ({"processing": holds("EEA")}, True),  # the whole bloc lies in the bloc
        ({"processing": holds("EU")}, True),
        ({"processing": holds("GB")}, False),
        ({"at_rest": holds(("none",))}, True),
        ({"at_rest": holds(("none", "DE"))}, False),  # "nowhere" beside a place is not an answer
        ({"transit": holds(("none",))}, False),  # only storage can be nowhere
        ({"transit": holds(("EEA", "GCC"))}, False),
        ({"processing": holds("de")}, False),
        ({"processing": holds(5)}, False),
        ({"transit": holds(("",))}, False),
        ({"records_auditable": holds("yes")}, False),  # not a truth value: unknown
        ({"inspectable": holds(True, grade="excellent")}, False),  # not a grade: unknown
    ],
)  # fmt: skip
def test_places_and_odd_values(base: Pack, facts: dict[str, object], lawful: bool) -> None:
    policy = Policy((base,), with_deployment(hospital(), "ward-llm", **facts))
    assert ("ward-llm" in policy.eligible(ask()).kept) is lawful
    assert policy.recheck(ask(), "ward-llm") is lawful


def test_a_bloc_of_unknown_names_holds_nothing(base: Pack) -> None:
    fleet = with_tenant(hospital(), bloc=("none", "XX"))
    fleet = with_deployment(fleet, "ward-llm", processing=holds("XX"), transit=holds(("none",)))
    rules = ids_of(Policy((base,), fleet).eligible(ask()), "ward-llm")
    assert {"residency.1-process", "residency.3-transit", OPERATOR} <= set(rules)


def test_attested_grades_are_asked_of_foreign_operators_only(base: Pack) -> None:
    weak = with_deployment(
        hospital(),
        US,
        records_auditable=holds(True, grade="attested"),
        inspectable=holds(True, grade="contract"),
    )
    assert AUDIT in ids_of(Policy((base,), weak).eligible(ask()), US)
    strong = with_deployment(weak, US, inspectable=holds(True, grade="attested"))
    assert AUDIT not in ids_of(Policy((base,), strong).eligible(ask()), US)


def test_airgap_and_link(base: Pack, policy: Policy) -> None:
    question = ask("press", ("public",), link_up=False)
    assert policy.eligible(question).kept == ("ward-llm",)
    rule = policy.eligible(question).excluded[0].rules[0]
    assert (rule.id, rule.required) == ("airgap", "on_premises true while the link is down")
    gapped = Policy((base,), with_tenant(hospital(), air_gapped=True))
    rule = gapped.eligible(ask("press", ("public",))).excluded[0].rules[0]
    assert rule.required == "on_premises true while the tenant is air-gapped"


@pytest.mark.parametrize(
    ("weights", "rules"),
    [
        (Weights(weights="sha256:1", verified=True, maker_jurisdiction="FR"), ()),
        (Weights(weights="sha256:1", verified=True, maker_jurisdiction="CN"), ("provenance.ban",)),
        (Weights(weights="sha256:1", verified=True), ("provenance.ban",)),
        (Weights(weights="sha256:1", verified=True, maker_jurisdiction="Mars"), ("provenance.ban",)),
        (Weights(weights="sha256:1", maker_jurisdiction="FR"), ("provenance.verified", "provenance.ban")),
        (None, ("provenance.verified", "provenance.ban")),
    ],
)
def test_provenance(base: Pack, weights: Weights | None, rules: tuple[str, ...]) -> None:
    fleet = with_tenant(hospital(), banned_makers=("CN", "RU"))
    fleet = msgspec.structs.replace(
        fleet, weights={} if weights is None else {"ward-llm": weights, US: weights}
    )
    e = Policy((base,), fleet).eligible(ask("press", ("restricted",)))
    assert ids_of(e, "ward-llm") == rules
    assert ids_of(e, US) == (
        "provenance.ban",
    )  # what we do not load is never verified, whatever the table says


def test_unapproved_carries_the_permit_and_everything_else(base: Pack) -> None:
    fleet = with_deployment(hospital(), US, approved=False)
    e = Policy((base,), fleet).eligible(ask())
    assert ids_of(e, US) == ("base.approved", AUDIT, OPERATOR, COMPELLED)
    assert e.excluded[0].rules[0].source == "deployment.frankfurt-region.approved"
    assert ids_of(Policy((base,), fleet).eligible(ask("press", ("public",))), US) == ("base.approved",)


def test_unscanned_counts_as_every_resident_class(base: Pack) -> None:
    fleet = with_tenant(hospital(), resident_classes=("restricted",))
    e = Policy((base,), fleet).eligible(ask("press", ("unscanned",)))
    assert ids_of(e, US) == (AUDIT, OPERATOR, "provenance.ban", COMPELLED)


def test_relaxations_are_evaluated_and_reported(base: Pack) -> None:
    fleet = with_tenant(hospital(), relax=relax(AUDIT))
    policy = Policy((base,), fleet)
    assert ids_of(policy.eligible(ask()), US) == (OPERATOR, COMPELLED)
    fleet = with_tenant(fleet, relax=relax(AUDIT) + relax(OPERATOR) + relax(COMPELLED))
    policy = Policy((base,), fleet)
    e = policy.eligible(ask())
    assert e.kept == ("ward-llm", US)
    assert e.relaxed == ((US, AUDIT), (US, OPERATOR), (US, COMPELLED))
    assert e.conditions[US].audit is False  # waived, not made true
    assert policy.recheck(ask(), US)
    assert policy.eligible(ask("press", ("public",))).relaxed == ()


@pytest.mark.parametrize(
    ("relaxation", "says"),
    [
        (relax("residency.4-audits"), "residency.4-audit"),
        (relax("base.approved"), "which is not known"),
        (relax("pack.validity"), "which is not known"),
        (relax(AUDIT, reason=" "), "lacks its reason"),
        (relax(AUDIT, signer=""), "lacks its reason or its signer"),
    ],
)
def test_a_relaxation_that_is_none_is_refused(
    base: Pack, relaxation: tuple[Relaxation, ...], says: str
) -> None:
    with pytest.raises(Invalid) as error:
        Policy((base,), with_tenant(hospital(), relax=relaxation))
    assert says in error.value.explain()


def test_unknown_packs_and_operators_stop_the_start(base: Pack) -> None:
    with pytest.raises(Invalid, match="eu-scf") as error:
        Policy((base, seal_pack()), with_tenant(hospital(), packs=("base", "eu-scf")))
    assert "did you mean 'eu-csf'?" in error.value.explain()
    with pytest.raises(Invalid, match="leaves out the base pack"):
        Policy((base, seal_pack()), with_tenant(hospital(), packs=("eu-csf",)))
    with pytest.raises(Invalid, match="there twice"):
        Policy((base, base), hospital())
    with pytest.raises(Invalid, match="us-clod"):
        Policy((base,), with_deployment(hospital(), US, operator="us-clod"))


def test_another_pack_adds_demands_and_explains_itself(base: Pack) -> None:
    fleet = with_tenant(hospital(), packs=("base", "eu-csf"))
    policy = Policy((base, seal_pack()), fleet)
    assert policy.eligible(ask(classes=("confidential",))).kept == ("ward-llm",)
    rule = policy.eligible(ask(classes=("confidential",))).excluded[0].rules[-1]
    assert (rule.id, rule.law, rule.got) == ("eu-csf.5-supply", "Act 1", "seal unknown")
    assert rule.required == "Text of eu-csf.5-supply."
    low = with_deployment(fleet, "ward-llm", seal=holds((4, 4, 4, 4, 2, 3, 4, 3)))
    assert ids_of(Policy((base, seal_pack()), low).eligible(ask(classes=("confidential",))), "ward-llm") == (
        "eu-csf.5-supply",
    )
    # available is not in force
    assert Policy((base, seal_pack()), hospital()).eligible(ask(classes=("confidential",))).kept == (
        "ward-llm",
    )


def test_two_packs_may_not_share_a_rule_id(base: Pack) -> None:
    with pytest.raises(Invalid, match="airgap"):
        load(pack_files("mine", forbid("airgap", "when { !resource.approved }")))
    one, other = (
        load(pack_files(name, forbid("mine.1", "when { !resource.approved }")))
        for name in ("mine", "mine-two")
    )
    with pytest.raises(Invalid, match=r"mine\.1"):
        Policy((base, one, other), with_tenant(hospital(), packs=("base", "mine", "mine-two")))


def test_a_pack_written_for_another_schema_does_not_start(base: Pack) -> None:
    files = pack_files("mine", forbid("mine.1", 'when { resource.colour == "red" }'))
    other = load_pack(files, base.schema.replace("engine: String,", "colour: String,"))
    with pytest.raises(Invalid, match="do not fit their schema"):
        Policy((base, other), with_tenant(hospital(), packs=("base", "mine")))


def test_unknown_app_and_class_are_refused_not_guessed(policy: Policy) -> None:
    with pytest.raises(Invalid, match="triag"):
        policy.eligible(ask("triag"))
    with pytest.raises(Invalid, match="persnal"):
        policy.eligible(ask(classes=("persnal",)))
    assert not policy.recheck(ask("triag"), "ward-llm")
    assert not policy.recheck(ask(classes=("persnal",)), "ward-llm")
    assert not policy.recheck(ask(), "nowhere")


def test_classes_not_expanded_by_the_caller_are_expanded_here(policy: Policy) -> None:
    bare = msgspec.structs.replace(ask(), classes=("phi",))
    assert ids_of(policy.eligible(bare), US) == (AUDIT, OPERATOR, COMPELLED)


def test_digests_rotate_when_a_fact_expires_and_the_memory_goes(base: Pack) -> None:
    turn = date(2026, 12, 1)
    fleet = with_deployment(hospital(), "ward-llm", processing=holds("DE", expires=turn))
    policy = Policy((base,), fleet)
    before, after = ask(day=date(2026, 11, 30)), ask(day=turn)
    assert policy.valid_until_ms(before.day) == int(datetime(2026, 12, 1, tzinfo=UTC).timestamp() * 1000)
    assert policy.valid_until_ms(turn) is None
    first = policy.eligible(before)
    assert first.kept == ("ward-llm",)
    assert policy.recheck(before, "ward-llm")
    assert policy.digests(date(2026, 11, 1)) == policy.digests(before.day)
    second = policy.eligible(after)
    assert second.kept == ()
    assert ids_of(second, "ward-llm") == ("residency.0-complete", "residency.1-process")
    assert not policy.recheck(after, "ward-llm")
    assert first.fleet_digest != second.fleet_digest
    assert first.pack_digest == second.pack_digest  # no pack expired
    assert (second.pack_digest, second.fleet_digest) == policy.digests(turn)
    assert policy.eligible(before).kept == ("ward-llm",)  # a replay of yesterday still sees yesterday


def test_only_two_epochs_and_a_week_of_days_are_remembered(base: Pack) -> None:
    days = [date(2027, month, 1) for month in range(1, 7)]
    fleet = with_deployment(
        hospital(), "ward-llm",
        **{name: holds("DE", expires=day) if name == "processing" else holds(("DE",), expires=day)
           for name, day in zip(("processing", "at_rest", "transit"), days, strict=False)},
    )  # fmt: skip
    policy = Policy((base,), fleet)
    for day in days:
        policy.eligible(ask(day=day))
    assert len({id(epoch) for epoch in policy._epochs.values()}) <= 2
    for number in range(1, 29):
        policy.eligible(ask(day=date(2028, 1, number)))
    assert len(policy._epochs) <= MEMO_DAYS


def test_two_threads_on_two_sides_of_an_expiry_each_see_their_day(base: Pack) -> None:
    fleet = with_deployment(hospital(), "ward-llm", processing=holds("DE", expires=DAY))
    policy = Policy((base,), fleet)
    before = ask(day=DAY - timedelta(days=1))

    def look(q: PolicyQuestion) -> set[tuple[bool, bool]]:
        return {
            (policy.eligible(q).kept == ("ward-llm",), policy.recheck(q, "ward-llm")) for _ in range(2_000)
        }

    with ThreadPoolExecutor(4) as threads:
        seen = list(threads.map(look, (before, ask(), before, ask())))
    assert seen == [{(True, True)}, {(False, False)}] * 2


def test_purposes_no_rule_reads_share_one_decision(policy: Policy) -> None:
    first = policy.eligible(ask(purpose="p0"))
    assert all(policy.eligible(ask(purpose=f"p{number}")) is first for number in range(50))
    assert len(policy._epochs[DAY].eligible) == 1


def test_a_purpose_a_rule_reads_is_decided_by_itself(base: Pack) -> None:
    rule = forbid("mine.1", 'when { context has purpose && context.purpose == "sale" }')
    pack = load(pack_files("mine", rule))
    strict = Policy((base, pack), with_tenant(hospital(), packs=("base", "mine")))
    assert "ward-llm" in strict.eligible(ask(purpose="care")).kept
    assert "ward-llm" not in strict.eligible(ask(purpose="sale")).kept
    assert strict.recheck(ask(purpose="care"), "ward-llm")
    assert not strict.recheck(ask(purpose="sale"), "ward-llm")


def test_the_memory_is_bounded_and_returns_the_same_object(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "_reads_purpose", True)
    assert policy.eligible(ask()) is policy.eligible(ask())
    epoch = policy._epochs[DAY]
    for number in range(MEMO_EXPLAINED + 50):
        policy.eligible(ask(purpose=f"p{number}"))
    assert len(epoch.eligible) == MEMO_EXPLAINED
    assert policy.eligible(ask()) == policy.eligible(ask())


def test_pack_expiry_denies_everything_and_rotates_the_pack_digest(base: Pack) -> None:
    pack = load(
        pack_files("mine", forbid("mine.1", "when { !resource.approved }"), "valid_until = 2026-12-01")
    )
    policy = Policy((base, pack), with_tenant(hospital(), packs=("base", "mine")))
    public = ask("press", ("public",), day=date(2026, 11, 30))
    late = ask("press", ("public",), day=date(2026, 12, 1))
    assert policy.eligible(public).kept == ("ward-llm", US)
    e = policy.eligible(late)
    assert e.kept == ()
    assert ids_of(e, "ward-llm") == ("pack.validity",)
    assert not policy.recheck(late, "ward-llm")
    assert policy.nearest(late) == ()
    assert policy.digests(public.day)[0] != policy.digests(late.day)[0]
    assert policy.digests(public.day)[1] == policy.digests(late.day)[1]


def test_max_age_makes_old_and_undated_facts_missing(base: Pack) -> None:
    pack = load(pack_files("mine", forbid("mine.1", "when { !resource.approved }"), "max_age_days = 30"))
    fleet = with_tenant(hospital(), packs=("base", "mine"))
    dated = {
        name: msgspec.structs.replace(getattr(fleet.deployments["ward-llm"], name), as_of=date(2026, 11, 1))
        for name in ("processing", "at_rest", "transit", "records_auditable", "inspectable")
    }
    fleet = with_deployment(fleet, "ward-llm", **dated)
    own = fleet.operators["self"]
    fleet = with_operator(
        fleet, "self",
        **{name: msgspec.structs.replace(getattr(own, name), as_of=date(2026, 11, 10))
           for name in ("seat", "controlled_from", "compelled_by")},
    )  # fmt: skip
    policy = Policy((base, pack), fleet)
    assert policy.eligible(ask(day=date(2026, 12, 1))).kept == ("ward-llm",)
    assert policy.eligible(ask(day=date(2026, 12, 2))).kept == ()
    assert policy.digests(date(2026, 12, 1))[1] != policy.digests(date(2026, 12, 2))[1]
    got = policy.eligible(ask(day=date(2026, 12, 2))).excluded[0].rules[0].got
    assert "processing unknown (evidence of 2026-11-01 is too old)" in got
    us = next(x for x in policy.eligible(ask(day=date(2026, 12, 1))).excluded if x.deployment == US)
    assert "processing unknown (evidence without a date)" in us.rules[0].got


@pytest.mark.parametrize(
    "change",
    [
        lambda f: with_tenant(f, bloc=("EU",)),
        lambda f: with_deployment(f, US, processing=holds("FR")),
        lambda f: with_deployment(f, US, processing=holds("DE", grade="contract")),
        lambda f: with_deployment(f, US, approved=False),
        lambda f: with_operator(f, "self", own=False),
        lambda f: with_tenant(f, relax=relax(AUDIT)),
        lambda f: msgspec.structs.replace(f, weights={}),
        lambda f: msgspec.structs.replace(f, apps={**f.apps, "x": App(id="x")}),
    ],
)
def test_the_fleet_digest_covers_everything_a_decision_reads(base: Pack, change) -> None:
    assert Policy((base,), hospital()).digests(DAY) == Policy((base,), hospital()).digests(DAY)
    assert Policy((base,), change(hospital())).digests(DAY)[1] != Policy((base,), hospital()).digests(DAY)[1]
