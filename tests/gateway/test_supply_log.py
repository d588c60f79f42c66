"""A supply that was altered or put back: it contradicts itself, or the log, and nothing starts with it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from supply_world import (
    NOW_MS,
    Publisher,
    catalogue,
    pack,
    pieces,
    price_book,
    revocations,
)
from world import Inside, World, config, deployment

from allod.domain.errors import Integrity
from allod.gateway import compose, supply
from allod.receipts.canonical import canonical
from allod.store.store import Store
from allod.vault.bundle import trust
from allod.vault.bundle.supply import Supply, digest_of

BAD = "sha256:" + "c" * 64
VERSION = "0.1.0"
LOOSE = 'context.classes.contains("phi")'


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    return Publisher(tmp_path_factory.mktemp("publisher"))


@pytest.fixture(scope="module")
def first(publisher: Publisher) -> Path:
    return publisher.bundle(
        pack(on="personal"),
        price_book("3"),
        pieces.text("catalogue", "models", "1", catalogue()),
        pieces.text("revocations", "list", "1", revocations(BAD)),
    )


@pytest.fixture(scope="module")
def second(publisher: Publisher, first: Path) -> Path:
    return publisher.bundle(pack(version="2.0.0", on="personal"), price_book("7"))


def text(**tenant: Any) -> str:
    """Write a configuration with a deployment that the bundle's book prices."""
    rows = [
        deployment("here", "answer", price={"input_usd_mtok": 1, "output_usd_mtok": 2}),
        deployment("acme", "large", lawful=False, price={"book": "acme/large"}),
    ]
    return config(rows, tenant=tenant or None)


@pytest.fixture
def home(tmp_path: Path, publisher: Publisher) -> World:
    made = World(tmp_path / "home", text())
    made.key("press")
    trust.keep(Supply(made.root).trust, publisher.publisher.keyring(proof=False))
    return made


def now() -> int:
    return NOW_MS + 5_000


def bring(home: World, bundle: Path) -> Any:
    os.environ["ALLOD_HOME"] = str(home.root)
    try:
        return supply.bring(home.paths, bundle, now_ms=now(), version=VERSION)
    finally:
        del os.environ["ALLOD_HOME"]


def setting(home: World) -> compose.Setting:
    os.environ["ALLOD_HOME"] = str(home.root)
    try:
        return compose.setting()
    finally:
        del os.environ["ALLOD_HOME"]


def notices(home: World, subject: str) -> list[dict[str, Any]]:
    store = Store.open(home.paths)
    try:
        store.flush()
        leaves = [json.loads(store.reader.leaf(n) or b"{}") for n in range(store.reader.size())]
    finally:
        store.close()
    return [leaf for leaf in leaves if leaf.get("kind") == "notice" and leaf["subject"] == subject]


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
