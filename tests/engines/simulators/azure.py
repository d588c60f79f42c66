"""SIMULATOR of Azure OpenAI: "Azure OpenAI in Azure AI Foundry Models REST API", "Content filtering" (2026).

The key is in ``api-key``, the deployment in the path, the version in the query; the first chunk of a stream
has no choices but filter results.
"""

from __future__ import annotations

from typing import Any

from simulators.mind import Thought
from simulators.openai_family import OpenAISimulator, head
from simulators.server import Ask, Reply, json_reply, sse


class AzureSimulator(OpenAISimulator):
    """One deployment, ``gpt-5.1``."""

    documentation = "Azure OpenAI in Azure AI Foundry Models REST API reference; Content filtering"
    chat_path = "/openai/deployments/gpt-5.1/chat/completions"
    limit = "max_completion_tokens"
    extra = frozenset({"reasoning_effort", "user", "prompt_cache_key", "safety_identifier"})
    lacks = frozenset({"max_tokens"})

    def thinks(self, body: dict[str, Any]) -> bool:
        """By effort; the reasoning itself is never shown."""
        return bool(body.get("reasoning_effort", "none") != "none")

    def authorised(self, ask: Ask) -> bool:
        """By header of its own, with the version in the query."""
        return ask.headers.get("api-key") == self.key and "api-version" in ask.query

    def message(self, thought: Thought) -> dict[str, Any]:
        """Hidden text stays hidden."""
        out = super().message(thought)
        out.pop(self.reasoning_field, None)
        return out

    def text_deltas(self, thought: Thought) -> list[dict[str, Any]]:
        """Hidden text stays hidden."""
        return [delta for delta in super().text_deltas(thought) if "content" in delta]

    def error(self, status: int, code: str, told: str) -> Reply:
        """Codes are the status as text."""
        del code
        return json_reply({"error": {"code": str(status), "message": told}}, status)

    def before(self) -> list[bytes]:
        """The chunk of filter results."""
        results = [{"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False}}}]
        first = {**head("", ""), "choices": [], "prompt_filter_results": results}
        return [sse({**first, "object": "", "id": "", "created": 0})]
