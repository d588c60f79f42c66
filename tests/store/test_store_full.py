"""Disk full, before, during and after: what has begun can end, nothing new begins, and it heals by itself."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import small_disk
from store_worlds import QUICK, Requests, final, fresh, reopen, sound

from allod.domain.errors import Unavailable
from allod.store.home import make_home, write_file
from allod.store.journal import make_segment
from allod.store.store import Store


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 3) as folder:
        yield folder


def fill(disk: Path) -> Path:
    """Take every free byte."""
    path = disk / "filler"
    with path.open("ab", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return path


def until(what, seconds: float = 8.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.02)


def test_on_a_full_disk_what_began_ends_nothing_begins_and_it_heals(disk: Path) -> None:
    home, store = fresh(disk / "home")
    load = Requests(store)
    whole = [load.whole() for _ in range(5)]
    opened = [load.begin() for _ in range(20)]
    for receipt in opened:
        load.attempt(receipt)
    assert store.flush()
    filler = fill(disk)
    ended = []
    for receipt in opened[:10]:
        load.end(receipt, (load.row(receipt),))  # room was held back: a full disk does not prevent it
        ended.append(receipt)
    until(lambda: store.healthy() is not None)
    assert "space" in store.healthy()
    with pytest.raises(Unavailable) as caught:
        load.begin()
    assert caught.value.kind == "storage"
    assert caught.value.retry_after_ms
    for receipt in opened[10:]:
        load.end(receipt, (load.row(receipt),))
        ended.append(receipt)
    assert store.receipt_file(ended[-1]) == "pending"
    filler.unlink()
    until(lambda: store.healthy() is None)
    assert store.flush()
    for receipt in whole + ended:
        assert final(store, receipt)["status"] == "answered"
        assert len(store.database.rows(receipt=receipt)) == 1
    assert final_after(store, load)
    store.close()
    sound(home)


def final_after(store: Store, load: Requests) -> bool:
    receipt = load.whole()
    return store.flush() and final(store, receipt)["status"] == "answered"


def test_death_on_a_full_disk_loses_nothing_that_ended(disk: Path) -> None:
    home = make_home(disk / "home")
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        store = reopen(home)
        load = Requests(store)
        opened = [load.begin() for _ in range(8)]
        for receipt in opened:
            load.attempt(receipt)
        store.flush()
        fill(disk)
        for receipt in opened[:6]:
            load.end(receipt, (load.row(receipt),))
            os.write(write, f"{receipt}\n".encode())
        time.sleep(0.1)
        os._exit(9)
    os.close(write)
    data = b""
    while piece := os.read(read, 65536):
        data += piece
    os.waitpid(pid, 0)
    ended = data.decode().split()
    assert len(ended) == 6
    with pytest.raises(Unavailable) as caught:
        reopen(home)
    assert caught.value.kind == "storage"
    assert "disk space" in caught.value.remedy
    (disk / "filler").unlink()
    store = reopen(home)
    assert store.flush()
    for receipt in ended:
        assert final(store, receipt)["status"] == "answered"
    assert len(store.database.rows()) == 8
    store.close()
    sound(home)


def test_a_home_is_not_begun_on_a_full_disk(disk: Path) -> None:
    fill(disk)
    with pytest.raises(Unavailable) as caught:
        make_home(disk / "home")
    assert caught.value.kind == "storage"
    (disk / "filler").unlink()
    reopen(make_home(disk / "home")).close()


def test_closing_on_a_full_disk_says_so_and_loses_nothing(disk: Path) -> None:
    home, store = fresh(disk / "home")
    load = Requests(store)
    opened = [load.begin() for _ in range(12)]
    for receipt in opened:
        load.attempt(receipt)
    assert store.flush()
    until(lambda: store._journal.spare is not None)  # what the writer still puts in order takes or frees room
    ended = []
    while opened and store.healthy() is None:
        filler = fill(disk)
        ended.append(opened.pop())
        load.end(ended[-1], (load.row(ended[-1]),))
        time.sleep(0.1)
    assert "full" in store.healthy() or "space" in store.healthy()
    fill(disk)
    with pytest.raises(Unavailable, match="rest"):
        store.close()
    filler.unlink()
    store = reopen(home)
    assert store.flush()
    for receipt in ended:
        assert final(store, receipt)["status"] == "answered"
    store.close()
    sound(home)


def test_room_is_held_back_for_every_end_and_the_next_beginning_is_refused(tmp_path: Path) -> None:
    home, store = fresh(tmp_path / "home", QUICK)
    load = Requests(store)
    store.flush()
    until(lambda: store._journal.spare is not None)
    opened = []
    refused = None
    while refused is None:
        try:
            opened.append(load.begin())
            load.attempt(opened[-1])
        except Unavailable as fault:
            refused = fault
    assert refused.kind == "storage"
    assert len(opened) > 30
    for receipt in opened:
        rows = (
            (load.row(receipt, detail="d" * 1000),)
            if receipt in store._open and store._open[receipt].attempts
            else ()
        )
        load.end(receipt, rows, status="failed", detail="x" * 5000, reason="r" * 100)
    until(lambda: store.flush() and store._journal.spare is not None)
    load.whole()
    assert store._journal.reserved == 0
    store.close()
    sound(home)


def test_a_segment_that_does_not_fit_leaves_nothing_behind(disk: Path) -> None:
    with pytest.raises(OSError):
        make_segment(disk, 1, 64 << 20)
    assert list(disk.iterdir()) == []
    assert shutil.disk_usage(disk).used < 65536


def test_a_file_that_finds_no_room_leaves_nothing_behind_and_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.json"
    write_file(path, b"old")
    real = os.pwrite

    def full(fd: int, data: bytes, at: int) -> int:
        if at:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data[:2], at)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        write_file(path, b"newer")
    assert [one.name for one in tmp_path.iterdir()] == ["state.json"]
    assert path.read_bytes() == b"old"
