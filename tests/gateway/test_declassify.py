"""The signed way down: what a signer waives detectors do not raise, and nothing else is waived by it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from world import World, chat, config, deployment

MAIL = "Write to anna.weber@klinik-nord.de about the leaflet."
IBAN = "Pay to DE89 3704 0044 0532 0130 00 about the leaflet."
CASES = {
    "waived": (MAIL, {"public"}),
    "another type": (IBAN, {"public", "personal"}),
    "a label": (MAIL, {"public", "personal"}),
}


def office(root: Path) -> World:
    """A home whose configuration names one signer with a key of its own."""
    text = config([deployment("home", "answer")])
    world = World(root, text)
    made = json.loads(world.here("policy", "key", "alice", "--json").stdout)
    world.write(f'{text}\n[[signer]]\nid = "alice"\nrole = "author"\nkey = "{made["key"]}"\n')
    world.key("press")
    world.key("ward")
    return world


def declassify(world: World, *more: str, until: str = "2999-01-01") -> int:
    done = world.here(
        "policy", "declassify", "press-mail", "--by", "alice", "--app", "press", "--type", "EMAIL",
        "--until", until, "--reason", "press contacts are public", *more,
    )  # fmt: skip
    return done.returncode


def test_what_a_signer_waives_is_not_raised_and_the_log_says_so(tmp_path: Path) -> None:
    world = office(tmp_path / "home")
    assert declassify(world) == 0
    with world.up() as up:
        found = {}
        for name, (said, _) in CASES.items():
            headers = {"Allod-Data-Class": "personal"} if name == "a label" else {}
            answer = up.chat(chat("home", said), headers=headers)
            file = up.receipt(answer.receipt)
            found[name] = set(json.loads(file["intent"]["leaf"])["classes"])
        assert found == {name: classes for name, (_, classes) in CASES.items()}
        answer = up.chat(chat("home", MAIL), app="ward")
        leaf = json.loads(up.receipt(answer.receipt, app="ward")["intent"]["leaf"])
        assert "personal" in leaf["classes"]
    entries = b"".join(path.read_bytes() for path in world.paths.log.glob("entries*") if path.is_file())
    assert b'"subject":"declassification"' in entries
    assert b"press contacts are public" in entries


@pytest.mark.parametrize("how", ["edited", "renamed", "stranger"])
def test_a_note_that_is_not_what_was_signed_keeps_the_gateway_down(tmp_path: Path, how: str) -> None:
    world = office(tmp_path / "home")
    assert declassify(world) == 0
    note = world.root / "declassified" / "press-mail.note"
    if how == "edited":
        note.write_bytes(note.read_bytes().replace(b'"EMAIL"', b'"PHONE"'))
    elif how == "renamed":
        note.rename(note.with_name("other.note"))
    else:
        text = world.paths.config.read_text()
        key = json.loads(world.here("policy", "key", "eve", "--json").stdout)["key"]
        start = text.index("[[signer]]")
        world.write(text[:start] + f'[[signer]]\nid = "alice"\nrole = "author"\nkey = "{key}"\n')
    done = world.here("up", "--port", "0")
    assert done.returncode == 3
    assert "declassification" in done.stderr


def test_what_cannot_be_signed_is_said(tmp_path: Path) -> None:
    world = office(tmp_path / "home")
    assert declassify(world, until="2020-01-01") == 2
    assert declassify(world, "--type", "EMIAL") == 2
    assert declassify(world, "--by", "bob") == 2
