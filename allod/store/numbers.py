"""The number of an end among those of its deployment: an answer left out of a set of receipts shows as a gap.

Numbers count from 1 without gaps, in the order of the log, and stand in the terminal leaf as ``seq``. What
was given last is recovered from the log itself; a note of it (``log/numbers``) only saves reading all of it.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Final

import msgspec

from allod.domain.errors import Integrity
from allod.receipts.commitment import digest
from allod.receipts.merkle import root
from allod.receipts.tiles import WIDTH, parse_bundle
from allod.store.home import Home, write_file
from allod.store.logfiles import LogFiles

MAX_NAME: Final = 80
"""A longer name of a deployment may be cut in its leaf, and gets no numbers."""
_DEPLOYMENT: Final = re.compile(rb'"deployment":("(?:[^"\\]|\\.)*")')
_SEQ: Final = re.compile(rb'"seq":([1-9][0-9]{0,15})')
_TERMINAL: Final = b'"kind":"terminal"'


class _Noted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What had been given when the tree had ``size`` leaves and this root (hex)."""

    size: int
    root: str
    last: dict[str, int]


class Numbers:
    """What was given last, per deployment; used under the journal's lock."""

    def __init__(self, last: dict[str, int] | None = None) -> None:
        self._last = dict(last or {})
        self._marked: tuple[int, dict[str, int]] | None = None

    def next(self, deployment: str | None) -> int | None:
        """Return the number the next end of a deployment gets; None where there is no deployment."""
        if deployment is None or len(deployment) > MAX_NAME:
            return None
        return self._last.get(deployment, 0) + 1

    def given(self, deployment: str | None, number: int | None) -> None:
        """Note that a leaf with this number was appended."""
        if deployment is not None and number is not None:
            self._last[deployment] = number

    def mark(self, size: int) -> None:
        """Keep what was given by now, when the log has ``size`` leaves, to be noted once they are durable."""
        self._marked = size, dict(self._last)

    def note(self, home: Home, files: LogFiles) -> None:
        """Write down what was marked, if the files hold it; a failure costs the next start some reading."""
        marked = self._marked
        if marked is None or marked[0] > files.edge.size:
            return
        with contextlib.suppress(OSError, Integrity):
            noted = _Noted(size=marked[0], root=root(marked[0], files.node).hex(), last=marked[1])
            body = msgspec.json.encode(noted)
            write_file(home.log / "numbers", digest(body).encode() + b"\n" + body, durable=False)


def numbered(leaf: bytes) -> tuple[str, int] | None:
    """Return (deployment, number) of a terminal leaf, None of any other or one without a number."""
    if _TERMINAL not in leaf:
        return None
    name, seq = _DEPLOYMENT.search(leaf), _SEQ.search(leaf)
    return (json.loads(name[1]), int(seq[1])) if name is not None and seq is not None else None


def recover_numbers(home: Home, files: LogFiles) -> Numbers:
    """Return the numbers as of everything in the log's files (raises Integrity if they cannot be read)."""
    noted, gone = _noted(home, files), files.gone
    first, last = noted.size, dict(noted.last)
    if gone is not None and first < gone.record.upto:
        first, last = gone.record.upto, dict(gone.record.numbers)
    for leaf in _leaves(files, first):
        found = numbered(leaf)
        if found is not None:
            last[found[0]] = found[1]
    return Numbers(last)


def check_note(home: Home, files: LogFiles, size: int, at_size: dict[str, int]) -> str:
    """Hold the note, if there is one, against what the log says.

    Args:
        home: at rest. files: of its log.
        size: of the log.
        at_size: what had been given last, counted from the leaves.

    Raises:
        Integrity: it is damaged, of another log, or says another number.

    """
    path = home.log / "numbers"
    if not path.exists():
        return "no note of them, they are counted at the next start"
    noted = _read(path.read_bytes(), files)
    if noted is None:
        raise Integrity(f"{path} is damaged or of another log", "", "delete it: it is made anew")
    if noted.size == size and noted.last != at_size:
        raise Integrity(f"{path} says other numbers than the log", f"got {noted.last}, expected {at_size}")
    return f"noted at {noted.size} leaves"


def _noted(home: Home, files: LogFiles) -> _Noted:
    """Return the note if it is whole and of this log, else that of an empty one."""
    try:
        noted = _read((home.log / "numbers").read_bytes(), files)
    except OSError:
        noted = None
    return noted or _Noted(size=0, root="", last={})


def _read(data: bytes, files: LogFiles) -> _Noted | None:
    said, _, body = data.partition(b"\n")
    try:
        noted = msgspec.json.decode(body, type=_Noted)
        held = noted.size == 0 or root(noted.size, files.node).hex() == noted.root
    except (msgspec.DecodeError, UnicodeDecodeError, Integrity):
        return None
    return noted if held and said == digest(body).encode() and 0 <= noted.size <= files.whole() else None


def _leaves(files: LogFiles, first: int) -> Iterator[bytes]:
    for start in range(first, files.edge.size, WIDTH):
        yield from parse_bundle(files.bundle(start, min(start + WIDTH, files.edge.size)))
