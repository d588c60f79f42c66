"""Who takes part in a task's cascade for one kind of request, and the rules it may be answered by."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.money import ZERO
from allod.gateway.promise.answers import PROGRAMS, kind
from allod.receipts.commitment import digest
from allod.routing.cascade import Cascade, Check, Step

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from allod.domain.decision import Candidate
    from allod.domain.fleet import CascadeTask, Fleet, Task

ALPHA: Final = 0.05
LEAST_AUDITS: Final = 50
_FLOOR: Final = "quality.floor"
_PAIR: Final = 2
_FAMILY: Final = re.compile(r"[a-z]+")


class Parties(msgspec.Struct, frozen=True, kw_only=True):
    """Deployments of a cascade: the reference, and where there are any others, base and second."""

    reference: str
    base: str | None = None
    second: str | None = None


def parties(task: Task, candidates: Sequence[Candidate], fleet: Fleet) -> Parties | None:
    """Choose among what law and the request's limits leave; None where nothing is left.

    The reference is the one named, else that of the highest known quality, whatever is up now: a promise must
    not change its meaning with the weather. Base and second may be below the task's floor, which is about
    what is delivered, and a base's answer is delivered only as far as it was proven to equal the reference's.
    """
    own = task.cascade
    assert own is not None
    able = [one for one in candidates if one.eligible]
    if not able:
        return None
    named = next((one for one in able if one.deployment == own.reference), None)
    reference = named or max(able, key=lambda one: (one.quality is not None, one.quality or ZERO))
    others = [one for one in candidates if one.deployment != reference.deployment and _may_try(one)]
    others.sort(key=_cost_per_solved)
    base = _named(own.base, others) or next(
        (one.deployment for one in others if own.base is None and one.quality), None
    )
    if base is None:
        return Parties(reference=reference.deployment)
    rest = [one for one in others if one.deployment != base]
    second = None
    if "agreement" in own.check:
        second = _named(own.second, rest) or next(
            (one.deployment for one in rest if own.second is None and _another(fleet, base, one)), None
        )
    return Parties(reference=reference.deployment, base=base, second=second)


def _may_try(one: Candidate) -> bool:
    return one.cost_usd is not None and all(rule.id == _FLOOR for rule in one.rules)


def _named(name: str | None, among: Sequence[Candidate]) -> str | None:
    return name if name is not None and any(one.deployment == name for one in among) else None


def _cost_per_solved(one: Candidate) -> tuple[bool, Decimal]:
    cost = one.cost_usd or ZERO
    return not one.quality, cost / one.quality if one.quality else cost


def _another(fleet: Fleet, base: str, one: Candidate) -> bool:
    models = fleet.deployments[base].model, fleet.deployments[one.deployment].model
    return bool(one.quality) and family(models[0]) != family(models[1])


def family(model: str) -> str:
    """Return the family a model's name says it is of: its first word, without maker and size.

    ``meta-llama/Llama-3.1-70B`` and ``llama-3-8b`` are of one; a name is the operator's word only.
    """
    found = _FAMILY.search(model.rsplit("/", 1)[-1].lower())
    return found.group() if found else model


def ladder(own: CascadeTask, who: Parties) -> tuple[str, ...]:
    """Return the rules, strictest first; none where nothing can be checked or nobody is the base."""
    if who.base is None:
        return ()
    forms = tuple(dict.fromkeys(PROGRAMS[kind(one)] for one in own.check if kind(one) in PROGRAMS))
    out = []
    if "agreement" in own.check and who.second is not None:
        out.append((*forms, "agreement"))
    if forms:
        out.append(forms)
    return tuple("+".join(one) for one in out)


def cascade_of(rule: str, task: Task, who: Parties, fleet: Fleet) -> Cascade:
    """Write a rule as a cascade; two deployments of our own are asked at the same time."""
    assert who.base is not None
    kinds = rule.split("+")
    checks = tuple(
        Check(kind="agreement", at_least=_PAIR) if one == "agreement" else Check(kind=one)  # type: ignore[arg-type]
        for one in kinds
    )
    steps = [Step(deployment=who.base, checks=checks)]
    if "agreement" in kinds:
        assert who.second is not None
        own = [fleet.operator_of(fleet.deployments[name]).own for name in (who.base, who.second)]
        steps.append(Step(deployment=who.second, checks=checks, together=all(own)))
    return Cascade(task=task.name, steps=tuple(steps), escalate=who.reference)


def policy_of(task: Task, who: Parties, fleet: Fleet, pack: str) -> str:
    """Return the digest of all a promise is about: law, task, deployments and their weights.

    Prices, declared and measured qualities are left out: they change who is chosen, not what was proven of
    those who were. Anything else that changes of them begins a new promise, at the reference.
    """
    names = [name for name in (who.base, who.second, who.reference) if name is not None]
    bare = [
        msgspec.structs.replace(fleet.deployments[name], price=None, quality={}, capability={})
        for name in names
    ]
    weights = [fleet.weights.get(name) for name in names]
    operators = [fleet.operators[one.operator] for one in bare]
    said = (pack, msgspec.structs.replace(task, max_cost_usd=None), who, bare, weights, operators)
    return digest(msgspec.json.encode(said, order="deterministic"))
