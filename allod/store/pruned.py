"""What a pruning left behind in ``log/``: the record of it, and the notices that were kept.

``pruned`` is the record (``receipts.pruning``), ``kept-DIGEST`` the notices it names, ``pruning`` the plan of
one that has begun and not ended. No file is changed: one is put in the other's place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.receipts.commitment import digest
from allod.receipts.pruning import Pruned, read_kept, read_record

RECORD: Final = "pruned"
PLAN: Final = "pruning"
KEPT: Final = "kept-"
_NAME_LETTERS: Final = 16


class Gone(msgspec.Struct, frozen=True, kw_only=True):
    """What is gone from a log's files, by its record; ``notices`` are those of the leaves that are gone."""

    record: Pruned
    digest: str
    notices: dict[int, bytes]


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pruning that has begun: the record as text, the leaf that announces it, the log's size before."""

    record: str
    leaf: str
    size: int


def gone_of(folder: Path) -> Gone | None:
    """Read what was pruned from a log; None if nothing ever was (raises Integrity)."""
    try:
        data = (folder / RECORD).read_bytes()
    except FileNotFoundError:
        return None
    record = read_record(data)
    return Gone(record=record, digest=digest(data), notices=_kept(folder, record))


def plan_of(folder: Path) -> Plan | None:
    """Read the plan of a pruning that has not ended, None if there is none (raises Integrity)."""
    try:
        data = (folder / PLAN).read_bytes()
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(data, type=Plan)
    except msgspec.DecodeError as fault:
        raise Integrity(
            f"{folder / PLAN} is damaged", f"got {fault}", "delete it if nothing was announced by a leaf"
        ) from fault


def kept_path(folder: Path, of: str) -> Path:
    """Return where notices with this digest are kept."""
    return folder / f"{KEPT}{of.removeprefix('sha256:')[:_NAME_LETTERS]}"


def no_more(index: int, record: Pruned) -> Invalid:
    """Return the error of whoever asks for a leaf that was pruned (HTTP 410)."""
    return Invalid(
        f"leaf {index} was pruned from the log",
        f"leaves before {record.upto} are older than the {record.retain_days} days of the log's policy "
        f"{record.policy}; their hashes are kept, their content is gone",
        "see /log/pruning or `allod log status`; a receipt handed out before still verifies",
        kind="pruned",
        param="id",
    )


def _kept(folder: Path, record: Pruned) -> dict[int, bytes]:
    path = kept_path(folder, record.kept_digest)
    try:
        data = path.read_bytes()
    except OSError as fault:
        raise Integrity(f"{path} cannot be read", str(fault), "restore it from a backup") from fault
    notices = read_kept(data)
    if digest(data) != record.kept_digest or len(notices) != record.kept:
        raise Integrity(
            f"{path} is not what was kept",
            f"got {digest(data)} with {len(notices)} notices, expected {record.kept_digest}, {record.kept}",
            "restore it from a backup",
        )
    return notices
