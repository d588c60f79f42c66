"""Drills as pages: the same sections become HTML, Markdown and pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from allod.drills.losses import REMOVED, UNKNOWN
from allod.drills.words import (
    amount,
    count,
    hours,
    many,
    points,
    printable,
    share,
    usd_between,
)
from allod.planner.pictures import Bar, Cell, Picture, Section, bars, matrix, page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allod.drills.restore import Restoration, Tried
    from allod.drills.run import Drill, Line
    from allod.drills.traffic import Traffic

MOST_ROWS: Final = 40
MOST_BARS: Final = 14
MOST_REASONS: Final = 5
NOTHING_SERVED: Final = "Nothing was served in this span, so nothing can be said of it."
Table = tuple[tuple[str, ...], ...]


class Page(msgspec.Struct, frozen=True):
    """A page: title, lead, sections, and where the numbers are from.

    ``drawn`` are tables that stand for pictures where none can be shown, by the heading of their section.
    """

    title: str
    lead: str
    sections: tuple[Section, ...]
    foot: tuple[str, ...] = ()
    drawn: dict[str, Table] = {}

    def html(self) -> str:
        """Return it as one HTML file."""
        return page(self.title, self.sections, lead=self.lead, foot=self.foot)

    def pictures(self) -> list[Picture]:
        """Return its pictures in order."""
        return [one.picture for one in self.sections if one.picture is not None]

    def markdown(self, image: Mapping[str, str] | None = None, level: int = 1, *, foot: bool = True) -> str:
        """Return it as Markdown; ``image`` maps a picture's title to the file it was written to."""
        out = [f"{'#' * level} {printable(self.title)}", "", printable(self.lead), ""]
        for one in self.sections:
            out += [f"{'#' * (level + 1)} {printable(one.heading)}", ""]
            out += [line for text in one.texts for line in (printable(text), "")]
            if one.picture is not None and image is not None:
                out += [f"![{one.picture.title}]({image[one.picture.title]})", ""]
            if one.table:
                out += [*_table(one.table), ""]
        if self.foot and foot:
            out += ["---", "", *(line for text in self.foot for line in (printable(text), ""))]
        return "\n".join(out).rstrip() + "\n"


def _table(rows: Table) -> list[str]:
    head, *body = ([printable(cell).replace("|", "\\|") for cell in row] for row in rows)
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row) + " |" for row in body),
    ]


def traffic_foot(traffic: Traffic) -> tuple[str, ...]:
    """Say what a drill was made on."""
    asked, decisions = many(traffic.requests, "request"), many(traffic.decisions, "distinct decision")
    if traffic.generated:
        told = f"{asked} made up from the configuration (nobody asked them), taken as {traffic.days} days; "
        told += decisions
    else:
        told = f"{asked} recorded on {many(traffic.days, 'day')}, {decisions}"
    out = [f"{told}; digest of all records {traffic.records}."]
    out += [f"Left out: {many(one.requests, 'request')}: {one.reason}." for one in traffic.left]
    return tuple(out)


def drill_page(drill: Drill, restoration: Restoration | None, traffic: Traffic) -> Page:
    """Return the page of one world."""
    world = drill.world
    sections = [_what(drill), _uncovered(drill)]
    sections += [_figures(drill)]
    if drill.rooms:
        sections.append(_rooms(drill))
    if restoration is not None and restoration.uncovered:
        sections.append(restoration_section(restoration, f": {world.title or world.id}"))
    lead = " ".join(text for text in (world.text, drill_lead(drill)) if text)
    foot = traffic_foot(traffic)
    if world.source:
        foot = (f"World {world.id}: {world.source}" + (f" ({world.as_of})." if world.as_of else "."), *foot)
    return Page(world.title or world.id, lead, tuple(sections), foot)


def drill_lead(drill: Drill) -> str:
    """Say in a sentence what a world does."""
    if drill.nothing:
        return "This world takes nothing away from this fleet."
    if not drill.served:
        return NOTHING_SERVED
    if drill.uncovered == drill.served:
        return "Nothing is served any more."
    told = f"Nobody serves {share(drill.share)} of what was served"
    if not drill.uncovered:
        told = "All that was served is still served"
    elif drill.critical_served:
        told += f", and {share(drill.critical_share)} of what critical applications asked"
    if not drill.moved:
        return told + (". The rest is served by whom it was." if drill.uncovered else ", by whom it was.")
    goes = "goes" if drill.moved == 1 else "go"
    return f"{told}. {many(drill.moved, 'request')} {goes} to another deployment."


def _what(drill: Drill) -> Section:
    rows: list[tuple[str, ...]] = [("Gone", "Why")]
    rows += [(name, "; ".join(why)) for name, why in sorted(drill.gone.items())]
    texts = []
    if drill.unsure:
        texts.append(
            f"Counted as gone because nobody knows: {', '.join(drill.unsure)}. Declare the fact, or write "
            'unknown = "spared" in the world.'
        )
    if drill.idle:
        texts.append(f"Named in this world and without effect here: {'; '.join(drill.idle)}.")
    if not drill.gone and not drill.nothing:
        texts.append("No deployment is gone as such; law, link or prices decide.")
    return Section("What is gone", tuple(texts), None, tuple(rows) if len(rows) > 1 else ())


def _uncovered(drill: Drill) -> Section:
    rows: list[tuple[str, ...]] = [
        ("Application", "Task", "Classes", "Served", "Uncovered", "Share", "Stopped by")
    ]
    rows += [
        (
            one.app + (" (critical)" if one.critical else ""), one.task or "-", ", ".join(one.classes),
            count(one.served), count(one.uncovered), share(one.uncovered / one.served), _stopped(one),
        )
        for one in drill.lines[:MOST_ROWS]
        if one.uncovered
    ]  # fmt: skip
    if not drill.served:
        return Section("What nobody serves any more", (NOTHING_SERVED,))
    if len(rows) == 1:
        return Section("What nobody serves any more", ("Everything that was served is still served.",))
    picture = bars(
        f"Share of requests that nobody serves: {drill.world.title or drill.world.id}",
        [
            Bar(f"{one.app}: {one.task or 'no task'}", 100 * one.uncovered / one.served,
                kind="warn" if one.critical else "plain")
            for one in drill.lines[:MOST_BARS]
            if one.uncovered
        ],
        "% of served requests",
        about="Critical applications are marked by colour; what is still served is not drawn.",
    )  # fmt: skip
    return Section("What nobody serves any more", (), picture, tuple(rows))


def _stopped(line: Line) -> str:
    """Say what stops requests: whoever served is gone, and what stands against everybody else."""
    words = {REMOVED: "gone in this world", UNKNOWN: "not known, so counted as gone"}
    gone = [words[name] for name, _ in line.reasons if name in words]
    others = [name for name, _ in line.reasons if name not in words]
    shown = ", ".join(others[:MOST_REASONS])
    shown += f" and {len(others) - MOST_REASONS} more" if len(others) > MOST_REASONS else ""
    if not gone:
        return shown
    return " or ".join(gone) + (f"; against others: {shown}" if shown else "; there is no other")


def _figures(drill: Drill) -> Section:
    lost, told = drill.quality_lost, "success rates were not recorded"
    if lost is not None:
        told = f"holds {share(lost.level)}: {lost.source}" + (f"; {lost.note}" if lost.note else "")
    if not drill.served or drill.uncovered == drill.served:
        text = "Nothing is served any more: there is no quality and no cost to compare."
        if not drill.served:
            return Section("Quality and cost", (NOTHING_SERVED,))
        spared = f"No longer spent a month, which is no saving: {usd_between(drill.spared_month_usd)}."
        return Section("Quality and cost", (text, spared))
    rows: list[tuple[str, ...]] = [
        ("Figure", "Value and interval", "From"),
        ("Requests that nobody serves", f"{count(drill.uncovered)} of {count(drill.served)}", "counted"),
        ("Quality lost by what is still served", points(lost), told),
        (
            "Cost a month before the loss, of what is still served", usd_between(drill.cost_month_before_usd),
            "" if drill.cost_month_before_usd is None else drill.cost_month_before_usd.note,
        ),
        (
            "Cost change a month", usd_between(drill.cost_change_month_usd),
            "" if drill.cost_change_month_usd is None else drill.cost_change_month_usd.source,
        ),
        (
            "No longer spent a month on what nobody serves", usd_between(drill.spared_month_usd),
            "no saving: the work is not done",
        ),
    ]  # fmt: skip
    return Section("Quality and cost", (), None, tuple(rows))


def _rooms(drill: Drill) -> Section:
    rows: list[tuple[str, ...]] = [
        (
            "Deployment",
            "Site",
            "Requests a day before",
            "Requests a day after",
            "Needed at the peak",
            "It gives",
            "Missing",
        )
    ]
    for one in drill.rooms:
        before, after = (f"{rate * 86_400:,.0f}" for rate in one.requests_s)
        rows.append(
            (
                one.deployment, one.site, before, after,
                "nothing" if not one.requests_s[1] else amount(one.need, one.unit if one.need else ""),
                amount(one.room, one.unit if one.room else ""),
                one.why if one.missing is None else amount(one.missing, "") if one.missing.high else "none",
            )
        )  # fmt: skip
    return Section("Room at each site", (), None, tuple(rows))


def restoration_section(found: Restoration, of: str = "") -> Section:
    """Return what restores the work; ``of`` ends the picture's title."""
    looked = found.looked_at
    texts = [
        f"All {count(looked)} were decided again with each remedy in place."
        if looked == found.uncovered
        else f"{count(looked)} of {count(found.uncovered)} were decided again with each remedy in place, "
        "those of the most frequent kinds; shares are of these."
    ]
    if found.today:
        texts.append(f"{count(found.today)} of them are served by today's configuration already.")
    if found.cheapest is None and found.fastest is None:
        texts.append("No remedy that was tried brings more back without waiving a rule.")
    elif found.cheapest == found.fastest:
        texts.append(f"Cheapest and fastest: {_told(found.cheapest)}.")
    else:
        texts += [f"{label}: {_told(one)}." for label, one in
                  (("Cheapest", found.cheapest), ("Fastest", found.fastest)) if one is not None]  # fmt: skip
    if found.waiving is not None:
        texts.append(
            f"Only by waiving rules: {_told(found.waiving)}. A drill does not say that they may be waived: "
            + "; ".join(found.waiving.waives)
            + "."
        )
    rows: list[tuple[str, ...]] = [("Remedy", "Brings back", "Time", "Cost once", "A month", "Terms")]
    useful = [one for one in found.tried if one.requests > found.today]
    rows += [_row(one) for one in useful][:MOST_ROWS]
    shown = [one for one in useful if not one.waives][:MOST_BARS]
    picture = None
    if shown:
        picture = bars(
            f"Time to restore by each remedy{of}",
            [
                Bar(f"{one.titles[0]} ({share(one.share)})", one.hours.value / 24, one.hours.low / 24,
                    one.hours.high / 24, kind="own")
                for one in shown
            ],
            "days",
            about="In brackets: the share of uncovered requests it brings back.",
        )  # fmt: skip
    return Section("What brings it back", tuple(texts), picture, tuple(rows) if len(rows) > 1 else ())


def _told(one: Tried | None) -> str:
    assert one is not None
    return (
        f"{' with '.join(one.titles)}: brings back {share(one.share)} in {hours(one.hours)}, for "
        f"{usd_between(one.cost_usd)} once and {usd_between(one.month_usd)} a month"
    )


def _row(one: Tried) -> tuple[str, ...]:
    terms = "waives rules" if one.waives else "assumed" if one.assumed else "own"
    return (
        " with ".join(one.titles), share(one.share), hours(one.hours), usd_between(one.cost_usd),
        usd_between(one.month_usd), terms,
    )  # fmt: skip


__all__ = ["Cell", "Page", "drill_lead", "drill_page", "matrix", "restoration_section", "traffic_foot"]
