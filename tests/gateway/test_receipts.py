"""Receipts through the whole gateway: one intent and one end each, provable at once, without content."""

from __future__ import annotations

import json
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from world import (
    Gateway,
    Inside,
    Region,
    World,
    call,
    chat,
    config,
    deployment,
    messages,
    responses,
    until,
)

from allod.receipts.checkpoint import open_checkpoint
from allod.receipts.commitment import commitment, digest
from allod.receipts.merkle import leaf_hash, range_hash
from allod.receipts.notes import parse_vkey
from allod.receipts.proof import parse_proof, verify_proof
from allod.receipts.tiles import WIDTH, parse_bundle
from allod.receipts.verify import verify
from allod.routing.record import holds
from allod.store.journal import Segment

QUICK = {"retries": 0, "first_token_ms": 200, "timeout_ms": 400}
MARK = "zaubernuss-4711"
"""A word that stands for content; no file of a home may hold it."""


def echo_errors(method: str, path: str, body: bytes) -> Any:
    """Play an operator that quotes the request in its errors, as real ones do."""
    from allod.engines.scripted import acts
    from allod.engines.scripted.server import route

    if b'"quoting"' not in body:
        return route(method, path, body)
    said = json.loads(body)["messages"][-1]["content"]
    error = {"message": f"cannot serve {said}", "type": said, "param": said, "code": f"bad {said}"}
    data = json.dumps({"error": error}).encode()
    return acts._one(data, status=400)


@pytest.fixture(scope="module")
def region() -> Iterator[Region]:
    with Region(echo_errors) as one:
        yield one


@pytest.fixture(scope="module")
def gateway(region: Region, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    fleet = [
        deployment("sound", "answer", base_url=region.url),
        deployment("echo", "echo", base_url=region.url),
        deployment("slow", "slow-1500", base_url=region.url),
        deployment("broken", "http-500", base_url=region.url, **QUICK),
        deployment("half", "truncate", base_url=region.url, **QUICK),
        deployment("stuck", "stall-mid", base_url=region.url, retries=0),
        deployment("quoting", "quoting", base_url=region.url, **QUICK),
        deployment("inner", "answer"),
        deployment("inner-echo", "echo"),
        deployment("foreign", "answer", lawful=False, base_url=region.url),
    ]
    with World(tmp_path_factory.mktemp("receipts") / "home", config(fleet)).up("ward", "press") as up:
        yield up


def vkey(gateway: Gateway) -> str:
    return gateway.world.paths.log_vkey.read_text().strip()


# --- I3


def leaves(port: int) -> list[dict[str, Any]]:
    """Read every published leaf over HTTP."""
    size = int(call(port, "/log/checkpoint").body.split(b"\n")[1])
    out: list[dict[str, Any]] = []
    for n in range(-(-size // WIDTH)):
        width = min(WIDTH, size - n * WIDTH)
        path = f"/log/tile/entries/{n:03d}" + (f".p/{width}" if width < WIDTH else "")
        out += [json.loads(entry) for entry in parse_bundle(call(port, path).body)]
    return out


def one_of_many(gateway: Gateway, seed: int) -> str | None:
    """Make one request of a random kind; returns its receipt if it was admitted."""
    draw = random.Random(seed)
    model = draw.choice(["sound", "inner", "broken", "half", "stuck", "foreign", "auto", "no-such"])
    path, make = draw.choice(
        [("/v1/chat/completions", chat), ("/v1/messages", messages), ("/v1/responses", responses)]
    )
    if draw.random() < 0.1:
        body = {"model": model, "input": "x"}
        return gateway.call("/v1/embeddings", body, app="ward").headers.get("allod-receipt")
    stream = gateway.start(
        path, make(model, f"text {seed}", stream=model == "stuck" or draw.random() < 0.5), app="ward"
    )
    if model == "stuck":
        next(stream.events())
    else:
        stream.read()
    stream.drop()
    return stream.headers.get("allod-receipt")


def test_I3_every_request_has_one_intent_and_one_terminal_whatever_becomes_of_it(gateway: Gateway) -> None:
    with ThreadPoolExecutor(6) as pool:
        receipts = [r for r in pool.map(lambda seed: one_of_many(gateway, seed), range(120)) if r]
    assert len(set(receipts)) == len(receipts) > 80
    for receipt in receipts:
        gateway.receipt_bytes(receipt, app="ward")
    found = [leaf for leaf in leaves(gateway.port) if leaf["kind"] != "notice"]
    ends = Counter(leaf["id"] for leaf in found if leaf["kind"] == "terminal")
    begins = Counter(leaf["id"] for leaf in found if leaf["kind"] == "intent")
    assert set(receipts) <= set(begins)
    assert set(begins) == set(ends)
    assert set(begins.values()) == set(ends.values()) == {1}
    first = {}
    for at, leaf in enumerate(found):
        assert first.setdefault(leaf["id"], at) == at or leaf["kind"] == "terminal"
    statuses = Counter(leaf["status"] for leaf in found if leaf["kind"] == "terminal")
    assert set(statuses) == {"answered", "refused", "aborted", "failed"}, statuses


def test_I4_each_row_of_the_ledger_is_in_its_leaf(gateway: Gateway) -> None:
    rows = Counter(row.receipt for row in gateway.world.rows())
    for leaf in leaves(gateway.port):
        if leaf["kind"] == "terminal" and leaf["id"] in rows:
            assert leaf["attempts"] == rows[leaf["id"]]


# --- proofs


def test_a_proof_is_there_within_50_ms_of_the_end_of_the_answer(gateway: Gateway) -> None:
    waited = []
    for n in range(40):
        stream = gateway.start(
            "/v1/chat/completions", chat("sound", f"text {n}", stream=n % 2 == 0), app="ward"
        )
        stream.read()
        ended = time.monotonic()
        answer = gateway.call(f"/v1/receipts/{stream.receipt}", app="ward")
        waited.append((time.monotonic() - ended) * 1000)
        assert answer.json["status"] == "answered"
        assert verify(answer.body, vkey(gateway)).ok
    waited.sort()
    print(f"proof after the answer: median {statistics.median(waited):.1f} ms, p95 {waited[37]:.1f} ms")  # noqa: T201
    assert statistics.median(waited) < 50


def test_only_the_app_that_owns_a_receipt_can_read_it(gateway: Gateway) -> None:
    mine = gateway.chat(chat("sound"), app="ward").receipt
    assert gateway.call(f"/v1/receipts/{mine}", app="ward").status == 200
    assert gateway.call(f"/v1/receipts/{mine}", app="press").status == 404
    assert call(gateway.port, f"/v1/receipts/{mine}").status == 401
    other = mine[:-1] + ("0" if mine[-1] != "0" else "1")
    assert gateway.call(f"/v1/receipts/{other}", app="ward").status == 404
    assert gateway.call("/v1/receipts/../../etc/passwd", app="ward").status == 404


def test_a_receipt_is_pending_while_in_flight_and_then_final(gateway: Gateway, region: Region) -> None:
    region.clear()
    got: list[Any] = []
    before = {leaf["id"] for leaf in leaves(gateway.port)}
    asking = threading.Thread(target=lambda: got.append(gateway.chat(chat("slow"), app="ward")))
    asking.start()
    region.wait_seen()
    intent = until(lambda: [leaf for leaf in leaves(gateway.port) if leaf["id"] not in before])[0]
    answer = gateway.call(f"/v1/receipts/{intent['id']}", app="ward")
    assert answer.status == 200
    assert answer.json["status"] == "pending"
    assert answer.json["terminal"] is None
    assert json.loads(answer.json["intent"]["leaf"]) == intent
    hashed = leaf_hash(answer.json["intent"]["leaf"].encode())
    verify_proof(parse_proof(answer.json["intent"]["proof"]), hashed, parse_vkey(vkey(gateway)))
    steps = {step.name: step.ok for step in verify(answer.body, vkey(gateway)).steps}
    assert steps["intent in the log"]
    assert not steps["terminal leaf"]
    asking.join()
    assert got[0].receipt == intent["id"]
    assert gateway.leaf(intent["id"], app="ward")["status"] == "answered"


def test_the_tlog_proof_stands_alone(gateway: Gateway) -> None:
    receipt = gateway.chat(chat("sound"), app="ward").receipt
    file = gateway.receipt(receipt, app="ward")
    answer = gateway.call(f"/v1/receipts/{receipt}?format=tlog-proof", app="ward")
    assert answer.body.startswith(b"c2sp.org/tlog-proof@v1\n")
    verify_proof(
        parse_proof(answer.body.decode()),
        leaf_hash(file["terminal"]["leaf"].encode()),
        parse_vkey(vkey(gateway)),
    )
    assert gateway.call(f"/v1/receipts/{receipt}?format=pdf", app="ward").status == 400


def test_any_changed_byte_of_a_receipt_is_found(gateway: Gateway) -> None:
    receipt = gateway.chat(chat("sound"), app="ward").receipt
    data = gateway.receipt_bytes(receipt, app="ward")
    key = vkey(gateway)
    assert verify(data, key).ok
    for at in range(0, len(data), 5):
        changed = bytearray(data)
        changed[at] ^= 1 << (at % 7)
        assert not verify(bytes(changed), key).ok, f"byte {at} may be changed unnoticed"


def test_receipt_verify_on_the_command_line(gateway: Gateway, tmp_path: Path) -> None:
    world = gateway.world
    receipt = gateway.chat(chat("sound"), app="ward").receipt
    file = tmp_path / "receipt.json"
    file.write_bytes(gateway.receipt_bytes(receipt, app="ward"))
    good = world.here("receipt", "verify", str(file), "--json")
    assert good.returncode == 0, good
    said = json.loads(good.stdout)
    assert said["ok"] is True
    assert [step["n"] for step in said["steps"]] == list(range(1, len(said["steps"]) + 1))
    assert world.here("receipt", "verify", str(file), "--key", vkey(gateway)).returncode == 0
    changed = bytearray(file.read_bytes())
    changed[len(changed) // 3] ^= 1
    file.write_bytes(changed)
    bad = world.here("receipt", "verify", str(file), "--json")
    assert bad.returncode == 3
    assert json.loads(bad.stdout)["ok"] is False
    file.write_bytes(b"")
    assert world.here("receipt", "verify", str(file)).returncode == 3


# --- commitments


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
@pytest.mark.parametrize("model", ["sound", "inner", "half", "foreign"])
def test_commitments_match_what_was_sent_and_what_was_delivered(
    gateway: Gateway, path: str, model: str, stream: bool
) -> None:
    make = {"/v1/chat/completions": chat, "/v1/messages": messages, "/v1/responses": responses}[path]
    sent = json.dumps(make(model, "grüner Tee", stream=stream), ensure_ascii=False).encode()
    taken = gateway.start(path, sent, app="ward")
    delivered = taken.read()
    leaf = gateway.leaf(taken.receipt, app="ward")
    row = gateway.world.request_row(taken.receipt)
    assert row is not None
    assert row.request_salt is not None
    assert row.response_salt is not None
    assert leaf["request"] == commitment(row.request_salt, sent)
    assert leaf["response"] == commitment(row.response_salt, delivered)
    assert row.request_salt != row.response_salt


def test_receipt_verify_opens_the_commitments(gateway: Gateway, tmp_path: Path) -> None:
    sent = json.dumps(chat("sound", stream=True)).encode()
    taken = gateway.start("/v1/chat/completions", sent, app="ward")
    taken.read()
    files = {
        "receipt": gateway.receipt_bytes(taken.receipt, app="ward"),
        "request": sent,
        "answer": taken.body,
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    args = ["receipt", "verify", str(tmp_path / "receipt"), "--json"]
    args += ["--request", str(tmp_path / "request"), "--response", str(tmp_path / "answer")]
    opened = gateway.world.here(*args)
    assert opened.returncode == 0, opened
    assert {"request commitment", "response commitment"} <= {
        s["name"] for s in json.loads(opened.stdout)["steps"]
    }
    (tmp_path / "answer").write_bytes(taken.body + b" ")
    assert gateway.world.here(*args).returncode == 3


# --- the log over HTTP


def test_the_root_recomputed_from_tiles_is_the_signed_one(gateway: Gateway) -> None:
    port = gateway.port
    gateway.receipt(gateway.chat(chat("sound"), app="ward").receipt, app="ward")
    checkpoint = open_checkpoint(call(port, "/log/checkpoint").body, parse_vkey(vkey(gateway)))
    hashes: list[bytes] = []
    entries: list[bytes] = []
    for n in range(-(-checkpoint.size // WIDTH)):
        width = min(WIDTH, checkpoint.size - n * WIDTH)
        part = f".p/{width}" if width < WIDTH else ""
        tile = call(port, f"/log/tile/0/{n:03d}{part}").body
        assert len(tile) == 32 * width
        hashes += [tile[at : at + 32] for at in range(0, len(tile), 32)]
        entries += parse_bundle(call(port, f"/log/tile/entries/{n:03d}{part}").body)
    assert [leaf_hash(entry) for entry in entries] == hashes
    assert range_hash(0, checkpoint.size, lambda level, n: _node(hashes, level, n)) == checkpoint.root
    for wrong in ("0/999", "0/000.p/0", "0/000.p/256", "9/000", "entries/0", "x", "0/../000"):
        assert call(port, f"/log/tile/{wrong}").status == 404, wrong


def _node(hashes: list[bytes], level: int, n: int) -> bytes:
    from allod.receipts.merkle import node_hash

    if level == 0:
        return hashes[n]
    return node_hash(_node(hashes, level - 1, 2 * n), _node(hashes, level - 1, 2 * n + 1))


# --- I8, I9


def test_I8_every_recorded_decision_follows_from_its_record(gateway: Gateway) -> None:
    seen = set()
    tables = gateway.world.tables()
    try:
        for row in gateway.world.all_requests():
            seen.add(row.decision)
        assert len(seen) > 5
        for name in seen:
            record = tables.record(name)
            assert record is not None
            assert digest(record) == name
            assert holds(record)
    finally:
        tables.close()


def test_I8_the_same_request_has_the_same_decision(gateway: Gateway) -> None:
    both = [gateway.chat(chat("inner", "same"), app="ward").receipt for _ in range(2)]
    first, second = (gateway.leaf(one, app="ward") for one in both)
    assert first["decision"] == second["decision"]
    assert first["request"] != second["request"]


def test_I9_no_content_is_anywhere_in_the_home(gateway: Gateway) -> None:
    text = f"say {MARK} again"
    for path, make in (
        ("/v1/chat/completions", chat),
        ("/v1/messages", messages),
        ("/v1/responses", responses),
    ):
        for model in ("echo", "inner-echo", "quoting", "foreign", "half", "auto"):
            for stream in (False, True):
                taken = gateway.start(path, make(model, text, stream=stream), app="ward")
                taken.read()
                if "echo" in model and not stream:
                    assert MARK.encode() in taken.body
                if taken.status != 400:
                    gateway.receipt(taken.receipt, app="ward")
    gateway.call("/v1/embeddings", {"model": "sound", "input": [text]}, app="ward")
    gateway.call("/v1/chat/completions", f'{{"model": "{MARK}", "messages": {text}'.encode(), app="ward")
    gateway.chat(chat("sound", text, metadata={"note": MARK}, user=MARK), app="ward")
    wanted = (
        MARK.encode(),
        f'"content":"{MARK[:4]}'.encode(),
        MARK.encode("utf-16-le"),
        MARK.encode().hex().encode(),
    )
    searched = 0
    for file in [*gateway.world.root.rglob("*"), gateway.stderr_path]:
        if file.is_file():
            data = file.read_bytes()
            searched += len(data)
            assert not any(form in data for form in wanted), f"content in {file}"
    assert searched > 100_000


# --- durability


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Hold back every sync of the journal while the event is clear."""
    free = threading.Event()
    free.set()
    real = Segment.sync

    def sync(segment: Segment) -> None:
        free.wait(20)
        real(segment)

    monkeypatch.setattr(Segment, "sync", sync)
    yield free
    free.set()


def durable_world(root: Path, region: Region, durability: str) -> World:
    fleet = [deployment("sound", "answer", base_url=region.url)]
    return World(root / "home", config(fleet, log={"durability": durability}))


@pytest.mark.parametrize("stream", [False, True])
def test_strict_durability_waits_for_the_disk_before_the_first_and_the_last_byte(
    region: Region, tmp_path: Path, held: threading.Event, stream: bool
) -> None:
    world = durable_world(tmp_path, region, "strict")
    world.key("press")
    with Inside(world) as inside, ThreadPoolExecutor(1) as pool:
        region.clear()
        held.clear()

        def ask() -> bytes:
            return inside.start("/v1/chat/completions", chat("sound", stream=stream)).read()

        asked = pool.submit(ask)
        time.sleep(0.3)
        assert region.seen == []
        held.set()
        region.wait_seen()
        assert asked.result(10)
        region.server.answer = lambda *a: (held.clear(), echo_errors(*a))[1]
        try:
            asked = pool.submit(ask)
            region.wait_seen(2)
            time.sleep(0.3)
            assert not asked.done()
            held.set()
            assert asked.result(10)
        finally:
            region.server.answer = echo_errors


def test_default_durability_does_not_wait_for_the_disk(
    region: Region, tmp_path: Path, held: threading.Event
) -> None:
    world = durable_world(tmp_path, region, "default")
    world.key("press")
    with Inside(world) as inside:
        held.clear()
        answer = inside.chat(chat("sound"))
        assert answer.status == 200
        pending = inside.call(f"/v1/receipts/{answer.receipt}")
        assert pending.json["status"] == "pending"
        held.set()
        until(lambda: inside.call(f"/v1/receipts/{answer.receipt}").json["status"] == "answered")


def test_log_verify_at_rest_and_not_while_in_use(region: Region, tmp_path: Path) -> None:
    world = durable_world(tmp_path, region, "strict")
    with world.up("press") as up:
        for n in range(20):
            assert up.chat(chat("sound", stream=n % 2 == 0)).status == 200
        assert world.here("log", "verify").returncode == 5
        assert up.stop() == 0
    verified = world.here("log", "verify", "--json")
    assert verified.returncode == 0, verified
    said = json.loads(verified.stdout)
    assert said["ok"] is True
    assert any("20 of them terminal" in step["detail"] for step in said["steps"])
