"""Tables and their versions; SQLAlchemy Core, SQLite and PostgreSQL alike.

Money is decimal text, times are UTC milliseconds. A version is only ever added, never changed: old homes are
brought forward step by step when they are opened, and never back.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

from allod.domain.errors import Integrity
from allod.store.statements import VERSION

METADATA: Final = MetaData()

APP_KEY: Final = Table(
    "app_key",
    METADATA,
    Column("digest", Text, primary_key=True),
    Column("app", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger),
    Column("revoked_at_ms", BigInteger),
    sqlite_with_rowid=False,
)
"""Digests of keys; the keys themselves are nowhere."""

REQUEST: Final = Table(
    "request",
    METADATA,
    Column("receipt", Text, primary_key=True),
    Column("origin", Text, nullable=False),
    Column("app", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("intent_index", BigInteger, nullable=False),
    Column("terminal_index", BigInteger),
    Column("request_salt", LargeBinary),
    Column("response_salt", LargeBinary),
    Column("decision", Text, nullable=False),
    Column("attempts", LargeBinary),
    Column("subject", LargeBinary),
    sqlite_with_rowid=False,
)
"""From a receipt to its leaves. ``status`` is ``open`` only while a request outlives its journal segment;
``attempts`` then holds its attempt frames. Salts are NULL once erased. ``subject`` is a tag
(``subjects``)."""

REQUEST_SUBJECT: Final = Index(
    "request_subject",
    REQUEST.c.subject,
    sqlite_where=REQUEST.c.subject.is_not(None),
    postgresql_where=REQUEST.c.subject.is_not(None),
)
"""Requests about one person; those about nobody cost nothing."""

SUBJECT: Final = Table(
    "subject",
    METADATA,
    Column("lookup", Text, primary_key=True),
    Column("salt", LargeBinary, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""The salt of each person, under a keyed digest of their id."""

ERASED: Final = Table(
    "erased",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Digests of deleted salts of people, and receipts whose salts were: what arrives of them later is
forgotten."""

LEDGER: Final = Table(
    "ledger",
    METADATA,
    Column("receipt", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("app", Text, nullable=False),
    Column("task", Text),
    Column("deployment", Text, nullable=False),
    Column("started_at_ms", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("basis", Text, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("cache_write_1h_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("cost_usd", Text, nullable=False),
    Column("price_digest", Text, nullable=False),
    Column("first_token_ms", BigInteger),
    Column("total_ms", BigInteger),
    Column("detail", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""One row per upstream attempt (I4)."""

DECISION_RECORD: Final = Table(
    "decision_record",
    METADATA,
    Column("digest", Text, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""Decision records by digest, each once (I8)."""

CONFIGURATION: Final = Table(
    "configuration",
    METADATA,
    Column("digest", Text, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""Snapshots of the fleets decisions were made with, by digest, each once (``routing.snapshot``)."""

DEFERRED: Final = Table(
    "deferred",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("origin", Text, nullable=False),
    Column("app", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("deadline_at_ms", BigInteger, nullable=False),
    Column("start_at_ms", BigInteger, nullable=False),
    Column("latest_at_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger),
    Column("receipt", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("subject", Text),
    Column("deferral", LargeBinary),
    Column("known", LargeBinary, nullable=False),
    Column("request", LargeBinary),
    Column("shown", LargeBinary),
    Column("head", LargeBinary),
)
"""Work that waits for its hour, and its answers until they are fetched (``deferred``). ``request``, ``shown``
and ``head`` are content; ``subject`` is where the person's salt is found (``subject.lookup``)."""

DEFERRED_STATE: Final = Index(
    "deferred_state",
    *(DEFERRED.c[name] for name in ("origin", "ended_at_ms", "status", "start_at_ms", "deadline_at_ms")),
    DEFERRED.c.app,
    DEFERRED.c.size_bytes,
)
"""What is due, too late or over, and how much there is, without reading content."""

APPLIED: Final = Table(
    "applied",
    METADATA,
    Column("origin", Text, primary_key=True),
    Column("next_seq", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Per log, the first journal frame that is not in these tables: each frame gets here exactly once."""

MIGRATION: Final = Table(
    "migration",
    METADATA,
    Column("version", Integer, primary_key=True),
    sqlite_with_rowid=False,
)
"""The versions these tables have been brought to."""


def migrate(connection: Connection) -> None:
    """Bring the tables forward to ``VERSION``; the caller holds a transaction that locks others out.

    Raises:
        Integrity: they were made by a newer Allod.

    """
    MIGRATION.create(connection, checkfirst=True)
    version = version_of(connection)
    if version > VERSION:
        raise Integrity(
            "the tables were made by a newer Allod",
            f"got version {version}, expected at most {VERSION}",
            "use the newer Allod; tables never go back",
        )
    for step in range(version, VERSION):
        _STEPS[step](connection)
        connection.execute(sa.insert(MIGRATION).values(version=step + 1))


def version_of(connection: Connection) -> int:
    """Return the version the tables are at, 0 for an empty database."""
    if not sa.inspect(connection).has_table(MIGRATION.name):
        return 0
    return connection.scalar(sa.select(sa.func.max(MIGRATION.c.version))) or 0


def _first(connection: Connection) -> None:
    METADATA.create_all(connection, checkfirst=True)


def _second(connection: Connection) -> None:
    """Add what finds and forgets the requests about one person (fresh tables have it from the first step)."""
    known = {column["name"] for column in sa.inspect(connection).get_columns(REQUEST.name)}
    if REQUEST.c.subject.name not in known:
        connection.exec_driver_sql(
            f"ALTER TABLE request ADD COLUMN subject {REQUEST.c.subject.type.compile(connection.dialect)}"
        )
    for table in (SUBJECT, ERASED):
        table.create(connection, checkfirst=True)
    REQUEST_SUBJECT.create(connection, checkfirst=True)


def _third(connection: Connection) -> None:
    """Add what keeps configurations."""
    CONFIGURATION.create(connection, checkfirst=True)


def _fourth(connection: Connection) -> None:
    """Add the queue."""
    DEFERRED.create(connection, checkfirst=True)


_STEPS: Final = (_first, _second, _third, _fourth)


def make_engine(url: str, pragmas: tuple[str, ...], busy_s: float) -> Engine:
    """Make SQLAlchemy's way to the tables; in SQLite transactions begin and end where we say so."""
    if not url.startswith("sqlite"):
        return sa.create_engine(url, paramstyle="format", pool_pre_ping=True)
    engine = sa.create_engine(url, connect_args={"isolation_level": None, "timeout": busy_s})

    def connected(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    sa.event.listen(engine, "connect", connected)
    sa.event.listen(engine, "begin", begun)
    return engine
