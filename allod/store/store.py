"""The store: what the gateway appends to and reads from.

Appending returns once the operating system has the record (it survives kill -9); ``durable`` waits for the
sync (it survives a power cut), ``committed`` for the signed checkpoint and the tables.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final, Literal

import msgspec

from allod.domain.errors import Integrity, Unavailable
from allod.domain.usage import LedgerRow
from allod.receipts.forms import TerminalForm
from allod.receipts.leaves import (
    IntentFacts,
    NoticeFacts,
    TerminalFacts,
    intent_leaf,
    notice_leaf,
    terminal_leaf,
)
from allod.receipts.merkle import leaf_hash
from allod.store import recovery
from allod.store.clock import Clock, clock_of
from allod.store.database import Database, ledger_tuple
from allod.store.derive import Derivation, Pending
from allod.store.frames import (
    ATTEMPT,
    INTENT,
    NOTICE,
    TERMINAL,
    AttemptFrame,
    IntentFrame,
    NoticeFrame,
    TerminalFrame,
)
from allod.store.home import Home, Keys, Lock, load_keys, unwritable, write_file
from allod.store.journal import TERMINAL_ROOM, Journal, Segment
from allod.store.keys import KeyTable
from allod.store.lost import facts_of, lost_facts, settle, with_rows
from allod.store.numbers import Numbers, recover_numbers
from allod.store.reading import Reader
from allod.store.records import Records
from allod.store.subjects import Erased, Subjects, erase, remember
from allod.store.waiting import Waiters, refused
from allod.store.writer import Settings, Writer

ROW_ROOM: Final = 768
"""Bytes held back for one ledger row, besides its names."""
RECENT: Final = 4096
STOP_S: Final = 30.0


class Ended(msgspec.Struct, frozen=True):
    """A request that ended a short while ago, perhaps before the tables know."""

    app: str
    status: str
    intent_index: int
    terminal_index: int


class _Open(msgspec.Struct):
    """A request in flight; ``room`` bytes are held back in the journal for its end."""

    facts: IntentFacts
    hash: bytes
    index: int
    app: str
    room: int
    attempts: dict[int, AttemptFrame]


class Store:
    """One open home. Appends may come from any thread; awaiting belongs to one event loop.

    Attributes:
        keys: the home's origin, signer and secret.
        key_table: keys of apps in memory, at most a second old.
        reader: checkpoint, tiles, bundles, proofs.
        database: the tables, for reports.

    """

    def __init__(
        self,
        home: Home,
        lock: Lock,
        keys: Keys,
        journal: Journal,
        derivation: Derivation,
        settings: Settings,
    ) -> None:
        """Use ``Store.open``."""
        self.home, self.keys, self.database = home, keys, derivation.database
        self._lock, self._journal, self._files = lock, journal, derivation.files
        self.key_table = KeyTable(self.database)
        self._subjects = Subjects(keys.secret, self.database)
        self._open: dict[str, _Open] = {}
        self._recent: tuple[dict[str, Ended], dict[str, Ended]] = ({}, {})
        self._records, self._numbers, self._clock = Records(), Numbers(), Clock()
        self._waiters = Waiters(lambda: self._closed)
        self._writer = Writer(
            home, keys.signer, journal, derivation, self.key_table, settings, self._waiters.wake
        )
        self.reader = Reader(self._files, lambda: self._writer.published)
        self._closed = False

    @classmethod
    def open(
        cls,
        home: Home,
        *,
        url: str | None = None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        settings: Settings | None = None,
    ) -> Store:
        """Take a home's lock, recover, end what a crash left behind, and start the writer.

        Args:
            home: from ``make_home`` or ``load_home``.
            url: SQLAlchemy URL of the tables; None is the home's own SQLite file.
            clock: UTC milliseconds, for requests lost in a crash; it must not be behind the log.
            settings: how the writer works.

        Raises:
            Unavailable: in use by another process, no room to begin, or the clock went back.
            Integrity: log, journal, tables or keys are damaged or disagree.

        """
        settings = settings or Settings()
        keys = load_keys(home)
        lock = Lock(home)
        undo: list[Callable[[], None]] = [lock.release]
        try:
            found = recovery.find(home)
            files = recovery.bare_files(home)
            undo.append(files.close)
            database = Database(url) if url else Database.lite_file(home.database)
            undo.append(database.close)
            derivation, scan = recovery.recover(home, keys.signer.key, found, files, database)
            journal = Journal(
                home.journal,
                recovery.first_segment(home, found, settings.segment_bytes),
                next_seq=derivation.next_seq,
                leaves=scan.leaves,
            )
            undo.append(journal.current.close)
            store = cls(home, lock, keys, journal, derivation, settings)
            store._publish_first()
            store._clock = clock_of(files, settings.clock_back_ms)
            store._clock.check(clock())
            store._count(recover_numbers(home, files))
            store.key_table.reload()
            store._end_lost(list(derivation.pending.values()), clock)
            store._writer.start(recovery.closed_segments(found))
        except BaseException:
            for step in reversed(undo):
                step()
            raise
        return store

    def close(self) -> None:
        """Work off what was appended, leave the home at rest, give the lock back; idempotent.

        Raises:
            Unavailable: the writer could not finish; the journal has everything for the next start.

        """
        if self._closed:
            return
        self._closed = True
        clean = self._writer.stop(STOP_S)
        if clean:
            self._numbers.mark(self._files.edge.size)
            self._numbers.note(self.home, self._files)
        self._waiters.wake()
        self._journal.current.close()
        if self._journal.spare is not None:
            self._journal.spare.close()
        self.database.close()
        self._files.close()
        self._lock.release()
        if not clean:
            raise Unavailable(
                "the store did not come to rest",
                self._writer.dead or "the writer is still at work",
                "start it again: the journal holds what is missing",
                kind="storage",
            )

    def healthy(self) -> str | None:
        """Return why new requests would be refused, or None."""
        return "the store is closed" if self._closed else self._writer.trouble

    def object_to(self, why: str | None) -> None:
        """Refuse new requests because a witness saw another log than this one; with None no longer."""
        self._writer.object_to(why)

    def append_intent(
        self,
        facts: IntentFacts,
        *,
        app: str,
        salts: tuple[bytes, bytes] | None = None,
        record: bytes | None = None,
        leaf: bytes | None = None,
        keep: bool = False,
        subject: str | None = None,
    ) -> int:
        """Record that a request is about to be dispatched or refused (I3); returns the frame's number.

        Args:
            facts: what the leaf says.
            app: the calling app by its real name, which the log never sees.
            salts: of request and response commitment; None if they are not to be kept at all.
            record: the decision record whose digest is ``facts.decision``; stored once per digest.
            leaf: the leaf where a form has written it already (``receipts.forms``).
            keep: whether the operating system gets it only with the next frame that is not kept, or by
                ``hand_over``: nothing that rests on it may leave before. ``durable`` sees to that as well.
            subject: the id of the person it is about, which itself is kept nowhere (``subjects``).

        Raises:
            Unavailable: log or disk in trouble, the clock went back, or no room for the end (HTTP 503).
            Integrity: the id is in use, or the record has another digest.

        """
        if self._closed or self._writer.trouble is not None:
            raise refused(self.healthy() or "")
        self._clock.check(facts.at_ms)
        receipt = facts.id
        kept = self._records.fresh(facts.decision, record)
        if leaf is None:
            facts, leaf = intent_leaf(facts)
        hashed = leaf_hash(leaf)
        request_salt, response_salt = salts or (None, None)
        mark = None if subject is None else self._subjects.mark(subject, self._writer.committed_seq)
        frame = IntentFrame(
            receipt, facts.at_ms, leaf, app, request_salt, response_salt, facts.decision, kept, mark
        )
        with self._journal.lock:
            if receipt in self._open or self._ended(receipt) is not None:
                raise Integrity(f"receipt {receipt} is in use", "got a second intent", "draw another id")
            seq = self._journal.append(INTENT, frame, more=TERMINAL_ROOM, keep=keep)
            index = self._journal.leaves
            self._journal.leaves = index + 1
            self._open[receipt] = _Open(facts, hashed, index, app, TERMINAL_ROOM, {})
        if mark is not None:
            self._subjects.note(mark, seq)
        if kept is not None:
            self._records.remember(facts.decision)
        if self._writer.asleep:
            self._writer.ring()
        return seq

    def append_attempt(
        self,
        receipt: str,
        attempt: int,
        deployment: str,
        *,
        started_at_ms: int,
        reserve_usd: Decimal,
        input_tokens: int,
        price_digest: str,
        keep: bool = False,
    ) -> int:
        """Record that an attempt is about to be dispatched and what losing it costs (I4).

        With ``keep`` the caller calls ``hand_over`` before anything leaves.

        Raises:
            Unavailable: no room; the attempt must not be dispatched.
            Integrity: no such request in flight, or the attempt has been recorded.

        """
        begun = self._open.get(receipt)
        if begun is None or attempt in begun.attempts:
            raise Integrity(
                f"attempt {attempt} of {receipt} cannot begin",
                "got one that has begun" if begun else "got no intent, expected one in flight",
            )
        if self._closed or self._writer.dead is not None:
            raise refused(self.healthy() or "")
        task = begun.facts.task
        frame = AttemptFrame(
            receipt, attempt, deployment, task, started_at_ms, reserve_usd, input_tokens, price_digest
        )
        room = ROW_ROOM + 4 * (len(deployment) + len(task or "") + len(begun.app))
        with self._journal.lock:
            if self._open.get(receipt) is not begun:
                raise Integrity(f"attempt {attempt} of {receipt} cannot begin", "the request has ended")
            seq = self._journal.append(ATTEMPT, frame, more=room, keep=keep)
            begun.room += room
            begun.attempts[attempt] = frame
        if self._writer.asleep:
            self._writer.ring()
        return seq

    def append_terminal(
        self,
        facts: TerminalFacts,
        rows: Sequence[LedgerRow] = (),
        *,
        form: TerminalForm | None = None,
        keep: bool = False,
    ) -> int:
        """Record how a request ended (I3), with one ledger row per attempt (I4).

        ``form`` is the one ``facts`` are of, if there is one; with ``keep`` the caller calls ``hand_over``
        before the last bytes of the answer leave.

        The room was held back when it began, so a full disk does not prevent it. An attempt that was begun
        and has no row is charged its reservation; cost, basis and number of attempts in the leaf are those
        of the rows.

        Raises:
            Integrity: no such request in flight, or a row of another receipt or of one attempt twice.
            Unavailable: the disk refuses even what was held back.

        """
        begun = self._open.get(facts.id)
        if begun is None:
            raise Integrity(
                f"receipt {facts.id} cannot end", "got no intent in flight, expected exactly one", ""
            )
        settled = settle(facts.id, begun.app, begun.attempts, rows)
        said = with_rows(facts, settled) if settled else facts
        written = tuple(map(ledger_tuple, settled))
        with self._journal.lock:
            if facts.id not in self._open:
                raise Integrity(f"receipt {facts.id} has ended", "got a second end, expected exactly one")
            number = self._numbers.next(None if facts.answer_from else facts.deployment)
            if form is not None and said is facts:
                leaf = form.fill(begun.facts, begun.hash, facts, number)
            else:
                leaf = terminal_leaf(begun.facts, begun.hash, msgspec.structs.replace(said, seq=number))
            frame = TerminalFrame(facts.id, facts.at_ms, leaf, facts.status, written)
            seq = self._journal.append(TERMINAL, frame, less=begun.room, keep=keep)
            self._numbers.given(facts.deployment, number)
            index = self._journal.leaves
            self._journal.leaves = index + 1
            del self._open[facts.id]
            new = self._recent[0]
            new[facts.id] = Ended(begun.app, facts.status, begun.index, index)
            if len(new) >= RECENT:
                self._recent = ({}, new)
        if self._writer.asleep:
            self._writer.ring()
        return seq

    def append_notice(self, facts: NoticeFacts | bytes) -> int:
        """Record what is no request, as facts or as a leaf (raises as ``append_intent``)."""
        if self._closed or self._writer.trouble is not None:
            raise refused(self.healthy() or "")
        leaf = facts if isinstance(facts, bytes) else notice_leaf(facts)
        with self._journal.lock:
            seq = self._journal.append(NOTICE, NoticeFrame(leaf))
            self._journal.leaves += 1
        if self._writer.asleep:
            self._writer.ring()
        return seq

    def hand_over(self) -> None:
        """Hand what is kept to the operating system (raises Unavailable; it is kept then)."""
        if self._journal.keeps:
            with self._journal.lock:
                self._journal.hand_over()

    async def durable(self, seq: int) -> None:
        """Wait until a frame is synced to the disk (raises Unavailable if it never will be)."""
        await self._waiters.until(self._writer, seq, sync=True)

    async def committed(self, receipt: str, timeout_s: float) -> bool:
        """Wait until what was appended so far of a receipt is published and in the tables; False if late."""
        if receipt in self._open or self._ended(receipt) is not None:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._waiters.until(self._writer, self._journal.next_seq - 1, sync=False)
            except TimeoutError:
                return False
        return True

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Block until what was appended so far is published and in the tables (for tools, not for a loop)."""
        target, until = self._journal.next_seq, time.monotonic() + timeout_s
        while self._writer.committed_seq < target:
            if self._writer.dead is not None or time.monotonic() > until:
                return False
            self._writer.ring()
            time.sleep(0.001)
        return True

    def owner(self, receipt: str) -> str | None:
        """Return the app a receipt belongs to, or None if there is no such receipt."""
        begun = self._open.get(receipt)
        if begun is not None:
            return begun.app
        ended = self._ended(receipt)
        if ended is not None:
            return ended.app
        row = self.database.request(receipt)
        return row.app if row else None

    def receipt_file(self, receipt: str) -> bytes | Literal["pending"] | None:
        """Return the receipt file, ``pending`` while it is in flight or not published, None if unknown."""
        if receipt in self._open:
            return "pending"
        ended = self._ended(receipt)
        if ended is None:
            row = self.database.request(receipt)
            if row is None or row.origin != self.keys.origin:
                return None
            if row.terminal_index is None:
                return "pending"
            ended = Ended(row.app, row.status, row.intent_index, row.terminal_index)
        file = self.reader.receipt_file(receipt, ended.status, ended.intent_index, ended.terminal_index)
        return file if file is not None else "pending"

    def pending_file(self, receipt: str) -> bytes:
        """Return what there is of a receipt in flight: its intent with a proof, once that is published."""
        begun: _Open | Ended | None = self._open.get(receipt) or self._ended(receipt)
        index = begun.index if isinstance(begun, _Open) else begun.intent_index if begun else None
        return self.reader.pending_file(receipt, index)

    def erase(self, receipt: str) -> bool:
        """Delete a receipt's salts: what it commits to can no longer be shown (I9); False if unknown.

        They leave the tables at once, and the journal when it has moved on from the segment they are in,
        which begins now.

        Raises:
            Unavailable: the request is in flight or not in the tables yet; try again.

        """
        if receipt in self._open or (self._ended(receipt) is not None and not self.database.request(receipt)):
            raise Unavailable(f"receipt {receipt} is still being written", "", "try again", kind="busy")
        found = self.database.erase_salts(receipt)
        remember(self.home, self.database)
        self._writer.turn()
        return found

    def erase_subject(self, subject: str, *, at_ms: int) -> Erased:
        """Forget whom requests were about, and what they said (``subjects``); blocks until they are written.

        Requests about this person that are in flight are forgotten when they end.

        Raises:
            Unavailable: what was appended cannot be written now; nothing was erased.

        """
        if not self.flush():
            raise refused(self.healthy() or "the writer is behind")
        erased = erase(self.home, self.database, self.keys.secret, subject, at_ms=at_ms)
        self._writer.turn()
        return erased

    def _ended(self, receipt: str) -> Ended | None:
        new, old = self._recent
        return new.get(receipt) or old.get(receipt)

    def _count(self, numbers: Numbers) -> None:
        """Go on counting from what the log holds, and note it whenever a segment is done with."""
        self._numbers, turned = numbers, self._journal.on_turn

        def mark(segment: Segment) -> None:
            numbers.mark(segment.head.tree_size)
            turned(segment)

        self._journal.on_turn = mark
        self._writer.settled = lambda: numbers.note(self.home, self._files)

    def _publish_first(self) -> None:
        """Leave a durable checkpoint before the first append: a log with leaves always has one."""
        try:
            write_file(self.home.checkpoint, self._writer.published.checkpoint)
        except OSError as fault:
            raise unwritable(self.home.checkpoint, fault) from fault

    def _end_lost(self, lost: list[Pending], clock: Callable[[], int]) -> None:
        """End every request a crash left open (I3), before anything else is appended."""
        if not lost:
            return
        at_ms = clock()
        for pending in sorted(lost, key=lambda p: p.intent_index):
            leaf = pending.leaf or self._files.leaf(pending.intent_index)
            facts, rows = lost_facts(pending, max(at_ms, pending.at_ms))
            room = TERMINAL_ROOM + 2 * ROW_ROOM * len(rows)
            self._journal.reserved += room
            self._open[pending.receipt] = _Open(
                facts_of(leaf, pending.at_ms), leaf_hash(leaf), pending.intent_index, pending.app, room, {}
            )
            self.append_terminal(facts, rows)
