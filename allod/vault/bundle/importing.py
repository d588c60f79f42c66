"""Importing a bundle: everything is checked and in its place before a single thing of it serves.

    open      every check that needs no blob (``verify``), under this home's trust and what it knows
    copy      each part to the staging folder, checked as it is copied, noted one by one (``staging``)
    look      each item as what it claims to be: models like files of a stranger, packs and prices read whole
    switch    one rename (``switch``), then the vault's names, the receipt, the note of it

Memory does not grow with the bundle: a part passes in pieces, and only small files are ever held whole.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.domain.money import rfc3339
from allod.store.home import load_keys
from allod.vault import formats, gguf, intake, manifest
from allod.vault.blobs import make_private
from allod.vault.bundle import content, staging, switch, trust
from allod.vault.bundle.form import MODEL_FILES, MODEL_PAPERS, Item, Part
from allod.vault.bundle.supply import FORMAT, MANIFEST, File, Generation, Held, Origin, Supply
from allod.vault.bundle.verify import Step, open_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from allod.policy.forms import Pack
    from allod.store.home import Home
    from allod.vault.bundle.content import Catalogue
    from allod.vault.bundle.form import Bundle, Known
    from allod.vault.bundle.verify import Opened
    from allod.vault.manifest import Manifest
    from allod.vault.vault import Vault

MAX_PAPER_BYTES: Final = 64 * 1024 * 1024
MAX_SMALL_BYTES: Final = 64 * 1024 * 1024
"""The largest file of an item that is neither of a model nor of a program."""


class Packs(msgspec.Struct, frozen=True, kw_only=True):
    """The packs of a bundle, as somebody may object to them, and who signed the bundle for this home.

    ``catalogues`` are those that carry facts for plans, by name, for whoever can read what they describe.
    """

    packs: tuple[Pack, ...]
    signers: tuple[str, ...]
    catalogues: tuple[tuple[str, Catalogue], ...] = ()


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What an import did: what serves now, its receipt, whether it was imported before, and mended now."""

    generation: Generation
    receipt: Path | None
    repeated: bool
    mended: bool = False


class Import:
    """One import into one home.

    Args:
        home: whose it is; vault: the home's.
        schema: text of the base pack's schema, under which packs are read.
        now_ms: one clock reading, UTC milliseconds.
        version: ours, as ``1.2.3``.
        judge: told the bundle's packs and facts before anything serves; raises to refuse them.
        progress: told how many bytes there are to copy, and a function that is told bytes as they pass.

    """

    def __init__(
        self,
        home: Home,
        vault: Vault,
        *,
        schema: str,
        now_ms: int,
        version: str,
        judge: Callable[[Packs], tuple[Step, ...]] = lambda _: (),
        progress: Callable[[int], Callable[[int], None]] = lambda _: lambda _: None,
    ) -> None:
        self._home, self._vault, self._schema = home, vault, schema
        self._now_ms, self._version = now_ms, version
        self._judge, self._progress = judge, progress
        self._supply = Supply(home.root)
        self._keys = load_keys(home)

    def run(self, source: Path) -> Imported:
        """Import a bundle, a folder or a tar; after a death the same call continues.

        Raises:
            Invalid: no bundle, nobody trusted, an item that may not enter, or a name that is taken.
            Integrity: a check failed; nothing of the bundle serves.
            Refused: the bundle is for others, or its packs may not come into force like this.
            Unavailable: another import is at work (``busy``), the disk is full or failing (``storage``), the
                source went away (``down``); what is checked stays for the next try.

        """
        with switch.importing(self._supply):
            before, fault = self._settled()
            keyring, trusted = trust.read(self._supply.trust)
            revoked = self._vault.revocations.read().keys()
            known = self._supply.known()
            opened = open_bundle(
                source,
                trust.without(keyring, frozenset(revoked)),
                msgspec.structs.replace(known, revoked=tuple(sorted({*known.revoked, *revoked}))),
                now_ms=self._now_ms,
                importer_version=self._version,
                origin=self._keys.origin,
            )
            with opened:
                if opened.repeated and before is not None and before.cause == "import":
                    return self._again(opened, source, before, fault)
                if fault is not None:
                    raise fault
                after = switch.stripped(opened.known_after, known.revoked)
                return self._bring(opened, source, before, trusted, after)

    def _settled(self) -> tuple[Generation | None, Integrity | None]:
        """Settle; where something that was imported is gone, return why: its bundle may bring it again."""
        try:
            return switch.settle(self._supply, self._vault, self._keys.signer), None
        except Integrity as error:
            return self._supply.serving(), error

    def _again(self, opened: Opened, source: Path, before: Generation, fault: Integrity | None) -> Imported:
        """Say of a bundle that was imported that it was; what of it is gone or damaged is brought again.

        Raises:
            Integrity: ``fault`` still stands, or something else is wrong than this bundle could mend.

        """
        stage = staging.Staging(opened, self._supply, self._vault, source)
        broken = fault is not None or not self._whole(before, opened.digest)
        if broken:
            with self._vault.writing():
                self._copy(stage, opened.bundle)
                _Look(self, stage, opened.bundle, opened.digest, None, names=False).all()
                switch.settle(self._supply, self._vault, self._keys.signer)
            if not self._whole(before, opened.digest):
                raise Integrity(
                    "importing the bundle again did not mend the supply",
                    "a file is still not what was imported",
                    "restore supply/ as a whole from a backup of this home",
                )
        stage.end()
        for found in switch.history(self._supply, before):
            if found.bundle is not None and found.bundle.digest == opened.digest:
                path = self._supply.receipt_path(found.serial)
                kept = path if path.exists() else None
                return Imported(generation=before, receipt=kept, repeated=True, mended=broken)
        return Imported(generation=before, receipt=None, repeated=True, mended=broken)

    def _whole(self, found: Generation, digest: str) -> bool:
        """Tell whether every file that came with a bundle, and serves, is there and what it was."""
        mine = tuple(item for item in found.items if item.origin.digest == digest)
        try:
            for item in mine:
                for file in item.files:
                    if item.kind != "program":
                        self._supply.read(file)
                    elif not self._supply.object_path(file.digest).is_file():
                        return False
            blobs = self._vault.blobs
            return all(
                blobs.path(d).is_file() for m in switch.models(self._supply, mine).values() for d in m.blobs
            )
        except Integrity:
            return False

    def _bring(
        self, opened: Opened, source: Path, before: Generation | None, trusted: str, known: Known
    ) -> Imported:
        bundle = opened.bundle
        staging.sweep(self._supply, self._vault, keep=opened.digest)
        stage = staging.Staging(opened, self._supply, self._vault, source)
        with self._vault.writing():
            self._copy(stage, bundle)
            look = _Look(self, stage, bundle, opened.digest, before)
            items = look.all()
            steps = (*opened.steps, *look.steps)
            steps += self._judge(
                Packs(packs=tuple(look.packs), signers=opened.signers, catalogues=tuple(look.catalogues))
            )
            found = Generation(
                format=FORMAT,
                serial=1 if before is None else before.serial + 1,
                follows="" if before is None else before.digest,
                at=rfc3339(self._now_ms),
                cause="import",
                bundle=look.origin,
                items_in=tuple(item.key for item in items),
                signers=opened.signers,
                stale=opened.stale,
                expires=rfc3339(opened.expires_ms),
                steps=tuple(msgspec.structs.replace(step, n=n) for n, step in enumerate(steps, 1)),
                importer=self._version,
                trust=trusted,
                known=known,
                items=switch.with_items(before, items),
            )
            with switch.switching(self._supply):
                switch.switch(self._supply, before, found)
            switch.settle(self._supply, self._vault, self._keys.signer)
        stage.end()
        return Imported(generation=found, receipt=self._supply.receipt_path(found.serial), repeated=False)

    def _copy(self, stage: staging.Staging, bundle: Bundle) -> None:
        _bound(bundle)
        stage.begin()
        wanted = stage.missing()
        stage.need_room(wanted)
        told = self._progress(sum(part.size_bytes for _, part in wanted))
        for item, part in wanted:
            stage.copy(item, part, told)

    # -- what an item is looked at with

    @property
    def vault(self) -> Vault:
        """The home's vault."""
        return self._vault

    @property
    def supply(self) -> Supply:
        """The home's supply."""
        return self._supply

    @property
    def schema(self) -> str:
        """Text of the base pack's schema."""
        return self._schema

    @property
    def now_ms(self) -> int:
        """UTC milliseconds."""
        return self._now_ms


def _bound(bundle: Bundle) -> None:
    """Refuse small things that are large before they are copied."""
    for item in bundle.items:
        for part in item.parts:
            weighty = item.kind == "program" or staging.is_weights(item, part)
            if not weighty and part.size_bytes > MAX_SMALL_BYTES:
                raise Integrity(
                    f"{part.path} of {item.kind} {item.name} is too large",
                    f"got {part.size_bytes} bytes, allowed are {MAX_SMALL_BYTES}",
                    "ask its publisher for another bundle",
                )


class _Look:
    """Looks at every item of a staged bundle and gives its files their places; nothing serves of it yet."""

    def __init__(
        self,
        doing: Import,
        stage: staging.Staging,
        bundle: Bundle,
        digest: str,
        before: Generation | None,
        *,
        names: bool = True,
    ) -> None:
        self._doing, self._stage, self._bundle, self._names = doing, stage, bundle, names
        self.origin = Origin(
            digest=digest, channel=bundle.channel, number=bundle.number, source=bundle.source
        )
        self._was = {} if before is None else switch.models(doing.supply, before.items)
        self._models: dict[str, Manifest] = {}
        self.packs: list[Pack] = []
        self.catalogues: list[tuple[str, Catalogue]] = []
        self.steps: list[Step] = []

    def all(self) -> tuple[Held, ...]:
        """Look at all of it, revocations first and bases before their adapters."""
        revoked = frozenset(
            one.digest
            for item in self._bundle.items
            if item.kind == "revocations"
            for part in item.parts
            for one in content.revocations(item.name, self._read(item, part))
        )
        order = sorted(self._bundle.items, key=self._turn)
        done = {item.name: self._one(item, revoked) for item in order if item.kind == "model"}
        out = tuple(
            done[item.name] if item.kind == "model" else self._one(item, revoked)
            for item in self._bundle.items
        )
        self.steps.append(
            Step(n=0, name="items", ok=True, detail=f"{len(out)} items are what they claim to be")
        )
        return out

    def _turn(self, item: Item) -> tuple[bool, str]:
        """Order models so that what others rest on comes first."""
        base = item.kind == "model" and self._manifest(item).base is not None
        return base, item.name

    def _one(self, item: Item, revoked: frozenset[str]) -> Held:
        files = self._model(item, revoked) if item.kind == "model" else self._plain(item)
        return Held(
            kind=item.kind,
            name=item.name,
            version=item.version,
            digest=item.digest,
            origin=self.origin,
            files=tuple(files),
        )

    def _plain(self, item: Item) -> list[File]:
        """Look at what is not a model, then place its files."""
        if item.kind == "program":
            locks = {p.path: self._read(item, p) for p in item.parts if content.is_lock(p.path)}
            content.program(item.name, tuple(part.path for part in item.parts), locks)
        else:
            self._check(item, {part.path: self._read(item, part) for part in item.parts})
        return [self._place(item, part) for part in item.parts]

    def _check(self, item: Item, files: dict[str, bytes]) -> None:
        first = next(iter(files.values()))
        if item.kind == "pack":
            self.packs.append(content.pack(item.name, item.version, files, self._doing.schema))
        elif item.kind == "prices":
            content.prices(item.name, first, self._doing.now_ms)
        elif item.kind == "catalogue":
            found = content.catalogue(item.name, first, self._doing.now_ms)
            if found.plans:
                self.catalogues.append((item.name, found))
        elif item.kind == "revocations":
            content.revocations(item.name, first)
        else:
            content.roots(item.name, files)

    def _place(self, item: Item, part: Part) -> File:
        switch.place(self._doing.supply, part.digest, self._stage.path(item, part))
        return _file(part)

    def _read(self, item: Item, part: Part) -> bytes:
        """Read a small staged part and hold it against its digest once more."""
        raw = self._stage.path(item, part).read_bytes()
        if manifest.bytes_digest(raw) != part.digest:
            raise Integrity(
                f"{part.path} of {item.kind} {item.name} changed after it was copied",
                f"got {manifest.bytes_digest(raw)}, expected {part.digest}",
                "find out who writes in this home, then import it again",
            )
        return raw

    # -- models

    def _manifest(self, item: Item) -> Manifest:
        part = next(part for part in item.parts if part.path == MANIFEST)
        return manifest.decode(self._read(item, part), item.name)

    def _model(self, item: Item, revoked: frozenset[str]) -> list[File]:
        """Take a model into the vault without a name: looked at as if it came from a stranger."""
        said = self._manifest(item)
        parts = {part.path: part for part in item.parts}
        files = {path.removeprefix(MODEL_FILES): part.digest for path, part in parts.items()
                 if path.startswith(MODEL_FILES)}  # fmt: skip
        if files != {file.name: file.digest for file in said.files}:
            raise Integrity(f"model {item.name} has other files than its manifest names",
                            f"got {sorted(files)[:8]}", "ask its publisher for another bundle")  # fmt: skip
        self._check_revoked(said, revoked)
        found = self._taken(item, said, parts)
        why = switch.conflict(self._doing.vault.register.read().manifests, self._was, found)
        if why and self._names:
            raise Invalid(
                f"the name {item.name} is taken",
                why,
                "remove it here, or have it named anew",
                kind="conflict",
            )
        self._models[found.digest] = found
        raw = manifest.encode(found)
        kept = [switch.file_of(MANIFEST, raw)]
        switch.place(self._doing.supply, kept[0].digest, raw)
        kept += [self._place(item, part) for path, part in parts.items()
                 if path != MANIFEST and not path.startswith((MODEL_FILES, MODEL_PAPERS))]  # fmt: skip
        return sorted(kept, key=lambda file: file.path)

    def _check_revoked(self, said: Manifest, revoked: frozenset[str]) -> None:
        own = (said.digest, *said.blobs, said.template, *(one.signer for one in said.signatures))
        hit = [digest for digest in own if digest in revoked]
        if hit:
            raise Integrity(
                f"model {said.name} is revoked by its own bundle", hit[0], "ask its publisher for another"
            )

    def _taken(self, item: Item, said: Manifest, parts: dict[str, Part]) -> Manifest:
        """Examine the files in a child, each before and after it has its place, and rebuild the manifest."""
        folder = self._stage.weights / f"model-{item.name}"
        shutil.rmtree(folder, ignore_errors=True)
        digests: dict[tuple[int, int], tuple[Path, str]] = {}
        blobs = self._doing.vault.blobs
        with self._stage.writing():
            make_private(folder, self._stage.weights)
            for file in said.files:
                staged = self._stage.path(item, parts[MODEL_FILES + file.name])
                path = folder / formats.check_file_name(file.name)
                path.hardlink_to(staged if staged.exists() else blobs.path(file.digest))
                state = path.stat()
                digests[state.st_dev, state.st_ino] = (path, file.digest)

        def take(fd: int, check: Callable[[int, str], None]) -> tuple[str, int]:
            state = os.fstat(fd)
            path, digest = digests[state.st_dev, state.st_ino]
            return blobs.adopt(path, digest, check)

        wanted = intake.Wanted(
            path=folder,
            name=item.name,
            base=said.base,
            base_manifest=self._models.get(said.base or ""),
            licence=said.licence,
            maker=said.maker,
            maker_jurisdiction=said.maker_jurisdiction,
            source=said.source,
            digest=said.digest,
            extras=self._extras(item, said, parts),
        )
        found = intake.prepare(self._doing.vault, wanted, take, lambda one: one)
        mine = self._doing.vault.register.read().manifests.get(item.name)
        same = mine is not None and msgspec.structs.replace(mine, added_at=found.added_at) == found
        return mine if mine is not None and same else found

    def _extras(self, item: Item, said: Manifest, parts: dict[str, Part]) -> intake.Extras:
        def paper(digest: str, limit: int = MAX_PAPER_BYTES) -> bytes:
            part = parts.get(MODEL_PAPERS + digest.removeprefix("sha256:"))
            if part is None or part.size_bytes > limit:
                raise Integrity(f"a paper of {item.name} did not come along, or is too long", digest, "ask")
            return self._read(item, part)

        template = None
        if said.template_replaced and said.template is not None:
            template = formats.text(paper(said.template, gguf.MAX_TEMPLATE_BYTES), "template.jinja")
        return intake.Extras(
            template=template,
            accept_templates=(said.template,) if said.template_accepted and said.template else (),
            parents=said.lineage,
            publishers=tuple((one, paper(one.digest)) for one in said.signatures),
            references=tuple((one, paper(one.digest)) for one in said.references),
        )


def _file(part: Part) -> File:
    return File(path=part.path, digest=part.digest, size_bytes=part.size_bytes)
