"""A file of cases is read whole or refused with its line, before anything is spent."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.assurance.cases import Case, read_suite
from allod.domain.errors import Invalid


def lines(*rows: object) -> bytes:
    """Write rows as JSON Lines."""
    return "\n".join(json.dumps(row) for row in rows).encode()


def test_jsonl_and_csv_of_the_same_cases_are_the_same_suite() -> None:
    rows = [
        {"prompt": "2+2?", "expected": "4", "checker": "numeric", "task": "sums", "tolerance": "0.01"},
        {"prompt": "Name, of the capital", "expected": ["Paris", "paris, France"], "task": "facts"},
        {"prompt": "As JSON", "checker": "json_schema", "schema": {"type": "object"}, "max_tokens": 9},
    ]
    table = (
        b"prompt,expected,checker,task,tolerance,schema,max_tokens\n"
        b"2+2?,4,numeric,sums,0.01,,\n"
        b'"Name, of the capital","[""Paris"", ""paris, France""]",,facts,,,\n'
        b'As JSON,,json_schema,,,"{""type"": ""object""}",9\n'
    )
    one, two = read_suite(lines(*rows), csv_file=False), read_suite(table, csv_file=True)
    assert one == two
    assert one.cases[1].expected == ("Paris", "paris, France")
    assert len({case.id for case in one.cases}) == 3


def test_numbers_and_values_are_written_as_answers_have_them() -> None:
    suite = read_suite(
        lines({"prompt": "?", "expected": 4.50}, {"prompt": "!", "expected": [True, None]}), csv_file=False
    )
    assert suite.cases[0].expected == ("4.5",)
    assert suite.cases[1].expected == ("true", "null")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": "?", "expected": "x", "messages": [{"role": "user", "content": "?"}]}, "what is asked"),
        ({"expected": "x"}, "what is asked"),
        ({"prompt": "?"}, "needs expected"),
        ({"prompt": "?", "checker": "regex"}, "needs pattern"),
        ({"prompt": "?", "checker": "json_schema"}, "needs schema"),
        ({"prompt": "?", "checker": "unit_test"}, "needs tests"),
        ({"prompt": "?", "checker": "judge"}, "judge needs"),
        ({"prompt": "?", "expected": "1", "tolerance": "nan"}, "fraction"),
        ({"prompt": "?", "expected": "1", "tolerance": 1}, "fraction"),
        ({"prompt": "?", "expected": "1", "checker": "telepathy"}, "no case"),
        ({"prompt": "?", "expected": "1", "reply": "1"}, "no case"),
        (["prompt"], "no case"),
    ],
)
def test_a_wrong_line_is_named(row: object, says: str) -> None:
    good = {"prompt": "fine", "expected": "x"}
    with pytest.raises(Invalid, match="line 2") as caught:
        read_suite(lines(good, row), csv_file=False)
    assert says in str(caught.value)


def test_doubles_empty_files_and_other_encodings_are_refused() -> None:
    row = {"prompt": "?", "expected": "x"}
    with pytest.raises(Invalid, match="there already"):
        read_suite(lines(row, row), csv_file=False)
    with pytest.raises(Invalid, match="no cases"):
        read_suite(b"\n\n", csv_file=False)
    with pytest.raises(Invalid, match="UTF-8"):
        read_suite(b"\xff\xfe{}", csv_file=False)
    with pytest.raises(Invalid, match="fields"):
        read_suite(b"prompt,expected\na,b,c\n", csv_file=True)


def test_a_conversation_begins_with_the_system_message() -> None:
    case = Case(prompt="hi", system="be brief")
    assert [(m.role, m.content) for m in case.conversation] == [("system", "be brief"), ("user", "hi")]


@given(st.binary(max_size=300), st.booleans())
def test_hostile_files_are_refused_and_nothing_else(raw: bytes, csv_file: bool) -> None:
    try:
        suite = read_suite(raw, csv_file=csv_file)
    except Invalid:
        return
    assert suite.cases
