"""Spans of time as a command takes them: ``30d``, ``12h``, ``2026-11-01``, ``2026-11-01T08:00:00Z``."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Final

from allod.domain.errors import Invalid

_SPAN: Final = re.compile(r"(\d{1,6})([smhdw])")
_MS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def moment_ms(text: str, now_ms: int, *, param: str) -> int:
    """Read a moment: so long ago, a UTC day (its first millisecond), or a time with its zone.

    Raises:
        Invalid: it is none.

    """
    span = _SPAN.fullmatch(text)
    if span is not None:
        return max(0, now_ms - int(span[1]) * _MS[span[2]])
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    plain_day = at is not None and re.fullmatch(r"\d{4}-\d{2}-\d{2}", text) is not None
    if at is None or (at.tzinfo is None and not plain_day):
        raise Invalid(
            f"{param} cannot be read",
            f"got {text[:40]!r}, expected 30d, 12h, 2026-11-01 or 2026-11-01T08:00:00Z",
            "say how long ago, a day, or a time with its zone",
            param=param,
        )
    at = at.replace(tzinfo=at.tzinfo or UTC)
    return max(0, int(at.timestamp() * 1000))


def day_of(text: str, *, param: str) -> date:
    """Read a day.

    Raises:
        Invalid: it is none.

    """
    try:
        return date.fromisoformat(text)
    except ValueError as fault:
        raise Invalid(
            f"{param} is no day", f"got {text[:40]!r}, expected 2026-11-01", "say a day", param=param
        ) from fault
