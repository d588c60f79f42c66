"""An import under way: parts copied, checked and noted one by one, so that a repeated import continues.

    supply/incoming/<hex of the bundle>/bundle.json    what is being imported
                                        journal        a line per part that is here and was checked
                                        <hex>.part     a part of which some bytes are here
                                        <hex>          a part that is here
    vault/incoming/<hex of the bundle>/                the same for the files of models, on the vault's disk

The folder is named by the digest of the bundle, the parts by theirs: another bundle begins anew, and bytes of
another source under the same name fail the check of the whole part, which is then copied from its beginning.
Nothing here is read by anybody but an import.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Integrity, Unavailable
from allod.vault.blobs import RESUME_S, STEP_BYTES, identity, make_private, open_regular, sync_folder
from allod.vault.bundle.form import MODEL_FILES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from allod.vault.bundle.form import Item, Part
    from allod.vault.bundle.supply import Supply
    from allod.vault.bundle.verify import Opened
    from allod.vault.vault import Vault

JOURNAL: Final = "journal"
SPARE_BYTES: Final = 16 * 1024 * 1024
"""Room that an import leaves free: the log and the tables live on the same disk."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Noted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of the journal: a part that was checked, and the file it was checked in (``blobs.identity``)."""

    part: str
    identity: tuple[int, int, int, int, int]


class Staging:
    """The parts of one bundle on their way in.

    Args:
        opened: the bundle, every check before its blobs passed.
        supply: the home's; vault: the home's.
        source: the folder or tar, to tell whether it is still there.

    """

    def __init__(self, opened: Opened, supply: Supply, vault: Vault, source: Path) -> None:
        self._opened, self._supply, self._vault, self._source = opened, supply, vault, source
        label = opened.digest.removeprefix("sha256:")
        self.folder = supply.incoming / label
        self.weights = vault.root / "incoming" / label
        self._noted: dict[str, tuple[int, ...]] = {}

    def path(self, item: Item, part: Part) -> Path:
        """Return where a part lies once it is here."""
        folder = self.weights if is_weights(item, part) else self.folder
        return folder / part.digest.removeprefix("sha256:")

    def begin(self) -> None:
        """Make the folders and read what an import before this one noted (raises ``Unavailable``)."""
        with self.writing():
            for folder, root in ((self.folder, self._supply.root), (self.weights, self._vault.root)):
                make_private(folder, root)
            held = self.folder / "bundle.json"
            if not held.exists():
                held.write_bytes(self._opened.raw)
        self._noted = {}
        with contextlib.suppress(FileNotFoundError):
            for line in (self.folder / JOURNAL).read_bytes().splitlines():
                with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
                    noted = msgspec.json.decode(line, type=Noted)
                    self._noted[noted.part] = noted.identity

    def missing(self) -> list[tuple[Item, Part]]:
        """List what has to be copied, each part once: it is neither in vault or supply nor noted here."""
        found: dict[str, tuple[Item, Part]] = {}
        for item in self._opened.bundle.items:
            for part in item.parts:
                if not self.held(item, part) and not self._is_noted(self.path(item, part), part):
                    found.setdefault(f"{is_weights(item, part)} {part.digest}", (item, part))
        return list(found.values())

    def held(self, item: Item, part: Part) -> bool:
        """Tell whether the vault has this file of a model: whatever has a name there was checked whole."""
        if not is_weights(item, part):
            return False
        path = self._vault.blobs.path(part.digest)
        return path.is_file() and not path.is_symlink() and path.stat().st_size == part.size_bytes

    def need_room(self, wanted: list[tuple[Item, Part]]) -> None:
        """Refuse to begin what cannot end.

        Raises:
            Unavailable: a disk has less room than the parts that are missing (``storage``).

        """
        need: dict[int, int] = {}
        where: dict[int, Path] = {}
        for item, part in wanted:
            path = self.path(item, part)
            begun = _size(path.with_name(path.name + ".part"))
            disk = path.parent.stat().st_dev
            need[disk] = need.get(disk, 0) + max(0, part.size_bytes - begun)
            where[disk] = path.parent
        for disk, missing in need.items():
            free = shutil.disk_usage(where[disk]).free - SPARE_BYTES
            if missing > free:
                raise Unavailable(
                    "there is not enough room for this bundle",
                    f"it needs {missing} bytes more beside {SPARE_BYTES} kept free, {max(0, free)} are left "
                    f"where {where[disk].parent} lies",
                    "free some disk space, then import it again: it continues",
                    kind="storage",
                )

    def copy(self, item: Item, part: Part, progress: Callable[[int], None]) -> None:
        """Bring one part here, checked, and note it.

        Raises:
            Integrity: the source holds other bytes; what was copied of them is gone.
            Unavailable: the disk is full or failing, or the source is gone; what is here stays for the next
                import.

        """
        path = self.path(item, part)
        begun = path.with_name(path.name + ".part")
        with self.writing():
            if path.exists() and not begun.exists():
                path.rename(begun)
            fd = os.open(begun, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                self._fill(part, fd, progress)
                os.fsync(fd)
                begun.rename(path)
                sync_folder(path.parent)
                self._note(part, fd)
            except Integrity as error:
                if not self._still_there():
                    raise self._gone(error.why) from error
                begun.unlink(missing_ok=True)
                raise
            finally:
                os.close(fd)

    def _fill(self, part: Part, fd: int, progress: Callable[[int], None]) -> None:
        """Copy from where an earlier import stopped; if the whole is wrong then, once more from the start."""
        told = _Durable(fd, progress)
        at = min(os.fstat(fd).st_size, part.size_bytes)
        if at:
            try:
                self._opened.copy(part, fd, told, at)
            except Integrity:
                if not self._still_there():
                    raise
                told.back()
            else:
                return
        os.ftruncate(fd, 0)
        self._opened.copy(part, fd, told, 0)

    def _note(self, part: Part, fd: int) -> None:
        noted = Noted(part.digest, identity(fd))
        journal = os.open(self.folder / JOURNAL, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(journal, b"\n" + msgspec.json.encode(noted) + b"\n")
            os.fsync(journal)
        finally:
            os.close(journal)
        self._noted[part.digest] = noted.identity

    def _is_noted(self, path: Path, part: Part) -> bool:
        """Tell whether a part is here as it was when it was checked: the same file, untouched since."""
        expected = self._noted.get(part.digest)
        if expected is None or not path.is_file() or path.is_symlink():
            return False
        fd = open_regular(path, str(path))
        try:
            return identity(fd)[:4] == expected[:4] and path.stat().st_size == part.size_bytes
        finally:
            os.close(fd)

    def end(self) -> None:
        """Remove everything of this import; what serves lies elsewhere by now."""
        for folder in (self.folder, self.weights):
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Say of a failing file system whether it was the disk or the source.

        Raises:
            Unavailable: ``storage`` for the disk, ``down`` for a source that went away.

        """
        try:
            yield
        except OSError as error:
            why = os.strerror(error.errno or 0)
            if error.errno not in _FULL and not self._still_there():
                raise self._gone(why) from error
            raise Unavailable(
                "the bundle could not be stored",
                why,
                "free some space, or check both disks, then import it again: it continues",
                kind="storage",
            ) from error

    def _gone(self, why: str) -> Unavailable:
        return Unavailable(
            "the bundle went away while it was read",
            f"{self._source}: {why}",
            "connect it again and import it again: it continues",
            kind="down",
        )

    def _still_there(self) -> bool:
        try:
            probe = self._source / "bundle.json" if self._source.is_dir() else self._source
            with probe.open("rb") as file:
                return bool(file.read(1))
        except OSError:
            return False


class _Durable:
    """Tells progress, and syncs every ``STEP_BYTES``: what a power cut can cost."""

    def __init__(self, fd: int, progress: Callable[[int], None]) -> None:
        self._fd, self._progress, self._since, self._told = fd, progress, 0, 0

    def __call__(self, n: int) -> None:
        self._told += n
        self._since += n
        self._progress(n)
        if self._since >= STEP_BYTES:
            os.fdatasync(self._fd)
            self._since = 0

    def back(self) -> None:
        """Take back what was told."""
        self._progress(-self._told)
        self._told = self._since = 0


def is_weights(item: Item, part: Part) -> bool:
    """Tell whether a part is a file of a model, which goes to the vault as it is."""
    return item.kind == "model" and part.path.startswith(MODEL_FILES)


def sweep(supply: Supply, vault: Vault, *, keep: str = "") -> None:
    """Remove what imports that were given up left, a week after they were last at work.

    ``keep`` is the digest of a bundle whose import is wanted. Only for whoever holds the import lock.
    """
    now = time.time()
    for folder in (supply.incoming, vault.root / "incoming"):
        if not folder.is_dir():
            continue
        for path in folder.iterdir():
            fresh = now - max((p.stat().st_mtime for p in (path, *path.glob("*"))), default=0.0) < RESUME_S
            if path.name != keep.removeprefix("sha256:") and not fresh:
                shutil.rmtree(path, ignore_errors=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
