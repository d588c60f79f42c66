"""Devices, models and grids the planner knows: dated rows with a source; a blank is not known, never zero.

What ships is one catalogue; ``overlay`` lays what bundles and files brought over it. ``using`` says in which
one the functions of this module look: a command says so once, whoever says nothing has what ships.
"""

from __future__ import annotations

import contextlib
import csv
import difflib
import functools
import hashlib
import importlib.resources
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.errors import Invalid
from allod.planner.architecture import Architecture, from_row

if TYPE_CHECKING:
    from allod.vault.bundle.facts import PointFacts

MONTH_H: Final = 730
GB: Final = 1 << 30
"""Makers write the memory of a device as GB and build GiB."""
TABLES: Final = (
    "aliases.csv",
    "configs.json",
    "devices.csv",
    "grid.csv",
    "measured.csv",
    "models.csv",
    "speed_configs.json",
)
"""What ships as facts, the measured points among them."""
_SAME: Final = re.compile(r"(-(v[0-9.]+(-[0-9]+)?|instruct|base|chat|it|hf|a?[0-9.]+[be]|[0-9]{4,6}))+$")
"""What may follow a name without making it another model: GLM-4.5-Air is not GLM-4.5."""
_SUFFIXES: Final = re.compile(r"-(instruct|chat|it|base|hf|fp8|nvfp4|bf16|fp4|gguf|awq|gptq|v0\.1)(?=-|$)")


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One accelerator or computer. None is not known. Rates are dense, per second; bytes, watts, USD."""

    id: str
    name: str
    vendor: str
    maker_jurisdiction: str
    device_class: str
    tier: str
    mem_bytes: int | None = None
    unified: bool = False
    mem_bw_bytes_s: float | None = None
    bf16_flops: float | None = None
    fp8_flops: float | None = None
    fp4_flops: float | None = None
    int8_ops: float | None = None
    tdp_w: float | None = None
    allin_w: float | None = None
    scaleup_bytes_s: float | None = None
    scaleup_devices: int | None = None
    price_usd: Decimal | None = None
    price_note: str = ""
    owner_usd_h: Decimal | None = None
    neocloud_usd_h: Decimal | None = None
    rental3y_usd_h: Decimal | None = None
    as_of: date
    source: str
    note: str = ""


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """One open model. ``licence`` and ``maker_jurisdiction`` are empty where not known."""

    id: str
    maker: str
    maker_jurisdiction: str
    licence: str = ""
    released: str = ""
    architecture: Architecture | None = None
    params_total: float | None = None
    params_active: float | None = None
    context_tokens: int | None = None
    as_of: date
    source: str
    note: str = ""


class GridRow(msgspec.Struct, frozen=True, kw_only=True):
    """Electricity of one country. Carbon in gCO2e/kWh, water in litre/kWh, the share without carbon."""

    iso3: str
    country: str
    carbon_g_kwh: float | None = None
    low_carbon_share: float | None = None
    water_l_kwh: float | None = None
    year: int | None = None
    as_of: date
    source: str


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where rows of a catalogue are from: day, digest of the file, its source, and who vouches for it.

    ``rank`` decides between rows of one day: a file (2) before a bundle (1) before what ships (0).
    """

    as_of: date
    digest: str
    source: str
    vouched: str
    rank: int = 0


class Passed(msgspec.Struct, frozen=True, kw_only=True):
    """A row that is not used, because another of the same name is newer."""

    kind: str
    id: str
    as_of: date
    origin: Origin
    used: date
    by: Origin


SHIPPED: Final = "shipped"
BY_HAND: Final = "handed over with the command, signed by nobody"


class Catalogue:
    """Rows by name, each with its origin, and how names are found.

    Args:
        devices, models, grids: rows by id; those that ship first.
        points: measurements besides those that ship, as ``facts.PointFacts``, each with its origin.
        layers: the origins there are, the newest first, the shipped one among them.
        origins: by kind (``device``, ``model``, ``grid``) and id, those that are not shipped.
        passed: rows that are not used.

    """

    def __init__(
        self,
        devices: Mapping[str, Device],
        models: Mapping[str, ModelCard],
        grids: Mapping[str, GridRow],
        *,
        layers: tuple[Origin, ...],
        points: tuple[tuple[PointFacts, Origin], ...] = (),
        origins: Mapping[tuple[str, str], Origin] | None = None,
        passed: tuple[Passed, ...] = (),
    ) -> None:
        self.devices, self.models, self.grids = devices, models, grids
        self.layers, self.points, self.passed = layers, points, passed
        self._origins: Final = {} if origins is None else origins
        self._base: Final = next((one for one in layers if one.rank == 0), layers[-1])

    def origin(self, row: Device | ModelCard | GridRow) -> Origin:
        """Return where a row is from; one that is not of this catalogue was handed over with the command."""
        kind, name, held = _place(self, row)
        if held is row:
            return self._origins.get((kind, name), self._base)
        return Origin(as_of=row.as_of, digest="", source=row.source, vouched=BY_HAND, rank=2)

    @functools.cached_property
    def device_names(self) -> Mapping[str, str]:
        """Spellings of devices and the ids they mean: ids before aliases before names."""
        out = {spelt(one): one for one in self.devices}
        for alias, one in _aliases().items():
            if one in self.devices:
                out.setdefault(spelt(alias), one)
        for row in self.devices.values():
            out.setdefault(spelt(row.name), row.id)
        return MappingProxyType(out)

    @functools.cached_property
    def model_names(self) -> Mapping[str, str]:
        """Spellings of models and the ids they mean; where two have one, the first."""
        out = {spelt(one): one for one in self.models}
        for one in self.models:
            for key in (spelt(one), spelt(one.rsplit("/", 1)[-1])):
                for short in (
                    key,
                    _SUFFIXES.sub("", key),
                    _SUFFIXES.sub("", key).replace("meta-llama-", "llama-"),
                ):
                    out.setdefault(short, one)
        for alias, one in _aliases().items():
            if one in self.models:
                out.setdefault(spelt(alias), one)
        return MappingProxyType(out)

    def find_device(self, name: str) -> Device:
        """Return a device by its id or a usual spelling (raises ``Invalid``, see the function)."""
        plain = spelt(re.sub(r"\s*\(.*\)\s*$", "", name))
        found = self.device_names.get(plain)
        if found is not None:
            return self.devices[found]
        near = _nearest(plain, self.devices)
        raise Invalid(
            f"no device {name[:60]!r} is known",
            f"the nearest are {near}" if near else "nothing in the catalogue is near it",
            "name one of these, or pass --device-facts FILE, a TOML with mem_gb, mem_bw_gbs, ...",
            param="device",
        )

    def find_model(self, name: str) -> ModelCard:
        """Return a model by id or a usual spelling (raises ``Invalid``, see the function)."""
        known, full = self.model_names, spelt(re.sub(r"\s*\(.*\)\s*$", "", name))
        last = spelt(name.rsplit("/", 1)[-1])
        for key in (full, last, _SUFFIXES.sub("", full), _SUFFIXES.sub("", last)):
            for spelling in (key, key.replace("meta-llama-", "llama-")):
                if spelling in known:
                    return self.models[known[spelling]]
        begins = {known[key] for key in known if key.startswith(f"{last}-")}
        same = {known[key] for key in known if key.startswith(f"{last}-") and _SAME.match(key, len(last))}
        if len(begins) == 1 and same:
            return self.models[same.pop()]
        near = ", ".join(sorted(begins)[:6]) or _nearest(last, self.models)
        raise Invalid(
            f"no model {name[:60]!r} is known",
            f"the nearest are {near}" if near else "nothing in the catalogue is near it",
            "name one of these, or pass --model-config config.json or --file model.gguf",
            param="model",
        )


def _place(
    held: Catalogue, row: Device | ModelCard | GridRow
) -> tuple[str, str, Device | ModelCard | GridRow | None]:
    if isinstance(row, Device):
        return "device", row.id, held.devices.get(row.id)
    if isinstance(row, ModelCard):
        return "model", row.id, held.models.get(row.id)
    return "grid", row.iso3, held.grids.get(row.iso3)


def rows(name: str) -> list[dict[str, str]]:
    """Read one packaged table (``devices.csv``, ...); every cell is text, a blank is empty."""
    text = importlib.resources.files("allod.planner").joinpath("data", name).read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))


def _number(row: Mapping[str, str], key: str, unit: float = 1.0) -> float | None:
    return float(row[key]) * unit if row.get(key) else None


def _money(row: Mapping[str, str], key: str) -> Decimal | None:
    return Decimal(row[key]) if row.get(key) else None


def device_from(row: Mapping[str, str]) -> Device:
    """Build a device of a row of ``devices.csv`` (units are in the column names)."""
    memory = _number(row, "mem_gb", GB)
    domain = _number(row, "scaleup_domain")
    return Device(
        id=row["id"],
        name=row["name"],
        vendor=row["vendor"],
        maker_jurisdiction=row["maker_jurisdiction"],
        device_class=row["device_class"],
        tier=row["tier"],
        mem_bytes=None if memory is None else int(memory),
        unified=row.get("unified") == "1",
        mem_bw_bytes_s=_number(row, "mem_bw_gbs", 1e9),
        bf16_flops=_number(row, "bf16_dense_tflops", 1e12),
        fp8_flops=_number(row, "fp8_dense_tflops", 1e12),
        fp4_flops=_number(row, "fp4_dense_tflops", 1e12),
        int8_ops=_number(row, "int8_dense_tops", 1e12),
        tdp_w=_number(row, "tdp_w"),
        allin_w=_number(row, "allin_kw_per_gpu", 1e3),
        scaleup_bytes_s=_number(row, "scaleup_gbs_unidir", 1e9),
        scaleup_devices=None if domain is None else int(domain),
        price_usd=_money(row, "price_usd"),
        price_note=row.get("price_note", ""),
        owner_usd_h=_money(row, "owner_usd_per_gpu_h"),
        neocloud_usd_h=_money(row, "neocloud_usd_per_gpu_h"),
        rental3y_usd_h=_money(row, "rental3y_usd_per_gpu_h"),
        as_of=date.fromisoformat(row["as_of"]),
        source=row["source"],
        note=row.get("note", ""),
    )


@functools.cache
def configs() -> Mapping[str, Any]:
    """Return the configurations that ship, by model."""
    text = importlib.resources.files("allod.planner").joinpath("data", "configs.json").read_text("utf-8")
    return json.loads(text)  # type: ignore[no-any-return]


def card_from(row: Mapping[str, str], config: Mapping[str, Any] | None) -> ModelCard:
    """Build a model card of a row of ``models.csv`` and, where there is one, its configuration."""
    architecture = from_row({"id": row["id"], "config": config}) if config else None
    total, active = _number(row, "params_total_b", 1e9), _number(row, "params_active_b", 1e9)
    if architecture is not None:
        total, active = architecture.params_total(), architecture.params_active()
    context = _number(row, "context_tokens")
    if context is None and architecture is not None and architecture.max_position:
        context = architecture.max_position
    return ModelCard(
        id=row["id"],
        maker=row["maker"],
        maker_jurisdiction=row["maker_jurisdiction"],
        licence=row["licence"],
        released=row["released"],
        architecture=architecture,
        params_total=total,
        params_active=active,
        context_tokens=None if context is None else int(context),
        as_of=date.fromisoformat(row["as_of"]),
        source=row["source"],
        note=row["note"],
    )


def grid_from(row: Mapping[str, str]) -> GridRow:
    """Build the electricity of a country of a row of ``grid.csv``."""
    year = _number(row, "year")
    return GridRow(
        iso3=row["iso3"],
        country=row["country"],
        carbon_g_kwh=_number(row, "carbon_gco2_kwh"),
        low_carbon_share=_number(row, "low_carbon_share"),
        water_l_kwh=_number(row, "water_l_kwh"),
        year=None if year is None else int(year),
        as_of=date.fromisoformat(row["as_of"]),
        source=row["source"],
    )


def shipped_digest() -> str:
    """Return the SHA-256 over names and digests of everything that ships as facts."""
    folder = importlib.resources.files("allod.planner").joinpath("data")
    lines = [f"{hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest()}  {name}\n" for name in TABLES]
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


@functools.cache
def shipped() -> Catalogue:
    """Return the catalogue that comes with the program; its day is that of its newest row."""
    found = configs()
    machines = {row["id"]: device_from(row) for row in rows("devices.csv")}
    cards = {
        row["id"]: card_from(row, found.get(row["config_id"] or row["id"])) for row in rows("models.csv")
    }
    grids = {row["iso3"]: grid_from(row) for row in rows("grid.csv")}
    days = [date.fromisoformat(row["as_of"]) for name in TABLES[2:6] for row in rows(name)]
    return Catalogue(
        MappingProxyType(machines),
        MappingProxyType(cards),
        MappingProxyType(grids),
        layers=(
            Origin(
                as_of=max(days),
                digest=shipped_digest(),
                source="public sources, named in every row",
                vouched=SHIPPED,
            ),
        ),
    )


_READ: Final[ContextVar[Callable[[], Catalogue]]] = ContextVar("catalogue", default=shipped)


def current() -> Catalogue:
    """Return the catalogue in use (raises what reading it raises)."""
    return _READ.get()()


@contextlib.contextmanager
def using(read: Callable[[], Catalogue]) -> Iterator[None]:
    """Use another catalogue inside; it is read when it is first asked for, once."""
    token = _READ.set(functools.cache(read))
    try:
        yield
    finally:
        _READ.reset(token)


def devices() -> Mapping[str, Device]:
    """Return every device of the catalogue by its id."""
    return current().devices


def models() -> Mapping[str, ModelCard]:
    """Return every model of the catalogue by its id."""
    return current().models


def grid() -> Mapping[str, GridRow]:
    """Return the electricity of every country by ISO 3166-1 alpha-3 code."""
    return current().grids


def spelt(name: str) -> str:
    """Return the spelling under which a device or model is compared: lower case, one kind of dash."""
    return re.sub(r"[\s_/:.]+", "-", name.strip().lower()).strip("-")


@functools.cache
def _aliases() -> Mapping[str, str]:
    return {row["alias"]: row["id"] for row in rows("aliases.csv")}


def _nearest(name: str, known: Iterable[str]) -> str:
    by = {spelt(one).rsplit("/", 1)[-1]: one for one in known}
    close = difflib.get_close_matches(spelt(name), list(by), 3, 0.4)
    return ", ".join(by[one] for one in close)


def find_device(name: str, own: Path | None = None) -> Device:
    """Return a device by its id or a usual spelling (``h100_sxm``, ``GB200``); ``own`` is a TOML of facts.

    A trailing remark in brackets is not part of the name. With ``own`` the file decides: the same keys as
    the columns of ``devices.csv``.

    Raises:
        Invalid: no device of this name is known; the nearest are named, and what to pass instead.

    """
    if own is not None:
        from allod.planner.own import own_device  # noqa: PLC0415 (only with a file)

        return own_device(own, name)
    return current().find_device(name)


def find_model(name: str, own: Path | None = None) -> ModelCard:
    """Return a model by id or a usual spelling, or by its own ``config.json``, GGUF or safetensors folder.

    Raises:
        Invalid: no model of this name is known; the nearest are named, and what to pass instead.

    """
    if own is not None:
        from allod.planner.own import own_model  # noqa: PLC0415 (only with a file)

        return own_model(own, name)
    return current().find_model(name)


def usd_month(device: Device) -> tuple[float, str] | None:
    """Return what a device costs a month by its published rates and which that is, None if none is known."""
    for rate, words in (
        (device.owner_usd_h, "owner's cost an hour, all in but staff"),
        (device.rental3y_usd_h, "three years' rental"),
    ):
        if rate is not None:
            how = f"{words}: {rate} USD x {MONTH_H} h; {device.source}, {device.as_of}"
            return float(rate) * MONTH_H, how
    return None
