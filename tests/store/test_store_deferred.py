"""The queue's table: of two that want a request one gets it, an end is written once, content goes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from allod.domain.errors import Unavailable
from allod.store.database import Database
from allod.store.deferred import ENDED, LIVE, Content, DeferredTable, Waiting
from allod.store.home import make_home
from allod.store.store import Store

WORDS = b"what nobody else may read"


@pytest.fixture
def table(tmp_path: Path) -> Iterator[DeferredTable]:
    home = make_home(tmp_path / "home")
    store = Store.open(home)
    yield DeferredTable(store.database, store.keys.origin)
    store.close()


def waiting(table: DeferredTable, name: str = "r_1", **more: object) -> Waiting:
    row = Waiting(
        id=name, origin=table._origin, app="a", status="queued", created_at_ms=1, deadline_at_ms=100,
        start_at_ms=10, latest_at_ms=50, ended_at_ms=None, receipt=name, tries=0, size_bytes=7, subject=None,
        deferral=b"{}", known=b"{}",
    )  # fmt: skip
    row = msgspec.structs.replace(row, **more)
    table.add(row, Content(WORDS, b"shown", None))
    return row


def test_of_many_that_claim_a_request_one_gets_it(table: DeferredTable) -> None:
    row, won = waiting(table), list[str]()

    def claim(n: int) -> None:
        if table.claim(row, f"r_{n}"):
            won.append(f"r_{n}")

    threads = [threading.Thread(target=claim, args=(n,)) for n in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    (only,) = won
    now = table.row(row.id)
    assert now is not None
    assert (now.status, now.receipt, now.tries) == ("in_progress", only, 1)


def test_what_is_cancelled_or_erased_is_not_claimed_and_what_ended_is_not_cancelled(
    table: DeferredTable,
) -> None:
    row = waiting(table)
    assert table.cancel(row.id)
    assert not table.cancel(row.id)
    assert not table.claim(row, "r_2")
    assert not table.put_back(row, 0, 0, None, tries=0)
    table.end(row.id, "cancelled", row.id, 5, b"{}", b"")
    table.end(row.id, "completed", row.id, 6, b"later", b"")  # an end is written once
    now = table.row(row.id)
    assert now is not None
    assert (now.status, now.ended_at_ms) == ("cancelled", 5)
    assert not table.cancel(row.id)


def test_an_end_takes_the_request_and_an_erased_one_the_answer(table: DeferredTable) -> None:
    kept, gone = waiting(table, "r_1"), waiting(table, "r_2")
    table.erase(gone.id)
    assert table.content(gone.id) == Content(None, None, None)
    for row in (kept, gone):
        table.end(row.id, "completed", row.id, 5, b"answer", b"head")
    assert table.content(kept.id) == Content(None, b"answer", b"head")
    assert table.content(gone.id) == Content(None, None, None)
    assert table.purge(4) == 1
    assert [row.id for row in table.all()] == ["r_1"]
    assert table.purge(5) == 1
    assert table.size() == (0, 0)


def test_what_is_deleted_is_nowhere_in_the_files(table: DeferredTable, tmp_path: Path) -> None:
    row = waiting(table)
    files = lambda: b"".join(p.read_bytes() for p in (tmp_path / "home").glob("allod.sqlite*"))  # noqa: E731
    assert WORDS in files()
    table.end(row.id, "completed", row.id, 5, b"{}", b"")
    table.purge(5)
    assert WORDS not in files()


def test_due_and_to_end_are_told_by_the_time(table: DeferredTable) -> None:
    waiting(table, "r_late", start_at_ms=30, latest_at_ms=90)
    waiting(table, "r_soon", start_at_ms=10, latest_at_ms=40)
    assert [row.id for row in table.due(9, 5)] == []
    assert [row.id for row in table.due(30, 5)] == ["r_soon", "r_late"]
    assert [row.id for row in table.due(30, 1)] == ["r_soon"]
    assert table.to_end(99) == []
    assert {row.id for row in table.to_end(100)} == {"r_soon", "r_late"}
    assert table.first_end() is None


def test_apps_are_counted_apart(table: DeferredTable) -> None:
    waiting(table, "r_1", app="a", size_bytes=3)
    waiting(table, "r_2", app="b", size_bytes=4)
    assert (table.size(), table.size("a"), table.size("c")) == ((2, 7), (1, 3), (0, 0))


def test_another_log_sees_nothing_of_it(table: DeferredTable) -> None:
    waiting(table)
    other = DeferredTable(table._database, "allod/0000000000000000")
    assert (other.all(), other.row("r_1"), other.size()) == ([], None, (0, 0))


def test_tables_on_a_server_are_no_place_for_content() -> None:
    database = Database.__new__(Database)
    database.path = None
    with pytest.raises(Unavailable, match="own tables"):
        DeferredTable(database, "allod/0")


def test_every_status_is_live_or_ended() -> None:
    assert not set(LIVE) & set(ENDED)
