"""A home, requests to put into it, and what must hold of it whatever happened."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from allod.domain.errors import Unavailable
from allod.domain.usage import LedgerRow, Usage
from allod.receipts.canonical import canonical
from allod.receipts.commitment import commitment, digest
from allod.receipts.ids import id_prefix, ulid
from allod.receipts.leaves import IntentFacts, TerminalFacts
from allod.receipts.verify import verify
from allod.store.audit import verify_home
from allod.store.home import Home, make_home
from allod.store.store import Store
from allod.store.writer import Settings

QUICK = Settings(gather_s=0.001, segment_bytes=256 << 10)
AT = 1_764_099_301_000
D = digest(b"x")
BODY, ANSWER = b'{"q":1}', b'{"a":2}'


def record_of(n: int) -> bytes:
    return canonical({"n": n})


class Requests:
    """Begins, attempts and ends requests against a store."""

    def __init__(self, store: Store) -> None:
        self.store, self.prefix, self.n = store, id_prefix(store.keys.origin), 0
        self.salts: dict[str, tuple[bytes, bytes]] = {}

    def begin(
        self, app: str = "triage", *, record: bytes | None = None, subject: str | None = None, **facts: object
    ) -> str:
        self.n += 1
        salts = (os.urandom(32), os.urandom(32))
        body = record if record is not None else record_of(1)
        values: dict[str, object] = {
            "id": self.prefix + ulid(AT + self.n, os.urandom(10)),
            "at_ms": AT + self.n,
            "tenant": "p_t",
            "app": "p_a",
            "surface": "chat",
            "request": commitment(salts[0], BODY),
            "classes": ("personal",),
            "pack": D,
            "fleet": D,
            "decision": digest(body),
            "plan": ("ward-llm",),
        }
        intent = IntentFacts(**{**values, **facts})  # type: ignore[arg-type]
        self.salts[intent.id] = salts
        self.store.append_intent(intent, app=app, salts=salts, record=body, subject=subject)
        return intent.id

    def attempt(self, receipt: str, n: int = 1, reserve: str = "0.5", deployment: str = "ward-llm") -> None:
        self.store.append_attempt(
            receipt,
            n,
            deployment,
            started_at_ms=AT + n,
            reserve_usd=Decimal(reserve),
            input_tokens=7,
            price_digest=D,
        )

    def row(self, receipt: str, n: int = 1, cost: str = "0.25", **more: object) -> LedgerRow:
        values: dict[str, object] = {
            "receipt": receipt,
            "attempt": n,
            "app": "triage",
            "task": None,
            "deployment": "ward-llm",
            "started_at_ms": AT + n,
            "status": "answered",
            "basis": "reported",
            "usage": Usage(input_tokens=5, output_tokens=6),
            "cost_usd": Decimal(cost),
            "price_digest": D,
        }
        return LedgerRow(**{**values, **more})  # type: ignore[arg-type]

    def end(self, receipt: str, rows: tuple[LedgerRow, ...] = (), **facts: object) -> int:
        salt = self.salts.get(receipt, (b"", bytes(32)))[1]
        values: dict[str, object] = {
            "id": receipt,
            "at_ms": AT + 900,
            "status": "answered",
            "response": commitment(salt, ANSWER),
            "deployment": "ward-llm",
            "evidence": "operator-claims",
        }
        return self.store.append_terminal(TerminalFacts(**{**values, **facts}), rows)  # type: ignore[arg-type]

    def whole(self, *, subject: str | None = None) -> str:
        receipt = self.begin(subject=subject)
        self.attempt(receipt)
        self.end(receipt, (self.row(receipt),))
        return receipt


def fresh(root: Path, settings: Settings = QUICK) -> tuple[Home, Store]:
    home = make_home(root)
    return home, Store.open(home, settings=settings, clock=lambda: AT + 5000)


def reopen(home: Home, settings: Settings = QUICK, **more: object) -> Store:
    return Store.open(home, settings=settings, clock=lambda: AT + 5000, **more)  # type: ignore[arg-type]


def final(store: Store, receipt: str) -> dict[str, object]:
    """The terminal leaf of a receipt whose file verifies."""
    file = store.receipt_file(receipt)
    assert isinstance(file, bytes), (receipt, file)
    verification = verify(file, store.keys.signer.key.vkey())
    assert verification.ok, [s for s in verification.steps if not s.ok]
    said: dict[str, object] = msgspec.json.decode(msgspec.json.decode(file)["terminal"]["leaf"])
    return said


def sound(home: Home) -> None:
    """A home at rest passes ``log verify``."""
    verification = verify_home(home)
    assert verification.ok, [s for s in verification.steps if not s.ok]


def patient(step: Callable[..., Any], *args: Any) -> Any:
    """Ask again while the small segments of these tests are all in use: then the store says 503."""
    while True:
        try:
            return step(*args)
        except Unavailable as refused:
            if refused.kind != "storage":
                raise
            time.sleep(0.001)


def in_child(work: Callable[[int], None], *, kill_after_s: float | None = None) -> tuple[list[str], int]:
    """Run work in a forked process that is killed, or dies as it likes; returns the lines it wrote."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            work(write)
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
            os._exit(77)
        os._exit(0)
    os.close(write)
    if kill_after_s is not None:
        signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, kill_after_s)
    data = b""
    while piece := os.read(read, 1 << 16):
        data += piece
    signal.setitimer(signal.ITIMER_REAL, 0)
    os.close(read)
    _, status = os.waitpid(pid, 0)
    lines = data.decode().split("\n")
    return lines[:-1], status
