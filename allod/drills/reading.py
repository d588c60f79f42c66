"""TOML files of drills, read strictly: an unknown key is an error that names the nearest one."""

from __future__ import annotations

import difflib
import tomllib
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from allod.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")
MAX_BYTES: Final = 1 << 20
MAX_DIGITS: Final = 15


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known word nearest to this one, or an empty text."""
    names = {one.lower(): one for one in known}
    close = difflib.get_close_matches(word.lower(), list(names), 1, 0.5)
    return f" (did you mean {names[close[0]]!r}?)" if close else ""


def parse(raw: bytes, what: str) -> dict[str, Any]:
    """Parse a TOML file; numbers with a point are exact.

    Raises:
        Invalid: too large, not UTF-8, no TOML, or with a number of very many digits.

    """
    if len(raw) > MAX_BYTES:
        raise Invalid(
            f"{what} is too large", f"got {len(raw)} bytes, at most {MAX_BYTES} are read", "split it"
        )
    try:
        return tomllib.loads(raw.decode(), parse_float=_number)
    except (ValueError, ArithmeticError, RecursionError) as fault:
        why = (
            "a number is too long, or the nesting too deep"
            if isinstance(fault, RecursionError)
            else str(fault)
        )
        raise Invalid(f"{what} is not valid TOML", why, "correct that line") from fault


def _number(text: str) -> Decimal:
    value = Decimal(text.replace("_", ""))
    if not value.is_finite() or len(text) > MAX_DIGITS + 2:
        raise ValueError(f"{text[:24]!r} is no number this file may have")
    return value


def read(data: Any, kind: type[T], where: str) -> T:
    """Turn TOML data into a struct.

    Raises:
        Invalid: an unknown key (with the nearest known one), a key that is missing, or a wrong type.

    """
    _known(data, msgspec.inspect.type_info(kind), where)
    try:
        return msgspec.convert(data, kind, strict=True)
    except (msgspec.ValidationError, ArithmeticError, RecursionError) as fault:
        raise Invalid(f"{where} cannot be read", str(fault), "correct it") from fault


def _known(data: Any, kind: Any, where: str) -> None:
    """Refuse keys nobody knows, at any depth."""
    info = msgspec.inspect
    if isinstance(kind, info.Metadata):
        _known(data, kind.type, where)
    elif isinstance(kind, info.UnionType):
        for one in kind.types:
            if isinstance(one, info.StructType | info.DictType) == isinstance(data, dict):
                _known(data, one, where)
    elif isinstance(data, dict):
        _known_keys(data, kind, where)
    elif isinstance(kind, info.VarTupleType | info.ListType) and isinstance(data, list):
        for n, value in enumerate(data):
            label = value.get("id", n) if isinstance(value, dict) else n
            _known(value, kind.item_type, f"{where}.{label}")


def _known_keys(data: dict[str, Any], kind: Any, where: str) -> None:
    if isinstance(kind, msgspec.inspect.DictType):
        for key, value in data.items():
            _known(value, kind.value_type, f"{where}.{key}")
    if not isinstance(kind, msgspec.inspect.StructType):
        return
    fields = {field.encode_name: field for field in kind.fields}
    for key, value in data.items():
        if key not in fields:
            raise Invalid(
                f"unknown key {where}.{key}{nearest(key, fields)}",
                "known here: " + ", ".join(sorted(fields)),
                "correct or remove the key",
                param=f"{where}.{key}",
            )
        _known(value, fields[key].type, f"{where}.{key}")
