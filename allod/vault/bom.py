"""A bill of materials for one model: CycloneDX 1.6, a component of the type machine-learning-model.

Written by hand, because the libraries have no model card yet. Identifiers are derived from the digest, so the
same model always gives the same document. What CycloneDX has no place for stands in properties named
``allod:``, the chat template's digest first among them.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from allod.vault.manifest import File, Manifest

SPEC: Final = "1.6"
MEDIA_TYPE: Final = "application/vnd.cyclonedx+json; version=1.6"
_NAMESPACE: Final = uuid.UUID("6f1d4a0c-6d5e-5c1b-9a55-0a1d0d5b8f10")


def _hash(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest.removeprefix("sha256:")}


def _file(file: File) -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": f"file:{file.digest}:{file.name}",
        "name": file.name,
        "hashes": [_hash(file.digest)],
        "properties": [{"name": "allod:size_bytes", "value": str(file.size_bytes)}],
    }


def _properties(m: Manifest) -> list[dict[str, str]]:
    pairs = {
        "allod:digest": m.digest,
        "allod:kind": m.kind,
        "allod:quantisation": m.quantisation,
        "allod:parameters": str(m.parameters),
        "allod:context_tokens": None if m.context_tokens is None else str(m.context_tokens),
        "allod:chat_template_sha256": m.template and m.template.removeprefix("sha256:"),
        "allod:chat_template_inside_sha256": m.template_inside and m.template_inside.removeprefix("sha256:"),
        "allod:chat_template_family": m.template_family,
        "allod:maker_jurisdiction": m.maker_jurisdiction,
        "allod:base": m.base,
        "allod:added_at": m.added_at or None,
    }
    out = [{"name": name, "value": value} for name, value in pairs.items() if value]
    out += [{"name": "allod:chat_template_flag", "value": flag} for flag in m.template_flags]
    for made in m.signatures:
        out.append({"name": "allod:signature_sha256", "value": made.digest.removeprefix("sha256:")})
        if made.signer:
            out.append({"name": "allod:signer", "value": made.signer})
    out += [{"name": f"allod:{item.kind}", "value": f"{item.digest} {item.title}"} for item in m.references]
    return out


def _pedigree(m: Manifest) -> dict[str, Any] | None:
    ancestors = [
        {
            "type": "machine-learning-model",
            "bom-ref": f"parent:{number}",
            "name": parent.name,
            **({"hashes": [_hash(parent.digest)]} if parent.digest else {}),
            "properties": [
                {"name": "allod:relation", "value": parent.relation},
                {"name": "allod:evidence", "value": parent.evidence},
            ],
        }
        for number, parent in enumerate(m.lineage)
    ]
    if m.base is not None and not any(parent.digest == m.base for parent in m.lineage):
        ancestors.append({"type": "machine-learning-model", "bom-ref": "base", "name": m.base,
                          "hashes": [_hash(m.base)],
                          "properties": [{"name": "allod:relation", "value": "adapter"}]})  # fmt: skip
    return {"ancestors": ancestors} if ancestors else None


def document(m: Manifest, *, version: str) -> dict[str, Any]:
    """Describe a model as a CycloneDX 1.6 document; ``version`` is that of this program."""
    component: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": m.digest,
        "name": m.name,
        "hashes": [_hash(m.digest)] if m.loadable or len(m.files) == 1 else [],
        "modelCard": {
            "bom-ref": "card",
            "modelParameters": {"modelArchitecture": m.architecture, "task": "text-generation"},
        },
        "components": [_file(file) for file in m.files],
        "properties": _properties(m),
    }
    if m.description:
        component["description"] = m.description
    if m.licence:
        component["licenses"] = [{"license": {"name": m.licence}}]
    if m.maker:
        component["manufacturer"] = {"name": m.maker}
    if m.source is not None:
        component["externalReferences"] = [
            {"type": "distribution", "url": f"{m.source.endpoint}/{m.source.repo}",
             "comment": f"revision {m.source.revision}, {m.source.file}"}
        ]  # fmt: skip
    pedigree = _pedigree(m)
    if pedigree:
        component["pedigree"] = pedigree
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, m.digest + m.name)}",
        "version": 1,
        "metadata": {
            **({"timestamp": m.added_at} if m.added_at else {}),
            "tools": {"components": [{"type": "application", "name": "allod", "version": version}]},
            "component": component,
        },
    }


def encode(m: Manifest, *, version: str) -> bytes:
    """Write ``document`` as JSON in sorted order."""
    value = document(m, version=version)
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"
