import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from surface_reading import encode

from allod.admission.sizes import measure
from allod.domain.errors import Invalid
from allod.gateway.surfaces.chat import ChatSurface
from allod.gateway.surfaces.chat_request import EXTENSIONS
from allod.gateway.surfaces.faults import Rejected

CHAT = ChatSurface()
HELLO = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def parse(**fields):
    return CHAT.parse(encode({**HELLO, **fields}))


def refuse(body):
    with pytest.raises(Rejected) as caught:
        CHAT.parse(encode(body))
    status, raw = CHAT.error(caught.value, None)
    assert status == 400
    return json.loads(raw)["error"]


def test_the_body_is_the_neutral_form_but_for_what_we_keep():
    body = {**HELLO, "temperature": 0, "store": True, "metadata": {"Allod-Task": "t", "x": "y"}, "top_k": 5}
    parsed = CHAT.parse(encode(body))
    assert parsed.body == {**HELLO, "temperature": 0, "top_k": 5}
    assert parsed.metadata == {"Allod-Task": "t", "x": "y"}
    assert (parsed.model, parsed.stream, parsed.native) == ("auto", False, None)


@pytest.mark.parametrize(
    ("fields", "limit"),
    [({}, None), ({"max_tokens": 7}, 7), ({"max_completion_tokens": 9}, 9), ({"max_tokens": None}, None)],
)
def test_output_limits(fields, limit):
    assert parse(**fields).max_output_tokens == limit


@pytest.mark.parametrize(
    ("word", "effort"), [("none", "none"), ("minimal", "low"), ("low", "low"), ("max", "max"), (None, None)]
)
def test_effort(word, effort):
    assert parse(reasoning_effort=word).effort == effort


def test_stream_and_usage():
    parsed = parse(stream=True, stream_options={"include_usage": True})
    assert parsed.stream
    assert parsed.echo.include_usage
    assert not parse(stream=True).echo.include_usage


FULL = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "be kind", "name": "s"},
        {"role": "developer", "content": [{"type": "text", "text": "be brief"}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "see"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
            ],
        },
        {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None, "annotations": []},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}],
        },
        {"role": "user", "content": "go on"},
    ],
    "tools": [TOOL],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True}},
    "frequency_penalty": -2,
    "presence_penalty": 2,
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "top_logprobs": 20,
    "n": 2,
    "stop": ["a", "b"],
    "seed": -1,
    "temperature": 1.5,
    "top_p": 0.5,
    "user": "u",
    "service_tier": "flex",
    "verbosity": "low",
    "modalities": ["text"],
    "prediction": {"type": "content", "content": "as before"},
    "stream": True,
    "stream_options": {"include_usage": True, "include_obfuscation": False},
    "chat_template_kwargs": {"enable_thinking": False},
    "min_p": 0.1,
}


def test_a_full_request_passes_unchanged():
    assert CHAT.parse(encode(FULL)).body == FULL


COMPLAINTS = [
    (
        {"messages": HELLO["messages"]},
        "model",
        "missing_required_parameter",
        "Missing required parameter: 'model'.",
    ),
    ({"model": "m"}, "messages", "missing_required_parameter", "Missing required parameter: 'messages'."),
    ({**HELLO, "foo": 1}, "foo", "unknown_parameter", "Unknown parameter: 'foo'."),
    ({**HELLO, "model": ""}, "model", "string_below_min_length", "too short"),
    ({**HELLO, "model": 3}, "model", "invalid_type", "expected a string, but got an integer instead."),
    ({**HELLO, "messages": []}, "messages", "empty_array", "minimum length 1"),
    ({**HELLO, "messages": {}}, "messages", "invalid_type", "expected an array, but got an object"),
    ({**HELLO, "messages": ["x"]}, "messages[0]", "invalid_type", "expected an object, but got a string"),
    ({**HELLO, "messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter", "role"),
    (
        {**HELLO, "messages": [{"role": "king", "content": "x"}]},
        "messages[0].role",
        "invalid_value",
        "'king'. Supported values are: 'system', 'assistant', 'user', 'tool', and 'developer'.",
    ),
    (
        {**HELLO, "messages": [{"role": "user"}]},
        "messages[0].content",
        "missing_required_parameter",
        "content",
    ),
    (
        {**HELLO, "messages": [{"role": "user", "content": 1}]},
        "messages[0].content",
        "invalid_type",
        "expected one of a string or an array, but got an integer",
    ),
    (
        {**HELLO, "messages": [{"role": "user", "content": [{"type": "txt", "text": "x"}]}]},
        "messages[0].content[0].type",
        "invalid_value",
        "Supported values are: 'text', 'image_url'",
    ),
    (
        {**HELLO, "messages": [{"role": "user", "content": "x", "mood": 1}]},
        "messages[0].mood",
        "unknown_parameter",
        "Unknown parameter: 'messages[0].mood'.",
    ),
    (
        {
            **HELLO,
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///x"}}]}
            ],
        },
        "messages[0].content[0].image_url.url",
        "invalid_value",
        "does not match pattern",
    ),
    (
        {**HELLO, "messages": [{"role": "system", "content": [{"text": "no type"}]}]},
        "messages[0].content[0].type",
        "missing_required_parameter",
        "type",
    ),
    ({**HELLO, "messages": [{"role": "assistant"}]}, "messages[0].content", "invalid_type", "got null"),
    (
        {**HELLO, "messages": [{"role": "tool", "tool_call_id": "x", "content": "y"}]},
        "messages[0].role",
        None,
        "must answer a preceding message",
    ),
    ({**HELLO, "temperature": 3}, "temperature", "decimal_above_max_value", "<= 2"),
    (
        {**HELLO, "temperature": "hot"},
        "temperature",
        "invalid_type",
        "expected a decimal number, but got a string",
    ),
    ({**HELLO, "max_tokens": 0}, "max_tokens", "integer_below_min_value", ">= 1"),
    ({**HELLO, "max_tokens": 10**30}, "max_tokens", "integer_above_max_value", "<="),
    (
        {**HELLO, "max_tokens": 1.5},
        "max_tokens",
        "invalid_type",
        "expected an integer, but got a decimal number",
    ),
    ({**HELLO, "max_tokens": True}, "max_tokens", "invalid_type", "got a boolean"),
    (
        {**HELLO, "max_tokens": 1, "max_completion_tokens": 1},
        "max_tokens",
        "invalid_parameter_combination",
        "same",
    ),
    ({**HELLO, "n": 129}, "n", "integer_above_max_value", "128"),
    ({**HELLO, "top_logprobs": 2}, "top_logprobs", "invalid_parameter_combination", "'logprobs'"),
    ({**HELLO, "stream_options": {}}, "stream_options", "invalid_parameter_combination", "'stream'"),
    ({**HELLO, "stop": list("abcde")}, "stop", "array_above_max_length", "4"),
    ({**HELLO, "reasoning_effort": "huge"}, "reasoning_effort", "invalid_value", "'none', 'minimal'"),
    ({**HELLO, "logit_bias": {"1": 101}}, "logit_bias", "decimal_above_max_value", "100"),
    ({**HELLO, "metadata": {"k": 1}}, "metadata", "invalid_type", "expected a string"),
    ({**HELLO, "metadata": {str(i): "" for i in range(17)}}, "metadata", "object_above_max_length", "16"),
    (
        {**HELLO, "tools": [{"type": "function", "function": {"name": "a b"}}]},
        "tools[0].function.name",
        "invalid_value",
        "pattern",
    ),
    (
        {**HELLO, "tools": [{"function": {"name": "a"}}]},
        "tools[0].type",
        "missing_required_parameter",
        "type",
    ),
    ({**HELLO, "tool_choice": "auto"}, "tool_choice", "invalid_parameter_combination", "'tools'"),
    (
        {**HELLO, "tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        "tool_choice",
        "invalid_value",
        "'g' not found",
    ),
    (
        {**HELLO, "response_format": {"type": "json_schema"}},
        "response_format.json_schema",
        "missing_required_parameter",
        "json_schema",
    ),
    (
        {**HELLO, "response_format": {"type": "json_schema", "json_schema": {"name": "n"}}},
        "response_format.json_schema.schema",
        "missing_required_parameter",
        "schema",
    ),
    ({**HELLO, "top_k": "many"}, "top_k", "invalid_type", "an integer"),
]


@pytest.mark.parametrize(("body", "param", "code", "said"), COMPLAINTS)
def test_complaints_name_field_and_code_as_openai_does(body, param, code, said):
    error = refuse(body)
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert said in error["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"audio": {"voice": "x", "format": "mp3"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"functions": []}, "functions"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [{"custom": {"name": "x"}, "type": "custom"}]}, "tools[0].type"),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]},
            "messages[0].content[0].type",
        ),
    ],
)
def test_what_openai_knows_and_we_do_not_is_not_supported(fields, param):
    error = refuse({**HELLO, **fields})
    assert (error["code"], error["param"]) == ("not_supported", param)


def test_a_refused_field_that_says_nothing_passes_and_goes_no_further():
    assert parse(audio=None, functions=None).body == HELLO


@pytest.mark.parametrize(
    "field",
    ["chat_template", "lora_path", "n_predict", "best_of", "models", "provider", "kv_transfer_params"],
)
def test_fields_that_reroute_load_or_lift_a_limit_are_unknown(field):
    assert field not in EXTENSIONS
    assert refuse({**HELLO, field: "x"})["code"] == "unknown_parameter"


def test_depth_inside_a_schema_is_bounded():
    schema: dict = {}
    for _ in range(200):
        schema = {"properties": {"x": schema}}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    assert "nested" in refuse({**HELLO, "tools": [tool]})["message"]
    assert "nested" in refuse({**HELLO, "chat_template_kwargs": schema})["message"]


def test_a_tool_answer_must_follow_its_call():
    asked = {"role": "assistant", "tool_calls": [CALL]}
    answer = {"role": "tool", "tool_call_id": "c1", "content": "x"}
    user = {"role": "user", "content": "x"}
    CHAT.parse(encode({**HELLO, "messages": [user, asked, answer, user]}))
    for messages in ([user, answer], [asked, user, answer], [asked, {**answer, "tool_call_id": "c2"}]):
        refuse({**HELLO, "messages": messages})


_junk = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=5,
)


@given(st.data())
@settings(deadline=None)
def test_a_changed_request_is_taken_or_refused_and_nothing_else(data):
    body = copy.deepcopy(FULL)
    node: object = body
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(node[key], dict | list) and node[key] and data.draw(st.booleans()):
            node = node[key]
            continue
        node[key] = data.draw(_junk)
        break
    try:
        parsed = CHAT.parse(encode(body))
    except Invalid as error:
        status, raw = CHAT.error(error, None)
        assert status == 400
        assert json.loads(raw)["error"]["message"]
    else:
        assert parsed.body["messages"] == body["messages"]


SAID = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": 'the "type" of a tool, and "assistant"'},
    {"role": "developer", "content": [{"type": "text", "text": "in parts"}]},
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]},
    {"role": "assistant", "content": "an answer"},
    {"role": "assistant", "content": "an answer", "tool_calls": None},
    {"role": "assistant", "content": None, "refusal": "no"},
]
CALLED = [
    {"role": "assistant", "content": "let me look", "tool_calls": [CALL]},
    {"role": "tool", "content": "42", "tool_call_id": "c1"},
]


@given(st.lists(st.sampled_from([*([one] for one in SAID), CALLED]), min_size=1, max_size=5))
def test_what_is_called_plain_needs_nothing_and_measures_as_if_it_were_read(turns):
    messages = [message for turn in turns for message in turn]
    raw = encode({"model": "auto", "messages": messages})
    parsed = CHAT.parse(raw)
    assert parsed.plain == all(
        isinstance(one["content"], str) and one["role"] != "tool" and not one.get("tool_calls")
        for one in messages
    )
    if parsed.plain:
        assert measure(parsed.body, raw, plain=True) == measure(parsed.body, raw)


def test_a_word_of_tools_spelled_in_escapes_is_still_one():
    raw = encode({"model": "auto", "messages": CALLED}).replace(b'"tool_calls"', b'"\\u0074ool_calls"')
    assert not CHAT.parse(raw.replace(b'"role":"tool"', b'"role":"\\u0074ool"')).plain
