"""The shipped price book and two moments, for the tests of metering."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from importlib import resources

from allod.metering.book import Book

AT_NOON = int(datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp() * 1000)
AT_PEAK = int(datetime(2026, 11, 25, 2, tzinfo=UTC).timestamp() * 1000)


@cache
def shipped() -> bytes:
    return resources.files("allod.metering").joinpath("prices.json").read_bytes()


@cache
def book() -> Book:
    return Book.parse(shipped())
