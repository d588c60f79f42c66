from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allod.domain.errors import Invalid
from allod.domain.usage import Usage
from allod.receipts.canonical import canonical
from allod.receipts.checkpoint import sign
from allod.receipts.commitment import commitment, digest
from allod.receipts.file import Part, ReceiptFile, read_file, write_file
from allod.receipts.ids import new_id
from allod.receipts.leaves import IntentFacts, TerminalFacts, intent_leaf, terminal_leaf
from allod.receipts.merkle import Frontier, inclusion, leaf_hash, stored_position
from allod.receipts.notes import Signer
from allod.receipts.proof import Proof, write_proof
from allod.receipts.verify import Opening, verify

ORIGIN = "allod/0123456789abcdef"
SIGNER, OTHER = Signer(ORIGIN, bytes(range(32))), Signer(ORIGIN, bytes(32))
VKEY = SIGNER.key.vkey()
ID = new_id(ORIGIN, 1_764_099_301_005, bytes(10))
D = digest(b"x")
SALT, BODY, ANSWER = b"s" * 32, b'{"q":1}', b'{"a":2}'
INTENT = IntentFacts(
    id=ID,
    at_ms=1_764_099_301_005,
    tenant="p_t",
    app="p_a",
    surface="chat",
    request=commitment(SALT, BODY),
    classes=("personal",),
    pack=D,
    fleet=D,
    decision=D,
)
TERMINAL = TerminalFacts(
    id=ID,
    at_ms=1_764_099_301_905,
    status="answered",
    response=commitment(SALT, ANSWER),
    deployment="ward-llm",
    model="reference",
    engine="llamacpp",
    evidence="self-run",
    weights=D,
    usage=Usage(input_tokens=3, output_tokens=4),
    cost_usd=Decimal("0.01"),
    price_digest=D,
    basis="reported",
    attempts=1,
)


def receipt(
    intent: bytes,
    terminal: bytes | None,
    *,
    status: str = "answered",
    order: tuple[int, int] = (1, 3),
    signer: Signer = SIGNER,
    receipt_id: str = ID,
) -> bytes:
    leaves = [b"other %d" % i for i in range(6)]
    leaves[order[0]] = intent
    if terminal is not None:
        leaves[order[1]] = terminal
    edge, out = Frontier(), list[bytes]()
    for leaf in leaves:
        edge.append(leaf_hash(leaf), out)
    checkpoint = sign(signer, len(leaves), edge.root())

    def part(index: int) -> Part:
        hashes = inclusion(index, len(leaves), lambda level, n: out[stored_position(level, n)])
        return Part(
            leaf=leaves[index].decode(),
            proof=write_proof(Proof(index=index, hashes=hashes, checkpoint=checkpoint)),
        )

    return write_file(
        ReceiptFile(
            id=receipt_id,
            status=status,
            intent=part(order[0]),
            terminal=None if terminal is None else part(order[1]),
        )
    )


def pair(intent: IntentFacts = INTENT, terminal: TerminalFacts = TERMINAL) -> tuple[bytes, bytes]:
    written, first = intent_leaf(intent)
    return first, terminal_leaf(written, leaf_hash(first), terminal)


def changed(leaf: bytes, **changes: object) -> bytes:
    said = {**msgspec.json.decode(leaf), **changes}
    return canonical({k: v for k, v in said.items() if v is not None})


FIRST, LAST = pair()
GOOD = receipt(FIRST, LAST)


def failing(data: bytes, key: str = VKEY, **more: Opening) -> list[int]:
    verification = verify(data, key, **more)
    assert verification.ok == all(s.ok for s in verification.steps)
    assert [s.n for s in verification.steps] == list(range(1, len(verification.steps) + 1))
    return [step.n for step in verification.steps if not step.ok]


def test_a_good_receipt_passes_every_step() -> None:
    verification = verify(
        GOOD, VKEY, request=Opening(body=BODY, salt=SALT), response=Opening(body=ANSWER, salt=SALT)
    )
    assert verification.ok
    assert len(verification.steps) == 10


@settings(max_examples=400)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_I7_no_changed_byte_of_a_receipt_passes(at: int, flip: int) -> None:
    bad = bytearray(GOOD)
    bad[at] ^= flip
    assert failing(bytes(bad))


@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=3))
def test_no_cut_or_grown_receipt_passes(at: int, more: bytes) -> None:
    grown = GOOD[:at] + more + GOOD[at:]
    assert failing(GOOD[:at])
    assert grown == GOOD or failing(grown)


def test_another_key_fails_the_signature_and_what_rests_on_it() -> None:
    assert failing(GOOD, OTHER.key.vkey())[0] == 3


def test_a_log_signed_by_somebody_else_under_our_name_fails() -> None:
    assert 3 in failing(receipt(FIRST, LAST, signer=OTHER))


def test_a_key_of_another_log_fails_from_the_first_step() -> None:
    assert failing(GOOD, Signer("allod/fedcba9876543210", bytes(range(32))).key.vkey())[0] == 1


def test_no_key_is_a_fault_of_the_caller() -> None:
    with pytest.raises(Invalid):
        verify(GOOD, "allod/key")


def test_a_pending_receipt_is_no_proof() -> None:
    data = receipt(FIRST, None, status="pending")
    assert failing(data) == [5, 6, 7, 8]
    assert 5 in failing(receipt(FIRST, None, status="answered"))


def test_the_wrong_body_or_salt_does_not_open() -> None:
    assert failing(GOOD, request=Opening(body=BODY + b" ", salt=SALT)) == [9]
    assert failing(GOOD, request=Opening(body=BODY, salt=bytes(32))) == [9]
    assert failing(GOOD, response=Opening(body=BODY, salt=SALT)) == [9]
    assert failing(GOOD, response=Opening(body=ANSWER, salt=b"")) == [9]


def test_a_swapped_answer_of_another_receipt_fails() -> None:
    other = new_id(ORIGIN, 1_764_099_301_006, bytes(10))
    _, last = pair(msgspec.structs.replace(INTENT, id=other), msgspec.structs.replace(TERMINAL, id=other))
    assert 5 in failing(receipt(FIRST, last))


def test_a_terminal_that_binds_another_intent_or_request_fails() -> None:
    assert 7 in failing(receipt(FIRST, changed(LAST, intent=D)))
    assert 7 in failing(receipt(FIRST, changed(LAST, request=D)))
    assert 7 in failing(receipt(FIRST, changed(LAST, classes=["public"])))


def test_a_terminal_before_its_intent_fails() -> None:
    assert failing(receipt(FIRST, LAST, order=(3, 1))) == [7]


@pytest.mark.parametrize(
    "change",
    [
        {"status": "lost"},
        {"cost_usd": "1e-3"},
        {"cost_usd": "0.010"},
        {"cost_usd": "-1"},
        {"cost_usd": 1},
        {"weights": "gpt-5"},
        {"evidence": "operator-claims"},
        {"evidence": "trust-me"},
        {"attempts": -1},
        {"attempts": True},
        {"tokens": {"input": -1}},
        {"tokens": []},
        {"basis": "guessed"},
        {"deployment": None},
        {"excluded": [["a", [0]]]},
        {"excluded": ["a"]},
        {"rules": "x"},
        {"time": "yesterday"},
        {"pack": "base"},
        {"classes": "phi"},
        {"tenant": None},
    ],
)
def test_ill_formed_contents_fail_even_when_signed(change: dict[str, object]) -> None:
    last = changed(LAST, **change)
    status = str(change.get("status", "answered"))
    assert failing(receipt(FIRST, last, status=status))


def test_a_float_in_a_signed_leaf_fails() -> None:
    assert 5 in failing(receipt(FIRST, LAST.replace(b'"cost_usd":"0.01"', b'"cost_usd":0.01')))


def test_the_status_outside_must_be_the_one_inside() -> None:
    assert 5 in failing(receipt(FIRST, LAST, status="failed"))


def test_extra_data_in_a_receipt_is_refused() -> None:
    file = read_file(GOOD)
    proof = file.intent.proof.replace("\nindex", "\nextra AAAA\nindex", 1)
    bad = msgspec.structs.replace(file, intent=msgspec.structs.replace(file.intent, proof=proof))
    assert 3 in failing(write_file(bad))


@given(st.binary(max_size=200))
def test_any_bytes_are_judged_and_none_pass(data: bytes) -> None:
    assert failing(data)
    assert failing(b'{"id":"' + data)


def test_a_refused_receipt_with_its_rules_passes() -> None:
    facts = TerminalFacts(id=ID, at_ms=INTENT.at_ms, status="refused", reason="law")
    first, last = pair(terminal=facts)
    assert failing(receipt(first, last, status="refused")) == []
