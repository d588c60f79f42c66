"""Worked cases: a pack proves itself on its own examples, with both keys.

Every rule needs an example it denies and one it lets through; a rule that nothing shows to be satisfiable,
or that nothing shows to bite, counts as failed.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, TypeVar

import msgspec

from allod.domain.errors import AllodError, Invalid
from allod.domain.fleet import App, Deployment, Fleet, Operator, Tenant, Weights
from allod.policy.facts import DEPLOYMENT_FACTS, EVIDENCE, OPERATOR_FACTS
from allod.policy.pack import BASE, Case, Pack
from allod.policy.policy import Policy, PolicyQuestion

_S = TypeVar("_S", bound=msgspec.Struct)
_PARTS = ("tenant", "app", "operator", "deployment", "weights")


class CaseResult(msgspec.Struct, frozen=True, kw_only=True):
    """How one case, or the coverage of one rule, came out; ``detail`` says got and expected on failure."""

    name: str
    ok: bool
    detail: str = ""


def run_cases(pack: Pack, base: Pack | None = None, *others: Pack) -> tuple[CaseResult, ...]:
    """Decide every case of a pack by both keys, then check that each rule has an allow and a deny.

    ``base`` is the base pack, needed to judge any other pack: its permit is the only one. ``others`` are
    packs that this one requires.

    Raises:
        Invalid: the pack is not the base pack and none was given.

    """
    if pack.id != BASE and base is None:
        raise Invalid(
            f"the cases of pack {pack.id!r} need the base pack", "it holds the only permit", "hand it in"
        )
    packs = (pack,) if pack.id == BASE or base is None else (base, *others, pack)
    results = [_run(case, packs) for case in pack.cases]
    results += [_coverage(rule.id, pack.cases) for rule in pack.rules]
    return tuple(results)


def fleet_of(case: Case) -> Fleet:
    """Build the one-deployment fleet of a case.

    Raises:
        Invalid: a key leads nowhere or a value does not fit.

    """
    given = deepcopy(case.given)
    for path in case.unset:
        _place(given, path, None)
    for path, value in case.set.items():
        _place(given, path, value)
    if unknown := set(given) - set(_PARTS):
        raise Invalid(f"case {case.name!r} sets {sorted(unknown)}", f"expected {_PARTS}", "correct the case")
    tenant = _convert(_facts(given.get("tenant", {}), ()), Tenant)
    app = _convert(_facts(given.get("app", {}), ()), App)
    operator = _convert(_facts(given.get("operator", {}), OPERATOR_FACTS), Operator)
    parts = {"operator": operator.id, **_facts(given.get("deployment", {}), DEPLOYMENT_FACTS)}
    deployment = _convert(parts, Deployment)
    weights = given.get("weights")
    return Fleet(
        tenant=tenant,
        apps={app.id: app},
        operators={operator.id: operator},
        deployments={deployment.id: deployment},
        weights={} if weights is None else {deployment.id: _convert(weights, Weights)},
    )


def _run(case: Case, packs: tuple[Pack, ...]) -> CaseResult:
    try:
        fleet = fleet_of(case)
        tenant = msgspec.structs.replace(fleet.tenant, packs=tuple(pack.id for pack in packs))
        percent = next(
            (pack.weighting.percent for pack in packs if pack.weighting is not None),
            fleet.sovereignty_weights,
        )
        policy = Policy(packs, msgspec.structs.replace(fleet, tenant=tenant, sovereignty_weights=percent))
        (app,), (deployment,) = fleet.apps, fleet.deployments
        question = PolicyQuestion(
            app=app,
            classes=case.classes,
            purpose=case.purpose,
            link_up=case.link_up,
            pseudonymised=case.pseudonymised,
            day=case.day,
        )
        eligibility = policy.eligible(question)
        reference = policy.recheck(question, deployment)
    except AllodError as error:
        return CaseResult(name=case.name, ok=False, detail=error.explain())
    rules = tuple(rule.id for exclusion in eligibility.excluded for rule in exclusion.rules)
    wanted = case.decision == "allow"
    if (bool(eligibility.kept), rules, reference) == (wanted, case.rules, wanted):
        return CaseResult(name=case.name, ok=True)
    kept = bool(eligibility.kept)
    got = _said("allow" if kept else "deny", rules)
    other = "" if reference == kept else f" (the reference says {'allow' if reference else 'deny'})"
    detail = f"got {got}{other}; expected {_said(case.decision, case.rules)}"
    return CaseResult(name=case.name, ok=False, detail=detail)


def _said(decision: str, rules: tuple[str, ...]) -> str:
    return f"{decision} by {', '.join(rules)}" if rules else decision


def _coverage(rule_id: str, cases: tuple[Case, ...]) -> CaseResult:
    denied = any(case.decision == "deny" and rule_id in case.rules for case in cases)
    allowed = any(case.decision == "allow" and rule_id in case.covers for case in cases)
    lacking = [word for word, there in (("a deny", denied), ("an allow", allowed)) if not there]
    return CaseResult(
        name=f"coverage of {rule_id}",
        ok=not lacking,
        detail=f"no case shows {' and '.join(lacking)}" if lacking else "",
    )


def _place(given: dict[str, Any], path: str, value: Any) -> None:
    """Set a path of the given world, or remove it when the value is None."""
    part, _, name = path.partition(".")
    target, leaf = (given.setdefault(part, {}), name) if name else (given, part)
    if value is None:
        target.pop(leaf, None)
    else:
        target[leaf] = value


def _facts(table: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Write plain values of facts as facts, and one place as a list of one where a list is due."""
    out = dict(table)
    for name in names:
        if name not in out:
            continue
        fact = out[name] if isinstance(out[name], dict) else {"value": out[name]}
        if name in {"at_rest", "transit", "controlled_from", "compelled_by"} and isinstance(
            fact.get("value"), str
        ):
            fact = {**fact, "value": [fact["value"]]}
        out[name] = fact
    for name in EVIDENCE:
        if isinstance(out.get(name), dict):
            held = out[name].items()
            out[name] = {key: fact if isinstance(fact, dict) else {"value": fact} for key, fact in held}
    return out


def _convert(table: dict[str, Any], kind: type[_S]) -> _S:
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    if unknown := set(table) - known:
        raise Invalid(f"a case sets {sorted(unknown)}", f"expected keys of {kind.__name__}", "correct it")
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        raise Invalid(f"a case gives no {kind.__name__}", str(error), "correct the case") from error
