"""Measure the store: ``python -m allod.store.bench [--requests N] [--rate R] [--home DIR]``.

Appends what one answered request costs (intent with its decision record, attempt, terminal with one ledger
row) from an event loop at full speed or at a rate, and prints requests and log entries per second by the
clock and CPU microseconds per request, the writer's thread included. At the end it verifies one receipt.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from allod.domain.decision import Conditions
from allod.domain.usage import LedgerRow, Usage
from allod.receipts.commitment import commitment, digest
from allod.receipts.ids import id_prefix, ulid
from allod.receipts.leaves import IntentFacts, TerminalFacts
from allod.receipts.verify import verify
from allod.store.home import make_home
from allod.store.store import Store

BODY = b'{"model":"auto","messages":[{"role":"user","content":"' + b"x" * 900 + b'"}]}'
RECORD = b'{"candidates":["ward-llm"],"v":1}'


class Load:
    """One kind of request, over and over."""

    def __init__(self, store: Store) -> None:
        self._store, self._prefix = store, id_prefix(store.keys.origin)
        self._digest, self._decision = digest(b"pack"), digest(RECORD)
        self._conditions = Conditions(process=True, rest=True, transit=True, audit=True, operator=True)

    def begin(self) -> tuple[str, bytes]:
        """Record intent and attempt; returns the id and the response's salt."""
        at_ms, salts = time.time_ns() // 1_000_000, os.urandom(64)
        receipt, salt = self._prefix + ulid(at_ms, os.urandom(10)), salts[32:]
        facts = IntentFacts(
            id=receipt,
            at_ms=at_ms,
            tenant="p_" + "0" * 32,
            app="p_" + "1" * 32,
            surface="chat",
            request=commitment(salts[:32], BODY),
            classes=("personal", "phi", "special"),
            pack=self._digest,
            fleet=self._digest,
            decision=self._decision,
            purpose="treatment",
            task="extract",
            plan=("ward-llm",),
        )
        self._store.append_intent(facts, app="triage", salts=(salts[:32], salt), record=RECORD)
        self._store.append_attempt(
            receipt,
            1,
            "ward-llm",
            started_at_ms=at_ms,
            reserve_usd=Decimal("0.0125"),
            input_tokens=230,
            price_digest=self._digest,
        )
        return receipt, salt

    def end(self, receipt: str, salt: bytes) -> None:
        """Record the end with one ledger row."""
        at_ms = time.time_ns() // 1_000_000
        usage, cost = Usage(input_tokens=230, output_tokens=240), Decimal("0.00835")
        row = LedgerRow(
            receipt=receipt,
            attempt=1,
            app="triage",
            task="extract",
            deployment="ward-llm",
            started_at_ms=at_ms,
            status="answered",
            basis="reported",
            usage=usage,
            cost_usd=cost,
            price_digest=self._digest,
            first_token_ms=12,
            total_ms=80,
        )
        facts = TerminalFacts(
            id=receipt,
            at_ms=at_ms,
            status="answered",
            response=commitment(salt, BODY),
            deployment="ward-llm",
            model="reference",
            engine="llamacpp",
            engine_version="1",
            evidence="self-run",
            sandbox="seccomp",
            weights=self._digest,
            template=self._digest,
            conditions=self._conditions,
            usage=usage,
            cost_usd=cost,
            price_digest=self._digest,
            basis="reported",
            attempts=1,
        )
        self._store.append_terminal(facts, (row,))


async def drive(store: Store, requests: int, rate: int, flight: int) -> list[str]:
    """Keep ``flight`` requests open; returns all ids."""
    load, ids, opened = Load(store), list[str](), list[tuple[str, bytes]]()
    started = time.perf_counter()
    for n in range(requests):
        opened.append(load.begin())
        if len(opened) >= flight:
            receipt, salt = opened.pop(0)
            load.end(receipt, salt)
            ids.append(receipt)
        if n % 16 == 0:
            ahead = started + n / rate - time.perf_counter() if rate else 0
            await asyncio.sleep(max(0.0, ahead))
    for receipt, salt in opened:
        load.end(receipt, salt)
        ids.append(receipt)
    await store.committed(ids[-1], 30)
    return ids


def measure(root: Path, requests: int, rate: int, flight: int) -> dict[str, Any]:
    """Run one load in a home under ``root`` and return the figures."""
    store = Store.open(make_home(root))
    try:
        asyncio.run(drive(store, min(requests, 2000), 0, flight))
        wall, cpu, loop_cpu = time.perf_counter(), time.process_time(), time.thread_time()
        ids = asyncio.run(drive(store, requests, rate, flight))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        loop_cpu = time.thread_time() - loop_cpu
        file = store.receipt_file(ids[len(ids) // 2])
        assert isinstance(file, bytes)
        return {
            "requests": requests,
            "requests_per_s": round(requests / wall),
            "entries_per_s": round(2 * requests / wall),
            "cpu_us_per_request": round(cpu / requests * 1e6, 1),
            "of_which_caller_us": round(loop_cpu / requests * 1e6, 1),
            "of_which_writer_us": round((cpu - loop_cpu) / requests * 1e6, 1),
            "receipt_verifies": verify(file, store.keys.signer.key.vkey()).ok,
        }
    finally:
        store.close()


def main() -> int:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m allod.store.bench", description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rate", type=int, default=0, help="requests per second; 0 is full speed")
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--home", type=Path, help="a folder for the home; default a temporary one")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="allod-bench-", dir=chosen.home) as root:
        figures = measure(Path(root) / "home", chosen.requests, chosen.rate, chosen.in_flight)
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(figures)).decode() + "\n")
    return 0 if figures["receipt_verifies"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
