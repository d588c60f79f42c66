"""The rows of the register of information, from the configuration and the log; gaps instead of guesses.

Which functions a contract serves is what it says itself, and the functions of apps that the log shows using
its deployments. Where data is processed and stored are the deployments' facts: one row per pair of places. A
fact that is unknown, expired or names a bloc instead of a country leaves its cell empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Final

from allod.domain import jurisdiction
from allod.domain.facts import NOWHERE, Fact
from allod.domain.money import plain
from allod.domain.register import Contract, Declared, Entity, Provider
from allod.evidence import roi_codes as codes
from allod.evidence.facts import valid
from allod.evidence.paper import Gap, Row
from allod.evidence.world import World

LAW: Final = "ITS (EU) 2024/2956 Annex I"
TRUE: Final = "true"


class Rows:
    """Builds the tables of one world.

    Args:
        world: configuration and register.
        used: by app and deployment, whether a request of the period went there.

    Attributes:
        tables: rows by template code.
        gaps: what is missing, each once.

    """

    def __init__(self, world: World, used: Iterable[tuple[str, str]]) -> None:
        self.world, self.register = world, world.register
        self._used: dict[str, set[str]] = {}
        for app, deployment in used:
            self._used.setdefault(deployment, set()).add(app)
        self._gaps: dict[Gap, None] = {}
        self.tables: dict[str, list[Row]] = {}
        self.contracts = sorted(self.register.contracts.values(), key=lambda c: c.reference)
        self._build()

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """What is missing."""
        return tuple(self._gaps)

    def _build(self) -> None:
        own = self.register.entity
        day = self.world.day.isoformat()
        self._add("B_01.01", "register", own.lei, own.name, _place(own.country), self._code("type", own.type,
                  codes.ENTITY_TYPES, "register"), own.competent_authority, day)  # fmt: skip
        self._entity(own, "register")
        for entity in self.register.entities:
            self._entity(entity, f"entity {entity.name or entity.lei or ''}".strip())
        for branch in self.register.branches:
            self._add("B_01.03", f"branch {branch.id}", branch.id, branch.head_lei or own.lei, branch.name,
                      _place(branch.country))  # fmt: skip
        for contract in self.contracts:
            self._contract(contract)
        for link in self.register.subcontractors:
            service = self._code("service", link.service, codes.SERVICES, f"subcontractor {link.provider}")
            self._add("B_05.02", f"subcontractor {link.provider}", link.contract, service,
                      *self._party(link.provider), str(link.rank), *self._party(link.recipient))  # fmt: skip
        for name in self._parties():
            self._provider(name)
        for name in sorted(self._functions()):
            self._function(name)
        if self.register.definitions:
            template = codes.BY_CODE["B_99.01"]
            self._add(
                "B_99.01", "register.definitions", *map(self.register.definitions.get, template.columns)
            )
        for rows in self.tables.values():
            rows.sort()

    def _add(self, code: str, where: str, *cells: str | None) -> None:
        """Add a row in official order, once; empty cells that Annex I wants filled are gaps."""
        template = codes.BY_CODE[code]
        row = tuple(cell or "" for cell in cells)
        assert len(row) == len(template.columns), (code, len(row))
        rows = self.tables.setdefault(code, [])
        if row in rows:
            return
        rows.append(row)
        for name, cell in zip(template.columns, row, strict=True):
            if not cell and (name in template.mandatory or name in template.key):
                self.miss(f"{code} {name}", f"{where}: empty")

    def miss(self, where: str, what: str) -> None:
        """Note a gap."""
        self._gaps[Gap(where=where, what=what, law=LAW)] = None

    def _code(self, what: str, word: str | None, known: Mapping[str, str], where: str) -> str:
        """Turn a word of the configuration into its code; a code stays, another word is a gap."""
        if word is None:
            return ""
        if word in known:
            return known[word]
        if word in known.values() or (word.startswith("eba_") and not known):
            return word
        self.miss(where, f"{what} {word!r} is none of {', '.join(known) or 'the codes eba_...'}")
        return ""

    # --- entities and functions

    def _entity(self, one: Entity, where: str) -> None:
        self._add(
            "B_01.02", where, one.lei, one.name, _place(one.country),
            self._code("type", one.type, codes.ENTITY_TYPES, where),
            self._code("hierarchy", one.hierarchy, codes.HIERARCHIES, where), one.parent_lei,
            _day(one.updated),
            _day(one.integrated), _day(one.deleted) or codes.OPEN_END, _currency(one.currency),
            _money(one.total_assets),
        )  # fmt: skip

    def _functions(self) -> set[str]:
        named = {app.function for app in self.world.fleet.apps.values() if app.function}
        named |= {one.function for one in self.world.declared if one.function}
        return set(self.register.functions) | named

    def _function(self, name: str) -> None:
        where = f"function {name}"
        f = self.register.functions.get(name)
        if f is None:
            self.miss("B_06.01", f"{where} is named by an app and not described by [[function]]")
            lei = self.register.entity.lei
            self._add("B_06.01", where, name, None, None, lei, *([None] * 6))
            return
        critical = codes.NOT_ASSESSED if f.critical is None else codes.YES if f.critical else codes.NO
        self._add(
            "B_06.01", where, name, self._code("activity", f.activity, {}, where), f.name,
            f.entity_lei or self.register.entity.lei, critical, f.reason, _day(f.assessed_on),
            _number(f.rto_hours),
            _number(f.rpo_hours), self._code("impact", f.impact, codes.IMPACTS, where) or "",
        )  # fmt: skip

    # --- providers

    def _parties(self) -> list[str]:
        """Return who is reported as a provider: of contracts outside the group, and of supply chains."""
        names = {c.provider for c in self.contracts if not self._of_group(c)}
        for link in self.register.subcontractors:
            names |= {link.provider, link.recipient}
        return sorted(names)

    def _of_group(self, contract: Contract) -> bool:
        provider = self.register.providers.get(contract.provider)
        return provider is not None and provider.intra_group

    def _party(self, name: str) -> tuple[str | None, str | None]:
        provider = self.register.providers.get(name)
        if provider is None:
            self.miss(f"provider {name}", "it has no [[provider]] table: who it is in law is not known")
            return None, None
        return provider.code, provider.code_type

    def _provider(self, name: str) -> None:
        p = self.register.providers.get(name, Provider(id=name))
        where = f"provider {name}"
        own = [c for c in self.contracts if c.provider == name]
        currencies = {c.currency for c in own if c.annual_cost is not None}
        total: str | None = None
        if len(currencies) == 1 and all(c.annual_cost is not None for c in own):
            total = _money(sum((c.annual_cost or Decimal(0) for c in own), Decimal(0)))
        elif own:
            self.miss("B_05.01 c0070", f"{where}: the annual cost is not known, or in several currencies")
        self._add(
            "B_05.01", where, p.code, p.code_type, p.name,
            self._code("person", p.person, codes.PERSONS, where),
            _place(p.country or _country(self._seat(name), self.world.day)),
            _currency(next(iter(currencies))) if total is not None else None, total, p.parent_code,
            p.parent_code_type,
        )  # fmt: skip
        if p.parent_code is None:
            self.miss(
                "B_05.01 c0080", f"{where}: no ultimate parent is given (its own code if it is that itself)"
            )
        elif (p.parent_code, p.parent_code_type) != (p.code, p.code_type):
            self._parent(p)

    def _parent(self, p: Provider) -> None:
        known = {(o.code, o.code_type) for o in self.register.providers.values()}
        if (p.parent_code, p.parent_code_type) not in known:
            self.miss(f"provider {p.id}", f"its ultimate parent {p.parent_code} has no [[provider]] table")
            return
        for other in self.register.providers.values():
            if (other.code, other.code_type) == (p.parent_code, p.parent_code_type):
                rows = self.tables.get("B_05.01", [])
                if not any(row[0] == other.code for row in rows):
                    self._provider(other.id)

    def _seat(self, name: str) -> Fact[str] | None:
        operator = self.world.fleet.operators.get(name)
        return None if operator is None else operator.seat

    # --- contracts

    def _contract(self, c: Contract) -> None:
        where, own = f"contract {c.reference}", self.register.entity
        self._add("B_02.01", where, c.reference, self._code("type", c.type, codes.ARRANGEMENTS, where),
                  c.overarching, _currency(c.currency), _money(c.annual_cost))  # fmt: skip
        if c.type in ("subsequent", codes.ARRANGEMENTS["subsequent"]) and c.overarching is None:
            self.miss("B_02.01 c0030", f"{where}: a subsequent arrangement without its overarching one")
        if c.linked is not None:
            self._add("B_02.03", where, c.reference, c.linked, TRUE)
        self._add("B_03.01", where, c.reference, c.signer_lei or own.lei, TRUE)
        user = c.user_lei or own.lei
        self._add("B_04.01", where, c.reference, user, codes.NO_BRANCH, codes.NOT_APPLICABLE)
        for branch in c.branches:
            self._add("B_04.01", where, c.reference, user, codes.BRANCH, branch)
        services = [self._code("service", name, codes.SERVICES, where) for name in c.services]
        if not services:
            self.miss("B_02.02 c0060", f"{where}: no type of ICT service (S01 to S19)")
            services = [""]
        party = self._party(c.provider)
        if self._of_group(c):
            self._add("B_03.03", where, c.reference, party[0], TRUE)
        else:
            self._add("B_03.02", where, c.reference, *party, TRUE)
            for service in services:
                self._add("B_05.02", where, c.reference, service, *party, "1", codes.NOT_APPLICABLE,
                          codes.NOT_APPLICABLE)  # fmt: skip
                self._assessed(c, service, party)
        for function, places in self._served(c):
            for service in services:
                self._specific(c, service, party, function, places)

    def _served(self, c: Contract) -> list[tuple[str, tuple[str, str, str]]]:
        """Return (function, (stores, at rest, processed)) of a contract, each once, from facts and log."""
        covered = [
            d for d in self.world.deployments
            if d.id in c.deployments or (not c.deployments and d.operator == c.provider)
        ]  # fmt: skip
        out: dict[tuple[str, tuple[str, str, str]], None] = {}
        for d in covered:
            seen = self._used.get(d.id, set())
            apps = self.world.fleet.apps
            functions = {*c.functions, *(apps[a].function or "" for a in seen if a in apps)} or {""}
            for function in functions:
                for places in self._places(d.processing, d.at_rest, f"deployment {d.id}"):
                    out[function, places] = None
        for one in (o for o in self.world.declared if o.contract == c.reference):
            for places in self._declared_places(one):
                out[one.function or "", places] = None
        if not out:
            nowhere = ("", "", "")
            self.miss("B_02.02", f"contract {c.reference} covers no deployment and no declared system")
            out = {(function, nowhere): None for function in c.functions or ("",)}
        return sorted(out)

    def _declared_places(self, one: Declared) -> list[tuple[str, str, str]]:
        return self._places(one.processing, one.at_rest, f"declared {one.id}")

    def _places(
        self, processing: Fact[str] | None, at_rest: Fact[tuple[str, ...]] | None, where: str
    ) -> list[tuple[str, str, str]]:
        """Return (stores, at rest, processed) per pair of places, as cells."""
        day = self.world.day
        processed = _place(_country(processing, day))
        if not processed:
            self.miss("B_02.02 c0160", f"{where}: the country of processing is not known, or only a bloc")
        rest = valid(at_rest, day)
        if rest == NOWHERE:
            return [(codes.NO, codes.NO_PLACE, processed)]
        stored = [_place(place) if place in jurisdiction.COUNTRIES else "" for place in rest or ("",)]
        if "" in stored:
            self.miss("B_02.02 c0150", f"{where}: a country of storage is not known, or only a bloc")
        return [(codes.YES if rest else "", place, processed) for place in dict.fromkeys(stored)]

    def _specific(
        self, c: Contract, service: str, party: tuple[str | None, str | None], function: str,
        places: tuple[str, str, str],
    ) -> None:  # fmt: skip
        where = f"contract {c.reference}"
        known = self.register.functions.get(function)
        critical = known is not None and known.critical is True
        stores, rest, processed = places
        row = (
            c.reference, c.user_lei or self.register.entity.lei, *party, function, service, _day(c.start),
            _day(c.end), self._code("ended", c.ended, codes.ENDINGS, where),
            _number(c.notice_days), _number(c.provider_notice_days),
            _place(c.law), _place(c.provision), stores,
            rest,
            processed, self._code("sensitiveness", c.sensitiveness, codes.SENSITIVENESS, where),
            self._code("reliance", c.reliance, codes.RELIANCE, where),
        )  # fmt: skip
        self._add("B_02.02", where, *row)
        if critical:
            template = codes.BY_CODE["B_02.02"]
            for name in ("c0100", "c0110", "c0120", "c0130", "c0140", "c0170", "c0180"):
                if not row[template.columns.index(name)]:
                    self.miss(f"B_02.02 {name}", f"{where}: empty, and function {function} is critical")
        if c.end is not None and c.end <= self.world.day and not c.ended:
            self.miss("B_02.02 c0090", f"{where}: it has ended and no reason is given")

    def _assessed(self, c: Contract, service: str, party: tuple[str | None, str | None]) -> None:
        e, where = c.exit, f"contract {c.reference}"
        if e == type(e)():
            self.miss("B_07.01", f"{where}: not assessed (contract.exit)")
            return
        hard = e.substitutability in ("not-substitutable", "highly-complex")
        if hard and e.reason is None:
            self.miss("B_07.01 c0060", f"{where}: hard to substitute, and no reason is given")
        alternatives = (
            codes.NOT_ASSESSED if e.alternatives is None else codes.YES if e.alternatives else codes.NO
        )
        self._add(
            "B_07.01", where, c.reference, *party, service,
            self._code("substitutability", e.substitutability, codes.SUBSTITUTABILITY, where),
            self._code("reason", e.reason, codes.SUBSTITUTION_REASONS, where), _day(e.audited_on),
            "" if e.exit_plan is None else codes.YES if e.exit_plan else codes.NO,
            self._code("reintegration", e.reintegration, codes.REINTEGRATION, where),
            self._code("impact", e.impact, codes.IMPACTS, where), alternatives, e.alternative,
        )  # fmt: skip


def _day(day: date | None) -> str:
    return "" if day is None else day.isoformat()


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _money(value: Decimal | None) -> str:
    return "" if value is None else plain(value)


def _place(code: str | None) -> str:
    return f"eba_GA:{code}" if code and code in jurisdiction.COUNTRIES else ""


def _currency(code: str | None) -> str:
    return f"eba_CU:{code}" if code else ""


def _country(fact: Fact[str] | None, day: date) -> str | None:
    value = valid(fact, day)
    return value if isinstance(value, str) and value in jurisdiction.COUNTRIES else None
