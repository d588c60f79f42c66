"""One world over gathered traffic: who is left for whom, and what that costs in quality, money and room."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from allod.drills.fate import Fate, fates
from allod.drills.figures import Room, money, quality, rooms
from allod.drills.losses import REMOVED, UNKNOWN
from allod.drills.worlds import World
from allod.planner.estimate import Estimate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from allod.drills.fate import Against, EffectAt, Setting
    from allod.drills.traffic import Traffic

EXAMPLES: Final = 3
Key = tuple[str, tuple[str, ...], str | None]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one app, class set and task.

    Attributes:
        gone: why each deployment is, that is; ``lost`` are those that some request could have used.
        served, uncovered: how many were served, and how many of these are not any more; ``down`` of these
            have somebody lawful left who was down then.
        whole: nothing of this kind is served any more.
        reasons: ids of rules, ``world.removed`` and ``world.unknown``, by how many requests they stop.

    """

    app: str
    classes: tuple[str, ...]
    task: str | None
    critical: bool
    requests: int
    served: int
    uncovered: int
    down: int
    whole: bool
    reasons: tuple[tuple[str, int], ...]
    receipts: tuple[str, ...]


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """Requests whose first choice is another one."""

    from_: str
    to: str
    requests: int


class Drill(msgspec.Struct, frozen=True, kw_only=True):
    """What a world does.

    Attributes:
        gone: why each deployment is, that is; ``lost`` are those that some request could have used.
        served, uncovered: requests that were served, and those of them that are not any more, of all
            ``replayed``; ``critical_served``, ``critical_uncovered``: of critical apps.
        quality_before, quality_after, quality_lost: means over what is still served and known on both sides
            (``quality_known`` requests); the loss with its interval.
        cost_month_before_usd, cost_change_month_usd: of what is still served.
        spared_month_usd: what uncovered requests no longer cost: no saving, nobody serves them.

    """

    world: World
    gone: dict[str, tuple[str, ...]]
    lost: tuple[str, ...]
    unsure: tuple[str, ...]
    idle: tuple[str, ...]
    nothing: bool
    replayed: int
    served: int
    uncovered: int
    down: int
    critical_served: int
    critical_uncovered: int
    moved: int
    lines: tuple[Line, ...]
    moves: tuple[Move, ...]
    rooms: tuple[Room, ...]
    quality_known: int
    quality_before: float | None
    quality_after: float | None
    quality_lost: Estimate | None
    cost_month_before_usd: Estimate | None
    cost_change_month_usd: Estimate | None
    spared_month_usd: Estimate | None

    @property
    def share(self) -> float:
        """Share of served requests that are uncovered; 0 where nothing was served."""
        return self.uncovered / self.served if self.served else 0.0

    @property
    def critical_share(self) -> float:
        """The same of critical apps."""
        return self.critical_uncovered / self.critical_served if self.critical_served else 0.0


def drill(
    traffic: Traffic,
    setting: Setting,
    effect: EffectAt,
    against: Against | None = None,
) -> Drill:
    """Run a world over traffic."""
    decided = fates(traffic, effect, against)
    return summed(traffic, setting, effect, decided)


def summed(traffic: Traffic, setting: Setting, effect: EffectAt, decided: list[Fate]) -> Drill:
    """Add up what became of every group."""
    lines = _lines(decided, setting.critical)
    both = [f for f in decided if f.before == "served" and f.after == "served"]
    moves: dict[tuple[str, str], int] = {}
    for one in both:
        assert one.group.first is not None
        assert one.serves is not None
        if one.group.first != one.serves:
            key = one.group.first, one.serves
            moves[key] = moves.get(key, 0) + one.group.requests
    effects = {f.group.configuration: effect(f.group.configuration) for f in decided}
    some = list(effects.values()) or [effect(None)]
    found = quality(both, setting)
    paid = money(traffic, decided, setting)
    critical = [line for line in lines if line.critical]
    return Drill(
        world=some[0].world,
        gone={name: tuple(r.words() for r in why) for one in some for name, why in one.gone.items()},
        lost=tuple(sorted({name for one in decided for name in one.lost})),
        unsure=tuple(sorted({name for one in some for name in one.unsure})),
        idle=tuple(dict.fromkeys(text for one in some for text in one.idle)),
        nothing=all(one.nothing for one in some),
        replayed=sum(f.group.requests for f in decided),
        served=sum(line.served for line in lines),
        uncovered=sum(line.uncovered for line in lines),
        down=sum(line.down for line in lines),
        critical_served=sum(line.served for line in critical),
        critical_uncovered=sum(line.uncovered for line in critical),
        moved=sum(moves.values()),
        lines=tuple(lines),
        moves=tuple(
            Move(from_=a, to=b, requests=n)
            for (a, b), n in sorted(moves.items(), key=lambda i: (-i[1], i[0]))
        ),
        rooms=tuple(rooms(traffic, decided, setting)),
        quality_known=found[0],
        quality_before=found[1],
        quality_after=found[2],
        quality_lost=found[3],
        cost_month_before_usd=paid[0],
        cost_change_month_usd=paid[1],
        spared_month_usd=paid[2],
    )


def _lines(decided: Iterable[Fate], critical: frozenset[str]) -> list[Line]:
    cells: dict[Key, list[Fate]] = {}
    for one in decided:
        cells.setdefault(one.group.cell, []).append(one)
    lines = [_line(key, of, critical) for key, of in cells.items()]
    return sorted(lines, key=lambda one: (-one.uncovered, -one.requests, one.app, one.task or ""))


def _line(key: Key, of: list[Fate], critical: frozenset[str]) -> Line:
    stopped = [f for f in of if f.uncovered]
    reasons: dict[str, int] = {}
    for one in stopped:
        ids = {rule for rules in one.lost.values() for rule in rules}
        ids |= {rule for rules in one.group.against.values() for rule in rules}
        for rule in ids:
            reasons[rule] = reasons.get(rule, 0) + one.group.requests
    return Line(
        app=key[0],
        classes=key[1],
        task=key[2],
        critical=key[0] in critical,
        requests=sum(f.group.requests for f in of),
        served=sum(f.group.requests for f in of if f.before == "served"),
        uncovered=sum(f.group.requests for f in stopped),
        down=sum(f.group.requests for f in stopped if f.after == "down"),
        whole=bool(stopped) and all(f.after != "served" for f in of),
        reasons=tuple(sorted(reasons.items(), key=lambda i: (i[0] not in {REMOVED, UNKNOWN}, -i[1], i[0]))),
        receipts=tuple(r for f in stopped for r in f.group.receipts)[:EXAMPLES],
    )
