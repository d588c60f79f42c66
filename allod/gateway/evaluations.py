"""Evaluations of a home: ``evaluations/<first 16 digits of the digest>.json``, and runs in progress.

A run appends each item to a ``.part`` as soon as it is known; the file of the whole is written beside its
place and renamed, and only then does the part go. A file whose bytes are not what its name says is not used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import msgspec

from allod.assurance.evaluation import Evaluation, Item, decode, encode, name_of
from allod.domain.errors import Integrity, Invalid
from allod.store.home import unwritable, write_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from allod.store.home import Home

SHORT: Final = 16
_FILES: Final = SHORT * "[0-9a-f]" + ".json"
_PREFIX: Final = "sha256:"


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """An evaluation of the home and the digest it is known by."""

    digest: str
    evaluation: Evaluation

    @property
    def short(self) -> str:
        """The first digits of the digest: its file's name."""
        return self.digest.removeprefix(_PREFIX)[:SHORT]


def folder(home: Home) -> Path:
    """Return where a home's evaluations lie."""
    return home.root / "evaluations"


def every(home: Home) -> Iterator[Kept]:
    """Go through all evaluations, oldest first.

    Raises:
        Integrity: a file was changed.

    """
    found = [_read(path) for path in sorted(folder(home).glob(_FILES))]
    yield from sorted(found, key=lambda one: (one.evaluation.at, one.digest))


def one(home: Home, name: str) -> Kept:
    """Return the evaluation of a digest, or of its first digits.

    Raises:
        Invalid: there is none, or more than one.
        Integrity: its file was changed.

    """
    begun = name.removeprefix(_PREFIX)
    paths = [path for path in folder(home).glob(_FILES) if path.stem.startswith(begun[:SHORT])]
    if len(paths) != 1 or not begun:
        known = ", ".join(sorted(path.stem for path in folder(home).glob(_FILES))) or "none"
        raise Invalid(f"there is no evaluation {name!r}", f"known: {known}", "see `allod eval list`")
    return _read(paths[0])


def _read(path: Path) -> Kept:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise Integrity(f"{path.name} cannot be read", str(error), "restore it, or remove it") from None
    digest = name_of(raw)
    if digest.removeprefix(_PREFIX)[:SHORT] != path.stem:
        raise Integrity(f"{path.name} was changed", f"its digest is {digest}", "restore it, or remove it")
    return Kept(digest=digest, evaluation=decode(raw))


def part(home: Home, suite: str, order: str) -> Path:
    """Return where a run of a suite keeps its items; ``order`` tells runs of one suite apart."""
    return folder(home) / f"{suite.removeprefix(_PREFIX)[:SHORT]}-{order.removeprefix(_PREFIX)[:SHORT]}.part"


def begun(path: Path) -> list[Item]:
    """Read what an interrupted run has; a last line that was cut is left out, and cut off."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return []
    items, whole = [], 0
    for line in raw.splitlines(keepends=True):
        try:
            items.append(msgspec.json.decode(line, type=Item))
        except (msgspec.DecodeError, UnicodeDecodeError):
            break
        if not line.endswith(b"\n"):
            items.pop()
            break
        whole += len(line)
    if whole != len(raw):
        os.truncate(path, whole)
    return items


class Notebook:
    """Appends items to a part; each is with the operating system before the next is asked about."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as fault:
            raise unwritable(path, fault) from fault

    def keep(self, item: Item) -> None:
        """Append one item (raises ``Unavailable``)."""
        line = msgspec.json.encode(item) + b"\n"
        try:
            while line:  # a disk that fills up takes a part, and refuses the rest
                line = line[os.write(self._fd, line) :]
        except OSError as fault:
            raise unwritable(self._path, fault) from fault

    def close(self) -> None:
        """Close the part."""
        os.close(self._fd)


def keep(home: Home, found: Evaluation) -> Kept:
    """Write an evaluation durably (raises ``Unavailable``)."""
    raw = encode(found)
    kept = Kept(digest=name_of(raw), evaluation=found)
    target = folder(home) / f"{kept.short}.json"
    try:
        write_file(target, raw, 0o600)
    except OSError as fault:
        raise unwritable(target, fault) from fault
    return kept
