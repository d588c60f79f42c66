"""The plot of a day as SVG: spend on top, below it each kind of traffic with its bound, truth and rule.

Drawn with nothing but string formatting. One column, so that it can be read on a phone, in a page and on a
wall; every colour is also told by place or shape.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from html import escape
from itertools import accumulate, pairwise
from typing import Final

from day_figures import Page, loss, of, state, sums
from day_fleet import STREAMS, Stream
from day_page import clock
from day_reading import Row

WIDTH: Final = 600
_LEFT, _RIGHT = 56, 588
_EDGE: Final = 14
_TOP, _SPEND_HIGH, _HIGH, _STRIP, _STEP = 130, 182, 118, 16, 208
_BINS: Final = 96
_FEWEST: Final = 25
_WRAP: Final = 76
_LETTER: Final = 7.0
_COLOURS: Final = {"reference": "#aeb6c2", "rule": "#2f9e6e", "blind": "#e3a32e", "unanswered": "#c6403a"}
_WORDS: Final = {
    "reference": "the reference answers", "rule": "a rule answers", "blind": "rule set aside",
    "unanswered": "no answer",
}  # fmt: skip
_STYLE: Final = """
text { font-family: "Segoe UI", "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; font-size: 13px }
text { fill: #1d2733 }
.title { font-size: 21px; font-weight: 600 } .head { font-size: 15px; font-weight: 600 }
.soft { fill: #5b6675 } .grid { stroke: #e6e9ee } .zero { stroke: #9aa3af }
.floor { stroke: #c6403a; stroke-dasharray: 6 4; stroke-width: 1.5 } .floortext { fill: #a8322d }
.bound { fill: none; stroke: #2757c9; stroke-width: 2.2 } .boundtext { fill: #2757c9 }
.reference { fill: none; stroke: #7b8696; stroke-width: 2.2 }
.spent { fill: none; stroke: #2757c9; stroke-width: 2.4 }
.saved { fill: #2f9e6e; fill-opacity: .16 } .savedtext { fill: #1f7a53; font-weight: 600 }
.true { fill: #1d2733 } .whisker { stroke: #1d2733; stroke-width: 1.3 }
.event { stroke: #7a4fb5; stroke-dasharray: 2 4 } .badge { fill: #7a4fb5 }
.badgetext { fill: #fff; font-weight: 600 }
.warn { fill: #a8322d; font-weight: 600 }
"""


def x_of(at: float) -> float:
    """Return where an hour of the day is drawn."""
    return _LEFT + at / 24 * (_RIGHT - _LEFT)


def plot(day: Page) -> str:
    """Draw a day."""
    first = _TOP + _SPEND_HIGH + 56
    last = first + _STEP * len(STREAMS)
    told = _legend(day)
    high = last + 26 + sum(18 * len(lines) + 6 for _, lines in told)
    body = [
        *_head(day),
        *_marks(day, last - 38),
        *_spend(day, _TOP, _SPEND_HIGH),
        *(line for n, one in enumerate(STREAMS) for line in _panel(day, one, first + n * _STEP)),
        *_foot(told, last),
    ]
    said = "Spend, bounds and true quality over a simulated day of traffic"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {high}" role="img">',
            f"<title>{said}</title>",
            f"<style>{_STYLE}</style>",
            f'<rect width="{WIDTH}" height="{high}" fill="#ffffff"/>',
            *body,
            "</svg>",
            "",
        ]
    )


def _text(x: float, y: float, said: str, kind: str = "", at: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{at}">{escape(said)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _path(points: Sequence[tuple[float, float]], kind: str) -> str:
    return f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" class="{kind}"/>'


def _head(day: Page) -> Iterator[str]:
    yield _text(_EDGE, 30, "A day at the gateway", "title")
    told = f"{len(day.rows):,} requests through a real gateway; traffic and events are made up"
    yield _text(_EDGE, 51, told, "soft")
    short = (
        "SIMULATED OUTCOMES: no real model's"
        if day.simulated
        else "outcomes: zeroeval (Apache-2.0), replayed"
    )
    yield _text(_EDGE, 69, short, "warn" if day.simulated else "soft")
    x = float(_EDGE)
    for name, words in _WORDS.items():
        yield f'<rect x="{x:.1f}" y="81" width="13" height="13" fill="{_COLOURS[name]}"/>'
        yield _text(x + 18, 92, words, "soft")
        x += 30 + 6.9 * len(words)


def _marks(day: Page, bottom: float) -> Iterator[str]:
    for n, at in enumerate(sorted(day.happens), 1):
        x = x_of(at)
        yield _line(x, _TOP - 6, x, bottom, "event")
        yield f'<circle cx="{x:.1f}" cy="{_TOP - 13:.1f}" r="9" class="badge"/>'
        yield _text(x, _TOP - 8.5, str(n), "badgetext", "middle")


# --- spend


def _spend(day: Page, top: float, high: float) -> Iterator[str]:
    bins: list[list[Row]] = [[] for _ in range(_BINS)]
    for row in day.rows:
        bins[int(row.at * _BINS / 24)].append(row)
    each = [sums(rows) for rows in bins]
    alone = [0.0, *accumulate(one.reference for one in each)]
    spent = [0.0, *accumulate(one.spent + one.audits for one in each)]
    most = max(alone[-1], spent[-1]) or 1.0
    whole = sums(day.rows)

    def at(n: int, usd: float) -> tuple[float, float]:
        return x_of(n * 24 / _BINS), top + high - usd / most * (high - 12)

    yield from _grid(top, high)
    step = _nice(most / 4)
    for n in range(int(most / step) + 1):
        y = at(0, n * step)[1]
        yield _line(_LEFT, y, _RIGHT, y, "grid")
        yield _text(_LEFT - 6, y + 4, f"{n * step:g}", "soft", "end")
    over, under = [at(n, v) for n, v in enumerate(alone)], [at(n, v) for n, v in enumerate(spent)]
    shape = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*over, *reversed(under)])
    yield f'<polygon points="{shape}" class="saved"/>'
    yield _path(over, "reference")
    yield _path(under, "spent")
    yield _text(_LEFT + 8, top + 16, "Spend since midnight, USD", "head")
    yield _text(_LEFT + 8, top + 36, f"grey: the reference alone, {alone[-1]:.2f}", "soft")
    yield _text(_LEFT + 8, top + 54, f"blue: spent with every check and audit, {spent[-1]:.2f}", "boundtext")
    lost = whole.n - whole.answered
    yield _text(_LEFT + 8, top + 72, f"between: saved, {whole.saved:.0%}", "savedtext")
    if lost:
        yield _text(_LEFT + 8, top + 90, f"{lost:,} had no answer, in neither", "soft")


def _nice(step: float) -> float:
    size = 10.0 ** (len(str(int(step))) - 1) if step >= 1 else 0.1
    while size * 10 <= step:
        size *= 10
    return next((k * size for k in (1, 2, 5, 10) if k * size >= step), step)


def _grid(top: float, high: float) -> Iterator[str]:
    for hour in range(0, 25, 3):
        yield _line(x_of(hour), top, x_of(hour), top + high, "grid")
        anchor = "end" if hour == 24 else "middle"  # noqa: PLR2004 (midnight)
        yield _text(x_of(hour), top + high + 17, f"{hour:02d}:00", "soft", anchor)


# --- one kind of traffic


def _panel(day: Page, stream: Stream, top: float) -> Iterator[str]:
    rows = [row for row in of(day, stream) if row.against == stream.reference]
    hours = [(hour, sums(of(day, stream, hour, hour + 1))) for hour in range(24)]
    told = [(hour, one) for hour, one in hours if one.answered >= _FEWEST]
    best = max((row.bound for row in rows if row.of), default=-1.0)
    low = min(
        [
            -1.9 * loss(stream),
            max(-0.3, best - 0.25 * loss(stream)),
            *(one.change - one.half - 0.01 for _, one in told),
        ]
    )
    top_ = max([0.25 * loss(stream), *(one.change + one.half + 0.005 for _, one in told)])

    def y(change: float) -> float:
        return top + (top_ - max(low, min(top_, change))) / (top_ - low) * _HIGH

    yield _text(_EDGE, top - 10, f"{stream.name}: quality less {stream.reference}'s, points", "head")
    for tick in _ticks(low, top_):
        yield _line(_LEFT, y(tick), _RIGHT, y(tick), "zero" if tick == 0 else "grid")
        yield _text(_LEFT - 6, y(tick) + 4, f"{tick * 100:+g}" if tick else "0", "soft", "end")
    yield _line(_LEFT, y(-loss(stream)), _RIGHT, y(-loss(stream)), "floor")
    yield _text(_LEFT + 4, y(-loss(stream)) - 4, f"floor: at most {loss(stream) * 100:g} lost", "floortext")
    yield from _bound(rows, low, y)
    for hour, one in told:
        x = x_of(hour + 0.5)
        yield _line(x, y(one.change - one.half), x, y(one.change + one.half), "whisker")
        yield f'<circle cx="{x:.1f}" cy="{y(one.change):.1f}" r="3.4" class="true"/>'
    yield from _strip(of(day, stream), top + _HIGH + 6)
    yield from _turns(day, stream, top + _HIGH + 6 + _STRIP + 14)


def _ticks(low: float, high: float) -> list[float]:
    step = next((s for s in (0.01, 0.02, 0.05, 0.1, 0.2) if (high - low) / s <= 5.5), 0.5)  # noqa: PLR2004 (lines)
    return [n * step for n in range(int(low / step), int(high / step) + 1)]


def _bound(rows: Sequence[Row], low: float, y: object) -> Iterator[str]:
    """Draw what receipts stated, as steps, wherever it is high enough to be in the picture."""
    assert callable(y)
    stated = [(row.at, row.bound) for row in rows if row.of]
    pieces: list[list[tuple[float, float]]] = [[]]
    for (at, bound), (then, after) in pairwise([*stated, (24.0, stated[-1][1])] if stated else []):
        if bound <= low:
            if pieces[-1]:
                pieces.append([])
            continue
        if not pieces[-1] or pieces[-1][-1][1] != y(bound):
            pieces[-1].append((x_of(at), y(bound)))
        if after != bound or then >= 24:  # noqa: PLR2004 (midnight)
            pieces[-1].append((x_of(then), y(bound)))
    drawn = [piece for piece in pieces if len(piece) > 1]
    yield from (_path(piece, "bound") for piece in drawn)
    if drawn:
        x, at = drawn[0][0]
        yield (
            _text(x - 5, at + 4, "stated bound", "boundtext", "end")
            if x > x_of(6)
            else _text(x + 5, at + 16, "stated bound", "boundtext")
        )


def _strip(rows: Sequence[Row], top: float) -> Iterator[str]:
    bins: list[list[Row]] = [[] for _ in range(_BINS)]
    for row in rows:
        bins[int(row.at * _BINS / 24)].append(row)
    wide = (_RIGHT - _LEFT) / _BINS
    for n, here in enumerate(bins):
        y = top
        met = [state(row) for row in here]
        for name in ("unanswered", "blind", "reference", "rule"):
            part = met.count(name) / len(met) * _STRIP if met else 0
            if part:
                x = _LEFT + n * wide
                yield (
                    f'<rect x="{x:.2f}" y="{y:.2f}" width="{wide + 0.4:.2f}" height="{part:.2f}" '
                    f'fill="{_COLOURS[name]}"/>'
                )
            y += part


def _turns(day: Page, stream: Stream, y: float) -> Iterator[str]:
    """Mark what moved below the strip; a label that would run into the one before goes a line down."""
    words = {"opened": "opens", "shut": "shut", "blind": "set aside", "begun": "anew"}
    mine = [
        one
        for one in day.moved
        if one.stream == stream.name and (one.what != "begun" or one.at >= 1) and not one.stray
    ]
    ends = 0.0
    for one in mine:
        x = x_of(one.at)
        said = f"{words[one.what]} {clock(one.at)}"
        long = _LETTER * len(said)
        after = min((x_of(two.at) for two in mine if two.at > one.at), default=float(_RIGHT))
        clear = max([ends, *(x_of(two.at) + 6 for two in mine if two.at < one.at)])
        right, left = x + 7, x - 7 - long
        row, start = 0, right if right + long <= after - 4 or left < clear else left
        if start == right and right + long > after - 4:
            row, start = 1, min(right, _RIGHT - long)
        ends = start + long if row == 0 else ends
        yield f'<path d="M{x:.1f} {y - 13:.1f} l-4 7 h8 z" fill="#1d2733"/>'
        yield _text(start, y - 2 + 15 * row, said)


def _legend(day: Page) -> list[tuple[int, list[str]]]:
    said = [f"{at:02d}:00  {what}" for at, what in sorted(day.happens.items())]
    return [(n, textwrap.wrap(one, _WRAP)) for n, one in enumerate(said, 1)]


def _foot(told: list[tuple[int, list[str]]], top: float) -> Iterator[str]:
    said = "dots and bars: true change of that hour, with 95 % intervals, from the outcomes"
    yield _text(_EDGE, top - 12, said, "soft")
    y = top + 18.0
    for n, lines in told:
        yield f'<circle cx="{_EDGE + 9}" cy="{y - 4.5:.1f}" r="9" class="badge"/>'
        yield _text(_EDGE + 9, y, str(n), "badgetext", "middle")
        for line in lines:
            yield _text(_EDGE + 26, y, line)
            y += 18
        y += 6
