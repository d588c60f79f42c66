"""A copy that was cut off goes on where it was last durable, and only if nothing changed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from allod.vault.blobs import COPY_BYTES, Blobs

STEP = 4 * 1024 * 1024
SIZE = 40 * 1024 * 1024

CUT = """
import os, signal, sys
from pathlib import Path
from allod.vault.blobs import Blobs
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
told = 0
def progress(n):
    global told
    told += n
    if told >= int(sys.argv[3]):
        os.kill(os.getpid(), getattr(signal, sys.argv[4]))
folder = Path(sys.argv[1])
fd = os.open(sys.argv[2], os.O_RDONLY)
Blobs(folder, folder, step_bytes=4 << 20).take(fd, lambda *a: None, progress)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "source"
    file.write_bytes(os.urandom(SIZE))
    return file


def cut(folder: Path, source: Path, at: int = 30 << 20, how: str = "SIGKILL") -> None:
    done = subprocess.run([sys.executable, "-c", CUT, folder, source, str(at), how], check=False, timeout=60,
                          stderr=subprocess.DEVNULL)  # fmt: skip
    assert done.returncode != 0
    assert len(partials(folder)) == 1


def partials(folder: Path) -> list[Path]:
    return [p for p in folder.glob(".incoming-*") if p.suffix != ".mark"]


def resume(folder: Path, source: Path) -> tuple[str, int, int]:
    """Return the digest, how many bytes the first call of progress told, and the size."""
    told: list[int] = []
    fd = os.open(source, os.O_RDONLY)
    digest, size = Blobs(folder, folder, step_bytes=STEP).take(fd, lambda *_a: None, told.append)
    os.close(fd)
    assert size == sum(told)
    return digest, told[0], size


def whole(source: Path) -> str:
    return "sha256:" + hashlib.sha256(source.read_bytes()).hexdigest()


@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_a_killed_copy_goes_on_where_it_was_durable(source: Path, tmp_path: Path, how: str) -> None:
    folder = tmp_path / "blobs"
    cut(folder, source, how=how)
    digest, first, _ = resume(folder, source)
    assert digest == whole(source)
    assert first > STEP, "it began anew"
    assert (folder / digest.removeprefix("sha256:")).read_bytes() == source.read_bytes()
    assert sorted(p.name for p in folder.iterdir()) == [digest.removeprefix("sha256:")]


def test_a_partial_copy_that_was_tampered_with_is_begun_anew(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    cut(folder, source)
    with partials(folder)[0].open("r+b") as file:
        file.seek(1000)
        file.write(b"evil")
    digest, first, _ = resume(folder, source)
    assert digest == whole(source)
    assert first == COPY_BYTES


def test_a_partial_copy_of_a_file_that_changed_is_not_used(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    cut(folder, source)
    with source.open("r+b") as file:
        file.write(b"other")
    digest, first, _ = resume(folder, source)
    assert digest == whole(source)
    assert first == COPY_BYTES
    assert len(partials(folder)) == 1, "the old one stays until it is old or collected"
    Blobs(folder, folder).sweep(everything=True)
    assert [p.name for p in folder.iterdir()] == [digest.removeprefix("sha256:")]


@pytest.mark.parametrize("mark", [b"", b"{}", b"junk", b'[[1,2,3,4,5],99999999999,"x"]'])
def test_a_broken_mark_begins_anew(source: Path, tmp_path: Path, mark: bytes) -> None:
    folder = tmp_path / "blobs"
    cut(folder, source)
    next(folder.glob("*.mark")).write_bytes(mark)
    digest, first, _ = resume(folder, source)
    assert digest == whole(source)
    assert first == COPY_BYTES


def test_two_at_once_do_not_share_a_partial_copy(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    cut(folder, source)
    fd = os.open(source, os.O_RDONLY)
    other: list[str] = []

    def meanwhile(_fd: int, _digest: str) -> None:
        if not other:
            other.append("")
            second = os.open(source, os.O_RDONLY)
            other[0] = Blobs(folder, folder, step_bytes=STEP).take(second, lambda *_a: None)[0]
            os.close(second)

    digest, _ = Blobs(folder, folder, step_bytes=STEP).take(fd, meanwhile)
    os.close(fd)
    assert digest == other[0] == whole(source)
    assert (folder / digest.removeprefix("sha256:")).read_bytes() == source.read_bytes()
