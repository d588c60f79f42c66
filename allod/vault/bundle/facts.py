"""Facts for plans in a catalogue: devices, models, grids and measured points, each dated with its source.

The keys are the columns of the planner's tables, the ones that are numbers as JSON numbers, what is not known
left out::

    "devices": {"h100-sxm": {"name", "vendor", "device_class", "tier", "mem_gb", ..., "as_of", "source"}}
    "grids": {"DEU": {"country", "carbon_gco2_kwh", ..., "as_of", "source"}}
    "models": {"MAKER/NAME": {"facts": {"maker", "licence", ..., "config": {...}, "as_of", "source"}}}
    "points": [{"hardware", "model", "quant", "engine", "metric", "value", ..., "as_of", "source"}]

A number is positive, finite and within what can be meant; a text is short and printable. What a configuration
describes is looked at by whoever plans with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

DEVICE_NUMBERS: Final = {
    "mem_gb": 1e6, "mem_bw_gbs": 1e9, "bf16_dense_tflops": 1e9, "fp8_dense_tflops": 1e9,
    "fp4_dense_tflops": 1e9, "int8_dense_tops": 1e9, "tdp_w": 1e6, "allin_kw_per_gpu": 1e4,
    "scaleup_gbs_unidir": 1e6,
    "scaleup_domain": 1e5, "price_usd": 1e9, "owner_usd_per_gpu_h": 1e5, "neocloud_usd_per_gpu_h": 1e5,
    "rental3y_usd_per_gpu_h": 1e5,
}  # fmt: skip
"""Numeric keys of a device and the largest value that can be meant."""
DEVICE_TEXTS: Final = (
    "name",
    "vendor",
    "maker_jurisdiction",
    "device_class",
    "tier",
    "source",
    "note",
    "price_note",
)
"""Keys of a device that are text."""
OTHER_NUMBERS: Final = {
    "params_total_b": 1e6, "params_active_b": 1e6, "context_tokens": 1e9, "carbon_gco2_kwh": 1e4,
    "low_carbon_share": 1.0, "water_l_kwh": 1e4, "year": 2200.0, "value": 1e9, "devices": 1e5,
    "concurrency": 1e5, "isl": 1e9, "osl": 1e9,
}  # fmt: skip
"""Numeric keys of models, grids and points and the largest value that can be meant."""
POINT_BOUNDS: Final = {"tpot_ms": (1e-3, 1e7), "ttft_ms": (1e-2, 1e9), "tok_s": (1e-4, 1e6)}
"""What a measurement can be: ms between tokens, ms to the first, tokens a second of one stream."""
ZERO: Final = frozenset({"carbon_gco2_kwh", "low_carbon_share", "water_l_kwh", "isl", "osl"})
"""Numbers that may be zero."""
LEAST: Final = Decimal("1e-9")
"""No figure of a plan is smaller, but where it may be zero."""
FIRST: Final = date(2015, 1, 1)
"""Nothing a plan rests on was published before."""
MAX_ROWS: Final = 20_000
"""Rows of one kind in a catalogue."""
MAX_TEXT: Final = 400
MAX_CONFIG_BYTES: Final = 256 * 1024
_COUNTRY: Final = re.compile(r"[A-Z]{2}")
_ISO3: Final = re.compile(r"[A-Z]{3}")
_RELEASED: Final = re.compile(r"\d{4}(-\d{2}){0,2}")


class _Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    as_of: date
    source: str
    note: str = ""

    def cells(self) -> dict[str, str]:
        """Return the row as a line of the planner's table: text, what is not known empty."""
        return {
            name: "" if value is None else ("1" if value else "") if isinstance(value, bool) else str(value)
            for name in self.__struct_fields__
            if not isinstance(value := getattr(self, name), msgspec.Raw)
        }


class DeviceFacts(_Row, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One device; units are in the names, GB of memory are GiB."""

    name: str
    vendor: str
    maker_jurisdiction: str = ""
    device_class: str
    tier: str
    unified: bool = False
    mem_gb: Decimal | None = None
    mem_bw_gbs: Decimal | None = None
    bf16_dense_tflops: Decimal | None = None
    fp8_dense_tflops: Decimal | None = None
    fp4_dense_tflops: Decimal | None = None
    int8_dense_tops: Decimal | None = None
    tdp_w: Decimal | None = None
    scaleup_gbs_unidir: Decimal | None = None
    scaleup_domain: int | None = None
    price_usd: Decimal | None = None
    price_note: str = ""
    owner_usd_per_gpu_h: Decimal | None = None
    neocloud_usd_per_gpu_h: Decimal | None = None
    rental3y_usd_per_gpu_h: Decimal | None = None
    allin_kw_per_gpu: Decimal | None = None


class ModelFacts(_Row, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model. ``config`` is its config.json; ``config_id`` names another model of the same shape."""

    maker: str
    maker_jurisdiction: str = ""
    licence: str = ""
    released: str = ""
    params_total_b: Decimal | None = None
    params_active_b: Decimal | None = None
    context_tokens: int | None = None
    config_id: str = ""
    config: msgspec.Raw = msgspec.Raw()

    def configuration(self) -> Mapping[str, Any] | None:
        """Return the parsed config.json, None where the row has none."""
        found: Mapping[str, Any] | None = json.loads(bytes(self.config)) if bytes(self.config) else None
        return found


class GridFacts(_Row, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Electricity of one country: gCO2e and litres of water per kWh, share without carbon, year it is of."""

    country: str
    carbon_gco2_kwh: Decimal | None = None
    year: int | None = None
    low_carbon_share: Decimal | None = None
    water_l_kwh: Decimal | None = None


class PointFacts(_Row, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measurement: ms, or tokens a second of one stream, with the conditions it was made under."""

    hardware: str
    devices: int = 1
    model: str
    quant: str
    engine: str
    concurrency: Decimal = Decimal(1)
    isl: Decimal
    osl: Decimal
    metric: Literal["tpot_ms", "ttft_ms", "tok_s"]
    value: Decimal


class Wrong(ValueError):
    """A row that is not what it has to be."""


def single_keys(raw: bytes) -> None:
    """Check that no object of a JSON text names a key twice, and that every number is one.

    Raises:
        ValueError: there is a key twice, NaN or an infinity, or it is no JSON or nested too deep.

    """

    def once(pairs: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        if len(set(names)) != len(names):
            twice = next(name for n, name in enumerate(names) if name in names[:n])
            raise Wrong(f"{twice[:80]!r} is there twice")

    def number(text: str) -> None:
        raise Wrong(f"{text} is no number")

    try:
        json.loads(raw, object_pairs_hook=once, parse_constant=number)
    except RecursionError as error:
        raise Wrong("it is nested too deep") from error


def check(
    devices: Mapping[str, DeviceFacts],
    models: Mapping[str, ModelFacts],
    grids: Mapping[str, GridFacts],
    points: tuple[PointFacts, ...],
    now_ms: int,
) -> None:
    """Check every row; a row may be dated up to a day after ``now_ms`` (UTC milliseconds).

    Raises:
        Wrong: one is not what it has to be; it is named.

    """
    last = datetime.fromtimestamp(now_ms // 1000, UTC).date() + timedelta(days=1)
    _named("device", devices, last)
    _named("model", models, last)
    _named("grid", grids, last)
    if len(points) > MAX_ROWS:
        raise Wrong(f"it has {len(points)} points, allowed are {MAX_ROWS}")
    for n, point in enumerate(points, 1):
        _row(f"point {n}", point.hardware, point, last)
        low, high = POINT_BOUNDS[point.metric]
        if not low <= point.value <= high:
            raise Wrong(f"point {n}: {point.metric} is {point.value}, expected {low:g} to {high:g}")
    for name, grid in grids.items():
        if _ISO3.fullmatch(name) is None:
            raise Wrong(f"grid {name[:80]!r} is no ISO 3166-1 alpha-3 code")
        if grid.year is not None and grid.year < FIRST.year - 15:
            raise Wrong(f"grid {name}: year is {grid.year}")
    for name, model in models.items():
        _model(f"model {name[:80]!r}", model)


def _named(kind: str, rows: Mapping[str, _Row], last: date) -> None:
    if len(rows) > MAX_ROWS:
        raise Wrong(f"it has {len(rows)} rows of kind {kind}, allowed are {MAX_ROWS}")
    spelt: dict[str, str] = {}
    for name, row in rows.items():
        other = spelt.setdefault(re.sub(r"[\s_/:.-]+", "-", name.lower()).strip("-"), name)
        if other != name:
            raise Wrong(f"{kind} {name[:80]!r} and {other[:80]!r} are one name")
        _row(f"{kind} {name[:80]!r}", name, row, last)


def _row(what: str, name: str, row: _Row, last: date) -> None:
    for field, text in (("its name", name), *_texts(row)):
        if len(text) > MAX_TEXT or not text.isprintable():
            raise Wrong(f"{what}: {field} is too long or not printable")
    if not name.strip():
        raise Wrong(f"{what} has no name")
    if not row.source.strip():
        raise Wrong(f"{what} does not say where it is from")
    if not FIRST <= row.as_of <= last:
        raise Wrong(f"{what}: as_of is {row.as_of}, expected {FIRST} to {last}")
    code = getattr(row, "maker_jurisdiction", "")
    if code and _COUNTRY.fullmatch(code) is None:
        raise Wrong(f"{what}: maker_jurisdiction is {code[:20]!r}, expected an ISO 3166-1 alpha-2 code")
    for field, high in (DEVICE_NUMBERS if isinstance(row, DeviceFacts) else OTHER_NUMBERS).items():
        value = getattr(row, field, None)
        if value is None:
            continue
        number = Decimal(value)
        if not number.is_finite() or not _meant(number, Decimal(high), zero=field in ZERO):
            raise Wrong(f"{what}: {field} is {str(value)[:40]}, expected a number over 0, at most {high:g}")


def _meant(number: Decimal, high: Decimal, *, zero: bool) -> bool:
    return LEAST <= number <= high or (zero and number == 0)


def _texts(row: _Row) -> Iterator[tuple[str, str]]:
    for field in row.__struct_fields__:
        value = getattr(row, field)
        if isinstance(value, str):
            yield field, value


def _model(what: str, row: ModelFacts) -> None:
    if row.released and _RELEASED.fullmatch(row.released) is None:
        raise Wrong(f"{what}: released is {row.released[:20]!r}, expected a day, month or year")
    config = bytes(row.config)
    if config and row.config_id:
        raise Wrong(f"{what} has both config and config_id")
    if len(config) > MAX_CONFIG_BYTES:
        raise Wrong(f"{what}: its config has {len(config)} bytes, allowed are {MAX_CONFIG_BYTES}")
    if config and not config.lstrip().startswith(b"{"):
        raise Wrong(f"{what}: its config is no object")
    total, active = row.params_total_b, row.params_active_b
    if total is not None and active is not None and active > total:
        raise Wrong(f"{what}: {active} billion of {total} billion parameters are active")
