"""The tables in a real PostgreSQL, started from an installed server for these tests alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from store_worlds import AT, QUICK, Requests, final, patient

from allod.store.database import Database
from allod.store.home import make_home
from allod.store.keys import create_key, digest_of
from allod.store.store import Store
from allod.store.tables import LEDGER, METADATA, REQUEST, upsert


def test_every_table_and_insert_compiles_for_postgresql() -> None:
    dialect = postgresql.dialect(paramstyle="format")
    for table in METADATA.sorted_tables:
        assert "CREATE TABLE" in str(sa.schema.CreateTable(table).compile(dialect=dialect))
    assert "ON CONFLICT (receipt, attempt) DO NOTHING" in upsert(LEDGER, dialect)
    assert "DO UPDATE SET status = excluded.status" in upsert(REQUEST, dialect, replace=("status",))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("no PostgreSQL server is installed under /usr/lib/postgresql")
    tools, data = found[-1].parent, tmp_path_factory.mktemp("pg")
    run: dict[str, object] = {}
    if os.geteuid() == 0:
        try:
            shutil.chown(data, "postgres", "postgres")
        except LookupError:
            pytest.skip("PostgreSQL does not run as root and there is no user postgres")
        for parent in data.parents[:3]:
            parent.chmod(parent.stat().st_mode | 0o011)
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
    assert others(url) == 0


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
    store.database.engine.dispose()
    assert final(store, receipt)["status"] == "answered"
    store.close()
    assert others(url) == 0
