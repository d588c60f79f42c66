"""Answers kept to be given again to the very same request: in memory, bounded, and only where an app asks.

What is *the same*: app, classes, purpose, task, limits, every member of the body, whether it streams, law,
facts and plan. An answer is kept whole or not at all, until its time is over, room is needed, law or facts
change. No answer is kept of a request with pseudonyms (they are made anew for each), about a named person
(their erasure must find everything), that offers tools (a call has effects and an id of its own), or that was
not scanned. Nothing of it is ever on the disk.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.admission.admit import kind_of
from allod.domain.chat import Chunk, Embedded, Finished, UsageReport, Whole
from allod.domain.classes import UNSCANNED
from allod.domain.errors import Refused
from allod.gateway.taps import Served, hand_on

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allod.engines.contract import Description
    from allod.engines.run import Answer, Take
    from allod.gateway.decide import Decision
    from allod.gateway.entry import Ask, Entry
    from allod.gateway.gateway import Gateway
    from allod.receipts.leaves import TerminalFacts

ITEM_BYTES: Final = 512
"""What an event weighs in memory besides its text."""
SHARE: Final = 8
"""One answer takes at most this share of the room."""
_SURFACES: Final = frozenset({"chat", "responses", "messages", "embeddings"})
_ENCODE: Final = msgspec.json.Encoder(order="deterministic").encode


class KeptAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, and what it rests on.

    ``end`` is how its own request ended, ``about`` what its driver said of itself then, ``law`` the digests
    of packs and fleet, ``kept_at`` and ``until`` seconds of the event loop's clock.
    """

    app: str
    events: tuple[Answer, ...]
    end: TerminalFacts
    about: Description
    law: tuple[str, str]
    size: int
    kept_at: float
    until: float


class Directives(msgspec.Struct, frozen=True):
    """What a caller says in ``Cache-Control`` (RFC 9111 section 5.2.1)."""

    may_take: bool = True
    may_keep: bool = True
    max_age_s: int | None = None


ANYTHING: Final = Directives()


def directives(header: bytes | None) -> Directives:
    """Read ``Cache-Control`` of a request; what cannot be read forbids both."""
    if header is None:
        return ANYTHING
    take = keep = True
    age: int | None = None
    for part in header.decode("latin-1").lower().split(","):
        name, _, value = part.strip().partition("=")
        take = take and name not in {"no-cache", "no-store"}
        keep = keep and name != "no-store"
        if name == "max-age":
            if not (value.isascii() and value.isdigit() and len(value) <= 9):  # noqa: PLR2004 (digits of a delta)
                return Directives(may_take=False, may_keep=False)
            age = int(value) if age is None else min(age, int(value))
    return Directives(take, keep, age)


class KeptAnswers:
    """The answers of one gateway, the one used longest ago first to go; used on its event loop only.

    Args:
        max_bytes: room for all of them; 0 keeps none.
        secret: 32 random bytes behind the names of requests.

    """

    def __init__(self, max_bytes: int, secret: bytes) -> None:
        self.max_bytes, self._secret = max_bytes, secret
        self._held: OrderedDict[bytes, tuple[KeptAnswer, asyncio.TimerHandle]] = OrderedDict()
        self._law: tuple[str, str] | None = None
        self.size = 0

    def __len__(self) -> int:
        return len(self._held)

    def name(self, ask: Ask, decision: Decision) -> bytes | None:
        """Name a request by everything its answer may depend on; None where it cannot be written down."""
        admitted, parsed = ask.admitted, ask.parsed
        known = (
            kind_of(admitted), admitted.model, admitted.stream, admitted.sizes.max_output_tokens,
            law_of(decision), [(a.deployment, a.effort) for a in decision.plan.attempts],
            parsed.native_dialect, parsed.native, parsed.body,
        )  # fmt: skip
        try:
            written = _ENCODE(known)
        except (TypeError, ValueError, OverflowError, RecursionError):
            return None
        return hashlib.blake2b(written, key=self._secret, digest_size=32).digest()

    def find(self, name: bytes, decision: Decision) -> KeptAnswer | None:
        """Return a kept answer; where law or facts have changed, everything is dropped first."""
        law = law_of(decision)
        if self._law != law:
            self.clear()
            self._law = law
        found = self._held.get(name)
        if found is None:
            return None
        if found[0].law != law or found[0].until <= asyncio.get_running_loop().time():
            self.drop(name)
            return None
        self._held.move_to_end(name)
        return found[0]

    def keep(self, name: bytes, answer: KeptAnswer) -> None:
        """Keep an answer; older ones go to make room, and it goes itself when its time is over."""
        loop = asyncio.get_running_loop()
        if self._law != answer.law or answer.size > self.max_bytes // SHARE or answer.until <= loop.time():
            return
        self.drop(name)
        while self._held and self.size + answer.size > self.max_bytes:
            self.drop(next(iter(self._held)))
        self._held[name] = answer, loop.call_at(answer.until, self._expire, name, answer)
        self.size += answer.size

    def drop(self, name: bytes) -> None:
        """Let one go."""
        found = self._held.pop(name, None)
        if found is not None:
            found[1].cancel()
            self.size -= found[0].size

    def clear(self) -> None:
        """Let all go."""
        for name in list(self._held):
            self.drop(name)

    def _expire(self, name: bytes, answer: KeptAnswer) -> None:
        found = self._held.get(name)
        if found is not None and found[0] is answer:
            self.drop(name)


class Filling:
    """A tap that keeps an answer once it is whole and its end recorded."""

    def __init__(self, gateway: Gateway, name: bytes, ask: Ask, decision: Decision, seconds: int) -> None:
        self._gateway, self._name, self._seconds = gateway, name, seconds
        self._app, self._law = ask.admitted.app, law_of(decision)
        self._most = gateway.kept.max_bytes // SHARE
        self._events: list[Answer] = []
        self._size = 0

    def see(self, items: Sequence[Answer]) -> None:
        """Take a piece, unless there is too much of it already."""
        if self._size > self._most:
            return
        self._size += sum(map(weight, items))
        self._events += items
        if self._size > self._most:
            self._events.clear()

    def over(self, facts: TerminalFacts) -> None:
        """Keep it if it was answered, whole, by a deployment, and as the task promises it.

        An answer that was marked (streamed before its check, or by a fallback) would be given again unmarked.
        """
        if dict(facts.floor).get("answer") is not None:
            return
        events, name = tuple(self._events), facts.deployment
        whole = any(isinstance(one, Finished | Embedded) for one in events)
        called = any(isinstance(one, Chunk) and one.tool_calls for one in events)
        if facts.status != "answered" or not whole or called or name is None or self._size > self._most:
            return
        now = asyncio.get_running_loop().time()
        self._gateway.kept.keep(
            self._name,
            KeptAnswer(
                app=self._app,
                events=events,
                end=facts,
                about=self._gateway.engines[name].describe(),
                law=self._law,
                size=self._size,
                kept_at=now,
                until=now + self._seconds,
            ),
        )


class Again:
    """The source of a kept answer."""

    def __init__(self, answer: KeptAnswer) -> None:
        self._answer = answer

    async def run(self, entry: Entry, take: Take) -> None:
        """Hand it on, if the deployment that made it may still see this request (I1).

        Raises:
            Refused: it may not.

        """
        name = self._answer.end.deployment or ""
        if name not in entry.decision.eligibility.kept or not entry.recheck(name):
            raise Refused("refused: the deployment that made this answer may not serve it any more")
        entry.served = Served(origin=self._answer.end, cached=True)
        await hand_on(self._answer.events, take)


def law_of(decision: Decision) -> tuple[str, str]:
    """Return the digests of packs and fleet a decision was made with."""
    return decision.eligibility.pack_digest, decision.eligibility.fleet_digest


def weight(item: Answer) -> int:
    """Return about how many bytes of memory an event takes."""
    if isinstance(item, Chunk):
        text = len(item.text) + len(item.reasoning) + len(item.refusal)
        return ITEM_BYTES + 4 * text + len(item.raw or b"") + _deep(item.logprobs)
    if isinstance(item, Whole):
        return ITEM_BYTES + len(item.raw or b"") + _deep(item.body)
    if isinstance(item, Embedded):
        return ITEM_BYTES + _deep(item.body)
    return ITEM_BYTES + (len(item.raw or b"") if isinstance(item, UsageReport) else 0)


def _deep(value: Any) -> int:
    """Return about what a JSON value takes: eight times its text is above what Python makes of it."""
    try:
        return 0 if value is None else 8 * len(_ENCODE(value))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return 1 << 62


def keepable(ask: Ask) -> bool:
    """Tell whether the answer to a request may be kept at all."""
    admitted = ask.admitted
    return (
        admitted.surface in _SURFACES
        and not ask.app.pseudonymise
        and ask.covering is None
        and ask.subject is None
        and ask.source is None
        and UNSCANNED not in admitted.classes
        and "tools" not in admitted.needs
    )


def kept_s(ask: Ask, tasks: Mapping[str, Any]) -> int:
    """Return for how many seconds the answer to a request may be kept: its task's word, else its app's."""
    task = tasks.get(ask.admitted.task) if ask.admitted.task is not None else None
    own = None if task is None else task.cache_s
    return (own if own is not None else ask.app.cache_s) or 0


def looked_up(gateway: Gateway, ask: Ask, header: bytes | None) -> Ask:
    """Return the request with a kept answer as its source, or to be kept when answered, or as it is."""
    kept, said, seconds = gateway.kept, directives(header), kept_s(ask, gateway.fleet.tasks)
    if not seconds or not kept.max_bytes or not (said.may_take or said.may_keep) or not keepable(ask):
        return ask
    decision = gateway.decide(ask.admitted)
    name = kept.name(ask, decision) if decision.plan.attempts else None
    if name is None:
        return ask
    answer = kept.find(name, decision)
    if answer is not None and not _holds(gateway, answer, ask, decision):
        kept.drop(name)
        answer = None
    if answer is not None and said.may_take and _fresh(answer, said):
        parents = dict.fromkeys((answer.end.id, *ask.parents))  # one more than a caller may name
        return msgspec.structs.replace(ask, source=Again(answer), parents=tuple(parents))
    if not said.may_keep:
        return ask
    return msgspec.structs.replace(ask, taps=(*ask.taps, Filling(gateway, name, ask, decision, seconds)))


def _fresh(answer: KeptAnswer, said: Directives) -> bool:
    age_s = asyncio.get_running_loop().time() - answer.kept_at
    return said.max_age_s is None or age_s < said.max_age_s


def _holds(gateway: Gateway, answer: KeptAnswer, ask: Ask, decision: Decision) -> bool:
    """Tell whether an answer may still be given: by law, from the same weights, and not erased since."""
    name = answer.end.deployment or ""
    if answer.app != ask.admitted.app or name not in {a.deployment for a in decision.plan.attempts}:
        return False
    if not gateway.decider.policy.recheck(decision.asked, name):
        return False
    if gateway.engines[name].describe() != answer.about:
        return False
    row = gateway.store.database.request(answer.end.id)
    return row.response_salt is not None if row is not None else gateway.owns(ask.admitted.app, answer.end.id)
