"""What bundles brought to a home: ``supply/``, where one small file says what serves.

Layout::

    supply/trust.toml              whom this home believes (``trust``)
    supply/state.json              the newest switch and what was imported per channel (``Known``)
    supply/current                 number and digest of the generation that serves
    supply/generations/<n>.json    everything that serves from switch n on, each file by its digest
    supply/objects/<hex>           those files
    supply/receipts/<n>.dsse.json  the signed import receipt of switch n
    supply/incoming/<hex>/         an import under way (``staging``); its weights are in vault/incoming/<hex>/

A generation is whole: what a new bundle does not bring is taken over from the one before. Readers begin at
``current`` and follow digests, so that what an import has written does not exist for them before ``current``
is replaced, in one rename. Every switch has a number one higher than the last, a return to an older
generation too: bytes of the past in ``current`` or ``state.json`` contradict each other, and the log.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.receipts.canonical import canonical, parse
from allod.vault.blobs import open_regular
from allod.vault.bundle.form import Kind, Known
from allod.vault.bundle.verify import Step

if TYPE_CHECKING:
    from pathlib import Path

FORMAT: Final = "allod-supply-1"
MAX_BYTES: Final = 32 * 1024 * 1024
MAX_FILE_BYTES: Final = 64 * 1024 * 1024
"""The largest file of a supply that is read whole; weights and programs never are."""
USED: Final = frozenset({"pack", "prices", "catalogue", "revocations", "trust"})
"""Kinds whose every file a start reads; of a model it reads the manifest."""
MANIFEST: Final = "manifest.json"
_S = TypeVar("_S", bound=msgspec.Struct)


class File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of an item: path within the item, ``sha256:`` digest, size in bytes."""

    path: str
    digest: str
    size_bytes: int


class Origin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bundle something came with; ``source`` is the origin of its publisher's log."""

    digest: str
    channel: str
    number: int
    source: str


class Held(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An item in force: ``digest`` as in its bundle, ``files`` as they lie in ``objects``.

    Of a model these are its manifest as the vault wrote it, its bill of materials and its signature: weights
    and papers lie in the vault.
    """

    kind: Kind
    name: str
    version: str
    digest: str
    origin: Origin
    files: tuple[File, ...]

    @property
    def key(self) -> tuple[str, str]:
        """Kind and name: of these there is one in force."""
        return self.kind, self.name


class Generation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that serves from one switch on.

    Attributes:
        serial: number of the switch, from 1; follows: digest of the generation before, or empty.
        at: RFC 3339; cause: an import, or a return to what served before.
        bundle: what was imported; items_in: kind and name of what it brought. For a return, None and nothing.
        returned: the serial that a return goes back to, else 0.
        expires: RFC 3339 of when the update metadata of the newest bundle expires; the supply is old then.
        signers, stale, steps, importer: what was found of the bundle, and the version of Allod that looked.
        trust: digest of ``trust.toml`` at that time.
        known: what was imported per channel.
        items: everything in force, sorted by kind and name.

    """

    format: str
    serial: int
    follows: str
    at: str
    cause: Literal["import", "rollback"]
    known: Known
    items: tuple[Held, ...]
    bundle: Origin | None = None
    items_in: tuple[tuple[str, str], ...] = ()
    returned: int = 0
    signers: tuple[str, ...] = ()
    stale: str = ""
    expires: str = ""
    steps: tuple[Step, ...] = ()
    importer: str = ""
    trust: str = ""

    @property
    def digest(self) -> str:
        """The ``sha256:`` digest of its bytes."""
        return digest_of(encode(self))

    def old(self, now: str) -> str:
        """Say since when a newer bundle is due that did not come, or nothing; ``now`` is RFC 3339."""
        if not self.expires or now < self.expires:
            return ""
        return f"what bundles brought is old: the newest was due to be replaced by {self.expires}"


class Current(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which generation serves."""

    format: str
    serial: int
    digest: str


class State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The newest switch that was finished, and what was imported until then."""

    format: str
    serial: int
    digest: str
    known: Known


class Supply:
    """The supply of one home; making one of these touches nothing."""

    def __init__(self, root: Path) -> None:
        """Take the home's state folder."""
        self.root = root / "supply"

    @property
    def trust(self) -> Path:
        """Whom this home believes."""
        return self.root / "trust.toml"

    @property
    def incoming(self) -> Path:
        """Imports under way."""
        return self.root / "incoming"

    def generation_path(self, serial: int) -> Path:
        """Return where a generation lies."""
        return self.root / "generations" / f"{serial}.json"

    def object_path(self, digest: str) -> Path:
        """Return where a file lies by its digest."""
        return self.root / "objects" / digest.removeprefix("sha256:")

    def receipt_path(self, serial: int) -> Path:
        """Return where the import receipt of a switch lies."""
        return self.root / "receipts" / f"{serial}.dsse.json"

    def current(self) -> Current | None:
        """Return which generation serves, None where nothing was ever imported (raises ``Integrity``)."""
        raw = self._small("current")
        return None if raw is None else _decode(raw, Current, "supply/current")

    def state(self) -> State | None:
        """Return the newest finished switch, None before the first (raises ``Integrity``)."""
        raw = self._small("state.json")
        return None if raw is None else _decode(raw, State, "supply/state.json")

    def generation(self, serial: int, digest: str | None = None) -> Generation:
        """Read one generation; ``digest`` is what its bytes must have.

        Raises:
            Integrity: it is absent, cannot be read, or is another.

        """
        raw = self._small(f"generations/{serial}.json")
        if raw is None:
            raise _broken(f"supply/generations/{serial}.json", "it is not there")
        if digest is not None and digest_of(raw) != digest:
            raise _broken(f"supply/generations/{serial}.json", f"got {digest_of(raw)}, expected {digest}")
        found = _decode(raw, Generation, f"supply/generations/{serial}.json")
        if found.serial != serial:
            raise _broken(f"supply/generations/{serial}.json", f"it is number {found.serial}")
        return found

    def serving(self) -> Generation | None:
        """Return what serves, held against ``state.json``; None where nothing was ever imported.

        A switch that a crash kept from being noted is in force.

        Raises:
            Integrity: ``current`` or ``state.json`` is gone, altered or of the past.

        """
        current, state = self.current(), self.state()
        if current is None:
            if state is None:
                return None
            raise _broken("supply/current", f"it is gone; switch {state.serial} was made")
        found = self.generation(current.serial, current.digest)
        before = (0, "") if state is None else (state.serial, state.digest)
        if (current.serial, current.digest) != before and (found.serial - 1, found.follows) != before:
            raise _broken(
                "supply/",
                f"current is switch {current.serial} ({current.digest[:19]}), state.json knows "
                f"{before[0]} ({before[1][:19] or 'nothing'}): one of them is of another time",
            )
        return found

    def known(self) -> Known:
        """Return what was imported per channel (raises as ``serving``)."""
        found = self.serving()
        return Known() if found is None else found.known

    def read(self, file: File, limit: int = MAX_FILE_BYTES) -> bytes:
        """Return a file by its digest.

        Raises:
            Integrity: it is absent, longer than ``limit`` bytes, or altered.

        """
        label = f"supply/objects/{file.digest.removeprefix('sha256:')} ({file.path})"
        path = self.object_path(file.digest)
        try:
            fd = open_regular(path, label)
        except Invalid as error:
            raise _broken(label, error.why) from error
        with os.fdopen(fd, "rb") as source:
            raw = source.read(min(limit, file.size_bytes) + 1)
        if len(raw) != file.size_bytes or digest_of(raw) != file.digest:
            raise _broken(label, f"got {len(raw)} bytes with {digest_of(raw)}, expected {file.size_bytes}")
        return raw

    def files(self, held: Held, prefix: str = "") -> dict[str, bytes]:
        """Read an item's files by path, each checked; only those under ``prefix``, which is cut off."""
        return {
            file.path.removeprefix(prefix): self.read(file)
            for file in held.files
            if file.path.startswith(prefix)
        }

    def _small(self, name: str) -> bytes | None:
        path = self.root / name
        try:
            fd = open_regular(path, f"supply/{name}")
        except Invalid as error:
            if not path.is_symlink() and not path.exists():
                return None
            raise _broken(f"supply/{name}", error.why) from error
        with os.fdopen(fd, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise _broken(f"supply/{name}", f"it has more than {MAX_BYTES} bytes")
        return raw


def digest_of(raw: bytes) -> str:
    """Digest bytes as ``sha256:`` and hex."""
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def encode(value: msgspec.Struct) -> bytes:
    """Write one of the files of a supply in canonical form."""
    fields: Any = msgspec.to_builtins(value)
    return canonical(fields)


def _decode(raw: bytes, kind: type[_S], what: str) -> _S:
    try:
        found = msgspec.convert(parse(raw, what=what), kind)
    except msgspec.ValidationError as error:
        raise _broken(what, str(error)) from error
    if getattr(found, "format", FORMAT) != FORMAT:
        raise _broken(what, f"its format is {found.format!r}, expected {FORMAT}")  # type: ignore[attr-defined]
    return found


def _broken(what: str, why: str) -> Integrity:
    return Integrity(
        f"{what} is not what was imported",
        why,
        "stop, find out who wrote there, and restore supply/ as a whole from a backup of this home",
    )
