"""A stream read with patterns says what it says when every event is decoded, whatever the events are."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.domain.chat import Chunk
from allod.engines.contract import EngineFault
from allod.engines.openai.alike import Alike
from allod.engines.openai.answer import StreamReader


def event(text: Any, *, separators: tuple[str, str] = (",", ":"), **more: Any) -> bytes:
    choice = {"index": more.pop("index", 0), "delta": {"content": text}, "finish_reason": None}
    chunk = {"id": "chatcmpl-1", "model": "m", "choices": [{**choice, **more.pop("choice", {})}], **more}
    return b"data: " + json.dumps(chunk, separators=separators, ensure_ascii=False).encode() + b"\n\n"


class Slow(StreamReader):
    """A reader that never knows a pattern."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        self._alike._tries = 0


def said(reader: StreamReader, pieces: list[bytes]) -> list[Any]:
    out: list[Any] = []
    for piece in pieces:
        events, fault = reader.take(piece)
        out += events
        if fault is not None:
            return [*out, (fault.kind, fault.detail)]
    try:
        return [*out, *reader.end()]
    except EngineFault as fault:
        return [*out, (fault.kind, fault.detail)]


texts = (
    st.text(max_size=12)
    | st.sampled_from(
        ["a", " token", "", '"', "\\", "\\u0041", "\x07", "\n", '","role":"x', "é", "}]}", "content"]
    )
    | st.none()
)
pieces = st.one_of(
    st.builds(event, texts),
    st.builds(event, texts, index=st.integers(0, 2)),
    st.builds(event, texts, usage=st.sampled_from([None, {"prompt_tokens": 1, "completion_tokens": 1}])),
    st.builds(
        event, texts, choice=st.sampled_from([{"logprobs": {}}, {"finish_reason": "stop"}, {"x": "a"}])
    ),
    st.builds(event, texts, separators=st.just((", ", ": "))),
    st.builds(event, texts, error=st.sampled_from([None, {"message": "no"}])),
    st.sampled_from([b": wait\n\n", b"data: {\n\n", b'data: {"choices":[]}\n\n', b"data: [DONE]\n\n"]),
)


@given(st.lists(pieces, max_size=12), st.lists(st.integers(1, 400), max_size=8))
def test_patterns_change_nothing_of_what_a_stream_says(events, cuts) -> None:
    stream = b"".join(events)
    ends = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    whole = [stream[a:b] for a, b in itertools.pairwise(ends)]
    for given_pieces in (events, whole):
        assert said(StreamReader(), given_pieces) == said(Slow(), given_pieces)


@given(st.binary(max_size=12))
def test_bytes_in_place_of_a_text_are_read_as_if_they_were_decoded(middle) -> None:
    first, second = event("a").split(b'"a"')
    odd = first + b'"' + middle + b'"' + second
    assert said(StreamReader(), [event("a"), odd]) == said(Slow(), [event("a"), odd])


def test_a_pattern_is_found_and_used() -> None:
    reader = StreamReader()
    reader.take(event("a"))
    assert reader._alike.text_of(event(" token")) == " token"
    assert reader.take(event("b")) == ([Chunk(text="b", raw=event("b"))], None)


@pytest.mark.parametrize(
    "trap",
    [
        b'data: {"x":{"content":"a"},"choices":[{"index":0,"delta":{"content":"\\u0061"}}]}\n\n',
        b'data: {"x":"a","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"b","content":"a"}}]}\n\n',
        b'data: {"a":1,"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
    ],
)
def test_a_text_that_stands_elsewhere_is_not_taken_for_the_content(trap) -> None:
    reader, slow = StreamReader(), Slow()
    follow = trap.replace(b'"a"', b'"z"')
    assert said(reader, [trap, follow]) == said(slow, [trap, follow])


def test_a_stream_whose_events_always_differ_costs_few_tries() -> None:
    alike = Alike()
    for n in range(100):
        alike.learn(event("a", nonce=str(n)), "a", 0, lambda _event: None)
    assert alike._tries == 0
    assert alike.text_of(event("a")) is None
