from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.domain.errors import Invalid
from allod.receipts.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency,
    frontier,
    inclusion,
    leaf_hash,
    node_hash,
    root,
    stored_count,
    stored_position,
    verify_consistency,
    verify_inclusion,
)

SIZES = sorted({0, 1, 2, 3, *(2**k + d for k in range(2, 9) for d in (-1, 0, 1))})


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word by word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\1" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(m: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) <= 1:
        return []
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if m < k:
        return [*naive_path(m, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(m - k, leaves[k:]), naive_root(leaves[:k])]


def naive_consistency(m: int, leaves: list[bytes], whole: bool = True) -> list[bytes]:
    if m == len(leaves):
        return [] if whole else [naive_root(leaves)]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if m <= k:
        return [*naive_consistency(m, leaves[:k], whole), naive_root(leaves[k:])]
    return [*naive_consistency(m - k, leaves[k:], False), naive_root(leaves[:k])]


class Tree:
    def __init__(self, size: int) -> None:
        self.leaves = [f"leaf {i}".encode() for i in range(size)]
        self.edge, self.stored = Frontier(), list[bytes]()
        for leaf in self.leaves:
            self.edge.append(leaf_hash(leaf), self.stored)

    def nodes(self, level: int, n: int) -> bytes:
        return self.stored[stored_position(level, n)]


BIG = Tree(500)


@pytest.mark.parametrize("size", SIZES)
def test_root_and_every_stored_node_equal_the_naive_tree(size: int) -> None:
    tree = Tree(size)
    assert tree.edge.root() == root(size, tree.nodes) == naive_root(tree.leaves)
    assert len(tree.stored) == stored_count(size)
    assert frontier(size, tree.nodes).peaks == tree.edge.peaks
    for level in range(size.bit_length()):
        for n in range(size >> level):
            assert tree.nodes(level, n) == naive_root(tree.leaves[n << level : (n + 1) << level])
    assert root(size, BIG.nodes) == naive_root(BIG.leaves[:size])


@pytest.mark.parametrize("size", [s for s in SIZES if s])
def test_inclusion_proofs_equal_the_naive_ones_and_verify(size: int) -> None:
    leaves, head = BIG.leaves[:size], root(size, BIG.nodes)
    for index in {0, 1, size // 3, size // 2, size - 2, size - 1} & set(range(size)):
        proof = inclusion(index, size, BIG.nodes)
        assert list(proof) == naive_path(index, leaves)
        assert verify_inclusion(leaf_hash(leaves[index]), index, size, proof, head)


@pytest.mark.parametrize("new", [s for s in SIZES if s])
def test_consistency_proofs_equal_the_naive_ones_and_verify(new: int) -> None:
    head = root(new, BIG.nodes)
    for old in [s for s in SIZES if 0 < s <= new]:
        proof = consistency(old, new, BIG.nodes)
        assert list(proof) == naive_consistency(old, BIG.leaves[:new])
        assert verify_consistency(old, new, root(old, BIG.nodes), head, proof)


@given(st.integers(1, 500), st.data())
def test_no_other_leaf_index_size_or_path_verifies(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    head, proof = root(size, BIG.nodes), inclusion(index, size, BIG.nodes)
    leaf = leaf_hash(BIG.leaves[index])
    other = data.draw(st.integers(0, size - 1).filter(lambda i: i != index) if size > 1 else st.just(index))
    if other != index:
        assert not verify_inclusion(leaf, other, size, proof, head)
        assert not verify_inclusion(leaf_hash(BIG.leaves[other]), index, size, proof, head)
    assert not verify_inclusion(leaf, index, size, (*proof, bytes(32)), head)
    assert not verify_inclusion(leaf, index, size, proof, bytes(32))
    assert not verify_inclusion(leaf, size, size, proof, head)
    assert not verify_inclusion(leaf, -1, size, proof, head)
    if proof:
        assert not verify_inclusion(leaf, index, size, proof[:-1], head)
        i = data.draw(st.integers(0, len(proof) - 1))
        bad = (*proof[:i], bytes(32), *proof[i + 1 :])
        assert not verify_inclusion(leaf, index, size, bad, head)


@given(st.integers(1, 500), st.integers(1, 500), st.data())
def test_no_other_consistency_verifies(a: int, b: int, data: st.DataObject) -> None:
    old, new = sorted((a, b))
    proof, first, last = consistency(old, new, BIG.nodes), root(old, BIG.nodes), root(new, BIG.nodes)
    assert not verify_consistency(old, new, bytes(32), last, proof)
    assert not verify_consistency(old, new, first, bytes(32), proof)
    assert not verify_consistency(new + 1, new, first, last, proof)
    assert not verify_consistency(old, new, first, last, (*proof, bytes(32)))
    if proof:
        assert not verify_consistency(old, new, first, last, proof[:-1])
        i = data.draw(st.integers(0, len(proof) - 1))
        assert not verify_consistency(old, new, first, last, (*proof[:i], bytes(32), *proof[i + 1 :]))


def test_the_empty_tree_is_consistent_with_all_and_only_by_its_own_root() -> None:
    last = root(7, BIG.nodes)
    assert verify_consistency(0, 7, EMPTY_ROOT, last, ())
    assert not verify_consistency(0, 7, bytes(32), last, ())
    assert not verify_consistency(0, 7, EMPTY_ROOT, last, (bytes(32),))
    assert not verify_inclusion(leaf_hash(b""), 0, 0, (), EMPTY_ROOT)


def test_a_leaf_of_64_bytes_is_no_node() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != node_hash(left, right)


def test_a_proof_of_more_than_64_hashes_verifies_nothing() -> None:
    assert not verify_inclusion(leaf_hash(b"leaf 0"), 0, 2, [bytes(32)] * 70, root(2, BIG.nodes))
    assert not verify_inclusion(leaf_hash(b"leaf 0"), 0, 2, [bytes(31)], root(2, BIG.nodes))


def test_there_is_no_proof_for_what_is_not_there() -> None:
    with pytest.raises(Invalid):
        inclusion(3, 3, BIG.nodes)
    for old, new in ((0, 3), (4, 3)):
        with pytest.raises(Invalid):
            consistency(old, new, BIG.nodes)
    with pytest.raises(Invalid):
        Frontier(3, [bytes(32)])
