"""One request under way: what it knows of the world, what its leaves say, what its attempts cost."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.chat import ChatCall, EmbedCall
from allod.domain.errors import Integrity
from allod.domain.money import ZERO, plain
from allod.domain.usage import LedgerRow, Usage
from allod.engines.contract import EngineFault, deliver
from allod.engines.run import CLIENT_GONE, Execution
from allod.gateway.reply import Labelled
from allod.metering.settle import AttemptFacts, Bounds, Delivered, settle
from allod.metering.usage import openai_block
from allod.receipts.forms import IntentForm, TerminalForm
from allod.receipts.leaves import IntentFacts, TerminalFacts, intent_leaf
from allod.routing.breaker import backoff_ms, blames_deployment
from allod.routing.question import bounds_of, output_limit

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from decimal import Decimal

    from allod.domain.decision import Attempt
    from allod.domain.errors import AllodError
    from allod.domain.fleet import App
    from allod.domain.request import Admitted
    from allod.domain.usage import AttemptStatus, Basis
    from allod.engines.contract import Description, Engine
    from allod.engines.run import AttemptReport, Take
    from allod.gateway.decide import Decision
    from allod.gateway.gateway import Gateway
    from allod.gateway.preparing import Covering
    from allod.gateway.surfaces.contract import Parsed
    from allod.gateway.taps import Served, Source, Tap
    from allod.receipts.handling import Handling

FORMS: Final = 8
"""Forms of answers kept per decision: an operator may answer with another model name each time."""
TICK_MS: Final = 25
"""So much earlier than its deadline a timer may fire."""
WEAKEST: Final[tuple[Basis, ...]] = ("reserved", "counted", "reported")


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One request as it came in; ``salts`` are 64 random bytes, ``request`` commits to its body.

    ``data`` counts what was found in it and done to it, ``covering`` is what of it may leave to others,
    ``subject`` the person it is about as the application names them, ``parents`` the receipts it stems from.
    ``taps`` look on, ``source`` answers in a deployment's place; ``promise`` is what the record says of how.
    ``step`` is what it is for where it is a step of another request (a role of ``cascade``), else empty.
    """

    app: App
    surface: Any
    parsed: Parsed
    admitted: Admitted
    request: str
    salts: bytes
    started: float
    data: Handling | None = None
    covering: Covering | None = None
    subject: str | None = None
    parents: tuple[str, ...] = ()
    taps: tuple[Tap, ...] = ()
    source: Source | None = None
    promise: tuple[tuple[str, str], ...] = ()
    step: str = ""

    @property
    def request_salt(self) -> bytes:
        """The salt of the commitment to the request."""
        return self.salts[:32]

    @property
    def response_salt(self) -> bytes:
        """The salt of the commitment to the answer."""
        return self.salts[32:]


class Entry:
    """The state of one request between its two leaves; the ``World`` of its execution."""

    def __init__(self, gateway: Gateway, ask: Ask, decision: Decision) -> None:
        self._gateway, self._ask, self.decision = gateway, ask, decision
        self.reports: list[AttemptReport] = []
        self.aborted_by = CLIENT_GONE
        self.served: Served | None = None

    @property
    def _counts(self) -> bool:
        return self._ask.admitted.surface == "count_tokens"

    @property
    def step(self) -> str:
        """What it is a step for, empty where it is a caller's request."""
        return self._ask.step

    @property
    def asked_by(self) -> tuple[str, str | None]:
        """The app that asks, and its task."""
        return self._ask.admitted.app, self._ask.admitted.task

    def run(self, take: Take) -> Awaitable[None]:
        """Have it answered: by the plan, or by what stands in its place."""
        source = self._ask.source
        return self.execution().run(take) if source is None else source.run(self, take)

    def execution(self) -> Execution:
        """Return the plan, ready to be carried out once; what becomes of it is noted in ``reports``."""
        attempts, deadline_ms = self.decision.plan.attempts, self._ask.admitted.deadline_ms
        return Execution(attempts, self._operate, self, deadline_ms, self.reports)

    # --- what an execution asks of the world

    def engine(self, deployment: str) -> Engine:
        """Return the driver of a deployment."""
        return self._gateway.engines[deployment]

    def recheck(self, deployment: str) -> bool:
        """Re-decide with the reference engine, which has the last word before dispatch (I1)."""
        return self._gateway.decider.policy.recheck(self.decision.asked, deployment)

    def dispatch(self, report: AttemptReport) -> None:
        """Record the attempt and its reservation before anything leaves (I4)."""
        attempt = report.attempt
        tariff = self.decision.question.tariffs.by_deployment[attempt.deployment]
        assert tariff is not None
        engine = self._gateway.engines[attempt.deployment]
        self._gateway.store.append_attempt(
            self._ask.admitted.receipt,
            report.number,
            attempt.deployment,
            started_at_ms=report.started_at_ms,
            reserve_usd=attempt.reserve_usd,
            input_tokens=self.decision.question.input_tokens,
            price_digest=tariff.digest,
            keep=getattr(engine, "by_outbox", False),
        )

    def allows(self, deployment: str) -> bool:
        """Ask the circuit breaker."""
        return self._gateway.breaker.allows(deployment, self._gateway.monotonic_ms())

    def record(self, deployment: str, fault: EngineFault | None, total_ms: int) -> None:
        """Tell the circuit breaker, and remember how long an answer takes.

        A count of tokens proves nothing: where the operator does not count, nobody was asked.
        """
        if fault is None and self._counts:
            return
        if fault is None or (blames_deployment(fault.kind) and not self._own_doing(fault)):
            self._gateway.breaker.record(deployment, fault is None, self._gateway.monotonic_ms())
        if fault is None:
            self._gateway.latency.note(deployment, total_ms, self._gateway.monotonic_ms())

    def _own_doing(self, fault: EngineFault) -> bool:
        """Tell whether a fault is of our making: the caller's deadline passed, or our own queue was full.

        Who sets deadlines that nothing can meet must not close a deployment to others.
        """
        deadline_ms = self._ask.admitted.deadline_ms
        if fault.kind == "timeout":
            return deadline_ms is not None and self.elapsed_ms() >= deadline_ms - TICK_MS
        return fault.kind == "overloaded" and not fault.sent

    def backoff_ms(self, retry: int, retry_after_ms: int | None) -> int:
        """Return the wait before a retry, with jitter."""
        return backoff_ms(retry, retry_after_ms, random.random())  # noqa: S311 (jitter, not a secret)

    def now_ms(self) -> int:
        """UTC milliseconds."""
        return time.time_ns() // 1_000_000

    def elapsed_ms(self) -> int:
        """Milliseconds since the request was received."""
        return int((time.monotonic() - self._ask.started) * 1000)

    # --- the operation

    def _operate(self, engine: Engine, attempt: Attempt, take: Take) -> Awaitable[None]:
        parsed, admitted = self._ask.parsed, self._ask.admitted
        left = None if admitted.deadline_ms is None else max(1, admitted.deadline_ms - self.elapsed_ms())
        deployment = self._gateway.fleet.deployments[attempt.deployment]
        body, native, dialect = parsed.body, parsed.native, parsed.native_dialect
        if self._ask.app.pseudonymise and not self._gateway.fleet.operator_of(deployment).own:
            body, take = self._covered(take)
            native, dialect = None, "openai"  # a native body would leave uncovered
        if admitted.surface == "embeddings":
            return _embed(engine, EmbedCall(body=body, deadline_ms=left), take)
        call = ChatCall(
            body=body,
            stream=admitted.stream,
            native=native,
            native_dialect=dialect,
            effort=attempt.effort,
            thinking_tokens=deployment.thinking_tokens.get(attempt.effort) if attempt.effort else None,
            max_output_tokens=output_limit(admitted.sizes.max_output_tokens, deployment),
            deadline_ms=left,
        )
        if admitted.surface == "count_tokens":
            return _count(engine, call, take, admitted.sizes.input_tokens)
        return deliver(engine, call, take)

    def _covered(self, take: Take) -> tuple[dict[str, Any], Take]:
        """Return what leaves to another's deployment, and what takes its answer.

        Raises:
            Integrity: there is nothing that may leave; the plan should not have come here.

        """
        covering = self._ask.covering
        if covering is None:
            raise Integrity("this request is not covered by pseudonyms", "it was about to leave", "report it")
        return covering.body, covering.taking(take)

    # --- leaves, rows and labels

    def intent(self) -> tuple[IntentFacts, bytes]:
        """Say what is known before anything is sent: the facts as written, and the leaf."""
        admitted, shared = self._ask.admitted, self.decision.shared
        request = self._ask.request
        if self._ask.data is not None or self._ask.parents:
            known = self._intent(request)
            facts = msgspec.structs.replace(
                known, data=self._ask.data, parents=self._ask.parents, step=self._ask.step or None
            )
            return intent_leaf(facts)
        if shared.intent is None:
            shared.intent = IntentForm(self._intent(request))
        return shared.intent.fill(admitted.receipt, admitted.received_at_ms, request)

    def _intent(self, request: str) -> IntentFacts:
        admitted, decision, gateway = self._ask.admitted, self.decision, self._gateway
        return IntentFacts(
            id=admitted.receipt,
            at_ms=admitted.received_at_ms,
            tenant=gateway.tenant_pseudonym,
            app=gateway.app_pseudonym(admitted.app),
            surface=admitted.surface,
            request=request,
            classes=admitted.classes,
            pack=decision.eligibility.pack_digest,
            fleet=decision.eligibility.fleet_digest,
            decision=decision.record_digest,
            purpose=admitted.purpose,
            task=admitted.task,
            plan=tuple(a.deployment for a in decision.plan.attempts),
            durability=gateway.config.log.durability,
        )

    def rows(self) -> tuple[LedgerRow, ...]:
        """Settle every attempt: one ledger row each, whatever became of it (I4)."""
        return tuple(map(self._row, self.reports))

    def _row(self, report: AttemptReport) -> LedgerRow:
        admitted, name = self._ask.admitted, report.attempt.deployment
        tariff = self.decision.question.tariffs.by_deployment[name]
        assert tariff is not None
        return settle(
            AttemptFacts(
                receipt=admitted.receipt,
                attempt=report.number,
                app=admitted.app,
                task=admitted.task,
                deployment=name,
                started_at_ms=report.started_at_ms,
                status=report.status,
                sent=report.sent and not self._counts,  # no operator charges for counting
                status_code=report.http_status,
                first_token_ms=report.first_token_ms,
                total_ms=report.total_ms,
                detail=report.fault,
            ),
            tariff=tariff,
            bounds=self._bounds(name),
            reported=report.usage,
            delivered=Delivered(
                bytes=report.delivered_bytes,
                pieces=report.pieces,
                thought_bytes=report.thought_bytes,
                thinks=report.attempt.effort not in (None, "none"),
            ),
        )

    def _bounds(self, deployment: str) -> Bounds:
        known = self.decision.shared.bounds
        if deployment not in known:
            known[deployment] = bounds_of(self.decision.question, self._gateway.fleet.deployments[deployment])
        return known[deployment]

    def usage_block(
        self, rows: tuple[LedgerRow, ...], reported: dict[str, Any] | None
    ) -> tuple[Usage, dict[str, Any]]:
        """Return what an answer says was used: the operator's block if the ledger believes it, else ours."""
        if self.served is not None:
            origin = self.served.origin
            usage = (origin.usage if origin is not None else None) or Usage()
            return usage, reported or openai_block(usage)
        row = rows[-1]
        if row.basis == "reported" and reported:
            return row.usage, reported
        return row.usage, openai_block(row.usage)

    def label(self, rows: tuple[LedgerRow, ...] = ()) -> Labelled:
        """Return what the headers say; with rows, what it cost over all attempts."""
        receipt, served = self._ask.admitted.receipt, self.served
        if served is not None and served.origin is not None:
            return self._label_of(served, served.origin)
        if served is not None and served.live is not None:
            return self._label_live(served, served.live)
        if not self.reports:
            return Labelled(receipt=receipt)
        name = self.reports[-1].attempt.deployment
        deployment = self._gateway.fleet.deployments[name]
        return Labelled(
            receipt=receipt,
            deployment=name,
            jurisdiction=deployment.processing.value if deployment.processing else "unknown",
            cost=plain(_cost(rows)) if rows else None,
            simulated=self.description(name).evidence == "simulated",
            effort=self.reports[-1].attempt.effort,
            thinking_tokens=sum(row.usage.reasoning_tokens for row in rows),
        )

    def _label_of(self, served: Served, origin: TerminalFacts) -> Labelled:
        """Return what the headers of another receipt's answer say; all of its cost is known before it."""
        deployment = self._gateway.fleet.deployments[origin.deployment or ""]
        return Labelled(
            receipt=self._ask.admitted.receipt,
            deployment=deployment.id,
            jurisdiction=deployment.processing.value if deployment.processing else "unknown",
            cost=plain(served.cost_usd),
            simulated=origin.evidence == "simulated",
            cached=served.cached,
            answer=served.answer,
            thinking_tokens=0 if origin.usage is None or served.cached else origin.usage.reasoning_tokens,
        )

    def _label_live(self, served: Served, name: str) -> Labelled:
        """Return what the headers say of an answer that is handed on while a step makes it."""
        deployment = self._gateway.fleet.deployments[name]
        return Labelled(
            receipt=self._ask.admitted.receipt,
            deployment=name,
            jurisdiction=deployment.processing.value if deployment.processing else "unknown",
            simulated=self.description(name).evidence == "simulated",
            answer=served.answer,
        )

    def label_of_failure(self) -> Labelled:
        """Return what the headers of a refusal or failure say."""
        return Labelled(receipt=self._ask.admitted.receipt)

    def description(self, deployment: str) -> Description:
        """Return what the driver says of itself."""
        return self._gateway.engines[deployment].describe()

    def bare(self, status: AttemptStatus, error: AllodError | None, response: str | None) -> TerminalFacts:
        """Say how it ended, and nothing of what served it."""
        return TerminalFacts(
            id=self._ask.admitted.receipt,
            at_ms=self.now_ms(),
            status=status,
            reason=self.aborted_by if status == "aborted" else _reason(status, error),
            detail="" if error is None else f"{error.what}: {error.why}" if error.why else error.what,
            response=response,
            excluded=self.decision.leaf_excluded,
        )

    def terminal(
        self,
        status: AttemptStatus,
        error: AllodError | None,
        rows: tuple[LedgerRow, ...],
        response: str | None,
    ) -> tuple[TerminalFacts, TerminalForm | None]:
        """Say how it ended, and for an answer at the first attempt the form of its leaf."""
        if not rows:
            bare = self.bare(status, error, response)
            return bare if self.served is None else self.served.end(bare, self.decision), None
        about = self.description(rows[-1].deployment)
        if status != "answered" or len(rows) != 1 or response is None or self._ask.parents:
            return self._terminal(self.bare(status, error, response), rows, about), None
        row, forms = rows[0], self.decision.shared.terminals
        asked = (row.deployment, self.reports[0].model, row.basis, about)
        form = forms.get(asked)
        if form is None:
            if len(forms) >= FORMS:
                forms.clear()
            ended = self._terminal(self.bare(status, error, response), rows, about)
            form = forms[asked] = TerminalForm(self._intent(""), ended)
        receipt = self._ask.admitted.receipt
        facts = form.of(
            receipt=receipt, at_ms=self.now_ms(), response=response, usage=row.usage, cost_usd=row.cost_usd
        )
        return facts, form

    def _terminal(
        self, ended: TerminalFacts, rows: tuple[LedgerRow, ...], about: Description
    ) -> TerminalFacts:
        row = rows[-1]
        return msgspec.structs.replace(
            ended,
            deployment=row.deployment,
            model=self.reports[-1].model or self._gateway.fleet.deployments[row.deployment].model,
            engine=about.engine,
            engine_version=about.engine_version,
            engine_digest=about.engine_digest,
            weights=about.weights,
            adapter=about.adapter,
            template=about.template,
            sandbox=about.sandbox,
            evidence=about.evidence,
            notice=about.notice,
            conditions=self.decision.eligibility.conditions.get(row.deployment),
            relaxed=self.decision.relaxed(row.deployment),
            usage=_total(rows),
            cost_usd=_cost(rows),
            price_digest=row.price_digest,
            basis=min((r.basis for r in rows), key=WEAKEST.index),
            attempts=len(rows),
        )


async def _embed(engine: Engine, call: EmbedCall, take: Take) -> None:
    take((await engine.embed(call),))


async def _count(engine: Engine, call: ChatCall, take: Take, estimate: int) -> None:
    counted = await engine.count_tokens(call)
    take((estimate if counted is None else counted,))


def _reason(status: AttemptStatus, error: AllodError | None) -> str:
    return "" if error is None else getattr(error, "kind", "law" if status == "refused" else "integrity")


def _cost(rows: tuple[LedgerRow, ...]) -> Decimal:
    return rows[0].cost_usd if len(rows) == 1 else sum((row.cost_usd for row in rows), ZERO)


def _total(rows: tuple[LedgerRow, ...]) -> Usage:
    if len(rows) == 1:
        return rows[0].usage
    names = Usage.__struct_fields__
    return Usage(**{name: sum(getattr(row.usage, name) for row in rows) for name in names})
