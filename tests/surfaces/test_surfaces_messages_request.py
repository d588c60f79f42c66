import json

import pytest
from anthropic.types import Message
from surface_reading import CREATED_S, RECEIPT, USAGE, encode, strict

from allod.domain.chat import UsageReport, Whole
from allod.domain.errors import Unavailable
from allod.gateway.surfaces.chat import ChatSurface
from allod.gateway.surfaces.faults import Rejected
from allod.gateway.surfaces.messages import CountTokensSurface, MessagesSurface

SURFACE = MessagesSurface()
COUNT = CountTokensSurface()
CHAT = ChatSurface()
HELLO = {"model": "auto", "max_tokens": 64, "messages": [{"role": "user", "content": "hello"}]}
TOOL = {"name": "f", "input_schema": {"type": "object"}}
USE = {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "ok"}
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}


def parse(**fields):
    return SURFACE.parse(encode({**HELLO, **fields}))


def refuse(body):
    with pytest.raises(Rejected) as caught:
        SURFACE.parse(encode(body))
    status, raw = SURFACE.error(caught.value, RECEIPT)
    assert status == 400
    answer = json.loads(raw)
    assert answer["type"] == "error"
    assert answer["request_id"] == RECEIPT
    assert answer["error"]["type"] == "invalid_request_error"
    return answer["error"]["message"], caught.value


def test_a_plain_request():
    parsed = parse(stream=True, temperature=0.5, top_p=0.9, top_k=3, stop_sequences=["END"])
    assert parsed.body == {
        "model": "auto",
        "max_tokens": 64,
        "messages": HELLO["messages"],
        "stream": True,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "stop": ["END"],
    }
    assert (parsed.stream, parsed.max_output_tokens, parsed.native_dialect) == (True, 64, "anthropic")


def test_an_agents_conversation_is_translated_and_kept():
    marked = {"type": "text", "text": "rules", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    body = {
        **HELLO,
        "system": [marked, {"type": "text", "text": "more"}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "go"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "sig"},
                    {"type": "redacted_thinking", "data": "x"},
                    {"type": "text", "text": "calling"},
                    USE,
                    {**USE, "id": "t2", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "also"},
                    {**RESULT, "content": [{"type": "text", "text": "seen"}, PNG], "is_error": True},
                    {"type": "tool_result", "tool_use_id": "t2"},
                ],
            },
        ],
        "tools": [{**TOOL, "description": "d", "cache_control": {"type": "ephemeral"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "metadata": {"user_id": "u", "Allod-Task": "t"},
        "context_management": {"edits": []},
    }
    parsed = SURFACE.parse(encode(body))
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    assert parsed.body["messages"] == [
        {"role": "system", "content": "rules\n\nmore"},
        {"role": "user", "content": "go"},
        {
            "role": "assistant",
            "content": "calling",
            "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
                {"id": "t2", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "seen"},
        {"role": "tool", "tool_call_id": "t2", "content": ""},
        {"role": "user", "content": [image, {"type": "text", "text": "also"}]},
    ]
    assert parsed.body["tools"] == [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "description": "d"}}
    ]
    assert (parsed.body["tool_choice"], parsed.body["parallel_tool_calls"]) == ("required", False)
    assert parsed.body["user"] == "u"
    assert parsed.metadata == {"user_id": "u", "Allod-Task": "t"}
    native = {key: value for key, value in body.items() if key != "context_management"}
    assert parsed.native == {**native, "metadata": {"user_id": "u"}}


def test_documents_and_search_results_become_text():
    content = [
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "D"},
            "title": "T",
        },
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "C"}]}},
        {
            "type": "search_result",
            "source": "https://x",
            "title": "S",
            "content": [{"type": "text", "text": "R"}],
        },
    ]
    parsed = parse(messages=[{"role": "user", "content": content}])
    assert [part["text"] for part in parsed.body["messages"][0]["content"]] == [
        "T\nD",
        "C",
        "S\nhttps://x\nR",
    ]


@pytest.mark.parametrize(
    ("thinking", "config", "effort"),
    [
        (None, None, None),
        ({"type": "disabled"}, None, "none"),
        ({"type": "enabled", "budget_tokens": 1024}, None, "low"),
        ({"type": "enabled", "budget_tokens": 4096}, None, "low"),
        ({"type": "enabled", "budget_tokens": 4097}, None, "medium"),
        ({"type": "enabled", "budget_tokens": 16_384}, None, "medium"),
        ({"type": "enabled", "budget_tokens": 32_768}, None, "high"),
        ({"type": "enabled", "budget_tokens": 32_769}, None, "xhigh"),
        ({"type": "adaptive"}, None, "high"),
        ({"type": "adaptive"}, {"effort": "low"}, "low"),
        (None, {"effort": "low"}, None),
    ],
)
def test_thinking_becomes_effort(thinking, config, effort):
    fields = {"max_tokens": 100_000}
    if thinking:
        fields["thinking"] = thinking
    if config:
        fields["output_config"] = config
    parsed = parse(**fields)
    assert parsed.effort == effort
    assert parsed.body.get("reasoning_effort") == effort


def test_unsigned_thinking_never_reaches_a_native_deployment():
    unsigned = {"type": "thinking", "thinking": "ours", "signature": ""}
    messages = [
        *HELLO["messages"],
        {"role": "assistant", "content": [unsigned, {"type": "text", "text": "a"}]},
        {"role": "user", "content": "and"},
        {"role": "assistant", "content": [unsigned]},
        {"role": "user", "content": "on"},
    ]
    native = parse(messages=messages).native["messages"]
    assert [message["content"] for message in native] == [
        "hello",
        [{"type": "text", "text": "a"}],
        "and",
        "on",
    ]


COMPLAINTS = [
    ({"model": "m", "messages": HELLO["messages"]}, "max_tokens: Field required"),
    ({"max_tokens": 1, "messages": HELLO["messages"]}, "model: Field required"),
    ({**HELLO, "foo": 1}, "foo: Extra inputs are not permitted"),
    ({**HELLO, "messages": []}, "messages: List should have at least 1 item"),
    ({**HELLO, "messages": [{"content": "x"}]}, "messages.0.role: Field required"),
    (
        {**HELLO, "messages": [{"role": "tool", "content": "x"}]},
        "messages.0.role: Input should be 'user', 'assistant' or 'system'",
    ),
    (
        {**HELLO, "messages": [{"role": "user", "content": 1}]},
        "messages.0.content: Input should be a valid string or a valid list",
    ),
    (
        {**HELLO, "messages": [{"role": "user", "content": [{"text": "x"}]}]},
        "messages.0.content.0.type: Field required",
    ),
    (
        {**HELLO, "messages": [{"role": "user", "content": [{"type": "txt"}]}]},
        "messages.0.content.0.type: Input should be",
    ),
    (
        {**HELLO, "messages": [{"role": "user", "content": [{"type": "text", "text": "x", "mood": 1}]}]},
        "messages.0.content.0.mood: Extra inputs are not permitted",
    ),
    (
        {**HELLO, "messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]},
        "messages.0.content.0.text: String should have at least 1 character",
    ),
    ({**HELLO, "max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
    ({**HELLO, "max_tokens": "9"}, "max_tokens: Input should be a valid integer"),
    ({**HELLO, "temperature": 1.1}, "temperature: Input should be less than or equal to 1"),
    ({**HELLO, "metadata": {"team": "x"}}, "metadata.team: Extra inputs are not permitted"),
    (
        {**HELLO, "thinking": {"type": "enabled", "budget_tokens": 1000}},
        "thinking.budget_tokens: Input should be greater",
    ),
    ({**HELLO, "thinking": {"type": "enabled", "budget_tokens": 1024}}, "max_tokens: must be greater than"),
    ({**HELLO, "tools": [{"name": "a b", "input_schema": {}}]}, "tools.0.name: String should match pattern"),
    ({**HELLO, "tools": [{"name": "f"}]}, "tools.0.input_schema: Field required"),
    (
        {**HELLO, "tool_choice": {"type": "auto"}},
        "tool_choice: may only be specified while providing `tools`",
    ),
    (
        {**HELLO, "tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}},
        "'g' not found in provided tools",
    ),
    ({**HELLO, "stop_sequences": [" "]}, "must contain non-whitespace"),
    ({**HELLO, "system": [{"text": "x"}]}, "system.0.type: Field required"),
    (
        {**HELLO, "messages": [{"role": "user", "content": [USE]}]},
        "may not stand in a message with role `user`",
    ),
    (
        {**HELLO, "messages": [{"role": "assistant", "content": [RESULT]}]},
        "may not stand in a message with role `assistant`",
    ),
    ({**HELLO, "messages": [{"role": "user", "content": [RESULT]}]}, "unexpected `tool_use_id`"),
    (
        {**HELLO, "messages": [{"role": "user", "content": []}]},
        "messages.0.content: List should have at least",
    ),
    (
        {**HELLO, "messages": [{"role": "assistant", "content": ""}, *HELLO["messages"]]},
        "messages.0: only the last message",
    ),
    ({**HELLO, "messages": [{"role": "assistant", "content": []}]}, "at least one message with content"),
    (
        {
            **HELLO,
            "messages": [*HELLO["messages"], {"role": "assistant", "content": [USE]}, *HELLO["messages"]],
        },
        "ids were found without `tool_result`",
    ),
    (
        {**HELLO, "messages": [*HELLO["messages"], {"role": "assistant", "content": [USE]}]},
        "ids were found without `tool_result`",
    ),
    (
        {**HELLO, "messages": [*HELLO["messages"], {"role": "assistant", "content": [USE, USE]}]},
        "must be unique",
    ),
    (
        {**HELLO, "messages": [{"role": "user", "content": ""}]},
        "messages.0.content: String should have at least 1 character",
    ),
    (
        {
            **HELLO,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {**PNG, "source": {"type": "base64", "media_type": "image/bmp", "data": "AAAA"}}
                    ],
                }
            ],
        },
        "messages.0.content.0.source.media_type: Input should be 'image/jpeg'",
    ),
]


@pytest.mark.parametrize(("body", "said"), COMPLAINTS, ids=range(len(COMPLAINTS)))
def test_complaints_are_worded_as_anthropic_does(body, said):
    message, _ = refuse(body)
    assert said in message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}]}, "tools[0].type"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
        ({"container": "c"}, "container"),
        ({"inference_geo": "eu"}, "inference_geo"),
        ({"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
        ({"speed": "fast"}, "speed"),
        (
            {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "base64"}}]}]},
            "messages[0].content[0].source.type",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image", "source": {"type": "file", "file_id": "x"}}],
                    }
                ]
            },
            "messages[0].content[0].source.type",
        ),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "server_tool_use", "id": "x"}]}]},
            "messages[0].content[0].type",
        ),
    ],
)
def test_what_anthropic_knows_and_we_do_not_is_not_supported(fields, param):
    _, error = refuse({**HELLO, **fields})
    assert (error.kind, error.param) == ("not_supported", param)


def test_counting_takes_the_same_conversation_without_a_limit():
    body = {key: value for key, value in HELLO.items() if key != "max_tokens"}
    parsed = COUNT.parse(encode({**body, "system": "s", "tools": [TOOL], "thinking": {"type": "adaptive"}}))
    assert [message["role"] for message in parsed.body["messages"]] == ["system", "user"]
    assert parsed.native["tools"] == [TOOL]
    assert json.loads(COUNT.counted(12)) == {"input_tokens": 12}
    with pytest.raises(Rejected, match="max_tokens: Extra inputs"):
        COUNT.parse(encode(HELLO))


def whole(body, parsed=None, report=None, **fields):
    raw = SURFACE.whole(
        parsed or parse(**fields), Whole(body=body), report, receipt=RECEIPT, created_s=CREATED_S
    )
    return strict(Message, raw), json.loads(raw)


def call(name="f", arguments="{}", **known):
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **known}


def test_a_whole_answer_has_every_field_the_schema_requires():
    message = {
        "content": "hi",
        "reasoning_content": "hm",
        "tool_calls": [call(id="a.b:0", arguments='{"x":1}')],
    }
    body = {"model": "served", "choices": [{"message": message, "finish_reason": "tool_calls"}]}
    thinking = {"max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    answer, raw = whole(body, report=UsageReport(usage=USAGE), **thinking)
    assert [block.type for block in answer.content] == ["thinking", "text", "tool_use"]
    assert (answer.content[2].id, answer.content[2].input) == ("a_b_0", {"x": 1})
    assert (answer.id, answer.model, answer.stop_reason) == (f"msg_{RECEIPT[2:]}", "served", "tool_use")
    assert raw.keys() >= {"stop_sequence", "stop_details", "container", "role", "type"}
    assert raw["usage"] == {
        "input_tokens": 70,
        "cache_creation_input_tokens": 10,
        "cache_read_input_tokens": 20,
        "cache_creation": {"ephemeral_5m_input_tokens": 6, "ephemeral_1h_input_tokens": 4},
        "output_tokens": 42,
        "output_tokens_details": {"thinking_tokens": 12},
        "server_tool_use": None,
        "service_tier": "standard",
        "inference_geo": None,
    }


def test_a_native_answer_passes_untouched():
    raw = b'{ "type" : "message" }'
    answer = Whole(raw=raw, dialect="anthropic")
    assert SURFACE.whole(parse(), answer, None, receipt=RECEIPT, created_s=CREATED_S) is raw


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("content_filter", "refusal"),
        (None, "end_turn"),
        ("odd", "end_turn"),
    ],
)
def test_stop_reasons(finish, reason):
    answer, _ = whole({"choices": [{"message": {"content": "x"}, "finish_reason": finish}]})
    assert answer.stop_reason == reason


def test_a_stop_sequence_the_engine_names_is_told():
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop", "stop_reason": "END"}]}
    answer, _ = whole(body, stop_sequences=["END"])
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "END")
    answer, _ = whole(body, stop_sequences=["OTHER"])
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)


@pytest.mark.parametrize("arguments", ['{"x":', "[1]", "nonsense", 7])
def test_a_call_that_cannot_be_said_is_not_presented_as_whole(arguments):
    body = {
        "choices": [{"message": {"tool_calls": [call(arguments=arguments)]}, "finish_reason": "tool_calls"}]
    }
    with pytest.raises(Unavailable):
        whole(body)


def test_a_call_cut_by_the_limit_is_left_out_and_max_tokens_says_so():
    message = {"content": "x", "tool_calls": [call(arguments='{"x":')]}
    answer, _ = whole({"choices": [{"message": message, "finish_reason": "length"}]})
    assert [block.type for block in answer.content] == ["text"]
    assert answer.stop_reason == "max_tokens"


def test_an_answer_sent_back_says_the_same():
    message = {"content": "hi", "tool_calls": [call(id="t1", arguments='{"x":1}')]}
    _, raw = whole({"choices": [{"message": message, "finish_reason": "tool_calls"}]})
    history = [
        *HELLO["messages"],
        {"role": "assistant", "content": raw["content"]},
        {"role": "user", "content": [RESULT]},
    ]
    sent = parse(messages=history).body["messages"][1]
    assert sent == {"role": "assistant", "content": "hi", "tool_calls": [call(id="t1", arguments='{"x":1}')]}
