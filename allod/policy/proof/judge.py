"""The second opinion on a counterexample: the encoder, the compiled rules and cedarpy judge it themselves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, NamedTuple

import cedarpy
import msgspec

from allod.policy import facts
from allod.policy.closures import Env, Uid, store_of, value_of
from allod.policy.compiler import Expression, Program, compile_rule
from allod.policy.proof.law import Law
from allod.policy.proof.situation import Situation
from allod.policy.reference import Reference, ReferenceVerdict, request_of

_SCOPE: Final = {
    "principal": {"op": "is", "entity_type": "Allod::App"},
    "action": {"op": "==", "entity": {"type": "Allod::Action", "id": "dispatch"}},
    "resource": {"op": "is", "entity_type": "Allod::Deployment"},
}
Policies = Sequence[tuple[str, Expression]]


class Opinion(NamedTuple):
    """What compiled rules and cedarpy say: permitted or not, rules that decide against, who met an error."""

    compiled: bool
    reference: bool | None
    against: tuple[str, ...]
    erred: tuple[bool, bool] = (False, False)


def policies_of(law: Law) -> list[tuple[str, Expression]]:
    """Return the rules of a law in Cedar's JSON form, by id."""
    return [(rule.id, rule.policy) for rule in law.rules]


def claim_policy(node: Expression) -> Expression:
    """Wrap an expression as a permit that holds exactly when it is true."""
    condition = {"kind": "when", "body": node}
    return {"effect": "permit", **_SCOPE, "conditions": [condition], "annotations": {"id": "claim"}}


def turned(policy: Expression) -> Expression:
    """Return a policy satisfied, in its scope, exactly when this one is not: its conditions negated."""
    steps = policy["conditions"]
    bodies = [s["body"] if s["kind"] == "when" else {"!": {"arg": s["body"]}} for s in steps]
    bodies = bodies or [{"Value": True}]
    whole = bodies[0]
    for body in bodies[1:]:
        whole = {"&&": {"left": whole, "right": body}}
    return {**policy, "conditions": [{"kind": "unless", "body": whole}]}


def unconditional(policy: Expression) -> Expression:
    """Return a policy without its conditions: what is left of a permit that was "deleted"."""
    return {**policy, "conditions": []}


def judge(law: Law, policies: Policies, at: Situation, *, reference: bool = True) -> Opinion:
    """Decide a situation by these policies; ``reference`` asks cedarpy as well."""
    return Scene(law, at).judge(policies, reference=reference)


class Scene:
    """A situation, encoded as the gateway does under a law, once for any number of policies."""

    def __init__(self, law: Law, at: Situation) -> None:
        self._law: Final = law
        calendar = facts.Calendar(day=law.day, max_age_days=law.max_age_days, min_grade=law.min_grade)
        fleet = msgspec.structs.replace(at.fleet, sovereignty_weights=law.percent)
        self._encoded: Final = facts.encode(fleet, calendar) + [
            {"uid": {"type": "Allod::List", "id": name}, "attrs": {"codes": sorted(codes)}, "parents": []}
            for name, codes in law.lists.items()
        ]
        context = facts.encode_context(
            at.classes, at.purpose, at.fleet.tenant, link_up=at.link_up, pseudonymised=at.pseudonymised
        )
        self._request: Final = request_of(at.app, at.deployment, context)
        store = store_of(self._encoded)
        self._env: Final = Env(
            Uid("Allod::App", at.app), Uid("Allod::Action", "dispatch"),
            Uid("Allod::Deployment", at.deployment), value_of(context), store.attrs, store.ancestors,
        )  # fmt: skip

    def judge(self, policies: Policies, *, reference: bool) -> Opinion:
        """Decide by the compiled rules, and by cedarpy if it is asked too."""
        compiled = tuple(compile_rule(name, policy) for name, policy in policies)
        verdict = Program(compiled).judge(self._env)
        against = tuple(dict.fromkeys([*verdict.forbids, *verdict.errors]))
        allowed = verdict.allowed and not self._law.closed
        if not reference:
            return Opinion(allowed, None, against, (bool(verdict.errors), False))
        second = self._reference(policies)
        erred = (bool(verdict.errors), bool(second.errors))
        return Opinion(allowed, second.allowed and not self._law.closed, against, erred)

    def _reference(self, policies: Policies) -> ReferenceVerdict:
        static = {f"policy{n}": policy for n, (_, policy) in enumerate(policies)}
        text = cedarpy.policies_from_json_str(
            json.dumps({"staticPolicies": static, "templates": {}, "templateLinks": []})
        )
        key = Reference(text, self._law.schema)
        (verdict,) = key.decide([self._request], key.entities(self._encoded))
        return verdict
