"""SIMULATOR of DeepSeek's API: "Create Chat Completion", "Thinking Mode", "Context Caching" (2026).

Waiting requests get keep-alive comments; cache hits and misses stand beside ``prompt_tokens``.
"""

from __future__ import annotations

from typing import Any

from simulators.mind import Thought
from simulators.openai_family import OpenAISimulator, Refusal


class DeepSeekSimulator(OpenAISimulator):
    """Depth is said twice: ``thinking.type`` and ``reasoning_effort``."""

    documentation = "DeepSeek API docs: Create Chat Completion, Thinking Mode, Context Caching"
    extra = frozenset({"thinking", "reasoning_effort"})
    lacks = frozenset({"logit_bias", "n", "seed", "parallel_tool_calls"})

    def thinks(self, body: dict[str, Any]) -> bool:
        """Thinking is on unless said otherwise."""
        effort = body.get("reasoning_effort", "high")
        if effort not in ("low", "high", "max"):
            raise Refusal(self.error(400, "invalid_request_error", "reasoning_effort"))
        return bool(body.get("thinking", {"type": "enabled"})["type"] == "enabled")

    def usage(self, thought: Thought) -> dict[str, Any]:
        """Hits and misses at the top level."""
        full = super().usage(thought)
        hits = 4
        return {
            **full,
            "prompt_cache_hit_tokens": hits,
            "prompt_cache_miss_tokens": full["prompt_tokens"] - hits,
        }

    def before(self) -> list[bytes]:
        """Keep-alive comments while the request waits."""
        return [b": keep-alive\n\n", b": keep-alive\n\n"]
