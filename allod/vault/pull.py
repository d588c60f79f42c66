"""Pulling a model from a hub into the vault: pinned first, fetched second, checked like any other file."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from allod.domain.errors import Integrity, Refused
from allod.vault import hub
from allod.vault.blobs import make_private, storage_errors
from allod.vault.manifest import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from allod.vault.hub import Pin
    from allod.vault.vault import Entry, Vault


@contextlib.contextmanager
def _folder(vault: Vault) -> Iterator[Path]:
    """Give a folder inside the vault for one download, on the disk where it will stay."""
    with storage_errors("the model could not be stored"):
        make_private(vault.root, vault.root)
        folder = Path(tempfile.mkdtemp(prefix=".pull-", dir=vault.root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def pull(
    vault: Vault,
    repo: str,
    file: str,
    *,
    revision: str = "main",
    name: str | None = None,
    base: str | None = None,
    digest: str | None = None,
    endpoint: str | None = None,
    token: str | None = None,
    air_gapped: bool = False,
    licence: str | None = None,
    maker: str | None = None,
    maker_jurisdiction: str | None = None,
    pinned: Callable[[Pin], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Entry:
    """Fetch a file from a model hub (extra ``allod[hub]``) and add it, pinned to commit and digest.

    Args:
        vault: where to.
        repo, file, revision: what to fetch; a branch is resolved to its commit, which is recorded.
        digest: what the file must have; otherwise what the hub says it has, where it does.
        endpoint: another hub than the library's own.
        token: a credential; none is looked for elsewhere.
        air_gapped: refuse.
        pinned: told commit and digest before the download.
        name, base, licence, maker, maker_jurisdiction, progress: as for ``Vault.add``.

    Raises:
        Refused: in air-gap mode.
        Invalid, Integrity, Unavailable: as for ``Vault.add``, and when the hub fails.

    """
    if air_gapped:
        raise Refused("nothing is pulled in air-gap mode", "it is outside", "bring a bundle", kind="air_gap")
    found = hub.pin(repo, file, revision, endpoint=endpoint, token=token)
    if digest is not None and found.digest is not None and digest != found.digest:
        raise Integrity(
            "the hub holds another file", f"got {found.digest}, expected {digest}", "ask its maker"
        )
    if pinned is not None:
        pinned(found)
    expected = digest or found.digest
    with _folder(vault) as folder:
        return vault.add(
            hub.fetch(found, folder, token=token),
            name,
            base=base,
            licence=licence,
            maker=maker,
            maker_jurisdiction=maker_jurisdiction,
            source=Source(
                endpoint=found.endpoint, repo=repo, revision=found.revision, file=file, digest=expected or ""
            ),
            digest=expected,
            progress=progress,
        )
