"""Drills of a home from end to end: traffic, worlds, remedies, matrices, odds; every command asks here."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.errors import AllodError, Invalid
from allod.domain.money import rfc3339
from allod.drills import everything, scenarios
from allod.drills.assume import Assume
from allod.drills.concentration import Axis, concentration
from allod.drills.everything import Matrix, harm_day
from allod.drills.exit_test import ExitTest, LogCited, exit_test
from allod.drills.fate import Fate, fates
from allod.drills.fate import Setting as DrillSetting
from allod.drills.restore import Remedy, Restoration, Tried, kinds, remedy, restore
from allod.drills.run import Drill, summed
from allod.drills.worlds import World
from allod.gateway.drilling import TICKS, Ground, world_named, worlds_of
from allod.gateway.drilling_restore import Remaking, remedies_of
from allod.gateway.drilling_traffic import Gathered, generated, recorded
from allod.planner.estimate import Estimate
from allod.store.extract import Extract

if TYPE_CHECKING:
    from pathlib import Path

    from allod.drills.expected import Expected, Harm, Hedge
    from allod.drills.scenarios import Odds, Tick
    from allod.gateway.compose import Setting
    from allod.store.database import Database

MOST_TICK_BYTES: Final = 1 << 20
HOURS_OF_DAY: Final = 24.0
MONTHS: Final = 12


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """What is drilled on: recorded requests of a span (UTC ms, the end exclusive), or so many made up."""

    since_ms: int
    until_ms: int
    now_ms: int
    generate: int | None = None


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """One world's drill: figures, what became of each group, and how it is restored."""

    drill: Drill
    fates: tuple[Fate, ...]
    restoration: Restoration | None


class Office:
    """All drills of one home over one span; traffic is read once, for all worlds at the same time.

    Args:
        setting: the home. own: its drills.toml. database: its tables. origin: whose requests. first: the
            log's minimum index. told: hears how many requests were read.

    """

    def __init__(
        self,
        ground: Ground,
        span: Span,
        worlds: Sequence[World],
        database: Database | None,
        *,
        origin: str = "",
        first: int = 0,
        told: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.ground, self.span = ground, span
        if span.generate is not None:
            self.gathered: Gathered = generated(ground, worlds, span.generate, span.now_ms)
        else:
            assert database is not None
            self.gathered = recorded(
                ground, database, origin, worlds, since_ms=span.since_ms, until_ms=span.until_ms, first=first,
                told=told,
            )  # fmt: skip
        self.setting: DrillSetting = ground.drill_setting()

    @property
    def assume(self) -> Assume:
        """What is assumed."""
        return self.ground.assume

    def run(self, world: World, *, remedies: bool = True) -> Ran:
        """Run one world, and look for what restores it."""
        traffic, at = self.gathered.of(world), self.ground.effect(world)
        decided = fates(traffic, at, self.ground.against(world))
        drill = summed(traffic, self.setting, at, decided)
        found = None
        if remedies:
            offered = remedies_of(self.ground, world, decided)
            found = self.restored(world, decided, offered)
        return Ran(drill=drill, fates=tuple(decided), restoration=found)

    def restored(self, world: World, decided: Sequence[Fate], offered: Sequence[Remedy]) -> Restoration:
        """Try remedies on what a world leaves uncovered."""
        remaking = Remaking(self.ground, world, self.gathered.records)
        return restore(decided, offered, remaking.again, critical=self.setting.critical, day=self.ground.day)

    def harm(self, drill: Drill) -> Estimate:
        """Return what a drill's world costs a day."""
        return harm_day(drill, self.gathered.of(drill.world), self.assume, self.setting)

    # --- everything

    def everything(self, told: Callable[[int, int], None] = lambda _done, _of: None) -> Matrix:
        """Run every single loss of the fleet, and every pair of the worst ten."""

        def run(world: World) -> tuple[Drill, Estimate]:
            drill = self.run(world, remedies=False).drill
            return drill, self.harm(drill)

        return everything.matrix(self.singles(), run, told)

    def singles(self) -> list[World]:
        """Return every single loss there is for this fleet, those of law too."""
        profiles = self.ground.profiles(self.ground.today).values()
        return everything.singles(profiles, _losses_of_law(self.ground.setting, self.ground.day))

    def concentration(self) -> tuple[Axis, ...]:
        """Return on whom the work rests."""
        return concentration(self.gathered.plain, self.setting)

    # --- odds

    def harms(
        self,
        made: Odds,
        hedges: Sequence[Remedy],
        told: Callable[[int, int], None] = lambda _done, _of: None,
    ) -> dict[str, Harm]:
        """Run the drills of every world that odds name, and each hedge in each of them."""
        from allod.drills.expected import Harm  # noqa: PLC0415 (numpy)

        known = worlds_of(self.ground.setting.home)
        names = worlds_named(made)
        out: dict[str, Harm] = {}
        for n, name in enumerate(names):
            ran = self.run(named_as(name, known))
            usd, after = self.harm(ran.drill), self.harm(ran.drill)
            best = None if ran.restoration is None else ran.restoration.fastest
            days = None
            if best is not None:
                left = 1.0 - self._relief(best, ran, usd)
                after = _times(usd, left)
                days = _times(best.hours, 1 / HOURS_OF_DAY)
            out[name] = Harm(
                world=name,
                usd_day=usd,
                after_day=after,
                restore_days=days,
                remedy_usd=None if best is None else best.cost_usd,
                remedy_month_usd=None if best is None else best.month_usd,
                restored=self._hedged(ran, hedges, usd),
            )
            told(n + 1, len(names))
        return out

    def _hedged(self, ran: Ran, hedges: Sequence[Remedy], usd: Estimate) -> dict[str, float]:
        if not ran.drill.uncovered or not hedges:
            return {}
        found = self.restored(ran.drill.world, ran.fates, hedges)
        relief = {one.remedies[0]: self._relief(one, ran, usd) for one in found.tried}
        return {name: value for name, value in relief.items() if value > 0}

    def _relief(self, tried: Tried, ran: Ran, usd: Estimate) -> float:
        """Return what share of the harm a day goes when a remedy works."""
        if usd.value <= 0:
            return 0.0
        days = max(self.gathered.plain.days, 1)
        drill = ran.drill
        critical = drill.critical_uncovered * (tried.critical_share or 0.0)
        total = drill.uncovered * tried.share
        other = max(0.0, total - critical)
        worth = critical * self.assume.critical_usd.middle + other * self.assume.uncovered_usd.middle
        return min(1.0, worth / days / usd.value)

    def expected(
        self,
        made: Odds,
        ticks: Sequence[Tick],
        *,
        draws: int,
        seed: int,
        told: Callable[[int, int], None] = lambda _done, _of: None,
    ) -> tuple[Expected, dict[str, Harm]]:
        """Simulate years of disruption and rank the organisation's hedges.

        Raises:
            Invalid: nothing was served in the span.

        """
        from allod.drills.expected import Year, events, expect  # noqa: PLC0415 (numpy)

        if not any(one.first is not None for one in self.gathered.plain.groups):
            raise Invalid(
                "nothing was served in this span, so nobody can say what its loss costs",
                f"{self.gathered.plain.requests} requests were read",
                "name a longer --since, or let requests be made up: --generate 10000",
            )
        hedges = self.hedges()
        harms = self.harms(made, hedges, told)
        seen = scenarios.ticked(made, ticks)
        year = Year(events(made, seen), harms, draws=draws, seed=seed)
        return expect(year, [_hedge(one) for one in hedges], self.ground.day), harms

    def hedges(self) -> list[Remedy]:
        """Return the remedies that count as hedges: those written down, and approvals that are due.

        Raises:
            Invalid: ``hedge`` names a remedy that is not there.

        """
        own, terms = self.ground.own, kinds(self.ground.own.remedy_kind)
        out = {one.id: remedy(one, terms) for one in own.remedy if one.kind != "relax"}
        for name, one in self.ground.setting.fleet.deployments.items():
            if not one.approved:
                made = Remedy(
                    id=f"approve-{name}", kind="approve", title=f"Approve {name}", terms=terms["approve"],
                    approve=(name,),
                )  # fmt: skip
                out.setdefault(made.id, made)
        for name in own.hedge:
            if name not in out:
                raise Invalid(f"hedge names {name!r}, which is no remedy", "known: " + ", ".join(out), "")
        return [one for name, one in out.items() if not own.hedge or name in own.hedge]

    # --- exit test

    def exit_test(self, ran: Ran) -> ExitTest:
        """Put a drill together as the record of an exit test, with the log it rests on."""
        ground, traffic = self.ground, self.gathered.of(ran.drill.world)
        setting, span = ground.setting, self.span
        log, why = (None, "the requests are generated: none of them stands in a log")
        if not traffic.generated:
            log, why = log_cited(setting)
        packs = setting.packs.some(setting.fleet.tenant.packs)
        return exit_test(
            ran.drill,
            ran.restoration,
            traffic,
            setting.fleet,
            setting.config.register,
            made_at=rfc3339(span.now_ms),
            period=("generated", "generated")
            if traffic.generated
            else (rfc3339(span.since_ms), rfc3339(min(span.until_ms, span.now_ms))),
            packs=[f"{pack.id} {pack.version} {pack.digest}" for pack in packs],
            configurations=sorted({g.configuration for g in traffic.groups if g.configuration is not None}),
            log=log,
            log_why=why,
            assumptions=assumptions_told(self.assume),
        )


def assumptions_told(assume: Assume) -> dict[str, str]:
    """Return every assumption in words."""
    out = {}
    for name in Assume.__struct_fields__:
        one = getattr(assume, name)
        out[name] = f"{one.low} to {one.high} ({one.as_of}; {one.source})"
    return out


def log_cited(setting: Setting) -> tuple[LogCited | None, str]:
    """Return the log's last published checkpoint, or why there is none."""
    try:
        extract = Extract(setting.home)
    except AllodError as fault:
        return None, fault.what
    try:
        return LogCited(
            origin=extract.origin,
            size=extract.size,
            root=extract.root.hex(),
            checkpoint=extract.checkpoint.decode(),
            vkey=extract.vkey,
        ), "signature checked; the leaves under it were not hashed again: `allod log verify` does"
    finally:
        extract.close()


def _losses_of_law(setting: Setting, day: date) -> list[str]:
    """Return losses of legal bases that a fleet may rest on: places in lists, and agreements it holds."""
    from allod.policy.lists import codes_on, join  # noqa: PLC0415 (only here)

    fleet = setting.fleet
    packs = setting.packs.some(fleet.tenant.packs)
    lists = join(one for pack in packs for one in pack.lists)
    read = {name for pack in packs for rule in pack.rules for name in rule.lists}
    places: set[str] = set()
    for one in fleet.deployments.values():
        operator = fleet.operator_of(one)
        for fact in (one.processing, operator.seat):
            places |= set() if fact is None else {fact.value}
        for many in (one.at_rest, one.transit):
            places |= set() if many is None else set(many.value)
    out = []
    for name, one_list in sorted(lists.items()):
        if name not in read and not any(name in other.includes for other in lists.values()):
            continue
        direct = codes_on(name, {name: msgspec.structs.replace(one_list, includes=())}, day)
        if fleet.tenant.home in direct:
            continue
        out += [f"list={name}/{place}" for place in sorted(places & direct)]
    held = {
        name
        for group in (fleet.operators, fleet.deployments)
        for each in group.values()
        for name in each.agreements
    }
    return out + [f"agreement={name}" for name in sorted(held)]


def worlds_named(made: Odds) -> list[str]:
    """Return the world of everything that may come, each once."""
    groups: tuple[Any, ...] = (made.scenario, made.risk, made.flashpoint)
    every = (scenarios.together(one.worlds) for group in groups for one in group.values())
    return list(dict.fromkeys(every))


def named_as(name: str, known: dict[str, World]) -> World:
    """Return the world of this name with the name as its id, whatever a file calls it.

    Raises:
        Invalid, Unavailable: there is none, or it cannot be read.

    """
    world = world_named(name, known)
    return world if world.id == name else msgspec.structs.replace(world, id=name)


def _times(one: Estimate, by: float) -> Estimate:
    return msgspec.structs.replace(one, value=one.value * by, low=one.low * by, high=one.high * by)


def _hedge(one: Remedy) -> Hedge:
    from allod.drills.expected import Hedge  # noqa: PLC0415 (numpy)

    cost, month = one.terms.cost_usd.estimate(), one.terms.month_usd.estimate()
    year = Estimate(
        value=cost.value + MONTHS * month.value,
        low=cost.low + MONTHS * month.low,
        high=cost.high + MONTHS * month.high,
        source=f"{cost.source}; {month.source}",
        as_of=max(cost.as_of, month.as_of),
        note="assumption" if one.assumed else "the organisation's own",
    )
    return Hedge(id=one.id, title=one.title, year_usd=year)


# --- signs


def ticks_of(setting: Setting, made: Odds) -> tuple[Tick, ...]:
    """Return the signs this home has ticked.

    Raises:
        Invalid: the file cannot be read, or names a sign that is none.

    """
    path = setting.home.root / TICKS
    if not path.exists():
        return ()
    with path.open("rb") as file:
        return scenarios.read_ticks(file.read(MOST_TICK_BYTES + 1), made).tick


def tick(setting: Setting, made: Odds, sign: str, *, day: date, note: str, off: bool) -> tuple[Tick, ...]:
    """Tick a sign, or take its tick away; returns what is ticked then. The file is replaced whole.

    Others who tick at the same time wait.

    Raises:
        Invalid: it is no sign. Unavailable: the folder cannot be written.

    """
    import fcntl  # noqa: PLC0415 (only here)

    from allod.store.home import unwritable  # noqa: PLC0415

    scenarios.check_sign(sign, made)
    path = setting.home.root / TICKS
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as fault:
        raise unwritable(path.parent, fault) from fault
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        return _ticked(
            setting, made, path, sign, None if off else scenarios.Tick(sign=sign, day=day, note=note)
        )
    except OSError as fault:
        raise unwritable(path, fault) from fault
    finally:
        os.close(fd)


def _ticked(setting: Setting, made: Odds, path: Path, sign: str, one: Tick | None) -> tuple[Tick, ...]:
    from allod.gateway.tomlfile import table  # noqa: PLC0415 (only here)
    from allod.store.home import write_file  # noqa: PLC0415

    kept = tuple(one for one in ticks_of(setting, made) if one.sign != sign)
    if one is not None:
        kept = (*kept, one)
    head = "# Signs that were seen: `allod drill tick SIGN` writes this file.\n"
    rows = [table("[[tick]]", {"sign": o.sign, "day": o.day, "note": o.note or None}) for o in kept]
    write_file(path, (head + "\n".join(rows)).encode())
    return kept


def odds_of(ground: Ground) -> Odds:
    """Return the odds of this home: the shipped ones with its own in their place; their worlds exist.

    Raises:
        Invalid: see ``scenarios.odds``; a world that is named is not there.

    """
    own = ground.own
    made = scenarios.odds(own.scenario, own.risk, own.flashpoint)
    known = worlds_of(ground.setting.home)
    for name in worlds_named(made):
        named_as(name, known)
    return made


def today(now_ms: int) -> date:
    """Return the UTC day of a time."""
    return datetime.fromtimestamp(now_ms // 1000, UTC).date()
