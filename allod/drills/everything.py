"""Every single loss a fleet can suffer, every pair among the worst, and one number to order them by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Invalid
from allod.drills.losses import values_on
from allod.drills.run import Drill
from allod.drills.worlds import World, joined, single
from allod.planner.estimate import Estimate

if TYPE_CHECKING:
    from allod.drills.assume import Assume
    from allod.drills.fate import Setting
    from allod.drills.losses import Profile
    from allod.drills.traffic import Traffic

TOP: Final = 10
MOST_SINGLES: Final = 2000
_KINDS: Final = (
    ("operator", "operators"), ("deployment", "deployments"), ("jurisdiction", "jurisdictions"),
    ("region", "regions"), ("maker", "makers"), ("maker-jurisdiction", "maker_jurisdictions"),
    ("family", "families"), ("model", "models"), ("chip", "chips"), ("engine", "engines"),
)  # fmt: skip
FEW_PLACES: Final = 6
"""A bloc stands for many places: a deployment in so many or more is lost with the bloc, not with each."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A single loss, what it does, and other losses that do the very same."""

    world: World
    same_as: tuple[str, ...]
    drill: Drill
    harm_day_usd: Estimate


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two losses together; ``beyond``: share uncovered that neither causes alone."""

    first: str
    second: str
    share: float
    critical_share: float
    beyond: float
    harm_day_usd: Estimate


class Matrix(msgspec.Struct, frozen=True, kw_only=True):
    """Every loss, the worst first, and every pair among the first ``TOP``.

    ``harmless`` are single losses that change nothing.
    """

    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]
    harmless: tuple[str, ...]


def singles(profiles: Iterable[Profile], more: Iterable[str] = ()) -> list[World]:
    """Return a world for every name on every axis of a fleet; ``more`` are losses of law, as texts."""
    known = tuple(profiles)
    texts: dict[str, None] = {}
    for kind, axis in _KINDS:
        names = {value for one in known for value in values_on(axis, one)}
        if axis in {"regions", "jurisdictions"}:
            few = (one for one in known if len(values_on(axis, one)) < FEW_PLACES)
            names = {value for one in few for value in values_on(axis, one)}
        for name in sorted(names):
            texts[f"{kind}={name}"] = None
    for text in (*more, "link"):
        texts[text] = None
    if len(texts) > MOST_SINGLES:
        raise Invalid(f"{len(texts)} single losses are too many", f"at most {MOST_SINGLES}", "run some alone")
    found = (single(text) for text in texts)
    return [one for one in found if one is not None]


def harm_day(drill: Drill, traffic: Traffic, assume: Assume, setting: Setting) -> Estimate:
    """Return what a world costs a day (USD): unserved requests, dearer answers, worse answers.

    What would be cheaper or better in it is not set off: it could have been had before.
    """
    days = max(traffic.days, 1)
    critical = drill.critical_uncovered / days
    other = (drill.uncovered - drill.critical_uncovered) / days
    served = (drill.served - drill.uncovered) / days
    low = value = high = 0.0
    for count, cost in ((critical, assume.critical_usd), (other, assume.uncovered_usd)):
        low += count * float(cost.low)
        value += count * cost.middle
        high += count * float(cost.high)
    if drill.quality_lost is not None:
        wrong, lost = assume.wrong_usd, drill.quality_lost
        low += max(0.0, lost.low) * served * float(wrong.low)
        value += max(0.0, lost.value) * served * wrong.middle
        high += max(0.0, lost.high) * served * float(wrong.high)
    if drill.cost_change_month_usd is not None and (drill.moved or drill.world.price):
        change, month = drill.cost_change_month_usd, 365.25 / 12
        low += max(0.0, change.low) / month
        value += max(0.0, change.value) / month
        high += max(0.0, change.high) / month
    return Estimate(
        value=value,
        low=min(low, value),
        high=max(high, value),
        source="requests a day x what one costs that is not served, dearer or wrong (assumptions)",
        as_of=setting.day,
    )


def matrix(
    worlds: Iterable[World],
    run: Callable[[World], tuple[Drill, Estimate]],
    told: Callable[[int, int], None] = lambda _done, _of: None,
) -> Matrix:
    """Run every world and every pair among the worst; ``run`` returns a drill and its harm a day.

    Losses that take away the same and do the same are one row: the first names it, the others are told.
    """
    listed = list(worlds)
    rows: dict[object, Row] = {}
    harmless = []
    total = len(listed) + TOP * (TOP - 1) // 2
    for n, world in enumerate(listed):
        drill, harm = run(world)
        told(n + 1, total)
        if not drill.uncovered and not drill.moved and harm.value == 0:
            harmless.append(world.id)
            continue
        key = _print(drill)
        known = rows.get(key)
        if known is not None:
            rows[key] = msgspec.structs.replace(known, same_as=(*known.same_as, world.id))
        else:
            rows[key] = Row(world=world, same_as=(), drill=drill, harm_day_usd=harm)
    ordered = sorted(rows.values(), key=_weight)
    top = ordered[:TOP]
    pairs = []
    for n, (a, b) in enumerate(combinations(top, 2)):
        drill, harm = run(joined([a.world, b.world]))
        told(len(listed) + n + 1, total)
        alone = max(a.drill.share, b.drill.share)
        pairs.append(
            Pair(
                first=a.world.id,
                second=b.world.id,
                share=drill.share,
                critical_share=drill.critical_share,
                beyond=max(0.0, drill.share - alone),
                harm_day_usd=harm,
            )
        )
    told(total, total)
    return Matrix(rows=tuple(ordered), pairs=tuple(pairs), harmless=tuple(harmless))


def _print(drill: Drill) -> object:
    """Return what two losses must have in common to be one: who is lost to whom, and what becomes of it."""
    lines = tuple((line.app, line.classes, line.task, line.uncovered) for line in drill.lines)
    moves = tuple((move.from_, move.to, move.requests) for move in drill.moves)
    return drill.lost, lines, moves, drill.world.id if drill.world.price else ""


def _weight(row: Row) -> tuple[float, float, float, str]:
    return -row.drill.critical_share, -row.harm_day_usd.value, -row.drill.share, row.world.id


def app_shares(row: Row, apps: Iterable[str]) -> Mapping[str, float | None]:
    """Return what share of each app's served requests a loss uncovers; None for one that asked nothing."""
    served: dict[str, int] = {}
    uncovered: dict[str, int] = {}
    for line in row.drill.lines:
        served[line.app] = served.get(line.app, 0) + line.served
        uncovered[line.app] = uncovered.get(line.app, 0) + line.uncovered
    return {app: uncovered.get(app, 0) / served[app] if served.get(app) else None for app in apps}
