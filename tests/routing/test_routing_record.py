"""Decision records: canonical, without content or clock, and enough to make the decision again (I8)."""

from __future__ import annotations

import json
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from routing_worlds import AT, deployment, fleet, price, question
from test_routing_plan import questions

from allod.domain.errors import Integrity
from allod.domain.request import Sizes
from allod.routing.plan import plan
from allod.routing.question import Health
from allod.routing.record import decision_record, holds, read_record, replay

SMALL = question(
    fleet(deployment("a", price=price("0.0000001", "2")), deployment("b")),
    unlawful=("b",),
    max_cost_usd=Decimal("1.50"),
    health=Health(latency_ms={"a": 40}),
)


@given(questions())
def test_I8_a_recorded_decision_can_be_made_again(asked) -> None:
    made = plan(asked)
    record = decision_record(asked, made)
    assert replay(record) == made
    assert holds(record)
    recorded = read_record(record)
    assert recorded.plan == made
    assert recorded.packs == "sha256:packs"


@given(questions())
def test_I8_the_same_facts_give_the_same_bytes(asked) -> None:
    again = msgspec.structs.replace(asked)
    assert decision_record(asked, plan(asked)) == decision_record(again, plan(again))


def test_the_record_is_canonical_and_writes_money_plainly() -> None:
    record = decision_record(SMALL, plan(SMALL), {"link_up": True})
    data = json.loads(record)
    assert json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() == record
    assert data["facts"]["max_cost_usd"] == "1.5"
    assert data["facts"]["candidates"][0]["cost_usd"] == "0.0010240000112"
    assert data["flags"] == {"link_up": True}
    assert b"E-" not in record


def test_the_record_holds_no_clock_reading_and_no_receipt() -> None:
    other = question(
        SMALL.fleet, unlawful=("b",), max_cost_usd=Decimal("1.50"), health=SMALL.health, receipt="r_2",
        received_at_ms=AT + 1234, sizes=Sizes(body_bytes=9, input_tokens=99),
    )  # fmt: skip
    assert decision_record(other, plan(other)) == decision_record(SMALL, plan(SMALL))
    assert str(AT).encode() not in decision_record(SMALL, plan(SMALL))


def test_a_record_that_was_changed_does_not_hold() -> None:
    record = decision_record(SMALL, plan(SMALL))
    data = json.loads(record)
    data["facts"]["min_quality"] = "0.99"
    changed = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert holds(record)
    assert not holds(changed)


@pytest.mark.parametrize(
    "damage",
    [
        lambda r: b"",
        lambda r: b"{}",
        lambda r: b"[]",
        lambda r: r[:-1],
        lambda r: r + b"\n",
        lambda r: r.replace(b"allod-decision-2", b"allod-decision-9"),
        lambda r: r.replace(b'"packs":', b'"packz":'),
        lambda r: r.replace(b'"input_tokens":112', b'"input_tokens":"x"'),
    ],
)
def test_a_damaged_record_is_an_integrity_fault(damage) -> None:
    with pytest.raises(Integrity):
        replay(damage(decision_record(SMALL, plan(SMALL))))
