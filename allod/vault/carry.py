"""One model as a folder, to be carried somewhere else, signed.

    files/            the model as its publisher named it; model.sig covers it for other tools
    papers/           publisher's signature, replaced template, evaluations and audits, by digest
    manifest.json     what the vault knows
    bom.cdx.json      the bill of materials
    model.sig         signature over files/
    folder.sig        signature over everything above, by its path: what an import verifies

An import needs ``folder.sig`` from a signer that it was told to trust, and looks at every file as if it came
from a stranger. A folder is written beside its place and moved there whole.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod import __version__
from allod.domain.errors import Integrity, Invalid
from allod.vault import bom, formats, gguf, manifest, signature
from allod.vault.blobs import CHUNK_BYTES, digest_of, open_regular, storage_errors, sync_folder
from allod.vault.intake import Extras, Trust
from allod.vault.vault import MAX_PAPER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from allod.vault.manifest import Manifest
    from allod.vault.vault import Entry, Vault

FILES, PAPERS, MANIFEST, BOM = "files", "papers", "manifest.json", "bom.cdx.json"
MODEL_SIGNATURE, FOLDER_SIGNATURE = "model.sig", "folder.sig"
MAX_ENTRIES: Final = 10_000


def sign(entry: Entry, key: Any, chain: tuple[Any, ...] = ()) -> bytes:
    """Sign the files of an entry by their digests in the manifest; ``Vault.verify`` reads them first."""
    return signature.sign(entry.manifest.name, {f.name: f.digest for f in entry.manifest.files}, key, chain)


def _copy(fd: int, to: Path, progress: Callable[[int], None] | None) -> str:
    """Copy a descriptor's file to a new path and return the digest of what was written."""
    import hashlib  # noqa: PLC0415

    hasher, at = hashlib.sha256(), 0
    with to.open("xb") as out:
        while chunk := os.pread(fd, CHUNK_BYTES, at):
            hasher.update(chunk)
            out.write(chunk)
            at += len(chunk)
            if progress is not None:
                progress(len(chunk))
        out.flush()
        os.fsync(out.fileno())
    return "sha256:" + hasher.hexdigest()


def _write(path: Path, content: bytes) -> str:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return manifest.bytes_digest(content)


def export(
    vault: Vault,
    name: str,
    folder: Path,
    key: Any,
    chain: tuple[Any, ...] = (),
    progress: Callable[[int], None] | None = None,
) -> Entry:
    """Write a model into a new folder, signed.

    Raises:
        Invalid: unknown name, or the folder is there already (``conflict``).
        Integrity: a file is not what was verified; no folder is left behind.
        Unavailable: the disk is full or failing; no folder is left behind.

    """
    entry = vault.find(name)
    if folder.exists() or folder.is_symlink():
        raise Invalid(f"{folder} is there already", "an export makes a new folder", "choose another",
                      kind="conflict")  # fmt: skip
    beside = folder.with_name(f".{folder.name}-{secrets.token_hex(6)}")
    try:
        with storage_errors("the model could not be exported"):
            (beside / FILES).mkdir(parents=True)
            (beside / PAPERS).mkdir()
            digests = _fill(vault, entry, beside, progress)
            signed = sign(entry, key, chain)
            digests[MODEL_SIGNATURE] = _write(beside / MODEL_SIGNATURE, signed)
            whole = signature.sign(entry.manifest.name, digests, key, chain)
            _write(beside / FOLDER_SIGNATURE, whole)
            for part in (beside / FILES, beside / PAPERS, beside):
                sync_folder(part)
            beside.rename(folder)
            sync_folder(folder.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return entry


def _fill(vault: Vault, entry: Entry, beside: Path, progress: Callable[[int], None] | None) -> dict[str, str]:
    """Write everything but the signatures; return path -> digest."""
    m, digests = entry.manifest, dict[str, str]()
    for file in m.files:
        formats.check_file_name(file.name)
        fd = vault.open_file(entry, file)
        try:
            got = _copy(fd, beside / FILES / file.name, progress)
        finally:
            os.close(fd)
        if got != file.digest:
            raise Integrity(f"the file of {m.name} is not what was verified",
                            f"got {got}, the manifest says {file.digest}", "add it again")  # fmt: skip
        digests[f"{FILES}/{file.name}"] = got
    for digest in sorted(m.blobs - {file.digest for file in m.files}):
        paper = digest.removeprefix("sha256:")
        content = vault.blobs.read(digest, MAX_PAPER_BYTES)
        digests[f"{PAPERS}/{paper}"] = _write(beside / PAPERS / paper, content)
    digests[MANIFEST] = _write(beside / MANIFEST, manifest.encode(m))
    digests[BOM] = _write(beside / BOM, bom.encode(m, version=__version__))
    return digests


def _listed(folder: Path) -> set[str]:
    """List every file of a carried folder by its path; anything but plain files in two folders is refused."""
    out: set[str] = set()
    if folder.is_symlink() or not folder.is_dir():
        raise Invalid(f"{folder} is not a folder", "an import reads the folder of an export")
    for top in sorted(folder.iterdir()):
        if not top.is_symlink() and top.is_dir() and top.name in {FILES, PAPERS}:
            inner = sorted(top.iterdir())
        else:
            inner = [top]
        for path in inner:
            formats.check_file_name(path.name)
            if not stat.S_ISREG(path.lstat().st_mode):
                raise Invalid(
                    f"{path.name} is not a regular file", "links, pipes and folders are not carried"
                )
            out.add(str(path.relative_to(folder)))
        if len(out) > MAX_ENTRIES:
            raise Invalid("this folder holds too many files", f"allowed are {MAX_ENTRIES}")
    return out


def _small(folder: Path, name: str, limit: int, expected: str | None) -> bytes:
    fd = open_regular(folder / name, name)
    try:
        content = formats.whole(fd, name.rsplit("/", 1)[-1], limit)
    finally:
        os.close(fd)
    got = manifest.bytes_digest(content)
    if expected is not None and got != expected:
        raise Integrity(
            f"{name} is not what was signed", f"got {got}, signed is {expected}", "carry it again"
        )
    return content


def bring_in(
    vault: Vault,
    folder: Path,
    trust: Trust,
    *,
    name: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Entry:
    """Verify a carried folder and add its model; ``name`` renames it.

    Raises:
        Invalid: not such a folder, a file that may not enter, or the name is taken (``conflict``).
        Integrity: not signed by whom is trusted, a file more or less or other than signed, or revoked.
        Unavailable: the disk is full or failing.

    """
    there = _listed(folder)
    if FOLDER_SIGNATURE not in there:
        raise Integrity("this folder is not signed", f"it holds no {FOLDER_SIGNATURE}", "export it again")
    raw = _small(folder, FOLDER_SIGNATURE, signature.MAX_BUNDLE_BYTES, None)
    signed = signature.verify(raw, now=trust.now, keys=trust.keys, roots=trust.roots)
    vault.revocations.check((signed.signer,), "the signer of this folder")
    claimed = dict.fromkeys(there - {FOLDER_SIGNATURE}, "")
    missing, extra = signed.files.keys() - claimed.keys(), claimed.keys() - signed.files.keys()
    if missing or extra:
        raise Integrity(
            "the folder is not what was signed",
            f"signed but not there: {sorted(missing)[:8]}; there but not signed: {sorted(extra)[:8]}",
            "carry it again",
        )
    if MANIFEST not in signed.files:
        raise Integrity("this folder is not an export", f"it holds no {MANIFEST}", "export the model again")
    content = _small(folder, MANIFEST, manifest.MAX_MANIFEST_BYTES, signed.files[MANIFEST])
    for path in signed.files:
        if not path.startswith(FILES + "/"):
            _small(folder, path, MAX_PAPER_BYTES, signed.files[path])
    m = manifest.decode(content, signed.name)
    _same_files(m, signed)
    extras = _extras(folder, m, signed, trust)
    return vault.add(
        folder / FILES,
        name or m.name,
        base=m.base,
        licence=m.licence,
        maker=m.maker,
        maker_jurisdiction=m.maker_jurisdiction,
        source=m.source,
        digest=m.digest,
        progress=progress,
        extras=extras,
    )


def _same_files(m: Manifest, signed: signature.Signed) -> None:
    """Check that the manifest speaks of the files that are signed beside it."""
    files = {f"{FILES}/{file.name}": file.digest for file in m.files}
    beside = {path: digest for path, digest in signed.files.items() if path.startswith(FILES + "/")}
    if files != beside:
        raise Integrity("the manifest is of other files", "it names others than are signed beside it", "ask")


def _extras(folder: Path, m: Manifest, signed: signature.Signed, trust: Trust) -> Extras:
    """Read what came with the model: template, publisher's signature, reports; each by its digest."""

    def paper(digest: str, limit: int = MAX_PAPER_BYTES) -> bytes:
        name = f"{PAPERS}/{digest.removeprefix('sha256:')}"
        if signed.files.get(name) != digest:
            raise Integrity(f"{digest} did not come along", f"{name} is not there", "export it again")
        return _small(folder, name, limit, digest)

    template = None
    if m.template_replaced and m.template is not None:
        template = formats.text(paper(m.template, gguf.MAX_TEMPLATE_BYTES), "template.jinja")
    ours = _small(folder, MODEL_SIGNATURE, signature.MAX_BUNDLE_BYTES, signed.files.get(MODEL_SIGNATURE))
    return Extras(
        template=template,
        accept_templates=(m.template,) if m.template_accepted and m.template else (),
        parents=m.lineage,
        signature=ours,
        trust=trust,
        publishers=tuple((item, paper(item.digest)) for item in m.signatures),
        references=tuple((item, paper(item.digest)) for item in m.references),
    )


def files_of(folder: Path) -> dict[str, str]:
    """Digest every file of a flat folder of plain files: name -> ``sha256:`` digest.

    Raises:
        Invalid: a link, a folder or anything else that is not a plain file.

    """
    out = {}
    for path in sorted(folder.iterdir()):
        fd = open_regular(path, path.name)
        try:
            out[path.name] = digest_of(fd)
        finally:
            os.close(fd)
    return out


def references(paths: tuple[tuple[str, Path], ...]) -> tuple[tuple[manifest.Reference, bytes], ...]:
    """Read reports to be kept with a model: (evaluation or audit, path); the title is the file's name."""
    out = []
    for kind, path in paths:
        fd = open_regular(path, str(path))
        try:
            content = formats.whole(fd, path.name, MAX_PAPER_BYTES)
        finally:
            os.close(fd)
        item = manifest.Reference(
            kind=msgspec.convert(kind, manifest.ReferenceKind),
            title=path.name,
            digest=manifest.bytes_digest(content),
        )
        out.append((item, content))
    return tuple(out)
