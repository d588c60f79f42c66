"""Accounting of disclosures of protected health information (45 CFR 164.528), from the log.

Each row is one disclosure: a request of class ``phi`` that was sent to somebody else than the organisation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from allod.domain.classes import UNSCANNED
from allod.domain.money import rfc3339
from allod.evidence.base import report
from allod.evidence.facts import cell, holding
from allod.evidence.paper import Finding, Gap, Report, Row, Sheet, columns, fixed, listed, ref
from allod.evidence.world import NOT_STATED, UNKNOWN, World, survey
from allod.store.extract import Entry

EXEMPT: Final = frozenset({"treatment", "payment", "operations", "health-care-operations"})
"""Purposes whose disclosures an individual's accounting need not list (164.528(a)(1)(i))."""
DISCLOSURE_COLUMNS: Final = columns(
    """
    date            Date of the disclosure
    receipt         Receipt
    log_index       Index of its terminal leaf
    recipient       Recipient
    address         Where it processes
    what            What was disclosed
    purpose         Purpose
    app             Disclosed by
    status          How the request ended
    baa             Business associate agreement today
    exempt          Need not be listed to the individual
    """
)
DECLARED_COLUMNS: Final = columns(
    """
    row             Row
    system          System
    where           Where it runs
    recipient       Recipient
    address         Where it processes
    what            What it is given
    purpose         Purpose
    source          Source
    """
)
PHI: Final = frozenset({"phi", UNSCANNED})


def disclosures(world: World, about: str = "") -> Report:
    """Return the accounting; of one person where the world's entries are theirs and ``about`` says so.

    A request that several operators saw is a disclosure to each, whether or not they answered, and so is each
    step of one that was answered in steps, and each audit of it.
    """
    found = survey(world)

    def rows() -> Iterator[Row]:
        for entry in world.parts():
            yield from _rows(world, entry)

    without = _without_agreement(world, world.parts())
    sheets = (
        Sheet(
            id="hipaa-disclosures",
            title="Disclosures",
            columns=DISCLOSURE_COLUMNS,
            rows=rows,
            note="Every disclosure to an operator that is not the organisation itself; a request that was "
            "answered in steps is one for each step, under the step's own receipt. 164.528(a)(1) lets "
            "some be left out of what an individual is given; the last column says which purposes those are.",
        ),
        Sheet(
            id="declared",
            title="Systems that are given protected health information and do not pass here",
            columns=DECLARED_COLUMNS,
            rows=fixed(_declared(world)),
        ),
    )
    return report(
        world,
        found,
        kind="hipaa-disclosures",
        title="Accounting of disclosures",
        law=("45 CFR 164.528", "45 CFR 164.312(b)"),
        sheets=sheets,
        gaps=_gaps(world.chosen()),
        findings=without,
        cannot_know=(
            (
                "Whose information it was, unless the application named the person (`Allod-Subject`); with "
                "--subject this report is about one of them."
            ),
            "Which facts about a person were in it: the log holds commitments to content, not content.",
            "The recipient's postal address (164.528(b)(2)(ii)): it is not a fact of the configuration.",
            "Whether an exemption really applies; the purpose is the one the application stated.",
        ),
        notes=("164.528(a)(1) looks back six years: --since reaches as far as the log does.",),
        scope=about,
    )


def _rows(world: World, entry: Entry) -> Iterator[Row]:
    end = entry.end
    if PHI.isdisjoint(end.classes):
        return
    for name in end.saw:
        if not world.foreign(name):
            continue
        operator, deployment = world.operator_of(name), world.fleet.deployments.get(name)
        agreed = holding([operator.agreements] if operator else [], world.day)
        agreed |= holding([deployment.agreements] if deployment else [], world.day)
        yield (
            rfc3339(entry.received_at_ms), end.id, str(entry.terminal_index),
            f"{operator.id if operator else UNKNOWN} ({name})",
            cell(deployment.processing, world.day) if deployment else UNKNOWN,
            f"content of a request on {entry.surface}, data of the classes {', '.join(end.classes)}",
            end.purpose or NOT_STATED, world.app_of(entry), end.status, "yes" if "baa" in agreed else "no",
            "yes, 164.528(a)(1)(i)" if end.purpose in EXEMPT else "no",
        )  # fmt: skip


def _declared(world: World) -> Iterator[Row]:
    for one in world.declared:
        if not PHI.isdisjoint(one.classes):
            yield (
                ref("declared", one.id), one.name, one.where, one.supplier or one.operator or UNKNOWN,
                cell(one.processing, world.day), listed(one.classes), listed(one.purposes) or NOT_STATED,
                one.source or "",
            )  # fmt: skip


def _without_agreement(world: World, entries: Iterable[Entry]) -> list[Finding]:
    count: dict[str, int] = {}
    for entry in entries:
        for row in _rows(world, entry):
            if row[9] == "no":
                count[row[3]] = count.get(row[3], 0) + 1
    return [
        Finding(
            rule="45 CFR 164.502(e), 164.504(e)",
            where=recipient,
            detail=f"{number} disclosures, and no business associate agreement holds today",
        )
        for recipient, number in sorted(count.items())
    ]


def _gaps(entries: Iterable[Entry]) -> Iterator[Gap]:
    number = sum(1 for e in entries if not PHI.isdisjoint(e.end.classes) and not e.end.purpose)
    if number:
        law = "45 CFR 164.528(b)(2)(iv)"
        yield Gap(where="purpose", what=f"{number} requests of class phi stated none", law=law)
