"""What always holds of a scan, whatever the text: it fails closed, it never raises, it is a pure function."""

# ruff: noqa: E501, RUF001 (pieces of hostile texts)

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
import re2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allod.admission.bench import classes, detector
from allod.admission.detect import Config, Detector, Scan
from allod.admission.detect import detector as module
from allod.admission.detect.automaton import Literals
from allod.domain.classes import expand

PIECES = st.sampled_from(
    [
        "anna@example.org", "BSN 674520841", "4111 1111 1111 1111", "password: Xy9!kdPQ", "VS-NfD", "Frau Krüger",
        "\u200b", "аnna", "６７４", "%40", "&#64;", "\\u0041", "\n", ";", "a;b;c\n", "-----BEGIN PRIVATE KEY-----",
        "eyJhbGciOiJIUzI1NiJ9.", "+49 30 1234567", "1 2 3 4 5 6 7 8 9", "\ud800", "İ", "ß", "(", "0x", "佐藤さん", " ",
    ]
)  # fmt: skip
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=12)), max_size=14).map(" ".join)
SLOW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@SLOW
@given(TEXTS)
def test_never_raises_and_places_are_in_the_text(text):
    scan = detector().scan(text)
    assert scan.complete
    last = 0
    for one in scan.findings:
        assert 0 <= last <= one.start < one.end <= len(text)
        last = one.end
    assert detector().scan(text) == scan


@SLOW
@given(
    TEXTS, st.sets(st.sampled_from(["personal", "special", "phi", "confidential", "restricted", "internal"]))
)
def test_I2_knowing_classes_beforehand_changes_no_result(text, have):
    """Skipping detectors is only ever for speed: together with what was known, the classes are the same."""
    already = frozenset(expand(have))
    whole = set(expand(detector().scan(text).classes | already))
    assert set(expand(detector().scan(text, already).classes | already)) == whole


@SLOW
@given(TEXTS, st.sampled_from([None, "public", "internal", "phi", "confidential,internal", ["special"]]))
def test_I2_classes_never_go_below_default_and_label(text, label):
    got = classes(text, label)
    said = {p for entry in ([label] if isinstance(label, str) else label or []) for p in entry.split(",")}
    assert got >= {"personal"} | set(expand(said))


def test_an_unknown_label_is_refused():
    with pytest.raises(ValueError, match="not a data class"):
        classes("x", "harmless")


def test_over_size_is_incomplete_and_what_was_seen_counts():
    small = Detector(Config(max_chars=64))
    scan = small.scan("anna@example.org " + "x " * 100)
    assert not scan.complete
    assert scan.classes == {"personal"}
    assert small.scan("x" * 64).complete


def test_a_large_blob_is_incomplete():
    scan = Detector(Config(max_decoded_chars=100)).scan("Ab3" * 60)
    assert not scan.complete


def test_a_passed_deadline_is_incomplete():
    ticks = iter(range(10_000))
    late = Detector(clock=lambda: next(ticks))
    assert late.scan("BSN 674520841", deadline=10_000).complete
    assert not late.scan("BSN 674520841", deadline=0).complete
    assert late.scan("BSN 674520841").complete


def test_the_deadline_is_seen_inside_a_long_text():
    ticks = iter(range(10_000))
    late = Detector(clock=lambda: next(ticks))
    scan = late.scan("BSN 674520841 " + "word " * 20_000, deadline=20)
    assert not scan.complete
    assert scan.types == {"NL_BSN": 1}


@pytest.mark.parametrize(
    "part", ["secrets", "numbers", "persons", "first_view", "further_views", "blobs", "settle"]
)
def test_a_failing_detector_is_incomplete(monkeypatch, part):
    def broken(*args, **more):
        raise RecursionError("boom")

    monkeypatch.setattr(module, part, broken)
    scan = Detector().scan("Frau Krüger, BSN 674520841, password: Xy9!kdPQ, anna@example.org")
    assert isinstance(scan, Scan)
    assert not scan.complete


def test_a_starved_automaton_is_an_error_not_an_empty_result():
    """At the smallest memory with which it can be made it finds everything, or says that it could not."""
    words = [f"w{i:05d}xyz" for i in range(400)]
    starved = next(filter(None, (_made(words, 1 << size) for size in range(16, 24))))
    rng = random.Random(1)
    for _ in range(50):
        try:
            found = starved.found(" ".join(rng.sample(words, 200)))
        except RuntimeError:
            return
        assert len(found) == 200


def _made(words, size):
    try:
        return Literals(words, fold_case=False, max_memory_bytes=size)
    except re2.error:
        return None


def test_a_silent_automaton_is_incomplete(monkeypatch):
    one = Detector()
    monkeypatch.setattr(Literals, "found", lambda self, text: (_ for _ in ()).throw(RuntimeError("starved")))
    assert not one.scan("password: Xy9!kdPQ").complete


def test_the_sentinel_is_demanded():
    class Mute:
        def Match(self, text):
            return None

    literals = Literals(["abc"], fold_case=True)
    literals._automaton = Mute()
    with pytest.raises(RuntimeError):
        literals.found("abc")


def test_text_cannot_fake_or_break_the_sentinel():
    for text in ("\x01allod\x01", "\x01allod", "\x01allod\x01" * 3):
        assert detector().scan(text + " anna@example.org").classes == {"personal"}


def test_many_threads_get_the_same_answer():
    texts = ["anna@example.org", "BSN 674520841", "password: Xy9!kdPQ", "VS-NfD\n", "nothing here"] * 8
    want = [detector().scan(t) for t in texts]
    got: list[list[Scan]] = []
    one = Detector()

    def work():
        got.append([one.scan(t) for t in texts])

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [want] * 6


def test_a_detector_and_its_results_cannot_be_changed():
    with pytest.raises(AttributeError):
        detector().anything = 1
    with pytest.raises(AttributeError):
        detector().scan("x").complete = False


def test_types_can_be_left_out():
    text = "Frau Krüger, anna@example.org"
    assert Detector(Config(without=frozenset({"PERSON"}))).scan(text).types == {"EMAIL": 1}
    assert Detector(Config(without=frozenset({"PERSON"}))).version != Detector().version


def test_importing_reads_no_clock_and_opens_nothing():
    """The room is pure: no module of it imports a clock, a socket, a file, chance or the environment."""
    for file in Path(module.__file__).parent.glob("*.py"):
        text = file.read_text()
        for banned in ("import time", "import socket", "import os", "import random", "datetime", "open("):
            assert banned not in text, (file.name, banned)


HOSTILE = [
    "1 ", "1", "12-", "a@", "@", "password ", "password: ", "secret=", "-----BEGIN RSA PRIVATE KEY-----", "eyJ", "(", "a b ",
    "Anna ", "My name is ", "4111 1111 1111 1111 ", "%41", "\\u0041", "&#65;", "\u200b", "аa", "https://a:b@", "geb. 01.01.",
    "VS-NfD ", "佐藤", "+", "00", "\n", "ssn,dob\n", "BSN 123456782 ", '"', "İ", "clave es ", "rue de ", "A1" * 40 + " ",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_repetition_stays_linear(piece):
    """Four times the text takes no more than some eight times the work, counted in checks of the deadline's clock."""
    import time

    def cost(size):
        text = (piece * (size // len(piece) + 1))[:size]
        best = 1e9
        for _ in range(2):
            begin = time.process_time()
            assert detector().scan(text).complete
            best = min(best, time.process_time() - begin)
        return best

    small, large = cost(2_000), cost(8_000)
    assert large < 12 * small + 0.05
