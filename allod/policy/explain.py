"""Why a deployment was left out, in words: what the fact is, what it would have to be, where it comes from.

Rules of the base pack have a reader each; a rule of another pack is explained by the facts its policy reads
and by its own ``@text``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from allod.domain import jurisdiction
from allod.domain.decision import DecidingRule
from allod.domain.facts import NOWHERE, Fact
from allod.domain.fleet import App, Owner, Tenant
from allod.policy.demands import demanded
from allod.policy.facts import (
    DEPLOYMENT_FACTS,
    OPERATOR_FACTS,
    UNKNOWN_ORIGIN,
    Calendar,
    Reading,
    Subject,
    origins,
)
from allod.policy.pack import Rule

UNVERIFIED: Final = "text not verified"
_RESIDENCY_FACTS: Final = (
    "processing", "at_rest", "transit", "records_auditable", "inspectable", "seat", "controlled_from",
)  # fmt: skip


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment before one question: all an explanation speaks of."""

    tenant: Tenant
    subject: Subject
    calendar: Calendar
    link_up: bool
    statutes: Mapping[str, str] = {}
    app: App | None = None
    purpose: str | None = None

    def read(self, name: str) -> Reading:
        """Read one fact of the deployment or its operator."""
        return self.calendar.read(self.subject, name)

    @property
    def bloc(self) -> str:
        """The bloc as the configuration names it."""
        return ", ".join(self.tenant.bloc) or "no bloc (none is configured)"

    def inside(self, reading: Reading) -> bool:
        """Tell whether all places of a fact are in the bloc; unknown and empty are not."""
        if reading.fact is None or reading.state != "known":
            return False
        value = reading.fact.value
        if value == NOWHERE:
            return reading.path.endswith(".at_rest")
        places = (value,) if isinstance(value, str) else tuple(value)
        bloc = jurisdiction.expand(self.tenant.bloc) & jurisdiction.COUNTRIES
        return jurisdiction.expand(places) <= bloc


Told = tuple[str, str, Iterable[Reading] | str]
"""got, required, and the source: readings to take it from, or the text itself."""


def explain(rule: Rule, scene: Scene, *, errored: bool = False) -> DecidingRule:
    """Say why a rule decides against a deployment; ``errored`` when it could not be evaluated."""
    got, required, source = _READERS.get(rule.id, _generic)(scene, rule)
    if errored:
        got = f"the rule could not be evaluated ({got})"
    if not isinstance(source, str):
        source = "; ".join(dict.fromkeys(reading.source for reading in source))
    law = f"{rule.law} ({UNVERIFIED})" if rule.law and rule.unverified else rule.law
    return DecidingRule(id=rule.id, law=law, got=got, required=required, source=source, remedy=rule.remedy)


def shown(reading: Reading) -> str:
    """Write a fact's value, or why there is none: ``DE``, ``unknown``, ``unknown (expired 2026-01-01)``."""
    fact = reading.fact
    if fact is None or not reading.usable:
        return "unknown" + (f" ({_lapsed(reading)})" if fact is not None else "")
    value = fact.value
    if reading.state == "empty":
        text = "empty"
    elif value == NOWHERE:
        text = "nowhere"
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, tuple | list):
        text = ", ".join(_item(item) for item in value) or "none"
    else:
        text = str(value)
    return text


def _item(item: object) -> str:
    return f"{item.name} ({item.jurisdiction}) {item.percent} %" if isinstance(item, Owner) else str(item)


def _lapsed(reading: Reading) -> str:
    assert reading.fact is not None
    if reading.state == "early":
        return f"evidence of {reading.fact.as_of}, which is to come"
    if reading.state == "expired":
        return f"expired {reading.fact.expires}"
    if reading.state == "weak":
        return f"graded only {reading.fact.grade}"
    return f"evidence of {reading.fact.as_of} is too old" if reading.fact.as_of else "evidence without a date"


def graded(reading: Reading) -> str:
    """Write a fact's value with its grade where there is one."""
    if reading.fact is None or not reading.usable:
        return shown(reading)
    return f"{shown(reading)} ({reading.fact.grade})"


def _name(reading: Reading) -> str:
    return reading.path.rpartition(".")[2]


def _approved(scene: Scene, _rule: Rule) -> Told:
    return "approved false", "approved true", f"deployment.{scene.subject.deployment.id}.approved"


def _complete(scene: Scene, _rule: Rule) -> Told:
    lacking = [reading for name in _RESIDENCY_FACTS if (reading := scene.read(name)).state != "known"]
    got = "; ".join(f"{_name(reading)} {shown(reading)}" for reading in lacking)
    return got, "every residency fact declared, unexpired and not empty", lacking


def _place(name: str, required: str) -> Callable[[Scene, Rule], Told]:
    def tell(scene: Scene, _rule: Rule) -> Told:
        reading = scene.read(name)
        return f"{name} {shown(reading)}", required.format(bloc=scene.bloc), (reading,)

    return tell


def _audit(scene: Scene, _rule: Rule) -> Told:
    readings = (scene.read("records_auditable"), scene.read("inspectable"))
    own = scene.subject.operator.own
    lacking = [
        reading
        for reading in readings
        if reading.state != "known"
        or reading.fact is None
        or reading.fact.value is not True
        or not (own or reading.fact.at_least("attested"))
    ]
    got = ", ".join(f"{_name(reading)} {graded(reading)}" for reading in readings)
    return got, "both true" if own else "both true, graded attested or better", lacking


def _operator(scene: Scene, _rule: Rule) -> Told:
    seat, control = scene.read("seat"), scene.read("controlled_from")
    lacking = [reading for reading in (seat, control) if not scene.inside(reading)]
    got = f"seat {shown(seat)}, controlled from {shown(control)}"
    return got, f"seat and every controlling jurisdiction in {scene.bloc}", lacking


def _airgap(scene: Scene, _rule: Rule) -> Told:
    reading = scene.read("on_premises")
    reason = "the tenant is air-gapped" if scene.tenant.air_gapped else "the link is down"
    return f"on_premises {graded(reading)}", f"on_premises true while {reason}", (reading,)


def _verified(scene: Scene, _rule: Rule) -> Told:
    deployment, weights = scene.subject.deployment, scene.subject.weights
    got = (
        f"model {deployment.model!r} is not in the vault"
        if weights is None
        else f"{weights.weights} unverified"
    )
    return got, "weights verified by the vault", f"vault ({deployment.model})"


def _maker(scene: Scene, _rule: Rule) -> Told:
    deployment, weights = scene.subject.deployment, scene.subject.weights
    banned = ", ".join(scene.tenant.banned_makers)
    required = "verified weights of a known maker" + (f" outside {banned}" if banned else "")
    if weights is None or not weights.verified:
        return "no verified weights", required, f"vault ({deployment.model})"
    return (
        f"maker's jurisdiction {weights.maker_jurisdiction or 'unknown'}",
        required,
        f"vault ({deployment.model})",
    )


def _compelled(scene: Scene, _rule: Rule) -> Told:
    reading = scene.read("compelled_by")
    required = f"known not to be compellable by a statute from outside {scene.bloc}"
    if reading.fact is None or not reading.usable:
        return f"compelled_by {shown(reading)}", required, (reading,)
    value = reading.fact.value
    names = (value,) if isinstance(value, str) else tuple(value)
    bloc = jurisdiction.expand(scene.tenant.bloc) & jurisdiction.COUNTRIES
    foreign = [name for name in names if not origins((name,)) <= bloc]
    told = ", ".join(_statute(name, scene.statutes) for name in foreign)
    return f"compellable under {told}", required, (reading,)


def _statute(name: str, statutes: Mapping[str, str]) -> str:
    if name in statutes:
        return f"{name} ({statutes[name]})"
    return f"{name} (origin unknown)" if UNKNOWN_ORIGIN in origins((name,)) else name


def _generic(scene: Scene, rule: Rule) -> Told:
    names = {path.split(".")[-1] for path in _fact_paths(rule.reads)}
    readings = [scene.read(name) for name in (*DEPLOYMENT_FACTS, *OPERATOR_FACTS) if name in names]
    told = [f"{_name(reading)} {graded(reading)}" for reading in readings]
    evidence = _evidence(scene, rule)
    told += [text for text, _ in evidence]
    told += _asker(scene, rule)
    if not told:
        return "not met", rule.text, f"rule {rule.id}"
    sources = [*readings, *(reading for _, found in evidence for reading in found)]
    return "; ".join(told), rule.text, sources or f"app {scene.app.id if scene.app else ''}"


def _evidence(scene: Scene, rule: Rule) -> list[tuple[str, tuple[Reading, ...]]]:
    """Tell of each piece of evidence the rule demands of the deployment whether it is there."""
    out: dict[str, tuple[Reading, ...]] = {}
    for bearer, kind, _, name in demanded(rule.policy):
        if bearer not in {"resource", "resource.operator"}:
            continue
        paths = [f"operator.{kind}"] + ([f"deployment.{kind}"] if bearer == "resource" else [])
        found = tuple(
            reading
            for path in paths
            for reading in scene.calendar.evidence(scene.subject, path)
            if reading.path.endswith(f".{kind}.{name}")
        )
        told = ", ".join(_held(reading) for reading in found) or "missing"
        out.setdefault(f"{kind.removesuffix('s')} {name} {told}", found)
    return list(out.items())


def _held(reading: Reading) -> str:
    """Tell a piece of evidence: its grade, or why it does not count."""
    if reading.fact is None or reading.state != "known":
        return _lapsed(reading)
    return reading.fact.grade if reading.fact.value else "declared false"


def _named_ours(scene: Scene, rule: Rule, bearer: str, held: Mapping[str, Fact[bool]]) -> list[str]:
    told = []
    for where, kind, _, name in demanded(rule.policy):
        if where == bearer:
            fact = held.get(name)
            there = fact is not None and fact.value and scene.calendar.holds(fact, own=True)
            told.append(f"{kind.removesuffix('s')} {name} {fact.grade if fact and there else 'missing'}")
    return list(dict.fromkeys(told))


def _asker(scene: Scene, rule: Rule) -> list[str]:
    """Tell what the rule reads of the request, the app and the tenant."""
    told = []
    reads = set(rule.reads)
    if "context.purpose" in reads:
        told.append(f"purpose {scene.purpose or 'not stated'}")
    if "context.pseudonymised" in reads:
        covered = scene.app is not None and scene.app.pseudonymise and not scene.subject.operator.own
        told.append("pseudonymised" if covered else "not pseudonymised")
    if scene.app is not None:
        if "principal.risk" in reads:
            told.append(f"risk {scene.app.risk or 'not stated'} of app {scene.app.id}")
        if "principal.critical" in reads:
            told.append(f"app {scene.app.id} {'is' if scene.app.critical else 'is not'} critical")
        told += _named_ours(scene, rule, "principal", scene.app.attestations)
    told += _named_ours(scene, rule, "principal.tenant", scene.tenant.attestations)
    if any(path.startswith("principal.tenant.min_seal") for path in reads):
        told.append(f"least levels {list(scene.tenant.min_seal or ())}, score {scene.tenant.min_seal_score}")
    return told


def _fact_paths(reads: Iterable[str]) -> Iterable[str]:
    """Cut read paths to the fact: ``resource.operator.seat.codes`` to ``resource.operator.seat``."""
    for path in reads:
        parts = path.split(".")
        length = 3 if parts[:2] == ["resource", "operator"] else 2
        if parts[0] == "resource" and len(parts) >= length:
            yield ".".join(parts[:length])


_READERS: Final[dict[str, Callable[[Scene, Rule], Any]]] = {
    "base.approved": _approved,
    "residency.0-complete": _complete,
    "residency.1-process": _place("processing", "processing in {bloc}"),
    "residency.2-rest": _place("at_rest", "all storage in {bloc}, or nowhere"),
    "residency.3-transit": _place("transit", "all transit in {bloc}"),
    "residency.4-audit": _audit,
    "residency.5-operator": _operator,
    "airgap": _airgap,
    "provenance.verified": _verified,
    "provenance.ban": _maker,
    "compelled.access": _compelled,
}
