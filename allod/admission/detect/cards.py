"""Payment cards: Luhn and the ranges that issuers use (ISO/IEC 7812; the networks' published prefixes)."""

from __future__ import annotations

from typing import Final

from allod.admission.detect.checks import luhn, varied

_USUAL: Final = 55.0
_RARE: Final = 20.0
_LEAST: Final = 13
"""With a label, any number of at least so many digits that passes Luhn is taken for a card."""

# (first number, last number, digits compared, lengths that are usual, lengths that exist)
_RANGES: Final[tuple[tuple[int, int, int, frozenset[int], frozenset[int]], ...]] = (
    (4, 4, 1, frozenset({16}), frozenset({13, 16, 19})),
    (51, 55, 2, frozenset({16}), frozenset({16})),
    (2221, 2720, 4, frozenset({16}), frozenset({16})),
    (34, 34, 2, frozenset({15}), frozenset({15})),
    (37, 37, 2, frozenset({15}), frozenset({15})),
    (6011, 6011, 4, frozenset({16}), frozenset({16, 19})),
    (644, 659, 3, frozenset({16}), frozenset({16, 19})),
    (300, 305, 3, frozenset({14}), frozenset({14, 16, 19})),
    (3095, 3095, 4, frozenset({14}), frozenset({14, 16, 19})),
    (36, 36, 2, frozenset({14}), frozenset({14, 16, 19})),
    (38, 39, 2, frozenset({14}), frozenset({14, 16, 19})),
    (3528, 3589, 4, frozenset({16}), frozenset({16, 17, 18, 19})),
    (1800, 1800, 4, frozenset({15}), frozenset({15})),
    (2131, 2131, 4, frozenset({15}), frozenset({15})),
    (62, 62, 2, frozenset({16}), frozenset({16, 17, 18, 19})),
    (81, 82, 2, frozenset({16}), frozenset({16})),
    (2200, 2204, 4, frozenset({16}), frozenset({16, 17, 18, 19})),
    (9792, 9792, 4, frozenset({16}), frozenset({16})),
    (5018, 5018, 4, frozenset(), frozenset(range(12, 20))),
    (50, 50, 2, frozenset({16}), frozenset(range(12, 20))),
    (56, 58, 2, frozenset({16}), frozenset(range(12, 20))),
    (60, 60, 2, frozenset({16}), frozenset(range(12, 20))),
    (61, 69, 2, frozenset(), frozenset(range(12, 20))),
)


def card(digits: str) -> float:
    """Return how much a number alone looks like a card: 0 not at all, 20 with a label, 55 by itself."""
    if not 12 <= len(digits) <= 19 or not luhn(digits) or len(set(digits)) == 1 or not varied(digits):  # noqa: PLR2004
        return 0.0
    best = 0.0
    for first, last, compared, usual, exists in _RANGES:
        if first <= int(digits[:compared]) <= last and len(digits) in exists:
            if len(digits) in usual:
                return _USUAL
            best = _RARE
    return best or (_RARE if len(digits) >= _LEAST and digits[0] in "23456" else 0.0)
