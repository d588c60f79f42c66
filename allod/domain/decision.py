"""What was decided and why: exclusions, eligibility, the plan."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from allod.domain.fleet import Effort, Objective


class DecidingRule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule that excluded a deployment.

    Attributes:
        id: rule id (``residency.5-operator``, ``quality.floor``, ``capability.tools``).
        law: the articles behind it, or an empty string for a rule that is not law.
        got: the fact as it is, with its grade where that matters; ``unknown`` when missing.
        required: what would have been needed.
        source: where the fact comes from: its own source, or the configuration key.
        remedy: what would change the decision.

    """

    id: str
    law: str
    got: str
    required: str
    source: str
    remedy: str


class Exclusion(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment left out, with every rule that decides against it, in rule order."""

    deployment: str
    rules: tuple[DecidingRule, ...]


class NearestChange(msgspec.Struct, frozen=True, kw_only=True):
    """The smallest change known that would admit a deployment (``change`` is one sentence)."""

    deployment: str
    change: str


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """The residency conditions of one deployment as evaluated, whether or not they were demanded."""

    process: bool
    rest: bool
    transit: bool
    audit: bool
    operator: bool


class Eligibility(msgspec.Struct, frozen=True, kw_only=True):
    """Which deployments may lawfully see the request.

    Attributes:
        kept: ids of lawful deployments, in configuration order.
        excluded: the others, each with every deciding rule.
        conditions: residency conditions per deployment id, kept ones included.
        relaxed: rules the tenant waived that would otherwise have excluded a kept deployment:
            (deployment, rule) pairs.
        pack_digest, fleet_digest: ``sha256:`` digests this decision was made with.

    """

    kept: tuple[str, ...]
    excluded: tuple[Exclusion, ...]
    conditions: dict[str, Conditions]
    relaxed: tuple[tuple[str, str], ...]
    pack_digest: str
    fleet_digest: str


class Estimated(msgspec.Struct, frozen=True, kw_only=True):
    """What is expected of a lawful deployment for one request, as the decision read it (I8).

    Attributes:
        success: probability of a success, in [0, 1], in hundredths.
        low, high: 90 % interval of it, rounded outwards: what it exceeds, and stays below, with 95 % each.
            It is about what more evidence could move it by, not about how this one answer will be.
        output_tokens: expected billed length of the answer, coarse.
        n: outcomes behind it, each weighed by its age.

    """

    success: Decimal
    low: Decimal
    high: Decimal
    output_tokens: int
    n: int


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment the plan would try: expected quality in [0, 1], expected and worst cost in USD."""

    deployment: str
    quality: Decimal | None
    cost_usd: Decimal
    reserve_usd: Decimal
    effort: Effort | None = None
    retries: int = 2


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """How one deployment of the fleet stood in the plan; ``rules`` is empty for an eligible one.

    ``quality`` and ``cost_usd`` are None for what the law excluded: it is never estimated. ``depth`` is the
    reasoning depth they hold at, where it was chosen by what was measured of it.
    """

    deployment: str
    eligible: bool
    rules: tuple[DecidingRule, ...]
    quality: Decimal | None
    cost_usd: Decimal | None
    sovereignty: Decimal | None = None
    latency_ms: int | None = None
    depth: Effort | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Which lawful deployments serve the request, in what order, and why.

    ``attempts`` may be empty only when every candidate is excluded (refused) or ``resting`` names lawful
    and able deployments whose circuit breaker is open (unavailable).
    """

    attempts: tuple[Attempt, ...]
    candidates: tuple[Candidate, ...]
    objective: Objective
    why: str
    resting: tuple[str, ...] = ()
    nearest: tuple[NearestChange, ...] = ()
