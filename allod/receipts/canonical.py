"""Canonical JSON: the RFC 8785 profile every leaf, record and receipt file is written in.

The profile is narrower than RFC 8785: keys are ASCII (so that sorting by code point, UTF-16 unit and byte
agree), there are no floats (money is a string), integers stay within 2^53 - 1 (section 3.2.2.3 with the
I-JSON range of RFC 7493), and strings hold no lone surrogates.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from allod.domain.errors import Integrity, Invalid

MAX_INTEGER: Final = 2**53 - 1
MAX_DEPTH: Final = 64
_SORTED: Final = msgspec.json.Encoder(order="sorted")
_LONG: Final = re.compile(rb"[:,[-][0-9]{16}")


def canonical(value: Any) -> bytes:
    """Write JSON data (dict, list, tuple, str, int, bool, None) in canonical form.

    Raises:
        Invalid: a float or another type, a key that is not ASCII, an integer of 2^53 or more, a lone
            surrogate, or nesting beyond 64 levels.

    """
    _check(value, "$", 0)
    try:
        return _SORTED.encode(value)
    except UnicodeEncodeError as fault:
        raise _invalid("$", "a lone surrogate", "text that is valid Unicode") from fault


def parse(data: bytes, *, what: str) -> Any:
    """Read JSON that must already be canonical: its bytes are exactly what ``canonical`` would write.

    Duplicate keys, spaces, other escapes, floats and long integers all fail that comparison.

    Raises:
        Integrity: it is not JSON or not canonical; ``what`` names it.

    """
    try:
        value = _PLAIN.decode(data)
        again = _SORTED.encode(value) if _surely_plain(data) else canonical(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Invalid) as fault:
        raise Integrity(f"{what} is not canonical JSON", f"got {fault}", "get the file again") from fault
    if again != data:
        at = next((i for i, (a, b) in enumerate(zip(again, data, strict=False)) if a != b), len(again))
        raise Integrity(
            f"{what} is not canonical JSON",
            f"got other bytes than RFC 8785 writes, from byte {at}",
            "get the file again, unedited",
        )
    return value


def _surely_plain(data: bytes) -> bool:
    """Tell whether no key can be other than ASCII, no integer too long and no nesting too deep.

    Where this says no it may still be so, and ``canonical`` looks at every value.
    """
    shallow = data.count(b"[") + data.count(b"{") <= MAX_DEPTH
    return data[:1] == b"{" and data.isascii() and shallow and not _LONG.search(data)


def _no_float(text: str) -> float:
    raise _invalid("$", f"the number {text[:40]}", "an integer, or an amount as text")


def _check(value: Any, where: str, depth: int) -> None:
    if value is None or isinstance(value, str | bool):
        return
    if isinstance(value, int):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise _invalid(where, f"the integer {value}", "an integer within 2^53 - 1")
        return
    if depth >= MAX_DEPTH:
        raise _invalid(where, "deeper nesting", f"at most {MAX_DEPTH} levels")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str) or not key.isascii():
                raise _invalid(where, f"the key {key!r}", "keys of ASCII text")
            _check(item, f"{where}.{key}", depth + 1)
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _check(item, f"{where}[{i}]", depth + 1)
    else:
        raise _invalid(where, f"a {type(value).__name__}", "text, integer, boolean, null, list or object")


def _invalid(where: str, got: str, required: str) -> Invalid:
    return Invalid(
        f"{where} cannot be written in canonical JSON",
        f"got {got}, expected {required}",
        "write amounts as decimal text",
        param=where,
    )


_PLAIN: Final = msgspec.json.Decoder(float_hook=_no_float)
