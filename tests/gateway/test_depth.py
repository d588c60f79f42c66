"""Depth through a real gateway: evaluated, chosen, capped, billed, shown, explained and replayed."""

from __future__ import annotations

import contextlib
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from world import APPS, Gateway, World, chat, config, deployment

from allod.domain.errors import Invalid
from allod.domain.fleet import EFFORTS
from allod.gateway.compose import read_config
from allod.metering.settle import THINKING_ESTIMATED
from allod.routing.record import holds, read_record

PRICE = {"input_usd_mtok": 1, "output_usd_mtok": 5}
NEEDS = ("none", "low", "medium", "medium")
QUESTION = "Reply with {n}. This needs {need} depth."
CASES = [
    {"prompt": QUESTION.format(n=n, need=NEEDS[n % 4]), "expected": str(n), "task": "sums"} for n in range(24)
]
FLEET = (
    deployment("thinker", "think-100", price=PRICE),
    deployment("secret", "think-hidden-100", price={"input_usd_mtok": 2, "output_usd_mtok": 6}),
)
TASKS = (
    {"name": "sums", "effort": "auto", "objective": "cheapest", "min_quality": "0.5"},
    {"name": "few", "effort": ["low", "none"]},
)
CAPPED = (*APPS, {"id": "capped", "classes": ["public"], "effort": "low"})
ASK = QUESTION.format(n=7, need="medium")


def written(port: int = 0) -> str:
    text = config(FLEET, tasks=TASKS, apps=CAPPED, server={"port": port} if port else None)
    return text.replace('"0.5"', "0.5")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A home whose deployments were evaluated at three depths, and a gateway that knows it."""
    folder = tmp_path_factory.mktemp("depth")
    world = World(folder / "home", written())
    file = folder / "cases.jsonl"
    file.write_text("\n".join(map(json.dumps, CASES)))
    digests = {}
    with world.up("press", "capped") as gateway:
        world.write(written(gateway.port))
        for effort in ("none", "low", "medium"):
            done = world.here(
                "eval", "run", str(file), "--app", "press", "--on", "thinker", "--on", "secret",
                "--effort", effort, "--json",
            )  # fmt: skip
            assert done.returncode == 0, done
            digests[effort] = json.loads(done.stdout)["evaluation"]
        too_deep = world.here(
            "eval", "run", str(file), "--app", "capped", "--on", "thinker", "--effort", "high"
        )
        assert too_deep.returncode == 2, "its answers would come from less depth than they are named for"
    for digest in digests.values():
        assert world.here("eval", "use", digest).returncode == 0
    with world.up("press", "capped") as gateway:
        yield world, gateway, digests


def asked(gateway: Gateway, model: str = "sums", *, app: str = "press", **headers: str) -> Any:
    return gateway.chat(
        chat(model, ASK), app=app, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def test_the_depth_that_solves_most_for_its_money_is_taken(evaluated: Any) -> None:
    world, gateway, _ = evaluated
    answer = asked(gateway)
    assert answer.status == 200, answer
    assert answer.json["choices"][0]["message"]["content"] == "7"
    assert answer.headers["allod-deployment"] == "thinker"
    assert answer.headers["allod-effort"] == "medium"
    assert answer.headers["allod-thinking-tokens"] == "200"
    assert gateway.leaf(answer.receipt)["tokens"]["reasoning"] == 200
    (row,) = world.rows(answer.receipt)
    assert row.usage.reasoning_tokens == 200
    due = (row.usage.input_tokens * 1 + row.usage.total_output_tokens * 5) * Decimal("1e-6")
    assert row.cost_usd == due == Decimal(answer.headers["allod-cost"]), "thinking is billed"


def test_a_stream_says_what_it_thought(evaluated: Any) -> None:
    _, gateway, _ = evaluated
    body = chat("sums", ASK, stream=True, stream_options={"include_usage": True})
    stream = gateway.start("/v1/chat/completions", body, app="press")
    assert stream.headers["allod-effort"] == "medium"
    last = [json.loads(line[6:]) for line in stream.read().splitlines() if line.startswith(b"data: {")][-1]
    assert last["usage"]["allod_thinking_tokens"] == 200
    assert Decimal(last["usage"]["allod_cost"]) > 0


def test_I8_the_record_holds_the_numbers(evaluated: Any) -> None:
    world, gateway, digests = evaluated
    receipt = asked(gateway).receipt
    intent = json.loads(gateway.receipt(receipt)["intent"]["leaf"])
    with contextlib.closing(world.tables()) as tables:
        raw = tables.record(intent["decision"])
    assert raw is not None
    assert holds(raw)
    recorded = read_record(raw)
    thinker = next(one for one in recorded.facts.candidates if one.deployment == "thinker")
    assert [at.effort for at in thinker.depths] == ["none", "low", "medium"]
    assert [at.evidence.evaluations for at in thinker.depths] == [
        (digests[e],) for e in ("none", "low", "medium")
    ]
    assert recorded.plan.attempts[0].effort == "medium"


def test_callers_only_tighten(evaluated: Any) -> None:
    _, gateway, _ = evaluated
    assert asked(gateway, allod_effort="max").headers["allod-effort"] == "medium"
    lowered = asked(gateway, allod_effort="low")
    assert lowered.status == 403, "half are solved at low: more than 0.5 is not assured"
    rules = {r["id"] for one in lowered.json["error"]["allod"]["excluded"] for r in one["rules"]}
    assert rules == {"quality.floor"}
    assert asked(gateway, app="capped").status == 403


def test_without_evidence_the_first_depth_of_a_list_is_taken(evaluated: Any) -> None:
    _, gateway, _ = evaluated
    assert asked(gateway, "few").headers["allod-effort"] == "low"
    assert asked(gateway, "few", allod_effort="none").headers["allod-effort"] == "none"
    assert "allod-effort" not in asked(gateway, "thinker").headers


def test_thinking_that_an_operator_hides_is_billed_and_estimated(evaluated: Any) -> None:
    world, gateway, _ = evaluated
    answer = asked(gateway, "secret", allod_effort="medium")
    assert "reasoning_content" not in answer.json["choices"][0]["message"]
    assert gateway.leaf(answer.receipt)["tokens"]["reasoning"] == 200
    (row,) = world.rows(answer.receipt)
    assert row.usage.total_output_tokens == answer.json["usage"]["completion_tokens"] == 201
    assert row.usage.reasoning_tokens == 200
    assert row.detail == THINKING_ESTIMATED
    assert answer.headers["allod-thinking-tokens"] == "200"
    assert row.cost_usd == (row.usage.input_tokens * 2 + 201 * 6) * Decimal("1e-6")


def test_explain_shows_every_depth_with_its_estimate(evaluated: Any) -> None:
    world, _, digests = evaluated
    done = world.here("explain", "--app", "press", "--task", "sums", "--json")
    assert done.returncode == 0, done
    whole = json.loads(done.stdout)
    assert (whole["plan"][0], whole["efforts"][0]) == ("thinker", "medium")
    thinker = next(one for one in whole["candidates"] if one["deployment"] == "thinker")
    assert thinker["depth"] == "medium"
    depths = {at["effort"]: at for at in thinker["depths"]}
    assert [at["reasoning_tokens"] for at in depths.values()] == [0, 100, 200]
    assert depths["low"]["evaluations"] == [digests["low"]]
    assert Decimal(depths["low"]["quality_low"]) < Decimal("0.5") < Decimal(depths["medium"]["quality_low"])
    secret = next(one for one in whole["candidates"] if one["deployment"] == "secret")
    assert secret["depths"][2]["reasoning_tokens"] >= 195, "what is hidden is in the expected tokens"
    said = world.here("explain", "--app", "press", "--task", "sums").stdout
    assert "thinker at effort medium" in said
    assert said.count("<- chosen") == 2
    refused = world.here("explain", "--app", "press", "--task", "sums", "--effort", "low")
    assert refused.returncode == 4


# --- configuration


def tasks_of(tmp_path: Path, effort: str) -> Any:
    text = config(FLEET) + f'\n[[task]]\nname = "t"\neffort = {effort}\n'
    file = tmp_path / "allod.toml"
    file.write_text(text)
    return read_config(file).fleet.tasks["t"]


def test_a_task_may_leave_its_depth_open(tmp_path: Path) -> None:
    auto = tasks_of(tmp_path, '"auto"')
    assert (auto.effort, auto.efforts) == (None, EFFORTS)
    listed = tasks_of(tmp_path, '["medium", "none"]')
    assert (listed.effort, listed.efforts) == (None, ("medium", "none"))
    one = tasks_of(tmp_path, '["medium"]')
    assert (one.effort, one.efforts) == ("medium", ())


@pytest.mark.parametrize("effort", ['"autoo"', "[]", '["low", "hihg"]', "3", '[""]', "true"])
def test_another_effort_is_refused(tmp_path: Path, effort: str) -> None:
    with pytest.raises(Invalid, match="effort"):
        tasks_of(tmp_path, effort)


def test_a_deployment_may_set_its_budgets(tmp_path: Path) -> None:
    text = config([deployment("a", "echo", thinking_tokens={"low": 512, "max": 9000})])
    file = tmp_path / "allod.toml"
    file.write_text(text)
    assert read_config(file).fleet.deployments["a"].thinking_tokens == {"low": 512, "max": 9000}
    for wrong in ({"none": 1}, {"low": 0}, {"deep": 5}):
        file.write_text(config([deployment("a", "echo", thinking_tokens=wrong)]))
        with pytest.raises(Invalid, match="thinking_tokens"):
            read_config(file)
