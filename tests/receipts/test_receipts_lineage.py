"""What receipts say of each other: parents, steps, answers given again, numbers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.domain.errors import Integrity
from allod.domain.money import plain
from allod.receipts.commitment import digest
from allod.receipts.ids import new_id
from allod.receipts.leaves import MAX_LEAF_BYTES, IntentFacts, TerminalFacts, intent_leaf, terminal_leaf
from allod.receipts.lineage import check_lineage, family

ORIGIN = "allod/0123456789abcdef"
D = digest(b"something")
A, B, C, E = (new_id(ORIGIN, 1_764_098_101_000, bytes([n]) * 10) for n in range(4))
OTHER = new_id("allod/fedcba9876543210", 1_764_098_101_000, bytes(10))
BASE = {"id": A, "status": "answered", "attempts": 0, "cost_usd": "0", "app": "p", "deployment": "ward-llm"}
STEPS = [[B, "base", "failed", "0.001"], [C, "escalation", "answered", "0.02"]]
CASCADE = {**BASE, "steps": STEPS, "answer_from": C, "total_usd": "0.021"}
HIT = {**BASE, "parents": [B], "answer_from": B}


@pytest.mark.parametrize(
    "leaf", [BASE, CASCADE, HIT, {**BASE, "parents": [B, C]}, {**CASCADE, "parents": [E]}]
)
def test_what_hangs_together_is_taken(leaf: dict[str, Any]) -> None:
    check_lineage(leaf)


BAD: dict[str, dict[str, Any]] = {
    "a parent of another log": {**BASE, "parents": [OTHER]},
    "its own parent": {**BASE, "parents": [A]},
    "a parent that is no receipt": {**BASE, "parents": ["latest"]},
    "parents that are no list": {**BASE, "parents": B},
    "parents that are no texts": {**BASE, "parents": [7]},
    "an answer from nowhere": {**BASE, "answer_from": B},
    "an answer of a step that failed": {**CASCADE, "answer_from": B},
    "an answer of a parent where there are steps": {**CASCADE, "parents": [E], "answer_from": E},
    "attempts of its own beside": {**HIT, "attempts": 1},
    "a number beside": {**HIT, "seq": 4},
    "a cost beside": {**HIT, "cost_usd": "0.01"},
    "steps that are no list": {**CASCADE, "steps": {}},
    "a step twice": {**CASCADE, "steps": [STEPS[1], STEPS[1]]},
    "itself as a step": {**CASCADE, "steps": [[A, "base", "answered", "0.02"], STEPS[1]]},
    "a step of another log": {**CASCADE, "steps": [[OTHER, "base", "answered", "0.001"], STEPS[1]]},
    "a step without a role": {**CASCADE, "steps": [[B, "", "failed", "0.001"], STEPS[1]]},
    "a step with a float": {**CASCADE, "steps": [[B, "base", "failed", 0.001], STEPS[1]]},
    "a step with a padded cost": {**CASCADE, "steps": [[B, "base", "failed", "0.0010"], STEPS[1]]},
    "a step pending": {**CASCADE, "steps": [[B, "base", "pending", "0.001"], STEPS[1]]},
    "a total that does not add up": {**CASCADE, "total_usd": "0.02"},
    "a total that is missing": {k: v for k, v in CASCADE.items() if k != "total_usd"},
    "a total without steps": {**BASE, "total_usd": "0"},
    "a total that is a float": {**CASCADE, "total_usd": 0.021},
    "a digest of steps in the middle": {**CASCADE, "steps": [STEPS[0], [D, "", "", ""], STEPS[1]]},
}


@pytest.mark.parametrize("name", BAD)
def test_refused(name: str) -> None:
    with pytest.raises(Integrity):
        check_lineage(BAD[name])


def of(name: str, **more: Any) -> dict[str, Any]:
    return {**BASE, "id": name, "attempts": 1, "cost_usd": "0.02", **more}


def test_a_family_is_whole_and_what_is_missing_is_named() -> None:
    step_b = of(B, status="failed", cost_usd="0.001", parents=[A], seq=1)
    step_c = of(C, parents=[A, B], seq=2)
    whole = family([CASCADE, step_b, step_c])
    assert not whole.findings
    assert not whole.missing
    assert not whole.gaps
    assert family([CASCADE, step_c]).missing == (B,)
    assert family([step_c]).missing == tuple(sorted((A, B)))
    assert family([HIT]).missing == (B,)
    assert family([CASCADE, CASCADE, step_b, step_c]) == whole


@pytest.mark.parametrize(
    ("leaves", "what"),
    [
        ([CASCADE, of(C, parents=[E])], "does not name its request"),
        ([CASCADE, of(C, parents=[A], cost_usd="0.03")], "ended otherwise"),
        ([CASCADE, of(C, parents=[A], status="failed")], "ended otherwise"),
        ([CASCADE, of(C, parents=[A], deployment="another")], "deployment is not that of"),
        ([HIT, of(B, weights=D, evidence="self-run")], "weights is not that of"),
        ([HIT, of(B, status="aborted")], "which has none"),
        ([HIT, of(B, app="q")], "of another app"),
        ([of(B), of(B, cost_usd="0.03")], "two ends"),
    ],
)
def test_what_receipts_say_of_each_other_wrongly_is_found(leaves: list[dict[str, Any]], what: str) -> None:
    assert any(what in one.what for one in family(leaves).findings), family(leaves)


def test_a_number_left_out_shows_as_a_gap() -> None:
    given_ = [of(name, seq=n) for name, n in ((A, 1), (B, 2), (C, 5))]
    assert family(given_).gaps == {"ward-llm": ((3, 4),)}
    assert family(given_[:2]).gaps == {}


@given(st.sets(st.integers(1, 40), max_size=20))
def test_gaps_are_exactly_what_is_not_there(numbers: set[int]) -> None:
    leaves = [of(new_id(ORIGIN, n, bytes(10)), seq=n) for n in numbers]
    gaps = {n for a, b in family(leaves).gaps.get("ward-llm", ()) for n in range(a, b + 1)}
    assert gaps == set(range(min(numbers, default=1), max(numbers, default=0) + 1)) - numbers


INTENT = IntentFacts(
    id=A,
    at_ms=1_764_098_101_000,
    tenant="p_" + "0" * 32,
    app="p_" + "1" * 32,
    surface="chat",
    request=D,
    classes=("phi",),
    pack=D,
    fleet=D,
    decision=D,
)
ids = st.lists(st.sampled_from([new_id(ORIGIN, 9, bytes([n]) * 10) for n in range(9, 17)]), unique=True)
costs = st.decimals(0, 1000, places=9).map(lambda d: d + 0)


@given(
    parents=ids,
    steps=ids,
    cost=st.lists(costs, min_size=8, max_size=8),
    answered=st.booleans(),
    reason=st.text(max_size=3000),
)
def test_leaves_as_written_hang_together_and_stay_under_4_kb(
    parents: list[str], steps: list[str], cost: list[Decimal], answered: bool, reason: str
) -> None:
    rows = tuple((name, "base", "answered", plain(c)) for name, c in zip(steps, cost, strict=False))
    origin = steps[-1] if steps and answered else parents[0] if parents and answered and not steps else None
    written, _ = intent_leaf(msgspec.structs.replace(INTENT, parents=tuple(parents)))
    facts = TerminalFacts(
        id=A,
        at_ms=INTENT.at_ms,
        status="answered" if origin else "failed",
        detail=reason,
        deployment="ward-llm" if origin else None,
        evidence="simulated" if origin else None,
        cost_usd=Decimal(0),
        answer_from=origin,
        steps=rows,
        total_usd=sum((Decimal(row[3]) for row in rows), Decimal(0)) if rows else None,
    )
    leaf = terminal_leaf(written, bytes(32), facts)
    assert len(leaf) <= MAX_LEAF_BYTES
    said = msgspec.json.decode(leaf)
    check_lineage(said)
    assert said.get("parents", []) == parents
    assert [row[0] for row in said.get("steps", [])] == steps


def test_a_leaf_too_long_for_its_steps_says_so_by_a_digest() -> None:
    rows = tuple((new_id(ORIGIN, n, bytes(10)), "base", "answered", "0.1") for n in range(40))
    facts = TerminalFacts(
        id=A, at_ms=INTENT.at_ms, status="failed", detail="x" * 5000, cost_usd=Decimal(0),
        steps=rows, total_usd=Decimal(4),
    )  # fmt: skip
    leaf = terminal_leaf(INTENT, bytes(32), facts)
    assert len(leaf) <= MAX_LEAF_BYTES
    said = msgspec.json.decode(leaf)
    assert said["steps"][0][1:] == ["", "", ""]
    check_lineage(said)
