"""Rates, tariffs, cost and reservation: exact, monotone, and never less than due."""

from __future__ import annotations

from decimal import Decimal, getcontext, localcontext
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metering_prices import AT_NOON, AT_PEAK, book

from allod.domain.fleet import EMBEDDED, ENGINES, Deployment, Fleet, Price, Tenant
from allod.domain.usage import Usage
from allod.metering.rates import (
    CONFIGURED,
    FREE,
    OWN_HARDWARE,
    Rates,
    Step,
    Tariff,
    cost,
    filled,
    rates_of,
    reserve,
    tariff_of,
    tariffs_of,
)

PARTS = {
    "input_tokens": "input_usd_mtok",
    "cache_read_tokens": "cached_input_usd_mtok",
    "cache_write_tokens": "cache_write_usd_mtok",
    "cache_write_1h_tokens": "cache_write_1h_usd_mtok",
    "output_tokens": "output_usd_mtok",
    "reasoning_tokens": "reasoning_usd_mtok",
}
tokens = st.integers(0, 2**40)
prices = st.decimals(0, 10**6, places=9)
usages = st.builds(Usage, **dict.fromkeys(PARTS, tokens))
rate_sets = st.builds(Rates, **dict.fromkeys(PARTS.values(), prices))


@st.composite
def tariffs(draw) -> Tariff:
    starts = sorted(draw(st.sets(st.integers(1, 10**6), max_size=3)))
    steps = tuple(Step(above_tokens=start, rates=draw(rate_sets)) for start in [0, *starts])
    return Tariff(steps=steps, source="test", digest="sha256:test")


def one(engine: str = "openai", **more) -> Deployment:
    return Deployment(id="d", engine=engine, model="m", operator="o", **more)


@given(usages, rate_sets)
def test_cost_is_the_exact_sum_of_its_parts(usage, at) -> None:
    total = sum(
        (Fraction(getattr(usage, part)) * Fraction(getattr(at, rate)) for part, rate in PARTS.items()),
        Fraction(0),
    )
    assert Fraction(cost(usage, at)) == total / 10**6
    alone = [Usage(**{part: getattr(usage, part)}) for part in PARTS]
    with localcontext(prec=60):
        assert sum((cost(u, at) for u in alone), Decimal(0)) == cost(usage, at)


@given(usages, rate_sets)
def test_cost_does_not_depend_on_the_callers_context(usage, at) -> None:
    expected = cost(usage, at)
    with localcontext(prec=3):
        assert cost(usage, at) == expected
    assert getcontext().prec == 28


@given(usages, usages, rate_sets)
def test_cost_is_monotone_in_every_part(usage, more, at) -> None:
    larger = Usage(**{part: getattr(usage, part) + getattr(more, part) for part in PARTS})
    assert cost(larger, at) >= cost(usage, at)


@given(usages, tariffs(), tokens, tokens)
def test_I4_a_reservation_covers_every_usage_within_its_bounds(usage, tariff, spare_in, spare_out) -> None:
    bound = usage.total_input_tokens + spare_in
    kept = reserve(bound, usage.total_output_tokens + spare_out, tariff.ceiling(bound))
    assert cost(usage, tariff.at(usage.total_input_tokens)) <= kept


@given(tariffs(), tokens)
def test_the_ceiling_is_reached_by_no_smaller_request(tariff, bound) -> None:
    ceiling = tariff.ceiling(bound)
    for step in tariff.steps:
        if step.above_tokens < bound or step.above_tokens == 0:
            for name in Rates.__struct_fields__:
                assert getattr(ceiling, name) >= getattr(step.rates, name)


def test_gaps_are_filled_with_never_less_than_due() -> None:
    at = filled(input_usd_mtok=Decimal(5), output_usd_mtok=Decimal(30))
    assert at.cached_input_usd_mtok == at.cache_write_usd_mtok == at.cache_write_1h_usd_mtok == 5
    assert at.reasoning_usd_mtok == 30
    at = filled(input_usd_mtok=Decimal(5), output_usd_mtok=Decimal(30), cache_write_usd_mtok=Decimal(6))
    assert at.cache_write_1h_usd_mtok == 6


@pytest.mark.parametrize("bad", ["-1", "NaN", "Infinity", "-Infinity"])
def test_a_rate_that_is_no_price_is_refused(bad) -> None:
    price = Price(input_usd_mtok=Decimal(1), output_usd_mtok=Decimal(bad))
    with pytest.raises(ValueError):
        tariff_of(one(price=price), None, AT_NOON)


@pytest.mark.parametrize("engine", sorted(set(ENGINES) - EMBEDDED))
def test_I4_no_price_is_an_unknown_price(engine) -> None:
    assert tariff_of(one(engine), book(), AT_NOON) is None
    assert rates_of(one(engine), book(), AT_NOON) is None


@pytest.mark.parametrize(
    "price",
    [
        Price(),
        Price(input_usd_mtok=Decimal(1)),
        Price(output_usd_mtok=Decimal(1)),
        Price(book="openai/no-such-model"),
        Price(book="openai/gpt-5.5 "),
    ],
)
def test_I4_an_incomplete_or_unlisted_price_is_unknown(price) -> None:
    assert tariff_of(one(price=price), book(), AT_NOON) is None
    assert tariff_of(one("llamacpp", price=price), book(), AT_NOON) is None


def test_without_a_book_a_book_price_is_unknown() -> None:
    assert tariff_of(one(price=Price(book="openai/gpt-5.5")), None, AT_NOON) is None


@pytest.mark.parametrize("engine", sorted(EMBEDDED))
def test_an_embedded_engine_runs_on_our_own_hardware_unless_priced(engine) -> None:
    tariff = tariff_of(one(engine), None, AT_NOON)
    assert tariff is not None
    assert tariff.source == OWN_HARDWARE
    assert reserve(10**9, 10**9, tariff.ceiling(10**9)) == 0
    priced = tariff_of(
        one(engine, price=Price(input_usd_mtok=Decimal(1), output_usd_mtok=Decimal(2))), None, AT_NOON
    )
    assert priced is not None
    assert priced.source == CONFIGURED
    assert cost(Usage(output_tokens=10**6), priced.at(0)) == 2


def test_free_is_said_out_loud_and_has_its_own_digest() -> None:
    free, own = tariff_of(one(price=Price(free=True)), None, 0), tariff_of(one("llamacpp"), None, 0)
    assert free is not None
    assert own is not None
    assert free.source == FREE
    assert free.digest != own.digest
    assert free.digest.startswith("sha256:")


def test_the_digest_of_a_configured_price_is_that_of_its_rates() -> None:
    price = Price(input_usd_mtok=Decimal("5.0"), output_usd_mtok=Decimal(30))
    same = Price(input_usd_mtok=Decimal(5), output_usd_mtok=Decimal("3E+1"))
    other = msgspec.structs.replace(price, cached_input_usd_mtok=Decimal(1))
    first, second, third = (tariff_of(one(price=p), None, 0) for p in (price, same, other))
    assert first == second
    assert first != third


def test_tariffs_of_a_fleet_hold_until_the_first_of_them_changes() -> None:
    deployments = {
        "a": one(price=Price(book="deepseek/deepseek-v4-pro")),
        "b": one(price=Price(book="openai/gpt-5.5")),
        "c": one(),
    }
    fleet = Fleet(
        tenant=Tenant(id="t", home="DE", bloc=("EEA",)), apps={}, operators={}, deployments=deployments
    )
    found = tariffs_of(fleet, book(), AT_PEAK)
    assert list(found.by_deployment) == ["a", "b", "c"]
    assert found.by_deployment["c"] is None
    assert found.valid_until_ms == AT_PEAK + 2 * 3_600_000
    assert found.hold_at(AT_PEAK)
    assert not found.hold_at(AT_PEAK + 2 * 3_600_000)
    after = tariffs_of(fleet, book(), AT_PEAK + 2 * 3_600_000)
    assert after.by_deployment["a"] != found.by_deployment["a"]
    assert after.by_deployment["b"] == found.by_deployment["b"]
