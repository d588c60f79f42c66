"""Manifests: what the vault verified of one model.

They are kept together in the vault's register, which is signed (``register``, ``seal``).
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, Literal

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.vault.model import Kind

MAX_MANIFEST_BYTES: Final = 1024 * 1024
MAX_FILES: Final = 4_096
WEIGHTS: Final = (".gguf", ".safetensors")
FORMATS: Final = (1, 2)
"""Format 1 knew one file and no lineage; it is read as it stands and written no more."""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}[a-z0-9]|[a-z0-9]")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_PLACE: Final = re.compile(r"[A-Z]{2}")


class File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file: the name it came with, its ``sha256:`` digest and its size."""

    name: str
    digest: str
    size_bytes: int


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a pulled file came from: ``revision`` is the commit, never a branch.

    ``digest`` is what the hub or the caller said the file has, empty where neither did.
    """

    endpoint: str
    repo: str
    revision: str
    file: str
    digest: str


ReferenceKind = Literal["evaluation", "audit"]
Relation = Literal["adapter", "fine-tune", "quantisation", "merge", "conversion"]


class Parent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weights that others were made from.

    ``digest`` is None for weights known only by name; ``evidence`` says how far the claim was checked.
    """

    relation: Relation
    name: str
    digest: str | None = None
    evidence: str = "claimed"


class Publisher(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A publisher's signature, kept as it came under its digest.

    ``signer`` is the digest of the key or certificate that it was verified with, None if it never was.
    """

    name: str
    digest: str
    signer: str | None = None
    subject: str | None = None


class Reference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An evaluation or audit: its title, the digest of its report, and whether that names these weights."""

    kind: ReferenceKind
    title: str
    digest: str
    bound: bool = False


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the vault knows of one model or adapter.

    Attributes:
        name: vault name; ``kind`` is model or adapter.
        files: weights first; configuration, tokenizer and texts after them.
        base: for an adapter, the digest of the only weights it belongs to.
        template: digest of the chat template that is served.
        template_replaced: whether the vault serves another than the weights carry, and keeps it as a blob.
        template_inside: digest of the one the weights carry, where it was replaced.
        template_flags: what a person should look at in it.
        template_family: the prompt format it was found to be of.
        template_accepted: whether it was accepted by its digest, without a trial.
        lineage, signatures, references: parents, publishers' signatures, evaluations and audits.
        context_tokens: the length the model was made for, None where its file does not say.
        maker_jurisdiction: ISO 3166-1 alpha-2, None is unknown.
        added_at: RFC 3339, UTC; empty for a shipped model.

    """

    name: str
    kind: Kind
    files: tuple[File, ...]
    architecture: str
    quantisation: str
    parameters: int
    added_at: str
    base: str | None = None
    context_tokens: int | None = None
    template: str | None = None
    template_flags: tuple[str, ...] = ()
    licence: str | None = None
    maker: str | None = None
    maker_jurisdiction: str | None = None
    source: Source | None = None
    description: str = ""
    template_replaced: bool = False
    template_inside: str | None = None
    template_family: str | None = None
    template_accepted: bool = False
    lineage: tuple[Parent, ...] = ()
    signatures: tuple[Publisher, ...] = ()
    references: tuple[Reference, ...] = ()
    format: int = 2

    @property
    def weights(self) -> tuple[File, ...]:
        """The files that hold weights; the only file, whatever its name, is one."""
        if len(self.files) == 1:
            return self.files
        return tuple(file for file in self.files if file.name.endswith(WEIGHTS))

    @property
    def loadable(self) -> bool:
        """Whether the engine of this house can load it: its weights are one GGUF file."""
        return len(self.weights) == 1 and not self.weights[0].name.endswith(".safetensors")

    @property
    def digest(self) -> str:
        """The ``sha256:`` digest of the weights or adapter: of the one file, or of the list of all files."""
        return self.files[0].digest if self.loadable else content_digest(self.files)

    @property
    def template_carried(self) -> str | None:
        """The digest of the chat template that the weights carry, served or not."""
        return self.template_inside if self.template_replaced else self.template

    @property
    def size_bytes(self) -> int:
        """The size of all its files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def blobs(self) -> frozenset[str]:
        """Every digest that must stay in the vault while this manifest does."""
        own = {file.digest for file in self.files} | {item.digest for item in self.signatures}
        if self.template is not None and self.template_replaced:
            own.add(self.template)
        return frozenset(own | {item.digest for item in self.references})


class _Listed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the package's own list of models; digests are bare hex there."""

    name: str
    file: str
    sha256: str
    size_bytes: int
    kind: Kind
    base: str | None
    architecture: str
    parameters: int
    quantisation: str
    context_tokens: int | None
    chat_template_sha256: str | None
    licence: str | None
    maker: str | None
    maker_jurisdiction: str | None
    description: str = ""


def decode_shipped(raw: bytes) -> dict[str, Manifest]:
    """Read the package's list of models by name (raises ``Integrity``)."""
    try:
        listed = msgspec.json.decode(raw, type=dict[str, tuple[_Listed, ...]])["models"]
    except (KeyError, msgspec.DecodeError) as error:
        raise _broken("the shipped models", str(error)) from error
    out: dict[str, Manifest] = {}
    for item in listed:
        template = item.chat_template_sha256
        entry = Manifest(
            name=check_name(item.name),
            kind=item.kind,
            files=(File(name=item.file, digest="sha256:" + item.sha256, size_bytes=item.size_bytes),),
            base=item.base,
            architecture=item.architecture,
            quantisation=item.quantisation,
            parameters=item.parameters,
            context_tokens=item.context_tokens,
            template=None if template is None else "sha256:" + template,
            licence=item.licence,
            maker=item.maker,
            maker_jurisdiction=item.maker_jurisdiction,
            description=item.description,
            added_at="",
        )
        out[item.name] = decode(encode(entry), item.name)
    return out


def is_name(name: str) -> bool:
    """Tell whether a text can be a vault name; what is stored under another one is never used."""
    return _NAME.fullmatch(name) is not None and ".." not in name and not name.startswith("sha256")


def check_name(name: str) -> str:
    """Return a name that is safe as a file name everywhere (raises ``Invalid``)."""
    if not is_name(name):
        raise Invalid(
            f"{name[:80]!r} is not a vault name",
            "names are 1 to 64 of a-z, 0-9, dot, dash and underscore, begin and end with a letter or digit, "
            "hold no double dot and do not begin with sha256",
            "choose another name",
            param="name",
        )
    return name


def is_digest(text: str) -> bool:
    """Tell whether this is ``sha256:`` and 64 lower-case hex digits."""
    return _DIGEST.fullmatch(text) is not None


def check_place(place: str | None) -> str | None:
    """Return an ISO 3166-1 alpha-2 code or None (raises ``Invalid``)."""
    if place is not None and not _PLACE.fullmatch(place):
        raise Invalid(
            f"{place[:20]!r} is not a jurisdiction",
            "a maker's jurisdiction is two capital letters of ISO 3166-1",
            "write for example DE",
            param="maker_jurisdiction",
        )
    return place


def content_digest(files: tuple[File, ...]) -> str:
    """Digest a list of files: SHA-256 over one line of name, digest and size for each, sorted by name."""
    lines = sorted(f"{file.name}\t{file.digest}\t{file.size_bytes}\n" for file in files)
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def bytes_digest(content: bytes) -> str:
    """Digest bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def text_digest(text: str) -> str:
    """Digest the UTF-8 bytes of a text."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def encode(manifest: Manifest) -> bytes:
    """Write a manifest as readable JSON in sorted order."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=2) + b"\n"


def decode(raw: bytes, name: str) -> Manifest:
    """Read the manifest of ``name`` strictly.

    Raises:
        Integrity: not a manifest, of another name, or with digests that are none.

    """
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _broken(name, str(error)) from error
    return check(manifest, name)


def check(manifest: Manifest, name: str) -> Manifest:
    """Return a manifest that holds together and is of this name (raises ``Integrity``)."""
    if manifest.name != name:
        raise _broken(name, f"it speaks of {manifest.name[:80]!r}")
    if manifest.format not in FORMATS:
        raise _broken(name, f"its format is {manifest.format}, this version reads {FORMATS}")
    limit = 1 if manifest.format == 1 else MAX_FILES
    if manifest.weights and manifest.files[0] is not manifest.weights[0]:
        raise _broken(name, "its weights do not come first")
    if not 0 < len(manifest.files) <= limit or not all(is_digest(file.digest) for file in manifest.files):
        raise _broken(name, f"it must name 1 to {limit} files by their sha256 digests")
    if len({file.name.casefold() for file in manifest.files}) != len(manifest.files):
        raise _broken(name, "two of its files have the same name")
    if not all(0 <= file.size_bytes < 1 << 62 for file in manifest.files):
        raise _broken(name, "a file has no possible size")
    if (manifest.kind == "adapter") != (manifest.base is not None):
        raise _broken(name, "an adapter, and only an adapter, names its base")
    named = (
        manifest.base,
        manifest.template,
        manifest.template_inside,
        *(item.digest for item in manifest.lineage),
        *(item.digest for item in manifest.signatures),
        *(item.digest for item in manifest.references),
    )
    if not all(is_digest(text) for text in named if text is not None):
        raise _broken(name, "base, template, parents, signatures and references are named by digest")
    return manifest


def _broken(name: str, why: str) -> Integrity:
    return Integrity(f"the manifest of {name} cannot be used", why, "remove it and add the model again")
