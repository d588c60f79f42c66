"""The state folder: its layout, its keys, and the lock that makes one writer of it.

Layout (DESIGN section 7)::

    allod.toml            configuration (not written here)
    keys/  0700           log.key 0600 (PRIVATE+KEY+origin+id+base64), log.vkey, secret 0600 (64 hex digits)
    log/                  lock, journal/, entries, offsets, hashes, checkpoint
    allod.sqlite          tables
    vault/blobs/sha256/   weights
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from allod.domain.errors import Integrity, Unavailable
from allod.receipts.ids import is_origin, origin_from
from allod.receipts.notes import Signer, parse_skey, parse_vkey

_SECRET: Final = re.compile("[0-9a-f]{64}")
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class Home(msgspec.Struct, frozen=True):
    """Paths of a state folder; making one of these touches nothing."""

    root: Path

    @property
    def config(self) -> Path:
        """The configuration."""
        return self.root / "allod.toml"

    @property
    def keys(self) -> Path:
        """The folder of private keys, 0700."""
        return self.root / "keys"

    @property
    def log_key(self) -> Path:
        """The log's signing key, 0600."""
        return self.keys / "log.key"

    @property
    def log_vkey(self) -> Path:
        """The log's verifier key, to be handed out."""
        return self.keys / "log.vkey"

    @property
    def secret(self) -> Path:
        """The secret behind pseudonyms, 0600."""
        return self.keys / "secret"

    @property
    def log(self) -> Path:
        """The log's folder."""
        return self.root / "log"

    @property
    def journal(self) -> Path:
        """The journal's segments."""
        return self.log / "journal"

    @property
    def checkpoint(self) -> Path:
        """The last published checkpoint."""
        return self.log / "checkpoint"

    @property
    def cosigned(self) -> Path:
        """The last checkpoint with cosignatures of witnesses."""
        return self.log / "cosigned"

    @property
    def erased(self) -> Path:
        """What was erased while the journal may still hold it (``subjects``)."""
        return self.log / "erased"

    @property
    def lock(self) -> Path:
        """The file whose lock the one writer holds."""
        return self.log / "lock"

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.root / "allod.sqlite"

    @property
    def vault(self) -> Path:
        """The folder of weights."""
        return self.root / "vault"


class Keys(msgspec.Struct, frozen=True):
    """What identifies a home: its signer (whose name is the log's origin) and its secret of 32 bytes."""

    signer: Signer
    secret: bytes

    @property
    def origin(self) -> str:
        """The log's origin."""
        return self.signer.key.name


def make_home(root: Path) -> Home:
    """Make what is missing of a home and leave what is there; safe to repeat, to interrupt, for two at once.

    Raises:
        Integrity: the log has begun but the key it was signed with is gone.
        Unavailable: the folder cannot be written.

    """
    home = Home(root)
    try:
        with contextlib.suppress(FileExistsError):
            root.mkdir(mode=0o700, parents=True)
        with _alone(root):
            _make(home)
    except OSError as fault:
        raise unwritable(root, fault) from fault
    load_keys(home)
    return home


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Have others who make the same home wait: two first starts at once must not make two log keys."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _make(home: Home) -> None:
    for folder in (home.log, home.journal, home.vault / "blobs" / "sha256"):
        folder.mkdir(parents=True, exist_ok=True)
    if not home.keys.is_dir():
        home.keys.mkdir(mode=0o700)
    if not home.log_key.exists():
        if _begun(home):
            raise _lost(home.log_key, "the log in this home was signed with it")
        signer = Signer(origin_from(os.urandom(8)), os.urandom(32))
        write_file(home.log_vkey, (signer.key.vkey() + "\n").encode(), 0o644)
        write_file(home.log_key, (signer.skey() + "\n").encode(), 0o600)
    if not home.secret.exists():
        if _begun(home):
            raise _lost(home.secret, "the pseudonyms in the log were made with it")
        write_file(home.secret, (os.urandom(32).hex() + "\n").encode(), 0o600)
    _make_private(home.database)


def load_home(root: Path) -> Home:
    """Return an existing home.

    Raises:
        Unavailable: there is no such folder, or no key in it yet.
        Integrity: keys are missing, damaged or open to others.

    """
    home = Home(root)
    if not home.log_key.exists() and not _begun(home):
        raise Unavailable(
            f"there is no home at {root}", "got no keys/log.key", "make one with `allod init`", kind="down"
        )
    load_keys(home)
    return home


def load_keys(home: Home) -> Keys:
    """Read the keys; a missing log.vkey is written again, a wrong one is refused.

    Raises:
        Integrity: a key is missing, damaged, open to others, or does not fit the other.

    """
    signer = parse_skey(_read_private(home.log_key))
    if not is_origin(signer.key.name):
        raise Integrity(f"{home.log_key} names no log", f"got {signer.key.name!r}, expected allod/...")
    secret = _read_private(home.secret)
    if not _SECRET.fullmatch(secret):
        raise Integrity(
            f"{home.secret} is damaged", "got other text than 64 hex digits", "restore it from a backup"
        )
    try:
        public = home.log_vkey.read_text("ascii").strip()
    except FileNotFoundError:
        public = signer.key.vkey()
        write_file(home.log_vkey, (public + "\n").encode(), 0o644)
    except (OSError, UnicodeDecodeError) as fault:
        raise Integrity(f"{home.log_vkey} is unreadable", str(fault), "delete it, it is made anew") from fault
    if public != signer.key.vkey():
        raise Integrity(
            f"{home.log_vkey} is not of the key in log.key",
            f"got {public[:120]!r}, expected {signer.key.vkey()!r}",
            "find out which of the two was exchanged before anything is signed",
        )
    parse_vkey(public)
    return Keys(signer, bytes.fromhex(secret))


class Lock:
    """The right to write a home's log; held until ``release`` or until the process dies."""

    def __init__(self, home: Home) -> None:
        """Take the lock.

        Raises:
            Unavailable: another process has it.

        """
        self._fd = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            os.close(self._fd)
            raise Unavailable(
                f"the home {home.root} is in use",
                "conflict: another process writes its log, and a log has one writer",
                "stop the other gateway, or give this one a home of its own",
                kind="busy",
            ) from fault

    def release(self) -> None:
        """Give it back; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def write_file(path: Path, data: bytes, mode: int = 0o644, *, durable: bool = True) -> None:
    """Write a file whole or not at all: a new file, renamed; ``durable`` syncs it and its folder."""
    new = path.with_name(path.name + ".new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        try:
            os.fchmod(fd, mode)
            write_all(fd, data, 0)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)  # it may be what fills the disk, and it may be content
        raise
    if durable:
        sync_folder(path.parent)


def write_all(fd: int, data: bytes, at: int) -> None:
    """Write all of the bytes at an offset, however many calls it takes."""
    done = os.pwrite(fd, data, at)
    while done < len(data):
        done += os.pwrite(fd, data[done:], at + done)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def unwritable(path: Path, fault: OSError) -> Unavailable:
    """Turn a fault of the file system into the error that says what to do."""
    full = fault.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    return Unavailable(
        f"{path} cannot be written",
        f"got {fault.strerror or fault}",
        "free some disk space" if full else "check the folder's owner, mode and mount",
        kind="storage",
    )


def _make_private(path: Path) -> None:
    """Make the tables' file, or take it from others: it holds salts (I9) and digests of keys."""
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    elif path.stat().st_mode & _OTHERS:
        with contextlib.suppress(OSError):  # of another owner, or on a disk that is only read
            path.chmod(0o600)


def _begun(home: Home) -> bool:
    """Tell whether anything was ever logged here."""
    files = [home.checkpoint, home.log / "entries", home.database]
    return any(home.journal.glob("*.seg")) or any(f.exists() and f.stat().st_size for f in files)


def _read_private(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        text = path.read_text("ascii").strip()
    except FileNotFoundError as fault:
        raise _lost(path, "this home cannot be used without it") from fault
    except (OSError, UnicodeDecodeError) as fault:
        raise Integrity(f"{path} cannot be read", str(fault), "restore it from a backup") from fault
    if mode & _OTHERS:
        raise Integrity(
            f"{path} is open to others", f"got mode {mode & 0o777:04o}, expected 0600", f"chmod 600 {path}"
        )
    return text


def _lost(path: Path, why: str) -> Integrity:
    return Integrity(f"{path} is missing", why, "restore it from the backup of this home")
