"""Pictures: sound XML that says what it shows, within its edges, nothing fetched, no nonsense drawn."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from allod.domain.errors import Invalid
from allod.planner.pictures import (
    Bar,
    Cell,
    Flow,
    Line,
    Mark,
    Picture,
    Section,
    Span,
    Stack,
    Swing,
    bars,
    cashflow,
    lines,
    matrix,
    page,
    stacks,
    tornado,
)
from allod.planner.pictures.canvas import KINDS, axis, folded, short, text_width

SVG = "{http://www.w3.org/2000/svg}"
WIDTHS = (280, 360, 720, 1200)
EVIL = '<script>alert("x")</script> & "quotes"'


def all_of(text: str = EVIL) -> list[Picture]:
    return [
        bars(text, [Bar(text, 3.0, 1.0, 5.0, "own"), Bar("a very long name " * 4, None), Bar("b", -2.0)],
             text, marks=[Mark(2.0, text)]),
        bars("log", [Bar("a", 0.001, 0.0005, 0.1), Bar("b", 1000.0)], "USD", log=True),
        stacks("s", [Stack("a", (("x", 1.0), ("y", 2.0)), 2.0, 5.0), Stack("b", (("z", 3.0),))], "USD"),
        tornado("t", 10.0, [Swing("a", 5.0, 20.0, "1", "2"), Swing(text, 9.0, 11.0, "lo", "hi")], "USD"),
        lines("l", [Line("a", ((1.0, 1.0), (2.0, 3.0)), ((1.0, 0.5, 2.0), (2.0, 2.0, 4.0)), "own"),
                    Line("b", ((1.5, 2.0),), step=True)], x_unit="x", y_unit="y", marks=[Mark(1.2, "m")],
              spans=[Span(1.5, math.inf, text)]),
        lines("ll", [Line("a", ((1.0, 1e-6), (1e9, 1e6)))], x_unit="x", y_unit="y", log_x=True, log_y=True),
        matrix("m", ["r1", text], ["c1", "c2"],
               [[Cell("0 %", 0.0), Cell("x", None)], [Cell("99", 1.0, text)] * 2]),
        cashflow("c", [Flow("1", -10.0, -12.0, -5.0), Flow("2", 6.0)], "USD"),
    ]  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
def test_every_picture_is_sound_and_says_what_it_shows(width: int) -> None:
    for picture in all_of():
        text = picture.svg(width)
        root = ET.fromstring(text)
        assert root.get("role") == "img"
        assert (root.find(f"{SVG}title") or root.find(f"{SVG}title")) is not None
        assert root.find(f"{SVG}desc") is not None
        assert root.findtext(f"{SVG}title") == picture.title
        assert not list(root.iter(f"{SVG}script"))
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
        assert "nan" not in re.sub(r"<(title|desc|text)[^>]*>[^<]*", "", text).lower()


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_stands_outside_the_edges(width: int) -> None:
    for picture in all_of("A name of usual length"):
        root = ET.fromstring(picture.svg(width))
        height = float(root.get("height", "0"))
        for text in root.iter(f"{SVG}text"):
            x, wide = float(text.get("x", "0")), text_width(text.text or "", 12) * 0.8
            anchor = text.get("text-anchor", "start")
            left = x - {"start": 0, "middle": wide / 2, "end": wide}[anchor]
            assert left >= -2, (picture.title, text.text)
            assert left + wide <= width + 2, (picture.title, text.text)
            assert float(text.get("y", "0")) <= height
        for rect in root.iter(f"{SVG}rect"):
            assert float(rect.get("width", "0")) >= 0
            assert float(rect.get("x", "0")) + float(rect.get("width", "0")) <= width + 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: bars("t", [], "u"),
        lambda: bars("t", [Bar("a", math.nan)], "u"),
        lambda: bars("t", [Bar("a", 1.0, 2.0, 1.0)], "u"),
        lambda: bars("t", [Bar("a", 1.0, kind="pink")], "u"),
        lambda: bars("t", [Bar("a", 0.0)], "u", log=True).svg(),
        lambda: stacks("t", [Stack("a", (("x", -1.0),))], "u"),
        lambda: tornado("t", math.inf, [Swing("a", 1.0, 2.0)], "u"),
        lambda: lines("t", [Line("a", ())], x_unit="", y_unit=""),
        lambda: lines("t", [Line("a", ((2.0, 1.0), (1.0, 1.0)))], x_unit="", y_unit=""),
        lambda: lines("t", [Line("a", ((1.0, 1.0),), ((1.0, 2.0, 1.0),))], x_unit="", y_unit=""),
        lambda: lines("t", [Line("a", ((0.0, 1.0), (1.0, 1.0)))], x_unit="", y_unit="", log_x=True).svg(),
        lambda: matrix("t", ["a"], ["b"], [[]]),
        lambda: matrix("t", ["a"], ["b"], [[Cell("x", 1.5)]]),
        lambda: cashflow("t", [], "u"),
        lambda: bars("t", [Bar("a", 1.0)], "u").svg(10),
    ],
)
def test_nonsense_is_not_drawn(make: Callable[[], object]) -> None:
    with pytest.raises(Invalid):
        make()


def test_a_wide_matrix_is_turned_and_a_narrow_one_listed() -> None:
    columns = [f"provider number {n}" for n in range(24)]
    wide = matrix("m", ["a"], columns, [[Cell("0", 0.1)] * 24])
    assert "rotate(-45)" in wide.svg(900)
    assert "rotate" not in wide.svg(360)


def test_a_page_is_whole_and_fetches_nothing() -> None:
    text = page(
        EVIL,
        [Section(EVIL, (EVIL,), one, (("a", EVIL), ("1", "2"))) for one in all_of()],
        lead="l",
        foot=("f",),
    )
    assert "<script" not in text
    assert "default-src 'none'" in text
    assert not re.search(r"(src|href)=", text)
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids)) == 8 * 3 * 2
    assert "prefers-color-scheme:dark" in text
    assert text.count("<h1>") == 1


def test_numbers_are_short_and_keep_three_digits() -> None:
    assert [short(x) for x in (0, 0.0001234, 1.0, 12.345, 999.6, 1000, 1_234_567, 2.3e9, -38_000, 1e15)] == [
        "0", "0.000123", "1", "12.3", "1 k", "1 k", "1.23 M", "2.3 bn", "-38 k", "1 P",
    ]  # fmt: skip


@settings(max_examples=100, deadline=None)
@example([5e-324], 20.0)
@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=6), st.floats(20, 2000))
def test_ticks_are_few_and_lie_on_the_axis(values: list[float], wide: float) -> None:
    scale = axis(values, 0.0, wide)
    ticks = scale.ticks(6)
    assert len(ticks) <= 14
    for tick in ticks:
        assert -1e-6 <= scale.at(tick) <= wide + 1e-6


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80), st.floats(30, 400))
def test_folding_loses_no_letter_and_keeps_the_width(text: str, wide: float) -> None:
    rows = folded(text, wide)
    assert "".join("".join(rows).split()) == "".join(text.split())
    assert all(text_width(row) <= wide or len(row) == 1 for row in rows)


def test_every_kind_has_a_colour_by_day_and_by_night() -> None:
    style = bars("t", [Bar("a", 1.0)], "u").svg()
    for kind in KINDS:
        assert style.count(f".k-{kind}{{fill:#") == 2
