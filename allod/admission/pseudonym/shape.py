"""What a token looks like after a model has written it: its own form, or one of those models make of it.

Tolerated are another case, blanks, hyphens and underscores between the letters, escaped underscores, a lost
or exchanged word, and anything around it. All classes are ASCII on purpose: ignoring case as Unicode does
would make a Kelvin sign of a K.
"""

from __future__ import annotations

import re
from typing import Final

from allod.admission.pseudonym.tokens import CODE_LETTERS, LETTERS, WORDS

BLANKS: Final = " \t\u00a0\u00ad\u200b\u2011\u202f\u2060"
_BETWEEN: Final = rf"(?:[{BLANKS}]|\\{{0,2}}[_-])"
_LETTER: Final = f"[{LETTERS}{LETTERS.lower()}]"
_BEGUN: Final = sorted({word[:size] for word in WORDS for size in range(1, len(word))}, reverse=True)


def _any_case(word: str) -> str:
    return "".join(f"[{c}{c.lower()}]" for c in word)


BEGIN: Final = re.compile(rf"[Qq](?=[Zz\\_{BLANKS}-]|\Z)")
"""Where a token may begin; a Q with anything else behind it is a letter."""
FULL: Final = re.compile(rf"[Qq]{_BETWEEN}{{0,3}}[Zz](?:{_BETWEEN}{{0,3}}{_LETTER}){{{CODE_LETTERS}}}")
"""Mark and letters of a token, whole."""
PARTIAL: Final = re.compile(
    rf"[Qq]{_BETWEEN}{{0,3}}"
    rf"(?:[Zz](?:{_BETWEEN}{{0,3}}{_LETTER}){{0,{CODE_LETTERS - 1}}}{_BETWEEN}{{0,3}})?\\{{0,2}}"
)
"""Mark and letters as far as they go."""
RUN: Final = re.compile("[Qq][Zz]?[A-Za-z0-9]{0,8}")
"""Letters and digits without anything between them, as many as decide."""
SUFFIX: Final = re.compile(
    rf"(?P<between>{_BETWEEN}{{0,3}})(?P<word>{'|'.join(_any_case(word) for word in WORDS)})"
)
SUFFIX_PARTIAL: Final = re.compile(
    rf"(?P<between>{_BETWEEN}{{0,3}})(?:\\{{1,2}}|(?P<word>{'|'.join(_any_case(part) for part in _BEGUN)}))?"
)
"""What may become a suffix; longer beginnings stand first, so that as much as possible is taken."""
GLUED: Final = re.compile(r"\\{0,2}_[A-Za-z0-9]")
"""What stands behind a code that lost its word and means no good: ``_COURRIEL``, ``_7NAME``."""

SUFFIXED: Final = re.compile(rf"_(?:{'|'.join(_any_case(word) for word in WORDS)})")
RESTORED: Final = "\ud800"
"""What a channel remembers in place of a token that it restored; no decoded text holds it."""
WRECK: Final = re.compile(
    rf"(?:(?<![A-Za-z0-9])((?:[Qq][^A-Za-z0-9])?[A-Za-z0-9]{{8,17}})|{RESTORED}[A-Za-z0-9]+)\\{{0,2}}\Z"
)
"""What stands before a word of ours: about as much as a code has, or more than a token has."""

LOOKS: Final = re.compile(
    rf"[Qq]{_BETWEEN}{{0,3}}[Zz](?:(?:{_BETWEEN}{{0,3}}{_LETTER}){{4,}}|{_LETTER}{{2}}"
    r"|[B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{4})"
)
_LOOKS_SUFFIXED: Final = re.compile(
    rf"(?<![A-Za-z0-9])[A-Za-z0-9]{{0,2}}[QqZz][^A-Za-z0-9]?[A-Za-z0-9]{{5,17}}\\{{0,2}}{SUFFIXED.pattern}"
)

CONSONANTS: Final = frozenset("BCDFGHJKLMNPQRSTVWXYZ")
Style = str
"""``upper``, ``lower``, ``title``, ``mixed``."""


def look_alikes(text: str) -> list[tuple[int, int]]:
    """Return all places a channel might take for a token: what no text may hold that leaves uncovered."""
    places: list[tuple[int, int]] = []
    if "Q" in text or "q" in text:
        places += [match.span() for match in LOOKS.finditer(text)]
    if "_" in text and SUFFIXED.search(text):
        places += [match.span() for match in _LOOKS_SUFFIXED.finditer(text)]
    return places


def is_wreck(text: str) -> bool:
    """Tell whether letters before a word of ours are what is left of a code: its mark, and few vowels."""
    letters = text.upper()
    begins = "Q" in letters[:3] or "Z" in letters[:3]
    return begins and sum(c in CONSONANTS for c in letters) >= len(letters) - 3


def letters_of(text: str) -> str:
    """Return the ASCII letters of a text in upper case."""
    if text.isalpha() and text.isascii():
        return text.upper()
    return "".join(c for c in text if c.isascii() and c.isalpha()).upper()


def style_of(text: str) -> Style:
    """Return the case that a token, or a word, is written in; a single capital is upper case."""
    if text.isupper():
        return "upper"
    if text.islower():
        return "lower"
    return "title" if text[:1].isupper() and text[1:].islower() else "mixed"


def continues(style: Style, letter: str) -> bool:
    """Tell whether a letter right behind a word written in a style belongs to it."""
    return letter.isascii() and letter.isalpha() and letter.isupper() == (style == "upper")
