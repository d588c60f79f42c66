"""Five organisations with fleets and rules of their own: what each may ask whom, and by which rule not."""

from __future__ import annotations

import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest

from allod.domain.classes import expand
from allod.domain.fleet import EMBEDDED, Fleet, Weights
from allod.gateway import compose, config
from allod.gateway.packs import Found, Packs, find
from allod.policy import Policy, PolicyQuestion, run_cases, run_lint

ROOT = Path(__file__).parents[2] / "examples" / "organisations"
ORGANISATIONS = ("hospital", "bank", "ministry", "telco", "factory")


def world(name: str) -> tuple[Fleet, Packs]:
    """The fleet of an organisation as it is once its vault has verified the weights."""
    packs = find(Found(id=f"house-{name}", origin="home", folder=ROOT / name / "pack"))
    fleet = config.parse((ROOT / name / "allod.toml").read_text(), packs.classes).fleet
    verified = Weights(weights="sha256:" + "0" * 64, maker_jurisdiction=fleet.tenant.home, verified=True)
    weights = {d.id: verified for d in fleet.deployments.values() if d.engine in EMBEDDED}
    return compose.weighted(msgspec.structs.replace(fleet, weights=weights), packs), packs


@pytest.mark.parametrize("name", ORGANISATIONS)
def test_the_house_rules_prove_themselves(name: str) -> None:
    _, packs = world(name)
    house = packs.load(f"house-{name}")
    assert [result for result in run_cases(house, packs.load("base")) if not result.ok] == []
    assert run_lint(house) == ()
    assert {duty.mode for duty in house.obligations} == {"enforce", "evidence", "none"}


@pytest.mark.parametrize("name", ORGANISATIONS)
def test_each_fleet_answers_as_its_officer_expects(name: str) -> None:
    fleet, packs = world(name)
    policy = Policy(packs.some(fleet.tenant.packs), fleet)
    table: dict[str, Any] = tomllib.loads((ROOT / name / "questions.toml").read_text())
    asked = set()
    for row in table["question"]:
        app = fleet.apps[row["app"]]
        asked.add(app.id)
        q = PolicyQuestion(
            app=app.id,
            classes=expand((*(app.classes or fleet.tenant.default_classes), *row.get("classes", ()))),
            purpose=row.get("purpose"),
            day=row.get("day", date(2026, 11, 25)),
        )
        found = policy.eligible(q)
        excluded = {one.deployment: [rule.id for rule in one.rules] for one in found.excluded}
        assert (list(found.kept), excluded) == (row["kept"], row.get("excluded", {})), row
        for deployment in fleet.deployments:
            assert policy.recheck(q, deployment) == (deployment in found.kept)
    assert asked == set(fleet.apps)
