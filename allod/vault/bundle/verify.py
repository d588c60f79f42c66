"""Open a bundle: every check that needs no blob, in numbered steps, before a byte of content is read.

What passed says: these bytes were signed by whom this home believes, for this home, in this order of bundles,
and the source's log shows them. It does not say that a model is good; the vault looks at each file as if it
came from a stranger. Each blob is checked against its digest while it is copied (``Opened.copy``).
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NoReturn, Self, cast

import msgspec

from allod.domain.errors import AllodError, Integrity, Invalid, Refused
from allod.domain.money import rfc3339
from allod.vault.bundle import envelope, form, layout, logproof, metadata
from allod.vault.bundle.form import Bundle, Keyring, Known, Part, Seen
from allod.vault.bundle.tar import open_tar
from allod.vault.bundle.tree import CHUNK_BYTES, Folder, Tree, read_small

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

BUNDLE, ENVELOPE = "bundle.json", "bundle.dsse.json"
TUF, PROOF = "tuf/", "proof/"
SKEW_MS: Final = 5 * 60_000
"""How far two honest clocks may differ."""
_RELEASE: Final = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6}){0,3}")


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One check, counted from 1; ``detail`` says what was found, or got and expected."""

    n: int
    name: str
    ok: bool
    detail: str


class Opened:
    """A bundle whose every check before the blobs has passed; use it as a context, it holds files open.

    Attributes:
        bundle: what was signed; digest: ``sha256:`` of ``bundle.json``.
        raw: the bytes of ``bundle.json``; envelope: the bytes of ``bundle.dsse.json``.
        steps: the checks that passed, in order.
        signers: names of the trusted signers.
        stale: why the update metadata is old (expired role and time), or empty.
        repeated: whether exactly this bundle is the last imported on its channel.
        known_after: what to keep if it is imported.
        expires_ms: when the first role of its update metadata expires, UTC milliseconds.

    """

    def __init__(self, tree: Tree, case: _Case, steps: tuple[Step, ...]) -> None:
        """Use ``open_bundle``."""
        self._tree, self.steps = tree, steps
        self.bundle: Bundle = case.bundle
        self.raw, self.digest, self.envelope = case.raw, case.digest, case.envelope
        self.signers, self.stale, self.repeated = case.signers, case.stale, case.repeated
        self.known_after: Known = case.known_after
        self.expires_ms: int = case.chain.expires_ms

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close its files."""
        self.close()

    def close(self) -> None:
        """Close its files; idempotent."""
        self._tree.close()

    def reader(self, part: Part) -> BinaryIO:
        """Open a part for reading, from folder or tar; its bytes are not checked by this (``copy`` does)."""
        return cast("BinaryIO", io.BufferedReader(self._tree.open(layout.blob(part.digest)), CHUNK_BYTES))

    def read(self, part: Part, limit: int) -> bytes:
        """Return a small part, its digest checked.

        Raises:
            Integrity: it is longer than ``limit`` bytes, or not what was signed.

        """
        raw = read_small(self._tree, layout.blob(part.digest), min(limit, part.size_bytes))
        got = form.digest_of(raw)
        if got != part.digest or len(raw) != part.size_bytes:
            _not_signed(part, got, len(raw))
        return raw

    def check(self, part: Part, progress: Callable[[int], None] | None = None) -> None:
        """Read a part through and check its length and digest; ``progress`` is told bytes as they pass.

        Raises:
            Integrity: it is not what was signed.

        """
        self._through(part, hashlib.sha256(), 0, None, progress)

    def copy(
        self, part: Part, fd: int, progress: Callable[[int], None] | None = None, offset: int = 0
    ) -> None:
        """Write a part to ``fd`` (open for reading and writing) from ``offset`` on, and check it whole.

        The first ``offset`` bytes are what an earlier copy left in ``fd``: they are read again from there, so
        that what was checked is what lies in the file. ``fd`` is cut to the part's length; no fsync is done.

        Raises:
            Integrity: a byte or the length is not what was signed; what is in ``fd`` may not be used.
            OSError: the disk (the caller says whose).

        """
        hasher, at = rehashed(fd, min(offset, part.size_bytes), progress)
        os.ftruncate(fd, at)
        self._through(part, hasher, at, fd, progress)

    def _through(
        self, part: Part, hasher: Any, at: int, fd: int | None, progress: Callable[[int], None] | None
    ) -> None:
        with self._tree.open(layout.blob(part.digest)) as window:
            if window.size != part.size_bytes:
                _not_signed(part, "another length", window.size)
            window.seek(at)
            at = through(window, hasher, at, fd, progress)
        if at != part.size_bytes or "sha256:" + hasher.hexdigest() != part.digest:
            _not_signed(part, "sha256:" + hasher.hexdigest(), at)


def rehashed(fd: int, length: int, progress: Callable[[int], None] | None) -> tuple[Any, int]:
    """Return the state of the digest after the first ``length`` bytes of a file, and how many there were."""
    hasher, at = hashlib.sha256(), 0
    while at < length and (chunk := os.pread(fd, min(CHUNK_BYTES, length - at), at)):
        hasher.update(chunk)
        at += len(chunk)
        if progress is not None:
            progress(len(chunk))
    return hasher, at


def through(
    source: io.RawIOBase, hasher: Any, at: int, fd: int | None, progress: Callable[[int], None] | None
) -> int:
    """Read a source to its end, digest it, and write it to ``fd`` from ``at`` on; return where it ended."""
    while chunk := source.read(CHUNK_BYTES):
        hasher.update(chunk)
        view = memoryview(chunk)
        while fd is not None and view:
            done = os.pwrite(fd, view, at + len(chunk) - len(view))
            view = view[done:]
        at += len(chunk)
        if progress is not None:
            progress(len(chunk))
    return at


def _not_signed(part: Part, got: str, length: int) -> NoReturn:
    raise Integrity(
        f"{part.path[:200]!r} is not what was signed",
        f"got {length} bytes {got}, signed are {part.size_bytes} bytes {part.digest}",
        "carry the bundle again; if it happens twice, the medium or somebody on the way changes it",
    )


class _Case(msgspec.Struct, kw_only=True):
    """What the steps are given, and what they have established so far."""

    tree: Tree
    keyring: Keyring
    known: Known
    now_ms: int
    importer_version: str
    origin: str
    raw: bytes = b""
    envelope: bytes = b""
    digest: str = ""
    bundle: Any = None
    signers: tuple[str, ...] = ()
    chain: Any = None
    stale: str = ""
    repeated: bool = False
    known_after: Any = None


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """How far the checks came: the steps with the one that failed last, its error, or the opened bundle."""

    steps: tuple[Step, ...]
    opened: Opened | None = None
    error: AllodError | None = None


def open_bundle(
    path: Path,
    keyring: Keyring,
    known: Known,
    *,
    now_ms: int,
    importer_version: str,
    origin: str,
) -> Opened:
    """Open a bundle, a folder or a ``.tar``, and make every check that needs no blob.

    Steps: form, envelope, file set, update metadata, clock, freshness, log proof, importer, audience, number.

    Args:
        path: the folder or tar.
        keyring: whom to believe; known: what was imported before.
        now_ms: one clock reading, UTC milliseconds.
        importer_version: ours, as ``1.2.3``.
        origin: the origin of the importing home's log.

    Raises:
        Invalid: no such folder or file, or the keyring itself is wrong.
        Integrity: a check failed; ``what`` names it.
        Refused: it is sound, but for others, for a newer importer, on a channel that this home does not take,
            or stale where ``refuse_stale`` is set.

    """
    done = examine(path, keyring, known, now_ms=now_ms, importer_version=importer_version, origin=origin)
    if done.opened is None:
        raise done.error or Integrity("the bundle cannot be opened", "no step says why")
    return done.opened


def examine(
    path: Path,
    keyring: Keyring,
    known: Known,
    *,
    now_ms: int,
    importer_version: str,
    origin: str,
) -> Examined:
    """Make the checks of ``open_bundle`` and say how far they came.

    Raises:
        Invalid: no such folder or file.

    """
    try:
        tree = tree_of(path)
    except Integrity as error:
        return Examined(steps=(_failed(1, "names", error),), error=error)
    case = _Case(
        tree=tree,
        keyring=keyring,
        known=known,
        now_ms=now_ms,
        importer_version=importer_version,
        origin=origin,
    )
    steps = [Step(n=1, name="names", ok=True, detail=f"{len(tree.sizes)} files, each where it may be")]
    try:
        for n, (name, check) in enumerate(_CHECKS, 2):
            try:
                steps.append(Step(n=n, name=name, ok=True, detail=check(case)))
            except AllodError as error:
                steps.append(_failed(n, name, error))
                tree.close()
                return Examined(steps=tuple(steps), error=error)
    except BaseException:
        tree.close()
        raise
    return Examined(steps=tuple(steps), opened=Opened(tree, case, tuple(steps)))


def tree_of(path: Path) -> Tree:
    """List the files of a bundle, a folder or a tar (raises ``Invalid``, ``Integrity``)."""
    try:
        mode = path.stat(follow_symlinks=False).st_mode
    except OSError as error:
        raise Invalid(
            f"there is no bundle at {path}", os.strerror(error.errno or 0), "name a folder or tar"
        ) from error
    return Folder(path) if stat.S_ISDIR(mode) else open_tar(path)


def _failed(n: int, name: str, error: AllodError) -> Step:
    return Step(n=n, name=name, ok=False, detail=error.what + (f": {error.why}" if error.why else ""))


def _form(case: _Case) -> str:
    case.raw = read_small(case.tree, BUNDLE, form.MAX_BUNDLE_BYTES)
    case.bundle, case.digest = form.decode(case.raw), form.digest_of(case.raw)
    return f"{len(case.raw)} bytes {case.digest}, {case.bundle.channel} {case.bundle.number}"


def _envelope(case: _Case) -> str:
    case.envelope = read_small(case.tree, ENVELOPE, envelope.MAX_ENVELOPE_BYTES)
    ring = case.keyring
    case.signers, strangers = envelope.verify(case.envelope, case.raw, ring.signers, ring.threshold)
    if case.digest in case.known.revoked:
        raise Integrity(
            "this bundle is revoked", f"{case.digest} is on the list of this home", "ask for a newer one"
        )
    others = f"; {len(strangers)} signatures of strangers, which count for nothing" if strangers else ""
    return f"signed by {', '.join(case.signers)}, {ring.threshold} needed{others}"


def _files(case: _Case) -> str:
    """Compare the files with what was signed, both ways, sizes included, and the layout byte by byte."""
    expected = layout.sizes(case.bundle)
    inside = {p: n for p, n in case.tree.sizes.items() if not p.startswith((TUF, PROOF))}
    expected |= {BUNDLE: len(case.raw), ENVELOPE: len(case.envelope)}
    missing, extra = expected.keys() - inside.keys(), inside.keys() - expected.keys()
    if missing or extra:
        raise Integrity(
            "the files of the bundle are not those that were signed",
            f"missing: {sorted(missing)[:4]}; not signed: {sorted(extra)[:4]}",
            "carry the bundle again",
        )
    for path, size in expected.items():
        if inside[path] != size:
            raise Integrity(
                f"{path} of the bundle has another size",
                f"got {inside[path]} bytes, signed are {size}",
                "again",
            )
    for path, raw in layout.structure(case.bundle).items():
        if read_small(case.tree, path, len(raw)) != raw:
            raise Integrity(
                f"{path} of the bundle is not what follows from bundle.json", "other bytes", "again"
            )
    parts = case.bundle.parts
    return f"{len(case.bundle.items)} items, {len(parts)} parts, {case.bundle.size_bytes} bytes"


def _metadata(case: _Case) -> str:
    files = _folder(case, TUF, metadata.MAX_BYTES)
    case.chain = metadata.verify(
        files,
        case.bundle,
        case.raw,
        anchor=case.keyring.root,
        known=case.known,
        now_ms=case.now_ms - case.keyring.grace_ms,
    )
    c = case.chain
    return f"root {c.root_version}, timestamp {c.timestamp}, snapshot {c.snapshot}, targets {c.targets}"


def _folder(case: _Case, prefix: str, limit: int) -> dict[str, bytes]:
    paths = [path for path in case.tree.sizes if path.startswith(prefix)]
    return {path: read_small(case.tree, path, limit) for path in sorted(paths)}


def _clock(case: _Case) -> str:
    """Refuse a clock that reads earlier than what has happened: it would hide that metadata has expired."""
    latest = max(case.bundle.created_ms, case.known.seen_ms)
    if case.now_ms + SKEW_MS < latest:
        raise Integrity(
            "the clock of this machine is wrong",
            f"it reads {rfc3339(case.now_ms)}, but the bundle or the last import is of {rfc3339(latest)}",
            "set the clock, then try again",
        )
    return f"{rfc3339(case.now_ms)}, the bundle was made at {case.bundle.created_at}"


def _fresh(case: _Case) -> str:
    case.stale = "; ".join(case.chain.expired)
    if case.stale and case.keyring.refuse_stale:
        raise Refused(
            "the bundle's update metadata has expired",
            f"{case.stale}: whoever holds back newer bundles would show this one",
            "get the newest bundle of this channel, or import stale ones by choice (refuse_stale = false)",
        )
    return f"stale: {case.stale}" if case.stale else f"until {rfc3339(case.chain.expires_ms)}"


def _logged(case: _Case) -> str:
    files = _folder(case, PROOF, logproof.MAX_PROOF_BYTES)
    if not files and not case.keyring.require_log_proof:
        return "none, and this home does not require one"
    return logproof.verify(files, case.bundle, case.digest, case.keyring.log_vkeys)


def _importer(case: _Case) -> str:
    least, ours = case.bundle.min_importer, case.importer_version
    plain = _RELEASE.match(ours)
    if plain is None:
        raise Invalid("this Allod has no version to compare", f"got {ours[:40]!r}", "install a release")
    if form.version_of(plain[0]) < form.version_of(least):
        raise Refused(
            "the bundle is for a newer Allod",
            f"it asks for {least}, this is {ours}",
            "update this home first",
        )
    return f"{ours}, at least {least}"


def _audience(case: _Case) -> str:
    if case.keyring.channels and case.bundle.channel not in case.keyring.channels:
        raise Refused(
            f"this home takes no bundles of the channel {case.bundle.channel}",
            f"it takes {', '.join(case.keyring.channels)}",
            "add the channel to the trust of this home",
        )
    if case.bundle.audience and case.origin not in case.bundle.audience:
        raise Refused(
            "the bundle is for another home",
            f"it is for {', '.join(case.bundle.audience[:4])}, this is {case.origin}",
            "ask its publisher for one for this home",
        )
    return f"for {', '.join(case.bundle.audience[:4]) or 'any home'}"


def _number(case: _Case) -> str:
    bundle, known, chain = case.bundle, case.known, case.chain
    seen = known.channels.get(bundle.channel)
    if seen is not None and bundle.number == seen.number and case.digest != seen.digest:
        raise Integrity(
            f"there are two bundles {bundle.channel} {bundle.number}",
            f"got {case.digest}, imported was {seen.digest}",
            "ask the publisher which is true; believe neither",
        )
    if seen is not None and bundle.number < seen.number:
        raise Integrity(
            "the bundle is older than what was imported: a rollback",
            f"got {bundle.channel} {bundle.number}, imported was {seen.number}",
            "get the newest bundle of this channel",
        )
    case.repeated = seen is not None and bundle.number == seen.number
    here = Seen(
        number=bundle.number,
        digest=case.digest,
        timestamp=chain.timestamp,
        snapshot=chain.snapshot,
        targets=chain.targets,
    )
    case.known_after = msgspec.structs.replace(
        known,
        root_version=chain.root_version,
        root=chain.root,
        seen_ms=max(known.seen_ms, case.now_ms),
        channels={**known.channels, bundle.channel: here},
    )
    return f"{bundle.number}, last was {seen.number if seen else 'none'}"


_CHECKS: Final[tuple[tuple[str, Callable[[_Case], str]], ...]] = (
    ("form", _form),
    ("envelope", _envelope),
    ("file set", _files),
    ("update metadata", _metadata),
    ("clock", _clock),
    ("freshness", _fresh),
    ("log proof", _logged),
    ("importer", _importer),
    ("audience", _audience),
    ("number", _number),
)
