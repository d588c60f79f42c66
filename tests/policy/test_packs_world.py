"""Packs of the US, India, Brazil, Korea, Nigeria, Indonesia, and of privilege: what they rest on and do."""

from __future__ import annotations

import hashlib
import importlib
import re
from datetime import date
from typing import Any

import msgspec
import pytest

from allod.domain.errors import Invalid
from allod.domain.fleet import App, Fleet, Operator, Tenant
from allod.gateway.packs import files_of, find
from allod.policy import Pack, Policy, load_pack, run_cases
from allod.policy.cases import fleet_of
from allod.policy.forms import Case, Source, Theorem
from allod.policy.lists import codes_on, join
from allod.policy.policy import PolicyQuestion

IN_FORCE = ("us-hipaa", "us-mrm", "us-fedramp", "legal-privilege", "in-dpdp", "br-lgpd")
SKELETONS = ("us-nerc-cip", "kr-pipa", "ng-ndpa", "id-pdp")
WORLD = IN_FORCE + SKELETONS
READ_ON = date(2026, 11, 25)
QUOTED = re.compile("«(.*?)»")
EXPORTS = {
    "gdpr-art30": ("gdpr", "ART30_COLUMNS"),
    "ai-act-log": ("aiact", "USE_COLUMNS"),
    "hipaa-disclosures": ("hipaa", "DISCLOSURE_COLUMNS"),
    "model-inventory": ("inventory", "INVENTORY_COLUMNS"),
    "exposure": ("exposure", "EXPOSURE_COLUMNS"),
    "subject": ("subject", "DECISION_COLUMNS"),
}
SPDI = (
    "Information Technology (Reasonable Security Practices and Procedures and Sensitive Personal Data or "
    "Information) Rules, 2011, G.S.R. 313(E), r. 7"
)
# For each rule that is not marked: the sources whose words it rests on.
RESTS: dict[str, tuple[str, ...]] = {
    "us-hipaa.business-associate": (
        "45 CFR 164.502(e)(1)(i)",
        "45 CFR 164.502(e)(2)",
        "45 CFR 164.308(b)(1)",
    ),
    "us-hipaa.minimum-necessary": ("45 CFR 164.502(b)(1)",),
    "us-hipaa.transmission": ("45 CFR 164.312(e)(1)", "45 CFR 164.312(e)(2)(ii), addressable"),
    "us-hipaa.no-training": ("45 CFR 164.502(a)(3)",),
    "us-hipaa.records": ("45 CFR 164.312(b)", "45 CFR 164.504(e)(2)(ii)(A), (G), (I)"),
    "us-fedramp.authorised": ("44 U.S.C. 3614(1)(B)",),
    "legal-privilege.confidentiality": ("ABA Model Rule 1.6(c)",),
    "legal-privilege.no-training": ("ABA Model Rule 1.6(c)",),
    "legal-privilege.no-retention": ("ABA Model Rule 1.6(c)", "Federal Rule of Evidence 502(b)(2)"),
    "legal-privilege.waiver": ("Federal Rule of Evidence 502(b)(2)",),
    "in-dpdp.negative-list": ("Digital Personal Data Protection Act, 2023 (22 of 2023), s. 16(1)",),
    "in-dpdp.specified-data-stays": ("DPDP Rules, 2025, r. 13(4)",),
    "in-dpdp.processor": ("Digital Personal Data Protection Act, 2023, s. 8(2)",),
    "in-dpdp.safeguards": ("DPDP Rules, 2025, r. 6(1)(a)",),
    "in-dpdp.spdi-transfer": (SPDI,),
    "br-lgpd.transfer": (
        "Lei 13.709/2018 (LGPD), Art 33, caput, I, II(b)",
        "Resolução CD/ANPD 19/2024, Art 16",
        "Resolução CD/ANPD 32/2026, Art 1, parágrafo único (published 27 January 2026)",
    ),
    "br-lgpd.minimum": ("Resolução CD/ANPD 19/2024, Art 9, parágrafo único",),
    "br-lgpd.sensitive": ("Lei 13.709/2018 (LGPD), Art 11, caput and I",),
}


@pytest.fixture(scope="module")
def packs() -> dict[str, Pack]:
    known = find()
    return {name: known.load(name) for name in ("base", *WORLD)}


def changed(name: str, path: str, old: str, new: str) -> Pack:
    """Load a shipped pack with one passage replaced."""
    known = find()
    files = files_of(known.found[name].folder)
    text = files[path].decode()
    assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {path}"
    return load_pack({**files, path: text.replace(old, new).encode()}, known.load("base").schema)


def written(pack: Pack, rule_id: str) -> str:
    """A rule as it stands in the file, up to the next one."""
    start = pack.text.index(f'@id("{rule_id}")')
    end = pack.text.find("\n@id(", start)
    return pack.text[start:] if end < 0 else pack.text[start:end]


@pytest.mark.parametrize("name", WORLD)
def test_every_worked_case_holds_by_both_engines(packs: dict[str, Pack], name: str) -> None:
    results = run_cases(packs[name], packs["base"])
    assert [f"{result.name}: {result.detail}" for result in results if not result.ok] == []
    assert len(packs[name].cases) >= 2 * len(packs[name].rules)


@pytest.mark.parametrize("name", WORLD)
def test_a_source_says_how_it_was_read_and_its_digest_is_that_of_the_words_quoted(
    packs: dict[str, Pack], name: str
) -> None:
    assert packs[name].manifest.source
    for source in packs[name].manifest.source:
        quoted = QUOTED.findall(source.note)
        if source.read in {"primary", "copy"}:
            assert source.url.startswith("https://"), source.citation
            assert source.retrieved == READ_ON
            assert len(quoted) == 1, source.citation
            assert source.digest == hashlib.sha256(quoted[0].encode()).hexdigest(), source.citation
        else:
            assert (source.digest, quoted) == ("", []), source.citation
            assert source.note


@pytest.mark.parametrize("name", WORLD)
def test_nobody_has_signed_and_no_pack_says_otherwise(packs: dict[str, Pack], name: str) -> None:
    pack = packs[name]
    assert pack.reviewed is False
    assert pack.manifest.reviewer == ""
    assert pack.manifest.jurisdiction
    assert pack.manifest.applies_to.endswith(".")
    assert pack.manifest.requires == ("base",)


@pytest.mark.parametrize("name", IN_FORCE)
def test_a_rule_that_is_not_marked_rests_on_words_that_were_read(packs: dict[str, Pack], name: str) -> None:
    pack = packs[name]
    assert pack.manifest.status == "in-force"
    sources: dict[str, Source] = {source.citation: source for source in pack.manifest.source}
    for rule in pack.rules:
        if rule.unverified:
            assert rule.id not in RESTS
            continue
        for citation in RESTS[rule.id]:
            assert sources[citation].read in {"primary", "copy"}, citation


@pytest.mark.parametrize("name", SKELETONS)
def test_a_skeleton_says_of_every_rule_that_its_law_was_not_verified(
    packs: dict[str, Pack], name: str
) -> None:
    pack = packs[name]
    assert pack.manifest.status == "skeleton"
    assert pack.unverified == tuple(sorted(rule.id for rule in pack.rules))
    assert "skeleton" in pack.manifest.title
    assert any(source.read in {"none", "secondary"} for source in pack.manifest.source)
    assert any(duty.note.startswith("question:") or "question:" in duty.note for duty in pack.obligations)


def test_the_model_risk_pack_claims_no_law_for_generative_ai(packs: dict[str, Pack]) -> None:
    for rule in packs["us-mrm"].rules:
        assert rule.unverified
        assert rule.law.startswith("bank practice")
        assert "leaves generative AI out" in rule.law


@pytest.mark.parametrize("name", WORLD)
def test_the_duties_name_every_rule_that_claims_a_law_and_every_column_exists(
    packs: dict[str, Pack], name: str
) -> None:
    pack = packs[name]
    modes = {
        mode: [duty for duty in pack.obligations if duty.mode == mode]
        for mode in ("enforce", "evidence", "none")
    }
    assert all(modes.values()), "a table that has no evidence, or nothing out of reach, is not honest"
    named = {rule_id for duty in modes["enforce"] for rule_id in duty.rules}
    assert {rule.id for rule in pack.rules} == named
    for duty in modes["evidence"]:
        module, columns = EXPORTS[duty.export]
        shown = getattr(importlib.import_module(f"allod.evidence.{module}"), columns)
        assert duty.column in {column.id for column in shown}, duty.article
    for duty in modes["none"]:
        assert len(duty.note) > 20, duty.article
    articles = [duty.article for duty in pack.obligations]
    assert len(set(articles)) == len(articles)


@pytest.mark.parametrize("name", WORLD)
def test_a_name_that_a_rule_demands_is_listed_and_no_other(packs: dict[str, Pack], name: str) -> None:
    pack = packs[name]
    bodies = re.sub(r"(?m)^@.*$|//.*$", "", pack.text)
    demanded = set()
    for arguments in re.findall(
        r"(?:agreements|attestations)\.\w+\.contains\w*\((\[[^\]]*\]|\"[^\"]*\")\)", bodies
    ):
        demanded |= set(re.findall(r'"([^"]+)"', arguments))
    assert {one.name for one in pack.names} == demanded


@pytest.mark.parametrize("name", WORLD)
def test_the_cases_notice_the_loss_of_any_rule(packs: dict[str, Pack], name: str) -> None:
    pack, base = packs[name], packs["base"]
    for rule in pack.rules:
        rest = pack.text.replace(written(pack, rule.id), "")
        lost = msgspec.structs.replace(
            pack, text=rest, rules=tuple(one for one in pack.rules if one.id != rule.id)
        )
        failed = [result for result in run_cases(lost, base) if not result.ok]
        assert failed, rule.id
        assert all(rule.id in result.detail for result in failed)


def evidence(given: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (part, kind, name)
        for part in ("app", "operator", "deployment")
        for kind in ("agreements", "attestations")
        for name in given.get(part, {}).get(kind, {})
    ]


def answer(case: Case, pack: Pack, base: Pack) -> bool:
    fleet = fleet_of(case)
    tenant = msgspec.structs.replace(fleet.tenant, packs=(base.id, pack.id))
    policy = Policy((base, pack), msgspec.structs.replace(fleet, tenant=tenant))
    (app,), (deployment,) = fleet.apps, fleet.deployments
    question = PolicyQuestion(
        app=app, classes=case.classes, day=case.day, purpose=case.purpose, pseudonymised=case.pseudonymised
    )
    kept = bool(policy.eligible(question).kept)
    assert policy.recheck(question, deployment) is kept
    return kept


def without(case: Case, part: str, kind: str, name: str) -> Case:
    given = {key: {**table} if isinstance(table, dict) else table for key, table in case.given.items()}
    held = {key: fact for key, fact in given[part][kind].items() if key != name}
    given[part] = {**given[part], kind: held}
    return msgspec.structs.replace(case, given=given)


@pytest.mark.parametrize("name", WORLD)
def test_I2_losing_evidence_or_gaining_a_class_never_admits(packs: dict[str, Pack], name: str) -> None:
    pack, base = packs[name], packs["base"]
    more = ("unscanned", "phi", *pack.manifest.classes)
    tried = 0
    for case in pack.cases:
        if case.decision != "deny":
            continue
        for part, kind, one in evidence(case.given):
            tried += 1
            assert answer(without(case, part, kind, one), pack, base) is False, (case.name, one)
        for extra in more:
            tried += 1
            wider = msgspec.structs.replace(case, classes=(*case.classes, extra))
            assert answer(wider, pack, base) is False, (case.name, extra)
    assert tried >= 4 * len(pack.rules)


@pytest.mark.parametrize("name", WORLD)
def test_what_nobody_looked_at_counts_as_the_worst_the_pack_knows(packs: dict[str, Pack], name: str) -> None:
    pack = packs[name]
    tested = [rule for rule in pack.rules if "context.classes" in str(rule.reads)]
    for rule in tested:
        assert '"unscanned"' in written(pack, rule.id)
    assert tested or name == "us-mrm"


def test_all_of_them_can_be_in_force_together(packs: dict[str, Pack]) -> None:
    tenant = Tenant(id="t", home="US", bloc=("US",), packs=tuple(packs))
    fleet = Fleet(tenant=tenant, apps={"a": App(id="a")}, operators={"o": Operator(id="o")}, deployments={})
    policy = Policy(tuple(packs.values()), fleet)
    assert {"bcsi", "privileged", "federal-high", "in-specified", "ng-localised"} <= policy.classes
    assert len(policy.rules) == sum(len(pack.rules) for pack in packs.values())


def test_the_brazilian_list_begins_with_the_day_of_publication(packs: dict[str, Pack]) -> None:
    found = join(packs["br-lgpd"].lists)
    free = codes_on("br-lgpd.free", found, date(2026, 1, 27))
    assert len(free) == 31  # Brazil, 27 member states, Iceland, Liechtenstein, Norway
    assert {"BR", "DE", "IS", "LI", "NO"} <= free
    assert free.isdisjoint({"US", "CH", "GB", "AR"})
    assert codes_on("br-lgpd.free", found, date(2026, 1, 26)) == {"BR"}


def test_lists_that_nobody_has_filled_are_empty(packs: dict[str, Pack]) -> None:
    for name, one in (("in-dpdp", "in-dpdp.restricted"), ("kr-pipa", "kr-pipa.recognised"),
                      ("ng-ndpa", "ng-ndpa.adequate"), ("id-pdp", "id-pdp.equal")):  # fmt: skip
        assert codes_on(one, join(packs[name].lists), READ_ON) == frozenset()


def test_the_indian_law_changes_hands_on_one_day(packs: dict[str, Pack]) -> None:
    last, first = date(2027, 5, 12), date(2027, 5, 13)
    rules = packs["in-dpdp"].rules
    assert [rule.id for rule in rules if rule.applies_on(last)] == ["in-dpdp.spdi-transfer"]
    assert {rule.id for rule in rules if rule.applies_on(first)} == {
        "in-dpdp.negative-list", "in-dpdp.specified-data-stays", "in-dpdp.processor", "in-dpdp.safeguards",
    }  # fmt: skip


def test_a_notification_is_a_row_and_takes_effect_on_its_day(packs: dict[str, Pack]) -> None:
    row = '\n[[list.row]]\nplace = "IE"\nsince = 2027-08-01\nsource = "a notification that does not exist"\n'
    marker = 'under s. 16(1) of the DPDP Act 2023"\n'
    pack = changed("in-dpdp", "facts/lists.toml", marker, marker + row)
    case = next(one for one in pack.cases if one.name.startswith("from May 2027"))
    assert answer(msgspec.structs.replace(case, day=date(2027, 7, 31)), pack, packs["base"]) is True
    assert answer(msgspec.structs.replace(case, day=date(2027, 8, 1)), pack, packs["base"]) is False
    stored = msgspec.structs.replace(case, day=date(2027, 8, 1), set={"deployment.processing": "IN"})
    assert answer(stored, pack, packs["base"]) is False, "stored there, and operated from there"


@pytest.mark.parametrize("name", WORLD)
def test_the_packs_answer_for_the_past_as_well(packs: dict[str, Pack], name: str) -> None:
    """Retroactive checks and simulations ask about days gone by; the law's own dates decide then."""
    pack = packs[name]
    assert (pack.manifest.valid_from, pack.manifest.valid_until) == (None, None)
    first = next(case for case in pack.cases if case.decision == "allow")
    assert answer(msgspec.structs.replace(first, day=date(2026, 6, 1)), pack, packs["base"]) is True


DEMAND = '(["phi", "unscanned"]) }\nunless {\n  context.pseudonymised ||'
HELD = '(["phi", "unscanned"]) && context.pseudonymised }\nunless {\n  false ||'
BROKEN = (
    ("policies.cedar", 'agreements.contract.contains("baa")', 'agreement.contract.contains("baa")', "schema"),
    ("policies.cedar", '@id("us-hipaa.records")', '@id("us-hipaa.transmission")', "twice"),
    ("policies.cedar", DEMAND, HELD, "could admit"),
    ("pack.toml", 'id = "us-hipaa"', 'id = "us hipaa"', "no pack id"),
    ("pack.toml", 'requires = ["base"]', "valid_from = 2026-11-01\nvalid_until = 2026-11-01", "before"),
    ("theorems.toml", '["us-hipaa.no-training"]', '["us-hipaa.no-trial"]', "known"),
)


@pytest.mark.parametrize(("path", "old", "new", "told"), BROKEN)
def test_a_pack_that_was_tampered_with_is_not_loaded(path: str, old: str, new: str, told: str) -> None:
    with pytest.raises(Invalid, match=told):
        changed("us-hipaa", path, old, new)


def day_of(pack: Pack, theorem: Theorem) -> date:
    """The first day from today on which every rule that a theorem needs applies."""
    days = sorted({READ_ON} | {rule.since for rule in pack.rules if rule.since and rule.since > READ_ON})
    needed = [rule for rule in pack.rules if rule.id in theorem.fails_without]
    return next(day for day in days if all(rule.applies_on(day) for rule in needed))


@pytest.mark.parametrize("name", WORLD)
def test_every_theorem_is_proved_and_needs_every_rule_it_names(packs: dict[str, Pack], name: str) -> None:
    pytest.importorskip("z3", reason="allod[prove] is not installed: theorems are not proved here")
    from allod.policy.proof.law import law_of
    from allod.policy.proof.prove import Prover
    from allod.policy.proof.statements import of_packs

    pack = packs[name]
    assert len(pack.theorems) >= 2
    for statement, theorem in zip(of_packs([pack]), pack.theorems, strict=True):
        law = law_of((packs["base"], pack), day_of(pack, theorem))
        proof = Prover(law, [statement]).prove(statement)
        assert (proof.status, proof.reason) == ("proved", ""), theorem.id
        assert len(proof.mutants) == 2 * len(theorem.fails_without)
    needed = {rule_id for theorem in pack.theorems for rule_id in theorem.fails_without}
    assert needed == {rule.id for rule in pack.rules}, "every rule is needed by some theorem"
