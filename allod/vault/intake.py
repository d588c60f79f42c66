"""Taking a model in: look at each file in a child, copy it by digest, look again, write the manifest."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.vault import formats, manifest, parts, shards, signature
from allod.vault import papers as reports
from allod.vault.blobs import open_regular
from allod.vault.examine import Examiner, Report
from allod.vault.manifest import File, Manifest, Parent, Publisher, Reference, Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allod.vault.sigstore.keyless import Keyless
    from allod.vault.vault import Entry, Vault


Take = Callable[[int, Callable[[int, str], None]], tuple[str, int]]
_Kept = TypeVar("_Kept")


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """Whose signatures count: public keys, root certificates at the time it is (UTC), a keyless identity.

    ``git_paths`` accepts a bundle that names git's four paths and itself as left out; nothing ever is here.
    """

    now: dt.datetime
    keys: tuple[Any, ...] = ()
    roots: tuple[Any, ...] = ()
    keyless: Keyless | None = None
    git_paths: bool = False


class Extras(msgspec.Struct, frozen=True, kw_only=True):
    """What may come with a model.

    Attributes:
        template: served instead of the one inside; it passes the same checks.
        accept_templates: digests of templates that a person has read; they are not tried.
        parents: what it was made from.
        signature: a bundle over its files; ``trust`` says whose. With trust, a signature is required.
        publishers: further signatures to keep untouched, with what was known of them.
        references: evaluations and audits, each with its report.

    """

    template: str | None = None
    accept_templates: tuple[str, ...] = ()
    parents: tuple[Parent, ...] = ()
    signature: bytes | None = None
    trust: Trust | None = None
    publishers: tuple[tuple[Publisher, bytes], ...] = ()
    references: tuple[tuple[Reference, bytes], ...] = ()


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be added; see ``Vault.add``.

    ``base_manifest`` is that of the base where the vault has no name for it yet: it comes with it.
    """

    path: Path
    name: str | None
    base: str | None
    licence: str | None
    maker: str | None
    maker_jurisdiction: str | None
    source: Source | None
    digest: str | None
    extras: Extras
    base_manifest: Manifest | None = None


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    """The files of a model by the name they are known by, and a signature that lay beside them."""

    files: dict[str, Path]
    folder: bool
    signature: bytes | None = None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = open_regular(path, str(path))
    try:
        yield fd
    finally:
        os.close(fd)


def _find(path: Path, label: str) -> _Found:
    """List what there is: one file, or a flat folder with nothing else in it."""
    if path.is_symlink() or not path.is_dir():
        name = path.name if path.suffix in manifest.WEIGHTS else f"{path.name}.gguf"
        try:
            formats.check_file_name(name)
        except Invalid:
            name = label + (path.suffix if path.suffix in manifest.WEIGHTS else ".gguf")
        return _Found(files={name: path}, folder=False)
    files: dict[str, Path] = {}
    signed = None
    for entry in sorted(path.iterdir()):
        if entry.name.endswith(signature.SIGNATURES):
            if signed is not None:
                raise Invalid("this folder holds two signatures", entry.name, "leave one")
            with _opened(entry) as fd:
                signed = formats.whole(fd, entry.name, signature.MAX_BUNDLE_BYTES)
            continue
        if len(files) >= manifest.MAX_FILES:
            raise Invalid("this folder holds too many files", f"allowed are {manifest.MAX_FILES}")
        files[entry.name] = entry
    formats.check_names(files)
    return _Found(files=files, folder=True, signature=signed)


def files_at(path: Path) -> dict[str, Path]:
    """List the files of a model at a path by the name they are known by (raises ``Invalid``)."""
    return _find(path, "model").files


def _verified(wanted: Wanted, found: _Found) -> tuple[bytes | None, signature.Signed | None]:
    """Verify the signature, where trust is given, and that it covers exactly the files there are."""
    raw = wanted.extras.signature if wanted.extras.signature is not None else found.signature
    trust = wanted.extras.trust
    if trust is None:
        return raw, None
    if raw is None:
        raise Integrity("this model is not signed", "a signer was named, no signature is there", "ask for it")
    signed = signature.verify(
        raw,
        now=trust.now,
        keys=trust.keys,
        roots=trust.roots,
        keyless=trust.keyless,
        git_paths=trust.git_paths,
    )
    if not found.folder and signed.names == {"."}:
        name = next(iter(found.files))
        signed = msgspec.structs.replace(
            signed,
            files={name: signed.files["."]} if signed.files else {},
            shards={name: signed.shards["."]} if signed.shards else {},
        )
    missing, extra = signed.names - found.files.keys(), found.files.keys() - signed.names
    if missing or extra:
        raise Integrity(
            "the files are not those that were signed",
            f"signed but not there: {sorted(missing)[:8]}; there but not signed: {sorted(extra)[:8]}",
            "obtain exactly the files that were signed",
        )
    return raw, signed


def _served(whole: parts.Whole, wanted: Wanted, examine: Examiner) -> tuple[str | None, tuple[str, ...]]:
    """Return the template to serve and its flags: the given one, looked at like any other, or the model's."""
    given = wanted.extras.template
    if given is None:
        return whole.template, whole.flags
    if whole.facts.kind == "adapter":
        raise Invalid("an adapter has no chat template", "its base has", "leave it out", param="template")
    fd = os.memfd_create("template", os.MFD_CLOEXEC)
    try:
        os.write(fd, given.encode())
        report = examine(fd, "template.jinja", accepted=wanted.extras.accept_templates)
    finally:
        os.close(fd)
    return given, report.flags


def add(vault: Vault, wanted: Wanted, progress: Callable[[int], None] | None = None) -> Entry:
    """Add what is wanted; arguments and errors as for ``Vault.add``."""
    return prepare(vault, wanted, lambda fd, check: vault.blobs.take(fd, check, progress), vault.keep)


def prepare(vault: Vault, wanted: Wanted, take: Take, keep: Callable[[Manifest], _Kept]) -> _Kept:
    """Look at what is wanted, take its files in, and hand its manifest to ``keep``, which may give it a name.

    Without a name nothing can load it, and ``gc`` may remove it once the vault's lock is let go.

    Args:
        vault: where to.
        wanted: as for ``Vault.add``, with its errors.
        take: brings an opened file into ``blobs`` after the check it is given (``Blobs.take``).
        keep: called with the vault's lock held; what it returns is returned.

    """
    label = manifest.check_name(wanted.name if wanted.name is not None else wanted.path.stem.lower())
    manifest.check_place(wanted.maker_jurisdiction)
    if label in vault.shipped():
        raise Invalid(f"{label} is a shipped model", "its name is taken", "choose another", kind="conflict")
    found = _find(wanted.path, label)
    raw_signature, signed = _verified(wanted, found)
    if signed is not None:
        vault.revocations.check((signed.signer,), "the signer of this model")
    with Examiner() as examine:
        look = _Look(examine, wanted, folder=found.folder)
        reports = {name: look(name, path) for name, path in found.files.items()}
        whole = parts.put_together(reports)
        base = _base(vault, whole, wanted)
        template, flags = _served(whole, wanted, examine)
        with vault.writing():
            files = []
            for name in parts.order(list(found.files)):
                expected = wanted.digest if not found.folder else None
                if signed is not None and name in signed.files:
                    expected = _agreed(expected, signed.files[name])
                covered = None if signed is None else signed.shards.get(name)
                check = _Check(vault, look, name, reports[name], expected, covered)
                with _opened(found.files[name]) as fd:
                    digest, size = take(fd, check)
                files.append(File(name=name, digest=digest, size_bytes=size))
            entry = _manifest(label, tuple(files), whole, wanted)
            entry = msgspec.structs.replace(entry, added_at=vault.now(), base=base, template_flags=flags)
            entry = _with_template(vault, entry, template, whole, wanted)
            entry = _with_papers(vault, entry, raw_signature, signed, wanted)
            if wanted.digest is not None and entry.digest != wanted.digest:
                raise Integrity("this is not the model that was named", f"got {entry.digest}, expected "
                                f"{wanted.digest}", "ask its source")  # fmt: skip
            vault.revocations.check((entry.digest, entry.template, entry.template_inside), label)
            return keep(entry)


def _agreed(expected: str | None, signed: str) -> str:
    if expected is not None and expected != signed:
        raise Integrity(
            "this is not the file that was named", f"signed is {signed}, expected {expected}", "ask"
        )
    return signed


class _Look:
    """Examines one file of the model, the same way before and after it was copied."""

    def __init__(self, examine: Examiner, wanted: Wanted, *, folder: bool) -> None:
        self._examine, self._extras, self._folder = examine, wanted.extras, folder

    def __call__(self, name: str, path: Path) -> Report:
        with _opened(path) as fd:
            return self.at(name, fd)

    def at(self, name: str, fd: int) -> Report:
        return self._examine(
            fd,
            name,
            accepted=self._extras.accept_templates,
            part=self._folder,
            lint_only=self._extras.template is not None,
        )


class _Check:
    """Checks the finished copy of one file: digest, revocation, and that it still is what was looked at."""

    def __init__(
        self,
        vault: Vault,
        look: _Look,
        name: str,
        report: Report,
        expected: str | None,
        covered: shards.Shards | None,
    ) -> None:
        self._vault, self._look, self._name = vault, look, name
        self._report, self._expected, self._covered = report, expected, covered

    def __call__(self, fd: int, got: str) -> None:
        if self._expected is not None and got != self._expected:
            raise Integrity(
                "this is not the file that was named",
                f"got {got}, expected {self._expected}",
                "ask its source",
            )
        if self._covered is not None:
            shards.check(fd, self._covered, self._name)
        self._vault.revocations.check((got,), self._name)
        if self._look.at(self._name, fd) != self._report:
            raise Integrity(
                "the file changed while it was read",
                "its structure differs in the copy",
                "add it again when it is still",
            )


def _base(vault: Vault, whole: parts.Whole, wanted: Wanted) -> str | None:
    facts, base = whole.facts, wanted.base
    if (facts.kind == "adapter") != (base is not None):
        raise Invalid(
            "an adapter belongs to one base" if base is None else "only an adapter has a base",
            f"this file is a {facts.kind}",
            "name the base with --base" if base is None else "leave the base out",
            param="base",
        )
    if base is None:
        return None
    held = wanted.base_manifest or vault.find(base).manifest
    other = facts.architecture not in {held.architecture, "unknown"}
    if held.kind != "model" or other:
        raise Invalid(
            f"{base} cannot be the base of this adapter",
            f"it is a {held.kind} of {held.architecture}, the adapter is for {facts.architecture}",
            "name the weights the adapter was trained on",
            param="base",
        )
    return held.digest


def _manifest(label: str, files: tuple[File, ...], whole: parts.Whole, wanted: Wanted) -> Manifest:
    facts, lineage = whole.facts, wanted.extras.parents
    if whole.declared_base and not lineage and facts.kind == "adapter":
        lineage = (Parent(relation="adapter", name=whole.declared_base[:200], evidence="declared"),)
    return Manifest(
        name=label,
        kind=facts.kind,
        files=files,
        architecture=facts.architecture,
        quantisation=facts.quantisation,
        parameters=facts.parameters,
        context_tokens=facts.context_tokens,
        added_at="",
        licence=wanted.licence or facts.licence,
        maker=wanted.maker,
        maker_jurisdiction=wanted.maker_jurisdiction,
        source=wanted.source,
        lineage=lineage,
    )


def _with_template(
    vault: Vault, entry: Manifest, template: str | None, whole: parts.Whole, wanted: Wanted
) -> Manifest:
    """Record the template that is served, and keep it where it is another than the model's own."""
    inside = None if whole.template is None else manifest.text_digest(whole.template)
    digest = None if template is None else manifest.text_digest(template)
    replaced = digest != inside
    if replaced and template is not None:
        vault.blobs.put(template.encode())
    family = None
    if template is not None:
        from allod.vault import families  # noqa: PLC0415 (only where there is a template)

        known = families.family_of(template)
        family = families.KNOWN.get(digest or "") or (None if known is None else known.name)
    return msgspec.structs.replace(
        entry,
        template=digest,
        template_replaced=replaced,
        template_inside=inside if replaced else None,
        template_family=family,
        template_accepted=digest in wanted.extras.accept_templates,
    )


def _with_papers(
    vault: Vault, entry: Manifest, raw: bytes | None, signed: signature.Signed | None, wanted: Wanted
) -> Manifest:
    """Keep the publisher's signature untouched, and the reports that were given."""
    signatures: tuple[Publisher, ...] = ()
    if raw is not None:
        digest = vault.blobs.put(raw)
        made = Publisher(name="model.sig", digest=digest, signer=None if signed is None else signed.signer,
                         subject=None if signed is None else signed.subject)  # fmt: skip
        signatures = (made,)
    papers = [(item.digest, content) for item, content in wanted.extras.publishers]
    papers += [(item.digest, content) for item, content in wanted.extras.references]
    for expected, content in papers:
        got = vault.blobs.put(content)
        if got != expected:
            raise Invalid("a paper is not the one that is named", f"got {got}, expected {expected}")
    signatures += tuple(item for item, _ in wanted.extras.publishers)
    about = {entry.digest, *(file.digest for file in entry.weights)}
    references = tuple(
        msgspec.structs.replace(item, bound=reports.is_bound(content, item.title, about))
        for item, content in wanted.extras.references
    )
    return msgspec.structs.replace(entry, signatures=signatures, references=references)
