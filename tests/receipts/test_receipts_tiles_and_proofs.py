from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.domain.errors import Integrity, Invalid
from allod.receipts.checkpoint import sign
from allod.receipts.merkle import Frontier, leaf_hash
from allod.receipts.notes import Signer, b64
from allod.receipts.proof import Proof, parse_proof, verify_proof, write_proof
from allod.receipts.tiles import Tile, bundle, parse_bundle, parse_tile_path, tile_path

SIGNER = Signer("allod/0123456789abcdef", bytes(range(32)))
EDGE, OUT = Frontier(), list[bytes]()
for _leaf in (b"a", b"b", b"c"):
    EDGE.append(leaf_hash(_leaf), OUT)
CHECKPOINT = sign(SIGNER, 3, EDGE.root())
PROOF = Proof(index=0, hashes=(leaf_hash(b"b"), leaf_hash(b"c")), checkpoint=CHECKPOINT)


def test_the_example_of_the_specification() -> None:
    assert tile_path(Tile(level=0, n=1234067)) == "tile/0/x001/x234/067"
    assert tile_path(Tile(level=None, n=67, width=112)) == "tile/entries/067.p/112"


@given(st.none() | st.integers(0, 63), st.integers(0, 10**15 - 1), st.integers(1, 256))
def test_a_tile_path_is_read_back(level: int | None, n: int, width: int) -> None:
    tile = Tile(level=level, n=n, width=width)
    assert parse_tile_path(tile_path(tile)) == tile


@pytest.mark.parametrize(
    "path",
    [
        "tile/64/000",
        "tile/00/000",
        "tile/-1/000",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/999",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/data/000",
        "tile/0/../000",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/x001/x234/067\n",
        "tile/0/" + "x001/" * 9 + "000",
        "tile/0/\u0660\u0660\u0660",
        "",
    ],
)
def test_any_other_path_is_no_tile(path: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_tile_path(path)
    assert caught.value.kind == "model"


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_bundle_is_read_back_and_a_cut_one_refused(entries: list[bytes]) -> None:
    data = bundle(entries)
    assert parse_bundle(data) == tuple(entries)
    if entries:
        with pytest.raises(Integrity):
            parse_bundle(data[:-1])


def test_an_entry_of_65536_bytes_does_not_fit() -> None:
    assert len(bundle([bytes(65_535)])) == 65_537
    with pytest.raises(Invalid):
        bundle([bytes(65_536)])


def test_a_proof_is_written_as_the_specification_shows_it() -> None:
    lines = write_proof(PROOF).split("\n")
    assert lines[:5] == ["c2sp.org/tlog-proof@v1", "index 0", b64(leaf_hash(b"b")), b64(leaf_hash(b"c")), ""]
    assert "\n".join(lines[5:]).encode() == CHECKPOINT
    verify_proof(parse_proof(write_proof(PROOF)), leaf_hash(b"a"), SIGNER.key)


def test_extra_data_is_carried_but_changes_nothing() -> None:
    proof = Proof(index=0, hashes=PROOF.hashes, checkpoint=CHECKPOINT, extra=b"believe me")
    read = parse_proof(write_proof(proof))
    assert read == proof
    verify_proof(read, leaf_hash(b"a"), SIGNER.key)
    with pytest.raises(Integrity):
        verify_proof(read, leaf_hash(b"believe me"), SIGNER.key)


def test_a_proof_of_the_only_leaf_has_no_hashes() -> None:
    edge = Frontier()
    edge.append(leaf_hash(b"a"), [])
    proof = Proof(index=0, hashes=(), checkpoint=sign(SIGNER, 1, edge.root()))
    assert parse_proof(write_proof(proof)) == proof
    verify_proof(proof, leaf_hash(b"a"), SIGNER.key)


TEXT = write_proof(PROOF)


@pytest.mark.parametrize(
    "text",
    [
        "",
        TEXT.replace("@v1", "@v2"),
        TEXT.replace("index 0", "index 00"),
        TEXT.replace("index 0", "index -1"),
        TEXT.replace("index 0", "Index 0"),
        TEXT.replace("index 0\n", ""),
        TEXT.replace("\n\n", "\n"),
        TEXT.replace("index 0", "extra !\nindex 0"),
        TEXT.replace("index 0", "index 0\n" + b64(bytes(31))),
        TEXT.replace("=\n\n", "\n\n"),
        " " + TEXT,
        TEXT.replace("index 0", "index 0\n" + "\n".join([b64(bytes(32))] * 62)),
        TEXT.replace("index 0", "index 0\nextra " + b64(b"x")),
    ],
)
def test_a_broken_proof_is_refused(text: str) -> None:
    with pytest.raises(Integrity):
        verify_proof(parse_proof(text), leaf_hash(b"a"), SIGNER.key)


@given(st.integers(0, len(TEXT.encode()) - 1), st.integers(1, 127))
def test_no_changed_byte_of_a_proof_verifies(at: int, flip: int) -> None:
    bad = bytearray(TEXT.encode())
    bad[at] ^= flip
    with pytest.raises((Integrity, UnicodeDecodeError)):
        verify_proof(parse_proof(bad.decode()), leaf_hash(b"a"), SIGNER.key)
