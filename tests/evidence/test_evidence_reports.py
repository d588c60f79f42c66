"""Every report on a bank's week: whole folders, figures out of the log, receipts that verify offline."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from evidence_world import AT, Bank, busy

from allod.domain.errors import Integrity, Invalid, Unavailable
from allod.evidence.kinds import KINDS, NAMES
from allod.gateway.cli import report as command
from allod.receipts.verify import verify


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    bank = Bank(tmp_path_factory.mktemp("bank") / "home")
    bank.receipts = busy(bank)  # type: ignore[attr-defined]
    return bank


def table(path: Path) -> list[dict[str, str]]:
    text = path.read_bytes().decode()
    lines = [line for line in csv.reader(io.StringIO(text)) if line and not line[0].startswith("#")]
    return [dict(zip(lines[0], row, strict=True)) for row in lines[1:]]


def made(bank: Bank, kind: str, out: Path, *args: str) -> Path:
    result = bank.run("report", kind, "--out", str(out), *args)
    assert result.exit_code == 0, (result.output, result.exception)
    return out


def test_the_command_names_the_reports_there_are() -> None:
    assert command.KINDS == NAMES


@pytest.mark.parametrize("kind", NAMES)
def test_a_folder_is_whole_says_what_it_cannot_know_and_verifies_offline(
    bank: Bank, tmp_path: Path, kind: str
) -> None:
    folder = made(bank, kind, tmp_path / "out", *(["--subject", "patient-1"] if kind == "subject" else []))
    sums = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {"SHA256SUMS"}
    assert files == set(sums)
    for name, digest in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    lead = (folder / f"{kind}.csv").read_text()
    page = (folder / "report.html").read_text()
    data = json.loads((folder / "report.json").read_text())
    assert "it cannot know" in lead
    assert "What this report cannot know" in page
    assert data["cannot_know"]
    assert data["log"]["checkpoint"] == (folder / "checkpoint").read_text()
    assert data["log"]["root"] in lead
    rows = table(folder / f"{kind}.csv")
    assert rows
    assert rows == data["sheets"][0]["rows"]
    vkey = (folder / "log.vkey").read_text().strip()
    for file in (folder / "receipts").glob("*.json"):
        assert verify(file.read_bytes(), vkey).ok, file
    assert folder.stat().st_mode & 0o077 == 0
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".new")]


@pytest.mark.parametrize(
    "kind", ["dora-roi", "gdpr-art30", "gdpr-transfers", "model-inventory", "seal-dossier", "exposure"]
)
def test_every_figure_is_traced_to_as_many_receipts(bank: Bank, tmp_path: Path, kind: str) -> None:
    folder = made(bank, kind, tmp_path / "out")
    behind: dict[str, list[str]] = {}
    for line in table(folder / "receipts.csv"):
        if line["table"] == kind:
            behind.setdefault(line["row"], []).append(line["receipt"])
    rows = table(folder / f"{kind}.csv")
    assert any(row["requests"] not in {"", "0"} for row in rows)
    for row in rows:
        receipts = behind.get(row["row"], [])
        assert len(receipts) == int(row["requests"] or 0), row
        assert not receipts or (row["first_receipt"], row["last_receipt"]) == (min(receipts), max(receipts))
    assert set(behind) <= {row["row"] for row in rows}


def test_art_30_rows_are_what_really_went_where(bank: Bank, tmp_path: Path) -> None:
    folder = made(bank, "gdpr-art30", tmp_path / "out")
    rows = table(folder / "gdpr-art30.csv")
    own = next(r for r in rows if r["purpose"] == "treatment" and r["from"] == "log")
    assert (own["recipient"], own["own"], own["transfers"], own["safeguard"]) == ("self", "yes", "", "")
    assert own["subjects"] == "patients"
    abroad = next(r for r in rows if r["purpose"] == "research")
    assert abroad["recipient"] == "us-cloud"
    assert abroad["transfers"] == "US"
    assert abroad["safeguard"] == "Art 46(2)(c): standard contractual clauses"
    assert abroad["retention_days"] == "30"
    assert any(r["recipient"].startswith("nobody") and r["requests"] == "1" for r in rows)
    assert any(r["recipient"] == "unknown (old-region)" for r in rows)
    assert any(r["from"].startswith("declared") and r["app"] == "MRI with image triage" for r in rows)
    assert not any(r["app"] == "press" for r in rows), (
        "a request of no personal class is no processing of personal data"
    )
    gaps = table(folder / "gaps.csv")
    assert {"activity research"} <= {gap["where"] for gap in gaps}


def test_transfers_name_the_instrument_or_leave_it_empty_and_say_so(bank: Bank, tmp_path: Path) -> None:
    folder = made(bank, "gdpr-transfers", tmp_path / "out")
    rows = table(folder / "gdpr-transfers.csv")
    frankfurt = [r for r in rows if r["deployment"] == "frankfurt" and r["how"] == "at rest"]
    assert {r["grade"] for r in frankfurt} == {"contract"}
    assert sum(int(r["requests"]) for r in frankfurt) == 7
    pune = [r for r in rows if r["deployment"] == "pune"]
    assert {(r["country"], r["how"], r["instrument"]) for r in pune} >= {
        ("IN", "processing", ""), ("unknown", "transit", ""),
    }  # fmt: skip
    assert {gap["where"] for gap in table(folder / "gaps.csv")} >= {"pune in IN", "mri-7 in US"}
    assert not [r for r in rows if r["deployment"] == "ward-llm"]


def test_one_use_over_a_period_is_an_extract_with_all_its_receipts(bank: Bank, tmp_path: Path) -> None:
    folder = made(bank, "ai-act-log", tmp_path / "out", "--app", "credit")
    rows = table(folder / "ai-act-log.csv")
    assert len(rows) == 8
    assert {row["app"] for row in rows} == {"credit"}
    assert {p.stem for p in (folder / "receipts").glob("*.json")} == {row["receipt"] for row in rows}
    refused = next(row for row in rows if row["status"] == "refused")
    assert refused["excluded"] == "frankfurt: residency.5-operator"
    assert {row["fact"] for row in table(folder / "oversight.csv")} == {
        "attestation human-oversight",
        "risk level",
    }
    first = made(bank, "ai-act-log", tmp_path / "day", "--app", "credit", "--since",
                 "2025-11-25T19:35:05Z", "--until",                 "2025-11-25T19:35:07Z")  # fmt: skip
    assert [row["status"] for row in table(first / "ai-act-log.csv")] == ["refused"]


def test_hipaa_lists_every_recipient_outside_and_only_health_information(bank: Bank, tmp_path: Path) -> None:
    folder = made(bank, "hipaa-disclosures", tmp_path / "out")
    rows = table(folder / "hipaa-disclosures.csv")
    assert [(r["receipt"], r["recipient"], r["baa"], r["exempt"]) for r in rows] == [
        (bank.receipts["abroad"], "us-cloud (frankfurt)", "no", "no")  # type: ignore[attr-defined]
    ]
    assert [r["system"] for r in table(folder / "declared.csv")] == ["MRI with image triage"]
    assert any("164.504(e)" in f["rule"] for f in table(folder / "findings.csv"))
    none = made(bank, "hipaa-disclosures", tmp_path / "patient-2", "--subject", "patient-2")
    assert table(none / "hipaa-disclosures.csv") == []


def test_exposure_says_who_can_be_compelled_who_cannot_and_who_is_not_known(
    bank: Bank, tmp_path: Path
) -> None:
    rows = table(made(bank, "exposure", tmp_path / "out") / "exposure.csv")
    by = {(r["operator"], r["statute"], r["classes"]): r for r in rows}
    assert by["us-cloud", "US-CLOUD-ACT", "phi"]["requests"] == "1"
    assert by["us-cloud", "US-FISA-702", "personal"]["requests"] == "7"
    assert by["self", "none (known not to be compellable)", "phi"]["requests"] == "1"
    assert by["mystery", "unknown", "personal"]["requests"] == "1"
    assert by["Scanner SA", "US-CLOUD-ACT", "phi"]["deployments"] == "MRI with image triage"


def test_the_inventory_has_what_runs_what_ran_and_what_was_declared(bank: Bank, tmp_path: Path) -> None:
    folder = made(bank, "model-inventory", tmp_path / "out")
    rows = {r["deployment"]: r for r in table(folder / "model-inventory.csv")}
    assert rows["ward-llm"]["owner"] == "Dr. Kaya"
    assert rows["ward-llm"]["answered"] == "1"
    assert rows["pune"]["failed"] == "1"
    assert rows["old-region"]["from"] == "log, not configured any more"
    assert rows["mri-7"]["model"] == "triage-net 3"
    assert "inventory frankfurt" in {gap["where"] for gap in table(folder / "gaps.csv")}


def test_the_dossier_scores_exactly_and_names_what_is_missing(bank: Bank, tmp_path: Path) -> None:
    folder = made(bank, "seal-dossier", tmp_path / "out")
    rows = {r["deployment"]: r for r in table(folder / "seal-dossier.csv")}
    assert rows["ward-llm"]["score"] == "3.55"
    assert rows["ward-llm"]["gaps"] == "SOV-8 2 of 3"
    assert rows["frankfurt"]["sov1"] == "unknown"
    facts = {(r["id"], r["fact"]): r for r in table(folder / "facts.csv")}
    assert facts["us-cloud", "seat"]["grade"] == "attested"
    assert facts["pune", "transit"]["value"] == "unknown"


def test_a_report_can_be_made_while_the_log_grows_and_speaks_of_one_checkpoint(tmp_path: Path) -> None:
    bank = Bank(tmp_path / "home")
    with bank.store() as store:
        for _ in range(600):
            bank.ask(store, "credit")
        open_one = bank.ask(store, "credit", ends=False)
        store.flush()
        bank.run("report", "exposure", "--format", "csv")  # makes nothing wrong
        while int((bank.home.checkpoint.read_text()).splitlines()[1]) < 1201:
            pass
        made(bank, "ai-act-log", tmp_path / "out")
        data = json.loads((tmp_path / "out/report.json").read_text())
        assert data["figures"]["Requests"] == "600 (600 answered)"
        assert data["figures"]["Not ended at the checkpoint"] == "1"
        assert data["log"]["size"] == 1201
        assert open_one not in (tmp_path / "out/ai-act-log.csv").read_text()


def test_a_leaf_that_was_changed_fails_the_report(tmp_path: Path) -> None:
    bank = Bank(tmp_path / "home")
    busy(bank)
    entries = bank.home.log / "entries"
    data = entries.read_bytes()
    entries.write_bytes(data.replace(b'"purpose":"scoring"', b'"purpose":"scorinG"', 1))
    result = bank.run("report", "gdpr-art30", "--out", str(tmp_path / "out"))
    assert isinstance(result.exception, Integrity)
    assert "not those that were signed" in result.exception.what
    assert not (tmp_path / "out").exists()


def test_nothing_is_left_of_a_report_that_could_not_be_written(bank: Bank, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/old.csv").write_text("x")
    result = bank.run("report", "exposure", "--out", str(tmp_path / "full"))
    assert isinstance(result.exception, Invalid)
    result = bank.run("report", "exposure", "--out", str(tmp_path / "file/below"))
    assert isinstance(result.exception, Unavailable)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "full", "old.csv"]


def test_one_file_of_one_format(bank: Bank, tmp_path: Path) -> None:
    page = tmp_path / "exposure.html"
    assert bank.run("report", "exposure", "--out", str(page)).exit_code == 0
    assert page.read_text().startswith("<!DOCTYPE html>")
    facts = bank.run("report", "exposure", "--format", "csv", "--sheet", "facts")
    assert "us-cloud" in facts.output
    assert json.loads(bank.run("report", "exposure", "--json").output)["kind"] == "exposure"
    assert "REJECTS 805" in bank.run("report", "dora-roi").output
    for bad in (
        ["--since", "yesterday"],
        ["--app", "nobody"],
        ["--subject", "x"],
        ["--erase"],
        ["--since", "2025-01-01T00:00"],
    ):
        assert isinstance(bank.run("report", "exposure", *bad).exception, Invalid), bad
    assert isinstance(bank.run("report", "subject").exception, Invalid)


def test_the_same_world_makes_the_same_report(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "now_ms", lambda: AT + 10**9)
    for kind in KINDS:
        one, two = made(bank, kind, tmp_path / f"{kind}1"), made(bank, kind, tmp_path / f"{kind}2")
        assert (one / "SHA256SUMS").read_bytes() == (two / "SHA256SUMS").read_bytes()


def test_an_empty_log_gives_empty_tables_and_no_home_says_so(tmp_path: Path) -> None:
    bank = Bank(tmp_path / "home")
    assert isinstance(bank.run("report", "exposure").exception, Unavailable)
    with bank.store():
        pass
    for kind in KINDS:
        folder = made(bank, kind, tmp_path / kind)
        rows: list[dict[str, Any]] = table(folder / f"{kind}.csv")
        assert all(row.get("requests", "") in {"", "0"} for row in rows)
