"""SIMULATOR of TensorRT-LLM's server: documentation "trtllm-serve" and its metrics section (2026).

``/metrics`` is JSON of iterations; the Prometheus text is at ``/prometheus/metrics`` with prefix ``trtllm_``.
"""

from __future__ import annotations

from typing import Any

from simulators.openai_family import OpenAISimulator, templated
from simulators.server import Ask, Reply, json_reply


class TrtllmSimulator(OpenAISimulator):
    """Usage blocks have no details."""

    documentation = "TensorRT-LLM docs: trtllm-serve"
    extra = frozenset(
        {
            "chat_template_kwargs",
            "reasoning_effort",
            "top_k",
            "repetition_penalty",
            "min_tokens",
            "ignore_eos",
        }
    )
    metrics_path = "/prometheus/metrics"
    metrics = (
        'trtllm_kv_cache_utilization{model_name="m"} 0.125\ntrtllm_request_success_total{model_name="m"} 9\n'
    )

    def thinks(self, body: dict[str, Any]) -> bool:
        """By the chat template."""
        return templated(body)

    def usage(self, thought: Any) -> dict[str, Any]:
        """Three plain counts."""
        full = super().usage(thought)
        return {key: full[key] for key in ("prompt_tokens", "completion_tokens", "total_tokens")}

    def other(self, ask: Ask) -> Reply | None:
        """``/metrics`` is no Prometheus text here."""
        return json_reply([{"iter": 1}]) if ask.path == "/metrics" else super().other(ask)
