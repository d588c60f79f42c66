"""The Gemini driver against its simulator, over real sockets."""

from __future__ import annotations

import asyncio
import json

import pytest
from simulators import gemini as sim
from simulators.server import Reply, json_reply, sse, stream_reply

from allod.domain.chat import ChatCall, Chunk, EmbedCall, Finished, UsageReport, Whole
from allod.domain.fleet import Deployment
from allod.domain.usage import Usage
from allod.engines.contract import Engine, EngineContext, EngineFault
from allod.engines.gemini import make

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "n": {"type": "integer", "minimum": 1}},
    "required": ["city", "n"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Weather.", "parameters": SCHEMA}}
MODEL = "gemini-2.5-flash"
PNG = "data:image/png;base64,aGVsbG8="


def engine(origin: str, model: str = MODEL, **more) -> Engine:
    deployment = Deployment(
        id="d", engine="gemini", model=model, operator="o", base_url=origin, api_key_env="KEY", **more
    )
    world = EngineContext(
        environ={"KEY": sim.KEY}, allow_address=lambda _h, _p: True, state_dir="/nonexistent"
    )
    return make(deployment, world)


def ask(text: str = "hello there world", *, stream: bool = False, **more) -> ChatCall:
    fields = {k: more.pop(k) for k in ("effort", "max_output_tokens") if k in more}
    return ChatCall(body={"messages": [{"role": "user", "content": text}], **more}, stream=stream, **fields)


async def drain(driver: Engine, call: ChatCall) -> list:
    return [event async for event in driver.chat(call)]


def run(script, **options):
    async def inside():
        async with sim.GeminiSimulator() as operator:
            driver = engine(operator.origin, **options)
            try:
                return await script(operator, driver)
            finally:
                await driver.close()

    return asyncio.run(inside())


def answers(call: ChatCall, **options) -> tuple[list, dict]:
    async def script(operator, driver):
        return await drain(driver, call), operator.last.json

    return run(script, **options)


def fault_of(reply: Reply, *, stream: bool = False) -> EngineFault:
    async def script(operator, driver):
        operator.forced.append(reply)
        with pytest.raises(EngineFault) as caught:
            await drain(driver, ask(stream=stream))
        return caught.value

    return run(script, first_token_ms=300, timeout_ms=2_000)


def test_a_whole_answer():
    events, sent = answers(ask(temperature=1.5, top_p=0.5, stop=["a"], presence_penalty=0.5, seed=7))
    whole, usage, finished = events
    assert isinstance(whole, Whole)
    assert whole.body["choices"][0]["message"]["content"] == "hello there world"
    assert whole.finish == "stop"
    assert usage.usage == Usage(input_tokens=3, cache_read_tokens=5, output_tokens=3)
    assert finished == Finished(model=f"{MODEL}-001")
    config = sent["generationConfig"]
    assert (config["temperature"], config["topP"], config["stopSequences"]) == (1.5, 0.5, ["a"])
    assert config["seed"] == 7
    assert config["thinkingConfig"] == {"thinkingBudget": 0}


def test_a_stream():
    events, _ = answers(ask(stream=True, effort="medium"))
    assert "".join(e.text for e in events if isinstance(e, Chunk)) == "hello there world"
    assert "".join(e.reasoning for e in events if isinstance(e, Chunk)).startswith("They want")
    assert [e.finish for e in events if isinstance(e, Chunk) and e.finish] == ["stop"]
    report = [e for e in events if isinstance(e, UsageReport)]
    assert [r.usage.reasoning_tokens for r in report] == [7]
    assert isinstance(events[-1], Finished)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", [MODEL, "gemini-3.5-flash"])
def test_tools_and_their_signatures(model, stream):
    events, sent = answers(ask("use a tool", stream=stream, tools=[TOOL]), model=model)
    assert "maxLength" not in json.dumps(
        sent["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"]["required"]
    )
    if stream:
        [delta] = [c for e in events if isinstance(e, Chunk) for c in e.tool_calls]
        assert json.loads(delta.arguments) == {"city": "Oslo", "n": 7}
        assert "tool_calls" in [e.finish for e in events if isinstance(e, Chunk)]
        return
    message = events[0].body["choices"][0]["message"]
    [call] = message["tool_calls"]
    signature = call.get("extra_content", {}).get("google", {}).get("thought_signature")
    assert signature == ("c2lnbmVk" if "-3" in model else None)
    talk = [
        {"role": "user", "content": "x"},
        message,
        {"role": "tool", "tool_call_id": call["id"], "content": "rain"},
    ]
    for kept in (True, False):
        if not kept:
            call.pop("extra_content", None)
        events, sent = answers(ChatCall(body={"messages": talk, "tools": [TOOL]}, stream=False), model=model)
        expected = "c2lnbmVk" if kept else sim.UNSIGNED
        assert sent["contents"][1]["parts"][0].get("thoughtSignature") == (
            expected if "-3" in model else None
        )
        response = {"id": "call_0", "name": "weather", "response": {"result": "rain"}}
        assert sent["contents"][2]["parts"] == [{"functionResponse": response}]


@pytest.mark.parametrize(
    ("choice", "mode"),
    [("auto", {"mode": "AUTO"}), ("required", {"mode": "ANY"}), ("none", {"mode": "NONE"}),
     ({"type": "function", "function": {"name": "weather"}},
      {"mode": "ANY", "allowedFunctionNames": ["weather"]})],
)  # fmt: skip
def test_tool_choice(choice, mode):
    _, sent = answers(ask(tools=[TOOL], tool_choice=choice))
    assert sent["toolConfig"]["functionCallingConfig"] == mode


@pytest.mark.parametrize("stream", [False, True])
def test_structured_output(stream):
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
    events, sent = answers(ask(stream=stream, response_format=form))
    if stream:
        text = "".join(e.text for e in events if isinstance(e, Chunk))
    else:
        text = events[0].body["choices"][0]["message"]["content"]
    assert json.loads(text) == {"city": "Oslo", "n": 7}
    config = sent["generationConfig"]
    assert config["responseMimeType"] == "application/json"
    assert config["responseJsonSchema"]["properties"]["city"] == {
        "type": "string",
        "description": "maxLength: 20",
    }
    assert "$schema" not in config["responseJsonSchema"]


@pytest.mark.parametrize(
    ("model", "effort", "config"),
    [
        ("gemini-2.5-flash", None, {"thinkingBudget": 0}),
        ("gemini-2.5-flash", "low", {"thinkingBudget": 1024, "includeThoughts": True}),
        ("gemini-2.5-flash", "max", {"thinkingBudget": 3072, "includeThoughts": True}),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128}),
        ("gemini-3.5-flash", None, {"thinkingLevel": "minimal"}),
        ("gemini-3-pro-preview", None, {"thinkingLevel": "low"}),
        ("gemini-3-pro-preview", "medium", {"thinkingLevel": "high", "includeThoughts": True}),
        ("gemini-3.1-pro", "medium", {"thinkingLevel": "medium", "includeThoughts": True}),
        ("gemini-2.0-flash", "high", None),
    ],
)
def test_depth_is_always_said(model, effort, config):
    _, sent = answers(ask(effort=effort), model=model)
    assert sent["generationConfig"].get("thinkingConfig") == config


def test_images_and_system_texts():
    talk = [
        {"role": "system", "content": "be brief"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": PNG}}],
        },
    ]
    _, sent = answers(ChatCall(body={"messages": talk}, stream=False))
    assert sent["systemInstruction"] == {"parts": [{"text": "be brief"}]}
    assert sent["contents"][0]["parts"][1] == {"inlineData": {"mimeType": "image/png", "data": "aGVsbG8="}}


def test_images_elsewhere_are_not_fetched():
    talk = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://e.org/x.png"}}]}]
    with pytest.raises(EngineFault) as caught:
        answers(ChatCall(body={"messages": talk}, stream=False))
    assert (caught.value.kind, caught.value.sent) == ("request", False)


@pytest.mark.parametrize("stream", [False, True])
def test_a_blocked_prompt_is_a_content_filter(stream):
    async def script(operator, driver):
        body = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}}
        operator.forced.append(stream_reply([sse(body)]) if stream else json_reply(body))
        return await drain(driver, ask(stream=stream))

    events = run(script)
    assert events[0].finish == "content_filter"
    assert events[1].usage == Usage(input_tokens=4)


def test_counting_and_embedding():
    async def script(operator, driver):
        count = await driver.count_tokens(ask("one two three"))
        embedded = await driver.embed(EmbedCall(body={"input": ["a", "b"]}))
        return count, embedded, [entry.path for entry in operator.asks]

    count, embedded, paths = run(script)
    assert count == 3
    assert [row["embedding"] for row in embedded.body["data"]] == [[0.25, 0.5]] * 2
    assert embedded.usage is None
    assert paths == [f"/v1beta/models/{MODEL}:countTokens", f"/v1beta/models/{MODEL}:batchEmbedContents"]


def candidate(*parts: dict, reason: str | None = None) -> bytes:
    out: dict = {"content": {"role": "model", "parts": list(parts)}}
    return sse({"candidates": [out | ({"finishReason": reason} if reason else {})]})


HI = candidate({"text": "hi"})
DONE = candidate({"text": ""}, reason="STOP")


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ([HI], "truncated"),
        ([], "truncated"),
        ([HI, b"data: {garbage\n\n"], "malformed"),
        ([HI, b'data: {"candid'], "truncated"),
        ([HI, DONE, HI], "malformed"),
        ([HI, candidate(reason="SAFETY"), DONE], "malformed"),
        ([candidate({"executableCode": {}})], "malformed"),
        ([sse({"hello": 1})], "malformed"),
        ([sse({"candidates": [{"index": 1}]})], "malformed"),
        ([candidate({"functionCall": {"args": {}}})], "malformed"),
        ([HI, sse({"error": {"code": 503, "status": "UNAVAILABLE", "message": "x"}})], "overloaded"),
        ([HI, candidate(reason="MALFORMED_FUNCTION_CALL")], "server"),
        ([HI, candidate(reason="OTHER")], "server"),
    ],
)
def test_broken_streams(pieces, kind):
    assert fault_of(stream_reply(pieces), stream=True).kind == kind


@pytest.mark.parametrize(("end", "kind"), [("cut", "truncated"), ("reset", "reset"), ("hang", "timeout")])
def test_a_finish_reason_is_not_enough_when_the_body_breaks(end, kind):
    reply = stream_reply([HI, DONE])
    reply.end = end
    assert fault_of(reply, stream=True).kind == kind


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("reply", "kind", "wait"),
    [
        (sim.quota(), "rate", 3500),
        (json_reply({"error": {"code": 429}}, 429, retry_after="1"), "rate", 1000),
        (sim.error(503, "UNAVAILABLE", "busy"), "overloaded", None),
        (sim.error(500, "INTERNAL", "oops"), "server", None),
        (
            sim.error(400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum"),
            "too_long",
            None,
        ),
        (sim.error(400, "INVALID_ARGUMENT", "no"), "request", None),
        (sim.error(403, "PERMISSION_DENIED", "no"), "auth", None),
        (json_reply({"error": {"code": 500, "status": "INTERNAL"}}), "server", None),
        (json_reply([{"error": {"code": 500, "status": "INTERNAL"}}]), "server", None),
        (Reply(307, {"location": "http://elsewhere"}), "redirect", None),
        (Reply(200, {"content-type": "text/html"}, b"<html>"), "malformed", None),
    ],
)
def test_error_answers(reply, kind, wait, stream):
    fault = fault_of(reply, stream=stream)
    assert (fault.kind, fault.retry_after_ms) == (kind, wait)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("STOP", "stop"), ("MAX_TOKENS", "length"), ("SAFETY", "content_filter"), ("SPII", "content_filter")],
)
def test_finish_reasons(reason, finish):
    async def script(operator, driver):
        operator.forced.append(json_reply(json.loads(candidate({"text": "x"}, reason=reason)[6:])))
        return await drain(driver, ask())

    assert run(script)[0].finish == finish


def test_the_last_usage_rules():
    async def script(operator, driver):
        first = {
            "candidates": [{"content": {"parts": [{"text": "hi"}]}}],
            "usageMetadata": {"promptTokenCount": 1},
        }
        last = {"candidates": [{"finishReason": "STOP"}]}
        last |= {"usageMetadata": {"promptTokenCount": 2, "candidatesTokenCount": 9}}
        operator.forced.append(stream_reply([sse(first), sse(last)]))
        return await drain(driver, ask(stream=True))

    [report] = [e for e in run(script) if isinstance(e, UsageReport)]
    assert report.usage == Usage(input_tokens=2, output_tokens=9)


def test_a_body_whose_end_proves_nothing_is_truncated():
    reply = stream_reply([HI, DONE])
    reply.framed = False
    assert fault_of(reply, stream=True).kind == "truncated"
    cut = json_reply({"candidates": [{"finishReason": "STOP"}]})
    cut.framed, cut.body = False, cut.body[:-3]
    assert fault_of(cut).kind == "truncated"


def test_fewer_embeddings_than_inputs_are_malformed():
    async def script(operator, driver):
        operator.forced.append(json_reply({"embeddings": [{"values": [1.0]}]}))
        with pytest.raises(EngineFault) as caught:
            await driver.embed(EmbedCall(body={"input": ["a", "b"]}))
        return caught.value.kind

    assert run(script) == "malformed"


def test_closing_the_iterator_closes_the_connection():
    async def script(operator, driver):
        reply = stream_reply([HI] * 50)
        reply.gap_s = 0.01
        operator.forced.append(reply)
        stream = driver.chat(ask(stream=True))
        await anext(stream)
        await stream.aclose()
        for _ in range(100):
            await asyncio.sleep(0.01)
            if operator.closed_early:
                return operator.closed_early
        return 0

    assert run(script) == 1


def test_a_model_name_cannot_leave_its_path():
    with pytest.raises(EngineFault) as caught:
        engine("http://127.0.0.1:1", "x/../../y")
    assert caught.value.kind == "unavailable"


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2},
        {"logprobs": True},
        {"logit_bias": {"1": 1}},
        {"stop": list("abcdef")},
        {"tools": [TOOL], "parallel_tool_calls": False},
        {"tools": [TOOL], "response_format": {"type": "json_object"}},
    ],
)
def test_what_the_dialect_cannot_carry_is_never_sent(more):
    async def script(operator, driver):
        with pytest.raises(EngineFault) as caught:
            await drain(driver, ask(**more))
        return caught.value, operator.asks

    fault, asks = run(script)
    assert (fault.kind, fault.sent, asks) == ("request", False, [])
