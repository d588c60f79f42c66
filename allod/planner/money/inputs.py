"""Everything the money of a plan rests on: assumptions, catalogue, a file, flags; each with a source.

Later ones replace earlier ones: shipped, catalogue, ``--assumptions FILE``, flags. Nothing is taken twice at
one level, and two ways to say the same thing (a price of the node and of its devices, colocation and a
tariff) are not both accepted.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Final

import msgspec

from allod.domain.errors import Invalid

AS_OF: Final = date(2026, 11, 26)
"""The day the shipped assumptions were made."""
MAX_DIGITS: Final = 24
MAX_FILE_BYTES: Final = 1 << 20
SAID: Final = "said with the command"
RIVALS: Final = (
    (("buy.node_price_usd",), ("buy.device_price_usd", "buy.chassis_share"), "the node's price"),
    (("site.colo_usd_kw_month",), ("site.tariff_usd_kwh", "site.pue"), "power"),
    (("demand.tasks_month",), ("own.utilisation",), "how much work there is"),
)
"""Two ways to say one thing."""
_KEYS: Final = ("value", "low", "high", "source", "as_of")


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A key that can be said: its unit, what is accepted, and what is assumed (None: nothing)."""

    key: str
    unit: str
    least: Decimal
    most: Decimal
    value: Decimal | None
    low: Decimal | None
    high: Decimal | None
    source: str


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """One number the plan rests on: the middle and the ends of an 80 % interval, and where it is from."""

    key: str
    value: Decimal
    low: Decimal
    high: Decimal
    unit: str
    source: str
    as_of: date
    assumed: bool


class Inputs:
    """All inputs by key; what is not there is not known.

    Args:
        by_key: inputs.
        said: keys a person said, in a file or with the command.

    """

    def __init__(self, by_key: Mapping[str, Input], said: frozenset[str] = frozenset()) -> None:
        self.by_key, self.said = MappingProxyType(dict(by_key)), said

    def __contains__(self, key: object) -> bool:
        return key in self.by_key

    def value(self, key: str) -> Decimal:
        """Return the middle of a key that must be known.

        Raises:
            Invalid: it is not; what to say is named.

        """
        found = self.by_key.get(key)
        if found is None:
            meant = known()[key]
            raise Invalid(
                f"{key} is not known",
                f"{meant.unit}: {meant.source}",
                f"say --set {key}=..., or write it in a file for --assumptions",
                param=key,
            )
        return found.value

    def middle(self) -> dict[str, Decimal]:
        """Return the middle of all."""
        return {key: one.value for key, one in self.by_key.items()}

    def uncertain(self) -> tuple[Input, ...]:
        """Return those that have an interval."""
        return tuple(one for one in self.by_key.values() if one.low < one.high)

    def having(self, new: Iterable[Input], *, said: bool) -> Inputs:
        """Lay others over these."""
        fresh = {one.key: one for one in new}
        whole = self.said | frozenset(fresh) if said else self.said
        return Inputs({**self.by_key, **fresh}, whole)

    def without(self, *keys: str) -> Inputs:
        """Leave some out."""
        return Inputs({k: v for k, v in self.by_key.items() if k not in keys}, self.said)


@cache
def known() -> Mapping[str, Known]:
    """Return every key there is, as shipped."""
    raw = resources.files("allod.planner.money").joinpath("assumptions.toml").read_text("utf-8")
    out: dict[str, Known] = {}
    for group, table in tomllib.loads(raw, parse_float=Decimal).items():
        for name, row in table.items():
            value = None if "value" not in row else Decimal(row["value"])
            out[f"{group}.{name}"] = Known(
                key=f"{group}.{name}",
                unit=row["unit"],
                least=Decimal(row["least"]),
                most=Decimal(row["most"]),
                value=value,
                low=value if "low" not in row else Decimal(row["low"]),
                high=value if "high" not in row else Decimal(row["high"]),
                source=row["source"],
            )
    return MappingProxyType(out)


def shipped() -> Inputs:
    """Return the shipped assumptions."""
    return Inputs(
        {
            one.key: Input(
                key=one.key,
                value=one.value,
                low=one.low,
                high=one.high,
                unit=one.unit,
                source=one.source,
                as_of=AS_OF,
                assumed=True,
            )
            for one in known().values()
            if one.value is not None and one.low is not None and one.high is not None
        }
    )


def made(
    key: str,
    value: Decimal,
    *,
    low: Decimal | None = None,
    high: Decimal | None = None,
    source: str = SAID,
    as_of: date,
    assumed: bool = False,
) -> Input:
    """Make an input of a known key.

    Raises:
        Invalid: the key is unknown, a number is outside what is accepted, or the interval is not one.

    """
    meant = known().get(key)
    if meant is None:
        raise _unknown(key)
    low, high = value if low is None else low, value if high is None else high
    for number in (low, value, high):
        _accepted(meant, number)
    if not low <= value <= high:
        raise Invalid(
            f"the interval of {key} is not one",
            f"got low {low}, value {value}, high {high}",
            "say low <= value <= high",
            param=key,
        )
    return Input(
        key=key, value=value, low=low, high=high, unit=meant.unit, source=source, as_of=as_of, assumed=assumed
    )


def _accepted(meant: Known, number: Decimal) -> None:
    if not number.is_finite() or not meant.least <= number <= meant.most:
        raise Invalid(
            f"{meant.key} cannot be {number}",
            f"{meant.unit}: accepted is {meant.least:f} to {meant.most:f}",
            "correct it",
            param=meant.key,
        )
    if len(number.as_tuple().digits) > MAX_DIGITS:
        raise Invalid(f"{meant.key} has more than {MAX_DIGITS} digits", str(number)[:60], "round it")


def _unknown(key: str) -> Invalid:
    close = get_close_matches(key, known(), 3, 0.5)
    names = [one for one in known() if one.split(".")[1] == key]
    near = ", ".join(names or close)
    return Invalid(
        f"there is no assumption {key[:60]!r}",
        f"did you mean {near}?" if near else "the tables are " + ", ".join(_groups()),
        "`allod plan cost --print-assumptions` lists all of them",
        param=key[:60],
    )


def _groups() -> list[str]:
    return list(dict.fromkeys(key.split(".")[0] for key in known()))


def parsed(text: str) -> tuple[Decimal, Decimal, Decimal]:
    """Read ``0.4``, ``0.2..0.6`` or ``0.2..0.4..0.6``; returns low, value, high.

    Raises:
        Invalid: it is none of these, or not finite.

    """
    try:
        numbers = [Decimal(part.strip()) for part in text.split("..")]
    except InvalidOperation:
        numbers = []
    if not 1 <= len(numbers) <= 3 or not all(one.is_finite() for one in numbers):  # noqa: PLR2004 (three forms)
        raise Invalid(
            f"{text[:60]!r} is no number",
            "expected 0.4, a range 0.2..0.6, or 0.2..0.4..0.6 with its middle",
            "correct it",
        )
    low, high = numbers[0], numbers[-1]
    middle = numbers[1] if len(numbers) == 3 else (low + high) / 2  # noqa: PLR2004
    return low, middle, high


def settings(words: Iterable[str], today: date) -> list[Input]:
    """Read ``KEY=VALUE`` words of a command.

    Raises:
        Invalid: no such key, no number, or one key twice with two values.

    """
    out: dict[str, Input] = {}
    for word in words:
        key, sign, text = word.partition("=")
        if not sign:
            raise Invalid(f"{word[:60]!r} sets nothing", "expected KEY=VALUE", "say --set site.pue=1.3")
        low, value, high = parsed(text)
        once(out, made(key.strip(), value, low=low, high=high, as_of=today))
    return list(out.values())


def once(out: dict[str, Input], one: Input) -> None:
    """Add an input that may be said only once.

    Raises:
        Invalid: it was said before with another value.

    """
    before = out.get(one.key)
    if before is not None and (before.low, before.value, before.high) != (one.low, one.value, one.high):
        raise Invalid(
            f"{one.key} is said twice",
            f"{before.value} and {one.value}",
            "say it once",
            param=one.key,
        )
    out[one.key] = one


def from_toml(raw: bytes, name: str, today: date) -> list[Input]:
    """Read a file of assumptions: tables and keys as shipped, each a number or a table of value, low, high...

    Rows of the printed template that nobody changed say nothing.

    Raises:
        Invalid: it cannot be read, a key is unknown (the nearest is named), a number is not accepted.

    """
    if len(raw) > MAX_FILE_BYTES:
        raise Invalid(
            f"{name} is too large", f"{len(raw)} bytes, accepted are {MAX_FILE_BYTES}", "shorten it"
        )
    try:
        whole = tomllib.loads(raw.decode(), parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError) as fault:
        raise Invalid(f"{name} cannot be read", str(fault)[:200], "correct the TOML") from fault
    out: list[Input] = []
    for group, table in whole.items():
        if group not in _groups() or not isinstance(table, dict):
            raise _unknown(group) if not isinstance(table, dict) else _unknown_group(group)
        rows = [_row(f"{group}.{key}", row, name, today) for key, row in table.items() if not _unsaid(row)]
        out += [one for one in rows if not _unchanged(one)]
    return out


def _unsaid(row: Any) -> bool:
    """Tell whether a row is that of the printed template without a value."""
    return isinstance(row, dict) and "value" not in row and "unit" in row


def _unchanged(one: Input) -> bool:
    """Tell whether a row is that of the printed template as it was: nobody said it."""
    meant = known()[one.key]
    there = (one.value, one.low, one.high, one.source)
    return there == (meant.value, meant.low, meant.high, meant.source)


def _unknown_group(group: str) -> Invalid:
    close = get_close_matches(group, _groups(), 1, 0.4)
    return Invalid(
        f"there is no table [{group[:60]}]",
        (f"did you mean [{close[0]}]? " if close else "") + "the tables are " + ", ".join(_groups()),
        "correct the file",
        param=group[:60],
    )


def _row(key: str, row: Any, name: str, today: date) -> Input:
    if key not in known():
        raise _unknown(key)
    if not isinstance(row, dict):
        return made(key, _number(key, row), source=name, as_of=today)
    wrong = [one for one in row if one not in (*_KEYS, "unit", "least", "most")]
    if wrong or "value" not in row:
        raise Invalid(
            f"{key} cannot be read",
            f"unknown: {', '.join(wrong)}" if wrong else "it has no value",
            "its keys are " + ", ".join(_KEYS),
            param=key,
        )
    as_of, source = row.get("as_of", today), row.get("source", name)
    if type(as_of) is not date or not isinstance(source, str):
        raise Invalid(
            f"{key} has no day or no text as source", f"{as_of!r}, {source!r}", "correct it", param=key
        )
    return made(
        key,
        _number(key, row["value"]),
        low=_number(key, row.get("low", row["value"])),
        high=_number(key, row.get("high", row["value"])),
        source=source,
        as_of=as_of,
    )


def _number(key: str, value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise Invalid(f"{key} is no number", f"got {str(value)[:60]!r}", "write a number", param=key)
    return Decimal(value)


def coherent(said: Iterable[str], *, where: str) -> None:
    """Refuse two ways to say one thing.

    Raises:
        Invalid: both are there.

    """
    there = set(said)
    for ours, theirs, what in RIVALS:
        a, b = sorted(there & set(ours)), sorted(there & set(theirs))
        if a and b:
            raise Invalid(
                f"{what} is said twice",
                f"{', '.join(a)} and {', '.join(b)} ({where})",
                "say one of them",
                param=a[0],
            )


def gathered(catalogue: Iterable[Input], file: Iterable[Input], flags: Iterable[Input]) -> Inputs:
    """Lay catalogue, file and flags over the shipped assumptions; who says one of two rivals drops the other.

    Raises:
        Invalid: rivals are both said.

    """
    filed, flagged = list(file), list(flags)
    said = [one.key for one in (*filed, *flagged)]
    coherent(said, where="in the file and with the command")
    whole = shipped().having(catalogue, said=False).having(filed, said=True).having(flagged, said=True)
    for ours, theirs, _ in RIVALS:
        if set(said) & set(ours):
            whole = whole.without(*theirs)
        elif set(said) & set(theirs):
            whole = whole.without(*ours)
    return whole
