"""kill -9 at random instants under load (I3, I4, I7): nothing that was final is lost, nothing is left open.

What the operator saw is matched with what the log holds: each request carries a number of its own, the
operator's record of it names the number, and the tables name the commitment of the bytes that carried it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from world import Gateway, Region, World, chat, config, deployment, messages, start

from allod.receipts.commitment import commitment
from allod.receipts.verify import verify
from allod.store.database import Request

QUICK = {"retries": 1, "first_token_ms": 500, "timeout_ms": 2000}
CLIENTS = 6


@pytest.fixture
def region() -> Iterator[Region]:
    with Region() as one:
        one.server.seen = type(one.server.seen)(maxlen=100_000)
        yield one


def fleet(region: Region) -> str:
    return config(
        [
            deployment("near", "answer", base_url=region.url),
            deployment("slow", "slow-30", base_url=region.url),
            deployment("fails", "http-500", base_url=region.url, **QUICK),
            deployment("half", "truncate", base_url=region.url, **QUICK),
            deployment("stuck", "stall-mid", base_url=region.url, **QUICK),
            deployment("inner", "slow-5"),
            deployment("foreign", "answer", lawful=False, base_url=region.url),
        ]
    )


class Load:
    """Clients that ask until told to stop; they keep what they sent and every receipt that was final."""

    def __init__(self, gateway: Gateway, seed: int) -> None:
        self._gateway = gateway
        self._key = gateway.world.key("ward")
        self._stop = threading.Event()
        self.sent: list[bytes] = []
        self.final: dict[str, bytes] = {}
        self.promised: set[str] = set()
        self._threads = [threading.Thread(target=self._ask, args=(seed * 100 + n,)) for n in range(CLIENTS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _ask(self, seed: int) -> None:
        draw = random.Random(seed)
        number = seed * 100_000
        while not self._stop.is_set():
            number += 1
            model = draw.choice(["near", "slow", "fails", "half", "stuck", "inner", "foreign"])
            path, make = draw.choice([("/v1/chat/completions", chat), ("/v1/messages", messages)])
            body = json.dumps(make(model, f"n{number} ", stream=draw.random() < 0.5)).encode()
            self.sent.append(body)
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._one(path, body, draw)

    def _one(self, path: str, body: bytes, draw: random.Random) -> None:
        stream = start(self._gateway.port, path, body, key=self._key, timeout=5)
        if draw.random() < 0.1:
            stream.drop()
            return
        stream.read()
        stream.drop()
        self.promised.add(stream.receipt)
        if draw.random() < 0.5:
            got = self._gateway.call(f"/v1/receipts/{stream.receipt}", app="ward", timeout=5)
            if got.status == 200 and got.json["status"] != "pending":
                self.final[stream.receipt] = got.body


def round_of(world: World, load_seed: int, region: Region) -> tuple[Load, list[bytes]]:
    """Start, load, kill at a random instant; returns the load and what the operator was asked."""
    region.clear()
    with world.up("ward") as gateway:
        with Load(gateway, load_seed) as load:
            time.sleep(random.Random(load_seed).uniform(0.05, 1.2))
            gateway.kill()
        return load, [seen.body for seen in region.seen]


def numbers(bodies: list[bytes]) -> Counter[str]:
    return Counter(match[1].decode() for body in bodies if (match := re.search(rb"(n[0-9]+) ", body)))


def check(world: World, load: Load, asked: list[bytes], known: set[str]) -> set[str]:
    """Check a home after a crash and a restart; returns the receipts it holds now."""
    verified = world.allod("log", "verify", "--json")
    assert verified.returncode == 0, verified
    with world.up("ward") as gateway:
        vkey = world.paths.log_vkey.read_text().strip()
        rows = [row for row in world.all_requests() if row.receipt not in known]
        by_receipt = {row.receipt: row for row in rows}
        for receipt, file in load.final.items():
            assert verify(file, vkey).ok
            now = gateway.receipt(receipt, app="ward")
            for part in ("intent", "terminal"):
                assert now[part]["leaf"] == json.loads(file)[part]["leaf"], "a final receipt has changed"
        missing = load.promised - set(by_receipt)
        assert not missing, f"{len(missing)} receipts whose answer was delivered whole are not in the log"
        assert {row.status for row in rows} <= {"answered", "refused", "aborted", "failed"}
        _check_lost(gateway, rows)
        _check_asked(world, rows, load, asked)
        assert gateway.stop() == 0
    verified = world.allod("log", "verify", "--json")
    assert verified.returncode == 0, verified
    return known | set(by_receipt)


def _check_lost(gateway: Gateway, rows: list[Request]) -> None:
    """Every row has both leaves; what the crash took says so and is charged its reservation."""
    for row in rows:
        assert row.terminal_index is not None
        leaf = json.loads(gateway.receipt(row.receipt, app="ward")["terminal"]["leaf"])
        charged = gateway.world.rows(row.receipt)
        assert [one.attempt for one in charged] == list(range(1, len(charged) + 1))
        assert leaf["attempts"] == len(charged)
        if leaf.get("reason") == "gateway-lost":
            assert leaf["status"] == "failed"
            assert all(one.basis in ("reserved", "counted") for one in charged)


def _check_asked(world: World, rows: list[Request], load: Load, asked: list[bytes]) -> None:
    """No request at the operator without an intent, and one ledger row for each."""
    number_of: dict[str, str] = {}
    by_commitment = {}
    for row in rows:
        assert row.request_salt is not None
        by_commitment[row.receipt] = row.request_salt
    leaves = {row.receipt: _request_of(world, row) for row in rows}
    for body in load.sent:
        for receipt, salt in by_commitment.items():
            if receipt not in number_of and leaves[receipt] == commitment(salt, body):
                number_of[receipt] = next(iter(numbers([body])))
    charged: Counter[str] = Counter()
    inner = 0
    for receipt, number in number_of.items():
        ledger = [row for row in world.rows(receipt) if row.deployment != "inner"]
        inner += len(world.rows(receipt)) - len(ledger)
        charged[number] += len(ledger)
    assert len(number_of) == len(rows), "a receipt of a request nobody sent"
    seen = numbers(asked)
    beyond = {number: count for number, count in seen.items() if count > charged[number]}
    assert not beyond, f"asked more often than charged: {beyond}"


def _request_of(world: World, row: Request) -> str:
    return json.loads(_leaf(world, row.intent_index))["request"]  # type: ignore[no-any-return]


def _leaf(world: World, index: int) -> bytes:
    offsets, entries = world.paths.log / "offsets", world.paths.log / "entries"
    raw = offsets.read_bytes()
    ends = [int.from_bytes(raw[at : at + 8], "big") for at in range(0, len(raw), 8)]
    begin = ends[index - 1] if index else 0
    return _entry(entries.read_bytes()[begin : ends[index]])


def _entry(data: bytes) -> bytes:
    at = data.index(b"{")
    return data[at:]


def crash_rounds(root: Path, region: Region, rounds: int, first: int) -> int:
    world = World(root / "home", fleet(region))
    known: set[str] = set()
    for n in range(rounds):
        load, asked = round_of(world, first + n, region)
        known = check(world, load, asked, known)
    return len(known)


def test_I7_after_kill_9_the_log_verifies_and_nothing_final_is_missing(
    region: Region, tmp_path: Path
) -> None:
    """I3, I4 and I7 over a few crashes of one home."""
    assert crash_rounds(tmp_path, region, 6, first=1) > 50


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_I7_many_crashes(region: Region, tmp_path: Path) -> None:
    """`make soak-crash`: the same, a hundred times."""
    assert crash_rounds(tmp_path, region, 100, first=1000) > 1000


def test_a_kill_with_nothing_under_way_loses_nothing(region: Region, tmp_path: Path) -> None:
    world = World(tmp_path / "home", fleet(region))
    with world.up("ward") as gateway:
        receipts = [gateway.chat(chat("near"), app="ward").receipt for _ in range(5)]
        gateway.kill()
    assert world.allod("log", "verify").returncode == 0
    with world.up("ward") as gateway:
        for receipt in receipts:
            assert gateway.leaf(receipt, app="ward")["status"] == "answered"


def test_I3_an_orphaned_intent_gets_its_failed_leaf_at_the_next_start(region: Region, tmp_path: Path) -> None:
    world = World(tmp_path / "home", fleet(region))
    with world.up("ward") as gateway:
        stream = gateway.start("/v1/chat/completions", chat("stuck", stream=True), app="ward")
        next(stream.events())
        gateway.kill()
        receipt = stream.receipt
    with world.up("ward") as gateway:
        file: dict[str, Any] = gateway.receipt(receipt, app="ward")
        leaf = json.loads(file["terminal"]["leaf"])
        assert (leaf["status"], leaf["reason"]) == ("failed", "gateway-lost")
        (row,) = world.rows(receipt)
        assert (row.basis, row.status) == ("reserved", "failed")
        assert row.cost_usd > 0
        assert verify(gateway.receipt_bytes(receipt, app="ward"), world.paths.log_vkey.read_text().strip()).ok
