"""Recorded decisions, gathered by what a loss can do to them, so that many worlds cost little more than one.

Every distinct decision record is read once, held against its recorded plan and judged once by
``routing.plan.choose``. What a world takes away shortens that order and changes nothing else in it; where
nobody is left of it, who was only estimated to fail comes next, in the order ``choose`` gives these. So
decisions with the same orders, law and day are one group, and a world is decided per group: who is left, and
what the recorded estimates of those left add up to. Where prices change the order may change too: for such
worlds every record is judged again. Nothing here knows of packs or of a home.
"""

from __future__ import annotations

import hashlib
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.errors import AllodError, Integrity
from allod.domain.money import ZERO
from allod.receipts.commitment import digest as digest_of
from allod.routing.plan import ESTIMATED, Choice, choose
from allod.routing.question import EXPECTED_OUTPUT_TOKENS
from allod.routing.simulate import NOT_HELD, Past, held, past_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from allod.routing.question import DecisionFacts, DeploymentFacts
    from allod.store.database import Decided

EXAMPLES: Final = 3
KINDS: Final = 512
"""So many kinds of requests are told apart in a group when remedies are tried; the rest are counted."""
LOST: Final = "the decision record is not in the tables (lost, or the tables were rebuilt)"
PRUNED: Final = "its leaves and its decision record are pruned by the log's policy"
DAMAGED: Final = "the decision record is damaged: it is not the one the receipts name"
SENSELESS: Final = "the decision record holds what no decision can be made of"
NO_DAY: Final = "the decision record names no day"
_EXACT: Final = Context(prec=120, traps=[Inexact, InvalidOperation])


class Sum:
    """What the recorded estimates of one deployment add up to over a group's requests (USD, tokens, ms).

    ``low`` and ``high`` are the bounds that evaluations give, of ``bounded`` requests; ``known`` is of how
    many the quality is.
    """

    __slots__ = ("bounded", "cost", "high", "known", "latency", "low", "quality", "timed")

    def __init__(self) -> None:
        self.cost = self.quality = self.low = self.high = ZERO
        self.known = self.bounded = self.timed = self.latency = 0

    def add(self, one: DeploymentFacts, requests: int) -> None:
        """Add the estimates of a candidate, so many times."""
        if one.cost_usd is not None:
            self.cost = _EXACT.fma(_finite(one.cost_usd, one), requests, self.cost)
        if one.quality is not None:
            self.quality = _EXACT.fma(_finite(one.quality, one), requests, self.quality)
            self.known += requests
            if one.evidence is not None:
                self.low = _EXACT.fma(one.evidence.low, requests, self.low)
                self.high = _EXACT.fma(one.evidence.high, requests, self.high)
                self.bounded += requests
            else:
                self.low = _EXACT.fma(one.quality, requests, self.low)
                self.high = _EXACT.fma(one.quality, requests, self.high)
        if one.latency_ms is not None:
            self.latency += one.latency_ms * requests
            self.timed += requests


def _finite(amount: Decimal, one: DeploymentFacts) -> Decimal:
    if not amount.is_finite():
        raise Integrity(
            "an estimate is no number", f"got {amount} for {one.deployment}", "get the record again"
        )
    return amount


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What law is asked about a group, and on which day (ISO, UTC)."""

    app: str
    classes: tuple[str, ...]
    purpose: str | None
    pseudonymised: bool
    link_up: bool
    day: str


class Kind:
    """Requests of a group that put the same question but for health: how many, and one record of them."""

    __slots__ = ("digest", "receipt", "requests")

    def __init__(self, digest: str, receipt: str) -> None:
        self.requests, self.digest, self.receipt = 0, digest, receipt


class Group:
    """Requests that any loss does the same to.

    Attributes:
        asked, task, configuration: who asked what, and the snapshot of the fleet it was decided with.
        up, down: able candidates in their order: those that could serve, and those that were down.
        hard_up, hard_down: the same of those who come where nobody of them is left.
        first: who was chosen, as recorded; ``before`` are its recorded estimates.
        sums: recorded estimates of every able candidate.
        against: rules against each other candidate.

    """

    __slots__ = (
        "against", "asked", "before", "configuration", "decisions", "down", "first", "hard_down", "hard_up",
        "input_tokens", "kinds",
        "output_tokens", "receipts", "requests", "sums", "task", "unkept", "up",
    )  # fmt: skip

    def __init__(self, key: tuple[Any, ...]) -> None:
        self.asked: Asked = key[0]
        self.task: str | None = key[1]
        self.configuration: str | None = key[2]
        self.first: str | None = key[3]
        self.up: tuple[str, ...] = key[4]
        self.down: tuple[str, ...] = key[5]
        self.hard_up: tuple[str, ...] = key[6]
        self.hard_down: tuple[str, ...] = key[7]
        self.requests = self.decisions = self.unkept = self.input_tokens = self.output_tokens = 0
        self.before = Sum()
        everybody = (*self.up, *self.down, *self.hard_up, *self.hard_down)
        self.sums: dict[str, Sum] = {name: Sum() for name in everybody}
        self.against: dict[str, frozenset[str]] = {}
        self.kinds: dict[tuple[Any, ...], Kind] = {}
        self.receipts: list[str] = []

    @property
    def cell(self) -> tuple[str, tuple[str, ...], str | None]:
        """App, classes and task."""
        return self.asked.app, self.asked.classes, self.task


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """Decisions that could not be made again, and why; nothing is guessed about them."""

    reason: str
    requests: int
    decisions: int
    receipts: tuple[str, ...]


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger says of a deployment in the span: attempts, USD, tokens, and a mean answer's ms."""

    attempts: int
    cost_usd: float
    input_tokens: int
    output_tokens: int
    total_ms: float | None


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """Everything asked in a span.

    Attributes:
        groups: what losses are decided on.
        requests, decisions: how many, and how many distinct records; ``held`` of these were made again and
            are as recorded.
        records: ``sha256:`` over the digests of all records, in order: what was drilled on.
        days: how many UTC days the span has, from the first request to the last.
        peak: requests in the busiest hour over those of a mean hour; None is not known.
        usage: what the ledger says, by deployment.
        generated: nobody asked this: it is made from the configuration.

    """

    groups: tuple[Group, ...]
    requests: int
    decisions: int
    held: int
    left: tuple[Left, ...]
    records: str
    days: int
    first_day: str
    last_day: str
    damaged: int = 0
    peak: float | None = None
    usage: dict[str, Usage] = {}
    generated: bool = False


Factors = dict[str, Decimal]


class Gathering:
    """Reads decisions and gathers them; with ``priced`` once more for each set of price factors.

    Args:
        priced: by a name, what prices are multiplied by; a function of the configuration's digest.
        refuse: says why decisions of a configuration cannot be drilled, or None.

    """

    def __init__(
        self,
        priced: Mapping[str, Callable[[str | None], Factors]] | None = None,
        refuse: Callable[[str | None], str | None] = lambda _: None,
    ) -> None:
        self._priced, self._refuse = dict(priced or {}), refuse
        self._tables: dict[str | None, dict[tuple[Any, ...], Group]] = {
            name: {} for name in (None, *self._priced)
        }
        self._left: dict[str, tuple[list[int], list[str]]] = {}
        self._asked: dict[tuple[Any, ...], Asked] = {}
        self._rules: dict[bytes, str] = {}
        self._hash = hashlib.sha256()
        self._days: set[str] = set()
        self.requests = self.decisions = self.held = self.damaged = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The names that prices change under."""
        return tuple(self._priced)

    def add(self, one: Decided) -> None:
        """Take in one decision and the requests that share it."""
        self.requests += one.requests
        self.decisions += 1
        self._hash.update(f"{one.digest} {one.requests}\n".encode())
        if one.body is None:
            self._leave(PRUNED if one.pruned else LOST, one)
            return
        if digest_of(one.body) != one.digest:
            self.damaged += 1
            self._leave(DAMAGED, one)
            return
        try:
            self._take(one, past_of(one.body))
        except AllodError as fault:
            self.damaged += isinstance(fault, Integrity) and fault.what != NOT_HELD
            self._leave(fault.what, one)
        except (ArithmeticError, LookupError, TypeError, ValueError) as fault:
            self.damaged += 1
            self._leave(f"{SENSELESS} ({type(fault).__name__})", one)

    def _take(self, one: Decided, past: Past) -> None:
        refused = self._refuse(past.configuration)
        if refused is not None:
            self._leave(refused, one)
            return
        before = held(past)
        asked = self._ask(past)
        first = before.up[0] if before.up else None
        orders = Orders(before, _hard(past.facts, before))
        made = {name: _repriced(past, of(past.configuration)) for name, of in self._priced.items()}
        self._put(None, one, past, asked, first, orders)
        for name, other in made.items():
            self._put(name, one, past, asked, first, other or orders)
        self.held += 1
        self._days.add(asked.day)

    def _ask(self, past: Past) -> Asked:
        day = past.flags.get("day")
        if not isinstance(day, str) or len(day) != len("2026-01-01"):
            raise Integrity(NO_DAY, f"got {day!r}", "get the record again")
        flags = bool(past.flags.get("pseudonymised", False)), bool(past.flags.get("link_up", False))
        key = past.asked.app, past.asked.classes, past.asked.purpose, *flags, day
        known = self._asked.get(key)
        if known is None:
            known = self._asked[key] = Asked(
                app=past.asked.app,
                classes=past.asked.classes,
                purpose=past.asked.purpose,
                pseudonymised=flags[0],
                link_up=flags[1],
                day=day,
            )
        return known

    def _put(
        self,
        name: str | None,
        one: Decided,
        past: Past,
        asked: Asked,
        first: DeploymentFacts | None,
        orders: Orders,
    ) -> None:
        now, hard = orders.now, orders.hard
        up = tuple([each.deployment for each in now.up])
        more = ((), ()) if hard is None else (tuple([each.deployment for each in hard.up]), hard.down)
        served = None if first is None else first.deployment
        key = (asked, past.facts.task, past.configuration, served, up, now.down, *more)
        table = self._tables[name]
        group = table.get(key)
        if group is None:
            group = table[key] = Group(key)
        group.requests += one.requests
        group.decisions += 1
        group.input_tokens += past.facts.input_tokens * one.requests
        group.output_tokens += _output(past) * one.requests
        if first is not None:
            group.before.add(first, one.requests)
        for each in now.able if hard is None else (*now.able, *hard.able):
            group.sums[each.deployment].add(each, one.requests)
        if len(group.receipts) < EXAMPLES:
            group.receipts.append(one.receipt)
        self._sort(group, one, past, now)

    def _sort(self, group: Group, one: Decided, past: Past, now: Choice) -> None:
        """Note what kind of request it is, and of a new kind the rules against the other candidates."""
        facts, who = past.facts, past.asked
        key = (
            facts.needs, who.pinned, facts.input_tokens, who.max_output_tokens, who.choices,
            facts.min_quality, facts.max_cost_usd, facts.deadline_ms, facts.effort, facts.efforts,
            who.surface,
        )  # fmt: skip
        kind = group.kinds.get(key)
        if kind is None:
            if len(group.kinds) >= KINDS:
                group.unkept += one.requests
                return
            kind = group.kinds[key] = Kind(one.digest, one.receipt)
            for each, rules in now.judged:
                if rules:
                    ids = frozenset(self._id(rule) for rule in rules)
                    group.against[each.deployment] = group.against.get(each.deployment, frozenset()) | ids
        kind.requests += one.requests

    def _id(self, rule: Any) -> str:
        if not isinstance(rule, msgspec.Raw):
            return str(rule.id)
        raw = bytes(rule)
        known = self._rules.get(raw)
        if known is None:
            known = self._rules[raw] = msgspec.json.decode(raw, type=_Rule).id
        return known

    def _leave(self, reason: str, one: Decided) -> None:
        counts, receipts = self._left.setdefault(reason, ([0, 0], []))
        counts[0] += one.requests
        counts[1] += 1
        if len(receipts) < EXAMPLES:
            receipts.append(one.receipt)

    def traffic(self, name: str | None = None, **more: Any) -> Traffic:
        """Return what was gathered, under the factors of this name; ``more`` are fields known elsewhere."""
        left = (
            Left(reason=reason, requests=n[0], decisions=n[1], receipts=tuple(receipts))
            for reason, (n, receipts) in sorted(self._left.items())
        )
        days = sorted(self._days)
        fields: dict[str, Any] = {
            "groups": tuple(self._tables[name].values()),
            "requests": self.requests,
            "decisions": self.decisions,
            "held": self.held,
            "damaged": self.damaged,
            "left": tuple(left),
            "records": f"sha256:{self._hash.hexdigest()}",
            "days": _days(days),
            "first_day": days[0] if days else "",
            "last_day": days[-1] if days else "",
        }
        return Traffic(**{**fields, **more})


class Orders(msgspec.Struct, frozen=True):
    """A choice, and the one among the others that stands where nobody of the first is left."""

    now: Choice
    hard: Choice | None


def _hard(facts: DecisionFacts, now: Choice) -> Choice | None:
    """Choose among those who are only estimated to fail, as ``choose`` does where nobody else is able."""
    if not now.able:
        return None
    names = {
        one.deployment
        for one, rules in now.judged
        if rules and not one.law and all(rule.id == ESTIMATED for rule in rules)
    }
    if not names:
        return None
    left = tuple([one for one in facts.candidates if one.deployment in names])
    return choose(msgspec.structs.replace(facts, candidates=left))


class _Rule(msgspec.Struct, frozen=True):
    id: str


def gather(decisions: Iterable[Decided]) -> Gathering:
    """Gather decisions without any prices changed."""
    gathering = Gathering()
    for one in decisions:
        gathering.add(one)
    return gathering


def _days(days: list[str]) -> int:
    from datetime import date  # noqa: PLC0415 (only at the end)

    if not days:
        return 0
    return (date.fromisoformat(days[-1]) - date.fromisoformat(days[0])).days + 1


def _output(past: Past) -> int:
    most, choices = past.asked.max_output_tokens, past.asked.choices
    expected = EXPECTED_OUTPUT_TOKENS if most is None else min(most, EXPECTED_OUTPUT_TOKENS)
    return expected * choices


def repriced(facts: DecisionFacts, factors: Mapping[str, Decimal]) -> DecisionFacts:
    """Return the facts of a decision with recorded costs multiplied, by deployment."""
    made = [
        one if one.law or one.deployment not in factors else _times(one, factors[one.deployment])
        for one in facts.candidates
    ]
    return msgspec.structs.replace(facts, candidates=tuple(made))


def _repriced(past: Past, factors: Mapping[str, Decimal]) -> Orders | None:
    if not any(one.deployment in factors and not one.law for one in past.facts.candidates):
        return None
    facts = repriced(past.facts, factors)
    now = choose(facts)
    return Orders(now, _hard(facts, now))


def _times(one: DeploymentFacts, factor: Decimal) -> DeploymentFacts:
    return msgspec.structs.replace(
        one,
        cost_usd=_by(one.cost_usd, factor),
        reserve_usd=_by(one.reserve_usd, factor),
        depths=tuple(msgspec.structs.replace(at, cost_usd=_by(at.cost_usd, factor)) for at in one.depths),
    )


def _by(amount: Decimal | None, factor: Decimal) -> Decimal | None:
    return None if amount is None else _EXACT.multiply(amount, factor)
