"""The page of a day: what it came to, what was done and what moved, and the table, in Markdown."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator

from day_figures import (
    BANDS,
    Page,
    alone,
    kept,
    last_bound,
    loss,
    of,
    of_all,
    state,
    states,
    sums,
    under_rule,
    worse,
)
from day_fleet import AUDITS, STREAMS, Stream
from day_reading import Moved, Row

BAD, TWINS, DOWN, DEARER = 13, 15, 17, 20
_WIDTH = 118
_WORDS = {
    "begun": "a promise begins, at the reference",
    "opened": "**rule opens**",
    "shut": "**rule shut**",
    "blind": "**rule set aside**",
}


def page(day: Page) -> str:
    """Write the page; every figure is of this very day."""
    parts = (_head(day), _came_to(day), _events(day), _table(day), _objectives(day), _limits(day))
    return "\n".join(line for part in parts for line in part) + "\n"


def clock(at: float) -> str:
    """Write an hour of the day with its minutes."""
    minutes = int(at * 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _text(said: str, *, item: bool = False) -> Iterator[str]:
    if item:
        yield textwrap.fill(f"- {said}", _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
        return
    yield textwrap.fill(said, _WIDTH, break_on_hyphens=False)
    yield ""


def _cells(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _heads(*cells: str) -> Iterator[str]:
    yield _cells(*cells)
    yield "|" + "---|" * len(cells)


def _points(change: float, half: float) -> str:
    return f"{change * 100:+.2f} pt (±{half * 100:.2f})"


def _floor(stream: Stream) -> str:
    return f"-{loss(stream) * 100:g} pt"


def _requests(rows: list[Row]) -> str:
    lost = sum(not row.answered for row in rows)
    return f"{len(rows):,}" + (f" ({lost:,} unanswered)" if lost else "")


def _head(day: Page) -> Iterator[str]:
    yield "# A day at the gateway"
    yield ""
    if day.simulated:
        yield from _text(f"**{day.said}. No figure of quality or saving here says anything of real models.**")
    else:
        yield from _text(f"Answers, tokens and quality are the {day.said}. Traffic and events are made up.")
    yield "    make day"
    yield ""
    same = "the same" if day.billed == day.logged else "NOT THE SAME"
    yield from _text(
        f"{len(day.rows):,} requests went through one gateway (`python -m allod up`, a process of its own) "
        f"to five scripted deployments on loopback, in {day.seconds:.0f} seconds. Spend, rules, bounds and "
        "events are read from the gateway's public log. Quality is not: it is known from the outcomes alone, "
        "which the gateway never sees. The deployments' servers counted what they answered, at their prices: "
        f"{day.billed:.6f} USD in all; the log adds up to {day.logged:.6f} USD: {same}. What is real here "
        "and what is not stands in [the tour's README](../examples/day/README.md)."
    )
    yield "![spend, change of quality, bounds and events over the day](day.svg)"
    yield ""


def _came_to(day: Page) -> Iterator[str]:
    yield "## What it came to"
    yield ""
    yield from _heads(
        "traffic", "reference", "floor", "requests", "spent; of it audits, USD", "reference alone, USD",
        "saved, net", "quality; the reference's", "true change (95 %)",
    )  # fmt: skip
    for stream in STREAMS:
        yield _whole(stream.name, stream.reference, _floor(stream), of(day, stream))
    yield _whole("**all**", "", "", day.rows)
    yield ""
    yield from _text(
        "Saved, net: after every check, escalation and audit "
        f"({AUDITS:.0%} of requests), against the reference alone for the requests that were answered. It is "
        "a first day: each promise began at the reference with nothing proven, and trouble was made on "
        "purpose. While a rule was in force:"
    )
    yield from _heads(
        "traffic", "promised", "requests under a rule", "without the reference", "saved, net",
        "true change (95 %)", "the mean and the floor",
    )  # fmt: skip
    for stream in STREAMS:
        yield _under(day, stream)
    yield ""


def _whole(name: str, reference: str, floor: str, rows: list[Row]) -> str:
    one = sums(rows)
    return _cells(
        name, reference, floor, _requests(rows), f"{one.spent + one.audits:.2f}; {one.audits:.2f}",
        f"{one.reference:.2f}", f"{one.saved:.0%}", f"{one.right:.3f}; {one.reference_right:.3f}",
        _points(one.change, one.half),
    )  # fmt: skip


def _under(day: Page, stream: Stream) -> str:
    rows = under_rule(day, stream)
    if not rows:
        bounds = [(row.bound, row.n) for row in of(day, stream) if row.of and row.against == stream.reference]
        bound, n = max(bounds, default=(-1.0, 0))
        why = f"not proven: the best bound was {bound * 100:+.4g} pt ({n} audits), so the reference answers"
        return _cells(stream.name, _floor(stream), "0", "", "", "", why)
    one, least = kept(day, stream), -loss(stream)
    held = "kept" if one.change - one.half >= least else "in doubt" if one.change >= least else "**broken**"
    return _cells(
        stream.name, _floor(stream), _requests(rows), f"{alone(rows):.0%}", f"{one.saved:.0%}",
        _points(one.change, one.half), held,
    )  # fmt: skip


# --- what happened


def _events(day: Page) -> Iterator[str]:
    yield "## What was done, and what moved"
    yield ""
    yield from _heads("time", "", "as the log says it")
    told = [(float(at), "*done to the fleet*", f"*{what}*") for at, what in day.happens.items()]
    told += [(one.at, f"{one.stream}: {_WORDS[one.what]}", one.said + _stray(one)) for one in day.moved]
    for at, who, what in sorted(told, key=lambda one: one[0]):
        yield _cells(clock(at), who, what)
    yield ""
    for head, said in (_bad(day), _twins(day), _down(day), _dearer(day)):
        yield from _text(f"**{head}** {said}", item=True)
    yield ""


def _stray(one: Moved) -> str:
    return "; for texts in which detection finds what it takes for personal data" if one.stray else ""


def _bad(day: Page) -> tuple[str, str]:
    public = STREAMS[0]
    rows = of(day, public, BAD - 1, BAD), of(day, public, BAD, TWINS)
    before, bad = sums(rows[0]), sums(rows[1])
    held = "held" if bad.change - bad.half >= -loss(public) else "was not kept in these hours"
    return "One model turns bad (13:00).", (
        f"The check needs two that agree. Of `{public.name}` {alone(rows[0]):.0%} were answered without the "
        f"reference the hour before, {alone(rows[1]):.0%} in the two hours after. The saving went from "
        f"{before.saved:.0%} to {bad.saved:.0%}; the true change of quality was "
        f"{_points(bad.change, bad.half)}: the floor {held}."
    )


def _twins(day: Page) -> tuple[str, str]:
    personal = STREAMS[1]
    n, right = worse(of(day, personal, TWINS, DOWN)), "that were wrong where the reference's were right"
    shut = next((one.at for one in day.moved if (one.stream, one.what) == (personal.name, "shut")), None)
    bad = sums(row for row in of(day, personal, TWINS, DOWN) if state(row) == "rule")
    whole = kept(day, personal)
    if not any(state(row) == "rule" for row in of(day, personal, TWINS - 1, TWINS)):
        said = f"`{personal.name}` was under no rule then: its reference answered, and nothing was lost."
    elif shut is None:
        said = f"`{personal.name}` was not shut before they were repaired; it gave {n:,} answers {right}."
    else:
        said = (
            f"Audits see it: `{personal.name}` was shut at {clock(shut)}, after {n:,} answers {right}. Until "
            f"then the change was {_points(bad.change, bad.half)} against a floor of {_floor(personal)}; the "
            f"mean of all the rule was in force for is {_points(whole.change, whole.half)}. That is what a "
            "sudden change costs: a bound speaks of traffic like that it was proven on, and a detector needs "
            "some audits to be sure. What is shut opens on new audits only, at half the level."
        )
    return "Both models of our own become the same bad one (15:00).", (
        f"They agree with each other, so the check sees nothing. {said}"
    )


def _down(day: Page) -> tuple[str, str]:
    rows = [row for row in of_all(day, DOWN, DOWN + 1) if row.against == "frontier"]
    met = Counter(state(row) for row in rows)
    statuses = sorted({row.status for row in rows if not row.answered})
    errors = " or ".join(f"HTTP {status}" for status in statuses)
    return "The reference is down (17:00).", (
        f"Of {len(rows):,} requests that have it, {met['rule']:,} were answered by two that agree, "
        f"{met['unanswered']:,} got {errors or 'no error'}. What does not pass the check is the reference's "
        "to answer; and where audits go missing nobody knows any more whether a rule still holds, so it is "
        "set aside until audits succeed again. Personal data, whose reference is in the bloc, notice nothing."
    )


def _dearer(day: Page) -> tuple[str, str]:
    begun = [one for one in day.moved if one.what == "begun" and one.at >= DEARER and not one.stray]
    moves = "; ".join(f"`{one.stream}` now asks {one.said}" for one in begun) or "nobody's base moves"
    code = STREAMS[2]
    before, after = last_bound(of(day, code, DOWN, DEARER)), last_bound(of(day, code, DEARER))
    return "A price changes (20:00).", (
        f"After the restart {moves}. What was proven of one pair is proven of no other: a promise whose base "
        f"moves begins at the reference. `{code.name}` names its base, so it stays and pays the new price; "
        f"its bound rested on {before[1]} audits before the restart, and on {after[1]} at midnight."
    )


# --- the table


def _table(day: Page) -> Iterator[str]:
    yield "## The table"
    yield ""
    yield from _text(
        "USD. Spent has everything in it; checks are answers that were paid and not delivered. The bound is "
        "what the last receipt of the band states: by no more than this is quality lower on average, from so "
        "many audits. There a difference from the reference is a loss, also where the reference is wrong; "
        "the true change is the truth, of the requests that were answered. Answered by: a rule, or the "
        "reference, or nobody."
    )
    for stream in STREAMS:
        yield f"### {stream.name} (reference {stream.reference}, floor {_floor(stream)})"
        yield ""
        yield from _heads(
            "hours", "requests", "answered by", "spent", "checks; audits", "reference alone", "saved, net",
            "quality; the reference's", "true change (95 %)", "bound (audits)",
        )  # fmt: skip
        for first, last in (*BANDS, (0, 24)):
            rows = of(day, stream, first, last)
            if rows:
                own = [row for row in rows if row.against == stream.reference]
                yield _band(f"{first:02d}-{last:02d}", rows, last_bound(own))
        yield ""


def _band(hours: str, rows: list[Row], bound: tuple[float, int]) -> str:
    one = sums(rows)
    told = [f"{one.reference:.3f}", f"{one.saved:.0%}", f"{one.right:.3f}; {one.reference_right:.3f}"]
    return _cells(
        hours, f"{one.n:,}", states(rows), f"{one.spent + one.audits:.3f}",
        f"{one.checks:.3f}; {one.audits:.3f}", *(told if one.answered else ["", "", ""]),
        _points(one.change, one.half) if one.answered else "", f"{bound[0] * 100:+.4g} pt ({bound[1]})",
    )  # fmt: skip


def _objectives(day: Page) -> Iterator[str]:
    yield "## The same hundred requests, by objective"
    yield ""
    yield from _text(
        "Public ones of all three tasks, before the day began and with no promise in force; only the task's "
        "`objective` differs. Qualities here are means over a hundred, with 95 % intervals."
    )
    yield from _heads("objective", "answered by", "spent, USD", "quality")
    for name, rows in day.compared:
        one = sums(rows)
        by = ", ".join(f"{whom} {n}" for whom, n in Counter(row.by for row in rows).most_common())
        half = 1.96 * (one.right * (1 - one.right) / max(1, one.answered)) ** 0.5
        yield _cells(f"`{name}`", by, f"{one.spent:.4f}", f"{one.right:.2f} (±{half:.2f})")
    yield ""


def _limits(day: Page) -> Iterator[str]:
    yield "## What this cannot show"
    yield ""
    own = {one.name: one.reference for one in STREAMS}
    stray = sum(one.against != own[one.stream] for one in day.rows)
    floors = ", ".join(f"{loss(one) * 100:g}" for one in STREAMS)
    yield from _text(
        "Exams with one right answer, in English, drawn again and again from what was recorded. Nothing here "
        "speaks for free text.",
        item=True,
    )
    yield from _text(
        f"The floors are wide ({floors} points): a first day at {AUDITS:.0%} audits proves no more. To prove "
        "one point takes more than 700 audits in a row without a single difference.",
        item=True,
    )
    yield from _text(
        "A bound is about the mean of traffic as it was audited. It does not say that no hour is worse. "
        "Audits are drawn at random by the gateway: in another run, rules open and shut at other minutes.",
        item=True,
    )
    yield from _text(
        "Latency is not simulated. Prices are list prices of the outcomes' origin; for machines of our own "
        "they stand in for what those cost.",
        item=True,
    )
    yield from _text(
        "The gateway's rest after failures runs on a real clock: after the outage the day stood still for "
        f"{day.stood_s:.0f} seconds until the reference was tried again, as seconds would have been hours.",
        item=True,
    )
    if stray:
        yield from _text(
            f"{stray} requests had another reference than the rest of their stream: detection found in their "
            "text what it takes for personal data, and the law kept them in the bloc.",
            item=True,
        )
