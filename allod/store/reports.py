"""Questions to the tables that are asked now and then, in SQLAlchemy Core; asked through ``Database``."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from allod.domain.money import ZERO
from allod.domain.usage import LedgerRow, Usage
from allod.store.database import OPEN, Database, Request
from allod.store.tables import LEDGER, REQUEST

if TYPE_CHECKING:
    from sqlalchemy.sql.elements import ColumnElement

PAGE = 1000


def recent(database: Database, limit: int, app: str | None) -> list[Request]:
    """Return the newest finished requests, newest first."""
    query = sa.select(REQUEST).where(REQUEST.c.status != OPEN).order_by(REQUEST.c.receipt.desc())
    if app is not None:
        query = query.where(REQUEST.c.app == app)
    return _requests(database, query.limit(limit))


def requests(database: Database, origin: str) -> Iterator[list[Request]]:
    """Go through all requests of a log by id."""
    after = ""
    query = sa.select(REQUEST).where(REQUEST.c.origin == origin).order_by(REQUEST.c.receipt).limit(PAGE)
    while page := _requests(database, query.where(REQUEST.c.receipt > after)):
        yield page
        after = page[-1].receipt


def rows(
    database: Database,
    *,
    receipt: str | None,
    receipts: tuple[str, str] | None,
    app: str | None,
    since_ms: int | None,
    until_ms: int | None,
) -> list[LedgerRow]:
    """Return ledger rows, oldest first."""
    query = sa.select(LEDGER).order_by(LEDGER.c.receipt, LEDGER.c.attempt).where(*_since(app, since_ms))
    if receipt is not None:
        query = query.where(LEDGER.c.receipt == receipt)
    if receipts is not None:
        query = query.where(LEDGER.c.receipt.between(*receipts))
    if until_ms is not None:
        query = query.where(LEDGER.c.started_at_ms < until_ms)
    with database.faults("read"), database.engine.connect() as connection:
        return [_ledger_row(row) for row in connection.execute(query).mappings()]


def spent(database: Database, *, app: str | None, since_ms: int | None) -> Decimal:
    """Add up what attempts cost in USD; in decimals, as no database adds text exactly."""
    query = sa.select(LEDGER.c.cost_usd).where(*_since(app, since_ms))
    with database.faults("read"), database.engine.connect() as connection:
        return sum((Decimal(cost) for cost in connection.scalars(query)), ZERO)


def erase_salts(database: Database, receipt: str) -> bool:
    """Delete a receipt's salts, and in SQLite what is left of them in its WAL."""
    change = sa.update(REQUEST).where(REQUEST.c.receipt == receipt)
    with database.faults("written"), database.engine.begin() as connection:
        found = connection.execute(change.values(request_salt=None, response_salt=None)).rowcount
    if database.path is not None:
        with database.faults("written"), database.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return bool(found)


def _since(app: str | None, since_ms: int | None) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    if app is not None:
        wanted.append(LEDGER.c.app == app)
    if since_ms is not None:
        wanted.append(LEDGER.c.started_at_ms >= since_ms)
    return wanted


def _requests(database: Database, query: sa.Select[Any]) -> list[Request]:
    with database.faults("read"), database.engine.connect() as connection:
        return [Request(*row) for row in connection.execute(query)]


def _ledger_row(row: sa.RowMapping) -> LedgerRow:
    values: dict[str, Any] = {str(name): value for name, value in row.items()}
    usage = Usage(**{name: values.pop(name) for name in Usage.__struct_fields__})
    cost = Decimal(values.pop("cost_usd"))
    return LedgerRow(**values, usage=usage, cost_usd=cost)
