"""What a decision was made with: digests of packs and fleet, each with the day it stops being so.

A digest covers ``valid_until``, the earliest expiry after the day of the question among what it covers: the
packs' own for the one, the facts' for the other. Crossing that day gives another digest though no byte of
the configuration has changed, because the decisions may have.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import date
from typing import Any

import msgspec

from allod.domain.fleet import Deployment, Fleet
from allod.policy.facts import DEPLOYMENT_FACTS, facts_of
from allod.policy.pack import Pack

_READ_OF_DEPLOYMENT = ("id", "engine", "model", "operator", "approved", *DEPLOYMENT_FACTS)


def max_age_days(packs: Iterable[Pack]) -> int | None:
    """Return the shortest age limit of facts any pack sets, in days, or None."""
    limits = [pack.manifest.max_age_days for pack in packs if pack.manifest.max_age_days is not None]
    return min(limits, default=None)


def pack_expiries(packs: Iterable[Pack]) -> tuple[date, ...]:
    """Return the days on which a pack stops holding, sorted."""
    return tuple(sorted({p.manifest.valid_until for p in packs if p.manifest.valid_until is not None}))


def fact_expiries(fleet: Fleet, age_limit_days: int | None) -> tuple[date, ...]:
    """Return the days on which a fact stops holding, by its own ``expires`` or by age, sorted."""
    days: set[date] = set()
    for fact in facts_of(fleet):
        if fact.expires is not None:
            days.add(fact.expires)
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
            "valid_until": valid_until,
        }
    )


def _read_of(deployment: Deployment) -> dict[str, Any]:
    return {name: getattr(deployment, name) for name in _READ_OF_DEPLOYMENT}


def _digest(value: Any) -> str:
    plain = msgspec.to_builtins(value)
    encoded = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(encoded.encode("ascii")).hexdigest()
