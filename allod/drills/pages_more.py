"""The pages of many worlds: the matrix of losses, the cost of a year, concentration, the exit test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from allod.drills.everything import TOP, app_shares
from allod.drills.pages import Page, restoration_section, traffic_foot
from allod.drills.scenarios import signs
from allod.drills.words import NOT_KNOWN, count, points, share, usd, usd_between
from allod.planner.pictures import Bar, Cell, Line, Section, Swing, bars, lines, matrix, tornado

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from allod.drills.concentration import Axis
    from allod.drills.everything import Matrix, Row
    from allod.drills.exit_test import ExitTest
    from allod.drills.expected import Expected
    from allod.drills.scenarios import Contradiction, Odds, Tick
    from allod.drills.traffic import Traffic

MOST_LOSSES: Final = 16
MOST_APPS: Final = 8
MOST_NAMED: Final = 8
LEAST_SWING: Final = 0.01
"""What moves the result by less is not drawn."""


def matrix_page(found: Matrix, traffic: Traffic, critical: frozenset[str], who: str) -> Page:
    """Return every loss and every pair of the worst, as a board reads it."""
    if not found.rows:
        lead = "No single loss of this fleet changes anything that was served."
        return Page(f"What could be taken away: {who}", lead, (), traffic_foot(traffic))
    worst = found.rows[0]
    lead = (
        f"{len(found.rows)} different losses change something, {len(found.harmless)} change nothing. The "
        f"worst: {_name(worst)}: {share(worst.drill.share)} of what was served is served by nobody."
    )
    sections = [_apps(found, critical), _singles(found)]
    if found.pairs:
        sections.append(_pairs(found))
    return Page(f"What could be taken away: {who}", lead, tuple(sections), traffic_foot(traffic))


def _name(row: Row) -> str:
    return row.world.title or row.world.id


def _apps(found: Matrix, critical: frozenset[str]) -> Section:
    served: dict[str, int] = {}
    for line in found.rows[0].drill.lines:
        served[line.app] = served.get(line.app, 0) + line.served
    apps = sorted(served, key=lambda app: (app not in critical, -served[app], app))[:MOST_APPS]
    rows = found.rows[:MOST_LOSSES]
    cells = []
    for row in rows:
        shares = app_shares(row, apps)
        cells.append([_share_cell(row.drill.share), *(_share_cell(shares[app]) for app in apps)])
    names = ["all", *(f"{app} (critical)" if app in critical else app for app in apps)]
    picture = matrix(
        "Share of requests that nobody serves, by loss and application",
        [_name(row) for row in rows],
        names,
        cells,
        about="One row a loss, the worst first.",
        scale=("still served", "served by nobody"),
    )
    return Section("Loss by application", (), picture)


def _share_cell(value: float | None) -> Cell:
    return Cell("-", None) if value is None else Cell(share(value), value)


def _singles(found: Matrix) -> Section:
    rows: list[tuple[str, ...]] = [
        ("Loss", "Same as", "Uncovered", "Critical", "Quality lost", "Cost a month", "Harm a day")
    ]
    for row in found.rows:
        drill = row.drill
        same = ", ".join(row.same_as[:MOST_NAMED]) + (" ..." if len(row.same_as) > MOST_NAMED else "")
        rows.append(
            (
                _name(row), same or "-", share(drill.share),
                share(drill.critical_share) if drill.critical_served else "-", points(drill.quality_lost),
                usd_between(drill.cost_change_month_usd), usd_between(row.harm_day_usd),
            )
        )  # fmt: skip
    text = (
        "Harm a day adds what unserved, dearer and worse answers cost by the assumptions of the drill; it "
        "orders the losses. Losses that do the very same are one row."
    )
    return Section("Every single loss", (text,), None, tuple(rows))


def _pairs(found: Matrix) -> Section:
    names = list(dict.fromkeys(name for pair in found.pairs for name in (pair.first, pair.second)))[:TOP]
    titles = {row.world.id: _name(row) for row in found.rows}
    alone = {row.world.id: row.drill.share for row in found.rows}
    both = {frozenset((pair.first, pair.second)): pair.share for pair in found.pairs}
    cells = [[_share_cell(alone[a] if a == b else both[frozenset((a, b))]) for b in names] for a in names]
    labels = [f"{n + 1} {titles[name]}" for n, name in enumerate(names)]
    picture = matrix(
        "Two losses together: share of requests that nobody serves",
        labels,
        [str(n + 1) for n in range(len(names))],
        cells,
        about="On the diagonal each loss alone.",
        scale=("still served", "served by nobody"),
    )
    worse = sorted((p for p in found.pairs if p.beyond > 0), key=lambda p: -p.beyond)[:MOST_NAMED]
    rows: list[tuple[str, ...]] = [("Together", "Uncovered", "Beyond the worse of the two")]
    rows += [(f"{titles[p.first]}; {titles[p.second]}", share(p.share), share(p.beyond)) for p in worse]
    text = "No pair stops more than the worse of its two does alone." if not worse else ""
    return Section("Pairs of the worst", (text,) if text else (), picture, tuple(rows) if worse else ())


# --- a year


def expected_page(
    found: Expected,
    made: Odds,
    ticks: Sequence[Tick],
    wrong: Sequence[Contradiction],
    traffic: Traffic,
    who: str,
) -> Page:
    """Return what disruption is expected to cost in a year, and which hedges lower it for what."""
    lead = (
        f"Expected cost of disruption in a year: {usd_between(found.expected)}. Mean of the worst 5 % of "
        f"years: {usd_between(found.tail)}. {share(found.quiet)} of years cost nothing."
    )
    sections = [_events(found), _tornado(found)]
    sections += [_hedges(found)] if found.hedges else []
    sections += [_signs(made, ticks), _contradictions(wrong)]
    foot = (
        (
            f"{found.draws:,} simulated years, seed {found.seed}. Odds are judgements over "
            f"{made.horizon_years} years ({made.horizon_source}), turned into a year at a constant rate; "
            "odds of scenarios are varied by a quarter. Costs a day are drills; what a request costs that "
            "nobody serves is an assumption."
        ),
        *traffic_foot(traffic),
    )
    return Page(f"What disruption may cost: {who}", lead, tuple(sections), foot)


def _events(found: Expected) -> Section:
    rows: list[tuple[str, ...]] = [("What", "Kind", "Begins within a year", "Expected cost a year")]
    ordered = sorted(found.lines, key=lambda one: -one.usd_year.value)
    for one in ordered:
        p = one.probability
        rows.append((one.title, one.group, f"{share(p.low)} to {share(p.high)}", usd_between(one.usd_year)))
    shown = [one for one in ordered if one.usd_year.value > 0] or ordered[:1]
    picture = bars(
        "Expected cost of disruption in a year, by what causes it",
        [Bar(one.title, one.usd_year.value, one.usd_year.low, one.usd_year.high,
             kind="warn" if one.group == "scenario" else "plain") for one in shown],
        "USD a year",
        about="Scenarios are marked by colour; intervals are those of the simulation.",
    )  # fmt: skip
    return Section("By what causes it", (), picture, tuple(rows))


def _tornado(found: Expected) -> Section:
    swings = [
        Swing(one.title, one.low_usd, one.high_usd, share(one.low_probability), share(one.high_probability))
        for one in found.swings
        if abs(one.high_usd - one.low_usd) > LEAST_SWING * abs(found.expected.value)
    ]
    if not swings:
        return Section("How much the odds matter", ("No single odds move the expected cost by 1 %.",))
    picture = tornado(
        "How far the odds of each move the expected cost",
        found.expected.value,
        swings,
        "USD a year",
        about="Each alone from the low to the high end of its odds; those that move it by 1 % and more.",
    )
    return Section("How much the odds matter", (), picture)


def _hedges(found: Expected) -> Section:
    rows: list[tuple[str, ...]] = [
        (
            "Hedge",
            "Costs in the first year",
            "Takes off the expected cost",
            "Takes off the worst 5 %",
            "For each unit spent",
        )
    ]
    for one in found.hedges:
        per = one.per_usd
        rows.append(
            (
                one.title, usd_between(one.year_usd), usd_between(one.less_expected_usd),
                usd(one.less_tail_usd), f"{per.value:.2f} ({per.low:.2f} to {per.high:.2f})",
            )
        )  # fmt: skip
    picture = bars(
        "What a hedge takes off the expected cost, for each unit of money",
        [Bar(o.title, o.per_usd.value, o.per_usd.low, o.per_usd.high, kind="own") for o in found.hedges],
        "saved for each 1 spent",
        about="Above 1 it pays for itself in a year on average. The interval: odds and costs at their ends.",
    )  # fmt: skip
    text = "Ranked by what they take off the expected cost for each unit of money, the same in any currency."
    return Section("Hedges", (text,), picture, tuple(rows))


def _signs(made: Odds, ticks: Sequence[Tick]) -> Section:
    known = signs(made)
    text = (
        f"{len(ticks)} of {len(known)} signs are ticked. `allod drill tick` lists them, `allod drill "
        "tick SIGN` notes that one was seen; it moves a range towards its upper end."
    )
    if not ticks:
        return Section("Early signs", (text,))
    rows: list[tuple[str, ...]] = [("Sign", "What to look for", "Seen")]
    rows += [(one.sign, known.get(one.sign, ""), f"{one.day} {one.note}".strip()) for one in ticks]
    return Section("Early signs", (text,), None, tuple(rows))


def _contradictions(wrong: Sequence[Contradiction]) -> Section:
    if not wrong:
        return Section("Odds that contradict each other", ("None.",))
    rows: list[tuple[str, ...]] = [("What", "Why", "Gap")]
    rows += [(one.what, one.why, f"{one.gap}") for one in wrong]
    return Section("Odds that contradict each other", (), None, tuple(rows))


# --- concentration


def concentration_page(axes: Sequence[Axis], traffic: Traffic, who: str) -> Page:
    """Return on whom the work rests."""
    if not axes:
        return Page(f"On whom the work rests: {who}", "Nothing was served.", (), traffic_foot(traffic))
    worst = max(axes, key=lambda one: one.hhi.value)
    lead = (
        f"Most concentrated: {worst.axis}, by {_weight(worst)}: index {worst.hhi.value:.2f}, as concentrated "
        f"as {worst.effective.value:.1f} equal ones."
    )
    sections = [_indices(axes)]
    sections += [_trend(axes)] if any(len(one.trend) > 1 for one in axes) else []
    sections += [_lower(axes)]
    return Page(f"On whom the work rests: {who}", lead, tuple(sections), traffic_foot(traffic))


def _weight(one: Axis) -> str:
    return "all traffic" if one.weight == "traffic" else "traffic of critical applications"


def _indices(axes: Sequence[Axis]) -> Section:
    rows: list[tuple[str, ...]] = [("Axis", "Weight", "Index", "Effective number", "Not known", "Shares")]
    for one in axes:
        hhi = f"{one.hhi.value:.2f}" + (f" ({one.hhi.low:.2f} to {one.hhi.high:.2f})" if one.unknown else "")
        shares = ", ".join(f"{s.name} {share(s.share)}" for s in one.shares[:5])
        number = f"{one.effective.value:.1f}"
        if one.unknown:
            number += f" (up to {one.effective.high:.1f})" if one.unknown < 1 else " or more"
        rows.append((one.axis, _weight(one), hhi, number, share(one.unknown), shares))
    picture = bars(
        "Concentration by axis: 1 is all on one",
        [
            Bar(f"{one.axis}, {_weight(one)}", one.hhi.value, one.hhi.low if one.unknown else None,
                one.hhi.high if one.unknown else None, kind="warn" if one.weight == "critical" else "plain")
            for one in axes
        ],
        "Herfindahl index",
        about="The interval reaches down to what the index is if all that is not known is spread thin.",
    )  # fmt: skip
    return Section("By axis", (), picture, tuple(rows))


def _trend(axes: Sequence[Axis]) -> Section:
    shown = [one for one in axes if one.weight == "traffic" and len(one.trend) > 1]
    first = min(one.trend[0].since for one in shown)
    same: dict[tuple[tuple[float, float], ...], list[str]] = {}
    for one in shown:
        points = tuple((float((b.since - first).days), round(b.hhi, 6)) for b in one.trend)
        same.setdefault(points, []).append(one.axis)
    kinds = ("own", "rent", "open", "frontier", "warn")
    series = [
        Line(", ".join(axes_of), points, kind=kind)
        for (points, axes_of), kind in zip(same.items(), kinds, strict=False)
    ]
    picture = lines(
        "How concentration moved", series, x_unit=f"days from {first}", y_unit="Herfindahl index",
        about="By all traffic.",
    )  # fmt: skip
    rows: list[tuple[str, ...]] = [("Axis", "Change a month")]
    rows += [(o.axis, NOT_KNOWN if o.slope_month is None else f"{o.slope_month:+.3f}") for o in shown]
    return Section("Over time", (), picture, tuple(rows))


def _lower(axes: Iterable[Axis]) -> Section:
    rows: list[tuple[str, ...]] = [
        ("Axis", "Weight", "Change", "Requests", "Index then", "Cost a month", "Quality")
    ]
    for one in axes:
        for change in one.lower[:1]:
            quality = NOT_KNOWN if change.quality is None else f"{100 * change.quality:+.1f} points"
            told = f"{change.app}, {change.task or 'no task'}: {change.from_} to {change.to}"
            rows.append(
                (
                    one.axis, _weight(one), told, count(change.requests), f"{change.hhi:.2f}",
                    usd(change.cost_month_usd), quality,
                )
            )  # fmt: skip
    text = (
        "The best single change among deployments that were lawful, able and up for the very same requests."
    )
    if len(rows) == 1:
        return Section("What would lower it", (text, "There is none: no other such deployment."))
    return Section("What would lower it", (text,), None, tuple(rows))


# --- exit test


def exit_page(made: ExitTest, traffic: Traffic) -> Page:
    """Return the record of an exit test."""
    head: list[tuple[str, ...]] = [
        ("Field", "Value"), ("Entity", f"{made.entity or ''} {made.lei or ''}".strip()),
        ("Made at", made.made_at),
        ("Scenario", f"{made.scenario['title']} ({made.scenario['id']})"),
        ("Law", "; ".join(made.law)), ("Period", " to ".join(made.period)),
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
        ("Function", "Critical", "Served", "Uncovered", "Recovery time", "Back in", "In time")
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
    sections = [
        Section("Test", (), None, tuple(head)),
        Section("Taken away", (), None, tuple(gone)),
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


def _function(one: object) -> tuple[str, ...]:
    from allod.drills.exit_test import FunctionResult  # noqa: PLC0415 (typed here only)

    assert isinstance(one, FunctionResult)
    back = (
        NOT_KNOWN
        if one.restore_hours_high is None
        else f"{one.restore_hours_low:.0f} to {one.restore_hours_high:.0f} h"
    )
    back = "not lost" if not one.uncovered else back
    within: Mapping[bool | None, str] = {True: "yes", False: "no", None: NOT_KNOWN}
    return (
        f"{one.function} {one.name}".strip(), "yes" if one.critical else "no", count(one.served),
        count(one.uncovered), NOT_KNOWN if one.rto_hours is None else f"{one.rto_hours} h", back,
        within[one.within_rto],
    )  # fmt: skip
