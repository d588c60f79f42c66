"""What a store holds in memory does not grow with what it has seen."""

from __future__ import annotations

import time
from pathlib import Path

from store_worlds import Requests, final, fresh

from allod.domain.errors import Unavailable
from allod.receipts.canonical import canonical
from allod.store.writer import Settings


def test_nothing_grows_with_the_number_of_requests(tmp_path: Path) -> None:
    _, store = fresh(tmp_path / "home", Settings(gather_s=0.001, segment_bytes=4 << 20))
    load = Requests(store)

    def asked(number: int) -> str:
        """Ask as a client that comes back does: on a slow disk the next segment may not be prepared yet."""
        deadline = time.monotonic() + 30
        while True:
            try:
                return load.begin(record=canonical({"n": number}))
            except Unavailable as fault:
                if fault.kind != "storage" or not fault.retry_after_ms or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    for i in range(9000):
        load.end(asked(i))
    assert store.flush(60)
    assert len(store._open) == 0
    assert sum(map(len, store._recent)) <= 8192
    assert sum(map(len, store._records)) <= 8192
    assert not store._writer.behind
    assert len(store._writer.derivation.pending) == 0
    first = min(load.salts)
    assert final(store, first)["status"] == "answered"
    assert store.owner(first) == "triage"
    store.close()
