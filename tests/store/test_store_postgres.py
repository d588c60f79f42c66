"""The tables in a real PostgreSQL, started from an installed server for these tests alone."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from store_worlds import AT, QUICK, Requests, final, patient

from allod.store import statements
from allod.store.database import Database
from allod.store.home import make_home
from allod.store.keys import create_key, digest_of
from allod.store.statements import Statements
from allod.store.store import Store
from allod.store.tables import APP_KEY, APPLIED, CONFIGURATION, DECISION_RECORD, LEDGER, METADATA, REQUEST


def compiled(table: sa.Table, dialect: sa.Dialect, replace: tuple[str, ...] = ()) -> str:
    insert = (postgresql if dialect.name == "postgresql" else sqlite).insert(table)
    keys = [column.name for column in table.primary_key]
    if replace:
        changes = {name: insert.excluded[name] for name in replace}
        statement = insert.on_conflict_do_update(index_elements=keys, set_=changes)
    else:
        statement = insert.on_conflict_do_nothing(index_elements=keys)
    return str(statement.compile(dialect=dialect, column_keys=[c.name for c in table.columns]))


@pytest.mark.parametrize(
    ("dialect", "mark"),
    [(postgresql.dialect(paramstyle="format"), "%s"), (sqlite.dialect(paramstyle="qmark"), "?")],
    ids=["postgresql", "sqlite"],
)
def test_the_statements_written_as_text_are_those_compiled_from_the_tables(
    dialect: sa.Dialect, mark: str
) -> None:
    text = Statements(mark)
    names = {
        APP_KEY: statements.APP_KEY,
        APPLIED: statements.APPLIED,
        CONFIGURATION: statements.CONFIGURATION,
        DECISION_RECORD: statements.DECISION_RECORD,
        LEDGER: statements.LEDGER,
        REQUEST: statements.REQUEST,
    }
    for table, columns in names.items():
        assert tuple(column.name for column in table.columns) == columns

    def same(ours: str, theirs: str) -> bool:
        casts = re.sub(r"::[A-Z]+", "", theirs)
        return " ".join(casts.split()) == ours

    assert same(text.put_request, compiled(REQUEST, dialect, statements.REPLACED))
    assert same(text.put_ledger, compiled(LEDGER, dialect))
    assert same(text.put_record, compiled(DECISION_RECORD, dialect))
    assert same(text.put_configuration, compiled(CONFIGURATION, dialect))
    assert same(text.put_applied, compiled(APPLIED, dialect, ("next_seq",)))
    for table in METADATA.sorted_tables:
        assert "CREATE TABLE" in str(sa.schema.CreateTable(table).compile(dialect=dialect))


def test_starting_and_serving_from_sqlite_loads_no_query_builder(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    Store.open(home).close()
    code = (
        "import sys, pathlib; from allod.store.home import load_home; from allod.store.store import Store\n"
        "store = Store.open(load_home(pathlib.Path(sys.argv[1]))); store.owner('r_x'); store.flush()\n"
        "store.close()\n"
        "sys.exit('sqlalchemy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(home.root)], check=True)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("no PostgreSQL server is installed under /usr/lib/postgresql")
    tools, data = found[-1].parent, Path(tempfile.mkdtemp(prefix="allod-pg-"))  # not below a 0700 folder
    run: dict[str, object] = {}
    if os.geteuid() == 0:
        try:
            shutil.chown(data, "postgres", "postgres")
        except LookupError:
            pytest.skip("PostgreSQL does not run as root and there is no user postgres")
        run = {"user": "postgres"}
    made = subprocess.run(
        [tools / "initdb", "-D", data / "db", "-A", "trust", "-U", "allod", "--no-sync"],
        capture_output=True, text=True, check=False, cwd=data, **run,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"initdb does not work here: {made.stderr.strip()[:200]}")
    server = subprocess.Popen(
        [tools / "postgres", "-D", data / "db", "-k", data, "-c", "listen_addresses=", "-c", "fsync=off"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=data, **run,
    )  # fmt: skip
    try:
        for _ in range(200):
            ready = subprocess.run([tools / "pg_isready", "-h", data], capture_output=True, check=False)
            if ready.returncode == 0:
                break
            subprocess.run(["sleep", "0.05"], check=True)
        yield f"postgresql+psycopg://allod@/postgres?host={data}"
    finally:
        server.send_signal(signal.SIGINT)  # do not wait for clients
        server.wait(30)
        shutil.rmtree(data, ignore_errors=True)


def open_pg(tmp_path: Path, url: str, name: str = "home") -> Store:
    return Store.open(make_home(tmp_path / name), url=url, settings=QUICK, clock=lambda: AT + 5000)


def test_requests_ledger_keys_and_recovery_on_postgresql(tmp_path: Path, url: str) -> None:
    store = open_pg(tmp_path, url)
    load = Requests(store)
    receipts = [load.whole() for _ in range(30)]
    lost = load.begin()
    load.attempt(lost, 1, "0.125")
    assert store.flush()
    for receipt in receipts:
        assert final(store, receipt)["status"] == "answered"
    assert len(store.database.rows()) == 30
    assert store.erase(receipts[0])
    key = create_key(store.database, "triage", at_ms=AT)
    store.key_table.refresh()
    assert store.key_table.lookup(digest_of(key), AT) == "triage"
    store.close()
    store = open_pg(tmp_path, url)
    assert store.flush()
    assert final(store, lost)["reason"] == "gateway-lost"
    assert [str(r.cost_usd) for r in store.database.rows(receipt=lost)] == ["0.125"]
    store.close()


def test_two_homes_share_one_database_and_keep_their_logs_apart(tmp_path: Path, url: str) -> None:
    one, two = open_pg(tmp_path, url, "one"), open_pg(tmp_path, url, "two")
    mine, other = Requests(one).whole(), Requests(two).whole()
    assert one.flush()
    assert two.flush()
    assert final(one, mine)["id"] == mine
    assert one.receipt_file(other) is None
    assert one.owner(other) == "triage"
    one.close()
    two.close()
    assert all_gone(url)


def test_configurations_and_decisions_on_postgresql(tmp_path: Path, url: str) -> None:
    store = open_pg(tmp_path, url)
    load = Requests(store)
    for _ in range(3):
        load.whole()
    load.begin(record=b"another")
    assert store.flush()
    database = store.database
    for _ in range(2):  # once per digest
        database.keep_configuration("sha256:c", b"body")
    assert database.configuration("sha256:c") == b"body"
    assert database.configuration("sha256:d") is None
    assert ("sha256:c", b"body") in database.configurations()
    found = list(database.decisions(store.keys.origin))
    assert [(one.requests, one.body) for one in found] == [(3, b'{"n":1}')]  # the other has not ended
    assert list(database.decisions(store.keys.origin, since_ms=AT + 10_000)) == []
    store.close()
    assert all_gone(url)


def others(url: str) -> int:
    """How many connections besides our own are open."""
    database = Database(url)
    with database.engine.connect() as connection:
        count = connection.scalar(
            sa.text(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
        )
    database.close()
    return int(count)


def all_gone(url: str) -> bool:
    """Wait for the server to notice that we have closed every connection."""
    end = time.monotonic() + 10
    while others(url) and time.monotonic() < end:
        time.sleep(0.05)
    return others(url) == 0


def test_a_lost_connection_heals(tmp_path: Path, url: str) -> None:
    store = open_pg(tmp_path, url)
    load = Requests(store)
    load.whole()
    assert store.flush()
    admin = Database(url)
    with admin.engine.connect() as connection:
        connection.execute(
            sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        )
    admin.close()
    receipt = patient(load.whole)
    assert store.flush()
    assert final(store, receipt)["status"] == "answered"
    assert store.database.request(receipt) is not None
    store.close()
    assert all_gone(url)
