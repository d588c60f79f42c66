"""Tables as CSV and as JSON, one row at a time; cells can neither run in a spreadsheet nor break a line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from typing import IO, Final

from allod.domain.money import rfc3339
from allod.evidence.paper import Report, Row, Sheet, columns, fixed
from allod.store.extract import Entry

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_CLEAN: Final = {ord("\0"): None, ord("\r"): " ", ord("\n"): " "}
TRACE_COLUMNS: Final = columns(
    """
    table       Table
    row         Row
    receipt     Receipt
    log_index   Index of its terminal leaf
    time        Received
    status      Ended
    """
)
GAP_COLUMNS: Final = columns(
    """
    where       Where
    what        What is missing
    law         Who asks for it
    """
)
FINDING_COLUMNS: Final = columns(
    """
    rule        Rule
    where       Where
    detail      What was found
    rejects     An authority would not take it
    """
)


def safe(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula, on one line.

    A cell that begins with ``=``, ``+``, ``-``, ``@``, one of these in full width or a tab gets an apostrophe
    before it (CWE-1236), also behind blanks of any kind, which some programs drop.
    """
    text = cell.translate(_CLEAN)
    begins = (text.lstrip(" "), text.lstrip())
    return "'" + text if any(one.startswith(FORMULA) for one in begins) else text


def write_sheet(out: IO[str], sheet: Sheet, preamble: Iterable[str] = ()) -> int:
    """Write a table as CSV (RFC 4180, comma, UTF-8); returns how many rows it has.

    Lines of ``preamble`` come first, each behind ``#``; an official table has none.
    """
    writer = csv.writer(out, lineterminator="\r\n")
    if not sheet.official:
        writer.writerows([safe(f"# {line}")] for line in preamble)
    writer.writerow([safe(column.id) for column in sheet.columns])
    count = 0
    for row in sheet.rows():
        writer.writerow([safe(cell) for cell in row])
        count += 1
    return count


def preamble(report: Report) -> Iterator[str]:
    """Go through the lines that say what a table is, and what it is not."""
    yield report.title
    yield f"for {report.tenant}: {report.scope}"
    yield f"requests received from {report.since}, before {report.until}; made at {report.made_at}"
    yield f"from log {report.log.origin}, {report.log.size} leaves, root {report.log.root}"
    yield from (f"asked for by: {law}" for law in report.law)
    yield from (f"{name}: {value}" for name, value in report.figures)
    yield from (f"it cannot know: {text}" for text in report.cannot_know)
    yield f"gaps: {len(report.gaps)} (gaps.csv); findings: {len(report.findings)} (findings.csv)"


def gap_sheet(report: Report) -> Sheet:
    """Return the gaps as a table."""
    rows = [(gap.where, gap.what, gap.law) for gap in report.gaps]
    return Sheet(id="gaps", title="Gaps", columns=GAP_COLUMNS, rows=fixed(rows))


def finding_sheet(report: Report) -> Sheet:
    """Return the findings as a table."""
    rows = [(f.rule, f.where, f.detail, "yes" if f.rejects else "no") for f in report.findings]
    return Sheet(id="findings", title="Findings", columns=FINDING_COLUMNS, rows=fixed(rows))


def trace_sheet(report: Report, entries: Iterable[Entry]) -> Sheet:
    """Return which receipts stand behind which row, as a table that is read once."""
    trace = report.trace
    assert trace is not None

    def rows() -> Iterator[Row]:
        for entry in (part for whole in entries for part in whole.parts):
            end = entry.end
            for table, row in trace(entry):
                yield (
                    table, row, end.id, str(entry.terminal_index), rfc3339(entry.received_at_ms), end.status
                )  # fmt: skip

    return Sheet(id="receipts", title="Receipts behind each row", columns=TRACE_COLUMNS, rows=rows)


def write_json(out: IO[str], report: Report) -> None:
    """Write everything as one JSON object; rows are objects, one on a line."""
    head = {
        "kind": report.kind,
        "title": report.title,
        "law": report.law,
        "tenant": report.tenant,
        "scope": report.scope,
        "since": report.since,
        "until": report.until,
        "made_at": report.made_at,
        "log": {name: getattr(report.log, name) for name in report.log.__struct_fields__},
        "fleet": report.fleet,
        "packs": report.packs,
        "figures": dict(report.figures),
        "cannot_know": report.cannot_know,
        "notes": report.notes,
        "gaps": [{name: getattr(gap, name) for name in gap.__struct_fields__} for gap in report.gaps],
        "findings": [{name: getattr(f, name) for name in f.__struct_fields__} for f in report.findings],
    }
    out.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "sheets": [')
    for number, sheet in enumerate(report.sheets):
        about = {"id": sheet.id, "title": sheet.title, "note": sheet.note}
        out.write(("," if number else "") + "\n" + json.dumps(about, ensure_ascii=False)[:-1] + ', "rows": [')
        names = _distinct(sheet)
        for n, row in enumerate(sheet.rows()):
            cells = dict(zip(names, row, strict=True))
            out.write(("," if n else "") + "\n" + json.dumps(cells, ensure_ascii=False))
        out.write("]}")
    out.write("\n]}\n")


def _distinct(sheet: Sheet) -> list[str]:
    names = [column.id for column in sheet.columns]
    assert len(set(names)) == len(names), f"two columns of {sheet.id} have one name"
    return names
