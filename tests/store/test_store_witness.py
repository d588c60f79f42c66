"""A witness keeps its word: on the disk before it answers, one thing at a time; and a store objected to."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest
from store_worlds import Requests, fresh, sound

from allod.domain.errors import Unavailable
from allod.receipts.checkpoint import sign
from allod.receipts.cosignature import Cosigner, cosignatures
from allod.receipts.merkle import Frontier, consistency, leaf_hash, root, stored_position
from allod.receipts.notes import Signer, parse_note
from allod.receipts.witness import AddCheckpoint, write_request
from allod.store import witness_state
from allod.store.witness_state import Answer, WitnessState

LOG = Signer("other.example/log", b"L" * 32)
ME = Cosigner("w.example", "ed25519", b"w" * 32)
OUT: list[bytes] = []
_edge = Frontier()
for _n in range(64):
    _edge.append(leaf_hash(b"%d" % _n), OUT)


def node(level: int, n: int) -> bytes:
    return OUT[stored_position(level, n)]


def body(old: int, new: int) -> bytes:
    proof = consistency(old, new, node) if 0 < old < new else ()
    return write_request(AddCheckpoint(old=old, proof=proof, note=sign(LOG, new, root(new, node))))


def witness(folder: Path) -> WitnessState:
    folder.mkdir(exist_ok=True)
    return WitnessState(folder, {LOG.key.name: (LOG.key,)}, [ME], lambda: 1_764_100_000)


def test_of_many_at_once_each_size_is_cosigned_once_and_it_only_grows(tmp_path: Path) -> None:
    state, answers, start = witness(tmp_path / "w"), list[tuple[int, Answer]](), threading.Barrier(8)
    assert state.add(body(0, 4)).status == 200

    def ask(new: int) -> None:
        start.wait()
        answers.append((new, state.add(body(4, new))))

    threads = [threading.Thread(target=ask, args=(10 + n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [new for new, answer in answers if answer.status == 200]
    assert len(won) == 1
    assert {answer.body for _, answer in answers if answer.status == 409} == {b"%d\n" % won[0]}
    last = witness(tmp_path / "w").last(LOG.key.name)
    assert last is not None
    assert last.size == won[0]


def test_nothing_is_cosigned_that_cannot_be_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = witness(tmp_path / "w")
    assert state.add(body(0, 4)).status == 200

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(witness_state, "write_file", full)
        with pytest.raises(Unavailable):
            state.add(body(4, 9))
    last = state.last(LOG.key.name)
    assert last is not None
    assert last.size == 4
    assert state.add(body(4, 9)).status == 200


def test_an_answer_that_was_lost_on_the_way_can_be_had_again(tmp_path: Path) -> None:
    state = witness(tmp_path / "w")
    state.add(body(0, 20))
    assert state.add(body(0, 20)).body == b"20\n"
    again = state.add(body(20, 20))
    note = sign(LOG, 20, root(20, node))
    (found,) = cosignatures(parse_note(note + again.body), [ME.key])
    assert found.at_s == 1_764_100_000


def test_a_store_that_is_objected_to_takes_nothing_new_and_ends_what_began(tmp_path: Path) -> None:
    home, store = fresh(tmp_path / "home")
    ask = Requests(store)
    begun = ask.begin()
    store.object_to("a witness has seen more")
    assert store.healthy() == "a witness has seen more"
    with pytest.raises(Unavailable, match="cannot take another request") as told:
        ask.begin()
    assert told.value.why == "a witness has seen more"
    ask.end(begun)
    store.object_to(None)
    ask.whole()
    store.close()
    sound(home)
