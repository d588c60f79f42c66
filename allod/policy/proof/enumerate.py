"""Today's fleet, asked for every class, every pair of classes and all of them, with every flag: no solver.

A proof speaks of every configuration there could be; this speaks of the one there is: rules that never decide
anything in it, deployments nothing ever reaches, classes nobody may see. Decided by the compiled rules, each
judged once per part of the question that it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import combinations, product
from typing import Any, Final

import msgspec

from allod.domain.classes import BASE_CLASSES, expand
from allod.domain.fleet import Fleet
from allod.policy import facts
from allod.policy.closures import Env, Uid, store_of, value_of
from allod.policy.compiler import Program, compile_rule
from allod.policy.pack import PERMIT, Rule
from allod.policy.proof.law import Law

Told = Callable[[int, int], None]
_DISPATCH: Final = Uid("Allod::Action", "dispatch")
_CLASSES: Final = "classes"


class Enumeration(msgspec.Struct, frozen=True, kw_only=True):
    """What a fleet does under a law.

    Attributes:
        questions: distinct requests asked; ``decisions`` is that times deployments.
        never_decides: forbids that exclude nothing in any of them; ``never_alone`` those that only do beside
            another rule.
        unreachable: deployments that no request reaches.
        uncovered: classes that, alone, no deployment may see, from any app.
        reach: for each deployment the single classes some app may send there.
        closed: packs that do not hold on the day, so that everything is denied.

    """

    questions: int
    decisions: int
    never_decides: tuple[str, ...]
    never_alone: tuple[str, ...]
    unreachable: tuple[str, ...]
    uncovered: tuple[str, ...]
    reach: dict[str, tuple[str, ...]]
    closed: tuple[str, ...] = ()


def enumerate_fleet(law: Law, fleet: Fleet, told: Told = lambda _done, _all: None) -> Enumeration:
    """Decide every class, pair of classes and all classes, for every app, purpose, link and pseudonymisation.

    ``told`` hears (deployments done, of all).

    Raises:
        Invalid: a rule cannot be compiled.

    """
    return _Enumerator(law, fleet).run(told)


class _Group:
    """Rules that read the same parts of the context, judged once for each value of those."""

    def __init__(self, keys: tuple[str, ...], rules: list[Rule]) -> None:
        self.keys: Final = keys
        self._permits: Final = frozenset(rule.id for rule in rules if rule.effect == "permit")
        self._program: Final = Program(tuple(compile_rule(rule.id, rule.policy) for rule in rules))
        self.known: dict[Any, tuple[str, ...]] = {}

    def against(self, question: Mapping[str, Any], env: Callable[[], Env]) -> tuple[str, ...]:
        """Return which of them decide against a request."""
        at = tuple(question.get(name) for name in self.keys)
        found = self.known.get(at)
        if found is None:
            verdict = self._program.judge(env())
            lacking = self._permits.difference(verdict.permits)
            found = self.known[at] = (*lacking, *dict.fromkeys((*verdict.forbids, *verdict.errors)))
        return found


def _groups(rules: Iterable[Rule]) -> list[_Group]:
    found: dict[tuple[str, ...], list[Rule]] = {}
    for rule in rules:
        whole = "context" in rule.reads
        keys = tuple(
            name
            for name in (_CLASSES, "purpose", "link_up", "pseudonymised")
            if whole or any(path.startswith(f"context.{name}") for path in rule.reads)
        )
        found.setdefault(keys, []).append(rule)
    return [_Group(keys, together) for keys, together in found.items()]


class _Enumerator:
    def __init__(self, law: Law, fleet: Fleet) -> None:
        self._law: Final = law
        self._fleet: Final = fleet
        calendar = facts.Calendar(day=law.day, max_age_days=law.max_age_days, min_grade=law.min_grade)
        lists = [
            {"uid": {"type": "Allod::List", "id": name}, "attrs": {"codes": sorted(codes)}, "parents": []}
            for name, codes in law.lists.items()
        ]
        self._store: Final = store_of(facts.encode(fleet, calendar) + lists)
        self._groups: Final = _groups(law.rules)
        read = {name for group in self._groups for name in group.keys}
        classes = sorted(
            BASE_CLASSES.union(fleet.tenant.resident_classes, *(p.manifest.classes for p in law.packs))
        )
        self._singles: Final = {name: self._classes((name,)) for name in classes}
        self._sets: Final = tuple(
            dict.fromkeys(
                self._classes(given)
                for given in ((), *((n,) for n in classes), *combinations(classes, 2), tuple(classes))
            )
        )
        self._flags: Final = tuple(
            {"link_up": link, "pseudonymised": pseudonymised}
            for link, pseudonymised in product(
                (True, False) if "link_up" in read else (True,),
                (False, True) if "pseudonymised" in read else (False,),
            )
        )
        self._reads_purpose: Final = "purpose" in read

    def _classes(self, given: Iterable[str]) -> frozenset[str]:
        context = facts.encode_context(expand(given), None, self._fleet.tenant, link_up=True)
        return frozenset(context["classes"])

    def _purposes(self, app: str) -> tuple[str | None, ...]:
        stated = self._fleet.apps[app].purposes
        return (None, *stated) if self._reads_purpose else (None,)

    def _apps(self) -> list[str]:
        """Return one app of each kind: what the rules see of others is the same."""
        kinds = {
            repr(sorted(self._store.attrs[Uid("Allod::App", app)].items())): app for app in self._fleet.apps
        }
        return list(kinds.values())

    def run(self, told: Told) -> Enumeration:
        apps = self._apps()
        decides: set[str] = set()
        alone: set[str] = set()
        reach: dict[str, set[str]] = {name: set() for name in self._fleet.deployments}
        reached: set[str] = set()
        asked = 0
        for done, deployment in enumerate(self._fleet.deployments, 1):
            for app in apps:
                for group in self._groups:
                    group.known = {}
                for question in self._questions(app):
                    asked += 1
                    against = self._against(app, deployment, question)
                    decides.update(against)
                    if len(against) == 1:
                        alone.update(against)
                    if not against and not self._law.closed:
                        reached.add(deployment)
                        reach[deployment].add(question["single"] or "")
            told(done, len(self._fleet.deployments))
        forbids = [rule.id for rule in self._law.rules if rule.id != PERMIT]
        seen = {name for names in reach.values() for name in names}
        return Enumeration(
            questions=asked // max(1, len(self._fleet.deployments)),
            decisions=asked,
            never_decides=tuple(name for name in forbids if name not in decides),
            never_alone=tuple(name for name in forbids if name in decides - alone),
            unreachable=tuple(name for name in self._fleet.deployments if name not in reached),
            uncovered=tuple(name for name in self._singles if name not in seen),
            reach={name: tuple(sorted(found - {""})) for name, found in reach.items()},
            closed=self._law.closed,
        )

    def _questions(self, app: str) -> Iterable[dict[str, Any]]:
        singles = {members: name for name, members in reversed(self._singles.items())}
        for purpose in self._purposes(app):
            for flags in self._flags:
                for members in self._sets:
                    single = singles.get(members) if flags["link_up"] else None
                    yield {_CLASSES: members, "purpose": purpose, **flags, "single": single}

    def _against(self, app: str, deployment: str, question: Mapping[str, Any]) -> set[str]:
        def env() -> Env:
            context = {name: question[name] for name in (_CLASSES, "link_up", "pseudonymised")}
            if question["purpose"] is not None:
                context["purpose"] = question["purpose"]
            plain = {**context, _CLASSES: sorted(context[_CLASSES])}
            subject = Uid("Allod::Deployment", deployment)
            principal = Uid("Allod::App", app)
            return Env(
                principal, _DISPATCH, subject, value_of(plain), self._store.attrs, self._store.ancestors
            )

        return {name for group in self._groups for name in group.against(question, env)}
