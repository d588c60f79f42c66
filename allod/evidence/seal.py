"""Sovereignty per deployment: the vector, its weighted score, what is missing to the minimum, and why.

EU Cloud Sovereignty Framework 1.2.1: objectives SOV-1 to SOV-8 at levels 0 to 4 (SEAL), weighted 15, 10, 10,
15, 20, 15, 10 and 5 percent unless a pack brings other weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from allod.domain.facts import Fact
from allod.domain.money import plain
from allod.evidence.base import facts_sheet, report
from allod.evidence.paper import Finding, Gap, Report, Row, Sheet, columns, fixed, listed, ref
from allod.evidence.world import COUNT_COLUMNS, OTHERS, UNKNOWN, Count, World, survey, tally
from allod.store.extract import Entry

OBJECTIVES: Final = tuple(f"SOV-{n}" for n in range(1, 9))
_HUNDRED: Final = Decimal(100)
SEAL_COLUMNS: Final = columns(
    """
    row             Row
    from            Known from
    deployment      Deployment or system
    operator        Operator
    sov1            SOV-1
    sov2            SOV-2
    sov3            SOV-3
    sov4            SOV-4
    sov5            SOV-5
    sov6            SOV-6
    sov7            SOV-7
    sov8            SOV-8
    score           Weighted score of 4
    gaps            Missing to the minimum
    grade           Grade
    age_days        Age in days
    source          Source
    """
    + COUNT_COLUMNS
)


def score(levels: tuple[int, ...], weights: tuple[int, ...]) -> Decimal:
    """Return the weighted score in [0, 4], exactly; weights are percentages that sum to 100."""
    return Decimal(sum(level * weight for level, weight in zip(levels, weights, strict=True))) / _HUNDRED


def dossier(world: World) -> Report:
    """Return the vector of every deployment and declared system."""
    found = survey(world)
    counts = tally(world.chosen(), lambda e: e.end.saw, OTHERS)

    def trace(entry: Entry) -> Iterator[tuple[str, str]]:
        return (("seal-dossier", ref("deployment", name)) for name in _counted(entry, counts))

    rows = [
        _row(world, d.id, "configuration and log", d.operator, d.seal, counts.get(d.id, Count()))
        for d in world.deployments
    ]
    rows += [
        _row(world, name, "log, not configured any more", UNKNOWN, None, count)
        for name, count in sorted(counts.items())
        if name not in world.fleet.deployments
    ]
    rows += [
        _row(
            world, one.id, "declared, not in the log", one.operator or one.supplier or UNKNOWN, one.seal, None
        )
        for one in world.declared
    ]
    pairs = zip(OBJECTIVES, world.fleet.sovereignty_weights, strict=True)
    weights = ", ".join(f"{objective} {weight} %" for objective, weight in pairs)
    least = world.fleet.tenant.min_seal
    sheets = (
        Sheet(
            id="seal-dossier",
            title="Sovereignty per deployment",
            columns=SEAL_COLUMNS,
            rows=fixed(rows),
            note=f"Levels 0 to 4. Weights: {weights}. "
            + (f"Minimum: {', '.join(map(str, least))}." if least else "No minimum is set."),
        ),
        facts_sheet(world),
    )
    return report(
        world,
        found,
        kind="seal-dossier",
        title="Sovereignty dossier",
        law=("EU Cloud Sovereignty Framework 1.2.1",),
        sheets=sheets,
        gaps=_gaps(world),
        findings=_findings(world),
        cannot_know=(
            (
                "Whether a level is deserved: levels are entered, by the organisation or from an assessor's "
                "paper. The grade says which."
            ),
        ),
        trace=trace,
    )


def _counted(entry: Entry, counts: dict[str, Count]) -> Iterator[str]:
    return (name if name in counts else OTHERS for name in entry.end.saw)


def _row(
    world: World,
    name: str,
    known: str,
    operator: str,
    seal: Fact[tuple[int, ...]] | None,
    count: Count | None,
) -> Row:
    head = (ref("deployment" if count is not None else "declared", name), known, name, operator)
    tail = count.cells() if count is not None else ("",) * 5
    if seal is None or not seal.holds_on(world.day):
        why = UNKNOWN if seal is None else f"expired {seal.expires}"
        return (*head, *([why] * 8), "", "not known", "", "", "", *tail)
    age = "" if seal.as_of is None else str((world.day - seal.as_of).days)
    return (
        *head, *map(str, seal.value), plain(score(seal.value, world.fleet.sovereignty_weights)),
        listed(_missing(world, seal.value)), seal.grade, age, seal.source or "", *tail,
    )  # fmt: skip


def _missing(world: World, levels: tuple[int, ...]) -> Iterator[str]:
    least = world.fleet.tenant.min_seal
    for objective, level, wanted in zip(OBJECTIVES, levels, least or levels, strict=True):
        if level < wanted:
            yield f"{objective} {level} of {wanted}"
    demanded = world.fleet.tenant.min_seal_score
    got = score(levels, world.fleet.sovereignty_weights)
    if demanded is not None and got < demanded:
        yield f"score {plain(got)} of {plain(demanded)}"


def _gaps(world: World) -> Iterator[Gap]:
    for d in world.deployments:
        if d.seal is None or not d.seal.holds_on(world.day):
            yield Gap(where=f"deployment {d.id}", what="no vector that holds today", law="CSF SOV-1 to SOV-8")
        elif d.seal.as_of is None or d.seal.source is None:
            yield Gap(where=f"deployment {d.id}", what="a vector without date or source", law="CSF")
    for one in world.declared:
        if one.seal is None:
            yield Gap(where=f"declared {one.id}", what="no vector", law="CSF SOV-1 to SOV-8")


def _findings(world: World) -> Iterator[Finding]:
    for d in world.deployments:
        if d.seal is not None and d.seal.holds_on(world.day):
            missing = listed(_missing(world, d.seal.value))
            if missing:
                yield Finding(rule="minimum", where=f"deployment {d.id}", detail=f"below it: {missing}")
