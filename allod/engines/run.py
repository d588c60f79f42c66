"""Carrying out a plan: attempts in order, each re-decided, retried within bounds, and reported.

Nothing is tried again once an event of an answer has been handed on: what the client has seen cannot be
unseen. Whatever happens, each dispatch leaves exactly one ``AttemptReport`` (I4).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from allod.domain.chat import Chunk, Embedded, Event, Finished, UsageReport, Whole
from allod.domain.errors import AllodError, Integrity, Invalid, Unavailable, UnavailableKind
from allod.engines.contract import RETRYABLE, EngineFault
from allod.routing.breaker import worth_waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allod.domain.decision import Attempt
    from allod.domain.usage import AttemptStatus, Usage
    from allod.engines.contract import Engine

NOT_A_NAME: Final = "not-a-name"
_THOUGHT: Final = (b'"reasoning_content":"', b'"reasoning_content": "', b'"thinking":"', b'"thinking": "')
"""What bytes of an answer with thinking hold."""
_NAME: Final = re.compile(r"[A-Za-z0-9/][A-Za-z0-9._:/@+-]{0,127}")

Answer = Event | Embedded | int
"""What an operation hands on: chat events, one embedding result, or one token count."""

Take = Callable[[Sequence[Answer]], "Awaitable[None] | None"]
"""Takes what came at once; returns something to wait for when the client is slower than the operator."""


CLIENT_GONE: Final = "client-gone"
STOPPED: Final = "gateway-stopped"
NOT_NEEDED: Final = "not-needed"
WITHDRAWN: Final = "withdrawn"


def aborted_by(cut: asyncio.CancelledError) -> str:
    """Say who ended a request: a client that left says nothing, a gateway that stops gives a reason.

    A step of a cascade that nobody needs any more is cancelled with ``NOT_NEEDED``, work in the queue that
    its caller cancels or that is erased with ``WITHDRAWN``.
    """
    if cut.args in {(NOT_NEEDED,), (WITHDRAWN,)}:
        return str(cut.args[0])
    return STOPPED if cut.args else CLIENT_GONE


class AttemptReport(msgspec.Struct, kw_only=True):
    """What became of one dispatch; filled while it runs, final when the attempt is over.

    ``delivered_bytes`` counts UTF-8 bytes of answer text, reasoning and tool arguments handed on,
    ``thought_bytes`` those of them that were reasoning, ``pieces`` the deltas they came in. ``sent`` is False
    when no byte can have reached the operator.
    Of ``total_ms`` the client took ``waited_ms``, in which it did not read.
    """

    number: int
    attempt: Attempt
    started_at_ms: int
    status: AttemptStatus = "failed"
    sent: bool = True
    usage: Usage | None = None
    delivered_bytes: int = 0
    thought_bytes: int = 0
    pieces: int = 0
    first_token_ms: int | None = None
    total_ms: int | None = None
    waited_ms: int = 0
    fault: str = ""
    http_status: int | None = None
    model: str | None = None
    whole: bool = False
    answer: Whole | None = None


class World(Protocol):
    """What an execution needs of the world; the composition root provides it."""

    def engine(self, deployment: str) -> Engine:
        """Return the driver of a deployment."""

    def recheck(self, deployment: str) -> bool:
        """Re-decide with the reference policy engine; False on any doubt (I1)."""

    def dispatch(self, report: AttemptReport) -> None:
        """Record that an attempt is about to leave; raises ``Unavailable`` when it cannot be recorded."""

    def allows(self, deployment: str) -> bool:
        """Tell whether the circuit breaker lets an attempt through now."""

    def record(self, deployment: str, fault: EngineFault | None, total_ms: int) -> None:
        """Tell the circuit breaker how an attempt ended."""

    def backoff_ms(self, retry: int, retry_after_ms: int | None) -> int:
        """Return how long to wait before retry number ``retry`` (from 1)."""

    def now_ms(self) -> int:
        """UTC milliseconds."""

    def elapsed_ms(self) -> int:
        """Milliseconds of a monotonic clock since the request was received."""


class Execution:
    """One plan being carried out for one request.

    Args:
        attempts: the plan's attempts, in order.
        operate: carries out the operation on an engine, handing on what comes of it.
        world: clocks, engines, policy and breaker.
        deadline_ms: after so many milliseconds since receipt no attempt begins, or None.
        reports: where to put what became of each attempt; who made the world keeps it.

    """

    def __init__(
        self,
        attempts: tuple[Attempt, ...],
        operate: Callable[[Engine, Attempt, Take], Awaitable[None]],
        world: World,
        deadline_ms: int | None,
        reports: list[AttemptReport] | None = None,
    ) -> None:
        self._attempts, self._operate, self._world = attempts, operate, world
        self._deadline_ms = deadline_ms
        self.reports: list[AttemptReport] = [] if reports is None else reports
        self._begun = self._barred = False
        self._last: EngineFault | None = None
        self._taken: Exception | None = None

    async def run(self, take: Take) -> None:
        """Hand on what comes of the first attempt that succeeds; what ``take`` raises passes through.

        Raises:
            Unavailable: every lawful attempt failed, or the answer broke after it had begun.
            Invalid: the operators blame the request itself (too long for every context, malformed).
            Integrity: the two policy keys disagree on every attempt.

        """
        for attempt in self._attempts:
            for retry in range(attempt.retries + 1):
                if (retry or self._deadline_ms is not None) and not await self._pause(retry):
                    break
                if not self._passes(attempt.deployment):
                    break
                try:
                    await self._one(self._open(attempt), take)
                except EngineFault as fault:
                    self._last = fault.anew()
                    if self._begun:
                        raise self._broken(fault) from fault
                    if fault.kind not in RETRYABLE:
                        break
                else:
                    return
        raise self._exhausted()

    def _open(self, attempt: Attempt) -> AttemptReport:
        report = AttemptReport(
            number=len(self.reports) + 1, attempt=attempt, started_at_ms=self._world.now_ms()
        )
        self._world.dispatch(report)
        self.reports.append(report)
        return report

    async def _one(self, report: AttemptReport, take: Take) -> None:
        world, name = self._world, report.attempt.deployment
        start = world.elapsed_ms()
        fault: EngineFault | None = None
        try:
            await self._operate(world.engine(name), report.attempt, self._noting(report, take, start))
            if not report.whole:
                fault = EngineFault("truncated", "the driver ended without an end mark")
                raise fault  # noqa: TRY301  (a driver that breaks its contract is a fault like any other)
            report.status = "answered"
        except EngineFault as error:
            fault = error
            report.fault, report.http_status = str(error), error.status
            report.sent = error.sent or self._begun
            raise
        except asyncio.CancelledError as cut:
            report.status, report.fault = "aborted", aborted_by(cut)
            raise
        except Exception as error:
            if isinstance(error, AllodError) or error is self._taken:
                raise
            fault = EngineFault("malformed", f"driver error: {type(error).__name__}")
            report.fault = str(fault)
            raise fault from error
        finally:
            report.total_ms = world.elapsed_ms() - start
            _weigh(report)
            self._tell(report, fault)

    def _tell(self, report: AttemptReport, fault: EngineFault | None) -> None:
        """Tell the breaker what speaks for or against the deployment, not what its client did."""
        total_ms = report.total_ms or 0
        unread = fault is not None and fault.kind == "timeout" and report.waited_ms * 2 > total_ms
        if report.status != "aborted" and not unread:
            self._world.record(report.attempt.deployment, fault, total_ms - report.waited_ms)

    def _noting(self, report: AttemptReport, take: Take, start: int) -> Take:
        """Return a ``take`` that notes what goes through it, and whether an error was the taker's."""

        def noting(items: Sequence[Answer]) -> Awaitable[None] | None:
            if report.first_token_ms is None:
                report.first_token_ms = self._world.elapsed_ms() - start
            for item in items:
                if type(item) is Chunk and not item.reasoning and not item.tool_calls:
                    text = item.text  # nearly every piece of a stream: as ``_note`` does, but at once
                    if text:
                        report.delivered_bytes += len(text) if text.isascii() else len(text.encode())
                        report.pieces += 1
                else:
                    _note(report, item)
            self._begun = self._begun or bool(items)
            try:
                wait = take(items)
            except Exception as error:
                self._taken = error
                raise
            return None if wait is None else self._waited(report, wait)

        return noting

    async def _waited(self, report: AttemptReport, wait: Awaitable[None]) -> None:
        """Wait for a client, and note for how long: that is none of the operator's time."""
        start = self._world.elapsed_ms()
        try:
            await wait
        finally:
            report.waited_ms += self._world.elapsed_ms() - start

    def _passes(self, deployment: str) -> bool:
        """Ask law and breaker; the breaker last, as asking may take its one probe."""
        if not self._world.recheck(deployment):
            self._barred = True
            return False
        return self._world.allows(deployment)

    async def _pause(self, retry: int) -> bool:
        """Wait before a retry; False when that outlasts the deadline or our patience, or it has passed."""
        world, left = self._world, None
        if self._deadline_ms is not None:
            left = self._deadline_ms - world.elapsed_ms()
        if retry == 0:
            return left is None or left > 0
        wait = world.backoff_ms(retry, self._last.retry_after_ms if self._last else None)
        if not worth_waiting(wait, left):
            return False
        await asyncio.sleep(wait / 1000)
        return True

    def _broken(self, fault: EngineFault) -> AllodError:
        kind: UnavailableKind = "timeout" if fault.kind == "timeout" else "failed"
        return Unavailable(
            "the answer broke off and is not whole",
            str(fault),
            "ask again; what has arrived must not be taken for a complete answer",
            kind=kind,
        )

    def _exhausted(self) -> AllodError:
        fault = self._last
        if fault is None and self._barred:
            return Integrity(
                "the two policy engines disagree, so nothing was sent",
                "the reference engine does not allow what the compiled path allowed",
                "report this: it is a fault of Allod, and it failed closed",
            )
        if fault is None:
            late = self._deadline_ms is not None and self._world.elapsed_ms() >= self._deadline_ms
            return Unavailable(
                "no lawful deployment could be tried",
                "the deadline passed" if late else "their circuit breakers are open after repeated failures",
                "try again shortly",
                kind="timeout" if late else "down",
                retry_after_ms=None if late else 1000,
            )
        if fault.kind == "too_long":
            return Invalid("the request is longer than the context", fault.detail, "shorten it")
        if fault.kind == "request":
            return Invalid("the operator rejects the request", fault.detail, "correct the request")
        if fault.kind in ("unavailable", "connect") and not fault.sent:
            return Unavailable("no lawful deployment is up", str(fault), "see `allod doctor`", kind="down")
        tried = len(self.reports)
        return Unavailable(
            f"every lawful attempt failed ({tried} made)",
            str(fault),
            "try again later",
            kind="timeout" if fault.kind == "timeout" else "failed",
            retry_after_ms=fault.retry_after_ms,
        )


def named(model: str | None) -> str | None:
    """Return the name an operator answered with, if it is one: what it writes there goes into a leaf (I9)."""
    return model if not model or _NAME.fullmatch(model) else NOT_A_NAME


def _note(report: AttemptReport, item: Answer) -> None:
    if type(item) is Chunk:
        size = _size(item)
        if size:
            report.delivered_bytes += size
            report.pieces += 1
            if item.reasoning:
                report.thought_bytes += len(item.reasoning.encode())
    elif isinstance(item, UsageReport):
        report.usage = item.usage
    elif isinstance(item, Finished):
        report.whole, report.model = True, named(item.model)
    elif isinstance(item, Whole):
        report.answer = item
    elif isinstance(item, Embedded):
        report.whole, report.model, report.usage = True, named(item.model), item.usage
    elif isinstance(item, int):
        report.whole = True


def _weigh(report: AttemptReport) -> None:
    """Count what a whole answer delivered where the operator's report will not do.

    That is where there is none, no output in it, or thinking it may call output.
    """
    answer, report.answer = report.answer, None
    usage = report.usage
    if answer is None or (usage is not None and usage.total_output_tokens and not _untold(report, answer)):
        return
    thought = ""
    try:
        body = answer.body if answer.body is not None else msgspec.json.decode(answer.raw or b"{}")
        messages = [c["message"] for c in body["choices"]] if "choices" in body else [body]
        thought = "".join(_texts([*map(_thinking, messages)]))
        text = "".join(
            _texts([m.get("content"), m.get("reasoning_content"), m.get("tool_calls")] for m in messages)
        )
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        text = (answer.raw or b"").decode("utf-8", "replace")
    if text:
        report.delivered_bytes, report.pieces = len(text.encode()), 1
        report.thought_bytes = min(report.delivered_bytes, len(thought.encode()))


def _untold(report: AttemptReport, answer: Whole) -> bool:
    """Tell whether a report without reasoning tokens is about an answer with thinking."""
    if report.usage is not None and report.usage.reasoning_tokens:
        return False
    if report.attempt.effort not in (None, "none"):
        return True
    if answer.raw is not None:
        return any(mark in answer.raw for mark in _THOUGHT)
    return any(map(_thinking, (c.get("message") or {} for c in (answer.body or {}).get("choices", ()))))


def _thinking(message: dict[str, Any]) -> list[str]:
    """Return what a message shows of the thinking behind it: of OpenAI's form or of Anthropic's."""
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    shown = [message.get("reasoning_content"), *(b.get("thinking") for b in blocks if isinstance(b, dict))]
    return [text for text in shown if isinstance(text, str) and text]


def _texts(value: object) -> Iterator[str]:
    """Yield every string in a JSON value that is not the name of a type."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key not in {"type", "id", "signature"}:
                yield from _texts(inner)
    elif isinstance(value, Iterable):
        for inner in value:
            yield from _texts(inner)


def _size(chunk: Chunk) -> int:
    """UTF-8 bytes of what a client received with this piece: text, reasoning, tool names and arguments."""
    size = len(chunk.text) if chunk.text.isascii() else len(chunk.text.encode())
    if chunk.reasoning:
        size += len(chunk.reasoning.encode())
    for call in chunk.tool_calls:
        size += len(call.arguments.encode()) + len(call.name or "")
    return size
