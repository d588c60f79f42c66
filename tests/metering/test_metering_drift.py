"""A provider's silent change of tokenizer is found, and a change of what is asked is not taken for one."""

from __future__ import annotations

import math
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.metering.drift import (
    BLOCK,
    GROUP_WARM,
    LEAST_RUN,
    MOST_GROUPS,
    WARM,
    Alarm,
    Shape,
    Watch,
    expected,
    observe,
    shape,
    sums_of,
)

WORDS = "the ward keeps every patient safe when a nurse writes down what was given and at which hour".split()


def text(rng: random.Random, kind: str = "prose") -> bytes:
    """Write a request of some kind: prose, numbers, or Japanese."""
    n = rng.randrange(5, 120)
    if kind == "numbers":
        return " ".join(f"{rng.randrange(10**6)}.{rng.randrange(100)}" for _ in range(n)).encode()
    if kind == "kana":
        return "".join(chr(rng.randrange(0x3041, 0x3097)) for _ in range(4 * n)).encode()
    return " ".join(rng.choice(WORDS) for _ in range(n)).encode()


def billed(rng: random.Random, features: Shape, noise: float, factor: float = 1.0) -> int:
    """Bill as some tokenizer would that Allod does not know, with what a shape cannot explain as noise."""
    weights = (17, 0.23, 0.7, 0.02, 0.8, 0.7, 1.3, 2.5)
    return max(1, round(expected(weights, features) * factor * math.exp(rng.gauss(0, noise))))


def stream(
    seed: int, n: int, noise: float, *, rises: int | None = None, factor: float = 1.2
) -> tuple[Watch, list[Alarm]]:
    """Watch n requests of mixed kinds; from number ``rises`` on they cost ``factor`` times as much."""
    rng, watch, alarms = random.Random(seed), Watch(), list[Alarm]()
    for i in range(n):
        kind = rng.choice(("prose", "prose", "numbers", "kana"))
        features = shape(text(rng, kind))
        tokens = billed(rng, features, noise, factor if rises is not None and i >= rises else 1.0)
        watch, alarm = observe(watch, features, tokens, i, kind)
        if alarm is not None:
            alarms.append(alarm)
    return watch, alarms


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.25])
@pytest.mark.parametrize("factor", [1.2, 1 / 1.2, 1.35])
def test_a_silent_change_is_found_within_500_requests(noise: float, factor: float) -> None:
    for seed in range(4):
        rises = 700 + 97 * seed
        _, alarms = stream(seed, rises + 500, noise, rises=rises, factor=factor)
        assert len(alarms) == 1
        assert rises - LEAST_RUN < alarms[0].began
        assert rises < alarms[0].found <= rises + 500
        assert alarms[0].ratio == pytest.approx(factor, rel=0.06 + 0.3 * noise)


def test_nothing_is_found_where_nothing_changed() -> None:
    watch, alarms = stream(11, 15_000, 0.3)
    assert alarms == []
    assert watch.deviation == pytest.approx(0.3, rel=0.15)
    assert watch.since_start == pytest.approx(1, abs=0.08)
    assert LEAST_RUN <= watch.found_within(0.2) < 500
    assert math.isinf(watch.found_within(0.1))


def test_new_work_is_not_taken_for_a_new_tokenizer() -> None:
    rng, watch = random.Random(3), Watch()
    for i in range(600):
        features = shape(text(rng))
        watch, alarm = observe(watch, features, billed(rng, features, 0.05), i, "letters")
        assert alarm is None
    # words this tokenizer has no entry for: half as much again, from a task that was not there before
    for i in range(1500):
        features = shape(text(rng))
        watch, alarm = observe(watch, features, billed(rng, features, 0.05, 1.5), i, "latin")
        assert alarm is None
    assert watch.groups["latin"].offset - watch.groups["letters"].offset > 0.2
    found = None
    for i in range(500):
        features = shape(text(rng))
        watch, found = observe(watch, features, billed(rng, features, 0.05, 1.5 * 1.2), i, "latin")
        if found:
            break
    assert found is not None, "a change within that work is found all the same"


def test_a_burst_of_odd_requests_is_no_change() -> None:
    rng, watch = random.Random(5), Watch()
    for i in range(3000):
        features = shape(text(rng))
        odd = i > WARM and i % 400 < LEAST_RUN // 2
        watch, alarm = observe(watch, features, billed(rng, features, 0.05, 3.0 if odd else 1.0), i)
        assert alarm is None


def test_after_an_alarm_it_watches_the_new_tokenizer() -> None:
    rng, watch, alarms = random.Random(9), Watch(), []
    for i in range(4000):
        features = shape(text(rng))
        factor = 1.0 if i < 1000 else 1.3 if i < 2500 else 1.0
        watch, alarm = observe(watch, features, billed(rng, features, 0.1, factor), i)
        alarms += [alarm] if alarm else []
    assert [round(a.ratio, 1) for a in alarms] == [1.3, 0.8]


def test_I8_a_watch_that_was_saved_goes_on_as_if_it_had_not_been() -> None:
    rng, straight = random.Random(2), Watch()
    broken = straight
    for i in range(WARM + 4 * BLOCK + 10):
        features = shape(text(rng))
        tokens = billed(rng, features, 0.1)
        straight, _ = observe(straight, features, tokens, i, f"g{i % 3}")
        broken, _ = observe(broken, features, tokens, i, f"g{i % 3}")
        if i % 61 == 0:
            broken = msgspec.json.decode(msgspec.json.encode(broken), type=Watch)
    assert broken == straight
    assert straight.weights != straight.first, "it has learned since"


def test_groups_are_bounded() -> None:
    rng, watch = random.Random(1), Watch()
    for i in range(WARM + 5 * MOST_GROUPS):
        features = shape(text(rng))
        watch, _ = observe(watch, features, billed(rng, features, 0.05), i, f"g{i}")
    assert len(watch.groups) <= MOST_GROUPS + 1
    assert watch.groups[""].count >= GROUP_WARM


@given(st.binary(max_size=400))
def test_a_shape_counts_every_byte_of_text(raw: bytes) -> None:
    features = shape(raw)
    assert all(f >= 0 for f in features)
    if raw.decode(errors="ignore").encode() == raw:
        one, letters, digits, spaces, marks, two, three, four = features
        assert one == 1
        size = letters + digits + spaces + marks + 2 * two + 3 * three + 4 * four
        assert size == len(raw)


def test_a_long_text_is_read_in_part_and_scaled() -> None:
    assert shape(b"ab1 " * 100_000) == pytest.approx((1, 200_000, 100_000, 100_000, 0, 0, 0, 0))


@given(st.lists(st.tuples(st.binary(max_size=60), st.integers(0, 2**40)), max_size=250))
def test_hostile_reports_break_nothing(reports: list[tuple[bytes, int]]) -> None:
    watch = Watch()
    for i, (raw, tokens) in enumerate(reports):
        watch, alarm = observe(watch, shape(raw), tokens, i)
        assert alarm is None or math.isfinite(alarm.ratio)
        assert all(map(math.isfinite, watch.weights))
        assert watch.tokens(shape(raw)) >= 1 or watch.groups


def test_sums_of_two_nodes_are_sums_of_their_traffic() -> None:
    rng = random.Random(4)
    seen = [(shape(text(rng)), float(rng.randrange(8, 300)), rng.gauss(0, 0.2)) for _ in range(80)]
    both, whole = sums_of(seen[:30]).plus(sums_of(seen[30:])), sums_of(seen)
    assert both.matrix == pytest.approx(whole.matrix)
    assert both.weights() == pytest.approx(whole.weights())
