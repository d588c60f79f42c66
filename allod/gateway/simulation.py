"""What other packs, or another fleet, would have done to the traffic that was.

Each decision record is replayed over the fleet it was decided with, kept by digest when the gateway started,
or over one that is given. A record whose fleet was not kept, whose packs are gone, or that does not hold is
counted with the reason and left out. Nothing here writes, and nothing is sent.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import AllodError, Integrity
from allod.gateway.replay import LawThen, Scenario, World, day_of
from allod.receipts.commitment import digest as digest_of
from allod.routing.record import read_record
from allod.routing.shadow import ShadowFound, ShadowTally
from allod.routing.simulate import NOT_HELD, Again, Law, Past, past_of, write_again
from allod.routing.snapshot import read_snapshot, snapshot_of
from allod.routing.tally import Found, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from allod.domain.fleet import Fleet
    from allod.store.database import Database, Decided

LOST: Final = "the decision record is not in the tables (lost, or the tables were rebuilt)"
PRUNED: Final = "its leaves and its decision record are pruned by the log's policy"
DAMAGED: Final = "the decision record is damaged: it is not the one the receipts name"
SENSELESS: Final = "the decision record holds what no decision can be made of"
NOT_KEPT: Final = "the fleet it was decided with was not kept"


class Simulated(msgspec.Struct, frozen=True, kw_only=True):
    """What a simulation found, and with what.

    ``checked`` counts records written again whole and compared, ``unequal`` names those whose bytes differ.
    ``damaged`` counts records and configurations that are not what their digest says. ``older`` are requests
    with records of the older format, ``repacked`` those decided by other packs than those installed now: a
    change may be due to that. ``book`` is the price book at hand, if a deployment names it.
    """

    found: Found
    checked: int
    unequal: tuple[str, ...]
    damaged: int
    older: int
    repacked: int
    book: str | None


class Simulation:
    """Replays decisions and adds up what changes.

    Args:
        scenario: what is simulated. database: where configurations are kept.

    Raises:
        Invalid: the packs or the fleet of the scenario do not fit together.

    """

    def __init__(self, scenario: Scenario, database: Database) -> None:
        self._scenario, self._database = scenario, database
        self._worlds: dict[str | None, World | str] = {}
        self._fleets: dict[str, Fleet | None] = {}
        self._laws: dict[str, LawThen] = {}
        self._older: dict[tuple[str, date], str | None] = {}
        self.tally = Tally()
        self._checked = self._damaged = self._older_requests = self._repacked = 0
        self._unequal: list[str] = []
        base = scenario.given if scenario.given is not None else scenario.today
        self._today = snapshot_of(scenario.today).digest
        self._fleets[self._today] = scenario.today
        self._main = World(scenario, base)  # what is wrong with the scenario itself is told at once

    def run(self, decisions: Iterable[Decided], told: Callable[[int], None] = lambda _: None) -> Simulated:
        """Replay decisions; ``told`` hears how many requests are done."""
        done = 0
        for one in decisions:
            self._replay(one)
            done += one.requests
            told(done)
        return Simulated(
            found=self.tally.found(),
            checked=self._checked,
            unequal=tuple(self._unequal),
            damaged=self._damaged,
            older=self._older_requests,
            repacked=self._repacked,
            book=None if self._main.book is None else self._main.book.digest,
        )

    def _replay(self, one: Decided) -> None:
        if one.body is None:
            self.tally.leave(PRUNED if one.pruned else LOST, one.requests, one.receipt)
            return
        if digest_of(one.body) != one.digest:
            self._damaged += 1
            self.tally.leave(DAMAGED, one.requests, one.receipt)
            return
        try:
            past = past_of(one.body)
            world = self._world(past)
            if isinstance(world, str):
                self.tally.leave(world, one.requests, one.receipt)
                return
            again, law = world.again(past, one.at_ms)
            identical = _identical(past, again, law)
            if identical and self._scenario.check and world.same and not world.restated:
                self._check(one, world, past, again, law)
            self.tally.add(past, again, one.requests, one.receipt, identical=identical)
        except AllodError as fault:
            self._damaged += isinstance(fault, Integrity) and fault.what != NOT_HELD
            self.tally.leave(fault.what, one.requests, one.receipt)
            return
        except (ArithmeticError, LookupError, TypeError, ValueError) as fault:
            self._damaged += 1
            self.tally.leave(f"{SENSELESS} ({type(fault).__name__})", one.requests, one.receipt)
            return
        self._older_requests += one.requests if past.configuration is None else 0
        self._repacked += one.requests if world.repacked(past) else 0

    def _check(self, one: Decided, world: World, past: Past, again: Again, law: Law) -> None:
        """Write a record that nothing should change again, whole, and compare its bytes."""
        assert one.body is not None
        self._checked += 1
        shadow = world.shadowed(past, again, law, one.at_ms)
        if write_again(read_record(one.body), again, law, shadow) != one.body:
            self._unequal.append(one.receipt)

    # --- worlds

    def _world(self, past: Past) -> World | str:
        digest = past.configuration or self._matching(past)
        known = self._worlds.get(digest)
        if known is None:
            known = self._worlds[digest] = self._make(digest)
        return known

    def _make(self, digest: str | None) -> World | str:
        fleet = None if digest is None else self._fleet(digest)
        if fleet is None and self._scenario.given is None:
            return NOT_KEPT
        try:
            return World(self._scenario, fleet)
        except AllodError as fault:
            return f"its world cannot be made again: {fault.what}"

    def _fleet(self, digest: str) -> Fleet | None:
        if digest not in self._fleets:
            body = self._database.configuration(digest)
            try:
                self._fleets[digest] = None if body is None else read_snapshot(body, digest)
            except Integrity:
                self._damaged += 1
                self._fleets[digest] = None
        return self._fleets[digest]

    def _matching(self, past: Past) -> str | None:
        """Find the configuration of a record of the older format, by the fleet digest of its day."""
        key = past.fleet, day_of(past)
        if key not in self._older:
            kept = (self._today, *(digest for digest, _ in self._database.configurations()))
            self._older[key] = next((d for d in dict.fromkeys(kept) if self._matches(d, *key)), None)
        return self._older[key]

    def _matches(self, digest: str, fleet_digest: str, day: date) -> bool:
        fleet = self._fleet(digest)
        if fleet is None:
            return False
        if digest not in self._laws:
            self._laws[digest] = LawThen(self._scenario.installed, fleet)
        digests = self._laws[digest].digests(day)
        return digests is not None and digests[1] == fleet_digest


def _identical(past: Past, again: Again, law: Law) -> bool:
    """Tell whether digests, law and choice are those of the record."""
    digests = law.eligibility.pack_digest == past.packs and law.eligibility.fleet_digest == past.fleet
    alike = again.choice.attempts == again.before.attempts and again.choice.down == again.before.down
    return digests and again.law_same and alike


def shadows(decisions: Iterable[Decided]) -> tuple[ShadowFound, int]:
    """Add up what records say of the packs in shadow; the second is how many records are damaged."""
    tally, damaged = ShadowTally(), 0
    for one in decisions:
        whole = one.body if one.body is None or digest_of(one.body) == one.digest else b""
        try:
            tally.add(whole, one.requests, one.receipt)
        except Integrity:
            damaged += 1
    return tally.found(), damaged
