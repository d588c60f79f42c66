"""``allod doctor --air-gap``: what it shows, what breaks it, and that it claims no more."""

from __future__ import annotations

import json
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from world import World, config, deployment

from allod.gateway import gap_proof
from allod.gateway.gap_proof import Proof
from allod.gateway.gap_trial import APP, DECOYS, Said, trial_configuration
from allod.walls import namespace
from allod.walls.attempts import Attempt
from allod.walls.namespace import Count
from allod.walls.tracer import Watched

pytestmark = pytest.mark.timeout(300)
HOSPITAL = Path(__file__).resolve().parents[2] / "examples/hospital/allod.toml"


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    world = World(tmp_path_factory.mktemp("doctor") / "home", HOSPITAL.read_text())
    before = sorted(str(path) for path in world.root.rglob("*"))
    done = world.allod("doctor", "--air-gap", "--json", timeout=280)
    said = json.loads(done.stdout)
    said["exit"] = done.returncode
    said["left"] = sorted({str(path) for path in world.root.rglob("*")} - set(before))
    return said


def test_I6_doctor_shows_that_nothing_reaches_out(proof: dict[str, Any]) -> None:
    if namespace.possible():
        assert proof["outcome"] in ("partly", "not shown")
        pytest.skip(f"no network of its own here, so it shows no more than: {proof['outcome']}")
    if proof["outcome"] == "partly":
        pytest.skip(f"partly shown here: {proof['missing']}")
    assert (proof["outcome"], proof["exit"]) == ("shown", 0), proof
    assert proof["ways"] == 0
    assert "5 of 5" in proof["control"]
    meanings = {one["meaning"] for one in proof["seen"]}
    assert "loopback" in meanings
    assert not meanings & {"outside", "stranger", "resolver", "unreadable"}


def test_doctor_asks_everybody_and_the_decoys_are_refused(proof: dict[str, Any]) -> None:
    steps = {one["step"]: one["detail"] for one in proof["steps"]}
    assert steps["ask ward-llm"].startswith("status 200")
    assert steps["ask frankfurt-region"].startswith("status 403")
    for name in DECOYS:
        assert steps[f"ask {name}"].startswith("status 503"), steps
    assert steps["allod models pull owner/name model.gguf"] == "exit 4"
    assert steps["allod ask"] == "exit 0"
    assert steps["stop"] == "exit 0"


def test_doctor_changes_nothing_of_the_home(proof: dict[str, Any]) -> None:
    kept = [path for path in proof["left"] if "/log/" in path or path.endswith("entries")]
    assert not [path for path in kept if "journal/" in path], kept


# --- judging


def proved(
    tmp_path: Path, seen: Watched, *, calls: bool = True, kernel: bool = True, port: int = 4000
) -> Proof:
    from allod.gateway import compose

    text = config([deployment("d", "answer")], tenant={"allowed_addresses": ["10.0.0.1:443"]})
    World(tmp_path / "home", text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALLOD_HOME", str(tmp_path / "home"))
        setting = compose.setting(air_gap=True)
    accounts = gap_proof._Accounts(calls=calls, kernel=kernel, control="")
    steps = (Said(step="allod up --air-gap", detail="", port=port),)
    return gap_proof._judge(setting, accounts, seen, steps, [])


def watched(*attempts: Attempt, **more: Any) -> Watched:
    plain: dict[str, Any] = {"status": 0, "namespace": "", "trace": "", "count": Count()}
    return Watched(attempts=attempts, **{**plain, **more})


def to(host: str, port: int) -> Attempt:
    return Attempt(call="connect", program="p", pid=1, family=10 if ":" in host else 2, host=host, port=port)


def test_what_stays_on_loopback_is_shown(tmp_path: Path) -> None:
    assert proved(tmp_path, watched(to("127.0.0.1", 4000), to("::1", 4000))).outcome == "shown"


@pytest.mark.parametrize(
    "seen",
    [
        watched(to("192.0.2.1", 80)),
        watched(to("10.0.0.1", 80)),
        watched(to("127.0.0.53", 53)),
        watched(Attempt(call="socket", program="p", pid=1, family=17, kind=3)),
        watched(Attempt(call="connect", program="p", pid=1, family=-1)),
        watched(count=Count(1, 0)),
        watched(count=Count(0, 1)),
        watched(to("192.0.2.1", 80), namespace="no", count=None),
        watched(to("192.0.2.1", 80), status=None),
    ],
)
def test_I6_whatever_reaches_out_breaks_the_proof(tmp_path: Path, seen: Watched) -> None:
    assert proved(tmp_path, seen).outcome == "broken"


@pytest.mark.parametrize(
    ("seen", "more", "outcome"),
    [
        (watched(trace="no seccomp"), {}, "partly"),
        (watched(namespace="no namespace", count=None), {}, "partly"),
        (watched(), {"calls": False}, "partly"),
        (watched(), {"kernel": False}, "partly"),
        (watched(), {"calls": False, "kernel": False}, "not shown"),
        (watched(trace="no", namespace="no", count=None, status=None), {}, "not shown"),
        (watched(status=1), {}, "not shown"),
        (watched(status=None), {}, "not shown"),
        (watched(), {"port": 0}, "not shown"),
        (watched(lost=1), {}, "partly"),
    ],
)
def test_no_more_is_claimed_than_was_seen(
    tmp_path: Path, seen: Watched, more: dict[str, Any], outcome: str
) -> None:
    found = proved(tmp_path, seen, **more)
    assert found.outcome == outcome
    assert found.missing


def test_a_named_address_is_no_breach_and_is_said(tmp_path: Path) -> None:
    found = proved(tmp_path, watched(to("10.0.0.1", 443), count=Count(1, 0)))
    assert found.outcome == "shown"
    assert any("named" in one for one in found.missing)
    assert found.seen[0].meaning == "named"


def test_the_trials_configuration_is_the_homes_but_for_what_is_said() -> None:
    written = tomllib.loads(HOSPITAL.read_text(), parse_float=Decimal)
    text, changed = trial_configuration(written, 4000)
    again = tomllib.loads(text, parse_float=Decimal)
    assert not changed
    assert again["tenant"] == {**written["tenant"], "air_gapped": True}
    assert again["deployment"][: len(written["deployment"])] == written["deployment"]
    assert again["task"] == written["task"]
    assert {one["id"] for one in again["deployment"]} >= set(DECOYS)
    assert again["server"] == {"port": 4000}
    assert APP in {one["id"] for one in again["app"]}


def test_what_the_trial_cannot_take_along_is_said() -> None:
    written = tomllib.loads(HOSPITAL.read_text(), parse_float=Decimal)
    written["tenant"]["four_eyes"] = True
    written["deployment"][0] |= {"model": "sha256:" + "0" * 64, "adapter": "mine"}
    text, changed = trial_configuration(written, 4000)
    again = tomllib.loads(text, parse_float=Decimal)
    assert again["deployment"][0]["model"] == "reference"
    assert "adapter" not in again["deployment"][0]
    assert "four_eyes" not in again["tenant"]
    assert len(changed) == 2


def test_a_proof_is_plain_data(tmp_path: Path) -> None:
    found = proved(tmp_path, watched(to("127.0.0.1", 4000)))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Proof) == found
