"""What a crash left behind: requests with an intent and no end, and attempts with no row.

Each gets a ``failed`` terminal leaf with the reason ``gateway-lost`` (I3), and each attempt known to have
been started is charged its reservation (I4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

import msgspec

from allod.domain.errors import Integrity
from allod.domain.money import ZERO, plain
from allod.domain.usage import Basis, LedgerRow, Usage
from allod.receipts.file import read_leaf
from allod.receipts.leaves import IntentFacts, TerminalFacts
from allod.store.derive import Pending
from allod.store.frames import AttemptFrame

GATEWAY_LOST: Final = "gateway-lost"
MAX_ROW_DETAIL: Final = 240
_WEAKER: Final[dict[Basis, int]] = {"reported": 0, "counted": 1, "reserved": 2}


def lost_row(attempt: AttemptFrame, app: str, detail: str) -> LedgerRow:
    """Write the ledger row of an attempt nobody heard of again: it costs what was reserved."""
    return LedgerRow(
        receipt=attempt.receipt,
        attempt=attempt.attempt,
        app=app,
        task=attempt.task,
        deployment=attempt.deployment,
        started_at_ms=attempt.started_at_ms,
        status="failed",
        basis="reserved",
        usage=Usage(input_tokens=attempt.input_tokens),
        cost_usd=attempt.reserve_usd,
        price_digest=attempt.price_digest,
        detail=detail,
    )


def sums(rows: tuple[LedgerRow, ...]) -> tuple[Decimal | None, Basis | None]:
    """Return the cost of all rows in USD and the weakest basis among them; None without rows."""
    if not rows:
        return None, None
    if len(rows) == 1:
        return rows[0].cost_usd, rows[0].basis
    bases: list[Basis] = [row.basis for row in rows]
    return sum((row.cost_usd for row in rows), ZERO), max(bases, key=_WEAKER.__getitem__)


def with_rows(facts: TerminalFacts, rows: tuple[LedgerRow, ...]) -> TerminalFacts:
    """Return the facts with cost, basis, number and deployments of the attempts as the rows have them."""
    cost, basis = sums(rows)
    if len(rows) == 1 and rows[0].deployment == facts.deployment:
        if (facts.cost_usd, facts.basis, facts.attempts) == (cost, basis, 1) and not facts.tried:
            return facts
        return msgspec.structs.replace(facts, cost_usd=cost, basis=basis, attempts=1, tried=())
    tried = tuple((row.deployment, row.status, row.basis, plain(row.cost_usd)) for row in rows)
    return msgspec.structs.replace(facts, cost_usd=cost, basis=basis, attempts=len(rows), tried=tried)


def facts_of(leaf: bytes, at_ms: int) -> IntentFacts:
    """Read back the facts of an intent leaf (raises Integrity)."""
    said = read_leaf(leaf, "intent")
    return IntentFacts(
        id=said["id"],
        at_ms=at_ms,
        tenant=said["tenant"],
        app=said["app"],
        surface=said["surface"],
        request=said["request"],
        classes=tuple(said["classes"]),
        pack=said["pack"],
        fleet=said["fleet"],
        decision=said["decision"],
        purpose=said.get("purpose"),
        task=said.get("task"),
        plan=tuple(said.get("plan", ())),
        parents=tuple(said.get("parents", ())),
        durability=said["durability"],
        step=said.get("step"),
    )


def lost_facts(pending: Pending, at_ms: int) -> tuple[TerminalFacts, tuple[LedgerRow, ...]]:
    """Return how a lost request is recorded as ended at this time, and its attempts' rows."""
    attempts = [pending.attempts[n] for n in sorted(pending.attempts)]
    rows = tuple(lost_row(attempt, pending.app, GATEWAY_LOST) for attempt in attempts)
    facts = TerminalFacts(
        id=pending.receipt,
        at_ms=at_ms,
        status="failed",
        reason=GATEWAY_LOST,
        detail="the gateway stopped before this request ended",
        deployment=attempts[-1].deployment if attempts else None,
        usage=Usage(input_tokens=sum(a.input_tokens for a in attempts)) if attempts else None,
        price_digest=attempts[-1].price_digest if attempts else None,
    )
    return facts, rows


def settle(
    receipt: str, app: str, attempts: Mapping[int, AttemptFrame], rows: Sequence[LedgerRow]
) -> tuple[LedgerRow, ...]:
    """Return exactly one row for each attempt: those given, and the reservation of those that lack one."""
    if len(rows) == 1 and len(attempts) == 1:
        row = rows[0]
        if row.receipt == receipt and row.attempt in attempts and len(row.detail) <= MAX_ROW_DETAIL:
            return (row,)
    out: dict[int, LedgerRow] = {}
    for row in rows:
        if row.receipt != receipt or row.attempt in out:
            raise Integrity(
                f"the ledger rows of {receipt} are not its own",
                f"got attempt {row.attempt} of {row.receipt}, expected each attempt of {receipt} once",
            )
        detail = row.detail[:MAX_ROW_DETAIL]
        out[row.attempt] = row if detail == row.detail else msgspec.structs.replace(row, detail=detail)
    for number, attempt in attempts.items():
        if number not in out:
            out[number] = lost_row(attempt, app, "not settled by the gateway")
    return tuple(out[number] for number in sorted(out))
