"""Whether a draft pays, from timings: the interval, the threshold, and how often noise alone would pass."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.domain.errors import Invalid
from allod.gateway.speculating_probe import Order, read_prompts
from allod.planner.speculation import (
    LEAST_SPEED_UP,
    Pair,
    Timed,
    acceptance,
    decide,
    evaluate,
    interval,
    student,
)


def pair(
    prompt: int, turn: int, times: float, *, tokens: int = 20, text: str = "a", kind: str = "k", more: int = 0
) -> Pair:
    return Pair(
        prompt=prompt, kind=kind, round=turn, plain=Timed(text="a", seconds=1.0, tokens=20),
        draft=Timed(text=text, seconds=1.0 / times, tokens=tokens, drafted=10 + more, accepted=4),
    )  # fmt: skip


def square(times: float, prompts: int = 6, rounds: int = 4, **more: object) -> list[Pair]:
    return [pair(p, r, times, **more) for p in range(prompts) for r in range(rounds)]  # type: ignore[arg-type]


def drawn(rng: random.Random, times: float, prompts: float, process: float, noise: float) -> list[Pair]:
    """Draw pairs whose speed-up differs by prompt, by process (for a whole round) and by chance."""
    of_prompt = [rng.gauss(0, prompts) for _ in range(12)]
    out = []
    for turn in range(5):
        of_round = rng.gauss(0, process)
        for p in range(12):
            log = math.log(times) + of_prompt[p] + of_round + rng.gauss(0, noise)
            out.append(pair(p, turn, math.exp(log)))
    return out


@pytest.mark.parametrize(("freedom", "t"), [(1, 12.7062), (4, 2.7764), (11, 2.2010), (30, 2.0423)])
def test_student_gives_the_published_quantiles(freedom: int, t: float) -> None:
    assert student(freedom) == pytest.approx(t, abs=1e-3)


def test_an_interval_of_ratios_by_hand() -> None:
    found = interval([math.log(1.0), math.log(1.21)])
    assert found is not None
    assert found.value == pytest.approx(1.1)
    reach = 12.7062 * (math.log(1.21) / math.sqrt(2)) / math.sqrt(2)
    assert found.high == pytest.approx(1.1 * math.exp(reach), rel=1e-3)
    assert interval([0.1]) is None


def test_a_ratio_without_any_noise_is_itself() -> None:
    found = evaluate(square(1.25))
    assert (found.speed_up.value, found.speed_up.low, found.speed_up.high) == pytest.approx((1.25,) * 3)
    assert found.whole.plain_tok_s == pytest.approx(20)
    assert found.whole.draft_tok_s == pytest.approx(25)
    assert not found.different


def test_a_longer_answer_is_not_a_slower_one() -> None:
    # twice the tokens in twice the time: the same speed
    assert evaluate(square(0.5, tokens=40)).speed_up.value == pytest.approx(1)


@pytest.mark.parametrize(
    ("low", "different", "accept", "used"),
    [
        (1.1, 0, False, False),  # above, not at
        (1.1000001, 0, False, True),
        (1.5, 1, False, False),
        (1.5, 1, True, True),
        (1.05, 0, True, False),
        (math.nan, 0, True, False),
        (-math.inf, 0, True, False),
    ],
)
def test_a_draft_is_used_only_where_its_lower_bound_is_above_the_threshold_and_answers_are_the_same(
    low: float, different: int, accept: bool, used: bool
) -> None:
    assert decide(low, different, accept_different=accept)[0] is used


def test_a_draft_that_drafts_nothing_is_not_used() -> None:
    assert decide(9.0, 0, drafted=0)[0] is False
    assert decide(9.0, 0, drafted=1)[0] is True


@given(st.floats(), st.integers(0, 5), st.booleans())
def test_nothing_at_or_below_the_threshold_is_ever_used(low: float, different: int, accept: bool) -> None:
    used, why = decide(low, different, accept_different=accept)
    assert why
    assert not used or (low > LEAST_SPEED_UP and (accept or not different))


def test_prompts_that_are_answered_otherwise_are_named() -> None:
    pairs = [*square(2.0), pair(3, 9, 2.0, text="b")]
    assert evaluate(pairs).different == (3,)


def test_a_prompt_without_a_token_tells_nothing_and_is_left_out() -> None:
    pairs = [*square(2.0, prompts=5), *(pair(5, r, 9.0, tokens=0) for r in range(4))]
    assert evaluate(pairs).whole.prompts == 5
    assert evaluate(pairs).speed_up.value == pytest.approx(2)


@pytest.mark.parametrize(("prompts", "rounds"), [(4, 9), (9, 2), (0, 0)])
def test_too_little_says_nothing(prompts: int, rounds: int) -> None:
    with pytest.raises(Invalid, match="too little"):
        evaluate(square(2.0, prompts, rounds))


@pytest.mark.parametrize("times", [0.0, -1.0, math.inf, math.nan])
def test_a_time_that_is_none_is_refused(times: float) -> None:
    bad = Timed(text="a", seconds=times, tokens=5)
    pairs = [*square(2.0), Pair(prompt=1, kind="k", round=9, plain=bad, draft=bad)]
    with pytest.raises(Invalid, match="time"):
        evaluate(pairs)


@pytest.mark.parametrize(
    ("prompts", "process", "noise"), [(0.3, 0.0, 0.1), (0.0, 0.3, 0.1), (0.2, 0.2, 0.2), (0.0, 0.0, 0.4)]
)
def test_a_draft_at_the_threshold_passes_at_most_once_in_twenty(
    prompts: float, process: float, noise: float
) -> None:
    rng, passed, times = random.Random(11), 0, 400
    for _ in range(times):
        low = evaluate(drawn(rng, LEAST_SPEED_UP, prompts, process, noise)).speed_up.low
        passed += decide(low, 0)[0]
    assert passed <= 0.05 * times


def test_a_draft_that_clearly_pays_passes() -> None:
    rng = random.Random(12)
    passed = sum(decide(evaluate(drawn(rng, 1.6, 0.15, 0.08, 0.1)).speed_up.low, 0)[0] for _ in range(100))
    assert passed >= 95


def test_acceptance_is_kept_by_drafted_with_an_interval_over_prompts() -> None:
    even = acceptance([pair(p, 0, 1.0) for p in range(4)])
    assert even is not None
    assert (even.value, even.low, even.high) == pytest.approx((0.4, 0.4, 0.4))
    uneven = acceptance([pair(0, 0, 1.0), pair(1, 0, 1.0, more=70), pair(2, 0, 1.0)])
    assert uneven is not None
    assert uneven.value == pytest.approx(12 / 100)
    assert 0 <= uneven.low < 0.12 < uneven.high <= 1
    assert acceptance([]) is None


def test_the_shipped_prompts_are_of_several_kinds_and_each_once() -> None:
    found = read_prompts(None)
    assert len(found) == len({one.text for one in found}) >= 10
    kinds = [one.kind for one in found]
    assert len(set(kinds)) >= 5
    assert min(kinds.count(kind) for kind in kinds) >= 2


def test_own_prompts_are_lines_or_tables(tmp_path: Path) -> None:
    lines, tables = tmp_path / "own.txt", tmp_path / "own.toml"
    lines.write_text("a\n\n  b \nc\nd\ne")
    tables.write_text(
        "".join(f'[[prompt]]\ntext = "{x}"\n' for x in "abcd") + '[[prompt]]\nkind="k"\ntext="e"'
    )
    assert "".join(one.text for one in read_prompts(lines)) == "abcde"
    assert [one.kind for one in read_prompts(tables)] == [*["own"] * 4, "k"]
    orders = [Order(prompts=read_prompts(f), rounds=3, max_tokens=8) for f in (lines, tables)]
    assert orders[0].digest != orders[1].digest
    assert orders[0].steps == 30


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.txt", b""),
        ("a.txt", b"\xff\xfe"),
        ("a.txt", b"x\n" * 4),
        ("a.txt", b"x\n" * 257),
        ("a.txt", b"x" * (1 << 21)),
        ("a.toml", b"[[prompt]]\n"),
        ("a.toml", b'[[prompt]]\ntext = "x"\nmore = 1\n' * 5),
        ("a.toml", b"prompt = ["),
        ("a.toml", b'prompt = "x"'),
    ],
)
def test_prompts_that_are_none_are_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(Invalid):
        read_prompts(tmp_path / name)
