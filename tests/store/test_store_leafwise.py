"""What ``log verify`` finds in leaves whose hashes all hold: a writer that signs what cannot be."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest
from store_worlds import Requests, fresh, sound

from allod.receipts.canonical import canonical
from allod.store.audit import verify_home
from allod.store.home import Home


def signed(root: Path, *kinds: str, **changes: object) -> Home:
    """A log in which leaves of a request were written again, by whoever holds its key."""
    home, store = fresh(root)
    load = Requests(store)
    load.whole()
    assert store.flush()
    leaves = {msgspec.json.decode(store.reader.leaf(i))["kind"]: store.reader.leaf(i) for i in range(2)}
    for kind in kinds:
        store.append_notice(canonical({**msgspec.json.decode(leaves[kind]), **changes}))
    store.close()
    return home


@pytest.mark.parametrize(
    ("kinds", "changes", "said"),
    [
        (("intent", "intent"), {"id": "r_0"}, "begins twice"),
        (("terminal",), {"seq": 2}, "ends and never began"),
        (("intent", "terminal"), {"seq": 2, "intent": "sha256:" + "0" * 64}, "names another beginning"),
        (("intent", "terminal"), {"status": "paid", "seq": 2}, "is no end"),
        (("intent",), {"kind": "invoice"}, "of no known kind"),
        (("terminal",), {"seq": 3}, "missing or there twice"),
    ],
    ids=["id twice", "no beginning", "another beginning", "no status", "no kind", "number"],
)
def test_leaves_that_cannot_be_are_found_and_named(
    tmp_path: Path, kinds: tuple[str, ...], changes: dict[str, object], said: str
) -> None:
    home = signed(tmp_path / "home", *kinds, **changes)
    failed = [step.detail for step in verify_home(home).steps if not step.ok]
    assert failed
    assert said in failed[0]


def test_an_amount_written_otherwise_in_the_tables_is_the_same_amount(tmp_path: Path) -> None:
    home, store = fresh(tmp_path / "home")
    load = Requests(store)
    receipt = load.begin()
    for n in (1, 2):
        load.attempt(receipt, n)
    load.end(receipt, (load.row(receipt, 1, "0.10"), load.row(receipt, 2, "0.25")))
    alone = load.whole()
    store.close()
    second = "UPDATE ledger SET cost_usd = ? WHERE attempt = 2"
    for cost, holds in (("0.250", True), ("0.2500001", False), ("a quarter", False), ("0.25", True)):
        with sqlite3.connect(home.database) as tables:
            tables.execute(second, (cost,))
        assert verify_home(home).ok == holds, cost
    single = "UPDATE ledger SET cost_usd = ? WHERE receipt = ?"
    for cost, holds in (("0.250", True), ("0.2500001", False), ("a quarter", False), ("0.25", True)):
        with sqlite3.connect(home.database) as tables:
            tables.execute(single, (cost, alone))
        assert verify_home(home).ok == holds, cost
    sound(home)


def test_rows_nobody_logged_and_ends_nobody_kept_are_named(tmp_path: Path) -> None:
    home, store = fresh(tmp_path / "home")
    load = Requests(store)
    for _ in range(3):
        load.whole()
    store.close()
    forged = (
        "INSERT INTO request SELECT 'r_x', origin, app, at_ms, status, intent_index, 4, request_salt, "
        "response_salt, decision, attempts, subject FROM request WHERE terminal_index = 1"
    )
    for change, said in (
        ("UPDATE request SET intent_index = intent_index + 2 WHERE terminal_index = 3", "disagree about"),
        ("UPDATE request SET intent_index = intent_index - 2 WHERE terminal_index = 3", ""),
        (forged, "no terminal leaf 4"),
        ("DELETE FROM request WHERE receipt = 'r_x'", ""),
        ("UPDATE request SET terminal_index = NULL WHERE terminal_index = 5", "expected one of the terminal"),
    ):
        with sqlite3.connect(home.database) as tables:
            tables.execute(change)
        failed = [step.detail for step in verify_home(home).steps if not step.ok]
        assert (not failed) if not said else any(said in text for text in failed), (change, failed)
