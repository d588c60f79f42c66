"""The official OpenAI SDK against a running gateway: what its users do, and what they see."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from decimal import Decimal

import openai
import pytest
from world import Gateway, Region, World, config, deployment

from gateway.sdk import APPS, DEPLOYMENTS, PIXEL, SCHEMA, TASKS, TOOL, openai_client


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Region() as region:
        far = deployment("region", "obey", base_url=region.url, quality={"default": 0.5})
        world = World(
            tmp_path_factory.mktemp("sdk") / "home",
            config([*DEPLOYMENTS, far], apps=APPS, tasks=TASKS, server={"max_body_bytes": 1 << 20}),
        )
        with world.up("ward", "press") as up:
            yield up


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai_client(gateway, "press") as one:
        yield one


USER = [{"role": "user", "content": "Reply with exactly green tea"}]


@pytest.mark.parametrize("model", ["our-obey", "region"])
def test_chat_whole_and_its_headers(client: openai.OpenAI, gateway: Gateway, model: str) -> None:
    raw = client.chat.completions.with_raw_response.create(model=model, messages=USER)
    answer = raw.parse()
    assert answer.choices[0].message.content == "green tea"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert raw.headers["allod-deployment"] == model
    assert raw.headers["allod-jurisdiction"] == "DE"
    leaf = gateway.leaf(raw.headers["allod-receipt"])
    assert leaf["status"] == "answered"
    assert leaf["cost_usd"] == raw.headers["allod-cost"]
    assert Decimal(raw.headers["allod-cost"]) > 0


@pytest.mark.parametrize("model", ["our-obey", "region"])
def test_chat_stream_tells_usage_and_cost_at_its_end(
    client: openai.OpenAI, gateway: Gateway, model: str
) -> None:
    with client.chat.completions.with_streaming_response.create(
        model=model, messages=USER, stream=True, stream_options={"include_usage": True}
    ) as raw:
        receipt = raw.headers["allod-receipt"]
        assert raw.headers["allod-deployment"] == model
        chunks = list(raw.parse())
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "green tea"
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.model_extra is not None
    leaf = gateway.leaf(receipt)
    assert usage.model_extra["allod_cost"] == leaf["cost_usd"]
    assert usage.prompt_tokens == leaf["tokens"]["input"]
    assert usage.completion_tokens == leaf["tokens"]["output"]
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"


def test_a_stream_without_include_usage_has_no_usage_chunk(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="our-obey", messages=USER, stream=True))
    assert all(c.usage is None and c.choices for c in chunks)


def test_async_chat_whole_and_stream(gateway: Gateway) -> None:
    async def both() -> tuple[str, str]:
        async with openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key=gateway.world.key("press"), max_retries=0
        ) as client:
            whole = await client.chat.completions.create(model="our-obey", messages=USER)
            stream = await client.chat.completions.create(model="our-obey", messages=USER, stream=True)
            parts = [c.choices[0].delta.content or "" async for c in stream]
        return whole.choices[0].message.content or "", "".join(parts)

    assert asyncio.run(both()) == ("green tea", "green tea")


def test_tools_and_their_results(client: openai.OpenAI) -> None:
    asked = [{"role": "user", "content": "What is the dose for Anna?"}]
    first = client.chat.completions.create(model="our-tool", messages=asked, tools=[TOOL])
    calls = first.choices[0].message.tool_calls
    assert first.choices[0].finish_reason == "tool_calls"
    assert calls
    assert isinstance(json.loads(calls[0].function.arguments), dict)
    assert calls[0].function.name == "dose"
    told = [
        *asked,
        first.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": calls[0].id, "content": "20 mg"},
    ]
    second = client.chat.completions.create(model="our-tool", messages=told, tools=[TOOL])
    assert second.choices[0].message.content == "The tool said: 20 mg"


def test_tools_in_a_stream(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="our-tool", messages=[{"role": "user", "content": "dose?"}], tools=[TOOL], stream=True
    )
    name, arguments, finish = "", "", None
    for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or ():
            assert call.function is not None
            name += call.function.name or ""
            arguments += call.function.arguments or ""
        finish = chunk.choices[0].finish_reason or finish
    assert name == "dose"
    assert isinstance(json.loads(arguments), dict)
    assert finish == "tool_calls"


def test_json_schema(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="our-obey",
        messages=USER,
        response_format={"type": "json_schema", "json_schema": {"name": "patient", "schema": SCHEMA}},
    )
    given = json.loads(answer.choices[0].message.content or "")
    assert set(given) == {"name", "ward"}
    assert isinstance(given["ward"], int)


def test_logprobs_n_and_stop(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="our-obey", messages=USER, logprobs=True, top_logprobs=3, n=2, stop=[" tea"]
    )
    assert [c.message.content for c in answer.choices] == ["green", "green"]
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.content
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 3


def test_output_limit_ends_with_length(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="our-answer", messages=USER, max_completion_tokens=2)
    assert answer.choices[0].finish_reason == "length"


def test_images_go_only_where_the_deployment_takes_them(client: openai.OpenAI) -> None:
    content = [
        {"type": "text", "text": "what is this"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]
    answer = client.chat.completions.create(model="our-echo", messages=[{"role": "user", "content": content}])
    assert answer.choices[0].message.content == "what is this"
    with pytest.raises(openai.PermissionDeniedError) as caught:
        client.chat.completions.create(model="text-only", messages=[{"role": "user", "content": content}])
    rules = caught.value.body["allod"]["excluded"][0]["rules"]  # type: ignore[index]
    assert [r["id"] for r in rules] == ["capability.image"]


def test_responses_whole_and_stream(client: openai.OpenAI, gateway: Gateway) -> None:
    raw = client.responses.with_raw_response.create(model="our-obey", input="Reply with exactly green tea")
    whole = raw.parse()
    assert whole.output_text == "green tea"
    assert whole.status == "completed"
    assert whole.usage is not None
    assert whole.usage.output_tokens == gateway.leaf(raw.headers["allod-receipt"])["tokens"]["output"]
    events = list(
        client.responses.create(model="our-obey", input="Reply with exactly green tea", stream=True)
    )
    assert events[0].type == "response.created"
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == "green tea"
    assert last.response.usage is not None
    assert last.response.usage.model_extra is not None
    assert "allod_cost" in last.response.usage.model_extra
    deltas = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert deltas == "green tea"


def test_responses_tools_and_their_results(client: openai.OpenAI) -> None:
    tool = {"type": "function", **TOOL["function"], "strict": False}
    first = client.responses.create(model="our-tool", input="dose for Anna?", tools=[tool])
    call = next(item for item in first.output if item.type == "function_call")
    assert call.name == "dose"
    second = client.responses.create(
        model="our-tool",
        tools=[tool],
        input=[
            {"role": "user", "content": "dose for Anna?"},
            {
                "type": "function_call",
                "call_id": call.call_id,
                "name": call.name,
                "arguments": call.arguments,
            },
            {"type": "function_call_output", "call_id": call.call_id, "output": "20 mg"},
        ],
    )
    assert second.output_text == "The tool said: 20 mg"


def test_embeddings_float_and_base64(client: openai.OpenAI) -> None:
    floats = client.embeddings.create(model="our-answer", input=["one", "two"], encoding_format="float")
    packed = client.embeddings.create(model="our-answer", input=["one", "two"])  # the SDK asks for base64
    assert len(floats.data) == 2
    for one, other in zip(floats.data, packed.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, rel=1e-5)
    assert floats.data[0].embedding != floats.data[1].embedding
    assert floats.usage.prompt_tokens > 0


def test_models_list_and_retrieve(client: openai.OpenAI) -> None:
    names = {model.id for model in client.models.list()}
    assert {"auto", "our-obey", "region", "careful"} <= names
    assert client.models.retrieve("our-obey").id == "our-obey"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


def test_a_task_is_a_model_and_auto_chooses(client: openai.OpenAI) -> None:
    for model in ("auto", "careful"):
        raw = client.chat.completions.with_raw_response.create(model=model, messages=USER)
        assert raw.headers["allod-deployment"] == "best"


def test_errors_are_the_sdks_own_exceptions(client: openai.OpenAI, gateway: Gateway) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="our-obey", messages=[])
    assert bad.value.param == "messages"
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="our-obeyy", messages=USER)
    assert missing.value.code == "model_not_found"
    with openai_client(gateway, "press", key="ak_wrong") as stranger:
        with pytest.raises(openai.AuthenticationError):
            stranger.chat.completions.create(model="our-obey", messages=USER)
        with pytest.raises(openai.AuthenticationError):
            stranger.models.list()
    with pytest.raises(openai.APIStatusError) as size:
        client.chat.completions.create(
            model="our-obey", messages=[{"role": "user", "content": "x" * (2 << 20)}]
        )
    assert size.value.status_code == 413


def test_a_refusal_says_which_law_and_carries_its_receipt(gateway: Gateway) -> None:
    with openai_client(gateway, "ward") as ward, pytest.raises(openai.PermissionDeniedError) as caught:
        ward.chat.completions.create(model="foreign", messages=USER)
    error = caught.value.body
    assert error["type"] == "allod_refused"  # type: ignore[index]
    allod = error["allod"]  # type: ignore[index]
    assert [e["deployment"] for e in allod["excluded"]] == ["foreign"]
    rules = {r["id"]: r for r in allod["excluded"][0]["rules"]}
    assert set(rules) == {"residency.4-audit", "residency.5-operator", "compelled.access"}
    assert all(r["law"] and r["got"] and r["required"] and r["remedy"] for r in rules.values())
    assert allod["receipt"] == caught.value.response.headers["allod-receipt"]
    assert gateway.leaf(allod["receipt"], app="ward")["status"] == "refused"
    assert "nearest" in allod


@pytest.mark.parametrize(("model", "status"), [("broken", 502), ("silent", 504), ("keyless", 503)])
def test_failures_have_their_status_and_their_receipt(
    client: openai.OpenAI, gateway: Gateway, model: str, status: int
) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model=model, messages=USER)
    assert caught.value.status_code == status
    assert gateway.leaf(caught.value.response.headers["allod-receipt"])["status"] == "failed"
    with pytest.raises(openai.InternalServerError) as caught:
        list(client.chat.completions.create(model=model, messages=USER, stream=True))
    assert caught.value.status_code == status


def test_a_stream_that_breaks_is_an_exception_and_never_an_end(
    client: openai.OpenAI, gateway: Gateway
) -> None:
    finishes: list[str | None] = []
    with client.chat.completions.with_streaming_response.create(
        model="half", messages=USER, stream=True
    ) as raw:
        receipt = raw.headers["allod-receipt"]
        with pytest.raises(openai.APIError) as caught:
            finishes += [chunk.choices[0].finish_reason for chunk in raw.parse()]
    assert receipt in str(caught.value.body)
    assert set(finishes) <= {None}
    events = list(client.responses.create(model="half", input="x", stream=True))
    assert events[-1].type == "response.failed"
    assert "response.completed" not in {event.type for event in events}
    assert gateway.leaf(receipt)["status"] == "failed"
