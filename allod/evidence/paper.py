"""What a report is made of, whatever it is written as."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

import msgspec

from allod.receipts.canonical import canonical
from allod.store.extract import Entry

Row = tuple[str, ...]


class Column(msgspec.Struct, frozen=True):
    """A column: its name in CSV and JSON, and its heading on paper."""

    id: str
    title: str


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """A table. ``rows`` may be gone through again and again, and need not fit into memory.

    ``note`` says how it is to be read. ``official`` tables are written as the authority wants them: no
    preamble, headings as given.
    """

    id: str
    title: str
    columns: tuple[Column, ...]
    rows: Callable[[], Iterable[Row]]
    note: str = ""
    official: bool = False


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """A value nobody gave: where it belongs, what it is, and who asks for it. The cell is left empty."""

    where: str
    what: str
    law: str = ""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is wrong or contradicts itself: by which rule, where, and what was got.

    ``rejects`` says that an authority would not take the file.
    """

    rule: str
    where: str
    detail: str
    rejects: bool = False


class LogState(msgspec.Struct, frozen=True, kw_only=True):
    """The log a report was made of, by its signed checkpoint: size in leaves, root as hex, verifier key."""

    origin: str
    size: int
    root: str
    checkpoint: str
    vkey: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A report before it is written.

    Attributes:
        kind, title: which one. law: what asks for it.
        tenant: of whom. scope: what it was limited to, in words.
        since, until, made_at: RFC 3339; ``until`` is exclusive.
        log: the state it speaks of; fleet: digest of the facts it was made with.
        packs: the packs in force with version, status and reviewer.
        figures: numbers with their names.
        sheets: the tables, the leading one first.
        gaps, findings: see there.
        cannot_know: what nobody may conclude from it.
        notes: how it is to be checked and what is left to be done.
        trace: which (table, row) an entry of the log stands behind; None where each row names its receipt.
        receipts: entries whose receipt files belong into the bundle.

    """

    kind: str
    title: str
    law: tuple[str, ...]
    tenant: str
    scope: str
    since: str
    until: str
    made_at: str
    log: LogState
    fleet: str
    packs: tuple[str, ...]
    figures: tuple[tuple[str, str], ...]
    sheets: tuple[Sheet, ...]
    gaps: tuple[Gap, ...]
    findings: tuple[Finding, ...]
    cannot_know: tuple[str, ...]
    notes: tuple[str, ...]
    trace: Callable[[Entry], Iterable[tuple[str, str]]] | None = None
    receipts: Callable[[], Iterator[Entry]] | None = None
    extra: dict[str, bytes] = {}


def columns(text: str) -> tuple[Column, ...]:
    """Read columns from lines of ``id  heading``."""
    pairs = (line.split(None, 1) for line in text.splitlines() if line.strip())
    return tuple(Column(name, title.strip()) for name, title in pairs)


def fixed(rows: Iterable[Row]) -> Callable[[], Iterable[Row]]:
    """Return rows that fit into memory."""
    held = tuple(rows)
    return lambda: held


def ref(*key: object) -> str:
    """Name a row by what it is about: the same in every file made of the same world."""
    return "k" + hashlib.sha256(canonical([str(part) for part in key])).hexdigest()[:10]


def listed(items: Iterable[str]) -> str:
    """Write a list into one cell."""
    return "; ".join(items)
