"""What may look on while a request is answered, and what may answer in a deployment's place.

A *tap* sees what is delivered, and how the request ended once that is recorded; it changes nothing. A
*source* hands on an answer that was made under another receipt: by the steps of a cascade, or earlier. Either
way the request travels the one line: decided, its intent recorded, its end recorded, then the last bytes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from allod.domain.chat import Chunk
from allod.domain.money import ZERO
from allod.engines.contract import Description

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence
    from decimal import Decimal

    from allod.engines.run import Answer, Take
    from allod.gateway.decide import Decision
    from allod.gateway.entry import Entry
    from allod.receipts.leaves import TerminalFacts

_ABOUT: Final = Description.__struct_fields__
SLICE, SLICE_BYTES = 64, 65_536
"""So many events, or bytes, of a kept answer are handed on at once: then a slow client is waited for."""


class Tap(Protocol):
    """Looks on; what it raises would break the answer, so it raises nothing."""

    def see(self, items: Sequence[Answer]) -> None:
        """See what is about to be delivered."""

    def over(self, facts: TerminalFacts) -> None:
        """Learn how it ended, once that is recorded; a defect in between leaves this out."""


class Source(Protocol):
    """Answers a request in a deployment's place."""

    async def run(self, entry: Entry, take: Take) -> None:
        """Hand on a whole answer, having told ``entry.served`` where it comes from.

        Raises:
            AllodError: there is none. What ``take`` raises passes through.

        """


class Served(msgspec.Struct, kw_only=True):
    """Where an answer comes from that no attempt of this request made.

    Attributes:
        origin: the end of the receipt it was made under, or None while there is none.
        steps: (receipt, role, status, cost in plain USD) of each step, in the order they began.
        total_usd: what the steps cost together; None where there are no steps.
        cached: whether it was kept and is given again.
        live: the deployment whose answer is handed on while it comes; its end is not known yet.
        answer: what an answer is marked as, that nothing was checked of before it left (``base``).
        floor: what the request's end says of the promise it was answered under (``TerminalFacts.floor``).

    """

    origin: TerminalFacts | None = None
    steps: tuple[tuple[str, str, str, str], ...] = ()
    total_usd: Decimal | None = None
    cached: bool = False
    live: str | None = None
    answer: str | None = None
    floor: tuple[tuple[str, str], ...] = ()

    @property
    def cost_usd(self) -> Decimal:
        """What the request cost with all its steps."""
        return ZERO if self.total_usd is None else self.total_usd

    def end(self, bare: TerminalFacts, decision: Decision) -> TerminalFacts:
        """Return the end of the request: whose answer it is, what that rests on, what the steps were."""
        said: dict[str, Any] = {"cost_usd": ZERO, "steps": self.steps, "total_usd": self.total_usd}
        said["floor"] = self.floor
        origin = self.origin
        if origin is not None and origin.deployment is not None:
            name = origin.deployment
            said |= {field: getattr(origin, field) for field in _ABOUT}
            said |= {"deployment": name, "model": origin.model, "answer_from": origin.id}
            said |= {"conditions": decision.eligibility.conditions.get(name)}
            said |= {"relaxed": decision.relaxed(name)}
        return msgspec.structs.replace(bare, **said)


def tapped(taps: tuple[Tap, ...], take: Take) -> Take:
    """Return a ``take`` on which taps look on; without any, the very same."""
    if not taps:
        return take

    def seen(items: Sequence[Answer]) -> Awaitable[None] | None:
        for tap in taps:
            tap.see(items)
        return take(items)

    return seen


def tell(taps: tuple[Tap, ...], facts: TerminalFacts) -> None:
    """Tell taps how it ended."""
    for tap in taps:
        tap.over(facts)


async def hand_on(events: Sequence[Answer], take: Take) -> None:
    """Hand on a kept answer as if it came now: by slices, so that a client that leaves is noticed."""
    at, size = 0, 0
    for end, event in enumerate(events, 1):
        size += len(event.raw or event.text) if isinstance(event, Chunk) else 0
        if size < SLICE_BYTES and end - at < SLICE and end < len(events):
            continue
        wait = take(events[at:end])
        at, size = end, 0
        if wait is not None:
            await wait
        elif end < len(events):
            await asyncio.sleep(0)  # what was put together leaves, and says whether it is taken
