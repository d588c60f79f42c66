"""Refinement: does a new law permit only what the old one does? Else the widening, as request and deployment.

Asked over every configuration and request, not over today's fleet. What counts is all of it: rules, dated
lists, demanded grades and ages of facts, weights of the score, and whether a pack holds on the day at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any

import msgspec

from allod.domain.errors import Integrity, Unavailable
from allod.policy.digests import pack_turns
from allod.policy.lists import join
from allod.policy.pack import Pack
from allod.policy.proof.compare import pair
from allod.policy.proof.law import Law, law_of
from allod.policy.proof.ordinary import settle
from allod.policy.proof.report import Counterexample
from allod.policy.proof.session import Session, loose


class Widening(msgspec.Struct, frozen=True, kw_only=True):
    """One request and deployment that the new law permits and the old one does not.

    ``counterexample.against`` are the old law's rules against it. ``text`` is one line.
    """

    day: date
    counterexample: Counterexample

    @property
    def text(self) -> str:
        """The request and the deployment in one line."""
        facts = ", ".join(f"{name} {value}" for name, value in self.counterexample.facts.items())
        return f"newly permitted (before: denied by {', '.join(self.counterexample.against)}): {facts}"


def widens(old_packs: Iterable[Pack], new_packs: Iterable[Pack], day: date) -> Widening | None:
    """Return something the new packs permit, on a day or later, that the old ones do not; None: nothing.

    Each side is a whole law: the base pack among them. Asked are the day itself and every later one on which
    a rule, a row of a list or a pack of either side begins or ends.

    Raises:
        Unavailable: the solver is not installed, or found no answer in time.
        Invalid: the packs are no law, or say something the prover does not model. Whoever cannot have a proof
            must take the change for a widening.
        Integrity: what was found does not hold before the rules themselves.

    """
    old, new = tuple(old_packs), tuple(new_packs)
    asked: list[tuple[Any, ...]] = []
    for at in _days((old, new), day):
        before, after = law_of(old, at), law_of(new, at)
        facts = tuple((law.rules, law.lists, law.closed) for law in (before, after))
        if facts in asked:
            continue
        asked.append(facts)
        found = widening(before, after)
        if found is not None:
            return found
    return None


def _days(sides: Iterable[tuple[Pack, ...]], day: date) -> tuple[date, ...]:
    found = {day}
    for packs in sides:
        lists = join(one for pack in packs for one in pack.lists)
        found |= {turn for turn in pack_turns(packs, lists) if turn > day}
    return tuple(sorted(found))


def widening(old: Law, new: Law) -> Widening | None:
    """Return something the new law permits and the old one does not; see ``widens``."""
    session = Session([old, new])
    permitted = [switch.passes for switch in session.switches(1).values()]
    question = [*permitted, session.literal(session.logic.no(session.permitted(0)))]
    answer = session.ask(question)
    if answer.verdict == "impossible":
        return None
    if answer.verdict == "undecided":
        raise Unavailable(
            "whether the change widens is not decided",
            "the solver found no answer in time",
            "treat it as a widening, or simplify the rules",
            kind="timeout",
        )
    counterexample, holds = pair(session, settle(session, question, answer), (old, new))
    if not holds and loose([rule.policy for law in (old, new) for rule in law.rules]):
        raise Unavailable(
            "whether the change widens is not decided",
            "what was found leans on `like` or on names of statutes, and cannot be configured",
            "treat it as a widening, or write the rules without them",
        )
    if not holds:
        raise Integrity(
            "a widening was found that does not hold before the rules themselves",
            str(counterexample),
            "treat the change as a widening; the prover is wrong: report this",
        )
    return Widening(day=new.day, counterexample=counterexample)
