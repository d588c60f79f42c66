"""The home's own packs: ``packs/<id>/`` with the signed note ``packs/<id>.sig`` beside it.

A pack of the home is in force only with signatures of configured signers that are true for exactly these
files. Packs that lie there and are not named by the tenant are not read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import AllodError, Integrity, Unavailable
from allod.domain.signer import Signer
from allod.gateway.packs import Found
from allod.gateway.signers import open_signed
from allod.policy.forms import Pack
from allod.policy.pack import MAX_FILE_BYTES, MAX_FILES, load_pack
from allod.policy.signing import PackStatement, Signature, verify_pack

if TYPE_CHECKING:
    from allod.gateway.packs import Packs
    from allod.store.home import Home

HOME: Final = "home"
MAX_PACK_BYTES: Final = 8 << 20
MAX_NOTE_BYTES: Final = 64 << 10
MAX_DEPTH: Final = 3


class OwnPack(msgspec.Struct, frozen=True, kw_only=True):
    """A pack of the home that is in force, and who signed for it."""

    pack: Pack
    signatures: tuple[Signature, ...]


class Node:
    """A folder or file of a pack, read into memory once: what was checked is what is used."""

    def __init__(self, path: Path, name: str | None = None, data: bytes | None = None) -> None:
        self.path, self.name, self._data = path, name or path.name, data

    def __str__(self) -> str:
        return str(self.path)

    @cached_property
    def files(self) -> dict[str, bytes]:
        """The files by path relative to the pack's folder."""
        return read_folder(self.path)

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return self._data is None

    def iterdir(self) -> Iterator[Node]:
        """Go through all files; their names are whole paths."""
        for name, data in self.files.items():
            yield Node(self.path / name, name, data)

    def read_bytes(self) -> bytes:
        """Return a file's bytes."""
        return self._data or b""

    def joinpath(self, name: str) -> Node:
        """Return one file (raises FileNotFoundError)."""
        if name not in self.files:
            raise FileNotFoundError(f"{self.path / name} is not there")
        return Node(self.path / name, name, self.files[name])


def own_folder(home: Home) -> Path:
    """Return where the home's own packs lie."""
    return home.root / "packs"


def own_packs(folder: Path) -> list[Found]:
    """Name the packs in a folder without reading them."""
    try:
        entries = sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [
        Found(id=entry.name, origin=HOME, folder=Node(entry))
        for entry in entries
        if not entry.name.startswith(".") and entry.is_dir() and not entry.is_symlink()
    ]


def read_folder(folder: Path) -> dict[str, bytes]:
    """Read a pack's files within bounds; links, devices and anything else are refused.

    Raises:
        Integrity: it is no such folder, or too much is in it. Unavailable: it cannot be read.

    """
    out: dict[str, bytes] = {}
    try:
        _read(folder, "", out, 0)
    except FileNotFoundError as fault:
        raise Unavailable(
            f"there is no pack at {folder}", f"got no {fault.filename}", "check the path", kind="down"
        ) from fault
    except OSError as fault:
        raise Integrity(f"{folder} cannot be read", fault.strerror or str(fault), "check it") from fault
    return out


def _read(folder: Path, prefix: str, out: dict[str, bytes], depth: int) -> None:
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        name = prefix + entry.name
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode) and depth < MAX_DEPTH:
            _read(folder / entry.name, f"{name}/", out, depth + 1)
            continue
        if not stat.S_ISREG(mode):
            raise Integrity(
                f"{folder / entry.name} has no place in a pack", "got a link or a device", "remove it"
            )
        if entry.name.endswith((".py", ".pyc")):
            raise Integrity(f"{folder / entry.name} has no place in a pack", "got a program", "remove it")
        out[name] = read_bounded(folder / entry.name, MAX_FILE_BYTES)
        if len(out) > MAX_FILES or sum(map(len, out.values())) > MAX_PACK_BYTES:
            raise Integrity(
                f"{folder} is too large for a pack",
                f"got {len(out)} files, expected at most {MAX_FILES} with {MAX_PACK_BYTES} bytes",
            )


def read_bounded(path: Path, limit: int, *, follow: bool = False) -> bytes:
    """Read a file of at most so many bytes, through a link only to ``follow`` (raises Integrity, OSError)."""
    how = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    fd = os.open(path, how)
    with os.fdopen(fd, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Integrity(f"{path} is too large", f"got more than {limit} bytes")
    return data


def signature_file(folder: Path) -> Path:
    """Return where the signatures of a pack lie: beside its folder."""
    return folder.with_name(folder.name + ".sig")


def read_note(path: Path, what: str) -> bytes:
    """Read a signed note (raises ``Integrity``)."""
    try:
        return read_bounded(path, MAX_NOTE_BYTES)
    except FileNotFoundError as fault:
        raise Integrity(
            f"{what} is not signed", f"got no {path}", "sign it with `allod policy sign DIR --by SIGNER`"
        ) from fault
    except OSError as fault:
        raise Integrity(f"{path} cannot be read", fault.strerror or str(fault)) from fault


def load_pack_at(folder: Path, schema: str) -> Pack:
    """Read and check the pack in a folder, under the base pack's schema."""
    return load_pack(read_folder(folder), schema)


def statement_of(pack: Pack) -> PackStatement:
    """Return what a signature under a pack says."""
    return PackStatement(id=pack.id, version=pack.version, digest=pack.digest)


def verify_own(
    packs: Packs, names: Iterable[str], signers: Mapping[str, Signer], day: date
) -> tuple[OwnPack, ...]:
    """Load the home's packs among these names and verify who signed for them.

    Raises:
        Integrity: one is not signed, or not by configured signers whose keys hold on this UTC day, or what
            was signed is another id, version or content.
        Invalid: one is not what a pack has to be.

    """
    out = []
    for name in dict.fromkeys(names):
        found = packs.found.get(name)
        if found is None or found.origin != HOME:
            continue
        pack = packs.load(name)
        what = f"pack {name!r} of this home"
        signed = open_signed(read_note(signature_file(found.folder.path), what), signers, what)
        signatures = verify_pack(signed, statement_of(pack), signers, day)
        out.append(OwnPack(pack=pack, signatures=signatures))
    return tuple(out)


def widening(before: Pack | None, after: Pack, law: tuple[Pack, ...], day: date) -> str | None:
    """Say why a pack's new version may allow more than the one in force before; None if it cannot.

    ``law`` is all that is in force with it, in order, base among it; ``before`` is None for a first version,
    which only forbids, unless it brings weights of sovereignty. Without the prover (``allod[prove]``), and
    where it finds no answer, a change counts as a widening.
    """
    if after.weighting is None if before is None else before.digest == after.digest:
        return None
    was = tuple(one if one.id != after.id else before for one in law)
    from allod.policy.proof.refine import widens  # noqa: PLC0415 (only for a new version)

    try:
        found = widens((one for one in was if one is not None), law, day)
    except AllodError as error:
        return f"not proved ({error.what}), so it counts as a widening"
    return None if found is None else f"from {found.day}: {found.text}"
