"""The log's commands on a home at rest: anchors, export, keys over time, and a receipt in every form."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from world import World, chat, config, deployment

from allod.receipts.cose import verify_statement
from allod.receipts.notes import parse_vkey
from allod.receipts.tiles import parse_bundle

Home = tuple[World, str, Path]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home at rest with one answer, and its receipt as it was handed out."""
    world = World(tmp_path / "home", config([deployment("inner", "answer")]))
    with world.up("press") as gateway:
        receipt = gateway.chat(chat("inner")).receipt
        data = gateway.receipt_bytes(receipt)
        cose = gateway.call(f"/v1/receipts/{receipt}?format=cose")
        assert cose.headers["content-type"] == "application/scitt-statement+cose"
        key = parse_vkey(world.paths.log_vkey.read_text().strip())
        assert verify_statement(cose.body, key).id == receipt
    file = tmp_path / "receipt.json"
    file.write_bytes(data)
    return world, receipt, file


def said(done: subprocess.CompletedProcess[str], code: int = 0) -> Any:
    assert done.returncode == code, done
    return json.loads(done.stdout)


def test_a_receipt_in_every_form_verifies_on_the_command_line(home: Home, tmp_path: Path) -> None:
    world, receipt, _ = home
    cose = tmp_path / "receipt.cose"
    assert world.here("receipt", "get", receipt, "--format", "cose", "--out", str(cose)).returncode == 0
    assert said(world.here("receipt", "verify", str(cose), "--json"))["ok"]
    bent = bytearray(cose.read_bytes())
    bent[200] ^= 1
    cose.write_bytes(bent)
    assert not said(world.here("receipt", "verify", str(cose), "--json"), 3)["ok"]
    proof = world.here("receipt", "get", receipt, "--format", "tlog-proof")
    assert proof.stdout.startswith("c2sp.org/tlog-proof@v1\n")
    assert world.here("receipt", "get", receipt, "--format", "pdf").returncode == 2


def test_an_anchor_as_text_and_as_a_code_is_held_against_the_log_later(home: Home, tmp_path: Path) -> None:
    world, _, _ = home
    svg, kept = tmp_path / "anchor.svg", tmp_path / "anchor.txt"
    kept.write_text(world.here("log", "anchor").stdout)
    drawn = world.here("log", "anchor", "--qr", "--svg", str(svg))
    assert drawn.returncode == 0, drawn
    assert drawn.stdout.startswith(kept.read_text())
    assert "<svg" in svg.read_text()
    with world.up("press") as gateway:
        gateway.receipt(gateway.chat(chat("inner")).receipt)
    steps = said(world.here("log", "verify", "--anchor", str(kept), "--json"))["steps"]
    assert steps[-1]["name"] == "anchors"
    kept.write_text(kept.read_text().replace("\n", "\n9", 1))
    assert not said(world.here("log", "verify", "--anchor", str(kept), "--json"), 3)["ok"]


def test_the_log_is_exported_as_tiles_and_only_into_an_empty_folder(home: Home, tmp_path: Path) -> None:
    world, _, _ = home
    folder = tmp_path / "tiles"
    size = said(world.here("log", "export", str(folder), "--json"))["leaves"]
    (bundle,) = (folder / "tile/entries/000.p").iterdir()
    assert (len(parse_bundle(bundle.read_bytes())), bundle.name) == (size, str(size))
    assert not (folder / "key").exists(), "a key comes by another way than its log"
    assert said(world.here("log", "export", str(folder), "--json"), 2)["error"]["what"].endswith("not empty")


def test_a_rotated_log_is_followed_by_its_notes_and_a_revoked_key_is_not(home: Home, tmp_path: Path) -> None:
    world, receipt, file = home
    old = world.paths.log_vkey.read_text().strip()
    done = said(world.here("log", "rotate", "--json"))
    assert done["old"] == old
    new = world.here("log", "key").stdout.strip()
    assert new == done["new"] != old
    notes, later = tmp_path / "notes", tmp_path / "later.json"
    notes.write_text(world.here("log", "keys", "--notes").stdout)
    with world.up("press") as gateway:
        later.write_bytes(gateway.receipt_bytes(gateway.chat(chat("inner")).receipt))
    assert said(world.here("log", "verify", "--json"))["ok"]
    for which, key, notes_given, code in (
        (file, old, False, 0), (file, new, False, 3), (file, new, True, 0),
        (later, old, False, 3), (later, old, True, 0), (later, new, False, 0),
    ):  # fmt: skip
        more = ["--rotation", str(notes)] if notes_given else []
        assert world.here("receipt", "verify", str(which), "--key", key, *more).returncode == code
    assert said(world.here("receipt", "verify", str(file), "--json"))["ok"], "the home knows its own history"
    assert world.here("log", "revoke", "00000000").returncode == 2
    said(world.here("log", "revoke", old.split("+")[1], "--json"))
    states = [row["state"] for row in said(world.here("log", "keys", "--json"))["keys"]]
    assert states == ["revoked", "in force"]
    notes.write_text(world.here("log", "keys", "--notes").stdout)
    assert world.here("receipt", "verify", str(file), "--key", new, "--rotation", str(notes)).returncode == 3
    again = tmp_path / "again.json"
    assert world.here("receipt", "get", receipt, "--out", str(again)).returncode == 0
    assert world.here("receipt", "verify", str(again), "--key", new).returncode == 0
    assert said(world.here("log", "verify", "--json"))["ok"]


def test_a_running_gateway_keeps_the_log_to_itself(home: Home) -> None:
    world, _, _ = home
    with world.up("press"):
        for words in (["rotate"], ["export", "x"], ["verify"], ["revoke", "00000000"]):
            done = world.here("log", *words, "--json")
            assert done.returncode == (2 if words[0] == "revoke" else 5), (words, done)
    assert not (world.paths.keys / "log.key.next").exists()
