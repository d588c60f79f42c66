"""Reading a LiteLLM configuration part by part, and what is gathered on the way."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

from allod.domain.errors import Invalid
from allod.gateway.litellm.left import REASONS

ENV: Final = "os.environ/"
VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment that was carried over.

    ``unknown`` are the facts to fill in before it may see data of resident classes; ``cannot`` says what
    keeps it from serving anything at all (an unknown price), or is empty.
    """

    id: str
    group: str
    engine: str
    model: str
    operator: str
    host: str
    unknown: tuple[str, ...]
    cannot: str = ""


class Variable(msgspec.Struct, frozen=True, kw_only=True):
    """A variable to set before ``allod up``: its name and for what; its value is nowhere here."""

    name: str
    deployments: tuple[str, ...]
    why: str


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was not carried over: its place in the file and why."""

    where: str
    why: str


class Import(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration as TOML, and what must be known about it."""

    toml: str
    deployments: tuple[Imported, ...]
    tasks: dict[str, tuple[str, ...]]
    apps: tuple[str, ...]
    variables: tuple[Variable, ...]
    not_carried: tuple[Left, ...]
    notes: tuple[str, ...]


class Part:
    """One mapping of the file, read key by key; what nobody asks for is reported."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            raise Invalid(f"{where or 'the file'} is no mapping", f"got {type(data).__name__}", "correct it")
        self.data, self.where = data, where
        self._asked: set[str] = set()

    def at(self, key: str) -> str:
        """Return the place of a key in the file."""
        return f"{self.where}.{key}" if self.where else key

    def take(self, key: str) -> Any:
        """Return what a key holds, or None, and count it as asked for."""
        self._asked.add(key)
        return self.data.get(key)

    def text(self, key: str) -> str | None:
        """Return a value as text, or None."""
        value = self.take(key)
        return None if value is None else str(value).strip()

    def part(self, key: str) -> Part:
        """Return a mapping inside; one that is not there is empty (raises ``Invalid`` for anything else)."""
        value = self.take(key)
        return Part({} if value is None else value, self.at(key))

    def rows(self, key: str) -> list[Any]:
        """Return a list inside; one that is not there is empty (raises ``Invalid`` for anything else)."""
        value = self.take(key)
        if value is not None and not isinstance(value, list):
            raise Invalid(f"{self.at(key)} is no list", f"got {type(value).__name__}", "correct it")
        return value or []

    def left(self) -> Iterable[str]:
        """Go through the keys nobody asked for."""
        return (str(key) for key in self.data if key not in self._asked)


class Reading:
    """What is gathered on the way through the file."""

    def __init__(self, environ: Mapping[str, str], book: Collection[str]) -> None:
        self.environ, self.book = environ, book
        self.left: list[Left] = []
        self.notes: list[str] = []
        self.tables: list[dict[str, Any]] = []
        self.found: list[Imported] = []
        self.groups: dict[str, list[tuple[Decimal, str]]] = {}
        self.operators: dict[str, str] = {}
        self.variables: dict[str, tuple[list[str], str]] = {}
        self.own_variables: set[str] = set()
        self.names: set[str] = {"auto", "default", "public"}
        self.credentials: dict[str, dict[str, Any]] = {}
        self.defaults: dict[str, Any] = {}

    def drop(self, where: str, why: str) -> None:
        """Report something that is not carried over."""
        self.left.append(Left(where=shown(where), why=why))

    def rest(self, part: Part) -> None:
        """Report what nobody asked for, each by the reason known for it."""
        for key in part.left():
            self.drop(part.at(key), REASONS.get(key, "Allod has no such setting"))

    def name(self, wanted: str) -> str:
        """Return an identifier that nothing else has."""
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", wanted).strip("-.")[:48] or "deployment"
        name, n = stem, 1
        while name in self.names:
            n += 1
            name = f"{stem}-{n}"
        self.names.add(name)
        return name


def number(value: Any) -> Decimal | None:
    """Read a number, also one YAML took for text (``3e-6``)."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        return None
    return found if found.is_finite() and abs(found.adjusted()) < 30 else None  # noqa: PLR2004


def shown(text: str) -> str:
    """Show a name of the file without what a terminal would act on, and not at length."""
    return "".join(c if c.isprintable() else "?" for c in text)[:120]
