"""The log of one AI use over a period (AI Act Art 12, 19, 26(6)), with the receipts that prove it offline.

Regulation (EU) 2024/1689. Art 26(6) has the deployer of a high-risk system keep its logs for at least six
months.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Final

from allod.domain.fleet import App
from allod.domain.money import plain, rfc3339
from allod.evidence.base import report
from allod.evidence.facts import FACT_COLUMNS, fact_row
from allod.evidence.paper import Finding, Gap, Report, Row, Sheet, columns, fixed, listed
from allod.evidence.world import World, day_of, survey
from allod.store.extract import Entry

LEAST_DAYS: Final = 184
"""Six months are at most so many days."""
USE_COLUMNS: Final = columns(
    """
    received        Received
    ended           Ended
    receipt         Receipt
    log_index       Index of its terminal leaf
    status          How it ended
    reason          Why
    app             App
    task            Task
    purpose         Purpose
    classes         Categories of data
    surface         Surface
    deployment      Deployment
    operator        Operator
    model           Model
    weights         Digest of the weights
    engine          Engine and version
    evidence        Evidence level
    conditions      Residency conditions that held
    relaxed         Rules waived
    excluded        Deployments left out, with the rules
    attempts        Attempts
    step            Step, where it is one
    step_of         of the request
    input_tokens    Tokens read
    output_tokens   Tokens written
    cost_usd        Cost in USD
    total_usd       with its steps
    durability      Waited for before the first byte
    pack            Digest of the law
    fleet           Digest of the facts
    decision        Digest of the decision record
    """
)


def use_log(world: World) -> Report:
    """Return every event of one use (``world.app`` or ``world.task``) in the period, oldest end first."""
    found = survey(world)

    def rows() -> Iterator[Row]:
        return (event(world, one, entry) for entry in world.chosen() for one in entry.all)

    sheet = Sheet(
        id="ai-act-log",
        title="Events",
        columns=USE_COLUMNS,
        rows=rows,
        note="One row per request, in the order in which they ended; one that was answered in steps has rows "
        "for its steps beside it, each naming it. Rows without a step are the requests, and the costs of all "
        "rows add up to what was paid. "
        "The receipt of each is in the folder receipts.",
    )
    return report(
        world,
        found,
        kind="ai-act-log",
        title="Log extract of an AI use",
        law=("Regulation (EU) 2024/1689 Art 12", "Art 19", "Art 26(6)"),
        sheets=(sheet, _oversight(world)),
        gaps=_gaps(world),
        findings=_findings(world),
        cannot_know=(
            (
                "Inputs and outputs: the log holds salted commitments to them, not their text. Whoever "
                "kept a "
                "body can show that it is the one (`allod receipt verify FILE --request BODY`) until its "
                "salt is "
                "erased."
            ),
            "What a person did with an answer, and whether human oversight (Art 14) was exercised.",
            "Whether the use is high-risk: the risk level is what the organisation says of the app.",
        ),
        notes=(
            (
                'Verify all receipts: for f in receipts/*.json; do allod receipt verify "$f" --key '
                '"$(cat log.vkey)" || echo "$f"; done'
            ),
            (
                "Keep it: Art 26(6) asks for at least six months. This extract begins with "
                f"{rfc3339(world.since_ms) if world.since_ms else 'the first leaf'}; Allod deletes no leaf, "
                "so the log's own age is the limit."
            ),
        ),
        receipts=world.every,
    )


def event(world: World, entry: Entry, whole: Entry) -> Row:
    """Write one request, or one step of ``whole``, as a row of ``USE_COLUMNS``."""
    end = entry.end
    operator = world.operator_of(end.deployment) if end.deployment else None
    rules = end.rules
    excluded = (
        f"{name}: {', '.join(rules[n] for n in numbers if n < len(rules))}" for name, numbers in end.excluded
    )
    tokens = end.tokens
    read = sum(tokens.get(name, 0) for name in ("input", "cache_read", "cache_write", "cache_write_1h"))
    written = tokens.get("output", 0) + tokens.get("reasoning", 0)
    return (
        rfc3339(entry.received_at_ms), end.time, end.id, str(entry.terminal_index), end.status, end.reason,
        world.app_of(entry), end.task or "", end.purpose or "", listed(end.classes), entry.surface,
        end.deployment or "", operator.id if operator else "", end.model or "", end.weights or "",
        f"{end.engine or ''} {end.engine_version or ''}".strip(), end.evidence or "",
        listed(name for name, held in sorted(end.conditions.items()) if held), listed(end.relaxed),
        listed(excluded), str(end.attempts), end.step or "",
        end.parents[0] if end.step and end.parents else "", str(read), str(written), end.cost_usd or "",
        plain(whole.cost) if whole.steps and entry is whole else "", end.durability, end.pack, end.fleet,
        end.decision,
    )  # fmt: skip


def _apps(world: World) -> tuple[App, ...]:
    apps = world.fleet.apps
    return tuple(apps.values()) if world.app is None else (apps[world.app],) if world.app in apps else ()


def _oversight(world: World) -> Sheet:
    rows = [
        fact_row("app", app.id, f"attestation {name}", fact, world.day)
        for app in _apps(world)
        for name, fact in sorted(app.attestations.items())
    ]
    rows += [
        ("app", app.id, "risk level", app.risk, "declared", "", "", "", "yes", "")
        for app in _apps(world)
        if app.risk
    ]
    return Sheet(
        id="oversight",
        title="What the organisation says of the use",
        columns=columns(FACT_COLUMNS),
        rows=fixed(rows),
        note="Risk level, human oversight (its source names the person), "
        "disclosure, registration of the use.",
    )


def _gaps(world: World) -> Iterator[Gap]:
    if world.app is None and world.task is None:
        what = "no use is named (--app or --task): this is all of them"
        yield Gap(where="scope", what=what, law="AI Act Art 26(6)")
    for app in _apps(world):
        if app.risk is None:
            yield Gap(where=f"app {app.id}", what="no risk level", law="AI Act Art 6")
        elif app.risk == "high":
            for name, law in (("human-oversight", "Art 26(2)"), ("use-registered", "Art 49(3), 26(8)")):
                fact = app.attestations.get(name)
                if fact is None or not fact.value or not fact.holds_on(world.day):
                    yield Gap(where=f"app {app.id}", what=f"no attestation {name} holds", law=f"AI Act {law}")


def _findings(world: World) -> Iterator[Finding]:
    days = (min(day_of(world.until_ms), world.day) - _first_day(world)).days
    if days < LEAST_DAYS:
        yield Finding(
            rule="Art 26(6)",
            where="period",
            detail=f"the period covers {max(0, days)} days; six months are {LEAST_DAYS}",
        )


def _first_day(world: World) -> date:
    first = next(iter(world.chosen()), None)
    return world.day if first is None else max(day_of(world.since_ms), day_of(first.received_at_ms))
