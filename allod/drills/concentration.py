"""On whom the work rests: one index for each axis, how it moved, and the single change that would lower it.

Herfindahl-Hirschman: the sum of squared shares of what served, from 1/n to 1; its inverse is the effective
number. What is not known is a share of its own; the interval reaches from "all of it is spread thin" up to
"all of it is the largest known one".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.planner.estimate import Estimate

if TYPE_CHECKING:
    from allod.drills.fate import Setting
    from allod.drills.losses import Profile
    from allod.drills.traffic import Group, Traffic

UNKNOWN: Final = "not known"
AXES: Final[tuple[str, ...]] = ("operator", "controlling jurisdiction", "chip", "model maker", "engine")
WEIGHTS: Final[tuple[str, ...]] = ("traffic", "critical")
MOST_BUCKETS: Final = 12


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One name on an axis and its share, in [0, 1]."""

    name: str
    share: float


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """The index over some days, from the first to before the next."""

    since: date
    hhi: float
    requests: int


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One change that lowers the index: work of an app and task goes to another deployment lawful for it.

    ``cost_month_usd`` and ``quality`` are what it changes, by the recorded estimates.
    """

    app: str
    task: str | None
    from_: str
    to: str
    requests: int
    hhi: float
    cost_month_usd: float
    quality: float | None


class Axis(msgspec.Struct, frozen=True, kw_only=True):
    """The concentration on one axis by one weight.

    Attributes:
        shares: the largest first; what is not known is one of them.
        hhi: the index, with what is not known as one name; its interval: spread thin, and all the largest.
        effective: how many equal ones would be as concentrated.
        trend: the index over time; ``slope_month`` how much it rises a month, None with fewer than three.
        lower: the best single changes, the one that lowers most first.

    """

    axis: str
    weight: str
    requests: int
    shares: tuple[Share, ...]
    unknown: float
    hhi: Estimate
    effective: Estimate
    trend: tuple[Bucket, ...]
    slope_month: float | None
    lower: tuple[Change, ...]


def name_on(axis: str, one: Profile | None) -> str:
    """Return the name of a deployment on an axis."""
    if one is None:
        return UNKNOWN
    if axis == "controlling jurisdiction":
        return "+".join(sorted(one.controlled)) if one.controlled else UNKNOWN
    value = {"operator": one.operator, "chip": one.chip, "model maker": one.maker, "engine": one.engine}[axis]
    return value or UNKNOWN


def concentration(traffic: Traffic, setting: Setting) -> tuple[Axis, ...]:
    """Return the concentration of what served, on every axis, by all traffic and by that of critical apps."""
    out = []
    for weight in WEIGHTS:
        groups = [
            group
            for group in traffic.groups
            if group.first is not None and (weight == "traffic" or group.asked.app in setting.critical)
        ]
        if groups:
            out += [_axis(axis, weight, groups, traffic, setting) for axis in AXES]
    return tuple(out)


def _axis(axis: str, weight: str, groups: list[Group], traffic: Traffic, setting: Setting) -> Axis:
    def named(deployment: str) -> str:
        return name_on(axis, setting.profiles.get(deployment) or setting.earlier.get(deployment))

    counts = _counts(groups, named)
    total = sum(counts.values())
    unknown = counts.get(UNKNOWN, 0) / total
    now, most = index(counts), index(_worst(counts))
    least = index({name: n for name, n in counts.items() if name != UNKNOWN}, total)
    source = f"first choices of {total} requests"
    trend = _trend(groups, named)
    return Axis(
        axis=axis,
        weight=weight,
        requests=total,
        shares=tuple(
            Share(name=name, share=n / total)
            for name, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ),
        unknown=unknown,
        hhi=Estimate(value=now, low=least, high=max(now, most), level=1.0, source=source, as_of=setting.day),
        effective=Estimate(
            value=1 / now, low=min(1 / now, 1 / most), high=max(1 / now, 1 / max(least, 1 / total)),
            level=1.0, source=source, as_of=setting.day,
        ),
        trend=trend,
        slope_month=_slope(trend),
        lower=_lower(groups, named, counts, traffic),
    )  # fmt: skip


def _worst(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the counts if all that is not known were the largest that is."""
    known = {name: n for name, n in counts.items() if name != UNKNOWN}
    largest = max(known, key=lambda name: known[name], default=UNKNOWN)
    return {**known, largest: known.get(largest, 0) + counts.get(UNKNOWN, 0)}


def index(counts: Mapping[str, int], total: int | None = None) -> float:
    """Return the sum of squared shares; ``total`` may be more than these, the rest spread thin."""
    of = sum(counts.values()) if total is None else total
    return sum((n / of) ** 2 for n in counts.values()) if of else 0.0


def _counts(groups: Iterable[Group], named: Callable[[str], str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for group in groups:
        assert group.first is not None
        name = named(group.first)
        counts[name] = counts.get(name, 0) + group.requests
    return counts


def _trend(groups: list[Group], named: Callable[[str], str]) -> tuple[Bucket, ...]:
    """Return the index over equal spans of days, at most ``MOST_BUCKETS`` of them."""
    days = sorted({group.asked.day for group in groups})
    first, last = date.fromisoformat(days[0]), date.fromisoformat(days[-1])
    whole = (last - first).days + 1
    span = max(1, -(-whole // MOST_BUCKETS))
    parts: dict[int, list[Group]] = {}
    for group in groups:
        parts.setdefault((date.fromisoformat(group.asked.day) - first).days // span, []).append(group)
    out = []
    for n, part in sorted(parts.items()):
        counts = _counts(part, named)
        since = first + timedelta(days=n * span)
        out.append(Bucket(since=since, hhi=index(counts), requests=sum(counts.values())))
    return tuple(out)


def _slope(trend: tuple[Bucket, ...]) -> float | None:
    """Return the slope of a straight line through the buckets, a month, weighed by their requests."""
    if len(trend) < 3:  # noqa: PLR2004 (two points have a slope and no trend)
        return None
    xs = [(one.since - trend[0].since).days / 30.44 for one in trend]
    weights = [one.requests for one in trend]
    total = sum(weights)
    x0 = sum(x * w for x, w in zip(xs, weights, strict=True)) / total
    y0 = sum(one.hhi * one.requests for one in trend) / total
    over = sum(w * (x - x0) ** 2 for x, w in zip(xs, weights, strict=True))
    if not over:
        return None
    return sum(w * (x - x0) * (one.hhi - y0) for x, w, one in zip(xs, weights, trend, strict=True)) / over


def _lower(
    groups: list[Group], named: Callable[[str], str], counts: dict[str, int], traffic: Traffic
) -> tuple[Change, ...]:
    """Try to send each app's task to each other deployment that was lawful, able and up for it."""
    moves: dict[tuple[Any, ...], list[Group]] = {}
    for group in groups:
        for to in group.up[1:]:
            if named(to) not in {named(group.first or ""), UNKNOWN}:
                moves.setdefault((group.asked.app, group.task, group.first, to), []).append(group)
    found = [_change(key, of, named, counts, traffic) for key, of in moves.items()]
    best = [one for one in found if one.hhi < index(counts) - 1e-9]
    return tuple(sorted(best, key=lambda one: (one.hhi, one.cost_month_usd, one.app, one.to))[:5])


def _change(
    key: tuple[Any, ...],
    of: list[Group],
    named: Callable[[str], str],
    counts: dict[str, int],
    traffic: Traffic,
) -> Change:
    app, task, before, to = key
    requests = sum(group.requests for group in of)
    after = dict(counts)
    after[named(before)] -= requests
    after[named(to)] = after.get(named(to), 0) + requests
    cost = sum(float(group.sums[to].cost - group.before.cost) for group in of)
    known = [group for group in of if group.before.known == group.sums[to].known == group.requests]
    quality = sum(float(group.sums[to].quality - group.before.quality) for group in known)
    seen = sum(group.requests for group in known)
    return Change(
        app=app,
        task=task,
        from_=before,
        to=to,
        requests=requests,
        hhi=index(after),
        cost_month_usd=cost / max(traffic.days, 1) * 365.25 / 12,
        quality=quality / seen if seen else None,
    )
