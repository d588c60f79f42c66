"""Lines for a person: folded to the width of the screen, so that a long text stays readable.

A screen's width is what ``COLUMNS`` or the terminal says, within bounds; where there is no terminal, 100.
"""

from __future__ import annotations

import shutil
import textwrap
from typing import TYPE_CHECKING, Final

from allod.gateway.cli import say

if TYPE_CHECKING:
    from collections.abc import Sequence

NARROWEST: Final = 60
USUAL: Final = 100
WIDEST: Final = 120
_HELD: Final = "\x1f"
"""Stands for a blank of a head, which is neither a place to fold nor to be dropped."""
_GAP: Final = "  "


def width() -> int:
    """Return how many characters a line may have."""
    return min(max(shutil.get_terminal_size((USUAL, 24)).columns, NARROWEST), WIDEST)


def folded(head: str, text: str, under: int | None = None) -> list[str]:
    """Return the lines of a text after a head; what does not fit stands below, ``under`` characters in.

    Without ``under`` it stands under the beginning of the text. Words are never cut: a single one longer
    than the line sticks out.
    """
    indent = " " * (len(head) if under is None else under)
    lines = textwrap.wrap(
        f"{head.replace(' ', _HELD)}{text}",
        width(),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_HELD, " ").rstrip() for line in lines] or [head.rstrip()]


def say_columns(rows: Sequence[Sequence[str]], words: int) -> None:
    """Print rows as columns; the first ``words`` of them hold words and stand left, the others right.

    The first row is the heads. Where the screen is too narrow, cells are folded between their words; where
    that is not enough, each row is told in lines of ``head: cell``.
    """
    for line in columns(rows, words, width()):
        say(line)


def columns(rows: Sequence[Sequence[str]], words: int, most: int) -> list[str]:
    """Return the lines of a table of at most so many characters (a word that is longer sticks out)."""
    least = [
        max((len(word) for cell in column for word in cell.split()), default=0)
        for column in zip(*rows, strict=True)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    over = sum(widths) + len(_GAP) * (len(widths) - 1) - most
    while over > 0:
        room = [have - need for have, need in zip(widths, least, strict=True)]
        if max(room) <= 0:
            return _told(rows, most)
        # the widest that can give gives, so that short columns stay on one line
        n = max((i for i, one in enumerate(room) if one > 0), key=lambda i: widths[i])
        widths[n] -= 1
        over -= 1
    out = []
    for row in rows:
        cells = [_wrapped(cell, wide) for cell, wide in zip(row, widths, strict=True)]
        for k in range(max(map(len, cells))):
            parts = (
                _placed(cell[k] if k < len(cell) else "", wide, left=i < words)
                for i, (cell, wide) in enumerate(zip(cells, widths, strict=True))
            )
            out.append(_GAP.join(parts).rstrip())
    return out


def _wrapped(cell: str, wide: int) -> list[str]:
    if len(cell) <= wide:
        return [cell]
    return textwrap.wrap(cell, wide, break_long_words=False, break_on_hyphens=False) or [""]


def _placed(text: str, wide: int, *, left: bool) -> str:
    return text.ljust(wide) if left else text.rjust(wide)


def _told(rows: Sequence[Sequence[str]], most: int) -> list[str]:
    """Return rows one below the other: the first cell, then ``head: cell`` for each that is not empty."""
    heads, out = rows[0], []
    for row in rows[1:]:
        out += _filled(row[0], most, "")
        for head, cell in zip(heads[1:], row[1:], strict=True):
            if cell:
                out += _filled(f"{head}: {cell}" if head else cell, most, "  ")
    return out


def _filled(text: str, most: int, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        most,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def say_folded(head: str, text: str, under: int | None = None) -> None:
    """Print a text after a head, folded."""
    for line in folded(head, text, under):
        say(line)
