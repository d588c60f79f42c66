"""What an answer quotes stands in the documents it was given, and the sources it names are there."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.assurance.citations import MAX_CHARS, checked

GIVEN = [
    """Answer from these.
[1] The ward has 24 beds in total.
It is on floor 3.
[2] Visiting hours are from
 14:00 to 16:00 \u2013 every day.""",
    '<document index="3">Parking is free of charge for staff</document>',
]


@pytest.mark.parametrize(
    "said",
    [
        "“The ward has 24 beds” [1].",
        "It has 24 beds [1][2].",
        "See [1-3].",
        '"visiting hours are from 14:00 to 16:00 - EVERY day"',
        "> Parking is free of charge\n> for staff",
        '"the ward has ... on floor 3"',
        'a 5" pipe [1]',
        "„Parking is free of charge“ [3]",
        "«Parking is free of charge»",
        "【1】",
    ],
)
def test_what_is_there_passes(said: str) -> None:
    assert checked(said, GIVEN).wrong == ""


@pytest.mark.parametrize(
    "said",
    [
        "“The ward has 24 beds” [2].",
        "See [4].",
        "See [1-4].",
        "See [1][9].",
        "It has 24 beds.",
        "so called “experts” say so",
        '"visiting hours are from 15:00 to 16:00"',
        '"on floor 3 ... the ward has 24"',
        '"The ward has 24 beds',
        '"... ... ... ..."',
        '"* * * *"',
        "> ' - ' -",
        '"the ... ward ... is ... free"',
        "a[1] = 3",
    ],
)
def test_what_is_not_there_or_cites_nothing_fails(said: str) -> None:
    assert checked(said, GIVEN).wrong


def test_sources_must_be_numbered_by_the_documents() -> None:
    assert checked("See [1].", ["The ward has 24 beds."]).wrong
    assert checked("See [1].", ["Source 1: the ward has 24 beds."]).wrong == ""
    assert checked("See [1].", []).wrong


@given(st.text('[]1239,- “”"«»>.\nab', max_size=60), st.text('[]123 \nab<>id="', max_size=60))
def test_no_text_breaks_it(said: str, document: str) -> None:
    checked(said, [document])


def test_long_hostile_texts_take_moments() -> None:
    for piece in ("“", '"', "[1", "[1,", "> ", "[1]", '"a b c d e"', "\n\n", "[1 "):
        started = time.process_time()
        checked(piece * (MAX_CHARS // len(piece)), ["[1] x\n" * 100_000])
        assert time.process_time() - started < 3, piece
