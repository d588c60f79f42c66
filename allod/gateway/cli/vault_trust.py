"""Whose signatures count, as named on the command line: keys, root certificates, a keyless identity."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from allod.domain.errors import Invalid

if TYPE_CHECKING:
    from pathlib import Path

    from allod.vault.intake import Trust
    from allod.vault.sigstore.keyless import Keyless

MAX_PEM_BYTES = 1024 * 1024


def pem(path: Path) -> bytes:
    """Read a small file of keys or certificates (raises ``Invalid``)."""
    import os  # noqa: PLC0415

    from allod.vault.blobs import open_regular  # noqa: PLC0415
    from allod.vault.formats import whole  # noqa: PLC0415

    fd = open_regular(path, str(path))
    try:
        return whole(fd, path.name, MAX_PEM_BYTES)
    finally:
        os.close(fd)


def trust_in(
    keys: tuple[Path, ...],
    roots: tuple[Path, ...],
    *,
    keyless: Keyless | None = None,
    git_paths: bool = False,
) -> Trust | None:
    """Read whose signatures count; None where nobody was named."""
    from allod.vault import signature  # noqa: PLC0415
    from allod.vault.intake import Trust  # noqa: PLC0415

    if not keys and not roots and keyless is None:
        return None
    return Trust(
        keyless=keyless,
        now=dt.datetime.now(dt.UTC),
        keys=tuple(signature.public_key(pem(path)) for path in keys),
        roots=tuple(c for path in roots for c in signature.certificates(pem(path))),
        git_paths=git_paths,
    )


def keyless_in(root: Path | None, identity: str | None, issuer: str | None) -> Keyless | None:
    """Read whose keyless signatures count (raises ``Invalid``: one of the three is missing)."""
    if root is None and not identity and not issuer:
        return None
    if root is None:
        raise Invalid(
            "nobody can vouch for a signer", "no --trusted-root was given", "carry in a trusted_root.json",
            param="trusted-root",
        )  # fmt: skip
    from allod.vault.sigstore import keyless  # noqa: PLC0415
    from allod.vault.sigstore.root import parse  # noqa: PLC0415

    return keyless.demanded(parse(pem(root)), identity, issuer)
