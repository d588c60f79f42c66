"""What is decided about a request, and kept: law, then plan, then the record that lets it be decided again.

The same functions serve the running gateway and ``allod explain``; they differ only in the health they are
given.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.admission.admit import kind_of
from allod.admission.sizes import bucket
from allod.domain.decision import Estimated, NearestChange, Plan
from allod.domain.errors import Invalid, Refused, Unavailable
from allod.domain.fleet import CLEAR_TEXT
from allod.metering.rates import Tariffs, tariffs_of
from allod.metering.settle import Bounds
from allod.policy.policy import PolicyQuestion
from allod.receipts.commitment import digest
from allod.receipts.leaves import Exclusions
from allod.receipts.leaves import exclusions as leaf_exclusions
from allod.routing.plan import exclusions, plan
from allod.routing.question import Health, Question, question_of
from allod.routing.record import decision_record, with_promise
from allod.routing.snapshot import snapshot_of
from allod.store.records import MAX_RECORD_BYTES

if TYPE_CHECKING:
    from allod.domain.decision import Eligibility, Exclusion
    from allod.domain.fleet import Fleet
    from allod.domain.request import Admitted
    from allod.gateway.shadow import Shadow
    from allod.metering.book import Book
    from allod.policy.policy import Policy
    from allod.receipts.forms import IntentForm, TerminalForm
    from allod.routing.shadow import Shadowed

MEMO_ENTRIES: Final = 512
"""Over all worlds: with twenty candidates one takes some 40 KB."""
MEMO_WORLDS: Final = 8
"""Health comes back to what it was: so many states of it are remembered."""
TOO_LARGE: Final = "the difference is too large for the record"
_DAY_MS: Final = 86_400_000
ESTIMATED_ENTRIES: Final = 1024
"""Decisions by estimate that are remembered: estimates are coarse, so that like requests share one."""


class Shared:
    """What requests with one decision share besides it, made when the first of them needs it.

    Attributes:
        intent: the form of their intent leaves.
        terminals: the forms of their answers, by deployment, model, basis and what the driver says of itself.
        bounds: what an attempt at a deployment is reserved for.

    """

    __slots__ = ("bounds", "intent", "terminals")

    def __init__(self) -> None:
        self.intent: IntentForm | None = None
        self.terminals: dict[tuple[Any, ...], TerminalForm] = {}
        self.bounds: dict[str, Bounds] = {}


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Everything decided about one kind of request: shared by all that put the same question.

    ``record`` is the decision record (I8), ``record_digest`` its name in the leaf. ``asked`` is what the
    reference policy engine is asked again before each dispatch.
    """

    asked: PolicyQuestion
    question: Question
    eligibility: Eligibility
    plan: Plan
    excluded: tuple[Exclusion, ...]
    leaf_excluded: Exclusions
    record: bytes
    record_digest: str
    shared: Shared = msgspec.field(default_factory=Shared)

    def relaxed(self, deployment: str) -> tuple[str, ...]:
        """Return the rules that were waived for a deployment."""
        return tuple(rule for name, rule in self.eligibility.relaxed if name == deployment)

    def under(self, promise: tuple[tuple[str, str], ...]) -> Decision:
        """Return the decision with what of a promise its request is answered by in its record (I8).

        Where there is no room for it in the record, it stands in the request's end alone.
        """
        if not promise:
            return self
        record = with_promise(self.record, dict(promise))
        if len(record) > MAX_RECORD_BYTES:
            return self
        return msgspec.structs.replace(self, record=record, record_digest=digest(record), shared=Shared())


_Asked = tuple[Any, ...]
"""What of a request a decision depends on, besides tariffs and health."""
Guesses = tuple[tuple[str, Estimated], ...]
"""What was estimated of a request, by deployment."""
_Guessed = tuple[int, Guesses, tuple[tuple[str, str], ...]]
"""What a decision by estimate depends on: the one without, the estimates, and what made them."""


class _World(msgspec.Struct, frozen=True):
    """Tariffs and health, and what was decided under them."""

    tariffs: Tariffs
    health: Health
    decisions: dict[_Asked, Decision]


class Decider:
    """Law, tariffs and plans of one fleet; memoised by exactly what a decision depends on.

    Args:
        policy: the packs in force over this fleet.
        fleet: with what the vault verified.
        book: the price book, or None when no deployment names it.
        shadow: packs evaluated beside those in force.

    Attributes:
        snapshot: the fleet as bytes; records name it, so that they can be simulated when it has changed.

    """

    def __init__(self, policy: Policy, fleet: Fleet, book: Book | None, shadow: Shadow | None = None) -> None:
        self.policy, self.fleet, self._book = policy, fleet, book
        self.shadow, self.snapshot = shadow, snapshot_of(fleet)
        self._tariffs: Tariffs | None = None
        self._worlds: list[_World] = []
        self._day: tuple[int, date] = (-1, date.min)
        self._estimated: dict[_Guessed, tuple[Decision, Decision]] = {}

    def day(self, at_ms: int) -> date:
        """Return the UTC day of a time."""
        number = at_ms // _DAY_MS
        if self._day[0] != number:
            self._day = (number, datetime.fromtimestamp(at_ms // 1000, UTC).date())
        return self._day[1]

    def tariffs(self, at_ms: int) -> Tariffs:
        """Return the tariffs in force at a time."""
        if self._tariffs is None or not self._tariffs.hold_at(at_ms):
            self._tariffs = tariffs_of(self.fleet, self._book, at_ms)
        return self._tariffs

    def decide(self, admitted: Admitted, health: Health, *, link_up: bool = True) -> Decision:
        """Decide about an admitted request.

        Raises:
            Invalid: as ``Policy.eligible``.
            Integrity: the facts do not fit the schema.

        """
        at_ms, sizes = admitted.received_at_ms, admitted.sizes
        tariffs, worlds = self.tariffs(at_ms), self._worlds
        if worlds and worlds[0].tariffs is tariffs and worlds[0].health is health:
            memo = worlds[0].decisions
        else:
            memo = self._memo(tariffs, health)
        asked = (
            admitted.kind or kind_of(admitted), bucket(sizes.input_tokens), sizes.max_output_tokens,
            sizes.choices, link_up, at_ms // _DAY_MS, sizes.expected_tokens,
        )  # fmt: skip
        known = memo.get(asked)
        if known is None:
            known = self._decide(admitted, health, link_up=link_up)
            if sum(len(world.decisions) for world in self._worlds) >= MEMO_ENTRIES:
                self._worlds = self._worlds[:1]
                memo.clear()
            memo[asked] = known
        return known

    def estimated(
        self, known: Decision, estimates: Guesses, estimator: tuple[tuple[str, str], ...]
    ) -> Decision:
        """Plan a decided request again, by what was estimated of it: law and candidates stay as they are.

        Args:
            known: what was decided without estimates.
            estimates: of deployments that could serve it by that decision; others are left out.
            estimator: what the record says of whence they are.

        Returns:
            The decision with the estimates in its record (I8); ``known`` where there is no room for them.

        """
        able = {one.deployment for one in known.plan.candidates if one.eligible}
        asked = id(known), estimates, estimator
        found = self._estimated.get(asked)
        if found is not None and found[0] is known:
            return found[1]
        lawful = tuple(one for one in estimates if one[0] in able)
        question = msgspec.structs.replace(known.question, estimates=lawful)
        made = self._make(known.asked, known.eligibility, question, dict(estimator))
        if len(made.record) > MAX_RECORD_BYTES:
            made = known
        if len(self._estimated) >= ESTIMATED_ENTRIES:
            self._estimated.clear()
        self._estimated[asked] = known, made
        return made

    def _memo(self, tariffs: Tariffs, health: Health) -> dict[_Asked, Decision]:
        """Return what was decided under these tariffs and this health; the newest such world comes first."""
        worlds = self._worlds
        found = next((w for w in worlds if w.tariffs is tariffs and w.health == health), None)
        if found is not None:
            worlds.remove(found)
        fresh = _World(tariffs, health, {} if found is None else found.decisions)
        self._worlds = [fresh, *worlds[: MEMO_WORLDS - 1]]
        return fresh.decisions

    def _decide(self, admitted: Admitted, health: Health, *, link_up: bool) -> Decision:
        asked = self._asked(admitted, link_up=link_up)
        eligibility, at_ms = self.policy.eligible(asked), admitted.received_at_ms
        question = question_of(admitted, eligibility, self.fleet, self.tariffs(at_ms), health)
        return self._make(asked, eligibility, question)

    def _asked(self, admitted: Admitted, *, link_up: bool) -> PolicyQuestion:
        return PolicyQuestion(
            app=admitted.app,
            classes=admitted.classes,
            day=self.day(admitted.received_at_ms),
            purpose=admitted.purpose,
            link_up=link_up,
            pseudonymised=self.fleet.apps[admitted.app].pseudonymise and CLEAR_TEXT not in admitted.needs,
        )

    def foreseen(self, admitted: Admitted, *, link_up: bool = True) -> tuple[Plan, int]:
        """Return what would be planned for a request received at its time, and until when (UTC ms).

        Law, tariffs and day are those of that time as known now; every deployment is taken to be up. Nothing
        of it is recorded or remembered.

        Raises:
            Invalid, Integrity: as ``decide``.

        """
        at_ms = admitted.received_at_ms
        eligibility = self.policy.eligible(self._asked(admitted, link_up=link_up))
        tariffs = tariffs_of(self.fleet, self._book, at_ms)
        made = plan(question_of(admitted, eligibility, self.fleet, tariffs, Health()))
        midnight = (at_ms // _DAY_MS + 1) * _DAY_MS
        return made, midnight if tariffs.valid_until_ms is None else min(midnight, tariffs.valid_until_ms)

    def _make(
        self,
        asked: PolicyQuestion,
        eligibility: Eligibility,
        question: Question,
        estimator: dict[str, str] | None = None,
    ) -> Decision:
        made = plan(question)
        excluded = exclusions(made)
        flags: dict[str, bool | int | str] = {
            "link_up": asked.link_up,
            "air_gapped": self.fleet.tenant.air_gapped,
            "day": f"{asked.day}",
            "pseudonymised": asked.pseudonymised,
        }
        record = self._record(asked, question, made, flags, estimator)
        return Decision(
            asked=asked,
            question=question,
            eligibility=eligibility,
            plan=made,
            excluded=excluded,
            leaf_excluded=leaf_exclusions(excluded),
            record=record,
            record_digest=digest(record),
        )

    def _record(
        self,
        asked: PolicyQuestion,
        question: Question,
        made: Plan,
        flags: dict[str, bool | int | str],
        estimator: dict[str, str] | None,
    ) -> bytes:
        """Write the record; a shadow for which there is no room in it is left at saying so."""
        shadow = self.shadow
        seen = None if shadow is None else shadow.compare(asked, question.eligibility, question, made)

        def written(seen: Shadowed | None) -> bytes:
            return decision_record(
                question,
                made,
                flags,
                configuration=self.snapshot.digest,
                shadow=seen,
                estimator=estimator,
            )

        record = written(seen)
        if shadow is not None and len(record) > MAX_RECORD_BYTES:
            record = written(shadow.failed(TOO_LARGE))
        return record

    def nearest(self, decision: Decision) -> tuple[NearestChange, ...]:
        """Return the nearest change per excluded candidate: of law where law decides, else of the plan."""
        names = {one.deployment for one in decision.excluded}
        law = tuple(n for n in self.policy.nearest(decision.asked) if n.deployment in names)
        return (*law, *decision.plan.nearest)

    def require(self, decision: Decision) -> None:
        """Let a request pass that has something to try.

        Raises:
            Refused: no candidate is lawful and able; with every deciding rule.
            Unavailable: there is one, but it is down.

        """
        if decision.plan.attempts:
            return
        if decision.plan.resting:
            unready = decision.question.health.unready
            why = "; ".join(f"{n}: {unready.get(n, 'resting after failures')}" for n in decision.plan.resting)
            raise Unavailable(
                "no lawful deployment is up", why, "see `allod doctor`", kind="down", retry_after_ms=5000
            )
        if not decision.excluded:
            raise Invalid("no deployment is configured", "the fleet is empty", "add a [[deployment]]")
        rules = sorted({rule.id for one in decision.excluded for rule in one.rules})
        laws = sorted({rule.law for one in decision.excluded for rule in one.rules if rule.law})
        unread = [pack.id for pack in self.policy.packs if not pack.reviewed]
        raise Refused(
            "refused: no deployment may serve this request",
            "decided by "
            + ", ".join(rules)
            + (f" ({'; '.join(laws)})" if laws else "")
            + (f"; no person has reviewed pack {', '.join(unread)}" if unread and laws else ""),
            "see `allod.excluded` for each deployment and `allod.nearest` for the nearest change",
            excluded=decision.excluded,
            nearest=self.nearest(decision),
        )
