"""Reading and writing the OpenAI protocol: what must never be taken for a whole answer, and what is sent."""

from __future__ import annotations

import itertools
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allod.domain.chat import Chunk, Finished, UsageReport, Whole
from allod.engines.contract import EngineContext, EngineFault
from allod.engines.openai import answer

CONTEXT = EngineContext(environ={"KEY": "k"}, allow_address=lambda _h, _p: True, state_dir="/nonexistent")


def event(*choices, **more):
    return (
        b"data: "
        + json.dumps(
            {"object": "chat.completion.chunk", "model": "m", "choices": list(choices), **more}
        ).encode()
        + b"\n\n"
    )


def choice(delta=None, finish=None, index=0, **more):
    return {"index": index, "delta": delta or {}, "finish_reason": finish, **more}


USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
DONE = b"data: [DONE]\n\n"
STREAM = b"".join(
    [
        event(choice({"role": "assistant", "content": ""})),
        event(choice({"content": "Hällo"})),
        event(choice({"content": " there"})),
        event(choice(finish="stop")),
        event(usage=USAGE),
        DONE,
    ]
)
WHOLE = json.dumps(
    {
        "object": "chat.completion",
        "model": "m",
        "usage": USAGE,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Hällo there"}, "finish_reason": "stop"}
        ],
    },
).encode()


def read(*pieces):
    reader = answer.StreamReader()
    events = []
    for piece in pieces:
        events.extend(reader.feed(piece))
        if reader.done:
            break
    return [*events, *reader.end()]


def fault(*pieces):
    with pytest.raises(EngineFault) as caught:
        read(*pieces)
    return caught.value.kind


@given(st.integers(0, len(STREAM)), st.lists(st.integers(0, len(STREAM)), max_size=6))
@settings(max_examples=300)
def test_I4_no_prefix_of_a_stream_is_presented_as_whole(length, cuts):
    edges = [0, *sorted(min(cut, length) for cut in cuts), length]
    pieces = [STREAM[a:b] for a, b in itertools.pairwise(edges)]
    try:
        events = read(*pieces)
    except EngineFault as caught:
        assert caught.kind == "truncated"  # noqa: PT017 - no fault is right too
        return
    assert STREAM[:length].rstrip().endswith(b"[DONE]")
    assert "".join(event.text for event in events if isinstance(event, Chunk)) == "Hällo there"
    assert isinstance(events[-1], Finished)


@given(st.integers(0, len(WHOLE) - 1))
def test_I4_no_prefix_of_an_answer_is_presented_as_whole(length):
    with pytest.raises(EngineFault) as caught:
        answer.whole(WHOLE[:length], unframed=True)
    assert caught.value.kind == "truncated"


@given(st.integers(0, len(STREAM) - 1), st.binary(min_size=0, max_size=4), st.integers(0, 6))
@settings(max_examples=400)
def test_damaged_streams_end_in_a_fault_or_a_marked_end_and_nothing_else(at, new, cut):
    damaged = STREAM[:at] + new + STREAM[at + cut :]
    try:
        events = read(damaged)
    except EngineFault:
        return
    assert isinstance(events[-1], Finished)
    assert sum(isinstance(event, UsageReport) for event in events) <= 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "index",
                    "delta",
                    "message",
                    "content",
                    "finish_reason",
                    "usage",
                    "error",
                    "tool_calls",
                    "function",
                    "arguments",
                    "prompt_tokens",
                    "text",
                    "type",
                    "thinking",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values)
@settings(max_examples=400)
def test_any_json_is_an_answer_or_a_fault(value):
    data = json.dumps(value).encode()
    for reading in (
        lambda: answer.whole(data),
        lambda: answer.streamed(data),
        lambda: read(b"data: " + data + b"\n\n", DONE),
    ):
        try:
            reading()
        except EngineFault as caught:
            assert "\n" not in caught.detail  # noqa: PT017 - no fault is right too


@pytest.mark.parametrize("depth", [1000, 100_000])
def test_deep_nesting_is_a_fault(depth):
    data = b'{"usage":' + b'{"a":' * depth + b"1" + b"}" * depth + b',"choices":[]}'
    assert fault(b"data: " + data + b"\n\n") == "malformed"
    with pytest.raises(EngineFault):
        answer.whole(data)


def test_the_bytes_pass_through_untouched():
    events = read(STREAM)
    raws = [event.raw for event in events]
    assert b"".join(raws) == STREAM
    assert [type(event) for event in events[-2:]] == [UsageReport, Finished]
    (whole, _, _) = answer.whole(WHOLE)
    assert whole == Whole(raw=WHOLE, finish="stop")


def test_usage_beside_choices_is_reported_apart_and_once():
    events = read(
        event(choice({"content": "a"}), usage={**USAGE, "completion_tokens": 1, "total_tokens": 6}),
        event(choice(finish="stop"), usage=USAGE),
        DONE,
    )
    (report,) = [each for each in events if isinstance(each, UsageReport)]
    assert report.raw is None
    assert report.block == USAGE
    assert all(each.raw for each in events if isinstance(each, Chunk))


def test_usage_that_contradicts_itself_is_not_reported():
    events = read(
        event(choice({"content": "a"}, "stop")), event(usage={**USAGE, "completion_tokens": -2}), DONE
    )
    assert not [each for each in events if isinstance(each, UsageReport)]


def test_every_choice_must_end():
    both = [
        event(choice({"content": "a"})),
        event(choice({"content": "b"}, index=1)),
        event(choice(finish="stop")),
    ]
    assert fault(*both, DONE) == "truncated"
    events = read(*both, event(choice(finish="length", index=1)), DONE)
    assert [each.choice for each in events if isinstance(each, Chunk)] == [0, 1, 0, 1]
    assert fault(DONE) == "truncated"
    assert fault(event(choice({"content": "a"}, "stop"))) == "truncated"


def test_several_choices_in_one_event_are_taken_apart():
    events = read(event(choice({"content": "a"}, "stop"), choice({"content": "b"}, "stop", 1)), DONE)
    assert [(each.text, each.choice, each.raw) for each in events if isinstance(each, Chunk)] == [
        ("a", 0, None),
        ("b", 1, None),
    ]


@pytest.mark.parametrize(
    ("given", "standard", "kept"),
    [
        ("stop", "stop", True),
        ("length", "length", True),
        ("model_length", "length", False),
        ("eos", "stop", False),
        ("function_call", "tool_calls", False),
        ("eos_token", "stop", False),
    ],
)
def test_finish_reasons_become_standard(given, standard, kept):
    events = read(event(choice({"content": "a"}, given)), DONE)
    assert events[0].finish == standard
    assert (events[0].raw is not None) is kept
    body = WHOLE.replace(b'"finish_reason": "stop"', f'"finish_reason": "{given}"'.encode())
    whole = answer.whole(body)[0]
    assert whole.finish == standard
    shown = whole.body or msgspec.json.decode(whole.raw)
    assert shown["choices"][0]["finish_reason"] == standard


@pytest.mark.parametrize("reason", ["error", "abort", "insufficient_system_resource", "timeout", "odd"])
def test_broken_ends_are_faults(reason):
    assert fault(event(choice({"content": "a"}, reason)), DONE) == "server"


def test_tool_calls_without_numbers_are_numbered():
    def piece(**call):
        return event(choice({"tool_calls": [call]}))

    events = read(
        piece(id="a", function={"name": "f", "arguments": "{}"}),
        piece(function={"arguments": " "}),
        piece(id="b", function={"name": "g", "arguments": "{}"}),
        event(choice(finish="tool_calls")),
        DONE,
    )
    calls = [call for each in events if isinstance(each, Chunk) for call in each.tool_calls]
    assert [(call.index, call.id, call.name) for call in calls] == [
        (0, "a", "f"),
        (0, None, None),
        (1, "b", "g"),
    ]
    assert all(each.raw is None for each in events if isinstance(each, Chunk) and each.tool_calls)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"error": {"message": "x", "type": "server_error"}}, "server"),
        ({"error": "out of memory"}, "server"),
        ({"error": {"code": 429, "message": "slow down"}}, "rate"),
        ({"error": {"code": 503}}, "overloaded"),
        ({"error": {"type": "overloaded_error"}}, "overloaded"),
        ({"error": {"code": "rate_limit_exceeded"}}, "rate"),
        ({"error": {"code": "context_length_exceeded"}}, "too_long"),
        ({"object": "error", "message": "boom", "code": 500}, "server"),
    ],
)
def test_error_objects_with_status_200_are_faults_of_their_kind(error, kind):
    assert (
        fault(event(choice({"content": "a"})), b"data: " + json.dumps(error).encode() + b"\n\n", DONE) == kind
    )
    with pytest.raises(EngineFault) as caught:
        answer.whole(json.dumps(error).encode())
    assert caught.value.kind == kind


def test_filter_annotations_before_the_answer_are_passed_over():
    events = read(event(prompt_filter_results=[{}]), event(choice({"content": "a"}, "stop")), DONE)
    assert len(events) == 2
