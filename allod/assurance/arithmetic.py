"""Arithmetic an answer states, computed again exactly.

A statement is an expression, an equals sign, and a number (or another expression): ``12 x 7 = 84``,
``15 % of 80 = 12``, ``(3 + 4) / 2 = 3.5``, and chains of them. Fractions are exact. Numbers are read as they
are written in English (1,234.5) and on the continent (1.234,5); a statement is right if it is right in one
reading that all its numbers have. Behind ``=`` a rounded number is right only where something was divided
or is a percentage, and with two places or more (27 % has two); behind a sign of "about" at the places it has.

What has an unknown in it (``2x + 3 = 7``, ``f(2) = 4``), units that differ, or no operator, states no
arithmetic, and is passed over. What is too large to compute is wrong: a check that cannot look has failed.
Everything is linear in the answer, but for single expressions, whose length is bounded.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING, Final, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_CHARS: Final = 256 << 10
MAX_TOKENS: Final = 400
"""Of one line's statement."""
MAX_STATEMENTS: Final = 2_000
_MAX_DIGITS: Final = 60
_MAX_POWER: Final = 64
_MAX_BITS: Final = 4_096
_PLACES: Final = 2
Kind = Literal["number", "op", "open", "close", "equal", "about", "percent", "of", "unit", "break", "unknown"]

_TEXT: Final = re.compile(r"\\(?:text|mathrm|mbox|textbf)\{[^{}\n]{0,80}\}")
_FRACTION: Final = re.compile(r"\\[dt]?frac\{([^{}\n]{1,60})\}\{([^{}\n]{1,60})\}")
_PLAIN: Final = {
    "\\times": "\u00d7", "\\cdot": "\u00d7", "\\div": "÷", "\\%": "%", "\\$": "$", "\\left": "",
    "\\right": "",
    "\\,": "", "{,}": ",", "\\approx": "≈", "\\(": " ", "\\)": " ", "\\[": "\n", "\\]": "\n", "$$": "\n",
    "\\boxed": "", "<<": "\n", ">>": "\n", "{": "(", "}": ")", "\u00a0": "\u202f", "\u2009": "\u202f",
    "&": " ", "\\\\": "\n",
}  # fmt: skip
_TOKEN: Final = re.compile(
    r"""(?P<bullet>\n[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+)
    |(?P<number>\d{1,3}(?:\ \d{3})+(?![\d.,]*\d)|(?:\d|\.(?=\d)|(?<=\d)[.,'\u2019\u202f](?=\d))+)
    |(?P<power>\*\*(?=[ ]?[\d(-])|\^)|(?P<op>[-+*/\u00d7÷·\u2212\u2013:])|(?P<open>\()|(?P<close>\))
    |(?P<about>≈|≃|≅|~=?)|(?P<equal>==?(?![=>]))|(?P<percent>%|percent\b|per\ cent\b|Prozent\b)
    |(?P<of>of\b|von\b)|(?P<money>[$€£¥])|(?P<space>[ \t]+)|(?P<word>[^\W\d_]+)|(?P<break>.|\n)""",
    re.VERBOSE | re.DOTALL,
)
_TIMES: Final = frozenset("xX")
_OPERATORS: Final = {
    "*": "*", "\u00d7": "*", "·": "*", "/": "/", "÷": "/", ":": "/", "+": "+", "-": "-", "\u2212": "-",
    "\u2013": "-",
}  # fmt: skip
_RANK: Final = {"+": 1, "-": 1, "*": 2, "/": 2, "~": 3, "^": 4}
_SIGN: Final = "~"


class Token(msgspec.Struct, frozen=True):
    """One piece: its kind, its text (for ``op`` one of ``+-*/^``), where it stands, and space before it."""

    kind: Kind
    text: str
    at: int
    spaced: bool


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """How many statements were right; ``wrong`` says why the answer fails, empty where none is wrong."""

    right: int
    wrong: str = ""


class _Unread(Exception):
    """It states no arithmetic."""


class _TooLarge(Exception):
    """It states some, and it is not computed."""


def checked(answer: str) -> Found:
    """Compute every statement of an answer again."""
    if len(answer) > MAX_CHARS:
        return Found(right=0, wrong="longer than is read")
    right = 0
    try:
        for run in _runs(_tokens(_flat(answer))):
            for ok in _statements(run):
                right += ok
                if not ok:
                    return Found(right=right, wrong="a statement is wrong")
                if right > MAX_STATEMENTS:
                    return Found(right=right, wrong="more statements than are read")
    except _TooLarge:
        return Found(right=right, wrong="a statement is too large")
    return Found(right=right)


def _flat(answer: str) -> str:
    """Write LaTeX and markup plainly."""
    text = _TEXT.sub(" ", "\n" + answer)
    text = _FRACTION.sub(r"((\1)/(\2))", text)
    for one, other in _PLAIN.items():
        text = text.replace(one, other)
    return text


def _tokens(text: str) -> Iterator[Token]:
    spaced = True
    before: Kind = "break"
    for found in _TOKEN.finditer(text):
        group, said, at = found.lastgroup or "break", found.group(), found.start()
        if group == "space":
            spaced = True
            continue
        if group == "money":
            continue
        kind, said = _kind(group, said, before, text, found.end(), spaced=spaced)
        if kind is None:
            continue
        yield Token(kind, said, at, spaced)
        spaced, before = False, kind


def _kind(
    group: str, said: str, before: Kind, text: str, end: int, *, spaced: bool
) -> tuple[Kind | None, str]:
    """Return what a piece is where it stands; None for mere markup."""
    operand = before in {"number", "close", "percent", "unit"}
    if group == "open" and operand and not _number_behind(text, end):
        return "break", said  # a remark
    if group == "word":
        return _word(said, before, text, end, spaced=spaced, operand=operand)
    if group in {"op", "power"}:
        return _operator(group, said, text, end, spaced=spaced, operand=operand)
    if (group == "of" and before != "percent") or group == "bullet":
        return "break", said
    if group == "break":
        return (None if said in "_`\\" else "break"), said
    return group, said  # type: ignore[return-value]


def _word(
    said: str, before: Kind, text: str, end: int, *, spaced: bool, operand: bool
) -> tuple[Kind | None, str]:
    called = text.startswith("(", end)
    if said in _TIMES and operand and _number_behind(text, end):
        return "op", "*"
    if before == "number" and (len(said) > 1 or spaced) and not called:
        return "unit", said.lower().rstrip("s")
    return ("unknown" if len(said) == 1 or called else "break"), said


def _operator(
    group: str, said: str, text: str, end: int, *, spaced: bool, operand: bool
) -> tuple[Kind | None, str]:
    if group == "power":
        return ("op" if operand else None), "^"
    between = operand and _number_behind(text, end)
    if said == "*" and not between:
        return None, said
    if said == ":" and not (between and spaced == (text[end] == " ")):
        return "break", said
    return "op", _OPERATORS[said]


def _number_behind(text: str, at: int) -> bool:
    while at < len(text) and text[at] in " $€£¥":
        at += 1
    return at < len(text) and (text[at].isdigit() or text[at] in "(.-\u2212")


def _runs(tokens: Iterator[Token]) -> Iterator[list[Token]]:
    """Yield what stands between breaks and holds an equals sign.

    Raises:
        _TooLarge: one is longer than is read.

    """
    run: list[Token] = []
    equal = False
    for one in tokens:
        prose = bool(run) and run[-1].kind == "unit" and one.kind in {"number", "open", "unit", "unknown"}
        if one.kind == "break" or prose:
            if equal:
                yield run
            run, equal = [], False
            if one.kind == "break":
                continue
        equal = equal or one.kind in {"equal", "about"}
        if len(run) >= MAX_TOKENS:
            raise _TooLarge
        run.append(one)
    if equal:
        yield run


def _statements(run: Sequence[Token]) -> Iterator[bool]:
    """Yield of each statement of a run whether it is right.

    In a chain a number is held against the last side before it that was to compute.
    """
    parts, signs = [list[Token]()], list[str]()
    for one in run:
        if one.kind in {"equal", "about"}:
            signs.append(one.kind)
            parts.append([])
        else:
            parts[-1].append(one)
    computed: Sequence[Token] = ()
    for sign, left, right in zip(signs, parts, parts[1:], strict=False):
        computed = left if _works(left) else computed
        last = left if _works(right) or not computed else computed
        said = _holds(_before_equal(last), _behind_equal(right), about=sign == "about")
        if said is not None:
            yield said


def _works(side: Sequence[Token]) -> bool:
    return any(one.kind in {"op", "of"} for one in side)


def _before_equal(side: Sequence[Token]) -> Sequence[Token]:
    """Return what stands behind the last bracket that has no other: ``(3 + 4 = 7)``, ``a) 3 + 4 = 7``."""
    lone = _lone(side)
    return side[lone[-1] + 1 :] if lone else side


def _behind_equal(side: Sequence[Token]) -> Sequence[Token]:
    """Return what stands before the first bracket that has no other."""
    lone = _lone(side)
    return side[: lone[0]] if lone else side


def _lone(side: Sequence[Token]) -> list[int]:
    """Return where brackets without another stand, in order."""
    opened, closed = list[int](), list[int]()
    for at, one in enumerate(side):
        if one.kind == "open":
            opened.append(at)
        elif one.kind == "close":
            opened.pop() if opened else closed.append(at)
    return sorted((*closed, *opened))


def _holds(left: Sequence[Token], right: Sequence[Token], *, about: bool) -> bool | None:
    """Say whether two sides are equal in any reading; None where they state no arithmetic."""
    if not (_works(left) or _works(right)):
        return None
    verdicts = []
    for continental in (False, True):
        try:
            verdicts.append(_equal(left, right, about=about, continental=continental))
        except _Unread:
            continue
    return any(verdicts) if verdicts else None


def _equal(left: Sequence[Token], right: Sequence[Token], *, about: bool, continental: bool) -> bool:
    one, two = _Sum(left, continental=continental), _Sum(right, continental=continental)
    if not (one.works or two.works):
        raise _Unread
    if one.value == two.value:
        return True
    shown, exact = (two, one) if one.works else (one, two)
    if shown.works or (not about and not exact.divides and not shown.percent):
        return False
    if not about and shown.places + (_PLACES if shown.percent else 0) < _PLACES:
        return False
    return _rounds(exact.value, shown, about=about)


def _rounds(exact: Fraction, shown: _Sum, *, about: bool) -> bool:
    """Say whether a number is an exact one at the places it is written with, half either way."""
    unit = Fraction(1, 10**shown.places) / (100 if shown.percent else 1)
    if about and not shown.places:
        whole = shown.value / unit
        while whole and whole % 10 == 0:
            unit, whole = unit * 10, whole / 10
    return abs(exact - shown.value) <= unit / 2


class _Sum:
    """One side, computed.

    Attributes:
        value: exact. works: whether there was an operator. divides: whether something was divided.
        places: digits behind the point of a side that is one number; percent: whether that is a percentage.

    Raises:
        _Unread: it is none. _TooLarge: it is not computed.

    """

    def __init__(self, tokens: Sequence[Token], *, continental: bool) -> None:
        self._continental = continental
        self.works = self.divides = self.percent = False
        self.places = 0
        self._values: list[tuple[Fraction, str]] = []
        self._waiting: list[str] = []
        self._read(tokens)
        self.value = self._values[0][0]

    def _read(self, tokens: Sequence[Token]) -> None:
        operand = False
        for at, one in enumerate(tokens):
            operand = self._after(at, tokens) if operand else self._before(one)
        if not operand:
            raise _Unread
        while self._waiting:
            self._apply(self._waiting.pop())

    def _before(self, one: Token) -> bool:
        """Take a piece where an operand is due; returns whether it was one."""
        if one.kind == "number":
            self._values.append((self._number(one.text), ""))
            return True
        if one.kind == "open":
            self._waiting.append("(")
        elif one.kind == "op" and one.text == "-":
            self._waiting.append(_SIGN)
        else:
            raise _Unread
        return False

    def _after(self, at: int, tokens: Sequence[Token]) -> bool:
        """Take a piece behind an operand; returns whether another one may follow it still."""
        one = tokens[at]
        if one.kind == "unit":
            self._values[-1] = (self._values[-1][0], one.text)
        elif one.kind == "percent":
            self._percent(at, tokens)
        elif one.kind == "close":
            self._close()
        elif one.kind in {"op", "of"}:
            self._operator(one.text if one.kind == "op" else "*")
            return False
        else:
            raise _Unread
        return True

    def _percent(self, at: int, tokens: Sequence[Token]) -> None:
        """Take a percentage; added to something it is of that, or points: then nobody can tell."""
        before = tokens[at - 2] if at > 1 else None
        behind = tokens[at + 1] if at + 1 < len(tokens) else None
        if any(one is not None and one.kind == "op" and one.text in "+-" for one in (before, behind)):
            raise _Unread
        value, unit = self._values[-1]
        self._values[-1] = value / 100, unit
        self.percent = True
        self.divides = True

    def _operator(self, text: str) -> None:
        self.works = True
        self.percent = False
        while self._waiting and self._waiting[-1] != "(" and self._binds(self._waiting[-1], text):
            self._apply(self._waiting.pop())
        self._waiting.append(text)

    @staticmethod
    def _binds(waiting: str, new: str) -> bool:
        return _RANK[waiting] > _RANK[new] or (_RANK[waiting] == _RANK[new] and new != "^")

    def _close(self) -> None:
        while self._waiting and self._waiting[-1] != "(":
            self._apply(self._waiting.pop())
        if not self._waiting:
            raise _Unread
        self._waiting.pop()

    def _apply(self, operator: str) -> None:
        if operator == "(":
            raise _Unread
        right, unit = self._values.pop()
        if operator == _SIGN:
            self._values.append((-right, unit))
            return
        left, other = self._values.pop()
        if operator in "+-" and unit and other and unit != other:
            raise _Unread
        self._values.append((self._computed(operator, left, right), other or unit))

    def _computed(self, operator: str, left: Fraction, right: Fraction) -> Fraction:
        match operator:
            case "+":
                value = left + right
            case "-":
                value = left - right
            case "*":
                value = left * right
            case "/":
                if not right:
                    raise _TooLarge
                self.divides, value = True, left / right
            case _:
                value = _power(left, right)
                self.divides = self.divides or right < 0
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
            raise _TooLarge
        return value

    def _number(self, text: str) -> Fraction:
        text = re.sub("['\u2019\u202f ]", "", text)
        if len(text) > _MAX_DIGITS:
            raise _TooLarge
        thousands, point = (".", ",") if self._continental else (",", ".")
        whole, mark, rest = text.partition(point)
        groups = whole.split(thousands)
        bad = thousands in rest or point in rest or any(len(one) != 3 for one in groups[1:])  # noqa: PLR2004
        if bad or (len(groups) > 1 and not (0 < len(groups[0]) <= 3 and groups[0] != "0")):  # noqa: PLR2004
            raise _Unread
        self.places = len(rest) if mark else 0
        return Fraction("".join(groups) + ("." + rest if rest else "") or "0")


def _power(left: Fraction, right: Fraction) -> Fraction:
    if right.denominator != 1:
        raise _Unread
    if abs(right) > _MAX_POWER or (not left and right < 0):
        raise _TooLarge
    return left ** int(right)
