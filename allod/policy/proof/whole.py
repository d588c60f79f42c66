"""Everything that is proved of a set of packs: theorems, what they demand of others, which rules are idle."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, timedelta
from typing import Final

import msgspec

from allod.domain.classes import BASE_CLASSES, IMPLIES
from allod.domain.facts import GRADES
from allod.policy.pack import BASE, Pack
from allod.policy.proof.compare import COMPARISONS, compare
from allod.policy.proof.law import Law, law_of
from allod.policy.proof.prove import Prover
from allod.policy.proof.report import Need, Proof, Report, Statement
from allod.policy.proof.session import Session
from allod.policy.proof.statements import built_in as for_every_law
from allod.policy.proof.statements import of_packs
from allod.policy.proof.strings import Text

Told = Callable[[int, int], None]
AGREEMENT: Final = "agreement"
ONLY_REMOVES: Final = "packs-only-remove"


def prove_packs(
    packs: Iterable[Pack],
    day: date,
    *,
    relaxed: Iterable[str] = (),
    tenant_bloc: tuple[str, ...] = (),
    of: Iterable[str] | None = None,
    built_in: bool = True,
    percent: tuple[int, ...] | None = None,
    told: Told = lambda _done, _all: None,
) -> Report:
    """Prove all theorems of these packs together, on a day.

    A theorem that needs a rule which does not apply yet, or no longer, is proved on the nearest day on which
    it does, and says so.

    Args:
        packs: packs in force, the base pack among them.
        day: the UTC day.
        relaxed: rules the tenant waives; no proof counts on them.
        tenant_bloc: the tenant's bloc as configured, for its own residency theorem.
        of: ids of the packs whose own theorems are wanted; None for all.
        built_in: whether residency per bloc and the air gap are proved too. Once they are of the base pack,
            they hold beside any other: packs only remove, and that is always proved.
        percent: weights of the sovereignty score; None takes the packs'.
        told: hears (theorems done, of all).

    Raises:
        Unavailable: the solver is not installed.
        Invalid: the packs are no law, or say something that is not modelled.
        Integrity: a counterexample does not hold before the rules themselves.

    """
    law = law_of(packs, day, relaxed, percent)
    wanted = set(law.ids if of is None else of)
    statements = [one for one in of_packs(law.packs) if one.pack in wanted]
    statements += for_every_law(tenant_bloc) if built_in else ()
    total = len(statements) + len(COMPARISONS) + 1
    proofs: list[Proof] = []
    provers = Provers(law, statements)
    for one in statements:
        proofs.append(provers.prove(one))
        told(len(proofs), total)
    session = Session([law])
    for comparison in COMPARISONS:
        proofs.append(compare(law, comparison, session))
        told(len(proofs), total)
    proofs.append(only_removes(law))
    told(total, total)
    assumptions = dict.fromkeys([*provers.assumptions(), *session.assumptions])
    return _report(law, proofs, session, wanted, tuple(assumptions))


class Provers:
    """A prover for each pack with what it requires, and one for all packs, where that is not enough.

    What a pack's own rules prove, they prove beside any others: those only remove. And what counts as a
    theorem's own merit is what breaks when its own pack's rule is gone, whatever other packs may add.
    """

    def __init__(self, law: Law, statements: list[Statement]) -> None:
        self._law: Final = law
        self._days: Final = {(one.pack, one.id): _day(law, one) for one in statements}
        self._statements: Final = statements
        self._made: Final[dict[tuple[frozenset[str], date], Prover]] = {}

    def prove(self, one: Statement) -> Proof:
        """Prove a statement on its day."""
        day, everything = self._days[one.pack, one.id], frozenset(self._law.ids)
        packs = self._packs(one)
        proof = self._prover(packs, day).prove(one)
        if proof.status == "refuted" and packs != everything:
            proof = self._prover(everything, day).prove(one)
        return proof if day == self._law.day else msgspec.structs.replace(proof, day=day)

    def assumptions(self) -> tuple[str, ...]:
        """Return what the proofs took for granted."""
        made = self._made.values()
        return tuple(dict.fromkeys(label for prover in made for label in prover.session.assumptions))

    def _packs(self, one: Statement) -> frozenset[str]:
        packs = {pack.id: pack for pack in self._law.packs}
        own = packs.get(one.pack)
        return frozenset({BASE, *((own.id, *own.manifest.requires) if own is not None else ())}) & set(packs)

    def _prover(self, packs: frozenset[str], day: date) -> Prover:
        if (packs, day) not in self._made:
            chosen = [pack for pack in self._law.packs if pack.id in packs]
            rules = {rule.id for pack in chosen for rule in pack.rules}
            law = law_of(chosen, day, self._law.relaxed & rules, self._law.percent)
            fits = [
                one
                for one in self._statements
                if self._days[one.pack, one.id] == day and self._packs(one) <= packs
            ]
            self._made[packs, day] = Prover(law, fits)
        return self._made[packs, day]


def _report(
    law: Law, proofs: list[Proof], session: Session, wanted: set[str], assumptions: tuple[str, ...]
) -> Report:
    idle, shadowed = _silent(law, session)
    return Report(
        packs=tuple((pack.id, pack.version) for pack in law.packs),
        day=law.day,
        proofs=tuple(proofs),
        relaxed=tuple(sorted(law.relaxed)),
        demands=tuple((pack.id, text) for pack in law.packs if (text := _demand(pack))),
        needs=_needs(law, session),
        untested=_untested(law, proofs, wanted),
        idle=idle,
        shadowed=shadowed,
        assumptions=assumptions,
        unreviewed=tuple(pack.id for pack in law.packs if not pack.reviewed),
        unverified=tuple(name for pack in law.packs for name in pack.unverified),
    )


def _demand(pack: Pack) -> str:
    grade, age = pack.manifest.min_grade, pack.manifest.max_age_days
    parts = [f"facts about others graded {grade} or better"] if grade != GRADES[0] else []
    parts += [f"facts no older than {age} days"] if age is not None else []
    return "; ".join(parts)


def _day(law: Law, one: Statement) -> date:
    """Return the day a theorem is about: the nearest on which every rule that it needs applies."""
    rules = {rule.id: rule for pack in law.packs for rule in pack.rules}
    needed = [rules[name] for name in one.fails_without if name in rules]
    if all(rule.applies_on(law.day) for rule in needed):
        return law.day
    begins = max([law.day, *(rule.since for rule in needed if rule.since is not None)])
    ends = min((rule.until for rule in needed if rule.until is not None), default=None)
    return begins if ends is None or begins < ends else ends - timedelta(days=1)


def only_removes(law: Law) -> Proof:
    """Prove that the packs beside the base permit nothing that the base alone does not."""
    text = "No pack permits what the base pack alone does not."
    base = next(pack for pack in law.packs if pack.id == BASE)
    proof = Proof(id=ONLY_REMOVES, text=text, pack="built-in", status="proved")
    if len(law.packs) == 1:
        return msgspec.structs.replace(proof, reason="there is no other pack")
    alone = law_of([base], law.day, law.relaxed & {rule.id for rule in base.rules}, law.percent)
    session = Session([law, alone])
    logic = session.logic
    denied = session.literal(logic.no(session.permitted(1)))
    switches = session.switches(0)
    answer = session.ask([*(switch.passes for switch in switches.values()), denied])
    if answer.verdict != "impossible":
        status = "undecided" if answer.verdict == "undecided" else "refuted"
        return msgspec.structs.replace(proof, status=status)
    own = [rule.id for rule in base.rules if rule.id in switches]
    turned = any(
        session.ask(
            [*(s.passes for name, s in switches.items() if name != rule), switches[rule].turned, denied]
        ).verdict
        == "possible"
        for rule in own
    )
    if not turned and not law.closed:
        return msgspec.structs.replace(proof, status="says-nothing", reason="no rule turned round breaks it")
    return proof


def _silent(law: Law, session: Session) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the forbids that can never decide against anything, and those that never do so alone."""
    switches = session.switches()
    idle: list[str] = []
    shadowed: list[str] = []
    for rule in law.rules:
        if rule.effect != "forbid" or law.closed:
            continue
        bites = session.literal(session.logic.no(switches[rule.id].passes))
        others = [switch.passes for name, switch in switches.items() if name != rule.id]
        if session.ask([*others, bites]).verdict == "impossible":
            never = session.ask([bites]).verdict == "impossible"
            (idle if never else shadowed).append(rule.id)
    return tuple(idle), tuple(shadowed)


def _untested(law: Law, proofs: list[Proof], wanted: set[str]) -> tuple[str, ...]:
    """Return the rules of these packs whose loss no theorem and no case would notice."""
    noticed = {
        mutant.rule
        for proof in proofs
        for mutant in proof.mutants
        if mutant.how == "deleted" and mutant.broken
    }
    for pack in law.packs:
        noticed |= {rule for case in pack.cases if case.decision == "deny" for rule in case.rules}
    return tuple(
        rule.id for pack in law.packs if pack.id in wanted for rule in pack.rules if rule.id not in noticed
    )


def _needs(law: Law, session: Session) -> tuple[Need, ...]:
    """Ask for every class and agreement whether the class goes to others only under that agreement."""
    agreements = sorted({name.name for pack in law.packs for name in pack.names if name.kind == AGREEMENT})
    classes = sorted(BASE_CLASSES.union(*(pack.manifest.classes for pack in law.packs)))
    if not agreements or law.closed:
        return ()
    world, view, logic = session.world, session.view(), session.logic
    foreign = session.literal(logic.no(world.flag("resource.operator.own")))
    switches = {name: switch.passes for name, switch in session.switches().items()}
    alphabet = session.alphabets["word"]
    names = view.value("resource.agreements.declared", session.names_type)
    lacking = {
        name: session.literal(logic.no(world.contains(names, Text(name))))
        for name in agreements
        if name in alphabet.at
    }
    found: dict[tuple[str, str], Need] = {}
    for data_class in (name for name in classes if name in alphabet.at):
        asked = session.literal(world.contains(world.texts("context.classes"), Text(data_class)))
        question = [*switches.values(), foreign, asked]
        if session.ask([*question, *lacking.values()]).verdict == "possible":
            continue
        if session.ask(question).verdict != "possible":
            continue
        for agreement, missing in lacking.items():
            answer = session.ask([*question, missing])
            if answer.verdict == "impossible":
                rules = tuple(rule for rule in switches if rule in answer.core)
                found[data_class, agreement] = Need(data_class=data_class, agreement=agreement, rules=rules)
    return tuple(
        need for (name, agreement), need in found.items() if (IMPLIES.get(name, ""), agreement) not in found
    )
