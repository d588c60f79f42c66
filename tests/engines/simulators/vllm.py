"""SIMULATOR of vLLM's server: docs "OpenAI-Compatible Server", "Reasoning Outputs", "Metrics" (2026).

Hidden text comes in ``reasoning`` (renamed from ``reasoning_content``), errors have numeric codes.
"""

from __future__ import annotations

from typing import Any

from simulators.mind import CONTEXT_TOKENS
from simulators.openai_family import OpenAISimulator, templated
from simulators.server import Ask, Reply, json_reply


class VllmSimulator(OpenAISimulator):
    """Thinks unless the template is told not to."""

    documentation = "vLLM docs: OpenAI-Compatible Server, Reasoning Outputs, Production Metrics"
    reasoning_field = "reasoning"
    extra = frozenset(
        {"chat_template_kwargs", "reasoning_effort", "top_k", "min_p", "repetition_penalty", "user"}
    )
    metrics_path = "/metrics"
    metrics = (
        "# HELP vllm:num_requests_running Number of requests in model execution batches.\n"
        "# TYPE vllm:num_requests_running gauge\n"
        'vllm:num_requests_running{engine="0",model_name="m"} 3.0\n'
        'vllm:num_requests_waiting{engine="0",model_name="m"} 2.0\n'
        'vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25\n'
    )

    def thinks(self, body: dict[str, Any]) -> bool:
        """By the chat template."""
        return templated(body)

    def error(self, status: int, code: str, told: str) -> Reply:
        """Type is a Python error's name, code the status."""
        del code
        kind = {400: "BadRequestError", 401: "AuthenticationError", 404: "NotFoundError"}.get(status, "Error")
        return json_reply({"error": {"message": told, "type": kind, "param": None, "code": status}}, status)

    def too_long(self, tokens: int) -> Reply:
        """As vLLM words it."""
        told = f"This model's maximum context length is {CONTEXT_TOKENS} tokens; your request has {tokens}."
        return self.error(400, "", told)

    def other(self, ask: Ask) -> Reply | None:
        """``/tokenize`` beside the metrics."""
        if ask.path == "/tokenize":
            count = sum(len(str(message["content"]).split()) for message in ask.json["messages"])
            return json_reply({"count": count, "max_model_len": CONTEXT_TOKENS, "tokens": list(range(count))})
        return super().other(ask)
