"""Usage blocks of operators, taken apart into disjoint parts, and put together again for the surfaces.

Operators nest their counts in different ways; a nested count billed beside the count that holds it is billed
twice. The rules, each with where it comes from:

- OpenAI chat (API reference, ``CompletionUsage``): ``prompt_tokens`` holds ``cached_tokens``,
  ``completion_tokens`` holds ``reasoning_tokens``. vLLM, Mistral, Azure, Groq, Fireworks, Together and Ollama
  keep to it, with details that may be null or absent.
- OpenAI Responses: the same under ``input_tokens`` and ``output_tokens``.
- DeepSeek (API guide "Context Caching"): ``prompt_cache_hit_tokens`` + ``prompt_cache_miss_tokens`` is
  ``prompt_tokens``. Moonshot and Databricks put the cached count beside ``prompt_tokens``, which holds it.
- OpenRouter ("Usage Accounting"): ``prompt_tokens`` also holds ``cache_write_tokens``.
- xAI ("Consumption and Rate Limits"): ``reasoning_tokens`` come on top of ``completion_tokens``; the total
  tells: it is the sum of all three.
- Gemini by its OpenAI dialect: thoughts show only as the gap between the total and its two parts.
- Anthropic (Messages API, ``Usage``): ``input_tokens`` holds neither cache reads nor cache writes; writes are
  told apart by the life of the cache, five minutes or one hour; ``output_tokens`` holds the thinking.
- Gemini (``UsageMetadata``): ``promptTokenCount`` holds ``cachedContentTokenCount``, but neither
  ``toolUsePromptTokenCount`` nor, on the other side, ``candidatesTokenCount`` holds ``thoughtsTokenCount``.

A block that contradicts itself is not repaired: it raises ``ValueError`` and the attempt is counted by us.
Where the parts sum to less than the stated total of a chat answer, the rest is billed as reasoning.
Audio, image and search units are not told apart from tokens here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from allod.domain.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_TOKENS: Final = 2**40
"""The largest count believed, in tokens; anything above is a broken or hostile block."""
_PLAIN: Final = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})


def usage_from_openai(block: Mapping[str, Any]) -> Usage:
    """Take apart a ``usage`` object of the OpenAI family: chat, embeddings or Responses style.

    Raises:
        ValueError: a count is negative, absurd or not an integer, a part is larger than its whole, or the
            block contradicts itself.

    """
    _mapping(block)
    if block.keys() <= _PLAIN:
        plain = _plain(block)
        if plain is not None:
            return plain
    if block.get("prompt_tokens") is None and block.get("input_tokens") is not None:
        return usage_from_responses(block)
    prompt, completion = _count(block, "prompt_tokens"), _count(block, "completion_tokens")
    total = _count(block, "total_tokens")
    if prompt is None:
        if completion is not None or total is None:
            msg = "no prompt_tokens in the usage block"
            raise ValueError(msg)
        prompt = total  # embeddings of some operators report the total alone
    inside = _details(block, "prompt_tokens_details", "prompt_token_details")
    cached = _agree(
        "cached tokens",
        _count(inside, "cached_tokens"),
        _count(block, "prompt_cache_hit_tokens"),
        _count(block, "cached_tokens"),
        _count(block, "num_cached_tokens"),
        _count(block, "cache_read_input_tokens"),
    )
    written = _agree(
        "cache writes",
        _count(inside, "cache_write_tokens"),
        _count(inside, "cache_creation_tokens"),
        _count(block, "cache_creation_input_tokens"),
    )
    missed = _count(block, "prompt_cache_miss_tokens")
    if missed is not None and missed + (_count(block, "prompt_cache_hit_tokens") or 0) != prompt:
        msg = f"cache hits and misses do not sum to prompt_tokens {prompt}"
        raise ValueError(msg)
    reasoning = _agree(
        "reasoning tokens",
        _count(_details(block, "completion_tokens_details"), "reasoning_tokens"),
        _count(block, "reasoning_tokens"),
    )
    fresh = _rest("prompt_tokens", prompt, cached + written)
    if completion is None:
        return Usage(input_tokens=fresh, cache_read_tokens=cached, cache_write_tokens=written)
    visible, hidden = _output(prompt, completion, reasoning, total)
    return Usage(
        input_tokens=fresh,
        cache_read_tokens=cached,
        cache_write_tokens=written,
        output_tokens=visible,
        reasoning_tokens=hidden,
    )


def usage_from_responses(block: Mapping[str, Any]) -> Usage:
    """Take apart a ``usage`` object of the OpenAI Responses API (raises ``ValueError`` as above)."""
    _mapping(block)
    read, written_out = _required(block, "input_tokens"), _required(block, "output_tokens")
    inside = _details(block, "input_tokens_details")
    cached = _agree(
        "cached tokens",
        _count(inside, "cached_tokens"),
        _count(inside, "cache_read_input_tokens"),
    )
    written = _agree(
        "cache writes",
        _count(inside, "cache_write_tokens"),
        _count(inside, "cache_creation_input_tokens"),
    )
    reasoning = _count(_details(block, "output_tokens_details"), "reasoning_tokens") or 0
    visible, hidden = _output(read, written_out, reasoning, _count(block, "total_tokens"))
    return Usage(
        input_tokens=_rest("input_tokens", read, cached + written),
        cache_read_tokens=cached,
        cache_write_tokens=written,
        output_tokens=visible,
        reasoning_tokens=hidden,
    )


def usage_from_anthropic(block: Mapping[str, Any]) -> Usage:
    """Take apart a ``usage`` object of the Anthropic Messages API.

    Of a stream, hand over the block of ``message_start`` updated with that of the last ``message_delta``,
    whose counts are cumulative.

    Raises:
        ValueError: as for ``usage_from_openai``.

    """
    _mapping(block)
    short, long = _anthropic_writes(block)
    output = _required(block, "output_tokens")
    thinking = _count(_details(block, "output_tokens_details"), "thinking_tokens") or 0
    return Usage(
        input_tokens=_required(block, "input_tokens"),
        cache_read_tokens=_count(block, "cache_read_input_tokens") or 0,
        cache_write_tokens=short,
        cache_write_1h_tokens=long,
        output_tokens=_rest("output_tokens", output, thinking),
        reasoning_tokens=thinking,
    )


def usage_from_gemini(block: Mapping[str, Any]) -> Usage:
    """Take apart ``usageMetadata`` of the Gemini API or Vertex AI; counts of zero are absent from its JSON.

    Raises:
        ValueError: as for ``usage_from_openai``.

    """
    _mapping(block)
    prompt = _required(block, "promptTokenCount")
    cached = _count(block, "cachedContentTokenCount") or 0
    tools = _count(block, "toolUsePromptTokenCount") or 0
    visible = _count(block, "candidatesTokenCount") or 0
    thoughts = _count(block, "thoughtsTokenCount") or 0
    gap = (_count(block, "totalTokenCount") or 0) - (prompt + tools + visible + thoughts)
    return Usage(
        input_tokens=_rest("promptTokenCount", prompt, cached) + tools,
        cache_read_tokens=cached,
        output_tokens=visible,
        reasoning_tokens=thoughts + max(gap, 0),
    )


def openai_block(usage: Usage) -> dict[str, Any]:
    """Write usage as the ``usage`` object of OpenAI chat completions; ``usage_from_openai`` reads it back."""
    written = usage.cache_write_tokens + usage.cache_write_1h_tokens
    details = {"cached_tokens": usage.cache_read_tokens}
    if written:
        details["cache_write_tokens"] = written
    return {
        "prompt_tokens": usage.total_input_tokens,
        "completion_tokens": usage.total_output_tokens,
        "total_tokens": usage.total_input_tokens + usage.total_output_tokens,
        "prompt_tokens_details": details,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def responses_block(usage: Usage) -> dict[str, Any]:
    """Write usage as the ``usage`` object of OpenAI Responses."""
    written = usage.cache_write_tokens + usage.cache_write_1h_tokens
    details = {"cached_tokens": usage.cache_read_tokens}
    if written:
        details["cache_write_tokens"] = written
    return {
        "input_tokens": usage.total_input_tokens,
        "input_tokens_details": details,
        "output_tokens": usage.total_output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_input_tokens + usage.total_output_tokens,
    }


def anthropic_block(usage: Usage) -> dict[str, Any]:
    """Write usage as the ``usage`` object of Anthropic messages; ``usage_from_anthropic`` reads it back."""
    block: dict[str, Any] = {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens + usage.cache_write_1h_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        },
        "output_tokens": usage.total_output_tokens,
    }
    if usage.reasoning_tokens:
        block["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return block


def _anthropic_writes(block: Mapping[str, Any]) -> tuple[int, int]:
    """Cache writes by life: (five minutes, one hour).

    What the breakdown leaves out of the whole counts as short. A breakdown larger than the whole is believed:
    the operator's own documentation shows one, and the larger number never pays less than is due.
    """
    inside = _details(block, "cache_creation")
    short = _count(inside, "ephemeral_5m_input_tokens") or 0
    long = _count(inside, "ephemeral_1h_input_tokens") or 0
    whole = _count(block, "cache_creation_input_tokens") or 0
    return short + max(0, whole - short - long), long


def _plain(block: Mapping[str, Any]) -> Usage | None:
    """Read a block of nothing but prompt, completion and their sum; None where it is not that simple."""
    prompt, completion, total = map(block.get, ("prompt_tokens", "completion_tokens", "total_tokens"))
    if type(prompt) is not int or type(completion) is not int or type(total) is not int:
        return None
    if not (0 <= prompt <= MAX_TOKENS and 0 <= completion <= MAX_TOKENS and total == prompt + completion):
        return None
    return Usage(input_tokens=prompt, output_tokens=completion)


def _output(prompt: int, completion: int, reasoning: int, total: int | None) -> tuple[int, int]:
    """Tell (visible, hidden) output apart; the total decides whether reasoning is inside or on top."""
    gap = (total or 0) - prompt - completion
    if reasoning and gap == reasoning:
        return completion, reasoning
    return _rest("completion tokens", completion, reasoning), reasoning + max(gap, 0)


def _mapping(block: object) -> None:
    if not isinstance(block, dict):
        msg = f"a usage block is an object, not {type(block).__name__}"
        raise ValueError(msg)  # noqa: TRY004 (one error type for every hostile block)


def _details(block: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        inside = block.get(name)
        if inside is not None:
            _mapping(inside)
            return inside  # type: ignore[no-any-return]
    return {}


def _count(block: Mapping[str, Any], name: str) -> int | None:
    value = block.get(name)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= MAX_TOKENS:
        msg = f"{name} is {str(value)[:40]!r}, not a count of tokens"
        raise ValueError(msg)
    return value


def _required(block: Mapping[str, Any], name: str) -> int:
    value = _count(block, name)
    if value is None:
        msg = f"no {name} in the usage block"
        raise ValueError(msg)
    return value


def _agree(what: str, *counts: int | None) -> int:
    """One count under several names: those that are not zero must be equal."""
    found = {count for count in counts if count}
    if len(found) > 1:
        msg = f"{what} are reported as {sorted(found)}"
        raise ValueError(msg)
    return found.pop() if found else 0


def _rest(name: str, whole: int, parts: int) -> int:
    if parts > whole:
        msg = f"{name} is {whole}, less than its parts {parts}"
        raise ValueError(msg)
    return whole - parts
