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
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from world import Gateway, Region, World, chat, config, deployment, messages, start

from allod.domain.usage import LedgerRow
from allod.receipts.commitment import commitment
from allod.receipts.tiles import parse_bundle
from allod.receipts.verify import verify
from allod.store.audit import verify_home
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

    def __enter__(self) -> Self:
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


def numbers(bodies: list[bytes]) -> Counter[str]:
    return Counter(match[1].decode() for body in bodies if (match := re.search(rb"(n[0-9]+) ", body)))


class Round:
    """One run of the gateway: what was asked of it, what its operator saw, and when."""

    def __init__(self, load: Load, asked: list[bytes], begin_ms: int) -> None:
        self.load, self.asked, self.begin_ms = load, asked, begin_ms
        self.end_ms = time.time_ns() // 1_000_000

    def has(self, row: Request) -> bool:
        return self.begin_ms <= row.at_ms <= self.end_ms


def run_and_kill(world: World, region: Region, seed: int, before: Round | None) -> Round:
    """Start on what the last crash left, check what it had promised, load, and kill at a random instant."""
    crashed = verify_home(world.paths)
    assert crashed.ok, crashed
    region.clear()
    with world.up("ward") as gateway:
        if before is not None:
            check_promises(gateway, before.load)
        begin_ms = time.time_ns() // 1_000_000
        with Load(gateway, seed) as load:
            time.sleep(random.Random(seed).uniform(0.05, 1.2))
            gateway.kill()
        return Round(load, [seen.body for seen in region.seen], begin_ms)


def check_promises(gateway: Gateway, load: Load) -> None:
    """Check that every receipt that was handed out as final is still there, leaf for leaf."""
    vkey = gateway.world.paths.log_vkey.read_text().strip()
    for receipt, file in load.final.items():
        assert verify(file, vkey).ok
        now = gateway.receipt(receipt, app="ward")
        for part in ("intent", "terminal"):
            assert now[part]["leaf"] == json.loads(file)[part]["leaf"], "a final receipt has changed"


class Held:
    """What a home at rest holds: its leaves, its requests, the ledger by receipt."""

    def __init__(self, world: World) -> None:
        entries = parse_bundle((world.paths.log / "entries").read_bytes())
        self.leaves = [json.loads(entry) for entry in entries]
        self.requests = world.all_requests()
        self.ledger: dict[str, list[LedgerRow]] = defaultdict(list)
        for row in world.rows():
            self.ledger[row.receipt].append(row)


def check_ends(held: Held) -> int:
    """Each request has both leaves and a row per attempt; what the crash took says so. Returns how many."""
    lost = 0
    for row in held.requests:
        assert row.terminal_index is not None
        intent, end = held.leaves[row.intent_index], held.leaves[row.terminal_index]
        assert (intent["kind"], end["kind"]) == ("intent", "terminal")
        assert intent["id"] == end["id"] == row.receipt
        assert end["status"] == row.status
        charged = held.ledger[row.receipt]
        assert [one.attempt for one in charged] == list(range(1, len(charged) + 1))
        assert end.get("attempts", 0) == len(charged)
        if end.get("reason") == "gateway-lost":
            lost += 1
            assert end["status"] == "failed"
            assert all(one.basis == "reserved" and one.cost_usd > 0 for one in charged)
    assert set(held.ledger) <= {row.receipt for row in held.requests}
    ids = Counter((leaf["id"], leaf["kind"]) for leaf in held.leaves)
    assert set(ids.values()) == {1}
    assert sum(leaf["kind"] == "intent" for leaf in held.leaves) == len(held.requests)
    return lost


def check_asked(held: Held, one: Round) -> None:
    """No request at the operator without an intent, and one ledger row for each."""
    rows = [row for row in held.requests if one.has(row)]
    missing = one.load.promised - {row.receipt for row in rows}
    assert not missing, f"{len(missing)} receipts whose answer was delivered whole are not in the log"
    number_of: dict[str, str] = {}
    for row in rows:
        assert row.request_salt is not None
        wanted = held.leaves[row.intent_index]["request"]
        for body in one.load.sent:
            if commitment(row.request_salt, body) == wanted:
                number_of[row.receipt] = next(iter(numbers([body])))
                break
    assert len(number_of) == len(rows), "a receipt of a request nobody sent"
    charged: Counter[str] = Counter()
    for receipt, number in number_of.items():
        charged[number] += sum(row.deployment != "inner" for row in held.ledger[receipt])
    beyond = {number: n for number, n in numbers(one.asked).items() if n > charged[number]}
    assert not beyond, f"asked more often than charged: {beyond}"


def crash_rounds(root: Path, region: Region, rounds: int, first: int) -> int:
    """Crash so many times; returns how many requests the home holds after all of it."""
    world = World(root / "home", fleet(region))
    with world.up("ward") as gateway:
        assert gateway.stop() == 0
    done: list[Round] = []
    for n in range(rounds):
        done.append(run_and_kill(world, region, first + n, done[-1] if done else None))
    with world.up("ward") as gateway:
        check_promises(gateway, done[-1].load)
        assert gateway.stop() == 0
    verified = world.allod("log", "verify", "--json")
    assert verified.returncode == 0, verified
    held = Held(world)
    lost = check_ends(held)
    for one in done:
        check_asked(held, one)
    print(f"{rounds} crashes: {len(held.requests)} requests, {lost} of them lost and charged")  # noqa: T201
    assert lost > rounds
    return len(held.requests)


def test_I7_after_kill_9_the_log_verifies_and_nothing_final_is_missing(
    region: Region, tmp_path: Path
) -> None:
    """I3, I4 and I7 over a few crashes of one home."""
    assert crash_rounds(tmp_path, region, 8, first=1) > 100


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
