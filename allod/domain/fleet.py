"""The fleet: tenant, apps, tasks, operators and deployments, as the configuration declares them.

A missing fact is ``None`` (unknown) and never a default; policy reads unknown as outside.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Final, Literal

import msgspec

from allod.domain.facts import Fact

Objective = Literal["sovereign", "cheapest", "best"]
Take = Literal["text", "image", "tools", "json_schema", "logprobs", "embeddings"]
TAKES: Final[tuple[Take, ...]] = ("text", "image", "tools", "json_schema", "logprobs", "embeddings")
CLEAR_TEXT: Final = "clear_text"
"""What a request needs that pseudonyms cannot cover: only our own deployments, which need none, give it."""
DEFERRED: Final = "deferred"
"""What a request needs that may wait in the queue; every deployment gives it."""
INTERACTIVE: Final = "interactive"
"""What a request needs that somebody waits for, where there are deployments for batch work only."""
LANGUAGE: Final = "language:"
"""Begins what a request needs that is written in a language (ISO 639-1): ``language:de``."""
SCRIPT: Final = "script:"
"""The same where only the script is known (ISO 15924): ``script:Cyrl``."""
Effort = Literal["none", "low", "medium", "high", "xhigh", "max"]
EFFORTS: Final[tuple[Effort, ...]] = ("none", "low", "medium", "high", "xhigh", "max")
ENGINES: Final[tuple[str, ...]] = (
    "llamacpp", "openai", "azure", "vllm", "sglang", "trtllm", "ollama", "llama-server", "mistral",
    "deepseek", "compatible", "anthropic", "gemini", "scripted",
)  # fmt: skip
EMBEDDED: Final[frozenset[str]] = frozenset({"llamacpp"})
"""Engines we load ourselves: ``provenance.verified`` applies to them, and they cost nothing unless priced."""


RISKS: Final[tuple[str, ...]] = ("minimal", "limited", "high", "prohibited")
"""Risk levels of a use (Regulation (EU) 2024/1689), as the organisation judges them itself."""
Named = dict[str, Fact[bool]]
"""Evidence by name (``baa``, ``c5-type2``): each with its own grade and expiry; absent is not there."""


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """One holder of an operator: where it is controlled from, and the larger of its capital and votes.

    ``percent`` is from 0 to 100.
    """

    name: str
    jurisdiction: str
    percent: Decimal


SEAL_WEIGHTS: Final = (15, 10, 10, 15, 20, 15, 10, 5)
"""Weights of SOV-1..SOV-8 in percent (EU Cloud Sovereignty Framework 1.2.1), unless a pack brings others."""


class Relaxation(msgspec.Struct, frozen=True, kw_only=True):
    """One demand the tenant waives by name: who signed it and why; shown wherever it decides."""

    rule: str
    reason: str
    signer: str


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """The organisation: its home, its bloc and what it keeps there.

    Attributes:
        sector: what it does (``bank``, ``hospital``), for packs that ask.
        min_seal: least level per objective SOV-1..SOV-8 that packs may demand; ``min_seal_score`` the least
            weighted score, in [0, 4].
        shadow: packs evaluated beside those in force, without deciding.
        four_eyes: changes must be proposed by one signer and approved by another.

    """

    id: str
    home: str
    bloc: tuple[str, ...]
    resident_classes: tuple[str, ...] = ("confidential", "personal", "phi", "special")
    default_classes: tuple[str, ...] = ("personal",)
    packs: tuple[str, ...] = ("base",)
    air_gapped: bool = False
    objective: Objective = "sovereign"
    banned_makers: tuple[str, ...] = ()
    relax: tuple[Relaxation, ...] = ()
    sector: str | None = None
    attestations: Named = {}
    min_seal: tuple[int, ...] | None = None
    min_seal_score: Decimal | None = None
    shadow: tuple[str, ...] = ()
    four_eyes: bool = False


class App(msgspec.Struct, frozen=True, kw_only=True):
    """A caller. ``classes`` None takes the tenant's default; empty ``purposes`` sets no purpose limit.

    ``effort`` and ``tier`` cap what a caller may ask for. ``function`` names the business function it serves,
    ``critical`` says that this is critical or important (DORA Art 3(22)). With ``pseudonymise`` what leaves
    to an operator that is not our own carries reversible pseudonyms. For ``cache_s`` seconds an answer may be
    given again to the very same request; None and 0 keep none.
    """

    id: str
    classes: tuple[str, ...] | None = None
    purposes: tuple[str, ...] = ()
    effort: Effort | None = None
    tier: str | None = None
    attestations: Named = {}
    risk: str | None = None
    function: str | None = None
    critical: bool = False
    pseudonymise: bool = False
    cache_s: int | None = None


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """Who runs deployments: seat, controlling jurisdictions, and statutes that can compel it.

    ``compelled_by`` with an empty value says "known not to be compellable"; None is unknown. ``registered``:
    it stands in the register of information (DORA Art 28(3)).
    """

    id: str
    own: bool = False
    seat: Fact[str] | None = None
    controlled_from: Fact[tuple[str, ...]] | None = None
    compelled_by: Fact[tuple[str, ...]] | None = None
    owners: Fact[tuple[Owner, ...]] | None = None
    agreements: Named = {}
    attestations: Named = {}
    registered: bool = False


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """How a deployment is priced: free, a price-book entry, or rates in USD per million tokens.

    Attributes:
        free: explicitly without cost.
        book: ``provider/model`` of the shipped price book.
        input_usd_mtok, output_usd_mtok: the two rates an own price must have.
        cached_input_usd_mtok, cache_write_usd_mtok: None means the input rate (never less than due).
        cache_write_1h_usd_mtok: for a cache that lives an hour; None means the cache-write rate.
        reasoning_usd_mtok: None means the output rate.
        changes: prices from a day on, in order; the last that has begun stands in this one's place.
        windows: what is charged at some hours; the last that applies counts.
        zone: whose clock and days windows and dates are meant by; None is UTC.
        factor: what all of it is multiplied by: a region's surcharge, a negotiated discount.

    """

    free: bool = False
    book: str | None = None
    input_usd_mtok: Decimal | None = None
    cached_input_usd_mtok: Decimal | None = None
    cache_write_usd_mtok: Decimal | None = None
    cache_write_1h_usd_mtok: Decimal | None = None
    output_usd_mtok: Decimal | None = None
    reasoning_usd_mtok: Decimal | None = None
    changes: tuple[PriceChange, ...] = ()
    windows: tuple[PriceWindow, ...] = ()
    zone: Zone | None = None
    factor: Decimal | None = None


class Zone(msgspec.Struct, frozen=True, kw_only=True):
    """A time zone by name, with the offsets that hold in it: (from UTC ms, minutes east of UTC), in order.

    The composition root reads them, so that a price is a function of what a snapshot keeps. The first offset
    holds before its time too, the last for ever.
    """

    name: str
    offsets: tuple[tuple[int, int], ...]


class PriceWindow(msgspec.Struct, frozen=True, kw_only=True):
    """Hours of the day in which a price is multiplied by ``factor``, or is ``price`` (one of the two).

    ``from_minute`` up to ``until_minute`` of the day, the end excluded; a window that ends at or before its
    beginning reaches into the next day (equal ends: all day). ``days`` are those it begins on, 0 for Monday;
    empty for every day.
    """

    from_minute: int
    until_minute: int
    days: tuple[int, ...] = ()
    factor: Decimal | None = None
    price: Price | None = None


class PriceChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a price is from a time on: ``since_ms`` UTC ms."""

    since_ms: int
    price: Price


class CapabilityEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """What evaluations and audited publications say of how well a deployment does one task.

    Attributes:
        value: expected success, in [0, 1]: what candidates are ordered by.
        low, high: what success exceeds, and stays below, with 95 % each: floors are held against ``low``.
        basis: whether own cases were counted, or there are publications only.
        cases: how many cases were counted; judged ones count for less than one.
        evaluations: digests of the evaluations they come from.
        until: the first UTC day on which this does not hold any more; None for no end.

    """

    value: Decimal
    low: Decimal
    high: Decimal
    basis: Literal["measured", "published"]
    cases: Decimal = Decimal(0)
    evaluations: tuple[str, ...] = ()
    until: date | None = None


class DepthEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """What evaluations at one reasoning depth found of how a deployment does one task.

    Attributes:
        effort: the depth they asked for.
        success: how often it is right: of several, the first that still holds counts.
        output_tokens, reasoning_tokens: billed tokens of an answer on average, disjoint, rounded up; what an
            operator bills as output without telling it apart is in the first.
        total_ms: how long an answer took on average, None where that was not measured.

    """

    effort: Effort
    success: tuple[CapabilityEvidence, ...]
    output_tokens: int
    reasoning_tokens: int = 0
    total_ms: int | None = None


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """A model at a site under an operator: its facts, what it takes, its limits, its price.

    ``model`` is a vault name or ``sha256:...`` for an embedded engine, else the operator's model name.
    ``quality`` maps a task name, or ``default``, to a success probability in [0, 1], as declared;
    ``capability`` to what evaluations say of it: the first of each that still holds comes before ``quality``.
    ``languages`` are those it is known to take (ISO 639-1); None is unknown.
    ``seal`` is the vector SOV-1..SOV-8 of levels 0-4 (EU Cloud Sovereignty Framework 1.2.1).
    ``adapter`` and ``draft`` name vault entries an embedded engine loads beside the model. ``batch_only``
    takes nothing but work that may wait: what an operator sells as batch, at a price of its own.
    ``depths`` maps a task to what evaluations say of it per reasoning depth; ``thinking_tokens`` a depth to
    the most tokens of thinking it may take here, where an operator can be told, in place of the driver's own.
    ``chip`` is who makes what it runs on (``NVIDIA``), ``hardware`` and ``hardware_count`` which device and
    how many; ``maker``, ``maker_jurisdiction`` and ``family`` are those of its model. Drills and the planner
    read these six; law reads of a maker only what the vault verified (``Weights``).
    """

    id: str
    engine: str
    model: str
    operator: str
    approved: bool = True
    processing: Fact[str] | None = None
    at_rest: Fact[tuple[str, ...]] | None = None
    transit: Fact[tuple[str, ...]] | None = None
    on_premises: Fact[bool] | None = None
    records_auditable: Fact[bool] | None = None
    inspectable: Fact[bool] | None = None
    seal: Fact[tuple[int, ...]] | None = None
    retention_days: Fact[int] | None = None
    trains_on_inputs: Fact[bool] | None = None
    agreements: Named = {}
    attestations: Named = {}
    base_url: str | None = None
    api_key_env: str | None = None
    takes: frozenset[str] = frozenset({"text"})
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    timeout_ms: int = 120_000
    first_token_ms: int = 30_000
    max_concurrent: int | None = None
    retries: int = 2
    price: Price | None = None
    quality: dict[str, Decimal] = {}
    adapter: str | None = None
    draft: str | None = None
    batch_only: bool = False
    languages: Fact[tuple[str, ...]] | None = None
    capability: dict[str, tuple[CapabilityEvidence, ...]] = {}
    depths: dict[str, tuple[DepthEvidence, ...]] = {}
    thinking_tokens: dict[Effort, int] = {}
    chip: Fact[str] | None = None
    hardware: Fact[str] | None = None
    hardware_count: int | None = None
    maker: Fact[str] | None = None
    maker_jurisdiction: Fact[str] | None = None
    family: Fact[str] | None = None


class CheckFile(msgspec.Struct, frozen=True):
    """A file a check goes by: its path in the configuration's folder, and ``sha256:`` of what it holds."""

    name: str
    digest: str = ""


class CascadeTask(msgspec.Struct, frozen=True, kw_only=True):
    """How a task may be answered by a cheaper base, as far as audits show that little is lost by it.

    Attributes:
        base: whom to ask first; None takes the cheapest lawful one by cost per solved task.
        second: whose answer must agree with the base's (``agreement``); None takes the cheapest lawful one of
            another model family.
        reference: against whom nothing is lost; None takes the lawful one of the highest quality.
        check: what makes a base's answer deliverable: ``json_schema`` (of the request), ``json``,
            ``numeric``, ``choice``, ``regex:PATTERN`` (RE2), ``compile:LANGUAGE``, ``arithmetic``, ``sql``,
            ``tests``, ``citation``, all of them; and ``agreement`` and ``margin``, by which the rules go.
        key: what two answers are compared by (``numeric``, ``choice``, ``json``, ``regex:PATTERN``, ``sql``,
            ``tests``, ``exact``); None takes that of the first check that has one.
        max_loss: the most quality that may be lost on average against the reference, 0 to 1.
        audit_share: of the task's requests that are answered by the others too, 0 to 1.
        stream: whether a stream is held back until it may be delivered, or is the base's at once, marked.
        learn: whether hashed words of audited requests are kept, to estimate by (``docs/routing.md``).
        switch_margin: so many times as dear as the cheapest may base and second become before another is
            taken in their place, where they are not named; at least 1.
        fallback: who answers, in this order, where neither the rule nor the reference could. No promise is
            made of such an answer, and it is marked; empty fails the request.

    """

    base: str | None = None
    second: str | None = None
    reference: str | None = None
    check: tuple[str, ...] = ("agreement",)
    key: str | None = None
    max_loss: Decimal = Decimal("0.01")
    audit_share: Decimal = Decimal("0.03")
    stream: Literal["hold", "base"] = "hold"
    learn: bool = False
    tests: CheckFile | None = None
    schema: CheckFile | None = None
    columns: tuple[str, ...] = ()
    some_rows: bool = False
    margin: tuple[Decimal, ...] = ()
    margin_by: Literal["least", "mean"] = "least"
    check_s: int = 10
    switch_margin: Decimal = Decimal("1.25")
    fallback: tuple[str, ...] = ()


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A named kind of work: its floor, its objective, its classes, and optionally its only candidates.

    ``fields`` are the paths of structured input it needs; None needs all of it. ``unstructured`` says what
    happens to input without fields then. ``cache_s`` comes before the app's. ``languages`` are those its
    requests are written in, where nobody has to guess; with ``require_language`` what is unknown excludes.
    With ``efforts`` the depth is chosen among these, as a deployment is; the first is taken where nothing was
    measured, and ``effort`` is None. ``cascade`` says how it may be answered in steps. With ``estimate`` each
    request is planned by what is estimated of it (``docs/routing.md``), where there is evidence.
    """

    name: str
    min_quality: Decimal | None = None
    max_cost_usd: Decimal | None = None
    deadline_ms: int | None = None
    objective: Objective | None = None
    classes: tuple[str, ...] = ()
    deployments: tuple[str, ...] = ()
    effort: Effort | None = None
    fields: tuple[str, ...] | None = None
    unstructured: Literal["refuse", "keep"] = "refuse"
    cache_s: int | None = None
    languages: tuple[str, ...] = ()
    require_language: bool = False
    efforts: tuple[Effort, ...] = ()
    cascade: CascadeTask | None = None
    estimate: bool = False


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a decision reads of the configuration, by id; ``weights`` are what the vault verified.

    ``sovereignty_weights`` are the percentages of the eight objectives of a sovereignty vector, from a pack.
    """

    tenant: Tenant
    apps: dict[str, App]
    operators: dict[str, Operator]
    deployments: dict[str, Deployment]
    tasks: dict[str, Task] = {}
    weights: dict[str, Weights] = {}
    sovereignty_weights: tuple[int, ...] = SEAL_WEIGHTS

    def operator_of(self, deployment: Deployment) -> Operator:
        """Return the operator of a deployment (the configuration made sure that it exists)."""
        return self.operators[deployment.operator]


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """What the vault verified of one deployment's model, keyed in ``Fleet.weights`` by deployment id.

    Digests are ``sha256:`` and 64 hex digits; ``maker_jurisdiction`` None is unknown.
    """

    weights: str
    adapter: str | None = None
    template: str | None = None
    maker_jurisdiction: str | None = None
    verified: bool = False
