"""The OCI image layout inside a bundle, written from ``bundle.json`` and never parsed.

OCI image layout 1.1: ``oci-layout``, ``index.json`` and ``blobs/sha256/<hex>``, one manifest per item.
Weights have ModelPack media types, so that OCI tools can push and pull them. Because these files follow from
what was signed, a verifier compares bytes; nothing in them can say what ``bundle.json`` does not.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from allod.domain.errors import Integrity
from allod.receipts.canonical import canonical
from allod.vault.bundle.form import Bundle, Item, Kind, Part, digest_of

OCI_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
BLOBS: Final = "blobs/sha256/"
MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
EMPTY: Final = "application/vnd.oci.empty.v1+json"
MODEL_CONFIG: Final = "application/vnd.cncf.model.config.v1+json"
MODEL: Final = "application/vnd.cncf.model.manifest.v1+json"


def blob(digest: str) -> str:
    """Return the path of a blob in the bundle."""
    return BLOBS + digest.removeprefix("sha256:")


def artifact_type(kind: Kind) -> str:
    """Return the OCI artifact type of a kind of item."""
    return MODEL if kind == "model" else f"application/vnd.allod.{kind}.v1"


def config(item: Item) -> tuple[str, bytes]:
    """Return media type and bytes of an item's configuration: ModelPack's for a model, else empty."""
    if item.kind != "model":
        return EMPTY, b"{}"
    return MODEL_CONFIG, canonical({
        "config": {},
        "descriptor": {"name": item.name, "version": item.version},
        "modelfs": {"diffIds": [part.digest for part in item.parts], "type": "layers"},
    })  # fmt: skip


def manifest(item: Item) -> bytes:
    """Write the OCI manifest of an item; ``item.digest`` is not looked at."""
    media, raw = config(item)
    return canonical({
        "annotations": {"org.opencontainers.image.title": item.name,
                        "org.opencontainers.image.version": item.version},
        "artifactType": artifact_type(item.kind),
        "config": {"digest": digest_of(raw), "mediaType": media, "size": len(raw)},
        "layers": [_layer(part) for part in item.parts],
        "mediaType": MANIFEST,
        "schemaVersion": 2,
    })  # fmt: skip


def _layer(part: Part) -> dict[str, Any]:
    return {
        "annotations": {"org.cncf.model.filepath": part.path, "org.opencontainers.image.title": part.path},
        "digest": part.digest,
        "mediaType": part.media_type,
        "size": part.size_bytes,
    }


def item(kind: Kind, name: str, version: str, parts: tuple[Part, ...]) -> Item:
    """Make an item: parts sorted, digest of its manifest filled in."""
    ordered = tuple(sorted(parts, key=lambda part: part.path))
    bare = Item(kind=kind, name=name, version=version, digest="", parts=ordered)
    return msgspec.structs.replace(bare, digest=digest_of(manifest(bare)))


def index(bundle: Bundle) -> bytes:
    """Write ``index.json``: the manifests of the items, in their order."""
    return canonical({
        "manifests": [
            {
                "annotations": {"org.opencontainers.image.ref.name": f"{one.kind}-{one.name}-{one.version}"},
                "artifactType": artifact_type(one.kind),
                "digest": one.digest,
                "mediaType": MANIFEST,
                "size": len(manifest(one)),
            }
            for one in bundle.items
        ],
        "mediaType": INDEX,
        "schemaVersion": 2,
    })  # fmt: skip


def structure(bundle: Bundle) -> dict[str, bytes]:
    """Return every file of the layout that is not a part: path -> bytes.

    Raises:
        Integrity: an item's digest is not that of the manifest which follows from it.

    """
    out = {"oci-layout": OCI_LAYOUT, "index.json": index(bundle)}
    for one in bundle.items:
        raw = manifest(one)
        if digest_of(raw) != one.digest:
            raise Integrity(
                f"the OCI manifest of {one.kind} {one.name} is another one",
                f"got {one.digest}, what is signed makes {digest_of(raw)}",
                "get the bundle again from its publisher",
            )
        out[blob(one.digest)] = raw
        out[blob(digest_of(config(one)[1]))] = config(one)[1]
    return out


def sizes(bundle: Bundle) -> dict[str, int]:
    """Return the path and size in bytes of every file under the layout.

    Raises:
        Integrity: a part is given the digest of another file and another size.

    """
    out = {path: len(raw) for path, raw in structure(bundle).items()}
    for part in bundle.parts:
        if out.setdefault(blob(part.digest), part.size_bytes) != part.size_bytes:
            raise Integrity(
                f"{part.path[:200]!r} has an impossible size",
                f"got {part.size_bytes} bytes for {part.digest}, which has {out[blob(part.digest)]}",
                "get the bundle again from its publisher",
            )
    return out
