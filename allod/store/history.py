"""The notes by which a home's log key changed: ``keys/history/NNNN.note``, oldest first."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from allod.domain.errors import Integrity
from allod.receipts.rotation import KeyRing, follow, read_rotation
from allod.store.home import Home, load_keys, unwritable, write_file

MAX_NOTE_BYTES: Final = 4096
_PENDING: Final = "pending.note"


def folder(home: Home) -> Path:
    """Return where the notes are."""
    return home.keys / "history"


def notes(home: Home) -> tuple[bytes, ...]:
    """Return the notes, a rotation that a crash kept from its place included (raises Integrity)."""
    found = [_read(path) for path in sorted(folder(home).glob("[0-9]*.note"))]
    pending = folder(home) / _PENDING
    if pending.exists():
        note = _read(pending)
        if read_rotation(note).new == load_keys(home).signer.key and note not in found:
            found.append(note)
    return tuple(found)


def key_ring(home: Home) -> KeyRing:
    """Return all keys the home's log has had, from the one in force (raises Integrity)."""
    return follow(load_keys(home).signer.key, notes(home))


def announce(home: Home, note: bytes) -> None:
    """Keep a rotation that is about to happen (raises Unavailable)."""
    _write(home, _PENDING, note)


def settle(home: Home) -> None:
    """Give a rotation that has happened its place, and forget one that has not (raises as ``notes``)."""
    pending = folder(home) / _PENDING
    if not pending.exists():
        return
    done = notes(home)
    for number, note in enumerate(done, 1):
        path = folder(home) / f"{number:04d}.note"
        if not path.exists():
            _write(home, path.name, note)
    pending.unlink(missing_ok=True)


def add(home: Home, note: bytes) -> None:
    """Add a note (raises Unavailable)."""
    _write(home, f"{len(notes(home)) + 1:04d}.note", note)


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as fault:
        raise Integrity(f"{path} cannot be read", str(fault), "restore it from a backup") from fault
    if len(data) > MAX_NOTE_BYTES:
        raise Integrity(
            f"{path} is too long for a note", f"got {len(data)} bytes", "restore it from a backup"
        )
    return data


def _write(home: Home, name: str, note: bytes) -> None:
    path = folder(home) / name
    try:
        folder(home).mkdir(mode=0o700, exist_ok=True)
        write_file(path, note)
    except OSError as fault:
        raise unwritable(path, fault) from fault
