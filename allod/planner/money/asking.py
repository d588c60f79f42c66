"""Putting a question together: what the catalogue says of hardware and site, which offers, which speed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Final

import msgspec

from allod.domain.errors import Invalid
from allod.metering.book import Book
from allod.planner.catalogue import Device, GridRow
from allod.planner.estimate import Estimate
from allod.planner.money.case import Case, curve
from allod.planner.money.comparators import Side
from allod.planner.money.inputs import Input, Inputs, gathered, made
from allod.planner.prices import Offer, hosted, offer

FRONTIER: Final = "openai/gpt-5.5"
STREET: Final = (Decimal("0.85"), Decimal("1.15"))
"""How far an offer may lie from a list or street price: an assumption."""
MOST_NODES: Final = 10_000
MOST_DEVICES: Final = 1024


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked.

    Attributes:
        model: the open model, by any name.
        frontier: entry of the price book; open_api: the same for the open model, None to find it.
        device: from the catalogue; devices: per node; nodes: how many.
        day: whose prices count.
        file, flags: inputs that were said.
        speed: output tokens/s of one node, where it was estimated; no_speed: why it was not.
        grid: of the country where the hardware stands.
        load_curve, tariff_curve: 24 numbers by hour (UTC), empty for flat.

    """

    model: str
    frontier: str = FRONTIER
    open_api: str | None = None
    device: Device | None = None
    devices: int = 8
    nodes: int = 1
    day: date
    file: tuple[Input, ...] = ()
    flags: tuple[Input, ...] = ()
    speed: Estimate | None = None
    no_speed: str = ""
    grid: GridRow | None = None
    load_curve: tuple[Decimal, ...] = ()
    tariff_curve: tuple[Decimal, ...] = ()


def ask(question: Question, book: Book) -> tuple[Case, Mapping[Side, str]]:
    """Return the case and what each of its ways is called.

    Raises:
        Invalid: counts out of range, contradictory inputs, a frontier entry that the book does not know.

    """
    for name, count, most in (
        ("devices", question.devices, MOST_DEVICES),
        ("nodes", question.nodes, MOST_NODES),
    ):
        if not 1 <= count <= most:
            raise Invalid(f"{name} cannot be {count}", f"accepted are 1 to {most}", "correct it", param=name)
    inputs = gathered(from_catalogue(question), question.file, question.flags)
    trouble: dict[str, str] = {}
    frontier = offer(question.frontier, book, question.day)
    open_offer = _open(question, book, trouble)
    _hardware(question, inputs, trouble)
    flat = (Decimal(1),) * 24
    case = Case(
        inputs=inputs,
        months=_months(inputs),
        frontier=frontier,
        open=open_offer,
        device="" if question.device is None else question.device.id,
        devices=question.devices,
        nodes=question.nodes,
        load_curve=curve(question.load_curve or flat, "load_curve"),
        tariff_curve=curve(question.tariff_curve or flat, "tariff_curve"),
        day=question.day,
        trouble=trouble,
    )
    return case, names(question, open_offer)


def names(question: Question, open_offer: Offer | None) -> dict[Side, str]:
    """Return what each way is called."""
    device = question.device.id if question.device is not None else "hardware"
    iron = f"{question.nodes * question.devices} x {device}"
    return {
        "frontier": f"Frontier API: {question.frontier}",
        "open": f"Open model's API: {open_offer.name}"
        if open_offer
        else f"Open model's API: {question.model}",
        "rented": f"Rented: {iron}",
        "own": f"Own: {iron}",
    }


def _months(inputs: Inputs) -> int:
    months = inputs.value("buy.months")
    if months != months.to_integral_value():
        raise Invalid(
            f"the term cannot be {months} months", "months are whole", "say 36 to 60", param="months"
        )
    return int(months)


def _open(question: Question, book: Book, trouble: dict[str, str]) -> Offer | None:
    name = question.open_api or hosted(question.model, book)
    if name is None:
        trouble["open"] = (
            f"the price book of {book.as_of} knows nobody who sells {question.model}: "
            "say --open-api OPERATOR/MODEL"
        )
        return None
    return offer(name, book, question.day)


def _hardware(question: Question, inputs: Inputs, trouble: dict[str, str]) -> None:
    what = question.device.id if question.device is not None else "the hardware"
    if "own.tokens_s" not in inputs:
        why = question.no_speed or "the speed of the hardware is not known: say --tokens-per-second"
        trouble |= {"own": why, "rented": why}
        return
    bought = any(key in inputs for key in ("buy.device_price_usd", "buy.node_price_usd"))
    if not bought and "buy.owner_usd_device_h" not in inputs:
        trouble["own"] = f"what {what} costs is not known: say --device-price USD or --node-price USD"
    elif bought and "site.allin_kw_device" not in inputs:
        trouble["own"] = f"what {what} draws all-in is not known: say --set site.allin_kw_device=KW"
    if "rent.usd_device_h" not in inputs:
        trouble["rented"] = f"what {what} costs to rent is not known: say --rent USD_PER_DEVICE_HOUR"


def from_catalogue(question: Question) -> list[Input]:
    """Return what the catalogue says of device and grid, and the estimated speed, as inputs."""
    out: list[Input] = []
    grid, speed = question.grid, question.speed
    if question.device is not None:
        out += _device(question.device)
    if grid is not None:
        said = f"{grid.country}, {grid.year}: {grid.source}"
        for key, value in (("site.carbon_g_kwh", grid.carbon_g_kwh), ("site.water_l_kwh", grid.water_l_kwh)):
            if value is not None:
                out.append(made(key, Decimal(repr(value)), source=said, as_of=grid.as_of))
    if speed is not None:
        least, middle, most = (Decimal(repr(one)) for one in (speed.low, speed.value, speed.high))
        note = f"{speed.source}; {speed.note}" if speed.note else speed.source
        out.append(made("own.tokens_s", middle, low=least, high=most, source=note, as_of=speed.as_of))
    return out


def _device(device: Device) -> list[Input]:
    out: list[Input] = []
    if device.price_usd is not None:
        low, high = (device.price_usd * share for share in STREET)
        note = f"{device.price_note or device.source}; 15 % either way assumed"
        out.append(
            made(
                "buy.device_price_usd", device.price_usd, low=low, high=high, source=note, as_of=device.as_of
            )
        )
    if device.owner_usd_h is not None:
        out.append(
            made("buy.owner_usd_device_h", device.owner_usd_h, source=device.source, as_of=device.as_of)
        )
    if device.rental3y_usd_h is not None:
        rent = device.rental3y_usd_h
        rates = [one for one in (rent, device.neocloud_usd_h, device.owner_usd_h) if one is not None]
        note = f"{device.source}; three-year rental, between owner's cost and a short rental"
        out.append(
            made("rent.usd_device_h", rent, low=min(rates), high=max(rates), source=note, as_of=device.as_of)
        )
    if device.allin_w is not None:
        kw = Decimal(repr(device.allin_w)) / 1000
        out.append(made("site.allin_kw_device", kw, source=device.source, as_of=device.as_of))
    return out


def told(inputs: Iterable[Input]) -> list[dict[str, str | bool]]:
    """Return inputs for a program."""
    from allod.domain.money import plain  # noqa: PLC0415 (beside its use)

    return [
        {
            "key": one.key,
            "value": plain(one.value),
            "low": plain(one.low),
            "high": plain(one.high),
            "unit": one.unit,
            "source": one.source,
            "as_of": one.as_of.isoformat(),
            "assumed": one.assumed,
        }
        for one in inputs
    ]
