"""Theorems: those shipped hold and say something; what does not hold is shown, what says nothing is told."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from functools import cache

import msgspec
import pytest
from policy_worlds import DAY, base_files, forbid, pack_files

from allod.domain.errors import Integrity, Invalid
from allod.gateway.packs import find
from allod.policy import Pack, load_pack
from allod.policy.pack import BASE
from allod.policy.proof import judge
from allod.policy.proof.law import law_of
from allod.policy.proof.prove import Prover
from allod.policy.proof.report import Proof, Report, Statement
from allod.policy.proof.session import Session
from allod.policy.proof.shape import read_shape
from allod.policy.proof.statements import built_in, of_packs
from allod.policy.proof.translate import Translator
from allod.policy.proof.whole import Provers, prove_packs
from allod.policy.proof.world import World

SHIPPED = tuple(find().found)
RESIDENCY = (
    "residency.1-process", "residency.2-rest", "residency.3-transit", "residency.4-audit",
    "residency.5-operator",
)  # fmt: skip


@cache
def report_on(name: str) -> tuple[Pack, Report]:
    known = find()
    pack = known.load(name)
    packs = known.some((*pack.manifest.requires, name))
    return pack, prove_packs(packs, DAY, of=[name], built_in=name == BASE, tenant_bloc=("DE", "FR"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_theorem_of_a_shipped_pack_is_proved_and_says_something(name: str) -> None:
    pack, report = report_on(name)
    wrong = [
        (proof.id, proof.status, proof.reason, proof.counterexample)
        for proof in report.proofs
        if proof.status != "proved"
    ]
    assert wrong == []
    assert report.untested == ()
    assert report.idle == ()
    own = {theorem.id for theorem in pack.theorems}
    proofs = {proof.id: proof for proof in report.proofs}
    assert own <= set(proofs)
    for proof in (proofs[one] for one in own):
        assert proof.mutants
        assert all(mutant.broken for mutant in proof.mutants)
        assert {mutant.how for mutant in proof.mutants} == {"deleted", "negated"}
        assert proof.facts
    assert {"monotone-in-classes", "monotone-in-link", "monotone-in-evidence", "unknown-never-admits"} <= set(
        proofs
    )


def test_residency_is_proved_per_bloc_and_breaks_without_any_of_its_rules() -> None:
    _, report = report_on(BASE)
    proofs = {proof.id: proof for proof in report.proofs}
    for name in ("EU", "EEA", "ASEAN", "GCC", "MERCOSUR", "DE+FR"):
        proof = proofs[f"residency.{name}"]
        assert proof.status == "proved"
        assert proof.rules == RESIDENCY
        assert {(m.rule, m.how) for m in proof.mutants if m.broken} == {
            (rule, how) for rule in RESIDENCY for how in ("deleted", "negated")
        }
    assert "operator.controlled_from" in proofs["residency.EEA"].facts
    assert report.shadowed == ("residency.0-complete",)
    assert report.unreviewed == ("base",)
    assert report.assumptions


# The counterexample of the note on policy: no rule on where processing happens.


def without(pack: Pack, *rules: str) -> Pack:
    return msgspec.structs.replace(pack, rules=tuple(rule for rule in pack.rules if rule.id not in rules))


def prove_one(packs: list[Pack], name: str, **rest) -> Proof:
    statements = [one for one in (*of_packs(packs), *built_in()) if one.id == name]
    return Prover(law_of(packs, DAY, **rest), statements).prove(statements[0])


@pytest.mark.parametrize(
    ("rule", "fact"),
    [
        ("residency.1-process", "deployment.processing"),
        ("residency.2-rest", "deployment.at_rest"),
        ("residency.3-transit", "deployment.transit"),
    ],
)
def test_a_lost_rule_is_shown_as_one_request_and_one_deployment(base: Pack, rule: str, fact: str) -> None:
    proof = prove_one([without(base, rule)], "resident-means-resident")
    assert proof.status == "refuted"
    facts = proof.counterexample.facts
    assert facts["tenant.bloc"] == "EEA"
    assert facts["request.classes"] == "personal"
    assert facts[fact].split(" ")[0] in {"US", "AE", "SG", "BR", "IN"}
    others = {"deployment.processing", "deployment.at_rest", "deployment.transit", "operator.seat"} - {fact}
    assert {facts[other] for other in others} == {"DE (declared)"}


def test_a_waived_rule_refutes_and_is_named(base: Pack) -> None:
    proof = prove_one([base], "cable-out", relaxed=["airgap"])
    assert (proof.status, proof.reason) == ("refuted", "waived: airgap")
    assert proof.counterexample.facts["deployment.on_premises"] == "false (declared)"
    report = prove_packs([base], DAY, relaxed=["airgap"], built_in=False)
    assert {proof.id for proof in report.proofs if proof.status == "refuted"} == {"cable-out"}
    assert report.relaxed == ("airgap",)
    assert not report.ok


def claim(given: str, holds: str, *needed: str) -> Statement:
    return Statement(id="t", text="t", given=given, holds=holds, fails_without=needed)


def prove_claim(packs: list[Pack], one: Statement, day: date = DAY) -> Proof:
    return Prover(law_of(packs, day), [one]).prove(one)


@pytest.mark.parametrize(
    ("one", "status", "says"),
    [
        (claim("true", "resource.approved", "airgap"), "says-nothing", "survives airgap deleted"),
        (claim("true", "resource.approved", "base.approved"), "proved", ""),
        (claim("true", "resource.approved"), "proved", ""),  # the rules it rests on are found
        (claim("!resource.approved", "false", "base.approved"), "says-nothing", "no permitted request"),
        (claim("true", "true"), "says-nothing", "without any rule"),
        (claim("context.link_up", "resource.approved", "base.nothing"), "says-nothing", "base.nothing"),
        (claim("true", "resource.operator.own", "base.approved"), "refuted", ""),
        # An expression that errors counts against the theorem, whichever side it stands on.
        (claim("resource has seal && resource.seal.score + 9223372036854775807 > 0", "resource.approved"),
         "proved", ""),
        (claim("true", "9223372036854775807 + 1 > 0", "base.approved"), "refuted", ""),
        (claim('Allod::List::"gone".codes.contains("DE")', "false", "base.approved"), "refuted", ""),
    ],
)  # fmt: skip
def test_what_a_theorem_comes_to(base: Pack, one: Statement, status: str, says: str) -> None:
    proof = prove_claim([base], one)
    assert proof.status == status, proof
    assert says in proof.reason
    assert (proof.counterexample is not None) == (status == "refuted")


def extra(base: Pack, body: str, manifest: str = "", theorems: str = "") -> Pack:
    files = pack_files("x", forbid("x.1", body), manifest)
    if theorems:
        files["theorems.toml"] = theorems.encode()
    return load_pack(files, base.schema)


def test_a_theorem_holds_beside_other_packs_by_its_own_rules_alone(base: Pack) -> None:
    twin = extra(base, "when { !resource.approved }")
    report = prove_packs([base, twin], DAY, built_in=False)
    proof = next(proof for proof in report.proofs if proof.id == "approved-only")
    assert proof.status == "proved"  # although x.1 would keep it true without base.approved
    assert proof.rules == ("base.approved",)
    assert set(report.shadowed) == {"residency.0-complete", "x.1"}
    assert report.untested == ("x.1",)


def test_a_theorem_about_a_rule_of_tomorrow_is_proved_on_its_day(base: Pack) -> None:
    theorem = (
        'monotone = true\n[[theorem]]\nid = "own"\ntext = "t"\n'
        'given = "true"\nholds = "resource.operator.own"\nfails_without = ["x.1"]\n'
    )
    files = pack_files("x", forbid("x.1", "when { !resource.operator.own }"))
    files["theorems.toml"] = theorem.encode()
    for since, until, on in (
        ("2027-08-02", None, date(2027, 8, 2)),
        (None, "2026-01-01", date(2025, 12, 31)),
        ("2026-11-25", None, DAY),
    ):
        dated = "".join(f'@{name}("{day}")' for name, day in (("since", since), ("until", until)) if day)
        text = files["policies.cedar"].decode().replace("@law", f"{dated} @law")
        pack = load_pack({**files, "policies.cedar": text.encode()}, base.schema)
        (statement,) = of_packs([pack])
        prover = Provers(law_of([base, pack], DAY), [statement])
        proof = prover.prove(statement)
        assert (proof.status, proof.day) == ("proved", None if on == DAY else on)


def test_a_law_that_does_not_hold_on_the_day_permits_nothing_and_so_proves_nothing(base: Pack) -> None:
    pack = extra(base, "when { resource.embedded }", "valid_until = 2026-11-25")
    assert law_of([base, pack], DAY).closed == ("x",)
    assert law_of([base, pack], date(2026, 11, 24)).closed == ()
    report = prove_packs([base, pack], DAY, of=["x"], built_in=False)
    assert report.idle == report.shadowed == ()  # of a law that denies everything nothing is said
    one = claim("true", "false", "base.approved")
    assert prove_claim([base, pack], one).status == "says-nothing"


# What is not modelled refuses, and a prover that is wrong says so instead of being believed.


@pytest.mark.parametrize(
    "body",
    [
        "principal == principal && {a: 1} == {a: 1}",
        "[[1], [2]].contains([1])",
        "[1, 2].contains(1)",
        'Allod::App::"a".critical',
        "principal.tenant.bloc.containsAny(principal.purposes)",
        'Allod::App::"a" in principal.tenant',
    ],
)  # fmt: skip
def test_what_is_not_modelled_refuses(base: Pack, body: str) -> None:
    policy = {**judge.claim_policy({"Value": True}), "effect": "forbid"}
    from test_proof_translator import parsed

    policy["conditions"] = [{"kind": "when", "body": parsed(body)}]
    rule = msgspec.structs.replace(base.rules[1], id="x.1", policy=policy)
    pack = msgspec.structs.replace(base, rules=(*base.rules, rule))
    with pytest.raises(Invalid, match="does not model"):
        Session([law_of([pack], DAY)])


@pytest.mark.parametrize(
    "node",
    [
        {"isInRange": {"left": {"Var": "context"}, "right": {"Var": "context"}}},
        {"getTag": {"left": {"Var": "resource"}, "right": {"Value": "a"}}},
        {"Var": "nobody"},
        {"Value": {"__extn": {"fn": "decimal", "arg": "1.0"}}},
        {"Value": 2**63},
        {"!": {"arg": {"Value": 1}}},
        {},
        [],
    ],
)
def test_unknown_operators_refuse(base: Pack, node: object) -> None:
    session = Session([law_of([base], DAY)])
    with pytest.raises(Invalid, match="does not model"):
        Translator(session.view(), "x").truth(node)


@pytest.mark.parametrize(
    "schema",
    [
        "namespace Other { }",
        "namespace Allod { type A = Set<Long>; }",
        "namespace Allod { type A = Nowhere; }",
        "namespace Allod { action other appliesTo { principal: [A], resource: [B], context: {} }; }",
        "namespace Allod { entity A = { a: String };",
        "namespace Allod { entity A = { a: String }; } extra",
        'namespace Allod { entity A enum ["a"]; }',
        'namespace Allod { @doc("x") entity A; }',
    ],
)  # fmt: skip
def test_a_schema_that_is_not_understood_refuses(schema: str) -> None:
    with pytest.raises(Invalid, match="does not understand"):
        read_shape(schema)


def test_a_wrong_prover_is_found_out_by_the_rules_themselves(
    base: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = World.includes
    monkeypatch.setattr(World, "includes", lambda self, a, b: self.logic.some([whole(self, a, b), True]))
    with pytest.raises(Integrity, match="does not hold before the rules"):
        prove_one([base], "resident-means-resident")


def test_like_on_an_unnamed_word_is_undecided_rather_than_wrong(base: Pack) -> None:
    refutable = claim('resource.model like "gpt-*"', "resource.operator.own", "base.approved")
    proof = prove_claim([base], refutable)
    assert proof.status == "undecided"
    assert "like" in proof.reason
    pack = extra(base, 'when { resource.model like "gpt-*" }')
    assert prove_claim([base, pack], claim('resource.model like "gpt-*"', "false")).status == "says-nothing"
    named = claim('resource.model == "gpt-9"', "false", "x.1")
    assert prove_claim([base, pack], named).status == "says-nothing"  # denied by x.1: nothing is permitted


def test_needs_and_demands_are_told(base: Pack) -> None:
    files = pack_files("x", forbid("x.1", 'when { context.classes.contains("special") } '
                       'unless { resource.operator.own || resource.agreements.contract.contains("baa") }'),
                       'min_grade = "contract"\nmax_age_days = 400')  # fmt: skip
    files["facts/names.toml"] = b'[[name]]\nname = "baa"\nkind = "agreement"\ntext = "t"\n'
    report = prove_packs([base, load_pack(files, base.schema)], DAY, of=["x"], built_in=False)
    assert next((need.data_class, need.agreement, need.rules) for need in report.needs) == (
        "special", "baa", ("x.1",),
    )  # fmt: skip
    assert {need.data_class for need in report.needs} <= {"special", "unscanned"}
    assert report.demands == (
        ("x", "facts about others graded contract or better; facts no older than 400 days"),
    )


def test_base_mutants_by_text_agree_with_the_prover(base: Pack) -> None:
    """The deletion of a rule in the file itself refutes the theorem, by the same prover, from the text."""
    files = base_files()
    text = files["policies.cedar"].decode()
    start = text.index('@id("airgap")')
    end = text.index("};", start) + 2
    dead = forbid("airgap", "when { !resource.approved && resource.approved }")
    pack = load_pack({**files, "policies.cedar": (text[:start] + dead + text[end:]).encode()})
    assert prove_one([pack], "cable-out").status == "refuted"
    report = prove_packs([pack], DAY, of=[], built_in=False)
    assert report.idle == ("airgap",)


def test_importing_the_prover_does_not_import_the_solver() -> None:
    code = "import sys, allod.policy.proof.whole, allod.policy.proof.refine; assert 'z3' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
