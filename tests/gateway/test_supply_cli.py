"""The whole way as people type it: a publisher's home, a stick, a home without a network, a receipt back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from supply_world import catalogue, prices
from world import Inside, World, chat, config, deployment

from allod.domain.errors import AllodError, Integrity, Refused
from allod.gateway.cli.bundle import command
from allod.store.home import load_keys
from allod.vault.bundle import switch
from allod.vault.bundle.supply import Supply
from allod.vault.vault import shipped_folder


def typed(home: Path, *words: object) -> Any:
    """Type ``allod bundle ... --json`` and return what it prints; an error comes as it is."""
    done = CliRunner().invoke(command, [*map(str, words), "--json"], env={"ALLOD_HOME": str(home)})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return json.loads(done.stdout)


def said(home: Path, *words: object) -> str:
    """Type a command for a person to read."""
    done = CliRunner().invoke(command, list(map(str, words)), env={"ALLOD_HOME": str(home)})
    assert done.exception is None, done.exception
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A publisher's home with keys and a root."""
    home = World(tmp_path_factory.mktemp("source") / "home", config([deployment("d", "answer")]))
    typed(home.root, "keys", "init")
    return home.root


@pytest.fixture(scope="module")
def stick(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a proof of the publisher's log."""
    folder = tmp_path_factory.mktemp("stick")
    (folder / "prices.json").write_bytes(prices("3", as_of="2026-11-01"))
    (folder / "catalogue.json").write_bytes(catalogue())
    program = folder / "program"
    program.mkdir()
    (program / "allod-9.9.9-py3-none-any.whl").write_bytes(b"PK")
    (program / "all.lock").write_text(f"allod==9.9.9 --hash=sha256:{'0' * 64}\n")
    made = typed(
        source, "create", folder / "b.tar", "--prices", folder / "prices.json", "--catalogue",
        folder / "catalogue.json", "--program", program,
    )  # fmt: skip
    assert made["logged"]
    return folder / "b.tar"


@pytest.fixture
def site(tmp_path: Path, source: Path) -> World:
    rows = [deployment("acme", "answer", price={"book": "acme/large"})]
    home = World(tmp_path / "site", config(rows, tenant={"air_gapped": True}))
    home.key("press")
    file = tmp_path / "trust.toml"
    file.write_text(said(source, "keys", "show", "--trust"))
    shown = typed(home.root, "trust", "--from", file)
    assert len(shown["signers"]) == 1
    return home


def test_from_the_publisher_to_the_site_and_back(
    source: Path, stick: Path, site: World, tmp_path: Path
) -> None:
    assert "no bundle was imported" in said(site.root, "status")
    back = tmp_path / "back.json"
    done = typed(site.root, "import", stick, "--receipt", back)
    assert done["logged"]
    assert [item["kind"] for item in done["items"]] == ["catalogue", "prices", "program"]
    assert {step["name"] for step in done["steps"]} >= {"envelope", "update metadata", "log proof", "number"}
    (install,) = done["programs"]
    assert "--no-index --require-hashes" in install
    folder = install.split("--find-links ")[1].split(" ")[0]
    assert (Path(folder) / "allod-9.9.9-py3-none-any.whl").read_bytes() == b"PK"
    vkey = load_keys(site.paths).signer.key.vkey()
    checked = typed(source, "receipt", "verify", back, "--key", vkey, "--bundle", stick)
    assert checked["ok"]
    assert typed(site.root, "receipt", "show")["receipt"]["bundle"] == done["bundle"]
    status = typed(site.root, "status")
    assert (status["serial"], status["settled"], status["under_way"]) == (1, True, [])
    assert typed(site.root, "import", stick)["repeated"]
    assert "every file is what was imported" in said(site.root, "status")
    assert "already" in said(site.root, "import", stick)
    with Inside(site) as gateway:
        assert gateway.chat(chat("acme")).status == 200


def test_a_receipt_that_was_changed_on_the_way_is_no_receipt(
    source: Path, stick: Path, site: World, tmp_path: Path
) -> None:
    back = tmp_path / "back.json"
    typed(site.root, "import", stick, "--receipt", back)
    back.write_bytes(back.read_bytes().replace(b"payload", b"paylaod", 1))
    vkey = load_keys(site.paths).signer.key.vkey()
    words = ["receipt", "verify", str(back), "--key", vkey]
    done = CliRunner().invoke(command, words, env={"ALLOD_HOME": str(source)})
    assert done.exit_code == 3
    assert "FAIL" in done.stdout


def test_a_home_that_trusts_nobody_is_told_how_to(tmp_path: Path, stick: Path) -> None:
    home = World(tmp_path / "other", config([deployment("d", "answer")]))
    with pytest.raises(AllodError) as caught:
        typed(home.root, "import", stick)
    assert "allod bundle trust" in caught.value.remedy
    assert Supply(home.root).serving() is None


def test_trust_is_changed_one_thing_at_a_time(source: Path, site: World) -> None:
    shown = typed(source, "keys", "show")
    typed(site.root, "trust", "--key", f"second={'ab' * 32}", "--threshold", 2, "--channel", "stable")
    now = typed(site.root, "trust")
    assert (now["threshold"], now["channels"], now["root"]) == (2, ["stable"], shown["root"])
    assert max(one["name"] for one in now["signers"]) == "second"
    with pytest.raises(AllodError, match="cannot be used"):
        typed(site.root, "trust", "--remove", "second")
    typed(site.root, "trust", "--remove", "second", "--threshold", 1)
    assert len(typed(site.root, "trust")["signers"]) == 1
    with pytest.raises(AllodError, match="no signer"):
        typed(site.root, "trust", "--remove", "nobody")


def test_two_signers_are_needed_where_the_home_says_so(stick: Path, site: World) -> None:
    typed(site.root, "trust", "--key", f"second={'ab' * 32}", "--threshold", 2)
    with pytest.raises(Integrity):
        typed(site.root, "import", stick)


def test_a_channel_that_is_not_taken_is_refused(stick: Path, site: World) -> None:
    typed(site.root, "trust", "--channel", "other")
    with pytest.raises(Refused):
        typed(site.root, "import", stick)


def test_what_was_touched_shows_in_the_status(stick: Path, site: World) -> None:
    typed(site.root, "import", stick)
    held = Supply(site.root)
    found = held.serving()
    assert found is not None
    (item,) = [item for item in found.items if item.kind == "program"]
    path = held.object_path(item.files[0].digest)
    path.chmod(0o600)
    path.write_bytes(b"x" * item.files[0].size_bytes)
    with pytest.raises(Integrity, match="not what was imported"):
        typed(site.root, "status")


def test_an_import_under_way_shows_in_the_status(
    stick: Path, site: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "full")

    monkeypatch.setattr(switch, "place", full)
    with pytest.raises((AllodError, OSError)):
        typed(site.root, "import", stick)
    (one,) = typed(site.root, "status")["under_way"]
    assert one["bytes"] > 0
    assert "under way" in said(site.root, "status")


def test_going_back_is_typed_and_shown(stick: Path, site: World) -> None:
    typed(site.root, "import", stick)
    done = typed(site.root, "rollback")
    assert (done["serial"], done["items"]) == (2, [])
    assert typed(site.root, "status")["cause"] == "rollback"
    with pytest.raises(AllodError, match="nothing to return to"):
        typed(site.root, "rollback")


def test_a_model_travels_from_vault_to_vault(source: Path, site: World, tmp_path: Path) -> None:
    file = shipped_folder() / "reference-draft.gguf"
    from allod.store.home import Home
    from allod.vault.vault import Vault

    Vault(Home(source).vault).add(file, "carried")
    typed(source, "create", tmp_path / "m", "--model", "carried", "--channel", "models")
    typed(site.root, "import", tmp_path / "m")
    there = Vault(site.paths.vault)
    assert there.verify("carried").digest == Vault(Home(source).vault).find("carried").digest
