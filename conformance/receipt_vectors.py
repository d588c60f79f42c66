"""Hostile inputs for whoever verifies receipts: the file, the COSE statement, the commitments in a leaf."""
# ruff: noqa: E501 (tables: one attack a line)

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import cbor2
import msgspec
from vector_parts import LOG, OTHER_LOG, W1, Tree, Vector

from allod.domain.usage import Usage
from allod.receipts.canonical import canonical
from allod.receipts.checkpoint import sign
from allod.receipts.commitment import commitment, digest
from allod.receipts.cose import transparent_statement
from allod.receipts.file import Part, ReceiptFile, write_file
from allod.receipts.ids import new_id
from allod.receipts.leaves import IntentFacts, TerminalFacts, intent_leaf, terminal_leaf
from allod.receipts.merkle import leaf_hash
from allod.receipts.notes import Signer
from allod.receipts.proof import Proof, parse_proof, write_proof

AT_MS = 1_764_098_101_000
ID = new_id(LOG.key.name, AT_MS, b"0123456789")
TWIN = new_id(LOG.key.name, AT_MS, b"9876543210")
SALT, BODY = b"s" * 32, b'{"messages":[{"role":"user","content":"Caf\xc3\xa9?"}]}'
ANSWER = b'{"choices":[]}'
D = digest(b"law")
INTENT = IntentFacts(
    id=ID,
    at_ms=AT_MS,
    tenant="p_" + "0" * 32,
    app="p_" + "1" * 32,
    surface="chat",
    request=commitment(SALT, BODY),
    classes=("personal", "phi"),
    pack=D,
    fleet=D,
    decision=D,
    plan=("ward-llm",),
    parents=(TWIN,),
)
TERMINAL = TerminalFacts(
    id=ID,
    at_ms=AT_MS + 900,
    status="answered",
    response=commitment(SALT, ANSWER),
    deployment="ward-llm",
    model="caf\u00e9",
    evidence="self-run",
    weights=D,
    usage=Usage(input_tokens=3, output_tokens=4),
    cost_usd=Decimal("0.01"),
    price_digest=D,
    basis="reported",
    attempts=1,
    seq=7,
)


def pair(intent: IntentFacts = INTENT, terminal: TerminalFacts = TERMINAL) -> tuple[bytes, bytes]:
    """Return an intent leaf and its end."""
    written, first = intent_leaf(intent)
    return first, terminal_leaf(written, leaf_hash(first), terminal)


def changed(leaf: bytes, **changes: Any) -> bytes:
    """Return a leaf with fields changed or, with None, left out."""
    said = {**msgspec.json.decode(leaf), **changes}
    return canonical({k: v for k, v in said.items() if v is not None})


def built(
    first: bytes,
    last: bytes | None,
    *,
    order: tuple[int, int] = (1, 3),
    status: str = "answered",
    signer: Signer = LOG,
    name: str = ID,
    extra: bytes | None = None,
) -> bytes:
    """Return the receipt file of two leaves in a log of six."""
    leaves = [b"other %d" % i for i in range(6)]
    leaves[order[0]] = first
    if last is not None:
        leaves[order[1]] = last
    tree = Tree(leaves)
    checkpoint = sign(signer, 6, tree.root(6))

    def part(index: int) -> Part:
        proof = Proof(index=index, hashes=tree.path(index, 6), checkpoint=checkpoint, extra=extra)
        return Part(leaf=leaves[index].decode(), proof=write_proof(proof))

    terminal = None if last is None else part(order[1])
    return write_file(ReceiptFile(id=name, status=status, intent=part(order[0]), terminal=terminal))


FIRST, LAST = pair()
GOOD = built(FIRST, LAST)


def edited(field: str, **changes: Any) -> bytes:
    """Change a leaf inside a good file, and nothing else."""
    file = json.loads(GOOD)
    file[field]["leaf"] = changed(file[field]["leaf"].encode(), **changes).decode()
    return canonical(file)


def receipts() -> list[Vector]:
    """Return receipt files."""

    def one(name: str, data: bytes, attack: str, allows: str, *, ok: bool = False, **more: Any) -> Vector:
        given = {"file": data.decode(), "vkey": LOG.key.vkey(), **more}
        return Vector("receipt", name, "receipt", given, ok, attack, allows)

    opened = {"request": {"body": BODY.decode(), "salt": SALT.hex()}}
    swapped = {"response": {"body": '{"choices":["other"]}', "salt": SALT.hex()}}
    salted = {"response": {"body": ANSWER.decode(), "salt": (b"t" * 32).hex()}}
    decomposed = {"request": {"body": BODY.decode().replace("\u00e9", "e\u0301"), "salt": SALT.hex()}}
    aborted = msgspec.structs.replace(TERMINAL, status="aborted", reason="client-gone")
    refused = TerminalFacts(id=ID, at_ms=AT_MS + 1, status="refused", reason="no-lawful-deployment")
    other_id = changed(LAST, id=TWIN)
    spaced = json.dumps(json.loads(LAST), sort_keys=True).encode()
    twice = LAST.replace(b'"status":"answered"', b'"status":"refused","status":"answered"')
    remote = changed(LAST, evidence="operator-claims")
    floated = LAST.replace(b'"cost_usd":"0.01"', b'"cost_usd":0.01')
    padded = changed(LAST, cost_usd="0.010")
    policy = f"log {LOG.key.vkey()}\nwitness w {W1.key.vkey()}\nquorum w\n"
    return [
        one("receipt_good", GOOD, "nothing", "", ok=True, **opened),
        one("receipt_aborted_stream", built(*pair(terminal=aborted), status="aborted"), "nothing: the client left, and what was delivered is committed to", "", ok=True),
        one("receipt_refused", built(*pair(terminal=refused), status="refused"), "nothing: a request the law forbade has its receipt too", "", ok=True),
        one("receipt_after_salt_erasure", GOOD, "nothing: without the salts the proofs hold and no content can be shown", "", ok=True),
        one("receipt_root_mismatch", GOOD.replace(parse_proof(json.loads(GOOD)["terminal"]["proof"]).checkpoint.split(b"\n")[2], sign(LOG, 6, bytes(32)).split(b"\n")[2]), "the root edited", "any leaf at all"),
        one("receipt_edited_leaf", edited("terminal", deployment="cloud-llm"), "who answered, edited", "data sent abroad and a receipt that says otherwise"),
        one("receipt_swapped_response", GOOD, "another answer shown with the same receipt", "a contested answer replaced", **swapped),
        one("receipt_swapped_salt", GOOD, "the right answer with another salt", "a commitment that opens to anything", **salted),
        one("receipt_unicode_normalisation", GOOD, "the request in another Unicode normal form", "two bodies taken for one", **decomposed),
        one("receipt_id_of_another_request", built(FIRST, other_id), "the end of another request under this intent", "one good end shown for many requests"),
        one("receipt_of_another_request", built(*pair(), name=TWIN), "a whole receipt under another id", "as above"),
        one("receipt_float_cost", built(FIRST, floated), "a cost that is a float", "sums that differ by who adds them"),
        one("receipt_padded_cost", built(FIRST, padded), "0.010 for 0.01", "two leaves of one fact"),
        one("receipt_missing_intent", canonical({**json.loads(GOOD), "intent": None}), "the intent is left out", "a request dispatched before it was recorded"),
        one("receipt_intent_after_its_end", built(FIRST, LAST, order=(3, 1)), "the end stands before the intent", "a record made up afterwards"),
        one("receipt_pending", built(FIRST, None, status="pending"), "the request has not ended", "half a receipt taken for a whole one"),
        one("receipt_status_swapped", GOOD.replace(b'"status":"answered","terminal"', b'"status":"refused","terminal"'), "the file says another status than its leaf", "a refusal that never was"),
        one("receipt_parent_missing", built(FIRST, changed(LAST, parents=None)), "the end does not name the parent its intent names", "a cascade whose first step is hidden"),
        one("receipt_remote_model_claims_a_digest", built(FIRST, remote), "weights named with the evidence of an operator's word", "a marketing name taken for a measured model"),
        one("receipt_not_canonical", built(FIRST, spaced), "the leaf with blanks", "two leaves of one fact"),
        one("receipt_key_twice", built(FIRST, twice), "a key there twice, with two values", "one leaf that says two things to two readers"),
        one("receipt_number_zero", built(FIRST, changed(LAST, seq=0)), "the end has number 0 of its deployment", "a gap hidden by numbers that do not count"),
        one("receipt_extra_in_its_proof", built(FIRST, LAST, extra=b"paid"), "extra data in the proof", "a line nobody signed, believed"),
        one("receipt_of_another_log", built(FIRST, LAST, signer=OTHER_LOG), "signed by another log", "any log at all"),
        one("receipt_without_its_witness", GOOD, "the policy demands a witness that did not cosign", "a fork its own log vouches for", policy=policy),
    ]  # fmt: skip


def statements() -> list[Vector]:
    """Return COSE statements."""
    part = Part(**{k: str(v) for k, v in json.loads(GOOD)["terminal"].items()})
    good = transparent_statement(LOG, part, ID)
    tag = cbor2.loads(good)
    header, outer, leaf, signature = tag.value
    receipt = outer[394][0]
    inner = cbor2.loads(receipt)

    def wrote(*value: Any) -> bytes:
        return cbor2.dumps(cbor2.CBORTag(18, list(value)), canonical=True)

    def signed(protected: dict[int, Any], unprotected: Any, payload: bytes) -> bytes:
        raw = cbor2.dumps(protected, canonical=True)
        sign1 = LOG.raw(cbor2.dumps(["Signature1", raw, b"", payload], canonical=True))
        return wrote(raw, unprotected, payload, sign1)

    said = dict(cbor2.loads(header))
    vds = {**dict(cbor2.loads(inner.value[0])), 395: 2}
    size, index, path = cbor2.loads(inner.value[1][396][-1][0])
    elsewhere = {396: {-1: [cbor2.dumps([size, index - 1, list(path)])]}}
    first = Part(**{k: str(v) for k, v in json.loads(GOOD)["intent"].items()})
    other = cbor2.loads(transparent_statement(LOG, first, ID)).value[1][394][0]

    def one(name: str, data: bytes, attack: str, allows: str, *, ok: bool = False) -> Vector:
        given = {"statement": data.hex(), "vkey": LOG.key.vkey()}
        return Vector("receipt", name, "statement", given, ok, attack, allows)

    return [
        one("statement_good", good, "nothing", "", ok=True),
        one("statement_changed_leaf", wrote(header, outer, changed(leaf, model="other"), signature), "the payload edited", "a receipt edited after the fact"),
        one("statement_leaf_signed_again", signed(said, outer, changed(leaf, model="other")), "another leaf signed by the log's key, with the receipt of the true one", "a leaf the log never held"),
        one("statement_receipt_of_another_leaf", wrote(header, {394: [other]}, leaf, signature), "the receipt of the intent under the end", "as above"),
        one("statement_other_subject", signed({**said, 15: {1: LOG.key.name, 2: TWIN}}, outer, leaf), "another request named as the subject", "one good end shown for many requests"),
        one("statement_without_receipt", wrote(header, {}, leaf, signature), "no receipt", "a signature taken for a place in the log"),
        one("statement_vds_2", wrote(header, {394: [wrote(cbor2.dumps(vds, canonical=True), inner.value[1], None, inner.value[3])]}, leaf, signature), "another kind of tree named", "a proof read by other rules than it was made by"),
        one("statement_alg_es256", wrote(cbor2.dumps({**said, 1: -7}, canonical=True), outer, leaf, signature), "another algorithm named", "a weaker check"),
        one("statement_payload_in_receipt", wrote(header, {394: [wrote(inner.value[0], inner.value[1], bytes(32), inner.value[3])]}, leaf, signature), "a root attached to the receipt", "a root of the sender's choice verified"),
        one("statement_other_index", wrote(header, {394: [wrote(inner.value[0], elsewhere, None, inner.value[3])]}, leaf, signature), "the index of a neighbour", "an order of events that never was"),
        one("statement_trailing_bytes", good + b"\0", "a byte behind the end", "many files of one statement"),
        one("statement_indefinite_length", b"\xd2\x9f" + good[2:] + b"\xff", "an array of indefinite length", "as above"),
        one("statement_of_another_log", transparent_statement(OTHER_LOG, Part(leaf=part.leaf, proof=json.loads(built(FIRST, LAST, signer=OTHER_LOG))["terminal"]["proof"]), ID), "another log's statement of the same leaf", "any log at all"),
    ]  # fmt: skip


def all_vectors() -> list[Vector]:
    """Return every vector of this file."""
    return [*receipts(), *statements()]
