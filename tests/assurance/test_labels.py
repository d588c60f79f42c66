"""A judge is measured by a person's verdicts, and what it says counts for as much as that leaves."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import Region, World, chat, config, deployment

from allod.assurance.cases import Message, read_suite
from allod.assurance.evaluation import (
    FORMAT,
    OLDER,
    Evaluation,
    Item,
    counted,
    decode,
    encode,
    judge_errors,
    judged_rate,
)
from allod.assurance.run import Order, Reply, left, run
from allod.assurance.scores import binomial, cases_worth, corrected
from allod.domain.errors import Invalid
from allod.engines.scripted import acts

LABELLED = {"prompt": "q", "rubric": "polite", "checker": "judge", "task": "t"}


def judged(right: int, n: int) -> tuple[Item, ...]:
    return tuple(
        Item(
            case=f"{i}",
            task="t",
            deployment="d",
            status="right" if i < right else "wrong",
            why="",
            judged=True,
        )
        for i in range(n)
    )


def labels(*verdicts: tuple[bool, str, int]) -> tuple[Item, ...]:
    """Return labelled items: what is true, what the judge said, how many of them."""
    return tuple(
        Item(case=f"l{k}-{i}", task="t", deployment="j", status=said, why="", judged=True, label=true)  # type: ignore[arg-type]
        for k, (true, said, n) in enumerate(verdicts)
        for i in range(n)
    )


def evaluation(items: tuple[Item, ...], known: tuple[Item, ...] = (), **more: Any) -> Evaluation:
    values: dict[str, Any] = {
        "format": FORMAT, "at": "2026-11-20T08:00:00Z", "suite": "s", "app": "a", "home": "h", "judge": "j",
        **more,
    }  # fmt: skip
    return Evaluation(items=items, labels=known, **values)


def test_a_judges_opinion_alone_counts_for_nothing() -> None:
    found = evaluation(judged(90, 100))
    assert judge_errors(found, "t") is None
    rate = judged_rate(found, "d", "t")
    assert rate is not None
    assert (rate.value, rate.low, rate.high) == (0.9, 0, 1)
    assert counted(found, "d", "t") == (0, 0)


def test_errors_correct_the_rate_and_cost_cases() -> None:
    generous = labels((True, "right", 190), (True, "wrong", 10), (False, "right", 60), (False, "wrong", 140))
    found = evaluation(judged(90, 100), generous)
    known = judge_errors(found, "t")
    assert known is not None
    assert (known.sensitivity.value, known.specificity.value) == (0.95, 0.7)
    rate = judged_rate(found, "d", "t")
    assert rate is not None
    assert rate.value == pytest.approx((0.9 + 0.7 - 1) / 0.65, abs=1e-9)
    successes, failures = counted(found, "d", "t")
    assert successes / (successes + failures) == pytest.approx(rate.value)
    assert 5 < successes + failures < 60, "a hundred judged cases say less than a hundred exact ones"
    # labels of another task say nothing of this one
    elsewhere = tuple(msgspec.structs.replace(item, task="u") for item in generous)
    assert counted(evaluation(judged(90, 100), elsewhere), "d", "t") == (0, 0)
    # a judge no better than chance leaves everything open
    blind = labels((True, "right", 50), (True, "failed", 50), (False, "right", 50), (False, "wrong", 50))
    assert counted(evaluation(judged(90, 100), blind), "d", "t") == (0, 0)


def test_exact_cases_beside_judged_ones_count_in_full() -> None:
    exact = tuple(
        Item(case=f"e{i}", task="t", deployment="d", status="right" if i < 8 else "failed", why="")
        for i in range(10)
    )
    assert counted(evaluation((*exact, *judged(5, 10))), "d", "t") == (8, 2)


@given(st.integers(1, 200), st.integers(0, 200), st.integers(5, 300), st.integers(5, 300), st.floats(0.55, 1))
def test_what_a_judge_says_is_never_worth_more_than_its_bound(
    n: int, right: int, good: int, bad: int, skill: float
) -> None:
    seen = binomial(min(right, n), n)
    rate = corrected(seen, binomial(round(skill * good), good), binomial(round(skill * bad), bad))
    worth = cases_worth(rate, n)
    assert 0 <= worth <= n
    if worth >= 1:
        whole = binomial(round(rate.value * worth), max(1, round(worth)))
        assert whole.low <= rate.low + 0.25, "so many exact cases say about as little"
    if (rate.low, rate.high) == (0, 1):
        assert worth == 0


def test_labelled_cases_are_for_the_judge_alone(tmp_path: Path) -> None:
    lines = [
        {**LABELLED, "answer": "kind regards", "right": True},
        {**LABELLED, "answer": "get lost", "right": False},
        {**LABELLED, "prompt": "another"},
    ]
    suite = read_suite("\n".join(map(json.dumps, lines)).encode(), csv_file=False)
    asked: list[tuple[str, str]] = []

    def ask(name: str, _case: Any, conversation: tuple[Message, ...]) -> Reply:
        said = conversation[-1].content
        asked.append((name, said))
        polite = "kind" in said or "sure" in said
        verdict = f"verdict: {'right' if polite else 'wrong'}"
        return Reply(text=verdict if name == "j" else "sure", receipt=f"r{len(asked)}", cost_usd="0.01")

    order = Order(suite=suite, deployments=("d",), judge="j", at_once=1)
    assert [(case.labelled, name) for case, name, _ in left(order, ())] == [
        (True, "j"),
        (True, "j"),
        (False, "d"),
    ]
    found = run(order, ask, (), lambda _: None)
    assert [(i.label, i.status, i.deployment) for i in found] == [
        (True, "right", "j"), (False, "wrong", "j"), (None, "right", "d"),
    ]  # fmt: skip
    assert [i.judge_usd for i in found] == ["0.01"] * 3
    assert all(name == "j" for name, text in asked if "kind regards" in text or "get lost" in text)
    assert left(order, found) == []


@pytest.mark.parametrize(
    "more",
    [{"answer": "x"}, {"right": True}, {"answer": "x", "right": True, "checker": "exact", "expected": "x"}],
)
def test_half_a_label_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="line 1: answer and right go together"):
        read_suite(json.dumps({**LABELLED, **more}).encode(), csv_file=False)


def test_labels_come_by_csv_too() -> None:
    raw = b"prompt,rubric,checker,answer,right\nq,polite,judge,hello,yes\nq,polite,judge,bah,no\n"
    assert [case.right for case in read_suite(raw, csv_file=True).cases] == [True, False]


def test_evaluations_of_the_older_form_are_read_and_written_as_they_were() -> None:
    old = evaluation(judged(1, 2), format=OLDER)
    raw = encode(old)
    assert b"label" not in raw
    assert b"evaluated" not in raw
    assert decode(raw) == old
    new = evaluation(judged(1, 2), labels((True, "right", 1)))
    assert decode(encode(new)) == new


class Judge:
    """Answers politely, and judges: an answer with "kind" in it is right."""

    def __call__(self, method: str, path: str, body: bytes) -> Any:
        asked = json.loads(body)
        text = asked["messages"][-1]["content"]
        said = "kind regards"
        if "\nANSWER\n" in text:
            answer = text.split("\nANSWER\n")[1].split("\n\nGive one sentence")[0]
            said = f"It is so. verdict: {'right' if 'kind' in answer else 'wrong'}"
        usage = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
        message = {"role": "assistant", "content": said}
        raw = json.dumps(
            {"id": "c", "object": "chat.completion", "created": 1, "model": asked["model"], "usage": usage,
             "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        ).encode()  # fmt: skip
        yield acts.Head(200, ((b"content-type", b"application/json"),), len(raw))
        yield acts.Body(raw)
        yield acts.End()


def test_a_measured_judge_reaches_routing(tmp_path: Path) -> None:
    with Region(Judge()) as region:
        fleet = [
            deployment("writer", "w", base_url=region.url, quality={"default": Decimal("0.5")}),
            deployment("referee", "judge", base_url=region.url),
        ]
        tasks = [{"name": "t", "min_quality": Decimal("0.7")}]
        world = World(tmp_path / "home", config(fleet, tasks=tasks))
        file = tmp_path / "cases.jsonl"
        lines = [{**LABELLED, "prompt": f"{n}?"} for n in range(40)]
        lines += [{**LABELLED, "answer": f"kind {n}", "right": True} for n in range(40)]
        lines += [{**LABELLED, "answer": f"rude {n}", "right": False} for n in range(40)]
        file.write_text("\n".join(map(json.dumps, lines)))
        with world.up("ward") as gateway:
            world.write(config(fleet, tasks=tasks, server={"port": gateway.port}))
            told = ("--on", "writer", "--judge", "referee", "--app", "ward")
            done = world.here("eval", "run", str(file), *told, "--json")
            assert done.returncode == 0, done
            found = json.loads(done.stdout)
            assert found["judge_errors"]["t"]["labelled"] == 80
            assert found["scores"][0]["corrected"][0] == 1
            assert gateway.chat(chat("t"), app="ward").headers["allod-deployment"] == "referee"
            shown = world.here("eval", "show", found["evaluation"]).stdout
            assert "of answers a person called right it called 100 % right" in shown
            assert "its errors were not measured" not in shown
            assert world.here("eval", "use", found["evaluation"]).returncode == 0
        world.write(config(fleet, tasks=tasks))
        status = json.loads(world.here("eval", "status", "--json").stdout)
        row = next(r for r in status["quality"] if (r["deployment"], r["task"]) == ("writer", "t"))
        assert row["basis"] == "measured"
        assert 10 < float(row["cases"]) < 40, "its doubt is not lost"
        assert float(row["at_least"]) > 0.7
