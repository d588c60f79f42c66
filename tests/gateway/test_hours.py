"""Prices by the hour, for what somebody waits for: the cheapest lawful region now, the price at dispatch."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from world import Inside, Trap, World, chat, config, deployment, until

from gateway.queues import FLAT


def test_the_cheapest_lawful_region_at_this_hour_answers(tmp_path: Path) -> None:
    """Two regions of one model inside, one outside that is cheaper than both: the hour decides inside."""
    now = datetime.now(UTC)
    hours = {"from": f"{now - timedelta(hours=1):%H:%M}", "until": f"{now + timedelta(hours=1):%H:%M}"}
    with Trap() as trap:
        fleet = [
            deployment("far", "answer", lawful=False, base_url=trap.url, price={**FLAT, "factor": 0.1}),
            deployment("paris", "answer", price={**FLAT, "factor": 0.8}),
            deployment("dublin", "answer", price={**FLAT, "windows": [{**hours, "factor": 0.5}]}),
        ]
        world = World(tmp_path / "home", config(fleet, tenant={"objective": "cheapest"}))
        world.key("ward")
        with Inside(world) as gateway:
            answer = gateway.chat(chat("answer"), app="ward")
            assert answer.headers["allod-deployment"] == "dublin"
            (row,) = until(lambda: world.rows(answer.receipt))
            rates = {"input": Decimal("0.5"), "output": Decimal(1)}
            usage = row.usage
            due = usage.input_tokens * rates["input"] + usage.output_tokens * rates["output"]
            assert row.cost_usd == due / 10**6
        assert trap.touched == 0


def test_a_price_that_changes_while_it_is_answered_is_charged_as_it_was_at_dispatch(tmp_path: Path) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=3)
    price = {**FLAT, "changes": [{"since": soon, "input_usd_mtok": 100, "output_usd_mtok": 100}]}
    world = World(tmp_path / "home", config([deployment("near", "slow-1500", price=price)]))
    world.key("press")
    with Inside(world) as gateway:
        time.sleep(max(0.0, (soon - datetime.now(UTC)).total_seconds() - 0.7))
        assert datetime.now(UTC) < soon
        before = gateway.chat(chat("near"))
        assert datetime.now(UTC) > soon
        after = gateway.chat(chat("near"))
    cost = [Decimal(one.headers["allod-cost"]) for one in (before, after)]
    rows_of = [world.rows(one.receipt)[0] for one in (before, after)]
    assert cost == [row.cost_usd for row in rows_of]
    assert cost[0] * 50 < cost[1]
    assert rows_of[0].price_digest != rows_of[1].price_digest
