"""How promises are shown to people and programs: the rule in force, what it rests on, and what it saved."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.errors import AllodError
from allod.domain.money import plain
from allod.gateway.promise.answers import key_of
from allod.gateway.promise.choosing import choose
from allod.gateway.promise.kept import every
from allod.gateway.promise.rules import ladder, policy_of
from allod.gateway.promise.state import BLIND, day_of, points
from allod.routing import floor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from allod.domain.decision import Candidate
    from allod.gateway.decide import Decider, Decision
    from allod.gateway.promise.state import Standing
    from allod.store.home import Home

_DIGITS: Final = 4


def in_force(home: Home, decider: Decider, today: date) -> Iterator[tuple[Standing, bool]]:
    """Go through the promises of a home, each with whether it is of the law and fleet as they are now.

    Raises:
        Integrity: a state cannot be read.

    """
    pack, _ = decider.policy.digests(today)
    for one in every(home):
        yield one, _is_current(one, decider, pack)


def _is_current(one: Standing, decider: Decider, pack: str) -> bool:
    task = decider.fleet.tasks.get(one.task)
    if task is None or task.cascade is None or not one.who.names <= set(decider.fleet.deployments):
        return False
    return policy_of(task, one.who, decider.fleet, pack) == one.policy


def closed(home: Home, decider: Decider, today: date) -> list[str]:
    """Say which promises in force are closed for another reason than that nothing is proven yet."""
    try:
        return [
            f"task {named(one)} is answered by {one.who.reference} alone: {why_closed(one)}"
            for one, now in in_force(home, decider, today)
            if now and is_shut(one)
        ]
    except AllodError as error:
        return [f"{error.what}: {error.remedy}"]


def as_json(one: Standing, *, now: bool) -> dict[str, Any]:
    """Say how a promise stands, for a program; money in USD, changes of quality as parts of 1."""
    spent, saving = one.spent, one.saving()
    return {
        "task": one.task,
        "in_force": now,
        "policy": one.policy,
        "reference": one.who.reference,
        "base": one.who.base,
        "second": one.who.second,
        "rule": rule_of(one),
        "why": why_closed(one),
        "max_loss": points(one.promise.loss),
        "rules": [_rule(bound) for bound in floor.bounds(one.promise, one.state)],
        "shut": one.state.shut,
        "answers_as": one.models,
        "since": day_of(spent.since_ms),
        "requests": spent.requests,
        "kept_base": spent.kept_base,
        "skipped": spent.skipped,
        "escalated": spent.escalated,
        "fallbacks": spent.fallbacks,
        "told": {
            name: {"audits": other.state.audits, "counts": name not in one.proof.stale()}
            for name, other in sorted(one.others.items())
        },
        "spent_usd": _usd(spent.steps_usd + spent.audits_usd),
        "checks_usd": _usd(spent.checks_usd),
        "audits": {
            "share": points(one.promise.share),
            "begun": spent.audits,
            "judged": one.proof.mine.audits,
            "missing": spent.missing,
            "unseen": one.unseen,
            "usd": _usd(spent.audits_usd),
        },
        "saving": None
        if saving is None
        else {
            "reference_usd": _usd(saving.reference_usd),
            "usd": _usd(saving.saved_usd),
            "low_usd": _usd(saving.low_usd),
            "high_usd": _usd(saving.high_usd),
            "confidence": "0.95",
            "sampled": spent.sampled,
        },
        "replay": one.digest,
    }


def brief(one: Standing) -> dict[str, Any]:
    """Say of a promise what is in force, and what its bound is, from how many audits, of what day."""
    bound = one.bound()
    return {
        "task": one.task, "rule": rule_of(one), "reference": one.who.reference, "base": one.who.base,
        "of": bound.rule, "change_at_least": points(bound.change_at_least), "n": bound.audits,
        "day": None if bound.day is None else bound.day.isoformat(), "said": bound.statement(one.promise),
    }  # fmt: skip


def _rule(bound: floor.Bound) -> dict[str, Any]:
    return {
        "rule": bound.rule,
        "open": bound.open,
        "change_at_least": points(bound.change_at_least),
        "mean_change": points(bound.mean_change),
        "confidence": points(bound.confidence),
        "n": bound.audits,
        "day": None if bound.day is None else bound.day.isoformat(),
    }


def rule_of(one: Standing) -> str:
    """Return the rule requests are answered by now."""
    return one.turn(0.0).rule or "reference"


def named(one: Standing) -> str:
    """Name a promise: its task, and of whom it is (a task may have several, of different bases)."""
    return f"{one.task} with {' and '.join(n for n in (one.who.base, one.who.second) if n) or 'nobody'}"


def is_shut(one: Standing) -> bool:
    """Tell whether the reference answers everything for another reason than that nothing is proven yet."""
    told_so = one.own is not None and _drifting(one)
    return rule_of(one) == "reference" and bool(one.state.shut or one.blind or one.trouble or told_so)


def why_closed(one: Standing) -> str | None:
    """Say why the reference answers everything; None where a rule is in force."""
    if rule_of(one) != "reference":
        return None
    if one.trouble:
        return one.trouble
    if one.blind:
        return f"too many audits are missing: {BLIND} more than were judged, of late"
    if one.own is not None and not one.state.shut and _drifting(one):
        return "audits of another node show that what was delivered lost too much"
    if one.state.shut:
        return f"shut {one.state.shut} times: what was delivered lost too much, or another model answered"
    return "not proven yet"


def _drifting(one: Standing) -> bool:
    whole = msgspec.structs.replace(one.state, open=len(one.state.rungs))
    return floor.drifts(one.promise, whole)


def lines(one: Standing) -> Iterator[tuple[str, str]]:
    """Say how a promise stands, for a person: head and text of each line."""
    spent, saving = one.spent, one.saving()
    base = one.who.base or "nobody"
    second = "" if one.who.second is None else f", {one.who.second} agreeing"
    yield "rule", f"{rule_of(one)}   ({base}{second}; against {one.who.reference})"
    closed = why_closed(one)
    if closed is not None:
        yield "closed", closed
    for bound in floor.bounds(one.promise, one.state):
        yield "open" if bound.open else "to prove", bound.statement(one.promise)
    missing = ", ".join(f"{n} {why}" for why, n in sorted(spent.missing.items())) or "none"
    yield "audits", f"{one.proof.mine.audits} judged of {spent.audits}, missing: {missing}"
    for name, other in sorted(one.others.items()):
        stale = ", from before a drift: they do not count" if name in one.proof.stale() else ""
        yield "told", f"{other.state.audits} audits by {name}{stale}"
    kept = (
        f"{spent.requests} answered since {day_of(spent.since_ms)}, {spent.kept_base} without the reference"
    )
    kept += f", {spent.skipped} not worth the base" if spent.skipped else ""
    kept += f", {spent.fallbacks} by a fallback, outside the promise" if spent.fallbacks else ""
    yield "requests", kept
    total = spent.steps_usd + spent.audits_usd
    told = f"{_usd(total)} USD, of it {_usd(spent.checks_usd)} for answers not delivered"
    yield "spent", f"{told} and {_usd(spent.audits_usd)} for audits"
    if saving is None:
        yield "saved", "not known: at least 2 audits must tell what the reference costs"
    else:
        between = f"{_usd(saving.low_usd)} to {_usd(saving.high_usd)} with 95 %"
        yield (
            "saved",
            (
                f"{_usd(saving.saved_usd)} USD ({between}; {spent.sampled} audits) of "
                f"{_usd(saving.reference_usd)} the reference alone would have cost, after checks and audits"
            ),
        )


def explained(home: Home, decider: Decider, decision: Decision) -> dict[str, Any] | None:
    """Say how a request would be answered under its task's promise; None where it has none.

    Each alternative is shown with what the decision expects it to cost: the base alone, base and second, both
    and then the reference, the reference alone.
    """
    question = decision.question
    task = decider.fleet.tasks.get(question.task or "")
    if task is None or task.cascade is None or question.pinned:
        return None
    pack, trouble = decision.eligibility.pack_digest, ""
    try:
        kept = [one for one in every(home) if one.task == task.name and _is_current(one, decider, pack)]
    except AllodError as error:
        kept, trouble = [], error.what
    who = choose(task, decision.plan.candidates, decider.fleet, kept)
    if who is None:
        return None
    rules = ladder(task.cascade, who)
    said: dict[str, Any] = {
        "reference": who.reference, "base": who.base, "second": who.second, "rules": list(rules),
        "checks": list(task.cascade.check), "key": key_of(task.cascade, {}),
        "rule": "reference", "alternatives": _alternatives(who.base, who.second, who.reference, decision),
    }  # fmt: skip
    if not rules:
        return {**said, "why": "there is nobody to check, or nothing to check by"}
    known = next((one for one in kept if one.who == who), None)
    if known is None:
        return {**said, "why": trouble or "not proven yet: no request of this kind was answered"}
    return {**said, **as_json(known, now=True)}


def _alternatives(base: str | None, second: str | None, reference: str, decision: Decision) -> dict[str, str]:
    by: dict[str, Candidate] = {one.deployment: one for one in decision.plan.candidates}

    def cost(*names: str | None) -> str | None:
        known = [by[name].cost_usd for name in names if name is not None]
        return None if None in known else plain(sum((one for one in known if one is not None), Decimal(0)))

    ways = {reference: cost(reference)}
    if base is not None:
        ways[base] = cost(base)
        if second is not None:
            ways[f"{base} + {second}"] = cost(base, second)
        ways[" + ".join(n for n in (base, second, reference) if n)] = cost(base, second, reference)
    return {way: value for way, value in ways.items() if value is not None}


def _usd(value: Decimal) -> str:
    """Write money to four significant digits: for people; the ledger has every digit."""
    with localcontext(prec=_DIGITS, rounding=ROUND_HALF_EVEN):
        return plain(+value)
