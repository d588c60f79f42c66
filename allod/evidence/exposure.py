"""Exposure: which operators can be compelled, by which statute, for which data, and how much of it they saw.

A dimension of its own beside residency: data that never left a country can be demanded through whoever
controls the operator (18 U.S.C. 2713; Regulation (EU) 2016/679 Art 48).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from allod.domain.facts import Fact
from allod.evidence.base import facts_sheet, report
from allod.evidence.facts import cell, valid
from allod.evidence.paper import Gap, Report, Row, Sheet, columns, fixed, listed, ref
from allod.evidence.world import COUNT_COLUMNS, OTHERS, UNKNOWN, Count, World, survey, tally
from allod.store.extract import Entry

NONE: Final = "none (known not to be compellable)"
EXPOSURE_COLUMNS: Final = columns(
    """
    row             Row
    from            Known from
    operator        Operator
    statute         Statute
    citation        Citation
    classes         Class of data it saw
    seat            Seat
    controlled_from Controlled from
    grade           Grade of the evidence
    source          Source
    deployments     Deployments
    """
    + COUNT_COLUMNS
)
Key = tuple[str, str]


def exposure(world: World) -> Report:
    """Return a row per operator, statute and class of data; unknown and not compellable are rows too."""
    found = survey(world)
    others: Key = (OTHERS, OTHERS)

    def keys(entry: Entry) -> Iterator[Key]:
        saw = {d.operator if (d := world.fleet.deployments.get(name)) else UNKNOWN for name in entry.end.saw}
        return ((operator, name) for operator in sorted(saw) for name in entry.end.classes)

    counts = tally(world.chosen(), keys, others)

    def trace(entry: Entry) -> Iterator[tuple[str, str]]:
        for operator, name in keys(entry):
            key = (operator, name) if (operator, name) in counts else others
            for statute in _statutes(world, key[0]):
                yield "exposure", ref(key[0], statute, key[1])

    rows = [
        _row(world, operator, statute, name, count)
        for (operator, name), count in sorted(counts.items())
        for statute in _statutes(world, operator)
    ]
    silent = [o for o in world.fleet.operators if all(operator != o for operator, _ in counts)]
    rows += [
        _row(world, o, s, "(no request in the period)", Count()) for o in silent for s in _statutes(world, o)
    ]
    rows += [row for one in world.declared for row in _declared(world, one.id)]
    sheet = Sheet(
        id="exposure",
        title="Who can be compelled, by what, for which data",
        columns=EXPOSURE_COLUMNS,
        rows=fixed(rows),
        note="A request of several classes counts once for each of them, and once for each operator that "
        "saw it: the numbers do not add up to the number of requests.",
    )
    return report(
        world,
        found,
        kind="exposure",
        title="Exposure to compelled access",
        law=("Regulation (EU) 2016/679 Art 48", "18 U.S.C. 2713"),
        sheets=(sheet, facts_sheet(world)),
        gaps=_gaps(world),
        figures=_figures(world),
        cannot_know=(
            (
                "Whether anybody was compelled, and whether an order would reach this data: possession, "
                "custody "
                "and control are questions of law."
            ),
            "What an operator kept after it had answered.",
        ),
        trace=trace,
    )


def _figures(world: World) -> Iterator[tuple[str, str]]:
    exposed = sorted(
        o.id for o in world.fleet.operators.values() if valid(o.compelled_by, world.day) not in ((), None)
    )
    operators = world.fleet.operators.values()
    unknown = sorted(o.id for o in operators if valid(o.compelled_by, world.day) is None)
    yield "Operators that can be compelled", listed(exposed) or "none"
    yield "Operators of whom it is not known", listed(unknown) or "none"
    if world.declared:
        yield "Declared systems", str(len(world.declared))


def _statutes(world: World, operator: str) -> tuple[str, ...]:
    known = world.fleet.operators.get(operator)
    return _of(known.compelled_by if known else None, world)


def _of(fact: Fact[tuple[str, ...]] | None, world: World) -> tuple[str, ...]:
    value = valid(fact, world.day)
    return (UNKNOWN,) if value is None else tuple(value) or (NONE,)


def _row(world: World, operator: str, statute: str, classes: str, count: Count) -> Row:
    known = world.fleet.operators.get(operator)
    fact = known.compelled_by if known else None
    names = [d.id for d in world.deployments if d.operator == operator]
    return (
        ref(operator, statute, classes), "configuration and log", operator, statute,
        world.statutes.get(statute, ""), classes, cell(known.seat if known else None, world.day),
        cell(known.controlled_from if known else None, world.day), fact.grade if fact else "",
        (fact and fact.source) or "", listed(names), *count.cells(),
    )  # fmt: skip


def _declared(world: World, name: str) -> Iterator[Row]:
    one = world.register.declared[name]
    operator = world.fleet.operators.get(one.operator or "")
    fact = one.compelled_by or (operator.compelled_by if operator else None)
    seat = one.seat or (operator.seat if operator else None)
    control = one.controlled_from or (operator.controlled_from if operator else None)
    for statute in _of(fact, world):
        for kind in one.classes or ("(not stated)",):
            yield (
                ref("declared", name, statute, kind), f"declared ({one.where}), not in the log",
                one.operator or one.supplier or UNKNOWN, statute, world.statutes.get(statute, ""), kind,
                cell(seat, world.day), cell(control, world.day), fact.grade if fact else "",
                (fact and fact.source) or one.source or "", one.name, "", "", "", "", "",
            )  # fmt: skip


def _gaps(world: World) -> Iterator[Gap]:
    for operator in world.fleet.operators.values():
        for fact in ("seat", "controlled_from", "compelled_by"):
            if valid(getattr(operator, fact), world.day) is None:
                yield Gap(where=f"operator {operator.id}", what=f"{fact} is not known", law="GDPR Art 48")
    for one in world.declared:
        if any(row[10] == one.name and row[3] == UNKNOWN for row in _declared(world, one.id)):
            what = "who can compel its operator is not known"
            yield Gap(where=f"declared {one.id}", what=what, law="GDPR Art 48")
