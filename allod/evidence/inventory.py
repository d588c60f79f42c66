"""The inventory of models: what runs, who answers for it, what it was used for, and what is not known.

What a bank's model risk management asks for (SR 26-2, OCC Bulletin 2026-13, after SR 11-7), and any register
of AI systems.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from allod.domain.fleet import Deployment
from allod.domain.register import ModelEntry
from allod.evidence.base import facts_sheet, report
from allod.evidence.facts import cell, holding
from allod.evidence.paper import Gap, Report, Row, Sheet, columns, fixed, listed, ref
from allod.evidence.world import COUNT_COLUMNS, NOT_STATED, OTHERS, UNKNOWN, Count, World, survey, tally
from allod.store.extract import Entry

INVENTORY_COLUMNS: Final = columns(
    """
    row             Row
    from            Known from
    deployment      Deployment or system
    model           Model
    version         Version: digest of the weights
    adapter         Adapter
    template        Chat template
    verified        Verified by the vault
    maker           Maker's jurisdiction
    engine          Engine
    operator        Operator
    place           Where it processes
    owner           Owner of the use
    purpose         Intended purpose
    validated       Validated on
    validator       by
    limits          Limits
    monitoring      Monitoring
    uses            Used by (app, task, purpose)
    answered        Answered
    failed          Not answered
    """
    + COUNT_COLUMNS
)
SEEN_COLUMNS: Final = columns(
    """
    row             Row
    deployment      Deployment
    model           Model as it named itself
    weights         Digest of the weights
    engine          Engine and version
    evidence        Evidence level
    """
    + COUNT_COLUMNS
)
USES: Final = 12
CANNOT_KNOW: Final = (
    "Which weights stand behind a remote model's name, and whether they changed: its operator names it.",
    (
        "Whether a model is fit for its purpose: validation and challenge are people's; their dates and "
        "names "
        "stand "
        "here as they were entered."
    ),
)
KeySeen = tuple[str, str, str, str, str]


def inventory(world: World) -> Report:
    """Return every deployment and declared system, with what the log shows of its use."""
    found = survey(world)
    counts = tally(world.chosen(), lambda e: e.end.saw, OTHERS)
    answered = tally(world.chosen(), _answered, OTHERS)
    others: KeySeen = (OTHERS,) * 5
    seen = tally(world.chosen(), _seen, others)
    uses = _uses(world)

    def trace(entry: Entry) -> Iterator[tuple[str, str]]:
        for name in entry.end.saw:
            yield "model-inventory", ref("deployment", name if name in counts else OTHERS)
        for key in _seen(entry):
            yield "seen", ref(*(key if key in seen else others))

    names = dict.fromkeys((*world.fleet.deployments, *sorted(counts)))
    rows = [
        _row(world, name, counts.get(name, Count()), answered.get(name, Count()), uses.get(name, {}))
        for name in names
    ]
    rows += list(_declared(world))
    sheets = (
        Sheet(
            id="model-inventory",
            title="Models",
            columns=INVENTORY_COLUMNS,
            rows=fixed(rows),
            note="Every deployment of the configuration, those that only the log still knows, and "
            "declared systems.",
        ),
        Sheet(
            id="seen",
            title="What answered, as its driver knew it",
            columns=SEEN_COLUMNS,
            rows=fixed((ref(*key), *key, *count.cells()) for key, count in sorted(seen.items())),
            note="A digest stands only where the weights were loaded here. A remote model names itself.",
        ),
        facts_sheet(world),
    )
    return report(
        world,
        found,
        kind="model-inventory",
        title="Inventory of models",
        law=("SR 26-2 / OCC Bulletin 2026-13", "Regulation (EU) 2024/1689 Annex IV"),
        sheets=sheets,
        gaps=_gaps(world),
        cannot_know=CANNOT_KNOW,
        trace=trace,
    )


def _answered(entry: Entry) -> tuple[str, ...]:
    return entry.end.saw[-1:] if entry.end.status == "answered" else ()


def _seen(entry: Entry) -> Iterator[KeySeen]:
    end = entry.end
    if end.deployment and end.attempts:
        engine = f"{end.engine or ''} {end.engine_version or ''}".strip()
        yield end.deployment, end.model or "", end.weights or "", engine, end.evidence or ""


def _uses(world: World) -> dict[str, dict[str, None]]:
    """Return per deployment the first uses seen, as text."""
    out: dict[str, dict[str, None]] = {}
    for entry in world.parts():
        for name in entry.end.saw:
            known = out.setdefault(name, {})
            if len(known) <= USES:
                known[f"{world.app_of(entry)}/{entry.end.task or '-'}/{entry.end.purpose or '-'}"] = None
    return out


def _row(world: World, name: str, count: Count, answered: Count, uses: dict[str, None]) -> Row:
    shown = [*sorted(uses)[:USES], *(["and more"] if len(uses) > USES else [])]
    failed = str(count.requests - answered.requests)
    tail = (listed(shown), str(answered.requests), failed, *count.cells())
    d = world.fleet.deployments.get(name)
    if d is None:
        return (ref("deployment", name), "log, not configured any more", name, *([UNKNOWN] * 15), *tail)
    weights = world.fleet.weights.get(name)
    entry = world.register.models.get(name, ModelEntry(deployment=name))
    return (
        ref("deployment", name), "configuration and log", name, d.model, weights.weights if weights else "",
        (weights.adapter if weights else d.adapter) or "", (weights and weights.template) or "",
        "yes" if weights and weights.verified else "no", (weights and weights.maker_jurisdiction) or UNKNOWN,
        d.engine, d.operator, cell(d.processing, world.day), _owner(world, d, entry), entry.purpose or "",
        str(entry.validated_on or ""), entry.validated_by or "", _limits(d, entry), entry.monitoring or "",
        *tail,
    )  # fmt: skip


def _owner(world: World, d: Deployment, entry: ModelEntry) -> str:
    fact = holding([d.attestations], world.day).get("model-owner")
    return entry.owner or (fact.source if fact and fact.source else "")


def _limits(d: Deployment, entry: ModelEntry) -> str:
    parts = [entry.limits] if entry.limits else []
    parts += [f"takes {', '.join(sorted(d.takes))}"]
    parts += [f"context {d.context_tokens} tokens"] if d.context_tokens else []
    parts += [f"output {d.max_output_tokens} tokens"] if d.max_output_tokens else []
    parts += [f"quality {task} {value}" for task, value in sorted(d.quality.items())]
    return listed(parts)


def _declared(world: World) -> Iterator[Row]:
    for one in world.declared:
        yield (
            ref("declared", one.id), "declared, not in the log", one.id, one.model or UNKNOWN, "", "", "",
            "no", one.maker_jurisdiction or UNKNOWN, one.where, one.operator or one.supplier or UNKNOWN,
            cell(one.processing, world.day), "", listed(one.purposes) or NOT_STATED, "", "", "", "", one.name,
            "", "", "", "", "", "", "",
        )  # fmt: skip


def _gaps(world: World) -> Iterator[Gap]:
    law = "SR 26-2"
    for d in world.deployments:
        entry = world.register.models.get(d.id, ModelEntry(deployment=d.id))
        attested = holding([d.attestations], world.day)
        if not _owner(world, d, entry):
            yield Gap(where=f"inventory {d.id}", what="no owner", law=law)
        if entry.purpose is None:
            yield Gap(where=f"inventory {d.id}", what="no intended purpose", law=law)
        if entry.validated_on is None and "model-validated" not in attested:
            yield Gap(where=f"inventory {d.id}", what="no validation", law=law)
        if entry.monitoring is None:
            yield Gap(where=f"inventory {d.id}", what="no monitoring", law=law)
    for one in world.declared:
        if one.model is None:
            yield Gap(where=f"declared {one.id}", what="the model is not known", law=law)
