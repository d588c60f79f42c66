"""SIMULATOR of Mistral's API: API reference "Chat", pages "Reasoning" and "Function calling" (2026).

Unknown fields are answered with 422, ``required`` is called ``any``, usage comes in the last chunk unasked,
and a thinking model's content is a list with ``thinking`` parts.
"""

from __future__ import annotations

from typing import Any

from simulators.mind import Thought, words_of
from simulators.openai_family import OpenAISimulator, Refusal, calls, finish, head, piece
from simulators.server import Reply, json_reply, sse


class MistralSimulator(OpenAISimulator):
    """Only adjustable models (``mistral-small-latest``) know ``reasoning_effort``."""

    documentation = "Mistral docs: API reference Chat, Reasoning, Function calling"
    extra = frozenset({"reasoning_effort", "random_seed", "safe_prompt", "prediction"})
    lacks = frozenset({"logit_bias", "logprobs", "top_logprobs", "seed", "stream_options"})
    usage_asked = False

    def thinks(self, body: dict[str, Any]) -> bool:
        """Refuses what only OpenAI says."""
        if body.get("tool_choice") == "required":
            raise Refusal(self.error(422, "", "tool_choice"))
        for message in body["messages"]:
            if {"reasoning_content", "refusal", "name"} & set(message):
                raise Refusal(self.error(422, "", "extra_forbidden"))
        return bool(body.get("reasoning_effort") == "high")

    def error(self, status: int, code: str, told: str) -> Reply:
        """Validation errors come as ``detail``."""
        if code == "unknown_parameter" or status == 422:
            return json_reply({"detail": [{"type": "extra_forbidden", "msg": told}]}, 422)
        flat = {"object": "error", "message": told, "type": "invalid_request_error", "code": "3051"}
        return json_reply(flat, status)

    def message(self, thought: Thought) -> dict[str, Any]:
        """Content in parts where there is hidden text."""
        out = super().message(thought)
        hidden = out.pop(self.reasoning_field, None)
        if hidden:
            thinking = {"type": "thinking", "thinking": [{"type": "text", "text": hidden}]}
            out["content"] = [thinking, {"type": "text", "text": thought.text}]
        return out

    def text_deltas(self, thought: Thought) -> list[dict[str, Any]]:
        """Hidden text in parts, visible text plain."""
        hidden = [
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": word}]}]}
            for word in words_of(thought.reasoning)
        ]
        return [*hidden, *({"content": word} for word in words_of(thought.text))]

    def stream(self, model: str, thought: Thought, *, usage: bool) -> list[bytes]:
        """Whole tool calls, and usage on the chunk that finishes."""
        del usage
        out = [piece(model, {"role": "assistant", "content": ""})]
        out += [piece(model, delta) for delta in self.text_deltas(thought)]
        delta: dict[str, Any] = {"content": ""}
        if thought.calls:
            delta["tool_calls"] = [{**call, "index": n} for n, call in enumerate(calls(thought))]
        choice = {"index": 0, "delta": delta, "finish_reason": finish(thought)}
        last = {**head(model, "chat.completion.chunk"), "choices": [choice], "usage": self.usage(thought)}
        return [*out, sse(last), sse("[DONE]")]
