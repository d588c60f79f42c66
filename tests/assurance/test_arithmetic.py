"""Arithmetic an answer states is computed again; what states nothing is passed over."""

from __future__ import annotations

import time
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.assurance.arithmetic import MAX_CHARS, checked


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("12 x 7 = 84", 1),
        ("So 3 + 4 = 7, and 7 * 2 = 14.", 2),
        ("15% of 80 = 12", 1),
        ("15 % von 80 = 12", 1),
        ("1,234 + 1 = 1,235", 1),
        ("1.234,5 + 1 = 1.235,5", 1),
        ("10 000 + 5 = 10 005", 1),
        ("0,5 + 0,5 = 1", 1),
        ("10 / 3 = 3.33", 1),
        ("10/3 ≈ 3.3", 1),
        ("1234 \u00d7 5 ≈ 6,200", 1),
        (r"\[ 12 \times 7 = 84 \] so \boxed{84}", 1),
        (r"$\frac{1}{2} + \frac{1}{4} = \frac{3}{4}$", 1),
        ("2^{10} = 1024 and 2**3 = 8", 2),
        ("3 * 4 = **12**", 1),
        ("- 3 apples + 4 apples = 7 apples", 1),
        ("1) 3 + 4 = 7\n2. 8 / 2 = 4", 2),
        ("<<48/2=24>>24 clips", 1),
        ("$5 + $3.50 = $8.50", 1),
        ("12/80 = 15%", 1),
        ("23/84 = 27.4%, or 23/84 = 27 %", 2),
        ("84 : 7 = 12", 1),
        ("Total 2024: 3 + 4 = 7", 1),
        ("2 * 3 = 6 = 3 + 3", 2),
        ("7 \u2212 10 = \u22123", 1),
        ("(1 + 2) * 3 = 9", 1),
        ("the sum of 3 + 4 = 7", 1),
        ("3 + 4 = 7 (as asked)", 1),
        ("that is 84 (12 x 7 = 84)", 1),
        ("(3 + 4 = 7)", 1),
        ("a) 3 + 4 = 7", 1),
        ("1/3 = 0.33 = 33 %", 2),
        ("2/3 = 0.667 ≈ 0.7", 2),
    ],
)
def test_what_is_right_is_counted(said: str, right: int) -> None:
    found = checked(said)
    assert (found.right, found.wrong) == (right, "")


@pytest.mark.parametrize(
    "said",
    [
        "12 x 7 = 85",
        "So 3 + 4 = 7 and 7 * 2 = 15.",
        "10 / 3 = 3.34",
        "10 / 3 = 3.3",
        "7 / 2 = 4",
        "1234 \u00d7 5 ≈ 6,300",
        "x = 3 + 4 = 8",
        "2 * 3 = 6 = 3 + 4",
        "12/80 = 16%",
        "€5 \u00d7 3 = €16",
        "1 / 0 = 5",
        "9^9^9 = 5",
        "3 + 4 = 7" + " and 1 + 1 = 2" * 3_000,
        "1+" * 1_000 + "1 = 3",
        "3 + 4 = 8 (as asked)",
        "that is 84 (12 x 7 = 85)",
        "(3 + 4 = 8)",
        "a) 3 + 4 = 8",
        "3 + 4 = 7.0 = 8",
        "3 + 4 = 8 (wrong), 1 + 1 = 2",
    ],
)
def test_what_is_wrong_or_cannot_be_computed_fails(said: str) -> None:
    assert checked(said).wrong


@pytest.mark.parametrize(
    "said",
    [
        "2x + 3 = 7",
        "2x + 3 * 2 = 10",
        "f(2) = 4 + 1",
        "x = 5",
        "3 km + 200 m = 3.2 km",
        "50 + 10% = 55",
        "3 of 4 = 75%",
        "2(3 + 4) = 15",
        "f(3 + 4) = 15",
        "3 + 4 = 7 + x",
        "if a == b",
        "3+4 => 7",
        "= 42",
        "no numbers",
    ],
)
def test_what_states_no_arithmetic_is_passed_over(said: str) -> None:
    assert (checked(said).right, checked(said).wrong) == (0, "")


@given(
    one=st.decimals(-9999, 9999, places=2),
    two=st.decimals("0.01", 9999, places=2),
    operator=st.sampled_from("+-*"),
    off=st.integers(-3, 3),
)
def test_sums_are_right_exactly_if_they_are(one: Decimal, two: Decimal, operator: str, off: int) -> None:
    a, b = Fraction(one), Fraction(two)
    exact = a + b if operator == "+" else a - b if operator == "-" else a * b
    shown = Decimal(exact.numerator) / Decimal(exact.denominator) + Decimal(off) / 10_000
    found = checked(f"We have {one} {operator} {two} = {shown:f}.")
    assert (found.wrong == "") is (off == 0)
    assert found.right == (off == 0)


@given(st.text("0123456789 +-*/=().,x%^$\n:ab\u2212", max_size=60))
def test_no_text_breaks_it(said: str) -> None:
    checked(said)


def test_long_hostile_texts_take_moments() -> None:
    for piece in ("1+", "=", "1 = ", "(", "9", "1+1=2\n", "\\frac{", "1,", "*", "1 000", "a "):
        started = time.process_time()
        checked(piece * (MAX_CHARS // len(piece)))
        assert time.process_time() - started < 3, piece
