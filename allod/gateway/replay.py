"""Worlds in which recorded decisions are made again: a fleet, packs, prices, and the days of their law."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import msgspec

from allod.admission.admit import AUTO, Index, admit
from allod.domain.decision import Eligibility
from allod.domain.errors import AllodError, Integrity, Invalid
from allod.domain.fleet import EFFORTS
from allod.domain.request import Admitted, Labels, Sizes, Surface
from allod.gateway import compose
from allod.gateway.packs import Found as FoundPack
from allod.gateway.packs import Packs
from allod.gateway.shadow import Shadow, told
from allod.metering.rates import Tariffs, tariffs_of
from allod.policy.pack import unknown_name
from allod.policy.policy import Policy, PolicyQuestion
from allod.routing.plan import decide
from allod.routing.question import (
    UNDECIDED,
    DecisionFacts,
    DeploymentFacts,
    Health,
    Question,
    facts_of,
    question_of,
)
from allod.routing.shadow import Shadowed, difference
from allod.routing.simulate import (
    Again,
    Law,
    Past,
    law_of,
    other_fleet,
    same_fleet,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from allod.domain.fleet import Fleet
    from allod.metering.book import Book

LAWS: Final = 4096
"""So many kinds of questions are remembered per world and span of days."""
_NOON_MS: Final = 43_200_000
_DAY_MS: Final = 86_400_000
_EPOCH: Final = date(1970, 1, 1)


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be simulated.

    Attributes:
        packs: every pack there is, those of folders in place of installed ones of the same id.
        installed: those that are installed.
        add, drop: ids of packs put in force beside, or taken out of, those of the fleet.
        today: the fleet as the home configures it now.
        given: another fleet for all decisions; None takes the one each was decided with.
        as_of: the day facts and rules are read as of; None takes the day of each decision.
        check: whether records that nothing should change are written again whole and compared by bytes.
        books: price books that bundles brought, laid over the shipped one.

    """

    packs: Packs
    installed: Packs
    today: Fleet
    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    given: Fleet | None = None
    as_of: date | None = None
    check: bool = False
    books: tuple[Book, ...] = ()

    def names(self, fleet: Fleet) -> tuple[str, ...]:
        """Return the ids of the packs in force in this scenario over a fleet."""
        return tuple(n for n in (*fleet.tenant.packs, *self.add) if n not in self.drop)


def packs_with(packs: Packs, names: Iterable[str]) -> tuple[Packs, tuple[str, ...]]:
    """Read packs named by id or by folder; a pack from a folder takes the place of the one of its id.

    Returns every pack there is then, and the ids that were named.

    Raises:
        Invalid, Integrity: there is no such pack, or the folder holds none.

    """
    found, ids = dict(packs.found), list[str]()
    for name in names:
        folder = Path(name)
        if name not in packs.found and folder.is_dir():
            one = FoundPack(id=_id_in(folder), origin="folder", folder=folder)
            found[one.id] = one
            ids.append(one.id)
        elif name in packs.found:
            ids.append(name)
        else:
            raise unknown_name("--pack names", name, packs.found)
    return Packs(found.values()), tuple(dict.fromkeys(ids))


def _id_in(folder: Path) -> str:
    import tomllib  # noqa: PLC0415 (only when a folder is named)

    try:
        return str(tomllib.loads((folder / "pack.toml").read_text("utf-8"))["id"])
    except (OSError, ValueError, KeyError) as fault:
        raise Invalid(f"{folder} is no pack", f"pack.toml: {fault}", "name the folder of a pack") from fault


class _Span:
    """Days on which the law of one world stands still."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._laws: dict[tuple[object, ...], Law] = {}
        self._prepared: dict[int, tuple[Eligibility, Law]] = {}

    def law(self, asked: PolicyQuestion) -> Law:
        """Return who may see the request, remembered by what is asked."""
        key = asked.app, asked.classes, asked.purpose, asked.link_up, asked.pseudonymised
        known = self._laws.get(key)
        if known is None:
            while len(self._laws) >= LAWS:
                self._laws.pop(next(iter(self._laws)))
            known = self._laws[key] = self._prepare(self.policy.eligible(asked))
        return known

    def _prepare(self, eligibility: Eligibility) -> Law:
        known = self._prepared.get(id(eligibility))
        if known is None:
            while len(self._prepared) >= LAWS:
                self._prepared.pop(next(iter(self._prepared)))
            known = self._prepared[id(eligibility)] = (eligibility, law_of(eligibility))
        return known[1]


class LawThen:
    """The digests of packs and fleet on each day, by the packs that are installed now."""

    def __init__(self, packs: Packs, fleet: Fleet) -> None:
        self._packs, self._fleet = packs, fleet
        self._policy: Policy | None = None
        self._days: dict[date, tuple[str, str] | None] = {}

    def digests(self, day: date) -> tuple[str, str] | None:
        """Return (pack digest, fleet digest), or None if they do not make law over the fleet any more."""
        if day not in self._days:
            self._days[day] = self._digests(day)
        return self._days[day]

    def _digests(self, day: date) -> tuple[str, str] | None:
        try:
            if self._policy is None:
                self._policy = Policy(self._packs.some(self._fleet.tenant.packs), self._fleet)
            return self._policy.digests(day)
        except AllodError:
            return None


class World:
    """One fleet under the packs of a scenario.

    Args:
        scenario: what is simulated.
        kept: the fleet the records were decided with, or None if only the given one is known.

    Raises:
        Invalid: a pack in force then is not there, or law cannot be made of them.

    """

    def __init__(self, scenario: Scenario, kept: Fleet | None) -> None:
        base = scenario.given if scenario.given is not None else kept
        assert base is not None
        self.scenario, self.same = scenario, scenario.given is None
        self.fleet = compose.under(base, scenario.names(base), scenario.packs)
        self._packs = scenario.packs.some(self.fleet.tenant.packs)
        first = Policy(self._packs, self.fleet)
        self._first: Policy | None = first
        self._days: dict[date, _Span] = {}
        self._turns: dict[int | None, _Span] = {}
        self._spans_of = first.valid_until_ms
        self._tariffs: list[tuple[int, Tariffs]] = []
        self._made: dict[tuple[object, ...], tuple[Tariffs, DecisionFacts]] = {}
        self._seals: dict[int, frozenset[str]] = {}
        self._everyone = Eligibility(
            kept=tuple(self.fleet.deployments), excluded=(), conditions={}, relaxed=(), pack_digest="",
            fleet_digest="",
        )  # fmt: skip
        self.book = compose.book_for(self.fleet, scenario.books)
        self.index = Index(self.fleet, first.classes)
        self.unchanged = frozenset[str]() if kept is None else _unchanged(kept, self.fleet)
        weights = self.fleet.sovereignty_weights
        self.restated = scenario.as_of is not None or kept is None or kept.sovereignty_weights != weights
        self._shadow: Shadow | None = None
        self._law_then = None if kept is None else LawThen(scenario.installed, kept)

    def span(self, day: date) -> _Span:
        """Return the law of a day."""
        known = self._days.get(day)
        if known is None:
            turn = self._spans_of(day)
            known = self._turns.get(turn)
            if known is None:
                policy, self._first = self._first or Policy(self._packs, self.fleet), None
                known = self._turns[turn] = _Span(policy)
            self._days[day] = known
        return known

    def tariffs(self, at_ms: int) -> Tariffs:
        """Return the tariffs in force at a time."""
        for since_ms, known in self._tariffs:
            if since_ms <= at_ms and known.hold_at(at_ms):
                return known
        made = tariffs_of(self.fleet, self.book, at_ms)
        self._tariffs.append((at_ms, made))
        return made

    def day(self, past: Past) -> date:
        """Return the day law is read as of."""
        return self.scenario.as_of or day_of(past)

    def repacked(self, past: Past) -> bool:
        """Tell whether a decision was made by other packs than those installed now, as far as is known."""
        if self._law_then is None:
            return False
        digests = self._law_then.digests(day_of(past))
        return digests is None or digests[0] != past.packs

    def again(self, past: Past, at_ms: int) -> tuple[Again, Law]:
        """Make a recorded decision again.

        Raises:
            Invalid: the fleet does not take such a request: no such app, task, class or purpose.
            Integrity: the record does not hold.

        """
        day = self.day(past)
        admitted = None if self.same else self._admitted(past, day)
        law = self.span(day).law(self._asked(past, day, admitted))

        def question() -> Question:
            return self._question(_as_recorded(past, day), law, self.tariffs(at_ms))

        if admitted is None and not self.restated:
            return same_fleet(past, law, self.fleet, question), law
        facts = self._facts(admitted or _as_recorded(past, day), law, self.tariffs(at_ms))
        return other_fleet(past, law, facts, self.unchanged), law

    def shadowed(self, past: Past, again: Again, law: Law, at_ms: int) -> Shadowed | None:
        """Evaluate the shadow of a recorded decision again, where there is one."""
        if not self.fleet.tenant.shadow:
            return None
        if self._shadow is None:
            self._shadow = compose.shadow_of(self.fleet, self.scenario.packs)
        assert self._shadow is not None
        shadow, fleet = self._shadow, self._shadow.fleet
        if fleet is None:
            return shadow.failed(shadow.error)
        day = self.day(past)
        try:
            other = shadow.eligible(self._asked(past, day))
            question = question_of(_as_recorded(past, day), other, fleet, self.tariffs(at_ms), Health())
            beside = other_fleet(past, law_of(other), facts_of(question), frozenset(fleet.deployments))
            live = law.eligibility, decide(again.facts)
            return difference(shadow.packs, live, (other, decide(beside.facts)))
        except Exception as fault:  # noqa: BLE001 (as live)
            return shadow.failed(told(fault))

    def _asked(self, past: Past, day: date, admitted: Admitted | None = None) -> PolicyQuestion:
        app = self.fleet.apps.get(past.asked.app)
        if app is None:
            raise Invalid(f"there is no app {past.asked.app!r}")
        covered = bool(past.flags.get("pseudonymised", False))
        return PolicyQuestion(
            app=past.asked.app,
            classes=past.asked.classes if admitted is None else admitted.classes,
            day=day,
            purpose=past.asked.purpose,
            link_up=bool(past.flags.get("link_up", False)),
            pseudonymised=covered and (self.same or app.pseudonymise),
        )

    def _question(self, admitted: Admitted, law: Law, tariffs: Tariffs) -> Question:
        return question_of(admitted, law.eligibility, self.fleet, tariffs, Health())

    def _facts(self, admitted: Admitted, law: Law, tariffs: Tariffs) -> DecisionFacts:
        """Return what a decision is made of, all candidates up.

        What is estimated depends on neither app, classes nor law, and is remembered without them.
        """
        key = (
            admitted.task, admitted.pinned, admitted.needs, admitted.sizes, id(tariffs),
            admitted.effort, admitted.efforts,
            self._sealed(admitted.received_at_ms),
        )  # fmt: skip
        known = self._made.get(key)
        if known is None:
            while len(self._made) >= LAWS:
                self._made.pop(next(iter(self._made)))
            asked = question_of(admitted, self._everyone, self.fleet, tariffs, Health())
            known = self._made[key] = tariffs, facts_of(asked)  # tariffs live as long as their id is known
        kept, rules = law.kept, law.rules
        return msgspec.structs.replace(
            known[1],
            min_quality=admitted.min_quality,
            max_cost_usd=admitted.max_cost_usd,
            deadline_ms=admitted.deadline_ms,
            effort=admitted.effort,
            efforts=admitted.efforts,
            candidates=tuple(
                [
                    one
                    if one.deployment in kept
                    else DeploymentFacts(
                        deployment=one.deployment,
                        law=rules.get(one.deployment) or (UNDECIDED,),
                        listed=one.listed,
                    )
                    for one in known[1].candidates
                ]
            ),
        )

    def _sealed(self, at_ms: int) -> frozenset[str]:
        """Return the deployments whose sovereignty vector holds on the day of a time."""
        known = self._seals.get(at_ms)
        if known is None:
            day = day_at(at_ms)
            known = self._seals[at_ms] = frozenset(
                name
                for name, one in self.fleet.deployments.items()
                if one.seal is not None and one.seal.holds_on(day)
            )
        return known

    def _admitted(self, past: Past, day: date) -> Admitted:
        """Admit the request to another fleet, all that is recorded of it as its labels: they only tighten."""
        asked, facts = past.asked, past.facts
        app = self.fleet.apps.get(asked.app)
        if app is None:
            raise Invalid(f"there is no app {asked.app!r}")
        labels = Labels(
            classes=asked.classes,
            purpose=asked.purpose,
            task=facts.task,
            min_quality=facts.min_quality,
            max_cost_usd=facts.max_cost_usd,
            deadline_ms=facts.deadline_ms,
            effort=max(facts.efforts, key=EFFORTS.index) if facts.efforts else facts.effort,
        )
        admitted = admit(
            index=self.index,
            app=app,
            surface=cast("Surface", asked.surface),
            model=AUTO,
            labels=labels,
            needs=facts.needs,
            sizes=_sizes(past),
            stream=False,
            receipt="",
            received_at_ms=_noon_ms(day),
        )
        return msgspec.structs.replace(admitted, pinned=asked.pinned)


def _as_recorded(past: Past, day: date) -> Admitted:
    asked, facts = past.asked, past.facts
    return Admitted(
        receipt="",
        received_at_ms=_noon_ms(day),
        app=asked.app,
        surface=cast("Surface", asked.surface),
        classes=asked.classes,
        purpose=asked.purpose,
        task=facts.task,
        model=AUTO,
        pinned=asked.pinned,
        needs=facts.needs,
        sizes=_sizes(past),
        min_quality=facts.min_quality,
        max_cost_usd=facts.max_cost_usd,
        deadline_ms=facts.deadline_ms,
        effort=facts.effort,
        efforts=facts.efforts,
        tier=None,
        stream=False,
    )


def _sizes(past: Past) -> Sizes:
    asked = past.asked
    return Sizes(
        body_bytes=0,
        input_tokens=past.facts.input_tokens,
        max_output_tokens=asked.max_output_tokens,
        choices=asked.choices,
    )


def day_of(past: Past) -> date:
    """Return the UTC day a decision was made on.

    Raises:
        Integrity: the record names none.

    """
    try:
        return date.fromisoformat(str(past.flags["day"]))
    except (KeyError, ValueError) as fault:
        raise Integrity("the decision record names no day", f"got {past.flags.get('day')!r}") from fault


def day_at(at_ms: int) -> date:
    """Return the UTC day of a time."""
    return _EPOCH + timedelta(days=at_ms // _DAY_MS)


def _noon_ms(day: date) -> int:
    return (day - _EPOCH).days * _DAY_MS + _NOON_MS


def _unchanged(kept: Fleet, fleet: Fleet) -> frozenset[str]:
    """Return the deployments an estimate reads the same of in both fleets."""
    return frozenset(
        name
        for name, one in fleet.deployments.items()
        if kept.deployments.get(name) == one and kept.operator_of(one).own == fleet.operator_of(one).own
    )
