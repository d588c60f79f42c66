"""Scenarios, risks and flashpoints: their odds, the signs that they come, and what contradicts itself.

Scenarios exclude each other and sum to one over the horizon; risks and flashpoints are ranges of their own. A
scenario may contain a risk: where the scenario is so, the risk is. Signs that were ticked move a range
towards its upper end by their share of all signs of it; nothing else moves any odds.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.errors import Invalid
from allod.drills.reading import nearest, parse, read

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TOLERANCE: Final = Decimal("0.0001")
MOST_DAYS: Final = 3650
MOST_YEARS: Final = 50
GROUPS: Final = ("scenario", "risk", "flashpoint")


class Days(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many days a disruption lasts if nothing is done: from ``low`` to ``high``."""

    low: int
    high: int


class _Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What scenarios and risks have in common.

    Attributes:
        worlds: drills that say what it means; several come together.
        days: how long if nothing is done.
        indicators: signs that it comes, by id.

    """

    title: str
    worlds: tuple[str, ...]
    days: Days
    as_of: dt.date
    source: str
    text: str = ""
    timing: str = ""
    indicators: dict[str, str] = {}


class Scenario(_Head, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of several worlds of which exactly one comes; ``contains`` are risks that are so in it."""

    probability: Decimal
    contains: tuple[str, ...] = ()


class Risk(_Head, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that comes with a probability from ``low`` to ``high`` over the horizon.

    ``independent``: it has nothing to do with the scenarios, so that none of them has to contain it.
    """

    low: Decimal
    high: Decimal
    independent: bool = False


class Odds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that may come: scenarios, risks and flashpoints by id, over so many years."""

    horizon_years: Decimal
    horizon_source: str = ""
    scenario: dict[str, Scenario]
    risk: dict[str, Risk]
    flashpoint: dict[str, Risk] = {}


class Contradiction(msgspec.Struct, frozen=True, kw_only=True):
    """Odds that cannot all be right, and how far apart they are (a probability)."""

    what: str
    why: str
    gap: Decimal
    names: tuple[str, ...]


class Tick(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sign that was seen: which (``risk/id``), on which day, by whom or where."""

    sign: str
    day: dt.date
    note: str = ""


class Ticks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The signs an organisation has ticked."""

    tick: tuple[Tick, ...] = ()


def together(worlds: Iterable[str]) -> str:
    """Return the name of the world in which all of these are so, as ``allod drill run`` takes it."""
    return "+".join(worlds)


def shipped() -> dict[str, Any]:
    """Return the shipped odds as data."""
    return parse(
        resources.files("allod.drills").joinpath("data/scenarios.toml").read_bytes(), "scenarios.toml"
    )


def odds(
    scenario: Mapping[str, Any] | None = None,
    risk: Mapping[str, Any] | None = None,
    flashpoint: Mapping[str, Any] | None = None,
) -> Odds:
    """Return the shipped odds with an organisation's own in their place.

    A table of its own changes the keys it names of a shipped one of the same id, and adds others.

    Raises:
        Invalid: an unknown key, a probability outside 0 to 1, a range the wrong way round, scenarios that do
            not sum to one, a scenario that contains no known risk.

    """
    data = shipped()
    for group, own in zip(GROUPS, (scenario, risk, flashpoint), strict=True):
        for name, table in (own or {}).items():
            if not isinstance(table, dict):
                raise Invalid(f"{group}.{name} is no table", f"got {table!r}", "correct it")
            data[group][name] = {**data[group].get(name, {}), **table}
    made = read(data, Odds, "odds")
    check(made)
    return made


def check(made: Odds) -> None:
    """Refuse odds that are none (raises ``Invalid``)."""
    if not made.horizon_years.is_finite() or not 0 < made.horizon_years <= MOST_YEARS:
        raise Invalid("horizon_years is no span", f"got {made.horizon_years}", f"expected up to {MOST_YEARS}")
    for name, one in made.scenario.items():
        _share(one.probability, f"scenario.{name}.probability")
        for inside in one.contains:
            if inside not in made.risk:
                hint = nearest(inside, made.risk)
                raise Invalid(
                    f"scenario.{name} contains risk {inside!r}, which is not there{hint}",
                    "known: " + ", ".join(made.risk),
                    "correct the name",
                )
    for name, risk in (*made.risk.items(), *made.flashpoint.items()):
        _share(risk.low, f"{name}.low")
        _share(risk.high, f"{name}.high")
        if risk.low > risk.high:
            raise Invalid(f"{name}: low is above high", f"got {risk.low} and {risk.high}", "swap them")
    heads: list[tuple[str, Scenario | Risk]] = [*made.scenario.items(), *made.risk.items()]
    for name, each in (*heads, *made.flashpoint.items()):
        _meant(name, each)
    if made.scenario:
        total = sum((one.probability for one in made.scenario.values()), Decimal(0))
        if abs(total - 1) > TOLERANCE:
            raise Invalid(
                "the probabilities of the scenarios do not sum to one",
                " + ".join(f"{one.probability}" for one in made.scenario.values()) + f" = {total}",
                "exactly one of them comes: correct them, or add one for all else",
            )


def _meant(name: str, each: Scenario | Risk) -> None:
    if not 0 <= each.days.low <= each.days.high <= MOST_DAYS or not each.worlds:
        raise Invalid(
            f"{name}: days or worlds cannot be meant",
            f"got {each.days.low} to {each.days.high} days, worlds {list(each.worlds)}",
            f"write 0 <= low <= high <= {MOST_DAYS}, and name a world",
        )


def _share(value: Decimal, where: str) -> None:
    if not value.is_finite() or not 0 <= value <= 1:
        raise Invalid(f"{where} is no probability", f"got {value}", "expected 0 to 1")


def contradictions(made: Odds) -> list[Contradiction]:
    """Name odds that contradict each other, the widest gap first.

    A risk comes at least as often as the scenarios that contain it together. Where every scenario is listed
    and some contain it, what it comes more often than they do is explained by none.
    """
    out = []
    for name, risk in made.risk.items():
        holding = {key: one.probability for key, one in made.scenario.items() if name in one.contains}
        total = sum(holding.values(), Decimal(0))
        said = " + ".join(f"{key} {value}" for key, value in holding.items())
        if holding and risk.high < total:
            out.append(
                Contradiction(
                    what=f"risk {name} at {risk.low} to {risk.high} is rarer than scenarios that contain it",
                    why=f"{said} = {total}: where one of these is so, the risk is so",
                    gap=total - risk.high,
                    names=(name, *holding),
                )
            )
        elif holding and risk.low > total:
            out.append(
                Contradiction(
                    what=f"risk {name} at {risk.low} to {risk.high} stands beside {said}",
                    why=f"only these scenarios contain it; {risk.low - total} to {risk.high - total} is left "
                    "that no scenario explains, though scenarios sum to one",
                    gap=risk.low - total,
                    names=(name, *holding),
                )
            )
        elif not holding and not risk.independent:
            out.append(
                Contradiction(
                    what=f"risk {name} at {risk.low} to {risk.high} is in no scenario",
                    why="scenarios sum to one, so every one of them is taken to leave it out; say which "
                    "contains it, or read it as independent of all of them",
                    gap=risk.low,
                    names=(name,),
                )
            )
    return sorted(out, key=lambda one: (-one.gap, one.names))


def signs(made: Odds) -> dict[str, str]:
    """Return every sign there is, by ``id of what it is of/id``."""
    groups = (made.scenario.items(), made.risk.items(), made.flashpoint.items())
    return {
        f"{name}/{sign}": text
        for group in groups
        for name, one in group
        for sign, text in one.indicators.items()
    }


def ticked(made: Odds, ticks: Iterable[Tick]) -> dict[str, float]:
    """Return what share of its signs is ticked, by what they are of (those of none are left out)."""
    seen = {one.sign for one in ticks}
    out: dict[str, float] = {}
    for group in (made.scenario, made.risk, made.flashpoint):
        for name, one in group.items():
            found = sum(f"{name}/{sign}" in seen for sign in one.indicators)
            if found:
                out[name] = found / len(one.indicators)
    return out


def read_ticks(raw: bytes, made: Odds) -> Ticks:
    """Read the signs that were ticked.

    Raises:
        Invalid: it cannot be read, or a sign is none.

    """
    found = read(parse(raw, "ticks.toml"), Ticks, "ticks.toml")
    for one in found.tick:
        check_sign(one.sign, made)
    return found


def check_sign(sign: str, made: Odds) -> None:
    """Refuse a sign that is none (raises ``Invalid``)."""
    known = signs(made)
    if sign not in known:
        raise Invalid(
            f"{sign[:80]!r} is no sign{nearest(sign, known)}",
            "known: " + ", ".join(known),
            "name one of these: `allod drill expected` lists them",
        )


def moved(low: float, high: float, share: float) -> tuple[float, float]:
    """Return a range whose lower end is moved towards the upper by the share of signs that are ticked."""
    return low + (high - low) * min(max(share, 0.0), 1.0), high
