"""A witness's memory: per log the last checkpoint it cosigned, on the disk before any answer leaves.

Folder of a witness::

    lock                      one process at a time
    ed25519.key, ml-dsa-44.key  0600, its own keys
    logs                      lines ``log VKEY``: whom it witnesses (C2SP tlog-policy)
    state/<hash>.checkpoint   the note as its log signed it, <hash> of the origin
    state/<hash>.fork         evidence: another note of the same log, same size, other root
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from allod.domain.errors import Integrity, Unavailable
from allod.receipts.checkpoint import Checkpoint, parse_text
from allod.receipts.cosignature import Cosigner
from allod.receipts.notes import VerifyKey, open_note
from allod.receipts.witness import SIZE, TEXT, AddCheckpoint, Verdict, judge, origin_of, parse_request
from allod.store.home import unwritable, write_file

OK: Final = 200


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What goes back over HTTP; ``why`` is for the witness's own log."""

    status: int
    body: bytes
    kind: str = TEXT
    why: str = ""


class WitnessState:
    """Judges requests one after the other; any thread may call ``add``.

    Args:
        folder: of the witness, held by this process alone.
        logs: keys that may sign, by origin.
        cosigners: the witness's own keys; each gives one signature line.
        clock: seconds since 1970.

    """

    def __init__(
        self,
        folder: Path,
        logs: Mapping[str, Sequence[VerifyKey]],
        cosigners: Sequence[Cosigner],
        clock: Callable[[], int],
    ) -> None:
        self._folder, self._logs = folder / "state", dict(logs)
        self._cosigners, self._clock = tuple(cosigners), clock
        self._lock = threading.Lock()

    def add(self, body: bytes) -> Answer:
        """Answer one ``add-checkpoint``.

        Raises:
            Integrity: what this witness remembers of the log is damaged: it must not vouch for it any more.
            Unavailable: its memory cannot be written; nothing was cosigned.

        """
        try:
            request = parse_request(body)
            origin = origin_of(request.note)
        except Integrity as fault:
            return _said(400, f"{fault.what}: {fault.why}")
        with self._lock:
            verdict = judge(request, self._logs, self._last(origin))
            if verdict.forked:
                self._keep_evidence(origin, request)
            if verdict.status != OK:
                return _refusal(verdict)
            self._remember(origin, request)
            at_s = self._clock()
            lines = "".join(cosigner.line(verdict.text, at_s) for cosigner in self._cosigners)
        return Answer(status=OK, body=lines.encode(), why=f"{origin} cosigned")

    def last(self, origin: str) -> Checkpoint | None:
        """Return the last checkpoint cosigned for a log (raises Integrity if it is damaged)."""
        with self._lock:
            return self._last(origin)

    def _path(self, origin: str, ending: str) -> Path:
        return self._folder / (hashlib.sha256(origin.encode()).hexdigest()[:32] + ending)

    def _last(self, origin: str) -> Checkpoint | None:
        if origin not in self._logs:
            return None
        path = self._path(origin, ".checkpoint")
        try:
            note = path.read_bytes()
        except FileNotFoundError:
            return None
        for key in self._logs[origin]:
            try:
                checkpoint = parse_text(open_note(note, key), extensions=True)
            except Integrity:
                continue
            if checkpoint.origin == origin:
                return checkpoint
        raise Integrity(
            f"{path} is not what this witness cosigned of {origin}",
            "no trusted key of that log signed it",
            "restore it, or add the log's former key to `logs`: this witness cannot vouch for it as it is",
        )

    def _remember(self, origin: str, request: AddCheckpoint) -> None:
        path = self._path(origin, ".checkpoint")
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            write_file(path, request.note)
        except OSError as fault:
            raise unwritable(path, fault) from fault

    def _keep_evidence(self, origin: str, request: AddCheckpoint) -> None:
        """Keep the first note that proves a fork: two roots of one size, both signed by the log."""
        path = self._path(origin, ".fork")
        try:
            if not path.exists():
                write_file(path, request.note)
        except OSError as fault:
            raise unwritable(path, fault) from fault


def _said(status: int, why: str) -> Answer:
    return Answer(status=status, body=(why + "\n").encode("utf-8", "replace"), why=why)


def _refusal(verdict: Verdict) -> Answer:
    if verdict.size is not None:
        body = f"{verdict.size}\n".encode()
        return Answer(status=verdict.status, body=body, kind=SIZE, why=verdict.why)
    return _said(verdict.status, verdict.why)


def busy() -> Unavailable:
    """Return the error of a witness whose folder another process holds."""
    return Unavailable(
        "this witness is running already",
        "another process holds its folder, and a witness has one memory",
        "stop the other one",
        kind="busy",
    )
