"""Who may be sent what, before and after a change: the whole fleet, asked for every class and pair. Pure.

A request is the app's own classes, what a task adds, and any label or pair of labels a caller may add. Each
is decided under the old law and facts and under the new ones; what only the new ones allow is a widening.
Asked are today and the coming days on which facts, rules or packs begin or end; where there are more of
those than ``MAX_DAYS``, that is said, and whoever judges must take it for a widening.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from itertools import combinations
from typing import Any, Final

import msgspec

from allod.domain.classes import expand
from allod.domain.fleet import App, Fleet
from allod.policy.forms import Rule
from allod.policy.policy import Policy, PolicyQuestion

MAX_DAYS: Final = 24
MAX_PURPOSES: Final = 16
Progress = Callable[[int, int], None]


class Way(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One way data may take: this app, with these labels added, may be answered by this deployment.

    ``classes`` are the labels a caller adds (none, one or two); ``task`` and ``purpose`` as stated, or "".
    ``day`` is the first day asked on which it is so; ``link_up`` False: also or only with the link down.
    """

    app: str
    deployment: str
    classes: tuple[str, ...] = ()
    task: str = ""
    purpose: str = ""
    link_up: bool = True
    day: date = date.min

    def text(self) -> str:
        """Return ``app press with personal -> frankfurt``."""
        more = [f"with {' and '.join(self.classes)}"] if self.classes else []
        more += [f"for task {self.task}"] if self.task else []
        more += [f"for {self.purpose}"] if self.purpose else []
        more += [] if self.link_up else ["while the link is down"]
        return " ".join(["app", self.app, *more, "->", self.deployment, f"(from {self.day})"])


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """What a change opens and closes; ``partial`` if not every coming day or purpose could be asked.

    Of ways that go with each other (with and without a further label, task or purpose) the plainest is kept.
    """

    opened: tuple[Way, ...] = ()
    closed: tuple[Way, ...] = ()
    questions: int = 0
    days: tuple[date, ...] = ()
    partial: bool = False

    @property
    def widens(self) -> bool:
        """Whether anything is newly allowed, or could be."""
        return bool(self.opened) or self.partial


class _Side:
    """One of the two worlds, and what it answered."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.fleet = policy, policy.fleet
        self._answers: dict[tuple[Any, ...], frozenset[str]] = {}
        self._alike = _alike(policy)
        self._reads_purpose = any(_reads_purpose(rule) for rule in policy.rules.values())

    def kept(self, way: Way, day: date) -> frozenset[str]:
        """Return the deployments such a request may reach; none where it would not be admitted."""
        app = self.fleet.apps.get(way.app)
        task = self.fleet.tasks.get(way.task) if way.task else None
        if app is None or (way.purpose and app.purposes and way.purpose not in app.purposes):
            return frozenset()
        labels = (name for name in way.classes if name in self.policy.classes)
        classes = expand((*_own(self.fleet, app), *(task.classes if task else ()), *labels))
        purpose = way.purpose if way.purpose and self._reads_purpose else None
        asked = (self._alike[app.id], classes, day, purpose, way.link_up, app.pseudonymise)
        kept = self._answers.get(asked)
        if kept is None:
            question = PolicyQuestion(
                app=app.id,
                classes=classes,
                day=day,
                purpose=purpose,
                link_up=way.link_up,
                pseudonymised=app.pseudonymise,
            )
            kept = self._answers[asked] = self.policy.kept(question)
        return kept if task is None or not task.deployments else kept & frozenset(task.deployments)


def compare(before: Policy, after: Policy, day: date, progress: Progress = lambda _n, _of: None) -> Reach:
    """Ask every way under both; ``day`` is today, ``progress`` is told (days done, days in all)."""
    old, new = _Side(before), _Side(after)
    days, partial = _days(before, after, day)
    purposes = {app: _purposes(old, new, app) for app in (*old.fleet.apps, *new.fleet.apps)}
    partial = partial or any(len(found) > MAX_PURPOSES for found in purposes.values())
    ways = list(_ways(old, new, purposes))
    opened: dict[Any, Way] = {}
    closed: dict[Any, Way] = {}
    for n, today in enumerate(days):
        for way in ways:
            was, now = old.kept(way, today), new.kept(way, today)
            for names, into in ((now - was, opened), (was - now, closed)):
                for name in names:
                    found = msgspec.structs.replace(way, deployment=name, day=today)
                    into.setdefault((name, way), found)
        progress(n + 1, len(days))
    return Reach(
        opened=_plainest(opened.values()),
        closed=_plainest(closed.values()),
        questions=2 * len(days) * len(ways),
        days=days,
        partial=partial,
    )


def _plainest(ways: Iterable[Way]) -> tuple[Way, ...]:
    """Drop each way that says no more than a plainer one that is there too."""
    kept: dict[tuple[str, str, date], list[Way]] = {}
    for way in sorted(ways, key=lambda w: (len(w.classes), bool(w.task), bool(w.purpose), not w.link_up, w)):
        plainer = kept.setdefault((way.app, way.deployment, way.day), [])
        if not any(_covers(other, way) for other in plainer):
            plainer.append(way)
    return tuple(sorted(way for found in kept.values() for way in found))


def _covers(plain: Way, way: Way) -> bool:
    return (
        set(plain.classes) <= set(way.classes)
        and plain.task in ("", way.task)
        and plain.purpose in ("", way.purpose)
        and (plain.link_up or not way.link_up)
    )


def _days(before: Policy, after: Policy, day: date) -> tuple[tuple[date, ...], bool]:
    found = {day}
    for policy in (before, after):
        at: date | None = day
        while at is not None and len(found) <= 2 * MAX_DAYS:
            turn_ms = policy.valid_until_ms(at)
            at = None if turn_ms is None else datetime.fromtimestamp(turn_ms // 1000, UTC).date()
            if at is not None:
                found.add(at)
    ordered = sorted(found)
    return tuple(ordered[:MAX_DAYS]), len(ordered) > MAX_DAYS


def _ways(old: _Side, new: _Side, purposes: Mapping[str, list[str]]) -> Iterator[Way]:
    """Yield every way worth asking: an app that is gone can open nothing, but what it closes is told."""
    classes = sorted(old.policy.classes | new.policy.classes)
    singles = [(name,) for name in classes]
    labels = [(), *singles, *combinations(classes, 2)]
    tasks = dict.fromkeys((*old.fleet.tasks, *new.fleet.tasks))
    for app, stated in purposes.items():
        for purpose in stated[:MAX_PURPOSES]:
            for link_up in (True, False):
                for added in labels:
                    yield Way(app=app, deployment="", classes=added, purpose=purpose, link_up=link_up)
                for task in tasks:
                    for added in ((), *singles):
                        yield Way(
                            app=app,
                            deployment="",
                            classes=added,
                            task=task,
                            purpose=purpose,
                            link_up=link_up,
                        )


def _purposes(old: _Side, new: _Side, app: str) -> list[str]:
    """Return purposes the app may state that could matter: its own, and those a rule names."""
    found: dict[str, None] = {"": None}
    for side in (old, new):
        mine = side.fleet.apps.get(app)
        found |= dict.fromkeys(mine.purposes if mine else ())
        for rule in side.policy.rules.values():
            if _reads_purpose(rule):
                found |= dict.fromkeys(_texts(rule.policy.get("conditions")))
    return list(found)


def _reads_purpose(rule: Rule) -> bool:
    return any(path == "context" or path.startswith("context.purpose") for path in rule.reads)


def _alike(policy: Policy) -> dict[str, str]:
    """Name for each app the first that no rule can tell from it; each stands for itself where one is named.

    Its classes are part of the question, not of what rules read of an app.
    """
    if any("Allod::App::" in pack.text for pack in policy.packs):
        return dict(zip(policy.fleet.apps, policy.fleet.apps, strict=True))
    first: dict[bytes, str] = {}
    out = {}
    for app in policy.fleet.apps.values():
        read = msgspec.structs.replace(app, id="", classes=None)
        out[app.id] = first.setdefault(msgspec.json.encode(read), app.id)
    return out


def _texts(node: Any) -> Iterator[str]:
    """Yield the string literals of a policy in Cedar's JSON form."""
    if isinstance(node, dict):
        value = node.get("Value")
        if isinstance(value, str):
            yield value
        for item in node.values():
            yield from _texts(item)
    elif isinstance(node, list):
        for item in node:
            yield from _texts(item)


def _own(fleet: Fleet, app: App) -> tuple[str, ...]:
    return app.classes or fleet.tenant.default_classes
