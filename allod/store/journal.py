"""The journal: append-only segments, the single source of durability of a home.

A segment is preallocated, so that what was reserved can be written when the disk is full. Its first 4 KB are
the head::

    magic 8, state u32, number u64, first_seq u64, tree_size u64, root 32, size u64, CRC-32 u32, zeros

``state`` is SPARE (prepared, holds nothing), USED (frames follow), ANCHORED (everything before ``first_seq``
is durably in the log's files and the tables; the tree had ``tree_size`` leaves and this ``root`` then) or
CLOSED (anchored, and nothing follows). Reading begins at the newest anchored segment.

Threads: every method may be called from any thread; ``lock`` orders appends, and who appends may hold it to
do more in the same order.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from allod.domain.errors import Integrity, Unavailable
from allod.store.frames import MAX_FRAME_BYTES, Codec, Frame
from allod.store.home import sync_folder, unwritable, write_all

HEAD_BYTES: Final = 4096
SPARE, USED, ANCHORED, CLOSED = 0, 1, 2, 3
_MAGIC: Final = b"ALLODJ1\n"
_HEAD: Final = struct.Struct("<8sIQQQ32sQ")
_NO_ROOT: Final = bytes(32)
SEGMENT_BYTES: Final = 32 << 20
WINDOW_BYTES: Final = 256 << 10
"""So much of a segment is read at once: what is made of it stays in the processor's cache."""
TERMINAL_ROOM: Final = 4096 + 512
"""Bytes held back for the terminal frame of an intent, before any attempt: a leaf and the frame around it."""


class SegmentHead(msgspec.Struct, frozen=True, kw_only=True):
    """What the first block of a segment says."""

    state: int
    number: int
    first_seq: int
    tree_size: int
    root: bytes
    size: int

    def block(self) -> bytes:
        """Write the whole block."""
        data = _HEAD.pack(
            _MAGIC, self.state, self.number, self.first_seq, self.tree_size, self.root, self.size
        )
        return (data + zlib.crc32(data).to_bytes(4, "little")).ljust(HEAD_BYTES, b"\0")


def read_head(data: bytes, path: Path) -> SegmentHead:
    """Read a segment's first block (raises Integrity)."""
    block = data[:HEAD_BYTES]
    if len(block) == HEAD_BYTES and block[:8] == _MAGIC:
        _, state, number, first_seq, tree_size, root, size = _HEAD.unpack_from(block)
        head = SegmentHead(
            state=state, number=number, first_seq=first_seq, tree_size=tree_size, root=root, size=size
        )
        if state <= CLOSED and head.block() == block and path.name == segment_name(number):
            return head
    raise Integrity(f"the head of {path} is damaged", "got a block that fails its checksum", RESTORE)


RESTORE: Final = "stop, keep a copy of this home, and restore it from a backup or from a replica"


def segment_name(number: int) -> str:
    """Return the file name of a segment."""
    return f"{number:010d}.seg"


class Segment:
    """An open segment; ``end`` is where the next frame goes, ``size`` where the room ends."""

    __slots__ = ("codec", "end", "fd", "head", "number", "path", "size")

    def __init__(self, path: Path, fd: int, head: SegmentHead) -> None:
        self.path, self.fd, self.head = path, fd, head
        self.number, self.size, self.end = head.number, head.size, HEAD_BYTES
        self.codec = Codec(head.number)

    def write_head(self, **changes: int | bytes) -> None:
        """Change the head on disk (not yet synced)."""
        self.head = msgspec.structs.replace(self.head, **changes)
        write_all(self.fd, self.head.block(), 0)

    def read(self, at: int, end: int) -> tuple[list[Frame], int]:
        """Read frames from an offset on, as many as are whole in a window; returns them and where they end.

        Raises:
            OSError: the disk does not give them.

        """
        for window in (WINDOW_BYTES, 2 * MAX_FRAME_BYTES):
            frames, behind = self.codec.read(os.pread(self.fd, min(window, end - at), at), 0)
            if frames:
                return frames, at + behind
        return [], at

    def sync(self) -> None:
        """Make what was written durable."""
        os.fdatasync(self.fd)

    def close(self) -> None:
        """Close the file; idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def make_segment(folder: Path, number: int, size: int) -> Segment:
    """Prepare a spare segment durably, its room allocated.

    Raises:
        OSError: no room on the disk, or another fault of it; nothing is left behind.

    """
    path = folder / segment_name(number)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, size)
        head = SegmentHead(state=SPARE, number=number, first_seq=0, tree_size=0, root=_NO_ROOT, size=size)
        segment = Segment(path, fd, head)
        segment.write_head()
        os.fsync(fd)
        sync_folder(folder)
    except OSError:
        os.close(fd)
        path.unlink(missing_ok=True)
        raise
    return segment


class Journal:
    """Appends frames, keeps room for the ends of what has begun, and moves on to the spare segment.

    Attributes:
        next_seq: the number the next frame gets, counted from 0 over the life of the home.
        leaves: how many leaves the frames so far hold, which is the index of the next one.
        reserved: bytes held back in the current segment for terminal frames.
        spare: the segment to move to, or None while there is none; the writer sets it.
        on_turn: called with each segment moved to, under ``lock`` and before its first frame.

    """

    def __init__(self, folder: Path, first: Segment, *, next_seq: int, leaves: int) -> None:
        self.folder, self.current, self.spare = folder, first, None
        self.next_seq, self.leaves, self.reserved = next_seq, leaves, 0
        self.lock = threading.Lock()
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self.on_turn: Callable[[Segment], None] = _nobody
        self._use(first)

    spare: Segment | None

    def append(self, kind: int, frame: Frame, *, more: int = 0, less: int = 0, keep: bool = False) -> int:
        """Hand a frame to the operating system and return its number; the caller holds ``lock``.

        ``more`` bytes are held back from now on, ``less`` no longer; who gives back more than the frame
        takes is always served. With ``keep`` the frame waits for the next one, or for ``hand_over``, and both
        are written at once: nothing that rests on it may happen before.

        Raises:
            Unavailable: there is no room for the frame and what is held back, or the write failed.

        """
        segment = self.current
        data = segment.codec.write(kind, frame)
        size, held = len(data), self.reserved + more - less
        if segment.end + size + held > segment.size:
            segment = self._room(size, held, must=less > 0)
            data = segment.codec.write(kind, frame)
        if keep:
            self._kept.append(data)
            self._kept_bytes += size
        else:
            self._write(segment, data)
        segment.end += size
        self.reserved = held
        seq = self.next_seq
        self.next_seq = seq + 1
        return seq

    @property
    def keeps(self) -> bool:
        """Whether a frame waits to be written."""
        return bool(self._kept)

    def hand_over(self) -> None:
        """Write what is kept; under ``lock`` (raises ``Unavailable``, and keeps it then)."""
        if self._kept:
            self._write(self.current, b"")

    def _write(self, segment: Segment, data: bytes) -> None:
        """Write bytes to where ``segment`` ends, what is kept before them."""
        at = segment.end - self._kept_bytes
        if self._kept:
            data = b"".join((*self._kept, data))
        try:
            done = os.pwrite(segment.fd, data, at)
            if done != len(data):
                write_all(segment.fd, data[done:], at + done)
        except OSError as fault:
            raise unwritable(segment.path, fault) from fault
        self._kept.clear()
        self._kept_bytes = 0

    def rotate(self) -> Segment | None:
        """Move on to the spare if frames were written and it can hold what is reserved; under ``lock``.

        Raises:
            Unavailable: what is kept, or the head of the spare, cannot be written.

        """
        spare = self.spare
        if spare is None or self.current.end == HEAD_BYTES or HEAD_BYTES + self.reserved > spare.size:
            return None
        self.hand_over()
        self._use(spare)
        self.current, self.spare = spare, None
        self.on_turn(spare)
        return spare

    def _use(self, segment: Segment) -> None:
        if segment.head.state == SPARE:
            try:
                segment.write_head(state=USED, first_seq=self.next_seq, tree_size=self.leaves)
            except OSError as fault:
                raise unwritable(segment.path, fault) from fault

    def _room(self, length: int, held: int, *, must: bool) -> Segment:
        if length > MAX_FRAME_BYTES:
            raise Integrity("the record is too large for the journal", f"got {length} bytes")
        spare = self.spare
        if spare is not None and HEAD_BYTES + length + held <= spare.size and self.rotate() is spare:
            return spare
        if must and self.current.end + length <= self.current.size:
            return self.current
        raise Unavailable(
            "the journal has no room for another request",
            f"got {self.current.size - self.current.end} bytes, {self.reserved} of them held for requests in "
            f"flight, and {'no spare segment' if spare is None else 'a spare that is too small'}",
            "free disk space, or let requests in flight end",
            kind="storage",
            retry_after_ms=1000,
        )


def _nobody(_segment: Segment) -> None:
    """Wait for the writer to be there."""
