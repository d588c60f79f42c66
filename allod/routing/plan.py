"""The plan: which lawful deployments serve a request, in what order, and why.

Order of judgement: the law (handed in), capability, quality floor, price, cost limit, deadline; every
reason that fails is listed. What remains is ordered by the objective: ``sovereign`` by score, then expected
cost per solved task, then latency; ``cheapest`` by cost per solved task, then score; ``best`` by quality,
then score, then cost. Cost per solved task is expected cost over success probability; an unknown quality
ranks behind every known one, an unknown score lowest. Ties keep configuration order.

Where this very request was estimated, success and length of the answer in the order are those estimated, and
with ``sovereign`` whoever is expected to miss the floor comes after all who are not. The floor itself is held
against the quality of the task, declared or measured: an estimate can shut a deployment out (its upper end is
below the floor) and can let none in, whatever a prompt looks like. Where it would shut out all who meet the
floor at the task, the request is too hard for all of them: it shuts out nobody then, the likeliest is first.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.decision import (
    Attempt,
    Candidate,
    DecidingRule,
    Estimated,
    Exclusion,
    NearestChange,
    Plan,
)
from allod.domain.fleet import CLEAR_TEXT, INTERACTIVE, LANGUAGE, SCRIPT, CapabilityEvidence
from allod.domain.money import ZERO, plain
from allod.routing.depth import at_depths, chosen
from allod.routing.question import DeploymentFacts, facts_of

if TYPE_CHECKING:
    from allod.routing.question import DecisionFacts, Question

MAX_ATTEMPTS: Final = 4
"""Deployments one request may try, each with its own retries."""
ESTIMATED: Final = "quality.estimate"
"""The rule against a candidate whose estimate is below the floor."""
_LOWEST: Final = Decimal(-1)
_DIGITS: Final = 34


def plan(question: Question) -> Plan:
    """Answer a question: pure and deterministic."""
    return decide(facts_of(question))


def decide(facts: DecisionFacts) -> Plan:
    """Make the plan from its recorded facts alone (I8)."""
    choice = choose(facts)
    judged, able, up = choice.judged, choice.able, choice.up
    return Plan(
        attempts=tuple(_attempt(facts, one) for one in up[:MAX_ATTEMPTS]),
        candidates=tuple(_shown(one, rules) for one, rules in judged),
        objective=facts.objective,
        why=_why(facts, judged_out=len(judged) - len(able), up=up, able=able),
        resting=choice.down,
        nearest=tuple(_nearest(one, rules) for one, rules in judged if rules and not one.law),
    )


class Choice(msgspec.Struct, frozen=True):
    """The judgement behind a plan: candidates with the rules against each, and the able ones in their order.

    ``up`` are those that can serve now; a plan tries the first ``MAX_ATTEMPTS`` of them.
    """

    judged: list[tuple[DeploymentFacts, tuple[DecidingRule, ...]]]
    able: list[DeploymentFacts]
    up: list[DeploymentFacts]

    @property
    def attempts(self) -> tuple[str, ...]:
        """The deployments a plan would try, in order."""
        return tuple(one.deployment for one in self.up[:MAX_ATTEMPTS])

    @property
    def down(self) -> tuple[str, ...]:
        """Able deployments that cannot serve now."""
        return tuple(one.deployment for one in self.able if one.resting or one.unready is not None)


def choose(facts: DecisionFacts) -> Choice:
    """Judge every candidate and put the able ones in order: all of a plan but its words."""
    judged = [_judged(facts, one) for one in facts.candidates]
    able = [one for one, rules in judged if not rules]
    hard = not able
    if hard:
        judged = [(one, one.law or _but_estimated(rules)) for one, rules in judged]
        able = [one for one, rules in judged if not rules]
    if not facts.ordered:
        with localcontext(prec=_DIGITS):
            able.sort(key=lambda one: (_shortfall(one) if hard else ZERO, *_rank(facts, one)))
    return Choice(judged, able, [one for one in able if not one.resting and one.unready is None])


def _judged(facts: DecisionFacts, one: DeploymentFacts) -> tuple[DeploymentFacts, tuple[DecidingRule, ...]]:
    """Judge a candidate, at the depth that is chosen for it where depths were measured."""
    if one.law:
        return one, one.law
    if not one.depths:
        return one, tuple(_reasons(facts, one))
    each = [(at, tuple(_reasons(facts, at))) for at in at_depths(facts, one)]
    with localcontext(prec=_DIGITS):
        return chosen(each, facts.objective, _cost_per_solved)


def exclusions(of: Plan) -> tuple[Exclusion, ...]:
    """Return every candidate of a plan that was left out, with its reasons."""
    return tuple(
        Exclusion(deployment=one.deployment, rules=one.rules) for one in of.candidates if not one.eligible
    )


def _reasons(facts: DecisionFacts, one: DeploymentFacts) -> list[DecidingRule]:
    out = [_lacks(one, need) for need in facts.needs if need != "text" and need not in one.takes]
    if not one.listed:
        out.append(_not_listed(facts, one))
    if one.context_tokens is not None:
        # Even at 5 bytes to a token this would not fit; closer calls take what traffic taught, or an engine.
        least = facts.input_tokens * 3 // 5 if one.expected_tokens is None else one.expected_tokens
        if least > one.context_tokens:
            out.append(_too_long(one, least))
    held = one.quality if one.evidence is None else one.evidence.low
    if facts.min_quality is not None and (held is None or held < facts.min_quality):
        out.append(_below_floor(one, facts.min_quality))
    elif facts.min_quality is not None and one.estimate is not None and one.estimate.high < facts.min_quality:
        out.append(_estimated_below(one, one.estimate, facts.min_quality))
    if one.reserve_usd is None:
        out.append(_no_price(one))
    elif facts.max_cost_usd is not None and one.reserve_usd > facts.max_cost_usd:
        out.append(_too_dear(one, one.reserve_usd, facts.max_cost_usd))
    if facts.deadline_ms is not None and one.latency_ms is not None and one.latency_ms > facts.deadline_ms:
        out.append(_too_slow(one, one.latency_ms, facts.deadline_ms))
    return out


def _rank(facts: DecisionFacts, one: DeploymentFacts) -> tuple[Any, ...]:
    sovereignty = -(_LOWEST if one.sovereignty is None else one.sovereignty)
    latency = (one.latency_ms is None, one.latency_ms or 0)
    solved = _cost_per_solved(one)
    match facts.objective:
        case "sovereign":
            return (_doubtful(facts, one), sovereignty, *solved, *latency)
        case "cheapest":
            return (*solved, sovereignty, *latency)
        case "best":
            expected = success_of(one)
            quality = ZERO if expected is None else -expected
            return (expected is None, quality, sovereignty, *solved, *latency)


def _cost_per_solved(one: DeploymentFacts) -> tuple[int, Decimal]:
    """Order by (how much is known, USD per solved task); free is free however often it must be tried."""
    expected, success = ZERO if one.cost_usd is None else one.cost_usd, success_of(one)
    if success is None:
        return 1, expected
    if success == 0:
        return 2, expected
    return 0, expected / success


def success_of(one: DeploymentFacts) -> Decimal | None:
    """Return what candidates are ordered by: success as estimated of this request, else of its task."""
    return one.quality if one.estimate is None else one.estimate.success


def solved_usd(one: DeploymentFacts) -> Decimal | None:
    """Return the expected cost of a success in USD; None where cost or success is unknown, or never comes."""
    known, amount = _cost_per_solved(one)
    return None if known or one.cost_usd is None else amount


def _but_estimated(rules: tuple[DecidingRule, ...]) -> tuple[DecidingRule, ...]:
    return tuple(rule for rule in rules if rule.id != ESTIMATED)


def _shortfall(one: DeploymentFacts) -> Decimal:
    """Order by how unlikely a success of this request is, where nobody is expected to meet the floor."""
    return ZERO if one.estimate is None else -one.estimate.success


def _doubtful(facts: DecisionFacts, one: DeploymentFacts) -> bool:
    floor = facts.min_quality
    return floor is not None and one.estimate is not None and one.estimate.success < floor


def _attempt(facts: DecisionFacts, one: DeploymentFacts) -> Attempt:
    assert one.cost_usd is not None
    assert one.reserve_usd is not None
    return Attempt(
        deployment=one.deployment,
        quality=one.quality,
        cost_usd=one.cost_usd,
        reserve_usd=one.reserve_usd,
        effort=facts.effort if one.depth is None else one.depth,
        retries=one.retries,
    )


def _shown(one: DeploymentFacts, rules: tuple[DecidingRule, ...]) -> Candidate:
    return Candidate(
        deployment=one.deployment,
        eligible=not rules,
        rules=rules,
        quality=one.quality,
        cost_usd=one.cost_usd,
        sovereignty=one.sovereignty,
        latency_ms=one.latency_ms,
        depth=one.depth,
    )


def _nearest(one: DeploymentFacts, rules: tuple[DecidingRule, ...]) -> NearestChange:
    return NearestChange(deployment=one.deployment, change="; and ".join(rule.remedy for rule in rules))


def _why(
    facts: DecisionFacts, *, judged_out: int, up: list[DeploymentFacts], able: list[DeploymentFacts]
) -> str:
    if not facts.candidates:
        return "no deployment is a candidate"
    if not able:
        return f"none of {judged_out} candidates may and can serve it"
    if not up:
        reasons = ", ".join(f"{one.deployment}: {one.unready or 'resting after failures'}" for one in able)
        return f"{len(able)} lawful and able, none up ({reasons})"
    first = up[0]
    if facts.ordered:
        ground = "first up in the task's own order"
    elif facts.objective == "sovereign":
        score = "unknown" if first.sovereignty is None else plain(first.sovereignty)
        ground = f"sovereignty {score}, then cost per solved task"
    elif facts.objective == "cheapest":
        ground = f"expected {plain(first.cost_usd or ZERO)} USD, by cost per solved task"
    else:
        quality = success_of(first)
        ground = f"quality {'unknown' if quality is None else plain(quality)}, then sovereignty"
    if first.estimate is not None and not facts.ordered:
        short = f" (of all able below {plain(floor)})" if (floor := _missed(facts, able)) is not None else ""
        ground = f"success {plain(first.estimate.success)} estimated for this request{short}; {ground}"
    depth = "" if first.depth is None else f" at effort {first.depth}"
    return f"{first.deployment}{depth} first of {len(up)} able, objective {facts.objective}: {ground}"


def _missed(facts: DecisionFacts, able: list[DeploymentFacts]) -> Decimal | None:
    """Return the floor where all who are able are estimated below it."""
    floor = facts.min_quality
    if floor is None or any(one.estimate is None or one.estimate.high >= floor for one in able):
        return None
    return floor


def _lacks(one: DeploymentFacts, need: str) -> DecidingRule:
    if need == CLEAR_TEXT:
        return DecidingRule(
            id=f"capability.{need}",
            law="",
            got=f"{one.deployment} is another's, and pseudonyms cannot cover this request",
            required="a deployment of our own",
            source="app.pseudonymise",
            remedy="ask without logprobs, pictures or stop sequences, or use a deployment of our own",
        )
    if need == INTERACTIVE:
        return _rule(
            one,
            f"capability.{need}",
            got="batch work only",
            required="a deployment that somebody may wait for",
            key="batch_only",
            remedy="ask in the background (`background: true` of /v1/responses)",
        )
    if need.startswith((LANGUAGE, SCRIPT)):
        return _not_spoken(one, need)
    return _rule(
        one,
        f"capability.{need}",
        got=", ".join(one.takes) or "nothing",
        required=need,
        key="takes",
        remedy=f'add "{need}" to takes of {one.deployment} if it can, or ask without it',
    )


def _not_spoken(one: DeploymentFacts, need: str) -> DecidingRule:
    kind, _, name = need.partition(":")
    wanted = f"a model known to take {kind} {name}"
    return _rule(
        one,
        "capability.language",
        got=f"languages of {one.deployment} are others, or unknown",
        required="a request whose language can be told" if name == "unknown" else wanted,
        key="languages",
        remedy=f'add "{name}" to languages of {one.deployment} if it takes it'
        if kind == LANGUAGE[:-1] and name != "unknown"
        else f"say which languages {one.deployment} takes, and those of the task (task.languages)",
    )


def _not_listed(facts: DecisionFacts, one: DeploymentFacts) -> DecidingRule:
    return DecidingRule(
        id="capability.task",
        law="",
        got=f"{one.deployment} is not among the deployments of task {facts.task}",
        required=f"a deployment of task {facts.task}",
        source=f"task.{facts.task}.deployments",
        remedy=f"add {one.deployment} to the deployments of task {facts.task}, or do not pin it",
    )


def _too_long(one: DeploymentFacts, least: int) -> DecidingRule:
    need = f"at least {least} tokens of input, as estimated"
    if one.expected_tokens is not None:
        need = f"room for {least} tokens of input: with 95 % no more, as its tokenizer billed so far"
    return _rule(
        one,
        "capability.context",
        got=f"{one.context_tokens} tokens of context",
        required=need,
        key="context_tokens",
        remedy="shorten the input",
    )


def _below_floor(one: DeploymentFacts, floor: Decimal) -> DecidingRule:
    if one.evidence is not None:
        return DecidingRule(
            id="quality.floor",
            law="",
            got=known_of(one.evidence),
            required=f"at least {plain(floor)}, with 95 %",
            source=source_of(one.evidence),
            remedy=f"evaluate {one.deployment} on more cases of {one.quality_key}, use a better model there, "
            "or lower the floor",
        )
    return _rule(
        one,
        "quality.floor",
        got="unknown" if one.quality is None else plain(one.quality),
        required=f"at least {plain(floor)}",
        key=f"quality.{one.quality_key}",
        remedy=f"show by evaluation that quality.{one.quality_key} of {one.deployment} is {plain(floor)}, "
        "or lower the floor",
    )


def _estimated_below(one: DeploymentFacts, known: Estimated, floor: Decimal) -> DecidingRule:
    return DecidingRule(
        id=ESTIMATED,
        law="",
        got=estimated_of(known),
        required=f"{plain(floor)} within what it may be with 95 %",
        source=f"estimate of {one.quality_key}: `allod eval status`",
        remedy=f"evaluate {one.deployment} on more cases like this one, use a better model there, "
        "or lower the floor",
    )


def estimated_of(one: Estimated) -> str:
    """Say what was estimated of a request at a deployment."""
    between = f"{plain(one.low)} to {plain(one.high)} with 90 %"
    return f"success {plain(one.success)} ({between}), {one.output_tokens} tokens, from {one.n} outcomes"


def known_of(one: CapabilityEvidence) -> str:
    """Say what is known of a quality: what is expected, what it exceeds with 95 %, from what."""
    said = f"{plain(one.value)} expected, at least {plain(one.low)} with 95 %"
    if one.basis == "published":
        return f"{said} (published, after its audit)"
    return f"{said} from {plain(one.cases)} cases (measured), {source_of(one)}"


def source_of(one: CapabilityEvidence) -> str:
    """Name the evaluations behind a quality."""
    if not one.evaluations:
        return "published scores: `allod eval prior show`"
    more = f" and {len(one.evaluations) - 1} more" if len(one.evaluations) > 1 else ""
    return f"evaluation {one.evaluations[-1]}{more}"


def _no_price(one: DeploymentFacts) -> DecidingRule:
    return _rule(
        one,
        "price.unknown",
        got="unknown",
        required="a known price",
        key="price",
        remedy=f'give {one.deployment} a price: rates, a book entry, or "free"',
    )


def _too_dear(one: DeploymentFacts, most: Decimal, limit: Decimal) -> DecidingRule:
    return _rule(
        one,
        "cost.max",
        got=f"up to {plain(most)} USD",
        required=f"at most {plain(limit)} USD",
        key="price",
        remedy=f"raise the cost limit to {plain(most)} USD, or lower max_tokens",
    )


def _too_slow(one: DeploymentFacts, expected: int, deadline: int) -> DecidingRule:
    return _rule(
        one,
        "deadline",
        got=f"{expected} ms expected",
        required=f"at most {deadline} ms",
        key="latency, as measured",
        remedy=f"allow {expected} ms",
    )


def _rule(one: DeploymentFacts, rule: str, *, got: str, required: str, key: str, remedy: str) -> DecidingRule:
    source = f"deployment.{one.deployment}.{key}"
    return DecidingRule(id=rule, law="", got=got, required=required, source=source, remedy=remedy)
