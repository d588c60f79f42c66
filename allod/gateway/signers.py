"""The organisation's signers: read from the configuration, their keys in files, their notes opened."""

from __future__ import annotations

import os
import stat
from datetime import date
from typing import TYPE_CHECKING, Final

from allod.domain.errors import Integrity, Invalid, Unavailable
from allod.domain.signer import Signer
from allod.policy.signing import Line, Signed
from allod.receipts import notes
from allod.store.home import sync_folder, unwritable, write_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from allod.gateway.toml import Table
    from allod.store.home import Home

MAX_KEY_BYTES: Final = 4096
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_NAME: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_LONGEST: Final = 64


def read_signers(tables: Iterable[Table]) -> dict[str, Signer]:
    """Read ``[[signer]]`` tables, by id.

    Raises:
        Invalid: an id or a key is there twice (one key is one person), or a key is none.

    """
    found: dict[str, Signer] = {}
    keys: dict[bytes, str] = {}
    for table in tables:
        signer = _signer(table)
        public = notes.parse_vkey(signer.key).public
        if signer.id in found or public in keys:
            raise Invalid(
                f"signer {signer.id!r} is there twice",
                f"its {'id' if signer.id in found else f'key is also that of {keys[public]!r}'}",
                "one signer is one person with one key",
                param="signer",
            )
        found[signer.id], keys[public] = signer, signer.id
    return found


def _signer(table: Table) -> Signer:
    name = checked_name(table.required("id"))
    role, key = table.required("role"), table.required("key")
    if len(role) > _LONGEST or not role.isprintable():
        raise Invalid(f"{table.name('role')} is no role", "expected up to 64 printable characters")
    try:
        notes.parse_vkey(key)
    except Invalid as error:
        raise Invalid(
            f"{table.name('key')} is no verifier key",
            error.why,
            "use the line `allod policy key NAME` prints",
            param=table.name("key"),
        ) from error
    revoked: date | None
    if table.has("revoked") and isinstance(table.raw("revoked"), bool):
        revoked = date.min if table.raw("revoked") else None
    else:
        revoked = table.day("revoked")
    signer = Signer(id=name, role=role, key=key, expires=table.day("expires"), revoked=revoked)
    table.done()
    return signer


def checked_name(name: str) -> str:
    """Return a signer's name that may also name a file (raises ``Invalid``)."""
    if not 0 < len(name) <= _LONGEST or not _NAME.issuperset(name) or name.startswith("."):
        raise Invalid(
            f"{name[:80]!r} is no name of a signer", "expected at most 64 letters, digits, '-', '_' and '.'"
        )
    return name


def open_signed(note: bytes, signers: Mapping[str, Signer], what: str) -> Signed:
    """Open a signed note and say of every line whose it is and whether it holds.

    Raises:
        Integrity: it is no signed note.

    """
    try:
        parsed = notes.parse_note(note)
    except Integrity as error:
        raise Integrity(
            f"the signatures of {what} cannot be read", error.why, "have it signed again"
        ) from error
    known = {}
    for signer in signers.values():
        key = notes.parse_vkey(signer.key)
        known[key.name, key.key_id] = signer.id, key
    lines = []
    for row in parsed.signatures:
        signer_id, key_of = known.get((row.name, row.key_id), (None, None))
        holds = key_of is not None and _holds(note, key_of)
        lines.append(Line(name=row.name, signer=signer_id, holds=holds, signature=row.signature))
    return Signed(text=parsed.text, lines=tuple(lines))


def _holds(note: bytes, key: notes.VerifyKey) -> bool:
    try:
        notes.open_note(note, key)
    except Integrity:
        return False
    return True


def add_signature(note: bytes | None, text: str, key: notes.Signer) -> bytes:
    """Sign a text; signatures of others under exactly this text stay, in their order."""
    signed = key.sign(text)
    line = signed[len(text.encode()) + 1 :]
    if note is not None:
        try:
            old = notes.parse_note(note)
        except Integrity:
            old = None
        if old is not None and old.text == text:
            kept = note[len(text.encode()) + 1 :].splitlines(keepends=True)
            mine = line.rsplit(b" ", 1)[0]
            key_id = line.rsplit(b" ", 1)[1][:5]
            kept = [row for row in kept if not row.startswith(mine + b" " + key_id)]
            return text.encode() + b"\n" + b"".join(kept) + line
    return signed


def key_path(home: Home, name: str) -> Path:
    """Return where a signer's private key lies in a home unless it is kept elsewhere."""
    return home.keys / "signers" / f"{checked_name(name)}.key"


def make_key(path: Path, name: str) -> notes.Signer:
    """Make a private key, 0600, and never over one that is there.

    Raises:
        Invalid: the file exists. Unavailable: it cannot be written.

    """
    key = notes.Signer(checked_name(name), os.urandom(32))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            write_all(fd, (key.skey() + "\n").encode(), 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        sync_folder(path.parent)
    except FileExistsError as fault:
        raise Invalid(
            f"{path} exists", "a key is never written over", "take another name, or move it away"
        ) from fault
    except OSError as fault:
        raise unwritable(path, fault) from fault
    return key


def load_key(path: Path) -> notes.Signer:
    """Read a private key.

    Raises:
        Unavailable: there is none. Integrity: it is damaged, or open to others.

    """
    try:
        mode = path.stat().st_mode
        with path.open("rb") as file:
            text = file.read(MAX_KEY_BYTES).decode("ascii").strip()
    except FileNotFoundError as fault:
        raise Unavailable(
            f"there is no key at {path}",
            "got no file",
            "make one with `allod policy key NAME`, or name it with --key",
            kind="down",
        ) from fault
    except (OSError, UnicodeDecodeError) as fault:
        raise Integrity(f"{path} cannot be read", type(fault).__name__, "restore it from a backup") from fault
    if mode & _OTHERS:
        raise Integrity(
            f"{path} is open to others", f"got mode {mode & 0o777:04o}, expected 0600", "chmod 600"
        )
    try:
        return notes.parse_skey(text)
    except Integrity as fault:
        raise Integrity(f"{path} is no signing key", fault.why, "restore it from a backup") from None


def key_of(home: Home, signers: Mapping[str, Signer], who: str, path: Path | None) -> notes.Signer:
    """Return the private key of a configured signer.

    Raises:
        Invalid: there is no such signer. Integrity: the key in the file is not the signer's.

    """
    signer = signers.get(who)
    if signer is None:
        raise Invalid(
            f"there is no signer {who!r}",
            "known: " + (", ".join(signers) or "none"),
            "name one with [[signer]] id, role and key",
            param="by",
        )
    key = load_key(path or key_path(home, who))
    if key.key.vkey() != signer.key:
        raise Integrity(
            f"the key is not that of signer {who!r}",
            f"got {key.key.name}+{key.key.key_id.hex()}, expected {'+'.join(signer.key.split('+')[:2])}",
            "use the right key file, or have the new key approved first",
        )
    return key
