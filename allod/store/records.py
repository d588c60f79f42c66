"""Which decision records the journal has taken of late: each is kept once per digest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from allod.domain.errors import Integrity
from allod.receipts.commitment import digest

MAX_RECORD_BYTES: Final = 960 << 10
"""As much as a frame of the journal holds beside the leaf: some 380 deployments, each with its reasons."""
RECENT: Final = 4096


class Records:
    """Digests of the records seen last, at most twice ``RECENT``."""

    def __init__(self) -> None:
        self._new: set[str] = set()
        self._old: set[str] = set()

    def __iter__(self) -> Iterator[set[str]]:
        return iter((self._new, self._old))

    def fresh(self, decision: str, record: bytes | None) -> bytes | None:
        """Return the record if it is not known yet.

        Raises:
            Integrity: it is too long, or not the one with this digest.

        """
        if record is None or decision in self._new or decision in self._old:
            return None
        if len(record) > MAX_RECORD_BYTES or digest(record) != decision:
            raise Integrity(
                "the decision record is not the one in the leaf",
                f"got {digest(record)}, {len(record)} bytes, expected {decision}, up to {MAX_RECORD_BYTES}",
            )
        return record

    def remember(self, decision: str) -> None:
        """Note that a record was taken."""
        self._new.add(decision)
        if len(self._new) >= RECENT:
            self._old, self._new = self._new, set()
