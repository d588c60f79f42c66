"""When a request that may wait should begin, out of what is known of prices, law and durations now."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Final

import msgspec

from allod.routing.defer import SPREADS, DeferFacts, Span, choose

if TYPE_CHECKING:
    from allod.domain.request import Admitted
    from allod.gateway.gateway import Gateway
    from allod.routing.defer import Start

EXPECTED_MS: Final = 20_000
"""How long an answer is expected to take where none was measured: an assumption, and the doubt is large."""
MOST_SPANS: Final = 128
"""So many changes of price are looked at; what comes later is not foreseen."""
MOST_LOOKS: Final = 1024


async def foresee(
    gateway: Gateway, admitted: Admitted, *, now_ms: int, deadline_at_ms: int, ahead: int, name: str
) -> tuple[DeferFacts, Start]:
    """Choose when a request begins; the facts of the choice are all it depends on.

    Args:
        gateway: the object graph. admitted: the request. now_ms, deadline_at_ms: UTC milliseconds.
        ahead: how many requests wait already.
        name: the request's id, which spreads it among others that wait for the same hour.

    Raises:
        Invalid, Integrity: as ``Decider.foreseen``.

    """
    free = msgspec.structs.replace(admitted, deadline_ms=None, kind=None)
    spans = await _spans(gateway, free, now_ms, deadline_at_ms)
    named = {span.deployment for span in spans if span.deployment is not None}
    expected_ms, doubt_ms = _duration(gateway, free, now_ms, named)
    queue = gateway.config.queue
    concurrent = 1 if queue is None else queue.concurrent
    facts = DeferFacts(
        now_ms=now_ms,
        deadline_at_ms=deadline_at_ms,
        expected_ms=expected_ms,
        doubt_ms=doubt_ms,
        ahead_ms=ahead * expected_ms // concurrent,
        spread=int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % SPREADS,
        spans=spans,
    )
    return facts, choose(facts)


async def _spans(gateway: Gateway, admitted: Admitted, now_ms: int, end_ms: int) -> tuple[Span, ...]:
    """Return what the first attempt would cost in each span of time; equal neighbours are one span."""
    spans: list[Span] = []
    at_ms, looks = now_ms, 0
    while at_ms < end_ms and looks < MOST_LOOKS:
        looks += 1
        asked = msgspec.structs.replace(admitted, received_at_ms=at_ms)
        plan, until_ms = gateway.decider.foreseen(asked, link_up=gateway.link_up)
        first = plan.attempts[0] if plan.attempts else None
        name, cost = (None, None) if first is None else (first.deployment, first.cost_usd)
        last, until_ms = (spans[-1] if spans else None), min(until_ms, end_ms)
        if last is not None and (last.deployment, last.cost_usd) == (name, cost):
            spans[-1] = msgspec.structs.replace(last, until_ms=until_ms)
        elif len(spans) == MOST_SPANS:
            break
        else:
            spans.append(Span(from_ms=at_ms, until_ms=until_ms, deployment=name, cost_usd=cost))
        at_ms = until_ms
        await asyncio.sleep(0)  # others first: each look is a plan
    return tuple(spans)


def _duration(gateway: Gateway, admitted: Admitted, now_ms: int, named: set[str]) -> tuple[int, int]:
    """Return how long an answer is expected to take, and how much longer it may, in milliseconds.

    The doubt is the time that every attempt of the plan may take by its own limits, one after the other.
    """
    measured = gateway.latency.rounded(gateway.monotonic_ms())
    expected = max((measured[name] for name in named if name in measured), default=EXPECTED_MS)
    plan, _ = gateway.decider.foreseen(
        msgspec.structs.replace(admitted, received_at_ms=now_ms), link_up=gateway.link_up
    )
    tried = named | {attempt.deployment for attempt in plan.attempts}
    fleet = gateway.fleet.deployments
    worst = sum(fleet[name].timeout_ms * (1 + fleet[name].retries) for name in sorted(tried))
    return expected, worst
