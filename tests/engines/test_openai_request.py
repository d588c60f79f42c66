"""What the OpenAI driver sends, dialect by dialect."""

from __future__ import annotations

import json

import pytest

from allod.domain.chat import ChatCall
from allod.domain.fleet import EFFORTS
from allod.engines.contract import EngineFault
from allod.engines.openai.dialects import ADVISORY, CORE, DIALECTS, OWNED
from allod.engines.openai.request import chat_body, openai_effort


def sent(dialect, body=None, **more):
    given = {"model": "auto", "messages": [{"role": "user", "content": "x"}], **(body or {})}
    return chat_body(
        ChatCall(body=given, **{"stream": False, "max_output_tokens": 77, **more}),
        more.pop("name", "m"),
        DIALECTS[dialect],
    )


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("effort", [None, *EFFORTS])
def test_depth_and_limit_are_the_calls_and_never_the_callers(dialect, effort):
    body = {
        "max_tokens": 10**9,
        "max_completion_tokens": 10**9,
        "reasoning_effort": "ultra",
        "think": True,
        "chat_template_kwargs": {"enable_thinking": True},
        "thinking": {"type": "enabled"},
        "reasoning": {"effort": "ultra"},
        "prompt_mode": "reasoning",
        "enable_thinking": True,
        "stream": True,
        "allod-purpose": "x",
    }
    out = sent(dialect, body, effort=effort)
    limit = DIALECTS[dialect].limit
    assert out[limit] == 77
    assert {"max_tokens", "max_completion_tokens"} & set(out) == {limit}
    assert "ultra" not in json.dumps(out)
    assert "stream" not in out
    assert "allod-purpose" not in out
    thinks = effort not in (None, "none")
    if dialect in ("vllm", "sglang", "trtllm", "llama-server"):
        assert out["chat_template_kwargs"]["enable_thinking"] is thinks
    elif dialect == "deepseek":
        assert out["thinking"] == {"type": "enabled" if thinks else "disabled"}
    elif dialect == "ollama":
        assert (out["reasoning_effort"] != "none") is thinks
    else:
        assert ("reasoning_effort" in out) is thinks
    assert out["model"] == "m"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_usage_is_always_asked_for_in_a_stream(dialect):
    out = sent(dialect, {"stream_options": {"include_usage": False, "odd": 1}}, stream=True)
    assert out["stream"] is True
    if dialect == "mistral":
        assert "stream_options" not in out
    else:
        assert out["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_our_own_metadata_goes_nowhere_and_nothing_is_stored(dialect):
    out = sent(dialect, {"metadata": {"Allod-Task": "x", "allod-purpose": "y"}, "store": True})
    assert "allod" not in json.dumps(out).lower()
    assert out.get("store") in (None, False)
    own = sent(dialect, {"metadata": {"Allod-Task": "x", "team": "y"}})
    assert own.get("metadata") in (None, {"team": "y"})


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_parameter_that_matters_is_sent_or_refused_never_dropped(dialect):
    row = DIALECTS[dialect]
    for key in [*sorted(CORE - {"model", "messages", "seed", "tool_choice"}), "top_k", "min_p", "grammar"]:
        try:
            assert key in sent(dialect, {key: 1})
        except EngineFault as caught:
            assert caught.kind == "request"  # noqa: PT017 - taken is right too
            assert not caught.sent  # noqa: PT017
            assert key in row.lacks or key not in CORE | (row.extensions or set())
    for key in ADVISORY - {"metadata"}:
        sent(dialect, {key: 1})
    assert not OWNED & (row.extensions or set())


def test_a_refused_parameters_odd_name_is_not_repeated():
    with pytest.raises(EngineFault) as caught:
        sent("openai", {"Patient: Jane\nDoe": 1})
    assert "Jane" not in caught.value.detail


@pytest.mark.parametrize(
    ("model", "none", "high", "most"),
    [
        ("gpt-5", "minimal", "high", "high"),
        ("gpt-5-mini", "minimal", "high", "high"),
        ("gpt-5.1", "none", "high", "high"),
        ("gpt-5.5", "none", "high", "xhigh"),
        ("gpt-5.6-luna", "none", "high", "max"),
        ("gpt-5-pro", None, None, None),
        ("gpt-5-chat-latest", None, None, None),
        ("gpt-5.3-codex", "low", "high", "xhigh"),
        ("o3-mini", "low", "high", "high"),
        ("o4-mini-2025-04-16", "low", "high", "high"),
        ("gpt-4o", None, "high", "high"),
        ("gpt-4.1-mini", None, "high", "high"),
        ("my-deployment", None, "high", "high"),
        ("openai/gpt-5.2", "none", "high", "xhigh"),
    ],
)
def test_openai_models_get_values_they_know(model, none, high, most):
    assert (openai_effort(model, "none"), openai_effort(model, "high"), openai_effort(model, "max")) == (
        none,
        high,
        most,
    )


def test_mistral_gets_no_field_it_refuses():
    messages = [
        {"role": "assistant", "content": "x", "reasoning_content": "y", "refusal": None},
        {"role": "user", "name": "z", "content": "w"},
    ]
    out = sent("mistral", {"messages": messages, "seed": 4, "tool_choice": "required"})
    assert out["messages"] == [{"role": "assistant", "content": "x"}, {"role": "user", "content": "w"}]
    assert out["random_seed"] == 4
    assert out["tool_choice"] == "any"
    assert messages[0]["reasoning_content"] == "y", "the caller's own body was changed"
