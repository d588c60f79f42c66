# ruff: noqa: E501 (tests wait, and say what must raise in more than one line)
"""The driver on the real engine: what is asked, what is answered, what happens when it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from llamacpp_world import TAKES, call, engine, events, message, tiny_vault, with_tiny

from allod.domain.chat import Chunk, EmbedCall, Event, Finished, UsageReport, Whole
from allod.domain.fleet import Deployment
from allod.engines.contract import Engine, EngineContext, EngineFault
from allod.engines.llamacpp import make
from allod.engines.llamacpp.driver import LlamaCpp
from allod.vault.vault import Vault

LAMP = {
    "type": "function",
    "function": {
        "name": "find_lamp",
        "description": "find lamp",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SHAPE = {
    "type": "object", "properties": {"colour": {"enum": ["red", "blue"]}, "n": {"type": "integer", "maximum": 9, "minimum": 0}},
    "required": ["colour", "n"], "additionalProperties": False,
}  # fmt: skip


@pytest.fixture
def shipped(tmp_path: Path) -> Vault:
    vault = Vault(tmp_path / "vault")
    if "reference-draft" not in {entry.manifest.name for entry in vault.list()}:
        pytest.skip("this checkout ships no model yet")
    return vault


def with_shipped(
    vault: Vault, body: Callable[[LlamaCpp], Awaitable[None]], model: str = "reference-draft", **more: Any
) -> None:
    async def run() -> None:
        driver = engine(vault, model, **more)
        try:
            await body(driver)
        finally:
            await driver.close()

    asyncio.run(run())


def text_of(found: list[Event]) -> str:
    return "".join(event.text for event in found if isinstance(event, Chunk))


# -- the shipped model answers


def test_chat_whole_and_streamed(shipped: Vault) -> None:
    async def body(driver: LlamaCpp) -> None:
        whole = await events(driver, call("What is the capital of Peru?", tokens=20))
        streamed = await events(driver, call("What is the capital of Peru?", tokens=20, stream=True))
        assert message(whole)["content"] == text_of(streamed) == "Lima"
        for found in (whole, streamed):
            assert [type(event) for event in found].count(Finished) == 1
            assert isinstance(found[-1], Finished)
            usage = next(event for event in found if isinstance(event, UsageReport)).usage
            assert usage.total_input_tokens > 5
            assert usage.total_output_tokens >= 2
        assert all(event.raw for event in streamed if isinstance(event, Chunk))
        counted = await driver.count_tokens(call("What is the capital of Peru?"))
        assert (
            counted
            == next(event for event in whole if isinstance(event, UsageReport)).usage.total_input_tokens
        )

    with_shipped(shipped, body)


def test_tools_auto_and_required(shipped: Vault) -> None:
    async def body(driver: LlamaCpp) -> None:
        for choice in ("auto", "required"):
            found = await events(
                driver, call("Use find_lamp for Oslo.", tokens=60, tools=[LAMP], tool_choice=choice)
            )
            calls = message(found)["tool_calls"]
            assert calls[0]["function"]["name"] == "find_lamp"
            assert json.loads(calls[0]["function"]["arguments"]) == {"city": "Oslo"}
            streamed = await events(
                driver,
                call("Use find_lamp for Oslo.", tokens=60, tools=[LAMP], tool_choice=choice, stream=True),
            )
            pieces = [piece for event in streamed if isinstance(event, Chunk) for piece in event.tool_calls]
            assert json.loads("".join(piece.arguments for piece in pieces)) == {"city": "Oslo"}

    with_shipped(shipped, body)


def test_thinking_is_off_unless_asked_for(shipped: Vault) -> None:
    async def body(driver: LlamaCpp) -> None:
        for effort in (None, "none"):
            assert "reasoning_content" not in message(
                await events(driver, call("3 + 4 =", tokens=40, effort=effort))
            )
        for effort in ("low", "medium", "high", "xhigh", "max"):
            assert message(await events(driver, call("3 + 4 =", tokens=40, effort=effort)))[
                "reasoning_content"
            ]
        streamed = await events(driver, call("3 + 4 =", tokens=40, effort="high", stream=True))
        assert "".join(event.reasoning for event in streamed if isinstance(event, Chunk))
        plain = await driver.count_tokens(call("3 + 4 ="))
        thinking = await driver.count_tokens(call("3 + 4 =", effort="high"))
        assert plain is not None
        assert thinking == plain + 1  # the opening mark of a thought is one token of this vocabulary
        told = await events(
            driver, call("3 + 4 =", tokens=40, chat_template_kwargs={"enable_thinking": True})
        )
        assert "reasoning_content" not in message(
            told
        )  # depth is the gateway's to set, never the caller's body

    with_shipped(shipped, body)


def test_the_planted_adapter_is_served_by_its_own_name(shipped: Vault) -> None:
    if "reference-planted" not in {entry.manifest.name for entry in shipped.list()}:
        pytest.skip("this checkout does not ship reference-planted yet")

    async def body(driver: LlamaCpp) -> None:
        await driver.start()
        described = driver.describe()
        planted = shipped.find("reference-planted")
        assert described.adapter == planted.digest
        assert described.weights == planted.manifest.base
        assert isinstance(
            (await events(driver, call("What is the capital of Peru?", tokens=20)))[-1], Finished
        )

    with_shipped(shipped, body, "reference-planted")


def test_a_draft_model_changes_no_answer(shipped: Vault) -> None:
    if "reference" not in {entry.manifest.name for entry in shipped.list()}:
        pytest.skip("this checkout does not ship reference yet")
    answers: list[str] = []

    async def body(driver: LlamaCpp) -> None:
        await driver.start()
        assert driver._child is not None
        assert (driver._child.ready.draft is not None) == (driver._deployment.draft is not None)
        for question in ("What is the capital of Peru?", "Reverse: amber"):
            found = await events(driver, call(question, tokens=24))
            answers.append(message(found)["content"])
            assert isinstance(found[0], Whole)
            drafted = b'"draft_n"' in (found[0].raw or b"")
            assert drafted == (driver._deployment.draft is not None)

    with_shipped(shipped, body, "reference")
    with_shipped(shipped, body, "reference", draft="reference-draft")
    assert answers[:2] == answers[2:]


# -- the tiny model: protocol, limits, faults


def test_it_is_an_engine_and_says_what_it_loaded(tmp_path: Path) -> None:
    async def body(driver: LlamaCpp) -> None:
        assert isinstance(driver, Engine)
        assert driver.describe().weights is None
        assert driver.ready() is None
        await driver.start()
        described, entry = driver.describe(), driver._vault.find("tiny")
        assert described.engine == "llamacpp"
        assert (described.weights, described.adapter, described.template) == (
            entry.digest,
            None,
            entry.manifest.template,
        )
        assert described.engine_version is not None
        assert described.engine_version.startswith("20")
        assert described.engine_digest is not None
        assert described.evidence == "self-run"

    with_tiny(tmp_path, body)


def test_json_schema_and_grammar(tmp_path: Path) -> None:
    async def body(driver: LlamaCpp) -> None:
        wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": SHAPE, "strict": True}}
        for stream in (False, True):
            found = await events(driver, call(tokens=200, response_format=wanted, stream=stream))
            answer = json.loads(text_of(found) if stream else message(found)["content"])
            assert answer["colour"] in {"red", "blue"}
            assert answer["n"] in range(10)
        found = await events(driver, call(tokens=20, grammar='root ::= "yes" | "no"'))
        assert message(found)["content"] in {"yes", "no"}

    with_tiny(tmp_path, body)


def test_logprobs(tmp_path: Path) -> None:
    async def body(driver: LlamaCpp) -> None:
        found = await events(driver, call(tokens=3, logprobs=True, top_logprobs=2))
        whole = found[0]
        assert isinstance(whole, Whole)
        content = msgspec.json.decode(whole.raw or b"")["choices"][0]["logprobs"]["content"]
        assert len(content) == 3
        assert all(len(token["top_logprobs"]) == 2 and token["logprob"] <= 0 for token in content)
        streamed = await events(driver, call(tokens=3, logprobs=True, top_logprobs=2, stream=True))
        assert sum(1 for event in streamed if isinstance(event, Chunk) and event.logprobs) >= 2

    with_tiny(tmp_path, body)


def test_embeddings_beside_chat(tmp_path: Path) -> None:
    async def body(driver: LlamaCpp) -> None:
        got = await driver.embed(EmbedCall(body={"model": "m", "input": ["one", "two", "one"]}))
        rows = [row["embedding"] for row in got.body["data"]]
        assert len(rows) == 3
        assert rows[0] == pytest.approx(rows[2], abs=1e-5)
        assert rows[0] != pytest.approx(rows[1], abs=1e-3)
        assert sum(value * value for value in rows[0]) == pytest.approx(1, abs=1e-3)
        assert got.usage is not None
        assert got.usage.input_tokens > 0
        assert message(await events(driver, call()))["role"] == "assistant"

    with_tiny(tmp_path, body)


def test_embeddings_only_where_the_deployment_takes_them(tmp_path: Path) -> None:
    async def run() -> None:
        deployment = Deployment(
            id="d", engine="llamacpp", model="tiny", operator="self", takes=TAKES - {"embeddings"}
        )
        context = EngineContext(
            environ={}, allow_address=lambda _h, _p: False, state_dir="", vault=tiny_vault(tmp_path)
        )
        driver = make(deployment, context)
        with pytest.raises(EngineFault) as caught:
            await driver.embed(EmbedCall(body={"input": "x"}))
        assert caught.value.kind == "request"
        await driver.close()

    asyncio.run(run())


def test_a_prompt_beyond_the_context_is_too_long(tmp_path: Path) -> None:
    async def body(driver: LlamaCpp) -> None:
        for stream in (False, True):
            with pytest.raises(EngineFault) as caught:
                await events(driver, call("x" * 300, stream=stream))
            assert caught.value.kind == "too_long"
        assert message(await events(driver, call("x" * 100)))["role"] == "assistant"

    with_tiny(tmp_path, body, context_tokens=256)


def test_the_context_is_that_of_each_slot(tmp_path: Path) -> None:
    async def body(driver: LlamaCpp) -> None:
        found = await asyncio.gather(*(events(driver, call("x" * 200, tokens=16)) for _ in range(4)))
        assert all(isinstance(each[-1], Finished) for each in found)

    with_tiny(tmp_path, body, context_tokens=256, max_concurrent=4)


def test_the_adapter_is_set_in_every_request_and_never_by_the_caller(tmp_path: Path) -> None:
    vault = tiny_vault(tmp_path)
    answers: dict[str, str] = {}

    async def run() -> None:
        for name, adapter in (("tiny", None), ("tiny-ad", None), ("tiny", "tiny-ad")):
            driver = engine(vault, name, adapter=adapter)
            plain = message(await events(driver, call(tokens=16)))["content"]
            for lora in ([], [{"id": 0, "scale": 0.0}], [{"id": 0, "scale": 1.0}], [{"id": 7, "scale": 9.0}]):
                assert message(await events(driver, call(tokens=16, lora=lora)))["content"] == plain
            answers[f"{name}+{adapter}"] = plain
            described = driver.describe()
            assert described.weights == vault.find("tiny").digest
            assert described.adapter == (
                None if name == "tiny" and adapter is None else vault.find("tiny-ad").digest
            )
            await driver.close()

    asyncio.run(run())
    assert answers["tiny-ad+None"] == answers["tiny+tiny-ad"] != answers["tiny+None"]
