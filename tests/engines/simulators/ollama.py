"""SIMULATOR of Ollama: docs "OpenAI compatibility", "Thinking", "Cloud", "Show model details" (2026).

The key is ignored, hidden text comes in ``reasoning``, ``/api/show`` tells where a model really runs.
"""

from __future__ import annotations

from typing import Any

from simulators.openai_family import OpenAISimulator
from simulators.server import Ask, Reply, json_reply


class OllamaSimulator(OpenAISimulator):
    """``remote`` names models that this server forwards to its cloud."""

    documentation = "Ollama docs: OpenAI compatibility, Thinking, Cloud; API: Show model details"
    reasoning_field = "reasoning"
    extra = frozenset({"reasoning_effort", "user"})
    lacks = frozenset({"logit_bias", "n"})

    def __init__(self, *, remote: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.remote = remote

    def thinks(self, body: dict[str, Any]) -> bool:
        """Models that can think do unless told ``none``."""
        return body.get("reasoning_effort", "medium") != "none"

    def authorised(self, ask: Ask) -> bool:
        """Any key will do."""
        del ask
        return True

    def error(self, status: int, code: str, told: str) -> Reply:
        """Code is null."""
        del code
        kind = "invalid_request_error"
        return json_reply({"error": {"message": told, "type": kind, "param": None, "code": None}}, status)

    def other(self, ask: Ask) -> Reply | None:
        """``/api/show``."""
        if ask.path != "/api/show":
            return super().other(ask)
        shown: dict[str, Any] = {"details": {"family": "simulated"}, "capabilities": ["completion", "tools"]}
        if ask.json["model"] in self.remote:
            shown |= {"remote_host": "https://ollama.com:443", "remote_model": ask.json["model"]}
        return json_reply(shown)
