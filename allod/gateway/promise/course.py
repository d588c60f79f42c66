"""The course of one request under a promise: whom to ask, what to deliver, and the audit afterwards.

Every step is a request of its own, decided by law like any other. The rule in force says what may be
delivered without the reference; everything else is delivered by the reference. A drawn share of requests is
audited after delivery: whoever of base, second and reference was not asked is asked then.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import AllodError
from allod.domain.money import ZERO
from allod.gateway.checks import logprobs
from allod.gateway.checks.replaying import NO_ANSWER
from allod.gateway.promise import answers
from allod.gateway.promise.rules import cascade_of
from allod.gateway.promise.state import day_of, points
from allod.routing.cascade import Answered, step
from allod.routing.cascade import Cascade as Rule
from allod.routing.cascade import Step as RuleStep
from allod.routing.floor import Turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allod.domain.fleet import CascadeTask, Fleet, Task
    from allod.engines.run import Answer
    from allod.gateway.cascade import Cascade, Step
    from allod.gateway.entry import Ask
    from allod.gateway.promise.learning import Gate
    from allod.gateway.promise.promises import Promises
    from allod.gateway.promise.state import Standing
    from allod.receipts.leaves import TerminalFacts
    from allod.routing.features import Features

_NONE: Final = Decimal(0)
"""The floor of a step that is checked or audited before anything of it counts."""


class Course:
    """Answers one request by the rule in force; its strategy, and a tap that begins its audit.

    Args:
        promises: the gateway's.
        ask: the request.
        task: its task. standing: how its promise stands; None where nothing can be promised of it.
        turn: which rule answers, and whether it is audited. draw: by what number that was drawn.
        why: a word for why no rule is used although one is open, or empty.

    Attributes:
        read: what is learned from of the request, where its task learns.

    """

    def __init__(
        self,
        promises: Promises,
        ask: Ask,
        task: Task,
        reference: str,
        standing: Standing | None,
        turn: Turn,
        draw: str,
        why: str = "",
    ) -> None:
        self._promises, self._ask, self._task, self._reference = promises, ask, task, reference
        self.standing, self.turn, self._draw, self._why = standing, turn, draw, why
        self._cascade: Cascade | None = None
        self._asked: dict[str, Step] = {}
        self._answers: dict[str, Answered] = {}
        self._verdicts: dict[str, dict[str, str]] = {}
        self._delivered, self._fell = "", False
        self.read: Features | None = None
        self._gate: Gate | None = None

    def weigh(self, one: Gate) -> None:
        """Take an estimate into account: where the base cannot pay, the reference is asked at once."""
        self._gate = one
        if one.skip:
            self.turn = Turn(rule=None, audit=self.turn.audit)
            self._why = "estimate"

    @property
    def apart(self) -> bool:
        """Whether a rule is in force, which may answer while the reference is down."""
        return self.turn.rule is not None

    @property
    def recorded(self) -> tuple[tuple[str, str], ...]:
        """What the decision record says: the estimate and what it is held against; nothing without one."""
        if self._gate is None or self.standing is None:
            return ()
        said = {"policy": self.standing.policy, "rule": self.turn.rule or "reference", "why": self._why}
        return tuple(sorted({**said, **self._gate.said()}.items()))

    @property
    def _own(self) -> CascadeTask:
        assert self._task.cascade is not None
        return self._task.cascade

    @property
    def _fleet(self) -> Fleet:
        return self._promises.gateway.fleet

    # --- the strategy

    async def __call__(self, cascade: Cascade) -> Step:
        """Run the steps of the rule in force and return the one to deliver."""
        self._cascade = cascade
        cascade.floor = self._said()
        rule = self.turn.rule
        if rule is None or self.standing is None:
            chosen = await self._final(cascade, "reference")
        elif self._ask.parsed.stream and self._own.stream == "base":
            chosen = await self._base_at_once(cascade, rule)
        else:
            chosen = await self._walk(cascade, rule)
        if chosen.status == "failed" and cascade.live is None:
            chosen = await self._fall_back(cascade, chosen)
        self._delivered = chosen.deployment
        return chosen

    async def _fall_back(self, cascade: Cascade, failed: Step) -> Step:
        """Ask whom the organisation named for when the reference cannot answer; no promise is made of that.

        The floor of the request holds for it: it is about what is delivered.
        """
        for name in self._own.fallback:
            cascade.answer = "fallback"
            cascade.floor = self._said(answer="fallback", fallback=name)
            one = self._asked.get(name)
            if one is None or self._ask.admitted.min_quality is not None:
                one = await cascade.step("fallback", name, live=self._ask.parsed.stream)
            if one.status == "answered" or cascade.live is not None:
                self._fell = True
                return one
        cascade.answer = None
        cascade.floor = self._said()
        return failed

    def _said(self, **more: str) -> tuple[tuple[str, str], ...]:
        """Return what the receipt says of the promise."""
        said = {"draw": self._draw, "reference": self._reference, "audit": "yes" if self.turn.audit else "no"}
        said |= {"rule": self.turn.rule or "reference"}
        if self._why:
            said["why"] = self._why
        if self._gate is not None:
            said |= self._gate.said()
        one = self.standing
        if one is not None:
            bound = one.bound()
            said |= {"policy": one.policy, "of": bound.rule, "n": f"{bound.audits}"}
            said |= {"bound": points(bound.change_at_least), "loss": f"{self._own.max_loss:f}"}
            said |= {"confidence": points(bound.confidence)}
            if bound.day is not None:
                said["day"] = day_of(one.state.at_ms)
        said |= self.checks
        return tuple(sorted({**said, **more}.items()))

    @property
    def checks(self) -> dict[str, str]:
        """What was checked of base and second, and what came of it (``checks.replaying`` reads it)."""
        return {name: text for said in self._verdicts.values() for name, text in said.items()}

    async def _final(self, cascade: Cascade, role: str) -> Step:
        """Ask the reference for what is delivered whatever it says; a stream passes through."""
        cascade.floor = self._said()
        one = await cascade.step(role, self._reference, live=self._ask.parsed.stream)
        self._note(one, answers.NOTHING)
        return one

    async def _walk(self, cascade: Cascade, rule: str) -> Step:
        assert self.standing is not None
        plan = cascade_of(rule, self._task, self.standing.who, self._fleet)
        while True:
            said = step(plan, self._in_order(plan))
            if said.deliver is not None:
                cascade.floor = self._said()
                return self._asked[said.deliver]
            if not said.ask:
                return self._asked[self._reference]  # it has no answer, and nothing else may be delivered
            if said.ask == (self._reference,):
                await self._final(cascade, "escalation")
            else:
                await self._together(cascade, said.ask)

    async def _together(self, cascade: Cascade, names: Sequence[str]) -> None:
        roles = {name: "base" if name == self._who_base() else "agreement" for name in names}
        floor = None if self._ask.admitted.min_quality is None else _NONE
        steps = [
            cascade.step(roles[name], name, min_quality=floor, logprobs=self._sure(name)) for name in names
        ]
        if len(steps) == 1:
            await self._look(await steps[0])
            return
        await self._look(*await asyncio.gather(*map(asyncio.create_task, steps)))

    async def _base_at_once(self, cascade: Cascade, rule: str) -> Step:
        """Stream the base's answer while it comes, marked; what broke before it began is asked elsewhere."""
        base = self._who_base()
        cascade.answer = "base"
        cascade.floor = self._said(answer="base")
        floor = None if self._ask.admitted.min_quality is None else _NONE
        one = await cascade.step("base", base, live=True, min_quality=floor, logprobs=self._sure(base))
        await self._look(one)
        if cascade.live is None:
            cascade.answer = None
            cascade.floor = self._said()
            return await self._walk(cascade, rule)
        cascade.floor = self._said(answer="base", check=self._held(rule, self._answers[base]))
        return one

    def _held(self, rule: str, base: Answered) -> str:
        """Say whether what a rule asks of the base's answer alone held; agreement is not asked any more."""
        assert self.standing is not None
        first = cascade_of(rule, self._task, self.standing.who, self._fleet).steps[0]
        alone = tuple(one for one in first.checks if one.kind != "agreement")
        if not alone or base.failed:
            return "none"
        plan = Rule(task=self._task.name, steps=(RuleStep(deployment=base.deployment, checks=alone),),
                    escalate=self._reference)  # fmt: skip
        return "passed" if step(plan, (base,)).deliver is not None else "failed"

    def _who_base(self) -> str:
        assert self.standing is not None
        assert self.standing.who.base is not None
        return self.standing.who.base

    def _in_order(self, plan: Rule) -> tuple[Answered, ...]:
        names = (*(one.deployment for one in plan.steps), plan.escalate)
        return tuple(self._answers[name] for name in names if name in self._answers)

    def _sure(self, name: str) -> bool:
        """Say whether a deployment is asked how sure it was of its words: the base, where a margin counts."""
        return name == self._who_base() and logprobs.wanted(self._own, self._fleet, name, self._ask)

    async def _look(self, *steps: Step) -> None:
        """Check answers that may be delivered in the reference's place, side by side.

        They have at most half of what is left of the request's deadline: the reference must have time too.
        """
        left = None if self._cascade is None else self._cascade.left_ms()
        within_s = None if left is None else left / 2000
        checking, body = self._promises.checking, self._ask.parsed.body
        reading = [checking.read(self._own, body, one.events, within_s) for one in steps]
        for one, found in zip(steps, await asyncio.gather(*reading), strict=True):
            self._note(one, found)

    def _note(self, one: Step, found: answers.Read) -> None:
        """Keep what was read of an answer; one by another model than was proven is none."""
        name = one.deployment
        changed = one.status == "answered" and self._promises.answered_by(self.standing, one)
        self._asked[name] = one
        self._answers[name] = Answered(
            deployment=name,
            key="" if changed else found.key,
            failed=one.status != "answered" or (changed and name != self._reference),
            passed={} if changed else found.passed,
            margin=None if changed or found.margin is None else float(found.margin),
        )
        if name != self._reference:
            none = one.status if one.status != "answered" else "model" if changed else ""
            self._verdicts[name] = self._told(name, found, none)

    def _told(self, name: str, found: answers.Read, none: str) -> dict[str, str]:
        """Say which checks an answer passed, which it failed, its margin, and whether it agrees.

        ``none`` says why there is no answer that may be checked; empty where there is.
        """
        base = self._answers.get(self._who_base())
        of = "base" if name == self._who_base() else "second"
        if found is answers.NOTHING:
            none = none or "unread"
        said = (
            {f"{of}_failed": f"{NO_ANSWER}={none}"}
            if none
            else {
                f"{of}_passed": " ".join(check for check, verdict in found.verdicts if verdict == "passed"),
                f"{of}_failed": " ".join(
                    f"{c}={verdict}" for c, verdict in found.verdicts if verdict != "passed"
                ),
            }
        )
        if self._sure(name) and not none:
            said["margin"] = "unknown" if found.margin is None else f"{found.margin:f}"
        if "agreement" in self._own.check and base is not None and of == "second":
            mine = self._answers[name].key
            said["agreement"] = "passed" if mine and mine == base.key else "failed"
        return {key: text for key, text in said.items() if text}

    # --- after it

    def see(self, items: Sequence[Answer]) -> None:
        """Nothing is read of what is delivered: the steps are."""

    def over(self, facts: TerminalFacts) -> None:
        """Count the request, and audit it where it was drawn."""
        if self.standing is None or self._cascade is None:
            return
        self._count(facts)
        if self.turn.audit and facts.status == "answered":
            self._promises.audit(self)

    def _count(self, facts: TerminalFacts) -> None:
        assert self.standing is not None
        spent = self.standing.spent
        spent.requests += facts.status == "answered" and not self._fell
        paid = facts.total_usd or ZERO
        mine = self._asked.get(self._delivered)
        spent.steps_usd += paid
        spent.checks_usd += paid - (mine.cost_usd if mine is not None else ZERO)
        by_rule = self._delivered != self._reference and not self._fell
        spent.kept_base += facts.status == "answered" and by_rule
        spent.escalated += self.turn.rule is not None and self._reference in self._asked
        spent.fallbacks += self._fell and facts.status == "answered"
        spent.skipped += self._why == "estimate"
        self._promises.keep_soon(self.standing)

    async def audit(self) -> tuple[tuple[int, ...] | None, str, tuple[Step, ...]]:
        """Ask whoever was not asked yet, and compare what each rule would have delivered.

        Returns the differences by rule (0 where it delivers the reference's own or an equal answer, -1 where
        another), or None with one word for why there are none; and the steps made for it.
        """
        assert self.standing is not None
        assert self._cascade is not None
        rules = {
            name: cascade_of(name, self._task, self.standing.who, self._fleet)
            for name in self.standing.promise.ladder
        }
        needed = {one.deployment for rule in rules.values() for one in rule.steps}
        made: list[Step] = []
        for name in (self._reference, *sorted(needed)):  # the reference first: without it the rest is wasted
            if name in self._asked:
                if name == self._reference and self._asked[name].status != "answered":
                    break  # nothing can be held against it
                continue
            try:
                one = await self._cascade.later(
                    "audit",
                    name,
                    min_quality=self._audit_floor(name),
                    logprobs=name != self._reference and self._sure(name),
                )
            except AllodError:
                return None, "not-recorded", tuple(made)
            made.append(one)
            await self._look_later(one)
            if one.status != "answered":
                break
        for name in (self._reference, *needed):
            step_ = self._asked.get(name)
            if step_ is None or step_.status != "answered":
                role = "reference" if name == self._reference else "other"
                return None, f"{role}-{'missing' if step_ is None else step_.status}", tuple(made)
        await self._read_reference()
        differences = [self._difference(rule) for rule in rules.values()]
        if None in differences:
            return None, "not-judged", tuple(made)
        return tuple(one for one in differences if one is not None), "", tuple(made)

    async def _look_later(self, one: Step) -> None:
        """Check an answer that an audit asked for; the request's deadline is over."""
        found = answers.NOTHING
        if one.deployment != self._reference:
            found = await self._promises.checking.read(self._own, self._ask.parsed.body, one.events)
        self._note(one, found)

    async def _read_reference(self) -> None:
        """Read by what the reference's answer is compared; nothing is checked of it."""
        one, known = self._asked[self._reference], self._answers[self._reference]
        key = await self._promises.checking.key(self._own, self._ask.parsed.body, one.events)
        self._answers[self._reference] = msgspec.structs.replace(known, key=key)

    def _audit_floor(self, name: str) -> Decimal | None:
        return None if name == self._reference or self._ask.admitted.min_quality is None else _NONE

    def _difference(self, rule: Rule) -> int | None:
        """Return what a rule would have lost on this request; None where that cannot be told."""
        answered: tuple[Answered, ...] = ()
        while True:
            said = step(rule, answered)
            if said.deliver is not None:
                break
            if not said.ask:
                return None
            answered += tuple(self._answers[name] for name in said.ask)
        if said.deliver == self._reference:
            return 0
        reference = self._answers[self._reference].key
        if not reference:
            return None
        return 0 if self._answers[said.deliver].key == reference else -1

    def reference_cost(self) -> Decimal | None:
        """Return what the reference's answer cost, where it answered."""
        one = self._asked.get(self._reference)
        return one.cost_usd if one is not None and one.status == "answered" else None

    def outcomes(self) -> dict[str, tuple[float, int | None]]:
        """Return of each deployment whether it said what the reference did, and how long its answer was."""
        right = self._answers.get(self._reference)
        if right is None or not right.key:
            return {}
        out = {}
        for name, one in self._answers.items():
            if name == self._reference:
                continue
            end = self._asked[name].end
            length = None if end is None or end.usage is None else end.usage.output_tokens
            out[name] = (float(one.key == right.key), length)
        return out

    @property
    def receipt(self) -> str:
        """The request's receipt."""
        return self._ask.admitted.receipt

    @property
    def ask(self) -> Ask:
        """The request."""
        return self._ask
