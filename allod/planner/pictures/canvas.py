"""What every picture is drawn with: text that folds, axes with round numbers, one style for light and dark.

Lengths are in px of the drawing, which is laid out for the width it is shown at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Final, TypeAlias

import msgspec

from allod.domain.errors import Invalid

NARROWEST: Final = 280
WIDEST: Final = 2400
USUAL: Final = 720
NARROW: Final = 480
"""Below this width labels stand over what they name."""
SIZE: Final = 13
SMALL: Final = 12
LINE: Final = 17
KINDS: Final = ("own", "rent", "open", "frontier", "warn", "plain")
_THIN: Final = "iljtf.,:;'|!()[] "
_BROAD: Final = "mwMW%@"

_COLOURS: Final = {
    "own": ("#0a6e5c", "#4fc3a8"),
    "rent": ("#2b6cb0", "#79b4f2"),
    "open": ("#8a5a00", "#e0ac4b"),
    "frontier": ("#9b2c5e", "#f08bb8"),
    "warn": ("#b42318", "#ff8a7a"),
    "plain": ("#57606a", "#9aa5b1"),
    "fine": ("#e3f1ec", "#1d3530"),
    "bad": ("#b42318", "#c8452f"),
}
"""Each kind in daylight and at night; fine and bad shade cells."""


def _tones(night: int) -> str:
    """Write the rules that colour things; without variables, which only browsers know."""
    ink, soft, rule, ground = (
        ("#1b1f24", "#57606a", "#d0d7de", "#ffffff"),
        ("#e6edf3", "#9aa5b1", "#3a424c", "#14181d"),
    )[night]
    warn = _COLOURS["warn"][night]
    rules = [
        f".ap .g{{fill:{ground}}}.ap text{{fill:{ink};stroke:{ground}}}.ap .s{{fill:{soft}}}",
        ".ap .c{fill:#ffffff}",
        f".ap .r{{stroke:{rule}}}.ap .a{{stroke:{soft}}}.ap .w{{stroke:{ink}}}",
        f".ap .m{{stroke:{warn}}}.ap .span{{fill:{warn}}}",
    ]
    rules += [
        f".ap .k-{kind}{{fill:{two[night]}}}.ap .l-{kind}{{stroke:{two[night]}}}"
        for kind, two in _COLOURS.items()
    ]
    return "".join(rules)


STYLE: Final = (
    '.ap{font-family:system-ui,"Segoe UI",Roboto,"Helvetica Neue","DejaVu Sans",Arial,sans-serif;'
    "font-size:13px}"
    ".ap .s,.ap .c,.ap .t{font-size:12px}"
    ".ap text{paint-order:stroke;stroke-width:3px;stroke-linejoin:round}.ap .c,.ap .t{stroke-width:0}"
    ".ap .h{font-weight:600;font-size:15px}.ap .b{font-weight:600}"
    ".ap .r,.ap .a{stroke-width:1;fill:none}.ap .w{stroke-width:1.6;fill:none}"
    ".ap .m{stroke-width:1.4;stroke-dasharray:5 4;fill:none}.ap .span{fill-opacity:.12}"
    ".ap .path{fill:none;stroke-width:2.2}.ap .dash{stroke-dasharray:6 4}"
    ".ap .band{fill-opacity:.16;stroke:none}"
    f"{_tones(0)}@media(prefers-color-scheme:dark){{{_tones(1)}}}"
)
_UNITS: Final = ((1e15, "P"), (1e12, "T"), (1e9, "bn"), (1e6, "M"), (1e3, "k"))

Draw: TypeAlias = Callable[[int], tuple[float, list[str]]]


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """A picture that can be drawn at any width.

    Attributes:
        title: what it shows, as a sentence a reader can take away.
        about: how to read it; the description for whoever cannot see it.
        draw: given a width in px, the height under the title and the marks of the drawing.

    """

    title: str
    about: str
    draw: Draw

    def svg(self, width: int = USUAL, *, name: str = "picture") -> str:
        """Return the SVG for a width in px, as a whole file; ``name`` makes its ids unique within a page.

        Raises:
            Invalid: the width is not from 280 to 2400.

        """
        if not NARROWEST <= width <= WIDEST:
            raise Invalid(
                "a picture cannot be drawn at this width",
                f"got {width} px, from {NARROWEST} to {WIDEST}",
                "say another width",
            )
        head, top = paragraph(12, 24, self.title, width - 24, "h", step=20)
        told, under = (
            paragraph(12, top + 2, self.about, width - 24, "s", step=16) if self.about else ([], top)
        )
        height, marks = self.draw(width)
        whole = under + 2 + height + 10
        body = "".join(marks)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="ap" role="img" width="{width}" '
            f'height="{px(whole)}" viewBox="0 0 {width} {px(whole)}" '
            f'aria-labelledby="{escape(name)}-t {escape(name)}-d">'
            f'<title id="{escape(name)}-t">{escape(self.title)}</title>'
            f'<desc id="{escape(name)}-d">{escape(self.about or self.title)}</desc>'
            f"<style>{STYLE}</style>"
            f'<rect class="g" width="{width}" height="{px(whole)}"/>{"".join(head)}{"".join(told)}'
            f'<g transform="translate(0 {px(under + 2)})">{body}</g></svg>\n'
        )


class Mark(msgspec.Struct, frozen=True):
    """A value of the axis that means something, and what."""

    at: float
    text: str


class Span(msgspec.Struct, frozen=True):
    """A stretch of the x axis that means something, and what; ``high`` may be infinite."""

    low: float
    high: float
    text: str


def finite(what: str, *values: float | None) -> None:
    """Refuse what cannot be drawn.

    Raises:
        Invalid: a value is not a finite number.

    """
    for value in values:
        if value is not None and not math.isfinite(value):
            raise Invalid(
                f"{what} cannot be drawn", f"got {value}", "leave the value out, or say it in words"
            )


def kind_of(kind: str) -> str:
    """Return a kind that has a colour.

    Raises:
        Invalid: unknown.

    """
    if kind not in KINDS:
        raise Invalid(f"no colour for {kind!r}", "known: " + ", ".join(KINDS), "use one of these")
    return kind


def px(value: float) -> str:
    """Write a length with at most one decimal place."""
    return f"{value:.1f}".rstrip("0").rstrip(".")


def text_width(text: str, size: float = SIZE) -> float:
    """Estimate how wide a text is, px: a font without serifs, rather too much than too little."""
    ems = sum(0.36 if c in _THIN else 0.98 if c in _BROAD else 0.72 if c.isupper() else 0.62 for c in text)
    return ems * size


def folded(text: str, width: float, size: float = SIZE) -> list[str]:
    """Return the lines of a text that each fit a width; a word longer than that is cut."""
    out: list[str] = []
    line = ""
    for word in text.split():
        rest = word
        while text_width(rest, size) > width and len(rest) > 1:
            fit = _cut(rest, width, size)
            if line:
                out.append(line)
                line = ""
            out.append(rest[:fit])
            rest = rest[fit:]
        longer = f"{line} {rest}".strip()
        if line and text_width(longer, size) > width:
            out.append(line)
            line = rest
        else:
            line = longer
    return [*out, line] if line else out or [""]


def _cut(word: str, width: float, size: float) -> int:
    """Return where to cut a word that is too long: after its last separator that fits, if there is one."""
    fit = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or text_width(word[:n], size) <= width)
    return max((n + 1 for n in range(fit) if word[n] in "/-_:."), default=fit)


def label(x: float, y: float, text: str, css: str = "", anchor: str = "start") -> str:
    """Write one line of text with its baseline at y."""
    named = f' class="{css}"' if css else ""
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{px(x)}" y="{px(y)}"{named}{where}>{escape(text)}</text>'


def paragraph(
    x: float, y: float, text: str, width: float, css: str = "", *, step: float = LINE
) -> tuple[list[str], float]:
    """Write a text that folds, its first baseline at y; returns it and the baseline after the last line."""
    size = 16.0 if css == "h" else SMALL if css == "s" else SIZE
    rows = folded(text, width, size)
    return [label(x, y + n * step, row, css) for n, row in enumerate(rows)], y + len(rows) * step


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    """Draw a straight line."""
    return f'<path class="{css}" d="M{px(x1)} {px(y1)}L{px(x2)} {px(y2)}"/>'


def box(x: float, y: float, width: float, height: float, css: str, told: str = "", extra: str = "") -> str:
    """Draw a filled rectangle; ``told`` is shown where a pointer rests on it."""
    inner = f"><title>{escape(told)}</title></rect>" if told else "/>"
    size = f'width="{px(max(0.0, width))}" height="{px(max(0.0, height))}"'
    return f'<rect class="{css}" x="{px(x)}" y="{px(y)}" {size}{extra}{inner}'


def whisker(low: float, high: float, y: float, cap: float = 5) -> str:
    """Draw an interval from x ``low`` to x ``high`` with caps."""
    return (
        f'<path class="w" d="M{px(low)} {px(y)}L{px(high)} {px(y)}M{px(low)} {px(y - cap)}v{px(2 * cap)}'
        f'M{px(high)} {px(y - cap)}v{px(2 * cap)}"/>'
    )


NOTHING: Final = 1e-300
"""A span so small, or none, cannot be divided into steps."""


class Axis(msgspec.Struct, frozen=True, kw_only=True):
    """Maps values to px, linear or logarithmic."""

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Return the px of a value, held within the axis."""
        value = min(max(value, self.low), self.high)
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        now = math.log(value) if self.log else value
        return self.begin + (self.end - self.begin) * (now - low) / (high - low)

    def ticks(self, most: int) -> list[float]:
        """Return round values within the axis."""
        return _powers(self.low, self.high, most) if self.log else _steps(self.low, self.high, most)


def axis(values: Sequence[float], begin: float, end: float, *, log: bool = False, zero: bool = True) -> Axis:
    """Make an axis that holds all of these finite values; a linear one begins at zero unless told not to.

    Raises:
        Invalid: a logarithmic axis was asked for and a value is not above zero.

    """
    low, high = min(values), max(values)
    if log:
        if low <= 0:
            raise Invalid("a logarithmic axis has no zero", f"got {low:g}", "draw it linear")
        return Axis(low=low / 1.15, high=high * 1.15, begin=begin, end=end, log=True)
    if zero:
        low, high = min(0.0, low), max(0.0, high)
    if high - low < NOTHING:
        low, high = (low - 1, high + 1) if low else (0.0, 1.0)
    room = 0.04 * (high - low)
    return Axis(
        low=low if zero and low == 0 else low - room,
        high=high if zero and high == 0 else high + room,
        begin=begin,
        end=end,
    )


def _steps(low: float, high: float, most: int) -> list[float]:
    step = _round_step((high - low) / max(1, most))
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)


def _powers(low: float, high: float, most: int) -> list[float]:
    """Return 1, 2, 5 of each power of ten where there is room, else the powers alone, or every n-th."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for mantissas in ((1.0, 2.0, 5.0), (1.0, 3.0), (1.0,)):
        found = [m * 10.0**p for p in range(first, last + 1) for m in mantissas if low <= m * 10.0**p <= high]
        if len(found) <= most:
            return found
    return found[:: -(-len(found) // max(1, most))]


def short(value: float) -> str:
    """Write a number in a few characters: ``1.2 M``, ``0.004``, ``-38 k``."""
    size = abs(value)
    if size < _UNITS[-1][0] * 0.9995:
        return _plain(value)
    for scale, name in _UNITS:
        if size >= scale * 0.9995:
            return f"{_plain(value / scale)} {name}"
    return _plain(value)


def _plain(value: float) -> str:
    if value == 0:
        return "0"
    digits = 3 - 1 - math.floor(math.log10(abs(value)))
    text = f"{round(value, digits):.{max(0, min(9, digits))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def between(low: float | None, high: float | None) -> str:
    """Write an interval, or nothing."""
    return "" if low is None or high is None else f"{short(low)} to {short(high)}"
