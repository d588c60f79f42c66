"""What every report says: of whom, of which log, how much, and what nobody may conclude from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from allod.domain.money import plain, rfc3339
from allod.evidence.facts import FACT_COLUMNS, fact_rows
from allod.evidence.paper import Finding, Gap, Report, Sheet, columns, fixed, listed
from allod.evidence.world import Survey, World
from allod.store.extract import Entry

SHOWN = 20


def report(
    world: World,
    found: Survey,
    *,
    kind: str,
    title: str,
    law: tuple[str, ...],
    sheets: Iterable[Sheet],
    gaps: Iterable[Gap] = (),
    findings: Iterable[Finding] = (),
    cannot_know: Iterable[str] = (),
    notes: Iterable[str] = (),
    figures: Iterable[tuple[str, str]] = (),
    trace: Callable[[Entry], Iterable[tuple[str, str]]] | None = None,
    receipts: Callable[[], Iterator[Entry]] | None = None,
    extra: dict[str, bytes] | None = None,
    scope: str = "",
) -> Report:
    """Make a report of its parts and of what all reports say."""
    return Report(
        kind=kind,
        title=title,
        law=law,
        tenant=world.register.controller or world.register.entity.name or world.fleet.tenant.id,
        scope=scope or world.scope,
        since=rfc3339(world.since_ms) if world.since_ms else "the first leaf on",
        until=rfc3339(world.until_ms),
        made_at=rfc3339(world.made_at_ms),
        log=world.log,
        fleet=world.fleet_digest,
        packs=world.packs,
        figures=(*_figures(found), *figures),
        sheets=tuple(sheets),
        gaps=(*_pruned(world), *gaps),
        findings=(*_findings(found), *findings),
        cannot_know=(*cannot_know, *_cannot_know(world, found)),
        notes=(*notes, *_notes()),
        trace=trace,
        receipts=receipts,
        extra=extra or {},
    )


def facts_sheet(world: World) -> Sheet:
    """Return all facts there are about operators, deployments and declared systems, with grade and age."""
    rows = fact_rows(world.deployments, world.fleet.operators.values(), world.declared, world.day)
    return Sheet(id="facts", title="Facts it rests on", columns=columns(FACT_COLUMNS), rows=fixed(rows))


def _figures(found: Survey) -> Iterator[tuple[str, str]]:
    states = ", ".join(f"{number} {status}" for status, number in sorted(found.by_status.items()))
    yield "Requests", f"{found.total.requests}" + (f" ({states})" if states else "")
    if found.steps:
        yield "Their steps and audits", f"{found.steps}, each with a receipt of its own"
    yield "Cost of their attempts", f"{plain(found.total.cost_usd)} USD"
    if found.total.requests:
        yield "First and last receipt", f"{found.total.first[1]}, {found.total.last[1]}"
    if found.in_flight:
        yield "Not ended at the checkpoint", str(found.in_flight)
    if found.simulated:
        yield "Answered by a simulated model", str(found.simulated)


def _findings(found: Survey) -> Iterator[Finding]:
    if found.unknown_deployments:
        names = sorted(found.unknown_deployments)
        yield Finding(
            rule="facts",
            where="configuration",
            detail=f"the log names deployments that are not configured any more: {listed(names[:SHOWN])}"
            + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
            + "; nothing is known about them here, and they count as outside the organisation",
        )
    if found.unknown_apps:
        yield Finding(
            rule="facts",
            where="configuration",
            detail=f"{len(found.unknown_apps)} apps in the log are not configured any more; "
            "they stand with their pseudonyms",
        )


def _pruned(world: World) -> Iterator[Gap]:
    """Say what is missing because the log was pruned by its policy."""
    if world.lost:
        yield Gap(where="log", what=world.lost, law="the log's pruning policy (/log/pruning)")


def _cannot_know(world: World, found: Survey) -> Iterator[str]:
    others = found.total.requests - found.fleets.get(world.fleet_digest, 0)
    yield (
        "Whether facts about operators and deployments are true. They stand as the organisation declares "
        "them now, with their grade and source; what an operator really did is not in this log."
    )
    if others:
        yield (
            f"What the facts were when they were decided: {others} of {found.total.requests} requests were "
            "decided with other facts (another fleet digest) than those shown here. What was decided then "
            "stands in each receipt."
        )
    yield (
        "What did not pass through this log: calls around the gateway, other homes and replicas (each has a "
        "log and reports of its own), and AI that nobody declared."
    )
    yield (
        "Whether a remote model computed what it answered. A receipt proves what this log's key signed, and "
        "its evidence level says how much stands behind it."
    )
    if found.in_flight:
        yield f"How {found.in_flight} requests of the period end: they had not ended at the checkpoint."
    if any("unreviewed" in pack for pack in world.packs):
        yield "Whether the packs state the law rightly: a pack above is marked as reviewed by nobody."


def _notes() -> Iterator[str]:
    yield (
        "A receipt is shown by `allod receipt show ID` and verified offline by `allod receipt verify FILE "
        "--key VKEY`."
    )
    yield (
        "The whole log was hashed while this was made; its root is the one the checkpoint was signed over. "
        "`allod log verify` does the same and also holds journal and tables against it."
    )
