"""The law of a day: the rules of a set of packs as a proof reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date

import msgspec

from allod.domain.errors import Invalid
from allod.domain.facts import Grade
from allod.domain.fleet import SEAL_WEIGHTS
from allod.policy import digests, lists
from allod.policy.pack import BASE, Pack, Rule, unknown_name


class Law(msgspec.Struct, frozen=True, kw_only=True):
    """Packs in force on one UTC day.

    Attributes:
        rules: those that apply on the day and are not waived, in rule order.
        lists: every list of the packs with its country codes on the day.
        min_grade, max_age_days: what a fact must be to count (the strictest of the packs').
        percent: weights of the eight objectives of a sovereignty vector.
        relaxed: ids of waived rules.
        closed: packs that do not hold on the day; while there is one, everything is denied.

    """

    packs: tuple[Pack, ...]
    day: date
    rules: tuple[Rule, ...]
    lists: Mapping[str, frozenset[str]]
    min_grade: Grade
    max_age_days: int | None
    percent: tuple[int, ...]
    relaxed: frozenset[str]
    closed: tuple[str, ...]

    @property
    def schema(self) -> str:
        """The base pack's schema."""
        return next(pack.schema for pack in self.packs if pack.id == BASE)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the packs."""
        return tuple(pack.id for pack in self.packs)


def law_of(
    packs: Iterable[Pack],
    day: date,
    relaxed: Iterable[str] = (),
    percent: tuple[int, ...] | None = None,
) -> Law:
    """Collect the law of a day; ``percent`` None takes the weights that a pack brings, else the EU's.

    Raises:
        Invalid: the base pack is missing, a pack or a rule is there twice, a waived rule does not exist, a
            rule reads a list that no pack brings, or packs weigh sovereignty differently.

    """
    chosen = tuple(packs)
    ids = [pack.id for pack in chosen]
    if BASE not in ids or len(set(ids)) != len(ids):
        raise Invalid("these packs are no law", f"got {ids}", "name each pack once, the base pack among them")
    every = [rule for pack in chosen for rule in pack.rules]
    known = {rule.id for rule in every}
    if len(known) != len(every):
        raise Invalid("two rules share an id", f"in packs {ids}", "packs in force need distinct rule ids")
    waived = frozenset(relaxed)
    for name in sorted(waived - known):
        raise unknown_name("a relaxation names rule", name, known)
    found = lists.join(one for pack in chosen for one in pack.lists)
    for rule in every:
        for name in rule.lists:
            if name not in found:
                raise unknown_name(f"rule {rule.id!r} reads list", name, found)
    weightings = [pack.weighting.percent for pack in chosen if pack.weighting is not None]
    if percent is None and len(set(weightings)) > 1:
        raise Invalid("these packs weigh sovereignty differently", f"got {weightings}", "keep one of them")
    return Law(
        packs=chosen,
        day=day,
        rules=tuple(rule for rule in every if rule.applies_on(day) and rule.id not in waived),
        lists={name: lists.codes_on(name, found, day) for name in found},
        min_grade=digests.min_grade(chosen),
        max_age_days=digests.max_age_days(chosen),
        percent=percent or (weightings[0] if weightings else SEAL_WEIGHTS),
        relaxed=waived,
        closed=tuple(pack.id for pack in chosen if not _valid(pack, day)),
    )


def _valid(pack: Pack, day: date) -> bool:
    start, end = pack.manifest.valid_from, pack.manifest.valid_until
    return (start is None or start <= day) and (end is None or day < end)
