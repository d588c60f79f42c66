"""Sizes from above, buckets that rarely change, and needs read from the neutral form."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.admission.sizes import IMAGE_TOKENS, TOOL_TEMPLATE_TOKENS, bucket, needs_of, sizes_of
from allod.domain.errors import Invalid
from allod.domain.request import Sizes

DATA_URL = "data:image/png;base64," + "A" * 90_000


def body(content="hello", **more):
    return {"model": "auto", "messages": [{"role": "user", "content": content}], **more}


def sized(of, surface="chat") -> Sizes:
    return sizes_of(of, json.dumps(of).encode(), surface)


@given(st.integers(0, 2**40))
def test_a_bucket_is_from_above_and_at_most_a_quarter_more(tokens) -> None:
    got = bucket(tokens)
    assert tokens <= got <= tokens * 5 // 4
    assert bucket(got) == got


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_buckets_are_monotone(a, b) -> None:
    assert (bucket(a) <= bucket(b)) or a > b


def test_there_are_few_buckets() -> None:
    assert len({bucket(n) for n in range(200_000)}) < 80


def test_ordinary_text_is_estimated_from_above() -> None:
    # Nine words and a full stop: ten tokens in every vocabulary that holds whole English words.
    assert sized(body("The quick brown fox jumps over the lazy dog. " * 20)).input_tokens >= 10 * 20


@given(st.text(max_size=300))
def test_no_byte_is_left_out_of_the_estimate(text) -> None:
    raw = json.dumps(body(text), ensure_ascii=False).encode()
    got = sizes_of(body(text), raw).input_tokens
    other = sum(byte > 127 for byte in raw)
    assert got >= (len(raw) - other) / 3 + other / 2


def test_other_scripts_weigh_more_than_ascii() -> None:
    raw = '{"messages":[{"role":"user","content":"%s"}]}'
    chinese = raw % ("数据主权" * 100)
    size = sizes_of(json.loads(chinese), chinese.encode())
    assert size.input_tokens >= 400 * 3 / 2


def test_an_inline_picture_counts_as_a_picture_not_as_its_bytes() -> None:
    picture = body([{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": DATA_URL}}])
    got = sized(picture)
    assert IMAGE_TOKENS < got.input_tokens < IMAGE_TOKENS + 200
    assert got.body_bytes > 90_000


def test_tools_bring_their_own_instructions() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    assert sized(body(tools=[tool])).input_tokens > sized(body()).input_tokens + TOOL_TEMPLATE_TOKENS


def test_limits_and_choices() -> None:
    assert sized(body()).max_output_tokens is None
    assert sized(body(max_tokens=5, max_completion_tokens=9, n=3)).max_output_tokens == 5
    assert sized(body(n=3)).choices == 3
    assert sized({"input": "x"}, "embeddings").max_output_tokens == 0
    assert sized(body(max_tokens=5), "count_tokens").max_output_tokens == 0


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "n"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "9", True, [], 2**40])
def test_a_limit_that_is_no_count_is_refused(name, value) -> None:
    with pytest.raises(Invalid) as caught:
        sized(body(**{name: value}))
    assert caught.value.param == name


@pytest.mark.parametrize(
    ("more", "needs"),
    [
        ({}, ("text",)),
        ({"tools": []}, ("text",)),
        ({"tools": [{"type": "function"}]}, ("text", "tools")),
        ({"functions": [{"name": "f"}]}, ("text", "tools")),
        ({"response_format": {"type": "text"}}, ("text",)),
        ({"response_format": {"type": "json_object"}}, ("json_schema", "text")),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, ("json_schema", "text")),
        ({"logprobs": True}, ("logprobs", "text")),
        ({"logprobs": False, "top_logprobs": None}, ("text",)),
        ({"top_logprobs": 3}, ("logprobs", "text")),
        ({"modalities": ["text"]}, ("text",)),
    ],
)
def test_needs_are_read_from_the_body(more, needs) -> None:
    assert needs_of(body(**more)) == needs


def test_pictures_and_earlier_tool_calls_are_needs_too() -> None:
    picture = body([{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}])
    assert needs_of(picture) == ("image", "text")
    history = body()
    history["messages"].append({"role": "tool", "tool_call_id": "1", "content": "x"})
    assert needs_of(history) == ("text", "tools")
    assert needs_of({"input": "x"}, "embeddings") == ("embeddings",)


@pytest.mark.parametrize(
    "bad",
    [
        body([{"type": "input_audio", "input_audio": {}}]),
        body([{"type": "file", "file": {}}]),
        body([{"type": 7}]),
        body(modalities=["text", "audio"]),
    ],
)
def test_what_no_deployment_can_declare_is_not_supported(bad) -> None:
    with pytest.raises(Invalid) as caught:
        needs_of(bad)
    assert caught.value.kind == "not_supported"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["messages", "tools", "n", "max_tokens", "response_format", "logprobs",
                                        "modalities", "model"]), json_values))  # fmt: skip
def test_a_hostile_body_is_read_or_refused_never_a_crash(hostile) -> None:
    for read in (needs_of, sized):
        with contextlib.suppress(Invalid):
            read(hostile)
