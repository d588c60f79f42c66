"""The writer: one thread that makes batches durable, signs, publishes and commits them.

Its queue is the journal itself: it reads there what it works on, as recovery does. For each batch, in this
order: sync the journal, append to the log's files, sign one checkpoint and publish it, commit to the tables.
A checkpoint therefore never covers a frame that a power cut could take, and none is ever signed for another
tree of the same size. Faults of files and tables put the store in *trouble*: new requests are refused, the
same step is tried again until it succeeds. A failed sync of the journal is final (what is on the disk is no
longer known): the store is *dead* until it is opened again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from allod.domain.errors import Unavailable
from allod.receipts import checkpoint as checkpoints
from allod.receipts.notes import Signer
from allod.store.database import reason_of
from allod.store.derive import Batch, Derivation
from allod.store.home import Home, write_file
from allod.store.journal import ANCHORED, CLOSED, HEAD_BYTES, SEGMENT_BYTES, Journal, Segment, make_segment
from allod.store.keys import KeyTable

RETRY_S: Final = 0.25
POLL_S: Final = 0.4
PUBLISH_S: Final = 0.2
GIVE_UP_S: Final = 5.0


class Published(msgspec.Struct, frozen=True):
    """The tree the log vouches for: its size, and the signed checkpoint over it."""

    size: int
    checkpoint: bytes


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How the store works.

    Attributes:
        gather_s: seconds to gather a batch.
        segment_bytes: size of a segment; ``segment_age_s`` its greatest age in seconds.
        clock_back_ms: by so much the clock may be behind what the log has recorded; None for any.

    """

    gather_s: float = 0.008
    segment_bytes: int = SEGMENT_BYTES
    segment_age_s: float = 600.0
    clock_back_ms: int | None = None


class Turn(msgspec.Struct, frozen=True):
    """A segment the journal moved to, and the tree before its first frame."""

    segment: Segment
    size: int
    root: bytes


class Writer:
    """The thread and what it shares.

    Attributes:
        turns: segments the journal moved to and the writer has not; appended to under the journal's lock.
        durable_seq: frames below this number are synced.
        committed_seq: frames below this number are published and in the tables.
        trouble: why new requests are refused, or None.
        objection: why somebody outside (a witness) says that this log must not go on, or None.
        dead: why nothing works any more, or None.
        hurry: whether somebody waits for the sync.
        published: the newest checkpoint.
        settled: called when a segment has been anchored.

    """

    def __init__(
        self,
        home: Home,
        signer: Signer,
        journal: Journal,
        derivation: Derivation,
        keys: KeyTable,
        settings: Settings,
        wake: Callable[[], None],
    ) -> None:
        self.home, self.signer, self.journal = home, signer, journal
        self.derivation, self.keys, self.settings = derivation, keys, settings
        self.turns: deque[Segment] = deque()
        journal.on_turn = self.turns.append
        self.settled: Callable[[], None] = _nothing
        self.durable_seq = self.committed_seq = derivation.next_seq
        self.dead: str | None = None
        self.trouble: str | None = None
        self.objection: str | None = None
        self.asleep = self.hurry = self._stopping = False
        self._wake = wake
        self._bell = threading.Event()
        self._troubles: dict[str, str] = {}
        self._segment, self._at = journal.current, journal.current.end
        self._old: list[Segment] = []
        self._turn: Turn | None = None
        self._turned_s = self._again_s = self._polled_s = self._written_s = 0.0
        self._unwritten, self._turn_wanted = True, False
        self.published = self._sign()
        self._thread = threading.Thread(target=self._run, name="allod-writer", daemon=True)

    def start(self, old: list[Segment]) -> None:
        """Begin; ``old`` segments go once the current one is anchored."""
        self._old = old
        self._turn = Turn(self._segment, self.derivation.files.edge.size, self.derivation.files.root())
        self._turned_s = time.monotonic()
        self._thread.start()

    @property
    def behind(self) -> bool:
        """Whether there is anything the writer has not taken."""
        return self._segment.end > self._at or bool(self.turns)

    def ring(self) -> None:
        """Wake the writer."""
        self._bell.set()

    def stop(self, timeout_s: float) -> bool:
        """Work off what was appended, settle, and end; False if that took too long or failed."""
        self._stopping = True
        self._bell.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive() and self.dead is None

    def _run(self) -> None:
        try:
            while self.dead is None and not (self._stopping and not self.behind):
                self._gather()
                self._batch()
                self._chores()
            if self.dead is None:
                self._finish()
        except BaseException as fault:  # noqa: BLE001 -- whatever it is, the store must say so and refuse
            self._die(f"the writer stopped: {type(fault).__name__}: {reason_of(fault)}")
        self._wake()

    def _gather(self) -> None:
        if not self.behind and not self._stopping:
            self.asleep = True
            if not self.behind:
                self._bell.wait(PUBLISH_S if self._unwritten or self._turn else POLL_S)
            self.asleep = False
            self._bell.clear()
        if self.behind and not self._stopping:
            time.sleep(self.settings.gather_s / 8 if self.hurry else self.settings.gather_s)

    def _batch(self) -> None:
        """Take what the current segment holds by now; move on where the journal has."""
        try:
            with self.journal.lock:
                self.journal.hand_over()
                turned = self.turns[0] if self.turns else None
                end, seq = self._segment.end, turned.head.first_seq if turned else self.journal.next_seq
            if end > self._at:
                self._segment.sync()
        except (OSError, Unavailable) as fault:
            self._die(f"the journal cannot be synced: {reason_of(fault)}")
            return
        self.durable_seq = seq
        if self.hurry:
            self._wake()
        while self._at < end and self.dead is None:
            self._take(end)
        if self.dead is None and turned is not None:
            self._old.append(self._segment)
            self._segment, self._at = self.turns.popleft(), HEAD_BYTES
            files = self.derivation.files
            self._turn = Turn(self._segment, files.edge.size, files.root())
            self._turned_s = time.monotonic()

    def _take(self, end: int) -> None:
        """Read the next frames of the segment, as recovery would, and make of them what there is to make."""
        try:
            frames, at = self._segment.read(self._at, end)
        except OSError as fault:
            self._die(f"the journal cannot be read: {reason_of(fault)}")
            return
        if not frames:
            self._die(f"the journal is damaged: no whole frame at byte {self._at} of {self._segment.path}")
            return
        self._apply(self.derivation.compute(frames))
        self._at = at

    def _apply(self, batch: Batch) -> None:
        files, addition, work = self.derivation.files, batch.addition, batch.work
        if addition is not None:
            self._insist("the log's files", lambda: files.write(addition))
            if self.dead is None:
                self.published = self._sign()
                self._unwritten = True
        if work is not None and self.dead is None:
            self._insist("the tables", lambda: self.derivation.commit(work))
        if self.dead is None:
            self.committed_seq = batch.next_seq
            self._wake()

    def _insist(self, what: str, step: Callable[[], None]) -> None:
        """Repeat a step until it succeeds; at shutdown only for a while, as the journal has it all."""
        until = None
        while not self._try(what, step):
            if self._stopping:
                until = until or time.monotonic() + GIVE_UP_S
                if time.monotonic() > until:
                    self._die(f"stopped while in trouble; {self.trouble}")
                    return
            time.sleep(RETRY_S)

    def _try(self, what: str, step: Callable[[], None]) -> bool:
        try:
            step()
        except Exception as fault:  # noqa: BLE001 -- drivers raise many kinds; the text tells, the retry cures
            self._troubles[what] = f"{what} cannot be written: {reason_of(fault)}"
            self._tell()
            return False
        if self._troubles.pop(what, None) is not None:
            self._tell()
        return True

    def object_to(self, why: str | None) -> None:
        """Refuse new requests for a reason from outside, or with None no longer."""
        self.objection = why
        self._tell()

    def _tell(self) -> None:
        self.trouble = self.dead or self.objection or next(iter([*self._troubles.values()]), None)

    def _chores(self) -> None:
        now = time.monotonic()
        if self.dead is not None or now < self._again_s:
            return
        fine = True
        if self._turn is not None:
            fine &= self._try("the journal's anchor", self._settle)
        if self.journal.spare is None:
            fine &= self._try("a spare journal segment", self._prepare)
        if self._unwritten and (not self.behind or now - self._written_s > PUBLISH_S):
            fine &= self._try("the checkpoint", self._write_checkpoint)
        if now - self._polled_s > POLL_S:
            self._polled_s = now
            fine &= self._try("the key table", self.keys.refresh)
        if self._turn_wanted or now - self._turned_s > self.settings.segment_age_s:
            self._move_on()
        if not fine:
            self._again_s = now + RETRY_S

    def turn(self) -> None:
        """Have the journal move on to another segment soon, so that what is in this one is deleted."""
        self._turn_wanted = True
        self._bell.set()

    def _move_on(self) -> None:
        with self.journal.lock:
            moved = self.journal.rotate() is not None
            self._turn_wanted = not moved and self.journal.current.end > HEAD_BYTES
        if moved:
            self._bell.set()

    def _settle(self) -> None:
        turn = self._turn
        assert turn is not None
        self.derivation.settle(turn.segment.head.first_seq)
        self._write_checkpoint(durable=True)
        turn.segment.write_head(state=ANCHORED, tree_size=turn.size, root=turn.root)
        turn.segment.sync()
        self._turn = None
        self._drop_old()
        self.settled()

    def _drop_old(self) -> None:
        while self._old:
            segment = self._old.pop()
            segment.close()
            segment.path.unlink(missing_ok=True)

    def _prepare(self) -> None:
        journal = self.journal
        number = journal.current.number + 1
        spare = make_segment(journal.folder, number, self.settings.segment_bytes)
        with journal.lock:
            journal.spare = spare

    def _write_checkpoint(self, *, durable: bool = False) -> None:
        data = self.published.checkpoint
        write_file(self.home.checkpoint, data, durable=durable)
        self._unwritten, self._written_s = self.published.checkpoint is not data, time.monotonic()

    def _finish(self) -> None:
        """Leave a home at rest: everything settled, the journal one closed block."""
        derivation, journal = self.derivation, self.journal
        derivation.settle(derivation.next_seq)
        self._write_checkpoint(durable=True)
        last = max(journal.current.number, journal.spare.number if journal.spare else 0)
        segment = make_segment(journal.folder, last + 1, HEAD_BYTES)
        files = derivation.files
        segment.write_head(
            state=CLOSED, first_seq=derivation.next_seq, tree_size=files.edge.size, root=files.root()
        )
        segment.sync()
        segment.close()
        self._old += [self._segment] + ([journal.spare] if journal.spare else [])
        self._drop_old()

    def _sign(self) -> Published:
        files = self.derivation.files
        return Published(files.edge.size, checkpoints.sign(self.signer, files.edge.size, files.root()))

    def _die(self, why: str) -> None:
        self.dead = why
        self._tell()
        self._wake()


def _nothing() -> None:
    """Wait for the store to say what else there is to do."""
