"""One pass over a log: every hash, every leaf, and the tables beside it, in memory that grows with nothing.

The tables' rows come in the order of the log and are held against each end as it is read, so that no leaf is
read twice. What was pruned has hashes alone: those are recomputed upwards from the leaf hashes, and the
notices that were kept must be the leaves at their places.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from decimal import Decimal
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.errors import AllodError, Integrity
from allod.domain.money import plain
from allod.receipts.merkle import EMPTY_ROOT, HASH_BYTES, Frontier, leaf_hash
from allod.receipts.pruning import POLICY, PRUNED
from allod.receipts.rotation import ROTATION
from allod.receipts.tiles import WIDTH, parse_bundle

if TYPE_CHECKING:
    from allod.store.database import Database
    from allod.store.logfiles import LogFiles

Ended = tuple[str, str, int, int, int, str | None]
"""Receipt, status, indices of intent and end, number of attempts, and what they cost (None without any)."""
REBUILT: Final = "tables-rebuilt"
_ROTATION: Final = ROTATION.encode()
_STATUSES: Final = frozenset({"answered", "refused", "aborted", "failed"})
_ROWS: Final = (
    "SELECT r.receipt, r.status, r.intent_index, r.terminal_index, l.cost_usd "
    "FROM request r LEFT JOIN ledger l ON l.receipt = r.receipt "
    "WHERE r.origin = ? AND r.terminal_index IS NOT NULL AND r.terminal_index < ? "
    "ORDER BY r.terminal_index, r.receipt, l.attempt"
)
_sha256 = hashlib.sha256


class Leaf(msgspec.Struct, frozen=True, kw_only=True):
    """What the pass reads of any leaf."""

    id: str
    kind: str
    status: str = ""
    attempts: int = 0
    cost_usd: str | None = None
    deployment: str | None = None
    seq: int | None = None
    intent: str = ""
    subject: str = ""
    facts: dict[str, str] = {}


_LEAF: Final = msgspec.json.Decoder(Leaf)


class Rows:
    """The tables' rows of a log in the order of its ends; the first disagreement is kept in ``fault``.

    ``pruned`` counts rows of ends below the minimum index, ``held`` those that agreed.
    """

    def __init__(self, rows: Generator[Ended], first: int) -> None:
        self._rows, self._first = rows, first
        self.fault: AllodError | None = None
        self.pruned = self.held = 0
        self._next = self._step()
        while self._next is not None and self._next[3] < first:
            self.pruned += 1
            self._next = self._step()

    def check(self, end: Ended, files: LogFiles, leaf: Leaf) -> None:
        """Hold the next row against an end; ``end[2]`` is -1 where its intent was pruned."""
        row = self._next
        if self.fault is not None:
            return
        if row == end or (row is not None and _agree(row, end, files, leaf)):
            self.held += 1
            self._next = self._step()
            return
        self.fault = self._disagree(row, end)

    def done(self) -> None:
        """Find rows of ends that are not in the log."""
        if self.fault is None and self._next is not None:
            self.fault = self._disagree(self._next, None)

    def close(self) -> None:
        """Leave the tables alone."""
        self._rows.close()

    def _step(self) -> Ended | None:
        try:
            return next(self._rows, None)
        except (AllodError, ArithmeticError, ValueError) as fault:
            self.fault = fault if isinstance(fault, AllodError) else _senseless(fault)
            return None

    @staticmethod
    def _disagree(row: Ended | None, end: Ended | None) -> Integrity:
        if row is None or (end is not None and row[3] > end[3]):
            assert end is not None
            return Integrity(
                "the index and the log disagree",
                f"got no row of {end[0]}, expected one of the terminal leaf {end[3]}",
            )
        if end is None or row[3] < end[3]:
            return Integrity(
                "the index and the log disagree", f"got a row of {row[0]}, no terminal leaf {row[3]}"
            )
        if row[:5] == end[:5]:
            return Integrity(f"the ledger disagrees about {row[0]}", f"got {row[5]} USD, expected {end[5]}")
        return Integrity(f"the tables disagree about {row[0]}", f"got {row}, expected {end}")


class Found(msgspec.Struct, kw_only=True):
    """What the pass found.

    Attributes:
        edge: the tree's edge where it ended; roots: by size, where one was wanted.
        terminals: ends that were read; halves: those whose intent was pruned.
        numbers: the last number of each deployment.
        rotations: leaves about the log's key; announced: records of prunings that leaves announce, with the
            minimum index each says; policies: digests of pruning policies; rebuilt: whether tables ever were.

    """

    edge: Frontier = msgspec.field(default_factory=Frontier)
    roots: dict[int, bytes] = msgspec.field(default_factory=lambda: {0: EMPTY_ROOT})
    terminals: int = 0
    halves: int = 0
    numbers: dict[str, int] = msgspec.field(default_factory=dict)
    rotations: list[bytes] = msgspec.field(default_factory=list)
    announced: dict[str, str] = msgspec.field(default_factory=dict)
    policies: set[str] = msgspec.field(default_factory=set)
    rebuilt: bool = False


class Pass:
    """Goes once through a log of ``total`` leaves.

    Args:
        files: of the log at rest. total: leaves to read.
        wanted: sizes whose roots are to be compared afterwards.
        rows: the tables beside it, or None.
        progress: called with leaves done and leaves in all.

    """

    def __init__(
        self,
        files: LogFiles,
        total: int,
        wanted: set[int],
        rows: Rows | None,
        progress: Callable[[int, int], None],
    ) -> None:
        self._files, self._total, self._rows, self._progress = files, total, rows, progress
        self._wanted = sorted(size for size in wanted if 0 < size <= total)
        self._begun: dict[str, tuple[int, bytes]] = {}
        self.found = Found()

    def run(self) -> Found:
        """Read everything.

        Raises:
            Integrity: a leaf, an offset or a hash is not what it must be; named by file and leaf.

        """
        files, first = self._files, self._files.first
        for start in range(0, first, WIDTH):
            self._gone(start)
        if files.gone is not None:
            record = files.gone.record
            if self.found.edge.root().hex() != record.root:
                raise Integrity(
                    "the hashes of pruned leaves are not those that were there when they were pruned",
                    f"got root {self.found.edge.root().hex()} of {first} leaves, expected {record.root}",
                )
            self.found.numbers = dict(record.numbers)
        for start in range(first, self._total, WIDTH):
            self._bundle(start, min(start + WIDTH, self._total))
        if files.gone is not None and self.found.halves != files.gone.record.halves:
            raise Integrity(
                "ends whose beginning was pruned are missing or too many",
                f"got {self.found.halves}, expected {files.gone.record.halves}",
            )
        if self._rows is not None:
            self._rows.done()
        return self.found

    def _gone(self, start: int) -> None:
        """Take the hashes of a pruned bundle upwards, and hold what was kept of it against them."""
        files = self._files
        held = files.stored(start, WIDTH)
        hashes = files.leaf_hashes(start, start + WIDTH, held)
        self._grow(start, hashes, held)
        for index, leaf in files.notices(start, start + WIDTH):
            if leaf_hash(leaf) != hashes[index - start]:
                raise Integrity(
                    f"the kept notice {index} is not the leaf that was there",
                    f"got hash {leaf_hash(leaf).hex()}, expected {hashes[index - start].hex()}",
                )
            self._notice(leaf, _LEAF.decode(leaf))
        self._progress(start + WIDTH, self._total)

    def _bundle(self, start: int, end: int) -> None:
        leaves = bundle_of(self._files, start, end)
        hashes = [_sha256(b"\0" + leaf).digest() for leaf in leaves]
        decode, begun = _LEAF.decode, self._begun
        for index, leaf in enumerate(leaves, start):
            said = decode(leaf)
            kind = said.kind
            if kind == "intent":
                if said.id in begun:
                    raise Integrity(f"the request {said.id} begins twice", f"got a second intent at {index}")
                begun[said.id] = index, hashes[index - start]
            elif kind == "terminal":
                self._end(index, said)
            elif kind == "notice":
                self._notice(leaf, said)
            else:
                raise Integrity(f"leaf {index} is of no known kind", f"got {leaf[:80]!r}")
        self._grow(start, hashes, self._files.stored(start, end - start))
        self._progress(end, self._total)

    def _end(self, index: int, said: Leaf) -> None:
        found = self.found
        found.terminals += 1
        if said.status not in _STATUSES:
            raise Integrity(f"leaf {index} is no end", f"got status {said.status[:40]!r}")
        if said.seq is not None and said.deployment is not None:
            self._count(said.deployment, said.seq, index)
        known = self._begun.pop(said.id, None)
        if known is None:
            if not self._files.first:
                raise Integrity(
                    f"the request {said.id} ends and never began",
                    f"got an end at leaf {index} without intent",
                )
            found.halves += 1
        elif said.intent != "sha256:" + known[1].hex():
            raise Integrity(
                f"the end of {said.id} names another beginning",
                f"got {said.intent} at leaf {index}, expected sha256:{known[1].hex()}",
            )
        if self._rows is not None:
            cost = said.cost_usd if said.attempts else None
            first = known[0] if known is not None else -1
            self._rows.check((said.id, said.status, first, index, said.attempts, cost), self._files, said)

    def _count(self, deployment: str, number: int, index: int) -> None:
        """Take the number of an end, which must be the next of its deployment."""
        last = self.found.numbers.get(deployment, 0)
        if number != last + 1:
            raise Integrity(
                f"an end of deployment {deployment} is missing or there twice before leaf {index}",
                f"got number {number}, expected {last + 1}",
            )
        self.found.numbers[deployment] = number

    def _notice(self, leaf: bytes, said: Leaf) -> None:
        if _ROTATION in leaf:
            self.found.rotations.append(leaf)
        if said.subject == PRUNED:
            self.found.announced[said.facts.get("record", "")] = said.facts.get("to", "")
        elif said.subject == POLICY:
            self.found.policies.add(said.facts.get("policy", ""))
        elif said.subject == REBUILT:
            self.found.rebuilt = True

    def _grow(self, start: int, hashes: list[bytes], held: bytes) -> None:
        """Add leaf hashes to the tree and hold all it finishes against the file; note the roots wanted."""
        edge, out, at = self.found.edge, list[bytes](), 0
        while self._wanted and self._wanted[0] <= start + len(hashes):
            size = self._wanted.pop(0)
            edge.extend(hashes[at : size - start], out)
            at = size - start
            self.found.roots[size] = edge.root()
        edge.extend(hashes[at:], out)
        data = b"".join(out)
        if held != data:
            where = next(i for i in range(0, len(data), HASH_BYTES) if held[i : i + 32] != data[i : i + 32])
            raise Integrity(
                f"{self._files.folder / 'hashes'} is wrong, or a leaf from {start} on is",
                f"got {held[where : where + 32].hex()}, expected {data[where : where + 32].hex()}",
            )


def bundle_of(files: LogFiles, start: int, end: int) -> tuple[bytes, ...]:
    """Read leaves ``[start, end)``, lengths and offsets held against each other (raises Integrity)."""
    leaves = parse_bundle(files.bundle(start, end))
    ends = files.ends(start, end)
    found = tuple(accumulate([2 + len(leaf) for leaf in leaves], initial=files.leaf_end(start)))[1:]
    if found != ends:
        i = next((i for i, (a, b) in enumerate(zip(found, ends, strict=False)) if a != b), len(found))
        if i in {len(found), len(ends)}:
            raise Integrity(
                f"{files.folder / 'entries'} is wrong near leaf {start}", f"got {len(leaves)} leaves"
            )
        raise Integrity(
            f"{files.folder / 'offsets'} is wrong at leaf {start + i}",
            f"got {ends[i]}, expected {found[i]} by the length in entries",
        )
    return leaves


def rows_of(database: Database, origin: str, total: int) -> Generator[Ended]:
    """Go through the requests that ended below ``total``, in the order of the log, costs added up."""
    last: tuple[Any, ...] | None = None
    costs: list[str] = []
    for receipt, status, first, end, cost in database.scan(_ROWS, origin, total):
        head = (receipt, status, first, end)
        if head != last:
            if last is not None:
                yield (*last, len(costs), _sum(costs))
            last, costs = head, []
        if cost is not None:
            costs.append(cost)
    if last is not None:
        yield (*last, len(costs), _sum(costs))


def _sum(costs: list[str]) -> str | None:
    if len(costs) == 1:
        return costs[0]
    return plain(sum(map(Decimal, costs), Decimal(0))) if costs else None


def _agree(row: Ended, end: Ended, files: LogFiles, leaf: Leaf) -> bool:
    """Tell whether a row means what an end says: an amount written otherwise, an intent that was pruned."""
    try:
        cost = None if row[5] is None else plain(Decimal(row[5]))
    except ArithmeticError:
        return False
    begins = row[2] == end[2] or (end[2] < 0 and _begins(files, row[2], leaf))
    return begins and (*row[:2], *row[3:5], cost) == (*end[:2], *end[3:])


def _begins(files: LogFiles, index: int, leaf: Leaf) -> bool:
    """Tell whether the pruned leaf at an index is the intent that an end names."""
    return 0 <= index < files.first and f"sha256:{files.node(0, index).hex()}" == leaf.intent


def _senseless(fault: Exception) -> Integrity:
    return Integrity("a ledger row costs what is no amount", f"got {fault}")
