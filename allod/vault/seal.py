"""The seal of a vault: the log key of the home it lies in, and what that home remembers of it.

A vault lies on a disk that others may write: a share, a carried drive, the folder of a download. So what it
holds is stated in a note (C2SP signed-note) under the home's log key, and the home keeps, in ``keys/`` and
outside of the vault, the version and digest of the last note: an older note, or none, is then found.

A vault is sealed where the folder ``keys`` lies beside it, as in every home. One that lies anywhere else, as
a library may use it, has a note without signature: that finds damage, and no enemy.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Integrity, Unavailable
from allod.receipts.notes import open_note, parse_note
from allod.store import history
from allod.store.home import Home, load_keys, write_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allod.receipts.rotation import KeyRing

ANCHOR: Final = "vault.anchor"
LOCK: Final = "vault.lock"
HEAD: Final = "allod.vault/manifests/v1"
NOBODY: Final = "-"
MAX_ANCHOR_BYTES: Final = 1024
_ANCHOR: Final = re.compile(r"version ([1-9][0-9]{0,15})\nnote (sha256:[0-9a-f]{64})\n")
RESTORE: Final = (
    "restore vault/ and keys/ from one backup, or run `allod vault seal --again` and read its list"
)


class Anchor(msgspec.Struct, frozen=True, kw_only=True):
    """What the home remembers of the last note: its version, and the digest of its text."""

    version: int
    note: str


def text_digest(text: str) -> str:
    """Digest the text of a note, without its signatures."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


class Seal:
    """Signs and opens the notes of one vault; making one touches nothing."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._ring: KeyRing | None = None

    @property
    def lock_path(self) -> Path:
        """The file that whoever changes the vault's register locks: outside of the vault."""
        return self._home.keys / LOCK

    def sign(self, text: str) -> bytes:
        """Sign the text of a note with the log key in force (raises ``Integrity``: no usable key)."""
        with _reachable(self._home):
            self._ring = None
            return load_keys(self._home).signer.sign(text)

    def origin(self) -> str:
        """Return the name of the home's log (raises ``Integrity``)."""
        return self._keys().origin

    def open(self, note: bytes) -> str:
        """Verify a note by a key that the home's log has or had, and return its text.

        Raises:
            Integrity: no such key signed it, or the one that did is revoked.

        """
        lines = {(line.name, line.key_id) for line in parse_note(note).signatures}
        for fresh in (False, True):
            if fresh:
                self._ring = None
            for one in reversed(self._keys().keys):
                if (one.key.name, one.key.key_id) not in lines:
                    continue
                if one.revoked:
                    raise Integrity(
                        "the register of the vault was signed with a revoked key",
                        f"got {one.key.key_id.hex()}, which counts no more",
                        "run `allod vault seal --again`: it reads everything again and signs it anew",
                    )
                return open_note(note, one.key)
        raise Integrity(
            "the register of the vault is not signed by this home",
            f"got signatures of {sorted(name for name, _ in lines)}, expected one of {self.origin()}",
            RESTORE,
        )

    def anchor(self) -> Anchor | None:
        """Return what the home remembers; None where it never signed a note (raises ``Integrity``)."""
        path = self._home.keys / ANCHOR
        with _reachable(self._home):
            try:
                with path.open("rb") as file:
                    raw = file.read(MAX_ANCHOR_BYTES + 1)
            except FileNotFoundError:
                return None
        found = _ANCHOR.fullmatch(raw.decode("ascii", "replace"))
        if found is None:
            raise Integrity(f"{path} is damaged", f"got {raw[:60]!r}", RESTORE)
        return Anchor(version=int(found[1]), note=found[2])

    def remember(self, anchor: Anchor) -> None:
        """Keep an anchor, durably (raises ``OSError``)."""
        text = f"version {anchor.version}\nnote {anchor.note}\n"
        write_file(self._home.keys / ANCHOR, text.encode(), 0o600)

    def _keys(self) -> KeyRing:
        if self._ring is None:
            with _reachable(self._home):
                self._ring = history.key_ring(self._home)
        return self._ring


def seal_of(root: Path) -> Seal | None:
    """Return the seal of the vault at ``root``: that of the home it lies in, or None outside of one.

    Raises:
        Unavailable: whether there is a home cannot be told.

    """
    home = Home(root.parent)
    with _reachable(home):
        return Seal(home) if home.vault == root and home.keys.is_dir() else None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file's lock alone, waiting for it; the file is made where it is missing (raises ``OSError``)."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def _reachable(home: Home) -> Iterator[None]:
    """Refuse where the keys cannot be looked at: an unsealed vault must not be had by hiding them."""
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"the keys of {home.root} cannot be read",
            os.strerror(error.errno or 0),
            "run this as the user whom the home belongs to",
            kind="down",
        ) from error
