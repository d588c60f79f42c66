"""Damage, rollback and tampering: found at the next start or by ``log verify``, named, and nothing signed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from store_worlds import AT, QUICK, Requests, final, fresh, in_child, reopen, sound

from allod.domain.errors import Integrity, Invalid, Unavailable
from allod.receipts import checkpoint as checkpoints
from allod.receipts.leaves import NoticeFacts
from allod.receipts.merkle import Frontier, leaf_hash
from allod.store.audit import verify_home
from allod.store.home import Home, load_home, load_keys, make_home
from allod.store.rebuild import rebuild_tables
from allod.store.writer import Settings


@pytest.fixture
def rested(tmp_path: Path) -> Home:
    home, store = fresh(tmp_path / "home")
    load = Requests(store)
    for _ in range(12):
        load.whole()
    store.close()
    sound(home)
    return home


def wrong(home: Home) -> list[str]:
    return [step.detail for step in verify_home(home).steps if not step.ok]


def log_files(home: Home) -> list[Path]:
    return [p for p in sorted(home.log.rglob("*")) if p.is_file() and p.name != "lock"]


def test_I7_a_changed_byte_anywhere_in_the_log_is_found_and_named(rested: Home) -> None:
    for path in log_files(rested):
        good = path.read_bytes()
        step = max(1, len(good) // 25)
        for at in [*range(0, len(good), step), len(good) - 1]:
            bad = bytearray(good)
            bad[at] ^= 0x10
            path.write_bytes(bad)
            assert wrong(rested), f"{path} byte {at}"
        path.write_bytes(good)
    sound(rested)


@pytest.mark.parametrize("name", ["entries", "offsets", "hashes", "checkpoint"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.95])
def test_a_cut_log_file_is_found(rested: Home, name: str, keep: float) -> None:
    path = rested.log / name
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    assert wrong(rested)
    if name == "hashes":  # hashes can be computed from the entries
        reopen(rested).close()
        sound(rested)
    elif not (name == "checkpoint" and keep == 0.0):  # an empty file is what a power cut may leave
        with pytest.raises(Integrity, match=r"leaves|note|checkpoint"):
            reopen(rested)


@pytest.mark.parametrize("name", ["entries", "offsets", "hashes"])
def test_a_grown_log_file_is_found(rested: Home, name: str) -> None:
    with (rested.log / name).open("ab") as file:
        file.write(b"more")
    assert wrong(rested)


@pytest.mark.parametrize("name", ["checkpoint", "journal"])
def test_missing_pieces_of_the_log_are_named(rested: Home, name: str) -> None:
    path = rested.log / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if name == "journal":
        path.mkdir()
    assert wrong(rested)
    with pytest.raises(Integrity, match=name):
        reopen(rested)


def test_missing_entries_are_named(rested: Home) -> None:
    (rested.log / "entries").unlink()
    assert wrong(rested)
    with pytest.raises(Integrity, match="lost leaves 0 to 23"):
        reopen(rested)


def test_a_leaf_edited_with_all_hashes_recomputed_is_found(rested: Home) -> None:
    entries = rested.log / "entries"
    entries.write_bytes(entries.read_bytes().replace(b'"cost_usd":"0.25"', b'"cost_usd":"0.01"', 1))
    data, edge, out, at = entries.read_bytes(), Frontier(), list[bytes](), 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        edge.append(leaf_hash(data[at + 2 : at + 2 + length]), out)
        at += 2 + length
    (rested.log / "hashes").write_bytes(b"".join(out))
    assert any("anchored" in text for text in wrong(rested))
    with pytest.raises(Integrity, match="not the one the journal continues"):
        reopen(rested)


def test_an_old_checkpoint_put_back_is_found_by_log_verify(rested: Home) -> None:
    old = rested.checkpoint.read_bytes()
    store = reopen(rested)
    Requests(store).whole()
    store.close()
    rested.checkpoint.write_bytes(old)
    assert any("old one" in text for text in wrong(rested))
    reopen(rested).close()  # it is consistent with the log: the newer one is written again
    sound(rested)


def test_a_checkpoint_of_another_tree_of_the_same_size_is_found(rested: Home) -> None:
    keys = load_keys(rested)
    size = 24
    rested.checkpoint.write_bytes(checkpoints.sign(keys.signer, size, bytes(32)))
    assert any("not those that were signed" in text for text in wrong(rested))
    with pytest.raises(Integrity, match="not the one that was signed"):
        reopen(rested)


def test_a_checkpoint_of_a_larger_tree_is_found(rested: Home) -> None:
    rested.checkpoint.write_bytes(checkpoints.sign(load_keys(rested).signer, 99, bytes(32)))
    assert wrong(rested)
    with pytest.raises(Integrity, match="lost leaves that were signed"):
        reopen(rested)


def test_I7_tables_put_back_from_an_older_backup_are_refused_with_the_loss_named(rested: Home) -> None:
    old = rested.root / "old.sqlite"
    shutil.copy(rested.database, old)
    store = reopen(rested)
    Requests(store).whole()
    store.close()
    shutil.copy(old, rested.database)
    assert any("tables are older" in text for text in wrong(rested))
    with pytest.raises(Integrity, match="older than the log") as caught:
        reopen(rested)
    assert "3 frames" in caught.value.why


def test_missing_tables_are_refused(rested: Home) -> None:
    rested.database.unlink()
    assert wrong(rested)
    with pytest.raises(Integrity, match="older than the log"):
        reopen(rested)


def test_a_log_put_back_from_an_older_backup_is_refused(rested: Home) -> None:
    old = rested.root / "oldlog"
    shutil.copytree(rested.log, old)
    store = reopen(rested)
    Requests(store).whole()
    store.close()
    shutil.rmtree(rested.log)
    shutil.copytree(old, rested.log)
    with pytest.raises(Integrity, match="journal is older than the tables"):
        reopen(rested)


def test_a_file_that_is_no_database_is_refused(rested: Home) -> None:
    rested.database.write_bytes(b"not a database at all" * 300)
    with pytest.raises(Integrity, match="damaged"):
        reopen(rested)


def test_a_damaged_journal_after_a_crash_destroys_nothing_and_is_refused(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")

    def crash(pipe: int) -> None:
        store = reopen(home)
        load = Requests(store)
        for _ in range(10):
            load.whole()
        store.flush()
        store._writer._write_checkpoint(durable=True)
        os._exit(0)

    in_child(crash)
    sound(home)
    (path,) = [p for p in home.journal.glob("*.seg") if p.read_bytes()[8] != 0]
    good = path.read_bytes()
    bad = bytearray(good)
    bad[6000] ^= 1
    path.write_bytes(bad)
    before = {p.name: p.read_bytes() for p in log_files(home)}
    assert wrong(home)
    with pytest.raises(Integrity, match="older than the tables"):
        reopen(home)
    assert {p.name: p.read_bytes() for p in log_files(home)} == before
    path.write_bytes(good)
    reopen(home).close()
    sound(home)


def test_the_ledger_and_the_log_must_agree(rested: Home) -> None:
    for change in (
        "DELETE FROM ledger WHERE receipt = (SELECT max(receipt) FROM ledger)",
        "DELETE FROM request WHERE receipt = (SELECT max(receipt) FROM request)",
        "UPDATE request SET status = 'failed' WHERE receipt = (SELECT max(receipt) FROM request)",
        "UPDATE request SET terminal_index = 1 WHERE receipt = (SELECT max(receipt) FROM request)",
        "UPDATE ledger SET cost_usd = '0.24' WHERE receipt = (SELECT max(receipt) FROM ledger)",
    ):
        copy = rested.root / "copy.sqlite"
        shutil.copy(rested.database, copy)
        _sql(rested, change)
        assert wrong(rested), change
        shutil.copy(copy, rested.database)
    sound(rested)


def _sql(home: Home, text: str) -> None:
    import sqlite3

    with sqlite3.connect(home.database) as connection:
        assert connection.execute(text).rowcount == 1
    connection.close()


def keys_of(home: Home) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in home.keys.iterdir()}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda h: h.log_key.unlink(), "log.key"),
        (lambda h: h.secret.unlink(), "secret"),
        (lambda h: h.log_key.write_text("PRIVATE+KEY+nonsense\n"), "signing key"),
        (lambda h: h.secret.write_text("short\n"), "secret"),
        (lambda h: h.log_key.chmod(0o644), "mode 0644"),
        (lambda h: h.secret.chmod(0o640), "mode 0640"),
        (lambda h: h.log_vkey.write_text("allod/other+00000000+AAAA\n"), "log.vkey"),
    ],
)
def test_missing_damaged_or_open_keys_are_refused_and_never_made_anew(
    rested: Home, change: Callable[[Home], None], word: str
) -> None:
    change(rested)
    before = keys_of(rested)
    for action in (make_home, load_home):
        with pytest.raises(Integrity) as caught:
            action(rested.root)
        assert word in caught.value.explain()
        assert caught.value.remedy
    with pytest.raises(Integrity):
        reopen(rested)
    assert keys_of(rested) == before
    assert wrong(rested)


def test_a_missing_verifier_key_is_written_again(rested: Home) -> None:
    vkey = rested.log_vkey.read_bytes()
    rested.log_vkey.unlink()
    reopen(rested).close()
    assert rested.log_vkey.read_bytes() == vkey


def test_a_home_of_a_newer_allod_is_refused(rested: Home) -> None:
    _sql(rested, "INSERT INTO migration VALUES (99)")
    with pytest.raises(Integrity, match="newer Allod"):
        reopen(rested)


def test_two_writers_are_refused(rested: Home) -> None:
    store = reopen(rested)
    try:
        for action in (reopen, verify_home):
            with pytest.raises(Unavailable) as caught:
                action(rested)
            assert caught.value.kind == "busy"
            assert "conflict" in caught.value.why
    finally:
        store.close()
    reopen(rested).close()


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")

    def die(pipe: int) -> None:
        store = reopen(home, QUICK)
        receipt = Requests(store).whole()
        os.write(pipe, f"{receipt}\n".encode())
        os._exit(1)

    lines, _ = in_child(die)
    store = reopen(home)
    store.flush()
    assert final(store, lines[0])["status"] == "answered"
    store.close()


def test_I4_lost_tables_are_rebuilt_from_the_log_and_the_log_says_so(tmp_path: Path) -> None:
    home, store = fresh(tmp_path / "home")
    load = Requests(store)
    early, open_then = load.whole(), load.begin()
    store.flush()
    store.close()
    shutil.copy(home.database, home.root / "old.sqlite")
    store = reopen(home)
    load.store = store
    late = load.begin()
    for n in (1, 2):
        load.attempt(late, n, deployment=f"d{n}")
    load.end(
        late,
        (
            load.row(late, 1, "0.1", status="failed", deployment="d1"),
            load.row(late, 2, "0.2", deployment="d2"),
        ),
    )
    refused = load.begin()
    load.end(refused, status="refused", deployment=None, evidence=None, response=None)
    store.flush()
    store.close()
    shutil.copy(home.root / "old.sqlite", home.database)
    with pytest.raises(Integrity, match="older than the log"):
        reopen(home)
    notice = NoticeFacts(id="n", at_ms=AT + 9000, tenant="p_t", subject="tables-rebuilt")
    done = rebuild_tables(home, apps={"p_a": "triage"}, notice=notice)
    assert (done.requests, done.rows) == (3, 2)
    sound(home)
    store = reopen(home)
    rows = store.database.rows(receipt=late)
    assert [(r.attempt, r.deployment, r.status, str(r.cost_usd), r.app) for r in rows] == [
        (1, "d1", "failed", "0.1", "triage"), (2, "d2", "answered", "0.2", "triage"),
    ]  # fmt: skip
    assert final(store, late)["tried"] == [
        ["d1", "failed", "reported", "0.1"],
        ["d2", "answered", "reported", "0.2"],
    ]
    for receipt in (early, open_then, late, refused):
        assert final(store, receipt)["id"] == receipt
    assert store.owner(late) == "triage"
    said = msgspec.json.decode(store.reader.leaf(store.reader.size() - 1))
    assert (said["kind"], said["subject"], said["facts"]["requests"]) == ("notice", "tables-rebuilt", "3")
    store.close()
    with pytest.raises(Invalid, match="lack nothing"):
        rebuild_tables(home, apps={}, notice=notice)


def test_tables_lost_altogether_are_rebuilt_as_well(rested: Home) -> None:
    rested.database.unlink()
    rebuild_tables(
        rested, apps={}, notice=NoticeFacts(id="n", at_ms=AT, tenant="p_t", subject="tables-rebuilt")
    )
    sound(rested)
    store = reopen(rested)
    assert len(store.database.rows()) == 12
    assert {r.app for r in store.database.rows()} == {"p_a"}
    store.close()


def test_a_frame_that_the_running_writer_cannot_read_back_is_fatal_and_nothing_of_it_is_signed(
    tmp_path: Path,
) -> None:
    _, store = fresh(tmp_path / "home", Settings(gather_s=0.2))
    load = Requests(store)
    receipt = load.begin()
    segment = store._journal.current
    os.pwrite(segment.fd, b"\xff", segment.end - 1)
    until = time.monotonic() + 10
    while store.healthy() is None and time.monotonic() < until:
        time.sleep(0.01)
    assert "damaged" in (store.healthy() or "")
    assert store.receipt_file(receipt) == "pending"
    with pytest.raises(Unavailable):
        load.begin()
    assert store.reader.checkpoint().splitlines()[1] == b"0"
    with pytest.raises(Unavailable):
        store.close()
