"""What ``allod policy prove`` and ``diff`` print for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from allod.gateway.cli import say
from allod.gateway.cli.lines import say_folded

if TYPE_CHECKING:
    from allod.policy.proof.enumerate import Enumeration
    from allod.policy.proof.leaning import Lean
    from allod.policy.proof.report import Counterexample, Proof, Report

_WORDS: Final = {
    "proved": "proved",
    "refuted": "REFUTED",
    "says-nothing": "SAYS NOTHING",
    "undecided": "UNDECIDED",
}
_WIDTH: Final = 13


def print_report(report: Report, *, brief: bool) -> None:
    """Print the proofs of a set of packs; ``brief`` leaves out what is the same for every set."""
    packs = ", ".join(f"{name} {version}" for name, version in report.packs)
    say(f"{packs}   as of {report.day}")
    if report.relaxed:
        say(f"  waived, so no proof counts on them: {', '.join(report.relaxed)}")
    for proof in report.proofs:
        _print_proof(proof)
    for need in report.needs:
        rules = ", ".join(need.rules)
        say_folded(
            "  demands       ", f"{need.data_class} goes to others only under {need.agreement}   ({rules})"
        )
    for name, demand in report.demands:
        say_folded("  demands       ", f"{name}: {demand}")
    for label, names in (
        ("UNTESTED      no theorem and no case would notice the loss of ", report.untested),
        ("never bites   ", report.idle),
        ("never alone   what they deny, other rules deny too: ", report.shadowed),
        ("note: nobody has opened the law behind ", report.unverified),
        ("note: no person has reviewed pack ", report.unreviewed),
    ):
        if names:
            say_folded(f"  {label}", ", ".join(names), _WIDTH + 3)
    if brief:
        return
    read = sorted({name for proof in report.proofs for name in proof.facts})
    say_folded("  leans on      ", ", ".join(read))
    say("  takes for granted, as the configuration and the encoder make sure of:")
    for assumption in report.assumptions:
        say(f"    {assumption}")


def _print_proof(proof: Proof) -> None:
    word = _WORDS[proof.status]
    broken, count = sum(mutant.broken for mutant in proof.mutants), len(proof.rules)
    rules = f"{count} rule" if count == 1 else f"{count} rules"
    more = f"{rules}, {broken} of {len(proof.mutants)} mutants broken" if proof.mutants else ""
    on = f"   on {proof.day}" if proof.day is not None else ""
    reason = f"   ({proof.reason})" if proof.reason else ""
    say(f"  {word:{_WIDTH}} {proof.id}   {more}{on}{reason}".rstrip())
    if proof.status != "proved":
        say_folded("      claim  ", proof.text)
    if proof.counterexample is not None:
        print_counterexample(proof.counterexample)


def print_counterexample(found: Counterexample) -> None:
    """Print a request and a deployment by the configuration's names."""
    if found.then:
        say(f"      denied by {', '.join(found.against)}:")
    for name, value in found.facts.items():
        say(f"        {name} = {value}")
    if found.then:
        say("      permitted, the same but for:")
        for name, value in found.then.items():
            say(f"        {name} = {value}")


def print_fleet(found: Enumeration, facts: tuple[Lean, ...]) -> None:
    """Print what a fleet does, and the facts all of it leans on."""
    say(f"the fleet of today: {found.questions} requests, {found.decisions} decisions")
    if found.closed:
        say(f"  DENIES ALL    packs that do not hold on this day: {', '.join(found.closed)}")
    for name, classes in found.reach.items():
        say(f"  {name}: {', '.join(classes) or 'no class'}")
    if found.uncovered:
        say(f"  nobody may see, alone: {', '.join(found.uncovered)}")
    if found.unreachable:
        say_folded("  never reached: ", ", ".join(found.unreachable), 4)
    if found.never_decides:
        say_folded("  never decide anything here: ", ", ".join(found.never_decides), 4)
    if found.never_alone:
        say_folded("  decide here only beside others: ", ", ".join(found.never_alone), 4)
    say()
    say("facts that proofs and decisions lean on:")
    width = max((len(fact.path) for fact in facts), default=0)
    for fact in facts:
        age = "no date" if fact.age_days is None else f"{fact.age_days} days old"
        end = f"   until {fact.expires}" if fact.expires else ""
        told = f"{fact.grade:9} {age}{end}" if fact.grade else ""
        state = "" if fact.state == "known" else f"   {fact.state.upper()}"
        say(f"  {fact.path:{width}}  {told}{state}".rstrip())
    say()
