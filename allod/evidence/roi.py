"""The register of information (DORA Art 28(3)): its tables, its filing layout, and what would reject it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from allod.domain.money import plain
from allod.evidence import roi_codes as codes
from allod.evidence.base import report
from allod.evidence.paper import Column, Finding, Gap, Report, Row, Sheet, columns, fixed, listed, ref
from allod.evidence.roi_check import check
from allod.evidence.roi_rows import LAW, Rows
from allod.evidence.world import COUNT_COLUMNS, OTHERS, UNKNOWN, Count, World, survey, tally
from allod.store.extract import Entry

TAXONOMY: Final = "http://www.eba.europa.eu/eu/fr/xbrl/crr/fws/dora/4.0/mod/dora.json"
USE_COLUMNS: Final = columns(
    """
    row             Row
    operator        Operator
    registered      In the register
    contracts       Contracts
    app             App
    function        Function
    cost_usd        Cost in the log (USD)
    """
    + COUNT_COLUMNS
)
DECLARED_COLUMNS: Final = columns(
    """
    row             Row
    id              Id
    name            System
    where           Where it runs
    supplier        Supplier
    operator        Operator
    contract        Contract
    function        Function
    source          Source
    as_of           As of
    """
)
CANNOT_KNOW: Final = (
    (
        "Whether the register is complete: it holds arrangements for AI that pass through this gateway "
        "or were "
        "declared, not the entity's other ICT services."
    ),
    (
        "The annual expense (c0050, c0070): it is what the contract says. What the log measured stands "
        "in the "
        "first "
        "table, in USD."
    ),
    (
        "Whether the codes are those of the taxonomy in force: they were read in a copy, not in the EBA's "
        "dictionary."
    ),
)
NOTES: Final = (
    (
        "To be filed, the folders reports and META-INF are zipped under the name the authority asks for. "
        "Before that "
        "run the xBRL-CSV checks of the EBA's taxonomy package for DORA (framework 4.0, or the one then in "
        "force) with "
        "a validator such as Arelle: Allod checks the four rules that reject a filing (805 to 808) and the "
        "form of "
        "LEIs, not the taxonomy's formulas and lists."
    ),
    (
        "In a row of rank 1 the recipient (B_05.02 c0060, c0070), and in a row that is no branch the branch "
        "(B_04.01 c0040), say 'Not applicable', as Annex I has it; hold that against the taxonomy. The "
        "reference date in parameters.csv is the day it was made: set it to the one that is asked for."
    ),
)
Key = tuple[str, str]


def register(world: World) -> Report:
    """Return the register: the use the log shows leads, the official tables follow in filing order."""
    found = survey(world)
    others: Key = (OTHERS, OTHERS)

    def keys(entry: Entry) -> Iterator[Key]:
        app = world.app_of(entry)
        return ((app, name) for name in entry.end.saw if world.foreign(name))

    counts = tally(world.chosen(), keys, others, cost=lambda entry, key: entry.end.cost_at(key[1]))
    rows = Rows(world, counts)
    reported = {t.code: bool(rows.tables.get(t.code)) for t in codes.TEMPLATES}

    def trace(entry: Entry) -> Iterator[tuple[str, str]]:
        for key in keys(entry):
            yield "dora-roi", ref(*(key if key in counts else others))

    return report(
        world,
        found,
        kind="dora-roi",
        title="Register of information",
        law=("Regulation (EU) 2022/2554 Art 28(3)", LAW),
        sheets=(_use(world, counts), _declared(world), *_official(rows)),
        gaps=(*rows.gaps, *_gaps(world)),
        findings=(*check(rows.tables, reported), *_findings(world, counts)),
        cannot_know=CANNOT_KNOW,
        notes=NOTES,
        trace=trace,
        extra=_package(world, reported),
    )


def _official(rows: Rows) -> Iterator[Sheet]:
    """Go through the official tables that have rows."""
    for template in codes.TEMPLATES:
        if rows.tables.get(template.code):
            yield Sheet(
                id=template.file,
                title=f"{template.code} {template.title}",
                columns=tuple(Column(name, name) for name in template.columns),
                rows=fixed(rows.tables[template.code]),
                official=True,
            )


def _use(world: World, counts: dict[Key, Count]) -> Sheet:
    rows: list[Row] = []
    for (app, deployment), count in sorted(counts.items()):
        known = world.fleet.deployments.get(deployment)
        operator = known.operator if known else UNKNOWN
        contracts = sorted(c.reference for c in world.register.contracts.values() if c.provider == operator)
        caller = world.fleet.apps.get(app)
        rows.append((
            ref(app, deployment), f"{operator} ({deployment})",
            "yes" if world.register.registered(operator) else "no", listed(contracts), app,
            (caller and caller.function) or "", plain(count.cost_usd), *count.cells(),
        ))  # fmt: skip
    return Sheet(
        id="dora-roi",
        title="What the log shows of third-party services",
        columns=USE_COLUMNS,
        rows=fixed(rows),
        note="One row per app and deployment of an operator that is not the organisation itself.",
    )


def _declared(world: World) -> Sheet:
    rows = [
        (ref("declared", d.id), d.id, d.name, d.where, d.supplier or "", d.operator or "", d.contract or "",
         d.function or "", d.source or "", str(d.as_of or ""))
        for d in world.declared
    ]  # fmt: skip
    return Sheet(
        id="declared",
        title="AI that does not pass here, as declared",
        columns=DECLARED_COLUMNS,
        rows=fixed(rows),
        note="Those with a contract are rows of B_02.02 as well.",
    )


def _gaps(world: World) -> Iterator[Gap]:
    for one in world.declared:
        if one.contract is None:
            yield Gap(
                where=f"declared {one.id}", what="no contract is named: it is in no official table", law=LAW
            )
    for app in world.fleet.apps.values():
        if app.function is None:
            yield Gap(where=f"app {app.id}", what="no function is named", law=LAW)


def _findings(world: World, counts: dict[Key, Count]) -> Iterator[Finding]:
    seen: dict[str, Count] = {}
    for (_, deployment), count in counts.items():
        known = world.fleet.deployments.get(deployment)
        operator = known.operator if known else UNKNOWN
        total = seen.setdefault(operator, Count())
        total.requests += count.requests
    for operator, count in sorted(seen.items()):
        if not world.register.registered(operator):
            yield Finding(
                rule="Art 28(3)",
                where=f"operator {operator}",
                detail=f"{count.requests} requests went to it, and it has no contract in the register",
            )
    used = {operator for operator, count in seen.items() if count.requests}
    for c in world.register.contracts.values():
        declared = any(d.contract == c.reference for d in world.declared)
        if c.provider not in used and not declared:
            detail = "no request of the period and no declared system used it"
            yield Finding(rule="use", where=f"contract {c.reference}", detail=detail)


def _package(world: World, reported: dict[str, bool]) -> dict[str, bytes]:
    """Return the files around the tables: filing indicators, parameters and what makes them one package."""
    entity = world.register.entity
    lines = ["templateID,reported", *(f"{code},{str(said).lower()}" for code, said in reported.items())]
    parameters = [
        "name,value",
        f"entityID,{f'rs:{entity.lei}.CON' if entity.lei else ''}",
        f"refPeriod,{world.day.isoformat()}",
        f"baseCurrency,{f'iso4217:{entity.currency}' if entity.currency else ''}",
        "decimalsInteger,0",
        "decimalsMonetary,-3",
    ]
    package = {"documentInfo": {"documentType": "https://xbrl.org/report-package/2023"}}
    about = {"documentInfo": {"documentType": "https://xbrl.org/2021/xbrl-csv", "extends": [TAXONOMY]}}
    return {
        "reports/FilingIndicators.csv": ("\r\n".join(lines) + "\r\n").encode(),
        "reports/parameters.csv": ("\r\n".join(parameters) + "\r\n").encode(),
        "reports/report.json": json.dumps(about, indent=1).encode(),
        "META-INF/reportPackage.json": json.dumps(package, indent=1).encode(),
    }
