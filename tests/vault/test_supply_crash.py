"""Death, a full disk, a source that goes away, two at once: the old serves or the new, never between."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from supply_world import (
    Publisher,
    Site,
    catalogue,
    dying,
    in_child,
    pack,
    pieces,
    price_book,
    revocations,
)

import allod.store.home
import allod.vault.blobs
import allod.vault.bundle.staging
import allod.vault.bundle.switch
import allod.vault.register
from allod.domain.errors import Integrity
from allod.store.home import load_keys
from allod.vault.blobs import Blobs
from allod.vault.bundle import receipt, staging, switch
from allod.vault.bundle.form import decode
from allod.vault.bundle.verify import Opened
from allod.vault.collect import collect
from allod.vault.vault import Vault

BAD = "sha256:" + "b" * 64


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    return Publisher(tmp_path_factory.mktemp("publisher"))


@pytest.fixture(scope="module")
def first(publisher: Publisher) -> Path:
    return publisher.bundle(pack(), price_book("3"))


@pytest.fixture(scope="module")
def second(publisher: Publisher, first: Path) -> Path:
    return publisher.bundle(
        pack(version="2.0.0"),
        price_book("5"),
        pieces.text("catalogue", "models", "1", catalogue()),
        pieces.text("revocations", "list", "1", revocations(BAD)),
    )


@pytest.fixture(scope="module")
def third(publisher: Publisher, second: Path) -> Path:
    return publisher.bundle(publisher.model("tiny"), pack(version="3.0.0"))


def finished(site: Site) -> None:
    """Settle as a start of the gateway does, and check that what was not yet said is said now."""
    found = switch.settle(site.supply, site.vault, load_keys(site.home).signer)
    state = site.supply.state()
    assert (found is None) == (state is None)
    if found is not None and state is not None:
        assert state.digest == found.digest
        if found.cause == "import":
            raw = site.supply.receipt_path(found.serial).read_bytes()
            assert receipt.verify(raw, load_keys(site.home).signer.key.vkey()).ok


def old_or_new(site: Site, old: object, new: object) -> bool:
    """Check what readers see after a death, then after a settling; returns whether it was the new."""
    items, models, revoked = site.sees()
    for seen, n in ((items, 0), (models, 1), (revoked, 2)):
        assert seen in (old[n], new[n])
    if items == old[0]:
        assert models == old[1]
        assert revoked == old[2], "nothing of it counts before the switch"
    finished(site)
    seen = site.sees()
    assert seen in (old, new)
    return seen == new


def leftovers(site: Site) -> list[str]:
    found = [*site.supply.root.rglob("*"), *(site.home.vault / "blobs").rglob("*")]
    return [str(p) for p in found if p.is_file() and (".part" in p.name or ".new" in p.name)]


BOUNDARIES: list[tuple[object, str, bool]] = [
    (os, "fsync", False),
    (os, "link", False),
    (Path, "rename", True),
    (Opened, "copy", True),
    (allod.vault.bundle.switch, "write_file", False),
    (allod.vault.bundle.switch, "write_file", True),
    (allod.vault.register.Register, "_replace", True),
    (Vault, "commit", False),
    (shutil, "rmtree", True),
]


@pytest.mark.parametrize(
    ("where", "name", "after"),
    BOUNDARIES,
    ids=[f"{n}-{'after' if a else 'before'}" for _, n, a in BOUNDARIES],
)
def test_an_import_killed_at_every_boundary_leaves_the_old_or_the_new_and_is_finished_by_the_next(
    tmp_path: Path, publisher: Publisher, first: Path, second: Path, where: object, name: str, after: bool
) -> None:
    base = Site(tmp_path / "base", publisher)
    base.bring(first)
    old = base.sees()
    whole = Site.copied(base, tmp_path / "whole")
    whole.bring(second)
    new = whole.sees()
    nth, deaths = 1, 0
    while True:
        site = Site.copied(base, tmp_path / f"site-{nth}")

        def work(site: Site = site, nth: int = nth) -> None:
            dying(where, name, nth, after=after)
            site.bring(second)

        status = in_child(work)
        if not os.WIFSIGNALED(status):
            assert status == 0
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        deaths += 1
        if nth % 2:
            old_or_new(site, old, new)  # as a start of the gateway finds it; else the next import comes first
        done = site.bring(second)
        finished(site)
        assert site.sees() == new
        assert done.receipt is not None
        assert not leftovers(site)
        assert not any(site.supply.incoming.iterdir())
        nth += 1
    assert deaths, "the boundary was never met"


@pytest.mark.parametrize(
    ("where", "name", "nth"),
    [(Blobs, "adopt", 1), (Vault, "commit", 1), (os, "link", 1), (allod.vault.bundle.switch, "switch", 1)],
    ids=["adopt", "commit", "link", "switch"],
)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_model_of_a_killed_import_has_no_name_before_the_switch(
    tmp_path: Path, publisher: Publisher, third: Path, where: object, name: str, nth: int, after: bool
) -> None:
    site = Site(tmp_path / "site", publisher)
    old = site.sees()

    def work() -> None:
        dying(where, name, nth, after=after)
        site.bring(third)

    assert os.WIFSIGNALED(in_child(work))
    if site.supply.serving() is None:
        assert site.sees() == old
        assert site.vault.list() == ()
    site.bring(third)
    assert site.items() == {("model", "tiny"): site.items()["model", "tiny"], ("pack", "house"): "3.0.0"}
    assert site.vault.verify("tiny").manifest.name == "tiny"
    assert not any((site.home.vault / "incoming").iterdir())


def test_what_was_collected_before_it_had_a_name_comes_again_with_its_bundle(
    tmp_path: Path, publisher: Publisher, third: Path
) -> None:
    site = Site(tmp_path / "site", publisher)

    def work() -> None:
        dying(Vault, "commit", 1, after=False)
        site.bring(third)

    assert os.WIFSIGNALED(in_child(work))
    assert collect(site.vault).removed
    with pytest.raises(Integrity):
        switch.settle(site.supply, site.vault, load_keys(site.home).signer)
    with pytest.raises(Integrity):
        site.bring(publisher.bundle(pack("other"), channel="other"))
    done = site.bring(third)
    assert (done.repeated, done.mended) == (True, True)
    assert site.vault.verify("tiny")
    finished(site)


def test_a_damaged_file_is_mended_by_its_own_bundle(
    tmp_path: Path, publisher: Publisher, first: Path
) -> None:
    site = Site(tmp_path / "site", publisher)
    found = site.bring(first).generation
    for item in found.items:
        path = site.supply.object_path(item.files[0].digest)
        path.chmod(0o600)
        path.write_bytes(b"?")
    with pytest.raises(Integrity):
        site.sees()
    done = site.bring(first)
    assert (done.repeated, done.mended, done.generation) == (True, True, found)
    site.sees()
    assert not site.bring(first).mended


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count the bytes that are read of the source: (digest of each part that was copied)."""
    copied: list[str] = []
    real = Opened.copy

    def copy(self: Opened, part: object, fd: int, progress: object = None, offset: int = 0) -> None:
        copied.append(f"{part.path}@{offset}")  # type: ignore[attr-defined]
        real(self, part, fd, progress, offset)  # type: ignore[arg-type]

    monkeypatch.setattr(Opened, "copy", copy)
    return copied


def test_a_repeated_import_copies_only_what_is_missing(
    tmp_path: Path, publisher: Publisher, third: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path / "site", publisher)

    def work() -> None:
        dying(staging.Staging, "copy", 4, after=True)
        site.bring(third)

    assert os.WIFSIGNALED(in_child(work))
    copied = counted(monkeypatch)
    site.bring(third)
    parts = {part.digest for part in decode((third / "bundle.json").read_bytes()).parts}
    assert len(copied) == len(parts) - 4
