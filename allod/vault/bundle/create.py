"""Write a bundle, as a folder or as one tar, beside its place, and move it there whole.

A folder can be continued: what lies there of a blob is read again, and only what is missing is copied. A tar
begins anew. Either way a number of the channel is used once, and before the bundle gets its name it is opened
and checked as an importer would.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from allod.domain.errors import Integrity, Invalid, Unavailable
from allod.domain.money import rfc3339
from allod.vault.blobs import storage_errors, sync_folder
from allod.vault.bundle import envelope, form, keys, layout, logproof, tar, verify
from allod.vault.bundle.form import Bundle, Item, Known
from allod.vault.bundle.logproof import LogProof
from allod.vault.bundle.tree import Window
from allod.vault.bundle.verify import BUNDLE, ENVELOPE, rehashed, through

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from allod.vault.bundle.pieces import Content, Source
    from allod.vault.bundle.publish import Publisher

    Progress = Callable[[int], None]

SUFFIX: Final = ".tar"
_BEGUN: Final = ".part"


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """The source's log: its verifier key, and what logs (digest, channel, number) and proves it."""

    vkey: str
    prove: Callable[[str, str, int], LogProof]


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle says beside its items (``form.Bundle``)."""

    channel: str
    source: str
    audience: tuple[str, ...] = ()
    min_importer: str = "0.1.0"
    notes: str = ""


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What was made: its digest is that of ``bundle.json``; ``logged`` whether the log's proof travels."""

    path: str
    digest: str
    bundle: Bundle
    logged: bool


class Target(Protocol):
    """Where the files of a bundle go."""

    def blob(self, source: Source, progress: Progress | None) -> None:
        """Write a part, its digest checked while it is copied."""

    def put(self, path: str, data: bytes) -> None:
        """Write a small file, or write it again."""

    def held(self, path: str) -> bytes | None:
        """Return a small file that an earlier attempt left, or None."""

    def finish(self, expected: set[str]) -> None:
        """Make everything durable, and remove what is not part of it."""


def create(
    out: Path,
    contents: tuple[Content, ...],
    head: Head,
    publisher: Publisher,
    log: Log | None,
    *,
    now_ms: int,
    progress: Progress | None = None,
    step: Callable[[str], None] = lambda _: None,
) -> Made:
    """Make a bundle at ``out``: a tar where its name ends in ``.tar``, else a folder.

    Args:
        out: where; nothing may be there.
        contents: the items.
        head: channel, source and the rest.
        publisher: whose keys and metadata vouch for it.
        log: the home's log; None for a bundle without a proof, which only homes take that do not require one.
        now_ms: UTC milliseconds.
        progress: told bytes as they are copied.
        step: told before each step that changes the disk.

    Raises:
        Invalid: something is at ``out``, two items have one name, or keys are missing.
        Integrity: a file is not what it was said to be.
        Unavailable: the disk is full or failing, or another process makes the same bundle; what was copied
            stays and is continued.

    """
    if out.exists() or out.is_symlink():
        raise Invalid(
            f"{out} is there already", "a bundle is written once", "choose another name", kind="conflict"
        )
    items = _items(contents)
    publisher.root()
    signers = tuple(key.private for key in keys.of(keys.load(*publisher.key_folders), keys.BUNDLE))
    envelope.sign(b"", signers)
    partial = out.with_name(f".{out.name}.partial")
    with _target(partial, tar_s=now_ms // 1000 if out.suffix == SUFFIX else None) as target:
        for source in _distinct(contents):
            step("blob")
            target.blob(source, progress)
        with publisher.alone():
            made = _finish(target, _Plan(items, head, publisher, signers, log, now_ms), step)
        _check(partial, made.bundle, publisher, log)
        step("rename")
        with storage_errors("the bundle could not be written"):
            partial.rename(out)
            sync_folder(out.parent)
    return msgspec.structs.replace(made, path=str(out))


def _items(contents: tuple[Content, ...]) -> tuple[Item, ...]:
    items = sorted((content.item for content in contents), key=lambda item: (item.kind, item.name))
    named = [(item.kind, item.name) for item in items]
    twice = sorted({f"{kind} {name}" for kind, name in named if named.count((kind, name)) > 1})
    if not items or twice:
        raise Invalid(
            "this bundle cannot be made",
            f"twice: {', '.join(twice)}" if twice else "nothing is to go in",
            "name each item once",
        )
    return tuple(items)


def _distinct(contents: tuple[Content, ...]) -> list[Source]:
    """Return each part's source once, in order of digests: the same bytes are one blob."""
    found = {source.digest: source for content in contents for source in content.sources}
    return [found[digest] for digest in sorted(found)]


class _Plan(msgspec.Struct, frozen=True):
    """What is to be signed, and by whom."""

    items: tuple[Item, ...]
    head: Head
    publisher: Publisher
    signers: tuple[Any, ...]
    log: Log | None
    now_ms: int


def _finish(target: Target, plan: _Plan, step: Callable[[str], None]) -> Made:
    """Give it a number, sign it, have it vouched for and logged; each step can be repeated."""
    head, publisher, log = plan.head, plan.publisher, plan.log
    last = publisher.last(head.channel)
    fresh = Bundle(
        format=form.FORMAT,
        channel=head.channel,
        number=1 + (last.number if last else 0),
        created_at=rfc3339(plan.now_ms),
        source=head.source,
        audience=tuple(sorted(set(head.audience))),
        min_importer=head.min_importer,
        items=plan.items,
        notes=head.notes,
    )
    raw = form.encode(fresh)
    before = target.held(BUNDLE)
    if (
        before is not None
        and last is not None
        and form.digest_of(before) == last.digest
        and _same(before, fresh)
    ):
        raw = before
    bundle, digest = form.decode(raw), form.digest_of(raw)
    files = {BUNDLE: raw, ENVELOPE: envelope.sign(raw, plan.signers), **layout.structure(bundle)}
    step("bundle.json")
    target.put(BUNDLE, raw)
    step("number")
    publisher.record(bundle.channel, bundle.number, digest)
    if log is not None:
        step("log")
        files |= _proved(target, log, bundle, digest)
    step("metadata")
    files |= publisher.vouch(bundle.channel, bundle.number, raw, now_ms=plan.now_ms)
    step("files")
    for path, data in files.items():
        target.put(path, data)
    target.finish({*files, *layout.sizes(bundle)})
    return Made(path="", digest=digest, bundle=bundle, logged=log is not None)


def _same(before: bytes, fresh: Bundle) -> bool:
    """Tell whether what an interrupted attempt signed is what is wanted now, but for number and time."""
    try:
        held = form.decode(before)
    except Integrity:
        return False
    return msgspec.structs.replace(held, number=fresh.number, created_at=fresh.created_at) == fresh


def _proved(target: Target, log: Log, bundle: Bundle, digest: str) -> dict[str, bytes]:
    """Return the log's proof: one that an interrupted attempt left for this digest, or a new one."""
    wanted = (logproof.LEAF, logproof.INCLUSION, logproof.CHECKPOINT)
    held = {path: data for path in wanted if (data := target.held(path)) is not None}
    if set(held) == set(wanted) and logproof.speaks_of(held[logproof.LEAF], bundle, digest):
        return held
    files = log.prove(digest, bundle.channel, bundle.number).files()
    for path, data in files.items():
        target.put(path, data)
    return files


def _check(path: Path, bundle: Bundle, publisher: Publisher, log: Log | None) -> None:
    """Open what was written as an importer would; a bundle that would be refused gets no name."""
    vkeys = (log.vkey,) if log is not None else ()
    ring = publisher.keyring(vkeys, proof=log is not None)
    ring = msgspec.structs.replace(ring, threshold=max(1, len(ring.signers)))
    done = verify.examine(
        path,
        ring,
        Known(),
        now_ms=bundle.created_ms,
        importer_version=bundle.min_importer,
        origin=bundle.audience[0] if bundle.audience else bundle.source,
    )
    if done.opened is None:
        raise done.error or Integrity("the bundle cannot be opened", done.steps[-1].detail)
    done.opened.close()


@contextlib.contextmanager
def _target(partial: Path, tar_s: int | None) -> Iterator[Target]:
    """Open the place beside, for one process at a time."""
    with storage_errors("the bundle could not be written"):
        if tar_s is None:
            partial.mkdir(exist_ok=True)
            for path in ("blobs/sha256", "tuf", "proof"):
                (partial / path).mkdir(parents=True, exist_ok=True)
        flags = os.O_RDONLY | os.O_DIRECTORY if tar_s is None else os.O_RDWR | os.O_CREAT
        fd = os.open(partial, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Unavailable(
                "this bundle is being made by another process", str(partial), "wait for it", kind="busy"
            ) from error
        yield _Folder(partial) if tar_s is None else _Tar(fd, tar_s)
    finally:
        os.close(fd)


class _Folder:
    """A bundle's files in a folder, each written whole or not at all."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def blob(self, source: Source, progress: Progress | None) -> None:
        path = self._root / layout.blob(source.digest)
        begun = path.with_name(path.name + _BEGUN)
        if path.is_file() and not path.is_symlink():
            path.replace(begun)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with storage_errors("the bundle could not be written"):
            fd = os.open(begun, flags, 0o644)
        try:
            if not _copy(source, fd, os.fstat(fd).st_size, progress) and not _copy(source, fd, 0, progress):
                begun.unlink(missing_ok=True)
                raise _changed(source)
            with storage_errors("the bundle could not be written"):
                os.fsync(fd)
                begun.rename(path)
        finally:
            os.close(fd)

    def put(self, path: str, data: bytes) -> None:
        from allod.store.home import write_file  # noqa: PLC0415

        with storage_errors("the bundle could not be written"):
            write_file(self._root / path, data)

    def held(self, path: str) -> bytes | None:
        try:
            return (self._root / path).read_bytes()
        except FileNotFoundError:
            return None

    def finish(self, expected: set[str]) -> None:
        with storage_errors("the bundle could not be written"):
            for path in [p for p in self._root.rglob("*") if not p.is_dir() or p.is_symlink()]:
                if str(path.relative_to(self._root)) not in expected:
                    path.unlink()
            for name in ("", "blobs", "blobs/sha256", "tuf", "proof"):
                sync_folder(self._root / name)


class _Tar:
    """A bundle's files in a tar: blobs as they come, the small ones at the end."""

    def __init__(self, fd: int, mtime_s: int) -> None:
        os.ftruncate(fd, 0)
        self._fd, self._mtime_s, self._at = fd, mtime_s, 0
        self._small: dict[str, bytes] = {}
        self._written: set[str] = set()

    def blob(self, source: Source, progress: Progress | None) -> None:
        path = layout.blob(source.digest)
        self._write(tar.header(path, source.size_bytes, self._mtime_s))
        with storage_errors("the bundle could not be written"):
            got, digest = _pour(source, self._fd, self._at, progress)
        if got != source.size_bytes or digest != source.digest:
            raise _changed(source)
        self._at += got
        self._write(tar.padding(got))
        self._written.add(path)

    def put(self, path: str, data: bytes) -> None:
        self._small[path] = data

    def held(self, path: str) -> bytes | None:
        return self._small.get(path)

    def finish(self, expected: set[str]) -> None:
        for path in sorted(self._small.keys() & expected):
            if path not in self._written:
                data = self._small[path]
                self._write(tar.header(path, len(data), self._mtime_s) + data + tar.padding(len(data)))
        self._write(tar.END)
        with storage_errors("the bundle could not be written"):
            os.fsync(self._fd)

    def _write(self, data: bytes) -> None:
        from allod.store.home import write_all  # noqa: PLC0415

        with storage_errors("the bundle could not be written"):
            write_all(self._fd, data, self._at)
        self._at += len(data)


def _copy(source: Source, fd: int, begun: int, progress: Progress | None) -> bool:
    """Copy a source into a file that may hold its first bytes; tell whether the whole is what was said."""
    with storage_errors("the bundle could not be written"):
        hasher, at = rehashed(fd, min(begun, source.size_bytes), progress)
        os.ftruncate(fd, at)
        at = _rest(source, fd, at, at, hasher, progress)
    return at == source.size_bytes and "sha256:" + hasher.hexdigest() == source.digest


def _pour(source: Source, fd: int, start: int, progress: Progress | None) -> tuple[int, str]:
    import hashlib  # noqa: PLC0415

    hasher = hashlib.sha256()
    end = _rest(source, fd, 0, start, hasher, progress)
    return end - start, "sha256:" + hasher.hexdigest()


def _rest(source: Source, fd: int, skip: int, at: int, hasher: Any, progress: Progress | None) -> int:
    """Write a source's bytes from ``skip`` on to ``fd`` at ``at``; return where they end."""
    if source.open is None:
        data = source.data[skip:]
        hasher.update(data)
        from allod.store.home import write_all  # noqa: PLC0415

        write_all(fd, data, at)
        return at + len(data)
    with Window(source.open(), 0, source.size_bytes) as window:
        window.seek(skip)
        return through(window, hasher, at, fd, progress)


def _changed(source: Source) -> Integrity:
    return Integrity(
        f"{source.path} is not what it was said to be",
        f"its bytes are not {source.size_bytes} bytes {source.digest}",
        "verify the vault, and see that nothing writes the file",
    )
