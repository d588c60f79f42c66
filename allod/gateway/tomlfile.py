"""Writing TOML: one table of plain values after the other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from allod.domain.money import plain


def table(head: str, values: Mapping[str, Any]) -> str:
    """Write a table under its head; keys whose value is None are left out."""
    rows = [f"{_key(key)} = {value(item)}" for key, item in values.items() if item is not None]
    return "\n".join([head, *rows, ""])


def value(item: Any) -> str:
    """Write one value inline: text, truth, whole or exact number, day or time, list or table of such."""
    if isinstance(item, str):
        return text(item)
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, Decimal | date):
        return plain(item) if isinstance(item, Decimal) else item.isoformat()
    if isinstance(item, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {value(v)}" for k, v in item.items()) + " }"
    if isinstance(item, list | tuple):
        return "[" + ", ".join(value(one) for one in item) + "]"
    return str(int(item))


def text(item: str) -> str:
    """Write a basic string: as JSON does, but for what only JSON allows (TOML 1.0, basic strings)."""
    return json.dumps(item, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if bare else text(name)
