"""Which deployments may lawfully see a request, and why not the others: ``Policy``.

A decision is a pure function of app, classes, purpose, flags, deployment, pack digest and fleet digest. It is
made by the compiled rules, which name every deciding rule, and made again by the reference before anything
is sent. Both are remembered by exactly those arguments: an ``Epoch`` is the span of days in which the two
digests stand still, and it owns the memory.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, date, datetime
from typing import Any, Final, TypeVar

import msgspec

from allod.domain.classes import BASE_CLASSES, UNSCANNED
from allod.domain.decision import Conditions, DecidingRule, Eligibility, Exclusion, NearestChange
from allod.domain.errors import Invalid
from allod.domain.fleet import Fleet
from allod.policy import digests, facts, lists
from allod.policy.closures import Env, Store, Uid, store_of, value_of
from allod.policy.compiler import CompiledRule, Program, Verdict, compile_rule
from allod.policy.explain import Scene, explain
from allod.policy.literals import classes_tested
from allod.policy.naming import join_statutes
from allod.policy.nearest import nearest_changes
from allod.policy.pack import BASE, PERMIT, Pack, Rule, unknown_name
from allod.policy.reference import Reference, request_of

MEMO_ENTRIES: Final = 4096
MEMO_EXPLAINED: Final = 512
"""Decisions that carry every deciding rule: with twenty candidates one takes some 12 KB."""
MEMO_DAYS: Final = 8
VALIDITY: Final = "pack.validity"
_DISPATCH: Final = Uid("Allod::Action", "dispatch")
_CONDITIONS: Final = {
    "process": "residency.1-process",
    "rest": "residency.2-rest",
    "transit": "residency.3-transit",
    "audit": "residency.4-audit",
    "operator": "residency.5-operator",
}
_V = TypeVar("_V")


class PolicyQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision is asked about.

    Attributes:
        app: id of the calling app.
        classes: the expanded classes, sorted.
        day: the UTC day of the request's one clock reading.
        purpose: the declared purpose, or None.
        link_up: False while the link to the outside is down.
        pseudonymised: what leaves to others carries reversible pseudonyms; our own deployments get it as it
            is, and rules read so of them.

    """

    app: str
    classes: tuple[str, ...]
    day: date
    purpose: str | None = None
    link_up: bool = True
    pseudonymised: bool = False


_Asked = tuple[str, tuple[str, ...], str | None, bool, bool]


class _Epoch:
    """Days on which facts and digests do not change, with what was decided on them."""

    def __init__(self, policy: Policy, day: date) -> None:
        self.calendar = facts.Calendar(
            day=day, max_age_days=policy.age_limit_days, min_grade=policy.min_grade
        )
        self.pack_digest, self.fleet_digest = policy.digests(day)
        encoded = facts.encode(policy.fleet, self.calendar) + lists.encode(policy.lists, day)
        self.program, self.reference = policy.rules_on(day)
        self.entities = self.reference.entities(encoded)
        self.store = store_of(encoded)
        self.overdue = tuple(pack for pack in policy.packs if not _valid_on(pack, day))
        self.conditions = {name: policy.conditions(name, self.store) for name in policy.subjects}
        self.eligible: dict[_Asked, Eligibility] = {}
        self.rechecked: dict[tuple[_Asked, str], bool] = {}
        self.nearest: dict[_Asked, tuple[NearestChange, ...]] = {}


class Policy:
    """The law of one tenant over one fleet; build it once per packs and fleet.

    ``packs`` are those available; ``tenant.packs`` names those in force, ``base`` among them.

    Raises:
        Invalid: a pack in force is not available or is there twice, two packs share a rule id, a pack does
            not fit the base schema, a relaxation names no forbid or lacks reason or signer, or a deployment
            names an operator that does not exist.

    """

    def __init__(self, packs: tuple[Pack, ...], fleet: Fleet) -> None:
        self.fleet: Final = fleet
        self.packs: Final = _in_force(packs, fleet)
        rules = tuple(rule for pack in self.packs for rule in pack.rules)
        self.rules: Final[dict[str, Rule]] = _unique(rules)
        self.relaxed: Final = _relaxations(self.rules, fleet)
        self.classes: Final = BASE_CLASSES.union(
            fleet.tenant.resident_classes, *(pack.manifest.classes for pack in self.packs)
        )
        for rule in rules:
            for name in sorted(classes_tested(rule.policy) - self.classes):
                raise unknown_name(f"rule {rule.id!r} asks for data class", name, self.classes)
        for deployment in fleet.deployments.values():
            if deployment.operator not in fleet.operators:
                raise unknown_name(
                    f"deployment {deployment.id!r} names operator", deployment.operator, fleet.operators
                )
        self._reads_purpose: Final = any(
            path == "context" or path.startswith("context.purpose") for rule in rules for path in rule.reads
        )
        self.subjects: Final = facts.subjects(fleet)
        self.statutes: Final = join_statutes((pack.id, pack.statutes) for pack in self.packs)
        self.age_limit_days: Final = digests.max_age_days(self.packs)
        self.min_grade: Final = digests.min_grade(self.packs)
        self.lists: Final = _lists(self.packs, rules)
        self._compiled: Final = tuple(compile_rule(rule.id, rule.policy) for rule in rules)
        self._residency: Final = _residency(self._compiled)
        self._schema: Final = next(pack.schema for pack in self.packs if pack.id == BASE)
        self._reads: dict[frozenset[str], tuple[Program, Reference]] = {}
        self.rules_on(date.max)
        self._pack_days: Final = digests.pack_turns(self.packs, self.lists)
        self._fact_days: Final = digests.fact_expiries(fleet, self.age_limit_days)
        self._turns: Final = tuple(sorted({*self._pack_days, *self._fact_days}))
        self._epochs: dict[date, _Epoch] = {}

    def digests(self, day: date) -> tuple[str, str]:
        """Return (pack digest, fleet digest) as they are on a UTC day."""
        return (
            digests.digest_of_packs(self.packs, digests.next_expiry(self._pack_days, day)),
            digests.digest_of_fleet(self.fleet, digests.next_expiry(self._fact_days, day)),
        )

    def rules_on(self, day: date) -> tuple[Program, Reference]:
        """Return both keys with the rules whose law applies on a day."""
        out = frozenset(rule.id for rule in self.rules.values() if not rule.applies_on(day))
        known = self._reads.get(out)
        if known is None:
            text = "\n".join(pack.text for pack in self.packs)
            known = self._reads[out] = (
                Program(tuple(rule for rule in self._compiled if rule.id not in out)),
                Reference(text, self._schema, self.relaxed | out),
            )
        return known

    def valid_until_ms(self, day: date) -> int | None:
        """Return when the digests of this day rotate, UTC milliseconds since 1970; None for never."""
        turn = digests.next_expiry(self._turns, day)
        if turn is None:
            return None
        return int(datetime(turn.year, turn.month, turn.day, tzinfo=UTC).timestamp()) * 1000

    def eligible(self, q: PolicyQuestion) -> Eligibility:
        """Return who may see the request, and for each other deployment every rule against it.

        Raises:
            Invalid: the app or a class is unknown.
            Integrity: the fleet's facts do not fit the schema; nothing is decided then.

        """
        epoch = self._epochs.get(q.day)
        if epoch is None:
            epoch = self._enter(q.day)
        asked = self._asked(q)
        known = epoch.eligible.get(asked)
        if known is not None:
            return known
        self._check(q)
        return _remember(epoch.eligible, asked, self._decide(q, epoch), MEMO_EXPLAINED)

    def kept(self, q: PolicyQuestion) -> frozenset[str]:
        """Return who may see the request as ``eligible`` does, without reasons and without remembering it.

        Raises:
            Invalid, Integrity: as ``eligible``.

        """
        epoch = self._epochs.get(q.day) or self._enter(q.day)
        self._check(q)
        if epoch.overdue:
            return frozenset()
        values, judge = self._values(q), epoch.program.judge
        envs = ((name, _env(q.app, name, values[name], epoch.store)) for name in self.subjects)
        return frozenset(name for name, env in envs if not self.against(judge(env)))

    def recheck(self, q: PolicyQuestion, deployment: str) -> bool:
        """Decide again by the reference whether this deployment may see the request; False on any doubt."""
        try:
            epoch = self._epochs.get(q.day) or self._enter(q.day)
            asked = (self._asked(q), deployment)
            known = epoch.rechecked.get(asked)
            if known is not None:
                return known
            self._check(q)
            if deployment not in self.subjects or epoch.overdue:
                return False
            request = request_of(q.app, deployment, self._context(q, deployment))
            (verdict,) = epoch.reference.decide([request], epoch.entities)
            return _remember(epoch.rechecked, asked, verdict.allowed)
        except Exception:  # noqa: BLE001 - whatever went wrong, nothing may be sent
            return False

    def nearest(self, q: PolicyQuestion) -> tuple[NearestChange, ...]:
        """Return the smallest change of facts that would admit each excluded deployment, fewest first.

        Each was decided again with the changed facts. A deployment that no three changes admit is left out.

        Raises:
            Invalid, Integrity: as ``eligible``.

        """
        eligibility = self.eligible(q)
        epoch = self._epochs.get(q.day) or self._enter(q.day)
        asked = self._asked(q)
        known = epoch.nearest.get(asked)
        if known is not None:
            return known
        found = () if epoch.overdue else nearest_changes(self, q, eligibility, epoch.calendar, epoch.store)
        return _remember(epoch.nearest, asked, found, MEMO_EXPLAINED)

    def against(self, verdict: Verdict) -> tuple[str, ...]:
        """Return the ids of the rules that decide against, in rule order, relaxed ones left out."""
        found = {*verdict.forbids, *verdict.errors}
        if not verdict.permits:
            found.add(PERMIT)
        return tuple(rule_id for rule_id in self.rules if rule_id in found - self.relaxed)

    def verdict(self, q: PolicyQuestion, deployment: str, store: Store) -> Verdict:
        """Run the compiled rules for one deployment among these entities; relaxed rules run too."""
        program, _ = self.rules_on(q.day)
        return program.judge(_env(q.app, deployment, value_of(self._context(q, deployment)), store))

    def scene(self, q: PolicyQuestion, deployment: str, calendar: facts.Calendar) -> Scene:
        """Return what an explanation of this deployment speaks of."""
        return Scene(
            tenant=self.fleet.tenant,
            subject=self.subjects[deployment],
            calendar=calendar,
            link_up=q.link_up,
            statutes=self.statutes,
            app=self.fleet.apps.get(q.app),
            purpose=q.purpose,
        )

    def conditions(self, deployment: str, store: Store) -> Conditions:
        """Evaluate the five residency conditions of a deployment as if a resident class asked."""
        context = value_of(facts.encode_context((UNSCANNED,), None, self.fleet.tenant, link_up=True))
        app = next(iter(self.fleet.apps), "")
        if not app:
            return Conditions(process=False, rest=False, transit=False, audit=False, operator=False)
        verdict = self._residency.judge(_env(app, deployment, context, store))
        broken = {*verdict.forbids, *verdict.errors}
        return Conditions(**{name: rule not in broken for name, rule in _CONDITIONS.items()})

    def _asked(self, q: PolicyQuestion) -> _Asked:
        """Return what decisions are remembered by; the purpose, which callers choose, only if it is read."""
        purpose = q.purpose if self._reads_purpose else None
        return q.app, q.classes, purpose, q.link_up, q.pseudonymised

    def _context(self, q: PolicyQuestion, deployment: str) -> dict[str, Any]:
        """Encode the question as it is put about one deployment: what our own gets carries no pseudonyms."""
        covered = q.pseudonymised and self.subjects[deployment].operator.own is not True
        return facts.encode_context(
            q.classes, q.purpose, self.fleet.tenant, link_up=q.link_up, pseudonymised=covered
        )

    def _values(self, q: PolicyQuestion) -> dict[str, Any]:
        """Return the question as compiled rules read it, by deployment; two at most are different."""
        made: dict[bool, Any] = {}
        for name, subject in self.subjects.items():
            own = subject.operator.own is True
            if own not in made:
                made[own] = value_of(self._context(q, name))
        return {name: made[subject.operator.own is True] for name, subject in self.subjects.items()}

    def _enter(self, day: date) -> _Epoch:
        """Find or make the epoch of a day; of earlier epochs the last one is kept, the others are dropped."""
        epochs = dict(self._epochs)
        span = bisect_right(self._turns, day)
        epoch = next((e for known, e in epochs.items() if bisect_right(self._turns, known) == span), None)
        if epoch is None:
            epoch = _Epoch(self, day)
            last = list(epochs.values())[-1:]
            epochs = {known: e for known, e in epochs.items() if e in last}
        while len(epochs) >= MEMO_DAYS:
            epochs.pop(next(iter(epochs)))
        epochs[day] = epoch
        self._epochs = epochs
        return epoch

    def _check(self, q: PolicyQuestion) -> None:
        if q.app not in self.fleet.apps:
            raise unknown_name("the question names app", q.app, self.fleet.apps)
        for name in q.classes:
            if name not in self.classes:
                raise unknown_name("the question names data class", name, self.classes)

    def _decide(self, q: PolicyQuestion, epoch: _Epoch) -> Eligibility:
        kept: list[str] = []
        excluded: list[Exclusion] = []
        relaxed: list[tuple[str, str]] = []
        values = self._values(q)
        for name in self.subjects:
            verdict = epoch.program.judge(_env(q.app, name, values[name], epoch.store))
            against = self.against(verdict)
            if against or epoch.overdue:
                scene = self.scene(q, name, epoch.calendar)
                rules = [
                    explain(self.rules[rule_id], scene, errored=rule_id in verdict.errors)
                    for rule_id in against
                ]
                rules += [_invalid(pack, q.day) for pack in epoch.overdue]
                excluded.append(Exclusion(deployment=name, rules=tuple(rules)))
                continue
            kept.append(name)
            waived = {*verdict.forbids, *verdict.errors} & self.relaxed
            relaxed += [(name, rule_id) for rule_id in self.rules if rule_id in waived]
        return Eligibility(
            kept=tuple(kept),
            excluded=tuple(excluded),
            conditions=epoch.conditions,
            relaxed=tuple(relaxed),
            pack_digest=epoch.pack_digest,
            fleet_digest=epoch.fleet_digest,
        )


def _env(app: str, deployment: str, context: Any, store: Store) -> Env:
    resource = Uid("Allod::Deployment", deployment)
    return Env(Uid("Allod::App", app), _DISPATCH, resource, context, store.attrs, store.ancestors)


def _remember(memo: dict[Any, _V], asked: object, answer: _V, most: int = MEMO_ENTRIES) -> _V:
    while len(memo) >= most:
        memo.pop(next(iter(memo)), None)
    memo[asked] = answer
    return answer


def _valid_on(pack: Pack, day: date) -> bool:
    start, end = pack.manifest.valid_from, pack.manifest.valid_until
    return (start is None or start <= day) and (end is None or day < end)


def _invalid(pack: Pack, day: date) -> DecidingRule:
    start, end = pack.manifest.valid_from, pack.manifest.valid_until
    early = start is not None and day < start
    return DecidingRule(
        id=VALIDITY,
        law="",
        got=f"pack {pack.id!r} holds from {start}" if early else f"pack {pack.id!r} held until {end}",
        required="a pack that holds on the day of the question",
        source=f"pack {pack.id} {pack.version}",
        remedy="install the version of the pack that holds on this day, or take it out of tenant.packs",
    )


def _lists(packs: tuple[Pack, ...], rules: tuple[Rule, ...]) -> dict[str, lists.PlaceList]:
    """Join the lists of all packs; a rule that reads one nobody brings refuses the start."""
    found = lists.join(one for pack in packs for one in pack.lists)
    for rule in rules:
        for name in rule.lists:
            if name not in found:
                raise unknown_name(f"rule {rule.id!r} reads list", name, found)
    return found


def _in_force(packs: tuple[Pack, ...], fleet: Fleet) -> tuple[Pack, ...]:
    available: dict[str, Pack] = {}
    for pack in packs:
        if pack.id in available:
            raise Invalid(f"pack {pack.id!r} is there twice", "", "keep one version of it")
        available[pack.id] = pack
    for name in fleet.tenant.packs:
        if name not in available:
            raise unknown_name("tenant.packs names pack", name, available)
    if BASE not in fleet.tenant.packs:
        raise Invalid(
            "tenant.packs leaves out the base pack",
            f"got {list(fleet.tenant.packs)}; without it nothing is permitted",
            f"add {BASE!r}",
            param="tenant.packs",
        )
    chosen = tuple(available[name] for name in dict.fromkeys(fleet.tenant.packs))
    for pack in chosen:
        for name in pack.manifest.requires:
            if name not in fleet.tenant.packs:
                raise Invalid(
                    f"pack {pack.id!r} needs pack {name!r}",
                    f"got {list(fleet.tenant.packs)}",
                    f"add {name!r}",
                    param="tenant.packs",
                )
    _demand_one_weighting(chosen)
    return chosen


def _demand_one_weighting(packs: tuple[Pack, ...]) -> None:
    """Refuse what would let one more pack raise a score that another pack's rule reads (I2).

    A pack whose rule reads the weighted score brings the weights or requires a pack that does, and no other
    pack in force weighs otherwise.
    """
    bringing = [pack for pack in packs if pack.weighting is not None]
    for pack in bringing[1:]:
        if (
            pack.weighting is not None
            and bringing[0].weighting is not None
            and (pack.weighting.percent != bringing[0].weighting.percent)
        ):
            raise Invalid(
                f"packs {bringing[0].id!r} and {pack.id!r} weigh sovereignty differently",
                "which of them counts would decide what passes",
                "keep one of them in tenant.packs",
                param="tenant.packs",
            )
    having = {pack.id for pack in bringing}
    for pack in packs:
        reads = any(path.endswith("seal.score") for rule in pack.rules for path in rule.reads)
        if reads and having.isdisjoint((pack.id, *pack.manifest.requires)):
            raise Invalid(
                f"pack {pack.id!r} reads a score and says nothing of its weights",
                "another pack's weights would change what passes",
                "bring facts/weights.toml, or require a pack that does",
            )


def _unique(rules: tuple[Rule, ...]) -> dict[str, Rule]:
    found: dict[str, Rule] = {}
    for rule in rules:
        if rule.id in found or rule.id == VALIDITY:
            raise Invalid(f"two rules are called {rule.id!r}", "", "packs in force need distinct rule ids")
        found[rule.id] = rule
    return found


def _relaxations(rules: dict[str, Rule], fleet: Fleet) -> frozenset[str]:
    forbids = [rule.id for rule in rules.values() if rule.effect == "forbid"]
    for relaxation in fleet.tenant.relax:
        if relaxation.rule not in forbids:
            raise unknown_name("tenant.relax names rule", relaxation.rule, forbids)
        if not relaxation.reason.strip() or not relaxation.signer.strip():
            raise Invalid(
                f"the relaxation of {relaxation.rule!r} lacks its reason or its signer",
                f"got reason {relaxation.reason!r}, signer {relaxation.signer!r}",
                "say why, and who answers for it",
                param="tenant.relax",
            )
    return frozenset(relaxation.rule for relaxation in fleet.tenant.relax)


def _residency(compiled: tuple[CompiledRule, ...]) -> Program:
    chosen = tuple(rule for rule in compiled if rule.id in _CONDITIONS.values())
    if len(chosen) != len(_CONDITIONS):
        raise Invalid(
            "the base pack lacks a residency rule", f"expected {sorted(_CONDITIONS.values())}", "restore it"
        )
    return Program(chosen)
