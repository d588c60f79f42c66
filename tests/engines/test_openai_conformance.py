"""Every dialect of the OpenAI family passes the one suite."""

from __future__ import annotations

from typing import ClassVar

import msgspec
import pytest

from allod.engines.openai import make
from allod.engines.scripted.acts import plain
from conformance import Conformance, Rig

STEM = {"id": "chatcmpl-1", "created": 1, "model": "some-model-2026"}
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}


def event(value) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def chunk(delta, finish=None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return event({**STEM, "object": "chat.completion.chunk", "choices": [choice]})


class OpenAIRig(Rig):
    engine = "compatible"
    more = chunk({"content": " more"})
    error = b'{"error":{"message":"Tell me.","type":"server_error","code":null}}'
    error_event = b"data: " + error + b"\n\n"
    misshapen = b'{"object":"chat.completion","choices":[{"index":0,"message":"text"}]}'
    misshapen_event = b'data: {"choices":[{"index":0,"delta":"text"}]}\n\n'

    def make(self, deployment, context):
        return make(deployment, context)

    def whole(self):
        message = {"role": "assistant", "content": self.TEXT}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return msgspec.json.encode({**STEM, "object": "chat.completion", "choices": [choice], "usage": USAGE})

    def events(self):
        return [
            chunk({"role": "assistant", "content": ""}),
            chunk({"content": "A whole"}),
            chunk({"content": " answer."}),
            chunk({}, "stop"),
            event({**STEM, "object": "chat.completion.chunk", "choices": [], "usage": USAGE}),
            b"data: [DONE]\n\n",
        ]

    def is_mark(self, event):
        return b"[DONE]" in event


class OllamaRig(OpenAIRig):
    engine = "ollama"

    def preflight(self, method, path):
        del method
        return plain({"details": {"family": "llama"}}) if path == "/api/show" else None


class AzureRig(OpenAIRig):
    engine = "azure"
    path = ""


class TestCompatible(Conformance):
    rig: ClassVar[Rig] = OpenAIRig()


class TestOllama(Conformance):
    rig: ClassVar[Rig] = OllamaRig()


class TestAzure(Conformance):
    rig: ClassVar[Rig] = AzureRig()


@pytest.mark.parametrize(
    "engine", ["openai", "vllm", "sglang", "trtllm", "llama-server", "mistral", "deepseek"]
)
@pytest.mark.parametrize(("behaviour", "stream"), [("answer", True), ("truncate", True), ("no-done", True)])
def test_the_other_dialects_go_the_same_way(engine, behaviour, stream):
    class Other(OpenAIRig):
        pass

    Other.engine = engine

    class Suite(Conformance):
        rig = Other()

    _, fault, _, _ = Suite().outcome(behaviour, stream=stream)
    assert (fault.kind if fault else None) == (None if behaviour == "answer" else "truncated")
