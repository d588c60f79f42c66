"""What brings the work back: remedies, each tried by deciding again with it in place.

Whether a remedy restores a request is never read off its words: the gateway's own functions decide the
request again in the world of the drill, with the remedy applied. Hours and costs are ranges, the
organisation's or assumed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from allod.domain.errors import Invalid
from allod.drills.assume import MOST, Range
from allod.drills.reading import parse, read
from allod.planner.estimate import Estimate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from allod.drills.fate import Fate
    from allod.drills.traffic import Group

RemedyKind = Literal["approve", "agreement", "renew", "unpin", "relax", "rent", "buy", "vault"]
KINDS: Final[tuple[RemedyKind, ...]] = (
    "approve", "agreement", "renew", "unpin", "relax", "rent", "buy", "vault",
)  # fmt: skip
MAX_CASES: Final = 3000
"""So many kinds of uncovered requests are decided again for each remedy, those of most requests first."""
MAX_TOGETHER: Final = 5


class Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a kind of remedy takes (hours) and what it costs, once and a month (USD)."""

    hours: Range
    cost_usd: Range
    month_usd: Range


class Written(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``[[remedy]]`` of an organisation.

    Attributes:
        approve: deployments that are configured and not approved yet.
        agreements, attestations: what would be signed or shown: ``operator/name``.
        renew_agreements, renew_attestations: the same, made anew after the world has taken them away: they
            hold in it.
        relax: rules waived, by id.
        deployment: tables as in the configuration (``[[deployment]]``): what would be added; ``operator``
            likewise.
        tasks: tasks with a list of their own that the new deployments join.
        hours, cost_usd, month_usd: instead of those of the kind.

    """

    id: str
    kind: RemedyKind
    title: str = ""
    approve: tuple[str, ...] = ()
    agreements: tuple[str, ...] = ()
    attestations: tuple[str, ...] = ()
    renew_agreements: tuple[str, ...] = ()
    renew_attestations: tuple[str, ...] = ()
    relax: tuple[str, ...] = ()
    operator: tuple[dict[str, Any], ...] = ()
    deployment: tuple[dict[str, Any], ...] = ()
    tasks: tuple[str, ...] = ()
    hours: Range | None = None
    cost_usd: Range | None = None
    month_usd: Range | None = None


class Remedy(msgspec.Struct, frozen=True, kw_only=True):
    """A remedy with its terms; ``waives`` cites law it only waives; ``assumed``: not all terms are own."""

    id: str
    kind: RemedyKind
    title: str
    terms: Terms
    approve: tuple[str, ...] = ()
    agreements: tuple[str, ...] = ()
    attestations: tuple[str, ...] = ()
    renew_agreements: tuple[str, ...] = ()
    renew_attestations: tuple[str, ...] = ()
    relax: tuple[str, ...] = ()
    unpin: bool = False
    operator: tuple[dict[str, Any], ...] = ()
    deployment: tuple[dict[str, Any], ...] = ()
    tasks: tuple[str, ...] = ()
    waives: tuple[str, ...] = ()
    assumed: bool = True


def kinds(own: dict[str, Any] | None = None) -> dict[str, Terms]:
    """Return the terms of each kind, an organisation's own in place of the shipped ones.

    Raises:
        Invalid: an unknown kind or key, a range the wrong way round or below zero.

    """
    raw = resources.files("allod.drills").joinpath("data/remedies.toml").read_bytes()
    tables = {**parse(raw, "remedies.toml")["remedy_kind"], **(own or {})}
    for name in tables:
        if name not in KINDS:
            raise Invalid(
                f"remedy_kind.{name} is no kind of remedy", "known: " + ", ".join(KINDS), "correct it"
            )
    made = {name: read(table, Terms, f"remedy_kind.{name}") for name, table in tables.items()}
    for name, terms in made.items():
        for field in Terms.__struct_fields__:
            check_range(getattr(terms, field), f"remedy_kind.{name}.{field}")
    return made


def check_range(one: Range, where: str) -> None:
    """Refuse a range that is none (raises ``Invalid``)."""
    finite = one.low.is_finite() and one.high.is_finite()
    if not finite or not Decimal(0) <= one.low <= one.high <= MOST:
        raise Invalid(f"{where} is no range", f"got {one.low} to {one.high}", "write 0 <= low <= high")


def remedy(written: Written, terms: Mapping[str, Terms]) -> Remedy:
    """Give a written remedy its terms."""
    base = terms[written.kind]
    own = {name: getattr(written, name) for name in Terms.__struct_fields__}
    for name, one in own.items():
        if one is not None:
            check_range(one, f"remedy {written.id}: {name}")
    known = {name: one for name, one in own.items() if one is not None}
    return Remedy(
        id=written.id,
        kind=written.kind,
        title=written.title or written.id,
        terms=msgspec.structs.replace(base, **known),
        approve=written.approve,
        agreements=written.agreements,
        attestations=written.attestations,
        renew_agreements=written.renew_agreements,
        renew_attestations=written.renew_attestations,
        relax=written.relax,
        unpin=written.kind == "unpin",
        operator=written.operator,
        deployment=written.deployment,
        tasks=written.tasks,
        assumed=len(known) < len(own),
    )


class Case(msgspec.Struct, frozen=True):
    """Uncovered requests of one kind: their group, how many, and one decision record of them."""

    group: Group
    requests: int
    digest: str


class Served(msgspec.Struct, frozen=True):
    """Who would serve a case with a remedy, at what recorded or computed estimates (USD, 0 to 1)."""

    deployment: str
    cost_usd: Decimal | None
    quality: Decimal | None


Again = Callable[[Sequence[Remedy], Sequence[Case]], list[Served | None]]
"""Decides cases again in the world of a drill with remedies in place."""


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """Remedies together, and what they restore.

    ``hours`` run side by side, costs add up. ``waives``: law that is only waived by it, which no drill says
    may be. ``apps``: requests restored, by app.
    """

    remedies: tuple[str, ...]
    titles: tuple[str, ...]
    requests: int
    share: float
    critical_share: float | None
    serving: tuple[tuple[str, int], ...]
    apps: tuple[tuple[str, int], ...]
    quality: float | None
    hours: Estimate
    cost_usd: Estimate
    month_usd: Estimate
    waives: tuple[str, ...]
    assumed: bool


class Restoration(msgspec.Struct, frozen=True, kw_only=True):
    """How uncovered work comes back.

    Attributes:
        uncovered: requests to restore; ``looked_at`` of them were decided again, the rest are of kinds with
            very few requests.
        today: how many of these today's configuration serves in the world: it has changed since.
        tried: every remedy alone, the most restoring first, those that waive rules last.
        cheapest, fastest: sets of remedies without waived law that restore the most, by cost and by time;
            None if none restores more than today's configuration does.
        waiving: the best set that waives rules, if that restores more.

    """

    uncovered: int
    looked_at: int
    today: int
    tried: tuple[Tried, ...]
    cheapest: Tried | None
    fastest: Tried | None
    waiving: Tried | None


def cases_of(decided: Iterable[Fate]) -> list[Case]:
    """Return the uncovered requests by kind, those of most requests first.

    Requests that differ by their day, or by how deployments were then, are one kind: it is decided again as
    on its last day.
    """
    found: dict[object, Case] = {}
    for fate in decided:
        if not fate.uncovered:
            continue
        group, asked = fate.group, fate.group.asked
        who = asked.app, asked.classes, asked.purpose, asked.pseudonymised, asked.link_up
        for key, kind in group.kinds.items():
            same = (who, group.task, group.configuration, key)
            known = found.get(same)
            if known is None:
                found[same] = Case(group, kind.requests, kind.digest)
            else:
                later = (asked.day, kind.digest) > (known.group.asked.day, known.digest)
                newest = (group, kind.digest) if later else (known.group, known.digest)
                found[same] = Case(newest[0], known.requests + kind.requests, newest[1])
    return sorted(found.values(), key=lambda one: (-one.requests, one.digest))


class _Search:
    """Tries remedies on cases; remembers what was tried."""

    def __init__(self, cases: Sequence[Case], again: Again, critical: frozenset[str], day: dt.date) -> None:
        self.cases, self._again, self._critical, self._day = cases, again, critical, day
        self.total = sum(one.requests for one in cases)
        self._known: dict[tuple[str, ...], tuple[Tried, frozenset[int]]] = {}

    def tried(self, remedies: Sequence[Remedy]) -> tuple[Tried, frozenset[int]]:
        key = tuple(sorted(one.id for one in remedies))
        known = self._known.get(key)
        if known is None:
            served = self._again(remedies, self.cases)
            known = self._known[key] = self._sum(remedies, served)
        return known

    def _sum(self, remedies: Sequence[Remedy], served: list[Served | None]) -> tuple[Tried, frozenset[int]]:
        done = frozenset(n for n, one in enumerate(served) if one is not None)
        requests = sum(self.cases[n].requests for n in done)
        serving: dict[str, int] = {}
        apps: dict[str, int] = {}
        quality, known = 0.0, 0
        for n in done:
            one, count = served[n], self.cases[n].requests
            assert one is not None
            serving[one.deployment] = serving.get(one.deployment, 0) + count
            app = self.cases[n].group.asked.app
            apps[app] = apps.get(app, 0) + count
            if one.quality is not None:
                quality, known = quality + float(one.quality) * count, known + count
        critical = [n for n, c in enumerate(self.cases) if c.group.asked.app in self._critical]
        of = sum(self.cases[n].requests for n in critical)
        tried = Tried(
            remedies=tuple(one.id for one in remedies),
            titles=tuple(one.title for one in remedies),
            requests=requests,
            share=requests / self.total if self.total else 0.0,
            critical_share=sum(self.cases[n].requests for n in critical if n in done) / of if of else None,
            serving=tuple(sorted(serving.items(), key=lambda item: (-item[1], item[0]))),
            apps=tuple(sorted(apps.items())),
            quality=quality / known if known else None,
            hours=self._joined([one.terms.hours for one in remedies], side_by_side=True),
            cost_usd=self._joined([one.terms.cost_usd for one in remedies]),
            month_usd=self._joined([one.terms.month_usd for one in remedies]),
            waives=tuple(dict.fromkeys(law for one in remedies for law in one.waives)),
            assumed=any(one.assumed for one in remedies),
        )
        return tried, done

    def _joined(self, ranges: Sequence[Range], *, side_by_side: bool = False) -> Estimate:
        add: Any = max if side_by_side else sum
        parts = [one.estimate() for one in ranges]
        return Estimate(
            value=add([one.value for one in parts] or [0.0]),
            low=add([one.low for one in parts] or [0.0]),
            high=add([one.high for one in parts] or [0.0]),
            source="; ".join(dict.fromkeys(one.source for one in parts)) or "nothing to do",
            as_of=max((one.as_of for one in parts), default=self._day),
            note="assumption",
        )

    def greedy(self, remedies: Sequence[Remedy], price: Callable[[Tried], float]) -> Tried | None:
        """Add the remedy that restores most for its price, as long as one restores more."""
        chosen: list[Remedy] = []
        best: tuple[Tried, frozenset[int]] | None = None
        while len(chosen) < MAX_TOGETHER and (best is None or best[0].requests < self.total):
            have = best[0].requests if best else self.tried(())[0].requests
            options = [(self.tried([*chosen, one]), one) for one in remedies if one not in chosen]
            better = [(found, one) for found, one in options if found[0].requests > have]
            if not better:
                break
            found, one = max(
                better,
                key=lambda item: ((item[0][0].requests - have) / (1.0 + price(item[0][0])), item[1].id),
            )
            chosen.append(one)
            best = found
        return None if best is None else self._leanest(chosen, best)

    def _leanest(self, chosen: list[Remedy], best: tuple[Tried, frozenset[int]]) -> Tried:
        """Leave out what later remedies made needless."""
        for one in tuple(chosen):
            rest = [each for each in chosen if each is not one]
            if rest:
                found = self.tried(rest)
                if found[0].requests >= best[0].requests:
                    chosen, best = rest, found
        return best[0]


def restore(
    decided: Sequence[Fate],
    remedies: Sequence[Remedy],
    again: Again,
    *,
    critical: frozenset[str],
    day: dt.date,
) -> Restoration:
    """Try every remedy, and the cheapest and the fastest together, on what a world leaves uncovered."""
    uncovered = sum(f.group.requests for f in decided if f.uncovered)
    search = _Search(cases_of(decided)[:MAX_CASES], again, critical, day)
    if not search.cases:
        return Restoration(
            uncovered=uncovered, looked_at=0, today=0, tried=(), cheapest=None, fastest=None, waiving=None
        )
    today = search.tried(())[0]
    singles = [search.tried([one])[0] for one in remedies]
    useful = [one for one, found in zip(remedies, singles, strict=True) if found.requests > today.requests]
    together = [one for one in remedies if not one.waives and (one in useful or _partial(one))]
    cheapest = search.greedy(together, lambda one: one.cost_usd.value + 12 * one.month_usd.value)
    fastest = search.greedy(together, lambda one: one.hours.value)

    def lawful(*more: Tried | None) -> list[Tried]:
        found = (one for one in (*singles, *more) if one is not None and not one.waives)
        return [one for one in found if one.requests > today.requests]

    cheapest = _pick(lawful(cheapest), lambda one: one.cost_usd.value + 12 * one.month_usd.value)
    fastest = _pick(lawful(fastest), lambda one: one.hours.value)
    most = today.requests if cheapest is None else cheapest.requests
    waiving = _pick(
        [one for one in singles if one.waives and one.requests > most], lambda one: one.hours.value
    )
    return Restoration(
        uncovered=uncovered,
        looked_at=search.total,
        today=today.requests,
        tried=tuple(sorted(singles, key=_order)),
        cheapest=cheapest,
        fastest=fastest,
        waiving=waiving,
    )


def _order(one: Tried) -> tuple[bool, int, float, tuple[str, ...]]:
    """Put what restores most first, what waives rules last."""
    return bool(one.waives), -one.requests, one.hours.value, one.remedies


def _partial(one: Remedy) -> bool:
    """Whether a remedy may help only together with others."""
    return bool(one.unpin or one.deployment)


def _pick(found: Sequence[Tried], price: Callable[[Tried], float]) -> Tried | None:
    """Return what restores most and, of these, is cheapest."""
    return min(found, key=lambda one: (-one.requests, price(one), one.remedies), default=None)
