"""A pack for a country that has none: files that deny until somebody who knows its law has filled them.

Nothing here is law. Every rule is marked ``@verified("no")``, every source is ``read = "none"``, the lists
hold nothing but the country itself, and the obligations are the questions that a lawyer of the country must
answer. The worked cases and the theorems describe what the files do as they stand.
"""

from __future__ import annotations

import difflib
from datetime import date
from typing import Final

from allod.domain import jurisdiction
from allod.domain.errors import Invalid
from allod.policy.countries import NAMES
from allod.policy.skeleton_texts import CASES, LISTS, MANIFEST, NAMED, POLICIES, QUESTIONS, THEOREMS, WEIGHTS

_OTHERWISE: Final = {"UK": "GB", "EL": "GR"}
_FALLBACK: Final = ("US", "FR")
"""Some other country for the cases to send data to: the first that is not the pack's own."""


def country_code(word: str) -> str:
    """Return the ISO 3166-1 code for a code in any case or an English name.

    Raises:
        Invalid: it is neither; the nearest is named. A bloc is no country.

    """
    code = word.strip().upper()
    if code in jurisdiction.COUNTRIES:
        return code
    named = {name.casefold(): each for each, name in NAMES.items()}
    if word.strip().casefold() in named:
        return named[word.strip().casefold()]
    if code in jurisdiction.BLOCS:
        members = " ".join(sorted(jurisdiction.BLOCS[code]))
        raise Invalid(
            f"{code} is a bloc", "a skeleton is of one country", f"one of {members}", param="country"
        )
    raise Invalid(
        f"{word[:64]!r} is no country",
        "expected an ISO 3166-1 code or an English name",
        f"did you mean {_nearest(word, code)}?",
        param="country",
    )


def skeleton_id(country: str) -> str:
    """Return the id of a country's skeleton; its folder has ``_`` for ``-``."""
    return f"{country.lower()}-law"


def skeleton(country: str, day: date) -> dict[str, bytes]:
    """Return the files of a skeleton, by path within its folder.

    Args:
        country: an ISO 3166-1 alpha-2 code.
        day: the UTC day it is written on, which is the day of its cases.

    Raises:
        Invalid: the country is not known.

    """
    code = country_code(country)
    words = {
        "ID": skeleton_id(code),
        "CC": code,
        "CLASS": f"{code.lower()}-localised",
        "GROUND": f"{code.lower()}-sensitive-ground",
        "NAME": NAMES[code],
        "DAY": day.isoformat(),
        "OTHER": next(other for other in _FALLBACK if other != code),
    }
    texts = {
        "pack.toml": MANIFEST,
        "policies.cedar": POLICIES,
        "theorems.toml": THEOREMS,
        "obligations.toml": QUESTIONS,
        "facts/lists.toml": LISTS,
        "facts/names.toml": NAMED,
        "facts/weights.toml": WEIGHTS,
        "cases/skeleton.toml": CASES,
    }
    return {path: _filled(text, words).encode() for path, text in texts.items()}


def _filled(text: str, words: dict[str, str]) -> str:
    for name, word in words.items():
        text = text.replace("{{" + name + "}}", word)
    return text.lstrip("\n")


def _nearest(word: str, code: str) -> str:
    """Name the country that was most likely meant, by its everyday code, its name, or its code."""
    if code in _OTHERWISE:
        return f"{_OTHERWISE[code]} ({NAMES[_OTHERWISE[code]]})"
    names = {name.casefold(): each for each, name in NAMES.items()}
    close = difflib.get_close_matches(word.strip().casefold()[:64], list(names), 1, 0.6)
    if close:
        return f"{names[close[0]]} ({NAMES[names[close[0]]]})"
    (near,) = difflib.get_close_matches(code[:64], sorted(jurisdiction.COUNTRIES), 1, 0.0)
    return f"{near} ({NAMES[near]})"
