"""Death at random instants and at chosen ones: what was handed out as final is there, and nothing twice."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from pathlib import Path

import pytest
from store_worlds import QUICK, Requests, final, fresh, in_child, patient, reopen, sound

import allod.store.database
import allod.store.derive
import allod.store.home
import allod.store.journal
import allod.store.logfiles
import allod.store.writer
from allod.receipts.canonical import canonical
from allod.store.home import Home, make_home
from allod.store.store import Store
from allod.store.writer import Settings


def busy(home: Home, pipe: int, requests: int) -> None:
    """Begin and end requests at full speed, a few always open; tell of each what is promised from then on."""
    store = reopen(home)
    load, opened = Requests(store), list[str]()
    for i in range(requests):
        receipt = patient(load.begin)
        os.write(pipe, f"begun {receipt}\n".encode())
        for n in range(1, 1 + i % 3):
            patient(load.attempt, receipt, n)
            os.write(pipe, f"tried {receipt} {n}\n".encode())
        opened.append(receipt)
        if len(opened) > 5:
            old = opened.pop(i % 3)
            count = len(store._open[old].attempts)
            load.end(old, tuple(load.row(old, n) for n in range(1, 1 + count)))
            os.write(pipe, f"ended {old}\n".encode())
    store.close()
    os.write(pipe, b"closed\n")


def kept(home: Home, lines: list[str], settings=QUICK) -> None:
    """Reopen and check every promise made in ``lines``."""
    store = reopen(home, settings)
    assert store.flush()
    said = [line.split(" ") for line in lines]
    ended = {words[1] for words in said if words[0] == "ended"}
    tried = {(words[1], int(words[2])) for words in said if words[0] == "tried"}
    rows = Counter((row.receipt, row.attempt) for row in store.database.rows())
    assert max(rows.values(), default=1) == 1
    assert tried <= set(rows)
    begun = sorted({words[1] for words in said if words[0] == "begun"})
    rows_of = {r.receipt: r for page in store.database.requests(store.keys.origin) for r in page}
    assert set(begun) <= set(rows_of)
    for receipt in ended:
        assert rows_of[receipt].status == "answered"
    for receipt in random.Random(len(begun)).sample(begun, min(60, len(begun))):
        leaf = final(store, receipt)
        if receipt in ended:
            assert leaf["status"] == "answered"
        elif leaf["status"] == "failed":
            assert leaf["reason"] == "gateway-lost"
    basis = {(r.receipt, r.attempt): r.basis for r in store.database.rows()}
    for receipt, n in tried:
        if receipt in ended:
            assert basis[receipt, n] == "reported"
    assert not store._open
    store.close()
    sound(home)


def test_I7_I3_I4_killed_at_random_instants_loses_nothing_that_was_final(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    chance, lines = random.Random(7), list[str]()
    for _ in range(22):
        told, status = in_child(
            lambda pipe: busy(home, pipe, 100_000), kill_after_s=chance.uniform(0.02, 0.25)
        )
        assert os.WIFSIGNALED(status)
        assert os.WTERMSIG(status) == signal.SIGKILL
        lines += told
        if chance.random() < 0.3:
            kept(home, lines)
    assert sum(line.startswith("ended") for line in lines) > 100
    kept(home, lines)


BOUNDARIES = [
    (allod.store.journal.Segment, "sync"),
    (allod.store.journal.Segment, "write_head"),
    (allod.store.writer, "make_segment"),
    (allod.store.writer, "write_file"),
    (allod.store.logfiles.LogFiles, "write"),
    (allod.store.logfiles.LogFiles, "sync"),
    (allod.store.logfiles.LogFiles, "cut"),
    (allod.store.logfiles, "write_all"),
    (allod.store.database.Database, "commit"),
    (allod.store.derive.Derivation, "settle"),
    (allod.store.writer.Writer, "_drop_old"),
    (allod.store.writer.Writer, "_finish"),
    (allod.store.home, "sync_folder"),
    (Path, "unlink"),
    (Path, "replace"),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("where", "name"), BOUNDARIES, ids=[f"{n}" for _, n in BOUNDARIES])
def test_I7_killed_at_every_boundary(tmp_path: Path, where: object, name: str, after: bool) -> None:
    home = make_home(tmp_path / "home")
    lines: list[str] = []
    died = 0
    for nth in (1, 3):

        def dying(pipe: int, nth: int = nth) -> None:
            real, calls = getattr(where, name), 0

            def step(*args: object, **more: object) -> object:
                nonlocal calls
                calls += 1
                if calls == nth and not after:
                    os.kill(os.getpid(), signal.SIGKILL)
                result = real(*args, **more)
                if calls == nth:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

            setattr(where, name, step)
            busy(home, pipe, 120)

        told, status = in_child(dying)
        assert os.WIFSIGNALED(status) or "closed" in told, status
        died += os.WIFSIGNALED(status)
        lines += told
    assert died
    kept(home, lines)


def test_killed_again_and_again_while_recovering(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    lines, _ = in_child(lambda pipe: busy(home, pipe, 100_000), kill_after_s=0.2)
    for ms in (1, 2, 4, 6, 8, 10, 12, 15, 20, 25, 30):
        told, _ = in_child(lambda pipe: busy(home, pipe, 100_000), kill_after_s=ms / 1000)
        lines += told
    kept(home, lines)


def test_a_request_older_than_its_segment_is_still_ended_and_charged(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")

    def long(pipe: int) -> None:
        store = reopen(home)
        load = Requests(store)
        old = load.begin()
        load.attempt(old, 1)
        done = load.begin()
        load.attempt(done, 1)
        first = store._journal.current.number
        while store._journal.current.number < first + 3:
            patient(load.whole)
        store.flush()
        while len(list(home.journal.glob("*.seg"))) > 2:
            store.flush()
        load.attempt(old, 2)
        load.end(done, (load.row(done),))
        os.write(pipe, f"begun {old}\ntried {old} 1\ntried {old} 2\nbegun {done}\nended {done}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)

    lines, status = in_child(long)
    assert os.WIFSIGNALED(status)
    assert len(lines) == 5
    kept(home, lines)


def test_a_clean_stop_with_requests_open_ends_them_at_the_next_start(tmp_path: Path) -> None:
    home, store = fresh(tmp_path / "home")
    load = Requests(store)
    receipt = load.begin()
    load.attempt(receipt, 1, "0.125")
    store.close()
    sound(home)
    store = reopen(home)
    store.flush()
    leaf = final(store, receipt)
    assert (leaf["status"], leaf["reason"], leaf["cost_usd"], leaf["basis"]) == (
        "failed", "gateway-lost", "0.125", "reserved",
    )  # fmt: skip
    (row,) = store.database.rows(receipt=receipt)
    assert (str(row.cost_usd), row.basis, row.status, row.usage.input_tokens) == (
        "0.125",
        "reserved",
        "failed",
        7,
    )
    store.close()
    store = reopen(home)
    assert store.reader.size() == 2
    store.close()


def test_opening_and_closing_an_idle_home_changes_no_leaf(tmp_path: Path) -> None:
    home, store = fresh(tmp_path / "home")
    Requests(store).whole()
    store.close()
    before = {p.name: p.read_bytes() for p in home.log.iterdir() if p.is_file()}
    for _ in range(3):
        reopen(home).close()
    assert {p.name: p.read_bytes() for p in home.log.iterdir() if p.is_file()} == before
    assert len(list(home.journal.glob("*.seg"))) == 1
    assert isinstance(store, Store)


def test_starts_that_come_to_nothing_leave_no_segments_behind(tmp_path: Path) -> None:
    home, store = fresh(tmp_path / "home")
    receipt = Requests(store).whole()
    store.close()

    def stillborn(pipe: int) -> None:
        allod.store.writer.Writer.start = lambda *_: os._exit(3)  # type: ignore[method-assign]
        reopen(home)

    for _ in range(6):
        in_child(stillborn)
    assert len(list(home.journal.glob("*.seg"))) <= 2
    kept(home, [f"ended {receipt}"])


def test_a_segment_of_many_windows_is_read_whole(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    large = Settings(gather_s=0.001, segment_bytes=12 << 20)

    def work(pipe: int) -> None:
        store = reopen(home, large)
        load = Requests(store)
        for i in range(12):
            receipt = load.begin(record=canonical({"n": i, "x": "x" * 400_000}))
            load.end(receipt)
            os.write(pipe, f"begun {receipt}\nended {receipt}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)

    lines, _ = in_child(work)
    assert len(lines) == 24
    kept(home, lines, large)
