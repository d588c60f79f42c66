"""The composition root: reads the home, builds the object graph, and nothing else does."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from allod.domain.errors import AllodError, Invalid, Unavailable
from allod.domain.fleet import EMBEDDED, SEAL_WEIGHTS, Fleet, Weights
from allod.engines.contract import EngineContext
from allod.engines.outbox import Outbox
from allod.engines.registry import drivers, make_engine
from allod.gateway import capabilities, speculating, supply
from allod.gateway import config as configuration
from allod.gateway.addresses import Addresses
from allod.gateway.checks.files import with_files
from allod.gateway.decide import Decider
from allod.gateway.ownpacks import OwnPack, own_folder, own_packs, verify_own
from allod.gateway.packs import Packs, find
from allod.gateway.placing import settle
from allod.gateway.shadow import Shadow
from allod.metering.book import Book
from allod.policy.pack import unknown_name
from allod.policy.policy import Policy
from allod.store.home import Home, load_keys, make_home
from allod.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allod.engines.contract import Engine
    from allod.gateway.config import Config

_CONFIG_LIMIT_BYTES: Final = 8 << 20


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What is known before anything runs: the home, the configuration, and what the vault says of it.

    ``trouble`` names, per embedded deployment, why its weights are not verified; ``own`` are the home's own
    packs in force or in shadow, with who signed for them; ``supplied`` is what bundles brought. ``gap`` is
    what asked for the air gap: the configuration, the command (``--air-gap``), or nothing. ``proven`` are the
    evaluations and published scores in force; the fleet carries what counts of them.
    """

    home: Home
    config: Config
    fleet: Fleet
    vault: Vault
    trouble: dict[str, str]
    packs: Packs
    own: tuple[OwnPack, ...] = ()
    gap: Literal["configuration", "command", ""] = ""
    supplied: supply.Supplied = supply.NOTHING
    proven: capabilities.InForce = capabilities.InForce()


def home_root(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the state folder: ``ALLOD_HOME``, else ``~/.allod``."""
    named = environ.get("ALLOD_HOME")
    return Path(named).expanduser() if named else Path.home() / ".allod"


def read_config(path: Path, packs: Packs | None = None) -> Config:
    """Read and parse the configuration; the packs there are say which data classes there are.

    Raises:
        Unavailable: there is none. Invalid: see ``config.parse``.

    """
    try:
        with path.open("rb") as file:
            raw = file.read(_CONFIG_LIMIT_BYTES + 1)
    except FileNotFoundError as error:
        raise Unavailable(
            f"there is no configuration at {path}",
            "ALLOD_HOME or --config names another place, or none was written yet",
            "write one, or make a home with `allod init`",
            kind="down",
        ) from error
    if len(raw) > _CONFIG_LIMIT_BYTES:
        raise Invalid(f"{path} is too large", f"at most {_CONFIG_LIMIT_BYTES} bytes are read")
    try:
        read = configuration.parse(raw.decode(), (packs or available(Home(path.parent))).classes)
    except UnicodeDecodeError as error:
        raise Invalid(f"{path} is not UTF-8", str(error), "save it as UTF-8") from error
    fleet, texts = with_files(read.fleet, path.parent)
    return msgspec.structs.replace(read, fleet=fleet, check_files=texts)


def available(home: Home) -> Packs:
    """Find every pack there is: shipped, installed, by bundle, and in ``packs/`` (these not verified yet).

    Raises:
        Integrity: what bundles brought is not what was imported.

    """
    return find(*supply.packs(home), *own_packs(own_folder(home)))


def setting(config_path: Path | None = None, *, air_gap: bool = False) -> Setting:
    """Read configuration and vault; makes what is missing of the home (folders, keys).

    An approved change, and an import, that a crash kept from its end is finished first. With ``air_gap`` the
    tenant is air-gapped whatever the configuration says: it only tightens.

    Raises:
        Integrity: a pack of the home that is in force or in shadow is not signed as it must be, or what
            bundles brought is not what was imported, or evaluations in use are damaged (``capabilities``).
        Unavailable, Invalid: see ``read_config`` and ``make_home``.

    """
    home = Home(home_root())
    settle(home)
    vault = Vault(home.vault)
    supply.settle(home, vault)
    packs = available(home)
    config = read_config(config_path or home.config, packs)
    names = (*config.fleet.tenant.packs, *config.fleet.tenant.shadow)
    today = datetime.now(UTC).date()
    own = verify_own(packs, names, config.signers, today)
    make_home(home.root)
    written = config.fleet.tenant.air_gapped
    fleet, trouble = weigh(gapped(config.fleet) if air_gap else config.fleet, vault)
    proven = capabilities.standing(home, fleet, config.evaluation.max_age_days, today)
    return Setting(
        home=home,
        config=config,
        fleet=capabilities.measured(weighted(fleet, packs), proven),
        vault=vault,
        trouble=trouble,
        packs=packs,
        own=own,
        supplied=supply.supplied(home),
        gap="configuration" if written else "command" if air_gap else "",
        proven=proven,
    )


def gapped(fleet: Fleet) -> Fleet:
    """Return a fleet whose tenant is air-gapped."""
    return msgspec.structs.replace(fleet, tenant=msgspec.structs.replace(fleet.tenant, air_gapped=True))


def weighted(fleet: Fleet, packs: Packs) -> Fleet:
    """Give a fleet the weights of sovereignty that its first pack with such brings."""
    for pack in packs.some(fleet.tenant.packs):
        if pack.weighting is not None and pack.id in fleet.tenant.packs:
            return msgspec.structs.replace(fleet, sovereignty_weights=pack.weighting.percent)
    return fleet


def weigh(fleet: Fleet, vault: Vault) -> tuple[Fleet, dict[str, str]]:
    """Add to a fleet what the vault verified; what it cannot verify stays unverified, with the reason."""
    weights: dict[str, Weights] = {}
    trouble: dict[str, str] = {}
    for deployment in fleet.deployments.values():
        if deployment.engine not in EMBEDDED:
            continue
        try:
            weights[deployment.id] = vault.resolve(deployment.model, deployment.adapter).facts
        except AllodError as error:
            trouble[deployment.id] = f"{error.what}: {error.why}" if error.why else error.what
    return msgspec.structs.replace(fleet, weights=weights), trouble


def book_for(fleet: Fleet, brought: tuple[Book, ...] = ()) -> Book | None:
    """Load the shipped price book if a deployment names one, those that bundles brought laid over it."""
    if not any(d.price is not None and d.price.book for d in fleet.deployments.values()):
        return None
    shipped = Book.parse(resources.files("allod.metering").joinpath("prices.json").read_bytes())
    return Book.over((*brought, shipped))


def decider(fleet: Fleet, packs: Packs | None = None, books: tuple[Book, ...] = ()) -> Decider:
    """Build law and planning over a fleet; of the packs there are, those in force and in shadow are loaded.

    Raises:
        Invalid: see ``Policy``, or a pack in shadow is not there.

    """
    packs = packs or find()
    law = Policy(packs.some(fleet.tenant.packs), fleet)
    return Decider(law, fleet, book_for(fleet, books), shadow_of(fleet, packs))


def under(fleet: Fleet, names: tuple[str, ...], packs: Packs) -> Fleet:
    """Return a fleet as it would be with these packs in force."""
    tenant = msgspec.structs.replace(fleet.tenant, packs=tuple(dict.fromkeys(names)))
    return weighted(msgspec.structs.replace(fleet, tenant=tenant, sovereignty_weights=SEAL_WEIGHTS), packs)


def shadow_of(fleet: Fleet, packs: Packs) -> Shadow | None:
    """Build what ``tenant.shadow`` names over a fleet; a shadow that cannot be built says why in each record.

    Raises:
        Invalid: a pack in shadow is not there.

    """
    names = fleet.tenant.shadow
    for name in names:
        if name not in packs.found:
            raise unknown_name("tenant.shadow names pack", name, packs.found)
    if not names:
        return None
    try:
        beside = under(fleet, (*fleet.tenant.packs, *names), packs)
        return Shadow(names, Policy(packs.some(beside.tenant.packs), beside))
    except Exception as fault:  # noqa: BLE001 (a shadow must not keep the law from being applied)
        return Shadow(names, fault)


def engines(
    s: Setting, environ: Mapping[str, str] = os.environ, *, outbox: Outbox | None = None
) -> dict[str, Engine]:
    """Make a driver per deployment; one that cannot serve says why instead of failing the start.

    What they send leaves by ``outbox``, if there is one.

    Raises:
        Invalid: an engine nobody registered. Unavailable: a driver's package is not installed.

    """
    given, found = context(s, environ, outbox=outbox), drivers()
    return {d.id: make_engine(d, given, found=found) for d in s.fleet.deployments.values()}


def context(
    s: Setting, environ: Mapping[str, str] = os.environ, *, outbox: Outbox | None = None
) -> EngineContext:
    """Return what drivers are given; drafts are those a measurement speaks for (``speculating``)."""
    return EngineContext(
        environ=dict(environ),
        allow_address=addresses(s).allow,
        state_dir=str(s.home.root.absolute()),
        vault=s.vault,
        air_gapped=s.fleet.tenant.air_gapped,
        weights=s.fleet.weights,
        drafts=speculating.drafts(s.home, s.fleet, time.time_ns() // 1_000_000),
        outbox=outbox,
    )


def addresses(s: Setting) -> Addresses:
    """Return the rule every connection outwards is asked about (I6)."""
    return Addresses(s.fleet.tenant.air_gapped, s.config.allowed_addresses)


def pseudonym_secret(home: Home) -> bytes:
    """Return the secret behind pseudonyms."""
    return load_keys(home).secret
