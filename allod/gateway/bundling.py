"""What a home puts into a bundle: models, packs, lists and files, checked as an importer will check them."""

from __future__ import annotations

import json
import os
import tomllib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.gateway import ownpacks, packs, planfacts
from allod.receipts.commitment import pseudonym
from allod.receipts.ids import new_id
from allod.receipts.leaves import NoticeFacts
from allod.store.home import Lock, load_keys
from allod.store.store import Store
from allod.vault.blobs import open_regular
from allod.vault.bundle import content, logproof, pieces
from allod.vault.bundle.create import Log
from allod.vault.formats import whole

if TYPE_CHECKING:
    from collections.abc import Iterable

    from allod.store.home import Home
    from allod.vault.bundle.logproof import LogProof
    from allod.vault.bundle.pieces import Content
    from allod.vault.vault import Vault

SHIPPED: Final = "shipped"
OF_VAULT: Final = "vault"
MAX_FILE_BYTES: Final = 64 * 1024 * 1024


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for.

    Attributes:
        models: names or digests in the vault.
        packs: ids of the home's own or shipped packs, or folders.
        prices: a file, or ``shipped``.
        catalogue: a file.
        trust: files of certificates, public keys and log keys.
        revocations: a file, or ``vault`` for the vault's own list.
        program: a folder of wheels with a lock file.

    """

    models: tuple[str, ...] = ()
    packs: tuple[str, ...] = ()
    prices: str | None = None
    catalogue: Path | None = None
    trust: tuple[Path, ...] = ()
    revocations: str | None = None
    program: Path | None = None


def gather(home: Home, vault: Vault, wanted: Wanted, *, now_ms: int) -> tuple[Content, ...]:
    """Return the items of a bundle.

    Raises:
        Invalid: there is no such model, pack or file.
        Integrity: one of them is not what it has to be.

    """
    day = _day(now_ms)
    out = [_model(vault, name) for name in wanted.models]
    out += [_pack(home, name) for name in wanted.packs]
    if wanted.prices is not None:
        raw = _shipped_prices() if wanted.prices == SHIPPED else _small(Path(wanted.prices))
        content.prices("prices", raw, now_ms)
        out.append(pieces.text("prices", "prices", _as_of(raw), raw))
    if wanted.catalogue is not None:
        raw = _small(wanted.catalogue)
        planfacts.readable("catalogue", content.catalogue("catalogue", raw, now_ms))
        out.append(pieces.text("catalogue", "catalogue", _as_of(raw), raw))
    if wanted.trust:
        paths = {path.name: path for path in wanted.trust}
        if len(paths) != len(wanted.trust):
            raise Invalid("two trust files have one name", ", ".join(map(str, wanted.trust)), "rename one")
        content.roots("trust", {name: _small(path) for name, path in paths.items()})
        out.append(pieces.files("trust", "trust", day, paths))
    if wanted.revocations is not None:
        raw = _revocations(vault) if wanted.revocations == OF_VAULT else _small(Path(wanted.revocations))
        content.revocations("revocations", raw)
        out.append(pieces.text("revocations", "revocations", day, raw))
    if wanted.program is not None:
        out.append(_program(wanted.program))
    return tuple(out)


def _model(vault: Vault, name: str) -> Content:
    entry = vault.find(name)
    if entry.shipped:
        raise Invalid(
            f"{entry.manifest.name} is shipped with Allod",
            "every home has it, under this name",
            "leave it out; to carry other weights, add them under a name of their own",
            param="model",
        )
    return pieces.model(vault, name)


def _day(now_ms: int) -> str:
    import datetime as dt  # noqa: PLC0415

    return dt.datetime.fromtimestamp(now_ms // 1000, dt.UTC).date().isoformat()


def _as_of(raw: bytes) -> str:
    return pieces.version_text(str(json.loads(raw)["as_of"]))


def _shipped_prices() -> bytes:
    return resources.files("allod.metering").joinpath("prices.json").read_bytes()


def _revocations(vault: Vault) -> bytes:
    listed = vault.revocations.read()
    return msgspec.json.encode([listed[digest] for digest in sorted(listed)])


def _small(path: Path) -> bytes:
    fd = open_regular(path, str(path))
    try:
        return whole(fd, path.name, MAX_FILE_BYTES)
    finally:
        os.close(fd)


def _program(folder: Path) -> Content:
    made = pieces.program(folder)
    locks = {s.path: _small(folder / s.path) for s in made.sources if content.is_lock(s.path)}
    content.program(made.name, tuple(s.path for s in made.sources), locks)
    return made


def _pack(home: Home, name: str) -> Content:
    """Carry a pack by its id, the home's own before a shipped one, or by its folder."""
    own = ownpacks.own_folder(home) / name if "/" not in name else Path(name)
    note: bytes | None = None
    if own.is_dir():
        files = ownpacks.read_folder(own)
        beside = ownpacks.signature_file(own)
        note = ownpacks.read_note(beside, f"pack {name!r}") if beside.exists() else None
    elif name in (found := packs.find().found):
        files = packs.files_of(found[name].folder)
    else:
        known = ", ".join(sorted(found))
        raise Invalid(
            f"there is no pack {name[:80]!r}", f"known: {known}", "name one, or its folder", param="pack"
        )
    try:
        manifest = tomllib.loads(files["pack.toml"].decode())
        found_id, version = str(manifest["id"]), str(manifest["version"])
    except (KeyError, ValueError) as error:
        raise Integrity(f"{name} is no pack", f"pack.toml: {error}", "correct it") from error
    carried = {f"pack/{path}": data for path, data in files.items()}
    content.pack(found_id, version, carried, packs.find().load("base").schema)
    return pieces.pack(found_id, pieces.version_text(version), files, note)


def log_of(home: Home, tenant: str, *, now_ms: int) -> Log:
    """Return the home's log as a bundle needs it; it must be at rest.

    Args:
        home: from ``load_home``.
        tenant: the tenant's id, which the leaf names by its pseudonym.
        now_ms: UTC milliseconds.

    Raises:
        Unavailable: a gateway writes the log.

    """
    Lock(home).release()
    keys = load_keys(home)
    name = pseudonym(keys.secret, "tenant", tenant)

    def prove(digest: str, channel: str, number: int) -> LogProof:
        facts = NoticeFacts(
            id=new_id(keys.origin, now_ms, os.urandom(10)),
            at_ms=now_ms,
            tenant=name,
            subject=logproof.SUBJECT,
            detail=f"published bundle {channel} {number}",
            facts=logproof.facts(digest, channel, number),
        )
        store = Store.open(home)
        try:
            return logproof.record(store, facts)
        finally:
            store.close()

    return Log(vkey=keys.signer.key.vkey(), prove=prove)


def names_of(contents: Iterable[Content]) -> list[str]:
    """Name the items for a person."""
    return [f"{one.kind} {one.name} {one.version}" for one in contents]
