"""Laying dated rows over each other: what ships, what bundles brought, what somebody hands over as a file.

The newest row of a name counts, whole: a cell it leaves blank is not known, whatever an older row says. Of
one day, a file counts before a bundle and a bundle before what ships. So it does not matter in which order,
or how often, layers are laid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec

from allod.domain.errors import Invalid
from allod.planner.catalogue import (
    Catalogue,
    Device,
    GridRow,
    ModelCard,
    Origin,
    Passed,
    card_from,
    configs,
    device_from,
    grid_from,
    shipped,
    spelt,
)
from allod.vault.bundle.facts import PointFacts

if TYPE_CHECKING:
    from allod.vault.bundle.content import Catalogue as Brought
    from allod.vault.bundle.facts import ModelFacts

SAME: Final = 0.25
"""So far may stated parameters be from those a configuration has, as a share; more is a contradiction."""
_R = TypeVar("_R", Device, ModelCard, GridRow)


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """The rows one catalogue brought, by id, and where they are from."""

    origin: Origin
    devices: Mapping[str, Device] = {}
    models: Mapping[str, ModelCard] = {}
    grids: Mapping[str, GridRow] = {}
    points: tuple[PointFacts, ...] = ()


def layer_of(brought: Brought, origin: Origin) -> Layer:
    """Read what a catalogue says for plans.

    Raises:
        Invalid: a configuration describes no model, contradicts the row, or is named and not there.

    """
    told = {name: one.facts for name, one in brought.models.items() if one.facts is not None}
    return Layer(
        origin=origin,
        devices={name: device_from({"id": name, **row.cells()}) for name, row in brought.devices.items()},
        models={name: _card(name, row, told) for name, row in told.items()},
        grids={name: grid_from({"iso3": name, **row.cells()}) for name, row in brought.grids.items()},
        points=brought.points,
    )


def _card(name: str, row: ModelFacts, told: Mapping[str, ModelFacts]) -> ModelCard:
    own = row.configuration()
    if own is None:
        own = _named(name, row, told)
    elif not own:
        raise Invalid(f"the configuration of {name[:80]} is empty", "", "leave it out, or give it whole")
    try:
        card = card_from({"id": name, **row.cells()}, own)
    except Invalid as error:
        raise Invalid(f"the configuration of {name[:80]} cannot be used", error.why, error.remedy) from error
    for what, said, counted in (
        ("params_total_b", row.params_total_b, card.params_total),
        ("params_active_b", row.params_active_b, card.params_active),
    ):
        if own is not None and said is not None and counted and abs(float(said) * 1e9 / counted - 1) > SAME:
            raise Invalid(
                f"{name[:80]} contradicts itself",
                f"{what} is {said}, its configuration has {counted / 1e9:.4g} billion",
                "correct the row, or leave the number out",
            )
    return card


def _named(name: str, row: ModelFacts, told: Mapping[str, ModelFacts]) -> Mapping[str, Any] | None:
    """Return the configuration a row names, else the one that ships for the model, else none."""
    wanted = row.config_id or name
    beside = told.get(wanted)
    found = (beside.configuration() if beside is not None else None) or configs().get(wanted)
    if found is None and row.config_id:
        raise Invalid(
            f"{name[:80]} names a configuration that is not there",
            f"config_id is {wanted[:80]!r}, neither in this catalogue nor shipped",
            "give its config",
        )
    return found


def lay(layers: Iterable[Layer], base: Catalogue | None = None) -> Catalogue:
    """Lay rows over a catalogue of one origin, by default the shipped one."""
    under = shipped() if base is None else base
    over = list({_key(one.origin): one for one in layers}.values())
    if not over:
        return under
    origins: dict[tuple[str, str], Origin] = {}
    passed: list[Passed] = []

    def rows(kind: str, own: Mapping[str, _R], of: Callable[[Layer], Mapping[str, _R]]) -> Mapping[str, _R]:
        brought = [(layer.origin, row) for layer in over for row in of(layer).values()]
        merged = _merge(kind, own, under.layers[-1], brought)
        origins.update(merged.origins)
        passed.extend(merged.passed)
        return MappingProxyType(merged.rows)

    machines = rows("device", under.devices, lambda one: one.devices)
    cards = rows("model", under.models, lambda one: one.models)
    grids = rows("grid", under.grids, lambda one: one.grids)
    tops = {_key(one): one for one in (*under.layers, *(one.origin for one in over))}
    return Catalogue(
        machines,
        cards,
        grids,
        layers=tuple(sorted(tops.values(), key=_key, reverse=True)),
        points=_points(over),
        origins=origins,
        passed=tuple(passed),
    )


class _Merged(Generic[_R]):
    """Rows of one kind as they count, the origin of those that are not of the base, and what is not used."""

    def __init__(self, own: Mapping[str, _R]) -> None:
        self.rows: dict[str, _R] = dict(own)
        self.origins: dict[tuple[str, str], Origin] = {}
        self.passed: list[Passed] = []


def _merge(kind: str, own: Mapping[str, _R], base: Origin, brought: list[tuple[Origin, _R]]) -> _Merged[_R]:
    out = _Merged(own)
    known = {spelt(name): name for name in own}
    rivals: dict[str, list[tuple[Origin, _R]]] = {}
    for origin, row in brought:
        rivals.setdefault(spelt(_id(row)), []).append((origin, row))
    for key in sorted(rivals):
        name, ranked = known.get(key), rivals[key]
        if name is not None:
            ranked.append((base, own[name]))
        ranked.sort(key=_order)
        origin, row = ranked[-1]
        name = name or _id(row)
        if origin.rank:
            out.rows[name], out.origins[kind, name] = _named_as(row, name), origin
        out.passed += [
            Passed(kind=kind, id=name, as_of=late.as_of, origin=whose, used=row.as_of, by=origin)
            for whose, late in ranked[:-1]
            if whose.rank and late != row
        ]
    return out


def _key(origin: Origin) -> tuple[Any, ...]:
    return origin.as_of, origin.rank, origin.digest, origin.vouched, origin.source


def _order(one: tuple[Origin, Device | ModelCard | GridRow]) -> tuple[Any, ...]:
    origin, row = one
    return row.as_of, origin.rank, origin.digest, origin.vouched, _id(row)


def _id(row: Device | ModelCard | GridRow) -> str:
    return row.iso3 if isinstance(row, GridRow) else row.id


def _named_as(row: _R, name: str) -> _R:
    if isinstance(row, GridRow):
        return row
    return row if row.id == name else msgspec.structs.replace(row, id=name)


def _points(over: Iterable[Layer]) -> tuple[tuple[PointFacts, Origin], ...]:
    """Return every measurement once; of the same conditions the newest."""
    found: dict[tuple[Any, ...], tuple[PointFacts, Origin]] = {}
    for layer in sorted(over, key=lambda one: _key(one.origin)):
        for one in layer.points:
            where = (
                spelt(one.hardware), one.devices, spelt(one.model), one.quant.lower(), one.engine.lower(),
                one.concurrency, one.isl, one.osl, one.metric,
            )  # fmt: skip
            before = found.get(where)
            if before is None or _newer(one, layer.origin, *before):
                found[where] = (one, layer.origin)
    return tuple(found[key] for key in sorted(found, key=str))


def _newer(one: PointFacts, its: Origin, other: PointFacts, others: Origin) -> bool:
    return (one.as_of, its.rank, its.digest, one.value) >= (
        other.as_of,
        others.rank,
        others.digest,
        other.value,
    )
