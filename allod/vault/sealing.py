"""Sealing a vault by an explicit act: one filled before registers were signed, or one put back from a backup.

Everything is read again, byte by byte, before it is signed, and the caller is told each name with its digest:
what a person never added must not become his by a signature that nobody asked for.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.vault import manifest, revocation
from allod.vault.blobs import open_regular
from allod.vault.register import OLD_MANIFESTS, OLD_REVOKED, State
from allod.vault.revocation import Revocation

if TYPE_CHECKING:
    from collections.abc import Callable

    from allod.vault.manifest import Manifest
    from allod.vault.vault import Vault

MAX_REVOKED_BYTES: Final = 64 * 1024 * 1024


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """What was signed, and what was not.

    Attributes:
        version: of the note; ``unchanged`` where there was nothing to do.
        models: name and digest of each that is in the register now.
        left: names that are not, each with the reason.
        revoked: how many digests are revoked.

    """

    version: int
    unchanged: bool
    models: dict[str, str]
    left: dict[str, str]
    revoked: int


def seal(vault: Vault, *, again: bool = False, progress: Callable[[int], None] | None = None) -> Sealed:
    """Read everything again and sign it.

    Args:
        vault: in a home, or else nothing is signed.
        again: also where the note does not hold (put back from a backup, signed with a revoked key).
        progress: told the bytes read.

    Raises:
        Integrity: the list of revocations cannot be read, or the register does not hold and not ``again``.
        Unavailable: the disk is full or failing; everything stays as it was.

    """
    register = vault.register
    old = register.is_old()
    if not old and not again:
        return _told(register.read(), {}, unchanged=True)
    with vault.writing():
        found = _old(vault) if old else register.unverified()
        held, left = _sound(vault, found, progress)
        state = register.commit_again(vault.now(), State(manifests=held, revoked=found.revoked))
    if old:
        for name in held:
            (vault.root / OLD_MANIFESTS / f"{name}.json").unlink(missing_ok=True)
        (vault.root / OLD_REVOKED).unlink(missing_ok=True)
        left |= _broken(vault)
    return _told(state, left, unchanged=False)


def _told(state: State, left: dict[str, str], *, unchanged: bool) -> Sealed:
    models = {name: state.manifests[name].digest for name in sorted(state.manifests)}
    return Sealed(
        version=state.version, unchanged=unchanged, models=models, left=left, revoked=len(state.revoked)
    )


def _read(vault: Vault, name: str) -> Manifest:
    fd = open_regular(vault.root / OLD_MANIFESTS / f"{name}.json", f"the manifest of {name}")
    with os.fdopen(fd, "rb") as file:
        raw = file.read(manifest.MAX_MANIFEST_BYTES + 1)
    if len(raw) > manifest.MAX_MANIFEST_BYTES:
        raise Integrity(f"the manifest of {name} cannot be used", "it is too long")
    return manifest.decode(raw, name)


def _names(vault: Vault) -> list[str]:
    names = (path.stem for path in (vault.root / OLD_MANIFESTS).glob("*.json"))
    return sorted(name for name in names if manifest.is_name(name))


def _broken(vault: Vault) -> dict[str, str]:
    """Say why each old manifest that stayed behind cannot be read."""
    out = {}
    for name in _names(vault):
        try:
            _read(vault, name)
        except (Integrity, Invalid) as error:
            out[name] = error.why
    return out


def _old(vault: Vault) -> State:
    """Read manifests and revocations as they were kept before; a manifest that cannot be read is left out."""
    held = {}
    for name in _names(vault):
        try:
            held[name] = _read(vault, name)
        except (Integrity, Invalid):
            continue
    return State(manifests=held, revoked=_revoked(vault))


def _revoked(vault: Vault) -> dict[str, Revocation]:
    path = vault.root / OLD_REVOKED
    if not os.path.lexists(path):
        return {}
    try:
        fd = open_regular(path, "the list of revocations")
        with os.fdopen(fd, "rb") as file:
            listed = msgspec.json.decode(file.read(MAX_REVOKED_BYTES + 1), type=tuple[Revocation, ...])
        return revocation.joined(State(), listed)
    except (Invalid, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Integrity("the list of revocations cannot be used", str(error), "restore it") from error


def _sound(
    vault: Vault, found: State, progress: Callable[[int], None] | None
) -> tuple[dict[str, Manifest], dict[str, str]]:
    """Read every file of every model; return those that are what was verified, and why others are not."""
    shipped = vault.shipped()
    held: dict[str, Manifest] = {}
    left: dict[str, str] = {}
    for name, item in found.manifests.items():
        if name in shipped:
            left[name] = "it is the name of a shipped model"
            continue
        try:
            vault.check_bytes(item, progress)
        except (Integrity, Invalid) as error:
            left[name] = f"{error.what}: {error.why}"
        else:
            held[name] = item
    return held, left
