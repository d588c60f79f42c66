"""Forms write what the slow way writes, byte for byte, and step aside where they do not fit."""

from __future__ import annotations

from decimal import Decimal

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from test_receipts_leaves import INTENT, TERMINAL, rule

from allod.domain.decision import Exclusion
from allod.domain.usage import Usage
from allod.receipts.commitment import digest
from allod.receipts.forms import IntentForm, TerminalForm
from allod.receipts.ids import CHANCE_LETTERS, id_prefix, is_id, letters, time_of, ulid_time
from allod.receipts.leaves import MAX_LEAF_BYTES, exclusions, intent_leaf, terminal_leaf
from allod.receipts.tokens import tokens_json

ids = st.integers(0, 2**80 - 1).map(lambda n: f"r_799d48f3_01KAY867ME{n:016X}"[:37])
times = st.integers(0, 4_102_444_800_000)
digests = st.binary(max_size=8).map(digest)
counts = st.integers(0, 2**60)
usages = st.builds(
    Usage,
    input_tokens=counts,
    cache_read_tokens=st.just(0) | counts,
    cache_write_tokens=st.just(0) | counts,
    cache_write_1h_tokens=st.just(0) | counts,
    output_tokens=counts,
    reasoning_tokens=st.just(0) | counts,
)
costs = st.decimals(0, 10**12, allow_nan=False, allow_infinity=False)
names = st.none() | st.text(min_size=1, max_size=60) | st.just("~id" + "~" * 34) | st.just("\ud800")


@given(ids, times, digests, names, names)
def test_an_intent_form_writes_what_intent_leaf_writes(receipt, at_ms, request, purpose, task) -> None:
    shared = msgspec.structs.replace(INTENT, purpose=purpose, task=task)
    facts = msgspec.structs.replace(shared, id=receipt, at_ms=at_ms, request=request)
    assert IntentForm(shared).fill(receipt, at_ms, request) == intent_leaf(facts)


def cost_seq(cost: Decimal) -> int:
    return int(cost * 1000) % (1 << 40) + 1


@given(ids, times, digests, usages, costs, names, st.integers(0, 120))
def test_a_terminal_form_writes_what_terminal_leaf_writes(
    receipt, at_ms, response, usage, cost, name, left_out
) -> None:
    excluded = exclusions(
        [
            Exclusion(deployment=f"deployment-{n}", rules=(rule("residency.5-operator"),))
            for n in range(left_out)
        ]
    )
    intent = msgspec.structs.replace(INTENT, id=receipt, request=digest(receipt.encode()))
    shared = msgspec.structs.replace(TERMINAL, model=name, notice=name, excluded=excluded)
    form = TerminalForm(INTENT, shared)
    facts = form.of(receipt=receipt, at_ms=at_ms, response=response, usage=usage, cost_usd=cost)
    expected = msgspec.structs.replace(
        shared, id=receipt, at_ms=at_ms, response=response, usage=usage, cost_usd=cost
    )
    assert facts == expected
    hashed = digest(b"leaf").encode()[:32]
    for seq in (None, 1, cost_seq(cost)):
        numbered = msgspec.structs.replace(facts, seq=seq)
        leaf = form.fill(intent, hashed, facts, seq)
        assert leaf == terminal_leaf(intent, hashed, numbered)
    assert len(leaf) <= MAX_LEAF_BYTES


def test_a_form_that_is_nearly_too_long_gives_way_to_the_one_that_cuts() -> None:
    for left_out in range(60, 90):
        excluded = exclusions(
            [Exclusion(deployment=f"deployment-{n:030}", rules=(rule("x"),)) for n in range(left_out)]
        )
        form = TerminalForm(INTENT, msgspec.structs.replace(TERMINAL, excluded=excluded))
        for cost in (Decimal(1), Decimal("1." + "1" * 50)):
            facts = form.of(
                receipt=INTENT.id, at_ms=0, response=digest(b""), usage=Usage(input_tokens=1), cost_usd=cost
            )
            numbered = msgspec.structs.replace(facts, seq=1 << 40)
            assert form.fill(INTENT, bytes(32), facts, 1 << 40) == terminal_leaf(INTENT, bytes(32), numbered)


@given(usages | st.builds(Usage, input_tokens=st.integers(-3, 3), output_tokens=st.integers(-3, 3)))
def test_tokens_stand_in_a_leaf_as_they_are_encoded(usage) -> None:
    leaf = terminal_leaf(INTENT, bytes(32), msgspec.structs.replace(TERMINAL, usage=usage))
    assert f'"tokens":{tokens_json(usage)},"v":1' in leaf.decode()


@given(times, st.binary(min_size=CHANCE_LETTERS, max_size=CHANCE_LETTERS))
def test_an_id_made_of_letters_is_an_id_of_its_time(at_ms, chance) -> None:
    made = id_prefix("allod/" + "0" * 16) + ulid_time(at_ms) + letters(chance)
    assert is_id(made)
    assert time_of(made) == at_ms


def test_letters_are_all_equally_likely() -> None:
    assert sorted(letters(bytes(range(256)))) == sorted(letters(bytes(range(32))) * 8)
    assert len(set(letters(bytes(range(32))))) == 32
