"""From a setting to a running application, and back: opened once, closed in order."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from allod.engines.contract import EngineFault
from allod.engines.outbox import Outbox
from allod.gateway import changes, compose, declassifying
from allod.gateway.app import Application
from allod.gateway.catalogue import Catalogue
from allod.gateway.gateway import LOG, Gateway
from allod.gateway.preparing import Preparation
from allod.gateway.standing import Standing, begin
from allod.gateway.surfaces.openapi import document
from allod.gateway.witnessing import witnessed
from allod.receipts.leaves import NoticeFacts
from allod.store.store import Store
from allod.store.writer import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from allod.engines.contract import Engine
    from allod.gateway.compose import Setting


@contextlib.asynccontextmanager
async def opened(setting: Setting) -> AsyncGenerator[tuple[Application, list[str]], None]:
    """Open the store, start the engines, and close both when it is over.

    Yields the application and notices for the person who started it.

    Raises:
        AllodError: what makes a start impossible: a damaged home, a busy log, an unknown engine or pack.

    """
    fleet, today = setting.fleet, datetime.now(UTC).date()
    decider = compose.decider(fleet, setting.packs)
    approved = changes.enforce(setting, decider.policy, today)
    secret = compose.pseudonym_secret(setting.home)
    declassified = declassifying.load(
        setting.home, setting.config.signers, today, four_eyes=fleet.tenant.four_eyes
    )
    preparation = Preparation(
        fleet, decider.policy.classes, setting.config.detect, declassified, secret, Gateway.defect
    )
    log = setting.config.log
    pace = Settings(gather_s=log.batch_ms / 1000, clock_back_ms=1000 * log.clock_back_s)
    store = await asyncio.to_thread(Store.open, setting.home, settings=pace)
    beside = contextlib.AsyncExitStack()
    try:
        witnesses = await beside.enter_async_context(witnessed(store, log, compose.addresses(setting).allow))
        outbox = Outbox()
        engines = compose.engines(setting, outbox=outbox)
        gateway = Gateway(
            config=setting.config,
            fleet=fleet,
            decider=decider,
            store=store,
            engines=engines,
            secret=secret,
            preparation=preparation,
            outbox=outbox,
        )
        kept = decider.snapshot
        await asyncio.to_thread(store.database.keep_configuration, kept.digest, kept.body)
        standing = await asyncio.to_thread(
            begin, store, setting, decider.policy.packs, approved, gateway.tenant_pseudonym, gateway.now_ms()
        )
        _record_start(gateway, standing, declassified)
        loading = [asyncio.create_task(_load(name, engine)) for name, engine in engines.items()]
        try:
            catalogue = Catalogue(fleet, gateway.now_ms() // 1000)
            application = Application(gateway, catalogue, msgspec.json.encode(document()))
            yield application, [*_notices(setting, gateway), *witnesses]
        finally:
            for task in loading:
                task.cancel()
            await asyncio.gather(*loading, return_exceptions=True)
            await asyncio.gather(*(engine.close() for engine in engines.values()), return_exceptions=True)
    finally:
        await beside.aclose()
        await asyncio.to_thread(store.close)


async def _load(name: str, engine: Engine) -> None:
    """Let an engine that loads something begin now rather than at the first request; a failure is told."""
    start = getattr(engine, "start", None)
    if start is None:
        return
    try:
        await start()
    except EngineFault as fault:
        LOG.error("%s cannot serve: %s", name, fault.detail)


def _record_start(
    gateway: Gateway, standing: Standing, declassified: tuple[declassifying.Standing, ...]
) -> None:
    """Log that the gateway starts, with which law and fleet, each demand waived and each declassification."""
    now = gateway.now_ms()

    def note(subject: str, facts: dict[str, str], detail: str = "") -> None:
        gateway.store.append_notice(
            NoticeFacts(
                id=gateway.fresh_receipt(now),
                at_ms=now,
                tenant=gateway.tenant_pseudonym,
                subject=subject,
                detail=detail,
                facts=facts,
            )
        )

    packs, fleet = gateway.decider.policy.digests(gateway.decider.day(now))
    configuration = gateway.decider.snapshot.digest
    note("start", {"packs": packs, "fleet": fleet, "configuration": configuration, **standing.facts()})
    for waived in gateway.fleet.tenant.relax:
        note("relaxation", {"rule": waived.rule, "signer": waived.signer, "fleet": fleet}, waived.reason)
    for one in declassified:
        said = one.said
        facts = {"app": said.app, "types": ", ".join(said.types), "until": f"{said.until}", "id": said.id}
        signed = ", ".join(s.who for s in one.signatures)
        note("declassification", {**facts, "signed": signed}, said.reason)


def _notices(setting: Setting, gateway: Gateway) -> list[str]:
    out = [f"{name}: {why}" for name, why in setting.trouble.items()]
    out += [f"{name} cannot serve: {why}" for name, why in gateway.health().unready.items()]
    out += [f"{w.rule} is waived by {w.signer}: {w.reason}" for w in setting.fleet.tenant.relax]
    if setting.fleet.tenant.shadow:
        out.append(f"in shadow, not deciding: {', '.join(setting.fleet.tenant.shadow)}")
    abouts = {name: engine.describe() for name, engine in gateway.engines.items()}
    out += [f"{n}: {about.notice}" for n, about in abouts.items() if about.evidence == "simulated"]
    return list(dict.fromkeys(out))
