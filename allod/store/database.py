"""The tables at work: what the writer commits, and what others look up.

The writer's inserts are compiled once and run on the driver's own connection; everything else goes through
SQLAlchemy Core. SQLite runs in WAL mode with ``synchronous=NORMAL``: a power cut may take the last commits,
the journal brings them back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from allod.domain.errors import AllodError, Integrity, Unavailable
from allod.domain.money import ZERO, plain
from allod.domain.usage import LedgerRow, Usage
from allod.store.tables import (
    APPLIED,
    DECISION_RECORD,
    LEDGER,
    REQUEST,
    VERSION,
    migrate,
    upsert,
    version_of,
)

OPEN: Final = "open"
_BUSY_S: Final = 5.0


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One row from a receipt to its leaves; salts are None once erased or never given."""

    receipt: str
    origin: str
    app: str
    at_ms: int
    status: str
    intent_index: int
    terminal_index: int | None
    request_salt: bytes | None
    response_salt: bytes | None
    decision: str
    attempts: bytes | None = None


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What one batch adds to the tables; rows are tuples in column order."""

    requests: Sequence[tuple[Any, ...]] = ()
    ledger: Sequence[tuple[Any, ...]] = ()
    records: Sequence[tuple[str, bytes]] = ()
    next_seq: int


class Database:
    """The tables of one home or, in PostgreSQL, of many."""

    def __init__(self, url: str) -> None:
        """Open the tables and bring them forward.

        Raises:
            Unavailable: they cannot be reached.
            Integrity: the file is no database, or a newer Allod made it.

        """
        self.url = url
        self.lite = url.startswith("sqlite")
        options: dict[str, Any] = {"paramstyle": "qmark" if self.lite else "format"}
        if self.lite:
            options["connect_args"] = {"isolation_level": None, "timeout": _BUSY_S}
        self.engine = sa.create_engine(url, **options)
        if self.lite:
            sa.event.listen(self.engine, "connect", _pragmas)
            sa.event.listen(self.engine, "begin", _begin)
        self._hot: Any = None
        self._generation = 0
        with self.faults("opened"):
            with self.engine.connect() as connection:
                current = version_of(connection)
            if current != VERSION:
                with self.engine.begin() as connection:
                    self._lock_out(connection)
                    migrate(connection)
        dialect = self.engine.dialect
        self._requests = upsert(REQUEST, dialect, replace=("status", "terminal_index", "attempts"))
        self._ledger = upsert(LEDGER, dialect)
        self._records = upsert(DECISION_RECORD, dialect)
        self._applied = upsert(APPLIED, dialect, replace=("next_seq",))

    @classmethod
    def lite_file(cls, path: Path) -> Database:
        """Open the tables of a home."""
        return cls(f"sqlite:///{path}")

    def close(self) -> None:
        """Close every connection; idempotent."""
        self.drop()
        self.engine.dispose()

    @contextmanager
    def faults(self, what: str) -> Iterator[None]:
        """Turn the driver's errors into ours."""
        try:
            yield
        except (SQLAlchemyError, OSError) as fault:
            text = str(getattr(fault, "orig", None) or fault)
            where = self.engine.url.render_as_string(hide_password=True)
            if "not a database" in text or "malformed" in text:
                raise Integrity(
                    f"{where} is damaged", f"got {text}", "restore it from a backup; the log is not touched"
                ) from fault
            raise Unavailable(
                f"{where} cannot be {what}", f"got {text}", "check disk, rights and server", kind="storage"
            ) from fault

    def commit(self, origin: str, work: Work, *, durable: bool = False) -> None:
        """Add a batch and the number of the next frame, all or nothing; safe to repeat.

        ``durable`` syncs it, and all commits before it, to the disk (PostgreSQL always does).

        Raises:
            Exception: whatever the driver says; nothing was added then, and the connection is dropped.

        """
        try:
            hot = self._connection()
            cursor = hot.cursor()
            if self.lite:
                if durable:
                    cursor.execute("PRAGMA synchronous=FULL")
                cursor.execute("BEGIN IMMEDIATE")
            if work.requests:
                cursor.executemany(self._requests, work.requests)
            if work.ledger:
                cursor.executemany(self._ledger, work.ledger)
            if work.records:
                cursor.executemany(self._records, work.records)
            cursor.execute(self._applied, (origin, work.next_seq))
            if self.lite:
                cursor.execute("COMMIT")
                if durable:
                    cursor.execute("PRAGMA synchronous=NORMAL")
            else:
                hot.commit()
            cursor.close()
        except Exception:
            self.drop()
            raise

    def changes(self) -> tuple[int, int] | None:
        """Return what changes when another connection committed, or None where nothing tells."""
        if not self.lite:
            return None
        cursor = self._connection().cursor()
        cursor.execute("PRAGMA data_version")
        number = int(cursor.fetchone()[0])
        cursor.close()
        return self._generation, number

    def drop(self) -> None:
        """Give up the writer's connection; the next use opens another."""
        hot, self._hot = self._hot, None
        if hot is not None:
            hot.invalidate()

    def applied(self, origin: str) -> int | None:
        """Return the first frame of this log that is not in the tables, or None if none ever was."""
        query = sa.select(APPLIED.c.next_seq).where(APPLIED.c.origin == origin)
        with self.faults("read"), self.engine.connect() as connection:
            found = connection.scalar(query)
        return None if found is None else int(found)

    def request(self, receipt: str) -> Request | None:
        """Look up one receipt."""
        rows = self._select(sa.select(REQUEST).where(REQUEST.c.receipt == receipt), Request)
        return rows[0] if rows else None

    def open_requests(self, origin: str) -> list[Request]:
        """Return the requests that outlived their segment and have not ended."""
        query = sa.select(REQUEST).where(REQUEST.c.origin == origin, REQUEST.c.status == OPEN)
        return self._select(query, Request)

    def recent(self, limit: int, app: str | None = None) -> list[Request]:
        """Return the newest finished requests, newest first (ids of one log sort by time)."""
        query = sa.select(REQUEST).where(REQUEST.c.status != OPEN).order_by(REQUEST.c.receipt.desc())
        if app is not None:
            query = query.where(REQUEST.c.app == app)
        return self._select(query.limit(limit), Request)

    def requests(self, origin: str) -> Iterator[list[Request]]:
        """Go through all requests of a log by id, a thousand at a time."""
        after = ""
        while rows := self._select(
            sa.select(REQUEST)
            .where(REQUEST.c.origin == origin, REQUEST.c.receipt > after)
            .order_by(REQUEST.c.receipt)
            .limit(1000),
            Request,
        ):
            yield rows
            after = rows[-1].receipt

    def record(self, digest: str) -> bytes | None:
        """Return a decision record by its digest."""
        query = sa.select(DECISION_RECORD.c.body).where(DECISION_RECORD.c.digest == digest)
        with self.faults("read"), self.engine.connect() as connection:
            return connection.scalar(query)

    def rows(
        self,
        *,
        receipt: str | None = None,
        receipts: tuple[str, str] | None = None,
        app: str | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> list[LedgerRow]:
        """Return ledger rows, oldest first, by receipt or first and last receipt, app, and start.

        ``until_ms`` is exclusive.
        """
        query = sa.select(LEDGER).order_by(LEDGER.c.receipt, LEDGER.c.attempt)
        for column, value in ((LEDGER.c.receipt, receipt), (LEDGER.c.app, app)):
            if value is not None:
                query = query.where(column == value)
        if receipts is not None:
            query = query.where(LEDGER.c.receipt.between(*receipts))
        if since_ms is not None:
            query = query.where(LEDGER.c.started_at_ms >= since_ms)
        if until_ms is not None:
            query = query.where(LEDGER.c.started_at_ms < until_ms)
        with self.faults("read"), self.engine.connect() as connection:
            return [_ledger_row(row) for row in connection.execute(query).mappings()]

    def spent(self, *, app: str | None = None, since_ms: int | None = None) -> Decimal:
        """Add up what attempts cost in USD, exactly."""
        query = sa.select(LEDGER.c.cost_usd)
        if app is not None:
            query = query.where(LEDGER.c.app == app)
        if since_ms is not None:
            query = query.where(LEDGER.c.started_at_ms >= since_ms)
        with self.faults("read"), self.engine.connect() as connection:
            return sum((Decimal(cost) for cost in connection.scalars(query)), ZERO)

    def erase_salts(self, receipt: str) -> bool:
        """Delete a receipt's salts, also from SQLite's pages and WAL; False if there is no such receipt."""
        change = sa.update(REQUEST).where(REQUEST.c.receipt == receipt)
        with self.faults("written"), self.engine.begin() as connection:
            found = connection.execute(change.values(request_salt=None, response_salt=None)).rowcount
        if self.lite:
            with self.faults("written"), self.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        return bool(found)

    def _select(self, query: sa.Select[Any], into: type[Request]) -> list[Request]:
        with self.faults("read"), self.engine.connect() as connection:
            return [into(**row) for row in connection.execute(query).mappings()]

    def _connection(self) -> Any:
        if self._hot is None:
            self._hot = self.engine.raw_connection()
            self._generation += 1
        return self._hot

    def _lock_out(self, connection: sa.Connection) -> None:
        """Keep a second process from migrating at the same time."""
        if self.lite:
            connection.exec_driver_sql("PRAGMA user_version = 1")
        else:
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7036874417766)")


def ledger_tuple(row: LedgerRow) -> tuple[Any, ...]:
    """Write a ledger row in column order."""
    usage = row.usage
    return (
        row.receipt, row.attempt, row.app, row.task, row.deployment, row.started_at_ms, row.status, row.basis,
        usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens,
        usage.cache_write_1h_tokens, usage.output_tokens, usage.reasoning_tokens, plain(row.cost_usd),
        row.price_digest, row.first_token_ms, row.total_ms, row.detail,
    )  # fmt: skip


def reason_of(fault: BaseException) -> str:
    """Return one line about a fault of files or tables."""
    if isinstance(fault, DBAPIError):
        return str(fault.orig)
    if isinstance(fault, AllodError):
        return f"{fault.what}: {fault.why}"
    return str(getattr(fault, "strerror", None) or fault) or type(fault).__name__


def _ledger_row(row: sa.RowMapping) -> LedgerRow:
    values = dict(row)
    usage = Usage(**{name: values.pop(name) for name in Usage.__struct_fields__})
    cost = Decimal(values.pop("cost_usd"))
    return LedgerRow(**values, usage=usage, cost_usd=cost)


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _pragmas(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "secure_delete=ON", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
