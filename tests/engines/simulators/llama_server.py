"""SIMULATOR of llama.cpp's server: its README, sections "API Endpoints" and "/metrics" (2026).

A full context is an error of its own type with both counts; the last chunk has ``timings``.
"""

from __future__ import annotations

from typing import Any

from simulators.mind import CONTEXT_TOKENS
from simulators.openai_family import OpenAISimulator, templated
from simulators.server import Ask, Reply, json_reply


class LlamaServerSimulator(OpenAISimulator):
    """Thinks unless the template is told not to."""

    documentation = "llama.cpp tools/server README"
    extra = frozenset(
        {"chat_template_kwargs", "top_k", "min_p", "grammar", "cache_prompt", "id_slot", "lora"}
    )
    strict = False
    metrics_path = "/metrics"
    metrics = (
        "# HELP llamacpp:requests_processing Number of requests processing.\n"
        "llamacpp:requests_processing 1\nllamacpp:requests_deferred 4\n"
    )

    def thinks(self, body: dict[str, Any]) -> bool:
        """By the chat template."""
        return templated(body)

    def too_long(self, tokens: int) -> Reply:
        """A type of its own."""
        told = "the request exceeds the available context size, try increasing it"
        error = {"code": 400, "message": told, "type": "exceed_context_size_error"}
        return json_reply({"error": {**error, "n_prompt_tokens": tokens, "n_ctx": CONTEXT_TOKENS}}, 400)

    def other(self, ask: Ask) -> Reply | None:
        """``/apply-template`` and ``/tokenize``."""
        if ask.path == "/apply-template":
            return json_reply(
                {"prompt": " ".join(str(message["content"]) for message in ask.json["messages"])}
            )
        if ask.path == "/tokenize":
            return json_reply({"tokens": list(range(len(ask.json["content"].split())))})
        return super().other(ask)
