"""Opening a home: from whatever a stop, a crash or a power cut left to one agreed state.

The newest anchored segment says which tree is durably in the files. They are cut to it and the journal's
frames are derived again from there; the tables take only the frames they lack. What must agree before that:
the root at the anchor, the last published checkpoint, and the number of frames the tables have seen. Where
they do not, the loss is named, and nothing is written or signed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from allod.domain.errors import Integrity
from allod.receipts.checkpoint import Checkpoint, open_checkpoint
from allod.receipts.merkle import EMPTY_ROOT, leaf_hash, root
from allod.receipts.notes import VerifyKey
from allod.store.database import Database
from allod.store.derive import Derivation
from allod.store.frames import MAX_FRAME_BYTES, AttemptFrame, Codec, Frame
from allod.store.home import Home, unwritable
from allod.store.journal import (
    ANCHORED,
    CLOSED,
    HEAD_BYTES,
    RESTORE,
    SPARE,
    USED,
    Segment,
    SegmentHead,
    make_segment,
    read_head,
)
from allod.store.logfiles import LogFiles
from allod.store.subjects import remember, restore

CHUNK: Final = 2000


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What lies in the journal's folder.

    ``used`` are the segments from the newest anchored one on, in order; ``stale`` are older ones, which that
    anchor has made needless and a crash kept from being deleted; ``spare`` hold nothing.
    """

    used: tuple[tuple[Path, SegmentHead], ...]
    stale: tuple[tuple[Path, SegmentHead], ...]
    spare: tuple[Path, ...]


class Scan(msgspec.Struct, kw_only=True):
    """How reading the segments went on: the next frame and leaf, and where each segment ended.

    ``torn`` names a place behind which nothing was whole, with the segments that lie behind it.
    """

    next_seq: int
    leaves: int
    ends: dict[str, int] = msgspec.field(default_factory=dict)
    torn: str | None = None


def find(home: Home) -> Found:
    """Read the heads of all segments (raises Integrity for a damaged one that holds something)."""
    used: list[tuple[Path, SegmentHead]] = []
    spare: list[Path] = []
    for path in sorted(home.journal.glob("*.seg")):
        with path.open("rb") as file:
            block, more = file.read(HEAD_BYTES), file.read(1)
        if block == bytes(len(block)) and not more.strip(b"\0"):
            spare.append(path)
            continue
        head = read_head(block, path)
        if head.state == SPARE:
            spare.append(path)
        else:
            used.append((path, head))
    anchored = [i for i, (_, head) in enumerate(used) if head.state in {ANCHORED, CLOSED}]
    first = anchored[-1] if anchored else 0
    return Found(used=tuple(used[first:]), stale=tuple(used[:first]), spare=tuple(spare))


def anchor_of(home: Home, found: Found, files: LogFiles, last: Checkpoint | None) -> SegmentHead:
    """Return the anchor to begin from: the first segment's, or that of a log with nothing in it.

    Raises:
        Integrity: the journal is gone, or its first segment has no anchor.

    """
    if not found.used:
        if any(files.sizes().values()) or (last is not None and last.size):
            raise Integrity(
                f"the journal in {home.journal} is missing",
                "got a log with leaves and no segment, expected at least one",
                RESTORE,
            )
        return SegmentHead(state=CLOSED, number=0, first_seq=0, tree_size=0, root=EMPTY_ROOT, size=HEAD_BYTES)
    path, head = found.used[0]
    if head.state in {ANCHORED, CLOSED}:
        return head
    if head.first_seq == 0 and head.tree_size == 0:
        return msgspec.structs.replace(head, root=EMPTY_ROOT)
    raise Integrity(
        f"the journal before {path} is missing",
        f"got frame {head.first_seq} as the first, expected an anchored segment",
        RESTORE,
    )


def frames(found: Found, scan: Scan) -> Iterator[Frame]:
    """Go through all frames in order; stops where a write did not come whole to the disk.

    What lies behind such a place was never synced, so no checkpoint and no table knows of it: unless that
    was damage, which the comparisons afterwards show.
    """
    for path, head in found.used:
        if head.first_seq != scan.next_seq or scan.torn is not None:
            scan.torn = scan.torn or f"{path}: got frame {head.first_seq}, expected {scan.next_seq}"
            scan.ends[path.name] = HEAD_BYTES
            continue
        with path.open("rb") as file:
            end = HEAD_BYTES
            for window, behind in _whole_frames(file.fileno(), Codec(head.number)):
                end = behind
                for frame in window:
                    scan.next_seq += 1
                    if not isinstance(frame, AttemptFrame):
                        scan.leaves += 1
                    yield frame
            scan.ends[path.name] = end
            if not _zeros(file.fileno(), end):
                scan.torn = f"{path}: got no whole frame at byte {end}"


def _whole_frames(fd: int, codec: Codec) -> Iterator[tuple[list[Frame], int]]:
    """Read a segment's frames through a window that holds at least one of the largest, and where they end."""
    at = HEAD_BYTES
    while True:
        frames, end = codec.read(os.pread(fd, 2 * MAX_FRAME_BYTES, at), 0)
        if not frames:
            return
        at += end
        yield frames, at


def _zeros(fd: int, at: int) -> bool:
    """Tell whether nothing was ever written from an offset on."""
    while piece := os.pread(fd, MAX_FRAME_BYTES, at):
        if piece.strip(b"\0"):
            return False
        at += len(piece)
    return True


def bare_files(home: Home) -> LogFiles:
    """Open the log's files without looking at them (raises Unavailable)."""
    try:
        return LogFiles(home.log)
    except OSError as fault:
        raise unwritable(home.log, fault) from fault


def recover(
    home: Home, key: VerifyKey, found: Found, files: LogFiles, database: Database
) -> tuple[Derivation, Scan]:
    """Bring files and tables to the journal's end; what is left in ``pending`` was lost in a crash.

    Raises:
        Integrity: something is missing or disagrees; nothing was changed then, but hashes made anew.
        Unavailable: files or tables cannot be written.

    """
    try:
        last = read_checkpoint(home, key)
        anchor = anchor_of(home, found, files, last)
        stand(files, anchor)
        applied = check_tables(database, key.name, anchor)
        rehearse(home, found, anchor, files, applied, last)
        derivation = Derivation(key.name, files, database, next_seq=anchor.first_seq)
        derivation.applied = applied
        derivation.load_open()
        news = restore(home, database)
        scan = derive(found, anchor, derivation)
        if news:
            database.change(database.text.scrub_erased, [()])
        remember(home, database)
        drop_empty(found, scan)
    except OSError as fault:
        raise unwritable(home.log, fault) from fault
    return derivation, scan


def stand(files: LogFiles, anchor: SegmentHead) -> None:
    """Stand at the anchor; hashes that are gone or wrong are computed anew from entries.

    Raises:
        Integrity: leaves are missing, or they are not those the anchor is over.

    """
    size = anchor.tree_size
    if files.held() >= size:
        files.take(size)
        if files.root() == anchor.root:
            return
    held = files.whole()
    if held < size:
        raise Integrity(
            f"the log in {files.folder} has lost leaves {held} to {size - 1}",
            f"got entries and offsets that hold {held} leaves, expected at least {size}",
            "restore log/ from a backup made after they were written",
        )
    files.rebuild_hashes(size)
    files.take(size)
    if files.root() != anchor.root:
        raise Integrity(
            f"the log in {files.folder} is not the one the journal continues",
            f"got root {files.root().hex()} over its first {size} leaves, expected {anchor.root.hex()}",
            "restore log/ from a backup; `log verify` names what is wrong",
        )


def derive(found: Found, anchor: SegmentHead, derivation: Derivation) -> Scan:
    """Cut the files to where they stand and derive all frames again.

    Raises:
        Unavailable: files or tables cannot be written.

    """
    derivation.files.cut()
    scan = Scan(next_seq=anchor.first_seq, leaves=anchor.tree_size)
    chunk: list[Frame] = []
    for frame in frames(found, scan):
        chunk.append(frame)
        if len(chunk) == CHUNK:
            _take(derivation, chunk)
            chunk = []
    _take(derivation, chunk)
    return scan


def _take(derivation: Derivation, chunk: list[Frame]) -> None:
    batch = derivation.compute(chunk)
    if batch.addition is not None:
        derivation.files.write(batch.addition)
    if batch.work is not None:
        with derivation.database.faults("written"):
            derivation.commit(batch.work)


def check_tables(database: Database, origin: str, anchor: SegmentHead) -> int:
    """Return the first frame the tables lack.

    Raises:
        Integrity: the tables are older than the journal reaches back.

    """
    applied = database.applied(origin)
    if applied is None and anchor.first_seq == 0:
        return 0
    if applied is None or applied < anchor.first_seq:
        raise Integrity(
            "the tables are older than the log",
            f"got tables that know frames below {applied or 0}, expected at least {anchor.first_seq}: "
            f"ledger rows and salts of {anchor.first_seq - (applied or 0)} frames are lost",
            "restore allod.sqlite from the newest backup; the log itself is whole (`allod log verify`)",
        )
    return applied


def rehearse(
    home: Home,
    found: Found,
    anchor: SegmentHead,
    files: LogFiles,
    applied: int,
    last: Checkpoint | None,
) -> Scan:
    """Go through the journal without writing anything, and hold it against tables and checkpoint.

    Raises:
        Integrity: frames the tables have, or leaves that were signed, are not in the journal.

    """
    scan = Scan(next_seq=anchor.first_seq, leaves=anchor.tree_size)
    edge, signed, out = files.edge.copy(), None, list[bytes]()
    if last is not None and last.size <= edge.size:
        signed = root(last.size, files.node)
    for frame in frames(found, scan):
        if not isinstance(frame, AttemptFrame):
            edge.append(leaf_hash(frame.leaf), out)
            out.clear()
            if last is not None and edge.size == last.size:
                signed = edge.root()
    torn = f" ({scan.torn})" if scan.torn else ""
    if applied > scan.next_seq:
        raise Integrity(
            "the journal is older than the tables",
            f"got frames below {scan.next_seq}{torn}, expected {applied}, which the tables know",
            RESTORE,
        )
    if last is None and edge.size and scan.torn is None:
        raise Integrity(f"{home.checkpoint} is missing", "got a log with leaves", RESTORE)
    if last is not None and last.size > edge.size:
        raise Integrity(
            "the log has lost leaves that were signed",
            f"got {edge.size} leaves{torn}, expected {last.size} by {home.checkpoint}",
            RESTORE,
        )
    if last is not None and signed != last.root:
        raise Integrity(
            "the log is not the one that was signed",
            f"got another root at size {last.size} than {home.checkpoint} says",
            RESTORE,
        )
    return scan


def read_checkpoint(home: Home, key: VerifyKey) -> Checkpoint | None:
    """Read the last published checkpoint; None if there is none (raises Integrity for a false one).

    A file of nothing but zeros is what a power cut may leave of a rename: it counts as none.
    """
    try:
        data = home.checkpoint.read_bytes()
    except FileNotFoundError:
        return None
    return (
        open_checkpoint(data, key)
        if data.strip(b"\0")
        else Checkpoint(origin=key.name, size=0, root=EMPTY_ROOT)
    )


def drop_empty(found: Found, scan: Scan) -> None:
    """Delete segments nothing was written to: spares, and those of starts that came to nothing."""
    empty = [p for p, head in found.used if head.state == USED and scan.ends.get(p.name) == HEAD_BYTES]
    for path in (*found.spare, *(empty if scan.torn is None else ())):
        path.unlink(missing_ok=True)


def closed_segments(found: Found) -> list[Segment]:
    """Return the segments read, to be deleted once the next one is anchored."""
    return [Segment(path, -1, head) for path, head in found.stale + found.used]


def first_segment(home: Home, found: Found, size: int) -> Segment:
    """Make the segment a store that is being opened goes on with (raises Unavailable)."""
    number = found.used[-1][1].number + 1 if found.used else 1
    try:
        return make_segment(home.journal, number, size)
    except OSError as fault:
        raise unwritable(home.journal, fault) from fault
