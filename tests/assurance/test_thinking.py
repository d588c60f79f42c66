"""What an evaluation writes of thinking: additive, and nothing where there was none."""

from __future__ import annotations

import json

from allod.assurance.evaluation import FORMAT, Evaluation, Item, decode, encode, spent

ITEMS = (
    Item(case="a", task="t", deployment="d", status="right", why="", output_tokens=30, reasoning_tokens=20,
         total_ms=9),
    Item(case="b", task="t", deployment="d", status="wrong", why="", output_tokens=10, total_ms=5),
    Item(case="c", task="t", deployment="d", status="failed", why="", output_tokens=99, total_ms=900),
    Item(case="d", task="t", deployment="d", status="refused", why=""),
    Item(case="e", task="u", deployment="d", status="right", why="", output_tokens=99),
    Item(case="f", task="t", deployment="e", status="right", why="", output_tokens=99),
)  # fmt: skip


def evaluation(*items: Item) -> Evaluation:
    return Evaluation(
        format=FORMAT, at="2026-11-25T00:00:00.000Z", suite="sha256:s", app="a", home="h", judge=None,
        items=items, effort="high",
    )  # fmt: skip


def test_thinking_is_written_where_there_was_some() -> None:
    raw = encode(evaluation(*ITEMS))
    assert [item.get("reasoning_tokens") for item in json.loads(raw)["items"]] == [20, *[None] * 5]
    assert decode(raw) == evaluation(*ITEMS)


def test_a_file_without_it_is_read_as_it_was_written() -> None:
    raw = encode(evaluation(*ITEMS[1:]))
    assert b"reasoning" not in raw
    assert decode(raw).items[0].reasoning_tokens == 0


def test_what_answers_took_is_of_those_that_came() -> None:
    took = spent(evaluation(*ITEMS), "d", "t")
    assert (took.answers, took.output_tokens, took.reasoning_tokens, took.total_ms) == (2, 20, 20, 14)
    assert spent(evaluation(*ITEMS), "nobody", "t").answers == 0
