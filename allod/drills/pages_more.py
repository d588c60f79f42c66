"""The pages of many worlds: the matrix of losses, the cost of a year, concentration, the exit test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from allod.drills.everything import TOP, app_shares
from allod.drills.pages import NOTHING_SERVED, Page, Table, traffic_foot
from allod.drills.scenarios import signs
from allod.drills.words import (
    NOT_KNOWN,
    amount,
    count,
    many,
    points,
    share,
    usd,
    usd_between,
)
from allod.planner.pictures import Bar, Cell, Line, Section, Swing, bars, lines, matrix, tornado

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from allod.drills.concentration import Axis
    from allod.drills.everything import Matrix, Row
    from allod.drills.expected import Expected, Ranked
    from allod.drills.scenarios import Contradiction, Odds, Tick
    from allod.drills.traffic import Traffic

MOST_LOSSES: Final = 16
MOST_APPS: Final = 8
MOST_NAMED: Final = 8
LEAST_TOLD: Final = 0.005
"""Indices that differ by less read the same."""
FEW_PARTS: Final = 3
LEAST_SWING: Final = 0.01
"""What moves the result by less is not drawn."""


def matrix_page(found: Matrix, traffic: Traffic, critical: frozenset[str], who: str) -> Page:
    """Return every loss and every pair of the worst, as a board reads it."""
    if not any(one.first is not None for one in traffic.groups):
        return Page(f"What could be taken away: {who}", NOTHING_SERVED, (), traffic_foot(traffic))
    if not found.rows:
        lead = "No single loss of this fleet changes anything that was served."
        return Page(f"What could be taken away: {who}", lead, (), traffic_foot(traffic))
    worst = found.rows[0]
    changing, harmless = len(found.rows), len(found.harmless)
    lead = (
        f"{many(changing, 'different loss', 'different losses')} {'changes' if changing == 1 else 'change'} "
        f"something, {harmless} {'changes' if harmless == 1 else 'change'} nothing. The worst is "
        f"\u201c{_name(worst)}\u201d: nobody serves {share(worst.drill.share)} of what was served."
    )
    apps, drawn = _apps(found, critical)
    sections, tables = [apps, _singles(found)], {apps.heading: drawn}
    if found.pairs:
        pairs, drawn = _pairs(found)
        sections.append(pairs)
        tables[pairs.heading] = drawn
    return Page(f"What could be taken away: {who}", lead, tuple(sections), traffic_foot(traffic), tables)


def _name(row: Row) -> str:
    return (row.world.title or row.world.id) + (" *" if row.drill.unsure else "")


def _unsure(found: Matrix) -> tuple[str, ...]:
    """Say what counts as gone because nobody knows."""
    names = sorted({name for row in found.rows for name in row.drill.unsure})
    if not names:
        return ()
    return (f"With * also counts as gone what nobody knows of {', '.join(names)}: declare it.",)


def _as_table(
    corner: str, rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[Cell]]
) -> Table:
    """Return a matrix as a table."""
    body = ((name, *(cell.text for cell in line)) for name, line in zip(rows, cells, strict=True))
    return ((corner, *columns), *body)


def _apps(found: Matrix, critical: frozenset[str]) -> tuple[Section, Table]:
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
    losses = [_name(row) for row in rows]
    picture = matrix(
        "Share of requests that nobody serves, by loss and application",
        losses,
        names,
        cells,
        about="One row a loss, the worst first.",
        scale=("still served", "served by nobody"),
    )
    text = "If one thing is gone: what share of each application's requests nobody serves any more."
    section = Section("Loss by application", (text, *_unsure(found)), picture)
    return section, _as_table("Loss", losses, names, cells)


def _share_cell(value: float | None) -> Cell:
    return Cell("-", None) if value is None else Cell(share(value), value)


def _singles(found: Matrix) -> Section:
    rows: list[tuple[str, ...]] = [
        (
            "Loss",
            "Nobody serves",
            "Of critical requests",
            "Quality lost",
            "Cost change a month",
            "Harm a day",
            "Run it as",
        )
    ]
    for row in found.rows:
        drill = row.drill
        names = (row.world.id, *row.same_as)
        same = ", ".join(names[:MOST_NAMED])
        same += f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        rows.append(
            (
                _name(row), share(drill.share),
                share(drill.critical_share) if drill.critical_served else "-",
                points(drill.quality_lost) if drill.uncovered < drill.served else "-",
                usd_between(drill.cost_change_month_usd) if drill.uncovered < drill.served else "-",
                usd_between(row.harm_day_usd), same,
            )
        )  # fmt: skip
    text = (
        "Ordered by the share of critical requests, then by harm a day: what unserved, dearer and worse "
        "answers cost by the drill's assumptions. Quality and cost are of what is still served. Losses that "
        "do the very same are one row; allod drill run takes any of their names."
    )
    return Section("Every single loss", (text,), None, tuple(rows))


def _pairs(found: Matrix) -> tuple[Section, Table]:
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
        about="Columns are the rows' numbers; on the diagonal each loss alone.",
        scale=("still served", "served by nobody"),
    )
    worse = sorted((p for p in found.pairs if p.beyond > 0), key=lambda p: -p.beyond)[:MOST_NAMED]
    rows: list[tuple[str, ...]] = [("Together", "Nobody serves", "More than the worse of the two")]
    rows += [
        (f"{titles[p.first]}; {titles[p.second]}", share(p.share), f"{100 * p.beyond:.0f} points more")
        for p in worse
    ]
    text = "No pair stops more than the worse of its two does alone." if not worse else ""
    section = Section("Pairs of the worst", (text,) if text else (), picture, tuple(rows) if worse else ())
    return section, _as_table("Loss", labels, [str(n + 1) for n in range(len(names))], cells)


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
        f"years: {usd_between(found.tail)}. {share(found.quiet)} of years cost nothing. In brackets: odds, "
        "harm a day and time to restore, all at their low and all at their high ends."
    )
    swings, drawn = _tornado(found)
    sections = [_events(found), swings]
    sections += [_hedges(found)] if found.hedges else []
    sections += [_signs(made, ticks), _contradictions(wrong)]
    foot = (
        (
            f"{found.draws:,} simulated years, seed {found.seed}. Odds are judgements over "
            f"{made.horizon_years} years ({made.horizon_source}), turned into a year at a constant rate; "
            "odds of scenarios are varied by a quarter. Costs a day are those of drills; what a request "
            "costs that nobody serves is an assumption."
        ),
        *traffic_foot(traffic),
    )
    tables = {swings.heading: drawn} if drawn else {}
    return Page(f"What disruption may cost: {who}", lead, tuple(sections), foot, tables)


def _events(found: Expected) -> Section:
    rows: list[tuple[str, ...]] = [("What", "Kind", "Begins within a year", "Expected cost a year")]
    ordered = sorted(found.lines, key=lambda one: -one.usd_year.value)
    for one in ordered:
        p = one.probability
        if one.usd_year.high <= 0:
            continue
        rows.append((one.title, one.group, f"{share(p.low)} to {share(p.high)}", usd_between(one.usd_year)))
    shown = [one for one in ordered if one.usd_year.high > 0]
    free = [one.title for one in ordered if one.usd_year.high <= 0]
    texts = (f"These cost this fleet nothing: {'; '.join(free)}.",) if free else ()
    if not shown:
        return Section("By what causes it", texts)
    picture = bars(
        "Expected cost of disruption in a year, by what causes it",
        [Bar(one.title, one.usd_year.value, one.usd_year.low, one.usd_year.high,
             kind="warn" if one.group == "scenario" else "plain") for one in shown],
        "USD a year",
        about="Scenarios are marked by colour. The interval: odds, harm and time to restore at their ends.",
    )  # fmt: skip
    return Section("By what causes it", texts, picture, tuple(rows))


def _tornado(found: Expected) -> tuple[Section, Table]:
    swings = [
        Swing(one.title, one.low_usd, one.high_usd, share(one.low_probability), share(one.high_probability))
        for one in found.swings
        if abs(one.high_usd - one.low_usd) > LEAST_SWING * abs(found.expected.value)
    ]
    swings.sort(key=lambda one: (-abs(one.high - one.low), one.label))
    if not swings:
        return Section("How much the odds matter", ("No single odds move the expected cost by 1 %.",)), ()
    picture = tornado(
        "How far the odds of each move the expected cost",
        found.expected.value,
        swings,
        "USD a year",
        about="Each alone from the low to the high end of its odds a year, if that moves it by 1 % or more.",
    )
    rows: list[tuple[str, ...]] = [
        ("Odds a year of", "From", "Expected cost then", "To", "Expected cost then")
    ]
    rows += [(o.label, o.low_text, usd(o.low), o.high_text, usd(o.high)) for o in swings]
    return Section("How much the odds matter", (), picture), tuple(rows)


def _hedges(found: Expected) -> Section:
    rows: list[tuple[str, ...]] = [
        (
            "Hedge",
            "Costs in the first year",
            "Takes off the expected cost",
            "Takes off the worst 5 %",
            "Saved for each 1 spent",
        )
    ]
    for one in found.hedges:
        per = one.per_usd
        rows.append(
            (
                one.title, usd_between(one.year_usd), usd_between(one.less_expected_usd),
                usd_between(one.less_tail_usd), amount(per, ""),
            )
        )  # fmt: skip
    picture = bars(
        "What a hedge takes off the expected cost, for each unit of money",
        [Bar(o.title, o.per_usd.value, o.per_usd.low, o.per_usd.high, kind="own") for o in found.hedges],
        "saved for each 1 spent",
        about="Above 1 it pays for itself in a year on average. Interval: odds, harm, costs at their ends.",
    )  # fmt: skip
    text = (
        "Ranked by what they take off the expected cost for each unit of money, the same in any currency. "
        f"{_sure(found.hedges)}"
    )
    return Section("Hedges", (text,), picture, tuple(rows))


def _sure(hedges: Sequence[Ranked]) -> str:
    """Say whether the first hedge is first whatever the odds, within their ranges."""
    if len(hedges) == 1:
        return "There is one."
    first, second = hedges[0], max(hedges[1:], key=lambda one: one.per_usd.high)
    if first.per_usd.low >= second.per_usd.high:
        return "The first is first at either end of all ranges."
    return f"Which is first depends on odds and costs: at their ends it may be \u201c{second.title}\u201d."


def _signs(made: Odds, ticks: Sequence[Tick]) -> Section:
    known = signs(made)
    text = (
        f"{len(ticks)} of {len(known)} signs are ticked: allod drill tick lists them, allod drill tick SIGN "
        "notes that one was seen. That moves a range towards its upper end."
    )
    if not ticks:
        return Section("Early signs", (text,))
    rows: list[tuple[str, ...]] = [("Sign", "What to look for", "Seen")]
    rows += [(one.sign, known.get(one.sign, ""), f"{one.day} {one.note}".strip()) for one in ticks]
    return Section("Early signs", (text,), None, tuple(rows))


def _contradictions(wrong: Sequence[Contradiction]) -> Section:
    if not wrong:
        return Section("Odds that contradict each other", ("None.",))
    rows: list[tuple[str, ...]] = [("What", "Why", "Gap in probability")]
    rows += [(one.what, one.why, f"{one.gap}") for one in wrong]
    return Section("Odds that contradict each other", (), None, tuple(rows))


# --- concentration


def concentration_page(axes: Sequence[Axis], traffic: Traffic, who: str) -> Page:
    """Return on whom the work rests."""
    if not axes:
        return Page(f"On whom the work rests: {who}", NOTHING_SERVED, (), traffic_foot(traffic))
    known = [one for one in axes if one.unknown < 1]
    lead = "On no axis is known on whom the work rests: declare it." if not known else _worst(known)
    sections = [_indices(axes)]
    sections += [_trend(axes)] if any(len(one.trend) > 1 for one in axes) else []
    sections += [_lower(axes)]
    return Page(f"On whom the work rests: {who}", lead, tuple(sections), traffic_foot(traffic))


def _worst(axes: Sequence[Axis]) -> str:
    """Say where the work is most concentrated, all axes together that are alike."""
    worst = max(axes, key=lambda one: one.hhi.value)
    like = [o for o in axes if o.weight == worst.weight and worst.hhi.value - o.hhi.value < LEAST_TOLD]
    names = ", ".join(f"{one.axis} ({short_name(one.shares[0].name)})" for one in like)
    if worst.hhi.value > 1 - LEAST_TOLD:
        return f"All of the {_weight(worst)} rests on one {names}."
    return (
        f"Most concentrated, by {_weight(worst)}: {names}: index {worst.hhi.value:.2f}, as if "
        f"{worst.effective.value:.1f} equal ones shared the work."
    )


def short_name(name: str) -> str:
    """Return a name on an axis; of many places the first three."""
    parts = name.split("+")
    return (
        name
        if len(parts) <= FEW_PARTS
        else f"{'+'.join(parts[:FEW_PARTS])} and {len(parts) - FEW_PARTS} more"
    )


def _weight(one: Axis) -> str:
    return "all traffic" if one.weight == "traffic" else "traffic of critical applications"


def _indices(axes: Sequence[Axis]) -> Section:
    rows: list[tuple[str, ...]] = [("Axis", "Weight", "Index", "Effective number", "Not known", "Shares")]
    for one in axes:
        hhi, number = f"{one.hhi.value:.2f}", f"{one.effective.value:.1f}"
        shares = ", ".join(f"{short_name(s.name)} {share(s.share)}" for s in one.shares[:5])
        if one.unknown:
            hhi += f" ({one.hhi.low:.2f} to {one.hhi.high:.2f})"
            number += f" ({one.effective.low:.1f} to {one.effective.high:.1f})"
        if one.unknown == 1:
            hhi = number = NOT_KNOWN
        rows.append((one.axis, _weight(one), hhi, number, share(one.unknown), shares))
    picture = bars(
        "Concentration by axis: 1 is all on one",
        [
            Bar(f"{one.axis}, {_weight(one)}", one.hhi.value, one.hhi.low if one.unknown else None,
                one.hhi.high if one.unknown else None, kind="warn" if one.weight == "critical" else "plain")
            for one in axes
        ],
        "Herfindahl index",
        about="The interval: all that is not known is spread thin, or is the largest known one.",
    )  # fmt: skip
    text = (
        "The index is Herfindahl's, the sum of squared shares: 1 where all rests on one, 0.5 on two alike. "
        "The effective number is its inverse: so many equal ones would be as concentrated."
    )
    return Section("By axis", (text,), picture, tuple(rows))


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
    changes: dict[str, list[str]] = {}
    for one in shown:
        told = NOT_KNOWN if one.slope_month is None else f"{one.slope_month:+.3f}"
        changes.setdefault(told, []).append(one.axis)
    rows: list[tuple[str, ...]] = [("Axis", "Change of the index a month")]
    rows += [(", ".join(axes_of), told) for told, axes_of in changes.items()]
    return Section("Over time", (), picture, tuple(rows))


def _lower(axes: Iterable[Axis]) -> Section:
    rows: list[tuple[str, ...]] = [
        (
            "Change",
            "Lowers the index of",
            "Weight",
            "Requests",
            "Index",
            "Cost change a month",
            "Quality change",
        )
    ]
    changes: dict[tuple[str, ...], list[str]] = {}
    for one in axes:
        for change in one.lower[:1]:
            quality = NOT_KNOWN if change.quality is None else f"{100 * change.quality:+.1f} points"
            told = f"{change.app}, {change.task or 'no task'}: from {change.from_} to {change.to}"
            index = f"{one.hhi.value:.3f} to {change.hhi:.3f}"
            key = told, _weight(one), count(change.requests), index, usd(change.cost_month_usd), quality
            changes.setdefault(key, []).append(one.axis)
    rows += [(key[0], ", ".join(names), *key[1:]) for key, names in changes.items()]
    text = (
        "The best single change among deployments that were lawful, able and up for the very same requests."
    )
    if len(rows) == 1:
        return Section("What would lower it", (text, "There is none: no other such deployment."))
    return Section("What would lower it", (text,), None, tuple(rows))
