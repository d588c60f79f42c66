"""The OpenAI family as one table: who speaks the protocol how.

Each row says what a server takes beside the common core and how depth is sent.
Sources, read in November 2026:

- openai: API reference "Create chat completion"; ``reasoning_effort`` per model from "Reasoning models":
  gpt-5.1 and later know ``none``, gpt-5 knows ``minimal``, the o series knows neither.
- azure: "Azure OpenAI in Azure AI Foundry Models REST API": ``api-key`` header; either the ``/openai/v1``
  surface or deployment paths with ``api-version``.
- vllm: "Reasoning Outputs" (``chat_template_kwargs.enable_thinking``, answer field ``reasoning``),
  "OpenAI-Compatible Server" (extra parameters, ``/tokenize``), "Metrics"; ``thinking_token_budget``, refused
  by a server without a reasoning parser (vllm-project/vllm pull request 20859).
- sglang: "OpenAI APIs", "Reasoning Parser", "Production Metrics", "Thinking Budget": ``custom_params`` with
  ``thinking_budget``, held to by ``--enable-strict-thinking``.
- trtllm: "trtllm-serve" and its Prometheus endpoint ``/prometheus/metrics``.
- ollama: "OpenAI compatibility": ``reasoning_effort`` with ``none``; signed-in servers run cloud models.
- llama-server: llama.cpp server README: ``chat_template_kwargs``, ``/tokenize``, ``/apply-template``;
  ``thinking_budget_tokens`` per request (ggml-org/llama.cpp pull requests 20297 and 23673), ignored by older
  builds; where the budget is spent the end of thinking is forced.
- mistral: "Chat" API reference and "Reasoning: adjustable"; unknown fields are answered with 422.
- deepseek: "Thinking Mode": ``thinking.type`` and ``reasoning_effort`` low, high, max.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Final, Literal

import msgspec

Thinking = Literal[
    "openai", "effort", "template", "template-effort", "ollama", "deepseek", "mistral", "named"
]
Budget = Literal["thinking_budget_tokens", "thinking_token_budget", "custom_params"]
Counting = Literal["vllm", "llama-server"]

CORE: Final = frozenset(
    "messages model temperature top_p n stop seed presence_penalty frequency_penalty logit_bias logprobs "
    "top_logprobs tools tool_choice parallel_tool_calls response_format functions function_call".split()
)
"""Parameters that change what is asked for; every dialect takes them unless it ``lacks`` them."""

ADVISORY: Final = frozenset(
    "user metadata store service_tier safety_identifier prompt_cache_key prompt_cache_retention verbosity "
    "prediction".split()
)
"""Hints that may be left out where a dialect does not know them: the answer is still what was asked for."""

OWNED: Final = frozenset(
    "model stream stream_options max_tokens max_completion_tokens reasoning_effort reasoning thinking think "
    "enable_thinking thinking_budget thinking_budget_tokens thinking_token_budget reasoning_budget_tokens "
    "include_reasoning prompt_mode chat_template_kwargs".split()
)
"""Fields the driver writes itself, from the call and never from the caller's body."""

_SAMPLING: Final = frozenset("top_k min_p repetition_penalty".split())
_GUIDED: Final = frozenset(
    "guided_json guided_regex guided_choice guided_grammar structured_outputs min_tokens ignore_eos "
    "stop_token_ids skip_special_tokens length_penalty include_stop_str_in_output bad_words priority".split()
)
_LLAMA: Final = frozenset(
    "repeat_penalty repeat_last_n typical_p mirostat mirostat_tau mirostat_eta grammar json_schema n_probs "
    "min_keep samplers dynatemp_range dynatemp_exponent xtc_probability xtc_threshold dry_multiplier "
    "dry_base dry_allowed_length dry_penalty_last_n cache_prompt id_slot lora ignore_eos n_keep "
    "timings_per_token".split()
)


class Dialect(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One way to speak the protocol.

    Attributes:
        name: the ``engine`` of a deployment.
        limit: name of the output limit.
        thinking: how depth is sent (see ``request.set_depth``).
        budget: the field for the most tokens of thinking, None where there is none.
        always_budget: whether a budget goes with every depth, or only where the deployment sets one: servers
            that were not started for it answer 400.
        extensions: parameters taken beside the core; None takes any.
        lacks: core parameters it does not take.
        hints: advisory parameters it takes.
        stream_usage: whether ``stream_options.include_usage`` is understood; else usage comes unasked.
        azure: paths and key header of Azure.
        strips: fields taken out of messages because the server refuses them.
        metrics: path of the Prometheus text, from the root.
        running, waiting, cache_used: names of the gauges, as regular expressions, best first.
        counting: how input tokens can be counted with the server's own tokenizer.

    """

    name: str
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    thinking: Thinking = "effort"
    budget: Budget | None = None
    always_budget: bool = False
    extensions: frozenset[str] | None = frozenset()
    lacks: frozenset[str] = frozenset()
    hints: frozenset[str] = frozenset()
    stream_usage: bool = True
    azure: bool = False
    strips: frozenset[str] = frozenset()
    metrics: str | None = None
    running: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    cache_used: tuple[str, ...] = ()
    counting: Counting | None = None

    @cached_property
    def taken(self) -> frozenset[str]:
        """The core parameters it takes from a caller as they are."""
        return CORE - OWNED - self.lacks


_REASONING_FIELDS: Final = frozenset({"reasoning_content", "reasoning", "thinking_blocks"})

_ROWS: Final = (
    Dialect(
        name="openai", limit="max_completion_tokens", thinking="openai", hints=ADVISORY,
        extensions=frozenset({"modalities", "audio"}), strips=_REASONING_FIELDS,
    ),
    Dialect(
        name="azure", limit="max_completion_tokens", thinking="openai", azure=True, strips=_REASONING_FIELDS,
        hints=frozenset({"user", "prompt_cache_key", "safety_identifier"}),
    ),
    Dialect(
        name="vllm", thinking="template-effort", budget="thinking_token_budget",
        extensions=_SAMPLING | _GUIDED, hints=frozenset({"user"}),
        metrics="/metrics", running=("vllm:num_requests_running",), waiting=("vllm:num_requests_waiting",),
        cache_used=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"), counting="vllm",
    ),
    Dialect(
        name="sglang", thinking="template-effort", budget="custom_params",
        extensions=_SAMPLING | frozenset({"regex", "ebnf", "lora_path", "separate_reasoning", "ignore_eos"}),
        metrics="/metrics", running=("sglang:num_running_reqs",), waiting=("sglang:num_queue_reqs",),
        cache_used=("sglang:token_usage",),
    ),
    Dialect(
        name="trtllm", thinking="template-effort", metrics="/prometheus/metrics",
        extensions=_SAMPLING | frozenset({"ignore_eos", "min_tokens"}),
        running=(r"trtllm[_:]num_requests_running", r"trtllm[_:]num_active_requests"),
        waiting=(r"trtllm[_:]num_requests_waiting", r"trtllm[_:]num_queued_requests"),
        cache_used=(r"trtllm[_:]kv_cache_utilization",),
    ),
    Dialect(
        name="ollama", thinking="ollama", lacks=frozenset({"logit_bias", "n", "functions", "function_call"}),
        hints=frozenset({"user"}),
    ),
    Dialect(
        name="llama-server", thinking="template", extensions=_SAMPLING | _LLAMA,
        budget="thinking_budget_tokens", always_budget=True,
        metrics="/metrics", running=("llamacpp:requests_processing",), counting="llama-server",
        waiting=("llamacpp:requests_deferred",), cache_used=("llamacpp:kv_cache_usage_ratio",),
    ),
    Dialect(
        name="mistral", thinking="mistral", stream_usage=False,
        extensions=frozenset({"safe_prompt", "random_seed"}),
        lacks=frozenset({"logit_bias", "logprobs", "top_logprobs", "functions", "function_call"}),
        hints=frozenset({"prediction"}),
        strips=_REASONING_FIELDS | frozenset({"name", "refusal", "audio", "function_call", "annotations"}),
    ),
    Dialect(
        name="deepseek", thinking="deepseek",
        lacks=frozenset({"logit_bias", "n", "seed", "parallel_tool_calls", "functions", "function_call"}),
    ),
    Dialect(name="compatible", thinking="effort", extensions=None, hints=ADVISORY),
)  # fmt: skip

DIALECTS: Final[Mapping[str, Dialect]] = {row.name: row for row in _ROWS}
