"""Pictures a manager can read: SVG drawn here, without scripts, fonts or anything fetched.

Every function returns a ``Picture``. ``picture.svg(width=720)`` is the text of an SVG file; it is laid out
for that width (labels fold, columns become rows), not shrunk to it. ``page`` puts pictures, paragraphs and
tables into one HTML file, each picture in three widths of which the screen shows one. Colours follow
``prefers-color-scheme``; every picture has ``role="img"`` with title and description; every number that is an
estimate is drawn with its interval::

    Bar(label, value, low=None, high=None, kind="own", text=None)
    bars(title, rows, unit, *, about="", log=False, marks=()) -> Picture

    Stack(label, parts=(("power", 3.0), ...), low=None, high=None)     # high and low of the whole
    stacks(title, rows, unit, *, about="") -> Picture

    Swing(label, low, high, low_text="", high_text="")  # the result at the input's low and high
    tornado(title, base, rows, unit, *, about="") -> Picture

    Line(label, points=((x, y), ...), band=((x, low, high), ...), kind="api", step=False, dashed=False)
    Mark(at, text)  # a vertical line, or a value on the axis
    Span(low, high, text)  # a shaded stretch of the x axis
    lines(title, series, *, x_unit, y_unit, about="", log_x=False, log_y=False, marks=(), spans=(),
          x_text=None) -> Picture  # x_text: number -> label (days, say)

    Cell(text, level, note="")  # level 0 (fine) to 1 (worst), None: none
    matrix(title, rows, columns, cells, *, about="", scale=("holds", "stops")) -> Picture

    Flow(label, value, low=None, high=None)  # one year
    cashflow(title, flows, unit, *, about="") -> Picture  # bars and what they add up to

    Section(heading, texts=(), picture=None, table=None)  # table: rows of cells, the first the head
    page(title, sections, *, lead="", foot=()) -> str  # a whole HTML document

Kinds of a bar or line (one colour each, told apart also by their labels): ``own``, ``rent``, ``open``,
``frontier``, ``warn``, ``plain``.
"""

from allod.planner.pictures.bars import Bar, Flow, Stack, Swing, bars, cashflow, stacks, tornado
from allod.planner.pictures.canvas import Mark, Picture, Span
from allod.planner.pictures.lines import Line, lines
from allod.planner.pictures.matrix import Cell, matrix
from allod.planner.pictures.page import Section, page

__all__ = [
    "Bar",
    "Cell",
    "Flow",
    "Line",
    "Mark",
    "Picture",
    "Section",
    "Span",
    "Stack",
    "Swing",
    "bars",
    "cashflow",
    "lines",
    "matrix",
    "page",
    "stacks",
    "tornado",
]
