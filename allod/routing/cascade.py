"""A cascade: a lawful base, the cheapest check, a second opinion, and escalation, as data and one decision.

A ``Cascade`` says whom to ask in which order and what makes an answer deliverable; ``step`` looks at the
answers so far and says whom to ask next or whose answer to deliver. It calls nothing: the gateway (or a
replay, or the bench) asks, runs the checks, and comes back. The same plan and the same answers give the same
step (I8). A missing check has failed, a failed call is no answer, and a cascade without any check is refused:
free text has no shortcut. Whoever drives it plans for the lawful deployments only (``lawful``).

Checks, cheapest first: ``schema`` ``json`` ``numeric`` ``label`` ``regex`` ``compile`` ``arithmetic`` ``sql``
``tests`` ``citation`` are run by the driver, passed or not. ``agreement`` counts equal answer keys,
``margin`` compares a token margin in the driver's own unit (what it is worth, audits prove), and ``worth``
asks a judge what the escalation would add for what it would cost (``allod.routing.stopping``), and, before a
step with that check is asked at all, whether it is worth asking (``allod.routing.courses``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from allod.domain.errors import Invalid

Program = Literal[
    "schema", "json", "numeric", "label", "regex", "compile", "arithmetic", "sql", "tests", "citation"
]
Kind = Program | Literal["agreement", "margin", "worth"]
Serve = Literal["hold", "stream"]
"""Hold the answer back until it is deliverable, or stream the base and say so; the caller chooses."""
PROGRAMS: Final = frozenset(
    ("schema", "json", "numeric", "label", "regex", "compile", "arithmetic", "sql", "tests", "citation")
)


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One condition of delivery.

    ``at_least``: equal answers for ``agreement`` (2 or more), the least ``margin``, gain per unit of cost
    for ``worth`` (below it the escalation is not worth asking); not used by programs.
    """

    kind: Kind
    at_least: float = 1.0


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment to ask, and all conditions under which its answer, or one asked before, is delivered.

    ``together``: it is asked at the same time as the step before it (both local, say).
    """

    deployment: str
    checks: tuple[Check, ...]
    together: bool = False


class Cascade(msgspec.Struct, frozen=True, kw_only=True):
    """The steps of a task, then ``escalate``, whose answer is delivered unless a judge outvotes it."""

    task: str
    steps: tuple[Step, ...]
    escalate: str
    serve: Serve = "hold"

    def __post_init__(self) -> None:
        """Refuse a cascade that would deliver unchecked answers.

        Raises:
            Invalid: a step has no check, asks a deployment twice, or agrees with nobody.

        """
        names = [*(one.deployment for one in self.steps), self.escalate]
        why = ""
        if len(set(names)) != len(names):
            why = "a deployment is asked twice"
        elif any(not one.checks for one in self.steps):
            why = "a step has no check, and an unchecked answer is not delivered"
        elif any(
            check.kind == "agreement" and check.at_least < 2  # noqa: PLR2004 (one answer agrees with itself)
            for one in self.steps
            for check in one.checks
        ):
            why = "one answer alone agrees with nobody"
        if why:
            raise Invalid(
                f"the cascade of task {self.task} cannot be used", why, "give each step a check of its own"
            )


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """What came back from one deployment.

    Attributes:
        deployment: who.
        key: of the normalised answer, empty where there is none.
        failed: the call failed: there is no answer at all.
        passed: programs run on it, by kind; one that is missing has failed.
        margin: how sure the model was of its words, in the driver's unit, None where unknown.

    """

    deployment: str
    key: str = ""
    failed: bool = False
    passed: dict[str, bool] = {}
    margin: float | None = None


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What a judge makes of the answers so far: whose is likeliest right, what escalation adds and costs.

    ``hopeless``: asking anyone but the escalation would cost more than it is expected to save.
    """

    deployment: str | None
    chance: float
    gain: float
    cost: float
    hopeless: bool = False


class Next(msgspec.Struct, frozen=True, kw_only=True):
    """What to do: ask these, or deliver that; neither: nothing lawful is left (``why`` says so)."""

    ask: tuple[str, ...] = ()
    deliver: str | None = None
    why: str


Judge = Callable[[tuple[Answered, ...]], Judgement]
"""Judges the answers so far, the escalation's among them once it was asked."""


def step(cascade: Cascade, answers: tuple[Answered, ...], judge: Judge | None = None) -> Next:
    """Say what to do next. ``answers`` are in the order asked; answers of other deployments do not count."""
    by = {one.deployment: one for one in answers}
    top = by.get(cascade.escalate)
    if top is not None:
        return _last(cascade, by, top, judge)
    asked = [one for one in cascade.steps if one.deployment in by]
    known = tuple(by[one.deployment] for one in asked)
    if asked:
        found = _deliverable(asked[-1], known, judge)
        if found is not None:
            return found
    left = [one for one in cascade.steps if one.deployment not in by]
    if not left:
        return Next(ask=(cascade.escalate,), why="no answer so far may be delivered")
    if judge is not None and any(check.kind == "worth" for check in left[0].checks) and judge(known).hopeless:
        return Next(ask=(cascade.escalate,), why="another opinion would cost more than it saves")
    ask = [left[0].deployment]
    for one in left[1:]:
        if not one.together:
            break
        ask.append(one.deployment)
    return Next(ask=tuple(ask), why="the base" if not asked else "a second opinion")


def lawful(cascade: Cascade, allowed: frozenset[str]) -> Cascade | None:
    """Return the cascade on lawful deployments alone; None where its escalation is not lawful.

    A step is dropped, never replaced; an ``agreement`` that can no longer be reached escalates.
    """
    if cascade.escalate not in allowed:
        return None
    steps = tuple(one for one in cascade.steps if one.deployment in allowed)
    return msgspec.structs.replace(cascade, steps=steps)


def _last(cascade: Cascade, by: dict[str, Answered], top: Answered, judge: Judge | None) -> Next:
    """Deliver the escalation's answer, or what a judge prefers to it; if it failed, nothing unchecked."""
    if top.failed:
        return Next(why=f"{cascade.escalate} failed, and no answer passed its check")
    if judge is None:
        return Next(deliver=top.deployment, why="escalated")
    judged = judge(tuple(by.values()))
    chosen = by.get(judged.deployment or "")
    if chosen is None or not _usable(cascade, chosen):
        return Next(deliver=top.deployment, why="escalated")
    why = "escalated" if chosen is top else f"outvotes {top.deployment}, chance {judged.chance:.2f}"
    return Next(deliver=chosen.deployment, why=why)


def _usable(cascade: Cascade, one: Answered) -> bool:
    """Say whether an answer passed every program of its own step."""
    checks = next((of.checks for of in cascade.steps if of.deployment == one.deployment), ())
    return not one.failed and bool(one.key) and all(_ran(check, one) for check in checks)


def _ran(check: Check, one: Answered) -> bool:
    return check.kind not in PROGRAMS or one.passed.get(check.kind, False)


def _deliverable(at: Step, known: tuple[Answered, ...], judge: Judge | None) -> Next | None:
    """Return a delivery if every check of the step holds for one answer, else None."""
    sound = tuple(one for one in known if not one.failed and all(_ran(check, one) for check in at.checks))
    worth = [check for check in at.checks if check.kind == "worth"]
    if worth:
        return _worth(at, sound, known, judge)
    for one in reversed(sound):
        agree = sum(other.key == one.key for other in sound) if one.key else 0
        if all(_holds(check, one, agree) for check in at.checks):
            kinds = ", ".join(check.kind for check in at.checks)
            return Next(deliver=one.deployment, why=f"passed {kinds}")
    return None


def _holds(check: Check, one: Answered, agree: int) -> bool:
    match check.kind:
        case "agreement":
            return agree >= check.at_least
        case "margin":
            return one.margin is not None and one.margin >= check.at_least
        case "worth":
            return False
        case _:
            return one.passed.get(check.kind, False)


def _worth(
    at: Step, sound: tuple[Answered, ...], known: tuple[Answered, ...], judge: Judge | None
) -> Next | None:
    """Deliver the likeliest answer if escalation adds too little for its cost; without a judge, never."""
    if judge is None:
        return None
    judged = judge(known)
    chosen = next((one for one in sound if one.deployment == judged.deployment), None)
    if chosen is None or not chosen.key:
        return None
    agree = sum(other.key == chosen.key for other in sound)
    for check in at.checks:
        if check.kind == "worth":
            if not judged.gain < check.at_least * judged.cost:
                return None
        elif not _holds(check, chosen, agree):
            return None
    why = f"chance {judged.chance:.2f}; escalation would add {judged.gain:.3f} for {judged.cost:.2f}"
    return Next(deliver=chosen.deployment, why=why)
