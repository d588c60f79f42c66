"""The HTTP product stands in for an operator: a model of any name is answered, and the mark stays."""

from __future__ import annotations

import asyncio
import json
import urllib.request

from allod.domain.chat import ChatCall
from allod.domain.fleet import Deployment
from allod.engines.contract import EngineContext
from allod.engines.registry import make_engine
from allod.engines.scripted.server import STAND_IN, Server, stand_in


def _post(port: int, path: str, body: dict[str, object]) -> tuple[dict[str, object], str | None]:
    url = f"http://127.0.0.1:{port}{path}"
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=5) as response:
        return json.loads(response.read()), response.headers["allod-simulated"]


async def _ask(path: str, body: dict[str, object]) -> tuple[dict[str, object], str | None]:
    server = await Server(answer=stand_in).start()
    try:
        return await asyncio.to_thread(_post, server.port, path, body)
    finally:
        await server.close()


def test_an_unknown_model_is_answered_under_its_own_name_and_marked() -> None:
    messages = [{"role": "user", "content": "hello"}]
    named, mark = asyncio.run(_ask("/v1/chat/completions", {"model": "gpt-5.5", "messages": messages}))
    plain, _ = asyncio.run(_ask("/v1/chat/completions", {"model": STAND_IN, "messages": messages}))
    assert named["model"] == "gpt-5.5"
    assert named["choices"] == plain["choices"]
    assert mark == "true"


def test_known_behaviours_stay_what_they_are() -> None:
    body = {"model": "echo", "messages": [{"role": "user", "content": "say this"}]}
    answer, _ = asyncio.run(_ask("/v1/chat/completions", body))
    assert answer["choices"][0]["message"]["content"] == "say this"  # type: ignore[index]


def test_embeddings_of_an_unknown_model() -> None:
    answer, _ = asyncio.run(_ask("/v1/embeddings", {"model": "text-embedding-9", "input": "hello"}))
    assert len(answer["data"]) == 1  # type: ignore[arg-type]


async def _described(behaviour: Server) -> tuple[str, str]:
    server = await behaviour.start()
    deployment = Deployment(
        id="d", engine="openai", model="gpt-5.5", operator="o", base_url=f"http://127.0.0.1:{server.port}/v1"
    )
    engine = make_engine(
        deployment, EngineContext(environ={}, allow_address=lambda _h, _p: True, state_dir="/")
    )
    before = engine.describe().evidence
    call = ChatCall(body={"model": "m", "messages": [{"role": "user", "content": "hello"}]}, stream=False)
    async for _ in engine.chat(call):
        pass
    await engine.close()
    await server.close()
    return before, engine.describe().evidence


def test_an_answer_that_says_it_is_simulated_is_not_taken_for_an_operators() -> None:
    assert asyncio.run(_described(Server(answer=stand_in))) == ("operator-claims", "simulated")
