"""The register of information in the configuration: what the law wants written down and no request shows.

``[register]`` (with ``[register.definitions]``), ``[[entity]]``, ``[[branch]]``, ``[[function]]``,
``[[provider]]``, ``[[contract]]`` (with ``exit``), ``[[subcontractor]]``, ``[[activity]]``, ``[[inventory]]``
and ``[[declared]]``. A typo is an error, a missing value is not: reports list it as a gap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from allod.domain.classes import expand
from allod.domain.errors import Invalid
from allod.domain.register import (
    DEFINITION_COLUMNS,
    WHERES,
    Activity,
    Assessment,
    Branch,
    Contract,
    Declared,
    Entity,
    Function,
    ModelEntry,
    Provider,
    Register,
    Subcontractor,
    Where,
)
from allod.gateway import fleetfile
from allod.gateway.toml import Table, nearest, place, place_set, words

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from allod.domain.fleet import Fleet

T = TypeVar("T")
_CODES = ("code", "code_type", "name", "person", "parent_code", "parent_code_type")
_MOST_TEXT = 4000


def register(root: Table, fleet: Fleet, classes: frozenset[str]) -> Register:
    """Take the register's tables from the configuration and hold their references against each other.

    Args:
        root: the whole configuration; other keys are left to others.
        fleet: what operators, deployments and apps are held against.
        classes: the data classes there are.

    Raises:
        Invalid: an unknown key, a wrong type, or the name of something that is not declared.

    """
    top = root.sub("register")
    entity, more = (Entity(), Register()) if top is None else _top(top)
    found = Register(
        entity=entity,
        entities=tuple(_read(root, "entity", _entity)),
        branches=tuple(_read(root, "branch", _branch)),
        functions=_by("function", _read(root, "function", _function), lambda one: one.id),
        providers=_by("provider", _read(root, "provider", _provider), lambda one: one.id),
        contracts=_by("contract", _read(root, "contract", _contract), lambda one: one.reference),
        subcontractors=tuple(_read(root, "subcontractor", _subcontractor)),
        activities=_by("activity", _read(root, "activity", _activity), lambda one: one.purpose),
        models=_by("inventory", _read(root, "inventory", _inventory), lambda one: one.deployment),
        declared=_by(
            "declared", _read(root, "declared", lambda t: _declared(t, classes)), lambda one: one.id
        ),
        definitions=more.definitions,
        controller=more.controller,
        contact=more.contact,
        officer=more.officer,
    )
    _cross_check(found, fleet)
    return found


def with_registered(fleet: Fleet, found: Register) -> Fleet:
    """Return the fleet with operators that stand in the register marked so (DORA Art 28(3))."""
    operators = {
        name: msgspec.structs.replace(operator, registered=True) if found.registered(name) else operator
        for name, operator in fleet.operators.items()
    }
    return msgspec.structs.replace(fleet, operators=operators)


def _read(root: Table, key: str, read: Callable[[Table], T]) -> list[T]:
    out = []
    for table in root.list_of(key, key):
        out.append(read(table))
        table.done()
    return out


def _by(kind: str, items: list[T], name: Callable[[T], str]) -> dict[str, T]:
    out: dict[str, T] = {}
    for item in items:
        if name(item) in out:
            raise Invalid(
                f"two {kind}s are called {name(item)!r}", "it names one thing", "rename one", param=kind
            )
        out[name(item)] = item
    return out


def _top(t: Table) -> tuple[Entity, Register]:
    definitions: dict[str, str] = {}
    table = t.sub("definitions")
    if table is not None:
        for column in DEFINITION_COLUMNS:
            text = table.text(column)
            if text is not None:
                definitions[column] = text
        table.done()
    entity = _entity(t)
    more = Register(
        definitions=definitions,
        controller=t.text("controller"),
        contact=t.text("contact"),
        officer=t.text("officer"),
    )
    t.done()
    return entity, more


def _country(t: Table, key: str = "country") -> str | None:
    text = t.text(key)
    return None if text is None else place(text, t.name(key))


def _entity(t: Table) -> Entity:
    return Entity(
        lei=t.text("lei"),
        name=t.text("name"),
        country=_country(t),
        type=t.text("type"),
        hierarchy=t.text("hierarchy"),
        parent_lei=t.text("parent_lei"),
        competent_authority=t.text("competent_authority"),
        currency=t.text("currency"),
        total_assets=t.number("total_assets"),
        integrated=t.day("integrated"),
        updated=t.day("updated"),
        deleted=t.day("deleted"),
    )


def _branch(t: Table) -> Branch:
    return Branch(id=t.required("id"), head_lei=t.text("head_lei"), name=t.text("name"), country=_country(t))


def _maybe(t: Table, key: str) -> bool | None:
    return t.flag(key, False) if t.has(key) else None


def _function(t: Table) -> Function:
    return Function(
        id=t.required("id"),
        name=t.text("name"),
        activity=t.text("activity"),
        entity_lei=t.text("entity_lei"),
        critical=_maybe(t, "critical"),
        reason=t.text("reason"),
        assessed_on=t.day("assessed_on"),
        rto_hours=t.whole("rto_hours", None, 0),
        rpo_hours=t.whole("rpo_hours", None, 0),
        impact=t.text("impact"),
    )


def _provider(t: Table) -> Provider:
    return Provider(
        id=t.required("id"),
        country=_country(t),
        intra_group=t.flag("intra_group", False),
        **{key: t.text(key) for key in _CODES},
    )


def _contract(t: Table) -> Contract:
    leaving = t.sub("exit")
    return Contract(
        reference=t.required("reference"),
        provider=t.required("provider"),
        deployments=t.texts("deployments") or (),
        functions=t.texts("functions") or (),
        type=t.text("type"),
        overarching=t.text("overarching"),
        linked=t.text("linked"),
        signer_lei=t.text("signer_lei"),
        user_lei=t.text("user_lei"),
        branches=t.texts("branches") or (),
        services=t.texts("services") or (),
        currency=t.text("currency"),
        annual_cost=t.number("annual_cost"),
        start=t.day("start"),
        end=t.day("end"),
        ended=t.text("ended"),
        notice_days=t.whole("notice_days", None, 0),
        provider_notice_days=t.whole("provider_notice_days", None, 0),
        law=_country(t, "law"),
        provision=_country(t, "provision"),
        sensitiveness=t.text("sensitiveness"),
        reliance=t.text("reliance"),
        exit=Assessment() if leaving is None else _assessment(leaving),
    )


def _assessment(t: Table) -> Assessment:
    found = Assessment(
        substitutability=t.text("substitutability"),
        reason=t.text("reason"),
        audited_on=t.day("audited_on"),
        exit_plan=_maybe(t, "exit_plan"),
        reintegration=t.text("reintegration"),
        impact=t.text("impact"),
        alternatives=_maybe(t, "alternatives"),
        alternative=t.text("alternative"),
    )
    t.done()
    return found


def _subcontractor(t: Table) -> Subcontractor:
    return Subcontractor(
        contract=t.required("contract"),
        service=t.required("service"),
        provider=t.required("provider"),
        rank=t.whole("rank", 2, 2, 99),
        recipient=t.required("recipient"),
    )


def _activity(t: Table) -> Activity:
    return Activity(
        purpose=t.required("purpose"),
        subjects=t.texts("subjects") or (),
        erasure=t.text("erasure"),
        security=t.text("security"),
    )


def _inventory(t: Table) -> ModelEntry:
    return ModelEntry(
        deployment=t.required("deployment"),
        owner=t.text("owner"),
        purpose=t.text("purpose"),
        validated_on=t.day("validated_on"),
        validated_by=t.text("validated_by"),
        limits=t.text("limits"),
        monitoring=t.text("monitoring"),
        source=t.text("source"),
    )


def _where(t: Table) -> Where:
    t.required("where")
    found: Where = t.choice("where", WHERES, None)
    return found


def _declared(t: Table, classes: frozenset[str]) -> Declared:
    named = t.texts("classes") or ()
    for name in named:
        _known(name, classes, t.name("classes"), "data class")
    return Declared(
        id=t.required("id"),
        name=t.required("name"),
        where=_where(t),
        supplier=t.text("supplier"),
        operator=t.text("operator"),
        processing=t.fact("processing", place),
        at_rest=t.fact("at_rest", fleetfile.at_rest),
        transit=t.fact("transit", place_set),
        seat=t.fact("seat", place),
        controlled_from=t.fact("controlled_from", place_set),
        compelled_by=t.fact("compelled_by", words),
        seal=t.fact("seal", fleetfile.seal),
        model=t.text("model"),
        maker_jurisdiction=_country(t, "maker_jurisdiction"),
        classes=expand(named),
        purposes=t.texts("purposes") or (),
        function=t.text("function"),
        contract=t.text("contract"),
        source=t.text("source"),
        as_of=t.day("as_of"),
    )


def _known(name: str | None, known: Collection[str], where: str, kind: str) -> None:
    if name is not None and name not in known:
        raise Invalid(
            f"{where}: there is no {kind} {name[:80]!r}{nearest(name, known)}",
            "known: " + (", ".join(sorted(known)[:40]) or "none"),
            "correct the name, or declare it",
            param=where,
        )


def _cross_check(r: Register, fleet: Fleet) -> None:
    parties = set(fleet.operators) | set(r.providers)
    branches = {branch.id for branch in r.branches}
    for c in r.contracts.values():
        where = f"contract.{c.reference}"
        _known(c.provider, parties, f"{where}.provider", "operator or provider")
        _known(c.overarching, r.contracts, f"{where}.overarching", "contract")
        _known(c.linked, r.contracts, f"{where}.linked", "contract")
        _each(c.deployments, fleet.deployments, f"{where}.deployments", "deployment")
        _each(c.functions, r.functions, f"{where}.functions", "function")
        _each(c.branches, branches, f"{where}.branches", "branch")
    for s in r.subcontractors:
        where = f"subcontractor.{s.provider}"
        _known(s.contract, r.contracts, f"{where}.contract", "contract")
        _known(s.provider, parties, f"{where}.provider", "operator or provider")
        _known(s.recipient, parties, f"{where}.recipient", "operator or provider")
    for entry in r.models.values():
        _known(entry.deployment, fleet.deployments, f"inventory.{entry.deployment}", "deployment")
    for d in r.declared.values():
        where = f"declared.{d.id}"
        _known(d.operator, fleet.operators, f"{where}.operator", "operator")
        _known(d.function, r.functions, f"{where}.function", "function")
        _known(d.contract, r.contracts, f"{where}.contract", "contract")


def _each(names: tuple[str, ...], known: Collection[str], where: str, kind: str) -> None:
    for name in names:
        _known(name, known, where, kind)
