"""The files promises are kept in: ``promises/<task>-<16 digits of the policy>.json`` of the home.

A file is written whole or not at all, beside the loop, the newest state last. While one cannot be written its
promise is closed: after a crash it would open with less than what is known.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import AllodError
from allod.gateway.promise import state as states
from allod.receipts.tiles import WIDTH
from allod.store.home import write_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from allod.gateway.promise.rules import Parties
    from allod.gateway.promise.state import Standing
    from allod.store.home import Home
    from allod.store.reading import Reader
    from allod.store.store import Store

EVERY_S: Final = 10.0
"""How old counts on disk may be; audits are kept at once."""
UNKEPT: Final = "its state cannot be kept"
_DIGITS: Final = 16
_PREFIX: Final = "sha256:"
_NOTICE: Final = b'"kind":"notice"'


def folder(home: Home) -> Path:
    """Return where a home's promises are kept."""
    return home.root / "promises"


def path_of(home: Home, task: str, policy: str) -> Path:
    """Return where one promise is kept."""
    return folder(home) / f"{task}-{policy.removeprefix(_PREFIX)[:_DIGITS]}.json"


def every(home: Home) -> Iterator[Standing]:
    """Go through all promises of a home, by task, the newest of each last.

    Raises:
        Integrity: a file cannot be read.

    """
    found = [states.from_bytes(path.read_bytes()) for path in sorted(folder(home).glob("*.json"))]
    yield from sorted(found, key=lambda one: (one.task, one.spent.since_ms))


def kept_names(home: Home) -> Iterator[tuple[str, str, Parties]]:
    """Go through task, policy and parties of the promises of a home whose files can be read."""
    for path in sorted(folder(home).glob("*.json")):
        try:
            one = states.from_bytes(path.read_bytes())
        except (OSError, AllodError):
            continue
        yield one.task, one.policy, one.who


def notices(reader: Reader, start: int = 0) -> Iterator[dict[str, object]]:
    """Go through the notices of a log from a leaf on.

    Raises:
        Integrity: the log's files disagree.

    """
    size = reader.newest().size
    for first in range(start, size, WIDTH):
        for _, leaf in reader.noted(first, min(first + WIDTH, size), _NOTICE):
            if _NOTICE in leaf:
                yield msgspec.json.decode(leaf)


def audited_by(reader: Reader, receipt: str, start: int) -> list[str]:
    """Return the receipts of the requests that audited a request, which ended at leaf ``start``."""
    return [
        name
        for leaf in notices(reader, start)
        if leaf.get("subject") == "audit" and isinstance(facts := leaf.get("facts"), dict)
        if facts.get("receipt") == receipt
        for key, name in sorted(facts.items())
        if key.startswith("made_")
    ]


class Keeping:
    """Keeps states on disk; one write at a time.

    Args:
        home: whose. store: its log, from which a state is brought up to date.
        told: finds what other nodes told.

    """

    def __init__(self, home: Home, store: Store, told: states.Finder) -> None:
        self._home, self._store, self._told = home, store, told
        self._due: dict[tuple[str, str], Standing] = {}
        self._at: dict[tuple[str, str], float] = {}
        self._writing: asyncio.Task[None] | None = None

    def find(self, task: str, policy: str) -> Standing | None:
        """Return a kept promise, brought up to date from the log; None where there is none, or none sound."""
        try:
            found = states.from_bytes(path_of(self._home, task, policy).read_bytes())
            if (found.task, found.policy) != (task, policy):
                return None
            states.catch_up(found, notices(self._store.reader, found.size), self._told)
        except (OSError, AllodError):
            return None
        return found

    def keep(self, standing: Standing) -> None:
        """Have a state written."""
        self._due[standing.task, standing.policy] = standing
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write())

    def keep_soon(self, standing: Standing) -> None:
        """Have a state written if the one on disk is old."""
        if time.monotonic() - self._at.get((standing.task, standing.policy), 0.0) >= EVERY_S:
            self.keep(standing)

    async def _write(self) -> None:
        while self._due:
            key, standing = self._due.popitem()
            self._at[key] = time.monotonic()
            standing.size = self._store.reader.newest().size
            body = states.to_bytes(standing)
            try:
                await asyncio.to_thread(put, path_of(self._home, *key), body)
            except OSError as fault:
                standing.trouble = f"{UNKEPT}: {fault.strerror}"
            else:
                standing.trouble = "" if standing.trouble.startswith(UNKEPT) else standing.trouble

    async def close(self, standings: Iterable[Standing]) -> None:
        """Write every state once more."""
        for one in standings:
            self._due[one.task, one.policy] = one
        if self._writing is not None:
            await self._writing
        await self._write()


def put(path: Path, body: bytes) -> None:
    """Write a file of the folder whole (raises ``OSError``)."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_file(path, body, 0o600)
