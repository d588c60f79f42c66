"""Estimates of a running gateway: which requests are planned by them, and when they are fitted anew.

A request of a task with ``estimate = true`` is decided as any other, and where all that could serve it by
that decision can be estimated, it is planned once more by what is estimated of it. So nobody is estimated
whom the law, a capability or the floor left out, and an estimate lets nobody in. Everything that is wrong
here (no evidence, a damaged file, a fault) leaves the decision as it was made without.

What is fitted comes from evaluations in use and from audits (``gathering``). At the start, when an evaluation
expires, and after so many audits it is made anew in a thread, kept, told in the log, and only then used.
"""

from __future__ import annotations

import asyncio
import contextlib
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from logging import INFO, WARNING
from typing import TYPE_CHECKING, Final

from allod.domain.decision import Estimated
from allod.domain.errors import AllodError
from allod.gateway.estimates import gathering, kept
from allod.gateway.estimates.fitting import Fit, fit, keep
from allod.gateway.estimates.kept import FIT_EVERY, LEAST
from allod.gateway.estimates.words import key_of, prompt_of, read_prompt
from allod.gateway.gateway import LOG
from allod.routing.depth import shallower
from allod.routing.question import quality_of
from allod.store.home import load_keys

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Mapping
    from datetime import date

    from allod.domain.fleet import Fleet
    from allod.gateway.capabilities import InForce
    from allod.gateway.compose import Setting
    from allod.gateway.decide import Decision, Guesses
    from allod.gateway.entry import Ask
    from allod.gateway.estimates.gathering import Gathered
    from allod.gateway.gateway import Gateway
    from allod.routing.estimate import Estimate, Estimator
    from allod.routing.evidence import Evidence, Seen
    from allod.routing.features import Features
    from allod.routing.question import Question

SUBJECT: Final = "estimate"
"""Of the notices that say in the log what is used, and what was dropped."""
_SURFACES: Final = frozenset({"chat", "messages", "responses"})
_NOT_EVALUATED: Final = frozenset({"image", "tools", "embeddings"})
_HUNDREDTH: Final = Decimal("0.01")


class Stopped(Exception):
    """The gateway stops: the fit is not wanted any more."""


@contextlib.asynccontextmanager
async def estimated(gateway: Gateway, setting: Setting) -> AsyncGenerator[list[str]]:
    """Have the tasks with ``estimate = true`` planned by estimates; without one nothing is in anybody's way.

    Yields what to tell whoever starts it.
    """
    tasks = frozenset(name for name, task in gateway.fleet.tasks.items() if task.estimate)
    if not tasks:
        yield []
        return
    estimates = Estimates(gateway, setting, tasks)
    gateway.estimates = estimates
    try:
        yield await estimates.load()
    finally:
        gateway.estimates = None
        await estimates.close()


def coarse(one: Estimate, n: int) -> Estimated:
    """Write an estimate as decisions read it: hundredths, the interval outwards, lengths rounded up.

    So coarse that like requests share a decision: it is not known better than that. Lengths have three
    significant bits after the first.
    """

    def hundredths(value: float, how: str) -> Decimal:
        return Decimal(repr(min(1.0, max(0.0, value)))).quantize(_HUNDREDTH, how).normalize()

    tokens = max(1, round(one.output_tokens))
    step = 1 << max(0, tokens.bit_length() - 4)
    return Estimated(
        success=hundredths(one.success, ROUND_HALF_EVEN),
        low=hundredths(one.low, ROUND_FLOOR),
        high=hundredths(one.high, ROUND_CEILING),
        output_tokens=-(-tokens // step) * step,
        n=n,
    )


def suits(question: Question, fleet: Fleet) -> bool:
    """Tell whether a request is of the kind evaluations ask: plain text, at the task's depth, unpinned."""
    return (
        not question.pinned
        and question.surface in _SURFACES
        and not _NOT_EVALUATED.intersection(question.needs)
        and not question.efforts
        and not shallower(fleet.tasks.get(question.task or ""), question.effort)
    )


def able(decision: Decision) -> tuple[str, ...]:
    """Return who could serve a request by its decision; nobody else is ever estimated (I1)."""
    return tuple(one.deployment for one in decision.plan.candidates if one.eligible)


def pairs_of(
    estimator: Estimator, counts: Mapping[tuple[str, str], int], read: Features, names: Iterable[str]
) -> Guesses:
    """Estimate a request at deployments: all of them, or none where one of them cannot be.

    What is estimated and what is not cannot be put in one order: one is of this request, one of its task.
    """
    names = tuple(names)
    known = [counts.get((read.task, name), 0) for name in names]
    if not names or min(known) < LEAST:
        return ()
    found = estimator.predict(read, names)
    return tuple((name, coarse(found[name], n)) for name, n in zip(names, known, strict=True))


class Estimates:
    """The estimator of a running gateway.

    Args:
        gateway: the object graph. setting: whose home, and which evaluations are in force.
        tasks: those that ask for estimates.

    Attributes:
        used: what is estimated by now, None where nothing is.

    """

    def __init__(self, gateway: Gateway, setting: Setting, tasks: frozenset[str]) -> None:
        self._gateway, self._home, self._tasks = gateway, setting.home, tasks
        self._proven: InForce = setting.proven
        self._key = key_of(load_keys(setting.home).secret)
        self.used: Fit | None = None
        self._open: frozenset[str] = frozenset()
        self._said: tuple[tuple[str, str], ...] = ()
        self._counts: dict[tuple[str, str], int] = {}
        self._day = gateway.decider.day(gateway.now_ms())
        self._audits = gathering.nothing()
        self._told: list[Seen] = []
        self._fresh = 0
        self._fitting: asyncio.Task[None] | None = None
        self._stopping = False

    # --- which requests

    def decided(self, ask: Ask, known: Decision) -> Decision:
        """Return how a decided request is planned: by estimates where there are any, else as it was."""
        if ask.admitted.task not in self._open:
            return known
        try:
            return self._decided(ask, known)
        except Exception as fault:  # noqa: BLE001 (an estimate that breaks is none)
            self._gateway.defect(fault)
            return known

    def _decided(self, ask: Ask, known: Decision) -> Decision:
        day = self._gateway.decider.day(ask.admitted.received_at_ms)
        if day != self._day:
            self._another(day)
        used = self.used
        if used is None or not suits(known.question, self._gateway.fleet):
            return known
        names = able(known)
        task = ask.admitted.task or ""
        if not names or any(self._counts.get((task, name), 0) < LEAST for name in names):
            return known
        read = read_prompt(prompt_of(ask.parsed.body), task, self._key)
        pairs = pairs_of(used.estimator, self._counts, read, names)
        return self._gateway.decider.estimated(known, pairs, self._said) if pairs else known

    def _another(self, day: date) -> None:
        """Stop using what rests on an evaluation that counts no more from this day on."""
        self._day = day
        if self.used is not None and gathering.sources_of(self._proven, day) != self.used.known.sources:
            self._adopt(None)
            self._fit_soon()

    # --- what audits tell

    def audited(self, ask: Ask, reference: str, outcomes: Mapping[str, tuple[float, int | None]]) -> None:
        """Take in an audit: who said what the reference said, and how long the answers were.

        Args:
            ask: the request. reference: whom it was held against.
            outcomes: of each other deployment 1 for the same answer and 0 for another, and its tokens.

        """
        from allod.routing.evidence import Seen  # noqa: PLC0415 (numpy)

        admitted = ask.admitted
        if admitted.task not in self._tasks:
            return
        deployments = self._gateway.fleet.deployments
        right, _, _ = quality_of(deployments[reference], admitted.task, self._day)
        read = read_prompt(prompt_of(ask.parsed.body), admitted.task, self._key)
        for name, (same, tokens) in outcomes.items():
            seen = Seen(
                receipt=admitted.receipt, deployment=name, features=read,
                quality=None if right is None else same * float(right),
                output_tokens=tokens, at_ms=admitted.received_at_ms,
            )  # fmt: skip
            self._told.append(seen)
            if self.used is not None:
                self.used.estimator.update(seen)
        self._fresh += 1
        if self._fresh >= FIT_EVERY:
            self._fit_soon()

    # --- what is used

    async def load(self) -> list[str]:
        """Read what is kept, hold it against what counts now, and have it fitted anew where that differs.

        Returns what to tell whoever starts the gateway; whatever fails here, it starts.
        """
        try:
            return await self._load()
        except Exception as fault:  # noqa: BLE001 (estimates are never a reason not to start)
            self._gateway.defect(fault)
            return [f"estimates are not used: {type(fault).__name__}"]

    async def _load(self) -> list[str]:
        found, gathered, self._audits = await asyncio.to_thread(self._read)
        out = [f"estimates: {why}" for why in gathered.trouble]
        why = found if isinstance(found, str) else _outdated(found[0], found[1].evidence, gathered)
        if not isinstance(found, str) and not why:
            self._adopt(Fit(*found))
            self._fresh = gathered.audits - found[0].audits
        elif why:
            self._notice({"dropped": why}, "estimates are not used before they are fitted anew")
            out.append(f"estimates are not used before they are fitted anew: {why}")
        if self.used is None and not gathered.counts:
            out.append(
                "estimates are asked for, and there is no evidence yet: `allod eval run`, `allod eval use`"
            )
            await asyncio.to_thread(kept.remove, self._home)
        elif self.used is None or self._fresh >= FIT_EVERY:
            self._fit_soon()
        return out

    def _read(self) -> tuple[tuple[kept.Known, Estimator] | str, Gathered, Evidence]:
        gathering.sweep(self._home)
        gathered, told = self._gather(), gathering.audits(self._home)
        return kept.read(self._home), gathered, gathering.nothing() if isinstance(told, str) else told

    def _gather(self) -> Gathered:
        return gathering.gather(self._home, self._proven, self._gateway.store.database, self._day)

    def _adopt(self, made: Fit | None) -> None:
        self.used = made
        if made is None:
            self._open, self._said, self._counts = frozenset(), (), {}
            return
        known = made.known
        self._open = self._tasks & {one.task for one in known.tasks if not one.why}
        self._said = known.said()
        self._counts = {(one.task, name): n for one in known.tasks for name, n in one.outcomes.items()}

    def _fit_soon(self) -> None:
        if (self._fitting is None or self._fitting.done()) and not self._stopping:
            self._fitting = asyncio.get_running_loop().create_task(self._fit())

    async def _fit(self) -> None:
        """Fit in a thread, keep, tell the log, and use it; whatever fails leaves what is used as it is."""
        told, self._told, self._fresh = self._told, [], 0
        try:
            made = await asyncio.to_thread(self._make, told)
        except Stopped:
            self._told = [*told, *self._told]
            return
        except AllodError as fault:
            self._told = [*told, *self._told]
            LOG.warning("estimates are not fitted anew: %s: %s", fault.what, fault.why)
            return
        except Exception as fault:  # noqa: BLE001 (a fit that breaks must not end anything else)
            self._gateway.defect(fault)
            return
        if made is None:
            self._adopt(None)
            return
        for one in self._told:
            made.estimator.update(one)
        known = made.known
        facts = {
            "estimator": known.estimator, "fitted": known.fitted, "day": known.day, "sources": known.sources,
            "requests": f"{known.requests}", "audits": f"{known.audits}",
            "tasks": ", ".join(one.task for one in known.tasks if not one.why) or "none",
        }  # fmt: skip
        if self._notice(facts, "estimates were fitted"):
            self._adopt(made)

    def _make(self, told: list[Seen]) -> Fit | None:
        self._keep(told)
        gathered = self._gather()
        made = fit(gathered, f"{self._day}", self._between)
        if made is None:
            kept.remove(self._home)
        else:
            keep(self._home, made)
        return made

    def _between(self) -> None:
        if self._stopping:
            raise Stopped

    def _keep(self, told: list[Seen]) -> None:
        """Write what audits told to disk, less what was erased since."""
        if not told:
            return
        for one in told:
            self._audits.learn(one)
        lost = [
            one.receipt
            for one in self._audits.all()
            if gathering.erased(self._gateway.store.database, one.receipt)
        ]
        self._audits.erase(lost)
        kept.write_audits(self._home, self._audits.to_bytes())

    def _notice(self, facts: dict[str, str], detail: str) -> bool:
        try:
            self._gateway.notice(SUBJECT, facts, detail)
        except AllodError as fault:
            LOG.warning("estimates: %s: %s", fault.what, fault.why)
            return False
        said = facts.get("dropped") or f"for {facts['tasks']}, from {facts['requests']} cases and audits"
        LOG.log(WARNING if "dropped" in facts else INFO, "%s: %s", detail, said)
        return True

    async def close(self) -> None:
        """End a fit under way, and keep what audits told."""
        self._stopping = True
        if self._fitting is not None:
            await asyncio.gather(self._fitting, return_exceptions=True)
        told, self._told = self._told, []
        with contextlib.suppress(AllodError):
            await asyncio.to_thread(self._keep, told)


def _outdated(known: kept.Known, then: Evidence, now: Gathered) -> str:
    """Say why a kept estimator may not be used any more; empty where it may."""
    if known.sources != now.sources:
        return "other evaluations count now"
    have = {(one.receipt, one.at_ms) for one in now.evidence.all()}
    gone = sum((one.receipt, one.at_ms) not in have for one in then.all())
    return f"{gone} requests it was fitted to were erased or pruned" if gone else ""
