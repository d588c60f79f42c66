"""Thinking is counted by every driver, and estimated where an operator bills it and does not say how much."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.domain.chat import ChatCall, Chunk, UsageReport, Whole
from allod.domain.decision import Attempt
from allod.domain.fleet import EFFORTS, Deployment, Effort
from allod.domain.usage import Usage
from allod.engines.contract import EngineContext
from allod.engines.llamacpp.driver import LlamaCpp
from allod.engines.run import AttemptReport, Execution
from allod.engines.scripted.driver import ScriptedEngine
from allod.engines.scripted.script import STEPS, UNSOLVED, write_script
from allod.metering.rates import OWN_HARDWARE, Step, Tariff, filled
from allod.metering.settle import (
    THINKING_ESTIMATED,
    AttemptFacts,
    Bounds,
    Delivered,
    settle,
    told_apart,
)
from allod.metering.usage import usage_from_anthropic, usage_from_gemini, usage_from_openai
from allod.vault.vault import Vault

BOUNDS = Bounds(input_tokens=100, max_output_tokens=4096)


def tariff(output: str = "5", reasoning: str | None = None) -> Tariff:
    rates = filled(
        input_usd_mtok=Decimal(1),
        output_usd_mtok=Decimal(output),
        reasoning_usd_mtok=None if reasoning is None else Decimal(reasoning),
    )
    return Tariff(steps=(Step(above_tokens=0, rates=rates),), source=OWN_HARDWARE, digest="sha256:t")


def settled(usage: Usage, delivered: Delivered, **more: Any) -> Any:
    facts = AttemptFacts(
        receipt="r", attempt=1, app="a", task=None, deployment="d", started_at_ms=0, status="answered"
    )
    return settle(facts, tariff=tariff(**more), bounds=BOUNDS, reported=usage, delivered=delivered)


# --- what operators report


@pytest.mark.parametrize(
    ("read", "block"),
    [
        (usage_from_openai, {"prompt_tokens": 10, "completion_tokens": 50, "total_tokens": 60,
                             "completion_tokens_details": {"reasoning_tokens": 40}}),
        (usage_from_openai, {"prompt_tokens": 10, "completion_tokens": 50, "total_tokens": 60,
                             "reasoning_tokens": 40}),
        (usage_from_openai, {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 60,
                             "completion_tokens_details": {"reasoning_tokens": 40}}),
        (usage_from_openai, {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 60}),
        (usage_from_openai, {"input_tokens": 10, "output_tokens": 50, "total_tokens": 60,
                             "output_tokens_details": {"reasoning_tokens": 40}}),
        (usage_from_anthropic, {"input_tokens": 10, "output_tokens": 50,
                                "output_tokens_details": {"thinking_tokens": 40}}),
        (usage_from_gemini, {"promptTokenCount": 10, "candidatesTokenCount": 10, "thoughtsTokenCount": 40,
                             "totalTokenCount": 60}),
    ],
    ids=["openai azure deepseek", "sglang", "xai", "gemini by openai", "responses", "anthropic", "gemini"],
)  # fmt: skip
def test_every_form_of_report_is_the_same_usage(read: Any, block: dict[str, Any]) -> None:
    assert read(block) == Usage(input_tokens=10, output_tokens=10, reasoning_tokens=40)


# --- what they do not


def test_thinking_that_was_shown_has_its_share_of_what_was_billed_as_output() -> None:
    row = settled(Usage(input_tokens=10, output_tokens=50), Delivered(bytes=200, pieces=9, thought_bytes=160))
    assert row.usage == Usage(input_tokens=10, output_tokens=10, reasoning_tokens=40)
    assert (row.basis, row.detail) == ("reported", THINKING_ESTIMATED)
    assert row.cost_usd == Decimal("0.00026"), "as billed"


def test_thinking_that_is_kept_back_is_what_the_visible_bytes_cannot_be() -> None:
    hidden = Delivered(bytes=30, pieces=1, thinks=True)
    row = settled(Usage(input_tokens=10, output_tokens=900), hidden)
    assert row.usage == Usage(input_tokens=10, output_tokens=10, reasoning_tokens=890)
    summary = Delivered(bytes=130, pieces=1, thought_bytes=100, thinks=True)
    assert settled(Usage(input_tokens=10, output_tokens=900), summary).usage.reasoning_tokens == 890


def test_nothing_is_estimated_of_who_was_not_asked_to_think_or_tells() -> None:
    plain = Usage(input_tokens=10, output_tokens=900)
    assert settled(plain, Delivered(bytes=30, pieces=1)).usage == plain
    told = Usage(input_tokens=10, output_tokens=5, reasoning_tokens=895)
    assert settled(told, Delivered(bytes=30, pieces=1, thought_bytes=9, thinks=True)).usage == told
    long = Usage(input_tokens=10, output_tokens=300)
    assert settled(long, Delivered(bytes=1200, pieces=1, thinks=True)).usage == long


def test_an_estimate_never_moves_money() -> None:
    usage, seen = Usage(input_tokens=10, output_tokens=50), Delivered(bytes=200, pieces=9, thought_bytes=160)
    row = settled(usage, seen, reasoning="9")
    assert row.usage == usage, "thinking has a price of its own, and the operator billed output"
    assert row.cost_usd == Decimal("0.00026")


def test_what_nobody_reported_is_told_apart_too() -> None:
    facts = AttemptFacts(
        receipt="r", attempt=1, app="a", task=None, deployment="d", started_at_ms=0, status="aborted"
    )
    seen = Delivered(bytes=300, pieces=60, thought_bytes=240)
    row = settle(facts, tariff=tariff(), bounds=BOUNDS, delivered=seen)
    assert row.basis == "counted"
    assert (row.usage.output_tokens, row.usage.reasoning_tokens) == (20, 80)


@given(
    st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.booleans(), st.integers(0, 100)
)
def test_telling_apart_keeps_the_sum(output: int, size: int, thought: int, thinks: bool, told: int) -> None:
    usage = Usage(input_tokens=1, output_tokens=output, reasoning_tokens=told)
    seen = Delivered(bytes=size, pieces=1, thought_bytes=min(thought, size), thinks=thinks)
    apart = told_apart(usage, seen)
    assert apart.total_output_tokens == usage.total_output_tokens
    assert apart.output_tokens >= 0
    assert apart.reasoning_tokens >= told
    assert apart == usage or told == 0


# --- what an execution notes of an answer


class _World:
    def engine(self, _: str) -> Any:
        return None

    def recheck(self, _: str) -> bool:
        return True

    def dispatch(self, _: AttemptReport) -> None:
        return None

    def allows(self, _: str) -> bool:
        return True

    def record(self, *_: Any) -> None:
        return None

    def backoff_ms(self, *_: Any) -> int:
        return 0

    def now_ms(self) -> int:
        return 0

    def elapsed_ms(self) -> int:
        return 0


def noted(*events: Any, effort: Effort | None = None) -> AttemptReport:
    from allod.domain.chat import Finished

    async def operate(_engine: Any, _attempt: Any, take: Any) -> None:
        take((*events, Finished()))

    attempt = Attempt(
        deployment="d", quality=None, cost_usd=Decimal(0), reserve_usd=Decimal(0), effort=effort, retries=0
    )
    run = Execution((attempt,), operate, _World(), None)
    asyncio.run(run.run(lambda _items: None))
    return run.reports[0]


REPORT = UsageReport(usage=Usage(input_tokens=10, output_tokens=50))
THOUGHT = "123456"


def test_thinking_in_a_stream_is_noted() -> None:
    report = noted(Chunk(reasoning=THOUGHT), Chunk(text="abc"), REPORT)
    assert (report.delivered_bytes, report.thought_bytes) == (9, 6)


@pytest.mark.parametrize(
    "answer",
    [
        Whole(raw=b'{"choices":[{"message":{"content":"abc","reasoning_content":"123456"}}]}'),
        Whole(raw=b'{"choices": [{"message": {"content": "abc", "reasoning_content": "123456"}}]}'),
        Whole(body={"choices": [{"message": {"content": "abc", "reasoning_content": THOUGHT}}]}),
        Whole(
            raw=b'{"role":"assistant","content":[{"type":"thinking","thinking":"123456","signature":"zzzz"},'
            b'{"type":"text","text":"abc"}]}',
            dialect="anthropic",
        ),
    ],
)
@pytest.mark.parametrize("effort", [None, "high"])
def test_thinking_in_a_whole_answer_is_noted(answer: Whole, effort: Effort | None) -> None:
    report = noted(answer, REPORT, effort=effort)
    assert (report.delivered_bytes, report.thought_bytes) == (9, 6)


def test_an_answer_without_thinking_is_not_even_read() -> None:
    report = noted(Whole(raw=b"never decoded"), REPORT)
    assert (report.delivered_bytes, report.thought_bytes) == (0, 0)
    assert noted(Whole(raw=b"{}"), REPORT, effort="high").thought_bytes == 0


# --- the scripted engine


def scripted(model: str, said: str, effort: Effort | None, limit: int = 4096) -> Any:
    deployment = Deployment(id="d", engine="scripted", model=model, operator="self")
    engine = ScriptedEngine(deployment, EngineContext(environ={}, allow_address=lambda _h, _p: False,
                                                      state_dir=""))  # fmt: skip
    call = ChatCall(
        body={"messages": [{"role": "user", "content": said}]}, stream=False, effort=effort,
        max_output_tokens=limit,
    )  # fmt: skip

    async def answer() -> Any:
        return [event async for event in engine.chat(call)]

    whole, report, _ = asyncio.run(answer())
    return msgspec.json.decode(whole.raw)["choices"][0], report


@pytest.mark.parametrize("effort", [None, *EFFORTS])
def test_a_thinking_script_is_right_if_it_thinks_deep_enough(effort: Effort | None) -> None:
    for need in EFFORTS:
        choice, report = scripted("think-7", f"Reply with 42. This needs {need} depth.", effort)
        deep = EFFORTS.index(effort or "none") >= EFFORTS.index(need)
        assert choice["message"]["content"] == ("42" if deep else UNSOLVED)
        assert report.usage.reasoning_tokens == 7 * STEPS[effort or "none"]


def test_a_script_that_hides_its_thinking_bills_it_as_output() -> None:
    shown, said = scripted("think-50", "Reply with 42. needs none", "medium")
    kept, hidden = scripted("think-hidden-50", "Reply with 42. needs none", "medium")
    assert shown["message"]["reasoning_content"].startswith("so so")
    assert "reasoning_content" not in kept["message"]
    assert said.usage.reasoning_tokens == 100
    assert hidden.usage.reasoning_tokens == 0
    assert hidden.usage.total_output_tokens == said.usage.total_output_tokens == 101


def test_thinking_up_to_the_limit_leaves_no_answer() -> None:
    choice, report = scripted("think-50", "Reply with 42. needs none", "max", limit=300)
    assert (choice["finish_reason"], choice["message"]["content"]) == ("length", "")
    assert report.usage.total_output_tokens == 300


def test_questions_that_do_not_say_need_depth_by_their_digest() -> None:
    def right(effort: str) -> int:
        return sum(
            write_script(
                {"model": "think-1", "reasoning_effort": effort,
                 "messages": [{"role": "user", "content": f"Reply with {n}"}]}
            ).line.text == str(n)
            for n in range(400)
        )  # fmt: skip

    shares = [right(effort) / 400 for effort in EFFORTS]
    assert shares == sorted(shares)
    assert 0.4 < shares[0] < 0.6
    assert shares[-1] == 1


# --- the real engine


def test_the_embedded_engine_keeps_to_a_budget(tmp_path: Path) -> None:
    deployment = Deployment(id="d", engine="llamacpp", model="reference", operator="self")
    context = EngineContext(
        environ={}, allow_address=lambda _h, _p: False, state_dir="", vault=Vault(tmp_path / "vault")
    )

    async def answers() -> dict[int | None, tuple[str, str, Usage]]:
        engine, out = LlamaCpp(deployment, context), {}
        try:
            for own in (None, 8):
                call = ChatCall(
                    body={"messages": [{"role": "user", "content": "Sum: 1, 22, 21, 2"}], "temperature": 0},
                    stream=False, effort="high", thinking_tokens=own, max_output_tokens=160,
                )  # fmt: skip
                whole, report, _ = [event async for event in engine.chat(call)]
                assert isinstance(whole, Whole)
                assert isinstance(report, UsageReport)
                message = msgspec.json.decode(whole.raw or b"")["choices"][0]["message"]
                out[own] = message["reasoning_content"], message["content"], report.usage
        finally:
            await engine.close()
        return out

    found = asyncio.run(answers())
    free, held = found[None], found[8]
    assert free[1] == "46", free
    assert free[0].startswith(held[0].strip())
    assert len(held[0]) < len(free[0])
    assert held[2].total_output_tokens < free[2].total_output_tokens
    assert free[2].reasoning_tokens == 0, "llama-server bills thinking as output and does not say how much"
