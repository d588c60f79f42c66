"""A home that believes a publisher, and what its bundles bring, for tests of what a gateway does with it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from supply_world import NOW_MS, Publisher, catalogue, pack, pieces, price_book, revocations
from world import World, config, deployment

from allod.gateway import compose, supply
from allod.store.store import Store
from allod.vault.bundle import trust
from allod.vault.bundle.supply import Supply

BAD = "sha256:" + "c" * 64
VERSION = "0.1.0"
LOOSE = 'context.classes.contains("phi")'


def first_of(publisher: Publisher) -> Path:
    """Make a bundle of one of each."""
    return publisher.bundle(
        pack(on="personal"),
        price_book("3"),
        pieces.text("catalogue", "models", "1", catalogue()),
        pieces.text("revocations", "list", "1", revocations(BAD)),
    )


def second_of(publisher: Publisher) -> Path:
    """Make the next one: another pack, other prices."""
    return publisher.bundle(pack(version="2.0.0", on="personal"), price_book("7"))


def text(**tenant: Any) -> str:
    """Write a configuration with a deployment that the bundle's book prices."""
    rows = [
        deployment("here", "answer", price={"input_usd_mtok": 1, "output_usd_mtok": 2}),
        deployment("acme", "large", lawful=False, price={"book": "acme/large"}),
    ]
    return config(rows, tenant=tenant or None)


def home_at(root: Path, publisher: Publisher) -> World:
    """Make a home that believes the publisher."""
    made = World(root, text())
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
