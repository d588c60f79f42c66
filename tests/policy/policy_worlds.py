"""Worlds for the policy tests: the shipped pack, the hospital of the design page, and random fleets."""

from __future__ import annotations

import importlib.resources
import random
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from importlib.resources.abc import Traversable
from typing import Any

import msgspec

from allod.domain.classes import BASE_CLASSES, expand
from allod.domain.facts import GRADES, NOWHERE, Fact
from allod.domain.fleet import App, Deployment, Fleet, Operator, Owner, Relaxation, Tenant, Weights
from allod.policy import Pack, PolicyQuestion, load_pack

DAY = date(2026, 11, 25)
CLASSES = tuple(sorted(BASE_CLASSES))
FORBIDS = (
    "residency.0-complete", "residency.1-process", "residency.2-rest", "residency.3-transit",
    "residency.4-audit", "residency.5-operator", "airgap", "provenance.verified", "provenance.ban",
    "compelled.access",
)  # fmt: skip


SEAL_RULE = (
    'when { context.classes.contains("confidential") } '
    "unless { resource has seal && resource.seal.sov5 >= 3 }"
)


def _walk(folder: Traversable, before: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{before}{entry.name}/")
        else:
            yield f"{before}{entry.name}", entry.read_bytes()


def base_files() -> dict[str, bytes]:
    return dict(_walk(importlib.resources.files("allod.policy.packs").joinpath("base")))


def pack_files(pack_id: str, policies: str, manifest: str = "", cases: str = "") -> dict[str, bytes]:
    files = {
        "pack.toml": f'id = "{pack_id}"\nversion = "1.0.0"\nstatus = "in-force"\n{manifest}\n'.encode(),
        "policies.cedar": policies.encode(),
        "theorems.toml": b"monotone = true\n",
        "obligations.toml": b"",
    }
    if cases:
        files["cases/all.toml"] = cases.encode()
    return files


def load(files: dict[str, bytes]) -> Pack:
    """A pack read under the shipped schema."""
    return load_pack(files, base_files()["schema.cedarschema"].decode())


def forbid(rule_id: str, body: str) -> str:
    return (
        f'@id("{rule_id}") @law("Act 1") @text("Text of {rule_id}.") @remedy("Remedy of {rule_id}.")\n'
        'forbid (principal is Allod::App, action == Allod::Action::"dispatch", '
        "resource is Allod::Deployment)\n"
        f"{body};\n"
    )


def pack_without(rule_id: str) -> Pack:
    """The base pack with a rule that never fires in the place of the named one."""
    text = base_files()["policies.cedar"].decode()
    start = text.index(f'@id("{rule_id}")')
    end = text.index("};", start) + 2
    dead = forbid(rule_id, "when { !resource.approved && resource.approved }")
    return load_pack({**base_files(), "policies.cedar": (text[:start] + dead + text[end:]).encode()})


def seal_pack() -> Pack:
    return load(pack_files("eu-csf", forbid("eu-csf.5-supply", SEAL_RULE)))


def holds(value: Any, **rest: Any) -> Fact[Any]:
    return Fact(value=value, **rest)


def hospital() -> Fleet:
    """The configuration of DESIGN section 12."""
    return Fleet(
        tenant=Tenant(
            id="st-elisabeth",
            home="DE",
            bloc=("EEA",),
            resident_classes=("personal", "special", "phi", "confidential"),
            default_classes=("personal",),
        ),
        apps={
            "triage": App(id="triage", classes=("phi",), purposes=("treatment",)),
            "press": App(id="press", classes=("public",)),
        },
        operators={
            "self": Operator(
                id="self", own=True, seat=holds("DE"), controlled_from=holds(("DE",)), compelled_by=holds(())
            ),
            "us-cloud": Operator(
                id="us-cloud",
                seat=holds("IE"),
                controlled_from=holds(("US",)),
                compelled_by=holds(("US-CLOUD-ACT", "US-FISA-702")),
            ),
        },
        deployments={
            "ward-llm": Deployment(
                id="ward-llm",
                engine="llamacpp",
                model="reference",
                operator="self",
                processing=holds("DE"),
                at_rest=holds(("DE",)),
                transit=holds(("DE",)),
                on_premises=holds(True),
                records_auditable=holds(True),
                inspectable=holds(True),
                seal=holds((4, 4, 4, 4, 3, 3, 4, 3)),
            ),
            "frankfurt-region": Deployment(
                id="frankfurt-region",
                engine="openai",
                model="gpt-5.5",
                operator="us-cloud",
                base_url="http://127.0.0.1:9400/v1",
                processing=holds("DE"),
                at_rest=holds(("DE",)),
                transit=holds(("DE",)),
                on_premises=holds(False),
                records_auditable=holds(True, grade="contract", as_of=date(2026, 3, 1), source="DPA annex 2"),
                inspectable=holds(False),
            ),
        },
        weights={"ward-llm": Weights(weights="sha256:" + "0" * 64, maker_jurisdiction="FR", verified=True)},
    )


def ask(app: str = "triage", classes: tuple[str, ...] = ("phi",), **rest: Any) -> PolicyQuestion:
    return PolicyQuestion(app=app, classes=expand(classes), **{"day": DAY, **rest})


def ids_of(eligibility: Any, deployment: str) -> tuple[str, ...]:
    """Return the deciding rule ids against a deployment; empty for a kept one."""
    for exclusion in eligibility.excluded:
        if exclusion.deployment == deployment:
            return tuple(rule.id for rule in exclusion.rules)
    assert deployment in eligibility.kept
    return ()


_INSIDE = ("DE", "FR", "EU", "EEA", "NO", "IE")
_OUTSIDE = ("US", "CN", "GCC", "GB", "none", "XX", "")


def _fact(rng: random.Random, value: Any, *, missing: float) -> Fact[Any] | None:
    if rng.random() < missing:
        return None
    expires = DAY + timedelta(days=rng.choice((-1, 0, 1, 40))) if rng.random() < 0.12 else None
    as_of = DAY - timedelta(days=rng.choice((0, 10, 400))) if rng.random() < 0.5 else None
    grade = rng.choice(GRADES)
    return Fact(value=value, grade=grade, expires=expires, as_of=as_of)


def _place(rng: random.Random) -> str:
    return rng.choice(_INSIDE if rng.random() < 0.88 else _OUTSIDE)


def _places(rng: random.Random) -> tuple[str, ...]:
    if rng.random() < 0.1:
        return NOWHERE
    return tuple(sorted({_place(rng) for _ in range(rng.choice((0, 1, 1, 1, 2, 3)))}))


def _evidence(rng: random.Random, names: tuple[str, ...]) -> dict[str, Fact[bool]]:
    found = {name: _fact(rng, rng.random() < 0.9, missing=0.4) for name in names}
    return {name: fact for name, fact in found.items() if fact is not None}


def _owners(rng: random.Random) -> tuple[Owner, ...]:
    return tuple(
        Owner(
            name=f"o{n}", jurisdiction=_place(rng), percent=Decimal(rng.choice(("10", "24", "24.001", "60")))
        )
        for n in range(rng.choice((0, 1, 2, 3)))
    )


def random_operator(rng: random.Random, name: str) -> Operator:
    laws = ("US-CLOUD-ACT", "DE-STPO", "EU-DA", "WHAT", "", "XX-1", "US")
    return Operator(
        id=name,
        own=rng.random() < 0.4,
        seat=_fact(rng, _place(rng), missing=0.06),
        controlled_from=_fact(rng, _places(rng), missing=0.06),
        compelled_by=_fact(
            rng, tuple(rng.choice(laws) for _ in range(rng.choice((0, 0, 1, 2)))), missing=0.1
        ),
        owners=_fact(rng, _owners(rng), missing=0.3),
        agreements=_evidence(rng, ("dpa", "baa", "scc")),
        attestations=_evidence(rng, ("c5-type2", "secnumcloud-3.2")),
        registered=rng.random() < 0.7,
    )


def random_deployment(rng: random.Random, name: str, operators: list[str]) -> Deployment:
    missing = rng.choice((0.0, 0.0, 0.05, 0.4))
    seal = tuple(rng.randrange(5) for _ in range(rng.choice((8, 8, 8, 7))))
    return Deployment(
        id=name,
        engine=rng.choice(("llamacpp", "openai", "scripted")),
        model="m",
        operator=rng.choice(operators),
        approved=rng.random() < 0.93,
        processing=_fact(rng, _place(rng), missing=missing),
        at_rest=_fact(rng, _places(rng), missing=missing),
        transit=_fact(rng, _places(rng), missing=missing),
        on_premises=_fact(rng, rng.random() < 0.6, missing=missing),
        records_auditable=_fact(rng, rng.random() < 0.9, missing=missing),
        inspectable=_fact(rng, rng.random() < 0.9, missing=missing),
        seal=_fact(rng, seal, missing=missing),
        retention_days=_fact(rng, rng.choice((0, 30, 40_000)), missing=0.3),
        trains_on_inputs=_fact(rng, rng.random() < 0.2, missing=0.3),
        agreements=_evidence(rng, ("dpa", "baa", "zdr")),
        attestations=_evidence(rng, ("c5-type2", "exit-tested")),
    )


def random_fleet(rng: random.Random, deployments: int = 8, *, relax: bool = False) -> Fleet:
    operators = [f"op{n}" for n in range(max(2, deployments // 4))]
    names = [f"d{n}" for n in range(deployments)]
    makers = ("FR", "US", "CN", "EU", "??", None)
    relaxed = rng.sample(FORBIDS, rng.choice((1, 2))) if relax else []
    return Fleet(
        tenant=Tenant(
            id="t",
            home="DE",
            bloc=rng.choice((("EEA",), ("EEA",), ("EU", "US"), ("DE", "FR"), ())),
            resident_classes=tuple(rng.sample(CLASSES, rng.choice((0, 2, 4)))),
            air_gapped=rng.random() < 0.15,
            banned_makers=rng.choice(((), ("CN",), ("EU", "CN"))),
            min_seal=rng.choice((None, (2,) * 8)),
            min_seal_score=rng.choice((None, Decimal("2.505"))),
            attestations=_evidence(rng, ("dpo",)),
            sector=rng.choice((None, "bank")),
            relax=tuple(Relaxation(rule=rule, reason="r", signer="s") for rule in relaxed),
        ),
        apps={
            "a": App(id="a", attestations=_evidence(rng, ("dpia",)), risk=rng.choice((None, "high"))),
            "b": App(id="b", purposes=("care",), critical=True, function="F1"),
        },
        operators={name: random_operator(rng, name) for name in operators},
        deployments={name: random_deployment(rng, name, operators) for name in names},
        weights={
            name: Weights(weights="w", maker_jurisdiction=rng.choice(makers), verified=rng.random() < 0.9)
            for name in names
            if rng.random() < 0.8
        },
    )


def random_question(rng: random.Random) -> PolicyQuestion:
    return PolicyQuestion(
        app=rng.choice(("a", "b")),
        classes=expand(rng.sample(CLASSES, rng.choice((0, 1, 1, 2, 4)))),
        purpose=rng.choice((None, "care")),
        link_up=rng.random() < 0.8,
        pseudonymised=rng.random() < 0.3,
        day=DAY,
    )


def with_tenant(fleet: Fleet, **changes: Any) -> Fleet:
    return msgspec.structs.replace(fleet, tenant=msgspec.structs.replace(fleet.tenant, **changes))


def with_deployment(fleet: Fleet, name: str, **changes: Any) -> Fleet:
    changed = msgspec.structs.replace(fleet.deployments[name], **changes)
    return msgspec.structs.replace(fleet, deployments={**fleet.deployments, name: changed})


def with_operator(fleet: Fleet, name: str, **changes: Any) -> Fleet:
    changed = msgspec.structs.replace(fleet.operators[name], **changes)
    return msgspec.structs.replace(fleet, operators={**fleet.operators, name: changed})
