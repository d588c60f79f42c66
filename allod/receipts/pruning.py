"""Pruning a log by published policy: the policy, what a pruning leaves behind, and the leaves that say both.

C2SP tlog-tiles: a log has a *minimum index*; entry bundles that end at or below it need not be served any
more, and without a policy nothing may be pruned. Hash tiles stay here, so every root, inclusion path and
consistency proof can still be made. Notices (starts, packs, changes, rotations, prunings) are never pruned.
A *pruned record* says what was taken away; its digest is in a notice that was signed before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from allod.domain.errors import Integrity
from allod.receipts.canonical import canonical, parse
from allod.receipts.commitment import digest
from allod.receipts.leaves import NoticeFacts, leaf_time
from allod.receipts.tiles import MAX_ENTRY_BYTES

POLICY: Final = "pruning-policy"
PRUNED: Final = "log-pruned"
LEAST_DAYS: Final = 184
"""Six months have at most 184 days: Article 26(6) of the AI Act lets no log of a high-risk use go sooner."""
NOTICE_DAYS: Final = 7
"""So long a policy must have stood in the log before anything is pruned by it: time for its followers."""
DAY_MS: Final = 86_400_000
NOTHING: Final = "Nothing is pruned from this log."
MAX_RECORD_BYTES: Final = 1 << 20
MAX_BECAUSE: Final = 400
_INDEX_BYTES: Final = 8
_LENGTH_BYTES: Final = 2


class PruningPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When the leaves of a request may go.

    Attributes:
        origin: of the log.
        retain_days: younger ones stay; because: why so few, where they are fewer than ``LEAST_DAYS``.
        ledger: whether ledger rows of pruned requests go as well.

    """

    origin: str
    retain_days: int
    because: str = ""
    ledger: bool = False

    @property
    def statement(self) -> str:
        """The policy in words."""
        rows = "go with them" if self.ledger else "stay"
        why = f" {self.because}" if self.because else ""
        return (
            f"Leaves of requests may be pruned from the front of {self.origin} once they are older than "
            f"{self.retain_days} days by the log's own time, in whole bundles of 256, and no sooner than "
            f"{NOTICE_DAYS} days after this policy was logged.{why} Each pruning is announced by a leaf of "
            "the log before anything is deleted. Hashes and notices stay for good, so every root, inclusion "
            "and consistency proof can still be made; receipts handed out before stay valid. Salts and "
            f"decision records of pruned requests go with them; ledger rows {rows}. What is open, under a "
            "legal hold or, where a quorum is demanded, not cosigned yet stays."
        )

    @property
    def digest(self) -> str:
        """What names it in the log."""
        return digest(canonical(msgspec.to_builtins(self)))


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """A legal hold: nothing of it is pruned, nor anything behind it.

    ``since_ms`` holds what is as young as that or younger; ``receipts`` these requests. Neither holds all.
    """

    reason: str
    since_ms: int | None = None
    receipts: tuple[str, ...] = ()


class Pruned(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is gone from a log: leaves ``[0, upto)``, but for the notices among them.

    Attributes:
        origin: of the log. policy: digest of the policy; retain_days: its days.
        upto: the minimum index, a multiple of 256; root: of the tree of so many leaves, hex.
        since: the minimum index before this pruning; before: digest of the record it replaces, or "".
        until: time of the youngest leaf that is gone (RFC 3339).
        intents, terminals: how many of each are gone; halves: requests whose beginning alone is.
        numbers: the last number of each deployment at ``upto``.
        bytes: how many of ``entries`` are gone. ledger: whether ledger rows went too.
        kept: how many notices are kept; kept_digest: of the file they are in.

    """

    origin: str
    policy: str
    retain_days: int
    upto: int
    root: str
    since: int
    before: str
    until: str
    intents: int
    terminals: int
    halves: int
    numbers: dict[str, int]
    bytes: int
    ledger: bool
    kept: int
    kept_digest: str
    v: int = 1


def write_record(record: Pruned) -> bytes:
    """Write a pruned record in canonical JSON."""
    return canonical(msgspec.to_builtins(record))


def read_record(data: bytes) -> Pruned:
    """Read a pruned record.

    Raises:
        Integrity: it is not one.

    """
    if len(data) > MAX_RECORD_BYTES:
        raise _bad(f"got {len(data)} bytes, expected at most {MAX_RECORD_BYTES}")
    try:
        record = msgspec.convert(parse(data, what="the record of what was pruned"), Pruned)
    except msgspec.ValidationError as fault:
        raise _bad(f"got {fault}") from fault
    if record.upto <= record.since or record.since < 0 or record.v != 1:
        raise _bad(f"got leaves {record.since} to {record.upto}, version {record.v}")
    return record


def write_kept(notices: Iterable[tuple[int, bytes]]) -> bytes:
    """Write notices with their indices: eight bytes of index, two of length (big-endian), the leaf."""
    out = bytearray()
    for index, leaf in notices:
        out += index.to_bytes(_INDEX_BYTES, "big") + len(leaf).to_bytes(_LENGTH_BYTES, "big") + leaf
    return bytes(out)


def read_kept(data: bytes) -> dict[int, bytes]:
    """Read them again, in the order of the log (raises Integrity if they are cut, or out of order)."""
    out: dict[int, bytes] = {}
    at, last = 0, -1
    while at < len(data):
        start = at + _INDEX_BYTES + _LENGTH_BYTES
        index, length = int.from_bytes(data[at : at + _INDEX_BYTES], "big"), data[at + _INDEX_BYTES : start]
        end = start + int.from_bytes(length, "big")
        if end > len(data) or index <= last:
            raise _bad(f"got kept notices that are cut or out of order at byte {at}")
        out[index] = data[start:end]
        at, last = end, index
    return out


def policy_leaf(policy: PruningPolicy, *, id: str, at_ms: int, tenant: str) -> bytes:  # noqa: A002
    """Say by a leaf which policy is in force from here on, with its whole statement."""
    facts = {
        "ledger": "goes" if policy.ledger else "stays",
        "policy": policy.digest,
        "retain_days": str(policy.retain_days),
        "statement": policy.statement,
    }
    return canonical(
        {
            "detail": policy.because,
            "facts": facts,
            "id": id,
            "kind": "notice",
            "subject": POLICY,
            "tenant": tenant,
            "time": leaf_time(at_ms),
            "v": 1,
        }
    )


def pruned_notice(record: Pruned, *, id: str, at_ms: int, tenant: str) -> NoticeFacts:  # noqa: A002
    """Announce a pruning by a leaf."""
    facts = {
        "from": str(record.since),
        "to": str(record.upto),
        "until": record.until,
        "policy": record.policy,
        "record": digest(write_record(record)),
        "kept": str(record.kept),
    }
    detail = f"leaves {record.since} to {record.upto - 1} are pruned; hashes and notices stay"
    return NoticeFacts(id=id, at_ms=at_ms, tenant=tenant, subject=PRUNED, detail=detail, facts=facts)


def describe(policy: PruningPolicy | None, record: Pruned | None) -> dict[str, object]:
    """Return what the log publishes: policy with digest and words, minimum index, the last pruning."""
    said: dict[str, object] = {
        "minimum_index": record.upto if record else 0,
        "statement": policy.statement if policy else NOTHING,
        "policy": {"digest": policy.digest, **msgspec.to_builtins(policy)} if policy else None,
    }
    if record is not None:
        said["pruned"] = {
            "until": record.until,
            "policy": record.policy,
            "retain_days": record.retain_days,
            "record": digest(write_record(record)),
            "kept_notices": record.kept,
        }
    return said


def _bad(why: str) -> Integrity:
    return Integrity(
        "the record of what was pruned is damaged", why, "restore log/ from a backup of this home"
    )


assert MAX_ENTRY_BYTES < 1 << 8 * _LENGTH_BYTES
