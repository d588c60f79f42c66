"""The log by the clock: leaves a second, bytes of a proof, a receipt verified, a million leaves verified.

    python benchmarks/log.py [--leaves 1000000] [--requests 200000] [--home FOLDER]

All in one process on one core (it binds itself to one where the system lets it). Leaves of 1 KB are encoded
beforehand and appended as fast as the store takes them; a figure counts when the last leaf is on the disk,
in the tree and under a signed checkpoint. The log that is verified holds requests: intent and end each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import cbor2
import msgspec

from allod.domain.errors import Unavailable
from allod.domain.usage import LedgerRow, Usage
from allod.receipts.canonical import canonical
from allod.receipts.checkpoint import sign
from allod.receipts.commitment import digest
from allod.receipts.cose import statement_of, verify_statement
from allod.receipts.ids import id_prefix, ulid
from allod.receipts.leaves import IntentFacts, TerminalFacts
from allod.receipts.merkle import consistency, inclusion, leaf_hash, verify_inclusion
from allod.receipts.proof import Proof, write_proof
from allod.receipts.verify import verify
from allod.store.audit import verify_home
from allod.store.home import Home, make_home
from allod.store.store import Store

KB = 1024
TARGETS = {
    "leaves_per_s": (20_000, "at least"),
    "proof_bytes": (1024, "under"),
    "receipt_ms": (2.0, "under"),
    "million_s": (60.0, "under"),
}
AT = 1_764_099_301_000


def leaves_of_1_kb(count: int) -> list[bytes]:
    """Return leaves of exactly 1,024 bytes, each another one."""
    stem = {"detail": "", "facts": {}, "id": "", "kind": "notice", "subject": "bench", "tenant": "p", "v": 1}
    made = []
    for n in range(count):
        leaf = canonical({**stem, "id": f"{n:026d}", "time": "2026-11-25T19:15:01.000Z"})
        made.append(leaf.replace(b'"detail":""', b'"detail":"%s"' % (b"x" * (KB - len(leaf)))))
    assert {len(leaf) for leaf in made} == {KB}
    return made


def patiently(step: Callable[[], Any]) -> Any:
    """Ask again while every segment of the journal is in use: the store says 503 then."""
    while True:
        try:
            return step()
        except Unavailable as refused:
            if refused.kind != "storage":
                raise
            time.sleep(0.002)


def append_rate(home: Home, count: int) -> float:
    """Return leaves per second, group commit and fsync included."""
    leaves = leaves_of_1_kb(count)
    store = Store.open(home)
    try:
        for leaf in leaves[: count // 20]:
            patiently(lambda leaf=leaf: store.append_notice(leaf))
        store.flush(120)
        started = time.perf_counter()
        for leaf in leaves[count // 20 :]:
            patiently(lambda leaf=leaf: store.append_notice(leaf))
        assert store.flush(120)
        return (count - count // 20) / (time.perf_counter() - started)
    finally:
        store.close()


def requests(home: Home, count: int) -> str:
    """Fill a home with requests, two leaves each; returns one receipt's id."""
    store = Store.open(home)
    prefix, same = id_prefix(store.keys.origin), digest(b"same")
    record = canonical({"v": 1})
    usage = Usage(input_tokens=230, output_tokens=240)
    facts = IntentFacts(
        id="", at_ms=AT, tenant="p_" + "0" * 32, app="p_" + "1" * 32, surface="chat", request=same,
        classes=("personal", "phi", "special"), pack=same, fleet=same, decision=digest(record),
        purpose="treatment", task="extract", plan=("ward-llm",),
    )  # fmt: skip
    row = LedgerRow(
        receipt="", attempt=1, app="triage", task="extract", deployment="ward-llm", started_at_ms=AT,
        status="answered", basis="reported", usage=usage, cost_usd=Decimal("0.00835"), price_digest=same,
        first_token_ms=12, total_ms=80,
    )  # fmt: skip
    end = TerminalFacts(
        id="", at_ms=AT, status="answered", response=same, deployment="ward-llm", model="reference",
        engine="llamacpp", engine_version="1", evidence="self-run", sandbox="seccomp", weights=same,
        template=same, usage=usage, cost_usd=row.cost_usd, price_digest=same, basis="reported", attempts=1,
    )  # fmt: skip
    replace, salts, reserve = msgspec.structs.replace, (bytes(32), bytes(32)), Decimal("0.0125")

    def one(name: str) -> None:
        begun, ended = replace(facts, id=name), replace(end, id=name)
        patiently(lambda: store.append_intent(begun, app="triage", salts=salts, record=record))
        tried = {"started_at_ms": AT, "reserve_usd": reserve, "input_tokens": 230, "price_digest": same}
        patiently(lambda: store.append_attempt(name, 1, "ward-llm", **tried))
        patiently(lambda: store.append_terminal(ended, (replace(row, receipt=name),)))

    try:
        names = [prefix + ulid(AT + n // 100, n.to_bytes(10, "big")) for n in range(count)]
        for name in names:
            one(name)
        assert store.flush(600)
        return names[count // 2]
    finally:
        store.close()


def timed(step: Callable[[], Any], times: int = 200) -> float:
    """Return the median milliseconds of a step."""
    took = []
    for _ in range(times):
        started = time.perf_counter()
        step()
        took.append((time.perf_counter() - started) * 1e3)
    return statistics.median(took)


def of_receipt(home: Home, name: str) -> dict[str, Any]:
    """Measure one receipt of a large log."""
    store = Store.open(home)
    try:
        vkey, signer = store.keys.signer.key.vkey(), store.keys.signer
        file = store.receipt_file(name)
        assert isinstance(file, bytes)
        assert verify(file, vkey).ok
        statement = statement_of(signer, file)
        size, node = store.reader.size(), store._files.node  # noqa: SLF001 (the tree itself is measured)
        index = size // 3
        path, root = inclusion(index, size, node), store.reader.root(size)
        hashed = leaf_hash(store.reader.leaf(index))
        proof = write_proof(Proof(index=index, hashes=path, checkpoint=sign(signer, size, root)))
        return {
            "leaves": size,
            "proof_hashes": len(path),
            "proof_hash_bytes": 32 * len(path),
            "proof_bytes": len(cbor2.loads(statement).value[1][394][0]),
            "tlog_proof_bytes": len(proof.encode()),
            "statement_bytes": len(statement),
            "receipt_ms": timed(lambda: verify(file, vkey)),
            "statement_ms": timed(lambda: verify_statement(statement, signer.key)),
            "make_file_ms": timed(lambda: store.receipt_file(name)),
            "prove_us": 1e3 * timed(lambda: inclusion(index, size, node)),
            "verify_path_us": 1e3 * timed(lambda: verify_inclusion(hashed, index, size, path, root)),
            "consistency_us": 1e3 * timed(lambda: consistency(size // 2 + 1, size, node)),
        }
    finally:
        store.close()


def bar(width: int = 30) -> Callable[[int, int], None]:
    """Return what draws how far the verification is."""
    seen = [-1]

    def told(done: int, of: int) -> None:
        part = width * done // max(of, 1)
        if part != seen[0] and sys.stderr.isatty():
            seen[0] = part
            sys.stderr.write(f"\rverifying {'#' * part:{width}} {done:,} of {of:,}")
            sys.stderr.flush()

    return told


def rows(found: dict[str, Any]) -> Iterator[str]:
    """Return the table."""
    names = {
        "leaves_per_s": "leaves of 1 KB per second, group commit and fsync",
        "proof_bytes": f"bytes of an RFC 9942 receipt at {found['leaves']:,} leaves",
        "receipt_ms": "ms to verify a receipt file, both leaves",
        "million_s": f"s to verify a home of {found['leaves']:,} leaves",
    }
    yield f"{'':52} {'measured':>12}  target"
    for key, text in names.items():
        target, word = TARGETS[key]
        met = found[key] >= target if word == "at least" else found[key] < target
        yield f"{text:52} {found[key]:12,.2f}  {word} {target:,}{'' if met else '   MISSED'}"
    for key, value in found.items():
        if key not in names:
            yield f"{key:52} {value:12,.2f}"


def main() -> int:
    """Measure everything and print the table; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leaves", type=int, default=1_000_000, help="of the log that is verified")
    parser.add_argument("--appends", type=int, default=100_000)
    parser.add_argument("--home", type=Path, help="a folder on the disk to be measured")
    chosen = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(prefix="allod-log-", dir=chosen.home) as root:
        found: dict[str, Any] = {"leaves_per_s": append_rate(make_home(Path(root) / "a"), chosen.appends)}
        home = make_home(Path(root) / "b")
        started = time.perf_counter()
        name = requests(home, chosen.leaves // 2)
        found["fill_s"] = time.perf_counter() - started
        found |= of_receipt(home, name)
        started, cpu = time.perf_counter(), time.process_time()
        verification = verify_home(home, bar())
        found["million_s"], found["verify_cpu_s"] = time.perf_counter() - started, time.process_time() - cpu
        assert verification.ok, [step for step in verification.steps if not step.ok]
    print("\n".join(rows(found)))
    print(json.dumps({key: round(value, 2) for key, value in found.items()}))
    return int(any("MISSED" in row for row in rows(found)))


if __name__ == "__main__":
    raise SystemExit(main())
