"""The Anthropic state machine and request translation, without sockets, and the bounds of the exchange."""

from __future__ import annotations

import asyncio
import json

import pytest
from simulators.anthropic import message
from simulators.server import Reply, sse, stream_reply
from test_anthropic import SCHEMA, TOOL, ask, block, delta, drain, fault_of, message_events, run

from allod.domain.chat import ChatCall, Chunk, Finished, UsageReport
from allod.engines.anthropic.request import ANSWER_TOOL, prepare
from allod.engines.anthropic.stream import MessageStream
from allod.engines.contract import EngineFault
from allod.engines.sse import data_of

FORM = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
END = {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 2}}


def feed(*events: dict, native: bool = False, answer_tool: str | None = None) -> list:
    machine = MessageStream(native=native, answer_tool=answer_tool)
    start = {
        "type": "message_start",
        "message": message("m", [], None, {"input_tokens": 3, "output_tokens": 1}),
    }
    return [out for event in (start, *events) for out in machine.feed(json.dumps(event).encode(), sse(event))]


def start(index: int, **fields: object) -> dict:
    return {"type": "content_block_start", "index": index, "content_block": fields}


def piece(index: int, **fields: object) -> dict:
    return {"type": "content_block_delta", "index": index, "delta": fields}


def stop(index: int) -> dict:
    return {"type": "content_block_stop", "index": index}


def text_of(events: list) -> str:
    return "".join(e.text for e in events if isinstance(e, Chunk))


def test_a_ping_in_the_middle_passes_at_once_and_in_order():
    machine = MessageStream(native=True)
    events = message_events(block(0, "text"), sse({"type": "ping"}), delta(0, type="text_delta", text="a"))
    outs = [[e.raw for e in machine.feed(data_of(raw), raw)] for raw in events]
    assert [len(out) for out in outs] == [0, 2, 1, 1]
    assert b"ping" in outs[2][0]


@pytest.mark.parametrize("answers", [True, False])
def test_words_before_a_forced_json_answer_are_told_only_if_no_json_comes(answers):
    words = [start(0, type="text", text=""), piece(0, type="text_delta", text="Sure: "), stop(0)]
    call = [start(1, type="tool_use", id="t", name="j", input={}),
            piece(1, type="input_json_delta", partial_json='{"a":1}'), stop(1)]  # fmt: skip
    end = END if answers else {**END, "delta": {"stop_reason": "refusal"}}
    out = feed(*words, *(call if answers else []), end, {"type": "message_stop"}, answer_tool="j")
    assert text_of(out) == ('{"a":1}' if answers else "Sure: ")
    assert not any(e.tool_calls for e in out if isinstance(e, Chunk))
    finish = [e.finish for e in out if isinstance(e, Chunk) and e.finish]
    assert finish == (["stop"] if answers else ["content_filter"])


def test_an_answer_tool_called_without_input_is_an_empty_object():
    out = feed(start(0, type="tool_use", id="t", name="j", input={}), stop(0), END, answer_tool="j")
    assert text_of(out) == "{}"


def test_input_that_stands_in_the_start_of_a_call_is_kept():
    out = feed(start(0, type="tool_use", id="t", name="w", input={"city": "Oslo"}), stop(0), END)
    arguments = "".join(d.arguments for e in out if isinstance(e, Chunk) for d in e.tool_calls)
    assert json.loads(arguments) == {"city": "Oslo"}


def test_counts_that_are_null_keep_what_was_said_before():
    end = {**END, "usage": {"output_tokens": 9, "input_tokens": None, "cache_read_input_tokens": 4}}
    out = feed(end, {"type": "message_stop"})
    [report] = [e for e in out if isinstance(e, UsageReport)]
    assert (report.usage.input_tokens, report.usage.cache_read_tokens, report.usage.output_tokens) == (
        3,
        4,
        9,
    )


def test_blocks_of_the_operators_own_tools_are_for_native_callers_only():
    events = [start(0, type="server_tool_use", id="s", name="web", input={}),
              piece(0, type="input_json_delta", partial_json="{}"), stop(0),
              start(1, type="web_search_tool_result", tool_use_id="s", content=[]), stop(1),
              {**END, "delta": {"stop_reason": "a_new_reason"}}, {"type": "message_stop"}]  # fmt: skip
    out = feed(*events, native=True)
    assert text_of(out) == ""
    assert b"".join(e.raw for e in out if getattr(e, "raw", None)).count(b"data: ") == 8
    assert "length" in [e.finish for e in out if isinstance(e, Chunk)]
    for part in (events[:1], events[3:4]):
        with pytest.raises(EngineFault) as caught:
            feed(*part)
        assert caught.value.kind == "malformed"


def test_every_byte_reaches_a_native_caller_exactly_once():
    events = [start(0, type="text", text=""), piece(0, type="text_delta", text="a"), stop(0), END,
              {"type": "message_stop"}]  # fmt: skip
    out = feed(*events, native=True)
    assert isinstance(out[-1], Finished)
    raws = [e.raw for e in out if getattr(e, "raw", None)]
    assert raws[-5:] == [sse(event) for event in events]


def body_of(model: str = "claude-opus-5", effort: str | None = None, limit: int = 4096, **fields) -> dict:
    return prepare(ask(effort=effort, max_output_tokens=limit, **fields), model).body


def test_a_forced_tool_wins_over_thinking():
    for model in ("claude-opus-5", "claude-haiku-4-5"):
        sent = body_of(model, "high", tools=[TOOL], tool_choice="required")
        assert sent["thinking"] == {"type": "disabled"}


def test_the_answer_tool_never_takes_the_name_of_a_callers_tool():
    mine = {"type": "function", "function": {"name": ANSWER_TOOL}}
    prepared = prepare(ask(tools=[mine, TOOL], response_format=FORM), "served-model")
    names = [tool["name"] for tool in prepared.body["tools"]]
    assert len(set(names)) == len(names) == 3
    assert prepared.answer_tool == names[-1] != ANSWER_TOOL
    assert prepared.body["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}


def test_a_schema_is_refused_where_it_can_neither_be_enforced_nor_forced():
    with pytest.raises(EngineFault) as caught:
        body_of("claude-fable-5", response_format={"type": "json_object"})
    assert (caught.value.kind, caught.value.sent) == ("request", False)


def test_only_one_of_two_sampling_parameters_where_they_exclude_each_other():
    assert "top_p" not in body_of("claude-sonnet-4-5", temperature=0.5, top_p=0.5)
    both = body_of("claude-3-haiku-20240307", temperature=0.5, top_p=0.5, top_k=7)
    assert (both["temperature"], both["top_p"], both["top_k"]) == (0.5, 0.5, 7)


def test_a_prefilled_answer_ends_without_white_space():
    talk = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "The answer is \n"}]
    sent = prepare(ChatCall(body={"messages": talk}, stream=False), "m").body
    assert sent["messages"][-1]["content"] == [{"type": "text", "text": "The answer is"}]


def test_the_limit_in_force_binds_a_native_request():
    native = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 900}
    for limit, sent in ((500, 500), (2000, 900)):
        call = ask(native=native, native_dialect="anthropic", max_output_tokens=limit)
        assert prepare(call, "claude-opus-5").body["max_tokens"] == sent


@pytest.mark.parametrize("beta", ["a\r\nx: y", "a b", "", 3, ["a"]])
def test_a_beta_name_cannot_smuggle_a_header(beta):
    native = {"messages": [{"role": "user", "content": "x"}], "anthropic_beta": [beta]}
    with pytest.raises(EngineFault):
        prepare(ask(native=native, native_dialect="anthropic"), "m")


def test_keep_alives_are_no_answer():
    reply = Reply(200, {"content-type": "text/event-stream"}, pieces=[b": wait\n\n"] * 40, gap_s=0.05)
    fault = fault_of(reply, stream=True)
    assert fault.kind == "timeout"
    assert "first" in fault.detail


def test_an_endless_stream_ends_at_its_bound():
    text = delta(0, type="text_delta", text="x" * 500_000)
    reply = stream_reply(message_events(block(0, "text"), *[text] * 12))
    assert fault_of(reply, stream=True, max_output_tokens=10).kind == "oversize"


def test_an_enormous_line_ends_at_its_bound():
    reply = stream_reply(message_events(block(0, "text"), delta(0, type="text_delta", text="x" * 1_100_000)))
    assert fault_of(reply, stream=True).kind == "oversize"


def test_an_error_body_that_breaks_does_not_hide_the_status():
    broken = Reply(529, {"content-length": "100"}, b"{", end="cut")
    assert fault_of(broken, stream=False).kind == "overloaded"


def test_a_native_answer_that_is_whole_passes_byte_for_byte():
    native = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 9}

    async def script(operator, driver):
        events = await drain(driver, ask(native=native, native_dialect="anthropic"))
        return events, operator.connections

    events, _ = run(script)
    assert json.loads(events[0].raw)["content"][0]["text"] == "hello"
    assert (events[0].body, events[0].finish) == (None, "stop")


def test_cancelling_the_task_closes_the_connection():
    async def script(operator, driver):
        reply = stream_reply(message_events(block(0, "text")))
        reply.end = "hang"
        operator.forced.append(reply)
        task = asyncio.create_task(drain(driver, ask(stream=True)))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return driver._wire.open_connections

    assert run(script) == 0


@pytest.mark.parametrize(("mode", "sent"), [("auto", {"type": "auto"}), ("required", {"type": "any"})])
def test_only_allowed_tools_are_offered(mode, sent):
    other = {"type": "function", "function": {"name": "other"}}
    name = {"type": "function", "function": {"name": "weather"}}
    chosen = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [name]}}
    body = body_of(tools=[other, TOOL], tool_choice=chosen)
    assert [tool["name"] for tool in body["tools"]] == ["weather"]
    assert body["tool_choice"] == sent
    chosen["allowed_tools"]["tools"] = [{"type": "function", "function": {"name": "none"}}]
    with pytest.raises(EngineFault):
        body_of(tools=[other, TOOL], tool_choice=chosen)
