"""What a world changes in figures, each with its interval: quality, money a month, and room at each site."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.money import ZERO
from allod.drills.assume import DAYS_OF_MONTH, Assume, t80
from allod.planner.estimate import Estimate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from allod.drills.fate import Fate, Setting
    from allod.drills.traffic import Sum, Traffic

EVALUATED: Final = 0.90
"""What bounds hold of which 5 % lie beyond either side, as evaluations give them."""
FEW_ATTEMPTS: Final = 30
"""With fewer attempts the ledger's mean says nothing of what requests cost."""


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """What a deployment must give at the busiest hour, and what it can: answers at once, or tokens a second.

    Attributes:
        requests_s: mean requests a second, before and after.
        tokens_s: mean output tokens a second after.
        unit: of the following: answers at once where ``max_concurrent`` is declared, output tokens a second
            where the planner foresees them.
        need: at the peak; None where it is not known how long an answer takes.
        room: what it can give; None is not known.
        missing: how many it lacks; None where one of the two is not known, and ``why`` says what to add.

    """

    deployment: str
    site: str
    requests_s: tuple[float, float]
    tokens_s: float
    unit: str
    need: Estimate | None
    room: Estimate | None
    missing: Estimate | None
    why: str


# --- quality


class _Width:
    """How uncertain the quality of a deployment is, over the requests it was or will be asked."""

    __slots__ = ("down", "net", "requests", "up")

    def __init__(self) -> None:
        self.net = self.requests = 0
        self.down = self.up = 0.0

    def add(self, one: Sum, requests: int, sign: int, assume: Assume) -> None:
        """Add a side: +1 before, -1 after."""
        open_ = requests - one.bounded
        self.net += sign * requests
        self.requests += requests
        self.down += float(one.quality - one.low) - float(assume.declared_quality.low) * open_
        self.up += float(one.high - one.quality) + float(assume.declared_quality.high) * open_


def quality(both: list[Fate], setting: Setting) -> tuple[int, float | None, float | None, Estimate | None]:
    """Return over how many requests it is known, mean success before and after, and the loss (0 to 1)."""
    before = after = ZERO
    known, widths, declared = 0, dict[str, _Width](), False
    for one in both:
        group, serves = one.group, one.serves
        assert group.first is not None
        assert serves is not None
        then, now = group.before, group.sums[serves]
        if then.known != group.requests or now.known != group.requests:
            continue
        known += group.requests
        before, after = before + then.quality, after + now.quality
        widths.setdefault(group.first, _Width()).add(then, group.requests, 1, setting.assume)
        widths.setdefault(serves, _Width()).add(now, group.requests, -1, setting.assume)
        declared = declared or then.bounded < group.requests or now.bounded < group.requests
    if not known:
        return 0, None, None, None
    lost = float(before - after) / known
    low, high = _spread(widths.values(), known)
    note = setting.assume.declared_quality.source if declared else ""
    estimate = Estimate(
        value=lost,
        low=lost - low,
        high=lost + high,
        level=EVALUATED,
        source="recorded estimates; bounds of evaluations, errors of deployments taken to be independent",
        as_of=setting.day,
        note=note,
    )
    return known, float(before) / known, float(after) / known, estimate


def _spread(widths: Iterable[_Width], known: int) -> tuple[float, float]:
    """Return by how much the mean loss may be lower and higher: one error for each deployment."""
    low = high = 0.0
    for one in widths:
        if one.net == 0 or not one.requests:
            continue
        weight = one.net / known
        down, up = one.down / one.requests, one.up / one.requests
        low += (weight * (down if weight > 0 else up)) ** 2
        high += (weight * (up if weight > 0 else down)) ** 2
    return math.sqrt(low), math.sqrt(high)


# --- money


def money(
    traffic: Traffic, decided: list[Fate], setting: Setting
) -> tuple[Estimate | None, Estimate | None, Estimate | None]:
    """Return USD a month: of what is still served before, its change, and what uncovered requests cost."""
    days: dict[str, list[Decimal]] = {}
    for one in decided:
        if one.before != "served":
            continue
        sums = days.setdefault(one.group.asked.day, [ZERO, ZERO, ZERO])
        cost = one.group.before.cost
        if one.serves is None:
            sums[2] += cost
        else:
            sums[0] += cost
            sums[1] += one.group.sums[one.serves].cost - cost
    factor = scale(traffic, setting.assume, setting.day)
    before, change, spared = (
        _month([float(sums[n]) for sums in days.values()], traffic, factor, setting) for n in range(3)
    )
    return before, change, spared


def scale(traffic: Traffic, assume: Assume, day: dt.date) -> Estimate:
    """Return what expected costs are to be multiplied by: what the ledger says, else the assumption."""
    expected = paid = 0.0
    attempts = 0
    for group in traffic.groups:
        if group.first is not None and group.first in traffic.usage:
            expected += float(group.before.cost)
    for one in traffic.usage.values():
        paid += one.cost_usd
        attempts += one.attempts
    if attempts < FEW_ATTEMPTS or expected <= 0 or paid <= 0:
        return msgspec.structs.replace(assume.length_factor.estimate(), value=1.0) if (
            assume.length_factor.low <= 1 <= assume.length_factor.high
        ) else assume.length_factor.estimate()  # fmt: skip
    ratio = paid / expected
    return Estimate(
        value=ratio, low=ratio, high=ratio, source=f"ledger: {attempts} attempts in the span", as_of=day
    )


def _month(values: list[float], traffic: Traffic, factor: Estimate, setting: Setting) -> Estimate | None:
    """Return a month of what so many days brought, with how days differ and what an answer costs."""
    if not traffic.days:
        return None
    values = values + [0.0] * (traffic.days - len(values))
    n = len(values)
    mean = math.fsum(values) / n
    half = 0.0
    if n > 1 and not traffic.generated:
        half = t80(n) * math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)
    low, value, high = mean - half, mean, mean + half
    ends = [end * by for end in (low, high) for by in (factor.low, factor.high)]
    middle = value * factor.value
    note = "one day of traffic: how days differ is not known" if n == 1 else f"{n} days, taken to be alike"
    if traffic.generated:
        note = "generated requests: how many there will be is an assumption"
    return Estimate(
        value=middle * DAYS_OF_MONTH,
        low=min(*ends, middle) * DAYS_OF_MONTH,
        high=max(*ends, middle) * DAYS_OF_MONTH,
        source=f"recorded estimates of first choices; {factor.source}",
        as_of=setting.day,
        note=note,
    )


# --- room


def rooms(traffic: Traffic, decided: list[Fate], setting: Setting) -> Iterable[Room]:
    """Return the load of every deployment that serves after, against what it can take."""
    load: dict[str, list[int]] = {}
    timed: dict[str, list[int]] = {}
    for one in decided:
        group = one.group
        if group.first is not None and one.before == "served":
            load.setdefault(group.first, [0, 0, 0])[0] += group.requests
        if one.serves is not None:
            now = load.setdefault(one.serves, [0, 0, 0])
            now[1] += group.requests
            now[2] += group.output_tokens
            of = timed.setdefault(one.serves, [0, 0])
            of[0] += group.sums[one.serves].latency
            of[1] += group.sums[one.serves].timed
    seconds = max(traffic.days, 1) * 86_400
    for name, (before, after, tokens) in sorted(load.items()):
        yield _room(
            name, (before / seconds, after / seconds), tokens / seconds, timed.get(name), traffic, setting
        )


def _room(
    name: str,
    rates: tuple[float, float],
    tokens_s: float,
    timed: list[int] | None,
    traffic: Traffic,
    setting: Setting,
) -> Room:
    usage, profile = traffic.usage.get(name), setting.profiles.get(name)
    answer_s, told = None, ""
    if usage is not None and usage.total_ms is not None:
        answer_s, told = usage.total_ms / 1000, "ledger"
    elif timed is not None and timed[1]:
        answer_s, told = timed[0] / timed[1] / 1000, "recorded latency"
    declared = None if profile is None else profile.max_concurrent
    peak = _peak(traffic, setting)
    unit, room = "answers at once", None if declared is None else _exactly(declared, setting)
    need = None if answer_s is None else _need(rates[1] * answer_s, peak, told, setting)
    if declared is None and name in setting.throughput:
        unit, room = "tokens a second", setting.throughput[name]
        need = _flow(tokens_s, peak, setting)
    why = ""
    if not rates[1]:
        need, why = None, "none: nothing is asked here"
    elif need is None:
        why = "not known how long an answer takes here: it never served, or latency was not recorded"
    elif room is None:
        why = "not known what it gives: declare max_concurrent, or hardware"
    return Room(
        deployment=name,
        site=name if profile is None else profile.site,
        requests_s=rates,
        tokens_s=tokens_s,
        unit=unit,
        need=need,
        room=room,
        missing=_missing(need, room),
        why=why,
    )


def _peak(traffic: Traffic, setting: Setting) -> tuple[float, float]:
    if traffic.peak is not None:
        return traffic.peak, traffic.peak
    return float(setting.assume.peak.low), float(setting.assume.peak.high)


def _exactly(number: int, setting: Setting) -> Estimate:
    return Estimate(
        value=number, low=number, high=number, level=1.0, source="max_concurrent, as configured",
        as_of=setting.day,
    )  # fmt: skip


def _missing(need: Estimate | None, room: Estimate | None) -> Estimate | None:
    """Return what is lacking: at best little is needed and much is given, at worst the other way round."""
    if need is None or room is None:
        return None
    return msgspec.structs.replace(
        need,
        value=max(0.0, need.value - room.value),
        low=max(0.0, need.low - room.high),
        high=max(0.0, need.high - room.low),
    )


def _flow(mean: float, peak: tuple[float, float], setting: Setting) -> Estimate:
    """Return output tokens a second at the busiest hour, with what answers may differ from expected."""
    factor = setting.assume.length_factor
    low, high = mean * peak[0] * float(factor.low), mean * peak[1] * float(factor.high)
    middle = min(max(mean * (peak[0] + peak[1]) / 2, low), high)
    return Estimate(
        value=middle,
        low=low,
        high=high,
        source=f"expected output tokens at the busiest hour; {factor.source}",
        as_of=setting.day,
    )


def _need(mean: float, peak: tuple[float, float], told: str, setting: Setting) -> Estimate:
    """Return answers at once: Little's law at the peak, with the spread of a Poisson number of them."""
    low, high = mean * peak[0], mean * peak[1]
    middle = (low + high) / 2
    return Estimate(
        value=middle,
        low=max(0.0, low - 1.282 * math.sqrt(low)),
        high=high + 1.282 * math.sqrt(high),
        source=f"Little's law: requests a second x seconds an answer ({told}), at the busiest hour",
        as_of=setting.day,
    )
