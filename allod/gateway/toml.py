"""Reading a TOML table key by key: types checked, unknown keys named with their nearest known key."""

from __future__ import annotations

import difflib
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeVar

from allod.domain import jurisdiction
from allod.domain.errors import Invalid
from allod.domain.facts import GRADES, Fact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")
MAX_DECIMALS: Final = 12
MAX_NUMBER: Final = Decimal(10) ** 12
"""Numbers are exact: with so few digits no product or sum of them is ever rounded."""
_FACT_KEYS = ("value", "grade", "as_of", "expires", "source")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known word nearest to this one, or an empty string."""
    close = difflib.get_close_matches(word, list(known), 1, 0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


class Table:
    """One TOML table being read. Every key is taken once; ``done`` rejects what nobody asked for.

    Args:
        data: the table as ``tomllib`` gives it, floats as ``Decimal``.
        where: its name in messages, such as ``deployment.ward-llm``.

    """

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            raise self._wrong(where, "a table", data)
        self._data: dict[str, Any] = data
        self._where = where
        self._asked: set[str] = set()

    @staticmethod
    def _wrong(where: str, expected: str, got: Any) -> Invalid:
        return Invalid(
            f"{where} must be {expected}",
            f"got {type(got).__name__} {str(got)[:60]!r}",
            "correct the configuration",
            param=where,
        )

    def name(self, key: str) -> str:
        """Return the full name of a key for messages."""
        return f"{self._where}.{key}" if self._where else key

    def has(self, key: str) -> bool:
        """Tell whether the key is present, and count it as known."""
        self._asked.add(key)
        return key in self._data

    def take(self, key: str, kind: type | tuple[type, ...], expected: str) -> Any:
        """Return the value of a key, or None when absent; its type must fit (a bool is no int)."""
        if not self.has(key):
            return None
        value = self._data[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self._wrong(self.name(key), expected, value)
        return value

    def text(self, key: str) -> str | None:
        """Return a non-empty string or None."""
        value = self.take(key, str, "a string")
        if value is not None and not value.strip():
            raise self._wrong(self.name(key), "a non-empty string", value)
        return value  # type: ignore[no-any-return]

    def required(self, key: str) -> str:
        """Return a non-empty string that must be there."""
        value = self.text(key)
        if value is None:
            raise Invalid(
                f"{self._where or 'the configuration'} lacks {key!r}",
                "this key may not be absent",
                f"add `{key} = ...`",
                param=self.name(key),
            )
        return value

    def flag(self, key: str, default: bool) -> bool:
        """Return a boolean."""
        value = self.take(key, bool, "true or false")
        return default if value is None else value

    def whole(self, key: str, default: T, low: int = 1, high: int = 2**53) -> int | T:
        """Return an integer within bounds, or the default."""
        value = self.take(key, int, "a whole number")
        if value is None:
            return default
        if not low <= value <= high:
            raise self._wrong(self.name(key), f"a whole number from {low} to {high}", value)
        return int(value)

    def number(self, key: str, low: Decimal | None = None, high: Decimal | None = None) -> Decimal | None:
        """Return an exact number within bounds and ``MAX_DECIMALS``, or None."""
        value = self.take(key, (Decimal, int), "a number")
        if value is None:
            return None
        exact = Decimal(value)
        bad = (
            not exact.is_finite() or (low is not None and exact < low) or (high is not None and exact > high)
        )
        if bad:
            raise self._wrong(self.name(key), f"a number from {low} to {high}", value)
        places = exact.as_tuple().exponent
        if exact > MAX_NUMBER or exact < -MAX_NUMBER or (isinstance(places, int) and -places > MAX_DECIMALS):
            what = f"a number of at most {MAX_DECIMALS} decimal places, up to {MAX_NUMBER:f}"
            raise self._wrong(self.name(key), what, value)
        return exact

    def choice(self, key: str, options: tuple[str, ...], default: Any) -> Any:
        """Return one of the options, or the default."""
        value = self.text(key)
        if value is None:
            return default
        if value not in options:
            hint = nearest(value, options)
            raise Invalid(
                f"{self.name(key)}: {value!r} is not known{hint}",
                "known: " + ", ".join(options),
                "correct the configuration",
                param=self.name(key),
            )
        return value

    def texts(self, key: str) -> tuple[str, ...] | None:
        """Return a tuple of strings without duplicates in written order, or None."""
        value = self.take(key, list, "a list of strings")
        if value is None:
            return None
        for item in value:
            if not isinstance(item, str) or not item:
                raise self._wrong(self.name(key), "a list of non-empty strings", item)
        return tuple(dict.fromkeys(value))

    def places(self, key: str) -> tuple[str, ...] | None:
        """Return jurisdictions (codes or blocs) as a sorted tuple, or None."""
        value = self.texts(key)
        if value is None:
            return None
        return tuple(sorted(jurisdiction.check(p, self.name(key)) for p in value))

    def sub(self, key: str) -> Table | None:
        """Return a nested table, or None."""
        value = self.take(key, dict, "a table")
        return None if value is None else Table(value, self.name(key))

    def raw(self, key: str) -> Any:
        """Return the value of a key that is present, whatever its type."""
        self._asked.add(key)
        return self._data[key]

    def names(self) -> list[str]:
        """Return the keys of a table whose keys are free."""
        return list(self._data)

    def list_of(self, key: str, title: str) -> list[Table]:
        """Return an array of tables; each is named by its ``id`` or ``name`` in messages."""
        value = self.take(key, list, "an array of tables") or []
        out = []
        for n, item in enumerate(value):
            label = item.get("id") or item.get("name") if isinstance(item, dict) else None
            out.append(Table(item, f"{title}.{label if isinstance(label, str) else n}"))
        return out

    def fact(self, key: str, read: Callable[[Any, str], T]) -> Fact[T] | None:
        """Return a fact, plain or as ``{ value, grade, as_of, expires, source }``; None is unknown."""
        if not self.has(key):
            return None
        raw, where = self._data[key], self.name(key)
        if not isinstance(raw, dict):
            return Fact(value=read(raw, where))
        table = Table(raw, where)
        if not table.has("value"):
            raise Invalid(
                f"{where} lacks 'value'",
                "a fact is a plain value or a table with 'value'",
                f"write `{key} = {{ value = ... }}`",
                param=where,
            )
        fact = Fact(
            value=read(raw["value"], where),
            grade=table.choice("grade", GRADES, "declared"),
            as_of=table.day("as_of"),
            expires=table.day("expires"),
            source=table.text("source"),
        )
        table.done(_FACT_KEYS)
        return fact

    def day(self, key: str) -> date | None:
        """Return a TOML date, or None; a date with a time is refused."""
        value = self.take(key, date, "a date such as 2026-03-01")
        if isinstance(value, datetime):
            raise self._wrong(self.name(key), "a date without a time", value)
        return value  # type: ignore[no-any-return]

    def done(self, known: Iterable[str] = ()) -> None:
        """Refuse any key that was never asked for, naming the nearest one that exists."""
        extra = sorted(set(self._data) - self._asked)
        if extra:
            every = sorted(self._asked | set(known))
            hint = nearest(extra[0], every)
            raise Invalid(
                f"unknown key {self.name(extra[0])!r}{hint}",
                "known here: " + ", ".join(every),
                "correct or remove the key",
                param=self.name(extra[0]),
            )


def place(raw: Any, where: str) -> str:
    """Read one jurisdiction."""
    if not isinstance(raw, str):
        raise Invalid(f"{where} must be a country code or a bloc", f"got {raw!r}", param=where)
    return jurisdiction.check(raw, where)


def place_set(raw: Any, where: str) -> tuple[str, ...]:
    """Read a list of jurisdictions (one may stand alone) into a sorted tuple."""
    items = raw if isinstance(raw, list) else [raw]
    return tuple(sorted({place(item, where) for item in items}))


def truth(raw: Any, where: str) -> bool:
    """Read a boolean fact."""
    if not isinstance(raw, bool):
        raise Invalid(f"{where} must be true or false", f"got {raw!r}", param=where)
    return raw


def words(raw: Any, where: str) -> tuple[str, ...]:
    """Read a list of strings into a sorted tuple."""
    if not isinstance(raw, list) or not all(isinstance(x, str) and x for x in raw):
        raise Invalid(f"{where} must be a list of strings", f"got {raw!r}", param=where)
    return tuple(sorted(set(raw)))
