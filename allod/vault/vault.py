"""The vault: weights by digest, from a file of the world to something an engine may load."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.domain.fleet import Weights
from allod.domain.money import rfc3339
from allod.vault import gguf, manifest, model
from allod.vault.blobs import Blobs, digest_of, make_private, open_regular, storage_errors, sync_folder
from allod.vault.manifest import File, Manifest, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from allod.vault.gguf import Header

SHIPPED_MANIFEST: Final = "manifest.json"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A model or adapter of the vault and where its file lies."""

    manifest: Manifest
    path: str
    shipped: bool

    @property
    def digest(self) -> str:
        """The ``sha256:`` digest the file must have."""
        return self.manifest.digest


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine loads: weights, perhaps an adapter on them, and the template inside the weights.

    ``template`` is None for weights that carry none.
    """

    name: str
    weights: Entry
    adapter: Entry | None
    template: str | None

    @property
    def facts(self) -> Weights:
        """What policy may know; the jurisdiction is unknown where base and adapter differ in theirs."""
        place = self.weights.manifest.maker_jurisdiction
        if self.adapter is not None and self.adapter.manifest.maker_jurisdiction != place:
            place = None
        return Weights(
            weights=self.weights.digest,
            adapter=None if self.adapter is None else self.adapter.digest,
            template=self.weights.manifest.template,
            maker_jurisdiction=place,
            verified=True,
        )


def shipped_folder() -> Path:
    """Return the folder of the models this package carries."""
    return Path(__file__).parent / "shipped"


def inspect(fd: int) -> tuple[Header, model.Facts, tuple[str, ...]]:
    """Check a GGUF file of any origin: structure, vocabulary, templates (raises ``Invalid``)."""
    from allod.vault import template  # noqa: PLC0415 (brings jinja2, which only adding a model needs)

    header = gguf.read(fd)
    facts = model.facts(header)
    flags = tuple(flag for text in header.templates.values() for flag in template.check(text))
    return header, facts, flags


class Vault:
    """The vault of one home, and the models shipped with the package.

    Args:
        root: the ``vault`` folder; made at the first ``add``.
        shipped: the folder of shipped models, or None for those of this package.
        clock: UTC milliseconds, for ``added_at``.

    """

    def __init__(
        self, root: str | Path, shipped: str | Path | None = None, *, clock: Callable[[], int] | None = None
    ) -> None:
        self._root = Path(root)
        self._blobs = Blobs(self._root / "blobs" / "sha256", self._root)
        self._manifests = self._root / "manifests"
        self._shipped_folder = Path(shipped) if shipped is not None else shipped_folder()
        self._clock = clock or (lambda: time.time_ns() // 1_000_000)

    @property
    def root(self) -> Path:
        """The folder of this vault."""
        return self._root

    # -- reading

    def _shipped(self) -> Mapping[str, Entry]:
        """Read the package's own manifest: trusted because the package is."""
        path = self._shipped_folder / SHIPPED_MANIFEST
        if not path.exists():
            return {}
        try:
            listed = manifest.decode_shipped(path.read_bytes())
        except OSError as error:
            raise Integrity("the shipped models cannot be read", str(error), "reinstall allod") from error
        return {
            name: Entry(
                manifest=entry, path=str(self._shipped_folder / Path(entry.files[0].name).name), shipped=True
            )
            for name, entry in listed.items()
        }

    def _own(self, name: str) -> Entry | None:
        path = self._manifests / f"{name}.json"
        try:
            fd = open_regular(path, f"the manifest of {name}")
        except Invalid as error:
            if not path.is_symlink() and not path.exists():
                return None
            raise Integrity(f"the manifest of {name} cannot be used", error.why, "remove it") from error
        with os.fdopen(fd, "rb") as file:
            raw = file.read(manifest.MAX_MANIFEST_BYTES + 1)
        if len(raw) > manifest.MAX_MANIFEST_BYTES:
            raise Integrity(f"the manifest of {name} cannot be used", "it is too long", "remove it")
        entry = manifest.decode(raw, name)
        return Entry(manifest=entry, path=str(self._blobs.path(entry.digest)), shipped=False)

    def list(self) -> tuple[Entry, ...]:
        """Return everything there is, shipped models first, then by name.

        Raises:
            Integrity: a manifest is broken.

        """
        shipped = self._shipped()
        names = sorted(path.stem for path in self._manifests.glob("*.json"))
        own = (self._own(name) for name in names if name not in shipped and manifest.is_name(name))
        return (*shipped.values(), *(entry for entry in own if entry is not None))

    def find(self, name: str) -> Entry:
        """Return the entry of a name or a ``sha256:`` digest.

        Raises:
            Invalid: there is none (``kind`` model).
            Integrity: its manifest is broken.

        """
        if manifest.is_digest(name):
            for entry in self.list():
                if entry.digest == name:
                    return entry
        else:
            found = self._shipped().get(manifest.check_name(name)) or self._own(name)
            if found is not None:
                return found
        known = ", ".join(entry.manifest.name for entry in self.list()) or "nothing"
        raise Invalid(
            f"the vault holds no {name}", f"it holds {known}", "add it with `allod vault add`", kind="model"
        )

    def resolve(self, name: str, adapter: str | None = None) -> Model:
        """Return what to load for a name or digest; naming an adapter loads its base with it.

        The file's presence, size and template are checked here; its digest is checked by whoever loads it, on
        the very descriptor it loads (I5), and by ``verify``.

        Raises:
            Invalid: unknown name, an adapter of other weights, or an adapter where weights must be.
            Integrity: a file is absent or differs from its manifest.

        """
        weights, over = self.find(name), None if adapter is None else self.find(adapter)
        if weights.manifest.kind == "adapter":
            if over is not None and over.digest != weights.digest:
                raise Invalid(f"{name} is an adapter already", f"{adapter} cannot be loaded on top of it")
            over, weights = weights, self.find(weights.manifest.base or "")
        if over is not None:
            self._check_adapter(weights, over)
            self._check_file(over)
        return Model(name=name, weights=weights, adapter=over, template=self._check_file(weights))

    def _check_adapter(self, weights: Entry, adapter: Entry) -> None:
        label = adapter.manifest.name
        if weights.manifest.kind != "model" or adapter.manifest.kind != "adapter":
            raise Invalid(f"{label} is not an adapter", f"it is a {adapter.manifest.kind}", param="adapter")
        if adapter.manifest.base != weights.digest:
            raise Invalid(
                f"{label} does not belong to {weights.manifest.name}",
                f"its base is {adapter.manifest.base}, the weights are {weights.digest}",
                "an adapter is trained on one base and only served with it",
                param="adapter",
            )

    def open(self, entry: Entry) -> int:
        """Open an entry's file by a descriptor that the caller closes; its digest is not checked here.

        Raises:
            Integrity: absent, not a regular file, or of another size than the manifest says.

        """
        label = entry.manifest.name
        try:
            fd = open_regular(entry.path, f"the file of {label}")
        except Invalid as error:
            raise Integrity(f"the file of {label} is not there", error.why, "add it again") from error
        size = os.fstat(fd).st_size
        if size != entry.manifest.size_bytes:
            os.close(fd)
            raise Integrity(
                f"the file of {label} is not what was verified",
                f"got {size} bytes, the manifest says {entry.manifest.size_bytes}",
                "add it again from its source",
            )
        return fd

    def _check_file(self, entry: Entry) -> str | None:
        """Check presence, size, structure and template; return the template's text."""
        fd = self.open(entry)
        try:
            text = gguf.read(fd).templates.get("")
        except Invalid as error:
            raise Integrity(
                f"the file of {entry.manifest.name} is not what was verified", error.why, "add it again"
            ) from error
        finally:
            os.close(fd)
        digest = None if text is None else manifest.text_digest(text)
        if digest != entry.manifest.template:
            raise Integrity(
                f"the chat template of {entry.manifest.name} is not what was verified",
                f"got {digest}, the manifest says {entry.manifest.template}",
                "add it again from its source",
            )
        return text

    def verify(self, name: str, progress: Callable[[int], None] | None = None) -> Entry:
        """Read the whole file of a name or digest again and compare; ``progress`` is told bytes.

        Raises:
            Invalid: unknown name.
            Integrity: the file is absent, changed, or fails a structural check.

        """
        entry = self.find(name)
        self._check_file(entry)
        fd = self.open(entry)
        try:
            got = digest_of(fd, progress)
        finally:
            os.close(fd)
        if got != entry.digest:
            raise Integrity(
                f"the file of {entry.manifest.name} is not what was verified",
                f"got {got}, the manifest says {entry.digest}",
                "remove it, find out who wrote it, and add it again from its source",
            )
        return entry

    # -- writing

    def add(
        self,
        path: str | Path,
        name: str | None = None,
        *,
        base: str | None = None,
        licence: str | None = None,
        maker: str | None = None,
        maker_jurisdiction: str | None = None,
        source: Source | None = None,
        digest: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Entry:
        """Check a GGUF file, take a copy by digest, and write its manifest.

        Args:
            path: a regular file.
            name: vault name; the file's own name without its ending if absent.
            base: for an adapter, name or digest of the weights it belongs to.
            licence, maker, maker_jurisdiction, source: what is known of its origin.
            digest: what the file must have, or nothing is kept.
            progress: told the bytes copied.

        Raises:
            Invalid: not an acceptable file, name taken by other weights (``conflict``), base missing.
            Integrity: the file changed while it was read, or is not the one that ``digest`` names.
            Unavailable: disk full or failing; nothing is left behind.

        """
        origin = Path(path)
        label = manifest.check_name(name if name is not None else origin.stem.lower())
        manifest.check_place(maker_jurisdiction)
        if label in self._shipped():
            raise Invalid(
                f"{label} is a shipped model", "its name is taken", "choose another", kind="conflict"
            )
        fd = open_regular(origin, str(origin))
        try:
            header, facts, flags = inspect(fd)
            base_digest = self._base(facts, base)
            got, size = self._blobs.take(fd, lambda copy, got: _same(copy, header, got, digest), progress)
        finally:
            os.close(fd)
        entry = _manifest(label, File(name=origin.name, digest=got, size_bytes=size), header, facts)
        return self._write(
            msgspec.structs.replace(
                entry,
                added_at=rfc3339(self._clock()),
                base=base_digest,
                template_flags=flags,
                licence=licence or facts.licence,
                maker=maker,
                maker_jurisdiction=maker_jurisdiction,
                source=source,
            )
        )

    def _base(self, facts: model.Facts, base: str | None) -> str | None:
        if (facts.kind == "adapter") != (base is not None):
            raise Invalid(
                "an adapter belongs to one base" if base is None else "only an adapter has a base",
                f"this file is a {facts.kind}",
                "name the base with --base" if base is None else "leave the base out",
                param="base",
            )
        if base is None:
            return None
        entry = self.find(base)
        if entry.manifest.kind != "model" or entry.manifest.architecture != facts.architecture:
            raise Invalid(
                f"{base} cannot be the base of this adapter",
                f"it is a {entry.manifest.kind} of {entry.manifest.architecture}, the adapter is for "
                f"{facts.architecture}",
                "name the weights the adapter was trained on",
                param="base",
            )
        return entry.digest

    def _write(self, entry: Manifest) -> Entry:
        """Write a manifest under a new name; the same weights under the same name are no conflict."""
        with storage_errors("the manifest could not be stored"):
            make_private(self._manifests, self._root)
            temporary = self._manifests / f".incoming-{secrets.token_hex(8)}"
            try:
                with temporary.open("xb") as file:
                    file.write(manifest.encode(entry))
                    file.flush()
                    os.fsync(file.fileno())
                try:
                    os.link(temporary, self._manifests / f"{entry.name}.json")
                except FileExistsError:
                    pass
                else:
                    sync_folder(self._manifests)
            finally:
                temporary.unlink(missing_ok=True)
        kept = self._own(entry.name)
        if kept is None or kept.digest != entry.digest:
            raise Invalid(
                f"the name {entry.name} is taken",
                f"it stands for {'nothing' if kept is None else kept.digest}, this file is {entry.digest}",
                "choose another name",
                kind="conflict",
            )
        return kept


def _manifest(name: str, file: File, header: Header, facts: model.Facts) -> Manifest:
    """Say what a file says of itself; what is known of its origin is added by the caller."""
    text = header.templates.get("")
    return Manifest(
        name=name,
        kind=facts.kind,
        files=(file,),
        architecture=facts.architecture,
        quantisation=facts.quantisation,
        parameters=facts.parameters,
        context_tokens=facts.context_tokens,
        template=None if text is None else manifest.text_digest(text),
        added_at="",
    )


def _same(copy: int, header: Header, got: str, expected: str | None) -> None:
    """Check the copy again: the file may have been exchanged between the check and the copying."""
    if expected is not None and got != expected:
        raise Integrity(
            "this is not the file that was named", f"got {got}, expected {expected}", "ask its source"
        )
    if inspect(copy)[0] != header:
        raise Integrity(
            "the file changed while it was read",
            "its header differs in the copy",
            "add it again when it is still",
        )
