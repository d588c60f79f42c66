from __future__ import annotations

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from allod.domain.errors import Integrity, Invalid
from allod.receipts.canonical import MAX_INTEGER, canonical, parse

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
keys = st.text(st.characters(max_codepoint=127), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=20,
)


@given(values)
def test_canonical_is_byte_equal_to_an_rfc_8785_library(value: object) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@given(values)
def test_what_is_written_is_read_back(value: object) -> None:
    assert parse(canonical(value), what="it") == value


def test_every_control_character_and_escape_is_written_as_rfc_8785_says() -> None:
    text = "".join(map(chr, range(0x100))) + "\u2028\u2029\ufeff\uffff\U0001f512"
    assert canonical(text) == rfc8785.dumps(text)


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        {"a": [0.5]},
        float("nan"),
        MAX_INTEGER + 1,
        -MAX_INTEGER - 1,
        "\ud800",
        {"\u00e9": 1},
        {1: 2},
        b"x",
        {1, 2},
    ],
)
def test_what_the_profile_lacks_is_refused(value: object) -> None:
    with pytest.raises(Invalid):
        canonical(value)


def test_endless_nesting_is_refused() -> None:
    value: list[object] = []
    for _ in range(200):
        value = [value]
    with pytest.raises(Invalid):
        canonical(value)


@pytest.mark.parametrize(
    "data",
    [
        b'{"b":1,"a":2}',
        b'{"a":1, "b":2}',
        b'{"a":1,"a":1}',
        b'{"a":1.0}',
        b'{"a":1e2}',
        b'{"a":01}',
        b'{"a":"\\u0041"}',
        b'{"a":"\\/"}',
        b'{"a":1}\n',
        b"",
        b"{",
        b'"\xff"',
        b"9007199254740992",
        b"[" * 5000,
        b'{"a":-0}',
        b'{"a":"\\ud800"}',
    ],
)
def test_other_spellings_of_the_same_json_are_refused(data: bytes) -> None:
    with pytest.raises(Integrity):
        parse(data, what="it")
