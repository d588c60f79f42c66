"""A supply that was altered or put back: it contradicts itself, or the log, and nothing starts with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from supply_world import (
    Publisher,
    price_book,
)
from world import Inside, World

from allod.domain.errors import Integrity
from allod.receipts.canonical import canonical
from allod.vault.bundle.supply import Supply, digest_of
from gateway.supplies import bring, first_of, home_at, second_of, setting


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    return Publisher(tmp_path_factory.mktemp("publisher"))


@pytest.fixture(scope="module")
def first(publisher: Publisher) -> Path:
    return first_of(publisher)


@pytest.fixture(scope="module")
def second(publisher: Publisher, first: Path) -> Path:
    return second_of(publisher)


@pytest.fixture
def home(tmp_path: Path, publisher: Publisher) -> World:
    return home_at(tmp_path / "home", publisher)


def spoil(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.chmod(0o600)
    path.write_bytes(change(path.read_bytes()))


def _object(home: World, kind: str) -> Path:
    held = Supply(home.root)
    found = held.serving()
    assert found is not None
    (item,) = [item for item in found.items if item.kind == kind]
    return held.object_path(max(item.files, key=lambda file: file.size_bytes).digest)


@pytest.mark.parametrize("kind", ["pack", "prices", "catalogue", "revocations"])
def test_a_changed_file_of_the_supply_refuses_the_start(home: World, first: Path, kind: str) -> None:
    bring(home, first)
    setting(home)
    spoil(_object(home, kind), lambda raw: raw.replace(b"3", b"0").replace(b"a", b"e"))
    with pytest.raises(Integrity, match="not what was imported"):
        setting(home)
    _object(home, kind).unlink()
    with pytest.raises(Integrity, match="not what was imported"):
        setting(home)


def older(home: World, *names: str) -> Callable[[], None]:
    """Remember files of the supply; returns what puts their bytes of now back."""
    kept = {name: (home.root / "supply" / name).read_bytes() for name in names}

    def back() -> None:
        for name, raw in kept.items():
            (home.root / "supply" / name).write_bytes(raw)

    return back


@pytest.mark.parametrize("names", [("current",), ("state.json",)], ids=lambda names: names[0])
def test_older_bytes_in_current_or_state_contradict_each_other(
    home: World, first: Path, second: Path, publisher: Publisher, names: tuple[str, ...]
) -> None:
    bring(home, first)
    back = older(home, *names)
    bring(home, second)
    bring(home, publisher.bundle(price_book("9"), channel="late"))
    back()
    with pytest.raises(Integrity, match="not what was imported"):
        setting(home)


def test_an_older_supply_as_a_whole_contradicts_the_log(home: World, first: Path, second: Path) -> None:
    bring(home, first)
    kept = home.root.parent / "kept"
    shutil.copytree(home.root / "supply", kept)
    bring(home, second)
    with Inside(home):
        pass
    shutil.rmtree(home.root / "supply")
    shutil.copytree(kept, home.root / "supply")
    setting(home)  # alone it is whole: only the log knows better
    with pytest.raises(Integrity, match="the log knows an import"), Inside(home):
        pass
    with pytest.raises(Integrity, match="the log knows an import"):
        bring(home, second)
    shutil.rmtree(home.root / "supply")
    with pytest.raises(Integrity, match="the log knows an import"), Inside(home):
        pass


def test_another_supply_under_the_same_number_contradicts_the_log(
    home: World, first: Path, publisher: Publisher
) -> None:
    kept = home.root.parent / "kept"
    shutil.copytree(home.root / "supply", kept)
    bring(home, first)
    with Inside(home):
        pass
    shutil.rmtree(home.root / "supply")
    shutil.copytree(kept, home.root / "supply")
    config_file = home.paths.config.read_text()
    home.paths.config.unlink()  # so that the import does not look into the log
    bring(home, publisher.bundle(price_book("1"), channel="forged"))
    home.paths.config.write_text(config_file)
    with pytest.raises(Integrity, match="another than the log knows"), Inside(home):
        pass


def test_current_rewritten_to_name_a_generation_of_an_enemy(home: World, first: Path) -> None:
    bring(home, first)
    held = Supply(home.root)
    found = json.loads(held.generation_path(1).read_bytes())
    found["items"] = []
    raw = canonical(found)
    held.generation_path(1).chmod(0o600)
    held.generation_path(1).write_bytes(raw)
    with pytest.raises(Integrity):
        setting(home)
    (home.root / "supply" / "current").write_bytes(
        canonical({"format": "allod-supply-1", "serial": 1, "digest": digest_of(raw)})
    )
    with pytest.raises(Integrity):
        setting(home)
    state = json.loads((home.root / "supply" / "state.json").read_bytes())
    (home.root / "supply" / "state.json").write_bytes(canonical({**state, "digest": digest_of(raw)}))
    with pytest.raises(Integrity, match="another than the log knows"), Inside(home):
        pass
