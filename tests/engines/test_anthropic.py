"""The Anthropic driver against its simulator, over real sockets."""

from __future__ import annotations

import asyncio
import json

import pytest
from anthropic.types import Message
from simulators import anthropic as sim
from simulators.server import Reply, json_reply, sse, stream_reply

from allod.domain.chat import ChatCall, Chunk, EmbedCall, Finished, UsageReport, Whole
from allod.domain.fleet import Deployment
from allod.domain.usage import Usage
from allod.engines.anthropic import make
from allod.engines.contract import Engine, EngineContext, EngineFault

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "n": {"type": "integer", "minimum": 1}},
    "required": ["city", "n"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Weather.", "parameters": SCHEMA}}
MODEL = "claude-sonnet-4-5"


def engine(origin: str, model: str = MODEL, environ: dict[str, str] | None = None, **more) -> Engine:
    deployment = Deployment(
        id="d", engine="anthropic", model=model, operator="o", base_url=origin, api_key_env="KEY", **more
    )
    world = EngineContext(
        environ={"KEY": sim.KEY} if environ is None else environ,
        allow_address=lambda _host, _port: True,
        state_dir="/nonexistent",
    )
    return make(deployment, world)


def ask(text: str = "hello there world", *, stream: bool = False, **more) -> ChatCall:
    fields = {
        k: more.pop(k) for k in ("effort", "max_output_tokens", "native", "native_dialect") if k in more
    }
    return ChatCall(body={"messages": [{"role": "user", "content": text}], **more}, stream=stream, **fields)


async def drain(driver: Engine, call: ChatCall) -> list:
    return [event async for event in driver.chat(call)]


def run(script, **options):
    """Run ``script(simulator, driver)`` with a fresh simulator."""

    async def inside():
        async with sim.AnthropicSimulator() as operator:
            driver = engine(operator.origin, **options)
            try:
                return await script(operator, driver)
            finally:
                await driver.close()

    return asyncio.run(inside())


def answers(call: ChatCall, **options) -> tuple[list, dict]:
    async def script(operator, driver):
        return await drain(driver, call), operator.last.json

    return run(script, **options)


def fault_of(reply: Reply, *, stream: bool, **more) -> EngineFault:
    async def script(operator, driver):
        operator.forced.append(reply)
        with pytest.raises(EngineFault) as caught:
            await drain(driver, ask(stream=stream, **more))
        return caught.value

    return run(script, first_token_ms=300, timeout_ms=2_000)


def test_a_whole_answer():
    events, sent = answers(ask(temperature=1.7, stop="END", user="u1"))
    whole, usage, finished = events
    assert isinstance(whole, Whole)
    assert whole.finish == "stop"
    assert whole.body["choices"][0]["message"]["content"] == "hello there world"
    assert whole.body["usage"]["prompt_tokens"] == 3 + 12 + 3
    expected = Usage(
        input_tokens=3, cache_read_tokens=12, cache_write_tokens=1, cache_write_1h_tokens=2, output_tokens=3
    )
    assert usage == UsageReport(usage=expected, block=usage.block, dialect="anthropic")
    assert finished == Finished(model=MODEL)
    assert sent["temperature"] == 1.0
    assert sent["stop_sequences"] == ["END"]
    assert sent["metadata"] == {"user_id": "u1"}
    assert sent["thinking"] == {"type": "disabled"}
    assert sent["max_tokens"] == 4096


def test_a_stream():
    events, sent = answers(ask(stream=True, effort="low"))
    assert sent["thinking"] == {"type": "enabled", "budget_tokens": 2048}
    assert "".join(e.reasoning for e in events if isinstance(e, Chunk)).startswith("They want")
    assert "".join(e.text for e in events if isinstance(e, Chunk)) == "hello there world"
    assert [e.finish for e in events if isinstance(e, Chunk) and e.finish] == ["stop"]
    report = next(e for e in events if isinstance(e, UsageReport))
    assert report.usage.reasoning_tokens == 7
    assert report.usage.output_tokens == 3
    assert events[-1] == Finished(model=MODEL)
    assert sum(isinstance(e, UsageReport) for e in events) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_tools(stream):
    events, sent = answers(ask("use a tool", stream=stream, tools=[TOOL], parallel_tool_calls=False))
    assert sent["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert sent["tools"][0]["input_schema"] == SCHEMA
    if stream:
        deltas = [c for e in events if isinstance(e, Chunk) for c in e.tool_calls]
        assert (deltas[0].id, deltas[0].name) == ("toolu_0", "weather")
        assert json.loads("".join(d.arguments for d in deltas)) == {"city": "Oslo", "n": 7}
        assert "tool_calls" in [e.finish for e in events if isinstance(e, Chunk)]
    else:
        [call] = events[0].body["choices"][0]["message"]["tool_calls"]
        assert json.loads(call["function"]["arguments"]) == {"city": "Oslo", "n": 7}
        assert events[0].body["choices"][0]["message"]["content"] is None
        assert events[0].finish == "tool_calls"


@pytest.mark.parametrize(
    ("choice", "sent_choice"),
    [
        ("required", {"type": "any"}),
        ("none", {"type": "none"}),
        ({"type": "function", "function": {"name": "weather"}}, {"type": "tool", "name": "weather"}),
    ],
)
def test_tool_choice(choice, sent_choice):
    events, sent = answers(ask(tools=[TOOL], tool_choice=choice))
    assert sent["tool_choice"] == sent_choice
    assert events[0].finish == ("stop" if choice == "none" else "tool_calls")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "model", ["claude-sonnet-4-5", "claude-opus-5", "claude-3-7-sonnet-20250219", "served"]
)
def test_structured_output_is_text_whatever_way_it_is_asked(model, stream):
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
    model = f"{model}-like-4-5" if model.startswith(("claude-3", "served")) else model
    events, sent = answers(ask(stream=stream, response_format=form), model=model)
    if stream:
        text = "".join(e.text for e in events if isinstance(e, Chunk))
        finish = next(e.finish for e in events if isinstance(e, Chunk) and e.finish)
        assert not any(e.tool_calls for e in events if isinstance(e, Chunk))
    else:
        text, finish = events[0].body["choices"][0]["message"]["content"], events[0].finish
        assert "tool_calls" not in events[0].body["choices"][0]["message"]
    assert json.loads(text) == {"city": "Oslo", "n": 7}
    assert finish == "stop"
    native = model.startswith(("claude-sonnet", "claude-opus"))
    assert ("output_config" in sent) is native
    assert ("tools" in sent) is not native


def test_json_object_is_a_forced_tool():
    events, sent = answers(ask(response_format={"type": "json_object"}))
    assert sent["tool_choice"]["type"] == "tool"
    assert events[0].body["choices"][0]["message"]["content"] == "{}"


@pytest.mark.parametrize(
    ("model", "effort", "thinking", "depth"),
    [
        ("claude-opus-5", None, {"type": "disabled"}, None),
        ("claude-opus-5", "xhigh", {"type": "adaptive", "display": "summarized"}, "xhigh"),
        ("claude-opus-4-6", "xhigh", {"type": "adaptive"}, "high"),
        ("claude-fable-5", None, {"type": "adaptive", "display": "omitted"}, "low"),
        ("claude-haiku-4-5", "none", {"type": "disabled"}, None),
        ("claude-haiku-4-5", "max", {"type": "enabled", "budget_tokens": 3072}, None),
    ],
)
def test_depth_is_always_said(model, effort, thinking, depth):
    _, sent = answers(ask(effort=effort, temperature=0.5), model=model)
    assert sent["thinking"] == thinking
    assert sent.get("output_config", {}).get("effort") == depth
    assert ("temperature" in sent) is (model == "claude-haiku-4-5" and effort == "none")


def test_a_model_that_always_thinks_says_so():
    assert "always thinks" in engine("http://127.0.0.1:1", "claude-fable-5").describe().notice
    assert engine("http://127.0.0.1:1").describe().notice is None


def test_native_requests_and_answers_pass_through():
    native = {
        "model": "auto", "max_tokens": 50, "system": "be brief", "thinking": {"type": "disabled"},
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello native"}]}],
        "metadata": {"user_id": "u", "Allod-Task": "x"}, "anthropic_beta": ["context-1m-2025-08-07"],
    }  # fmt: skip

    async def script(operator, driver):
        whole = await drain(driver, ask(native=native, native_dialect="anthropic"))
        streamed = await drain(driver, ask(native=native, native_dialect="anthropic", stream=True))
        return whole, streamed, operator.asks

    whole, streamed, asks = run(script)
    sent = asks[0].json
    assert asks[0].headers["anthropic-beta"] == "context-1m-2025-08-07"
    assert sent["metadata"] == {"user_id": "u"}
    assert sent["model"] == MODEL
    assert sent["max_tokens"] == 50
    assert sent["messages"] == native["messages"]
    assert "anthropic_beta" not in sent
    assert Message.model_validate_json(whole[0].raw).content[0].text == "hello native"
    assert whole[0].dialect == "anthropic"
    raw = b"".join(e.raw for e in streamed if getattr(e, "raw", None))
    thought = sim.think("hello native", extra_tokens=1)
    assert raw == b"".join(sim.events(MODEL, *sim.blocks(thought), sim.usage(thought)))
    assert all(e.dialect == "anthropic" for e in streamed)
    assert "".join(e.text for e in streamed if isinstance(e, Chunk)) == "hello native"


@pytest.mark.parametrize(
    ("effort", "asked", "sent"),
    [
        (None, None, {"type": "disabled"}),
        (None, {"type": "enabled", "budget_tokens": 9000}, {"type": "enabled", "budget_tokens": 9000}),
        ("none", {"type": "enabled", "budget_tokens": 9000}, {"type": "disabled"}),
        ("low", {"type": "enabled", "budget_tokens": 9000}, {"type": "enabled", "budget_tokens": 4096}),
        ("medium", {"type": "enabled", "budget_tokens": 9000}, {"type": "enabled", "budget_tokens": 9000}),
        ("low", None, {"type": "enabled", "budget_tokens": 2048}),
        ("high", {"type": "disabled"}, {"type": "disabled"}),
        (None, {"type": "enabled", "budget_tokens": 90000}, {"type": "enabled", "budget_tokens": 15000}),
    ],
)
def test_native_depth_is_the_callers_unless_it_is_narrowed(effort, asked, sent):
    native = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 20_000}
    native |= {"thinking": asked} if asked else {}
    call = ask(native=native, native_dialect="anthropic", effort=effort, max_output_tokens=20_000)
    assert answers(call)[1]["thinking"] == sent


def test_counting_tokens():
    async def script(operator, driver):
        count = await driver.count_tokens(ask("one two three four"))
        return count, operator.last

    count, last = run(script)
    assert count == 4
    assert last.path == "/v1/messages/count_tokens"
    assert "max_tokens" not in last.json


def test_embeddings_are_refused_unsent():
    with pytest.raises(EngineFault) as caught:
        asyncio.run(engine("http://127.0.0.1:1").embed(EmbedCall(body={"input": "x"})))
    assert (caught.value.kind, caught.value.sent) == ("request", False)


@pytest.mark.parametrize(
    "more",
    [{"n": 2}, {"logprobs": True}, {"logit_bias": {"1": 1}}, {"frequency_penalty": 1}, {"grammar": "x"},
     {"functions": [{}]}],
)  # fmt: skip
def test_what_the_dialect_cannot_carry_is_never_sent(more):
    async def script(operator, driver):
        with pytest.raises(EngineFault) as caught:
            await drain(driver, ask(**more))
        return caught.value, operator.asks

    fault, asks = run(script)
    assert (fault.kind, fault.sent, asks) == ("request", False, [])


def test_no_key_in_the_environment_sends_nothing():
    async def script(operator, driver):
        with pytest.raises(EngineFault) as caught:
            await drain(driver, ask())
        return caught.value, operator.asks, driver.ready()

    fault, asks, reason = run(script, environ={})
    assert (fault.kind, fault.sent, asks) == ("unavailable", False, [])
    assert "KEY" in reason


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("reply", "kind", "wait"),
    [
        (sim.error(429, "rate_limit_error", "slow down"), "rate", None),
        (json_reply({"error": {"type": "rate_limit_error"}}, 429, retry_after="2"), "rate", 2000),
        (sim.error(529, "overloaded_error", "Overloaded"), "overloaded", None),
        (sim.error(500, "api_error", "oops"), "server", None),
        (sim.error(503, "api_error", "oops"), "overloaded", None),
        (sim.error(401, "authentication_error", "who"), "auth", None),
        (sim.error(400, "invalid_request_error", "no"), "request", None),
        (sim.error(400, "invalid_request_error", "prompt is too long: 9 > 8"), "too_long", None),
        (sim.error(400, "x", "input length and `max_tokens` exceed context limit"), "too_long", None),
        (json_reply({"type": "error", "error": {"type": "overloaded_error"}}), "overloaded", None),
        (json_reply({"type": "error", "error": {"type": "permission_error"}}), "auth", None),
        (json_reply({"hello": 1}), "malformed", None),
        (Reply(200, {"content-type": "text/html"}, b"<html>"), "malformed", None),
        (Reply(302, {"location": "http://elsewhere"}), "redirect", None),
        (Reply(200, {"content-encoding": "gzip"}, b"xx"), "malformed", None),
    ],
)  # fmt: skip
def test_error_answers(reply, kind, wait, stream):
    fault = fault_of(reply, stream=stream)
    assert fault.kind == kind
    assert fault.retry_after_ms == wait
    assert fault.sent


def message_events(*middle: bytes) -> list[bytes]:
    start = sim.message(MODEL, [], None, {"input_tokens": 3, "output_tokens": 1})
    return [sse({"type": "message_start", "message": start}, "message_start"), *middle]


def block(index: int, kind: str) -> bytes:
    return sse({"type": "content_block_start", "index": index, "content_block": {"type": kind, "text": ""}})


def delta(index: int, **fields: str) -> bytes:
    return sse({"type": "content_block_delta", "index": index, "delta": fields})


TEXT = delta(0, type="text_delta", text="hi")
STOP = sse({"type": "content_block_stop", "index": 0})
END = sse({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}})
LAST = sse({"type": "message_stop"})


@pytest.mark.parametrize("native", [None, {"messages": [{"role": "user", "content": "hi"}]}])
@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ([block(0, "text"), TEXT], "truncated"),
        ([block(0, "text"), TEXT, STOP, END], "truncated"),
        ([block(0, "text"), TEXT, STOP, LAST], "truncated"),
        ([block(0, "text"), TEXT, END], "malformed"),
        ([TEXT], "malformed"),
        ([block(0, "thinking"), TEXT], "malformed"),
        ([block(0, "text"), delta(0, type="thinking_delta", thinking="x")], "malformed"),
        ([block(0, "text"), STOP, TEXT], "malformed"),
        ([block(0, "text"), block(0, "text")], "malformed"),
        ([block(0, "text"), TEXT, STOP, block(0, "text")], "malformed"),
        ([block(0, "text"), TEXT, STOP, END, block(1, "text")], "malformed"),
        ([block(0, "text"), b"data: {garbage\n\n"], "malformed"),
        ([block(0, "text"), TEXT, b'data: {"type": "content_bl'], "truncated"),
        ([sse({"type": "error", "error": {"type": "overloaded_error", "message": "x"}})], "overloaded"),
        ([block(0, "text"), TEXT, sse({"type": "error", "error": {"type": "rate_limit_error"}})], "rate"),
        ([block(0, "text"), sse({"type": "error", "error": {"type": "api_error"}})], "server"),
        ([sse({"type": "message_start", "message": {}})], "malformed"),
    ],
)
def test_broken_streams(pieces, kind, native):
    more = {"native": native, "native_dialect": "anthropic"} if native else {}
    assert fault_of(stream_reply(message_events(*pieces)), stream=True, **more).kind == kind


@pytest.mark.parametrize(("end", "kind"), [("cut", "truncated"), ("reset", "reset"), ("hang", "timeout")])
def test_connections_that_break_in_a_stream(end, kind):
    reply = stream_reply(message_events(block(0, "text"), TEXT))
    reply.end = end
    assert fault_of(reply, stream=True).kind == kind


def test_an_answer_that_dies_before_its_content_yields_nothing():
    async def script(operator, driver):
        ping = sse({"type": "ping"}, "ping")
        overloaded = sse({"type": "error", "error": {"type": "overloaded_error"}})
        operator.forced.append(stream_reply(message_events(ping, overloaded)))
        native = {"messages": [{"role": "user", "content": "x"}]}
        stream = driver.chat(ask(stream=True, native=native, native_dialect="anthropic"))
        with pytest.raises(EngineFault) as caught:
            await anext(stream)
        return caught.value.kind

    assert run(script) == "overloaded"


def test_usage_that_is_missing_or_wrong_is_not_invented():
    for used in (None, {"input_tokens": -1, "output_tokens": 2}, {"input_tokens": "many"}):
        body = sim.message(MODEL, [{"type": "text", "text": "x"}], "end_turn", used)

        async def script(operator, driver, body=body):
            operator.forced.append(json_reply(body))
            return await drain(driver, ask())

        events = run(script)
        assert [type(e) for e in events] == [Whole, Finished]
        assert "usage" not in events[0].body


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("end_turn", "stop"), ("stop_sequence", "stop"), ("max_tokens", "length"), ("refusal", "content_filter"),
     ("pause_turn", "length"), ("model_context_window_exceeded", "length")],
)  # fmt: skip
def test_stop_reasons(reason, finish):
    body = sim.message(
        MODEL, [{"type": "text", "text": "x"}], reason, {"input_tokens": 1, "output_tokens": 1}
    )
    body["stop_details"] = {"type": "refusal", "explanation": "no"} if reason == "refusal" else None

    async def script(operator, driver):
        operator.forced.append(json_reply(body))
        return await drain(driver, ask())

    whole = run(script)[0]
    assert whole.finish == finish
    assert whole.body["choices"][0]["message"]["refusal"] == ("no" if reason == "refusal" else None)


def test_closing_the_iterator_closes_the_connection():
    async def script(operator, driver):
        reply = stream_reply(message_events(block(0, "text"), *[TEXT] * 50))
        reply.gap_s = 0.01
        operator.forced.append(reply)
        stream = driver.chat(ask(stream=True))
        await anext(stream)
        await stream.aclose()
        for _ in range(100):
            await asyncio.sleep(0.01)
            if operator.closed_early:
                return operator.closed_early
        return 0

    assert run(script) == 1


def test_the_connection_is_kept_after_a_whole_stream():
    async def script(operator, driver):
        for _ in range(3):
            reply = stream_reply(message_events(block(0, "text"), TEXT, STOP, END, LAST))
            reply.gap_s = 0.02  # the last chunk comes after the end mark
            operator.forced.append(reply)
            await drain(driver, ask(stream=True))
            await asyncio.sleep(0.05)
        return operator.connections

    assert run(script) == 1


def test_thinking_blocks_go_back_when_the_caller_kept_them():
    talk = [
        {"role": "user", "content": "x"},
        {"role": "assistant",
         "tool_calls": [{"id": "a:1", "function": {"name": "weather", "arguments": "{}"}}],
         "thinking_blocks": [{"type": "thinking", "thinking": "t", "signature": "s"}]},
        {"role": "tool", "tool_call_id": "a:1", "content": "rain"},
    ]  # fmt: skip
    call = ChatCall(body={"messages": talk, "tools": [TOOL]}, stream=False, effort="low")
    _, sent = answers(call)
    assert sent["thinking"]["type"] == "enabled"
    assert sent["messages"][1]["content"][0] == {"type": "thinking", "thinking": "t", "signature": "s"}
    assert (
        sent["messages"][1]["content"][1]["id"] == "a_1" == sent["messages"][2]["content"][0]["tool_use_id"]
    )
    del talk[1]["thinking_blocks"]
    _, sent = answers(ChatCall(body={"messages": talk, "tools": [TOOL]}, stream=False, effort="low"))
    assert sent["thinking"]["type"] == "disabled"
