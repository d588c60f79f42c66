"""Requests about one person: found by id, erased by salt, and never back: crash, rebuild, two at once."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from store_worlds import AT, Requests, final, fresh, in_child, reopen, sound
from test_store_postgres import url  # noqa: F401 (a fixture)

from allod.domain.errors import Integrity
from allod.receipts.leaves import NoticeFacts
from allod.store import statements, subjects
from allod.store.database import Database
from allod.store.frames import INTENT, Codec, IntentFrame
from allod.store.home import Home, make_home
from allod.store.rebuild import rebuild_tables
from allod.store.store import Store
from allod.store.subjects import find, lookup_of
from allod.store.tables import ERASED, SUBJECT, version_of
from allod.store.writer import Settings

ANNA, BEN = "patient/4711", "patient/4712"
SLOW = Settings(gather_s=0.001, segment_bytes=1 << 20)


def found(store: Store, subject: str) -> list[str]:
    assert store.flush()
    return [row.receipt for page in find(store.database, store.keys.secret, subject) for row in page]


def salts(store: Store, receipt: str) -> tuple[bytes | None, bytes | None, bytes | None]:
    assert store.flush()
    row = store.database.request(receipt)
    assert row is not None
    return row.request_salt, row.response_salt, row.subject


def disk(home: Home) -> bytes:
    return b"".join(p.read_bytes() for p in home.root.rglob("*") if p.is_file() and p.name != "lock")


def test_requests_about_a_person_are_found_by_id_and_only_with_the_home_secret(tmp_path: Path) -> None:
    home, store = fresh(tmp_path / "home")
    load = Requests(store)
    about = [load.whole(subject=ANNA) for _ in range(3)]
    other = load.whole(subject=BEN)
    load.whole()
    assert found(store, ANNA) == about
    assert found(store, BEN) == [other]
    assert found(store, "patient/471") == []
    assert list(find(store.database, bytes(32), ANNA)) == []
    store.close()
    assert ANNA.encode() not in disk(home)
    sound(home)


def test_I9_erasing_by_salt_forgets_the_person_and_leaves_every_proof(tmp_path: Path) -> None:
    home, store = fresh(tmp_path / "home")
    load = Requests(store)
    about, other = [load.whole(subject=ANNA) for _ in range(3)], load.whole(subject=BEN)
    store.flush()
    salt = store.database.subject_salt(lookup_of(store.keys.secret, ANNA))
    assert salt is not None
    gone = [salt, *(one for receipt in about for one in load.salts[receipt])]
    assert all(secret in disk(home) for secret in gone)
    erased = store.erase_subject(ANNA, at_ms=AT)
    assert (erased.found, erased.requests) == (True, 3)
    assert found(store, ANNA) == []
    assert found(store, BEN) == [other]
    for receipt in about:
        assert salts(store, receipt) == (None, None, None)
        assert final(store, receipt)["status"] == "answered"
    until = time.monotonic() + 5
    while any(secret in disk(home) for secret in gone):
        assert time.monotonic() < until, "an erased salt is still on the disk"
        time.sleep(0.05)
    assert (store.erase_subject(ANNA, at_ms=AT).found, store.erase_subject("nobody", at_ms=AT).found) == (
        False,
        False,
    )
    again = load.whole(subject=ANNA)
    assert found(store, ANNA) == [again]
    store.close()
    sound(home)


def test_a_request_in_flight_while_its_person_is_erased_is_forgotten_when_it_ends(tmp_path: Path) -> None:
    home, store = fresh(tmp_path / "home")
    load = Requests(store)
    flying = load.begin(subject=ANNA)
    assert store.erase_subject(ANNA, at_ms=AT) == subjects.Erased(found=True, requests=0)
    load.end(flying)
    assert found(store, ANNA) == []
    assert salts(store, flying) == (None, None, None)
    store.close()
    sound(home)


def test_an_erasure_by_another_process_is_seen_at_once_and_later_requests_are_found(tmp_path: Path) -> None:
    home, store = fresh(tmp_path / "home")
    load = Requests(store)
    early = load.whole(subject=ANNA)
    store.flush()
    other = Database.lite_file(home.database)
    assert subjects.erase(home, other, store.keys.secret, ANNA, at_ms=AT).requests == 1
    other.close()
    late = load.whole(subject=ANNA)
    assert found(store, ANNA) == [late]
    assert salts(store, early) == (None, None, None)
    assert salts(store, late)[0] == load.salts[late][0]
    store.close()


def test_a_request_that_outlives_its_segment_keeps_its_person_and_loses_it_when_erased(
    tmp_path: Path,
) -> None:
    home, store = fresh(tmp_path / "home")
    load = Requests(store)
    kept, gone = load.begin(subject=ANNA), load.begin(subject=BEN)
    store.flush()
    store._writer.turn()
    until = time.monotonic() + 5
    while store.database.request(kept) is None:
        load.whole()
        assert time.monotonic() < until, "the segment never turned"
        time.sleep(0.01)
    store.erase_subject(BEN, at_ms=AT)
    load.end(kept)
    load.end(gone)
    assert found(store, ANNA) == [kept]
    assert salts(store, gone) == (None, None, None)
    store.close()
    sound(home)


def test_I7_kill_9_loses_no_person_and_brings_no_erased_one_back(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")

    def work(pipe: int) -> None:
        store = Store.open(home, settings=SLOW, clock=lambda: AT + 5000)
        load = Requests(store)
        for n in range(1000):
            kept, gone = load.whole(subject=ANNA), load.begin(subject=f"gone-{n}")
            os.write(pipe, f"kept {kept}\n".encode())
            store.erase_subject(f"gone-{n}", at_ms=AT)
            os.write(pipe, f"gone {n} {gone}\n".encode())
            load.end(gone)

    lines, _ = in_child(work, kill_after_s=1.2)
    store = reopen(home)
    kept = [line.split()[1] for line in lines if line.startswith("kept")]
    assert kept
    assert found(store, ANNA)[: len(kept)] == kept
    erased = [line.split()[1:] for line in lines if line.startswith("gone")]
    assert erased
    for n, receipt in erased:
        assert found(store, f"gone-{n}") == []
        assert salts(store, receipt) == (None, None, None)
    store.close()
    sound(home)


@pytest.mark.parametrize("rebuilt", [False, True])
def test_I9_lost_tables_bring_no_erased_person_back_from_the_journal(tmp_path: Path, rebuilt: bool) -> None:
    home = make_home(tmp_path / "home")

    def work(pipe: int) -> None:
        store = Store.open(home, settings=SLOW, clock=lambda: AT + 5000)
        load = Requests(store)
        if rebuilt:  # so that the journal does not reach back to the first frame
            load.whole()
            store._writer.turn()
            until = time.monotonic() + 5
            while len(list(home.journal.glob("*.seg"))) > 2 or store._journal.current.number < 2:
                load.whole()
                assert time.monotonic() < until, "the segment never turned"
                time.sleep(0.01)
        receipt, flying = load.whole(subject=ANNA), load.begin(subject=BEN)
        alone = load.whole()
        store.flush()
        other = Database.lite_file(home.database)  # as the command does: the journal does not move on
        for subject in (ANNA, BEN):
            subjects.erase(home, other, store.keys.secret, subject, at_ms=AT)
        other.erase_salts(alone)
        subjects.remember(home, other)
        os.write(pipe, f"{receipt} {flying} {alone} {load.salts[receipt][0].hex()}\n".encode())
        os._exit(9)

    lines, _ = in_child(work)
    receipt, flying, alone, salt = lines[0].split()
    assert bytes.fromhex(salt) in disk(home), (
        "the journal should still hold what was erased, or nothing is tested"
    )
    for path in home.root.glob("allod.sqlite*"):
        path.unlink()
    if rebuilt:
        with pytest.raises(Integrity, match="older than the log"):
            reopen(home)
        notice = NoticeFacts(id="n", at_ms=AT + 9000, tenant="p_t", subject="tables-rebuilt")
        rebuild_tables(home, apps={}, notice=notice)
    store = reopen(home)
    for one in (receipt, flying, alone):
        assert salts(store, one) == (None, None, None)
    assert found(store, ANNA) == found(store, BEN) == []
    late = Requests(store).whole(subject=ANNA)
    assert found(store, ANNA) == [late]
    store.close()
    assert bytes.fromhex(salt) not in disk(home)
    sound(home)


def test_two_erasures_at_once_forget_once(tmp_path: Path) -> None:
    home, store = fresh(tmp_path / "home")
    load = Requests(store)
    for _ in range(20):
        load.whole(subject=ANNA)
    store.flush()
    results: list[subjects.Erased] = []

    def erase() -> None:
        database = Database.lite_file(home.database)
        results.append(subjects.erase(home, database, store.keys.secret, ANNA, at_ms=AT))
        database.close()

    threads = [threading.Thread(target=erase) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.requests for result in results) == [0, 0, 0, 20]
    assert sum(result.found for result in results) == 1
    store.close()


def test_many_threads_give_one_person_one_salt(tmp_path: Path) -> None:
    _, store = fresh(tmp_path / "home", SLOW)
    load = Requests(store)
    gate = threading.Barrier(4)

    def ask() -> None:
        gate.wait()
        for _ in range(25):
            load.whole(subject=ANNA)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found(store, ANNA)) == 100
    store.close()


def test_old_frames_without_a_person_are_read_and_old_tables_brought_forward(tmp_path: Path) -> None:
    codec = Codec(1)
    old = ("r", 1, b"leaf", "a", b"s", None, "d", None)
    frame = msgspec.msgpack.decode(msgspec.msgpack.encode(old), type=IntentFrame)
    assert frame == IntentFrame(*old)
    assert codec.read(codec.write(INTENT, frame), 0)[0] == [frame]
    home, store = fresh(tmp_path / "home")
    receipt = Requests(store).whole()
    store.close()
    with sqlite3.connect(home.database) as raw:  # as version 1 left it
        raw.execute("DROP INDEX request_subject")
        raw.execute("ALTER TABLE request DROP COLUMN subject")
        raw.execute("DROP TABLE subject")
        raw.execute("DROP TABLE erased")
        raw.execute("DELETE FROM migration WHERE version > 1")
    store = reopen(home)
    with store.database.engine.connect() as connection:
        assert version_of(connection) == statements.VERSION
    load = Requests(store)
    late = load.whole(subject=ANNA)
    assert found(store, ANNA) == [late]
    assert final(store, receipt)["id"] == receipt
    store.close()
    sound(home)


def test_postgresql_finds_and_forgets_while_it_is_written_to(tmp_path: Path, url: str) -> None:  # noqa: F811
    roomy = Settings(gather_s=0.001, segment_bytes=16 << 20)
    store = Store.open(make_home(tmp_path / "home"), url=url, settings=roomy, clock=lambda: AT + 5000)
    load = Requests(store)
    early = [load.whole(subject=ANNA) for _ in range(5)]
    assert found(store, ANNA) == early
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            load.whole(subject=BEN)
            time.sleep(0.0005)

    thread = threading.Thread(target=serve)
    thread.start()
    other = Database(url)
    erasures = 0
    for _ in range(30):
        erasures += subjects.erase(store.home, other, store.keys.secret, BEN, at_ms=AT).found
        time.sleep(0.01)
    stop.set()
    thread.join()
    store.flush()
    subjects.erase(store.home, other, store.keys.secret, BEN, at_ms=AT)
    assert erasures > 5
    with other.engine.connect() as connection:
        left = connection.execute(
            sa.text("SELECT count(*) FROM request WHERE subject IS NOT NULL OR request_salt IS NOT NULL")
        ).scalar()
        assert left == len(early)
        people = connection.execute(sa.select(sa.func.count()).select_from(SUBJECT)).scalar()
        erased = connection.execute(sa.select(sa.func.count()).select_from(ERASED)).scalar()
    assert people == 1
    assert erased is not None
    assert erased >= erasures
    assert store.erase_subject(ANNA, at_ms=AT).requests == 5
    other.close()
    store.close()
