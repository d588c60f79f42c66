"""A full disk under a run: it ends, says so, and what was paid for is there when there is room again."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import pytest
from disks import small_disk

from allod.assurance.evaluation import Item
from allod.domain.errors import Unavailable
from allod.gateway.evaluations import Notebook, begun


def test_a_run_on_a_full_disk_loses_nothing_it_kept(tmp_path: Path) -> None:
    items = [Item(case=f"c{n}", task="t", deployment="d", status="wrong", why="x" * 290) for n in range(6000)]
    with small_disk(tmp_path / "disk", 1) as disk:
        path = disk / "evaluations" / "run.part"
        notebook, kept = Notebook(path), list[Item]()

        def keep(item: Item) -> None:
            notebook.keep(item)
            kept.append(item)

        with pytest.raises(Unavailable, match="cannot be written") as caught:
            deque(map(keep, items), maxlen=0)
        notebook.close()
        assert "disk space" in caught.value.remedy
        assert 0 < len(kept) < len(items)
        assert begun(path) == kept, "a line that was cut is left out"
        again = Notebook(tmp_path / "elsewhere.part")
        again.keep(items[0])
        again.close()
        assert begun(tmp_path / "elsewhere.part") == items[:1]
