"""What reports read: one configuration, one register, one state of the log."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Final, TypeVar

import msgspec

from allod.domain.fleet import Deployment, Fleet, Operator
from allod.domain.money import ZERO, rfc3339
from allod.domain.register import Declared, Register
from allod.evidence.paper import LogState
from allod.store.extract import Entry

K = TypeVar("K", bound=Hashable)
MOST_ROWS: Final = 20_000
"""So many different rows a count may have; callers choose purposes, and memory is finite."""
OTHERS: Final = "(others)"
NOT_STATED: Final = "(not stated)"
UNKNOWN: Final = "unknown"


class World(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a report is a function of.

    Attributes:
        fleet: the configuration as it is now; fleet_digest: of the facts in it.
        register: what the configuration says beside it.
        day: the UTC day facts are judged on; made_at_ms: the one clock reading.
        since_ms, until_ms: the period, in UTC milliseconds, the end exclusive.
        log: the state of the log.
        entries: goes through the requests of the period, as often as asked.
        in_flight: how many of them had not ended, after a whole pass.
        lost: which of them are pruned from the log, in words; empty if none is.
        apps: names of apps by their pseudonym in the log.
        packs: the packs in force, one line each.
        adequate: places that an adequacy decision covers today (a list of a pack), or None: no pack says.
        statutes: citations by the name of a statute.
        app, task: what to limit it to, by name.

    """

    fleet: Fleet
    fleet_digest: str
    register: Register
    day: date
    made_at_ms: int
    since_ms: int
    until_ms: int
    log: LogState
    entries: Callable[[], Iterator[Entry]]
    in_flight: Callable[[], int] = lambda: 0
    lost: str = ""
    apps: Mapping[str, str] = {}
    packs: tuple[str, ...] = ()
    adequate: frozenset[str] | None = None
    statutes: Mapping[str, str] = {}
    app: str | None = None
    task: str | None = None

    def chosen(self) -> Iterator[Entry]:
        """Go through the requests the report is limited to."""
        for entry in self.entries():
            if self.app is not None and self.app_of(entry) != self.app:
                continue
            if self.task is not None and entry.end.task != self.task:
                continue
            yield entry

    def every(self) -> Iterator[Entry]:
        """Go through them and the steps of those that were answered in steps, each with a receipt."""
        for entry in self.chosen():
            yield from entry.all

    def parts(self) -> Iterator[Entry]:
        """Go through what may have left: requests, and of those in steps the steps that were sent."""
        for entry in self.chosen():
            yield from entry.parts

    def app_of(self, entry: Entry) -> str:
        """Return the app's name; its pseudonym where the configuration does not have it any more."""
        return self.apps.get(entry.end.app, entry.end.app)

    def operator_of(self, deployment: str) -> Operator | None:
        """Return the operator of a deployment by its id in a leaf, or None: not in the configuration now."""
        known = self.fleet.deployments.get(deployment)
        return None if known is None else self.fleet.operators.get(known.operator)

    def foreign(self, deployment: str) -> bool:
        """Tell whether what was sent there left the organisation; who is not known counts as outside."""
        operator = self.operator_of(deployment)
        return operator is None or not operator.own

    @property
    def deployments(self) -> tuple[Deployment, ...]:
        """The deployments of the configuration."""
        return tuple(self.fleet.deployments.values())

    @property
    def declared(self) -> tuple[Declared, ...]:
        """AI that does not pass here."""
        return tuple(self.register.declared.values())

    @property
    def scope(self) -> str:
        """What it is limited to, in words."""
        parts = [f"app {self.app}"] if self.app else []
        parts += [f"task {self.task}"] if self.task else []
        return ", ".join(parts) or "everything that passed through this log"


class Count(msgspec.Struct):
    """How many requests, what they cost in USD, and the first and the last of them: receipt and time."""

    requests: int = 0
    cost_usd: Decimal = ZERO
    first: tuple[int, str] = (0, "")
    last: tuple[int, str] = (0, "")

    def add(self, entry: Entry, cost_usd: Decimal | None = None) -> None:
        """Count one more, at what it cost with all its steps unless another cost is given."""
        here = entry.received_at_ms, entry.end.id
        self.first = min(self.first, here) if self.requests else here
        self.last = max(self.last, here)
        self.requests += 1
        self.cost_usd += entry.cost if cost_usd is None else cost_usd

    def cells(self) -> tuple[str, str, str, str, str]:
        """Write it as requests, first receipt and time, last receipt and time."""
        if not self.requests:
            return "0", "", "", "", ""
        first, last = self.first, self.last
        return str(self.requests), first[1], rfc3339(first[0]), last[1], rfc3339(last[0])


COUNT_COLUMNS: Final = """
requests            Requests
first_receipt       First receipt
first_time          at
last_receipt        Last receipt
last_time           at
"""


def tally(
    entries: Iterable[Entry],
    keys: Callable[[Entry], Iterable[K]],
    others: K,
    most: int = MOST_ROWS,
    cost: Callable[[Entry, K], Decimal | None] = lambda _entry, _key: None,
) -> dict[K, Count]:
    """Count entries by what they are about; beyond ``most`` different keys the rest counts as ``others``.

    ``keys`` and ``cost`` are asked of each part of an entry. A request in steps counts once for each key that
    any of them has, at what those steps cost.
    """
    out: dict[K, Count] = {}
    for entry in entries:
        paid: dict[K, Decimal] = {}
        for part in entry.parts:
            for key in keys(part):
                name = key if key in out or len(out) < most else others
                one = cost(part, key)
                paid[name] = paid.get(name, ZERO) + (part.end.cost if one is None else one)
                out.setdefault(name, Count())
        for name, usd in paid.items():
            out[name].add(entry, usd)
    return out


class Survey(msgspec.Struct, kw_only=True):
    """What one pass over the period shows of it as a whole."""

    total: Count = msgspec.field(default_factory=Count)
    by_status: dict[str, int] = {}
    fleets: dict[str, int] = {}
    unknown_deployments: set[str] = msgspec.field(default_factory=set)
    unknown_apps: set[str] = msgspec.field(default_factory=set)
    simulated: int = 0
    in_flight: int = 0
    steps: int = 0


def survey(world: World) -> Survey:
    """Go through the period once (raises what the log raises)."""
    found = Survey(by_status={}, fleets={})
    for entry in world.chosen():
        end = entry.end
        if end.step is not None:  # its request is of another period, or was lost
            found.total.cost_usd += entry.cost
            found.steps += 1
            continue
        found.total.add(entry)
        found.steps += len(entry.steps)
        found.by_status[end.status] = found.by_status.get(end.status, 0) + 1
        if end.fleet in found.fleets or len(found.fleets) < MOST_ROWS:
            found.fleets[end.fleet] = found.fleets.get(end.fleet, 0) + 1
        found.simulated += end.evidence == "simulated"
        for name in (name for part in entry.parts for name in part.end.saw):
            if name not in world.fleet.deployments and len(found.unknown_deployments) < MOST_ROWS:
                found.unknown_deployments.add(name)
        if end.app not in world.apps:
            found.unknown_apps.add(end.app)
    found.in_flight = world.in_flight()
    return found


def day_of(at_ms: int) -> date:
    """Return the UTC day of a time."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).date()
