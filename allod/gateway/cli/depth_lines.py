"""How ``allod explain`` shows reasoning depth: what was measured of each candidate, and what was chosen."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

from allod.domain.money import plain
from allod.gateway.cli import say

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from allod.domain.decision import Candidate
    from allod.domain.fleet import CapabilityEvidence
    from allod.gateway.decide import Decision
    from allod.routing.depth import DepthFacts
    from allod.routing.question import DeploymentFacts


def depths_of(decision: Decision) -> dict[str, tuple[DepthFacts, ...]]:
    """Return what the decision read of each candidate's depths, by deployment."""
    from allod.routing.question import facts_of  # noqa: PLC0415 (only when it runs)

    return {one.deployment: one.depths for one in facts_of(decision.question).candidates}


def evidence_of(
    shown: Iterable[Candidate], facts: Iterable[DeploymentFacts]
) -> dict[str, CapabilityEvidence]:
    """Return what was measured at the depth each candidate was judged at, where that was measured."""
    depth = {one.deployment: one.depth for one in shown}
    return {
        one.deployment: at.evidence
        for one in facts
        for at in one.depths
        if at.effort == depth.get(one.deployment)
    }


def as_json(one: Candidate, depths: tuple[DepthFacts, ...]) -> dict[str, Any]:
    """Say a candidate's depth and its estimates at each; nothing where none was measured."""
    if not depths:
        return {}
    return {"depth": one.depth, "depths": [_estimate(at) for at in depths]}


def _estimate(at: DepthFacts) -> dict[str, Any]:
    solved = per_success(at)
    return {
        "effort": at.effort,
        "quality": plain(at.evidence.value),
        "quality_low": plain(at.evidence.low),
        "quality_high": plain(at.evidence.high),
        "cases": plain(at.evidence.cases),
        "evaluations": list(at.evidence.evaluations),
        "until": None if at.evidence.until is None else at.evidence.until.isoformat(),
        "output_tokens": at.output_tokens,
        "reasoning_tokens": at.reasoning_tokens,
        "total_ms": at.total_ms,
        "cost_usd": None if at.cost_usd is None else plain(at.cost_usd),
        "cost_per_success_usd": None if solved is None else plain(solved),
    }


def per_success(at: DepthFacts) -> Decimal | None:
    """Return expected cost over expected success, to four significant digits (for people)."""
    if at.cost_usd is None or not at.evidence.value:
        return None
    with localcontext(prec=4):
        return at.cost_usd / at.evidence.value


def print_depths(one: Candidate, depths: tuple[DepthFacts, ...]) -> None:
    """Print a line per depth, the chosen one marked."""
    for line in _lines(one, depths):
        say(line)


def _lines(one: Candidate, depths: tuple[DepthFacts, ...]) -> Iterator[str]:
    for at in depths:
        solved, known = per_success(at), at.evidence
        words = (
            f"    effort {at.effort:<6}",
            f"quality {plain(known.value)} (at least {plain(known.low)}, {plain(known.cases)} cases"
            + ("" if known.until is None else f", until {known.until}")
            + ")",
            f"{at.output_tokens} + {at.reasoning_tokens} thinking tokens",
            f"{'unknown' if solved is None else plain(solved)} USD per success",
            "<- chosen" if one.eligible and at.effort == one.depth else "",
        )
        yield "  ".join(words).rstrip()
