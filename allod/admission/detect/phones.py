"""Telephone numbers by their writing (ITU-T E.164 and E.123); what they are called is weighed in ``numbers``.

No numbering plan is carried: an international number needs a country code that exists and a plausible
length, a national one a spelling that people use for phones, or a label near it.
"""

# ruff: noqa: E501 (patterns and code lists are not broken)

from __future__ import annotations

import re
from typing import Final

_ONE: Final = frozenset("17")
_TWO: Final = frozenset(
    "20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81 82 84 86 90 91 "
    "92 93 94 95 98".split()
)
_THREE: Final = frozenset(
    "211 212 213 216 218 350 351 352 353 354 355 356 357 358 359 370 371 372 373 374 375 376 377 378 379 380 381 382 383 "
    "385 386 387 389 420 421 423 500 501 502 503 504 505 506 507 508 509 590 591 592 593 594 595 596 597 598 599 670 672 "
    "673 674 675 676 677 678 679 680 681 682 683 685 686 687 688 689 690 691 692 800 808 850 852 853 855 856 870 878 880 "
    "881 882 883 886 888 960 961 962 963 964 965 966 967 968 970 971 972 973 974 975 976 977 979 992 993 994 995 996 998".split()
    + [str(n) for n in (*range(220, 270), 290, 291, 297, 298, 299)]
)
MIN_DIGITS, MAX_DIGITS = 7, 15
_MIN_NATIONAL, _MAX_NATIONAL = 6, 13
_SEPARATOR: Final = re.compile(r"(?:[ ]?\([ ]?|\)[ ]?|[ ]|[ ]?[-./][ ]?|\)[-./])\Z")
_DATE: Final = re.compile(
    r"(?:19|20)[0-9]{2}([-./ ])(?:0?[1-9]|1[0-2])\1(?:[0-2]?[0-9]|3[01])(?![0-9]{3})"
    r"|(?:[0-2]?[0-9]|3[01])([-./ ])(?:0?[1-9]|1[0-2])\2(?:19|20)?[0-9]{2}(?![0-9]|[-./ ][0-9]{2})"
    r"|(?:0?[1-9]|1[0-2])([-./])(?:[0-2]?[0-9]|3[01])\3(?:19|20)[0-9]{2}(?![0-9])"
    r"|(?:19|20)[0-9]{2}\s?[-/]\s?(?:19|20)[0-9]{2}(?![0-9])"
)
_DOTTED: Final = re.compile(
    r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}\Z|[0-9]+\.[0-9]+\Z|[0-9]{1,2}(?:\.[0-9]{1,5}){2}\Z"
)
_THOUSANDS: Final = re.compile(r"[0-9]{1,3}(?:[ .][0-9]{3})+(?:[.,][0-9]{1,2})?\Z")
_BOOK: Final = re.compile(r"97[89][- ]")
_FORMS: Final = re.compile(
    r"""
    \(0?[2-9][0-9]{1,4}\)[ ]?[0-9]{2,4}[-. ]?[0-9]{2,5}(?:[-. ][0-9]{2,4})?       # (030) 123 4567, (555) 123-4567
    | \(0[1-9][0-9]{1,4}\)[ ]?[0-9]{3,8}
    | (?:1[-. ])?[2-9][0-9]{2}([-.])[2-9][0-9]{2}\1[0-9]{4}                          # 555-123-4567
    | 0[1-9](?:[ .-]?[0-9]{2}){4}(?<=[ .-][0-9]{2})                                  # 01 23 45 67 89
    | 0[0-9]{1,4}[-/ ][ ]?[0-9]{2,4}[- ][0-9]{2,4}(?:[- ][0-9]{2,4}){0,2}          # 0500-24 80 29, 070-2336-7350
    | 0[1-9][0-9]{0,3}[-/][ ]?[0-9]{5,8} | 0[1-9][0-9]{1,3}[ ][0-9]{5,8}                                           # 0171/1234567
    | 8[ ]?\([0-9]{3}\)[ ]?[0-9]{3}-[0-9]{2}-[0-9]{2}                                # 8 (912) 345-67-89
    | 01[016789]-[0-9]{3,4}-[0-9]{4}
    | \([0-9]{2}\)[ ]?9?[ ]?[0-9]{4}-[0-9]{4}                                        # (11) 91234-5678
    | \([1-9][0-9]\)[ ]?[0-9]{4,5}-[0-9]{4}
    """,
    re.VERBOSE,
)
_ALONE: Final = 40.0


def country_code(digits: str) -> int:
    """Return how many digits of an international number are its country code, 0 if there is none."""
    if digits[:1] in _ONE:
        return 1
    if digits[:2] in _TWO:
        return 2
    return 3 if digits[:3] in _THREE else 0


def international(text: str, groups: list[tuple[int, int]], first: int) -> tuple[int, int, bool] | None:
    """Read an international number at a group.

    Returns:
        (last group, where it begins, whether it speaks for itself), or None. A number with ``00`` in front
        needs a label: bar codes begin like that too.

    """
    start = groups[first][0]
    plus = text[start - 1 : start] == "+" or text[max(0, start - 2) : start] == "+("
    digits, last = _gather(text, groups, first, MAX_DIGITS if plus else MAX_DIGITS + 2)
    if plus:
        begin = start - 1 if text[start - 1] == "+" else start - 2
        before = text[begin - 1 : begin]
        if before and ((before.isalnum() and before.isascii()) or before in "+=*/^"):
            return None
        raw = text[start : groups[last][1]]
        if "." in raw and _DOTTED.match(raw) and not raw.startswith("1."):
            return None
        usual = country_code(digits) and len(digits) >= MIN_DIGITS + 1
        labelled = len(digits) >= MIN_DIGITS
        return (last, begin, bool(usual)) if usual or labelled else None
    if not digits.startswith("00") or digits[2:3] == "0" or len(digits) < MIN_DIGITS + 3:
        return None
    if not country_code(digits[2:]) and digits[2:3] != "1":
        return None
    return last, start, False


def _gather(text: str, groups: list[tuple[int, int]], first: int, most: int) -> tuple[str, int]:
    """Take digit groups from ``first`` on while they are written as one number of at most so many digits."""
    digits = text[groups[first][0] : groups[first][1]]
    if not digits.isdecimal():
        return "", first
    last = first
    for index in range(first + 1, len(groups)):
        start, end = groups[index]
        piece = text[start:end]
        if (
            not piece.isdecimal()
            or len(digits) + len(piece) > most
            or _SEPARATOR.match(text, groups[last][1], start) is None
            or (len(digits) >= 10 and len(piece) >= 6)  # noqa: PLR2004 (another number begins)
        ):
            break
        digits += piece
        last = index
    return digits, last


def national_possible(text: str, groups: list[tuple[int, int]], first: int) -> int | None:
    """Return the last group of what could be a national number at a group, or None."""
    digits, last = _gather(text, groups, first, _MAX_NATIONAL)
    if not _MIN_NATIONAL <= len(digits) <= _MAX_NATIONAL:
        return None
    raw = text[groups[first][0] : groups[last][1]]
    if (
        _DATE.match(raw)
        or (_DOTTED.match(raw) and raw[0] != "0")
        or _BOOK.match(raw)
        or len(set(digits)) == 1
    ):
        return None
    return None if _THOUSANDS.match(raw) and raw[0] != "0" and raw.count(".") else last


_TRUNK: Final = re.compile(r"0[1-9][0-9 ./-]{7,12}[0-9]")
_MOBILES: Final = (
    (re.compile("[一-龥]"), re.compile(r"1[3-9][0-9]{9}")),
    (re.compile("[\u0430-\u0451]"), re.compile(r"89[0-9]{9}")),
    (re.compile("[ऀ-ॿ]"), re.compile(r"[6-9][0-9]{9}")),
    (
        re.compile("numero|número|número|numer"),
        re.compile(r"3[1-9][0-9][ ]?[0-9]{6,7}|[67][0-9]{2}([ .-])[0-9]{3}\1[0-9]{3}"),
    ),
)


def called_number(raw: str, before: str) -> bool:
    """Tell whether what is called no more than a number is written as a phone of the language of its label.

    Args:
        raw: the number as it is written.
        before: the few characters before it, lower case.

    """
    if _TRUNK.fullmatch(raw):
        return True
    return any(script.search(before) and form.fullmatch(raw) for script, form in _MOBILES)


def national_form(raw: str) -> float:
    """Return how much a spelling alone says that it is a phone: 0 or 40."""
    digits = sum(c.isdigit() for c in raw)
    return _ALONE if 9 <= digits <= 12 and _FORMS.fullmatch(raw) else 0.0  # noqa: PLR2004
