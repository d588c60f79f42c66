"""The requests about one person: found by the id an application gives, forgotten by deleting one salt (I9).

Nothing stored names a person. ``subject`` holds, per person, a random salt under a keyed digest of the id
(HMAC-SHA-256 with the home's secret); the index row of a request holds HMAC-SHA-256(salt, id). Whoever has
the id and the home finds the person's requests; whoever has the tables alone does not, and without the salt
nobody can tell any more that a request was about this person.

Erasing deletes that salt and, of every request it led to, the salts of request and response: what those
commit to can no longer be shown to anybody. Leaves, proofs and ledger stay whole. The digest of the deleted
salt stays in the table ``erased`` and in the file ``log/erased``: what is still on its way through the
journal is forgotten as it arrives, and so is what a start reads from it again, even where the tables were
lost in between. It names nobody: the salt it is a digest of is gone.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import threading
import unicodedata
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from allod.store.frames import SubjectMark
from allod.store.home import Home, sync_folder, unwritable

if TYPE_CHECKING:
    from allod.store.database import Database, Request

SALT_BYTES: Final = 32
_ERASED: Final = re.compile(r"([0-9a-f]{64}|r_[0-9A-Za-z_]{35}) ([0-9]{1,18})")
FRESH: Final = 4096
"""With so many new salts in memory, those whose frame has reached the tables, or was never written, are
let go."""


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """What an erasure found: whether the person was known, and how many requests lost their salts."""

    found: bool
    requests: int


def lookup_of(secret: bytes, subject: str) -> str:
    """Return where a person's salt is found: 64 hex digits that only the home's secret leads to."""
    return hmac.new(secret, b"subject\n" + _utf8(subject), "sha256").hexdigest()


def tag_of(salt: bytes, subject: str) -> bytes:
    """Return what stands in the index rows of a person's requests: 32 bytes."""
    return hmac.new(salt, _utf8(subject), "sha256").digest()


def digest_of(salt: bytes) -> str:
    """Return what stays of a deleted salt."""
    return hashlib.sha256(b"subject-salt\n" + salt).hexdigest()


def find(database: Database, secret: bytes, subject: str) -> Iterator[list[Request]]:
    """Go through the requests about a person by id, oldest first, a thousand at a time.

    Raises:
        Unavailable: the tables cannot be read.

    """
    salt = database.subject_salt(lookup_of(secret, subject))
    return iter(()) if salt is None else database.of_subject(tag_of(salt, subject))


def erase(home: Home, database: Database, secret: bytes, subject: str, *, at_ms: int) -> Erased:
    """Delete a person's salt and the salts of their requests, also from SQLite's pages and WAL; repeatable.

    Of two erasures at once one finds the person, the other finds nobody left.

    Raises:
        Unavailable: tables or file cannot be written. Where only the file could not, the salts are gone from
        the
            tables; erase again, so that they do not come back should the tables be lost before the journal
            moves on.

    """
    from allod.store import reports  # noqa: PLC0415 -- loads the query builder, see ``database``

    erased = reports.erase_subject(database, lookup_of(secret, subject), subject, at_ms)
    remember(home, database)
    return erased


def remember(home: Home, database: Database) -> None:
    """Write to the home's file what the tables know to be erased and it does not say yet; any process.

    Raises:
        Unavailable: it cannot be written.

    """
    names = database.read(database.text.erased)
    if not names:
        return
    try:
        with home.erased.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            held = file.read()
            known = {line.split(b" ")[0].decode("ascii", "replace") for line in held.split(b"\n")}
            new = [] if held.endswith(b"\n") or not held else ["\n"]  # a line that was cut off
            new += [f"{name} {at_ms}\n" for name, at_ms in names if name not in known]
            file.write("".join(new).encode())
            file.flush()
            os.fsync(file)
        sync_folder(home.log)
    except OSError as fault:
        raise unwritable(home.erased, fault) from fault


def restore(home: Home, database: Database) -> bool:
    """Tell the tables what was erased, before they take anything from the journal; True if that was news.

    A line that was cut off while it was written is passed over: that erasure was never said to be done.

    Raises:
        Unavailable: the tables cannot be written.

    """
    try:
        lines = home.erased.read_bytes().decode("ascii", "replace").splitlines()
    except FileNotFoundError:
        return False
    said = [_ERASED.fullmatch(line) for line in lines]
    names = {(one[1], int(one[2])) for one in said if one is not None}
    missing = sorted(names - set(database.read(database.text.erased)))
    if missing:
        database.change(database.text.put_erased, missing)
    return bool(missing)


class _Fresh(msgspec.Struct):
    """A salt that may not be in the tables yet; ``seq`` is the first frame that carries it."""

    salt: bytes
    seq: int | None = None


class Subjects:
    """Gives each person one salt; any thread.

    The tables are asked each time, since another process may have erased there. Only a salt whose first frame
    they do not have yet is taken from memory.

    Args:
        secret: the home's.
        database: the tables.
        draw: returns so many random bytes.

    """

    def __init__(self, secret: bytes, database: Database, draw: Callable[[int], bytes] = os.urandom) -> None:
        self._secret, self._database, self._draw = secret, database, draw
        self._fresh: dict[str, _Fresh] = {}
        self._lock = threading.Lock()

    def mark(self, subject: str, committed_seq: int) -> SubjectMark:
        """Return what the frame of a request about a person carries.

        Args:
            subject: the person's id.
            committed_seq: frames below this number are in the tables; read before this call.

        Raises:
            Unavailable: the tables cannot be read.

        """
        lookup = lookup_of(self._secret, subject)
        with self._lock:
            fresh = self._fresh.get(lookup)
            if fresh is not None and fresh.seq is not None and fresh.seq < committed_seq:
                del self._fresh[lookup]  # it is in the tables, or was erased from them
                fresh = None
            salt = fresh.salt if fresh is not None else self._database.subject_salt(lookup)
            if salt is None:
                salt = self._draw(SALT_BYTES)
                self._tidy(committed_seq)
                self._fresh[lookup] = _Fresh(salt)
        return SubjectMark(lookup, salt, tag_of(salt, subject))

    def note(self, mark: SubjectMark, seq: int) -> None:
        """Remember the first frame that carries a new salt."""
        with self._lock:
            fresh = self._fresh.get(mark.lookup)
            if fresh is not None and fresh.salt == mark.salt and fresh.seq is None:
                fresh.seq = seq

    def _tidy(self, committed_seq: int) -> None:
        if len(self._fresh) >= FRESH:
            fresh = self._fresh.items()
            self._fresh = {name: f for name, f in fresh if f.seq is not None and f.seq >= committed_seq}


def _utf8(text: str) -> bytes:
    """Return the bytes of an id: one person's, however a program composes its accents or pads it (NFC)."""
    return unicodedata.normalize("NFC", text.strip()).encode("utf-8", "surrogatepass")
