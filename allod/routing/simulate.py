"""Decisions made again from their records: under other packs, over another fleet, as of another day.

What is made again is what was recorded: classes, flags, sizes and limits, and for every candidate the law
left its recorded estimates, health and latency. A candidate the law excluded was never estimated; where it
would be lawful now, it is estimated from the fleet and the prices at hand, and taken to be up. Judging and
ordering are those of ``routing.plan``. A record is read in part: the words of its plan are not needed.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from allod.domain.decision import DecidingRule, Eligibility
from allod.domain.errors import Integrity
from allod.domain.fleet import Fleet
from allod.receipts.canonical import canonical
from allod.routing.plan import Choice, choose, decide
from allod.routing.question import UNDECIDED, DecisionFacts, DeploymentFacts, Question, candidate
from allod.routing.record import FORMAT, FORMATS, Recorded, plain_data, write_record
from allod.routing.shadow import Outcome, Shadowed, outcome_of

if TYPE_CHECKING:
    from collections.abc import Callable

Change = Literal["same", "fallbacks", "choice", "denied", "allowed", "down", "up"]
"""What becomes of a request: ``same``; ``fallbacks``: the same first choice, but other candidates behind it
or other law; ``choice``: another first choice; ``denied``: refused now; ``allowed``: was refused; ``down``:
nothing lawful is up any more; ``up``: something is now."""
CHANGES: Final[tuple[Change, ...]] = ("denied", "allowed", "down", "up", "choice", "fallbacks", "same")
NOT_HELD: Final = "the recorded decision does not hold"
REMOVED: Final = "fleet.removed"
"""The rule against a candidate of the record that the other fleet does not have."""
_Against = tuple[str, tuple[DecidingRule, ...]]
_SOME: Final = DecidingRule(id="", law="", got="", required="", source="", remedy="")


class Seen(DeploymentFacts, frozen=True, kw_only=True):
    """A candidate as recorded; the rules of law are left as bytes, one each."""

    law: tuple[msgspec.Raw, ...] = ()  # type: ignore[assignment] # spelled out by nobody who judges


class PastFacts(DecisionFacts, frozen=True, kw_only=True):
    """``DecisionFacts`` as recorded."""

    candidates: tuple[Seen, ...]

    def among(self, candidates: tuple[DeploymentFacts, ...]) -> DecisionFacts:
        """Return the facts of the same decision between these candidates."""
        return DecisionFacts(
            task=self.task,
            needs=self.needs,
            input_tokens=self.input_tokens,
            min_quality=self.min_quality,
            max_cost_usd=self.max_cost_usd,
            deadline_ms=self.deadline_ms,
            effort=self.effort,
            objective=self.objective,
            ordered=self.ordered,
            candidates=candidates,
            efforts=self.efforts,
        )


class PastAsked(msgspec.Struct, frozen=True, kw_only=True):
    """Who asked and how."""

    app: str
    surface: str
    classes: tuple[str, ...]
    purpose: str | None
    pinned: tuple[str, ...]
    max_output_tokens: int | None
    choices: int


class PastAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment the plan would try, with its estimates (quality in [0, 1], USD)."""

    deployment: str
    quality: Decimal | None
    cost_usd: Decimal


class PastPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What was chosen; the words of the plan are left out."""

    attempts: tuple[PastAttempt, ...]
    resting: tuple[str, ...]


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """A decision record, read as far as it takes to make it again; the fields are those of ``Recorded``."""

    format: str
    asked: PastAsked
    flags: dict[str, bool | int | str]
    packs: str
    fleet: str
    facts: PastFacts
    plan: PastPlan
    configuration: str | None = None
    shadow: Shadowed | None = None


_PAST: Final = msgspec.json.Decoder(Past)
_RULE: Final = msgspec.json.Decoder(DecidingRule)


def past_of(record: bytes) -> Past:
    """Read a decision record of either format.

    Raises:
        Integrity: it is none.

    """
    try:
        past = _PAST.decode(record)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as fault:
        raise Integrity("the decision record cannot be read", str(fault), "get it again") from fault
    if past.format not in FORMATS:
        raise Integrity("the decision record has another format", f"got {past.format}, expected {FORMAT}")
    return past


class Law(msgspec.Struct, frozen=True):
    """An eligibility, ready to be held against records; ``written`` are the rules as a record writes them."""

    eligibility: Eligibility
    kept: frozenset[str]
    rules: dict[str, tuple[DecidingRule, ...]]
    written: dict[str, tuple[msgspec.Raw, ...]]


def law_of(eligibility: Eligibility) -> Law:
    """Prepare an eligibility; what is both kept and excluded is excluded."""
    rules = {one.deployment: one.rules for one in eligibility.excluded}
    kept = frozenset(eligibility.kept).difference(rules)
    written = {
        name: tuple(msgspec.Raw(canonical(plain_data(rule))) for rule in against)
        for name, against in rules.items()
    }
    return Law(eligibility, kept, rules, written | dict.fromkeys(kept, ()))


class Again(msgspec.Struct, frozen=True, kw_only=True):
    """A decision made again.

    Attributes:
        facts, choice: what it is made of, and what is chosen; law is bytes where nothing changed.
        before: what the recorded facts lead to, made again as well.
        unlawful: candidates the law left and does not leave now, with the rules against each.
        lawful: candidates the law excluded and leaves now, with the rules that excluded them.
        lost: candidates that could serve and cannot now, whatever the reason; the unlawful among them too.
        prices: digests of the prices newly lawful candidates were estimated with.
        law_same: whether law says of every candidate what the record says, word for word.

    """

    facts: DecisionFacts
    choice: Choice
    before: Choice
    unlawful: tuple[_Against, ...]
    lawful: tuple[_Against, ...]
    lost: tuple[_Against, ...]
    prices: frozenset[str]
    law_same: bool


def same_fleet(past: Past, law: Law, fleet: Fleet, question: Callable[[], Question]) -> Again:
    """Decide again over the fleet the record was decided with, under other law.

    ``question`` is asked for only when a candidate is lawful now that was not; it knows of no health.

    Raises:
        Integrity: the recorded facts do not lead to the recorded plan.

    """
    facts, written = past.facts, law.written
    before = held(past)
    if all(written.get(one.deployment) == one.law for one in facts.candidates):
        return Again(
            facts=facts, choice=before, before=before, unlawful=(), lawful=(), lost=(), prices=frozenset(),
            law_same=True,
        )  # fmt: skip
    asked: Question | None = None
    candidates: list[DeploymentFacts] = []
    for one in facts.candidates:
        name = one.deployment
        if name not in law.kept:
            against = law.rules.get(name) or (UNDECIDED,)
            candidates.append(DeploymentFacts(deployment=name, law=against, listed=one.listed))
        elif not one.law:
            candidates.append(one)
        else:
            asked = asked or question()
            candidates.append(candidate(asked, fleet.deployments[name], {}, listed=one.listed))
    now = facts.among(tuple(candidates))
    again = asked is not None or any(one.estimate is not None for one in candidates)
    choice = choose(now) if again else _without(before, now, law)
    return _again(past, before, now, choice, law_same=False)


def _without(before: Choice, facts: DecisionFacts, law: Law) -> Choice:
    """Choose among fewer of the same candidates: what is left was judged and put in this order already."""
    rules = {one.deployment: against for one, against in before.judged}
    judged = [(one, one.law or rules[one.deployment]) for one in facts.candidates]
    able = [one for one in before.able if one.deployment in law.kept]
    return Choice(judged, able, [one for one in before.up if one.deployment in law.kept])


def other_fleet(past: Past, law: Law, facts: DecisionFacts, unchanged: frozenset[str]) -> Again:
    """Decide again over another fleet, of whose candidates ``facts`` were made without any health.

    Candidates are as well as they were recorded to be; those that are ``unchanged`` keep their recorded
    estimates.

    Raises:
        Integrity: the recorded facts do not lead to the recorded plan.

    """
    seen = {one.deployment: one for one in past.facts.candidates if not one.law}

    def kept(one: DeploymentFacts) -> DeploymentFacts:
        known = seen.get(one.deployment)
        if one.law or known is None:
            return one
        if one.deployment in unchanged:
            if known.listed == one.listed and known.sovereignty == one.sovereignty:
                return known
            return msgspec.structs.replace(known, listed=one.listed, sovereignty=one.sovereignty)
        if known.latency_ms is None and known.unready is None and not known.resting:
            return one
        return msgspec.structs.replace(
            one, latency_ms=known.latency_ms, resting=known.resting, unready=known.unready
        )

    facts = msgspec.structs.replace(facts, candidates=tuple([kept(one) for one in facts.candidates]))
    same = len(facts.candidates) == len(past.facts.candidates) and all(
        one.deployment == then.deployment and law.written.get(then.deployment) == then.law
        for one, then in zip(facts.candidates, past.facts.candidates, strict=True)
    )
    return _again(past, held(past), facts, choose(facts), law_same=same)


def held(past: Past) -> Choice:
    """Make a recorded choice again, from its recorded facts (I8).

    Raises:
        Integrity: the recorded facts do not lead to the recorded plan.

    """
    before = choose(past.facts)
    recorded = tuple([one.deployment for one in past.plan.attempts])
    if before.attempts != recorded or before.down != past.plan.resting:
        theirs, ours = ", ".join(recorded) or "nobody", ", ".join(before.attempts) or "nobody"
        raise Integrity(
            NOT_HELD,
            f"got {theirs}, but its facts lead to {ours}",
            "it was made by another version of Allod, or the record was changed",
        )
    return before


def _again(past: Past, before: Choice, facts: DecisionFacts, choice: Choice, *, law_same: bool) -> Again:
    seen = {one.deployment: one for one in past.facts.candidates}
    unlawful, lawful, prices = list[_Against](), list[_Against](), set[str]()
    for one in facts.candidates:
        then = seen.get(one.deployment)
        was_lawful = then is not None and not then.law
        if one.law and was_lawful:
            unlawful.append((one.deployment, one.law))
        elif not one.law and not was_lawful:
            lawful.append((one.deployment, () if then is None else tuple(map(_RULE.decode, then.law))))
            if one.price is not None:
                prices.add(one.price)
    return Again(
        facts=facts,
        choice=choice,
        before=before,
        unlawful=tuple(unlawful),
        lawful=tuple(lawful),
        lost=_lost(before, choice),
        prices=frozenset(prices),
        law_same=law_same,
    )


def _lost(before: Choice, choice: Choice) -> tuple[_Against, ...]:
    able = {one.deployment for one in choice.able}
    gone = [one.deployment for one in before.able if one.deployment not in able]
    if not gone:
        return ()
    now = {one.deployment: rules for one, rules in choice.judged}
    return tuple((name, now.get(name) or (_removed(name),)) for name in gone)


def _removed(name: str) -> DecidingRule:
    return msgspec.structs.replace(_SOME, id=REMOVED, got=f"no deployment {name}", required="a deployment")


def write_again(recorded: Recorded, again: Again, law: Law, shadow: Shadowed | None) -> bytes:
    """Write the record of a decision made again, as the gateway would have.

    Equal to the recorded bytes where packs, fleet and day are the same (I8); ``shadow`` is evaluated anew.
    """
    facts = msgspec.structs.replace(
        again.facts,
        candidates=tuple(
            msgspec.structs.replace(one, law=law.rules.get(one.deployment, (UNDECIDED,))) if one.law else one
            for one in again.facts.candidates
        ),
    )
    made = msgspec.structs.replace(
        recorded,
        packs=law.eligibility.pack_digest,
        fleet=law.eligibility.fleet_digest,
        facts=facts,
        plan=decide(facts),
        shadow=shadow,
    )
    return write_record(made)


class End(msgspec.Struct, frozen=True):
    """What becomes of a request: outcome, first choice, and its estimates (USD, quality in [0, 1])."""

    outcome: Outcome
    first: str | None
    cost_usd: Decimal | None
    quality: Decimal | None


def end_of(choice: Choice) -> End:
    """Say what becomes of a request by this choice.

    Raises:
        Integrity: an estimate of its first choice is no number.

    """
    if not choice.up:
        return End(outcome_of(0, len(choice.down)), None, None, None)
    first = choice.up[0]
    for amount in (first.cost_usd, first.quality):
        if amount is not None and not amount.is_finite():
            raise Integrity(
                "an estimate is no number", f"got {amount} for {first.deployment}", "get the record again"
            )
    return End("served", first.deployment, first.cost_usd, first.quality)


def change_of(again: Again) -> tuple[Change, End, End]:
    """Return what a decision made again changes, and both ends."""
    if again.choice is again.before:
        end = end_of(again.before)
        return "same", end, end
    before, after = end_of(again.before), end_of(again.choice)
    return _change(again, before, after), before, after


def _change(again: Again, before: End, after: End) -> Change:
    if before.outcome != after.outcome:
        if after.outcome == "refused":
            return "denied"
        if before.outcome == "refused":
            return "allowed"
        return "down" if after.outcome == "down" else "up"
    if before.first != after.first:
        return "choice"
    alike = again.before.attempts == again.choice.attempts and again.before.down == again.choice.down
    return "same" if alike and not again.unlawful and not again.lawful else "fallbacks"
