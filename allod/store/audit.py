"""``allod log verify``: a home at rest, held against itself from the first leaf to the last row.

Nothing is changed. Every hash is computed anew from the entries (of pruned leaves, from their leaf hashes
upwards: what that leaves unproved is said); what is wrong is named by file and leaf.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from allod.domain.errors import AllodError, Integrity
from allod.receipts.canonical import canonical
from allod.receipts.checkpoint import Checkpoint
from allod.receipts.merkle import HASH_BYTES, leaf_hash, stored_count
from allod.receipts.rotation import ROTATION, KeyRing, anchor_of_log
from allod.receipts.verify import Step, Verification
from allod.store import history
from allod.store.database import Database
from allod.store.frames import AttemptFrame
from allod.store.history import key_ring
from allod.store.home import Home, Lock, load_keys
from allod.store.journal import CLOSED, SegmentHead
from allod.store.leafwise import Found as Read
from allod.store.leafwise import Pass, Rows, rows_of
from allod.store.logfiles import OFFSET_BYTES, LogFiles
from allod.store.numbers import check_note
from allod.store.pruned import PLAN, RECORD, plan_of
from allod.store.recovery import Found, Scan, anchor_of, check_tables, find, frames, read_checkpoint

Progress = Callable[[int, int], None]
_ROTATION: Final = ROTATION.encode()
_REQUESTS: Final = "SELECT count(*) FROM request WHERE origin = ?"
_LOOK_BYTES: Final = 1 << 20


class _Case(msgspec.Struct, kw_only=True):
    """What the checks have established so far; ``read`` is what the pass over all leaves found."""

    home: Home
    progress: Progress
    found: Found = Found(used=(), stale=(), spare=())
    anchor: SegmentHead | None = None
    checkpoint: Checkpoint | None = None
    files: LogFiles | None = None
    read: Read | None = None
    rows: Rows | None = None
    no_rows: AllodError | None = None
    requests: int = 0
    scan: Scan | None = None
    origin: str = ""
    ring: KeyRing | None = None
    anchors: tuple[bytes, ...] = ()


def verify_home(
    home: Home, progress: Progress = lambda _done, _total: None, anchors: Sequence[bytes] = ()
) -> Verification:
    """Check keys, journal, entries, hashes, checkpoint and tables of a home nobody writes to.

    Args:
        home: from ``load_home``.
        progress: called with leaves done and leaves in all.
        anchors: checkpoints kept elsewhere, which this log must extend.

    Raises:
        Unavailable: a gateway is using the home.

    """
    lock = Lock(home)
    case = _Case(home=home, progress=progress, anchors=tuple(anchors))
    checks: list[tuple[str, Callable[[_Case], str]]] = [
        ("keys", _keys),
        ("checkpoint signature", _checkpoint),
        ("journal heads", _heads),
        ("log files", _sizes),
        ("every leaf and hash", _leaves),
        *([("pruning", _pruning)] if _ever_pruned(home) else []),
        ("numbers of ends", _numbers),
        ("journal tail", _tail),
        ("checkpoint root", _root),
        ("tables", _tables),
        *([("anchors", _anchors)] if anchors else []),
    ]
    try:
        steps = tuple(_step(n, name, check, case) for n, (name, check) in enumerate(checks, 1))
    finally:
        if case.files is not None:
            case.files.close()
        lock.release()
    return Verification(ok=all(step.ok for step in steps), steps=steps)


def _step(n: int, name: str, check: Callable[[_Case], str], case: _Case) -> Step:
    try:
        return Step(n=n, name=name, ok=True, detail=check(case))
    except AllodError as fault:
        detail = fault.what + (f": {fault.why}" if fault.why else "")
    except msgspec.DecodeError as fault:
        detail = f"a leaf is no leaf: {fault}"
    except OSError as fault:
        detail = f"{fault.filename or 'a file'} cannot be read: {fault.strerror}"
    return Step(n=n, name=name, ok=False, detail=detail)


def _keys(case: _Case) -> str:
    case.origin = load_keys(case.home).origin
    case.ring = key_ring(case.home)
    before = len(case.ring.keys) - 1
    return f"log {case.origin}" + (f", {before} former keys" if before else "")


def _heads(case: _Case) -> str:
    case.found = find(case.home)
    files = LogFiles(case.home.log, write=False)
    case.files = files
    case.anchor = anchor_of(case.home, case.found, files, case.checkpoint)
    state = "at rest" if case.anchor.state == CLOSED else "not closed: the next start continues from here"
    return f"{len(case.found.used)} segments, anchored at leaf {case.anchor.tree_size}, {state}"


def _checkpoint(case: _Case) -> str:
    case.checkpoint = read_checkpoint(case.home, load_keys(case.home).signer.key)
    if case.checkpoint is None:
        raise Integrity(f"{case.home.checkpoint} is missing", "got none, expected the last one published")
    return f"size {case.checkpoint.size}"


def _sizes(case: _Case) -> str:
    files, anchor = _files(case), _anchor(case)
    sizes, count = files.sizes(), files.whole()
    if count < anchor.tree_size:
        raise Integrity(
            "leaves are missing", f"got {count} in entries and offsets, expected {anchor.tree_size} or more"
        )
    if anchor.state == CLOSED:
        expected = {
            "entries": files.leaf_end(anchor.tree_size),
            "offsets": anchor.tree_size * OFFSET_BYTES,
            "hashes": stored_count(anchor.tree_size) * HASH_BYTES,
        }
        wrong = [f"{name}: got {sizes[name]} bytes, expected {expected[name]}" for name in expected]
        wrong = [text for text, name in zip(wrong, expected, strict=True) if sizes[name] != expected[name]]
        if wrong:
            raise Integrity("a log file has another length", "; ".join(wrong))
    return ", ".join(f"{name} {size} bytes" for name, size in sizes.items())


def _leaves(case: _Case) -> str:
    files, anchor = _files(case), _anchor(case)
    total = anchor.tree_size
    wanted = {total, case.checkpoint.size if case.checkpoint else total, *_anchored(case)}
    database = _beside(case, total)
    try:
        read = Pass(files, total, wanted, case.rows, case.progress).run()
    finally:
        if case.rows is not None:
            case.rows.close()
        if database is not None:
            database.close()
    _recorded(case, read)
    if read.roots.get(total) != anchor.root:
        raise Integrity(
            "the leaves are not those the journal is anchored to",
            f"got root {read.edge.root().hex()} of {total} leaves, expected {anchor.root.hex()}",
        )
    case.read = read
    there = f"{total - files.first} of {total}" if files.first else f"{total}"
    return f"{there} leaves, {read.terminals} of them terminal"


def _beside(case: _Case, total: int) -> Database | None:
    """Open the tables to be read beside the leaves; why they cannot be is for ``_tables`` to say."""
    if not case.home.database.exists():
        case.no_rows = Integrity(f"{case.home.database} is missing", "got no tables")
        return None
    try:
        database = Database.lite_file(case.home.database)
    except AllodError as fault:
        case.no_rows = fault
        return None
    try:
        check_tables(database, case.origin, _anchor(case))
        case.requests = int(database.read(_REQUESTS, case.origin)[0][0])
    except AllodError as fault:
        case.no_rows = fault
    case.rows = Rows(rows_of(database, case.origin, total), _files(case).first)
    return database


def _ever_pruned(home: Home) -> bool:
    return (home.log / RECORD).exists() or (home.log / PLAN).exists()


def _pruning(case: _Case) -> str:
    """Hold the record of what was pruned against the leaves that announced it; say what is not proved."""
    files, read, plan = _files(case), _read(case), plan_of(case.home.log)
    pending = "" if plan is None else "; one that has begun is not finished: run `allod log prune`"
    if files.gone is None:
        return f"nothing is pruned{pending}"
    record = files.gone.record
    if record.origin != case.origin or read.announced.get(files.gone.digest) != str(record.upto):
        raise Integrity(
            "what was pruned was announced by no leaf of this log",
            f"got a record {files.gone.digest} of {record.origin} up to leaf {record.upto}",
            "restore log/ from a backup made before",
        )
    if record.policy not in read.policies:
        raise Integrity("it was pruned by a policy the log does not hold", f"got {record.policy}")
    if record.before and record.before not in read.announced:
        raise Integrity("the pruning before was announced by no leaf", f"got {record.before}")
    if files.leaf_end(record.upto) != record.bytes:
        raise Integrity(
            f"{files.folder / 'offsets'} is wrong at leaf {record.upto - 1}",
            f"got {files.leaf_end(record.upto)}, expected {record.bytes} by the record of the pruning",
        )
    rest = "" if _is_zero(case.home, files.leaf_end(record.upto)) else "; their content is still on the disk"
    return (
        f"leaves 0 to {record.upto - 1} are pruned (up to {record.until}, policy {record.policy} of "
        f"{record.retain_days} days): their content cannot be recomputed, their leaf hashes were taken from "
        f"the log and hashed up to the signed root; {record.kept} notices of them are kept and hold"
        f"{rest}{pending}"
    )


def _is_zero(home: Home, length: int) -> bool:
    """Tell whether the front of ``entries`` is gone from the disk."""
    fd = os.open(home.log / "entries", os.O_RDONLY | os.O_CLOEXEC)
    try:
        spans = range(0, length, _LOOK_BYTES)
        return not any(os.pread(fd, min(_LOOK_BYTES, length - at), at).strip(b"\0") for at in spans)
    finally:
        os.close(fd)


def _numbers(case: _Case) -> str:
    files, anchor, read = _files(case), _anchor(case), _read(case)
    said = check_note(case.home, files, anchor.tree_size, read.numbers)
    return f"{len(read.numbers)} deployments without a gap, {said}"


def _tail(case: _Case) -> str:
    anchor, read = _anchor(case), _read(case)
    case.scan = scan = Scan(next_seq=anchor.first_seq, leaves=anchor.tree_size)
    out: list[bytes] = []
    for frame in frames(case.found, scan):
        if not isinstance(frame, AttemptFrame):
            read.edge.append(leaf_hash(frame.leaf), out)
            out.clear()
            if case.checkpoint is not None and read.edge.size == case.checkpoint.size:
                read.roots[read.edge.size] = read.edge.root()
    if scan.torn is not None:
        return f"frames below {scan.next_seq}; then a write that did not come whole to the disk ({scan.torn})"
    return f"frames below {scan.next_seq}, {read.edge.size - anchor.tree_size} leaves not yet in the files"


def _root(case: _Case) -> str:
    checkpoint = case.checkpoint
    if checkpoint is None:
        raise Integrity("there is no checkpoint to hold the leaves against", "an earlier step failed")
    read = case.read or Read()
    if checkpoint.size not in read.roots:
        raise Integrity(
            "leaves that were signed are missing or did not hold",
            f"got {read.edge.size} leaves that hold, expected {checkpoint.size}",
        )
    if read.roots[checkpoint.size] != checkpoint.root:
        raise Integrity(
            "the leaves are not those that were signed",
            f"got root {read.roots[checkpoint.size].hex()}, expected {checkpoint.root.hex()}",
        )
    anchor = _anchor(case)
    if anchor.state == CLOSED and checkpoint.size != anchor.tree_size:
        raise Integrity(
            "the checkpoint is an old one", f"got size {checkpoint.size}, expected {anchor.tree_size}"
        )
    return f"size {checkpoint.size}, root {checkpoint.root.hex()}"


def _anchored(case: _Case) -> list[int]:
    """Return the sizes of the anchors that can be read; ``_anchors`` says what is wrong with the others."""
    sizes = []
    for note in case.anchors:
        with contextlib.suppress(Integrity):
            sizes.append(anchor_of_log(note, case.ring).size)
    return sizes


def _anchors(case: _Case) -> str:
    said = []
    read = case.read or Read()
    for note in case.anchors:
        anchor = anchor_of_log(note, case.ring)
        got = read.roots.get(anchor.size)
        if got is None:
            raise Integrity(
                "the log is shorter than its anchor, or did not hold up to there",
                f"got {read.edge.size} leaves that hold, expected {anchor.size} or more",
            )
        if got != anchor.root:
            raise Integrity(
                "the log is not the one that was anchored: it was written anew",
                f"got root {got.hex()} at size {anchor.size}, expected {anchor.root.hex()}",
            )
        said.append(f"extends the anchor of size {anchor.size}")
    return "; ".join(said)


def _recorded(case: _Case, read: Read) -> None:
    """Every key the home knows of must have come by a leaf of the log."""
    leaves = b"\n".join(read.rotations)
    for note in history.notes(case.home):
        if note.startswith(_ROTATION) and canonical(note.decode())[1:-1] not in leaves:
            raise Integrity("a change of the log's key is not in the log", note.decode().split("\n")[3][:90])


def _tables(case: _Case) -> str:
    files, read, rows = _files(case), _read(case), case.rows
    if case.no_rows is not None:
        raise case.no_rows
    assert rows is not None
    if rows.fault is not None:
        raise rows.fault
    gone = files.gone.record.terminals if files.gone is not None else 0
    if rows.held != read.terminals or rows.pruned > gone or (rows.pruned < gone and not read.rebuilt):
        raise Integrity(
            "the index and the log disagree",
            f"got {rows.held} ended requests in the tables and {rows.pruned} pruned ones, expected "
            f"{read.terminals} terminal leaves and {gone}",
        )
    pruned = f"; {rows.pruned} of pruned leaves, held against nothing" if files.first else ""
    return f"{case.requests} requests, each with its leaves and ledger rows{pruned}"


def _files(case: _Case) -> LogFiles:
    if case.files is None:
        raise Integrity("the log's files could not be opened", "an earlier step failed")
    return case.files


def _anchor(case: _Case) -> SegmentHead:
    if case.anchor is None:
        raise Integrity("the journal has no anchor", "an earlier step failed")
    return case.anchor


def _read(case: _Case) -> Read:
    if case.read is None:
        raise Integrity("the leaves did not hold", "an earlier step failed")
    return case.read
