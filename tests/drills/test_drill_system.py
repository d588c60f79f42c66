"""Drills over what real gateways recorded, through the command line."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from world import FOREIGN, Inside, World, chat, config, deployment

from allod.gateway.cli import program

PENDING = {
    **FOREIGN, "operator": "second", "on_premises": False, "inspectable": True, "approved": False,
    "records_auditable": {"value": True, "grade": "attested"},
    "quality": {"default": 0.8},
}  # fmt: skip
DEPLOYMENTS = (
    deployment("home", "answer", quality={"default": 0.5, "extract": 0.95}, chip="NVIDIA", max_concurrent=4),
    deployment("near", "echo", quality={"default": 0.7}, operator="second", on_premises=False, chip="AMD",
               records_auditable={"value": True, "grade": "attested"},
               inspectable={"value": True, "grade": "attested"}),
    deployment("far", "answer", lawful=False),
    {"id": "pending", "engine": "scripted", "model": "answer", "takes": ["text", "tools"], **PENDING,
     "inspectable": {"value": True, "grade": "attested"}},
)  # fmt: skip
OPERATORS = (
    {"id": "self", "own": True, "seat": "DE", "controlled_from": ["DE"], "compelled_by": []},
    {"id": "second", "seat": "FI", "controlled_from": ["FI"], "compelled_by": []},
    {"id": "us-cloud", "seat": "IE", "controlled_from": ["US"], "compelled_by": ["US-CLOUD-ACT"]},
)
TASKS = ({"name": "extract", "min_quality": 0.9}, {"name": "brief", "min_quality": 0.65})
APPS = ({"id": "ward", "classes": ["phi"], "critical": True}, {"id": "press", "classes": ["public"]})
TEXT = config(DEPLOYMENTS, tasks=TASKS, apps=APPS, operators=OPERATORS)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which a real gateway has answered."""
    root = tmp_path_factory.mktemp("drills") / "home"
    world = World(root, TEXT)
    for app in ("ward", "press"):
        world.key(app)
    with Inside(world) as gateway:
        for app in ("ward", "press"):
            for model in ("auto", "extract", "brief", "home", "near"):
                for _ in range(2):
                    assert gateway.chat(chat(model), app=app).status in {200, 403}
    return root


@pytest.fixture
def home(recorded: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(recorded, tmp_path / "home"))


def run(root: Path, *args: str) -> Result:
    return CliRunner().invoke(program, ["drill", *args], env={"ALLOD_HOME": str(root)})


def drilled(root: Path, *args: str, code: int = 0) -> dict[str, Any]:
    result = run(root, *args, "--json")
    assert result.exit_code == code, (result.exit_code, result.exception, result.output)
    found: dict[str, Any] = json.loads(result.output)
    return found


def test_I8_the_empty_world_is_what_was_recorded_record_by_record(home: Path) -> None:
    found = drilled(home, "run", "empty")
    assert found["held"] == found["decisions"] > 0
    assert found["requests"] == 20
    assert found["left"] == []
    drill = found["drill"]
    assert (drill["uncovered"], drill["moved"], drill["nothing"]) == (0, 0, True)
    assert drill["replayed"] == found["requests"]
    simulated = CliRunner().invoke(
        program, ["policy", "simulate", "--check", "--json"], env={"ALLOD_HOME": str(home)}
    )
    told = json.loads(simulated.output)  # the same records, written again byte for byte by the simulation
    assert (told["checked"], told["unequal"]) == (found["decisions"], [])


def test_what_an_operator_took_with_it_is_named_with_reasons_and_receipts(home: Path) -> None:
    found = drilled(home, "run", "operator=second")
    drill = found["drill"]
    lines = {(line["app"], line["task"]): line for line in drill["lines"]}
    ward = lines["ward", "brief"]
    assert (ward["uncovered"], ward["whole"], ward["critical"]) == (2, True, True)
    reasons = dict(ward["reasons"])
    assert {"world.removed", "quality.floor", "residency.5-operator", "base.approved"} <= set(reasons)
    assert all(receipt.startswith("r_") for receipt in ward["receipts"])
    assert lines["ward", "extract"]["uncovered"] == 0
    press = lines["press", "brief"]
    assert press["uncovered"] == 0  # the region is lawful for what is public
    assert {"near", "pending"} == set(drill["gone"])


def test_a_remedy_restores_because_it_was_decided_again(home: Path) -> None:
    """Losing ``near``: approving ``pending`` brings the work back, and nothing says so but a decision."""
    found = drilled(home, "run", "deployment=near")["restoration"]
    assert found["uncovered"] > 0
    tried = {one["remedies"][0]: one for one in found["tried"]}
    assert tried["approve-pending"]["serving"][0][0] == "pending"
    assert tried["unpin"]["requests"] > 0  # two requests of each app name the deployment
    assert set(found["cheapest"]["remedies"]) == {"approve-pending", "unpin"}
    assert found["cheapest"]["requests"] == found["uncovered"]
    assert found["cheapest"]["assumed"] is True
    lost = drilled(home, "run", "operator=second")["restoration"]
    assert "pending" not in json.dumps([one["serving"] for one in lost["tried"]])


def test_the_organisations_own_remedies_are_tried_with_their_terms(home: Path) -> None:
    term = 'low = 1\nhigh = 2\nas_of = 2026-01-01\nsource = "us"\n'
    (home / "drills.toml").write_text(
        '[[remedy]]\nid = "second-site"\nkind = "rent"\ntitle = "A second site"\n'
        + "".join(f"[remedy.{name}]\n{term}" for name in ("hours", "cost_usd", "month_usd"))
        + '[[remedy.deployment]]\nid = "site"\nengine = "scripted"\nmodel = "answer"\noperator = "self"\n'
        'processing = "DE"\nat_rest = ["DE"]\ntransit = ["DE"]\non_premises = true\n'
        'records_auditable = true\ninspectable = true\nprice = "free"\nchip = "AMD"\n'
        "quality = { default = 0.92 }\n"
    )
    found = drilled(home, "run", "deployment=near+deployment=home")["restoration"]
    tried = {one["remedies"][0]: one for one in found["tried"]}
    assert tried["second-site"]["serving"][0][0] == "site"
    assert tried["second-site"]["assumed"] is False
    assert tried["second-site"]["hours"]["high"] == 2
    assert "second-site" in found["fastest"]["remedies"]
    gone = drilled(home, "run", "deployment=near+deployment=home+supply=AMD")["restoration"]
    assert "second-site" not in json.dumps(gone)  # nothing with such chips is delivered there


def test_link_and_law_are_asked_of_the_production_policy(home: Path) -> None:
    down = drilled(home, "run", "link")["drill"]
    assert down["gone"] == {}
    reasons = {rule for line in down["lines"] for rule, _ in line["reasons"]}
    assert "airgap" in reasons
    moved = {(one["from"], one["to"]) for one in down["moves"]}
    assert all(to == "home" for _, to in moved)


def test_dearer_prices_move_the_money_and_say_so(home: Path) -> None:
    plain = drilled(home, "run", "empty")["drill"]["cost_month_before_usd"]["value"]
    found = drilled(home, "run", "price=3")["drill"]
    assert found["uncovered"] == 0
    assert found["cost_change_month_usd"]["value"] > 0
    assert found["cost_month_before_usd"]["value"] == pytest.approx(plain)
    low, high = (found["cost_change_month_usd"][end] for end in ("low", "high"))
    assert low <= found["cost_change_month_usd"]["value"] <= high


def test_a_world_that_removes_everything_and_one_that_removes_nothing(home: Path) -> None:
    everything = drilled(home, "run", "engine=*")["drill"]
    assert everything["uncovered"] == everything["served"] > 0
    assert everything["quality_lost"] is None
    result = run(home, "run", "engine=*")
    assert "Nothing is served any more" in result.output
    nothing = run(home, "run", "operator=nobody-at-all")
    assert nothing.exit_code == 0
    assert "takes nothing away from this fleet" in nothing.output
    assert "nobody-at-all" in nothing.output


def test_the_exit_test_cites_the_log_and_the_records(home: Path, tmp_path: Path) -> None:
    result = run(home, "run", "operator=second", "--dora", str(tmp_path / "exit"))
    assert result.exit_code == 0, result.output
    made = json.loads((tmp_path / "exit.json").read_text())
    assert made["format"] == "allod-exit-test-1"
    checkpoint = (home / "log" / "checkpoint").read_text()
    assert made["log"]["checkpoint"] == checkpoint
    assert made["log"]["size"] == int(checkpoint.splitlines()[1])
    assert made["records_digest"].startswith("sha256:")
    assert made["configurations"] and made["packs"]  # noqa: PT018 (both are lists)
    assert any(one["critical"] and one["uncovered"] for one in made["functions"])
    assert any("28(8)" in law for law in made["law"])
    text = (tmp_path / "exit.md").read_text()
    import hashlib

    assert hashlib.sha256((tmp_path / "exit.json").read_bytes()).hexdigest() in text
    assert made["conclusion"] in text


def test_generated_requests_are_marked_and_cite_no_log(home: Path, tmp_path: Path) -> None:
    found = drilled(home, "run", "operator=second", "--generate", "1000", "--dora", str(tmp_path / "x"))
    assert found["generated"] is True
    assert found["requests"] == 1000
    made = json.loads((tmp_path / "x.json").read_text())
    assert (made["generated"], made["log"]) == (True, None)
    assert drilled(home, "run", "operator=second", "--generate", "1000") == found
    (home / "drills.toml").write_text("[generate]\napps = { ward = 0 }\n")
    apps = {line["app"] for line in drilled(home, "run", "empty", "--generate", "1000")["drill"]["lines"]}
    assert apps == {"press"}
    for bad in ("0", "-5", "99999999999"):
        assert run(home, "run", "empty", "--generate", bad).exit_code != 0


def test_everything_is_singles_and_pairs_and_a_table_for_a_spreadsheet(home: Path, tmp_path: Path) -> None:
    found = drilled(home, "all", "--csv", str(tmp_path / "all.csv"), "--html", str(tmp_path / "all.html"))
    worlds = {row["world"] for row in found["rows"]} | {n for row in found["rows"] for n in row["same_as"]}
    assert {"operator=second", "operator=self", "link", "chip=NVIDIA", "region=DE"} <= worlds
    shares = {row["world"]: row["share"] for row in found["rows"]}
    count = min(len(found["rows"]), 10)
    assert len(found["pairs"]) == count * (count - 1) // 2
    for pair in found["pairs"]:
        assert pair["share"] >= max(shares[pair["first"]], shares[pair["second"]]) - 1e-12
    lines = (tmp_path / "all.csv").read_text().splitlines()
    assert len(lines) == 1 + len(found["rows"]) + len(found["pairs"])
    page = (tmp_path / "all.html").read_text()
    assert "<svg" in page
    assert "<script" not in page


def test_odds_signs_and_a_year(home: Path) -> None:
    found = drilled(home, "expected", "--draws", "1000")
    assert found["expected"]["draws"] == 1000
    assert any("ascend-parity" in one["names"] for one in found["contradictions"])
    ticked = drilled(home, "tick", "forced-alignment/taiwan", "--day", "2026-11-02", "--note", 'a "paper"')
    assert ticked["ticks"] == [{"sign": "forced-alignment/taiwan", "day": "2026-11-02", "note": 'a "paper"'}]
    assert "2026-11-02" in (home / "drills" / "ticks.toml").read_text()
    assert drilled(home, "expected", "--draws", "1000")["ticks"] == ticked["ticks"]
    assert drilled(home, "tick", "forced-alignment/taiwan", "--off")["ticks"] == []
    wrong = run(home, "tick", "forced-alignment/taiwann")
    assert "did you mean 'forced-alignment/taiwan'?" in str(wrong.exception)


def test_check_names_what_is_wrong(home: Path) -> None:
    found = drilled(home, "check")
    assert any("hardware-sovereignty" in one["names"] for one in found["contradictions"])
    assert run(home, "check", "--strict").exit_code == 1
    (home / "drills.toml").write_text("[scenario.third-path]\nprobability = 0.25\n")
    assert "do not sum to one" in str(run(home, "check").exception)
    (home / "drills.toml").write_text('[risk.ascend-parity]\nworlds = ["nowhere"]\n')
    assert "no world 'nowhere'" in str(run(home, "check").exception)
    (home / "drills.toml").write_text('[[remedy]]\nid = "x"\nkind = "approve"\napprove = ["pendign"]\n')
    assert "pendign" in str(run(home, "check").exception)


def test_worlds_of_the_home_stand_beside_the_shipped_ones(home: Path) -> None:
    (home / "drills" / "worlds").mkdir(parents=True)
    (home / "drills" / "worlds" / "flood.toml").write_text(
        'title = "The basement is under water"\ninclude = ["us-operators"]\n[lose]\ndeployments = ["home"]\n'
    )
    assert "flood" in drilled(home, "worlds")
    found = drilled(home, "run", "flood")["drill"]
    assert {"home", "far"} <= set(found["gone"])
    path = home / "drills" / "worlds" / "flood.toml"
    both = drilled(home, "run", f"{path}+operator=second")["drill"]
    assert {"home", "far", "near", "pending"} == set(both["gone"])
    path.write_text("[lose]\noperaters = ['x']\n")
    assert "did you mean 'operators'?" in run(home, "run", "flood").exception.explain()  # type: ignore[union-attr]
    assert run(home, "run", str(home / "none.toml")).exit_code != 0


def test_concentration_of_what_was_recorded(home: Path) -> None:
    axes = {(one["axis"], one["weight"]): one for one in drilled(home, "concentration")["axes"]}
    one = axes["operator", "traffic"]
    assert sum(share["share"] for share in one["shares"]) == pytest.approx(1)
    assert axes["chip", "critical"]["requests"] < axes["chip", "traffic"]["requests"]


def test_a_damaged_record_is_left_out_and_told(home: Path) -> None:
    with contextlib.closing(sqlite3.connect(home / "allod.sqlite")) as link, link:
        first = "(SELECT min(digest) FROM decision_record)"
        link.execute(f"UPDATE decision_record SET body = substr(body, 1, 100) WHERE digest = {first}")
    found = drilled(home, "run", "operator=second", code=3)
    assert found["damaged"] == 1
    assert found["left"][0]["requests"] >= 1
    assert found["drill"]["replayed"] + sum(one["requests"] for one in found["left"]) == found["requests"]


def test_a_fleet_that_was_not_kept_is_counted_and_left_out(home: Path) -> None:
    with contextlib.closing(sqlite3.connect(home / "allod.sqlite")) as link, link:
        link.execute("DELETE FROM configuration")
    (home / "allod.toml").write_text(TEXT.replace("0.65", "0.66"))
    found = drilled(home, "run", "operator=second")
    assert found["drill"]["replayed"] == 0
    assert "not kept" in found["left"][0]["reason"]
