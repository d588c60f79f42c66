"""``allod receipt verify FOLDER`` and ``erase`` over receipts of a real gateway that name each other."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from world import Inside, World, chat, config, deployment

from allod.gateway.cascade import Cascade, Step
from gateway.lineages import ends, file_of

APPS = ({"id": "ward", "classes": ["phi"], "cache_s": 60}, {"id": "other", "classes": ["public"]})


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    fleet = [deployment("base", "echo"), deployment("strong", "answer"), deployment("half", "truncate")]
    world = World(tmp_path_factory.mktemp("folder") / "home", config(fleet, apps=APPS))
    world.key("ward")
    world.key("other")
    with Inside(world) as one:
        yield one


async def strategy(cascade: Cascade) -> Step:
    await cascade.step("base", "half")
    return await cascade.step("escalation", "strong")


def stepped(inside: Inside, text: str) -> list[str]:
    """Have one request answered in two steps; returns the receipts of all three, the request's first."""
    inside.gateway.strategy_for = lambda _: strategy
    try:
        answer = inside.chat(chat("auto", text), app="ward", headers={"Cache-Control": "no-store"})
    finally:
        inside.gateway.strategy_for = None
    assert answer.status == 200, answer
    return [leaf["id"] for leaf in ends(inside, answer.receipt)]


def kept(inside: Inside, folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / f"{name}.json").write_bytes(file_of(inside, name))
    return folder


def allod(inside: Inside, *words: str) -> tuple[int, Any]:
    from allod.gateway.cli.receipt import command

    done = CliRunner().invoke(command, [*words, "--json"], env={"ALLOD_HOME": str(inside.world.root)})
    return done.exit_code, json.loads(done.stdout) if done.stdout else done.exception


def steps_of(said: Any) -> dict[str, Any]:
    return {step["name"]: step for step in said["steps"]}


def test_a_folder_verifies_and_one_that_lacks_a_receipt_names_it(inside: Inside, tmp_path: Path) -> None:
    names = stepped(inside, "for a folder")
    hits = [inside.chat(chat("base", "twice"), app="ward") for _ in range(2)]
    assert hits[1].headers["allod-cache"] == "hit"
    everything = [*names, *(one.receipt for one in hits)]
    code, said = allod(inside, "verify", str(kept(inside, tmp_path / "all", *everything)))
    assert code == 0, said
    assert len(said["steps"]) == len(everything) + 3
    for left_out in everything:
        rest = [name for name in everything if name != left_out]
        folder = kept(inside, tmp_path / left_out, *rest)
        code, said = allod(inside, "verify", str(folder))
        needed = left_out != hits[1].receipt  # nothing names the repetition
        assert code == (3 if needed else 0), said
        if needed:
            assert left_out in steps_of(said)["parents and steps are there"]["detail"]


def test_a_number_left_out_is_named_and_fails_where_all_are_said_to_be_there(
    inside: Inside, tmp_path: Path
) -> None:
    names = [
        inside.chat(chat("base", f"n{n}"), app="ward", headers={"Cache-Control": "no-store"}).receipt
        for n in range(4)
    ]
    folder = kept(inside, tmp_path / "numbers", *names[:2], names[3])
    code, said = allod(inside, "verify", str(folder))
    assert code == 0, said
    assert "base" in steps_of(said)["numbers"]["detail"]
    assert allod(inside, "verify", "--complete", str(folder))[0] == 3
    (folder / "third.json").write_bytes(file_of(inside, names[2]))
    assert allod(inside, "verify", "--complete", str(folder))[0] == 0


def test_a_changed_receipt_in_a_folder_fails(inside: Inside, tmp_path: Path) -> None:
    names = stepped(inside, "to be changed")
    folder = kept(inside, tmp_path / "changed", *names)
    file = folder / f"{names[1]}.json"
    file.write_bytes(file.read_bytes().replace(b"failed", b"answered", 1))
    code, said = allod(inside, "verify", str(folder))
    assert code == 3
    assert not steps_of(said)[file.name]["ok"]
    (folder / "empty.json").write_bytes(b"")
    assert allod(inside, "verify", str(folder))[0] == 3


def test_a_folder_without_receipts_is_refused(inside: Inside, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    code, _ = allod(inside, "verify", str(tmp_path / "none"))
    assert code != 0


def test_erasing_a_request_erases_the_steps_it_was_answered_in(inside: Inside, tmp_path: Path) -> None:
    names = stepped(inside, "to be forgotten")
    inside.gateway.store.flush()
    code, said = allod(inside, "erase", names[0])
    assert code == 0
    assert said == {"id": names[0], "erased": True, "steps": names[1:]}
    with contextlib.closing(inside.world.tables()) as tables:
        for name in names:
            row = tables.request(name)
            assert row is not None
            assert (row.request_salt, row.response_salt) == (None, None)
    assert allod(inside, "verify", str(kept(inside, tmp_path / "after", *names)))[0] == 0
