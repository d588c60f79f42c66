"""The tables of the configuration that declare the fleet: tenant, apps, operators, deployments, tasks.

A missing fact loads as unknown. What is written must be right: a wrong place, level, share or name of
evidence is an error that says where.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

from allod.domain import jurisdiction
from allod.domain.classes import BASE_CLASSES
from allod.domain.errors import Invalid
from allod.domain.facts import NOWHERE
from allod.domain.fleet import (
    EFFORTS,
    EMBEDDED,
    ENGINES,
    RISKS,
    TAKES,
    App,
    Deployment,
    Effort,
    Named,
    Operator,
    Owner,
    Relaxation,
    Task,
    Tenant,
)
from allod.gateway import cascadefile, pricefile
from allod.gateway.toml import Table, nearest, place, place_set, truth, words

OBJECTIVES: Final = ("sovereign", "cheapest", "best")
SEAL_OBJECTIVES: Final = 8
SEAL_HIGHEST: Final = 4
MOST_DAYS: Final = 36_525
MOST_CACHE_S: Final = 30 * 86_400
MOST_THINKING_TOKENS: Final = 1 << 20
MOST_DEVICES: Final = 1_000_000
AUTO_EFFORT: Final = "auto"
_ID_LENGTH: Final = 64
_LANGUAGE: Final = re.compile("[a-z]{2}")
_ID_CHARS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_ONE: Final = Decimal(1)
_ZERO: Final = Decimal(0)
_HUNDRED: Final = Decimal(100)


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


def _classes(table: Table, key: str, known: frozenset[str]) -> tuple[str, ...] | None:
    value = table.texts(key)
    for name in value or ():
        if name not in known:
            raise Invalid(
                f"{table.name(key)}: {name!r} is no data class{nearest(name, known)}",
                "known: " + ", ".join(sorted(known)),
                "correct the class",
                param=table.name(key),
            )
    return value


def tenant(t: Table, known: frozenset[str] = BASE_CLASSES) -> Tenant:
    """Read ``[tenant]``; ``known`` are the data classes of base and packs."""
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
    resident, default = _classes(t, "resident_classes", known), _classes(t, "default_classes", known)
    if default is not None and not default:
        raise Invalid(
            "tenant.default_classes is empty",
            "a request of no class at all would be kept nowhere",
            'leave it out, or write `["public"]` for what may go anywhere',
            param="tenant.default_classes",
        )
    read = Tenant(
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
        sector=t.text("sector"),
        attestations=_named(t, "attestations"),
        min_seal=seal(t.raw("min_seal"), "tenant.min_seal") if t.has("min_seal") else None,
        min_seal_score=t.number("min_seal_score", _ZERO, Decimal(SEAL_HIGHEST)),
        shadow=t.texts("shadow") or (),
        four_eyes=t.flag("four_eyes", False),
    )
    t.done()
    return read


def app(t: Table, known: frozenset[str] = BASE_CLASSES) -> App:
    """Read one ``[[app]]``."""
    classes = _classes(t, "classes", known)
    read = App(
        id=_identifier(t),
        classes=None if classes is None else tuple(sorted(classes)),
        purposes=t.texts("purposes") or (),
        effort=t.choice("effort", EFFORTS, None),
        tier=t.text("tier"),
        attestations=_named(t, "attestations"),
        risk=t.choice("risk", RISKS, None),
        function=t.text("function"),
        critical=t.flag("critical", False),
        pseudonymise=t.flag("pseudonymise", False),
        cache_s=t.whole("cache_s", None, 0, MOST_CACHE_S),
    )
    t.done()
    return read


def operator(t: Table) -> Operator:
    """Read one ``[[operator]]``."""
    read = Operator(
        id=_identifier(t),
        own=t.flag("own", False),
        seat=t.fact("seat", place),
        controlled_from=t.fact("controlled_from", place_set),
        compelled_by=t.fact("compelled_by", words),
        owners=t.fact("owners", _owners),
        agreements=_named(t, "agreements"),
        attestations=_named(t, "attestations"),
        registered=t.flag("registered", False),
    )
    t.done()
    return read


def _named(t: Table, key: str) -> Named:
    """Read evidence by name: ``{ baa = true, dpa = { value = true, grade = "contract" } }``."""
    found = t.sub(key)
    if found is None:
        return {}
    out = {}
    for name in found.names():
        if len(name) > _ID_LENGTH or not name or not set(name) <= _ID_CHARS:
            raise Invalid(
                f"{t.name(key)}: {name[:80]!r} is no name of evidence",
                "expected at most 64 letters, digits, '-', '_' and '.'",
                "rename it",
                param=t.name(key),
            )
        fact = found.fact(name, truth)
        if fact is not None:
            out[name] = fact
    return out


def _owners(raw: Any, where: str) -> tuple[Owner, ...]:
    """Read holders: ``[{ name = "Fund", jurisdiction = "US", percent = 12.5 }]``."""
    if not isinstance(raw, list):
        raise Invalid(f"{where} must be a list of holders", f"got {raw!r}", param=where)
    out = []
    for n, item in enumerate(raw):
        table = Table(item, f"{where}[{n}]")
        percent = table.number("percent", _ZERO, _HUNDRED)
        if percent is None:
            raise Invalid(
                f"{where}[{n}] lacks 'percent'", "the larger of capital and votes", "add it", param=where
            )
        out.append(
            Owner(
                name=table.required("name"),
                jurisdiction=jurisdiction.check(table.required("jurisdiction"), f"{where}[{n}].jurisdiction"),
                percent=percent,
            )
        )
        table.done()
    if sum((one.percent for one in out), _ZERO) > _HUNDRED:
        raise Invalid(f"{where} holds more than 100 percent", "", "correct the shares", param=where)
    return tuple(out)


def _days(raw: Any, where: str) -> int:
    if type(raw) is not int or not 0 <= raw <= MOST_DAYS:
        raise Invalid(f"{where} must be a number of days from 0 to {MOST_DAYS}", f"got {raw!r}", param=where)
    return raw


def at_rest(raw: Any, where: str) -> tuple[str, ...]:
    """Read where data is stored: places, or ``none``."""
    return NOWHERE if raw in ("none", ["none"]) else place_set(raw, where)


def seal(raw: Any, where: str) -> tuple[int, ...]:
    """Read a sovereignty vector: eight levels from 0 to 4."""
    good = isinstance(raw, list) and len(raw) == SEAL_OBJECTIVES
    if not good or not all(type(x) is int and 0 <= x <= SEAL_HIGHEST for x in raw):
        raise Invalid(
            f"{where} must be eight levels from 0 to 4",
            f"got {raw!r}; they stand for SOV-1 to SOV-8",
            "correct the vector",
            param=where,
        )
    return tuple(raw)


def deployment(t: Table) -> Deployment:
    """Read one ``[[deployment]]``."""
    price = pricefile.price(t)
    d = Deployment(
        id=_identifier(t),
        engine=t.choice("engine", ENGINES, "") or t.required("engine"),
        model=t.required("model"),
        operator=t.required("operator"),
        approved=t.flag("approved", True),
        processing=t.fact("processing", place),
        at_rest=t.fact("at_rest", at_rest),
        transit=t.fact("transit", place_set),
        on_premises=t.fact("on_premises", truth),
        records_auditable=t.fact("records_auditable", truth),
        inspectable=t.fact("inspectable", truth),
        seal=t.fact("seal", seal),
        retention_days=t.fact("retention_days", _days),
        trains_on_inputs=t.fact("trains_on_inputs", truth),
        agreements=_named(t, "agreements"),
        attestations=_named(t, "attestations"),
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
        batch_only=t.flag("batch_only", False),
        languages=t.fact("languages", languages),
        thinking_tokens=_thinking_tokens(t),
        chip=t.fact("chip", word),
        hardware=t.fact("hardware", word),
        hardware_count=t.whole("hardware_count", None, 1, MOST_DEVICES),
        maker=t.fact("maker", word),
        maker_jurisdiction=t.fact("maker_jurisdiction", place),
        family=t.fact("family", word),
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


def word(raw: Any, where: str) -> str:
    """Read a name: a text that is not empty."""
    if not isinstance(raw, str) or not raw.strip():
        raise Invalid(f"{where} must be a name", f"got {raw!r}", "write a text, or leave it out", param=where)
    return raw.strip()


def languages(raw: Any, where: str) -> tuple[str, ...]:
    """Read languages by their two letters (ISO 639-1)."""
    for name in raw if isinstance(raw, list) else ():
        if not isinstance(name, str) or not _LANGUAGE.fullmatch(name):
            raise Invalid(
                f"{where}: {name!r} is no language", "two small letters (ISO 639-1), as in de", param=where
            )
    return words(raw, where)


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


def depths(t: Table) -> tuple[Effort | None, tuple[Effort, ...]]:
    """Read a task's ``effort`` as (depth, depths to choose among): a depth, ``auto``, or a list of depths."""
    raw = t.raw("effort") if t.has("effort") else None
    if raw == AUTO_EFFORT:
        return None, EFFORTS
    if not isinstance(raw, list):
        return t.choice("effort", EFFORTS, None), ()
    chosen = t.texts("effort") or ()
    for name in chosen:
        if name not in EFFORTS:
            raise Invalid(
                f"{t.name('effort')}: {name!r} is no depth{nearest(name, EFFORTS)}",
                f"known: {', '.join(EFFORTS)}; or {AUTO_EFFORT!r} for any of them",
                "correct the list",
                param=t.name("effort"),
            )
    if not chosen:
        raise Invalid(f"{t.name('effort')} is empty", "", "leave it out", param=t.name("effort"))
    named: tuple[Effort, ...] = tuple(e for one in chosen for e in EFFORTS if e == one)
    return (named[0], ()) if len(named) == 1 else (None, named)


def _thinking_tokens(t: Table) -> dict[Effort, int]:
    """Read a deployment's ``thinking_tokens``: ``{ low = 512, medium = 2048 }``."""
    found = t.sub("thinking_tokens")
    if found is None:
        return {}
    out: dict[Effort, int] = {}
    for effort in EFFORTS[1:]:
        budget = found.whole(effort, None, 1, MOST_THINKING_TOKENS)
        if budget is not None:
            out[effort] = budget
    found.done()
    return out


def task(t: Table, known: frozenset[str] = BASE_CLASSES) -> Task:
    """Read one ``[[task]]``."""
    fields = t.texts("fields")
    effort, efforts = depths(t)
    read = Task(
        name=_identifier(t, "name"),
        min_quality=t.number("min_quality", _ZERO, _ONE),
        max_cost_usd=t.number("max_cost_usd", _ZERO),
        deadline_ms=t.whole("deadline_ms", None),
        objective=t.choice("objective", OBJECTIVES, None),
        classes=tuple(sorted(_classes(t, "classes", known) or ())),
        deployments=t.texts("deployments") or (),
        effort=effort,
        efforts=efforts,
        fields=fields,
        unstructured=t.choice("unstructured", ("refuse", "keep"), "refuse"),
        cache_s=t.whole("cache_s", None, 0, MOST_CACHE_S),
        languages=languages(t.raw("languages"), t.name("languages")) if t.has("languages") else (),
        require_language=t.flag("require_language", False),
        cascade=cascadefile.cascade(t),
        estimate=t.flag("estimate", False),
    )
    t.done()
    return read
