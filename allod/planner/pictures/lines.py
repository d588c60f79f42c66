"""Lines with their bands: a cost by volume, a price by day."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Invalid
from allod.planner.pictures.canvas import (
    NARROW,
    SMALL,
    Axis,
    Mark,
    Picture,
    Span,
    axis,
    box,
    finite,
    folded,
    kind_of,
    label,
    line,
    px,
    short,
    text_width,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_EDGE: Final = 12


class Line(msgspec.Struct, frozen=True):
    """A series of (x, y) by rising x, with a band of (x, low, high); ``step`` holds a value to the next."""

    label: str
    points: tuple[tuple[float, float], ...]
    band: tuple[tuple[float, float, float], ...] = ()
    kind: str = "plain"
    step: bool = False
    dashed: bool = False


def lines(
    title: str,
    series: Sequence[Line],
    *,
    x_unit: str,
    y_unit: str,
    about: str = "",
    log_x: bool = False,
    log_y: bool = False,
    marks: Sequence[Mark] = (),
    spans: Sequence[Span] = (),
    x_text: Callable[[float], str] | None = None,
) -> Picture:
    """Draw series over a common x; their names stand in a legend, marks and spans in words.

    Raises:
        Invalid: nothing to draw, a value is not finite, or x does not rise.

    """
    _check(title, series)
    xs = [x for one in series for x, _ in one.points] + [mark.at for mark in marks]
    xs += [x for span in spans for x in (span.low, span.high) if math.isfinite(x)]
    ys = [y for one in series for _, y in one.points]
    ys += [y for one in series for _, low, high in one.band for y in (low, high)]

    def draw(width: int) -> tuple[float, list[str]]:
        head, top = _legend(series, spans, marks, width)
        height = 230.0 if width < NARROW else 290.0
        bottom = top + height
        up = axis(ys, bottom, top, log=log_y, zero=not log_y)
        rungs = up.ticks(6)
        left = _EDGE + max((text_width(short(rung), SMALL) for rung in rungs), default=20.0) + 8
        along = _along(xs, left, width - _EDGE - 8, log_x=log_x)
        out = [label(_EDGE, top - 6, y_unit, "s")]
        for rung in rungs:
            out.append(line(left, up.at(rung), width - _EDGE, up.at(rung), "r"))
            out.append(label(left - 6, up.at(rung) + 4, short(rung), "s", "end"))
        for tick in along.ticks(max(2, int((width - left) / 90))):
            out.append(line(along.at(tick), top, along.at(tick), bottom, "r"))
            out.append(label(along.at(tick), bottom + 16, (x_text or short)(tick), "s", "middle"))
        for span in spans:
            a, b = along.at(span.low), along.at(span.high)
            out.append(box(a, top, b - a, bottom - top, "span", span.text))
        for one in series:
            out += _series(one, along, up)
        out += [line(along.at(mark.at), top, along.at(mark.at), bottom, "m") for mark in marks]
        out.append(label(width - _EDGE, bottom + 34, x_unit, "s", "end"))
        return bottom + 40, [*head, *out]

    return Picture(title=title, about=about, draw=draw)


def _along(xs: Sequence[float], begin: float, end: float, *, log_x: bool) -> Axis:
    low, high = min(xs), max(xs)
    if high <= low:
        low, high = (low / 2, high * 2) if log_x else (low - 1, high + 1)
    if log_x and low <= 0:
        raise Invalid("a logarithmic axis has no zero", f"got {low:g}", "draw it linear")
    return Axis(low=low, high=high, begin=begin, end=end, log=log_x)


def _legend(
    series: Sequence[Line], spans: Sequence[Span], marks: Sequence[Mark], width: int
) -> tuple[list[str], float]:
    """Write what each line, span and mark is; returns it and the top of the plot."""
    out: list[str] = []
    y = 16.0
    keys = [(one.label, f"path l-{one.kind}" + (" dash" if one.dashed else "")) for one in series]
    keys += [(span.text, "span") for span in spans] + [(mark.text, "m") for mark in marks]
    x = float(_EDGE)
    for text, css in keys:
        wide = text_width(text, SMALL) + 44
        if x > _EDGE and x + wide > width - _EDGE:
            x, y = float(_EDGE), y + 20
        if css == "span":
            out.append(box(x, y - 11, 22, 14, "span"))
        else:
            out.append(line(x, y - 4, x + 22, y - 4, css))
        for n, row in enumerate(folded(text, width - 2 * _EDGE - 30, SMALL)):
            y += 15 if n else 0
            out.append(label(x + 28, y, row, "s"))
        x += wide
    return out, y + 30


def _series(one: Line, along: Axis, up: Axis) -> list[str]:
    out: list[str] = []
    if one.band:
        there = [f"{px(along.at(x))} {px(up.at(high))}" for x, _, high in one.band]
        back = [f"{px(along.at(x))} {px(up.at(low))}" for x, low, _ in reversed(one.band)]
        out.append(f'<path class="band k-{one.kind}" d="M{"L".join([*there, *back])}Z"/>')
    at = [(along.at(x), up.at(y)) for x, y in one.points]
    if len(at) == 1:
        return [*out, f'<circle class="k-{one.kind}" cx="{px(at[0][0])}" cy="{px(at[0][1])}" r="4"/>']
    path = [f"M{px(at[0][0])} {px(at[0][1])}"]
    for x, y in at[1:]:
        path.append(f"H{px(x)}V{px(y)}" if one.step else f"L{px(x)} {px(y)}")
    css = f"path l-{one.kind}" + (" dash" if one.dashed else "")
    return [*out, f'<path class="{css}" d="{"".join(path)}"/>']


def _check(title: str, series: Sequence[Line]) -> None:
    if not series or any(not one.points for one in series):
        raise Invalid(
            f"nothing to draw: {title}", "a series has no point", "draw it where there is something"
        )
    for one in series:
        kind_of(one.kind)
        finite(one.label, *(v for point in one.points for v in point), *(v for b in one.band for v in b))
        for a, b in zip(one.points, one.points[1:], strict=False):
            if b[0] < a[0]:
                raise Invalid(f"the points of {one.label} go back", f"{b[0]:g} after {a[0]:g}", "sort them")
        if any(low > high for _, low, high in one.band):
            raise Invalid(f"the band of {one.label} is upside down", "low is above high", "swap its ends")
