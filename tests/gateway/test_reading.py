"""What a person reads on a screen, within the width there is; a home that is named by half a path."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from world import World, chat, config, deployment

from allod.gateway.cli.lines import NARROWEST, WIDEST, folded, width

EXAMPLES = Path(__file__).parents[2] / "examples/organisations"


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A home with a pack of its own that nobody has signed yet."""
    root = tmp_path_factory.mktemp("clinic") / "home"
    world = World(root, (EXAMPLES / "hospital/allod.toml").read_text(), {"COLUMNS": "100"})
    shutil.copytree(EXAMPLES / "hospital/pack", root / "packs/house-hospital")
    return world


def test_every_pack_is_readable_at_a_hundred_columns(clinic: World) -> None:
    listed = clinic.here("policy", "show", "--json")
    names = [pack["id"] for pack in json.loads(listed.stdout)["packs"]]
    shown = clinic.here("policy", "show", *names)
    assert shown.returncode == 0, shown
    assert [line for line in shown.stdout.splitlines() if len(line) > 100] == []
    for name in names:
        assert f"\n{name} " in "\n" + shown.stdout


def test_the_list_says_what_decides_here(clinic: World) -> None:
    listed = clinic.here("policy", "show")
    assert listed.returncode == 0, listed
    here = {line.split()[0]: line.split()[2] for line in listed.stdout.splitlines() if " 1.0.0 " in line}
    assert here["house-hospital"] == here["eu-gdpr"] == "decides"
    assert here["eu-dora"] == "-"


@pytest.mark.parametrize("verb", ["show", "lint", "test"])
def test_a_pack_of_the_home_is_found_by_its_id(clinic: World, verb: str) -> None:
    found = clinic.here("policy", verb, "house-hospital")
    assert found.returncode == 0, found
    assert "house-hospital" in found.stdout


def test_a_pack_of_the_home_that_is_none_is_named_and_the_others_are_listed(tmp_path: Path) -> None:
    world = World(tmp_path / "home", config([deployment("sound", "answer")]))
    (world.root / "packs/half").mkdir(parents=True)
    listed = world.here("policy", "show")
    assert listed.returncode == 0, listed
    assert "eu-gdpr" in listed.stdout
    assert "half" in listed.stdout
    assert "cannot be read" in listed.stdout
    linted = world.here("policy", "lint")
    assert linted.returncode != 0
    assert "half" in linted.stdout + linted.stderr


def test_without_a_home_packs_are_shown_all_the_same(tmp_path: Path) -> None:
    world = World(tmp_path / "home", config([deployment("sound", "answer")]))
    world.environ["ALLOD_HOME"] = str(tmp_path / "nowhere")
    listed = world.here("policy", "show")
    assert listed.returncode == 0, listed
    assert "decides" not in listed.stdout


def test_the_doctor_judges_every_pack_in_force_the_homes_own_too(clinic: World) -> None:
    made = clinic.here("policy", "key", "alice", "--json")
    text = clinic.paths.config.read_text()
    clinic.write(
        text + f'\n[[signer]]\nid = "alice"\nrole = "author"\nkey = "{json.loads(made.stdout)["key"]}"\n'
    )
    assert (
        clinic.here("policy", "sign", str(clinic.root / "packs/house-hospital"), "--by", "alice").returncode
        == 0
    )
    looked = json.loads(clinic.here("doctor", "--json").stdout)
    found = {f["name"]: f["state"] for f in looked["findings"] if f["name"].startswith("pack")}
    assert found == {f"pack {name}": "note" for name in ("base", "eu-gdpr", "eu-ai-act", "house-hospital")}


def test_a_word_longer_than_the_line_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert folded("  got  ", "x" * 80 + " end") == ["  got  " + "x" * 80, "       end"]
    assert folded("  got  ", "") == ["  got"]


@pytest.mark.parametrize(
    ("columns", "expected"), [("20", NARROWEST), ("90", 90), ("400", WIDEST), ("x", 100)]
)
def test_the_width_has_bounds(monkeypatch: pytest.MonkeyPatch, columns: str, expected: int) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert width() == expected


def test_the_embedded_engine_loads_in_a_home_named_by_half_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's child does not run in the folder its parent was started in."""
    world = World(tmp_path / "home", (EXAMPLES.parent / "hospital/allod.toml").read_text())
    world.environ["ALLOD_HOME"] = "home"
    monkeypatch.chdir(tmp_path)
    with world.up("triage") as up:
        answer = up.chat(chat("extract", "Extract the ward as JSON: ward 3."), app="triage", timeout=100)
        assert answer.status == 200, answer
        assert answer.headers["allod-deployment"] == "ward-llm"
