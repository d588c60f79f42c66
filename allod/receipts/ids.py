"""Names of logs and receipts.

A log's origin is ``allod/`` and 16 hex digits drawn when its home is made. A receipt id is ``r_``, 8 hex
digits of the origin's SHA-256, ``_`` and a ULID (48 bits of time, 80 of chance, Crockford base 32).
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from allod.domain.errors import Invalid

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = tuple(a + b for a in _CROCKFORD for b in _CROCKFORD)
_ORIGIN: Final = re.compile(r"allod/[0-9a-f]{16}")
_ID: Final = re.compile(r"r_[0-9a-f]{8}_[0-7][0-9A-HJKMNP-TV-Z]{25}")
_RANDOM_BYTES: Final = 10
_ORIGIN_BYTES: Final = 8
_TIME_BITS: Final = 48
_TIME_LETTERS: Final = 10
_LETTERS: Final = _CROCKFORD.encode() * 8
CHANCE_LETTERS: Final = 16
ID_LENGTH: Final = 37


def origin_from(random8: bytes) -> str:
    """Make the origin of a new log out of 8 random bytes."""
    if len(random8) != _ORIGIN_BYTES:
        raise Invalid("an origin needs 8 random bytes", f"got {len(random8)}")
    return "allod/" + random8.hex()


def is_origin(text: str) -> bool:
    """Tell whether this is an origin as Allod writes it."""
    return _ORIGIN.fullmatch(text) is not None


def id_prefix(origin: str) -> str:
    """Return ``r_`` and 8 hex digits and ``_``: how every receipt id of this log begins."""
    return "r_" + hashlib.sha256(origin.encode()).hexdigest()[:8] + "_"


def ulid(at_ms: int, random10: bytes) -> str:
    """Write 48 bits of milliseconds and 80 random bits as 26 Crockford characters (ULID specification)."""
    if len(random10) != _RANDOM_BYTES or not 0 <= at_ms < 1 << _TIME_BITS:
        raise Invalid(
            "a ULID needs 48 bits of time and 10 random bytes", f"got {at_ms}, {len(random10)} bytes"
        )
    value = at_ms << 80 | int.from_bytes(random10, "big")
    p = _PAIRS
    return (
        p[value >> 120] + p[value >> 110 & 1023] + p[value >> 100 & 1023] + p[value >> 90 & 1023]
        + p[value >> 80 & 1023] + p[value >> 70 & 1023] + p[value >> 60 & 1023] + p[value >> 50 & 1023]
        + p[value >> 40 & 1023] + p[value >> 30 & 1023] + p[value >> 20 & 1023] + p[value >> 10 & 1023]
        + p[value & 1023]
    )  # fmt: skip


def ulid_time(at_ms: int) -> str:
    """Write the first ten characters of a ULID, its time (raises ``Invalid`` as ``ulid``)."""
    return ulid(at_ms, bytes(_RANDOM_BYTES))[:_TIME_LETTERS]


def letters(chance: bytes) -> str:
    """Write five bits of each random byte as one Crockford character; sixteen are a ULID's chance."""
    return chance.translate(_LETTERS).decode()


def new_id(origin: str, at_ms: int, random10: bytes) -> str:
    """Name a receipt; who names many keeps ``id_prefix(origin)`` and adds ``ulid`` to it."""
    return id_prefix(origin) + ulid(at_ms, random10)


def is_id(text: str) -> bool:
    """Tell whether this has the form of a receipt id."""
    return _ID.fullmatch(text) is not None


def time_of(receipt: str) -> int:
    """Return the milliseconds since 1970 that a receipt id carries."""
    if not is_id(receipt):
        raise Invalid(f"{receipt!r} is no receipt id", param="receipt")
    value = 0
    for letter in receipt[11:21]:
        value = value << 5 | _CROCKFORD.index(letter)
    return value
