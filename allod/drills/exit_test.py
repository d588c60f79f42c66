"""A drill as the record of an exit test: what was tested, on what, with what result, and how to check it.

Regulation (EU) 2022/2554 (DORA): Article 28(8) wants exit plans that are documented and tested, with
alternatives and a transition (in detail Delegated Regulation (EU) 2024/1773, Article 10); Article 11(4) and
(6) want plans of continuity to be tested, at least yearly, which Delegated Regulation (EU) 2024/1774, Article
25 details: scenarios of failing providers and of political risks where they sit, results documented; Article
24(1) and 25(1) want a programme of tests, scenario-based ones among them. A drill re-decides recorded
requests: it shows who could serve, not that data and people moved. The record says so.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

import msgspec

from allod.drills.restore import Restoration, Tried
from allod.drills.run import Drill
from allod.drills.words import hours, share

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from allod.domain.fleet import Fleet
    from allod.domain.register import Register
    from allod.drills.traffic import Traffic

FORMAT: Final = "allod-exit-test-1"
LAW: Final = (
    (
        "Regulation (EU) 2022/2554 (DORA) Art 28(8), with Delegated Regulation (EU) 2024/1773 Art 10: exit "
        "plans, documented, tested and reviewed"
    ),
    (
        "DORA Art 11(4), 11(6), with Delegated Regulation (EU) 2024/1774 Art 25(2), 25(5): continuity plans "
        "tested at least yearly, failing providers among the scenarios, results documented"
    ),
    "DORA Art 24(1), 25(1): scenario-based tests in the programme of tests",
)
LIMITS: Final = (
    "Requests were decided again and not sent: how an alternative answers under load was not tried.",
    "The transfer and deletion of data, staff and contracts are outside of what a gateway sees.",
    "Times and costs of remedies are the organisation's own or assumptions, as marked; none was measured.",
    "Uncovered means that no configured deployment may and can serve; by hand may still be possible.",
    (
        "It is no threat-led penetration test (DORA Art 26, 27). Who ran it and their independence (Art "
        "24(4)), and the report to the management body (Delegated Regulation (EU) 2024/1774 Art 25(5)), are "
        "yours to add."
    ),
)


class LogCited(msgspec.Struct, frozen=True, kw_only=True):
    """The log the requests stand in, by its last published checkpoint (a signed note)."""

    origin: str
    size: int
    root: str
    checkpoint: str
    vkey: str


class FunctionResult(msgspec.Struct, frozen=True, kw_only=True):
    """One business function: what was uncovered, and whether it is back within its recovery time.

    ``restore_hours_low``, ``restore_hours_high`` are of ``remedies``: of those tried that restore all of this
    function's requests without waiving a rule, the fastest; None where none does, or some were not looked at.
    ``within_rto`` compares the upper end with ``rto_hours``: True, False (also where nothing restores all of
    it), or None where the recovery time is not known or no remedy was tried.
    """

    function: str
    name: str
    critical: bool
    apps: tuple[str, ...]
    served: int
    uncovered: int
    rto_hours: int | None
    restore_hours_low: float | None
    restore_hours_high: float | None
    remedies: tuple[str, ...]
    within_rto: bool | None


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """A third party that was taken away, with its contracts as the register of information has them."""

    operator: str
    name: str | None
    code: str | None
    code_type: str | None
    contracts: tuple[str, ...]
    deployments: tuple[str, ...]
    substitutability: tuple[str, ...]


class ExitTest(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a test; every digest in it can be computed again from the home."""

    format: str
    law: tuple[str, ...]
    made_at: str
    entity: str | None
    lei: str | None
    scenario: dict[str, str]
    providers: tuple[Provider, ...]
    period: tuple[str, str]
    generated: bool
    requests: int
    decisions: int
    replayed: int
    left_out: tuple[tuple[str, int], ...]
    records_digest: str
    packs: tuple[str, ...]
    configurations: tuple[str, ...]
    log: LogCited | None
    log_why: str
    functions: tuple[FunctionResult, ...]
    uncovered: int
    served: int
    drill: Drill
    alternatives: Restoration | None
    conclusion: str
    limits: tuple[str, ...]
    assumptions: dict[str, str]


def functions_of(
    drill: Drill, fleet: Fleet, register: Register, restoration: Restoration | None
) -> tuple[FunctionResult, ...]:
    """Return what became of every business function the configuration names, critical ones first."""
    apps: dict[str, list[str]] = {}
    for app in fleet.apps.values():
        apps.setdefault(app.function or "", []).append(app.id)
    out = []
    for name, of in apps.items():
        declared = register.functions.get(name)
        lines = [line for line in drill.lines if line.app in of]
        uncovered = sum(line.uncovered for line in lines)
        back = _back(uncovered, of, restoration)
        rto = None if declared is None else declared.rto_hours
        critical = any(fleet.apps[app].critical for app in of) or bool(
            declared is not None and declared.critical
        )
        out.append(
            FunctionResult(
                function=name or "(none)",
                name="" if declared is None else declared.name or "",
                critical=critical,
                apps=tuple(of),
                served=sum(line.served for line in lines),
                uncovered=uncovered,
                rto_hours=rto,
                restore_hours_low=back.hours.low if back is not None else None if uncovered else 0.0,
                restore_hours_high=back.hours.high if back is not None else None if uncovered else 0.0,
                remedies=() if back is None else back.titles,
                within_rto=_within(uncovered, back, rto, restoration),
            )
        )
    return tuple(sorted(out, key=lambda one: (not one.critical, -one.uncovered, one.function)))


def _back(uncovered: int, apps: Iterable[str], restoration: Restoration | None) -> Tried | None:
    """Return the fastest of what was tried that restores all of these apps' requests and waives nothing."""
    if not uncovered or restoration is None:
        return None
    names = set(apps)
    every = (*restoration.tried, restoration.cheapest, restoration.fastest)
    found = [
        one
        for one in every
        if one is not None and not one.waives and sum(n for app, n in one.apps if app in names) >= uncovered
    ]
    return min(found, key=lambda one: (one.hours.high, one.hours.low, one.remedies), default=None)


def _within(
    uncovered: int, back: Tried | None, rto: int | None, restoration: Restoration | None
) -> bool | None:
    if not uncovered:
        return True
    if rto is None or restoration is None:
        return None
    return back is not None and back.hours.high <= rto


def providers_of(drill: Drill, fleet: Fleet, register: Register) -> tuple[Provider, ...]:
    """Return the operators whose deployments were taken away, as the register names them."""
    gone: dict[str, list[str]] = {}
    for name in drill.gone:
        one = fleet.deployments.get(name)
        if one is not None:
            gone.setdefault(one.operator, []).append(name)
    out = []
    for operator, deployments in gone.items():
        known = register.providers.get(operator)
        contracts = [one for one in register.contracts.values() if one.provider == operator]
        exits = [one.exit.substitutability for one in contracts]
        out.append(
            Provider(
                operator=operator,
                name=None if known is None else known.name,
                code=None if known is None else known.code,
                code_type=None if known is None else known.code_type,
                contracts=tuple(one.reference for one in contracts),
                deployments=tuple(deployments),
                substitutability=tuple(one for one in exits if one),
            )
        )
    return tuple(out)


def conclusion(drill: Drill, functions: Iterable[FunctionResult], restoration: Restoration | None) -> str:
    """Say in a sentence or two how it went."""
    if drill.nothing:
        return "The world takes nothing away from this fleet: nothing was tested."
    if not drill.served:
        return "Nothing was served in this period: nothing was tested."
    if not drill.uncovered:
        return f"All {drill.served:,} requests that were served are still served in this world."
    bad = [one for one in functions if one.critical and one.uncovered]
    told = f"{drill.uncovered:,} of {drill.served:,} served requests are served by nobody in this world"
    told += f", critical functions among them: {', '.join(one.function for one in bad)}." if bad else "."
    if restoration is None:
        return told + " No remedy was tried."
    if restoration.today:
        told += f" {restoration.today:,} of them are served by today's configuration already."
    if restoration.fastest is None:
        return told + " No remedy that was tried brings more of it back without waiving a rule."
    fastest = restoration.fastest
    late = [one.function for one in bad if one.within_rto is False]
    told += f" The fastest way back: {' with '.join(fastest.titles)}: {share(fastest.share)} of it in "
    told += f"{hours(fastest.hours)}."
    if restoration.looked_at < restoration.uncovered:
        told += f" ({restoration.looked_at:,} of them were decided again.)"
    return told + (f" Not within the recovery time: {', '.join(late)}." if late else "")


def left_out(traffic: Traffic) -> str:
    """Say how many requests are in no figure, or nothing."""
    lost = sum(one.requests for one in traffic.left)
    return f" {lost:,} requests could not be decided again and are in no figure." if lost else ""


def exit_test(
    drill: Drill,
    restoration: Restoration | None,
    traffic: Traffic,
    fleet: Fleet,
    register: Register,
    *,
    made_at: str,
    period: tuple[str, str],
    packs: Iterable[str],
    configurations: Iterable[str],
    log: LogCited | None,
    log_why: str,
    assumptions: Mapping[str, str],
) -> ExitTest:
    """Put the record of a test together."""
    functions = functions_of(drill, fleet, register, restoration)
    world = drill.world
    return ExitTest(
        format=FORMAT,
        law=LAW,
        made_at=made_at,
        entity=register.entity.name or fleet.tenant.id,
        lei=register.entity.lei,
        scenario={"id": world.id, "title": world.title, "text": world.text, "source": world.source},
        providers=providers_of(drill, fleet, register),
        period=period,
        generated=traffic.generated,
        requests=traffic.requests,
        decisions=traffic.decisions,
        replayed=drill.replayed,
        left_out=tuple((one.reason, one.requests) for one in traffic.left),
        records_digest=traffic.records,
        packs=tuple(packs),
        configurations=tuple(configurations),
        log=log,
        log_why=log_why,
        functions=functions,
        uncovered=drill.uncovered,
        served=drill.served,
        drill=drill,
        alternatives=restoration,
        conclusion=conclusion(drill, functions, restoration) + left_out(traffic),
        limits=LIMITS,
        assumptions=dict(assumptions),
    )


def day_of(made: ExitTest) -> dt.date:
    """Return the UTC day a test was made on."""
    return dt.date.fromisoformat(made.made_at[:10])
