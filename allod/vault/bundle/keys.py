"""The private keys of a publisher of bundles: Ed25519, one file each, 0600, in a folder that is 0700.

Roles are the four of TUF and ``bundle``, whose keys sign ``bundle.json``. A key's file is
``<role>-<id>.pem``, the id being the first 16 hex digits of the SHA-256 of the raw public key. Keys of
``root`` belong on a medium of their
own: every function takes the folder, so that one can be given that is plugged in for a rotation only.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.vault.blobs import storage_errors, sync_folder
from allod.vault.bundle.envelope import key_id
from allod.vault.bundle.metadata import ROLES as TUF_ROLES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

BUNDLE: Final = "bundle"
ROLES: Final = (*TUF_ROLES, BUNDLE)
RETIRED: Final = "retired"
MAX_PEM_BYTES: Final = 4_096
_FILE: Final = re.compile(rf"({'|'.join(ROLES)})-([0-9a-f]{{16}})\.pem")
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key that can sign: its role, its id (64 hex digits), where it lies, and the private key itself."""

    role: str
    key_id: str
    path: str
    private: Any

    def __repr__(self) -> str:
        """Name it without its secret."""
        return f"Key({self.role} {self.key_id[:16]})"

    @property
    def public(self) -> bytes:
        """The 32 raw bytes of the public key."""
        return self.private.public_key().public_bytes_raw()  # type: ignore[no-any-return]


def check_role(role: str) -> str:
    """Return a role that there is (raises ``Invalid``)."""
    if role not in ROLES:
        raise Invalid(f"{role[:40]!r} is no role", f"there are {', '.join(ROLES)}", param="role")
    return role


def new(folder: Path, role: str) -> Key:
    """Make a key; the folder is made too.

    Raises:
        Invalid: no such role. Unavailable: the disk.

    """
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 (only when keys are made)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    private = Ed25519PrivateKey.generate()
    name = key_id(private.public_key().public_bytes_raw())
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / f"{check_role(role)}-{name[:16]}.pem"
    with storage_errors("the key could not be written"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(fd)
        sync_folder(folder)
    return Key(role=role, key_id=name, path=str(path), private=private)


def load(*folders: Path) -> tuple[Key, ...]:
    """Read the keys of some folders, sorted by role and id; a folder that is not there holds none.

    Raises:
        Integrity: a key is open to others, damaged, or not the one its name says.

    """
    out: dict[str, Key] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.pem")) if folder.is_dir() else ():
            key = _read(path)
            out[key.key_id] = key
    return tuple(sorted(out.values(), key=lambda key: (ROLES.index(key.role), key.key_id)))


def of(keys: Iterable[Key], role: str) -> tuple[Key, ...]:
    """Return those of one role."""
    return tuple(key for key in keys if key.role == role)


def retire(key: Key) -> None:
    """Put a key's file aside, into ``retired/``: it signs nothing any more, and can be destroyed."""
    import pathlib  # noqa: PLC0415

    path = pathlib.Path(key.path)
    with storage_errors("the key could not be put aside"):
        aside = path.parent / RETIRED
        aside.mkdir(exist_ok=True, mode=0o700)
        path.replace(aside / path.name)
        sync_folder(aside)
        sync_folder(path.parent)


def _read(path: Path) -> Key:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    named = _FILE.fullmatch(path.name)
    if named is None:
        raise Integrity(
            f"{path} is no key of a publisher", "a name is <role>-<16 hex digits>.pem", "remove it"
        )
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            mode = os.fstat(fd).st_mode
            pem = file.read(MAX_PEM_BYTES)
        private = serialization.load_pem_private_key(pem, None)
    except (OSError, ValueError, TypeError) as error:
        raise Integrity(f"{path} cannot be used", str(error)[:200], "restore it from a backup") from error
    if mode & _OTHERS:
        raise Integrity(
            f"{path} is open to others", f"got mode {mode & 0o777:04o}, expected 0600", "chmod 600"
        )
    if not isinstance(private, Ed25519PrivateKey):
        raise Integrity(
            f"{path} is no Ed25519 key", f"got {type(private).__name__}", "make one with keys new"
        )
    name = key_id(private.public_key().public_bytes_raw())
    if not name.startswith(named[2]):
        raise Integrity(f"{path} holds another key", f"got {name[:16]}, expected {named[2]}", "restore it")
    return Key(role=named[1], key_id=name, path=str(path), private=private)
