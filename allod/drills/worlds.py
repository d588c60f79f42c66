"""Worlds in which something is gone: TOML, composable, read strictly.

A world names what it takes away; it says nothing of the organisation. ``include`` takes the losses of other
worlds too, and ``a+b`` is the world of both: losses add up, prices multiply. What a fleet does not know of
itself (who made the chip a rented model runs on) counts as taken away, unless ``unknown = "spared"``.

    id = "dpf-annulled"
    title = "The Data Privacy Framework is annulled"
    as_of = 2026-11-01
    source = "..."
    [lose]
    lists = { "gdpr.adequate-recipients" = ["US"] }
    [[price]]
    factor = 3
    operators = ["us-cloud"]
"""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from importlib import resources
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from allod.domain import jurisdiction
from allod.domain.errors import Invalid
from allod.domain.fleet import ENGINES
from allod.drills.reading import nearest, parse, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MAX_INCLUDES: Final = 64
MAX_NAMES: Final = 512
MAX_FACTOR: Final = Decimal(1000)
MAX_DIGITS: Final = 15
EVERY: Final = "*"
"""Stands for all: every engine, every place of a list."""
RESERVED: Final = ("empty", "link")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_SINGLE: Final = re.compile(r"[a-z-]+=[^\x00-\x1f\x7f]{1,160}")
_PLACES: Final = ("jurisdictions", "seats", "controlled", "maker_jurisdictions", "regions")


class Who(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which deployments are meant: those that any of these names fits.

    Attributes:
        deployments, operators, models: by id or name.
        jurisdictions: operators seated there or controlled from there; ``seats`` and ``controlled`` one of
            the two. ISO 3166-1 alpha-2 codes or blocs.
        makers, maker_jurisdictions, families: of the model.
        chips, hardware: who made what it runs on, and which device that is.
        engines: what serves it.
        regions: where it is processed.

    """

    deployments: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    jurisdictions: tuple[str, ...] = ()
    seats: tuple[str, ...] = ()
    controlled: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    makers: tuple[str, ...] = ()
    maker_jurisdictions: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    chips: tuple[str, ...] = ()
    hardware: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()


AXES: Final[tuple[str, ...]] = Who.__struct_fields__


class Lose(Who, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is gone; deployments that ``Who`` names, and what they rested on.

    Attributes:
        agreements, attestations: evidence that does not hold any more, everywhere (``dpa``) or at one
            operator or deployment (``us-cloud/dpa``).
        lists: places that fall out of a pack's list (an adequacy decision), ``*`` for all of them.
        supply: makers of chips that deliver nothing more; what runs goes on running.
        link: the link to the outside.
        own: whether the organisation's own deployments are lost with a jurisdiction they are in too.

    """

    agreements: tuple[str, ...] = ()
    attestations: tuple[str, ...] = ()
    lists: dict[str, tuple[str, ...]] = {}
    supply: tuple[str, ...] = ()
    link: bool = False
    own: bool = False


class Dearer(Who, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prices times ``factor``, of those named; of everybody that is not the organisation if nobody is."""

    factor: Decimal


class World(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A world: what is gone in it and what is dearer, since when it is imagined, and after whom."""

    id: str
    title: str = ""
    text: str = ""
    as_of: dt.date | None = None
    source: str = ""
    include: tuple[str, ...] = ()
    unknown: Literal["affected", "spared"] = "affected"
    lose: Lose = Lose()
    price: tuple[Dearer, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing is gone in it."""
        return self.lose == Lose() and not self.price


def load(raw: bytes, name: str) -> World:
    """Read a world; ``name`` is its id unless it says another.

    Raises:
        Invalid: no TOML, an unknown key, a wrong type, the name of a single loss, an unknown jurisdiction or
            engine, a factor that is not between one in ``MAX_FACTOR`` and ``MAX_FACTOR``.

    """
    data = parse(raw, f"world {name}")
    world = read({"id": name, **data}, World, "world")
    if not _ID.fullmatch(world.id) or world.id in RESERVED:  # nor may it pass for a single loss
        raise Invalid(
            f"{world.id[:80]!r} is no name of a world",
            f"expected at most 80 letters, digits, '-', '_' and '.', and none of {', '.join(RESERVED)}",
            "rename it",
        )
    check(world)
    return world


def check(world: World) -> None:
    """Refuse a world that cannot be meant (raises ``Invalid``)."""
    if not _ID.fullmatch(world.id) and not _SINGLE.fullmatch(world.id):
        raise Invalid(
            f"{world.id[:80]!r} is no single loss",
            "expected KIND=NAME of at most 160 characters on one line",
            "correct the name",
        )
    for where, who in (("lose", world.lose), *((f"price.{n}", one) for n, one in enumerate(world.price))):
        _check_who(f"world {world.id}: {where}", who)
    for name, places in world.lose.lists.items():
        for place in places:
            if place != EVERY:
                jurisdiction.check(place, f"world {world.id}: lose.lists.{name}")
        if not places:
            raise Invalid(
                f"world {world.id}: lose.lists.{name} names no place", "", f"name some, or {EVERY!r} for all"
            )
    for one in world.price:
        if not one.factor.is_finite() or not 1 / MAX_FACTOR <= one.factor <= MAX_FACTOR:
            raise Invalid(
                f"world {world.id[:80]}: a price cannot be multiplied by {one.factor:.6g}",
                f"expected a number from {1 / MAX_FACTOR} to {MAX_FACTOR}",
                "correct `factor`",
            )
        if len(one.factor.as_tuple().digits) > MAX_DIGITS:
            raise Invalid(
                f"world {world.id[:80]}: the factor has very many digits",
                f"got {len(one.factor.as_tuple().digits)} digits, at most {MAX_DIGITS} are read",
                "round `factor`",
            )


def _check_who(where: str, who: Who) -> None:
    for axis in AXES:
        names = getattr(who, axis)
        if len(names) > MAX_NAMES or any(not one.strip() for one in names):
            raise Invalid(f"{where}.{axis} has an empty name, or more than {MAX_NAMES}", "", "correct it")
    for axis in _PLACES:
        for place in getattr(who, axis):
            jurisdiction.check(place, f"{where}.{axis}")
    for engine in who.engines:
        if engine != EVERY and engine not in ENGINES:
            raise Invalid(
                f"{where}.engines: {engine!r} is no engine{nearest(engine, ENGINES)}",
                "known: " + ", ".join(ENGINES),
                "correct the name",
            )


def joined(worlds: Iterable[World], name: str | None = None) -> World:
    """Return the world in which all of these are so: losses add up, prices multiply."""
    all_of = tuple(worlds)
    if len(all_of) == 1 and name is None:
        return all_of[0]
    lists: dict[str, tuple[str, ...]] = {}
    for one in all_of:
        for key, places in one.lose.lists.items():
            lists[key] = tuple(dict.fromkeys((*lists.get(key, ()), *places)))
    names = {
        field: tuple(dict.fromkeys(n for one in all_of for n in getattr(one.lose, field)))
        for field in (*AXES, "agreements", "attestations", "supply")
    }
    return World(
        id=name or "+".join(one.id for one in all_of) or "empty",
        title=" and ".join(one.title or one.id for one in all_of),
        text=" ".join(one.text for one in all_of if one.text),
        as_of=max((one.as_of for one in all_of if one.as_of is not None), default=None),
        source="; ".join(dict.fromkeys(one.source for one in all_of if one.source)),
        unknown="affected" if any(one.unknown == "affected" for one in all_of) else "spared",
        lose=Lose(
            lists=lists,
            link=any(one.lose.link for one in all_of),
            own=any(one.lose.own for one in all_of),
            **names,
        ),
        price=tuple(price for one in all_of for price in one.price),
    )


def whole(world: World, find: Callable[[str], World]) -> World:
    """Return a world with those it includes, which ``find`` finds by name.

    Raises:
        Invalid: worlds include each other in a circle, or very many of them.

    """
    found: dict[str, World] = {}

    def walk(one: World, above: tuple[str, ...]) -> None:
        if one.id in above:
            raise Invalid(
                "worlds include each other in a circle", " > ".join((*above, one.id)), "remove one include"
            )
        if max(len(found), len(above)) > MAX_INCLUDES:
            raise Invalid(f"world {world.id} includes more than {MAX_INCLUDES} worlds", "", "include fewer")
        for name in one.include:
            if name not in found:
                walk(find(name), (*above, one.id))
        found[one.id] = one

    walk(world, ())
    if len(found) == 1:
        return world
    both = joined((world, *(one for name, one in found.items() if name != world.id)), world.id)
    head = {name: getattr(world, name) for name in ("title", "text", "as_of", "source", "unknown")}
    return msgspec.structs.replace(both, **head)


def single(text: str) -> World | None:
    """Read a single loss as a command takes it (``operator=us-cloud``, ``chip=NVIDIA``, ``link``), or None.

    Raises:
        Invalid: the first word is no kind of loss, or the name is none of its kind.

    """
    if text == "link":
        return World(id="link", title="The link to the outside is down", lose=Lose(link=True))
    if text == "empty":
        return World(id="empty", title="Nothing is gone")
    kind, mark, name = text.partition("=")
    if not mark:
        return None
    if kind not in KINDS:
        raise Invalid(
            f"{kind!r} is no kind of loss{nearest(kind, KINDS)}", "known: " + ", ".join(KINDS), "correct it"
        )
    if not name.strip():
        raise Invalid(f"{kind}= names nothing", "", f"say whose {kind} is gone, as in {kind}=NAME")
    world = World(id=text, title=KINDS[kind][1].format(name=name), lose=_lose(kind, name))
    if kind == "price":
        world = World(id=text, title=f"Prices times {name}", price=(Dearer(factor=_factor(name)),))
    check(world)
    return world


def _factor(text: str) -> Decimal:
    try:
        return Decimal(text)
    except ArithmeticError:
        raise Invalid(f"{text[:20]!r} is no factor", "", "write price=2.5") from None


def _lose(kind: str, name: str) -> Lose:
    if kind == "price":
        return Lose()
    field = KINDS[kind][0]
    if kind == "list":
        listed, _, place = name.partition("/")
        return Lose(lists={listed: (place or EVERY,)})
    return msgspec.structs.replace(Lose(), **{field: (name,)})


KINDS: Final[dict[str, tuple[str, str]]] = {
    "deployment": ("deployments", "Deployment {name} is gone"),
    "operator": ("operators", "Operator {name} is gone"),
    "jurisdiction": ("jurisdictions", "Operators seated in or controlled from {name} are gone"),
    "seat": ("seats", "Operators seated in {name} are gone"),
    "control": ("controlled", "Operators controlled from {name} are gone"),
    "model": ("models", "Model {name} is gone"),
    "maker": ("makers", "Models made by {name} are gone"),
    "maker-jurisdiction": ("maker_jurisdictions", "Models made in {name} are gone"),
    "family": ("families", "Models of the family {name} are gone"),
    "chip": ("chips", "What runs on chips by {name} is gone"),
    "hardware": ("hardware", "What runs on {name} is gone"),
    "engine": ("engines", "What engine {name} serves is gone"),
    "region": ("regions", "What is processed in {name} is gone"),
    "list": ("lists", "Legal basis {name} is gone"),
    "agreement": ("agreements", "Agreement {name} does not hold any more"),
    "attestation": ("attestations", "Attestation {name} does not hold any more"),
    "supply": ("supply", "{name} delivers no more chips"),
    "price": ("", "Prices times {name}"),
}
"""Kinds of a single loss: the field of ``Lose`` it fills, and its sentence."""


def shipped() -> dict[str, World]:
    """Return the worlds that come with the product, by id."""
    folder = resources.files("allod.drills").joinpath("data/worlds")
    files = sorted(one.name for one in folder.iterdir() if one.name.endswith(".toml"))
    found = (load(folder.joinpath(name).read_bytes(), name.removesuffix(".toml")) for name in files)
    return {one.id: one for one in found}


def named(text: str, known: Mapping[str, World]) -> World:
    """Return a known world, or the single loss this text says, with all it includes.

    Raises:
        Invalid: there is no such world; names the nearest.

    """

    def find(name: str) -> World:
        one = known.get(name) or single(name)
        if one is None:
            raise Invalid(
                f"there is no world {name[:80]!r}{nearest(name, known)}",
                "known: " + ", ".join(sorted(known)),
                "name one of these, a TOML file, or a single loss as in operator=NAME, chip=NAME, link",
            )
        return one

    return whole(find(text), find)
