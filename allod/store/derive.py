"""From the journal to the log's files and the tables: the one way, for the writer and for recovery alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from allod.domain.errors import Integrity
from allod.receipts.merkle import leaf_hash
from allod.store.database import OPEN, Database, Request, Work
from allod.store.frames import AttemptFrame, Frame, IntentFrame, SubjectMark, TerminalFrame
from allod.store.logfiles import Addition, LogFiles
from allod.store.subjects import digest_of

_ATTEMPTS: Final = msgspec.msgpack.Decoder(list[AttemptFrame])


class Pending(msgspec.Struct, kw_only=True):
    """A request whose intent has passed here and whose end has not.

    ``leaf`` is None where the intent's segment is gone: it is read from the log. ``attempts`` are by number,
    so that a frame seen twice counts once. ``subject`` is the tag of whom it is about, ``salt_digest`` that
    of the salt it was made with (None for a request that outlived its segment: its row is in the tables).
    """

    receipt: str
    seq: int
    at_ms: int
    app: str
    intent_index: int
    request_salt: bytes | None
    response_salt: bytes | None
    decision: str
    leaf: bytes | None
    attempts: dict[int, AttemptFrame] = msgspec.field(default_factory=dict)
    subject: bytes | None = None
    salt_digest: str | None = None


class Batch(msgspec.Struct, frozen=True):
    """What a run of frames adds; ``work`` is None where the tables learn nothing from it."""

    addition: Addition | None
    work: Work | None
    next_seq: int


class Derivation:
    """Turns frames, in order, into additions; ``next_seq`` is the first frame not taken yet.

    ``pending`` holds the requests between intent and end, as of that frame.
    """

    def __init__(self, origin: str, files: LogFiles, database: Database, *, next_seq: int) -> None:
        self.origin, self.files, self.database = origin, files, database
        self.next_seq = next_seq
        self.pending: dict[str, Pending] = {}
        self.applied = next_seq

    def compute(self, frames: Iterable[Frame]) -> Batch:
        """Take the next frames and say what they add; the files and tables are not touched.

        Raises:
            Integrity: a terminal frame without an intent.

        """
        leaves: list[tuple[bytes, bytes]] = []
        requests: list[tuple[Any, ...]] = []
        ledger: list[tuple[Any, ...]] = []
        records: list[tuple[str, bytes]] = []
        subjects: list[tuple[str, bytes, int, str]] = []
        scrubs: list[tuple[str, str]] = []
        index, seq = self.files.edge.size, self.next_seq
        for frame in frames:
            seq += 1
            if isinstance(frame, AttemptFrame):
                begun = self.pending.get(frame.receipt)
                if begun is not None:
                    begun.attempts[frame.attempt] = frame
                continue
            leaves.append((frame.leaf, leaf_hash(frame.leaf)))
            if isinstance(frame, IntentFrame):
                self.pending[frame.receipt] = _begun(frame, seq - 1, index)
                if frame.subject is not None and seq > self.applied:
                    subjects.append(_person(frame.subject, frame.at_ms))
                if frame.record is not None and seq > self.applied:
                    records.append((frame.decision, frame.record))
            elif isinstance(frame, TerminalFrame):
                begun = self.pending.pop(frame.receipt, None)
                if seq > self.applied:
                    requests.append(self._ended(begun, frame, index))
                    ledger += frame.rows
                    scrubs += _scrubs(begun)
            index += 1
        self.next_seq = seq
        work = None
        if requests or ledger or records or subjects:
            work = Work(
                requests=requests,
                ledger=ledger,
                records=records,
                subjects=subjects,
                scrubs=scrubs,
                next_seq=seq,
            )
        return Batch(self.files.addition(leaves) if leaves else None, work, seq)

    def commit(self, work: Work) -> None:
        """Add to the tables (raises what the driver raises; nothing was added then)."""
        self.database.commit(self.origin, work)
        self.applied = work.next_seq

    def settle(self, first_seq: int) -> None:
        """Make everything durable, so that segments before frame ``first_seq`` are no longer needed.

        Requests that began there and have not ended are kept in the tables as ``open``.
        """
        old = [p for p in self.pending.values() if p.seq < first_seq]
        rows = [
            (p.receipt, self.origin, p.app, p.at_ms, OPEN, p.intent_index, None, p.request_salt,
             p.response_salt, p.decision, msgspec.msgpack.encode(list(p.attempts.values())), p.subject)
            for p in old
        ]  # fmt: skip
        scrubs = [scrub for p in old for scrub in _scrubs(p)]
        self.files.sync()
        work = Work(requests=rows, scrubs=scrubs, next_seq=self.next_seq)
        self.database.commit(self.origin, work, durable=True)
        self.applied = self.next_seq

    def load_open(self) -> None:
        """Take up the requests that outlived their segments before the last stop."""
        for row in self.database.open_requests(self.origin):
            self.pending[row.receipt] = _pending(row)

    def _ended(self, begun: Pending | None, frame: TerminalFrame, index: int) -> tuple[Any, ...]:
        if begun is None:
            raise Integrity(
                f"the end of {frame.receipt} has no beginning",
                "got a terminal frame, expected an intent in the journal or an open row in the tables",
                "restore allod.sqlite and log/ from one and the same backup",
            )
        return (
            begun.receipt, self.origin, begun.app, begun.at_ms, frame.status, begun.intent_index, index,
            begun.request_salt, begun.response_salt, begun.decision, None, begun.subject,
        )  # fmt: skip


def _pending(row: Request) -> Pending:
    attempts = _ATTEMPTS.decode(row.attempts or b"\x90")
    return Pending(
        receipt=row.receipt,
        seq=-1,
        at_ms=row.at_ms,
        app=row.app,
        intent_index=row.intent_index,
        request_salt=row.request_salt,
        response_salt=row.response_salt,
        decision=row.decision,
        leaf=None,
        attempts={a.attempt: a for a in attempts},
        subject=row.subject,
    )


def _begun(frame: IntentFrame, seq: int, index: int) -> Pending:
    return Pending(
        receipt=frame.receipt,
        seq=seq,
        at_ms=frame.at_ms,
        app=frame.app,
        intent_index=index,
        request_salt=frame.request_salt,
        response_salt=frame.response_salt,
        decision=frame.decision,
        leaf=frame.leaf,
        subject=None if frame.subject is None else frame.subject.tag,
        salt_digest=None if frame.subject is None else digest_of(frame.subject.salt),
    )


def _scrubs(begun: Pending | None) -> list[tuple[str, str]]:
    if begun is None or begun.salt_digest is None:
        return []
    return [(begun.receipt, begun.salt_digest)]


def _person(mark: SubjectMark, at_ms: int) -> tuple[str, bytes, int, str]:
    return mark.lookup, mark.salt, at_ms, digest_of(mark.salt)
