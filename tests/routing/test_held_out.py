"""What estimates are worth out of fold: never measured on what they were fitted to."""

from __future__ import annotations

import random

import pytest

from allod.routing.evidence import Evidence, Seen
from allod.routing.features import Asked, features
from allod.routing.held_out import calibration_error, worth


def told(labels: str, *, again: int = 1) -> Evidence:
    """Easy and hard requests, with labels by what is asked or by chance."""
    chance = random.Random(5)
    evidence = Evidence()
    for n in range(120):
        hard = n % 2 == 1
        text = f"prove the theorem {n} by induction" if hard else f"add {n} and {n + 1}"
        read = features(Asked(text=text, task="sums"))
        for name in ("small", "large"):
            right = not hard if labels == "by what is asked" else chance.random() < 0.5
            for k in range(again):
                seen = Seen(
                    receipt=f"r{n}.{k}", deployment=name, features=read, quality=float(right), at_ms=k
                )
                evidence.learn(seen)
    return evidence


def test_what_the_prompt_tells_is_worth_more_than_the_rate_of_the_task() -> None:
    (one,) = worth(told("by what is asked"))
    assert (one.task, one.requests, one.outcomes) == ("sums", 120, 240)
    assert one.tells
    assert one.brier < 0.05
    assert one.brier_of_rate > 0.2


def test_what_is_by_chance_is_told_from_what_is_not() -> None:
    (one,) = worth(told("by chance"))
    assert one.brier > 0.24
    assert not one.tells


def test_a_question_asked_twice_is_in_one_fold() -> None:
    """Else it would be estimated by its own answer, and chance would look like knowledge."""
    (one,) = worth(told("by chance", again=3))
    assert one.requests == 360
    assert one.brier > 0.24


def test_too_little_is_not_measured_and_whoever_wants_it_to_end_ends_it() -> None:
    evidence = Evidence()
    assert worth(evidence) == ()
    read = features(Asked(text="one", task="sums"))
    evidence.learn(Seen(receipt="r", deployment="small", features=read, quality=1.0))
    assert worth(evidence) == ()

    def enough() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worth(told("by chance"), between=enough)


def test_the_calibration_error_is_the_mean_distance_over_ten_bins() -> None:
    assert calibration_error([(0.25, 0.0), (0.25, 1.0), (0.25, 0.0), (0.25, 0.0)]) == 0
    assert calibration_error([(0.9, 0.0), (0.1, 1.0)]) == pytest.approx(0.9)
    assert calibration_error([(1.0, 1.0), (0.0, 0.5)]) == pytest.approx(0.25)
