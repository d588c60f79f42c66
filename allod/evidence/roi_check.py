"""What an authority would reject or complain of: the filing rules 805 to 808 and the form of values.

Rules of the EBA for the register of information that reject a filing: 805 an empty key, 806 a key twice, 807
a reference to a row that is not there, 808 a filing indicator that does not fit its table. All others warn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from allod.evidence import lei
from allod.evidence.paper import Finding, Row
from allod.evidence.roi_codes import BY_CODE, TEMPLATES, UNCHECKED, Template
from allod.evidence.tables import safe

Tables = Mapping[str, Sequence[Row]]
LEIS: Final = {
    "B_01.01": ("c0010",), "B_01.02": ("c0010", "c0060"), "B_01.03": ("c0020",), "B_02.02": ("c0020",),
    "B_03.01": ("c0020",), "B_03.03": ("c0020",), "B_04.01": ("c0020",), "B_06.01": ("c0040",),
}  # fmt: skip
CODES: Final = {
    "B_02.02": (("c0030", "c0040"),), "B_03.02": (("c0020", "c0030"),),
    "B_05.01": (("c0010", "c0020"), ("c0080", "c0090")), "B_05.02": (("c0030", "c0040"), ("c0060", "c0070")),
    "B_07.01": (("c0020", "c0030"),),
}  # fmt: skip
_CURRENCY: Final = re.compile(r"eba_CU:[A-Z]{3}", re.ASCII)
_FUNCTION: Final = re.compile(r"F[0-9]+", re.ASCII)


def check(tables: Tables, indicators: Mapping[str, bool]) -> Iterator[Finding]:
    """Go through everything that is wrong with the tables, rejections first.

    Args:
        tables: rows by template code, cells in official order.
        indicators: the filing indicators, by template code.

    """
    for template in TEMPLATES:
        yield from _keys(template, tables.get(template.code, ()))
        yield from _references(template, tables)
    yield from _indicators(tables, indicators)
    for template in TEMPLATES:
        yield from _forms(template, tables.get(template.code, ()))


def _cells(template: Template, row: Row, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(row[template.columns.index(name)] for name in names)


def _keys(template: Template, rows: Sequence[Row]) -> Iterator[Finding]:
    seen: dict[tuple[str, ...], int] = {}
    for number, row in enumerate(rows, 1):
        key = _cells(template, row, template.key)
        where = f"{template.code} row {number}"
        for name, value in zip(template.key, key, strict=True):
            if not value:
                yield Finding(rule="805", where=f"{where} {name}", detail="a key is empty", rejects=True)
        if key and key in seen:
            same = f"the same key as row {seen[key]}: {', '.join(key)}"
            yield Finding(rule="806", where=where, detail=same, rejects=True)
        seen.setdefault(key, number)


def _references(template: Template, tables: Tables) -> Iterator[Finding]:
    for names, target, there in template.refers:
        parent = BY_CODE[target]
        known = {_cells(parent, row, there) for row in tables.get(target, ())}
        for number, row in enumerate(tables.get(template.code, ()), 1):
            value = _cells(template, row, names)
            if value not in known and not UNCHECKED.issuperset(value):
                yield Finding(
                    rule="807",
                    where=f"{template.code} row {number} {'+'.join(names)}",
                    detail=f"{', '.join(value)} is not in {target} {'+'.join(there)}",
                    rejects=True,
                )


def _indicators(tables: Tables, indicators: Mapping[str, bool]) -> Iterator[Finding]:
    for template in TEMPLATES:
        said, rows = indicators.get(template.code), len(tables.get(template.code, ()))
        if said is None or said != bool(rows):
            detail = f"the filing indicator says {said}, the table has {rows} rows"
            yield Finding(rule="808", where=template.code, detail=detail, rejects=True)


def _forms(template: Template, rows: Sequence[Row]) -> Iterator[Finding]:
    for number, row in enumerate(rows, 1):
        where = f"{template.code} row {number}"
        cells = dict(zip(template.columns, row, strict=True))
        for name in LEIS.get(template.code, ()):
            if cells[name] and cells[name] not in UNCHECKED:
                yield from _lei(cells[name], f"{where} {name}")
        for code, kind in CODES.get(template.code, ()):
            if cells[kind] == "LEI" and cells[code]:
                yield from _lei(cells[code], f"{where} {code}")
        if template.code == "B_06.01" and cells["c0010"] and not _FUNCTION.fullmatch(cells["c0010"]):
            detail = f"{cells['c0010']} is not F and a number (Annex I)"
            yield Finding(rule="form", where=f"{where} c0010", detail=detail)
        for name, value in cells.items():
            if value.startswith("eba_CU:") and not _CURRENCY.fullmatch(value):
                yield Finding(
                    rule="ISO 4217", where=f"{where} {name}", detail=f"{value[7:]} is no currency code"
                )
            if safe(value) != value:
                detail = (
                    "written so that no spreadsheet takes it for a formula; the filed cell differs by that"
                )
                yield Finding(rule="neutralised", where=f"{where} {name}", detail=detail)


def _lei(text: str, where: str) -> Iterator[Finding]:
    fault = lei.fault(text)
    if fault is not None:
        yield Finding(rule="ISO 17442", where=where, detail=f"{text} is no LEI: {fault}")
