"""The suite of all drivers, on the Anthropic driver: translated, and with the caller's own body."""

from __future__ import annotations

import json
from typing import ClassVar

import msgspec

from allod.engines.anthropic import make
from conformance import Conformance, Rig
from conformance import call as neutral_call

START = {"id": "msg_1", "type": "message", "role": "assistant", "model": "some-model-2026"}
USAGE = {"input_tokens": 9, "output_tokens": 4}
NATIVE = {"model": "auto", "max_tokens": 64, "messages": [{"role": "user", "content": "Tell me."}]}


def event(kind: str, **fields: object) -> bytes:
    data = msgspec.json.encode({"type": kind, **fields})
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def delta(text: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


class AnthropicRig(Rig):
    engine = "anthropic"
    model = "claude-sonnet-4-5"
    more = delta(" more")
    error = b'{"type":"error","error":{"type":"api_error","message":"Tell me."}}'
    error_event = b"event: error\ndata: " + error + b"\n\n"
    misshapen = b'{"type":"message","content":"text","stop_reason":"end_turn"}'
    misshapen_event = b'data: {"type":"content_block_delta","index":"0"}\n\n'

    def make(self, deployment, context):
        return make(deployment, context)

    def whole(self):
        content = [{"type": "text", "text": self.TEXT}]
        answer = {
            **START,
            "content": content,
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": USAGE,
        }
        return msgspec.json.encode(answer)

    def events(self):
        message = {**START, "content": [], "stop_reason": None, "usage": {**USAGE, "output_tokens": 1}}
        block = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        return [
            event("message_start", message=message) + event("ping") + block,  # the suite's "more" may follow
            event("ping"),
            delta("A whole"),
            delta(" answer."),
            event("content_block_stop", index=0),
            event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 4}),
            event("message_stop"),
        ]

    def is_mark(self, event):
        return b"message_stop" in event


class TestAnthropic(Conformance):
    rig: ClassVar[Rig] = AnthropicRig()


class TestAnthropicNative(Conformance):
    rig: ClassVar[Rig] = AnthropicRig()

    def outcome(self, behaviour, *, stream):
        import conformance

        given = {"native": NATIVE, "native_dialect": "anthropic"}
        kept, conformance.call = conformance.call, lambda **more: neutral_call(**more, **given)
        try:
            events, fault, seconds, server = super().outcome(behaviour, stream=stream)
        finally:
            conformance.call = kept
        sent = [json.loads(seen.body) for seen in server.seen if seen.path.endswith("/messages")]
        assert all(body["messages"] == NATIVE["messages"] for body in sent)
        if fault is None and stream:
            raw = b"".join(event.raw for event in events if getattr(event, "raw", None))
            assert raw.count(b"message_start") == 2
            assert raw.count(b'"message_stop"') == 1
        return events, fault, seconds, server
