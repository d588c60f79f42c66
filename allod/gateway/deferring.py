"""Work that may wait: taken in, given back, cancelled, deleted (``deferred_runs`` runs it).

Admitted and decided when it comes, and again when it runs, by the same line as everything else; nothing of it
leaves in between. Its receipt is named when it comes (``Allod-Receipt``) and written when it is run, refused,
cancelled or too late: one end per receipt (I3). What only one app may see is looked up by that app.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import AllodError, Unavailable
from allod.domain.money import plain, rfc3339
from allod.gateway import pipeline
from allod.gateway.background import Came, headers_of, lines_of, name_of, no_response, still
from allod.gateway.config import QueueSettings
from allod.gateway.deferred_runs import Runs, instead_of
from allod.gateway.foresight import foresee
from allod.gateway.gateway import LOG
from allod.gateway.surfaces.contract import core_of
from allod.gateway.surfaces.sse import ENCODE
from allod.receipts.commitment import digest
from allod.routing.defer import record
from allod.store.deferred import Content, DeferredTable, Waiting
from allod.store.subjects import lookup_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from allod.domain.request import Admitted
    from allod.gateway.entry import Ask
    from allod.gateway.gateway import Gateway
    from allod.gateway.http import Client, Header
    from allod.routing.defer import Start

__all__ = ["Came", "Queue", "no_response"]

DEADLINE_MS: Final = 86_400_000
"""The latest end of what names none: a day."""
POLL_S: Final = 0.5
"""While anything waits: how soon is seen what another process cancelled or erased."""
IDLE_S: Final = 30.0
TROUBLE_S: Final = 5.0
TICK_S: Final = 0.01
FAR_MS: Final = 86_400_000
BUSY_MS: Final = 60_000


class Queue:
    """The queue of one running gateway; used on its event loop only.

    Args:
        gateway: the object graph.
        settings: what may be in it, and for how long.

    Raises:
        Unavailable: the tables are not the home's own.

    """

    def __init__(self, gateway: Gateway, settings: QueueSettings) -> None:
        self._gateway, self._settings = gateway, settings
        self._table = DeferredTable(gateway.store.database, gateway.store.keys.origin)
        self._runs = Runs(gateway, self._table, settings.concurrent)
        self._taking = asyncio.Lock()
        self._woken = asyncio.Event()

    # --- what callers do

    async def accept(self, ask: Ask, came: Came, client: Client) -> None:
        """Take a request in and say so; one the law, the floor or a limit refuses is refused at once.

        Raises:
            Unavailable: the queue is full, or the tables cannot be written: nothing is kept then.

        """
        gateway = self._gateway
        decision = gateway.decide(ask.admitted)
        if not decision.plan.attempts and not decision.plan.resting:
            never = Unavailable("this request is not run now", "it was asked in the background", kind="busy")
            await pipeline.answer(gateway, instead_of(ask, never), client)
            return
        admitted = msgspec.structs.replace(ask.admitted, kind=None)
        name, now_ms = admitted.receipt, admitted.received_at_ms
        created_s = now_ms // 1000
        shown = ENCODE(ask.surface.waiting(ask.parsed, receipt=name, created_s=created_s))
        content = Content(msgspec.msgpack.encode(came), shown, None)
        subject = None if ask.subject is None else lookup_of(gateway.store.keys.secret, ask.subject)
        async with self._taking:
            ahead = await self._demand_room(admitted.app, len(content.request or b"") + len(shown))
            deadline_at_ms = now_ms + (admitted.deadline_ms or DEADLINE_MS)
            facts, start = await foresee(
                gateway, admitted, now_ms=now_ms, deadline_at_ms=deadline_at_ms, ahead=ahead, name=name
            )
            row = Waiting(
                id=name,
                origin=gateway.store.keys.origin,
                app=admitted.app,
                status="queued",
                created_at_ms=now_ms,
                deadline_at_ms=deadline_at_ms,
                start_at_ms=start.start_ms,
                latest_at_ms=start.latest_ms,
                ended_at_ms=None,
                receipt=name,
                tries=0,
                size_bytes=len(content.request or b"") + len(shown),
                subject=subject,
                deferral=record(facts),
                known=msgspec.json.encode(admitted),
            )
            await self._note(row, start, admitted)
            await asyncio.to_thread(self._table.add, row, content)
        self._woken.set()
        client.start(200, lines_of(name), len(shown))
        wait = client.write(shown, more=False)
        if wait is not None:
            await wait

    async def retrieve(self, app: str, response: str) -> tuple[bytes, tuple[Header, ...]]:
        """Return body and headers of a response (raises Invalid: there is none for this app)."""
        row = await self._of(app, response)
        content = await asyncio.to_thread(self._table.content, row.id)
        if content.shown is None:
            raise no_response(response)
        if row.ended_at_ms is None:
            status = "in_progress" if row.status == "in_progress" else "queued"
            return still(content.shown, status), headers_of(lines_of(row.receipt))
        return content.shown, headers_of(content.head or lines_of(row.receipt))

    async def cancel(self, app: str, response: str) -> tuple[bytes, tuple[Header, ...]]:
        """End what has not ended, and return it; what has ended stays as it is (raises as ``retrieve``)."""
        row = await self._of(app, response)
        await asyncio.to_thread(self._table.cancel, row.id)
        await self._runs.settle(row.id)
        return await self.retrieve(app, response)

    async def delete(self, app: str, response: str) -> tuple[bytes, tuple[Header, ...]]:
        """Delete what it said and was answered; what has not ended is cancelled (raises as ``retrieve``)."""
        row = await self._of(app, response)
        await asyncio.to_thread(self._table.erase, row.id)
        await self._runs.settle(row.id)
        await asyncio.to_thread(self._table.purge, self._over_ms())
        said = {"id": f"resp_{core_of(row.id)}", "object": "response", "deleted": True}
        return ENCODE(said), headers_of(lines_of(row.receipt))

    def waits(self, app: str, receipt: str) -> bool:
        """Tell whether a receipt is that of a request of this app that has not begun yet."""
        row = self._table.row(receipt)
        return row is not None and row.app == app and row.ended_at_ms is None

    # --- what goes on beside

    async def work(self) -> None:
        """Run what is due, end what is to end, delete what is over, until cancelled."""
        try:
            await self._recovered()
            while True:
                self._woken.clear()
                wait_s = await self._round()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._woken.wait()
        finally:
            await self._runs.stop()

    async def dissolve(self) -> None:
        """End and delete everything: the tenant took its permission to store content back."""
        for row in await asyncio.to_thread(self._table.all):
            await asyncio.to_thread(self._table.erase, row.id)
            await self._runs.settle(row.id)
        await asyncio.to_thread(self._table.purge, self._gateway.now_ms())

    async def _round(self) -> float:
        """Do what is to be done now; return how many seconds there is nothing else."""
        now_ms, table, keep_ms = self._gateway.now_ms(), self._table, 1000 * self._settings.keep_s
        try:
            await asyncio.to_thread(table.purge, self._over_ms())
            for row in await asyncio.to_thread(table.to_end, now_ms):
                self._runs.end(row)
            looked = self._settings.concurrent + len(self._runs)
            for row in await asyncio.to_thread(table.due, now_ms, looked):
                self._runs.begin(row, self._woken.set)
            live, begins_ms = await asyncio.to_thread(table.ahead)
            first_ms = await asyncio.to_thread(table.first_end)
        except AllodError as fault:
            LOG.error("the queue rests for %g s: %s (%s)", TROUBLE_S, fault.what, fault.why)
            return TROUBLE_S
        times = [begins_ms, None if first_ms is None else first_ms + keep_ms]
        next_ms = (
            min((at for at in times if at is not None), default=now_ms + FAR_MS) - self._gateway.now_ms()
        )
        longest_s = POLL_S if live else IDLE_S
        return longest_s if next_ms <= 0 else min(longest_s, next_ms / 1000 + TICK_S)

    async def _recovered(self) -> None:
        while True:
            try:
                await self._runs.recover()
            except AllodError as fault:
                LOG.error("the queue waits for %g s: %s (%s)", TROUBLE_S, fault.what, fault.why)
                await asyncio.sleep(TROUBLE_S)
            else:
                return

    # --- parts

    def _over_ms(self) -> int:
        return self._gateway.now_ms() - 1000 * self._settings.keep_s

    async def _of(self, app: str, response: str) -> Waiting:
        name = name_of(response)
        row = None if name is None else await asyncio.to_thread(self._table.row, name)
        if row is None or row.app != app or row.status == "erased":
            raise no_response(response)
        if row.ended_at_ms is not None and row.ended_at_ms <= self._over_ms():
            raise no_response(response)
        return row

    async def _demand_room(self, app: str, size_bytes: int) -> int:
        """Return how many wait already (raises Unavailable: there is no room for one more)."""
        limits = self._settings
        count, held = await asyncio.to_thread(self._table.size)
        own, _ = await asyncio.to_thread(self._table.size, app)
        full = (
            f"{count} requests, at most {limits.max_requests}" if count >= limits.max_requests
            else f"{own} of this app, at most {limits.max_requests_per_app}"
            if own >= limits.max_requests_per_app
            else f"{held} bytes and {size_bytes} more, at most {limits.max_bytes}"
            if held + size_bytes > limits.max_bytes
            else None
        )  # fmt: skip
        if full is not None:
            raise Unavailable(
                "the queue is full", full, "fetch and delete what has ended, or ask later",
                kind="busy", retry_after_ms=BUSY_MS,
            )  # fmt: skip
        return (await asyncio.to_thread(self._table.ahead))[0]

    async def _note(self, row: Waiting, start: Start, admitted: Admitted) -> None:
        """Log that content is kept in the home, until when, and for which hour and cost.

        Raises:
            Unavailable: the log does not take it.

        """
        assert row.deferral is not None
        named = digest(row.deferral)
        database = self._gateway.store.database
        await asyncio.to_thread(database.change, database.text.put_record, [(named, row.deferral)])
        said = {
            "receipt": row.id,
            "app": self._gateway.app_pseudonym(row.app),
            "classes": ", ".join(admitted.classes),
            "deadline": rfc3339(row.deadline_at_ms),
            "start": rfc3339(row.start_at_ms),
            "expected_usd": "unknown" if start.cost_usd is None else plain(start.cost_usd),
            "now_usd": "unknown" if start.now_usd is None else plain(start.now_usd),
            "choice": named,
        }
        self._gateway.notice("deferred", said, start.why)


@contextlib.asynccontextmanager
async def queued(gateway: Gateway) -> AsyncGenerator[Queue | None]:
    """Keep the queue of a gateway at work; None without ``[queue]``, where all that is left of one is ended.

    Raises:
        Unavailable: the tables are not the home's own, or cannot be read.

    """
    settings = gateway.config.queue
    if settings is None:
        if gateway.store.database.path is not None:
            await Queue(gateway, QueueSettings()).dissolve()
        yield None
        return
    queue = Queue(gateway, settings)
    work = asyncio.create_task(queue.work())
    try:
        yield queue
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
