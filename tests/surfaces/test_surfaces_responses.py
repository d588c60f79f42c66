import json

import pytest
from hypothesis import given, settings
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from surface_reading import CREATED_S, RECEIPT, USAGE, answers, encode, kinds, objects, run, strict

from allod.domain.chat import Chunk, Finished, ToolCallDelta, UsageReport, Whole
from allod.domain.errors import Unavailable
from allod.gateway.surfaces.faults import Rejected
from allod.gateway.surfaces.responses import ResponsesSurface

SURFACE = ResponsesSurface()
HELLO = {"model": "auto", "input": "hello"}
KINDS = kinds(ResponseStreamEvent)
CORE = RECEIPT[2:]


def parse(**fields):
    return SURFACE.parse(encode({**HELLO, **fields}))


def refuse(**fields):
    with pytest.raises(Rejected) as caught:
        parse(**fields)
    status, raw = SURFACE.error(caught.value, None)
    assert status == 400
    return json.loads(raw)["error"]


def whole(body, parsed=None, report=None):
    raw = SURFACE.whole(parsed or parse(), Whole(body=body), report, receipt=RECEIPT, created_s=CREATED_S)
    return strict(Response, raw), json.loads(raw)


def stream(**fields):
    return SURFACE.stream(parse(stream=True, **fields), receipt=RECEIPT, created_s=CREATED_S)


def test_text_input_becomes_one_user_message_after_the_instructions():
    assert parse(instructions="be kind").body["messages"] == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hello"},
    ]


ITEMS = [
    {"role": "developer", "content": "d"},
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "u"}]},
    {
        "role": "user",
        "content": [
            {"type": "input_text", "text": "see"},
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "high"},
        ],
    },
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "xx"},
    {
        "type": "message",
        "id": "msg_1",
        "status": "completed",
        "role": "assistant",
        "phase": "commentary",
        "content": [{"type": "output_text", "text": "a", "annotations": [], "logprobs": []}],
    },
    {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "c1",
        "name": "f",
        "arguments": "{}",
        "status": "completed",
    },
    {"type": "function_call", "call_id": "c2", "name": "g", "arguments": '{"x":1}'},
    {"type": "function_call_output", "call_id": "c1", "output": "one"},
    {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "two"}]},
]


def test_items_become_messages():
    assert parse(input=ITEMS).body["messages"] == [
        {"role": "system", "content": "d"},
        {"role": "user", "content": "u"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "see"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "high"}},
            ],
        },
        {
            "role": "assistant",
            "content": "a",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "c2", "type": "function", "function": {"name": "g", "arguments": '{"x":1}'}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": "two"},
    ]


def test_settings_are_translated():
    tool = {
        "type": "function",
        "name": "f",
        "description": "d",
        "parameters": {"type": "object"},
        "strict": True,
    }
    parsed = parse(
        tools=[tool, {**tool, "name": "g"}],
        tool_choice={
            "type": "allowed_tools",
            "mode": "required",
            "tools": [{"type": "function", "name": "g"}],
        },
        text={
            "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}},
            "verbosity": "low",
        },
        reasoning={"effort": "minimal", "summary": "auto"},
        max_output_tokens=9,
        top_logprobs=2,
        temperature=0.5,
        metadata={"Allod-Task": "t"},
        store=True,
        min_p=0.1,
        truncation="auto",
        include=["reasoning.encrypted_content"],
    )
    body = parsed.body
    assert [tool["function"]["name"] for tool in body["tools"]] == ["g"]
    assert body["tool_choice"] == "required"
    assert body["response_format"]["json_schema"] == {"name": "n", "schema": {"type": "object"}}
    assert (body["reasoning_effort"], parsed.effort) == ("minimal", "low")
    assert (body["max_completion_tokens"], parsed.max_output_tokens) == (9, 9)
    assert (body["logprobs"], body["top_logprobs"], body["verbosity"], body["min_p"]) == (True, 2, "low", 0.1)
    assert not body.keys() & {"metadata", "store", "truncation", "include"}
    assert parsed.metadata == {"Allod-Task": "t"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "custom", "name": "x"}]}, "tools[0].type"),
        ({"tools": [{"type": "mcp", "server_label": "x"}]}, "tools[0].type"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
            "input[0].content[0].type",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].file_id",
        ),
    ],
)
def test_what_needs_a_memory_or_a_tool_of_ours_is_not_supported(fields, param):
    error = refuse(**fields)
    assert (error["code"], error["param"]) == ("not_supported", param)


def test_a_field_that_says_nothing_passes():
    parse(previous_response_id=None, background=False, conversation=None)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"input": None}, "input", "invalid_type"),
        ({"input": []}, "input", "empty_array"),
        ({"input": [{"role": "user"}]}, "input[0].content", "missing_required_parameter"),
        ({"input": [{"role": "king", "content": "x"}]}, "input[0].role", "invalid_value"),
        ({"input": [{"type": "nothing"}]}, "input[0].type", "invalid_value"),
        ({"input": [{"role": "user", "content": "x", "mood": 1}]}, "input[0].mood", "unknown_parameter"),
        (
            {"input": [{"type": "function_call_output", "call_id": "c", "output": ""}]},
            "input[0].call_id",
            "invalid_value",
        ),
        ({"foo": 1}, "foo", "unknown_parameter"),
        ({"max_output_tokens": 0}, "max_output_tokens", "integer_below_min_value"),
        ({"tools": [{"name": "f"}]}, "tools[0].type", "missing_required_parameter"),
        ({"tool_choice": "required"}, "tool_choice", None),
        ({"stream_options": {}}, "stream_options", "invalid_parameter_combination"),
        ({"include": ["everything"]}, "include[0]", "invalid_value"),
        ({"top_k": "x"}, "top_k", "invalid_type"),
    ],
)
def test_complaints_name_field_and_code(fields, param, code):
    error = refuse(**fields)
    assert (error["param"], error["code"]) == (param, code)


def test_a_whole_answer_has_every_field():
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    entry = {"token": "hi", "logprob": -0.1, "bytes": [104, 105], "top_logprobs": []}
    choice = {
        "message": {"content": "hi", "reasoning_content": "hm", "refusal": "no", "tool_calls": calls},
        "logprobs": {"content": [entry]},
        "finish_reason": "tool_calls",
    }
    parsed = parse(
        store=True,
        metadata={"a": "b"},
        tools=[{"type": "function", "name": "f"}],
        reasoning={"effort": "low"},
    )
    answer, raw = whole({"choices": [choice], "model": "served"}, parsed, UsageReport(usage=USAGE))
    assert (answer.id, answer.model, answer.status, answer.created_at) == (
        f"resp_{CORE}",
        "served",
        "completed",
        CREATED_S,
    )
    assert [item.type for item in answer.output] == ["reasoning", "message", "function_call"]
    assert answer.output_text == "hi"
    assert answer.output[1].content[0].logprobs[0].token == "hi"
    assert answer.output[2].call_id == "c1"
    assert raw["store"] is False
    assert raw["metadata"] == {"a": "b"}
    assert raw["usage"] == {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 10},
        "output_tokens": 42,
        "output_tokens_details": {"reasoning_tokens": 12},
        "total_tokens": 142,
    }
    assert raw["tools"] == [
        {"type": "function", "name": "f", "description": None, "parameters": None, "strict": None}
    ]


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        ("stop", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
    ],
)
def test_a_cut_answer_is_incomplete(finish, status, reason):
    answer, _ = whole({"choices": [{"message": {"content": "x"}, "finish_reason": finish}]})
    assert answer.status == status
    assert (answer.incomplete_details.reason if answer.incomplete_details else None) == reason
    *_, last = objects(run(stream(), [Chunk(text="x"), Chunk(finish=finish), Finished()]))
    assert last["type"] == f"response.{status}"


def test_a_tool_without_a_name_is_not_presented():
    with pytest.raises(Unavailable):
        whole({"choices": [{"message": {"tool_calls": [{"id": "x", "function": {}}]}}]})
    renderer = stream()
    renderer.feed(Chunk(tool_calls=(ToolCallDelta(index=0, arguments="{}"),)))
    with pytest.raises(Unavailable):
        renderer.end()


def test_the_event_sequence_of_a_text():
    events = objects(run(stream(), [Chunk(text="hel"), Chunk(text="lo"), Chunk(finish="stop"), Finished()]))
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]


def test_reasoning_goes_to_the_summary_when_one_was_asked_for():
    said = [Chunk(reasoning="hm"), Chunk(text="x"), Finished()]
    plain = [event["type"] for event in objects(run(stream(), said))]
    asked = [event["type"] for event in objects(run(stream(reasoning={"summary": "auto"}), said))]
    assert "response.reasoning_text.delta" in plain
    assert "response.reasoning_summary_text.delta" in asked
    assert "response.reasoning_summary_part.added" in asked
    assert "response.reasoning_text.delta" not in asked


def test_the_cost_stands_in_the_last_usage():
    report = UsageReport(usage=USAGE, block={"allod_cost": "0.02"})
    *_, last = objects(run(stream(), [Chunk(text="x"), report, Finished()]))
    assert last["response"]["usage"]["allod_cost"] == "0.02"


def test_a_failure_is_the_last_event():
    renderer = stream()
    out = renderer.feed(Chunk(text="par")) + renderer.fail(Unavailable("broke off", kind="failed"), RECEIPT)
    *_, last = objects(out)
    event = strict(KINDS["response.failed"], last)
    assert event.response.status == "failed"
    assert event.response.error.code == "server_error"
    assert last["response"]["error"]["allod"] == {"receipt": RECEIPT}


def _lifecycle(events):
    """Check numbering and that every item and part opens once, closes once and fits its deltas."""
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    opened, closed, parts = {}, {}, {}
    for event in events:
        kind, index = event["type"], event.get("output_index")
        if kind == "response.output_item.added":
            assert index == len(opened)
            opened[index] = event["item"]
        elif kind == "response.output_item.done":
            assert index in opened
            assert index not in closed
            assert opened[index]["id"] == event["item"]["id"]
            closed[index] = event["item"]
        elif index is not None:
            assert index in opened
            assert index not in closed
            assert event["item_id"] == opened[index]["id"]
            part = parts.setdefault((index, event.get("content_index"), event.get("summary_index")), [])
            if kind.endswith(("_text.delta", "refusal.delta", "arguments.delta")):
                part.append(event["delta"])
            elif kind.endswith(("_text.done", "refusal.done", "arguments.done")):
                said = event.get("text", event.get("refusal", event.get("arguments")))
                assert "".join(part) == said
    assert opened.keys() == closed.keys()
    return [closed[index] for index in sorted(closed)]


@given(answers())
@settings(deadline=None, max_examples=60)
def test_the_sdk_reads_back_what_was_said_in_any_interleaving(made):
    events, said = made
    raw = objects(run(stream(), events))
    typed = [strict(KINDS[event["type"]], event) for event in raw]
    output = _lifecycle(raw)
    state = ResponseStreamState(input_tools=[], text_format=omit)
    for event in typed:
        state.handle_event(event)
    response = typed[-1].response
    assert raw[-1]["response"]["output"] == output
    assert response.output_text == said["text"]
    assert [(item.name, item.arguments) for item in response.output if item.type == "function_call"] == [
        (call["name"], call["arguments"]) for call in said["calls"]
    ]
    reasoning = [part.text for i in response.output if i.type == "reasoning" for part in i.content]
    assert "".join(reasoning) == said["reasoning"]
    assert response.usage.total_tokens == 142
