"""Theorems over two requests that differ in one respect: classes, link, evidence, facts that are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from allod.domain.errors import Integrity
from allod.domain.facts import GRADES
from allod.policy.facts import EVIDENCE
from allod.policy.proof import judge
from allod.policy.proof.law import Law
from allod.policy.proof.leaning import fact_names
from allod.policy.proof.ordinary import settle
from allod.policy.proof.report import Counterexample, Proof
from allod.policy.proof.session import Answer, Session, Switch, loose
from allod.policy.proof.situation import read, situation, told
from allod.policy.proof.solver import Truth
from allod.policy.proof.strings import Text
from allod.policy.proof.view import FACTS
from allod.policy.proof.world import World

UNDECIDED: Final = "the solver found no answer in time"


class Comparison(NamedTuple):
    """A claim: what the law permits of the ``then`` request, it permits of the first one too.

    ``own`` tells which variables the second request has to itself, ``relation`` how
    they relate to the first's.
    """

    id: str
    text: str
    own: Callable[[str], bool]
    relation: Callable[[World, World, str], Truth]


def _is_evidence(path: str) -> bool:
    parts = path.split(".")
    names = parts[-2:-1] and parts[-2] in EVIDENCE and parts[-1] in GRADES
    return bool(names) or parts[-1] == "grade" or path == "context.pseudonymised"


def _less_evidence(first: World, then: World, path: str) -> Truth:
    """Say that the second request comes with less: fewer names, lower grades, no pseudonyms."""
    if path == "context.pseudonymised":
        return first.logic.implies(then.flag(path), first.flag(path))
    if path.endswith(".grade"):
        better, worse = first.text(path), then.text(path)
        steps = []
        for at, grade in enumerate(GRADES):
            lower = [then.equal(worse, Text(one)) for one in GRADES[: at + 1]]
            steps.append(first.logic.implies(first.equal(better, Text(grade)), first.logic.some(lower)))
        return first.logic.every(steps)
    return first.includes(first.texts(path), then.texts(path))


COMPARISONS: Final = (
    Comparison(
        "monotone-in-classes",
        "Adding a data class to a request never admits a deployment.",
        lambda path: path == "context.classes",
        lambda first, then, path: first.includes(then.texts(path), first.texts(path)),
    ),
    Comparison(
        "monotone-in-link",
        "Losing the link never admits a deployment.",
        lambda path: path == "context.link_up",
        lambda first, then, path: first.logic.every([first.flag(path), first.logic.no(then.flag(path))]),
    ),
    Comparison(
        "monotone-in-evidence",
        "Losing an agreement or attestation, a better grade or pseudonyms never admits a deployment.",
        _is_evidence,
        _less_evidence,
    ),
    Comparison(
        "unknown-never-admits",
        "Taking away a fact about a deployment or its operator never admits it.",
        lambda path: path.removeprefix("has:") in FACTS and path.startswith("has:"),
        lambda first, then, path: first.logic.implies(then.flag(path), first.flag(path)),
    ),
)


def compare(law: Law, one: Comparison, session: Session | None = None) -> Proof:
    """Prove a comparison; it says nothing when no rule, turned round, would break it."""
    session = session or Session([law])
    then = session.beside(one.own)
    switches = session.switches(0, then)
    first, logic = session.switches(), session.logic
    relation = [one.relation(session.world, then, path) for path in sorted(then.made)]
    related = session.literal(logic.every(relation))
    touching = tuple(name for name in first if first[name] != switches[name])
    # Mostly each rule keeps the direction by itself, which is quickly seen; only the others need all rules.
    alone = [
        session.literal(logic.no(first[name].passes))
        for name in touching
        if session.ask(
            [switches[name].passes, related, session.literal(logic.no(first[name].passes))]
        ).verdict
        != "impossible"
    ]
    question = [*(switch.passes for switch in switches.values()), related, session.literal(logic.some(alone))]
    answer = session.ask(question)
    facts = fact_names(path.removeprefix("has:") for path in then.made)
    proof = Proof(id=one.id, text=one.text, pack="built-in", status="proved", rules=touching, facts=facts)
    if answer.verdict == "undecided":
        return _as(proof, "undecided", UNDECIDED)
    if answer.verdict == "possible":
        return _refuted(law, session, then, question, answer, proof)
    if not then.made:
        return _as(proof, "proved", "no rule reads what differs")
    if not any(_breaks(session, switches, first, rule, related) for rule in touching):
        return _as(proof, "says-nothing", "no rule, turned round, would go the other way")
    return proof


def _breaks(
    session: Session, then: Mapping[str, Switch], first: Mapping[str, Switch], rule: str, related: Any
) -> bool:
    """Turn one rule round in both requests, by itself: it must go the wrong way."""
    denied = session.literal(session.logic.no(first[rule].turned))
    return session.ask([then[rule].turned, related, denied]).verdict == "possible"


def _as(proof: Proof, status: Any, reason: str) -> Proof:
    return msgspec.structs.replace(proof, status=status, reason=reason)


def _refuted(
    law: Law, session: Session, then: World, question: Sequence[Any], answer: Answer, proof: Proof
) -> Proof:
    answer = settle(session, question, answer, [then])
    counterexample, holds = pair(session, answer, (law, law), then)
    if not holds and loose([rule.policy for rule in law.rules]):
        return _as(proof, "undecided", "the counterexample cannot be configured")
    if not holds:
        raise Integrity(
            f"a counterexample to {proof.id!r} does not hold before the rules themselves",
            str(counterexample),
            "the prover is wrong: report this, and rely on no proof until it is mended",
        )
    return msgspec.structs.replace(proof, status="refuted", counterexample=counterexample)


def pair(
    session: Session, answer: Answer, laws: tuple[Law, Law], then: World | None = None
) -> tuple[Counterexample, bool]:
    """Write what the first law denies and the second permits (of the ``then`` world, if there is one).

    Both keys judge both; the second value says that they agree.
    """
    values = read(session, answer.model)
    other = values if then is None else read(session, answer.model, then)
    at, after = situation(values, session.laws), situation(other, session.laws)
    denied = judge.judge(laws[0], judge.policies_of(laws[0]), at)
    permitted = judge.judge(laws[1], judge.policies_of(laws[1]), after)
    facts = told(at, values, laws[0].day)
    later = told(after, other, laws[0].day)
    counterexample = Counterexample(
        facts=facts,
        then={name: text for name, text in later.items() if facts.get(name) != text},
        against=denied.against or tuple(f"pack.validity {name}" for name in laws[0].closed),
    )
    holds = (denied.compiled, denied.reference, permitted.compiled, permitted.reference)
    return counterexample, holds == (False, False, True, True)
