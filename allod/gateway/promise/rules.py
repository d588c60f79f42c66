"""Who takes part in a task's cascade for one kind of request, and the rules it may be answered by."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.fleet import CascadeTask
from allod.domain.money import ZERO
from allod.gateway.promise.answers import PROGRAMS, kind
from allod.receipts.commitment import digest
from allod.routing.cascade import Cascade, Check, Step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

    from allod.domain.decision import Candidate
    from allod.domain.fleet import Fleet, Task

ALPHA: Final = 0.05
LEAST_AUDITS: Final = 50
MARGIN: Final = "margin:"
_ROOM: Final = 80
"""Characters of a fact in a leaf."""
ELSE: Final = "|agreement"
_FLOOR: Final = "quality.floor"
_PAIR: Final = 2
_FAMILY: Final = re.compile(r"[a-z]+")


class Parties(msgspec.Struct, frozen=True, kw_only=True):
    """Deployments of a cascade: the reference, and where there are any others, base and second."""

    reference: str
    base: str | None = None
    second: str | None = None

    @property
    def names(self) -> frozenset[str]:
        """All of them."""
        return frozenset(one for one in (self.reference, self.base, self.second) if one is not None)


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
    others = [one for one in candidates if one.deployment != reference.deployment and may_try(one)]
    others.sort(key=cost_per_solved)
    sure = [one for one in others if "margin" not in own.check or _tells(fleet, one)]
    base = _named(own.base, sure) or next(
        (one.deployment for one in sure if own.base is None and one.quality), None
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


def _tells(fleet: Fleet, one: Candidate) -> bool:
    """Tell whether a deployment can be asked how sure it was of its words."""
    return "logprobs" in fleet.deployments[one.deployment].takes


def may_try(one: Candidate) -> bool:
    """Tell whether a candidate may be asked as base or second: all but the floor leaves it."""
    return one.cost_usd is not None and all(rule.id == _FLOOR for rule in one.rules)


def _named(name: str | None, among: Sequence[Candidate]) -> str | None:
    return name if name is not None and any(one.deployment == name for one in among) else None


def cost_per_solved(one: Candidate) -> tuple[bool, Decimal]:
    """Return whether its quality is unknown, and its cost by quality in USD, to order by."""
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
    """Return the rules, strictest first; none where nothing can be checked or nobody is the base.

    Each accepts what the one before it does, and more: ``form+agreement``, then for each margin, the widest
    last, ``form+margin:N|agreement`` (the base's answer if it was so sure, else if the second agrees), then
    ``form``. Without agreement the margins stand alone.
    """
    if who.base is None:
        return ()
    forms = tuple(dict.fromkeys(PROGRAMS[kind(one)] for one in own.check if kind(one) in PROGRAMS))
    out = []
    second = "agreement" in own.check and who.second is not None
    if second:
        out.append("+".join((*forms, "agreement")))
    out += ["+".join((*forms, f"{MARGIN}{least:f}")) + (ELSE if second else "") for least in own.margin]
    if forms:
        out.append("+".join(forms))
    return tuple(out)


def ladder_facts(rules: Sequence[str]) -> dict[str, str]:
    """Write a ladder as facts of a notice: in one, or where that has no room, one a rule."""
    whole = " ".join(rules)
    if len(whole) <= _ROOM:
        return {"ladder": whole}
    return {"ladder": rules[0]} | {f"ladder_{n}": one for n, one in enumerate(rules[1:], 2)}


def ladder_of(facts: Mapping[str, str]) -> tuple[str, ...]:
    """Read it back (raises ``KeyError`` where there is none)."""
    more = (facts[name] for n in range(2, len(facts) + 2) if (name := f"ladder_{n}") in facts)
    return (*facts["ladder"].split(" "), *more)


def cascade_of(rule: str, task: Task, who: Parties, fleet: Fleet) -> Cascade:
    """Write a rule as a cascade; two deployments of our own are asked at the same time.

    Where a margin may spare the second, it is asked after the base.
    """
    assert who.base is not None
    sure = rule.removesuffix(ELSE)
    checks = tuple(map(_check, sure.split("+")))
    steps = [Step(deployment=who.base, checks=checks)]
    if "agreement" in rule:
        assert who.second is not None
        own = [fleet.operator_of(fleet.deployments[name]).own for name in (who.base, who.second)]
        if sure != rule:
            forms = tuple(one for one in checks if one.kind != "margin")
            steps.append(Step(deployment=who.second, checks=(*forms, _check("agreement"))))
        else:
            steps.append(Step(deployment=who.second, checks=checks, together=all(own)))
    return Cascade(task=task.name, steps=tuple(steps), escalate=who.reference)


def _check(name: str) -> Check:
    if name == "agreement":
        return Check(kind="agreement", at_least=_PAIR)
    if name.startswith(MARGIN):
        return Check(kind="margin", at_least=float(name.removeprefix(MARGIN)))
    return Check(kind=name)  # type: ignore[arg-type]


def policy_of(task: Task, who: Parties, fleet: Fleet, pack: str) -> str:
    """Return the digest of all a promise is about: law, task, deployments and their weights.

    Prices, declared and measured qualities are left out, as are ``switch_margin``, ``fallback`` and whether
    anything is learned or estimated: they change who is chosen, what is outside the promise, or when the
    reference is asked at once, not what was proven of those who were. Anything else that changes of them
    begins a new promise, at the reference.
    """
    d = CascadeTask()
    own = task.cascade or d
    own = msgspec.structs.replace(own, switch_margin=d.switch_margin, fallback=d.fallback, learn=d.learn)
    task = msgspec.structs.replace(task, max_cost_usd=None, cascade=own, estimate=False)
    names = [name for name in (who.base, who.second, who.reference) if name is not None]
    bare = [
        msgspec.structs.replace(fleet.deployments[name], price=None, quality={}, capability={})
        for name in names
    ]
    weights = [fleet.weights.get(name) for name in names]
    operators = [fleet.operators[one.operator] for one in bare]
    said = (pack, task, who, bare, weights, operators)
    return digest(msgspec.json.encode(said, order="deterministic"))
