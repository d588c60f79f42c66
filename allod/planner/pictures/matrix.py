"""A matrix a board can read: what is lost by what, in words and shades."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Invalid
from allod.planner.pictures.canvas import (
    NARROW,
    SMALL,
    Picture,
    box,
    finite,
    folded,
    label,
    line,
    px,
    text_width,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_EDGE: Final = 12
_ROW: Final = 30
_DARK: Final = 0.62
"""From this level on the text of a cell is written in the colour of the ground."""


class Cell(msgspec.Struct, frozen=True):
    """A few characters, how bad it is (0 fine to 1 worst, None: not known or not meant), more in words."""

    text: str
    level: float | None
    note: str = ""


def matrix(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[Cell]],
    *,
    about: str = "",
    scale: tuple[str, str] = ("holds", "stops"),
) -> Picture:
    """Draw a matrix; on a narrow screen it is turned into one list a row.

    Raises:
        Invalid: no cell, another number of cells than rows times columns, a level outside 0 to 1.

    """
    if not rows or not columns or [len(one) for one in cells] != [len(columns)] * len(rows):
        raise Invalid(
            f"this is no matrix: {title}",
            f"{len(rows)} rows, {len(columns)} columns, cells {[len(one) for one in cells][:8]}",
            "hand one cell for each row and column",
        )
    for cell in (one for row in cells for one in row):
        finite(cell.text, cell.level)
        if cell.level is not None and not 0 <= cell.level <= 1:
            raise Invalid(f"the level of {cell.text!r} is not one", f"got {cell.level:g}", "hand 0 to 1")

    def draw(width: int) -> tuple[float, list[str]]:
        named = min(max(text_width(row) for row in rows) + 12, 0.34 * width)
        each = (width - 2 * _EDGE - named) / len(columns)
        least = max(text_width(c.text, SMALL) for row in cells for c in row) + 8
        if width < NARROW or each < max(least, 26):
            return _listed(width, rows, columns, cells)
        return _grid(rows, columns, cells, named, each)

    return Picture(title=title, about=_read(about, scale), draw=draw)


def _read(about: str, scale: tuple[str, str]) -> str:
    return f"{about} Pale: {scale[0]}; dark: {scale[1]}; empty: not known.".strip()


def _grid(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[Cell]],
    named: float,
    each: float,
) -> tuple[float, list[str]]:
    heads = [folded(column, max(each - 6, 20), SMALL) for column in columns]
    turned = _turned(columns, each)
    if turned:
        # the last heads lean out over their columns: leave them room
        room = max(0.0, max(text_width(column, SMALL) for column in columns[-4:]) * 0.72 - each / 2)
        each -= min(room, 0.4 * each * len(columns)) / len(columns)
    out: list[str] = []
    if turned:
        top = min(max(text_width(column, SMALL) for column in columns) * 0.72 + 18, 190)
        for n, column in enumerate(columns):
            x = _EDGE + named + (n + 0.5) * each
            out.append(
                f'<g transform="translate({px(x)} {px(top - 6)}) rotate(-45)">{label(0, 0, column, "s")}</g>'
            )
    else:
        top = 15.0 * max(len(head) for head in heads) + 8
        for n, head in enumerate(heads):
            x = _EDGE + named + (n + 0.5) * each
            out += [label(x, 13 + 15 * k, text, "s", "middle") for k, text in enumerate(head)]
    y = top
    for row, line_ in zip(rows, cells, strict=True):
        texts = folded(row, named - 10)
        tall = max(_ROW, 16 * len(texts) + 8)
        first = y + tall / 2 + 4 - 8 * (len(texts) - 1)
        out += [label(_EDGE, first + 16 * k, text) for k, text in enumerate(texts)]
        for n, cell in enumerate(line_):
            told = f"{row}, {columns[n]}: {cell.text} {cell.note}".strip()
            out += _cell(cell, _EDGE + named + n * each, y, each - 2, tall - 2, told)
        y += tall
    return y + 4, out


def _turned(columns: Sequence[str], each: float) -> bool:
    """Tell whether the heads of columns of this width have to lean."""
    heads = [folded(column, max(each - 6, 20), SMALL) for column in columns]
    return max(len(head) for head in heads) > 3 or any(  # noqa: PLR2004 (lines that still look like a head)
        text_width(word, SMALL) > each - 4 for column in columns for word in column.split()
    )


def _listed(
    width: int, rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[Cell]]
) -> tuple[float, list[str]]:
    out: list[str] = []
    y = 8.0
    told = min(max(text_width(c.text, SMALL) for row in cells for c in row) + 16, 0.45 * width)
    for row, line_ in zip(rows, cells, strict=True):
        for text in folded(row, width - 2 * _EDGE):
            out.append(label(_EDGE, y + 13, text, "b"))
            y += 18
        for column, cell in zip(columns, line_, strict=True):
            texts = folded(column, width - 2 * _EDGE - told - 12, SMALL)
            tall = max(24.0, 15.0 * len(texts) + 6)
            out += [label(_EDGE + 4, y + 15 + 15 * k, text, "s") for k, text in enumerate(texts)]
            note = f"{row}, {column}: {cell.text} {cell.note}".strip()
            out += _cell(cell, width - _EDGE - told, y, told, tall - 2, note)
            y += tall
        out.append(line(_EDGE, y + 4, width - _EDGE, y + 4, "r"))
        y += 12
    return y, out


def _cell(cell: Cell, x: float, y: float, wide: float, tall: float, told: str) -> list[str]:
    ground = box(x, y, wide, tall, "k-fine", told)
    out = []
    if cell.level is not None:
        shade = f' fill-opacity="{cell.level:.2f}"'
        out = [ground, box(x, y, wide, tall, "k-bad", told, shade)]
    else:
        out = [f'<rect class="r" x="{px(x)}" y="{px(y)}" width="{px(wide)}" height="{px(tall)}"/>']
    strong = cell.level is not None and cell.level >= _DARK
    where = f'x="{px(x + wide / 2)}" y="{px(y + tall / 2 + 4)}" text-anchor="middle"'
    colour = ' class="c"' if strong else ' class="t"'
    text = folded(cell.text, wide, SMALL)[0]
    out.append(f"<text {where}{colour}>{escape(text)}</text>")
    return out
