"""Questions to the tables that are asked now and then, in SQLAlchemy Core; asked through ``Database``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from allod.domain.money import ZERO
from allod.domain.usage import LedgerRow, Usage
from allod.store.database import BUSY_S, ERASING, OPEN, Database, Decided, Request, as_bytes
from allod.store.subjects import Erased, digest_of, tag_of
from allod.store.tables import DECISION_RECORD, LEDGER, REQUEST, SUBJECT

if TYPE_CHECKING:
    from sqlalchemy.sql.elements import ColumnElement

PAGE = 1000
OPEN_END = 1 << 62
RECORDS = 64
"""Decision records are read so many at a time: each may take up to a megabyte."""


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


def decisions(
    database: Database, origin: str, *, since_ms: int | None, until_ms: int | None, first: int
) -> Iterator[Decided]:
    """Go through the decisions of a log's requests by digest, each with its requests counted.

    They are counted into a temporary table first: a long look holds no read view, which would keep an
    erasure from emptying SQLite's WAL.
    """
    chosen = [REQUEST.c.origin == origin]
    if since_ms is not None:
        chosen.append(REQUEST.c.at_ms >= since_ms)
    if until_ms is not None:
        chosen.append(REQUEST.c.at_ms < until_ms)
    earliest = sa.func.min(REQUEST.c.receipt), sa.func.min(REQUEST.c.at_ms)  # ids of one log sort by time
    last = sa.func.max(sa.func.coalesce(REQUEST.c.terminal_index, OPEN_END))
    counted = sa.select(REQUEST.c.decision, sa.func.count(), *earliest, last).where(*chosen)
    table, dense = _decided(), True
    page = sa.select(table).order_by(table.c.digest).limit(RECORDS)
    with database.faults("read"), database.engine.connect() as connection:
        table.create(connection)
        try:
            names = [column.name for column in table.columns]
            connection.execute(
                sa.insert(table).from_select(
                    names, counted.group_by(REQUEST.c.decision), include_defaults=False
                )
            )
            after = ""
            while True:
                rows = connection.execute(page.where(table.c.digest > after)).all()
                bodies, dense = _bodies(connection, [row[0] for row in rows], dense=dense)
                connection.commit()
                if not rows:
                    return
                for row in rows:
                    yield Decided(row[0], row[1], row[2], row[3], bodies.get(row[0]), row[4] < first)
                after = rows[-1][0]
        finally:
            table.drop(connection)
            connection.commit()


def _bodies(connection: sa.Connection, names: list[str], *, dense: bool) -> tuple[dict[str, bytes], bool]:
    """Read decision records by sorted digests, and say whether there are few others between them.

    A run of records is read thrice as fast as each by its digest, where few are read in vain.
    """
    if not names:
        return {}, dense
    record = DECISION_RECORD.c
    query = sa.select(record.digest, record.body)
    if dense:
        run = query.where(record.digest.between(names[0], names[-1])).limit(2 * RECORDS)
        rows = connection.execute(run).all()
        dense = len(rows) < 2 * RECORDS
    if not dense:
        rows = connection.execute(query.where(record.digest.in_(names))).all()
    return {name: as_bytes(body) for name, body in rows}, dense


def _decided() -> sa.Table:
    return sa.Table(
        "decided",
        sa.MetaData(),
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("receipt", sa.Text, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        prefixes=["TEMPORARY"],
    )


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
        values = {"request_salt": None, "response_salt": None}
        found = connection.execute(change.values(**values)).rowcount
        if found:
            _note(database, connection, receipt, time.time_ns() // 1_000_000)
        connection.exec_driver_sql(database.text.erase_deferred, ("", receipt))
    _empty_wal(database)
    return bool(found)


def prune(database: Database, origin: str, upto: int, *, ledger: bool) -> tuple[int, int, int]:
    """Take out what belongs to requests that ended before leaf ``upto`` of a log; safe to repeat.

    Their salts and what ties them to a person, decision records no other request names, and with ``ledger``
    their ledger rows. The rows that lead from a receipt to its leaves stay, so that it can be said what
    became of it. Returns how many requests, records and ledger rows were changed or deleted.
    """
    r = REQUEST.c
    old = sa.and_(r.origin == origin, r.terminal_index.is_not(None), r.terminal_index < upto)
    named = sa.select(r.decision).where(sa.not_(sa.func.coalesce(old, sa.false())))
    marked = sa.or_(r.request_salt.is_not(None), r.response_salt.is_not(None), r.subject.is_not(None))
    values = {"request_salt": None, "response_salt": None, "subject": None}
    record = DECISION_RECORD.c.digest
    with database.faults("written"), database.engine.begin() as connection:
        if database.path is None:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ERASING})")
        requests = connection.execute(sa.update(REQUEST).where(old, marked).values(**values)).rowcount
        gone = sa.delete(DECISION_RECORD).where(
            record.in_(sa.select(r.decision).where(old)), record.not_in(named)
        )
        records, rows = connection.execute(gone).rowcount, 0
        if ledger:
            receipts = sa.select(r.receipt).where(old)
            rows = connection.execute(sa.delete(LEDGER).where(LEDGER.c.receipt.in_(receipts))).rowcount
    _empty_wal(database)
    return requests, records, rows


def of_subject(database: Database, tag: bytes) -> Iterator[list[Request]]:
    """Go through the requests with a tag by id."""
    after = ""
    query = sa.select(REQUEST).where(REQUEST.c.subject == tag).order_by(REQUEST.c.receipt).limit(PAGE)
    while page := _requests(database, query.where(REQUEST.c.receipt > after)):
        yield page
        after = page[-1].receipt


def erase_subject(database: Database, lookup: str, subject: str, at_ms: int) -> Erased:
    """Delete a person's salt and those of their requests, all or nothing."""
    requests, known = 0, False
    with database.faults("written"), database.engine.begin() as connection:
        if database.path is None:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ERASING})")
        gone = sa.delete(SUBJECT).where(SUBJECT.c.lookup == lookup).returning(SUBJECT.c.salt)
        for salt in connection.scalars(gone).all():
            known = True
            _note(database, connection, digest_of(bytes(salt)), at_ms)
            change = sa.update(REQUEST).where(REQUEST.c.subject == tag_of(bytes(salt), subject))
            values = {"request_salt": None, "response_salt": None, "subject": None}
            requests += connection.execute(change.values(**values)).rowcount
        waiting = connection.exec_driver_sql(database.text.erase_deferred, (lookup, "")).rowcount
        known = known or waiting > 0
    _empty_wal(database)
    return Erased(found=known, requests=requests)


def _note(database: Database, connection: sa.Connection, name: str, at_ms: int) -> None:
    connection.exec_driver_sql(database.text.put_erased, (name, at_ms))


def _empty_wal(database: Database) -> None:
    """Move SQLite's WAL into the file and cut it, so that no page in it holds what was deleted.

    Whoever reads at this moment keeps it from being cut: it is tried again for as long as a lock is waited
    for.
    """
    if database.path is None:
        return
    until = time.monotonic() + BUSY_S
    with database.faults("written"), database.engine.connect() as connection:
        while connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar():
            if time.monotonic() > until:
                return
            time.sleep(0.02)


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


def apps(database: Database, origin: str) -> list[str]:
    """Return the names of all apps that ever asked."""
    query = sa.select(REQUEST.c.app).where(REQUEST.c.origin == origin).distinct().order_by(REQUEST.c.app)
    with database.faults("read"), database.engine.connect() as connection:
        return list(connection.scalars(query))
