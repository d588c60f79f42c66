"""Digests that may not be used any more: weights, adapters, templates, signers.

One JSON file of the vault, replaced in one rename. It is read whenever something is resolved, so a revocation
holds from the next load on; what an engine already serves ends with its process. A list that cannot be read
refuses everything: it might have named what is asked for.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.vault.blobs import make_private, open_regular, storage_errors, sync_folder
from allod.vault.manifest import is_digest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FILE: Final = "revoked.json"
MAX_BYTES: Final = 4 * 1024 * 1024


class Revocation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A digest, why it was revoked, and when (RFC 3339)."""

    digest: str
    reason: str
    at: str


class Revocations:
    """The list of one vault."""

    def __init__(self, root: Path) -> None:
        self._root, self._path = root, root / FILE

    def read(self) -> dict[str, Revocation]:
        """Return the list by digest.

        Raises:
            Integrity: it is there and cannot be read.

        """
        try:
            fd = open_regular(self._path, "the list of revocations")
        except Invalid as error:
            if not self._path.is_symlink() and not self._path.exists():
                return {}
            raise Integrity("the list of revocations cannot be used", error.why, "restore it") from error
        with os.fdopen(fd, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
        try:
            listed = msgspec.json.decode(raw, type=tuple[Revocation, ...])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Integrity("the list of revocations cannot be used", str(error), "restore it") from error
        return {item.digest: item for item in listed}

    def check(self, digests: Iterable[str | None], label: str) -> None:
        """Refuse what is on the list (raises ``Integrity``)."""
        revoked = self.read()
        for digest in digests if revoked else ():
            if digest in revoked:
                item = revoked[digest]
                raise Integrity(
                    f"{label} is revoked",
                    f"{digest} was revoked on {item.at}: {item.reason}",
                    "use another model",
                )

    def add(self, digest: str, reason: str, at: str) -> Revocation:
        """Put a digest on the list; one that is there keeps its first reason.

        Raises:
            Invalid: no digest, or no reason.
            Integrity: the list cannot be read.
            Unavailable: the disk is full or failing; the list stays as it was.

        """
        if not is_digest(digest) or not reason.strip():
            raise Invalid("nothing was revoked", "a revocation names a sha256 digest and a reason")
        listed = self.read()
        if digest in listed:
            return listed[digest]
        item = Revocation(digest=digest, reason=reason.strip()[:1000], at=at)
        raw = msgspec.json.format(msgspec.json.encode((*listed.values(), item)), indent=1)
        with storage_errors("the revocation could not be stored"):
            make_private(self._root, self._root)
            temporary = self._root / f".revoked-{secrets.token_hex(8)}"
            try:
                with temporary.open("xb") as file:
                    file.write(raw + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(self._path)
                sync_folder(self._root)
            finally:
                temporary.unlink(missing_ok=True)
        return item
