"""What a world means for a fleet: who is gone and why, which facts and lists do not hold, what is dearer."""

from __future__ import annotations

import unicodedata
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain import jurisdiction
from allod.domain.errors import Invalid
from allod.drills.reading import nearest
from allod.drills.worlds import AXES, EVERY, MAX_FACTOR, Who, World

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from allod.domain.fleet import Deployment, Fleet, Named
    from allod.policy.forms import Pack
    from allod.policy.lists import PlaceList

ONE: Final = Decimal(1)
FEW: Final = 3
REMOVED: Final = "world.removed"
"""Stands among rule ids for a deployment that the world took away."""
UNKNOWN: Final = "world.unknown"
"""The same for one of which nobody knows whether it is affected, and which counts as affected."""


SINGULAR: Final = {
    "deployments": "deployment", "operators": "operator", "jurisdictions": "operator in",
    "seats": "operator seated in", "controlled": "operator controlled from", "models": "model",
    "makers": "model made by", "maker_jurisdictions": "model made in", "families": "model family",
    "chips": "chip by", "hardware": "hardware", "engines": "engine", "regions": "processed in",
    "agreements": "agreement", "attestations": "attestation",
}  # fmt: skip
"""Axes as they are said of one deployment."""


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What drills know of a deployment; None is not known. Places are expanded to countries.

    ``sources`` says, by field, where what is not declared in the configuration comes from.
    """

    id: str
    operator: str
    own: bool
    model: str
    engine: str
    seat: frozenset[str] | None = None
    controlled: frozenset[str] | None = None
    regions: frozenset[str] | None = None
    maker: str | None = None
    maker_jurisdiction: str | None = None
    family: str | None = None
    chip: str | None = None
    hardware: str | None = None
    on_premises: bool | None = None
    max_concurrent: int | None = None
    hardware_count: int | None = None
    sources: dict[str, str] = {}

    @property
    def site(self) -> str:
        """Where it stands, in words: the organisation's premises, or operator and place."""
        places = sorted(self.regions or ())
        where = "+".join(places[:FEW]) + ("..." if len(places) > FEW else "") or "place not known"
        if self.own:
            return f"own site, {where}" if self.on_premises is not False else f"own, hosted, {where}"
        return f"{self.operator}, {where}"


def profile(
    deployment: Deployment, fleet: Fleet, more: Mapping[str, tuple[str, str]] | None = None
) -> Profile:
    """Return what the configuration says of a deployment, and ``more`` where it is silent.

    ``more`` maps a field to a value and where that is from.
    """
    operator, weights = fleet.operator_of(deployment), fleet.weights.get(deployment.id)
    declared = {
        "maker": deployment.maker,
        "maker_jurisdiction": deployment.maker_jurisdiction,
        "family": deployment.family,
        "chip": deployment.chip,
        "hardware": deployment.hardware,
    }
    values = {name: fact.value for name, fact in declared.items() if fact is not None}
    sources = dict.fromkeys(values, "configuration")
    if weights is not None and weights.maker_jurisdiction is not None:
        values["maker_jurisdiction"] = weights.maker_jurisdiction
        sources["maker_jurisdiction"] = "vault"
    for name, (value, source) in (more or {}).items():
        if name not in values:
            values[name], sources[name] = value, source
    return Profile(
        id=deployment.id,
        operator=operator.id,
        own=operator.own,
        model=deployment.model,
        engine=deployment.engine,
        seat=None if operator.seat is None else jurisdiction.expand((operator.seat.value,)),
        controlled=None
        if operator.controlled_from is None
        else jurisdiction.expand(operator.controlled_from.value),
        regions=None
        if deployment.processing is None
        else jurisdiction.expand((deployment.processing.value,)),
        on_premises=None if deployment.on_premises is None else deployment.on_premises.value,
        max_concurrent=deployment.max_concurrent,
        hardware_count=deployment.hardware_count,
        sources=sources,
        maker=values.get("maker"),
        maker_jurisdiction=values.get("maker_jurisdiction"),
        family=values.get("family"),
        chip=values.get("chip"),
        hardware=values.get("hardware"),
    )


class Reason(msgspec.Struct, frozen=True):
    """Why a deployment is gone: the axis, the name on it, and whether that it is affected is known."""

    axis: str
    name: str
    known: bool = True

    @property
    def rule(self) -> str:
        """What stands for it among rule ids."""
        return REMOVED if self.known else UNKNOWN

    def words(self) -> str:
        """Say it."""
        said = f"{SINGULAR.get(self.axis, self.axis)} {self.name}"
        return said if self.known else f"{said}: not known whether it is, so counted as gone"


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """A world over one fleet.

    Attributes:
        gone: why each deployment that is gone is.
        fleet: the fleet with the facts that still hold; no deployment is taken out of it.
        lists: places that fall out of lists of packs.
        factors: what prices are multiplied by, by deployment, where it is not 1.
        idle: names in the world that nothing in this fleet fits, with the nearest.
        unsure: deployments that count as gone because nobody knows.

    """

    world: World
    gone: dict[str, tuple[Reason, ...]]
    fleet: Fleet
    lists: dict[str, tuple[str, ...]]
    link_down: bool
    factors: dict[str, Decimal]
    idle: tuple[str, ...]
    unsure: tuple[str, ...]
    facts_lost: bool

    @property
    def law(self) -> bool:
        """Whether law has to be asked again."""
        return self.facts_lost or bool(self.lists) or self.link_down

    @property
    def nothing(self) -> bool:
        """Whether the world changes nothing of this fleet."""
        return not (self.gone or self.law or self.factors)


def effect(world: World, fleet: Fleet, profiles: Mapping[str, Profile]) -> Effect:
    """Say what a world does to a fleet.

    Raises:
        Invalid: its price factors together are beyond ``MAX_FACTOR``.

    """
    lose, spared = world.lose, world.unknown == "spared"
    used: set[tuple[str, str]] = set()
    gone: dict[str, tuple[Reason, ...]] = {}
    for one in profiles.values():
        reasons = [r for r in hits(lose, one, own=lose.own) if r.known or not spared]
        used |= {(r.axis, r.name) for r in reasons if r.known}
        if reasons:
            gone[one.id] = tuple(reasons)
    lost, evidence = without_evidence(fleet, lose.agreements, lose.attestations)
    used |= evidence
    factors = _factors(world, profiles)
    return Effect(
        world=world,
        gone=gone,
        fleet=lost,
        lists=dict(lose.lists),
        link_down=lose.link,
        factors=factors,
        idle=tuple(_idle(world, used, fleet, profiles)),
        unsure=tuple(name for name, why in gone.items() if not any(r.known for r in why)),
        facts_lost=bool(evidence),
    )


def hits(who: Who, one: Profile, *, own: bool) -> list[Reason]:
    """Return why a deployment is among those meant; what is not known of it may be so too.

    ``own``: whether the organisation itself is meant by the jurisdictions of operators.
    """
    found = [Reason(axis, name) for axis in ("deployments", "operators", "models", "engines") for name in
             getattr(who, axis) if name == EVERY or _same(name, _plain(one, axis))]  # fmt: skip
    for axis, value in (
        ("makers", one.maker), ("families", one.family), ("chips", one.chip), ("hardware", one.hardware),
    ):  # fmt: skip
        found += [
            Reason(axis, name, known=value is not None or name == EVERY)
            for name in getattr(who, axis)
            if value is None or name == EVERY or _same(name, value)
        ]
    if own or not one.own:
        for axis, places in (("seats", one.seat), ("controlled", one.controlled)):
            found += _placed(axis, getattr(who, axis), places)
        either = None if one.seat is None or one.controlled is None else one.seat | one.controlled
        sure = (one.seat or frozenset()) | (one.controlled or frozenset())
        found += _placed("jurisdictions", who.jurisdictions, either, sure)
    found += _placed("regions", who.regions, one.regions)
    made = None if one.maker_jurisdiction is None else jurisdiction.expand((one.maker_jurisdiction,))
    found += _placed("maker_jurisdictions", who.maker_jurisdictions, made)
    return found


def _plain(one: Profile, axis: str) -> str:
    return {"deployments": one.id, "operators": one.operator, "models": one.model, "engines": one.engine}[
        axis
    ]


def _placed(
    axis: str, names: Iterable[str], places: frozenset[str] | None, sure: frozenset[str] = frozenset()
) -> list[Reason]:
    """Compare places; in a bloc means anywhere in it. ``sure`` are some where not all are known."""
    out = []
    for name in names:
        wanted = jurisdiction.expand((name,))
        if wanted & (sure if places is None else places):
            out.append(Reason(axis, name))
        elif places is None:
            out.append(Reason(axis, name, known=False))
    return out


def _same(name: str, value: str) -> bool:
    return _plainly(name) == _plainly(value)


def _plainly(name: str) -> str:
    """Return a name as it is compared: however its letters are encoded, large or small, and spaced."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def without_evidence(
    fleet: Fleet, agreements: Iterable[str], attestations: Iterable[str]
) -> tuple[Fleet, set[tuple[str, str]]]:
    """Return a fleet in which evidence is missing, and which of these names were there."""
    used: set[tuple[str, str]] = set()
    operators: dict[str, Any] = dict(fleet.operators)
    deployments: dict[str, Any] = dict(fleet.deployments)
    for field, names in (("agreements", tuple(agreements)), ("attestations", tuple(attestations))):
        for text in names:
            where, mark, name = text.rpartition("/")
            for group in (operators, deployments):
                for key, one in group.items():
                    held: Named = getattr(one, field)
                    if name in held and (not mark or where == key):
                        kept = {n: fact for n, fact in held.items() if n != name}
                        group[key] = msgspec.structs.replace(one, **{field: kept})
                        used.add((field, text))
    if not used:
        return fleet, used
    return msgspec.structs.replace(fleet, operators=operators, deployments=deployments), used


def _factors(world: World, profiles: Mapping[str, Profile]) -> dict[str, Decimal]:
    out: dict[str, Decimal] = {}
    for price in world.price:
        named = any(getattr(price, axis) for axis in AXES)
        for one in profiles.values():
            reasons = hits(price, one, own=False) if named else []
            if not one.own if not named else any(r.known or world.unknown == "affected" for r in reasons):
                factor = out.get(one.id, ONE) * price.factor
                if not 1 / MAX_FACTOR <= factor <= MAX_FACTOR:
                    raise Invalid(
                        f"the prices of {one.id} together are {factor:.3g} times what they were",
                        f"expected {1 / MAX_FACTOR} to {MAX_FACTOR} times",
                        "take fewer or smaller factors",
                    )
                out[one.id] = factor
    return {name: factor for name, factor in out.items() if factor != ONE}


def _idle(
    world: World, used: set[tuple[str, str]], fleet: Fleet, profiles: Mapping[str, Profile]
) -> Iterable[str]:
    """Name what nothing in the fleet fits, with the nearest that is there."""
    for axis in (*AXES, "agreements", "attestations"):
        for name in getattr(world.lose, axis):
            if (axis, name) not in used:
                known = sorted(_values(axis, fleet, profiles))
                yield f"{axis} {name}: nothing in this fleet is known to fit{nearest(name, known)}"


def _values(axis: str, fleet: Fleet, profiles: Mapping[str, Profile]) -> set[str]:
    """Return what a fleet has on an axis."""
    if axis in {"agreements", "attestations"}:
        return {n for group in (fleet.operators, fleet.deployments) for o in group.values() for n in
                getattr(o, axis)}  # fmt: skip
    return {value for one in profiles.values() for value in values_on(axis, one)}


def values_on(axis: str, one: Profile) -> tuple[str, ...]:
    """Return the names of a deployment on an axis; none where that is not known."""
    single = {
        "deployments": one.id, "operators": one.operator, "models": one.model, "engines": one.engine,
        "makers": one.maker, "families": one.family, "chips": one.chip, "hardware": one.hardware,
        "maker_jurisdictions": one.maker_jurisdiction,
    }  # fmt: skip
    if axis in single:
        value = single[axis]
        return () if value is None else (value,)
    places = {
        "seats": one.seat,
        "controlled": one.controlled,
        "regions": one.regions,
        "jurisdictions": (one.seat or frozenset()) | (one.controlled or frozenset()),
    }[axis]
    return tuple(sorted(places or ()))


def lost_lists(
    packs: Iterable[Pack], lists: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[Pack, ...], set[str]]:
    """Return packs without these places in their lists, and the names of lists that were there."""
    found: set[str] = set()

    def less(one: PlaceList) -> PlaceList:
        places = lists.get(one.id)
        if places is None:
            return one
        found.add(one.id)
        if EVERY in places:
            return msgspec.structs.replace(one, row=(), includes=())
        out = jurisdiction.expand(places)
        rows = tuple(
            msgspec.structs.replace(row, place=left)
            for row in one.row
            for left in ((row.place,) if not jurisdiction.expand((row.place,)) & out else
                         sorted(jurisdiction.expand((row.place,)) - out))
        )  # fmt: skip
        return msgspec.structs.replace(one, row=rows)

    made = tuple(msgspec.structs.replace(p, lists=tuple(less(one) for one in p.lists)) for p in packs)
    return made, found
