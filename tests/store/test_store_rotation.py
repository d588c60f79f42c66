"""The log's key over time: a rotation at any step of which the power may go, and what still verifies."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from store_worlds import AT, Requests, final, fresh, reopen, sound

from allod.domain.errors import Integrity, Invalid
from allod.receipts.checkpoint import sign
from allod.receipts.notes import parse_vkey
from allod.receipts.rotation import follow, read_rotation
from allod.receipts.verify import verify
from allod.store import history
from allod.store.audit import verify_home
from allod.store.home import Home, load_keys
from allod.store.rotate import Rotated, revoke_key, rotate_key

STEPS = (
    "next key", "leaf", "announcement", "checkpoint", "verifier key", "key", "new verifier key",
    "place in the history",
)  # fmt: skip


class Cut(Exception):
    """The power goes."""


def rotate(home: Home, *, cut: str = "", revoked: bool = False, at_ms: int = AT + 6000) -> Rotated:
    def step(name: str) -> None:
        assert name in STEPS
        if name == cut:
            raise Cut(name)

    return rotate_key(home, tenant="p_t", at_ms=at_ms, revoked=revoked, step=step)


def home_with_one(root: Path) -> tuple[Home, str, bytes]:
    home, store = fresh(root)
    receipt = Requests(store).whole()
    store.flush()
    file = store.receipt_file(receipt)
    assert isinstance(file, bytes)
    store.close()
    return home, receipt, file


def test_a_new_key_goes_on_over_the_same_origin_and_tree(tmp_path: Path) -> None:
    home, receipt, before = home_with_one(tmp_path / "home")
    old = load_keys(home).signer.key
    done = rotate(home)
    new = load_keys(home).signer.key
    assert (done.old, done.new) == (old.vkey(), new.vkey())
    assert (new.name, new == old) == (old.name, False)
    sound(home)
    notes = history.notes(home)
    assert [read_rotation(note).size for note in notes] == [done.size]
    store = reopen(home)
    later = Requests(store).whole()
    store.flush()
    after, again = store.receipt_file(later), store.receipt_file(receipt)
    assert isinstance(after, bytes)
    assert isinstance(again, bytes)
    final(store, later)
    store.close()
    assert not verify(after, old.vkey()).ok, "a key nobody announced must not be believed"
    assert verify(after, old.vkey(), rotations=notes).ok
    assert verify(before, new.vkey(), rotations=notes).ok
    assert verify(before, old.vkey()).ok, "who knows nothing of the new key still verifies what he has"
    assert verify(again, new.vkey()).ok, "every old leaf has a proof under the new key"
    sound(home)


@pytest.mark.parametrize("cut", STEPS)
def test_a_rotation_cut_at_any_step_leaves_a_whole_home_and_can_be_begun_again(
    tmp_path: Path, cut: str
) -> None:
    home, receipt, before = home_with_one(tmp_path / "home")
    first = load_keys(home).signer.key
    with pytest.raises(Cut):
        rotate(home, cut=cut)
    sound(home)
    store = reopen(home)
    final(store, receipt)
    Requests(store).whole()
    store.close()
    sound(home)
    rotate(home, at_ms=AT + 7000)
    sound(home)
    now = load_keys(home).signer.key
    assert now != first
    ring = follow(first, history.notes(home))
    assert ring.keys[-1].key == now
    assert len(ring.keys) in {2, 3}, "begun anew, or gone through with before it was begun again"
    assert verify(before, now.vkey(), rotations=history.notes(home)).ok
    assert not (home.keys / "log.key.next").exists()
    assert home.log_key.stat().st_mode & 0o077 == 0


def test_what_a_revoked_key_signed_counts_no_more_but_every_leaf_does(tmp_path: Path) -> None:
    home, receipt, before = home_with_one(tmp_path / "home")
    rotate(home, revoked=True)
    now, notes = load_keys(home).signer.key, history.notes(home)
    steps = {s.name: s for s in verify(before, now.vkey(), rotations=notes).steps}
    assert not steps["checkpoint signature"].ok
    assert "revoked key" in steps["checkpoint signature"].detail
    store = reopen(home)
    again = store.receipt_file(receipt)
    store.close()
    assert isinstance(again, bytes)
    assert verify(again, now.vkey(), rotations=notes).ok


def test_a_former_key_can_be_revoked_later_and_the_one_in_force_cannot(tmp_path: Path) -> None:
    home, _, before = home_with_one(tmp_path / "home")
    old = load_keys(home).signer.key
    rotate(home)
    rotate(home, at_ms=AT + 7000)
    now = load_keys(home).signer.key
    with pytest.raises(Invalid):
        revoke_key(home, now.key_id.hex(), tenant="p_t", at_ms=AT + 8000)
    assert verify(before, now.vkey(), rotations=history.notes(home)).ok
    assert revoke_key(home, old.key_id.hex(), tenant="p_t", at_ms=AT + 8000) == old
    assert not verify(before, now.vkey(), rotations=history.notes(home)).ok
    sound(home)
    rotate(home, at_ms=AT + 9000)
    assert len(follow(parse_vkey(now.vkey()), history.notes(home)).keys) == 4
    sound(home)


def test_a_note_of_a_key_that_came_by_no_leaf_is_found(tmp_path: Path) -> None:
    home, _, _ = home_with_one(tmp_path / "home")
    rotate(home)
    kept = history.folder(home) / "0001.note"
    note = kept.read_bytes()
    kept.write_bytes(note.replace(b"size ", b"size 1"))
    assert not verify_home(home).ok
    kept.write_bytes(note)
    sound(home)


def test_an_anchor_shows_later_that_the_log_extends_it_whatever_key_signs(tmp_path: Path) -> None:
    home, _, _ = home_with_one(tmp_path / "home")
    anchor = home.checkpoint.read_bytes()
    rotate(home, revoked=True)
    store = reopen(home)
    Requests(store).whole()
    store.close()
    assert verify_home(home, anchors=[anchor]).ok
    assert verify_home(home, anchors=[anchor.replace(b"\n", b"\r\n").rstrip(b"\r\n")]).ok, "as typed in"
    key = load_keys(home).signer
    for false in (sign(key, 2, bytes(32)), sign(key, 9999, bytes(32)), b"no note"):
        steps = verify_home(home, anchors=[anchor, false]).steps
        assert [s.name for s in steps if not s.ok] == ["anchors"], steps


def test_two_rotations_away_from_one_key_are_a_fork_and_neither_is_believed(tmp_path: Path) -> None:
    home, _, _ = home_with_one(tmp_path / "home")
    old = load_keys(home).signer.key
    twin = tmp_path / "twin"
    shutil.copytree(home.root, twin)
    rotate(home)
    rotate(Home(twin))
    both = [*history.notes(home), *history.notes(Home(twin))]
    with pytest.raises(Integrity, match="history"):
        follow(old, both)


def test_the_leaf_that_carries_a_rotation_is_one_of_the_log(tmp_path: Path) -> None:
    home, _, _ = home_with_one(tmp_path / "home")
    done = rotate(home)
    store = reopen(home)
    leaf = json.loads(store.reader.leaf(done.size - 1))
    store.close()
    assert (leaf["kind"], leaf["subject"]) == ("notice", "key-rotation")
    assert read_rotation(leaf["facts"]["note"].encode()).new.vkey() == done.new
