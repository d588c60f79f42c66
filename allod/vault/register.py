"""The register of a vault: which manifests are in it and what is revoked, changed as a whole or not at all.

    manifests.note          version and digest of the register, signed (``seal``); replaced in one rename
    register/<hex>.json     the register itself, under its digest

A change writes the new register, then the note, then the home's anchor. A death before the note leaves the
old state, one after it the new one. What a reader believes is what the note names, and the note must be the
last one that the home remembers, or a later one under the home's key.

What this cannot see: an older state of the *whole* home, keys included, put back at once. Only what lies
outside of the home tells: the log's witnesses, a receipt's digests, another copy of the note.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Integrity, Invalid, Unavailable
from allod.receipts.notes import MAX_NOTE_BYTES
from allod.vault import manifest
from allod.vault.blobs import make_private, open_regular, storage_errors, sync_folder
from allod.vault.manifest import Manifest
from allod.vault.revocation import MAX_REVOCATIONS, Revocation
from allod.vault.seal import HEAD, NOBODY, RESTORE, Anchor, Seal, locked, seal_of, text_digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOTE: Final = "manifests.note"
FOLDER: Final = "register"
OLD_MANIFESTS, OLD_REVOKED = "manifests", "revoked.json"
MAX_REGISTER_BYTES: Final = 256 * 1024 * 1024
MAX_MODELS: Final = 10_000
ATTEMPTS: Final = 8
_TEXT: Final = re.compile(
    rf"{re.escape(HEAD)}\n([^\n ]+)\nversion ([1-9][0-9]{{0,15}})\ntime ([0-9TZ:.-]+)\n"
    r"register (sha256:[0-9a-f]{64})\n"
)
_STORED: Final = re.compile(r"[0-9a-f]{64}\.json")
_INCOMING: Final = ".incoming-"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What a vault holds: manifests by name, revocations by digest; ``version`` 0 was never written."""

    version: int = 0
    note: str | None = None
    manifests: dict[str, Manifest] = {}
    revoked: dict[str, Revocation] = {}


class _Stored(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    manifests: tuple[Manifest, ...]
    revoked: tuple[Revocation, ...]


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a note states: of which log, which version, which register (by digest); ``text`` is signed."""

    origin: str
    version: int
    register: str
    text: str


def read_text(text: str) -> Said:
    """Read the text of a note strictly (raises ``Integrity``)."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise Integrity("the note of the vault is not one", f"got {text[:80]!r}", RESTORE)
    return Said(origin=found[1], version=int(found[2]), register=found[4], text=text)


def encode(state: State) -> bytes:
    """Write manifests and revocations as JSON in sorted order."""
    stored = _Stored(
        manifests=tuple(state.manifests[name] for name in sorted(state.manifests)),
        revoked=tuple(state.revoked.values()),
    )
    return msgspec.json.encode(stored, order="sorted") + b"\n"


def decode(raw: bytes) -> tuple[dict[str, Manifest], dict[str, Revocation]]:
    """Read manifests and revocations strictly.

    Raises:
        Integrity: it is none, or holds a manifest that is none, or two of one name.

    """
    try:
        stored = msgspec.json.decode(raw, type=_Stored)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Integrity("the register of the vault cannot be used", str(error), RESTORE) from error
    held = {item.name: manifest.check(item, item.name) for item in stored.manifests}
    revoked = {item.digest: item for item in stored.revoked}
    if len(held) != len(stored.manifests) or len(revoked) != len(stored.revoked):
        raise Integrity("the register of the vault cannot be used", "it names something twice", RESTORE)
    if not all(map(manifest.is_name, held)) or not all(map(manifest.is_digest, revoked)):
        raise Integrity("the register of the vault cannot be used", "it names what is no name", RESTORE)
    return held, revoked


class Register:
    """Reads and changes the state of the vault at ``root``; any number of processes at once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / FOLDER
        self._seal: Seal | None = None
        self._seen: tuple[bytes, Anchor | None, State] | None = None

    @property
    def seal(self) -> Seal | None:
        """The seal this vault is under, or None outside of a home."""
        if self._seal is None:
            self._seal = seal_of(self._root)
        return self._seal

    def read(self) -> State:
        """Return what the vault holds, verified; what was verified before is not read twice.

        Raises:
            Integrity: the note is missing, not of this home, older than the home remembers, or of another
                register; or the vault was filled before registers were signed (``allod vault seal``).
            Unavailable: the keys or the disk cannot be read.

        """
        fault: Integrity | None = None
        for _ in range(ATTEMPTS):
            raw, anchor = self._raw(), self._anchor()
            if self._seen is not None and self._seen[:2] == (raw, anchor):
                return self._seen[2]
            try:
                state = self._verified(raw, anchor)
            except Integrity as error:
                fault = error
                if raw == self._raw() and anchor == self._anchor():
                    raise
                continue  # it was changed in between by somebody who may
            if raw is not None and self.seal is not None and self._lifted(state, anchor):
                anchor = Anchor(version=state.version, note=state.note or "")
            self._seen = (raw or b"", anchor, state) if raw is not None else None
            return state
        raise fault or Unavailable("the vault does not stand still", "it changes all the time", kind="busy")

    def unverified(self) -> State:
        """Return what the note names, whoever signed it and whenever: to be looked at, never to be used.

        Raises:
            Integrity: there is no note, or it does not name a register that is there.

        """
        raw = self._raw()
        if raw is None:
            raise Integrity("there is nothing to read", f"the vault holds no {NOTE}", "restore a backup")
        text = raw.decode("utf-8", "replace").partition("\n\n")[0]
        return self._state(read_text(text.removesuffix("\n") + "\n"))

    def is_old(self) -> bool:
        """Tell whether this vault was filled before registers were signed, and never sealed since."""
        if self._raw() is not None or self._anchor() is not None:
            return False
        return os.path.lexists(self._root / OLD_REVOKED) or any((self._root / OLD_MANIFESTS).glob("*.json"))

    def commit(self, at: str, change: Callable[[State], State]) -> State:
        """Change the state, alone: ``change`` is given the newest and returns the next one.

        ``at`` is the time, RFC 3339. Returning the same state changes nothing. Errors of ``change`` pass.

        Raises:
            Integrity: as for ``read``. Unavailable: the disk is full or failing; the state stays as it was.
            Invalid: too many models or revocations.

        """
        return self._commit(at, self.read, change)

    def commit_again(self, at: str, state: State) -> State:
        """Sign a state that a person has looked at, whatever the note says, as a version after all known."""
        return self._commit(at, lambda: State(version=self._latest()), lambda _: state)

    def _commit(self, at: str, before: Callable[[], State], change: Callable[[State], State]) -> State:
        with storage_errors("the vault's register could not be written"):
            make_private(self._folder, self._root)
        if self._folder.is_symlink():
            raise Integrity("the vault's register is a link", "it would be written elsewhere", RESTORE)
        seal = self.seal
        lock = self._root / ".lock" if seal is None else seal.lock_path
        with storage_errors("the vault's register could not be written"), locked(lock):
            old = before()
            new = change(old)
            if new is old:
                return old
            if len(new.manifests) > MAX_MODELS or len(new.revoked) > MAX_REVOCATIONS:
                raise Invalid("the vault is full", f"it holds at most {MAX_MODELS} models", "remove some")
            raw = encode(new)
            decode(raw)
            name = hashlib.sha256(raw).hexdigest()
            origin = NOBODY if seal is None else seal.origin()
            text = f"{HEAD}\n{origin}\nversion {old.version + 1}\ntime {at}\nregister sha256:{name}\n"
            note = text.encode() if seal is None else seal.sign(text)
            self._replace(self._folder / f"{name}.json", raw)
            self._replace(self._root / NOTE, note)
            if seal is not None:
                seal.remember(Anchor(version=old.version + 1, note=text_digest(text)))
            self._sweep(f"{name}.json")
        return msgspec.structs.replace(new, version=old.version + 1, note=text_digest(text))

    def _latest(self) -> int:
        """Return the highest version that note or anchor know."""
        anchor, known = self._anchor(), 0
        with contextlib.suppress(Integrity):
            known = self.unverified().version
        return max(known, 0 if anchor is None else anchor.version)

    def _anchor(self) -> Anchor | None:
        return None if self.seal is None else self.seal.anchor()

    def _raw(self) -> bytes | None:
        path = self._root / NOTE
        try:
            fd = open_regular(path, "the note of the vault")
        except Invalid as error:
            if not os.path.lexists(path):
                return None
            raise Integrity("the note of the vault cannot be used", error.why, RESTORE) from error
        with os.fdopen(fd, "rb") as file:
            return file.read(MAX_NOTE_BYTES + 1)

    def _verified(self, raw: bytes | None, anchor: Anchor | None) -> State:
        if raw is None:
            return self._empty(anchor)
        seal = self.seal
        if seal is None:
            said = read_text(raw.decode("utf-8", "replace"))
        else:
            said = read_text(seal.open(raw))
            if said.origin != seal.origin():
                raise Integrity("the note of the vault is of another log", f"got {said.origin}", RESTORE)
        digest = text_digest(said.text)
        if anchor is not None and (said.version, digest) != (anchor.version, anchor.note):
            if said.version < anchor.version:
                raise Integrity(
                    "an older state of the vault was put back",
                    f"got version {said.version}, this home has signed {anchor.version}",
                    RESTORE,
                )
            if said.version == anchor.version:
                raise Integrity(
                    "another state of the vault was put in place",
                    f"got {digest} as version {said.version}, this home remembers {anchor.note}",
                    RESTORE,
                )
        return self._state(said)

    def _empty(self, anchor: Anchor | None) -> State:
        if anchor is not None:
            raise Integrity(
                "the register of the vault is gone",
                f"there is no {NOTE}, this home has signed version {anchor.version}",
                RESTORE,
            )
        if self.is_old():
            raise Integrity(
                "the manifests of this vault are not signed yet",
                "they are from a version that did not sign them",
                "run `allod vault seal` once: it reads every file again, lists what it found, and signs that",
            )
        return State()

    def _state(self, said: Said) -> State:
        path = self._folder / f"{said.register.removeprefix('sha256:')}.json"
        try:
            fd = open_regular(path, "the register of the vault")
        except Invalid as error:
            raise Integrity("the register of the vault is not there", error.why, RESTORE) from error
        with os.fdopen(fd, "rb") as file:
            raw = file.read(MAX_REGISTER_BYTES + 1)
        if "sha256:" + hashlib.sha256(raw).hexdigest() != said.register:
            raise Integrity(
                "the register of the vault is not what was signed", "its bytes have another digest", RESTORE
            )
        held, revoked = decode(raw)
        return State(version=said.version, note=text_digest(said.text), manifests=held, revoked=revoked)

    def _lifted(self, state: State, anchor: Anchor | None) -> bool:
        """Have the home remember a note that a death kept it from remembering; a home only read stays so."""
        seal = self.seal
        if seal is None or (anchor is not None and anchor.version >= state.version):
            return False
        try:
            with locked(seal.lock_path):
                now = seal.anchor()
                if now is None or now.version < state.version:
                    seal.remember(Anchor(version=state.version, note=state.note or ""))
                    return True
        except OSError:
            return False
        return False

    def _replace(self, path: Path, raw: bytes) -> None:
        temporary = path.with_name(f"{_INCOMING}{secrets.token_hex(8)}")
        try:
            with temporary.open("xb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)

    def _sweep(self, newest: str) -> None:
        """Remove registers but the newest two (a reader may be on its way to the last) and leftovers.

        Only by names of ours: a folder that was exchanged for another loses nothing of its own.
        """
        try:
            there = sorted(self._folder.iterdir(), key=lambda path: path.lstat().st_mtime_ns)
            others = [path for path in there if _STORED.fullmatch(path.name) and path.name != newest]
            for path in (*others[:-1], *(path for path in there if path.name.startswith(_INCOMING))):
                path.unlink(missing_ok=True)
        except OSError:
            return  # what is left over is removed by the next change
