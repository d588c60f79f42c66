"""SIMULATOR of OpenAI's API: API reference "Create chat completion", guide "Reasoning models" (2026)."""

from __future__ import annotations

from typing import Any

from simulators.mind import Thought
from simulators.openai_family import OpenAISimulator, Refusal


class OpenAIPlatformSimulator(OpenAISimulator):
    """A reasoning model, whose reasoning is never shown."""

    documentation = "OpenAI API reference: Create chat completion; guide: Reasoning models"
    limit = "max_completion_tokens"
    extra = frozenset(
        {
            "reasoning_effort",
            "user",
            "metadata",
            "store",
            "service_tier",
            "safety_identifier",
            "prompt_cache_key",
        }
    )
    lacks = frozenset({"max_tokens"})

    def thinks(self, body: dict[str, Any]) -> bool:
        """By effort, of the values of gpt-5.1."""
        effort = body.get("reasoning_effort", "none")
        if effort not in ("none", "low", "medium", "high"):
            raise Refusal(self.error(400, "unsupported_value", "reasoning_effort"))
        return bool(effort != "none")

    def message(self, thought: Thought) -> dict[str, Any]:
        """Hidden text stays hidden."""
        out = super().message(thought)
        out.pop(self.reasoning_field, None)
        return {**out, "refusal": None, "annotations": []}

    def text_deltas(self, thought: Thought) -> list[dict[str, Any]]:
        """Hidden text stays hidden."""
        return [delta for delta in super().text_deltas(thought) if "content" in delta]
