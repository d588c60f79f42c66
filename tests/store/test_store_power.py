"""A power cut: whatever was not synced may be gone, torn or zero. No published checkpoint is contradicted."""

from __future__ import annotations

import os
import random
import shutil
import signal
from pathlib import Path

import pytest
from store_worlds import Requests, in_child, patient, reopen, sound

from allod.receipts.merkle import root, stored_count
from allod.store.derive import Derivation
from allod.store.home import Home, make_home
from allod.store.journal import Segment
from allod.store.writer import Writer

PAGE = 4096


def tell(home: Home, pipe: int) -> None:
    """Have the store tell what it synced, settled and published, as the disk would know it."""
    sync, sign, settle = Segment.sync, Writer._sign, Derivation.settle

    def told_sync(self: Segment) -> None:
        end = self.end
        sync(self)
        os.write(pipe, f"synced {self.path.name} {end}\n".encode())

    def told_sign(self: Writer):
        published = sign(self)
        os.write(pipe, f"published {published.size} {self.derivation.files.root().hex()}\n".encode())
        return published

    def told_settle(self: Derivation, first_seq: int) -> None:
        settle(self, first_seq)
        fresh = home.root / "copying"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        for file in home.root.glob("allod.sqlite*"):
            shutil.copy(file, fresh / file.name)
        fresh.rename(home.root / f"copy-{len(list(home.root.glob('copy-*'))):04d}")  # whole or not at all
        os.write(pipe, f"settled {self.files.edge.size}\n".encode())

    Segment.sync, Writer._sign, Derivation.settle = told_sync, told_sign, told_settle  # type: ignore[method-assign]


def load(home: Home, pipe: int, requests: int) -> None:
    tell(home, pipe)
    store = reopen(home)
    requests_ = Requests(store)
    for i in range(requests):
        receipt = patient(requests_.whole)
        os.write(pipe, f"ended {receipt} {store._journal.next_seq - 1}\n".encode())
        if i % 5 == 0:
            os.write(pipe, f"durable {store._writer.durable_seq}\n".encode())
    os.kill(os.getpid(), signal.SIGKILL)


def scramble(path: Path, start: int, chance: random.Random) -> None:
    """Lose what lies beyond ``start``: some pages, all pages, or the end."""
    data = bytearray(path.read_bytes())
    how = chance.choice(["pages", "all", "cut", "tear"])
    for at in range(start, len(data), 1):
        if how == "all" or (how == "pages" and (at // PAGE) % 3 == chance.randrange(3)):
            data[at] = 0
        if how == "tear" and at - start < 3000:
            data[at] = chance.randrange(256)
    if how == "cut" and path.suffix != ".seg":
        del data[chance.randrange(start, len(data) + 1) :]
    path.write_bytes(data)


@pytest.mark.parametrize("seed", range(8))
def test_I7_after_a_power_cut_every_published_checkpoint_still_holds(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    home = make_home(tmp_path / "home")
    lines, status = in_child(lambda pipe: load(home, pipe, chance.choice([3, 40, 300])))
    assert os.WIFSIGNALED(status)
    said = [line.split(" ") for line in lines]
    synced: dict[str, int] = {}
    for words in said:
        if words[0] == "synced":
            synced[words[1]] = int(words[2])
    for path in home.journal.glob("*.seg"):
        scramble(path, synced.get(path.name, PAGE), chance)
    settled = max((int(w[1]) for w in said if w[0] == "settled"), default=0)
    _lose_files(home, settled, chance)
    _lose_tables(home)
    store = reopen(home)
    assert store.flush()
    for words in said:
        if words[0] == "published" and int(words[1]):
            assert root(int(words[1]), store._files.node).hex() == words[2]
    durable = max((int(w[1]) for w in said if w[0] == "durable"), default=0)
    for words in said:
        if words[0] == "ended" and int(words[2]) < durable:
            row = store.database.request(words[1])
            assert row is not None
            assert row.status == "answered"
            assert len(store.database.rows(receipt=words[1])) == 1
    store.close()
    sound(home)


def _lose_files(home: Home, settled: int, chance: random.Random) -> None:
    ends = (home.log / "offsets").read_bytes()
    entries = int.from_bytes(ends[settled * 8 - 8 : settled * 8], "big") if settled else 0
    scramble(home.log / "entries", entries, chance)
    scramble(home.log / "offsets", settled * 8, chance)
    scramble(home.log / "hashes", stored_count(settled) * 32, chance)
    if chance.random() < 0.3 and home.checkpoint.exists():
        home.checkpoint.write_bytes(bytes(chance.choice([0, len(home.checkpoint.read_bytes())])))


def _lose_tables(home: Home) -> None:
    copies = max(home.root.glob("copy-*"), default=None)
    if copies is not None:
        for file in home.root.glob("allod.sqlite*"):
            file.unlink()
        for file in copies.iterdir():
            shutil.copy(file, home.root / file.name)
