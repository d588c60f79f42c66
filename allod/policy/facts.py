"""Facts as policy reads them on one day, and their form as Cedar entities.

A fact that is missing, expired, of a day to come or older than a pack allows leaves its attribute out; so
does a value of the wrong kind. Nothing is ever filled in. Both keys, compiled and reference, judge the
entities made here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from typing import Any, Final, Literal

import msgspec

from allod.domain import jurisdiction
from allod.domain.classes import UNSCANNED, expand
from allod.domain.facts import GRADES, NOWHERE, Fact, Grade
from allod.domain.fleet import (
    EMBEDDED,
    SEAL_WEIGHTS,
    App,
    Deployment,
    Fleet,
    Named,
    Operator,
    Tenant,
    Weights,
)
from allod.policy import evidence

DEPLOYMENT_FACTS: Final = (
    "processing", "at_rest", "transit", "on_premises", "records_auditable", "inspectable", "seal",
    "retention_days", "trains_on_inputs",
)  # fmt: skip
OPERATOR_FACTS: Final = ("seat", "controlled_from", "compelled_by", "owners")
EVIDENCE: Final = ("agreements", "attestations")
UNKNOWN_ORIGIN: Final = "unknown"
_MOST_DAYS: Final = 36_525
State = Literal["known", "missing", "early", "expired", "stale", "weak", "empty"]
Json = dict[str, Any]


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment with what a decision reads beside it; ``weights`` None where the vault verified none.

    ``percent`` are the weights of the eight objectives of a sovereignty vector.
    """

    deployment: Deployment
    operator: Operator
    weights: Weights | None
    percent: tuple[int, ...] = SEAL_WEIGHTS


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One fact on one day: ``path`` is its place in the configuration (``operator.us-cloud.seat``)."""

    path: str
    fact: Fact[Any] | None
    state: State

    @property
    def usable(self) -> bool:
        """Whether there is a value to judge, be it an empty one."""
        return self.state in {"known", "empty"}

    @property
    def source(self) -> str:
        """Where it comes from: its own source, else its place in the configuration and its grade."""
        if self.fact is None:
            return f"{self.path} (not declared)"
        return self.fact.source or f"{self.path} ({self.fact.grade})"


class Calendar(msgspec.Struct, frozen=True, kw_only=True):
    """The day of a question, and what a fact must be to count on it.

    Beyond ``max_age_days`` a fact is stale (None: they do not age). Facts about an operator that is not our
    own and its deployments are too weak below ``min_grade``.
    """

    day: date
    max_age_days: int | None = None
    min_grade: Grade = "declared"

    def read(self, subject: Subject, name: str) -> Reading:
        """Read one fact of a deployment or of its operator; a value of the wrong kind is a missing one."""
        bearer: Deployment | Operator = subject.operator if name in OPERATOR_FACTS else subject.deployment
        kind = "operator" if name in OPERATOR_FACTS else "deployment"
        fact = getattr(bearer, name)
        path = f"{kind}.{bearer.id}.{name}"
        if not isinstance(fact, Fact) or fact.grade not in GRADES or _FORMS[name](fact.value) is None:
            return Reading(path=path, fact=None, state="missing")
        state = self._state(fact, own=subject.operator.own is True)
        names = _names(fact.value)
        if state == "known" and name != "compelled_by" and names is not None and not any(names):
            state = "empty"
        return Reading(path=path, fact=fact, state=state)

    def evidence(self, subject: Subject, path: str) -> tuple[Reading, ...]:
        """Read named evidence, sorted; ``path`` is ``operator.agreements`` or the like."""
        kind, _, name = path.partition(".")
        bearer: Deployment | Operator = subject.operator if kind == "operator" else subject.deployment
        own = subject.operator.own is True
        return tuple(
            Reading(path=f"{kind}.{bearer.id}.{name}.{key}", fact=fact, state=self._state(fact, own=own))
            for key, fact in sorted(getattr(bearer, name).items())
        )

    def holds(self, fact: Fact[Any], *, own: bool) -> bool:
        """Tell whether a piece of evidence counts on this day."""
        return self._state(fact, own=own) == "known"

    def _state(self, fact: Fact[Any], *, own: bool) -> State:
        if fact.as_of is not None and fact.as_of > self.day:
            return "early"
        if not fact.holds_on(self.day):
            return "expired"
        if self.max_age_days is not None and (
            fact.as_of is None or (self.day - fact.as_of).days > self.max_age_days
        ):
            return "stale"
        if not own and not fact.at_least(self.min_grade):
            return "weak"
        return "known"


def subjects(fleet: Fleet) -> dict[str, Subject]:
    """Return the fleet's deployments with operator and weights, in configuration order."""
    return {
        name: Subject(
            deployment=deployment,
            operator=fleet.operator_of(deployment),
            weights=fleet.weights.get(name) if deployment.engine in EMBEDDED else None,
            percent=fleet.sovereignty_weights,
        )
        for name, deployment in fleet.deployments.items()
    }


def facts_of(fleet: Fleet) -> Iterable[Fact[Any]]:
    """Yield every declared fact of the fleet."""
    bearers: list[tuple[Deployment | Operator, tuple[str, ...]]] = [
        *((deployment, DEPLOYMENT_FACTS) for deployment in fleet.deployments.values()),
        *((operator, OPERATOR_FACTS) for operator in fleet.operators.values()),
    ]
    for bearer, names in bearers:
        for name in names:
            fact = getattr(bearer, name)
            if isinstance(fact, Fact):
                yield fact
    bearing: list[Tenant | App | Deployment | Operator] = [fleet.tenant, *fleet.apps.values()]
    bearing += [*fleet.deployments.values(), *fleet.operators.values()]
    for one in bearing:
        for name in EVIDENCE:
            yield from getattr(one, name, {}).values()


def encode(fleet: Fleet, calendar: Calendar) -> list[Json]:
    """Return the whole fleet as entities in Cedar's JSON format."""
    entities = [encode_tenant(fleet.tenant, calendar)]
    entities += [encode_app(app, fleet.tenant, calendar) for app in fleet.apps.values()]
    seen: set[str] = set()
    for subject in subjects(fleet).values():
        entities.append(encode_deployment(subject, calendar))
        if subject.operator.id not in seen:
            seen.add(subject.operator.id)
            entities.append(encode_operator(subject, calendar))
    return entities


def encode_tenant(tenant: Tenant, calendar: Calendar) -> Json:
    """Encode the tenant; in ``bloc`` only assigned country codes survive, so a wrong name holds nothing."""
    attrs: Json = {
        "home": tenant.home,
        "bloc": sorted(jurisdiction.expand(tenant.bloc) & jurisdiction.COUNTRIES),
        "resident_classes": sorted(set(tenant.resident_classes)),
        "air_gapped": tenant.air_gapped,
        "banned_makers": sorted(jurisdiction.expand(tenant.banned_makers)),
        "attestations": _ours(tenant.attestations, calendar),
    }
    least = evidence.minimum(tenant.min_seal, tenant.min_seal_score)
    if least is not None:
        attrs["min_seal"] = least
    if tenant.sector is not None:
        attrs["sector"] = tenant.sector
    return {"uid": {"type": "Allod::Tenant", "id": tenant.id}, "attrs": attrs, "parents": []}


def encode_app(app: App, tenant: Tenant, calendar: Calendar) -> Json:
    """Encode a calling app under its tenant."""
    uid = {"type": "Allod::Tenant", "id": tenant.id}
    attrs: Json = {
        "tenant": {"__entity": uid},
        "purposes": sorted(set(app.purposes)),
        "attestations": _ours(app.attestations, calendar),
        "critical": app.critical is True,
    }
    for name in ("risk", "function"):
        if getattr(app, name) is not None:
            attrs[name] = getattr(app, name)
    return {"uid": {"type": "Allod::App", "id": app.id}, "attrs": attrs, "parents": [uid]}


def encode_operator(subject: Subject, calendar: Calendar) -> Json:
    """Encode the operator with the facts that are usable on this day."""
    operator = subject.operator
    attrs: Json = {"own": operator.own is True, "registered": operator.registered is True}
    for name in OPERATOR_FACTS:
        _add(attrs, name, calendar.read(subject, name))
    for name in EVIDENCE:
        attrs[name] = _named(getattr(operator, name), subject, calendar)
    return {"uid": {"type": "Allod::Operator", "id": operator.id}, "attrs": attrs, "parents": []}


def encode_deployment(subject: Subject, calendar: Calendar) -> Json:
    """Encode the deployment with the facts that are usable on this day, and its weights if we load them."""
    deployment = subject.deployment
    attrs: Json = {
        "operator": {"__entity": {"type": "Allod::Operator", "id": deployment.operator}},
        "engine": deployment.engine,
        "model": deployment.model,
        "approved": deployment.approved is True,
        "embedded": deployment.engine in EMBEDDED,
    }
    for name in DEPLOYMENT_FACTS:
        _add(attrs, name, calendar.read(subject, name))
    if "seal" in attrs:
        attrs["seal"] = {**attrs["seal"], **_scored(deployment, subject.percent)}
    for name in EVIDENCE:
        attrs[name] = evidence.union(
            _named(getattr(deployment, name), subject, calendar),
            _named(getattr(subject.operator, name), subject, calendar),
        )
    if subject.weights is not None:
        attrs["weights"] = _weights(subject.weights)
    return {"uid": {"type": "Allod::Deployment", "id": deployment.id}, "attrs": attrs, "parents": []}


def encode_context(
    classes: Iterable[str], purpose: str | None, tenant: Tenant, *, link_up: bool, pseudonymised: bool = False
) -> Json:
    """Encode the question; ``unscanned`` brings every resident class with it, for rules of any pack."""
    given = set(expand(classes))
    if UNSCANNED in given:
        given |= set(expand(tenant.resident_classes))
    context: Json = {
        "classes": sorted(given), "link_up": link_up is True, "pseudonymised": pseudonymised is True,
    }  # fmt: skip
    if purpose is not None:
        context["purpose"] = purpose
    return context


def origins(statutes: Iterable[str]) -> frozenset[str]:
    """Return whose law each statute is: the code before its first dash, ``unknown`` if that is no place.

    ``US-CLOUD-ACT`` is law of US, ``EU-DATA-ACT`` law of every country of the EU.
    """
    found: set[str] = set()
    for name in statutes:
        prefix, dash, rest = name.partition("-")
        found |= (
            jurisdiction.expand((prefix,))
            if dash and rest and jurisdiction.known(prefix)
            else {UNKNOWN_ORIGIN}
        )
    return frozenset(found)


def _add(attrs: Json, name: str, reading: Reading) -> None:
    if not reading.usable or reading.fact is None:
        return
    encoded = _FORMS[name](reading.fact.value)
    if encoded is not None:
        attrs[name] = {**encoded, "grade": reading.fact.grade}


def _names(value: Any) -> tuple[str, ...] | None:
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)


def _places(value: Any) -> Json | None:
    names = _names(value)
    return None if names is None else {"codes": sorted(jurisdiction.expand(name for name in names if name))}


def _storage(value: Any) -> Json | None:
    if _names(value) == NOWHERE:
        return {"codes": [], "nowhere": True}
    places = _places(value)
    return None if places is None else {**places, "nowhere": False}


def _flag(value: Any) -> Json | None:
    return {"value": value} if isinstance(value, bool) else None


def _statutes(value: Any) -> Json | None:
    names = _names(value)
    return None if names is None else {"names": sorted(set(names)), "origins": sorted(origins(names))}


def _levels(value: Any) -> Json | None:
    return evidence.levels(value, SEAL_WEIGHTS)


def _scored(deployment: Deployment, percent: tuple[int, ...]) -> Json:
    encoded = evidence.levels(deployment.seal.value, percent) if deployment.seal is not None else None
    return encoded or {}


def _days(value: Any) -> Json | None:
    return {"value": value} if type(value) is int and 0 <= value <= _MOST_DAYS else None


def _ours(named: Named, calendar: Calendar) -> Json:
    """Encode evidence about ourselves: no grade is demanded of it, age is."""
    return evidence.names(named, lambda fact: calendar.holds(fact, own=True))


def _named(named: Named, subject: Subject, calendar: Calendar) -> Json:
    own = subject.operator.own is True
    return evidence.names(named, lambda fact: calendar.holds(fact, own=own))


def _weights(weights: Weights) -> Json:
    encoded: Json = {"verified": weights.verified is True}
    maker = weights.maker_jurisdiction
    if maker is not None and jurisdiction.known(maker):
        encoded["maker"] = sorted(jurisdiction.expand((maker,)))
    return encoded


_FORMS: Final[dict[str, Callable[[Any], Json | None]]] = {
    "processing": _places,
    "at_rest": _storage,
    "transit": _places,
    "on_premises": _flag,
    "records_auditable": _flag,
    "inspectable": _flag,
    "seal": _levels,
    "seat": _places,
    "controlled_from": _places,
    "compelled_by": _statutes,
    "owners": evidence.holdings,
    "retention_days": _days,
    "trains_on_inputs": _flag,
}
