"""Where packs are found: shipped, installed by others, and the home's own. Only those asked for are read.

A pack is checked whole when it is loaded, which takes a moment.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.errors import Invalid
from allod.policy.forms import Pack
from allod.policy.pack import BASE, load_pack, unknown_name

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.resources.abc import Traversable

ENTRY_POINTS: Final = "allod.packs"
BUNDLE: Final = "bundle"
MAX_FILE_BYTES: Final = 1 << 20


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A pack that is there: id, folder, and origin (``shipped``, ``installed``, ``bundle``, ``home``)."""

    id: str
    origin: str
    folder: Any


class Packs:
    """Every pack there is, by id; each is loaded once, when it is first asked for.

    Raises:
        Invalid: two packs share an id.

    """

    def __init__(self, found: Iterable[Found]) -> None:
        self.found: dict[str, Found] = {}
        for one in found:
            if one.id in self.found:
                raise Invalid(
                    f"pack {one.id!r} is there twice",
                    f"{self.found[one.id].origin} and {one.origin}",
                    "keep one version of it",
                )
            self.found[one.id] = one
        self._loaded: dict[str, Pack] = {}

    def classes(self, name: str) -> tuple[str, ...]:
        """Return the data classes a pack brings; none where there is no such pack.

        Raises:
            Invalid: its manifest cannot be read.

        """
        if name not in self.found:
            return ()
        folder = self.found[name].folder
        try:
            manifest = tomllib.loads(folder.joinpath("pack.toml").read_bytes()[:MAX_FILE_BYTES].decode())
            return tuple(str(each) for each in manifest.get("classes", ()))
        except (OSError, TypeError, ValueError, RecursionError) as error:
            raise Invalid(f"{folder} is no pack", f"pack.toml: {error}", "correct or remove it") from error

    def load(self, name: str) -> Pack:
        """Load one pack.

        Raises:
            Invalid: there is none of this id, or it is not what a pack has to be.
            Integrity: it is none at all.

        """
        if name not in self._loaded:
            if name not in self.found:
                raise unknown_name("asked for pack", name, self.found)
            schema = None if name == BASE else self.load(BASE).schema
            pack = load_pack(files_of(self.found[name].folder), schema)
            if pack.id != name:
                raise Invalid(f"the folder of pack {name!r} holds pack {pack.id!r}", "", "rename one")
            self._loaded[name] = pack
        return self._loaded[name]

    def some(self, names: Iterable[str]) -> tuple[Pack, ...]:
        """Load those of these packs that are there, base first; ``Policy`` tells what is not."""
        wanted = dict.fromkeys((BASE, *names))
        return tuple(self.load(name) for name in wanted if name in self.found)

    def all(self) -> tuple[Pack, ...]:
        """Load every pack."""
        return self.some(self.found)


def find(*more: Found) -> Packs:
    """Look for packs: those shipped, those of the entry points ``allod.packs``, and ``more``.

    A pack that a bundle brought stands in the place of a shipped one of its id.
    A shipped folder is named as the pack is, with underscores; an entry point has the pack's id as its
    name and names a package whose files are the pack.
    """
    shipped = sorted(resources.files("allod.policy.packs").iterdir(), key=lambda entry: entry.name)
    found = [
        Found(id=entry.name.replace("_", "-"), origin="shipped", folder=entry)
        for entry in shipped
        if entry.is_dir() and not entry.name.startswith("_")
    ]
    found += [
        Found(id=entry.name, origin="installed", folder=resources.files(entry.value))
        for entry in entry_points(group=ENTRY_POINTS)
    ]
    newer = {one.id for one in more if one.origin == BUNDLE}
    return Packs((*(one for one in found if one.origin != "shipped" or one.id not in newer), *more))


def files_of(folder: Traversable, prefix: str = "") -> dict[str, bytes]:
    """Read a pack's files, by path relative to its folder; Python files around them are left out."""
    out: dict[str, bytes] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            if not entry.name.startswith("__"):
                out |= files_of(entry, f"{prefix}{entry.name}/")
        elif not entry.name.endswith((".py", ".pyc")):
            out[prefix + entry.name] = entry.read_bytes()
    return out
