"""Pruning through the product: configuration, command, what the gateway then serves, and what reports say."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from world import World, chat, config, deployment

from allod.domain.errors import Invalid
from allod.gateway.config import parse
from allod.gateway.packs import find
from allod.gateway.retention import Retention, judged
from allod.receipts.canonical import canonical
from allod.receipts.commitment import digest, pseudonym
from allod.receipts.ids import id_prefix, new_id, ulid
from allod.receipts.leaves import IntentFacts, NoticeFacts, TerminalFacts
from allod.receipts.pruning import DAY_MS, PruningPolicy, policy_leaf
from allod.receipts.verify import verify
from allod.store.home import load_keys
from allod.store.store import Store
from allod.store.writer import Settings

FLEET = [deployment("inner", "answer")]
LOG = {"retain_days": 200}
OLD_DAYS = 260


def aged(world: World, count: int = 300) -> tuple[str, bytes]:
    """Fill a home with requests of months ago; returns the oldest and its receipt as handed out then."""
    keys, now = load_keys(world.paths), time.time_ns() // 1_000_000
    store = Store.open(world.paths, settings=Settings(segment_bytes=8 << 20))
    at = now - OLD_DAYS * DAY_MS
    names = [id_prefix(keys.origin) + ulid(at + n, os.urandom(10)) for n in range(count)]
    tenant = pseudonym(keys.secret, "tenant", "st-elisabeth")
    for n, name in enumerate(names):
        record = canonical({"n": n})
        facts = IntentFacts(
            id=name, at_ms=at + n, tenant=tenant, app=pseudonym(keys.secret, "app", "press"), surface="chat",
            request=digest(b"q"), classes=("public",), pack=digest(b"p"), fleet=digest(b"f"),
            decision=digest(record),
        )  # fmt: skip
        store.append_intent(facts, app="press", salts=(bytes(32), bytes(32)), record=record)
        store.append_terminal(TerminalFacts(id=name, at_ms=at + n, status="refused"))
    start = now - 10 * DAY_MS
    note = NoticeFacts(id=new_id(keys.origin, start, bytes(10)), at_ms=start, tenant=tenant, subject="start")
    store.append_notice(note)
    policy = PruningPolicy(origin=keys.origin, retain_days=LOG["retain_days"])
    leaf = policy_leaf(policy, id=new_id(keys.origin, start, b"1" * 10), at_ms=start, tenant=tenant)
    store.append_notice(leaf)
    last = NoticeFacts(id=new_id(keys.origin, now, bytes(10)), at_ms=now, tenant=tenant, subject="x")
    store.append_notice(last)
    assert store.flush()
    file = store.receipt_file(names[0])
    store.close()
    assert isinstance(file, bytes)
    return names[0], file


@contextlib.contextmanager
def answering(status: int, body: bytes) -> Iterator[int]:
    """Answer every request so, on a port of its own."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def json_of(world: World, *words: str, rc: int = 0) -> dict[str, Any]:
    done = world.here(*words, "--json")
    assert done.returncode == rc, (done.stdout, done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "home", config(FLEET, log=LOG))


def test_pruned_leaves_are_404_and_410_with_the_policy_and_old_receipts_verify(world: World) -> None:
    oldest, file = aged(world)
    dry = json_of(world, "log", "prune", "--dry-run")
    assert (dry["upto"], dry["dry_run"]) == (512, True)
    assert json_of(world, "log", "status")["minimum_index"] == 0
    assert json_of(world, "log", "prune")["upto"] == 512
    said = json_of(world, "log", "verify")
    assert said["ok"]
    assert any("cannot be recomputed" in step["detail"] for step in said["steps"])
    assert verify(file, world.paths.log_vkey.read_text().strip()).ok
    with world.up("press") as gateway:
        pruning = gateway.call("/log/pruning", app=None).json
        assert pruning["minimum_index"] == 512
        assert "200 days" in pruning["statement"]
        assert pruning["policy"]["digest"] == dry["policy"]
        gone = gateway.call("/log/tile/entries/000", app=None)
        assert gone.status == 404
        assert b"/log/pruning" in gone.body
        assert gateway.call("/log/tile/entries/000.p/9", app=None).status == 404
        assert gateway.call("/log/tile/entries/999", app=None).body == b"there is no such tile\n"
        assert len(gateway.call("/log/tile/0/000", app=None).body) == 8192
        asked = gateway.call(f"/v1/receipts/{oldest}")
        assert asked.status == 410
        assert asked.json["error"]["code"] == "pruned"
        assert dry["policy"] in json.dumps(asked.json)
        for form in ("tlog-proof", "cose"):
            assert gateway.call(f"/v1/receipts/{oldest}?format={form}").status == 410
        refused = asked.body
        fresh = gateway.chat(chat("inner"))
        assert fresh.status == 200
        assert gateway.receipt(fresh.receipt)["status"] == "answered"
    got = world.here("receipt", "get", oldest)
    assert got.returncode == 2
    assert "pruned" in got.stderr
    with answering(410, refused) as port:  # as a running gateway says it
        world.write(config(FLEET, log=LOG, server={"port": port}))
        got = world.here("receipt", "get", oldest)
        assert got.returncode == 2
        assert "eaves before 512 are older than the 200 days" in got.stderr
    world.write(config(FLEET, log=LOG))
    status = json_of(world, "log", "status")
    assert (status["minimum_index"], status["unfinished"]) == (512, False)
    shown = world.here("log", "status").stdout
    assert "the first that is there is 512" in shown
    assert "pruning: Leaves of requests may be pruned" in shown
    _reports_say_so(world)


def _reports_say_so(world: World) -> None:
    report = json_of(world, "report", "ai-act-log", "--since", "400d")
    assert any("are pruned from the log by its policy" in gap["what"] for gap in report["gaps"])
    recent = json_of(world, "report", "ai-act-log", "--since", "1d")
    assert not any("pruned" in gap["what"] for gap in recent["gaps"])
    folder = world.root.parent / "tiles"
    exported = world.here("log", "export", str(folder))
    assert exported.returncode == 0
    assert "entries below leaf 512 are pruned" in exported.stdout
    simulated = world.here("policy", "simulate", "--since", "400d", "--json")
    assert "pruned by the log's policy" in simulated.stdout


def test_a_start_publishes_the_policy_and_names_its_witnesses(world: World) -> None:
    with world.up("press") as gateway:
        gateway.receipt(gateway.chat(chat("inner")).receipt)
        data = gateway.call("/log/tile/entries/000.p/2", app=None).body
        assert b'"subject":"start"' in data
        assert b'"subject":"pruning-policy"' in data
        assert b"older than 200 days" in data
        assert world.here("log", "prune", "--json").returncode == 5, "the home is in use"
    refused = json_of(world, "log", "prune", rc=0)
    assert (refused["upto"], refused["since"]) == (0, 0)
    assert "nothing is pruned by it before" in refused["why"]


def test_without_retain_days_nothing_is_pruned_and_that_is_published(tmp_path: Path) -> None:
    world = World(tmp_path / "home", config(FLEET))
    done = world.here("log", "prune", "--json")
    assert done.returncode == 2
    assert "keep everything" in json.loads(done.stdout)["error"]["why"]
    with world.up() as gateway:
        said = gateway.call("/log/pruning", app=None).json
    assert (said["minimum_index"], said["policy"]) == (0, None)
    assert said["statement"] == "Nothing is pruned from this log."


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ({"retain_days": 100}, "Article 26(6)"),
        ({"retain_days": -1}, "retain_days"),
        ({"retain_days": 184, "holds": [{"reason": "r", "since": "x"}]}, "since"),
        ({"retain_days": 184, "holds": [{}]}, "reason"),
        ({"retain_days": 184, "holds": [{"reason": "r", "receipts": ["x"]}]}, "no receipt"),
        ({"retain_days": 30, "retain_because": "x" * 401}, "retain_because"),
        ({"retain_days": 184, "hold": []}, "holds"),
    ],
    ids=["six months", "negative", "day", "reason", "receipt", "long reason", "misspelt"],
)
def test_a_policy_that_keeps_too_little_or_cannot_be_read_is_refused(log: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse(config(FLEET, log=log))
    assert said in refused.value.explain()


@pytest.mark.parametrize(
    ("pack", "days", "article"),
    [("us-hipaa", 2191, "164.316"), ("eu-ai-act", 183, "26(6)"), ("in-dpdp", 365, "one year")],
)
def test_no_log_keeps_less_than_a_pack_in_force_demands(pack: str, days: int, article: str) -> None:
    law = [find().load("base"), find().load(pack)]
    with pytest.raises(Invalid, match="shorter than a pack in force demands") as refused:
        judged(Retention(days=days, because="no reason is enough"), law)
    assert article in refused.value.why
    judged(Retention(days=days + 1), law)
    judged(Retention(), law)


def test_fewer_days_need_a_reason_and_the_reason_is_published() -> None:
    log = {"retain_days": 30, "retain_because": "A test bench without people in it."}
    policy = parse(config(FLEET, log=log)).log.retention.policy("allod/0123456789abcdef")
    assert policy is not None
    assert "A test bench without people in it." in policy.statement


def test_a_hold_in_the_configuration_keeps_everything(world: World) -> None:
    aged(world)
    holds = [{"reason": "case 12/2026"}]
    world.write(config(FLEET, log={**LOG, "holds": holds}))
    found = json_of(world, "log", "prune")
    assert found["upto"] == 0
    assert "case 12/2026" in found["why"]
    findings = json.loads(world.here("doctor", "--json").stdout)["findings"]
    assert any(f["name"] == "legal hold" and f["detail"] == "case 12/2026" for f in findings)
