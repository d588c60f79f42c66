"""The page of an exit test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allod.drills.pages import Page, restoration_section, traffic_foot
from allod.drills.words import NOT_KNOWN, between, count
from allod.planner.pictures import Section

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allod.drills.exit_test import ExitTest, FunctionResult
    from allod.drills.traffic import Traffic


def exit_page(made: ExitTest, traffic: Traffic) -> Page:
    """Return the record of an exit test."""
    head: list[tuple[str, ...]] = [
        ("Field", "Value"), ("Entity", f"{made.entity or ''} {made.lei or ''}".strip()),
        ("Made at", made.made_at.partition(".")[0].replace("T", " ").removesuffix("Z") + " UTC"),
        ("Scenario", f"{made.scenario['title']} ({made.scenario['id']})"),
        *(("Law", one) for one in made.law), ("Period", _period(made)),
        ("Requests", f"{count(made.replayed)} decided again of {count(made.requests)}"),
        ("Result", made.conclusion),
    ]  # fmt: skip
    gone: list[tuple[str, ...]] = [("Provider", "Register", "Contracts", "Deployments", "Substitutability")]
    gone += [
        (
            f"{one.name or one.operator}", f"{one.code_type or ''} {one.code or NOT_KNOWN}".strip(),
            ", ".join(one.contracts) or "none in the register", ", ".join(one.deployments),
            ", ".join(one.substitutability) or NOT_KNOWN,
        )
        for one in made.providers
    ]  # fmt: skip
    functions: list[tuple[str, ...]] = [
        ("Function", "Critical", "Served", "Nobody serves", "Recovery time", "Back in", "By", "In time")
    ]
    functions += [_function(one) for one in made.functions]
    evidence: list[tuple[str, ...]] = [
        ("Evidence", "Digest or note"),
        ("Decision records", made.records_digest),
    ]
    evidence += [("Pack", one) for one in made.packs]
    evidence += [("Configuration", one) for one in made.configurations]
    if made.log is None:
        evidence.append(("Log", f"none: {made.log_why}"))
    else:
        evidence.append(("Log", f"{made.log.origin}, {made.log.size} leaves, root {made.log.root}"))
        evidence.append(("Log checked", made.log_why))
    away = Section("Taken away", (), None, tuple(gone))
    if not made.providers:
        away = Section("Taken away", ("No provider as such: law, link or prices decide.",))
    sections = [
        Section("Test", (), None, tuple(head)),
        away,
        Section("Functions", (), None, tuple(functions)),
    ]
    if made.alternatives is not None and made.alternatives.uncovered:
        sections.append(restoration_section(made.alternatives))
    sections += [
        Section("Evidence", (), None, tuple(evidence)),
        Section("What this test does not show", made.limits),
        Section("Assumptions", (), None, (("Assumption", "Value"), *made.assumptions.items())),
    ]
    title = f"Exit test: {made.scenario['title'] or made.scenario['id']}"
    return Page(title, made.conclusion, tuple(sections), traffic_foot(traffic))


def _period(made: ExitTest) -> str:
    if made.generated:
        return "none: the requests are made up from the configuration"
    first, last = (one[:16].replace("T", " ") for one in made.period)
    return f"{first} to {last} UTC"


def _function(one: FunctionResult) -> tuple[str, ...]:
    back = "not lost"
    if one.uncovered:
        back = "no remedy restores all of it"
    if one.uncovered and one.restore_hours_low is not None and one.restore_hours_high is not None:
        back = between(one.restore_hours_low, one.restore_hours_high)
    within: Mapping[bool | None, str] = {True: "yes", False: "no", None: NOT_KNOWN}
    return (
        f"{one.function} {one.name}".strip(), "yes" if one.critical else "no", count(one.served),
        count(one.uncovered), NOT_KNOWN if one.rto_hours is None else f"{one.rto_hours} h", back,
        " with ".join(one.remedies) or "-", within[one.within_rto],
    )  # fmt: skip
