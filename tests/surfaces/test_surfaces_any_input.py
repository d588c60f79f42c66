import contextlib
import copy
import json

from anthropic.types import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response
from surface_reading import CREATED_S, RECEIPT, encode, strict

from allod.domain.chat import Whole
from allod.domain.errors import Unavailable
from allod.gateway.surfaces.chat import ChatSurface
from allod.gateway.surfaces.faults import Rejected
from allod.gateway.surfaces.messages import MessagesSurface
from allod.gateway.surfaces.responses import ResponsesSurface

SURFACE = MessagesSurface()
CHAT = ChatSurface()
HELLO = {"model": "auto", "max_tokens": 64, "messages": [{"role": "user", "content": "hello"}]}
TOOL = {"name": "f", "input_schema": {"type": "object"}}
USE = {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "ok"}
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}

_answers = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(allow_nan=False), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(
            st.sampled_from(
                ["content", "tool_calls", "function", "name", "arguments", "id", "refusal", "text", "message"]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@given(
    message=st.dictionaries(
        st.sampled_from(["content", "tool_calls", "refusal", "reasoning", "role"]), _answers, max_size=5
    ),
    finish=_answers,
    logprobs=_answers,
    model=_answers,
)
@settings(deadline=None)
def test_whatever_an_operator_answers_it_is_written_in_full_or_not_presented(
    message, finish, logprobs, model
):
    choice = {"message": message, "finish_reason": finish, "logprobs": {"content": logprobs}}
    answer = Whole(body={"choices": [choice], "model": model})
    for surface, kind in ((SURFACE, Message), (ResponsesSurface(), Response)):
        hello = HELLO if kind is Message else {"model": "auto", "input": "hello"}
        parsed = surface.parse(encode(hello))
        with contextlib.suppress(Unavailable):
            strict(kind, surface.whole(parsed, answer, None, receipt=RECEIPT, created_s=CREATED_S))


@given(st.data())
@settings(deadline=None)
def test_a_changed_request_is_taken_or_refused_and_nothing_else(data):
    tools = [{**TOOL, "cache_control": {"type": "ephemeral"}}]
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "x"}, PNG]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": ""}, USE]},
        {"role": "user", "content": [RESULT]},
    ]
    messages = {
        **HELLO,
        "messages": turns,
        "tools": tools,
        "system": [{"type": "text", "text": "s"}],
        "tool_choice": {"type": "auto"},
        "thinking": {"type": "adaptive"},
        "metadata": {"user_id": "u"},
        "output_config": {"effort": "low"},
    }
    responses = {
        "model": "m",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "x"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "o"},
            {"type": "reasoning", "summary": []},
        ],
        "tools": [{"type": "function", "name": "f"}],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}},
        "reasoning": {"effort": "low"},
    }
    surface, body = data.draw(st.sampled_from([(SURFACE, messages), (ResponsesSurface(), responses)]))
    body = copy.deepcopy(body)
    node: object = body
    while True:
        key = data.draw(st.sampled_from(list(node) if isinstance(node, dict) else list(range(len(node)))))
        if isinstance(node[key], dict | list) and node[key] and data.draw(st.booleans()):
            node = node[key]
            continue
        node[key] = data.draw(_answers)
        break
    try:
        parsed = surface.parse(encode(body))
    except Rejected as error:
        status, raw = surface.error(error, None)
        assert status == 400
        json.loads(raw)
    else:
        assert parsed.body["messages"]
        CHAT.parse(encode({**parsed.body, "model": "m"}))
