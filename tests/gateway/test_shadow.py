"""Packs in shadow: evaluated live, recorded, and never deciding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from world import chat, config, deployment

from allod.domain.errors import Invalid
from allod.gateway import compose, decide
from allod.policy.policy import Policy
from allod.routing.record import holds, read_record
from gateway.replays import (
    DEPLOYMENTS,
    changes,
    command,
    inside,
    install,
    records,
    simulated,
    text_of,
    traffic,
    whole,
)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return install(tmp_path, monkeypatch)


def shadow_of(root: Path) -> list[Any]:
    return [read_record(body).shadow for body in records(root).values()]


def test_a_pack_in_shadow_decides_nothing_and_its_difference_is_recorded(tmp_path: Path, house: Path) -> None:
    root = tmp_path / "home"
    with inside(root, text_of(shadow=["house"])) as gateway:
        answer = gateway.chat(chat("cheap"))
        assert answer.status == 200
        assert answer.headers["allod-deployment"] == "cheap"
        gateway.chat(chat("home"))
        gateway.chat(chat("brief"))
        assert gateway.chat(chat("far")).headers["allod-deployment"] == "far"
        rows = gateway.world
    seen = {tuple(one.deployment for one in s.excluded): s for s in shadow_of(root)}
    assert seen[("cheap",)].outcome == "refused"
    assert seen[("cheap",)].changed
    assert seen[()].outcome == "served"  # home is audited
    assert {one.deployment for one in rows.rows()} <= {"cheap", "home", "far"}
    assert {one.rules for s in seen.values() for one in s.excluded} == {("house.audited",)}
    result = command(root, "shadow", "--json")
    report = json.loads(result.output)
    assert report["totals"]["shadowed"] == 4
    assert report["totals"]["refused"] == 3
    assert report["totals"]["same"] == 1
    assert all(line["rules"] == ["house.audited"] for line in report["lines"])
    assert "house: press, public" in command(root, "shadow").output


def test_equal_decisions_share_a_record_and_a_shadow_costs_a_remembered_one_nothing(
    tmp_path: Path, house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, calls = tmp_path / "home", []
    real = compose.Shadow.compare

    def counted(self: Any, *args: Any) -> Any:
        calls.append(1)
        return real(self, *args)

    monkeypatch.setattr(compose.Shadow, "compare", counted)
    with inside(root, text_of(shadow=["house"])) as gateway:
        gateway.chat(chat("home"))
        made = len(calls)
        for _ in range(20):
            assert gateway.chat(chat("home", "hello again")).status == 200
        later = len(calls)
    kinds = {
        (r.asked["app"], *sorted(map(str, r.flags.items()))) for r in map(read_record, records(root).values())
    }
    assert made == 1
    assert later - made <= 3  # a new picture of latencies is another question
    assert len(records(root)) <= 1 + later
    assert len(kinds) == 1
    assert json.loads(command(root, "shadow", "--json").output)["totals"]["shadowed"] == 21


@pytest.mark.parametrize("fault", [RuntimeError("secret text"), Invalid("a fault of ours"), RecursionError()])
def test_I1_a_shadow_that_fails_changes_nothing_and_is_recorded_as_an_error(
    tmp_path: Path, house: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    root, real = tmp_path / "home", Policy.eligible

    def eligible(self: Policy, asked: Any) -> Any:
        if "house" in self.fleet.tenant.packs:
            raise fault
        return real(self, asked)

    monkeypatch.setattr(Policy, "eligible", eligible)
    with inside(root, text_of(shadow=["house"])) as gateway:
        assert gateway.chat(chat("auto")).status == 200
        assert gateway.chat(chat("far"), app="ward").status == 403
    monkeypatch.undo()
    assert {s.error for s in shadow_of(root)} == {
        "Invalid: a fault of ours" if isinstance(fault, Invalid) else type(fault).__name__
    }
    assert b"secret" not in b"".join(records(root).values())
    assert all(holds(record) for record in records(root).values())
    report = json.loads(command(root, "shadow", "--json").output)
    assert report["totals"]["failed"] == 2
    assert report["totals"]["differing"] == 0
    assert sum(one["requests"] for one in report["faults"]) == 2


def test_I8_a_shadow_is_replayed_with_the_health_there_was(tmp_path: Path, house: Path) -> None:
    """What the shadow leaves has no credential: the request would have found nothing up."""
    facts = {"api_key_env": "ALLOD_NO_SUCH_KEY", "attestations": {"iso27001": True}}
    keyless = deployment("keyless", "m", base_url="http://127.0.0.1:1/v1", **facts)
    root = tmp_path / "home"
    with inside(root, config([DEPLOYMENTS[1], keyless], tenant={"shadow": ["house"]})) as gateway:
        assert gateway.chat(chat("auto")).headers["allod-deployment"] == "cheap"
    (seen,) = shadow_of(root)
    assert (seen.outcome, seen.first, seen.changed) == ("down", None, True)
    whole(simulated(root, "--check"), 1)
    assert changes(simulated(root, "--pack", "house")) == {"down": 1}


def test_packs_that_do_not_fit_together_stay_in_the_shadow_as_an_error(tmp_path: Path, house: Path) -> None:
    root = tmp_path / "home"
    with inside(root, text_of(packs=["base", "house"], shadow=["twin"])) as gateway:
        assert gateway.chat(chat("home")).status == 200
    (error,) = [s.error for s in shadow_of(root)]
    assert error.startswith("Invalid: ")
    assert "house.audited" in error  # a rule id of the other pack


def test_a_shadow_too_large_for_its_record_is_left_out(
    tmp_path: Path, house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decide, "MAX_RECORD_BYTES", 3000)
    root = tmp_path / "home"
    with inside(root, text_of(shadow=["house"])) as gateway:
        assert gateway.chat(chat("auto")).status == 200
    assert [s.error for s in shadow_of(root)] == [decide.TOO_LARGE]


def test_an_unknown_pack_in_shadow_fails_the_start(tmp_path: Path) -> None:
    with (
        pytest.raises(Invalid, match=r"tenant.shadow names pack 'hous'"),
        inside(tmp_path / "home", text_of(shadow=["hous"])),
    ):
        pass


def test_the_shadow_of_a_pack_is_its_simulation(tmp_path: Path, house: Path) -> None:
    """What the shadow said live is what the simulation of the pack says afterwards."""
    root = tmp_path / "home"
    with inside(root, text_of(shadow=["house"])) as gateway:
        traffic(gateway)
    live = json.loads(command(root, "shadow", "--json").output)["totals"]
    later = changes(simulated(root, "--pack", "house"))
    assert live["refused"] == later["denied"]
    assert live["changed"] == later["denied"] + later.get("choice", 0) + later.get("down", 0)
    assert live["same"] == later["same"]
