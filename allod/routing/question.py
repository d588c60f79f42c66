"""What a plan is made of: the question the gateway puts, and the numbers a decision reads of it.

``Question`` holds references to the whole fleet and is hashable, to memoise plans by. ``facts_of`` reduces
it to ``DecisionFacts``: exactly the numbers the decision depends on, small enough to be kept. A plan is a
function of these facts alone, so that a recorded decision can be made again (I8).
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.admission.language import taken
from allod.admission.sizes import bucket
from allod.domain.decision import DecidingRule, Eligibility, Estimated
from allod.domain.fleet import (
    CLEAR_TEXT,
    DEFERRED,
    INTERACTIVE,
    LANGUAGE,
    SCRIPT,
    SEAL_WEIGHTS,
    CapabilityEvidence,
    Deployment,
    Effort,
    Fleet,
    Objective,
)
from allod.domain.usage import Usage
from allod.metering.rates import Tariff, Tariffs, cost
from allod.metering.settle import Bounds
from allod.routing.depth import DepthFacts, depths_of, efforts_of, shallower

if TYPE_CHECKING:
    from allod.domain.request import Admitted

DEFAULT_OUTPUT_TOKENS: Final = 4096
"""The output limit in force where neither the caller nor the deployment sets one."""
EXPECTED_OUTPUT_TOKENS: Final = 512
"""Assumed length of an answer, until answers are measured: an assumption for ordering, not a promise."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How the deployments are now, as far as the gateway has seen.

    Attributes:
        resting: ids whose breaker is open.
        latency_ms: expected time to a whole answer where known; rounded, so that plans are shared.
        unready: ids that cannot serve now, with the reason (no credential, child not running).

    """

    resting: frozenset[str] = frozenset()
    latency_ms: dict[str, int] = {}
    unready: dict[str, str] = {}


class Question(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Everything a plan depends on. Equal questions have equal plans; neither receipt nor time is in it.

    ``input_tokens`` is rounded up by ``admission.sizes.bucket``; ``day`` (UTC) is there for facts that
    expire. ``estimates`` are what was estimated of this very request, per deployment: of all that could serve
    it without them, or of none.
    """

    app: str
    surface: str
    classes: tuple[str, ...]
    purpose: str | None
    task: str | None
    pinned: tuple[str, ...]
    needs: tuple[str, ...]
    input_tokens: int
    max_output_tokens: int | None
    choices: int
    min_quality: Decimal | None
    max_cost_usd: Decimal | None
    deadline_ms: int | None
    effort: Effort | None
    day: date
    eligibility: Eligibility
    fleet: Fleet
    tariffs: Tariffs
    health: Health
    expected_tokens: tuple[tuple[str, int], ...] = ()
    efforts: tuple[Effort, ...] = ()
    estimates: tuple[tuple[str, Estimated], ...] = ()

    def _small(self) -> tuple[Any, ...]:
        return (
            self.app, self.surface, self.classes, self.purpose, self.task, self.pinned, self.needs,
            self.input_tokens, self.max_output_tokens, self.choices, self.min_quality, self.max_cost_usd,
            self.deadline_ms, self.effort, self.day, self.eligibility.kept, self.expected_tokens,
            self.efforts, self.estimates,
        )  # fmt: skip

    def __hash__(self) -> int:
        return hash(self._small())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Question):
            return NotImplemented
        return self._small() == other._small() and all(
            mine is theirs or mine == theirs
            for mine, theirs in (
                (self.eligibility, other.eligibility),
                (self.fleet, other.fleet),
                (self.tariffs, other.tariffs),
                (self.health, other.health),
            )
        )


class DeploymentFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision reads of one candidate.

    ``law`` holds the deciding rules of an unlawful one, whose estimates are then all None: it is never
    estimated. ``cost_usd`` and ``reserve_usd`` are None where the price is unknown. ``quality_key`` says
    which entry of ``quality`` was used. ``listed`` is False for a pinned deployment the task does not name.
    ``evidence`` is what evaluations and publications say of its quality, where they say something: then
    ``quality`` is what they expect, and the floor is held against their bound. ``expected_tokens`` is what
    its tokenizer, learned from traffic, is unlikely to make more input tokens than of this request.
    ``depths`` are those it may be served at of which something was measured; ``depth`` is set on a copy that
    stands for one of them. ``estimate`` is what was estimated of this request: it orders, and it may exclude;
    it never stands in for ``quality`` or ``evidence`` where the floor is held.
    """

    deployment: str
    law: tuple[DecidingRule, ...] = ()
    listed: bool = True
    takes: tuple[str, ...] = ()
    context_tokens: int | None = None
    quality: Decimal | None = None
    quality_key: str = "default"
    cost_usd: Decimal | None = None
    reserve_usd: Decimal | None = None
    price: str | None = None
    sovereignty: Decimal | None = None
    latency_ms: int | None = None
    resting: bool = False
    unready: str | None = None
    retries: int = 0
    evidence: CapabilityEvidence | None = None
    expected_tokens: int | None = None
    depths: tuple[DepthFacts, ...] = ()
    depth: Effort | None = None
    estimate: Estimated | None = None


class DecisionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision is made of: the request's limits and the candidates in configuration order.

    ``ordered`` is True when the task names its deployments: then they are tried in this order. ``efforts``
    are the depths to choose among, if that is open; ``effort`` is then for candidates without ``depths``.
    """

    task: str | None
    needs: tuple[str, ...]
    input_tokens: int
    min_quality: Decimal | None
    max_cost_usd: Decimal | None
    deadline_ms: int | None
    effort: Effort | None
    objective: Objective
    ordered: bool
    candidates: tuple[DeploymentFacts, ...]
    efforts: tuple[Effort, ...] = ()


def question_of(
    admitted: Admitted, eligibility: Eligibility, fleet: Fleet, tariffs: Tariffs, health: Health
) -> Question:
    """Put the question a plan answers; sizes are rounded up so that like requests put the same one."""
    sizes = admitted.sizes
    return Question(
        app=admitted.app,
        surface=admitted.surface,
        classes=admitted.classes,
        purpose=admitted.purpose,
        task=admitted.task,
        pinned=admitted.pinned,
        needs=admitted.needs,
        input_tokens=bucket(sizes.input_tokens),
        max_output_tokens=sizes.max_output_tokens,
        choices=sizes.choices,
        min_quality=admitted.min_quality,
        max_cost_usd=admitted.max_cost_usd,
        deadline_ms=admitted.deadline_ms,
        effort=admitted.effort,
        day=datetime.fromtimestamp(admitted.received_at_ms // 1000, UTC).date(),
        eligibility=eligibility,
        fleet=fleet,
        tariffs=tariffs,
        health=health,
        expected_tokens=sizes.expected_tokens,
        efforts=admitted.efforts,
    )


def output_limit(max_output_tokens: int | None, deployment: Deployment) -> int:
    """Return the output limit in force at a deployment, per choice: the lower of the caller's and its own."""
    own = deployment.max_output_tokens
    if max_output_tokens is None:
        return DEFAULT_OUTPUT_TOKENS if own is None else own
    return max_output_tokens if own is None else min(own, max_output_tokens)


def bounds_of(question: Question, deployment: Deployment) -> Bounds:
    """Return what an attempt at a deployment is reserved for."""
    limit = output_limit(question.max_output_tokens, deployment)
    return Bounds(input_tokens=question.input_tokens, max_output_tokens=limit * question.choices)


def sovereignty_of(seal: tuple[int, ...], percent: tuple[int, ...] = SEAL_WEIGHTS) -> Decimal:
    """Weigh a vector of eight levels from 0 to 4 (SOV-1..SOV-8, unless a pack says otherwise) into a score.

    Raises:
        ValueError: another number of levels.

    """
    return Decimal(sum(w * level for w, level in zip(percent, seal, strict=True))).scaleb(-2)


def facts_of(question: Question) -> DecisionFacts:
    """Reduce a question to the facts its decision is made of."""
    fleet = question.fleet
    task = fleet.tasks.get(question.task) if question.task is not None else None
    named = task.deployments if task is not None else ()
    scope = [name for name in (*named, *fleet.deployments) if name in fleet.deployments]
    if question.pinned:
        pinned = set(question.pinned)
        scope = [name for name in scope if name in pinned]
    elif named:
        scope = list(named)
    unlawful = {one.deployment: one.rules for one in question.eligibility.excluded}
    return DecisionFacts(
        task=question.task,
        needs=_needs(question),
        input_tokens=question.input_tokens,
        min_quality=question.min_quality,
        max_cost_usd=question.max_cost_usd,
        deadline_ms=question.deadline_ms,
        effort=question.effort,
        objective=(task.objective if task is not None else None) or fleet.tenant.objective,
        ordered=bool(named),
        efforts=question.efforts,
        candidates=tuple(
            candidate(question, fleet.deployments[name], unlawful, listed=not named or name in named)
            for name in dict.fromkeys(scope)
            if name in fleet.deployments
        ),
    )


UNDECIDED: Final = DecidingRule(
    id="policy.undecided",
    law="",
    got="no decision",
    required="permitted by policy",
    source="eligibility",
    remedy="report this: policy did not decide about a deployment, and that denies it",
)
"""The rule against a deployment that an eligibility says nothing about."""


def candidate(
    question: Question, deployment: Deployment, unlawful: dict[str, tuple[DecidingRule, ...]], *, listed: bool
) -> DeploymentFacts:
    """Reduce one deployment to what a decision reads of it; ``unlawful`` holds the rules against each."""
    name = deployment.id
    if name not in question.eligibility.kept or name in unlawful:
        return DeploymentFacts(deployment=name, law=unlawful.get(name) or (UNDECIDED,), listed=listed)
    tariff = question.tariffs.by_deployment.get(name)
    known = dict(question.estimates).get(name)
    expected, most = (None, None) if tariff is None else _estimate(question, deployment, tariff, known)
    quality, key, evidence = quality_of(deployment, question.task, question.day)
    if evidence is not None and evidence.basis == "measured" and key == question.task and _shallow(question):
        quality, evidence = deployment.quality.get(key), None
    seal, health = deployment.seal, question.health
    return DeploymentFacts(
        deployment=name,
        listed=listed,
        takes=_takes(question, deployment),
        context_tokens=deployment.context_tokens,
        quality=quality,
        quality_key=key,
        cost_usd=expected,
        reserve_usd=most,
        price=None if tariff is None else tariff.digest,
        sovereignty=sovereignty_of(seal.value, question.fleet.sovereignty_weights)
        if seal is not None and seal.holds_on(question.day)
        else None,
        latency_ms=health.latency_ms.get(name),
        resting=name in health.resting,
        unready=health.unready.get(name),
        retries=deployment.retries,
        evidence=evidence,
        expected_tokens=dict(question.expected_tokens).get(name),
        depths=_depths(question, deployment, tariff) if deployment.depths and question.task else (),
        estimate=known,
    )


DEFAULT_TASK: Final = "default"


def quality_of(
    deployment: Deployment, task: str | None, day: date
) -> tuple[Decimal | None, str, CapabilityEvidence | None]:
    """Return the quality a decision reads, of which task it is, and what was measured or published of it.

    What is known of the task itself comes before what is known of none, measured before declared.
    """
    for key in (DEFAULT_TASK,) if task is None else (task, DEFAULT_TASK):
        for one in deployment.capability.get(key, ()):
            if one.until is None or day < one.until:
                return one.value, key, one
        if key in deployment.quality:
            return deployment.quality[key], key, None
    return None, DEFAULT_TASK, None


def _needs(question: Question) -> tuple[str, ...]:
    """Return what a request needs; where some deployments are for batch work only, also whether it waits."""
    if DEFERRED in question.needs or not _some_batch(question.fleet):
        return question.needs
    return tuple(sorted({*question.needs, INTERACTIVE}))


def _some_batch(fleet: Fleet) -> bool:
    return any(one.batch_only for one in fleet.deployments.values())


def _takes(question: Question, deployment: Deployment) -> tuple[str, ...]:
    """Return what a deployment takes; what must not be covered by pseudonyms only our own do."""
    more = set[str]()
    if CLEAR_TEXT in question.needs and question.fleet.operator_of(deployment).own:
        more.add(CLEAR_TEXT)
    if DEFERRED in question.needs:
        more.add(DEFERRED)
    elif not deployment.batch_only and (INTERACTIVE in question.needs or _some_batch(question.fleet)):
        more.add(INTERACTIVE)
    spoken = [need for need in question.needs if need.startswith((LANGUAGE, SCRIPT))]
    if spoken:
        task = question.fleet.tasks.get(question.task or "")
        known = deployment.languages
        known = known if known is not None and known.holds_on(question.day) else None
        strict = task is not None and task.require_language
        more |= taken(spoken, None if known is None else known.value, strict=strict)
    return tuple(sorted({*deployment.takes, *more}))


def _estimate(
    question: Question, deployment: Deployment, tariff: Tariff, known: Estimated | None
) -> tuple[Decimal, Decimal]:
    """Return (expected, worst) cost of one attempt in USD; what is reserved never rests on an estimate."""
    bounds = bounds_of(question, deployment)
    each = EXPECTED_OUTPUT_TOKENS if known is None else known.output_tokens
    answer = min(bounds.max_output_tokens, each * question.choices)
    usage = Usage(input_tokens=bounds.input_tokens, output_tokens=answer)
    return cost(usage, tariff.at(usage.total_input_tokens)), bounds.reservation(tariff)


def _depths(question: Question, deployment: Deployment, tariff: Tariff | None) -> tuple[DepthFacts, ...]:
    """Return what was measured at the depths the request may be served at, priced for this request."""

    def cost_of(one: Usage) -> Decimal:
        assert tariff is not None
        usage = Usage(
            input_tokens=question.input_tokens,
            output_tokens=one.output_tokens * question.choices,
            reasoning_tokens=one.reasoning_tokens * question.choices,
        )
        return cost(usage, tariff.at(usage.total_input_tokens))

    return depths_of(
        deployment,
        question.task,
        efforts_of(question.effort, question.efforts),
        question.day,
        None if tariff is None else cost_of,
        output_limit(question.max_output_tokens, deployment),
    )


def _shallow(question: Question) -> bool:
    """Tell whether what was measured is about more depth than this request gets: it says nothing of it."""
    return shallower(question.fleet.tasks.get(question.task or ""), question.effort)
