"""A disk that fills up, a source that goes away, two at once, and a bundle larger than memory."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from disks import small_disk
from supply_world import (
    Publisher,
    Site,
    in_child,
    nothing,
    pack,
    pieces,
    price_book,
    program_folder,
)

from allod.domain.errors import Unavailable
from allod.vault.bundle import staging, switch
from allod.vault.bundle.form import decode
from allod.vault.bundle.verify import Opened


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    return Publisher(tmp_path_factory.mktemp("publisher"))


@pytest.fixture(scope="module")
def small(publisher: Publisher) -> Path:
    return publisher.bundle(pack(), price_book(), channel="small")


@pytest.fixture(scope="module")
def model(publisher: Publisher) -> Path:
    return publisher.bundle(publisher.model("tiny"), pack(), channel="model")


@pytest.fixture
def site(tmp_path: Path, publisher: Publisher) -> Site:
    return Site(tmp_path / "site", publisher)


def test_two_at_once_and_the_second_is_told(site: Site, small: Path) -> None:
    with switch.importing(site.supply), pytest.raises(Unavailable) as caught:
        site.bring(small)
    assert caught.value.kind == "busy"
    site.bring(small)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 24) as folder:
        yield folder


def fill(disk: Path, leave_bytes: int) -> Path:
    path = disk / "filler"
    with path.open("wb") as file:
        file.truncate(0)
    free = shutil.disk_usage(disk).free - leave_bytes
    path.write_bytes(bytes(max(0, free)))
    return path


def test_too_little_room_is_told_before_anything_is_copied(
    disk: Path, publisher: Publisher, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(disk / "site", publisher)
    copied: list[object] = []
    monkeypatch.setattr(Opened, "copy", lambda *args: copied.append(args))
    filler = fill(disk, staging.SPARE_BYTES + 10_000)
    with pytest.raises(Unavailable, match="not enough room") as caught:
        site.bring(model)
    assert caught.value.kind == "storage"
    assert not copied
    nothing(site)
    filler.unlink()


def test_a_disk_that_fills_up_breaks_nothing_and_the_import_continues(
    disk: Path, publisher: Publisher, model: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(disk / "site", publisher)
    site.bring(small)
    before = site.sees()
    monkeypatch.setattr(staging.Staging, "need_room", lambda *_: None)
    kinds: list[str] = []
    for leave in (0, 4096, 40_000, 120_000, 200_000, 240_000, 260_000):
        filler = fill(disk, leave)
        kinds.append(kind_of(lambda: site.bring(model)))
        assert site.supply.serving() is not None
        filler.unlink()
        seen = site.sees()
        assert seen[0] == before[0] or ("model", "tiny") in seen[0]
        if not kinds[-1]:
            break
    assert kinds[0] == "storage"
    assert set(kinds) <= {"storage", ""}
    monkeypatch.undo()
    site.bring(model)
    assert site.vault.verify("tiny")


def kind_of(work: Callable[[], object]) -> str:
    """Do something and return the kind of what kept it from being done, or nothing."""
    try:
        work()
    except Unavailable as error:
        return error.kind
    return ""


@pytest.mark.parametrize("how", ["gone", "EIO", "short"])
def test_a_source_that_goes_away_is_named_and_the_import_continues(
    site: Site, model: Path, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stick = tmp_path / "stick"
    shutil.copytree(model, stick)
    real, calls = Opened.copy, 0

    def copy(self: Opened, part: Any, fd: int, progress: Any = None, offset: int = 0) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            if how == "short":
                os.pwrite(fd, b"x", 0)
            shutil.rmtree(stick)
            if how == "EIO":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(self, part, fd, progress, offset)

    monkeypatch.setattr(Opened, "copy", copy)
    with pytest.raises(Unavailable, match="went away") as caught:
        site.bring(stick)
    assert caught.value.kind == "down"
    nothing(site)
    monkeypatch.undo()
    shutil.copytree(model, stick)
    copied: list[str] = []
    monkeypatch.setattr(Opened, "copy", lambda s, p, *a: (copied.append(p.path), real(s, p, *a))[0])
    site.bring(stick)
    parts = {part.digest for part in decode((model / "bundle.json").read_bytes()).parts}
    assert len(copied) == len(parts) - 2


def test_memory_does_not_grow_with_the_bundle(site: Site, publisher: Publisher, tmp_path: Path) -> None:
    size = 160 << 20
    folder = program_folder(publisher.root / "large-program")
    with (folder / "large-1.0-py3-none-any.whl").open("wb") as file:
        file.truncate(size)
    bundle = publisher.bundle(pieces.program(folder), channel="large")

    def work() -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        site.bring(bundle)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
        assert grown < 24 << 20, f"{grown} bytes more"

    assert in_child(work) == 0
