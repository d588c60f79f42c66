"""Countries as people write them: two letters, three, or a name the grids of the catalogue have."""

from __future__ import annotations

from typing import Final

from allod.domain.errors import Invalid
from allod.domain.jurisdiction import ALPHA3

_FORMERLY: Final = {"UK": "GB", "EL": "GR"}
"""Codes that are written and are none, with those that are meant."""


def code_of(text: str) -> str | None:
    """Return the code of a country (ISO 3166-1 alpha-2), None where it is not known."""
    from allod.planner.catalogue import grid  # noqa: PLC0415 (only when it runs)

    word = text.strip()
    by_three = {three: two for two, three in ALPHA3.items()}
    names = {row.country.lower(): row.iso3 for row in grid().values()}
    plain = word.upper()
    return plain if plain in ALPHA3 else by_three.get(plain) or by_three.get(names.get(word.lower(), ""))


def nearest(text: str) -> str:
    """Return the countries that are nearest to what was written, with their codes; empty if none is."""
    from difflib import get_close_matches  # noqa: PLC0415

    from allod.planner.catalogue import grid  # noqa: PLC0415 (only when it runs)

    word = text.strip()[:60]
    by_name = {row.country: row.iso3 for row in grid().values()}
    meant = ALPHA3.get(_FORMERLY.get(word.upper(), ""))
    found = [name for name, three in by_name.items() if three == meant]
    found = found or get_close_matches(word.title(), by_name, 3, 0.5)
    if not found and len(word) <= len("DEU"):
        close = get_close_matches(word.upper(), by_name.values(), 3, 0.6)
        found = [name for name, three in by_name.items() if three in close]
    twos = {three: two for two, three in ALPHA3.items()}
    return ", ".join(f"{one} ({twos.get(by_name[one], '')}, {by_name[one]})" for one in found)


def country_code(text: str, param: str) -> str:
    """Return the code of a country (ISO 3166-1 alpha-2).

    Raises:
        Invalid: there is none; the nearest are named.

    """
    found = code_of(text)
    if found is not None:
        return found
    near = nearest(text)
    raise Invalid(
        f"{text[:40]!r} is no country",
        f"the nearest are {near}" if near else "expected an ISO 3166-1 code or a name",
        "write CN, CHN or China",
        param=param,
    )
