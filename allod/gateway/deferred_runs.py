"""Running what has waited, and ending what is not run: each by the one line, under a receipt of its own.

A receipt is run at most once: the claim is on the disk before the line begins. What a crash or a stop
interrupts has its end under that receipt by recovery (``failed``) or by the line (``aborted``), and is run
again under a new one, whose parent that is, while the deadline allows and for at most ``MAX_TRIES``. If the
crash came between the end and the table, an answer that was paid for is lost and asked for again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

import msgspec

from allod.admission.labels import labels_from
from allod.domain.errors import AllodError, Integrity, Invalid, Unavailable
from allod.domain.money import rfc3339
from allod.domain.request import Admitted
from allod.engines.run import STOPPED, WITHDRAWN
from allod.gateway import pipeline
from allod.gateway.background import Came, Laid, Taken, ended_as, lines_of
from allod.gateway.entry import Ask
from allod.gateway.foresight import foresee
from allod.gateway.gateway import LOG
from allod.gateway.http import Head
from allod.gateway.incoming import Again, incoming
from allod.gateway.surfaces.contract import Parsed
from allod.receipts.commitment import commitment
from allod.routing.defer import record

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from allod.engines.run import Take
    from allod.gateway.entry import Entry
    from allod.gateway.gateway import Gateway
    from allod.store.deferred import DeferredTable, Status, Waiting

MAX_TRIES: Final = 3
"""So often a request is begun that a crash or a stop ends each time."""
AGAIN_MS: Final = 15_000
"""After so long it is tried again whether a lawful deployment is up, or the log takes requests."""
END_TRIES: Final = 30
KEPT_BITS: Final = 4
"""What is left of the deadline is rounded down to so many leading bits: like requests share decisions."""


class _Instead:
    """Ends a request in place of an answer: with an error, or as withdrawn."""

    def __init__(self, error: AllodError | None) -> None:
        self._error = error

    async def run(self, entry: Entry, take: Take) -> None:  # noqa: ARG002 (nothing is handed on)
        """Raise."""
        if self._error is None:
            raise asyncio.CancelledError(WITHDRAWN)
        raise self._error


def instead_of(ask: Ask, error: AllodError | None) -> Ask:
    """Return a request that ends with this error, or without one as withdrawn, and asks nobody."""
    return msgspec.structs.replace(ask, source=_Instead(error))


class Runs:
    """The runs of one queue, each a task; one at a time per request.

    Args:
        gateway: the object graph. table: the queue's. concurrent: so many run at once.

    """

    def __init__(self, gateway: Gateway, table: DeferredTable, concurrent: int) -> None:
        self._gateway, self._table, self._concurrent = gateway, table, concurrent
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._running: set[str] = set()

    def __len__(self) -> int:
        return len(self._running)

    # --- beginning and ending

    def begin(self, row: Waiting, done: Callable[[], None]) -> bool:
        """Begin to run a request, unless something is done with it already."""
        if row.id in self._tasks or len(self._running) >= self._concurrent:
            return False
        self._running.add(row.id)
        self._start(row, self._run(row)).add_done_callback(lambda _: done())
        return True

    def end(self, row: Waiting) -> None:
        """Begin to end a request without running it; one that runs is withdrawn."""
        task = self._tasks.get(row.id)
        if task is None:
            self._start(row, self._finish(row))
        elif row.id in self._running and row.status in {"cancelling", "erased"}:
            task.cancel(WITHDRAWN)

    async def settle(self, name: str) -> None:
        """Wait until a request that was cancelled or erased has ended (raises what its end raises)."""
        while True:
            row = await asyncio.to_thread(self._table.row, name)
            if row is None or row.ended_at_ms is not None or row.status not in {"cancelling", "erased"}:
                return
            self.end(row)
            task = self._tasks.get(name)
            if task is not None:
                await asyncio.wait({task})

    async def stop(self) -> None:
        """End every run; the requests wait for the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel(STOPPED)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, row: Waiting, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._held(row, work))
        self._tasks[row.id] = task
        return task

    async def _held(self, row: Waiting, work: Coroutine[None, None, None]) -> None:
        """Do something with a request; what fails is done again later, and counts as begun."""
        try:
            await work
        except Exception as fault:  # noqa: BLE001 (a defect with one request must not end the queue)
            if isinstance(fault, AllodError):
                LOG.error("request %s of the queue: %s (%s)", row.id, fault.what, fault.why)
            else:
                self._gateway.defect(fault)
            with contextlib.suppress(AllodError):
                start_ms, put_back = self._gateway.now_ms() + AGAIN_MS, self._table.put_back
                tries = row.tries + 1
                await asyncio.to_thread(put_back, row, start_ms, row.latest_at_ms, row.deferral, tries=tries)
            await asyncio.sleep(1)
        finally:
            self._tasks.pop(row.id, None)
            self._running.discard(row.id)

    async def recover(self) -> None:
        """Let wait again what a crash or a stop interrupted, and choose all hours anew.

        Raises:
            Unavailable: the tables cannot be read or written.

        """
        live = await asyncio.to_thread(self._table.live)
        for ahead, row in enumerate(live):
            if row.status not in {"queued", "in_progress"}:
                continue
            start_ms, latest_ms, deferral = row.start_at_ms, row.latest_at_ms, row.deferral
            now_ms = self._gateway.now_ms()
            if row.app not in self._gateway.fleet.apps:
                start_ms = now_ms  # its end is due
            with contextlib.suppress(AllodError, KeyError):  # of a model that is no more: seen when it runs
                facts, start = await foresee(
                    self._gateway,
                    msgspec.json.decode(row.known, type=Admitted),
                    now_ms=now_ms,
                    deadline_at_ms=row.deadline_at_ms,
                    ahead=ahead,
                    name=row.id,
                )
                start_ms, latest_ms, deferral = start.start_ms, start.latest_ms, record(facts)
            if row.status == "in_progress":
                start_ms = min(start_ms, now_ms)
            put_back = self._table.put_back
            await asyncio.to_thread(put_back, row, start_ms, latest_ms, deferral, tries=row.tries)
            await asyncio.sleep(0)

    # --- one request

    async def _run(self, row: Waiting) -> None:
        """Run a request whose time has come; what cannot begin now waits a little longer."""
        gateway, table = self._gateway, self._table
        now_ms = gateway.now_ms()
        if row.deadline_at_ms <= now_ms or row.tries >= MAX_TRIES or row.app not in gateway.fleet.apps:
            await self._finish(row)
            return
        if self._nobody_up(row, now_ms):
            await self._later(row)
            return
        known = await asyncio.to_thread(gateway.store.owner, row.receipt)
        receipt = row.receipt if known is None else gateway.fresh_receipt(now_ms)
        content = await asyncio.to_thread(table.content, row.id)
        if content.request is None or not await asyncio.to_thread(table.claim, row, receipt):
            return
        client, surface = Taken(), Laid(row.id, row.created_at_ms // 1000)
        status: Status = "failed"
        try:
            again = Again(
                receipt=receipt,
                parents=() if known is None else (row.receipt,),
                deadline_ms=_rounded(row.deadline_at_ms - now_ms),
            )
            ask = await self._asked(row, content.request, surface, again)
            ended = await pipeline.answer(gateway, ask, client)
        except Unavailable as fault:  # before its intent: nothing left, and there is another time
            LOG.warning("request %s of the queue waits: %s", row.id, fault.what)
            await self._later(row)
            return
        except AllodError as fault:  # what was right when it came is not any more: the configuration changed
            await self._end_by_line(row, receipt, content.request, fault)
            return
        if ended == "aborted":
            await self._aborted(row, receipt, surface)
            return
        status = ended_as(client.body)
        if ended == "failed" and gateway.now_ms() >= row.deadline_at_ms:
            self._missed(row, receipt)
        await self._note_end(row, status, receipt, client.body, client.head)

    def _nobody_up(self, row: Waiting, now_ms: int) -> bool:
        """Tell whether what could serve it is down, and there is time to wait for it."""
        if now_ms + AGAIN_MS >= row.latest_at_ms:
            return False
        known = msgspec.json.decode(row.known, type=Admitted)
        try:
            decision = self._gateway.decide(msgspec.structs.replace(known, received_at_ms=now_ms))
        except AllodError:
            return False
        return not decision.plan.attempts and bool(decision.plan.resting)

    async def _asked(self, row: Waiting, request: bytes, surface: Laid, again: Again) -> Ask:
        came = msgspec.msgpack.decode(request, type=Came)
        gateway = self._gateway
        return await incoming(
            gateway,
            surface,
            gateway.fleet.apps[row.app],
            _head(came),
            came.raw,
            started=time.monotonic(),
            received_at_ms=gateway.now_ms(),
            again=again,
        )

    async def _aborted(self, row: Waiting, receipt: str, surface: Laid) -> None:
        """Note the end of a run that was withdrawn; one that a stop ended waits for the next start."""
        now = await asyncio.to_thread(self._table.row, row.id)
        if now is None or now.status not in {"cancelling", "erased"}:
            return
        await self._note_end(row, "cancelled", receipt, surface.shown("cancelled"), lines_of(receipt))

    async def _finish(self, row: Waiting) -> None:
        """End a request that is not run (any more): withdrawn, too late, too often, or of no app."""
        gateway = self._gateway
        content = await asyncio.to_thread(self._table.content, row.id)
        withdrawn = row.status in {"cancelling", "erased"}
        error = None if withdrawn else self._why_not(row)
        if row.app not in gateway.fleet.apps:
            self._gateway.notice(
                "deferred-dropped", {"receipt": row.receipt}, "its app is not configured any more"
            )
        elif await asyncio.to_thread(gateway.store.owner, row.receipt) is None:
            if not withdrawn and gateway.now_ms() >= row.deadline_at_ms:
                self._missed(row, row.receipt)
            await self._end_by_line(row, row.receipt, content.request, error)
            return
        elif not withdrawn and gateway.now_ms() >= row.deadline_at_ms:
            self._missed(row, row.receipt)
        await self._ended(row, row.receipt, content.request, error)

    def _why_not(self, row: Waiting) -> AllodError:
        if row.app not in self._gateway.fleet.apps:
            return Integrity("the app of this request is not configured any more")
        if row.tries >= MAX_TRIES and self._gateway.now_ms() < row.deadline_at_ms:
            return Unavailable("this request was interrupted too often", f"got {row.tries} tries")
        why = f"it was to end by {rfc3339(row.deadline_at_ms)}"
        return Unavailable("the deadline of this request has passed", why, kind="timeout")

    async def _end_by_line(
        self, row: Waiting, receipt: str, request: bytes | None, error: AllodError | None
    ) -> None:
        """Give a receipt that has no leaf yet its intent and its end; nobody is asked."""
        gateway, client = self._gateway, Taken()
        ask = _bare(gateway, row, receipt, request)
        try:
            await pipeline.answer(gateway, instead_of(ask, error), client)
        except (Invalid, Integrity) as fault:  # nothing can be decided about it any more
            self._gateway.notice("deferred-dropped", {"receipt": receipt}, fault.what)
        await self._ended(row, receipt, request, error, client)

    async def _ended(
        self,
        row: Waiting,
        receipt: str,
        request: bytes | None,
        error: AllodError | None,
        client: Taken | None = None,
    ) -> None:
        """Note the end of a request without an answer."""
        surface = _surface(row, request)
        shown, head = surface.shown("cancelled"), lines_of(receipt)
        if client is not None and client.body:
            shown, head = client.body, client.head
        elif error is not None:
            _, shown = surface.error(error, receipt)
        status: Status = "cancelled" if error is None else "failed"
        await self._note_end(row, status, receipt, shown, head)

    async def _note_end(self, row: Waiting, status: Status, receipt: str, shown: bytes, head: bytes) -> None:
        """Write an end to the table; a disk that is full for a while does not lose an answer."""
        for left in reversed(range(END_TRIES)):
            try:
                at_ms = self._gateway.now_ms()
                await asyncio.to_thread(self._table.end, row.id, status, receipt, at_ms, shown, head)
            except Unavailable:
                if not left:
                    raise
                await asyncio.sleep(1)
            else:
                return

    async def _later(self, row: Waiting) -> None:
        """Let a request wait a little longer that was not begun."""
        start_ms = self._gateway.now_ms() + AGAIN_MS
        put_back = self._table.put_back
        await asyncio.to_thread(put_back, row, start_ms, row.latest_at_ms, row.deferral, tries=row.tries)

    # --- the log

    def _missed(self, row: Waiting, receipt: str) -> None:
        said = {
            "receipt": receipt,
            "deadline": rfc3339(row.deadline_at_ms),
            "came": rfc3339(row.created_at_ms),
        }
        LOG.warning("request %s of the queue missed its deadline", row.id)
        self._gateway.notice("deadline-missed", said)


def _rounded(left_ms: int) -> int:
    """Round down to ``KEPT_BITS`` leading bits, at least 1."""
    cut = max(0, left_ms.bit_length() - KEPT_BITS)
    return max(1, left_ms >> cut << cut)


def _head(came: Came) -> Head:
    return Head(None, None, None, None, False, None, came.labels)


def _surface(row: Waiting, request: bytes | None) -> Laid:
    """Return the surface of a request; of one whose content is gone it repeats nothing."""
    surface = Laid(row.id, row.created_at_ms // 1000)
    if request is not None:
        with contextlib.suppress(AllodError):
            surface.parse(msgspec.msgpack.decode(request, type=Came).raw)
    return surface


def _bare(gateway: Gateway, row: Waiting, receipt: str, request: bytes | None) -> Ask:
    """Return a request that is only to end: as admission knew it, with whom it is about; nothing is scanned.

    Where its content was erased its receipt commits to an empty body, and to nobody.
    """
    came = Came(raw=b"") if request is None else msgspec.msgpack.decode(request, type=Came)
    surface = _surface(row, request)
    now_ms = gateway.now_ms()
    known = msgspec.json.decode(row.known, type=Admitted)
    subject = None
    with contextlib.suppress(AllodError):
        body = msgspec.json.decode(came.raw) if came.raw else {}
        subject = labels_from(came.labels, body.get("metadata"), gateway.index.classes).subject
    salts = gateway.chance.draw(64)
    return Ask(
        app=gateway.fleet.apps[row.app],
        surface=surface,
        parsed=Parsed(surface="responses", model=known.model, body={}, background=True),
        admitted=msgspec.structs.replace(
            known, receipt=receipt, received_at_ms=now_ms, deadline_ms=None, kind=None
        ),
        request=commitment(salts[:32], came.raw),
        salts=salts,
        started=time.monotonic(),
        subject=subject,
    )
