"""The source's side of TUF: roots, the bundles it vouches for, and the last number of each channel.

Layout of the folder (``publish/`` of a home)::

    tuf/N.root.json                            the chain of roots
    tuf/targets.json snapshot.json timestamp.json   what is vouched for now
    channels.json                              channel -> last number and digest
    lock                                       one publisher at a time

A number is written down before anything is signed for it, so that no two bundles ever have one number,
whatever is interrupted. Versions only grow. Expiry follows the cadence of carriers, not of networks: 90 days
for the timestamp by default, a year for snapshot and targets, five for the root.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.errors import Integrity, Invalid, Unavailable
from allod.receipts.canonical import canonical, parse
from allod.store.home import write_file
from allod.vault.blobs import storage_errors
from allod.vault.bundle import form, keys, metadata
from allod.vault.bundle.form import Keyring, Signer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tuf.api.metadata import Metadata, Root  # type: ignore[attr-defined]

    from allod.vault.bundle.keys import Key

CHANNELS: Final = "channels.json"
MAX_CHANNELS_BYTES: Final = 1024 * 1024
KEPT: Final = 64
"""How many bundles of a channel stay vouched for."""
MAX_DAYS: Final = 3_650
_ID: Final = re.compile(r"[0-9a-f]{8,64}")


class Expiry(msgspec.Struct, frozen=True, kw_only=True):
    """For how many days each role's metadata counts."""

    timestamp: int = 90
    snapshot: int = 365
    targets: int = 365
    root: int = 1_825


class Published(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last bundle of a channel."""

    number: int
    digest: str


class Publisher:
    """A publisher's metadata and keys.

    Args:
        folder: ``publish/`` of the home; made when it is first written.
        key_folders: where private keys lie; the first is the home's own.
        expiry: days until metadata expires.

    """

    def __init__(self, folder: Path, key_folders: tuple[Path, ...], expiry: Expiry | None = None) -> None:
        self.folder, self.key_folders, self.expiry = folder, key_folders, expiry or Expiry()
        self.tuf = folder / "tuf"
        for days in msgspec.structs.astuple(self.expiry):
            if not 1 <= days <= MAX_DAYS:
                raise Invalid("metadata cannot expire so", f"got {days} days, expected 1 to {MAX_DAYS}")

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the right to publish.

        Raises:
            Unavailable: another process has it (``busy``), or the disk fails.

        """
        with storage_errors("the publisher's folder cannot be written"):
            self.tuf.mkdir(parents=True, exist_ok=True, mode=0o700)
            fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise Unavailable(
                    "another publisher is at work", f"it holds {self.folder}/lock", "wait for it", kind="busy"
                ) from error
            yield
        finally:
            os.close(fd)

    # -- roots

    def roots(self) -> dict[int, bytes]:
        """Return the chain of roots by version; empty before the first."""
        found = {int(p.name.split(".", 1)[0]): p for p in self.tuf.glob("[1-9]*.root.json")}
        return {n: found[n].read_bytes() for n in sorted(found)}

    def root(self) -> Metadata[Root]:
        """Return the newest root (raises ``Invalid`` before the first, ``Integrity`` if it is damaged)."""
        roots = self.roots()
        if not roots:
            raise Invalid(
                "there is no root of trust yet",
                "no TUF root was made",
                "make one with `allod bundle keys init`",
            )
        root: Metadata[Root] = _loaded(roots[max(roots)], "root")
        return root

    def new_root(
        self, *, now_ms: int, thresholds: Mapping[str, int] | None = None, retired: tuple[str, ...] = ()
    ) -> int:
        """Write the next root: keys of the last but those retired, and every key in the folders; its version.

        The new root is signed by the last one's keys and by its own, as clients demand (TUF 5.3.4).

        Args:
            now_ms: UTC milliseconds.
            thresholds: role -> how many signatures; those of the last root, or 1, where absent.
            retired: key ids (or their beginnings) that count no more.

        Raises:
            Invalid: no such key id, a role would have too few keys, or keys are missing that must sign.

        """
        from tuf.api.metadata import Metadata, Root  # type: ignore[attr-defined]  # noqa: PLC0415

        for one in retired:
            if not _ID.fullmatch(one):
                raise Invalid(
                    f"{one[:40]!r} is no key id", "it has 8 to 64 hex digits", "see `bundle keys list`"
                )
        here, roots = keys.load(*self.key_folders), self.roots()
        last: Any = _loaded(roots[max(roots)], "root") if roots else None
        public, roles = _chosen(here, last, dict(thresholds or {}), retired)
        version = 1 if last is None else last.signed.version + 1
        signed = Root(
            version=version,
            expires=_expires(now_ms, self.expiry.root),
            keys=public,
            roles=roles,
            consistent_snapshot=False,
        )
        root = Metadata(signed)
        able = {*roles["root"].keyids, *(last.signed.roles["root"].keyids if last else ())}
        _sign(root, [key for key in here if key.key_id in able])
        for by in (root, last):
            if by is not None:
                _vouched(by, root)
        with self.alone(), storage_errors("the root could not be written"):
            path = self.tuf / f"{version}.root.json"
            if path.exists():
                raise Unavailable(
                    "another root was written meanwhile", str(path), "look, then repeat", kind="busy"
                )
            write_file(path, root.to_bytes())
        return version

    # -- bundles

    def last(self, channel: str) -> Published | None:
        """Return the last bundle of a channel (raises ``Integrity`` where the file is damaged)."""
        return self._channels().get(channel)

    def record(self, channel: str, number: int, digest: str) -> None:
        """Write down that a number is this digest's; call it in ``alone`` and before anything is signed.

        Raises:
            Integrity: the number is another bundle's, or older.

        """
        channels = self._channels()
        last = channels.get(channel)
        here = Published(number=number, digest=digest)
        if last == here:
            return
        if last is not None and number <= last.number:
            raise Integrity(
                f"{channel} {number} is taken", f"the last is {last.number} {last.digest}", "begin again"
            )
        with storage_errors("the number could not be written"):
            channels[channel] = here
            write_file(self.folder / CHANNELS, canonical(msgspec.to_builtins(channels)))

    def vouch(self, channel: str, number: int, raw: bytes, *, now_ms: int) -> dict[str, bytes]:
        """Sign for a bundle; return every file of ``tuf/`` by its path in a bundle. Call it in ``alone``.

        Raises:
            Invalid: keys are missing. Unavailable: the disk.

        """
        from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]  # noqa: PLC0415

        path = metadata.target(channel, number)
        entry = TargetFile(
            length=len(raw),
            hashes={"sha256": form.digest_of(raw).removeprefix("sha256:")},
            path=path,
            unrecognized_fields={"custom": {"channel": channel, "number": number}},
        )
        return self._sign_again(now_ms, lambda targets: _kept({**targets, path: entry}, channel))

    def withdraw(self, channel: str, number: int, *, now_ms: int) -> dict[str, bytes]:
        """Vouch for a bundle no more: metadata from now on does not name it. Call it in ``alone``."""
        path = metadata.target(channel, number)
        return self._sign_again(
            now_ms, lambda targets: {name: entry for name, entry in targets.items() if name != path}
        )

    def keyring(self, log_vkeys: tuple[str, ...] = (), *, proof: bool = True) -> Keyring:
        """Return what somebody who trusts this publisher alone believes.

        Raises:
            Invalid: there is no root or no key that signs bundles.

        """
        signers = {
            key.key_id: Signer(public=key.public, name=f"{keys.BUNDLE}-{key.key_id[:16]}")
            for key in keys.of(keys.load(*self.key_folders), keys.BUNDLE)
        }
        self.root()
        roots = self.roots()
        return Keyring(
            signers=signers,
            root=form.digest_of(roots[min(roots)]),
            log_vkeys=log_vkeys,
            require_log_proof=proof,
        )

    def _channels(self) -> dict[str, Published]:
        try:
            raw = (self.folder / CHANNELS).read_bytes()[: MAX_CHANNELS_BYTES + 1]
        except FileNotFoundError:
            return {}
        try:
            return msgspec.convert(parse(raw, what=CHANNELS), dict[str, Published])
        except msgspec.ValidationError as error:
            raise Integrity(f"{self.folder / CHANNELS} is damaged", str(error), "restore it") from error

    def _sign_again(self, now_ms: int, change: Any) -> dict[str, bytes]:
        """Write targets, snapshot and timestamp anew, one version up, and return all files."""
        from tuf.api.metadata import (  # type: ignore[attr-defined]  # noqa: PLC0415
            Metadata,
            MetaFile,
            Snapshot,
            Targets,
            Timestamp,
        )

        root, here = self.root(), keys.load(*self.key_folders)
        before = {
            name: self._found(name) for name in (metadata.TIMESTAMP, metadata.SNAPSHOT, metadata.TARGETS)
        }
        listed = before[metadata.TARGETS].signed.targets if before[metadata.TARGETS] else {}
        version = 1 + max((role.signed.version for role in before.values() if role), default=0)
        out: dict[str, bytes] = {}

        def write(signed: Any, name: str) -> Any:
            role: Metadata[Any] = Metadata(signed)
            allowed = root.signed.roles[name].keyids
            _sign(role, [key for key in here if key.key_id in allowed])
            _vouched(root, role, name)
            raw = role.to_bytes()
            with storage_errors("the metadata could not be written"):
                write_file(self.tuf / f"{name}.json", raw)
            out[f"{metadata.FOLDER}{name}.json"] = raw
            return MetaFile(version, len(raw), {"sha256": form.digest_of(raw).removeprefix("sha256:")})

        days = self.expiry
        targets = Targets(version, None, _expires(now_ms, days.targets), change(dict(listed)))
        meta = write(targets, metadata.TARGETS)
        meta = write(
            Snapshot(version, None, _expires(now_ms, days.snapshot), {"targets.json": meta}), "snapshot"
        )
        write(Timestamp(version, None, _expires(now_ms, days.timestamp), meta), metadata.TIMESTAMP)
        return out | {f"{metadata.FOLDER}{n}.root.json": raw for n, raw in self.roots().items()}

    def _found(self, name: str) -> Any:
        try:
            return _loaded((self.tuf / f"{name}.json").read_bytes(), name)
        except FileNotFoundError:
            return None


def _loaded(raw: bytes, kind: str) -> Any:
    from tuf.api.metadata import Metadata  # noqa: PLC0415

    try:
        return Metadata.from_dict(metadata.strict(raw, f"{kind}.json"))
    except (ValueError, KeyError, TypeError) as error:
        raise Integrity(f"the {kind} of this publisher is damaged", str(error)[:200], "restore it") from error


def _kept(targets: dict[str, Any], channel: str) -> dict[str, Any]:
    """Leave out the oldest bundles of a channel."""
    ours = sorted(
        (path for path, entry in targets.items() if entry.custom.get("channel") == channel),
        key=lambda path: targets[path].custom["number"],
    )
    gone = set(ours[:-KEPT])
    return {path: entry for path, entry in targets.items() if path not in gone}


def _expires(now_ms: int, days: int) -> dt.datetime:
    now = dt.datetime.fromtimestamp(now_ms // 1000, dt.UTC)
    return now + dt.timedelta(days=days)


def _chosen(
    here: tuple[Key, ...], last: Any, thresholds: dict[str, int], retired: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return public keys and roles of the next root."""
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]  # noqa: PLC0415
    from tuf.api.metadata import Role  # type: ignore[attr-defined]  # noqa: PLC0415

    public: dict[str, Any] = {}
    roles: dict[str, Any] = {}
    for role in metadata.ROLES:
        ids = list(last.signed.roles[role].keyids) if last else []
        ids += [key.key_id for key in keys.of(here, role) if key.key_id not in ids]
        ids = [one for one in ids if not any(one.startswith(gone) for gone in retired)]
        threshold = thresholds.get(role) or (last.signed.roles[role].threshold if last else 1)
        if not 1 <= threshold <= len(ids):
            raise Invalid(
                f"the role {role} would have {len(ids)} keys",
                f"{threshold} must sign",
                f"make one with `allod bundle keys new {role}`, or lower the threshold",
            )
        roles[role] = Role(ids, threshold)
        for name in ids:
            ours = next((key for key in here if key.key_id == name), None)
            public[name] = (
                SSlibKey(name, "ed25519", "ed25519", {"public": ours.public.hex()})
                if ours is not None
                else last.signed.keys[name]
            )
    return public, roles


def _sign(role: Metadata[Any], by: list[Key]) -> None:
    from securesystemslib.signer import (  # type: ignore[attr-defined]  # noqa: PLC0415
        CryptoSigner,
        SSlibKey,
    )

    for key in by:
        public = SSlibKey(key.key_id, "ed25519", "ed25519", {"public": key.public.hex()})
        role.sign(CryptoSigner(key.private, public), append=True)


def _vouched(root: Metadata[Root], role: Metadata[Any], name: str = "root") -> None:
    """Check that what was signed here will be believed there (raises ``Invalid``)."""
    from tuf.api.exceptions import RepositoryError  # noqa: PLC0415

    try:
        root.signed.verify_delegate(name, role.signed_bytes, role.signatures)
    except (RepositoryError, ValueError) as error:
        wanted = root.signed.roles[name]
        raise Invalid(
            f"keys of the role {name} are missing",
            f"root {root.signed.version} wants {wanted.threshold} of {[k[:16] for k in wanted.keyids]}",
            "name the folder that holds them with --keys",
        ) from error
