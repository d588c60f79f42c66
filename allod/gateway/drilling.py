"""From a home to drills: fleets and law as they were, traffic out of the tables or made up, worlds by name.

The decisions are those of ``routing.plan`` over recorded facts, the law that of ``policy.Policy`` over the
fleet each request was decided with; nothing here decides. Nothing is written and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import AllodError, Integrity, Invalid, Unavailable
from allod.domain.fleet import Fleet
from allod.drills import own as organisation
from allod.drills import worlds as shipped_worlds
from allod.drills.assume import assumptions
from allod.drills.fate import Against, EffectAt
from allod.drills.fate import Setting as DrillSetting
from allod.drills.losses import Effect, Profile, effect, lost_lists, profile
from allod.drills.own import Own
from allod.drills.reading import nearest
from allod.drills.worlds import World, joined, load, named
from allod.gateway.drilling_speed import foreseen
from allod.gateway.packs import Packs
from allod.gateway.promise.rules import family
from allod.policy.policy import Policy, PolicyQuestion
from allod.routing.question import UNDECIDED
from allod.routing.snapshot import read_snapshot, snapshot_of

if TYPE_CHECKING:
    from allod.drills.traffic import Asked, Group
    from allod.gateway.compose import Setting
    from allod.policy.forms import Pack
    from allod.store.database import Database
    from allod.store.home import Home

OWN: Final = "drills.toml"
WORLDS: Final = "drills/worlds"
TICKS: Final = "drills/ticks.toml"
NOT_KEPT: Final = "the fleet it was decided with was not kept"
UNMADE: Final = "its law cannot be made again"
MAX_BYTES: Final = 1 << 20
POLICIES: Final = 24
"""So many laws over a world and a fleet are kept; those without a world before all others."""


class PacksLess(Packs):
    """Packs with places taken out of their lists; all else is as in those given."""

    def __init__(self, packs: Packs, lists: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__(packs.found.values())
        self._packs, self._lists = packs, lists

    def load(self, name: str) -> Pack:
        """Load one pack (as ``Packs.load``)."""
        (made,), _ = lost_lists((self._packs.load(name),), self._lists)
        return made


class Ground:
    """What all drills of one home stand on: its fleets by snapshot, its packs, its assumptions.

    Args:
        setting: the home as it is configured now. own: its ``drills.toml``. database: where snapshots are
            kept; None where requests are generated. day: today.

    """

    def __init__(self, setting: Setting, own: Own, database: Database | None, day: date) -> None:
        self.setting, self.own, self.day = setting, own, day
        self._database = database
        self.today = snapshot_of(setting.fleet).digest
        self._fleets: dict[str, Fleet | None] = {self.today: setting.fleet}
        self._profiles: dict[str, dict[str, Profile]] = {}
        self._policies: dict[tuple[str, str], Policy | None] = {}
        self.damaged = 0
        self.assume = assumptions(own.assume)

    def fleet(self, configuration: str | None) -> Fleet | None:
        """Return the fleet of a snapshot, or None: it was not kept, or cannot be read."""
        if configuration is None:
            return None
        if configuration not in self._fleets:
            body = None if self._database is None else self._database.configuration(configuration)
            try:
                self._fleets[configuration] = None if body is None else read_snapshot(body, configuration)
            except Integrity:
                self.damaged += 1
                self._fleets[configuration] = None
        return self._fleets[configuration]

    def known(self, configuration: str | None) -> str | None:
        """Say why decisions of a configuration cannot be drilled, or None: they can."""
        fleet = self.fleet(configuration)
        if fleet is None or configuration is None:
            return NOT_KEPT
        return None

    def profiles(self, configuration: str) -> dict[str, Profile]:
        """Return what is known of the deployments of a configuration."""
        if configuration not in self._profiles:
            fleet = self.fleet(configuration)
            assert fleet is not None
            self._profiles[configuration] = profiles_of(fleet, self.setting)
        return self._profiles[configuration]

    def drill_setting(self) -> DrillSetting:
        """Return what every drill needs, from today's configuration."""
        fleet = self.setting.fleet
        functions = {one.id for one in self.setting.config.register.functions.values() if one.critical}
        critical = {a.id for a in fleet.apps.values() if a.critical or a.function in functions}
        return DrillSetting(
            profiles=self.profiles(self.today),
            critical=frozenset(critical),
            assume=self.assume,
            day=self.day,
            throughput=foreseen(fleet, self.profiles(self.today)),
            earlier=self._earlier(),
        )

    def _earlier(self) -> dict[str, Profile]:
        """Return what is known of deployments in the configurations that were read."""
        read = [digest for digest, fleet in self._fleets.items() if fleet is not None]
        return {name: one for digest in read for name, one in self.profiles(digest).items()}

    def effect(self, world: World) -> EffectAt:
        """Return a world over the fleet of each configuration."""
        made: dict[str | None, Effect] = {}

        def at(configuration: str | None) -> Effect:
            key = configuration or self.today
            if key not in made:
                fleet = self.fleet(key)
                assert fleet is not None
                found = effect(world, fleet, self.profiles(key))
                made[key] = msgspec.structs.replace(
                    found, idle=(*found.idle, *self._idle_lists(found, fleet))
                )
            return made[key]

        return at

    def _idle_lists(self, found: Effect, fleet: Fleet) -> tuple[str, ...]:
        if not found.lists:
            return ()
        packs = self.setting.packs.some(fleet.tenant.packs)
        known = {one.id for pack in packs for one in pack.lists}
        return tuple(
            f"lists {name}: no pack in force brings it{nearest(name, known)}"
            for name in found.lists
            if name not in known
        )

    def against(self, world: World) -> Against:
        """Return the law in a world: who is excluded there and would not be without it, by which rules."""
        at = self.effect(world)
        memo: dict[tuple[str | None, Asked], dict[str, tuple[str, ...]]] = {}

        def rules(group: Group) -> dict[str, tuple[str, ...]]:
            key = group.configuration, group.asked
            if key not in memo:
                memo[key] = self._rules(world, at(group.configuration), key[0] or self.today, key[1])
            return memo[key]

        return rules

    def _rules(
        self, world: World, found: Effect, configuration: str, asked: Asked
    ) -> dict[str, tuple[str, ...]]:
        """Decide the law twice, in the world and without it, so that only what the world changes counts."""
        now = self._excluded(self.policy(configuration, None, None), asked, found)
        then = self._excluded(self.policy(configuration, world.id, found), asked, found, lost=True)
        return {name: why for name, why in then.items() if name not in now}

    def _excluded(
        self, policy: Policy | None, asked: Asked, found: Effect, *, lost: bool = False
    ) -> dict[str, tuple[str, ...]]:
        if policy is None:
            return dict.fromkeys(found.fleet.deployments, (UNDECIDED.id,)) if lost else {}
        question = PolicyQuestion(
            app=asked.app,
            classes=asked.classes,
            day=date.fromisoformat(asked.day),
            purpose=asked.purpose,
            link_up=asked.link_up and not (lost and found.link_down),
            pseudonymised=asked.pseudonymised,
        )
        try:
            excluded = policy.eligible(question).excluded
        except AllodError:
            return dict.fromkeys(found.fleet.deployments, (UNDECIDED.id,)) if lost else {}
        return {one.deployment: tuple(rule.id for rule in one.rules) for one in excluded}

    def policy(self, configuration: str, world: str | None, found: Effect | None) -> Policy | None:
        """Return the law over a fleet, in a world or as it is; None if today's packs make none over it."""
        key = configuration, world or ""
        if key not in self._policies:
            if len(self._policies) >= POLICIES:
                self._policies.pop(next((one for one in self._policies if one[1]), key), None)
            fleet = self.fleet(configuration) if found is None else found.fleet
            assert fleet is not None
            packs = self.packs(found)
            try:
                self._policies[key] = Policy(packs.some(fleet.tenant.packs), fleet)
            except AllodError:
                self._policies[key] = None
        return self._policies[key]

    def packs(self, found: Effect | None) -> Packs:
        """Return the packs there are, without what a world takes out of their lists."""
        if found is None or not found.lists:
            return self.setting.packs
        return PacksLess(self.setting.packs, found.lists)


def profiles_of(fleet: Fleet, setting: Setting | None = None) -> dict[str, Profile]:
    """Return what is known of every deployment: by configuration, vault, and the planner's catalogue."""
    made = {}
    for one in fleet.deployments.values():
        more = {"family": (family(one.model), "its model's name")}
        more |= _vaulted(one.id, one.model, fleet, setting) or _catalogued(one.model)
        made[one.id] = profile(one, fleet, more)
    return made


def _vaulted(name: str, model: str, fleet: Fleet, setting: Setting | None) -> dict[str, tuple[str, str]]:
    if setting is None or name not in fleet.weights:
        return {}
    try:
        manifest = setting.vault.find(model).manifest
    except AllodError:
        return {}
    found = {"maker": manifest.maker, "maker_jurisdiction": manifest.maker_jurisdiction}
    return {key: (value, "vault") for key, value in found.items() if value}


def _catalogued(model: str) -> dict[str, tuple[str, str]]:
    from allod.planner.catalogue import find_model  # noqa: PLC0415 (reads a table)

    try:
        card = find_model(model)
    except AllodError:
        return {}
    found = {"maker": card.maker, "maker_jurisdiction": card.maker_jurisdiction}
    return {key: (value, f"catalogue: {card.id}") for key, value in found.items() if value}


# --- files


def own_of(home: Home, path: Path | None = None) -> Own:
    """Read what the organisation says of its drills: this file, else the home's, else nothing.

    Raises:
        Invalid: it cannot be read. Unavailable: there is no such file.

    """
    chosen = path or home.root / OWN
    if path is None and not chosen.exists():
        return Own()
    return organisation.load(_bytes(chosen), str(chosen))


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError as fault:
        raise Unavailable(f"there is no {path}", "", "correct the path", kind="down") from fault


def worlds_of(home: Home) -> dict[str, World]:
    """Return the worlds there are: those shipped, and the organisation's own in ``drills/worlds``.

    Raises:
        Invalid: a file holds none; two worlds share an id.

    """
    found = shipped_worlds.shipped()
    folder, ours = home.root / WORLDS, dict[str, World]()
    for path in sorted(folder.glob("*.toml")) if folder.is_dir() else ():
        one = load(_bytes(path), path.stem)
        if one.id in ours:
            raise Invalid(f"two worlds are called {one.id!r}", f"one is {path}", "rename one")
        ours[one.id] = one
    return found | ours


def world_named(text: str, known: Mapping[str, World]) -> World:
    """Return the world that ``a+b`` names: each a file, a known world, or a single loss (``operator=X``).

    Raises:
        Invalid, Unavailable: there is none, or it cannot be read.

    """
    parts = [part.strip() for part in text.split("+")]
    if not all(parts):
        raise Invalid(f"{text[:80]!r} names no world", "", "write a, or a+b")
    return joined([_one(part, known) for part in parts])


def _one(text: str, known: Mapping[str, World]) -> World:
    if text.endswith(".toml") or "/" in text.partition("=")[0]:
        made = load(_bytes(Path(text)), Path(text).stem)
        return shipped_worlds.whole(made, lambda name: named(name, known))
    return named(text, known)
