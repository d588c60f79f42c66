"""From a home to the world reports are made of: configuration, register, packs and the log as it is now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Invalid
from allod.evidence.paper import LogState
from allod.evidence.world import World, day_of
from allod.gateway import compose
from allod.policy.lists import codes_on
from allod.receipts.commitment import pseudonym
from allod.store import reports
from allod.store.extract import gathered
from allod.store.home import load_keys
from allod.store.subjects import find

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from allod.gateway.compose import Setting
    from allod.policy.forms import Pack
    from allod.policy.policy import Policy
    from allod.store.database import Database
    from allod.store.extract import Entry, Extract

ADEQUATE: Final = "gdpr.adequate"
FOREVER_MS: Final = 253_402_300_799_000


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a report is limited to; times in UTC milliseconds, the end exclusive."""

    now_ms: int
    since_ms: int = 0
    until_ms: int = FOREVER_MS
    app: str | None = None
    task: str | None = None


def world(setting: Setting, extract: Extract, tables: Database, asked: Asked) -> World:
    """Put together what reports read.

    Raises:
        Invalid: an app or task nobody knows; packs that do not fit the facts.
        Integrity, Unavailable: the tables cannot be read.

    """
    fleet, day = setting.fleet, day_of(asked.now_ms)
    policy = compose.decider(fleet, setting.packs).policy
    secret = load_keys(setting.home).secret
    names = {*fleet.apps, *reports.apps(tables, extract.origin)}
    _known(asked, names, set(fleet.tasks))
    _, fleet_digest = policy.digests(day)
    return World(
        fleet=fleet,
        fleet_digest=fleet_digest,
        register=setting.config.register,
        day=day,
        made_at_ms=asked.now_ms,
        since_ms=asked.since_ms,
        until_ms=min(asked.until_ms, asked.now_ms),
        log=LogState(
            origin=extract.origin,
            size=extract.size,
            root=extract.root.hex(),
            checkpoint=extract.checkpoint.decode(),
            vkey=extract.vkey,
        ),
        entries=lambda: extract.entries(asked.since_ms, asked.until_ms),
        in_flight=lambda: extract.in_flight,
        lost=extract.lost(asked.since_ms) or "",
        apps={pseudonym(secret, "app", name): name for name in names},
        packs=tuple(_told(pack) for pack in policy.packs),
        adequate=_adequate(policy, day),
        statutes=policy.statutes,
        app=asked.app,
        task=asked.task,
    )


def about(whole: World, setting: Setting, extract: Extract, tables: Database, subject: str) -> World:
    """Return the world of the requests about one person; those that had not ended are not in it.

    Nor are those whose leaves are pruned: ``World.lost`` says so.
    """
    secret = load_keys(setting.home).secret
    first = extract.pruned.upto if extract.pruned is not None else 0

    def read() -> Iterator[Entry]:
        for page in find(tables, secret, subject):
            for row in page:
                last = row.terminal_index
                here = row.origin == extract.origin and last is not None and last < extract.size
                here = here and row.intent_index >= first
                if here and last is not None and whole.since_ms <= row.at_ms < whole.until_ms:
                    yield extract.entry(row.intent_index, last)

    def entries() -> Iterator[Entry]:
        return iter(gathered(read()))

    return msgspec.structs.replace(whole, entries=entries, in_flight=lambda: 0)


def _known(asked: Asked, apps: set[str], tasks: set[str]) -> None:
    for kind, name, known in (("app", asked.app, apps), ("task", asked.task, tasks)):
        if name is not None and name not in known:
            raise Invalid(
                f"there is no {kind} {name!r}",
                "known: " + (", ".join(sorted(known)) or "none"),
                "correct the name",
                param=kind,
            )


def _told(pack: Pack) -> str:
    manifest = pack.manifest
    reviewed = f"reviewed by {manifest.reviewer}" if manifest.reviewer else "unreviewed"
    return f"{manifest.id} {manifest.version} ({manifest.status}, {reviewed})"


def _adequate(policy: Policy, day: date) -> frozenset[str] | None:
    return codes_on(ADEQUATE, policy.lists, day) if ADEQUATE in policy.lists else None
