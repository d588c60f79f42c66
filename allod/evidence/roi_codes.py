"""Templates and closed lists of the register of information.

Templates and columns: Commission Implementing Regulation (EU) 2024/2956, Annex I. Codes of closed lists and
the technical ``Link`` columns of B_02.03 and B_03.x: EBA reporting framework 4.0, read in a copy (the
documentation of intuitem/ciso-assistant-community, ``documentation/dora-roi-specification.md``, at 69ed48e4),
for the ``Link`` of B_03.02 in a second one; the EBA's own dictionary was not opened. Keys: Annex I names them
for single columns, the EBA's answers of March 2025 for B_02.02; the others follow from what a row is about.
"""

from __future__ import annotations

from typing import Final

import msgspec


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """A table of the register: its columns in official order, its key, and what it refers to.

    ``mandatory`` are columns that Annex I wants filled in every row. ``refers`` are (columns, template,
    columns there).
    """

    code: str
    title: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    mandatory: tuple[str, ...] = ()
    refers: tuple[tuple[tuple[str, ...], str, tuple[str, ...]], ...] = ()

    @property
    def file(self) -> str:
        """The name of its file, without the ending."""
        return self.code.lower()


NOT_APPLICABLE: Final = "Not applicable"
NO_PLACE: Final = "eba_GA:qx2007"
YES, NO, NOT_ASSESSED = "eba_BT:x28", "eba_BT:x29", "eba_BT:x21"
OPEN_END: Final = "9999-12-31"
BRANCH, NO_BRANCH = "eba_ZZ:x838", "eba_ZZ:x839"


def _c(*numbers: int) -> tuple[str, ...]:
    return tuple(f"c{number:04d}" for number in numbers)


def _run(last: int) -> tuple[str, ...]:
    return _c(*range(10, last + 1, 10))


_CONTRACT: Final = (_c(10), "B_02.01", _c(10))
TEMPLATES: Final = (
    Template(
        code="B_01.01",
        title="Entity maintaining the register of information",
        columns=_run(60),
        key=_c(10),
        mandatory=_run(60),
    ),
    Template(
        code="B_01.02",
        title="Entities within the scope of the register",
        columns=_run(110),
        key=_c(10),
        mandatory=_c(10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110),
    ),
    Template(
        code="B_01.03",
        title="Branches",
        columns=_run(40),
        key=_c(10, 20),
        mandatory=_run(40),
        refers=((_c(20), "B_01.02", _c(10)),),
    ),
    Template(
        code="B_02.01",
        title="Contractual arrangements: general information",
        columns=_run(50),
        key=_c(10),
        mandatory=_c(10, 20, 40, 50),
        refers=((_c(30), "B_02.01", _c(10)),),
    ),
    Template(
        code="B_02.02",
        title="Contractual arrangements: specific information",
        columns=_run(180),
        key=_c(10, 20, 30, 40, 50, 60, 130, 150, 160),
        mandatory=_c(10, 20, 30, 40, 50, 60, 70, 80),
        refers=(
            _CONTRACT,
            (_c(20), "B_01.02", _c(10)),
            (_c(30, 40), "B_05.01", _c(10, 20)),
            (_c(50), "B_06.01", _c(10)),
        ),
    ),
    Template(
        code="B_02.03",
        title="Intra-group arrangements and the external ones behind them",
        columns=_c(10, 20, 30),
        key=_c(10, 20),
        mandatory=_c(10, 20),
        refers=(_CONTRACT, (_c(20), "B_02.01", _c(10))),
    ),
    Template(
        code="B_03.01",
        title="Entities signing arrangements for receiving services",
        columns=_c(10, 20, 30),
        key=_c(10, 20),
        mandatory=_c(10, 20),
        refers=(_CONTRACT, (_c(20), "B_01.02", _c(10))),
    ),
    Template(
        code="B_03.02",
        title="Providers signing arrangements",
        columns=_c(10, 20, 30, 45),
        key=_c(10, 20, 30),
        mandatory=_c(10, 20, 30),
        refers=(_CONTRACT, (_c(20, 30), "B_05.01", _c(10, 20))),
    ),
    Template(
        code="B_03.03",
        title="Entities of the group signing arrangements for providing services",
        columns=_c(10, 20, 31),
        key=_c(10, 20),
        mandatory=_c(10, 20),
        refers=(_CONTRACT, (_c(20), "B_01.02", _c(10))),
    ),
    Template(
        code="B_04.01",
        title="Entities making use of the services",
        columns=_run(40),
        key=_run(40)[:2] + _c(40),
        mandatory=_c(10, 20, 30),
        refers=(_CONTRACT, (_c(20), "B_01.02", _c(10)), (_c(40), "B_01.03", _c(10))),
    ),
    Template(
        code="B_05.01",
        title="ICT third-party service providers",
        columns=_run(90),
        key=_c(10, 20),
        mandatory=_c(10, 20, 30, 40, 50),
        refers=((_c(80, 90), "B_05.01", _c(10, 20)),),
    ),
    Template(
        code="B_05.02",
        title="ICT service supply chains",
        columns=_run(70),
        key=_run(70),
        mandatory=_run(50),
        refers=(_CONTRACT, (_c(30, 40), "B_05.01", _c(10, 20)), (_c(60, 70), "B_05.01", _c(10, 20))),
    ),
    Template(
        code="B_06.01",
        title="Functions",
        columns=_run(100),
        key=_c(10),
        mandatory=_c(10, 20, 30, 40, 50, 70, 80, 90, 100),
        refers=((_c(40), "B_01.02", _c(10)),),
    ),
    Template(
        code="B_07.01",
        title="Assessment of the services",
        columns=_run(120),
        key=_run(40),
        mandatory=_c(10, 20, 30, 40, 50, 70, 80, 90, 100, 110),
        refers=(_CONTRACT, (_c(20, 30), "B_05.01", _c(10, 20))),
    ),
    Template(
        code="B_99.01",
        title="Definitions of the entities making use of the services",
        columns=_run(190),
        key=(),
    ),
)
BY_CODE: Final = {template.code: template for template in TEMPLATES}
UNCHECKED: Final = frozenset({NOT_APPLICABLE, ""})
"""What a reference may be without pointing anywhere: where Annex I has it not applicable, or not reported."""

ENTITY_TYPES: Final = {
    "credit-institution": "eba_CT:x12", "investment-firm": "eba_CT:x599",
    "central-counterparty": "eba_CT:x643",
    "asset-management-company": "eba_CT:x639", "account-information-provider": "eba_CT:x301",
    "electronic-money-institution": "eba_CT:x302", "crypto-asset-provider": "eba_CT:x303",
    "central-securities-depository": "eba_CT:x304", "trading-venue": "eba_CT:x305",
    "trade-repository": "eba_CT:x306", "payment-institution": "eba_CT:x300", "other-financial": "eba_CT:x316",
    "securitisation-repository": "eba_CT:x315", "crowdfunding-provider": "eba_CT:x314",
    "benchmark-administrator": "eba_CT:x313", "rating-agency": "eba_CT:x312",
    "pension-institution": "eba_CT:x311",
    "insurance-intermediary": "eba_CT:x320", "insurance-undertaking": "eba_CT:x309",
    "data-reporting-provider": "eba_CT:x308", "alternative-fund-manager": "eba_CT:x307",
    "non-financial": "eba_CT:x318", "non-financial-ict-intra-group": "eba_CT:x317",
    "token-issuer": "eba_CT:x310",
}  # fmt: skip
HIERARCHIES: Final = {
    "ultimate-parent": "eba_RP:x53", "parent": "eba_RP:x551", "subsidiary": "eba_RP:x56",
    "outside-group": "eba_RP:x21", "outsourcing": "eba_RP:x210",
}  # fmt: skip
ARRANGEMENTS: Final = {
    "standalone": "eba_CO:x1", "overarching": "eba_CO:x2", "subsequent": "eba_CO:x3",
}  # fmt: skip
ENDINGS: Final = {
    "expired": "eba_CO:x4", "breach": "eba_CO:x5", "impediments": "eba_CO:x6", "weaknesses": "eba_CO:x7",
    "authority": "eba_CO:x8", "other": "eba_CO:x9",
}  # fmt: skip
SERVICES: Final = {f"S{n:02d}": f"eba_TA:S{n:02d}" for n in range(1, 20)}
SENSITIVENESS: Final = {"low": "eba_ZZ:x791", "medium": "eba_ZZ:x792", "high": "eba_ZZ:x793"}
RELIANCE: Final = {
    "not-significant": "eba_ZZ:x794", "low": "eba_ZZ:x795", "material": "eba_ZZ:x796", "full": "eba_ZZ:x797",
}  # fmt: skip
PERSONS: Final = {"legal": "eba_CT:x212", "individual": "eba_CT:x213"}
IMPACTS: Final = {**SENSITIVENESS, "not-assessed": "eba_ZZ:x799"}
SUBSTITUTABILITY: Final = {
    "not-substitutable": "eba_ZZ:x959", "highly-complex": "eba_ZZ:x960", "medium": "eba_ZZ:x961",
    "easy": "eba_ZZ:x962",
}  # fmt: skip
SUBSTITUTION_REASONS: Final = {
    "no-alternatives": "eba_ZZ:x963", "migration": "eba_ZZ:x964", "both": "eba_ZZ:x965",
}  # fmt: skip
REINTEGRATION: Final = {"easy": "eba_ZZ:x798", "difficult": "eba_ZZ:x966", "highly-complex": "eba_ZZ:x967"}
