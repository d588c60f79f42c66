"""Reading what a stranger wrote as JSON: objects with exactly these keys, canonical base64, plain numbers.

Every function raises ``Integrity`` and says what it got.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

from allod.domain.errors import Integrity, Invalid
from allod.vault import formats

if TYPE_CHECKING:
    from collections.abc import Iterable

_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
_TODO: Final = "ask its publisher for a signature that covers exactly these files"


def broken(why: str) -> NoReturn:
    """Refuse a signature, with the reason."""
    raise Integrity("the signature of this model does not hold", why, _TODO)


def json_of(raw: bytes, what: str) -> Any:
    """Read strict JSON (no key twice, no NaN, bounded depth)."""
    try:
        return formats.strict_json(raw, what)
    except Invalid as error:
        broken(f"{what}: {error.why}")


def object_of(value: Any, what: str, keys: Iterable[str], optional: Iterable[str] = ()) -> dict[str, Any]:
    """Return an object with exactly these keys."""
    if not isinstance(value, dict):
        broken(f"{what} is no object")
    missing, foreign = set(keys) - value.keys(), value.keys() - set(keys) - set(optional)
    if missing or foreign:
        broken(f"{what} lacks {sorted(missing)} and has the unknown {sorted(map(str, foreign))[:8]}")
    return value


def list_of(value: Any, what: str, most: int) -> list[Any]:
    """Return a list of 1 to ``most`` things."""
    if not isinstance(value, list) or not 0 < len(value) <= most:
        broken(f"{what} is no list of 1 to {most}")
    return value


def only(value: Any, what: str) -> Any:
    """Return the one thing of a list."""
    if not isinstance(value, list) or len(value) != 1:
        broken(f"it does not hold exactly one {what}")
    return value[0]


def bytes_of(value: Any, what: str) -> bytes:
    """Read base 64."""
    try:
        return base64.b64decode(value if isinstance(value, str) else b"!", validate=True)
    except (binascii.Error, ValueError):
        broken(f"{what} is not base64")


def number_of(value: Any, what: str) -> int:
    """Read a count: a JSON number, or its digits as a string (the JSON form of protobuf's 64 bits)."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63:
        return value
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        broken(f"{what} is {str(value)[:40]!r}, expected a count")
    return int(value)


def time_of(value: Any, what: str) -> dt.datetime:
    """Read an RFC 3339 time in UTC."""
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        broken(f"{what} is {str(value)[:40]!r}, expected a time in UTC")
    try:
        return dt.datetime.fromisoformat(value[:19]).replace(tzinfo=dt.UTC)
    except ValueError:
        broken(f"{what} is {value[:40]!r}, which is no time")
