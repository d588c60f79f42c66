"""What a new version of a pack says differently: rules, duties, lists, and the frame around them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import msgspec

from allod.policy.lists import ListRow
from allod.policy.pack import Pack, Rule

_T = TypeVar("_T")
_OF_RULE: Final = ("effect", "law", "text", "remedy", "policy", "since", "until", "unverified", "texts")
_OF_PACK: Final = (
    "version", "status", "title", "jurisdiction", "applies_to", "requires", "valid_from", "valid_until",
    "reviewer", "reviewed_on", "max_age_days", "min_grade", "classes",
)  # fmt: skip


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that both versions have, and in what it differs: ``(field, before, after)``."""

    id: str
    fields: tuple[tuple[str, str, str], ...]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Things of a kind: those that came, went and changed."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[Changed, ...] = ()

    @property
    def same(self) -> bool:
        """Whether nothing of this kind differs."""
        return not (self.added or self.removed or self.changed)


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """Two versions compared; ``frame`` is the manifest, ``lists`` are rows by list and place."""

    frame: tuple[tuple[str, str, str], ...]
    rules: Part
    duties: Part
    lists: Part
    names: Part
    theorems: Part
    cases: Part

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        parts = (self.rules, self.duties, self.lists, self.names, self.theorems, self.cases)
        return not self.frame and all(part.same for part in parts)


def delta(old: Pack, new: Pack) -> Delta:
    """Compare two versions of a pack, or two packs."""
    return Delta(
        frame=_fields(old.manifest, new.manifest, _OF_PACK),
        rules=_part(old.rules, new.rules, lambda rule: rule.id, _rule),
        duties=_part(old.obligations, new.obligations, lambda duty: duty.article),
        lists=_part(_rows(old), _rows(new), lambda row: row[0], lambda a, b: _fields(a[1], b[1])),
        names=_part(old.names, new.names, lambda name: f"{name.kind} {name.name}"),
        theorems=_part(old.theorems, new.theorems, lambda theorem: theorem.id),
        cases=_part(old.cases, new.cases, lambda case: case.name),
    )


def _rule(old: Rule, new: Rule) -> tuple[tuple[str, str, str], ...]:
    found = _fields(old, new, _OF_RULE)
    return tuple(
        ("conditions", "", "") if name == "policy" else (name, before, after) for name, before, after in found
    )


def _rows(pack: Pack) -> list[tuple[str, ListRow]]:
    """Return the rows of all lists by list and place; a second row of the same place by its number."""
    rows: list[tuple[str, ListRow]] = []
    seen: dict[str, int] = {}
    for one in pack.lists:
        rows += [(f"{one.id} includes {other}", ListRow(place=other)) for other in one.includes]
        for row in one.row:
            name = f"{one.id} {row.place}"
            seen[name] = seen.get(name, 0) + 1
            rows.append((name if seen[name] == 1 else f"{name} ({seen[name]})", row))
    return rows


def _part(
    old: Iterable[_T],
    new: Iterable[_T],
    name: Callable[[_T], str],
    compare: Callable[[_T, _T], tuple[tuple[str, str, str], ...]] | None = None,
) -> Part:
    before, after = {name(one): one for one in old}, {name(one): one for one in new}
    changed = []
    for one, was in before.items():
        if one in after and was != after[one]:
            changed.append(Changed(id=one, fields=(compare or _fields)(was, after[one])))
    return Part(
        added=tuple(one for one in after if one not in before),
        removed=tuple(one for one in before if one not in after),
        changed=tuple(one for one in changed if one.fields),
    )


def _fields(old: Any, new: Any, names: Iterable[str] | None = None) -> tuple[tuple[str, str, str], ...]:
    wanted = names if names is not None else old.__struct_fields__
    return tuple(
        (name, _text(getattr(old, name)), _text(getattr(new, name)))
        for name in wanted
        if getattr(old, name) != getattr(new, name)
    )


def _text(value: Any) -> str:
    if value is None or value in ("", ()):
        return "none"
    if isinstance(value, tuple | list):
        return ", ".join(_text(one) for one in value)
    return str(value)
