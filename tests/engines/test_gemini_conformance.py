"""The suite of all drivers, on the Gemini driver."""

from __future__ import annotations

from typing import ClassVar

import msgspec
import pytest

from allod.domain.chat import Finished
from allod.engines.gemini import make
from conformance import WHOLE, Conformance, Rig

USAGE = {"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 13}


def answer(text: str, **more: object) -> dict:
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0, **more}
    return {"candidates": [candidate], "usageMetadata": USAGE, "modelVersion": "some-model-001"}


def event(value: object) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\r\n\r\n"


class GeminiRig(Rig):
    engine = "gemini"
    path = "/v1beta"
    model = "gemini-2.5-flash"
    more = event(answer(" more"))
    error = b'{"error":{"code":500,"message":"Tell me.","status":"INTERNAL"}}'
    error_event = b"data: " + error + b"\n\n"
    misshapen = b'{"candidates":[{"content":{"parts":"text"}}]}'
    misshapen_event = b'data: {"candidates":[{"content":{"parts":"text"}}]}\n\n'

    def make(self, deployment, context):
        return make(deployment, context)

    def wants_stream(self, path, body):
        del body
        return ":streamGenerateContent" in path

    def whole(self):
        return msgspec.json.encode(answer(self.TEXT, finishReason="STOP"))

    def events(self):
        return [event(answer("A whole")), event(answer(" answer.")), event(answer("", finishReason="STOP"))]

    def is_mark(self, event):
        return b"finishReason" in event


class TestGemini(Conformance):
    rig: ClassVar[Rig] = GeminiRig()

    @pytest.mark.parametrize("stream", [False, True], ids=["one", "stream"])
    @pytest.mark.parametrize("behaviour", WHOLE)
    def test_a_whole_answer_in_any_clothes_is_whole(self, behaviour, stream):
        if (behaviour, stream) != ("eof", True):
            super().test_a_whole_answer_in_any_clothes_is_whole(behaviour, stream)
            return
        # this dialect has no end mark, so a stream that ends with its connection proves nothing
        events, fault, _, _ = self.outcome(behaviour, stream=stream)
        assert fault is not None
        assert fault.kind == "truncated"
        assert not [event for event in events if isinstance(event, Finished)]
