"""From a setting to a running application, and back: opened once, closed in order."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from allod.domain.money import rfc3339
from allod.engines.contract import EngineFault
from allod.engines.outbox import Outbox
from allod.gateway import capabilities, changes, compose, declassifying, speculating
from allod.gateway.app import Application
from allod.gateway.catalogue import Catalogue
from allod.gateway.deferring import queued
from allod.gateway.drifting import watched
from allod.gateway.estimates.planning import estimated
from allod.gateway.gateway import LOG, Gateway
from allod.gateway.preparing import Preparation
from allod.gateway.promise.promises import promised
from allod.gateway.retention import judged
from allod.gateway.standing import begin
from allod.gateway.surfaces.openapi import document
from allod.gateway.witnessing import witnessed
from allod.receipts.commitment import digest, pseudonym
from allod.receipts.pruning import policy_leaf
from allod.store.store import Store
from allod.store.writer import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from allod.engines.contract import Engine
    from allod.gateway.compose import Setting
    from allod.gateway.config import LogSettings
    from allod.gateway.deferring import Queue
    from allod.vault.vault import Vault
    from allod.walls.network import Wall

    Running = AsyncGenerator[tuple[Application, list[str]], None]


@contextlib.asynccontextmanager
async def opened(setting: Setting, wall: Wall | None = None) -> Running:
    """Open the store, start the engines, and close both when it is over.

    Yields the application and notices for the person who started it; ``wall`` is the kernel's, for the log.

    Raises:
        AllodError: what makes a start impossible: a damaged home, a busy log, an unknown engine or pack.

    """
    fleet, today = setting.fleet, datetime.now(UTC).date()
    decider = compose.decider(fleet, setting.packs, setting.supplied.books)
    judged(setting.config.log.retention, decider.policy.packs)
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
        tenant = pseudonym(secret, "tenant", fleet.tenant.id)
        witnesses = await beside.enter_async_context(
            witnessed(store, log, compose.addresses(setting).allow, tenant)
        )
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
        watching = await beside.enter_async_context(watched(gateway, setting.home))
        said = {**await asyncio.to_thread(_stand, gateway, setting, approved), **_ground(setting, wall)}
        _record_start(gateway, said, declassified, setting.proven.notice())
        loading = [asyncio.create_task(_load(name, engine)) for name, engine in engines.items()]
        try:
            catalogue = Catalogue(fleet, gateway.now_ms() // 1000, setting.supplied.catalogue)
            async with _routing(gateway, setting) as (queue, told):
                application = Application(gateway, catalogue, msgspec.json.encode(document()), queue)
                yield application, [*_notices(setting, gateway), *told, *watching, *witnesses]
        finally:
            for task in loading:
                task.cancel()
            await asyncio.gather(*loading, return_exceptions=True)
            await asyncio.gather(*(engine.close() for engine in engines.values()), return_exceptions=True)
    finally:
        await beside.aclose()
        await asyncio.to_thread(store.close)


@contextlib.asynccontextmanager
async def _routing(
    gateway: Gateway, setting: Setting
) -> AsyncGenerator[tuple[Queue | None, list[str]], None]:
    """Run what routes besides the plan: estimates, promises, and the queue of what may wait."""
    async with (
        estimated(gateway, setting) as estimates,
        promised(gateway, setting.home) as closed,
        queued(gateway) as queue,
    ):
        yield queue, [*closed, *estimates]


def _stand(gateway: Gateway, setting: Setting, approved: tuple[changes.Change, ...]) -> dict[str, str]:
    """Keep the configuration decisions name, and bring the log forward to what stands now."""
    store, decider = gateway.store, gateway.decider
    store.database.keep_configuration(decider.snapshot.digest, decider.snapshot.body)
    packs = decider.policy.packs
    return begin(store, setting, packs, approved, gateway.tenant_pseudonym, gateway.now_ms()).facts()


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
    gateway: Gateway,
    said: dict[str, str],
    declassified: tuple[declassifying.Standing, ...],
    proven: dict[str, str],
) -> None:
    """Log that the gateway starts, with which law and fleet, each demand waived and each declassification.

    ``proven`` says which evaluations and published scores are in force.
    """
    now = gateway.now_ms()

    def note(subject: str, facts: dict[str, str], detail: str = "") -> None:
        gateway.notice(subject, facts, detail, now)

    packs, fleet = gateway.decider.policy.digests(gateway.decider.day(now))
    configuration = gateway.decider.snapshot.digest
    said = {**_witnesses(gateway.config.log), **said}
    note("start", {"packs": packs, "fleet": fleet, "configuration": configuration, **said})
    pruning = gateway.config.log.retention.policy(gateway.store.keys.origin)
    if pruning is not None:
        name = gateway.fresh_receipt(now)
        leaf = policy_leaf(pruning, id=name, at_ms=now, tenant=gateway.tenant_pseudonym)
        gateway.store.append_notice(leaf)
    if proven:
        note(capabilities.SUBJECT, proven)
    for waived in gateway.fleet.tenant.relax:
        note("relaxation", {"rule": waived.rule, "signer": waived.signer, "fleet": fleet}, waived.reason)
    for one in declassified:
        what = one.said
        facts = {"app": what.app, "types": ", ".join(what.types), "until": f"{what.until}", "id": what.id}
        signed = ", ".join(s.who for s in one.signatures)
        note("declassification", {**facts, "signed": signed}, what.reason)


def _ground(setting: Setting, wall: Wall | None) -> dict[str, str]:
    """Return what a start stands on: the vault's state, and under the air gap who asked for it."""
    gap = {"air_gap": setting.gap, "wall": "none" if wall is None else wall.name} if setting.gap else {}
    now = int(datetime.now(UTC).timestamp() * 1000)
    return {**gap, **_vault(setting.vault), **speculating.noted(setting.home, setting.fleet, now)}


def _vault(vault: Vault) -> dict[str, str]:
    """Say which state of the vault is served: an older copy of a whole home shows by it."""
    state = vault.register.read()
    return {} if state.note is None else {"vault_version": f"{state.version}", "vault_note": state.note}


def _witnesses(log: LogSettings) -> dict[str, str]:
    """Say who is asked to cosign: taking a witness out of the configuration shows in the log."""
    if not log.witnesses:
        return {}
    names = digest("\n".join(sorted(one.key.vkey() for one in log.witnesses)).encode())
    return {"witnesses": f"{len(log.witnesses)}", "witness_keys": names, "quorum": f"{log.quorum}"}


def _notices(setting: Setting, gateway: Gateway) -> list[str]:
    out = [f"{name}: {why}" for name, why in setting.trouble.items()]
    out += [f"{name} cannot serve: {why}" for name, why in gateway.health().unready.items()]
    out += [
        f"{line.source} does not count for {line.deployment}: {line.why}" for line in setting.proven.ignored
    ]
    drafts = speculating.checked(setting, gateway.now_ms())
    out += [f"{one.told()}; {one.remedy}" for one in drafts if not one.used]
    out += [f"{w.rule} is waived by {w.signer}: {w.reason}" for w in setting.fleet.tenant.relax]
    if setting.supplied.generation is not None:
        out += filter(None, (setting.supplied.generation.old(rfc3339(gateway.now_ms())),))
    if setting.fleet.tenant.shadow:
        out.append(f"in shadow, not deciding: {', '.join(setting.fleet.tenant.shadow)}")
    abouts = {name: engine.describe() for name, engine in gateway.engines.items()}
    out += [f"{n}: {about.notice}" for n, about in abouts.items() if about.evidence == "simulated"]
    return list(dict.fromkeys(out))
