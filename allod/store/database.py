"""The tables at work: what the writer commits, and what others look up.

What every start and batch needs runs as text on the driver's own connections; reports and changes of rare
kinds go through SQLAlchemy Core, which is loaded when the first of them is asked for (it costs 0.15 s and
18 MB). SQLite runs in WAL mode with ``synchronous=NORMAL``: a power cut may take the last commits, and the
journal brings them back.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.errors import AllodError, Integrity, Unavailable
from allod.domain.money import plain
from allod.domain.usage import LedgerRow
from allod.store.statements import VERSION, Statements

if TYPE_CHECKING:
    from sqlalchemy import Engine

OPEN: Final = "open"
BUSY_S: Final = 5.0
MANY: Final = 16
ERASING: Final = 7036874417767
"""The advisory lock that keeps batches and erasures apart in PostgreSQL; SQLite has one writer at a time."""
_LITE: Final = "sqlite:///"
_ROOM_BYTES: Final = 1 << 20
"""Less than this is a full disk: SQLite wants whole pages, and its index of the journal besides."""
_PRAGMAS: Final = ("journal_mode=WAL", "synchronous=NORMAL", "secure_delete=ON")
_DRIVERS: Final = ("sqlite3", "sqlalchemy", "psycopg")


class Request(msgspec.Struct, frozen=True):
    """One row from a receipt to its leaves, in column order; salts are None once erased or never given."""

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
    subject: bytes | None = None


class Decided(msgspec.Struct, frozen=True):
    """One decision and the requests that share it.

    ``receipt`` is the first of these, ``at_ms`` its time, ``body`` the decision record, None if that is gone:
    ``pruned`` by the log's policy with all of its requests, or lost.
    """

    digest: str
    requests: int
    receipt: str
    at_ms: int
    body: bytes | None
    pruned: bool = False


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What one batch adds to the tables; rows are tuples in column order.

    ``subjects`` are salts of people with their digests, ``scrubs`` the receipts that are to be forgotten if
    the salt of this digest was erased.
    """

    requests: Sequence[tuple[Any, ...]] = ()
    ledger: Sequence[tuple[Any, ...]] = ()
    records: Sequence[tuple[str, bytes]] = ()
    subjects: Sequence[tuple[str, bytes, int, str]] = ()
    scrubs: Sequence[tuple[str, str]] = ()
    next_seq: int


class Database:
    """The tables of one home or, in PostgreSQL, of many."""

    def __init__(self, url: str) -> None:
        """Open the tables and bring them forward.

        Args:
            url: ``sqlite:///PATH``, or a SQLAlchemy URL of a PostgreSQL database.

        Raises:
            Unavailable: they cannot be reached.
            Integrity: the file is no database, or a newer Allod made it.

        """
        self.url, self.path = url, url.removeprefix(_LITE) if url.startswith(_LITE) else None
        self.text = Statements("?" if self.path else "%s")
        self._engine: Engine | None = None
        self._hot: Any = None
        self._generation = 0
        self._reader: sqlite3.Connection | None = None
        self._reading = threading.Lock()
        try:
            with self.faults("opened"):
                if self._version() != VERSION:
                    self._migrate()
        except BaseException:
            self.close()
            raise

    @classmethod
    def lite_file(cls, path: Path) -> Database:
        """Open the tables of a home."""
        return cls(f"{_LITE}{path}")

    @property
    def engine(self) -> Engine:
        """SQLAlchemy's way to the same tables, made when first asked for."""
        if self._engine is None:
            from allod.store.tables import make_engine  # noqa: PLC0415 -- see the module's docstring

            self._engine = make_engine(self.url, _PRAGMAS if self.path else (), BUSY_S)
        return self._engine

    def close(self) -> None:
        """Close every connection; idempotent."""
        self.drop()
        with self._reading:
            if self._reader is not None:
                self._reader.close()
                self._reader = None
        if self._engine is not None:
            self._engine.dispose()

    def _full(self, text: str) -> bool:
        """Tell whether a fault is one of room: SQLite also calls that an I/O error, or cannot open a file."""
        if "is full" in text or self.path is None:
            return "is full" in text
        try:
            disk = os.statvfs(Path(self.path).parent)
        except OSError:
            return False
        return disk.f_bavail * disk.f_frsize < _ROOM_BYTES

    @contextmanager
    def faults(self, what: str) -> Iterator[None]:
        """Turn the driver's errors into ours."""
        try:
            yield
        except Exception as fault:
            if not isinstance(fault, OSError) and type(fault).__module__.split(".")[0] not in _DRIVERS:
                raise
            text, where = reason_of(fault), self.path or "the database"
            if "not a database" in text or "malformed" in text:
                raise Integrity(
                    f"{where} is damaged", f"got {text}", "restore it from a backup; the log is not touched"
                ) from fault
            remedy = "free some disk space" if self._full(text) else "check disk, rights and server"
            raise Unavailable(f"{where} cannot be {what}", f"got {text}", remedy, kind="storage") from fault

    # --- the writer's own connection: one thread

    def commit(self, origin: str, work: Work, *, durable: bool = False) -> None:
        """Add a batch and the number of the next frame, all or nothing; safe to repeat.

        ``durable`` syncs it, and all commits before it, to the disk (PostgreSQL always does).

        Raises:
            Exception: whatever the driver says; nothing was added then, and the connection is dropped.

        """
        try:
            hot, lite = self._connection(), self.path is not None
            cursor = hot.cursor()
            if lite:
                if durable:
                    cursor.execute("PRAGMA synchronous=FULL")
                cursor.execute("BEGIN IMMEDIATE")
            _put(cursor, self.text.put_request, work.requests)
            _put(cursor, self.text.put_ledger, work.ledger)
            _put(cursor, self.text.put_record, work.records)
            if work.subjects or work.scrubs:
                self._put_subjects(cursor, work)
            cursor.execute(self.text.put_applied, (origin, work.next_seq))
            if lite:
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
        if self.path is None:
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
            with suppress(Exception):  # a connection that is broken already
                hot.close() if self.path else hot.invalidate()

    # --- lookups: any thread

    def read(self, text: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one of ``self.text`` and return its rows.

        Raises:
            Unavailable: the tables cannot be read.
            Integrity: they are damaged.

        """
        with self.faults("read"):
            if self.path is None:
                return self._read_server(text, values)
            with self._reading:
                if self._reader is None:
                    self._reader = self._open_file()
                return self._reader.execute(text, values).fetchall()

    def scan(self, text: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """Go through the rows of a statement on a connection of its own (SQLite; raises as ``read``)."""
        with self.faults("read"):
            connection = self._open_file()
            try:
                yield from connection.execute(text, values)
            finally:
                connection.close()

    def change(self, text: str, rows: Sequence[tuple[Any, ...]], *, durable: bool = False) -> int:
        """Run one of ``self.text`` that changes something, for each row of values, all or nothing.

        Returns how many rows were changed; ``durable`` syncs it to the disk.

        Raises:
            Unavailable: the tables cannot be written.

        """
        with self.faults("written"):
            connection = self._open_file() if self.path else self.engine.raw_connection()
            try:
                cursor = connection.cursor()
                if self.path:
                    cursor.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                    cursor.execute("BEGIN IMMEDIATE")
                cursor.executemany(text, rows)
                connection.commit()
                return int(cursor.rowcount)
            finally:
                connection.close()

    def applied(self, origin: str) -> int | None:
        """Return the first frame of this log that is not in the tables, or None if none ever was."""
        rows = self.read(self.text.applied, origin)
        return int(rows[0][0]) if rows else None

    def request(self, receipt: str) -> Request | None:
        """Look up one receipt."""
        rows = self.read(self.text.request, receipt)
        return Request(*rows[0]) if rows else None

    def open_requests(self, origin: str) -> list[Request]:
        """Return the requests that outlived their segment and have not ended."""
        return [Request(*row) for row in self.read(self.text.open_requests, origin)]

    def record(self, digest: str) -> bytes | None:
        """Return a decision record by its digest."""
        rows = self.read(self.text.record, digest)
        return bytes(rows[0][0]) if rows else None

    def subject_salt(self, lookup: str) -> bytes | None:
        """Return the salt of a person, by ``subjects.lookup_of``."""
        rows = self.read(self.text.subject, lookup)
        return bytes(rows[0][0]) if rows else None

    def keep_configuration(self, digest: str, body: bytes) -> None:
        """Keep the snapshot of a fleet; durable, and once per digest.

        Raises:
            Unavailable: the tables cannot be written.

        """
        with self.faults("written"):
            if self.path is None:
                self._write_server(self.text.put_configuration, (digest, body))
                return
            connection = self._open_file()
            try:
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute(self.text.put_configuration, (digest, body))
            finally:
                connection.close()

    def configuration(self, digest: str) -> bytes | None:
        """Return the snapshot of a fleet by its digest, or None: it was not kept, or is lost."""
        rows = self.read(self.text.configuration, digest)
        return as_bytes(rows[0][0]) if rows else None

    def configurations(self) -> list[tuple[str, bytes]]:
        """Return all snapshots of fleets with their digests."""
        return [(str(digest), as_bytes(body)) for digest, body in self.read(self.text.configurations)]

    # --- reports and rare changes, by way of SQLAlchemy Core

    def recent(self, limit: int, app: str | None = None) -> list[Request]:
        """Return the newest finished requests, newest first (ids of one log sort by time)."""
        from allod.store import reports  # noqa: PLC0415

        return reports.recent(self, limit, app)

    def requests(self, origin: str) -> Iterator[list[Request]]:
        """Go through all requests of a log by id, a thousand at a time."""
        from allod.store import reports  # noqa: PLC0415

        return reports.requests(self, origin)

    def of_subject(self, tag: bytes) -> Iterator[list[Request]]:
        """Go through the requests with a tag (``subjects.tag_of``) by id, a thousand at a time."""
        from allod.store import reports  # noqa: PLC0415

        return reports.of_subject(self, tag)

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
        from allod.store import reports  # noqa: PLC0415

        return reports.rows(
            self, receipt=receipt, receipts=receipts, app=app, since_ms=since_ms, until_ms=until_ms
        )

    def decisions(
        self, origin: str, *, since_ms: int | None = None, until_ms: int | None = None, first: int = 0
    ) -> Iterator[Decided]:
        """Go through the decisions of a log's requests, each once with the number of its requests.

        ``until_ms`` is exclusive. Requests that are committed meanwhile are not seen. ``first`` is the log's
        minimum index.
        """
        from allod.store import reports  # noqa: PLC0415

        return reports.decisions(self, origin, since_ms=since_ms, until_ms=until_ms, first=first)

    def prune(self, origin: str, upto: int, *, ledger: bool) -> tuple[int, int, int]:
        """Take out what belongs to requests whose leaves are pruned (``reports.prune``)."""
        from allod.store import reports  # noqa: PLC0415

        return reports.prune(self, origin, upto, ledger=ledger)

    def spent(self, *, app: str | None = None, since_ms: int | None = None) -> Decimal:
        """Add up what attempts cost in USD, exactly."""
        from allod.store import reports  # noqa: PLC0415

        return reports.spent(self, app=app, since_ms=since_ms)

    def erase_salts(self, receipt: str) -> bool:
        """Delete a receipt's salts, also from SQLite's pages and WAL; False if there is no such receipt."""
        from allod.store import reports  # noqa: PLC0415

        return reports.erase_salts(self, receipt)

    # --- connections

    def _connection(self) -> Any:
        if self._hot is None:
            self._hot = self._open_file() if self.path else self.engine.raw_connection()
            self._generation += 1
        return self._hot

    def _put_subjects(self, cursor: Any, work: Work) -> None:
        if self.path is None:  # an erasure under way would not see what this batch adds
            cursor.execute(f"SELECT pg_advisory_xact_lock_shared({ERASING})")
        if work.subjects:
            cursor.executemany(self.text.put_subject, work.subjects)
        if work.scrubs:
            cursor.executemany(self.text.scrub, work.scrubs)

    def _open_file(self) -> sqlite3.Connection:
        assert self.path is not None
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _read_server(self, text: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        connection = self.engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute(text, values)
            return list(cursor.fetchall())
        except Exception:
            connection.invalidate()
            raise
        finally:
            connection.close()

    def _write_server(self, text: str, values: tuple[object, ...]) -> None:
        connection = self.engine.raw_connection()
        try:
            connection.cursor().execute(text, values)
            connection.commit()
        except Exception:
            connection.invalidate()
            raise
        finally:
            connection.close()

    def _version(self) -> int:
        """Return the version of the tables; 0 where there are none."""
        if self.path is None:
            from allod.store.tables import version_of  # noqa: PLC0415

            with self.engine.connect() as connection:
                return version_of(connection)
        try:
            return int(self.read(self.text.version)[0][0] or 0)
        except Unavailable as fault:
            if "no such table" in fault.why:
                return 0
            raise

    def _migrate(self) -> None:
        from allod.store.tables import migrate  # noqa: PLC0415

        with self.engine.begin() as connection:
            if self.path is None:  # keep a second process from doing the same at the same time
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7036874417766)")
            else:
                connection.exec_driver_sql("PRAGMA user_version = 1")
            migrate(connection)


def _put(cursor: Any, insert: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows sixteen at a time: the interpreter changes threads once per statement, not per row."""
    whole = len(rows) // MANY * MANY
    if whole:
        head, rest = insert.split(" VALUES ", 1)
        row, then = rest.split(")", 1)
        many = f"{head} VALUES {', '.join([row + ')'] * MANY)}{then}"
        for at in range(0, whole, MANY):
            cursor.execute(many, tuple(chain.from_iterable(rows[at : at + MANY])))
    if whole < len(rows):
        cursor.executemany(insert, rows[whole:])


def ledger_tuple(row: LedgerRow) -> tuple[Any, ...]:
    """Write a ledger row in column order."""
    usage = row.usage
    return (
        row.receipt, row.attempt, row.app, row.task, row.deployment, row.started_at_ms, row.status, row.basis,
        usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens,
        usage.cache_write_1h_tokens, usage.output_tokens, usage.reasoning_tokens, plain(row.cost_usd),
        row.price_digest, row.first_token_ms, row.total_ms, row.detail,
    )  # fmt: skip


def as_bytes(value: Any) -> bytes:
    """Return what a column of bytes holds; text that somebody put there is bytes of another digest."""
    return value.encode() if isinstance(value, str) else bytes(value)


def reason_of(fault: BaseException) -> str:
    """Return one line about a fault of files or tables."""
    if isinstance(fault, AllodError):
        return f"{fault.what}: {fault.why}"
    fault = getattr(fault, "orig", None) or fault
    return str(getattr(fault, "strerror", None) or fault) or type(fault).__name__
