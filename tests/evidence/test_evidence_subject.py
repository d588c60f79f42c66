"""One person: found, explained, exported, erased; with the gateway at rest and at work."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from evidence_world import Bank, busy
from test_evidence_reports import made, table

from allod.store.audit import verify_home
from allod.store.database import Database
from allod.store.extract import Extract


def test_decisions_about_a_person_are_exported_and_erased_and_every_proof_stays(tmp_path: Path) -> None:
    bank = Bank(tmp_path / "home")
    receipts = busy(bank)
    folder = made(bank, "subject", tmp_path / "before", "--subject", "patient-1")
    rows = table(folder / "subject.csv")
    assert [row["receipt"] for row in rows] == [receipts["own"], receipts["abroad"]]
    assert [row["recipients"] for row in rows] == ["self, ward-llm, DE", "us-cloud, frankfurt, DE"]
    assert {row["erased"] for row in rows} == {"no"}
    assert {p.stem for p in (folder / "receipts").iterdir()} == {receipts["own"], receipts["abroad"]}
    result = bank.run(
        "report", "subject", "--subject", "patient-1", "--erase", "--json", "--out", str(tmp_path / "last")
    )
    said = json.loads(result.output[result.output.index('{\n "erased"') :])
    assert said == {"erased": True, "requests": 2, "notice": True}
    assert len(table(tmp_path / "last/subject.csv")) == 2
    after = made(bank, "subject", tmp_path / "after", "--subject", "patient-1")
    assert table(after / "subject.csv") == []
    assert "it was erased" in (after / "gaps.csv").read_text()
    assert (
        len(table(made(bank, "subject", tmp_path / "other", "--subject", "patient-2") / "subject.csv")) == 1
    )
    again = json.loads(bank.run("report", "subject", "--subject", "patient-1", "--erase", "--json").output)
    assert again == {"erased": False, "requests": 0, "notice": False}
    with contextlib.closing(Database.lite_file(bank.home.database)) as tables:
        row = tables.request(receipts["own"])
        assert row is not None
        assert (row.request_salt, row.response_salt, row.subject) == (None, None, None)
    with contextlib.closing(Extract(bank.home)) as extract:
        last = json.loads(extract.reader.leaf(extract.size - 1))
        assert (last["kind"], last["subject"], last["facts"]) == (
            "notice",
            "subject-erased",
            {"requests": "2"},
        )
    assert verify_home(bank.home).ok
    assert b"patient-1" not in (bank.home.log / "entries").read_bytes()


def test_erasing_while_the_log_is_written_needs_no_lock(tmp_path: Path) -> None:
    bank = Bank(tmp_path / "home")
    with bank.store() as store:
        early = bank.ask(store, "ward", classes=("phi",), subject="patient-1")
        store.flush()
        result = bank.run("report", "subject", "--subject", "patient-1", "--erase", "--json")
        assert json.loads(result.output) == {"erased": True, "requests": 1, "notice": False}
        late = bank.ask(store, "ward", classes=("phi",), subject="patient-1")
    rows = table(made(bank, "subject", tmp_path / "out", "--subject", "patient-1") / "subject.csv")
    assert [row["receipt"] for row in rows] == [late]
    assert early != late
    assert verify_home(bank.home).ok
