"""Hostile receipts that speak of other receipts: parents, steps of a cascade, answers given again."""
# ruff: noqa: E501 (tables: one attack a line)

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
from receipt_vectors import AT_MS, INTENT, SALT, TERMINAL, changed, pair
from vector_parts import LOG, OTHER_LOG, Tree, Vector

from allod.receipts.checkpoint import sign
from allod.receipts.commitment import commitment, digest
from allod.receipts.file import Part, ReceiptFile, write_file
from allod.receipts.ids import new_id
from allod.receipts.proof import Proof, write_proof

NAMES = [new_id(LOG.key.name, AT_MS + n, b"lineage..%d" % n) for n in range(6)]
WHOLE, BASE, STRONG, FIRST, AGAIN, STRANGER = NAMES
FOREIGN = new_id(OTHER_LOG.key.name, AT_MS, b"elsewhere.")
ANSWER = b'{"choices":[{"message":{"content":"yes"}}]}'
Leaves = tuple[bytes, bytes]


def receipt(name: str, parents: tuple[str, ...] = (), *, step: str | None = None, **ended: Any) -> Leaves:
    """Return both leaves of a request of this log, or of a step of its first parent."""
    begun = msgspec.structs.replace(INTENT, id=name, parents=parents, step=step)
    facts = {"response": commitment(SALT, ANSWER), **ended}
    return pair(begun, msgspec.structs.replace(TERMINAL, id=name, **facts))


def files(*receipts: Leaves) -> list[bytes]:
    """Return the receipt files of requests that stand in one log, intents and ends in turn."""
    tree = Tree([leaf for both in receipts for leaf in both])
    size = len(tree.leaves)
    checkpoint = sign(LOG, size, tree.root(size))

    def part(index: int) -> Part:
        proof = Proof(index=index, hashes=tree.path(index, size), checkpoint=checkpoint)
        return Part(leaf=tree.leaves[index].decode(), proof=write_proof(proof))

    out = []
    for n, (_, end) in enumerate(receipts):
        said = msgspec.json.decode(end)
        file = ReceiptFile(id=said["id"], status=said["status"], intent=part(2 * n), terminal=part(2 * n + 1))
        out.append(write_file(file))
    return out


NOTHING_TRIED: dict[str, Any] = {
    "attempts": 0,
    "seq": None,
    "basis": None,
    "usage": None,
    "price_digest": None,
    "cost_usd": Decimal(0),
}
STEPS = ((BASE, "base", "failed", "0.001"), (STRONG, "escalation", "answered", "0.02"))
BASE_STEP = receipt(
    BASE, (WHOLE,), status="failed", response=None, reason="failed", cost_usd=Decimal("0.001"), seq=1
)
STRONG_STEP = receipt(STRONG, (WHOLE,), cost_usd=Decimal("0.02"), seq=2)
CASCADE = receipt(WHOLE, **NOTHING_TRIED, steps=STEPS, answer_from=STRONG, total_usd=Decimal("0.021"))
KEPT = receipt(FIRST, seq=3)
HIT = receipt(AGAIN, (FIRST,), **NOTHING_TRIED, answer_from=FIRST)


def edited(both: Leaves, **changes: Any) -> Leaves:
    """Return a receipt whose end says something else."""
    return both[0], changed(both[1], **changes)


def singles() -> list[Vector]:
    """Return receipts that are wrong by themselves."""

    def one(name: str, both: Leaves, attack: str, allows: str, *, ok: bool = False) -> Vector:
        (data,) = files(both)
        given = {"file": data.decode(), "vkey": LOG.key.vkey()}
        return Vector("receipt", f"receipt_{name}", "receipt", given, ok, attack, allows)

    return [
        one("cache_hit", HIT, "nothing: an answer given again, with its own receipt and no cost", "", ok=True),
        one("cascade", CASCADE, "nothing: a request answered in two steps", "", ok=True),
        one("cache_hit_with_attempts", edited(HIT, attempts=1), "an answer given again that claims an attempt", "an attempt billed that never was"),
        one("cache_hit_with_a_cost", edited(HIT, cost_usd="0.01"), "an answer given again that costs", "one answer paid for twice"),
        one("cache_hit_with_a_number", edited(HIT, seq=4), "an answer given again with a number of its deployment", "a dropped answer's number filled"),
        one("cache_hit_from_nowhere", edited(HIT, answer_from=STRANGER), "an answer from a receipt that is no parent", "an answer made up and called an old one"),
        one("parent_of_another_log", receipt(STRANGER, (FOREIGN,)), "a parent of another log", "a history nobody here can check"),
        one("its_own_parent", receipt(STRANGER, (STRANGER,)), "itself as a parent", "a circle taken for a history"),
        one("step_of_nothing", receipt(STRANGER, (), step="base"), "a step that names no request", "an answer dropped, and nothing to show what it was for"),
        one("step_put_on_later", edited(STRONG_STEP, step="audit"), "an end that calls itself a step, and whose beginning does not", "a request counted as part of another"),
        one("cascade_total_edited", edited(CASCADE, total_usd="0.02"), "a total that leaves a step out", "the price of a failed step hidden"),
        one("cascade_answer_of_a_failed_step", edited(CASCADE, answer_from=BASE), "the answer of a step that failed", "a broken answer shown as whole"),
        one("cascade_step_twice", edited(CASCADE, steps=[list(STEPS[1]), list(STEPS[1])], total_usd="0.04"), "one step listed twice", "one answer paid for twice"),
    ]  # fmt: skip


def families() -> list[Vector]:
    """Return folders of receipts that verify each, and are wrong together."""

    def one(name: str, given: list[bytes], attack: str, allows: str, *, ok: bool = False) -> Vector:
        said = {"files": [data.decode() for data in given], "vkey": LOG.key.vkey()}
        return Vector("receipt", f"family_{name}", "family", said, ok, attack, allows)

    whole = files(CASCADE, BASE_STEP, STRONG_STEP)
    dearer = receipt(
        BASE, (WHOLE,), status="failed", response=None, reason="failed", cost_usd=Decimal("0.5"), seq=1
    )
    failed: dict[str, Any] = {"status": "failed", "response": None, "reason": "failed"}
    base = receipt(BASE, (WHOLE,), step="base", cost_usd=Decimal("0.001"), seq=1, **failed)
    swapped = receipt(BASE, (WHOLE,), step="agreement", cost_usd=Decimal("0.001"), seq=1, **failed)
    unlisted = receipt(STRANGER, (WHOLE,), step="agreement", cost_usd=Decimal("0.001"), seq=3)
    orphan = receipt(STRONG, (), cost_usd=Decimal("0.02"), seq=2)
    heavier = receipt(FIRST, seq=3, weights=digest(b"other weights"))
    stranger = receipt(FIRST, seq=3, deployment="cloud-llm")
    first = receipt(STRANGER, seq=4)
    second = receipt(STRANGER, seq=4, response=commitment(SALT, b'{"choices":[]}'))
    return [
        one("cascade", whole, "nothing: a request and its steps", "", ok=True),
        one("cascade_with_roles", files(CASCADE, base, STRONG_STEP), "nothing: a step that says what it was for", "", ok=True),
        one("cascade_step_of_another_role", files(CASCADE, swapped, STRONG_STEP), "a step that says it was for something else", "an audit shown as the answer's own check"),
        one("cascade_step_unlisted", files(CASCADE, base, STRONG_STEP, unlisted), "a step its request does not list", "a price hidden, and an answer that was dropped"),
        one("cache_hit", files(KEPT, HIT), "nothing: an answer and its repetition", "", ok=True),
        one("cascade_parent_missing", whole[1:], "the request its steps name is left out", "a check shown without what it was about"),
        one("cascade_step_missing", [whole[0], whole[2]], "the step that failed is left out", "a failure hidden"),
        one("cascade_step_dearer", files(CASCADE, dearer, STRONG_STEP), "a step that cost more than its request says", "a price hidden"),
        one("cascade_step_of_nobody", files(CASCADE, BASE_STEP, orphan), "a listed step that names no parent", "another request's answer shown as a step"),
        one("cache_hit_of_other_weights", files(heavier, HIT), "an answer given again under other weights", "a model claimed that did not answer"),
        one("cache_hit_of_another_deployment", files(stranger, HIT), "an answer given again under another deployment's name", "data sent abroad and a receipt that says otherwise"),
        one("cache_hit_origin_missing", files(HIT), "the receipt an answer is from is left out", "an answer made up and called an old one"),
        one("same_request_id_twice", files(first, second), "two ends of one request id, both in the log", "an answer shown to one, another to the next"),
    ]  # fmt: skip


def all_vectors() -> list[Vector]:
    """Return every vector of this file."""
    return [*singles(), *families()]
