"""How large and how deep Cedar text may be before anything parses it.

Cedar's parser calls itself for every bracket and every link of a chain, and ends the process where its stack
ends: a pack somebody only proposes must not take down whoever looks at it. Counting needs no grammar.
"""

from __future__ import annotations

import re
from typing import Final

from allod.domain.errors import Invalid

MAX_BRACKETS: Final = 100
"""Brackets open at once. Parsing overflows a stack of 8 MB somewhere above 400."""
MAX_WORDS: Final = 8000
"""Words and signs of one policy. A chain without brackets overflows somewhere above 20,000."""
_WORD: Final = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n\r]*|\w+|\S', re.DOTALL)


def demand_bounds(text: str, what: str) -> None:
    """Refuse Cedar text that is nested too deep, or a policy in it that is too long.

    Raises:
        Invalid: it is, or a string in it does not end; ``what`` names the text.

    """
    depth = words = 0
    for found in _WORD.finditer(text):
        word = found.group()
        if word.startswith("//"):
            continue
        if word == '"':
            raise Invalid(f"{what} cannot be read", "a string in it does not end", "correct it")
        words += 1
        if word in {"(", "[", "{"}:
            depth += 1
        elif word in {")", "]", "}"}:
            depth = max(0, depth - 1)
        elif word == ";":
            words = 0
        if depth > MAX_BRACKETS or words > MAX_WORDS:
            raise Invalid(
                f"{what} is nested too deep" if depth > MAX_BRACKETS else f"{what} holds too long a policy",
                f"expected at most {MAX_BRACKETS} open brackets and {MAX_WORDS} words and signs in a policy",
                "write it as several rules",
            )
