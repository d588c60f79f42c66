"""What a solved task costs: every attempt, step and audit is charged, once, to the request it served."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import Inside, Region, World, chat, config, deployment

from allod.domain.fleet import CapabilityEvidence
from allod.domain.usage import LedgerRow, Usage
from allod.gateway.cascade import Cascade, Step
from allod.gateway.config import parse
from allod.gateway.costs import NOBODY, Costs, Leaf, in_order
from allod.store.costs import Settled

TODAY = date(2026, 11, 26)
BOTH = [deployment("base", "echo"), deployment("strong", "answer")]
FLEET = parse(config(BOTH, tasks=[{"name": "t"}])).fleet
"""Both are declared to be right in 0.9 of all cases."""


def row(receipt: str, cost: str, name: str = "base", attempt: int = 1, **more: Any) -> LedgerRow:
    values: dict[str, Any] = {
        "app": "a", "task": "t", "started_at_ms": 1, "status": "answered", "basis": "reported",
        "price_digest": "p", "usage": Usage(input_tokens=10, cache_read_tokens=4, reasoning_tokens=2), **more,
    }  # fmt: skip
    return LedgerRow(receipt=receipt, attempt=attempt, deployment=name, cost_usd=Decimal(cost), **values)


def request(receipt: str, *rows: LedgerRow, status: str = "answered", index: int | None = None) -> Settled:
    return Settled(receipt, "a", int(receipt[1:]), status, index, rows)


def add_up(requests: list[Settled], leaves: dict[int, Leaf] | None = None, task: str | None = None) -> Costs:
    costs = Costs((leaves or {}).get, task)
    for one in sorted(requests, key=in_order):
        costs.add(one)
    return costs


def test_retries_and_failures_are_paid_by_the_solved() -> None:
    failed = row("r1", "0.03", "strong", status="failed")
    found = add_up(
        [
            request("r1", failed, row("r1", "0.01", attempt=2)),
            request("r2", row("r2", "0.01")),
            request("r3", row("r3", "0.02", status="failed"), status="failed"),
            request("r4", status="refused"),
        ]
    ).rows(FLEET, TODAY)
    base = next(one for one in found if one.deployment == "base")
    assert (base.sums.requests, base.sums.answered, base.sums.attempts) == (3, 2, 4)
    assert base.sums.cost_usd == Decimal("0.07")
    assert (base.sums.retried_usd, base.sums.failed_usd) == (Decimal("0.03"), Decimal("0.02"))
    assert base.solved_usd == pytest.approx(Decimal("0.07") / 2 / Decimal("0.9"))
    assert base.basis == "declared"
    assert (base.solved_low_usd, base.solved_high_usd) == (None, None), "a declared figure bounds nothing"
    assert (base.sums.input_tokens, base.sums.cached_tokens, base.sums.reasoning_tokens) == (40, 16, 8)
    assert next(one for one in found if one.deployment == NOBODY).sums.refused == 1


def test_steps_and_audits_are_charged_to_the_request_they_served() -> None:
    steps = (("r2", "base", "answered", "0.01"), ("r3", "escalation", "answered", "0.05"))
    leaves = {
        1: Leaf(task="t", deployment="strong", answer_from="r3", steps=steps),
        9: Leaf(task="t", deployment="base", parents=("r1",), step="audit"),
        8: Leaf(task="t", deployment="base", parents=("r1",)),
    }
    requests = [
        request("r1", index=1),
        request("r2", row("r2", "0.01"), index=2),
        request("r3", row("r3", "0.05", "strong"), index=3),
        request("r9", row("r9", "0.02"), index=9),  # an audit after the end
        request("r8", row("r8", "0.01"), index=8),  # a request of its own, which stems from that
    ]
    found = {one.deployment: one for one in add_up(requests, leaves).rows(FLEET, TODAY)}
    strong = found["strong"].sums
    assert (strong.requests, strong.answered, strong.attempts) == (1, 1, 3)
    assert (strong.cost_usd, strong.steps_usd) == (Decimal("0.08"), Decimal("0.03"))
    assert (found["base"].sums.requests, found["base"].sums.cost_usd) == (1, Decimal("0.01"))
    # a step that began in the very millisecond of its request, and sorts before it
    odd = [msgspec.structs.replace(one, at_ms=5) for one in reversed(requests[:3])]
    assert {o.deployment: o.sums.cost_usd for o in add_up(odd, leaves).rows(FLEET, TODAY)} == {
        "strong": Decimal("0.06")
    }
    assert add_up(requests, leaves, task="other").sums == {}


def test_what_is_measured_bounds_the_cost() -> None:
    known = CapabilityEvidence(
        value=Decimal("0.8"), low=Decimal("0.7"), high=Decimal("0.9"), basis="measured", cases=Decimal(50)
    )
    base = msgspec.structs.replace(FLEET.deployments["base"], capability={"t": (known,)})
    fleet = msgspec.structs.replace(FLEET, deployments={**FLEET.deployments, "base": base})
    one = add_up([request(f"r{n}", row(f"r{n}", "0.01")) for n in range(1, 101)]).rows(fleet, TODAY)[0]
    assert (one.basis, one.cases) == ("measured", "50")
    assert one.solved_usd == Decimal("0.0125")
    assert one.solved_low_usd == pytest.approx(Decimal("0.01") / Decimal("0.9"), abs=Decimal("1e-6"))
    assert one.solved_high_usd == pytest.approx(Decimal("0.01") / Decimal("0.7"), abs=Decimal("1e-6"))
    dear = [request(f"r{n}", row(f"r{n}", "0.10" if n % 10 == 0 else "0")) for n in range(1, 101)]
    spread = add_up(dear).rows(fleet, TODAY)[0]
    assert spread.solved_usd == one.solved_usd
    assert spread.solved_low_usd is not None
    assert one.solved_low_usd is not None
    assert spread.solved_low_usd < one.solved_low_usd, "costs that differ are known less well"


@given(st.lists(st.tuples(st.integers(0, 3), st.decimals(0, 1, places=6), st.booleans()), max_size=30))
def test_I4_every_attempt_is_charged_exactly_once(drawn: list[tuple[int, Decimal, bool]]) -> None:
    requests, leaves, paid, n = list[Settled](), dict[int, Leaf](), Decimal(0), 0
    for steps, cost, answered in drawn:
        n += 1
        whole, status = f"r{n}", "answered" if answered else "failed"
        if steps == 0:
            requests.append(request(whole, row(whole, f"{cost:f}", status=status), status=status, index=n))
            leaves[n], paid = Leaf(task="t", deployment="base"), paid + cost
            continue
        names = [f"r{n + k}" for k in range(1, steps + 1)]
        requests.append(request(whole, status=status, index=n))
        leaves[n] = Leaf(
            task="t", deployment="base", answer_from=names[-1],
            steps=tuple((name, "base", status, "0") for name in names),
        )  # fmt: skip
        for name in names:
            n += 1
            requests.append(request(name, row(name, f"{cost:f}", status=status), status=status, index=n))
            leaves[n], paid = Leaf(task="t", deployment="base", parents=(whole,)), paid + cost
    sums = add_up(requests, leaves).sums.values()
    assert sum((one.cost_usd for one in sums), Decimal(0)) == paid
    assert sum(one.requests for one in sums) == len(drawn)


@pytest.fixture
def region() -> Iterator[Region]:
    with Region() as one:
        yield one


async def _escalate(cascade: Cascade) -> Step:
    base = await cascade.step("base", "base")
    return await cascade.step("escalation", "strong", stems_from=[base])


def test_the_command_adds_up_the_ledger_of_a_running_gateway(tmp_path: Path, region: Region) -> None:
    quick = {"retries": 1, "timeout_ms": 2000}
    fleet = [
        deployment("base", "echo"),
        deployment("strong", "answer"),
        deployment("bad", "http-500", base_url=region.url, **quick),
    ]
    tasks = [{"name": "listed", "deployments": ["bad", "base"]}, {"name": "stepped"}]
    world = World(tmp_path / "home", config(fleet, tasks=tasks))
    world.key("ward")
    with Inside(world) as inside:
        for _ in range(3):
            assert inside.chat(chat("base", "say something"), app="ward").status == 200
        assert inside.chat(chat("listed", "say something"), app="ward").status == 200
        inside.gateway.strategy_for = lambda ask: _escalate if ask.admitted.task == "stepped" else None
        for _ in range(2):
            assert inside.chat(chat("stepped", "say something"), app="ward").status == 200
        inside.gateway.store.flush()
        done = world.here("models", "cost", "--json")
        assert done.returncode == 0, done
        found = {(r["task"], r["deployment"]): r for r in json.loads(done.stdout)["rows"]}
        assert set(found) == {("default", "base"), ("listed", "base"), ("stepped", "strong")}
        assert (found["default", "base"]["requests"], found["default", "base"]["attempts"]) == (3, 3)
        assert found["listed", "base"]["attempts"] == 3, "two at bad, one at base"
        stepped = found["stepped", "strong"]
        assert (stepped["requests"], stepped["attempts"]) == (2, 4)
        assert Decimal(stepped["steps_usd"]) > 0
        with contextlib.closing(world.tables()) as tables:
            assert sum((Decimal(r["cost_usd"]) for r in found.values()), Decimal(0)) == tables.spent()
        text = world.here("models", "cost", "--task", "stepped", "--since", "1h").stdout
        assert "stepped at strong: success 0.9, declared; 4 attempts" in text
        assert "default" not in text
