"""Requests that wait for their hour: a queue in the home's own tables, and answers until they are fetched.

Content stands here, which stands nowhere else (I9): an app asked for it, and the tenant allowed it with
``[queue]``. The file is the home's, readable by its owner alone (0600). The request goes when its end is
recorded, the answer when its time is over, both at once when somebody erases the person or the receipt; what
is deleted is overwritten, and the write-ahead log emptied.

Whoever changes a row says which status it must still have: of two that want it one gets it. Another process
may only cancel and erase (``allod queue cancel``, erasures): the running gateway sees that within a second.

| status | |
|---|---|
| ``queued`` | waits for ``start_at_ms`` |
| ``in_progress`` | claimed: runs under ``receipt``, or did when the gateway died |
| ``cancelling`` | is to end without being run |
| ``erased`` | content is gone; what was waiting is to end without being run |
| ``completed``, ``incomplete``, ``failed``, ``cancelled`` | ended, kept until its time is over |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from allod.domain.errors import Unavailable
from allod.store.statements import DEFERRED

if TYPE_CHECKING:
    from allod.store.database import Database

Status = Literal[
    "queued", "in_progress", "cancelling", "erased", "completed", "incomplete", "failed", "cancelled"
]
LIVE: Final[tuple[Status, ...]] = ("queued", "in_progress", "cancelling", "erased")
ENDED: Final[tuple[Status, ...]] = ("completed", "incomplete", "failed", "cancelled")
_CONTENT: Final = frozenset({"request", "shown", "head"})
_PLAIN: Final = tuple(name for name in DEFERRED if name not in _CONTENT)


class Waiting(msgspec.Struct, frozen=True):
    """One row without its content, in column order.

    ``id`` is the first receipt the request may have, ``receipt`` the one it has or has had last; ``tries``
    how often it was claimed. ``deferral`` holds the facts of the choice of its hour (``routing.defer``),
    ``known`` what admission made of it, without content. Times are UTC milliseconds.
    """

    id: str
    origin: str
    app: str
    status: Status
    created_at_ms: int
    deadline_at_ms: int
    start_at_ms: int
    latest_at_ms: int
    ended_at_ms: int | None
    receipt: str
    tries: int
    size_bytes: int
    subject: str | None
    deferral: bytes | None
    known: bytes

    @property
    def live(self) -> bool:
        """Whether its end is still to come."""
        return self.status in LIVE and self.ended_at_ms is None


class Content(msgspec.Struct, frozen=True):
    """What of a row is content: the request as it came, what is shown of it, and the head of its answer."""

    request: bytes | None
    shown: bytes | None
    head: bytes | None


class DeferredTable:
    """The queue of one log; every call is one transaction and may come from any thread.

    Args:
        database: the home's own tables.
        origin: the log's.

    Raises:
        Unavailable: the tables are shared with other machines, where content of this home has no place.

    """

    def __init__(self, database: Database, origin: str) -> None:
        if database.path is None:
            raise Unavailable(
                "the queue needs the home's own tables",
                "requests that wait are content, and the tables are on a server",
                "leave [queue] out, or keep the tables in the home",
                kind="storage",
            )
        self._database, self._origin = database, origin

    def add(self, row: Waiting, content: Content) -> None:
        """Take a request in; it is on the disk when this returns (raises Unavailable)."""
        values = {**_fields(row), **_fields(content)}
        self._database.change(
            self._database.text.put_deferred, [tuple(values[name] for name in DEFERRED)], durable=True
        )

    def row(self, name: str) -> Waiting | None:
        """Return one request by its id."""
        found = self._rows("id = ?", name)
        return found[0] if found else None

    def live(self) -> list[Waiting]:
        """Return all whose end is to come, those first that must begin first."""
        return self._rows("ended_at_ms IS NULL ORDER BY latest_at_ms, id")

    def all(self) -> list[Waiting]:
        """Return all there are, oldest first."""
        return self._rows("1 = 1 ORDER BY created_at_ms, id")

    def due(self, now_ms: int, limit: int) -> list[Waiting]:
        """Return requests whose time has come, those first that must begin first."""
        return self._rows(
            "ended_at_ms IS NULL AND status = 'queued' AND start_at_ms <= ? "
            "ORDER BY latest_at_ms, id LIMIT ?",
            now_ms,
            limit,
        )

    def to_end(self, now_ms: int) -> list[Waiting]:
        """Return what is to end without being run: cancelled, erased, or past its deadline."""
        return self._rows(
            "ended_at_ms IS NULL AND (status IN ('cancelling', 'erased') OR "
            "(status = 'queued' AND deadline_at_ms <= ?))",
            now_ms,
        )

    def content(self, name: str) -> Content:
        """Return the content of a row; what is gone is None."""
        text = "SELECT request, shown, head FROM deferred WHERE id = ?"
        rows = self._database.read(text, name)
        return Content(*rows[0]) if rows else Content(None, None, None)

    def size(self, app: str | None = None) -> tuple[int, int]:
        """Return how many requests and bytes there are, of one app or of all."""
        text = "SELECT count(*), coalesce(sum(size_bytes), 0) FROM deferred WHERE origin = ?"
        rows = self._database.read(
            *((text, self._origin) if app is None else (f"{text} AND app = ?", self._origin, app))
        )
        return int(rows[0][0]), int(rows[0][1])

    def ahead(self) -> tuple[int, int | None]:
        """Return how many have not ended, and when the first of them is to begin (UTC milliseconds)."""
        text = "SELECT count(*), min(start_at_ms) FROM deferred WHERE origin = ? AND ended_at_ms IS NULL"
        (found,) = self._database.read(text, self._origin)
        return int(found[0]), None if found[1] is None else int(found[1])

    def first_end(self) -> int | None:
        """Return when the first of those that have ended did, in UTC milliseconds."""
        text = "SELECT min(ended_at_ms) FROM deferred WHERE origin = ? AND ended_at_ms IS NOT NULL"
        (found,) = self._database.read(text, self._origin)
        return None if found[0] is None else int(found[0])

    def claim(self, row: Waiting, receipt: str) -> bool:
        """Take a queued request to be run under this receipt; False if it is not to be had any more.

        It is on the disk when this returns: after a power cut it is known that it may have been run.
        """
        return self._one(
            "status = 'in_progress', receipt = ?, tries = tries + 1",
            "id = ? AND status = 'queued'",
            receipt, row.id, durable=True,
        )  # fmt: skip

    def put_back(
        self, row: Waiting, start_at_ms: int, latest_at_ms: int, deferral: bytes | None, *, tries: int
    ) -> bool:
        """Let a request wait (again), for this time; ``tries`` is how often it was begun."""
        return self._one(
            "status = 'queued', start_at_ms = ?, latest_at_ms = ?, deferral = ?, tries = ?",
            "id = ? AND ended_at_ms IS NULL AND status IN ('queued', 'in_progress')",
            start_at_ms, latest_at_ms, deferral, tries, row.id,
        )  # fmt: skip

    def cancel(self, name: str) -> bool:
        """Ask for the end of a request that has none yet; False where it has, or is no more."""
        return self._one(
            "status = 'cancelling'",
            "id = ? AND ended_at_ms IS NULL AND status IN ('queued', 'in_progress')",
            name,
        )

    def end(self, name: str, status: Status, receipt: str, at_ms: int, shown: bytes, head: bytes) -> None:
        """Record the end of a request and its answer; its content goes, and of an erased one the answer."""
        self._database.change(
            "UPDATE deferred SET ended_at_ms = ?, receipt = ?, request = NULL, "
            "status = CASE status WHEN 'erased' THEN status ELSE ? END, "
            "shown = CASE status WHEN 'erased' THEN NULL ELSE ? END, "
            "head = CASE status WHEN 'erased' THEN NULL ELSE ? END, "
            "size_bytes = CASE status WHEN 'erased' THEN 0 ELSE ? END "
            "WHERE id = ? AND ended_at_ms IS NULL",
            [(at_ms, receipt, status, shown, head, len(shown) + len(head), name)],
            durable=True,
        )

    def erase(self, name: str) -> bool:
        """Delete what a request said and was answered; one that waits or runs is to end first."""
        return self._one(
            "status = 'erased', deferral = NULL, request = NULL, shown = NULL, head = NULL, subject = NULL",
            "id = ?",
            name,
        )

    def purge(self, before_ms: int) -> int:
        """Delete ended requests: the erased ones, and those that ended before a time; returns how many."""
        over = "origin = ? AND ended_at_ms IS NOT NULL AND (status = 'erased' OR ended_at_ms <= ?)"
        values = (self._origin, before_ms)
        if not self._database.read(f"SELECT 1 FROM deferred WHERE {over} LIMIT 1", *values):  # noqa: S608
            return 0
        gone = self._database.change(f"DELETE FROM deferred WHERE {over}", [values])  # noqa: S608
        self.empty_wal()
        return gone

    def empty_wal(self) -> None:
        """Have nothing of what was deleted left in the write-ahead log, unless somebody reads just now."""
        for _ in self._database.scan("PRAGMA wal_checkpoint(TRUNCATE)"):
            pass

    # --- statements

    def _rows(self, where: str, *values: object) -> list[Waiting]:
        text = f"SELECT {', '.join(_PLAIN)} FROM deferred WHERE origin = ? AND {where}"  # noqa: S608 (ours alone)
        return [Waiting(*row) for row in self._database.read(text, self._origin, *values)]

    def _one(self, changes: str, where: str, *values: object, durable: bool = False) -> bool:
        text = f"UPDATE deferred SET {changes} WHERE {where}"  # noqa: S608 (ours alone)
        return self._database.change(text, [values], durable=durable) > 0


def _fields(struct: msgspec.Struct) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}
