"""Reading a TOML table: types are checked, nothing is overlooked, a mistake is named with its nearest key."""

from __future__ import annotations

import tomllib
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.domain.errors import Invalid
from allod.domain.facts import Fact
from allod.gateway.toml import Table, nearest, place, place_set, truth, words


def table(text: str) -> Table:
    return Table(tomllib.loads(text, parse_float=Decimal), "here")


def test_what_nobody_asked_for_is_an_error_with_the_nearest_key() -> None:
    t = table("port = 1\nprot = 2")
    assert t.whole("port", None) == 1
    with pytest.raises(Invalid) as caught:
        t.done()
    assert "'here.prot'" in caught.value.what
    assert "port" in caught.value.what
    t = table("port = 1")
    t.whole("port", None)
    t.done()


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("k = 1", lambda t: t.text("k")),
        ("k = ''", lambda t: t.text("k")),
        ("k = '  '", lambda t: t.text("k")),
        ("k = 'true'", lambda t: t.flag("k", True)),
        ("k = 1", lambda t: t.flag("k", True)),
        ("k = true", lambda t: t.whole("k", None)),
        ("k = 1.0", lambda t: t.whole("k", None)),
        ("k = 0", lambda t: t.whole("k", None)),
        ("k = 11", lambda t: t.whole("k", None, 1, 10)),
        ("k = '1'", lambda t: t.number("k")),
        ("k = true", lambda t: t.number("k")),
        ("k = nan", lambda t: t.number("k")),
        ("k = inf", lambda t: t.number("k")),
        ("k = -1", lambda t: t.number("k", Decimal(0))),
        ("k = 'a'", lambda t: t.texts("k")),
        ("k = ['a', 1]", lambda t: t.texts("k")),
        ("k = ['']", lambda t: t.texts("k")),
        ("k = ['XX1']", lambda t: t.places("k")),
        ("k = 'c'", lambda t: t.choice("k", ("a", "b"), None)),
        ("k = 1", lambda t: t.sub("k")),
        ("k = 1", lambda t: t.list_of("k", "k")),
        ("k = [1]", lambda t: t.list_of("k", "k")),
        ("k = 2026-01-01T00:00:00Z", lambda t: t.day("k")),
        ("k = '2026-01-01'", lambda t: t.day("k")),
        ("", lambda t: t.required("k")),
        ("k = { grade = 'contract' }", lambda t: t.fact("k", truth)),
        ("k = { value = true, grad = 'contract' }", lambda t: t.fact("k", truth)),
        ("k = { value = 1 }", lambda t: t.fact("k", truth)),
    ],
)
def test_a_value_of_another_kind_is_named_and_never_bent(text: str, read: Any) -> None:
    with pytest.raises(Invalid) as caught:
        read(table(text))
    assert caught.value.param is not None
    assert "k" in caught.value.param


def test_what_is_absent_is_none_or_the_default() -> None:
    t = table("")
    assert t.text("k") is None
    assert t.flag("k", True) is True
    assert t.whole("k", 7) == 7
    assert t.number("k") is None
    assert t.texts("k") is None
    assert t.sub("k") is None
    assert t.list_of("k", "k") == []
    assert t.fact("k", truth) is None
    t.done()


def test_exact_numbers_lists_and_facts() -> None:
    t = table(
        "n = 0.1\nl = ['b', 'a', 'b']\nd = 2026-03-01\nf = { value = ['DE', 'EEA'], expires = 2027-01-01 }"
    )
    assert t.number("n") == Decimal("0.1")
    assert t.texts("l") == ("b", "a")
    assert t.day("d") == date(2026, 3, 1)
    fact: Fact[Any] | None = t.fact("f", place_set)
    assert fact is not None
    assert fact.value == ("DE", "EEA")
    assert fact.expires == date(2027, 1, 1)
    assert fact.grade == "declared"
    t.done()


def test_single_readers() -> None:
    assert place("NO", "k") == "NO"
    assert place_set("DE", "k") == ("DE",)
    assert words(["b", "a", "a"], "k") == ("a", "b")
    for read, raw in ((place, False), (place, 1), (truth, 1), (words, "a"), (words, [1])):
        with pytest.raises(Invalid):
            read(raw, "k")


@given(st.text(max_size=12), st.lists(st.text(max_size=12), max_size=5))
def test_the_nearest_word_is_one_of_the_known_or_none(word: str, known: list[str]) -> None:
    said = nearest(word, known)
    assert said == "" or any(repr(one) in said for one in known)
