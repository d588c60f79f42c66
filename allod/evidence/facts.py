"""Facts as cells: value, grade, age and source, and what is unknown said so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any, Final

from allod.domain import jurisdiction
from allod.domain.facts import NOWHERE, Fact
from allod.domain.fleet import Deployment, Named, Operator, Owner
from allod.domain.register import Declared
from allod.evidence.paper import Row, listed
from allod.evidence.world import UNKNOWN

EEA: Final = jurisdiction.BLOCS["EEA"]
DEPLOYMENT: Final = (
    "processing", "at_rest", "transit", "on_premises", "records_auditable", "inspectable", "seal",
    "retention_days", "trains_on_inputs",
)  # fmt: skip
OPERATOR: Final = ("seat", "controlled_from", "compelled_by", "owners")
DECLARED: Final = ("processing", "at_rest", "transit", "seat", "controlled_from", "compelled_by", "seal")
FACT_COLUMNS: Final = """
of              About
id              Id
fact            Fact
value           Value
grade           Grade
as_of           As of
age_days        Age in days
expires         Expires
holds           Holds today
source          Source
"""


def shown(value: Any) -> str:
    """Write the value of a fact."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Owner):
        return f"{value.name} ({value.jurisdiction}) {value.percent} %"
    if isinstance(value, tuple | list):
        return listed(shown(item) for item in value) or "none"
    return str(value)


def cell(fact: Fact[Any] | None, day: date) -> str:
    """Write a fact into one cell; unknown and expired say so."""
    if fact is None:
        return UNKNOWN
    text = shown(fact.value)
    if fact.holds_on(day):
        return text
    if fact.as_of is not None and day < fact.as_of:
        return f"{text} (evidence of {fact.as_of}, which is to come)"
    return f"{text} (expired {fact.expires})"


def valid(fact: Fact[Any] | None, day: date) -> Any:
    """Return the value of a fact that holds, or None."""
    return fact.value if fact is not None and fact.holds_on(day) else None


def fact_row(of: str, name: str, fact: str, held: Fact[Any] | None, day: date) -> Row:
    """Write a fact as a row of ``FACT_COLUMNS``; a missing one is a row too."""
    if held is None:
        return of, name, fact, UNKNOWN, "", "", "", "", "no", ""
    age = "" if held.as_of is None else str((day - held.as_of).days)
    return (
        of, name, fact, shown(held.value), held.grade, _day(held.as_of), age, _day(held.expires),
        "yes" if held.holds_on(day) else "no", held.source or "",
    )  # fmt: skip


def fact_rows(
    deployments: Iterable[Deployment], operators: Iterable[Operator], declared: Iterable[Declared], day: date
) -> Iterator[Row]:
    """Go through all facts there are, and all that are missing."""
    for operator in operators:
        yield from _facts("operator", operator.id, operator, OPERATOR, day)
        yield from _named("operator", operator.id, operator.agreements, operator.attestations, day)
    for deployment in deployments:
        yield from _facts("deployment", deployment.id, deployment, DEPLOYMENT, day)
        yield from _named("deployment", deployment.id, deployment.agreements, deployment.attestations, day)
    for one in declared:
        yield from _facts("declared", one.id, one, DECLARED, day)


def _facts(of: str, name: str, thing: Any, facts: Iterable[str], day: date) -> Iterator[Row]:
    for fact in facts:
        yield fact_row(of, name, fact, getattr(thing, fact), day)


def _named(of: str, name: str, agreements: Named, attestations: Named, day: date) -> Iterator[Row]:
    for kind, held in (("agreement", agreements), ("attestation", attestations)):
        for key, fact in sorted(held.items()):
            yield fact_row(of, name, f"{kind} {key}", fact, day)


def holding(named: Iterable[Named], day: date) -> dict[str, Fact[bool]]:
    """Return the evidence that is there today, by name; that of the later mapping wins."""
    out: dict[str, Fact[bool]] = {}
    for mapping in named:
        out |= {name: fact for name, fact in mapping.items() if fact.value and fact.holds_on(day)}
    return out


def outside_eea(places: Iterable[str]) -> tuple[str, ...]:
    """Return the places that are not wholly in the EEA; a bloc that is not counts by its own name."""
    return tuple(p for p in places if p not in NOWHERE and not jurisdiction.expand((p,)) <= EEA)


def _day(day: date | None) -> str:
    return "" if day is None else day.isoformat()
