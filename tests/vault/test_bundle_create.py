"""Bundles are made whole or not at all, whatever happens on the way."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import bundle_world as bw
import msgspec
import pytest

from allod.domain.errors import Integrity, Invalid, Unavailable
from allod.vault.bundle import create, form, layout, pieces, verify
from allod.vault.bundle.pieces import Content, Source
from allod.vault.bundle.publish import Publisher


@pytest.fixture
def ours(tmp_path: Path) -> Publisher:
    return bw.publisher(tmp_path)


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> tuple[Content, ...]:
    return bw.content(tmp_path_factory.mktemp("contents"))


def read_all(bundle: verify.Opened) -> dict[str, bytes]:
    with bundle:
        return {f"{i.kind}/{p.path}": bundle.read(p, 1 << 24) for i in bundle.bundle.items for p in i.parts}


def test_a_folder_and_a_tar_hold_the_same_and_open_everywhere(
    tmp_path: Path, ours: Publisher, contents: tuple[Content, ...]
) -> None:
    folder = bw.made(tmp_path / "b", contents, ours)
    tar = bw.made(tmp_path / "b.tar", contents, ours)
    assert (folder.bundle.number, tar.bundle.number) == (1, 2)
    assert folder.bundle.items == tar.bundle.items
    ring = ours.keyring(proof=False)
    first, second = bw.opened(tmp_path / "b", ring), bw.opened(tmp_path / "b.tar", ring)
    assert read_all(first) == read_all(second)
    done = subprocess.run(
        ["tar", "-xf", "b.tar", "--one-top-level=x"], cwd=tmp_path, check=True, capture_output=True
    )
    assert done.stderr == b""
    assert read_all(bw.opened(tmp_path / "x", ring)) == read_all(bw.opened(tmp_path / "b.tar", ring))
    assert not list(tmp_path.glob(".*"))


def test_a_tar_that_gnu_tar_writes_of_the_folder_opens_too(
    tmp_path: Path, ours: Publisher, contents: tuple[Content, ...]
) -> None:
    bw.made(tmp_path / "b", contents, ours)
    subprocess.run(["tar", "--format=pax", "-cf", "again.tar", "-C", "b", "."], cwd=tmp_path, check=True)
    assert read_all(bw.opened(tmp_path / "again.tar", ours.keyring(proof=False)))


STEPS = ("blob", "bundle.json", "number", "metadata", "files", "rename")


def killed(work: Callable[[], object]) -> None:
    """Run something in a child that kills itself."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("at", STEPS)
@pytest.mark.parametrize("name", ["b", "b.tar"])
def test_killed_at_any_step_it_goes_on_and_a_number_is_used_once(
    tmp_path: Path, ours: Publisher, contents: tuple[Content, ...], at: str, name: str
) -> None:
    out = tmp_path / name
    killed(lambda: bw.made(out, contents, ours, step=lambda step: step == at and die()))
    assert not out.exists()
    before = ours.last("stable")
    made = bw.made(out, contents, ours)
    if before is not None and name == "b":
        assert (made.bundle.number, made.digest) == (before.number, before.digest), "the same one is finished"
    elif before is not None:
        assert made.bundle.number == before.number + 1, "a tar begins anew, under another number"
    assert read_all(bw.opened(out, ours.keyring(proof=False)))
    last = ours.last("stable")
    assert last is not None
    assert (last.number, last.digest) == (made.bundle.number, made.digest)


def test_killed_within_a_file_it_goes_on_from_there(tmp_path: Path, ours: Publisher) -> None:
    data = os.urandom(9 << 20)
    (tmp_path / "big.whl").write_bytes(data)
    contents = (pieces.files("trust", "t", "1", {"big": tmp_path / "big.whl"}),)
    count = [0]

    def enough(n: int) -> None:
        count[0] += n
        if count[0] > 5 << 20:
            die()

    killed(lambda: bw.made(tmp_path / "b", contents, ours, progress=enough))
    (begun,) = (tmp_path / ".b.partial" / "blobs" / "sha256").glob("*.part")
    assert 5 << 20 <= begun.stat().st_size < len(data)
    from_source = [0]
    source = contents[0].sources[0]

    def counted() -> int:
        from_source[0] += 1
        return os.open(tmp_path / "big.whl", os.O_RDONLY)

    again = msgspec.structs.replace(contents[0], sources=(msgspec.structs.replace(source, open=counted),))
    bw.made(tmp_path / "b", (again,), ours)
    assert from_source[0] == 1, "continued, not begun again"
    with bw.opened(tmp_path / "b", ours.keyring(proof=False)) as bundle:
        assert bundle.read(bundle.bundle.parts[0], 1 << 24) == data


def test_what_a_dead_attempt_left_is_read_again_and_dropped_where_it_is_wrong(
    tmp_path: Path, ours: Publisher, contents: tuple[Content, ...]
) -> None:
    source = contents[0].sources[0]
    begun = tmp_path / ".b.partial" / (layout.blob(source.digest) + ".part")
    begun.parent.mkdir(parents=True)
    begun.write_bytes(b"x" * 100)
    stray = begun.with_name("f" * 64)
    stray.write_bytes(b"of another plan")
    bw.made(tmp_path / "b", contents, ours)
    assert read_all(bw.opened(tmp_path / "b", ours.keyring(proof=False)))
    assert not (tmp_path / "b" / "blobs" / "sha256" / stray.name).exists()


def test_a_blob_left_whole_with_other_bytes_is_copied_again(
    tmp_path: Path, ours: Publisher, contents: tuple[Content, ...]
) -> None:
    source = contents[0].sources[0]
    blob = tmp_path / ".b.partial" / layout.blob(source.digest)
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"x" * source.size_bytes)
    bw.made(tmp_path / "b", contents, ours)
    with bw.opened(tmp_path / "b", ours.keyring(proof=False)) as bundle:
        for part in bundle.bundle.parts:
            bundle.check(part)


@pytest.mark.parametrize("name", ["b", "b.tar"])
def test_on_a_full_disk_nothing_gets_the_name_and_the_next_attempt_works(
    tmp_path: Path, ours: Publisher, contents: tuple[Content, ...], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, room = os.pwrite, [1500]

    def full(fd: int, data: bytes, at: int) -> int:
        if room[0] <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = real(fd, bytes(data)[: room[0]], at)
        room[0] -= done
        return done

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(Unavailable) as caught:
            bw.made(tmp_path / name, contents, ours)
    assert caught.value.kind == "storage"
    assert not (tmp_path / name).exists()
    bw.made(tmp_path / name, contents, ours)
    assert read_all(bw.opened(tmp_path / name, ours.keyring(proof=False)))


def test_two_at_once_make_one_bundle(tmp_path: Path, ours: Publisher, contents: tuple[Content, ...]) -> None:
    inside, go = threading.Event(), threading.Event()

    def wait(_: str) -> None:
        inside.set()
        go.wait(20)

    first = threading.Thread(target=lambda: bw.made(tmp_path / "b", contents, ours, step=wait))
    first.start()
    inside.wait(20)
    try:
        with pytest.raises(Unavailable) as caught:
            bw.made(tmp_path / "b", contents, ours)
        assert caught.value.kind == "busy"
    finally:
        go.set()
        first.join()
    with pytest.raises(Invalid) as there:
        bw.made(tmp_path / "b", contents, ours)
    assert there.value.kind == "conflict"
    assert ours.last("stable") is not None
    assert ours.last("stable").number == 1  # type: ignore[union-attr]


def test_a_file_that_is_not_what_was_said_makes_no_bundle(
    tmp_path: Path, ours: Publisher, contents: tuple[Content, ...]
) -> None:
    (tmp_path / "swapped").write_bytes(b"y" * 10)
    lying = Source(
        path="prices.json",
        digest=form.digest_of(b"x" * 10),
        size_bytes=10,
        open=lambda: os.open(tmp_path / "swapped", os.O_RDONLY),
    )
    other = Content(kind="prices", name="prices", version="1", sources=(lying,))
    for name in ("b", "b.tar"):
        with pytest.raises(Integrity, match="not what it was said"):
            bw.made(tmp_path / name, (other,), ours)
        assert not (tmp_path / name).exists()
    assert ours.last("stable") is None
    with pytest.raises(Invalid, match="cannot be made"):
        bw.made(tmp_path / "b", (contents[2], contents[2]), ours)
    with pytest.raises(Invalid, match="cannot be made"):
        bw.made(tmp_path / "b", (), ours)


def test_the_same_command_with_other_content_is_another_bundle(
    tmp_path: Path, ours: Publisher, contents: tuple[Content, ...]
) -> None:
    killed(lambda: bw.made(tmp_path / "b", contents, ours, step=lambda step: step == "metadata" and die()))
    made = bw.made(tmp_path / "b", contents[1:], ours)
    assert made.bundle.number == 2, "number 1 was signed for something else"
    assert len(made.bundle.items) == 2


MEMORY = """
import os, resource, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import bundle_world as bw
from allod.vault.bundle import pieces
place = Path({place!r})
ours = bw.publisher(place)
with (place / "big").open("wb") as file:
    file.truncate({size})
contents = (pieces.files("trust", "t", "1", {{"big": place / "big"}}),)
bw.made(place / "small", (pieces.text("prices", "p", "1", b"1"),), ours)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
bw.made(place / {name!r}, contents, ours)
with bw.opened(place / {name!r}, ours.keyring(proof=False)) as bundle, (place / "to").open("w+b") as to:
    bundle.copy(bundle.bundle.parts[0], to.fileno())
    assert os.fstat(to.fileno()).st_size == {size}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("name", ["b", "b.tar"])
def test_memory_does_not_grow_with_the_bundle(tmp_path: Path, name: str) -> None:
    program = MEMORY.format(tests=str(Path(__file__).parent), place=str(tmp_path), size=96 << 20, name=name)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 16 << 10, "KiB of growth for a file of 96 MiB"


def test_a_part_beyond_8_gib_has_its_size_in_a_pax_record() -> None:
    from allod.vault.bundle import tar

    raw = tar.header("blobs/sha256/" + "a" * 64, 40 << 30, 0)
    assert b"size=42949672960\n" in raw
    assert len(raw) == 3 * tar.BLOCK


def test_a_bundle_signed_by_two_and_one_without_keys(
    tmp_path: Path, ours: Publisher, contents: tuple[Content, ...]
) -> None:
    from allod.vault.bundle import keys

    (first,) = keys.of(keys.load(*ours.key_folders), "bundle")
    keys.new(ours.key_folders[0], "bundle")
    bw.made(tmp_path / "b", contents, ours)
    ring = msgspec.structs.replace(ours.keyring(proof=False), threshold=2)
    with bw.opened(tmp_path / "b", ring) as bundle:
        assert len(bundle.signers) == 2
    for path in ours.key_folders[0].glob("bundle-*"):
        path.unlink()
    with pytest.raises(Invalid, match="cannot be signed"):
        bw.made(tmp_path / "c", contents, ours)
    assert first.key_id in ring.signers
    assert create.SUFFIX == ".tar"
