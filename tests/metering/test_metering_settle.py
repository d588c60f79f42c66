"""Settlement: one row each, the right basis, and never less than what was delivered (I4)."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.domain.fleet import Deployment, Price
from allod.domain.usage import Usage
from allod.metering.rates import Tariff, cost, tariff_of
from allod.metering.settle import AttemptFacts, Bounds, Delivered, counted, declined, settle

BOUNDS = Bounds(input_tokens=1000, max_output_tokens=500)


def tariff(**more) -> Tariff:
    price = Price(input_usd_mtok=Decimal(5), output_usd_mtok=Decimal(30), **more)
    found = tariff_of(Deployment(id="d", engine="openai", model="m", operator="o", price=price), None, 0)
    assert found is not None
    return found


def facts(status="answered", **more) -> AttemptFacts:
    return AttemptFacts(
        receipt="r_1", attempt=1, app="a", task=None, deployment="d", started_at_ms=0, status=status, **more
    )


statuses = st.sampled_from(["answered", "refused", "aborted", "failed"])
counts = st.integers(0, 10**6)
reports = st.none() | st.builds(
    Usage,
    input_tokens=counts,
    cache_read_tokens=counts,
    cache_write_tokens=counts,
    output_tokens=counts,
    reasoning_tokens=counts,
)
deliveries = st.builds(Delivered, bytes=counts, pieces=counts)
codes = st.none() | st.integers(200, 599)


def test_a_whole_answer_with_its_report_is_reported() -> None:
    reported = Usage(input_tokens=100, cache_read_tokens=10, output_tokens=20)
    row = settle(
        facts(first_token_ms=3, total_ms=9),
        tariff=tariff(cached_input_usd_mtok=Decimal(1)),
        bounds=BOUNDS,
        reported=reported,
        delivered=Delivered(bytes=80, pieces=20),
    )
    assert (row.basis, row.usage, row.cost_usd) == ("reported", reported, Decimal("0.00111"))
    assert (row.first_token_ms, row.total_ms, row.detail) == (3, 9, "")
    assert row.price_digest.startswith("sha256:")


def test_usage_missing_is_counted() -> None:
    row = settle(facts(), tariff=tariff(), bounds=BOUNDS, delivered=Delivered(bytes=90, pieces=7))
    assert (row.basis, row.usage) == ("counted", Usage(input_tokens=1000, output_tokens=30))


def test_usage_wrong_is_counted_and_pays_the_larger_numbers() -> None:
    nothing = Usage(input_tokens=5000)
    row = settle(
        facts(), tariff=tariff(), bounds=BOUNDS, reported=nothing, delivered=Delivered(bytes=90, pieces=7)
    )
    assert row.basis == "counted"
    assert row.usage == Usage(input_tokens=5000, output_tokens=30)
    assert "usage-wrong" in row.detail


def test_fewer_tokens_than_any_vocabulary_could_write_are_wrong() -> None:
    few = Usage(input_tokens=10, output_tokens=1)
    long = Delivered(bytes=128 * 100, pieces=1)
    row = settle(facts(), tariff=tariff(), bounds=BOUNDS, reported=few, delivered=long)
    assert row.basis == "counted"
    assert row.usage.output_tokens == 500


def test_an_aborted_stream_without_usage_is_counted() -> None:
    row = settle(facts("aborted"), tariff=tariff(), bounds=BOUNDS, delivered=Delivered(bytes=12, pieces=5))
    assert (row.basis, row.usage.output_tokens, row.status) == ("counted", 5, "aborted")


def test_a_report_that_came_before_the_stream_broke_does_not_undercut_what_was_delivered() -> None:
    early = Usage(input_tokens=100, output_tokens=1)
    row = settle(
        facts("aborted"),
        tariff=tariff(),
        bounds=BOUNDS,
        reported=early,
        delivered=Delivered(bytes=12, pieces=5),
    )
    assert (row.basis, row.usage.output_tokens) == ("counted", 5)


def test_a_lost_attempt_is_charged_its_reservation() -> None:
    row = settle(facts("failed", detail="reset: x"), tariff=tariff(), bounds=BOUNDS)
    assert (row.basis, row.cost_usd) == ("reserved", Decimal("0.02"))
    assert row.detail == "reset: x"


def test_an_attempt_that_never_left_costs_nothing() -> None:
    row = settle(facts("failed", sent=False), tariff=tariff(), bounds=BOUNDS, reported=Usage(input_tokens=9))
    assert (row.basis, row.usage, row.cost_usd) == ("counted", Usage(), 0)


@pytest.mark.parametrize(
    ("code", "basis"),
    [(429, "counted"), (400, "counted"), (503, "counted"), (302, "counted"), (502, "reserved"),
     (504, "reserved"), (200, "reserved"), (None, "reserved")],
)  # fmt: skip
def test_an_error_status_owes_nothing_unless_the_answer_was_lost_on_the_way(code, basis) -> None:
    row = settle(facts("failed", status_code=code), tariff=tariff(), bounds=BOUNDS)
    assert row.basis == basis
    assert (row.cost_usd == 0) == (basis == "counted")
    assert declined(code) == (basis == "counted")


@given(deliveries)
def test_I4_counted_tokens_are_at_least_those_delivered(delivered) -> None:
    usage = counted(delivered, BOUNDS)
    assert usage.output_tokens >= delivered.pieces
    assert usage.output_tokens >= min(-(-delivered.bytes // 3), BOUNDS.max_output_tokens)
    assert usage.input_tokens == BOUNDS.input_tokens


@given(statuses, st.booleans(), codes, reports, deliveries)
def test_I4_every_attempt_has_one_row_that_pays_what_was_delivered(
    status, sent, code, reported, given_out
) -> None:
    at = tariff()
    row = settle(
        facts(status, sent=sent, status_code=code),
        tariff=at,
        bounds=BOUNDS,
        reported=reported,
        delivered=given_out,
    )
    assert row.cost_usd >= 0
    if not sent:
        assert row.cost_usd == 0
        return
    if row.basis == "reserved":
        assert row.cost_usd == BOUNDS.reservation(at)
    else:
        assert row.cost_usd == cost(row.usage, at.at(row.usage.total_input_tokens))
    if given_out.pieces or given_out.bytes:
        assert row.basis in {"reported", "counted"}
        assert row.usage.total_output_tokens >= (1 if status == "answered" else given_out.pieces)
    if reported is not None and row.basis == "counted" and (given_out.pieces or given_out.bytes):
        assert row.usage.total_output_tokens >= reported.total_output_tokens
        assert row.usage.total_input_tokens >= reported.total_input_tokens


@given(st.builds(Delivered, bytes=counts, pieces=st.integers(0, 500)), statuses, codes)
def test_I4_without_a_report_no_attempt_costs_more_than_its_reservation(delivered, status, code) -> None:
    at = tariff()
    row = settle(facts(status, status_code=code), tariff=at, bounds=BOUNDS, delivered=delivered)
    assert row.cost_usd <= BOUNDS.reservation(at)
