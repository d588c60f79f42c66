"""The configuration: one TOML file, parsed once into frozen types.

A typo is an error that names the nearest known key. A missing *fact* is not: it loads as unknown, and policy
reads unknown as outside.
"""

from __future__ import annotations

import tomllib
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from allod.admission.admit import AUTO
from allod.domain.classes import BASE_CLASSES
from allod.domain.errors import Invalid
from allod.domain.facts import NOWHERE
from allod.domain.fleet import (
    EFFORTS,
    EMBEDDED,
    ENGINES,
    TAKES,
    App,
    Deployment,
    Fleet,
    Operator,
    Price,
    Relaxation,
    Task,
    Tenant,
)
from allod.gateway.toml import Table, nearest, place, place_set, truth, words

OBJECTIVES: Final = ("sovereign", "cheapest", "best")
SEAL_OBJECTIVES: Final = 8
SEAL_HIGHEST: Final = 4
_ID_LENGTH: Final = 64
_ID_CHARS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_ONE: Final = Decimal(1)
_ZERO: Final = Decimal(0)
_MIB: Final = 1024 * 1024


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """Where the gateway listens and what it takes from a client.

    Attributes:
        max_body_bytes: a larger request is answered 413.
        max_header_bytes: all headers of one request together.
        max_connections: more are answered 503.
        header_ms: time a client has to send the headers; ``body_ms`` the same for the body.
        send_idle_ms: a client that takes no byte of its answer for this long is dropped.

    """

    host: str = "127.0.0.1"
    port: int = 8080
    max_body_bytes: int = 32 * _MIB
    max_header_bytes: int = 32 * 1024
    max_connections: int = 4096
    header_ms: int = 15_000
    body_ms: int = 60_000
    send_idle_ms: int = 60_000


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How durable a leaf is before an answer leaves, and how long a batch gathers (milliseconds)."""

    durability: Literal["default", "strict"] = "default"
    batch_ms: int = 8


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the configuration says; ``fleet.weights`` is filled by the composition root."""

    fleet: Fleet
    server: Server
    log: LogSettings
    allowed_addresses: tuple[str, ...] = ()


def parse(text: str) -> Config:
    """Parse the configuration.

    Raises:
        Invalid: not TOML, an unknown key, a wrong type, an unknown jurisdiction, class, engine or reference.

    """
    try:
        root = Table(tomllib.loads(text, parse_float=Decimal), "")
    except (ValueError, ArithmeticError, RecursionError) as error:
        told = isinstance(error, tomllib.TOMLDecodeError)
        why = str(error) if told else "a number is too long, or the nesting too deep"
        raise Invalid("the configuration is not valid TOML", why, "correct that line") from error
    tenant_table = root.sub("tenant")
    if tenant_table is None:
        raise Invalid(
            "the configuration lacks [tenant]", "tenant.home and tenant.bloc must be known", "add it"
        )
    allowed = tenant_table.texts("allowed_addresses") or ()
    tenant = _tenant(tenant_table)
    server, log = _server(root.sub("server")), _log(root.sub("log"))
    apps = _by("app", [_app(t) for t in root.list_of("app", "app")])
    operators = _by("operator", [_operator(t) for t in root.list_of("operator", "operator")])
    deployments = _by("deployment", [_deployment(t) for t in root.list_of("deployment", "deployment")])
    tasks = {t.name: t for t in (_task(t) for t in root.list_of("task", "task"))}
    root.done()
    fleet = Fleet(tenant=tenant, apps=apps, operators=operators, deployments=deployments, tasks=tasks)
    _cross_check(fleet, len(root.list_of("task", "task")))
    return Config(fleet=fleet, server=server, log=log, allowed_addresses=allowed)


def _by(kind: str, items: list[Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for item in items:
        if item.id in out:
            raise Invalid(
                f"two {kind}s are called {item.id!r}", "an id names one thing", "rename one", param=kind
            )
        out[item.id] = item
    return out


def _cross_check(fleet: Fleet, tasks_written: int) -> None:
    for d in fleet.deployments.values():
        if d.operator not in fleet.operators:
            hint = nearest(d.operator, fleet.operators)
            raise Invalid(
                f"deployment {d.id!r} names operator {d.operator!r}, which is not declared{hint}",
                "declared: " + (", ".join(fleet.operators) or "none"),
                "declare it with [[operator]]",
                param=f"deployment.{d.id}.operator",
            )
        if AUTO in {d.id, d.model}:
            raise Invalid(
                f"deployment {d.id!r} uses the name {AUTO!r}",
                f"a request for the model {AUTO!r} leaves the choice to the plan",
                "rename it",
                param=f"deployment.{d.id}",
            )
    if tasks_written != len(fleet.tasks):
        raise Invalid("two tasks have one name", "a name names one task", "rename one", param="task")
    models = {d.model for d in fleet.deployments.values()}
    for task in fleet.tasks.values():
        if task.name in fleet.deployments or task.name in models or task.name == AUTO:
            raise Invalid(
                f"{task.name!r} names a task and something else",
                "`model` may be `auto`, a task, a model or a deployment, and must not be ambiguous",
                "rename the task",
                param=f"task.{task.name}",
            )
        for name in task.deployments:
            if name not in fleet.deployments:
                hint = nearest(name, fleet.deployments)
                raise Invalid(
                    f"task {task.name!r} names deployment {name!r}, which is not declared{hint}",
                    "declared: " + (", ".join(fleet.deployments) or "none"),
                    "correct the name",
                    param=f"task.{task.name}.deployments",
                )


def _identifier(table: Table, key: str = "id") -> str:
    value = table.required(key)
    if len(value) > _ID_LENGTH or not set(value) <= _ID_CHARS:
        raise Invalid(
            f"{table.name(key)}: {value[:80]!r} is no identifier",
            "expected at most 64 letters, digits, '-', '_' and '.'",
            "rename it",
            param=table.name(key),
        )
    return value


def _classes(table: Table, key: str) -> tuple[str, ...] | None:
    value = table.texts(key)
    for name in value or ():
        if name not in BASE_CLASSES:
            raise Invalid(
                f"{table.name(key)}: {name!r} is no data class{nearest(name, BASE_CLASSES)}",
                "known: " + ", ".join(sorted(BASE_CLASSES)),
                "correct the class",
                param=table.name(key),
            )
    return value


def _tenant(t: Table) -> Tenant:
    base = Tenant(id="tenant", home="DE", bloc=())
    bloc = t.places("bloc")
    if not bloc:
        raise Invalid(
            "tenant.bloc is missing or empty",
            "it says where resident classes may be processed, stored and carried",
            'write for example `bloc = ["EEA"]`',
            param="tenant.bloc",
        )
    relax = []
    rules = t.sub("relax")
    for rule in rules.names() if rules else ():
        entry = Table(rules.raw(rule) if rules else {}, f"tenant.relax.{rule}")
        relax.append(Relaxation(rule=rule, reason=entry.required("reason"), signer=entry.required("signer")))
        entry.done()
    resident, default = _classes(t, "resident_classes"), _classes(t, "default_classes")
    if default is not None and not default:
        raise Invalid(
            "tenant.default_classes is empty",
            "a request of no class at all would be kept nowhere",
            'leave it out, or write `["public"]` for what may go anywhere',
            param="tenant.default_classes",
        )
    tenant = Tenant(
        id=_identifier(t) if t.has("id") else base.id,
        home=place(t.required("home"), "tenant.home"),
        bloc=bloc,
        resident_classes=base.resident_classes if resident is None else tuple(sorted(resident)),
        default_classes=base.default_classes if default is None else tuple(sorted(default)),
        packs=t.texts("packs") or base.packs,
        air_gapped=t.flag("air_gapped", base.air_gapped),
        objective=t.choice("objective", OBJECTIVES, base.objective),
        banned_makers=t.places("banned_makers") or (),
        relax=tuple(relax),
    )
    t.done()
    return tenant


def _server(t: Table | None) -> Server:
    d = Server()
    if t is None:
        return d
    server = Server(
        host=t.text("host") or d.host,
        port=t.whole("port", d.port, 0, 65535),
        max_body_bytes=t.whole("max_body_bytes", d.max_body_bytes, 1024),
        max_header_bytes=t.whole("max_header_bytes", d.max_header_bytes, 1024),
        max_connections=t.whole("max_connections", d.max_connections),
        header_ms=t.whole("header_ms", d.header_ms),
        body_ms=t.whole("body_ms", d.body_ms),
        send_idle_ms=t.whole("send_idle_ms", d.send_idle_ms),
    )
    t.done()
    return server


def _log(t: Table | None) -> LogSettings:
    d = LogSettings()
    if t is None:
        return d
    settings = LogSettings(
        durability=t.choice("durability", ("default", "strict"), d.durability),
        batch_ms=t.whole("batch_ms", d.batch_ms, 1, 1000),
    )
    t.done()
    return settings


def _app(t: Table) -> App:
    classes = _classes(t, "classes")
    app = App(
        id=_identifier(t),
        classes=None if classes is None else tuple(sorted(classes)),
        purposes=t.texts("purposes") or (),
        effort=t.choice("effort", EFFORTS, None),
        tier=t.text("tier"),
    )
    t.done()
    return app


def _operator(t: Table) -> Operator:
    operator = Operator(
        id=_identifier(t),
        own=t.flag("own", False),
        seat=t.fact("seat", place),
        controlled_from=t.fact("controlled_from", place_set),
        compelled_by=t.fact("compelled_by", words),
    )
    t.done()
    return operator


def _at_rest(raw: Any, where: str) -> tuple[str, ...]:
    return NOWHERE if raw in ("none", ["none"]) else place_set(raw, where)


def _seal(raw: Any, where: str) -> tuple[int, ...]:
    good = isinstance(raw, list) and len(raw) == SEAL_OBJECTIVES
    if not good or not all(type(x) is int and 0 <= x <= SEAL_HIGHEST for x in raw):
        raise Invalid(
            f"{where} must be eight levels from 0 to 4",
            f"got {raw!r}; they stand for SOV-1 to SOV-8",
            "correct the vector",
            param=where,
        )
    return tuple(raw)


def _price(t: Table) -> Price | None:
    if not t.has("price"):
        return None
    raw = t.raw("price")
    if raw == "free":
        return Price(free=True)
    p = Table(raw, t.name("price"))
    price = Price(
        book=p.text("book"),
        input_usd_mtok=p.number("input_usd_mtok", _ZERO),
        cached_input_usd_mtok=p.number("cached_input_usd_mtok", _ZERO),
        cache_write_usd_mtok=p.number("cache_write_usd_mtok", _ZERO),
        cache_write_1h_usd_mtok=p.number("cache_write_1h_usd_mtok", _ZERO),
        output_usd_mtok=p.number("output_usd_mtok", _ZERO),
        reasoning_usd_mtok=p.number("reasoning_usd_mtok", _ZERO),
    )
    p.done()
    own = price.input_usd_mtok is not None and price.output_usd_mtok is not None
    if (price.book is None) != own:
        raise Invalid(
            f"{t.name('price')} is incomplete",
            "expected 'free', { book = 'provider/model' }, or both input_usd_mtok and output_usd_mtok",
            "complete it",
            param=t.name("price"),
        )
    return price


def _deployment(t: Table) -> Deployment:
    price = _price(t)
    d = Deployment(
        id=_identifier(t),
        engine=t.choice("engine", ENGINES, "") or t.required("engine"),
        model=t.required("model"),
        operator=t.required("operator"),
        approved=t.flag("approved", True),
        processing=t.fact("processing", place),
        at_rest=t.fact("at_rest", _at_rest),
        transit=t.fact("transit", place_set),
        on_premises=t.fact("on_premises", truth),
        records_auditable=t.fact("records_auditable", truth),
        inspectable=t.fact("inspectable", truth),
        seal=t.fact("seal", _seal),
        base_url=_base_url(t),
        api_key_env=t.text("api_key_env"),
        takes=_takes(t),
        context_tokens=t.whole("context_tokens", None),
        max_output_tokens=t.whole("max_output_tokens", None),
        timeout_ms=t.whole("timeout_ms", 120_000),
        first_token_ms=t.whole("first_token_ms", 30_000),
        max_concurrent=t.whole("max_concurrent", None),
        retries=t.whole("retries", 2, 0, 10),
        price=price,
        quality=_quality(t),
        adapter=t.text("adapter"),
        draft=t.text("draft"),
    )
    t.done()
    if d.base_url is None and d.engine not in EMBEDDED and d.engine != "scripted":
        raise Invalid(
            f"deployment {d.id!r} lacks 'base_url'",
            f"engine {d.engine!r} is reached over HTTP",
            'add for example `base_url = "http://127.0.0.1:8000/v1"`',
            param=t.name("base_url"),
        )
    return d


def _base_url(t: Table) -> str | None:
    url = t.text("base_url")
    if url is None:
        return None
    scheme, mark, rest = url.partition("://")
    if not mark or scheme not in ("http", "https"):
        got = repr(scheme[:20]) if mark else "no scheme"
        raise Invalid(
            f"{t.name('base_url')} is no HTTP address", f"got {got}", "begin with http:// or https://"
        )
    if "@" in rest.split("/", 1)[0]:
        raise Invalid(
            f"{t.name('base_url')} carries a user or password",
            "a credential has no place in a file that is shown and digested",
            "put it into the environment and name the variable with api_key_env",
            param=t.name("base_url"),
        )
    return url


def _takes(t: Table) -> frozenset[str]:
    value = t.texts("takes") or ()
    for name in value:
        if name not in TAKES:
            raise Invalid(
                f"{t.name('takes')}: {name!r} is not known{nearest(name, TAKES)}",
                "known: " + ", ".join(TAKES),
                "correct it",
                param=t.name("takes"),
            )
    return frozenset(value) | {"text"}


def _quality(t: Table) -> dict[str, Decimal]:
    q = t.sub("quality")
    if q is None:
        return {}
    out = {}
    for key in q.names():
        value = q.number(key, _ZERO, _ONE)
        if value is not None:
            out[key] = value
    return out


def _task(t: Table) -> Task:
    task = Task(
        name=_identifier(t, "name"),
        min_quality=t.number("min_quality", _ZERO, _ONE),
        max_cost_usd=t.number("max_cost_usd", _ZERO),
        deadline_ms=t.whole("deadline_ms", None),
        objective=t.choice("objective", OBJECTIVES, None),
        classes=tuple(sorted(_classes(t, "classes") or ())),
        deployments=t.texts("deployments") or (),
        effort=t.choice("effort", EFFORTS, None),
    )
    t.done()
    return task
