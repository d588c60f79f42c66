"""``allod explain``: who could serve a request, who may not and why; no gateway, no content."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from allod.admission.admit import AUTO, Index, admit
from allod.admission.sizes import measure
from allod.domain.errors import Invalid, Refused
from allod.domain.fleet import EFFORTS, LANGUAGE
from allod.domain.money import plain
from allod.domain.request import NO_RECEIPT, Labels, Sizes
from allod.gateway.cli import REFUSED, depth_lines, estimate_lines, out, promise_lines, say
from allod.gateway.cli.lines import say_folded
from allod.gateway.cli.options import (
    air_gap_option,
    app_named,
    config_option,
    json_option,
    now_ms,
    request_options,
)
from allod.routing.plan import known_of
from allod.routing.question import facts_of
from allod.routing.record import plain_data

if TYPE_CHECKING:
    from decimal import Decimal

    from allod.domain.decision import Attempt, Candidate, DecidingRule
    from allod.domain.fleet import CapabilityEvidence, Effort, Fleet
    from allod.gateway.decide import Decider, Decision

DEFAULT_INPUT_TOKENS = 1000


@click.command("explain")
@request_options
@click.option(
    "--effort",
    type=click.Choice(EFFORTS),
    help="the reasoning depth the caller asks for; where the task leaves it open, the most it may be",
)
@click.option(
    "--input-tokens", type=click.IntRange(1), help=f"default: as the prompt has, else {DEFAULT_INPUT_TOKENS}"
)
@click.option("--prompt", help="what is asked, to estimate by; it is read here and goes nowhere")
@click.option(
    "--prompt-file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="the same, from a file; - for standard input",
)
@click.option(
    "--as-of", "as_of", type=click.DateTime(["%Y-%m-%d"]), help="as the law and facts stand on a day"
)
@air_gap_option
@config_option
@json_option
def command(
    app_id: str | None,
    classes: tuple[str, ...],
    task: str | None,
    purpose: str | None,
    model: str | None,
    effort: Effort | None,
    input_tokens: int | None,
    prompt: str | None,
    prompt_file: Path | None,
    as_of: datetime | None,
    air_gap: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Show every candidate, every deciding rule with got, required and source, and the plan.

    Exit code 4 when the request would be refused.
    """
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.routing.question import Health  # noqa: PLC0415

    asked = _prompt(prompt, prompt_file)
    setting = compose.setting(config_path, air_gap=air_gap)
    decider = compose.decider(setting.fleet, setting.packs, setting.supplied.books)
    admitted = admit(
        index=Index(setting.fleet, decider.policy.classes),
        app=app_named(setting.fleet, app_id),
        surface="chat",
        model=model or AUTO,
        labels=Labels(classes=classes, task=task, purpose=purpose, effort=effort),
        needs=("text", *_languages(setting.fleet, model, task)),
        sizes=Sizes(body_bytes=0, input_tokens=input_tokens or _tokens(asked)),
        stream=False,
        receipt=NO_RECEIPT,
        received_at_ms=now_ms() if as_of is None else int(as_of.replace(tzinfo=UTC).timestamp()) * 1000,
    )
    bare = decider.decide(admitted, Health())
    decision, guessed = estimate_lines.estimated(setting, decider, bare, asked)
    refused = _refused(decider, decision)
    promised = promise_lines.promise_of(setting.home, decider, bare)
    if as_json:
        said = _as_json(decider, decision, admitted.classes, guessed, refused=refused)
        out(said if promised is None else {**said, "promise": promised})
    else:
        _print(decider, decision, admitted.classes, refused=refused)
        estimate_lines.say_estimates(decision, guessed)
        promise_lines.print_promise(promised)
    sys.exit(REFUSED if refused else 0)


def _prompt(text: str | None, file: Path | None) -> str | None:
    """Return what is asked, where that is said.

    Raises:
        Invalid: it is said twice, or the file is not UTF-8.

    """
    if file is None:
        return text
    if text is not None:
        raise Invalid("what is asked is said twice", "--prompt and --prompt-file", "say one", param="prompt")
    try:
        return (sys.stdin.buffer.read() if f"{file}" == "-" else file.read_bytes()).decode()
    except UnicodeDecodeError as fault:
        raise Invalid(f"{file} is not UTF-8", str(fault), "save it as UTF-8", param="prompt_file") from None


def _tokens(prompt: str | None) -> int:
    """Return as how many tokens of input a request with this prompt is taken."""
    if prompt is None:
        return DEFAULT_INPUT_TOKENS
    body = {"messages": [{"role": "user", "content": prompt}]}
    return measure(body, json.dumps(body).encode())[1].input_tokens


def _languages(fleet: Fleet, model: str | None, task: str | None) -> tuple[str, ...]:
    """Return the languages a task names; what an unwritten request is in nobody can tell."""
    known = fleet.tasks.get(task or model or "")
    return () if known is None else tuple(LANGUAGE + name for name in known.languages)


def _refused(decider: Decider, decision: Decision) -> bool:
    try:
        decider.require(decision)
    except (Refused, Invalid):
        return True
    return False


def _amount(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)


def _rule(rule: DecidingRule) -> dict[str, str]:
    return {
        "id": rule.id,
        "law": rule.law,
        "got": rule.got,
        "required": rule.required,
        "source": rule.source,
        "remedy": rule.remedy,
    }


def _proven(decision: Decision) -> dict[str, CapabilityEvidence]:
    """Return what evaluations and publications say of each lawful candidate, where they say something."""
    facts = facts_of(decision.question).candidates
    known = {one.deployment: one.evidence for one in facts if one.evidence is not None}
    return known | depth_lines.evidence_of(decision.plan.candidates, facts)


def _candidate(one: Candidate) -> dict[str, Any]:
    return {
        "deployment": one.deployment,
        "eligible": one.eligible,
        "rules": [_rule(rule) for rule in one.rules],
        "quality": _amount(one.quality),
        "cost_usd": _amount(one.cost_usd),
        "sovereignty": _amount(one.sovereignty),
    }


def _as_json(
    decider: Decider,
    decision: Decision,
    classes: tuple[str, ...],
    guessed: dict[str, Any] | None,
    *,
    refused: bool,
) -> dict[str, Any]:
    known = {name: plain_data(one) for name, one in _proven(decision).items()}
    depths, estimates = depth_lines.depths_of(decision), {} if guessed is None else guessed["candidates"]
    return {
        "decision": "refused" if refused else "allowed",
        "classes": list(classes),
        "candidates": [
            {
                **_candidate(one),
                "evidence": known.get(one.deployment),
                "estimate": estimates.get(one.deployment),
                **depth_lines.as_json(one, depths.get(one.deployment, ())),
            }
            for one in decision.plan.candidates
        ],
        "plan": [a.deployment for a in decision.plan.attempts],
        "efforts": [a.effort for a in decision.plan.attempts],
        "objective": decision.plan.objective,
        "why": decision.plan.why,
        "nearest": [{"deployment": n.deployment, "change": n.change} for n in decider.nearest(decision)],
        "relaxed": [{"deployment": d, "rule": r} for d, r in decision.eligibility.relaxed],
        "packs": [
            {
                "id": pack.id,
                "version": pack.version,
                "reviewed": pack.reviewed,
                "status": pack.manifest.status,
            }
            for pack in decider.policy.packs
        ],
        "pack_digest": decision.eligibility.pack_digest,
        "fleet_digest": decision.eligibility.fleet_digest,
        "alternatives": estimate_lines.alternatives(decision),
        **({} if guessed is None else {"estimates": guessed}),
    }


def _attempt(one: Attempt) -> str:
    return one.deployment if one.effort is None else f"{one.deployment} at effort {one.effort}"


def _print_candidate(one: Candidate, known: str) -> None:
    if one.eligible:
        quality = "unknown" if one.quality is None else plain(one.quality)
        cost = "unknown" if one.cost_usd is None else plain(one.cost_usd)
        score = "unknown" if one.sovereignty is None else f"{plain(one.sovereignty)} of 4"
        say(f"  {one.deployment}: eligible")
        say(f"    quality {quality}   expected cost {cost} USD   sovereignty {score}")
        if known:
            say_folded("    quality   ", known)
        return
    say(f"  {one.deployment}: excluded by {len(one.rules)} rule{'s' if len(one.rules) != 1 else ''}")
    for rule in one.rules:
        say_folded(f"    {rule.id}   ", f"({rule.law})" if rule.law else "")
        say_folded("      got       ", rule.got)
        say_folded("      required  ", rule.required)
        say_folded("      source    ", rule.source)


def _print(decider: Decider, decision: Decision, classes: tuple[str, ...], *, refused: bool) -> None:
    proven = {n: known_of(one) for n, one in _proven(decision).items()}
    say(f"{'REFUSED' if refused else 'ALLOWED'}   classes: {', '.join(classes)}")
    depths = depth_lines.depths_of(decision)
    for one in decision.plan.candidates:
        say()
        _print_candidate(one, proven.get(one.deployment, ""))
        depth_lines.print_depths(one, depths.get(one.deployment, ()))
    near = decider.nearest(decision)
    if near:
        say()
        say("  nearest change that would admit:")
        for change in near:
            say_folded(f"    {change.deployment}: ", change.change)
    waived = {r.rule: r for r in decider.fleet.tenant.relax}
    for deployment, rule_id in decision.eligibility.relaxed:
        by = waived[rule_id]
        say_folded(f"  {deployment}: ", f"{rule_id} waived by {by.signer}: {by.reason}")
    say()
    order = " then ".join(map(_attempt, decision.plan.attempts)) or "nobody"
    say_folded("  plan: ", f"{order}   ({decision.plan.objective}: {decision.plan.why})")
    unread = [pack.id for pack in decider.policy.packs if not pack.reviewed]
    if unread:
        say_folded("  note: ", f"no person has reviewed pack {', '.join(unread)} yet")
    for pack in decider.policy.packs:
        if pack.manifest.status != "in-force":
            say_folded("  note: ", f"pack {pack.id} is a {pack.manifest.status}, not law that was verified")
