"""From a sheet to a placement problem: law by the gateway's own decisions, memory and speed by the planner.

Every pair of site and model becomes a deployment of a fleet that is otherwise the configuration's; every
traffic is admitted and decided over it by the code that decides requests, so that what may not be is barred
by the same rules, under the same ids. Nothing is sent to anybody.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.admission.admit import Index, admit
from allod.domain.errors import Invalid
from allod.domain.fleet import Weights
from allod.domain.request import NO_RECEIPT, Labels, Sizes
from allod.domain.usage import Usage
from allod.gateway import compose, fleetfile
from allod.gateway.cli.options import app_named
from allod.gateway.toml import Table
from allod.metering.rates import cost
from allod.planner.catalogue import find_device, find_model, usd_month
from allod.planner.placing.problem import Loss, Place, Pool, Problem, Stock, Traffic
from allod.routing.question import Health

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from allod.domain.decision import DecidingRule
    from allod.domain.fleet import Deployment, Fleet
    from allod.gateway.decide import Decider
    from allod.gateway.siting.file import Demand, Gone, Model, Offer, Sheet
    from allod.planner.catalogue import Device, ModelCard
    from allod.planner.estimate import Estimate

STEPS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
OWN: Final = ("llamacpp",)
HIGHEST: Final = 4.0
"""The best a sovereignty vector weighs out to."""
NOWHERE: Final = "http://127.0.0.1:9/v1"
"""Where a planned deployment would be reached; never asked."""


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why something cannot be, as the gateway says it: the rule, what it found and what it asks for."""

    rule: str
    got: str
    required: str
    law: str = ""
    remedy: str = ""


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What one replica serves and where that is from; ``speed`` has an interval where it is estimated."""

    tokens_s: float
    concurrent: int | None
    source: str
    speed: Estimate | None = None


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """A problem with everything that was found on the way to it."""

    problem: Problem
    barred: dict[tuple[str, Place], tuple[Reason, ...]]
    unfit: dict[str, Reason]
    capacity: dict[str, Capacity]
    prices: dict[str, str]


def build(
    sheet: Sheet, setting: compose.Setting, now_ms: int, progress: Callable[[int, int], None] | None = None
) -> Built:
    """Judge every pair of traffic and place, and work out what each pool serves and costs.

    Raises:
        Invalid: an unknown device, model, app, task, operator or deployment; a device without a price.

    """
    fleet, homes = _fleet(sheet, setting.fleet)
    decider = compose.decider(compose.weighted(fleet, setting.packs), setting.packs, setting.supplied.books)
    barred: dict[tuple[str, Place], tuple[Reason, ...]] = {}
    for n, demand in enumerate(sheet.demands):
        for deployment, rules in _judge(decider, demand, homes, now_ms).items():
            if rules:
                barred[demand.id, homes[deployment]] = tuple(map(_reason, rules))
        if progress is not None:
            progress(n + 1, len(sheet.demands))
    pools, unfit, capacity, prices = _pools(sheet)
    pools += _elastic(sheet, decider, now_ms)
    sovereignty = _sovereignty(decider, homes)
    problem = Problem(
        pools=tuple(pools),
        traffic=tuple(Traffic(id=one.id, load=one.tokens_s, critical=one.critical) for one in sheet.demands),
        barred={pair: tuple(one.rule for one in reasons) for pair, reasons in barred.items()},
        stocks=tuple(
            Stock(site=one.site, device=find_device(one.device).id, most=one.most) for one in sheet.offers
        ),
        power_kw={site.id: site.power_kw for site in sheet.sites if site.power_kw is not None},
        losses=tuple(_loss(one, pools, fleet, homes) for one in sheet.gone),
        spare=sheet.spare,
        sovereignty=sovereignty,
        sovereign_first=fleet.tenant.objective == "sovereign",
    )
    return Built(problem=problem, barred=barred, unfit=unfit, capacity=capacity, prices=prices)


def _reason(rule: DecidingRule) -> Reason:
    return Reason(rule=rule.id, got=rule.got, required=rule.required, law=rule.law, remedy=rule.remedy)


def _fleet(sheet: Sheet, fleet: Fleet) -> tuple[Fleet, dict[str, Place]]:
    """Return the fleet of all that could be, and which place each of its deployments is."""
    planned: dict[str, Deployment] = {}
    weights: dict[str, Weights] = {}
    homes: dict[str, Place] = {}
    for site in sheet.sites:
        for model in sheet.models:
            name, card = f"{site.id}.{model.id}", find_model(model.model)
            table = Table(_written(name, site.facts, model, card), f"site.{site.id}")
            planned[name] = fleetfile.deployment(table)
            homes[name] = Place(site.id, model.id)
            if model.engine in OWN:
                weights[name] = Weights(
                    weights=f"sha256:{'0' * 64}",
                    maker_jurisdiction=card.maker_jurisdiction or None,
                    verified=True,
                )
    for name in sheet.deployments:
        if name not in fleet.deployments:
            known = ", ".join(sorted(fleet.deployments))
            raise Invalid(f"there is no deployment {name!r}", f"known: {known}", "correct place.deployments")
        planned[name] = fleet.deployments[name]
        homes[name] = Place(name, fleet.deployments[name].model)
        if name in fleet.weights:
            weights[name] = fleet.weights[name]
    for name, one in planned.items():
        if one.operator not in fleet.operators:
            known = ", ".join(sorted(fleet.operators))
            raise Invalid(f"{name!r} names operator {one.operator!r}", f"known: {known}", "correct it")
    return msgspec.structs.replace(fleet, deployments=planned, weights=weights), homes


def _written(name: str, facts: Mapping[str, Any], model: Model, card: ModelCard) -> dict[str, Any]:
    more: dict[str, Any] = {"base_url": NOWHERE} if model.engine not in OWN else {}
    if card.maker_jurisdiction:
        more["maker_jurisdiction"] = card.maker_jurisdiction
    if "context_tokens" not in model.facts and card.context_tokens:
        more["context_tokens"] = card.context_tokens
    return {
        "id": name,
        "engine": model.engine,
        "model": model.model,
        "price": "free",
        "maker": card.maker or model.model,
        **more,
        **facts,
        **model.facts,
    }


def _judge(
    decider: Decider, demand: Demand, homes: Mapping[str, Place], now_ms: int
) -> dict[str, tuple[DecidingRule, ...]]:
    """Decide one traffic as a request of it would be, and return the rules against each deployment."""
    admitted = admit(
        index=Index(decider.fleet, decider.policy.classes),
        app=app_named(decider.fleet, demand.app),
        surface="chat",
        model="auto",
        labels=Labels(
            classes=demand.classes, task=demand.task, purpose=demand.purpose, deadline_ms=demand.deadline_ms
        ),
        needs=("text",),
        sizes=Sizes(body_bytes=0, input_tokens=demand.input_tokens, max_output_tokens=demand.output_tokens),
        stream=False,
        receipt=NO_RECEIPT,
        received_at_ms=now_ms,
    )
    plan = decider.decide(admitted, Health()).plan
    return {one.deployment: one.rules for one in plan.candidates if one.deployment in homes}


def _pools(
    sheet: Sheet,
) -> tuple[list[Pool], dict[str, Reason], dict[str, Capacity], dict[str, str]]:
    pools: list[Pool] = []
    unfit: dict[str, Reason] = {}
    capacity: dict[str, Capacity] = {}
    prices: dict[str, str] = {}
    lengths = _lengths(sheet)
    known: dict[tuple[str, str], Capacity | Reason] = {}
    for offer in sheet.offers:
        device = find_device(offer.device)
        usd_month, prices[f"{offer.site}/{device.id}"] = _usd_month(offer, device)
        for model in sheet.models:
            if (device.id, model.id) not in known:
                known[device.id, model.id] = _capacity(device, model, sheet, lengths)
            found, name = known[device.id, model.id], f"{offer.site}/{device.id}/{model.id}"
            if isinstance(found, Reason):
                unfit[name] = found
                continue
            capacity[name] = found
            kw = offer.kw if offer.kw is not None else (device.allin_w or device.tdp_w or 0.0) / 1000
            pools.append(
                Pool(
                    id=name,
                    place=Place(offer.site, model.id),
                    device=device.id,
                    devices=model.devices,
                    capacity=found.tokens_s,
                    usd_month=usd_month * model.devices,
                    kw=kw * model.devices,
                )
            )
    return pools, unfit, capacity, prices


def _lengths(sheet: Sheet) -> tuple[int, int]:
    """Return the mean tokens in and out of a request, over the requests there are."""
    requests = sum(one.tokens_s / one.output_tokens for one in sheet.demands)
    if requests <= 0:
        return 1000, 300
    read = sum(one.tokens_s / one.output_tokens * one.input_tokens for one in sheet.demands)
    written = sum(one.tokens_s for one in sheet.demands)
    return max(1, round(read / requests)), max(1, round(written / requests))


def _usd_month(offer: Offer, device: Device) -> tuple[float, str]:
    if offer.usd_month is not None:
        return offer.usd_month, "as the offer says"
    known = usd_month(device)
    if known is not None:
        return known
    raise Invalid(
        f"what a {device.name} costs is not known",
        f"offer at site {offer.site!r}",
        "say usd_month in the offer: what one device costs a month, power and space included",
    )


def _capacity(device: Device, model: Model, sheet: Sheet, lengths: tuple[int, int]) -> Capacity | Reason:
    """Return what a replica serves with what memory and speed allow to be held at once, or why nothing."""
    measured = next((v for k, v in model.tokens_s.items() if find_device(k).id == device.id), None)
    if measured is not None:
        if measured <= 0:
            return Reason(rule="speed.floor", got="0 tokens/s", required="above 0")
        return Capacity(tokens_s=measured, concurrent=None, source="as the model's tokens_s says")
    from allod.planner.memory import held  # noqa: PLC0415 (only where nothing was measured)
    from allod.planner.speed.speeds import estimate_speed  # noqa: PLC0415

    card = find_model(model.model)
    best: Capacity | None = None
    reason: Reason | None = None
    verdict = held(device, model.devices, card, model.quant, model.engine, sum(lengths))
    if not verdict.fits:
        return Reason(rule="memory.fit", got=verdict.answer, required="fits, at its upper bound")
    most = min(sheet.most_concurrent, verdict.sequences or 1)
    for concurrent in (n for n in STEPS if n <= most):
        speed = estimate_speed(
            device, model.devices, card, model.quant, model.engine, concurrent, lengths[0], lengths[1]
        )
        slowest = 1000.0 / speed.tpot_ms.high
        if slowest < sheet.min_tokens_s:
            reason = reason or Reason(
                rule="speed.floor",
                got=f"{slowest:.1f} tokens/s to one request, at the low end of its interval",
                required=f"{sheet.min_tokens_s:g} tokens/s",
            )
            break
        low = speed.out_tok_s.low
        if best is None or low > best.tokens_s:
            best = Capacity(
                tokens_s=low, concurrent=concurrent, source=speed.out_tok_s.source, speed=speed.out_tok_s
            )
    return best or reason or Reason(rule="speed.floor", got="nothing", required="some")


def _elastic(sheet: Sheet, decider: Decider, now_ms: int) -> list[Pool]:
    """Return deployments of the configuration as capacity paid for by use, at the prices of the day."""
    out = []
    tariffs = decider.tariffs(now_ms)
    read, written = _lengths(sheet)
    for name in sheet.deployments:
        tariff = tariffs.by_deployment[name]
        if tariff is None:
            continue  # price.unknown bars it everywhere
        request = cost(Usage(input_tokens=read, output_tokens=written), tariff.at(read))
        place = Place(name, decider.fleet.deployments[name].model)
        out.append(Pool(id=name, place=place, usd_token=float(request) / written, elastic=True))
    return out


def _sovereignty(decider: Decider, homes: Mapping[str, Place]) -> dict[Place, float]:
    """Return the score of each place between 0 and 1; unknown is the least, as in routing."""
    from allod.routing.question import sovereignty_of  # noqa: PLC0415 (a name of many here)

    out: dict[Place, float] = {}
    for name, place in homes.items():
        seal = decider.fleet.deployments[name].seal
        score = 0.0 if seal is None else float(sovereignty_of(seal.value, decider.fleet.sovereignty_weights))
        out[place] = max(out.get(place, 0.0), score / HIGHEST)
    return out


def _loss(gone: Gone, pools: list[Pool], fleet: Fleet, homes: Mapping[str, Place]) -> Loss:
    """Return which pools a loss takes: all that any of its names touches; what is not known is taken too."""
    lost = set()
    deployments = {place: fleet.deployments[name] for name, place in homes.items()}
    for pool in pools:
        one = deployments[pool.place]
        operator = fleet.operator_of(one)
        device = find_device(pool.device) if pool.device else None
        seats = {operator.seat.value if operator.seat else None, *_controllers(operator)}
        hit = (
            pool.place.site in gone.sites
            or pool.device in {find_device(name).id for name in gone.devices}
            or pool.place.model in gone.models
            or pool.place.site in gone.deployments
            or one.operator in gone.operators
            or bool(gone.jurisdictions and (None in seats or seats & set(gone.jurisdictions)))
            or _named(gone.makers, one.maker.value if one.maker else None)
            or bool(device is not None and _named(gone.chips, device.vendor))
        )
        if hit:
            lost.add(pool.id)
    return Loss(name=gone.name, pools=frozenset(lost), demand=gone.demand, all_traffic=gone.all_traffic)


def _controllers(operator: Any) -> set[str | None]:
    fact = operator.controlled_from
    return {None} if fact is None else set(fact.value)


def _named(names: tuple[str, ...], value: str | None) -> bool:
    """Tell whether a name is among those lost, whatever its case; an unknown one may be."""
    return bool(names) and (value is None or value.casefold() in {name.casefold() for name in names})


def day_of(now_ms: int) -> str:
    """Return the day of a time, as text."""
    return datetime.fromtimestamp(now_ms / 1000, UTC).date().isoformat()
