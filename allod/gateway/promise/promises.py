"""The promises of a running gateway: which requests are answered in steps, their audits, and what is kept.

Nothing here decides what is lawful: it names deployments, and the one line decides about each. A request
whose task has no cascade is looked up in a dict and left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from logging import INFO, WARNING
from typing import TYPE_CHECKING, Final

from allod.domain.errors import AllodError
from allod.domain.money import ZERO
from allod.engines.run import STOPPED
from allod.gateway.checks.checking import Checking
from allod.gateway.checks.probing import sentence
from allod.gateway.gateway import LOG
from allod.gateway.promise import joining, measured
from allod.gateway.promise import state as states
from allod.gateway.promise.answers import checkable
from allod.gateway.promise.choosing import choose
from allod.gateway.promise.course import Course
from allod.gateway.promise.kept import Keeping, kept_names
from allod.gateway.promise.learning import Learning, cost_of, gate
from allod.gateway.promise.rules import ladder, policy_of
from allod.gateway.promise.shown import closed
from allod.gateway.promise.telling import finder
from allod.gateway.promise.telling import keep as keep_told
from allod.routing import floor
from allod.routing.question import facts_of
from allod.store.home import load_keys

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence
    from pathlib import Path

    from allod.domain.decision import Candidate
    from allod.domain.fleet import Task
    from allod.gateway.cascade import Step, Strategy
    from allod.gateway.decide import Decision
    from allod.gateway.entry import Ask
    from allod.gateway.gateway import Gateway
    from allod.gateway.promise.rules import Parties
    from allod.gateway.promise.state import Standing
    from allod.gateway.promise.telling import Telling
    from allod.store.home import Home

MAX_AUDITS: Final = 8
"""Audits under way at once; each holds the answers of its request."""
_SURFACES: Final = frozenset({"chat", "messages", "responses"})
_PARTS: Final = 1_000_000
_UNRECORDED: Final = "not recorded"
_DRAWN_BYTES: Final = 8


@contextlib.asynccontextmanager
async def promised(gateway: Gateway, home: Home) -> AsyncGenerator[list[str]]:
    """Have the tasks with a cascade answered by it; without one, nothing is in anybody's way.

    Yields what to tell whoever starts it: which promises are closed, and why.
    """
    if all(task.cascade is None for task in gateway.fleet.tasks.values()):
        yield []
        return
    promises = Promises(gateway, home)
    gateway.strategy_for, gateway.promises = promises.strategy_for, promises
    listening: asyncio.Task[None] | None = None
    try:
        await promises.load()
        await promises.checking.begin()
        listening = asyncio.create_task(promises.listen())
        shut = await asyncio.to_thread(closed, home, gateway.decider, gateway.decider.day(gateway.now_ms()))
        yield [*shut, *(sentence(task, why) for task, why in promises.checking.unable.items())]
    finally:
        if listening is not None:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        await promises.close()


class Promises:
    """What tasks promise; installed as ``gateway.strategy_for``.

    Args:
        gateway: the object graph. home: where states are kept.

    Attributes:
        standings: those met so far, by task and policy.

    """

    def __init__(self, gateway: Gateway, home: Home) -> None:
        self.gateway = gateway
        self._tasks = {name: task for name, task in gateway.fleet.tasks.items() if task.cascade is not None}
        self.standings: dict[tuple[str, str], Standing] = {}
        self._home = home
        self._policies: dict[tuple[str, str, Parties], str] = {}
        self._keeping = Keeping(home, gateway.store, finder(home))
        self._learning = Learning(home, gateway.store, load_keys(home).secret)
        self._audits: set[asyncio.Task[None]] = set()
        self.checking = Checking(gateway.fleet, gateway.config.check_files)

    async def load(self) -> None:
        """Read, beside the loop, the promises that are in force, and what is estimated with."""
        await asyncio.to_thread(self._load)
        if any(task.cascade is not None and task.cascade.learn for task in self._tasks.values()):
            await asyncio.to_thread(self._learning.load)

    def _load(self) -> None:
        """Read the promises in force: who was proven of stays chosen over a restart."""
        fleet, pack = self.gateway.fleet, self._pack()
        for task, policy, who in kept_names(self._home):
            own = self._tasks.get(task)
            if own is None or own.cascade is None or not who.names <= set(fleet.deployments):
                continue
            if policy_of(own, who, fleet, pack) == policy:
                found = self._keeping.find(task, policy)
                if found is not None and found.promise.ladder == ladder(own.cascade, who):
                    self.standings[task, policy] = found

    def _pack(self) -> str:
        """Return the digest of the law of today."""
        decider = self.gateway.decider
        return decider.policy.digests(decider.day(self.gateway.now_ms()))[0]

    def _known(self, task: str, pack: str) -> list[Standing]:
        """Return the promises of a task under the law of now."""
        of = self._tasks[task]
        return [
            one
            for (name, policy), one in self.standings.items()
            if name == task and self._policy(of, one.who, pack) == policy
        ]

    def _policy(self, task: Task, who: Parties, pack: str) -> str:
        asked = task.name, pack, who
        policy = self._policies.get(asked)
        if policy is None:
            policy = self._policies[asked] = policy_of(task, who, self.gateway.fleet, pack)
        return policy

    # --- which requests, and how

    def strategy_for(self, ask: Ask) -> Strategy | None:
        """Return how a request is answered in steps, None where it is not: no cascade, pinned, or refused."""
        admitted = ask.admitted
        task = self._tasks.get(admitted.task or "")
        if task is None or task.cascade is None or admitted.pinned or admitted.surface not in _SURFACES:
            return None
        decision = self.gateway.decide(admitted)
        health, pack = self.gateway.health(), decision.eligibility.pack_digest
        down = {*health.resting, *health.unready}
        known = self._known(task.name, pack)
        who = choose(task, decision.plan.candidates, self.gateway.fleet, known, down)
        if who is None or ask.source is not None:
            return None
        drawn = int.from_bytes(self.gateway.chance.draw(_DRAWN_BYTES), "big") % _PARTS
        draw = f"0.{drawn:06d}"
        why = checkable(task.cascade, ask.parsed.body, admitted.needs) or _limit(decision, who)
        why = self.checking.unable.get(task.name) or why
        rules = ladder(task.cascade, who)
        if why is not None or not rules:
            turn = floor.Turn(rule=None, audit=False)
            return Course(self, ask, task, who.reference, None, turn, draw, why or "nobody-to-check")
        standing = self.standing(task, who, rules, pack)
        turn = standing.turn(drawn / _PARTS)
        why = "not-kept" if standing.trouble else "blind" if standing.blind and standing.state.open else ""
        course = Course(self, ask, task, who.reference, standing, turn, draw, why)
        if task.cascade.learn:
            self._estimate(course, decision.plan.candidates, who)
        return course

    def _estimate(self, course: Course, candidates: Sequence[Candidate], who: Parties) -> None:
        """Read what is asked where that is learned from, and leave the base out where it cannot pay."""
        rule = course.turn.rule
        if rule is None and not course.turn.audit:
            return
        course.read = read = self._learning.features(course.ask)
        found = None if rule is None or who.base is None else self._learning.estimate(read, who.base)
        second = who.second if rule is not None and "agreement" in rule else None
        first, reference = cost_of(candidates, who.base, second), cost_of(candidates, who.reference)
        if found is not None and first is not None and reference is not None:
            course.weigh(gate(found, first, reference))

    def standing(self, task: Task, who: Parties, rules: tuple[str, ...], pack: str) -> Standing:
        """Return how a promise stands; one that is met for the first time is read, or begun."""
        policy = self._policy(task, who, pack)
        known = self.standings.get((task.name, policy))
        if known is not None:
            return known
        found = self._keeping.find(task.name, policy)
        if found is None or found.promise.ladder != rules:
            assert task.cascade is not None
            found = states.begin(task.name, task.cascade, rules, policy, who, self.gateway.now_ms())
            if not self._notice(found, "promise", states.begun(found), "begins at the reference"):
                return found
        self.standings[task.name, policy] = found
        return found

    def answered_by(self, standing: Standing | None, one: Step) -> bool:
        """Note by what name a deployment answered; returns whether it is another model than before."""
        if standing is None or one.end is None or one.end.model is None:
            return False
        proof, models = standing.proof, dict(standing.models)
        before = standing.changed(one.deployment, one.end.model)
        if before is None:
            return False
        facts = {"changed": one.deployment, "was": before, "is": one.end.model}
        said = "a deployment answers by another name: all is proven anew"
        if not self._notice(standing, "promise", facts, said):
            standing.rest_on(proof)
            standing.models = models  # its next answer is told again
        return True

    # --- audits

    def audit(self, course: Course) -> None:
        """Begin the audit of a request that was delivered."""
        standing = course.standing
        assert standing is not None
        standing.spent.audits += 1
        if len(self._audits) >= MAX_AUDITS:
            self._missed(course, "busy")
            return
        task = asyncio.get_running_loop().create_task(self._audit(course))
        self._audits.add(task)
        task.add_done_callback(self._audits.discard)

    async def _audit(self, course: Course) -> None:
        standing = course.standing
        assert standing is not None
        before = standing.state.shut
        made: Sequence[Step] = ()
        try:
            differences, why, made = await course.audit()
        except asyncio.CancelledError:
            self._missed(course, "stopped")
            raise
        except Exception as fault:  # noqa: BLE001 (an audit that breaks is one that is missing)
            self.gateway.defect(fault)
            differences, why = None, "defect"
        standing.spent.audits_usd += sum((one.cost_usd for one in made), ZERO)
        cost = course.reference_cost()
        if cost is not None:
            standing.spent.sampled += 1
            standing.spent.sampled_usd += cost
            standing.spent.squares += cost * cost
        if differences is None or standing.state.shut != before:
            self._missed(course, why or "model-changed", made)
            return
        self._judged(course, differences, made)
        try:
            self._taught(course, standing)
        except Exception as fault:  # noqa: BLE001 (what is not learned is estimated without)
            self.gateway.defect(fault)

    def _taught(self, course: Course, standing: Standing) -> None:
        """Learn from an audit, where its task asks for that."""
        if course.read is None:
            return
        at_ms, told = course.ask.admitted.received_at_ms, course.outcomes()
        self._learning.learn(course.receipt, at_ms, course.read, told)
        if self.gateway.estimates is not None:
            self.gateway.estimates.audited(course.ask, standing.who.reference, told)

    def _judged(self, course: Course, differences: tuple[int, ...], made: Sequence[Step]) -> None:
        standing, now = course.standing, self.gateway.now_ms()
        assert standing is not None
        before, was = (standing.proof, standing.unseen), standing.bound()
        event = standing.audited(differences, now)
        facts = {"receipt": course.receipt, "differences": " ".join(map(str, differences)), "event": event}
        facts |= _named(made) | course.checks
        said = standing.bound().statement(standing.promise) if event == "opened" else ""
        if event == "shut":
            said = f"audits show that {was.rule} loses more than was promised: the reference answers"
        if not self._notice(standing, "audit", facts, said, now):
            standing.rest_on(before[0])  # what is not in the log is not in the bound
            standing.unseen = before[1]
            standing.missed("not-recorded")

    def _missed(self, course: Course, why: str, made: Sequence[Step] = ()) -> None:
        standing = course.standing
        assert standing is not None
        blind = standing.missed(why)
        facts = {"receipt": course.receipt, "missing": why, **_named(made)}
        said = "too many audits are missing: the reference answers" if blind else ""
        self._notice(standing, "audit", facts, said)

    def _notice(
        self, standing: Standing, subject: str, facts: dict[str, str], detail: str, at_ms: int | None = None
    ) -> bool:
        """Record what enters a state, in the log, then in its file; False where the log does not take it."""
        own = {"task": standing.task, "policy": standing.policy, "state": standing.digest}
        try:
            name = self.gateway.notice(subject, {**facts, **own}, detail, at_ms)
        except AllodError as fault:
            standing.trouble = f"{_UNRECORDED}: {fault.what}"
            return False
        if standing.trouble.startswith(_UNRECORDED):
            standing.trouble = ""
        if detail:
            closing = "changed" in facts or "missing" in facts or facts.get("event") == "shut"
            LOG.log(WARNING if closing else INFO, "task %s: %s", standing.task, detail)
        standing.noticed = name
        self._keeping.keep(standing)
        return True

    def keep_soon(self, standing: Standing) -> None:
        """Have what was counted kept, before long."""
        self._keeping.keep_soon(standing)

    def measured(self) -> Iterator[str]:
        """Yield what is told of promises at ``/metrics``."""
        pack = self._pack()
        return measured.lines(one for task in self._tasks for one in self._known(task, pack))

    # --- what other nodes told

    async def listen(self) -> None:
        """Take in what the command left of other nodes' evidence, for as long as the gateway runs."""
        while True:
            try:
                for path, data, said in await asyncio.to_thread(joining.waiting, self._home):
                    await self._hear(path, data, said)
            except Exception as fault:  # noqa: BLE001 (what cannot be looked for disturbs nothing else)
                self.gateway.defect(fault)
            await asyncio.sleep(joining.EVERY_S)

    async def _hear(self, path: Path, data: bytes, said: Telling) -> None:
        """Take in one file; what cannot be now is tried again, and is in no other's way."""
        try:
            if said.origin != self.gateway.store.keys.origin:
                await self._join(data, said)
            await asyncio.to_thread(path.unlink, missing_ok=True)
        except Exception as fault:  # noqa: BLE001
            self.gateway.defect(fault)

    async def _join(self, data: bytes, said: Telling) -> None:
        digest = await asyncio.to_thread(keep_told, self._home, data)
        outcomes = joining.join(
            said,
            digest,
            fleet=self.gateway.fleet,
            pack=self._pack(),
            at_ms=self.gateway.now_ms(),
            find=self._find,
            record=self._met,
        )
        for one in outcomes:
            if one.outcome == "refused":
                LOG.log(WARNING, "task %s: %s told of its audits: %s", one.task, said.origin, one.why)

    def _find(self, task: str, policy: str) -> Standing | None:
        return self.standings.get((task, policy)) or self._keeping.find(task, policy)

    def _met(self, standing: Standing, facts: dict[str, str], detail: str) -> bool:
        taken = self._notice(standing, "promise", facts, detail)
        if taken:
            self.standings[standing.task, standing.policy] = standing
        return taken

    async def close(self) -> None:
        """End the audits under way, each with its receipt, and keep every state."""
        for task in self._audits:
            task.cancel(STOPPED)
        await asyncio.gather(*self._audits, return_exceptions=True)
        await self._keeping.close(self.standings.values())
        await self._learning.close()
        await self.checking.close()


def _named(made: Sequence[Step]) -> dict[str, str]:
    """Name the requests an audit made, so that they can be found from the one it was of."""
    return {f"made_{n}": one.receipt for n, one in enumerate(made, 1)}


def _limit(decision: Decision, who: Parties) -> str | None:
    """Say so where a request's cost limit could not pay for its audit.

    Otherwise who sets low limits would be answered by a rule that their requests never enter the bound of.
    """
    most = decision.question.max_cost_usd
    if most is None:
        return None
    names = {who.base, who.second, who.reference}
    facts = [one for one in facts_of(decision.question).candidates if one.deployment in names]
    reserved = sum(((one.reserve_usd or ZERO) * (one.retries + 1) for one in facts), ZERO)
    return "limit" if reserved > most else None
