"""The theorems to prove: those of the packs, and those every set of packs must satisfy."""

from __future__ import annotations

from collections.abc import Iterable

from allod.domain import jurisdiction
from allod.policy.forms import Theorem
from allod.policy.pack import Pack
from allod.policy.proof.report import Statement

RESIDENCY = (
    "residency.1-process", "residency.2-rest", "residency.3-transit", "residency.4-audit",
    "residency.5-operator",
)  # fmt: skip
_RESIDENT = (
    "(context.classes.containsAny(principal.tenant.resident_classes) || "
    'context.classes.contains("unscanned"))'
)


def of_packs(packs: Iterable[Pack]) -> tuple[Statement, ...]:
    """Return the theorems written in the packs."""
    return tuple(
        Statement(
            id=theorem.id,
            text=theorem.text,
            pack=pack.id,
            given=theorem.given,
            holds=theorem.holds,
            fails_without=theorem.fails_without,
        )
        for pack in packs
        for theorem in pack.theorems
    )


def theorem_of(statement: Statement) -> Theorem:
    """Return a statement in the form that a pack writes it in."""
    return Theorem(
        id=statement.id,
        text=statement.text,
        given=statement.given,
        holds=statement.holds,
        fails_without=statement.fails_without,
    )


def residency(name: str, places: Iterable[str]) -> Statement:
    """Return the residency theorem of a bloc: a tenant at home in it keeps what is resident in it.

    Each of the five conditions, and the declared answer "stored nowhere", is in the claim; so is that no fact
    among them is empty.
    """
    codes = sorted(jurisdiction.expand(places) & jurisdiction.COUNTRIES)
    bloc = "[" + ", ".join(f'"{code}"' for code in codes) + "]"

    def inside(owner: str, fact: str) -> str:
        path = f"{owner}.{fact}"
        return f"{owner} has {fact} && !{path}.codes.isEmpty() && {bloc}.containsAll({path}.codes)"

    holds = [
        inside("resource", "processing"),
        "resource has at_rest && (resource.at_rest.nowhere || !resource.at_rest.codes.isEmpty())",
        f"{bloc}.containsAll(resource.at_rest.codes)",
        inside("resource", "transit"),
        "resource has records_auditable && resource.records_auditable.value",
        "resource has inspectable && resource.inspectable.value",
        inside("resource.operator", "seat"),
        inside("resource.operator", "controlled_from"),
    ]
    return Statement(
        id=f"residency.{name}",
        text=f"For a tenant whose bloc lies in {name}, whatever sees a resident class processes, stores, "
        f"carries, opens to audit and is controlled inside {name}.",
        given=f"{_RESIDENT} && {bloc}.containsAll(principal.tenant.bloc)",
        holds=" && ".join(holds),
        fails_without=RESIDENCY,
    )


def air_gap() -> Statement:
    """Return the air-gap theorem."""
    return Statement(
        id="air-gap",
        text="While the tenant is air-gapped or the link is down, only what stands on the premises is used.",
        given="principal.tenant.air_gapped || !context.link_up",
        holds="resource has on_premises && resource.on_premises.value",
        fails_without=("airgap",),
    )


def built_in(tenant_bloc: tuple[str, ...] = ()) -> tuple[Statement, ...]:
    """Return residency for every named bloc, for the tenant's own if it is none of them, and the air gap."""
    found = [residency(name, (name,)) for name in jurisdiction.BLOCS]
    codes = jurisdiction.expand(tenant_bloc) & jurisdiction.COUNTRIES
    if codes and codes not in jurisdiction.BLOCS.values():
        found.append(residency("+".join(tenant_bloc), tenant_bloc))
    return (*found, air_gap())
