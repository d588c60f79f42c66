"""One request answered in steps: a base, a check, a second model, an escalation.

Each step is a request like any other: admitted, decided by law, its intent recorded before anything is sent,
each dispatch re-decided by the reference engine, settled into ledger rows, ended by a receipt of its own
whose parent is the request's receipt. The request's own receipt attempts nothing itself: it lists its steps
with what each came to and cost, and names the one whose answer was delivered (docs/decisions/0007).

Who decides which steps are run is a *strategy*: a coroutine function that is given the cascade, asks for
steps, and returns the one to deliver. A strategy can only ask for less than the request may: a step never
loses a class, a label or a deadline of it, and its cost counts against the request's; only its floor, which
is about what is delivered, may be another. The answer is held back until it is chosen, streamed or not,
unless a strategy lets one step's answer through while it comes (``live``): then that one is delivered.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Protocol, cast, runtime_checkable

import msgspec

from allod.admission.labels import MAX_PARENTS, NO_LABELS
from allod.admission.sizes import measure
from allod.domain.classes import expand
from allod.domain.errors import Integrity, Invalid, Unavailable
from allod.domain.fleet import EFFORTS
from allod.domain.money import ZERO, plain
from allod.engines.run import NOT_NEEDED, STOPPED
from allod.gateway import pipeline
from allod.gateway.checks.logprobs import NEED, asking, hidden
from allod.gateway.entry import Ask
from allod.gateway.taps import Served, hand_on
from allod.receipts.commitment import commitment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allod.domain.fleet import Effort
    from allod.domain.request import Admitted
    from allod.domain.usage import AttemptStatus
    from allod.engines.outbox import Outbox
    from allod.engines.run import Answer, Take
    from allod.gateway.entry import Entry
    from allod.gateway.gateway import Gateway
    from allod.gateway.preparing import Prepared
    from allod.gateway.surfaces.contract import Parsed
    from allod.gateway.taps import Tap
    from allod.receipts.leaves import TerminalFacts

MAX_STEPS: Final = 8
"""So many are named whole in a leaf."""
COMMIT_S: Final = 5.0
ROLES: Final = frozenset({"base", "check", "agreement", "escalation", "reference", "fallback", "audit"})
_ENCODE: Final = msgspec.json.Encoder(order="deterministic").encode


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What one step came to.

    Attributes:
        receipt: its own receipt. role: what it was for (``ROLES``). deployment: which was asked.
        status: how it ended; only an ``answered`` one can be delivered.
        reason: one word for it where it was not answered.
        cost_usd: what its attempts cost, in USD.
        events: what it answered, as an execution hands it on; empty unless answered.
        end: its terminal facts (usage, evidence, digests), or None where a defect ended it.

    """

    receipt: str
    role: str
    deployment: str
    status: AttemptStatus
    reason: str = ""
    cost_usd: Decimal = ZERO
    events: tuple[Answer, ...] = ()
    end: TerminalFacts | None = None


Strategy = Callable[["Cascade"], Awaitable[Step]]
"""Runs steps and returns the one to deliver."""


@runtime_checkable
class Watching(Protocol):
    """A strategy that looks on as a tap of the request, and learns so that it has ended.

    ``recorded`` is what the decision record is to say of it.
    """

    @property
    def recorded(self) -> tuple[tuple[str, str], ...]:
        """Words by name."""

    def see(self, items: Sequence[Answer]) -> None:
        """As ``Tap.see``."""

    def over(self, facts: TerminalFacts) -> None:
        """As ``Tap.over``."""


def in_steps(gateway: Gateway, ask: Ask, strategy: Strategy) -> Ask:
    """Return a request to be answered in steps; one that has its answer already (``kept``) as it is."""
    if ask.source is not None:
        return ask
    source, seen = Cascade(gateway, ask, strategy), cast("object", strategy)
    if not isinstance(seen, Watching):
        return msgspec.structs.replace(ask, source=source)
    return msgspec.structs.replace(ask, source=source, taps=(*ask.taps, seen), promise=seen.recorded)


class _Collecting:
    """The client and tap of a step: keeps what it answers and how it ended.

    With ``onward`` the pieces go on at once; who takes them slowly is waited for where the client would be.
    """

    outbox: Outbox | None = None

    def __init__(self, onward: Take | None = None) -> None:
        self.events: list[Answer] = []
        self.facts: TerminalFacts | None = None
        self._onward, self._slow = onward, list[Awaitable[None]]()

    def see(self, items: Sequence[Answer]) -> None:
        """Keep a piece, and hand it on."""
        self.events += items
        wait = None if self._onward is None else self._onward(items)
        if wait is not None:
            self._slow.append(wait)

    def start(self, status: int, lines: bytes, length: int | None) -> None:
        """Read no head."""

    def write(self, data: bytes, *, more: bool) -> Awaitable[None] | None:  # noqa: ARG002 (events are kept)
        """Drop bytes; return what there is to wait for."""
        return self._slow.pop() if self._slow else None

    def over(self, facts: TerminalFacts) -> None:
        """Keep how it ended."""
        self.facts = facts


class Cascade:
    """The steps of one request; the ``Source`` of its answer.

    Args:
        gateway: the object graph.
        ask: the request.
        strategy: which steps to run.

    Attributes:
        live: the receipt of the step whose answer reached the client while it came, None while there is none.
        floor: what the strategy wants said at the request's end (``TerminalFacts.floor``).
        answer: what the answer is to be marked as (``Served.answer``).

    """

    def __init__(self, gateway: Gateway, ask: Ask, strategy: Strategy) -> None:
        self._gateway, self.ask, self._strategy = gateway, ask, strategy
        self._begun: dict[str, Step] = {}
        self._held: dict[str, Decimal] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._hidden: set[str] = set()
        self._over = False
        self._take: Take | None = None
        self._entry: Entry | None = None
        self.live: str | None = None
        self.floor: tuple[tuple[str, str], ...] = ()
        self.answer: str | None = None

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps begun so far, in order; one in flight counts as ``failed`` until it has ended."""
        return tuple(self._begun.values())

    @property
    def apart(self) -> bool:
        """Whether the strategy may answer though nobody of the request's own plan is up; its steps decide."""
        return bool(getattr(self._strategy, "apart", False))

    @property
    def spent_usd(self) -> Decimal:
        """What the steps cost so far, in USD, those in flight at what losing them would cost."""
        return sum((s.cost_usd for s in self._begun.values()), ZERO) + sum(self._held.values(), ZERO)

    def left_ms(self) -> int | None:
        """Return how many milliseconds of the request's deadline are left, None without one."""
        deadline_ms = self.ask.admitted.deadline_ms
        gone_ms = int((time.monotonic() - self.ask.started) * 1000)
        return None if deadline_ms is None else deadline_ms - gone_ms

    # --- the source

    async def run(self, entry: Entry, take: Take) -> None:
        """Run the strategy and hand on what it chose; whatever happens, no step is left running.

        Raises:
            Unavailable: the chosen step has no answer. What the strategy raises passes through.

        """
        entry.served = Served(total_usd=ZERO)
        self._entry, self._take = entry, take
        try:
            chosen = await self._strategy(self)
        finally:
            self._over = True
            await self._stop()
            entry.served = self._served()
        known = self._begun.get(chosen.receipt)
        if known is None or known.end is None or known.status != "answered":
            raise Unavailable(
                "no step of this request has an answer",
                "; ".join(f"{s.role} at {s.deployment}: {s.status} {s.reason}".strip() for s in self.steps),
                "try again later",
            )
        entry.served.origin = known.end
        if self.live is None:
            hide = chosen.receipt in self._hidden
            await hand_on(hidden(known.events, self.ask.parsed.body) if hide else known.events, take)
        elif self.live != known.receipt:
            what = "another answer has reached the client than the one chosen"
            raise Integrity(what, "", "this is a fault of the strategy")

    def _served(self) -> Served:
        steps = tuple((s.receipt, s.role, s.status, plain(s.cost_usd)) for s in self.steps)
        total = sum((s.cost_usd for s in self.steps), ZERO)
        return Served(steps=steps, total_usd=total if steps else None, floor=self.floor, answer=self.answer)

    async def _stop(self) -> None:
        """End the steps a strategy left running in tasks of their own, each with its receipt."""
        mine = asyncio.current_task()
        while left := {task for task in self._tasks if not task.done() and task is not mine}:
            for task in left:
                task.cancel(NOT_NEEDED)
            with contextlib.suppress(asyncio.CancelledError):  # a second one changes nothing: they end now
                await asyncio.wait(left)

    # --- the steps

    async def step(
        self,
        role: str,
        deployment: str,
        *,
        parsed: Parsed | None = None,
        stems_from: Sequence[Step] = (),
        effort: Effort | None = None,
        min_quality: Decimal | None = None,
        within_ms: int | None = None,
        live: bool = False,
        logprobs: bool = False,
    ) -> Step:
        """Run one step to its end and return what it came to; a refused or failed one raises nothing.

        Args:
            role: what it is for, one of ``ROLES``.
            deployment: the one to ask; law, capability, price and limits decide about it as about any.
            parsed: what to ask instead of the request itself (a check of an answer): it is scanned anew, and
                classes it raises are added. Its surface is the request's.
            stems_from: steps whose answers are part of what is asked: its parents, besides the request.
            effort: the depth, as far as the app may; None leaves the request's.
            min_quality: a floor for this step in place of the request's, which is about what is delivered.
            within_ms: time it may take, if that is less than what is left of the request's deadline. To end a
                step before, cancel its task with the message ``engines.run.NOT_NEEDED``: without one the
                receipt says that the client left.
            live: hand its answer on while it comes; it must be the one returned then, and if it breaks
                after it has begun there is no other.
            logprobs: ask for log probabilities too, which the step's events have, and the client has not
                unless the request asked for them.

        Raises:
            Invalid: no such role or deployment, or a step of another cascade.
            Integrity: the cascade is over, has had ``MAX_STEPS`` steps, or another one's answer is out.
            Unavailable: the step's intent could not be recorded, or its end: nothing more can be promised.
            CancelledError: whoever asked is gone, or the gateway stops; the step has its receipt.

        """
        if self._over or (live and self.live is not None):
            raise Integrity(
                "a cascade takes no further step", "it is over", "this is a fault of the strategy"
            )
        self._check(role, deployment, stems_from)
        limits: dict[str, Any] = {} if min_quality is None else {"min_quality": min_quality}
        limits |= {} if effort is None else {"effort": _capped(self.ask, effort), "efforts": ()}
        limits["deadline_ms"] = self._within(within_ms)
        receipt = self._gateway.fresh_receipt(self._gateway.now_ms())
        seen = _Collecting(self._letting_through(receipt, deployment, hide=logprobs) if live else None)
        ask = self._ask(receipt, deployment, parsed, stems_from, limits, seen)
        if logprobs:
            ask = _telling(ask)
            self._hidden.add(receipt)
        return await self._run(role, ask, seen)

    async def later(
        self,
        role: str,
        deployment: str,
        *,
        min_quality: Decimal | None = None,
        logprobs: bool = False,
    ) -> Step:
        """Run a step after the request has ended: an audit. It is not in the request's end, which is written.

        The request is its parent; its classes, labels and cost limit hold, its deadline does not any more.

        Raises:
            Invalid, Integrity, Unavailable, CancelledError: as ``step``.

        """
        self._check(role, deployment, ())
        limits: dict[str, Any] = {} if min_quality is None else {"min_quality": min_quality}
        limits["deadline_ms"] = None
        receipt, seen = self._gateway.fresh_receipt(self._gateway.now_ms()), _Collecting()
        ask = self._ask(receipt, deployment, None, (), limits, seen)
        return await self._run(role, _telling(ask) if logprobs else ask, seen)

    def _letting_through(self, receipt: str, deployment: str, *, hide: bool) -> Take:
        """Return what hands a step's answer on to the client while it comes."""

        def onward(items: Sequence[Answer]) -> Awaitable[None] | None:
            assert self._take is not None
            assert self._entry is not None
            if self.live is None:
                self._entry.served = Served(total_usd=ZERO, live=deployment, answer=self.answer)
            self.live = receipt
            return self._take(hidden(items, self.ask.parsed.body) if hide else items)

        return onward

    async def _run(self, role: str, ask: Ask, seen: _Collecting) -> Step:
        ask = msgspec.structs.replace(ask, step=role)
        name, deployment, held = ask.admitted.receipt, ask.admitted.model, self._bound(ask)
        self._begun[name] = Step(receipt=name, role=role, deployment=deployment, status="failed")
        self._held[name] = held
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        status: AttemptStatus = "failed"
        try:
            status = await pipeline.answer(self._gateway, ask, seen)
        finally:
            del self._held[name]
            if self._gateway.store.owner(name) is None:
                del self._begun[name]  # it never began: there is no receipt of it
        done = self._begun[name] = await self._done(self._begun[name], status, seen.events, seen.facts)
        if status == "aborted":
            raise asyncio.CancelledError(*([STOPPED] if done.reason == STOPPED else []))
        return done

    def _check(self, role: str, deployment: str, stems_from: Sequence[Step]) -> None:
        if len(self._begun) >= MAX_STEPS:
            why = f"it has had {len(self._begun)} steps of {MAX_STEPS}"
            raise Integrity("a cascade takes no further step", why, "this is a fault of the strategy")
        if role not in ROLES or deployment not in self._gateway.fleet.deployments:
            raise Invalid(
                f"there is no step {role!r} at {deployment!r}", f"roles: {', '.join(sorted(ROLES))}", ""
            )
        if len(stems_from) >= MAX_PARENTS or any(s.receipt not in self._begun for s in stems_from):
            raise Invalid("a step stems from steps of its own request", "", "")

    def _ask(
        self,
        receipt: str,
        deployment: str,
        parsed: Parsed | None,
        stems_from: Sequence[Step],
        limits: dict[str, Any],
        tap: Tap,
    ) -> Ask:
        """Make the request a step is: never more than the one it is for."""
        gateway, own = self._gateway, self.ask
        at_ms, salts = gateway.now_ms(), gateway.chance.draw(64)
        asked, ready = own.parsed if parsed is None else parsed, None
        admitted = own.admitted
        if parsed is not None:
            ready, admitted = self._prepared(parsed, at_ms)
            asked = (ready.parsed if ready is not None else None) or parsed
        changes = {
            **limits,
            "receipt": receipt,
            "received_at_ms": at_ms,
            "model": deployment,
            "pinned": (deployment,),
            "max_cost_usd": self._left_usd(),
            "stream": asked.stream,
            "kind": None,
        }
        return Ask(
            app=own.app,
            surface=own.surface,
            parsed=asked,
            admitted=msgspec.structs.replace(admitted, **changes),
            request=commitment(salts[:32], _ENCODE(asked.body)),
            salts=salts,
            started=time.monotonic(),
            data=own.data if parsed is None else (None if ready is None else ready.data),
            covering=own.covering if parsed is None else (None if ready is None else ready.covering),
            subject=own.subject,
            parents=(own.admitted.receipt, *(s.receipt for s in stems_from)),
            taps=(tap,),
        )

    def _prepared(self, parsed: Parsed, at_ms: int) -> tuple[Prepared | None, Admitted]:
        """Scan, cover and measure what a step asks instead; classes only add up."""
        gateway, own = self._gateway, self.ask.admitted
        if parsed.surface != own.surface:
            raise Invalid("a step is asked on the surface of its request", f"got {parsed.surface}", "")
        day = gateway.decider.day(at_ms)
        ready = gateway.preparation.prepare(self.ask.app, parsed, NO_LABELS, None, day)
        raw = _ENCODE(parsed.body)
        needs, sizes = measure(parsed.body, raw, parsed.surface, plain=parsed.plain)
        more, found = ((), ()) if ready is None else (ready.needs, ready.detected)
        admitted = msgspec.structs.replace(
            own,
            classes=expand((*own.classes, *found)),
            needs=tuple(sorted({*needs, *more})),
            sizes=sizes,
        )
        return ready, admitted

    def _within(self, within_ms: int | None) -> int | None:
        known = [ms for ms in (within_ms, self.left_ms()) if ms is not None]
        return max(1, min(known)) if known else None

    def _left_usd(self) -> Decimal | None:
        most = self.ask.admitted.max_cost_usd
        return None if most is None else max(ZERO, most - self.spent_usd)

    def _bound(self, ask: Ask) -> Decimal:
        """Return what a step in flight may cost at most: its attempts, each at its reservation."""
        attempts = self._gateway.decide(ask.admitted).plan.attempts
        return sum((a.reserve_usd * (a.retries + 1) for a in attempts), ZERO)

    async def _done(
        self, begun: Step, status: AttemptStatus, events: list[Answer], end: TerminalFacts | None
    ) -> Step:
        """Return what a step came to; where a defect hid that, it failed, and the tables know its cost."""
        if end is None:
            store = self._gateway.store
            await store.committed(begun.receipt, COMMIT_S)
            rows = await asyncio.to_thread(store.database.rows, receipt=begun.receipt)
            return msgspec.structs.replace(begun, cost_usd=sum((row.cost_usd for row in rows), ZERO))
        return msgspec.structs.replace(
            begun,
            status=end.status,
            reason=end.reason,
            cost_usd=end.cost_usd or ZERO,
            events=tuple(events) if status == "answered" else (),
            end=end,
        )


def _telling(ask: Ask) -> Ask:
    """Return a step's request that asks for log probabilities; the deployment must be able to tell them."""
    parsed, admitted = ask.parsed, ask.admitted
    body = asking(parsed.body)
    return msgspec.structs.replace(
        ask,
        parsed=msgspec.structs.replace(parsed, body=body),
        admitted=msgspec.structs.replace(admitted, needs=tuple(sorted({*admitted.needs, NEED}))),
        request=commitment(ask.request_salt, _ENCODE(body)),
    )


def _capped(own: Ask, effort: Effort) -> Effort:
    caps = [own.app.effort, max(own.admitted.efforts, key=EFFORTS.index, default=None)]
    return EFFORTS[min(EFFORTS.index(one) for one in (effort, *caps) if one is not None)]
