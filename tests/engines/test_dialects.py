"""Every dialect driver against the simulator of its operator: one battery for all of them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from openai.types.chat import ChatCompletion
from simulators.anthropic import KEY as ANTHROPIC_KEY
from simulators.anthropic import AnthropicSimulator
from simulators.azure import AzureSimulator
from simulators.deepseek import DeepSeekSimulator
from simulators.gemini import KEY as GEMINI_KEY
from simulators.gemini import GeminiSimulator
from simulators.llama_server import LlamaServerSimulator
from simulators.mind import REASONING
from simulators.mistral import MistralSimulator
from simulators.ollama import OllamaSimulator
from simulators.openai import OpenAIPlatformSimulator
from simulators.server import Reply, Simulator, json_reply
from simulators.sglang import SglangSimulator
from simulators.trtllm import TrtllmSimulator
from simulators.vllm import VllmSimulator

from allod.domain.chat import ChatCall, Chunk, Finished, UsageReport, Whole
from allod.domain.fleet import Deployment
from allod.domain.usage import Usage
from allod.engines import anthropic, gemini, openai
from allod.engines.contract import Engine, EngineContext, EngineFault, LoadMetrics

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["city", "n"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Weather.", "parameters": SCHEMA}}
TEMPLATE_OFF = {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}}


@dataclass
class Row:
    """One dialect: its simulator, where it is reached, and what depth and usage must look like."""

    simulator: type[Simulator]
    model: str
    off: dict[str, Any]
    on: dict[str, Any]
    usage: Usage
    suffix: str = "/v1"
    shows_reasoning: bool = True
    key: str = "sk-simulated"
    load: LoadMetrics = field(default_factory=LoadMetrics)
    count: int | None = None
    make: Any = openai.make


def openai_usage(**more: int) -> Usage:
    return Usage(input_tokens=3, cache_read_tokens=4, output_tokens=3, **more)


ROWS = {
    "openai": Row(
        OpenAIPlatformSimulator, "gpt-5.1", {"reasoning_effort": "none"}, {"reasoning_effort": "high"},
        openai_usage(), shows_reasoning=False,
    ),
    "azure": Row(
        AzureSimulator, "gpt-5.1", {"reasoning_effort": "none"}, {"reasoning_effort": "high"},
        openai_usage(), suffix="", shows_reasoning=False,
    ),
    "vllm": Row(
        VllmSimulator, "m", TEMPLATE_OFF, {"reasoning_effort": "high"}, openai_usage(), count=3,
        load=LoadMetrics(running=3, waiting=2, cache_used=0.25),
    ),
    "sglang": Row(
        SglangSimulator, "m", TEMPLATE_OFF, {"reasoning_effort": "high"}, openai_usage(),
        load=LoadMetrics(running=5, waiting=1, cache_used=0.5),
    ),
    "trtllm": Row(
        TrtllmSimulator, "m", TEMPLATE_OFF, {"reasoning_effort": "high"},
        Usage(input_tokens=7, output_tokens=3), load=LoadMetrics(cache_used=0.125),
    ),
    "ollama": Row(
        OllamaSimulator, "m", {"reasoning_effort": "none"}, {"reasoning_effort": "high"}, openai_usage()
    ),
    "llama-server": Row(
        LlamaServerSimulator, "m", TEMPLATE_OFF, {}, openai_usage(), count=3,
        load=LoadMetrics(running=1, waiting=4),
    ),
    "mistral": Row(
        MistralSimulator, "mistral-small-latest", {"reasoning_effort": "none"}, {"reasoning_effort": "high"},
        openai_usage(),
    ),
    "deepseek": Row(
        DeepSeekSimulator, "deepseek-v4", {"thinking": {"type": "disabled"}},
        {"thinking": {"type": "enabled"}, "reasoning_effort": "high"}, openai_usage(),
    ),
    "anthropic": Row(
        AnthropicSimulator, "claude-sonnet-4-5", {"thinking": {"type": "disabled"}},
        {"thinking": {"type": "enabled", "budget_tokens": 3072}},
        Usage(
            input_tokens=3, cache_read_tokens=12, cache_write_tokens=1, cache_write_1h_tokens=2,
            output_tokens=3,
        ),
        suffix="", key=ANTHROPIC_KEY, count=3, make=anthropic.make,
    ),
    "gemini": Row(
        GeminiSimulator, "gemini-2.5-flash", {}, {},
        Usage(input_tokens=3, cache_read_tokens=5, output_tokens=3),
        suffix="", key=GEMINI_KEY, count=3, make=gemini.make,
    ),
}  # fmt: skip
everywhere = pytest.mark.parametrize("name", list(ROWS))
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def driver_of(name: str, operator: Simulator, *, model: str | None = None, **more: Any) -> Engine:
    row = ROWS[name]
    deployment = Deployment(
        id="d", engine=name, model=model or row.model, operator="o", base_url=operator.origin + row.suffix,
        api_key_env="KEY", timeout_ms=5_000, first_token_ms=1_000, **more,
    )  # fmt: skip
    world = EngineContext(
        environ={"KEY": row.key}, allow_address=lambda _h, _p: True, state_dir="/nonexistent"
    )
    return row.make(deployment, world)


def run(name: str, script: Any, *, operator: Simulator | None = None, **more: Any) -> Any:
    async def inside() -> Any:
        async with operator or ROWS[name].simulator() as server:
            driver = driver_of(name, server, **more)
            try:
                return await script(server, driver)
            finally:
                await driver.close()

    return asyncio.run(inside())


def ask(text: str = "hello there world", *, stream: bool, **more: Any) -> ChatCall:
    fields = {k: more.pop(k) for k in ("effort", "max_output_tokens") if k in more}
    return ChatCall(body={"messages": [{"role": "user", "content": text}], **more}, stream=stream, **fields)


def answers(name: str, call: ChatCall) -> tuple[list, dict]:
    async def script(operator: Simulator, driver: Engine) -> tuple[list, dict]:
        events = [event async for event in driver.chat(call)]
        return events, operator.last.json

    return run(name, script)


def told(events: list) -> dict[str, Any]:
    """Put the events of an answer together: text, reasoning, calls, finish."""
    if isinstance(events[0], Whole):
        body = events[0].body or json.loads(events[0].raw)
        ChatCompletion.model_validate(body)
        message = body["choices"][0]["message"]
        calls = [(c["function"]["name"], c["function"]["arguments"]) for c in message.get("tool_calls") or []]
        return {
            "text": message["content"] or "", "reasoning": message.get("reasoning_content", ""),
            "calls": calls, "finish": events[0].finish,
        }  # fmt: skip
    chunks = [event for event in events if isinstance(event, Chunk)]
    pieces: dict[int, list[str]] = {}
    for delta in (d for chunk in chunks for d in chunk.tool_calls):
        entry = pieces.setdefault(delta.index, ["", ""])
        entry[0] += delta.name or ""
        entry[1] += delta.arguments
    [finish] = [chunk.finish for chunk in chunks if chunk.finish]
    return {
        "text": "".join(c.text for c in chunks), "reasoning": "".join(c.reasoning for c in chunks),
        "calls": [tuple(entry) for entry in pieces.values()], "finish": finish,
    }  # fmt: skip


def depth_of(name: str, sent: dict[str, Any]) -> dict[str, Any]:
    if name == "gemini":
        return sent["generationConfig"]["thinkingConfig"]
    keys = ("thinking", "reasoning_effort", "chat_template_kwargs")
    return {key: sent[key] for key in keys if key in sent}


@everywhere
@both_ways
def test_chat_usage_and_end(name, stream):
    events, _ = answers(name, ask(stream=stream))
    assert told(events) == {"text": "hello there world", "reasoning": "", "calls": [], "finish": "stop"}
    assert [e.usage for e in events if isinstance(e, UsageReport)] == [ROWS[name].usage]
    assert isinstance(events[-1], Finished)
    assert sum(isinstance(e, Finished) for e in events) == 1


@everywhere
@both_ways
def test_tools(name, stream):
    events, _ = answers(name, ask("please use a tool", stream=stream, tools=[TOOL]))
    got = told(events)
    assert [(n, json.loads(a)) for n, a in got["calls"]] == [("weather", {"city": "Oslo", "n": 7})]
    assert got["finish"] == "tool_calls"
    events, _ = answers(name, ask("do it", stream=stream, tools=[TOOL], tool_choice="required"))
    assert [n for n, _ in told(events)["calls"]] == ["weather"]
    events, _ = answers(name, ask("please use a tool", stream=stream, tools=[TOOL], tool_choice="none"))
    assert told(events)["calls"] == []


@everywhere
@both_ways
def test_structured_output(name, stream):
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}}
    events, _ = answers(name, ask(stream=stream, response_format=form))
    assert json.loads(told(events)["text"]) == {"city": "Oslo", "n": 7}


@everywhere
@both_ways
def test_thinking_is_off_unless_asked_and_said_either_way(name, stream):
    row = ROWS[name]
    events, sent = answers(name, ask(stream=stream))
    off = {"thinkingBudget": 0} if name == "gemini" else row.off
    assert depth_of(name, sent) == off
    assert told(events)["reasoning"] == ""
    events, sent = answers(name, ask(stream=stream, effort="high"))
    on = {"thinkingBudget": 3072, "includeThoughts": True} if name == "gemini" else row.on
    assert on.items() <= depth_of(name, sent).items()
    assert depth_of(name, sent) != off
    assert told(events)["reasoning"] == (REASONING if row.shows_reasoning else "")
    [report] = [e for e in events if isinstance(e, UsageReport)]
    assert report.usage.total_output_tokens == 3 + 7


@everywhere
@both_ways
def test_an_answer_cut_by_its_limit_says_so(name, stream):
    events, _ = answers(name, ask("one two three four", stream=stream, max_output_tokens=2))
    got = told(events)
    assert (got["text"], got["finish"]) == ("one two", "length")


@everywhere
@both_ways
def test_a_full_context_is_told_apart(name, stream):
    with pytest.raises(EngineFault) as caught:
        answers(name, ask("word " * 1_200, stream=stream))
    assert caught.value.kind == "too_long"


@everywhere
@both_ways
@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, "rate"), (500, "server"), (502, "server"), (503, "overloaded"), (401, "auth"), (404, "request")],
)
def test_error_statuses(name, stream, status, kind):
    async def script(operator: Simulator, driver: Engine) -> EngineFault:
        if name == "ollama":
            operator.forced.append(json_reply({}))  # where the model runs is asked first
        wait = {"retry-after": "2"} if status in (429, 503) else {}
        operator.forced.append(Reply(status, wait, b"secret words of the request"))
        with pytest.raises(EngineFault) as caught:
            [event async for event in driver.chat(ask(stream=stream))]
        return caught.value

    fault = run(name, script)
    assert (fault.kind, fault.status) == (kind, status)
    assert fault.retry_after_ms == (2_000 if status in (429, 503) else None)
    assert "secret" not in fault.detail
    assert fault.sent


@everywhere
def test_load_metrics(name):
    async def script(_operator: Simulator, driver: Engine) -> LoadMetrics:
        return await driver.load()

    assert run(name, script) == ROWS[name].load


def test_metrics_that_are_off_are_unknown_not_idle():
    async def script(_operator: Simulator, driver: Engine) -> LoadMetrics:
        return await driver.load()

    assert run("sglang", script, operator=SglangSimulator(with_metrics=False)) == LoadMetrics()


@everywhere
def test_counting_tokens(name):
    async def script(_operator: Simulator, driver: Engine) -> int | None:
        return await driver.count_tokens(ask(stream=False))

    assert run(name, script) == ROWS[name].count


def test_I1_a_cloud_model_behind_a_local_ollama_is_not_served():
    async def script(operator: Simulator, driver: Engine) -> list[str]:
        with pytest.raises(EngineFault) as caught:
            [event async for event in driver.chat(ask(stream=False))]
        assert (caught.value.kind, caught.value.sent) == ("unavailable", False)
        return [entry.path for entry in operator.asks]

    paths = run("ollama", script, operator=OllamaSimulator(remote=frozenset({"m"})))
    assert "/v1/chat/completions" not in paths


@everywhere
def test_every_simulator_names_its_source(name):
    assert ROWS[name].simulator.documentation
    assert "SIMULATOR" in __import__(ROWS[name].simulator.__module__, fromlist=["x"]).__doc__
