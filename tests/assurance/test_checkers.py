"""Each checker takes right answers however they are written, and nothing else."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.assurance.cases import Case
from allod.assurance.checkers import check, code_of, json_of, last_number, number, valid_against
from allod.domain.errors import Invalid

OBJECT = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1,234.5", "1234.5"), ("1.234,5", "1234.5"), ("1 234", "1234"), ("1'234.50", "1234.5"),
        ("12,345", "12345"), ("12,34", "12.34"), ("0.125", "0.125"), ("1.234.567", "1234567"),
        ("\u22125", "-5"), ("6e3", "6000"), ("1,2,3", "123"),
    ],
)  # fmt: skip
def test_numbers_are_read_as_people_write_them(written: str, value: str) -> None:
    assert number(written) == Decimal(value)


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("So 3 + 4 = 7. There are 2 steps.\n#### 7", "7"),
        ("Therefore \\boxed{42} units", "42"),
        ("The answer is: **$1,250.00**.", "1250"),
        ("It takes 5 hours and 30 minutes", "30"),
        ("x = 3, then y = 12", "12"),
    ],
)
def test_the_number_an_answer_ends_in(answer: str, value: str) -> None:
    assert last_number(answer) == Decimal(value)


def test_numeric_has_a_tolerance_and_no_mercy_beyond_it() -> None:
    case = Case(prompt="?", expected=("100",), checker="numeric", tolerance=Decimal("0.01"))
    assert check(case, "about 101").ok
    assert not check(case, "about 101.1").ok
    assert not check(case, "I do not know").ok
    assert not check(case, "NaN").ok
    with pytest.raises(Invalid, match="no number"):
        check(Case(prompt="?", expected=("many",), checker="numeric"), "3")


def test_exact_looks_through_dress_only() -> None:
    case = Case(prompt="?", expected=("New York", "NYC"))
    assert check(case, '  "new\u00a0york." ').ok
    assert check(case, "**NYC**").ok
    assert not check(case, "not New York").ok
    strict = Case(prompt="?", expected=("NYC",), ignore_case=False)
    assert not check(strict, "nyc").ok


@pytest.mark.parametrize(
    ("answer", "right"),
    [("B", True), ("(b)", True), ("The answer is B.", True), ("Answer: **B**", True), ("I'd say A", False),
     ("A or B? The answer is C", False), ("", False), ("Bread", False)],
)  # fmt: skip
def test_choice(answer: str, right: bool) -> None:
    assert check(Case(prompt="?", expected=("B",), checker="choice"), answer).ok is right


def test_contains_wants_everything() -> None:
    case = Case(prompt="?", expected=("aspirin", "100 mg"), checker="contains")
    assert check(case, "Give Aspirin 100 mg daily").ok
    assert not check(case, "Give aspirin").ok


def test_a_regex_is_linear_and_a_wrong_one_is_told() -> None:
    case = Case(prompt="?", checker="regex", pattern="^(a+)+$")
    assert not check(case, "a" * 50_000 + "b").ok
    assert check(case, "aaa").ok
    with pytest.raises(Invalid, match="pattern"):
        check(Case(prompt="?", checker="regex", pattern="(?=x)"), "x")


def test_json_schema_takes_one_value_and_fetches_nothing() -> None:
    case = Case(prompt="?", checker="json_schema", schema=OBJECT)
    assert check(case, '{"n": 3}').ok
    assert check(case, 'Here:\n```json\n{"n": 3}\n```\n').ok
    assert not check(case, '{"n": "3"}').ok
    assert not check(case, '{"n": 3, "n": 4}').ok, "which of them?"
    assert not check(case, "[" * 100_000).ok
    assert not check(case, '{"n": NaN}').ok
    exact = Case(prompt="?", checker="json_schema", schema=OBJECT, expected=('{"n": 3}',))
    assert check(exact, ' {"n":3} ').ok
    assert not check(exact, '{"n": 4}').ok
    for away in ("http://127.0.0.1:1/x.json", "file:///etc/hostname"):
        with pytest.raises(Invalid, match="Schema"):
            valid_against({"$ref": away}, {})
    with pytest.raises(Invalid, match="Schema"):
        check(Case(prompt="?", checker="json_schema", schema={"type": 3}), "not even JSON")


def test_code_is_the_longest_block() -> None:
    assert (
        code_of("```sh\nls\n```\nthen\n```python\ndef f():\n    return 1\n```") == "def f():\n    return 1\n"
    )
    assert code_of("x = 1") == "x = 1"


def test_what_runs_code_or_asks_is_not_checked_here() -> None:
    for name in ("unit_test", "judge"):
        with pytest.raises(Invalid):
            check(Case(prompt="?", checker=name, tests="x", rubric="x"), "x")


@given(st.text(max_size=200), st.sampled_from(["exact", "choice", "contains", "numeric", "json_schema"]))
def test_no_answer_breaks_a_checker(answer: str, name: str) -> None:
    case = Case(prompt="?", checker=name, expected=("1",), schema={"type": "integer"})  # type: ignore[arg-type]
    verdict = check(case, answer)
    assert isinstance(verdict.ok, bool)
    assert verdict.why


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_json_is_read_as_it_was_written(value: object) -> None:
    import json

    text = json.dumps(value)
    if "```" not in text:
        assert json_of(text) == value
