"""``allod log verify``: a home at rest, held against itself from the first leaf to the last row.

Nothing is changed. Every hash is computed anew from the entries; what is wrong is named by file and leaf.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from allod.domain.errors import AllodError, Integrity
from allod.domain.money import plain
from allod.domain.usage import LedgerRow
from allod.receipts.canonical import canonical
from allod.receipts.checkpoint import Checkpoint
from allod.receipts.merkle import EMPTY_ROOT, HASH_BYTES, Frontier, leaf_hash, stored_count
from allod.receipts.rotation import ROTATION, KeyRing, anchor_of_log
from allod.receipts.tiles import WIDTH, parse_bundle
from allod.receipts.verify import Step, Verification
from allod.store import history
from allod.store.database import Database, Request
from allod.store.frames import AttemptFrame
from allod.store.history import key_ring
from allod.store.home import Home, Lock, load_keys
from allod.store.journal import CLOSED, SegmentHead
from allod.store.logfiles import OFFSET_BYTES, LogFiles
from allod.store.lost import sums
from allod.store.numbers import check_note, numbered
from allod.store.recovery import Found, Scan, anchor_of, check_tables, find, frames, read_checkpoint

Progress = Callable[[int, int], None]
_ROTATION: Final = ROTATION.encode()
_ENDED: Final = ("answered", "refused", "aborted", "failed")


class _Case(msgspec.Struct, kw_only=True):
    """What the checks have established so far; ``roots`` by size, where a size is to be compared."""

    home: Home
    progress: Progress
    found: Found = Found(used=(), stale=(), spare=())
    anchor: SegmentHead | None = None
    checkpoint: Checkpoint | None = None
    files: LogFiles | None = None
    edge: Frontier = msgspec.field(default_factory=Frontier)
    roots: dict[int, bytes] = msgspec.field(default_factory=lambda: {0: EMPTY_ROOT})
    terminals: int = 0
    numbers: dict[str, int] = {}
    scan: Scan | None = None
    origin: str = ""
    ring: KeyRing | None = None
    anchors: tuple[bytes, ...] = ()
    rotations: list[bytes] = []


class _Said(msgspec.Struct, frozen=True, kw_only=True):
    """What the tables say of a leaf as well."""

    id: str
    kind: str
    status: str = ""
    attempts: int = 0
    cost_usd: str | None = None


_SAID: Final = msgspec.json.Decoder(_Said)


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
    for start, leaves in _bundles(files, total):
        at, out = stored_count(start) * HASH_BYTES, list[bytes]()
        for i, leaf in enumerate(leaves, start):
            kind = _kind(leaf, i)
            if kind == "terminal":
                case.terminals += 1
                _count(case, leaf, i)
            elif kind == "notice" and _ROTATION in leaf:
                case.rotations.append(leaf)
            case.edge.append(leaf_hash(leaf), out)
            if case.edge.size in wanted:
                case.roots[case.edge.size] = case.edge.root()
        data = b"".join(out)
        held = files.hashes(at, len(data))
        if held != data:
            where = next(i for i in range(0, len(data), HASH_BYTES) if held[i : i + 32] != data[i : i + 32])
            raise Integrity(
                f"{files.folder / 'hashes'} is wrong at byte {at + where}, or a leaf from {start} on is",
                f"got {held[where : where + 32].hex()}, expected {data[where : where + 32].hex()}",
            )
        case.progress(start + len(leaves), total)
    _recorded(case)
    if case.roots.get(total) != anchor.root:
        raise Integrity(
            "the leaves are not those the journal is anchored to",
            f"got root {case.edge.root().hex()} of {total} leaves, expected {anchor.root.hex()}",
        )
    return f"{total} leaves, {case.terminals} of them terminal"


def _count(case: _Case, leaf: bytes, index: int) -> None:
    """Take the number of an end, which must be the next of its deployment."""
    found = numbered(leaf)
    if found is None:
        return
    name, number = found
    if number != case.numbers.get(name, 0) + 1:
        raise Integrity(
            f"an end of deployment {name} is missing or there twice before leaf {index}",
            f"got number {number}, expected {case.numbers.get(name, 0) + 1}",
        )
    case.numbers[name] = number


def _numbers(case: _Case) -> str:
    files, anchor = _files(case), _anchor(case)
    if case.edge.size != anchor.tree_size:
        raise Integrity("the leaves did not hold", "an earlier step failed")
    said = check_note(case.home, files, anchor.tree_size, case.numbers)
    return f"{len(case.numbers)} deployments without a gap, {said}"


def _tail(case: _Case) -> str:
    anchor = _anchor(case)
    if case.edge.size != anchor.tree_size:
        raise Integrity("the leaves before the journal did not hold", "an earlier step failed")
    case.scan = scan = Scan(next_seq=anchor.first_seq, leaves=anchor.tree_size)
    out: list[bytes] = []
    for frame in frames(case.found, scan):
        if not isinstance(frame, AttemptFrame):
            case.edge.append(leaf_hash(frame.leaf), out)
            out.clear()
            if case.checkpoint is not None and case.edge.size == case.checkpoint.size:
                case.roots[case.edge.size] = case.edge.root()
    if scan.torn is not None:
        return f"frames below {scan.next_seq}; then a write that did not come whole to the disk ({scan.torn})"
    return f"frames below {scan.next_seq}, {case.edge.size - anchor.tree_size} leaves not yet in the files"


def _root(case: _Case) -> str:
    checkpoint = case.checkpoint
    if checkpoint is None:
        raise Integrity("there is no checkpoint to hold the leaves against", "an earlier step failed")
    if checkpoint.size not in case.roots:
        raise Integrity(
            "leaves that were signed are missing or did not hold",
            f"got {case.edge.size} leaves that hold, expected {checkpoint.size}",
        )
    if case.roots[checkpoint.size] != checkpoint.root:
        raise Integrity(
            "the leaves are not those that were signed",
            f"got root {case.roots[checkpoint.size].hex()}, expected {checkpoint.root.hex()}",
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
    for note in case.anchors:
        anchor = anchor_of_log(note, case.ring)
        got = case.roots.get(anchor.size)
        if got is None:
            raise Integrity(
                "the log is shorter than its anchor, or did not hold up to there",
                f"got {case.edge.size} leaves that hold, expected {anchor.size} or more",
            )
        if got != anchor.root:
            raise Integrity(
                "the log is not the one that was anchored: it was written anew",
                f"got root {got.hex()} at size {anchor.size}, expected {anchor.root.hex()}",
            )
        said.append(f"extends the anchor of size {anchor.size}")
    return "; ".join(said)


def _recorded(case: _Case) -> None:
    """Every key the home knows of must have come by a leaf of the log."""
    leaves = b"\n".join(case.rotations)
    for note in history.notes(case.home):
        if note.startswith(_ROTATION) and canonical(note.decode())[1:-1] not in leaves:
            raise Integrity("a change of the log's key is not in the log", note.decode().split("\n")[3][:90])


def _tables(case: _Case) -> str:
    files, anchor = _files(case), _anchor(case)
    if not case.home.database.exists():
        raise Integrity(f"{case.home.database} is missing", "got no tables")
    database = Database.lite_file(case.home.database)
    try:
        check_tables(database, case.origin, anchor)
        ended = count = 0
        for rows in database.requests(case.origin):
            ledger: dict[str, list[LedgerRow]] = {}
            for row in database.rows(receipts=(rows[0].receipt, rows[-1].receipt)):
                ledger.setdefault(row.receipt, []).append(row)
            for request in rows:
                count += 1
                if request.terminal_index is not None and request.terminal_index < anchor.tree_size:
                    ended += 1
                    _row(files, request, tuple(ledger.get(request.receipt, ())))
        if ended != case.terminals:
            raise Integrity(
                "the index and the log disagree",
                f"got {ended} ended requests in the tables, expected {case.terminals} terminal leaves",
            )
    finally:
        database.close()
    return f"{count} requests, each with its leaves and ledger rows"


def _row(files: LogFiles, request: Request, rows: tuple[LedgerRow, ...]) -> None:
    assert request.terminal_index is not None
    intent = _SAID.decode(files.leaf(request.intent_index))
    terminal = _SAID.decode(files.leaf(request.terminal_index))
    cost, _ = sums(rows)
    said = (terminal.id, terminal.status, terminal.attempts, terminal.kind, intent.id, intent.kind)
    row = (request.receipt, request.status, len(rows), "terminal", request.receipt, "intent")
    if said != row or request.status not in _ENDED:
        raise Integrity(f"the tables disagree about {request.receipt}", f"got {row}, expected {said}")
    if cost is not None and terminal.cost_usd != plain(cost):
        raise Integrity(
            f"the ledger disagrees about {request.receipt}",
            f"got {plain(cost)} USD, expected {terminal.cost_usd}",
        )


def _bundles(files: LogFiles, total: int) -> Iterator[tuple[int, tuple[bytes, ...]]]:
    for start in range(0, total, WIDTH):
        end = min(start + WIDTH, total)
        leaves = parse_bundle(files.bundle(start, end))
        at = files.leaf_end(start)
        for i, (leaf, told) in enumerate(zip(leaves, files.ends(start, end), strict=False), start):
            at += 2 + len(leaf)
            if told != at:
                raise Integrity(
                    f"{files.folder / 'offsets'} is wrong at leaf {i}",
                    f"got {told}, expected {at} by the length in entries",
                )
        if len(leaves) != end - start:
            raise Integrity(
                f"{files.folder / 'entries'} is wrong near leaf {start}", f"got {len(leaves)} leaves"
            )
        yield start, leaves


def _kind(leaf: bytes, index: int) -> str:
    for kind in ("intent", "terminal", "notice"):
        if f'"kind":"{kind}"'.encode() in leaf:
            return kind
    raise Integrity(f"leaf {index} is of no known kind", f"got {leaf[:80]!r}")


def _files(case: _Case) -> LogFiles:
    if case.files is None:
        raise Integrity("the log's files could not be opened", "an earlier step failed")
    return case.files


def _anchor(case: _Case) -> SegmentHead:
    if case.anchor is None:
        raise Integrity("the journal has no anchor", "an earlier step failed")
    return case.anchor
