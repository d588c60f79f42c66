"""A clock that went back: found against the log, and nothing is recorded with a time that cannot be."""

from __future__ import annotations

import json
from datetime import datetime

from allod.domain.errors import Integrity, Unavailable
from allod.receipts.leaves import leaf_time
from allod.store.logfiles import LogFiles


class Clock:
    """The latest time the log has recorded, in UTC milliseconds.

    Args:
        latest_ms: of the last leaf.
        back_ms: by so much a new time may be earlier; None for any, as tools need that write of the past.

    """

    __slots__ = ("_back_ms", "latest_ms")

    def __init__(self, latest_ms: int = 0, back_ms: int | None = None) -> None:
        self.latest_ms, self._back_ms = latest_ms, back_ms

    def check(self, at_ms: int) -> None:
        """Take a new time.

        Raises:
            Unavailable: it is too far behind: the clock went back, or the log is from the future.

        """
        if at_ms >= self.latest_ms:
            self.latest_ms = at_ms
        elif self._back_ms is not None and self.latest_ms - at_ms > self._back_ms:
            raise Unavailable(
                "the clock went back",
                f"got {leaf_time(at_ms)}, expected no earlier than {leaf_time(self.latest_ms)} of the log, "
                f"less {self._back_ms // 1000} s",
                "set the clock; if it was ahead before, raise [log] clock_back_s for as long as that shows",
                kind="storage",
            )


def clock_of(files: LogFiles, back_ms: int | None) -> Clock:
    """Return the clock as of the last leaf of a log (raises Integrity if that cannot be read)."""
    size = files.edge.size
    if size == 0 or back_ms is None:
        return Clock(0, back_ms)
    try:
        at = datetime.fromisoformat(json.loads(files.leaf(size - 1))["time"])
    except (ValueError, KeyError, TypeError) as fault:
        raise Integrity(f"leaf {size - 1} has no time", str(fault), "see `allod log verify`") from fault
    return Clock(int(at.timestamp() * 1000), back_ms)
