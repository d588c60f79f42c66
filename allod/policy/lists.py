"""Dated lists of places that packs bring along: adequacy decisions, negative lists, localisation rules.

A row holds from ``since`` to the day before ``until``. A list may include others; all lists of the packs in
force are read together, so that one pack can build on another's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

import msgspec

from allod.domain import jurisdiction
from allod.domain.errors import Invalid


class ListRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry: a country code or bloc, the days it holds, and the act it stands on."""

    place: str
    since: date | None = None
    until: date | None = None
    source: str = ""
    note: str = ""

    def holds_on(self, day: date) -> bool:
        """Tell whether the entry holds on this UTC day."""
        return (self.since is None or self.since <= day) and (self.until is None or day < self.until)


class PlaceList(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named list of places; ``includes`` names lists whose places are in it too."""

    id: str
    text: str = ""
    includes: tuple[str, ...] = ()
    row: tuple[ListRow, ...] = ()


def join(lists: Iterable[PlaceList]) -> dict[str, PlaceList]:
    """Index the lists of all packs in force.

    Raises:
        Invalid: an id is there twice, a row names no jurisdiction or ends before it begins, a list includes
            one that does not exist, or lists include each other in a circle.

    """
    found: dict[str, PlaceList] = {}
    for one in lists:
        if one.id in found:
            raise Invalid(f"two lists are called {one.id!r}", "a list has one owner", "rename one")
        for row in one.row:
            jurisdiction.check(row.place, f"list {one.id}")
            if row.since is not None and row.until is not None and row.until <= row.since:
                raise Invalid(
                    f"list {one.id!r}: the entry of {row.place} ends before it begins", "", "correct it"
                )
        found[one.id] = one
    _check_includes(found)
    return found


def codes_on(name: str, lists: Mapping[str, PlaceList], day: date) -> frozenset[str]:
    """Return the country codes of a list on a day, blocs and included lists expanded."""
    return frozenset().union(*(_own_on(lists[each], day) for each in _walk(name, lists)))


def turns(lists: Mapping[str, PlaceList]) -> frozenset[date]:
    """Return the days on which some list changes."""
    rows = [row for one in lists.values() for row in one.row]
    return frozenset(day for row in rows for day in (row.since, row.until) if day is not None)


def encode(lists: Mapping[str, PlaceList], day: date) -> list[dict[str, Any]]:
    """Return the lists as entities in Cedar's JSON format."""
    return [
        {
            "uid": {"type": "Allod::List", "id": name},
            "attrs": {"codes": sorted(codes_on(name, lists, day))},
            "parents": [],
        }
        for name in lists
    ]


def _own_on(one: PlaceList, day: date) -> frozenset[str]:
    return jurisdiction.expand(row.place for row in one.row if row.holds_on(day))


def _walk(name: str, lists: Mapping[str, PlaceList]) -> frozenset[str]:
    """Return a list and everything it includes, each looked at once however many ways lead to it."""
    found = {name}
    todo = [name]
    while todo:
        for other in lists[todo.pop()].includes:
            if other not in found:
                found.add(other)
                todo.append(other)
    return frozenset(found)


def _check_includes(lists: Mapping[str, PlaceList]) -> None:
    """Refuse includes of lists that do not exist, and circles."""
    done: set[str] = set()
    for start in lists:
        above: dict[str, None] = {}
        todo = [(start, False)]
        while todo:
            name, left = todo.pop()
            if left:
                above.pop(name)
                done.add(name)
                continue
            if name in above:
                circle = list(above)
                circle = circle[circle.index(name) :]
                raise Invalid(
                    "lists include each other in a circle", " > ".join((*circle, name)), "remove one include"
                )
            if name in done:
                continue
            above[name] = None
            todo.append((name, True))
            for other in lists[name].includes:
                if other not in lists:
                    raise Invalid(
                        f"list {name!r} includes {other!r}, which does not exist", "", "correct the name"
                    )
                todo.append((other, False))
