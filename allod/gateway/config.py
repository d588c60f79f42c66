"""The configuration: one TOML file, parsed once into frozen types.

A typo is an error that names the nearest known key. A missing *fact* is not: it loads as unknown, and policy
reads unknown as outside.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from allod.admission.admit import AUTO
from allod.domain.classes import BASE_CLASSES
from allod.domain.errors import Invalid
from allod.domain.fleet import Fleet
from allod.domain.register import Register
from allod.domain.signer import Signer
from allod.gateway import cascadefile, fleetfile, registers
from allod.gateway.retention import Retention, read_retention
from allod.gateway.signers import read_signers
from allod.gateway.toml import Table, nearest
from allod.receipts.cosignature import parse_cosigner_key
from allod.receipts.tlog_policy import Witness, k_of_n

_MIB: Final = 1024 * 1024
MAX_KEEP_S: Final = 30 * 86_400
MAX_WITNESSES: Final = 15
"""A note has at most 16 signature lines here, one of them the log's."""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """Where the gateway listens and what it takes from a client.

    Attributes:
        max_body_bytes: a larger request is answered 413.
        max_header_bytes: all headers of one request together.
        max_connections: more are answered 503.
        header_ms: time a client has to send the headers; ``body_ms`` the same for the body.
        send_idle_ms: a client that takes no byte of its answer for this long is dropped.
        operators: apps whose keys open ``/metrics`` from elsewhere than this machine.
        cache_bytes: memory for answers that may be given again (``cache_s`` of an app or task); 0 keeps none.

    """

    host: str = "127.0.0.1"
    port: int = 8080
    max_body_bytes: int = 32 * _MIB
    max_header_bytes: int = 32 * 1024
    max_connections: int = 4096
    header_ms: int = 15_000
    body_ms: int = 60_000
    send_idle_ms: int = 60_000
    cache_bytes: int = 32 * _MIB
    operators: tuple[str, ...] = ()


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How durable a leaf is before an answer leaves, and how long a batch gathers (milliseconds).

    Attributes:
        witnesses: who is asked to cosign each checkpoint, with their submission prefixes (C2SP tlog-witness).
        quorum: how many of them must have cosigned before a checkpoint counts; 0 demands none.
        witness_ms: time one witness has to answer.
        clock_back_s: by so much the clock may be behind what the log has recorded.
        retention: when leaves may be pruned, and what holds them.

    """

    durability: Literal["default", "strict"] = "default"
    batch_ms: int = 8
    witnesses: tuple[Witness, ...] = ()
    quorum: int = 0
    witness_ms: int = 3000
    clock_back_s: int = 60
    retention: Retention = Retention()


class Detect(msgspec.Struct, frozen=True, kw_only=True):
    """What detectors do to requests.

    Attributes:
        enabled: whether they run; without them classes come from labels alone.
        max_ms: time one request's scan may take; beyond it the request is ``unscanned``.
        max_chars: text one request may bring; beyond it the request is ``unscanned``.
        names: whether names of people raise ``personal``; a list of first names finds them, and errs.
        images: what a picture is: ``unscanned``, or ``ignored``.
        without: types of findings that raise nothing for the whole tenant.
        opinion: a deployment of our own that is asked for a second opinion; ``opinion_required`` makes a
            request without one ``unscanned``.

    """

    enabled: bool = True
    max_ms: int = 500
    max_chars: int = 1_000_000
    names: bool = False
    images: Literal["unscanned", "ignored"] = "unscanned"
    without: tuple[str, ...] = ()
    opinion: str | None = None
    opinion_required: bool = False


class QueueSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Work that may wait (``background``); without ``[queue]`` there is none, and nothing is stored.

    Attributes:
        keep_s: so long an answer is kept to be fetched, from its end on; then its content is deleted.
        max_requests, max_bytes: what may be in the queue, waiting or kept; more is answered 503.
        max_requests_per_app: the same of one app.
        concurrent: so many of them run at once: what somebody waits for goes first.

    """

    keep_s: int = 86_400
    max_requests: int = 10_000
    max_requests_per_app: int = 5_000
    max_bytes: int = 256 * _MIB
    concurrent: int = 2


class EvaluationSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How long an evaluation counts: ``max_age_days`` from the day it was made on."""

    max_age_days: int = 180


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the configuration says; ``fleet.weights`` is filled by the composition root.

    ``written`` are its tables as they stand in the file, which changes are compared by. ``check_files`` are
    the texts of the files that checks of answers go by, by digest; the composition root reads them.
    """

    fleet: Fleet
    server: Server
    log: LogSettings
    register: Register = Register()
    allowed_addresses: tuple[str, ...] = ()
    detect: Detect = Detect()
    signers: dict[str, Signer] = {}
    queue: QueueSettings | None = None
    evaluation: EvaluationSettings = EvaluationSettings()
    written: dict[str, Any] = {}
    check_files: dict[str, str] = {}


def parse(text: str, pack_classes: Callable[[str], tuple[str, ...]] = lambda _: ()) -> Config:
    """Parse the configuration; ``pack_classes`` tells the data classes a pack brings.

    Raises:
        Invalid: not TOML, an unknown key, a wrong type, an unknown jurisdiction, class, engine or reference.

    """
    try:
        written = tomllib.loads(text, parse_float=Decimal)
        root = Table(written, "")
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
    packs = tenant_table.texts("packs") or ()
    classes = BASE_CLASSES.union(*(pack_classes(name) for name in packs))
    tenant = fleetfile.tenant(tenant_table, classes)
    server, log, detect = _server(root.sub("server")), _log(root.sub("log")), _detect(root.sub("detect"))
    apps = _by("app", [fleetfile.app(t, classes) for t in root.list_of("app", "app")])
    operators = _by("operator", [fleetfile.operator(t) for t in root.list_of("operator", "operator")])
    deployments = _by(
        "deployment", [fleetfile.deployment(t) for t in root.list_of("deployment", "deployment")]
    )
    tasks = {t.name: t for t in (fleetfile.task(t, classes) for t in root.list_of("task", "task"))}
    fleet = Fleet(tenant=tenant, apps=apps, operators=operators, deployments=deployments, tasks=tasks)
    register = registers.register(root, fleet, classes)
    signers = read_signers(root.list_of("signer", "signer"))
    queue, evaluation = _queue(root.sub("queue")), _evaluation(root.sub("evaluation"))
    root.done()
    fleet = registers.with_registered(fleet, register)
    _cross_check(fleet, len(root.list_of("task", "task")))
    _check_opinion(fleet, detect)
    _check_operators(fleet, server)
    return Config(
        fleet=fleet,
        server=server,
        log=log,
        register=register,
        allowed_addresses=allowed,
        detect=detect,
        signers=signers,
        queue=queue,
        evaluation=evaluation,
        written=written,
    )


def _check_opinion(fleet: Fleet, detect: Detect) -> None:
    if detect.opinion is None:
        return
    deployment = fleet.deployments.get(detect.opinion)
    if deployment is None or not fleet.operators[deployment.operator].own:
        raise Invalid(
            f"detect.opinion names {detect.opinion!r}",
            "it sees requests before they are classified: expected a deployment of our own",
            "name one whose operator is own = true",
            param="detect.opinion",
        )


def _check_operators(fleet: Fleet, server: Server) -> None:
    for name in server.operators:
        if name not in fleet.apps:
            raise Invalid(
                f"server.operators names app {name!r}, which is not declared{nearest(name, fleet.apps)}",
                "declared: " + (", ".join(fleet.apps) or "none"),
                "declare it with [[app]]",
                param="server.operators",
            )


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
        cascadefile.check_names(fleet, task)
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
        cache_bytes=t.whole("cache_bytes", d.cache_bytes, 0),
        operators=t.texts("operators") or (),
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
        witnesses=tuple(_witness(w) for w in t.list_of("witnesses", "witness")),
        quorum=t.whole("quorum", d.quorum, 0, MAX_WITNESSES),
        witness_ms=t.whole("witness_ms", d.witness_ms, 10, 60_000),
        clock_back_s=t.whole("clock_back_s", d.clock_back_s, 0, 3_660 * 86_400),
        retention=read_retention(t),
    )
    t.done()
    if len(settings.witnesses) > MAX_WITNESSES:
        raise Invalid("too many witnesses", f"got {len(settings.witnesses)}, at most {MAX_WITNESSES}")
    k_of_n(settings.witnesses, settings.quorum)
    return settings


def _witness(t: Table) -> Witness:
    key, url = parse_cosigner_key(t.required("key")), t.required("url").rstrip("/")
    witness = Witness(name=t.text("name") or key.name, key=key, url=url)
    t.done()
    return witness


def _evaluation(t: Table | None) -> EvaluationSettings:
    d = EvaluationSettings()
    if t is None:
        return d
    settings = EvaluationSettings(max_age_days=t.whole("max_age_days", d.max_age_days, 1, 3660))
    t.done()
    return settings


def _queue(t: Table | None) -> QueueSettings | None:
    d = QueueSettings()
    if t is None:
        return None
    settings = QueueSettings(
        keep_s=t.whole("keep_s", d.keep_s, 1, MAX_KEEP_S),
        max_requests=t.whole("max_requests", d.max_requests, 1, 1_000_000),
        max_requests_per_app=t.whole("max_requests_per_app", d.max_requests_per_app, 1, 1_000_000),
        max_bytes=t.whole("max_bytes", d.max_bytes, 1024),
        concurrent=t.whole("concurrent", d.concurrent, 1, 256),
    )
    t.done()
    return settings


def _detect(t: Table | None) -> Detect:
    d = Detect()
    if t is None:
        return d
    settings = Detect(
        enabled=t.flag("enabled", d.enabled),
        max_ms=t.whole("max_ms", d.max_ms, 1, 60_000),
        max_chars=t.whole("max_chars", d.max_chars, 1, 100_000_000),
        names=t.flag("names", d.names),
        images=t.choice("images", ("unscanned", "ignored"), d.images),
        without=t.texts("without") or (),
        opinion=t.text("opinion"),
        opinion_required=t.flag("opinion_required", d.opinion_required),
    )
    t.done()
    return settings
