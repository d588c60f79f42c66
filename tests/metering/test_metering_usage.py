"""Usage blocks taken apart: disjoint parts, hostile blocks refused, and put together again."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.domain.usage import Usage
from allod.metering.usage import (
    MAX_TOKENS,
    anthropic_block,
    openai_block,
    responses_block,
    usage_from_anthropic,
    usage_from_gemini,
    usage_from_openai,
    usage_from_responses,
)

tokens = st.integers(0, 2**34)
usages = st.builds(
    Usage,
    input_tokens=tokens,
    cache_read_tokens=tokens,
    cache_write_tokens=tokens,
    output_tokens=tokens,
    reasoning_tokens=tokens,
)
hostile_counts = st.one_of(
    st.integers(max_value=-1),
    st.integers(min_value=MAX_TOKENS + 1),
    st.floats(),
    st.booleans(),
    st.text(max_size=8),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)

OPENAI = {
    "prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150, "prompt_cache_hit_tokens": 40,
    "prompt_cache_miss_tokens": 60, "reasoning_tokens": 10, "cached_tokens": 40, "num_cached_tokens": 40,
}  # fmt: skip
RESPONSES = {"input_tokens": 100, "output_tokens": 50, "total_tokens": 150}
ANTHROPIC = {
    "input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 3,
}  # fmt: skip
GEMINI = {
    "promptTokenCount": 10, "candidatesTokenCount": 5, "cachedContentTokenCount": 2, "thoughtsTokenCount": 4,
    "toolUsePromptTokenCount": 1, "totalTokenCount": 20,
}  # fmt: skip
READERS = [
    (usage_from_openai, OPENAI),
    (usage_from_responses, RESPONSES),
    (usage_from_anthropic, ANTHROPIC),
    (usage_from_gemini, GEMINI),
]


@given(usages)
def test_openai_block_reads_back_as_itself(usage: Usage) -> None:
    assert usage_from_openai(openai_block(usage)) == usage


@given(usages)
def test_responses_block_reads_back_as_itself(usage: Usage) -> None:
    assert usage_from_responses(responses_block(usage)) == usage
    assert usage_from_openai(responses_block(usage)) == usage


@given(usages, tokens)
def test_anthropic_block_reads_back_as_itself(usage: Usage, long: int) -> None:
    usage = Usage(
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=long,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )
    assert usage_from_anthropic(anthropic_block(usage)) == usage


@given(usages)
def test_parts_sum_to_the_reported_total(usage: Usage) -> None:
    block = openai_block(usage)
    read = usage_from_openai(block)
    assert read.total_input_tokens == block["prompt_tokens"]
    assert read.total_output_tokens == block["completion_tokens"]
    assert read.total_input_tokens + read.total_output_tokens == block["total_tokens"]


@pytest.mark.parametrize(("read", "block"), READERS)
@given(data=st.data(), bad=hostile_counts)
def test_a_hostile_count_is_refused_in_every_field(read, block, data, bad) -> None:
    name = data.draw(st.sampled_from(sorted(block)))
    with pytest.raises(ValueError):
        read({**block, name: bad})


@pytest.mark.parametrize(("read", "block"), READERS)
def test_the_blocks_hostile_counts_are_put_into_are_good(read, block) -> None:
    assert read(block).total_input_tokens > 0


@pytest.mark.parametrize(
    "block",
    [
        {},
        None,
        [],
        "usage",
        7,
        {"prompt_tokens": None, "completion_tokens": None},
        {"completion_tokens": 3},
        {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 11}},
        {"prompt_tokens": 10, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 6}},
        {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": 3},
        {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4},
         "prompt_cache_hit_tokens": 5},
        {"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 5,
         "prompt_cache_miss_tokens": 6},
        {"prompt_tokens": 10, "completion_tokens": 5,
         "prompt_tokens_details": {"cached_tokens": 6, "cache_write_tokens": 5}},
        {"prompt_tokens": math.inf, "completion_tokens": 5},
        {"prompt_tokens": 10.0, "completion_tokens": 5},
        {"prompt_tokens": True, "completion_tokens": 5},
        {"prompt_tokens": "10", "completion_tokens": 5},
    ],
)  # fmt: skip
def test_openai_blocks_that_contradict_themselves_are_refused(block) -> None:
    with pytest.raises(ValueError):
        usage_from_openai(block)


@pytest.mark.parametrize("block", [{}, {"output_tokens": 3}, {"input_tokens": 3}])
def test_anthropic_and_responses_need_both_sides(block) -> None:
    for read in (usage_from_anthropic, usage_from_responses):
        with pytest.raises(ValueError):
            read(block)


def test_gemini_needs_the_prompt_and_refuses_more_cached_than_prompt() -> None:
    for block in ({}, {"candidatesTokenCount": 3}, {"promptTokenCount": 3, "cachedContentTokenCount": 4}):
        with pytest.raises(ValueError):
            usage_from_gemini(block)


def test_cached_and_reasoning_are_inside_for_openai() -> None:
    usage = usage_from_openai(
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "prompt_tokens_details": {"cached_tokens": 30},
            "completion_tokens_details": {"reasoning_tokens": 20},
        }
    )
    assert usage == Usage(input_tokens=70, cache_read_tokens=30, output_tokens=30, reasoning_tokens=20)


def test_the_total_tells_that_reasoning_comes_on_top() -> None:
    block = {"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135,
             "completion_tokens_details": {"reasoning_tokens": 94}}  # fmt: skip
    assert usage_from_openai(block) == Usage(input_tokens=32, output_tokens=9, reasoning_tokens=94)


def test_a_gap_in_the_total_is_billed_as_reasoning() -> None:
    block = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 40}
    assert usage_from_openai(block) == Usage(input_tokens=10, output_tokens=5, reasoning_tokens=25)
    assert usage_from_gemini({"promptTokenCount": 10, "totalTokenCount": 40}).reasoning_tokens == 30


def test_null_details_of_vllm_are_no_details() -> None:
    block = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "prompt_tokens_details": None,
             "completion_tokens_details": None}  # fmt: skip
    assert usage_from_openai(block) == Usage(input_tokens=10, output_tokens=5)


def test_cached_count_beside_the_prompt_of_moonshot() -> None:
    block = {"prompt_tokens": 19, "completion_tokens": 21, "total_tokens": 40, "cached_tokens": 10}
    assert usage_from_openai(block) == Usage(input_tokens=9, cache_read_tokens=10, output_tokens=21)


def test_embeddings_have_no_output() -> None:
    assert usage_from_openai({"prompt_tokens": 8, "total_tokens": 8}) == Usage(input_tokens=8)
    assert usage_from_openai({"total_tokens": 8}) == Usage(input_tokens=8)


def test_anthropic_input_holds_no_cache_and_writes_are_told_apart() -> None:
    usage = usage_from_anthropic(
        {
            "input_tokens": 50,
            "cache_read_input_tokens": 100_000,
            "cache_creation_input_tokens": 248,
            "cache_creation": {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 100},
            "output_tokens": 503,
            "output_tokens_details": {"thinking_tokens": 200},
        }
    )
    assert usage == Usage(
        input_tokens=50,
        cache_read_tokens=100_000,
        cache_write_tokens=148,
        cache_write_1h_tokens=100,
        output_tokens=303,
        reasoning_tokens=200,
    )
    assert usage.total_input_tokens == 100_298


def test_anthropic_writes_without_a_breakdown_are_short() -> None:
    block = {"input_tokens": 1, "cache_creation_input_tokens": 9, "cache_creation": None, "output_tokens": 1}
    assert usage_from_anthropic(block).cache_write_tokens == 9


def test_gemini_thoughts_and_tool_prompts_are_not_inside() -> None:
    usage = usage_from_gemini(
        {
            "promptTokenCount": 100,
            "cachedContentTokenCount": 40,
            "toolUsePromptTokenCount": 7,
            "candidatesTokenCount": 5,
            "thoughtsTokenCount": 20,
            "totalTokenCount": 132,
        }
    )
    assert usage == Usage(input_tokens=67, cache_read_tokens=40, output_tokens=5, reasoning_tokens=20)
