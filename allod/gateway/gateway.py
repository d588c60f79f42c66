"""The object graph of a running gateway, and the steps of the line that touch it."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from allod.admission.admit import Index
from allod.domain.errors import AllodError, Integrity, Unavailable
from allod.engines.outbox import Outbox
from allod.engines.registry import readiness
from allod.gateway.counting import Counters
from allod.gateway.drifting import MOST_BYTES
from allod.gateway.kept import KeptAnswers
from allod.gateway.lineage import ToolCalls
from allod.gateway.opinion import Opinions
from allod.gateway.taps import tell
from allod.receipts.commitment import pseudonym
from allod.receipts.ids import CHANCE_LETTERS, id_prefix, letters, ulid_time
from allod.receipts.leaves import NoticeFacts
from allod.routing.breaker import Breaker
from allod.routing.question import Health

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from allod.domain.fleet import App, Fleet
    from allod.domain.request import Admitted
    from allod.domain.usage import AttemptStatus, LedgerRow
    from allod.engines.contract import Engine
    from allod.gateway.cascade import Strategy
    from allod.gateway.config import Config
    from allod.gateway.decide import Decider, Decision
    from allod.gateway.drifting import Drift
    from allod.gateway.entry import Ask, Entry
    from allod.gateway.estimates.planning import Estimates
    from allod.gateway.preparing import Preparation
    from allod.gateway.promise.promises import Promises
    from allod.gateway.reply import Reply
    from allod.receipts.forms import TerminalForm
    from allod.receipts.leaves import IntentFacts, TerminalFacts
    from allod.store.store import Store

HEALTH_MS: Final = 250
"""How old the picture of breakers and readiness may be: each dispatch asks the breaker again anyway."""
FORGET_MS: Final = 300_000
_SMOOTHING: Final = 0.2
_STOCK_BYTES: Final = 8192
_SECRET_BYTES: Final = 32
LOG: Final = logging.getLogger("allod")


class Latency:
    """How long whole answers take per deployment: a smoothed mean, rounded to half-powers of two.

    What has not been seen for ``FORGET_MS`` is unknown again: a deployment that was slow once and is left out
    for it (``deadline``) would never be measured otherwise. Times are milliseconds of a monotonic clock.
    """

    def __init__(self) -> None:
        self._ms: dict[str, tuple[float, int]] = {}

    def note(self, deployment: str, total_ms: int, at_ms: int) -> None:
        """Add one answer."""
        known, seen = self._ms.get(deployment, (total_ms, at_ms))
        if at_ms - seen > FORGET_MS:
            known = total_ms
        self._ms[deployment] = known + _SMOOTHING * (total_ms - known), at_ms

    def rounded(self, at_ms: int) -> dict[str, int]:
        """Return the means, coarse enough that like requests put the same question."""
        return {name: _coarse(ms) for name, (ms, seen) in self._ms.items() if at_ms - seen <= FORGET_MS}


def _coarse(ms: float) -> int:
    step = 1 << max(0, int(ms).bit_length() - 2)
    return max(1, round(ms / step) * step)


class Chance:
    """Random bytes of the operating system, fetched some pages at a time."""

    def __init__(self) -> None:
        self._stock, self._at = b"", 0

    def draw(self, size: int) -> bytes:
        """Return so many bytes that nobody gets again."""
        at = self._at
        if at + size > len(self._stock):
            self._stock, at = os.urandom(max(_STOCK_BYTES, size)), 0
        self._at = at + size
        return self._stock[at : self._at]


class Gateway:
    """Everything one process needs to answer; built once by ``compose``.

    Args:
        config: the configuration; ``fleet``: its fleet with what the vault verified.
        decider: law and plans. store: keys, journal, log, tables.
        engines: a driver per deployment id.
        secret: 32 bytes behind pseudonyms.
        preparation: what is done to requests before they are decided.
        outbox: by which requests and answers leave, once what they rest on is recorded.

    Attributes:
        strategy_for: which requests are answered in steps, and by which strategy (``cascade``), or None.
            Whoever routes sets it; it sees an admitted request before it is decided.
        promises: what tasks with a cascade promise, or None where none has one.
        estimates: what plans requests of tasks that ask for estimates, or None where none does.
        tells_languages: whether it matters in what language a request is written.
        counters: what is told at ``/metrics``. drift: the watches of tokenizers, once they run.

    """

    def __init__(
        self,
        *,
        config: Config,
        fleet: Fleet,
        decider: Decider,
        store: Store,
        engines: Mapping[str, Engine],
        secret: bytes,
        preparation: Preparation,
        outbox: Outbox | None = None,
    ) -> None:
        self.config, self.fleet, self.decider = config, fleet, decider
        self.preparation = preparation
        self.index, self.chance = Index(fleet, decider.policy.classes), Chance()
        self.outbox = outbox or Outbox()
        self.outbox.before = store.hand_over
        self.store, self.engines = store, engines
        self.breaker, self.latency = Breaker(fleet.deployments), Latency()
        self.tenant_pseudonym = pseudonym(secret, "tenant", fleet.tenant.id)
        self._own = {name: fleet.operator_of(one).own for name, one in fleet.deployments.items()}
        self._apps = {app: pseudonym(secret, "app", app) for app in fleet.apps}
        self._prefix, self._named, self._named_ms = id_prefix(store.keys.origin), "", -1
        self._health, self._health_at = Health(), -HEALTH_MS
        self.strict = config.log.durability == "strict"
        asked, required = config.detect.opinion, config.detect.opinion_required
        self.opinions = None if asked is None else Opinions(asked, required=required)
        self.tool_calls = ToolCalls(os.urandom(_SECRET_BYTES))
        self.kept = KeptAnswers(config.server.cache_bytes, os.urandom(_SECRET_BYTES))
        self.strategy_for: Callable[[Ask], Strategy | None] | None = None
        self.promises: Promises | None = None
        self.estimates: Estimates | None = None
        self.link_up = True
        self.counters = Counters()
        self.tells_languages = any(d.languages is not None for d in fleet.deployments.values()) or any(
            task.languages or task.require_language for task in fleet.tasks.values()
        )
        self.drift: Drift | None = None

    @staticmethod
    def monotonic_ms() -> int:
        """Milliseconds of a clock that never goes back."""
        return time.monotonic_ns() // 1_000_000

    @staticmethod
    def now_ms() -> int:
        """UTC milliseconds."""
        return time.time_ns() // 1_000_000

    def fresh_receipt(self, at_ms: int) -> str:
        """Name a receipt or notice with chance of its own."""
        if at_ms != self._named_ms:
            self._named_ms, self._named = at_ms, self._prefix + ulid_time(at_ms)
        return self._named + letters(self.chance.draw(CHANCE_LETTERS))

    def notice(
        self, subject: str, facts: Mapping[str, str], detail: str = "", at_ms: int | None = None
    ) -> str:
        """Log what is no request, and return its name (raises ``Unavailable``)."""
        now = self.now_ms() if at_ms is None else at_ms
        name = self.fresh_receipt(now)
        self.store.append_notice(
            NoticeFacts(
                id=name, at_ms=now, tenant=self.tenant_pseudonym, subject=subject, detail=detail, facts=facts
            )
        )
        return name

    def app_pseudonym(self, app: str) -> str:
        """Return an app's name in leaves."""
        return self._apps[app]

    def owns(self, app: str, receipt: str) -> bool:
        """Tell whether a receipt is of this home and this app; an unknown one is nobody's."""
        return receipt.startswith(self._prefix) and self.store.owner(receipt) == app

    def app_of(self, key_digest: str, at_ms: int) -> App | None:
        """Return the app a key belongs to, if it is a key and the app is still configured."""
        name = self.store.key_table.lookup(key_digest, at_ms)
        return None if name is None else self.fleet.apps.get(name)

    def health(self) -> Health:
        """Return how the deployments are, at most ``HEALTH_MS`` old."""
        now = self.monotonic_ms()
        if now - self._health_at >= HEALTH_MS:
            unready = {
                name: reason
                for name, engine in self.engines.items()
                if (reason := readiness(engine)) is not None
            }
            fresh = Health(
                resting=self.breaker.resting(now), latency_ms=self.latency.rounded(now), unready=unready
            )
            if fresh != self._health:
                self._health = fresh
            self._health_at = now
        return self._health

    def fitted(self, admitted: Admitted, body: Mapping[str, Any]) -> Admitted:
        """Add to a long request what learned tokenizers are unlikely to make more tokens than of it."""
        drift, sizes = self.drift, admitted.sizes
        if drift is None or sizes.input_tokens <= drift.long_tokens or "image" in admitted.needs:
            return admitted
        known = drift.expected_tokens(body, group_of(admitted))
        return replace(admitted, sizes=replace(sizes, expected_tokens=known)) if known else admitted

    # --- the steps of the line

    def decide(self, admitted: Admitted) -> Decision:
        """Decide: law first, then plan."""
        return self.decider.decide(admitted, self.health(), link_up=self.link_up)

    def decided(self, ask: Ask) -> Decision:
        """Decide a request that is about to be answered: by estimates where its task asks for them."""
        known = self.decide(ask.admitted)
        if self.estimates is not None and ask.source is None:
            known = self.estimates.decided(ask, known)
        return known.under(ask.promise)

    def require(self, ask: Ask, decision: Decision) -> None:
        """Let a request pass that has something to try, or steps that may answer while what is planned rests.

        Raises:
            Refused, Unavailable, Invalid: as ``Decider.require``.

        """
        plan = decision.plan
        if plan.attempts or not (plan.resting and getattr(ask.source, "apart", False)):
            self.decider.require(decision)

    def begin(self, ask: Ask, decision: Decision, intent: tuple[IntentFacts, bytes]) -> int:
        """Record the intent; 503 when there is no room for its end.

        The operating system gets it with the frame of the first attempt, or with that of the end of a request
        that is refused: both before anything is sent.
        """
        facts, leaf = intent
        return self.store.append_intent(
            facts,
            leaf=leaf,
            keep=True,
            app=ask.admitted.app,
            salts=(ask.request_salt, ask.response_salt),
            record=decision.record,
            subject=ask.subject,
        )

    async def durable(self, seq: int) -> None:
        """Wait until what was recorded is on the disk (only with strict durability).

        Raises:
            Unavailable: it never will be.

        """
        await self.store.durable(seq)

    def last(
        self,
        entry: Entry,
        reply: Reply,
        rows: tuple[LedgerRow, ...],
        status: AttemptStatus,
        error: AllodError | None,
    ) -> tuple[AttemptStatus, AllodError | None, bytes]:
        """Make the last bytes of an answer or of its failure; what cannot be said is a failure as well."""
        if status == "answered":
            label = entry.label(rows)
            try:
                usage, block = entry.usage_block(rows, reply.report.block if reply.report else None)
                return status, None, reply.last(label, usage, block)
            except AllodError as fault:
                status, error = "failed", fault
            except Exception as fault:  # noqa: BLE001 (an answer we cannot write is a defect, not a hang)
                self.defect(fault)
                status, error = (
                    "failed",
                    Integrity("a defect of Allod ended this request", type(fault).__name__),
                )
        if error is None:
            error = Unavailable("the request failed")
        return status, error, reply.failure(error, entry.label_of_failure())

    def end(
        self,
        facts: TerminalFacts,
        rows: tuple[LedgerRow, ...],
        form: TerminalForm | None = None,
        *,
        keep: bool = False,
    ) -> int:
        """Record the end and the ledger rows; room for them was kept.

        With ``keep`` the operating system gets them when the outbox is about to send the last bytes.
        """
        return self.store.append_terminal(facts, rows, form=form, keep=keep)

    def over(self, ask: Ask, entry: Entry, rows: tuple[LedgerRow, ...], facts: TerminalFacts) -> None:
        """Tell and count a request whose end is recorded; nothing that fails here may touch its answer."""
        tell(ask.taps, facts)
        try:
            self._count(ask, entry, rows, facts)
        except Exception as fault:  # noqa: BLE001 (a request that is not counted was answered all the same)
            self.defect(fault)

    def _count(self, ask: Ask, entry: Entry, rows: tuple[LedgerRow, ...], facts: TerminalFacts) -> None:
        admitted, status, surface = ask.admitted, facts.status, ask.admitted.surface
        operation = "embeddings" if surface == "embeddings" else "chat"
        self.counters.request(
            admitted.app, admitted.task, facts.deployment or (admitted.model if ask.step else None), status,
            entry.elapsed_ms(), rows, operation, ask.step,
        )  # fmt: skip
        drift = self.drift
        if drift is None or status != "answered" or not rows or surface == "count_tokens":
            return
        row = rows[-1]
        if row.basis != "reported" or admitted.sizes.body_bytes > MOST_BYTES or "image" in admitted.needs:
            return
        body, group = ask.parsed.body, group_of(admitted)
        if ask.covering is not None and not self._own[row.deployment]:
            body = ask.covering.body  # what left, and was billed
        usage, report = row.usage, entry.reports[-1]
        out_bytes = report.delivered_bytes - (report.thought_bytes if usage.reasoning_tokens else 0)
        drift.note(
            row.deployment, group, body, usage.total_input_tokens, out_bytes, usage.output_tokens,
            row.started_at_ms,
        )  # fmt: skip

    def salvage(self, entry: Entry, reply: Reply, fault: Exception, *, gone: bool) -> tuple[int, bytes]:
        """End a request whose end cannot be told as it was: ``failed``, each attempt at its reservation.

        Returns the frame's number and the last bytes for the client.

        Raises:
            Exception: ``fault`` itself, where the log does not take an end, or the client cannot be told.

        """
        if isinstance(fault, Unavailable):
            raise fault
        self.defect(fault)
        error = Integrity("a defect of Allod ended this request", type(fault).__name__, "report it")
        last, said = b"", True
        if not gone:
            try:
                last = reply.failure(error, entry.label_of_failure())
            except Exception as again:  # noqa: BLE001 (then the connection breaks, and that is told)
                self.defect(again)
                said = False
        facts = entry.bare("failed", error, None)
        ended = self.end(facts, ())  # what was delivered is not known for sure
        self.counters.request(*entry.asked_by, None, "failed", entry.elapsed_ms(), (), step=entry.step)
        if not said:
            raise fault
        return ended, last

    @staticmethod
    def defect(fault: BaseException) -> None:
        """Note a defect of ours on standard error, without content of the request."""
        LOG.error("defect: %s at %s", type(fault).__name__, _where(fault))


def group_of(admitted: Admitted) -> str:
    """Name what a tokenizer's work is alike in: the app's task, with tools or without."""
    tools = "+tools" if "tools" in admitted.needs else ""
    return f"{admitted.app}/{admitted.task or ''}{tools}"


def _where(fault: BaseException) -> str:
    """Name the last line of ours in a traceback."""
    place, trace = "unknown", fault.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if "allod" in code.co_filename:
            place = f"{code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno} {code.co_name}"
        trace = trace.tb_next
    return place
