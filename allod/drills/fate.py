"""What becomes of a group of requests in a world: who is left, and who serves it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from allod.drills.assume import Assume
from allod.drills.losses import Effect, Profile
from allod.drills.traffic import Group
from allod.planner.estimate import Estimate
from allod.routing.shadow import Outcome, outcome_of

if TYPE_CHECKING:
    from allod.drills.traffic import Traffic

Against = Callable[[Group], Mapping[str, tuple[str, ...]]]
"""Law in the world, asked about a group: ids of the rules against each deployment it excludes."""
EffectAt = Callable[[str | None], Effect]
"""A world over the fleet of a configuration, by its digest."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for every world: what is known of deployments, which apps are critical, assumptions.

    ``day`` is the day figures are given on. ``throughput`` are output tokens a second that the planner
    foresees of deployments whose hardware is declared. ``earlier`` is known of deployments that are not
    configured any more.
    """

    profiles: Mapping[str, Profile]
    critical: frozenset[str]
    assume: Assume
    day: dt.date
    throughput: Mapping[str, Estimate] = {}
    earlier: Mapping[str, Profile] = {}


class Fate(msgspec.Struct, frozen=True):
    """What becomes of a group: outcomes before and after, who serves it after, and who is lost to it, why."""

    group: Group
    before: Outcome
    after: Outcome
    serves: str | None
    lost: Mapping[str, tuple[str, ...]]

    @property
    def uncovered(self) -> bool:
        """Whether it was served and is not any more."""
        return self.before == "served" and self.after != "served"


def fates(traffic: Traffic, effect: EffectAt, against: Against | None = None) -> list[Fate]:
    """Decide every group again with what is left.

    ``effect`` is the world over the fleet of a configuration; ``against`` is asked where law may say
    otherwise now. What the record says is unlawful stays so: a loss never adds a deployment (I2).
    """
    return [_fate(group, effect(group.configuration), against) for group in traffic.groups]


def _fate(group: Group, effect: Effect, against: Against | None) -> Fate:
    lost: dict[str, tuple[str, ...]] = {}
    law = against(group) if effect.law and against is not None else {}
    for name in (*group.up, *group.down, *group.hard_up, *group.hard_down):
        reasons = effect.gone.get(name)
        if reasons:
            lost[name] = tuple(dict.fromkeys(one.rule for one in reasons))
        elif name in law:
            lost[name] = law[name]
    before = outcome_of(len(group.up), len(group.down)) if group.first is not None else outcome_of(
        0, len(group.down)
    )  # fmt: skip
    up = [name for name in group.up if name not in lost]
    down = [name for name in group.down if name not in lost]
    if not up and not down:
        up = [name for name in group.hard_up if name not in lost]
        down = [name for name in group.hard_down if name not in lost]
    return Fate(group, before, outcome_of(len(up), len(down)), up[0] if up else None, lost)
