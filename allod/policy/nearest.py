"""What would have to change: the smallest set of facts that would admit an excluded deployment.

A search over changes of single facts, each set decided again by the compiled rules on the changed world; what
is reported is known to be enough, and no smaller set of the listed changes is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain import jurisdiction
from allod.domain.decision import Eligibility, NearestChange
from allod.domain.facts import Fact, Grade
from allod.domain.fleet import EMBEDDED, Weights
from allod.policy import facts
from allod.policy.closures import Store, store_of
from allod.policy.demands import demanded
from allod.policy.explain import Scene

if TYPE_CHECKING:
    from allod.policy.forms import Rule
    from allod.policy.policy import Policy, PolicyQuestion

MAX_CHANGES: Final = 3
_Change = Callable[[Scene], Scene]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that could be different: its sentence, the attributes it touches, and the world after it."""

    text: str
    touches: frozenset[str]
    apply: _Change


def nearest_changes(
    policy: Policy, q: PolicyQuestion, eligibility: Eligibility, calendar: facts.Calendar, store: Store
) -> tuple[NearestChange, ...]:
    """Search for each excluded deployment; sorted by number of changes, then configuration order."""
    found: list[tuple[int, NearestChange]] = []
    for exclusion in eligibility.excluded:
        name = exclusion.deployment
        scene = policy.scene(q, name, calendar)
        rules = [policy.rules[rule.id] for rule in exclusion.rules]
        chosen = _smallest(policy, q, scene, rules, store)
        if chosen:
            text = "; ".join(change.text for change in chosen)
            found.append((len(chosen), NearestChange(deployment=name, change=text)))
    return tuple(change for _, change in sorted(found, key=lambda item: item[0]))


def changes_of(scene: Scene, rules: Iterable[Rule] = ()) -> tuple[Change, ...]:
    """Return every change the search knows for a deployment, narrow ones first.

    ``rules`` are those that decide against it: the evidence they demand could be obtained.
    """
    deployment, operator = scene.subject.deployment, scene.subject.operator
    changes: list[Change] = list(dict.fromkeys(each for rule in rules for each in _obtained(scene, rule)))
    if not deployment.approved:
        changes.append(_set_deployment(f"approve {deployment.id}", "approved", True))
    if scene.tenant.bloc:
        changes += _inside_bloc(scene)
    grade: Grade = "declared" if operator.own else "attested"
    changes += [_audited(scene, name, grade) for name in ("records_auditable", "inspectable")]
    if not scene.link_up and not scene.tenant.air_gapped:
        changes.append(
            Change(text="restore the link", touches=frozenset({"context.link_up"}), apply=_link_restored)
        )
    changes.append(_set_deployment(f"stand {deployment.id} on the premises", "on_premises", Fact(value=True)))
    changes.append(_set_deployment(f"keep nothing at {deployment.id}", "retention_days", Fact(value=0)))
    changes.append(
        _set_deployment(f"no training on inputs at {deployment.id}", "trains_on_inputs", Fact(value=False))
    )
    changes.append(_registered(scene))
    changes += _provenance(scene)
    if scene.tenant.bloc:
        changes.append(_sovereign_operator(scene))
    return tuple(changes)


def _smallest(
    policy: Policy, q: PolicyQuestion, scene: Scene, rules: list[Rule], store: Store
) -> tuple[Change, ...]:
    """Try sets of changes by size; only those that touch something each deciding rule reads can help."""
    reads = [rule.reads for rule in rules]
    helps = {change: _touched(change, reads) for change in changes_of(scene, rules)}
    useful = [change for change, rules in helps.items() if rules]
    for size in range(1, MAX_CHANGES + 1):
        for chosen in combinations(useful, size):
            if len(frozenset().union(*(helps[change] for change in chosen))) < len(reads):
                continue
            after = scene
            for change in chosen:
                after = change.apply(after)
            if _admits(policy, q, after, store):
                return chosen
    return ()


def _touched(change: Change, reads: list[tuple[str, ...]]) -> frozenset[int]:
    """Return which of the deciding rules, by number, read what a change touches."""
    return frozenset(
        number
        for number, paths in enumerate(reads)
        if any(
            path == touched or path.startswith(touched + ".") for path in paths for touched in change.touches
        )
    )


def _admits(policy: Policy, q: PolicyQuestion, scene: Scene, store: Store) -> bool:
    """Decide again in a world where only this deployment and its operator are different."""
    changed = store_of(
        [
            facts.encode_deployment(scene.subject, scene.calendar),
            facts.encode_operator(scene.subject, scene.calendar),
        ]
    )
    if scene.app is not None:
        asker = store_of([facts.encode_app(scene.app, scene.tenant, scene.calendar)])
        changed = Store(attrs={**changed.attrs, **asker.attrs}, ancestors=changed.ancestors)
    world = Store(attrs={**store.attrs, **changed.attrs}, ancestors=store.ancestors)
    asked = q if q.link_up == scene.link_up else msgspec.structs.replace(q, link_up=scene.link_up)
    return not policy.against(policy.verdict(asked, scene.subject.deployment.id, world))


def _obtained(scene: Scene, rule: Rule) -> list[Change]:
    """Return the changes that would bring the evidence a rule demands by name."""
    found = []
    for bearer, kind, grade, name in demanded(rule.policy):
        fact: Fact[bool] = Fact(value=True, grade=grade, as_of=scene.calendar.day)
        what = f"{kind.removesuffix('s')} {name!r}, graded {grade}"
        if bearer == "principal":
            if scene.app is not None:
                found.append(_attested(what, scene.app.id, kind, name, fact))
        elif bearer in {"resource", "resource.operator"}:
            found.append(_agreed(what, scene.subject.operator.id, bearer, kind, name, fact))
    return found


def _attested(what: str, app: str, kind: str, name: str, fact: Fact[bool]) -> Change:
    def apply(scene: Scene) -> Scene:
        assert scene.app is not None
        held = {**getattr(scene.app, kind), name: fact}
        return msgspec.structs.replace(scene, app=msgspec.structs.replace(scene.app, **{kind: held}))

    return Change(text=f"{what}, for app {app}", touches=frozenset({f"principal.{kind}"}), apply=apply)


def _agreed(what: str, operator: str, bearer: str, kind: str, name: str, fact: Fact[bool]) -> Change:
    def apply(scene: Scene) -> Scene:
        held = {**getattr(scene.subject.operator, kind), name: fact}
        return _with(scene, operator=msgspec.structs.replace(scene.subject.operator, **{kind: held}))

    return Change(
        text=f"{what}, of operator {operator}", touches=frozenset({f"{bearer}.{kind}"}), apply=apply
    )


def _registered(scene: Scene) -> Change:
    def apply(scene: Scene) -> Scene:
        return _with(scene, operator=msgspec.structs.replace(scene.subject.operator, registered=True))

    text = f"enter operator {scene.subject.operator.id} in the register of information"
    return Change(text=text, touches=frozenset({"resource.operator.registered"}), apply=apply)


def _inside_bloc(scene: Scene) -> list[Change]:
    bloc = scene.tenant.bloc
    where = ", ".join(bloc)
    deployment, operator = scene.subject.deployment.id, scene.subject.operator.id
    return [
        _set_deployment(f"process in {where}", "processing", Fact(value=bloc[0])),
        _set_deployment(f"store only in {where}", "at_rest", Fact(value=bloc)),
        _set_deployment(f"keep the transit of {deployment} inside {where}", "transit", Fact(value=bloc)),
        _set_operator(f"operator {operator} seated in {where}", seat=Fact(value=bloc[0])),
        _set_operator(f"operator {operator} controlled only from {where}", controlled_from=Fact(value=bloc)),
        _set_operator(
            f"operator {operator} known not to be compellable from outside {where}",
            compelled_by=Fact(value=()),
        ),
    ]


def _sovereign_operator(scene: Scene) -> Change:
    bloc = scene.tenant.bloc
    return _set_operator(
        "an operator seated and controlled only in " + ", ".join(bloc) + ", not compellable from outside",
        seat=Fact(value=bloc[0]),
        controlled_from=Fact(value=bloc),
        compelled_by=Fact(value=()),
    )


def _audited(scene: Scene, name: str, grade: Grade) -> Change:
    reading = scene.read(name)
    already = reading.state == "known" and reading.fact is not None and reading.fact.value is True
    if already:
        text = f"grade {name} '{grade}'"
    else:
        text = f"set {name} true" + (f", graded '{grade}'" if grade != "declared" else "")
    return _set_deployment(text, name, Fact(value=True, grade=grade))


def _provenance(scene: Scene) -> list[Change]:
    if scene.subject.deployment.engine not in EMBEDDED:
        return []
    model = scene.subject.deployment.model
    maker = _lawful_maker(scene)
    changes = [_set_weights(f"verify the weights of {model!r} in the vault", verified=True)]
    if maker:
        banned = ", ".join(scene.tenant.banned_makers)
        text = "weights of a known maker" + (f" outside {banned}" if banned else "")
        changes.append(_set_weights(text, maker_jurisdiction=maker))
    return changes


def _lawful_maker(scene: Scene) -> str | None:
    """Return some jurisdiction the tenant does not ban, its own first."""
    banned = jurisdiction.expand(scene.tenant.banned_makers)
    return next((c for c in (scene.tenant.home, *sorted(jurisdiction.COUNTRIES)) if c not in banned), None)


def _set_deployment(text: str, name: str, value: Any) -> Change:
    def apply(scene: Scene) -> Scene:
        deployment = msgspec.structs.replace(scene.subject.deployment, **{name: _undated(scene, value)})
        return _with(scene, deployment=deployment)

    return Change(text=text, touches=frozenset({f"resource.{name}"}), apply=apply)


def _set_operator(text: str, **values: Fact[Any]) -> Change:
    def apply(scene: Scene) -> Scene:
        dated = {name: _undated(scene, value) for name, value in values.items()}
        return _with(scene, operator=msgspec.structs.replace(scene.subject.operator, **dated))

    return Change(text=text, touches=frozenset(f"resource.operator.{name}" for name in values), apply=apply)


def _set_weights(text: str, **values: Any) -> Change:
    def apply(scene: Scene) -> Scene:
        before = scene.subject.weights or Weights(weights="")
        return _with(scene, weights=msgspec.structs.replace(before, **values))

    return Change(text=text, touches=frozenset({"resource.weights"}), apply=apply)


def _undated(scene: Scene, value: Any) -> Any:
    """Date new evidence on the day of the question, so that an age limit does not void it."""
    return msgspec.structs.replace(value, as_of=scene.calendar.day) if isinstance(value, Fact) else value


def _with(scene: Scene, **parts: Any) -> Scene:
    return msgspec.structs.replace(scene, subject=msgspec.structs.replace(scene.subject, **parts))


def _link_restored(scene: Scene) -> Scene:
    return msgspec.structs.replace(scene, link_up=True)
