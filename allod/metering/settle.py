"""What an attempt is charged: exactly one ledger row each, whatever happened to the stream (I4).

The basis is decided in this order:

1. Nothing was sent: no usage, no cost (``counted``).
2. The operator's own usage is believed when it was well formed and is not ``implausible`` (``reported``).
3. Something was delivered, but there is no believable report: we count (``counted``) at least as many tokens
   as were delivered; of an implausible report the larger numbers are kept, so a wrong report never pays less.
4. The operator answered with an error status: nothing is due (``counted``, no usage).
5. The attempt is lost: it was sent and nothing is known. It is charged its reservation (``reserved``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.money import ZERO
from allod.domain.usage import LedgerRow, Usage
from allod.metering.rates import cost, reserve

if TYPE_CHECKING:
    from decimal import Decimal

    from allod.domain.usage import AttemptStatus, Basis
    from allod.metering.rates import Tariff

COUNTED_BYTES_PER_TOKEN: Final = 3
"""We count one token per this many UTF-8 bytes. English text has about 4 bytes to a token, German about 3.5,
most other scripts 2 to 3; a smaller vocabulary makes more tokens, which we see as pieces of the stream."""

LONGEST_TOKEN_BYTES: Final = 128
"""No known vocabulary has a longer token (cl100k_base has one of 128 spaces)."""

THINKING_ESTIMATED: Final = "thinking estimated"
"""Said in a row whose operator reported usage without telling thinking apart."""
_MARKS: Final = 32
"""So many tokens of an answer may leave no bytes: marks of turns, of thinking, of calls."""
_ERROR_FROM: Final = 300
_LOST: Final = frozenset({502, 504})


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """What came out of an attempt: UTF-8 bytes of text, reasoning and tool arguments, and pieces of a stream.

    A piece holds at least one token. A whole answer is one piece. ``thought_bytes`` are those of ``bytes``
    that were reasoning; ``thinks`` tells whether the attempt was asked to think.
    """

    bytes: int = 0
    pieces: int = 0
    thought_bytes: int = 0
    thinks: bool = False


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt was reserved for: input tokens estimated from above, output tokens of all choices."""

    input_tokens: int
    max_output_tokens: int

    def reservation(self, tariff: Tariff) -> Decimal:
        """Return the exact USD reserved: no usage within the bounds costs more."""
        return reserve(self.input_tokens, self.max_output_tokens, tariff.ceiling(self.input_tokens))


class AttemptFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Which attempt it was and how it ended; ``status_code`` is the operator's HTTP status if one came.

    ``sent`` tells whether any byte of the request may have reached the operator.
    """

    receipt: str
    attempt: int
    app: str
    task: str | None
    deployment: str
    started_at_ms: int
    status: AttemptStatus
    sent: bool = True
    status_code: int | None = None
    first_token_ms: int | None = None
    total_ms: int | None = None
    detail: str = ""


def counted(delivered: Delivered, bounds: Bounds) -> Usage:
    """Count an attempt ourselves: the input as estimated, output at least what was delivered.

    More than the limit in force is counted only as far as there were more pieces.
    """
    by_bytes = -(-delivered.bytes // COUNTED_BYTES_PER_TOKEN)
    output = max(delivered.pieces, min(by_bytes, max(bounds.max_output_tokens, delivered.pieces)))
    return Usage(input_tokens=bounds.input_tokens, output_tokens=output)


def implausible(reported: Usage, delivered: Delivered, *, whole: bool = True) -> str | None:
    """Say what is wrong with a well-formed report, or None.

    Of an answer that is not whole every piece counts: the report may have come before them.
    """
    seen = -(-delivered.bytes // LONGEST_TOKEN_BYTES)
    if delivered.pieces:
        seen = max(seen, 1 if whole else delivered.pieces)
    if reported.total_output_tokens < seen:
        return f"usage-wrong: {reported.total_output_tokens} output tokens reported, at least {seen} seen"
    if reported.total_input_tokens == 0:
        return "usage-wrong: no input tokens reported"
    return None


def told_apart(usage: Usage, delivered: Delivered) -> Usage:
    """Estimate how much of the output was thinking where the operator bills it as output and does not say.

    Reasoning that was delivered has its share of the bytes. Where there are more tokens than bytes some was
    kept back (an operator that shows none, or a summary, of what it bills): all is thinking but what the
    visible bytes are at ``COUNTED_BYTES_PER_TOKEN``. Nothing is added or taken away: the sum is as reported.
    """
    output = usage.output_tokens
    if usage.reasoning_tokens or not (delivered.thought_bytes or delivered.thinks) or not delivered.bytes:
        return usage
    thought = output * delivered.thought_bytes // delivered.bytes
    if delivered.thinks and output > delivered.bytes + _MARKS:
        visible = delivered.bytes - delivered.thought_bytes
        thought = max(thought, output - -(-visible // COUNTED_BYTES_PER_TOKEN))
    return msgspec.structs.replace(usage, output_tokens=output - thought, reasoning_tokens=thought)


def _one_price(tariff: Tariff) -> bool:
    """Tell whether thinking costs what output costs: then an estimate of their parts moves no money."""
    return all(step.rates.reasoning_usd_mtok == step.rates.output_usd_mtok for step in tariff.steps)


def declined(status_code: int | None) -> bool:
    """Tell whether the operator refused the attempt, so that nothing is due.

    502 and 504 come from something in between that lost the answer: the attempt may have been served.
    """
    return status_code is not None and status_code >= _ERROR_FROM and status_code not in _LOST


def settle(
    facts: AttemptFacts,
    *,
    tariff: Tariff,
    bounds: Bounds,
    reported: Usage | None = None,
    delivered: Delivered | None = None,
) -> LedgerRow:
    """Write the ledger row of one attempt; see the order at the head of this module.

    ``reported`` is None where no usage came or the block was hostile (``usage_from_*`` raised).
    """
    basis, usage, amount_usd, note = _charge(facts, tariff, bounds, reported, delivered or Delivered())
    return LedgerRow(
        receipt=facts.receipt,
        attempt=facts.attempt,
        app=facts.app,
        task=facts.task,
        deployment=facts.deployment,
        started_at_ms=facts.started_at_ms,
        status=facts.status,
        basis=basis,
        usage=usage,
        cost_usd=amount_usd,
        price_digest=tariff.digest,
        first_token_ms=facts.first_token_ms,
        total_ms=facts.total_ms,
        detail=f"{facts.detail}; {note}" if facts.detail and note else facts.detail or note,
    )


def _charge(
    facts: AttemptFacts, tariff: Tariff, bounds: Bounds, reported: Usage | None, delivered: Delivered
) -> tuple[Basis, Usage, Decimal, str]:
    if not facts.sent:
        return "counted", Usage(), ZERO, ""
    whole = facts.status == "answered"
    one_price = _one_price(tariff)
    wrong = "" if reported is None else implausible(reported, delivered, whole=whole) or ""
    if reported is not None and not wrong:
        usage = told_apart(reported, delivered) if one_price else reported
        note = "" if usage == reported else THINKING_ESTIMATED
        return "reported", usage, _priced(usage, tariff), note
    if delivered.bytes or delivered.pieces:
        usage = counted(delivered, bounds)
        if reported is not None:
            usage = _larger(reported, usage)
        usage = told_apart(usage, delivered) if one_price else usage
        return "counted", usage, _priced(usage, tariff), wrong
    if declined(facts.status_code):
        return "counted", Usage(), ZERO, ""
    usage = Usage(input_tokens=bounds.input_tokens, output_tokens=bounds.max_output_tokens)
    return "reserved", usage, bounds.reservation(tariff), wrong


def _larger(reported: Usage, ours: Usage) -> Usage:
    """Raise a report to what we counted: the missing tokens go to the plain parts."""
    return msgspec.structs.replace(
        reported,
        input_tokens=reported.input_tokens + max(0, ours.total_input_tokens - reported.total_input_tokens),
        output_tokens=reported.output_tokens
        + max(0, ours.total_output_tokens - reported.total_output_tokens),
    )


def _priced(usage: Usage, tariff: Tariff) -> Decimal:
    return cost(usage, tariff.at(usage.total_input_tokens))
