"""``allod log rebuild`` and ``allod receipt erase``: lost tables come back, erased salts do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from allod.receipts.commitment import pseudonym
from allod.receipts.ids import new_id
from allod.receipts.leaves import IntentFacts, TerminalFacts
from allod.store.database import Database
from allod.store.home import load_keys, make_home
from allod.store.store import Store

EXAMPLE = Path(__file__).parents[2] / "examples/hospital/allod.toml"
SALTS = (b"a" * 32, b"b" * 32)


def _allod(home: Path, *words: str) -> tuple[int, dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-m", "allod", *words, "--json"],
        env={**os.environ, "ALLOD_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


def _home_with_one_refusal(root: Path) -> str:
    home = make_home(root)
    (root / "allod.toml").write_text(EXAMPLE.read_text())
    keys = load_keys(home)
    store = Store.open(home)
    receipt = new_id(keys.origin, 1_764_100_000_000, b"0123456789")
    facts = IntentFacts(
        id=receipt,
        at_ms=1_764_100_000_000,
        tenant=pseudonym(keys.secret, "tenant", "st-elisabeth"),
        app=pseudonym(keys.secret, "app", "triage"),
        surface="chat",
        request="sha256:" + "1" * 64,
        classes=("personal",),
        pack="sha256:" + "2" * 64,
        fleet="sha256:" + "3" * 64,
        decision="sha256:" + "4" * 64,
    )
    store.append_intent(facts, app="triage", salts=SALTS)
    store.append_terminal(TerminalFacts(id=receipt, at_ms=1_764_100_000_001, status="refused"))
    assert store.flush()
    store.close()
    return receipt


def test_lost_tables_are_rebuilt_from_the_log_and_the_log_says_so(tmp_path: Path) -> None:
    receipt = _home_with_one_refusal(tmp_path)
    for file in tmp_path.glob("allod.sqlite*"):
        file.unlink()
    code, result = _allod(tmp_path, "log", "verify")
    assert code == 3, "tables that are gone must not pass"
    assert result["ok"] is False
    code, result = _allod(tmp_path, "log", "rebuild")
    assert (code, result["requests"]) == (0, 1)
    code, listed = _allod(tmp_path, "receipt", "list")
    assert [(r["id"], r["app"], r["status"]) for r in listed["receipts"]] == [(receipt, "triage", "refused")]  # type: ignore[index,attr-defined]
    assert _allod(tmp_path, "log", "verify")[0] == 0


def test_I9_erasing_a_receipt_deletes_its_salts_and_keeps_its_proof(tmp_path: Path) -> None:
    receipt = _home_with_one_refusal(tmp_path)
    code, result = _allod(tmp_path, "receipt", "erase", receipt)
    assert (code, result) == (0, {"id": receipt, "erased": True, "steps": []})
    database = Database.lite_file(tmp_path / "allod.sqlite")
    row = database.request(receipt)
    database.close()
    assert row is not None
    assert row.request_salt is None
    assert row.response_salt is None
    code, verified = _allod(tmp_path, "receipt", "show", receipt)
    assert (code, verified["status"]) == (0, "refused")
