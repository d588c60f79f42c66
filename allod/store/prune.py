"""Pruning a log at rest by its published policy, safe to interrupt at any step and to begin again.

What goes was hashed up to the signed root (``prunable``). What is kept of it is written down, a plan is laid,
and a leaf of the log announces it, all before anything is deleted. Then the record takes its place (from here
on the leaves count as gone), the tables let go of what belongs to them, and the bytes leave the disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.receipts.commitment import digest
from allod.receipts.ids import new_id
from allod.receipts.leaves import leaf_time, notice_leaf
from allod.receipts.pruning import Hold, Pruned, pruned_notice, read_record, write_kept, write_record
from allod.receipts.tiles import WIDTH
from allod.store.database import Database
from allod.store.home import Home, Lock, load_keys, sync_folder, unwritable, write_file
from allod.store.logfiles import LogFiles
from allod.store.prunable import Outlook, Rules, reasons, survey
from allod.store.pruned import KEPT, PLAN, RECORD, Plan, kept_path, plan_of
from allod.store.store import Store


def outlook(home: Home, rules: Rules, *, now_ms: int) -> Outlook:
    """Say what would be pruned now; nothing is changed.

    Raises:
        Unavailable: in use. Integrity: the log does not hold.
        Invalid: the policy is not in the log, or not long enough; a receipt under hold is not known.

    """
    lock = Lock(home)
    try:
        return survey(home, rules, now_ms)[0]
    finally:
        lock.release()


def prune(
    home: Home,
    rules: Rules,
    *,
    tenant: str,
    now_ms: int,
    chance: Callable[[int], bytes] = os.urandom,
    step: Callable[[str], None] = lambda _: None,
) -> Outlook:
    """Prune what may go, or end a pruning that was interrupted; the home must be at rest.

    Args:
        home: from ``load_home``.
        rules: policy, holds and quorum.
        tenant: pseudonym for the leaf that announces it.
        now_ms: UTC milliseconds; the newest leaf of the log counts instead if it is older.
        chance: gives random bytes.
        step: told before each step that changes the disk.

    Raises:
        Unavailable: in use, or the disk cannot be written: begin again, nothing is lost by it.
        Integrity: the log does not hold; nothing was deleted then.
        Invalid: as ``outlook``, or a hold covers what an interrupted pruning has begun to delete.

    """
    Store.open(home, clock=lambda: now_ms).close()
    lock = Lock(home)
    try:
        plan, found = _planned(home, rules, tenant, now_ms, chance, step)
    except OSError as fault:
        raise unwritable(home.log, fault) from fault
    finally:
        lock.release()
    if plan is None:
        return found
    _announce(home, plan, now_ms, step)
    lock = Lock(home)
    try:
        _carry_out(home, plan, step)
    except OSError as fault:
        raise unwritable(home.log, fault) from fault
    finally:
        lock.release()
    return found


def _planned(
    home: Home,
    rules: Rules,
    tenant: str,
    now_ms: int,
    chance: Callable[[int], bytes],
    step: Callable[[str], None],
) -> tuple[Plan | None, Outlook]:
    """Take up the plan of an interrupted pruning, or lay one; None where nothing goes."""
    found, run, gone = survey(home, rules, now_ms)
    plan = plan_of(home.log)
    if plan is not None:
        record = read_record(plan.record.encode())
        begun = gone is not None and gone.digest == digest(plan.record.encode())
        if not _still(home, rules, record, begun=begun):
            (home.log / PLAN).unlink()
            sync_folder(home.log)
        else:
            return plan, msgspec.structs.replace(
                found,
                since=record.since,
                upto=record.upto,
                until=record.until,
                kept=record.kept,
                finished=True,
            )
    if run is None:
        if gone is not None:
            step("entries again")  # pruned leaves that came back with a backup
            _erase(home, gone.record)
        return None, found
    kept = write_kept(run.notices)
    record = Pruned(
        origin=load_keys(home).origin,
        policy=rules.policy.digest,
        retain_days=rules.policy.retain_days,
        upto=found.upto,
        root=run.edge.root().hex(),
        since=found.since,
        before=gone.digest if gone is not None else "",
        until=run.until,
        intents=run.intents,
        terminals=run.terminals,
        halves=run.intents - run.terminals,
        numbers=run.numbers,
        bytes=run.end,
        ledger=rules.policy.ledger,
        kept=len(run.notices),
        kept_digest=digest(kept),
    )
    notice = pruned_notice(record, id=new_id(record.origin, now_ms, chance(10)), at_ms=now_ms, tenant=tenant)
    plan = Plan(record=write_record(record).decode(), leaf=notice_leaf(notice).decode(), size=found.size)
    step("kept notices")
    write_file(kept_path(home.log, record.kept_digest), kept)
    step("plan")
    write_file(home.log / PLAN, msgspec.json.encode(plan))
    return plan, found


def _still(home: Home, rules: Rules, record: Pruned, *, begun: bool) -> bool:
    """Tell whether an interrupted pruning may go on.

    Raises:
        Invalid: it has begun to delete what is under hold now.

    """
    held = [hold for hold in rules.holds if _covers(home, hold, record)]
    if begun and held:
        raise Invalid(
            "a pruning was interrupted, and what is left of it is under legal hold now",
            f"leaves up to {record.upto} of {record.until} at most; " + reasons(tuple(held)),
            "what is still on the disk stays; take the hold out to go on",
            param="log.holds",
        )
    return begun or (not held and record.policy == rules.policy.digest)


def _covers(home: Home, hold: Hold, record: Pruned) -> bool:
    if hold.since_ms is None and not hold.receipts:
        return True
    if hold.since_ms is not None and leaf_time(hold.since_ms) <= record.until:
        return True
    database = Database.lite_file(home.database)
    try:
        rows = [database.request(receipt) for receipt in hold.receipts]
    finally:
        database.close()
    return any(row is None or row.intent_index < record.upto for row in rows)


def _announce(home: Home, plan: Plan, now_ms: int, step: Callable[[str], None]) -> None:
    """Have a leaf of the log say what goes, once, and leave the log at rest over it."""
    store = Store.open(home, clock=lambda: now_ms)
    try:
        store.flush()
        leaf, size = plan.leaf.encode(), store.reader.size()
        starts = range(plan.size // WIDTH * WIDTH, size, WIDTH)
        known = any(
            leaf == there
            for start in starts
            for _, there in store.reader.noted(start, min(start + WIDTH, size), leaf)
        )
        if not known:
            step("leaf")
            store.append_notice(leaf)
    finally:
        store.close()


def _carry_out(home: Home, plan: Plan, step: Callable[[str], None]) -> None:
    """Delete what was announced."""
    data = plan.record.encode()
    record = read_record(data)
    step("record")
    write_file(home.log / RECORD, data)
    step("tables")
    database = Database.lite_file(home.database)
    try:
        database.prune(record.origin, record.upto, ledger=record.ledger)
    finally:
        database.close()
    step("entries")
    _erase(home, record)
    step("rest")
    for path in home.log.glob(f"{KEPT}*"):
        if path != kept_path(home.log, record.kept_digest):
            path.unlink()
    (home.log / PLAN).unlink(missing_ok=True)
    sync_folder(home.log)


def _erase(home: Home, record: Pruned) -> None:
    files = LogFiles(home.log)
    try:
        if files.leaf_end(record.upto) != record.bytes:
            raise Integrity(
                f"{files.folder / 'offsets'} is wrong at leaf {record.upto - 1}: nothing is deleted",
                f"got {files.leaf_end(record.upto)}, expected {record.bytes}",
                "run `allod log verify`",
            )
        files.erase(record.bytes)
    finally:
        files.close()
