"""Every hostile file of ``conformance/vectors/vault``, by its name."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from allod.domain.errors import Integrity, Invalid
from allod.receipts.notes import Signer
from allod.store.home import Home, write_file
from allod.vault import formats, papers, parts, shards, signature
from allod.vault.examine import Request, examine
from allod.vault.register import Register
from allod.vault.sigstore import keyless, root

FOLDER = Path(__file__).resolve().parents[2] / "conformance" / "vectors" / "vault"
INDEX = {item["name"]: item for item in json.loads((FOLDER / "index.json").read_text())}
NOW = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)


def look(path: Path, *, part: bool = False) -> object:
    fd = os.open(path, os.O_RDONLY)
    try:
        return examine(fd, Request(name=path.name, part=part))
    finally:
        os.close(fd)


def judge_shards(held: dict[str, Any]) -> None:
    key = signature.public_key((FOLDER / "signer.pem").read_bytes())
    signed = signature.verify(json.dumps(held["bundle"]).encode(), now=NOW, keys=(key,))
    content = {name: base64.b64decode(text) for name, text in held["content"].items()}
    if signed.names != content.keys():
        raise Integrity("other files", f"{sorted(signed.names ^ content.keys())}")
    for name, raw in content.items():
        fd = os.memfd_create("shards")
        try:
            os.write(fd, raw)
            shards.check(fd, signed.shards[name], name)
        finally:
            os.close(fd)


def judge_register(held: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as place:
        home = Home(Path(place))
        home.keys.mkdir(mode=0o700)
        signer = Signer(held["key"].split("+")[0], bytes.fromhex(held["seed"]))
        assert signer.key.vkey() == held["key"]
        write_file(home.log_key, (signer.skey() + "\n").encode(), 0o600)
        write_file(home.secret, ("0" * 64 + "\n").encode(), 0o600)
        if held["remembered"] is not None:
            text = f"version {held['remembered']['version']}\nnote {held['remembered']['note']}\n"
            write_file(home.keys / "vault.anchor", text.encode(), 0o600)
        (home.vault / "register").mkdir(parents=True)
        raw = held["register"].encode()
        named = re.findall("register sha256:([0-9a-f]{64})", held["note"])
        for name in {*named, hashlib.sha256(raw).hexdigest()}:
            (home.vault / "register" / f"{name}.json").write_bytes(raw)
        if held["note"]:
            (home.vault / "manifests.note").write_text(held["note"])
        Register(home.vault).read()


def judge(item: dict[str, str]) -> None:
    path = FOLDER / item["path"]
    if item["reader"] == "file":
        look(path)
    elif item["reader"] == "folder":
        parts.put_together({inner.name: look(inner, part=True) for inner in sorted(path.iterdir())})
    elif item["reader"] == "keyless":
        held = json.loads(path.read_text())
        trusted = root.parse(json.dumps(held["root"]).encode())
        wanted = keyless.demanded(trusted, held["identity"], held["issuer"])
        signed = signature.verify(json.dumps(held["bundle"]).encode(), now=NOW, keyless=wanted)
        signature.compare(signed, {name: f"sha256:{digest}" for name, digest in held["files"].items()})
    elif item["reader"] == "names":
        formats.check_names(json.loads(path.read_text()))
    elif item["reader"] == "paper":
        held = json.loads(path.read_text())
        papers.is_bound(json.dumps(held["report"]).encode(), item["name"], held["weights"])
    elif item["reader"] == "register":
        judge_register(json.loads(path.read_text()))
    elif item["reader"] == "shards":
        judge_shards(json.loads(path.read_text()))
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
    assert len(INDEX) > 200
