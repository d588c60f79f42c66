"""Reports on a running gateway: real requests over HTTP, a real refusal, and the command beside it."""

from __future__ import annotations

import json
from pathlib import Path

from test_evidence_reports import table
from world import World, chat, config, deployment

from allod.receipts.verify import verify


def test_a_running_gateway_is_reported_on_and_what_it_served_verifies(tmp_path: Path) -> None:
    text = config([deployment("near", "answer"), deployment("far", "echo", lawful=False)])
    world = World(tmp_path / "home", text)
    with world.up("ward", "press") as gateway:
        near = gateway.chat(
            {"model": "near", "messages": [{"role": "user", "content": "a"}]}, app="ward"
        ).receipt
        far = gateway.chat(
            {"model": "far", "messages": [{"role": "user", "content": "b"}]}, app="press"
        ).receipt
        no = gateway.chat(chat("far"), app="ward")
        assert no.status == 403
        for receipt, app in ((near, "ward"), (far, "press"), (no.receipt, "ward")):
            gateway.receipt(receipt, app=app)
        log = tmp_path / "log"
        done = world.allod("report", "ai-act-log", "--out", str(log), "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["figures"]["Requests"] == "3 (2 answered, 1 refused)"
        exposure = world.allod("report", "exposure", "--out", str(tmp_path / "exposure"))
        assert exposure.returncode == 0, exposure.stderr
    rows = {row["receipt"]: row for row in table(log / "ai-act-log.csv")}
    assert set(rows) == {near, far, no.receipt}
    assert "far: residency.4-audit" in rows[no.receipt]["excluded"]
    assert rows[far]["operator"] == "us-cloud"
    vkey = (log / "log.vkey").read_text().strip()
    assert all(verify((log / f"receipts/{receipt}.json").read_bytes(), vkey).ok for receipt in rows)
    seen = {(row["operator"], row["statute"], row["classes"]): row["requests"] for row in
            table(tmp_path / "exposure/exposure.csv")}  # fmt: skip
    assert seen["us-cloud", "US-CLOUD-ACT", "public"] == "1"
    assert ("us-cloud", "US-CLOUD-ACT", "phi") not in seen
