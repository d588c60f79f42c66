"""Putting an approved change into place: a crash at any instant leaves the old or the new, never a mix.

A home's ``changes/``::

    lock                      held by whoever proposes, approves or places
    open/<id>/                a proposal: proposal.note, configuration.toml, difference.txt, packs/
    <number>-<id>/            the same once approved, with approval.note
    placing                   the name of the change that is being put into place
    accepted/, own/           what the gateway last accepted of own packs (``standing``)

A change is approved in the moment its folder gets its number (one rename). ``placing`` is written before
that and removed after the files are in place: whoever finds it finishes the work, or, where the rename did
not happen, removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from allod.domain.errors import Integrity
from allod.gateway.ownpacks import own_folder, read_folder, read_note, signature_file
from allod.store.home import sync_folder, unwritable, write_file

if TYPE_CHECKING:
    from allod.store.home import Home

PROPOSAL: Final = "proposal.note"
APPROVAL: Final = "approval.note"
CONFIGURATION: Final = "configuration.toml"
DIFFERENCE: Final = "difference.txt"
_PACK: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
_NAME: Final = re.compile(r"([0-9]{4,9})-([0-9a-f]{12})")


def folder_of(home: Home) -> Path:
    """Return where changes lie."""
    return home.root / "changes"


@contextlib.contextmanager
def locked(home: Home) -> Iterator[Path]:
    """Hold the changes of a home; others wait. Yields the folder.

    Raises:
        Unavailable: the folder cannot be made.

    """
    folder = folder_of(home)
    try:
        (folder / "open").mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as fault:
        raise unwritable(folder, fault) from fault
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        _finish(home, folder)
        yield folder
    except OSError as fault:
        raise unwritable(folder, fault) from fault
    finally:
        os.close(fd)


def settle(home: Home) -> None:
    """Finish what a crash interrupted; costs one look where nothing was."""
    if (folder_of(home) / "placing").exists():
        with locked(home):
            pass


def approved(home: Home) -> list[tuple[int, Path]]:
    """Return the folders of approved changes with their numbers, in order.

    Raises:
        Integrity: a number is missing or there twice.

    """
    found = []
    folder = folder_of(home)
    if folder.is_dir():
        for entry in folder.iterdir():
            match = _NAME.fullmatch(entry.name)
            if match:
                found.append((int(match[1]), entry))
    found.sort()
    numbers = [number for number, _ in found]
    if numbers != list(range(1, len(numbers) + 1)):
        raise Integrity(
            f"approved changes are missing in {folder}",
            f"got numbers {numbers[:20]}, expected 1 to {len(numbers)}",
            "restore the folder from the backup of this home",
        )
    return found


def commit(home: Home, proposal: Path, number: int) -> Path:
    """Make a proposal with its approval the change in force: rename, then put into place. Under the lock."""
    folder = folder_of(home)
    final = folder / f"{number:04d}-{proposal.name}"
    write_file(folder / "placing", (final.name + "\n").encode(), 0o600)
    proposal.rename(final)
    sync_folder(folder)
    sync_folder(folder / "open")
    _finish(home, folder)
    return final


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a new folder of files, durably."""
    folder.mkdir(mode=0o700, parents=True)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(path, data)
    sync_folder(folder.parent)


def own_files(change: Path) -> dict[str, tuple[dict[str, bytes], bytes]]:
    """Return the home's own packs in a change: files and signatures, by id; those with a ``.sig`` are own.

    Raises:
        Integrity: something there has a name no pack has.

    """
    out = {}
    for note in sorted((change / "packs").glob("*.sig")):
        name = note.name.removesuffix(".sig")
        if not _PACK.fullmatch(name):
            raise Integrity(f"{note} is of no pack", f"got the name {name[:40]!r}", "remove it")
        out[name] = (read_folder(change / "packs" / name), read_note(note, f"pack {name!r}"))
    return out


def _finish(home: Home, folder: Path) -> None:
    marker = folder / "placing"
    try:
        name = marker.read_text("ascii", "replace").strip()
    except FileNotFoundError:
        return
    change = folder / name
    if _NAME.fullmatch(name) and change.is_dir():
        _place(home, change)
    marker.unlink()
    sync_folder(folder)


def _place(home: Home, change: Path) -> None:
    """Copy configuration and own packs of an approved change; safe to repeat from any point."""
    root = own_folder(home)
    own = own_files(change)
    if own:
        root.mkdir(mode=0o700, exist_ok=True)
    for name, (files, note) in own.items():
        target = root / name
        if not target.is_dir() or read_folder(target) != files:
            fresh = root / f".{name}.new"
            shutil.rmtree(fresh, ignore_errors=True)
            write_folder(fresh, files)
            shutil.rmtree(target, ignore_errors=True)
            fresh.rename(target)
        if not signature_file(target).is_file() or signature_file(target).read_bytes() != note:
            write_file(signature_file(target), note)
        sync_folder(root)
    text = (change / CONFIGURATION).read_bytes()
    if not home.config.is_file() or home.config.read_bytes() != text:
        write_file(home.config, text)
