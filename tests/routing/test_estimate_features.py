import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.domain.errors import Invalid
from allod.routing.evidence import check_features
from allod.routing.features import (
    BUCKETS,
    HEAD_CHARS,
    SHAPE_SIZE,
    TAIL_CHARS,
    WORD_BUCKETS,
    Asked,
    Features,
    features,
)


@given(st.text(max_size=300), st.sampled_from([None, "", "extract"]))
def test_any_text_gives_lawful_features_twice_the_same(text, task):
    first = features(Asked(text=text, task=task))
    check_features(first)
    assert features(Asked(text=text, task=task)) == first


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "x", "\x00", "\ud800", "é" * 1_000_000, "x" * 1_000_000, "\nA. a" * 250_000,
        "1,2" * 300_000, "🤖" * 100_000,
    ],
)  # fmt: skip
def test_odd_texts_are_read_in_bounded_time(text):
    start = time.process_time()
    check_features(features(Asked(text=text)))
    assert time.process_time() - start < 0.25


def test_what_is_declared_shows():
    plain = features(Asked(text="Say hello"))
    for other in (
        Asked(text="Say hello", app="triage"),
        Asked(text="Say hello", language="nb"),
        Asked(text="Say hello", tools=("search",)),
        Asked(text="Say hello", modalities=("text", "image")),
        Asked(text="Say hello", input_tokens=9000),
    ):
        assert features(other) != plain
    assert features(Asked(text="Say hello", task="a")).buckets == plain.buckets


def test_words_and_pairs_do_not_depend_on_what_surrounds_them():
    def words(text):
        buckets = np.frombuffer(features(Asked(text=text)).buckets, "<u2")
        return {int(one) for one in buckets if one < WORD_BUCKETS}

    assert words("the green horse") <= words("Look: The green HORSE, there.")
    assert not words("green the") <= words("the green horse")


def test_of_a_long_text_head_and_tail_are_read():
    middle = "head " * 2000
    same = [features(Asked(text=middle + "q" * n + middle)).buckets for n in (10, 90_000)]
    assert len(middle) > HEAD_CHARS > TAIL_CHARS
    assert same[0] == same[1]


def test_another_key_gives_other_buckets():
    text = "Patient complains of chest pain since Tuesday"
    ours, theirs = (features(Asked(text=text), key).buckets for key in (b"ours", b"theirs"))
    assert len(set(np.frombuffer(ours, "<u2")) & set(np.frombuffer(theirs, "<u2"))) < 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"buckets": b"\x01\x00\x01\x00", "counts": b"\x01\x01"},
        {"buckets": b"\x02\x00\x01\x00", "counts": b"\x01\x01"},
        {"buckets": (BUCKETS).to_bytes(2, "little"), "counts": b"\x01"},
        {"buckets": b"\x01", "counts": b"\x01"},
        {"counts": b"\x00" * 1, "buckets": b"\x01\x00"},
        {"shape": b""},
        {"shape": np.full(SHAPE_SIZE, np.nan, "<f4").tobytes()},
        {"shape": np.full(SHAPE_SIZE, np.inf, "<f4").tobytes()},
    ],
)
def test_what_are_no_features_is_refused(wrong):
    lawful = {"task": "", "buckets": b"", "counts": b"", "shape": bytes(4 * SHAPE_SIZE)}
    check_features(Features(**lawful))
    with pytest.raises(Invalid):
        check_features(Features(**{**lawful, **wrong}))


def test_importing_is_light():
    import subprocess

    code = "import sys, allod.routing.estimate, allod.routing.bench; print('numpy' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
