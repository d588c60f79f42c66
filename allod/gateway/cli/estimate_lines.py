"""How commands keep, use and show per-request estimates; nothing is loaded where no task asks for them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

import msgspec

from allod.domain.decision import Estimated
from allod.domain.errors import AllodError, Invalid
from allod.domain.money import plain
from allod.gateway.cli import say
from allod.gateway.cli.lines import say_columns, say_folded
from allod.routing.plan import estimated_of, solved_usd
from allod.routing.question import facts_of
from allod.routing.record import plain_data

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from allod.assurance.cases import Case
    from allod.gateway.compose import Setting
    from allod.gateway.decide import Decider, Decision, Guesses
    from allod.gateway.estimates.kept import Known, TaskKnown
    from allod.gateway.evaluations import Kept
    from allod.routing.question import DeploymentFacts

LEFT = 2
"""Columns of words."""


def tasks_of(setting: Setting) -> tuple[str, ...]:
    """Return the tasks that ask for estimates."""
    return tuple(name for name, task in setting.fleet.tasks.items() if task.estimate)


def keep_words(setting: Setting, kept: Kept, cases: Iterable[Case]) -> int:
    """Keep the words of an evaluation's cases, where tasks ask for estimates (raises ``Unavailable``)."""
    tasks = set(tasks_of(setting)) & set(kept.evaluation.tasks)
    if not tasks:
        return 0
    from allod.gateway.estimates import words  # noqa: PLC0415 (only where one asks for it)
    from allod.store.home import load_keys  # noqa: PLC0415

    return words.keep(setting.home, kept, cases, tasks, words.key_of(load_keys(setting.home).secret))


def keep_later(name: str, file: Path) -> int:
    """Keep the words of an evaluation from the file it was run on; returns of how many cases.

    Raises:
        Invalid: it was run on other cases, or no task of it asks for estimates.

    """
    from allod.assurance.cases import CHECKERS, read_suite  # noqa: PLC0415 (only when it runs)
    from allod.gateway import compose, evaluations  # noqa: PLC0415

    setting = compose.setting(None)
    kept = evaluations.one(setting.home, name)
    raw, csv_file = file.read_bytes(), file.suffix == ".csv"
    for task in (None, *kept.evaluation.tasks):
        for checker in (None, *CHECKERS):
            suite = read_suite(raw, csv_file=csv_file, checker=checker, task=task)
            if suite.digest == kept.evaluation.suite:
                found = keep_words(setting, kept, suite.cases)
                if not found:
                    raise Invalid(
                        "no task of this evaluation asks for estimates", "", "set `estimate = true`"
                    )
                return found
    raise Invalid(
        f"evaluation {kept.short} was not run on {file.name}",
        "its cases are others",
        "name the file it was run on",
    )


# --- eval status


def status(setting: Setting) -> dict[str, Any] | None:
    """Say what the estimator of a home knows; None where no task asks for estimates."""
    tasks = tasks_of(setting)
    if not tasks:
        return None
    from allod.gateway.estimates import kept  # noqa: PLC0415

    try:
        known = kept.known_of(setting.home)
    except AllodError as fault:
        return {"tasks": list(tasks), "known": None, "why": f"{fault.what}: {fault.why}"}
    if known is None:
        why = "nothing was fitted yet: a start of the gateway does, once an evaluation of these tasks counts"
        return {"tasks": list(tasks), "known": None, "why": why}
    return {"tasks": list(tasks), "known": plain_data(known), "why": _outdated(setting, known)}


def _outdated(setting: Setting, known: Known) -> str:
    from allod.gateway.estimates.gathering import sources_of  # noqa: PLC0415

    same = sources_of(setting.proven, datetime.now(UTC).date()) == known.sources
    return "" if same else "other evaluations count now: the next start fits anew, nothing is used before"


def say_status(said: dict[str, Any] | None) -> None:
    """Print it."""
    if said is None:
        return
    say()
    known = said["known"]
    if known is None:
        say_folded("estimates   ", f"for {', '.join(said['tasks'])}: {said['why']}")
        return
    say_folded(
        "estimates   ", f"fitted {known['day']} to {known['requests']} requests   {known['estimator']}"
    )
    if said["why"]:
        say_folded("  ", said["why"])
    heads = ("task", "used", "outcomes", "calibration error", "Brier", "of the rate alone")
    rows = [_row(one) for one in known["tasks"]]
    say_columns([heads, *rows], LEFT)
    for one in known["tasks"]:
        if one["why"]:
            say_folded(f"  {one['task']}: ", one["why"])
        counts = ", ".join(f"{name} {n}" for name, n in one["outcomes"].items())
        say_folded(f"  {one['task']}: ", f"outcomes of {counts}")


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    return (
        one["task"], "no" if one["why"] else "yes", f"{sum(one['outcomes'].values())}",
        one["calibration_error"] or "-", one["brier"] or "-", one["brier_of_rate"] or "-",
    )  # fmt: skip


# --- explain


def estimated(
    setting: Setting, decider: Decider, decision: Decision, prompt: str | None
) -> tuple[Decision, dict[str, Any] | None]:
    """Plan a request by estimates, as a gateway that starts now would.

    Returns:
        The decision, and what is said of the estimator (``candidates`` are its estimates): where
        it does not plan, the decision as it was, and why; None where the task asks for no estimates.

    """
    task = decider.fleet.tasks.get(decision.question.task or "")
    if task is None or not task.estimate:
        return decision, None
    known, pairs, why = _pairs(setting, decider, decision, prompt)
    if pairs and task.cascade is not None and not decision.question.pinned:
        why = "the task is answered in steps: its rule says who is asked"
    made = decision if known is None or why else decider.estimated(decision, pairs, known.said())
    said: dict[str, Any] = {"used": made is not decision, "why": why}
    said |= {"candidates": {name: plain_data(one) for name, one in pairs}}
    if known is not None:
        of = known.task(task.name)
        said |= {"estimator": known.estimator, "day": known.day, "evaluations": list(known.evaluations)}
        said |= {"audits": known.audits, "task": None if of is None else plain_data(of)}
    return made, said


def _pairs(
    setting: Setting, decider: Decider, decision: Decision, prompt: str | None
) -> tuple[Known | None, Guesses, str]:
    """Return what the estimator of a home is, what it estimates of a request, and why nothing, if nothing."""
    from allod.gateway.estimates import kept, planning, words  # noqa: PLC0415 (numpy)
    from allod.store.home import load_keys  # noqa: PLC0415

    found = kept.read(setting.home)
    if isinstance(found, str):
        return None, (), found or "nothing was fitted yet"
    known, estimator = found
    name = decision.question.task or ""
    of, names = known.task(name), planning.able(decision)
    why = _outdated(setting, known) or _unused(of, names)
    if not why and not planning.suits(decision.question, decider.fleet):
        why = "only plain text at the task's own depth is estimated, and nothing that is pinned"
    if not why and prompt is None:
        why = "what is asked is not known: say --prompt or --prompt-file"
    if why or of is None or prompt is None:
        return known, (), why
    counts = {(name, one): n for one, n in of.outcomes.items()}
    read = words.read_prompt(prompt, name, words.key_of(load_keys(setting.home).secret))
    return known, planning.pairs_of(estimator, counts, read, names), ""


def _unused(of: TaskKnown | None, names: tuple[str, ...]) -> str:
    """Say why candidates are not estimated, empty where they are."""
    from allod.gateway.estimates.kept import LEAST  # noqa: PLC0415

    if of is None:
        return "there is no evidence of this task"
    short = [name for name in names if of.outcomes.get(name, 0) < LEAST]
    if not of.why and short:
        return (
            f"fewer than {LEAST} outcomes of {', '.join(short)}: all who could serve are estimated, or nobody"
        )
    return of.why or ("" if names else "nobody could serve it")


def alternatives(decision: Decision) -> list[dict[str, Any]]:
    """Say what each candidate would have cost, by request and by success, first the one that is asked."""
    facts = {one.deployment: one for one in facts_of(decision.question).candidates}
    order = [one.deployment for one in decision.plan.attempts]
    names = [*order, *(one.deployment for one in decision.plan.candidates if one.deployment not in order)]
    excluded = {one.deployment for one in decision.plan.candidates if not one.eligible}
    return [_alternative(facts[name], able=name not in excluded) for name in names if not facts[name].law]


def _alternative(one: DeploymentFacts, *, able: bool) -> dict[str, Any]:
    solved = solved_usd(one)
    return {
        "deployment": one.deployment,
        "able": able,
        "request_usd": None if one.cost_usd is None else plain(one.cost_usd),
        "success_usd": None if solved is None else _short(solved),
    }


def _short(amount: Decimal) -> str:
    with localcontext(prec=4):
        return plain(+amount)


def say_estimates(decision: Decision, said: dict[str, Any] | None) -> None:
    """Print what was estimated and by what, and what each alternative would have cost."""
    if said is not None:
        say()
        if "estimator" in said:
            of = f"from {len(said['evaluations'])} evaluations and {said['audits']} audits"
            say_folded("  estimates: ", f"fitted {said['day']}, {of}   {said['estimator']}")
        if not said["used"]:
            say_folded("  estimates: ", f"not planned by: {said['why']}")
        for name, one in said["candidates"].items():
            say_folded(f"    {name}: ", estimated_of(msgspec.convert(one, Estimated)))
    rows = alternatives(decision)
    if len(rows) > 1:
        say()
        say("  would have cost (USD expected)")
        heads = ("    deployment", "", "a request", "a success")
        say_columns([heads, *(_cells(row) for row in rows)], LEFT)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    note = "" if row["able"] else "excluded"
    return f"    {row['deployment']}", note, row["request_usd"] or "unknown", row["success_usd"] or "unknown"
