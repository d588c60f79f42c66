from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allod.engines.contract import EngineFault
from allod.engines.wire import Splitter, data_of, is_done, name_of, sse_events


def cut(data: bytes, positions: list[int]) -> list[bytes]:
    edges = [0, *sorted({min(position, len(data)) for position in positions}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def events_of(pieces: list[bytes], **limits) -> list[bytes]:
    splitter = Splitter(**limits)
    out = [event for piece in pieces for event in splitter.feed(piece)]
    last = splitter.flush()
    return [*out, last] if last is not None else out


lines = st.sampled_from(
    [b"data: a", b"data:b", b'data: {"x": 1}', b"data", b": comment", b"event: e", b"id: 7", b"retry: 1"]
)
blocks = st.lists(st.lists(lines, min_size=1, max_size=4), min_size=1, max_size=6)
ends = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(blocks, ends, st.lists(st.integers(0, 400), max_size=12))
@settings(max_examples=300)
def test_events_do_not_depend_on_where_the_bytes_were_cut(given_blocks, end, positions):
    data = b"".join(end.join(block) + end + end for block in given_blocks)
    expected = [
        b"\n".join(line[5:].removeprefix(b" ") for line in block if line.startswith(b"data"))
        for block in given_blocks
        if any(line.startswith(b"data") for line in block)
    ]
    assert [data_of(event) for event in events_of(cut(data, positions))] == expected
    assert [data_of(event) for event in events_of([data[i : i + 1] for i in range(len(data))])] == expected


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_any_bytes_are_taken_without_an_error_but_oversize(data, positions):
    for event in events_of(cut(data, positions)):
        assert isinstance(data_of(event), bytes)


def test_raw_bytes_are_kept():
    event = b"event: x\r\nid: 1\r\ndata: one\r\ndata: two\r\n\r\n"
    assert events_of([event]) == [event]
    assert data_of(event) == b"one\ntwo"
    assert name_of(event) == b"x"
    assert name_of(b"data: x\n\n") is None


def test_a_byte_order_mark_is_dropped():
    assert events_of([b"\xef\xbb\xbfdata: x\n\n"]) == [b"data: x\n\n"]


def test_the_end_mark_is_known():
    assert is_done(b"data: [DONE]\n\n")
    assert is_done(b"data:[DONE]\r\n\r\n")
    assert not is_done(b'data: {"text": "data: [DONE]"}\n\n')


@pytest.mark.parametrize("piece", [1, 7, 1000, 100_000])
def test_a_line_without_end_is_oversize(piece):
    splitter = Splitter(max_line_bytes=1000, max_event_bytes=5000)
    with pytest.raises(EngineFault) as caught:  # noqa: PT012 - any of them may be the one
        for _ in range(0, 200_000, piece):
            splitter.feed(b"data: x"[:piece] if piece < 7 else b"x" * piece)
    assert caught.value.kind == "oversize"


def test_an_event_of_endless_short_lines_is_oversize():
    splitter = Splitter(max_line_bytes=1000, max_event_bytes=5000)
    with pytest.raises(EngineFault) as caught:  # noqa: PT012 - any of them may be the one
        for _ in range(1000):
            splitter.feed(b"data: 0123456789\n")
    assert caught.value.kind == "oversize"


def test_a_whole_event_with_a_long_line_is_oversize():
    with pytest.raises(EngineFault):
        Splitter(max_line_bytes=1000).feed(b"data: " + b"x" * 2000 + b"\n\n")


async def body_of(parts):
    class Body:
        def __init__(self):
            self.parts, self.started = list(parts), 0

        async def next_chunk(self):
            return self.parts.pop(0) if self.parts else b""

        def begun(self):
            self.started += 1

    body = Body()
    return [event async for event in sse_events(body)], body.started


def test_comments_do_not_begin_an_answer():
    import asyncio

    events, started = asyncio.run(body_of([b": hi\n\n", b": hi\n\n"]))
    assert (events, started) == ([], 0)
    events, started = asyncio.run(body_of([b": hi\n\n", b"data: 1\n\n", b"data: 2"]))
    assert events == [b"data: 1\n\n", b"data: 2\n\n"]
    assert started == 1
