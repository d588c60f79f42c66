"""Remedies of a fleet, and requests decided again with them in place, by the gateway's own functions.

A remedy changes the fleet (approves, adds evidence, waives a rule, adds deployments), then the world takes
away what it takes from the changed fleet too, and every uncovered request is made again over what is left by
``replay.World`` as a simulation over another fleet does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import msgspec

from allod.domain.errors import AllodError, Invalid
from allod.domain.facts import Fact
from allod.domain.fleet import EMBEDDED, Deployment, Fleet, Relaxation, Task, Weights
from allod.drills.losses import Effect, effect
from allod.drills.restore import Case, Remedy, Served, kinds, remedy
from allod.drills.traffic import repriced
from allod.gateway import fleetfile
from allod.gateway.drilling import profiles_of
from allod.gateway.replay import Scenario
from allod.gateway.replay import World as Replay
from allod.gateway.toml import Table
from allod.policy.policy import Policy, PolicyQuestion
from allod.routing.plan import choose
from allod.routing.simulate import Past, past_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from allod.drills.fate import Fate
    from allod.drills.worlds import World
    from allod.gateway.drilling import Ground
    from allod.gateway.packs import Packs
    from allod.policy.forms import Rule

MAX_REMEDIES: Final = 60
MAX_QUESTIONS: Final = 12
"""So many questions of law are looked at for evidence that would help, those of most requests first."""
_EVIDENCE: Final = {"agreement": "agreements", "attestation": "attestations"}


def changed(fleet: Fleet, remedies: Sequence[Remedy]) -> Fleet:
    """Return a fleet with remedies in place.

    Raises:
        Invalid: a remedy names what is not there, or its deployment cannot be read.

    """
    for one in remedies:
        fleet = _applied(fleet, one)
    _renewed(fleet, remedies)  # names that are not there are told before any world
    return fleet


def _applied(fleet: Fleet, one: Remedy) -> Fleet:
    operators: dict[str, Any] = dict(fleet.operators)
    for table in one.operator:
        made = fleetfile.operator(Table(table, f"remedy {one.id}: operator"))
        operators[made.id] = made
    deployments: dict[str, Any] = {**fleet.deployments, **_added(one, operators)}
    for name in one.approve:
        if name not in deployments:
            raise Invalid(f"remedy {one.id} approves {name!r}, which is not configured", "", "correct it")
        deployments[name] = msgspec.structs.replace(deployments[name], approved=True)
    for field in ("agreements", "attestations"):
        for text in getattr(one, field):
            _give(one.id, field, text, operators, deployments)
    tenant = fleet.tenant
    if one.relax:
        more = tuple(Relaxation(rule=rule, reason=f"drill: {one.id}", signer="drill") for rule in one.relax)
        tenant = msgspec.structs.replace(tenant, relax=(*tenant.relax, *more))
    return msgspec.structs.replace(
        fleet,
        deployments=deployments,
        operators=operators,
        tenant=tenant,
        tasks=_tasks(fleet, one),
        weights={**_weights(one, deployments), **fleet.weights},
    )


def _added(one: Remedy, operators: Mapping[str, Any]) -> dict[str, Deployment]:
    """Return the deployments a remedy adds."""
    out = {}
    for table in one.deployment:
        added = fleetfile.deployment(Table(table, f"remedy {one.id}: deployment"))
        if added.operator not in operators:
            raise Invalid(
                f"remedy {one.id}: deployment {added.id!r} names operator {added.operator!r}",
                "which is not declared: " + ", ".join(operators),
                "declare it in the configuration, or as [[remedy.operator]]",
            )
        out[added.id] = added
    return out


def _weights(one: Remedy, deployments: Mapping[str, Any]) -> dict[str, Weights]:
    """Return weights of added deployments we load ourselves: bringing them into the vault is part of it."""
    out = {}
    for table in one.deployment:
        added = deployments[str(table["id"])]
        if added.engine in EMBEDDED:
            made = added.maker_jurisdiction
            out[added.id] = Weights(
                weights=f"sha256:{'0' * 64}",
                maker_jurisdiction=None if made is None else made.value,
                verified=True,
            )
    return out


def _tasks(fleet: Fleet, one: Remedy) -> dict[str, Task]:
    tasks = dict(fleet.tasks)
    for name in one.tasks:
        if name not in tasks:
            raise Invalid(f"remedy {one.id} names task {name!r}, which is not configured", "", "correct it")
        joined = (*tasks[name].deployments, *(str(table["id"]) for table in one.deployment))
        tasks[name] = msgspec.structs.replace(tasks[name], deployments=tuple(dict.fromkeys(joined)))
    return tasks


def _give(
    remedy_id: str, field: str, text: str, operators: dict[str, Any], deployments: dict[str, Any]
) -> None:
    """Add one piece of evidence, graded ``contract`` for an agreement and ``attested`` else."""
    where, mark, name = text.rpartition("/")
    group = operators if where in operators else deployments
    if not mark or where not in group:
        raise Invalid(
            f"remedy {remedy_id}: {text!r} names no operator or deployment",
            "expected operator/name",
            "correct it",
        )
    grade: Any = "contract" if field == "agreements" else "attested"
    held = {**getattr(group[where], field), name: Fact(value=True, grade=grade, source=f"drill: {remedy_id}")}
    group[where] = msgspec.structs.replace(group[where], **{field: held})


def _renewed(fleet: Fleet, remedies: Sequence[Remedy]) -> Fleet:
    """Return a fleet with evidence that was made anew after a world took it away."""
    operators: dict[str, Any] = dict(fleet.operators)
    deployments: dict[str, Any] = dict(fleet.deployments)
    for one in remedies:
        for field, names in (("agreements", one.renew_agreements), ("attestations", one.renew_attestations)):
            for text in names:
                _give(one.id, field, text, operators, deployments)
    return msgspec.structs.replace(fleet, operators=operators, deployments=deployments)


class Remaking:
    """Decides uncovered requests again in a world, with remedies in place.

    Args:
        ground: the home. world: what is gone. records: finds a decision record by its digest.

    """

    def __init__(self, ground: Ground, world: World, records: Callable[[str], bytes | None]) -> None:
        self._ground, self._world, self._records = ground, world, records
        self._pasts: dict[str, Past | None] = {}

    def again(self, remedies: Sequence[Remedy], cases: Sequence[Case]) -> list[Served | None]:
        """Decide cases again; None for each that nothing serves.

        Raises:
            Invalid: remedies and packs do not fit together.

        """
        ground = self._ground
        fleet = changed(ground.setting.fleet, remedies)
        found = effect(self._world, fleet, profiles_of(fleet, ground.setting))
        renewed = _renewed(found.fleet, remedies)
        left = {name: one for name, one in renewed.deployments.items() if name not in found.gone}
        given = msgspec.structs.replace(renewed, deployments=left)
        unpin = any(one.unpin for one in remedies)
        made: dict[str | None, Replay] = {}
        plain: dict[str | None, Replay] = {}
        out: list[Served | None] = []
        for case in cases:
            past = self._past(case.digest)
            key = case.group.configuration
            if past is None:
                out.append(None)
                continue
            if key not in made:
                made[key] = Replay(self._scenario(given, ground.packs(found)), ground.fleet(key))
                if (
                    found.lists
                ):  # of places that are forbidden too: what falls out of it is not allowed by that
                    plain[key] = Replay(self._scenario(given, ground.setting.packs), ground.fleet(key))
            out.append(_served(made[key], found, past, unpin=unpin, plain=plain.get(key)))
        return out

    def _scenario(self, given: Fleet, packs: Packs) -> Scenario:
        setting = self._ground.setting
        return Scenario(
            packs=packs,
            installed=setting.packs,
            today=setting.fleet,
            given=given,
            books=setting.supplied.books,
        )

    def _past(self, digest: str) -> Past | None:
        if digest not in self._pasts:
            body = self._records(digest)
            self._pasts[digest] = None if body is None else past_of(body)
        return self._pasts[digest]


def _served(
    replay: Replay, found: Effect, past: Past, *, unpin: bool, plain: Replay | None = None
) -> Served | None:
    """Decide a request again; with ``plain`` only who is lawful in that world too may serve it (I2)."""
    if found.link_down:
        past = msgspec.structs.replace(past, flags={**past.flags, "link_up": False})
    if unpin and past.asked.pinned:
        past = msgspec.structs.replace(past, asked=msgspec.structs.replace(past.asked, pinned=()))
    at_ms = _noon_ms(past)
    try:
        again, _ = replay.again(past, at_ms)
        other = None if plain is None else plain.again(past, at_ms)[0]
    except AllodError:
        return None
    choice = choose(repriced(again.facts, found.factors)) if found.factors else again.choice
    unlawful = set() if other is None else {one.deployment for one in other.facts.candidates if one.law}
    first = next((one for one in choice.up if one.deployment not in unlawful), None)
    if first is None:
        return None
    return Served(first.deployment, first.cost_usd, first.quality)


def _noon_ms(past: Past) -> int:
    from datetime import UTC, datetime  # noqa: PLC0415 (only here)

    at = datetime.fromisoformat(str(past.flags["day"])).replace(tzinfo=UTC)
    return int(at.timestamp() * 1000) + 43_200_000


# --- which remedies there are


def remedies_of(ground: Ground, world: World, decided: Sequence[Fate]) -> list[Remedy]:
    """Return the organisation's remedies, and those its fleet and its packs offer for what is uncovered.

    Raises:
        Invalid: ``drills.toml`` names what is not there.

    """
    terms = kinds(ground.own.remedy_kind)
    written = [remedy(one, terms) for one in ground.own.remedy]
    fleet = ground.setting.fleet
    for one in written:
        changed(fleet, [one])
    stopped = [fate for fate in decided if fate.uncovered]
    out = list(written)
    taken = {name for one in written for name in one.approve}
    out += [
        Remedy(
            id=f"approve-{name}", kind="approve", title=f"Approve {name}", terms=terms["approve"],
            approve=(name,),
        )
        for name, one in fleet.deployments.items()
        if not one.approved and name not in taken
    ]  # fmt: skip
    if not any(one.kind == "unpin" for one in written) and stopped:
        out.append(
            Remedy(
                id="unpin", kind="unpin", title="Let applications that name a deployment take any",
                terms=terms["unpin"], unpin=True,
            )
        )  # fmt: skip
    if stopped:
        out += _by_law(ground, world, stopped, out)
    return [one for one in out if _to_be_had(one, world)][:MAX_REMEDIES]


def _to_be_had(one: Remedy, world: World) -> bool:
    """Tell whether what must be bought or rented for a remedy is delivered in a world.

    Where the chip of what would be bought is not known, it is taken not to be.
    """
    lost = {name.casefold() for name in (*world.lose.supply, *world.lose.chips)}
    if not lost or one.kind not in {"buy", "rent"}:
        return True
    chips = [table.get("chip") for table in one.deployment]
    return all(isinstance(chip, str) and chip.casefold() not in lost for chip in chips)


def _by_law(ground: Ground, world: World, stopped: Sequence[Fate], known: Sequence[Remedy]) -> list[Remedy]:
    """Return evidence that would admit a deployment that is left, and rules whose waiver would."""
    fleet = ground.setting.fleet
    found = ground.effect(world)(ground.today)
    packs = ground.packs(found)
    policy = Policy(packs.some(found.fleet.tenant.packs), found.fleet)
    terms = kinds(ground.own.remedy_kind)
    names = {
        one.name: _EVIDENCE[one.kind] for pack in policy.packs for one in pack.names if one.kind in _EVIDENCE
    }
    out: dict[str, Remedy] = {one.id: one for one in known}
    for question in _questions(ground, found, stopped):
        for one in policy.eligible(question).excluded:
            if one.deployment in found.gone:
                continue
            against = [policy.rules[rule.id] for rule in one.rules if rule.id in policy.rules]
            wanted = _wanted(fleet, one.deployment, against, names)
            offers = []
            if wanted is not None:
                lean = _lean(packs, found, question, one.deployment, wanted)
                offers += [_evidence(fleet, one.deployment, lean, terms)] if lean else []
            if all(rule.effect == "forbid" for rule in against):
                offers.append(_waiver(one.deployment, against, terms))
            for each in offers:
                out.setdefault(each.id, each)
    return [one for one in out.values() if one not in known]


def _questions(ground: Ground, found: Effect, stopped: Sequence[Fate]) -> list[PolicyQuestion]:
    """Return what law is asked about uncovered requests, as of today."""
    weights: dict[PolicyQuestion, int] = {}
    for fate in stopped:
        asked = fate.group.asked
        if asked.app not in ground.setting.fleet.apps:
            continue
        question = PolicyQuestion(
            app=asked.app,
            classes=asked.classes,
            day=ground.day,
            purpose=asked.purpose,
            link_up=asked.link_up and not found.link_down,
            pseudonymised=asked.pseudonymised,
        )
        weights[question] = weights.get(question, 0) + fate.group.requests
    return sorted(weights, key=lambda one: (-weights[one], one.app))[:MAX_QUESTIONS]


def _wanted(
    fleet: Fleet, deployment: str, against: Iterable[Rule], names: Mapping[str, str]
) -> list[tuple[str, str]] | None:
    """Return the evidence (field, name) that the deciding rules ask for and nobody has; else None."""
    one = fleet.deployments[deployment]
    operator = fleet.operator_of(one)
    wanted: dict[tuple[str, str], None] = {}
    for rule in against:
        text = msgspec.json.encode(rule.policy).decode()
        asks = [
            (field, name)
            for name, field in names.items()
            if f'"{name}"' in text and any(f".{field}" in path for path in rule.reads)
        ]
        if not asks or operator.own:
            return None
        for field, name in asks:
            if name not in getattr(operator, field) and name not in getattr(one, field):
                wanted[field, name] = None
    return list(wanted) or None


def _lean(
    packs: Any,
    found: Effect,
    question: PolicyQuestion,
    deployment: str,
    wanted: list[tuple[str, str]],
) -> list[tuple[str, str]]:
    """Return a least set of this evidence with which law keeps the deployment; none if all of it does not."""
    operator = found.fleet.deployments[deployment].operator

    def keeps(evidence: Sequence[tuple[str, str]]) -> bool:
        operators, deployments = dict(found.fleet.operators), dict(found.fleet.deployments)
        for field, name in evidence:
            _give("trial", field, f"{operator}/{name}", operators, deployments)
        fleet = msgspec.structs.replace(found.fleet, operators=operators)
        return deployment in Policy(packs.some(fleet.tenant.packs), fleet).kept(question)

    if not keeps(wanted):
        return []
    for one in reversed(tuple(wanted)):
        rest = [each for each in wanted if each != one]
        if rest and keeps(rest):
            wanted = rest
    return wanted


def _evidence(
    fleet: Fleet, deployment: str, lean: Sequence[tuple[str, str]], terms: Mapping[str, Any]
) -> Remedy:
    operator = fleet.deployments[deployment].operator
    names = [name for _, name in lean]
    return Remedy(
        id=f"agree-{operator}-{'-'.join(names)}",
        kind="agreement",
        title=f"Agree with {operator} on {', '.join(names)}",
        terms=terms["agreement"],
        agreements=tuple(f"{operator}/{name}" for field, name in lean if field == "agreements"),
        attestations=tuple(f"{operator}/{name}" for field, name in lean if field == "attestations"),
    )


def _waiver(deployment: str, against: Sequence[Rule], terms: Mapping[str, Any]) -> Remedy:
    ids = tuple(rule.id for rule in against)
    short = ids[0] if len(ids) == 1 else f"{len(ids)}-rules-{crc32(' '.join(ids).encode()):08x}"
    return Remedy(
        id=f"waive-{short}",
        kind="relax",
        title=f"Waive {', '.join(ids)}",
        terms=terms["relax"],
        relax=ids,
        waives=tuple(f"{rule.id} ({rule.law or 'no law named'})" for rule in against) or (deployment,),
    )
