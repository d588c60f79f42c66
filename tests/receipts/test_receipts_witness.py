"""Cosignatures, witnesses, policies and COSE as functions: what anybody may send, and what comes of it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allod.domain.errors import Integrity, Invalid
from allod.receipts.checkpoint import sign
from allod.receipts.cose import verify_statement
from allod.receipts.cosignature import (
    Cosigner,
    cosignatures,
    parse_cosigner_key,
    parse_cosigner_skey,
    with_lines,
)
from allod.receipts.merkle import Frontier, consistency, leaf_hash, root, stored_position
from allod.receipts.notes import Signer, parse_note
from allod.receipts.rotation import follow
from allod.receipts.tlog_policy import Witness, k_of_n, parse_policy, write_policy
from allod.receipts.witness import AddCheckpoint, judge, parse_request, write_request

LOG = Signer("allod/0123456789abcdef", b"L" * 32)
ED = Cosigner("a.example", "ed25519", b"a" * 32)
PQ = Cosigner("b.example", "ml-dsa-44", b"b" * 32)
OUT: list[bytes] = []
_edge = Frontier()
for _n in range(40):
    _edge.append(leaf_hash(b"%d" % _n), OUT)
NOTE = sign(LOG, 40, root(40, lambda level, n: OUT[stored_position(level, n)]))
TEXT = parse_note(NOTE).text
VECTORS = Path(__file__).parents[2] / "conformance/vectors"


def node(level: int, n: int) -> bytes:
    return OUT[stored_position(level, n)]


@pytest.mark.parametrize("who", [ED, PQ])
def test_a_cosignature_is_of_its_text_time_and_key(who: Cosigner) -> None:
    note = with_lines(NOTE, who.line(TEXT, 1_764_100_000))
    (found,) = cosignatures(parse_note(note), [who.key])
    assert (found.key, found.at_s) == (who.key, 1_764_100_000)
    assert cosignatures(parse_note(note), []) == ()
    for at in range(len(NOTE) + 20, len(note) - 2, max(1, len(note) // 60)):
        bent = bytearray(note)
        bent[at] ^= 1
        try:
            assert cosignatures(parse_note(bytes(bent)), [who.key]) == ()
        except Integrity:
            continue
    assert parse_cosigner_key(who.key.vkey()) == who.key
    assert parse_cosigner_skey(who.skey()).key == who.key
    with pytest.raises(Integrity):
        parse_cosigner_skey(who.skey()[:-5] + "AAAA=")


def test_the_published_example_has_the_layout_we_write() -> None:
    """The Ed25519 line of C2SP tlog-cosignature's own example; its key is not published with it."""
    line = (
        "\u2014 witness.example.com/w1 "
        "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA=="
    )
    data = base64.b64decode(line.split(" ")[2])
    ours = base64.b64decode(ED.line(TEXT, 1_679_315_147).split(" ")[2])
    assert (len(ours), ours[4:12]) == (len(data), data[4:12])
    assert (len(data), int.from_bytes(data[4:12], "big")) == (4 + 8 + 64, 1_679_315_147)


def test_extension_lines_are_cosigned_for_others_and_written_by_nobody_here() -> None:
    more = LOG.sign(TEXT + "extension line\n")
    verdict = judge(AddCheckpoint(old=0, proof=(), note=more), {LOG.key.name: (LOG.key,)}, None)
    assert verdict.status == 200
    line = ED.line(verdict.text, 5)
    assert cosignatures(parse_note(with_lines(more, line)), [ED.key])[0].at_s == 5


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.data())
def test_a_witness_never_goes_back_nor_to_another_history(sizes: list[int], data: st.DataObject) -> None:
    logs, last, top = {LOG.key.name: (LOG.key,)}, None, 0
    for size in sizes:
        old = data.draw(st.sampled_from([top, 0, size]))
        proof = consistency(old, size, node) if 0 < old < size else ()
        request = AddCheckpoint(old=old, proof=proof, note=sign(LOG, size, root(size, node)))
        verdict = judge(parse_request(write_request(request)), logs, last)
        if verdict.accepted is not None:
            assert size >= top
            assert old == top
            last, top = verdict.accepted, size
        else:
            assert verdict.status in {400, 409, 422}
            assert verdict.size in {None, top}


@settings(max_examples=200)
@given(st.binary(max_size=400) | st.text(max_size=300).map(lambda t: t.encode("utf-8", "replace")))
def test_whatever_is_sent_is_read_or_refused(data: bytes) -> None:
    for read in (
        parse_request,
        parse_policy,
        lambda d: verify_statement(d, LOG.key),
        lambda d: follow(LOG.key, [d]),
        lambda d: parse_policy(b"quorum none\n" + d),
        lambda d: parse_request(b"old 0\n\n" + NOTE + d),
        lambda d: judge(AddCheckpoint(old=0, proof=(), note=NOTE + d), {LOG.key.name: (LOG.key,)}, None),
    ):
        try:
            read(data)
        except (Integrity, Invalid):
            continue


@settings(max_examples=150)
@given(st.data())
def test_a_statement_bent_anywhere_is_refused_but_for_the_size_nothing_signs(data: st.DataObject) -> None:
    whole = bytes.fromhex(
        json.loads((VECTORS / "receipt/statement_good.json").read_text())["given"]["statement"]
    )
    good = verify_statement(whole, LOG.key)
    bent = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        bent[data.draw(st.integers(0, len(bent) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        said = verify_statement(bytes(bent), LOG.key)
    except Integrity:
        return
    assert (said.leaf, said.index, said.root) == (good.leaf, good.index, good.root)


@given(st.integers(0, 3), st.sets(st.integers(0, 2)))
def test_k_of_n_counts_keys(k: int, who: set[int]) -> None:
    cosigners = [ED, PQ, Cosigner("c.example", "ed25519", b"c" * 32)]
    known = [Witness(name=f"w{i}", key=c.key, url="https://w.example") for i, c in enumerate(cosigners)]
    policy = k_of_n(known, k, [LOG.key])
    assert parse_policy(write_policy(policy).encode()) == policy
    note = with_lines(NOTE, "".join(cosigners[i].line(TEXT, 9) for i in sorted(who)))
    if len(who) >= k:
        assert len(policy.open(note).cosigned) == len(who)
    else:
        with pytest.raises(Integrity, match="too few"):
            policy.open(note)


def test_groups_of_groups_are_met_as_written() -> None:
    c = [Cosigner(f"{n}.example", "ed25519", bytes([n]) * 32) for n in range(5)]
    lines = [f"witness W{n} {one.key.vkey()}" for n, one in enumerate(c)]
    text = "\n".join(
        [f"log {LOG.key.vkey()} https://log.example", *lines, "  # a comment", "group X 2 W0 W1 W2",
         "group Y any W3 W4", "group all all X Y", "quorum all", ""]
    )  # fmt: skip
    policy = parse_policy(text.encode())
    for who, enough in (((0, 1, 3), True), ((0, 3, 4), False), ((0, 1, 2), False), ((1, 2, 4), True)):
        note = with_lines(NOTE, "".join(c[n].line(TEXT, 1) for n in who))
        assert policy.met(policy.known(note)) == enough
