from __future__ import annotations

import struct
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.domain.errors import Integrity, Unavailable
from allod.domain.usage import LedgerRow, Usage
from allod.receipts.merkle import root, stored_count
from allod.store.database import ledger_tuple
from allod.store.frames import (
    ATTEMPT,
    INTENT,
    NOTICE,
    TERMINAL,
    AttemptFrame,
    Codec,
    IntentFrame,
    NoticeFrame,
    TerminalFrame,
)
from allod.store.journal import HEAD_BYTES, SPARE, USED, Journal, make_segment, read_head
from allod.store.logfiles import LogFiles

ROW = LedgerRow(
    receipt="r",
    attempt=1,
    app="a",
    task=None,
    deployment="d",
    started_at_ms=1,
    status="failed",
    basis="reserved",
    usage=Usage(input_tokens=2**50),
    cost_usd=Decimal("0.000000001"),
    price_digest="p",
)
FRAMES = [
    (INTENT, IntentFrame("r", 1, b"leaf", "a", b"s" * 32, None, "d", b"{}")),
    (ATTEMPT, AttemptFrame("r", 1, "d", None, 2, Decimal("0.10"), 3, "p")),
    (TERMINAL, TerminalFrame("r", 3, b"leaf", "answered", (ledger_tuple(ROW), ledger_tuple(ROW)))),
    (NOTICE, NoticeFrame(b"leaf")),
]


def written(number: int = 7) -> bytes:
    codec = Codec(number)
    return b"".join(codec.write(kind, frame) for kind, frame in FRAMES)


def test_frames_are_read_back() -> None:
    data = written()
    assert Codec(7).read(data + bytes(100), 0) == ([frame for _, frame in FRAMES], len(data))


def test_a_frame_of_another_segment_is_no_frame() -> None:
    assert Codec(8).read(written(7), 0) == ([], 0)


@given(st.integers(0, len(written()) - 1), st.integers(1, 255))
def test_reading_ends_before_a_changed_byte(at: int, flip: int) -> None:
    data = bytearray(written())
    data[at] ^= flip
    read, end = Codec(7).read(bytes(data), 0)
    assert read == [frame for _, frame in FRAMES][: len(read)]
    assert end <= at


@given(st.integers(0, len(written())))
def test_reading_ends_before_a_cut(at: int) -> None:
    read, end = Codec(7).read(written()[:at], 0)
    assert read == [frame for _, frame in FRAMES][: len(read)]
    assert end <= at


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_a_fault(data: bytes) -> None:
    Codec(1).read(data, 0)
    Codec(1).read(struct.pack("<IIB", 2**32 - 1, 0, 1) + data, 0)


def test_the_head_of_a_segment_says_what_it_is(tmp_path: Path) -> None:
    segment = make_segment(tmp_path, 3, 8192)
    assert read_head(segment.path.read_bytes(), segment.path).state == SPARE
    journal = Journal(tmp_path, segment, next_seq=9, leaves=4)
    head = read_head(segment.path.read_bytes(), segment.path)
    assert (head.state, head.number, head.first_seq, head.tree_size) == (USED, 3, 9, 4)
    assert journal.next_seq == 9
    moved = segment.path.rename(tmp_path / "0000000004.seg")
    with pytest.raises(Integrity):
        read_head(moved.read_bytes(), moved)
    segment.close()
    segment.close()


def test_the_journal_moves_on_only_when_the_spare_holds_what_is_reserved(tmp_path: Path) -> None:
    first = make_segment(tmp_path, 1, HEAD_BYTES + 1000)
    journal = Journal(tmp_path, first, next_seq=0, leaves=0)
    turns: list[int] = []
    journal.on_turn = lambda segment: turns.append(segment.number)
    frame = NoticeFrame(b"x" * 300)
    journal.append(NOTICE, frame, more=600)
    with pytest.raises(Unavailable, match="no room") as caught:
        journal.append(NOTICE, frame)
    assert caught.value.kind == "storage"
    assert journal.next_seq == 1
    journal.append(NOTICE, NoticeFrame(b"x" * 500), less=600)  # the room that was held back
    journal.spare = make_segment(tmp_path, 2, HEAD_BYTES + 400)
    with pytest.raises(Unavailable):
        journal.append(NOTICE, frame, more=300)
    assert turns == []
    journal.append(NOTICE, frame)
    assert turns == [2]
    assert journal.current.number == 2
    assert journal.rotate() is None
    journal.current.close()


def test_a_record_too_large_for_any_segment_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path, make_segment(tmp_path, 1, 8192), next_seq=0, leaves=0)
    with pytest.raises(Integrity):
        journal.append(NOTICE, NoticeFrame(bytes(2 << 20)))
    journal.current.close()


@given(st.lists(st.binary(max_size=300), max_size=70), st.integers(0, 70), st.integers(1, 9))
def test_log_files_hold_the_tree_however_it_was_appended(tmp_path_factory, leaves, cut, step) -> None:
    from allod.receipts.merkle import Frontier, leaf_hash

    files = LogFiles(tmp_path_factory.mktemp("log"))
    pairs = [(leaf, leaf_hash(leaf)) for leaf in leaves]
    for at in range(0, len(pairs), step):
        addition = files.addition(pairs[at : at + step])
        files.write(addition)
    size = len(pairs)
    edge = Frontier()
    for _, hashed in pairs:
        edge.append(hashed, [])
    assert files.root() == root(size, files.node) == edge.root()
    assert [files.leaf(i) for i in range(size)] == leaves
    assert files.held() == files.whole() == size
    cut = min(cut, size)
    files.take(cut)
    files.cut()
    assert files.held() == cut
    assert files.sizes()["hashes"] == stored_count(cut) * 32
    for at in range(cut, size):
        files.write(files.addition(pairs[at : at + 1]))
    assert files.root() == edge.root()
    files.rebuild_hashes(size)
    assert root(size, files.node) == edge.root()
    files.close()


def held(path: Path, number: int = 1) -> tuple[list[Any], int]:
    """Return the frames in a segment, and where they end."""
    return Codec(number).read(path.read_bytes(), HEAD_BYTES)


def test_what_is_kept_is_written_with_the_next_frame_or_handed_over_and_never_twice(tmp_path: Path) -> None:
    journal = Journal(tmp_path, make_segment(tmp_path, 1, 1 << 20), next_seq=0, leaves=0)
    path = journal.current.path
    with journal.lock:
        assert [journal.append(kind, frame, keep=True) for kind, frame in FRAMES[:2]] == [0, 1]
        assert held(path) == ([], HEAD_BYTES)
        assert journal.keeps
        assert journal.append(*FRAMES[2]) == 2
        assert len(held(path)[0]) == 3
        assert not journal.keeps
        journal.append(*FRAMES[3], keep=True)
        journal.hand_over()
        journal.hand_over()
    assert held(path) == ([frame for _, frame in FRAMES], journal.current.end)
    journal.current.close()


def test_what_is_kept_stays_in_its_segment_when_the_journal_moves_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path, make_segment(tmp_path, 1, 1 << 20), next_seq=0, leaves=0)
    first = journal.current
    journal.spare = make_segment(tmp_path, 2, 1 << 20)
    with journal.lock:
        journal.append(*FRAMES[0], keep=True)
        assert journal.rotate() is journal.current
        journal.append(*FRAMES[1], keep=True)
        journal.hand_over()
    assert held(first.path)[0] == [FRAMES[0][1]]
    assert held(journal.current.path, 2)[0] == [FRAMES[1][1]]
    first.close()
    journal.current.close()


def test_what_cannot_be_written_is_kept_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, make_segment(tmp_path, 1, 1 << 20), next_seq=0, leaves=0)
    with journal.lock:
        journal.append(*FRAMES[0], keep=True)

        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr("os.pwrite", full)
            with pytest.raises(Unavailable):
                journal.hand_over()
            with pytest.raises(Unavailable):
                journal.append(*FRAMES[1])
        assert journal.next_seq == 1
        assert journal.append(*FRAMES[2]) == 1
    assert held(journal.current.path)[0] == [FRAMES[0][1], FRAMES[2][1]]
    journal.current.close()
