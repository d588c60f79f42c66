"""What a gateway tells of itself, and to whom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from world import Inside, World, call, chat, config, deployment, until

FLEET = [deployment("d", "echo"), deployment("abroad", "answer", lawful=False)]
LINE = re.compile(r'[a-z_]+(\{([a-z_]+="(\\.|[^"\\])*",?)*\})? -?[0-9.e+-]+')


@pytest.fixture
def inside(tmp_path: Path) -> object:
    world = World(tmp_path / "home", config(FLEET, tasks=[{"name": "t"}], server={"operators": ["press"]}))
    world.key("ward")
    world.key("press")
    with Inside(world) as one:
        yield one


def series(inside: Inside) -> dict[str, float]:
    text = inside.call("/metrics", app=None).body.decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(LINE.fullmatch(line) for line in lines), [ln for ln in lines if not LINE.fullmatch(ln)]
    assert len(lines) == len({line.rsplit(" ", 1)[0] for line in lines}), "no series comes twice"
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_requests_are_counted_by_how_they_ended(inside: Inside) -> None:
    for _ in range(3):
        assert inside.chat(chat("t", "hello there you"), app="press").status == 200
    assert inside.chat(chat("d", stream=True), app="ward").status == 200
    assert inside.chat(chat("abroad"), app="ward").status == 403
    found = series(inside)
    at = 'app="press",task="t",deployment="d"'
    assert found[f'allod_requests_total{{{at},status="answered"}}'] == 3
    assert found['allod_requests_total{app="ward",task="",deployment="",status="refused"}'] == 1
    rows = inside.world.rows
    inside.gateway.store.flush()
    paid = sum(row.cost_usd for row in rows() if row.app == "press")
    assert found[f'allod_cost_usd_total{{{at},status="answered",operation="chat"}}'] == pytest.approx(
        float(paid)
    )
    tokens = sum(row.usage.total_input_tokens for row in rows() if row.app == "press")
    assert found[f'allod_tokens_total{{{at},status="answered",operation="chat",kind="input"}}'] == tokens
    name = 'gen_ai_operation_name="chat",gen_ai_provider_name="scripted",gen_ai_request_model="echo"'
    name += ',deployment="d"'
    assert found[f"gen_ai_client_operation_duration_seconds_count{{{name}}}"] == 4
    assert found[f'gen_ai_client_token_usage_count{{{name},gen_ai_token_type="input"}}'] == 4
    assert found['allod_breaker_open{deployment="d"}'] == 0
    until(lambda: series(inside)["allod_log_leaves"] >= 11)
    assert found["allod_log_ready"] == 1


def test_metrics_are_for_this_machine_and_for_operators(inside: Inside) -> None:
    assert inside.call("/metrics", app=None).status == 200
    for header in ("x-forwarded-for", "forwarded", "via", "x-real-ip"):
        relayed = {header: "for=10.1.2.3"}
        assert inside.call("/metrics", app=None, headers=relayed).status == 401
        assert inside.call("/metrics", app="ward", headers=relayed).status == 401, "no operator's key"
        assert inside.call("/metrics", app="press", headers=relayed).status == 200
    assert call(inside.port, "/metrics", b"{}", method="POST").status == 405


def test_labels_cannot_break_out_of_a_line() -> None:
    from allod.gateway.counting import _labels

    assert _labels({"a": 'x"} 1\nb{c="\\'}) == '{a="x\\"} 1\\nb{c=\\"\\\\"}'


def test_a_fault_in_counting_leaves_the_answer_alone(inside: Inside) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    inside.gateway.counters.request = broken
    answer = inside.chat(chat("d"), app="ward")
    assert answer.status == 200
    inside.gateway.store.flush()
    row = inside.world.request_row(answer.receipt)
    assert row is not None
    assert row.status == "answered"
