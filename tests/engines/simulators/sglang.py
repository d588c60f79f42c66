"""SIMULATOR of SGLang's server: documentation "OpenAI APIs", "Reasoning Parser", "Production Metrics" (2026).

Errors have ``object: error`` at the top; metrics exist only when the server was started with them.
"""

from __future__ import annotations

from typing import Any

from simulators.openai_family import OpenAISimulator, templated
from simulators.server import Ask, Reply, json_reply


class SglangSimulator(OpenAISimulator):
    """``with_metrics`` stands for ``--enable-metrics``."""

    documentation = "SGLang docs: OpenAI APIs - Completions, Reasoning Parser, Production Metrics"
    extra = frozenset(
        {
            "chat_template_kwargs",
            "reasoning_effort",
            "separate_reasoning",
            "top_k",
            "min_p",
            "regex",
            "ebnf",
        }
    )
    metrics_path = "/metrics"
    metrics = (
        'sglang:num_running_reqs{model_name="m"} 5.0\n'
        'sglang:num_queue_reqs{model_name="m"} 1.0\n'
        'sglang:token_usage{model_name="m"} 0.5\n'
    )

    def __init__(self, *, with_metrics: bool = True) -> None:
        super().__init__()
        self.with_metrics = with_metrics

    def thinks(self, body: dict[str, Any]) -> bool:
        """By the chat template."""
        return templated(body)

    def error(self, status: int, code: str, told: str) -> Reply:
        """The error is the whole body."""
        del code
        flat = {"object": "error", "message": told, "type": "BadRequestError", "param": None, "code": status}
        return json_reply(flat, status)

    def other(self, ask: Ask) -> Reply | None:
        """No metrics unless switched on."""
        return super().other(ask) if self.with_metrics else None
