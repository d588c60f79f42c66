"""The vault: weights by digest, from a file of the world to something an engine may load."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Integrity, Invalid, Unavailable
from allod.domain.fleet import Weights
from allod.domain.money import rfc3339
from allod.vault import changes, gguf, manifest
from allod.vault.blobs import Blobs, digest_of, make_private, open_regular, storage_errors
from allod.vault.examine import inspect
from allod.vault.manifest import File, Manifest, Source
from allod.vault.register import Register
from allod.vault.revocation import Revocation, Revocations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from allod.vault.intake import Extras
    from allod.vault.register import State

__all__ = ["Entry", "Model", "Vault", "inspect", "shipped_folder"]

SHIPPED_MANIFEST: Final = "manifest.json"
MAX_PAPER_BYTES: Final = 64 * 1024 * 1024


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
    """What an engine loads: weights, perhaps an adapter on them, and the chat template that is served.

    ``template`` is what the weights carry, unless the manifest replaced it; None for weights without one.
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
        self.blobs = Blobs(self._root / "blobs" / "sha256", self._root)
        self.register = Register(self._root)
        self.revocations = Revocations(self.register)
        self._shipped_folder = Path(shipped) if shipped is not None else shipped_folder()
        self._clock = clock or (lambda: time.time_ns() // 1_000_000)

    @property
    def root(self) -> Path:
        """The folder of this vault."""
        return self._root

    def now(self) -> str:
        """Return the time, RFC 3339 in UTC."""
        return rfc3339(self._clock())

    # -- reading

    def shipped(self) -> Mapping[str, Entry]:
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

    def _entry(self, held: Manifest) -> Entry:
        return Entry(manifest=held, path=str(self.blobs.path(held.files[0].digest)), shipped=False)

    def _own(self, name: str) -> Entry | None:
        held = self.register.read().manifests.get(name)
        return None if held is None else self._entry(held)

    def list(self) -> tuple[Entry, ...]:
        """Return everything there is, shipped models first, then by name.

        Raises:
            Integrity: the register does not hold (``Register.read``).

        """
        shipped, own = self.shipped(), self.register.read().manifests
        return (*shipped.values(), *(self._entry(own[name]) for name in sorted(own) if name not in shipped))

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
            found = self.shipped().get(manifest.check_name(name)) or self._own(name)
            if found is not None:
                return found
        known = ", ".join(entry.manifest.name for entry in self.list()) or "nothing"
        raise Invalid(
            f"the vault holds no {name}", f"it holds {known}", "add it with `allod vault add`", kind="model"
        )

    def resolve(self, name: str, adapter: str | None = None) -> Model:
        """Return what to load for a name or digest; naming an adapter loads its base with it.

        The file's presence, size, template and revocation are checked here; its digest is checked by whoever
        loads it, on the very descriptor it loads (I5), and by ``verify``.

        Raises:
            Invalid: unknown name, an adapter of other weights, an adapter where weights must be, or a model
                in another form than one GGUF file, which the engine of this house does not load.
            Integrity: a file is absent, differs from its manifest, or is revoked.

        """
        weights, over = self.find(name), None if adapter is None else self.find(adapter)
        if weights.manifest.kind == "adapter":
            if over is not None and over.digest != weights.digest:
                raise Invalid(f"{name} is an adapter already", f"{adapter} cannot be loaded on top of it")
            over, weights = weights, self.find(weights.manifest.base or "")
        for entry in (weights,) if over is None else (weights, over):
            self._check_use(entry)
        if over is not None:
            self._check_adapter(weights, over)
            self._check_file(over)
        return Model(name=name, weights=weights, adapter=over, template=self._check_file(weights))

    def _check_use(self, entry: Entry) -> None:
        """Refuse what is revoked, and what no engine of this house loads."""
        m = entry.manifest
        self.revocations.check(
            (m.digest, *(f.digest for f in m.files), m.template, m.template_inside,
             *(item.signer for item in m.signatures)),
            m.name,
        )  # fmt: skip
        if not m.loadable:
            raise Invalid(
                f"{m.name} cannot be loaded here",
                f"it has {len(m.files)} files and is kept for comparison and for other engines",
                "add a GGUF file made from it, with --parent",
            )

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
        """Open an entry's only file by a descriptor that the caller closes; its digest is not checked here.

        Raises:
            Integrity: absent, not a regular file, of another size than the manifest says, or one of several.

        """
        if not entry.manifest.loadable:
            raise Integrity(f"{entry.manifest.name} is not one GGUF file", "an engine loads one", "add one")
        return self.open_file(entry, entry.manifest.files[0])

    def open_file(self, entry: Entry, file: File) -> int:
        """Open one file of an entry; the rest as for ``open``."""
        label = entry.manifest.name
        path = entry.path if entry.shipped else self.blobs.path(file.digest)
        try:
            fd = open_regular(path, f"the file of {label}")
        except Invalid as error:
            raise Integrity(f"the file of {label} is not there", error.why, "add it again") from error
        size = os.fstat(fd).st_size
        if size != file.size_bytes:
            os.close(fd)
            raise Integrity(
                f"the file of {label} is not what was verified",
                f"got {size} bytes, the manifest says {file.size_bytes}",
                "add it again from its source",
            )
        return fd

    def _check_file(self, entry: Entry) -> str | None:
        """Check presence, size, structure and template; return the text of the template that is served."""
        m = entry.manifest
        fd = self.open(entry)
        try:
            text = gguf.read(fd).templates.get("")
        except Invalid as error:
            raise Integrity(
                f"the file of {m.name} is not what was verified", error.why, "add it again"
            ) from error
        finally:
            os.close(fd)
        digest = None if text is None else manifest.text_digest(text)
        expected = m.template_carried
        if digest != expected:
            raise Integrity(
                f"the chat template of {m.name} is not what was verified",
                f"got {digest}, the manifest says {expected}",
                "add it again from its source",
            )
        if not m.template_replaced or m.template is None:
            return text
        return self.blobs.read(m.template, gguf.MAX_TEMPLATE_BYTES).decode()

    def verify(self, name: str, progress: Callable[[int], None] | None = None) -> Entry:
        """Read every file of a name or digest again and compare; ``progress`` is told bytes.

        Raises:
            Invalid: unknown name.
            Integrity: a file is absent, changed, or fails a structural check; or something of it is revoked.

        """
        entry = self.find(name)
        if entry.manifest.loadable:
            self._check_use(entry)
        self._read_all(entry, progress)
        return entry

    def check_bytes(self, held: Manifest, progress: Callable[[int], None] | None = None) -> None:
        """Read every file and paper that a manifest names again, in the register or not.

        Raises:
            Integrity: one is absent, changed, or not of the structure that it must have.

        """
        self._check_entry(held)
        self._read_all(self._entry(held), progress)
        for digest in sorted(held.blobs - {file.digest for file in held.files}):
            self.blobs.read(digest, MAX_PAPER_BYTES)

    def _read_all(self, entry: Entry, progress: Callable[[int], None] | None) -> None:
        if entry.manifest.loadable:
            self._check_file(entry)
        for file in entry.manifest.files:
            fd = self.open_file(entry, file)
            try:
                got = digest_of(fd, progress)
            finally:
                os.close(fd)
            if got != file.digest:
                raise Integrity(
                    f"the file of {entry.manifest.name} is not what was verified",
                    f"got {got}, the manifest says {file.digest} for {file.name}",
                    "remove it, find out who wrote it, and add it again from its source",
                )

    # -- writing

    @contextlib.contextmanager
    def writing(self, *, alone: bool = False) -> Iterator[None]:
        """Hold the vault's lock: shared by all who add, ``alone`` for whoever removes.

        Raises:
            Unavailable: somebody adds while one wants to be alone (``busy``), or the disk fails.

        """
        with storage_errors("the vault cannot be written"):
            make_private(self._root, self._root)
            fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(fd, (fcntl.LOCK_EX | fcntl.LOCK_NB) if alone else fcntl.LOCK_SH)
            except BlockingIOError as error:
                raise Unavailable("the vault is in use", "something is being added", "try again later",
                                  kind="busy") from error  # fmt: skip
            yield
        finally:
            os.close(fd)

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
        extras: Extras | None = None,
    ) -> Entry:
        """Check a GGUF or safetensors file, or the folder of a model, take a copy, and write its manifest.

        Args:
            path: a regular file, or a folder that holds nothing but the model.
            name: vault name; the file's own name without its ending if absent.
            base: for an adapter, name or digest of the weights it belongs to.
            licence, maker, maker_jurisdiction, source: what is known of its origin.
            digest: what the model must have, or nothing is kept.
            progress: told the bytes copied.
            extras: template, lineage, signature, references.

        Raises:
            Invalid: not an acceptable file, name taken by other weights (``conflict``), base missing.
            Integrity: a file changed while it was read, is not the one that ``digest`` names, is not what was
                signed, or is revoked.
            Unavailable: disk full or failing; no half of it is left behind.

        """
        from allod.vault import intake  # noqa: PLC0415 (it knows this class)

        wanted = intake.Wanted(
            path=Path(path), name=name, base=base, licence=licence, maker=maker,
            maker_jurisdiction=maker_jurisdiction, source=source, digest=digest,
            extras=extras or intake.Extras(),
        )  # fmt: skip
        return intake.add(self, wanted, progress)

    def revoke(self, digest: str, reason: str) -> Revocation:
        """Put a digest on the list of what may not be used; see ``Revocations.add``."""
        return self.revocations.add(digest, reason, self.now())

    def keep(self, entry: Manifest) -> Entry:
        """Enter a manifest under a new name; the same weights under the same name keep the first manifest.

        Raises:
            Invalid: the name stands for other weights (``conflict``).
            Integrity, Unavailable: as for ``commit``.

        """
        return self.commit((entry,))[0]

    def commit(
        self,
        manifests: Iterable[Manifest] = (),
        *,
        revoked: Iterable[Revocation] = (),
        replace: bool = False,
        remove: Iterable[str] = (),
    ) -> tuple[Entry, ...]:
        """Enter these manifests and revocations together: after a death at any point all of them, or none.

        This is the switch by which a bundle takes effect. Its blobs must be in the vault before, and whoever
        puts them there holds ``writing()`` until this returns, or ``gc`` may take them away.

        Args:
            manifests: names and what they stand for; each blob that they name must be there.
            revoked: digests that may not be used from now on; those on the list keep their first reason.
            replace: let a name that stands for other weights, or has other papers, stand for these now.
            remove: names to take out.

        Returns:
            What the names of ``manifests`` stand for now, in the same order.

        Raises:
            Invalid: a name of a shipped model, a name taken by other weights (``conflict``), or an unknown
                one to remove.
            Integrity: the register does not hold, a manifest is broken, or a blob is not there.
            Unavailable: the disk is full or failing; everything stays as it was.

        """
        wanted, out = tuple(manifests), tuple(remove)
        for item in wanted:
            self._check_entry(item)
        listed, shipped = tuple(revoked), self.shipped()

        def change(state: State) -> State:
            return changes.applied(state, wanted, listed, out, shipped=shipped, replace=replace)

        state = self.register.commit(self.now(), change)
        return tuple(self._entry(state.manifests[item.name]) for item in wanted)

    def remove(self, name: str) -> Manifest:
        """Take a name out; its blobs go with the next ``gc``.

        Raises:
            Invalid: there is no such name, it is a shipped model, or an adapter needs it (``conflict``).
            Integrity, Unavailable: as for ``commit``.

        """
        held = self.find(name).manifest
        self.commit(remove=(held.name,))
        return held

    def _check_entry(self, item: Manifest) -> None:
        """Refuse a manifest that is none, or whose blobs are not in the vault with the size it says."""
        manifest.check(item, manifest.check_name(item.name))
        sizes = {file.digest: file.size_bytes for file in item.files}
        for digest in sorted(item.blobs):
            try:
                size = self.blobs.path(digest).lstat().st_size
            except OSError as error:
                raise Integrity(
                    f"{digest} is not in the vault", f"{item.name} names it", "add the model again"
                ) from error
            if size != sizes.get(digest, size):
                raise Integrity(
                    f"{digest} has another size", f"got {size}, expected {sizes[digest]}", "add it"
                )
