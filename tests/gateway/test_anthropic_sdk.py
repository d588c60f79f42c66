"""The official Anthropic SDK against a running gateway: what its users do, and what they see."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import anthropic
import pytest
from world import Gateway, World, config

from gateway.sdk import APPS, DEPLOYMENTS, PIXEL, TASKS, TOOL, anthropic_client

USER = [{"role": "user", "content": "Reply with exactly green tea"}]
ANTHROPIC_TOOL = {
    "name": TOOL["function"]["name"],  # type: ignore[index]
    "description": TOOL["function"]["description"],  # type: ignore[index]
    "input_schema": TOOL["function"]["parameters"],  # type: ignore[index]
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    text = config(DEPLOYMENTS, apps=APPS, tasks=TASKS, server={"max_body_bytes": 1 << 20})
    world = World(tmp_path_factory.mktemp("anthropic") / "home", text)
    with world.up("ward", "press") as up:
        yield up


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[anthropic.Anthropic]:
    with anthropic_client(gateway, "press") as one:
        yield one


def test_message_whole_and_its_headers(client: anthropic.Anthropic, gateway: Gateway) -> None:
    raw = client.messages.with_raw_response.create(model="our-obey", max_tokens=64, messages=USER)
    answer = raw.parse()
    assert answer.content[0].type == "text"
    assert answer.content[0].text == "green tea"
    assert answer.stop_reason == "end_turn"
    assert raw.headers["allod-deployment"] == "our-obey"
    leaf = gateway.leaf(raw.headers["allod-receipt"])
    assert leaf["tokens"]["output"] == answer.usage.output_tokens > 0
    assert leaf["cost_usd"] == raw.headers["allod-cost"]


def test_message_stream_tells_usage_and_cost_at_its_end(
    client: anthropic.Anthropic, gateway: Gateway
) -> None:
    with client.messages.stream(model="our-obey", max_tokens=64, messages=USER) as stream:
        receipt = stream.response.headers["allod-receipt"]
        events = list(stream)
        final = stream.get_final_message()
    assert final.content[0].type == "text"
    assert final.content[0].text == "green tea"
    assert events[-1].type == "message_stop"
    delta = next(e for e in events if e.type == "message_delta")
    assert delta.usage.model_extra is not None
    assert delta.usage.model_extra["allod_cost"] == gateway.leaf(receipt)["cost_usd"]


def test_async_message(gateway: Gateway) -> None:
    async def ask() -> str:
        async with (
            anthropic.AsyncAnthropic(
                base_url=f"http://127.0.0.1:{gateway.port}", api_key=gateway.world.key("press"), max_retries=0
            ) as client,
            client.messages.stream(model="our-obey", max_tokens=64, messages=USER) as stream,
        ):
            return await stream.get_final_text()

    assert asyncio.run(ask()) == "green tea"


def test_system_and_images(client: anthropic.Anthropic) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    content = [{"type": "image", "source": source}, {"type": "text", "text": "what is this"}]
    answer = client.messages.create(
        model="our-echo",
        max_tokens=64,
        system="You are a nurse.",
        messages=[{"role": "user", "content": content}],
    )
    assert answer.content[0].text == "what is this"
    with pytest.raises(anthropic.PermissionDeniedError):
        client.messages.create(
            model="text-only", max_tokens=64, messages=[{"role": "user", "content": content}]
        )


@pytest.mark.parametrize("dumped", [False, True])
def test_tools_and_their_results(client: anthropic.Anthropic, dumped: bool) -> None:
    asked = [{"role": "user", "content": "dose for Anna?"}]
    first = client.messages.create(model="our-tool", max_tokens=64, messages=asked, tools=[ANTHROPIC_TOOL])
    assert first.stop_reason == "tool_use"
    use = next(block for block in first.content if block.type == "tool_use")
    assert use.name == "dose"
    assert isinstance(use.input, dict)
    said = [block.model_dump() for block in first.content] if dumped else first.content
    told = [
        *asked,
        {"role": "assistant", "content": said},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "20 mg"}],
        },
    ]
    second = client.messages.create(model="our-tool", max_tokens=64, messages=told, tools=[ANTHROPIC_TOOL])
    assert second.content[0].text == "The tool said: 20 mg"


def test_tools_in_a_stream(client: anthropic.Anthropic) -> None:
    with client.messages.stream(
        model="our-tool", max_tokens=64, messages=USER, tools=[ANTHROPIC_TOOL]
    ) as stream:
        final = stream.get_final_message()
    use = next(block for block in final.content if block.type == "tool_use")
    assert use.name == "dose"
    assert isinstance(use.input, dict)


def test_count_tokens_has_a_receipt_and_obeys_the_law(client: anthropic.Anthropic, gateway: Gateway) -> None:
    raw = client.messages.with_raw_response.count_tokens(model="our-obey", messages=USER)
    assert raw.parse().input_tokens > 0
    assert gateway.leaf(raw.headers["allod-receipt"])["status"] == "answered"
    with anthropic_client(gateway, "ward") as ward, pytest.raises(anthropic.PermissionDeniedError):
        ward.messages.count_tokens(model="foreign", messages=USER)


def test_models_in_the_words_of_this_api(client: anthropic.Anthropic) -> None:
    names = {model.id for model in client.models.list()}
    assert "our-obey" in names
    assert client.models.retrieve("our-obey").id == "our-obey"


def test_errors_are_the_sdks_own_exceptions(client: anthropic.Anthropic, gateway: Gateway) -> None:
    with pytest.raises(anthropic.BadRequestError):
        client.messages.create(model="our-obey", max_tokens=0, messages=USER)
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="no-such", max_tokens=5, messages=USER)
    with (
        anthropic_client(gateway, "press", key="ak_wrong") as stranger,
        pytest.raises(anthropic.AuthenticationError),
    ):
        stranger.messages.create(model="our-obey", max_tokens=5, messages=USER)
    with pytest.raises(anthropic.APIStatusError) as size:
        client.messages.create(
            model="our-obey", max_tokens=5, messages=[{"role": "user", "content": "x" * (2 << 20)}]
        )
    assert size.value.status_code == 413


def test_a_refusal_says_which_law_and_carries_its_receipt(gateway: Gateway) -> None:
    with anthropic_client(gateway, "ward") as ward, pytest.raises(anthropic.PermissionDeniedError) as caught:
        ward.messages.create(model="foreign", max_tokens=5, messages=USER)
    body = caught.value.body
    error = body["error"]  # type: ignore[index]
    assert error["type"] == "allod_refused"
    assert {r["id"] for r in error["allod"]["excluded"][0]["rules"]} == {
        "residency.4-audit",
        "residency.5-operator",
        "compelled.access",
    }
    receipt = error["allod"]["receipt"]
    assert receipt == caught.value.response.headers["allod-receipt"]
    assert gateway.leaf(receipt, app="ward")["status"] == "refused"


@pytest.mark.parametrize(("model", "status"), [("broken", 502), ("silent", 504), ("keyless", 503)])
def test_failures_have_their_status_and_their_receipt(
    client: anthropic.Anthropic, gateway: Gateway, model: str, status: int
) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(model=model, max_tokens=5, messages=USER)
    assert caught.value.status_code == status
    assert gateway.leaf(caught.value.response.headers["allod-receipt"])["status"] == "failed"


def test_a_stream_that_breaks_is_an_exception_and_never_an_end(
    client: anthropic.Anthropic, gateway: Gateway
) -> None:
    seen = []
    with client.messages.stream(model="half", max_tokens=64, messages=USER) as stream:
        receipt = stream.response.headers["allod-receipt"]
        with pytest.raises(anthropic.APIError):
            seen += [event.type for event in stream]
    assert "message_stop" not in seen
    assert gateway.leaf(receipt)["status"] == "failed"
