"""An evaluation asks each case once, keeps what it paid for, and claims no success it was not given."""

from __future__ import annotations

import threading
from decimal import Decimal

import pytest

from allod.assurance.cases import Case, Message, Suite
from allod.assurance.evaluation import (
    FORMAT,
    Evaluation,
    Item,
    decode,
    difference,
    encode,
    score_of,
)
from allod.assurance.run import Order, Reply, left, run
from allod.domain.errors import Integrity, Unavailable

CASES = tuple(
    Case(id=f"c{i}", prompt=f"{i}+{i}?", expected=(str(2 * i),), checker="numeric", task="sums")
    for i in range(12)
)
SUITE = Suite(cases=CASES, digest="sha256:" + "0" * 64)


class Asked:
    """Answers sums: ``good`` always rightly, ``half`` every second one, ``shy`` never."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.seen: list[tuple[str, str]] = []
        self.lock, self.stop_after = threading.Lock(), stop_after

    def __call__(self, deployment: str, case: Case, conversation: tuple[Message, ...]) -> Reply:
        with self.lock:
            self.seen.append((deployment, case.id))
            if self.stop_after is not None and len(self.seen) > self.stop_after:
                raise Unavailable("the gateway went away", "connection refused")
        if deployment == "shy":
            return Reply(refused="residency.5-operator", receipt="r_x")
        if deployment == "judge":
            return Reply(
                text="verdict: right" if "[user]" in conversation[0].content else "?", cost_usd="0.5"
            )
        n = int(case.id[1:])
        right = deployment == "good" or n % 2 == 0
        return Reply(
            text=f"The answer is {2 * n if right else 999}", cost_usd="0.02", input_tokens=7, output_tokens=3
        )


def done(items: tuple[Item, ...]) -> Evaluation:
    """Make an evaluation of items."""
    return Evaluation(
        format=FORMAT, at="2026-11-26T00:00:00.000Z", suite=SUITE.digest, app="triage", home="h", judge=None,
        items=items,
    )  # fmt: skip


def test_every_case_is_asked_once_and_scored() -> None:
    ask, kept = Asked(), list[Item]()
    items = run(Order(suite=SUITE, deployments=("good", "half", "shy")), ask, (), kept.append)
    assert len(ask.seen) == len(set(ask.seen)) == 36
    assert sorted(i.key for i in kept) == sorted(i.key for i in items)
    found = done(items)
    good, half, shy = (score_of(found, name) for name in ("good", "half", "shy"))
    assert (good.success.value, half.success.value) == (1, 0.5)
    assert (good.cost_per_success_usd, half.cost_per_success_usd) == (Decimal("0.02"), Decimal("0.04"))
    assert (shy.n, shy.refused) == (0, 12)
    gap = difference(found, "half", "good")
    assert gap is not None
    assert gap.value == -0.5
    assert gap.high < 0
    assert difference(found, "shy", "good") is None
    assert decode(encode(found)) == found


def test_an_interrupted_run_continues_and_pays_for_nothing_twice() -> None:
    order = Order(suite=SUITE, deployments=("good", "half"), at_once=3)
    ask, kept = Asked(stop_after=10), list[Item]()
    with pytest.raises(Unavailable):
        run(order, ask, (), kept.append)
    assert len(kept) == 10
    assert len(left(order, kept)) == 14
    again = Asked()
    items = run(order, again, kept, kept.append)
    assert len(again.seen) == 14
    assert items == run(order, Asked(), (), lambda _: None)


def test_repeats_of_a_case_count_as_one_case() -> None:
    items = run(Order(suite=SUITE, deployments=("half",), repeats=3), Asked(), (), lambda _: None)
    score = score_of(done(items), "half")
    assert (score.n, score.successes) == (12, 6)
    assert score.cost_per_success_usd == Decimal("0.04")


def test_a_judge_that_cannot_judge_gives_no_success() -> None:
    case = Case(id="j", prompt="?", checker="judge", rubric="polite")
    suite = Suite(cases=(case,), digest=SUITE.digest)

    def asks(answer: str, said: Reply) -> Item:
        def ask(deployment: str, _case: Case, _conversation: tuple[Message, ...]) -> Reply:
            return said if deployment == "judge" else Reply(text=answer)

        return run(Order(suite=suite, deployments=("good",), judge="judge"), ask, (), lambda _: None)[0]

    assert asks("hello", Reply(text="verdict: right")).status == "right"
    for said in (Reply(text="hm"), Reply(failed="timeout"), Reply(refused="law")):
        assert asks("hello", said).status == "failed"
    assert asks("x" * 100_000, Reply(text="verdict: right")).status == "wrong"
    nobody = run(Order(suite=suite, deployments=("good",)), lambda *_: Reply(text="hi"), (), lambda _: None)[
        0
    ]
    assert nobody.status == "failed"


@pytest.mark.parametrize("change", [b" ", b"x", b""])
def test_a_changed_evaluation_is_refused(change: bytes) -> None:
    raw = encode(done(()))
    with pytest.raises(Integrity):
        decode(raw[:-1] + change + raw[-1:] if change else raw[:-1])
