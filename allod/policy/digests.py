"""What a decision was made with: digests of packs and fleet, each with the day it stops being so.

A digest covers ``valid_until``, the earliest expiry after the day of the question among what it covers: the
packs' own for the one, the facts' for the other. Crossing that day gives another digest though no byte of
the configuration has changed, because the decisions may have.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

import msgspec

from allod.domain.facts import GRADES, Grade
from allod.domain.fleet import Deployment, Fleet
from allod.policy.facts import DEPLOYMENT_FACTS, EVIDENCE, facts_of
from allod.policy.lists import PlaceList, turns
from allod.policy.pack import Pack

_READ_OF_DEPLOYMENT = ("id", "engine", "model", "operator", "approved", *DEPLOYMENT_FACTS, *EVIDENCE)


def max_age_days(packs: Iterable[Pack]) -> int | None:
    """Return the shortest age limit of facts any pack sets, in days, or None."""
    limits = [pack.manifest.max_age_days for pack in packs if pack.manifest.max_age_days is not None]
    return min(limits, default=None)


def min_grade(packs: Iterable[Pack]) -> Grade:
    """Return the best grade any pack demands of facts about others."""
    return max((pack.manifest.min_grade for pack in packs), key=GRADES.index, default="declared")


def pack_turns(packs: Iterable[Pack], lists: Mapping[str, PlaceList]) -> tuple[date, ...]:
    """Return the days on which a pack, a rule or a row of a list begins or stops to hold, sorted."""
    days: set[date | None] = set(turns(lists))
    for pack in packs:
        days |= {pack.manifest.valid_from, pack.manifest.valid_until}
        days |= {day for rule in pack.rules for day in (rule.since, rule.until)}
    return tuple(sorted(day for day in days if day is not None))


def fact_expiries(fleet: Fleet, age_limit_days: int | None) -> tuple[date, ...]:
    """Return the days on which a fact begins to hold, or stops by its ``expires`` or by age, sorted."""
    days: set[date] = set()
    for fact in facts_of(fleet):
        days |= {day for day in (fact.as_of, fact.expires) if day is not None}
        if age_limit_days is not None and fact.as_of is not None:
            stale_from = fact.as_of.toordinal() + age_limit_days + 1
            if stale_from <= date.max.toordinal():
                days.add(date.fromordinal(stale_from))
    return tuple(sorted(days))


def next_expiry(expiries: Iterable[date], day: date) -> date | None:
    """Return the earliest of these days after ``day``."""
    return min((expiry for expiry in expiries if expiry > day), default=None)


def digest_of_packs(packs: Iterable[Pack], valid_until: date | None) -> str:
    """Digest the packs in force, in their order, each by the digest of its files."""
    listing = [[pack.id, pack.version, pack.digest] for pack in packs]
    return _digest({"packs": listing, "valid_until": valid_until})


def digest_of_fleet(fleet: Fleet, valid_until: date | None) -> str:
    """Digest everything of the fleet a policy decision reads; deployments in configuration order."""
    return _digest(
        {
            "tenant": fleet.tenant,
            "apps": fleet.apps,
            "operators": fleet.operators,
            "deployments": [_read_of(deployment) for deployment in fleet.deployments.values()],
            "weights": fleet.weights,
            "sovereignty_weights": fleet.sovereignty_weights,
            "valid_until": valid_until,
        }
    )


def _read_of(deployment: Deployment) -> dict[str, Any]:
    return {name: getattr(deployment, name) for name in _READ_OF_DEPLOYMENT}


def _digest(value: Any) -> str:
    plain = msgspec.to_builtins(value)
    encoded = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(encoded.encode("ascii")).hexdigest()
