"""The OpenAI driver beside chat: where a model runs, paths and keys, embeddings, load."""

from __future__ import annotations

import json

import pytest
import uvloop

from allod.domain.chat import ChatCall, EmbedCall
from allod.domain.fleet import Deployment
from allod.engines.contract import EngineContext, EngineFault
from allod.engines.openai import make
from allod.engines.openai.dialects import DIALECTS
from allod.engines.openai.driver import gauges
from allod.engines.scripted import Server
from allod.engines.scripted.acts import _one, plain
from allod.engines.scripted.server import route
from conformance import collect, run

CONTEXT = EngineContext(environ={"KEY": "k"}, allow_address=lambda _h, _p: True, state_dir="/nonexistent")
MESSAGE = {"role": "assistant", "content": "Hello there"}
ANSWER = {"object": "chat.completion", "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}]}


def serve(answer_of, scenario, **more):
    async def inside():
        server = await Server(record=True, answer=answer_of).start()
        given = {
            "id": "d",
            "operator": "o",
            "model": "m",
            "base_url": f"http://127.0.0.1:{server.port}/v1",
            "timeout_ms": 800,
        }
        engine = make(Deployment(**{**given, **more}), CONTEXT)
        try:
            return await scenario(engine, server)
        finally:
            await engine.close()
            await server.close()

    return run(inside())


def ask(stream=False):
    return ChatCall(body={"messages": [{"role": "user", "content": "secret words"}]}, stream=stream)


@pytest.mark.parametrize(
    "shown", [{"remote_host": "https://ollama.com:443", "remote_model": "x"}, {"remote_model": "x"}]
)
def test_I1_a_local_name_for_a_cloud_model_gets_no_content(shown):
    async def scenario(engine, server):
        results = [await collect(engine, ask()) for _ in range(2)]
        return results, list(server.seen)

    results, seen = serve(lambda _m, _p, _b: plain(shown), scenario, engine="ollama", model="innocent")
    for _, caught, _ in results:
        assert (caught.kind, caught.sent) == ("unavailable", False)
    assert {each.path for each in seen} == {"/api/show"}
    assert not any(b"secret" in each.body for each in seen)


@pytest.mark.parametrize(("body", "status"), [(b"{}", 500), (b"{}", 404), (b"[]", 200)])
def test_I1_an_ollama_that_does_not_say_where_a_model_runs_gets_no_content(body, status):
    async def scenario(engine, server):
        return (await collect(engine, ask()))[1], list(server.seen)

    caught, seen = serve(
        lambda _m, _p, _b: _one(body, status=status), scenario, engine="ollama", model="innocent"
    )
    assert not caught.sent
    assert {each.path for each in seen} == {"/api/show"}


def test_where_an_ollama_model_runs_is_asked_once_in_a_while():
    def answer_of(_method, path, _body):
        return plain({"details": {}}) if path == "/api/show" else plain(ANSWER)

    async def scenario(engine, server):
        for _ in range(3):
            assert (await collect(engine, ask()))[1] is None
        return [each.path for each in server.seen]

    assert serve(answer_of, scenario, engine="ollama") == ["/api/show", *["/v1/chat/completions"] * 3]


@pytest.mark.parametrize(
    ("base", "chat"),
    [
        ("", "/openai/deployments/m/chat/completions?api-version=2024-10-21"),
        (
            "/?api-version=2025-04-01-preview",
            "/openai/deployments/m/chat/completions?api-version=2025-04-01-preview",
        ),
        ("/openai/v1", "/openai/v1/chat/completions"),
        (
            "/openai/deployments/other?api-version=1",
            "/openai/deployments/other/chat/completions?api-version=1",
        ),
    ],
)
def test_azure_paths_and_key(base, chat):
    async def scenario():
        server = await Server(record=True, answer=lambda _m, _p, _b: plain(ANSWER)).start()
        url = f"http://127.0.0.1:{server.port}{base}"
        engine = make(
            Deployment(id="d", operator="o", engine="azure", model="m", base_url=url, api_key_env="KEY"),
            CONTEXT,
        )
        assert (await collect(engine, ask()))[1] is None
        await engine.close()
        await server.close()
        return server.seen[0]

    seen = uvloop.run(scenario())
    assert seen.path == chat
    assert (b"api-key", b"k") in seen.headers
    assert not [1 for name, _ in seen.headers if name == b"authorization"]


@pytest.mark.parametrize(
    ("body", "given", "kind"),
    [
        ({"data": [{"embedding": [1.0]}]}, "x", None),
        (
            {
                "data": [{"embedding": "AAAA"}, {"embedding": [1]}],
                "usage": {"prompt_tokens": 3, "total_tokens": 3},
            },
            ["x", "y"],
            None,
        ),
        ({"data": [{"embedding": [1.0]}]}, [1, 2, 3], None),
        ({"data": [{"embedding": [1.0]}]}, ["x", "y"], "malformed"),
        ({"data": [{"vector": [1.0]}]}, "x", "malformed"),
        ({"data": {}}, "x", "malformed"),
        ({"error": {"message": "no"}}, "x", "server"),
        ([], "x", "malformed"),
    ],
)
def test_embeddings_are_one_for_each_input_or_a_fault(body, given, kind):
    async def scenario(engine, _server):
        try:
            return await engine.embed(EmbedCall(body={"input": given, "model": "auto", "user": "u"}))
        except EngineFault as caught:
            return caught

    got = serve(lambda _m, _p, _b: plain(body), scenario, engine="openai")
    assert getattr(got, "kind", None) == kind
    if kind is None:
        assert got.body == body
        assert (got.usage is not None) is ("usage" in body)


def test_gauges_are_summed_over_labels_and_absent_is_unknown():
    text = (
        '# HELP x\nvllm:num_requests_running{engine="0",model="a b"} 3.0\n'
        'vllm:num_requests_running{engine="1"} 2.0 1700000000\nvllm:num_requests_waiting 1e1\n'
        "vllm:gpu_cache_usage_perc 0.25\nbroken line\nvllm:kv_cache_usage_perc NaNope\n"
    )
    load = gauges(text, DIALECTS["vllm"])
    assert (load.running, load.waiting, load.cache_used) == (5, 10, 0.25)
    assert gauges("", DIALECTS["sglang"]).running is None


@pytest.mark.parametrize("behaviour", ["http-500", "hangup", "garbage"])
def test_load_that_cannot_be_read_is_unknown(behaviour):
    body = json.dumps({"model": behaviour, "messages": [{"role": "user", "content": "x"}]}).encode()

    async def scenario(engine, _server):
        return await engine.load(), await engine.count_tokens(ask()) if behaviour != "hangup" else None

    load, counted = serve(
        lambda _m, _p, _b: route("POST", "/chat/completions", body), scenario, engine="vllm"
    )
    assert (load.running, load.waiting, load.cache_used, counted) == (None, None, None, None)
