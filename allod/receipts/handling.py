"""What was found in a request and done to it, as a leaf counts it: kinds and numbers, never content (I9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from allod.receipts.canonical import MAX_INTEGER
from allod.receipts.commitment import digest
from allod.receipts.fitting import fitting, utf8

MAX_KINDS: Final = 16
MAX_KINDS_CUT: Final = 3
MAX_KIND: Final = 40


class Handling(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was found in a request and done to it before anything left: kinds and how many, never content.

    Attributes:
        covered: kinds replaced by pseudonyms.
        detected: kinds the detectors found; ``detector`` names their version.
        dropped: kinds of fields left out because the task does not need them.

    """

    covered: dict[str, int] = {}
    detected: dict[str, int] = {}
    detector: str = ""
    dropped: dict[str, int] = {}


def counted(data: Handling | None, most: int) -> Handling | None:
    """Write counts in sorted order; beyond ``most`` kinds the rest is counted together as ``other``."""
    if data is None:
        return None
    return Handling(
        covered=_kinds(data.covered, most),
        detected=_kinds(data.detected, most),
        detector=fitting(data.detector),
        dropped=_kinds(data.dropped, most),
    )


def _kinds(counts: Mapping[str, int], most: int) -> dict[str, int]:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = min(sum(count for _, count in ranked[most:]), MAX_INTEGER)
    named = (
        (fitting(kind, MAX_KIND) if kind.isascii() else digest(utf8(kind)), n) for kind, n in ranked[:most]
    )
    kept = {kind: min(count, MAX_INTEGER) for kind, count in named}
    if rest:
        kept["other"] = min(kept.get("other", 0) + rest, MAX_INTEGER)
    return dict(sorted(kept.items()))
