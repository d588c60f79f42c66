"""Windows, dates and factors of prices: by the clock of their zone, exact, and never over-long."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metering_prices import AT_NOON, AT_PEAK, book

from allod.domain.fleet import Deployment, Fleet, Price, PriceChange, PriceWindow, Tenant, Zone
from allod.domain.usage import Usage
from allod.gateway.pricefile import offsets_of
from allod.metering.hours import applies, next_change_ms
from allod.metering.rates import cost, reserve, tariff_of, tariffs_of

ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Asia/Shanghai")
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
TIMES = st.integers(1_609_459_200_000, 2_200_000_000_000)  # 2021 to 2039
clocks = st.integers(0, 1439)
windows = st.builds(
    PriceWindow,
    from_minute=clocks,
    until_minute=clocks,
    days=st.lists(st.integers(0, 6), unique=True, max_size=7).map(lambda d: tuple(sorted(d))),
    factor=st.decimals("0.1", "2", places=2),
)


def zone(name: str) -> Zone:
    return Zone(name=name, offsets=offsets_of(name))


def rated(**more) -> Price:
    return Price(input_usd_mtok=Decimal(4), output_usd_mtok=Decimal(8), **more)


def deployment(price: Price, name: str = "d") -> Deployment:
    return Deployment(id=name, engine="openai", model="m", operator="o", price=price)


def by_the_clock(window: PriceWindow, name: str, at_ms: int) -> bool:
    """What the window says, told by the standard library's own zones."""
    local = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(ZoneInfo(name)).replace(tzinfo=None)
    for back in (0, 1):
        day = local.date() - timedelta(days=back)
        begin = datetime.combine(day, time()) + timedelta(minutes=window.from_minute)
        end = datetime.combine(day, time()) + timedelta(minutes=window.until_minute)
        end += timedelta(days=1) if window.until_minute <= window.from_minute else timedelta()
        if begin <= local < end and (not window.days or day.weekday() in window.days):
            return True
    return False


@given(windows, st.sampled_from(ZONES), TIMES)
def test_a_window_is_meant_by_the_clock_and_days_of_its_zone(window, name, at_ms) -> None:
    at_ms -= at_ms % 1000
    assert applies(window, zone(name), at_ms) == by_the_clock(window, name, at_ms)


@given(st.lists(windows, min_size=1, max_size=3), st.sampled_from(ZONES), TIMES, st.integers(0, DAY_MS))
def test_a_tariff_holds_until_it_says(found, name, at_ms, later) -> None:
    priced = deployment(rated(windows=tuple(found), zone=zone(name)))
    tariff = tariff_of(priced, None, at_ms)
    assert tariff is not None
    assert tariff.valid_until_ms is not None
    assert at_ms < tariff.valid_until_ms
    within = min(at_ms + later, tariff.valid_until_ms - 1)
    again = tariff_of(priced, None, within)
    assert again is not None
    assert (again.steps, again.digest) == (tariff.steps, tariff.digest)


@pytest.mark.parametrize("name", ZONES)
def test_on_the_days_the_clock_changes_no_minute_is_charged_wrongly(name) -> None:
    window = PriceWindow(from_minute=120, until_minute=180, factor=Decimal("0.5"))
    price = rated(windows=(window,), zone=zone(name))
    turns = [at for at, _ in offsets_of(name)[1:9]] or [AT_NOON]
    for turn in turns:
        at_ms = turn - DAY_MS
        while at_ms < turn + DAY_MS:
            end = next_change_ms(price, at_ms)
            assert end is not None
            held = applies(window, price.zone, at_ms)
            for minute in range(at_ms, min(end, turn + DAY_MS), 60_000):
                assert applies(window, price.zone, minute) == held == by_the_clock(window, name, minute)
            at_ms = end


def test_a_window_across_midnight_belongs_to_the_day_it_begins_on() -> None:
    night = PriceWindow(from_minute=22 * 60, until_minute=6 * 60, days=(4,), factor=Decimal("0.5"))
    friday = int(datetime(2026, 11, 27, tzinfo=UTC).timestamp() * 1000)
    assert not applies(night, None, friday + 5 * HOUR_MS)
    assert applies(night, None, friday + 23 * HOUR_MS)
    assert applies(night, None, friday + DAY_MS + 5 * HOUR_MS)
    assert not applies(night, None, friday + DAY_MS + 23 * HOUR_MS)


def test_the_last_window_counts_and_a_factor_lies_over_all_of_it() -> None:
    half, own = Decimal("0.5"), Price(input_usd_mtok=Decimal(1), output_usd_mtok=Decimal(2))
    price = rated(
        factor=Decimal("1.1"),
        windows=(
            PriceWindow(from_minute=0, until_minute=0, factor=half),
            PriceWindow(from_minute=12 * 60, until_minute=13 * 60, price=own),
        ),
    )
    morning = tariff_of(deployment(price), None, AT_NOON - HOUR_MS)
    noon = tariff_of(deployment(price), None, AT_NOON)
    assert morning is not None
    assert noon is not None
    assert morning.at(0).input_usd_mtok == Decimal("2.2")
    assert noon.at(0).output_usd_mtok == Decimal("2.2")
    assert noon.source == "configuration, 12:00-13:00 UTC, x 1.1"
    assert noon.digest != morning.digest


def test_a_dated_change_stands_in_the_prices_place_from_its_time_on() -> None:
    price = rated(
        changes=(
            PriceChange(since_ms=AT_NOON + DAY_MS, price=Price(free=True)),
            PriceChange(since_ms=AT_NOON, price=Price(book="openai/gpt-5")),
        )
    )
    assert tariff_of(deployment(price), book(), AT_NOON - 1).at(0).input_usd_mtok == 4
    dated = tariff_of(deployment(price), book(), AT_NOON)
    assert dated.at(0) == book().rates("openai/gpt-5", AT_NOON, 0)
    assert dated.valid_until_ms <= AT_NOON + DAY_MS
    assert tariff_of(deployment(price), book(), AT_NOON + DAY_MS).at(0).output_usd_mtok == 0
    unknown = rated(changes=(PriceChange(since_ms=AT_NOON, price=Price(book="nobody/nothing")),))
    assert tariff_of(deployment(unknown), book(), AT_NOON) is None  # never the price that was


def test_a_region_surcharge_lies_over_the_books_hours_and_names_its_own_digest() -> None:
    plain = tariff_of(deployment(Price(book="deepseek/deepseek-v4-pro")), book(), AT_PEAK)
    dear = tariff_of(
        deployment(Price(book="deepseek/deepseek-v4-pro", factor=Decimal("1.1"))), book(), AT_PEAK
    )
    assert dear.at(0).output_usd_mtok == plain.at(0).output_usd_mtok * Decimal("1.1")
    assert dear.valid_until_ms == plain.valid_until_ms
    assert plain.digest == book().digest
    assert dear.digest != plain.digest


tokens = st.integers(0, 2**40)


@given(
    st.decimals(0, 10**6, places=12),
    st.decimals(0, 100, places=4),
    st.decimals(0, 100, places=4),
    st.builds(Usage, input_tokens=tokens, output_tokens=tokens, reasoning_tokens=tokens),
)
def test_factors_never_round(rate, first, second, usage) -> None:
    window = PriceWindow(from_minute=0, until_minute=0, factor=first)
    price = Price(input_usd_mtok=rate, output_usd_mtok=rate, windows=(window,), factor=second)
    tariff = tariff_of(deployment(price), None, AT_NOON)
    whole = usage.input_tokens + usage.output_tokens + usage.reasoning_tokens
    exact = Fraction(rate) * Fraction(first) * Fraction(second) * whole / 10**6
    charged = cost(usage, tariff.at(usage.total_input_tokens))
    assert Fraction(charged) == exact
    assert charged <= reserve(usage.input_tokens, usage.total_output_tokens, tariff.ceiling(2**41))


def test_the_tariffs_of_a_fleet_hold_until_the_first_of_them_changes() -> None:
    night = rated(windows=(PriceWindow(from_minute=0, until_minute=360, factor=Decimal("0.5")),))
    day = rated(changes=(PriceChange(since_ms=AT_NOON + 5, price=Price(free=True)),))
    fleet = Fleet(
        tenant=Tenant(id="t", home="DE", bloc=("EEA",)),
        apps={},
        operators={},
        deployments={"n": deployment(night, "n"), "d": deployment(day, "d")},
    )
    tariffs = tariffs_of(fleet, None, AT_NOON)
    assert tariffs.valid_until_ms == AT_NOON + 5
    assert tariffs.hold_at(AT_NOON + 4)
    assert not tariffs.hold_at(AT_NOON + 5)
    later = tariffs_of(fleet, None, AT_NOON + 5)
    assert later.valid_until_ms == int(datetime(2026, 11, 26, tzinfo=UTC).timestamp() * 1000)


def test_offsets_are_those_of_the_zone() -> None:
    for name in ZONES:
        for day in range(0, 7000, 13):
            at = datetime(2020, 1, 1, 12, tzinfo=UTC) + timedelta(days=day)
            said = [minutes for since, minutes in offsets_of(name) if since <= at.timestamp() * 1000][-1]
            assert timedelta(minutes=said) == at.astimezone(ZoneInfo(name)).utcoffset()
    assert date(2026, 3, 29) == datetime.fromtimestamp(offsets_of("Europe/Berlin")[13][0] / 1000, UTC).date()
