"""Files by digest: taken in once, whole, checked, and never changed afterwards.

A blob appears under its digest in one rename, after its bytes and its checks are complete and on disk; a
death, a full disk or a second adder at any point leaves the whole blob or none; what
a death leaves can be continued.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.errors import Integrity, Invalid, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CHUNK_BYTES: Final = 1024 * 1024
COPY_BYTES: Final = 1024 * 1024
BUFFERS: Final = 4
STEP_BYTES: Final = 64 * 1024 * 1024
"""How much of a copy is made durable at a time: what a death can cost, and how soon the disk begins."""
RESUME_S: Final = 7 * 86_400
_INCOMING: Final = ".incoming-"
_MARK_SUFFIX: Final = ".mark"
_NEW: Final = ".new"


def open_regular(path: str | Path, what: str) -> int:
    """Open a regular file for reading, never a link, pipe or device; the caller closes the descriptor.

    Raises:
        Invalid: absent, unreadable, or not a regular file.

    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags)
    except OSError as error:
        reason = "it is a symbolic link" if error.errno == errno.ELOOP else os.strerror(error.errno or 0)
        raise Invalid(f"{what} cannot be opened", reason, "give the path of a regular file") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Invalid(f"{what} is not a regular file", "pipes, devices and folders are not read")
    return fd


def identity(fd: int) -> tuple[int, int, int, int, int]:
    """Say which file this is and in what state: device, inode, size and both change times."""
    state = os.fstat(fd)
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def digest_of(fd: int, progress: Callable[[int], None] | None = None) -> str:
    """Digest the file behind a descriptor from its first byte; the descriptor's position does not move."""
    hasher, at, buffer = hashlib.sha256(), 0, memoryview(bytearray(CHUNK_BYTES))
    while count := os.preadv(fd, [buffer], at):
        hasher.update(buffer[:count])
        at += count
        if progress is not None:
            progress(count)
    return "sha256:" + hasher.hexdigest()


def make_private(folder: Path, root: Path) -> None:
    """Make a folder under ``root``, and every missing one up to it, readable by its owner only."""
    if folder != root:
        make_private(folder.parent, root)
    folder.mkdir(parents=folder == root, exist_ok=True, mode=0o700)


def sync_folder(folder: Path) -> None:
    """Make a rename or link in this folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Turn a full or failing disk into ``Unavailable`` (``storage``)."""
    try:
        yield
    except OSError as error:
        raise Unavailable(
            what,
            os.strerror(error.errno or 0),
            "free some space, or check the permissions and the health of the disk",
            kind="storage",
        ) from error


class Partial(msgspec.Struct, frozen=True):
    """How far a copy had come when it was last made durable: of which file, bytes, digest of these bytes."""

    source: tuple[int, int, int, int, int]
    synced: int
    digest: str


class _Ring:
    """A few buffers of a copy, used in turn: small enough to stay in the processor's cache, and never new.

    What is digested is the very buffer that is written; it is read into again only after both.
    """

    def __init__(self, pool: concurrent.futures.Executor, hasher: Any) -> None:
        self._pool, self._hasher = pool, hasher
        self._buffers = [memoryview(bytearray(COPY_BYTES)) for _ in range(BUFFERS)]
        self._busy: list[concurrent.futures.Future[None] | None] = [None] * BUFFERS
        self._turn = 0

    def read(self, fd: int, at: int) -> memoryview:
        """Read the next bytes into the next buffer, once it is free; empty at the end of the file."""
        self._turn = (self._turn + 1) % BUFFERS
        busy = self._busy[self._turn]
        if busy is not None:
            busy.result()
        buffer = self._buffers[self._turn]
        return buffer[: os.preadv(fd, [buffer], at)]

    def hash(self, chunk: memoryview) -> None:
        """Have what was read last digested, after everything before it."""
        self._wait()
        self._busy[self._turn] = self._pool.submit(self._hasher.update, chunk)

    def digest(self) -> str:
        """Return the hex digest of all that was handed over."""
        self._wait()
        return str(self._hasher.hexdigest())

    def _wait(self) -> None:
        for busy in self._busy:
            if busy is not None:
                busy.result()


class Blobs:
    """The folder ``blobs/sha256`` of a vault at ``root``."""

    def __init__(self, folder: Path, root: Path, *, step_bytes: int = STEP_BYTES) -> None:
        self.folder, self._root, self._step = folder, root, step_bytes

    def path(self, digest: str) -> Path:
        """Return where a ``sha256:`` digest lies, whether or not it is there."""
        return self.folder / digest.removeprefix("sha256:")

    def take(
        self,
        fd: int,
        check: Callable[[int, str], None],
        progress: Callable[[int], None] | None = None,
    ) -> tuple[str, int]:
        """Copy a descriptor's file in, checking the copy; return digest and size in bytes.

        ``check`` is called with the descriptor and digest of the finished copy: what it sees is what is kept.
        A copy that was cut off by death or Ctrl-C is continued from where it was last durable, if the file is
        still the same; a copy that failed for another reason is removed.

        Raises:
            Integrity: the file changed while it was read.
            Unavailable: the disk is full or failing; nothing is left behind.

        """
        with storage_errors("the model could not be stored"):
            make_private(self.folder, self._root)
            temporary, out = self._incoming(identity(fd))
            self.sweep()
        keep = False
        try:
            self._check_room(os.fstat(fd).st_size - os.fstat(out).st_size)
            with storage_errors("the model could not be stored"):
                digest, size = self._copy(fd, out, temporary, progress)
            check(out, digest)
            with storage_errors("the model could not be stored"):
                os.fchmod(out, 0o444)
                os.fsync(out)
                _mark(temporary).unlink(missing_ok=True)
                temporary.rename(self.path(digest))
                keep = True  # the name is free: what is there from now on is another adder's of the same file
                sync_folder(self.folder)
        except KeyboardInterrupt:
            keep = True
            raise
        finally:
            if not keep:
                temporary.unlink(missing_ok=True)
                _mark(temporary).unlink(missing_ok=True)
            os.close(out)
        return digest, size

    def adopt(self, path: Path, digest: str, check: Callable[[int, str], None]) -> tuple[str, int]:
        """Give a file of the same disk a place here by a second name, its bytes not copied again.

        The caller has checked these bytes against ``digest`` and is the only one who could write them;
        ``check`` is called as in ``take``.

        Raises:
            Unavailable: the disk is full or failing.

        """
        fd = open_regular(path, str(path))
        try:
            check(fd, digest)
            with storage_errors("the model could not be stored"):
                make_private(self.folder, self._root)
                os.fchmod(fd, 0o444)
                os.fsync(fd)
                with contextlib.suppress(FileExistsError):
                    os.link(path, self.path(digest))
                sync_folder(self.folder)
            return digest, os.fstat(fd).st_size
        finally:
            os.close(fd)

    def _check_room(self, size: int) -> None:
        """Refuse what cannot fit before a byte is written: a sparse file may claim more than any disk has."""
        with storage_errors("the disk cannot be asked for its room"):
            state = os.statvfs(self.folder)
        room = state.f_bavail * state.f_frsize
        if size > room:
            raise Unavailable(
                "the model could not be stored",
                f"it needs {size / 1e9:.2f} GB, the disk has {room / 1e9:.2f} GB left",
                "free some space",
                kind="storage",
            )

    def put(self, content: bytes) -> str:
        """Keep a small text under its digest, durably; return the digest.

        Raises:
            Unavailable: the disk is full or failing; nothing is left behind.

        """
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        with storage_errors("the blob could not be stored"):
            make_private(self.folder, self._root)
            temporary, out = self._incoming(None)
            try:
                with os.fdopen(out, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fchmod(out, 0o444)
                    os.fsync(out)
                    temporary.rename(self.path(digest))
                sync_folder(self.folder)
            finally:
                temporary.unlink(missing_ok=True)
        return digest

    def read(self, digest: str, limit: int) -> bytes:
        """Return a small blob, digested again.

        Raises:
            Integrity: absent, longer than ``limit`` bytes, or changed.

        """
        try:
            fd = open_regular(self.path(digest), digest)
        except Invalid as error:
            raise Integrity(f"{digest} is not in the vault", error.why, "add it again") from error
        with os.fdopen(fd, "rb") as file:
            content = file.read(limit + 1)
        if "sha256:" + hashlib.sha256(content).hexdigest() != digest:
            raise Integrity(
                f"{digest} is not what was verified", "its bytes have another digest", "add it again"
            )
        return content

    def _incoming(self, source: tuple[int, int, int, int, int] | None) -> tuple[Path, int]:
        """Open and lock a file to copy into: the one a dead copier of the same source left, or a new one.

        A file may have been renamed to a blob or swept away before the lock was had; then it is not ours.
        """
        names = [secrets.token_hex(8)]
        if source is not None:
            names.insert(0, hashlib.sha256(repr(source).encode()).hexdigest()[:32])
        for name in names:
            path = self.folder / f"{_INCOMING}{name}"
            out = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with contextlib.suppress(OSError):
                fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(out), path.lstat()):
                    return path, out
            os.close(out)
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def _resumed(self, source: tuple[int, int, int, int, int], out: int, temporary: Path) -> tuple[Any, int]:
        """Return the state of the digest and the offset from where a copy goes on; 0 to begin anew."""
        try:
            mark = msgspec.json.decode(_mark(temporary).read_bytes(), type=Partial)
        except (OSError, msgspec.DecodeError):
            mark = None
        if mark is not None and mark.source == source and os.fstat(out).st_size >= mark.synced <= source[2]:
            hasher, at = hashlib.sha256(), 0
            while at < mark.synced and (part := os.pread(out, min(CHUNK_BYTES, mark.synced - at), at)):
                hasher.update(part)
                at += len(part)
            if at == mark.synced and hasher.hexdigest() == mark.digest:
                os.ftruncate(out, at)
                return hasher, at
        _mark(temporary).unlink(missing_ok=True)
        os.ftruncate(out, 0)
        return hashlib.sha256(), 0

    def _copy(
        self, fd: int, out: int, temporary: Path, progress: Callable[[int], None] | None
    ) -> tuple[str, int]:
        """Read and write here while one thread digests and another makes durable."""
        before = identity(fd)
        hasher, at = self._resumed(before, out, temporary)
        if at and progress is not None:
            progress(at)
        durable = at
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            ring = _Ring(pool, hasher)
            syncing = pool.submit(lambda: None)
            while chunk := ring.read(fd, at):
                if at - durable >= self._step:
                    syncing.result()
                    state = Partial(before, at, ring.digest())
                    syncing, durable = pool.submit(_make_durable, out, temporary, state), at
                ring.hash(chunk)
                _write_all(out, chunk, at)
                at += len(chunk)
                if at > before[2]:
                    break
                if progress is not None:
                    progress(len(chunk))
            digest = ring.digest()
            syncing.result()
        if identity(fd) != before or at != before[2]:
            raise Integrity(
                "the file changed while it was read",
                f"{before[2]} bytes at first, {at} read",
                "wait until nothing writes it any more, then add it again",
            )
        return "sha256:" + digest, at

    def sweep(self, *, everything: bool = False) -> None:
        """Remove what a killed adder left; one at work holds a lock on its file.

        What can be continued stays for ``RESUME_S`` seconds, unless ``everything`` is to go.
        """
        now = time.time()
        for path in self.folder.glob(_INCOMING + "*"):
            if path.suffix == _MARK_SUFFIX:
                base = path.name.removesuffix(_MARK_SUFFIX).removesuffix(_NEW)
                if not path.with_name(base).exists():
                    path.unlink(missing_ok=True)
                continue
            with contextlib.suppress(OSError, Invalid):
                fd = open_regular(path, "a leftover")
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    fresh = _mark(path).exists() and now - os.fstat(fd).st_mtime < RESUME_S
                    if everything or not fresh:
                        path.unlink(missing_ok=True)
                        _mark(path).unlink(missing_ok=True)
                finally:
                    os.close(fd)


def _mark(temporary: Path) -> Path:
    return temporary.with_name(temporary.name + _MARK_SUFFIX)


def _make_durable(out: int, temporary: Path, state: Partial) -> None:
    """Sync what is written, then say so: a mark never claims more than the disk has."""
    os.fdatasync(out)
    fresh = temporary.with_name(temporary.name + _NEW + _MARK_SUFFIX)
    fresh.write_bytes(msgspec.json.encode(state))
    fresh.replace(_mark(temporary))


def _write_all(out: int, view: memoryview, at: int) -> None:
    while view:
        done = os.pwrite(out, view, at)
        view, at = view[done:], at + done
