"""Signed declassifications of a home: ``declassified/<id>.note``, read and verified at the start.

A note that is not what a signer signed keeps the gateway from starting; one whose time is over is only told.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.gateway.ownpacks import read_bounded
from allod.gateway.signers import add_signature, checked_name, open_signed
from allod.policy.declassification import STATEMENT, Declassification
from allod.policy.signing import Signature, counted, read_statement, require, statement
from allod.store.home import unwritable, write_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from allod.domain.signer import Signer
    from allod.receipts.notes import Signer as Key
    from allod.store.home import Home

FOLDER: Final = "declassified"
MAX_NOTE_BYTES: Final = 16 << 10
MAX_NOTES: Final = 1000


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A declassification and who signed for it."""

    said: Declassification
    signatures: tuple[Signature, ...]


def folder_of(home: Home) -> Path:
    """Return where declassifications lie."""
    return home.root / FOLDER


def load(home: Home, signers: Mapping[str, Signer], day: date, *, four_eyes: bool) -> tuple[Standing, ...]:
    """Read and verify every declassification of a home that holds on a day, by id.

    Raises:
        Integrity: one is no signed statement, was changed, or lacks a signature that counts.

    """
    folder = folder_of(home)
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix == ".note")
    except FileNotFoundError:
        return ()
    except OSError as fault:
        raise Integrity(f"{folder} cannot be read", fault.strerror or str(fault), "check it") from fault
    if len(files) > MAX_NOTES:
        raise Integrity(f"{folder} holds too many notes", f"got {len(files)}, expected at most {MAX_NOTES}")
    found = [_load(path, signers, day, four_eyes=four_eyes) for path in files]
    return tuple(one for one in found if one is not None)


def _load(path: Path, signers: Mapping[str, Signer], day: date, *, four_eyes: bool) -> Standing | None:
    what = f"declassification {path.stem!r}"
    try:
        note = read_bounded(path, MAX_NOTE_BYTES)
    except OSError as fault:
        raise Integrity(f"{what} cannot be read", fault.strerror or str(fault), "check it") from fault
    signed = open_signed(note, signers, what)
    said = read_statement(signed.text, STATEMENT, Declassification, what)
    if said.id != path.stem:
        raise Integrity(f"{what} is another one", f"the statement is {said.id!r}", "name the file as it says")
    if not said.holds_on(day):
        return None
    signatures = counted(signed, signers, day, what)
    require(signatures, two=four_eyes, what=what, why="four eyes are demanded" if four_eyes else "")
    return Standing(said=said, signatures=signatures)


def sign(home: Home, said: Declassification, key: Key) -> Path:
    """Sign a declassification into its file; signatures of others under exactly this statement stay.

    Raises:
        Invalid: it says nothing, or is over already. Unavailable: the file cannot be written.

    """
    if not said.types or not said.reason.strip():
        raise Invalid("a declassification needs types and a reason", f"got {said.types}, {said.reason!r}")
    path = folder_of(home) / f"{checked_name(said.id)}.note"
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        old = read_bounded(path, MAX_NOTE_BYTES) if path.exists() else None
        write_file(path, add_signature(old, statement(STATEMENT, said), key))
    except OSError as fault:
        raise unwritable(path, fault) from fault
    return path


def waived(standing: tuple[Standing, ...], app: str, day: date) -> frozenset[str]:
    """Return the types of findings that raise nothing in an application's requests on a day."""
    held = (one.said for one in standing)
    return frozenset(t for said in held if said.app == app and said.holds_on(day) for t in said.types)
