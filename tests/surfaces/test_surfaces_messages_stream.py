import json

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from surface_reading import CREATED_S, RECEIPT, USAGE, answers, encode, kinds, objects, run, strict

from allod.domain.chat import Chunk, Finished, ToolCallDelta, UsageReport
from allod.domain.errors import Unavailable
from allod.gateway.surfaces.messages import MessagesSurface

SURFACE = MessagesSurface()
HELLO = {"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}], "stream": True}
THINKING = {"max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 1024}}
KINDS = kinds(RawMessageStreamEvent)
DELTAS = {"text": "text_delta", "thinking": "thinking_delta", "tool_use": "input_json_delta"}


def stream(**fields):
    return SURFACE.stream(SURFACE.parse(encode({**HELLO, **fields})), receipt=RECEIPT, created_s=CREATED_S)


def tool(index, arguments="", **known):
    return Chunk(tool_calls=(ToolCallDelta(index=index, arguments=arguments, **known),))


def blocks(events):
    """Run the dialect's state machine over a stream; return its blocks as (start, joined deltas)."""
    found, opened = [], None
    assert events[0]["type"] == "message_start"
    assert [e["type"] for e in events[-2:]] == ["message_delta", "message_stop"]
    for event in events[1:-2]:
        match event["type"]:
            case "ping":
                assert set(event) == {"type"}
            case "content_block_start":
                assert opened is None
                assert event["index"] == len(found)
                opened = event["content_block"]
                found.append((opened, []))
            case "content_block_delta":
                assert opened is not None
                assert event["index"] == len(found) - 1
                assert event["delta"]["type"] == DELTAS[opened["type"]]
                found[-1][1].append(next(v for k, v in event["delta"].items() if k != "type"))
            case "content_block_stop":
                assert opened is not None
                assert event["index"] == len(found) - 1
                opened = None
            case other:
                pytest.fail(other)
    assert opened is None
    return [(start, "".join(parts)) for start, parts in found]


def said_by(found, kind):
    return "".join(text for start, text in found if start["type"] == kind)


@given(answers())
@settings(deadline=None, max_examples=60)
def test_block_kinds_never_mix_and_nothing_is_lost_in_any_interleaving(made):
    events, said = made
    raw = objects(run(stream(**THINKING), events))
    found = blocks(raw)
    assert said_by(found, "thinking") == said["reasoning"]
    text = said_by(found, "text")
    assert sorted(text) == sorted(said["text"] + said["refusal"])
    if not said["refusal"]:
        assert text == said["text"]
    called = [
        (start["name"], json.loads(text or "{}")) for start, text in found if start["type"] == "tool_use"
    ]
    key = lambda call: json.dumps(call, sort_keys=True)  # noqa: E731
    assert sorted(called, key=key) == sorted(
        ((call["name"], json.loads(call["arguments"])) for call in said["calls"]), key=key
    )


@given(answers())
@settings(deadline=None, max_examples=60)
def test_the_sdk_reads_every_stream(made):
    events, said = made
    snapshot, buffers = None, {}
    for event in objects(run(stream(**THINKING), events)):
        if event["type"] == "ping":
            continue
        typed = strict(KINDS[event["type"]], event)
        snapshot = accumulate_event(event=typed, current_snapshot=snapshot, json_bufs=buffers)
    assert sum(block.type == "tool_use" for block in snapshot.content) == len(said["calls"])
    assert snapshot.usage.output_tokens == 42
    assert snapshot.usage.input_tokens == 70
    assert snapshot.usage.cache_read_input_tokens == 20
    wanted = {
        "stop": "end_turn",
        "length": "max_tokens",
        "tool_calls": "tool_use",
        "content_filter": "refusal",
    }
    called = said["calls"] and said["finish"] == "stop"
    assert snapshot.stop_reason == ("tool_use" if called else wanted[said["finish"]])


_anything = st.builds(
    Chunk,
    text=st.text(max_size=3),
    reasoning=st.text(max_size=3),
    refusal=st.text(max_size=2),
    choice=st.sampled_from([0, 0, 0, 1]),
    finish=st.sampled_from([None, None, "stop", "length", "tool_calls"]),
    tool_calls=st.lists(
        st.builds(
            ToolCallDelta,
            index=st.integers(0, 3),
            id=st.one_of(st.none(), st.text(max_size=3)),
            name=st.one_of(st.none(), st.sampled_from(["f", "g", ""])),
            arguments=st.sampled_from(["", "{", "}", '{"a":1}', '"x"', "nonsense", " "]),
        ),
        max_size=3,
    ).map(tuple),
)


@given(st.lists(_anything, max_size=12), st.booleans())
@settings(deadline=None)
def test_no_sequence_of_events_whatever_breaks_the_state_machine(events, thinking):
    renderer = stream(**(THINKING if thinking else {}))
    out = b"".join(renderer.feed(event) for event in events)
    try:
        out += renderer.end()
    except Unavailable:
        raw = objects(out + renderer.fail(Unavailable("x"), RECEIPT))
        assert raw[-1]["type"] == "error"
        return
    found = blocks(objects(out))
    first = [event for event in events if not event.choice]
    assert said_by(found, "thinking") == ("".join(e.reasoning for e in first) if thinking else "")
    assert sorted(said_by(found, "text")) == sorted("".join(e.text + e.refusal for e in first))
    assert all(start["id"] for start, _ in found if start["type"] == "tool_use")


def test_text_streams_live_and_the_second_tool_waits_only_for_the_first_to_be_whole():
    renderer = stream()
    assert b"text_delta" in renderer.feed(Chunk(text="a"))
    assert b'"name":"f"' in renderer.feed(tool(0, id="c1", name="f"))
    assert b"partial_json" in renderer.feed(tool(0, '{"a"'))
    assert renderer.feed(tool(1, id="c2", name="g")) == b""
    assert b"partial_json" in renderer.feed(tool(0, ":1}"))
    later = renderer.feed(tool(1, "{"))
    assert b'"name":"g"' in later
    assert b"content_block_stop" in later


def test_words_after_a_tool_call_wait_until_it_is_written():
    renderer = stream()
    renderer.feed(tool(0, '{"a":', id="c1", name="f"))
    assert renderer.feed(Chunk(text="late")) == b""
    renderer.feed(tool(0, "1}"))
    assert b'"text":"late"' in renderer.end()


def test_thinking_is_shown_only_to_who_asked():
    said = [Chunk(reasoning="hm"), Chunk(text="x"), Finished()]
    assert b"thinking_delta" not in run(stream(), said)
    assert b"thinking_delta" in run(stream(**THINKING), said)
    hidden = {**THINKING, "thinking": {**THINKING["thinking"], "display": "omitted"}}
    assert b"thinking_delta" not in run(stream(**hidden), said)


def test_foreign_tool_ids_come_out_in_anthropics_alphabet():
    found = blocks(objects(run(stream(), [tool(0, "{}", id="functions.f:0", name="f"), Finished()])))
    assert found[0][0]["id"] == "functions_f_0"


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=6))
@settings(deadline=None)
def test_native_events_pass_untouched(raws):
    events = [Chunk(text="x", raw=raw, dialect="anthropic") for raw in raws]
    end = [UsageReport(usage=USAGE), Finished(raw=b"event: message_stop\n\n", dialect="anthropic")]
    assert run(stream(), [*events, *end]) == b"".join(raws) + b"event: message_stop\n\n"


def test_native_events_get_nothing_of_ours_between_them():
    events = [
        Chunk(raw=b"1\n\n", dialect="anthropic"),
        Chunk(text="told twice"),
        Chunk(raw=b"2\n\n", dialect="anthropic"),
        Finished(raw=b"3\n\n", dialect="anthropic"),
    ]
    assert run(stream(), events) == b"1\n\n2\n\n3\n\n"


def test_the_cost_stands_in_the_last_usage():
    report = UsageReport(usage=USAGE, block={"allod_cost": "0.02"})
    raw = objects(run(stream(), [Chunk(text="x"), report, Finished()]))
    assert raw[-2]["usage"]["allod_cost"] == "0.02"


def test_a_failure_is_an_error_event_without_message_stop():
    renderer = stream()
    out = renderer.feed(Chunk(text="par")) + renderer.fail(Unavailable("late", kind="timeout"), RECEIPT)
    *_, last = objects(out)
    assert last["type"] == "error"
    assert last["error"]["type"] == "timeout_error"
    assert last["request_id"] == RECEIPT
    assert b"message_stop" not in out
