"""What proofs and decisions lean on: facts by their configuration names, their grade and their age."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from allod.domain.facts import Fact
from allod.domain.fleet import Fleet
from allod.policy.facts import (
    DEPLOYMENT_FACTS,
    EVIDENCE,
    OPERATOR_FACTS,
    Calendar,
    Reading,
    Subject,
    subjects,
)

_PREFIXES: Final = (
    ("resource.operator.", "operator."),
    ("principal.tenant.", "tenant."),
    ("resource.weights", "weights"),
    ("resource.", "deployment."),
    ("principal.", "app."),
    ("context.", "request."),
)


class Lean(msgspec.Struct, frozen=True, kw_only=True):
    """One fact of a fleet that proofs or decisions lean on.

    Attributes:
        path: its place in the configuration (``deployment.ward-llm.processing``).
        grade, source: as declared; empty where nothing is.
        as_of: the day its evidence speaks of, ISO 8601; ``age_days`` its age; both None where it has no date.
        expires: the first day on which it no longer holds, ISO 8601, or None.
        state: ``known``, ``missing``, ``expired``, ``stale``, ``weak`` (below the demanded grade), ``empty``.

    """

    path: str
    state: str
    grade: str = ""
    as_of: str | None = None
    age_days: int | None = None
    expires: str | None = None
    source: str = ""


def paths(node: Any) -> frozenset[str]:
    """Return the attribute paths an expression reads, of a path its longest form."""
    found: set[str] = set()
    todo = [node]
    while todo:
        at = todo.pop()
        path = _path(at)
        if path:
            found.add(path)
        elif isinstance(at, list):
            todo += at
        elif isinstance(at, dict):
            todo += at.values()
    return frozenset(found)


def _path(node: Any) -> str:
    match node:
        case {"Var": str() as name}:
            return name
        case {".": {"left": left, "attr": str() as attr}} | {"has": {"left": left, "attr": str() as attr}}:
            before = _path(left)
            return f"{before}.{attr}" if before else ""
        case _:
            return ""


def fact_names(read: Iterable[str]) -> tuple[str, ...]:
    """Return what is read by its name in the configuration, such as ``operator.seat``."""
    found = set()
    for path in read:
        for prefix, label in _PREFIXES:
            if path.startswith(prefix):
                rest = path.removeprefix(prefix).split(".")[0]
                found.add(label if label == "weights" else label + rest)
                break
    return tuple(sorted(found - {"deployment.operator", "app.tenant"}))


def leans(fleet: Fleet, names: Iterable[str], calendar: Calendar) -> tuple[Lean, ...]:
    """Return how each of these facts stands in a fleet on a day, in configuration order, each once."""
    wanted = set(names)
    found: dict[str, Lean] = {}
    for subject in subjects(fleet).values():
        for reading in _readings(subject, wanted, calendar):
            found.setdefault(reading.path, _lean(reading.path, reading.fact, reading.state, calendar))
    for path, fact in _ours(fleet, wanted):
        state = "known" if calendar.holds(fact, own=True) else "expired or stale"
        found[path] = _lean(path, fact, state, calendar)
    return tuple(found.values())


def _readings(subject: Subject, wanted: set[str], calendar: Calendar) -> Iterator[Reading]:
    """Yield the wanted facts of a deployment and its operator; the deployment's evidence is both's."""
    for kind, facts in (("deployment", DEPLOYMENT_FACTS), ("operator", OPERATOR_FACTS)):
        for name in facts:
            if f"{kind}.{name}" in wanted:
                yield calendar.read(subject, name)
        for name in EVIDENCE:
            if not wanted.isdisjoint({f"deployment.{name}", f"{kind}.{name}"}):
                yield from calendar.evidence(subject, f"{kind}.{name}")


def _ours(fleet: Fleet, wanted: set[str]) -> Iterator[tuple[str, Fact[Any]]]:
    """Yield the wanted evidence about ourselves: the tenant's and its apps'."""
    if "tenant.attestations" in wanted:
        for name, fact in sorted(fleet.tenant.attestations.items()):
            yield f"tenant.{fleet.tenant.id}.attestations.{name}", fact
    if "app.attestations" in wanted:
        for app in fleet.apps.values():
            for name, fact in sorted(app.attestations.items()):
                yield f"app.{app.id}.attestations.{name}", fact


def _lean(path: str, fact: Fact[Any] | None, state: str, calendar: Calendar) -> Lean:
    if fact is None:
        return Lean(path=path, state=state)
    return Lean(
        path=path,
        state=state,
        grade=fact.grade,
        as_of=None if fact.as_of is None else str(fact.as_of),
        age_days=None if fact.as_of is None else (calendar.day - fact.as_of).days,
        expires=None if fact.expires is None else str(fact.expires),
        source=fact.source or "",
    )
