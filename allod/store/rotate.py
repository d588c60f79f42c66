"""Handing a log at rest over to another key, safe to interrupt at any step and to begin again.

The next key is written down first, then a leaf of the log carries the rotation signed by both keys, then the
last checkpoint is signed by both, and only then the keys change places. Whatever a crash leaves, the key in
force and the checkpoint on the disk fit each other, and the same origin goes on over the same tree.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.receipts.checkpoint import sign
from allod.receipts.ids import new_id
from allod.receipts.leaves import leaf_time
from allod.receipts.notes import Signer, VerifyKey, parse_skey
from allod.receipts.rotation import follow, notice, read_rotation, write_revocation, write_rotation
from allod.store import history
from allod.store.home import Home, Lock, load_keys, sync_folder, unwritable, write_file
from allod.store.recovery import read_checkpoint
from allod.store.store import Store

SUBJECT = "key-rotation"
REVOKED = "key-revocation"
_SPLIT = "\n\n"


class Rotated(msgspec.Struct, frozen=True, kw_only=True):
    """What happened: verifier keys before and after, and the size of the tree at which they changed."""

    old: str
    new: str
    size: int
    revoked: bool


def rotate_key(
    home: Home,
    *,
    tenant: str,
    at_ms: int,
    chance: Callable[[int], bytes] = os.urandom,
    revoked: bool = False,
    step: Callable[[str], None] = lambda _: None,
) -> Rotated:
    """Change the log's key; the home must be at rest.

    Args:
        home: from ``load_home``.
        tenant: pseudonym for the leaf that records it.
        at_ms: now, UTC milliseconds.
        chance: gives random bytes.
        revoked: whether nothing that the old key signed counts any more.
        step: told before each step that changes the disk.

    Raises:
        Unavailable: in use, or the disk cannot be written. Integrity: the home does not hold.

    """
    Lock(home).release()
    history.settle(home)
    old, new = load_keys(home).signer, _next(home, chance, step)
    store = Store.open(home, clock=lambda: at_ms)
    try:
        store.flush()
        size = store.reader.newest().size + 1
        note = write_rotation(old, new, size=size, time=leaf_time(at_ms), revoked=revoked)
        facts = {
            "id": new_id(old.key.name, at_ms, chance(10)),
            "tenant": tenant,
            "time": leaf_time(at_ms),
        }
        step("leaf")
        store.append_notice(notice(facts, note, SUBJECT))
    finally:
        store.close()
    lock = Lock(home)
    try:
        _hand_over(home, old, new, note, step)
    except OSError as fault:
        raise unwritable(home.keys, fault) from fault
    finally:
        lock.release()
    return Rotated(old=old.key.vkey(), new=new.key.vkey(), size=size, revoked=revoked)


def revoke_key(home: Home, key_id: str, *, tenant: str, at_ms: int) -> VerifyKey:
    """Say in the log and in the home's notes that a former key counts no more; the home must be at rest.

    Raises:
        Invalid: there is no former key with this id, or it is the one in force (rotate first).
        Unavailable, Integrity: as ``rotate_key``.

    """
    signer, ring = load_keys(home).signer, history.key_ring(home)
    key = next((k.key for k in ring.keys if k.key.key_id.hex() == key_id), None)
    if key is None or key == signer.key:
        known = ", ".join(k.key.key_id.hex() for k in ring.keys if k.key != signer.key) or "none"
        raise Invalid(
            f"{key_id[:20]!r} is no former key of this log", f"known: {known}", "see `allod log keys`"
        )
    note = write_revocation(signer, key, time=leaf_time(at_ms))
    facts = {
        "id": new_id(signer.key.name, at_ms, os.urandom(10)),
        "tenant": tenant,
        "time": leaf_time(at_ms),
    }
    store = Store.open(home, clock=lambda: at_ms)
    try:
        store.append_notice(notice(facts, note, REVOKED))
    finally:
        store.close()
    history.add(home, note)
    follow(signer.key, history.notes(home))
    return key


def _next(home: Home, chance: Callable[[int], bytes], step: Callable[[str], None]) -> Signer:
    """Return the key that comes next: one that was begun with, or a new one."""
    path, origin = home.keys / "log.key.next", load_keys(home).origin
    if path.exists():
        signer = parse_skey(path.read_text("ascii").strip())
        if signer.key.name != origin:
            raise Integrity(
                f"{path} is of another log", f"got {signer.key.name}, expected {origin}", "delete it"
            )
        return signer
    signer = Signer(origin, chance(32))
    step("next key")
    try:
        write_file(path, (signer.skey() + "\n").encode(), 0o600)
    except OSError as fault:
        raise unwritable(path, fault) from fault
    return signer


def _hand_over(home: Home, old: Signer, new: Signer, note: bytes, step: Callable[[str], None]) -> None:
    last, rotation = read_checkpoint(home, old.key), read_rotation(note)
    if last is None or last.size != rotation.size:
        got = None if last is None else last.size
        raise Integrity("the log moved while its key changed", f"got size {got}, expected {rotation.size}")
    step("announcement")
    history.announce(home, note)
    both = sign(old, last.size, last.root) + _line(sign(new, last.size, last.root))
    step("checkpoint")
    write_file(home.checkpoint, both)
    step("verifier key")
    home.log_vkey.unlink(missing_ok=True)
    step("key")
    (home.keys / "log.key.next").replace(home.log_key)
    sync_folder(home.keys)
    step("new verifier key")
    load_keys(home)
    step("place in the history")
    history.settle(home)


def _line(note: bytes) -> bytes:
    return note.decode().rpartition(_SPLIT)[2].encode()
