"""Death at every step of a pruning, and holds that come while it is interrupted."""

from __future__ import annotations

import os
import pkgutil
import signal
import sqlite3
from pathlib import Path

import pytest
from pruning_worlds import NOW, aged, carry_out, rules, step_of
from store_worlds import final, in_child, reopen, sound

from allod.domain.errors import Invalid
from allod.receipts.pruning import Hold
from allod.store.home import Home
from allod.store.prune import prune
from allod.store.pruned import PLAN

STEPS = ["kept notices", "plan", "leaf", "record", "tables", "entries", "rest"]


@pytest.mark.parametrize("at", STEPS)
def test_killed_before_any_step_leaves_old_or_new_and_the_next_run_finishes(tmp_path: Path, at: str) -> None:
    home, old, young = aged(tmp_path / "home", 200)

    def dying(_pipe: int) -> None:
        def step(name: str) -> None:
            if name == at:
                os.kill(os.getpid(), signal.SIGKILL)

        prune(home, rules(home), tenant="p_t", now_ms=NOW, step=step)

    _, status = in_child(dying)
    assert os.WIFSIGNALED(status)
    _finishes(home, old, young)


BOUNDARIES = [
    ("allod.store.prune", "write_file", 1),
    ("allod.store.prune", "write_file", 2),
    ("allod.store.prune", "write_file", 3),
    ("allod.store.holes", "_punched", 1),
    ("allod.store.database.Database", "prune", 1),
    ("allod.store.writer.Writer", "_finish", 1),
    ("allod.store.writer.Writer", "_finish", 2),
    ("allod.store.journal.Segment", "sync", 3),
    ("pathlib.Path", "replace", 4),
    ("pathlib.Path", "replace", 6),
    ("pathlib.Path", "unlink", 5),
]


@pytest.mark.parametrize(
    ("where", "name", "nth"), BOUNDARIES, ids=[f"{name}-{nth}" for _, name, nth in BOUNDARIES]
)
def test_killed_behind_any_write_leaves_old_or_new_and_the_next_run_finishes(
    tmp_path: Path, where: str, name: str, nth: int
) -> None:
    home, old, young = aged(tmp_path / "home", 150)
    owner = pkgutil.resolve_name(where)

    def dying(_pipe: int) -> None:
        real, calls = getattr(owner, name), 0

        def step(*args: object, **more: object) -> object:
            nonlocal calls
            result = real(*args, **more)
            calls += 1
            if calls == nth:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, step)
        prune(home, rules(home), tenant="p_t", now_ms=NOW)

    in_child(dying)
    _finishes(home, old, young)


def _finishes(home: Home, old: list[str], young: list[str]) -> None:
    store = reopen(home)  # a gateway may start on whatever was left
    assert store.flush()
    for receipt in young:
        final(store, receipt)
    if store.reader.first:
        with pytest.raises(Invalid, match="pruned"):
            store.receipt_file(old[0])
    else:
        final(store, old[0])
    store.close()
    sound(home)
    done = carry_out(home)
    assert done.upto == 256
    sound(home)
    assert not (home.log / PLAN).exists()
    assert "content is still" not in step_of(home, "pruning")
    data = (home.log / "entries").read_bytes()
    assert data.count(b'"subject":"log-pruned"') == 1
    with sqlite3.connect(home.database) as tables:
        count = tables.execute("SELECT count(*) FROM request WHERE request_salt IS NULL").fetchone()[0]
    assert count >= 127


def test_a_hold_that_came_after_the_plan_stops_it(tmp_path: Path) -> None:
    home, old, _ = aged(tmp_path / "home", 200)

    def dying(_pipe: int) -> None:
        def step(name: str) -> None:
            if name == "record":
                os.kill(os.getpid(), signal.SIGKILL)

        prune(home, rules(home), tenant="p_t", now_ms=NOW, step=step)

    in_child(dying)
    hold = Hold(reason="case 9", receipts=(old[3],))
    assert carry_out(home, hold).upto == 0  # announced, and not carried out
    store = reopen(home)
    final(store, old[3])
    store.close()
    sound(home)


def test_a_hold_that_came_after_the_record_keeps_what_is_still_on_the_disk(tmp_path: Path) -> None:
    home, old, _ = aged(tmp_path / "home", 200)

    def dying(_pipe: int) -> None:
        def step(name: str) -> None:
            if name == "tables":
                os.kill(os.getpid(), signal.SIGKILL)

        prune(home, rules(home), tenant="p_t", now_ms=NOW, step=step)

    in_child(dying)
    with pytest.raises(Invalid, match="under legal hold now"):
        carry_out(home, Hold(reason="case 9", receipts=(old[3],)))
    assert (home.log / "entries").read_bytes()[:2] != b"\0\0"
