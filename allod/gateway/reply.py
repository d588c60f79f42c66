"""One answer on its way to one client: rendered in the surface's dialect, committed to, sent.

The last bytes of an answer wait for its terminal leaf: ``take`` sends everything before them, ``last`` makes
them once the cost is known, ``send`` lets them go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.chat import Chunk, Embedded, Finished, UsageReport, Whole
from allod.gateway.http import JSON_LINE, SSE_LINES, Client, retry_after
from allod.gateway.surfaces.tokens import COST, THINKING
from allod.receipts.commitment import StreamCommitment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

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
    cached: bool = False
    answer: str | None = None
    effort: str | None = None
    thinking_tokens: int = 0

    def lines(self) -> bytes:
        """Return the ``Allod-*`` header lines; names and values are ASCII words by construction."""
        out = f"allod-receipt: {self.receipt}\r\n"
        if self.deployment is not None:
            out += f"allod-deployment: {self.deployment}\r\nallod-jurisdiction: {self.jurisdiction}\r\n"
        if self.cost is not None:
            out += f"allod-cost: {self.cost}\r\n"
        if self.simulated:
            out += "allod-simulated: true\r\n"
        if self.cached:
            out += "allod-cache: hit\r\n"
        if self.answer is not None:
            out += f"allod-answer: {self.answer}\r\n"
        if self.effort is not None:
            out += f"allod-effort: {self.effort}\r\n"
        if self.thinking_tokens:
            out += f"allod-thinking-tokens: {self.thinking_tokens}\r\n"
        return out.encode()


class Reply:
    """The answer to one request.

    Args:
        client: where it goes.
        surface: the surface's codec (any of the four kinds).
        parsed: the request.
        receipt: its receipt id.
        created_s: Unix seconds for the dialect's ``created`` fields.
        salt: 32 bytes for the commitment to what is delivered.
        label: called when the first byte of a stream is about to leave; says where it comes from.

    """

    begun = delivered = False
    report: UsageReport | None = None
    _renderer: StreamRenderer | None = None
    _whole: Whole | Embedded | int | None = None
    _end: Finished | None = None
    _status, _lines = OK, JSON_LINE

    def __init__(
        self,
        client: Client,
        surface: Any,
        parsed: Parsed,
        receipt: str,
        created_s: int,
        salt: bytes,
        label: Callable[[], Labelled],
    ) -> None:
        self._client, self._surface, self._parsed, self._label = client, surface, parsed, label
        self._receipt, self._created_s = receipt, created_s
        self._commitment = StreamCommitment(salt)

    @property
    def response(self) -> str | None:
        """The commitment to everything delivered, or None when nothing was."""
        return self._commitment.text() if self.delivered else None

    def take(self, items: Sequence[Answer]) -> Awaitable[None] | None:
        """Take what an execution hands on; send what may go at once."""
        out = b""
        for event in items:
            if isinstance(event, Chunk):
                if self._parsed.stream:
                    data = (self._renderer or self._stream()).feed(event)
                    out = out + data if out else data
            elif isinstance(event, UsageReport):
                self.report = event
            elif isinstance(event, Finished):
                self._end = event
            else:
                self._whole = event
        if not out:
            return None
        if not self.begun:
            self._client.start(OK, SSE_LINES + self._label().lines(), None)
            self.begun = True
        self._commitment.update(out)
        self.delivered = True
        return self._client.write(out, more=True)

    def _stream(self) -> StreamRenderer:
        if self._renderer is None:
            self._renderer = self._surface.stream(
                self._parsed, receipt=self._receipt, created_s=self._created_s
            )
        return self._renderer

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
            self._lines = JSON_LINE + labelled.lines()
        self._commitment.update(data)
        self.delivered = self.delivered or bool(data)
        return data

    def _last_of_stream(self, labelled: Labelled, usage: Usage, block: dict[str, Any]) -> bytes:
        if not self.begun:
            self._lines = SSE_LINES + labelled.lines()
        renderer, report = self._stream(), self.report
        dialect = report.dialect if report else "openai"
        raw = report.raw if report and dialect != "openai" else None  # ours is written anew, with the cost
        priced = {**block, COST: labelled.cost} if labelled.cost is not None else block
        if labelled.thinking_tokens:
            priced = {**priced, THINKING: labelled.thinking_tokens}
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
            again = b"".join(b"%b: %b\r\n" % header for header in retry_after(error))
            self._lines = JSON_LINE + labelled.lines() + again
        self._commitment.update(data)
        self.delivered = self.delivered or bool(data)
        return data

    async def send(self, data: bytes) -> None:
        """Let the last bytes go."""
        if not self.begun:
            self.begun = True
            self._client.start(self._status, self._lines, len(data))
        wait = self._client.write(data, more=False)
        if wait is not None:
            await wait
