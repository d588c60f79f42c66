"""Putting a pack in force: the smallest change, or none."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from world import World, chat

from allod.domain.errors import Invalid, Refused, Unavailable
from allod.gateway.enforce import enforced, write_config
from gateway.replays import (
    command,
    inside,
    install,
    text_of,
)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return install(tmp_path, monkeypatch)


NICE = '[tenant]  # ours\nid = "t"\nhome = "DE"\nbloc = ["EEA"]\n{}\n[[app]]\nid = "packs"  # packs = []\n'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('packs = ["base"] # law', 'packs = ["base", "new"] # law'),
        ("packs=['base']", "packs=['base', \"new\"]"),
        ('packs = ["base",]', 'packs = ["base", "new",]'),
        ('packs = [\n  "base", # one, two\n]', 'packs = [\n  "base", # one, two\n  "new",\n]'),
        ('packs = [\n\t"base" # one\n]', 'packs = [\n\t"base", # one\n\t"new"\n]'),
        ('packs = ["base"]\nshadow = ["new"]', 'packs = ["base", "new"]\nshadow = []'),
        ('packs = ["base"]\nshadow = ["a", "new", "b"]', 'packs = ["base", "new"]\nshadow = ["a", "b"]'),
        ('packs = ["base"]\nshadow = ["a", "new"]', 'packs = ["base", "new"]\nshadow = ["a"]'),
        (
            'packs = ["base"]\nshadow = [\n  "a",\n  "new",  # soon\n]',
            'packs = ["base", "new"]\nshadow = [\n  "a",\n  # soon\n]',
        ),
        (
            'packs = ["base"]\nshadow = [\n  "new",\n  "a",\n]',
            'packs = ["base", "new"]\nshadow = [\n  "a",\n]',
        ),
        ('packs = ["base", "new"]\nshadow = ["new"]', 'packs = ["base", "new"]\nshadow = []'),
        ('packs = ["base", "new"]', 'packs = ["base", "new"]'),
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_enforcing_changes_two_lists_and_nothing_else(before: str, after: str, ends: str) -> None:
    text = NICE.format(before).replace("\n", ends)
    assert enforced(text, "new") == NICE.format(after).replace("\n", ends)
    assert enforced(enforced(text, "new"), "new") == enforced(text, "new")


def test_enforcing_over_the_default_names_the_base_pack() -> None:
    assert (
        enforced('x = 1\n[tenant]\nid = "t"', "new") == 'x = 1\n[tenant]\npacks = ["base", "new"]\nid = "t"'
    )
    assert enforced("[tenant]", "new") == '[tenant]\npacks = ["base", "new"]\n'


@pytest.mark.parametrize(
    "text",
    [
        'tenant = { packs = ["base"] }\n',
        'tenant.packs = ["base"]\n',
        'x = """\n[tenant]\npacks = ["base"]\n"""\n[tenant]\nid = "t"\npacks = ["base"]\n',
        '[tenant]\npacks = ["base"',
        "",
    ],
)
def test_what_is_written_otherwise_is_left_to_its_author(text: str) -> None:
    with pytest.raises(Invalid):
        enforced(text, "new")


def test_enforce_shows_the_change_and_writes_it_only_when_told(tmp_path: Path, house: Path) -> None:
    root = tmp_path / "home"
    world = World(root, "# my own words\n" + text_of(shadow=["house"]))
    old = world.paths.config.read_bytes()
    world.paths.config.chmod(0o640)
    shown = command(root, "enforce", "house")
    assert shown.exit_code == 0
    assert '+packs = ["base", "house"]' in shown.output
    assert '-shadow = ["house"]' in shown.output
    assert "no person has reviewed pack house" in shown.output
    assert world.paths.config.read_bytes() == old
    done = json.loads(command(root, "enforce", "house", "--write", "--json").output)
    assert (done["written"], done["packs"], done["reviewed"]) == (True, ["base", "house"], False)
    new = world.paths.config.read_bytes()
    assert new.startswith(b"# my own words\n")
    assert stat.S_IMODE(world.paths.config.stat().st_mode) == 0o640
    assert not list(root.glob("*.new"))
    again = json.loads(command(root, "enforce", "house", "--write", "--json").output)
    assert (again["written"], again["change"]) == (False, "")
    with inside(root, new.decode()) as gateway:
        assert gateway.chat(chat("cheap")).status == 403


def test_enforce_refuses_where_four_eyes_are_demanded(tmp_path: Path, house: Path) -> None:
    root = tmp_path / "home"
    world = World(root, text_of(shadow=["house"], four_eyes=True))
    old = world.paths.config.read_bytes()
    assert command(root, "enforce", "house").exit_code == 0
    result = command(root, "enforce", "house", "--write")
    assert isinstance(result.exception, Refused)
    assert "allod policy propose" in result.exception.remedy
    assert world.paths.config.read_bytes() == old


@pytest.mark.parametrize("name", ["hause", "twin"])
def test_a_pack_that_cannot_be_in_force_is_not_written(tmp_path: Path, house: Path, name: str) -> None:
    root = tmp_path / "home"
    world = World(root, text_of(packs=["base", "house"]))
    old = world.paths.config.read_bytes()
    assert isinstance(command(root, "enforce", name, "--write").exception, Invalid)
    assert world.paths.config.read_bytes() == old


def test_two_who_write_at_once_do_not_undo_each_other(tmp_path: Path) -> None:
    path = tmp_path / "allod.toml"
    path.write_bytes(b"one")
    with pytest.raises(Unavailable):
        write_config(path, b"zero", b"two")
    assert path.read_bytes() == b"one"
    import fcntl

    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Unavailable):
            write_config(path, b"one", b"two")
    link = tmp_path / "link.toml"
    link.symlink_to(path)
    write_config(link, b"one", b"two")
    assert link.is_symlink()
    assert path.read_bytes() == b"two"


def test_a_full_disk_leaves_the_old_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from allod.gateway import enforce

    path = tmp_path / "allod.toml"
    path.write_bytes(b"one")

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(enforce, "write_all", full)
    with pytest.raises(Unavailable):
        write_config(path, b"one", b"two")
    assert path.read_bytes() == b"one"
