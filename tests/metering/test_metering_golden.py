"""Usage blocks as operators send them, and what they cost to the last digit.

Every row names where the block comes from. The amounts were worked out by hand from the list prices, not with
the code under test; those marked "same total" are also what the source itself states.
"""

from __future__ import annotations

from decimal import Decimal

import pytest
from metering_prices import AT_NOON, AT_PEAK, book

from allod.domain.money import plain
from allod.metering.rates import cost
from allod.metering.usage import usage_from_anthropic, usage_from_gemini, usage_from_openai

XAI = "docs.x.ai, Prompt Caching, Usage & Pricing"
GENAI = "pydantic/genai-prices, tests/test_extract_usage.py"
RECORDED = "recorded answer in pydantic/genai-prices, tests/dataset/usages.json"
NO_REASONING = {
    "accepted_prediction_tokens": 0, "audio_tokens": 0, "reasoning_tokens": 0,
    "rejected_prediction_tokens": 0,
}  # fmt: skip

ROWS = [
    # source, price-book entry, block, USD
    (f"OpenAI chat, {RECORDED} (same total)", "openai/gpt-4o",
     {"completion_tokens": 36, "completion_tokens_details": NO_REASONING, "prompt_tokens": 89,
      "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 0}, "total_tokens": 125}, "0.0005825"),
    (f"OpenAI chat with reasoning, {RECORDED} (same total)", "openai/o3-mini",
     {"completion_tokens": 2320, "completion_tokens_details": {**NO_REASONING, "reasoning_tokens": 1792},
      "prompt_tokens": 577, "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 0},
      "total_tokens": 2897}, "0.0108427"),
    (f"OpenAI Responses on Azure, {RECORDED} (same total)", "azure/o3-mini",
     {"input_tokens": 13, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 1915,
      "output_tokens_details": {"reasoning_tokens": 1600}, "total_tokens": 1928}, "0.0084403"),
    (f"null details, {GENAI} (same total)", "openai/gpt-4.1",
     {"prompt_tokens": 100, "completion_tokens": 200, "prompt_tokens_details": {"cached_tokens": None},
      "completion_tokens_details": None}, "0.0018"),
    (f"Responses without details, {GENAI} (same total)", "openai/gpt-5",
     {"input_tokens": 100, "output_tokens": 200}, "0.002125"),
    (f"picture in the prompt, {RECORDED} (same total)", "openai/gpt-4o",
     {"completion_tokens": 10, "completion_tokens_details": NO_REASONING, "prompt_tokens": 1119,
      "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 0}, "total_tokens": 1129}, "0.0028975"),
    ("OpenAI embeddings, API reference, Create embeddings", "openai/text-embedding-3-small",
     {"prompt_tokens": 8, "total_tokens": 8}, "0.00000016"),
    (f"xAI chat, cached, {XAI}", "x-ai/grok-3-mini",
     {"prompt_tokens": 125, "completion_tokens": 48, "total_tokens": 173,
      "prompt_tokens_details":
          {"text_tokens": 125, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 98},
      "completion_tokens_details": NO_REASONING}, "0.00003945"),
    (f"xAI Responses, cached, {XAI}", "x-ai/grok-3-mini",
     {"input_tokens": 125, "output_tokens": 48, "total_tokens": 173,
      "input_tokens_details": {"cached_tokens": 98}, "output_tokens_details": {"reasoning_tokens": 0}},
     "0.00003945"),
    ("xAI reasoning on top, vercel/ai pull request 12425, grok-3-mini", "x-ai/grok-3-mini",
     {"prompt_tokens": 12, "completion_tokens": 1, "total_tokens": 399,
      "completion_tokens_details": {"reasoning_tokens": 386}}, "0.0001971"),
    ("xAI reasoning on top, xAI's example as cited in omni-llm-provider issue 49", "x-ai/grok-3-mini",
     {"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135,
      "completion_tokens_details": {"reasoning_tokens": 94}}, "0.0000611"),
    ("xAI reasoning on top, answer cited in omni-llm-provider issue 49", "x-ai/grok-4-fast-reasoning",
     {"prompt_tokens": 279, "completion_tokens": 6, "total_tokens": 374,
      "completion_tokens_details": {"reasoning_tokens": 89}}, "0.0001033"),
    (f"Mistral, docs.mistral.ai, Prompt caching, cited in {GENAI} (same total)", "mistral/mistral-large-2512",
     {"prompt_tokens": 1013, "completion_tokens": 30, "total_tokens": 1043,
      "prompt_tokens_details": {"cached_tokens": 1008}}, "0.0000979"),
    ("OpenRouter, openrouter.ai/docs, Usage Accounting", "openrouter/anthropic/claude-sonnet-4.6",
     {"completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 0}, "cost": 0.95,
      "cost_details": {"upstream_inference_cost": 19}, "prompt_tokens": 194,
      "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 100, "audio_tokens": 0},
      "total_tokens": 196}, "0.000687"),
    (f"OpenRouter, cache write, {GENAI}", "openrouter/anthropic/claude-sonnet-4.6",
     {"prompt_tokens": 4819, "completion_tokens": 1906, "total_tokens": 6725,
      "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 4800}}, "0.046647"),
    ("DeepSeek, cache hit, recorded in public code", "deepseek/deepseek-v4-pro",
     {"prompt_tokens": 8537, "prompt_cache_hit_tokens": 7936, "prompt_cache_miss_tokens": 601,
      "completion_tokens": 1}, "0.000573232"),
    ("DeepSeek, api-docs.deepseek.com shape, cache miss", "deepseek/deepseek-v4-flash",
     {"prompt_tokens": 13, "completion_tokens": 300, "total_tokens": 313, "prompt_cache_hit_tokens": 0,
      "prompt_cache_miss_tokens": 13}, "0.00018195"),
    ("DeepSeek, both cache names, recorded in public code", "deepseek/deepseek-v4-flash",
     {"prompt_tokens": 496, "completion_tokens": 1783, "total_tokens": 2279,
      "prompt_tokens_details": {"cached_tokens": 0}, "prompt_cache_hit_tokens": 0,
      "prompt_cache_miss_tokens": 496}, "0.0011442"),
    ("NVIDIA NIM (SGLang), flat reasoning_tokens, recorded in public code", "deepseek/deepseek-v4-flash",
     {"prompt_tokens": 22, "total_tokens": 24, "completion_tokens": 2, "prompt_tokens_details": None,
      "reasoning_tokens": 0}, "0.0000045"),
    ("vLLM, Qwen3-4B, recorded in public code", "together/meta-llama/Llama-3.3-70B-Instruct-Turbo",
     {"prompt_tokens": 4, "total_tokens": 36, "completion_tokens": 32, "prompt_tokens_details": None},
     "0.00003168"),
    ("vLLM, score, recorded in public code", "openai/text-embedding-3-small",
     {"prompt_tokens": 37, "total_tokens": 37, "completion_tokens": 0, "prompt_tokens_details": None},
     "0.00000074"),
    (f"Cerebras, {RECORDED}", "cerebras/gpt-oss-120b",
     {"completion_tokens": 25, "prompt_tokens": 304, "prompt_tokens_details": {"cached_tokens": 0},
      "total_tokens": 329}, "0.00012515"),
    ("Groq, llama-3.3-70b-versatile, recorded stream fp_c06d5113ec", "groq/llama-3.3-70b-versatile",
     {"completion_time": 0.027554055, "completion_tokens": 4, "prompt_time": 0.003210785, "prompt_tokens": 38,
      "queue_time": 0.090321431, "total_time": 0.03076484, "total_tokens": 42}, "0.00002558"),
    (f"Anthropic, cache write, {GENAI} (same total)", "anthropic/claude-sonnet-4-0",
     {"input_tokens": 504, "cache_creation_input_tokens": 123, "cache_read_input_tokens": 0,
      "output_tokens": 97, "service_tier": "standard"}, "0.00342825"),
    (f"Anthropic, {RECORDED} (same total)", "anthropic/claude-sonnet-4-5",
     {"cache_creation": {"ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": 0},
      "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "input_tokens": 14, "output_tokens": 65,
      "service_tier": "standard"}, "0.001017"),
    ("Anthropic, docs, Prompt caching, 1-hour cache (its breakdown exceeds its whole)",
     "anthropic/claude-sonnet-4-0",
     {"input_tokens": 2048, "cache_read_input_tokens": 1800, "cache_creation_input_tokens": 248,
      "output_tokens": 503,
      "cache_creation": {"ephemeral_5m_input_tokens": 456, "ephemeral_1h_input_tokens": 100}}, "0.016539"),
    (f"Gemini, thoughts and tool prompt, {GENAI}", "google/gemini-2.5-flash",
     {"promptTokenCount": 75, "candidatesTokenCount": 18, "totalTokenCount": 262, "trafficType": "ON_DEMAND",
      "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 75}],
      "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 18}], "toolUsePromptTokenCount": 25,
      "thoughtsTokenCount": 144}, "0.000435"),
    ("Gemini, cached, in public code", "google/gemini-2.5-pro",
     {"promptTokenCount": 10000, "candidatesTokenCount": 150, "totalTokenCount": 10150,
      "cachedContentTokenCount": 8800}, "0.0041"),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "block", "usd"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_block_costs_what_its_operator_bills(entry, block, usd) -> None:
    if "promptTokenCount" in block:
        usage = usage_from_gemini(block)
    elif entry.startswith("anthropic/"):
        usage = usage_from_anthropic(block)
    else:
        usage = usage_from_openai(block)
    at = book().rates(entry, AT_NOON, usage.total_input_tokens)
    assert at is not None
    assert plain(cost(usage, at)) == usd


def test_there_are_at_least_twenty_blocks() -> None:
    assert len(ROWS) >= 20
    assert len({row[0] for row in ROWS}) == len(ROWS)


def test_the_hour_of_the_day_changes_the_price() -> None:
    usage = usage_from_openai(
        {"prompt_tokens": 8537, "prompt_cache_hit_tokens": 7936, "prompt_cache_miss_tokens": 601,
         "completion_tokens": 1}
    )  # fmt: skip
    at = book().rates("deepseek/deepseek-v4-pro", AT_PEAK, usage.total_input_tokens)
    assert at is not None
    assert cost(usage, at) == Decimal("0.001146464")


def test_billing_cached_tokens_twice_would_show() -> None:
    block = {"prompt_tokens": 1013, "completion_tokens": 30, "total_tokens": 1043,
             "prompt_tokens_details": {"cached_tokens": 1008}}  # fmt: skip
    usage = usage_from_openai(block)
    at = book().rates("mistral/mistral-large-2512", AT_NOON, usage.total_input_tokens)
    assert at is not None
    twice = cost(usage, at) + 1008 * at.input_usd_mtok / 10**6
    assert cost(usage, at) < twice / 5
