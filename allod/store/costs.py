"""Requests with their ledger rows, in order of time and some at a time: what costs are added up from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from allod.domain.usage import LedgerRow
from allod.receipts.ids import id_prefix, ulid_time
from allod.store.database import OPEN, Database
from allod.store.tables import REQUEST

if TYPE_CHECKING:
    from typing import Any

PAGE = 1000


class Settled(msgspec.Struct, frozen=True):
    """A request that ended, and what its own attempts were charged."""

    receipt: str
    app: str
    at_ms: int
    status: str
    terminal_index: int | None
    rows: tuple[LedgerRow, ...] = ()


def settled(database: Database, origin: str, since_ms: int) -> Iterator[list[Settled]]:
    """Go through the requests of a log that came in from ``since_ms`` on, by id: that is by time.

    No read view is held between pages: others write, and an erasure empties what it has to.
    """
    r = REQUEST.c
    after = id_prefix(origin) + ulid_time(since_ms)
    columns = (r.receipt, r.app, r.at_ms, r.status, r.terminal_index)
    query = sa.select(*columns).where(r.origin == origin, r.status != OPEN).order_by(r.receipt).limit(PAGE)
    while page := _page(database, query.where(r.receipt > after)):
        rows: dict[str, list[LedgerRow]] = {}
        for row in database.rows(receipts=(page[0][0], page[-1][0])):
            rows.setdefault(row.receipt, []).append(row)
        yield [
            Settled(receipt, app, at_ms, status, index, tuple(rows.get(receipt, ())))
            for receipt, app, at_ms, status, index in page
        ]
        after = page[-1][0]


def _page(database: Database, query: sa.Select[Any]) -> list[Any]:
    with database.faults("read"), database.engine.connect() as connection:
        return list(connection.execute(query))
