"""Every hostile file of ``conformance/vectors/vault``, by its name."""

from __future__ import annotations

import datetime as dt
import json
import os
import time
from pathlib import Path

import pytest

from allod.domain.errors import Integrity, Invalid
from allod.vault import parts, signature
from allod.vault.examine import Request, examine

FOLDER = Path(__file__).resolve().parents[2] / "conformance" / "vectors" / "vault"
INDEX = {item["name"]: item for item in json.loads((FOLDER / "index.json").read_text())}
NOW = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)


def look(path: Path, *, part: bool = False) -> object:
    fd = os.open(path, os.O_RDONLY)
    try:
        return examine(fd, Request(name=path.name, part=part))
    finally:
        os.close(fd)


def judge(item: dict[str, str]) -> None:
    path = FOLDER / item["path"]
    if item["reader"] == "file":
        look(path)
    elif item["reader"] == "folder":
        parts.put_together({inner.name: look(inner, part=True) for inner in sorted(path.iterdir())})
    else:
        held = json.loads(path.read_text())
        key = signature.public_key((FOLDER / "signer.pem").read_bytes())
        signed = signature.verify(json.dumps(held["bundle"]).encode(), now=NOW, keys=(key,))
        signature.compare(signed, {name: f"sha256:{digest}" for name, digest in held["files"].items()})


@pytest.mark.parametrize("name", [name for name, item in INDEX.items() if item["expect"] == "refuse"])
def test_hostile_vector_is_refused(name: str) -> None:
    began = time.process_time()
    with pytest.raises((Invalid, Integrity)) as caught:
        judge(INDEX[name])
    assert caught.value.why
    assert time.process_time() - began < 5
    assert INDEX[name]["allowed"]


@pytest.mark.parametrize("name", [name for name, item in INDEX.items() if item["expect"] == "accept"])
def test_plain_vector_is_taken(name: str) -> None:
    judge(INDEX[name])


def test_every_vector_lies_in_the_folder_and_every_folder_is_in_the_index() -> None:
    assert {
        place.name for place in FOLDER.iterdir() if place.is_dir() and place.name != "__pycache__"
    } == set(INDEX)
    assert len(INDEX) > 90
