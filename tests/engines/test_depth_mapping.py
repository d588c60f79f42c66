"""Every depth in every driver's own words: what is sent for none, low, medium, high, xhigh and max.

Where an operator has fewer depths, several of ours are one of its: what evaluations measure at a depth is
what this table sends for it.
"""

from __future__ import annotations

from typing import Any

import pytest

from allod.domain.chat import ChatCall
from allod.domain.fleet import EFFORTS, ENGINES, Effort
from allod.engines.anthropic.request import prepare as anthropic
from allod.engines.gemini.request import prepare as gemini
from allod.engines.openai.dialects import DIALECTS
from allod.engines.openai.request import chat_body

LIMIT = 100_000
DEPTH = frozenset(
    "reasoning_effort chat_template_kwargs thinking thinking_budget_tokens thinking_token_budget "
    "custom_params output_config".split()
)


def sent(engine: str, model: str, effort: Effort | None, own: int | None = None, limit: int = LIMIT) -> Any:
    """Return what a driver sends of depth."""
    call = ChatCall(
        body={"messages": [{"role": "user", "content": "2 + 2?"}]},
        stream=False, effort=effort, thinking_tokens=own, max_output_tokens=limit,
    )  # fmt: skip
    if engine == "anthropic":
        body = anthropic(call, model).body
    elif engine == "gemini":
        return gemini(call, model)["generationConfig"].get("thinkingConfig")
    else:
        body = chat_body(call, model, DIALECTS[engine])
    return {key: value for key, value in body.items() if key in DEPTH}


def each(*words: Any) -> dict[Effort, Any]:
    """Say a row: what stands for none, low, medium, high, xhigh, max."""
    return dict(zip(EFFORTS, words, strict=True))


def named(*words: str | None) -> dict[Effort, Any]:
    return each(*({} if word is None else {"reasoning_effort": word} for word in words))


def template(thinks: bool, **more: Any) -> dict[str, Any]:
    return {"chat_template_kwargs": {"enable_thinking": thinks, "thinking": thinks}, **more}


def llama(effort: str, budget: int) -> dict[str, Any]:
    kwargs = {"enable_thinking": True, "thinking": True, "reasoning_effort": effort}
    return {"chat_template_kwargs": kwargs, "thinking_budget_tokens": budget}


def budget(tokens: int) -> dict[str, Any]:
    return {"thinking": {"type": "enabled", "budget_tokens": tokens}}


def adaptive(effort: str, **more: Any) -> dict[str, Any]:
    return {"thinking": {"type": "adaptive", **more}, "output_config": {"effort": effort}}


def deepseek(effort: str | None) -> dict[str, Any]:
    if effort is None:
        return {"thinking": {"type": "disabled"}}
    return {"thinking": {"type": "enabled"}, "reasoning_effort": effort}


def gemini_budget(tokens: int) -> dict[str, Any]:
    return {"thinkingBudget": tokens, **({"includeThoughts": True} if tokens else {})}


def level(word: str, *, shown: bool = True) -> dict[str, Any]:
    return {"thinkingLevel": word, **({"includeThoughts": True} if shown else {})}


SERVED = each(
    template(False),
    *(template(True, reasoning_effort=word) for word in ("low", "medium", "high", "high", "high")),
)
OFF = {"thinking": {"type": "disabled"}}
TABLE: list[tuple[str, str, dict[Effort, Any]]] = [
    ("openai", "gpt-5.6", named("none", "low", "medium", "high", "xhigh", "max")),
    ("openai", "gpt-5.2", named("none", "low", "medium", "high", "xhigh", "xhigh")),
    ("openai", "gpt-5.1", named("none", "low", "medium", "high", "high", "high")),
    ("openai", "gpt-5", named("minimal", "low", "medium", "high", "high", "high")),
    ("openai", "o4-mini", named("low", "low", "medium", "high", "high", "high")),
    ("openai", "gpt-4o", named(None, "low", "medium", "high", "high", "high")),
    ("azure", "gpt-5.2", named("none", "low", "medium", "high", "xhigh", "xhigh")),
    ("azure", "our-own-name", named(None, "low", "medium", "high", "high", "high")),
    ("vllm", "qwen", SERVED),
    ("sglang", "qwen", SERVED),
    ("trtllm", "qwen", SERVED),
    (
        "llama-server", "qwen",
        each(
            template(False), llama("low", 1_024), llama("medium", 4_096), llama("high", 16_384),
            llama("high", 32_768), llama("high", 75_000),
        ),
    ),
    ("ollama", "qwen", named("none", "low", "medium", "high", "high", "high")),
    ("mistral", "mistral-medium-3.5", named("none", "high", "high", "high", "high", "high")),
    ("mistral", "magistral", named(None, "high", "high", "high", "high", "high")),
    ("deepseek", "deepseek-chat", each(*map(deepseek, (None, "low", "high", "high", "high", "max")))),
    ("compatible", "any", named(None, "low", "medium", "high", "high", "high")),
    (
        "anthropic", "claude-sonnet-4-5",
        each(OFF, budget(2_048), budget(8_192), budget(16_384), budget(32_768), budget(63_999)),
    ),
    (
        "anthropic", "claude-opus-4-6",
        each(OFF, *map(adaptive, ("low", "medium", "high", "high", "max"))),
    ),
    (
        "anthropic", "claude-opus-5",
        each(OFF, *(adaptive(e, display="summarized") for e in ("low", "medium", "high", "xhigh", "max"))),
    ),
    (
        "anthropic", "claude-fable-5",
        each(
            adaptive("low", display="omitted"),
            *(adaptive(e, display="summarized") for e in ("low", "medium", "high", "xhigh", "max")),
        ),
    ),
    (
        "gemini", "gemini-2.5-flash",
        each(*map(gemini_budget, (0, 1_024, 8_192, 16_384, 24_576, 24_576))),
    ),
    (
        "gemini", "gemini-3-flash",
        each(level("minimal", shown=False), *map(level, ("low", "medium", "high", "high", "high"))),
    ),
    ("gemini", "gemini-2.0-flash", each(*[None] * 6)),
]  # fmt: skip


@pytest.mark.parametrize(("engine", "model", "row"), TABLE, ids=lambda v: v if isinstance(v, str) else "")
def test_every_depth_in_the_operators_own_words(engine: str, model: str, row: dict[Effort, Any]) -> None:
    assert {effort: sent(engine, model, effort) for effort in EFFORTS} == row
    assert sent(engine, model, None) == row["none"], "nobody asked: thinking is off, and said to be"


def test_the_table_has_every_engine_that_is_reached_over_a_protocol() -> None:
    rows = {engine for engine, _, _ in TABLE}
    assert rows == set(ENGINES) - {"llamacpp", "scripted"}, "the embedded engine speaks llama-server's"


@pytest.mark.parametrize(
    ("engine", "model", "at"),
    [
        ("llama-server", "m", lambda body: body["thinking_budget_tokens"]),
        ("vllm", "m", lambda body: body["thinking_token_budget"]),
        ("sglang", "m", lambda body: body["custom_params"]["thinking_budget"]),
        ("anthropic", "claude-sonnet-4-5", lambda body: body["thinking"]["budget_tokens"]),
        ("gemini", "gemini-2.5-flash", lambda body: body["thinkingBudget"]),
    ],
)
def test_a_deployments_own_budget_stands_in_place_of_the_drivers(engine: str, model: str, at: Any) -> None:
    assert at(sent(engine, model, "low", own=3_000)) == 3_000
    assert at(sent(engine, model, "high", own=90_000)) == 75_000, "a quarter is left for the answer"
    off = sent(engine, model, "none", own=3_000)
    assert "3000" not in str(off)


def test_servers_that_may_refuse_a_budget_get_none_unless_told() -> None:
    for engine in ("vllm", "sglang"):
        assert not {"thinking_token_budget", "custom_params"} & set(sent(engine, "m", "high"))


def test_a_caller_sets_no_budget_of_its_own() -> None:
    body = {"messages": [], "thinking_budget_tokens": 99, "thinking_token_budget": 99}
    call = ChatCall(body=body, stream=False, effort="none")
    for engine in ("llama-server", "vllm", "compatible"):
        assert "99" not in str(chat_body(call, "m", DIALECTS[engine]))


@pytest.mark.parametrize("engine", ["anthropic", "gemini", "llama-server"])
def test_thinking_always_leaves_room_for_the_answer(engine: str) -> None:
    model = {"anthropic": "claude-sonnet-4-5", "gemini": "gemini-2.5-flash"}.get(engine, "m")
    for limit in (1_100, 2_000, 10_000):
        for effort in EFFORTS[1:]:
            body = sent(engine, model, effort, limit=limit)
            told = (
                body.get("thinkingBudget")
                or body.get("thinking_budget_tokens")
                or body.get("thinking", {}).get("budget_tokens")
                or 0
            )
            assert told <= limit - limit // 4
