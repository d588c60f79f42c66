"""Facts a person brings along: a device out of a TOML, a model out of its own files."""

from __future__ import annotations

import tomllib
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from allod.domain.errors import Invalid
from allod.planner.architecture import from_config, from_gguf, from_safetensors
from allod.planner.catalogue import Device, ModelCard, device_from
from allod.planner.files import read_config_file
from allod.vault.bundle.facts import DEVICE_NUMBERS as NUMBERS
from allod.vault.bundle.facts import DEVICE_TEXTS as TEXTS

MOST_BYTES: Final = 1 << 20


def _wrong(path: Path, why: str) -> Invalid:
    return Invalid(
        f"{path} describes no device",
        why,
        f"keys are {', '.join((*TEXTS, 'unified', *NUMBERS))}",
        param="device",
    )


def own_device(path: Path, name: str) -> Device:
    """Read a device of a TOML whose keys are the columns of ``devices.csv``; ``mem_gb`` is needed.

    Raises:
        Invalid: no TOML, an unknown key, or a number that is none, not positive or absurd.

    """
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise _wrong(path, f"it is over {MOST_BYTES} bytes")
        data = tomllib.loads(raw.decode(), parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError, OSError) as error:
        raise _wrong(path, str(error)[:160]) from error
    row: dict[str, str] = {"id": str(data.pop("id", name))[:100]}
    for key in TEXTS:
        value = data.pop(key, "")
        if not isinstance(value, str):
            raise _wrong(path, f"{key} must be text")
        row[key] = value[:400]
    row["unified"] = "1" if data.pop("unified", False) is True else ""
    for key, high in NUMBERS.items():
        row[key] = _number(path, key, data.pop(key, None), high)
    if data:
        raise _wrong(path, f"{', '.join(map(str, data))[:100]} is no key of a device")
    if not row["mem_gb"]:
        raise _wrong(path, "it lacks mem_gb")
    row["name"] = row["name"] or row["id"]
    row["source"] = row["source"] or f"entered by hand in {path.name}"
    row["as_of"] = _day(path).isoformat()
    return device_from(row)


def _number(path: Path, key: str, value: Any, high: float) -> str:
    if value is None:
        return ""
    try:
        number = Decimal(str(value)) if not isinstance(value, bool) else Decimal("NaN")
    except InvalidOperation as error:
        raise _wrong(path, f"{key} is {str(value)[:40]!r}, expected a number") from error
    if not number.is_finite() or not 0 < number <= Decimal(high):
        raise _wrong(path, f"{key} is {str(value)[:40]!r}, expected a number over 0, at most {high:g}")
    return str(number)


def _day(path: Path) -> date:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).date()


def own_model(path: Path, name: str) -> ModelCard:
    """Read a model of its ``config.json``, a GGUF file or a folder of safetensors.

    Raises:
        Invalid: the file is absent, malformed or contradictory.

    """
    inside = sorted(path.glob("*.gguf")) if path.is_dir() and not (path / "config.json").exists() else []
    if inside or path.suffix == ".gguf":
        architecture = from_gguf(inside[0] if inside else path)
    elif path.is_dir() or path.suffix == ".safetensors":
        architecture = from_safetensors(path if path.is_dir() else path.parent)
    else:
        architecture = from_config(read_config_file(path), name or path.parent.name)
    return ModelCard(
        id=name or architecture.name or path.name,
        maker="",
        maker_jurisdiction="",
        architecture=architecture,
        params_total=architecture.params_total(),
        params_active=architecture.params_active(),
        context_tokens=architecture.max_position or None,
        as_of=_day(path),
        source=f"read from {path.name}",
    )
