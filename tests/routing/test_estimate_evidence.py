import contextlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allod.domain.errors import Integrity, Invalid
from allod.routing.evidence import DAY_MS, Evidence, Seen, rank
from allod.routing.features import Asked, features

TEXTS = [features(Asked(text=text, task=task)) for text, task in (("a b", "x"), ("c", "y"), ("", None))]


@st.composite
def outcomes(draw):
    return Seen(
        receipt=draw(st.sampled_from([f"r{n}" for n in range(12)])),
        deployment=draw(st.sampled_from("abc")),
        features=draw(st.sampled_from(TEXTS)),
        quality=draw(st.sampled_from([None, 0.0, 0.25, 1.0])),
        output_tokens=draw(st.sampled_from([None, 0, 7, 90])),
        at_ms=draw(st.integers(0, 400)) * DAY_MS,
    )


def told(seen, requests=5):
    out = Evidence(requests=requests)
    for one in seen:
        out.learn(one)
    return out


@settings(deadline=None)
@given(st.lists(outcomes(), max_size=40), st.randoms())
def test_I8_evidence_does_not_depend_on_order_or_repetition(seen, random):
    other = seen + seen[: len(seen) // 2]
    random.shuffle(other)
    assert told(other).to_bytes() == told(seen).to_bytes()


@settings(deadline=None)
@given(st.lists(outcomes(), max_size=30), st.lists(outcomes(), max_size=30))
def test_I8_merging_is_learning_both(ours, theirs):
    a, b = told(ours), told(theirs)
    both = told(ours + theirs).to_bytes()
    a_bytes = a.to_bytes()
    a.merge(b)
    assert a.to_bytes() == both
    b.merge(Evidence.from_bytes(a_bytes))
    assert b.to_bytes() == both
    a.merge(b)
    assert a.to_bytes() == both


@settings(deadline=None)
@given(st.lists(outcomes(), max_size=30))
def test_I8_evidence_is_read_back_to_the_byte_and_goes_on_the_same(seen):
    a = told(seen)
    b = Evidence.from_bytes(a.to_bytes())
    more = Seen(receipt="later", deployment="a", features=TEXTS[0], quality=1.0, at_ms=500 * DAY_MS)
    a.learn(more)
    b.learn(more)
    assert a.to_bytes() == b.to_bytes()
    assert len(b) <= 5


def test_the_recent_stay_longer():
    out = Evidence(requests=400)
    for n in range(4000):
        out.learn(
            Seen(receipt=f"r{n}", deployment="a", features=TEXTS[0], quality=1.0, at_ms=n * DAY_MS // 10)
        )
    kept = [one.at_ms // DAY_MS for one in out.all()]
    assert len(kept) == 400
    early, late = sum(day < 200 for day in kept), sum(day >= 200 for day in kept)
    assert late > 2.5 * early > 0


def test_rank_is_the_same_everywhere():
    assert [rank("r_1", 0), rank("r_1", 90 * DAY_MS)] == [-828258, -828258 + (1 << 20)]


def test_ranks_are_those_of_an_exponential_variable():
    drawn = sorted(rank(f"r{n}", 0) / 2**20 for n in range(4000))
    # quartiles of -log2(E), E = -log2(uniform), are -1, 0 and 1.27; logarithms are piecewise linear
    for at, expected in ((1000, -1.0), (2000, 0.0), (3000, 1.27)):
        assert abs(drawn[at] - expected) < 0.25


def test_erasing_forgets_for_good():
    out = told([Seen(receipt="r1", deployment="a", features=TEXTS[0], quality=1.0)])
    out.erase(["r1", "unknown"])
    assert len(out) == 0
    assert out.to_bytes() == Evidence(requests=5).to_bytes()
    out.learn(Seen(receipt="r1", deployment="a", features=TEXTS[0], quality=1.0))
    assert len(out) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"quality": 1.01}, {"quality": -0.1}, {"quality": float("nan")}, {"quality": float("inf")},
        {"output_tokens": -2}, {"output_tokens": 10**10}, {"at_ms": -1}, {"at_ms": 1 << 50}, {"receipt": ""},
        {"deployment": ""}, {"deployment": "x" * 257},
        {"features": msgspec.structs.replace(TEXTS[0], shape=b"")},
    ],
)  # fmt: skip
def test_bad_outcomes_are_refused_and_leave_nothing(change):
    out = told([])
    good = Seen(receipt="r1", deployment="a", features=TEXTS[0], quality=1.0)
    with pytest.raises(Invalid):
        out.learn(msgspec.structs.replace(good, **change))
    assert out.to_bytes() == told([]).to_bytes()


def test_evidence_of_other_limits_is_not_joined():
    with pytest.raises(Invalid):
        Evidence(requests=5).merge(Evidence(requests=6))


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=4))
def test_hostile_bytes_are_refused_as_integrity_or_are_canonical(at, change):
    body = told([Seen(receipt="r1", deployment="a", features=TEXTS[0], quality=1.0)]).to_bytes()
    at %= len(body)
    changed = body[:at] + change + body[at + len(change) :]
    with contextlib.suppress(Integrity):
        assert Evidence.from_bytes(changed).to_bytes() == changed


@pytest.mark.parametrize("body", [b"", b"\x00", b"\xc1" * 99, b"\x91" * 100_000, b"\xdb\xff\xff\xff\xff"])
def test_garbage_is_refused(body):
    with pytest.raises(Integrity):
        Evidence.from_bytes(body)
