"""The straight line of one request. A refusal, an abort and a failure travel it too."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from allod.domain.errors import AllodError, Integrity, Refused
from allod.engines.run import aborted_by
from allod.gateway.entry import Entry
from allod.gateway.reply import Reply
from allod.gateway.taps import tapped

if TYPE_CHECKING:
    from allod.domain.usage import AttemptStatus
    from allod.gateway.entry import Ask
    from allod.gateway.gateway import Gateway
    from allod.gateway.http import Client


async def answer(gateway: Gateway, ask: Ask, client: Client) -> AttemptStatus:
    """Decide, record the intent, run, settle, record the end, and only then let the last bytes go.

    ``ask.admitted`` is what admission made of the request. No byte leaves to any upstream before the intent
    leaf is with the operating system (with ``durability = "strict"``: on the disk), no last byte to the
    client before the terminal leaf is. Returns how it ended; a cancellation ends here, as ``aborted``.

    Raises:
        AllodError: before there is an intent leaf: nothing was sent, nothing is recorded.

    """
    decision = gateway.decided(ask)  # eligible, then plan
    entry = Entry(gateway, ask, decision)
    begun = gateway.begin(ask, decision, entry.intent())  # the intent leaf
    reply = Reply(
        client,
        ask.surface,
        ask.parsed,
        ask.admitted.receipt,
        ask.admitted.received_at_ms // 1000,
        ask.response_salt,
        entry.label,
    )
    status: AttemptStatus = "failed"
    error: AllodError | None = None
    gone = False
    try:
        gateway.require(ask, decision)
        if gateway.strict:
            await gateway.durable(begun)
        await entry.run(tapped(ask.taps, reply.take))  # run
        status = "answered"
    except AllodError as fault:
        status, error = "refused" if isinstance(fault, Refused) else "failed", fault
    except asyncio.CancelledError as cut:
        status, gone = "aborted", True
        entry.aborted_by = aborted_by(cut)
    except Exception as fault:  # noqa: BLE001 (a defect of ours must still leave a receipt)
        error = Integrity("a defect of Allod ended this request", f"{type(fault).__name__}", "report it")
        gateway.defect(fault)
    last = b""
    try:
        rows = entry.rows()  # settle
        if not gone:
            status, error, last = gateway.last(entry, reply, rows, status, error)
        facts, form = entry.terminal(status, error, rows, reply.response)
        ended = gateway.end(facts, rows, form, keep=not gone and client.outbox is gateway.outbox)  # append
    except Exception as fault:  # noqa: BLE001 (what cannot be told must still have its end, I3)
        status = status if gone else "failed"
        ended, last = gateway.salvage(entry, reply, fault, gone=gone)
    else:
        gateway.over(ask, entry, rows, facts)
    error = None  # its traceback holds this very frame
    if not gone:
        if gateway.strict:
            await gateway.durable(ended)
        await reply.send(last)
    return status
