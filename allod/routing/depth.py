"""Reasoning depth as a dimension of choice: one deployment at several depths is several candidates.

Where a task leaves the depth open (``effort = "auto"`` or a list), success, tokens and time of a deployment
are those that evaluations found *at that depth* (``allod eval run --effort``): floor, cost limit
and deadline are held against each pair of deployment and depth, and the objective chooses among pairs that
pass as it chooses among deployments:

- ``best``: the highest expected success, then the least cost per solved task;
- ``cheapest`` and ``sovereign`` (depth moves no data): the least cost per solved task; where that is nothing,
  as on unpriced hardware of one's own, the highest expected success;
- then the fewer expected tokens, then the shallower depth.

Cost per solved task takes a failure to be seen and asked again, as it does for deployments: a task whose
failures go unseen needs a floor. Of a deployment whose depths were not measured none is chosen: it gets the
request's own depth, and its quality is what is known of it otherwise. Pure.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.fleet import EFFORTS, CapabilityEvidence, DepthEvidence, Effort
from allod.domain.usage import Usage
from allod.routing.capability import Finding, evidence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import date

    from allod.domain.decision import DecidingRule
    from allod.domain.fleet import Deployment, Objective, Task
    from allod.routing.question import DecisionFacts, DeploymentFacts

NO_TASK: Final = "default"


class DepthFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision reads of one candidate at one depth.

    ``cost_usd`` is what one attempt is expected to cost with the tokens measured at this depth, thinking
    included; None where the price is unknown.
    """

    effort: Effort
    evidence: CapabilityEvidence
    output_tokens: int
    reasoning_tokens: int
    cost_usd: Decimal | None
    total_ms: int | None = None


def depths_of(
    deployment: Deployment,
    task: str | None,
    efforts: tuple[Effort, ...],
    day: date,
    cost_of: Callable[[Usage], Decimal] | None,
    most_output_tokens: int,
) -> tuple[DepthFacts, ...]:
    """Return what was measured of a deployment at these depths and still holds, from the shallowest on.

    ``cost_of`` prices what is written, with the request's own input; no more is expected than the limit lets.
    """
    out = []
    for one in deployment.depths.get(task or NO_TASK, ()):
        held = next((e for e in one.success if e.until is None or day < e.until), None)
        if one.effort not in efforts or held is None:
            continue
        thought = min(one.reasoning_tokens, most_output_tokens)
        said = min(one.output_tokens, most_output_tokens - thought)
        usage = Usage(output_tokens=said, reasoning_tokens=thought)
        out.append(
            DepthFacts(
                effort=one.effort,
                evidence=held,
                output_tokens=one.output_tokens,
                reasoning_tokens=one.reasoning_tokens,
                cost_usd=None if cost_of is None else cost_of(usage),
                total_ms=one.total_ms,
            )
        )
    return tuple(sorted(out, key=lambda one: EFFORTS.index(one.effort)))


def efforts_of(effort: Effort | None, efforts: tuple[Effort, ...]) -> tuple[Effort, ...]:
    """Return the depths a request may be served at; thinking that nobody asked for is off."""
    return efforts or (effort or EFFORTS[0],)


def shallower(task: Task | None, effort: Effort | None) -> bool:
    """Tell whether a request is asked at less depth than its task's evaluations are taken to be about."""
    known = (None,) if task is None else task.efforts or (task.effort,)
    least = min(EFFORTS.index(one or EFFORTS[0]) for one in known)
    return EFFORTS.index(effort or EFFORTS[0]) < least


class AtDepth(msgspec.Struct, frozen=True, kw_only=True):
    """What one evaluation found at one depth: successes, and what ``answers`` answers took in all."""

    effort: Effort
    finding: Finding
    answers: int
    output_tokens: int
    reasoning_tokens: int
    total_ms: int


def depth_evidence(found: Iterable[AtDepth], today: date) -> tuple[DepthEvidence, ...]:
    """Return what a fleet carries of a deployment and a task: one entry per depth, the shallowest first.

    Nothing that is declared or published counts here: it does not say at which depth. Before anything was
    measured every success is as likely (Beta(1, 1)).
    """
    by_depth: dict[Effort, list[AtDepth]] = {}
    for one in found:
        by_depth.setdefault(one.effort, []).append(one)
    out = []
    for effort in EFFORTS:
        these = by_depth.get(effort, [])
        answers = sum(one.answers for one in these)
        success = evidence(None, (), (one.finding for one in these), today)
        if not success or not answers:
            continue
        out.append(
            DepthEvidence(
                effort=effort,
                success=success,
                output_tokens=_mean(sum(one.output_tokens for one in these), answers),
                reasoning_tokens=_mean(sum(one.reasoning_tokens for one in these), answers),
                total_ms=_mean(sum(one.total_ms for one in these), answers),
            )
        )
    return tuple(out)


def _mean(total: int, of: int) -> int:
    return -(-total // of)


def at_depths(facts: DecisionFacts, one: DeploymentFacts) -> tuple[DeploymentFacts, ...]:
    """Return a candidate once per depth it may be served at, with what was measured there; else as it is."""
    allowed = efforts_of(facts.effort, facts.efforts)
    return tuple(
        msgspec.structs.replace(
            one,
            depth=at.effort,
            depths=(at,),
            quality=at.evidence.value,
            quality_key=facts.task or NO_TASK,
            evidence=at.evidence,
            cost_usd=at.cost_usd,
            latency_ms=one.latency_ms if at.total_ms is None else at.total_ms,
        )
        for at in one.depths
        if at.effort in allowed
    ) or (one,)


def chosen(
    judged: list[tuple[DeploymentFacts, tuple[DecidingRule, ...]]],
    objective: Objective,
    solved: Callable[[DeploymentFacts], tuple[int, Decimal]],
) -> tuple[DeploymentFacts, tuple[DecidingRule, ...]]:
    """Choose the depth of one deployment among those nothing speaks against.

    Where something speaks against each, the one that comes nearest is returned with its rules: the fewest,
    then the best assured success. ``solved`` is the cost per solved task, as deployments are ordered by.
    """
    if len(judged) == 1:
        return judged[0]
    able = [one for one, rules in judged if not rules]
    if not able:
        return min(judged, key=lambda pair: (len(pair[1]), *_least_sure(pair[0])))
    return min(able, key=lambda one: _preference(one, objective, solved)), ()


def _least_sure(one: DeploymentFacts) -> tuple[Decimal, int]:
    at = one.depths[0]
    return -at.evidence.low, EFFORTS.index(at.effort)


def _preference(
    one: DeploymentFacts, objective: Objective, solved: Callable[[DeploymentFacts], tuple[int, Decimal]]
) -> tuple[Any, ...]:
    at = one.depths[0]
    good, cost = -at.evidence.value, solved(one)
    first = (good, cost) if objective == "best" else (cost, good)
    return (*first, at.output_tokens + at.reasoning_tokens, EFFORTS.index(at.effort))
