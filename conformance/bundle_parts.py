"""What hostile bundles are made of: a publisher with fixed keys, a good bundle, and ways to break it."""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from vector_parts import LOG, Tree, Vector

from allod.receipts.canonical import canonical
from allod.receipts.checkpoint import sign as sign_checkpoint
from allod.receipts.leaves import NoticeFacts, notice_leaf
from allod.receipts.proof import Proof, write_proof
from allod.vault.bundle import envelope, form, layout, logproof, metadata, tar

if TYPE_CHECKING:
    from collections.abc import Callable

    from allod.receipts.notes import Signer as LogSigner

CREATED_MS = 1_793_000_000_000
DAY_MS = 86_400_000
NOW_MS = CREATED_MS + 3 * DAY_MS
CHANNEL, NUMBER = "stable", 7
HOME, OTHER_HOME = "allod/1111111111111111", "allod/2222222222222222"
IMPORTER = "0.1.0"
KEYS = {
    name: Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b"-"))
    for name in (
        "signer", "second", "stranger", "attacker",
        "root", "root-next", "timestamp", "timestamp-next", "snapshot", "targets",
    )
}  # fmt: skip


def public(name: str) -> bytes:
    """Return the raw public key of a name."""
    return KEYS[name].public_key().public_bytes_raw()


def key_id(name: str) -> str:
    """Return its key id."""
    return envelope.key_id(public(name))


def part(path: str, data: bytes, kind: str) -> form.Part:
    """Describe a part; a path that has no media type gets a pack's."""
    try:
        media = form.media_type(kind, path)
    except form.Integrity:
        media = form.media_type("pack", "pack/pack.toml")
    return form.Part(path=path, digest=form.digest_of(data), size_bytes=len(data), media_type=media)


CONTENT: dict[tuple[str, str], dict[str, bytes]] = {
    ("model", "tiny"): {
        "bom.cdx.json": b'{"bomFormat":"CycloneDX"}',
        "files/model.gguf": b"GGUF" + bytes(60),
        "manifest.json": b'{"name":"tiny"}',
    },
    ("pack", "ward"): {
        "pack/pack.toml": b'id = "ward"\nversion = "1"\n',
        "pack/policies.cedar": b"// none\n",
    },
    ("prices", "prices"): {"prices.json": b'{"as_of":"2026-10-01"}'},
}


@dataclass
class Tuf:
    """The metadata of a bundle, and ways to get it wrong."""

    version: int = 7
    days: int = 90
    roots: list[bytes] = field(default_factory=list)
    signers: dict[str, str] = field(default_factory=dict)
    path: str = metadata.target(CHANNEL, NUMBER)
    custom: dict[str, Any] = field(default_factory=lambda: {"channel": CHANNEL, "number": NUMBER})
    versions: dict[str, int] = field(default_factory=dict)
    target_hashes: Callable[[bytes], dict[str, str]] = field(
        default=lambda raw: {"sha256": form.digest_of(raw)[7:]}
    )

    def files(self, raw: bytes) -> dict[str, bytes]:
        """Write every file of ``tuf/`` for a ``bundle.json``."""
        entry = TargetFile(len(raw), self.target_hashes(raw), self.path, {"custom": self.custom})
        out: dict[str, bytes] = {}

        def write(kind: type[Any], name: str, content: Any) -> MetaFile:
            signed = kind(self.versions.get(name, self.version), None, expires(self.days), content)
            data = signed_by(signed, self.signers.get(name, name))
            out[f"tuf/{name}.json"] = data
            return MetaFile(signed.version, len(data), {"sha256": form.digest_of(data)[7:]})

        meta = write(Targets, "targets", {self.path: entry})
        meta = write(Snapshot, "snapshot", {"targets.json": meta})
        write(Timestamp, "timestamp", meta)
        roots = self.roots or [root()]
        return out | {f"tuf/{n}.root.json": data for n, data in enumerate(roots, 1)}


def expires(days: int) -> dt.datetime:
    """Return a time so many days after the bundle was made."""
    return dt.datetime.fromtimestamp((CREATED_MS + days * DAY_MS) // 1000, dt.UTC)


def signed_by(signed: Any, *names: str) -> bytes:
    """Write metadata signed by these keys."""
    role: Metadata[Any] = Metadata(signed)
    for name in names:
        public_key = SSlibKey(key_id(name), "ed25519", "ed25519", {"public": public(name).hex()})
        role.sign(CryptoSigner(KEYS[name], public_key), append=True)
    return role.to_bytes()


def root(version: int = 1, *by: str, change: Callable[[Any], None] | None = None, **roles: str) -> bytes:
    """Write a root; ``roles`` name other keys than the usual ones."""
    named = {name: roles.get(name, name) for name in metadata.ROLES}
    signed = Root(
        version=version,
        expires=expires(1_825),
        keys={
            key_id(key): SSlibKey(key_id(key), "ed25519", "ed25519", {"public": public(key).hex()})
            for key in named.values()
        },
        roles={name: Role([key_id(key)], 1) for name, key in named.items()},
        consistent_snapshot=False,
    )
    if change is not None:
        change(signed)
    return signed_by(signed, *(by or (named["root"],)))


def proof(raw: bytes, log: LogSigner = LOG, **other: str) -> dict[str, bytes]:
    """Write the files of ``proof/``: a leaf among five, and its path to a signed root."""
    facts = logproof.facts(form.digest_of(raw), CHANNEL, NUMBER) | other
    told = NoticeFacts(id="r_00000000_0", at_ms=CREATED_MS, tenant="t", subject="bundle", facts=facts)
    leaf = notice_leaf(told)
    tree = Tree([b"a", b"b", leaf, b"c", b"d"])
    checkpoint = sign_checkpoint(log, 5, tree.root(5))
    text = write_proof(Proof(index=2, hashes=tree.path(2, 5), checkpoint=checkpoint))
    return {logproof.LEAF: leaf, logproof.INCLUSION: text.encode(), logproof.CHECKPOINT: checkpoint}


def items(content: dict[tuple[str, str], dict[str, bytes]]) -> tuple[form.Item, ...]:
    """Describe items as they stand in a bundle."""
    return tuple(
        layout.item(kind, name, "1", tuple(part(path, data, kind) for path, data in parts.items()))  # type: ignore[arg-type]
        for (kind, name), parts in sorted(content.items())
    )


def bundle(**changes: Any) -> form.Bundle:
    """Return the good bundle, or one with other fields."""
    good = form.Bundle(
        format=form.FORMAT,
        channel=CHANNEL,
        number=NUMBER,
        created_at="2026-10-26T07:33:20.000Z",
        source=LOG.key.name,
        audience=(HOME,),
        min_importer=IMPORTER,
        items=items(CONTENT),
        notes="",
    )
    return msgspec.structs.replace(good, **changes)


def written(value: form.Bundle) -> bytes:
    """Write ``bundle.json`` without asking whether it may be."""
    return canonical(msgspec.to_builtins(value))


def whole(
    value: form.Bundle | bytes | None = None,
    *,
    content: dict[tuple[str, str], dict[str, bytes]] | None = None,
    signers: tuple[str, ...] = ("signer",),
    tuf: Tuf | None = None,
    log: LogSigner = LOG,
) -> dict[str, bytes]:
    """Write a bundle whole, signed and vouched for whatever it says: path -> bytes."""
    if value is None:
        value = bundle(items=items(content)) if content is not None else bundle()
    raw = value if isinstance(value, bytes) else written(value)
    out = {"bundle.json": raw, "bundle.dsse.json": envelope.sign(raw, [KEYS[name] for name in signers])}
    if isinstance(value, form.Bundle):
        out |= _layout(value)
    for parts in (content or CONTENT).values():
        out |= {layout.blob(form.digest_of(data)): data for data in parts.values()}
    return out | (tuf or Tuf()).files(raw) | proof(raw, log)


def _layout(value: form.Bundle) -> dict[str, bytes]:
    out = {"oci-layout": layout.OCI_LAYOUT, "index.json": layout.index(value)}
    for one in value.items:
        for raw in (layout.manifest(one), layout.config(one)[1]):
            out[layout.blob(form.digest_of(raw))] = raw
    return out


def edited(change: Callable[[Any], None]) -> dict[str, bytes]:
    """Write the good bundle with its JSON changed, and everything signed for the change."""
    value = json.loads(written(bundle()))
    change(value)
    good = whole()
    return good | {k: v for k, v in whole(canonical(value)).items() if not k.startswith("blobs/")}


TRUST: dict[str, Any] = {
    "signers": {key_id("signer"): {"public": public("signer").hex(), "name": "signer"}},
    "threshold": 1,
    "root": form.digest_of(root()),
    "log_vkeys": [LOG.key.vkey()],
    "require_log_proof": True,
    "channels": [],
    "refuse_stale": True,
    "grace_ms": 0,
}
BOTH: dict[str, Any] = {
    key_id(name): {"public": public(name).hex(), "name": name} for name in ("signer", "second")
}
BASE: dict[str, Any] = {
    "trust": TRUST,
    "known": {"root_version": 0, "root": "", "seen_ms": 0, "channels": {}, "revoked": []},
    "now_ms": NOW_MS,
    "importer_version": IMPORTER,
    "origin": HOME,
}


def seen(number: int = 6, digest: str = "sha256:" + "0" * 64, **versions: int) -> dict[str, Any]:
    """Return what was imported before on the channel."""
    at = {"timestamp": 6, "snapshot": 6, "targets": 6} | versions
    return {"channels": {CHANNEL: {"number": number, "digest": digest, **at}}}


GOOD = whole()


def folder(
    name: str,
    files: dict[str, bytes],
    by: str,
    attack: str,
    allows: str,
    *,
    links: dict[str, str] | None = None,
    known: dict[str, Any] | None = None,
    trust: dict[str, Any] | None = None,
    **given: Any,
) -> Vector:
    """Return a vector of a folder, as what differs from the good one; ``by`` is the step that refuses."""
    changed = {path: _b64(data) for path, data in sorted(files.items()) if GOOD.get(path) != data}
    said: dict[str, Any] = {"refused_by": by, "files": changed, "without": sorted(GOOD.keys() - files.keys())}
    if links:
        said["links"] = links
    if known is not None:
        said["known"] = BASE["known"] | known
    if trust is not None:
        said["trust"] = TRUST | trust
    return Vector("bundle", name, "folder", said | given, not by, attack, allows)


def tarred(name: str, raw: bytes, by: str, attack: str, allows: str) -> Vector:
    """Return a vector of a tar."""
    given = {"refused_by": by, "tar_gz": _b64(gzip.compress(raw, 9, mtime=0))}
    return Vector("bundle", name, "tar", given, not by, attack, allows)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def entry(path: str, data: bytes) -> bytes:
    """Write one file of a tar."""
    return tar.header(path, len(data), CREATED_MS // 1000) + data + tar.padding(len(data))


def tar_of(files: dict[str, bytes], before: bytes = b"", end: bytes = tar.END) -> bytes:
    """Write a tar of files, with bytes before them."""
    return before + b"".join(entry(path, data) for path, data in files.items()) + end


def header(path: str, size: int = 0, kind: bytes = b"0", **fields: tuple[int, bytes]) -> bytes:
    """Write a header field by field; ``fields`` are (offset, bytes), and the checksum is right for them."""
    block = bytearray(tar.header("x", 0, 0))
    block[0:100] = path.encode().ljust(100, b"\0")
    block[124:136] = b"%011o\0" % size
    block[156:157] = kind
    for at, data in fields.values():
        block[at : at + len(data)] = data
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(**records: str) -> bytes:
    """Write a pax header of records."""
    body = b""
    for key, value in records.items():
        line = f" {key}={value}\n".encode()
        length = len(line) + 1
        while len(str(length)) + len(line) != length:
            length += 1
        body += str(length).encode() + line
    return header("PaxHeader", len(body), b"x") + body + tar.padding(len(body))


def crowd(raw: bytes) -> bytes:
    """Add a hundred signatures of nobody."""
    value = json.loads(raw)
    value["signatures"] += [{"keyid": f"{n:064x}", "sig": "00" * 64} for n in range(100)]
    return json.dumps(value).encode()


def twice(signed: Any) -> None:
    """Name one public key twice."""
    key = signed.keys[key_id("timestamp")]
    signed.keys["f" * 64] = type(key)("f" * 64, "ed25519", "ed25519", dict(key.keyval))
    signed.roles["timestamp"].keyids.append("f" * 64)
    signed.roles["timestamp"].threshold = 2


def rsa(signed: Any) -> None:
    """Give a key another scheme."""
    signed.keys[key_id("timestamp")].scheme = "rsassa-pss-sha256"


def beyond(signed: Any) -> None:
    """Demand more signatures than there are keys."""
    signed.roles["timestamp"].threshold = 3
