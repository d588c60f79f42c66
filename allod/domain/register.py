"""What the law wants to be written down and no request shows: contracts, functions, AI that nobody routes.

Columns are those of the register of information (Regulation (EU) 2022/2554 Art 28(3), Implementing Regulation
(EU) 2024/2956 Annex I). A value that was not given is None or empty: it is listed as a gap, never made up.
Closed lists are held as written in the configuration; ``evidence.roi_codes`` turns them into the codes of a
filing.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Final, Literal

import msgspec

from allod.domain.facts import Fact

Where = Literal["equipment", "service", "supplier"]
WHERES: Final[tuple[Where, ...]] = ("equipment", "service", "supplier")
Definitions = dict[str, str]
"""Template B_99.01: the entity's own meaning of closed values, by column (``c0010`` to ``c0190``)."""
DEFINITION_COLUMNS: Final = tuple(f"c{n:04d}" for n in range(10, 200, 10))


class Entity(msgspec.Struct, frozen=True, kw_only=True):
    """A legal entity of the organisation (templates B_01.01 and B_01.02).

    Attributes:
        lei: 20 characters (ISO 17442); checked where it is reported, not here.
        country: ISO 3166-1 alpha-2. type, hierarchy: closed lists. parent_lei: of the direct parent.
        competent_authority: who the register is filed with.
        currency: ISO 4217. total_assets: in that currency.
        integrated, updated, deleted: days of its entry in the register.

    """

    lei: str | None = None
    name: str | None = None
    country: str | None = None
    type: str | None = None
    hierarchy: str | None = None
    parent_lei: str | None = None
    competent_authority: str | None = None
    currency: str | None = None
    total_assets: Decimal | None = None
    integrated: date | None = None
    updated: date | None = None
    deleted: date | None = None


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """A branch outside its head office's country (template B_01.03); ``head_lei`` is the head office's."""

    id: str
    head_lei: str | None = None
    name: str | None = None
    country: str | None = None


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """A business function (template B_06.01); ``critical`` None says that nobody assessed it yet.

    ``activity`` is the licensed activity as a code of Annex II, times are whole hours.
    """

    id: str
    name: str | None = None
    activity: str | None = None
    entity_lei: str | None = None
    critical: bool | None = None
    reason: str | None = None
    assessed_on: date | None = None
    rto_hours: int | None = None
    rpo_hours: int | None = None
    impact: str | None = None


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """Who an operator is in law (template B_05.01); ``id`` is the operator's, or that of a subcontractor.

    ``code`` with ``code_type`` (``LEI``, ``EUID``, else a country's own type such as ``FR_VAT``).
    """

    id: str
    code: str | None = None
    code_type: str | None = None
    name: str | None = None
    person: str | None = None
    country: str | None = None
    parent_code: str | None = None
    parent_code_type: str | None = None
    intra_group: bool = False


class Assessment(msgspec.Struct, frozen=True, kw_only=True):
    """How a contracted service could be left (template B_07.01)."""

    substitutability: str | None = None
    reason: str | None = None
    audited_on: date | None = None
    exit_plan: bool | None = None
    reintegration: str | None = None
    impact: str | None = None
    alternatives: bool | None = None
    alternative: str | None = None


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """A contractual arrangement with a provider (templates B_02.x, B_03.x, B_04.01, B_07.01).

    Attributes:
        reference: unique in the register. provider: id of the operator or provider it is with.
        deployments: those it covers; empty means all of the operator's.
        functions: ids of functions it serves, besides those of apps that are seen to use it.
        overarching: reference of the arrangement above it. linked: of the external one behind an intra-group
        one. signer_lei, user_lei: who signed and who uses; the register's entity where None. branches: ids
        that use it. services: types of ICT service (``S01`` to ``S19``).
        currency, annual_cost: of the annual expense.
        notice_days, provider_notice_days: notice periods. ended: why it ended.
        law: country of the governing law; provision: country it is provided from.
        sensitiveness, reliance: closed lists.

    """

    reference: str
    provider: str
    deployments: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    type: str | None = None
    overarching: str | None = None
    linked: str | None = None
    signer_lei: str | None = None
    user_lei: str | None = None
    branches: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    currency: str | None = None
    annual_cost: Decimal | None = None
    start: date | None = None
    end: date | None = None
    ended: str | None = None
    notice_days: int | None = None
    provider_notice_days: int | None = None
    law: str | None = None
    provision: str | None = None
    sensitiveness: str | None = None
    reliance: str | None = None
    exit: Assessment = Assessment()


class Subcontractor(msgspec.Struct, frozen=True, kw_only=True):
    """A link of a supply chain (template B_05.02): ``provider`` works for ``recipient``; rank 2 and up."""

    contract: str
    service: str
    provider: str
    rank: int
    recipient: str


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """What a record of processing needs beside the log (Regulation (EU) 2016/679 Art 30(1)), by purpose."""

    purpose: str
    subjects: tuple[str, ...] = ()
    erasure: str | None = None
    security: str | None = None


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What an inventory of models needs beside the log: who owns a deployment's use, and who validated it."""

    deployment: str
    owner: str | None = None
    purpose: str | None = None
    validated_on: date | None = None
    validated_by: str | None = None
    limits: str | None = None
    monitoring: str | None = None
    source: str | None = None


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """AI that runs without passing here: inside equipment, a service, or a supplier's supplier.

    Its facts have the shapes of those of deployments and operators. ``operator`` names an operator whose
    facts count where it has none of its own.
    """

    id: str
    name: str
    where: Where
    supplier: str | None = None
    operator: str | None = None
    processing: Fact[str] | None = None
    at_rest: Fact[tuple[str, ...]] | None = None
    transit: Fact[tuple[str, ...]] | None = None
    seat: Fact[str] | None = None
    controlled_from: Fact[tuple[str, ...]] | None = None
    compelled_by: Fact[tuple[str, ...]] | None = None
    seal: Fact[tuple[int, ...]] | None = None
    model: str | None = None
    maker_jurisdiction: str | None = None
    classes: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    function: str | None = None
    contract: str | None = None
    source: str | None = None
    as_of: date | None = None


class Register(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of this kind that the configuration says.

    ``controller``, ``contact`` and ``officer`` name the controller, how to reach it and its data protection
    officer (Regulation (EU) 2016/679 Art 30(1)(a)).
    """

    entity: Entity = Entity()
    entities: tuple[Entity, ...] = ()
    branches: tuple[Branch, ...] = ()
    functions: dict[str, Function] = {}
    providers: dict[str, Provider] = {}
    contracts: dict[str, Contract] = {}
    subcontractors: tuple[Subcontractor, ...] = ()
    activities: dict[str, Activity] = {}
    models: dict[str, ModelEntry] = {}
    declared: dict[str, Declared] = {}
    definitions: Definitions = {}
    controller: str | None = None
    contact: str | None = None
    officer: str | None = None

    def registered(self, operator: str) -> bool:
        """Tell whether an operator has an entry and a contract in the register."""
        return operator in self.providers and any(c.provider == operator for c in self.contracts.values())
