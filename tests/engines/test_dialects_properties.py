"""Properties of the translations: whatever comes, the dialect's rules are kept."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise

import pytest
from anthropic.types import RawMessageStreamEvent
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from simulators import anthropic as anthropic_sim
from simulators import gemini as gemini_sim
from simulators.server import sse

from allod.domain.chat import ChatCall, Chunk, Finished
from allod.engines.anthropic.request import prepare as anthropic_request
from allod.engines.anthropic.schema import closed
from allod.engines.anthropic.stream import MessageStream
from allod.engines.contract import EngineFault
from allod.engines.gemini.answer import ContentStream
from allod.engines.gemini.request import prepare as gemini_request
from allod.engines.gemini.schema import fitted
from allod.engines.sse import Splitter, data_of

PARAMS = TypeAdapter(MessageCreateParamsNonStreaming)
RAW_EVENT = TypeAdapter(RawMessageStreamEvent)
PNG = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("weather", "sum")]

texts = st.one_of(st.sampled_from(["", " ", "\n\t", "hi", "två ord", "x" * 50]), st.text(max_size=8)).filter(
    lambda text: text.isascii() or not any(0xD800 <= ord(c) < 0xE000 for c in text)
)
parts = st.one_of(texts.map(lambda t: {"type": "text", "text": t}), st.just(PNG))
contents = st.one_of(texts, st.lists(parts, max_size=3), st.none())
plain = st.one_of(texts, st.lists(texts.map(lambda t: {"type": "text", "text": t}), max_size=2), st.none())
ids = st.one_of(st.sampled_from(["call_1", "call_2", "functions.x:0", "é"]), st.text(min_size=1, max_size=6))
arguments = st.one_of(
    st.sampled_from(["", "{}", "[1]", "not json", '{"a": {"b": [1]}}', "null"]),
    st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=2).map(json.dumps),
)


def lone(role: str, inner: st.SearchStrategy) -> st.SearchStrategy:
    return inner.map(lambda content: [{"role": role, "content": content}])


@st.composite
def tool_loops(draw: st.DrawFn) -> list[dict]:
    """An assistant's calls and all their answers, in any order."""
    chosen = draw(st.lists(ids, min_size=1, max_size=3, unique=True))
    calls = [
        {"id": i, "type": "function", "function": {"name": "weather", "arguments": draw(arguments)}}
        for i in chosen
    ]
    answers = [
        {"role": "tool", "tool_call_id": i, "content": draw(plain)} for i in draw(st.permutations(chosen))
    ]
    return [{"role": "assistant", "content": draw(plain), "tool_calls": calls}, *answers]


steps = st.one_of(
    lone("system", plain),
    lone("developer", plain),
    lone("user", contents),
    lone("assistant", plain),
    tool_loops(),
)
conversations = st.lists(steps, min_size=1, max_size=8).map(lambda runs: [m for run in runs for m in run])
efforts = st.sampled_from([None, "none", "low", "medium", "high", "xhigh", "max"])
options = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1),
        "stop": st.sampled_from(["x", ["a", "b"]]),
        "tools": st.just(TOOLS),
        "parallel_tool_calls": st.booleans(),
    },
)


def has_content(messages: list[dict]) -> bool:
    def said(content: object) -> bool:
        if isinstance(content, str):
            return bool(content.strip())
        return any(p is PNG or p.get("text", "").strip() for p in content or [])

    return any(said(m.get("content")) or m.get("tool_calls") for m in messages)


def exhaust(value: object) -> None:
    """Walk everything: pydantic checks an ``Iterable`` only as it is walked."""
    if isinstance(value, dict):
        value = value.values()
    if isinstance(value, Iterable) and not isinstance(value, str):
        for inner in value:
            exhaust(inner)


def call(messages: list[dict], more: dict, effort: str | None, limit: int) -> ChatCall:
    return ChatCall(body={"messages": messages, **more}, stream=False, effort=effort, max_output_tokens=limit)


@settings(max_examples=200, deadline=None)
@given(
    conversations, options, efforts, st.sampled_from([1, 1024, 1400, 64_000]),
    st.sampled_from(["claude-sonnet-4-5", "claude-opus-5", "claude-opus-4-6"]),
)  # fmt: skip
def test_every_lawful_conversation_is_a_valid_messages_request(messages, more, effort, limit, model):
    if not has_content(messages):
        return
    body = anthropic_request(call(messages, more, effort, limit), model).body
    anthropic_sim.check(body)
    exhaust(PARAMS.validate_python(body))
    roles = [message["role"] for message in body["messages"]]
    assert roles[0] == "user"
    assert all(a != b for a, b in pairwise(roles))


@settings(max_examples=200, deadline=None)
@given(
    conversations, options, efforts, st.sampled_from([1, 1024, 64_000]),
    st.sampled_from(["2.5-flash", "2.5-pro", "3.5-flash", "3-pro", "2.0-flash"]).map("gemini-{}".format),
)  # fmt: skip
def test_every_lawful_conversation_is_a_valid_generate_content_request(messages, more, effort, limit, model):
    if not has_content(messages):
        return
    more.pop("parallel_tool_calls", None)
    gemini_sim.check(gemini_request(call(messages, more, effort, limit), model), model)


@settings(max_examples=200, deadline=None)
@given(st.permutations(range(6)), conversations, st.data())
def test_any_sequence_at_all_is_valid_or_refused_unsent(order, messages, data):
    shuffled = [messages[i % len(messages)] for i in order][: data.draw(st.integers(1, 6))]
    for prepare, check in (
        (lambda c: anthropic_request(c, "claude-opus-5").body, anthropic_sim.check),
        (lambda c: gemini_request(c, "gemini-3.5-flash"), lambda b: gemini_sim.check(b, "gemini-3.5-flash")),
    ):
        try:
            body = prepare(call(shuffled, {}, None, 100))
        except EngineFault as fault:
            assert (fault.kind, fault.sent) == ("request", False)  # noqa: PT017
        else:
            check(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(
    json_values,
    st.sampled_from(["messages", "tools", "tool_choice", "response_format", "stop", "temperature"]),
)
def test_hostile_values_are_refused_and_never_crash(value, key):
    body = {"messages": [{"role": "user", "content": "x"}], key: value}
    for prepare, model in ((anthropic_request, "claude-sonnet-4-5"), (gemini_request, "gemini-2.5-flash")):
        try:
            prepare(ChatCall(body=body, stream=False), model)
        except EngineFault as fault:
            assert (fault.kind, fault.sent) == ("request", False)  # noqa: PT017


blocks = st.lists(
    st.tuples(st.sampled_from(["text", "thinking", "tool_use"]), st.lists(st.text(max_size=6), max_size=4)),
    max_size=5,
)


def stream_of(given_blocks: list[tuple[str, list[str]]]) -> list[bytes]:
    """Build a lawful stream whose blocks come in the given pieces."""
    start = anthropic_sim.message("m", [], None, {"input_tokens": 1, "output_tokens": 1})
    out = [sse({"type": "message_start", "message": start}, "message_start"), sse({"type": "ping"}, "ping")]
    for index, (kind, pieces) in enumerate(given_blocks):
        empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""},
                 "tool_use": {"id": f"t{index}", "name": "weather", "input": {}}}[kind]  # fmt: skip
        block = {"type": kind, **empty}
        out.append(sse({"type": "content_block_start", "index": index, "content_block": block}, "x"))
        for piece in pieces:
            name, field = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking"),
                           "tool_use": ("input_json_delta", "partial_json")}[kind]  # fmt: skip
            fields = {"type": name, field: piece}
            out.append(sse({"type": "content_block_delta", "index": index, "delta": fields}, "x"))
        out.append(sse({"type": "content_block_stop", "index": index}))
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    out.append(sse({"type": "message_delta", "delta": end, "usage": {"output_tokens": 2}}))
    return [*out, sse({"type": "message_stop"})]


@settings(max_examples=200, deadline=None)
@given(blocks, st.lists(st.integers(1, 40), min_size=1, max_size=20), st.booleans())
def test_text_never_comes_out_of_a_thinking_block_whatever_the_chunking(given_blocks, cuts, native):
    data = b"".join(stream_of(given_blocks))
    splitter, machine, events = Splitter(), MessageStream(native=native), []
    position = number = 0
    while position < len(data):
        size = cuts[number % len(cuts)]
        number += 1
        for raw in splitter.feed(data[position : position + size]):
            events += machine.feed(data_of(raw), raw)
        position += size
    assert machine.finished
    assert isinstance(events[-1], Finished)
    chunks = [event for event in events if isinstance(event, Chunk)]
    assert all(bool(c.text) + bool(c.reasoning) + bool(c.tool_calls) <= 1 for c in chunks)

    def expected(kind: str) -> str:
        return "".join("".join(pieces) for found, pieces in given_blocks if found == kind)

    assert "".join(c.text for c in chunks) == expected("text")
    assert "".join(c.reasoning for c in chunks) == expected("thinking")
    said = {}
    for delta in (d for c in chunks for d in c.tool_calls):
        said[delta.index] = said.get(delta.index, "") + delta.arguments
    assert list(said.values()) == ["".join(p) or "{}" for kind, p in given_blocks if kind == "tool_use"]
    if native:
        raws = [e.raw for e in events if getattr(e, "raw", None)]
        assert b"".join(raws) == data
        for raw in raws:
            RAW_EVENT.validate_json(data_of(raw)) if b'"ping"' not in raw else None


kinds = st.sampled_from(["text", "thinking", "tool_use", "redacted_thinking", "web_search_tool_result"])
loose_events = st.one_of(
    st.tuples(st.integers(0, 2), kinds).map(
        lambda p: {"type": "content_block_start", "index": p[0],
                   "content_block": {"type": p[1], "id": "t", "name": "n", "input": {}}}
    ),
    st.tuples(
        st.integers(0, 2),
        st.sampled_from([
            {"type": "text_delta", "text": "T"}, {"type": "thinking_delta", "thinking": "R"},
            {"type": "input_json_delta", "partial_json": "J"}, {"type": "signature_delta", "signature": "S"},
            {"type": "new_delta"},
        ]),
    ).map(lambda p: {"type": "content_block_delta", "index": p[0], "delta": p[1]}),
    st.integers(0, 2).map(lambda i: {"type": "content_block_stop", "index": i}),
    st.sampled_from([
        {"type": "ping"}, {"type": "news"}, {"type": "message_stop"},
        {"type": "message_start", "message": {}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
        {"type": "error", "error": {"type": "overloaded_error"}},
    ]),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(loose_events, max_size=12), st.booleans(), st.booleans())
def test_the_state_machine_takes_any_events_and_mixes_no_blocks(loose, native, begins):
    machine = MessageStream(native=native)
    kind_of: dict[int, str] = {}
    begin = [{"type": "message_start", "message": {"model": "m"}}] if begins else []
    for event in [*begin, *loose]:
        try:
            out = machine.feed(json.dumps(event).encode(), sse(event))
        except EngineFault as fault:
            assert fault.kind in ("malformed", "truncated", "overloaded")  # noqa: PT017
            return
        if event["type"] == "content_block_start":
            kind_of[event["index"]] = event["content_block"]["type"]
        for chunk in out:
            if isinstance(chunk, Chunk) and event["type"] == "content_block_delta":
                kind = kind_of[event["index"]]
                assert not chunk.text or kind == "text"
                assert not chunk.reasoning or kind == "thinking"
                assert not chunk.tool_calls or kind == "tool_use"
        assert machine.finished is any(isinstance(e, Finished) for e in out)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=30), max_size=4))
def test_bytes_that_are_no_protocol_are_faults(garbage):
    for machine in (MessageStream(), ContentStream()):
        for data in garbage:
            try:
                machine.feed(data)
            except EngineFault as fault:
                assert fault.kind in ("malformed", "server", "overloaded", "rate", "too_long")  # noqa: PT017


schemas = st.recursive(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "integer", "number", "boolean", "null"])},
        optional={"minimum": st.integers(), "maxLength": st.integers(0), "description": st.text(max_size=5),
                  "format": st.sampled_from(["email", "odd"])},
    ),
    lambda inner: st.one_of(
        st.fixed_dictionaries(
            {"type": st.just("array"), "items": inner}, optional={"minItems": st.integers(0, 3)}
        ),
        st.dictionaries(st.text(min_size=1, max_size=4), inner, min_size=1, max_size=3).map(
            lambda p: {"type": "object", "properties": p, "required": sorted(p)}
        ),
        st.lists(inner, min_size=1, max_size=2).map(lambda options: {"anyOf": options}),
    ),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(schemas)
def test_fitted_schemas_keep_to_the_operators_subset(schema):
    found = closed(schema)
    assert found is not None
    anthropic_sim.check_schema({"output_config": {"format": {"schema": found}}})
    gemini_sim.check_schema(fitted(schema))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "properties": {"a": {}}, "additionalProperties": True},
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}},
        {"$ref": "#/nowhere"},
        {"if": {}, "then": {}},
        {"type": "object", "patternProperties": {"a": {}}},
    ],
)
def test_shapes_that_cannot_be_enforced_are_not_squeezed(schema):
    assert closed(schema) is None
