"""The switch: everything a bundle brought serves from one rename on, and a death leaves the old or the new.

Before it: files in ``objects``, the next generation, blobs in the vault that no name stands for. Then
``current`` is replaced. After it ``settle`` names the models and revocations in the vault's register (one
signed change), writes the import receipt, and notes the switch in ``state.json``. Whoever comes after a death
in between, an import or a start of the gateway, settles first; nothing of it depends on what is lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Integrity, Invalid, Unavailable
from allod.domain.money import rfc3339
from allod.store.home import write_file
from allod.vault import manifest
from allod.vault.blobs import make_private, storage_errors, sync_folder
from allod.vault.bundle import content, receipt, supply
from allod.vault.bundle.form import Known
from allod.vault.bundle.supply import FORMAT, MANIFEST, Current, Generation, Held, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from allod.receipts.notes import Signer
    from allod.vault.bundle.supply import File, Supply
    from allod.vault.manifest import Manifest
    from allod.vault.revocation import Revocation
    from allod.vault.vault import Vault

KEPT: Final = 5
"""Generations whose files are kept: as far back as one can return."""
PERMANENT: Final = frozenset({"revocations", "trust"})
"""Kinds that a return to an older generation does not bring back: what was revoked stays revoked."""
_FAILS: Final = "the supply could not be written"


@contextlib.contextmanager
def importing(held: Supply) -> Iterator[None]:
    """Be the only import of this home.

    Raises:
        Unavailable: another is at work (``busy``), or the disk fails.

    """
    with _locked(held, "import.lock", wait=False):
        yield


@contextlib.contextmanager
def switching(held: Supply) -> Iterator[None]:
    """Be the only one who switches or settles; others wait, for moments."""
    with _locked(held, "lock", wait=True):
        yield


@contextlib.contextmanager
def _locked(held: Supply, name: str, *, wait: bool) -> Iterator[None]:
    with storage_errors(_FAILS):
        make_private(held.root, held.root)
        fd = os.open(held.root / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise Unavailable(
                "another import is at work in this home",
                f"{held.root / name} is locked",
                "wait for it, or stop it: what it has checked is not lost",
                kind="busy",
            ) from error
        yield
    finally:
        os.close(fd)


def place(held: Supply, digest: str, source: Path | bytes) -> None:
    """Give a checked file its place among the objects: bytes, or a file of the same disk by a second name.

    Raises:
        Unavailable: the disk is full or failing.

    """
    target = held.object_path(digest)
    with storage_errors(_FAILS):
        make_private(target.parent, held.root)
        temporary = target.with_name(f".new-{secrets.token_hex(8)}")
        try:
            if isinstance(source, bytes):
                with temporary.open("xb") as file:
                    file.write(source)
                    file.flush()
                    os.fsync(file.fileno())
            else:
                os.link(source, temporary)
            temporary.chmod(0o444)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def switch(held: Supply, following: Generation | None, found: Generation) -> None:
    """Let a generation serve; its objects are placed, ``following`` is what serves now.

    Raises:
        Unavailable: somebody else switched in between (``busy``), or the disk fails.
        Integrity: see ``Supply.serving``.

    """
    raw = supply.encode(found)
    if len(raw) > supply.MAX_BYTES:
        raise Invalid("the supply of this home is full", f"its list would have {len(raw)} bytes")
    now = held.serving()
    if (None if now is None else now.digest) != (None if following is None else following.digest):
        raise Unavailable("the supply changed meanwhile", "another import ended", "again", kind="busy")
    path = held.generation_path(found.serial)
    with storage_errors(_FAILS):
        make_private(path.parent, held.root)
        for folder in (held.root / "objects", path.parent):
            if folder.is_dir():
                sync_folder(folder)
        write_file(path, raw, 0o400)
        current = Current(format=FORMAT, serial=found.serial, digest=supply.digest_of(raw))
        write_file(held.root / "current", supply.encode(current), 0o600)


def settle(held: Supply, vault: Vault, signer: Signer) -> Generation | None:
    """Finish the newest switch; costs a look where it is finished. Returns what serves.

    Raises:
        Integrity: the supply or the vault's register is not what it was.
        Unavailable: the disk fails; it is finished the next time.

    """
    if not held.root.exists():
        return None
    found, state = held.serving(), held.state()
    if found is None or (state is not None and state.digest == found.digest):
        return found
    with switching(held):
        found, state = held.serving(), held.state()
        if found is None or (state is not None and state.digest == found.digest):
            return found
        before = () if state is None else held.generation(state.serial, state.digest).items
        _name(held, vault, before, found)
        with storage_errors(_FAILS):
            _programs(held, found)
            if found.cause == "import":
                path = held.receipt_path(found.serial)
                make_private(path.parent, held.root)
                write_file(path, receipt.write(found, signer), 0o400)
            done = State(format=FORMAT, serial=found.serial, digest=found.digest, known=found.known)
            write_file(held.root / "state.json", supply.encode(done), 0o600)
        _sweep(held, found.serial)
    return found


def rollback(held: Supply, now_ms: int) -> Generation:
    """Let what served before the newest import serve again, as a new switch; ``settle`` follows.

    Packs, prices, catalogue and model names go back; revocations and trust roots do not, and the numbers that
    were imported stay known: an old bundle cannot be imported again.

    Raises:
        Invalid: there is nothing before, or its files are not kept any more.
        Integrity, Unavailable: as for ``switch``.

    """
    with switching(held):
        now = held.serving()
        target = earlier(held, now)
        if now is None or target is None:
            raise Invalid("there is nothing to return to", "nothing served before", "import another bundle")
        _check_kept(held, target)
        stays = [item for item in now.items if item.kind in PERMANENT]
        items = [item for item in target.items if item.kind not in PERMANENT]
        found = Generation(
            format=FORMAT,
            serial=now.serial + 1,
            follows=now.digest,
            at=rfc3339(now_ms),
            cause="rollback",
            returned=target.serial,
            known=now.known,
            items=tuple(sorted((*items, *stays), key=lambda item: item.key)),
            expires=now.expires,
            trust=now.trust,
        )
        switch(held, now, found)
        return found


def earlier(held: Supply, now: Generation | None) -> Generation | None:
    """Return what served before the newest import that is still in force; None where nothing ever served.

    Before the first import nothing served: a generation of number 0 without items.
    """
    past = {one.serial: one for one in history(held, now)}
    while now is not None and now.cause == "rollback":
        now = past.get(now.returned)
    if now is None:
        return None
    if now.serial == 1:
        return Generation(
            format=FORMAT, serial=0, follows="", at=now.at, cause="import", known=Known(), items=()
        )
    return past.get(now.serial - 1)


def _check_kept(held: Supply, target: Generation) -> None:
    """Demand that every file of a generation is still here (raises ``Invalid``, ``Integrity``)."""
    for item in target.items:
        for file in item.files:
            if not held.object_path(file.digest).exists():
                raise Invalid(
                    f"switch {target.serial} cannot be returned to",
                    f"{file.path} of {item.kind} {item.name} is not kept any more",
                    "import another bundle",
                )
            if item.kind != "program":
                held.read(file)


def history(held: Supply, now: Generation | None) -> Iterator[Generation]:
    """Go back from a generation, each held by the digest that the one after it names.

    Raises:
        Integrity: one is absent or another.

    """
    while now is not None:
        yield now
        now = held.generation(now.serial - 1, now.follows) if now.serial > 1 else None


def models(held: Supply, items: tuple[Held, ...]) -> dict[str, Manifest]:
    """Return the manifests of models by name, each file by its digest (raises ``Integrity``)."""
    return {
        item.name: manifest.decode(held.read(file), item.name)
        for item in items
        if item.kind == "model"
        for file in item.files
        if file.path == MANIFEST
    }


def revoked(held: Supply, items: tuple[Held, ...]) -> dict[str, Revocation]:
    """Return everything that bundles revoked, by digest (raises ``Integrity``)."""
    return {
        one.digest: one
        for item in items
        if item.kind == "revocations"
        for file in item.files
        for one in content.revocations(item.name, held.read(file))
    }


def _name(held: Supply, vault: Vault, before: tuple[Held, ...], found: Generation) -> None:
    """Have the vault's register say what serves now: one change of it, whole or not at all."""
    now, was = models(held, found.items), models(held, before)
    there = vault.register.read().manifests
    gone = [name for name, one in was.items() if name not in now and there.get(name) == one]
    vault.commit(now.values(), revoked=revoked(held, found.items).values(), replace=True, remove=gone)


def conflict(there: Mapping[str, Manifest], was: Mapping[str, Manifest], new: Manifest) -> str:
    """Say why a model's name cannot come to stand for a bundle's; empty where it can.

    A name that bundles gave may be given anew; one that somebody gave here stays theirs.
    """
    mine = there.get(new.name)
    if mine is None or mine == was.get(new.name) or mine.digest == new.digest:
        return ""
    return f"here it stands for {mine.digest}, which no bundle brought; the bundle says {new.digest}"


def _programs(held: Supply, found: Generation) -> None:
    """Lay out the files of programs under their names, for whoever installs them; nothing runs them here."""
    for item in found.items:
        folder = program_folder(held, item)
        if item.kind != "program" or folder.exists():
            continue
        fresh = folder.with_name(f".new-{folder.name}")
        shutil.rmtree(fresh, ignore_errors=True)
        make_private(fresh, held.root)
        for file in item.files:
            os.link(held.object_path(file.digest), fresh / file.path)
        sync_folder(fresh)
        fresh.rename(folder)


def program_folder(held: Supply, item: Held) -> Path:
    """Return where the files of a program lie under their names."""
    return held.root / "program" / f"{item.name}-{item.version}-{item.digest.removeprefix('sha256:')[:12]}"


def _sweep(held: Supply, serial: int) -> None:
    """Remove objects that none of the generations one can return to names; leftovers of the dead too."""
    needed: set[str] = set()
    programs: set[Path] = set()
    try:
        for number in range(max(1, serial - KEPT + 1), serial + 1):
            for item in held.generation(number).items:
                needed |= {file.digest.removeprefix("sha256:") for file in item.files}
                programs |= {program_folder(held, item)} if item.kind == "program" else set()
        for path in (held.root / "objects").iterdir():
            if path.name not in needed:
                path.unlink(missing_ok=True)
        for path in (held.root / "program").glob("*"):
            if path not in programs:
                shutil.rmtree(path, ignore_errors=True)
    except (OSError, Integrity):
        return  # what is left over is removed after the next switch


def file_of(path: str, raw: bytes) -> File:
    """Describe bytes as a file of an item."""
    return supply.File(path=path, digest=supply.digest_of(raw), size_bytes=len(raw))


def with_items(before: Generation | None, new: tuple[Held, ...]) -> tuple[Held, ...]:
    """Return everything in force after an import: what is new, and what it does not replace."""
    keys = {item.key for item in new}
    old = () if before is None else tuple(item for item in before.items if item.key not in keys)
    return tuple(sorted((*old, *new), key=lambda item: item.key))


def stripped(known: Known, kept: tuple[str, ...]) -> Known:
    """Return what is to be known, without the revocations that were only handed to the check."""
    return msgspec.structs.replace(known, revoked=kept)
