"""What disruption costs over a year, on average and in the worst years, and what a hedge takes off that.

Monte Carlo with a stated seed. A year draws at most one scenario and each risk and flashpoint by its odds,
turned from the horizon into one year; a disruption lasts its days, or until the fastest remedy that the
drills found restores the work. Costs a day are those of the drills of its worlds. A hedge is a remedy that is
in place already; what it restores was decided again, world by world. All draws are the same with and without
a hedge, so that what is compared is the hedge.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from allod.drills.scenarios import moved, together
from allod.planner.estimate import Estimate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from allod.drills.scenarios import Odds, Risk

    Floats = NDArray[np.float64]

DRAWS: Final = 20_000
SEED: Final = 20_261_101
TAIL: Final = 0.95
DAYS_OF_YEAR: Final = 365.25
BATCHES: Final = 20
MONTHS: Final = 12
ENDS: Final = "interval: odds, harm a day and time to restore, all at their low and all at their high ends"


class Harm(msgspec.Struct, frozen=True, kw_only=True):
    """What a world costs a day (USD), and how it is restored.

    Attributes:
        usd_day: uncovered requests, dearer answers and worse ones, each a day.
        after_day: the same once the remedy works: what it leaves.
        restore_days: until the remedy works; None: nothing restores anything.
        remedy_usd: what the remedy costs once, and a month.
        restored: by hedge, the share of the harm a day that it takes off, decided again.

    """

    world: str
    usd_day: Estimate
    after_day: Estimate
    restore_days: Estimate | None
    remedy_usd: Estimate | None
    remedy_month_usd: Estimate | None
    restored: dict[str, float] = {}


class Hedge(msgspec.Struct, frozen=True, kw_only=True):
    """A remedy taken beforehand: what it costs in the first year (USD)."""

    id: str
    title: str
    year_usd: Estimate


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that may come: its odds over a year, its world, how long it lasts, whom it excludes."""

    id: str
    title: str
    group: str
    low: float
    high: float
    world: str
    days: tuple[float, float]
    contains: tuple[str, ...] = ()


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What one event adds to the expected cost of a year (USD), and how likely it begins within it."""

    id: str
    title: str
    group: str
    probability: Estimate
    usd_year: Estimate


class Swing(msgspec.Struct, frozen=True, kw_only=True):
    """The expected cost with an event at the low and at the high end of its odds (USD a year)."""

    id: str
    title: str
    low_usd: float
    high_usd: float
    low_probability: float
    high_probability: float


class Ranked(msgspec.Struct, frozen=True, kw_only=True):
    """What a hedge takes off the expected cost and the tail in a year, for what it costs.

    ``per_usd`` is the reduction of the expected cost for each unit of money spent on it (the same in any
    currency). Intervals: all odds, harms and times to restore at their ends, and for ``per_usd`` the cost of
    the hedge at the other.
    """

    id: str
    title: str
    year_usd: Estimate
    less_expected_usd: Estimate
    less_tail_usd: Estimate
    per_usd: Estimate


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of disruption over a year (USD).

    Attributes:
        expected: mean of all years. tail: mean of the worst 5 % of years (conditional value at risk). Both
            intervals: all odds, harms and times to restore at their low and at their high ends together.
        quiet: share of years without any cost.

    """

    draws: int
    seed: int
    expected: Estimate
    tail: Estimate
    quiet: float
    lines: tuple[Line, ...]
    swings: tuple[Swing, ...]
    hedges: tuple[Ranked, ...]


def yearly(probability: float, horizon_years: float) -> float:
    """Turn odds over a horizon into odds that it begins within one year, at a constant rate."""
    return float(1.0 - (1.0 - min(max(probability, 0.0), 1.0)) ** (1.0 / horizon_years))


def events(made: Odds, ticks: Mapping[str, float]) -> list[Event]:
    """Return what may come, with odds over a year.

    A risk that scenarios contain comes besides them only as often as they do not explain; where they explain
    more than its range, it comes in them alone.
    """
    years = float(made.horizon_years)
    out = []
    for name, one in made.scenario.items():
        p = float(one.probability)
        low, high = moved(max(0.0, 0.75 * p), min(1.0, 1.25 * p), ticks.get(name, 0.0))
        out.append(
            Event(
                id=name, title=one.title, group="scenario", low=yearly(low, years), high=yearly(high, years),
                world=together(one.worlds), days=(float(one.days.low), float(one.days.high)),
                contains=one.contains,
            )
        )  # fmt: skip
    taken = {one.title for one in out}
    for group, risks in (("risk", made.risk), ("flashpoint", made.flashpoint)):
        for name, risk in risks.items():
            title = f"{risk.title} ({group})" if risk.title in taken else risk.title
            low, high = _besides(made, name, risk, ticks.get(name, 0.0))
            out.append(
                Event(
                    id=name, title=title, group=group, low=yearly(low, years), high=yearly(high, years),
                    world=together(risk.worlds), days=(float(risk.days.low), float(risk.days.high)),
                )
            )  # fmt: skip
    return out


def _besides(made: Odds, name: str, risk: Risk, share: float) -> tuple[float, float]:
    low, high = moved(float(risk.low), float(risk.high), share)
    inside = sum(float(one.probability) for one in made.scenario.values() if name in one.contains)
    if inside >= 1:
        return 0.0, 0.0
    return tuple(max(0.0, (p - inside) / (1 - inside)) for p in (low, high))  # type: ignore[return-value]


class _Draws:
    """All random numbers of a run, drawn once: every comparison is made on the same years."""

    def __init__(self, of: Sequence[Event], harms: Mapping[str, Harm], draws: int, seed: int) -> None:
        chance = np.random.default_rng(seed)
        self.draws = draws
        self.scenario = chance.random(draws)
        self.where = {one.id: chance.random(draws) for one in of}
        self.comes = {one.id: chance.random(draws) for one in of}
        self.starts = {one.id: chance.random(draws) for one in of}
        self.lasts = {one.id: chance.random(draws) for one in of}
        self.harm = {name: chance.random(draws) for name in harms}
        self.restore = {name: chance.random(draws) for name in harms}


def _end(one: Estimate, end: int | None) -> float:
    """Return an estimate's low (0) or high (1) end; without one its value."""
    return one.value if end is None else one.high if end else one.low


def _between(one: Estimate, at: Floats, end: int | None) -> Floats:
    """Draw from a triangle over an estimate's interval with its value as the mode; or return an end of it."""
    low, mode, high = one.low, one.value, one.high
    if end is not None:
        return np.full(at.shape, _end(one, end))
    if high <= low:
        return np.full(at.shape, mode)
    cut = (mode - low) / (high - low)
    left = low + np.sqrt(at * (high - low) * (mode - low))
    right = high - np.sqrt((1 - at) * (high - low) * (high - mode))
    return np.where(at < cut, left, right)


class Year:
    """The cost of simulated years.

    Args:
        of: what may come. harms: of every world they name; a world without harm costs nothing.

    """

    def __init__(
        self, of: Sequence[Event], harms: Mapping[str, Harm], *, draws: int = DRAWS, seed: int = SEED
    ) -> None:
        self.events, self.harms, self.seed = tuple(of), harms, seed
        self._draws = _Draws(of, harms, draws, seed)

    def costs(
        self,
        *,
        hedge: str | None = None,
        at: Mapping[str, float] | float | None = None,
        end: int | None = None,
    ) -> dict[str, Floats]:
        """Return the cost of each year by event (USD).

        ``at`` puts the odds of all (or of those named) at a place between low (0) and high (1); ``end`` puts
        them, what a day costs and how long restoring takes all at their low (0) or all at their high end (1).
        """
        odds = {one.id: self._odds(one, at if end is None else float(end)) for one in self.events}
        comes = self._comes(odds)
        return {one.id: comes[one.id] * self._cost(one, hedge, end) for one in self.events}

    def total(
        self,
        *,
        hedge: str | None = None,
        at: Mapping[str, float] | float | None = None,
        end: int | None = None,
    ) -> Floats:
        """Return the cost of each year (USD); as ``costs``."""
        total = np.zeros(self._draws.draws)
        for one in self.costs(hedge=hedge, at=at, end=end).values():
            total += one
        return total

    def _odds(self, one: Event, at: Mapping[str, float] | float | None) -> Floats:
        place: Any = at.get(one.id) if isinstance(at, dict) else at
        where = self._draws.where[one.id] if place is None else np.full(self._draws.draws, float(place))
        return one.low + (one.high - one.low) * where

    def _comes(self, odds: Mapping[str, Floats]) -> dict[str, NDArray[np.bool_]]:
        """Decide what comes: of the scenarios at most one; a risk that one contains comes with it alone."""
        out: dict[str, NDArray[np.bool_]] = {}
        scenarios = [one for one in self.events if one.group == "scenario"]
        room = sum(one.high for one in scenarios) <= 1  # each keeps its place when odds of another change
        edge = np.zeros(self._draws.draws)
        for one in scenarios:
            upper = edge + odds[one.id]
            out[one.id] = (self._draws.scenario >= edge) & (self._draws.scenario < upper)
            edge = edge + one.high if room else upper
        for one in self.events:
            if one.group == "scenario":
                continue
            inside = [out[s.id] for s in scenarios if one.id in s.contains]
            comes = self._draws.comes[one.id] < odds[one.id]
            for each in inside:
                comes &= ~each
            out[one.id] = comes
        return out

    def _cost(self, one: Event, hedge: str | None, end: int | None) -> Floats:
        draws = self._draws
        low, high = one.days
        lasts = low + (high - low) * draws.lasts[one.id]
        lasts = np.minimum(lasts, (1.0 - draws.starts[one.id]) * DAYS_OF_YEAR)
        harm = self.harms.get(one.world)
        return np.zeros(draws.draws) if harm is None else self._world(harm, lasts, hedge, end)

    def _world(self, harm: Harm, lasts: Floats, hedge: str | None, end: int | None) -> Floats:
        """Return what a world costs over so many days: all of it until a remedy works, then the rest."""
        draws = self._draws
        day = np.maximum(_between(harm.usd_day, draws.harm[harm.world], end), 0.0)
        left = 1.0 - harm.restored.get(hedge, 0.0) if hedge is not None else 1.0
        day = day * max(left, 0.0)
        unaided = day * lasts
        if harm.restore_days is None:
            return unaided
        wait = np.maximum(_between(harm.restore_days, draws.restore[harm.world], end), 0.0)
        after = np.minimum(np.maximum(_between(harm.after_day, draws.harm[harm.world], end), 0.0), day)
        paid = np.zeros_like(lasts)
        if harm.remedy_usd is not None and harm.remedy_month_usd is not None:
            months = np.maximum(lasts - wait, 0.0) / DAYS_OF_YEAR * MONTHS
            paid = _end(harm.remedy_usd, end) + _end(harm.remedy_month_usd, end) * months
        aided = day * np.minimum(wait, lasts) + after * np.maximum(lasts - wait, 0.0) + paid
        cost: Floats = np.minimum(unaided, aided)
        return cost


def expect(year: Year, hedges: Sequence[Hedge], day: dt.date) -> Expected:
    """Simulate years, rank hedges by what they take off for what they cost, and vary the odds one by one."""
    costs = year.costs()
    total = year.total()
    ends = [year.costs(end=end) for end in (0, 1)]
    worlds = [year.total(end=end) for end in (0, 1)]
    low, high = (float(one.mean()) for one in worlds)
    mean = float(total.mean())
    source = f"Monte Carlo, {len(total)} years, seed {year.seed}; odds are judgements, costs a day are drills"
    expected = _estimate(mean, low, high, source, day, note=ENDS)
    batches = [_tail(part) for part in np.array_split(total, BATCHES)]
    tail = _tail(total)
    spread = 1.282 * float(np.std(batches)) / BATCHES**0.5
    return Expected(
        draws=len(total),
        seed=year.seed,
        expected=expected,
        tail=_estimate(
            tail,
            min(tail - spread, _tail(worlds[0])),
            max(tail + spread, _tail(worlds[1])),
            source,
            day,
            note=ENDS,
        ),
        quiet=float((total <= 0).mean()),
        lines=tuple(
            _line(one, costs[one.id], [float(of[one.id].mean()) for of in ends], day, source)
            for one in year.events
        ),
        swings=tuple(_swing(one, year) for one in year.events),
        hedges=tuple(
            sorted(
                (_ranked(h, year, [total, *worlds], day, source) for h in hedges),
                key=lambda r: (-r.per_usd.value, r.id),
            )
        ),
    )


def _tail(total: Floats) -> float:
    """Return the mean of the worst 5 % (CVaR)."""
    worst = max(1, round(len(total) * (1 - TAIL)))
    return float(np.sort(total)[-worst:].mean())


def _estimate(value: float, low: float, high: float, source: str, day: dt.date, note: str = "") -> Estimate:
    return Estimate(
        value=value, low=min(low, value), high=max(high, value), source=source, as_of=day, note=note
    )


def _line(one: Event, costs: Floats, ends: Sequence[float], day: dt.date, source: str) -> Line:
    odds = _estimate((one.low + one.high) / 2, one.low, one.high, "odds over the horizon as a rate", day)
    mean, half = float(costs.mean()), 1.282 * float(costs.std()) / len(costs) ** 0.5
    low, high = min(ends[0], mean - half), max(ends[1], mean + half)
    usd = _estimate(mean, max(0.0, low), high, source, day, note=ENDS)
    return Line(id=one.id, title=one.title, group=one.group, probability=odds, usd_year=usd)


def _swing(one: Event, year: Year) -> Swing:
    low, high = (float(year.total(at={one.id: end}).mean()) for end in (0.0, 1.0))
    return Swing(
        id=one.id,
        title=one.title,
        low_usd=low,
        high_usd=high,
        low_probability=one.low,
        high_probability=one.high,
    )


def _ranked(hedge: Hedge, year: Year, totals: Sequence[Floats], day: dt.date, source: str) -> Ranked:
    """Compare years (as they are, all at the low ends, all at the high ends) with the same years hedged."""
    hedged = [year.total(hedge=hedge.id, end=end) for end in (None, 0, 1)]
    less, *ends = (float((a - b).mean()) for a, b in zip(totals, hedged, strict=True))
    tail, *tails = (_tail(a) - _tail(b) for a, b in zip(totals, hedged, strict=True))
    reduced = _estimate(less, min(ends), max(ends), source, day, note=ENDS)
    cost = hedge.year_usd
    return Ranked(
        id=hedge.id,
        title=hedge.title,
        year_usd=cost,
        less_expected_usd=reduced,
        less_tail_usd=_estimate(tail, min(tails), max(tails), source, day, note=ENDS),
        per_usd=_estimate(
            _over(less, cost.value), _over(reduced.low, cost.high), _over(reduced.high, cost.low), source, day
        ),
    )


def _over(less: float, cost: float) -> float:
    """Return reduction for a unit of money; a hedge that costs next to nothing is taken to cost one USD."""
    return less / max(cost, 1.0)
