import json

import pytest
from hypothesis import given, settings
from openai.lib.streaming.chat._completions import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from surface_reading import CREATED_S, RECEIPT, USAGE, answers, encode, objects, run, sse, strict

from allod.domain.chat import Chunk, Finished, ToolCallDelta, UsageReport, Whole
from allod.domain.errors import Refused, Unavailable
from allod.domain.usage import Usage
from allod.gateway.surfaces.chat import ChatSurface

CHAT = ChatSurface()
HELLO = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
RAW = b'data: {"id":"up-1","object":"chat.completion.chunk","created":5,"model":"up","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'  # noqa: E501
RAW_USAGE = b'data: {"id":"up-1","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n'  # noqa: E501


def parsed(**fields):
    return CHAT.parse(encode({**HELLO, **fields}))


def stream(*, usage=False):
    asked = {"stream_options": {"include_usage": True}} if usage else {}
    return CHAT.stream(parsed(stream=True, **asked), receipt=RECEIPT, created_s=CREATED_S)


def whole(answer, report=None):
    return CHAT.whole(parsed(), answer, report, receipt=RECEIPT, created_s=CREATED_S)


def test_raw_answers_pass_untouched():
    raw = b'{ "id" : "up" }'
    assert whole(Whole(raw=raw)) is raw


def test_a_translated_answer_is_completed():
    body = {"choices": [{"message": {"content": "hi"}}], "model": "served"}
    answer = strict(ChatCompletion, whole(Whole(body=body, finish="length"), UsageReport(usage=USAGE)))
    assert answer.id == f"chatcmpl-{RECEIPT[2:]}"
    assert (answer.created, answer.model, answer.object) == (CREATED_S, "served", "chat.completion")
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.model_dump(include={"role", "content", "refusal", "annotations"}) == {
        "role": "assistant",
        "content": "hi",
        "refusal": None,
        "annotations": [],
    }
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (
        100,
        42,
        142,
    )
    assert answer.usage.prompt_tokens_details.cached_tokens == 20
    assert answer.usage.completion_tokens_details.reasoning_tokens == 12


@pytest.mark.parametrize(
    "body", [{}, {"choices": []}, {"choices": [{}]}, {"choices": ["x"]}, {"choices": {}}]
)
def test_an_answer_without_choices_is_not_presented(body):
    with pytest.raises(Unavailable):
        whole(Whole(body=body))


def test_an_answer_of_a_dialect_nobody_asked_for_is_not_presented():
    with pytest.raises(Unavailable):
        whole(Whole(raw=b"{}", dialect="anthropic"))


def test_raw_events_pass_untouched_and_usage_only_when_asked():
    events = [
        Chunk(raw=RAW, text="hi"),
        UsageReport(usage=USAGE, raw=RAW_USAGE),
        Finished(raw=b"data: [DONE]\n\n"),
    ]
    assert run(stream(), events) == RAW + b"data: [DONE]\n\n"
    assert run(stream(usage=True), events) == RAW + RAW_USAGE + b"data: [DONE]\n\n"


def test_usage_inside_a_choice_chunk_becomes_a_chunk_of_its_own_with_the_operators_names():
    block = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "allod_cost": "0.001"}
    events = [Chunk(raw=RAW, text="hi"), UsageReport(usage=USAGE, block=block), Finished()]
    *_, last = objects(run(stream(usage=True), events))
    assert last["choices"] == []
    assert last["usage"] == block
    assert (last["id"], last["created"], last["model"]) == ("up-1", 5, "up")
    assert run(stream(), events) == RAW + b"data: [DONE]\n\n"


def test_translated_events_become_chunks():
    events = [
        Chunk(reasoning="hm"),
        Chunk(text="hel"),
        Chunk(text="lo", logprobs={"content": [], "refusal": None}),
        Chunk(tool_calls=(ToolCallDelta(index=0, id="c1", name="f"),)),
        Chunk(tool_calls=(ToolCallDelta(index=0, arguments='{"a":1}'),)),
        Chunk(finish="tool_calls"),
        UsageReport(usage=USAGE),
        Finished(),
    ]
    raw = run(stream(usage=True), events)
    assert sse(raw)[-1] == (None, "[DONE]")
    chunks = objects(raw)
    for chunk in chunks:
        strict(ChatCompletionChunk, chunk)
        assert chunk["id"] == f"chatcmpl-{RECEIPT[2:]}"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "reasoning_content": "hm"}
    assert all("role" not in chunk["choices"][0]["delta"] for chunk in chunks[1:-1])
    assert chunks[3]["choices"][0]["delta"]["tool_calls"] == [
        {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    ]
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * 6
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 142


def test_an_empty_translated_stream_still_has_a_role_and_a_finish():
    (chunk,) = objects(run(stream(), [Finished()]))
    choice = strict(ChatCompletionChunk, chunk).choices[0]
    assert (choice.delta.role, choice.finish_reason) == ("assistant", "stop")


def test_each_choice_gets_its_role_and_its_finish():
    events = [Chunk(text="a"), Chunk(text="b", choice=1), Chunk(finish="length", choice=1), Finished()]
    chunks = [chunk["choices"][0] for chunk in objects(run(stream(), events))]
    assert [(c["index"], c["delta"].get("role"), c["finish_reason"]) for c in chunks] == [
        (0, "assistant", None),
        (1, "assistant", None),
        (1, None, "length"),
        (0, None, "stop"),
    ]


def test_a_failure_ends_the_stream_without_end_mark():
    renderer = stream()
    renderer.feed(Chunk(text="par"))
    raw = renderer.fail(Unavailable("the deployment broke off", kind="failed"), RECEIPT)
    (error,) = objects(raw)
    assert error["error"]["type"] == "server_error"
    assert error["error"]["code"] == "upstream_failed"
    assert error["error"]["allod"] == {"receipt": RECEIPT}
    assert b"[DONE]" not in raw


def test_a_refusal_mid_stream_names_rules():
    (error,) = objects(stream().fail(Refused("no", excluded=(), nearest=()), RECEIPT))
    assert error["error"]["allod"] == {"receipt": RECEIPT, "excluded": [], "nearest": []}


@given(answers())
@settings(deadline=None, max_examples=60)
def test_the_sdk_reads_back_what_was_said_in_any_interleaving(made):
    events, said = made
    state = ChatCompletionStreamState()
    for chunk in objects(run(stream(usage=True), events)):
        state.handle_chunk(strict(ChatCompletionChunk, chunk))
    message = state.current_completion_snapshot.choices[0].message
    assert (message.content or "") == said["text"]
    assert (message.refusal or "") == said["refusal"]
    assert [(c.function.name, c.function.arguments) for c in message.tool_calls or []] == [
        (call["name"], call["arguments"]) for call in said["calls"]
    ]
    assert state.current_completion_snapshot.choices[0].finish_reason == said["finish"]
    assert state.current_completion_snapshot.usage.total_tokens == 142


@pytest.mark.parametrize(
    "block", [{}, {"prompt_tokens": 1}, {"prompt_tokens": "1", "completion_tokens": 1, "total_tokens": 2}]
)
def test_a_half_usage_block_is_not_passed_on(block):
    raw = whole(
        Whole(body={"choices": [{"message": {}}]}), UsageReport(usage=Usage(input_tokens=3), block=block)
    )
    assert json.loads(raw)["usage"]["prompt_tokens"] == 3
