"""The file of ``allod plan place``: sites, offers, models, traffic and what must be survived."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.errors import Invalid
from allod.gateway.toml import Table

if TYPE_CHECKING:
    from pathlib import Path

MOST_BYTES: Final = 4 << 20
MOST: Final = 500
MODEL_KEYS: Final = ("takes", "context_tokens", "max_output_tokens", "quality", "languages", "first_token_ms")
SITE_KEYS: Final = (
    "operator",
    "processing",
    "at_rest",
    "transit",
    "on_premises",
    "records_auditable",
    "inspectable",
    "seal",
    "retention_days",
    "trains_on_inputs",
    "agreements",
    "attestations",
)


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """A place that may hold devices; ``facts`` are those of every deployment there, as configured."""

    id: str
    facts: dict[str, Any]
    power_kw: float | None = None


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """Devices a site can have: at most ``most``, each for ``usd_month`` (None: as the catalogue says)."""

    site: str
    device: str
    most: int
    usd_month: float | None = None
    kw: float | None = None


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model that could be served: its name in the catalogue, how, and what is known of it here.

    ``tokens_s`` are tokens of answers per second of one replica by device, where they were measured.
    """

    id: str
    model: str
    engine: str
    quant: str
    devices: int
    facts: dict[str, Any]
    tokens_s: dict[str, float]


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """Traffic of an app: tokens of answers per second at the percentile planned for, and how long it is."""

    id: str
    app: str
    task: str | None
    classes: tuple[str, ...]
    purpose: str | None
    tokens_s: float
    input_tokens: int
    output_tokens: int
    deadline_ms: int | None
    critical: bool


class Gone(msgspec.Struct, frozen=True, kw_only=True):
    """What is lost in a world, by any of its names; ``demand`` multiplies what is left to serve."""

    name: str
    sites: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    jurisdictions: tuple[str, ...] = ()
    makers: tuple[str, ...] = ()
    chips: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    deployments: tuple[str, ...] = ()
    demand: float = 1.0
    all_traffic: bool = False


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """A whole file."""

    sites: tuple[Site, ...]
    offers: tuple[Offer, ...]
    models: tuple[Model, ...]
    demands: tuple[Demand, ...]
    gone: tuple[Gone, ...]
    deployments: tuple[str, ...]
    spare: bool
    min_tokens_s: float
    most_concurrent: int


def read(path: Path) -> Sheet:
    """Read a file.

    Raises:
        Invalid: it cannot be read, is no TOML, has an unknown key, a wrong type, or names what is not there.

    """
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise Invalid(
                f"{path} is too long", f"more than {MOST_BYTES} bytes", "name a file of `plan place`"
            )
        root = Table(tomllib.loads(raw.decode(), parse_float=Decimal), "")
    except (OSError, ValueError, ArithmeticError, RecursionError) as error:
        raise Invalid(f"{path} cannot be read", str(error), "correct it") from error
    place = root.sub("place") or Table({}, "place")
    sheet = Sheet(
        sites=tuple(_site(t) for t in _some(root, "site")),
        offers=tuple(_offer(t) for t in _some(root, "offer")),
        models=tuple(_model(t) for t in _some(root, "model")),
        demands=tuple(_demand(t) for t in _some(root, "traffic")),
        gone=tuple(_gone(t) for t in _some(root, "loss")),
        deployments=place.texts("deployments") or (),
        spare=place.flag("spare", False),
        min_tokens_s=_figure(place, "min_tokens_s", 20.0),
        most_concurrent=place.whole("most_concurrent", 64, 1, 4096),
    )
    place.done()
    root.done()
    _known(sheet)
    return sheet


def _some(root: Table, key: str) -> list[Table]:
    found = root.list_of(key, key)
    if len(found) > MOST:
        raise Invalid(
            f"there are too many of [[{key}]]", f"got {len(found)}, {MOST} at most", "split the plan"
        )
    return found


def _figure(t: Table, key: str, default: float) -> float:
    value = t.number(key, Decimal(0), Decimal(10) ** 12)
    return default if value is None else float(value)


def _maybe(t: Table, key: str) -> float | None:
    value = t.number(key, Decimal(0), Decimal(10) ** 12)
    return None if value is None else float(value)


def _facts(t: Table, keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: t.raw(key) for key in keys if t.has(key)}


def _site(t: Table) -> Site:
    site = Site(id=t.required("id"), facts=_facts(t, SITE_KEYS), power_kw=_maybe(t, "power_kw"))
    t.done()
    if "operator" not in site.facts:
        raise Invalid(
            f"site {site.id!r} lacks 'operator'", "law asks who runs it", "name one of the configuration"
        )
    return site


def _offer(t: Table) -> Offer:
    offer = Offer(
        site=t.required("site"),
        device=t.required("device"),
        most=t.whole("most", 1, 0, 1_000_000),
        usd_month=_maybe(t, "usd_month"),
        kw=_maybe(t, "kw"),
    )
    t.done()
    return offer


def _model(t: Table) -> Model:
    speeds = t.sub("tokens_s")
    model = Model(
        id=t.required("id"),
        model=t.required("model"),
        engine=t.text("engine") or "vllm",
        quant=t.text("quant") or "fp8",
        devices=t.whole("devices", 1, 1, 1024),
        facts=_facts(t, MODEL_KEYS),
        tokens_s={} if speeds is None else {name: _figure(speeds, name, 0.0) for name in speeds.names()},
    )
    t.done()
    return model


def _demand(t: Table) -> Demand:
    tokens, requests = t.number("tokens_s", Decimal(0)), t.number("requests_s", Decimal(0))
    output = t.whole("output_tokens", 300)
    if (tokens is None) == (requests is None):
        raise Invalid(
            f"{t.name('tokens_s')} is not clear",
            "got both, or neither, of tokens_s and requests_s",
            "say one: tokens of answers a second, or requests a second",
        )
    load = float(tokens) if tokens is not None else float(requests or 0) * output
    demand = Demand(
        id=t.required("id"),
        app=t.required("app"),
        task=t.text("task"),
        classes=t.texts("classes") or (),
        purpose=t.text("purpose"),
        tokens_s=load,
        input_tokens=t.whole("input_tokens", 1000, 0, 100_000_000),
        output_tokens=output,
        deadline_ms=t.whole("deadline_ms", None),
        critical=t.flag("critical", True),
    )
    t.done()
    return demand


def _gone(t: Table) -> Gone:
    loss = Gone(
        name=t.required("name"),
        demand=_figure(t, "demand", 1.0),
        all_traffic=t.flag("all_traffic", False),
        **{key: t.texts(key) or () for key in LOSS_KEYS},
    )
    t.done()
    return loss


LOSS_KEYS: Final = (
    "sites",
    "operators",
    "jurisdictions",
    "makers",
    "chips",
    "models",
    "devices",
    "deployments",
)


def _known(sheet: Sheet) -> None:
    """Refuse names that are nowhere, and sheets with nothing to place."""
    sites = {site.id for site in sheet.sites}
    for offer in sheet.offers:
        if offer.site not in sites:
            raise Invalid(
                f"an offer names site {offer.site!r}", f"known: {', '.join(sorted(sites))}", "correct it"
            )
    for kind, names in (
        ("site", [one.id for one in sheet.sites]),
        ("model", [one.id for one in sheet.models]),
        ("traffic", [one.id for one in sheet.demands]),
        ("loss", [one.name for one in sheet.gone]),
    ):
        if len(set(names)) < len(names):
            raise Invalid(f"a {kind} is there twice", ", ".join(sorted(names)), "name each once")
    if not sheet.demands:
        raise Invalid("there is no [[traffic]]", "nothing is to be served", "add what has to be")
    if not (sheet.offers and sheet.models) and not sheet.deployments:
        raise Invalid(
            "there is nothing to place", "no [[offer]] with a [[model]], no deployments", "add some"
        )
