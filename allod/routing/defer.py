"""When work that may wait is begun: at the cheapest hour that still keeps its deadline.

The choice is a function of recorded facts alone (I8): what the plan's first attempt would cost if the request
were dispatched in each span of time up to the deadline, how long it takes, and how much that is in doubt. The
price at dispatch is what is charged, so only the time of beginning counts.

- What cannot wait without endangering the deadline begins at once: ``margin_ms`` is the expected duration,
  its doubt, and the work that is ahead in the queue.
- A later span is chosen only if it is cheaper; of equally cheap ones the earliest.
- Requests that wait for the same span begin spread over its first part, by a number of their own.
- It begins a little after the span does (``GUARD_MS``) and never shortly before it ends: clocks differ.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec

from allod.domain.errors import Integrity
from allod.domain.money import plain, rfc3339
from allod.receipts.canonical import canonical, parse

FORMAT: Final = "allod-deferral-1"
GUARD_MS: Final = 30_000
"""So long after a price begins, and before it ends, nothing is begun that waits for it."""
SPREAD_MS: Final = 900_000
"""Over so much of a span those that wait for it are spread."""
SLACK_MS: Final = 2_000
"""What the gateway itself needs: so much before the deadline an answer is due at the latest."""
SPREADS: Final = 1 << 16
"""``spread`` is below this."""


class Span(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A time in which prices and law do not change: from ``from_ms`` to ``until_ms`` (UTC, excluded).

    ``cost_usd`` is what the first attempt of the plan would cost, at ``deployment``; both None where no
    lawful deployment could serve it then.
    """

    from_ms: int
    until_ms: int
    deployment: str | None = None
    cost_usd: Decimal | None = None


class DeferFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a choice of time depends on.

    Attributes:
        now_ms, deadline_at_ms: UTC milliseconds.
        expected_ms: how long the answer is expected to take; doubt_ms how much longer it may.
        ahead_ms: how long the work takes that is to run before it.
        spread: a number from 0 up to ``SPREADS`` that is the request's own.
        spans: in order, without gaps, from ``now_ms`` on.

    """

    now_ms: int
    deadline_at_ms: int
    expected_ms: int
    doubt_ms: int
    ahead_ms: int = 0
    spread: int = 0
    spans: tuple[Span, ...] = ()

    @property
    def margin_ms(self) -> int:
        """How long before the deadline it must begin."""
        return self.expected_ms + self.doubt_ms + self.ahead_ms + SLACK_MS

    @property
    def latest_ms(self) -> int:
        """The latest time to begin; now where that has passed."""
        return max(self.now_ms, self.deadline_at_ms - self.margin_ms)


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """When it begins, what that is expected to cost, and what beginning now would have.

    ``cost_usd`` and ``now_usd`` are None where nothing lawful is foreseen for that time.
    """

    start_ms: int
    latest_ms: int
    deployment: str | None = None
    cost_usd: Decimal | None = None
    now_usd: Decimal | None = None
    why: str = ""


def choose(facts: DeferFacts) -> Start:
    """Choose when to begin: pure and deterministic.

    Never later than ``facts.latest_ms``, and never for more than beginning at once is estimated to cost.
    """
    here = next((s for s in facts.spans if s.from_ms <= facts.now_ms < s.until_ms), None)
    begun = Start(
        start_ms=facts.now_ms,
        latest_ms=facts.latest_ms,
        deployment=None if here is None else here.deployment,
        cost_usd=None if here is None else here.cost_usd,
        now_usd=None if here is None else here.cost_usd,
    )
    if facts.latest_ms <= facts.now_ms:
        return _with(begun, "there is no time to wait")
    found = [(_begin(facts, s), s) for s in facts.spans if s.cost_usd is not None and s is not here]
    later = [(at, s) for at, s in found if at is not None]
    if not later:
        return _with(begun, "nothing is foreseen but to begin at once")
    at, best = min(later, key=lambda one: (one[1].cost_usd, one[0]))
    assert best.cost_usd is not None
    now_usd = begun.now_usd
    if now_usd is not None and best.cost_usd >= now_usd:
        return _with(begun, f"no later hour is cheaper than {plain(now_usd)} USD now")
    instead = "nothing lawful now" if now_usd is None else f"{plain(now_usd)} USD now"
    why = f"{plain(best.cost_usd)} USD expected from {rfc3339(best.from_ms)} on, {instead}"
    return Start(
        start_ms=at,
        latest_ms=facts.latest_ms,
        deployment=best.deployment,
        cost_usd=best.cost_usd,
        now_usd=now_usd,
        why=why,
    )


def _begin(facts: DeferFacts, span: Span) -> int | None:
    """Return when it would begin in a span, or None: it is over, too short, or too late."""
    first = max(facts.now_ms, span.from_ms + GUARD_MS)
    last = min(facts.latest_ms, span.until_ms - GUARD_MS)
    if first > last:
        return None
    return first + min(SPREAD_MS, last - first) * (facts.spread % SPREADS) // SPREADS


def _with(start: Start, why: str) -> Start:
    return msgspec.structs.replace(start, why=why)


def record(facts: DeferFacts) -> bytes:
    """Write the facts of a choice as canonical JSON, without content."""
    data = msgspec.to_builtins(facts)
    for span, written in zip(facts.spans, data["spans"], strict=True):
        written["cost_usd"] = None if span.cost_usd is None else plain(span.cost_usd)
    return canonical({"format": FORMAT, **data})


def read(text: bytes) -> DeferFacts:
    """Read the facts of a choice back.

    Raises:
        Integrity: it is no such record.

    """
    data = parse(text, what="the record of a deferral")
    try:
        if not isinstance(data, dict) or data.pop("format", None) != FORMAT:
            raise Integrity("the record of a deferral has another format", f"expected {FORMAT}")
        return msgspec.convert(data, DeferFacts)
    except msgspec.ValidationError as fault:
        raise Integrity("the record of a deferral cannot be read", str(fault)) from fault
