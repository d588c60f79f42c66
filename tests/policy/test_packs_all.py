"""Every shipped pack: it loads, proves itself on its cases, and says where its law comes from."""

from __future__ import annotations

import importlib.resources
import random
import re
from datetime import date
from functools import cache
from typing import Any

import msgspec
import pytest
from policy_worlds import DAY, _evidence, _walk, random_fleet, random_question, with_tenant

from allod.domain.fleet import Fleet
from allod.policy import Pack, Policy, facts, lists, load_pack
from allod.policy.cases import run_cases
from allod.policy.closures import store_of
from allod.policy.pack import BASE, run_lint
from allod.policy.reference import request_of

EXPORTS = frozenset(
    {
        "ai-act-log", "dora-roi", "exposure", "gdpr-art30", "gdpr-transfers", "hipaa-disclosures",
        "model-inventory", "seal-dossier", "subject",
    }
)  # fmt: skip
FOLDERS = tuple(
    sorted(
        entry.name
        for entry in importlib.resources.files("allod.policy.packs").iterdir()
        if entry.is_dir() and entry.joinpath("pack.toml").is_file()
    )
)
OTHERS = tuple(name for name in FOLDERS if name != BASE)
READ = frozenset({"primary", "copy"})
WORLDS = 160


def _files(folder: str) -> dict[str, bytes]:
    return dict(_walk(importlib.resources.files("allod.policy.packs").joinpath(folder)))


@cache
def pack_of(folder: str) -> Pack:
    if folder == BASE:
        return load_pack(_files(BASE))
    return load_pack(_files(folder), pack_of(BASE).schema)


def _required(pack: Pack) -> tuple[Pack, ...]:
    return tuple(pack_of(name.replace("-", "_")) for name in pack.manifest.requires if name != BASE)


def _marks(text: str) -> set[str]:
    """What tells one text of law from another: its abbreviations and numbers, plain years left out."""
    found = set()
    for word in (word.strip(",;:") for word in re.split(r"\s+", text)):
        year = re.fullmatch(r"(19|20)\d\d", word)
        if (word.isupper() and len(word) > 1) or (re.search(r"\d", word) and not year):
            found.add(word.strip("()") if word.count("(") != word.count(")") else word)
    return found


def test_the_shipped_packs_are_found() -> None:
    assert BASE in FOLDERS
    assert len(OTHERS) >= 6


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_pack_lies_in_the_folder_of_its_name_and_says_whom_it_is_for(folder: str) -> None:
    pack = pack_of(folder)
    assert pack.id.replace("-", "_") == folder
    assert pack.manifest.title
    assert len(pack.manifest.applies_to) > 20
    if folder != BASE:
        assert BASE in pack.manifest.requires
        assert pack.manifest.jurisdiction
        assert all(rule.effect == "forbid" for rule in pack.rules)
        assert all(rule.id.startswith(f"{pack.id}.") for rule in pack.rules)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_pack_proves_itself_on_its_cases(folder: str) -> None:
    pack = pack_of(folder)
    results = run_cases(pack, None if folder == BASE else pack_of(BASE), *_required(pack))
    assert len(results) >= 2 * len(pack.rules)
    assert [(result.name, result.detail) for result in results if not result.ok] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_I2_a_pack_is_monotone_and_evidence_only_helps(folder: str) -> None:
    assert run_lint(pack_of(folder)) == ()


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_duty_is_enforced_shown_or_said_to_be_out_of_reach(folder: str) -> None:
    pack = pack_of(folder)
    ids = {rule.id for rule in pack.rules}
    assert pack.obligations
    for duty in pack.obligations:
        if duty.mode == "enforce":
            assert duty.rules, duty.article
            assert set(duty.rules) <= ids, duty.article
            assert not duty.export, duty.article
        elif duty.mode == "evidence":
            assert duty.export in EXPORTS, duty.article
            assert duty.column, duty.article
        else:
            assert len(duty.note) > 10, duty.article
            assert duty.rules == (), duty.article
            assert not duty.export, duty.article
    enforced = {rule for duty in pack.obligations for rule in duty.rules}
    if folder != BASE:
        assert ids - enforced == set(), "rules that no duty names"


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_law_cited_is_among_the_sources_and_was_read_or_is_marked(folder: str) -> None:
    pack = pack_of(folder)
    for source in pack.manifest.source:
        assert source.read == "none" or source.note, f"{source.citation}: how was it read?"
        assert source.read == "none" or source.retrieved is not None, source.citation
        assert source.read in READ or not source.digest, source.citation
    for rule in pack.rules:
        for part in filter(None, (part.strip() for part in rule.law.split(";"))):
            about = [one for one in pack.manifest.source if _marks(part) & _marks(one.citation)]
            assert about or rule.unverified, f"{rule.id} cites {part!r}, which no source names"
            opened = any(source.read in READ for source in about)
            assert opened or rule.unverified or pack.manifest.status == "skeleton", (
                f"{rule.id} rests on {part!r}, which nobody opened, and does not say so"
            )


@pytest.mark.parametrize("folder", OTHERS)
def test_a_theorem_leans_on_rules_and_every_name_asked_for_is_explained(folder: str) -> None:
    pack = pack_of(folder)
    for theorem in pack.theorems:
        assert theorem.fails_without, theorem.id
        assert theorem.given.strip(), theorem.id
        assert theorem.holds.strip(), theorem.id
    asked = {name for rule in pack.rules for name in _asked(rule.policy)}
    known = {name.name for one in (pack, *_required(pack)) for name in one.names}
    assert asked - known == set(), "names of evidence without a word on what they mean"
    assert {name.name for name in pack.names} - asked == set(), "names no rule asks for"


def _asked(node: Any) -> set[str]:
    """Names that evidence tests of a rule name."""
    if isinstance(node, list):
        return {name for part in node for name in _asked(part)}
    if not isinstance(node, dict):
        return set()
    found = set()
    for key, part in node.items():
        tests_evidence = key.startswith("contains") and re.search(r"'(agreements|attestations)'", str(part))
        if tests_evidence:
            found |= set(re.findall(r"'Value': '([^']+)'", str(part["right"])))
        else:
            found |= _asked(part)
    return found


def _days(pack: Pack) -> tuple[date, ...]:
    """Today, and the last day on which a rule of the pack begins."""
    return tuple(sorted({DAY, max([DAY, *(rule.since for rule in pack.rules if rule.since is not None)])}))


def _dressed(rng: random.Random, fleet: Fleet, pack: Pack, words: tuple[str, ...]) -> Fleet:
    """Give a random fleet evidence by the pack's names, and purposes from its rules."""
    names = tuple(name.name for name in pack.names)
    replace = msgspec.structs.replace
    return replace(
        fleet,
        apps={
            key: replace(
                app,
                attestations=_evidence(rng, names),
                purposes=tuple(rng.sample(words, min(len(words), rng.randrange(3)))),
                risk=rng.choice((None, "limited", "high")),
            )
            for key, app in fleet.apps.items()
        },
        operators={
            key: replace(one, agreements=_evidence(rng, names), attestations=_evidence(rng, names))
            for key, one in fleet.operators.items()
        },
        deployments={
            key: replace(one, agreements=_evidence(rng, names), attestations=_evidence(rng, names))
            for key, one in fleet.deployments.items()
        },
    )


@pytest.mark.parametrize("folder", OTHERS)
def test_I1_both_keys_agree_on_random_worlds(folder: str) -> None:
    pack = pack_of(folder)
    packs = (pack_of(BASE), *_required(pack), pack)
    rng = random.Random(f"pack {folder}")
    words = tuple(sorted(set(re.findall(r'"([a-z][a-z0-9-]+)"', pack.text)))) or ("care",)
    extra = pack.manifest.classes
    seen: set[str] = set()
    for day in _days(pack):
        fleet = _dressed(rng, random_fleet(rng, WORLDS // 2), pack, words)
        fleet = with_tenant(fleet, packs=tuple(one.id for one in packs))
        policy = Policy(packs, fleet)
        reference = policy.rules_on(day)[1]
        calendar = facts.Calendar(day=day, max_age_days=policy.age_limit_days, min_grade=policy.min_grade)
        encoded = facts.encode(fleet, calendar) + lists.encode(policy.lists, day)
        store, entities = store_of(encoded), reference.entities(encoded)
        questions = [_question(rng, day, words, extra) for _ in fleet.deployments]
        requests = [
            request_of(
                q.app,
                name,
                facts.encode_context(
                    q.classes,
                    q.purpose,
                    fleet.tenant,
                    link_up=q.link_up,
                    pseudonymised=q.pseudonymised and not policy.subjects[name].operator.own,
                ),
            )
            for q, name in zip(questions, fleet.deployments, strict=True)
        ]
        said = reference.decide(requests, entities)
        for q, name, other in zip(questions, fleet.deployments, said, strict=True):
            verdict = policy.verdict(q, name, store)
            assert other.errors == verdict.errors == ()
            assert other.reasons == (tuple(sorted(verdict.forbids)) or verdict.permits), (q, name)
            seen.update(verdict.forbids)
    assert any(rule.id in seen for rule in pack.rules), "no rule of the pack ever decided"


def _question(rng: random.Random, day: date, words: tuple[str, ...], extra: tuple[str, ...]) -> Any:
    asked = random_question(rng)
    classes = tuple(sorted({*asked.classes, *rng.sample(extra, min(len(extra), rng.randrange(2)))}))
    return msgspec.structs.replace(asked, day=day, classes=classes, purpose=rng.choice((None, *words)))
