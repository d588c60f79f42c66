"""SQL of an answer, run read-only over a schema in memory. Called inside the sandbox.

SQLite's authorizer lets a statement read and call functions, and nothing else: no ``ATTACH``, no pragma, no
write, no transaction, no temporary table. Steps, rows, and the size of a value are bounded; processor time
and memory are bounded by the child around it.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from typing import Final

import msgspec

MAX_SQL_CHARS: Final = 64 << 10
MAX_STATEMENTS: Final = 16
MAX_ROWS: Final = 10_000
MAX_STEPS: Final = 20_000_000
"""Of SQLite's virtual machine, one query; some seconds."""
_EVERY: Final = 10_000
_MAX_VALUE_BYTES: Final = 1 << 20
_PIECES: Final = re.compile(
    r"'[^']*'|\"[^\"]*\"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/|[()]|\border\s+by\b", re.IGNORECASE | re.DOTALL
)
_SAYS_NOTHING: Final = re.compile(r"(?:[;\s]|--[^\n]*(?:\n|$)|/\*(?:[^*]|\*(?!/))*\*/)*")
_READS: Final = frozenset(
    (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
)
_NEVER: Final = frozenset(("load_extension", "fts3_tokenizer", "edit", "readfile", "writefile"))
_BUILDS: Final = frozenset((sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_CREATE_VTABLE))


class Broken(Exception):
    """A query that is none, or may not be run; ``why`` says so without any of its words."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """What a query found: names of its columns, how many rows, and a digest of them.

    The digest is of the rows in their order where the outermost query orders them, else of the rows as a
    bag; names of columns are not in it.
    """

    columns: tuple[str, ...]
    count: int
    digest: str


def opened(schema: str) -> sqlite3.Connection:
    """Build a database in memory from a schema's script; nothing of it is on a disk.

    Raises:
        Broken: the script is wrong, or does more than create and fill tables.

    """
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.execute("PRAGMA temp_store = MEMORY")
    database.execute("PRAGMA trusted_schema = OFF")
    database.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    database.set_authorizer(_building)
    try:
        database.executescript(schema)
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        raise Broken(f"the schema cannot be built: {str(error)[:200]}") from None
    database.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, MAX_SQL_CHARS * 4)
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
    database.setlimit(sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 200)
    database.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1_000)
    return database


def _building(action: int, *_: object) -> int:
    return sqlite3.SQLITE_DENY if action in _BUILDS else sqlite3.SQLITE_OK


def _reading(action: int, _: object, name: object, *__: object) -> int:
    if action not in _READS or (action == sqlite3.SQLITE_FUNCTION and str(name).lower() in _NEVER):
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def _naming(action: int, *_: object) -> int:
    """Let anything be prepared that does nothing while it is: pragmas and ``ATTACH`` may."""
    silent = action not in {sqlite3.SQLITE_PRAGMA, *_BUILDS}
    return sqlite3.SQLITE_OK if silent else sqlite3.SQLITE_DENY


def statements(text: str) -> tuple[str, ...]:
    """Cut a script into its statements.

    Raises:
        Broken: there is none, or more, or longer ones, than are run.

    """
    if len(text) > MAX_SQL_CHARS:
        raise Broken("longer than is run")
    out: list[str] = []
    at, pieces = "", text.split(";")
    if len(pieces) > 4 * MAX_STATEMENTS:
        raise Broken("more statements than are run")
    for piece in pieces:
        at += piece + ";"
        if sqlite3.complete_statement(at):
            if not _SAYS_NOTHING.fullmatch(at):
                out.append(at)
            at = ""
    if not _SAYS_NOTHING.fullmatch(at):
        out.append(at.removesuffix(";"))
    if not out or len(out) > MAX_STATEMENTS:
        raise Broken("no statement" if not out else "more statements than are run")
    return tuple(out)


def prepared(database: sqlite3.Connection, statement: str) -> None:
    """Prepare a statement and run nothing of it (raises ``sqlite3.Error`` where it is none)."""
    database.set_authorizer(_naming)
    try:
        database.execute("EXPLAIN " + statement).close()
    except (sqlite3.Warning, sqlite3.ProgrammingError, ValueError) as error:
        if "bindings" not in str(error):  # a parameter: it was prepared, and is not run
            raise sqlite3.OperationalError(str(error)) from None


def queried(database: sqlite3.Connection, statement: str) -> Rows:
    """Run one statement that reads.

    Raises:
        Broken: it is none, does more than read, or takes more steps or rows than are allowed.

    """
    database.set_authorizer(_reading)
    left = MAX_STEPS // _EVERY

    def tick() -> int:
        nonlocal left
        left -= 1
        return int(left < 0)

    database.set_progress_handler(tick, _EVERY)
    try:
        cursor = database.execute(statement)
        if cursor.description is None:
            raise Broken("it asks for nothing")
        columns = tuple(str(one[0]) for one in cursor.description)
        rows = [json.dumps([_said(value) for value in row]) for row in cursor.fetchmany(MAX_ROWS + 1)]
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
        raise Broken(_why(error, left)) from None
    finally:
        database.set_progress_handler(None, 0)
    if len(rows) > MAX_ROWS:
        raise Broken("more rows than are read")
    if not _orders(statement):
        rows.sort()
    found = hashlib.sha256("\n".join([str(len(columns)), *rows]).encode()).hexdigest()
    return Rows(columns=columns, count=len(rows), digest=found)


def _said(value: object) -> object:
    """Write a value so that 2 and 2.0 are one, and bytes are no text."""
    if isinstance(value, bytes):
        return {"blob": value.hex()}
    if isinstance(value, float):
        return int(value) if value.is_integer() else float(f"{value:.12g}")
    return value


def _orders(statement: str) -> bool:
    """Say whether the outermost query orders its rows: an ``ORDER BY`` outside all brackets and texts."""
    depth = 0
    for found in _PIECES.finditer(statement):
        word = found.group()
        depth += (word == "(") - (word == ")")
        if not depth and word[0] in "oO":
            return True
    return False


def _why(error: Exception, left: int) -> str:
    if left < 0:
        return "more steps than are run"
    said = str(error)
    return "it does more than read" if "not authorized" in said or "prohibited" in said else "it does not run"
