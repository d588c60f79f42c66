"""Tokens, and what they cost."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

Basis = Literal["reported", "counted", "reserved"]
AttemptStatus = Literal["answered", "refused", "aborted", "failed"]


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one attempt in disjoint parts: their sum is the whole, no token is in two.

    Providers report these nested in different ways; metering takes them apart.
    ``output_tokens`` are visible, ``reasoning_tokens`` are not, or are shown apart.
    ``cache_write_tokens`` went to a cache that lives minutes, ``cache_write_1h_tokens`` to one that lives an
    hour: operators price them apart.
    """

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_input_tokens(self) -> int:
        """All tokens read, cached or not."""
        return (
            self.input_tokens + self.cache_read_tokens + self.cache_write_tokens + self.cache_write_1h_tokens
        )

    @property
    def total_output_tokens(self) -> int:
        """All tokens written, visible or not."""
        return self.output_tokens + self.reasoning_tokens


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """An amount in USD, where its rates come from, and the digest of that source."""

    amount_usd: Decimal
    source: str
    price_digest: str


class LedgerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One upstream attempt: exactly one row whatever happened to the stream (I4).

    ``basis`` is ``reported`` by the operator, ``counted`` by us from what was delivered, or ``reserved``:
    the attempt was lost and is charged its reservation. ``attempt`` counts from 1 within the receipt.
    ``first_token_ms`` and ``total_ms`` are durations, None when it never came.
    """

    receipt: str
    attempt: int
    app: str
    task: str | None
    deployment: str
    started_at_ms: int
    status: AttemptStatus
    basis: Basis
    usage: Usage
    cost_usd: Decimal
    price_digest: str
    first_token_ms: int | None = None
    total_ms: int | None = None
    detail: str = ""
