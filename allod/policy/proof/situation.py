"""From a solver's model to a configuration and a request: for a person to read, for the rules to judge."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec

from allod.domain import jurisdiction
from allod.domain.facts import GRADES, NOWHERE, Fact
from allod.domain.fleet import App, Deployment, Fleet, Named, Operator, Owner, Tenant, Weights
from allod.policy.evidence import SEAL_LENGTH
from allod.policy.facts import EVIDENCE, UNKNOWN_ORIGIN, origins
from allod.policy.proof.law import Law
from allod.policy.proof.session import Session
from allod.policy.proof.strings import FRESH, Text, Texts
from allod.policy.proof.world import World

HOME: Final = "DE"
APP, TENANT, OPERATOR, DEPLOYMENT = "an-app", "a-tenant", "an-operator", "a-deployment"
_WHOLE: Final = Decimal(100)
_STATUTES: Final = "resource.operator.compelled_by.names"
_DIGEST: Final = "sha256:" + "0" * 64


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """One request before one deployment, as configuration and caller would say it."""

    fleet: Fleet
    app: str
    deployment: str
    classes: tuple[str, ...]
    purpose: str | None
    link_up: bool
    pseudonymised: bool


def read(session: Session, model: Any, world: World | None = None) -> dict[str, Any]:
    """Return the value of every variable of a world in a model: booleans, numbers, strings, sorted tuples."""
    world = world or session.world
    chain = [world] if world.parent is None else [world.parent, world]
    made = {path: variable for one in chain for path, variable in one.made.items()}
    found: dict[str, Any] = {}
    for path, variable in made.items():
        if isinstance(variable, Text | Texts):
            alphabet = session.alphabets[variable.sort or "word"]
            number = model.eval(variable.term, model_completion=True).as_long()
            found[path] = alphabet.name(number) if isinstance(variable, Text) else alphabet.names(number)
        elif session.logic.z3.is_bool(variable):
            found[path] = bool(session.logic.z3.is_true(model.eval(variable, model_completion=True)))
        else:
            found[path] = model.eval(variable, model_completion=True).as_signed_long()
    return found


def situation(values: Mapping[str, Any], laws: tuple[Law, ...]) -> Situation:
    """Write the values of a world as a configuration with one deployment and a request.

    Fresh words among an operator's statutes are given names of the origins the world says it has; where one
    fresh word would have to be of several, there is no such configuration, and the rules will not confirm it.
    """
    names, others = _statutes(values)
    renamed = {path: _renamed(value, others) for path, value in values.items()}
    return _Writer({**renamed, _STATUTES: names}, laws).write()


class _Writer:
    """Turns values by path into domain objects; what no rule read is left out of the configuration."""

    def __init__(self, values: Mapping[str, Any], laws: tuple[Law, ...]) -> None:
        self._values: Final = values
        self._day: Final = laws[0].day
        limits = sorted({law.max_age_days for law in laws if law.max_age_days is not None})
        self._fresh: Final = self._day if limits else None
        self._stale: Final = self._day - timedelta(days=limits[0] + 1) if limits else None
        self._percent: Final = laws[0].percent
        self._laws: Final = laws

    def write(self) -> Situation:
        get = self._values.get
        tenant, app, operator, deployment = self._tenant(), self._app(), self._operator(), self._deployment()
        weights = self._weights()
        fleet = Fleet(
            tenant=tenant,
            apps={app.id: app},
            operators={operator.id: operator},
            deployments={deployment.id: msgspec.structs.replace(deployment, operator=operator.id)},
            weights={} if weights is None else {deployment.id: weights},
            sovereignty_weights=self._percent,
        )
        return Situation(
            fleet=fleet,
            app=app.id,
            deployment=deployment.id,
            classes=get("context.classes", ()),
            purpose=get("context.purpose", "") if get("has:context.purpose", False) else None,
            link_up=get("context.link_up", True),
            pseudonymised=get("context.pseudonymised", False),
        )

    def _tenant(self) -> Tenant:
        get, at = self._values.get, "principal.tenant"
        seal, score = None, None
        if get(f"has:{at}.min_seal", False):
            seal = tuple(get(f"{at}.min_seal.sov{n}", 0) for n in range(1, SEAL_LENGTH + 1))
            score = Decimal(get(f"{at}.min_seal.score", 0)) / 100
        return Tenant(
            id=get(f"{at}.#id", TENANT),
            home=get(f"{at}.home", HOME),
            bloc=places(get(f"{at}.bloc", ())),
            resident_classes=get(f"{at}.resident_classes", ()),
            packs=tuple(dict.fromkeys(name for law in self._laws for name in law.ids)),
            air_gapped=get(f"{at}.air_gapped", False),
            banned_makers=places(get(f"{at}.banned_makers", ())),
            sector=get(f"{at}.sector", "") if get(f"has:{at}.sector", False) else None,
            attestations=self._named(at, "attestations"),
            min_seal=seal,
            min_seal_score=score,
        )

    def _app(self) -> App:
        get, at = self._values.get, "principal"
        return App(
            id=get(f"{at}.#id", APP),
            purposes=get(f"{at}.purposes", ()),
            attestations=self._named(at, "attestations"),
            risk=get(f"{at}.risk", "minimal") if get(f"has:{at}.risk", False) else None,
            function=get(f"{at}.function", "") if get(f"has:{at}.function", False) else None,
            critical=get(f"{at}.critical", False),
        )

    def _operator(self) -> Operator:
        get, at = self._values.get, "resource.operator"
        return Operator(
            id=get(f"{at}.#id", OPERATOR),
            own=get(f"{at}.own", False),
            registered=get(f"{at}.registered", False),
            seat=self._fact(f"{at}.seat", self._single(f"{at}.seat.codes")),
            controlled_from=self._fact(
                f"{at}.controlled_from", places(get(f"{at}.controlled_from.codes", ()))
            ),
            compelled_by=self._fact(f"{at}.compelled_by", get(_STATUTES, ())),
            owners=self._fact(f"{at}.owners", self._owners()),
            agreements=self._named(at, "agreements"),
            attestations=self._named(at, "attestations"),
        )

    def _deployment(self) -> Deployment:
        get, at = self._values.get, "resource"
        rest = NOWHERE if get(f"{at}.at_rest.nowhere", False) else places(get(f"{at}.at_rest.codes", ()))
        return Deployment(
            id=get(f"{at}.#id", DEPLOYMENT),
            engine=get(f"{at}.engine", "openai"),
            model=get(f"{at}.model", "a-model"),
            operator="",
            approved=get(f"{at}.approved", True),
            processing=self._fact(f"{at}.processing", self._single(f"{at}.processing.codes")),
            at_rest=self._fact(f"{at}.at_rest", rest),
            transit=self._fact(f"{at}.transit", places(get(f"{at}.transit.codes", ()))),
            **{
                name: self._fact(f"{at}.{name}", get(f"{at}.{name}.value", False))
                for name in ("on_premises", "records_auditable", "inspectable", "trains_on_inputs")
            },
            seal=self._fact(
                f"{at}.seal", tuple(get(f"{at}.seal.sov{n}", 0) for n in range(1, SEAL_LENGTH + 1))
            ),
            retention_days=self._fact(f"{at}.retention_days", get(f"{at}.retention_days.value", 0)),
            agreements=self._named(at, "agreements"),
            attestations=self._named(at, "attestations"),
        )

    def _weights(self) -> Weights | None:
        get, at = self._values.get, "resource.weights"
        if not get(f"has:{at}", False):
            return None
        maker = self._single(f"{at}.maker") if get(f"has:{at}.maker", False) else None
        return Weights(weights=_DIGEST, maker_jurisdiction=maker, verified=get(f"{at}.verified", False))

    def _fact(self, path: str, value: Any) -> Any:
        if not self._values.get(f"has:{path}", False):
            return None
        old = self._values.get(f"stale:{path}", False)
        grade = self._values.get(f"{path}.grade", GRADES[0])
        return Fact(value=value, grade=grade, as_of=self._stale if old else self._fresh)

    def _named(self, bearer: str, kind: str) -> Named:
        if kind not in EVIDENCE:
            return {}
        stale = self._values.get(f"stale:{bearer}.{kind}", ())
        found: Named = {}
        for grade in GRADES:
            for name in self._values.get(f"{bearer}.{kind}.{grade}", ()):
                as_of = self._stale if name in stale else self._fresh
                found[name] = Fact(value=True, grade=grade, as_of=as_of)
        return found

    def _single(self, path: str) -> str:
        names = places(self._values.get(path, ()))
        return names[0] if names else ""

    def _owners(self) -> tuple[Owner, ...]:
        at = "resource.operator.owners"
        largest = self._values.get(f"{at}.largest_outside_eu", 0)
        total = self._values.get(f"{at}.total_outside_eu", 0)
        shares = [largest] * (total // largest) if largest else []
        if largest and total % largest:
            shares.append(total % largest)
        outside = [
            Owner(name=f"holder {n}", jurisdiction="US", percent=Decimal(share) / 100)
            for n, share in enumerate(shares, 1)
        ]
        inside = _WHOLE - Decimal(total) / 100
        return (*outside, Owner(name="others", jurisdiction=HOME, percent=inside))


def _statutes(values: Mapping[str, Any]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the statutes an operator is under, and what fresh words among them are called."""
    wanted = set(values.get(_STATUTES.replace("names", "origins"), ()))
    given = values.get(_STATUTES, ())
    named = [name for name in given if not name.startswith(FRESH)]
    lacking = sorted(wanted - origins(named)) or sorted(wanted)[:1]
    fresh = [name for name in given if name.startswith(FRESH)]
    laws = [f"{'' if code == UNKNOWN_ORIGIN else code + '-'}LAW" for code in lacking]
    if _STATUTES in values and not fresh:
        return tuple(named), {}
    laws += [f"{laws[0]}-{n}" for n in range(2, 2 + len(fresh) - len(laws))] if laws else []
    return tuple(sorted({*named, *laws})), dict(zip(fresh, laws, strict=False))


def _renamed(value: Any, others: Mapping[str, str]) -> Any:
    if isinstance(value, tuple):
        return tuple(sorted(others.get(one, one) for one in value))
    return others.get(value, value) if isinstance(value, str) else value


def places(codes: tuple[str, ...]) -> tuple[str, ...]:
    """Write country codes as the configuration would: a whole bloc by its name."""
    for name, members in jurisdiction.BLOCS.items():
        if members == set(codes):
            return (name,)
    return tuple(codes)


def told(found: Situation, values: Mapping[str, Any], day: date) -> dict[str, str]:
    """Say a situation by the names of the configuration: only what some rule or claim read."""
    fleet = found.fleet
    app, tenant = fleet.apps[found.app], fleet.tenant
    deployment = fleet.deployments[found.deployment]
    operator, weights = fleet.operator_of(deployment), fleet.weights.get(deployment.id)
    out = {"request.classes": _text(found.classes), "request.day": str(day)}
    for name in ("purpose", "link_up", "pseudonymised"):
        if f"context.{name}" in values or f"has:context.{name}" in values:
            out[f"request.{name}"] = _text(getattr(found, name))
    bearers = (
        ("tenant", "principal.tenant", tenant), ("app", "principal", app),
        ("operator", "resource.operator", operator), ("deployment", "resource", deployment),
        ("weights", "resource.weights", weights),
    )  # fmt: skip
    seen = {path.rpartition(":")[2] for path in values}
    for label, at, bearer in bearers:
        for path in sorted(seen):
            name = path.removeprefix(at + ".").split(".")[0]
            if not path.startswith(at + ".") or f"{label}.{name}" in out or bearer is None:
                continue
            name = {"maker": "maker_jurisdiction", "#id": "id"}.get(name, name)
            if hasattr(bearer, name) and name not in {"tenant", "operator", "weights"}:
                out[f"{label}.{name}"] = _text(getattr(bearer, name))
    if weights is None and any(path.startswith("resource.weights") for path in seen):
        out["weights"] = "none"
    return out


def _text(value: Any) -> str:
    match value:
        case None:
            return "not given"
        case Fact(value=inner, grade=grade, as_of=as_of):
            return f"{_text(inner)} ({grade}" + (f", as of {as_of})" if as_of else ")")
        case Owner(name=name, jurisdiction=place, percent=percent):
            text = f"{name} {place} {percent} %"
        case dict():
            text = ", ".join(f"{name} ({fact.grade})" for name, fact in sorted(value.items())) or "none"
        case tuple():
            text = ", ".join(_text(one) for one in value) or "none"
        case _:
            text = str(value).lower() if isinstance(value, bool) else str(value) or "empty"
    return text
