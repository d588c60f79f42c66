"""Removing what no manifest refers to any more: never while something is added, never while it is open."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

import msgspec

from allod.domain.errors import Invalid
from allod.vault.blobs import open_regular, storage_errors, sync_folder
from allod.vault.manifest import is_digest

if TYPE_CHECKING:
    from pathlib import Path

    from allod.vault.vault import Vault


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What was removed and what stayed because somebody has it open: digests; ``freed_bytes`` in all."""

    removed: tuple[str, ...]
    in_use: tuple[str, ...]
    freed_bytes: int


def in_use(path: Path) -> bool:
    """Tell whether any process has a file open; where the kernel cannot tell, it is in use.

    A write lease is granted only while nobody else has the file open; it is given back at once.
    """
    try:
        fd = open_regular(path, "a blob")
    except Invalid:
        return True
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def collect(vault: Vault, *, pretend: bool = False) -> Collected:
    """Remove blobs that no manifest names, and leftovers of dead adders.

    Nothing is removed where a manifest cannot be read: it might name anything.

    Raises:
        Integrity: a manifest is broken.
        Unavailable: something is being added (``busy``), or the disk fails.

    """
    removed, held, freed = [], [], 0
    with vault.writing(alone=True):
        needed = {digest for entry in vault.list() for digest in entry.manifest.blobs}
        folder = vault.blobs.folder
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            digest = f"sha256:{path.name}"
            if not is_digest(digest) or digest in needed:
                continue
            if in_use(path):
                held.append(digest)
                continue
            freed += path.lstat().st_size
            removed.append(digest)
            if not pretend:
                with storage_errors("a blob could not be removed"):
                    path.unlink()
        if not pretend and folder.is_dir():
            vault.blobs.sweep(everything=True)
            with contextlib.suppress(OSError):
                sync_folder(folder)
    return Collected(removed=tuple(removed), in_use=tuple(held), freed_bytes=freed)
