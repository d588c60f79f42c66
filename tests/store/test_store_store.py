from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_worlds import ANSWER, AT, BODY, QUICK, D, Requests, final, fresh, record_of, reopen, sound

from allod.domain.errors import Integrity, Invalid, Unavailable
from allod.receipts.checkpoint import open_checkpoint
from allod.receipts.commitment import digest
from allod.receipts.leaves import NoticeFacts
from allod.receipts.merkle import Frontier, leaf_hash, verify_consistency
from allod.receipts.proof import parse_proof, verify_proof
from allod.receipts.tiles import Tile, parse_bundle
from allod.receipts.verify import Opening, verify
from allod.store.database import Database
from allod.store.home import Home, load_home, make_home
from allod.store.keys import create_key, digest_of, list_keys, revoke_keys
from allod.store.store import Store
from allod.store.writer import Settings


@pytest.fixture
def opened(tmp_path: Path):
    home, store = fresh(tmp_path / "home")
    yield home, store
    store.close()


def test_a_request_becomes_a_receipt_that_opens_its_commitments(opened: tuple[Home, Store]) -> None:
    _, store = opened
    load = Requests(store)
    receipt = load.begin()
    assert store.receipt_file(receipt) == "pending"
    assert store.owner(receipt) == "triage"
    load.attempt(receipt)
    load.end(receipt, (load.row(receipt),))
    assert store.flush()
    file = store.receipt_file(receipt)
    assert isinstance(file, bytes)
    ask, say = load.salts[receipt]
    verification = verify(
        file,
        store.keys.signer.key.vkey(),
        request=Opening(body=BODY, salt=ask),
        response=Opening(body=ANSWER, salt=say),
    )
    assert verification.ok, verification
    row = store.database.request(receipt)
    assert row is not None
    assert (row.request_salt, row.response_salt) == (ask, say)
    assert store.owner(receipt) == "triage"
    assert store.owner("r_00000000_01KAY867ME4K6YPXCY6ESP6P6X") is None
    assert store.receipt_file("r_00000000_01KAY867ME4K6YPXCY6ESP6P6X") is None


def test_I3_one_intent_and_exactly_one_end(opened: tuple[Home, Store]) -> None:
    _, store = opened
    load = Requests(store)
    receipt = load.begin()
    with pytest.raises(Integrity, match="in use"):
        load.begin(id=receipt)
    load.end(receipt)
    with pytest.raises(Integrity):
        load.end(receipt)
    with pytest.raises(Integrity, match="in use"):
        load.begin(id=receipt)
    with pytest.raises(Integrity):
        load.end("r_00000000_01KAY867ME4K6YPXCY6ESP6P6X")
    with pytest.raises(Integrity):
        load.attempt(receipt)
    store.flush()
    assert store.reader.size() == 2


def test_I3_two_threads_cannot_both_end_a_request(opened: tuple[Home, Store]) -> None:
    _, store = opened
    load = Requests(store)
    receipts = [load.begin() for _ in range(40)]
    outcomes: list[str] = []

    def ending() -> None:
        for receipt in receipts:
            try:
                load.end(receipt)
                outcomes.append("ended")
            except Integrity:
                outcomes.append("refused")

    threads = [threading.Thread(target=ending) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("ended") == 40
    assert len(outcomes) == 160
    store.flush()
    assert store.reader.size() == 80


def test_I4_every_attempt_has_exactly_one_row_whatever_the_gateway_forgot(opened: tuple[Home, Store]) -> None:
    _, store = opened
    load = Requests(store)
    receipt = load.begin()
    for n in (1, 2, 3):
        load.attempt(receipt, n, "0.5")
    with pytest.raises(Integrity):
        load.attempt(receipt, 2)
    with pytest.raises(Integrity):
        load.end(receipt, (load.row(receipt, 1), load.row(receipt, 1)))
    with pytest.raises(Integrity):
        load.end(receipt, (load.row(load.begin(), 1),))
    load.end(receipt, (load.row(receipt, 2, "0.1"),), cost_usd=Decimal("9.9"), attempts=1)
    store.flush()
    rows = store.database.rows(receipt=receipt)
    assert [(r.attempt, r.basis, str(r.cost_usd)) for r in rows] == [
        (1, "reserved", "0.5"), (2, "reported", "0.1"), (3, "reserved", "0.5"),
    ]  # fmt: skip
    leaf = final(store, receipt)
    assert (leaf["cost_usd"], leaf["attempts"], leaf["basis"]) == ("1.1", 3, "reserved")


def test_money_is_kept_exactly_and_added_up_exactly(opened: tuple[Home, Store]) -> None:
    _, store = opened
    load = Requests(store)
    costs = ["0.1", "0.2", "1e-9", "123456789012345678.123456789", "0"]
    for cost in costs:
        receipt = load.begin()
        load.attempt(receipt)
        load.end(receipt, (load.row(receipt, cost=cost),))
    store.flush()
    assert store.database.spent() == sum(map(Decimal, costs))
    assert store.database.spent(app="nobody") == 0
    with sqlite3.connect(store.home.database) as raw:
        texts = {text for (text,) in raw.execute("SELECT cost_usd FROM ledger")}
    assert "0.000000001" in texts


def test_ledger_rows_come_back_as_they_were_given(opened: tuple[Home, Store]) -> None:
    _, store = opened
    load = Requests(store)
    receipt = load.begin()
    load.attempt(receipt)
    row = load.row(receipt, task="extract", first_token_ms=3, total_ms=9, detail="a fault")
    load.end(receipt, (row,))
    store.flush()
    assert store.database.rows(receipt=receipt) == [row]
    assert store.database.rows(app="triage", since_ms=AT, until_ms=AT + 2) == [row]
    assert store.database.rows(since_ms=AT + 2) == []


def test_I8_a_decision_record_is_stored_once_and_is_the_leafs(opened: tuple[Home, Store]) -> None:
    _, store = opened
    load = Requests(store)
    for n in (1, 2, 1, 1, 2):
        load.end(load.begin(record=record_of(n)))
    store.flush()
    for n in (1, 2):
        assert store.database.record(digest(record_of(n))) == record_of(n)
    assert store.database.record(D) is None
    with sqlite3.connect(store.home.database) as raw:
        assert raw.execute("SELECT count(*) FROM decision_record").fetchone() == (2,)
    with pytest.raises(Integrity, match="decision record"):
        load.begin(record=b"{}", decision=D)
    with pytest.raises(Integrity, match="decision record"):
        load.begin(record=b"x" * (1 << 20))


def test_I9_no_content_and_no_name_is_in_the_log_and_erasing_the_salts_leaves_it_whole(
    tmp_path: Path,
) -> None:
    home, store = fresh(tmp_path / "home")
    load = Requests(store)
    receipt = load.whole()
    other = load.whole()
    store.flush()
    ask, say = load.salts[receipt]
    files = [p for p in home.root.rglob("*") if p.is_file() and p.name != "lock"]
    assert any(ask in p.read_bytes() for p in files)
    assert store.erase(receipt)
    assert not store.erase("r_00000000_01KAY867ME4K6YPXCY6ESP6P6X")
    row = store.database.request(receipt)
    assert row is not None
    assert (row.request_salt, row.response_salt) == (None, None)
    assert final(store, receipt)["status"] == "answered"
    deadline = time.monotonic() + 5
    files = [p for p in home.root.rglob("*") if p.is_file() and p.name != "lock"]
    while any(salt in p.read_bytes() for p in files if p.exists() for salt in (ask, say)):
        assert time.monotonic() < deadline, "an erased salt is still on the disk"
        time.sleep(0.05)
    kept = store.database.request(other)
    assert kept is not None
    assert kept.request_salt == load.salts[other][0]
    pending = load.begin()
    with pytest.raises(Unavailable):
        store.erase(pending)
    store.close()
    sound(home)
    for path in home.log.rglob("*"):
        if path.is_file():
            assert b"triage" not in path.read_bytes()
            assert BODY not in path.read_bytes()


def test_tiles_and_bundles_rebuild_the_tree_and_stop_at_the_published_size(tmp_path: Path) -> None:
    _, store = fresh(tmp_path / "home", Settings(gather_s=0.001))
    load = Requests(store)
    for _ in range(300):
        load.whole()
    assert store.flush()
    reader, key = store.reader, store.keys.signer.key
    head = open_checkpoint(reader.checkpoint(), key)
    assert head.size == 600
    hashes = b"".join(reader.tile(0, n) or b"" for n in range(2)) + (reader.tile(0, 2, 88) or b"")
    leaves = [
        leaf
        for n, width in ((0, 256), (1, 256), (2, 88))
        for leaf in parse_bundle(reader.entries(n, width) or b"")
    ]
    edge, out = Frontier(), list[bytes]()
    for leaf in leaves:
        edge.append(leaf_hash(leaf), out)
    assert b"".join(map(leaf_hash, leaves)) == hashes
    assert edge.root() == head.root
    top = reader.tile(1, 0, 2)
    first = Frontier()
    for leaf in leaves[:256]:
        first.append(leaf_hash(leaf), [])
    assert top is not None
    assert top[:32] == first.root()
    assert reader.resource(Tile(level=1, n=0, width=2)) == top
    assert reader.resource(Tile(level=None, n=2, width=88)) == reader.entries(2, 88)
    for level, n, width in (
        (0, 2, 256),
        (0, 2, 89),
        (1, 0, 3),
        (1, 0, 256),
        (2, 0, 1),
        (0, 3, 1),
        (63, 0, 1),
        (0, 10**14, 256),
    ):
        assert reader.tile(level, n, width) is None
    assert reader.entries(2, 89) is None
    assert reader.entries(-1) is None
    proof = reader.consistency(255)
    old = Frontier()
    for leaf in leaves[:255]:
        old.append(leaf_hash(leaf), [])
    assert verify_consistency(255, 600, old.root(), head.root, proof)
    verify_proof(parse_proof(reader.proof(77)), leaf_hash(leaves[77]), key)
    with pytest.raises(Invalid):
        reader.leaf(600)
    store.close()


def test_a_notice_is_a_leaf(opened: tuple[Home, Store]) -> None:
    _, store = opened
    store.append_notice(NoticeFacts(id="n", at_ms=AT, tenant="p_t", subject="start", facts={"fleet": D}))
    store.flush()
    leaf = msgspec.json.decode(store.reader.leaf(0))
    assert (leaf["kind"], leaf["subject"], leaf["facts"]) == ("notice", "start", {"fleet": D})


def test_durable_and_committed_are_awaited(tmp_path: Path) -> None:
    home, store = fresh(tmp_path / "home", Settings(gather_s=0.02, segment_bytes=1 << 20))

    async def run() -> None:
        load = Requests(store)
        started = time.monotonic()
        receipt = load.begin()
        seq = store._journal.next_seq - 1
        await store.durable(seq)
        assert store._writer.durable_seq > seq
        load.end(receipt)
        assert await store.committed(receipt, 5)
        assert final(store, receipt)["status"] == "answered"
        await store.durable(seq)
        assert await store.committed("r_unknown", 0.001)
        assert time.monotonic() - started < 5
        many = [load.whole() for _ in range(50)]
        assert all(await asyncio.gather(*(store.committed(r, 5) for r in many)))

    asyncio.run(run())
    store.close()
    sound(home)


def test_committed_gives_up_in_time_and_a_dead_writer_is_told(tmp_path: Path) -> None:
    home, store = fresh(tmp_path / "home")
    real = os.fdatasync
    load = Requests(store)
    store.flush()

    def broken(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    async def run() -> None:
        late = load.whole()
        store._writer.settings = Settings(gather_s=0.3)
        assert not await store.committed(load.whole(), 0.001)
        assert await store.committed(late, 5)
        os.fdatasync = broken
        try:
            receipt = load.begin()
            with pytest.raises(Unavailable, match="log"):
                await store.durable(store._journal.next_seq - 1)
        finally:
            os.fdatasync = real
        assert "synced" in (store.healthy() or "")
        with pytest.raises(Unavailable) as caught:
            load.begin()
        assert caught.value.kind == "storage"
        load.end(receipt)  # handed to the operating system all the same

    asyncio.run(run())
    with pytest.raises(Unavailable):
        store.close()
    reopen(home).close()
    sound(home)


def test_tables_in_trouble_refuse_what_is_new_and_heal(tmp_path: Path) -> None:
    home, store = fresh(tmp_path / "home")
    load = Requests(store)
    receipt = load.begin()
    store.flush()
    real = store.database.commit

    def broken(*args: object, **more: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    store.database.commit = broken  # type: ignore[method-assign]
    load.end(receipt)
    deadline = time.monotonic() + 5
    while store.healthy() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "disk I/O error" in (store.healthy() or "")
    with pytest.raises(Unavailable):
        load.begin()
    store.database.commit = real  # type: ignore[method-assign]
    while store.healthy() is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    load.whole()
    assert store.flush()
    store.close()
    sound(home)


def test_a_closed_store_takes_nothing(tmp_path: Path) -> None:
    _, store = fresh(tmp_path / "home")
    store.close()
    store.close()
    with pytest.raises(Unavailable):
        Requests(store).begin()
    assert store.healthy()


def test_keys_work_within_a_second_and_stop_when_revoked_or_expired(opened: tuple[Home, Store]) -> None:
    home, store = opened
    other = Database.lite_file(home.database)  # another process, as far as SQLite knows
    key = create_key(other, "triage", at_ms=AT)
    brief = create_key(other, "press", at_ms=AT, expires_at_ms=AT + 100)
    assert (key[:3], len(key)) == ("ak_", 46)

    def soon(check, seconds: float = 1.0) -> None:
        end = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < end
            time.sleep(0.01)

    soon(lambda: store.key_table.lookup(digest_of(key), AT) == "triage")
    assert store.key_table.lookup(digest_of(brief), AT + 99) == "press"
    assert store.key_table.lookup(digest_of(brief), AT + 100) is None
    assert store.key_table.lookup(digest_of(key + "x"), AT) is None
    assert store.key_table.lookup(key, AT) is None
    assert revoke_keys(other, at_ms=AT + 50, app="triage") == 1
    assert revoke_keys(other, at_ms=AT + 50, app="triage") == 0
    soon(lambda: store.key_table.lookup(digest_of(key), AT + 60) is None)
    assert revoke_keys(other, at_ms=AT, digest=digest_of(brief)[:12]) == 1
    assert [(k.app, k.revoked_at_ms) for k in list_keys(other)] == [
        ("triage", AT + 50),
        ("press", AT),
    ] or len(list_keys(other)) == 2
    other.close()
    for path in home.root.rglob("*"):
        if path.is_file():
            assert key.encode() not in path.read_bytes()


def test_keys_need_an_app_and_a_future(opened: tuple[Home, Store]) -> None:
    _, store = opened
    for app, expires in (("", None), ("a" * 201, None), ("a", AT)):
        with pytest.raises(Invalid):
            create_key(store.database, app, at_ms=AT, expires_at_ms=expires)
    with pytest.raises(Invalid):
        revoke_keys(store.database, at_ms=AT)
    assert revoke_keys(store.database, at_ms=AT, digest="%") == 0


def test_recent_requests_are_listed_newest_first(opened: tuple[Home, Store]) -> None:
    _, store = opened
    load = Requests(store)
    receipts = [load.whole() for _ in range(5)]
    load.begin()
    store.flush()
    assert [r.receipt for r in store.database.recent(3)] == receipts[:1:-1]
    assert store.database.recent(3, app="nobody") == []


def test_a_home_is_made_once_and_private(tmp_path: Path) -> None:
    root = tmp_path / "home"
    root.mkdir()
    (root / "allod.toml").write_text("[tenant]\n")
    home = make_home(root)
    before = {p: p.read_bytes() for p in home.keys.iterdir()}
    assert make_home(root) == load_home(root) == home
    assert {p: p.read_bytes() for p in home.keys.iterdir()} == before
    assert oct(home.keys.stat().st_mode & 0o777) == "0o700"
    assert oct(home.log_key.stat().st_mode & 0o777) == oct(home.secret.stat().st_mode & 0o777) == "0o600"
    with pytest.raises(Unavailable, match="no home"):
        load_home(tmp_path / "nowhere")


operations = st.lists(
    st.sampled_from(["begin", "attempt", "end", "end", "flush", "reopen", "turn"]), min_size=1, max_size=40
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations, st.randoms(use_true_random=False))
def test_I3_I4_I7_any_history_leaves_one_end_and_one_row_each(tmp_path_factory, steps, chance) -> None:
    home, store = fresh(tmp_path_factory.mktemp("history") / "home", QUICK)
    load = Requests(store)
    live: dict[str, int] = {}
    done: dict[str, tuple[str, int]] = {}
    for step in steps:
        if step == "begin" or (step in {"attempt", "end"} and not live):
            live[load.begin()] = 0
        elif step == "attempt":
            receipt = chance.choice(sorted(live))
            live[receipt] += 1
            load.attempt(receipt, live[receipt])
        elif step == "end":
            receipt = chance.choice(sorted(live))
            count = live.pop(receipt)
            rows = tuple(load.row(receipt, n) for n in range(1, count + 1) if chance.random() < 0.8)
            load.end(receipt, rows)
            done[receipt] = ("answered", count)
        elif step == "flush":
            assert store.flush()
        elif step == "turn":
            store._writer.turn()
        else:
            store.close()
            sound(home)
            store = reopen(home)
            load.store = store
            done |= {receipt: ("failed", count) for receipt, count in live.items()}
            live = {}
    store.close()
    sound(home)
    store = reopen(home)
    assert store.flush()
    done |= {receipt: ("failed", count) for receipt, count in live.items()}
    for receipt, (status, count) in done.items():
        leaf = final(store, receipt)
        assert (leaf["status"], leaf["attempts"]) == (status, count)
        assert [r.attempt for r in store.database.rows(receipt=receipt)] == list(range(1, count + 1))
    assert store.reader.size() == 2 * len(done)
    store.close()
