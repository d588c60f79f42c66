"""TUF metadata of a bundle (TUF specification 1.0), judged from bytes: rollback, freeze, mix and match.

The client workflow of the specification (section 5) over python-tuf's public classes, with one clock reading
given, because a site without a network must be able to say how late it is. Stricter than the specification:
Ed25519 only, SHA-256 only, no delegations, one public key is one key, lengths and hashes everywhere,
duplicate keys in the JSON refused. What has expired is reported, not raised: whether stale metadata stops an
import is the home's choice.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec

from allod.domain.errors import Integrity
from allod.vault.bundle.form import MAX_NUMBER, digest_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tuf.api.metadata import Metadata, MetaFile, Root  # type: ignore[attr-defined]

    from allod.vault.bundle.form import Bundle, Known, Seen

FOLDER: Final = "tuf/"
TIMESTAMP, SNAPSHOT, TARGETS = "timestamp", "snapshot", "targets"
ROLES: Final = ("root", TIMESTAMP, SNAPSHOT, TARGETS)
MAX_BYTES: Final = 4 * 1024 * 1024
MAX_ROOTS: Final = 256
MAX_KEYS: Final = 64
MAX_DEPTH: Final = 16
_ROOT: Final = re.compile(r"tuf/([1-9][0-9]{0,4})\.root\.json")
_PUBLIC: Final = re.compile(r"[0-9a-f]{64}")
_WAYS: Final = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """What the metadata says, verified: newest root and its digest, versions, and which roles have expired.

    ``expired`` holds lines of role and time; ``expires_ms`` is when the first role expires.
    """

    root_version: int
    root: str
    timestamp: int
    snapshot: int
    targets: int
    expires_ms: int
    expired: tuple[str, ...]


def target(channel: str, number: int) -> str:
    """Return the path of a bundle among the targets."""
    return f"{channel}/{number}/bundle.json"


def verify(
    files: Mapping[str, bytes],
    bundle: Bundle,
    raw: bytes,
    *,
    anchor: str,
    known: Known,
    now_ms: int,
) -> Chain:
    """Verify the metadata that came with a bundle.

    Args:
        files: the files under ``tuf/``, by path.
        bundle: what ``raw``, the bytes of ``bundle.json``, say.
        anchor: digest of the root that this home was given first.
        known: what was seen before: a root, and versions on this channel.
        now_ms: the time that counts against expiry, UTC milliseconds.

    Raises:
        Integrity: a signature, version, length, hash or form does not hold, or something is older than known.

    """
    seen = known.channels.get(bundle.channel)
    version, digest, root = _roots(files, anchor, known)
    timestamp = _role(files, TIMESTAMP, root)
    snapshot_meta = _single(timestamp, TIMESTAMP, "snapshot.json")
    snapshot = _role(files, SNAPSHOT, root, snapshot_meta)
    targets_meta = _single(snapshot, SNAPSHOT, "targets.json")
    targets = _role(files, TARGETS, root, targets_meta)
    roles = {TIMESTAMP: timestamp, SNAPSHOT: snapshot, TARGETS: targets}
    versions = {name: int(role.signed.version) for name, role in roles.items()}
    _not_older(versions, seen)
    _names(targets, bundle, raw)
    expiry = {name: _ms(role.signed.expires) for name, role in {"root": root, **roles}.items()}
    return Chain(
        root_version=version,
        root=digest,
        timestamp=versions[TIMESTAMP],
        snapshot=versions[SNAPSHOT],
        targets=versions[TARGETS],
        expires_ms=min(expiry.values()),
        expired=tuple(
            f"{name} expired {roles.get(name, root).signed.expires:%Y-%m-%dT%H:%M:%SZ}"
            for name, at in expiry.items()
            if at <= now_ms
        ),
    )


def _ms(at: dt.datetime) -> int:
    return int(at.replace(tzinfo=dt.UTC).timestamp() * 1000)


def _roots(files: Mapping[str, bytes], anchor: str, known: Known) -> tuple[int, str, Metadata[Root]]:
    """Follow the chain of roots; return version, digest and content of the last."""
    named = {int(m[1]): raw for path, raw in files.items() if (m := _ROOT.fullmatch(path))}
    if not named or len(named) > MAX_ROOTS or sorted(named) != list(range(min(named), max(named) + 1)):
        _bad("root", f"got the roots {sorted(named)[:8]}, expected 1 to {MAX_ROOTS} without a gap")
    last, digests = max(named), {n: digest_of(raw) for n, raw in named.items()}
    trusted = known.root if known.root_version else anchor
    if known.root_version > last:
        _bad("root", f"version {last} is older than version {known.root_version} that was seen: a rollback")
    if trusted not in digests.values() or (known.root_version and digests[known.root_version] != trusted):
        _bad("root", f"none of the roots is the trusted one, {trusted[:23] or 'none was given'}")
    before: Metadata[Root] | None = None
    for n in sorted(named):
        here: Metadata[Root] = _metadata(named[n], f"{n}.root.json", "root")
        if here.signed.version != n:
            _bad("root", f"{n}.root.json is version {here.signed.version}")
        _check_root(here.signed)
        for by in (here, before):
            if by is not None:
                _signed(by, here, "root")
        before = here
    if before is None:
        _bad("root", "there is none")
    return last, digests[last], before


def _check_root(root: Root) -> None:
    """Refuse a root that counts one key twice, or knows other keys or roles than a bundle has."""
    if set(root.roles) != set(ROLES) or root.consistent_snapshot:
        _bad(
            "root",
            f"its roles are {sorted(root.roles)[:8]}, expected {sorted(ROLES)}, no consistent snapshot",
        )
    if len(root.keys) > MAX_KEYS:
        _bad("root", f"it has {len(root.keys)} keys, allowed are {MAX_KEYS}")
    publics = []
    for key in root.keys.values():
        public = key.keyval.get("public")
        if (key.keytype, key.scheme) != ("ed25519", "ed25519") or not _PUBLIC.fullmatch(str(public)):
            _bad("root", f"a key is {key.scheme[:40]!r}, expected ed25519")
        publics.append(public)
    if len(set(publics)) != len(publics):
        _bad("root", "it names one public key twice, which would count twice")
    for name, role in root.roles.items():
        if not 1 <= role.threshold <= len(role.keyids) or not set(role.keyids) <= set(root.keys):
            _bad("root", f"{name} demands {role.threshold} of {len(role.keyids)} keys")


def _signed(root: Metadata[Root], role: Metadata[Any], name: str) -> None:
    from tuf.api.exceptions import RepositoryError  # noqa: PLC0415 (only when a bundle is opened)

    try:
        root.signed.verify_delegate(name, role.signed_bytes, role.signatures)
    except (RepositoryError, *_WAYS) as error:
        _bad(name, f"root version {root.signed.version} does not vouch for it: {str(error)[:200]}")


def _role(
    files: Mapping[str, bytes], name: str, root: Metadata[Root], meta: MetaFile | None = None
) -> Metadata[Any]:
    """Read a role; ``meta`` is what the role above says of it."""
    raw = files.get(f"{FOLDER}{name}.json")
    if raw is None:
        _bad(name, "it is not there")
    if meta is not None:
        _same(name, raw, meta.length, meta.hashes)
    role: Metadata[Any] = _metadata(raw, f"{name}.json", name)
    _signed(root, role, name)
    if meta is not None and role.signed.version != meta.version:
        _bad(name, f"it is version {role.signed.version}, expected {meta.version}: mixed from two states")
    return role


def _single(role: Metadata[Any], name: str, of: str) -> MetaFile:
    """Return what a role says of the one file that it names."""
    entries = {of: role.signed.snapshot_meta} if name == TIMESTAMP else dict(role.signed.meta)
    if set(entries) != {of}:
        _bad(name, f"it names {sorted(entries)[:8]}, expected {of}")
    return entries[of]  # type: ignore[no-any-return]


def _same(name: str, raw: bytes, length: int | None, hashes: Mapping[str, str] | None) -> None:
    """Check length and hash; both must be said, and the only algorithm is SHA-256."""
    if length is None or not hashes or set(hashes) != {"sha256"}:
        _bad(name, f"got hashes {sorted(hashes or ())[:4]}, expected a length and sha256, nothing else")
    got = hashlib.sha256(raw).hexdigest()
    if len(raw) != length or got != hashes["sha256"]:
        _bad(name, f"got {len(raw)} bytes {got[:16]}, expected {length} bytes {hashes['sha256'][:16]}: mixed")


def _names(targets: Metadata[Any], bundle: Bundle, raw: bytes) -> None:
    """Check that the targets vouch for this bundle under its channel and number."""
    if targets.signed.delegations is not None:
        _bad(TARGETS, "it delegates, which nothing here follows")
    path = target(bundle.channel, bundle.number)
    found = targets.signed.targets.get(path)
    if found is None:
        _bad(TARGETS, f"it does not vouch for {path}: withdrawn, or never published")
    _same(TARGETS, raw, found.length, found.hashes)
    if found.custom != {"channel": bundle.channel, "number": bundle.number}:
        _bad(TARGETS, f"it says {str(found.custom)[:80]} of {path}")


def _not_older(versions: Mapping[str, int], seen: Seen | None) -> None:
    if seen is None:
        return
    for name, version in versions.items():
        before = getattr(seen, name)
        if version < before:
            _bad(name, f"version {version} is older than version {before} that was seen: a rollback")


def _metadata(raw: bytes, file: str, kind: str) -> Metadata[Any]:
    """Read one file of metadata strictly: bounded, no duplicate key, no float, of the kind its name says."""
    from securesystemslib.exceptions import Error  # noqa: PLC0415
    from tuf.api.exceptions import RepositoryError  # noqa: PLC0415
    from tuf.api.metadata import Metadata  # noqa: PLC0415
    from tuf.api.serialization import DeserializationError  # noqa: PLC0415

    value = strict(raw, file)
    try:
        signatures, signed = value["signatures"], value["signed"]
        if set(value) != {"signatures", "signed"} or signed["_type"] != kind:
            _bad(kind, f"{file} holds {str(signed['_type'])[:40]!r}")
        if not 0 < len(signatures) <= MAX_KEYS:
            _bad(kind, f"{file} has {len(signatures)} signatures, allowed are 1 to {MAX_KEYS}")
        role: Metadata[Any] = Metadata.from_dict(value)
    except (Error, RepositoryError, DeserializationError, *_WAYS) as error:
        _bad(kind, f"{file} is no TUF metadata: {str(error)[:200]}")
    if not 1 <= role.signed.version <= MAX_NUMBER:
        _bad(kind, f"{file} has an impossible version")
    return role


def strict(raw: bytes, file: str) -> Any:
    """Read JSON without duplicate keys, floats, or deep nesting (raises ``Integrity``)."""
    if len(raw) > MAX_BYTES:
        _bad(file, f"it has {len(raw)} bytes, allowed are {MAX_BYTES}")
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_pairs, parse_float=_none, parse_constant=_none)
    except (ValueError, RecursionError) as error:
        _bad(file, f"it is not strict JSON: {str(error)[:200]}")
    waiting: list[tuple[Any, int]] = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if depth > MAX_DEPTH:
            _bad(file, f"it is nested over {MAX_DEPTH} deep")
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        waiting.extend((child, depth + 1) for child in inner)
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a key appears twice")
    return out


def _none(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is no integer")


def _bad(name: str, why: str) -> NoReturn:
    raise Integrity(
        f"the update metadata of the bundle does not hold: {name}",
        why,
        "get the newest bundle of this channel",
    )
