"""Proving theorems over every request, app, tenant, operator and deployment, and trying each by mutation.

A theorem says: permitted, and ``given``, implies ``holds``. It is proved when no counterexample exists; it
says nothing when no permitted request meets ``given``, or when it survives the loss, or the reversal, of a
rule that it claims to need. Every counterexample is judged by the encoder, the compiled rules and cedarpy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from allod.domain.errors import Integrity
from allod.policy.compiler import Expression
from allod.policy.pack import expressions, parsed_schema
from allod.policy.proof import judge
from allod.policy.proof.law import Law
from allod.policy.proof.leaning import fact_names, paths
from allod.policy.proof.ordinary import settle
from allod.policy.proof.report import Counterexample, How, Mutant, Proof, Statement
from allod.policy.proof.session import Answer, Session, loose
from allod.policy.proof.situation import read, situation, told
from allod.policy.proof.statements import theorem_of

Told = Callable[[str], None]
UNDECIDED: Final = "the solver found no answer in time"
LOOSE: Final = "its counterexample leans on `like` or on names of statutes, and cannot be configured"


class Prover:
    """Proves statements about one law; translates everything once."""

    def __init__(self, law: Law, statements: Iterable[Statement]) -> None:
        self.law: Final = law
        self.statements: Final = tuple(statements)
        schema = parsed_schema(law.schema)
        self._bodies: dict[tuple[str, str], tuple[Expression, Expression]] = {
            (one.pack, one.id): expressions(theorem_of(one), schema) for one in self.statements
        }
        claims = {
            f"{pack} {name} {part}": node
            for (pack, name), nodes in self._bodies.items()
            for part, node in zip(("given", "holds"), nodes, strict=True)
        }
        self.session: Final = Session([law], claims)
        self._policies: Final = dict(judge.policies_of(law))
        self._rules: Final = {rule.id: rule for rule in law.rules}
        self._loose: Final = loose([*self._policies.values(), *claims.values()])

    def prove(self, one: Statement) -> Proof:
        """Prove a statement, or show why not.

        Raises:
            Integrity: a counterexample does not hold before the real rules: the prover is wrong.

        """
        claim = self._claim(one)
        switches = {name: switch.passes for name, switch in self.session.switches().items()}
        answer = self.session.ask([*switches.values(), *claim])
        if answer.verdict == "undecided":
            return self._outcome(one, "undecided", UNDECIDED)
        if answer.verdict == "possible":
            return self._refuted(one, [*switches.values(), *claim], answer)
        return self._proved(one, claim, switches, answer)

    def _claim(self, one: Statement) -> list[Any]:
        """Return the literals of a counterexample; an expression that errors counts against the theorem."""
        logic = self.session.logic
        given = self.session.claimed(f"{one.pack} {one.id} given")
        holds = self.session.claimed(f"{one.pack} {one.id} holds")
        met = self.session.literal(logic.some([logic.no(given.ok), given.value]))
        broken = self.session.literal(logic.no(logic.every([holds.ok, holds.value])))
        return [met, broken]

    def _proved(self, one: Statement, claim: list[Any], switches: dict[str, Any], answer: Answer) -> Proof:
        if self.session.ask([*switches.values(), claim[0]]).verdict != "possible":
            return self._outcome(one, "says-nothing", "no permitted request meets its condition")
        rules = self._core(switches, answer.core, claim)
        mutants = self._mutants(one, one.fails_without or rules, switches, claim)
        survived = [f"{mutant.rule} {mutant.how}" for mutant in mutants if not mutant.broken]
        reason, status = "", "proved"
        if survived:
            reason, status = "it survives " + ", ".join(survived), "says-nothing"
        elif not mutants:
            reason, status = "it holds without any rule", "says-nothing"
        return self._outcome(one, status, reason, rules, mutants)

    def _core(self, switches: dict[str, Any], core: frozenset[str], claim: list[Any]) -> tuple[str, ...]:
        """Cut the rules a proof rests on down to a set of which none can be spared."""
        kept = [name for name in switches if name in core]
        for name in list(kept):
            fewer = [one for one in kept if one != name]
            if self.session.ask([*(switches[one] for one in fewer), *claim]).verdict == "impossible":
                kept = fewer
        return tuple(kept)

    def _mutants(
        self, one: Statement, needed: Iterable[str], switches: dict[str, Any], claim: list[Any]
    ) -> tuple[Mutant, ...]:
        found = []
        for rule in needed:
            if rule not in switches:
                found.append(Mutant(rule=rule, how="deleted", broken=False))
                continue
            others = {name: passes for name, passes in switches.items() if name != rule}
            turned = self.session.switches()[rule].turned
            ways: tuple[tuple[How, list[Any]], ...] = (("deleted", []), ("negated", [turned]))
            for how, extra in ways:
                answer = self.session.ask([*others.values(), *extra, *claim])
                broken = answer.verdict == "possible"
                if broken:
                    broken = self._stands(one, answer, self._mutated(rule, how, others))
                found.append(Mutant(rule=rule, how=how, broken=broken))
        return tuple(found)

    def _mutated(self, rule: str, how: How, others: Iterable[str]) -> list[tuple[str, Expression]]:
        policies = {name: self._policies[name] for name in others if name in self._policies}
        policy = self._policies[rule]
        if how == "negated":
            policies[rule] = judge.turned(policy)
        elif policy["effect"] == "permit":
            policies[rule] = judge.unconditional(policy)
        return list(policies.items())

    def _stands(self, one: Statement, answer: Answer, policies: judge.Policies) -> bool:
        """Judge a mutant's counterexample by the compiled rules."""
        values = read(self.session, answer.model)
        at = situation(values, (self.law,))
        if self._judged(one, at, policies, reference=False):
            return True
        if self._loose:
            return False
        raise self._wrong(one, told(at, values, self.law.day))

    def _wrong(self, one: Statement, facts: dict[str, str]) -> Integrity:
        return Integrity(
            f"a counterexample to {one.id!r} does not hold before the rules themselves",
            str(facts),
            "the prover is wrong: report this, and rely on no proof until it is mended",
        )

    def _judged(self, one: Statement, at: Any, policies: judge.Policies, *, reference: bool) -> bool:
        given, holds = self._bodies[one.pack, one.id]
        scene = judge.Scene(self.law, at)
        permitted = scene.judge(policies, reference=reference)
        said = [
            scene.judge([("claim", judge.claim_policy(node))], reference=reference) for node in (given, holds)
        ]
        met = said[0].compiled or said[0].erred[0], bool(said[0].reference) or said[0].erred[1]
        opinions = {(permitted.compiled, met[0], said[1].compiled)}
        if reference:
            opinions.add((bool(permitted.reference), met[1], bool(said[1].reference)))
        return opinions == {(True, True, False)}

    def _refuted(self, one: Statement, literals: list[Any], answer: Answer) -> Proof:
        answer = settle(self.session, literals, answer)
        values = read(self.session, answer.model)
        at = situation(values, (self.law,))
        if not self._judged(one, at, list(self._policies.items()), reference=True):
            if self._loose:
                return self._outcome(one, "undecided", LOOSE)
            raise self._wrong(one, told(at, values, self.law.day))
        waived = sorted(set(one.fails_without) & self.law.relaxed)
        reason = "waived: " + ", ".join(waived) if waived else ""
        proof = self._outcome(one, "refuted", reason)
        counterexample = Counterexample(facts=told(at, values, self.law.day))
        return msgspec.structs.replace(proof, counterexample=counterexample)

    def _outcome(
        self,
        one: Statement,
        status: Any,
        reason: str,
        rules: tuple[str, ...] = (),
        mutants: tuple[Mutant, ...] = (),
    ) -> Proof:
        read_by = [path for rule in rules if rule in self._rules for path in self._rules[rule].reads]
        read_by += [path for node in self._bodies[one.pack, one.id] for path in paths(node)]
        return Proof(
            id=one.id,
            text=one.text,
            pack=one.pack,
            status=status,
            reason=reason,
            rules=rules,
            facts=fact_names(read_by),
            mutants=mutants,
        )
