"""Strict reading of a model's ``config.json``: every number has a type, a bound and a name in the error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from allod.domain.errors import Invalid

MAX_LAYERS: Final = 1_000
MAX_WIDTH: Final = 1_000_000
MAX_VOCAB: Final = 10_000_000
MAX_EXPERTS: Final = 100_000
MAX_POSITION: Final = 1_000_000_000
REMEDY: Final = "take the config.json from the model's own repository, unchanged"


def wrong(why: str, param: str = "config") -> NoReturn:
    """Refuse a configuration (raises ``Invalid``)."""
    raise Invalid("this configuration describes no model that can be planned", why, REMEDY, param=param)


class Facts:
    """A configuration being read. Keys are tried in the order given; null counts as absent."""

    def __init__(self, data: Any) -> None:
        if not isinstance(data, Mapping):
            wrong(f"it is {type(data).__name__}, expected an object")
        self.data: Mapping[str, Any] = data

    def has(self, *keys: str) -> bool:
        """Tell whether one of the keys is there and not null."""
        return any(self.data.get(key) is not None for key in keys)

    def number(self, *keys: str, low: int = 0, high: int = MAX_WIDTH, default: int | None = None) -> int:
        """Return the whole number of the first key that is there, within bounds.

        Raises:
            Invalid: it is not a whole number, out of bounds, or absent and there is no default.

        """
        for key in keys:
            value = self.data.get(key)
            if value is None:
                continue
            if isinstance(value, list | tuple) and value and all(one == value[0] for one in value):
                value = value[0]  # some makers repeat one number for every layer
            if isinstance(value, float) and value.is_integer() and abs(value) <= high:
                value = int(value)
            if not isinstance(value, int) or isinstance(value, bool):
                wrong(f"{key} is {type(value).__name__} {str(value)[:40]!r}, expected a whole number", key)
            if not low <= value <= high:
                wrong(f"{key} is {str(value)[:40]}, expected {low} to {high}", key)
            return value
        if default is None:
            wrong(f"it lacks {keys[0]}", keys[0])
        return default

    def real(self, key: str, default: float, low: float, high: float) -> float:
        """Return a finite number within bounds, or the default where it is absent."""
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            wrong(f"{key} is {str(value)[:40]!r}, expected {low} to {high}", key)
        return float(value)

    def flag(self, key: str, default: bool = False) -> bool:
        """Return a boolean, or the default where it is absent."""
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            wrong(f"{key} is {str(value)[:40]!r}, expected true or false", key)
        return value

    def text(self, key: str, default: str = "") -> str:
        """Return a string, or the default where it is absent."""
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            wrong(f"{key} is {type(value).__name__}, expected a string", key)
        return value

    def part(self, key: str) -> Facts | None:
        """Return a nested object, or None where it is absent."""
        value = self.data.get(key)
        return None if value is None else Facts(value)

    def items(self, key: str) -> Sequence[Any] | None:
        """Return a list, or None where it is absent; some makers write a list as text."""
        value = self.data.get(key)
        if value is None:
            return None
        if isinstance(value, str) and value.startswith("["):
            value = [int(one) for one in value.strip("[]").split(",") if one.strip().isdigit()]
        if not isinstance(value, list | tuple):
            wrong(f"{key} is {type(value).__name__}, expected a list", key)
        return value

    def per_layer(self, key: str, layers: int) -> Sequence[Any] | None:
        """Return a list with an entry for each layer (what follows belongs to speculation layers).

        Raises:
            Invalid: it is shorter than the layers.

        """
        value = self.items(key)
        if value is not None and len(value) < layers:
            wrong(f"{key} has {len(value)} entries for {layers} layers", key)
        return value
