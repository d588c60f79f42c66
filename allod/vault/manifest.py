"""Manifests: what the vault verified, one JSON file per name.

A manifest is not signed in this form: whoever can write the vault's folder can replace manifest and blob
together. What it does guarantee is that the bytes an engine loads are the bytes that were checked.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.vault.model import Kind

MAX_MANIFEST_BYTES: Final = 64 * 1024
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


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the vault knows of one model or adapter.

    Attributes:
        name: vault name; ``kind`` is model or adapter.
        files: exactly one in this form.
        base: for an adapter, the digest of the only weights it belongs to.
        template, template_flags: digest of the chat template, and what a person should look at in it.
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
    format: int = 1

    @property
    def digest(self) -> str:
        """The ``sha256:`` digest of the weights or of the adapter."""
        return self.files[0].digest

    @property
    def size_bytes(self) -> int:
        """The size of the weights or of the adapter."""
        return self.files[0].size_bytes


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
    if manifest.name != name:
        raise _broken(name, f"it speaks of {manifest.name[:80]!r}")
    if len(manifest.files) != 1 or not all(is_digest(file.digest) for file in manifest.files):
        raise _broken(name, "it must name exactly one file by its sha256 digest")
    if manifest.format != 1:
        raise _broken(name, f"its format is {manifest.format}, this version reads 1")
    if (manifest.kind == "adapter") != (manifest.base is not None):
        raise _broken(name, "an adapter, and only an adapter, names its base")
    if not all(is_digest(text) for text in (manifest.base, manifest.template) if text is not None):
        raise _broken(name, "base and template are named by digest")
    return manifest


def _broken(name: str, why: str) -> Integrity:
    return Integrity(f"the manifest of {name} cannot be used", why, "remove it and add the model again")
