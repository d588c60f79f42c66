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
    """Print rows as columns; the first ``words`` of them hold words and stand left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.ljust(width) if i < words else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        say("  ".join(cells).rstrip())


def say_folded(head: str, text: str, under: int | None = None) -> None:
    """Print a text after a head, folded."""
    for line in folded(head, text, under):
        say(line)
