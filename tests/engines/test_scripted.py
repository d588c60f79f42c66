"""The scripted engine: its behaviours, in-process and over HTTP, and the schemas it obeys."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import struct
import subprocess
import sys

import msgspec
import openai
import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from allod.domain.chat import ChatCall, Chunk, EmbedCall, Finished, UsageReport, Whole
from allod.domain.fleet import Deployment
from allod.engines.contract import EngineContext, EngineFault
from allod.engines.scripted import Server, make
from allod.engines.scripted.embedding import vector
from allod.engines.scripted.script import BEHAVIOURS, ScriptError, count, tokens_of, write_script
from conformance import FAULTS, collect, text_of

CONTEXT = EngineContext(environ={}, allow_address=lambda _h, _p: True, state_dir="/nonexistent")
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "minLength": 2},
                "unit": {"enum": ["C", "F"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 7},
                "note": {"type": "string"},
            },
            "required": ["city", "unit", "days"],
            "additionalProperties": False,
        },
    },
}


def deployment(model, base_url=None, **more):
    limits = {"timeout_ms": 600, "first_token_ms": 250}
    return Deployment(
        id="d", engine="scripted", model=model, operator="o", base_url=base_url, **{**limits, **more}
    )


def asked(text="Where is it cold?", *, stream=False, **more):
    return ChatCall(
        body={"messages": [{"role": "user", "content": text}], **more}, stream=stream, max_output_tokens=64
    )


def answer_of(model, call):
    return uvloop.run(collect(make(deployment(model), CONTEXT), call))


def message_of(model, **body):
    events, fault, _ = answer_of(model, asked(**body))
    assert fault is None, fault
    return msgspec.json.decode(events[0].raw)["choices"][0]


@pytest.mark.parametrize("stream", [False, True], ids=["one", "stream"])
@pytest.mark.parametrize(
    "behaviour", [*FAULTS, "slow-20", "think", "usage-wrong", "usage-missing", "crlf", "eof"]
)
def test_the_driver_without_a_socket_judges_as_over_http(behaviour, stream):
    async def both():
        server = await Server().start()
        seen = []
        for url in (None, f"http://127.0.0.1:{server.port}/v1"):
            engine = make(deployment(behaviour, url), CONTEXT)
            events, fault, _ = await collect(engine, asked(stream=stream))
            kinds = [type(event).__name__ for event in events]
            seen.append(
                (fault.kind if fault else None, fault.sent if fault else None, kinds, text_of(events))
            )
            await engine.close()
        await server.close()
        return seen

    inside, outside = uvloop.run(both())
    assert inside[0] == outside[0]
    assert inside[1] == outside[1]
    if inside[0] is None:
        assert inside == outside
    if behaviour in FAULTS:
        assert inside[0] == FAULTS[behaviour][stream]


def test_whatever_it_says_is_marked_as_simulated():
    described = make(deployment("answer"), CONTEXT).describe()
    assert described.evidence == "simulated"
    assert described.weights is None

    async def heads():
        server = await Server().start()
        found = []
        for model in ("answer", "http-500", "no-such-model"):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            body = json.dumps({"model": model, "messages": [{"role": "user", "content": "x"}]}).encode()
            writer.write(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
                % (len(body), body)
            )
            found.append(await reader.readuntil(b"\r\n\r\n"))
            writer.close()
        await server.close()
        return found

    assert all(b"allod-simulated: true" in head for head in uvloop.run(heads()))
    body = msgspec.json.decode(answer_of("answer", asked())[0][0].raw)
    assert body["system_fingerprint"] == "allod-scripted"


def test_equal_requests_get_equal_bytes():
    first, second = (answer_of("obey", asked(stream=True, tools=[TOOL]))[0] for _ in range(2))
    assert [event.raw for event in first if isinstance(event, Chunk)] == [
        event.raw for event in second if isinstance(event, Chunk)
    ]


@pytest.mark.parametrize(
    ("choice", "calls"),
    [
        ({"type": "function", "function": {"name": "get_weather"}}, True),
        ("required", True),
        ("auto", True),
        (None, True),
        ("none", False),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TOOL]}}, True),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_obey_calls_tools_with_valid_arguments(choice, calls, stream):
    events, fault, _ = answer_of("obey", asked(stream=stream, tools=[TOOL], tool_choice=choice))
    assert fault is None
    if stream:
        pieces = [piece for event in events if isinstance(event, Chunk) for piece in event.tool_calls]
        arguments = "".join(piece.arguments for piece in pieces)
        finish = next(event.finish for event in events if isinstance(event, Chunk) and event.finish)
        name = pieces[0].name if pieces else None
    else:
        given_choice = msgspec.json.decode(events[0].raw)["choices"][0]
        found = given_choice["message"].get("tool_calls")
        arguments = found[0]["function"]["arguments"] if found else ""
        name, finish = (found[0]["function"]["name"] if found else None), given_choice["finish_reason"]
    if not calls:
        assert not arguments
        assert finish == "stop"
        return
    assert (name, finish) == ("get_weather", "tool_calls")
    assert json.loads(arguments) == {"city": "cold", "unit": "C", "days": 1}


@pytest.mark.parametrize("model", ["obey", "tool"])
def test_after_a_tools_result_comes_text(model):
    messages = [
        {"role": "user", "content": "x"},
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": "minus three"},
    ]
    call = ChatCall(body={"messages": messages, "tools": [TOOL]}, stream=False)
    choice = msgspec.json.decode(answer_of(model, call)[0][0].raw)["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert "minus three" in choice["message"]["content"]


def test_obey_keeps_to_formats_wishes_and_limits():
    schema = {
        "type": "json_schema",
        "json_schema": {
            "name": "s",
            "schema": {"type": "object", "properties": {"ok": {"const": 1}}, "required": ["ok"]},
        },
    }
    assert message_of("obey", response_format=schema)["message"]["content"] == '{"ok":1}'
    assert message_of("obey", response_format={"type": "json_object"})["message"]["content"] == "{}"
    assert message_of("obey", text="Reply briefly with CANARY_OK.")["message"]["content"] == "CANARY_OK"
    assert message_of("echo", text="one two three", stop=" two")["message"]["content"] == "one"
    cut = ChatCall(
        body={"messages": [{"role": "user", "content": "one two three four"}]},
        stream=False,
        max_output_tokens=2,
    )
    choice = msgspec.json.decode(answer_of("echo", cut)[0][0].raw)["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("one two", "length")
    image = [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
    ]
    assert message_of("echo", text=image)["message"]["content"] == "What?"


def test_n_and_logprobs_are_honoured():
    events, fault, _ = answer_of("echo", asked("a b", n=3, logprobs=True, top_logprobs=2))
    assert fault is None
    choices = msgspec.json.decode(events[0].raw)["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    content = choices[0]["logprobs"]["content"]
    assert [each["token"] for each in content] == ["a", " b"]
    assert all(len(each["top_logprobs"]) == 2 and each["logprob"] < 0 for each in content)
    events, fault, _ = answer_of("echo", asked("a b", n=2, stream=True, logprobs=True))
    assert fault is None
    for index in (0, 1):
        assert "".join(e.text for e in events if isinstance(e, Chunk) and e.choice == index) == "a b"
    assert any(isinstance(event, Chunk) and event.logprobs for event in events)


@pytest.mark.parametrize("stream", [False, True])
def test_usage_is_counted_missing_or_wrong(stream):
    def reports(model):
        return [
            event
            for event in answer_of(model, asked("one two", stream=stream))[0]
            if isinstance(event, UsageReport)
        ]

    (report,) = reports("echo")
    assert report.usage.total_input_tokens == 4 + count("one two")
    assert report.usage.total_output_tokens == 2
    assert reports("usage-missing") == []
    assert reports("usage-wrong") == []  # a block that contradicts itself is believed by nobody


@pytest.mark.parametrize("model", ["think", "think-vllm"])
def test_reasoning_comes_in_one_form(model):
    events, _, _ = answer_of(model, asked(stream=True))
    thought = [event for event in events if isinstance(event, Chunk) and event.reasoning]
    assert thought[0].reasoning == "First one thing, then the other."
    assert (thought[0].raw is None) is (model == "think-vllm")
    whole = answer_of(model, asked())[0][0]
    body = whole.body or msgspec.json.decode(whole.raw)
    assert body["choices"][0]["message"]["reasoning_content"] == "First one thing, then the other."
    assert "reasoning" not in body["choices"][0]["message"]


def test_another_models_name_is_told():
    events, _, _ = answer_of("other-model", asked(stream=True))
    assert events[-1] == Finished(model="another-model", raw=b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"model": "answer"},
        {"model": "answer", "messages": []},
        {"model": "answer", "messages": ["x"]},
        {"model": "answer", "messages": [{"role": "king", "content": "x"}]},
        {"model": "gpt-9", "messages": [{"role": "user"}]},
        {"model": "answer", "messages": [{"role": "user"}], "n": 0},
        {"model": "answer", "messages": [{"role": "user"}], "max_tokens": -1},
        {"model": "answer", "messages": [{"role": "user"}], "stream": "yes"},
        {"model": "obey", "messages": [{"role": "user"}], "tools": [{}]},
        {"model": "obey", "messages": [{"role": "user"}], "tool_choice": "required"},
        {"model": "obey", "messages": [{"role": "user"}], "response_format": {"type": "json_schema"}},
        {
            "model": "obey",
            "messages": [{"role": "user"}],
            "response_format": {"type": "json_schema", "json_schema": {"schema": False}},
        },
    ],
)
def test_what_is_no_request_is_refused(body):
    with pytest.raises(ScriptError) as caught:
        write_script(body)
    assert caught.value.status in (400, 404)
    assert caught.value.error["message"]


@given(st.text(max_size=200))
def test_tokens_joined_are_the_text(text):
    assert "".join(tokens_of(text)) == text
    assert count(text) == len(tokens_of(text))


def test_embeddings_are_unit_vectors_of_the_text():
    async def scenario():
        engine = make(deployment("answer"), CONTEXT)
        return [
            await engine.embed(EmbedCall(body={"input": ["one", "two", "one"], **more}))
            for more in ({}, {"encoding_format": "base64"}, {"dimensions": 10})
        ]

    plain, packed, short = uvloop.run(scenario())
    rows = [row["embedding"] for row in plain.body["data"]]
    assert rows[0] == rows[2] != rows[1]
    assert all(abs(sum(each * each for each in row) - 1) < 1e-6 for row in rows)
    raw = base64.b64decode(packed.body["data"][1]["embedding"])
    assert list(struct.unpack(f"<{len(raw) // 4}f", raw)) == rows[1] == vector("two")
    assert len(short.body["data"][0]["embedding"]) == 10
    assert plain.usage.total_input_tokens == 3


def test_count_tokens_counts_as_the_usage_does():
    async def scenario():
        engine = make(deployment("echo"), CONTEXT)
        counted = await engine.count_tokens(asked("one two three"))
        events, _, _ = await collect(engine, asked("one two three"))
        return counted, events

    counted, events = uvloop.run(scenario())
    assert counted == next(e for e in events if isinstance(e, UsageReport)).usage.total_input_tokens


@pytest.fixture
def product():
    """The product as its own process, as ``allod up --scripted`` runs it."""
    code = (
        "import asyncio\nfrom allod.engines.scripted import serve\n"
        "asyncio.run(serve('127.0.0.1', 0, lambda port: print(port, flush=True)))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    port = int(process.stdout.readline())
    yield f"http://127.0.0.1:{port}/v1"
    process.kill()
    process.wait()


def test_the_official_client_is_content_with_the_product(product):
    client = openai.OpenAI(base_url=product, api_key="x", max_retries=0, timeout=5)
    ids = {model.id for model in client.models.list()}
    assert {"answer", "obey", "http-500"} <= ids
    messages = [{"role": "user", "content": "Reply with PONG"}]
    whole = client.chat.completions.create(model="obey", messages=messages)
    assert whole.choices[0].message.content == "PONG"
    streamed = client.chat.completions.create(
        model="obey", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(streamed)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "PONG"
    assert chunks[-1].usage.completion_tokens == 1
    called = client.chat.completions.create(model="tool", messages=messages, tools=[TOOL])
    assert json.loads(called.choices[0].message.tool_calls[0].function.arguments)["unit"] == "C"
    vectors = client.embeddings.create(model="answer", input=["a", "b"])
    assert len(vectors.data) == 2
    assert vectors.data[0].embedding == pytest.approx(vector("a"))
    with pytest.raises(openai.RateLimitError) as limited:
        client.chat.completions.create(model="http-429", messages=messages)
    assert limited.value.response.headers["retry-after"] == "1"
    named = client.chat.completions.create(model="any-operators-model", messages=messages)
    assert named.model == "any-operators-model"
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="answer", messages=[])
    with pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(model="reset", messages=messages)


def test_every_behaviour_is_described_and_plays():
    assert all(BEHAVIOURS.values())
    for name in BEHAVIOURS:
        script = write_script(
            {"model": name.replace("<ms>", "5"), "messages": [{"role": "user", "content": "x"}]}
        )
        assert script.status == int(name[5:8]) if name.startswith("http-") else script.status == 200


@pytest.mark.parametrize("data", [b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000 + b"\r\n\r\n"])
def test_the_product_drops_what_is_no_http(data):
    async def scenario():
        server = await Server().start()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(data)
        got = await asyncio.wait_for(reader.read(), 2)
        writer.close()
        await server.close()
        return got

    with contextlib.suppress(ConnectionResetError):
        assert uvloop.run(scenario()) == b""


def test_a_whole_answer_says_what_it_is():
    (whole, report, finished), fault, _ = answer_of("answer", asked())
    assert fault is None
    assert isinstance(whole, Whole)
    assert isinstance(report, UsageReport)
    assert isinstance(finished, Finished)
    assert (whole.finish, whole.dialect, finished.model) == ("stop", "openai", "answer")


def test_an_unknown_behaviour_is_a_fault():
    _, fault, _ = answer_of("gpt-9", asked())
    assert isinstance(fault, EngineFault)
    assert fault.kind == "request"
