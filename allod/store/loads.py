"""How much was asked, by the hour, and what each deployment took: two questions the tables answer at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from allod.store.tables import LEDGER, REQUEST

if TYPE_CHECKING:
    from allod.store.database import Database

HOUR_MS = 3_600_000


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Attempts at one deployment: how many, USD as a sum of floats, tokens, and mean ms where measured."""

    attempts: int
    cost_usd: float
    input_tokens: int
    output_tokens: int
    total_ms: float | None


def hourly(database: Database, origin: str, *, since_ms: int, until_ms: int) -> dict[int, int]:
    """Return receipts by hour (hours since 1970, UTC); hours without any are left out.

    A step of a cascade has a receipt of its own (decision 0007), and the tables do not tell it from a
    request: a request in steps counts once and once more for each step, as it does among decisions.
    """
    hour = REQUEST.c.at_ms // HOUR_MS
    query = (
        sa.select(hour, sa.func.count())
        .where(REQUEST.c.origin == origin, REQUEST.c.at_ms >= since_ms, REQUEST.c.at_ms < until_ms)
        .group_by(hour)
    )
    with database.faults("read"), database.engine.connect() as connection:
        return {int(when): int(count) for when, count in connection.execute(query)}


def loads(database: Database, prefix: str, *, since_ms: int, until_ms: int) -> dict[str, Load]:
    """Return what the ledger says of each deployment; sums of money are floats, good for a ratio only.

    ``prefix`` is how the receipts of an origin begin: only its attempts count.
    """
    row = LEDGER.c
    tokens = row.input_tokens + row.cache_read_tokens + row.cache_write_tokens + row.cache_write_1h_tokens
    query = (
        sa.select(
            row.deployment,
            sa.func.count(),
            sa.func.sum(sa.cast(row.cost_usd, sa.Float)),
            sa.func.sum(tokens),
            sa.func.sum(row.output_tokens + row.reasoning_tokens),
            sa.func.avg(row.total_ms),
        )
        .where(row.started_at_ms >= since_ms, row.started_at_ms < until_ms)
        .where(row.receipt.startswith(prefix, autoescape=True))
        .group_by(row.deployment)
    )
    with database.faults("read"), database.engine.connect() as connection:
        return {
            str(name): Load(
                attempts=int(attempts),
                cost_usd=float(cost or 0),
                input_tokens=int(taken or 0),
                output_tokens=int(given or 0),
                total_ms=None if total is None else float(total),
            )
            for name, attempts, cost, taken, given, total in connection.execute(query)
        }


def arrivals(database: Database, since_ms: int, most: int) -> list[tuple[float, int, int]]:
    """Return attempts that brought an answer: (start in seconds UTC, tokens in, tokens out), oldest first.

    At most ``most`` of them, the newest.
    """
    row = LEDGER.c
    tokens = row.input_tokens + row.cache_read_tokens + row.cache_write_tokens + row.cache_write_1h_tokens
    written = row.output_tokens + row.reasoning_tokens
    query = (
        sa.select(row.started_at_ms, tokens, written)
        .where(row.started_at_ms >= since_ms, written > 0)
        .order_by(row.started_at_ms.desc())
        .limit(most)
    )
    with database.faults("read"), database.engine.connect() as connection:
        found = [(at / 1000, int(taken), int(given)) for at, taken, given in connection.execute(query)]
    return found[::-1]
