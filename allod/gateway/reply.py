"""One answer on its way to one client: rendered in the surface's dialect, committed to, sent.

The last bytes of an answer wait for its terminal leaf: ``relay`` sends everything before them, ``last`` makes
them once the cost is known, ``send`` lets them go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.chat import Chunk, Embedded, Finished, UsageReport, Whole
from allod.domain.money import plain
from allod.gateway.http import JSON, NO_STORE, SSE, Header, Send, respond, retry_after
from allod.gateway.surfaces.tokens import COST
from allod.receipts.commitment import StreamCommitment

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from allod.domain.errors import AllodError
    from allod.domain.usage import Usage
    from allod.engines.run import Answer
    from allod.gateway.surfaces.contract import Parsed, StreamRenderer

OK: Final = 200


class Labelled(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer's headers say of where it came from."""

    receipt: str
    deployment: str | None = None
    jurisdiction: str | None = None
    cost: str | None = None
    simulated: bool = False

    def headers(self) -> list[Header]:
        """Return the ``Allod-*`` headers; names and values are ASCII by construction."""
        out: list[Header] = [(b"allod-receipt", self.receipt.encode())]
        if self.deployment is not None:
            out.append((b"allod-deployment", self.deployment.encode()))
        if self.jurisdiction is not None:
            out.append((b"allod-jurisdiction", self.jurisdiction.encode()))
        if self.cost is not None:
            out.append((b"allod-cost", self.cost.encode()))
        if self.simulated:
            out.append((b"allod-simulated", b"true"))
        return out


class Reply:
    """The answer to one request.

    Args:
        send: the ASGI send callable.
        surface: the surface's codec (any of the four kinds).
        parsed: the request.
        receipt: its receipt id.
        created_s: Unix seconds for the dialect's ``created`` fields.
        salt: 32 bytes for the commitment to what is delivered.

    """

    def __init__(
        self, send: Send, surface: Any, parsed: Parsed, receipt: str, created_s: int, salt: bytes
    ) -> None:
        self._send, self._surface, self._parsed = send, surface, parsed
        self._receipt, self._created_s = receipt, created_s
        self._commitment = StreamCommitment(salt)
        self._renderer: StreamRenderer | None = None
        self.begun = False
        self.delivered = False
        self._whole: Whole | Embedded | int | None = None
        self.report: UsageReport | None = None
        self._end: Finished | None = None
        self._status, self._headers = OK, [JSON]

    @property
    def response(self) -> str | None:
        """The commitment to everything delivered, or None when nothing was."""
        return self._commitment.text() if self.delivered else None

    async def relay(self, events: AsyncGenerator[Answer, None], label: Any) -> None:
        """Take an execution's events; send what may go at once.

        ``label`` is called when the first byte of a stream is about to leave and returns its ``Labelled``.
        """
        stream = self._parsed.stream
        async for event in events:
            if type(event) is Chunk and stream:
                await self._feed(event, label)
            elif isinstance(event, UsageReport):
                self.report = event
            elif isinstance(event, Finished):
                self._end = event
            elif isinstance(event, Whole | Embedded | int):
                self._whole = event

    async def _feed(self, event: Chunk, label: Any) -> None:
        if self._renderer is None:
            self._renderer = self._surface.stream(
                self._parsed, receipt=self._receipt, created_s=self._created_s
            )
        data = self._renderer.feed(event)
        if not data:
            return
        if not self.begun:
            await self._begin([SSE, NO_STORE, *label().headers()])
        self._commitment.update(data)
        self.delivered = True
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def _begin(self, headers: list[Header], status: int = OK) -> None:
        self.begun = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    def last(self, labelled: Labelled, usage: Usage, block: dict[str, Any]) -> bytes:
        """Make the last bytes, with the cost in them where the dialect has room for it.

        ``usage`` and ``block`` are what the ledger has: reported, or counted where no report came.

        Raises:
            Unavailable: the operator's answer cannot be said in this dialect.

        """
        if self._parsed.stream:
            data = self._last_of_stream(labelled, usage, block)
        else:
            data = self._body(usage, block)
            self._headers = [JSON, *labelled.headers()]
        self._commitment.update(data)
        self.delivered = self.delivered or bool(data)
        return data

    def _last_of_stream(self, labelled: Labelled, usage: Usage, block: dict[str, Any]) -> bytes:
        if self._renderer is None:
            self._renderer = self._surface.stream(
                self._parsed, receipt=self._receipt, created_s=self._created_s
            )
            self._headers = [SSE, NO_STORE, *labelled.headers()]
        renderer, report = self._renderer, self.report
        dialect = report.dialect if report else "openai"
        raw = report.raw if report and dialect != "openai" else None  # ours is written anew, with the cost
        priced = {**block, COST: labelled.cost} if labelled.cost is not None else block
        out = [renderer.feed(UsageReport(usage=usage, block=priced, raw=raw, dialect=dialect))]
        if self._end is not None:
            out.append(renderer.feed(self._end))
        out.append(renderer.end())
        return b"".join(out)

    def _body(self, usage: Usage, block: dict[str, Any]) -> bytes:
        whole, known = self._whole, {"receipt": self._receipt, "created_s": self._created_s}
        if isinstance(whole, Embedded):
            return self._surface.embedded(self._parsed, whole, usage)  # type: ignore[no-any-return]
        if isinstance(whole, int):
            return self._surface.counted(whole)  # type: ignore[no-any-return]
        assert whole is not None
        report = self.report or UsageReport(usage=usage, block=block)
        return self._surface.whole(self._parsed, whole, report, **known)  # type: ignore[no-any-return]

    def failure(self, error: AllodError, labelled: Labelled) -> bytes:
        """Make the bytes that say no: an error object, or the error event of a stream that has begun."""
        if self.begun:
            assert self._renderer is not None
            data = self._renderer.fail(error, self._receipt)
        else:
            self._status, data = self._surface.error(error, self._receipt)
            self._headers = [JSON, *labelled.headers(), *retry_after(error)]
        self._commitment.update(data)
        self.delivered = self.delivered or bool(data)
        return data

    async def send(self, data: bytes) -> None:
        """Let the last bytes go."""
        if self.begun:
            await self._send({"type": "http.response.body", "body": data, "more_body": False})
        else:
            self.begun = True
            await respond(self._send, self._status, data, *self._headers)


def cost_text(amount: Any) -> str | None:
    """Write a cost for a header, or None when there is none."""
    return None if amount is None else plain(amount)
