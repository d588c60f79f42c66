"""What bundles brought, as the gateway uses it: packs, prices, catalogue, trust; and what the log knows.

A start settles what an import left to be done, reads every file in use by its digest, and holds the supply
against the log: a supply of the past, another one under the same number, or none where the log knows one is
not started with. Nothing here changes while a gateway runs; what was imported meanwhile serves from the next
start on.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Integrity, Invalid, Refused, Unavailable
from allod.gateway.ownpacks import Node, own_folder, own_packs, widening
from allod.gateway.packs import BUNDLE, Found, Packs, find
from allod.policy.pack import BASE
from allod.receipts.ids import new_id
from allod.receipts.leaves import NoticeFacts
from allod.store.home import load_keys
from allod.vault.bundle.supply import Generation, Supply, digest_of
from allod.vault.bundle.verify import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from allod.gateway.config import Config
    from allod.metering.book import Book
    from allod.store.home import Home
    from allod.store.store import Store
    from allod.vault.bundle.content import Catalogue, Told
    from allod.vault.bundle.importing import Imported
    from allod.vault.bundle.importing import Packs as Arrived
    from allod.vault.vault import Vault

SUBJECT: Final = "supply"
_CHANCE_BYTES: Final = 10


class Supplied(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of a supply that serves; empty where nothing was imported.

    Attributes:
        generation: what it is, for status and log.
        packs: in place of shipped ones of the same id.
        books: price books, laid over the shipped one by day.
        books_from: the digest of the bundle each of them came with.
        catalogue: what is said of models, by name, for whoever lists them.
        facts: catalogues with facts for plans, each with its digest and the digest of its bundle.
        roots: (item/file, bytes) of trust roots.

    """

    generation: Generation | None = None
    packs: tuple[Found, ...] = ()
    books: tuple[Book, ...] = ()
    books_from: tuple[str, ...] = ()
    catalogue: dict[str, Told] = {}
    facts: tuple[tuple[Catalogue, str, str], ...] = ()
    roots: tuple[tuple[str, bytes], ...] = ()


NOTHING: Final = Supplied()


class Carried(Node):
    """The folder of a pack that a bundle brought: its files were read and checked, and are in memory."""

    def __init__(self, path: Path, files: dict[str, bytes]) -> None:
        super().__init__(path)
        self.__dict__["files"] = files


def settle(home: Home, vault: Vault) -> None:
    """Finish what an import left to be done (``switch.settle``); costs a look where there is nothing.

    Raises:
        Integrity: supply, register or keys are not what they were. Unavailable: the disk fails.

    """
    from allod.vault.bundle import switch  # noqa: PLC0415 (only where something was imported)

    if (home.root / "supply" / "current").exists():
        switch.settle(Supply(home.root), vault, load_keys(home).signer)


def supplied(home: Home) -> Supplied:
    """Read what serves, every file that a gateway uses by its digest.

    Raises:
        Integrity: a file of the supply is absent, altered or of another time.

    """
    held = Supply(home.root)
    if not held.root.exists():
        return NOTHING
    found = held.serving()
    if found is None:
        return NOTHING
    from allod.vault.bundle import content, switch  # noqa: PLC0415

    switch.models(held, found.items)
    switch.revoked(held, found.items)
    at_ms = _far(found)
    books: list[tuple[Book, str]] = []
    told: dict[str, Told] = {}
    facts: list[tuple[Catalogue, str, str]] = []
    roots: list[tuple[str, bytes]] = []
    for item in found.items:
        if item.kind == "prices":
            read = (content.prices(item.name, held.read(file), at_ms) for file in item.files)
            books += [(book, item.origin.digest) for book in read]
        elif item.kind == "catalogue":
            for file in item.files:
                brought = content.catalogue(item.name, held.read(file), at_ms)
                told |= brought.models
                facts += [(brought, file.digest, item.origin.digest)] if brought.plans else []
        elif item.kind == "trust":
            roots += [(f"{item.name}/{path}", raw) for path, raw in held.files(item).items()]
    return Supplied(
        generation=found,
        packs=tuple(_packs(held, found)),
        books=tuple(book for book, _ in books),
        books_from=tuple(bundle for _, bundle in books),
        catalogue=told,
        facts=tuple(facts),
        roots=tuple(roots),
    )


def packs(home: Home) -> tuple[Found, ...]:
    """Read the packs that bundles brought (raises ``Integrity``)."""
    held = Supply(home.root)
    found = held.serving() if held.root.exists() else None
    return () if found is None else tuple(_packs(held, found))


def _packs(held: Supply, found: Generation) -> Iterator[Found]:
    from allod.vault.bundle.content import FOLDER  # noqa: PLC0415

    for item in found.items:
        if item.kind == "pack":
            folder = Path(f"supply/{item.name}-{item.version}")
            yield Found(id=item.name, origin=BUNDLE, folder=Carried(folder, held.files(item, FOLDER)))


def _far(found: Generation) -> int:
    """Return the time of the import: what was not to come then is not to come now, whatever clocks say."""
    from allod.vault.bundle.form import time_of  # noqa: PLC0415

    return max(time_of(found.at), found.known.seen_ms)


# -- the log


def advance(store: Store, logged: str, home: Home, tenant: str, now_ms: int) -> str:
    """Hold the supply against what the log says, and log every switch that is not in it yet.

    Args:
        store: open, of this home.
        logged: ``<serial> <digest>`` of the newest switch in the log, or empty.
        home: whose supply it is; tenant: the tenant's pseudonym.
        now_ms: UTC milliseconds.

    Returns:
        What the log says then.

    Raises:
        Integrity: the supply is older than the log knows, or another.

    """
    from allod.vault.bundle import switch  # noqa: PLC0415

    held = Supply(home.root)
    found = held.serving() if held.root.exists() else None
    serial, _, digest = logged.partition(" ")
    known = int(serial) if serial.isdigit() else 0
    if (0 if found is None else found.serial) < known:
        raise Integrity(
            "the log knows an import that supply/ does not have",
            f"got {'nothing' if found is None else f'switch {found.serial}'}, the log says {known} {digest}",
            "restore supply/ from the newest backup of this home",
        )
    fresh: list[Generation] = []
    for one in switch.history(held, found):
        if one.serial > known:
            fresh.append(one)
            continue
        if one.serial == known and one.digest != digest:
            raise Integrity(
                f"switch {known} of supply/ is another than the log knows",
                f"got {one.digest}, the log says {digest}",
                "restore supply/ from the newest backup of this home",
            )
        break
    for one in reversed(fresh):
        store.append_notice(_notice(store, held, one, tenant, now_ms))
        logged = f"{one.serial} {one.digest}"
    return logged


def _notice(store: Store, held: Supply, one: Generation, tenant: str, now_ms: int) -> NoticeFacts:
    facts = {"switch": f"{one.serial} {one.digest}", "cause": one.cause, "trust": one.trust}
    if one.bundle is not None:
        facts |= {
            "bundle": one.bundle.digest,
            "channel": one.bundle.channel,
            "number": str(one.bundle.number),
            "source": one.bundle.source,
            "signers": ", ".join(one.signers),
            "stale": one.stale,
        }
        path = held.receipt_path(one.serial)
        facts["receipt"] = digest_of(path.read_bytes()) if path.exists() else ""
    else:
        facts["returned"] = str(one.returned)
    chance = bytes.fromhex(one.digest.removeprefix("sha256:"))[:_CHANCE_BYTES]
    return NoticeFacts(
        id=new_id(store.keys.origin, now_ms, chance),
        at_ms=now_ms,
        tenant=tenant,
        subject=SUBJECT,
        detail=f"imported at {one.at}" if one.cause == "import" else f"returned at {one.at}",
        facts={name: value for name, value in facts.items() if value},
    )


# -- what may come into force


class Judge:
    """Says of a bundle's packs, before anything of it serves, whether this home could start with them.

    And of its facts for plans, whether a plan could be made with them.

    A pack that is in force here and may allow more than the version before it needs two signers of the
    bundle, as a pack of the home needs two signatures; a first version, which only forbids, needs one.
    """

    def __init__(self, home: Home, config: Config | None, day: date) -> None:
        self._home, self._config, self._day = home, config, day

    def __call__(self, arrived: Arrived) -> tuple[Step, ...]:
        """Return what was found.

        Raises:
            Invalid: the home has a pack of its own of this id, or configuration and packs do not fit.
            Refused: a pack widens and one signer signed.
            Integrity: facts of a catalogue describe no device or model that can be planned with.

        """
        return (*self._packs(arrived), *self._facts(arrived))

    def _facts(self, arrived: Arrived) -> tuple[Step, ...]:
        from allod.gateway import planfacts  # noqa: PLC0415 (only where there are facts)

        for name, brought in arrived.catalogues:
            planfacts.readable(name, brought)
        return tuple(_said(f"facts of {name}", planfacts.counted(one)) for name, one in arrived.catalogues)

    def _packs(self, arrived: Arrived) -> tuple[Step, ...]:
        if not arrived.packs:
            return ()
        before = find(*packs(self._home), *own_packs(own_folder(self._home)))
        self._free(before, arrived)
        if self._config is None:
            return (_said("packs", "not held against a configuration: there is none yet"),)
        return self._in_force(before, arrived, self._config)

    def _free(self, before: Packs, arrived: Arrived) -> None:
        for pack in arrived.packs:
            there = before.found.get(pack.id)
            if there is not None and there.origin not in {BUNDLE, "shipped"}:
                raise Invalid(
                    f"pack {pack.id!r} cannot come by bundle here",
                    f"the home has its own: {there.origin}",
                    "remove it, or have the bundle's renamed",
                    kind="conflict",
                )

    def _in_force(self, before: Packs, arrived: Arrived, config: Config) -> tuple[Step, ...]:
        from allod.gateway import compose  # noqa: PLC0415 (it reads this module)
        from allod.policy.policy import Policy  # noqa: PLC0415

        tenant = config.fleet.tenant
        after = {pack.id: pack for pack in arrived.packs}
        names = [name for name in (*tenant.packs, *tenant.shadow) if name in after]
        law = tuple(after.get(name) or before.load(name) for name in dict.fromkeys((BASE, *tenant.packs))
                    if name in after or name in before.found)  # fmt: skip
        Policy(law, compose.weighted(config.fleet, before))
        steps = []
        for name in names:
            was = before.load(name) if name in before.found else None
            why = widening(was, after[name], law, self._day)
            if why is not None and len(set(arrived.signers)) < 2:  # noqa: PLR2004 (two people)
                raise Refused(
                    f"pack {name!r} of this bundle may allow more than the version in force",
                    f"{why}; signed by {', '.join(arrived.signers)}",
                    "have a second trusted signer sign the bundle",
                )
            steps.append(_said(f"pack {name}", why or "nothing widens"))
        if names and tenant.four_eyes:
            steps.append(
                _said(
                    "four eyes",
                    f"propose and approve {', '.join(names)} before the next start, or it is refused",
                )
            )
        return tuple(steps)


def _said(name: str, detail: str) -> Step:
    return Step(n=0, name=name, ok=True, detail=detail)


def sealed(home: Home, what: str) -> None:
    """Refuse what would bring something into an air-gapped home by another door than a bundle.

    ``what`` names it. A home without a configuration is not air-gapped; one whose configuration cannot be
    read brings nothing in.

    Raises:
        Refused: kind ``air_gap``. Invalid, Unavailable: the configuration.

    """
    from allod.gateway import compose  # noqa: PLC0415 (it reads this module)

    if home.config.exists() and compose.read_config(home.config).fleet.tenant.air_gapped:
        raise Refused(
            f"{what} is refused in air-gap mode",
            "the tenant is air_gapped: models, packs and prices enter by signed bundle only",
            "bring a bundle: `allod bundle import PATH`",
            kind="air_gap",
        )


# -- commands


def config_of(home: Home) -> Config | None:
    """Read the home's configuration, None where there is none yet (raises as ``compose.read_config``)."""
    from allod.gateway import compose  # noqa: PLC0415 (it reads this module)

    return compose.read_config(home.config) if home.config.exists() else None


def log_now(home: Home, config: Config | None, now_ms: int) -> bool:
    """Log what was switched, if nobody else writes the log; the next start does it otherwise.

    Returns whether the log says it now.

    Raises:
        Integrity: the supply is not what the log knows, or the log itself is damaged.
        Unavailable: the disk, or the clock went back.

    """
    from allod.gateway.standing import newest  # noqa: PLC0415 (it reads this module)
    from allod.receipts.commitment import pseudonym  # noqa: PLC0415
    from allod.store.store import Store  # noqa: PLC0415

    if config is None:
        return False
    try:
        store = Store.open(home)
    except Unavailable as error:
        if error.kind == "busy":
            return False
        raise
    try:
        tenant = pseudonym(store.keys.secret, "tenant", config.fleet.tenant.id)
        advance(store, newest(store).supply, home, tenant, now_ms)
        store.flush()
    finally:
        store.close()
    return True


def bring(
    home: Home,
    source: Path,
    *,
    now_ms: int,
    version: str,
    progress: Callable[[int], Callable[[int], None]] = lambda _: lambda _: None,
) -> tuple[Imported, bool]:
    """Import a bundle into a home, and log it where the log is free.

    Returns what the import did, and whether the log says it.

    Raises:
        AllodError: as ``Import.run``, ``Judge`` and ``log_now``.

    """
    from allod.vault.bundle.importing import Import  # noqa: PLC0415
    from allod.vault.vault import Vault  # noqa: PLC0415

    config = config_of(home)
    vault = Vault(home.vault)
    log_now(home, config, now_ms)
    done = Import(
        home,
        vault,
        schema=find().load(BASE).schema,
        now_ms=now_ms,
        version=version,
        judge=Judge(home, config, _day(now_ms)),
        progress=progress,
    ).run(source)
    return done, log_now(home, config, now_ms)


def go_back(home: Home, now_ms: int) -> tuple[Generation, bool]:
    """Return to what served before the newest import (``switch.rollback``), and log it where the log is free.

    Raises:
        Refused: a pack would come back that may allow more, and one signer signed for it.
        AllodError: as ``switch.rollback`` and ``log_now``.

    """
    from allod.vault.bundle import switch  # noqa: PLC0415
    from allod.vault.vault import Vault  # noqa: PLC0415

    held, vault, config = Supply(home.root), Vault(home.vault), config_of(home)
    log_now(home, config, now_ms)
    with switch.importing(held):
        now = switch.settle(held, vault, load_keys(home).signer)
        target = switch.earlier(held, now)
        for arrived in _returning(held, now, target):
            Judge(home, config, _day(now_ms))(arrived)
        switch.rollback(held, now_ms)
        found = switch.settle(held, vault, load_keys(home).signer)
    assert found is not None
    return found, log_now(home, config, now_ms)


def _returning(held: Supply, now: Generation | None, target: Generation | None) -> Iterator[Arrived]:
    """Name the packs that a return would change, each with who signed the bundle it came by."""
    from allod.vault.bundle import content, switch  # noqa: PLC0415
    from allod.vault.bundle.importing import Packs as Brought  # noqa: PLC0415

    if now is None or target is None:
        return
    signers = {one.bundle.digest: one.signers for one in switch.history(held, now) if one.bundle is not None}
    schema = find().load(BASE).schema
    for item in target.items:
        if item.kind == "pack" and item not in now.items:
            pack = content.pack(item.name, item.version, held.files(item), schema)
            yield Brought(packs=(pack,), signers=signers.get(item.origin.digest, ()))


def _day(now_ms: int) -> date:
    return datetime.fromtimestamp(now_ms // 1000, UTC).date()
