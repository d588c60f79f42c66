"""Bars with their intervals, bars in parts, a tornado, the cash of years."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Invalid
from allod.planner.pictures.canvas import (
    KINDS,
    LINE,
    NARROW,
    SMALL,
    Axis,
    Mark,
    Picture,
    axis,
    between,
    box,
    finite,
    folded,
    kind_of,
    label,
    line,
    px,
    short,
    text_width,
    whisker,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_BAR: Final = 20
_LEFT: Final = 12


class Bar(msgspec.Struct, frozen=True):
    """A value with its interval; ``value`` None says "not known" and draws nothing; ``text`` in its place."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    kind: str = "plain"
    text: str | None = None


class Stack(msgspec.Struct, frozen=True):
    """A whole in named parts, none below zero; ``low`` and ``high`` are of the whole."""

    label: str
    parts: tuple[tuple[str, float], ...]
    low: float | None = None
    high: float | None = None


class Swing(msgspec.Struct, frozen=True):
    """What the result is at the low and at the high end of one input, all others at their middle."""

    label: str
    low: float
    high: float
    low_text: str = ""
    high_text: str = ""


class Flow(msgspec.Struct, frozen=True):
    """What one year brings (above zero) or costs (below), with its interval."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None


class _Frame(msgspec.Struct, frozen=True):
    """Where labels and bars stand in a drawing of a width."""

    width: int
    left: float
    right: float
    label_width: float

    @property
    def narrow(self) -> bool:
        return self.width < NARROW


def _frame(width: int, labels: Sequence[str], texts: Sequence[str]) -> _Frame:
    told = max((text_width(text, SMALL) for text in texts), default=0.0) + 10
    if width < NARROW:
        return _Frame(width, _LEFT, width - _LEFT - 8, width - 2 * _LEFT)
    named = min(max((text_width(one) for one in labels), default=0.0) + 8, 0.36 * width)
    told = min(told, 0.28 * width)
    return _Frame(width, _LEFT + named, width - _LEFT - told, named)


def _head(frame: _Frame, name: str, text: str, y: float) -> tuple[list[str], float]:
    """Write a row's label and value; returns them and the y at which its bar begins."""
    if frame.narrow:
        room = frame.label_width - text_width(text, SMALL) - 12
        rows = folded(name, max(room, 120))
        marks = [label(_LEFT, y + 13 + n * LINE, row) for n, row in enumerate(rows)]
        last = y + 13 + (len(rows) - 1) * LINE
        if text_width(rows[-1]) > room:
            last += LINE
        marks.append(label(frame.width - _LEFT, last, text, "s", "end"))
        return marks, last + 6
    rows = folded(name, frame.label_width - 8)
    extra = max(0.0, (len(rows) - 1) * LINE)
    top = y + extra / 2
    marks = [label(_LEFT, y + 14 + n * LINE, row) for n, row in enumerate(rows)]
    for n, row in enumerate(folded(text, frame.width - frame.right - 12, SMALL)):
        marks.append(label(frame.right + 10, top + 14 + n * 14, row, "s"))
    return marks, top


def _scale(scale: Axis, top: float, bottom: float, unit: str, width: int) -> list[str]:
    """Draw the rules of an axis and write its numbers under it."""
    ticks = scale.ticks(max(2, int((scale.end - scale.begin) / 80)))
    marks = [line(scale.at(tick), top, scale.at(tick), bottom, "r") for tick in ticks]
    marks += [label(scale.at(tick), bottom + 15, short(tick), "s", "middle") for tick in ticks]
    marks.append(label(width - _LEFT, bottom + 32, unit, "s", "end"))
    return marks


def bars(
    title: str,
    rows: Sequence[Bar],
    unit: str,
    *,
    about: str = "",
    log: bool = False,
    marks: Sequence[Mark] = (),
) -> Picture:
    """Draw one bar a row, with its interval; a logarithmic one is drawn as a point, as it has no zero.

    Raises:
        Invalid: no row, a value is not finite, or an interval is upside down.

    """
    _check(title, rows)
    for row in rows:
        kind_of(row.kind)
        finite(row.label, row.value, row.low, row.high)
        _ordered(row.label, row.low, row.high)
    known = [v for row in rows for v in (row.value, row.low, row.high) if v is not None]
    known += [mark.at for mark in marks]
    texts = [_told(row) for row in rows]

    def draw(width: int) -> tuple[float, list[str]]:
        frame = _frame(width, [row.label for row in rows], texts)
        scale = axis(known or [1.0], frame.left, frame.right, log=log)
        out: list[str] = []
        y = 4.0 + (18 if marks else 0)
        top = y
        for row, text in zip(rows, texts, strict=True):
            head, begin = _head(frame, row.label, text, y)
            out += head
            if row.value is not None:
                out += _bar(row, row.value, scale, begin)
            y = _next(frame, head, begin, y, row.label)
        for mark in marks:
            x = scale.at(mark.at)
            out.append(line(x, top - 2, x, y, "m"))
            out.append(label(x, top - 6, mark.text, "s", _side(x, width)))
        return y + 36, [*_scale(scale, top, y, unit, width), *out]

    return Picture(title=title, about=about, draw=draw)


def _next(frame: _Frame, head: list[str], begin: float, y: float, name: str) -> float:
    rows = 1 if frame.narrow else len(folded(name, frame.label_width - 8))
    return max(begin + _BAR + 12, y + rows * LINE + 12, y + 14 * (len(head) - rows) + 12)


def _side(x: float, width: int) -> str:
    return "start" if x < 0.3 * width else "end" if x > 0.7 * width else "middle"


def _told(row: Bar) -> str:
    if row.text is not None:
        return row.text
    if row.value is None:
        return "not known"
    span = between(row.low, row.high)
    return short(row.value) + (f" ({span})" if span else "")


def _bar(row: Bar, value: float, scale: Axis, y: float) -> list[str]:
    x, zero = scale.at(value), scale.begin if scale.log else scale.at(0.0)
    told = f"{row.label}: {_told(row)}"
    if scale.log:
        out = [f'<circle class="k-{row.kind}" cx="{px(x)}" cy="{px(y + _BAR / 2)}" r="6"/>']
    else:
        out = [box(min(x, zero), y, abs(x - zero), _BAR, f"k-{row.kind}", told, ' fill-opacity=".72"')]
    if row.low is not None and row.high is not None:
        out.append(whisker(scale.at(row.low), scale.at(row.high), y + _BAR / 2))
    return out


def stacks(title: str, rows: Sequence[Stack], unit: str, *, about: str = "") -> Picture:
    """Draw wholes in their parts, with a legend; the interval is of the whole.

    Raises:
        Invalid: no row, a part below zero or not finite.

    """
    _check(title, rows)
    names = list(dict.fromkeys(name for row in rows for name, _ in row.parts))
    for row in rows:
        finite(row.label, row.low, row.high, *(value for _, value in row.parts))
        _ordered(row.label, row.low, row.high)
        if any(value < 0 for _, value in row.parts):
            raise Invalid(f"{row.label} has a part below zero", "a whole has no negative part", "draw bars")
    totals = [sum(value for _, value in row.parts) for row in rows]
    known = [*totals, *(v for row in rows for v in (row.low, row.high) if v is not None)]
    shown = [Bar(row.label, total, row.low, row.high) for row, total in zip(rows, totals, strict=True)]

    def draw(width: int) -> tuple[float, list[str]]:
        frame = _frame(width, [row.label for row in rows], [_told(one) for one in shown])
        scale = axis(known, frame.left, frame.right)
        legend, y = _legend(names, width)
        top, out = y, []
        for row, one in zip(rows, shown, strict=True):
            head, begin = _head(frame, row.label, _told(one), y)
            out += [*head, *_parts(row, names, scale, begin)]
            y = _next(frame, head, begin, y, row.label)
        return y + 36, [*legend, *_scale(scale, top, y, unit, width), *out]

    return Picture(title=title, about=about, draw=draw)


def _parts(row: Stack, names: list[str], scale: Axis, y: float) -> list[str]:
    out, begin = [], 0.0
    for name, value in row.parts:
        css, opacity = _tone(names.index(name))
        x = scale.at(begin)
        told = f"{row.label}, {name}: {short(value)}"
        extra = f' fill-opacity="{opacity}"'
        out.append(box(x, y, max(0.0, scale.at(begin + value) - x - 1), _BAR, css, told, extra))
        begin += value
    if row.low is not None and row.high is not None:
        out.append(whisker(scale.at(row.low), scale.at(row.high), y + _BAR / 2))
    return out


def _tone(n: int) -> tuple[str, str]:
    return f"k-{KINDS[n % len(KINDS)]}", ("0.85", "0.5", "0.28")[n // len(KINDS) % 3]


def _legend(names: Sequence[str], width: int) -> tuple[list[str], float]:
    out: list[str] = []
    x, y = float(_LEFT), 16.0
    for n, name in enumerate(names):
        wide = text_width(name, SMALL) + 30
        if x > _LEFT and x + wide > width - _LEFT:
            x, y = float(_LEFT), y + 20
        css, opacity = _tone(n)
        out += [box(x, y - 10, 12, 12, css, extra=f' fill-opacity="{opacity}"'), label(x + 17, y, name, "s")]
        x += wide
    return out, y + 14


def tornado(title: str, base: float, rows: Sequence[Swing], unit: str, *, about: str = "") -> Picture:
    """Draw how far each input alone moves the result, the widest first, around the base value.

    Raises:
        Invalid: no row, or a value is not finite.

    """
    _check(title, rows)
    finite(title, base, *(v for row in rows for v in (row.low, row.high)))
    ordered = sorted(rows, key=lambda row: -abs(row.high - row.low))
    known = [base, *(v for row in ordered for v in (row.low, row.high))]
    texts = [between(min(row.low, row.high), max(row.low, row.high)) for row in ordered]

    def draw(width: int) -> tuple[float, list[str]]:
        frame = _frame(width, [row.label for row in ordered], texts)
        scale = axis(known, frame.left, frame.right, zero=False)
        centre = scale.at(base)
        y, out = 24.0, []
        for row, text in zip(ordered, texts, strict=True):
            head, begin = _head(frame, row.label, text, y)
            out += [*head, *_swing(row, scale, centre, begin)]
            y = _next(frame, head, begin, y, row.label) + 12
        back = [line(centre, 18, centre, y, "w"), label(centre, 12, short(base), "b", _side(centre, width))]
        return y + 36, [*_scale(scale, 18, y, unit, width), *back, *out]

    return Picture(title=title, about=about, draw=draw)


def _swing(row: Swing, scale: Axis, centre: float, y: float) -> list[str]:
    """Draw both ends of an input and write, under the bar, which end of the input each is."""
    ends = sorted(((row.low, row.low_text, "k-open"), (row.high, row.high_text, "k-rent")))
    out: list[str] = []
    for value, _, css in ends:
        x = scale.at(value)
        out.append(box(min(x, centre), y, abs(x - centre), _BAR, css, extra=' fill-opacity=".75"'))
    (_, left, _), (_, right, _) = ends
    room = scale.end - scale.begin
    if text_width(left, SMALL) + text_width(right, SMALL) + 12 > room:
        left, right = (folded(one, room / 2 - 8, SMALL)[0] for one in (left, right))
    # the texts stand at the ends of their bars, and never on each other
    a = min(max(scale.at(ends[0][0]), scale.begin), scale.end - text_width(left + right, SMALL) - 16)
    b = max(min(scale.at(ends[1][0]), scale.end), a + text_width(left + right, SMALL) + 16)
    out.append(label(a, y + _BAR + 13, left, "s"))
    out.append(label(b, y + _BAR + 13, right, "s", "end"))
    return out


def cashflow(title: str, flows: Sequence[Flow], unit: str, *, about: str = "") -> Picture:
    """Draw what each year brings or costs, and the line of what it adds up to.

    Raises:
        Invalid: no year, or a value is not finite.

    """
    _check(title, flows)
    for flow in flows:
        finite(flow.label, flow.value, flow.low, flow.high)
        _ordered(flow.label, flow.low, flow.high)
    sums: list[float] = []
    for flow in flows:
        sums.append((sums[-1] if sums else 0.0) + flow.value)
    known = [v for flow in flows for v in (flow.value, flow.low, flow.high) if v is not None] + sums

    def draw(width: int) -> tuple[float, list[str]]:
        height = 240.0 if width < NARROW else 280.0
        scale = axis(known, height, 10)
        ticks = scale.ticks(5)
        left = _LEFT + max(text_width(short(tick), SMALL) for tick in ticks) + 8
        out = [line(left, scale.at(tick), width - _LEFT, scale.at(tick), "r") for tick in ticks]
        out += [label(left - 6, scale.at(tick) + 4, short(tick), "s", "end") for tick in ticks]
        step = (width - _LEFT - left) / len(flows)
        out.append(line(left, scale.at(0), width - _LEFT, scale.at(0), "a"))
        path = []
        for n, (flow, whole) in enumerate(zip(flows, sums, strict=True)):
            middle = left + (n + 0.5) * step
            out += _column(flow, scale, middle, min(46.0, 0.6 * step), height)
            path.append(f"{px(middle)} {px(scale.at(whole))}")
            out.append(
                f'<circle class="k-frontier" cx="{path[-1].split()[0]}" cy="{path[-1].split()[1]}" r="3.5"/>'
            )
        out.append(f'<path class="path l-frontier" d="M{"L".join(path)}"/>')
        foot = f"bars: of the year; line: added up; {unit}"
        rows = folded(foot, width - 2 * _LEFT, SMALL)
        out += [label(_LEFT, height + 40 + 15 * n, row, "s") for n, row in enumerate(rows)]
        return height + 34 + 15 * len(rows), out

    return Picture(title=title, about=about, draw=draw)


def _column(flow: Flow, scale: Axis, middle: float, wide: float, bottom: float) -> list[str]:
    top, zero = scale.at(flow.value), scale.at(0)
    css = "k-own" if flow.value >= 0 else "k-warn"
    told = f"{flow.label}: {short(flow.value)} {between(flow.low, flow.high)}".strip()
    out = [box(middle - wide / 2, min(top, zero), wide, abs(top - zero), css, told, ' fill-opacity=".75"')]
    if flow.low is not None and flow.high is not None:
        low, high = scale.at(flow.low), scale.at(flow.high)
        out.append(
            f'<path class="w" d="M{px(middle)} {px(low)}V{px(high)}M{px(middle - 5)} {px(low)}h10'
            f'M{px(middle - 5)} {px(high)}h10"/>'
        )
    out.append(label(middle, bottom + 18, flow.label, "s", "middle"))
    return out


def _check(title: str, rows: Sequence[object]) -> None:
    if not rows:
        raise Invalid(f"nothing to draw: {title}", "there is no row", "draw it where there is something")


def _ordered(name: str, low: float | None, high: float | None) -> None:
    if low is not None and high is not None and low > high:
        raise Invalid(f"the interval of {name} is upside down", f"got {low:g} to {high:g}", "swap its ends")
