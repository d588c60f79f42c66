"""What goes into a bundle: items of each kind, and where their bytes are. Only texts are held in memory."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

import msgspec

from allod import __version__
from allod.domain.errors import Invalid
from allod.vault import bom, carry, formats, manifest
from allod.vault.blobs import digest_of, open_regular
from allod.vault.bundle import form, layout, names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any

    from allod.vault.bundle.form import Item, Kind, Part
    from allod.vault.manifest import File
    from allod.vault.vault import Entry, Vault

MAX_TEXT_BYTES: Final = 64 * 1024 * 1024
MAX_PROGRAM_FILES: Final = 512
_WHEEL: Final = re.compile(r"allod-([0-9A-Za-z.+_]+)-.*\.whl")
_PROGRAM: Final = (".whl", ".lock", ".txt")


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of one part: where in its item, digest and size, and how to open them for reading.

    ``open`` returns a descriptor, which whoever calls it closes; ``data`` is there instead for what is small.
    """

    path: str
    digest: str
    size_bytes: int
    open: Callable[[], int] | None = None
    data: bytes = b""


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """One item to be carried."""

    kind: Kind
    name: str
    version: str
    sources: tuple[Source, ...]

    @property
    def item(self) -> Item:
        """The item as it stands in ``bundle.json`` (raises ``Integrity`` for an impossible path)."""
        parts = tuple(_part(self.kind, source) for source in self.sources)
        return layout.item(self.kind, self.name, self.version, parts)


def _part(kind: Kind, source: Source) -> Part:
    return form.Part(
        path=source.path,
        digest=source.digest,
        size_bytes=source.size_bytes,
        media_type=form.media_type(kind, source.path),
    )


def of_bytes(path: str, data: bytes) -> Source:
    """Carry a text."""
    return Source(path=path, digest=form.digest_of(data), size_bytes=len(data), data=data)


def of_path(path: str, file: Path, progress: Callable[[int], None] | None = None) -> Source:
    """Carry a file of the disk; it is digested now, and again when it is copied (raises ``Invalid``)."""
    fd = open_regular(file, str(file))
    try:
        digest, size = digest_of(fd, progress), os.fstat(fd).st_size
    finally:
        os.close(fd)
    return Source(path=path, digest=digest, size_bytes=size, open=lambda: open_regular(file, str(file)))


def model(vault: Vault, name: str, key: Any = None, chain: tuple[Any, ...] = ()) -> Content:
    """Carry a model of the vault: its files, papers, manifest and bill of materials, by the vault's digests.

    Args:
        vault: where it is.
        name: its name or digest.
        key: EC key to sign it with for tools that know OpenSSF model signing; None leaves that out.
        chain: certificates that lead from the key to a root.

    Raises:
        Invalid: there is no such model.
        Integrity: a file of it is absent, revoked, or differs from its manifest in size.

    """
    entry = vault.find(name)
    m = entry.manifest
    vault.revocations.check((m.digest, *(f.digest for f in m.files), m.template), m.name)
    sources = [
        Source(path=form.MODEL_FILES + formats.check_file_name(file.name), digest=file.digest,
               size_bytes=file.size_bytes, open=_opener(vault, entry, file))
        for file in m.files
    ]  # fmt: skip
    papers = sorted(m.blobs - {file.digest for file in m.files})
    sources += [
        of_path(form.MODEL_PAPERS + digest.removeprefix("sha256:"), vault.blobs.path(digest))
        for digest in papers
    ]
    sources += [
        of_bytes("manifest.json", manifest.encode(m)),
        of_bytes("bom.cdx.json", bom.encode(m, version=__version__)),
    ]
    if key is not None:
        sources.append(of_bytes("model.sig", carry.sign(entry, key, chain)))
    version = m.digest.removeprefix("sha256:")[:16]
    return Content(kind="model", name=m.name, version=version, sources=tuple(sources))


def _opener(vault: Vault, entry: Entry, file: File) -> Callable[[], int]:
    return lambda: vault.open_file(entry, file)


def pack(name: str, version: str, files: Mapping[str, bytes], signature: bytes | None) -> Content:
    """Carry a pack: the files of its folder by their paths in it, and the note that signs them, if any."""
    sources = [of_bytes("pack/" + path, data) for path, data in sorted(files.items())]
    if signature is not None:
        sources.append(of_bytes("pack.sig", signature))
    return Content(kind="pack", name=name, version=version, sources=tuple(sources))


def text(kind: Kind, name: str, version: str, data: bytes) -> Content:
    """Carry the one file of ``prices``, ``catalogue`` or ``revocations``."""
    return Content(kind=kind, name=name, version=version, sources=(of_bytes(f"{kind}.json", data),))


def files(kind: Kind, name: str, version: str, paths: Mapping[str, Path]) -> Content:
    """Carry files of the disk under given paths (``trust``)."""
    sources = tuple(of_path(path, file) for path, file in sorted(paths.items()))
    return Content(kind=kind, name=name, version=version, sources=sources)


def program(folder: Path, progress: Callable[[int], None] | None = None) -> Content:
    """Carry a program update: a folder with one wheel of Allod, those it needs, and a lock file with hashes.

    Raises:
        Invalid: no wheel of Allod or two, no lock file, or a file of another kind.

    """
    if not folder.is_dir():
        raise Invalid(
            f"{folder} is not a folder", "a program update is a folder of wheels", "see pip download"
        )
    there = sorted(folder.iterdir())
    bad = [path.name for path in there if not path.name.endswith(_PROGRAM)]
    ours = [found[1] for path in there if (found := _WHEEL.fullmatch(path.name))]
    locks = [path.name for path in there if path.name.endswith((".lock", ".txt"))]
    if bad or len(ours) != 1 or not locks or len(there) > MAX_PROGRAM_FILES:
        raise Invalid(
            f"{folder} is no program update",
            f"got {len(ours)} wheels of allod, {len(locks)} lock files and {bad[:4]} beside them",
            "put one wheel of allod there, the wheels it needs, and a lock file with hashes",
        )
    sources = tuple(of_path(path.name, path, progress) for path in there)
    return Content(kind="program", name="allod", version=version_text(ours[0]), sources=sources)


def version_text(version: str) -> str:
    """Return a version that a bundle can carry (raises ``Invalid``)."""
    if not names.is_version(version):
        raise Invalid(f"{version[:80]!r} is no version", "up to 128 letters, digits, dots, plus and dash")
    return version
