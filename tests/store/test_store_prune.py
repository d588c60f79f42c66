"""Pruning by published policy: what goes, what stays, what is said, and death at every step of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from pruning_worlds import (
    DAYS,
    NOW,
    ROOMY,
    YEAR_LATER,
    aged,
    carry_out,
    later,
    note,
    policy_of,
    publish,
    rules,
    step_of,
)
from store_worlds import AT, Requests, final, fresh, reopen, sound

from allod.domain.errors import Integrity, Invalid, Unavailable
from allod.gateway.standing import newest
from allod.receipts.canonical import canonical
from allod.receipts.ids import new_id
from allod.receipts.leaves import NoticeFacts
from allod.receipts.merkle import verify_consistency
from allod.receipts.pruning import DAY_MS, Hold, policy_leaf, read_kept, read_record
from allod.receipts.tiles import Tile
from allod.receipts.verify import verify
from allod.store.audit import verify_home
from allod.store.export import export_tiles
from allod.store.extract import Extract
from allod.store.home import Home, load_keys
from allod.store.prune import outlook, prune
from allod.store.pruned import PLAN, RECORD
from allod.store.rebuild import rebuild_tables


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return aged(tmp_path / "home")[0]


def test_what_is_older_than_the_policy_goes_and_everything_else_still_holds(tmp_path: Path) -> None:
    home, old, young = aged(tmp_path / "home")
    store = reopen(home)
    before = store.receipt_file(old[0])
    size, root = store.reader.size(), store.reader.root(store.reader.size())
    hashes = [store.reader.tile(0, n) for n in range(size // 256)]
    store.close()
    done = carry_out(home)
    assert (done.since, done.upto) == (0, 768)  # 801 old leaves, whole bundles of 256
    sound(home)
    assert "leaves 0 to 767 are pruned" in step_of(home, "pruning")
    assert "cannot be recomputed" in step_of(home, "pruning")
    store = reopen(home)
    reader = store.reader
    assert isinstance(before, bytes)
    assert verify(before, store.keys.signer.key.vkey()).ok  # a receipt handed out before
    for receipt in young:
        final(store, receipt)
    with pytest.raises(Invalid, match="pruned") as gone:
        store.receipt_file(old[0])
    assert gone.value.kind == "pruned"
    assert rules(home).policy.digest in gone.value.why
    assert [reader.tile(0, n) for n in range(size // 256)] == hashes
    assert reader.root(size) == root
    assert reader.entries(2) is None
    assert reader.entries(2, 17) is None
    assert reader.resource(Tile(level=None, n=3, width=reader.size() - 768)) is not None
    new = reader.size()
    for earlier in (1, 255, 256, 700, 768, size):  # consistency from sizes before the minimum index too
        proof = reader.consistency(earlier)
        assert verify_consistency(earlier, new, reader.root(earlier), reader.root(new), proof)
    store.close()


def test_the_bytes_leave_the_disk_and_the_file_keeps_its_length(home: Home) -> None:
    entries = home.log / "entries"
    whole, blocks = entries.read_bytes(), entries.stat().st_blocks
    carry_out(home)
    now = entries.read_bytes()
    record = read_record((home.log / RECORD).read_bytes())
    assert not now[: record.bytes].strip(b"\0")
    assert now[record.bytes : len(whole)] == whole[record.bytes :]
    assert entries.stat().st_blocks < blocks or record.bytes < 8192
    assert not (home.log / PLAN).exists()


def test_where_no_hole_can_be_made_zeros_are_written(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allod.store.holes._punched", lambda _fd, _length: False)
    carry_out(home)
    assert (
        not (home.log / "entries")
        .read_bytes()[: read_record((home.log / RECORD).read_bytes()).bytes]
        .strip(b"\0")
    )
    sound(home)


def test_the_leaf_that_announces_it_is_in_the_log_before_anything_is_gone(home: Home) -> None:
    entries = (home.log / "entries").read_bytes()
    seen: list[tuple[str, bool]] = []

    def step(name: str) -> None:
        now = (home.log / "entries").read_bytes()
        if name in {"record", "tables", "entries"}:
            assert now[: len(entries)] == entries
            assert b'"subject":"log-pruned"' in now
        seen.append((name, b'"subject":"log-pruned"' in now))

    prune(home, rules(home), tenant="p_t", now_ms=NOW, step=step)
    assert [name for name, _ in seen] == [
        "kept notices",
        "plan",
        "leaf",
        "record",
        "tables",
        "entries",
        "rest",
    ]
    assert [there for _, there in seen] == [False, False, False, True, True, True, True]


def test_notices_stay_and_are_read_from_where_they_are_kept(home: Home) -> None:
    carry_out(home)
    store = reopen(home)
    kept = store.reader.noted(0, 768)
    assert [msgspec.json.decode(leaf)["subject"] for _, leaf in kept] == ["start"]
    assert store.reader.leaf(kept[0][0]) == kept[0][1]
    store.close()


def test_what_stands_and_the_policy_itself_are_found_among_kept_notices(tmp_path: Path) -> None:
    """Under four eyes a start reads from the log what is in force: pruning must not make it forget."""
    home, store = fresh(tmp_path / "home", ROOMY)
    load = Requests(store)
    note(store, "start", AT, four_eyes="yes", change="sha256:" + "c" * 64)
    name = new_id(store.keys.origin, AT, bytes(10))
    store.append_notice(policy_leaf(policy_of(store), id=name, at_ms=AT, tenant="p_t"))
    receipts = [load.whole() for _ in range(300)]
    note(store, "x", NOW)
    store.close()
    assert carry_out(home, Hold(reason="case", receipts=(receipts[200],))).upto == 256
    store = reopen(home)
    assert newest(store).four_eyes
    assert newest(store).change == "sha256:" + "c" * 64
    store.close()
    assert carry_out(home).upto == 512  # by a policy whose leaf is among the kept notices
    sound(home)


def test_salts_and_decision_records_go_and_ledger_rows_stay(tmp_path: Path) -> None:
    home, old, young = aged(tmp_path / "home")
    carry_out(home)
    store = reopen(home)
    gone, there = store.database.request(old[0]), store.database.request(young[0])
    assert gone is not None
    assert there is not None
    assert (gone.status, gone.request_salt, gone.response_salt) == ("answered", None, None)
    assert there.request_salt is not None
    # the one record of all old requests is named by those that stay (old[-1] is not pruned)
    assert store.database.record(gone.decision) is not None
    assert store.database.record(there.decision) is not None
    assert len(store.database.rows(receipt=old[0])) == 1
    store.close()


def test_a_decision_record_that_only_pruned_requests_name_goes(tmp_path: Path) -> None:
    home, store = fresh(tmp_path / "home", ROOMY)
    load = Requests(store)
    alone = load.begin(record=canonical({"alone": 1}))
    load.end(alone)
    for _ in range(300):
        load.whole()
    publish(store, YEAR_LATER)
    later(load, NOW - DAY_MS)
    store.close()
    carry_out(home)
    store = reopen(home)
    row = store.database.request(alone)
    assert row is not None
    assert store.database.record(row.decision) is None
    origin, first = store.keys.origin, store.reader.first
    found = {d.receipt: d for d in store.database.decisions(origin, first=first)}
    assert (found[alone].body, found[alone].pruned) == (None, True)
    assert sum(d.requests for d in found.values()) == 302  # never silently fewer
    store.close()


def test_ledger_rows_go_where_the_policy_says_so(tmp_path: Path) -> None:
    home, old, _ = aged(tmp_path / "home", ledger=True)
    carry_out(home, ledger=True)
    store = reopen(home)
    assert store.database.rows(receipt=old[0]) == []
    store.close()
    sound(home)


# --- what keeps leaves


@pytest.mark.parametrize(
    ("hold", "upto", "why"),
    [
        (Hold(reason="case 7"), 0, "case 7"),
        (Hold(reason="case 7", since_ms=AT + 150), 0, "or younger"),
        (Hold(reason="case 7", since_ms=NOW), 768, "only whole bundles of 256 go"),
    ],
    ids=["everything", "since", "young"],
)
def test_a_legal_hold_keeps_what_it_covers(home: Home, hold: Hold, upto: int, why: str) -> None:
    found = outlook(home, rules(home, hold), now_ms=NOW)
    assert found.upto == upto
    assert why in found.why
    assert carry_out(home, hold).upto == upto
    sound(home)


def test_a_hold_on_a_receipt_keeps_it_and_all_behind_it(tmp_path: Path) -> None:
    home, old, _ = aged(tmp_path / "home")
    assert carry_out(home, Hold(reason="case 7", receipts=(old[200],))).upto == 256
    store = reopen(home)
    final(store, old[200])
    store.close()
    with pytest.raises(Invalid, match="no receipt"):
        carry_out(home, Hold(reason="case 7", receipts=("r_00000000_01KAY000000000000000000000",)))


def test_a_policy_that_is_not_in_the_log_prunes_nothing(home: Home) -> None:
    with pytest.raises(Invalid, match="not published"):
        carry_out(home, retain_days=200)
    store = reopen(home)
    note(store, "start", NOW)  # a start that says nothing of a policy ends it
    store.close()
    with pytest.raises(Invalid, match="not published"):
        carry_out(home)


def test_a_policy_needs_seven_days_in_the_log(tmp_path: Path) -> None:
    home, store = fresh(tmp_path / "home", ROOMY)
    load = Requests(store)
    for _ in range(150):
        load.whole()
    publish(store, NOW - 6 * DAY_MS)
    later(load, NOW)
    store.close()
    done = carry_out(home)
    assert done.upto == 0
    assert "nothing is pruned by it before" in done.why


def test_a_clock_set_forward_prunes_nothing_the_log_does_not_say_is_old(tmp_path: Path) -> None:
    home, store = fresh(tmp_path / "home", ROOMY)
    load = Requests(store)
    publish(store, AT)
    for _ in range(300):
        load.whole()
    store.close()
    done = prune(home, rules(home), tenant="p_t", now_ms=AT + 4000 * DAY_MS)
    assert done.upto == 0


def test_what_no_quorum_has_cosigned_stays(home: Home) -> None:
    from allod.receipts.cosignature import Cosigner
    from allod.receipts.tlog_policy import Witness, k_of_n

    cosigner = Cosigner("w.example", "ed25519", b"w" * 32)
    trust = k_of_n((Witness(name="w", key=cosigner.key, url="https://w.example"),), 1)
    asked = msgspec.structs.replace(rules(home), trust=trust)
    assert outlook(home, asked, now_ms=NOW).upto == 0
    store = reopen(home)
    from allod.receipts.checkpoint import sign

    text = sign(store.keys.signer, 600, store.reader.root(600))
    home.cosigned.write_bytes(text + cosigner.line(text.decode().rpartition("\n\n")[0] + "\n", 1).encode())
    store.close()
    found = outlook(home, asked, now_ms=NOW)
    assert found.upto == 512
    assert found.why.startswith("witnesses have cosigned 600 leaves")


def test_a_log_that_does_not_hold_is_not_pruned(home: Home) -> None:
    entries = home.log / "entries"
    data = entries.read_bytes()
    entries.write_bytes(data.replace(b'"cost_usd":"0.25"', b'"cost_usd":"0.01"', 1))
    with pytest.raises(Integrity, match="nothing is pruned"):
        carry_out(home)
    assert not (home.log / RECORD).exists()
    assert not (home.log / PLAN).exists()


def test_a_home_in_use_is_not_pruned(home: Home) -> None:
    store = reopen(home)
    with pytest.raises(Unavailable, match="in use"):
        carry_out(home)
    store.close()


# --- again and again


def test_a_request_that_began_in_what_is_gone_and_ended_behind_is_named_everywhere(tmp_path: Path) -> None:
    home, store = fresh(tmp_path / "home", ROOMY)
    load = Requests(store)
    half = load.begin()
    load.attempt(half)
    for _ in range(300):
        load.whole()
    load.end(half, (load.row(half),))
    publish(store, YEAR_LATER)
    young = later(load, NOW - DAY_MS)
    store.close()
    carry_out(home)
    sound(home)
    store = reopen(home)
    with pytest.raises(Invalid, match="pruned"):
        store.receipt_file(half)
    store.close()
    extract = Extract(home)
    ids = [entry.end.id for entry in extract.entries(0, NOW * 2)]
    assert young in ids
    assert half not in ids
    assert extract.halves == 2  # it, and the one the boundary cut in two
    told = extract.lost(0)
    assert told is not None
    assert "are pruned from the log by its policy of 365 days" in told
    assert extract.lost(NOW) is None
    extract.close()
    home.database.unlink()
    notice = NoticeFacts(id="n", at_ms=NOW, tenant="p_t", subject="tables-rebuilt")
    done = rebuild_tables(home, apps={}, notice=notice)
    assert done.pruned == 255
    store = reopen(home)
    row = store.database.request(half)
    assert row is not None
    assert row.intent_index == 0
    store.close()
    sound(home)


def test_a_second_pruning_goes_on_from_the_first(tmp_path: Path) -> None:
    home, old, _ = aged(tmp_path / "home")
    carry_out(home, Hold(reason="case", receipts=(old[200],)))
    first = (home.log / RECORD).read_bytes()
    done = carry_out(home)
    assert (done.since, done.upto) == (256, 768)
    record = read_record((home.log / RECORD).read_bytes())
    assert record.before.startswith("sha256:")
    assert read_record(first).upto == 256
    assert len(list(home.log.glob("kept-*"))) == 1
    sound(home)
    assert carry_out(home).upto == 768  # nothing more to do
    sound(home)


def test_numbers_go_on_behind_what_is_gone_when_their_note_is_lost(home: Home) -> None:
    carry_out(home)
    (home.log / "numbers").unlink()
    store = reopen(home)
    store.flush()
    load = Requests(store)
    receipt = later(load, NOW)
    assert store.flush()
    assert final(store, receipt)["seq"] == 421
    store.close()
    sound(home)


def test_hashes_lost_behind_what_is_gone_are_made_again_and_those_of_it_cannot_be(home: Home) -> None:
    carry_out(home)
    hashes = home.log / "hashes"
    data = hashes.read_bytes()
    hashes.write_bytes(data[: len(data) - 320])
    reopen(home).close()
    sound(home)
    data = hashes.read_bytes()
    hashes.write_bytes(data[:64] + bytes(32) + data[96:])
    assert not verify_home(home).ok
    hashes.write_bytes(data[:6400])
    with pytest.raises(Integrity, match="among the hashes of pruned leaves"):
        reopen(home)


def test_an_export_says_what_is_not_in_it(home: Home, tmp_path: Path) -> None:
    carry_out(home)
    store = reopen(home)
    folder = tmp_path / "tiles"
    export_tiles(store.reader, folder)
    store.close()
    assert not (folder / "tile/entries/002").exists()
    assert (folder / "tile/0/002").exists()
    assert msgspec.json.decode((folder / "pruned.json").read_bytes())["upto"] == 768


def test_leaves_that_came_back_with_a_backup_go_again(home: Home) -> None:
    entries = home.log / "entries"
    whole = entries.read_bytes()
    carry_out(home)
    now = entries.read_bytes()
    entries.write_bytes(whole + now[len(whole) :])
    assert "content is still on the disk" in step_of(home, "pruning")
    carry_out(home)
    assert "still on the disk" not in step_of(home, "pruning")


# --- who lies about it


@pytest.mark.parametrize("what", ["record", "policy", "kept", "no record", "upto", "root"])
def test_what_was_pruned_cannot_be_said_otherwise_afterwards(home: Home, what: str) -> None:
    carry_out(home)
    path = home.log / RECORD
    data = path.read_bytes()
    if what == "record":
        path.write_bytes(data.replace(b'"terminals":38', b'"terminals":37'))
    elif what == "policy":
        path.write_bytes(data.replace(b'"retain_days":365', b'"retain_days":184'))
    elif what == "upto":
        path.write_bytes(data.replace(b'"upto":768', b'"upto":512'))
    elif what == "root":
        path.write_bytes(data.replace(b'"root":"', b'"root":"f', 1))
    elif what == "no record":
        path.unlink()
    else:
        kept = next(home.log.glob("kept-*"))
        kept.write_bytes(kept.read_bytes().replace(b'"subject":"start"', b'"subject":"stark"'))
    assert path.read_bytes() != data if path.exists() and what != "kept" else True
    assert not verify_home(home).ok


def test_a_pruning_nobody_announced_is_found(home: Home, tmp_path: Path) -> None:
    """Somebody empties the front of a copy and lays the record of another pruning beside it."""
    import shutil

    other = Home(tmp_path / "other")
    shutil.copytree(home.root, other.root)
    carry_out(other)
    shutil.copy(other.log / RECORD, home.log / RECORD)
    for kept in other.log.glob("kept-*"):
        shutil.copy(kept, home.log / kept.name)
    failed = [step.detail for step in verify_home(home).steps if not step.ok]
    assert any("announced by no leaf" in text for text in failed)


def test_kept_notices_are_read_strictly() -> None:
    with pytest.raises(Integrity, match="damaged"):
        read_kept(bytes(8) + b"\0\5abc")


def test_the_policy_in_words_and_its_digest(home: Home) -> None:
    policy = rules(home).policy
    store = reopen(home)
    assert policy == policy_of(store)
    leaves = [leaf for _, leaf in store.reader.noted(0, store.reader.size()) if b'"pruning-policy"' in leaf]
    store.close()
    said = msgspec.json.decode(leaves[0])
    assert said["facts"]["statement"] == policy.statement
    assert said["facts"]["policy"] == policy.digest
    assert f"{DAYS} days" in policy.statement
    assert load_keys(home).origin in policy.statement
