"""Own evaluations outweigh what is published, and a published score is worth what its audit leaves of it."""

from __future__ import annotations

import random
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.routing.capability import (
    MOST_PRIOR,
    PUBLISHED_WORTH,
    Counted,
    Published,
    audit,
    capability,
)

CLEAN = Published(
    benchmark="gsm8k",
    model="m",
    score=Decimal("0.9"),
    source="https://example.org/report",
    retrieved="2026-11-01",
    items=1319,
    harness="lm-eval 0.4.9",
    label_errors=Decimal(0),
    contamination="excluded",
    relevance=Decimal(1),
)


def counted(right: float, wrong: float) -> Counted:
    """Count cases of one evaluation."""
    return Counted(successes=right, failures=wrong, evaluations=("sha256:x",), at="2026-11-26T00:00:00.000Z")


def test_a_score_without_doubt_is_worth_its_full_weight_and_every_doubt_costs() -> None:
    clean = audit(CLEAN)
    assert (clean.success, clean.worth, clean.why) == (0.9, PUBLISHED_WORTH, ())
    doubts: list[dict[str, object]] = [
        {"harness": None}, {"contamination": "suspected"}, {"contamination": "measured"}, {"items": None},
        {"withheld": ("prompts",)}, {"label_errors": None}, {"label_errors": Decimal("0.05")},
        {"relevance": Decimal("0.5")}, {"items": 5},
    ]  # fmt: skip
    for doubt in doubts:
        assert audit(msgspec.structs.replace(CLEAN, **doubt)).worth < clean.worth, doubt
    wrong = audit(msgspec.structs.replace(CLEAN, label_errors=Decimal("0.06")))
    assert wrong.success == pytest.approx(0.93)
    assert "labels wrong" in wrong.why[0]


def test_nothing_but_a_declared_figure_is_taken_as_it_is() -> None:
    found = capability(Decimal("0.85"), (), None)
    assert (found.value, found.low, found.basis) == (0.85, 0.85, "declared")
    assert capability(None, (), None).basis == "unknown"


def test_dozens_of_own_cases_outweigh_any_number_of_publications() -> None:
    loud = [CLEAN] * 50
    prior = capability(Decimal("0.99"), loud, None)
    assert prior.value > 0.8
    assert prior.low < prior.value, "a publication is no proof"
    measured = capability(Decimal("0.99"), loud, counted(30, 70))
    assert measured.basis == "measured"
    assert abs(measured.value - 0.3) < 0.15
    assert capability(Decimal("0.99"), loud, counted(300, 700)).value == pytest.approx(0.3, abs=0.02)


@given(
    st.decimals(0, 1, places=3) | st.none(),
    st.integers(0, 12),
    st.integers(0, 500),
    st.integers(0, 500),
)
def test_bounds_hold_together(declared: Decimal | None, many: int, right: int, wrong: int) -> None:
    found = capability(declared, [CLEAN] * many, counted(right, wrong) if right + wrong else None)
    assert 0 <= found.low <= found.value <= 1
    more = capability(declared, [CLEAN] * many, counted(right + 20, wrong))
    less = capability(declared, [CLEAN] * many, counted(right, wrong + 20))
    assert less.value <= more.value
    assert less.low <= more.low + 1e-9


def test_the_lower_bound_is_broken_as_rarely_as_it_says() -> None:
    rng, broken = random.Random(2), 0
    for _ in range(1000):
        truth = rng.random()
        hits = sum(rng.random() < truth for _ in range(60))
        broken += capability(None, (), counted(hits, 60 - hits)).low > truth
    assert broken <= 65


def test_the_prior_is_bounded() -> None:
    many = capability(None, [CLEAN] * 1000, None)
    few = capability(None, [CLEAN] * round(MOST_PRIOR / PUBLISHED_WORTH), None)
    assert many.value == pytest.approx(few.value)
    assert many.low == pytest.approx(few.low)
