"""Token usage in the shape of each dialect; what the operator reported is passed on where it fits."""

from __future__ import annotations

from typing import Any, Final

from allod.domain.chat import UsageReport
from allod.domain.usage import Usage

COST: Final = "allod_cost"
"""What a stream says its request cost, beside the last usage: USD, plain decimal, as a string."""
THINKING: Final = "allod_thinking_tokens"
"""Beside it, how many of the tokens billed were thinking, over all attempts; estimated where nobody told."""


def chat_usage(report: UsageReport) -> dict[str, Any]:
    """Return OpenAI's ``CompletionUsage``: the operator's own block where it is one."""
    block = report.block
    if all(_count(block.get(key)) for key in ("prompt_tokens", "completion_tokens", "total_tokens")):
        return block
    usage = report.usage
    return {
        "prompt_tokens": usage.total_input_tokens,
        "completion_tokens": usage.total_output_tokens,
        "total_tokens": usage.total_input_tokens + usage.total_output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def responses_usage(report: UsageReport) -> dict[str, Any]:
    """Return the Responses API's ``ResponseUsage``."""
    usage = report.usage
    return {
        "input_tokens": usage.total_input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": _written(usage),
        },
        "output_tokens": usage.total_output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_input_tokens + usage.total_output_tokens,
        **_cost(report),
    }


def message_usage(usage: Usage) -> dict[str, Any]:
    """Return Anthropic's ``Usage`` with every field its schema requires.

    Its ``input_tokens`` are those neither read from nor written to a cache. Where inference ran is in the
    receipt and in ``Allod-Jurisdiction``, in our own words; ``inference_geo`` names Anthropic's regions.
    """
    return {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": _written(usage),
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        },
        "output_tokens": usage.total_output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
        "server_tool_use": None,
        "service_tier": "standard",
        "inference_geo": None,
    }


def message_delta_usage(report: UsageReport) -> dict[str, Any]:
    """Return the cumulative usage of Anthropic's ``message_delta`` event."""
    usage = report.usage
    return {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": _written(usage),
        "cache_read_input_tokens": usage.cache_read_tokens,
        "output_tokens": usage.total_output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
        "server_tool_use": None,
        **_cost(report),
    }


def _written(usage: Usage) -> int:
    return usage.cache_write_tokens + usage.cache_write_1h_tokens


def _cost(report: UsageReport) -> dict[str, Any]:
    return {name: report.block[name] for name in (COST, THINKING) if name in report.block}


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
