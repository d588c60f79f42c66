"""A person's rights over HTTP: named by the application, found, explained, exported, erased."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from world import Gateway, Region, World, chat, config, deployment

PERSON = "patient/4711"


@pytest.fixture(scope="module")
def operator() -> Iterator[Region]:
    with Region() as region:
        yield region


@pytest.fixture(scope="module")
def up(operator: Region, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    fleet = [
        deployment("home", "answer", base_url=operator.url),
        deployment("abroad", "answer", lawful=False, base_url=operator.url),
    ]
    world = World(tmp_path_factory.mktemp("subjects") / "home", config(fleet))
    with world.up("ward", "press") as gateway:
        yield gateway


def test_one_persons_decisions_are_found_explained_and_erased(
    up: Gateway, operator: Region, tmp_path: Path
) -> None:
    operator.clear()
    said = {"Allod-Subject": PERSON}
    answered = up.chat(chat("home", "how is she"), app="ward", headers=said)
    in_metadata = {**chat("home", "and today"), "metadata": {"allod-subject": PERSON}}
    second = up.chat(in_metadata, app="ward")
    refused = up.chat(chat("abroad", "elsewhere"), app="ward", headers=said)
    other = up.chat(chat("home", "somebody else"), app="ward", headers={"Allod-Subject": "patient/9"})
    assert (answered.status, second.status, refused.status, other.status) == (200, 200, 403, 200)
    for seen in operator.seen:
        assert PERSON.encode() not in seen.body
        assert not any(b"4711" in value for _, value in seen.headers)
    leaf = up.receipt(answered.receipt, app="ward")
    assert "4711" not in json.dumps(leaf)
    out = tmp_path / "out"
    up.world.here("report", "subject", "--subject", PERSON, "--out", str(out))
    text = (out / "subject.csv").read_text()
    mine = {answered.receipt, second.receipt, refused.receipt}
    assert {name for name in (*mine, other.receipt) if name in text} == mine
    assert "residency.5-operator" in (out / "reasons.csv").read_text()
    done = up.world.here("report", "subject", "--subject", PERSON, "--erase", "--json")
    assert done.returncode == 0, done.stderr
    again = tmp_path / "again"
    gone = up.world.here("report", "subject", "--subject", PERSON, "--out", str(again))
    assert gone.returncode == 0, gone.stderr
    assert answered.receipt not in (again / "subject.csv").read_text()
    row = up.world.request_row(answered.receipt)
    assert row is not None
    assert row.request_salt is None
    assert up.world.request_row(other.receipt).request_salt is not None  # type: ignore[union-attr]
    file = tmp_path / "receipt.json"
    file.write_bytes(up.receipt_bytes(answered.receipt, app="ward"))
    assert up.world.here("receipt", "verify", str(file)).returncode == 0


@pytest.mark.parametrize("value", ["", "x" * 257, "a\tb"])
def test_a_name_nobody_can_read_is_refused(up: Gateway, value: str) -> None:
    answer = up.chat({**chat("home"), "metadata": {"allod-subject": value}}, app="ward")
    assert answer.status == 400


def test_header_and_metadata_must_name_the_same_person(up: Gateway) -> None:
    body = {**chat("home"), "metadata": {"allod-subject": "b"}}
    answer = up.chat(body, app="ward", headers={"Allod-Subject": "a"})
    assert answer.status == 400
