"""What a duty says is shown by a report is in that report: the export exists, and so does each column."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from evidence_world import Bank, busy

from allod.evidence.kinds import NAMES
from allod.gateway.packs import Found, find

HOUSES = Path(__file__).parents[2] / "examples" / "organisations"


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Names of tables and columns by report, read from the files themselves."""
    root = tmp_path_factory.mktemp("duties")
    bank = Bank(root / "home")
    busy(bank)
    out: dict[str, set[str]] = {}
    for kind in NAMES:
        more = ["--subject", "patient-1"] if kind == "subject" else []
        assert bank.run("report", kind, "--out", str(root / kind), *more).exit_code == 0
        out[kind] = set()
        for path in (root / kind).rglob("*.csv"):
            rows = csv.reader(io.StringIO(path.read_text()))
            head = next(row for row in rows if row and not row[0].startswith("#"))
            out[kind] |= {path.stem, path.stem.upper(), *head}
    return out


def test_each_duty_shown_by_a_report_names_a_table_or_column_of_it(known: dict[str, set[str]]) -> None:
    packs = find(
        *(
            Found(id=f"house-{p.name}", origin="home", folder=p / "pack")
            for p in HOUSES.iterdir()
            if p.is_dir()
        )
    )
    wrong = []
    shown = 0
    for pack in packs.all():
        for duty in pack.obligations:
            if duty.mode != "evidence":
                continue
            shown += 1
            assert duty.export in NAMES, (pack.id, duty.article)
            for name in duty.column.replace(" to ", ", ").split(", "):
                table, _, column = name.rpartition(" ")
                if not {table or column, column} <= known[duty.export]:
                    wrong.append((pack.id, duty.article, duty.export, name))
    assert wrong == []
    assert shown > 30
