"""Money is USD in exact ``Decimal``; this is its one notation, and that of time.

Money is never rounded, and written plainly without exponent or trailing zeros.
Times are UTC integers of milliseconds since 1970 and print as RFC 3339 with milliseconds.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

ZERO = Decimal(0)


def plain(amount_usd: Decimal) -> str:
    """Write an amount in plain notation without exponent or trailing zeros: ``0.00125``, ``3``, ``0``."""
    text = str(amount_usd)
    if "E" in text:
        text = format(amount_usd, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def rfc3339(at_ms: int) -> str:
    """Write a time in milliseconds since 1970 UTC as ``2026-11-25T19:15:01.000Z``."""
    seconds, ms = divmod(at_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"
