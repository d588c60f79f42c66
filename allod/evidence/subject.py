"""The decisions about one person: found by the id the application gave, explained, exported (GDPR Art 15).

The id itself is stored nowhere. What leads from it to the requests is a salt that one erasure deletes
(``store.subjects``); after that no report finds them again, and this one says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from allod.domain.errors import Integrity
from allod.domain.money import rfc3339
from allod.evidence.base import report
from allod.evidence.facts import cell
from allod.evidence.paper import Gap, Report, Row, Sheet, columns, listed
from allod.evidence.world import UNKNOWN, World, survey
from allod.routing.record import read_record
from allod.store.extract import Entry

DECISION_COLUMNS: Final = columns(
    """
    received        Received
    receipt         Receipt
    log_index       Index of its terminal leaf
    app             App
    task            Task
    purpose         Purpose
    classes         Categories of data
    status          How it ended
    recipients      Who saw it (operator, deployment, place)
    model           Model
    why             Why it went there
    conditions      Residency conditions that held
    erased          Salts erased
    """
)
REASON_COLUMNS: Final = columns(
    """
    receipt         Receipt
    deployment      Deployment left out
    rule            Rule
    law             Law
    got             What was the case
    required        What was required
    source          Source of the fact
    """
)
RETENTION: Final = (
    "What makes this possible: per person one salt under a keyed digest of the id, and per request a tag "
    "made with it, both in the tables of this home and kept until they are erased; the leaves themselves "
    "name nobody, and go only by the log's published pruning policy, with salts and tags. "
    "`allod report subject --subject ID --erase` deletes the salt, the tags, and the salts of these requests "
    "and answers. Backups of the tables hold what they were made with."
)


class Tables(msgspec.Struct, frozen=True):
    """What the tables add to the log: whether a receipt's salts are gone, and decision records by digest."""

    erased: Callable[[str], bool]
    record: Callable[[str], bytes | None]


def decisions(world: World, tables: Tables, subject: str) -> Report:
    """Return everything decided about one person in the period, with the reasons recorded at the time.

    ``world.entries`` are the requests about this person.
    """

    def rows() -> Iterator[Row]:
        return (_decision(world, tables, entry) for entry in world.chosen())

    def reasons() -> Iterator[Row]:
        for entry in world.chosen():
            yield from _reasons(tables, entry)

    found = survey(world)
    gaps = []
    if not found.total.requests:
        gaps.append(
            Gap(
                where="subject",
                what="no request of this period is about this id: the application never named it, "
                "or it was erased",
                law="GDPR Art 15",
            )
        )
    sheets = (
        Sheet(id="subject", title="Decisions", columns=DECISION_COLUMNS, rows=rows),
        Sheet(
            id="reasons",
            title="What was left out, and why",
            columns=REASON_COLUMNS,
            rows=reasons,
            note="From the decision records kept at the time; where a record is lost, from the leaf alone.",
        ),
    )
    return report(
        world,
        found,
        kind="subject",
        title="Decisions about one person",
        law=("Regulation (EU) 2016/679 Art 15", "Art 17"),
        sheets=sheets,
        gaps=gaps,
        cannot_know=(
            "Requests about this person that the application did not name the person in (`Allod-Subject`).",
            (
                "What was said: content is not stored. The application holds it, and the receipt proves "
                "which it "
                "was."
            ),
            "Requests before tables were rebuilt from the log: the log does not say whom they were about.",
        ),
        notes=(RETENTION,),
        scope=f"the person with the id {subject}, {world.scope}",
        receipts=world.every,
    )


def _decision(world: World, tables: Tables, entry: Entry) -> Row:
    end, saw = entry.end, dict.fromkeys(name for part in entry.parts for name in part.end.saw)
    return (
        rfc3339(entry.received_at_ms), end.id, str(entry.terminal_index), world.app_of(entry), end.task or "",
        end.purpose or "", listed(end.classes), end.status,
        listed(_recipient(world, name) for name in saw) or "nobody", end.model or "", _why(tables, entry),
        listed(name for name, held in sorted(end.conditions.items()) if held),
        "yes" if tables.erased(end.id) else "no",
    )  # fmt: skip


def _recipient(world: World, name: str) -> str:
    operator, deployment = world.operator_of(name), world.fleet.deployments.get(name)
    place = cell(deployment.processing, world.day) if deployment else UNKNOWN
    return f"{operator.id if operator else UNKNOWN}, {name}, {place}"


def _why(tables: Tables, entry: Entry) -> str:
    record = tables.record(entry.end.decision)
    if record is None:
        return "the decision record is lost"
    try:
        return read_record(record).plan.why
    except Integrity:
        return "the decision record cannot be read"


def _reasons(tables: Tables, entry: Entry) -> Iterator[Row]:
    end, record = entry.end, tables.record(entry.end.decision)
    try:
        plan = read_record(record).plan if record is not None else None
    except Integrity:
        plan = None
    if plan is None:
        for name, numbers in end.excluded:
            for n in numbers:
                yield end.id, name, end.rules[n] if n < len(end.rules) else "", "", "", "", ""
        return
    for candidate in plan.candidates:
        for rule in candidate.rules:
            yield end.id, candidate.deployment, rule.id, rule.law, rule.got, rule.required, rule.source
