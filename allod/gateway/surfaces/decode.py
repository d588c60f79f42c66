"""Request bytes to plain values: JSON as RFC 8259 has it, with bounds no honest caller meets.

Duplicate member names are refused (RFC 8259, section 4, leaves their meaning open): what one parser checks
another might not send. Telling costs one encoding and two counts; only a body that might hold a duplicate is
read a second time.
"""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from allod.gateway.surfaces.faults import Rejected

MAX_DEPTH: Final = 100
"""Nested arrays and objects; JSON Schemas in use stay under 30."""

_DECODE: Final = msgspec.json.Decoder().decode
_ENCODE: Final = msgspec.json.Encoder().encode


def json_object(raw: bytes) -> dict[str, Any]:
    """Decode a request body.

    Raises:
        Rejected: not UTF-8, not JSON, not an object, a number out of range, too deep, a duplicate name.

    """
    try:
        body = _DECODE(raw)
        encoded = _ENCODE(body)
    except RecursionError:
        raise _too_deep() from None
    except UnicodeDecodeError as error:
        raise Rejected(f"The request body is not UTF-8: {error.reason} at byte {error.start}.") from None
    except (ValueError, OverflowError) as error:
        raise Rejected(f"The request body is not JSON this gateway reads: {error}.") from None
    if type(body) is not dict:
        raise Rejected("The request body must be a JSON object.")
    if _may_repeat(raw, encoded):
        _demand_unique(raw)
    return body


def demand_shallow(raw: bytes, body: dict[str, Any]) -> None:
    """Refuse nesting beyond ``MAX_DEPTH``; for bodies with members whose inside nobody has checked."""
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _deeper(body, MAX_DEPTH):
        raise _too_deep()


def _may_repeat(raw: bytes, encoded: bytes) -> bool:
    """Tell whether a name may stand twice in one object of ``raw``; never False when one does.

    Each member has one colon of its own. Dropping a duplicate on decoding drops that colon, and what is
    decoded is encoded with every colon plain; so equal counts mean that nothing was dropped, unless ``raw``
    wrote some colon as an escape.
    """
    if raw.count(b":") != encoded.count(b":"):
        return True
    escape = raw.find(b"\\")
    return escape >= 0 and raw.find(b"\\u003", escape) >= 0 and (b"\\u003a" in raw or b"\\u003A" in raw)


def _demand_unique(raw: bytes) -> None:
    try:
        json.loads(raw, object_pairs_hook=_unique)
    except RecursionError:
        raise _too_deep() from None


def _unique(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise Rejected(f"The request body names {name[:64]!r} twice in one object.", param=name[:64])
        seen.add(name)


def _deeper(value: object, limit: int) -> bool:
    level: list[object] = [value]
    for _ in range(limit + 1):
        below: list[object] = []
        for node in level:
            inside = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
            below.extend(inner for inner in inside if isinstance(inner, dict | list))
        if not below:
            return False
        level = below
    return True


def _too_deep() -> Rejected:
    return Rejected(f"The request body is nested deeper than {MAX_DEPTH} levels.")
